//! Files that were damaged with knowledge of their structure, and sealed again so that the damage
//! is reached: by every command, and by the engine.
//!
//! Nothing panics, hangs, takes memory without bound or overflows the stack. Where `check` finds
//! nothing wrong, the engine finds nothing wrong either and shows the same entries, and `salvage`
//! loses nothing. What the engine does not open it leaves as it is, and it says that the file is damaged, not that the
//! caller or the device is wrong; so it does of what it cannot read.
//!
//! `AURORA_TEST_BUDGET=100 cargo test --release -p aurora-inspect --test fuzz` runs a hundred times
//! as much; `AURORA_FUZZ_SEED` begins somewhere else, `AURORA_FUZZ_ONLY` tries a
//! single case. What fails is written to the directory
//! `AURORA_FUZZ_KEEP`, if it is set; files that once failed are in `corpus`.

mod common;
#[path = "../../../tests/common/mod.rs"]
#[allow(unused_imports)]
mod engine;
#[path = "fuzz/work.rs"]
mod work;

use std::path::Path;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use aurora::anatomy::{self, Cell, Node, PageHeader, RECORD_HEADER_BYTES};
use aurora::storage::MemoryStorage;
use aurora::{Aurora, Error, Filter};
use aurora_inspect::commands::{self, PageOptions};
use aurora_inspect::entries::Database;
use aurora_inspect::salvage::salvage;
use aurora_inspect::walk::for_each_entry;
use aurora_inspect::{Options, Silent, Source, Survey, Use, wal::Wal};
use common::{Surgeon, memory, source, trees};
use engine::listing::Still;
use engine::{Random, budget};

/// No case takes longer, on a slow machine and without optimization.
const TIME_LIMIT: Duration = Duration::from_secs(120);
/// No case makes the process larger than this.
const MEMORY_LIMIT_KIB: u64 = 2 << 20;

/// Something in a file that can be changed.
#[derive(Debug, Clone)]
enum Place {
    Slot(u32),
    Node(u32),
    Space(u32),
    /// The value of an entry of a leaf.
    Value {
        page: u32,
        at: usize,
        length: usize,
    },
    /// The key of one, as far as it is in its cell.
    Key {
        page: u32,
        at: usize,
        length: usize,
    },
    Run {
        first: u32,
        length: usize,
        leaf: u32,
        at: usize,
    },
    Record {
        offset: usize,
        bytes: usize,
    },
}

struct Base {
    name: String,
    bytes: Vec<u8>,
    page_size: usize,
    salt: u64,
    places: Vec<Place>,
}

fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        let mut bases = Vec::new();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/v1");
        let mut files: Vec<_> = std::fs::read_dir(golden)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        files.sort();
        for path in files
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "db"))
        {
            let name = path.file_name().unwrap().to_str().unwrap();
            bases.push(Base::new(name, std::fs::read(path).unwrap()));
        }
        for name in ["trees", "values", "documents-open"] {
            let mut samples = engine::samples::SAMPLES.iter();
            let sample = samples.find(|sample| sample.name == name).unwrap();
            bases.push(Base::new(name, sample.bytes().unwrap()));
        }
        bases.push(Base::new("everything of inspect", common::closed(4096, 1)));
        bases
    })
}

impl Base {
    fn new(name: &str, bytes: Vec<u8>) -> Self {
        let source = source(&bytes);
        let mut base = Base {
            name: name.to_string(),
            page_size: source.page_size() as usize,
            salt: source.salt(),
            places: vec![Place::Slot(0), Place::Slot(1)],
            bytes: Vec::new(),
        };
        let survey = Survey::take(&source, Options { read_runs: false }, &Silent).unwrap();
        for (page, info) in (0u32..).zip(&survey.pages) {
            match info.usage {
                Use::Leaf | Use::Branch => base.places.push(Place::Node(page)),
                Use::Bitmap | Use::Index => base.places.push(Place::Space(page)),
                _ => {}
            }
        }
        for tree in &survey.trees {
            for_each_entry(&source, &tree.name, &tree.root, |entry| {
                base.add_entry(&source, entry);
                true
            });
        }
        for record in Wal::read(&source, false).unwrap().records {
            let (offset, bytes) = (record.offset as usize, record.bytes as usize);
            // One that goes on at the start of the ring is left alone.
            if offset + bytes <= source.length() as usize {
                base.places.push(Place::Record { offset, bytes });
            }
        }
        base.bytes = bytes;
        base
    }

