//! A new file that is filled entry by entry, the database's own trees included: what `salvage` and
//! `load` write with. The pages are the engine's own work.
//!
//! # Invariants
//!
//! 1. Nothing expires, nothing is swept, and no time is stored while a file is filled: its clock
//!    stands at 0.
//! 2. Changes are committed in bundles of bounded size. The file is complete only once
//!    [`Rebuild::finish`] has returned.

use std::ops::Bound;
use std::sync::Arc;

use crate::clock::Clock;
use crate::moment::Moment;
use crate::storage::Storage;
use crate::txn::tree_mut::TreeMut;
use crate::txn::view::TreeView;
use crate::txn::write::{Durability, WriteTransaction};
use crate::{Aurora, Error, Result};

/// Bytes of keys and values after which a bundle is committed.
const BUNDLE_BYTES: usize = 4 << 20;

/// A clock that stands still.
#[derive(Debug)]
pub(super) struct Standing;

impl Clock for Standing {
    fn now_ms(&self) -> u64 {
        0
    }
}

/// An entry of a tree.
pub type Pair = (Vec<u8>, Vec<u8>);

/// The keys on both sides of a gap, where there are any.
pub type Neighbors = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Some entries of a tree.
pub(super) fn batch(
    view: &TreeView<'_>,
    from: Bound<&[u8]>,
    limit_bytes: usize,
) -> Result<Vec<Pair>> {
    let mut entries = Vec::new();
    let mut bytes = 0_usize;
    for entry in view.range::<&[u8]>((from, Bound::Unbounded)) {
        let (key, value) = entry?;
        bytes = bytes.saturating_add(key.len() + value.len() + 64);
        entries.push((key, value));
        if bytes >= limit_bytes {
            break;
        }
    }
    Ok(entries)
}

/// A file that is being filled.
#[derive(Debug)]
pub struct Rebuild {
    db: Aurora,
    tx: Option<WriteTransaction>,
    pending_bytes: usize,
}

impl Rebuild {
    /// A new file in an empty storage.
    pub fn create(storage: Arc<dyn Storage>, page_size: u32, salt: Option<u64>) -> Result<Self> {
        let builder = Aurora::builder().page_size(page_size).background(false);
        let mut builder = builder.clock(Arc::new(Standing));
        if let Some(salt) = salt {
            builder = builder.salt(salt);
        }
        let db = builder
            .durability(Durability::Buffered)
            .open_storage(storage)?;
        Ok(Rebuild {
            db,
            tx: None,
            pending_bytes: 0,
        })
    }

    fn begun(&mut self, bytes: usize) -> Result<&mut WriteTransaction> {
        if self.pending_bytes > BUNDLE_BYTES {
            self.commit()?;
        }
        self.pending_bytes = self.pending_bytes.saturating_add(bytes).saturating_add(64);
        if self.tx.is_none() {
            self.tx = Some(self.db.begin_write()?);
        }
        self.tx.as_mut().ok_or(Error::Closed)
    }

    fn tree(&mut self, name: &str, bytes: usize) -> Result<TreeMut<'_>> {
        self.begun(bytes)?.system_tree(name)
    }

    fn commit(&mut self) -> Result<()> {
        self.pending_bytes = 0;
        match self.tx.take() {
            Some(tx) => tx.commit(),
            None => Ok(()),
        }
    }

    /// Makes a tree, if there is none of that name.
    pub fn create_tree(&mut self, name: &str) -> Result<()> {
        self.tree(name, 0).map(|_| ())
    }

    /// Stores a value. Says whether there was one already.
    pub fn put(&mut self, tree: &str, key: &[u8], value: &[u8]) -> Result<bool> {
        let bytes = key.len() + value.len();
        self.tree(tree, bytes)?.put(key, value)
    }

    /// Removes a key. Says whether it was there.
    pub fn delete(&mut self, tree: &str, key: &[u8]) -> Result<bool> {
        self.tree(tree, key.len())?.delete(key)
    }

    /// Removes the keys of a range, and says how many there were.
    pub fn delete_range(
        &mut self,
        tree: &str,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Result<u64> {
        self.tree(tree, 0)?.delete_range::<&[u8]>((lower, upper))
    }

    /// Removes a tree, if there is one. Says whether there was.
    pub fn drop_tree(&mut self, name: &str) -> Result<bool> {
        let tx = self.begun(0)?;
        match tx.find(name).is_some() {
            true => tx.drop_system_tree(name).map(|()| true),
            false => Ok(false),
        }
    }

    /// Gives a user's tree another name.
    pub fn rename_tree(&mut self, from: &str, to: &str) -> Result<()> {
        self.begun(0)?.rename_tree(from, to)
    }

    /// The last key below one, and the first one at or behind another.
    pub fn neighbors(&mut self, tree: &str, low: &[u8], high: Option<&[u8]>) -> Result<Neighbors> {
        let Some(view) = self.begun(0)?.system_view(tree) else {
            return Ok((None, None));
        };
        let below = (Bound::Unbounded, Bound::Excluded(low));
        let before = view.range::<&[u8]>(below).next_back().transpose()?;
        let Some(high) = high else {
            return Ok((before.map(|(key, _)| key), None));
        };
        let above = (Bound::Included(high), Bound::Unbounded);
        let behind = view.range::<&[u8]>(above).next().transpose()?;
        Ok((before.map(|(key, _)| key), behind.map(|(key, _)| key)))
    }

    /// The value of a key.
    pub fn get(&mut self, tree: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(view) = self.begun(0)?.system_view(tree) else {
            return Ok(None);
        };
        Ok(view.get(key)?.map(|value| value.to_vec()))
    }

    /// Whether there is a tree of that name.
    pub fn has(&mut self, tree: &str) -> Result<bool> {
        Ok(self.begun(0)?.system_view(tree).is_some())
    }

    /// How many entries a tree has.
    pub fn count(&mut self, tree: &str) -> Result<u64> {
        let view = self.begun(0)?.system_view(tree);
        Ok(view.map_or(0, |view| view.len()))
    }

    /// The names of all trees, in order.
    pub fn trees(&mut self) -> Result<Vec<String>> {
        Ok(self.begun(0)?.all_names())
    }

    /// The entries from a place on, about so many bytes of them and at least one if there is any.
    pub fn entries(
        &mut self,
        tree: &str,
        from: Bound<&[u8]>,
        limit_bytes: usize,
    ) -> Result<Vec<Pair>> {
        let view = self.begun(0)?.system_view(tree);
        view.map_or(Ok(Vec::new()), |view| batch(&view, from, limit_bytes))
    }

    /// Commits what is left and closes the file: from here on it is durable.
    pub fn finish(mut self) -> Result<()> {
        self.commit()?;
        // Closing a database stores the time, where something can expire. This file has the time
        // that was put into it, or none.
        self.db.handle.engine.close()
    }
}
