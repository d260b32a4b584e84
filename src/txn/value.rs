//! Values without a copy.

use std::ops::Deref;

use crate::Result;
use crate::checksum;
use crate::format::RunRef;
use crate::pager::{PageBytes, Pager};

/// A value, without a copy. Reads as a byte slice.
#[derive(Debug)]
pub struct ValueRef<'a> {
    bytes: PageBytes<'a>,
    range: std::ops::Range<usize>,
    checksum: Option<u32>,
}

impl<'a> ValueRef<'a> {
    pub(super) fn long(bytes: PageBytes<'a>, run: &RunRef) -> Self {
        let range = 0..bytes.len();
        ValueRef {
            bytes,
            range,
            checksum: Some(run.checksum),
        }
    }

    pub(super) fn short(leaf: PageBytes<'a>, range: std::ops::Range<usize>) -> Self {
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
    pub(super) pager: &'a Pager,
    pub(super) run: RunRef,
}

impl<'a> LongValue<'a> {
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

    /// Where it lies.
    pub(crate) fn run(&self) -> RunRef {
        self.run
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

    /// Shows the value in the map, checked. `before` as above. False: it has to be copied.
    pub(crate) fn show(&self, before: u64) -> Result<bool> {
        self.pager.show_run(&self.run, before)
    }

    /// What [`show`](Self::show) has shown.
    pub(crate) fn shown(&self) -> Option<&'a [u8]> {
        self.pager.shown_run(&self.run)
    }

    /// The reader who was shown the value goes on at another, or nowhere.
    pub(crate) fn leave(&self, next: Option<&RunRef>) {
        if !next.is_some_and(|next| self.pager.is_one_stream(&self.run, next)) {
            self.pager.leave_stream(&self.run);
        }
    }
}
