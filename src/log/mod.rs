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
//! 5. After a failed write or sync nothing more is written, and nothing more is taken for durable:
//!    what the disk holds is not known, and what was in the buffer is dropped.
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

mod gate;
mod replay;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use crate::sync::{Condvar, Mutex, MutexGuard, Patience};
use arc_swap::ArcSwap;

use self::gate::{Exit, Gate};
pub(crate) use self::replay::{Scan, scan};
use crate::format::header::LogRegion;
use crate::format::record::{self, RecordHeader};
use crate::format::{Lsn, Version};
use crate::pager::{Cause, Pager};
use crate::{Error, Result};

/// Kept free in the ring: a switch record and a mark.
const RESERVE_BYTES: u64 = 2 * record::RECORD_HEADER_BYTES as u64;

/// How long a batch waits, at the most, for the threads that the last one has woken: about as long
/// as a sync takes. It rarely does, because it goes on as soon as they have all come back.
const GATHER_MICROS: u64 = 300;

/// So many bytes of long values are synced together with the records that name them. An open has to
/// read them if it finds no proof that the sync was done; a second sync would cost a small blob a third
/// of its time.
const RUNS_TOGETHER_BYTES: u64 = 4 << 20;

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

/// Whether a write to the ring is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syncing {
    Not,
    Shared,
    /// By a thread beside which nobody waits, so that it may take some of the processor's time for it.
    Alone,
}

/// Where in the file the log's positions are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    /// The start of the window: nothing before it is needed.
    pub start: Lsn,
    pub first: LogRegion,
    /// From this position on, the log is in another ring.
    pub switched: Option<(Lsn, LogRegion)>,
    /// The durable checkpoint names this ring; the next append switches to it.
    pub next: Option<LogRegion>,
}

impl Geometry {
    fn current(&self) -> LogRegion {
        self.switched.map_or(self.first, |(_, region)| region)
    }

    /// The ring that holds `lsn`.
    fn region(&self, lsn: Lsn) -> LogRegion {
        match self.switched {
            Some((at, region)) if lsn >= at => region,
            _ => self.first,
        }
    }

    /// The part of the window that is in the current ring begins here.
    fn base(&self) -> Lsn {
        self.switched.map_or(self.start, |(at, _)| at)
    }

    /// The rings as a header records them for a log that starts at `start`.
    pub(crate) fn regions_from(&self, start: Lsn) -> (LogRegion, Option<LogRegion>) {
        match self.switched {
            Some((at, region)) if start >= at => (region, self.next),
            Some((_, region)) => (self.first, Some(region)),
            None => (self.first, self.next),
        }
    }
}

/// The place in the log that a state corresponds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub lsn: Lsn,
    /// The checksum of the record before it.
    pub crc: u32,
}

#[derive(Debug)]
struct Pending<S> {
    end: Lsn,
    state: Arc<S>,
}

