//! Crash tests on the simulated disk: a workload is cut at every write, sync and length change, in
//! every variant of what a disk may do to unsynced writes. The reopened database must equal an
//! exact prefix of the commits that contains every acknowledged one, pass the structural check,
//! and go on working.
//!
//! `AURORA_TEST_BUDGET=100 cargo test --release --test crash` runs a hundred times as much.

mod common;

use aurora::storage::{SimCrash, SimDisk};
use aurora::{Aurora, Durability, Error, Snapshot};
use common::{Change, Model, Random, budget, contents, open, repeatable};

/// What a workload does.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Change>),
    Buffered(Vec<Change>),
    /// Changes, of which those after the savepoint are undone.
    Savepoint(Vec<Change>, Vec<Change>),
    RolledBack(Vec<Change>),
    /// Too large for the log.
    Large(u64),
    Flush,
    Checkpoint,
    Compact,
    HoldSnapshot,
    DropSnapshots,
    Reopen,
}

fn changes(random: &mut Random) -> Vec<Change> {
    let count = 1 + random.below(6);
    (0..count).map(|_| Change::random(random)).collect()
}

fn workload(seed: u64, steps: u64) -> Vec<Step> {
    let mut random = Random(seed);
    let random = &mut random;
    (0..steps)
        .map(|_| match random.below(32) {
            0..=12 => Step::Commit(changes(random)),
            13..=17 => Step::Buffered(changes(random)),
            18 => Step::Savepoint(changes(random), changes(random)),
            19 => Step::RolledBack(changes(random)),
            20 => Step::Large(random.next()),
            21 | 22 => Step::Flush,
            23..=25 => Step::Checkpoint,
            26 => Step::Compact,
            27 | 28 => Step::HoldSnapshot,
            29 => Step::DropSnapshots,
            _ => Step::Reopen,
        })
        .collect()
}

fn large(seed: u64) -> Vec<Change> {
    let mut random = Random(seed);
    (0..400)
        .map(|i| {
            let key = format!("large{:04}", i * 7 % 400).into_bytes();
            Change::Put("a".to_string(), key, random.bytes(150))
        })
        .collect()
}

/// What should be there, and what must be.
#[derive(Debug, Default)]
struct History {
    /// The state after each commit; the first is the empty database.
    states: Vec<Model>,
    /// Commits before this one were acknowledged as durable.
    acknowledged: usize,
    held: Vec<(Snapshot, Model)>,
}

impl History {
    fn new() -> Self {
        History {
            states: vec![Model::default()],
            ..History::default()
        }
    }

    fn last(&self) -> Model {
        self.states.last().cloned().unwrap_or_default()
    }

    /// Notes a commit before it is tried: from then on it may be on the disk.
    fn push(&mut self, changes: &[Change]) {
        let mut model = self.last();
        changes
            .iter()
            .for_each(|change| change.apply_to(&mut model));
        self.states.push(model);
    }

    fn acknowledge_all(&mut self) {
        self.acknowledged = self.states.len() - 1;
    }
}

fn commit(
    db: &Aurora,
    history: &mut History,
    changes: &[Change],
    durability: Durability,
) -> aurora::Result<()> {
    let mut tx = db.begin_write()?;
    tx.set_durability(durability);
    for change in changes {
        change.apply(&mut tx)?;
    }
    history.push(changes);
    tx.commit()?;
    if durability == Durability::Full {
        history.acknowledge_all();
    }
    Ok(())
}

