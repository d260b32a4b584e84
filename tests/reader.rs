//! The independent reader in `tools/reader`, which was written from `format-spec.md` alone: what it
//! finds in a file is what the engine finds there, and what is damaged it refuses.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use aurora::storage::MemoryStorage;
use aurora::{Aurora, Filter, Index, Schema, Value};
use common::listing::{Still, assert_same, listing, shortened, sorted};
use common::samples::{SAMPLES, builder};
use common::{Change, Random};
use serde_json::{Value as Json, json};

fn reader(file: &Path, options: &[&str]) -> Output {
    reader_of(file, options).output().unwrap()
}

fn reader_of(file: &Path, options: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/reader/aurora_reader.py");
    let mut command = Command::new("python3");
    command.stderr(std::process::Stdio::piped());
    command
        .arg("-B") // leaves no compiled files behind
        .arg(script)
        .arg(file)
        .args(options);
    command
}

fn has_python() -> bool {
    let there = Command::new("python3").arg("--version").output().is_ok();
    if !there {
        eprintln!("skipped: there is no python3 to run the independent reader with");
    }
    there
}

/// Lines that the reader prints; it has to succeed.
fn read(file: &Path, options: &[&str]) -> Vec<Json> {
    let output = reader(file, options);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", file.display());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The reader's listing, less what the engine does not show: its own trees, what has expired,
/// numbers of blobs; and records of collections in the form of the engine's listing.
fn as_the_engine_lists(lines: Vec<Json>) -> Vec<Json> {
    let entries = |lines: &[Json], name: &Json, index: &Json| -> usize {
        let of_index = |line: &&Json| {
            line["what"] == "entry" && line["collection"] == *name && line["index"] == *index
        };
        lines.iter().filter(of_index).count()
    };
    let own = |line: &Json| {
        line["tree"]
            .as_str()
            .is_some_and(|name| name.starts_with("aurora/"))
    };
    let over = |line: &Json| {
        line["expires"]
            .as_u64()
            .is_some_and(|at| at <= common::listing::NOW_MS)
    };
    let mut shown = Vec::new();
    for line in &lines {
        if own(line) || over(line) {
            continue;
        }
        let mut line = line.clone();
        match line["what"].as_str() {
            Some("expiry" | "meta" | "entry") => continue,
            Some("key") if line.get("blob").is_some() => {
                let blob = line["blob"].as_object_mut().unwrap();
                blob.remove("number").unwrap();
                blob.remove("chunk").unwrap();
            }
            Some("collection") => {
                let name = &line["name"];
                let indexes = line["record"]["indexes"].as_array().unwrap();
                let index = |index: &Json| {
                    let index = &index["object"];
                    json!({
                        "paths": index["paths"], "unique": index["unique"],
                        "entries": entries(&lines, name, &index["number"]),
                    })
                };
                let indexes: Vec<Json> = indexes.iter().map(index).collect();
                line = json!({"what": "collection", "name": name, "indexes": indexes});
            }
            _ => {}
        }
        shown.push(line);
    }
    shown
}

/// Both have to find the same in these bytes, and the reader no fault.
fn compare(name: &str, bytes: &[u8], directory: &Path) -> PathBuf {
    let file = directory.join(format!("{name}.db"));
    std::fs::write(&file, bytes).unwrap();
    let found = sorted(as_the_engine_lists(read(&file, &[])));
    let storage = Arc::new(MemoryStorage::from_bytes(bytes));
    let db = aurora::Aurora::builder()
        .background(false)
        .clock(Arc::new(Still))
        .open_storage(storage)
        .unwrap();
    assert_same(name, &found, &sorted(listing(&db).unwrap()));
    assert_eq!(read(&file, &["--check"]), Vec::<Json>::new(), "{name}");
    file
}

/// Such a file has a second header slot only.
#[test]
fn it_reads_a_file_in_which_nothing_was_written_yet() {
    let directory = tempfile::tempdir().unwrap();
    for page_size in [4096, 65536] {
        let path = directory.path().join(format!("{page_size}.db"));
        let builder = aurora::Aurora::builder().page_size(page_size);
        builder.open(&path).unwrap().close().unwrap();
        let copy = directory.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        let bytes = std::fs::read(&copy).unwrap();
        assert!(bytes[..4096].iter().all(|byte| *byte == 0));
        let db = aurora::Aurora::builder()
            .read_only(true)
            .open(&copy)
            .unwrap();
        assert_eq!(db.check().unwrap().entries, 0);
        if has_python() {
            compare("fresh", &bytes, directory.path());
        }
    }
}

#[test]
fn it_reads_every_sample_as_the_engine_does() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for sample in SAMPLES {
        let file = compare(sample.name, &sample.bytes().unwrap(), directory.path());
        let summary = read(&file, &["--summary"]).remove(0);
        println!("{}: {summary}", sample.name);
        assert_eq!(summary["page_size"], sample.page_size);
        assert_eq!(summary["closed"], sample.closed, "{}", sample.name);
        if !sample.closed {
            assert_ne!(summary["log_commits"], 0, "{} has a log", sample.name);
        }
        if sample.name.starts_with("laps") {
            assert_ne!(
                summary["log_laps"], 0,
                "records lie across the end of the ring"
            );
        }
        if sample.name.starts_with("switch") {
            assert_eq!(summary["log_switched"], true);
        }
    }
}

