//! Pages of a large transaction that are written while it goes on.
//!
//! A transaction that commits by checkpoint has all of its pages to write at its end, and the disk has
//! nothing to do until then. So leaves that it has filled and left behind are written by the thread of
//! the checkpoints meanwhile, and synced now and then. (A load of a million entries, see
//! `tools/bench/results.md`.)
//!
//! They stay in memory, unless the entries come in order: such leaves leave memory once they are
//! written, and the next ones take it. They have the system's cache until they are read. (Memory that
//! was used a moment ago is in the processor's cache, and fresh memory has to be made: a million
//! entries in order took half to all of the time, by whether the system had memory at hand. Of entries in any order, the next ones change the same
//! leaves again.)
//!
//! # Invariants
//!
//! 1. A page that was handed over is private still, but its bytes are fixed: it is in its cell, or in
//!    the file alone once it was written, not in the slab. It comes back to the slab, and its number
//!    serves another page, only when nothing of the transaction is under way.
//! 2. Nothing is under way when a transaction commits or is given up. What could not be written is in its cell until
//!    it is back in the slab ([`settle_ahead`](super::pages::TxnPages::settle_ahead)), so nothing is lost by it: the next
//!    change fails, lest memory be filled, and a commit, or what comes after a rollback, tries again.
//! 3. As with pages that are written early for lack of memory, only unreferenced places are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::checkpoint::FrameSource;
use super::engine::Engine;
use crate::events;
use crate::format::PageNumber;
use crate::pager::Cause;
use crate::pager::frame::Burst;
use crate::sync::{Condvar, Mutex, MutexGuard, shielded};
use crate::{Error, Result};

/// So much is handed over at once; less where a transaction is large that has less.
const JOB_BYTES: u64 = 1 << 20;
const PART_OF_LOG: u64 = 8;
/// So many of these may wait to be written: their frames count nowhere until then.
const MAX_JOBS: usize = 8;
/// So much is written between two syncs.
const SYNC_BYTES: usize = 8 << 20;

/// What a transaction has handed over.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Filled, and still in the slab.
    finished: Vec<PageNumber>,
    job_pages: usize,
    progress: Arc<Progress>,
    page_bytes: usize,
    /// As long as memory is made ready for what stays in it.
    memory: Option<Burst>,
}

#[derive(Debug, Default)]
struct Progress {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether there is a failure: for a look without the lock.
    has_failed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    jobs: usize,
    unsynced_bytes: usize,
    failure: Option<Error>,
    /// Of the jobs that failed.
    unwritten: Vec<PageNumber>,
}

/// Pages to be written: frames in their cells.
#[derive(Debug)]
pub(crate) struct AheadJob {
    pages: Vec<(PageNumber, bool)>,
    /// They leave memory then.
    is_streamed: bool,
    progress: Arc<Progress>,
    done: Option<Result<()>>,
}

impl Ahead {
    pub(super) fn new(engine: &Engine) -> Self {
        let bytes = JOB_BYTES.min(engine.settings.log_limit_bytes / PART_OF_LOG);
        let page_bytes = engine.pager.page_size();
        let pages = bytes / u64::from(page_bytes);
        Ahead {
            finished: Vec::new(),
            job_pages: usize::try_from(pages).unwrap_or(usize::MAX).max(1),
            progress: Arc::default(),
            page_bytes: page_bytes as usize,
            memory: None,
        }
    }

    /// Pages are going to stay in memory.
    pub(super) fn ready_memory(&mut self) {
        self.memory
            .get_or_insert_with(|| Burst::new(self.page_bytes));
    }

    /// Notes a filled leaf. Returns those that have gathered when they are enough for a job.
    pub(super) fn note(&mut self, leaf: PageNumber) -> Option<Vec<PageNumber>> {
        self.finished.push(leaf);
        let is_enough = self.finished.len() >= self.job_pages;
        is_enough.then(|| std::mem::take(&mut self.finished))
    }

    /// Waits until there is room for one more. `is_streamed`: these pages will hardly be wanted soon.
    pub(super) fn job(&self, mut pages: Vec<PageNumber>, is_streamed: bool) -> AheadJob {
        pages.sort_unstable();
        let mut state = self.progress.state.lock();
        while state.jobs >= MAX_JOBS {
            state = self.progress.changed.wait(state);
        }
        state.jobs += 1;
        AheadJob {
            pages: pages.into_iter().map(|page| (page, true)).collect(),
            is_streamed,
            progress: self.progress.clone(),
            done: None,
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.progress.has_failed.load(Ordering::Acquire)
    }

    /// Waits until nothing is under way (invariant 2).
    pub(super) fn wait(&self) {
        drop(self.waited());
    }

    /// The same, and gives the first failure since the last call, with the pages that may not be written.
    pub(super) fn settle(&self) -> Option<(Error, Vec<PageNumber>)> {
        let mut state = self.waited();
        self.progress.has_failed.store(false, Ordering::Release);
        let unwritten = std::mem::take(&mut state.unwritten);
        Some((state.failure.take()?, unwritten))
    }

    fn waited(&self) -> MutexGuard<'_, State> {
        let mut state = self.progress.state.lock();
        while state.jobs > 0 {
            state = self.progress.changed.wait(state);
        }
        state
    }
}

impl Drop for AheadJob {
    fn drop(&mut self) {
        let mut state = self.progress.state.lock();
        state.jobs -= 1;
        // Nobody writes it any more if the database was closed.
        if let Err(error) = self.done.take().unwrap_or(Err(Error::Closed)) {
            state.failure.get_or_insert(error);
            let pages = self.pages.iter();
            state.unwritten.extend(pages.map(|(page, _)| *page));
            self.progress.has_failed.store(true, Ordering::Release);
        }
        drop(state);
        self.progress.changed.notify_all();
    }
}

impl Engine {
    /// Writes them on the thread of their transaction, which still has its turn.
    pub(super) fn write_in_turn(&self, job: AheadJob) {
        let events = events::collected(|| self.write_ahead(job));
        self.turns.tell_later(events);
    }

    pub(super) fn write_ahead(&self, mut job: AheadJob) {
        let told = |error: &Error| self.lose_faith(error);
        job.done = Some(shielded("write pages", told, || self.write_job(&job)));
    }

    fn write_job(&self, job: &AheadJob) -> Result<()> {
        let source = FrameSource { pager: &self.pager };
        let mut written_bytes = 0;
        let mut count = |bytes| {
            written_bytes += bytes;
            Ok(())
        };
        self.pager
            .write_pages(&job.pages, &source, Cause::Spill, &mut count)?;
        let pages = job.pages.iter().map(|(page, _)| *page);
        match job.is_streamed {
            true => self.pager.cache.pass_by(&self.pager, pages),
            false => self.set_clean(pages, false),
        }
        if self.settings.background && job.is_sync_due(written_bytes) {
            // What a failed sync should have covered is unknown.
            self.pager
                .sync_all()
                .inspect_err(|error| self.log.poison(error))?;
        }
        Ok(())
    }
}

impl AheadJob {
    fn is_sync_due(&self, written_bytes: usize) -> bool {
        let mut state = self.progress.state.lock();
        state.unsynced_bytes += written_bytes;
        let is_due = state.unsynced_bytes >= SYNC_BYTES;
        if is_due {
            state.unsynced_bytes = 0;
        }
        is_due
    }
}
