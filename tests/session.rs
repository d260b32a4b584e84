//! From when on an open database writes to its file: from the first call that does, if the file was closed cleanly.

mod common;
#[path = "common/hooked.rs"]
mod hooked;

use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use aurora::storage::{SimCrash, SimDisk, SimFailedSync, SimFault, SimOperation};
use aurora::{Aurora, DocumentId, Durability, Field, FieldType, Result, Schema};
use common::open;
use hooked::Hooked;

/// All calls that change a file.
const CHANGES: [SimOperation; 7] = [
    SimOperation::Write,
    SimOperation::WriteSync,
    SimOperation::SyncRange,
    SimOperation::SyncAll,
    SimOperation::SetLength,
    SimOperation::Reserve,
    SimOperation::Discard,
];

fn changes(disk: &SimDisk) -> u64 {
    let counters = disk.counters();
    CHANGES.iter().map(|kind| counters.calls(*kind)).sum()
}

/// A file with something of all kinds, and free pages, that was closed.
fn closed() -> (SimDisk, DocumentId) {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    db.write(|tx| {
        let mut tree = tx.tree("a")?;
        for n in 0..2_000u32 {
            tree.put(n.to_be_bytes(), [1; 100])?;
        }
        tx.put("key", "value", None)?;
        Ok(())
    })
    .unwrap();
    let gone = 0u32.to_be_bytes()..1_500u32.to_be_bytes();
    db.tree("a").unwrap().delete_range(gone).unwrap();
    let schema = Schema::new().field(Field::new("n", FieldType::Int).indexed());
    db.new_collection("numbers", schema).unwrap();
    let id = db.collection("numbers").unwrap();
    let id = id.insert_fields([("n", 1)]).unwrap();
    db.put_blob_from("blob", &[7; 50_000][..]).unwrap();
    db.close().unwrap();
    (disk, id)
}

const MARK_BYTES: usize = 56;
const SLOT_BYTES: usize = 256;

/// Where a closed file says that it was closed: the mark (kind 2) with the highest position (format, section 12).
fn clean_mark(disk: &SimDisk) -> usize {
    let image = disk.image();
    let is_mark = |at: &usize| image[*at..].starts_with(b"ALOG") && image[at + 40] == 2;
    let marks = (0..image.len() - MARK_BYTES).step_by(8).filter(is_mark);
    let lsn = |at: &usize| u64::from_le_bytes(image[at + 8..at + 16].try_into().unwrap());
    let last = marks.max_by_key(lsn).unwrap();
    assert_eq!(image[last + 41], 1);
    last
}

/// Whether it still says so.
fn is_clean(disk: &SimDisk, mark: usize) -> bool {
    let image = disk.image();
    image[mark..].starts_with(b"ALOG") && image[mark + 40..mark + 42] == [2, 1]
}

#[test]
fn who_only_reads_leaves_the_file_as_it_was() {
    let (disk, id) = closed();
    for background in [false, true] {
        let before = disk.image();
        let disk = SimDisk::from_image(before.clone(), 1);
        let builder = Aurora::builder().background(background);
        let db = builder.open_storage(disk.storage()).unwrap();
        assert_eq!(db.tree("a").unwrap().len().unwrap(), 500);
        assert_eq!(db.get("key").unwrap().unwrap().as_ref(), b"value");
        assert!(
            db.collection("numbers")
                .unwrap()
                .get(&id)
                .unwrap()
                .is_some()
        );
        let found = db.query("numbers").filter(|f| f.eq("n", 1)).count();
        assert_eq!(found.wait().unwrap(), 1);
        assert_eq!(db.get_blob("blob").unwrap().unwrap().info().size, 50_000);
        assert!(db.stats().unwrap().file_bytes > 0);
        // What a program does when it starts, to have what it needs.
        db.write(|tx| tx.tree("a").map(drop)).unwrap();
        let schema = Schema::new().field(Field::new("n", FieldType::Int).indexed());
        db.new_collection("numbers", schema).unwrap();
        drop(db.begin_write().unwrap());
        db.check().unwrap();
        db.flush().unwrap();
        db.flush_async().unwrap().wait().unwrap();
        db.close().unwrap();
        assert_eq!(changes(&disk), 0);
        assert!(disk.image() == before);
        assert!(is_clean(&disk, clean_mark(&disk)));
    }
}