/// Whoever reads what it lists may have seen enough.
#[test]
fn a_pipe_that_is_closed_is_no_failure() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file.db");
    std::fs::write(&file, SAMPLES[0].bytes().unwrap()).unwrap();
    for options in [&[][..], &["--summary"]] {
        let (closed, out) = std::io::pipe().unwrap();
        drop(closed);
        let output = reader_of(&file, options).stdout(out).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*errors), (Some(0), ""));
    }
}

/// What golden files hold is not for the engine alone to say.
#[test]
fn it_reads_golden_files() {
    if !has_python() {
        return;
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let mut files = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "db") {
            continue;
        }
        let lines = as_the_engine_lists(read(&file, &[]));
        let found = sorted(lines.into_iter().map(shortened));
        let listing = std::fs::read_to_string(file.with_extension("jsonl")).unwrap();
        let expected = sorted(
            listing
                .lines()
                .map(|line| serde_json::from_str(line).unwrap()),
        );
        assert_same(&file.display().to_string(), &found, &expected);
        files += 1;
    }
    assert!(files >= 7);
}

/// Files in all states: after any commit, of a random workload with checkpoints between.
#[test]
fn it_reads_unclean_files_of_random_workloads() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (seed, page_size) in (0..common::budget(2)).flat_map(|s| [(s, 4096), (s, 16384)]) {
        let mut random = Random(seed);
        let storage = MemoryStorage::new();
        let db = builder(page_size)
            .log_limit(256 << 10)
            .memory_limit(1 << 20)
            .open_storage(Arc::new(storage.clone()))
            .unwrap();
        for step in 0..4 {
            for _ in 0..random.below(25) {
                let changes: Vec<Change> = (0..1 + random.below(8))
                    .map(|_| Change::random(&mut random))
                    .collect();
                db.write(|tx| changes.iter().try_for_each(|change| change.apply(tx)))
                    .unwrap();
                if random.chance(9) {
                    db.checkpoint().unwrap();
                }
            }
            db.flush().unwrap();
            let name = format!("random-{seed}-{page_size}-{step}");
            compare(&name, &storage.to_bytes(), directory.path());
        }
    }
}

fn in_memory() -> (MemoryStorage, Aurora) {
    let storage = MemoryStorage::new();
    let db = builder(4096).open_storage(Arc::new(storage.clone()));
    (storage, db.unwrap())
}

/// A record that a power cut left without its long value counts only if a mark shows that it was synced.
#[test]
fn it_drops_a_commit_without_its_long_value() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (storage, db) = in_memory();
    db.tree("a").unwrap().put("before", "1").unwrap();
    db.tree("a").unwrap().put("long", [7; 50_000]).unwrap();
    let mut bytes = storage.to_bytes();
    let end_of_log = bytes.windows(4).rposition(|w| w == b"ALOG").unwrap();
    let run = bytes.windows(50_000).position(|w| w == [7; 50_000]);
    compare("whole", &bytes, directory.path());
    bytes[run.unwrap() + 30_000] ^= 1;
    let file = directory.path().join("damaged.db");
    std::fs::write(&file, &bytes).unwrap();
    assert!(!reader(&file, &[]).status.success());

    assert_eq!(bytes[end_of_log + 40], 2, "a mark is the last record");
    bytes[end_of_log..][..56].fill(0);
    let file = compare("cut", &bytes, directory.path());
    assert_eq!(read(&file, &["--summary"])[0]["log_commits"], 1);
}

