//! Whether a commit that is alone in its batch begins its write early and waits awake for it, before it asks for the sync.
//!
//! A sync is two waits, one after the other: for the write, and for the device to empty its cache. A thread
//! that sleeps through both is woken twice, and late each time. If the write is begun and the thread stays
//! awake for about as long as the device takes, it finds it done, and sleeps through the second only. On a
//! virtual disk 330 bytes took 90 to 101 µs instead of 110 to 117, with 15 to 20 µs awake, 4 KiB 97 instead of
//! 110, 50 KB 142 instead of 162 with 40; 200 KB were as before. With less than the device takes nothing
//! is gained, with more a little less.
//!
//! # Invariants
//!
//! 1. Nothing but speed depends on it.
//! 2. The way that is not taken is tried now and then, and taken where it is the faster one: on some devices
//!    there is nothing to gain.
//! 3. Ways are compared by what they take of each other's time at about the same moment, and no wait counts
//!    for more than twice the usual one: devices are slow for a while, and single waits are endless.

use std::time::{Duration, Instant};

use crate::locks::Mutex;

/// One of so many writes goes the other way.
const TRY_EVERY: u64 = 16;
/// Of so many first writes the fastest tells what is usual.
const FIRST_WRITES: u64 = 16;
/// How much a new time changes the known one.
const LEARNT_SHARE: f64 = 1.0 / 32.0;
/// The other way has to be better than the present one by that factor.
const BETTER: f64 = 0.98;
/// The part of a sync that the thread waits awake. It took the device 15 to 20 µs to write what took 117 in all,
/// and 20 to 34 when all took 145.
const AWAKE_SHARE: f64 = 0.2;
/// But not longer, and not at all where that is far too short: where syncs take milliseconds, nothing is gained by
/// being awake.
const AWAKE_SECONDS: f64 = 40e-6;
/// No write takes less, whatever the clock says.
const CLOCK_SECONDS: f64 = 1e-9;
/// Writes of up to these lengths are compared with each other; longer ones gain nothing.
const LENGTHS_BYTES: [usize; 2] = [8 << 10, 64 << 10];

/// What is known of the two ways, for short writes and for longer ones.
#[derive(Debug, Default)]
pub(super) struct Eager {
    lengths: [Mutex<Known>; LENGTHS_BYTES.len()],
}

impl Eager {
    /// Carries out a write of that length, in the way that is the faster one or is to be tried: by `plain`, or by
    /// `begin`, a wait, and `finish`. Returns the error of what failed.
    pub(super) fn write<E>(
        &self,
        length_bytes: usize,
        plain: impl FnOnce() -> Result<(), E>,
        begin: impl FnOnce() -> Result<(), E>,
        finish: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let class = LENGTHS_BYTES.iter().position(|most| length_bytes <= *most);
        let Some(known) = class.and_then(|class| self.lengths.get(class)) else {
            return plain();
        };
        let (is_eager, awake_seconds) = known.lock().next();
        let start = Instant::now();
        if is_eager {
            begin()?;
            wait_awake(awake_seconds);
            finish()?;
        } else {
            plain()?;
        }
        known.lock().learn(is_eager, start.elapsed().as_secs_f64());
        Ok(())
    }
}

