//! Many documents that change in one call: what can wait of that waits, and is done page by page.
//!
//! # Invariants
//!
//! 1. Only what nothing in the call looks at waits: entries of indexes that are not unique, and, where documents go, all
//!    that goes with them.
//! 2. When the call returns, with an error or without, nothing waits: what was changed is changed as a whole.
//! 3. What has expired is removed when nothing waits: one of these documents may be among it.
//! 4. How much waits is bounded, however much changes.

use super::documents::{self, IfThere, IndexChange};
use super::incoming::Incoming;
use super::meta::Meta;
use super::patch::Patch;
use crate::Result;
use crate::txn::bulk::{ENTRY_BYTES, gather_bytes};
use crate::txn::write::WriteTransaction;
use crate::value::Value;

/// So many documents change before the rest of it is done; fewer where that is long ([`gather_bytes`]): an array has as
/// many entries as elements.
const BATCH_DOCUMENTS: usize = 16 << 10;

/// Stores many documents. If one is refused, those before it are stored.
pub(crate) fn insert_many(
    tx: &mut WriteTransaction,
    meta: &Meta,
    all: impl IntoIterator<Item = Result<Incoming>>,
    if_there: IfThere,
) -> Result<Vec<Value>> {
    each(tx, meta, all, |tx, incoming, waiting| {
        documents::insert_one(tx, meta, incoming, if_there, Some(waiting))
    })
}

/// Changes single fields of many documents. After an error those before it are changed.
pub(crate) fn update_many(
    tx: &mut WriteTransaction,
    meta: &Meta,
    keys: &[Vec<u8>],
    patch: &Patch,
) -> Result<()> {
    let updated = each(tx, meta, keys.iter().map(Ok), |tx, key, waiting| {
        documents::update_one(tx, meta, key, patch, Some(waiting))
    });
    updated.map(|_| ())
}

/// Removes many documents. After an error those before it are removed.
pub(crate) fn delete_many(tx: &mut WriteTransaction, meta: &Meta, keys: &[Vec<u8>]) -> Result<()> {
    let deleted = each(tx, meta, keys.iter().map(Ok), |tx, key, waiting| {
        documents::delete_one(tx, meta, key, Some(waiting)).map(|_| ())
    });
    deleted.map(|_| ())
}

/// Changes one document after the other, in the middle of which code of the user's may be called: that of an iterator.
fn each<T, U>(
    tx: &mut WriteTransaction,
    meta: &Meta,
    all: impl IntoIterator<Item = Result<T>>,
    mut change: impl FnMut(&mut WriteTransaction, T, &mut Waiting) -> Result<U>,
) -> Result<Vec<U>> {
    tx.watched(|tx| {
        let most_bytes = gather_bytes(tx);
        let mut waiting = Waiting::new(meta);
        let mut changed = Vec::new();
        for one in all {
            match one.and_then(|one| change(tx, one, &mut waiting)) {
                Ok(outcome) => changed.push(outcome),
                Err(error) => {
                    // In a transaction that has failed they are no matter.
                    let ended = end_batch(tx, meta, &mut waiting, changed.len() % BATCH_DOCUMENTS);
                    return Err(match ended {
                        Err(other) if error.is_misuse() => other,
                        _ => error,
                    });
                }
            }
            if changed.len().is_multiple_of(BATCH_DOCUMENTS) {
                end_batch(tx, meta, &mut waiting, BATCH_DOCUMENTS)?;
            } else if waiting.bytes >= most_bytes {
                waiting.settle(tx, meta)?;
            }
        }
        end_batch(tx, meta, &mut waiting, changed.len() % BATCH_DOCUMENTS)?;
        Ok(changed)
    })
}

/// Invariants 2 and 3, and as much of what has expired as so many documents are to remove.
fn end_batch(
    tx: &mut WriteTransaction,
    meta: &Meta,
    waiting: &mut Waiting,
    documents: usize,
) -> Result<()> {
    waiting.settle(tx, meta)?;
    documents::relieve(tx, meta, documents)
}

/// An entry of an index or the key of a document, and whether it comes.
type Coming = (Vec<u8>, bool);

/// What is still to be done of changes (invariant 1).
pub(super) struct Waiting {
    /// For each index.
    entries: Vec<Vec<Coming>>,
    documents: Vec<Coming>,
    bytes: usize,
}

impl Waiting {
    fn new(meta: &Meta) -> Self {
        Waiting {
            entries: meta.indexes.iter().map(|_| Vec::new()).collect(),
            documents: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn change_index(&mut self, change: &IndexChange<'_>) {
        if let Some(entries) = self.entries.get_mut(change.place) {
            let gone = change.gone().map(|entry| (entry, false));
            for (entry, comes) in gone.chain(change.added().map(|entry| (entry, true))) {
                self.bytes += ENTRY_BYTES + entry.len();
                entries.push((entry.clone(), comes));
            }
        }
    }

    pub(super) fn remove_document(&mut self, key: &[u8]) {
        self.bytes += ENTRY_BYTES + key.len();
        self.documents.push((key.to_vec(), false));
    }

    /// Does what waits, each tree's in the order of its keys. Of several changes of one entry the last one counts.
    fn settle(&mut self, tx: &mut WriteTransaction, meta: &Meta) -> Result<()> {
        self.bytes = 0;
        let trees = meta.indexes.iter().map(|index| &index.tree);
        let trees = trees.chain([&meta.documents_tree]);
        let all = self.entries.iter_mut().chain([&mut self.documents]);
        for (tree, changes) in trees.zip(all) {
            if !changes.is_empty() {
                tx.system_tree(tree)?.change_keys(changes.drain(..))?;
            }
        }
        Ok(())
    }
}
