//! What the tree needs of a transaction's pages: to read them, and private copies to change.

use std::sync::atomic::Ordering;

use super::{Slot, TxnPages};
use crate::Result;
use crate::checksum;
use crate::format::{PageNumber, PageRef, RunRef, Version, page, put_u32, put_u64};
use crate::pager::PageBytes;
use crate::pager::frame::Unique;
use crate::prefetch::prefetch_start;
use crate::tree::pages::{Ends, ReadPages, WritePages};
use crate::txn::arriving::Arriving;

/// See [`TxnPages::expect`]. However it ends, nobody waits to hand a leaf over any more.
#[derive(Debug)]
pub(in crate::txn) struct Expecting<'p>(pub(in crate::txn) &'p mut TxnPages);

impl Drop for Expecting<'_> {
    fn drop(&mut self) {
        self.0.arriving = None;
    }
}

impl TxnPages {
    /// Leaves that are about to be changed come from there, while the answer lives.
    pub(in crate::txn) fn expect(&mut self, arriving: Arriving) -> Expecting<'_> {
        self.arriving = Some(arriving);
        Expecting(self)
    }

    /// Whether the transaction has a copy of its own of the page.
    pub(in crate::txn) fn is_private(&self, page: PageNumber) -> bool {
        self.slot(page).is_some()
    }

    /// The bytes of a page that is to be changed, as this transaction's own, and the birth of the page. `None`: it is
    /// private, and in the slab.
    #[inline]
    fn copy_to_change(&mut self, target: &PageRef) -> Result<Option<(Unique, Version)>> {
        let (version, floor) = (self.version, self.floor);
        if let Some(slot) = self.slot_mut(target.page) {
            if slot.is_run {
                return Err(self.engine.pager.not_a_node(target.page));
            }
            if slot.birth >= floor {
                slot.touched = true;
                return Ok(None);
            }
            let copy = Unique::copy_of(&slot.frame, version, false);
            return Ok(Some((copy, slot.birth)));
        }
        // Under a pin: to count a frame is to wait for its head.
        let pin = crate::pager::pin();
        let held = self.engine.pager.peek(target.page, &pin);
        let held = held.map(|bytes| (Unique::copy_of(&bytes, version, false), page::birth(&bytes)));
        drop(pin);
        let (copy, birth) = match held {
            Some(held) => held,
            None => {
                let read = self.read_to_change(target)?;
                let birth = page::birth(&read);
                (read, birth)
            }
        };
        if birth < floor {
            return Ok(Some((copy, birth)));
        }
        // It was written early, and comes back.
        self.spill_if_due()?;
        self.take_back(target.page, copy);
        Ok(None)
    }

    /// The bytes of a page that is not at hand, with no copy of it for others: the next state has another page in its place.
    fn read_to_change(&mut self, target: &PageRef) -> Result<Unique> {
        let arrived = self.arriving.as_mut();
        if let Some(leaf) = arrived.and_then(|arriving| arriving.next(target.page)) {
            return Ok(leaf);
        }
        let pager = &self.engine.pager;
        match pager.take(target, self.version)? {
            Some(bytes) => Ok(bytes),
            // A long value, which is an error here; or it has come to be at hand meanwhile.
            None => {
                let pin = crate::pager::pin();
                let bytes = pager.read_pinned(target, &pin)?;
                Ok(Unique::copy_of(&bytes, self.version, false))
            }
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
            Some(slot) if slot.is_run => Err(self.engine.pager.not_a_node(target.page)),
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
    fn is_far(&self, page: PageNumber) -> bool {
        !self.is_private(page) && self.engine.pager.is_far(page)
    }

    fn fetch(&self, pages: impl Iterator<Item = PageNumber>) {
        let others = pages.filter(|page| !self.is_private(*page));
        self.engine.pager.fetch(others);
    }

    fn fetch_runs(&self, runs: impl Iterator<Item = RunRef>) {
        let others = runs.filter(|run| !self.is_private(run.first));
        self.engine.pager.fetch_runs(others);
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
        let Some((mut copy, birth)) = self.copy_to_change(target)? else {
            return Ok(target.page);
        };
        let version = self.version;
        let page = self.take_page()?;
        put_u32(&mut copy, page::PAGE, page);
        put_u64(&mut copy, page::BIRTH, version);
        self.put_slot(page, copy);
        self.free(target.page, birth);
        if self.is_alone {
            let pager = &self.engine.pager;
            pager.cache.evict(pager, target.page, &crate::pager::pin());
        }
        Ok(page)
    }

    #[inline]
    fn private_bytes(&mut self, target: &PageRef) -> Result<(PageNumber, &mut [u8])> {
        let floor = self.floor;
        // Mostly it is private already, and is looked for only once.
        if let Some(index) = self.find(target.page)
            && let Some(Some(Slot { birth, .. })) = self.slab.get(index)
            && *birth >= floor
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
        let mut frame = Unique::zeroed(self.page_size() as usize, self.version);
        page::init(&mut frame, page, self.version, kind, level);
        self.put_slot(page, frame);
        Ok(page)
    }

    fn free(&mut self, page: PageNumber, birth: Version) {
        if birth >= self.floor {
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
    fn ends(&mut self) -> &mut Ends {
        &mut self.ends
    }

    fn allocate_run(&mut self, value: &[u8]) -> Result<RunRef> {
        let run = RunRef {
            first: 0,
            length_bytes: u32::try_from(value.len()).unwrap_or(u32::MAX),
            checksum: checksum::crc32c(value),
            birth: self.version,
        };
        let pages = run.pages(self.page_size());
        self.spill_if_due()?;
        // (What is written straight to its place gets a new one: invariant 4.)
        let again = match Self::is_direct(&run) {
            true => None,
            false => self.recycled.take(pages),
        };
        let first = match again {
            Some(first) => first,
            None => {
                let first = self.allocate_below_ceiling(pages)?;
                self.allocated.push((first, pages));
                first
            }
        };
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
        } else if run.birth >= self.floor {
            self.discard(run.first);
            self.recycled.give(run.first, pages);
        } else {
            self.freed.push((run.first, pages, run.birth));
        }
    }
}
