//! Documents as values that JSON has: null, booleans, numbers, text, lists and objects.
//!
//! A value that JSON has is itself. Another is plain text where the schema says which type it is,
//! and an object with one name, its tag, where it does not: `{"$uuid": "..."}`. An object that
//! happens to look like that is put into one more: `{"$object": {"$uuid": "..."}}`.

use std::collections::HashMap;
use std::sync::Arc;

use super::picked::Picking;
use crate::collection::Schema;
use crate::collection::incoming::Incoming;
use crate::value::{Document, FieldType, Object, Timestamp, Uuid, Value};
use crate::{Error, Result};

const UUID: &str = "$uuid";
const DATE: &str = "$date";
const BYTES: &str = "$bytes";
const FLOAT: &str = "$float";
/// A text that would be taken for something else.
const TEXT: &str = "$string";
/// An object that would be taken for a tag.
const OBJECT: &str = "$object";
/// The id of a document that does not have it as a field, where others do.
pub(super) const ID: &str = "$id";

/// A document on its way out.
pub(super) struct Plain {
    /// As it is written.
    pub id: Value,
    /// Plain where the schema declares the type; other values are yet to be tagged.
    fields: Object,
}

impl Plain {
    pub(super) fn new(schema: &Schema, document: Document) -> Self {
        let id = document.id.value().clone();
        let mut fields = document.into_fields();
        for field in &schema.fields {
            if let Some(value) = fields.get_path_mut(&field.path) {
                *value = typed(field.kind, std::mem::take(value));
            }
        }
        let id = match fields.remove("id") {
            Some(own) => tagged(own),
            None if has_id_field(schema) => tag(ID, id_alone(id)),
            None => id_alone(id),
        };
        Plain { id, fields }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name)
    }

    pub(super) fn by_name(&self) -> ByName<'_> {
        let is_large = self.fields.len() > MANY_NAMES;
        ByName {
            id: &self.id,
            fields: &self.fields,
            table: is_large.then(|| self.fields.iter().collect()),
        }
    }

    /// All of it.
    pub(super) fn whole(self) -> Object {
        let fields = self.fields.into_fields().into_iter();
        let fields = fields.map(|(name, value)| (name, tagged(value)));
        // All at once: to look for each name among the others takes for ever where there are many.
        let id = (Arc::from("id"), self.id);
        std::iter::once(id).chain(fields).collect()
    }

    /// Only the values at some paths.
    pub(super) fn picked(self, paths: &[String]) -> Object {
        let mut picking = Picking::of(&self.fields);
        for path in paths {
            match path.as_str() {
                "id" => picking.add("id", &self.id),
                path => _ = picking.choose(path),
            }
        }
        let mut picked = picking.into_object();
        for (name, value) in picked.iter_mut() {
            if name != "id" {
                *value = tagged(std::mem::take(value));
            }
        }
        picked
    }
}

/// With more names than this, the one that is asked for is found by a table.
const MANY_NAMES: usize = 32;

/// A document on its way out, of which one field after the other is asked for.
pub(super) struct ByName<'p> {
    pub id: &'p Value,
    fields: &'p Object,
    table: Option<HashMap<&'p str, &'p Value>>,
}

impl ByName<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        match &self.table {
            Some(table) => table.get(name).copied(),
            None => self.fields.get(name),
        }
    }

    /// A field, as it is written.
    pub(super) fn field(&self, name: &str) -> Option<Value> {
        self.get(name).cloned().map(tagged)
    }

    /// The value at a path, as it is written.
    pub(super) fn at_path(&self, path: &str) -> Option<Value> {
        self.field(path).or_else(|| {
            let (first, rest) = path.split_once('.')?;
            let inner = self.get(first)?.as_object()?;
            inner.get_path(rest).cloned().map(tagged)
        })
    }
}

