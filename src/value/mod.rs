//! Values of documents: their types, their order, their bytes.
//!
//! # Invariants
//!
//! 1. The order of values is total, and the order of their encodings in [`order`] is the same.
//! 2. What [`cbor`] writes reads back as the same value, NaN and negative zero included.
//! 3. Nothing recurses deeper than [`MAX_DEPTH`], whatever the bytes say.

mod cbor;
mod convert;
mod deserialize;
mod document;
pub(crate) mod from_format;
mod object;
mod order;
mod raw;
mod reader;
mod serialize;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub use jiff::Timestamp;
pub use uuid::Uuid;

pub(crate) use self::cbor::{EncodedFields, FieldNames, decode_document, encode_fields};
pub(crate) use self::convert::from_serde;
use self::convert::{to_serde, value_of};
pub use self::document::{Document, DocumentId};
pub use self::object::Object;
pub(crate) use self::order::{
    compare, decode_id, encode, encode_missing, encode_raw, key_class, string_prefix,
};
pub use self::raw::{Comparand, Operand};
pub(crate) use self::raw::{Differences, Fault, Path, Raw};

/// How deep arrays and objects may be nested in a document.
pub const MAX_DEPTH: usize = 64;

/// A value of a document's field.
///
/// Values have a total order across types: null, then booleans, numbers (integers and floats by
/// value, NaN last), strings, bytes, UUIDs, times, arrays, objects. Equality follows it, so
/// `Int(2)` equals `Float(2.0)`, and NaN equals itself.
///
/// It is `Serialize` and `Deserialize`. What comes back is what the format has words for: from JSON, and from a document
/// that is read as a type with a `Value` in it, a UUID or a time comes as text or bytes. [`Document::get`] gives them as
/// they are.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number. Types of which some numbers do not fit are turned into it by `try_from`, which refuses those, as
    /// [`Object::of`] and [`Collection::insert`](crate::Collection::insert) do.
    ///
    /// ```
    /// # use aurora::Value;
    /// assert_eq!(Value::try_from(7u64)?, Value::Int(7));
    /// assert!(Value::try_from(u64::MAX).unwrap_err().is_misuse());
    /// # Ok::<(), aurora::Error>(())
    /// ```
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    String(String),
    /// Bytes that are not text.
    Bytes(Vec<u8>),
    /// A UUID.
    Uuid(Uuid),
    /// A moment in time, to the nanosecond.
    DateTime(Timestamp),
    /// A list.
    Array(Vec<Value>),
    /// Named values.
    Object(Object),
}

/// What a field takes.
///
/// A field takes values of its type, null (unless it is required), and arrays of its type, which
/// are indexed once for each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum FieldType {
    /// Text.
    String,
    /// A whole number of 64 bits.
    Int,
    /// A number; whole ones are taken too.
    Float,
    /// True or false.
    Bool,
    /// A UUID; one written as text is taken too.
    Uuid,
    /// Bytes; a list of numbers below 256 is taken too, as `serde` writes a `Vec<u8>`. An empty list is stored as no bytes, and
    /// [`Patch::push`](crate::Patch::push) makes a list of one of these.
    Bytes,
    /// A moment in time; one written as text (RFC 3339) is taken too.
    DateTime,
    /// A list of anything.
    Array,
    /// Named values of any type.
    Object,
    /// Anything.
    Any,
}

impl FieldType {
    /// The name of the type, as errors show it.
    pub fn name(self) -> &'static str {
        match self {
            FieldType::String => "String",
            FieldType::Int => "Int",
            FieldType::Float => "Float",
            FieldType::Bool => "Bool",
            FieldType::Uuid => "Uuid",
            FieldType::Bytes => "Bytes",
            FieldType::DateTime => "DateTime",
            FieldType::Array => "Array",
            FieldType::Object => "Object",
            FieldType::Any => "Any",
        }
    }
}

