//! The engine under a scheduler that tries many interleavings of its locks: readers, writers,
//! group commit, checkpoints, page reuse and the hot tier.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --release --features shuttle --target-dir target/shuttle --test shuttle`
#![cfg(shuttle)]

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use aurora::storage::{MemoryStorage, SimCrash, SimDisk, SimFault, SimOperation, Storage};
use aurora::{Aurora, Durability};
use common::{budget, contents, repeatable};
use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};
use shuttle::thread;

fn explore(test: impl Fn() + Send + Sync + 'static) {
    shuttle::check_pct(test, budget(2_000) as usize, 3);
}

/// Two accounts in two trees; their sum never changes.
fn transfer(db: &Aurora, amount: u8, durability: Durability) {
    let mut tx = db.begin_write().unwrap();
    tx.set_durability(durability);
    for (name, change) in [("a", amount), ("b", 0u8.wrapping_sub(amount))] {
        let mut tree = tx.tree(name).unwrap();
        let old = tree.get("balance").unwrap().map_or(0, |value| value[0]);
        tree.put("balance", [old.wrapping_add(change)]).unwrap();
        // Enough pages that some are freed and used again.
        tree.put([amount], vec![amount; 900]).unwrap();
    }
    tx.commit().unwrap();
}

fn assert_balanced(db: &Aurora) {
    let snapshot = db.begin_read().unwrap();
    let first = contents(&snapshot).unwrap();
    let sum = first.0.values().fold(0u8, |sum, tree| {
        sum.wrapping_add(tree.get(&b"balance"[..]).map_or(0, |value| value[0]))
    });
    assert_eq!(sum, 0);
    thread::yield_now();
    assert_eq!(contents(&snapshot).unwrap(), first, "the snapshot changed");
}

#[test]
fn readers_see_whole_commits_while_pages_are_reused() {
    explore(|| {
        let db = repeatable()
            .open_storage(Arc::new(MemoryStorage::new()))
            .unwrap();
        let writers: Vec<_> = [Durability::Full, Durability::Buffered]
            .into_iter()
            .enumerate()
            .map(|(n, durability)| {
                let db = db.clone();
                thread::spawn(move || {
                    for round in 0..3 {
                        transfer(&db, (10 * n + round + 1) as u8, durability);
                    }
                })
            })
            .collect();
        let checkpoints = {
            let db = db.clone();
            thread::spawn(move || (0..2).for_each(|_| db.checkpoint().unwrap()))
        };
        let reader = {
            let db = db.clone();
            thread::spawn(move || (0..3).for_each(|_| assert_balanced(&db)))
        };
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        checkpoints.join().unwrap();
        reader.join().unwrap();
        assert_balanced(&db);
        db.check().unwrap();
    });
}

#[test]
fn an_acknowledged_group_commit_is_on_the_disk() {
    explore(|| {
        let disk = SimDisk::new(5);
        let db = repeatable().open_storage(disk.storage()).unwrap();
        let writers: Vec<_> = (0..3u8)
            .map(|n| {
                let (db, disk) = (db.clone(), disk.clone());
                thread::spawn(move || {
                    db.tree("t").unwrap().put([n], [n]).unwrap();
                    let image = disk.crash_image(SimCrash::LoseAll);
                    let found = repeatable().open_storage(image.storage()).unwrap();
                    let value = found.tree("t").unwrap().get([n]).unwrap();
                    assert_eq!(value.as_deref(), Some(&[n][..]));
                })
            })
            .collect();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        assert_eq!(db.tree("t").unwrap().len().unwrap(), 3);
    });
}

#[test]
fn a_failed_sync_reaches_every_waiting_commit() {
    explore(|| {
        let disk = SimDisk::new(5);
        let db = repeatable().open_storage(disk.storage()).unwrap();
        db.tree("t").unwrap().put("before", "1").unwrap();
        disk.crash_after(0);
        let writers: Vec<_> = (0..3u8)
            .map(|n| {
                let db = db.clone();
                thread::spawn(move || db.tree("t").unwrap().put([n], [n]).unwrap_err())
            })
            .collect();
        for writer in writers {
            let error = writer.join().unwrap();
            assert!(error.is_io() || error.is_poisoned(), "{error}");
        }
        let before = db.tree("t").unwrap().get("before").unwrap();
        assert_eq!(before.as_deref(), Some(&b"1"[..]));
        assert_eq!(db.tree("t").unwrap().len().unwrap(), 1);
    });
}

