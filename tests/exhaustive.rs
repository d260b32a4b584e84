//! Every workload of up to three operations, cut at every change of the disk, in every way in which
//! a disk may lose what was not synced. A database that loses something nearly always does so
//! within three operations of a sync (CrashMonkey, OSDI '18).
//!
//! A workload is run once; the simulated disk remembers every moment, and all images are made from
//! those. What the first operations of a workload leave was looked at with the shorter workload, so
//! only the moments of the last one are. Images that were seen before, with the same states to
//! expect, are counted and not looked at again.
//!
//! By default workloads of one and two operations are all tried, and of those of three one in so
//! many. All of them, with every variant, in a night:
//! `AURORA_TEST_BUDGET=100 cargo test --release --test exhaustive -- --nocapture`

mod common;

use std::sync::Arc;

use aurora::storage::SimDisk;

use common::cuts::{Effort, Oracle, variants};
use common::ops::{History, Op, Work, base};
use common::world::{SetClock, World};
use common::{budget, each};

/// The time at which all workloads begin.
const START_MS: u64 = 1_750_000_000_000;

/// Of so many workloads of three operations the default run tries one.
const SHARE: u64 = 8;

struct Base {
    image: Vec<u8>,
    world: World,
}

/// What is left of a run: the moments of its last operation, and what may be found at each.
struct Run {
    moments: Vec<SimDisk>,
    possible: Vec<Arc<World>>,
    end: SimDisk,
    at_the_end: Vec<Arc<World>>,
    now_ms: u64,
}

/// Runs a workload; an empty one is just opened.
fn run(base: &Base, ops: &[Op]) -> Run {
    let clock = SetClock::at(START_MS);
    let disk = SimDisk::from_image(base.image.clone(), 1);
    if ops.is_empty() {
        disk.record_moments();
    }
    let history = History::new(base.world.clone());
    let mut work = Work::start(disk.clone(), clock.clone(), history).unwrap();
    let mut before = 0;
    for (number, op) in ops.iter().enumerate() {
        if number + 1 == ops.len() {
            disk.record_moments();
            before = work.history.acknowledged;
        }
        work.step(*op, number as u64)
            .unwrap_or_else(|error| panic!("{ops:?}: {error}"));
    }
    Run {
        moments: disk.take_moments(),
        possible: work.history.states[before..].to_vec(),
        end: disk.kill_image(),
        at_the_end: work.history.possible().to_vec(),
        now_ms: clock.now(),
    }
}

fn crash_everywhere(base: &Base, ops: &[Op], effort: Effort, oracle: &Oracle) {
    let run = run(base, ops);
    let seed = ops.iter().fold(7, |seed, op| seed * 31 + *op as u64);
    for (number, moment) in run.moments.iter().enumerate() {
        let variants = variants(moment, effort, seed + number as u64);
        let what = || format!("{ops:?}, moment {number} of the last");
        oracle.look_at(moment, &run.possible, run.now_ms, &variants, &what);
    }
    let variants = variants(&run.end, effort, seed);
    let what = || format!("{ops:?}, at the end");
    oracle.look_at(&run.end, &run.at_the_end, run.now_ms, &variants, &what);
}

/// All workloads of so many operations.
fn workloads(length: usize) -> Vec<Vec<Op>> {
    let mut all = vec![Vec::new()];
    for _ in 0..length {
        all = all
            .into_iter()
            .flat_map(|ops: Vec<Op>| Op::ALL.map(|op| [&ops[..], &[op]].concat()))
            .collect();
    }
    all
}

#[test]
fn every_workload_of_up_to_three_operations_survives_a_crash_at_every_moment() {
    let clock = SetClock::at(START_MS);
    let bases = [true, false].map(|is_closed| {
        let (image, world) = base(is_closed, &clock);
        Base { image, world }
    });
    let oracle = Oracle::default();
    for length in 0..=3 {
        let share = match length {
            3 => (SHARE / budget(1)).max(1),
            _ => 1,
        };
        let effort = match length {
            0 | 1 => Effort::All,
            _ if budget(1) > SHARE => Effort::All,
            _ => Effort::Some,
        };
        let some: Vec<Vec<Op>> = workloads(length)
            .into_iter()
            .enumerate()
            .filter(|(number, _)| (*number as u64).is_multiple_of(share))
            .map(|(_, ops)| ops)
            .collect();
        let started = std::time::Instant::now();
        each(&some, |ops| {
            for (number, base) in bases.iter().enumerate() {
                // The killed file is of most use to what comes first.
                if number == 0 || length < 2 || effort == Effort::All {
                    crash_everywhere(base, ops, effort, &oracle);
                }
            }
        });
        println!(
            "{} workloads of {length}, {:?}",
            some.len(),
            started.elapsed()
        );
        oracle.report("so far");
    }
}
