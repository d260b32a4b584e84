//! What the database's own trees hold.

use super::Flaw;
use crate::collection::documents;
use crate::collection::index;
use crate::collection::meta::{IndexMeta, Meta};
use crate::keys::expiry::{Due, OF_DOCUMENT};
use crate::keys::record::{Kind, RecordRef};
use crate::value::{Document, Value};
use crate::{Result, Schema};

/// The record of a user's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRecord<'a> {
    /// The payload describes a blob; it is the value otherwise.
    pub is_blob: bool,
    /// Milliseconds since 1970.
    pub expiry_ms: Option<u64>,
    /// What comes behind that.
    pub payload: &'a [u8],
}

impl<'a> KeyRecord<'a> {
    /// Reads a value of `aurora/keys`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let record = RecordRef::decode(bytes)?;
        Ok(KeyRecord {
            is_blob: record.kind == Kind::Blob,
            expiry_ms: record.expiry_ms,
            payload: record.payload,
        })
    }
}

/// An entry of `aurora/expiry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueRecord<'a> {
    /// Milliseconds since 1970.
    pub expiry_ms: u64,
    /// The name is that of a document; it is a key otherwise.
    pub is_document: bool,
    /// A key; or the number of a collection and an encoded id.
    pub name: &'a [u8],
}

impl<'a> DueRecord<'a> {
    /// Reads a key of `aurora/expiry`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self> {
        let due = Due::decode(bytes)?;
        Ok(DueRecord {
            expiry_ms: due.expiry_ms,
            is_document: due.owner == OF_DOCUMENT,
            name: due.name,
        })
    }

    /// The key in the tree.
    pub fn encode(&self) -> Vec<u8> {
        let owner = if self.is_document { OF_DOCUMENT } else { 0 };
        Due {
            expiry_ms: self.expiry_ms,
            owner,
            name: self.name,
        }
        .encode()
    }
}

/// The payload of a blob's record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BlobDetails {
    pub number: u64,
    pub size: u64,
    pub chunk_bytes: u32,
    pub checksum: u32,
    pub created_ms: u64,
    pub content_type: Option<String>,
    pub map: Vec<(String, String)>,
    /// Names are in order and each is there once, and the record is no longer than records are.
    pub is_canonical: bool,
}

impl BlobDetails {
    /// Reads the payload of a record of `aurora/keys`.
    pub fn decode(payload: &[u8]) -> Result<Self, Flaw> {
        Ok(crate::blob::details(payload)?)
    }
}

/// The record of a collection.
#[derive(Debug)]
pub struct CollectionRecord {
    meta: Meta,
}

/// An index of a collection.
#[derive(Debug, Clone, Copy)]
pub struct IndexRecord<'a> {
    meta: &'a Meta,
    index: &'a IndexMeta,
}

impl CollectionRecord {
    /// Reads a value of `aurora/collections`.
    pub fn decode(name: &str, bytes: &[u8]) -> Option<Self> {
        let meta = Meta::decode(name, bytes)?;
        Some(CollectionRecord { meta })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.meta.name
    }

    /// The number in names of trees.
    pub fn number(&self) -> u32 {
        self.meta.number
    }

    /// How often the schema was changed.
    pub fn version(&self) -> u32 {
        self.meta.version
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.meta.schema
    }

    /// Each declared field as a line: path, type, and what else is asked of it.
    pub fn fields(&self) -> Vec<(String, &'static str, Vec<&'static str>)> {
        let fields = self.meta.schema.fields.iter();
        { fields }
            .map(|field| {
                let asked = [
                    (field.required, "required"),
                    (field.unique, "unique"),
                    (field.indexed, "indexed"),
                    (field.default.is_some(), "default"),
                ];
                let asked = asked.into_iter().filter(|(is, _)| *is);
                let asked = asked.map(|(_, word)| word).collect();
                (field.path.clone(), field.kind.name(), asked)
            })
            .collect()
    }

    /// Whether documents may only have declared fields.
    pub fn is_strict(&self) -> bool {
        self.meta.schema.strict
    }

    /// The field after which documents expire, and how long after, in milliseconds.
    pub fn expires(&self) -> Option<(&str, u64)> {
        let expires = self.meta.schema.expires.as_ref()?;
        Some((&expires.path, expires.after_ms))
    }

    /// The tree of documents.
    pub fn documents_tree(&self) -> &str {
        &self.meta.documents_tree
    }

    /// All indexes.
    pub fn indexes(&self) -> impl Iterator<Item = IndexRecord<'_>> {
        self.meta.indexes.iter().map(|index| IndexRecord {
            meta: &self.meta,
            index,
        })
    }

    /// The key of a document in its tree.
    pub fn document_key(&self, id: &Value) -> Result<Vec<u8>> {
        documents::key_of(&self.meta, id)
    }

    /// The document of these bytes.
    pub fn document(&self, key: &[u8], bytes: &[u8]) -> Result<Document> {
        documents::decode(&self.meta, key, bytes)
    }

    /// Whether the document is as the schema wants it.
    pub fn check_document(&self, key: &[u8], bytes: &[u8]) -> Result<()> {
        documents::refit(&self.meta, key, bytes).map(|_| ())
    }

    /// When the document expires, in milliseconds since 1970.
    pub fn expiry_ms(&self, bytes: &[u8]) -> Result<Option<u64>> {
        documents::expiry_of(&self.meta, bytes)
    }

    /// What stands for the document in the index of what expires.
    pub fn expiry_name(&self, key: &[u8]) -> Vec<u8> {
        documents::expiry_name(self.meta.number, key)
    }
}

impl<'a> IndexRecord<'a> {
    /// The name.
    pub fn name(&self) -> &'a str {
        &self.index.name
    }

    /// The tree of its entries.
    pub fn tree(&self) -> &'a str {
        &self.index.tree
    }

    /// The fields.
    pub fn paths(&self) -> &'a [String] {
        &self.index.index.paths
    }

    /// Whether it allows a value only once.
    pub fn is_unique(&self) -> bool {
        self.index.index.unique
    }

    /// Whether it takes in only some documents.
    pub fn is_partial(&self) -> bool {
        self.index.index.only.is_some()
    }

    /// Whether all documents are in it.
    pub fn is_ready(&self) -> bool {
        self.index.is_ready()
    }

    /// While it is built: the id up to which documents are in it.
    pub fn built_to(&self) -> Option<&'a [u8]> {
        self.index.built_to.as_deref()
    }

    /// The entries that the document has in it.
    pub fn entries(&self, key: &[u8], document: &[u8]) -> Result<Vec<Vec<u8>>> {
        index::entries(self.meta, self.index, key, document)
    }

    /// The part of a document's entries that has to be the document's alone, if the index is
    /// unique. Those as long as the limit are left out: longer values may have been cut.
    pub fn unique_values(&self, document: &[u8]) -> Result<Vec<Vec<u8>>> {
        let values = index::unique_values(self.meta, self.index, document)?;
        Ok(values.into_iter().filter(|v| !index::is_cut(v)).collect())
    }

    /// The part for the values of an entry, and the id.
    pub fn split(entry: &[u8]) -> Option<(&[u8], &[u8])> {
        index::split(entry)
    }
}

/// The id that these bytes are the key of.
pub fn decode_id(key: &[u8]) -> Option<Value> {
    crate::value::decode_id(key)
}
