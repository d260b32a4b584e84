//! Documents from and to the program's own types, through `serde`.

use ciborium::Value as Cbor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::deserialize::{Form, OfObject};
use super::{MAX_DEPTH, Object, Timestamp, Uuid, Value};
use crate::{Error, Result};

/// The value that anything serializes as.
pub(super) fn value_of<T: Serialize + ?Sized>(value: &T) -> Result<Value> {
    let cbor = Cbor::serialized(value).map_err(|error| Refused::new(error.to_string()).error())?;
    from_cbor(cbor, MAX_DEPTH).map_err(Refused::error)
}

/// The fields of anything that serializes as a map or a struct.
pub(crate) fn from_serde<T: Serialize + ?Sized>(value: &T) -> Result<Object> {
    match value_of(value)? {
        Value::Object(fields) => Ok(fields),
        other => {
            let kind = other.type_name();
            Err(Refused::new(format!("a document has named fields, this is {kind}")).error())
        }
    }
}

/// A value of the program's own type from a document's fields, and its id if a struct asks for that.
pub(crate) fn to_serde<T: DeserializeOwned>(fields: &Object, id: Option<&Value>) -> Result<T> {
    let mut first = None;
    // `serde` does not say what it wants of what is flattened, or becomes JSON: it is given what there is in other forms.
    for form in Form::ALL {
        match T::deserialize(OfObject { fields, id, form }) {
            Ok(value) => return Ok(value),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(Error::Conversion {
        what: "a document to the type that was asked for",
        reason: first.map_or_else(String::new, |error| error.to_string()),
    })
}

/// Why a value is no document.
struct Refused {
    /// The names that lead to what is wrong, the innermost first.
    path: Vec<String>,
    reason: String,
}

impl Refused {
    fn new(reason: impl Into<String>) -> Self {
        Refused {
            path: Vec::new(),
            reason: reason.into(),
        }
    }

    /// It is in the value of that name.
    fn under(mut self, name: &str) -> Self {
        self.path.push(name.to_string());
        self
    }

    fn error(self) -> Error {
        let path: Vec<String> = self.path.into_iter().rev().collect();
        let reason = match path.is_empty() {
            true => self.reason,
            false => format!("{:?}: {}", path.join("."), self.reason),
        };
        Error::Conversion {
            what: "a value to a document",
            reason,
        }
    }
}

fn too_large(number: impl std::fmt::Display) -> Refused {
    Refused::new(format!("{number} does not fit into signed 64 bits"))
}

fn from_cbor(value: Cbor, levels: usize) -> Result<Value, Refused> {
    let deeper = || {
        let deeper = levels.checked_sub(1);
        deeper.ok_or_else(|| Refused::new(format!("it is nested deeper than {MAX_DEPTH} levels")))
    };
    Ok(match value {
        Cbor::Null => Value::Null,
        Cbor::Bool(value) => Value::Bool(value),
        Cbor::Integer(value) => {
            let number = i128::from(value);
            Value::Int(i64::try_from(number).map_err(|_| too_large(number))?)
        }
        Cbor::Float(value) => Value::Float(value),
        Cbor::Text(value) => Value::String(value),
        Cbor::Bytes(value) => Value::Bytes(value),
        // Numbers of 128 bits that do not fit into 64 are bytes with a tag.
        Cbor::Tag(2 | 3, _) => return Err(too_large("a number")),
        Cbor::Tag(_, value) => from_cbor(*value, deeper()?)?,
        Cbor::Array(values) => {
            let deeper = deeper()?;
            let values = values.into_iter().map(|value| from_cbor(value, deeper));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        Cbor::Map(fields) => {
            let deeper = deeper()?;
            let fields = fields.into_iter().map(|(name, value)| {
                let name = name_of(name)?;
                match from_cbor(value, deeper) {
                    Ok(value) => Ok((name, value)),
                    Err(refused) => Err(refused.under(&name)),
                }
            });
            Value::Object(fields.collect::<Result<_, _>>()?)
        }
        _ => return Err(Refused::new("it holds a value of an unknown kind")),
    })
}

/// The name of a field: what is not text becomes text, if it can be told from that what it was.
fn name_of(name: Cbor) -> Result<String, Refused> {
    Ok(match name {
        Cbor::Text(name) => name,
        Cbor::Integer(number) => i128::from(number).to_string(),
        Cbor::Bool(truth) => truth.to_string(),
        // `serde` hands a UUID over as bytes.
        Cbor::Bytes(bytes) => match Uuid::from_slice(&bytes) {
            Ok(uuid) => uuid.to_string(),
            Err(_) => return Err(Refused::new("bytes cannot be the name of a field")),
        },
        _ => return Err(Refused::new("the name of a field is not text")),
    })
}

macro_rules! whole {
    ($($type:ty)*) => {
        $(impl TryFrom<$type> for Value {
            type Error = Error;

            fn try_from(number: $type) -> Result<Self> {
                let fits = i64::try_from(number);
                fits.map(Value::Int).map_err(|_| too_large(number).error())
            }
        })*
    };
}

whole! { u64 usize i128 u128 }

impl Value {
    /// The same value as a type that a field declares, where that loses nothing: a UUID or a time
    /// that is written as text, a whole number as a float, a float without a fraction as a whole
    /// number, and all of these within arrays.
    pub(crate) fn fitted(self, to: super::FieldType) -> Value {
        use super::FieldType as T;
        match (to, self) {
            (T::Uuid, Value::String(text)) => match Uuid::parse_str(&text) {
                Ok(uuid) => Value::Uuid(uuid),
                Err(_) => Value::String(text),
            },
            (T::Uuid, Value::Bytes(bytes)) => match Uuid::from_slice(&bytes) {
                Ok(uuid) => Value::Uuid(uuid),
                Err(_) => Value::Bytes(bytes),
            },
            (T::DateTime, Value::String(text)) => match text.parse::<Timestamp>() {
                Ok(time) => Value::DateTime(time),
                Err(_) => Value::String(text),
            },
            (T::Float, Value::Int(value)) if (value as f64) as i128 == i128::from(value) => {
                Value::Float(value as f64)
            }
            (T::Int, Value::Float(value)) if value == value.trunc() && value.abs() < 9.0e15 => {
                Value::Int(value as i64)
            }
            (T::Bytes, Value::Array(values)) if values.iter().all(is_byte) => {
                Value::Bytes(values.iter().filter_map(byte).collect())
            }
            (T::Any | T::Array | T::Object, value) => value,
            (to, Value::Array(values)) => {
                Value::Array(values.into_iter().map(|value| value.fitted(to)).collect())
            }
            (_, value) => value,
        }
    }
}

fn byte(value: &Value) -> Option<u8> {
    value.as_int().and_then(|value| u8::try_from(value).ok())
}

/// `serde` writes a `Vec<u8>` as a list of numbers.
fn is_byte(value: &Value) -> bool {
    byte(value).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::FieldType;
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Book {
        id: Uuid,
        title: String,
        year: Option<i32>,
        price: f64,
        tags: Vec<String>,
        author: Author,
        added: Timestamp,
        cover: Vec<u8>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Author {
        name: String,
        born: Option<u16>,
    }

    fn book() -> Book {
        Book {
            id: Uuid::from_u128(7),
            title: "Äpfel".into(),
            year: None,
            price: 12.0,
            tags: vec!["a".into(), "b".into()],
            author: Author {
                name: "X".into(),
                born: Some(1950),
            },
            added: Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap(),
            cover: vec![1, 2, 255],
        }
    }

    #[test]
    fn structs_go_in_and_come_out() {
        let fields = from_serde(&book()).unwrap();
        assert_eq!(fields.get_path("author.name"), Some(&"X".into()));
        assert_eq!(to_serde::<Book>(&fields, None).unwrap(), book());
    }

    #[test]
    fn values_fit_the_declared_types_without_loss() {
        let mut fields = from_serde(&book()).unwrap();
        for (name, to) in [
            ("id", FieldType::Uuid),
            ("added", FieldType::DateTime),
            ("price", FieldType::Float),
            ("cover", FieldType::Bytes),
        ] {
            let fitted = fields.get(name).unwrap().clone().fitted(to);
            assert_eq!(fitted.type_name(), to.name());
            fields.insert(name, fitted);
        }
        assert_eq!(to_serde::<Book>(&fields, None).unwrap(), book());
        assert_eq!(Value::Float(2.5).fitted(FieldType::Int), Value::Float(2.5));
        assert_eq!(Value::from("x").fitted(FieldType::Uuid), Value::from("x"));
        let large = Value::Int(i64::MAX);
        assert_eq!(large.clone().fitted(FieldType::Float).type_name(), "Int");
    }

    /// UUIDs and bytes side by side, declared or not, names that are numbers, and all that enums can be.
    #[test]
    fn what_goes_in_comes_out_of_any_shape() {
        use std::collections::BTreeMap;

        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        enum Shape {
            Nothing,
            Circle(f64),
            Line(i8, i8),
            Box { width: u64, of: Uuid },
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Newtype(Vec<u8>);
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Flat {
            owner: Uuid,
            #[serde(flatten)]
            rest: BTreeMap<String, i64>,
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(i64),
            Text(String),
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct All {
            owner: Uuid,
            data: Vec<u8>,
            newtype: Newtype,
            fixed: [u8; 3],
            by_number: BTreeMap<i32, String>,
            by_large: BTreeMap<u64, Option<bool>>,
            shapes: Vec<Shape>,
            either: Vec<Either>,
            flat: Flat,
            letter: char,
            small: i128,
            unit: (),
            pair: (Timestamp, Option<Uuid>),
            optional: Option<Vec<u8>>,
        }
        let all = All {
            owner: Uuid::from_u128(0x4142_4344),
            data: vec![1, 255],
            newtype: Newtype(vec![0; 16]),
            fixed: [1, 2, 3],
            by_number: BTreeMap::from([(-7, "a".into()), (7, "b".into())]),
            by_large: BTreeMap::from([(u64::MAX, Some(true)), (0, None)]),
            shapes: vec![
                Shape::Nothing,
                Shape::Circle(1.0),
                Shape::Line(-1, 1),
                Shape::Box {
                    width: 7,
                    of: Uuid::from_u128(1),
                },
            ],
            either: vec![Either::Number(1), Either::Text("one".into())],
            flat: Flat {
                owner: Uuid::from_u128(2),
                rest: BTreeMap::from([("a".to_string(), 1), ("b".to_string(), 2)]),
            },
            letter: 'ä',
            small: -5,
            unit: (),
            pair: (Timestamp::from_second(5).unwrap(), Some(Uuid::from_u128(3))),
            optional: Some(vec![9]),
        };
        let mut fields = from_serde(&all).unwrap();
        assert_eq!(to_serde::<All>(&fields, None).unwrap(), all);
        // As a schema that declares some of them stores them.
        for (name, to) in [
            ("owner", FieldType::Uuid),
            ("data", FieldType::Bytes),
            ("newtype", FieldType::Bytes),
            ("fixed", FieldType::Bytes),
            ("optional", FieldType::Bytes),
        ] {
            let fitted = fields.get(name).unwrap().clone().fitted(to);
            assert_eq!(fitted.type_name(), to.name());
            fields.insert(name, fitted);
        }
        assert_eq!(to_serde::<All>(&fields, None).unwrap(), all);

        #[derive(Debug, PartialEq, Deserialize)]
        struct Shown {
            owner: String,
        }
        let shown = to_serde::<Shown>(&fields, None).unwrap();
        assert_eq!(shown.owner, all.owner.to_string());
        let bytes = Object::from([("owner", b"text".to_vec())]);
        assert!(to_serde::<Shown>(&bytes, None).is_err());
    }

    #[test]
    fn whole_numbers_of_a_float_field_come_out_whole() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Item {
            price: i64,
            small: u8,
        }
        let item = Item {
            price: -5,
            small: 7,
        };
        let mut fields = from_serde(&item).unwrap();
        for name in ["price", "small"] {
            let fitted = fields.get(name).unwrap().clone().fitted(FieldType::Float);
            assert_eq!(fitted.type_name(), "Float");
            fields.insert(name, fitted);
        }
        assert_eq!(to_serde::<Item>(&fields, None).unwrap(), item);
        for wrong in [0.5, 300.0, f64::NAN, f64::INFINITY] {
            fields.insert("small", wrong);
            assert!(to_serde::<Item>(&fields, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_struct_with_an_id_gets_that_of_the_document() {
        use super::super::{Document, DocumentId};

        #[derive(Debug, PartialEq, Deserialize)]
        struct User {
            id: Option<i64>,
            name: String,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Other {
            #[serde(default)]
            id: bool,
        }
        let fields = Object::from([("name", "x")]);
        let document = Document::new(DocumentId::new("users", 7), fields);
        let user: User = document.to().unwrap();
        assert_eq!((user.id, user.name.as_str()), (Some(7), "x"));
        assert!(!document.to::<Other>().unwrap().id);
        let map: std::collections::BTreeMap<String, String> = document.to().unwrap();
        assert_eq!(map.len(), 1);
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        for large in [
            i128::MAX,
            i128::MIN,
            i128::from(u64::MAX),
            i128::from(u64::MAX) + 1,
        ] {
            let refused = from_serde(&std::collections::BTreeMap::from([("n", large)]));
            assert!(refused.is_err_and(|error| error.is_misuse()), "{large}");
        }
        let fits = from_serde(&std::collections::BTreeMap::from([(
            "n",
            i128::from(i64::MIN),
        )]));
        assert_eq!(fits.unwrap().get("n"), Some(&Value::Int(i64::MIN)));
        // The same without a detour.
        let greatest = i64::MAX.unsigned_abs();
        assert_eq!(Value::try_from(greatest).unwrap(), Value::Int(i64::MAX));
        let refused = |number: u64| {
            let text = Value::try_from(number).unwrap_err().to_string();
            assert_eq!(text, value_of(&number).unwrap_err().to_string());
        };
        refused(greatest + 1);
        refused(u64::MAX);
        assert_eq!(Value::try_from(5usize).unwrap(), Value::from(5isize));
        assert!(Value::try_from(i128::from(i64::MIN) - 1).is_err());
        assert!(Value::try_from(u128::MAX).is_err());
    }

    #[test]
    fn what_is_not_a_document_is_refused() {
        assert!(from_serde(&5).unwrap_err().is_misuse());
        assert!(from_serde(&[("a", u64::MAX)]).unwrap_err().is_misuse());
        assert!(
            to_serde::<Book>(&Object::new(), None)
                .unwrap_err()
                .is_misuse()
        );
    }
}
