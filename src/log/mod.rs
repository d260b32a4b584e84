//! The write-ahead log: a ring inside the file, written by whoever leads, shared by all who wait.
//!
//! A commit appends one record to a buffer in memory. Whoever then finds no write in flight
//! becomes the leader: it writes and syncs all that is in the buffer, publishes the states that
//! became durable, and wakes the others. While one device write is in flight, the next batch
//! gathers by itself; after a batch of several commits, the next one is written when as many have
//! come back, or after a moment. A lone writer waits for nobody.
//!
//! # Invariants
//!
//! 1. Bytes from the start of the window up to `durable` are on the disk. Bytes from there up to
//!    `written` were handed to a write that did not finish; from there up to `end` they are in
//!    `buffer`.
//! 2. The window, from the log start of the durable checkpoint to `end`, never laps itself, and
//!    room for a switch record and a mark is always kept.
//! 3. At most one thread, the leader, writes to the ring. It does not hold the lock meanwhile.
//! 4. A state is published only when the log is durable up to its record (or when its commit
//!    asked not to wait), and never one older than the published one.
//! 5. After a failed write or sync nothing more is begun: what the disk holds is not known, and what was in the buffer is
//!    dropped. Only a write or a checkpoint that is under way may still make durable what it covers.
//! 6. Whoever holds copies of what is published is told before a state becomes visible and after,
//!    once for each commit that the state holds and the one before it did not, also when states
//!    in between were never published themselves.
//! 7. After each sync a mark is written behind the last record, not synced: it proves on reopen
//!    that the records before it were acknowledged. The next record overwrites it. If it cannot be
//!    written, nothing was acknowledged.
//! 8. Where a record is waited for and nobody leads, somebody is about to: a thread that waits for a
//!    time only, one that was called, or the background thread.
//! 9. A record is not durable before the long values that it names, unless it says so: then an open
//!    that has no proof of the sync compares them with their checksums (`replay`, invariant 3).
//! 10. With a background thread, no commit stays in the buffer for much longer than [`LINGER`](leader::LINGER), whether or
//!     not somebody waits for it.
//! 11. A task is woken by a thread that holds no lock: it may run, or be dropped, right there. Where locks above the log's
//!     are held, the background thread does it. (Without one no task waits.)

mod behind;
mod gate;
mod geometry;
mod inner;
mod leader;
mod replay;
mod ring;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::events;
use crate::sync::{Condvar, Mutex, shielded};
use arc_swap::ArcSwap;

use self::gate::Gate;
pub(crate) use self::geometry::Geometry;
use self::inner::{Inner, Pending, UnsyncedRuns};
use self::leader::Syncing;
pub(crate) use self::replay::{Scan, scan};
use self::waiting::{Waiting, Woken};
use crate::format::header::LogRegion;
use crate::format::record;
use crate::format::{Lsn, Version};
use crate::pager::Pager;
use crate::{Error, Result};

/// A state that the log can publish.
pub(crate) trait Versioned: Send + Sync {
    fn version(&self) -> Version;
}

/// Someone who holds copies of what is published, and is told when a commit changes it
/// (invariant 6). Both are called with the log's lock held: they must be short, and must not call
/// the log. What is never published is dropped without a call.
pub(crate) trait Publication: std::fmt::Debug + Send {
    /// The next call of [`Log::published`] may see the commit.
    fn before(&mut self);
    /// Every call from now on sees it.
    fn after(&mut self);
}

/// What was told of a publication; dropped when the log's lock is not held any more, because that
/// may free a lot of memory.
type Told = Vec<Box<dyn Publication>>;

/// The place in the log that a state corresponds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub lsn: Lsn,
    /// The checksum of the record before it.
    pub crc: u32,
}

/// Why a record was not appended.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The ring is full until a checkpoint moves its start.
    NoRoom,
    /// The log is closed to writes.
    Failed(Error),
}

/// What the statistics show of the log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LogUse {
    pub ring_bytes: u64,
    pub used_bytes: u64,
    pub records: u64,
    pub batches: u64,
}