/// Whatever it is, a cut of the power behind it finds a session that had begun: what was not synced counts as such.
#[test]
fn whatever_writes_first_begins_a_session() {
    type Call = (&'static str, fn(&Aurora) -> Result<()>);
    let calls: [Call; 9] = [
        ("tree", |db| db.tree("a")?.put("k", "v").map(drop)),
        ("buffered", |db| {
            let db = db.with_durability(Durability::Buffered);
            db.tree("a")?.put("k", "v").map(drop)
        }),
        ("key", |db| db.put("k", "v", None)),
        ("rolled back", |db| {
            let mut tx = db.begin_write()?;
            tx.tree("a")?.put("k", [1; 100_000])?;
            tx.roll_back();
            Ok(())
        }),
        ("checkpoint", Aurora::checkpoint),
        ("compact", |db| db.compact().map(drop)),
        ("blob", |db| {
            db.put_blob_from("b", &[1; 9_000_000][..]).map(drop)
        }),
        ("collection", |db| db.new_collection("c", Schema::new())),
        ("index", |db| db.drop_index("numbers", "n").wait()),
    ];
    let (disk, _) = closed();
    let mark = clean_mark(&disk);
    for (name, call) in calls {
        let disk = SimDisk::from_image(disk.image(), 1);
        let db = open(disk.storage()).unwrap();
        assert!(is_clean(&disk, mark), "{name}");
        disk.record_moments();
        call(&db).unwrap();
        let moments = disk.take_moments();
        let end = disk.crash_image(SimCrash::LoseAll);
        assert!(!is_clean(&end, mark), "{name}");
        // First the slot, with the bytes that it had, and then the mark.
        assert_eq!(moments[0].unsynced_bytes(), [SLOT_BYTES], "{name}");
        assert!(moments[0].image() == moments[0].durable_image(), "{name}");
        assert_eq!(moments[1].unsynced_bytes(), [MARK_BYTES], "{name}");
        assert!(!is_clean(&moments[1].kill_image(), mark), "{name}");
        for moment in &moments {
            for crash in [SimCrash::LoseAll, SimCrash::KeepAll] {
                let db = open(moment.crash_image(crash).storage()).unwrap();
                assert!(db.tree("a").unwrap().len().unwrap() >= 500, "{name}");
                db.check().unwrap();
            }
        }
    }
}

/// It is an error of the call that wanted to write; reads go on, and a reopened file has everything.
#[test]
fn a_session_that_cannot_begin_is_an_error_of_who_writes() {
    let (disk, _) = closed();
    for behaviour in [SimFailedSync::Lost, SimFailedSync::Kept] {
        for nth in 1..=2 {
            let disk = SimDisk::from_image(disk.image(), 1);
            disk.set_failed_sync(behaviour);
            let db = open(disk.storage()).unwrap();
            disk.fail_once(SimOperation::WriteSync, nth, SimFault::Eio);
            let error = db.put("k", "v", None).unwrap_err();
            assert!(error.is_io(), "{error}");
            assert!(db.put("k", "v", None).unwrap_err().is_poisoned());
            assert_eq!(db.get("key").unwrap().unwrap().as_ref(), b"value");
            assert_eq!(db.get("k").unwrap(), None);
            assert!(db.close().is_err());
            let db = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap();
            assert_eq!(db.get("key").unwrap().unwrap().as_ref(), b"value");
            db.check().unwrap();
        }
    }
}

/// What the first change needs on the disk, too, is waited for on another thread.
#[test]
fn a_session_begins_without_blocking_who_awaits_its_first_change() {
    let (disk, _) = closed();
    let calls: [fn(&Aurora); 3] = [
        |db| {
            let written = db.write_async(|tx| tx.put("k", "v", None));
            let ((), commit) = pollster::block_on(written).unwrap();
            pollster::block_on(commit).unwrap();
        },
        |db| assert!(pollster::block_on(db.delete("key")).unwrap()),
        |db| {
            pollster::block_on(async {
                let mut tx = db.begin_write_async().await?;
                tx.tree("a")?.put("k", "v")?;
                tx.commit_async()?.await
            })
            .unwrap();
        },
    ];
    for call in calls {
        let disk = SimDisk::from_image(disk.image(), 1);
        let storage = Hooked::new(disk.storage());
        let db = Aurora::builder().open_storage(Arc::new(storage.clone()));
        let db = db.unwrap();
        let threads: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
        let seen = threads.clone();
        storage
            .before_each_write_through(move |_| seen.lock().unwrap().push(thread::current().id()));
        call(&db);
        let threads = threads.lock().unwrap();
        assert!(threads.len() >= 3, "the slot, the mark, the record");
        assert!(!threads.contains(&thread::current().id()));
    }
}

/// A close that finds nothing begun writes nothing, also where a call is just about to begin: it is refused.
#[test]
fn a_session_does_not_begin_behind_a_close() {
    let (disk, _) = closed();
    let disk = SimDisk::from_image(disk.image(), 1);
    let db = open(disk.storage()).unwrap();
    let other = db.clone();
    db.close().unwrap();
    assert!(other.put("k", "v", None).is_err());
    assert!(other.checkpoint().is_err());
    assert!(other.compact().is_err());
    drop(other);
    assert_eq!(changes(&disk), 0);
}

/// Of what a program that only looks into a small file waits for when it ends there is nothing.
#[test]
fn a_real_file_that_was_only_read_has_the_time_that_it_had() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.db");
    let modified = || std::fs::metadata(&path).unwrap().modified().unwrap();
    let db = Aurora::open(&path).unwrap();
    db.put("key", "value", None).unwrap();
    db.close().unwrap();
    let before = modified();
    thread::sleep(std::time::Duration::from_millis(20));
    let db = Aurora::open(&path).unwrap();
    assert!(db.get("key").unwrap().is_some());
    drop(db);
    assert_eq!(modified(), before);
    let db = Aurora::open(&path).unwrap();
    db.put("key", "another", None).unwrap();
    drop(db);
    assert_ne!(modified(), before);
}
