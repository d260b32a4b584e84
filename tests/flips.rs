//! Each byte of a small closed file, damaged in turn: it is reported, or it lies in bytes that
//! `format-spec.md` gives no meaning to, and then nothing changes. A wrong answer or a panic never
//! comes of it.
//!
//! `AURORA_TEST_BUDGET` of [`ALL`] or more tries every byte; less tries a part, evenly spread.

mod common;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use aurora::storage::MemoryStorage;
use aurora::{Builder, Field, FieldType, Object, Schema};
use common::listing::{assert_same, listing, sorted};
use common::samples::builder;

const PAGE: usize = 4096;
/// Of so many bytes the default run tries one, beside those of header slots.
const ALL: u64 = 97;

/// How the file is opened: with no more than it needs, as it is opened some thousand times.
fn options() -> Builder {
    builder(PAGE as u32)
        .log_limit(64 << 10)
        .memory_limit(1 << 20)
        .hot_limit(0)
}

/// A closed file with something of each kind, and with free pages.
fn small_file() -> Vec<u8> {
    let storage = MemoryStorage::new();
    let db = options().open_storage(Arc::new(storage.clone())).unwrap();
    db.write(|tx| {
        let mut tree = tx.tree("t")?;
        for i in 0..130_u32 {
            tree.put(format!("key {i:03}"), vec![i as u8; 30])?;
        }
        tree.put("long", vec![3; 4200])?;
        tx.put("key", "value", Some(Duration::from_secs(9)))
    })
    .unwrap();
    db.put_blob_from("blob", &[1, 2, 3][..]).unwrap();
    let schema = Schema::new().field(Field::new("n", FieldType::Int).indexed());
    db.new_collection("c", schema).unwrap();
    for i in 0..5 {
        let fields = Object::from([("id", i), ("n", i * 100)]);
        db.insert_into("c", fields).unwrap();
    }
    db.checkpoint().unwrap();
    db.tree("t").unwrap().delete("key 007").unwrap();
    db.close().unwrap();
    storage.to_bytes()
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()))
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The bytes without a meaning, by what they are, as sections 3, 4, 9, 11 and 12 of
/// `format-spec.md` have it. Taken from the bytes of the file, not from the engine.
fn without_meaning(bytes: &[u8]) -> Vec<(&'static str, Range<usize>)> {
    let (older, newer) = if u64_at(bytes, 16) > u64_at(bytes, PAGE + 16) {
        (PAGE, 0)
    } else {
        (0, PAGE)
    };
    let pages = u32_at(bytes, newer + 64);
    let (ring, ring_pages) = (u32_at(bytes, newer + 112), u32_at(bytes, newer + 116));
    assert_eq!(u32_at(bytes, newer + 124), 0, "one ring");
    let mut ranges = vec![
        ("header slot of the checkpoint before", older..older + 256),
        ("page 0 behind its slot", 256..PAGE),
        ("page 1 behind its slot", PAGE + 256..2 * PAGE),
        ("behind the last page", pages * PAGE..bytes.len()),
    ];

    // The ring: the mark of the close is all that is needed.
    let ring = ring * PAGE..(ring + ring_pages) * PAGE;
    let end = u64_at(bytes, newer + 128) as usize % ring.len();
    let mark = ring.start + end;
    assert_eq!(
        (&bytes[mark..mark + 4], bytes[mark + 40], bytes[mark + 41]),
        (&b"ALOG"[..], 2, 1)
    );
    ranges.push(("log before the checkpoint", ring.start..mark));
    ranges.push((
        "mark of the close: says that nothing is behind it",
        mark..mark + 56,
    ));
    ranges.push(("log behind its end", mark + 56..ring.end));

    // The space map of a small file is one index page with one bitmap.
    let index = u32_at(bytes, newer + 96) * PAGE;
    assert_eq!((bytes[index + 17], u16_at(bytes, index + 18)), (1, 1));
    let bits = u32_at(bytes, index + 32) * PAGE + 32;
    for page in 2..pages {
        if bytes[bits + page / 8] >> (page % 8) & 1 == 0 {
            ranges.push(("free pages", page * PAGE..(page + 1) * PAGE));
        } else if bytes[page * PAGE + 16] == 1 && u32_at(bytes, page * PAGE + 4) == page {
            ranges.extend(ends_of_runs(bytes, page * PAGE));
        }
    }
    ranges
}

