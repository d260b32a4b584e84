//! Fields read straight from a document's bytes, so that a filter pays for what it looks at.

use std::cmp::Ordering;
use std::sync::Arc;

use minicbor::Decoder;
use minicbor::data::Type;

use super::cbor::{
    FieldNames, KEY_NANOSECONDS, KEY_SECONDS, TAG_EXTENDED_TIME, TAG_SECONDS, TAG_UUID,
};
use super::order::{compare, compare_floats, compare_int, key_class};
use super::{DocumentId, MAX_DEPTH, Object, Timestamp, Uuid, Value};

/// Why bytes are not a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault(pub &'static str);

impl Fault {
    pub(super) const INDEFINITE: Fault = Fault("a list or map without a length");
    pub(super) const UNKNOWN_NUMBER: Fault = Fault("a field number without a name");
    pub(super) const BAD_KEY: Fault = Fault("a field name of the wrong type");
    const TOO_DEEP: Fault = Fault("values nested too deep");
    const BAD_TYPE: Fault = Fault("a value of no known type");
    const BAD_TIME: Fault = Fault("a time out of range");
    const BAD_UUID: Fault = Fault("a UUID that is not 16 bytes");
}

impl From<minicbor::decode::Error> for Fault {
    fn from(_: minicbor::decode::Error) -> Self {
        Fault("the bytes of a document are not CBOR")
    }
}

