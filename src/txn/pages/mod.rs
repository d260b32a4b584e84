//! The pages of a write transaction: private copies in a slab, which nobody else can see.
//!
//! # Invariants
//!
//! 1. A page that was born at `floor` or later is private: it was allocated by this transaction since the last savepoint
//!    that can be gone back to, and is changed in place. Every other page is copied first.
//! 2. Every page number taken from the allocator stands in `allocated` once. At any moment each of
//!    them is in use, waits in `recycled`, or stands in `freed`.
//! 3. A private page beyond the memory budget is written early to its own, unreferenced place and
//!    leaves the slab. Its checksum is in the page table. It comes back when it is changed again,
//!    others making room for it. Whoever changes a page has what leads to it changed after that, so that a branch which
//!    left meanwhile comes back, too, and is written again.
//!    What `ahead` writes early is the same, but that its bytes may stay in memory. A branch is written
//!    when the checksums of all its children are known, those of earlier commits too.
//! 4. A long value that was written straight to its place is never recycled within the
//!    transaction and waits for the next checkpoint when it is freed: the log refers to its pages.

mod access;
mod early;
mod recycled;
mod runs;

use std::fmt;
use std::sync::Arc;

use super::ahead::Ahead;
use super::arriving::Arriving;
use super::engine::Engine;
use super::reclaim::Retired;
use crate::format::{PageNumber, Version, page};
use crate::pager::frame::Unique;
use crate::tree::pages::Ends;
use crate::{Error, Result};

pub(crate) use self::early::Levels;
use self::recycled::{Recycled, RecycledMark};
pub(crate) use self::runs::DIRECT_BYTES;

/// With so many in the slab, a transaction that commits by checkpoint fills memory that stays.
const MANY_BYTES: usize = 4 << 20;

#[derive(Debug)]
struct Slot {
    page: PageNumber,
    /// Changed since the last spill looked at it.
    touched: bool,
    /// The frame's, here because a look at the frame is a wait for memory.
    birth: Version,
    is_run: bool,
    /// That of the node, which it keeps; 0 for a long value.
    level: u8,
    frame: Unique,
}

/// What a transaction has done to pages so far: what a savepoint remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark {
    allocated: usize,
    freed: usize,
    recycled: RecycledMark,
    /// That of before.
    floor: Version,
}

/// The pages of one transaction.
pub(crate) struct TxnPages {
    engine: Arc<Engine>,
    version: Version,
    /// Invariant 1.
    floor: Version,
    slab: Vec<Option<Slot>>,
    vacant: Vec<usize>,
    allocated: Vec<(PageNumber, u32)>,
    recycled: Recycled,
    freed: Vec<(PageNumber, u32, Version)>,
    slab_bytes: usize,
    spill_above_bytes: usize,
    /// What is left in the slab cannot be written: the next try is above this.
    spill_again_bytes: usize,
    /// What the floor was at the last try.
    spilled_from: Version,
    can_spill: bool,
    /// Nobody reads what was before it.
    is_alone: bool,
    /// Bytes of long values that were written to their place.
    direct_bytes: u64,
    ends: Ends,
    /// The entries that come many at a time do so in the order of their keys.
    is_in_order: bool,
    /// Nothing is allocated at this page or behind it.
    ceiling: PageNumber,
    /// Pages that are written while the transaction goes on, if it has them written.
    ahead: Option<Ahead>,
    /// Leaves that another thread reads for it.
    arriving: Option<Arriving>,
}

/// Without what is in it: a program that prints its handle would print the data, megabytes of it.
impl fmt::Debug for TxnPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TxnPages");
        shown
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What a finished transaction hands over.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub allocated: Vec<(PageNumber, u32)>,
    /// Allocated, and not used in the end.
    pub unused: Vec<PageNumber>,
    pub freed: Vec<Retired>,
    /// Pages that are in frames and not in the file: number and length.
    pub dirty: Vec<(PageNumber, usize)>,
}

impl TxnPages {
    pub(crate) fn new(engine: Arc<Engine>, version: Version, can_spill: bool) -> Self {
        let budget = engine.pager.cache.budget_bytes();
        TxnPages {
            engine,
            version,
            floor: version,
            slab: Vec::new(),
            vacant: Vec::new(),
            allocated: Vec::new(),
            recycled: Recycled::default(),
            freed: Vec::new(),
            slab_bytes: 0,
            spill_above_bytes: budget / 2,
            spill_again_bytes: 0,
            spilled_from: version,
            can_spill,
            is_alone: false,
            direct_bytes: 0,
            ends: Ends::default(),
            is_in_order: false,
            ceiling: PageNumber::MAX,
            ahead: None,
            arriving: None,
        }
    }

