//! The pages of a write transaction: private copies in a slab, which nobody else can see.
//!
//! # Invariants
//!
//! 1. A page whose birth is the present version is private: it was allocated by this transaction
//!    since its last savepoint and is changed in place. Every other page is copied first.
//! 2. Every page number taken from the allocator stands in `allocated` once. At any moment each of
//!    them is in use, waits in `recycled`, or stands in `freed`.
//! 3. A private page beyond the memory budget is written early to its own, unreferenced place and
//!    leaves the slab. Its checksum is in the page table. It comes back when it is changed again.
//!    What `ahead` writes early is the same, but that its bytes may stay in memory. A branch is written
//!    when the checksums of its children are known.
//! 4. A long value that was written straight to its place is never recycled within the
//!    transaction and waits for the next checkpoint when it is freed: the log refers to its pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ahead::Ahead;
use super::arriving::Arriving;
use super::engine::Engine;
use super::reclaim::Retired;
use super::tree_mut::Pieces;
use crate::checksum;
use crate::format::node::Node;
use crate::format::{PageNumber, PageRef, RunRef, Version, page, put_u32, put_u64};
use crate::pager::frame::Unique;
use crate::pager::{Cause, PageBytes, PageSource};
use crate::prefetch::prefetch_start;
use crate::tree::pages::{ReadPages, WritePages};
use crate::{Error, Result};

/// Values from this length on are written straight to their place and logged by reference.
pub(crate) const DIRECT_BYTES: usize = 32 << 10;

/// With so many in the slab, a transaction that commits by checkpoint fills memory that stays.
const MANY_BYTES: usize = 4 << 20;

#[derive(Debug)]
struct Slot {
    page: PageNumber,
    /// Changed since the last spill looked at it.
    touched: bool,
    /// The frame's, here because a look at the frame is a wait for memory.
    birth: Version,
    frame: Unique,
}

/// What a transaction has done to pages so far: what a savepoint remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark {
    allocated: usize,
    freed: usize,
    recycled: Vec<PageNumber>,
}

/// The pages of one transaction.
#[derive(Debug)]
pub(crate) struct TxnPages {
    engine: Arc<Engine>,
    version: Version,
    slab: Vec<Option<Slot>>,
    vacant: Vec<usize>,
    allocated: Vec<(PageNumber, u32)>,
    recycled: Vec<PageNumber>,
    freed: Vec<(PageNumber, u32, Version)>,
    slab_bytes: usize,
    spill_above_bytes: usize,
    can_spill: bool,
    /// Nobody reads what was before it.
    is_alone: bool,
    /// Bytes of long values that were written to their place.
    direct_bytes: u64,
    appends: bool,
    /// The entries that come many at a time do so in the order of their keys.
    is_in_order: bool,
    /// Nothing is allocated at this page or behind it.
    ceiling: PageNumber,
    /// Pages that are written while the transaction goes on, if it has them written.
    ahead: Option<Ahead>,
    /// Leaves that another thread reads for it.
    arriving: Option<Arriving>,
}

/// See [`TxnPages::expect`]. However it ends, nobody waits to hand a leaf over any more.
#[derive(Debug)]
pub(super) struct Expecting<'p>(pub(super) &'p mut TxnPages);

