//! The tier below a database.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::clock::Clock;
use crate::storage::{MemoryStorage, SimDisk};
use crate::{Aurora, Builder, Durability, Result};

fn builder() -> Builder {
    Aurora::builder().background(false).salt(3)
}

fn open(builder: Builder) -> Aurora {
    let storage = Arc::new(MemoryStorage::new());
    builder.open_storage(storage).expect("open")
}

fn put(db: &Aurora, key: &[u8], value: &[u8]) {
    db.write(|tx| tx.put(key, value, None)).expect("put");
}

fn get(db: &Aurora, key: &[u8]) -> Option<Vec<u8>> {
    db.get(key).expect("get").map(|value| value.to_vec())
}

/// Reads until it is answered by the tier.
fn warm(db: &Aurora, key: &[u8]) {
    let before = db.handle.hot.stats().hits;
    for _ in 0..3 {
        get(db, key);
    }
    assert!(db.handle.hot.stats().hits > before);
}

#[test]
fn a_scan_does_not_wash_out_what_is_hot() {
    let db = open(builder().hot_limit(1 << 20));
    let keys = 10_000u64;
    db.write(|tx| (0..keys).try_for_each(|n| tx.put(n.to_le_bytes(), [7; 200], None)))
        .expect("load");
    let hot = || (0..keys).step_by(100);
    (0..3).for_each(|_| hot().for_each(|n| _ = get(&db, &n.to_le_bytes())));
    for round in 0..20 {
        (0..keys).for_each(|n| _ = get(&db, &n.to_le_bytes()));
        let before = db.stats().expect("stats").hot;
        hot().for_each(|n| _ = get(&db, &n.to_le_bytes()));
        let hits = db.handle.hot.stats().hits - before.hits;
        assert!(hits >= 98, "round {round}: {hits} of 100, {before:?}");
        assert!(before.bytes <= before.limit_bytes);
    }
    // And with reads of everything in between, in no order.
    let mut random = Random(5);
    let before = db.handle.hot.stats();
    for n in (0..100).flat_map(|_| hot()) {
        get(&db, &n.to_le_bytes());
        get(&db, &random.below(keys).to_le_bytes());
    }
    let hits = db.handle.hot.stats().hits - before.hits;
    assert!(hits >= 9_900, "{hits} of 20,000");
}

/// The tables are as large as what is in them asks for, and not as the limit does.
#[test]
fn any_limit_can_be_given() {
    for limit in [1 << 33, 1 << 36, 1 << 40, 1 << 50, usize::MAX] {
        let db = open(builder().hot_limit(limit));
        put(&db, b"key", b"value");
        warm(&db, b"key");
        let hot = db.stats().expect("stats").hot;
        assert_eq!(hot.limit_bytes, limit as u64);
        assert!(hot.bytes <= 16 << 20, "{} bytes of {limit}", hot.bytes);
    }
}

#[test]
fn commits_of_every_kind_are_seen_at_once() {
    let db = open(builder().log_limit(64 << 10));
    put(&db, b"k", b"0");
    let mut n = 0u8;
    for kind in 0..6 {
        for _ in 0..3 {
            warm(&db, b"k");
            n += 1;
            let mut tx = db.begin_write().expect("begin");
            tx.put(b"k", [n], None).expect("put");
            match kind {
                0 => tx.commit().expect("commit"),
                1 => {
                    tx.set_durability(Durability::Buffered);
                    tx.commit().expect("commit");
                }
                2 => tx.commit_async().expect("commit").wait().expect("wait"),
                3 => {
                    tx.commit_by_checkpoint();
                    tx.commit().expect("commit");
                }
                4 => {
                    // Published by a checkpoint, not by whoever waits.
                    drop(tx.commit_async().expect("commit"));
                    assert_eq!(get(&db, b"k"), Some(vec![n - 1]));
                    db.checkpoint().expect("checkpoint");
                }
                _ => {
                    // Published by a later commit that does not wait.
                    drop(tx.commit_async().expect("commit"));
                    assert_eq!(get(&db, b"k"), Some(vec![n - 1]));
                    let mut tx = db.begin_write().expect("begin");
                    tx.set_durability(Durability::Buffered);
                    tx.tree("other")
                        .and_then(|mut t| t.put("a", "b"))
                        .expect("put");
                    tx.commit().expect("commit");
                }
            }
            assert_eq!(get(&db, b"k"), Some(vec![n]), "kind {kind}");
        }
    }
    db.flush().expect("flush");
    assert_eq!(get(&db, b"k"), Some(vec![n]));
    db.compact().expect("compact");
    assert_eq!(get(&db, b"k"), Some(vec![n]));
    warm(&db, b"k");
    db.write(|tx| {
        tx.touch_space(KEYS);
        tx.system_tree(crate::keys::store::KEYS)?.clear()
    })
    .expect("clear");
    assert_eq!(get(&db, b"k"), None);
}

