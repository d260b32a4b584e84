//! The page table: for every page number, its frame in memory and what is known of its bytes.
//!
//! # Invariants
//!
//! 1. Entries never move, so a reader needs no lock: the table grows by whole buckets, the first ones each twice
//!    as large as the one before.
//! 2. A known checksum is that of the bytes last written to the page's place. It goes before the
//!    one in the parent's reference, which may be older: a parent in memory is not changed when
//!    its child is written.
//! 3. `VERIFIED` is set only after the bytes in the file were read, matched their checksum and were found to be a node;
//!    `RUN_VERIFIED` after those of a long value matched theirs. Both are cleared before they change. (A file that was made
//!    to do harm can name one page as both.)
//! 4. `RUN_FRAME` is set before a frame that holds a long value is in the cell, so whoever finds that frame and looks at the
//!    mark then knows it from a node. (As above: no file that a writer made leads to it.)

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::frame::FrameCell;
use super::zeroed::zeroed;
use crate::format::PageNumber;

const CHECKSUM_MASK: u64 = 0xffff_ffff;
const VERIFIED: u64 = 1 << 32;
/// The page stands in the list of dirty pages (so that it is not put there twice).
const LISTED: u64 = 1 << 33;
/// The page's frame was used since the clock of the cache last came by. Here and not in the frame,
/// because a reader has this line at hand.
const TOUCHED: u64 = 1 << 34;
const RUN_VERIFIED: u64 = 1 << 35;
/// The frame holds a long value.
const RUN_FRAME: u64 = 1 << 36;
/// Index + 1 of the page in the slab of the transaction that owns it.
const SLAB_SHIFT: u32 = 37;
const SLAB_MASK: u64 = !0 << SLAB_SHIFT;

/// What is known of one page.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub frame: FrameCell,
    meta: AtomicU64,
}

impl Entry {
    /// Whether the page is known to be a node.
    #[inline]
    pub(crate) fn is_verified(&self) -> bool {
        self.meta.load(Ordering::Acquire) & VERIFIED != 0
    }

    pub(crate) fn set_verified(&self) {
        self.meta.fetch_or(VERIFIED, Ordering::Release);
    }

    /// Whether a long value that begins here is known to match its checksum.
    #[inline]
    pub(crate) fn is_run_verified(&self) -> bool {
        self.meta.load(Ordering::Acquire) & RUN_VERIFIED != 0
    }

    pub(crate) fn set_run_verified(&self) {
        self.meta.fetch_or(RUN_VERIFIED, Ordering::Release);
    }

    /// The checksum of the bytes last written by this process, if any were.
    #[inline]
    pub(crate) fn checksum(&self) -> Option<u32> {
        let checksum = (self.meta.load(Ordering::Acquire) & CHECKSUM_MASK) as u32;
        (checksum != 0).then_some(checksum)
    }

    /// The bytes with this checksum are being written: what was verified before is gone.
    pub(crate) fn set_checksum(&self, checksum: u32) {
        self.update(|meta| {
            (meta & !(CHECKSUM_MASK | VERIFIED | RUN_VERIFIED)) | u64::from(checksum)
        });
    }

    /// Where the page is in its transaction's slab.
    #[inline]
    pub(crate) fn slab_index(&self) -> Option<usize> {
        let index = self.meta.load(Ordering::Relaxed) >> SLAB_SHIFT;
        index.checked_sub(1).map(|index| index as usize)
    }

    /// For who has the page to themselves, and alone asks for it.
    pub(crate) fn set_slab_index(&self, index: Option<usize>) {
        // In two steps that do not look first (see `occupy`).
        self.meta.fetch_and(!SLAB_MASK, Ordering::Relaxed);
        if let Some(index) = index {
            let bits = (index as u64 + 1) << SLAB_SHIFT;
            self.meta.fetch_or(bits, Ordering::Relaxed);
        }
    }

