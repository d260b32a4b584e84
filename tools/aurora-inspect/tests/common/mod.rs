//! Files with something of everything in them, and a way to damage them on purpose.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use aurora::anatomy;
use aurora::storage::MemoryStorage;
use aurora::{Aurora, Field, FieldType, Filter, Index, Object, Schema, Timestamp, Value};
use aurora_inspect::{Report, Silent, Source, commands};
use serde_json::Value as Json;

pub const HOUR: Duration = Duration::from_secs(3600);

pub fn schema() -> Schema {
    Schema::new()
        .field(Field::new("name", FieldType::String).required().unique())
        .field(Field::new("age", FieldType::Int).indexed())
        .field(Field::new("tags", FieldType::Array).indexed())
        .field(Field::new("seen", FieldType::DateTime))
        .index(
            Index::on(["age", "name"])
                .named("old")
                .only(Filter::gt("age", 50)),
        )
        .expires_after("seen", 1000 * HOUR)
}

pub fn person(i: i64) -> Object {
    let tags = (0..i % 4).map(|t| Value::from(format!("tag{t}"))).collect();
    Object::from([
        ("name", Value::from(format!("person {i}"))),
        ("age", Value::from(i % 90)),
        ("tags", Value::Array(tags)),
        (
            "seen",
            Value::DateTime(Timestamp::from_second(4_000_000_000 + i).unwrap()),
        ),
    ])
}

/// Puts something of everything into a database.
pub fn fill(db: &Aurora, scale: u64) {
    db.write(|tx| {
        let mut tree = tx.tree("numbers")?;
        for i in 0..200 * scale {
            tree.put(format!("key/{i:06}"), format!("value {i}"))?;
        }
        Ok(())
    })
    .unwrap();
    db.write(|tx| {
        let mut tree = tx.tree("long")?;
        for i in 0..4 * scale {
            tree.put(format!("{i}"), vec![i as u8; 3000 + 9000 * i as usize])?;
        }
        tx.tree("empty")?;
        Ok(())
    })
    .unwrap();
    for i in 0..20 * scale {
        let key = format!("session {i}");
        let ttl = (i % 2 == 0).then_some(1000 * HOUR);
        db.put(&key, "a value", ttl).unwrap();
    }
    db.new_collection("people", schema()).unwrap();
    let people = db.collection("people").unwrap();
    for i in 0..30 * scale {
        people.insert_fields(person(i as i64)).unwrap();
    }
}

/// The bytes of a database that was closed.
pub fn closed(page_size: u32, scale: u64) -> Vec<u8> {
    let memory = MemoryStorage::new();
    let db = open(&memory, page_size);
    fill(&db, scale);
    db.close().unwrap();
    memory.to_bytes()
}

/// The bytes of a database that is in use: commits wait in its log.
pub fn in_use(page_size: u32) -> Vec<u8> {
    let memory = MemoryStorage::new();
    let db = open(&memory, page_size);
    fill(&db, 1);
    db.checkpoint().unwrap();
    for i in 0..5 {
        db.write(|tx| {
            tx.tree("numbers")?
                .put(format!("late {i}"), "x")
                .map(|_| ())
        })
        .unwrap();
    }
    memory.to_bytes()
}

fn open(memory: &MemoryStorage, page_size: u32) -> Aurora {
    let builder = Aurora::builder()
        .page_size(page_size)
        .background(false)
        .salt(0x1234_5678);
    builder.open_storage(Arc::new(memory.clone())).unwrap()
}

/// A file's bytes, to be looked at.
pub fn source(bytes: &[u8]) -> Source {
    Source::read(memory(bytes), None).unwrap()
}

pub fn memory(bytes: &[u8]) -> Arc<MemoryStorage> {
    use aurora::storage::Storage;
    let memory = MemoryStorage::new();
    memory.write_at(0, bytes).unwrap();
    Arc::new(memory)
}

/// What `check` says.
pub fn check(bytes: &[u8]) -> Report {
    commands::check(|| Source::read(memory(bytes), None), &Silent).unwrap()
}

/// The sentences of all faults that `check` lists.
pub fn faults(bytes: &[u8]) -> Vec<String> {
    let report = check(bytes);
    let list = report.json["faults"].as_array().unwrap();
    list.iter()
        .map(|fault| fault["what"].as_str().unwrap().to_string())
        .collect()
}

/// The first fault that says so.
pub fn fault(bytes: &[u8], what: &str) -> Json {
    let report = check(bytes);
    assert!(report.is_damaged, "{what}: nothing found\n{}", report.text);
    let list = report.json["faults"].as_array().unwrap();
    let found = list
        .iter()
        .find(|fault| fault["what"].as_str().unwrap().contains(what));
    found
        .unwrap_or_else(|| panic!("{what:?} is not in\n{}", report.text))
        .clone()
}

