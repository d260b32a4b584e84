//! Collections: records, documents against schemas, indexes against documents both ways.

use std::collections::HashMap;

use aurora::anatomy::{CollectionRecord, DueRecord, IndexRecord, decode_id};

use super::{COLLECTIONS, Check, EXPIRY, META, Trees};
use crate::{Fault, Faults, show};

/// Something to tell of a document: area, what, expected, found.
type Wrong = (&'static str, String, String, String, Vec<u8>);

/// All collections whose records decode, and what is wrong with the others.
pub fn load(trees: &Trees<'_>) -> (Vec<CollectionRecord>, Faults) {
    let mut collections: Vec<CollectionRecord> = Vec::new();
    let mut faults = Faults::default();
    trees.for_each(COLLECTIONS, |entry| {
        let Some(value) = trees.value(entry) else {
            return;
        };
        let mut wrong = |what: &str, expected: &str, found: String| {
            let fault = Fault::new("collection", what, expected, found).in_tree(COLLECTIONS);
            let fault = fault.at_page(entry.page, trees.source.page_size(), entry.offset);
            faults.add(fault.of_key(show::brief(entry.key, 64)));
        };
        let name = std::str::from_utf8(entry.key).ok();
        let record = name.and_then(|name| CollectionRecord::decode(name, &value));
        let Some(record) = record else {
            let found = format!("{} bytes", value.len());
            return wrong(
                "the record of a collection does not decode",
                "a record",
                found,
            );
        };
        if let Some(other) = collections.iter().find(|c| c.number() == record.number()) {
            let what = "two collections have one number";
            wrong(
                what,
                "one",
                format!("{} and {}", other.name(), record.name()),
            );
        }
        collections.push(record);
    });
    (collections, faults)
}

/// Checks all collections, and hands them on.
pub(super) fn check(check: &mut Check<'_>) -> Vec<CollectionRecord> {
    let (collections, faults) = load(&check.trees);
    let total = { collections.iter() }.map(|c| check.trees.entries(c.documents_tree()));
    check.watcher.phase("documents", Some(total.sum()));
    let is_readable = faults.is_healthy();
    check.faults.append(faults);
    for collection in &collections {
        check_documents(check, collection);
    }
    check_counter(check, &collections);
    if is_readable && check.can_miss("collection", COLLECTIONS) {
        check_orphans(check, &collections);
    }
    collections
}

/// Numbers are not used again: none is above the last one that was given.
fn check_counter(check: &mut Check<'_>, collections: &[CollectionRecord]) {
    let Some(highest) = collections.iter().map(CollectionRecord::number).max() else {
        return;
    };
    let Ok(value) = check.trees.get(META, b"collection") else {
        return;
    };
    let last = value.and_then(|value| value.try_into().ok());
    let last = last.map_or(0, u32::from_le_bytes);
    if last < highest && check.can_miss("collection", META) {
        let what = "a collection has a number that was not given yet";
        let expected = format!("at most {last}");
        check.add("collection", what, expected, highest, META, b"collection");
    }
}

/// Every tree of documents and entries belongs to a collection.
fn check_orphans(check: &mut Check<'_>, collections: &[CollectionRecord]) {
    let names: Vec<&str> = check.trees.names().collect();
    for name in names {
        let is_own = name.starts_with("aurora/documents/") || name.starts_with("aurora/index/");
        let has_owner = collections.iter().any(|collection| {
            collection.documents_tree() == name
                || collection.indexes().any(|index| index.tree() == name)
        });
        if is_own && !has_owner {
            let what = "a tree belongs to no collection";
            let found = check.trees.entries(name);
            let fault = Fault::new("collection", what, "none", format!("{found} entries"));
            check.faults.add(fault.in_tree(name));
        }
    }
}

fn check_documents(check: &mut Check<'_>, collection: &CollectionRecord) {
    let tree = collection.documents_tree().to_string();
    // Only where an index has more entries than the documents account for are they gone through.
    let mut accounted: HashMap<&str, u64> = HashMap::new();
    let whole: Vec<IndexRecord<'_>> = { collection.indexes() }
        .filter(|index| check.can_miss("index", index.tree()))
        .collect();
    let lists_expiry = collection.expires().is_some() && check.can_miss("expiry", EXPIRY);
    let mut wrong: Vec<Wrong> = Vec::new();
    let trees = &check.trees;
    let watcher = check.watcher;
    trees.for_each(&tree, |entry| {
        watcher.pages(1);
        let Some(document) = trees.value(entry) else {
            return;
        };
        let one = Document {
            trees,
            collection,
            key: entry.key,
            bytes: &document,
        };
        one.check(&mut wrong);
        for index in &whole {
            let found = one.check_index(index, &mut wrong);
            *accounted.entry(index.tree()).or_default() += found;
        }
        if lists_expiry {
            one.check_expiry(&mut wrong);
        }
    });
    for (area, what, expected, found, key) in wrong {
        check.add(area, what, expected, found, &tree, &key);
    }
    if !check.can_miss("index", &tree) {
        return;
    }
    for index in whole.iter().filter(|index| index.is_unique()) {
        check_unique(check, collection, index);
    }
    for index in &whole {
        let count = accounted.get(index.tree()).copied().unwrap_or(0);
        if count != check.trees.entries(index.tree()) {
            check_entries(check, collection, index);
        }
    }
}

/// One document that is checked.
struct Document<'d> {
    trees: &'d Trees<'d>,
    collection: &'d CollectionRecord,
    key: &'d [u8],
    bytes: &'d [u8],
}

