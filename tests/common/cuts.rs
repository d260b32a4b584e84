//! The images that a power cut can leave, each different one looked at once, and the oracle that
//! looks at them.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aurora::storage::{SimCrash, SimDisk};

use super::ops::{History, Op, Work};
use super::world::{SetClock, World, difference, observe, open_at, set_now};

/// How many ways of losing what was not synced are tried at each moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// The extremes, every subset of up to three changes, what is first and last of more, and one
    /// of each random kind.
    Some,
    /// Every subset of up to six changes, each prefix and suffix of more, and many random ones.
    All,
}

/// The ways in which a power cut may go at a moment.
pub fn variants(moment: &SimDisk, effort: Effort, seed: u64) -> Vec<SimCrash> {
    let bytes = moment.unsynced_bytes();
    let count = bytes.len();
    if count == 0 {
        return vec![SimCrash::LoseAll];
    }
    let mut variants = vec![SimCrash::LoseAll, SimCrash::KeepAll];
    let (subsets, seeds) = match effort {
        Effort::Some => (3, 1),
        Effort::All => (6, 6),
    };
    if count <= subsets {
        variants.extend((1..(1u64 << count) - 1).map(|mask| SimCrash::Subset { mask }));
    } else {
        variants.extend([SimCrash::OnlyWrites, SimCrash::OnlyLengths]);
        let ends: Vec<usize> = match effort {
            Effort::Some => vec![1, count - 1],
            Effort::All => (1..count).collect(),
        };
        for changes in ends {
            variants.push(SimCrash::Prefix { changes });
            variants.push(SimCrash::Suffix { changes });
        }
    }
    // The last write is the one under way.
    if let Some(change) = bytes.iter().rposition(|bytes| *bytes > 0) {
        let length = bytes[change];
        let tears: &[usize] = match effort {
            Effort::Some => &[length / 2, length - 1],
            Effort::All => &[1, 8, 55, 56, 57, 512, length / 2, length - 1],
        };
        for &bytes in tears {
            if (1..length).contains(&bytes) {
                variants.push(SimCrash::Torn { change, bytes });
            }
        }
    }
    for seed in (0..seeds).map(|n| seed.wrapping_mul(31).wrapping_add(n)) {
        if count > subsets {
            variants.push(SimCrash::Random { seed });
        }
        variants.push(SimCrash::Sectors { seed });
        variants.push(SimCrash::Bytes { seed });
    }
    variants
}

/// Looks at images, and remembers which it has seen.
#[derive(Debug, Default)]
pub struct Oracle {
    seen: Mutex<HashSet<u64>>,
    pub moments: AtomicU64,
    pub images: AtomicU64,
    pub different: AtomicU64,
}

impl Oracle {
    /// Takes all images of a moment and looks at each that is new.
    pub fn look_at(
        &self,
        moment: &SimDisk,
        possible: &[Arc<World>],
        now_ms: u64,
        variants: &[SimCrash],
        what: &dyn Fn() -> String,
    ) {
        self.moments.fetch_add(1, Ordering::Relaxed);
        let mut hasher = DefaultHasher::new();
        (possible, now_ms).hash(&mut hasher);
        let states = hasher.finish();
        for variant in variants {
            let image = moment.crash_image(*variant);
            self.images.fetch_add(1, Ordering::Relaxed);
            let image_and_states = image.fingerprint() ^ states;
            if self.seen.lock().unwrap().insert(image_and_states) {
                self.different.fetch_add(1, Ordering::Relaxed);
                verify(&image, possible, now_ms, &|| {
                    format!("{}, {variant:?}", what())
                });
            }
        }
    }

    pub fn report(&self, what: &str) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        println!(
            "{what}: {} moments, {} crash images, {} of them different",
            of(&self.moments),
            of(&self.images),
            of(&self.different)
        );
    }
}

/// Opens an image: it holds one of the states, as a whole and by every way to see it; its
/// structure is sound; it goes on working, and what it does then lasts.
pub fn verify(image: &SimDisk, possible: &[Arc<World>], now_ms: u64, what: &dyn Fn() -> String) {
    set_now(now_ms);
    let clock = SetClock::at(now_ms);
    let db = open_at(image.reopen().storage(), &clock)
        .unwrap_or_else(|error| panic!("{}: open: {error}", what()));
    db.check()
        .unwrap_or_else(|error| panic!("{}: check: {error}", what()));
    let found = observe(&db).unwrap_or_else(|error| panic!("{}: read: {error}", what()));
    let state = possible
        .iter()
        .rev()
        .find(|state| state.at(now_ms) == found)
        .unwrap_or_else(|| {
            panic!(
                "{}: what is there is none of {} states; beside the last: {}",
                what(),
                possible.len(),
                difference(&found, &possible[possible.len() - 1].at(now_ms))
            )
        });
    go_on(image, db, clock, state, what);
}

fn go_on(
    image: &SimDisk,
    db: aurora::Aurora,
    clock: Arc<SetClock>,
    state: &Arc<World>,
    what: &dyn Fn() -> String,
) {
    let now_ms = clock.now();
    let mut work = Work {
        db: Some(db),
        disk: image.clone(),
        clock,
        history: History::new(World::clone(state)),
    };
    work.step(Op::Mixed, 77)
        .unwrap_or_else(|error| panic!("{}: going on: {error}", what()));
    // Before the handle is dropped, which would close the database cleanly.
    let after = image.crash_image(SimCrash::LoseAll);
    let expected = work.history.last().at(now_ms);
    // A close would write, which is of no use here.
    image.crash_after(0);
    drop(work);
    let db = open_at(after.storage(), &SetClock::at(now_ms))
        .unwrap_or_else(|error| panic!("{}: again: {error}", what()));
    db.check()
        .unwrap_or_else(|error| panic!("{}: check again: {error}", what()));
    let found = observe(&db).unwrap_or_else(|error| panic!("{}: read again: {error}", what()));
    assert!(
        found == expected,
        "{}: after going on: {}",
        what(),
        difference(&found, &expected)
    );
    after.crash_after(0);
}
