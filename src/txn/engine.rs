//! The engine: everything that the handles of one open database share.
//!
//! # Locks
//!
//! Always taken in this order: `checkpointing` (one checkpoint at a time) -> `core` -> `space` -> the log's own. Only
//! the first is held over a sync.
//!
//! # Invariants
//!
//! 1. `core.current` is the newest committed state; only the holder of the turn replaces it.
//! 2. The log's end and `core.current` change together under the core lock, so a checkpoint that
//!    reads both under it has a state and exactly the position that the state corresponds to.
//! 3. The page after which no state can see it any more is released under the core lock.
//! 4. When a commit appends its record, changed pages in memory are within their bound
//!    ([`MOST_DIRTY_TO_LOG`]), or a checkpoint was waited for, or the last one failed. So memory, and what an
//!    open has to make again, exceed the bound by no more than one transaction and what came in meanwhile.
//! 5. In a child that `fork` made nothing is done: it has a copy of the memory and shares the file, and has none of the
//!    threads, so locks may be held that nobody lets go of. Every call is refused before it waits for anything.
//! 6. The thread that makes checkpoints tells events (a program's code, which may write, and so wait) only while nobody
//!    waits for it: nothing is left to be written ahead, and who wants a checkpoint then makes it on its own thread.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::sync::{Condvar, Mutex, MutexGuard, shielded};

use super::ahead::AheadJob;
use super::pages::{DIRECT_BYTES, Outcome, TxnPages};
use super::reclaim::{Look, Reclaimer, Retired};
use super::session::Session;
use super::state::State;
use super::turn::Turns;
use crate::events::{self, Held};
use crate::format::header::Header;
use crate::format::{Lsn, PageNumber, Version};
use crate::log::{Log, Refusal};
use crate::pager::{Pager, Space, frame};
use crate::storage::Origin;
use crate::{Error, Result};

/// So many times the log's limit do changed pages take when a checkpoint begins, and when commits wait for it. An
/// open makes them again, at 3 to 4 µs for each 4 KiB, and each small entry changes one or two of them where a
/// tree is large: with half of a log of 32 MiB full of 150-byte values an open took 0.6 s. (With 5 and 10, a tree of
/// 1,000,000 entries that was changed all over was written twice as often, and unsynced commits took a fifth to
/// two fifths longer.)
const DIRTY_TO_LOG: u64 = 8;
const MOST_DIRTY_TO_LOG: u64 = 12;
/// Long values that came and went since the last checkpoint may take so much of the file, or this share of it if that is
/// more. (The log has room for 50,000 commits that put a blob in the place of another: without this a cache of 64 MiB took
/// 830 after 830 MiB had gone through it.)
const MOST_PASSED_BYTES: u64 = 64 << 20;
const PASSED_SHARE: u64 = 8;

/// How the engine behaves; the public builder fills it in.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub page_size: u32,
    pub memory_bytes: usize,
    pub log_limit_bytes: u64,
    /// A transaction that commits by a checkpoint leaves a log for what comes after it.
    pub leaves_log: bool,
    pub read_only: bool,
    /// Checkpoints and async commits run on threads of their own; else in the calls that need
    /// them, which makes a run repeatable.
    pub background: bool,
    /// The salt of a new file; random if not given.
    pub salt: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub current: Arc<State>,
    pub reclaimer: Reclaimer,
    /// Pages in frames that are not in the file. May name pages that have been reused since.
    pub dirty: Vec<PageNumber>,
    /// The durable checkpoint.
    pub header: Header,
    pub checkpoint_state: Arc<State>,
    pub checkpoints: u64,
    /// The last checkpoint failed for this reason, and none has succeeded since.
    pub checkpoint_failure: Option<Error>,
}

/// Requests to the checkpoint thread, and its answers.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// Somebody waits for a checkpoint.
    wanted: bool,
    /// It was time for one when a commit looked.
    is_due: bool,
    /// The background thread looks whether to make one, or does.
    is_busy: bool,
    /// Checkpoints that were tried, whatever came of them.
    tried: u64,
    /// What transactions want written meanwhile.
    ahead: VecDeque<AheadJob>,
    /// There may be a free tail to cut, when there is nothing else to do.
    is_tail_due: bool,
    /// The background thread tells events (invariant 6).
    is_telling: bool,
    stopping: bool,
}

