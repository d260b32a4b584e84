//! Files that were damaged with knowledge of their structure, and are written to: what could be read before
//! can be read afterwards, or the writer says what is wrong.

mod common;

use std::sync::Arc;
use std::time::Duration;

use aurora::anatomy::Node;
use aurora::storage::MemoryStorage;
use aurora::{Aurora, Field, FieldType, Object, Schema};
use common::*;

/// The count of a tree is made anew from those in its branches where many entries change. With more entries than the file
/// has bytes the tree would be taken for damage when the file is opened, and with it the file.
#[test]
fn a_wrong_count_in_a_branch_does_not_close_the_file_for_ever() {
    let bytes = closed(4096, 8);
    let branch = *pages_of(&bytes, "numbers", "branch").first().unwrap();
    let mut surgeon = Surgeon::new(bytes);
    surgeon.operate(branch, |page| {
        let at = usize::from(Node::read(page, branch).unwrap().slot(1).0);
        page[at + 8..at + 16].copy_from_slice(&(1_u64 << 62).to_le_bytes());
    });
    let memory = MemoryStorage::from_bytes(&surgeon.bytes);
    let open = || {
        let builder = Aurora::builder().background(false);
        builder.open_storage(Arc::new(memory.reopen()))
    };
    let db = open().unwrap();
    let many = (0..100).map(|i| (format!("z/{i:06}"), "behind all others"));
    let error = db.tree("numbers").unwrap().put_many(many).unwrap_err();
    assert!(error.is_corruption(), "{error}");
    db.put("after", "1", None).unwrap();
    db.close().unwrap();
    let db = open().unwrap();
    assert_eq!(db.get("after").unwrap().unwrap(), b"1"[..]);
    assert!(db.check().unwrap_err().is_corruption());
}

/// The writer gives no number that a collection or a blob has, and `check` says beforehand that it would have to.
#[test]
fn numbers_that_were_not_given_are_damage() {
    let all = trees(&closed(4096, 1));
    let with = |fact: &str, value: &[u8]| {
        let mut trees = all.clone();
        let facts = trees.get_mut("aurora/meta").unwrap();
        facts.insert(fact.as_bytes().to_vec(), value.to_vec());
        let bytes = build(&trees);
        let db = Aurora::builder()
            .background(false)
            .open_storage(memory(&bytes))
            .unwrap();
        (db.check(), faults(&bytes))
    };
    let (checked, found) = with("collection", &1_u32.to_le_bytes());
    checked.unwrap();
    assert_eq!(found, Vec::<String>::new());
    for value in [&0_u32.to_le_bytes()[..], &[1, 0, 0]] {
        let (checked, found) = with("collection", value);
        let error = checked.unwrap_err();
        assert!(error.is_corruption(), "{error}");
        assert_ne!(found, Vec::<String>::new());
    }
    let mut trees = all.clone();
    let keys = trees.get_mut("aurora/collections").unwrap();
    let record = keys.values().next().unwrap().clone();
    keys.insert(b"with the same number".to_vec(), record.clone());
    keys.insert(vec![0xff], record);
    for name in [&b"with the same number"[..], &[0xff]] {
        let mut trees = trees.clone();
        let records = trees.get_mut("aurora/collections").unwrap();
        records.retain(|key, _| key == name || key == b"people");
        let db = Aurora::builder()
            .background(false)
            .open_storage(memory(&build(&trees)))
            .unwrap();
        let error = db.check().unwrap_err();
        assert!(error.is_corruption(), "{error}");
    }
}

/// The same for blobs.
#[test]
fn a_number_of_a_blob_that_was_not_given_is_damage() {
    let storage = MemoryStorage::new();
    let db = Aurora::builder()
        .background(false)
        .open_storage(Arc::new(storage.clone()))
        .unwrap();
    db.tree("numbers").unwrap().put("1", "1").unwrap(); // a name that shares nothing with the others
    db.put_blob_from("a", &b"content"[..]).unwrap();
    db.put_blob_from("b", &b"content"[..]).unwrap();
    db.close().unwrap();
    let mut all = trees(&storage.to_bytes());
    for (last, is_sound) in [(2_u64, true), (1, false)] {
        let facts = all.get_mut("aurora/meta").unwrap();
        facts.insert(b"blob".to_vec(), last.to_le_bytes().to_vec());
        let bytes = build(&all);
        let db = Aurora::builder()
            .background(false)
            .open_storage(memory(&bytes))
            .unwrap();
        let checked = db.check();
        assert_eq!(checked.is_ok(), is_sound, "{checked:?}");
        assert!(checked.err().is_none_or(|error| error.is_corruption()));
        assert_eq!(faults(&bytes).is_empty(), is_sound);
    }
    // What is listed as not finished goes with the next open.
    let facts = all.get_mut("aurora/meta").unwrap();
    facts.insert(b"blob".to_vec(), 2_u64.to_le_bytes().to_vec());
    for (listed, what) in [
        (&2_u64.to_be_bytes()[..], "that of an unfinished blob"),
        (b"seven..", "not 8 bytes long"),
    ] {
        let staged = [(listed.to_vec(), Vec::new())].into();
        all.insert("aurora/staged".to_string(), staged);
        let _ = fault(&build(&all), what);
    }
}

