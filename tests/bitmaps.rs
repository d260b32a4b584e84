//! Files so long that the space map has several bitmaps, of which an open reads only what it needs. (With pages of 4096
//! bytes each covers 127 MiB. Most of the bytes here are zeros, which a simulated disk keeps only once.)

mod common;
#[path = "common/panicking.rs"]
mod panicking;

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use aurora::storage::{SimDisk, SimFault, SimOperation};
use aurora::{Aurora, Tree};
use common::{open, repeatable};
use panicking::Panicking;

const MIB: usize = 1 << 20;

/// Zeros with the tag at both ends, in pages of its own.
fn value(tag: u8, mib: usize) -> Vec<u8> {
    let mut value = vec![0; mib * MIB];
    value[0] = tag;
    value[mib * MIB - 1] = tag;
    value
}

fn put(tree: &Tree, tag: u8, mib: usize) {
    tree.put([tag], value(tag, mib)).unwrap();
}

fn verify(tree: &Tree, values: &[(u8, usize)]) {
    for &(tag, mib) in values {
        let found = tree.get([tag]).unwrap();
        assert!(found.unwrap() == value(tag, mib), "value {tag}");
    }
    assert_eq!(tree.len().unwrap(), values.len() as u64);
}

fn reopened(disk: &SimDisk, db: Aurora) -> Aurora {
    db.close().unwrap();
    open(disk.reopen().storage()).unwrap()
}

/// A bitmap of nothing was not read when its pages were given away again, so these were not marked: they were given
/// away a second time, under the values that lay there.
#[test]
fn a_file_that_was_emptied_is_filled_again() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    for tag in 0..8 {
        put(&db.tree("t").unwrap(), tag, 40);
    }
    let db = reopened(&disk, db);
    db.tree("t").unwrap().clear().unwrap();
    let db = reopened(&disk, db);

    let tree = db.tree("t").unwrap();
    let mut values: Vec<(u8, usize)> = (0..40).map(|tag| (tag, 8)).collect();
    for &(tag, mib) in &values {
        put(&tree, tag, mib);
    }
    db.check().unwrap();
    // Room in front of all, too short for what comes next, and behind.
    for tag in [1, 37] {
        assert!(tree.delete([tag]).unwrap());
        values.retain(|(other, _)| *other != tag);
    }
    db.checkpoint().unwrap();
    for tag in 100..103 {
        put(&tree, tag, 10);
        values.push((tag, 10));
    }
    verify(&tree, &values);
    db.check().unwrap();
    drop(tree);
    let db = reopened(&disk, db);
    db.check().unwrap();
    verify(&db.tree("t").unwrap(), &values);
}

/// A bitmap that nothing had asked for, and that lay near the end of the file, was written at its new place as one of
/// nothing: all that it covers was given away, under the values that lay there.
#[test]
fn a_compaction_moves_a_bitmap_that_was_never_read() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    let tree = db.tree("t").unwrap();
    for (tag, mib) in [(1, 100), (2, 160), (3, 100)] {
        put(&tree, tag, mib);
    }
    drop(tree);
    // As long as it is under way no place in front is free, so the map goes to the end.
    let mut tx = db.begin_write().unwrap();
    let mut filler = 0u32;
    while db.stats().unwrap().free_pages > 0 {
        let bytes = filler.to_be_bytes();
        tx.tree("filler").unwrap().put(bytes, [1; 3000]).unwrap();
        filler += 1;
    }
    db.checkpoint().unwrap();
    drop(tx);
    let tree = db.tree("t").unwrap();
    tree.delete([1]).unwrap();
    drop(tree);

    let db = reopened(&disk, db);
    db.compact().unwrap();
    db.check().unwrap();
    let tree = db.tree("t").unwrap();
    put(&tree, 4, 140);
    verify(&tree, &[(2, 160), (3, 100), (4, 140)]);
    drop(tree);
    let db = reopened(&disk, db);
    db.check().unwrap();
}