/// Two keys, written together, each read through the hot tier and past it. A value only grows, so
/// nobody may find less than anyone found before.
#[test]
fn the_hot_tier_never_answers_with_what_was_before() {
    const KEYS: [&[u8]; 2] = [b"one", b"two"];
    explore(|| {
        let db = repeatable()
            .hot_limit(8 << 20)
            .open_storage(Arc::new(MemoryStorage::new()))
            .unwrap();
        let seen: Arc<[AtomicU8; 2]> = Arc::default();
        let write = |db: &Aurora, seen: &[AtomicU8; 2], durability| {
            let mut tx = db.begin_write().unwrap();
            tx.set_durability(durability);
            let mut written = [0; 2];
            for (key, written) in KEYS.iter().zip(&mut written) {
                let old = tx.get(key).unwrap().map_or(0, |value| value[0]);
                *written = old + 1;
                tx.put(key, [*written], None).unwrap();
            }
            tx.commit().unwrap();
            for (seen, written) in seen.iter().zip(written) {
                seen.fetch_max(written, Ordering::SeqCst);
            }
        };
        let read = |db: &Aurora, seen: &[AtomicU8; 2], is_past: bool| {
            for (key, seen) in KEYS.iter().zip(seen) {
                let lowest = seen.load(Ordering::SeqCst);
                let value = if is_past {
                    db.begin_read().unwrap().get(key).unwrap()
                } else {
                    db.get(key).unwrap()
                };
                let found = value.map_or(0, |value| value[0]);
                assert!(found >= lowest, "{found} after {lowest}");
                seen.fetch_max(found, Ordering::SeqCst);
            }
        };
        write(&db, &seen, Durability::Buffered);
        read(&db, &seen, false);
        let writers = [Durability::Full, Durability::Buffered].map(|durability| {
            let (db, seen) = (db.clone(), seen.clone());
            thread::spawn(move || (0..2).for_each(|_| write(&db, &seen, durability)))
        });
        let readers = [false, false, true].map(|is_past| {
            let (db, seen) = (db.clone(), seen.clone());
            thread::spawn(move || (0..4).for_each(|_| read(&db, &seen, is_past)))
        });
        for thread in writers.into_iter().chain(readers) {
            thread.join().unwrap();
        }
        read(&db, &seen, false);
        assert!(seen.iter().all(|seen| seen.load(Ordering::SeqCst) == 5));
    });
}

/// The leader gathers a batch while a checkpoint fails and closes the log: what is in the buffer
/// then is written by nobody, and nobody may be told that it is durable. (Found by `filesystems`.)
#[test]
fn a_checkpoint_that_fails_while_a_batch_gathers_acknowledges_nothing() {
    explore(|| {
        let disk = SimDisk::new(5);
        let db = repeatable().open_storage(disk.storage()).unwrap();
        db.tree("t").unwrap().put("before", "1").unwrap();
        disk.fail_from(SimOperation::SyncAll, 1, SimFault::Eio);
        let writers: Vec<_> = (0..3u8)
            .map(|n| {
                let (db, disk) = (db.clone(), disk.clone());
                thread::spawn(move || {
                    for round in 0..3u8 {
                        if db.tree("t").unwrap().put([n, round], [n]).is_err() {
                            return;
                        }
                        let image = disk.crash_image(SimCrash::LoseAll);
                        let found = repeatable().open_storage(image.storage()).unwrap();
                        let value = found.tree("t").unwrap().get([n, round]).unwrap();
                        assert_eq!(value.as_deref(), Some(&[n][..]), "acknowledged, and lost");
                    }
                })
            })
            .collect();
        let checkpoint = {
            let db = db.clone();
            thread::spawn(move || assert!(db.checkpoint().is_err()))
        };
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        checkpoint.join().unwrap();
    });
}

/// A compaction cuts the free tail of the file while a checkpoint has planned the length that its
/// header will name, and transactions take and give back pages past the end.
#[test]
fn a_tail_is_never_cut_below_what_a_header_is_about_to_name() {
    // It takes three threads at five places.
    let iterations = budget(8_000) as usize;
    shuttle::check_pct(tail_is_cut_at_any_time, iterations, 6);
}