/// What an open refuses, a check of the file refuses too.
#[test]
fn pages_that_are_too_young_are_damage() {
    let bytes = closed(4096, 1);
    for (tree, kind) in [("numbers", "leaf"), ("", "bitmap"), ("", "index")] {
        let page = *pages_of(&bytes, tree, kind).first().unwrap();
        let mut surgeon = Surgeon::new(bytes.clone());
        surgeon.operate(page, |page| page[15] = 1);
        let _ = fault(&surgeon.bytes, "younger than the checkpoint that names it");
    }
}

/// A long value of gigabytes, says a leaf of a small file. To delete it was to free all behind its first page.
#[test]
fn a_long_value_that_reaches_past_the_file_frees_nothing() {
    let bytes = closed(4096, 1);
    let leaf = *pages_of(&bytes, "long", "leaf").first().unwrap();
    let numbers = trees(&bytes)["numbers"].clone();
    for length in [u32::MAX, 3 << 20] {
        let mut surgeon = Surgeon::new(bytes.clone());
        surgeon.operate(leaf, |page| {
            let (offset, suffix) = Node::read(page, leaf).unwrap().slot(0);
            let at = usize::from(offset) + usize::from(suffix.saturating_sub(4)) + 4;
            page[at..at + 4].copy_from_slice(&length.to_le_bytes());
        });
        let memory = MemoryStorage::from_bytes(&surgeon.bytes);
        let open = || {
            let builder = Aurora::builder().background(false);
            builder.open_storage(Arc::new(memory.reopen()))
        };
        let db = open().unwrap();
        let error = db.tree("long").unwrap().delete("0").unwrap_err();
        assert!(error.is_corruption(), "{error}");
        for i in 0..200_u32 {
            db.tree("other")
                .unwrap()
                .put(i.to_be_bytes(), [1; 300])
                .unwrap();
        }
        db.checkpoint().unwrap();
        db.close().unwrap();
        let db = open().unwrap();
        let left = db.begin_read().unwrap();
        let left = left.tree("numbers").unwrap();
        let left: aurora::Result<Vec<_>> = left.iter().collect();
        assert!(left.unwrap() == numbers.clone().into_iter().collect::<Vec<_>>());
    }
}

/// Documents that no collection has are seen by nobody.
#[test]
fn trees_of_no_collection_are_damage() {
    let mut all = trees(&closed(4096, 1));
    let check = |trees: &Trees| {
        let builder = Aurora::builder().background(false);
        builder.open_storage(memory(&build(trees))).unwrap().check()
    };
    check(&all).unwrap();
    all.get_mut("aurora/collections").unwrap().clear();
    let error = check(&all).unwrap_err();
    assert!(
        error.to_string().contains("belongs to no collection"),
        "{error}"
    );
    assert!(error.is_corruption());
}

/// To go through the documents, some at a time, was to go in a circle: a collection was never deleted, and no other writer had
/// its turn again.
#[test]
fn documents_that_are_not_in_order_are_gone_through_once() {
    let storage = MemoryStorage::new();
    let open = |storage: &MemoryStorage| {
        let builder = Aurora::builder().background(false);
        builder.open_storage(Arc::new(storage.reopen())).unwrap()
    };
    let db = open(&storage);
    let schema = Schema::new()
        .field(Field::new("id", FieldType::Int))
        .field(Field::new("seen", FieldType::DateTime))
        .expires_after("seen", Duration::from_secs(9));
    db.new_collection("people", schema).unwrap();
    for id in 0..5 {
        db.insert_into("people", Object::from([("id", id)]))
            .unwrap();
    }
    db.close().unwrap();
    let bytes = storage.to_bytes();
    let names = trees(&bytes).into_keys();
    let mut tree = names.filter(|name| name.starts_with("aurora/documents"));
    let leaf = *pages_of(&bytes, &tree.next().unwrap(), "leaf")
        .first()
        .unwrap();
    let mut surgeon = Surgeon::new(bytes);
    surgeon.operate(leaf, |page| {
        let last = 32 + 8 * (usize::from(u16::from_le_bytes([page[18], page[19]])) - 1);
        (0..8).for_each(|i| page.swap(32 + i, last + i));
    });
    let storage = MemoryStorage::from_bytes(&surgeon.bytes);
    let db = open(&storage);
    let index = aurora::Index::on(["seen"]);
    for done in [
        db.create_index("people", index.named("another")).wait(),
        db.alter_collection("people", Schema::new()).wait(),
        db.delete_collection("people").wait(),
    ] {
        let error = done.unwrap_err();
        assert!(error.is_corruption(), "{error:?}");
    }
    db.put("after", "1", None).unwrap();
}
