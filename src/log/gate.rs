//! Where the threads of one batch wait until it is durable.
//!
//! All of them are woken by one call, and leave without the log's lock: seven threads woken one
//! after the other cost as much as the device took for their batch. That is also why this is a
//! condition variable that wakes all at once: `parking_lot`'s, for one, hands those that it wakes its lock one by one.

use std::time::Duration;

use crate::sync::plain::{self, Condvar, Mutex};

/// Why a thread left the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Its batch, or a later one of this gate, is done.
    Passed,
    /// It is to lead, if nobody else does.
    Called,
    /// The time that it gave is over.
    TimedOut,
}

#[derive(Debug, Default)]
struct Passage {
    /// The newest batch of this gate that is done.
    done: u64,
    called: bool,
    /// Threads inside `wait`: with none, there is no need to ask the system to wake any.
    waiting: u32,
}

/// The gate of every second batch: those of one wait here while the other's threads leave.
#[derive(Debug, Default)]
pub(super) struct Gate {
    passage: Mutex<Passage>,
    changed: Condvar,
}

impl Gate {
    /// Blocks until the batch is done, somebody has to lead, or the time is over.
    pub(super) fn wait(&self, batch: u64, limit: Option<Duration>) -> Exit {
        let mut passage = plain::lock(&self.passage);
        let mut is_over = false;
        loop {
            if passage.done >= batch {
                return Exit::Passed;
            }
            if std::mem::take(&mut passage.called) {
                return Exit::Called;
            }
            if is_over {
                return Exit::TimedOut;
            }
            passage.waiting += 1;
            (passage, is_over) = plain::wait(&self.changed, &self.passage, passage, limit);
            passage.waiting -= 1;
        }
    }

    /// Lets everyone of the batch, and of those before it, go.
    pub(super) fn open(&self, batch: u64) {
        let mut passage = plain::lock(&self.passage);
        passage.done = passage.done.max(batch);
        let is_awaited = passage.waiting > 0;
        drop(passage);
        if is_awaited {
            self.changed.notify_all();
        }
    }

    /// Asks one that waits to lead. If nobody waits, the next that comes is asked.
    pub(super) fn call(&self) {
        let mut passage = plain::lock(&self.passage);
        passage.called = true;
        let is_awaited = passage.waiting > 0;
        drop(passage);
        if is_awaited {
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::sync::mpsc::channel;
    use std::thread;

    use crate::format::Version;
    use crate::format::header::LogRegion;
    use crate::log::{Geometry, Log, Position, Versioned};
    use crate::pager::Pager;
    use crate::storage::MemoryStorage;

    #[test]
    fn those_of_a_batch_leave_together_and_others_stay() {
        let gate = Arc::new(Gate::default());
        let wait = |batch| {
            let gate = gate.clone();
            thread::spawn(move || gate.wait(batch, None))
        };
        let first: Vec<_> = (0..4).map(|_| wait(1)).collect();
        let third = wait(3);
        gate.open(1);
        for thread in first {
            assert_eq!(thread.join().unwrap(), Exit::Passed);
        }
        assert_eq!(gate.wait(1, None), Exit::Passed, "it is open for good");
        assert!(!third.is_finished());
        gate.open(3);
        assert_eq!(third.join().unwrap(), Exit::Passed);
    }

    #[test]
    fn one_that_waits_is_called_once_and_time_ends() {
        let gate = Gate::default();
        gate.call();
        assert_eq!(gate.wait(1, None), Exit::Called);
        let limit = Some(Duration::from_millis(1));
        assert_eq!(gate.wait(1, limit), Exit::TimedOut);
        gate.open(2);
        assert_eq!(gate.wait(1, limit), Exit::Passed);
    }

    /// Which is where the gates are.
    struct Nothing;

    impl Versioned for Nothing {
        fn version(&self) -> Version {
            1
        }
    }

    fn log() -> Arc<Log<Nothing>> {
        let storage = Arc::new(MemoryStorage::new());
        let pager = Arc::new(Pager::new(storage, 4096, 7, 1 << 20).unwrap());
        pager.ensure_pages(16).unwrap();
        let geometry = Geometry {
            start: 0,
            first: LogRegion { first: 2, pages: 8 },
            switched: None,
            next: None,
        };
        let position = Position { lsn: 0, crc: 0 };
        Arc::new(Log::new(pager, geometry, position, 1, Arc::new(Nothing)))
    }

    /// The thread that has written a batch is held up before it opens the gate. Meanwhile the next batch is written, and
    /// who waits for the one after that is to lead. The call met one of the first batch, who needed nothing any more.
    #[test]
    fn a_call_reaches_one_who_still_waits() {
        let log = log();
        let (ended, end) = channel();
        let wait = |lsn| {
            let (log, ended) = (log.clone(), ended.clone());
            thread::spawn(move || ended.send(log.wait(lsn).is_ok()));
        };
        let waiting = || plain::lock(&log.gate(1).passage).waiting;
        let append = || log.append(1, b"a commit", 0).unwrap();
        // What a leader does before and after it writes.
        let begin = || {
            let mut inner = log.inner.lock();
            inner.leading = true;
            inner.buffer.clear();
            inner.written = inner.end;
            inner.next_batch()
        };
        let is_written = || {
            let mut inner = log.inner.lock();
            (inner.leading, inner.durable) = (false, inner.written);
            log.durable.store(inner.durable, Ordering::Release);
        };
        let first = append();
        assert_eq!(begin(), 1);
        wait(first);
        while waiting() < 1 {
            thread::yield_now();
        }
        is_written();
        append();
        assert_eq!(begin(), 2);
        wait(append());
        while waiting() < 2 {
            thread::yield_now();
        }
        is_written();
        log.gate(3).call();
        for _ in 0..2 {
            assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(true));
        }
    }
}