fn wait_awake(seconds: f64) {
    let time = Duration::from_secs_f64(seconds);
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[derive(Debug)]
struct Known {
    writes: u64,
    /// The way that is taken.
    is_eager: bool,
    /// How long it takes. Zero if nothing is known.
    seconds: f64,
    /// How long the other takes, as a part of that.
    other: f64,
}

impl Default for Known {
    /// Few programs commit often enough to learn much, so it begins as on most devices.
    fn default() -> Self {
        Known {
            writes: 0,
            is_eager: true,
            seconds: 0.0,
            other: 1.05,
        }
    }
}

impl Known {
    /// Whether the next write is begun early, and how long it is waited for awake then.
    fn next(&mut self) -> (bool, f64) {
        self.writes = self.writes.wrapping_add(1);
        let tries_other = self.writes.is_multiple_of(TRY_EVERY);
        let share = self.seconds * AWAKE_SHARE;
        let awake_seconds = match share > 2.0 * AWAKE_SECONDS {
            true => 0.0,
            false => share.min(AWAKE_SECONDS),
        };
        (self.is_eager ^ tries_other, awake_seconds)
    }

    /// Invariant 3.
    fn learn(&mut self, was_eager: bool, seconds: f64) {
        let seconds = seconds.max(CLOCK_SECONDS);
        if self.seconds <= 0.0 || (self.writes <= FIRST_WRITES && seconds < self.seconds) {
            self.seconds = seconds;
        }
        let seconds = seconds.min(2.0 * self.seconds);
        if was_eager == self.is_eager {
            self.seconds += (seconds - self.seconds) * LEARNT_SHARE;
        } else {
            self.other += (seconds / self.seconds - self.other) * LEARNT_SHARE;
        }
        if self.other < BETTER {
            self.is_eager = !self.is_eager;
            self.seconds *= self.other;
            self.other = 1.0 / self.other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device: how long it takes to write, to empty its cache, and to wake a thread.
    struct Device {
        write: f64,
        flush: f64,
        wake: f64,
    }

    impl Device {
        fn takes(&self, (is_eager, awake): (bool, f64)) -> f64 {
            let begin = 1e-6;
            let written = match is_eager {
                true if awake >= self.write => begin + awake,
                true => begin + self.write + self.wake,
                false => self.write + self.wake,
            };
            written + self.flush + self.wake
        }

        /// Which way most of so many writes took; the device is out of order now and then.
        fn teaches(&self, known: &mut Known, writes: u64) -> bool {
            let mut eager = 0;
            for write in 0..writes {
                let way = known.next();
                eager += u64::from(way.0);
                let slow = if write % 50 == 7 { 40.0 } else { 1.0 };
                known.learn(way.0, slow * self.takes(way));
            }
            eager > writes / 2
        }
    }

    const VIRTUAL: Device = Device {
        write: 18e-6,
        flush: 65e-6,
        wake: 15e-6,
    };
    const NO_CACHE: Device = Device {
        write: 12e-6,
        flush: 0.0,
        wake: 2e-6,
    };
    const TURNING: Device = Device {
        write: 4e-3,
        flush: 4e-3,
        wake: 15e-6,
    };

    #[test]
    fn a_write_is_begun_early_where_that_is_faster() {
        let mut known = Known::default();
        assert!(VIRTUAL.teaches(&mut known, 2_000));
        // Slower, or faster: a moment of learning, and then the same.
        let slow = Device {
            write: 30e-6,
            flush: 90e-6,
            ..VIRTUAL
        };
        assert!(slow.teaches(&mut known, 2_000));
        assert!(VIRTUAL.teaches(&mut known, 2_000));
        // There it gains nothing and costs a call.
        assert!(!NO_CACHE.teaches(&mut known, 4_000));
        assert!(VIRTUAL.teaches(&mut known, 4_000));
    }

    #[test]
    fn little_time_is_spent_on_a_slow_device() {
        let mut known = Known::default();
        TURNING.teaches(&mut known, 1_000);
        assert_eq!(known.next().1, 0.0);
    }

    /// Invariant 2.
    #[test]
    fn the_other_way_is_tried_again() {
        let mut known = Known::default();
        for device in [VIRTUAL, NO_CACHE] {
            device.teaches(&mut known, 2_000);
            let ways: Vec<_> = (0..TRY_EVERY).map(|_| known.next().0).collect();
            assert!(ways.contains(&true) && ways.contains(&false));
        }
    }

    #[test]
    fn long_writes_are_plain_and_errors_are_returned() {
        let eager = Eager::default();
        let never = || -> Result<(), u8> { panic!("not this way") };
        eager.write(1 << 20, || Ok(()), never, never).unwrap();
        for _ in 0..100 {
            assert_eq!(eager.write(1, || Err(1), || Err(1), never), Err(1));
            let _ = eager.write(1, || Err(1), || Ok(()), || Err(1)).unwrap_err();
        }
    }
}