/// A commit that frees a long value reads a bitmap for it when its record is in the log and its state in nobody's memory.
/// After a panic there the next commit was made on top of the state before: an open had both to replay, and refused; and a
/// close wrote a map in which pages were lost.
#[test]
fn a_panic_of_the_storage_within_a_commit_is_the_end_of_all_writes() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    for (tag, mib) in [(1, 100), (2, 160), (3, 100)] {
        put(&db.tree("t").unwrap(), tag, mib);
    }
    db.close().unwrap();
    let storage = Panicking::new(disk.storage());
    let db = repeatable().open_storage(storage.clone()).unwrap();
    assert!(db.tree("t").unwrap().contains([2]).unwrap());
    let commit = || {
        db.write(|tx| {
            tx.tree("one")?.put("k", "v")?;
            tx.tree("t")?.delete([2])?;
            storage.reads_panic.store(true, Ordering::SeqCst);
            Ok(())
        })
    };
    let committed = catch_unwind(AssertUnwindSafe(commit));
    assert!(!matches!(committed, Ok(Ok(()))), "no bitmap was read");
    storage.reads_panic.store(false, Ordering::SeqCst);
    let next = db.tree("two").and_then(|tree| tree.put("k", "v"));
    let killed = disk.kill_image();
    drop((db, storage));
    for disk in [killed, disk.reopen()] {
        let db = open(disk.storage()).unwrap();
        let names = db.tree_names().unwrap();
        assert_eq!(names.contains(&"two".to_string()), next.is_ok());
        db.check().unwrap();
    }
}

/// The same where the storage says that it cannot read the bitmap. The record was in the log by then: with writes that went on,
/// the next commit came on top of the state before, and an open had both to replay.
#[test]
fn a_bitmap_that_cannot_be_read_within_a_commit_is_the_end_of_all_writes() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    for (tag, mib) in [(1, 100), (2, 160), (3, 100)] {
        put(&db.tree("t").unwrap(), tag, mib);
    }
    let db = reopened(&disk, db);
    assert!(db.tree("t").unwrap().contains([2]).unwrap());
    let committed = db.write(|tx| {
        tx.tree("one")?.put("k", "v")?;
        tx.tree("t")?.delete([2])?;
        disk.fail_once(SimOperation::Read, 1, SimFault::Eio);
        Ok(())
    });
    let error = committed.expect_err("no bitmap was read");
    assert!(error.is_io(), "{error}");
    disk.clear_faults();
    let next = db.tree("two").and_then(|tree| tree.put("k", "v"));
    assert!(next.unwrap_err().is_poisoned());
    assert!(db.flush().unwrap_err().is_poisoned());
    verify(&db.tree("t").unwrap(), &[(1, 100), (2, 160), (3, 100)]);
    let killed = disk.kill_image();
    drop(db);
    for disk in [killed, disk.reopen()] {
        let db = open(disk.storage()).unwrap();
        db.check().unwrap();
        // Not acknowledged, so it may be there or not, as a whole.
        let has_one = db.tree_names().unwrap().contains(&"one".to_string());
        assert_eq!(db.tree("t").unwrap().contains([2]).unwrap(), !has_one);
    }
}

/// What a checkpoint could not write is still to be written: else the next one left out a bitmap that had changed before, and
/// an open gave pages away that were in use, or knew nothing of free ones.
#[test]
fn a_bitmap_that_a_failed_checkpoint_did_not_write_is_written_by_the_next() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    let tree = db.tree("t").unwrap();
    let base = [(1, 100), (2, 160)];
    for (tag, mib) in base {
        put(&tree, tag, mib);
    }
    db.checkpoint().unwrap();
    let mut failures = 0;
    for nth in 1.. {
        // Behind the others, so in the last bitmap alone.
        let is_there = nth % 2 == 1;
        match is_there {
            true => put(&tree, 3, 100),
            false => assert!(tree.delete([3]).unwrap()),
        }
        let full = SimFault::Error(ErrorKind::StorageFull);
        disk.fail_once(SimOperation::Write, nth, full);
        let has_failed = db.checkpoint().is_err();
        disk.clear_faults();
        // In the first.
        db.tree("one").unwrap().put(nth.to_be_bytes(), "v").unwrap();
        db.checkpoint().unwrap();
        let again = open(disk.kill_image().storage()).unwrap();
        again.check().unwrap();
        let values = base.into_iter().chain(is_there.then_some((3, 100)));
        verify(&again.tree("t").unwrap(), &values.collect::<Vec<_>>());
        if !has_failed {
            break;
        }
        failures += 1;
    }
    assert!(failures > 3, "{failures} checkpoints failed");
    db.check().unwrap();
}