/// What is younger than who names it cannot be, says the description. The reader did not ask.
#[test]
fn it_refuses_a_long_value_that_is_too_young() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (storage, db) = in_memory();
    let value = [7; 50_000];
    db.tree("a").unwrap().put("long", value).unwrap();
    let mut bytes = storage.to_bytes();
    let salt = salt_of(&bytes);
    // The record's last operation ends with the reference: first page, length, checksum, birth.
    let reference = [
        &50_000_u32.to_le_bytes()[..],
        &crc32c::crc32c(&value).to_le_bytes(),
    ]
    .concat();
    let birth = bytes.windows(8).position(|w| w == reference).unwrap() + 8;
    let record = bytes[..birth]
        .windows(4)
        .rposition(|w| w == b"ALOG")
        .unwrap();
    for (young, is_sound) in [(1_u64, true), (1 << 40, false)] {
        bytes[birth..birth + 8].copy_from_slice(&young.to_le_bytes());
        let checksum = crc32c::crc32c(&salt);
        let checksum = crc32c::crc32c_append(checksum, &bytes[record..record + 48]);
        let checksum = crc32c::crc32c_append(checksum, &bytes[record + 56..birth + 8]);
        bytes[record + 48..record + 52].copy_from_slice(&checksum.to_le_bytes());
        let file = directory.path().join("young.db");
        std::fs::write(&file, &bytes).unwrap();
        let opened = builder(4096).open_storage(Arc::new(MemoryStorage::from_bytes(&bytes)));
        assert_eq!(opened.is_ok(), is_sound);
        let code = reader(&file, &["--check"]).status.code();
        assert_eq!(code, Some(if is_sound { 0 } else { 1 }));
    }
}

/// The salt, which is in the slot of a new file.
fn salt_of(bytes: &[u8]) -> [u8; 8] {
    bytes[4096 + 32..4096 + 40].try_into().unwrap()
}

/// Puts other bytes of the same length into the last commit of the log, wherever it has the first ones, and makes its
/// checksum right.
fn forge(bytes: &mut [u8], changes: &[(&[u8], &[u8])]) {
    let salt = salt_of(bytes);
    let lsn = |at: &usize| u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap());
    let commits =
        (0..bytes.len() - 56).filter(|at| bytes[*at..].starts_with(b"ALOG") && bytes[at + 40] == 1);
    let record = commits.max_by_key(lsn).unwrap();
    let length = u32::from_le_bytes(bytes[record + 4..record + 8].try_into().unwrap()) as usize;
    let payload = record + 56..record + 56 + length;
    for (from, to) in changes {
        assert_eq!(from.len(), to.len());
        let at = bytes[payload.clone()]
            .windows(from.len())
            .position(|w| w == *from);
        let at = payload.start + at.expect("the commit has these bytes");
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    let checksum = crc32c::crc32c(&salt);
    let checksum = crc32c::crc32c_append(checksum, &bytes[record..record + 48]);
    let checksum = crc32c::crc32c_append(checksum, &bytes[payload]);
    bytes[record + 48..record + 52].copy_from_slice(&checksum.to_le_bytes());
}

