//! How a transaction commits: its record goes to the log, its pages become the newest state, and whoever wants
//! it on the disk waits for the log. What is too large for the log is committed by a checkpoint instead.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::checkpoint::{Candidate, Purpose};
use super::engine::Engine;
use super::pages::TxnPages;
use super::state::State;
use super::write::{Durability, WriteTransaction};
use crate::Result;
use crate::events;
use crate::format::Lsn;
use crate::log::Publication;
use crate::tree::pages::WritePages;

impl WriteTransaction {
    /// Makes the changes visible and as durable as was asked.
    ///
    /// # Errors
    /// [`TransactionFailed`](crate::Error::TransactionFailed) after a failed operation;
    /// [`DiskFull`](crate::Error::DiskFull) if there is no room: nothing has changed then, and the
    /// database goes on. After an I/O error while the log was written the outcome is not known until
    /// the database is reopened, and writes are refused until then.
    pub fn commit(self) -> Result<()> {
        self.submit()?.wait()
    }

    /// Hands the changes over and returns at once; the future resolves when they are durable. (Where the log is
    /// full, or changed pages take all the memory that they may, it first waits for a checkpoint, as
    /// [`commit`](Self::commit) does: [`Builder::log_limit`](crate::Builder::log_limit).)
    ///
    /// The next transaction can begin before that, and sees the changes; snapshots see them when they
    /// are durable. The future works on any runtime, or on none
    /// with [`Commit::wait`]. A dropped future, or one that nobody polls, does not undo the commit: it becomes durable
    /// with the next one, or in about half a second. (With [`background(false)`](crate::Builder::background) there is no
    /// thread that does the latter.)
    pub fn commit_async(self) -> Result<Commit> {
        let commit = self.submit()?;
        if commit.end.is_some() && commit.engine.settings.background {
            commit.engine.log.linger();
        }
        Ok(commit)
    }

    /// What there is to tell is told when the turn has been given back.
    fn submit(self) -> Result<Commit> {
        let _held = events::hold();
        self.hand_in()
    }

    fn hand_in(mut self) -> Result<Commit> {
        self.check_usable()?;
        self.release_savepoints();
        let engine = self.handle.engine.clone();
        // What could not be written ahead is written with the rest, or fails there.
        if let Err(error) = self.pages.settle_ahead() {
            events::tell(move || tracing::debug!(%error, "pages could not be written ahead"));
        }
        engine.check_writable()?;
        if self.pages.is_unchanged() && self.record.is_empty() && !self.by_checkpoint {
            // A full commit makes the buffered ones before it durable, even if it is empty.
            let waits = self.durability == Durability::Full;
            let end = waits.then(|| engine.log.position().lsn);
            if !waits {
                // What it has seen is visible to all when it returns, as if it had changed something.
                engine.log.publish_seen(engine.next_version().0);
            }
            return Ok(Commit { engine, end });
        }
        let state = Arc::new(State {
            version: self.pages.version(),
            trees: std::mem::take(&mut self.trees),
        });
        let logged = if self.by_checkpoint {
            None
        } else {
            append(&engine, &mut self.pages, &state, &self.record)?
        };
        let notice = self.touched.notice(&self.handle.hot);
        let Some(end) = logged else {
            let commit = commit_by_checkpoint(&engine, &mut self.pages, state, notice)?;
            drop(self);
            engine.after_checkpoint();
            return Ok(commit);
        };
        engine.keep_record(std::mem::take(&mut self.record));
        let waits = self.durability == Durability::Full;
        engine.log.publish(state, end, !waits, notice);
        drop(self); // the next writer can start on top of this state
        if !waits {
            relieve_buffer(&engine)?;
        }
        if let Err(error) = engine.after_commit() {
            // The commit itself is as good as it was; the next one will meet the error.
            events::tell(move || tracing::warn!(%error, "a checkpoint after a commit failed"));
        }
        Ok(Commit {
            engine,
            end: waits.then_some(end),
        })
    }
}

/// How many records of a size that did not fit the ring fit the one that it grows to. With eight,
/// 50,000 small commits after 100 such ones took twice the time.
const RECORDS_IN_RING: u64 = 64;

