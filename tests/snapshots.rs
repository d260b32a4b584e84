//! What snapshots cost while they are held: the pages that they see, and nothing else.

mod common;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aurora::storage::{MemoryStorage, SimCrash, SimDisk};
use aurora::{Aurora, Durability, Snapshot, Stats};
use common::{Model, Random, contents, open};

/// Without threads of its own; commits wait for nothing.
fn in_memory() -> Aurora {
    Aurora::builder()
        .background(false)
        .durability(Durability::Buffered)
        .open_storage(Arc::new(MemoryStorage::new()))
        .unwrap()
}

fn put(db: &Aurora, key: u64, byte: u8, length: usize) {
    let tree = db.tree("t").unwrap();
    tree.put(key.to_be_bytes(), vec![byte; length]).unwrap();
}

/// A snapshot of each of so many versions.
fn hold(db: &Aurora, snapshots: u64) -> VecDeque<Snapshot> {
    let versions = (0..snapshots).map(|n| {
        put(db, n % 50, n as u8, 8);
        db.begin_read().unwrap()
    });
    versions.collect()
}

fn stats(db: &Aurora) -> Stats {
    db.stats().unwrap()
}

// --- Time --------------------------------------------------------------------------------------

/// The shortest of some rounds, since the machine may be busy.
fn time_of_commits(db: &Aurora) -> Duration {
    let round = |_| {
        let start = Instant::now();
        (0..200).for_each(|n| put(db, n % 50, 1, 8));
        start.elapsed()
    };
    (0..20).map(round).min().unwrap()
}

#[test]
fn a_commit_takes_as_long_however_many_snapshots_are_held() {
    let (none, many) = (in_memory(), in_memory());
    let _held = hold(&many, 20_000);
    put(&none, 0, 1, 8);
    let (none, many) = (time_of_commits(&none), time_of_commits(&many));
    assert!(many < none * 4, "{many:?} instead of {none:?}");
}

// --- Pages that come free ----------------------------------------------------------------------

#[test]
fn behind_many_held_snapshots_the_pages_of_short_readers_are_used_again_at_once() {
    let db = in_memory();
    let _held = hold(&db, 1000);
    db.checkpoint().unwrap();
    let before = stats(&db).waiting_pages;
    for n in 0..3000 {
        let reader = db.begin_read().unwrap();
        put(&db, n % 50, 2, 8);
        drop(reader);
        let now = stats(&db).waiting_pages;
        assert!(now < before + 20, "{now} pages wait, {before} before");
    }
    db.check().unwrap();
}

#[test]
fn snapshots_that_are_dropped_among_others_give_their_pages_back() {
    let db = in_memory();
    let mut held = hold(&db, 1000);
    assert!(stats(&db).held_versions >= 1000);
    drop(held.drain(20..980));
    // What is looked at in turn has been seen within so many commits, with no checkpoint in between.
    let checkpoints = stats(&db).checkpoints;
    (0..100).for_each(|n| put(&db, n % 50, 3, 8));
    assert_eq!(stats(&db).checkpoints, checkpoints);
    let now = stats(&db);
    assert!(now.held_versions < 50, "{now:?}");
    assert!(now.waiting_pages < 100, "{now:?}");
    drop(held);
    db.check().unwrap();
}

#[test]
fn a_checkpoint_and_a_check_find_every_snapshot_that_was_dropped() {
    for checks in [false, true] {
        let db = in_memory();
        let mut held = hold(&db, 5000);
        drop(held.drain(20..4980));
        put(&db, 1, 4, 8);
        match checks {
            false => db.checkpoint().unwrap(),
            true => drop(db.check().unwrap()),
        }
        let now = stats(&db);
        assert!(now.held_versions < 50, "{now:?}");
    }
}

#[test]
fn many_snapshots_that_are_dropped_together_are_gone_with_the_next_commit() {
    let db = in_memory();
    let held = hold(&db, 5000);
    drop(held);
    put(&db, 1, 4, 8);
    let now = stats(&db);
    assert!(now.held_versions < 10 && now.waiting_pages < 50, "{now:?}");
}