/// Each condition that an index can have, as the description explains it: with a document in the place of another, an entry
/// is missing or one too many.
#[test]
fn it_knows_which_documents_an_index_takes_in() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let nine = (Value::Int(9), &b"\x09"[..]);
    let three = (Value::Int(3), &b"\x03"[..]);
    let long = (Value::from("in_"), &b"\x63in_"[..]);
    let other = (Value::from("out"), &b"\x63out"[..]);
    let null = (Value::Null, &b"\xf6"[..]);
    let list = (Value::Array(vec![9.into()]), &b"\x81\x09"[..]);
    let byte = (Value::Bytes(vec![9]), &b"\x41\x09"[..]);
    type Case<'c> = (
        fn(&str) -> Filter,
        &'c (Value, &'c [u8]),
        &'c (Value, &'c [u8]),
    );
    // What the index takes in, and what it does not.
    let cases: [Case<'_>; 20] = [
        (|n| Filter::eq(n, 9.0), &nine, &three),
        (|n| Filter::eq(n, Value::Null), &null, &nine),
        (|n| Filter::ne(n, "out"), &long, &other),
        (|n| Filter::gt(n, 3), &nine, &three),
        (|n| Filter::gte(n, 8.5), &nine, &three),
        (|n| Filter::gte(n, Value::Null), &null, &three),
        (|n| Filter::lt(n, 9), &three, &nine),
        (|n| Filter::lte(n, 3), &three, &nine),
        (|n| Filter::lte(n, 3), &three, &null),
        (|n| Filter::between(n, 4, 9), &nine, &three),
        (|n| Filter::is_in(n, [1, 9]), &nine, &three),
        (|n| Filter::contains(n, "n_"), &long, &other),
        (|n| Filter::contains(n, 9), &list, &byte),
        (|n| Filter::starts_with(n, "in"), &long, &other),
        (|n| Filter::ends_with(n, "_"), &long, &other),
        (|n| Filter::exists(n).and(Filter::is_null(n)), &null, &nine),
        (|n| Filter::length(n, 1..=1), &list, &byte),
        (
            |n| Filter::gt(n, 3).or(Filter::eq(n, 3)).not(),
            &null,
            &three,
        ),
        (|n| Filter::gt(n, 3).and(Filter::lt(n, 20)), &nine, &three),
        (
            |n| {
                Filter::all([])
                    .and(Filter::any([]).not())
                    .and(Filter::eq(n, 3))
            },
            &three,
            &nine,
        ),
    ];
    // Each has a collection and a field of its own.
    let name = |i: usize| format!("n{i:02}");
    for is_inside in [true, false] {
        let (storage, db) = in_memory();
        let mut changes = Vec::new();
        let mut documents = Vec::new();
        for (i, (filter, inside, outside)) in cases.iter().enumerate() {
            let index = Index::on(["a"]).only(filter(&name(i)));
            let schema = Schema::new().strict(false).index(index);
            db.new_collection(name(i), schema).unwrap();
            let (stored, forged) = if is_inside {
                (inside, outside)
            } else {
                (outside, inside)
            };
            let fields = [
                ("id".into(), 1.into()),
                ("a".into(), 7.into()),
                (name(i), stored.0.clone()),
            ];
            documents.push(aurora::Object::from(fields));
            let as_stored = |value: &[u8]| [b"\x63", name(i).as_bytes(), value].concat();
            changes.push((as_stored(stored.1), as_stored(forged.1)));
        }
        db.write(|tx| {
            let mut all = documents.into_iter().enumerate();
            all.try_for_each(|(i, fields)| tx.collection(name(i))?.insert_fields(fields).map(drop))
        })
        .unwrap();
        let mut bytes = storage.to_bytes();
        let file = compare("sound", &bytes, directory.path());
        let changes: Vec<_> = changes
            .iter()
            .map(|(from, to)| (&from[..], &to[..]))
            .collect();
        forge(&mut bytes, &changes);
        std::fs::write(&file, &bytes).unwrap();
        let found = String::from_utf8(reader(&file, &["--check"]).stdout).unwrap();
        for number in 1..=cases.len() {
            let tree = format!("aurora/index/{number}/1: ");
            let line = found.lines().find(|line| line.contains(&tree));
            let what = if is_inside {
                "matches no document"
            } else {
                "is missing"
            };
            assert!(
                line.is_some_and(|line| line.contains(what)),
                "{tree} {line:?}"
            );
        }
    }
}

#[test]
fn it_finds_values_that_two_documents_of_a_unique_index_have() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (storage, db) = in_memory();
    let index = Index::on(["a"]).unique();
    db.new_collection("c", Schema::new().strict(false).index(index))
        .unwrap();
    let list = |numbers: &[i64]| numbers.iter().copied().collect::<Value>();
    db.insert_into("c", [("id", 1.into()), ("a", list(&[5, 6]))])
        .unwrap();
    db.insert_into("c", [("id", 2.into()), ("a", Value::from(7))])
        .unwrap();
    let mut bytes = storage.to_bytes();
    let file = compare("sound", &bytes, directory.path());
    let in_order = |n: f64| (n.to_bits() | 1 << 63).to_be_bytes();
    let (seven, six) = (in_order(7.0), in_order(6.0));
    forge(&mut bytes, &[(b"\x61a\x07", b"\x61a\x06"), (&seven, &six)]);
    std::fs::write(&file, &bytes).unwrap();
    let found = reader(&file, &["--check"]);
    let text = String::from_utf8(found.stdout).unwrap();
    assert!(text.contains("have the same value"), "{text:?}");
}

