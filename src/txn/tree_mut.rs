//! One tree within a write transaction, to be changed.

use std::ops::{Bound, RangeBounds};

use super::cursor::{Entry, Range};
use super::pages::DIRECT_BYTES;
use super::state::TreeId;
use super::value::ValueRef;
use super::view::{TreeView, as_bytes, prefix_range};
use super::write::WriteTransaction;
use crate::Result;
use crate::format::node;
use crate::format::record::Operation;
use crate::tree::End;

/// Values that are stored side by side: pieces of `bytes`.
#[derive(Clone, Copy)]
pub(crate) struct Pieces<'b> {
    pub bytes: &'b [u8],
    /// How long each is, but for the last one, which can be shorter.
    pub each: usize,
    /// CRC-32C of each.
    pub checksums: &'b [u32],
}

impl Pieces<'_> {
    /// How many bytes the pieces have that are written straight to their place: all of them, or all
    /// but the last.
    pub(super) fn long(&self, page_size: u32) -> usize {
        let is_long = |piece: &[u8]| {
            piece.len() >= DIRECT_BYTES && !node::is_inline(page_size, 12, piece.len())
        };
        let pieces = self.bytes.chunks(self.each);
        pieces
            .take_while(|piece| is_long(piece))
            .map(<[u8]>::len)
            .sum()
    }
}

/// A tree within a write transaction: sees the transaction's own changes.
#[derive(Debug)]
pub struct TreeMut<'t> {
    pub(super) txn: &'t mut WriteTransaction,
    pub(super) id: TreeId,
}

impl TreeMut<'_> {
    /// Stores a value. Says whether there was one already.
    ///
    /// # Errors
    /// [`KeyTooLong`](crate::Error::KeyTooLong) above a quarter of the page size, [`ValueTooLong`](crate::Error::ValueTooLong) above 4 GiB;
    /// nothing has changed then.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<bool> {
        self.txn.put_in(self.id, key.as_ref(), value.as_ref())
    }

    /// Stores values side by side, under the keys that `key` makes of their places in the order.
    pub(crate) fn put_pieces(
        &mut self,
        pieces: &Pieces<'_>,
        key: &dyn Fn(u32) -> [u8; 12],
    ) -> Result<()> {
        self.txn.put_pieces_in(self.id, pieces, key)
    }

    /// Removes a key. Says whether it was there.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.txn.delete_in(self.id, key.as_ref())
    }

    /// Removes all keys of a range and returns how many there were. Whole pages are dropped: that costs a visit to each of
    /// them, to find long values, and not to each entry.
    pub fn delete_range<K: AsRef<[u8]>>(&mut self, range: impl RangeBounds<K>) -> Result<u64> {
        let longest = self.txn.longest_key();
        let operation = Operation::DeleteRange {
            tree: self.id,
            lower: shortened(as_bytes(range.start_bound()), longest, Bound::Excluded),
            upper: shortened(as_bytes(range.end_bound()), longest, Bound::Included),
        };
        self.txn.change(&operation)
    }

    /// Removes all keys that begin with `prefix` and returns how many there were, as [`delete_range`](Self::delete_range)
    /// does.
    pub fn delete_prefix(&mut self, prefix: impl AsRef<[u8]>) -> Result<u64> {
        self.delete_range(prefix_range(prefix.as_ref()))
    }

    /// Removes everything; the tree stays.
    pub fn clear(&mut self) -> Result<u64> {
        self.delete_range::<&[u8]>(..)
    }

    /// Removes the entry with the lowest key, and gives it.
    ///
    /// ```
    /// # fn main() -> aurora::Result<()> {
    /// let db = aurora::Aurora::in_memory()?;
    /// db.tree("jobs")?.put_many([("1", "sweep"), ("2", "mop")])?;
    /// let (_, job) = db.write(|tx| tx.tree("jobs")?.pop_first())?.expect("a job");
    /// assert_eq!(job, b"sweep"[..]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn pop_first(&mut self) -> Result<Option<Entry>> {
        self.txn.pop_in(self.id, End::First)
    }

    /// Removes the entry with the highest key, and gives it.
    pub fn pop_last(&mut self) -> Result<Option<Entry>> {
        self.txn.pop_in(self.id, End::Last)
    }

    /// The tree as it is now, to read.
    pub fn view(&self) -> TreeView<'_> {
        self.txn.view_of(self.id)
    }

    /// The value of a key.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueRef<'_>>> {
        self.view().get(key)
    }

    /// Whether the key is there.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.view().contains(key)
    }

    /// The number of entries. O(1).
    pub fn len(&self) -> u64 {
        self.view().len()
    }

    /// Whether there are no entries. O(1).
    pub fn is_empty(&self) -> bool {
        self.view().is_empty()
    }

    /// The entries of a range, from either end.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Range<'_> {
        self.view().range(range)
    }
}

/// A bound among keys that are no longer than `longest`, said with one: a longer one lies right behind its beginning, which
/// `beginning` makes the bound of. (The record has no room for any length.)
fn shortened<'k>(
    bound: Bound<&'k [u8]>,
    longest: usize,
    beginning: fn(&'k [u8]) -> Bound<&'k [u8]>,
) -> Bound<&'k [u8]> {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) if key.len() > longest => {
            beginning(key.get(..longest).unwrap_or_default())
        }
        fitting => fitting,
    }
}
