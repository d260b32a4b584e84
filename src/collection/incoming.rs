//! What comes to be stored: its id, and its fields checked against the schema.

use super::meta::Meta;
use super::new_id::new_id;
use super::schema::{Field, takes};
use crate::txn::write::WriteTransaction;
use crate::value::{FieldType, MAX_DEPTH, Object, Value};
use crate::{Error, Result};

/// A document to store.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// The id, for a document that does not have it as a field. Else it is the field `id`, or is
    /// made.
    pub id: Option<Value>,
    pub fields: Object,
}

impl From<Object> for Incoming {
    fn from(fields: Object) -> Self {
        Incoming { id: None, fields }
    }
}

/// The fields as they are stored, and the id.
pub(super) fn checked(
    tx: &WriteTransaction,
    meta: &Meta,
    incoming: Incoming,
) -> Result<(Value, Object)> {
    let mut fields = incoming.fields;
    if let Some(id) = incoming.id {
        fields.remove("id");
        if meta.schema.stores_ids() {
            fields.insert("id", id.clone());
        }
        let fields = checked_fields(meta, fields)?;
        check_id(meta, &id, &fields)?;
        return Ok((id, fields));
    }
    let declared = declared_id(meta);
    let id = match given_id(meta, &fields) {
        Some(id) => id,
        None => new_id(tx, meta, declared)?,
    };
    // A strict schema without a field `id` still takes an id; it is kept in the key alone.
    if declared.is_some() || (!meta.schema.strict && fields.get("id").is_some()) {
        fields.insert("id", id.clone());
    } else {
        fields.remove("id");
    }
    Ok((id, checked_fields(meta, fields)?))
}

/// The type of the field `id`, if the schema has it.
pub(super) fn declared_id(meta: &Meta) -> Option<FieldType> {
    let field = meta.schema.fields.iter().find(|field| field.path == "id");
    field.map(|field| field.kind)
}

/// The id that a document comes with, as its field.
pub(super) fn given_id(meta: &Meta, fields: &Object) -> Option<Value> {
    let id = fields.get("id").filter(|id| !id.is_null())?.clone();
    Some(match (declared_id(meta), &id) {
        (Some(kind), _) => id.fitted(kind),
        // `serde` hands a UUID over as bytes.
        (None, Value::Bytes(_)) => id.fitted(FieldType::Uuid),
        (None, _) => id,
    })
}

/// Checks an id against the schema, and against the field `id` of the document if there is one. The document may have
/// its id only as its key: what is declared of the field holds for that too.
pub(super) fn check_id(meta: &Meta, id: &Value, fields: &Object) -> Result<()> {
    let wrong = |expected, value: &Value| {
        Err(Error::WrongType {
            collection: meta.name.to_string(),
            field: "id".to_string(),
            expected,
            found: value.type_name(),
            value: value.brief(),
        })
    };
    if let Some(kind) = declared_id(meta).filter(|kind| !takes(*kind, id)) {
        return wrong(kind.name(), id);
    }
    match fields.get("id").filter(|own| *own != id) {
        Some(own) => wrong("the id of the document", own),
        None => Ok(()),
    }
}

/// Checks fields against the schema, and fills in defaults.
pub(super) fn checked_fields(meta: &Meta, mut fields: Object) -> Result<Object> {
    // Before anything is checked: a default may be within another field, or have others in it, in whatever order they were
    // declared.
    for field in meta.fields_with_default() {
        if let (None, Some(default)) = (fields.get_path(&field.path), &field.default) {
            fields.set_path(&field.path, default.clone().fitted(field.kind));
        }
    }
    // Fields mostly come in the order of the schema.
    for (place, field) in meta.schema.fields.iter().enumerate() {
        let value = fields.get_path_near(&field.path, place);
        let to_fit = value.filter(|value| {
            // Of an empty list `serde` does not say whether it is one of bytes: a field of that type has none.
            let is_no_bytes = field.kind == FieldType::Bytes && is_empty_list(value);
            field.kind == FieldType::Float || is_no_bytes || !takes(field.kind, value)
        });
        if let Some(value) = to_fit {
            let fitted = value.clone().fitted(field.kind);
            fields.set_path(&field.path, fitted);
        }
        check_field(meta, field, fields.get_path_near(&field.path, place))?;
    }
    for (place, (name, value)) in fields.iter().enumerate() {
        if meta.schema.strict && !is_declared(meta, name, place) {
            return Err(Error::UnknownField {
                collection: meta.name.to_string(),
                field: name.to_string(),
                value: value.brief(),
            });
        }
        if !value.is_shallow(MAX_DEPTH - 1) {
            return Err(Error::WrongType {
                collection: meta.name.to_string(),
                field: name.to_string(),
                expected: "values nested at most 64 levels deep",
                found: value.type_name(),
                value: "…".to_string(),
            });
        }
    }
    Ok(fields)
}

fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(<[Value]>::is_empty)
}

/// The fields as a patch sees them: to empty bytes, which an empty list of bytes is stored as, an element is added as to that.
pub(super) fn as_patched(meta: &Meta, fields: &mut Object) {
    let of_bytes = { meta.schema.fields.iter() }.filter(|field| field.kind == FieldType::Bytes);
    for field in of_bytes {
        if let Some(value) = fields.get_path_mut(&field.path)
            && value.as_bytes().is_some_and(<[u8]>::is_empty)
        {
            *value = Value::Array(Vec::new());
        }
    }
}

/// Checks the value of a field, if there is one.
fn check_field(meta: &Meta, field: &Field, value: Option<&Value>) -> Result<()> {
    if field.required && value.is_none_or(Value::is_null) {
        return Err(Error::MissingField {
            collection: meta.name.to_string(),
            field: field.path.clone(),
        });
    }
    match value.filter(|value| !takes(field.kind, value)) {
        None => Ok(()),
        Some(value) => Err(Error::WrongType {
            collection: meta.name.to_string(),
            field: field.path.clone(),
            expected: field.kind.name(),
            found: value.type_name(),
            value: value.brief(),
        }),
    }
}

/// `place` is where it is most likely declared.
fn is_declared(meta: &Meta, name: &str, place: usize) -> bool {
    let fields = &meta.schema.fields;
    let mut likely_first = fields.get(place).into_iter().chain(fields);
    likely_first.any(|field| {
        let rest = field.path.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}