/// Readers of a file that is no longer hardly need fresh memory that somebody makes ready for them.
const MUCH_TO_READ_BYTES: u64 = 4 << 20;

/// How much memory is kept for records, at the most.
const MOST_SPARE_BYTES: usize = 8 << 20;

pub(crate) struct Engine {
    pub settings: Settings,
    pub pager: Arc<Pager>,
    pub log: Log<State>,
    pub core: Mutex<Core>,
    pub space: Mutex<Space>,
    pub turns: Arc<Turns>,
    pub checkpointing: Mutex<()>,
    /// The version of the durable checkpoint.
    pub checkpoint_version: AtomicU64,
    /// The ring should grow to this size: a record did not fit.
    pub wanted_ring_bytes: AtomicU64,
    /// How often in a row there was no room for a longer ring, and how many checkpoints do not try again yet.
    pub ring_refusals: AtomicU32,
    pub ring_rests: AtomicU32,
    /// A record did not fit the ring: with the next such record it grows.
    pub was_record_too_large: AtomicBool,
    /// Memory for the record of the next transaction, which has been used for one before: with fresh memory each time
    /// inserts of 10,000 documents took 2 to 13 % longer.
    spare_record: Mutex<Vec<u8>>,
    /// Pages of long values that came and went since the last checkpoint began. They wait for the next one, as the log
    /// refers to them, and take hardly any room in it.
    pub passed_pages: AtomicU64,
    pub closed: AtomicBool,
    pub(super) session: Session,
    /// Where it was opened (invariant 5).
    origin: Origin,
    desk: Mutex<Desk>,
    desk_changed: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Without what is in it: a program that prints its handle would print the data, megabytes of it.
impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn assemble(
        settings: Settings,
        pager: Arc<Pager>,
        log: Log<State>,
        core: Core,
        space: Space,
    ) -> Self {
        Engine {
            settings,
            pager,
            log,
            checkpoint_version: AtomicU64::new(core.checkpoint_state.version),
            core: Mutex::new(core),
            space: Mutex::new(space),
            turns: Arc::new(Turns::default()),
            checkpointing: Mutex::new(()),
            wanted_ring_bytes: AtomicU64::new(0),
            ring_refusals: AtomicU32::new(0),
            ring_rests: AtomicU32::new(0),
            was_record_too_large: AtomicBool::new(false),
            spare_record: Mutex::default(),
            passed_pages: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            session: Session::default(),
            origin: Origin::here(),
            desk: Mutex::new(Desk::default()),
            desk_changed: Condvar::new(),
            threads: Mutex::new(Vec::new()),
        }
    }