impl Document<'_> {
    fn check(&self, wrong: &mut Vec<Wrong>) {
        if decode_id(self.key).is_none() {
            let what = "the id of a document does not decode".to_string();
            let found = show::brief(self.key, 32);
            wrong.push(("document", what, "an id".into(), found, self.key.to_vec()));
            return;
        }
        let document = match self.collection.document(self.key, self.bytes) {
            Ok(document) => document,
            Err(error) => {
                let what = "a document does not decode".to_string();
                let key = self.key.to_vec();
                wrong.push(("document", what, "CBOR".into(), error.to_string(), key));
                return;
            }
        };
        if let Some(id) = document.get("id")
            && decode_id(self.key).as_ref() != Some(id)
        {
            let what = "a document has another id than its key".to_string();
            let expected = decode_id(self.key)
                .map(|id| id.to_string())
                .unwrap_or_default();
            let key = self.key.to_vec();
            wrong.push(("document", what, expected, id.to_string(), key));
        }
        if let Err(error) = self.collection.check_document(self.key, self.bytes) {
            let what = "a document is not as its schema says".to_string();
            let expected = format!("schema {}", self.collection.version());
            let key = self.key.to_vec();
            wrong.push(("document", what, expected, error.to_string(), key));
        }
    }

    /// How many entries of the document are in the index.
    fn check_index(&self, index: &IndexRecord<'_>, wrong: &mut Vec<Wrong>) -> u64 {
        // What does not decode was told already.
        let Ok(entries) = index.entries(self.key, self.bytes) else {
            return 0;
        };
        let mut found = 0;
        for entry in &entries {
            if self.trees.contains(index.tree(), entry) != Some(false) {
                found += 1;
            } else if self.must_be_in(index) {
                let what = format!("a document is not in the index {:?}", index.name());
                let expected = format!("an entry {}", show::key(index.tree(), entry, 64));
                wrong.push(("index", what, expected, "none".into(), self.key.to_vec()));
            }
        }
        found
    }

    /// While an index is built, only documents up to some id have to be in it.
    fn must_be_in(&self, index: &IndexRecord<'_>) -> bool {
        index.built_to().is_none_or(|built_to| self.key <= built_to)
    }

    fn check_expiry(&self, wrong: &mut Vec<Wrong>) {
        let Ok(Some(expiry_ms)) = self.collection.expiry_ms(self.bytes) else {
            return;
        };
        let name = self.collection.expiry_name(self.key);
        let due = DueRecord {
            expiry_ms,
            is_document: true,
            name: &name,
        };
        if self.trees.contains(EXPIRY, &due.encode()) == Some(false) {
            let what = "a document that expires is not in the expiry index".to_string();
            let expected = format!("an entry at {expiry_ms} ms");
            wrong.push(("expiry", what, expected, "none".into(), self.key.to_vec()));
        }
    }
}

/// No value is in two documents of a unique index. Documents that expire may be gone for who put
/// another one with the value, so they do not count.
fn check_unique(check: &mut Check<'_>, collection: &CollectionRecord, index: &IndexRecord<'_>) {
    let mut wrong = Vec::new();
    let mut before: Option<(Vec<u8>, Vec<u8>)> = None;
    let trees = &check.trees;
    trees.for_each(index.tree(), |entry| {
        let Some((values, id)) = IndexRecord::split(entry.key) else {
            return;
        };
        let own = match &before {
            Some((other, _)) if other == values => true,
            _ => {
                before = Some((values.to_vec(), id.to_vec()));
                false
            }
        };
        let counts = |id: &[u8]| {
            let document = trees.get(collection.documents_tree(), id).ok().flatten();
            document.is_some_and(|document| {
                let unique = index.unique_values(&document).unwrap_or_default();
                let expires = collection.expiry_ms(&document).ok().flatten();
                expires.is_none() && unique.iter().any(|value| value == values)
            })
        };
        if own
            && let Some((_, other)) = &before
            && counts(id)
            && counts(other)
        {
            let id = decode_id(other)
                .map(|id| id.to_string())
                .unwrap_or_default();
            wrong.push((entry.key.to_vec(), id));
        }
    });
    for (key, other) in wrong {
        let what = "two documents have one value in a unique index";
        let found = format!("document {other} has it too");
        check.add("index", what, "one document", found, index.tree(), &key);
    }
}

/// Every entry of an index is that of a document.
fn check_entries(check: &mut Check<'_>, collection: &CollectionRecord, index: &IndexRecord<'_>) {
    let mut wrong = Vec::new();
    let trees = &check.trees;
    trees.for_each(index.tree(), |entry| {
        let Some((_, id)) = IndexRecord::split(entry.key) else {
            let what = "an entry of an index does not decode";
            wrong.push((
                what,
                format!("{} bytes", entry.key.len()),
                entry.key.to_vec(),
            ));
            return;
        };
        let document = match trees.get(collection.documents_tree(), id) {
            Ok(Some(document)) => document,
            Ok(None) => {
                let what = "an entry of an index is of no document";
                wrong.push((what, "no such document".into(), entry.key.to_vec()));
                return;
            }
            Err(_) => return,
        };
        let Ok(entries) = index.entries(id, &document) else {
            return;
        };
        if !entries.iter().any(|own| own == entry.key) {
            let what = "an entry of an index is not what its document says";
            wrong.push((what, "another value".into(), entry.key.to_vec()));
        }
    });
    for (what, found, key) in wrong {
        let expected = "an entry of a document";
        check.add("index", what, expected, found, index.tree(), &key);
    }
}
