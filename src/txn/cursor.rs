//! Walks through a tree: a cursor that lends, and a range that copies.

use std::iter::FusedIterator;
use std::ops::Bound;

use super::pages::TxnPages;
use super::view::{Source, TreeView};
use crate::Result;
use crate::checksum;
use crate::pager::{PageBytes, Pager};
use crate::tree::{Cursor, ValueBytes};

/// From where to where.
type Bounds<'k> = (Bound<&'k [u8]>, Bound<&'k [u8]>);

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
    pub(super) fn new(view: &TreeView<'a>, (lower, upper): Bounds<'_>) -> Self {
        let root = &view.root;
        let inner = match view.source {
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

    /// The length of the value here, if it does not lie beside its key. It is not read for it.
    pub(crate) fn long_length(&mut self) -> Option<u64> {
        let run = either!(self, c => c.run())?;
        Some(u64::from(run.length_bytes))
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
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Range<'a> {
    front: TreeCursor<'a>,
    back: TreeCursor<'a>,
    front_started: bool,
    back_started: bool,
    done: bool,
}

impl<'a> Range<'a> {
    pub(super) fn new(view: &TreeView<'a>, bounds: Bounds<'_>) -> Self {
        Range {
            front: TreeCursor::new(view, bounds),
            back: TreeCursor::new(view, bounds),
            front_started: false,
            back_started: false,
            done: false,
        }
    }

    /// The keys alone. Long values are not read.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// db.write(|tx| {
    ///     let mut films = tx.tree("films")?;
    ///     films.put("alien", vec![0; 10_000_000])?;
    ///     films.put("brazil", vec![0; 20_000_000])?;
    ///     let keys: Vec<Vec<u8>> = films.range("b"..).keys().collect::<aurora::Result<_>>()?;
    ///     assert_eq!(keys, [b"brazil"]);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn keys(self) -> Keys<Self> {
        Keys(self)
    }

    fn step_forward<T>(
        &mut self,
        take: impl FnOnce(&mut TreeCursor<'a>) -> Result<T>,
    ) -> Result<Option<T>> {
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
        let taken = take(&mut self.front)?;
        self.done = false;
        Ok(Some(taken))
    }

    fn step_back<T>(
        &mut self,
        take: impl FnOnce(&mut TreeCursor<'a>) -> Result<T>,
    ) -> Result<Option<T>> {
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
        let taken = take(&mut self.back)?;
        self.done = false;
        Ok(Some(taken))
    }
}

impl Iterator for Range<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step_forward(TreeCursor::copied).transpose()
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step_back(TreeCursor::copied).transpose()
    }
}

impl FusedIterator for Range<'_> {}

/// The keys of entries alone, from either end, made by [`Range::keys`] and [`TreeScan::keys`](crate::TreeScan::keys). What
/// is not beside its key, a long value, is not read.
///
/// After an error it ends.
#[derive(Debug)]
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Keys<W>(pub(crate) W);

/// Entries of which the keys can be had without the values.
pub(crate) trait StepKeys {
    fn step_key(&mut self, backwards: bool) -> Result<Option<Vec<u8>>>;
}

impl StepKeys for Range<'_> {
    fn step_key(&mut self, backwards: bool) -> Result<Option<Vec<u8>>> {
        let take = |cursor: &mut TreeCursor<'_>| Ok(cursor.key().to_vec());
        match backwards {
            false => self.step_forward(take),
            true => self.step_back(take),
        }
    }
}

impl<W: StepKeys> Iterator for Keys<W> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step_key(false).transpose()
    }
}

impl<W: StepKeys> DoubleEndedIterator for Keys<W> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.step_key(true).transpose()
    }
}

impl<W: StepKeys> FusedIterator for Keys<W> {}
