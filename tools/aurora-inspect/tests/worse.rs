//! Files that were damaged with knowledge of their structure, and are written to: what could be read before
//! can be read afterwards, or the writer says what is wrong.

mod common;

use std::sync::Arc;

use aurora::Aurora;
use aurora::anatomy::Node;
use aurora::storage::MemoryStorage;
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
}

/// What an open refuses, a check of the file refuses too.
#[test]
fn pages_that_are_too_young_are_damage() {
    let bytes = closed(4096, 1);
    let leaf = *pages_of(&bytes, "numbers", "leaf").first().unwrap();
    let mut surgeon = Surgeon::new(bytes);
    surgeon.operate(leaf, |page| page[15] = 1);
    let _ = fault(&surgeon.bytes, "younger than the checkpoint that names it");
}
