//! Files that are put together from several moments of one file: what is left by disks that forget a part of what they
//! acknowledged, lose their place, or exchange pages; by copies of a file in use; by files that were cut, or have something
//! behind them. Each is one of the states that were committed, with all that was acknowledged if the fault is a single one
//! away from the newest mark of the log, or it is refused as damaged. Where it opens and the check finds nothing, it goes on.
//!
//! Longer with `AURORA_TEST_BUDGET`; from another seed on with `AURORA_SEED`. (`rot.rs` tries each page and sector of two files.)

mod common;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use aurora::Error;
use aurora::storage::SimDisk;
use common::ops::{Op, Work};
use common::world::{SetClock, World, difference, observe, open_at, set_now};
use common::{Random, budget, each};

const START_MS: u64 = 1_750_000_000_000;
const PAGE: usize = 4096;
const SECTOR: usize = 512;
/// So many files are made of one past.
const CASES: u64 = 150;

/// The bytes of a file after each step, and what it held.
struct Past {
    moments: Vec<Vec<u8>>,
    states: Vec<Arc<World>>,
    acknowledged: usize,
    now_ms: u64,
}

fn past(seed: u64) -> Past {
    let mut random = Random(seed);
    let clock = SetClock::at(START_MS);
    let (image, history) = common::ops::base_with_history(random.chance(2), &clock);
    let disk = SimDisk::from_image(image.clone(), 1);
    let mut moments = vec![image];
    let mut work = Work::start(disk.clone(), clock.clone(), history).unwrap();
    for _ in 0..3 + random.below(25) {
        let op = match random.below(8) {
            0 | 1 => Op::Put,
            2 => Op::Checkpoint,
            3 => Op::Reopen,
            _ => Op::ALL[random.below(Op::ALL.len() as u64) as usize],
        };
        if op == Op::Reopen {
            // With the moment in between.
            work.db.take().unwrap().close().unwrap();
            work.history.acknowledge();
            moments.push(disk.image());
            work = Work::start(disk.clone(), clock.clone(), work.history).unwrap();
        } else {
            work.step(op, random.next()).unwrap();
        }
        moments.push(disk.image());
    }
    if random.chance(3) {
        work.db.take().unwrap().close().unwrap();
        work.history.acknowledge();
        moments.push(disk.image());
    }
    disk.crash_after(0);
    Past {
        moments,
        states: work.history.states.clone(),
        acknowledged: work.history.acknowledged,
        now_ms: clock.now(),
    }
}

/// Where the newest mark of the log is: the proof of all records before it.
fn newest_mark(bytes: &[u8]) -> Range<usize> {
    let lsn = |at: usize| u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap());
    let is_mark = |at: &usize| bytes[*at..].starts_with(b"ALOG") && bytes[at + 40] == 2;
    let marks = (2 * PAGE..bytes.len() - 56).step_by(8).filter(is_mark);
    let newest = marks.max_by_key(|at| lsn(*at)).unwrap();
    newest..newest + 56
}

/// What a fault has made of the newest moment.
struct Patched {
    bytes: Vec<u8>,
    how: String,
    /// A single fault that leaves the newest mark alone: nothing that was acknowledged goes unnoticed.
    is_single: bool,
}

/// The newest bytes, with this range as it was before.
fn with_old(past: &Past, moment: usize, range: Range<usize>) -> Patched {
    let mut bytes = past.moments.last().unwrap().clone();
    let mark = newest_mark(&bytes);
    let old = &past.moments[moment];
    let end = range.end.min(bytes.len()).min(old.len());
    if range.start < end {
        bytes[range.start..end].copy_from_slice(&old[range.start..end]);
    }
    Patched {
        bytes,
        how: format!("{range:?} of moment {moment}"),
        is_single: mark.end <= range.start || end <= mark.start,
    }
}

