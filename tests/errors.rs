//! Bad input, broken devices, damaged files: each is an `Error` that says what to do, nothing that
//! was acknowledged is lost, and the handle goes on where it can.
mod common;
#[path = "common/hooked.rs"]
mod hooked;

use std::cell::Cell;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aurora::storage::{SimCrash, SimDisk, SimEvent, SimFault, SimOperation, SimOutcome, SimTarget};
use aurora::{Aurora, Durability, Error, Result};

use common::{Model, Random, budget, contents, open, repeatable};
use hooked::Hooked;

/// The error of a call that must fail, with an advice in its text.
fn refused<T>(outcome: Result<T>, advice: &str) -> Error {
    let Err(error) = outcome else {
        panic!("it should have failed, with an advice like {advice:?}");
    };
    let text = error.to_string();
    assert!(text.contains(advice), "{text:?} does not say {advice:?}");
    error
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data.db");
    (directory, path)
}

/// A closed database with some entries, big ones too.
fn make(path: &Path) -> Model {
    let db = Aurora::open(path).unwrap();
    db.write(|tx| {
        let mut tree = tx.tree("t")?;
        for i in 0..500u32 {
            tree.put(format!("key{i:04}"), format!("value {i}"))?;
        }
        tree.put("big", vec![7; 50_000])?;
        Ok(())
    })
    .unwrap();
    let model = contents(&db.begin_read().unwrap()).unwrap();
    db.close().unwrap();
    model
}

fn contents_of(path: &Path) -> Model {
    let db = Aurora::open(path).unwrap();
    db.check().unwrap();
    contents(&db.begin_read().unwrap()).unwrap()
}