/// Whether a document that comes with an id keeps it as a field.
fn has_id_field(schema: &Schema) -> bool {
    !schema.strict || schema.fields.iter().any(|field| field.path == "id")
}

/// A value of a field whose type is known.
fn typed(kind: FieldType, value: Value) -> Value {
    match (kind, value) {
        (FieldType::Any | FieldType::Array | FieldType::Object, value) => value,
        (_, Value::Uuid(uuid)) => uuid.to_string().into(),
        (_, Value::DateTime(time)) => time.to_string().into(),
        (_, Value::Bytes(bytes)) => hex(&bytes).into(),
        (_, Value::Float(number)) if !number.is_finite() => float_name(number).into(),
        (_, Value::Array(values)) => {
            let values = values.into_iter().map(|value| typed(kind, value));
            Value::Array(values.collect())
        }
        (_, value) => value,
    }
}

/// The other way round: what the check of the schema does not do itself.
fn fitted(kind: FieldType, value: Value) -> Value {
    match (kind, value) {
        (FieldType::Bytes, Value::String(text)) => match unhex(&text) {
            Some(bytes) => Value::Bytes(bytes),
            None => Value::String(text),
        },
        (FieldType::Float, Value::String(text)) => match named_float(&text) {
            Some(number) => Value::Float(number),
            None => Value::String(text),
        },
        (FieldType::Bytes | FieldType::Float, Value::Array(values)) => {
            let values = values.into_iter().map(|value| fitted(kind, value));
            Value::Array(values.collect())
        }
        (_, value) => value,
    }
}

/// An id that is not a field: plain, a UUID too, as most are.
fn id_alone(id: Value) -> Value {
    match id {
        Value::Uuid(uuid) => uuid.to_string().into(),
        Value::String(text) if as_uuid(&text).is_some() => tag(TEXT, text.into()),
        id => tagged(id),
    }
}

fn id_from_alone(id: Value) -> Result<Value, String> {
    match id {
        Value::String(text) => Ok(as_uuid(&text).map_or(Value::String(text), Value::Uuid)),
        id => untagged(id),
    }
}

/// Text in the usual form of a UUID, with its hyphens.
fn as_uuid(text: &str) -> Option<Uuid> {
    let is_usual = text.len() == uuid::fmt::Hyphenated::LENGTH;
    Uuid::parse_str(text).ok().filter(|_| is_usual)
}

fn tag(name: &'static str, value: Value) -> Value {
    Value::Object(Object::from([(name, value)]))
}

/// A value of an unknown type.
fn tagged(value: Value) -> Value {
    match value {
        Value::Uuid(uuid) => tag(UUID, uuid.to_string().into()),
        Value::DateTime(time) => tag(DATE, time.to_string().into()),
        Value::Bytes(bytes) => tag(BYTES, hex(&bytes).into()),
        Value::Float(number) if !number.is_finite() => tag(FLOAT, float_name(number).into()),
        Value::Array(values) => Value::Array(values.into_iter().map(tagged).collect()),
        Value::Object(mut object) => {
            for (_, value) in object.iter_mut() {
                *value = tagged(std::mem::take(value));
            }
            match only_name(&object) {
                Some(name) if name.starts_with('$') => tag(OBJECT, object.into()),
                _ => Value::Object(object),
            }
        }
        value => value,
    }
}

fn only_name(object: &Object) -> Option<&str> {
    let mut names = object.iter().map(|(name, _)| name);
    names.next().filter(|_| object.len() == 1)
}

/// What a tag holds.
pub(super) fn content<'v>(value: &'v Value, tag: &str) -> Option<&'v Value> {
    let object = value.as_object()?;
    object.get(tag).filter(|_| object.len() == 1)
}

