//! A tree as somebody sees it: a snapshot, or a transaction with its own changes.

use std::ops::{Bound, RangeBounds};

use super::cursor::{Entry, Range, TreeCursor};
use super::pages::TxnPages;
use super::reader::TreeReader;
use super::shared::PinnedPages;
use super::value::{LongValue, ValueRef};
use crate::Result;
use crate::format::TreeRoot;
use crate::format::node::ValueAt;
use crate::pager::{Pager, PinnedBytes};
use crate::tree::{self, End, Found, pages::ReadPages};

/// Where a view's pages come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    Shared(&'a Pager),
    Private(&'a TxnPages),
}

/// A tree as a snapshot, or a transaction, sees it: ordered keys with their values.
///
/// Costs are in the number of entries n: lookups, counts, ranks and the n-th entry are O(log n),
/// a step of a range is O(1).
#[derive(Debug, Clone, Copy)]
pub struct TreeView<'a> {
    pub(super) source: Source<'a>,
    pub(super) root: TreeRoot,
}

impl<'a> TreeView<'a> {
    /// The value of a key.
    ///
    /// Nothing is copied: the value is a view into the map of the file or into a page in memory.
    /// A value that is longer than a third of a page is checked as a whole when it is first read.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueRef<'a>>> {
        match self.source {
            Source::Shared(pager) => get_shared(pager, &self.root, key.as_ref(), true),
            Source::Private(pages) => get_private(pages, &self.root, key.as_ref()),
        }
    }

    /// The value of a key, of which only a part will be looked at.
    pub(crate) fn get_for_a_part(&self, key: &[u8]) -> Result<Option<ValueRef<'a>>> {
        match self.source {
            Source::Shared(pager) => get_shared(pager, &self.root, key, false),
            Source::Private(pages) => get_private(pages, &self.root, key),
        }
    }

    /// A value that lies in an overflow run, to copy parts of it. `None`: it is shorter, or not
    /// there, or this is a transaction's view.
    pub(crate) fn long_value(&self, key: &[u8]) -> Result<Option<LongValue<'a>>> {
        let Source::Shared(pager) = self.source else {
            return Ok(None);
        };
        let pin = crate::pager::pin();
        let pages = PinnedPages { pager, pin: &pin };
        let found = tree::find(&pages, &self.root, key)?;
        let run = found.and_then(|found| found.run());
        Ok(run.map(|run| LongValue { pager, run }))
    }

    /// The values of several keys, given to `take` in the order of the keys, until it says that
    /// it wants no more. Looks for some of them at once, which takes less time than one after the
    /// other.
    pub(crate) fn get_group<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        mut take: impl FnMut(&[u8], Option<&[u8]>) -> Result<bool>,
    ) -> Result<bool> {
        in_groups(keys, |group| match self.source {
            Source::Shared(pager) => {
                // One for each: as long as there is a pin, no memory that anybody lets go of is used again.
                let pin = crate::pager::pin();
                let pages = PinnedPages { pager, pin: &pin };
                get_group(&pages, pager, &self.root, group, &mut take)
            }
            Source::Private(pages) => get_group(pages, pages, &self.root, group, &mut take),
        })
    }

    /// The values of several keys, as copies: one for each key, in the order of the keys, which may be any.
    ///
    /// Looks for some of them at once, which takes less time than one after the other: about three quarters where they are
    /// in memory, and the device is asked for many pages together where they are not.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// db.write(|tx| tx.tree("capitals")?.put("Norway", "Oslo"))?;
    ///
    /// let snapshot = db.begin_read()?;
    /// let found = snapshot.tree("capitals")?.get_many(["Atlantis", "Norway"])?;
    /// assert_eq!(found, [None, Some(b"Oslo".to_vec())]);
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        let mut values = Vec::with_capacity(keys.len());
        self.get_group(keys.iter().map(AsRef::as_ref), |_, value| {
            values.push(value.map(<[u8]>::to_vec));
            Ok(true)
        })?;
        Ok(values)
    }

    /// For many lookups one after the other, which take less time each than with [`get`](Self::get).
    pub fn reader(&self) -> TreeReader<'a> {
        TreeReader::new(*self)
    }

    /// Whether the key is there. A long value is not read for it.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        match self.source {
            Source::Shared(pager) => {
                let pin = crate::pager::pin();
                let pages = PinnedPages { pager, pin: &pin };
                Ok(tree::find(&pages, &self.root, key)?.is_some())
            }
            Source::Private(pages) => Ok(tree::find(pages, &self.root, key)?.is_some()),
        }
    }

    /// The number of entries. O(1).
    pub fn len(&self) -> u64 {
        self.root.count
    }

    /// Whether there are no entries. O(1).
    pub fn is_empty(&self) -> bool {
        self.root.count == 0
    }

    /// The number of entries in a range, without visiting them. O(log n).
    pub fn count<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        let (lower, upper) = (as_bytes(range.start_bound()), as_bytes(range.end_bound()));
        match self.source {
            Source::Shared(pager) => tree::count_range(pager, &self.root, lower, upper),
            Source::Private(pages) => tree::count_range(pages, &self.root, lower, upper),
        }
    }

    /// The number of entries whose keys are below `key`, which need not be there itself. O(log n).
    pub fn rank(&self, key: impl AsRef<[u8]>) -> Result<u64> {
        let below = Bound::Excluded(key.as_ref());
        match self.source {
            Source::Shared(pager) => tree::rank(pager, &self.root, below),
            Source::Private(pages) => tree::rank(pages, &self.root, below),
        }
    }

    /// The entry with the lowest key.
    pub fn first(&self) -> Result<Option<Entry>> {
        self.outermost(End::First)
    }

    /// The entry with the highest key.
    pub fn last(&self) -> Result<Option<Entry>> {
        self.outermost(End::Last)
    }

    pub(super) fn outermost(&self, end: End) -> Result<Option<Entry>> {
        match self.source {
            Source::Shared(pager) => {
                copied_shared(pager, |pages| tree::outermost(pages, &self.root, end))
            }
            Source::Private(pages) => copied(pages, tree::outermost(pages, &self.root, end)?),
        }
    }

    /// The entry with exactly `index` entries before it. O(log n).
    pub fn nth(&self, index: u64) -> Result<Option<Entry>> {
        match self.source {
            Source::Shared(pager) => {
                copied_shared(pager, |pages| tree::nth(pages, &self.root, index))
            }
            Source::Private(pages) => copied(pages, tree::nth(pages, &self.root, index)?),
        }
    }

    /// The entries of a range, from either end. One that ends before it begins has none. What borrows nothing is
    /// [`Snapshot::scan_tree`](crate::Snapshot::scan_tree).
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Range<'a> {
        let (lower, upper) = (as_bytes(range.start_bound()), as_bytes(range.end_bound()));
        Range::new(self, (lower, upper))
    }

    /// All entries, from either end.
    pub fn iter(&self) -> Range<'a> {
        self.range::<&[u8]>(..)
    }

    /// The entries whose keys begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range<'a> {
        self.range(prefix_range(prefix.as_ref()))
    }

    /// A cursor, for walking back and forth without a copy for each entry.
    pub fn cursor(&self) -> TreeCursor<'a> {
        TreeCursor::new(self, (Bound::Unbounded, Bound::Unbounded))
    }

    /// A cursor that sees only a range of the tree.
    pub fn cursor_in<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> TreeCursor<'a> {
        let (lower, upper) = (as_bytes(range.start_bound()), as_bytes(range.end_bound()));
        TreeCursor::new(self, (lower, upper))
    }
}

