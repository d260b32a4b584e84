//! Transactions that commit by checkpoint, and have leaves written while they go on.

mod common;

use std::sync::Arc;

use aurora::storage::{MemoryStorage, SimCrash, SimDisk, SimFault, SimOperation, SimOutcome};
use aurora::{Aurora, Error, Result, TreeMut, WriteTransaction};
use common::{contents, open, repeatable};

const ENTRIES: u32 = 20_000;

fn value(n: u32, round: u8) -> [u8; 100] {
    let mut value = [round; 100];
    value[..4].copy_from_slice(&n.to_le_bytes());
    value
}

fn load(tx: &mut WriteTransaction, round: u8) -> Result<()> {
    let entries = (0..ENTRIES).map(|n| (n.to_be_bytes(), value(n, round)));
    tx.tree("t")?.put_many(entries).map(drop)
}

/// One by one, which takes another way.
fn load_singly(tx: &mut WriteTransaction, round: u8) -> Result<()> {
    let mut tree = tx.tree("t")?;
    (0..ENTRIES).try_for_each(|n| tree.put(n.to_be_bytes(), value(n, round)).map(drop))
}

/// What costs time in proportion to the file is another call.
#[test]
fn statistics_read_no_page() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    db.write(|tx| load(tx, 1)).unwrap();
    db.close().unwrap();

    let db = open(disk.storage()).unwrap();
    let stats = db.stats().unwrap();
    assert_eq!(stats.trees["t"].entries, u64::from(ENTRIES));
    let trees = db.tree_stats().unwrap();
    assert_eq!(trees["t"].entries, u64::from(ENTRIES));
    assert_eq!(trees["t"].depth, stats.trees["t"].depth);
    assert_eq!(trees["t"].value_bytes, u64::from(ENTRIES) * 100);
    // An open reads a few pages of its own trees, and the statistics none.
    let pages = trees["t"].leaf_pages + trees["t"].branch_pages;
    assert!(stats.cache_misses < 10, "{stats:#?}");
    assert!(db.stats().unwrap().cache_misses >= pages);
}

fn verify(db: &Aurora, of: impl Fn(u32) -> u8) {
    db.check().unwrap();
    let tree = db.tree("t").unwrap();
    assert_eq!(tree.len().unwrap(), u64::from(ENTRIES));
    for n in 0..ENTRIES {
        let found = tree.get(n.to_be_bytes()).unwrap().unwrap();
        assert_eq!(&found[..], value(n, of(n)));
    }
}

/// With a thread of its own that writes, and without.
fn databases() -> impl Iterator<Item = (SimDisk, Aurora)> {
    [true, false].into_iter().map(|background| {
        let disk = SimDisk::new(1);
        let builder = Aurora::builder().log_limit(128 << 10);
        let builder = builder.background(background);
        let db = builder.open_storage(disk.storage()).unwrap();
        (disk, db)
    })
}

/// Also as it is found by the next who opens it: who wrote it knows the checksums of its pages.
fn close_and_verify(disk: &SimDisk, db: Aurora, of: impl Fn(u32) -> u8) {
    verify(&db, &of);
    db.close().unwrap();
    verify(&open(disk.storage()).unwrap(), of);
}

#[test]
fn leaves_are_written_while_a_load_in_order_goes_on() {
    for (_, db) in databases() {
        for load in [load, load_singly] {
            let before = db.stats().unwrap().written;
            let mut tx = db.begin_write().unwrap();
            load(&mut tx, 1).unwrap();
            tx.commit().unwrap();
            let after = db.stats().unwrap().written;
            let (ahead, rest) = (
                after.spill - before.spill,
                after.checkpoint - before.checkpoint,
            );
            // The first MiB comes before the transaction is known to be large.
            assert!(ahead > rest, "{ahead} bytes ahead, {rest} at the end");
            verify(&db, |_| 1);
            let mut tx = db.begin_write().unwrap();
            tx.drop_tree("t").unwrap();
            tx.commit().unwrap();
        }
        db.close().unwrap();
    }
}

