//! A document: an id and its fields.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;

use super::cbor::EncodedFields;
use super::{Object, Value, to_serde};
use crate::{Error, Result};

/// Which document of which collection. Prints as the id alone. In order by the collection, then by the id.
///
/// [`Aurora::delete`](crate::Aurora::delete) heeds both. A collection that is asked for a document, or told to change one, looks
/// for the value alone, whose ever it is: it finds what has the same id there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId {
    collection: Arc<str>,
    value: Value,
}

impl DocumentId {
    /// The id of a document in a collection: a UUID, a string or a whole number.
    pub fn new(collection: impl Into<Arc<str>>, id: impl Into<Value>) -> Self {
        DocumentId {
            collection: collection.into(),
            value: id.into(),
        }
    }

    /// The name of the collection.
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// The id within the collection.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl fmt::Debug for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection, self.value)
    }
}

/// A document as it was read: its id, and its fields, which it dereferences to.
///
/// Its bytes are checked when it is read, and become values when somebody first looks at the
/// fields: a document that is only passed on costs one allocation.
///
/// Its `Debug` form is for people: `{ title: Fantasy Book, year: 2020 }`.
#[derive(Clone)]
pub struct Document {
    /// Which document it is.
    pub id: DocumentId,
    fields: OnceLock<Object>,
    /// Where the fields come from, if they are not there yet.
    encoded: Option<EncodedFields>,
}

impl Document {
    pub(crate) fn new(id: DocumentId, fields: Object) -> Self {
        Document {
            id,
            fields: fields.into(),
            encoded: None,
        }
    }

    pub(crate) fn encoded(id: DocumentId, fields: EncodedFields) -> Self {
        Document {
            id,
            fields: OnceLock::new(),
            encoded: Some(fields),
        }
    }

    /// The value of a field, or at a path of names with dots between: `address.city`.
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.fields().get_path(path)
    }

    /// The fields.
    pub fn fields(&self) -> &Object {
        self.fields.get_or_init(|| decode(&self.encoded))
    }

    /// About how many bytes of memory the fields take, looked at or not.
    pub(crate) fn memory_bytes(&self) -> usize {
        // Each field has a name, a value, and perhaps text of its own.
        let (bytes, fields) = match &self.encoded {
            Some(encoded) => encoded.size(),
            None => (0, self.fields().len()),
        };
        3 * bytes + fields * 64 + 192
    }

    /// The fields, without the id.
    pub fn into_fields(self) -> Object {
        let fields = self.fields.into_inner();
        fields.unwrap_or_else(|| decode(&self.encoded))
    }

    /// The document as a type of the program's own. If that has an `id` and the fields do not, it
    /// gets the document's.
    ///
    /// # Errors
    /// [`Error::Conversion`] if the fields do not fit the type.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        self.converted().map_err(|error| self.named(error))
    }

    fn converted<T: DeserializeOwned>(&self) -> Result<T> {
        let with_id = to_serde(self.fields(), Some(self.id.value()));
        if with_id.is_ok() || self.fields().get("id").is_some() {
            return with_id;
        }
        // A struct with an `id` of another kind; or one of which a part is flattened, which does not say what it has.
        let without_id = to_serde(self.fields(), None);
        if without_id.is_ok() {
            return without_id;
        }
        let mut fields = self.fields().clone();
        fields.insert("id", &self.id);
        to_serde(&fields, None).or(with_id)
    }

    /// Of many documents that are converted, which one did not.
    fn named(&self, error: Error) -> Error {
        match error {
            Error::Conversion { what, reason } => {
                let DocumentId { collection, value } = &self.id;
                let id = value.brief();
                let reason = format!("{reason} (document {id} of the collection {collection:?})");
                Error::Conversion { what, reason }
            }
            other => other,
        }
    }
}

fn decode(encoded: &Option<EncodedFields>) -> Object {
    encoded
        .as_ref()
        .map(EncodedFields::decode)
        .unwrap_or_default()
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.fields() == other.fields()
    }
}

impl Eq for Document {}

impl Deref for Document {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.fields()
    }
}

impl DerefMut for Document {
    fn deref_mut(&mut self) -> &mut Object {
        self.fields();
        // The fields are what counts from here on.
        self.encoded = None;
        match self.fields.get_mut() {
            Some(fields) => fields,
            None => unreachable!("the line above put them there"),
        }
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields().fmt(f)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.fields(), f)
    }
}
