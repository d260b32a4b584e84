//! Pages that are written before their transaction commits: for want of memory, or while it goes on
//! ([`Ahead`]), and those that come back to be changed.

use std::collections::BTreeMap;

use super::TxnPages;
use crate::format::node::Node;
use crate::format::{PageNumber, PageRef, page};
use crate::pager::frame::Unique;
use crate::pager::{Cause, PageSource};
use crate::txn::ahead::Ahead;
use crate::{Error, Result};

/// Such a part of the memory is made free at a time: what was written comes back where entries come in any order. (When it
/// was a half, a million entries of 174 bytes with 256 MiB had 1,024 MiB written early and 225,000 pages read again, in the
/// place of 716 and 151,000.)
const SPILLED_PART: usize = 8;

impl TxnPages {
    /// From now on, leaves that are left behind are written at once: the commit will write all pages
    /// itself.
    pub(crate) fn write_ahead(&mut self) {
        let is_streamed = self.is_streamed();
        let ahead = self.ahead.get_or_insert_with(|| Ahead::new(&self.engine));
        if !is_streamed {
            ahead.ready_memory();
        }
    }

    /// Whether entries come in the order of their keys, from either end: leaves that they have filled will hardly be
    /// wanted soon.
    fn is_streamed(&self) -> bool {
        self.ends.likely().is_some() || self.is_in_order
    }

    /// Says whether the entries that come next, many at a time, do so in the order of their keys.
    pub(crate) fn expect_order(&mut self, is_in_order: bool) {
        self.is_in_order = is_in_order;
    }

    /// Waits for what is written ahead: before the pages are handed to others. What could not be written is in the slab
    /// then, as if it had never left it, and the next call has nothing to say of it (`ahead`, invariant 2).
    pub(crate) fn settle_ahead(&mut self) -> Result<()> {
        let Some((error, pages)) = self.ahead.as_ref().and_then(Ahead::settle) else {
            return Ok(());
        };
        let pin = crate::pager::pin();
        for page in pages {
            let entry = self.engine.pager.entry(page);
            // It may have come back to be changed, or be gone, or another one be written under its number.
            let is_here = entry.slab_index().is_some();
            let held = entry.frame.load(&pin);
            if let Some(frame) = held.filter(|frame| !is_here && !frame.is_clean()) {
                let bytes = frame.bytes();
                // It may stand under a savepoint since.
                let copy = Unique::copy_of(bytes, page::birth(bytes), false);
                self.take_back(page, copy);
            }
        }
        Err(error)
    }