/// Runs the steps until the end or the power cut.
fn run(disk: &SimDisk, steps: &[Step], history: &mut History) -> aurora::Result<()> {
    let mut db = open(disk.reopen().storage())?;
    for step in steps {
        match step {
            Step::Commit(changes) => commit(&db, history, changes, Durability::Full)?,
            Step::Buffered(changes) => commit(&db, history, changes, Durability::Buffered)?,
            Step::Large(seed) => commit(&db, history, &large(*seed), Durability::Full)?,
            Step::Savepoint(kept, undone) => {
                let mut tx = db.begin_write()?;
                for change in kept {
                    change.apply(&mut tx)?;
                }
                let savepoint = tx.savepoint()?;
                for change in undone {
                    change.apply(&mut tx)?;
                }
                tx.roll_back_to(&savepoint)?;
                history.push(kept);
                tx.commit()?;
                history.acknowledge_all();
            }
            Step::RolledBack(changes) => {
                let mut tx = db.begin_write()?;
                for change in changes {
                    change.apply(&mut tx)?;
                }
            }
            Step::Flush => {
                db.flush()?;
                history.acknowledge_all();
            }
            Step::Checkpoint => {
                db.checkpoint()?;
                history.acknowledge_all();
            }
            Step::Compact => {
                db.compact()?;
            }
            Step::HoldSnapshot => {
                let snapshot = db.begin_read()?;
                assert_eq!(contents(&snapshot)?, history.last());
                history.held.push((snapshot, history.last()));
            }
            Step::DropSnapshots => history.held.clear(),
            Step::Reopen => {
                history.held.clear();
                db.close()?;
                history.acknowledge_all();
                db = open(disk.reopen().storage())?;
            }
        }
    }
    for (snapshot, expected) in &history.held {
        assert_eq!(&contents(snapshot)?, expected, "a held snapshot changed");
    }
    history.held.clear();
    db.check()?;
    db.close()?;
    history.acknowledge_all();
    Ok(())
}

/// Opens what a crash left and holds it against the history. Returns the number of the state.
fn verify(image: &SimDisk, history: &History, what: &str) -> usize {
    let db = open(image.reopen().storage()).unwrap_or_else(|error| panic!("{what}: open: {error}"));
    db.check()
        .unwrap_or_else(|error| panic!("{what}: check: {error}"));
    let found =
        contents(&db.begin_read().unwrap()).unwrap_or_else(|error| panic!("{what}: read: {error}"));
    let state = (history.acknowledged..history.states.len())
        .rev()
        .find(|index| history.states[*index] == found)
        .unwrap_or_else(|| {
            let older = history.states.iter().position(|state| *state == found);
            panic!(
                "{what}: the state is none of {}..{}; it is number {older:?}",
                history.acknowledged,
                history.states.len()
            )
        });
    // It goes on working, and what it does then lasts.
    let mut next = History {
        states: vec![found],
        ..History::default()
    };
    let mut random = Random(state as u64);
    for _ in 0..3 {
        commit(&db, &mut next, &changes(&mut random), Durability::Full)
            .unwrap_or_else(|error| panic!("{what}: going on: {error}"));
    }
    // Before the handle is dropped, which would close the database cleanly.
    let after = image.crash_image(SimCrash::LoseAll);
    drop(db);
    let db = open(after.storage()).unwrap_or_else(|error| panic!("{what}: again: {error}"));
    db.check()
        .unwrap_or_else(|error| panic!("{what}: check again: {error}"));
    assert_eq!(
        contents(&db.begin_read().unwrap()).unwrap(),
        next.last(),
        "{what}"
    );
    state
}

fn variants(seed: u64) -> Vec<SimCrash> {
    vec![
        SimCrash::LoseAll,
        SimCrash::KeepAll,
        SimCrash::OnlyWrites,
        SimCrash::OnlyLengths,
        SimCrash::Random { seed },
        SimCrash::Sectors { seed },
        SimCrash::Bytes { seed },
    ]
}

fn length_of(steps: &[Step]) -> u64 {
    let disk = SimDisk::new(1);
    let mut history = History::new();
    run(&disk, steps, &mut history).unwrap();
    disk.counters().mutating_calls()
}

/// A power cut at the n-th change, with the history up to it.
fn cut(steps: &[Step], nth: u64) -> (SimDisk, History) {
    let disk = SimDisk::new(1);
    disk.crash_after(nth);
    let mut history = History::new();
    match run(&disk, steps, &mut history) {
        Ok(()) => {}
        Err(error) if error.is_io() || error.is_poisoned() || error.is_disk_full() => {}
        Err(Error::TransactionFailed | Error::Closed) => {}
        Err(error) => panic!("cut at {nth}: {error}"),
    }
    history.held.clear();
    (disk, history)
}

