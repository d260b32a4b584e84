//! Keys as users see them: each call, random calls against an ordered map with a clock that the
//! test sets, and crashes on the simulated disk.
//!
//! `AURORA_TEST_BUDGET=100 cargo test --release --test keys` runs a hundred times as much.

mod common;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aurora::storage::{MemoryStorage, SimCrash, SimDisk, Storage};
use aurora::{
    Aurora, Batch, Clock, DataInfo, DocumentId, Error, Result, Schema, Snapshot, Swap, Target, Ttl,
    WriteTransaction,
};
use common::{Random, budget, repeatable};
use proptest::prelude::*;

#[derive(Debug, Default)]
struct Manual(AtomicU64);

impl Manual {
    fn at(ms: u64) -> Arc<Self> {
        Arc::new(Manual(AtomicU64::new(ms)))
    }

    fn set(&self, ms: u64) {
        self.0.store(ms, Ordering::SeqCst);
    }
}

impl Clock for Manual {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn open(disk: &SimDisk, clock: &Arc<Manual>) -> Result<Aurora> {
    let builder = repeatable().clock(clock.clone());
    builder.open_storage(disk.reopen().storage())
}

fn at(now_ms: u64) -> (Aurora, Arc<Manual>) {
    let clock = Manual::at(now_ms);
    (open(&SimDisk::new(1), &clock).unwrap(), clock)
}

fn text(db: &Aurora, key: &str) -> Option<String> {
    let value = db.get(key).unwrap();
    value.map(|value| String::from_utf8_lossy(&value).into_owned())
}

// ---- each call

#[test]
#[allow(clippy::unnecessary_to_owned)] // that it is taken is what is tested
fn a_value_is_put_read_and_deleted() {
    let db = Aurora::in_memory().unwrap();
    db.put("user:1".to_string(), b"John Doe".to_vec(), None)
        .unwrap();
    assert_eq!(text(&db, "user:1").as_deref(), Some("John Doe"));
    assert!(db.contains("user:1").unwrap());
    db.put("user:1", "Jane Doe", None).unwrap();
    assert_eq!(text(&db, "user:1").as_deref(), Some("Jane Doe"));
    assert!(db.delete("user:1").wait().unwrap());
    assert!(!db.delete("user:1").wait().unwrap());
    assert_eq!(text(&db, "user:1"), None);
    db.put("", "", None).unwrap();
    assert_eq!(text(&db, "").as_deref(), Some(""));
    let long = vec![b'x'; 300_000];
    db.put("long", &long, Some(ms(1 << 40))).unwrap();
    assert_eq!(db.get("long").unwrap().as_deref(), Some(&long[..]));
}

#[test]
fn many_keys_are_read_in_their_order_at_one_moment() {
    let (db, clock) = at(1000);
    let none: [&str; 0] = [];
    assert!(db.get_many(none).unwrap().is_empty());
    assert_eq!(db.get_many(["a", "b"]).unwrap(), [None, None]); // nothing was ever written
    for n in 0..100u32 {
        let ttl = (n % 10 == 3).then_some(ms(50));
        db.put(format!("{n:03}"), n.to_string(), ttl).unwrap();
    }
    clock.set(1050);
    // In no order, some twice, some that are not there.
    let numbers = (0..150u32).map(|n| (n * 37) % 110);
    let alive = numbers.clone().filter(|n| *n < 100 && n % 10 != 3).count();
    let keys: Vec<String> = numbers.map(|n| format!("{n:03}")).collect();
    let one_by_one: Vec<_> = keys.iter().map(|key| db.get(key).unwrap()).collect();
    assert_eq!(one_by_one.iter().flatten().count(), alive);
    assert_eq!(db.get_many(&keys).unwrap(), one_by_one);
    assert_eq!(
        db.begin_read().unwrap().get_many(&keys).unwrap(),
        one_by_one
    );
    let mut tx = db.begin_write().unwrap();
    tx.put("000", "new", None).unwrap();
    let own = tx.get_many(["000", "001"]).unwrap();
    assert_eq!(own[0].as_deref(), Some(&b"new"[..]));
    assert_eq!(own[1].as_deref(), Some(&b"1"[..]));
    tx.put("long", vec![b'x'; 50_000], None).unwrap();
    tx.commit().unwrap();
    assert_eq!(
        db.get_many(["long"]).unwrap()[0].as_ref().unwrap().len(),
        50_000
    );
    db.put_blob_from("blob", &b"content"[..]).unwrap();
    let refused = db.get_many(["001", "blob"]);
    assert!(matches!(refused, Err(Error::WrongKind { key, .. }) if key == "blob"));
}

#[test]
fn deleting_can_be_awaited() {
    async fn delete(db: &Aurora) -> Result<bool> {
        db.delete("key").await
    }
    let db = Aurora::in_memory().unwrap();
    db.put("key", "value", None).unwrap();
    for expected in [true, false] {
        let mut deleted = std::pin::pin!(delete(&db));
        let mut context = Context::from_waker(Waker::noop());
        let found = loop {
            match deleted.as_mut().poll(&mut context) {
                Poll::Ready(found) => break found.unwrap(),
                Poll::Pending => std::thread::yield_now(),
            }
        };
        assert_eq!(found, expected);
        assert!(!db.contains("key").unwrap());
    }
}

#[test]
fn everything_that_is_a_key_can_be_deleted() {
    let text = "k".to_string();
    let bytes = b"k".to_vec();
    let targets: [Target; 8] = [
        "k".into(),
        (&text).into(),
        text.clone().into(),
        b"k"[..].into(),
        (&bytes).into(),
        bytes.clone().into(),
        b"k".into(),
        [b'k'].into(),
    ];
    let db = Aurora::in_memory().unwrap();
    for target in targets {
        assert_eq!(target, Target::Key(b"k".to_vec()));
        db.put("k", "v", None).unwrap();
        assert!(db.delete(target).wait().unwrap());
        assert!(!db.contains("k").unwrap());
    }
}

#[test]
fn ranges_and_prefixes_are_deleted_with_all_that_is_under_them() {
    let (db, clock) = at(1000);
    for n in 0..3000 {
        db.put(format!("a{n:04}"), "value", (n % 3 == 0).then_some(ms(10)))
            .unwrap();
    }
    db.put("b", "stays", None).unwrap();
    for key in ["a0001", "a2999"] {
        db.put_blob_from(key, &[7; 400_000][..]).unwrap();
    }
    clock.set(1010);
    // What has expired is not counted, and goes with the rest.
    assert_eq!(db.delete_range("a0000".."a0300").unwrap(), 200);
    assert!(!db.contains("a0001").unwrap() && db.contains("a0301").unwrap());
    assert_eq!(db.delete_range("a0301"..="a0301").unwrap(), 1);
    assert_eq!(db.delete_range("c".."a").unwrap(), 0);
    let undone: Result<()> = db.write(|tx| {
        assert_eq!(tx.delete_prefix("")?, 1800);
        assert_eq!(tx.scan_prefix("").count(), 0);
        Err(Error::UnknownSavepoint)
    });
    assert!(undone.is_err());
    assert_eq!(db.delete_prefix("a").unwrap(), 1799);
    assert_eq!(db.scan_prefix("").unwrap().count(), 1);
    assert_eq!(text(&db, "b").as_deref(), Some("stays"));
    db.check().unwrap();
    let stats = db.stats().unwrap();
    for tree in ["aurora/keys", "aurora/expiry", "aurora/chunks"] {
        let entries = stats.trees.get(tree).map_or(0, |tree| tree.entries);
        assert!(entries <= 1, "{tree}: {entries}");
    }
}

/// A device that cannot read one of its pages.
#[derive(Debug)]
struct Unreadable {
    inner: MemoryStorage,
    page: u64,
}

impl Storage for Unreadable {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        let (begin, end) = (self.page * 4096, (self.page + 1) * 4096);
        if offset < end && offset + buffer.len() as u64 > begin {
            return Err(std::io::Error::other("an unreadable sector"));
        }
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn sync_range(&self, offset: u64, length_bytes: u64) -> std::io::Result<()> {
        self.inner.sync_range(offset, length_bytes)
    }

