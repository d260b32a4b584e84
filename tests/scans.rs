//! Entries and keys one by one, by iterators that keep their moment: of trees, of keys, from both ends.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aurora::storage::{MemoryStorage, Storage};
use aurora::{Aurora, Clock, Entry, Error, KeyScan, Keys, Result, Rows, TreeScan};

/// A pattern that only long values have.
const LONG: u8 = 0xa7;
/// Longer than any record of a blob.
const LONG_BYTES: usize = 70_000;

#[derive(Debug, Default)]
struct Manual(AtomicU64);

impl Clock for Manual {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn builder(clock: &Arc<Manual>) -> aurora::Builder {
    Aurora::builder().background(false).clock(clock.clone())
}

fn key(n: u64) -> Vec<u8> {
    format!("key {n:05}").into_bytes()
}

/// Damages every long value in a closed file. Says how many pages that were.
fn damage_long_values(disk: &MemoryStorage) -> usize {
    let mut page = vec![0; 4096];
    let pages = disk.length().unwrap() / 4096;
    let mut damaged = 0;
    for n in 0..pages {
        disk.read_at(n * 4096, &mut page).unwrap();
        if page[1000..2000].iter().all(|byte| *byte == LONG) {
            disk.write_at(n * 4096 + 1500, b"damage").unwrap();
            damaged += 1;
        }
    }
    damaged
}

fn counted(keys: impl Iterator<Item = Result<Vec<u8>>>) -> usize {
    keys.map(|key| key.unwrap()).fold(0, |count, _| count + 1)
}

#[test]
fn a_scan_of_a_tree_is_as_the_borrowed_one_from_both_ends() {
    let db = Aurora::in_memory().unwrap();
    let tree = db.tree("t").unwrap();
    assert!(matches!(tree.iter(), Err(Error::TreeNotFound { .. })));
    let value = |n: u64| {
        vec![
            n as u8;
            if n.is_multiple_of(97) {
                30_000
            } else {
                n as usize % 50
            }
        ]
    };
    let model: BTreeMap<_, _> = (0..3_000).map(|n| (key(n * 3), value(n))).collect();
    tree.put_many(&model).unwrap();
    let snapshot = db.begin_read().unwrap();
    let bound = |n: u64| match n % 5 {
        0 => Bound::Unbounded,
        1 | 2 => Bound::Included(key(n)),
        _ => Bound::Excluded(key(n)),
    };
    let mut random = 7u64;
    let mut next = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % below
    };
    for round in 0..200 {
        let range = (bound(next(9_000)), bound(next(9_000)));
        let view = snapshot.tree("t").unwrap();
        let expected: Vec<Entry> = view.range(range.clone()).map(|e| e.unwrap()).collect();
        // From either end, in any turns.
        let turns: Vec<bool> = match round % 4 {
            0 => vec![false],
            1 => vec![true],
            2 => vec![false, true],
            _ => (0..61).map(|_| next(3) == 0).collect(),
        };
        let taken = |step: &mut dyn FnMut(bool) -> Option<Entry>| {
            let (mut front, mut back) = (Vec::new(), Vec::new());
            for is_back in turns.iter().cycle() {
                match (step(*is_back), is_back) {
                    (Some(entry), false) => front.push(entry),
                    (Some(entry), true) => back.push(entry),
                    (None, _) => break,
                }
            }
            front.extend(back.into_iter().rev());
            front
        };
        let mut scan = tree.range(range.clone()).unwrap();
        let found = taken(&mut |is_back| match is_back {
            false => scan.next().map(|entry| entry.unwrap()),
            true => scan.next_back().map(|entry| entry.unwrap()),
        });
        assert!(found == expected, "{range:?}");
        assert!(scan.next().is_none() && scan.next_back().is_none());
        // The keys alone, of both, some entries of which were taken before.
        let mut scan = tree.range(range.clone()).unwrap();
        let mut borrowed = view.range(range.clone());
        let first = scan.next().map(|entry| entry.unwrap());
        assert_eq!(first, borrowed.next().map(|entry| entry.unwrap()));
        let (mut scan, mut borrowed) = (scan.keys(), borrowed.keys());
        let mut key_of = |is_back: bool| {
            let (key, same) = match is_back {
                false => (scan.next(), borrowed.next()),
                true => (scan.next_back(), borrowed.next_back()),
            };
            let (key, same) = (key.transpose().unwrap(), same.transpose().unwrap());
            assert_eq!(key, same, "{range:?}");
            key.map(|key| (key, Vec::new()))
        };
        let keys: Vec<_> = { first.into_iter() }.chain(taken(&mut key_of)).collect();
        assert!(
            keys.iter()
                .map(|(key, _)| key)
                .eq(expected.iter().map(|(key, _)| key))
        );
    }
    for prefix in ["key 00", "key 0", "", "key 08997", "x"] {
        let view = snapshot.tree("t").unwrap();
        let expected: Vec<Entry> = view.prefix(prefix).map(|e| e.unwrap()).collect();
        let of_tree: Vec<Entry> = tree.prefix(prefix).unwrap().map(|e| e.unwrap()).collect();
        let of_snapshot = snapshot.scan_tree_prefix("t", prefix).unwrap();
        let of_snapshot: Vec<Entry> = of_snapshot.map(|e| e.unwrap()).collect();
        assert!(of_tree == expected && of_snapshot == expected, "{prefix}");
    }
}

