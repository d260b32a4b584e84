//! Files that earlier versions wrote. Each is opened, read, checked and written to, for ever.
//!
//! `tests/golden/vN/` has the files of format version N, each with a listing of its contents beside
//! it. They are never changed and never made anew. When a new feature of the format needs a file,
//! add a sample and run
//!
//! ```text
//! cargo test --test golden -- --ignored
//! ```
//!
//! which writes those that are not there yet, and the listing of one that an earlier version wrote and that has none.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aurora::storage::MemoryStorage;
use aurora::{Aurora, Object};
use common::listing::{Still, assert_same, listing, shortened, sorted};
use common::samples::SAMPLES;

/// Files that there were when this was last changed; more may come, none may go.
const FILES: usize = 10;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn golden_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(directory()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "db"))
        .collect();
    files.sort();
    files
}

fn expected(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file.with_extension("jsonl")).unwrap();
    sorted(text.lines().map(|line| serde_json::from_str(line).unwrap()))
}

fn held(db: &Aurora) -> Vec<String> {
    sorted(listing(db).unwrap().into_iter().map(shortened))
}

fn open(storage: &MemoryStorage) -> Aurora {
    Aurora::builder()
        .background(false)
        .clock(Arc::new(Still))
        .open_storage(Arc::new(storage.reopen()))
        .unwrap()
}

fn assert_holds(db: &Aurora, file: &Path, expected: &[String]) {
    let name = file.display().to_string();
    assert_same(&name, &held(db), expected);
    db.check().unwrap();
}

#[test]
fn golden_files_hold_what_they_held() {
    let files = golden_files();
    assert!(files.len() >= FILES, "golden files are missing: {files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let storage = MemoryStorage::from_bytes(&bytes);
        let expected = expected(&file);

        let read_only = Aurora::builder()
            .read_only(true)
            .background(false)
            .clock(Arc::new(Still))
            .open_storage(Arc::new(storage.reopen()))
            .unwrap();
        assert_same("read only", &held(&read_only), &expected);
        drop(read_only);
        assert_eq!(
            storage.to_bytes(),
            bytes,
            "reading has changed {}",
            file.display()
        );

        let db = open(&storage);
        assert_holds(&db, &file, &expected);
        db.close().unwrap();
        let db = open(&storage);
        assert_holds(&db, &file, &expected);
    }
}

#[test]
fn golden_files_can_be_written_to() {
    for file in golden_files() {
        let storage = MemoryStorage::from_bytes(&fs::read(&file).unwrap());
        let mut expected = expected(&file);
        let db = open(&storage);
        write(&db);
        db.check().unwrap();
        let written = held(&db);
        expected.retain(|line| written.binary_search(line).is_err());
        assert_eq!(
            expected,
            Vec::<String>::new(),
            "writing has changed {}",
            file.display()
        );
        db.close().unwrap();

        let db = open(&storage);
        assert_holds(&db, &file, &written);
        undo(&db);
        db.compact().unwrap();
        db.close().unwrap();
        let db = open(&storage);
        assert_holds(&db, &file, &self::expected(&file));
    }
}

/// Something of each kind, in trees and collections of its own.
fn write(db: &Aurora) {
    db.write(|tx| {
        let mut tree = tx.tree("written later")?;
        for i in 0..500_u32 {
            tree.put(i.to_be_bytes(), vec![i as u8; 40])?;
        }
        tree.put("long", vec![9; 50_000])?;
        tx.put("written:later", "value", None)
    })
    .unwrap();
    db.put_blob_from("written:blob", &[7; 10_000][..]).unwrap();
    let schema = aurora::Schema::schemaless();
    db.new_collection("written later", schema).unwrap();
    let index = aurora::Index::on(["name"]);
    db.create_index("written later", index).wait().unwrap();
    for i in 0..20 {
        let fields = Object::from([("name", format!("name {i}"))]);
        db.insert_into("written later", fields).unwrap();
    }
}

fn undo(db: &Aurora) {
    db.write(|tx| tx.drop_tree("written later")).unwrap();
    assert!(db.delete("written:later").wait().unwrap());
    assert!(db.delete_blob("written:blob").unwrap());
    db.delete_collection("written later").wait().unwrap();
}

#[test]
#[ignore = "writes golden files that are not there yet"]
fn add_missing_golden_files() {
    for sample in SAMPLES.iter().filter(|sample| sample.golden) {
        let file = directory().join(format!("{}.db", sample.name));
        if file.with_extension("jsonl").exists() {
            println!("{} is there and stays", file.display());
            continue;
        }
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(_) => sample.bytes().unwrap(),
        };
        if !file.exists() {
            let again = sample.bytes().unwrap();
            assert!(bytes == again, "{} is not the same each time", sample.name);
        }
        let storage = MemoryStorage::from_bytes(&bytes);
        let lines = held(&open(&storage));
        fs::create_dir_all(directory()).unwrap();
        fs::write(&file, bytes).unwrap();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(file.with_extension("jsonl"), text).unwrap();
    }
}
