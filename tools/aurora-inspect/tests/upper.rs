//! What the database's own trees promise each other, broken in named ways in files whose pages are
//! all sound.

mod common;

use std::sync::OnceLock;

use common::*;

fn sound() -> Trees {
    static SOUND: OnceLock<Trees> = OnceLock::new();
    SOUND.get_or_init(|| trees(&closed(4096, 1))).clone()
}

fn with(change: impl FnOnce(&mut Trees)) -> Vec<u8> {
    let mut trees = sound();
    change(&mut trees);
    build(&trees)
}

fn tree_like(trees: &Trees, start: &str) -> String {
    trees
        .keys()
        .find(|name| name.starts_with(start))
        .unwrap()
        .clone()
}

const KEYS: &str = "aurora/keys";
const EXPIRY: &str = "aurora/expiry";

#[test]
fn what_is_taken_apart_and_put_together_is_healthy() {
    let bytes = with(|_| {});
    assert_eq!(faults(&bytes), Vec::<String>::new());
    assert!(trees(&bytes).contains_key(KEYS));
}

#[test]
fn keys_and_the_expiry_index_are_compared_both_ways() {
    let first = |trees: &mut Trees, name: &str| trees[name].keys().next().unwrap().clone();
    let bytes = with(|trees| {
        let entries = trees.get_mut(EXPIRY).unwrap();
        let of_key = entries.keys().find(|key| key[8] == 0).unwrap().clone();
        entries.remove(&of_key);
    });
    let found = fault(&bytes, "a key that expires is not in the expiry index");
    assert_eq!(found["tree"], KEYS);
    assert!(found["page"].is_u64());
    let bytes = with(|trees| {
        let key = first(trees, KEYS);
        trees.get_mut(KEYS).unwrap().remove(&key);
    });
    let what = "the key of an entry of the expiry index does not expire then";
    assert_eq!(fault(&bytes, what)["found"], "no such key");
    let bytes = with(|trees| {
        let key = first(trees, KEYS);
        trees.get_mut(KEYS).unwrap().get_mut(&key).unwrap()[3] ^= 1;
    });
    assert!(
        fault(&bytes, what)["found"]
            .as_str()
            .unwrap()
            .ends_with(" ms")
    );
    fault(&bytes, "a key that expires is not in the expiry index");
    let bytes = with(|trees| {
        trees
            .get_mut(EXPIRY)
            .unwrap()
            .insert(vec![1, 2, 3], Vec::new());
    });
    fault(&bytes, "an entry of the expiry index does not decode");
    let bytes = with(|trees| {
        let key = first(trees, KEYS);
        trees.get_mut(KEYS).unwrap().insert(key, vec![7]);
    });
    let found = fault(&bytes, "the kind of a key is unknown");
    assert_eq!(
        (&found["expected"], &found["found"]),
        (&"1".into(), &"7".into())
    );
    let bytes = with(|trees| {
        trees
            .get_mut("aurora/meta")
            .unwrap()
            .insert(b"clock".to_vec(), vec![1]);
    });
    fault(&bytes, "a fact about the database is not a number");
}

#[test]
fn documents_and_indexes_are_compared_both_ways() {
    let bytes = with(|trees| {
        let index = tree_like(trees, "aurora/index/");
        let entry = trees[&index].keys().next().unwrap().clone();
        trees.get_mut(&index).unwrap().remove(&entry);
    });
    let found = fault(&bytes, "a document is not in the index");
    assert!(
        found["tree"]
            .as_str()
            .unwrap()
            .starts_with("aurora/documents/")
    );
    let bytes = with(|trees| {
        let documents = tree_like(trees, "aurora/documents/");
        let id = trees[&documents].keys().next().unwrap().clone();
        trees.get_mut(&documents).unwrap().remove(&id);
    });
    fault(&bytes, "an entry of an index is of no document");
    let expiry = "the document of an entry of the expiry index does not expire then";
    assert_eq!(fault(&bytes, expiry)["found"], "no such document");
    let bytes = with(|trees| {
        let documents = tree_like(trees, "aurora/documents/");
        let bytes = trees
            .get_mut(&documents)
            .unwrap()
            .values_mut()
            .next()
            .unwrap();
        let at = bytes
            .windows(7)
            .position(|window| window == b"person ")
            .unwrap();
        bytes[at] = b'P';
    });
    fault(&bytes, "a document is not in the index");
    fault(&bytes, "an entry of an index is not what its document says");
    let bytes = with(|trees| {
        trees.get_mut(EXPIRY).unwrap().retain(|key, _| key[8] == 0);
    });
    fault(&bytes, "a document that expires is not in the expiry index");
}