impl Drop for Expecting<'_> {
    fn drop(&mut self) {
        self.0.arriving = None;
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
            slab: Vec::new(),
            vacant: Vec::new(),
            allocated: Vec::new(),
            recycled: Vec::new(),
            freed: Vec::new(),
            slab_bytes: 0,
            spill_above_bytes: budget / 2,
            can_spill,
            is_alone: false,
            direct_bytes: 0,
            appends: false,
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

    /// From now on, leaves that are left behind are written at once: the commit will write all pages
    /// itself.
    pub(crate) fn write_ahead(&mut self) {
        self.ahead.get_or_insert_with(|| Ahead::new(&self.engine));
    }

    /// Says whether the entries that come next, many at a time, do so in the order of their keys.
    pub(crate) fn expect_order(&mut self, is_in_order: bool) {
        self.is_in_order = is_in_order;
    }

    /// Waits for what is written ahead. Before the pages are handed to others.
    pub(crate) fn settle_ahead(&mut self) -> Result<()> {
        self.ahead.as_ref().map_or(Ok(()), Ahead::wait)
    }

    /// Takes filled leaves out of the slab and has them written (`ahead`, invariant 1).
    fn hand_over(&mut self, finished: Vec<PageNumber>) {
        let pin = crossbeam_epoch::pin();
        let mut pages = Vec::with_capacity(finished.len());
        for page in finished {
            // The number may have gone to another page since, or stand under a savepoint. (A branch
            // has to wait for its children: invariant 3.)
            let is_leaf = self.slot(page).is_some_and(|slot| {
                let is_node = slot.birth == self.version && !slot.frame.is_run();
                is_node && page::level(&slot.frame) == 0
            });
            if is_leaf && let Some(slot) = self.drop_slot(page) {
                let cell = &self.engine.pager.entry(page).frame;
                cell.replace(Some(slot.frame.share()), &pin);
                pages.push(page);
            }
        }
        // What leaves the cells meanwhile is to be used again.
        drop(pin);
        let is_streamed = self.appends || self.is_in_order;
        if let Some(ahead) = &mut self.ahead
            && !pages.is_empty()
        {
            if !is_streamed {
                ahead.ready_memory();
            }
            let job = ahead.job(pages, is_streamed);
            self.engine.hand_over(job);
        }
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

    /// Whether values were written straight to their place: they must be synced before a record
    /// that refers to them.
    pub(crate) fn direct_bytes(&self) -> u64 {
        self.direct_bytes
    }

    pub(crate) fn is_direct(run: &RunRef) -> bool {
        run.length_bytes as usize >= DIRECT_BYTES
    }

    /// Protects everything that exists now: from here on it is copied before it changes.
    pub(crate) fn savepoint(&mut self) -> Mark {
        self.version += 1;
        Mark {
            allocated: self.allocated.len(),
            freed: self.freed.len(),
            recycled: self.recycled.clone(),
        }
    }

    /// Forgets everything since the savepoint. What it allocated serves the rest of the
    /// transaction.
    pub(crate) fn roll_back_to(&mut self, mark: &Mark) {
        self.version += 1;
        self.freed.truncate(mark.freed);
        let later: Vec<_> = self
            .allocated
            .split_off(mark.allocated.min(self.allocated.len()));
        self.recycled.clone_from(&mark.recycled);
        // Pages that were recycled before the savepoint and used again after it go back too.
        for page in mark.recycled.clone() {
            self.discard(page);
        }
        for (first, pages) in later {
            for page in first..first.saturating_add(pages) {
                self.discard(page);
                self.recycled.push(page);
                self.allocated.push((page, 1));
            }
        }
    }

    /// Throws away whatever the page number holds.
    fn discard(&mut self, page: PageNumber) {
        if self.drop_slot(page).is_none() {
            self.wait_for_ahead();
        }
        let pin = crossbeam_epoch::pin();
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
        if self.slab_bytes > self.spill_above_bytes {
            self.spill()?;
        }
        if self.slab_bytes > MANY_BYTES
            && let Some(ahead) = &mut self.ahead
        {
            ahead.ready_memory();
        }
        if let Some(page) = self.recycled.pop() {
            return Ok(page);
        }
        let page = self.allocate_below_ceiling(1)?;
        self.allocated.push((page, 1));
        Ok(page)
    }

    /// A private page whose bytes go back to nobody: its number serves the transaction again.
    fn recycle(&mut self, page: PageNumber) {
        self.discard(page);
        self.recycled.push(page);
    }

    /// Until a page that was handed over is nobody else's. (If it could not be written, the commit will
    /// say so.)
    fn wait_for_ahead(&mut self) {
        if let Err(error) = self.settle_ahead() {
            tracing::debug!(%error, "a page could not be written ahead");
        }
    }

    /// Leaves that are about to be changed come from there, while the answer lives.
    pub(super) fn expect(&mut self, arriving: Arriving) -> Expecting<'_> {
        self.arriving = Some(arriving);
        Expecting(self)
    }

    /// Whether the transaction has a copy of its own of the page.
    pub(super) fn is_private(&self, page: PageNumber) -> bool {
        self.slot(page).is_some()
    }

    /// The bytes that only this transaction needs, with no copy. What is alone writes nothing early, so the
    /// page is not private.
    fn take(&mut self, target: &PageRef) -> Result<Option<Unique>> {
        let pager = &self.engine.pager;
        if !self.is_alone || pager.is_at_hand(target.page) {
            return Ok(None);
        }
        let arrived = self.arriving.as_mut();
        match arrived.and_then(|arriving| arriving.next(target.page)) {
            Some(leaf) => Ok(Some(leaf)),
            None => pager.take(target, self.version),
        }
    }

    /// Brings a private page that was written early back into the slab.
    fn reload(&mut self, page: PageNumber) -> Result<()> {
        self.wait_for_ahead();
        let pager = &self.engine.pager;
        let target = PageRef { page, checksum: 0 };
        let frame = pager.read_verified(&target, pager.entry(page), self.version)?;
        self.take_back(page, frame);
        Ok(())
    }

    /// A private page is in the slab again, and nowhere else.
    fn take_back(&mut self, page: PageNumber, frame: Unique) {
        self.wait_for_ahead();
        let pin = crossbeam_epoch::pin();
        self.engine.pager.forget(page, &pin);
        self.put_slot(page, frame);
    }

    /// Writes private pages early, those that were not changed lately first (invariant 3).
    fn spill(&mut self) -> Result<()> {
        if !self.can_spill {
            return Ok(());
        }
        let target = self.spill_above_bytes / 2;
        for ignore_touched in [false, true] {
            for level in 0..=u8::MAX {
                if self.slab_bytes <= target {
                    return Ok(());
                }
                if level > 0 {
                    // Its leaves may be under way (invariant 3).
                    self.wait_for_ahead();
                }
                let pages = self.spillable(level, ignore_touched, self.slab_bytes - target);
                if !pages.is_empty() {
                    let source = SlabSource { pages: self };
                    self.engine.pager.write_pages(
                        &pages,
                        &source,
                        Cause::Spill,
                        &mut |_| Ok(()),
                    )?;
                    for (page, _) in pages {
                        self.drop_slot(page);
                    }
                } else if level > 0 && !self.has_level_from(level) {
                    break;
                }
            }
        }
        Ok(())
    }

    fn has_level_from(&self, level: u8) -> bool {
        let mut slots = self.slab.iter().flatten();
        slots.any(|slot| !slot.frame.is_run() && page::level(&slot.frame) >= level)
    }

    fn spillable(
        &mut self,
        level: u8,
        ignore_touched: bool,
        wanted_bytes: usize,
    ) -> Vec<(PageNumber, bool)> {
        let mut chosen = Vec::new();
        let mut bytes = 0;
        let version = self.version;
        let pager = &self.engine.pager;
        for slot in self.slab.iter_mut().flatten() {
            let slot_level = if slot.frame.is_run() {
                0
            } else {
                page::level(&slot.frame)
            };
            let touched = std::mem::take(&mut slot.touched) && !ignore_touched;
            if slot_level != level || touched || bytes >= wanted_bytes {
                continue;
            }
            // A page from before a savepoint stays: what is born before `version` is not private
            // any more and could not be told from other pages once it has left the slab.
            let ready = slot.birth == version
                && (slot.frame.is_run()
                    || level == 0
                    || Node::new(&slot.frame).children().all(|child| {
                        let entry = pager.known(child.page.page);
                        entry.is_none_or(|entry| entry.slab_index().is_none())
                    }));
            if ready {
                bytes += slot.frame.len();
                chosen.push((slot.page, !slot.frame.is_run()));
            }
        }
        chosen.sort_unstable();
        chosen
    }

    /// The private pages by level, as they have to be written.
    pub(crate) fn levels(&self) -> Levels {
        let mut levels = Levels::new();
        for slot in self.slab.iter().flatten() {
            let is_node = !slot.frame.is_run();
            let level = if is_node { page::level(&slot.frame) } else { 0 };
            levels.entry(level).or_default().push((slot.page, is_node));
        }
        levels.values_mut().for_each(|pages| pages.sort_unstable());
        levels
    }

    /// The private pages' bytes.
    pub(crate) fn source(&self) -> SlabSource<'_> {
        SlabSource { pages: self }
    }

    /// Hands the pages over: frames into the page table, the rest to the caller. The transaction
    /// has none afterwards.
    pub(crate) fn finish(&mut self, death: Version) -> Outcome {
        let pager = &self.engine.pager;
        let pin = crossbeam_epoch::pin();
        let mut outcome = Outcome::default();
        for slot in self.slab.drain(..).flatten() {
            let entry = pager.entry(slot.page);
            outcome.dirty.push((slot.page, slot.frame.len()));
            entry.frame.replace(Some(slot.frame.share()), &pin);
            entry.set_slab_index(None);
        }
        outcome.allocated = std::mem::take(&mut self.allocated);
        outcome.unused = std::mem::take(&mut self.recycled);
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

    /// Numbers of pages that were written straight to the file by a record of the log that is
    /// being replayed.
    pub(crate) fn adopt_run(&mut self, run: &RunRef) {
        let pages = run.pages(self.engine.pager.page_size());
        self.allocated.push((run.first, pages));
    }

    /// Long values side by side. Few writes for all of them took less time than one for each, and what
    /// the system keeps of them in memory is in larger pieces, which are faster to read.
    pub(crate) fn allocate_pieces(&mut self, pieces: &Pieces<'_>) -> Result<Vec<RunRef>> {
        if self.slab_bytes > self.spill_above_bytes {
            self.spill()?;
        }
        let page_size = self.page_size();
        let pages = pieces.bytes.len().div_ceil(page_size as usize);
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        let mut first = self.allocate_below_ceiling(pages)?;
        self.allocated.push((first, pages));
        self.direct_bytes += pieces.bytes.len() as u64;
        self.engine.pager.write_run(first, pieces.bytes)?;
        let chunks = pieces.bytes.chunks(pieces.each).zip(pieces.checksums);
        let run = |(value, checksum): (&[u8], &u32)| {
            let run = RunRef {
                first,
                length_bytes: u32::try_from(value.len()).unwrap_or(u32::MAX),
                checksum: *checksum,
                birth: self.version,
            };
            first += run.pages(page_size);
            run
        };
        Ok(chunks.map(run).collect())
    }

    fn store_run(&mut self, first: PageNumber, value: &[u8]) -> Result<()> {
        if value.len() >= DIRECT_BYTES {
            self.direct_bytes += value.len() as u64;
            let pager = &self.engine.pager;
            if self.can_spill {
                return pager.write_run(first, value);
            }
        }
        self.put_slot(first, Unique::copy_of(value, self.version, true));
        Ok(())
    }
}