/// Those that the next entries change again do.
#[test]
fn leaves_of_entries_in_order_do_not_stay_in_memory() {
    const MANY: u32 = 100_000;
    let held_after = |key: fn(u32) -> u32, load: fn(&mut TreeMut<'_>, &[u32]) -> Result<()>| {
        let storage = Arc::new(MemoryStorage::new());
        let builder = Aurora::builder().log_limit(128 << 10);
        let db = builder.open_storage(storage).unwrap();
        let keys: Vec<u32> = (0..MANY).map(key).collect();
        db.write(|tx| load(&mut tx.tree("t")?, &keys)).unwrap();
        let stats = db.stats().unwrap();
        assert_eq!(stats.trees["t"].entries, u64::from(MANY));
        db.check().unwrap();
        let leaves = db.tree_stats().unwrap()["t"].leaf_pages;
        let held_bytes = stats.clean_bytes + stats.dirty_bytes;
        held_bytes as f64 / (leaves * u64::from(stats.page_size)) as f64
    };
    fn many(tree: &mut TreeMut<'_>, keys: &[u32]) -> Result<()> {
        let entries = keys.iter().map(|n| (n.to_be_bytes(), value(*n, 1)));
        tree.put_many(entries).map(drop)
    }
    fn singly(tree: &mut TreeMut<'_>, keys: &[u32]) -> Result<()> {
        let mut entries = keys.iter().map(|n| (n.to_be_bytes(), value(*n, 1)));
        entries.try_for_each(|(key, value)| tree.put(key, value).map(drop))
    }
    // The first MiB comes before the transaction is known to be large, and the last may be on its way.
    for load in [many, singly] {
        let share = held_after(|n| n, load);
        assert!(share < 0.3, "{share} of the leaves");
    }
    let share = held_after(|n| n.wrapping_mul(0x9e37_79b1), many);
    assert!(share > 0.9, "{share} of the leaves");
}

/// What was handed over is changed, removed, copied for a savepoint, and used again.
#[test]
fn what_was_written_ahead_can_change() {
    for (disk, db) in databases() {
        let mut tx = db.begin_write().unwrap();
        load(&mut tx, 1).unwrap();
        let mut tree = tx.tree("t").unwrap();
        for n in (0..ENTRIES).step_by(100) {
            tree.put(n.to_be_bytes(), value(n, 2)).unwrap();
        }
        let savepoint = tx.savepoint().unwrap();
        let mut tree = tx.tree("t").unwrap();
        for n in (0..ENTRIES).step_by(70) {
            tree.put(n.to_be_bytes(), value(n, 3)).unwrap();
        }
        tree.delete_range(1000u32.to_be_bytes()..9000u32.to_be_bytes())
            .unwrap();
        tx.drop_tree("t").unwrap();
        load(&mut tx, 4).unwrap();
        tx.roll_back_to(&savepoint).unwrap();
        tx.tree("t")
            .unwrap()
            .put(5u32.to_be_bytes(), value(5, 6))
            .unwrap();
        tx.commit().unwrap();
        close_and_verify(&disk, db, |n| {
            if n == 5 {
                6
            } else {
                1 + u8::from(n % 100 == 0)
            }
        });
    }
}

/// The numbers of leaves that were left behind, and not handed over yet, go to other pages when their
/// tree is dropped or rolled back: a branch among them is written when its children were.
#[test]
fn the_number_of_a_leaf_left_behind_may_serve_a_branch() {
    let in_order = |count: u32| (0..count).map(|n| (n.to_be_bytes(), value(n, 1)));
    for (disk, db) in databases() {
        db.write(|tx| {
            for round in 0..40 {
                let count = 1000 + round * 13;
                let savepoint = tx.savepoint()?;
                tx.tree("gone")?.put_many(in_order(count))?;
                match round % 2 {
                    0 => tx.drop_tree("gone").map(drop)?,
                    _ => tx.roll_back_to(&savepoint)?,
                }
                for n in 0..3 {
                    let mut small = tx.tree(format!("small {round} {n}"))?;
                    for n in 0..70u32 {
                        let n = n * 37 % 70;
                        small.put(n.to_be_bytes(), value(n, 2))?;
                    }
                }
                tx.tree(format!("next {round}"))?
                    .put_many(in_order(count / 2))?;
            }
            Ok(())
        })
        .unwrap();
        db.close().unwrap();
        let db = open(disk.storage()).unwrap();
        db.check().unwrap();
        assert_eq!(db.stats().unwrap().trees["small 7 2"].entries, 70);
    }
}