    fn add_entry(&mut self, source: &Source, entry: &aurora_inspect::walk::Entry<'_>) {
        let bytes = source.raw(entry.page).unwrap();
        let node = Node::read(&bytes, entry.page).unwrap();
        let (offset, suffix) = node.slot(entry.slot);
        let rest = usize::from(suffix.saturating_sub(4));
        let offset = usize::from(offset);
        match entry.cell {
            Cell::Inline(value) => {
                let is_own = PageHeader::decode(&bytes).lengths == 0;
                let offset = offset + if is_own { 2 } else { 0 };
                self.places.push(Place::Key {
                    page: entry.page,
                    at: offset,
                    length: rest,
                });
                let (at, length) = (offset + rest, value.len());
                self.places.push(Place::Value {
                    page: entry.page,
                    at,
                    length,
                });
            }
            Cell::Run(run) => {
                self.places.push(Place::Key {
                    page: entry.page,
                    at: offset,
                    length: rest,
                });
                self.places.push(Place::Run {
                    first: run.first,
                    length: run.length_bytes as usize,
                    leaf: entry.page,
                    at: offset + rest,
                });
            }
        }
    }

    /// The file with something changed in it.
    fn damage(&self, random: &mut Random) -> Vec<u8> {
        let mut surgeon = Surgeon::new(self.bytes.clone());
        for _ in 0..1 + random.below(3) {
            let by_kind = random.below(7);
            let of_kind: Vec<&Place> = { self.places.iter() }
                .filter(|place| place.kind() == by_kind)
                .collect();
            if !of_kind.is_empty() {
                let place = of_kind[random.below(of_kind.len() as u64) as usize];
                self.change(&mut surgeon, place, random);
            }
        }
        let mut bytes = surgeon.bytes;
        if random.chance(12) {
            let cut = random.below(bytes.len() as u64) as usize;
            bytes.truncate(cut);
        }
        bytes
    }

    fn change(&self, surgeon: &mut Surgeon, place: &Place, random: &mut Random) {
        match *place {
            Place::Slot(slot) => surgeon.slot(slot, |page| {
                // Magic and format rarely: then nothing else is looked at.
                let low = if random.chance(8) { 0 } else { 16 };
                mutate(&mut page[low..144], random);
            }),
            Place::Node(page) => surgeon.operate(page, |page| {
                let slots = 32 + 8 * usize::from(u16::from_le_bytes([page[18], page[19]]));
                let end = page.len();
                match random.below(4) {
                    0 => mutate(&mut page[4..32], random),
                    1 => mutate(&mut page[32..slots.clamp(33, end)], random),
                    2 => {
                        let cells = u32::from_le_bytes([page[20], page[21], page[22], page[23]]);
                        mutate(&mut page[(cells as usize).min(end - 1)..], random);
                    }
                    // Two slots change places.
                    _ => {
                        let count = (slots - 32) / 8;
                        let a = 32 + 8 * random.below(count as u64) as usize;
                        let b = 32 + 8 * random.below(count as u64) as usize;
                        if a.max(b) + 8 <= end {
                            (0..8).for_each(|i| page.swap(a + i, b + i));
                        }
                    }
                }
            }),
            Place::Space(page) => surgeon.operate(page, |page| {
                let end = if random.chance(2) { 80 } else { page.len() };
                mutate(&mut page[4..end], random);
            }),
            Place::Value { page, at, length } | Place::Key { page, at, length } => {
                surgeon.operate(page, |page| {
                    if let Some(part) = page.get_mut(at..at + length) {
                        mutate(part, random);
                    }
                });
            }
            Place::Run {
                first,
                length,
                leaf,
                at,
            } => {
                let start = first as usize * self.page_size;
                let value = &mut surgeon.bytes[start..start + length];
                mutate(value, random);
                let checksum = anatomy::crc32c(0, value);
                surgeon.operate(leaf, |page| {
                    if let Some(place) = page.get_mut(at + 8..at + 12) {
                        place.copy_from_slice(&checksum.to_le_bytes());
                    }
                });
            }
            Place::Record { offset, bytes } => {
                let record = &mut surgeon.bytes[offset..offset + bytes];
                match random.chance(3) {
                    true => mutate(&mut record[4..48], random),
                    false => mutate(&mut record[RECORD_HEADER_BYTES.min(bytes - 1)..], random),
                }
                let length = u32::from_le_bytes([record[4], record[5], record[6], record[7]]);
                let end = (RECORD_HEADER_BYTES + length as usize).min(bytes);
                record[end..].fill(0);
                let seed = anatomy::crc32c(0, &self.salt.to_le_bytes());
                let head = anatomy::crc32c(seed, &record[..48]);
                let sum = anatomy::crc32c(head, &record[RECORD_HEADER_BYTES.min(end)..end]);
                record[48..52].copy_from_slice(&sum.to_le_bytes());
            }
        }
    }
}