impl Drop for TxnPages {
    /// Gives everything back that was not handed over: the transaction never happened.
    fn drop(&mut self) {
        self.wait_for_ahead();
        let pages: Vec<PageNumber> = self.slab.iter().flatten().map(|slot| slot.page).collect();
        for page in pages {
            self.drop_slot(page);
        }
        let allocated = std::mem::take(&mut self.allocated);
        if allocated.is_empty() {
            return;
        }
        let pin = crossbeam_epoch::pin();
        let mut space = self.engine.space.lock();
        for (first, pages) in allocated {
            for page in first..first.saturating_add(pages) {
                self.engine.pager.forget(page, &pin);
            }
            // The bitmap of an allocated page is loaded, so this reads nothing and cannot fail.
            let _ = space.release(&self.engine.pager, first, pages);
        }
    }
}

impl ReadPages for TxnPages {
    type Bytes<'p> = PageBytes<'p>;

    fn page_size(&self) -> u32 {
        self.engine.pager.page_size()
    }

    #[inline]
    fn read(&self, target: &PageRef) -> Result<PageBytes<'_>> {
        match self.slot(target.page) {
            Some(slot) => Ok(PageBytes::Borrowed(&slot.frame)),
            None => self.engine.pager.hold(target),
        }
    }

    #[inline]
    fn ask(&self, page: &PageRef) {
        if let Some(entry) = self.engine.pager.known(page.page) {
            prefetch_start(entry);
        }
    }

    #[inline]
    fn warm(&self, page: &PageRef, lines: impl FnOnce(&[u8])) {
        match self.slot(page.page) {
            Some(slot) => lines(&slot.frame),
            None => self.engine.pager.warm(page, lines),
        }
    }

    fn read_run(&self, run: &RunRef) -> Result<PageBytes<'_>> {
        match self.slot(run.first) {
            Some(slot) => Ok(PageBytes::Borrowed(&slot.frame)),
            None => self.engine.pager.read_run(run),
        }
    }
}

