//! The time of day, for what expires. The only place that reads the system's clock.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time of day. Give the builder one of your own to test what expires.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since 1970-01-01 00:00 UTC.
    fn now_ms(&self) -> u64;
}

/// The operating system's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    }
}

/// A clock that never goes back, however often the one below it does: what has expired stays
/// expired.
#[derive(Debug)]
pub(crate) struct Forward {
    clock: Arc<dyn Clock>,
    latest_ms: AtomicU64,
}

impl Forward {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Forward {
            clock,
            latest_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        let now = self.clock.now_ms();
        let latest = self.latest_ms.load(Ordering::Acquire);
        if now > latest {
            // Another thread may have seen a later time meanwhile.
            return now.max(self.latest_ms.fetch_max(now, Ordering::AcqRel));
        }
        latest
    }

    /// Tells it a time that was already reached, by an earlier process perhaps.
    pub(crate) fn reach(&self, time_ms: u64) {
        self.latest_ms.fetch_max(time_ms, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Set(AtomicU64);

    impl Clock for Set {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn time_does_not_go_back() {
        let set = Arc::new(Set(AtomicU64::new(5)));
        let clock = Forward::new(set.clone());
        assert_eq!(clock.now_ms(), 5);
        set.0.store(3, Ordering::Relaxed);
        assert_eq!(clock.now_ms(), 5);
        clock.reach(9);
        assert_eq!(clock.now_ms(), 9);
        set.0.store(11, Ordering::Relaxed);
        assert_eq!(clock.now_ms(), 11);
    }
}