impl Place {
    fn kind(&self) -> u64 {
        match self {
            Place::Slot(_) => 0,
            Place::Node(_) => 1,
            Place::Space(_) => 2,
            Place::Value { .. } => 3,
            Place::Key { .. } => 4,
            Place::Run { .. } => 5,
            Place::Record { .. } => 6,
        }
    }
}

/// Changes a few bytes, to values that mean something more often than not.
fn mutate(bytes: &mut [u8], random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len() as u64) as usize;
        let width = [1, 1, 2, 4, 8][random.below(5) as usize].min(bytes.len() - at);
        let number = match random.below(10) {
            0 => 0,
            1 => u64::MAX,
            2 => 1,
            3 => 0x7fff_ffff_ffff_ffff,
            4 => 1 << random.below(64),
            5 => random.below(64),
            6 => random.below(70_000),
            _ => random.next(),
        };
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = bytes[at].wrapping_add(1),
            2 => {
                let from = random.below(bytes.len() as u64) as usize;
                let width = width.min(bytes.len() - from);
                bytes.copy_within(from..from + width, at);
            }
            _ => bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]),
        }
    }
}

/// Everything that can be done with a file.
fn try_all(bytes: &[u8]) {
    let healthy = inspect(bytes);
    let shown = use_it(bytes, healthy);
    if let (true, Some(shown)) = (healthy, shown) {
        let database = Database::of(source(bytes)).unwrap();
        for (tree, entries) in &shown {
            let mut found = database.entries(tree);
            for entry in entries {
                let (key, value) = found.next_entry().unwrap().unwrap();
                assert_eq!((&key, &value.read().unwrap()), (&entry.0, &entry.1));
            }
            assert!(found.next_entry().unwrap().is_none());
        }
    }
}

/// Runs all commands. Says whether the file is healthy, and nothing waits in its log.
fn inspect(bytes: &[u8]) -> bool {
    let open = || Source::read(memory(bytes), None);
    let report = commands::check(open, &Silent);
    // What waits in the log is sound as a log, but nobody has looked at what it will make.
    let healthy =
        report.is_ok_and(|report| !report.is_damaged && report.json["waiting_transactions"] == 0);
    rescue(bytes, healthy);
    for slot in [None, Some(0), Some(1)] {
        let Ok(source) = Source::read(memory(bytes), slot) else {
            continue;
        };
        let _ = commands::summary(&source);
        let _ = commands::wal(&source, true);
        let _ = commands::space(&source);
        let _ = commands::picture(&source, "file");
        let _ = commands::pages(&source, &commands::Filter::default());
        for page in 0..source.pages().min(12) {
            let _ = commands::page(
                &source,
                page,
                PageOptions {
                    hex: false,
                    full: true,
                },
            );
        }
        let names: Vec<String> = match Survey::take(&source, Options { read_runs: false }, &Silent)
        {
            Ok(survey) => survey.trees.iter().map(|tree| tree.name.clone()).collect(),
            Err(_) => Vec::new(),
        };
        for tree in names.iter().take(8) {
            let _ = commands::tree(&source, tree, true);
            let _ = commands::path(&source, tree, b"key:001");
        }
        for key in ["blob:large", "blob:small", "session 1", "long"] {
            let _ = commands::blob(&source, key.as_bytes());
        }
        let _ = commands::document(&source, "people", "00000000-0000-0000-0000-000000000006");
        let _ = commands::document(&source, "things", "3");
        if let Ok(database) = Database::of(source) {
            let mut text = Vec::new();
            if aurora_inspect::dump::dump(&database, &mut text).is_ok() {
                let to = Arc::new(MemoryStorage::new());
                let loaded = aurora_inspect::dump::load(&mut text.as_slice(), to, None);
                assert!(
                    !healthy || slot.is_some() || loaded.is_ok(),
                    "{:?}",
                    loaded.err()
                );
            }
            let _ = commands::diff(&database, &database, 5);
        }
    }
    healthy
}

fn rescue(bytes: &[u8], healthy: bool) {
    let to = MemoryStorage::new();
    let Ok(salvaged) = salvage(memory(bytes), Arc::new(to.clone()), &Silent) else {
        assert!(!healthy, "a healthy file cannot be salvaged");
        return;
    };
    let made = to.to_bytes();
    let report = common::check(&made);
    assert!(
        !report.is_damaged,
        "salvaged: {}\n{:#?}",
        report.text, salvaged.losses
    );
    if healthy {
        assert_eq!(salvaged.losses.lost_count, 0, "{:#?}", salvaged.losses);
        assert!(
            salvaged.losses.uncertain.is_empty(),
            "{:#?}",
            salvaged.losses
        );
    }
    drop(trees(&made));
}