fn patched(past: &Past, random: &mut Random) -> Patched {
    let count = past.moments.len();
    let newest = past.moments.last().unwrap();
    let moment = random.below(count as u64) as usize;
    let page = |random: &mut Random| random.below((newest.len() / PAGE) as u64) as usize * PAGE;
    let all = |bytes: Vec<u8>, how: String| Patched {
        bytes,
        how,
        is_single: false,
    };
    match random.below(12) {
        0 | 1 => {
            let start = random.below((newest.len() / SECTOR) as u64) as usize * SECTOR;
            let sectors = 1 + random.below(16) as usize;
            with_old(past, moment, start..start + sectors * SECTOR)
        }
        2 => {
            // Of the pages that the log has at first.
            let start = (2 + random.below(8) as usize) * PAGE;
            let pages = 1 + random.below(8) as usize;
            with_old(past, moment, start..start + pages * PAGE)
        }
        3 => Patched {
            is_single: false,
            ..with_old(past, moment, page(random)..newest.len())
        },
        4 => Patched {
            is_single: false,
            ..with_old(past, moment, 0..page(random))
        },
        5 => {
            // The slots of one moment, and all else of another.
            let mut bytes = newest.clone();
            let old = &past.moments[moment];
            let slots = 1 + random.below(3);
            for slot in (0..2).filter(|slot| slots >> slot & 1 == 1) {
                let slot = slot * PAGE..slot * PAGE + 256;
                bytes[slot.clone()].copy_from_slice(&old[slot]);
            }
            all(bytes, format!("slots {slots} of moment {moment}"))
        }
        6 => {
            let length = random.below(newest.len() as u64) as usize;
            Patched {
                bytes: newest[..length].to_vec(),
                how: format!("cut to {length}"),
                is_single: true,
            }
        }
        7 => {
            let mut bytes = newest.clone();
            let kind = random.below(3);
            let more = random.below(60_000) as usize;
            match kind {
                0 => bytes.extend(random.bytes(more)),
                1 => bytes.extend_from_slice(&past.moments[moment]),
                _ => bytes.resize(bytes.len() + more, 0xff),
            }
            Patched {
                how: format!(
                    "with {} bytes behind it, {kind}",
                    bytes.len() - newest.len()
                ),
                bytes,
                is_single: true,
            }
        }
        8 | 9 => {
            // Copied block by block while it was in use; some tools go backwards in time.
            let block = [SECTOR, PAGE, 4 * PAGE, 16 * PAGE][random.below(4) as usize];
            let is_forth = !random.chance(4);
            let (mut bytes, mut now) = (Vec::new(), moment);
            while let Some(rest) = past.moments[now]
                .get(bytes.len()..)
                .filter(|r| !r.is_empty())
            {
                bytes.extend_from_slice(&rest[..block.min(rest.len())]);
                if random.chance(3) {
                    now = match is_forth {
                        true => (now + 1).min(count - 1),
                        false => now.saturating_sub(1),
                    };
                }
            }
            all(
                bytes,
                format!("a copy from moment {moment} on, by {block}, forth: {is_forth}"),
            )
        }
        10 => {
            let mut bytes = newest.clone();
            let one_in = 2 + random.below(10);
            for start in (0..bytes.len() - PAGE + 1).step_by(PAGE) {
                let old = &past.moments[random.below(count as u64) as usize];
                let old = old.get(start..start + PAGE);
                if let Some(old) = old.filter(|_| random.chance(one_in)) {
                    bytes[start..start + PAGE].copy_from_slice(old);
                }
            }
            all(bytes, format!("pages of any moment, one in {one_in}"))
        }
        _ => {
            // A write that went elsewhere, or two pages that changed places.
            let (a, b) = (page(random), page(random));
            let mut bytes = newest.clone();
            let second = bytes[b..b + PAGE].to_vec();
            if let Some(old) = past.moments[moment].get(a..a + PAGE) {
                bytes[b..b + PAGE].copy_from_slice(old);
            }
            let is_exchange = random.chance(2);
            if is_exchange {
                bytes[a..a + PAGE].copy_from_slice(&second);
            }
            let mark = newest_mark(newest);
            let is_off = |at: usize| at + PAGE <= mark.start || at >= mark.end;
            Patched {
                bytes,
                how: format!("page at {a} of moment {moment} at {b}, exchanged: {is_exchange}"),
                is_single: is_off(b) && (!is_exchange || is_off(a)),
            }
        }
    }
}