#[test]
fn what_is_rolled_back_changes_nothing() {
    let db = open(builder());
    put(&db, b"k", b"old");
    warm(&db, b"k");
    let mut tx = db.begin_write().expect("begin");
    tx.put(b"k", b"new", None).expect("put");
    drop(tx);
    let before = db.handle.hot.stats().hits;
    assert_eq!(get(&db, b"k"), Some(b"old".to_vec()));
    assert_eq!(db.handle.hot.stats().hits, before + 1);
}

#[test]
fn a_commit_that_fails_changes_nothing() {
    let disk = SimDisk::new(5);
    let db = builder().open_storage(disk.storage()).expect("open");
    put(&db, b"k", b"old");
    warm(&db, b"k");
    disk.crash_after(0);
    let failed: Result<()> = db.write(|tx| tx.put(b"k", b"new", None));
    failed.expect_err("the disk is gone");
    let before = db.handle.hot.stats().hits;
    assert_eq!(get(&db, b"k"), Some(b"old".to_vec()));
    assert_eq!(db.handle.hot.stats().hits, before + 1);
    assert!(
        store(&db.handle.hot, b"another", b"v"),
        "a shard stayed marked"
    );
}

/// A buffered commit may be published although a full one below it has failed meanwhile.
#[test]
fn a_state_on_top_of_one_that_failed_brings_its_changes_too() {
    let db = open(builder());
    put(&db, b"k", b"old");
    warm(&db, b"k");
    let engine = &db.handle.engine;
    let mut tx = db.begin_write().expect("begin");
    tx.put(b"k", b"new", None).expect("put");
    drop(tx.commit_async().expect("commit")); // waits for the disk
    engine.log.poison(&crate::Error::Closed);
    assert_eq!(get(&db, b"k"), Some(b"old".to_vec()));
    let (current, version) = engine.next_version();
    let trees = current.trees.clone();
    let state = Arc::new(crate::txn::state::State { version, trees });
    engine.log.publish(state, 0, true, None);
    assert_eq!(get(&db, b"k"), Some(b"new".to_vec()));
}

#[test]
fn what_expires_is_gone_in_time() {
    #[derive(Debug)]
    struct Set(AtomicU64);
    impl Clock for Set {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }
    let clock = Arc::new(Set(AtomicU64::new(10)));
    let db = open(builder().clock(clock.clone()));
    let read = || {
        read_through(&db.handle, KEYS, b"k", |snapshot| {
            Ok((snapshot.taken_ms() < 20).then(|| {
                let value = SharedBytes::new(b"k", b"v", Some(20));
                Hot::Value(value)
            }))
        })
        .expect("read")
        .is_some()
    };
    for now in [10, 11, 12, 19] {
        clock.0.store(now, Ordering::Relaxed);
        assert!(read());
    }
    assert_eq!(db.handle.hot.stats().hits, 2);
    clock.0.store(20, Ordering::Relaxed);
    assert!(!read());
    assert_eq!(db.handle.hot.stats().entries, 0);
}

#[test]
fn a_closed_database_does_not_answer_from_the_tier() {
    let db = open(builder());
    put(&db, b"k", b"v");
    warm(&db, b"k");
    let other = db.clone();
    db.close().expect("close");
    assert!(matches!(other.get(b"k"), Err(crate::Error::Closed)));
}

const STRESS_KEYS: usize = 4;