#[test]
fn a_scan_keeps_its_moment_wherever_it_is() {
    let is_free = |_: &(dyn Send + Sync)| {};
    let db = Aurora::in_memory().unwrap();
    let tree = db.tree("t").unwrap();
    tree.put_many((0..2_000).map(|n| (key(n), "old"))).unwrap();
    let snapshot = db.begin_read().unwrap();
    let mut scan = tree.iter().unwrap();
    is_free(&scan);
    assert_eq!(scan.next().unwrap().unwrap().0, key(0));
    tree.delete_range(key(10)..key(1_990)).unwrap();
    tree.put_many((0..2_000).map(|n| (key(n), "new"))).unwrap();
    db.write(|tx| tx.drop_tree("t")).unwrap();
    assert!(matches!(tree.iter(), Err(Error::TreeNotFound { .. })));
    let of_snapshot = snapshot.scan_tree("t", key(1)..).unwrap();
    assert!(matches!(
        snapshot.scan_tree::<&[u8]>("u", ..),
        Err(Error::TreeNotFound { .. })
    ));
    drop(snapshot);
    db.close().unwrap();
    for scan in [scan, of_snapshot] {
        let found = std::thread::spawn(move || scan.collect::<Result<Vec<Entry>>>());
        let found = found.join().unwrap().unwrap();
        assert_eq!(found.len(), 1_999);
        assert!(found.iter().all(|(_, value)| value == b"old"));
    }
    // All that goes one by one can be handed over.
    fn is_sent<T: Send + Sync>() {}
    is_sent::<(Keys<TreeScan>, KeyScan<'static>, aurora::Scan<'static>)>();
    fn is_sent_at_all<T: Send>() {}
    is_sent_at_all::<Rows<'static>>();
}

#[test]
fn damage_ends_a_scan_and_is_none_for_keys_alone() {
    let disk = MemoryStorage::new();
    let db = Aurora::builder()
        .open_storage(Arc::new(disk.reopen()))
        .unwrap();
    db.write(|tx| {
        for n in 0..700 {
            let length = if n == 300 { LONG_BYTES } else { 10 };
            tx.tree("t")?.put(key(n), vec![LONG; length])?;
            tx.put(key(n), vec![LONG; length], None)?;
        }
        Ok(())
    })
    .unwrap();
    db.close().unwrap();
    assert!(damage_long_values(&disk) >= 32);
    let db = Aurora::builder()
        .open_storage(Arc::new(disk.reopen()))
        .unwrap();
    let tree = db.tree("t").unwrap();
    let until_error = |entries: &mut dyn Iterator<Item = Result<Entry>>| {
        let mut good = 0;
        for entry in &mut *entries {
            match entry {
                Ok(_) => good += 1,
                Err(error) => {
                    assert!(error.is_corruption(), "{error}");
                    break;
                }
            }
        }
        assert!(entries.next().is_none());
        good
    };
    // Some of those before it are fetched together with it.
    let ends_before =
        |good: usize, most: usize| assert!(good <= most && good + 256 > most, "{good}");
    ends_before(until_error(&mut tree.iter().unwrap()), 300);
    ends_before(until_error(&mut tree.iter().unwrap().rev()), 399);
    let of_keys = || db.scan_prefix("key").unwrap();
    ends_before(until_error(&mut of_keys()), 300);
    ends_before(until_error(&mut of_keys().rev()), 399);
    // Whether a key is there does not depend on what it holds, and keys alone neither.
    assert!(tree.contains(key(300)).unwrap());
    assert!(!tree.contains("key").unwrap());
    assert_eq!(counted(tree.iter().unwrap().keys()), 700);
    let snapshot = db.begin_read().unwrap();
    let view = snapshot.tree("t").unwrap();
    assert_eq!(counted(view.iter().keys().rev()), 700);
    assert_eq!(counted(db.scan_keys_prefix("key").unwrap()), 700);
}