#[test]
fn unique_values_are_in_one_document_only() {
    let bytes = with(|trees| {
        // None expires, and two have the name of the third.
        trees.get_mut(EXPIRY).unwrap().retain(|key, _| key[8] == 0);
        let record = trees.get_mut("aurora/collections").unwrap();
        let record = record.get_mut(&b"people"[..]).unwrap();
        let at = record
            .windows(7)
            .position(|window| window == b"expires")
            .unwrap();
        // Another name for the field of the record: then there is no expiry.
        record[at] = b'x';
        let documents = tree_like(trees, "aurora/documents/");
        let mut renamed = Vec::new();
        for (id, bytes) in trees.get_mut(&documents).unwrap() {
            if let Some(at) = bytes.windows(8).position(|window| window == b"person 4") {
                bytes[at + 7] = b'5';
                renamed.push(id.clone());
            }
        }
        assert_eq!(renamed.len(), 1);
        // Its entry in the index of names.
        for (name, entries) in trees.iter_mut().filter(|(name, _)| name.contains("index/")) {
            let old = entries.keys().find(|key| {
                let has = |part: &[u8]| key.windows(part.len()).any(|window| window == part);
                has(b"\x01\x40person 4\0\0") && !name.is_empty()
            });
            if let Some(old) = old.cloned() {
                let mut new = old.clone();
                let at = new
                    .windows(8)
                    .position(|window| window == b"person 4")
                    .unwrap();
                new[at + 7] = b'5';
                entries.remove(&old);
                entries.insert(new, Vec::new());
            }
        }
    });
    fault(&bytes, "two documents have one value in a unique index");
}

#[test]
fn documents_are_compared_with_their_schema() {
    let change = |change: &dyn Fn(&mut Vec<u8>)| {
        with(|trees| {
            let documents = tree_like(trees, "aurora/documents/");
            change(
                trees
                    .get_mut(&documents)
                    .unwrap()
                    .values_mut()
                    .next()
                    .unwrap(),
            );
        })
    };
    let bytes = change(&|document| *document = vec![0xa0]);
    let found = fault(&bytes, "a document is not as its schema says");
    assert!(found["found"].as_str().unwrap().contains("name"));
    let bytes = change(&|document| document.truncate(5));
    fault(&bytes, "a document does not decode");
}

#[test]
fn collections_are_checked() {
    let bytes = with(|trees| {
        let record = trees.get_mut("aurora/collections").unwrap();
        record.get_mut(&b"people"[..]).unwrap().truncate(20);
    });
    fault(&bytes, "the record of a collection does not decode");
    let bytes = with(|trees| {
        let record = trees["aurora/collections"][&b"people"[..]].clone();
        trees
            .get_mut("aurora/collections")
            .unwrap()
            .insert(b"people too".to_vec(), record);
    });
    fault(&bytes, "two collections have one number");
    let bytes = with(|trees| {
        trees.insert("aurora/documents/99".into(), [(vec![1], vec![2])].into());
    });
    assert_eq!(
        fault(&bytes, "a tree belongs to no collection")["tree"],
        "aurora/documents/99"
    );
    let bytes = with(|trees| {
        trees
            .get_mut("aurora/meta")
            .unwrap()
            .insert(b"collection".to_vec(), vec![0; 4]);
    });
    fault(&bytes, "a collection has a number that was not given yet");
}

/// A blob of 2 chunks and a bit, and a staged one.
fn with_blobs(change: impl FnOnce(&mut Trees)) -> Vec<u8> {
    with(|trees| {
        let content: Vec<u8> = (0..2500u32).map(|i| i as u8).collect();
        let checksum = aurora::anatomy::crc32c(0, &content);
        let mut record = vec![1];
        record.extend_from_slice(&7u64.to_le_bytes());
        record.extend_from_slice(&2500u64.to_le_bytes());
        record.extend_from_slice(&1000u32.to_le_bytes());
        record.extend_from_slice(&checksum.to_le_bytes());
        record.extend_from_slice(&1_700_000_000_000u64.to_le_bytes());
        record.extend_from_slice(b"\x09\0image/png\x02\0\x01\0a\0\0\x01\0b\x02\0xy");
        trees
            .get_mut(KEYS)
            .unwrap()
            .insert(b"picture".to_vec(), record);
        let chunks = trees.entry("aurora/chunks".into()).or_default();
        for (i, chunk) in content.chunks(1000).enumerate() {
            chunks.insert(chunk_key(7, i as u32), chunk.to_vec());
        }
        chunks.insert(chunk_key(9, 0), vec![1]);
        let staged = trees.entry("aurora/staged".into()).or_default();
        staged.insert(9u64.to_be_bytes().to_vec(), Vec::new());
        let facts = trees.entry("aurora/meta".into()).or_default();
        facts.insert(b"blob".to_vec(), 9u64.to_le_bytes().to_vec()); // the last number that was given
        change(trees);
    })
}