/// What is behind the values in the last pages of the runs that a leaf refers to.
fn ends_of_runs(bytes: &[u8], leaf: usize) -> Vec<(&'static str, Range<usize>)> {
    let mut ranges = Vec::new();
    for slot in 0..u16_at(bytes, leaf + 18) {
        let slot = leaf + 32 + 8 * slot;
        let (offset, length) = (u16_at(bytes, slot + 4), u16_at(bytes, slot + 6));
        if length & 0x8000 != 0 {
            let run = leaf + offset + (length & 0x7fff).saturating_sub(4);
            let start = u32_at(bytes, run) * PAGE;
            let end = start + u32_at(bytes, run + 4);
            ranges.push(("behind a long value", end..end.next_multiple_of(PAGE)));
        }
    }
    ranges
}

/// What a program finds in a file: everything, or what is wrong with it.
fn look(bytes: &[u8], expected: &[String]) -> Result<(), String> {
    let storage = Arc::new(MemoryStorage::from_bytes(bytes));
    let db = options()
        .open_storage(storage)
        .map_err(|error| error.to_string())?;
    // What is read before the check has to be right as well.
    let lines = sorted(listing(&db).map_err(|error| error.to_string())?);
    assert_same("a wrong answer", &lines, expected);
    db.check().map(|_| ()).map_err(|error| error.to_string())
}

/// Tries the bytes at these offsets; returns how many flips were reported, and the faults.
fn flip(
    bytes: &[u8],
    offsets: &[usize],
    meaningless: &[(&'static str, Range<usize>)],
    expected: &[String],
) -> (BTreeMap<&'static str, u64>, Vec<String>) {
    let mut flipped = bytes.to_vec();
    let (mut counts, mut faults) = (BTreeMap::new(), Vec::new());
    for &at in offsets {
        let place = meaningless.iter().find(|(_, range)| range.contains(&at));
        for mask in [0xff, 1 << (at % 8)] {
            flipped[at] ^= mask;
            let outcome = catch_unwind(AssertUnwindSafe(|| look(&flipped, expected)));
            flipped[at] ^= mask;
            match (outcome, place) {
                (Ok(Err(_)), None) => *counts.entry("reported").or_default() += 1,
                (Ok(Ok(())), Some((what, _))) => *counts.entry(*what).or_default() += 1,
                (Ok(Ok(())), None) => faults.push(format!("byte {at} ^ {mask:#x}: not reported")),
                (Ok(Err(error)), Some((what, _))) => {
                    faults.push(format!("byte {at} ^ {mask:#x} ({what}): {error}"));
                }
                (Err(_), _) => faults.push(format!("byte {at} ^ {mask:#x}: a panic")),
            }
        }
    }
    (counts, faults)
}

#[test]
fn each_flipped_byte_is_reported_or_has_no_meaning() {
    let bytes = small_file();
    let storage = Arc::new(MemoryStorage::from_bytes(&bytes));
    let db = options().open_storage(storage).unwrap();
    let expected = sorted(listing(&db).unwrap());
    drop(db);
    let meaningless = without_meaning(&bytes);

    let stride = (ALL / common::budget(1)).max(1) as usize;
    // Header slots always.
    let tried = |at: &usize| at.is_multiple_of(stride);
    let in_slot = |at: &usize| *at < 256 || (PAGE..PAGE + 256).contains(at);
    let offsets: Vec<usize> = (0..bytes.len())
        .filter(|at| tried(at) || in_slot(at))
        .collect();

    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let parts: Vec<Vec<usize>> = (0..threads)
        .map(|part| {
            offsets
                .iter()
                .copied()
                .skip(part)
                .step_by(threads)
                .collect()
        })
        .collect();
    let (mut counts, mut faults) = (BTreeMap::<&str, u64>::new(), Vec::new());
    std::thread::scope(|scope| {
        let flip = |part| flip(&bytes, part, &meaningless, &expected);
        let running: Vec<_> = parts
            .iter()
            .map(|part| scope.spawn(move || flip(part)))
            .collect();
        for thread in running {
            let (found, wrong) = thread.join().unwrap();
            found
                .into_iter()
                .for_each(|(what, n)| *counts.entry(what).or_default() += n);
            faults.extend(wrong);
        }
    });
    println!(
        "{} bytes, {} tried, two flips each:",
        bytes.len(),
        offsets.len()
    );
    for (what, count) in &counts {
        println!("{count:8} {what}");
    }
    faults.sort();
    assert!(
        faults.is_empty(),
        "{} faults: {:#?}",
        faults.len(),
        &faults[..faults.len().min(40)]
    );
    for (what, range) in &meaningless {
        let any = offsets.iter().any(|at| range.contains(at));
        assert!(
            !any || counts.contains_key(what),
            "nothing was tried of: {what}"
        );
    }
    assert!(counts["reported"] > 100);
}
