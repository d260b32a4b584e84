//! Snapshots: one moment of the database, for as long as it is held.

use std::ops::{Bound, Deref, RangeBounds};
use std::sync::Arc;

use super::engine::Engine;
use super::pages::TxnPages;
use super::reader::TreeReader;
use super::state::State;
use crate::checksum;
use crate::format::node::ValueAt;
use crate::format::{PageNumber, PageRef, RunRef, TreeRoot};
use crate::handle::Handle;
use crate::moment::SYSTEM_PREFIX;
use crate::pager::{PageBytes, Pager, PinnedBytes};
use crate::prefetch::prefetch_start;
use crate::tree::{self, Cursor, Found, ValueBytes, pages::ReadPages};
use crate::txn::write::check_not_system;
use crate::{Error, Result};

/// A consistent view of the whole database at one moment.
///
/// It sees every commit that was visible when it was taken and nothing later, for as long as it
/// lives. It never blocks a writer or a checkpoint, and nothing blocks it; what it costs is space:
/// pages that it can see and that newer states no longer use are kept until it is dropped.
///
/// Taking one costs some tens of nanoseconds. Cloning is as cheap.
#[derive(Debug, Clone)]
pub struct Snapshot {
    state: Arc<State>,
    handle: Arc<Handle>,
    taken_ms: u64,
}

impl Snapshot {
    pub(crate) fn new(handle: Arc<Handle>) -> Result<Self> {
        handle.engine.check_open()?;
        // The time first: a key that is renewed in between must not look expired.
        let taken_ms = handle.clock.now_ms();
        let state = handle.engine.log.published();
        Ok(Snapshot {
            state,
            handle,
            taken_ms,
        })
    }

    /// The number of the state that this snapshot sees. It grows with every commit.
    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// The tree of that name.
    ///
    /// # Errors
    /// [`Error::TreeNotFound`] if there was none at this moment.
    pub fn tree(&self, name: &str) -> Result<TreeView<'_>> {
        check_not_system(name)?;
        self.find(name).ok_or_else(|| not_found(name))
    }

    /// A tree of any name, the database's own included.
    pub(crate) fn find(&self, name: &str) -> Option<TreeView<'_>> {
        Some(TreeView {
            source: Source::Shared(&self.handle.engine.pager),
            root: self.state.trees.root(self.state.trees.id(name)?),
        })
    }

    /// The names of all trees, in order.
    pub fn tree_names(&self) -> impl Iterator<Item = &str> {
        let names = self.state.trees.names().map(|(name, _)| name);
        names.filter(|name| !name.starts_with(SYSTEM_PREFIX))
    }

    /// The names of the database's own trees too.
    pub(crate) fn all_tree_names(&self) -> impl Iterator<Item = &str> {
        self.state.trees.names().map(|(name, _)| name)
    }

    pub(crate) fn taken_ms(&self) -> u64 {
        self.taken_ms
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.handle.engine
    }
}