fn copied<P: ReadPages>(pages: &P, found: Option<Found<P::Bytes<'_>>>) -> Result<Option<Entry>> {
    let Some(found) = found else { return Ok(None) };
    let mut key = Vec::new();
    found.key(&mut key);
    let value = match found.run() {
        Some(run) => pages.read_run(&run)?.to_vec(),
        None => found.inline().unwrap_or_default().to_vec(),
    };
    Ok(Some((key, value)))
}

/// The same of what `find` finds, on a way down under one pin, which ends before a long value is copied.
#[inline]
fn copied_shared<'a>(
    pager: &'a Pager,
    find: impl for<'g> FnOnce(&'g PinnedPages<'g>) -> Result<Option<Found<PinnedBytes<'g>>>>,
) -> Result<Option<Entry>> {
    let mut key = Vec::new();
    let run = {
        let pin = crate::pager::pin();
        let pages = PinnedPages { pager, pin: &pin };
        let Some(found) = find(&pages)? else {
            return Ok(None);
        };
        found.key(&mut key);
        match found.run() {
            Some(run) => run,
            None => return Ok(Some((key, found.inline().unwrap_or_default().to_vec()))),
        }
    };
    let value = pager.read_run(&run)?.to_vec();
    Ok(Some((key, value)))
}

