//! How a commit becomes durable: a thread waits for its batch, or leads it to the disk (invariants 3 to 9 of
//! the [log](super)).

use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use super::gate::{Exit, Gate};
use super::geometry::Geometry;
use super::inner::{Inner, UnsyncedRuns};
use super::waiting::Woken;
use super::{Log, Told, Versioned};
use crate::events;
use crate::format::Lsn;
use crate::pager::Cause;
use crate::sync::{MutexGuard, Patience, shielded};
use crate::{Error, Result};

/// How long a batch waits, at the most, for the threads that the last one has woken: about as long
/// as a sync takes. It rarely does, because it goes on as soon as they have all come back.
const GATHER_MICROS: u64 = 300;

/// How long a record that nobody waits for stays in memory, about.
pub(super) const LINGER: Duration = Duration::from_millis(500);

/// Whether a write to the ring is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syncing {
    Not,
    Shared,
    /// Synced for a single commit that is waited for, which may take some of the processor's time for it.
    Alone,
}

/// Records on their way to the disk.
struct Batch {
    number: u64,
    from: Lsn,
    to: Lsn,
    bytes: Vec<u8>,
    geometry: Geometry,
    /// Long values that they name.
    runs: UnsyncedRuns,
    /// What is written behind them (invariant 7).
    mark: Vec<u8>,
    syncing: Syncing,
}

