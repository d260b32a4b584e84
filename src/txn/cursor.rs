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

impl FusedIterator for Range<'_> {}