#[test]
fn a_load_that_is_given_up_leaves_nothing() {
    for (disk, db) in databases() {
        db.write(|tx| load(tx, 1)).unwrap();
        let mut tx = db.begin_write().unwrap();
        tx.drop_tree("t").unwrap();
        load(&mut tx, 2).unwrap();
        drop(tx);
        verify(&db, |_| 1);
        let pages = db.stats().unwrap().pages;
        for _ in 0..3 {
            let mut tx = db.begin_write().unwrap();
            load_singly(&mut tx, 3).unwrap();
            drop(tx);
        }
        let now = db.stats().unwrap().pages;
        assert!(now < pages * 3, "{now} pages, {pages} before");
        close_and_verify(&disk, db, |_| 1);
    }
}

/// A write that fails in the middle of a load fails that, and nothing else.
#[test]
fn a_write_ahead_that_fails_fails_the_load() {
    let small = || repeatable().log_limit(128 << 10);
    let disk = SimDisk::new(1);
    let db = small().open_storage(disk.storage()).unwrap();
    db.write(|tx| load(tx, 1)).unwrap();
    for nth in [1, 20, 100] {
        let mut tx = db.begin_write().unwrap();
        disk.fail_once(
            SimOperation::Write,
            nth,
            SimFault::Error(std::io::ErrorKind::StorageFull),
        );
        tx.drop_tree("t").unwrap();
        let loaded = load(&mut tx, 2);
        let error = loaded.and_then(|()| tx.commit()).unwrap_err();
        assert!(error.is_disk_full(), "write {nth}: {error}");
        verify(&db, |_| 1);
    }
    db.write(|tx| load(tx, 3)).unwrap();
    verify(&db, |_| 3);
}

/// At each moment the file holds what was committed before, or all of it.
#[test]
fn a_crash_within_a_load_leaves_all_or_nothing() {
    let disk = SimDisk::new(1);
    let small = || repeatable().log_limit(64 << 10);
    let db = small().open_storage(disk.storage()).unwrap();
    db.write(|tx| tx.tree("t")?.put("before", "1")).unwrap();
    let states = |db: &Aurora| contents(&db.begin_read().unwrap()).unwrap();
    let before = states(&db);
    disk.record_moments();
    db.write(|tx| {
        let entries = (0..3_000u32).map(|n| (n.to_be_bytes(), value(n, 1)));
        tx.tree("t")?.put_many(entries)
    })
    .unwrap();
    let after = states(&db);
    let moments = disk.take_moments();
    assert!(moments.len() > 2);
    for moment in moments {
        for changes in 0..=moment.unsynced_changes() {
            let image = moment.crash_image(SimCrash::Suffix { changes });
            let reopened = open(image.storage()).unwrap();
            let found = states(&reopened);
            assert!(found == before || found == after);
            reopened.check().unwrap();
        }
    }
}

