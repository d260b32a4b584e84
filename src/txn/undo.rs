//! What a checkpoint took that could not be written, given back: everything in memory is as it was before it began
//! (`checkpoint`, invariant 2).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::checkpoint::Job;
use super::engine::Engine;
use super::pages::Outcome;
use super::reclaim::Look;
use crate::Result;
use crate::format::PageNumber;

impl Engine {
    /// Nothing durable changed: the pages are dirty still, and a transaction that would have been
    /// committed never was.
    pub(super) fn give_up(&self, job: Job) -> Result<()> {
        let mut core = self.core.lock();
        for page in job.dirty {
            if self.pager.entry(page).set_listed() {
                core.dirty.push(page);
            }
        }
        self.space.lock().give_back(&job.image);
        // They wait for the next one, which is as due as this one was.
        self.passed_pages
            .fetch_add(job.passed_pages, Ordering::Relaxed);
        if let Some((outcome, previous)) = job.candidate {
            core.reclaimer.retract(job.state.version);
            core.current = previous;
            let undone = self.uninstall(&outcome);
            undone.inspect_err(|error| self.log.poison(error))?;
        }
        core.reclaimer.end_checkpoint();
        self.sweep_or_poison(&mut core, Look::AtAll)
    }

    /// Takes a transaction back that was to be committed by the checkpoint.
    fn uninstall(&self, outcome: &Outcome) -> Result<()> {
        let pin = crate::pager::pin();
        let unused: BTreeSet<PageNumber> = outcome.unused.iter().copied().collect();
        let mut space = self.space.lock();
        for retired in &outcome.freed {
            space.set_used(&self.pager, retired.first, retired.pages, true)?;
        }
        for (_, bytes) in &outcome.dirty {
            self.pager.cache.sub_dirty(*bytes);
        }
        for (first, pages) in &outcome.allocated {
            for page in *first..first.saturating_add(*pages) {
                // Given back when the transaction was installed, perhaps taken by others since.
                if !unused.contains(&page) {
                    self.pager.forget(page, &pin);
                    space.set_used(&self.pager, page, 1, false)?;
                    space.release(&self.pager, page, 1)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the catalog's new pages back.
    pub(super) fn undo_catalog(&self, catalog: &Outcome) -> Result<()> {
        let mut space = self.space.lock();
        // First, and with the lock held: a transaction may be given one of these pages as soon as it is free.
        let pin = crate::pager::pin();
        for (page, _) in &catalog.dirty {
            self.pager.forget(*page, &pin);
        }
        for (first, pages) in &catalog.allocated {
            space.set_used(&self.pager, *first, *pages, false)?;
            space.release(&self.pager, *first, *pages)?;
        }
        for retired in &catalog.freed {
            space.set_used(&self.pager, retired.first, retired.pages, true)?;
        }
        Ok(())
    }
}
