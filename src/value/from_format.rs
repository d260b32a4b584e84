//! Values from other formats, through `serde`: the body of a request, a message, a file.
//!
//! What a format has no word for comes as what it was written as: UUIDs and times as text or bytes. A whole number above
//! signed 64 bits is a float if there is one that is the same, as some programs write large floats so, and is refused else.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{MAX_DEPTH, Object, Value};

/// A value that is nested no deeper than so many levels (invariant 3 of the module of values).
#[derive(Clone, Copy)]
pub(crate) struct Within(pub usize);

impl Within {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let deeper = self.0.checked_sub(1);
        deeper
            .map(Within)
            .ok_or_else(|| E::custom(format_args!("it is nested deeper than {MAX_DEPTH} levels")))
    }
}

impl<'de> DeserializeSeed<'de> for Within {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a document, with numbers of signed 64 bits")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        let float = value as f64;
        match i64::try_from(value) {
            Ok(value) => Ok(Value::Int(value)),
            Err(_) if float as u128 == u128::from(value) => Ok(Value::Float(float)),
            Err(_) => Err(E::custom(format_args!(
                "{value} does not fit into signed 64 bits"
            ))),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(bytes.into())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(bytes))
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let deeper = self.deeper()?;
        from.deserialize_any(deeper)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let deeper = self.deeper()?;
        from.deserialize_any(deeper)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = from.next_element_seed(deeper)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut fields: Vec<(String, Value)> = Vec::new();
        while let Some(name) = from.next_key()? {
            fields.push((name, from.next_value_seed(deeper)?));
        }
        Ok(Value::Object(fields.into()))
    }
}

/// Of any format that says what there is: JSON, CBOR, TOML.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Within(MAX_DEPTH).deserialize(from)
    }
}

/// Of a map. For the types of the program's own there is [`Object::of`].
impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_map(Within(MAX_DEPTH))? {
            Value::Object(fields) => Ok(fields),
            other => Err(D::Error::custom(format_args!(
                "an object has named values, this is {}",
                other.type_name()
            ))),
        }
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_as_json_is_read_again() {
        let text = r#"{"a":1,"b":-2.5,"c":null,"d":[true,"x",{"e":[]}],"f":{}}"#;
        let object: Object = serde_json::from_str(text).unwrap();
        assert_eq!(object.get_path("a"), Some(&Value::Int(1)));
        assert_eq!(serde_json::to_string(&object).unwrap(), text);
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value.as_object(), Some(&object));
        let large = serde_json::from_str::<Value>("[18446744073709551615]").unwrap_err();
        assert!(large.to_string().contains("signed 64 bits"), "{large}");
        // 2^63, and what lies behind it.
        let float = serde_json::from_str::<Value>("9223372036854775808").unwrap();
        assert_eq!(float.type_name(), "Float");
        assert!(serde_json::from_str::<Value>("9223372036854775809").is_err());
        assert!(serde_json::from_str::<Object>("[1]").is_err());
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(serde_json::from_str::<Value>(&deep(MAX_DEPTH)).is_ok());
        assert!(serde_json::from_str::<Value>(&deep(MAX_DEPTH + 1)).is_err());
    }
}