/// The value that was tagged, or what is wrong.
fn untagged(value: Value) -> Result<Value, String> {
    match value {
        Value::Array(values) => {
            let values = values.into_iter().map(untagged);
            Ok(Value::Array(values.collect::<Result<_, _>>()?))
        }
        Value::Object(object) => match only_name(&object) {
            Some(name @ (UUID | DATE | BYTES | FLOAT | TEXT)) => {
                let content = object.get(name).and_then(Value::as_str);
                let value = content.and_then(|text| of_tag(name, text));
                value.ok_or_else(|| format!("{object} is not what {name:?} stands for"))
            }
            Some(OBJECT) => match object.into_fields().pop() {
                Some((_, Value::Object(inner))) => untagged_fields(inner),
                _ => Err(format!("{OBJECT:?} does not hold an object")),
            },
            _ => untagged_fields(object),
        },
        value => Ok(value),
    }
}

fn untagged_fields(mut object: Object) -> Result<Value, String> {
    for (_, value) in object.iter_mut() {
        *value = untagged(std::mem::take(value))?;
    }
    Ok(Value::Object(object))
}

fn of_tag(tag: &str, text: &str) -> Option<Value> {
    match tag {
        UUID => Uuid::parse_str(text).ok().map(Value::Uuid),
        DATE => text.parse::<Timestamp>().ok().map(Value::DateTime),
        BYTES => unhex(text).map(Value::Bytes),
        FLOAT => named_float(text).map(Value::Float),
        _ => Some(text.into()),
    }
}

fn float_name(number: f64) -> &'static str {
    match number {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

fn named_float(text: &str) -> Option<f64> {
    match text {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

/// The document that was written so.
pub(super) fn incoming(schema: &Schema, mut fields: Object) -> Result<Incoming> {
    let refused = |name: &str, reason: String| Error::Conversion {
        what: "the row to a document",
        reason: format!("the field {name:?}: {reason}"),
    };
    let alone = fields.get("id").and_then(|id| match content(id, ID) {
        None if has_id_field(schema) => None,
        None => Some(id),
        inner => inner,
    });
    let id = match alone.cloned() {
        Some(id) => {
            fields.remove("id");
            let id = id_from_alone(id).map_err(|reason| refused("id", reason))?;
            Some(id).filter(|id| !id.is_null())
        }
        None => None,
    };
    for (name, value) in fields.iter_mut() {
        let given = std::mem::take(value);
        *value = untagged(given).map_err(|reason| refused(name, reason))?;
    }
    for field in &schema.fields {
        if let Some(value) = fields.get_path_mut(&field.path) {
            *value = fitted(field.kind, std::mem::take(value));
        }
    }
    Ok(Incoming { id, fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(value: Value) -> Value {
        untagged(tagged(value)).unwrap()
    }

    #[test]
    fn objects_that_look_like_tags_come_back_as_they_are() {
        for name in [UUID, DATE, BYTES, FLOAT, TEXT, OBJECT, ID, "$other"] {
            let inner = tag(OBJECT, Uuid::from_u128(7).into());
            for content in [Value::from("x"), Value::Null, inner] {
                let value = Value::Object(Object::from([(name, content)]));
                let twice = Value::Object(Object::from([(name, value.clone())]));
                assert_eq!(through(value.clone()), value);
                assert_eq!(through(twice.clone()), twice);
            }
        }
    }

    #[test]
    fn tags_that_hold_something_else_are_refused() {
        for name in [UUID, DATE, BYTES, FLOAT] {
            for content in [Value::from("x"), Value::Int(5)] {
                assert!(untagged(tag(name, content)).is_err(), "{name}");
            }
        }
        assert!(untagged(tag(OBJECT, Value::Int(5))).is_err());
        // Not ours: let it be.
        let other = Value::Object(Object::from([("$oid", "x")]));
        assert_eq!(untagged(other.clone()).unwrap(), other);
    }

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(unhex(&hex(&[0, 255, 16])), Some(vec![0, 255, 16]));
        assert_eq!(unhex("0aFf"), Some(vec![10, 255]));
        for bad in ["0", "0g", "+1", "éé", "000"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