/// Appends the record, waiting for checkpoints while the ring is full. `None`: the ring will not
/// take it at all.
fn append(
    engine: &Arc<Engine>,
    pages: &mut TxnPages,
    state: &Arc<State>,
    record: &[u8],
) -> Result<Option<Lsn>> {
    if record.len() as u64 > engine.log.max_record_bytes() {
        // One import should not leave a log of many times its size behind; a second one pays.
        if engine.was_record_too_large.swap(true, Ordering::Relaxed) {
            let wanted = (record.len() as u64 * RECORDS_IN_RING).next_multiple_of(64 << 10);
            engine
                .wanted_ring_bytes
                .fetch_max(wanted, Ordering::Relaxed);
        }
        return Ok(None);
    }
    engine.await_memory();
    // One checkpoint makes room for any record of that size; under load, others may take it.
    for _ in 0..8 {
        if let Some(end) = engine.commit_logged(pages, state, record)? {
            return Ok(Some(end));
        }
        // A ring that makes commits wait is far too small.
        let wanted = engine.ring_after_a_stall();
        engine
            .wanted_ring_bytes
            .fetch_max(wanted, Ordering::Relaxed);
        engine.await_checkpoint()?;
    }
    Ok(None)
}

fn commit_by_checkpoint(
    engine: &Arc<Engine>,
    pages: &mut TxnPages,
    state: Arc<State>,
    notice: Option<Box<dyn Publication>>,
) -> Result<Commit> {
    let candidate = Candidate {
        pages,
        state: state.clone(),
    };
    engine.checkpoint_with(Purpose::Routine, Some(candidate))?;
    engine.log.publish(state, 0, true, notice);
    Ok(Commit::done(engine.clone()))
}

/// Buffered commits are written when enough of them have gathered, or in a while. So are those that name long values
/// when these are enough to keep the disk busy while more come in (16 MiB took two thirds of the time).
fn relieve_buffer(engine: &Engine) -> Result<()> {
    const WRITE_ABOVE_BYTES: usize = 256 << 10;
    const WAIT_ABOVE_BYTES: usize = 4 << 20;
    const SYNC_ABOVE_BYTES: u64 = 2 << 20;
    let is_served = engine.settings.background;
    let (bytes, run_bytes) = engine.log.buffered_bytes(is_served);
    if bytes > WAIT_ABOVE_BYTES || (bytes > WRITE_ABOVE_BYTES && !is_served) {
        return engine.log.flush();
    }
    let is_much = bytes > WRITE_ABOVE_BYTES || run_bytes > SYNC_ABOVE_BYTES;
    if is_much && is_served {
        engine.log.kick();
    }
    Ok(())
}

/// A commit on its way to the disk, or all of them so far: what `commit_async` and `flush_async` give.
///
/// As a future it resolves when the commit is durable, without blocking the thread that polls it:
/// the disk is waited for on a thread of the database's own. (A database opened with
/// `background(false)` has none, and writes within the poll.)
#[derive(Debug)]
#[must_use = "only waiting for it says whether what was committed is durable"]
pub struct Commit {
    engine: Arc<Engine>,
    /// Where the log must be durable; nothing to wait for if it is not set.
    end: Option<Lsn>,
}

impl Commit {
    fn done(engine: Arc<Engine>) -> Self {
        Commit { engine, end: None }
    }

    /// Durable when all commits so far are, buffered ones too.
    pub(crate) fn of_all(engine: &Arc<Engine>) -> Result<Self> {
        engine.check_writable()?;
        let (engine, end) = (engine.clone(), Some(engine.log.position().lsn));
        Ok(Commit { engine, end })
    }

    /// Blocks until the commit is durable, writing it if nobody else does. Needs no runtime.
    pub fn wait(self) -> Result<()> {
        let Some(end) = self.end else { return Ok(()) };
        self.engine.check_origin()?;
        self.engine.log.wait(end)
    }
}

impl Future for Commit {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(end) = self.end else {
            return Poll::Ready(Ok(()));
        };
        if let Err(error) = self.engine.check_origin() {
            return Poll::Ready(Err(error));
        }
        if !self.engine.settings.background {
            return Poll::Ready(self.engine.log.wait(end));
        }
        match self.engine.log.poll(end, context.waker()) {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}
