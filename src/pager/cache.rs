//! The page cache: clean frames, kept while they fit the memory budget.
//!
//! # Invariants
//!
//! 1. Only clean frames count here and only they are dropped; a page whose frame is dropped is
//!    verified again when it is next touched.
//! 2. A frame is dropped with compare-and-exchange against the pointer that was seen clean, under
//!    a pin: a page number that started a new life in between keeps its new frame.
//! 3. The clock hand gives a frame that was used since its last visit one more turn.
//! 4. The clock has at most about two entries for each frame that there is, or was when it was last put in order, however
//!    many pages had a life. To put it in order goes through all of it: that is done only when as many entries have come in
//!    as were left the last time, whatever lengths the frames have.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::sync::Mutex;

use super::Pager;
use crate::format::PageNumber;

/// Entries that a small cache may have beyond invariant 4.
const SPARE_ENTRIES: usize = 1024;

/// Below this no memory is made ready for what is read: a small program takes no more than it uses.
const SMALL_BYTES: usize = 256 << 10;
/// Below this fresh memory is as good as the map, where a first touch takes as long (the first 500 random reads after opening
/// took a quarter longer from the map); meanwhile some is made ready.
const FEW_BYTES: usize = 2 << 20;

/// Hits are not counted: a shared counter would cost more than the hit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CacheCounters {
    pub misses: u64,
    pub evictions: u64,
    pub clean_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Cache {
    budget_bytes: usize,
    /// What clean frames use.
    clean_bytes: AtomicUsize,
    /// What frames use that are not written yet, a part of the same budget.
    dirty_bytes: AtomicUsize,
    clock: Mutex<Clock>,
    misses: AtomicU64,
    evictions: AtomicU64,
}

/// Pages in the order in which the hand comes to them.
#[derive(Debug, Default)]
struct Clock {
    pages: VecDeque<PageNumber>,
    /// So many were left when it was last put in order.
    tidied: usize,
    /// So many were gone through for that.
    #[cfg(test)]
    looked_at: u64,
}

impl Cache {
    pub(super) fn new(budget_bytes: usize) -> Self {
        Cache {
            budget_bytes,
            clean_bytes: AtomicUsize::new(0),
            dirty_bytes: AtomicUsize::new(0),
            clock: Mutex::new(Clock::default()),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    pub(crate) fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }

    pub(crate) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn add_dirty(&self, bytes: usize) {
        self.dirty_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub_dirty(&self, bytes: usize) {
        let _ = self
            .dirty_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                Some(now.saturating_sub(bytes))
            });
    }

    pub(super) fn count_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counters(&self) -> CacheCounters {
        CacheCounters {
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            clean_bytes: self.clean_bytes.load(Ordering::Relaxed) as u64,
        }
    }

    /// A clean frame was put into the page's cell. Drops others if the budget is passed.
    pub(crate) fn admit(&self, pager: &Pager, page: PageNumber, bytes: usize) {
        self.clean_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut clock = self.clock.lock();
        clock.pages.push_back(page);
        let pin = crate::pager::pin();
        // As many as there are if all are as long as this one, which long values among pages are not.
        let alike = self.clean_bytes.load(Ordering::Relaxed) / bytes.max(1);
        if clock.pages.len() > 2 * alike.max(clock.tidied) + SPARE_ENTRIES {
            clock.tidy(pager, &pin);
        }
        // Two rounds at the most: after the first every frame has lost its mark.
        let mut turns = 2 * clock.pages.len();
        while turns > 0 && self.is_over_budget() {
            turns -= 1;
            let Some(page) = clock.pages.pop_front() else {
                break;
            };
            self.visit(pager, page, &mut clock.pages, &pin);
        }
    }

    /// Whether a frame of so many bytes can be kept without dropping another.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let used = self.clean_bytes.load(Ordering::Relaxed) + self.dirty_bytes();
        used + bytes <= self.budget_bytes
    }

    /// Whether so little is kept that no memory should be made ready for more.
    pub(super) fn is_small(&self) -> bool {
        self.clean_bytes.load(Ordering::Relaxed) < SMALL_BYTES
    }

    /// Whether so little is kept that fresh memory will do for more.
    pub(super) fn has_few(&self) -> bool {
        self.clean_bytes.load(Ordering::Relaxed) < FEW_BYTES
    }

    fn is_over_budget(&self) -> bool {
        let dirty = self.dirty_bytes().min(self.budget_bytes / 2);
        self.clean_bytes.load(Ordering::Relaxed) + dirty > self.budget_bytes
    }

    fn visit(
        &self,
        pager: &Pager,
        page: PageNumber,
        clock: &mut VecDeque<PageNumber>,
        pin: &crate::pager::Pin,
    ) {
        let entry = pager.entry(page);
        // An empty cell or a dirty frame: the page number has a new life, with an entry in the
        // clock of its own once it is clean.
        let Some(frame) = entry.frame.load(pin).filter(|frame| frame.is_clean()) else {
            return;
        };
        if entry.take_touched() {
            clock.push_back(page);
        } else if entry.frame.clear_if(frame, pin) {
            self.forget(frame.bytes().len());
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Drops the frame of a page that the newest state does not use, if it is clean. Whoever sees
    /// an older state reads it from the file again.
    pub(crate) fn evict(&self, pager: &Pager, page: PageNumber, pin: &crate::pager::Pin) {
        if let Some(entry) = pager.known(page)
            && let Some(frame) = entry.frame.load(pin).filter(|frame| frame.is_clean())
            && entry.frame.clear_if(frame, pin)
        {
            self.forget(frame.bytes().len());
        }
    }

    /// Drops the frames of pages that have just been written, and do not become part of the cache.
    pub(crate) fn pass_by(&self, pager: &Pager, pages: impl Iterator<Item = PageNumber>) {
        let pin = crate::pager::pin();
        for entry in pages.filter_map(|page| pager.known(page)) {
            if let Some(frame) = entry.frame.load(&pin) {
                frame.set_clean();
                entry.frame.clear_if(frame, &pin);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn clock_entries(&self) -> usize {
        self.clock.lock().pages.len()
    }

    /// How many entries the clock has gone through to be put in order.
    #[cfg(test)]
    pub(crate) fn clock_looks(&self) -> u64 {
        self.clock.lock().looked_at
    }

    /// A clean frame left its cell.
    pub(crate) fn forget(&self, bytes: usize) {
        let _ = self
            .clean_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                Some(now.saturating_sub(bytes))
            });
    }
}

impl Clock {
    /// Invariant 4. Pages whose frame is gone are met by the hand only when memory is short.
    fn tidy(&mut self, pager: &Pager, pin: &crate::pager::Pin) {
        #[cfg(test)]
        {
            self.looked_at += self.pages.len() as u64;
        }
        let mut known = HashSet::new();
        let mut is_kept = |page: &PageNumber| {
            let frame = pager.entry(*page).frame.load(pin);
            frame.is_some_and(|frame| frame.is_clean()) && known.insert(*page)
        };
        // From the newest on, which is the place that a page has in the order.
        let kept = self.pages.drain(..).rev().filter(&mut is_kept);
        let mut kept: VecDeque<PageNumber> = kept.collect();
        kept.make_contiguous().reverse();
        self.tidied = kept.len();
        self.pages = kept;
    }
}