    /// Remembers for eviction that the frame was used.
    #[inline]
    pub(crate) fn touch(&self) {
        self.touch_node();
    }

    /// The same. False if the frame holds a long value (invariant 4).
    #[inline]
    pub(crate) fn touch_node(&self) -> bool {
        let meta = self.meta.load(Ordering::Relaxed);
        // Read first: the line of a hot page stays shared between the cores.
        if meta & TOUCHED == 0 {
            self.meta.fetch_or(TOUCHED, Ordering::Relaxed);
        }
        meta & RUN_FRAME == 0
    }

    /// What the next frame in the cell holds.
    pub(crate) fn set_run_frame(&self, is_run: bool) {
        let is_set = self.meta.load(Ordering::Relaxed) & RUN_FRAME != 0;
        // Set or cleared, not turned over: two readers of the same value may both be here.
        if is_run && !is_set {
            self.meta.fetch_or(RUN_FRAME, Ordering::Release);
        } else if is_set && !is_run {
            self.meta.fetch_and(!RUN_FRAME, Ordering::Release);
        }
    }

    /// Whether the frame in the cell holds a long value.
    pub(crate) fn is_run_frame(&self) -> bool {
        self.meta.load(Ordering::Acquire) & RUN_FRAME != 0
    }

    /// Changes the entry for the sake of its memory: what is read before it is written to is given by the
    /// system twice, the second time with an interrupt of every processor.
    pub(crate) fn occupy(&self) {
        self.meta.fetch_or(TOUCHED, Ordering::Relaxed);
    }

    /// Whether it was used since the last call.
    pub(crate) fn take_touched(&self) -> bool {
        self.meta.fetch_and(!TOUCHED, Ordering::Relaxed) & TOUCHED != 0
    }

    /// Sets the mark and says whether it was new.
    pub(crate) fn set_listed(&self) -> bool {
        self.meta.fetch_or(LISTED, Ordering::Relaxed) & LISTED == 0
    }

    pub(crate) fn clear_listed(&self) {
        self.meta.fetch_and(!LISTED, Ordering::Relaxed);
    }

    /// The page number starts a new life. Only the mark of the dirty list stays.
    pub(crate) fn reset(&self, pin: &crate::pager::Pin) {
        self.frame.replace(None, pin);
        self.meta.fetch_and(LISTED, Ordering::Release);
    }

    fn update(&self, change: impl Fn(u64) -> u64) {
        // `Err` only if the closure gives up, which it does not.
        let _ = self
            .meta
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |meta| {
                Some(change(meta))
            });
    }
}

const FIRST_BUCKET_LOG2: u32 = 6;
/// From there on buckets are of one size, 64 MiB: one twice as long as all before would be 32 GiB at last, which not every
/// system gives, used or not.
const LAST_BUCKET_LOG2: u32 = 22;
const GROWING: usize = (LAST_BUCKET_LOG2 - FIRST_BUCKET_LOG2) as usize;
const BUCKETS: usize = GROWING + (1 << (32 - LAST_BUCKET_LOG2));

/// All entries, in buckets of 64, 64, 128, 256, ... of them.
#[derive(Debug)]
pub(crate) struct PageTable {
    buckets: [Bucket; GROWING + 1],
    /// The others, which few files have.
    more: OnceLock<Box<[Bucket]>>,
}

type Bucket = OnceLock<Box<[Entry]>>;

impl PageTable {
    pub(crate) fn new() -> Self {
        PageTable {
            buckets: [const { OnceLock::new() }; GROWING + 1],
            more: OnceLock::new(),
        }
    }

    /// The entry of a page, if something is known of any page near it. Takes no memory: for page
    /// numbers that nobody has checked.
    #[inline]
    pub(crate) fn known(&self, page: PageNumber) -> Option<&Entry> {
        let (bucket, index, _) = place(page);
        let bucket = match self.buckets.get(bucket) {
            Some(bucket) => bucket,
            None => self.more.get()?.get(bucket - self.buckets.len())?,
        };
        bucket.get()?.get(index)
    }