    fn sync_all(&self) -> std::io::Result<()> {
        self.inner.sync_all()
    }

    fn set_length(&self, length_bytes: u64) -> std::io::Result<()> {
        self.inner.set_length(length_bytes)
    }

    fn length(&self) -> std::io::Result<u64> {
        self.inner.length()
    }

    fn lock(&self, exclusive: bool) -> std::io::Result<()> {
        self.inner.lock(exclusive)
    }
}

/// Without threads each write sweeps a little: where damage was in the way of that, each write failed.
#[test]
fn damage_in_the_way_of_a_sweep_is_told_once_and_others_write_on() {
    told_once(Error::is_corruption, |bytes, page| {
        let mut damaged = bytes.to_vec();
        damaged[page * 4096 + 2000] ^= 1;
        Arc::new(MemoryStorage::from_bytes(&damaged))
    });
}

/// A sector that the device cannot read any more is no better than one that was damaged.
#[test]
fn what_cannot_be_read_in_the_way_of_a_sweep_is_told_once_and_others_write_on() {
    let is_of_device = |error: &Error| matches!(error, Error::Io { .. });
    told_once(is_of_device, |bytes, page| {
        Arc::new(Unreadable {
            inner: MemoryStorage::from_bytes(bytes),
            page: page as u64,
        })
    });
}

/// With such an error at each page of a file in which something has expired.
fn told_once(is_it: impl Fn(&Error) -> bool, spoiled: impl Fn(&[u8], usize) -> Arc<dyn Storage>) {
    let storage = MemoryStorage::new();
    let open = |storage: Arc<dyn Storage>, clock: Arc<Manual>| {
        let builder = Aurora::builder().background(false).clock(clock);
        builder.open_storage(storage)
    };
    let db = open(Arc::new(storage.clone()), Manual::at(1000)).unwrap();
    for n in 0..200 {
        // What expires is in other leaves than what does not.
        let ttl = (n < 20).then_some(ms(10));
        db.put(format!("{n:04}"), [7; 100], ttl).unwrap();
    }
    db.close().unwrap();
    let bytes = storage.to_bytes();
    let mut failed_first = [0, 0];
    for page in 2..bytes.len() / 4096 {
        let sweep = || {
            let db = open(spoiled(&bytes, page), Manual::at(2000)).ok()?;
            let is_readable = db.get("0199").is_ok_and(|value| value.is_some());
            let swept = db.sweep(1);
            (is_readable && swept.is_err_and(|error| is_it(&error))).then_some(())
        };
        if sweep().is_none() {
            continue;
        }
        let db = open(spoiled(&bytes, page), Manual::at(2000)).unwrap();
        let puts: Vec<_> = (0..5)
            .map(|n| db.put(format!("02{n:02}"), "new", None))
            .collect();
        failed_first[usize::from(puts[0].is_err())] += 1;
        if let Err(error) = &puts[0] {
            assert!(is_it(error), "{error}");
        }
        for put in &puts[1..] {
            assert!(put.is_ok(), "page {page}: {put:?}");
        }
        assert_eq!(text(&db, "0204").as_deref(), Some("new"));
        assert!(is_it(&db.check().unwrap_err()));
    }
    assert!(
        failed_first.iter().all(|count| *count > 0),
        "{failed_first:?}"
    );
}

#[test]
fn a_key_is_gone_at_its_expiry() {
    let (db, clock) = at(1000);
    db.put("key", "value", Some(ms(50))).unwrap();
    assert_eq!(db.ttl("key").unwrap(), Ttl::After(ms(50)));
    clock.set(1049);
    assert_eq!(text(&db, "key").as_deref(), Some("value"));
    assert_eq!(db.ttl("key").unwrap(), Ttl::After(ms(1)));
    let before = db.begin_read().unwrap();
    clock.set(1050);
    assert_eq!(text(&db, "key"), None);
    assert!(!db.contains("key").unwrap());
    assert_eq!(db.ttl("key").unwrap(), Ttl::Missing);
    assert_eq!(db.scan_prefix("").unwrap().count(), 0);
    assert!(db.get_data_by_pattern("").unwrap().is_empty());
    assert!(!db.expire("key", ms(1000)).unwrap());
    assert!(!db.persist("key").unwrap());
    assert!(before.contains("key").unwrap(), "it sees its own moment");
    assert!(!db.delete("key").wait().unwrap());
}

/// The thread that removes what has expired removed 256 keys in each of its turns, however many came in each of the others':
/// the file grew for as long as that went on.
#[test]
fn what_expires_is_removed_as_fast_as_it_comes_in() {
    const COMMITS: u64 = 200;
    const EACH: u64 = 2_000;
    let clock = Manual::at(1000);
    let builder = Aurora::builder().clock(clock.clone());
    let db = builder
        .open_storage(Arc::new(MemoryStorage::new()))
        .unwrap();
    for commit in 0..COMMITS {
        let mut batch = Batch::new();
        for n in 0..EACH {
            batch.put(format!("{n} of {commit}"), "value", Some(ms(5)));
        }
        db.apply(batch).unwrap();
        clock.set(1010 + 10 * commit);
    }
    let left = db.stats().unwrap().trees["aurora/keys"].entries;
    assert!(left < COMMITS * EACH / 3, "{left} of {}", COMMITS * EACH);
}

#[test]
fn lives_are_given_and_taken() {
    let (db, clock) = at(1000);
    db.put("key", "value", None).unwrap();
    assert_eq!(db.ttl("key").unwrap(), Ttl::Never);
    assert!(!db.persist("key").unwrap(), "it would not have expired");
    assert!(db.expire("key", ms(10)).unwrap());
    assert_eq!(db.ttl("key").unwrap(), Ttl::After(ms(10)));
    clock.set(1009);
    assert!(db.persist("key").unwrap());
    clock.set(9999);
    assert_eq!(text(&db, "key").as_deref(), Some("value"));
    assert!(db.expire("key", Duration::MAX).unwrap());
    assert_eq!(db.ttl("key").unwrap(), Ttl::Never);
    assert!(db.expire("key", Duration::ZERO).unwrap());
    assert_eq!(text(&db, "key"), None);
    db.put("key", "value", Some(Duration::ZERO)).unwrap();
    assert_eq!(text(&db, "key"), None);
    db.put("key", "value", Some(Duration::MAX)).unwrap();
    assert_eq!(db.ttl("key").unwrap(), Ttl::Never);
    assert_eq!(db.ttl("other").unwrap(), Ttl::Missing);
    db.put("key", "value", Some(ms(10))).unwrap();
    db.put("key", "value", None).unwrap();
    assert_eq!(db.ttl("key").unwrap(), Ttl::Never, "put starts anew");
}

#[test]
fn a_swap_is_done_only_if_the_value_is_the_expected_one() {
    let (db, _) = at(1000);
    let differs = |value: Option<&[u8]>| Swap::Differs {
        present: value.map(Into::into),
    };
    let swap = |expected: Option<&[u8]>, new: Option<&[u8]>| {
        db.compare_and_swap("key", expected, new).unwrap()
    };
    assert_eq!(swap(Some(b"1"), Some(b"2")), differs(None));
    assert_eq!(swap(None, None), Swap::Done);
    assert_eq!(swap(None, Some(b"1")), Swap::Done);
    assert_eq!(swap(None, Some(b"2")), differs(Some(b"1")));
    assert!(db.expire("key", ms(10)).unwrap());
    assert_eq!(swap(Some(b"1"), Some(b"2")), Swap::Done);
    assert_eq!(db.ttl("key").unwrap(), Ttl::After(ms(10)));
    assert_eq!(swap(Some(b"1"), None), differs(Some(b"2")));
    assert_eq!(swap(Some(b"2"), None), Swap::Done);
    assert!(!db.contains("key").unwrap());
}

/// A swap could give no time to live: a lock that its holder loses with a crash was put with none, and then given one.
#[test]
fn a_value_is_put_with_its_time_if_the_key_holds_the_expected_one() {
    let (db, clock) = at(1000);
    let put = |expected: Option<&[u8]>, value: &str, ttl: Option<u64>| {
        let swap = db.compare_and_put("key", expected, value, ttl.map(ms));
        swap.unwrap()
    };
    assert!(!put(Some(b"a"), "b", None).is_done());
    assert!(!db.contains("key").unwrap());
    assert!(put(None, "a", Some(10)).is_done());
    assert_eq!(db.ttl("key").unwrap(), Ttl::After(ms(10)));
    let present = Some(b"a"[..].into());
    assert_eq!(put(None, "b", Some(99)), Swap::Differs { present });
    assert_eq!(db.ttl("key").unwrap(), Ttl::After(ms(10)));
    clock.set(1005);
    assert!(put(Some(b"a"), "a", Some(10)).is_done()); // renewed
    assert_eq!(db.ttl("key").unwrap(), Ttl::After(ms(10)));
    clock.set(1015);
    assert!(!put(Some(b"a"), "b", None).is_done()); // it has expired
    assert!(put(None, "b", Some(10)).is_done());
    assert!(put(Some(b"b"), "c", None).is_done());
    assert_eq!(db.ttl("key").unwrap(), Ttl::Never);
    db.put_blob_from("blob", &b"bytes"[..]).unwrap();
    let mut tx = db.begin_write().unwrap();
    let refused = tx.compare_and_put("blob", None, "x", None);
    assert!(matches!(refused, Err(Error::WrongKind { .. })));
    let refused = tx.compare_and_put("k".repeat(2000), None, "x", None);
    assert!(matches!(refused, Err(Error::KeyTooLong { .. })));
    assert!(
        tx.compare_and_put("other", None, "x", Some(ms(5)))
            .unwrap()
            .is_done()
    );
    tx.commit().unwrap();
    assert_eq!(db.ttl("other").unwrap(), Ttl::After(ms(5)));
    db.check().unwrap();
}

#[test]
fn numbers_are_text_and_do_not_overflow() {
    let (db, clock) = at(1000);
    assert_eq!(db.increment("n", 5).unwrap(), 5);
    assert!(db.expire("n", ms(10)).unwrap());
    assert_eq!(db.increment("n", -8).unwrap(), -3);
    assert_eq!(text(&db, "n").as_deref(), Some("-3"));
    assert_eq!(db.ttl("n").unwrap(), Ttl::After(ms(10)));
    clock.set(1010);
    assert_eq!(db.increment("n", 1).unwrap(), 1, "expired is missing");
    assert_eq!(db.ttl("n").unwrap(), Ttl::Never);
    for bad in ["", "x", "1.5", " 1", "9223372036854775808"] {
        db.put("n", bad, None).unwrap();
        let error = db.increment("n", 1).unwrap_err();
        assert!(matches!(&error, Error::NotANumber { key, .. } if key == "n") && error.is_misuse());
        assert_eq!(text(&db, "n").as_deref(), Some(bad));
    }
    db.put("n", i64::MAX.to_string(), None).unwrap();
    assert!(matches!(
        db.increment("n", 1),
        Err(Error::NotANumber { .. })
    ));
    assert_eq!(db.increment("n", -1).unwrap(), i64::MAX - 1);
    db.put("n", i64::MIN.to_string(), None).unwrap();
    assert!(matches!(
        db.increment("n", -1),
        Err(Error::NotANumber { .. })
    ));
}

#[test]
fn merge_sees_the_old_value_and_returns_the_new_one() {
    let (db, _) = at(1000);
    let add = |old: Option<&[u8]>| Some([old.unwrap_or(b"-"), b"x"].concat());
    assert_eq!(db.merge("k", add).unwrap().as_deref(), Some(&b"-x"[..]));
    assert!(db.expire("k", ms(10)).unwrap());
    assert_eq!(db.merge("k", add).unwrap().as_deref(), Some(&b"-xx"[..]));
    assert_eq!(db.ttl("k").unwrap(), Ttl::After(ms(10)));
    assert_eq!(text(&db, "k").as_deref(), Some("-xx"));
    assert_eq!(db.merge("k", |_| None).unwrap(), None);
    assert!(!db.contains("k").unwrap());
}

#[test]
fn a_batch_is_applied_in_order_and_as_one() {
    let (db, _) = at(1000);
    db.put("gone", "value", None).unwrap();
    let version = db.begin_read().unwrap().version();
    let mut batch = Batch::new();
    assert!(batch.is_empty());
    batch.put("a", "1", None).put("a", "2", Some(ms(9)));
    batch
        .put("b", "1", None)
        .delete("b")
        .delete("gone")
        .delete("never");
    assert_eq!(batch.len(), 6);
    db.apply(batch.clone()).unwrap();
    assert_eq!(db.begin_read().unwrap().version(), version + 1);
    assert_eq!(text(&db, "a").as_deref(), Some("2"));
    assert_eq!(db.ttl("a").unwrap(), Ttl::After(ms(9)));
    assert!(!db.contains("b").unwrap() && !db.contains("gone").unwrap());
    batch.put("c", "3", None).put(vec![0; 5000], "", None);
    assert!(matches!(db.apply(batch), Err(Error::KeyTooLong { .. })));
    assert!(!db.contains("c").unwrap());
}

#[test]
fn a_transaction_sees_its_own_changes_and_time_stands_still_in_it() {
    let (db, clock) = at(1000);
    db.put("old", "1", Some(ms(10))).unwrap();
    let mut tx = db.begin_write().unwrap();
    tx.put("new", "2", Some(ms(20))).unwrap();
    clock.set(1030);
    assert!(tx.contains("old").unwrap());
    assert_eq!(tx.ttl("new").unwrap(), Ttl::After(ms(20)));
    assert_eq!(tx.scan_prefix("").count(), 2);
    assert_eq!(tx.scan::<&str>(..).rev().count(), 2);
    assert_eq!(tx.get_data_by_pattern("n").unwrap().len(), 1);
    assert!(tx.delete("old").unwrap());
    assert!(!tx.contains("old").unwrap());
    assert!(db.begin_read().unwrap().get("new").unwrap().is_none());
    let savepoint = tx.savepoint().unwrap();
    assert!(tx.persist("new").unwrap());
    tx.roll_back_to(&savepoint).unwrap();
    tx.commit().unwrap();
    assert!(!db.contains("new").unwrap(), "it expired at 1020");
    db.check().unwrap();
}

#[test]
fn a_scan_keeps_its_moment_and_goes_both_ways() {
    let (db, clock) = at(1000);
    for i in 0..2000 {
        let ttl = (i % 3 == 0).then_some(ms(10));
        db.put(format!("k{i:04}"), i.to_string(), ttl).unwrap();
    }
    let mut scan = db.scan_prefix("k").unwrap();
    let mut both = db.scan("k0500".."k1500").unwrap();
    clock.set(1010);
    for i in 0..2000 {
        if i % 2 == 0 {
            db.delete(format!("k{i:04}")).wait().unwrap();
        }
    }
    assert_eq!(scan.next().unwrap().unwrap().0, b"k0000");
    assert_eq!(scan.next_back().unwrap().unwrap().0, b"k1999");
    assert_eq!(scan.count(), 1998);
    let mut count = 0;
    while let Some(low) = both.next().transpose().unwrap() {
        let high = both.next_back().unwrap().unwrap();
        assert_eq!(low.0, format!("k{:04}", 500 + count).into_bytes());
        assert_eq!(high.0, format!("k{:04}", 1499 - count).into_bytes());
        count += 1;
    }
    assert_eq!(count, 500);
    assert!(both.next_back().is_none());
    let odd = |i: &u32| i % 2 == 1 && !i.is_multiple_of(3);
    let left: Vec<_> = (0..2000u32).filter(odd).collect();
    let found = db.scan_prefix("k").unwrap().map(|entry| entry.unwrap().1);
    let found: Vec<u32> = found
        .map(|value| String::from_utf8(value).unwrap().parse().unwrap())
        .collect();
    assert_eq!(found, left);
    let (low, high) = ("k0003", "k0005");
    let range = (Bound::Excluded(low), Bound::Included(high));
    assert_eq!(db.scan::<&str>(range).unwrap().count(), 1);
    assert_eq!(db.scan(high..low).unwrap().count(), 0);
    // Large values come one by one, with the same result.
    let large = vec![7; 200_000];
    for i in 0..9 {
        db.put(format!("large{i}"), &large, None).unwrap();
    }
    let found: Vec<_> = db.scan_prefix("large").unwrap().rev().collect();
    assert!(found.into_iter().all(|entry| entry.unwrap().1 == large));
    assert_eq!(db.scan_prefix("large").unwrap().count(), 9);
}

#[test]
fn a_listing_says_what_is_there() {
    let db = Aurora::in_memory().unwrap();
    db.put("user:1", "John Doe", None).unwrap();
    db.put("user:2", vec![b'x'; 70], None).unwrap();
    db.put("other", "", None).unwrap();
    let mut sizes = Vec::new();
    for (key, info) in db.get_data_by_pattern("user:").unwrap() {
        match info {
            DataInfo::Blob { size } => panic!("{key}: {size}"),
            DataInfo::Value { size, preview } => sizes.push((key, size, preview)),
        }
    }
    let expected = [
        ("user:1".to_string(), 8, "John Doe".to_string()),
        ("user:2".to_string(), 70, "x".repeat(64) + "…"),
    ];
    assert_eq!(sizes, expected);
    assert_eq!(db.get_data_by_pattern("").unwrap().len(), 3);
}

#[test]
fn the_trees_of_users_are_apart_from_keys() {
    let db = Aurora::in_memory().unwrap();
    db.put("key", "value", Some(ms(1 << 40))).unwrap();
    assert!(db.tree_names().unwrap().is_empty());
    assert!(db.tree("aurora/keys").is_err());
}

#[test]
fn a_closed_database_refuses_every_call() {
    let db = Aurora::in_memory().unwrap();
    db.put("key", "value", None).unwrap();
    db.clone().close().unwrap();
    assert!(matches!(db.get("key"), Err(Error::Closed)));
    assert!(matches!(db.put("key", "", None), Err(Error::Closed)));
    assert!(matches!(db.delete("key").wait(), Err(Error::Closed)));
    assert!(matches!(db.scan_prefix(""), Err(Error::Closed)));
    assert!(matches!(db.sweep(1), Err(Error::Closed)));
}

// ---- against a model

/// Keys with their values and expiries; those that have expired are left out when it is read.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model(BTreeMap<String, (Vec<u8>, Option<u64>)>);

impl Model {
    fn live(&self, now: u64) -> BTreeMap<String, (Vec<u8>, Option<u64>)> {
        let alive = |expiry: &Option<u64>| expiry.is_none_or(|expiry| expiry > now);
        let live = self.0.iter().filter(|(_, (_, expiry))| alive(expiry));
        live.map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    fn find(&self, key: &str, now: u64) -> Option<(Vec<u8>, Option<u64>)> {
        self.live(now).remove(key)
    }

    fn put(&mut self, key: &str, value: &[u8], expiry: Option<u64>) {
        self.0.insert(key.to_string(), (value.to_vec(), expiry));
    }

    /// A new value with the expiry of the old one, or none.
    fn replace(&mut self, key: &str, new: Option<&[u8]>, now: u64) {
        let old = self.find(key, now);
        match new {
            Some(new) => self.put(key, new, old.and_then(|old| old.1)),
            None => drop(self.0.remove(key)),
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Put(u8, Vec<u8>, Option<u64>),
    Remove(u8),
    RemoveRange(u8, u8, bool),
    RemovePrefix(u8),
    Expire(u8, u64),
    Persist(u8),
    Increment(u8, i64),
    Swap(u8, u8, Option<Vec<u8>>),
    Merge(u8, bool),
    Batch(Vec<(u8, Option<Vec<u8>>, Option<u64>)>),
    Sweep(usize),
}

#[derive(Debug, Clone)]
enum Action {
    Op(Op),
    Transaction(Vec<Op>, bool),
    Forward(u64),
    Back(u64),
    HoldSnapshot,
    DropSnapshots,
    Reopen(bool),
    Crash,
}

fn name(key: u8) -> String {
    // Prefixes of one another, and one that is long.
    match key % 12 {
        0 => String::new(),
        11 => "k".repeat(700),
        key => format!("k{}", "x".repeat(usize::from(key) % 4)) + &(key / 4).to_string(),
    }
}

fn op() -> impl Strategy<Value = Op> {
    let key = any::<u8>;
    let value = || {
        prop_oneof![
            (-9i64..9).prop_map(|number| number.to_string().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..40),
            (0usize..9000).prop_map(|length| vec![b'v'; length]),
        ]
    };
    let ttl = || {
        prop_oneof![
            6 => (0u64..30).prop_map(Some),
            1 => Just(Some(u64::MAX)),
            4 => Just(None),
        ]
    };
    let step = (key(), prop::option::weighted(0.7, value()), ttl());
    prop_oneof![
        10 => (key(), value(), ttl()).prop_map(|(k, v, t)| Op::Put(k, v, t)),
        3 => key().prop_map(Op::Remove),
        1 => (key(), key(), any::<bool>()).prop_map(|(a, b, ends)| Op::RemoveRange(a, b, ends)),
        1 => key().prop_map(Op::RemovePrefix),
        3 => (key(), 0u64..30).prop_map(|(k, t)| Op::Expire(k, t)),
        2 => key().prop_map(Op::Persist),
        4 => (key(), -5i64..5).prop_map(|(k, by)| Op::Increment(k, by)),
        4 => (key(), 0u8..3, prop::option::of(value())).prop_map(|(k, e, v)| Op::Swap(k, e, v)),
        3 => (key(), any::<bool>()).prop_map(|(k, keep)| Op::Merge(k, keep)),
        1 => prop::collection::vec(step, 0..5).prop_map(Op::Batch),
        2 => (0usize..5).prop_map(Op::Sweep),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => op().prop_map(Action::Op),
        3 => (prop::collection::vec(op(), 0..6), any::<bool>())
            .prop_map(|(ops, commit)| Action::Transaction(ops, commit)),
        5 => (0u64..20).prop_map(Action::Forward),
        1 => (0u64..50).prop_map(Action::Back),
        1 => Just(Action::HoldSnapshot),
        1 => Just(Action::DropSnapshots),
        1 => any::<bool>().prop_map(Action::Reopen),
        1 => Just(Action::Crash),
    ]
}

/// Where a call goes: it means the same on both.
enum On<'a> {
    Db(&'a Aurora),
    Tx(&'a mut WriteTransaction),
}

macro_rules! on {
    ($self:ident, $target:ident => $call:expr) => {
        match $self {
            On::Db($target) => $call,
            On::Tx($target) => $call,
        }
    };
}

impl On<'_> {
    fn remove(&mut self, key: &str) -> Result<bool> {
        match self {
            On::Db(db) => db.delete(key).wait(),
            On::Tx(tx) => tx.delete(key),
        }
    }

    /// Does it to the database and to the model, and compares what they answer.
    fn run(&mut self, op: &Op, model: &mut Model, now: u64) {
        let later = |ttl: u64| now.checked_add(ttl).filter(|_| ttl < u64::MAX);
        match op {
            Op::Put(key, value, ttl) => {
                let duration = ttl.map(|ttl| {
                    if ttl == u64::MAX {
                        Duration::MAX
                    } else {
                        ms(ttl)
                    }
                });
                on!(self, t => t.put(name(*key), value, duration)).unwrap();
                model.put(&name(*key), value, ttl.and_then(later));
            }
            Op::Remove(key) => {
                let found = model.find(&name(*key), now).is_some();
                assert_eq!(self.remove(&name(*key)).unwrap(), found);
                model.0.remove(&name(*key));
            }
            Op::RemoveRange(a, b, is_closed) => {
                let (low, high) = (name(*a).min(name(*b)), name(*a).max(name(*b)));
                let is_gone = |key: &String| match is_closed {
                    true => (&low..=&high).contains(&key),
                    false => (&low..&high).contains(&key),
                };
                let range = match is_closed {
                    true => (Bound::Included(&low), Bound::Included(&high)),
                    false => (Bound::Included(&low), Bound::Excluded(&high)),
                };
                let found = model.live(now).keys().filter(|key| is_gone(key)).count();
                let count = on!(self, t => t.delete_range::<&String>(range)).unwrap();
                assert_eq!(count, found as u64);
                model.0.retain(|key, _| !is_gone(key));
            }
            Op::RemovePrefix(key) => {
                let prefix = &name(*key);
                let live = model.live(now);
                let found = live.keys().filter(|key| key.starts_with(prefix)).count();
                let count = on!(self, t => t.delete_prefix(prefix)).unwrap();
                assert_eq!(count, found as u64);
                model.0.retain(|key, _| !key.starts_with(prefix));
            }
            Op::Expire(key, ttl) => {
                let found = model.find(&name(*key), now);
                let done = on!(self, t => t.expire(name(*key), ms(*ttl))).unwrap();
                assert_eq!(done, found.is_some());
                if let Some((value, _)) = found {
                    model.put(&name(*key), &value, Some(now + ttl));
                }
            }
            Op::Persist(key) => {
                let found = model.find(&name(*key), now);
                let done = on!(self, t => t.persist(name(*key))).unwrap();
                assert_eq!(done, matches!(found, Some((_, Some(_)))));
                if let Some((value, _)) = found {
                    model.put(&name(*key), &value, None);
                }
            }
            Op::Increment(key, by) => {
                let old = model.find(&name(*key), now);
                let old = old.map_or(Some(0i64), |(value, _)| {
                    String::from_utf8(value).ok().and_then(|v| v.parse().ok())
                });
                let found = on!(self, t => t.increment(name(*key), *by));
                match old {
                    Some(old) => {
                        assert_eq!(found.unwrap(), old + by);
                        let new = (old + by).to_string();
                        model.replace(&name(*key), Some(new.as_bytes()), now);
                    }
                    None => assert!(matches!(found, Err(Error::NotANumber { .. }))),
                }
            }
            Op::Swap(key, expected, new) => {
                let old = model.find(&name(*key), now).map(|old| old.0);
                let expected = match expected {
                    0 => None,
                    1 => old.clone(),
                    _ => Some(b"7".to_vec()),
                };
                let (key, new) = (name(*key), new.as_deref());
                let found = on!(self, t => t.compare_and_swap(&key, expected.as_deref(), new));
                if expected == old {
                    assert_eq!(found.unwrap(), Swap::Done);
                    model.replace(&key, new, now);
                } else {
                    let present = old.map(Into::into);
                    assert_eq!(found.unwrap(), Swap::Differs { present });
                }
            }
            Op::Merge(key, keep) => {
                let old = model.find(&name(*key), now).map(|old| old.0);
                let mut seen = None;
                let found = on!(self, t => t.merge(name(*key), |old| {
                    seen = old.map(<[u8]>::to_vec);
                    keep.then(|| [old.unwrap_or_default(), b"+"].concat())
                }));
                assert_eq!(seen, old);
                let new = keep.then(|| [&old.unwrap_or_default()[..], b"+"].concat());
                assert_eq!(found.unwrap().as_deref(), new.as_deref());
                model.replace(&name(*key), new.as_deref(), now);
            }
            Op::Batch(steps) => {
                let mut batch = Batch::new();
                for (key, value, ttl) in steps {
                    let ttl = ttl.filter(|ttl| *ttl < u64::MAX);
                    match value {
                        Some(value) => {
                            batch.put(name(*key), value, ttl.map(ms));
                            model.put(&name(*key), value, ttl.and_then(later));
                        }
                        None => {
                            batch.delete(name(*key));
                            model.0.remove(&name(*key));
                        }
                    }
                }
                on!(self, t => t.apply(batch)).unwrap();
            }
            Op::Sweep(limit) => {
                assert!(on!(self, t => t.sweep(*limit)).unwrap() <= *limit);
            }
        }
    }
}

struct World {
    disk: SimDisk,
    clock: Arc<Manual>,
    /// The time that the database goes by.
    now: u64,
    db: Option<Aurora>,
    model: Model,
    snapshots: Vec<(Snapshot, Model, u64)>,
}

impl World {
    fn new() -> Self {
        let (disk, clock) = (SimDisk::new(3), Manual::at(1000));
        let db = open(&disk, &clock).unwrap();
        // From here on it stores the time when it is closed.
        db.put("first", "", Some(ms(0))).unwrap();
        World {
            disk,
            clock,
            now: 1000,
            db: Some(db),
            model: Model::default(),
            snapshots: Vec::new(),
        }
    }

    fn db(&self) -> &Aurora {
        self.db.as_ref().unwrap()
    }

    /// Sets the clock and lets the database see it.
    fn set_clock(&mut self, ms: u64) {
        self.clock.set(ms);
        self.now = self.now.max(ms);
        self.db().contains("").unwrap();
    }

    fn run(&mut self, action: &Action) {
        match action {
            Action::Op(op) => {
                let mut model = std::mem::take(&mut self.model);
                On::Db(self.db()).run(op, &mut model, self.now);
                self.model = model;
            }
            Action::Transaction(ops, commits) => {
                let mut tx = self.db().begin_write().unwrap();
                let mut model = self.model.clone();
                for op in ops {
                    On::Tx(&mut tx).run(op, &mut model, self.now);
                }
                compare(&tx, &model, self.now);
                if *commits {
                    tx.commit().unwrap();
                    self.model = model;
                }
            }
            Action::Forward(by) => self.set_clock(self.clock.now_ms() + by),
            Action::Back(by) => self.set_clock(self.clock.now_ms().saturating_sub(*by)),
            Action::HoldSnapshot => {
                let snapshot = self.db().begin_read().unwrap();
                self.snapshots
                    .push((snapshot, self.model.clone(), self.now));
            }
            Action::DropSnapshots => self.snapshots.clear(),
            Action::Reopen(close) => {
                self.snapshots.clear(); // they keep it open
                let db = self.db.take().unwrap();
                if *close {
                    db.close().unwrap();
                } else {
                    drop(db);
                }
                self.db = Some(open(&self.disk, &self.clock).unwrap());
            }
            Action::Crash => {
                self.snapshots.clear();
                // Nothing has stored the time, so the clock has to be right.
                self.clock.set(self.now);
                let image = self.disk.crash_image(SimCrash::LoseAll);
                self.db = None;
                self.disk = image;
                self.db = Some(open(&self.disk, &self.clock).unwrap());
            }
        }
        self.check();
    }

    fn check(&self) {
        self.db().check().unwrap();
        compare(&self.db().begin_read().unwrap(), &self.model, self.now);
        for (snapshot, model, now) in &self.snapshots {
            compare(snapshot, model, *now);
        }
    }

    /// What has expired takes no space after a sweep.
    fn finish(mut self) {
        self.snapshots.clear();
        self.db().sweep(usize::MAX).unwrap();
        self.check();
        let live = self.model.live(self.now);
        let expiring = live.values().filter(|(_, expiry)| expiry.is_some());
        let stats = self.db().stats().unwrap();
        let entries = |tree: &str| stats.trees[tree].entries;
        assert_eq!(entries("aurora/keys"), live.len() as u64);
        assert_eq!(entries("aurora/expiry"), expiring.count() as u64);
    }
}

/// The reading calls, which snapshots and transactions share.
macro_rules! compare_reads {
    ($reader:expr, $model:expr, $now:expr) => {{
        let (reader, live, now) = ($reader, $model.live($now), $now);
        for key in 0..12 {
            let (key, found) = (name(key), live.get(&name(key)));
            let value = found.map(|found| &found.0[..]);
            assert_eq!(reader.get(&key).unwrap().as_deref(), value, "{key}");
            assert_eq!(reader.contains(&key).unwrap(), found.is_some());
            let ttl = match found {
                None => Ttl::Missing,
                Some((_, None)) => Ttl::Never,
                Some((_, Some(expiry))) => Ttl::After(ms(expiry - now)),
            };
            assert_eq!(reader.ttl(&key).unwrap(), ttl, "{key}");
        }
        let entry =
            |(key, (value, _)): (&String, &(Vec<u8>, _))| (key.clone().into_bytes(), value.clone());
        let expected: Vec<_> = live.iter().map(entry).collect();
        let found: Vec<_> = reader.scan::<&str>(..).map(Result::unwrap).collect();
        assert_eq!(found, expected);
        let mut found: Vec<_> = reader.scan_prefix("").rev().map(Result::unwrap).collect();
        found.reverse();
        assert_eq!(found, expected);
        let (mut both, mut ends) = (reader.scan_prefix(""), expected.iter());
        for step in 0..=expected.len() {
            let (found, end) = if step % 3 == 0 {
                (both.next_back(), ends.next_back())
            } else {
                (both.next(), ends.next())
            };
            assert_eq!(found.transpose().unwrap().as_ref(), end);
        }
        let range = "k0".."kx2";
        let expected: Vec<_> = live
            .range::<str, _>((Bound::Included("k0"), Bound::Excluded("kx2")))
            .map(entry)
            .collect();
        let found: Vec<_> = reader.scan(range).map(Result::unwrap).collect();
        assert_eq!(found, expected);
        let listed: Vec<_> = reader.get_data_by_pattern("kx").unwrap();
        let sizes: Vec<_> = listed
            .iter()
            .map(|(key, info)| (key, info_size(info)))
            .collect();
        let expected = live.iter().filter(|(key, _)| key.starts_with("kx"));
        let expected: Vec<_> = expected
            .map(|(key, (value, _))| (key, value.len() as u64))
            .collect();
        assert_eq!(sizes, expected);
    }};
}

fn info_size(info: &DataInfo) -> u64 {
    match info {
        DataInfo::Value { size, .. } | DataInfo::Blob { size } => *size,
    }
}

trait Compare {
    fn compare(&self, model: &Model, now: u64);
}

impl Compare for Snapshot {
    fn compare(&self, model: &Model, now: u64) {
        compare_reads!(self, model, now);
    }
}

impl Compare for WriteTransaction {
    fn compare(&self, model: &Model, now: u64) {
        compare_reads!(self, model, now);
    }
}

fn compare(reader: &impl Compare, model: &Model, now: u64) {
    reader.compare(model, now);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: budget(200) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn keys_behave_like_a_map_with_times(
        actions in prop::collection::vec(action(), 1..80),
    ) {
        let mut world = World::new();
        for action in &actions {
            world.run(action);
        }
        world.finish();
    }
}

// ---- crashes

/// The states that commits led to, and what was acknowledged.
#[derive(Debug, Default)]
struct History {
    states: Vec<Model>,
    /// States before this one are in the past for sure.
    acknowledged: usize,
    now: u64,
    /// The time of the last sweep that was acknowledged and removed something.
    swept: u64,
}

fn run(disk: &SimDisk, clock: &Arc<Manual>, seed: u64, history: &mut History) -> Result<()> {
    let mut random = Random(seed);
    let mut db = open(disk, clock)?;
    for _ in 0..40 {
        let mut model = history.states.last().unwrap().clone();
        match random.below(12) {
            0..=6 => {
                let mut tx = db.begin_write()?;
                for _ in 0..1 + random.below(5) {
                    let key = name(random.below(12) as u8);
                    let value = vec![b'v'; random.below(300) as usize];
                    let ttl = random.below(40);
                    match random.below(6) {
                        0 => {
                            tx.delete(&key)?;
                            model.0.remove(&key);
                        }
                        1 => {
                            tx.put(&key, &value, None)?;
                            model.put(&key, &value, None);
                        }
                        _ => {
                            tx.put(&key, &value, Some(ms(ttl)))?;
                            model.put(&key, &value, Some(history.now + ttl));
                        }
                    }
                }
                history.states.push(model);
                tx.commit()?;
                history.acknowledged = history.states.len() - 1;
            }
            7 | 8 => {
                if db.sweep(1 + random.below(6) as usize)? > 0 {
                    history.swept = history.now;
                }
            }
            9 => db.checkpoint()?,
            10 => {
                history.now += random.below(30);
                clock.set(history.now);
            }
            _ => {
                db.close()?;
                db = open(disk, clock)?;
            }
        }
    }
    db.check()?;
    db.close()
}

fn seen(db: &Aurora, now: u64) -> BTreeMap<String, (Vec<u8>, Option<u64>)> {
    let snapshot = db.begin_read().unwrap();
    let entries = snapshot.scan::<&str>(..).map(Result::unwrap);
    let with_expiry = entries.map(|(key, value)| {
        let expiry = match snapshot.ttl(&key).unwrap() {
            Ttl::After(left) => Some(now + left.as_millis() as u64),
            _ => None,
        };
        (String::from_utf8(key).unwrap(), (value, expiry))
    });
    with_expiry.collect()
}

fn verify(image: &SimDisk, history: &History, what: &str) {
    let possible = &history.states[history.acknowledged..];
    // The clock is right.
    let clock = Manual::at(history.now);
    let db = open(&image.crash_image(SimCrash::KeepAll), &clock).unwrap();
    db.check().unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = seen(&db, history.now);
    assert!(
        possible
            .iter()
            .any(|model| model.live(history.now) == found),
        "{what}: what is found is none of {} states: {:?}",
        possible.len(),
        found.keys()
    );
    // It goes on, and a sweep leaves exactly what is alive.
    db.sweep(usize::MAX).unwrap();
    db.check().unwrap();
    assert_eq!(seen(&db, history.now), found, "{what}");
    let stats = db.stats().unwrap();
    let entries = stats.trees.get("aurora/keys").map_or(0, |t| t.entries);
    assert_eq!(entries, found.len() as u64, "{what}");
    // The clock went back: what was swept stays away.
    let db = open(&image.crash_image(SimCrash::KeepAll), &Manual::at(1)).unwrap();
    db.put("probe", "", Some(ms(1))).unwrap();
    let snapshot = db.begin_read().unwrap();
    for model in possible {
        for (key, (value, expiry)) in &model.0 {
            let over = expiry.is_some_and(|expiry| expiry <= history.swept);
            let same = possible
                .iter()
                .all(|other| other.0.get(key) == Some(&(value.clone(), *expiry)));
            if over && same {
                assert!(!snapshot.contains(key).unwrap(), "{what}: {key:?} is back");
            }
        }
    }
    db.check().unwrap();
}

#[test]
fn a_crash_leaves_keys_and_index_as_one() {
    let mut images = 0;
    for seed in 0..budget(6) {
        let history = || History {
            states: vec![Model::default()],
            now: 1000,
            ..History::default()
        };
        let (disk, clock, mut past) = (SimDisk::new(1), Manual::at(1000), history());
        run(&disk, &clock, seed, &mut past).unwrap();
        let length = disk.counters().mutating_calls();
        let mut nth = seed % 3;
        while nth < length {
            let (disk, clock, mut past) = (SimDisk::new(1), Manual::at(1000), history());
            disk.crash_after(nth);
            match run(&disk, &clock, seed, &mut past) {
                Ok(()) => {}
                Err(error) if error.is_io() || error.is_poisoned() => {}
                Err(Error::TransactionFailed | Error::Closed) => {}
                Err(error) => panic!("seed {seed}, cut {nth}: {error}"),
            }
            let variants = [
                SimCrash::LoseAll,
                SimCrash::KeepAll,
                SimCrash::Sectors { seed: seed ^ nth },
            ];
            for variant in variants {
                let what = format!("seed {seed}, cut {nth}, {variant:?}");
                verify(&disk.crash_image(variant), &past, &what);
                images += 1;
            }
            nth += 3;
        }
    }
    assert!(images > 100, "{images}");
}

/// In a transaction only keys were taken, and elsewhere not all that the other calls take as a key.
#[test]
fn the_same_is_deleted_within_a_transaction_and_without() {
    use std::borrow::Cow;

    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let keys: [&dyn AsRef<[u8]>; 4] = [&"a", &String::from("b"), &b"c".to_vec(), &b"d"];
    let fill = || {
        for key in keys.iter().chain([&(&"e" as &dyn AsRef<[u8]>)]) {
            db.put(key, "value", None).unwrap();
        }
        [0, 1].map(|_| db.insert_into("c", [("n", 1)]).unwrap())
    };
    for in_transaction in [true, false] {
        let ids = fill();
        let delete = |target: aurora::Target| match in_transaction {
            true => db.write(|tx| tx.delete(target)).unwrap(),
            false => db.delete(target).wait().unwrap(),
        };
        let shared = db.get("a").unwrap().unwrap();
        assert!(!delete(shared.into()), "a value can be a key");
        assert!(delete((&"a").into()) && delete(String::from("b").into()));
        assert!(delete(Cow::Borrowed(&b"c"[..]).into()) && delete(b"d".into()));
        assert!(delete([b'e'].into()) && !delete("e".into()));
        assert!(delete((&ids[0]).into()) && !delete((&ids[0]).into()));
        assert!(delete(ids[1].clone().into()));
        assert!(db.collection("c").unwrap().is_empty().unwrap());
        assert_eq!(db.scan_prefix("").unwrap().count(), 0);
    }
    let elsewhere = DocumentId::new("none", 1);
    let refused = db.write(|tx| tx.delete(&elsewhere));
    assert!(matches!(refused, Err(Error::CollectionNotFound { .. })));
}
