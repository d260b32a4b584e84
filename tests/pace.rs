//! When the disk gets what work: checkpoints beside commits, large blobs while they come in.

mod common;
#[path = "common/hooked.rs"]
mod hooked;

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aurora::storage::MemoryStorage;
use aurora::{Aurora, Durability};
use hooked::Hooked;

/// Neighbouring pages are written together, up to this many bytes.
const GATHER_BYTES: u64 = 256 << 10;

/// A database without threads of its own, on a storage that says how much it has to sync.
fn open() -> (Aurora, Hooked) {
    let storage = Hooked::new(Arc::new(MemoryStorage::new()));
    let db = Aurora::builder()
        .log_limit(4 << 20)
        .background(false)
        .open_storage(Arc::new(storage.clone()))
        .unwrap();
    (db, storage)
}

fn key(n: u64) -> [u8; 8] {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

/// Changes entries all over the tree, so many at once.
fn change(db: &Aurora, count: u64) {
    let mut tx = db.begin_write().unwrap();
    tx.set_durability(Durability::Buffered);
    let mut tree = tx.tree("t").unwrap();
    for n in 0..count {
        tree.put(key(n), [3; 150]).unwrap();
    }
    tx.commit().unwrap();
}

/// The most that a checkpoint leaves unsynced, with so many commits before each of its syncs.
fn largest_step(commits: u64) -> u64 {
    let (db, storage) = open();
    db.write(|tx| {
        let entries = (0..40_000).map(|n| (key(n), [1; 150]));
        tx.tree("t")?.put_many(entries).map(drop)
    })
    .unwrap();
    // The ring grows when half of it is used, and takes records of up to a quarter.
    while db.stats().unwrap().log_bytes < 4 << 20 {
        (0..100).for_each(|_| change(&db, 40));
    }
    db.checkpoint().unwrap();
    change(&db, 5000); // less than half of the ring, and most of the leaves
    let (largest, next) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(50_000));
    let (seen, other) = (largest.clone(), db.clone());
    storage.before_each_sync(move |unsynced_bytes| {
        seen.fetch_max(unsynced_bytes, Ordering::Relaxed);
        for _ in 0..commits {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let put = other.write(|tx| tx.tree("t")?.put(key(n), [2; 150]).map(drop));
            put.unwrap();
        }
    });
    db.checkpoint().unwrap();
    db.check().unwrap();
    largest.load(Ordering::Relaxed)
}

/// A sync of the log waits for what the disk has to do, so a checkpoint leaves little of it while
/// commits go on.
#[test]
fn a_checkpoint_lets_commits_through() {
    let (alone, beside) = (largest_step(0), largest_step(1));
    assert!(
        alone > beside,
        "{alone} bytes alone, {beside} beside commits"
    );
    assert!(alone <= (1 << 20) + GATHER_BYTES, "{alone} bytes");
    assert!(beside <= (64 << 10) + GATHER_BYTES, "{beside} bytes");
}

/// Nobody waits for a batch of unsynced commits: a checkpoint takes no care of it.
#[test]
fn a_checkpoint_beside_unsynced_commits_syncs_in_large_steps() {
    let storage = Hooked::new(Arc::new(MemoryStorage::new()));
    let builder = Aurora::builder().log_limit(16 << 20);
    let db = builder.open_storage(Arc::new(storage.clone())).unwrap();
    // So much data that the log grows to its limit whether or not commits have to wait for it.
    db.write(|tx| {
        let entries = (0..60_000).map(|n| (key(n), [1; 150]));
        tx.tree("t")?.put_many(entries).map(drop)
    })
    .unwrap();
    while db.stats().unwrap().log_bytes < 16 << 20 {
        (0..100).for_each(|_| change(&db, 40));
    }
    db.checkpoint().unwrap();
    change(&db, 20_000);
    db.flush().unwrap();
    let (largest, other) = (Arc::new(AtomicU64::new(0)), db.clone());
    let (seen, mut syncs) = (largest.clone(), 0);
    storage.before_each_sync(move |unsynced_bytes| {
        syncs += 1;
        if syncs <= 10 {
            seen.fetch_max(unsynced_bytes, Ordering::Relaxed);
            // As much as the log's thread writes at once.
            let before = other.stats().unwrap().log_batches;
            change(&other, 2000);
            let begin = Instant::now();
            while other.stats().unwrap().log_batches == before {
                assert!(begin.elapsed() < Duration::from_secs(20));
                std::thread::yield_now();
            }
        }
    });
    db.checkpoint().unwrap();
    let largest = largest.load(Ordering::Relaxed);
    assert!(largest > 512 << 10, "{largest} bytes");
    assert!(largest <= (1 << 20) + GATHER_BYTES, "{largest} bytes");
}

