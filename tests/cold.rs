//! What is in no memory is asked of the device together: whatever reads many pages waits for few of them.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aurora::storage::{MemoryStorage, Storage};
use aurora::{Aurora, Field, FieldType, Object, Schema, Value};

const BLOCK_BYTES: u64 = 4096;

/// A disk with a system's cache in front of it, which counts how often a read waits.
#[derive(Debug, Default)]
struct Cold {
    disk: MemoryStorage,
    cached: Mutex<HashSet<u64>>,
    waits: AtomicU64,
    /// Blocks that were asked for and were not in the cache.
    asked: AtomicU64,
    /// Whether the system tells what it has.
    is_silent: bool,
}

impl Cold {
    fn bring(&self, offset: u64, length_bytes: usize) -> u64 {
        let blocks = offset / BLOCK_BYTES..(offset + length_bytes as u64).div_ceil(BLOCK_BYTES);
        let mut cached = self.cached.lock().unwrap();
        blocks.filter(|block| cached.insert(*block)).count() as u64
    }

    /// Nothing is in memory any more.
    fn forget(&self) {
        self.cached.lock().unwrap().clear();
        self.waits.store(0, Ordering::Relaxed);
        self.asked.store(0, Ordering::Relaxed);
    }

    /// How often reads waited, and how many blocks came without a wait.
    fn counts(&self) -> (u64, u64) {
        (
            self.waits.load(Ordering::Relaxed),
            self.asked.load(Ordering::Relaxed),
        )
    }
}

impl Storage for Cold {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.bring(offset, buffer.len()) > 0 {
            self.waits.fetch_add(1, Ordering::Relaxed);
        }
        self.disk.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.bring(offset, bytes.len());
        self.disk.write_at(offset, bytes)
    }
    fn sync_range(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        self.disk.sync_range(offset, length_bytes)
    }
    fn sync_all(&self) -> io::Result<()> {
        self.disk.sync_all()
    }
    fn is_cached(&self, offset: u64) -> bool {
        self.is_silent || { self.cached.lock().unwrap() }.contains(&(offset / BLOCK_BYTES))
    }
    fn start_read(&self, offset: u64, length_bytes: u64) {
        let brought = self.bring(offset, length_bytes as usize);
        self.asked.fetch_add(brought, Ordering::Relaxed);
    }
    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.disk.set_length(length_bytes)
    }
    fn length(&self) -> io::Result<u64> {
        self.disk.length()
    }
    fn lock(&self, exclusive: bool) -> io::Result<()> {
        self.disk.lock(exclusive)
    }
}

fn open(disk: &Arc<Cold>, memory_bytes: usize) -> Aurora {
    let builder = Aurora::builder().memory_limit(memory_bytes).salt(7);
    builder.open_storage(disk.clone()).unwrap()
}

const LARGE: usize = 256 << 20;

/// Opens what `fill` has made with nothing in memory, does `work`, and says how often that waited and what came without.
fn waits(fill: impl FnOnce(&Aurora), work: impl FnOnce(&Aurora)) -> (u64, u64) {
    let disk = Arc::new(Cold::default());
    let db = open(&disk, LARGE);
    fill(&db);
    db.close().unwrap();
    let db = open(&disk, LARGE);
    disk.forget();
    work(&db);
    disk.counts()
}

/// Most of it came without a wait.
fn assert_few_waits((waits, asked): (u64, u64), least: u64) {
    assert!(waits + asked >= least, "{waits} and {asked} of {least}");
    assert!(waits * 8 <= waits + asked, "{waits} waits, {asked} without");
}