/// Held and dropped in any order, with pages used again in between.
#[test]
fn each_of_many_snapshots_keeps_what_it_sees() {
    for seed in 0..4 {
        let db = open(Arc::new(MemoryStorage::new())).unwrap();
        let mut random = Random(seed);
        let mut held: Vec<(Snapshot, Model)> = Vec::new();
        let look = |(snapshot, model): (Snapshot, Model)| {
            assert!(contents(&snapshot).unwrap() == model, "seed {seed}");
        };
        for _ in 0..3000 {
            let length = [10, 900, 5000][random.below(3) as usize];
            put(&db, random.below(40), random.below(256) as u8, length);
            if random.below(3) == 0 {
                let snapshot = db.begin_read().unwrap();
                let model = contents(&snapshot).unwrap();
                held.push((snapshot, model));
            }
            if random.below(4) == 0 && !held.is_empty() {
                look(held.swap_remove(random.below(held.len() as u64) as usize));
            }
            match random.below(200) {
                0 => db.checkpoint().unwrap(),
                1 => drop(db.check().unwrap()),
                2 => held.drain(..).for_each(look),
                _ => {}
            }
        }
        held.drain(..).for_each(look);
        db.check().unwrap();
        let now = stats(&db);
        assert!(now.held_versions < 10, "{now:?}");
    }
}

// --- What a snapshot never reads ---------------------------------------------------------------

/// Changes a few entries until the log has a ring of that length.
fn grow_ring(db: &Aurora, bytes: u64) {
    let mut n = 0;
    while stats(db).log_bytes < bytes {
        put(db, n % 8, n as u8, 1000);
        n += 1;
    }
}

#[test]
fn a_snapshot_keeps_no_place_of_the_log_or_the_catalog_or_the_space_map() {
    let db = in_memory();
    put(&db, 0, 1, 8);
    let snapshot = db.begin_read().unwrap();
    let before = contents(&snapshot).unwrap();
    grow_ring(&db, 2 << 20);
    for n in 0..20 {
        put(&db, n, 1, 1000);
        db.checkpoint().unwrap();
    }
    let now = stats(&db);
    // What it keeps is one leaf.
    assert!(now.oldest_pins_pages <= 1, "{now:?}");
    assert!(now.waiting_pages < 10, "{now:?}");
    assert!(contents(&snapshot).unwrap() == before);
    db.check().unwrap();
}

/// The places of the old log are used again at once, while the snapshot is held, and whatever the power leaves of that
/// is no harm: the slot that is replaced next still names them.
#[test]
fn the_place_of_an_old_log_is_used_again_and_a_crash_does_not_need_it() {
    let disk = SimDisk::new(3);
    let db = open(disk.storage()).unwrap();
    put(&db, 0, 1, 8);
    let snapshot = db.begin_read().unwrap();
    let seen = contents(&snapshot).unwrap();
    let now = || contents(&db.begin_read().unwrap()).unwrap();
    disk.record_moments();
    for round in 0..12u8 {
        let mut possible = vec![now()];
        // Long values lie where there is room: where the ring was, once it has grown.
        for key in 0..4 {
            put(&db, key, round, 40_000);
            possible.push(now());
        }
        for key in 10..14 {
            put(&db, key, round, 7000);
            possible.push(now());
        }
        db.checkpoint().unwrap();
        for moment in disk.take_moments() {
            let variants = [
                SimCrash::LoseAll,
                SimCrash::KeepAll,
                SimCrash::OnlyWrites,
                SimCrash::Sectors { seed: 5 },
                SimCrash::Random { seed: 6 },
            ];
            for variant in variants {
                let image = moment.crash_image(variant);
                let again = open(image.storage()).unwrap();
                again.check().unwrap();
                let found = contents(&again.begin_read().unwrap()).unwrap();
                assert!(possible.contains(&found), "round {round}, {variant:?}");
            }
        }
    }
    let after = stats(&db);
    assert!(after.log_bytes > 32 << 10, "{after:?}");
    assert!(after.oldest_pins_pages <= 1, "{after:?}");
    assert!(contents(&snapshot).unwrap() == seen);
}
