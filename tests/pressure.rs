//! Transactions with more changes than the memory limit, among ordinary ones, at random: pages are written before
//! their transaction commits, and come back; savepoints, ranges that go, compactions and power cuts between and within.
//! Compared with a plain model after each reopening.
//! And that changes of what was written early before stay within the limit, too.
//!
//! Longer with `AURORA_TEST_BUDGET`; one seed again with `AURORA_SEED`.

mod common;
#[path = "common/memory.rs"]
mod memory;

use std::collections::BTreeMap;
use std::sync::Arc;

use aurora::storage::{MemoryStorage, SimCrash, SimDisk, SimFault, SimOperation};
use aurora::{Aurora, Durability, Error, Index, Object, Result, Schema, WriteTransaction};
use common::{Random, budget, each, repeatable};

/// Entries of a tree, so many that a few thousand of them are more than the memory.
const KEYS: u64 = 6_000;
const TREES: [&str; 2] = ["a", "b"];

/// What each key holds: the length of its value and the byte that fills it.
type Model = BTreeMap<(usize, u64), (usize, u8)>;

struct Run {
    seed: u64,
    random: Random,
    disk: SimDisk,
    db: Option<Aurora>,
    /// What a power cut may leave: the last acknowledged state, and that of a commit under way.
    model: Model,
    history: Vec<String>,
}

/// Says which seed to run again.
impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} after {:?}", self.seed, self.history);
        }
    }
}

fn open(disk: &SimDisk) -> Aurora {
    repeatable().open_storage(disk.storage()).unwrap()
}

/// Half of the seeds ask for keys in their order, which fills leaves that are written ahead.
fn key(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

fn contents(db: &Aurora) -> Model {
    let snapshot = db.begin_read().unwrap();
    let mut found = Model::new();
    for (number, name) in TREES.iter().enumerate() {
        let Ok(tree) = snapshot.tree(name) else {
            continue;
        };
        for entry in tree.iter() {
            let (key, value) = entry.unwrap();
            let n = u64::from_be_bytes(key.try_into().unwrap());
            let byte = value.first().copied().unwrap_or_default();
            assert!(value.iter().all(|own| *own == byte));
            found.insert((number, n), (value.len(), byte));
        }
        let of_tree = found.keys().filter(|(of, _)| *of == number).count();
        assert_eq!(tree.len(), of_tree as u64);
    }
    found
}

impl Run {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let db = open(&disk);
        Run {
            seed,
            random: Random(seed),
            disk,
            db: Some(db),
            model: Model::new(),
            history: Vec::new(),
        }
    }

    fn db(&self) -> &Aurora {
        self.db.as_ref().unwrap()
    }

    /// Puts or deletes so many entries, in order or not.
    fn change(&mut self, tx: &mut WriteTransaction, model: &mut Model, entries: u64) -> Result<()> {
        let tree = self.random.below(2) as usize;
        let (length, entries) = match self.random.below(12) {
            // Several pages each.
            0 => (5_000 + self.random.below(20_000) as usize, entries.min(150)),
            n => ([20, 150, 400, 900][n as usize % 4], entries),
        };
        let step = [0, 0, 1, 97, 13][self.random.below(5) as usize];
        let start = self.random.below(KEYS);
        let deletes = self.random.below(6) == 0;
        let byte = self.random.below(256) as u8;
        for i in 0..entries {
            let n = match step {
                0 => self.random.below(KEYS),
                step => (start + i * step) % KEYS,
            };
            let mut view = tx.tree(TREES[tree])?;
            if deletes {
                view.delete(key(n))?;
                model.remove(&(tree, n));
            } else {
                view.put(key(n), vec![byte; length])?;
                model.insert((tree, n), (length, byte));
            }
        }
        if self.random.below(8) == 0 {
            let (low, high) = (start, start + self.random.below(KEYS / 4));
            tx.tree(TREES[tree])?.delete_range(key(low)..key(high))?;
            model.retain(|(of, n), _| *of != tree || !(low..high).contains(n));
        }
        Ok(())
    }

    fn transaction(&mut self, parts: u64, entries: u64) {
        let db = self.db().clone();
        let mut tx = db.begin_write().unwrap();
        let mut model = self.model.clone();
        for _ in 0..parts {
            let before = model.clone();
            let savepoint = (self.random.below(3) == 0).then(|| tx.savepoint().unwrap());
            let entries = 1 + self.random.below(entries);
            self.change(&mut tx, &mut model, entries).unwrap();
            if let Some(savepoint) = savepoint
                && self.random.below(2) == 0
            {
                tx.roll_back_to(&savepoint).unwrap();
                model = before;
            }
        }
        if self.random.below(10) > 0 {
            tx.commit().unwrap();
            self.model = model;
        }
    }

    fn step(&mut self) {
        let (name, parts, entries) = match self.random.below(12) {
            0..5 => ("small", 1, 10),
            5..8 => ("large", 2, 6_000),
            8 => ("parts", 8, 1_500),
            9 => return self.note("checkpoint", |run| run.db().checkpoint().unwrap()),
            10 => return self.note("compact", |run| _ = run.db().compact().unwrap()),
            _ => return self.note("cut", Run::cut),
        };
        self.note(name, |run| run.transaction(parts, entries));
    }

    fn note(&mut self, name: &str, step: impl FnOnce(&mut Run)) {
        self.history.push(name.to_string());
        step(self);
    }

    /// The power goes, or the program ends as it should.
    fn cut(&mut self) {
        let seed = self.random.next();
        let variant = match seed % 4 {
            0 => SimCrash::LoseAll,
            1 => SimCrash::Sectors { seed },
            2 => SimCrash::Random { seed },
            _ => SimCrash::KeepAll,
        };
        if seed.is_multiple_of(5) {
            self.db.take().unwrap().close().unwrap();
            self.disk = self.disk.reopen();
        } else {
            let image = self.disk.crash_image(variant);
            self.db = None;
            self.disk = image;
        }
        self.db = Some(open(&self.disk));
        let db = self.db();
        db.check().unwrap();
        let found = contents(db);
        let (entries, expected) = (found.len(), self.model.len());
        assert!(found == self.model, "{entries} entries and not {expected}");
    }
}

