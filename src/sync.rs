//! The locks that the engine blocks on: those of [`locks`](crate::locks), or, compiled with `--cfg shuttle`, those
//! of a scheduler that tries many interleavings and replays the one that fails.

use crate::events;
use crate::{Error, Result};

#[cfg(not(shuttle))]
pub(crate) use crate::locks::{Condvar, Mutex, MutexGuard};

#[cfg(shuttle)]
pub(crate) use self::scheduled::{Condvar, Mutex, MutexGuard};

/// The standard library's, where all that are woken have to leave at once.
pub(crate) mod plain {
    use std::sync::PoisonError;
    use std::time::Duration;

    #[cfg(shuttle)]
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
    #[cfg(not(shuttle))]
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits to be notified, or until the time is over, if there is a limit. Says whether it is.
    #[cfg(not(shuttle))]
    pub(crate) fn wait<'a, T>(
        condition: &Condvar,
        _mutex: &'a Mutex<T>,
        held: MutexGuard<'a, T>,
        limit: Option<Duration>,
    ) -> (MutexGuard<'a, T>, bool) {
        match limit {
            None => {
                let woken = condition.wait(held);
                (woken.unwrap_or_else(PoisonError::into_inner), false)
            }
            Some(limit) => {
                let woken = condition.wait_timeout(held, limit);
                let (held, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
                (held, timeout.timed_out())
            }
        }
    }

    /// Under the scheduler, time is over after a chance for others to run.
    #[cfg(shuttle)]
    pub(crate) fn wait<'a, T>(
        condition: &Condvar,
        mutex: &'a Mutex<T>,
        held: MutexGuard<'a, T>,
        limit: Option<Duration>,
    ) -> (MutexGuard<'a, T>, bool) {
        if limit.is_some() {
            drop(held);
            shuttle::thread::yield_now();
            return (lock(mutex), true);
        }
        let woken = condition.wait(held);
        (woken.unwrap_or_else(PoisonError::into_inner), false)
    }
}

/// Wakes a task, which may run, or be dropped, right here: no lock may be held. A waker that panics must not end the
/// thread that serves everyone, nor the commit of another.
pub(crate) fn wake(task: std::task::Waker) {
    let woken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.wake()));
    if woken.is_err() {
        events::tell(|| tracing::error!("the waker of a task panicked"));
    }
}

/// Does something for everyone in which a storage or a clock of the user's is called: a panic there becomes an error,
/// which `told` hears of first. It must not leave others waiting for a thread that is gone.
pub(crate) fn shielded<T>(
    what: &'static str,
    told: impl FnOnce(&Error),
    run: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if cfg!(shuttle) {
        return run(); // the scheduler ends threads by unwinding
    }
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or(panic.downcast_ref::<String>().map(String::as_str));
        let text = format!("a panic: {}", text.unwrap_or("of the storage or the clock"));
        let error = Error::io(what, 0, std::io::Error::other(text));
        told(&error);
        Err(error)
    })
}

/// Spins while it holds, for a few microseconds at the most.
pub(crate) fn spin_while(holds: impl Fn() -> bool) {
    // The scheduler would have to be told of each look, and time does not pass there.
    let limit = if cfg!(shuttle) { 0 } else { 200 };
    for _ in 0..limit {
        if !holds() {
            return;
        }
        std::hint::spin_loop();
    }
}

/// A bounded wait. With the storage's own files (`storage::eager`) this module is the only place in the engine that reads
/// a clock, and nothing but speed depends on it.
#[cfg(not(shuttle))]
#[derive(Debug)]
pub(crate) struct Patience {
    start: std::time::Instant,
    limit: std::time::Duration,
}

#[cfg(not(shuttle))]
impl Patience {
    pub(crate) fn new(limit_micros: u64) -> Self {
        Patience {
            start: std::time::Instant::now(),
            limit: std::time::Duration::from_micros(limit_micros),
        }
    }

    /// Gives way to other threads once. Says whether there is time left.
    pub(crate) fn give_way(&self) -> bool {
        std::thread::yield_now();
        !self.is_over()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.start.elapsed() >= self.limit
    }
}

/// Waits, and gives twice as much time as that took, a second at the most, to whoever works off what others do meanwhile: with
/// less, who does more than can be worked off in the same time would be ahead for ever.
#[cfg(not(shuttle))]
pub(crate) fn waited<T>(wait: impl FnOnce() -> T) -> (T, Patience) {
    const MOST: std::time::Duration = std::time::Duration::from_secs(1);
    let start = std::time::Instant::now();
    let value = wait();
    let share = Patience {
        limit: (start.elapsed() * 2).min(MOST),
        start: std::time::Instant::now(),
    };
    (value, share)
}

/// Under the scheduler, no time.
#[cfg(shuttle)]
pub(crate) fn waited<T>(wait: impl FnOnce() -> T) -> (T, Patience) {
    (wait(), Patience::new(0))
}

/// Pauses between tries, each longer than the one before up to a twentieth of a second.
#[derive(Debug)]
pub(crate) struct Tries {
    start: std::time::Instant,
    limit: std::time::Duration,
    pause: std::time::Duration,
}

impl Tries {
    pub(crate) fn new(limit: std::time::Duration) -> Self {
        Tries {
            start: std::time::Instant::now(),
            limit,
            pause: std::time::Duration::from_millis(1),
        }
    }

    /// Sleeps until it is time for the next try. False, and at once, if the time is over.
    pub(crate) fn pause(&mut self) -> bool {
        const LONGEST: std::time::Duration = std::time::Duration::from_millis(50);
        let left = self.limit.saturating_sub(self.start.elapsed());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(self.pause.min(left));
        self.pause = (self.pause * 2).min(LONGEST);
        true
    }
}

/// Under the scheduler, time is a number of looks at it.
#[cfg(shuttle)]
#[derive(Debug)]
pub(crate) struct Patience(std::cell::Cell<u64>);

#[cfg(shuttle)]
impl Patience {
    pub(crate) fn new(limit_micros: u64) -> Self {
        Patience(std::cell::Cell::new(limit_micros / 40))
    }

    pub(crate) fn give_way(&self) -> bool {
        shuttle::thread::yield_now();
        !self.is_over()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.set(self.0.get().saturating_sub(1));
        self.0.get() == 0
    }
}

/// Shuttle's locks with the interface of the others.
#[cfg(shuttle)]
mod scheduled {
    use std::sync::PoisonError;

    pub(crate) use shuttle::sync::MutexGuard;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(shuttle::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Condvar(shuttle::sync::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, held: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(held).unwrap_or_else(PoisonError::into_inner)
        }

        /// The scheduler has no time that could run out.
        pub(crate) fn wait_for<'a, T>(
            &self,
            held: MutexGuard<'a, T>,
            _: std::time::Duration,
        ) -> MutexGuard<'a, T> {
            self.wait(held)
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