#[derive(Debug)]
struct Inner<S> {
    geometry: Geometry,
    end: Lsn,
    last_crc: u32,
    written: Lsn,
    durable: Lsn,
    buffer: Vec<u8>,
    /// The number of the durable checkpoint.
    checkpoint: u64,
    leading: bool,
    /// The number of the batch that is in `buffer`.
    batch: u64,
    /// Somebody waits, for a time, until that batch is complete.
    gathering: bool,
    /// Long values that were written to their place and are named by records in `buffer`.
    runs: UnsyncedRuns,
    pending: VecDeque<Pending<S>>,
    /// Who is to be told when which state is published, in order. Apart from `pending`, because a
    /// newer state may be published first. Kept after a failure: a buffered commit on top of
    /// those that failed may still be published.
    notices: VecDeque<(Version, Box<dyn Publication>)>,
    wakers: Vec<(Lsn, Waker)>,
    failed: Option<Arc<Error>>,
    /// Someone wants the background thread to lead.
    kicked: bool,
    stopping: bool,
    /// Commits in the last batch.
    last_batch: u64,
    /// `records` when it was written.
    batched: u64,
    records: u64,
    batches: u64,
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
                wakers: Vec::new(),
                failed: None,
                kicked: false,
                stopping: false,
                last_batch: 0,
                batched: 0,
                records: 0,
                batches: 0,
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
        if record::record_bytes(payload.len()) as u64 > inner.room(self.pager.page_size()) {
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

    /// The largest record that the present ring takes with room to spare.
    pub(crate) fn max_record_bytes(&self) -> u64 {
        self.ring_bytes() / 4
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

    /// How many batches were on their way to the disk by now.
    pub(crate) fn batches_begun(&self) -> u64 {
        let inner = self.inner.lock();
        inner.batches + u64::from(inner.leading)
    }

    /// Bytes that wait for a write, and bytes of long values that wait for a sync.
    pub(crate) fn buffered_bytes(&self) -> (usize, u64) {
        let inner = self.inner.lock();
        (inner.buffer.len(), inner.runs.bytes)
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        let cause = self.inner.lock().failed.clone()?;
        Some(Error::Poisoned { cause })
    }

    /// Closes the log to writes for good (invariant 5).
    pub(crate) fn poison(&self, cause: &Error) {
        let mut inner = self.inner.lock();
        self.fail(&mut inner, cause);
    }

    fn fail(&self, inner: &mut Inner<S>, cause: &Error) {
        if inner.failed.is_none() {
            tracing::error!(%cause, "writes are refused from now on");
            inner.failed = Some(Arc::new(cause.clone()));
        }
        inner.pending.clear();
        inner.buffer.clear();
        self.release(inner);
    }

    /// Blocks until the log is durable up to `lsn`, leading if nobody else does.
    ///
    /// Who comes when the batch is complete leads at once. Who comes before sleeps, the first of
    /// them for a moment at the most: those that the last batch has woken are on their way, and
    /// without waiting for them every second batch is nearly empty. A lone writer never waits.
    pub(crate) fn wait(&self, lsn: Lsn) -> Result<()> {
        let mut inner = self.inner.lock();
        let mut patient = true;
        loop {
            if let Some(result) = inner.outcome(lsn) {
                return result;
            }
            let mut limit = None;
            if !inner.leading {
                if inner.is_complete() || !patient {
                    inner = self.lead(inner);
                    continue;
                }
                let first = !std::mem::replace(&mut inner.gathering, true);
                limit = first.then_some(Duration::from_micros(GATHER_MICROS));
            }
            let batch = inner.batch_of(lsn);
            drop(inner);
            let exit = self.gate(batch).wait(batch, limit);
            if self.durable.load(Ordering::Acquire) >= lsn {
                return Ok(());
            }
            inner = self.inner.lock();
            if limit.is_some() && inner.batch == batch {
                inner.gathering = false; // it was this one that waited for a time
            }
            patient = exit != Exit::TimedOut;
        }
    }

    fn gate(&self, batch: u64) -> &Gate {
        let [even, odd] = &self.gates;
        if batch.is_multiple_of(2) { even } else { odd }
    }

    /// Whether the log is durable up to `lsn`; if not, `waker` is woken when it is. Never blocks
    /// on the disk: the background thread leads.
    pub(crate) fn poll(&self, lsn: Lsn, waker: &Waker) -> Option<Result<()>> {
        let mut inner = self.inner.lock();
        let outcome = inner.outcome(lsn);
        if outcome.is_none() {
            inner.wakers.retain(|(_, known)| !known.will_wake(waker));
            inner.wakers.push((lsn, waker.clone()));
            inner.kicked = true;
            self.work.notify_one();
        }
        outcome
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

    /// The life of the background thread: leads when asked to, until stopped.
    pub(crate) fn serve(&self) {
        let mut inner = self.inner.lock();
        while !inner.stopping {
            if !inner.kicked || inner.leading {
                self.work.wait(&mut inner);
                continue;
            }
            inner = self.gather(inner);
            if !inner.leading {
                inner.kicked = false;
                if inner.durable < inner.end && inner.failed.is_none() {
                    inner = self.lead(inner);
                }
            }
        }
    }

    pub(crate) fn stop(&self) {
        self.inner.lock().stopping = true;
        self.work.notify_all();
    }

    /// Writes and syncs what is in the buffer, publishes, wakes (invariants 3 to 7).
    fn lead<'a>(&'a self, mut inner: MutexGuard<'a, Inner<S>>) -> MutexGuard<'a, Inner<S>> {
        inner.leading = true;
        let batch = inner.next_batch();
        let bytes = std::mem::take(&mut inner.buffer);
        debug_assert_eq!(bytes.len() as u64, inner.end - inner.written);
        inner.last_batch = inner.records - inner.batched;
        inner.batched = inner.records;
        let from = inner.written;
        let to = inner.end;
        inner.written = to;
        let geometry = inner.geometry;
        let runs = std::mem::take(&mut inner.runs);
        let mark = inner.mark(to, 0, self.pager.salt());
        let syncing = match inner.last_batch {
            0 | 1 => Syncing::Alone,
            _ => Syncing::Shared,
        };
        drop(inner);

        let outcome = self.write_batch(&geometry, from, &bytes, runs, syncing);
        let outcome = outcome.and_then(|()| self.write_proof(&geometry, to, &mark));

        let mut inner = self.inner.lock();
        inner.leading = false;
        inner.batches += 1;
        let mut told = Told::new();
        match outcome {
            Ok(()) => {
                inner.durable = inner.durable.max(to);
                told = self.publish_durable(&mut inner);
            }
            Err(cause) => self.fail(&mut inner, &cause),
        }
        if inner.buffer.is_empty() && inner.failed.is_none() {
            // Its memory serves the next batch.
            inner.buffer = bytes;
            inner.buffer.clear();
        }
        self.wake_tasks(&mut inner);
        if inner.kicked {
            self.work.notify_one();
        }
        let is_next_waiting = !inner.buffer.is_empty();
        drop(inner);
        if is_next_waiting {
            // Invariant 8. First, so that the next write is under way while the others wake.
            self.gate(batch + 1).call();
        }
        self.gate(batch).open(batch);
        drop(told);
        self.inner.lock()
    }

    /// Lets the tasks run that the last batch has woken, until they have appended their next
    /// commits, for a moment at the most. (Giving way a number of times instead of for a time was
    /// tried: with busy readers it took milliseconds.)
    fn gather<'a>(&'a self, inner: MutexGuard<'a, Inner<S>>) -> MutexGuard<'a, Inner<S>> {
        if inner.is_complete() {
            return inner;
        }
        let expected = inner.batched + inner.last_batch;
        drop(inner);
        let patience = Patience::new(GATHER_MICROS);
        while self.records.load(Ordering::Relaxed) < expected && patience.give_way() {}
        self.inner.lock()
    }

    /// Invariant 7. A file system that shuts down drops what it has not written, and a sync that meets it
    /// there can find nothing left to do and succeed. But it takes no more writes: this one shows that
    /// it was up during the sync. A full disk shows that too.
    fn write_proof(&self, geometry: &Geometry, to: Lsn, mark: &[u8]) -> Result<()> {
        match self.write_ring(geometry, to, mark, Syncing::Not) {
            Err(error) if !error.is_disk_full() => Err(error),
            _ => Ok(()),
        }
    }

    /// Invariant 9.
    fn write_batch(
        &self,
        geometry: &Geometry,
        from: Lsn,
        bytes: &[u8],
        runs: UnsyncedRuns,
        syncing: Syncing,
    ) -> Result<()> {
        if runs.bytes == 0 {
            return self.write_ring(geometry, from, bytes, syncing);
        }
        if runs.come_first {
            self.pager.sync_all()?;
            return self.write_ring(geometry, from, bytes, syncing);
        }
        self.write_ring(geometry, from, bytes, Syncing::Not)?;
        self.pager.sync_all()
    }

    /// Writes at a position, in as many pieces as the rings have there.
    fn write_ring(
        &self,
        geometry: &Geometry,
        from: Lsn,
        bytes: &[u8],
        syncing: Syncing,
    ) -> Result<()> {
        let mut lsn = from;
        let mut rest = bytes;
        while !rest.is_empty() {
            let region = geometry.region(lsn);
            let length = region.length_bytes(self.pager.page_size());
            let within = lsn % length;
            let mut piece = (length - within).min(rest.len() as u64);
            if let Some((at, _)) = geometry.switched
                && lsn < at
            {
                piece = piece.min(at - lsn);
            }
            let (now, later) = rest.split_at(piece as usize);
            let offset = self.pager.offset(region.first) + within;
            let storage = self.pager.storage();
            let written = match syncing {
                Syncing::Not => storage.write_at(offset, now),
                Syncing::Shared => {
                    self.pager.written.count_sync();
                    storage.write_sync_at(offset, now)
                }
                Syncing::Alone => {
                    self.pager.written.count_sync();
                    storage.write_sync_alone_at(offset, now)
                }
            };
            written.map_err(|error| Error::io("write the log", offset, error))?;
            self.pager.written.add(Cause::Log, piece);
            lsn += piece;
            rest = later;
        }
        Ok(())
    }

    #[must_use]
    fn publish_durable(&self, inner: &mut Inner<S>) -> Told {
        let mut newest = None;
        while let Some(first) = inner.pending.front()
            && first.end <= inner.durable
        {
            newest = inner.pending.pop_front();
        }
        newest.map_or_else(Told::new, |newest| self.publish_newer(inner, newest.state))
    }

    /// Wakes everyone who waits for the batch in the buffer, whether or not they are done: what
    /// is left of it is another batch.
    fn release(&self, inner: &mut Inner<S>) {
        self.wake_tasks(inner);
        let batch = inner.next_batch();
        self.gate(batch).open(batch);
    }

    /// Wakes the tasks that need not wait any more.
    fn wake_tasks(&self, inner: &mut Inner<S>) {
        let durable = inner.durable;
        self.durable.store(durable, Ordering::Release);
        let failed = inner.failed.is_some();
        let mut still = Vec::new();
        for (lsn, waker) in inner.wakers.drain(..) {
            if failed || lsn <= durable {
                waker.wake();
            } else {
                still.push((lsn, waker));
            }
        }
        inner.wakers = still;
        self.progress.notify_all();
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
            self.progress.wait(&mut inner);
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
        self.release(&mut inner);
        drop(inner);
        drop(told);
    }

    /// Writes a mark behind the last record, if everything before it is durable. After a
    /// checkpoint it proves that its header was; with `FLAG_CLEAN` and synced, that there is
    /// nothing to recover; without it and synced, that a new session began.
    pub(crate) fn write_mark(&self, flags: u8, durable: bool) -> Result<()> {
        let mut inner = self.inner.lock();
        while inner.leading {
            self.progress.wait(&mut inner);
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
        let written = self.write_ring(&geometry, end, &mark, syncing);
        let mut inner = self.inner.lock();
        inner.leading = false;
        self.wake_tasks(&mut inner);
        if inner.kicked {
            self.work.notify_one();
        }
        // Whoever came meanwhile sleeps until somebody leads (invariant 8).
        self.gate(inner.batch).call();
        written
    }
}

/// Long values that were written to their place and not synced.
#[derive(Debug, Clone, Copy, Default)]
struct UnsyncedRuns {
    bytes: u64,
    /// They are too many to be read by an open: they are synced before the records are written.
    come_first: bool,
}

impl UnsyncedRuns {
    /// Adds those of a record, and returns the flags that it takes.
    fn add(&mut self, bytes: u64) -> u8 {
        self.bytes = self.bytes.saturating_add(bytes);
        match bytes {
            0 => 0,
            _ if self.bytes <= RUNS_TOGETHER_BYTES => record::FLAG_RUNS_UNSYNCED,
            _ => {
                self.come_first = true;
                0
            }
        }
    }
}

impl<S> Inner<S> {
    fn room(&self, page_size: u32) -> u64 {
        let ring = self.geometry.current().length_bytes(page_size);
        let used = self.end - self.geometry.base();
        ring.saturating_sub(used).saturating_sub(RESERVE_BYTES)
    }

    fn push(&mut self, kind: u8, flags: u8, version: Version, payload: &[u8], salt: u64) {
        let header = RecordHeader {
            length_bytes: payload.len() as u32,
            lsn: self.end,
            version,
            checkpoint: self.checkpoint,
            durable: self.durable,
            kind,
            flags,
            previous: self.last_crc,
            ..RecordHeader::default()
        };
        let before = self.buffer.len();
        self.last_crc = record::encode(&mut self.buffer, &header, payload, salt);
        self.end += (self.buffer.len() - before) as u64;
    }

    /// The mark that belongs at `end` once the log is durable up to there (invariant 7).
    fn mark(&self, end: Lsn, flags: u8, salt: u64) -> Vec<u8> {
        let header = RecordHeader {
            lsn: end,
            checkpoint: self.checkpoint,
            durable: end,
            kind: record::MARK,
            flags,
            previous: self.last_crc,
            ..RecordHeader::default()
        };
        let mut bytes = Vec::new();
        record::encode(&mut bytes, &header, &[], salt);
        bytes
    }

    /// Whether everyone whom the last batch has woken is back.
    fn is_complete(&self) -> bool {
        self.last_batch <= 1 || self.records >= self.batched + self.last_batch
    }

    /// The batch that makes the log durable up to `lsn`: the one in the buffer, or in flight.
    fn batch_of(&self, lsn: Lsn) -> u64 {
        self.batch - u64::from(lsn <= self.written)
    }

    /// Closes the batch in the buffer, and returns its number.
    fn next_batch(&mut self) -> u64 {
        self.gathering = false;
        self.batch += 1;
        self.batch - 1
    }

    fn outcome(&self, lsn: Lsn) -> Option<Result<()>> {
        if self.durable >= lsn {
            return Some(Ok(()));
        }
        // The first failure itself, for everyone who was waiting for that write.
        self.failed.as_ref().map(|cause| Err((**cause).clone()))
    }

    fn notices_up_to(&mut self, version: Version) -> Told {
        let due = self.notices.partition_point(|(of, _)| *of <= version);
        self.notices
            .drain(..due)
            .map(|(_, notice)| notice)
            .collect()
    }

    /// A checkpoint made everything before `lsn` durable: it need not be written any more.
    fn skip_to(&mut self, lsn: Lsn) {
        if lsn > self.written {
            let skipped = (lsn - self.written) as usize;
            self.buffer.drain(..skipped.min(self.buffer.len()));
            self.written = lsn;
        }
    }
}