impl WritePages for TxnPages {
    fn version(&self) -> Version {
        self.version
    }

    fn make_private(&mut self, target: &PageRef) -> Result<PageNumber> {
        let version = self.version;
        let (mut copy, birth) = match self.slot_mut(target.page) {
            Some(slot) if slot.birth == version => {
                slot.touched = true;
                return Ok(target.page);
            }
            Some(slot) => (Unique::copy_of(&slot.frame, version, false), slot.birth),
            None => match self.take(target)? {
                Some(bytes) => {
                    let birth = page::birth(&bytes);
                    (bytes, birth)
                }
                None => {
                    let bytes = self.engine.pager.hold(target)?;
                    let birth = page::birth(&bytes);
                    let copy = Unique::copy_of(&bytes, version, false);
                    drop(bytes);
                    if birth == version {
                        self.take_back(target.page, copy);
                        return Ok(target.page);
                    }
                    (copy, birth)
                }
            },
        };
        let page = self.take_page()?;
        put_u32(&mut copy, page::PAGE, page);
        put_u64(&mut copy, page::BIRTH, version);
        self.put_slot(page, copy);
        self.free(target.page, birth);
        if self.is_alone {
            let pager = &self.engine.pager;
            pager
                .cache
                .evict(pager, target.page, &crossbeam_epoch::pin());
        }
        Ok(page)
    }