/// The index of what expires tells of those that are too long to be read for it.
#[test]
fn keys_alone_leave_out_what_has_expired() {
    let clock = Arc::new(Manual::default());
    let disk = MemoryStorage::new();
    let db = builder(&clock)
        .open_storage(Arc::new(disk.reopen()))
        .unwrap();
    let lives = |n: u64| (!n.is_multiple_of(3)).then(|| Duration::from_millis(n % 3 * 100));
    db.write(|tx| {
        for n in 0..60 {
            let length = if n % 2 == 0 { LONG_BYTES } else { 10 };
            tx.put(key(n), vec![LONG; length], lives(n))?;
        }
        let mut labels = aurora::BlobMeta::new().with("long", "x".repeat(5_000));
        for n in [60, 61] {
            tx.put_blob_from(key(n), &b"blob"[..])?;
            tx.set_blob_meta(key(n), std::mem::take(&mut labels))?;
        }
        tx.expire(key(60), Duration::from_millis(100))?;
        tx.put("other", "", None)
    })
    .unwrap();
    db.close().unwrap();
    assert!(damage_long_values(&disk) >= 400);
    let db = builder(&clock)
        .open_storage(Arc::new(disk.reopen()))
        .unwrap();
    let early = db.begin_read().unwrap();
    let rest = |now_ms: u64| -> Vec<Vec<u8>> {
        let there = |n: &u64| lives(*n).is_none_or(|ttl| ttl.as_millis() as u64 > now_ms);
        let blobs = [60, 61].into_iter().filter(|n| *n == 61 || now_ms < 100);
        (0..60).filter(there).chain(blobs).map(key).collect()
    };
    let all = |keys: &mut dyn Iterator<Item = Result<Vec<u8>>>| -> Vec<Vec<u8>> {
        keys.map(|key| key.unwrap()).collect()
    };
    for now_ms in [0, 99, 100, 199, 200] {
        clock.0.store(now_ms, Ordering::SeqCst);
        let expected = rest(now_ms);
        assert_eq!(
            all(&mut db.scan_keys_prefix("key").unwrap()),
            expected,
            "{now_ms}"
        );
        let mut back = all(&mut db.scan_keys_prefix("key").unwrap().rev());
        back.reverse();
        assert_eq!(back, expected);
        let tx = db.begin_write().unwrap();
        assert_eq!(all(&mut tx.scan_keys_prefix("key")), expected);
        let part: Vec<_> = expected
            .iter()
            .filter(|k| (key(20)..=key(40)).contains(k))
            .cloned()
            .collect();
        assert_eq!(all(&mut tx.scan_keys(key(20)..=key(40))), part);
        drop(tx);
        assert_eq!(all(&mut early.scan_keys_prefix("key")), rest(0));
        // Blobs are found between values that cannot be read, too.
        let blobs = db.scan_blobs_prefix("key").unwrap();
        let blobs: Vec<_> = blobs.map(|blob| blob.unwrap().0).collect();
        let of_blobs = expected.iter().filter(|found| **found >= key(60));
        assert!(blobs.iter().eq(of_blobs), "{now_ms}");
    }
}

/// No more of them are held than there is room for.
#[test]
fn keys_alone_are_right_where_very_many_have_expired() {
    let clock = Arc::new(Manual::default());
    let db = builder(&clock)
        .open_storage(Arc::new(MemoryStorage::new()))
        .unwrap();
    let name = |n: u64| [key(n), vec![b'x'; 900]].concat();
    db.write(|tx| {
        for n in 0..3_000 {
            let length = if n % 100 == 7 { 5_000 } else { 10 };
            let ttl = (n % 200 != 7).then(|| Duration::from_millis(n % 2 + 5));
            tx.put(name(n), vec![LONG; length], ttl)?;
        }
        Ok(())
    })
    .unwrap();
    clock.0.store(6, Ordering::SeqCst);
    let keys = db.scan_keys::<&[u8]>(..).unwrap().map(|key| key.unwrap());
    let expected: Vec<_> = (0..3_000).filter(|n| n % 200 == 7).map(name).collect();
    assert_eq!(keys.collect::<Vec<_>>(), expected);
}