/// A value in a document's bytes. Lists and maps are slices that begin with them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw<'b> {
    Missing,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(&'b str),
    Bytes(&'b [u8]),
    Uuid(Uuid),
    Time(Timestamp),
    Array(&'b [u8]),
    Object(&'b [u8]),
}

impl<'b> Raw<'b> {
    /// Reads the value at the decoder's place, and moves past it.
    pub(crate) fn read(decoder: &mut Decoder<'b>) -> Result<Raw<'b>, Fault> {
        let start = decoder.position();
        Ok(match decoder.datatype()? {
            Type::Null => {
                decoder.null()?;
                Raw::Null
            }
            Type::Bool => Raw::Bool(decoder.bool()?),
            Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::I8
            | Type::I16
            | Type::I32
            | Type::I64 => Raw::Int(decoder.i64()?),
            Type::F64 => Raw::Float(decoder.f64()?),
            Type::String => Raw::String(decoder.str()?),
            Type::Bytes => Raw::Bytes(decoder.bytes()?),
            Type::Tag => read_tagged(decoder)?,
            kind @ (Type::Array | Type::Map) => {
                decoder.skip()?;
                let bytes = decoder.input().get(start..).unwrap_or_default();
                match kind {
                    Type::Array => Raw::Array(bytes),
                    _ => Raw::Object(bytes),
                }
            }
            _ => return Err(Fault::BAD_TYPE),
        })
    }

    /// The first byte of the encoding in an index, to tell types apart.
    pub(crate) fn class(&self) -> u8 {
        match self {
            Raw::Missing => super::order::MISSING,
            Raw::Null => key_class(&Value::Null),
            Raw::Bool(_) => key_class(&Value::Bool(false)),
            Raw::Int(_) | Raw::Float(_) => key_class(&Value::Int(0)),
            Raw::String(_) => key_class(&Value::String(String::new())),
            Raw::Bytes(_) => key_class(&Value::Bytes(Vec::new())),
            Raw::Uuid(_) => key_class(&Value::Uuid(Uuid::nil())),
            Raw::Time(_) => key_class(&Value::DateTime(Timestamp::UNIX_EPOCH)),
            Raw::Array(_) => key_class(&Value::Array(Vec::new())),
            Raw::Object(_) => key_class(&Value::Object(Object::new())),
        }
    }

    /// Compares with a value; what is missing comes first.
    pub(crate) fn compare(&self, value: Operand<'_>) -> Result<Ordering, Fault> {
        Ok(match (self, value) {
            (Raw::Bool(a), Operand::Bool(b)) => a.cmp(&b),
            (Raw::Int(a), Operand::Int(b)) => a.cmp(&b),
            (Raw::Int(a), Operand::Float(b)) => compare_int(*a, b),
            (Raw::Float(a), Operand::Float(b)) => compare_floats(*a, b),
            (Raw::Float(a), Operand::Int(b)) => compare_int(b, *a).reverse(),
            (Raw::String(a), Operand::String(b)) => (*a).cmp(b),
            (Raw::Bytes(a), Operand::Bytes(b)) => (*a).cmp(b),
            (Raw::Uuid(a), Operand::Uuid(b)) => a.cmp(&b),
            (Raw::Time(a), Operand::Time(b)) => a.cmp(&b),
            (Raw::Array(_) | Raw::Object(_), Operand::Nested(b)) => {
                compare(&self.to_value(MAX_DEPTH)?, b)
            }
            _ => self.class().cmp(&value.class()),
        })
    }

    /// The elements of an array; nothing for other values.
    pub(crate) fn elements(&self) -> Result<Elements<'b>, Fault> {
        let Raw::Array(bytes) = self else {
            return Ok(Elements {
                decoder: Decoder::new(&[]),
                left: 0,
            });
        };
        let mut decoder = Decoder::new(bytes);
        let left = decoder.array()?.ok_or(Fault::INDEFINITE)?;
        Ok(Elements { decoder, left })
    }

    /// The value itself. What is missing becomes null.
    pub(crate) fn to_value(self, levels: usize) -> Result<Value, Fault> {
        Ok(match self {
            Raw::Missing | Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Int(value) => Value::Int(value),
            Raw::Float(value) => Value::Float(value),
            Raw::String(value) => Value::String(value.to_string()),
            Raw::Bytes(value) => Value::Bytes(value.to_vec()),
            Raw::Uuid(value) => Value::Uuid(value),
            Raw::Time(value) => Value::DateTime(value),
            Raw::Array(_) => {
                let deeper = levels.checked_sub(1).ok_or(Fault::TOO_DEEP)?;
                let mut values = Vec::new();
                let mut elements = self.elements()?;
                while let Some(element) = elements.next()? {
                    values.push(element.to_value(deeper)?);
                }
                Value::Array(values)
            }
            Raw::Object(bytes) => {
                let deeper = levels.checked_sub(1).ok_or(Fault::TOO_DEEP)?;
                let mut decoder = Decoder::new(bytes);
                let fields = decoder.map()?.ok_or(Fault::INDEFINITE)?;
                let mut object = Object::new();
                for _ in 0..fields {
                    let name = Arc::from(decoder.str()?);
                    object.push(name, Raw::read(&mut decoder)?.to_value(deeper)?);
                }
                Value::Object(object)
            }
        })
    }
}

fn read_tagged<'b>(decoder: &mut Decoder<'b>) -> Result<Raw<'b>, Fault> {
    match decoder.tag()?.as_u64() {
        TAG_UUID => {
            let bytes = decoder.bytes()?;
            let uuid = Uuid::from_slice(bytes).map_err(|_| Fault::BAD_UUID)?;
            Ok(Raw::Uuid(uuid))
        }
        TAG_SECONDS => time(decoder.i64()?, 0),
        TAG_EXTENDED_TIME => {
            if decoder.map()? != Some(2) || decoder.i64()? != KEY_SECONDS {
                return Err(Fault::BAD_TIME);
            }
            let second = decoder.i64()?;
            if decoder.i64()? != KEY_NANOSECONDS {
                return Err(Fault::BAD_TIME);
            }
            time(second, decoder.u32()?)
        }
        _ => Err(Fault::BAD_TYPE),
    }
}

fn time<'b>(second: i64, within: u32) -> Result<Raw<'b>, Fault> {
    let nanos = i128::from(second) * 1_000_000_000 + i128::from(within);
    let time = Timestamp::from_nanosecond(nanos).map_err(|_| Fault::BAD_TIME)?;
    Ok(Raw::Time(time))
}

/// A value to compare with, without a copy of it.
#[derive(Debug, Clone, Copy)]
pub enum Operand<'v> {
    #[doc(hidden)]
    Null,
    #[doc(hidden)]
    Bool(bool),
    #[doc(hidden)]
    Int(i64),
    #[doc(hidden)]
    Float(f64),
    #[doc(hidden)]
    String(&'v str),
    #[doc(hidden)]
    Bytes(&'v [u8]),
    #[doc(hidden)]
    Uuid(Uuid),
    #[doc(hidden)]
    Time(Timestamp),
    /// An array or an object.
    #[doc(hidden)]
    Nested(&'v Value),
}

impl Operand<'_> {
    fn class(&self) -> u8 {
        let raw = match *self {
            Operand::Null => Raw::Null,
            Operand::Bool(value) => Raw::Bool(value),
            Operand::Int(value) => Raw::Int(value),
            Operand::Float(value) => Raw::Float(value),
            Operand::String(value) => Raw::String(value),
            Operand::Bytes(value) => Raw::Bytes(value),
            Operand::Uuid(value) => Raw::Uuid(value),
            Operand::Time(value) => Raw::Time(value),
            Operand::Nested(value) => return key_class(value),
        };
        raw.class()
    }

    /// Whether the field's value is of the type of this one, numbers being one type.
    pub(crate) fn is_of_type(&self, raw: &Raw<'_>) -> bool {
        raw.class() == self.class()
    }

    /// The value itself.
    pub(crate) fn to_value(self) -> Value {
        match self {
            Operand::Null => Value::Null,
            Operand::Bool(value) => Value::Bool(value),
            Operand::Int(value) => Value::Int(value),
            Operand::Float(value) => Value::Float(value),
            Operand::String(value) => value.into(),
            Operand::Bytes(value) => value.into(),
            Operand::Uuid(value) => Value::Uuid(value),
            Operand::Time(value) => Value::DateTime(value),
            Operand::Nested(value) => value.clone(),
        }
    }
}

/// What a field can be compared with: everything that becomes a [`Value`].
pub trait Comparand {
    #[doc(hidden)]
    fn operand(&self) -> Operand<'_>;
}

impl Comparand for Value {
    fn operand(&self) -> Operand<'_> {
        match self {
            Value::Null => Operand::Null,
            Value::Bool(value) => Operand::Bool(*value),
            Value::Int(value) => Operand::Int(*value),
            Value::Float(value) => Operand::Float(*value),
            Value::String(value) => Operand::String(value),
            Value::Bytes(value) => Operand::Bytes(value),
            Value::Uuid(value) => Operand::Uuid(*value),
            Value::DateTime(value) => Operand::Time(*value),
            Value::Array(_) | Value::Object(_) => Operand::Nested(self),
        }
    }
}

impl<T: Comparand + ?Sized> Comparand for &T {
    fn operand(&self) -> Operand<'_> {
        (**self).operand()
    }
}

