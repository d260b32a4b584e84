//! Documents and values given to other programs, through `serde`: the answer of a web server, a message, a file.
//!
//! What formats have no word for is written as `uuid` and the crates for time write themselves.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{Document, DocumentId, Object, Value};

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => to.serialize_unit(),
            Value::Bool(value) => to.serialize_bool(*value),
            Value::Int(value) => to.serialize_i64(*value),
            Value::Float(value) => to.serialize_f64(*value),
            Value::String(value) => to.serialize_str(value),
            Value::Bytes(value) => to.serialize_bytes(value),
            Value::Uuid(value) => value.serialize(to),
            Value::DateTime(value) => value.serialize(to),
            Value::Array(values) => to.collect_seq(values),
            Value::Object(object) => object.serialize(to),
        }
    }
}

/// As a map, in the order of the fields.
impl Serialize for Object {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter())
    }
}

/// As the id within the collection.
impl Serialize for DocumentId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(to)
    }
}

/// As a map of the fields, with the id in front unless a field has that name. UUIDs and dates become text, or what the
/// format has for them: to store a document again, take [`Document::into_fields`], which keeps every type.
impl Serialize for Document {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let has_id = self.fields().get("id").is_some();
        let mut map = to.serialize_map(Some(self.fields().len() + usize::from(!has_id)))?;
        if !has_id {
            map.serialize_entry("id", &self.id)?;
        }
        for (name, value) in self.fields().iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::super::{Timestamp, Uuid};
    use super::*;

    #[test]
    fn a_document_is_an_object_of_json() {
        let mut fields = Object::new();
        fields.insert("title", "Cosmos");
        fields.insert("year", 1980);
        fields.insert("price", 9.5);
        fields.insert("out", Value::Null);
        fields.insert("tags", Value::Array(vec!["a".into(), true.into()]));
        fields.insert("cover", vec![1u8, 255]);
        fields.insert("key", Uuid::from_u128(7));
        fields.insert("added", Timestamp::from_second(1_700_000_000).unwrap());
        let document = Document::new(DocumentId::new("books", 17), fields.clone());
        let text = serde_json::to_string(&document).unwrap();
        let rest = r#""title":"Cosmos","year":1980,"price":9.5,"out":null,"tags":["a",true],"cover":[1,255],"key":"00000000-0000-0000-0000-000000000007","added":"2023-11-14T22:13:20Z"}"#;
        assert_eq!(text, format!(r#"{{"id":17,{rest}"#));
        assert_eq!(serde_json::to_string(&fields).unwrap(), format!("{{{rest}"));

        let mut fields = Object::new();
        fields.insert("id", "mine");
        let document = Document::new(DocumentId::new("books", "mine"), fields);
        assert_eq!(
            serde_json::to_string(&document).unwrap(),
            r#"{"id":"mine"}"#
        );
    }
}