/// The limit of a log that is filled with small commits.
const LOG_BYTES: u64 = 256 << 10;

/// How many bytes of changed pages commits leave in memory at the most, where a sync of the file takes so long;
/// with how much log.
fn most_dirty(background: bool, sync: Duration) -> (u64, u64) {
    let storage = Hooked::new(Arc::new(MemoryStorage::new()));
    let builder = Aurora::builder().log_limit(LOG_BYTES);
    let builder = builder.background(background);
    let db = builder.open_storage(Arc::new(storage.clone())).unwrap();
    db.write(|tx| {
        let entries = (0..40_000).map(|n| (key(n), [1; 150]));
        tx.tree("t")?.put_many(entries).map(drop)
    })
    .unwrap();
    while db.stats().unwrap().log_bytes < LOG_BYTES {
        change(&db, 100);
    }
    db.checkpoint().unwrap();
    storage.before_each_sync(move |_| std::thread::sleep(sync));
    let (mut most, mut log) = (0, 0);
    for n in 0..4000 {
        let mut tx = db.begin_write().unwrap();
        tx.set_durability(Durability::Buffered);
        tx.tree("t").unwrap().put(key(n), [4; 8]).unwrap();
        tx.commit().unwrap();
        let stats = db.stats().unwrap();
        most = most.max(stats.dirty_bytes);
        log = log.max(stats.log_used_bytes);
    }
    storage.before_each_sync(|_| ());
    db.check().unwrap();
    assert!(log <= LOG_BYTES);
    (most, log)
}

/// Small entries all over a large tree change a page each, and an open after a crash makes all of those again.
/// (A log of 15 MiB of 150-byte values took 0.6 s.)
#[test]
fn changed_pages_take_twelve_times_the_log_at_the_most() {
    const ONE_COMMIT_BYTES: u64 = 8 * 4096;
    // Eight times make the next checkpoint due.
    let (most, log) = most_dirty(false, Duration::ZERO);
    let limit = 8 * LOG_BYTES + ONE_COMMIT_BYTES;
    assert!(most <= limit, "{most} bytes with {log} bytes of log");
    // Where it takes long, commits wait for it.
    let (most, log) = most_dirty(true, Duration::from_millis(30));
    let limit = 12 * LOG_BYTES + ONE_COMMIT_BYTES;
    assert!(most <= limit, "{most} bytes with {log} bytes of log");
}

/// Content that ends only when the disk has synced some of it, or after a long time.
struct Patient {
    given_bytes: u64,
    syncs: Arc<AtomicU64>,
    waited: Arc<AtomicU64>,
}

impl Read for Patient {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        const BEFORE_BYTES: u64 = 10 << 20;
        if self.given_bytes < BEFORE_BYTES {
            into.fill(7);
            self.given_bytes += into.len() as u64;
            return Ok(into.len());
        }
        let start = Instant::now();
        while self.syncs.load(Ordering::Relaxed) == 0 && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.waited.store(1, Ordering::Relaxed);
        Ok(0)
    }
}