fn crash_everywhere(seed: u64, steps: u64, stride: u64) -> u64 {
    let steps = workload(seed, steps);
    let length = length_of(&steps);
    let mut images = 0;
    let mut nth = seed % stride;
    while nth < length {
        let (disk, history) = cut(&steps, nth);
        for variant in variants(seed ^ nth) {
            let image = disk.crash_image(variant);
            verify(
                &image,
                &history,
                &format!("seed {seed}, cut {nth}, {variant:?}"),
            );
            images += 1;
        }
        // Killed there and opened again at once: what was not synced may still be lost later.
        verify(
            &disk.kill_image(),
            &history,
            &format!("seed {seed}, killed at {nth}"),
        );
        nth += stride;
    }
    images
}

#[test]
fn a_crash_at_every_change_leaves_a_prefix_with_every_acknowledged_commit() {
    let mut images = 0;
    for seed in 0..budget(12) {
        images += crash_everywhere(seed, 14, 1 + seed % 3);
    }
    for seed in 1000..1000 + budget(4) {
        images += crash_everywhere(seed, 60, 11);
    }
    println!("{images} crash images");
}

#[test]
fn creation_can_be_cut_anywhere() {
    for nth in 0..length_of(&[]) {
        let (disk, history) = cut(&[], nth);
        for seed in 0..40 {
            for variant in variants(seed) {
                let image = disk.crash_image(variant);
                verify(&image, &history, &format!("cut {nth}, {variant:?}"));
            }
        }
    }
}

/// What two creations with different page sizes had left, the first of them cut off by the second and that cut lost,
/// was no rest of one: it was never opened again.
#[test]
fn creation_can_be_cut_and_begun_again_with_another_page_size() {
    let sizes = [4096, 8192, 16384, 32768, 65536];
    let open = |disk: &SimDisk, page_size| {
        let builder = repeatable().page_size(page_size);
        builder.open_storage(disk.reopen().storage())
    };
    for (seed, nth) in (0..budget(40)).flat_map(|seed| (1..12).map(move |nth| (seed, nth))) {
        let mut random = Random(seed * 100 + nth);
        let mut disk = SimDisk::new(seed);
        for cut in [
            Some(nth),
            Some(1 + random.below(11)),
            Some(1 + random.below(11)),
            None,
        ] {
            if let Some(nth) = cut {
                disk.crash_after(nth);
            }
            let opened = open(&disk, sizes[random.below(5) as usize]);
            match &opened {
                Ok(db) if cut.is_none() => _ = db.check().unwrap(),
                Ok(_) => {}
                Err(error) => assert!(disk.has_crashed(), "seed {seed}, {nth}: {error}"),
            }
            let seed = random.next();
            let image = disk.crash_image(match random.below(4) {
                0 => SimCrash::OnlyWrites,
                1 => SimCrash::Sectors { seed },
                _ => SimCrash::Bytes { seed },
            });
            disk.crash_after(0); // a close would write
            drop(opened);
            disk = image;
        }
    }
}

#[test]
fn recovery_can_be_cut_and_cut_again() {
    for seed in 0..budget(6) {
        let steps = workload(seed + 500, 12);
        let length = length_of(&steps);
        let mut random = Random(seed);
        for _ in 0..4 {
            let (disk, history) = cut(&steps, random.below(length));
            let image = disk.crash_image(SimCrash::Sectors {
                seed: random.next(),
            });
            let before = image.counters().mutating_calls();
            open(image.crash_image(SimCrash::KeepAll).storage()).unwrap();
            let _ = before;
            for nth in 0..12 {
                let second = image.crash_image(SimCrash::KeepAll);
                second.crash_after(nth);
                let _ = open(second.reopen().storage());
                for variant in variants(random.next()) {
                    let third = second.crash_image(variant);
                    verify(
                        &third,
                        &history,
                        &format!("seed {seed}, recovery cut {nth}, {variant:?}"),
                    );
                }
            }
        }
    }
}