fn is_told(error: &Error) -> bool {
    error.is_corruption() || matches!(error, Error::NotADatabase { .. })
}

/// Opens it, looks at all of it, and goes on. Says what came of it.
fn look(patched: Patched, past: &Past, random: &mut Random) -> &'static str {
    set_now(past.now_ms);
    let disk = SimDisk::from_image(patched.bytes, 1);
    let clock = SetClock::at(past.now_ms);
    let db = match open_at(disk.reopen().storage(), &clock) {
        Ok(db) => db,
        Err(error) => {
            assert!(is_told(&error), "{error:?}");
            return "refused";
        }
    };
    let checked = db.check();
    assert!(checked.as_ref().err().is_none_or(is_told), "{checked:?}");
    let found = match observe(&db) {
        Ok(found) => found,
        Err(error) => {
            assert!(is_told(&error), "{error:?}");
            assert!(checked.is_err(), "{error}, and the check is content");
            disk.crash_after(0);
            return "reported";
        }
    };
    let is_there = |state: &Arc<World>| state.at(past.now_ms) == found;
    let state = past.states.iter().rposition(is_there);
    let state = state.unwrap_or_else(|| {
        disk.crash_after(0); // a close would write
        let last = past.states.last().unwrap().at(past.now_ms);
        panic!("a wrong answer: {}", difference(&found, &last))
    });
    let is_whole = state >= past.acknowledged;
    assert!(
        is_whole || !patched.is_single,
        "acknowledged commits are gone"
    );
    let mut history = common::ops::History::new(World::clone(&past.states[state]));
    history.acknowledge();
    let mut work = Work {
        db: Some(db),
        disk: disk.clone(),
        clock,
        history,
    };
    for _ in 0..6 {
        let op = Op::ALL[random.below(Op::ALL.len() as u64) as usize];
        if let Err(error) = work.step(op, random.next()) {
            disk.crash_after(0);
            assert!(checked.is_err() && is_told(&error), "{op:?}: {error:?}");
            return "damaged";
        }
    }
    let now_ms = work.clock.now();
    let expected = work.history.last().at(now_ms);
    if let Err(error) = work.db.take().unwrap().close() {
        assert!(checked.is_err() && is_told(&error), "{error:?}");
        return "damaged";
    }
    set_now(now_ms);
    let db = open_at(disk.reopen().storage(), &SetClock::at(now_ms)).unwrap();
    let again = observe(&db).unwrap();
    assert!(
        again == expected,
        "later: {}",
        difference(&again, &expected)
    );
    let again = db.check();
    assert!(again.is_ok() || checked.is_err(), "later: {again:?}");
    disk.crash_after(0);
    match is_whole {
        true => "whole",
        false => "earlier",
    }
}

#[test]
fn a_file_of_several_moments_is_one_of_them_or_refused() {
    let first: u64 = std::env::var("AURORA_SEED").map_or(0, |seed| seed.parse().unwrap());
    let seeds: Vec<u64> = (first..first + budget(24)).collect();
    let counts = Mutex::new(BTreeMap::<&str, u64>::new());
    each(&seeds, |seed| {
        let past = past(*seed);
        for case in 0..CASES {
            let mut random = Random(seed * CASES + case);
            let patched = patched(&past, &mut random);
            let how = format!("seed {seed}, case {case}: {}", patched.how);
            let looked = catch_unwind(AssertUnwindSafe(|| look(patched, &past, &mut random)));
            let outcome = looked.unwrap_or_else(|_| panic!("{how}"));
            *counts.lock().unwrap().entry(outcome).or_default() += 1;
        }
    });
    let counts = counts.into_inner().unwrap();
    println!("{counts:?}");
    for outcome in ["refused", "reported", "whole", "earlier"] {
        assert!(counts[outcome] > 50, "{outcome}");
    }
}
