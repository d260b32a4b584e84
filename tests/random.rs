//! Long random workloads: several writers whose turns and waits a seed decides, snapshots that are
//! held, checkpoints, compaction and reopening in between; cut at random moments; then the
//! recovery is cut, and the recovery of that. Failing cases are made smaller before they are
//! shown.
//!
//! `AURORA_TEST_BUDGET=500 cargo test --release --test random -- --nocapture` for a night of it.

mod common;

use std::sync::Arc;

use aurora::storage::SimDisk;
use aurora::{Aurora, Commit, Durability, Snapshot};
use common::cuts::{Effort, Oracle, variants, verify};
use common::ops::{History, Op, Work, base};
use common::world::{SetClock, World, open_at};
use common::{Model, Random, budget, contents};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const START_MS: u64 = 1_750_000_000_000;
const WRITERS: usize = 4;

/// What a writer, a reader or the disk's owner does next.
#[derive(Debug, Clone)]
enum Turn {
    /// An operation, waited for.
    Op(Op, u64),
    /// A writer commits some puts and does not wait: the commit is in the log's buffer until
    /// somebody leads.
    Start(usize, u64),
    /// A writer waits for what it committed.
    Finish(usize),
    Hold,
    Release,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        10 => (0..Op::ALL.len(), any::<u64>()).prop_map(|(op, seed)| Turn::Op(Op::ALL[op], seed)),
        6 => (0..WRITERS, any::<u64>()).prop_map(|(writer, seed)| Turn::Start(writer, seed)),
        4 => (0..WRITERS).prop_map(Turn::Finish),
        1 => Just(Turn::Hold),
        1 => Just(Turn::Release),
    ]
}

/// A run, and what may be found at each of its moments.
struct Run {
    moments: Vec<(SimDisk, Vec<Arc<World>>, u64)>,
}

fn run(turns: &[Turn]) -> Run {
    let clock = SetClock::at(START_MS);
    let (image, world) = base(turns.len().is_multiple_of(2), &clock);
    let disk = SimDisk::from_image(image, turns.len() as u64);
    disk.record_moments();
    let mut work = Work::start(disk.clone(), clock.clone(), History::new(world)).unwrap();
    let mut commits: [Vec<(usize, Commit)>; WRITERS] = Default::default();
    let mut held: Vec<(Snapshot, Model)> = Vec::new();
    let mut moments = Vec::new();
    for turn in turns {
        let acknowledged = work.history.acknowledged;
        match turn {
            Turn::Op(op, seed) => {
                if *op == Op::Reopen {
                    commits = Default::default();
                    held.clear();
                }
                work.step(*op, *seed)
                    .unwrap_or_else(|error| panic!("{turn:?}: {error}"));
            }
            Turn::Start(writer, seed) => {
                let commit = start(&work.db().clone(), *writer, *seed, &mut work.history.states);
                if let Some(commit) = commit {
                    commits[*writer].push((work.history.states.len() - 1, commit));
                }
            }
            Turn::Finish(writer) => {
                for (state, commit) in commits[*writer].drain(..) {
                    commit.wait().unwrap();
                    // So are those before it, in the same log.
                    work.history.acknowledged = work.history.acknowledged.max(state);
                }
            }
            Turn::Hold => {
                let snapshot = work.db().begin_read().unwrap();
                let seen = contents(&snapshot).unwrap();
                held.push((snapshot, seen));
            }
            Turn::Release => {
                for (snapshot, seen) in held.drain(..) {
                    assert_eq!(
                        contents(&snapshot).unwrap(),
                        seen,
                        "a held snapshot changed"
                    );
                }
            }
        }
        let possible = work.history.states[acknowledged..].to_vec();
        let of_turn = disk.take_moments().into_iter();
        moments.extend(of_turn.map(|moment| (moment, possible.clone(), clock.now())));
    }
    for (snapshot, seen) in &held {
        assert_eq!(
            &contents(snapshot).unwrap(),
            seen,
            "a held snapshot changed"
        );
    }
    moments.push((
        disk.kill_image(),
        work.history.possible().to_vec(),
        clock.now(),
    ));
    disk.crash_after(0);
    Run { moments }
}

