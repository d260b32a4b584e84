//! Documents from and to the program's own types, through `serde`.

use ciborium::Value as Cbor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{MAX_DEPTH, Object, Timestamp, Uuid, Value};
use crate::{Error, Result};

/// The fields of anything that serializes as a map or a struct.
pub(crate) fn from_serde<T: Serialize + ?Sized>(value: &T) -> Result<Object> {
    let cbor = Cbor::serialized(value).map_err(|error| refused(&error))?;
    match from_cbor(cbor, MAX_DEPTH)? {
        Value::Object(fields) => Ok(fields),
        other => Err(refused(&format!(
            "a document has named fields, this is {}",
            other.type_name()
        ))),
    }
}

/// A value of the program's own type from a document's fields.
pub(crate) fn to_serde<T: DeserializeOwned>(fields: &Object) -> Result<T> {
    let as_bytes = object_to_cbor(fields, BytesAs::Bytes).deserialized();
    as_bytes
        .or_else(|error| {
            // `serde` reads a `Vec<u8>` as a list.
            let as_lists = object_to_cbor(fields, BytesAs::List).deserialized();
            as_lists.map_err(|_| error)
        })
        .map_err(|error| Error::Conversion {
            what: "a document to the type that was asked for",
            reason: error.to_string(),
        })
}

#[derive(Clone, Copy)]
enum BytesAs {
    Bytes,
    List,
}

fn refused(reason: &dyn std::fmt::Display) -> Error {
    Error::Conversion {
        what: "a value to a document",
        reason: reason.to_string(),
    }
}

fn from_cbor(value: Cbor, levels: usize) -> Result<Value> {
    let deeper = || {
        levels
            .checked_sub(1)
            .ok_or_else(|| refused(&format!("it is nested deeper than {MAX_DEPTH} levels")))
    };
    Ok(match value {
        Cbor::Null => Value::Null,
        Cbor::Bool(value) => Value::Bool(value),
        Cbor::Integer(value) => {
            let number = i128::from(value);
            let number = i64::try_from(number)
                .map_err(|_| refused(&format!("{number} does not fit into 64 bits")))?;
            Value::Int(number)
        }
        Cbor::Float(value) => Value::Float(value),
        Cbor::Text(value) => Value::String(value),
        Cbor::Bytes(value) => Value::Bytes(value),
        Cbor::Tag(_, value) => from_cbor(*value, deeper()?)?,
        Cbor::Array(values) => {
            let deeper = deeper()?;
            let values = values.into_iter().map(|value| from_cbor(value, deeper));
            Value::Array(values.collect::<Result<_>>()?)
        }
        Cbor::Map(fields) => {
            let deeper = deeper()?;
            let mut object = Object::with_capacity(fields.len());
            for (name, value) in fields {
                let name = match name {
                    Cbor::Text(name) => name,
                    Cbor::Integer(number) => i128::from(number).to_string(),
                    _ => return Err(refused(&"the name of a field is not text")),
                };
                object.insert(name, from_cbor(value, deeper)?);
            }
            Value::Object(object)
        }
        _ => return Err(refused(&"it holds a value of an unknown kind")),
    })
}

fn to_cbor(value: &Value, bytes_as: BytesAs) -> Cbor {
    match value {
        Value::Null => Cbor::Null,
        Value::Bool(value) => Cbor::Bool(*value),
        Value::Int(value) => Cbor::Integer((*value).into()),
        Value::Float(value) => Cbor::Float(*value),
        Value::String(value) => Cbor::Text(value.clone()),
        Value::Bytes(value) => match bytes_as {
            BytesAs::Bytes => Cbor::Bytes(value.clone()),
            BytesAs::List => Cbor::Array(value.iter().map(|byte| (*byte).into()).collect()),
        },
        // As `uuid` and the crates for time write themselves in formats like this one.
        Value::Uuid(value) => Cbor::Bytes(value.as_bytes().to_vec()),
        Value::DateTime(value) => Cbor::Text(value.to_string()),
        Value::Array(values) => {
            let values = values.iter().map(|value| to_cbor(value, bytes_as));
            Cbor::Array(values.collect())
        }
        Value::Object(object) => object_to_cbor(object, bytes_as),
    }
}

fn object_to_cbor(object: &Object, bytes_as: BytesAs) -> Cbor {
    let fields = object.iter();
    Cbor::Map(
        fields
            .map(|(name, value)| (Cbor::Text(name.to_string()), to_cbor(value, bytes_as)))
            .collect(),
    )
}

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
        assert_eq!(to_serde::<Book>(&fields).unwrap(), book());
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
        assert_eq!(to_serde::<Book>(&fields).unwrap(), book());
        assert_eq!(Value::Float(2.5).fitted(FieldType::Int), Value::Float(2.5));
        assert_eq!(Value::from("x").fitted(FieldType::Uuid), Value::from("x"));
        let large = Value::Int(i64::MAX);
        assert_eq!(large.clone().fitted(FieldType::Float).type_name(), "Int");
    }

    #[test]
    fn what_is_not_a_document_is_refused() {
        assert!(from_serde(&5).unwrap_err().is_misuse());
        assert!(from_serde(&[("a", u64::MAX)]).unwrap_err().is_misuse());
        assert!(to_serde::<Book>(&Object::new()).unwrap_err().is_misuse());
    }
}