impl<T: Comparand> Comparand for Option<T> {
    fn operand(&self) -> Operand<'_> {
        self.as_ref().map_or(Operand::Null, T::operand)
    }
}

macro_rules! comparands {
    ($($type:ty => $value:ident => $operand:expr;)*) => {
        $(impl Comparand for $type {
            fn operand(&self) -> Operand<'_> {
                let $value = self;
                $operand
            }
        })*
    };
}

comparands! {
    bool => value => Operand::Bool(*value);
    i8 => value => Operand::Int((*value).into());
    i16 => value => Operand::Int((*value).into());
    i32 => value => Operand::Int((*value).into());
    i64 => value => Operand::Int(*value);
    u8 => value => Operand::Int((*value).into());
    u16 => value => Operand::Int((*value).into());
    u32 => value => Operand::Int((*value).into());
    f32 => value => Operand::Float((*value).into());
    f64 => value => Operand::Float(*value);
    str => value => Operand::String(value);
    String => value => Operand::String(value);
    Arc<str> => value => Operand::String(value);
    [u8] => value => Operand::Bytes(value);
    Vec<u8> => value => Operand::Bytes(value);
    Uuid => value => Operand::Uuid(*value);
    Timestamp => value => Operand::Time(*value);
    DocumentId => value => value.value().operand();
}

/// The elements of an array, one after the other.
#[derive(Debug)]
pub(crate) struct Elements<'b> {
    decoder: Decoder<'b>,
    left: u64,
}

impl<'b> Elements<'b> {
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn next(&mut self) -> Result<Option<Raw<'b>>, Fault> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        Raw::read(&mut self.decoder).map(Some)
    }
}

/// A key of a document's map.
#[derive(Debug, Clone)]
struct Key {
    number: Option<u32>,
    name: Arc<str>,
}

/// Where in a document a field is: names with dots between. A name that holds dots itself comes
/// before a way through objects.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    whole: Key,
    /// The first name, and the way from there.
    nested: Option<(Key, Box<Path>)>,
}

impl Path {
    pub(crate) fn new(path: &str, names: &FieldNames) -> Self {
        let key = |name: &str| Key {
            number: names.number(name),
            name: Arc::from(name),
        };
        let nested = path.split_once('.').map(|(first, rest)| {
            // Nested names have no numbers.
            let rest = Path::new(rest, &FieldNames::default());
            (key(first), Box::new(rest))
        });
        Path {
            whole: key(path),
            nested,
        }
    }

    /// The value there.
    pub(crate) fn find<'b>(&self, document: &'b [u8]) -> Result<Raw<'b>, Fault> {
        let mut decoder = Decoder::new(document);
        let fields = decoder.map()?.ok_or(Fault::INDEFINITE)?;
        let mut on_the_way = None;
        for _ in 0..fields {
            let (is_whole, is_first) = self.matches(&mut decoder)?;
            if is_whole {
                return Raw::read(&mut decoder);
            }
            if is_first {
                on_the_way = Some(Raw::read(&mut decoder)?);
            } else {
                decoder.skip()?;
            }
        }
        match (on_the_way, &self.nested) {
            (Some(Raw::Object(inner)), Some((_, rest))) => rest.find(inner),
            _ => Ok(Raw::Missing),
        }
    }

    /// Whether the key at the decoder's place is the whole path, or its first name.
    fn matches(&self, decoder: &mut Decoder<'_>) -> Result<(bool, bool), Fault> {
        let first = self.nested.as_ref().map(|(key, _)| key);
        match decoder.datatype()? {
            Type::String => {
                let name = decoder.str()?;
                let is = |key: &Key| key.number.is_none() && *key.name == *name;
                Ok((is(&self.whole), first.is_some_and(is)))
            }
            Type::U8 | Type::U16 | Type::U32 => {
                let number = Some(decoder.u32()?);
                let is = |key: &Key| key.number == number;
                Ok((is(&self.whole), first.is_some_and(is)))
            }
            _ => Err(Fault::BAD_KEY),
        }
    }
}