/// The log, and the newest state that readers may see.
#[derive(Debug)]
pub(crate) struct Log<S> {
    pager: Arc<Pager>,
    inner: Mutex<Inner<S>>,
    /// `durable` again, for threads that wake up: taking the lock to look would line them all up,
    /// which cost as much as the sync itself with eight of them.
    durable: AtomicU64,
    /// `records` again, for a leader that gathers.
    records: AtomicU64,
    /// Where threads wait for batches with even numbers, and with odd ones.
    gates: [Gate; 2],
    progress: Condvar,
    work: Condvar,
    published: ArcSwap<S>,
}

/// The longest payload for a ring of that length: a quarter of it at the most, and no more than what the record's
/// field for its length can say.
pub(crate) fn longest_payload(ring_bytes: u64) -> u64 {
    (ring_bytes / 4).min(u64::from(u32::MAX))
}

impl<S: Versioned> Log<S> {
    pub(crate) fn new(
        pager: Arc<Pager>,
        geometry: Geometry,
        position: Position,
        checkpoint: u64,
        state: Arc<S>,
    ) -> Self {
        Log {
            pager,
            inner: Mutex::new(Inner {
                geometry,
                end: position.lsn,
                last_crc: position.crc,
                written: position.lsn,
                durable: position.lsn,
                buffer: Vec::new(),
                checkpoint,
                leading: false,
                batch: 1,
                gathering: false,
                runs: UnsyncedRuns::default(),
                pending: VecDeque::new(),
                notices: VecDeque::new(),
                wakers: Waiting::default(),
                left: Woken::default(),
                failed: None,
                kicked: false,
                lingers: false,
                is_closing: false,
                stopping: false,
                last_batch: 0,
                batched: 0,
                records: 0,
                batches: 0,
                awaited_batches: 0,
            }),
            durable: AtomicU64::new(position.lsn),
            records: AtomicU64::new(0),
            gates: Default::default(),
            progress: Condvar::new(),
            work: Condvar::new(),
            published: ArcSwap::new(state),
        }
    }

    /// The newest state that readers may see.
    pub(crate) fn published(&self) -> Arc<S> {
        self.published.load_full()
    }

    /// Appends a commit record. Returns the position behind it, which is where the log must be
    /// durable for the commit to be.
    pub(crate) fn append(
        &self,
        version: Version,
        payload: &[u8],
        run_bytes: u64,
    ) -> Result<Lsn, Refusal> {
        let mut inner = self.inner.lock();
        if let Some(cause) = &inner.failed {
            return Err(Refusal::Failed(Error::Poisoned {
                cause: cause.clone(),
            }));
        }
        self.switch_if_due(&mut inner, version);
        if record::record_bytes(payload.len() as u64) > inner.room(self.pager.page_size()) {
            return Err(Refusal::NoRoom);
        }
        let flags = inner.runs.add(run_bytes);
        inner.push(record::COMMIT, flags, version, payload, self.pager.salt());
        inner.records += 1;
        self.records.store(inner.records, Ordering::Relaxed);
        Ok(inner.end)
    }

    /// Goes on in the ring that the durable checkpoint named (invariant 2 keeps the room).
    fn switch_if_due(&self, inner: &mut Inner<S>, version: Version) {
        if inner.geometry.switched.is_none()
            && let Some(next) = inner.geometry.next.take()
        {
            inner.push(record::SWITCH, 0, version, &[], self.pager.salt());
            inner.geometry.switched = Some((inner.end, next));
        }
    }

    /// The state of the commit that ends at `end` becomes visible when the log is durable there,
    /// or now.
    pub(crate) fn publish(
        &self,
        state: Arc<S>,
        end: Lsn,
        now: bool,
        notice: Option<Box<dyn Publication>>,
    ) {
        let mut inner = self.inner.lock();
        if let Some(notice) = notice {
            inner.notices.push_back((state.version(), notice));
        }
        let mut told = Told::new();
        if now || inner.durable >= end {
            told = self.publish_newer(&mut inner, state);
        } else {
            inner.pending.push_back(Pending { end, state });
        }
        drop(inner);
        drop(told);
    }