    /// The entry of a page. 16 bytes each, which take real memory only where they are used.
    #[inline]
    pub(crate) fn entry(&self, page: PageNumber) -> &Entry {
        let (bucket, index, length) = place(page);
        let bucket = match self.buckets.get(bucket) {
            Some(bucket) => bucket,
            None => &self.more()[bucket - self.buckets.len()],
        };
        &bucket.get_or_init(|| zeroed(length))[index]
    }

    #[cold]
    fn more(&self) -> &[Bucket] {
        let make = || (self.buckets.len()..BUCKETS).map(|_| OnceLock::new());
        self.more.get_or_init(|| make().collect())
    }
}

/// Bucket, index in it, and its length. Bucket 0 holds pages 0 to 63, bucket k those from
/// 2^(k+5) to 2^(k+6) - 1, up to page 2^22; from there each holds 2^22. So the index is always inside.
#[inline]
fn place(page: PageNumber) -> (usize, usize, usize) {
    let log2 = (page | 1).ilog2();
    if log2 >= LAST_BUCKET_LOG2 {
        let length = 1usize << LAST_BUCKET_LOG2;
        let bucket = GROWING + (page >> LAST_BUCKET_LOG2) as usize;
        return (bucket, page as usize & (length - 1), length);
    }
    if log2 < FIRST_BUCKET_LOG2 {
        return (0, page as usize, 1 << FIRST_BUCKET_LOG2);
    }
    let length = 1usize << log2;
    let bucket = (log2 - FIRST_BUCKET_LOG2 + 1) as usize;
    (bucket, page as usize - length, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_its_own_place() {
        let mut expected = (0, 0);
        for page in 0..5000 {
            let (bucket, index, length) = place(page);
            assert!(index < length);
            assert_eq!((bucket, index), expected, "page {page}");
            expected = if index + 1 == length {
                (bucket + 1, 0)
            } else {
                (bucket, index + 1)
            };
        }
        for page in [1 << 22, 3 << 22, 1 << 31] {
            let (bucket, index, length) = place(page - 1);
            assert_eq!(index, length - 1);
            assert_eq!(place(page), (bucket + 1, 0, 1 << 22));
        }
        assert_eq!(
            place(PageNumber::MAX),
            (BUCKETS - 1, (1 << 22) - 1, 1 << 22)
        );
    }

    #[test]
    fn the_parts_of_an_entry_do_not_touch_each_other() {
        let table = PageTable::new();
        let entry = table.entry(70);
        entry.set_checksum(0xdead_beef);
        entry.set_slab_index(Some(3));
        entry.set_verified();
        assert!(entry.set_listed());
        assert!(!entry.set_listed());
        assert_eq!(entry.checksum(), Some(0xdead_beef));
        assert_eq!(entry.slab_index(), Some(3));
        entry.set_checksum(7);
        assert!(!entry.is_verified());
        entry.set_slab_index(None);
        assert_eq!(entry.slab_index(), None);
        assert_eq!(entry.checksum(), Some(7));
        entry.reset(&crate::pager::pin());
        assert_eq!(entry.checksum(), None);
        assert!(!entry.set_listed());
    }

    /// Two readers who are the first to read the same long value.
    #[test]
    fn threads_that_say_the_same_of_a_frame_agree() {
        const ENTRIES: PageNumber = 400_000;
        const AT_ONCE: PageNumber = 2000;
        let table = PageTable::new();
        let both = std::sync::Barrier::new(2);
        let mark_all = || {
            for start in (0..ENTRIES).step_by(AT_ONCE as usize) {
                both.wait();
                (start..start + AT_ONCE).for_each(|page| table.entry(page).set_run_frame(true));
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(mark_all);
            scope.spawn(mark_all);
        });
        let wrong = (0..ENTRIES).filter(|page| !table.entry(*page).is_run_frame());
        assert_eq!(wrong.count(), 0);
    }
}
