//! Damage everywhere: each byte of a small file in turn, and pages that are changed at random and
//! sealed again. What has a meaning is reported, what has none is not, and nothing panics.

mod common;

use std::ops::Range;
use std::sync::Arc;

use aurora::Aurora;
use aurora::storage::MemoryStorage;
use aurora_inspect::commands::{self, Filter, PageOptions};
use aurora_inspect::{Source, wal::Wal};
use common::*;

/// A file of a few pages with a leaf, a run, a key that expires, and one commit in the log.
fn small() -> Vec<u8> {
    let memory = MemoryStorage::new();
    let builder = Aurora::builder().background(false).salt(7);
    let db = builder.open_storage(Arc::new(memory.clone())).unwrap();
    db.write(|tx| {
        let mut tree = tx.tree("t")?;
        tree.put("a", "1")?;
        tree.put("b", vec![3; 1500]).map(|_| ())
    })
    .unwrap();
    db.put("k", "v", Some(1000 * HOUR)).unwrap();
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    db.write(|tx| tx.tree("t")?.put("c", "2").map(|_| ()))
        .unwrap();
    memory.to_bytes()
}

/// The bytes that mean something.
fn meaningful(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = vec![0..256, 4096..4096 + 256];
    let pages = commands::pages(&source(bytes), &Filter::default()).unwrap();
    for line in pages.json.as_array().unwrap() {
        let at = line["offset"].as_u64().unwrap() as usize;
        match line["kind"].as_str().unwrap() {
            "leaf" | "branch" | "bitmap" | "index" => ranges.push(at..at + 4096),
            "run" => ranges.push(at..at + 1500),
            _ => {}
        }
    }
    for record in Wal::read(&source(bytes), false).unwrap().records {
        ranges.push(record.offset as usize..(record.offset + record.bytes) as usize);
    }
    ranges
}

#[test]
fn each_flipped_byte_is_reported_or_means_nothing() {
    let bytes = small();
    assert_eq!(faults(&bytes), Vec::<String>::new());
    let meaningful = meaningful(&bytes);
    let look = |part: usize| {
        for at in (part..bytes.len()).step_by(2) {
            let counts = meaningful.iter().any(|range| range.contains(&at));
            // All bytes that count, and some of the others.
            if !counts && at % 61 > 1 {
                continue;
            }
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let report = check(&flipped);
            let list = report.json["faults"].as_array().unwrap();
            assert_eq!(!list.is_empty(), counts, "byte {at}\n{}", report.text);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| look(0));
        look(1);
    });
}

/// A generator that needs no seed from outside.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Runs all commands. They may refuse; they must not panic, or go on for ever.
fn run_all(bytes: &[u8]) {
    let source = || Source::read(memory(bytes), None);
    let _ = commands::check(source, &aurora_inspect::Silent);
    let Ok(source) = source() else { return };
    let _ = commands::summary(&source);
    let _ = commands::wal(&source, true);
    let _ = commands::space(&source);
    let _ = commands::picture(&source, "file");
    for tree in ["numbers", "aurora/keys", "aurora/(catalog)"] {
        let _ = commands::tree(&source, tree, true);
        let _ = commands::path(&source, tree, b"key/000100");
    }
    let _ = commands::blob(&source, b"session 1");
    let _ = commands::document(&source, "people", "1");
    let _ = commands::page(&source, 10, PageOptions::default());
}

#[test]
fn nothing_panics_on_pages_that_are_changed_and_sealed() {
    let bytes = closed(4096, 2);
    let survey = commands::pages(&source(&bytes), &Filter::default()).unwrap();
    let mut pages = Vec::new();
    for line in survey.json.as_array().unwrap() {
        if ["leaf", "branch", "bitmap", "index"].contains(&line["kind"].as_str().unwrap()) {
            pages.push(line["page"].as_u64().unwrap() as u32);
        }
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..60 {
        let mut surgeon = Surgeon::new(bytes.clone());
        for _ in 0..1 + random.below(3) {
            let page = pages[random.below(pages.len())];
            let (at, value) = match random.below(3) {
                0 => (8 + random.below(24), random.below(256)),
                1 => (32 + random.below(400), random.below(256)),
                _ => (4096 - 1 - random.below(1500), random.below(256)),
            };
            surgeon.operate(page, |page| page[at] = value as u8);
        }
        run_all(&surgeon.bytes);
    }
    for _ in 0..60 {
        let mut surgeon = Surgeon::new(bytes.clone());
        let (slot, at, value) = (surgeon.newest(), 64 + random.below(76), random.below(256));
        surgeon.slot(slot, |slot| slot[at] = value as u8);
        run_all(&surgeon.bytes);
        let mut cut = bytes.clone();
        cut.truncate(random.below(bytes.len()));
        run_all(&cut);
    }
}