    /// A state that a transaction without changes has seen becomes visible, though it may not be
    /// durable: its commit did not ask to wait.
    pub(crate) fn publish_seen(&self, state: Arc<S>) {
        let mut inner = self.inner.lock();
        let mut told = Told::new();
        if inner.failed.is_none() {
            told = self.publish_newer(&mut inner, state);
        }
        drop(inner);
        drop(told);
    }

    /// Invariants 4 and 6. Called with the lock held, which orders the stores.
    #[must_use]
    fn publish_newer(&self, inner: &mut Inner<S>, state: Arc<S>) -> Told {
        let mut told = inner.notices_up_to(state.version());
        for notice in &mut told {
            notice.before();
        }
        if state.version() > self.published.load().version() {
            self.published.store(state);
        }
        for notice in &mut told {
            notice.after();
        }
        told
    }

    /// The length of the ring that the next record goes to.
    pub(crate) fn ring_bytes(&self) -> u64 {
        let geometry = self.inner.lock().geometry;
        let pending = geometry.next.filter(|_| geometry.switched.is_none());
        let ring = pending.unwrap_or(geometry.current());
        ring.length_bytes(self.pager.page_size())
    }

    /// Goes on in the ring that waits for the next record, so that a checkpoint can give up the
    /// present one.
    pub(crate) fn switch(&self, version: Version) {
        let mut inner = self.inner.lock();
        if inner.failed.is_none() {
            self.switch_if_due(&mut inner, version);
        }
    }

    /// The longest payload that the present ring takes with room to spare.
    pub(crate) fn max_record_bytes(&self) -> u64 {
        longest_payload(self.ring_bytes())
    }

    /// The end of the log, with the checksum that the next record links to.
    pub(crate) fn position(&self) -> Position {
        let inner = self.inner.lock();
        Position {
            lsn: inner.end,
            crc: inner.last_crc,
        }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.inner.lock().geometry
    }

    pub(crate) fn usage(&self) -> LogUse {
        let inner = self.inner.lock();
        let ring = inner.geometry.current();
        LogUse {
            ring_bytes: ring.length_bytes(self.pager.page_size()),
            used_bytes: inner.end - inner.geometry.base(),
            records: inner.records,
            batches: inner.batches,
        }
    }

    /// Whether a checkpoint should start: half of the ring is used.
    pub(crate) fn is_half_full(&self) -> bool {
        let usage = self.usage();
        usage.used_bytes > usage.ring_bytes / 2
    }

    /// How many batches that somebody waits for were on their way to the disk by now.
    pub(crate) fn awaited_batches(&self) -> u64 {
        self.inner.lock().awaited_batches
    }

    /// Bytes that wait for a write, and bytes of long values that wait for a sync. If there is a background thread,
    /// it is going to write them in a while (invariant 10).
    pub(crate) fn buffered_bytes(&self, is_served: bool) -> (usize, u64) {
        let mut inner = self.inner.lock();
        if is_served {
            self.note_lingering(&mut inner);
        }
        (inner.buffer.len(), inner.runs.bytes)
    }

    /// The background thread is going to write what is in the buffer in a while, if nobody else does (invariant 10).
    pub(crate) fn linger(&self) {
        self.note_lingering(&mut self.inner.lock());
    }

    fn note_lingering(&self, inner: &mut Inner<S>) {
        if !inner.buffer.is_empty() && !inner.lingers {
            inner.lingers = true;
            self.work.notify_one();
        }
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        let cause = self.inner.lock().failed.clone()?;
        Some(Error::Poisoned { cause })
    }

    /// Closes the log to writes for good (invariant 5). Whoever calls it may hold locks, so tasks are left to the
    /// background thread to wake (invariant 11).
    pub(crate) fn poison(&self, cause: &Error) {
        let _held = events::hold();
        let mut inner = self.inner.lock();
        let woken = self.fail(&mut inner, cause);
        self.leave(&mut inner, woken);
    }

    fn leave(&self, inner: &mut Inner<S>, mut woken: Woken) {
        if !woken.is_empty() {
            inner.left.append(&mut woken);
            self.work.notify_one();
        }
    }