fn start(db: &Aurora, writer: usize, seed: u64, states: &mut Vec<Arc<World>>) -> Option<Commit> {
    let mut random = Random(seed);
    let mut world = World::clone(states.last().unwrap());
    let mut tx = db.begin_write().unwrap();
    let is_buffered = random.chance(3);
    if is_buffered {
        tx.set_durability(Durability::Buffered);
    }
    let name = format!("of {writer}");
    let mut tree = tx.tree(&name).unwrap();
    let model = world.trees.entry(name).or_default();
    for _ in 0..1 + random.below(4) {
        let key = random.below(20).to_be_bytes().to_vec();
        let value = vec![seed as u8; random.below(600) as usize];
        tree.put(&key, &value).unwrap();
        model.insert(key, value);
    }
    states.push(Arc::new(world));
    let commit = tx.commit_async().unwrap();
    // To wait for a buffered one is not to wait for the disk.
    (!is_buffered).then_some(commit)
}

/// Opens an image, is cut at a random moment of that, and again, and is looked at each time.
fn crash_in_recovery(
    image: &SimDisk,
    possible: &[Arc<World>],
    now_ms: u64,
    random: &mut Random,
    depth: u32,
    what: &dyn Fn() -> String,
) -> u64 {
    let disk = image.crash_image(aurora::storage::SimCrash::KeepAll);
    disk.record_moments();
    let db = open_at(disk.reopen().storage(), &SetClock::at(now_ms))
        .unwrap_or_else(|error| panic!("{}: open at depth {depth}: {error}", what()));
    // What an open of a file that was closed leaves to the first write belongs to recovery, too.
    let mut tx = db.begin_write().unwrap();
    tx.put("gone", "again", None).unwrap();
    tx.roll_back();
    disk.crash_after(0);
    drop(db);
    let moments = disk.take_moments();
    let mut images = 0;
    for _ in 0..2 {
        let number = random.below(moments.len() as u64) as usize;
        let moment = &moments[number];
        let variants = variants(moment, Effort::Some, random.next());
        let variant = variants[random.below(variants.len() as u64) as usize];
        let next = moment.crash_image(variant);
        images += 1;
        let what = || format!("{}, then {number} of recovery, {variant:?}", what());
        if depth < 3 {
            images += crash_in_recovery(&next, possible, now_ms, random, depth + 1, &what);
        }
        verify(&next, possible, now_ms, &what);
    }
    images
}

/// Runs the turns, and cuts at some moments; returns the images that were looked at.
fn crash(turns: &[Turn], oracle: &Oracle, deeper: &std::sync::atomic::AtomicU64) {
    let run = run(turns);
    let mut random = Random(run.moments.len() as u64);
    let stride = 1 + run.moments.len() / 24;
    let first = random.below(stride as u64) as usize;
    for (number, (moment, possible, now_ms)) in run.moments.iter().enumerate() {
        if number % stride != first && number + 1 != run.moments.len() {
            continue;
        }
        let what = || format!("moment {number}");
        let variants = variants(moment, Effort::Some, random.next());
        oracle.look_at(moment, possible, *now_ms, &variants, &what);
        let variant = variants[random.below(variants.len() as u64) as usize];
        let image = moment.crash_image(variant);
        let what = || format!("moment {number}, {variant:?}");
        let images = crash_in_recovery(&image, possible, *now_ms, &mut random, 2, &what);
        deeper.fetch_add(images, std::sync::atomic::Ordering::Relaxed);
    }
}

fn explore(seed: u64, oracle: &Oracle, deeper: &std::sync::atomic::AtomicU64) {
    let config = ProptestConfig {
        cases: budget(90) as u32,
        failure_persistence: None,
        max_shrink_iters: 400,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let turns = prop::collection::vec(turn(), 10..70);
    runner
        .run(&turns, |turns| {
            crash(&turns, oracle, deeper);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn long_random_workloads_survive_crashes_and_crashes_of_their_recovery() {
    let oracle = Oracle::default();
    let deeper = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for seed in [11, 12] {
            let (oracle, deeper) = (&oracle, &deeper);
            scope.spawn(move || explore(seed, oracle, deeper));
        }
    });
    oracle.report("random workloads");
    println!("double and triple crashes: {} images", deeper.into_inner());
}
