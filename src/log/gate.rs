//! Where the threads of one batch wait until it is durable.
//!
//! All of them are woken by one call, and leave without the log's lock: seven threads woken one
//! after the other cost as much as the device took for their batch. That is also why this is the
//! standard library's condition variable: `parking_lot`'s hands those that it wakes its lock one by
//! one.

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

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

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
}