fn chunk_key(number: u64, index: u32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &index.to_be_bytes()].concat()
}

#[test]
fn blobs_and_chunks_are_compared_both_ways() {
    assert_eq!(faults(&with_blobs(|_| {})), Vec::<String>::new());
    fn chunks(trees: &mut Trees) -> &mut std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
        trees.get_mut("aurora/chunks").unwrap()
    }
    let bytes = with_blobs(|trees| drop(chunks(trees).remove(&chunk_key(7, 1))));
    assert_eq!(
        fault(&bytes, "a chunk of a blob is missing")["key"],
        "\"picture\""
    );
    let bytes = with_blobs(|trees| chunks(trees).get_mut(&chunk_key(7, 2)).unwrap().truncate(9));
    let found = fault(&bytes, "chunk 2 of a blob has another length");
    assert_eq!(
        (&found["expected"], &found["found"]),
        (&"500".into(), &"9".into())
    );
    let bytes = with_blobs(|trees| chunks(trees).get_mut(&chunk_key(7, 2)).unwrap()[0] ^= 1);
    fault(&bytes, "the content of a blob does not match its checksum");
    let bytes = with_blobs(|trees| drop(chunks(trees).insert(chunk_key(7, 3), vec![1])));
    fault(&bytes, "a chunk lies behind the end of its blob");
    let bytes = with_blobs(|trees| drop(chunks(trees).insert(chunk_key(8, 0), vec![1])));
    fault(&bytes, "a chunk belongs to no blob");
    let bytes = with_blobs(|trees| trees.get_mut("aurora/staged").unwrap().clear());
    assert_eq!(
        fault(&bytes, "a chunk belongs to no blob")["key"],
        "blob 9, chunk 0"
    );
    let bytes = with_blobs(|trees| {
        let keys = trees.get_mut(KEYS).unwrap();
        let record = keys[&b"picture"[..]].clone();
        keys.insert(b"picture too".to_vec(), record);
    });
    fault(&bytes, "two blobs have one number");
    let change = |change: fn(&mut Vec<u8>)| {
        with_blobs(|trees| {
            let keys = trees.get_mut(KEYS).unwrap();
            change(keys.get_mut(&b"picture"[..]).unwrap());
        })
    };
    // The names of the map in another order, and twice the same.
    let names = change(|record| {
        let at = record.len() - 12;
        assert_eq!(&record[at..at + 3], b"\x01\0a");
        record[at + 2] = b'c';
    });
    fault(&names, "the map of a blob is not in the order of its names");
    let twice = change(|record| {
        let at = record.len() - 12;
        record[at + 2] = b'b';
    });
    fault(&twice, "the map of a blob is not in the order of its names");
    let cut = change(|record| record.truncate(record.len() - 1));
    fault(
        &cut,
        "the record of a blob does not decode: the record of a blob ends too early",
    );
    let longer = change(|record| record.push(0));
    fault(&longer, "the record of a blob goes on after its end");
    let no_text = change(|record| record[1 + 34] = 0xff);
    fault(&no_text, "is not UTF-8");
}

#[test]
fn a_blob_is_shown_with_its_chunks() {
    let blob = |bytes: &[u8]| aurora_inspect::commands::blob(&source(bytes), b"picture").unwrap();
    let report = blob(&with_blobs(|_| {}));
    assert!(!report.is_damaged, "{}", report.text);
    assert_eq!(
        (&report.json["chunks"], &report.json["sound_chunks"]),
        (&3.into(), &3.into())
    );
    assert_eq!(report.json["blob"]["size"], 2500);
    assert_eq!(report.json["blob"]["created_ms"], 1_700_000_000_000u64);
    assert_eq!(report.json["blob"]["content_type"], "image/png");
    assert_eq!(report.json["blob"]["map"][1][1], "xy");
    assert!(report.text.contains("\"b\" = \"xy\""), "{}", report.text);
    let bytes = with_blobs(|trees| {
        trees
            .get_mut("aurora/chunks")
            .unwrap()
            .remove(&chunk_key(7, 2));
    });
    let report = blob(&bytes);
    assert!(report.is_damaged);
    assert_eq!(report.json["sound_chunks"], 2);
}