/// Bytes that look like the headers of records as long as the ring, and are none. The reader went through the whole ring for
/// each of them, which took minutes.
#[test]
fn it_reads_a_ring_full_of_headers_in_good_time() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let storage = MemoryStorage::new();
    let db = builder(4096)
        .log_limit(1 << 20)
        .open_storage(Arc::new(storage.clone()))
        .unwrap();
    let tree = db.tree("a").unwrap();
    for n in 0..60_u8 {
        tree.put([n], [n; 20_000]).unwrap();
    }
    db.checkpoint().unwrap();
    tree.put("last", "1").unwrap();
    let length = db.stats().unwrap().log_bytes as usize;
    assert!(length >= 256 << 10, "{length}");
    let mut bytes = storage.to_bytes();
    // The fastest of some tries: the others say what else the machine did.
    let timed = |name: &str, bytes: &[u8]| {
        let tries = (0..5).map(|_| {
            let start = std::time::Instant::now();
            compare(name, bytes, directory.path());
            start.elapsed()
        });
        tries.min().unwrap()
    };
    let plain = timed("plain", &bytes);
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let marks = (0..bytes.len() - 56).step_by(8);
    let marks = marks.filter(|at| bytes[*at..].starts_with(b"ALOG") && bytes[at + 40] == 2);
    let mark = marks.max_by_key(|at| number(at + 8)).unwrap();
    // The ring begins where its positions do.
    let ring = mark - number(mark + 8) as usize % length;
    let mut forged = 0;
    for at in (mark + 56..ring + length - 56).step_by(56) {
        let lsn = (length << 20) + at - ring;
        let header = &mut bytes[at..at + 56];
        header.fill(0);
        header[..4].copy_from_slice(b"ALOG");
        header[4..8].copy_from_slice(&((ring + length - at - 56) as u32).to_le_bytes());
        header[8..16].copy_from_slice(&(lsn as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(lsn as u64).to_le_bytes());
        header[40] = 1;
        forged += 1;
    }
    assert!(forged > 3000, "{forged}");
    let forged = timed("forged", &bytes);
    assert!(forged < plain * 10, "{forged:?} and {plain:?} without");
}

/// One damaged byte in each kind of structure: it says so, and where.
#[test]
fn it_reports_damage_with_its_place() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let sample = SAMPLES.iter().find(|s| s.name == "everything").unwrap();
    let bytes = sample.bytes().unwrap();
    let page_size = sample.page_size as usize;
    let mut kinds = [0; 5];
    for page in 2..bytes.len() / page_size {
        let start = page * page_size;
        let kind = bytes[start + 16];
        let own_number = bytes[start + 4..start + 8] == (page as u32).to_le_bytes();
        if !own_number || !(1..=4).contains(&kind) || kinds[kind as usize] == 3 {
            continue;
        }
        let mut damaged = bytes.clone();
        damaged[start + 1000] ^= 1;
        let file = directory.path().join(format!("damaged-{page}.db"));
        std::fs::write(&file, damaged).unwrap();
        let output = reader(&file, &["--check"]);
        if output.status.success() {
            continue; // left over from an earlier use
        }
        assert_eq!(output.status.code(), Some(1));
        let first = String::from_utf8(output.stdout).unwrap();
        let first: Json = serde_json::from_str(first.lines().next().unwrap()).unwrap();
        assert_eq!(first["page"], page, "{first}");
        assert_eq!(first["offset"], 0, "{first}");
        kinds[kind as usize] += 1;
    }
    println!("pages damaged by kind: {kinds:?}");
    assert!(kinds[1..].iter().all(|&count| count > 0), "{kinds:?}");

    let file = directory.path().join("short.db");
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(reader(&file, &["--check"]).status.code(), Some(1));
    std::fs::write(&file, b"not a database").unwrap();
    assert_eq!(reader(&file, &["--check"]).status.code(), Some(2));
}