pub(crate) fn not_found(name: &str) -> Error {
    Error::TreeNotFound {
        name: name.to_string(),
    }
}

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
        let pin = crossbeam_epoch::pin();
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
        match self.source {
            Source::Shared(pager) => get_group_shared(pager, &self.root, keys, take),
            Source::Private(pages) => {
                for key in keys {
                    let value = get_private(pages, &self.root, key)?;
                    if !take(key, value.as_deref())? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// For many lookups one after the other, which take less time each than with [`get`](Self::get).
    pub fn reader(&self) -> TreeReader<'a> {
        TreeReader::new(*self)
    }

    /// Whether the key is there.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
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
        match self.source {
            Source::Shared(pager) => copied(pager, tree::first(pager, &self.root)?),
            Source::Private(pages) => copied(pages, tree::first(pages, &self.root)?),
        }
    }

    /// The entry with the highest key.
    pub fn last(&self) -> Result<Option<Entry>> {
        match self.source {
            Source::Shared(pager) => copied(pager, tree::last(pager, &self.root)?),
            Source::Private(pages) => copied(pages, tree::last(pages, &self.root)?),
        }
    }

    /// The entry with exactly `index` entries before it. O(log n).
    pub fn nth(&self, index: u64) -> Result<Option<Entry>> {
        match self.source {
            Source::Shared(pager) => copied(pager, tree::nth(pager, &self.root, index)?),
            Source::Private(pages) => copied(pages, tree::nth(pages, &self.root, index)?),
        }
    }

    /// The entries of a range, from either end.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Range<'a> {
        let (lower, upper) = (as_bytes(range.start_bound()), as_bytes(range.end_bound()));
        Range {
            front: TreeCursor::new(self.source, &self.root, lower, upper),
            back: TreeCursor::new(self.source, &self.root, lower, upper),
            front_started: false,
            back_started: false,
            done: false,
        }
    }

    /// All entries, from either end.
    pub fn iter(&self) -> Range<'a> {
        self.range::<&[u8]>(..)
    }

    /// The entries whose keys begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range<'a> {
        let prefix = prefix.as_ref();
        let upper = match after_prefix(prefix) {
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        self.range((Bound::Included(prefix.to_vec()), upper))
    }

    /// A cursor, for walking back and forth without a copy for each entry.
    pub fn cursor(&self) -> TreeCursor<'a> {
        TreeCursor::new(self.source, &self.root, Bound::Unbounded, Bound::Unbounded)
    }

    /// A cursor that sees only a range of the tree.
    pub fn cursor_in<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> TreeCursor<'a> {
        let (lower, upper) = (as_bytes(range.start_bound()), as_bytes(range.end_bound()));
        TreeCursor::new(self.source, &self.root, lower, upper)
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
    let pin = crossbeam_epoch::pin();
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

fn get_group_shared<'k>(
    pager: &Pager,
    root: &TreeRoot,
    mut keys: impl Iterator<Item = &'k [u8]>,
    mut take: impl FnMut(&[u8], Option<&[u8]>) -> Result<bool>,
) -> Result<bool> {
    let pin = crossbeam_epoch::pin();
    let pages = PinnedPages { pager, pin: &pin };
    let mut group: [&[u8]; tree::GROUP] = [&[]; tree::GROUP];
    loop {
        let mut length = 0;
        for (place, key) in group.iter_mut().zip(&mut keys) {
            *place = key;
            length += 1;
        }
        let keys = group.get(..length).unwrap_or_default();
        let wants_more = tree::find_group(&pages, root, keys, |key, found| match found {
            None => take(key, None),
            Some((leaf, ValueAt::Inline(range))) => {
                take(key, Some(leaf.get(range).unwrap_or_default()))
            }
            Some((_, ValueAt::Run(run))) => take(key, Some(&pager.read_run(&run)?)),
        })?;
        if !wants_more || length < tree::GROUP {
            return Ok(wants_more);
        }
    }
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

/// Pages read under one pin.
pub(super) struct PinnedPages<'g> {
    pub pager: &'g Pager,
    pub pin: &'g crossbeam_epoch::Guard,
}

impl<'g> ReadPages for PinnedPages<'g> {
    type Bytes<'p>
        = PinnedBytes<'g>
    where
        Self: 'p;

    fn page_size(&self) -> u32 {
        self.pager.page_size()
    }

    #[inline]
    fn ask(&self, page: &PageRef) {
        if let Some(entry) = self.pager.known(page.page) {
            prefetch_start(entry);
        }
    }

    #[inline]
    fn ask_for_leaf(&self, branch: PageNumber, slot: usize) {
        self.pager.ask_for_leaf(branch, slot);
    }

    #[inline]
    fn note_leaf(&self, branch: PageNumber, slot: usize, leaf: &[u8]) {
        self.pager.note_leaf(branch, slot, leaf);
    }

    #[inline]
    fn read(&self, page: &PageRef) -> Result<PinnedBytes<'g>> {
        self.pager.read_pinned(page, self.pin)
    }

    fn read_run(&self, run: &RunRef) -> Result<PinnedBytes<'g>> {
        // Values are read through the pager, which gives bytes that outlive the pin.
        let _ = run;
        Ok(PinnedBytes::Mapped(&[]))
    }
}

impl ReadPages for Pager {
    type Bytes<'p> = PageBytes<'p>;

    fn page_size(&self) -> u32 {
        Pager::page_size(self)
    }