/// The pages of a tree of that use.
pub fn pages_of(bytes: &[u8], tree: &str, kind: &str) -> Vec<u32> {
    let filter = commands::Filter {
        kind: Some(kind.to_string()),
        tree: (!tree.is_empty()).then(|| tree.to_string()),
        damaged: false,
    };
    let report = commands::pages(&source(bytes), &filter).unwrap();
    let list = report.json.as_array().unwrap();
    list.iter()
        .map(|line| line["page"].as_u64().unwrap() as u32)
        .collect()
}

/// What is done to a page.
type Change<'c> = Box<dyn FnOnce(&mut [u8]) + 'c>;

/// Changes pages and makes all checksums right again, so that only the change itself is wrong.
pub struct Surgeon {
    pub bytes: Vec<u8>,
    page_size: usize,
    salt: u64,
}

impl Surgeon {
    pub fn new(bytes: Vec<u8>) -> Self {
        let source = source(&bytes);
        let (page_size, salt) = (source.page_size() as usize, source.salt());
        Surgeon {
            bytes,
            page_size,
            salt,
        }
    }

    pub fn page(&mut self, page: u32) -> &mut [u8] {
        let at = page as usize * self.page_size;
        &mut self.bytes[at..at + self.page_size]
    }

    /// Changes a page, and every reference to it, up to the header.
    pub fn operate(&mut self, page: u32, change: impl FnOnce(&mut [u8])) {
        self.operate_dyn(page, Box::new(change));
    }

    fn operate_dyn(&mut self, page: u32, change: Change<'_>) {
        let mut before = Vec::from(page.to_le_bytes());
        before.extend_from_slice(&self.page(page)[..4]);
        change(self.page(page));
        let salt = self.salt;
        let checksum = anatomy::checksum(self.page(page), page, salt);
        self.page(page)[..4].copy_from_slice(&checksum.to_le_bytes());
        for other in 0..(self.bytes.len() / self.page_size) as u32 {
            if other == page {
                continue;
            }
            let Some(at) = self
                .page(other)
                .windows(8)
                .position(|window| window == before)
            else {
                continue;
            };
            if other < 2 {
                self.page(other)[at + 4..at + 8].copy_from_slice(&checksum.to_le_bytes());
                self.seal_slot(other);
            } else {
                let point = move |bytes: &mut [u8]| {
                    bytes[at + 4..at + 8].copy_from_slice(&checksum.to_le_bytes());
                };
                self.operate_dyn(other, Box::new(point));
            }
        }
    }

    pub fn slot(&mut self, slot: u32, change: impl FnOnce(&mut [u8])) {
        change(self.page(slot));
        self.seal_slot(slot);
    }

    fn seal_slot(&mut self, slot: u32) {
        let checksum = anatomy::crc32c(0, &self.page(slot)[..252]);
        self.page(slot)[252..256].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The slot of the newest checkpoint.
    pub fn newest(&self) -> u32 {
        (source(&self.bytes).header().unwrap().checkpoint % 2) as u32
    }
}

/// All trees of a file with all entries.
pub type Trees = std::collections::BTreeMap<String, std::collections::BTreeMap<Vec<u8>, Vec<u8>>>;

pub fn trees(bytes: &[u8]) -> Trees {
    use aurora_inspect::walk::{for_each_entry, value_of};
    let source = source(bytes);
    let survey = aurora_inspect::Survey::take(
        &source,
        aurora_inspect::Options { read_runs: false },
        &Silent,
    );
    let mut trees = Trees::new();
    for tree in &survey.unwrap().trees[1..] {
        let entries = trees.entry(tree.name.clone()).or_default();
        for_each_entry(&source, &tree.name, &tree.root, |entry| {
            entries.insert(entry.key.to_vec(), value_of(&source, entry.cell).unwrap());
            true
        });
    }
    trees
}

/// A file that is sound but for what is in these trees: the database's own, too.
pub fn build(trees: &Trees) -> Vec<u8> {
    let memory = MemoryStorage::new();
    let db = open(&memory, 4096);
    db.write(|tx| {
        for (name, entries) in trees {
            let mut tree = tx.tree(name.replacen("aurora/", "aurorb/", 1))?;
            for (key, value) in entries {
                tree.put(key, value)?;
            }
        }
        Ok(())
    })
    .unwrap();
    db.close().unwrap();
    let bytes = memory.to_bytes();
    let leaves = pages_of(&bytes, "aurora/(catalog)", "leaf");
    let mut surgeon = Surgeon::new(bytes);
    for leaf in leaves {
        surgeon.operate(leaf, |page| {
            for at in 0..page.len() - 3 {
                if &page[at..at + 3] == b"rb/" {
                    page[at + 1] = b'a';
                }
            }
        });
    }
    surgeon.bytes
}
