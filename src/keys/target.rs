//! What is to be deleted.

use crate::Result;
use crate::txn::write::WriteTransaction;
use crate::value::DocumentId;

/// What [`Aurora::delete`](crate::Aurora::delete) deletes. Made from anything that is a key, and
/// from the id of a document.
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
            Target::Key(key) => tx.delete(key),
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

macro_rules! keys {
    ($($from:ty),*) => {
        $(impl From<$from> for Target {
            fn from(key: $from) -> Self {
                Target::Key(key.into())
            }
        })*
    };
}

keys!(&str, String, &[u8], Vec<u8>);

impl From<&String> for Target {
    fn from(key: &String) -> Self {
        key.as_str().into()
    }
}

impl From<&Vec<u8>> for Target {
    fn from(key: &Vec<u8>) -> Self {
        key.as_slice().into()
    }
}

impl<const N: usize> From<&[u8; N]> for Target {
    fn from(key: &[u8; N]) -> Self {
        key.as_slice().into()
    }
}

impl<const N: usize> From<[u8; N]> for Target {
    fn from(key: [u8; N]) -> Self {
        key.as_slice().into()
    }
}