    #[inline]
    fn read(&self, page: &PageRef) -> Result<PageBytes<'_>> {
        self.hold(page)
    }

    fn ask(&self, page: &PageRef) {
        self.expect(page.page);
    }

    /// Under a pin: a count of a frame would be a change of memory that all readers share.
    #[inline]
    fn look<R>(&self, page: &PageRef, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let pin = crossbeam_epoch::pin();
        Ok(look(&self.read_pinned(page, &pin)?))
    }

    #[inline]
    fn warm(&self, page: &PageRef, lines: impl FnOnce(&[u8])) {
        let pin = crossbeam_epoch::pin();
        if let Some(bytes) = self.peek(page.page, &pin) {
            lines(&bytes);
        }
    }

    fn read_run(&self, run: &RunRef) -> Result<PageBytes<'_>> {
        Pager::read_run(self, run)
    }
}

/// A value, without a copy. Reads as a byte slice.
#[derive(Debug)]
pub struct ValueRef<'a> {
    bytes: PageBytes<'a>,
    range: std::ops::Range<usize>,
    checksum: Option<u32>,
}

impl<'a> ValueRef<'a> {
    fn long(bytes: PageBytes<'a>, run: &RunRef) -> Self {
        let range = 0..bytes.len();
        ValueRef {
            bytes,
            range,
            checksum: Some(run.checksum),
        }
    }

    fn short(leaf: PageBytes<'a>, range: std::ops::Range<usize>) -> Self {
        ValueRef {
            bytes: leaf,
            range,
            checksum: None,
        }
    }

    /// Its CRC-32C. A long value has one at hand, against which it was checked.
    pub(crate) fn checksum(&self) -> u32 {
        self.checksum.unwrap_or_else(|| checksum::crc32c(self))
    }
}

impl Deref for ValueRef<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

impl AsRef<[u8]> for ValueRef<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for ValueRef<'_> {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

/// A value that lies in an overflow run, and was perhaps not read yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LongValue<'a> {
    pager: &'a Pager,
    run: RunRef,
}

impl LongValue<'_> {
    pub(crate) fn len(&self) -> usize {
        self.run.length_bytes as usize
    }

    /// Its CRC-32C.
    pub(crate) fn checksum(&self) -> u32 {
        self.run.checksum
    }

    /// Whether it was read and checked before. If not, the whole of it is read to copy a part.
    pub(crate) fn is_checked(&self) -> bool {
        self.pager.knows_run(&self.run)
    }

    /// Fills `into` with the bytes from one of them on.
    pub(crate) fn copy(&self, from: usize, into: &mut [u8]) -> Result<()> {
        self.pager.copy_run(&self.run, from, into)
    }

    /// Fills `into`, which is as long as the value, as one of a stream. `before`: how much of what was
    /// written together with it comes before it.
    pub(crate) fn copy_streamed(&self, before: u64, into: &mut [u8]) -> Result<()> {
        self.pager.copy_run_behind(&self.run, Some(before), 0, into)
    }
}

/// A key and its value, as copies.
pub type Entry = (Vec<u8>, Vec<u8>);

#[derive(Debug)]
enum AnyCursor<'a> {
    Shared(Cursor<'a, Pager>),
    Private(Cursor<'a, TxnPages>),
}

macro_rules! either {
    ($self:ident, $cursor:ident => $body:expr) => {
        match &mut $self.inner {
            AnyCursor::Shared($cursor) => $body,
            AnyCursor::Private($cursor) => $body,
        }
    };
}

/// A place in a tree that can be moved. Keys and values are lent, not copied.
///
/// A new cursor stands nowhere; every movement says whether there is an entry at the new place.
/// After an error it stands nowhere.
#[derive(Debug)]
pub struct TreeCursor<'a> {
    inner: AnyCursor<'a>,
    /// The long value that was lent last.
    long: Option<PageBytes<'a>>,
}

impl<'a> TreeCursor<'a> {
    fn new(source: Source<'a>, root: &TreeRoot, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Self {
        let inner = match source {
            Source::Shared(pager) => AnyCursor::Shared(Cursor::between(pager, root, lower, upper)),
            Source::Private(pages) => {
                AnyCursor::Private(Cursor::between(pages, root, lower, upper))
            }
        };
        TreeCursor { inner, long: None }
    }