/// The range of keys that begin with a prefix.
pub(crate) fn prefix_range(prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let upper = after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(prefix.to_vec()), upper)
}

/// The lowest key above all that begin with `prefix`, if there is one.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=kept)?.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(end)
}

pub(crate) fn as_bytes<K: AsRef<[u8]>>(bound: Bound<&K>) -> Bound<&[u8]> {
    bound.map(|key| key.as_ref())
}

/// The hot path: the descent holds one pin and counts nothing; only the value that is returned
/// takes a count, and only if it is in a frame.
#[inline]
fn get_shared<'a>(
    pager: &'a Pager,
    root: &TreeRoot,
    key: &[u8],
    as_a_whole: bool,
) -> Result<Option<ValueRef<'a>>> {
    let pin = crate::pager::pin();
    let pages = PinnedPages { pager, pin: &pin };
    let Some(found) = tree::find(&pages, root, key)? else {
        return Ok(None);
    };
    match found.value {
        ValueAt::Run(run) => {
            if as_a_whole {
                pager.ask_for(&run);
            }
            let bytes = pager.read_run(&run)?;
            Ok(Some(ValueRef::long(bytes, &run)))
        }
        ValueAt::Inline(range) => {
            let bytes = found.leaf.keep(pager, found.page);
            Ok(Some(ValueRef::short(bytes, range)))
        }
    }
}

/// Calls `get` with groups of the keys, until it says that no more are wanted. Says whether more are.
fn in_groups<'k>(
    mut keys: impl Iterator<Item = &'k [u8]>,
    mut get: impl FnMut(&[&[u8]]) -> Result<bool>,
) -> Result<bool> {
    let mut group: [&[u8]; tree::GROUP] = [&[]; tree::GROUP];
    loop {
        let mut length = 0;
        for (place, key) in group.iter_mut().zip(&mut keys) {
            *place = key;
            length += 1;
        }
        let wants_more = get(group.get(..length).unwrap_or_default())?;
        if !wants_more || length < tree::GROUP {
            return Ok(wants_more);
        }
    }
}

/// Nodes come from the pages, long values from the runs.
fn get_group(
    pages: &impl ReadPages,
    runs: &impl ReadPages,
    root: &TreeRoot,
    keys: &[&[u8]],
    take: &mut impl FnMut(&[u8], Option<&[u8]>) -> Result<bool>,
) -> Result<bool> {
    tree::find_group(pages, root, keys, |key, found| match found {
        None => take(key, None),
        Some((leaf, ValueAt::Inline(range))) => {
            take(key, Some(leaf.get(range).unwrap_or_default()))
        }
        Some((_, ValueAt::Run(run))) => take(key, Some(&runs.read_run(&run)?)),
    })
}

fn get_private<'a>(
    pages: &'a TxnPages,
    root: &TreeRoot,
    key: &[u8],
) -> Result<Option<ValueRef<'a>>> {
    let Some(found) = tree::find(pages, root, key)? else {
        return Ok(None);
    };
    Ok(Some(match found.value {
        ValueAt::Run(run) => ValueRef::long(pages.read_run(&run)?, &run),
        ValueAt::Inline(range) => ValueRef::short(found.leaf, range),
    }))
}