/// Where the keys are in no order, so that neighbours of the tree lie apart in the file.
fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    key[..8].copy_from_slice(&(mixed ^ mixed >> 29).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

const ENTRIES: u64 = 40_000;

fn fill_tree(db: &Aurora) {
    let entries = (0..ENTRIES).map(|n| (key(n), [n as u8; 100]));
    db.tree("t").unwrap().put_many(entries).unwrap();
}

#[test]
fn a_scan_asks_ahead_in_both_directions() {
    let scan = |forward: bool| {
        waits(fill_tree, |db| {
            let snapshot = db.begin_read().unwrap();
            let mut range = snapshot.tree("t").unwrap().range::<&[u8]>(..);
            let mut count = 0;
            let mut step = || match forward {
                true => range.next(),
                false => range.next_back(),
            };
            while step().transpose().unwrap().is_some() {
                count += 1;
            }
            assert_eq!(count, ENTRIES);
        })
    };
    assert_few_waits(scan(true), 1000);
    assert_few_waits(scan(false), 1000);
}

/// One that keeps its moment begins anew for some hundred entries each time.
#[test]
fn a_scan_that_keeps_its_moment_asks_ahead_too() {
    let scan = |forward: bool| {
        waits(fill_tree, |db| {
            let entries = db.tree("t").unwrap().iter().unwrap();
            let count = match forward {
                true => entries.flatten().count(),
                false => entries.rev().flatten().count(),
            };
            assert_eq!(count as u64, ENTRIES);
        })
    };
    assert_few_waits(scan(true), 1000);
    assert_few_waits(scan(false), 1000);
}

#[test]
fn long_values_are_asked_for_ahead_in_both_directions() {
    const VALUES: u64 = 2_000;
    let fill = |db: &Aurora| {
        let entries = (0..VALUES).map(|n| (key(n), vec![n as u8; 3000]));
        db.tree("t").unwrap().put_many(entries).unwrap();
    };
    let scan = |forward: bool| {
        waits(fill, |db| {
            let snapshot = db.begin_read().unwrap();
            let mut cursor = snapshot.tree("t").unwrap().cursor();
            let mut is_there = match forward {
                true => cursor.first().unwrap(),
                false => cursor.last().unwrap(),
            };
            let mut count = 0;
            while is_there {
                assert_eq!(cursor.value().unwrap().len(), 3000);
                count += 1;
                is_there = match forward {
                    true => cursor.next().unwrap(),
                    false => cursor.prev().unwrap(),
                };
            }
            assert_eq!(count, VALUES);
        })
    };
    assert_few_waits(scan(true), VALUES);
    assert_few_waits(scan(false), VALUES);
}

/// Nor beyond its bounds.
#[test]
fn a_short_walk_asks_for_little() {
    let (waits, asked) = waits(fill_tree, |db| {
        let snapshot = db.begin_read().unwrap();
        let view = snapshot.tree("t").unwrap();
        for n in 0..50 {
            let range = view.range(&key(n * 700)[..]..);
            assert!(range.take(36).filter_map(Result::ok).count() > 0);
        }
    });
    assert!(waits > 0);
    assert!(asked <= waits / 4, "{asked} asked for beside {waits}");
    let (low, high) = ([0x40], [0x48]);
    let (waits, asked) = self::waits(fill_tree, |db| {
        let snapshot = db.begin_read().unwrap();
        let range = snapshot.tree("t").unwrap().range(&low[..]..&high[..]);
        let count = range.count() as u64;
        assert!(count > ENTRIES / 40);
    });
    let leaves = ENTRIES / 32 / 25; // of a thirty-second of the entries, with 25 in the emptiest leaf
    assert!(waits + asked <= leaves + 8, "{waits} and {asked}");
}

#[test]
fn changes_of_many_entries_wait_for_few_leaves() {
    let every = |by: usize| (0..ENTRIES).step_by(by).map(|n| (key(n), [1; 100]));
    let put = waits(fill_tree, |db| {
        assert_eq!(db.tree("t").unwrap().put_many(every(50)).unwrap(), 800);
    });
    assert_few_waits(put, 500);
    let delete = waits(fill_tree, |db| {
        let keys = every(50).map(|(key, _)| key);
        assert_eq!(db.tree("t").unwrap().delete_many(keys).unwrap(), 800);
    });
    assert_few_waits(delete, 500);
    let range = waits(fill_tree, |db| {
        let (low, high) = ([0x20], [0xe0]);
        let removed = db.tree("t").unwrap().delete_range(low..high).unwrap();
        assert!(removed > ENTRIES / 2);
    });
    assert_few_waits(range, 500);
    let clear = waits(fill_tree, |db| {
        assert_eq!(db.tree("t").unwrap().clear().unwrap(), ENTRIES);
    });
    assert_few_waits(clear, 1000);
}

/// Nothing that a crash leaves is in memory when it is opened again.
#[test]
fn a_replay_waits_for_few_leaves() {
    let disk = Arc::new(Cold::default());
    let db = open(&disk, LARGE);
    fill_tree(&db);
    db.checkpoint().unwrap();
    let changed = (0..ENTRIES).step_by(40).map(|n| (key(n), [1; 100]));
    db.tree("t").unwrap().put_many(changed).unwrap();
    let killed = Cold::default();
    let mut bytes = vec![0; disk.length().unwrap() as usize];
    disk.disk.read_at(0, &mut bytes).unwrap();
    killed.disk.write_at(0, &bytes).unwrap();
    let killed = Arc::new(killed);
    let again = open(&killed, LARGE);
    assert_few_waits(killed.counts(), 500);
    let value = again.tree("t").unwrap().get(key(40)).unwrap();
    assert_eq!(value, Some(vec![1; 100]));
}

fn documents(value_bytes: usize) -> impl FnOnce(&Aurora) {
    move |db: &Aurora| {
        let schema = Schema::new()
            .field(Field::new("city", FieldType::Int).indexed())
            .field(Field::new("text", FieldType::String));
        db.new_collection("people", schema).unwrap();
        let text = "x".repeat(value_bytes);
        let people = db.collection("people").unwrap();
        let row = |n: i64| {
            let mut row = Object::new();
            row.insert("city", n % 20);
            row.insert("text", text.as_str());
            row
        };
        people.insert_many((0..8_000).map(row)).unwrap();
    }
}

#[test]
fn documents_found_by_an_index_are_asked_for_together() {
    // Within leaves, and in pages of their own.
    for (value_bytes, least) in [(300, 300), (3000, 400)] {
        let found = waits(documents(value_bytes), |db| {
            let query = db.query("people").filter(|f| f.eq("city", 7));
            assert_eq!(query.collect().wait().unwrap().len(), 400);
        });
        assert_few_waits(found, least);
    }
}

/// One document changes a leaf of each index. They were waited for one after the other.
#[test]
fn the_leaves_of_all_indexes_are_asked_for_together() {
    const INDEXES: u64 = 9;
    const INSERTS: u64 = 20;
    let row = |n: u64| {
        let mixed = |i: u64| (n * INDEXES + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
        Object::from_iter((0..INDEXES).map(|i| (format!("f{i}"), Value::from(mixed(i) as i64))))
    };
    let fill = |db: &Aurora| {
        let fields = (0..INDEXES).map(|i| Field::new(format!("f{i}"), FieldType::Int).indexed());
        let schema = fields.fold(Schema::new(), Schema::field);
        db.new_collection("people", schema).unwrap();
        let rows = (0..8_000).map(row);
        db.collection("people").unwrap().insert_many(rows).unwrap();
    };
    let one_by_one = |db: &Aurora| {
        for n in 0..INSERTS {
            let people = db.collection("people").unwrap();
            people.insert_fields(row(100_000 + n)).unwrap();
        }
    };
    let (waits_each, asked) = waits(fill, one_by_one);
    assert!(asked > INSERTS, "there was nothing to ask for: {asked}");
    assert!(waits_each < INSERTS, "{waits_each} waits, {asked} without");
    // As long as there is something to ask for, in a transaction of many too.
    let (waits_all, asked) = waits(fill, |db| {
        db.write(|tx| {
            let mut people = tx.collection("people")?;
            (0..INSERTS).try_for_each(|n| people.insert_fields(row(200_000 + n)).map(drop))
        })
        .unwrap();
    });
    assert!(waits_all < INSERTS, "{waits_all} waits, {asked} without");
}

#[test]
fn many_keys_are_asked_for_together() {
    let keys: Vec<_> = (0..ENTRIES).step_by(100).map(key).collect();
    let found = waits(fill_tree, |db| {
        let found = db.tree("t").unwrap().get_many(&keys).unwrap();
        assert_eq!(found.iter().flatten().count(), keys.len());
    });
    assert_few_waits(found, 300);
}

/// One by one they were looked for there.
#[test]
fn a_transaction_asks_for_many_keys_and_documents_together() {
    let keys: Vec<_> = (0..ENTRIES).step_by(100).map(key).collect();
    let found = waits(fill_tree, |db| {
        let mut tx = db.begin_write().unwrap();
        let mut tree = tx.tree("t").unwrap();
        tree.put("own", "change").unwrap();
        let found = tree.view().get_many(&keys).unwrap();
        assert_eq!(found.iter().flatten().count(), keys.len());
    });
    assert_few_waits(found, 300);
    for (value_bytes, least) in [(300, 300), (3000, 400)] {
        let found = waits(documents(value_bytes), |db| {
            let tx = db.begin_write().unwrap();
            let query = db.query("people").filter(|f| f.eq("city", 7));
            assert_eq!(query.collect_in(&tx).unwrap().len(), 400);
        });
        assert_few_waits(found, least);
    }
}

/// Whoever wanted to know which keys there are read all that they hold.
#[test]
fn keys_alone_are_read_without_the_values() {
    const VALUES: u64 = 2_000;
    let fill = |db: &Aurora| {
        let entries = (0..VALUES).map(|n| (key(n), vec![n as u8; 3000]));
        db.tree("t").unwrap().put_many(entries).unwrap();
        db.write(|tx| (0..VALUES).try_for_each(|n| tx.put(key(n), vec![n as u8; 3000], None)))
            .unwrap();
    };
    let read = |read: &dyn Fn(&Aurora) -> aurora::Result<usize>| {
        let (waits, asked) = waits(fill, |db| assert_eq!(read(db).unwrap(), 2_000));
        assert!(waits + asked < 200, "{waits} waits, {asked} without");
    };
    let count = |mut keys: Box<dyn Iterator<Item = aurora::Result<Vec<u8>>> + '_>| {
        keys.try_fold(0, |count, key| key.map(|_| count + 1))
    };
    read(&|db| count(Box::new(db.tree("t")?.iter()?.keys())));
    read(&|db| count(Box::new(db.tree("t")?.iter()?.keys().rev())));
    read(&|db| db.read(|snapshot| count(Box::new(snapshot.tree("t")?.iter().keys()))));
    read(&|db| db.read(|snapshot| count(Box::new(snapshot.tree("t")?.iter().keys().rev()))));
    read(&|db| count(Box::new(db.scan_keys_prefix("")?)));
    read(&|db| count(Box::new(db.scan_keys_prefix("")?.rev())));
    read(&|db| {
        let tree = db.tree("t")?;
        (0..VALUES).try_fold(
            0,
            |count, n| Ok(count + usize::from(tree.contains(key(n))?)),
        )
    });
}

/// It looked at each document, where the index knows how many there are.
#[test]
fn a_transaction_counts_by_an_index_without_the_documents() {
    let (waits, asked) = waits(documents(3000), |db| {
        let mut tx = db.begin_write().unwrap();
        let city = || db.query("people").filter(|f| f.eq("city", 7));
        let before = city().count_in(&tx).unwrap();
        let mut people = tx.collection("people").unwrap();
        people.insert_fields([("city", 7)]).unwrap();
        assert_eq!((before, city().count_in(&tx).unwrap()), (400, 401));
    });
    assert!(waits + asked < 100, "{waits} waits, {asked} without");
}

/// Those that it has changed, in memory or written early, beside those that it has not; in any order, some twice.
#[test]
fn a_transaction_finds_many_keys_as_it_finds_each() {
    let disk = Arc::new(Cold::default());
    let db = open(&disk, 1 << 20);
    fill_tree(&db);
    let mut tx = db.begin_write().unwrap();
    let mut tree = tx.tree("t").unwrap();
    for n in (0..ENTRIES).step_by(3) {
        let length = [90, 2_000, 5_000, 40_000][(n / 3 % 97).min(3) as usize];
        tree.put(key(n), vec![n as u8; length]).unwrap();
        tree.delete(key(n + 1)).unwrap();
    }
    let all: Vec<_> = { (0..ENTRIES).rev().chain(0..ENTRIES + 500).chain(7..70) }
        .map(key)
        .collect();
    let together = tree.view().get_many(&all).unwrap();
    for (key, together) in all.iter().zip(together) {
        let alone = tree.get(key).unwrap();
        assert!(alone.as_deref() == together.as_deref());
    }
}

#[test]
fn a_check_and_a_compaction_wait_for_few_leaves() {
    let check = waits(fill_tree, |db| {
        db.check().unwrap();
    });
    assert_few_waits(check, 1000);
    let half = |db: &Aurora| {
        fill_tree(db);
        let keys = (0..ENTRIES).step_by(2).map(key);
        db.tree("t").unwrap().delete_many(keys).unwrap();
    };
    let compact = waits(half, |db| {
        assert!(db.compact().unwrap() > 0);
    });
    assert_few_waits(compact, 1000);
}

/// Where the system does not tell what it has, or has everything, nothing is asked for.
#[test]
fn what_is_in_memory_is_not_asked_for() {
    let disk = Arc::new(Cold {
        is_silent: true,
        ..Cold::default()
    });
    let db = open(&disk, LARGE);
    fill_tree(&db);
    db.close().unwrap();
    let db = open(&disk, LARGE);
    disk.forget();
    let scan = || {
        let snapshot = db.begin_read().unwrap();
        snapshot.tree("t").unwrap().range::<&[u8]>(..).count()
    };
    assert_eq!(scan() as u64, ENTRIES);
    assert_eq!(disk.counts().1, 0);
}

/// What left memory again for want of room is asked for again.
#[test]
fn pages_that_no_frame_holds_are_asked_for_each_time() {
    let disk = Arc::new(Cold::default());
    let db = open(&disk, 1 << 20);
    fill_tree(&db);
    db.checkpoint().unwrap();
    for _ in 0..3 {
        disk.forget();
        let snapshot = db.begin_read().unwrap();
        let count = snapshot.tree("t").unwrap().range::<&[u8]>(..).count();
        assert_eq!(count as u64, ENTRIES);
        assert_few_waits(disk.counts(), 900);
    }
}