    /// Refuses writes that cannot be made.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.settings.read_only {
            return Err(Error::ReadOnly);
        }
        match self.log.failure() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.check_origin()
    }

    /// Invariant 5.
    pub(crate) fn check_origin(&self) -> Result<()> {
        match self.origin.is_here() {
            true => Ok(()),
            false => Err(Error::Forked {
                opened_by: self.origin.process(),
            }),
        }
    }

    /// Makes a finished transaction the present state. Called with the turn and the core lock.
    pub(crate) fn install(
        &self,
        core: &mut Core,
        outcome: &Outcome,
        state: Arc<State>,
    ) -> Result<()> {
        let mut space = self.space.lock();
        for (first, pages) in &outcome.allocated {
            space.set_used(&self.pager, *first, *pages, true)?;
        }
        for page in &outcome.unused {
            space.set_used(&self.pager, *page, 1, false)?;
            space.release(&self.pager, *page, 1)?;
        }
        for retired in &outcome.freed {
            space.set_used(&self.pager, retired.first, retired.pages, false)?;
        }
        drop(space);
        self.count_passed(&outcome.freed);
        self.list_dirty(core, &outcome.dirty);
        core.current = state.clone();
        core.reclaimer.watch(state);
        // Their frames serve the copies: without this, memory doubles while a checkpoint holds the
        // places of what was changed.
        let pin = crate::pager::pin();
        self.pager
            .visit_warm(&outcome.freed, Retired::first, &pin, |retired| {
                self.pager.cache.evict(&self.pager, retired.first, &pin);
                core.reclaimer.retire(*retired);
            });
        Ok(())
    }

    pub(crate) fn list_dirty(&self, core: &mut Core, dirty: &[(PageNumber, usize)]) {
        for (page, bytes) in dirty {
            self.pager.cache.add_dirty(*bytes);
            if self.pager.entry(*page).set_listed() {
                core.dirty.push(*page);
            }
        }
    }

    /// Releases the pages that no state can see any more.
    fn sweep(&self, core: &mut Core, look: Look) -> Result<()> {
        let free = core.reclaimer.sweep(look);
        self.release(&free, |retired| (retired.first, retired.pages))
    }

    /// Gives runs of pages back that nobody needs. Called with the core lock.
    pub(super) fn release<T>(
        &self,
        free: &[T],
        run: impl Fn(&T) -> (PageNumber, u32),
    ) -> Result<()> {
        if free.is_empty() {
            return Ok(());
        }
        let pin = crate::pager::pin();
        self.pager.visit_warm(
            free,
            |item| run(item).0,
            &pin,
            |item| self.forget(run(item), &pin),
        );
        let mut space = self.space.lock();
        for item in free {
            let (first, pages) = run(item);
            space.release(&self.pager, first, pages)?;
        }
        Ok(())
    }

    fn forget(&self, (first, pages): (PageNumber, u32), pin: &crate::pager::Pin) {
        for page in first..first.saturating_add(pages) {
            let known = self.pager.known(page);
            if let Some(frame) = known.and_then(|entry| entry.frame.load(pin))
                && !frame.is_clean()
            {
                self.pager.cache.sub_dirty(frame.bytes().len());
            }
            self.pager.forget(page, pin);
        }
    }

    /// Appends the record of a commit and installs its state, as one step for everyone else
    /// (invariant 2). `None`: the ring has no room for the record now.
    pub(crate) fn commit_logged(
        &self,
        pages: &mut TxnPages,
        state: &Arc<State>,
        record: &[u8],
    ) -> Result<Option<Lsn>> {
        let mut core = self.core.lock();
        let end = match self.log.append(state.version, record, pages.direct_bytes()) {
            Ok(end) => end,
            Err(Refusal::NoRoom) => return Ok(None),
            Err(Refusal::Failed(error)) => return Err(error),
        };
        // From here on the record is in the log's buffer.
        let outcome = pages.finish(state.version);
        self.install_or_poison(&mut core, &outcome, state)?;
        self.sweep_or_poison(&mut core, Look::AtSome)?;
        Ok(Some(end))
    }

    /// The same where there is no way back: what was installed by half, and what the log holds and memory does not, must
    /// not be gone on from.
    fn install_or_poison(
        &self,
        core: &mut Core,
        outcome: &Outcome,
        state: &Arc<State>,
    ) -> Result<()> {
        let told = |error: &Error| self.lose_faith(error);
        let install = || self.install(core, outcome, state.clone());
        shielded("commit", told, install).inspect_err(|error| self.log.poison(error))
    }

    /// After a panic half-way neither what is in memory nor what a sync covers is known.
    pub(super) fn lose_faith(&self, error: &Error) {
        self.pager.fail_syncs(error);
        self.log.poison(error);
    }

    pub(crate) fn sweep_or_poison(&self, core: &mut Core, look: Look) -> Result<()> {
        let told = |error: &Error| self.lose_faith(error);
        let sweep = || self.sweep(core, look);
        shielded("free pages", told, sweep).inspect_err(|error| self.log.poison(error))
    }

    /// Installs a state that holds the same data in other places: nothing to log.
    pub(crate) fn commit_unlogged(&self, pages: &mut TxnPages, state: &Arc<State>) -> Result<()> {
        let mut core = self.core.lock();
        let outcome = pages.finish(state.version);
        let end = self.log.position().lsn;
        self.install_or_poison(&mut core, &outcome, state)?;
        self.log.publish(state.clone(), end, false, None);
        self.sweep_or_poison(&mut core, Look::AtSome)
    }

    /// The length of the file, in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.pager.offset(self.pager.file_pages())
    }

    /// The number of pages up to the last that is not free, and how many below are.
    pub(crate) fn end_and_free(&self) -> (u32, u32) {
        let space = self.space.lock();
        (space.end(), space.free())
    }

    /// Pages that the next two checkpoints may need for themselves.
    pub(crate) fn checkpoint_reserve(&self) -> u32 {
        let catalog = self.core.lock().header.catalog.count / 16;
        let space = self.space.lock().tree().pages().count();
        // The count is the header's, and may be anything in a damaged file.
        let pages = catalog.saturating_add(space as u64).saturating_add(8);
        u32::try_from(pages.saturating_mul(2)).unwrap_or(u32::MAX / 2)
    }

    /// The version that the next transaction starts with. Called with the turn.
    pub(crate) fn next_version(&self) -> (Arc<State>, Version) {
        let current = self.core.lock().current.clone();
        let version = current.version + 1;
        (current, version)
    }

    /// Room for the record of the next transaction, if there is some that another one had.
    pub(super) fn take_record(&self) -> Vec<u8> {
        std::mem::take(&mut *self.spare_record.lock())
    }

    /// Keeps the memory of a record that is in the log, for the next one.
    pub(super) fn keep_record(&self, mut record: Vec<u8>) {
        let limit_bytes = (self.pager.cache.budget_bytes() / 64).min(MOST_SPARE_BYTES);
        if record.capacity() <= limit_bytes {
            record.clear();
            *self.spare_record.lock() = record;
        }
    }

    /// A good moment to ask for a checkpoint: half of the ring or of the memory is used, or an open would have
    /// much to make again, or much of the file waits for one.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.log.is_half_full() || self.is_dirty(2, DIRTY_TO_LOG) || self.has_much_passed()
    }

    /// Whether long values that came and went take so much of the file that it should not grow for more of them.
    fn has_much_passed(&self) -> bool {
        let passed = self.passed_pages.load(Ordering::Relaxed);
        let passed_bytes = passed.saturating_mul(u64::from(self.pager.page_size()));
        passed_bytes > MOST_PASSED_BYTES && passed_bytes > self.file_bytes() / PASSED_SHARE
    }

    /// Counts what came and went since the last checkpoint: such long values have its version for their birth. (So have
    /// pages of the last transaction before it, which are short.)
    fn count_passed(&self, freed: &[Retired]) {
        let checkpoint = self.checkpoint_version.load(Ordering::Acquire);
        let long_pages = (DIRECT_BYTES as u32).div_ceil(self.pager.page_size());
        let passed = { freed.iter() }
            .filter(|retired| retired.birth == checkpoint && retired.pages >= long_pages);
        let pages: u64 = passed.map(|retired| u64::from(retired.pages)).sum();
        if pages > 0 {
            self.passed_pages.fetch_add(pages, Ordering::Relaxed);
        }
    }

    /// Whether changed pages take more than a part of the memory, or than so many times the log's limit.
    fn is_dirty(&self, part_of_memory: u64, times_log: u64) -> bool {
        let memory = self.pager.cache.budget_bytes() as u64 / part_of_memory;
        let log = self.settings.log_limit_bytes.saturating_mul(times_log);
        self.pager.cache.dirty_bytes() as u64 > memory.min(log)
    }

    /// Invariant 4. Called with the turn.
    pub(crate) fn await_memory(self: &Arc<Self>) {
        // What stops checkpoints does not stop commits, as long as the log has room.
        if !self.is_dirty(1, MOST_DIRTY_TO_LOG) || self.core.lock().checkpoint_failure.is_some() {
            return;
        }
        if self.settings.background && self.await_checkpoint_under_way() {
            return;
        }
        if let Err(error) = self.checkpoint_alone() {
            events::tell(move || tracing::warn!(%error, "a checkpoint before a commit failed"));
        }
    }

    /// Called after each commit, without locks.
    pub(crate) fn after_commit(self: &Arc<Self>) -> Result<()> {
        frame::settle();
        if !self.wants_checkpoint() {
            return Ok(());
        }
        if self.settings.background {
            self.request_checkpoint();
            Ok(())
        } else {
            // A full disk stops checkpoints, not commits, as long as the log has room.
            match self.checkpoint() {
                Err(error) if error.is_disk_full() => Ok(()),
                done => done,
            }
        }
    }

    /// Blocks until a checkpoint has been tried, by the background thread or right here.
    pub(crate) fn await_checkpoint(self: &Arc<Self>) -> Result<()> {
        if !self.settings.background {
            return self.checkpoint_alone();
        }
        let mut desk = self.desk.lock();
        desk.wanted = true;
        let before = desk.tried;
        if !self.await_desk(desk, |desk| desk.tried != before) {
            return self.checkpoint_alone();
        }
        let failure = self.core.lock().checkpoint_failure.clone();
        failure.map_or(Ok(()), Err)
    }

    /// Blocks until the background thread has tried a checkpoint: the one that it is at, or one that is due. `false`: it
    /// cannot (invariant 6).
    fn await_checkpoint_under_way(&self) -> bool {
        let mut desk = self.desk.lock();
        desk.is_due = true;
        let before = desk.tried;
        // It may find that none is due any more.
        self.await_desk(desk, |desk| {
            desk.tried != before || !(desk.is_due || desk.is_busy)
        })
    }

    /// `false`: the background thread does nothing now (invariant 6).
    fn await_desk(&self, mut desk: MutexGuard<'_, Desk>, is_over: impl Fn(&Desk) -> bool) -> bool {
        self.desk_changed.notify_all();
        while !is_over(&desk) && !desk.stopping {
            if desk.is_telling {
                return false;
            }
            desk = self.desk_changed.wait(desk);
        }
        true
    }

    fn request_checkpoint(&self) {
        let mut desk = self.desk.lock();
        if !desk.is_due {
            desk.is_due = true;
            self.desk_changed.notify_all();
        }
    }

    /// After a checkpoint that did not cut the tail of the file. Called without the turn.
    pub(super) fn after_checkpoint(&self) {
        if !self.settings.background {
            return self.cut_long_tail();
        }
        self.desk.lock().is_tail_due = true;
        self.desk_changed.notify_all();
    }

    /// Has the background threads started, if the settings ask for them.
    pub(crate) fn serve_all(self: &Arc<Self>) -> Result<()> {
        if !self.settings.background || self.settings.read_only {
            return Ok(());
        }
        let engine = self.clone();
        self.serve("aurora-log", move || engine.log.serve())?;
        let engine = self.clone();
        self.serve("aurora-checkpoint", move || engine.serve_checkpoints())?;
        let engine = self.clone();
        let supply = move || frame::supply(engine.pager.page_size() as usize, &engine.closed);
        // The first readers need it, too, if there is much to read.
        match self.file_bytes() > MUCH_TO_READ_BYTES {
            true => self.spawn("aurora-memory", supply),
            false => self.serve("aurora-memory", supply),
        }
    }

    /// Starts a thread that ends when the database is closed, and is waited for then.
    pub(crate) fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new()
            .name(name.to_string())
            .spawn(run)
            .map_err(|error| Error::NoThread {
                source: Arc::new(error),
            })?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Has pages of a transaction written, by the checkpoint thread or right here.
    pub(super) fn hand_over(&self, job: AheadJob) {
        if !self.settings.background {
            return self.write_in_turn(job);
        }
        let mut desk = self.desk.lock();
        if desk.is_telling {
            drop(desk);
            return self.write_in_turn(job); // invariant 6
        }
        if !desk.stopping {
            desk.ahead.push_back(job);
            self.desk_changed.notify_all();
        }
    }

    /// The life of the checkpoint thread.
    fn serve_checkpoints(self: &Arc<Self>) {
        let mut held = events::hold();
        let mut cut = None;
        let mut desk = self.desk.lock();
        while !desk.stopping {
            if let Some(job) = desk.ahead.pop_front() {
                drop(desk);
                self.write_ahead(job);
                desk = self.desk.lock();
            } else if events::are_kept() {
                (held, desk) = self.tell_kept(held, desk);
            } else if desk.wanted || desk.is_due {
                desk = self.try_checkpoint(desk);
            } else if desk.is_tail_due {
                desk.is_tail_due = false;
                drop(desk);
                cut = self.begin_cut(self.worth_cutting());
                desk = self.desk.lock();
            } else if let Some(part) = &mut cut {
                drop(desk);
                // What is asked for meanwhile comes before the next part.
                if !self.cut_on_unless_busy(part) {
                    cut = None;
                }
                desk = self.desk.lock();
            } else {
                desk = self.desk_changed.wait(desk);
            }
        }
        drop(desk);
        drop(held);
    }

    /// Invariant 6.
    fn tell_kept<'a>(
        &'a self,
        held: Held,
        mut desk: MutexGuard<'a, Desk>,
    ) -> (Held, MutexGuard<'a, Desk>) {
        desk.is_telling = true;
        self.desk_changed.notify_all();
        drop(desk);
        drop(held);
        let held = events::hold();
        let mut desk = self.desk.lock();
        desk.is_telling = false;
        (held, desk)
    }

    /// Makes the checkpoint that somebody waits for, or the one that is due.
    fn try_checkpoint<'a>(
        self: &'a Arc<Self>,
        mut desk: MutexGuard<'a, Desk>,
    ) -> MutexGuard<'a, Desk> {
        let is_waited_for = std::mem::take(&mut desk.wanted);
        desk.is_due = false;
        desk.is_busy = true;
        drop(desk);
        // What commits saw while the last checkpoint was under way, it may have mended.
        let is_tried = is_waited_for || self.wants_checkpoint();
        match is_tried.then(|| self.checkpoint_alone()) {
            None | Some(Ok(()) | Err(Error::Closed)) => {}
            Some(Err(error)) => {
                events::tell(move || tracing::warn!(%error, "a checkpoint failed"));
            }
        }
        let mut desk = self.desk.lock();
        desk.is_busy = false;
        desk.tried += u64::from(is_tried);
        desk.is_tail_due |= is_tried;
        self.desk_changed.notify_all();
        desk
    }

    /// Writes everything, ends the threads, and refuses calls from then on.
    pub(crate) fn close(self: &Arc<Self>) -> Result<()> {
        self.end(true)
    }

    /// Ends without a last checkpoint: what waits in the log goes on waiting. For an open that fails, which is to change nothing.
    pub(crate) fn abandon(self: &Arc<Self>) -> Result<()> {
        self.end(false)
    }

    fn end(self: &Arc<Self>, writes: bool) -> Result<()> {
        self.check_origin()?;
        let held = events::hold();
        let turn = self.turns.wait();
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let has_written = self.end_session();
        let written = match self.log.failure() {
            _ if self.settings.read_only || !writes => Ok(()),
            Some(error) => Err(error),
            None if !has_written => Ok(()),
            None => self.close_file(),
        };
        drop(turn);
        drop(held);
        self.log.stop();
        self.desk.lock().stopping = true;
        self.desk_changed.notify_all();
        frame::wake_suppliers(self.pager.page_size() as usize);
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // The last handle may be dropped by one of the threads itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
        written
    }

    /// The last checkpoint leaves nothing to recover. If it cannot be made (a full disk), the log
    /// still holds everything, once it is flushed.
    fn close_file(self: &Arc<Self>) -> Result<()> {
        self.log.begin_close();
        self.log.flush()?;
        self.checkpoint_with(super::checkpoint::Purpose::Close, None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::Aurora;
    use crate::storage::MemoryStorage;

    /// Who only looks into a small file that was closed needs none (`session`).
    #[test]
    fn threads_start_with_the_first_change() {
        let storage = MemoryStorage::new();
        let open = || Aurora::builder().open_storage(Arc::new(storage.clone()));
        open().unwrap().close().unwrap();
        let db = open().unwrap();
        let threads = || db.handle.engine.threads.lock().len();
        let tx = db.begin_write().unwrap();
        assert!(db.get("a").unwrap().is_none());
        tx.roll_back();
        assert_eq!(threads(), 0);
        db.put("a", "b", None).unwrap();
        // For the log, checkpoints, memory, and what expires.
        assert_eq!(threads(), 4);
        let engine = db.handle.engine.clone();
        db.close().unwrap();
        assert_eq!(engine.threads.lock().len(), 0);
    }

    /// They are read to be copied, and nobody reads them again.
    #[test]
    fn a_replay_keeps_no_page_that_it_has_copied() {
        let storage = MemoryStorage::new();
        let open = |storage: MemoryStorage, memory_bytes| {
            let builder = Aurora::builder().background(false);
            let builder = builder.memory_limit(memory_bytes);
            builder.open_storage(Arc::new(storage)).unwrap()
        };
        let db = open(storage.clone(), 64 << 20);
        let tree = db.tree("t").unwrap();
        // Four to a leaf. The log grows until it takes a change of each leaf.
        for round in 0..2 {
            for key in 0..2000u16 {
                tree.put(key.to_be_bytes(), [round; 1000]).unwrap();
            }
        }
        db.checkpoint().unwrap();
        for key in (0..2000u16).step_by(4) {
            tree.put(key.to_be_bytes(), [2; 8]).unwrap();
        }
        let again = open(MemoryStorage::from_bytes(&storage.to_bytes()), 1 << 20);
        let engine = &again.handle.engine;
        let pages = engine.core.lock().dirty.len();
        assert!(pages * 4096 > 1 << 20, "{pages} pages");
        let evictions = engine.pager.cache.counters().evictions;
        assert_eq!(evictions, 0, "for want of memory");
    }

    /// Frames of replaced pages go at once, and the clock forgets pages that have none
    /// (`pager::cache`, invariant 4), though memory is never short.
    #[test]
    fn memory_does_not_grow_with_what_was_replaced() {
        let storage = Arc::new(MemoryStorage::new());
        let builder = Aurora::builder().background(false);
        let db = builder.open_storage(storage).unwrap();
        let write_all = |round: u8| {
            db.write(|tx| {
                let mut tree = tx.tree("t")?;
                for key in 0..200u8 {
                    tree.put([key], [round; 1000])?;
                }
                Ok(())
            })
            .unwrap();
        };
        // Until the log has grown to what these commits need, they are checkpoints.
        (0..3).for_each(|_| write_all(0));
        db.checkpoint().unwrap();
        let pages = 70;
        for round in 1..60 {
            write_all(round);
            let clean_bytes = db.stats().unwrap().clean_bytes;
            assert!(
                clean_bytes <= 20 * 4096,
                "{clean_bytes} beside the new ones"
            );
            db.checkpoint().unwrap();
            let clean_bytes = db.stats().unwrap().clean_bytes;
            assert!(
                (50 * 4096..=pages * 4096).contains(&clean_bytes),
                "{clean_bytes}"
            );
        }
        let entries = db.handle.engine.pager.cache.clock_entries() as u64;
        assert!(entries <= 2 * pages + 1025, "{entries} entries");
    }

    /// Long values among pages are of other lengths than these: how many frames there are cannot be told from one of them
    /// (`pager::cache`, invariant 4).
    #[test]
    fn to_keep_long_values_among_many_pages_takes_no_look_at_all_of_them() {
        let storage = Arc::new(MemoryStorage::new());
        let builder = Aurora::builder().background(false).memory_limit(64 << 20);
        let db = builder.open_storage(storage).unwrap();
        let put = |first: u32, count: u32, bytes: usize| {
            db.write(|tx| {
                let mut tree = tx.tree("t")?;
                for key in first..first + count {
                    tree.put(key.to_be_bytes(), vec![1; bytes])?;
                }
                Ok(())
            })
            .unwrap();
            db.checkpoint().unwrap();
        };
        // Frames of 1,400 bytes, of 4 KiB, of 20,000 bytes.
        put(0, 4_000, 1_400);
        put(10_000, 12_000, 1_000);
        for round in 0..10 {
            put(30_000, 100, 20_000);
            put(50_000 + round * 100, 100, 1_000);
        }
        let looks = db.handle.engine.pager.cache.clock_looks();
        assert!(looks < 60_000, "{looks} looks at some 20,000 entries");
    }
}
