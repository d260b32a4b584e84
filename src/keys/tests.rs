//! The layer from within: what stands in the trees, records of blobs and broken ones, and the
//! sweeper in a waiting place of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::expiry::{self, Due, EXPIRY, OF_DOCUMENT, OF_KEY};
use super::record::{Kind, RecordRef};
use super::store::{self, KEYS};
use super::sweeper::Waiting;
use super::{DataInfo, Ttl};
use crate::clock::Clock;
use crate::moment::FACTS_TREE;
use crate::moment::Moment;
use crate::storage::MemoryStorage;
use crate::sync::Mutex;
use crate::{Aurora, Batch, Builder, Error};

#[derive(Debug, Default)]
struct Manual(AtomicU64);

impl Manual {
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

fn builder(clock: &Arc<Manual>) -> Builder {
    Aurora::builder().background(false).clock(clock.clone())
}

fn database() -> (Aurora, Arc<Manual>) {
    let clock = Arc::new(Manual::default());
    clock.set(1000);
    let db = builder(&clock).open_storage(Arc::new(MemoryStorage::new()));
    (db.unwrap(), clock)
}

fn entries(db: &Aurora, tree: &str) -> u64 {
    let snapshot = db.begin_read().unwrap();
    snapshot.system_view(tree).map_or(0, |tree| tree.len())
}

fn clock_of(db: &Aurora) -> Option<u64> {
    expiry::stored_clock(&db.begin_read().unwrap()).unwrap()
}

fn put_blob(db: &Aurora, key: &str, size: usize) {
    db.put_blob_from(key, &vec![7; size][..]).unwrap();
}

/// Puts bytes of the test's own into one of the database's trees.
fn forge(db: &Aurora, tree: &str, key: &[u8], value: &[u8]) {
    db.write(|tx| tx.system_tree(tree)?.put(key, value))
        .unwrap();
}

/// The tables of the section on keys in `format-spec.md`.
#[test]
fn the_format_is_as_it_is_written_down() {
    let spec = include_str!("../../format-spec.md");
    let says = |what: &str, value: &str| {
        let row = format!("| {what} | {value} |");
        assert!(spec.contains(&row), "not in format-spec.md: {row}");
    };
    says("kind of a value", &Kind::Value.code().to_string());
    says("kind of a blob", &Kind::Blob.code().to_string());
    says("flag of what expires", &super::record::EXPIRES.to_string());
    says("owner of a key", &OF_KEY.to_string());
    says("owner of a document", &OF_DOCUMENT.to_string());
    let hex = |bytes: Vec<u8>| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let record = |kind, expiry_ms, payload| {
        let record = RecordRef {
            kind,
            expiry_ms,
            payload,
        };
        hex(record.encode())
    };
    let value = record(Kind::Value, None, b"v");
    says("record of the value \"v\"", &value);
    says(
        "record of a blob that expires at 0x01020304, with the payload \"xyz\"",
        &record(Kind::Blob, Some(0x0102_0304), b"xyz"),
    );
    let due = Due {
        expiry_ms: 256,
        owner: OF_KEY,
        name: b"a",
    };
    let what = "entry of the key \"a\" that expires at 256";
    says(what, &hex(due.encode()));
}

#[test]
fn every_change_of_a_key_keeps_the_index() {
    let (db, _) = database();
    let indexed = || {
        db.check().unwrap();
        entries(&db, EXPIRY)
    };
    db.put("a", "1", None).unwrap();
    assert_eq!(indexed(), 0);
    db.put("a", "1", Some(ms(10))).unwrap();
    db.put("b", "1", Some(ms(10))).unwrap();
    assert_eq!(indexed(), 2);
    db.put("a", "2", Some(ms(20))).unwrap(); // another time
    assert_eq!(indexed(), 2);
    db.put("a", "3", Some(ms(20))).unwrap(); // the same time
    assert_eq!(indexed(), 2);
    db.increment("a", 1).unwrap();
    assert_eq!(indexed(), 2);
    assert!(db.persist("a").unwrap());
    assert_eq!(indexed(), 1);
    assert!(db.delete("b").wait().unwrap());
    assert_eq!(indexed(), 0);
    assert!(db.expire("a", ms(5)).unwrap());
    assert_eq!(indexed(), 1);
    db.put("a", "4", None).unwrap();
    assert_eq!(indexed(), 0);
    assert_eq!(entries(&db, KEYS), 1);
}

#[test]
fn a_sweep_is_bounded_goes_by_time_and_stores_it() {
    let (db, clock) = database();
    db.write(|tx| {
        for i in 0..10 {
            tx.put(format!("key{i}"), "value", Some(ms(100 - i)))?;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(db.sweep(100).unwrap(), 0);
    assert_eq!(clock_of(&db), None, "a sweep of nothing writes nothing");
    clock.set(1096);
    assert_eq!(db.sweep(4).unwrap(), 4);
    assert_eq!((entries(&db, KEYS), clock_of(&db)), (6, Some(1096)));
    let left = expiry::next_ms(&db.begin_read().unwrap()).unwrap();
    assert_eq!(left, Some(1095), "the oldest went first");
    assert_eq!(db.sweep(0).unwrap(), 0);
    assert_eq!(db.sweep(usize::MAX).unwrap(), 2);
    assert_eq!((entries(&db, KEYS), entries(&db, EXPIRY)), (4, 4));
    assert_eq!(db.sweep(usize::MAX).unwrap(), 0);
    db.check().unwrap();
}

#[test]
fn without_a_thread_writes_sweep_a_little() {
    let (db, clock) = database();
    db.write(|tx| {
        for i in 0..5 {
            tx.put(format!("short{i}"), "value", Some(ms(10)))?;
        }
        Ok(())
    })
    .unwrap();
    clock.set(1010);
    db.put("other", "value", None).unwrap();
    assert_eq!(entries(&db, KEYS), 5 + 1 - 2);
    assert!(db.delete("other").wait().unwrap());
    assert_eq!(entries(&db, KEYS), 1);
    db.put("other", "value", None).unwrap();
    assert_eq!((entries(&db, KEYS), entries(&db, EXPIRY)), (1, 0));
    db.check().unwrap();
}

#[test]
fn blobs_are_keys_and_not_values() {
    let (db, clock) = database();
    put_blob(&db, "film", 5000);
    let wrong = |error: Error| {
        let is = matches!(&error, Error::WrongKind { key, found: "blob", wanted: "value" } if key == "film");
        assert!(is && error.is_misuse(), "{error}");
    };
    wrong(db.get("film").unwrap_err());
    wrong(db.increment("film", 1).unwrap_err());
    wrong(db.compare_and_swap("film", None, None).unwrap_err());
    wrong(db.merge("film", |_| None).unwrap_err());
    assert!(db.contains("film").unwrap());
    assert_eq!(db.scan_prefix("").unwrap().count(), 0);
    assert!(db.expire("film", ms(50)).unwrap());
    let record = store::find_record(&db.begin_read().unwrap(), b"film");
    let record = record.unwrap().unwrap();
    assert_eq!((record.kind, record.expiry_ms), (Kind::Blob, Some(1050)));
    assert_eq!(db.ttl("film").unwrap(), Ttl::After(ms(50)));
    let listed = db.get_data_by_pattern("fi").unwrap();
    assert_eq!(
        listed,
        [("film".to_string(), DataInfo::Blob { size: 5000 })]
    );
    clock.set(1050);
    assert!(!db.contains("film").unwrap());
    assert_eq!(db.get("film").unwrap(), None);
    assert_eq!(db.get_data_by_pattern("fi").unwrap(), []);
    assert_eq!(db.increment("film", 1).unwrap(), 1);
    assert_eq!(db.ttl("film").unwrap(), Ttl::Never);
    put_blob(&db, "film", 1);
    db.put("film", "a value", None).unwrap();
    assert!(db.get("film").unwrap().is_some());
}

#[test]
fn keys_leave_room_for_the_index() {
    let (db, _) = database();
    let longest = vec![b'k'; 1024 - 9];
    db.put(&longest, "value", Some(ms(1))).unwrap();
    let too_long = vec![b'k'; 1024 - 8];
    let refused = |error| {
        assert!(matches!(
            error,
            Error::KeyTooLong {
                length: 1016,
                limit: 1015
            }
        ));
    };
    refused(db.put(&too_long, "value", None).unwrap_err());
    refused(db.put(&too_long, "value", Some(ms(1))).unwrap_err());
    refused(db.increment(&too_long, 1).unwrap_err());
    // Longer ones are simply not there.
    assert_eq!(db.get(&too_long).unwrap(), None);
    assert!(!db.expire(&too_long, ms(1)).unwrap());
    assert!(!db.delete(&too_long).wait().unwrap());
    // A refused call leaves the transaction as it was.
    let mut tx = db.begin_write().unwrap();
    tx.put("a", "1", None).unwrap();
    refused(tx.put(&too_long, "value", None).unwrap_err());
    let mut batch = Batch::new();
    batch.put("b", "2", None).put(&too_long, "", None);
    refused(tx.apply(batch).unwrap_err());
    tx.commit().unwrap();
    assert!(db.contains("a").unwrap() && !db.contains("b").unwrap());
}

#[test]
fn records_that_do_not_decode_are_damage() {
    let (db, _) = database();
    forge(&db, KEYS, b"bad", &[0x80, 1]);
    let damage = |error: Error| {
        let is =
            matches!(&error, Error::BadRecord { tree: "aurora/keys", key, .. } if key == "bad");
        assert!(is && error.is_corruption(), "{error}");
    };
    damage(db.get("bad").unwrap_err());
    damage(db.put("bad", "value", None).unwrap_err());
    damage(db.delete("bad").wait().unwrap_err());
    damage(db.scan_prefix("").unwrap().next().unwrap().unwrap_err());
    damage(db.get_data_by_pattern("").unwrap_err());
    damage(db.check().unwrap_err());
    forge(&db, KEYS, b"bad", &[1, 0, 0]);
    damage(db.get_data_by_pattern("").unwrap_err());
    let mut scan = db.scan_prefix("").unwrap();
    assert!(scan.next().is_none());
}

#[test]
fn a_scan_ends_after_an_error() {
    let (db, _) = database();
    for i in 0..10 {
        db.put(format!("key{i}"), "value", None).unwrap();
    }
    forge(&db, KEYS, b"key7x", &[9]);
    let scan: Vec<_> = db.scan_prefix("key").unwrap().collect();
    assert!(scan.last().unwrap().is_err());
    assert!(scan.len() < 10 && scan.iter().rev().skip(1).all(Result::is_ok));
    let mut scan = db.scan_prefix("key").unwrap();
    scan.next().unwrap().unwrap();
    scan.next_back().unwrap().unwrap_err();
    assert!(scan.next().is_none() && scan.next_back().is_none());
}

#[test]
fn the_check_compares_keys_and_index_both_ways() {
    let entry = |expiry_ms, owner, name: &'static [u8]| {
        let due = Due {
            expiry_ms,
            owner,
            name,
        };
        due.encode()
    };
    let what = |db: &Aurora| match db.check() {
        Err(Error::BadRecord { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let record = RecordRef {
        kind: Kind::Value,
        expiry_ms: Some(5000),
        payload: b"",
    };
    // A key without an entry.
    let (db, _) = database();
    forge(&db, KEYS, b"key", &record.encode());
    assert!(what(&db).starts_with("a key that expires is not in"));
    // An entry at another time does not count, and is wrong itself.
    forge(&db, EXPIRY, &entry(5001, OF_KEY, b"key"), b"");
    assert!(what(&db).starts_with("a key that expires is not in"));
    forge(&db, EXPIRY, &entry(5000, OF_KEY, b"key"), b"");
    assert!(what(&db).starts_with("the key of an entry"));
    // An entry without a key.
    let (db, _) = database();
    forge(&db, EXPIRY, &entry(5000, OF_KEY, b"key"), b"");
    assert!(what(&db).starts_with("the key of an entry"));
    // A key that lives on.
    db.put("key", "value", None).unwrap();
    assert!(what(&db).starts_with("the key of an entry"));
    // Those of documents are for others to check.
    let (db, _) = database();
    forge(&db, EXPIRY, &entry(5000, OF_DOCUMENT, b"id"), b"");
    db.check().unwrap();
    forge(&db, EXPIRY, &[0; 8], b"");
    assert!(what(&db).starts_with("an entry of the expiry index is too short"));
    let (db, _) = database();
    forge(&db, FACTS_TREE, b"clock", &[1; 7]);
    assert!(what(&db).starts_with("the stored clock"));
}

#[test]
fn an_entry_without_its_key_is_swept_away() {
    let (db, clock) = database();
    let due = Due {
        expiry_ms: 1100,
        owner: OF_KEY,
        name: b"key",
    };
    forge(&db, EXPIRY, &due.encode(), b"");
    db.put("key", "lives on", Some(ms(500))).unwrap();
    clock.set(1200);
    assert_eq!(db.sweep(10).unwrap(), 1);
    assert!(db.contains("key").unwrap());
    db.check().unwrap();
}

/// A clock on the disk that cannot be read must not be taken for none.
#[test]
fn a_damaged_clock_is_found_at_open() {
    let storage = Arc::new(MemoryStorage::new());
    let clock = Arc::new(Manual::default());
    let db = builder(&clock).open_storage(storage.clone()).unwrap();
    forge(&db, FACTS_TREE, b"clock", b"later");
    db.close().unwrap();
    let error = builder(&clock).open_storage(storage).unwrap_err();
    assert!(matches!(
        error,
        Error::BadRecord {
            expected: 8,
            found: 5,
            ..
        }
    ));
}

#[test]
fn closing_stores_the_time_where_something_expires() {
    let clock = Arc::new(Manual::default());
    clock.set(5000);
    let storage = Arc::new(MemoryStorage::new());
    let open = || builder(&clock).open_storage(storage.clone()).unwrap();
    let db = open();
    db.put("forever", "value", None).unwrap();
    db.close().unwrap();
    let db = open();
    assert_eq!(clock_of(&db), None, "nothing expires");
    db.put("short", "value", Some(ms(100))).unwrap();
    drop(db); // as good as closing
    clock.set(0);
    let db = open();
    assert_eq!(clock_of(&db), Some(5000));
    assert_eq!(db.ttl("short").unwrap(), Ttl::After(ms(100)));
    let version = db.begin_read().unwrap().version();
    db.close().unwrap();
    let db = open();
    let unchanged = db.begin_read().unwrap().version();
    assert_eq!(unchanged, version, "time did not move");
    clock.set(7000);
    assert!(!db.contains("short").unwrap());
    db.close().unwrap();
    clock.set(0);
    assert!(!open().contains("short").unwrap());
}

#[test]
fn a_database_that_is_read_only_knows_the_time_and_writes_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let clock = Arc::new(Manual::default());
    clock.set(5000);
    let db = builder(&clock).open(&path).unwrap();
    db.put("short", "value", Some(ms(100))).unwrap();
    db.put("long", "value", Some(ms(9000))).unwrap();
    clock.set(5100);
    db.close().unwrap();
    let before = std::fs::read(&path).unwrap();
    clock.set(0);
    let db = Aurora::builder().clock(clock.clone()).read_only(true);
    let db = db.open(&path).unwrap();
    assert!(!db.contains("short").unwrap());
    assert!(db.contains("long").unwrap());
    clock.set(20_000);
    assert!(!db.contains("long").unwrap());
    assert!(matches!(db.put("a", "b", None), Err(Error::ReadOnly)));
    assert!(matches!(db.sweep(1), Err(Error::ReadOnly)));
    db.close().unwrap();
    assert!(std::fs::read(&path).unwrap() == before);
}

/// Says what the sweeper waits for, and lets it go on when the test says so.
#[derive(Debug)]
struct Place {
    asked: Mutex<Sender<Option<u64>>>,
    go: Mutex<Sender<()>>,
    gone: Mutex<Receiver<()>>,
}

impl Place {
    fn new() -> (Arc<Self>, Receiver<Option<u64>>) {
        let (asked, asks) = channel();
        let (go, gone) = channel();
        let place = Place {
            asked: Mutex::new(asked),
            go: Mutex::new(go),
            gone: Mutex::new(gone),
        };
        (Arc::new(place), asks)
    }
}

impl Waiting for Place {
    fn wait(&self, at_most_ms: Option<u64>) {
        let _ = self.asked.lock().send(at_most_ms);
        let _ = self.gone.lock().recv();
    }

    fn wake(&self) {
        let _ = self.go.lock().send(());
    }
}

#[test]
fn the_sweeper_waits_for_the_next_expiry_and_ends_on_close() {
    let storage = Arc::new(MemoryStorage::new());
    let clock = Arc::new(Manual::default());
    clock.set(1000);
    let (place, asks) = Place::new();
    let next = || asks.recv_timeout(Duration::from_secs(20)).unwrap();
    let open = || {
        let builder = Aurora::builder().clock(clock.clone());
        builder.waiting(place.clone()).open_storage(storage.clone())
    };
    let db = open().unwrap();
    assert_eq!(next(), None, "nothing expires");
    db.put("a", "1", Some(ms(5000))).unwrap();
    assert_eq!(next(), Some(5000));
    db.put("c", "1", Some(ms(9000))).unwrap(); // does not wake it
    db.put("b", "1", Some(ms(3000))).unwrap();
    assert_eq!(next(), Some(3000));
    clock.set(4000);
    place.wake();
    assert_eq!(next(), Some(2000));
    assert_eq!((entries(&db, KEYS), entries(&db, EXPIRY)), (2, 2));
    assert_eq!(clock_of(&db), Some(4000));
    assert!(db.delete("a").wait().unwrap());
    clock.set(6000);
    place.wake(); // for nothing: it looks again
    assert_eq!(next(), Some(4000));
    db.write(|tx| {
        for i in 0..1000 {
            tx.put(format!("many{i}"), "", Some(ms(1)))?;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(next(), Some(100), "soon enough");
    clock.set(6001);
    place.wake();
    assert_eq!(next(), Some(3999));
    assert_eq!(entries(&db, KEYS), 1);
    db.put("d", "1", Some(Duration::MAX)).unwrap();
    db.put("e", "1", Some(Duration::from_secs(1 << 30)))
        .unwrap();
    assert!(db.delete("c").wait().unwrap());
    clock.set(20_000);
    place.wake();
    assert_eq!(next(), Some(60_000), "clocks may jump");
    db.close().unwrap();
    assert_eq!(Arc::strong_count(&place), 1, "the thread is gone");
    // It knows what is next when it starts.
    let db = open().unwrap();
    assert_eq!(next(), Some(60_000));
    drop(db);
    assert_eq!(Arc::strong_count(&place), 1, "the thread is gone");
}

#[test]
fn the_sweeper_tries_again_after_an_error() {
    let clock = Arc::new(Manual::default());
    let (place, asks) = Place::new();
    let next = || asks.recv_timeout(Duration::from_secs(20)).unwrap();
    let db = Aurora::builder()
        .clock(clock.clone())
        .waiting(place.clone());
    let db = db.open_storage(Arc::new(MemoryStorage::new())).unwrap();
    assert_eq!(next(), None);
    forge(&db, EXPIRY, &[0; 8], b"");
    db.put("key", "value", Some(ms(500))).unwrap();
    assert_eq!(next(), Some(500));
    clock.set(500);
    place.wake();
    assert_eq!(next(), Some(10_000), "the entry is damaged");
    db.write(|tx| tx.system_tree(EXPIRY)?.delete([0; 8]))
        .unwrap();
    place.wake();
    assert_eq!(next(), None);
    assert_eq!(entries(&db, KEYS), 0);
}

#[test]
fn the_sweeper_works_in_real_time() {
    let db = Aurora::in_memory().unwrap();
    for i in 0..600 {
        let mut tx = db.begin_write().unwrap();
        tx.put(format!("key{i}"), "value", Some(ms(30))).unwrap();
        tx.commit().unwrap();
    }
    let start = Instant::now();
    while entries(&db, KEYS) + entries(&db, EXPIRY) > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "never swept");
        std::thread::sleep(ms(5));
    }
}

/// The last handle closes the database before it is gone, whatever the sweeper does meanwhile.
#[test]
fn a_dropped_database_can_be_opened_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    for i in 0..30 {
        let db = Aurora::open(&path).unwrap();
        db.put(format!("key{i}"), "value", Some(ms(i % 3))).unwrap();
    }
}

#[test]
fn a_backup_takes_the_keys_along() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("copy.db");
    let (db, clock) = database();
    db.put("key", "value", None).unwrap();
    db.put("short", "value", Some(ms(100))).unwrap();
    db.backup_to(&path).unwrap();
    clock.set(0);
    let copy = builder(&clock).open(&path).unwrap();
    copy.check().unwrap();
    assert_eq!(copy.get("key").unwrap().as_deref(), Some(&b"value"[..]));
    assert_eq!(copy.ttl("short").unwrap(), Ttl::After(ms(100)));
    assert_eq!(clock_of(&copy), Some(1000));
}