fn tail_is_cut_at_any_time() {
    let disk = SimDisk::new(5);
    let db = repeatable().open_storage(disk.storage()).unwrap();
    // Free pages at the front, for what the checkpoint writes, so that the writer's are the last.
    let tree = db.tree("t").unwrap();
    tree.put("front", vec![1; 40_000]).unwrap();
    tree.put("behind", vec![1; 40_000]).unwrap();
    db.checkpoint().unwrap();
    tree.delete("front").unwrap();
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    let writer = {
        let db = db.clone();
        thread::spawn(move || {
            let mut tx = db.begin_write().unwrap();
            tx.set_durability(Durability::Buffered);
            tx.tree("t").unwrap().put("small", "1").unwrap();
            tx.commit().unwrap();
            // Pages past the end, given back again.
            let mut tx = db.begin_write().unwrap();
            let long = vec![2; 100_000];
            tx.tree("t").unwrap().put("long", &long).unwrap();
            drop(tx);
        })
    };
    let compaction = {
        let db = db.clone();
        thread::spawn(move || db.compact().unwrap())
    };
    let checkpoint = {
        let (db, disk) = (db.clone(), disk.clone());
        thread::spawn(move || {
            db.checkpoint().unwrap();
            let image = disk.crash_image(SimCrash::KeepAll);
            repeatable().open_storage(image.storage()).unwrap();
        })
    };
    writer.join().unwrap();
    compaction.join().unwrap();
    checkpoint.join().unwrap();
    let image = disk.crash_image(SimCrash::KeepAll);
    let found = repeatable().open_storage(image.storage()).unwrap();
    found.check().unwrap();
}

/// The hot tier, pages that are freed and used again, and snapshots that are held meanwhile.
#[test]
fn snapshots_keep_their_pages_while_the_hot_tier_and_the_reclaimer_work() {
    explore(|| {
        let db = repeatable()
            .hot_limit(8 << 20)
            .open_storage(Arc::new(MemoryStorage::new()))
            .unwrap();
        let put = |db: &Aurora, n: u8| {
            let mut tx = db.begin_write().unwrap();
            tx.set_durability(Durability::Buffered);
            tx.put("k", vec![n; 2000], None).unwrap();
            tx.tree("t").unwrap().put("k", vec![n; 2000]).unwrap();
            tx.commit().unwrap();
        };
        put(&db, 0);
        let writer = {
            let db = db.clone();
            thread::spawn(move || (1..4).for_each(|n| put(&db, n)))
        };
        let checkpoint = {
            let db = db.clone();
            thread::spawn(move || db.checkpoint().unwrap())
        };
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let db = db.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let snapshot = db.begin_read().unwrap();
                        let first = snapshot.get("k").unwrap().unwrap();
                        let hot = db.get("k").unwrap().unwrap();
                        assert!(hot[0] >= first[0], "older than a snapshot before it");
                        thread::yield_now();
                        let again = snapshot.tree("t").unwrap().get("k").unwrap().unwrap();
                        assert!(*again == *first, "one transaction, one moment");
                    }
                })
            })
            .collect();
        writer.join().unwrap();
        checkpoint.join().unwrap();
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
        db.check().unwrap();
    });
}

/// One thread runs until it waits, then another. But at one of its steps between two moments that the test tells of, the
/// first is stopped until the others wait. Each execution takes the next step, until all were taken: of what has to go wrong
/// at one place, chance may miss that place for ever.
#[derive(Debug)]
struct OneStop {
    is_counting: Arc<AtomicBool>,
    steps: usize,
    stop_at: Option<usize>,
}

impl OneStop {
    fn explore(test: impl Fn(&AtomicBool) + Send + Sync + 'static) {
        let is_counting = Arc::new(AtomicBool::new(false));
        let scheduler = OneStop {
            is_counting: is_counting.clone(),
            steps: 0,
            stop_at: None,
        };
        let runner = shuttle::Runner::new(scheduler, shuttle::Config::new());
        let places = runner.run(move || test(&is_counting));
        assert!(places > 5, "{places} places");
    }
}

impl Scheduler for OneStop {
    fn new_execution(&mut self) -> Option<Schedule> {
        let next = self.stop_at.map_or(0, |last| last + 1);
        let is_over = self.stop_at.is_some() && self.steps < next;
        self.stop_at = Some(next);
        self.steps = 0;
        (!is_over).then(|| Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let ids = || runnable.iter().map(|task| task.id());
        let current = current.filter(|current| ids().any(|id| id == *current));
        let other = ids().find(|id| Some(*id) != current);
        let mut goes_on = !is_yielding;
        if current == Some(TaskId::from(0)) && self.is_counting.load(Ordering::SeqCst) {
            goes_on &= Some(self.steps) != self.stop_at;
            self.steps += 1;
        }
        current.filter(|_| goes_on).or(other).or(current)
    }

    fn next_u64(&mut self) -> u64 {
        0
    }
}

/// A storage in memory whose writes fail for want of room, or one of which waits until it may fail.
#[derive(Debug, Default)]
struct Stopping {
    inner: MemoryStorage,
    is_full: AtomicBool,
    /// How many writes failed.
    failed: AtomicUsize,
    /// The writes until the one that waits, if that is not 0.
    waits_at: AtomicUsize,
    may_go_on: AtomicBool,
}

impl Storage for Stopping {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut fails = self.is_full.load(Ordering::SeqCst);
        let order = Ordering::SeqCst;
        let left = self
            .waits_at
            .fetch_update(order, order, |left| left.checked_sub(1));
        if left == Ok(1) {
            while !self.may_go_on.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            fails = true;
        }
        if fails {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.write_at(offset, bytes)
    }