impl<S: Versioned> Log<S> {
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
                    inner = self.lead(inner, true);
                    continue;
                }
                let first = !std::mem::replace(&mut inner.gathering, true);
                limit = first.then_some(Duration::from_micros(GATHER_MICROS));
            }
            let batch = inner.batch_of(lsn);
            drop(inner);
            let exit = self.gate(batch).wait(batch, limit);
            if self.durable.load(Ordering::Acquire) >= lsn {
                if exit == Exit::Called {
                    // Before the gate was opened for its batch: it is one of a later batch that is meant (invariant 8).
                    self.gate(batch).call();
                }
                return Ok(());
            }
            inner = self.inner.lock();
            if limit.is_some() && inner.batch == batch {
                inner.gathering = false; // it was this one that waited for a time
            }
            patient = exit != Exit::TimedOut;
        }
    }

    pub(super) fn gate(&self, batch: u64) -> &Gate {
        let [even, odd] = &self.gates;
        if batch.is_multiple_of(2) { even } else { odd }
    }

    /// Whether the log is durable up to `lsn`; if not, `waker` is woken when it is. Never blocks
    /// on the disk: the background thread leads.
    pub(crate) fn poll(&self, lsn: Lsn, waker: &Waker) -> Option<Result<()>> {
        let mut inner = self.inner.lock();
        let outcome = inner.outcome(lsn);
        if outcome.is_none() {
            inner.wakers.add(lsn, waker);
            inner.kicked = true;
            self.work.notify_one();
        }
        outcome
    }

    /// The life of the background thread: leads when asked to, and when records have been in the buffer for a while
    /// (invariant 10), until stopped.
    pub(crate) fn serve(&self) {
        let mut lingering = None;
        let mut inner = self.inner.lock();
        loop {
            if !inner.left.is_empty() {
                let woken = std::mem::take(&mut inner.left);
                drop(inner);
                drop(woken);
                inner = self.inner.lock();
                continue;
            }
            if inner.stopping {
                return;
            }
            if inner.leading || !(inner.kicked || inner.lingers) {
                lingering = None;
                inner = self.work.wait(inner);
                continue;
            }
            let patience =
                lingering.get_or_insert_with(|| Patience::new(LINGER.as_micros() as u64));
            if !inner.kicked && !patience.is_over() {
                inner = self.work.wait_for(inner, LINGER);
                continue;
            }
            lingering = None;
            inner.lingers = false;
            inner = self.gather(inner);
            if !inner.leading {
                inner.kicked = false;
                if inner.durable < inner.end && inner.failed.is_none() {
                    let is_awaited = !inner.wakers.is_empty();
                    inner = self.lead(inner, is_awaited);
                }
            }
        }
    }

    /// Writes and syncs what is in the buffer, publishes, wakes (invariants 3 to 7).
    fn lead<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner<S>>,
        is_awaited: bool,
    ) -> MutexGuard<'a, Inner<S>> {
        let batch = self.take_batch(&mut inner, is_awaited);
        drop(inner);
        let told = |error: &Error| self.pager.fail_syncs(error);
        let outcome = shielded("write the log", told, || self.write_batch(&batch));
        self.settle_batch(batch, outcome);
        self.inner.lock()
    }

    /// What is in the buffer becomes a batch. Whoever takes it leads from here on.
    fn take_batch(&self, inner: &mut Inner<S>, is_awaited: bool) -> Batch {
        inner.leading = true;
        inner.awaited_batches += u64::from(is_awaited);
        let number = inner.next_batch();
        let bytes = std::mem::take(&mut inner.buffer);
        inner.lingers = false;
        debug_assert_eq!(bytes.len() as u64, inner.end - inner.written);
        inner.last_batch = inner.records - inner.batched;
        inner.batched = inner.records;
        let (from, to) = (inner.written, inner.end);
        inner.written = to;
        Batch {
            number,
            from,
            to,
            bytes,
            geometry: inner.geometry,
            runs: std::mem::take(&mut inner.runs),
            mark: inner.mark(to, 0, self.pager.salt()),
            syncing: match inner.last_batch {
                0 | 1 if is_awaited => Syncing::Alone,
                _ => Syncing::Shared,
            },
        }
    }

    /// Publishes what has become durable, and lets go of who waited for it.
    fn settle_batch(&self, batch: Batch, outcome: Result<()>) {
        let held = events::hold();
        let mut inner = self.inner.lock();
        inner.leading = false;
        inner.batches += 1;
        let mut told = Told::new();
        let mut failed = Woken::default();
        match outcome {
            Ok(()) => {
                inner.durable = inner.durable.max(batch.to);
                told = self.publish_durable(&mut inner);
            }
            Err(cause) => failed = self.fail(&mut inner, &cause),
        }
        if inner.buffer.is_empty() && inner.failed.is_none() {
            // Its memory serves the next batch.
            inner.buffer = batch.bytes;
            inner.buffer.clear();
        }
        let mut woken = self.wake_tasks(&mut inner);
        woken.append(&mut failed);
        if inner.is_closing {
            self.leave(&mut inner, std::mem::take(&mut woken));
        }
        if inner.kicked || inner.lingers {
            self.work.notify_one();
        }
        let is_next_waiting = !inner.buffer.is_empty();
        drop(inner);
        if is_next_waiting {
            // Invariant 8. First, so that the next write is under way while the others wake.
            self.gate(batch.number + 1).call();
        }
        self.gate(batch.number).open(batch.number);
        drop((told, woken));
        drop(held);
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

    /// Writes a batch and syncs it (invariant 9), and shows that it was.
    fn write_batch(&self, batch: &Batch) -> Result<()> {
        let write = |syncing| self.write_ring(&batch.geometry, batch.from, &batch.bytes, syncing);
        if batch.runs.bytes == 0 {
            write(batch.syncing)?;
        } else if batch.runs.come_first {
            self.pager.sync_all()?;
            write(batch.syncing)?;
        } else {
            write(Syncing::Not)?;
            self.pager.sync_all()?;
        }
        self.write_proof(batch)
    }

    /// Invariant 7. A file system that shuts down drops what it has not written, and a sync that meets it
    /// there can find nothing left to do and succeed. But it takes no more writes: this one shows that
    /// it was up during the sync. A full disk shows that too.
    fn write_proof(&self, batch: &Batch) -> Result<()> {
        match self.write_ring(&batch.geometry, batch.to, &batch.mark, Syncing::Not) {
            Ok(()) | Err(Error::DiskFull { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes at a position, in as many pieces as the rings have there.
    pub(super) fn write_ring(
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
                Syncing::Not => {
                    let written = storage.write_at(offset, now);
                    written.map_err(|error| Error::io("write the log", offset, error))
                }
                Syncing::Shared => {
                    self.pager.written.count_sync();
                    let written = storage.write_sync_at(offset, now);
                    self.pager.synced("write the log", offset, written)
                }
                Syncing::Alone => {
                    self.pager.written.count_sync();
                    let written = storage.write_sync_alone_at(offset, now);
                    self.pager.synced("write the log", offset, written)
                }
            };
            written?;
            self.pager.written.add(Cause::Log, piece);
            lsn += piece;
            rest = later;
        }
        Ok(())
    }

    #[must_use]
    pub(super) fn publish_durable(&self, inner: &mut Inner<S>) -> Told {
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
    pub(super) fn release(&self, inner: &mut Inner<S>) -> Woken {
        let woken = self.wake_tasks(inner);
        let batch = inner.next_batch();
        self.gate(batch).open(batch);
        woken
    }

    /// The tasks that need not wait any more.
    pub(super) fn wake_tasks(&self, inner: &mut Inner<S>) -> Woken {
        let durable = inner.durable;
        self.durable.store(durable, Ordering::Release);
        let up_to = match inner.failed.is_some() {
            true => Lsn::MAX,
            false => durable,
        };
        self.progress.notify_all();
        inner.wakers.take_up_to(up_to)
    }
}