    /// Called with a [`Held`](events::Held) that was taken before the lock.
    fn fail(&self, inner: &mut Inner<S>, cause: &Error) -> Woken {
        if inner.failed.is_none() {
            let cause = Arc::new(cause.clone());
            inner.failed = Some(cause.clone());
            events::tell(move || tracing::error!(%cause, "writes are refused from now on"));
        }
        // What is pending stays: a write that is under way, or a checkpoint, may still make it durable.
        inner.buffer.clear();
        self.release(inner)
    }

    /// Asks the background thread to write what is in the buffer.
    pub(crate) fn kick(&self) {
        self.inner.lock().kicked = true;
        self.work.notify_one();
    }

    /// Makes everything appended so far durable.
    pub(crate) fn flush(&self) -> Result<()> {
        let end = self.inner.lock().end;
        self.wait(end)
    }

    /// Tasks are left to the background thread from now on (invariant 11): who closes holds the writers' turn, for which
    /// a task that runs where it is woken may wait.
    pub(crate) fn begin_close(&self) {
        self.inner.lock().is_closing = true;
    }

    pub(crate) fn stop(&self) {
        self.inner.lock().stopping = true;
        self.work.notify_all();
    }

    /// A checkpoint of the state at `position` is durable: the window starts there, and everything
    /// before it is durable too, whether or not the log was synced. `next` is the ring that the
    /// checkpoint's header names.
    pub(crate) fn checkpointed(
        &self,
        checkpoint: u64,
        position: Position,
        next: Option<LogRegion>,
    ) {
        let mut inner = self.inner.lock();
        // The leader's picture of the rings must not change under it (invariant 3).
        while inner.leading {
            inner = self.progress.wait(inner);
        }
        inner.checkpoint = checkpoint;
        inner.geometry.start = position.lsn;
        if let Some((at, region)) = inner.geometry.switched
            && position.lsn >= at
        {
            inner.geometry.first = region;
            inner.geometry.switched = None;
        }
        if inner.geometry.switched.is_none() {
            inner.geometry.next = next;
        }
        inner.skip_to(position.lsn);
        inner.durable = inner.durable.max(position.lsn);
        let told = self.publish_durable(&mut inner);
        let woken = self.release(&mut inner);
        self.leave(&mut inner, woken);
        drop(inner);
        drop(told);
    }

    /// Writes a mark behind the last record, if everything before it is durable. After a
    /// checkpoint it proves that its header was; with `FLAG_CLEAN` and synced, that there is
    /// nothing to recover; without it and synced, that a new session began.
    pub(crate) fn write_mark(&self, flags: u8, durable: bool) -> Result<()> {
        let mut inner = self.inner.lock();
        while inner.leading {
            inner = self.progress.wait(inner);
        }
        if inner.durable < inner.end || inner.failed.is_some() {
            return Ok(());
        }
        // As the leader, so that nobody writes a record to the same place meanwhile.
        inner.leading = true;
        let mark = inner.mark(inner.end, flags, self.pager.salt());
        let (geometry, end) = (inner.geometry, inner.end);
        drop(inner);
        let syncing = if durable {
            Syncing::Shared
        } else {
            Syncing::Not
        };
        let write = || self.write_ring(&geometry, end, &mark, syncing);
        let told = |error: &Error| self.pager.fail_syncs(error);
        let written = shielded("write the log", told, write);
        let mut inner = self.inner.lock();
        inner.leading = false;
        let woken = self.wake_tasks(&mut inner);
        if inner.kicked || inner.lingers {
            self.work.notify_one();
        }
        // Whoever came meanwhile sleeps until somebody leads (invariant 8).
        self.gate(inner.batch).call();
        drop(inner);
        drop(woken);
        written
    }
}

#[cfg(test)]
mod tests {
    use super::longest_payload;

    #[test]
    fn no_record_is_longer_than_its_length_can_say() {
        assert_eq!(longest_payload(32 << 10), 8 << 10);
        assert_eq!(longest_payload(16 << 30), u64::from(u32::MAX));
        assert_eq!(longest_payload(1 << 40), u64::from(u32::MAX));
    }
}
