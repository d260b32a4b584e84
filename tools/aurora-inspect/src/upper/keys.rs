//! Keys, and the index of what expires, both ways.

use aurora::anatomy::{CollectionRecord, DueRecord, KeyRecord};

use super::{Check, EXPIRY, KEYS};

/// Something to tell: what, expected, found, whose.
type Wrong = (String, String, String, Vec<u8>);

/// Every record decodes, what expires is listed, and what is listed expires then.
pub(super) fn check(check: &mut Check<'_>, collections: &[CollectionRecord]) {
    let total = check.trees.entries(KEYS) + check.trees.entries(EXPIRY);
    check.watcher.phase("keys", Some(total));
    check_keys(check);
    check_index(check, collections);
}

fn check_keys(check: &mut Check<'_>) {
    let can_miss = check.can_miss("expiry", EXPIRY);
    let (mut flaws, mut wrong) = (Vec::new(), Vec::new());
    let trees = &check.trees;
    let watcher = check.watcher;
    trees.for_each(KEYS, |entry| {
        watcher.pages(1);
        let Some(value) = trees.value(entry) else {
            return;
        };
        let record = match KeyRecord::decode(&value) {
            Ok(record) => record,
            Err(flaw) => {
                flaws.push((flaw, entry.key.to_vec()));
                return;
            }
        };
        if let Some(expiry_ms) = record.expiry_ms
            && can_miss
        {
            let due = DueRecord {
                expiry_ms,
                is_document: false,
                name: entry.key,
            };
            if trees.contains(EXPIRY, &due.encode()) == Some(false) {
                wrong.push((expiry_ms, entry.key.to_vec()));
            }
        }
    });
    for (flaw, key) in flaws {
        check.flaw("key", flaw, KEYS, &key);
    }
    for (expiry_ms, key) in wrong {
        let what = "a key that expires is not in the expiry index";
        let expected = format!("an entry at {expiry_ms} ms");
        check.add("expiry", what, expected, "none", KEYS, &key);
    }
}

fn check_index(check: &mut Check<'_>, collections: &[CollectionRecord]) {
    let mut wrong: Vec<Wrong> = Vec::new();
    let mut damaged = Vec::new();
    let trees = &check.trees;
    let watcher = check.watcher;
    trees.for_each(EXPIRY, |entry| {
        watcher.pages(1);
        let Ok(due) = DueRecord::decode(entry.key) else {
            let what = "an entry of the expiry index does not decode".to_string();
            let found = format!("{} bytes", entry.key.len());
            let expected = "9 bytes, a kind of 0 or 1, and a name".to_string();
            wrong.push((what, expected, found, entry.key.to_vec()));
            return;
        };
        let (tree, found) = match due.is_document {
            false => (KEYS.to_string(), of_key(check, &due)),
            true => of_document(check, &due, collections),
        };
        if !trees.is_whole(&tree) {
            damaged.push(tree);
        } else if let Some(found) = found {
            let whose = if due.is_document { "document" } else { "key" };
            let what = format!("the {whose} of an entry of the expiry index does not expire then");
            let expected = format!("{} ms", due.expiry_ms);
            wrong.push((what, expected, found, entry.key.to_vec()));
        }
    });
    for tree in damaged {
        check.can_miss("expiry", &tree);
    }
    for (what, expected, found, key) in wrong {
        check.add("expiry", what, expected, found, EXPIRY, &key);
    }
}

/// What is wrong with an entry of a key.
fn of_key(check: &Check<'_>, due: &DueRecord<'_>) -> Option<String> {
    let value = match check.trees.get(KEYS, due.name).ok()? {
        Some(value) => value,
        None => return Some("no such key".to_string()),
    };
    // A record that does not decode was told already.
    match KeyRecord::decode(&value).ok()?.expiry_ms {
        Some(expiry_ms) if expiry_ms == due.expiry_ms => None,
        Some(expiry_ms) => Some(format!("{expiry_ms} ms")),
        None => Some("never".to_string()),
    }
}

/// The tree of the document, and what is wrong with the entry. Entries of collections that are gone
/// may stay until they are due.
fn of_document(
    check: &Check<'_>,
    due: &DueRecord<'_>,
    collections: &[CollectionRecord],
) -> (String, Option<String>) {
    let Some((number, key)) = due.name.split_first_chunk::<4>() else {
        let found = Some("no collection and id".to_string());
        return (super::COLLECTIONS.to_string(), found);
    };
    let number = u32::from_be_bytes(*number);
    let Some(collection) = collections.iter().find(|c| c.number() == number) else {
        return (super::COLLECTIONS.to_string(), None);
    };
    let tree = collection.documents_tree();
    let found = match check.trees.get(tree, key) {
        Err(_) => None,
        Ok(None) => Some("no such document".to_string()),
        Ok(Some(document)) => match collection.expiry_ms(&document) {
            Ok(Some(expiry_ms)) if expiry_ms == due.expiry_ms => None,
            Ok(Some(expiry_ms)) => Some(format!("{expiry_ms} ms")),
            Ok(None) => Some("never".to_string()),
            Err(_) => None,
        },
    };
    (tree.to_string(), found)
}