fn scattered_key(n: u64) -> Vec<u8> {
    let mut key = vec![b'k'; 1000];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

/// A branch that was written early, and is led to a leaf that was, too, and came back to be changed, is written again: also
/// where neither the leaf's number nor its count is another one.
#[test]
fn a_branch_written_early_is_written_again_when_a_leaf_below_it_changes() {
    const ENTRIES: u64 = 2000;
    for replaced in 1890..1925u64 {
        let disk = SimDisk::new(1);
        let open = || {
            let builder = repeatable().memory_limit(1 << 20);
            builder.open_storage(disk.storage()).unwrap()
        };
        let db = open();
        db.write(|tx| {
            let all = (0..ENTRIES).map(|n| (scattered_key(n), [1; 20]));
            tx.tree("t")?.put_many(all)?;
            let _held = tx.savepoint()?;
            let some = (0..replaced).map(|n| n.wrapping_mul(2_654_435_761) % ENTRIES);
            some.into_iter()
                .try_for_each(|n| tx.tree("t")?.put(scattered_key(n), [2; 20]).map(drop))
        })
        .unwrap();
        drop(db);
        let found = open().check();
        assert_eq!(found.unwrap().entries, ENTRIES, "{replaced} replaced");
    }
}

/// What ordinary commits changed is in memory only until the next checkpoint. A branch above it that a large transaction
/// copied and wrote early went to the file with no checksum for it, and all below it was lost with the next open.
#[test]
fn a_branch_written_early_waits_for_what_earlier_commits_changed_below_it() {
    for (entries, small, step) in [
        (200u32, 1u32, 200usize),
        (20_000, 10, 97),
        (20_000, 300, 19),
    ] {
        let disk = SimDisk::new(1);
        let open = || {
            let builder = repeatable().memory_limit(1 << 20);
            builder.open_storage(disk.storage()).unwrap()
        };
        let key = |n: u32| n.to_be_bytes();
        let mut db = open();
        let all = (0..entries).map(|n| (key(n), [1; 400]));
        db.write(|tx| tx.tree("t")?.put_many(all).map(drop))
            .unwrap();
        drop(db);
        for round in 2..6u8 {
            db = open();
            let mut random = common::Random(u64::from(round));
            for _ in 0..small {
                let n = random.next() as u32 % entries;
                db.tree("t").unwrap().put(key(n), [round; 400]).unwrap();
            }
            db.write(|tx| {
                for n in (0..entries).step_by(step) {
                    tx.tree("t")?.put(key(n), [round; 400])?;
                }
                let much = (0..3000u32).map(|n| (key(n.wrapping_mul(2_654_435_761)), [round; 500]));
                tx.tree("much")?.put_many(much).map(drop)
            })
            .unwrap();
            drop(db);
            db = open();
            let found = db.check();
            assert!(
                found.is_ok(),
                "{entries} entries, {small} small commits: {found:?}"
            );
            let kept = db.tree("t").unwrap().get(key(entries - 1)).unwrap();
            assert!(kept.is_some());
            drop(db);
        }
    }
}

/// Pages from before a savepoint stay in memory. To look for others among them at each change made a transaction with
/// a savepoint for each entry a thousand times slower once it had more than the memory that it may use.
#[test]
fn a_savepoint_for_each_entry_does_not_slow_a_large_transaction_down() {
    let db = repeatable().memory_limit(1 << 20);
    let db = db.open_storage(SimDisk::new(1).storage()).unwrap();
    let begun = std::time::Instant::now();
    let mut held = Vec::new();
    db.write(|tx| {
        for n in 0..10_000u64 {
            let savepoint = tx.savepoint()?;
            tx.tree("t")?.put(scattered_key(n), [1; 100])?;
            if n % 10 == 0 {
                tx.roll_back_to(&savepoint)?;
            }
            held.push(savepoint);
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(db.tree("t").unwrap().len().unwrap(), 9000);
    db.check().unwrap();
    // It takes a second or two, and took a minute.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

/// The number of a new tree was looked for among all, and each page that waited for a snapshot went from one that was
/// gone to the next: ten seconds for what takes a tenth of one.
#[test]
fn thousands_of_trees_and_of_snapshots_take_no_longer_each() {
    let db = repeatable()
        .open_storage(SimDisk::new(1).storage())
        .unwrap();
    let begun = std::time::Instant::now();
    db.write(|tx| (0..20_000u32).try_for_each(|n| tx.tree(format!("t{n}")).map(drop)))
        .unwrap();
    db.write(|tx| {
        (0..20_000u32)
            .step_by(2)
            .try_for_each(|n| tx.drop_tree(format!("t{n}")))
    })
    .unwrap();
    assert_eq!(db.stats().unwrap().trees.len(), 10_000);

    let put = |n: u32| {
        db.tree("t1")
            .unwrap()
            .put((n % 500).to_be_bytes(), [1; 200])
            .map(drop)
    };
    let mut snapshots = Vec::new();
    for n in 0..5000 {
        put(n).unwrap();
        snapshots.push(db.begin_read().unwrap());
    }
    drop(snapshots);
    put(0).unwrap();
    let took = begun.elapsed();
    assert!(took.as_secs() < 20, "{took:?}");
    db.check().unwrap();
}

/// Pages that were written early come back under the same numbers, in trees that are filled in order and at random.
#[test]
fn large_transactions_in_little_memory_are_whole() {
    let disk = SimDisk::new(1);
    let open = || {
        let builder = repeatable().memory_limit(1 << 20);
        builder.open_storage(disk.storage()).unwrap()
    };
    let db = open();
    db.new_collection(
        "c",
        aurora::Schema::new()
            .field(aurora::Field::new("id", aurora::FieldType::Int))
            .field(aurora::Field::new("n", aurora::FieldType::Int).indexed()),
    )
    .unwrap();
    db.write(|tx| {
        let documents = (0..30_000i64).map(|id| [("id", id), ("n", id % 100)]);
        tx.collection("c")?.insert_many(documents).map(drop)
    })
    .unwrap();
    let (mut ascending, mut random) = (0u64, common::Random(7));
    let mut expected = std::collections::BTreeMap::new();
    db.write(|tx| {
        for round in 0..8u8 {
            for _ in 0..200 {
                tx.tree("up")?.put(ascending.to_be_bytes(), [round; 100])?;
                ascending += 1;
            }
            let savepoint = tx.savepoint()?;
            for _ in 0..2000 {
                let n = random.next() % 5000;
                tx.tree("any")?.put(n.to_be_bytes(), [round; 900])?;
                expected.insert(n, round);
            }
            if round == 3 {
                tx.roll_back_to(&savepoint)?;
                expected.retain(|_, of| *of < round);
                // What was replaced is as it was: the entries of earlier rounds are put again.
                let earlier: Vec<u64> = expected.keys().copied().collect();
                for n in earlier {
                    tx.tree("any")?.put(n.to_be_bytes(), [0; 900])?;
                    expected.insert(n, 0);
                }
            }
        }
        Ok(())
    })
    .unwrap();
    drop(db);
    let db = open();
    db.check().unwrap();
    let snapshot = db.begin_read().unwrap();
    assert_eq!(snapshot.tree("up").unwrap().len(), ascending);
    let any = snapshot.tree("any").unwrap();
    for (n, round) in &expected {
        let value = any.get(n.to_be_bytes()).unwrap().unwrap();
        assert!(value[..] == [*round; 900], "{n}");
    }
}

/// A checkpoint had written a page of the space map when the disk was full, and gave it up. What that page was given to
/// next seemed to be in the file, with the checksum of the map: a branch above it was written early with that one, and
/// all below was lost with the next open. By chance it is the right page: hence the many tries.
#[test]
fn a_branch_written_early_knows_no_checksum_of_a_map_that_was_given_up() {
    const KEYS: u64 = 40_000;
    let put = |db: &Aurora, key: u64| {
        let tree = db.tree("t").unwrap();
        tree.put(key.to_be_bytes(), [1; 100]).unwrap();
    };
    let builder = || repeatable().log_limit(8 << 20);
    let start = SimDisk::new(1);
    let db = builder().open_storage(start.storage()).unwrap();
    db.write(|tx| {
        let all = (0..KEYS).map(|key| (key.to_be_bytes(), [0; 100]));
        tx.tree("t")?.put_many(all)
    })
    .unwrap();
    db.close().unwrap();
    // Small commits, and a checkpoint, of which this write fails.
    let begin = |nth: u64| {
        let disk = SimDisk::from_image(start.image(), 1);
        let db = builder().open_storage(disk.storage()).unwrap();
        for n in 0..4 {
            let tree = db.tree(format!("z{n}")).unwrap();
            tree.put("k", "v").unwrap();
        }
        (0..20).for_each(|n| put(&db, n * 2000));
        let before = disk.counters().calls(SimOperation::Write);
        let fault = SimFault::Error(std::io::ErrorKind::StorageFull);
        disk.fail_once(SimOperation::Write, nth, fault);
        let done = db.checkpoint();
        disk.clear_faults();
        let writes = disk.counters().calls(SimOperation::Write) - before;
        (disk, db, done, writes)
    };
    // The last pages are those of the map.
    let (_, _, done, writes) = begin(u64::MAX);
    done.unwrap();
    let mut failed = 0;
    for (nth, way) in (writes - 3..writes).flat_map(|nth| (0..20).map(move |way| (nth, way))) {
        let (disk, db, done, _) = begin(nth);
        failed += u64::from(done.is_err());
        for n in 0..way % 5 {
            db.write(|tx| tx.drop_tree(format!("z{n}")).or(Ok(())))
                .unwrap();
        }
        (0..way / 5).for_each(|n| put(&db, 10_000 + n));
        put(&db, 20_650);
        let mut tx = db.begin_write().unwrap();
        let fill = |tx: &mut WriteTransaction, keys: std::ops::Range<u64>| {
            let mut tree = tx.tree("t").unwrap();
            for key in keys {
                tree.put(key.to_be_bytes(), [2; 100]).unwrap();
            }
        };
        // These stay in memory, so all others leave it.
        fill(&mut tx, 0..3_000);
        let _held = tx.savepoint().unwrap();
        fill(&mut tx, 15_000..20_500);
        fill(&mut tx, 20_800..30_000);
        tx.commit().unwrap();
        db.close().unwrap();
        let db = builder().open_storage(disk.reopen().storage()).unwrap();
        db.check()
            .unwrap_or_else(|error| panic!("{nth}, {way}: {error}"));
    }
    assert!(failed >= 20, "{failed} checkpoints failed");
}

/// A value of 32 KiB and more gets a new place each time. That of one which was rolled back is nobody's: a file of some MiB
/// grew by each of them, until the transaction ended.
#[test]
fn long_values_that_are_rolled_back_take_no_room() {
    for page_size in [4096, 65536] {
        let disk = SimDisk::new(1);
        let db = repeatable().page_size(page_size);
        let db = db.open_storage(disk.storage()).unwrap();
        db.write(|tx| {
            tx.tree("t")?.put("kept", vec![1; 100_000])?;
            for round in 0..200u32 {
                let outer = tx.savepoint()?;
                tx.tree("t")?.put(round.to_be_bytes(), vec![2; 40_000])?;
                let _inner = tx.savepoint()?;
                tx.tree("t")?.put("kept", vec![3; 400_000])?;
                tx.roll_back_to(&outer)?;
            }
            tx.tree("t")?.put("last", vec![4; 100_000]).map(drop)
        })
        .unwrap();
        let file_bytes = db.stats().unwrap().file_bytes;
        assert!(file_bytes < 4 << 20, "{page_size}: {file_bytes} bytes");
        db.check().unwrap();
        drop(db);
        let db = repeatable().open_storage(disk.storage()).unwrap();
        db.check().unwrap();
        let tree = db.tree("t").unwrap();
        assert_eq!(tree.len().unwrap(), 2);
        assert_eq!(tree.get("kept").unwrap(), Some(vec![1; 100_000]));
        assert_eq!(tree.get("last").unwrap(), Some(vec![4; 100_000]));
    }
}

/// A savepoint was looked for among all, from the first one on: with one for each row, and a row in ten that is not wanted, an
/// import of a million rows would have taken hours.
#[test]
fn to_roll_back_takes_no_longer_after_many_savepoints() {
    let db = repeatable().open_storage(SimDisk::new(1).storage());
    let begun = std::time::Instant::now();
    let mut tx = db.as_ref().unwrap().begin_write().unwrap();
    let first = tx.savepoint().unwrap();
    let many: Vec<_> = (0..300_000).map(|_| tx.savepoint().unwrap()).collect();
    for n in 0..20_000u32 {
        let last = tx.savepoint().unwrap();
        let put = tx.tree("t").unwrap().put(n.to_be_bytes(), "v");
        put.unwrap();
        tx.roll_back_to(&last).unwrap();
    }
    assert!(tx.tree_names().next().is_none());
    tx.roll_back_to(&many[1000]).unwrap();
    tx.roll_back_to(&first).unwrap();
    let gone = tx.roll_back_to(&many[1000]);
    assert!(matches!(gone, Err(Error::UnknownSavepoint)));
    tx.commit().unwrap();
    let took = begun.elapsed();
    assert!(took.as_secs() < 20, "{took:?}");
}

/// Each savepoint kept all pages as they were then until the transaction ended: an import with one for each row took some
/// 12 KiB of memory and of the file for each.
#[test]
fn what_a_dropped_savepoint_kept_is_used_again() {
    let options = || repeatable().memory_limit(2 << 20);
    let load = |tx: &mut WriteTransaction, saves: bool, drops: bool| {
        let mut held = vec![tx.savepoint()?];
        for n in 0..6_000u64 {
            let savepoint = saves.then(|| tx.savepoint()).transpose()?;
            if saves || n % 10 > 0 {
                tx.tree("t")?.put(scattered_key(n), [1; 100])?;
            }
            let Some(savepoint) = savepoint else { continue };
            if n % 10 == 0 {
                tx.roll_back_to(&savepoint)?;
            }
            if !drops {
                held.push(savepoint);
            }
        }
        tx.tree("gone")?.put("key", "value").map(drop)
    };
    let mut lengths = Vec::new();
    for (saves, drops) in [(false, false), (true, true), (true, false)] {
        let disk = SimDisk::new(1);
        let db = options().open_storage(disk.storage()).unwrap();
        db.write(|tx| load(tx, saves, drops)).unwrap();
        assert_eq!(db.tree("t").unwrap().len().unwrap(), 5_400);
        db.check().unwrap();
        lengths.push(db.stats().unwrap().file_bytes);
        drop(db);
        let db = options().open_storage(disk.reopen().storage()).unwrap();
        assert_eq!(db.tree("t").unwrap().len().unwrap(), 5_400);
        db.check().unwrap();
        // All of it can still be undone.
        let mut tx = db.begin_write().unwrap();
        let before = tx.savepoint().unwrap();
        load(&mut tx, saves, drops).unwrap();
        tx.roll_back_to(&before).unwrap();
        assert!(tx.view("t").unwrap().len() == 5_400 && tx.view("gone").is_ok());
        tx.commit().unwrap();
        db.check().unwrap();
    }
    let [none, dropped, kept] = lengths[..] else {
        panic!("{lengths:?}")
    };
    assert!(dropped < 2 * none && dropped * 5 < kept, "{lengths:?}");
}

/// What could not be written ahead comes back under a savepoint when that is gone back to, and is copied before it changes: it
/// is gone back to once more.
#[test]
fn what_could_not_be_written_stays_under_a_savepoint() {
    let key = |n: u32| n.to_be_bytes();
    let disk = SimDisk::new(1);
    let builder = || repeatable().log_limit(64 << 10).memory_limit(16 << 20);
    let db = builder().open_storage(disk.storage()).unwrap();
    let mut tx = db.begin_write().unwrap();
    disk.fail_from(SimOperation::Write, 1, SimFault::Eio);
    let mut count = 0;
    while !has_failed(&disk) {
        let mut tree = tx.tree("t").unwrap();
        tree.put(key(count), [1; 500]).unwrap();
        count += 1;
    }
    // Before a change finds out.
    let savepoint = tx.savepoint().unwrap();
    let was = Some(&[1; 500][..]);
    disk.clear_faults();
    for round in 2..4u8 {
        tx.roll_back_to(&savepoint).unwrap();
        let mut tree = tx.tree("t").unwrap();
        for n in 0..count {
            assert_eq!(tree.get(key(n)).unwrap().as_deref(), was, "{n}");
            tree.put(key(n), [round; 500]).unwrap();
        }
    }
    tx.roll_back_to(&savepoint).unwrap();
    tx.commit().unwrap();
    db.check().unwrap();
    drop(db);
    let db = builder().open_storage(disk.reopen().storage()).unwrap();
    let tree = db.tree("t").unwrap();
    for n in 0..count {
        assert_eq!(tree.get(key(n)).unwrap().as_deref(), was, "{n}");
    }
}

fn has_failed(disk: &SimDisk) -> bool {
    let trace = disk.trace();
    let newest = trace.iter().rev().take(8);
    newest
        .into_iter()
        .any(|event| event.outcome == SimOutcome::Failed)
}