/// Each key's value is a number that grows with every commit.
#[derive(Default)]
struct Numbers {
    /// The largest that anyone has seen, or that was acknowledged.
    seen: [AtomicU64; STRESS_KEYS],
    /// The largest that was handed over.
    submitted: [AtomicU64; STRESS_KEYS],
    done: AtomicBool,
    reads: AtomicU64,
}

fn number(bytes: Option<SharedBytes>) -> u64 {
    bytes.map_or(0, |b| u64::from_le_bytes((*b).try_into().expect("8 bytes")))
}

fn write_numbers(db: &Aurora, numbers: &Numbers, seed: u64, rounds: u64) {
    let mut random = Random(seed);
    for _ in 0..rounds {
        let mut tx = db.begin_write().expect("begin");
        let mut changed = Vec::new();
        for _ in 0..1 + random.below(2) {
            let k = random.below(STRESS_KEYS as u64) as usize;
            let next = numbers.submitted[k].fetch_add(1, Ordering::SeqCst) + 1;
            tx.put([k as u8], next.to_le_bytes(), None).expect("put");
            changed.push((k, next));
        }
        if random.below(20) == 0 {
            tx.touch_space(KEYS);
        }
        if random.below(2) == 0 {
            tx.set_durability(Durability::Buffered);
        }
        if random.below(50) == 0 {
            tx.commit_by_checkpoint();
        }
        let commit = tx.commit_async().expect("commit");
        commit.wait().expect("wait");
        for (k, next) in changed {
            numbers.seen[k].fetch_max(next, Ordering::SeqCst);
        }
    }
}

fn read_numbers(db: &Aurora, numbers: &Numbers, seed: u64) {
    let mut random = Random(seed);
    while !numbers.done.load(Ordering::Relaxed) {
        let k = random.below(STRESS_KEYS as u64) as usize;
        let lowest = numbers.seen[k].load(Ordering::SeqCst);
        // Most from the tier, some past it: the two must agree about what is newest.
        let is_past = random.below(8) == 0;
        let read = if is_past {
            db.begin_read().and_then(|snapshot| snapshot.get([k as u8]))
        } else {
            db.get([k as u8])
        };
        let found = number(read.expect("read"));
        let highest = numbers.submitted[k].load(Ordering::SeqCst);
        assert!(
            found >= lowest,
            "stale: {found} after {lowest}, past the tier: {is_past}"
        );
        assert!(found <= highest, "{found} was never written, {highest} was");
        numbers.seen[k].fetch_max(found, Ordering::SeqCst);
        numbers.reads.fetch_add(1, Ordering::Relaxed);
    }
}

fn stress(db: &Aurora, rounds: u64) {
    let numbers = Numbers::default();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..5)
            .map(|n| (100 + n, &numbers))
            .map(|(seed, numbers)| scope.spawn(move || read_numbers(db, numbers, seed)))
            .collect();
        let writers: Vec<_> = (0..3)
            .map(|n| (200 + n, &numbers))
            .map(|(seed, numbers)| scope.spawn(move || write_numbers(db, numbers, seed, rounds)))
            .collect();
        let written: Vec<_> = writers.into_iter().map(|thread| thread.join()).collect();
        numbers.done.store(true, Ordering::Relaxed);
        let read = readers.into_iter().map(|thread| thread.join());
        assert!(written.into_iter().chain(read).all(|joined| joined.is_ok()));
    });
    for k in 0..STRESS_KEYS {
        let last = numbers.submitted[k].load(Ordering::SeqCst);
        assert_eq!(number(db.get([k as u8]).expect("read")), last);
    }
    let stats = db.handle.hot.stats();
    let reads = numbers.reads.load(Ordering::Relaxed);
    eprintln!("{reads} reads, {stats:?}");
    assert!(
        stats.hits > reads / 10,
        "the tier had no part in it: {stats:?}"
    );
    assert!(stats.dropped > rounds / 10);
}

#[test]
fn nobody_ever_reads_less_than_was_seen_before() {
    stress(&open(Aurora::builder().hot_limit(1 << 20)), 2_000);
    stress(&open(Aurora::builder().hot_limit(64 << 20)), 500);
}

#[test]
fn nobody_ever_reads_less_than_was_seen_before_on_a_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let builder = Aurora::builder().hot_limit(1 << 20);
    stress(
        &builder.open(directory.path().join("stress")).expect("open"),
        500,
    );
}