    #[inline]
    fn private_bytes(&mut self, target: &PageRef) -> Result<(PageNumber, &mut [u8])> {
        let version = self.version;
        // Mostly it is private already, and is looked for only once.
        if let Some(index) = self.find(target.page)
            && let Some(Some(Slot { birth, .. })) = self.slab.get(index)
            && *birth == version
        {
            return Ok((target.page, self.change_slot(index)?));
        }
        let page = self.make_private(target)?;
        Ok((page, self.bytes_mut(page)?))
    }

    #[inline]
    fn bytes_mut(&mut self, page: PageNumber) -> Result<&mut [u8]> {
        let found = match self.find(page) {
            Some(index) => Some(index),
            None => {
                self.reload(page)?;
                self.find(page)
            }
        };
        self.change_slot(found.unwrap_or(usize::MAX))
    }

    fn allocate(&mut self, kind: u8, level: u8) -> Result<PageNumber> {
        let page = self.take_page()?;
        let mut frame = Unique::tagged(self.page_size() as usize, self.version, false);
        page::init(&mut frame, page, self.version, kind, level);
        self.put_slot(page, frame);
        Ok(page)
    }

    fn free(&mut self, page: PageNumber, birth: Version) {
        if birth == self.version {
            self.recycle(page);
        } else {
            self.freed.push((page, 1, birth));
        }
    }

    fn finished(&mut self, leaf: PageNumber) {
        if let Some(leaves) = self.ahead.as_mut().and_then(|ahead| ahead.note(leaf)) {
            self.hand_over(leaves);
        }
    }

    #[inline]
    fn appends(&mut self) -> &mut bool {
        &mut self.appends
    }

    fn allocate_run(&mut self, value: &[u8]) -> Result<RunRef> {
        let run = RunRef {
            first: 0,
            length_bytes: u32::try_from(value.len()).unwrap_or(u32::MAX),
            checksum: checksum::crc32c(value),
            birth: self.version,
        };
        let pages = run.pages(self.page_size());
        if self.slab_bytes > self.spill_above_bytes {
            self.spill()?;
        }
        let first = self.allocate_below_ceiling(pages)?;
        self.allocated.push((first, pages));
        self.store_run(first, value)?;
        Ok(RunRef { first, ..run })
    }

    fn free_run(&mut self, run: &RunRef) {
        let pages = run.pages(self.page_size());
        if Self::is_direct(run) {
            // Pinned by the durable checkpoint, though it does not hold it (invariant 4).
            let checkpoint = self.engine.checkpoint_version.load(Ordering::Acquire);
            self.freed
                .push((run.first, pages, run.birth.min(checkpoint)));
        } else if run.birth == self.version {
            self.discard(run.first);
            self.recycled
                .extend(run.first..run.first.saturating_add(pages));
        } else {
            self.freed.push((run.first, pages, run.birth));
        }
    }
}

/// See [`TxnPages::source`].
pub(crate) struct SlabSource<'a> {
    pages: &'a TxnPages,
}

impl PageSource for SlabSource<'_> {
    fn with_bytes(&self, page: PageNumber, then: &mut dyn FnMut(&[u8])) -> Result<()> {
        match self.pages.slot(page) {
            Some(slot) => {
                then(&slot.frame);
                Ok(())
            }
            None => Err(Error::TransactionFailed),
        }
    }
}

/// Dirty pages by level, so that children are written before their parents. Runs come first.
pub(crate) type Levels = BTreeMap<u8, Vec<(PageNumber, bool)>>;