type Shown = Vec<(String, Vec<(Vec<u8>, Vec<u8>)>)>;

/// Opens the file with the engine, reads all of it, and writes to it.
fn use_it(bytes: &[u8], healthy: bool) -> Option<Shown> {
    let must =
        |what: &str, error: &aurora::Error| assert!(!healthy, "healthy, but {what}: {error}");
    let builder = Aurora::builder().background(false).memory_limit(1 << 20);
    let builder = builder.clock(Arc::new(Still)).create(false);
    let storage = memory(bytes);
    let db = match builder.open_storage(storage.clone()) {
        Ok(db) => db,
        Err(error) => {
            must("it cannot be opened", &error);
            let is_foreign = matches!(
                error,
                Error::NotADatabase { .. }
                    | Error::NewerFormat { .. }
                    | Error::UnknownFeatures { .. }
            );
            assert!(is_foreign || error.is_corruption(), "{error:?}");
            is_left_alone(bytes, &storage.to_bytes());
            return None;
        }
    };
    if let Err(error) = db.check() {
        must("the engine's check fails", &error);
        assert!(error.is_corruption(), "{error:?}");
    }
    let shown = read_all(&db);
    if let Err(error) = &shown {
        must("it cannot be read", error);
        // A name in the wrong place of the catalog is listed and not found.
        let is_misplaced = matches!(error, Error::CollectionNotFound { .. });
        assert!(error.is_corruption() || is_misplaced, "{error:?}");
    }
    let wrote = write(&db);
    if let Err(error) = &wrote {
        must("it cannot be written to", error);
    }
    let compacted = db.compact();
    if let Err(error) = &compacted {
        must("it cannot be compacted", error);
    }
    if healthy && let Err(error) = db.check() {
        must("the engine's check fails after a write", &error);
    }
    if let Err(error) = db.close() {
        must("it cannot be closed", &error);
    }
    shown.ok()
}

/// What an open may have changed: a mark in the log, and free pages behind those of the header.
fn is_left_alone(before: &[u8], after: &[u8]) {
    let source = Source::read(memory(before), None);
    let header = source.ok().and_then(|source| source.header().ok().copied());
    let Some(header) = header else {
        assert!(before == after);
        return;
    };
    let page_size = header.page_size as usize;
    let needed = (header.pages as usize * page_size).min(before.len());
    assert!((needed..=before.len()).contains(&after.len()), "it was cut");
    for (page, (a, b)) in { before.chunks(page_size).zip(after.chunks(page_size)) }.enumerate() {
        let is_log = [header.log, header.next_log].iter().any(|ring| {
            let first = ring.first as usize;
            (first..first + ring.pages as usize).contains(&page)
        });
        // The newest header is written through again, to the slot of its number: a forged one can stand in the other.
        let is_renewed = page < 2 && before.chunks(page_size).take(2).any(|slot| slot == b);
        assert!(
            is_log || is_renewed || a.starts_with(b),
            "page {page} was changed"
        );
    }
}

fn read_all(db: &Aurora) -> aurora::Result<Shown> {
    let mut shown = Vec::new();
    let mut failed = None;
    let snapshot = db.begin_read()?;
    for name in db.tree_names()? {
        let tree = snapshot.tree(&name)?;
        match tree.iter().collect::<aurora::Result<Vec<_>>>() {
            Ok(entries) => shown.push((name.clone(), entries)),
            Err(error) => failed = Some(error),
        }
        let _ = tree.range::<&[u8]>(..).rev().take(5).count();
        let _ = tree.get("key/000100");
    }
    for row in db.scan::<&[u8]>(..)? {
        failed = failed.or(row.err());
    }
    for key in ["blob:large", "blob:small", "blob:empty"] {
        let read = db.get_blob(key).and_then(|blob| match blob {
            Some(blob) => blob
                .read_at(0, blob.size().min(1 << 20) as usize)
                .wait()
                .map(drop),
            None => Ok(()),
        });
        failed = failed.or(read.err());
    }
    for name in db.collections()? {
        let collection = db.collection(&name)?;
        let all = collection.query().collect().wait();
        failed = failed.or(all.err());
        let filter = Filter::gte("visits", 3);
        let some = collection
            .query()
            .matching(filter)
            .order_by("age", false)
            .count()
            .wait();
        failed = failed.or(some.err());
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(shown),
    }
}

