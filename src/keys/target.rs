//! What is to be deleted.

use super::store;
use crate::Result;
use crate::txn::write::WriteTransaction;
use crate::value::DocumentId;

/// What [`Aurora::delete`](crate::Aurora::delete) and [`WriteTransaction::delete`] delete. Made from anything that is a key,
/// and from the id of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A key, with the value or the blob under it.
    Key(Vec<u8>),
    /// A document, with its index entries.
    Document(DocumentId),
}

impl Target {
    /// Deletes it. Says whether it was there.
    pub(super) fn delete(self, tx: &mut WriteTransaction) -> Result<bool> {
        match self {
            Target::Key(key) => store::remove_record(tx, &key),
            Target::Document(id) => tx.collection(id.collection())?.delete(&id),
        }
    }
}

impl From<&DocumentId> for Target {
    fn from(id: &DocumentId) -> Self {
        Target::Document(id.clone())
    }
}

impl From<DocumentId> for Target {
    fn from(id: DocumentId) -> Self {
        Target::Document(id)
    }
}

/// Whatever [`put`](crate::Aurora::put) takes as a key.
impl<K: AsRef<[u8]>> From<K> for Target {
    fn from(key: K) -> Self {
        Target::Key(key.as_ref().to_vec())
    }
}