#[test]
fn a_large_blob_is_synced_while_it_comes_in() {
    let storage = Hooked::new(Arc::new(MemoryStorage::new()));
    let db = Aurora::builder()
        .open_storage(Arc::new(storage.clone()))
        .unwrap();
    let (syncs, waited) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (count, is_over) = (syncs.clone(), waited.clone());
    storage.before_each_sync(move |unsynced_bytes| {
        if unsynced_bytes >= 2 << 20 && is_over.load(Ordering::Relaxed) == 0 {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let source = Patient {
        given_bytes: 0,
        syncs: syncs.clone(),
        waited,
    };
    db.put_blob_from("blob", source).unwrap();
    assert!(syncs.load(Ordering::Relaxed) > 0);
    db.check().unwrap();
}

/// What the file is cut by at once, at the most.
const MOST_CUT_BYTES: u64 = 4 << 20;

/// A database of more than 20 MiB, of which all but a little is not needed any more.
fn emptied(builder: aurora::Builder) -> (Aurora, Hooked) {
    emptied_after(builder, |_| {})
}

/// The same, where something was done before there was much in it.
fn emptied_after(builder: aurora::Builder, first: impl FnOnce(&Aurora)) -> (Aurora, Hooked) {
    let storage = Hooked::new(Arc::new(MemoryStorage::new()));
    let db = builder.open_storage(Arc::new(storage.clone())).unwrap();
    let tree = db.tree("t").unwrap();
    first(&db);
    for n in 0..20u64 {
        tree.put(key(n), vec![1; 1 << 20]).unwrap();
    }
    db.checkpoint().unwrap();
    tree.clear().unwrap();
    assert!(db.stats().unwrap().file_bytes > 20 << 20);
    (db, storage)
}

/// Counts the cuts of the file in whose middle a durable commit, which has to come to its end, is made.
fn commit_beside_cuts(db: &Aurora, storage: &Hooked) -> Arc<AtomicU64> {
    let cuts = Arc::new(AtomicU64::new(0));
    let (other, count) = (db.clone(), cuts.clone());
    storage.before_each_cut(move |cut_bytes| {
        assert!(cut_bytes <= MOST_CUT_BYTES, "{cut_bytes} bytes at once");
        let number = count.fetch_add(1, Ordering::Relaxed);
        let (done, is_done) = channel();
        let db = other.clone();
        std::thread::spawn(move || {
            db.put(number.to_be_bytes(), "while it is cut", None)
                .unwrap();
            let _ = done.send(());
        });
        let waited = is_done.recv_timeout(Duration::from_secs(10));
        waited.expect("the commit waits for the cut");
    });
    cuts
}

fn is_short(db: &Aurora) -> bool {
    db.stats().unwrap().file_bytes < 2 << 20
}

/// To shorten a file by 750 MiB takes the system up to ten seconds, in which nobody writes to it.
#[test]
fn commits_go_on_between_the_parts_of_a_tail_that_is_cut() {
    let plain = || Aurora::builder().background(false);
    let compaction = |db: &Aurora| db.compact().map(drop);
    let checkpoints = |db: &Aurora| {
        (0..3u64).try_for_each(|n| {
            db.put(n.to_be_bytes(), "new", None)?;
            db.checkpoint()
        })
    };
    // Each is committed by a checkpoint.
    let large = |db: &Aurora| {
        (0..3).try_for_each(|round| {
            db.write(|tx| {
                let entries = (0..20_000).map(|n| (key(n), [round; 20]));
                tx.tree("short")?.put_many(entries)?;
                tx.drop_tree("short")
            })
        })
    };
    type Shrink<'s> = &'s dyn Fn(&Aurora) -> aurora::Result<()>;
    for (what, builder, shrink) in [
        ("a compaction", plain(), &compaction as Shrink<'_>),
        ("checkpoints", plain(), &checkpoints),
        ("large commits", plain().log_limit(64 << 10), &large),
    ] {
        let (db, storage) = emptied(builder);
        let cuts = commit_beside_cuts(&db, &storage);
        shrink(&db).unwrap();
        assert!(is_short(&db), "{what}: {:?}", db.stats());
        let cuts = cuts.load(Ordering::Relaxed);
        assert!(cuts >= 5, "{what}: {cuts} parts");
        for number in 0..cuts {
            assert!(db.get(number.to_be_bytes()).unwrap().is_some());
        }
        storage.before_each_cut(|_| {});
        db.check().unwrap();
    }
}

/// The database's own thread cuts when it has nothing else to do.
#[test]
fn the_tail_is_cut_by_the_thread_of_the_checkpoints() {
    let put_one = |db: &Aurora| db.put("one", [1; 100], None).unwrap();
    // The log is as long as it gets before the file is: nothing is cut where it lies.
    let builder = Aurora::builder().log_limit(64 << 10);
    let (db, storage) = emptied_after(builder, |db| (0..2_000).for_each(|_| put_one(db)));
    // No commit within it: one of those below may wait for a checkpoint, with the turn.
    let cuts = Arc::new(AtomicU64::new(0));
    let count = cuts.clone();
    storage.before_each_cut(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let begun = Instant::now();
    while !is_short(&db) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            db.stats()
        );
        // Too little for a commit to be a checkpoint itself.
        put_one(&db);
    }
    assert!(cuts.load(Ordering::Relaxed) >= 5);
    db.close().unwrap();
}

/// Where the device takes long for each part, a commit waits for a short one. Parts become as long as it is fast, and short
/// again when it is slow.
#[test]
fn a_tail_is_cut_in_short_parts_where_that_takes_long() {
    let parts_where = |is_slow: fn(&[u64]) -> bool| {
        let (db, storage) = emptied(Aurora::builder());
        let parts = Arc::new(Mutex::new(Vec::new()));
        let seen = parts.clone();
        storage.before_each_cut(move |cut_bytes| {
            let mut seen = seen.lock().unwrap();
            if is_slow(&seen) {
                std::thread::sleep(Duration::from_millis(32) * (cut_bytes >> 10) as u32 / 1024);
            }
            seen.push(cut_bytes);
        });
        // The last step of a compaction, with more than half of the file to cut.
        db.compact().unwrap();
        assert!(is_short(&db), "{:?}", db.stats());
        drop(db);
        let mut parts = parts.lock().unwrap().clone();
        parts.pop(); // what was left
        parts
    };
    let slow = parts_where(|_| true);
    assert!(slow.iter().all(|bytes| *bytes <= 512 << 10), "{slow:?}");
    let fast = parts_where(|_| false);
    let most = fast.iter().max().copied();
    assert!(most > slow.iter().max().copied(), "{fast:?}, {slow:?}");
    assert!(most <= Some(MOST_CUT_BYTES), "{fast:?}");
    let worse = parts_where(|parts| parts.iter().any(|bytes| *bytes >= 1 << 20));
    let most = worse.iter().max();
    assert!(worse.last() < most, "{worse:?}");
}

/// A place in the tail is given to a long value when the file is about to be cut there.
#[test]
fn what_is_written_into_a_tail_that_is_cut_is_there() {
    let (db, storage) = emptied(Aurora::builder().background(false));
    let writers = Arc::new(Mutex::new(Vec::new()));
    let (other, threads) = (db.clone(), writers.clone());
    storage.before_each_cut(move |_| {
        let db = other.clone();
        let (begin, begun) = channel();
        let mut threads = threads.lock().unwrap();
        let number = threads.len() as u64;
        threads.push(std::thread::spawn(move || {
            begin.send(()).unwrap();
            let tree = db.tree("long").unwrap();
            tree.put(key(number), vec![2; 300_000]).unwrap();
        }));
        begun.recv().unwrap();
        // It writes meanwhile, if nothing keeps it from that.
        std::thread::sleep(Duration::from_millis(200));
    });
    db.compact().unwrap();
    storage.before_each_cut(|_| {});
    let writers = std::mem::take(&mut *writers.lock().unwrap());
    let count = writers.len() as u64;
    assert!(count >= 5, "{count} parts");
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    db.check().unwrap();
    db.close().unwrap();
    let db = Aurora::builder().open_storage(Arc::new(storage)).unwrap();
    let tree = db.tree("long").unwrap();
    for number in 0..count {
        assert!(tree.get(key(number)).unwrap() == Some(vec![2; 300_000]));
    }
}