/// Changes both header slots and seals them again.
fn patch_slots(path: &Path, patch: impl Fn(&mut [u8])) {
    let mut bytes = std::fs::read(path).unwrap();
    for start in [0, 4096] {
        let slot = &mut bytes[start..start + 256];
        if !slot.starts_with(b"AURORADB") {
            continue; // a file that had one checkpoint only
        }
        patch(slot);
        let checksum = crc32c::crc32c(&slot[..252]);
        slot[252..].copy_from_slice(&checksum.to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

// --- What the file is -----------------------------------------------------------------------

#[test]
fn a_file_that_is_not_auroras_is_refused_and_left_alone() {
    let texts: [Vec<u8>; 6] = [
        b"x".to_vec(),
        b"Dear diary, today I opened a database.\n".to_vec(),
        b"line\n".repeat(5000),
        vec![0xff; 100_000],
        b"SQLite format 3\0"
            .iter()
            .copied()
            .chain([0; 20_000])
            .collect(),
        Random(3).bytes(70_000),
    ];
    for text in texts {
        let (_directory, path) = scratch();
        std::fs::write(&path, &text).unwrap();
        for builder in [
            Aurora::builder(),
            Aurora::builder().create(false),
            Aurora::builder().read_only(true),
        ] {
            let error = refused(builder.open(&path), "check the path");
            assert!(matches!(error, Error::NotADatabase { .. }), "{error:?}");
            assert!(error.to_string().contains("not changed"));
            assert_eq!(std::fs::read(&path).unwrap(), text);
        }
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let (_directory, path) = scratch();
    let model = make(&path);
    let original = std::fs::read(&path).unwrap();
    patch_slots(&path, |slot| {
        slot[8..12].copy_from_slice(&77u32.to_le_bytes())
    });
    let patched = std::fs::read(&path).unwrap();
    assert_ne!(patched, original);
    for read_only in [false, true] {
        let outcome = Aurora::builder().read_only(read_only).open(&path);
        let error = refused(outcome, "newer release");
        assert!(
            matches!(error, Error::NewerFormat { found: 77, .. }),
            "{error:?}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), patched);
    }
    std::fs::write(&path, original).unwrap();
    assert_eq!(contents_of(&path), model);
}

#[test]
fn an_unknown_feature_is_refused_and_left_alone() {
    let (_directory, path) = scratch();
    make(&path);
    patch_slots(&path, |slot| {
        slot[56..64].copy_from_slice(&0x20u64.to_le_bytes())
    });
    let patched = std::fs::read(&path).unwrap();
    for read_only in [false, true] {
        let outcome = Aurora::builder().read_only(read_only).open(&path);
        let error = refused(outcome, "newer release");
        assert!(
            matches!(error, Error::UnknownFeatures { flags: 0x20 }),
            "{error:?}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), patched);
    }
}

/// Flags at 40 may be ignored; those at 48 forbid to write and not to read.
#[test]
fn compatible_features_are_ignored_and_read_compatible_ones_forbid_to_write() {
    let (_directory, path) = scratch();
    let model = make(&path);
    patch_slots(&path, |slot| {
        slot[40..48].copy_from_slice(&1u64.to_le_bytes())
    });
    assert_eq!(contents_of(&path), model);
    patch_slots(&path, |slot| {
        slot[48..56].copy_from_slice(&1u64.to_le_bytes())
    });
    let patched = std::fs::read(&path).unwrap();
    let reader = Aurora::builder().read_only(true).open(&path).unwrap();
    assert_eq!(contents(&reader.begin_read().unwrap()).unwrap(), model);
    drop(reader);
    match Aurora::open(&path) {
        Err(error) => assert!(matches!(error, Error::UnknownFeatures { .. }), "{error:?}"),
        Ok(db) => {
            let error = db.tree("t").unwrap().put("k", "v").unwrap_err();
            assert!(matches!(error, Error::ReadOnly), "{error:?}");
        }
    }
    assert_eq!(std::fs::read(&path).unwrap(), patched);
}

#[test]
fn a_truncated_file_is_corruption_and_left_alone() {
    let (_directory, path) = scratch();
    let model = make(&path);
    let original = std::fs::read(&path).unwrap();
    let full = original.len();
    let cuts = [
        full - 1,
        full - 4096,
        full / 2,
        40_000,
        8193,
        8192,
        8191,
        5000,
        4096,
        300,
    ];
    for cut in cuts {
        for read_only in [false, true] {
            std::fs::write(&path, &original[..cut]).unwrap();
            let opened = Aurora::builder().read_only(read_only).open(&path);
            let error = refused(opened, "restore a backup");
            assert!(error.is_corruption(), "cut to {cut}: {error:?}");
            assert_eq!(
                std::fs::read(&path).unwrap(),
                original[..cut],
                "cut to {cut}"
            );
        }
    }
    std::fs::write(&path, original).unwrap();
    assert_eq!(contents_of(&path), model);
}

#[test]
fn an_empty_file_becomes_a_database_only_if_one_may_be_made() {
    let (_directory, path) = scratch();
    std::fs::write(&path, b"").unwrap();
    refused(
        Aurora::builder().create(false).open(&path),
        "check the path",
    );
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    refused(
        Aurora::builder().read_only(true).open(&path),
        "check the path",
    );
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    let db = Aurora::open(&path).unwrap();
    db.tree("t").unwrap().put("k", "v").unwrap();
    db.close().unwrap();
    assert_eq!(contents_of(&path).0["t"][&b"k"[..]], b"v");
}

// --- What the path is -----------------------------------------------------------------------

#[test]
fn a_directory_a_missing_file_and_a_missing_directory_are_told_apart() {
    let (directory, path) = scratch();
    std::fs::create_dir(&path).unwrap();
    for builder in [Aurora::builder(), Aurora::builder().read_only(true)] {
        let error = refused(builder.open(&path), "is a file");
        assert!(
            matches!(error, Error::Open { .. }) && error.is_io(),
            "{error:?}"
        );
    }
    let missing = directory.path().join("missing");
    for builder in [
        Aurora::builder().create(false),
        Aurora::builder().read_only(true),
    ] {
        let error = refused(builder.open(&missing), "create(true)");
        assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
        assert!(error.to_string().contains("missing.db"), "{error}");
    }
    assert!(!missing.with_extension("db").exists());
    let error = refused(Aurora::open(missing.join("deeper")), "check");
    assert!(
        matches!(error, Error::NotFound { .. } | Error::Open { .. }),
        "{error:?}"
    );
}

/// They would become hidden files with the extension alone as their name.
#[test]
fn a_path_without_a_name_is_refused() {
    let (directory, path) = scratch();
    make(&path);
    let inside = |name: &str| directory.path().join(name);
    let paths = ["dir/", ".", "..", "dir/.", ".db"].map(inside);
    std::fs::create_dir(inside("dir")).unwrap();
    let db = Aurora::open(&path).unwrap();
    for bad in paths.into_iter().chain(["".into()]) {
        for builder in [Aurora::builder(), Aurora::builder().read_only(true)] {
            let error = refused(builder.open(&bad), "name");
            assert!(error.is_misuse(), "{bad:?}: {error:?}");
        }
        let error = refused(db.backup_to(&bad), "name");
        assert!(matches!(error, Error::BadPath { .. }), "{error:?}");
    }
    assert_eq!(std::fs::read_dir(inside("dir")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_is_named() {
    let (directory, path) = scratch();
    std::os::unix::fs::symlink("gone/data.db", &path).unwrap();
    for builder in [Aurora::builder(), Aurora::builder().read_only(true)] {
        let error = refused(builder.open(&path), "a link to gone/data.db");
        assert!(matches!(error, Error::Open { .. }), "{error:?}");
    }
    std::fs::create_dir(directory.path().join("gone")).unwrap();
    std::fs::write(directory.path().join("gone/data.db"), "").unwrap();
    drop(Aurora::open(&path).unwrap());
}

/// There is room on the device, and the file may not have it.
#[test]
fn a_file_that_may_not_grow_is_as_a_full_disk_and_says_why() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    let too_large = SimFault::Error(std::io::ErrorKind::FileTooLarge);
    disk.fail_from(SimOperation::SetLength, 1, too_large);
    let mut puts = 0;
    let error = loop {
        match db.tree("t").unwrap().put([puts], [puts; 3000]) {
            Ok(_) => puts += 1,
            error => break refused(error, "raise the limit"),
        }
    };
    assert!(error.is_disk_full() && error.is_io(), "{error:?}");
    disk.clear_faults();
    db.tree("t").unwrap().put([puts], "room").unwrap();
    assert_eq!(db.tree("t").unwrap().len().unwrap(), u64::from(puts) + 1);
    db.check().unwrap();
}

#[cfg(unix)]
#[test]
fn a_file_without_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, path) = scratch();
    let model = make(&path);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
    if std::fs::read(&path).is_ok() {
        return; // root may do everything
    }
    let error = refused(Aurora::open(&path), "may read and write");
    assert!(matches!(error, Error::Open { .. }), "{error:?}");
    assert!(error.to_string().contains("data.db"));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).unwrap();
    refused(Aurora::open(&path), "may read and write");
    let reader = Aurora::builder().read_only(true).open(&path).unwrap();
    assert_eq!(contents(&reader.begin_read().unwrap()).unwrap(), model);
}

#[test]
fn a_second_opener_is_locked_out() {
    let (_directory, path) = scratch();
    let model = make(&path);
    let writer = Aurora::open(&path).unwrap();
    for read_only in [false, true] {
        let error = refused(
            Aurora::builder().read_only(read_only).open(&path),
            "close the other",
        );
        assert!(error.is_locked());
    }
    writer.tree("t").unwrap().put("still", "works").unwrap();
    writer.tree("t").unwrap().delete("still").unwrap();
    let clone = writer.clone();
    drop(writer);
    assert!(
        Aurora::open(&path).unwrap_err().is_locked(),
        "the clone has it"
    );
    let snapshot = clone.begin_read().unwrap();
    clone.close().unwrap();
    let what_came_of_it = refused(Aurora::open(&path), "and drop what came of it");
    assert!(what_came_of_it.is_locked());
    drop(snapshot);

    let first = Aurora::builder().read_only(true).open(&path).unwrap();
    let second = Aurora::builder().read_only(true).open(&path).unwrap();
    assert!(Aurora::open(&path).unwrap_err().is_locked());
    for reader in [first, second] {
        assert_eq!(contents(&reader.begin_read().unwrap()).unwrap(), model);
    }
    assert_eq!(contents_of(&path), model);

    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    assert!(open(disk.storage()).unwrap_err().is_locked());
    drop(db);
    open(disk.storage()).unwrap();
}

// --- What the caller passes -----------------------------------------------------------------

#[test]
fn bad_options_are_named() {
    let (_directory, path) = scratch();
    let bad = [
        ("page_size", Aurora::builder().page_size(0)),
        ("page_size", Aurora::builder().page_size(2048)),
        ("page_size", Aurora::builder().page_size(5000)),
        ("page_size", Aurora::builder().page_size(131_072)),
        ("memory_limit", Aurora::builder().memory_limit(0)),
        (
            "memory_limit",
            Aurora::builder().memory_limit((1 << 20) - 1),
        ),
        ("log_limit", Aurora::builder().log_limit(0)),
        ("log_limit", Aurora::builder().log_limit((64 << 10) - 1)),
        ("log_limit", Aurora::builder().log_limit(u64::MAX)),
    ];
    for (name, builder) in bad {
        let error = refused(builder.clone().open(&path), name);
        assert!(matches!(error, Error::BadOption { option, .. } if option == name));
        assert!(error.is_misuse());
        assert!(!path.exists(), "no file for a bad option");
        refused(builder.open_storage(SimDisk::new(1).storage()), name);
    }
    for size in [4096, 8192, 16384, 32768, 65536] {
        let db = Aurora::builder()
            .page_size(size)
            .memory_limit(1 << 20)
            .log_limit(64 << 10);
        let db = db.open_storage(SimDisk::new(1).storage()).unwrap();
        db.tree("t").unwrap().put("k", "v").unwrap();
        assert_eq!(db.stats().unwrap().page_size, size);
        db.check().unwrap();
    }
}

#[test]
fn keys_up_to_a_quarter_of_a_page_are_taken_and_no_longer_ones() {
    for page_size in [4096, 8192, 65536] {
        let disk = SimDisk::new(1);
        let open = || {
            let builder = repeatable().page_size(page_size as u32).log_limit(2 << 20);
            builder.open_storage(disk.storage()).unwrap()
        };
        let db = open();
        let tree = db.tree("t").unwrap();
        let error = refused(tree.put(vec![b'k'; page_size], "v"), "shorter key");
        let Error::KeyTooLong { length, limit } = error else {
            panic!("{error:?}");
        };
        assert_eq!((length, limit), (page_size, page_size / 4));
        assert!(error.is_misuse());
        assert!(
            !db.tree_names().unwrap().contains(&"t".to_string()),
            "rolled back"
        );

        let mut tx = db.begin_write().unwrap();
        for i in 0..40u8 {
            let mut key = vec![i; limit];
            for value in [0, 1, 100, 1360, page_size, 32768, 40_000] {
                tx.tree("t").unwrap().put(&key, vec![i; value]).unwrap();
            }
            key.push(1);
            for value in [0, 40_000] {
                let outcome = tx.tree("t").unwrap().put(&key, vec![i; value]);
                refused(outcome, "shorter key");
            }
            // A key that is too long to be there is not there.
            assert!(tx.tree("t").unwrap().get(&key).unwrap().is_none());
            assert!(!tx.tree("t").unwrap().delete(&key).unwrap());
        }
        tx.commit().unwrap(); // a wrong argument does not spoil the transaction
        db.check().unwrap();
        drop((tree, db));
        let db = open();
        db.check().unwrap();
        let tree = db.tree("t").unwrap();
        assert_eq!(tree.len().unwrap(), 40);
        for i in 0..40u8 {
            assert_eq!(tree.get(vec![i; limit]).unwrap().unwrap(), vec![i; 40_000]);
        }
    }
}

#[test]
fn values_around_every_boundary_come_back() {
    let mut lengths: Vec<usize> = (1300..1400).collect();
    lengths.extend([0, 1, 4000, 4095, 4096, 4097, 8192, 32_767, 32_768, 32_769]);
    lengths.extend([65_535, 65_536, 65_537, 131_072, (3 << 20) + 5]);
    let value =
        |length: usize| -> Vec<u8> { (0..length).map(|i| (i * 7 + length) as u8).collect() };
    let disk = SimDisk::new(5);
    let mut db = open(disk.storage()).unwrap();
    for &length in &lengths {
        db.tree("t")
            .unwrap()
            .put(length.to_be_bytes(), value(length))
            .unwrap();
    }
    for round in 0..4 {
        match round {
            0 => {}
            1 => db = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap(),
            2 => db.checkpoint().unwrap(),
            _ => {
                drop(db);
                db = open(disk.storage()).unwrap();
            }
        }
        db.check().unwrap();
        let snapshot = db.begin_read().unwrap();
        let tree = snapshot.tree("t").unwrap();
        assert_eq!(tree.len(), lengths.len() as u64);
        for &length in &lengths {
            let found = tree.get(length.to_be_bytes()).unwrap().unwrap();
            assert!(*found == *value(length), "round {round}, {length} bytes");
        }
    }
    // Each length replaced by each of its neighbours in kind.
    let mut tx = db.begin_write().unwrap();
    for &length in &lengths {
        tx.tree("t")
            .unwrap()
            .put(length.to_be_bytes(), value(length / 2))
            .unwrap();
    }
    tx.commit().unwrap();
    db.check().unwrap();
    for &length in &lengths {
        let found = db.tree("t").unwrap().get(length.to_be_bytes()).unwrap();
        assert!(found.unwrap() == value(length / 2), "{length} bytes");
    }
}

#[test]
fn bad_tree_names_and_missing_trees_are_refused() {
    let db = Aurora::in_memory().unwrap();
    let long = "x".repeat(256);
    let mut tx = db.begin_write().unwrap();
    for name in ["", &long] {
        let error = refused(tx.tree(name).map(|_| ()), "name of a tree");
        assert!(matches!(error, Error::BadTreeName { .. }) && error.is_misuse());
    }
    let fine = "y".repeat(255);
    tx.tree(&fine).unwrap().put("k", "v").unwrap();
    tx.tree("ä/🌊 ").unwrap().put("k", "v").unwrap();
    for outcome in [
        tx.drop_tree("none"),
        tx.rename_tree("none", "other"),
        tx.view("none").map(|_| ()),
    ] {
        let error = refused(outcome, "check the name");
        assert!(matches!(error, Error::TreeNotFound { .. }) && error.is_misuse());
    }
    for to in [fine.as_str(), "", &long] {
        let error = refused(tx.rename_tree("ä/🌊 ", to), "name of a tree");
        assert!(matches!(error, Error::BadTreeName { .. }), "{error:?}");
    }
    tx.commit().unwrap(); // wrong arguments do not spoil it
    assert_eq!(db.tree_names().unwrap(), [fine, "ä/🌊 ".to_string()]);

    let tree = db.tree("none").unwrap();
    for outcome in [tree.get("k").map(|_| ()), tree.len().map(|_| ())] {
        assert!(matches!(outcome, Err(Error::TreeNotFound { .. })));
    }
    let error = db.tree("").unwrap().put("k", "v").unwrap_err();
    assert!(matches!(error, Error::BadTreeName { .. }));
    let snapshot = db.begin_read().unwrap();
    assert!(matches!(
        snapshot.tree("none"),
        Err(Error::TreeNotFound { .. })
    ));
}

/// To be told to look whether the path is a file helped nobody whose directory could not be searched, or read, or written to.
#[test]
fn who_may_not_open_a_file_is_told_what_it_takes() {
    let refusal = || Arc::new(std::io::Error::from(ErrorKind::PermissionDenied));
    let error = Error::Open {
        path: "a.db".into(),
        source: refusal(),
    };
    for part in [
        "allowed",
        "read and write the file",
        "directory",
        "read_only",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = Error::OtherFile {
        operation: "read",
        path: "a.csv".into(),
        source: refusal(),
    };
    for part in ["must be allowed to", "directory"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// The transaction before changed nothing, or was dropped, or is of another database: a savepoint
/// of it is no savepoint of this one.
#[test]
fn a_savepoint_of_a_transaction_that_changed_nothing_or_of_another_database_is_refused() {
    let db = Aurora::in_memory().unwrap();
    let mut tx = db.begin_write().unwrap();
    let unchanged = tx.savepoint().unwrap();
    tx.commit().unwrap();
    let mut tx = db.begin_write().unwrap();
    tx.tree("t").unwrap().put("dropped", "1").unwrap();
    let dropped = tx.savepoint().unwrap();
    drop(tx);
    let other = Aurora::in_memory().unwrap();
    let mut strange = other.begin_write().unwrap();
    let foreign = strange.savepoint().unwrap();
    let mut tx = db.begin_write().unwrap();
    let _own = tx.savepoint().unwrap();
    tx.tree("t").unwrap().put("a", "1").unwrap();
    let accepted: Vec<&str> = [
        ("unchanged", unchanged),
        ("dropped", dropped),
        ("foreign", foreign),
    ]
    .iter()
    .filter(|(_, savepoint)| tx.roll_back_to(savepoint).is_ok())
    .map(|(name, _)| *name)
    .collect();
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
}

#[test]
fn a_savepoint_of_another_transaction_is_refused() {
    let db = Aurora::in_memory().unwrap();
    let mut tx = db.begin_write().unwrap();
    let old = tx.savepoint().unwrap();
    tx.tree("t").unwrap().put("0", "0").unwrap();
    let old_too = tx.savepoint().unwrap();
    tx.commit().unwrap();

    let mut tx = db.begin_write().unwrap();
    tx.tree("t").unwrap().put("a", "1").unwrap();
    let first = tx.savepoint().unwrap();
    tx.tree("t").unwrap().put("b", "2").unwrap();
    let second = tx.savepoint().unwrap();
    tx.tree("t").unwrap().put("c", "3").unwrap();
    for savepoint in [&old, &old_too] {
        let error = refused(tx.roll_back_to(savepoint), "take a new one");
        assert!(matches!(error, Error::UnknownSavepoint) && error.is_misuse());
    }
    assert_eq!(tx.view("t").unwrap().len(), 4, "nothing was undone");
    tx.roll_back_to(&first).unwrap();
    refused(tx.roll_back_to(&second), "take a new one");
    tx.tree("t").unwrap().put("d", "4").unwrap();
    tx.roll_back_to(&first).unwrap(); // it stays
    tx.tree("t").unwrap().put("e", "5").unwrap();
    tx.commit().unwrap();
    let snapshot = db.begin_read().unwrap();
    let tree: Vec<Vec<u8>> = snapshot
        .tree("t")
        .unwrap()
        .iter()
        .map(|e| e.unwrap().0)
        .collect();
    assert_eq!(tree, [b"0", b"a", b"e"]);
    db.check().unwrap();
}

#[test]
fn a_closed_database_refuses_everything_and_snapshots_go_on() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    let tree = db.tree("t").unwrap();
    tree.put("k", "v").unwrap();
    let snapshot = db.begin_read().unwrap();
    let clone = db.clone();
    db.close().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let outcomes: Vec<Result<()>> = vec![
        tree.put("k", "w").map(|_| ()),
        tree.get("k").map(|_| ()),
        tree.len().map(|_| ()),
        tree.delete("k").map(|_| ()),
        clone.tree("t").map(|_| ()),
        clone.begin_read().map(|_| ()),
        clone.begin_write().map(|_| ()),
        clone.write(|_| Ok(())),
        clone.tree_names().map(|_| ()),
        clone.flush(),
        clone.checkpoint(),
        clone.compact().map(|_| ()),
        clone.check().map(|_| ()),
        clone.stats().map(|_| ()),
        clone.tree_stats().map(|_| ()),
        clone.backup_to(directory.path().join("copy")),
    ];
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let Err(error) = outcome else {
            panic!("call {number} works on a closed database");
        };
        assert!(matches!(error, Error::Closed), "call {number}: {error:?}");
        refused(Err::<(), _>(error), "open it again");
    }
    assert_eq!(snapshot.tree("t").unwrap().get("k").unwrap().unwrap(), "v");
    clone.close().ok();
    drop((snapshot, tree));
    let db = open(disk.storage()).unwrap();
    assert_eq!(db.tree("t").unwrap().get("k").unwrap().unwrap(), b"v");
}

// --- Read-only ------------------------------------------------------------------------------

#[test]
fn read_only_sees_everything_changes_nothing_and_refuses_writes() {
    for clean in [true, false] {
        let disk = SimDisk::new(8);
        let db = repeatable()
            .log_limit(1 << 20)
            .open_storage(disk.storage())
            .unwrap();
        let mut random = Random(4);
        for i in 0..60u32 {
            let value = common::value(&mut random);
            db.tree("t").unwrap().put(format!("key{i}"), value).unwrap();
            if i == 30 {
                db.checkpoint().unwrap();
            }
        }
        let model = contents(&db.begin_read().unwrap()).unwrap();
        assert_eq!(model.0["t"].len(), 60);
        let image = if clean {
            db.close().unwrap();
            disk.image()
        } else {
            let image = disk.crash_image(SimCrash::KeepAll).image();
            drop(db);
            image
        };
        let disk = SimDisk::from_image(image.clone(), 1);
        let reader = repeatable()
            .read_only(true)
            .open_storage(disk.storage())
            .unwrap();
        assert_eq!(
            contents(&reader.begin_read().unwrap()).unwrap(),
            model,
            "clean: {clean}"
        );
        let outcomes: Vec<Result<()>> = vec![
            reader.tree("t").unwrap().put("k", "v").map(|_| ()),
            reader.begin_write().map(|_| ()),
            reader.write(|_| Ok(())),
            reader.checkpoint(),
            reader.flush(),
            reader.compact().map(|_| ()),
        ];
        for outcome in outcomes {
            let error = refused(outcome, "without `read_only(true)`");
            assert!(matches!(error, Error::ReadOnly) && error.is_misuse());
        }
        reader.check().unwrap();
        reader.stats().unwrap();
        reader.tree_stats().unwrap();
        reader.close().unwrap();
        assert!(disk.image() == image, "clean: {clean}");
        assert_eq!(disk.counters().mutating_calls(), 0);

        // The same through a real file.
        let (_directory, path) = scratch();
        std::fs::write(&path, &image).unwrap();
        let reader = Aurora::builder().read_only(true).open(&path).unwrap();
        assert_eq!(contents(&reader.begin_read().unwrap()).unwrap(), model);
        let copy = path.with_file_name("copy.db");
        reader.backup_to(&copy).unwrap();
        drop(reader);
        assert!(std::fs::read(&path).unwrap() == image);
        assert_eq!(contents_of(&copy), model);
        assert_eq!(contents_of(&path), model);
    }
}

// --- Devices --------------------------------------------------------------------------------

#[test]
fn a_full_disk_loses_nothing_and_goes_on_when_there_is_room() {
    let fresh = {
        let disk = SimDisk::new(1);
        drop(open(disk.storage()).unwrap());
        disk.image().len() as u64
    };
    let step = 13_331;
    for number in 0..budget(60) {
        let capacity = fresh + number * step;
        let disk = SimDisk::new(number);
        let db = open(disk.storage()).unwrap();
        disk.set_capacity(Some(capacity));
        let mut acknowledged = Model::default();
        let mut random = Random(number);
        let mut full = 0;
        for round in 0..4000 {
            let changes: Vec<_> = (0..1 + random.below(5))
                .map(|_| common::Change::random(&mut random))
                .collect();
            let mut next = acknowledged.clone();
            let outcome = db.write(|tx| {
                for change in &changes {
                    change.apply(tx)?;
                    change.apply_to(&mut next);
                }
                Ok(())
            });
            match outcome {
                Ok(()) => acknowledged = next,
                Err(error) => {
                    assert!(
                        error.is_disk_full(),
                        "capacity {capacity}, round {round}: {error:?}"
                    );
                    refused(Err::<(), _>(error), "free some space");
                    full += 1;
                    let found = contents(&db.begin_read().unwrap()).unwrap();
                    assert_models(&found, &acknowledged, "after a refused write");
                }
            }
            if full == 4 {
                break;
            }
        }
        assert!(full > 0, "capacity {capacity} never filled up");
        // What is on the disk right now is no less.
        let survivor = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap();
        assert_models(
            &contents(&survivor.begin_read().unwrap()).unwrap(),
            &acknowledged,
            "crash",
        );
        survivor.check().unwrap();
        if number % 2 == 0 {
            disk.set_capacity(None);
            db.tree("more")
                .unwrap()
                .put("room", vec![1; 300_000])
                .unwrap();
            db.checkpoint().unwrap();
            db.check().unwrap();
            db.write(|tx| tx.drop_tree("more")).unwrap();
            assert_models(
                &contents(&db.begin_read().unwrap()).unwrap(),
                &acknowledged,
                "room",
            );
        }
        drop(db);
        let db = open(disk.storage()).unwrap();
        assert_models(
            &contents(&db.begin_read().unwrap()).unwrap(),
            &acknowledged,
            "reopened",
        );
        disk.set_capacity(None);
        db.tree("more").unwrap().put("room", "yes").unwrap();
        db.check().unwrap();
    }
}

/// Trees that were only touched are the same as none: a transaction may or may not leave them.
#[track_caller]
fn assert_models(found: &Model, expected: &Model, when: &str) {
    let solid = |model: &Model| -> Model {
        let trees = model.0.iter().filter(|(_, tree)| !tree.is_empty());
        Model(
            trees
                .map(|(name, tree)| (name.clone(), tree.clone()))
                .collect(),
        )
    };
    let (found, expected) = (solid(found), solid(expected));
    if found != expected {
        let names = |model: &Model| -> Vec<(String, usize)> {
            model
                .0
                .iter()
                .map(|(name, tree)| (name.clone(), tree.len()))
                .collect()
        };
        panic!(
            "{when}: found {:?}, expected {:?}",
            names(&found),
            names(&expected)
        );
    }
}

/// Makes operation number `nth` of a transaction fail with an I/O error of the given kind.
fn fail_inside(target: SimTarget, nth: u64) -> Option<(SimDisk, Aurora, Error)> {
    let disk = SimDisk::new(nth);
    let db = open(disk.storage()).unwrap();
    db.write(|tx| {
        for i in 0..600u32 {
            tx.tree("t")?
                .put(format!("key{i:04}"), vec![i as u8; 900])?;
        }
        Ok(())
    })
    .unwrap();
    db.checkpoint().unwrap();
    drop(db);
    let db = open(disk.storage()).unwrap(); // nothing in memory: every page must be read
    let mut tx = db.begin_write().unwrap();
    tx.tree("t").unwrap().put("before", "1").unwrap();
    let savepoint = tx.savepoint().unwrap();
    disk.fail_once(target, nth, SimFault::Eio);
    let mut failed = None;
    for i in 0..600u32 {
        let mut tree = tx.tree("t").unwrap();
        let key = format!("key{i:04}");
        let outcome = match i % 3 {
            0 => tree.put(&key, vec![9; 40_000]),
            1 => tree.put(&key, "short"),
            _ => tree.delete(&key),
        };
        if let Err(error) = outcome {
            failed = Some(error);
            break;
        }
    }
    disk.clear_faults();
    let error = failed?;
    // Nothing can be done in it any more...
    let outcome = tx.tree("t").and_then(|mut tree| tree.put("k", "v"));
    assert!(
        matches!(outcome, Err(Error::TransactionFailed)),
        "{outcome:?}"
    );
    if nth.is_multiple_of(2) {
        let outcome = refused(tx.commit(), "start again");
        assert!(matches!(outcome, Error::TransactionFailed));
        let tree = db.tree("t").unwrap();
        assert!(tree.get("before").unwrap().is_none());
        tree.put("before", "1").unwrap();
    } else {
        // ...until it is rolled back to before the failure.
        tx.roll_back_to(&savepoint).unwrap();
        tx.tree("t").unwrap().put("after", "2").unwrap();
        tx.tree("t").unwrap().delete("after").unwrap();
        tx.commit().unwrap();
    }
    Some((disk, db, error))
}

#[test]
fn an_error_inside_a_transaction_spoils_it_until_it_is_rolled_back() {
    for target in [
        SimTarget::Writes,
        SimTarget::Only(aurora::storage::SimOperation::Read),
    ] {
        let mut met = 0;
        for nth in 1..40 {
            let Some((disk, db, error)) = fail_inside(target, nth) else {
                continue;
            };
            met += 1;
            assert!(error.is_io(), "{error:?}");
            for reopened in [false, true] {
                let db = match reopened {
                    false => db.clone(),
                    true => open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap(),
                };
                db.check().unwrap();
                let snapshot = db.begin_read().unwrap();
                let tree = snapshot.tree("t").unwrap();
                assert_eq!(tree.len(), 601);
                assert_eq!(tree.get("before").unwrap().unwrap(), "1");
                for i in 0..600u32 {
                    let value = tree.get(format!("key{i:04}")).unwrap().unwrap();
                    assert!(*value == *vec![i as u8; 900], "key {i}");
                }
            }
        }
        assert!(met >= 10, "{target:?} met only {met} faults");
    }
}

#[test]
fn after_a_failed_sync_writes_are_refused_reads_go_on_and_a_reopen_has_everything() {
    let mut poisonings = 0;
    for nth in 1..60 {
        let disk = SimDisk::new(nth);
        let db = open(disk.storage()).unwrap();
        disk.fail_once(SimTarget::Syncs, nth, SimFault::Eio);
        let mut acknowledged = 0u32;
        let mut poisoned = false;
        for i in 0..80u32 {
            match db
                .tree("t")
                .unwrap()
                .put(format!("key{i:04}"), vec![i as u8; 3000])
            {
                Ok(_) if poisoned => panic!("a write went through on a poisoned handle"),
                Ok(_) => acknowledged += 1,
                Err(error) => {
                    poisoned = true;
                    assert!(error.is_io() || error.is_poisoned(), "{error:?}");
                    break;
                }
            }
        }
        if !poisoned {
            continue; // a checkpoint met it, or nobody
        }
        poisonings += 1;
        for _ in 0..2 {
            let error = refused(db.tree("t").unwrap().put("k", "v"), "close and reopen");
            assert!(error.is_poisoned(), "{error:?}");
            assert!(
                matches!(&error, Error::Poisoned { cause } if cause.is_io()),
                "{error:?}"
            );
        }
        assert!(db.begin_write().is_err_and(|error| error.is_poisoned()));
        assert!(db.flush().unwrap_err().is_poisoned());
        assert!(db.checkpoint().unwrap_err().is_poisoned());
        assert!(db.compact().unwrap_err().is_poisoned());
        let served = db.tree("t").unwrap();
        for i in 0..acknowledged {
            let value = served.get(format!("key{i:04}")).unwrap().unwrap();
            assert_eq!(value, vec![i as u8; 3000]);
        }
        let image = disk.crash_image(SimCrash::LoseAll);
        db.close().ok();
        for disk in [image, disk.crash_image(SimCrash::LoseAll)] {
            let db = open(disk.storage()).unwrap();
            db.check().unwrap();
            let tree = db.tree("t").unwrap();
            let found = if acknowledged == 0 {
                0
            } else {
                tree.len().unwrap()
            };
            let most = u64::from(acknowledged) + 1;
            assert!(
                (u64::from(acknowledged)..=most).contains(&found),
                "sync {nth}"
            );
            for i in 0..acknowledged {
                let value = tree.get(format!("key{i:04}")).unwrap().unwrap();
                assert_eq!(value, vec![i as u8; 3000]);
            }
            tree.put("k", "v").unwrap();
        }
    }
    assert!(poisonings >= 20, "only {poisonings}");
}

#[test]
fn a_failed_read_is_an_error_once_and_no_longer() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    for i in 0..300u32 {
        db.tree("t")
            .unwrap()
            .put(format!("key{i:04}"), vec![i as u8; 2000])
            .unwrap();
    }
    drop(db);
    for nth in 1..12 {
        let db = open(disk.storage()).unwrap();
        disk.fail_once(aurora::storage::SimOperation::Read, nth, SimFault::Eio);
        let failed = contents(&db.begin_read().unwrap());
        let error = refused(failed, "check the device");
        assert!(matches!(error, Error::Io { .. }) && error.is_io() && !error.is_corruption());
        let model = contents(&db.begin_read().unwrap()).unwrap();
        assert_eq!(model.0["t"].len(), 300);
        db.tree("t").unwrap().put("key0000", vec![0; 2000]).unwrap();
        db.check().unwrap();
    }
    disk.fail_from(
        aurora::storage::SimOperation::Read,
        1,
        SimFault::Error(ErrorKind::TimedOut),
    );
    assert!(open(disk.storage()).unwrap_err().is_io());
    disk.clear_faults();
    open(disk.storage()).unwrap();
}

// --- Damage ---------------------------------------------------------------------------------

/// Reads everything in several ways: each value is right, or the error is damage.
fn look_at_damaged(
    disk: &SimDisk,
    expected: &Model,
    at: usize,
) -> std::result::Result<bool, String> {
    let noticed = Cell::new(false);
    let note = |outcome: Result<()>, what: &str| match outcome {
        Ok(()) => Ok(()),
        Err(error) if error.is_corruption() => {
            noticed.set(true);
            Ok(())
        }
        Err(error) => Err(format!("byte {at}: {what}: {error:?}")),
    };
    for read_only in [true, false] {
        let db = match repeatable()
            .read_only(read_only)
            .open_storage(disk.reopen().storage())
        {
            Ok(db) => db,
            // Where the mark itself is damaged, nothing says that the file was Aurora's.
            Err(Error::NotADatabase { .. }) => {
                noticed.set(true);
                continue;
            }
            Err(error) => {
                note(Err(error), "open")?;
                continue;
            }
        };
        let snapshot = db.begin_read().map_err(|error| format!("{error:?}"))?;
        for (name, entries) in &expected.0 {
            let tree = match snapshot.tree(name) {
                Ok(tree) => tree,
                Err(error) => {
                    note(Err(error), "tree")?;
                    continue;
                }
            };
            for (key, value) in entries.iter().step_by(7) {
                match tree.get(key) {
                    Ok(Some(found)) if *found == **value => {}
                    Ok(other) => {
                        let length = other.map(|found| found.len());
                        return Err(format!("byte {at}: wrong value of {key:?}: {length:?}"));
                    }
                    Err(error) => note(Err(error), "get")?,
                }
            }
            for backwards in [false, true] {
                let range = tree.iter();
                let found: Result<Vec<_>> = if backwards {
                    range.rev().collect()
                } else {
                    range.collect()
                };
                match found {
                    Ok(mut found) => {
                        if backwards {
                            found.reverse();
                        }
                        let same = found.len() == entries.len()
                            && found
                                .iter()
                                .zip(entries)
                                .all(|((key, value), expected)| (key, value) == expected);
                        if !same {
                            return Err(format!("byte {at}: wrong entries, backwards {backwards}"));
                        }
                    }
                    Err(error) => note(Err(error), "range")?,
                }
            }
            if tree.len() != entries.len() as u64 {
                return Err(format!("byte {at}: wrong count"));
            }
        }
        note(db.check().map(|_| ()), "check")?;
        note(db.stats().map(|_| ()), "stats")?;
        note(db.tree_stats().map(|_| ()), "tree_stats")?;
        if !read_only {
            let put = db.write(|tx| tx.tree("a")?.put("key00001", "new").map(|_| ()));
            note(put, "put")?;
            note(db.checkpoint(), "checkpoint")?;
            note(db.compact().map(|_| ()), "compact")?;
            note(db.close(), "close")?;
        }
    }
    Ok(noticed.get())
}

fn damaged_files(clean: bool) {
    let disk = SimDisk::new(6);
    let db = repeatable()
        .log_limit(64 << 10)
        .open_storage(disk.storage())
        .unwrap();
    let mut random = Random(11);
    for _ in 0..300 {
        let (tree, key) = (
            common::TREES[random.below(3) as usize],
            common::key(&mut random),
        );
        let value = common::value(&mut random);
        db.tree(tree)
            .unwrap()
            .put(key, &value[..value.len().min(20_000)])
            .unwrap();
    }
    db.checkpoint().unwrap();
    for i in 0..10u32 {
        db.tree("b")
            .unwrap()
            .put(format!("late{i}"), vec![3; 300])
            .unwrap();
    }
    let expected = contents(&db.begin_read().unwrap()).unwrap();
    let image = if clean {
        db.close().unwrap();
        disk.image()
    } else {
        disk.crash_image(SimCrash::KeepAll).image()
    };
    assert_eq!(image.len() % 4096, 0);
    let mut noticed = 0;
    let mut faults = Vec::new();
    for page in 0..image.len() / 4096 {
        for _ in 0..budget(3) {
            // Half of the flips in the first bytes, where the structure is.
            let limit = if random.chance(2) { 64 } else { 4096 };
            let at = page * 4096 + random.below(limit) as usize;
            let mut bytes = image.clone();
            bytes[at] ^= 1 << random.below(8);
            let disk = SimDisk::from_image(bytes, 1);
            let outcome = catch_unwind(AssertUnwindSafe(|| look_at_damaged(&disk, &expected, at)));
            match outcome {
                Ok(Ok(was_noticed)) => noticed += u32::from(was_noticed),
                Ok(Err(fault)) => faults.push(fault),
                Err(_) => faults.push(format!("byte {at}: a panic")),
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} pages: {faults:#?}",
        image.len() / 4096
    );
    assert!(noticed > 50, "only {noticed} were noticed");
}

#[test]
fn a_flipped_bit_is_noticed_or_harmless_in_a_closed_file() {
    damaged_files(true);
}

/// In a file that was not closed the log counts: acknowledged commits may only be missing if the
/// last record is the damaged one (which cannot be told from a torn write).
#[test]
fn a_flipped_bit_is_noticed_or_harmless_in_the_pages_of_a_file_that_was_not_closed() {
    let disk = SimDisk::new(6);
    let db = repeatable()
        .log_limit(64 << 10)
        .open_storage(disk.storage())
        .unwrap();
    let mut images = Vec::new();
    for i in 0..40u32 {
        db.tree("t")
            .unwrap()
            .put(format!("key{i:04}"), vec![i as u8; 100])
            .unwrap();
    }
    let log = disk.crash_image(SimCrash::KeepAll).image();
    images.push(log);
    let mut random = Random(2);
    for image in images {
        for at in (0..image.len()).step_by(97) {
            let mut bytes = image.clone();
            bytes[at] ^= 1 << random.below(8);
            let disk = SimDisk::from_image(bytes, 1);
            match open(disk.storage()) {
                Ok(db) => {
                    let model = contents(&db.begin_read().unwrap()).unwrap();
                    let found = model.0.get("t").cloned().unwrap_or_default();
                    assert!(found.len() >= 39, "byte {at}: only {} of 40", found.len());
                    for (i, (key, value)) in found.iter().enumerate() {
                        assert_eq!(*key, format!("key{i:04}").into_bytes(), "byte {at}");
                        assert_eq!(*value, vec![i as u8; 100], "byte {at}");
                    }
                    db.check().unwrap();
                }
                Err(error) => {
                    let unmarked = matches!(error, Error::NotADatabase { .. });
                    assert!(error.is_corruption() || unmarked, "byte {at}: {error:?}");
                }
            }
        }
    }
}

#[test]
fn an_error_can_be_cloned_sent_and_shown() {
    fn is_send<T: Send + Sync + Clone + std::error::Error + 'static>(_: &T) {}
    let error = Aurora::builder().page_size(1).open("nowhere").unwrap_err();
    is_send(&error);
    assert_eq!(error.clone().to_string(), error.to_string());
    let buffered = Aurora::builder().durability(Durability::Buffered);
    let db = buffered.open_storage(SimDisk::new(1).storage()).unwrap();
    db.tree("t").unwrap().put("k", "v").unwrap();
    db.flush().unwrap();
}

/// Some of many may have been stored when one is refused: nobody gets to see those.
#[test]
fn many_entries_with_one_that_is_refused_are_none() {
    let db = Aurora::in_memory().unwrap();
    db.write(|tx| tx.tree("t")?.put("a", "1")).unwrap();
    let mut tx = db.begin_write().unwrap();
    let savepoint = tx.savepoint().unwrap();
    let entries = (0..20_000u32).map(|n| match n {
        19_999 => (vec![0; 2000], vec![]),
        _ => (n.to_be_bytes().to_vec(), vec![7; 100]),
    });
    let error = refused(tx.tree("t").unwrap().put_many(entries), "1024");
    assert!(matches!(error, Error::KeyTooLong { length: 2000, .. }));
    let again = tx.tree("t").unwrap().put("b", "2");
    assert!(matches!(again, Err(Error::TransactionFailed)));
    tx.roll_back_to(&savepoint).unwrap();
    assert_eq!(tx.tree("t").unwrap().delete_many(["a", "x"]).unwrap(), 1);
    tx.commit().unwrap();
    let snapshot = db.begin_read().unwrap();
    assert!(snapshot.tree("t").unwrap().is_empty());
}

/// A longer log is a matter of speed.
#[test]
fn large_commits_go_on_where_the_disk_has_no_room_for_a_longer_log() {
    let disk = SimDisk::new(1);
    let builder = repeatable().log_limit(16 << 20);
    let db = builder.open_storage(disk.storage()).unwrap();
    let put = |n: u32| {
        db.write(|tx| {
            let mut tree = tx.tree("data")?;
            (0..500u32).try_for_each(|m| tree.put(m.to_be_bytes(), [n as u8; 200]).map(drop))
        })
    };
    put(0).unwrap();
    let length = db.stats().unwrap().file_bytes;
    disk.set_capacity(Some(length + (4 << 20)));
    let written = || disk.counters().bytes_written();
    let before = written();
    for n in 1..30 {
        put(n).unwrap();
    }
    // It is tried less and less often: each time fills the disk with zeros.
    let full = written() - before;
    assert!(full < 40 << 20, "{full} bytes");
    // Once there is room, it grows, in a while.
    disk.set_capacity(None);
    (30..100).for_each(|n| put(n).unwrap());
    let stats = db.stats().unwrap();
    assert!(stats.log_bytes > 1 << 20, "{} bytes", stats.log_bytes);
    db.check().unwrap();
}

/// While a longer log is filled with zeros, commits go on. Their places would lie behind it, and where the disk has no
/// room for it the file could not be cut before them: the zeros would have all the room, and no checkpoint any.
#[test]
fn a_log_without_room_takes_none_from_the_commits_beside_it() {
    // One that fits and leaves no room for the pages of its records, and one that does not fit, where nobody can say so.
    for (tells_room, room_bytes, keys) in [(true, 3 << 20, 800), (false, 3 << 19, 200)] {
        let disk = SimDisk::new(1);
        disk.set_room(Some(room_bytes));
        disk.set_trace_limit(1 << 20);
        if !tells_room {
            disk.fail_from(SimOperation::Reserve, 1, SimFault::Lost);
        }
        let hooked = Hooked::new(disk.storage());
        let committed = Arc::new(AtomicU64::new(0));
        let seen = committed.clone();
        // Each piece of the log waits for a commit, if one comes.
        hooked.before_zeros(move |_| {
            let before = seen.load(Ordering::Relaxed);
            let until = Instant::now() + Duration::from_millis(20);
            while seen.load(Ordering::Relaxed) == before && Instant::now() < until {
                std::thread::yield_now();
            }
        });
        let builder = Aurora::builder().durability(Durability::Buffered);
        let db = builder.open_storage(Arc::new(hooked)).unwrap();
        for n in 0..4000u32 {
            let put = db.put(format!("{}", n % keys), [n as u8; 1000], None);
            put.unwrap_or_else(|error| panic!("{n}, {tells_room}: {error}"));
            committed.fetch_add(1, Ordering::Relaxed);
        }
        db.checkpoint().unwrap();
        db.check().unwrap();
        // What was written of a log that did not fit is given back, wherever it lies.
        let trace = disk.trace();
        let of_zeros = |event: &SimEvent| {
            event.operation == SimOperation::Write && event.length_bytes == 16 << 10
        };
        let is_failed = |event: &SimEvent| event.outcome == SimOutcome::Failed;
        let failed: Vec<_> = trace
            .iter()
            .filter(|e| of_zeros(e) && is_failed(e))
            .collect();
        assert_eq!(failed.is_empty(), tells_room);
        for write in failed {
            let is_of_it = |event: &&SimEvent| {
                let (start, end) = (event.offset, event.offset + event.length_bytes);
                event.operation == SimOperation::Discard
                    && event.number > write.number
                    && (start..end).contains(&write.offset)
            };
            assert!(trace.iter().any(|event| is_of_it(&event)), "{write}");
        }
    }
}

/// Page 0 of a new file was a hole until its second checkpoint. Where all else of that fitted on the disk, writing its
/// header was a sync that failed: writes were refused from then on.
#[test]
fn a_disk_that_fills_before_the_second_checkpoint_makes_that_fail_and_nothing_else() {
    let checkpoint = |blocks: u64| {
        let disk = SimDisk::new(1);
        disk.set_room(Some(1 << 20));
        let db = repeatable().open_storage(disk.storage()).unwrap();
        disk.set_room(Some(disk.taken_bytes() + blocks * 4096));
        db.put("a", "x", None).unwrap();
        let outcome = db.checkpoint();
        if let Err(error) = &outcome {
            assert!(error.is_disk_full(), "{blocks} blocks: {error}");
        }
        db.put("b", "x", None).unwrap();
        let again = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap();
        assert!(again.contains("a").unwrap() && again.contains("b").unwrap());
        disk.set_room(None);
        db.checkpoint().unwrap();
        outcome.is_ok()
    };
    let outcomes: Vec<bool> = (0..20).map(checkpoint).collect();
    assert!(outcomes.is_sorted() && !outcomes[0] && outcomes[19]);
}

/// So more room never makes a load fail: neither the zeros of a longer log nor the space map behind it.
#[test]
fn a_load_goes_on_where_the_disk_has_no_room_for_the_log_that_it_would_leave() {
    let load = |entries: u32, log_limit_bytes: u64, capacity_bytes: u64| {
        let disk = SimDisk::new(1);
        let builder = repeatable()
            .log_limit(log_limit_bytes)
            .memory_limit(64 << 20);
        let db = builder.open_storage(disk.storage()).unwrap();
        disk.set_capacity(Some(capacity_bytes));
        let all = (0..entries).map(|n| (n.to_be_bytes(), [7; 200]));
        let loaded = db.write(|tx| tx.tree("data")?.put_many(all).map(drop));
        let (is_loaded, count) = match loaded {
            Ok(()) => (true, entries),
            Err(error) => (
                refused::<()>(Err(error), "free some space").is_disk_full(),
                0,
            ),
        };
        assert!(is_loaded);
        assert_eq!(db.check().unwrap().entries, u64::from(count));
        let again = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap();
        assert_eq!(again.check().unwrap().entries, u64::from(count));
        count > 0
    };
    for entries in [3000, 3016, 3032] {
        for log_limit_bytes in [64 << 10, 16 << 20] {
            let start = u64::from(entries) * 200;
            let capacities = (0..100).map(|pages| start + pages * 4096);
            let outcomes = capacities.map(|bytes| load(entries, log_limit_bytes, bytes));
            let outcomes: Vec<bool> = outcomes.collect();
            assert!(
                outcomes.is_sorted(),
                "{entries} {log_limit_bytes} {outcomes:?}"
            );
            assert_eq!(
                (outcomes.first(), outcomes.last()),
                (Some(&false), Some(&true))
            );
        }
    }
}