#[test]
fn large_transactions_among_small_ones_survive_power_cuts() {
    let seeds: Vec<u64> = match std::env::var("AURORA_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..budget(24)).collect(),
    };
    each(&seeds, |seed| {
        let mut run = Run::new(*seed);
        for _ in 0..40 {
            run.step();
        }
        run.cut();
    });
}

/// What is changed again has left memory, and leaves it again: pages came back one by one and all stayed, for as long as
/// the transaction needed no new page.
#[test]
fn pages_that_are_changed_again_stay_within_the_memory_limit() {
    const ENTRIES: u64 = 40_000;
    const LIMIT_BYTES: u64 = 1 << 20;
    let scattered = |n: u64| key(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let disk = SimDisk::new(1);
    let db = open(&disk);
    db.write(|tx| {
        let all = (0..ENTRIES).map(|n| (scattered(n), [0; 200]));
        tx.tree("t")?.put_many(all).map(drop)
    })
    .unwrap();
    let mut sorted: Vec<[u8; 8]> = (0..ENTRIES).map(scattered).collect();
    sorted.sort_unstable();
    let leaves = db.tree_stats().unwrap()["t"].leaf_pages;
    let changed_bytes = leaves * u64::from(db.stats().unwrap().page_size);
    assert!(changed_bytes > 8 * LIMIT_BYTES);
    let mut tx = db.begin_write().unwrap();
    for pass in 1..=8u8 {
        let before = db.stats().unwrap().written.spill;
        let mut tree = tx.tree("t").unwrap();
        match pass {
            1..=3 => {
                for key in &sorted {
                    tree.put(key, [pass; 200]).unwrap();
                }
            }
            4..=6 => {
                let all = (0..ENTRIES).map(|n| (scattered(n), [pass; 200]));
                tree.put_many(all).unwrap();
            }
            // Two of five, so that hardly any leaf is merged with another; some of each leaf.
            7 => {
                tree.delete_many(sorted.iter().step_by(5)).unwrap();
            }
            _ => {
                let place = |key: &[u8; 8]| sorted.binary_search(key).unwrap();
                let some = (0..ENTRIES).map(scattered);
                for key in some.filter(|key| place(key) % 5 == 1) {
                    tree.delete(key).unwrap();
                }
            }
        }
        let written = db.stats().unwrap().written.spill - before;
        let left_bytes = changed_bytes.saturating_sub(written);
        assert!(
            left_bytes < LIMIT_BYTES,
            "{left_bytes} bytes in pass {pass}"
        );
    }
    tx.commit().unwrap();
    drop(db);
    let db = open(&disk);
    db.check().unwrap();
    let snapshot = db.begin_read().unwrap();
    let tree = snapshot.tree("t").unwrap();
    assert_eq!(tree.len(), ENTRIES * 3 / 5);
    for entry in tree.iter() {
        assert_eq!(entry.unwrap().1, [6; 200]);
    }
}

fn fill(tx: &mut WriteTransaction, entries: u64, put: &mut u64) -> Result<()> {
    (0..entries).try_for_each(|n| {
        tx.tree("t")?.put(key(n), [1; 200])?;
        *put += 1;
        Ok(())
    })
}

/// That a leaf could not be written was told by the commit alone, however much came after it: all of that stayed in
/// memory. And no rollback helped.
#[test]
fn a_full_disk_is_met_by_the_next_change_and_undone_by_a_rollback() {
    const ENTRIES: u64 = 40_000;
    for background in [false, true] {
        let disk = SimDisk::new(1);
        let builder = repeatable().background(background);
        let db = builder.open_storage(disk.storage()).unwrap();
        let mut tx = db.begin_write().unwrap();
        tx.tree("u").unwrap().put("before", "1").unwrap();
        let savepoint = tx.savepoint().unwrap();
        disk.set_capacity(Some(1 << 20));
        let mut put = 0;
        let error = fill(&mut tx, ENTRIES, &mut put).unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        // The disk, the limit and some more.
        assert!(put * 208 < 4 << 20, "{put} entries put");
        let again = tx.tree("t").and_then(|mut tree| tree.put("k", "v"));
        assert!(matches!(again, Err(Error::TransactionFailed)), "{again:?}");
        disk.set_capacity(None);
        tx.roll_back_to(&savepoint).unwrap();
        fill(&mut tx, ENTRIES, &mut put).unwrap();
        tx.commit().unwrap();
        db.check().unwrap();
        drop(db);
        let db = open(&disk);
        assert_eq!(db.check().unwrap().entries, ENTRIES + 1);
        assert!(db.tree("u").unwrap().contains("before").unwrap());
    }
}

/// At whatever moment a leaf cannot be written: it is not lost, neither to what is put into it later nor to a commit.
#[test]
fn leaves_that_could_not_be_written_once_are_written_later() {
    let mut failures = 0;
    for entries in (700..1500).step_by(7) {
        for way in 0..3 {
            let disk = SimDisk::new(entries);
            let db = open(&disk);
            let mut tx = db.begin_write().unwrap();
            let start = tx.savepoint().unwrap();
            disk.fail_once(SimOperation::Write, 1 + entries % 3, SimFault::Eio);
            let mut put = 0;
            let filled = fill(&mut tx, entries, &mut put);
            failures += u64::from(filled.is_err());
            let count = match (filled, way) {
                (Err(_), _) => {
                    tx.roll_back_to(&start).unwrap();
                    fill(&mut tx, entries, &mut put).unwrap();
                    entries
                }
                (Ok(()), 0) => entries,
                // What it is rolled back to may be what could not be written.
                (Ok(()), 1) => {
                    let savepoint = tx.savepoint().unwrap();
                    let more = (0..entries).try_for_each(|n| {
                        let mut tree = tx.tree("t")?;
                        tree.put(key(n), [2; 300]).map(drop)
                    });
                    failures += u64::from(more.is_err());
                    tx.roll_back_to(&savepoint).unwrap();
                    entries
                }
                // Some of it is gone.
                (Ok(()), _) => {
                    let all = tx.tree("t").unwrap().delete_range(key(0)..key(650));
                    failures += u64::from(all.is_err());
                    match all {
                        Ok(_) => entries - 650,
                        Err(_) => {
                            tx.roll_back_to(&start).unwrap();
                            0
                        }
                    }
                }
            };
            disk.clear_faults();
            tx.commit().unwrap();
            db.check().unwrap();
            drop(db);
            let db = open(&disk);
            assert_eq!(db.check().unwrap().entries, count, "{entries} {way}");
            let tree = db.tree("t").unwrap();
            for n in entries - count..entries {
                let value = tree.get(key(n)).unwrap();
                assert!(count == 0 || value.is_some_and(|value| value[..] == [1; 200]));
            }
        }
    }
    assert!(failures > 0);
}

/// Each savepoint kept a list of all pages that wait to be used again.
#[cfg(target_os = "linux")]
#[test]
fn many_savepoints_take_little_memory() {
    if !memory::is_alone("many_savepoints_take_little_memory") {
        return;
    }
    let db = open(&SimDisk::new(1));
    let mut tx = db.begin_write().unwrap();
    for n in 0..2_500 {
        tx.tree("u").unwrap().put(key(n), vec![1; 16_000]).unwrap();
    }
    tx.tree("u").unwrap().clear().unwrap();
    let before = memory::memory_kib();
    let mut held = Vec::new();
    for n in 0..6_000 {
        held.push(tx.savepoint().unwrap());
        tx.tree("t").unwrap().put(key(n % 10), "x").unwrap();
    }
    // It was some 190 MiB.
    let more = memory::memory_kib().saturating_sub(before);
    assert!(more < 120 << 10, "{more} KiB");
    tx.commit().unwrap();
    db.check().unwrap();
}

/// With a savepoint for each row a page or more stayed in memory for each of them, and was written at the end: 20,000 changes
/// of 2,000 entries took 170 MiB of memory, and as much of the file.
#[cfg(target_os = "linux")]
#[test]
fn savepoints_that_nobody_holds_keep_nothing() {
    if !memory::is_alone("savepoints_that_nobody_holds_keep_nothing") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let builder = Aurora::builder().background(false);
    let db = builder.open(directory.path().join("file")).unwrap();
    let tree = db.tree("t").unwrap();
    tree.put_many((0..2_000).map(|n| (key(n), [0; 100])))
        .unwrap();
    let before = memory::memory_kib();
    let mut tx = db.begin_write().unwrap();
    let outer = tx.savepoint().unwrap();
    for n in 0..20_000u64 {
        let row = tx.savepoint().unwrap();
        let put = |tx: &mut WriteTransaction, value| {
            let mut tree = tx.tree("t").unwrap();
            tree.put(key(n * 7 % 2_000), [value; 100]).unwrap();
        };
        put(&mut tx, 1);
        if n % 10 == 9 {
            put(&mut tx, 2);
            tx.roll_back_to(&row).unwrap();
        }
    }
    let more = memory::memory_kib().saturating_sub(before);
    assert!(more < 16 << 10, "{more} KiB");
    drop(outer);
    tx.commit().unwrap();
    db.checkpoint().unwrap();
    let stats = db.stats().unwrap();
    let bytes = stats.file_bytes - stats.log_pages * 4096;
    assert!(bytes < 8 << 20, "{bytes} bytes beside the log");
    db.check().unwrap();
    let all = tree.count::<&[u8]>(..).unwrap();
    assert_eq!(all, 2_000);
}

/// Nothing may leave memory while there is a savepoint in front of it: between a row and the next there is none.
#[cfg(target_os = "linux")]
#[test]
fn rows_with_a_savepoint_each_stay_within_the_memory_limit() {
    if !memory::is_alone("rows_with_a_savepoint_each_stay_within_the_memory_limit") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let builder = Aurora::builder().background(false).memory_limit(4 << 20);
    let db = builder.open(directory.path().join("file")).unwrap();
    let before = memory::memory_kib();
    let mut tx = db.begin_write().unwrap();
    for n in 0..100_000u64 {
        let row = tx.savepoint().unwrap();
        let mut tree = tx.tree("t").unwrap();
        tree.put(key(n), [1; 300]).unwrap();
        if n % 10 == 9 {
            tx.roll_back_to(&row).unwrap();
        }
    }
    // Of 27 MB.
    let more = memory::memory_kib().saturating_sub(before);
    assert!(more < 16 << 10, "{more} KiB");
    tx.commit().unwrap();
    db.check().unwrap();
    assert_eq!(db.tree("t").unwrap().len().unwrap(), 90_000);
}

/// Entries of indexes wait to be stored in their order: with long values, no more of them than the memory is for.
#[cfg(target_os = "linux")]
#[test]
fn index_entries_that_wait_stay_within_the_memory_limit() {
    if !memory::is_alone("index_entries_that_wait_stay_within_the_memory_limit") {
        return;
    }
    const DOCUMENTS: u64 = 12_000;
    const FIELDS: [&str; 4] = ["a", "b", "c", "d"];
    let directory = tempfile::tempdir().unwrap();
    let builder = Aurora::builder().background(false).memory_limit(4 << 20);
    let db = builder.open(directory.path().join("file")).unwrap();
    let schema = { FIELDS.iter() }.fold(Schema::schemaless(), |schema, field| {
        schema.index(Index::on([*field]))
    });
    db.new_collection("c", schema).unwrap();
    let before = memory::memory_kib();
    let more = std::cell::Cell::new(0);
    let document = |n: u64| {
        if n + 1 == DOCUMENTS {
            more.set(memory::memory_kib().saturating_sub(before));
        }
        let text = format!("{:0400}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        FIELDS.map(|field| (field, text.as_str())).into()
    };
    let mut tx = db.begin_write().unwrap();
    let all = (0..DOCUMENTS).map(|n| -> Object { document(n) });
    tx.collection("c").unwrap().insert_many(all).unwrap();
    // Of 25 MB.
    assert!(more.get() < 16 << 10, "{} KiB", more.get());
    tx.commit().unwrap();
    db.check().unwrap();
}

/// What a commit had replaced or removed stayed in memory until thousands of calls more had come, and for ever where none
/// came: after a close, too.
#[cfg(target_os = "linux")]
#[test]
fn memory_of_what_was_removed_goes_back_to_the_system() {
    if !memory::is_alone("memory_of_what_was_removed_goes_back_to_the_system") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, background) in [("inline", false), ("threads", true)] {
        let builder = Aurora::builder().background(background).log_limit(8 << 20);
        let db = builder.open(directory.path().join(name)).unwrap();
        let tree = db.tree("t").unwrap();
        let before = memory::memory_kib();
        let entries = (0..60_000).map(|n| (key(n), [7; 1000]));
        tree.put_many(entries).unwrap();
        tree.clear().unwrap();
        // It was 60 MiB. (A thread gives the memory back, and has to get its turn.)
        let left = || memory::memory_kib().saturating_sub(before);
        let start = std::time::Instant::now();
        while left() >= 20 << 10 && start.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let left = left();
        assert!(left < 20 << 10, "{name}: {left} KiB");
        db.close().unwrap();
    }
}

/// What had left the cache waited for dozens of others before its memory was given back.
#[cfg(target_os = "linux")]
#[test]
fn long_values_that_have_left_the_cache_take_little_memory() {
    if !memory::is_alone("long_values_that_have_left_the_cache_take_little_memory") {
        return;
    }
    const LIMIT_BYTES: usize = 32 << 20;
    // There is no map: each long value that is read takes memory of its own.
    let builder = Aurora::builder().memory_limit(LIMIT_BYTES).hot_limit(0);
    let storage = Arc::new(MemoryStorage::new());
    let db = builder.open_storage(storage).unwrap();
    let tree = db.tree("t").unwrap();
    for n in 0..24u8 {
        tree.put([n], vec![n; LIMIT_BYTES / 8]).unwrap();
    }
    let before = memory::memory_kib();
    let mut most = 0;
    for n in (0..24u8).cycle().take(200) {
        let snapshot = db.begin_read().unwrap();
        let value = snapshot.tree("t").unwrap().get([n]).unwrap().unwrap();
        assert_eq!(value.last(), Some(&n));
        most = most.max(memory::memory_kib());
    }
    // It was some 800 MiB. (The system's allocator keeps some more than is used.)
    let more = most.saturating_sub(before);
    assert!(more < (6 * LIMIT_BYTES as u64) >> 10, "{more} KiB");
}

/// A tree with little memory for it, and how much all of it is. There is no map: each page that is read takes memory.
#[cfg(target_os = "linux")]
fn large_tree() -> (Aurora, u64) {
    const ENTRIES: u64 = 60_000;
    let builder = Aurora::builder().memory_limit(1 << 20).hot_limit(0);
    let storage = Arc::new(MemoryStorage::new());
    let db = builder.open_storage(storage).unwrap();
    let entries = (0..ENTRIES).map(|n| (key(n), [7; 1000]));
    db.tree("t").unwrap().put_many(entries).unwrap();
    (db, ENTRIES)
}

/// All pages that it had read stayed in memory until its end.
#[cfg(target_os = "linux")]
#[test]
fn a_call_for_many_keys_takes_little_memory() {
    if !memory::is_alone("a_call_for_many_keys_takes_little_memory") {
        return;
    }
    let (db, entries) = large_tree();
    let before = memory::memory_kib();
    let keys = (0..entries).step_by(8).map(key);
    let found = db.tree("t").unwrap().get_many(keys).unwrap();
    assert!(found.iter().flatten().count() as u64 == entries / 8);
    // 8 MiB are what was found. It was some 36 MiB.
    let more = memory::memory_kib().saturating_sub(before);
    assert!(more < 24 << 10, "{more} KiB");
}

/// Pages that had left the cache stayed in memory as long as there was a reader.
#[cfg(target_os = "linux")]
#[test]
fn a_reader_of_many_keys_takes_little_memory() {
    if !memory::is_alone("a_reader_of_many_keys_takes_little_memory") {
        return;
    }
    let (db, entries) = large_tree();
    let before = memory::memory_kib();
    let snapshot = db.begin_read().unwrap();
    let mut reader = snapshot.tree("t").unwrap().reader();
    for n in 0..2 * entries {
        let key = key(n % entries);
        assert_eq!(reader.get(key).unwrap(), Some(&[7; 1000][..]));
    }
    // It was some 160 MiB.
    let more = memory::memory_kib().saturating_sub(before);
    assert!(more < 12 << 10, "{more} KiB");
}

/// Someone else in the program uses the crate that tells when memory can be used again, and takes long about it: all that
/// commits had replaced meanwhile stayed in memory.
#[cfg(target_os = "linux")]
#[test]
fn what_others_in_the_program_pin_keeps_no_memory() {
    if !memory::is_alone("what_others_in_the_program_pin_keeps_no_memory") {
        return;
    }
    let db = open(&SimDisk::new(1));
    let tree = db.tree("t").unwrap();
    let entries = (0..2_000).map(|n| (key(n), [1; 100]));
    tree.put_many(entries).unwrap();
    let commits = || (0..6_000).for_each(|n| _ = tree.put(key(n % 2_000), [2; 100]).unwrap());
    commits();
    let _pin = crossbeam_epoch::pin();
    let before = memory::memory_kib();
    commits();
    // It was some 48 MiB.
    let more = memory::memory_kib().saturating_sub(before);
    assert!(more < 16 << 10, "{more} KiB");
}

/// The places of a value of several pages served single ones alone.
#[test]
fn a_long_value_that_is_put_again_and_again_takes_its_places_again() {
    let disk = SimDisk::new(1);
    let db = open(&disk);
    db.write(|tx| {
        let savepoint = tx.savepoint()?;
        for n in 0..2_000u64 {
            let length = 5_000 + n as usize % 3 * 10_000;
            tx.tree("t")?.put("k", vec![n as u8; length])?;
            if n % 100 == 0 {
                tx.roll_back_to(&savepoint)?;
            }
        }
        Ok(())
    })
    .unwrap();
    let last = db.tree("t").unwrap().get("k").unwrap().unwrap();
    assert!(last[..] == [1999_u64 as u8; 15_000]);
    let file_bytes = db.stats().unwrap().file_bytes;
    assert!(file_bytes < 4 << 20, "{file_bytes} bytes");
    db.check().unwrap();
}

/// The log was 16 to 32 MiB long after a while, whatever the file held.
#[test]
fn a_file_with_little_data_has_a_short_log_and_one_with_more_a_longer_one() {
    let builder = Aurora::builder()
        .background(false)
        .durability(Durability::Buffered);
    let storage = Arc::new(MemoryStorage::new());
    let db = builder.open_storage(storage).unwrap();
    for n in 0..150_000u64 {
        db.put((n % 500).to_be_bytes(), [n as u8; 100], None)
            .unwrap();
    }
    let stats = db.stats().unwrap();
    assert!(stats.file_bytes < 10 << 20, "{} bytes", stats.file_bytes);
    for batch in 0..1_000u64 {
        let keys = (0..100).map(|n| (batch * 100 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let entries = keys.map(|key| (key.to_be_bytes(), [batch as u8; 400]));
        db.write(|tx| tx.tree("more")?.put_many(entries)).unwrap();
    }
    let stats = db.stats().unwrap();
    let log_bytes = stats.log_pages * u64::from(stats.page_size);
    assert!(log_bytes > 10 << 20, "{log_bytes} bytes");
    db.check().unwrap();
}

/// At first the map serves what memory would have to be made for. What is read again moves there, and all of it in a while.
#[test]
fn what_is_read_again_lies_in_memory_in_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.db");
    let entries = || (0..60_000u32).map(|key| (key.to_be_bytes(), [key as u8; 200]));
    let db = Aurora::open(&path).unwrap();
    db.write(|tx| tx.tree("t")?.put_many(entries())).unwrap();
    db.close().unwrap();
    let db = Aurora::open(&path).unwrap();
    let snapshot = db.begin_read().unwrap();
    let tree = snapshot.tree("t").unwrap();
    let begun = std::time::Instant::now();
    loop {
        for (key, value) in entries() {
            assert_eq!(tree.get(key).unwrap().as_deref(), Some(&value[..]));
        }
        let clean_bytes = db.stats().unwrap().clean_bytes;
        if clean_bytes > 60_000 * 200 {
            break;
        }
        assert!(begun.elapsed().as_secs() < 60, "{clean_bytes} bytes");
    }
}