    /// Takes filled leaves out of the slab and has them written (`ahead`, invariant 1).
    pub(super) fn hand_over(&mut self, finished: Vec<PageNumber>) {
        let pin = crate::pager::pin();
        let mut pages = Vec::with_capacity(finished.len());
        for page in finished {
            // The number may have gone to another page since, or stand under a savepoint. (A branch
            // has to wait for its children: invariant 3.)
            let is_leaf = self.slot(page).is_some_and(|slot| {
                let is_node = slot.birth >= self.floor && !slot.is_run;
                is_node && slot.level == 0
            });
            if is_leaf && let Some(slot) = self.drop_slot(page) {
                let cell = &self.engine.pager.entry(page).frame;
                cell.replace(Some(slot.frame.share()), &pin);
                pages.push(page);
            }
        }
        // What leaves the cells meanwhile is to be used again.
        drop(pin);
        let is_streamed = self.is_streamed();
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

    /// Until a page that was handed over is nobody else's. (If it could not be written, the next change will
    /// say so.)
    pub(super) fn wait_for_ahead(&self) {
        if let Some(ahead) = &self.ahead {
            ahead.wait();
        }
    }

    /// Brings a private page that was written early back into the slab.
    pub(super) fn reload(&mut self, page: PageNumber) -> Result<()> {
        self.spill_if_due()?;
        self.wait_for_ahead();
        let pager = &self.engine.pager;
        let entry = pager.entry(page);
        let pin = crate::pager::pin();
        // First there: what could not be written is nowhere else.
        let frame = match entry.frame.load(&pin) {
            Some(_) if entry.is_run_frame() => return Err(pager.not_a_node(page)),
            Some(frame) => Unique::copy_of(frame.bytes(), self.version, false),
            None => {
                let target = PageRef { page, checksum: 0 };
                pager.read_verified(&target, entry, self.version)?
            }
        };
        drop(pin);
        self.take_back(page, frame);
        Ok(())
    }

    /// A private page is in the slab again, and nowhere else.
    pub(super) fn take_back(&mut self, page: PageNumber, frame: Unique) {
        self.wait_for_ahead();
        let pin = crate::pager::pin();
        self.engine.pager.forget(page, &pin);
        self.put_slot(page, frame);
    }

    /// Before more is taken, or brought back.
    pub(super) fn spill_if_due(&mut self) -> Result<()> {
        if self.ahead.as_ref().is_some_and(Ahead::has_failed) {
            self.settle_ahead()?;
        }
        if self.slab_bytes > self.spill_above_bytes.max(self.spill_again_bytes) {
            self.spilled_from = self.floor;
            self.spill()?;
            self.spill_again_bytes = self.slab_bytes + self.slab_bytes / 4;
        }
        Ok(())
    }

    /// Writes private pages early, those that were not changed lately first (invariant 3).
    pub(super) fn spill(&mut self) -> Result<()> {
        if !self.can_spill {
            return Ok(());
        }
        let target = self.spill_above_bytes - self.spill_above_bytes / SPILLED_PART;
        for ignore_touched in [false, true] {
            for level in 0..=u8::MAX {
                if self.slab_bytes <= target {
                    return Ok(());
                }
                if level > 0 {
                    // Its leaves may be under way (invariant 3).
                    self.settle_ahead()?;
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

    pub(super) fn has_level_from(&self, level: u8) -> bool {
        let mut slots = self.slab.iter().flatten();
        slots.any(|slot| !slot.is_run && slot.level >= level)
    }

    /// Whether the checksums of all children are known (invariant 3). One that is in no slab may be of an earlier commit,
    /// which is in memory only until the next checkpoint writes it; or be gone, in the middle of a change that takes it
    /// out of the branch.
    fn has_written_children(&self, frame: &[u8]) -> bool {
        let pager = &self.engine.pager;
        let pin = crate::pager::pin();
        Node::new(frame).children().all(|child| {
            let entry = pager.known(child.page.page);
            let is_here = entry.is_some_and(|entry| entry.slab_index().is_some());
            !is_here && pager.knows_checksum(&child.page, &pin)
        })
    }

    pub(super) fn spillable(
        &mut self,
        level: u8,
        ignore_touched: bool,
        wanted_bytes: usize,
    ) -> Vec<(PageNumber, bool)> {
        let mut chosen = Vec::new();
        let mut bytes = 0;
        for index in 0..self.slab.len() {
            let Some(Some(slot)) = self.slab.get_mut(index) else {
                continue;
            };
            let touched = std::mem::take(&mut slot.touched) && !ignore_touched;
            let is_wanted = slot.level == level && !touched && bytes < wanted_bytes;
            // A page from before a savepoint stays: what is born below the floor is not private
            // any more and could not be told from other pages once it has left the slab.
            if !is_wanted || slot.birth < self.floor {
                continue;
            }
            let Some(Some(slot)) = self.slab.get(index) else {
                continue;
            };
            if level == 0 || self.has_written_children(&slot.frame) {
                bytes += slot.frame.len();
                chosen.push((slot.page, !slot.is_run));
            }
        }
        chosen.sort_unstable();
        chosen
    }

    /// The private pages by level, as they have to be written.
    pub(crate) fn levels(&self) -> Levels {
        let mut levels = Levels::new();
        for slot in self.slab.iter().flatten() {
            let of_level = levels.entry(slot.level).or_default();
            of_level.push((slot.page, !slot.is_run));
        }
        levels.values_mut().for_each(|pages| pages.sort_unstable());
        levels
    }

    /// The private pages' bytes.
    pub(crate) fn source(&self) -> SlabSource<'_> {
        SlabSource { pages: self }
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
