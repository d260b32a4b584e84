//! The sweeper: a thread that removes what has expired soon after it has.
//!
//! # Invariants
//!
//! 1. The alarm never stands later than the next expiry that is committed: who adds an entry holds
//!    the writer's turn and lowers the alarm; the sweeper raises it only in a turn of its own.
//! 2. It waits only in the waiting place, which can be another one in tests.
//! 3. A step is one transaction, of so many entries, or of as many as go into twice the time that it waited for its
//!    turn, at most a second; between two steps others get their turn. With a bound on the number alone, who stores many
//!    short lives in each transaction would outrun it, and the file would grow for as long as that goes on.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::expiry;
use crate::events;
use crate::handle::Handle;
use crate::sync::{Condvar, Mutex, shielded, waited};
use crate::txn::write::{Durability, WriteTransaction};
use crate::{Error, Result};

/// What one step removes at least, if there is as much.
const STEP: usize = 256;
/// What expires within this time goes in one step, so that a stream of short lives costs few
/// syncs. It also bounds how often a clock that stands still is asked.
const LEAST_WAIT_MS: u64 = 100;
/// A clock may jump forward: it is not asked less often than this, while something expires.
const MOST_WAIT_MS: u64 = 60_000;
/// How long it waits after a step that failed.
const RETRY_MS: u64 = 10_000;

/// Where the sweeper waits.
pub(crate) trait Waiting: Debug + Send + Sync {
    /// Returns after that time, or without one never; sooner if it is woken, or was since the
    /// last time.
    fn wait(&self, at_most_ms: Option<u64>);

    fn wake(&self);
}

/// Waits on the real time.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Waiting for Bell {
    fn wait(&self, at_most_ms: Option<u64>) {
        let mut rung = self.rung.lock();
        if !*rung {
            rung = match at_most_ms {
                Some(ms) => self.changed.wait_for(rung, Duration::from_millis(ms)),
                None => self.changed.wait(rung),
            };
        }
        *rung = false;
    }

    fn wake(&self) {
        *self.rung.lock() = true;
        self.changed.notify_all();
    }
}

/// When the sweeper has something to do next.
#[derive(Debug)]
pub(crate) struct Alarm {
    next_ms: AtomicU64,
    stopping: AtomicBool,
    /// Where writes sweep: they do no more, because of damage or of what cannot be read.
    has_given_up: AtomicBool,
    place: Arc<dyn Waiting>,
}

impl Alarm {
    pub(crate) fn new(place: Arc<dyn Waiting>) -> Self {
        Alarm {
            next_ms: AtomicU64::new(u64::MAX),
            stopping: AtomicBool::new(false),
            has_given_up: AtomicBool::new(false),
            place,
        }
    }

    /// Something expires at that time.
    pub(crate) fn lower(&self, expiry_ms: u64) {
        if self.next_ms.fetch_min(expiry_ms, Ordering::AcqRel) > expiry_ms {
            self.place.wake();
        }
    }

    /// Nothing expires before that time. Only with the writer's turn (invariant 1).
    fn set(&self, next_ms: Option<u64>) {
        let next_ms = next_ms.unwrap_or(u64::MAX);
        self.next_ms.store(next_ms, Ordering::Release);
    }

    pub(crate) fn give_up(&self) {
        self.has_given_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_given_up(&self) -> bool {
        self.has_given_up.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.place.wake();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits until it is time, as far as can be said now.
    fn wait(&self, now_ms: u64, next_ms: u64) {
        let left = (next_ms - now_ms).clamp(LEAST_WAIT_MS, MOST_WAIT_MS);
        self.place.wait((next_ms < u64::MAX).then_some(left));
    }
}

/// Starts the sweeper, if the database has threads and can be written to.
pub(crate) fn start(handle: &Handle, durability: Durability) -> Result<()> {
    let settings = &handle.engine.settings;
    if !settings.background || settings.read_only {
        return Ok(());
    }
    let helper = Arc::new(handle.helper());
    // Nobody writes yet, so this is as good as in a turn.
    let first = crate::txn::snapshot::Snapshot::new(helper.clone())?;
    let next_ms = expiry::next_ms(&first)?;
    helper.alarm.set(next_ms);
    drop(first);
    let run = move || serve(&helper, durability);
    match next_ms {
        Some(_) => handle.engine.spawn("aurora-sweep", run),
        // Nothing expires before something is written.
        None => handle.engine.serve("aurora-sweep", run),
    }
}

/// The life of the thread.
fn serve(handle: &Arc<Handle>, durability: Durability) {
    let alarm = &handle.alarm;
    let mut told = String::new();
    while !alarm.is_stopping() {
        match shielded("sweep", |_| {}, || wait_or_step(handle, durability)) {
            Ok(()) => {}
            Err(Error::Closed | Error::Poisoned { .. }) => return,
            Err(error) => {
                let text = error.to_string();
                if told != text {
                    told = text; // once, not with each try
                    events::tell(move || tracing::warn!(%error, "{}", expiry::NOT_SWEPT));
                }
                alarm.set(Some(0)); // whatever the failed step set it to
                alarm.place.wait(Some(RETRY_MS));
            }
        }
    }
}

fn wait_or_step(handle: &Arc<Handle>, durability: Durability) -> Result<()> {
    let now_ms = handle.clock.now_ms();
    let next_ms = handle.alarm.next_ms.load(Ordering::Acquire);
    if now_ms < next_ms || next_ms == u64::MAX {
        handle.alarm.wait(now_ms, next_ms);
        return Ok(());
    }
    step(handle, durability)
}

/// Invariants 1 and 3.
fn step(handle: &Arc<Handle>, durability: Durability) -> Result<()> {
    let (turn, share) = waited(|| handle.engine.turns.wait());
    let mut tx = WriteTransaction::new(handle.clone(), turn, durability)?;
    while expiry::sweep(&mut tx, STEP)? == STEP && !share.is_over() {}
    handle.alarm.set(expiry::next_ms(&tx)?);
    tx.commit()
}