impl Value {
    /// A value of the program's own type, as it is in a document of which it is a part: for filters and patches. (UUIDs
    /// and times are bytes and text then, as `serde` hands them over; for filters they have to be made with `from`.)
    ///
    /// ```
    /// use aurora::{Patch, Value};
    ///
    /// #[derive(serde::Serialize)]
    /// #[serde(rename_all = "lowercase")]
    /// enum State {
    ///     Ready,
    /// }
    ///
    /// let ready = Value::of(&State::Ready)?;
    /// assert_eq!(ready, Value::from("ready"));
    /// let patch = Patch::new().set("state", ready);
    /// # drop(patch);
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Conversion`](crate::Error::Conversion) if it has a number that does not fit, or is nested deeper than
    /// [`MAX_DEPTH`].
    pub fn of<T: serde::Serialize + ?Sized>(value: &T) -> crate::Result<Self> {
        value_of(value)
    }

    /// The name of the value's type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "Null",
            Value::Bool(_) => "Bool",
            Value::Int(_) => "Int",
            Value::Float(_) => "Float",
            Value::String(_) => "String",
            Value::Bytes(_) => "Bytes",
            Value::Uuid(_) => "Uuid",
            Value::DateTime(_) => "DateTime",
            Value::Array(_) => "Array",
            Value::Object(_) => "Object",
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The number as a float, if it is a number.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(value) => Some(value),
            _ => None,
        }
    }

    /// The bytes, if it is bytes.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// The UUID, if it is one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Value::Uuid(value) => Some(*value),
            _ => None,
        }
    }

    /// The moment, if it is one.
    pub fn as_date_time(&self) -> Option<Timestamp> {
        match self {
            Value::DateTime(value) => Some(*value),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The named values, if it is an object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The value at a path of names with dots between, through objects.
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.as_object()?.get_path(path)
    }

    /// Whether arrays and objects are nested no deeper than allowed (invariant 3).
    pub(crate) fn is_shallow(&self, levels: usize) -> bool {
        match self {
            Value::Array(values) => {
                levels > 0 && values.iter().all(|value| value.is_shallow(levels - 1))
            }
            Value::Object(object) => {
                levels > 0 && object.iter().all(|(_, value)| value.is_shallow(levels - 1))
            }
            _ => true,
        }
    }

    /// The value as errors show it: not too long.
    pub(crate) fn brief(&self) -> String {
        const LIMIT_CHARS: usize = 80;
        let whole = self.to_string();
        if whole.chars().count() <= LIMIT_CHARS {
            return whole;
        }
        let mut cut: String = whole.chars().take(LIMIT_CHARS).collect();
        cut.push('…');
        cut
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        compare(self, other).is_eq()
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        compare(self, other)
    }
}

/// Equal for values that are equal: `Int(2)` and `Float(2.0)` have the same.
impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        order::hash(self, state);
    }
}

/// Text without quotes, lists with commas between, objects in braces.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => value.fmt(f),
            Value::Int(value) => value.fmt(f),
            Value::Float(value) => value.fmt(f),
            Value::String(value) => f.write_str(value),
            Value::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Value::Uuid(value) => value.fmt(f),
            Value::DateTime(value) => value.fmt(f),
            Value::Array(values) => {
                for (i, value) in values.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(f, "{comma}{value}")?;
                }
                Ok(())
            }
            Value::Object(object) => object.fmt(f),
        }
    }
}

/// Like the value would be written in a program, for tests and logs.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("Null"),
            Value::Bool(value) => write!(f, "Bool({value})"),
            Value::Int(value) => write!(f, "Int({value})"),
            Value::Float(value) => write!(f, "Float({value:?})"),
            Value::String(value) => write!(f, "String({value:?})"),
            Value::Bytes(bytes) => write!(f, "Bytes({bytes:?})"),
            Value::Uuid(value) => write!(f, "Uuid({value})"),
            Value::DateTime(value) => write!(f, "DateTime({value})"),
            Value::Array(values) => write!(f, "Array({values:?})"),
            Value::Object(object) => write!(f, "Object({object:?})"),
        }
    }
}

macro_rules! from {
    ($($type:ty => $value:ident => $body:expr;)*) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $body
            }
        })*
    };
}

from! {
    bool => value => Value::Bool(value);
    i8 => value => Value::Int(value.into());
    i16 => value => Value::Int(value.into());
    i32 => value => Value::Int(value.into());
    i64 => value => Value::Int(value);
    isize => value => Value::Int(value as i64);
    u8 => value => Value::Int(value.into());
    u16 => value => Value::Int(value.into());
    u32 => value => Value::Int(value.into());
    f32 => value => Value::Float(value.into());
    f64 => value => Value::Float(value);
    &str => value => Value::String(value.to_string());
    &String => value => Value::String(value.clone());
    String => value => Value::String(value);
    Arc<str> => value => Value::String(value.to_string());
    Vec<u8> => value => Value::Bytes(value);
    &[u8] => value => Value::Bytes(value.to_vec());
    Uuid => value => Value::Uuid(value);
    &Uuid => value => Value::Uuid(*value);
    Timestamp => value => Value::DateTime(value);
    Vec<Value> => values => Value::Array(values);
    Vec<String> => values => values.into_iter().collect();
    Vec<&str> => values => values.into_iter().collect();
    Vec<bool> => values => values.into_iter().collect();
    Vec<i32> => values => values.into_iter().collect();
    Vec<i64> => values => values.into_iter().collect();
    Vec<f64> => values => values.into_iter().collect();
    Vec<Uuid> => values => values.into_iter().collect();
    Vec<Timestamp> => values => values.into_iter().collect();
    Vec<Object> => values => values.into_iter().collect();
    Object => object => Value::Object(object);
    &Value => value => value.clone();
    &DocumentId => id => id.value().clone();
    DocumentId => id => id.value().clone();
}

/// A list, of anything that is a value.
impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Value::Array(values.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}