    fn sync_range(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        self.inner.sync_range(offset, length_bytes)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.inner.sync_all()
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.inner.set_length(length_bytes)
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn lock(&self, exclusive: bool) -> io::Result<()> {
        self.inner.lock(exclusive)
    }
}

/// On a full disk, pages of a large transaction could not be written ahead, and it goes back to before them, while a
/// checkpoint is given one of their places, and fails too.
#[test]
fn what_could_not_be_written_ahead_is_not_taken_for_a_page_of_a_checkpoint() {
    OneStop::explore(|is_counting| {
        let storage = Arc::new(Stopping::default());
        let builder = || repeatable().log_limit(64 << 10).memory_limit(16 << 20);
        let db = builder().open_storage(storage.clone()).unwrap();
        let mut tx = db.begin_write().unwrap();
        tx.set_durability(Durability::Buffered);
        tx.tree("t").unwrap().put("a", "before").unwrap();
        tx.commit().unwrap();
        let mut tx = db.begin_write().unwrap();
        let savepoint = tx.savepoint().unwrap();
        // From then on it is large.
        for n in 0..6u8 {
            tx.tree("t").unwrap().put([n], [1; 20_000]).unwrap();
        }
        tx.roll_back_to(&savepoint).unwrap();
        // Leaves in the lowest places, which the checkpoint is given first.
        storage.is_full.store(true, Ordering::SeqCst);
        let mut count = 0u16;
        while storage.failed.load(Ordering::SeqCst) == 0 {
            let key = [b"b", &count.to_be_bytes()[..]].concat();
            tx.tree("t").unwrap().put(key, [1; 500]).unwrap();
            count += 1;
        }
        storage.is_full.store(false, Ordering::SeqCst);
        // Behind a leaf and the catalog, the space map.
        storage.waits_at.store(3, Ordering::SeqCst);
        let checkpoint = {
            let db = db.clone();
            thread::spawn(move || db.checkpoint())
        };
        is_counting.store(true, Ordering::SeqCst);
        tx.roll_back_to(&savepoint).unwrap();
        is_counting.store(false, Ordering::SeqCst);
        storage.may_go_on.store(true, Ordering::SeqCst);
        assert!(checkpoint.join().unwrap().unwrap_err().is_disk_full());
        for key in 0..count {
            let key = [b"c", &key.to_be_bytes()[..]].concat();
            tx.tree("t").unwrap().put(key, [2; 500]).unwrap();
        }
        tx.commit().unwrap();
        assert_eq!(db.tree("t").unwrap().len().unwrap(), u64::from(count) + 1);
        db.check().unwrap();
        let image = MemoryStorage::from_bytes(&storage.inner.to_bytes());
        builder()
            .open_storage(Arc::new(image))
            .unwrap()
            .check()
            .unwrap();
    });
}

/// A checkpoint gives up the catalog that it has written, and a transaction takes the places of that at the same moment.
#[test]
fn what_a_failed_checkpoint_gives_back_is_whose_who_takes_it_then() {
    OneStop::explore(|is_counting| {
        let storage = Arc::new(Stopping::default());
        let db = repeatable().open_storage(storage.clone()).unwrap();
        let put = |db: &Aurora, keys: std::ops::Range<u8>| {
            let mut tx = db.begin_write().unwrap();
            tx.set_durability(Durability::Buffered);
            let mut tree = tx.tree("t").unwrap();
            for key in keys {
                tree.put([key], [key; 500]).unwrap();
            }
            tx.commit().unwrap();
        };
        put(&db, 0..1);
        // Behind a leaf and the catalog, the space map.
        storage.waits_at.store(3, Ordering::SeqCst);
        storage.may_go_on.store(true, Ordering::SeqCst);
        let writer = {
            let db = db.clone();
            thread::spawn(move || put(&db, 1..12))
        };
        is_counting.store(true, Ordering::SeqCst);
        let error = db.checkpoint().unwrap_err();
        is_counting.store(false, Ordering::SeqCst);
        assert!(error.is_disk_full(), "{error}");
        writer.join().unwrap();
        for key in 0..12 {
            let value = db.tree("t").unwrap().get([key]).unwrap();
            assert_eq!(value.as_deref(), Some(&[key; 500][..]));
        }
        db.checkpoint().unwrap();
        db.check().unwrap();
    });
}