    /// Says that nobody reads what was before the transaction, which does not write pages early: a page that it has copied leaves memory,
    /// which the next one takes. (With 15 MiB of log on 10 GiB an open took 298 ms, and 577 without.)
    pub(crate) fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    /// Makes allocations fail with [`Error::FileFull`] rather than reach page `ceiling`: for a
    /// transaction that must not make the file larger.
    pub(crate) fn confine(&mut self, ceiling: PageNumber) {
        self.ceiling = ceiling;
    }

    fn allocate_below_ceiling(&self, pages: u32) -> Result<PageNumber> {
        let pager = &self.engine.pager;
        let mut space = self.engine.space.lock();
        let first = space.allocate_run(pager, pages)?;
        if first.saturating_add(pages) > self.ceiling {
            space.release(pager, first, pages)?;
            return Err(Error::FileFull {
                pages: u64::from(self.ceiling),
            });
        }
        Ok(first)
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn is_unchanged(&self) -> bool {
        self.allocated.is_empty() && self.freed.is_empty()
    }

    /// Protects everything that exists now: from here on it is copied before it changes.
    pub(crate) fn savepoint(&mut self) -> Mark {
        let mark = Mark {
            allocated: self.allocated.len(),
            freed: self.freed.len(),
            recycled: self.recycled.mark(),
            floor: self.floor,
        };
        self.begin_part();
        mark
    }

    fn begin_part(&mut self) {
        self.version += 1;
        self.floor = self.version;
    }

    /// Nobody goes back to the newest savepoint any more, or to any behind this one: what came of pages of this transaction
    /// since the one before is private again, and places that only they kept serve it again. (A transaction with a savepoint
    /// for each of its rows kept a page or more for each of them, and had them written at its end.)
    pub(crate) fn release(&mut self, mark: &Mark) {
        self.floor = mark.floor;
        self.recycled.release(&mark.recycled);
        let since = self.freed.split_off(mark.freed.min(self.freed.len()));
        for (first, pages, birth) in since {
            if birth < self.floor {
                self.freed.push((first, pages, birth));
            } else {
                self.discard(first);
                self.recycled.give(first, pages);
            }
        }
    }

    /// After that: what a savepoint kept in memory may leave it. (Where there is one whenever something is changed, now is
    /// the time.)
    pub(crate) fn spill_released(&mut self) -> Result<()> {
        if self.floor < self.spilled_from {
            self.spill_again_bytes = 0;
        }
        self.spill_if_due()
    }

    /// Forgets everything since the savepoint. What it allocated is free again, for everyone: no record names the place
    /// of a long value any more, which would not serve this transaction again (invariant 4).
    ///
    /// # Errors
    /// It is done all the same: what could not be written ahead before, and was not undone, is here again.
    pub(crate) fn roll_back_to(&mut self, mark: &Mark) -> Result<()> {
        self.begin_part();
        self.spill_again_bytes = 0;
        self.freed.truncate(mark.freed);
        // Pages that were recycled before the savepoint and used again after it go back too.
        let again = self.recycled.go_back_to(&mark.recycled);
        let kept = mark.allocated.min(self.allocated.len());
        let later = self.allocated.split_off(kept);
        for (first, pages) in again.iter().chain(&later) {
            for page in *first..first.saturating_add(*pages) {
                self.discard(page);
            }
        }
        // What could not be written ahead and was not undone is tried again. It is known by its page numbers, so before
        // others can be given those that go back: a checkpoint's own page would be taken for one of them.
        let settled = self.settle_ahead();
        self.give_back(later);
        settled
    }

    /// Gives up places that nobody else has seen.
    fn give_back(&self, places: Vec<(PageNumber, u32)>) {
        if places.is_empty() {
            return;
        }
        let pin = crate::pager::pin();
        let mut space = self.engine.space.lock();
        for (first, pages) in places {
            for page in first..first.saturating_add(pages) {
                self.engine.pager.forget(page, &pin);
            }
            // The bitmap of an allocated page is loaded, so this reads nothing and cannot fail.
            let _ = space.release(&self.engine.pager, first, pages);
        }
    }

    /// Throws away whatever the page number holds.
    fn discard(&mut self, page: PageNumber) {
        if self.drop_slot(page).is_none() {
            self.wait_for_ahead();
        }
        let pin = crate::pager::pin();
        self.engine.pager.forget(page, &pin);
    }

    /// Where the page is in the slab. (An index, so that what is found can be changed without
    /// looking for it again.)
    #[inline]
    fn find(&self, page: PageNumber) -> Option<usize> {
        let index = self.engine.pager.known(page)?.slab_index()?;
        let slot = self.slab.get(index)?.as_ref()?;
        (slot.page == page).then_some(index)
    }

    #[inline]
    fn slot(&self, page: PageNumber) -> Option<&Slot> {
        self.slab.get(self.find(page)?)?.as_ref()
    }

    #[inline]
    fn slot_mut(&mut self, page: PageNumber) -> Option<&mut Slot> {
        let index = self.find(page)?;
        self.slab.get_mut(index)?.as_mut()
    }

    #[inline]
    fn change_slot(&mut self, index: usize) -> Result<&mut [u8]> {
        match self.slab.get_mut(index) {
            Some(Some(slot)) if slot.is_run => Err(self.engine.pager.not_a_node(slot.page)),
            Some(Some(slot)) => {
                slot.touched = true;
                Ok(&mut slot.frame)
            }
            _ => Err(Error::TransactionFailed),
        }
    }

    fn put_slot(&mut self, page: PageNumber, frame: Unique) {
        self.slab_bytes += frame.len();
        let slot = Some(Slot {
            page,
            touched: true,
            birth: frame.birth(),
            is_run: frame.is_run(),
            level: if frame.is_run() {
                0
            } else {
                page::level(&frame)
            },
            frame,
        });
        let index = match self.vacant.pop() {
            Some(index) => index,
            None => {
                self.slab.push(None);
                self.slab.len() - 1
            }
        };
        if let Some(place) = self.slab.get_mut(index) {
            *place = slot;
        }
        self.engine.pager.entry(page).set_slab_index(Some(index));
    }

    fn drop_slot(&mut self, page: PageNumber) -> Option<Slot> {
        let entry = self.engine.pager.known(page)?;
        let index = entry.slab_index()?;
        let slot = self.slab.get_mut(index)?.take()?;
        self.slab_bytes -= slot.frame.len();
        self.vacant.push(index);
        entry.set_slab_index(None);
        Some(slot)
    }

    fn take_page(&mut self) -> Result<PageNumber> {
        self.spill_if_due()?;
        if self.slab_bytes > MANY_BYTES
            && let Some(ahead) = &mut self.ahead
        {
            ahead.ready_memory();
        }
        if let Some(page) = self.recycled.take(1) {
            return Ok(page);
        }
        let page = self.allocate_below_ceiling(1)?;
        self.allocated.push((page, 1));
        Ok(page)
    }

    /// A private page whose bytes go back to nobody: its number serves the transaction again.
    fn recycle(&mut self, page: PageNumber) {
        self.discard(page);
        self.recycled.give(page, 1);
    }

    /// Hands the pages over: frames into the page table, the rest to the caller. The transaction
    /// has none afterwards.
    pub(crate) fn finish(&mut self, death: Version) -> Outcome {
        let pager = &self.engine.pager;
        let pin = crate::pager::pin();
        let mut outcome = Outcome::default();
        for slot in self.slab.drain(..).flatten() {
            let entry = pager.entry(slot.page);
            outcome.dirty.push((slot.page, slot.frame.len()));
            entry.set_run_frame(slot.is_run);
            entry.frame.replace(Some(slot.frame.share()), &pin);
            entry.set_slab_index(None);
        }
        outcome.allocated = std::mem::take(&mut self.allocated);
        outcome.unused = self.recycled.drain();
        outcome.freed = std::mem::take(&mut self.freed)
            .into_iter()
            .map(|(first, pages, birth)| Retired {
                first,
                pages,
                birth,
                death,
            })
            .collect();
        self.vacant.clear();
        self.slab_bytes = 0;
        outcome
    }
}

impl Drop for TxnPages {
    /// Gives everything back that was not handed over: the transaction never happened.
    fn drop(&mut self) {
        if self.engine.check_origin().is_err() {
            return; // in a child of a fork nobody writes ahead, and locks may be held by threads that are not here
        }
        self.wait_for_ahead();
        let pages: Vec<PageNumber> = self.slab.iter().flatten().map(|slot| slot.page).collect();
        for page in pages {
            self.drop_slot(page);
        }
        let allocated = std::mem::take(&mut self.allocated);
        self.give_back(allocated);
    }
}