    /// To the first entry.
    pub fn first(&mut self) -> Result<bool> {
        either!(self, c => c.first())
    }

    /// To the last entry.
    pub fn last(&mut self) -> Result<bool> {
        either!(self, c => c.last())
    }

    /// To the first entry whose key is at least `key`.
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        either!(self, c => c.seek(key.as_ref()))
    }

    /// To the last entry whose key is at most `key`.
    pub fn seek_back(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        either!(self, c => c.seek_for_prev(key.as_ref(), true))
    }

    /// To the entry with exactly `index` entries before it in the tree. O(log n).
    pub fn seek_nth(&mut self, index: u64) -> Result<bool> {
        either!(self, c => c.seek_nth(index))
    }

    /// To the next entry.
    #[inline]
    #[allow(clippy::should_implement_trait)] // it lends, which an Iterator cannot
    pub fn next(&mut self) -> Result<bool> {
        either!(self, c => c.next())
    }

    /// To the entry before.
    pub fn prev(&mut self) -> Result<bool> {
        either!(self, c => c.prev())
    }

    /// The key here; empty if the cursor stands nowhere.
    #[inline]
    pub fn key(&mut self) -> &[u8] {
        either!(self, c => c.key())
    }

    /// The value here; empty if the cursor stands nowhere. A long value is read as a whole.
    #[inline]
    pub fn value(&mut self) -> Result<&[u8]> {
        match either!(self, c => c.value())? {
            ValueBytes::Inline(value) => Ok(value),
            ValueBytes::Run(value) => Ok(self.long.insert(value)),
        }
    }

    /// The length and the CRC-32C of the value here. A long value is not read for it: where it is
    /// says both.
    pub(crate) fn length_and_checksum(&mut self) -> Result<(u64, u32)> {
        if let Some(run) = either!(self, c => c.run()) {
            return Ok((u64::from(run.length_bytes), run.checksum));
        }
        let value = self.value()?;
        Ok((value.len() as u64, checksum::crc32c(value)))
    }

    /// The key and the value here, both empty if the cursor stands nowhere. A long value is read as a
    /// whole.
    #[inline]
    pub fn entry(&mut self) -> Result<(&[u8], &[u8])> {
        let (key, value) = either!(self, c => c.entry().map(|(key, value)| match value {
            ValueBytes::Inline(value) => (key, Ok(value)),
            ValueBytes::Run(value) => (key, Err(value)),
        }))?;
        Ok(match value {
            Ok(value) => (key, value),
            Err(long) => (key, self.long.insert(long)),
        })
    }

    fn copied(&mut self) -> Result<Entry> {
        let (key, value) = self.entry()?;
        Ok((key.to_vec(), value.to_vec()))
    }
}

/// The entries of a range, as copies, in key order; `rev()` walks it backwards.
///
/// After an error it ends.
#[derive(Debug)]
pub struct Range<'a> {
    front: TreeCursor<'a>,
    back: TreeCursor<'a>,
    front_started: bool,
    back_started: bool,
    done: bool,
}

impl Range<'_> {
    fn step_forward(&mut self) -> Result<Option<Entry>> {
        if self.done {
            return Ok(None);
        }
        self.done = true; // unless this step succeeds
        let there = if std::mem::replace(&mut self.front_started, true) {
            self.front.next()?
        } else {
            self.front.first()?
        };
        // Both ends look at one moment, so where they meet is where the range ends.
        let met = self.back_started && self.front.key() >= self.back.key();
        if !there || met {
            return Ok(None);
        }
        let entry = self.front.copied()?;
        self.done = false;
        Ok(Some(entry))
    }

    fn step_back(&mut self) -> Result<Option<Entry>> {
        if self.done {
            return Ok(None);
        }
        self.done = true;
        let there = if std::mem::replace(&mut self.back_started, true) {
            self.back.prev()?
        } else {
            self.back.last()?
        };
        let met = self.front_started && self.back.key() <= self.front.key();
        if !there || met {
            return Ok(None);
        }
        let entry = self.back.copied()?;
        self.done = false;
        Ok(Some(entry))
    }
}

impl Iterator for Range<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step_forward().transpose()
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step_back().transpose()
    }
}