fn write(db: &Aurora) -> aurora::Result<()> {
    db.tree("numbers")?.put("written", "by the fuzzer")?;
    db.put("a key", "a value", Some(Duration::from_secs(5)))?;
    db.put_blob_from("a blob", &[1; 5000][..])?;
    for name in db.collections()? {
        let _ = db.insert_into(&name, aurora::Object::new());
    }
    db.checkpoint()?;
    Ok(())
}

/// Goes on with all kinds of work in the file.
fn work_in(bytes: &[u8]) {
    let storage = MemoryStorage::from_bytes(bytes);
    let open = || {
        let builder = Aurora::builder().background(false).memory_limit(1 << 20);
        let builder = builder.clock(Arc::new(Still)).create(false);
        builder.open_storage(Arc::new(storage.reopen()))
    };
    let mut random = Random(anatomy::crc32c(0, bytes).into());
    work::try_work(open, &mut random);
}

/// Runs a case on a thread of its own. `Err`: what it did instead of ending well.
fn run(bytes: Vec<u8>, try_case: fn(&[u8])) -> Result<(), String> {
    let (done, ended) = mpsc::channel();
    let worker = std::thread::Builder::new().stack_size(2 << 20);
    let worker = worker
        .spawn(move || {
            try_case(&bytes);
            let _ = done.send(());
        })
        .unwrap();
    match ended.recv_timeout(TIME_LIMIT) {
        Err(mpsc::RecvTimeoutError::Timeout) => Err("it hangs".to_string()),
        _ => worker.join().map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or(panic.downcast_ref::<&str>().map(|text| text.to_string()))
                .unwrap_or_default()
        }),
    }
}

/// The most memory that the process ever had, where the system tells.
fn memory_peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn kept(name: &str) -> Option<std::path::PathBuf> {
    let directory = std::env::var_os("AURORA_FUZZ_KEEP")?;
    let name = name.replace([' ', '.'], "-");
    Some(Path::new(&directory).join(format!("{name}.db")))
}

fn keep(name: &str, bytes: &[u8]) {
    if let Some(path) = kept(name) {
        std::fs::write(path, bytes).unwrap();
    }
}

fn forget(name: &str) {
    if let Some(path) = kept(name) {
        std::fs::remove_file(path).unwrap();
    }
}

fn fuzz(
    what: &str,
    cases: u64,
    try_case: fn(&[u8]),
    damage: impl Fn(&Base, &mut Random) -> Vec<u8>,
) {
    let first: u64 = std::env::var("AURORA_FUZZ_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut failures = Vec::new();
    let only = std::env::var("AURORA_FUZZ_ONLY")
        .ok()
        .and_then(|seed| seed.parse().ok());
    for seed in only.map_or(first..first + cases, |only: u64| only..only + 1) {
        let mut random = Random(seed);
        let base = &bases()[random.below(bases().len() as u64) as usize];
        let bytes = damage(base, &mut random);
        let name = format!("{what}-{}-{seed}", base.name);
        // It stays if the process ends here.
        keep(&name, &bytes);
        let ran = run(bytes, try_case);
        if ran.is_ok() {
            forget(&name);
        }
        if let Err(what) = ran {
            failures.push(format!("seed {seed}, {}: {what}", base.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(
        memory_peak_kib() < MEMORY_LIMIT_KIB,
        "{} KiB",
        memory_peak_kib()
    );
}

#[test]
fn undamaged_files_are_fine() {
    for base in bases() {
        run(base.bytes.clone(), try_all).unwrap_or_else(|what| panic!("{}: {what}", base.name));
    }
}

#[test]
fn fields_are_changed_and_sealed() {
    fuzz("fields", budget(60), try_all, |base, random| {
        base.damage(random)
    });
}

#[test]
fn work_in_changed_files_harms_nothing_else() {
    fuzz("work", budget(150), work_in, |base, random| {
        base.damage(random)
    });
}

#[test]
fn bytes_are_changed_and_not_sealed() {
    fuzz("bytes", budget(25), try_all, |base, random| {
        let mut bytes = base.bytes.clone();
        for _ in 0..1 + random.below(6) {
            let at = random.below(bytes.len() as u64) as usize;
            let end = (at + 1 + random.below(600) as usize).min(bytes.len());
            match random.below(3) {
                0 => bytes[at..end].fill(0),
                _ => mutate(&mut bytes[at..end], random),
            }
        }
        bytes
    });
}

#[test]
fn what_once_failed() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let Ok(files) = std::fs::read_dir(corpus) else {
        return;
    };
    for file in files {
        let path = file.unwrap().path();
        let ran = run(std::fs::read(&path).unwrap(), try_all);
        ran.unwrap_or_else(|what| panic!("{}: {what}", path.display()));
    }
}
