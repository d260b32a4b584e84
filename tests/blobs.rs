//! Blobs, from the outside: every call, random changes against a plain vector, crashes on the
//! simulated disk, snapshots, ranges, other writers meanwhile.

#![allow(
    clippy::unnecessary_to_owned,
    clippy::needless_borrows_for_generic_args
)] // as a newcomer might write it

mod common;

use std::future::Future;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aurora::storage::{MemoryStorage, SimCrash, SimDisk, SimFault, SimOperation};
use aurora::{Aurora, BlobMeta, BlobReader, Clock, Durability, Error};
use common::{Random, budget, open, repeatable};
use proptest::prelude::*;

const CHUNK: usize = 256 << 10;
/// What is stored in one transaction while more comes in.
const GROUP: usize = 8 * CHUNK;

/// Bytes that are all different from their neighbours, and the same for the same seed.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes: Vec<u8> = (0..length.div_ceil(8))
        .flat_map(|_| random.next().to_le_bytes())
        .collect();
    bytes.truncate(length);
    bytes
}

fn whole(reader: Option<BlobReader>) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// The same through what it shows, `step` bytes of it at a time.
fn shown(mut reader: BlobReader, step: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let part = reader.fill_buf()?;
        if part.is_empty() {
            return Ok(bytes);
        }
        let length = part.len().min(step);
        bytes.extend_from_slice(&part[..length]);
        reader.consume(length);
    }
}

/// A source that gives some bytes and then fails.
struct Failing(usize);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("the cable was pulled"));
        }
        let length = buffer.len().min(self.0);
        buffer[..length].fill(7);
        self.0 -= length;
        Ok(length)
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

/// Also where every write sweeps.
#[test]
fn a_blob_that_expires_at_once_leaves_nothing() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Aurora::builder()
        .background(false)
        .open_storage(storage)
        .unwrap();
    for length in [1000, 3 * GROUP] {
        let mut writer = db.blob_writer("b").expires_after(Duration::ZERO);
        writer.write_all(&content(1, length)).unwrap();
        writer.finish().unwrap();
        db.check().unwrap();
        assert!(db.get_blob("b").unwrap().is_none());
        db.sweep(10).unwrap();
        db.check().unwrap();
    }
}

/// The number that it took is given again, for its transaction never was.
#[test]
fn an_upload_that_failed_takes_nothing_from_the_next_one() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    db.put("k", "v", None).unwrap();
    disk.set_capacity(Some(db.stats().unwrap().file_bytes));
    let (mut first, mut second) = (db.blob_writer("a"), db.blob_writer("b"));
    let bytes = content(7, 3 * GROUP);
    first.write_all(&bytes).unwrap_err();
    disk.set_capacity(None);
    let (early, late) = bytes.split_at(2 * GROUP + 1);
    second.write_all(early).unwrap();
    drop(first);
    // Another upload removes what it takes for dead.
    let mut third = db.blob_writer("c");
    third.write_all(&bytes).unwrap();
    second.write_all(late).unwrap();
    second.finish().unwrap();
    third.finish().unwrap();
    for key in ["b", "c"] {
        assert!(whole(db.get_blob(key).unwrap()) == bytes, "{key}");
    }
    db.check().unwrap();
}

#[test]
fn a_place_that_no_blob_reaches_is_refused_and_nothing_else() {
    let db = Aurora::in_memory().unwrap();
    let mut tx = db.begin_write().unwrap();
    tx.put("k", "v", None).unwrap();
    tx.put_blob_from("b", &b"abc"[..]).unwrap();
    assert!(
        tx.truncate_blob("b", u64::MAX)
            .is_err_and(|error| error.is_misuse())
    );
    for offset in [u64::MAX, u64::MAX - 1, 1 << 60] {
        let refused = tx.write_blob_at("b", offset, b"x");
        assert!(refused.is_err_and(|error| error.is_misuse()), "{offset}");
    }
    // It spoke of a value that had so many bytes, to be stored in pieces.
    let refused = tx.write_blob_at("b", 1 << 50, b"x").unwrap_err();
    let (length, limit) = ((1 << 50) + 1, 1 << 50);
    assert!(
        matches!(refused, Error::BlobTooLong { length: l, limit: m } if (l, m) == (length, limit)),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("check the offset"),
        "{refused}"
    );
    tx.write_blob_at("b", 3, b"d").unwrap();
    tx.commit().unwrap();
    assert_eq!(whole(db.get_blob("b").unwrap()), b"abcd");
    assert_eq!(db.get("k").unwrap().unwrap(), b"v");
}

#[test]
fn the_readme_s_code_works() {
    let directory = tempfile::tempdir().unwrap();
    let db = Aurora::open(directory.path().join("mydb")).unwrap();
    let bytes = content(1, 700_000);
    let file = directory.path().join("test_image.jpg");
    std::fs::write(&file, &bytes).unwrap();
    let image_path: &Path = &file;
    let stored = block_on(async {
        match db.put_blob("images:profile".to_string(), &image_path).await {
            Ok(_) => true,
            Err(e) => {
                println!("Failed to store image: {:?}", e);
                false
            }
        }
    });
    assert!(stored);
    let info = db.blob_info("images:profile").unwrap().unwrap();
    assert_eq!((info.size, info.chunks), (700_000, 3));
    assert_eq!(info.content_type.as_deref(), Some("image/jpeg"));
    assert_eq!(info.checksum, crc32c::crc32c(&bytes));
    assert_eq!(whole(db.get_blob("images:profile").unwrap()), bytes);
    db.check().unwrap();

    let missing = Path::new("no/such/file.png");
    match db.put_blob("images:profile", missing).wait() {
        Err(Error::OtherFile { path, .. }) => assert_eq!(path, missing),
        other => panic!("{other:?}"),
    }
    assert!(db.blob_info("images:profile").unwrap().is_some());
}

#[test]
fn blobs_of_every_awkward_length_come_back() {
    let db = Aurora::in_memory().unwrap();
    let mut lengths = vec![0, 1, 100, 5000, (32 << 10) - 1, 32 << 10];
    for edge in [CHUNK, 2 * CHUNK, GROUP, GROUP + 4096, 2 * GROUP + 4096] {
        lengths.extend([edge - 1, edge, edge + 1]);
    }
    for (seed, length) in lengths.into_iter().enumerate() {
        let bytes = content(seed as u64, length);
        let info = db.put_blob_from("from a source", &bytes[..]).unwrap();
        let mut writer = db.blob_writer("written");
        for piece in bytes.chunks(1 + length / 3) {
            writer.write_all(piece).unwrap();
        }
        assert_eq!(writer.finish().unwrap().size, length as u64);
        let in_transaction = db.write(|tx| tx.put_blob_from("in a transaction", &bytes[..]));
        assert_eq!(in_transaction.unwrap().checksum, info.checksum);
        for key in ["from a source", "written", "in a transaction"] {
            assert!(whole(db.get_blob(key).unwrap()) == bytes, "{key}, {length}");
            for step in [usize::MAX, 100_000] {
                let reader = db.get_blob(key).unwrap().unwrap();
                let shown = shown(reader, step).unwrap();
                assert!(shown == bytes, "{key}, {length}, {step}");
            }
            let info = db.blob_info(key).unwrap().unwrap();
            assert_eq!(info.size, length as u64);
            assert_eq!(info.chunks, length.div_ceil(CHUNK) as u64);
            assert_eq!(info.checksum, crc32c::crc32c(&bytes));
        }
        db.check().unwrap();
    }
}

#[derive(Debug)]
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn what_is_said_of_a_blob_is_kept() {
    let clock = Arc::new(SetClock(AtomicU64::new(1_000)));
    let storage = Arc::new(MemoryStorage::new());
    let builder = || Aurora::builder().clock(clock.clone());
    let db = builder().open_storage(storage.clone()).unwrap();
    let mut writer = db
        .blob_writer("a")
        .content_type("text/plain")
        .with("language", "en")
        .with("author", "Ada");
    writer.write_all(b"text").unwrap();
    let info = writer.finish().unwrap();
    assert_eq!(info.created_ms, 1_000);
    assert_eq!(info.map["author"], "Ada");
    clock.0.store(2_000, Ordering::Relaxed);
    db.append_blob("a", &b" and more"[..]).unwrap();
    db.close().unwrap();

    let db = builder().open_storage(storage).unwrap();
    let kept = db.blob_info("a").unwrap().unwrap();
    assert_eq!((kept.created_ms, kept.size), (1_000, 13));
    assert_eq!(kept.content_type, info.content_type);
    assert_eq!(kept.map, info.map);
    assert_eq!(db.get_blob("a").unwrap().unwrap().info(), kept);

    let changed = db
        .set_blob_meta("a", BlobMeta::new().with("x", "y"))
        .unwrap();
    assert_eq!((changed.content_type, changed.map.len()), (None, 1));
    assert_eq!(changed.checksum, kept.checksum);
    let long = BlobMeta::new().with("x", "y".repeat(70_000));
    let refused = db.set_blob_meta("a", long).unwrap_err();
    assert!(matches!(refused, Error::ValueTooLong { .. }), "{refused}");
    assert_eq!(db.blob_info("a").unwrap().unwrap().map["x"], "y");
    db.check().unwrap();
}

#[test]
fn a_blob_expires_at_its_moment_and_can_be_replaced_then() {
    let clock = Arc::new(SetClock(AtomicU64::new(1_000)));
    let db = Aurora::builder()
        .clock(clock.clone())
        .open_storage(Arc::new(MemoryStorage::new()))
        .unwrap();
    let put = |ttl| {
        let writer = db
            .blob_writer("short")
            .expires_after(Duration::from_millis(ttl));
        let mut writer = writer;
        writer.write_all(&content(1, CHUNK + 1)).unwrap();
        writer.finish().unwrap()
    };
    assert_eq!(put(500).expires_ms, Some(1_500));
    // A change keeps the expiry.
    assert_eq!(
        db.truncate_blob("short", 10).unwrap().expires_ms,
        Some(1_500)
    );
    clock.0.store(1_499, Ordering::Relaxed);
    let held = db.begin_read().unwrap();
    assert!(db.get_blob("short").unwrap().is_some());
    clock.0.store(1_500, Ordering::Relaxed);
    assert!(db.get_blob("short").unwrap().is_none());
    assert!(held.get_blob("short").unwrap().is_some());
    let gone = db.append_blob("short", &b"x"[..]).unwrap_err();
    assert!(matches!(gone, Error::BlobNotFound { .. }));
    db.check().unwrap();
    assert_eq!(put(1).expires_ms, Some(1_501));
    db.check().unwrap(); // the chunks of the one before are free
}

#[test]
fn a_scan_goes_through_the_blobs_of_one_moment_from_both_ends() {
    let clock = Arc::new(SetClock(AtomicU64::new(1_000)));
    let db = Aurora::builder()
        .clock(clock.clone())
        .open_storage(Arc::new(MemoryStorage::new()))
        .unwrap();
    // Keys that are no text, with values and blobs that expire between them.
    let key = |i: u32| [&b"\xff\0"[..], &i.to_be_bytes()].concat();
    db.write(|tx| {
        for i in 0..900 {
            match i % 3 {
                0 => {
                    tx.put_blob_from(key(i), &content(1, i as usize)[..])?;
                }
                1 => tx.put(key(i), "a value", None)?,
                _ => {
                    tx.put_blob_from(key(i), &b"gone soon"[..])?;
                    assert!(tx.expire(key(i), Duration::from_millis(5))?);
                }
            }
        }
        tx.put_blob_from("elsewhere", &b"x"[..])?;
        Ok(())
    })
    .unwrap();
    assert_eq!(db.scan_blobs_prefix("").unwrap().count(), 601);
    let earlier = db.begin_read().unwrap();
    clock.0.store(1_005, Ordering::Relaxed);
    let mut scan = db.scan_blobs_prefix(b"\xff").unwrap();
    db.delete(key(450)).wait().unwrap(); // behind the moment of the scan
    for i in 0..150 {
        let (low, info) = scan.next().unwrap().unwrap();
        assert_eq!((low, info.size), (key(3 * i), u64::from(3 * i)));
        assert_eq!(db.blob_info(key(3 * i)).unwrap().unwrap(), info);
        let (high, info) = scan.next_back().unwrap().unwrap();
        assert_eq!(
            (high, info.size),
            (key(897 - 3 * i), u64::from(897 - 3 * i))
        );
    }
    assert!(scan.next().is_none() && scan.next_back().is_none());
    assert_eq!(earlier.scan_blobs_prefix(b"\xff").count(), 600);
    assert_eq!(earlier.scan_blobs(key(3)..=key(5)).count(), 2);
    assert_eq!(db.scan_blobs(key(3)..=key(6)).unwrap().count(), 2);
    db.write(|tx| {
        assert_eq!(tx.scan_blobs_prefix(b"\xff").count(), 299);
        tx.put_blob_from(key(901), &b"new"[..])?;
        let last = tx.scan_blobs(key(3)..).next_back().unwrap()?;
        assert_eq!((last.0, last.1.size), (key(901), 3));
        Ok(())
    })
    .unwrap();
    assert_eq!(db.scan_prefix("").unwrap().count(), 300); // of values, as before
}

#[test]
fn a_blob_gets_another_key_and_stays_where_it_is() {
    let clock = Arc::new(SetClock(AtomicU64::new(1_000)));
    let db = Aurora::builder()
        .clock(clock.clone())
        .background(false)
        .open_storage(Arc::new(MemoryStorage::new()))
        .unwrap();
    let (one, two) = (content(1, 2 * CHUNK + 1), content(2, 3 * CHUNK));
    db.put_blob_from("one", &one[..]).unwrap();
    db.put_blob_from("two", &two[..]).unwrap();
    db.expire("one", Duration::from_millis(500)).unwrap();
    let before = db.blob_info("one").unwrap();
    let held = db.begin_read().unwrap();
    assert_eq!(chunks(&db), 6);
    assert!(!db.rename("missing", "two").unwrap());
    assert!(db.rename("two", "two").unwrap());
    assert_eq!(chunks(&db), 6);

    // In the place of another blob, whose chunks are freed, and back from a change of mind.
    db.write(|tx| {
        let begin = tx.savepoint()?;
        assert!(tx.rename("two", "one")?);
        assert_eq!(tx.blob_info("one")?.unwrap().size, two.len() as u64);
        tx.roll_back_to(&begin)?;
        assert!(tx.rename("one", "two")?);
        assert!(!tx.contains("one")?);
        let long = tx.rename("two", vec![b'k'; 5000]).unwrap_err();
        assert!(matches!(long, Error::KeyTooLong { .. }), "{long}");
        Ok(())
    })
    .unwrap();
    assert_eq!(chunks(&db), 3);
    assert_eq!(db.blob_info("two").unwrap(), before);
    assert!(whole(db.get_blob("two").unwrap()) == one);
    assert!(whole(held.get_blob("two").unwrap()) == two);
    db.check().unwrap();

    // A value that is read from memory, to a key that is in memory as well.
    db.put("value", "1", None).unwrap();
    db.put("other", "2", None).unwrap();
    for key in ["value", "other"].repeat(4) {
        assert!(db.get(key).unwrap().is_some());
    }
    assert!(db.rename("value", "other").unwrap());
    assert_eq!(db.get("value").unwrap(), None);
    assert_eq!(db.get("other").unwrap().as_deref(), Some(&b"1"[..]));
    assert!(db.rename("other", "two").unwrap());
    assert_eq!(
        (chunks(&db), db.get("two").unwrap().as_deref()),
        (0, Some(&b"1"[..]))
    );

    // The time to live goes with it, and nothing that has expired does.
    db.put("short", "x", Some(Duration::from_millis(5)))
        .unwrap();
    assert!(db.rename("short", "moved").unwrap());
    clock.0.store(1_005, Ordering::Relaxed);
    assert!(!db.rename("moved", "two").unwrap());
    assert!(db.contains("two").unwrap());
    db.check().unwrap();
}

#[test]
fn a_blob_that_is_not_there_is_said_so() {
    let db = Aurora::in_memory().unwrap();
    assert!(db.get_blob("x").unwrap().is_none());
    assert!(db.blob_info("x").unwrap().is_none());
    assert!(!db.delete_blob("x").unwrap());
    let refused = [
        db.append_blob("x", &b"y"[..]).err(),
        db.truncate_blob("x", 1).err(),
        db.write_blob_at("x", 1, b"y").err(),
        db.set_blob_meta("x", BlobMeta::new()).err(),
        db.write(|tx| tx.append_blob("x", &b"y"[..])).err(),
        db.write(|tx| tx.read_blob_range("x", 0, &mut [0; 4])).err(),
    ];
    for error in refused {
        match error.unwrap() {
            Error::BlobNotFound { key } => assert_eq!(key, "x"),
            other => panic!("{other}"),
        }
    }
    db.check().unwrap();
}

#[test]
fn reading_seeks_and_ranges() {
    let db = Aurora::in_memory().unwrap();
    let bytes = content(5, 3 * CHUNK + 17);
    db.put_blob_from("b", &bytes[..]).unwrap();
    let mut reader = db.get_blob("b").unwrap().unwrap();
    let mut four = [0; 4];
    for offset in [0, 1, CHUNK - 2, CHUNK, 3 * CHUNK + 13] {
        assert_eq!(
            reader.seek(SeekFrom::Start(offset as u64)).unwrap(),
            offset as u64
        );
        reader.read_exact(&mut four).unwrap();
        assert_eq!(four, bytes[offset..offset + 4]);
        assert_eq!(reader.read_range(offset as u64, &mut four).unwrap(), 4);
        assert_eq!(four, bytes[offset..offset + 4]);
    }
    assert_eq!(
        reader.seek(SeekFrom::End(-3)).unwrap(),
        bytes.len() as u64 - 3
    );
    assert_eq!(reader.read(&mut four).unwrap(), 3);
    assert_eq!(reader.read(&mut four).unwrap(), 0);
    assert!(reader.seek(SeekFrom::Current(-1_000_000_000)).is_err());
    reader.seek(SeekFrom::End(100)).unwrap();
    assert_eq!(reader.read(&mut four).unwrap(), 0);
    assert_eq!(reader.read_range(u64::MAX, &mut four).unwrap(), 0);

    // Awaited on another thread, after the database's own handle is gone.
    drop(db);
    let work = reader.read_at(CHUNK as u64 - 10, 20);
    drop(reader);
    assert_eq!(block_on(work).unwrap(), bytes[CHUNK - 10..CHUNK + 10]);
}

/// In files and in memory, from chunks that are shown where they lie and chunks that are copied.
#[test]
fn reading_what_is_shown_goes_with_all_other_ways() {
    let directory = tempfile::tempdir().unwrap();
    let file = Aurora::open(directory.path().join("x.db")).unwrap();
    let bytes = content(6, 2 * GROUP + CHUNK + 17);
    for (db, is_mapped) in [(file, true), (Aurora::in_memory().unwrap(), false)] {
        db.put_blob_from("b", &bytes[..]).unwrap();
        let mut reader = db.get_blob("b").unwrap().unwrap();
        let mut random = Random(3);
        let mut at = 0;
        for _ in 0..2000 {
            let wanted = random.below(2 * CHUNK as u64) as usize;
            match random.below(8) {
                0 => {
                    at = random.below(bytes.len() as u64 + 10) as usize;
                    reader.seek(SeekFrom::Start(at as u64)).unwrap();
                }
                1 => {
                    let mut part = vec![0; wanted];
                    let length = reader.read(&mut part).unwrap();
                    assert!(bytes[at.min(bytes.len())..].starts_with(&part[..length]));
                    at += length;
                }
                2 => {
                    // Asked for, and left.
                    let length = reader.fill_buf().unwrap().len();
                    assert_eq!(length == 0, at >= bytes.len());
                }
                3 => reader = reader.clone(),
                _ => {
                    let part = reader.fill_buf().unwrap();
                    assert!(bytes[at.min(bytes.len())..].starts_with(part));
                    let length = part.len().min(wanted);
                    reader.consume(length);
                    at += length;
                }
            }
            assert_eq!(reader.stream_position().unwrap(), at as u64);
        }
        // Two readers are shown the same bytes, where there is a map that can.
        let mut readers = [(); 2].map(|()| db.get_blob("b").unwrap().unwrap());
        let places = readers.each_mut().map(|r| r.fill_buf().unwrap().as_ptr());
        let is_64 = cfg!(target_pointer_width = "64");
        let is_shown = cfg!(target_os = "linux") && is_64 && is_mapped;
        assert_eq!(places[0] == places[1], is_shown);
        // Not beyond the chunk, and nothing that was not looked at.
        let mut reader = db.get_blob("b").unwrap().unwrap();
        reader.consume(5);
        assert_eq!(reader.stream_position().unwrap(), 0);
        reader.fill_buf().unwrap();
        reader.consume(usize::MAX);
        assert_eq!(reader.stream_position().unwrap(), CHUNK as u64);
        // Far behind the end, at a place whose chunk's number, in 32 bits, is that of the one at hand.
        reader.seek(SeekFrom::Start(0)).unwrap();
        reader.fill_buf().unwrap();
        let far = ((CHUNK as u64) << 32) * ((u64::MAX / CHUNK as u64) >> 32);
        reader.seek(SeekFrom::Start(far)).unwrap();
        reader.consume(7);
        assert_eq!(reader.stream_position().unwrap(), far);

        let text = "The sun\nis new\neach day".repeat(40_000);
        db.put_blob_from("text", text.as_bytes()).unwrap();
        let lines = db.get_blob("text").unwrap().unwrap().lines();
        assert!(lines.map(Result::unwrap).eq(text.lines()));
    }
}

#[test]
fn a_reader_moves_to_another_thread() {
    fn is_send<T: Send + 'static>(value: T) -> T {
        value
    }
    let db = Aurora::in_memory().unwrap();
    db.put_blob_from("b", &content(1, CHUNK * 2)[..]).unwrap();
    let reader = is_send(db.get_blob("b").unwrap());
    let writer = is_send(db.blob_writer("c"));
    let read = std::thread::spawn(move || whole(reader)).join().unwrap();
    assert_eq!(read, content(1, CHUNK * 2));
    drop(writer);
}

#[test]
fn a_snapshot_s_blob_is_read_while_it_is_replaced_changed_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let db = repeatable().open(directory.path().join("db")).unwrap();
    let old = content(1, 5 * CHUNK + 99);
    db.put_blob_from("b", &old[..]).unwrap();
    let snapshot = db.begin_read().unwrap();
    let mut reader = db.get_blob("b").unwrap().unwrap();
    let mut first = vec![0; CHUNK];
    reader.read_exact(&mut first).unwrap();

    db.write_blob_at("b", 100, content(2, 3 * CHUNK)).unwrap();
    db.truncate_blob("b", 1000).unwrap();
    db.put_blob_from("b", &content(3, 7 * CHUNK)[..]).unwrap();
    db.checkpoint().unwrap();
    db.delete_blob("b").unwrap();
    db.checkpoint().unwrap();
    // Free places are used again.
    db.put_blob_from("other", &content(4, 12 * CHUNK)[..])
        .unwrap();
    db.checkpoint().unwrap();

    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!([first, rest].concat() == old);
    assert!(whole(snapshot.get_blob("b").unwrap()) == old);
    assert!(db.get_blob("b").unwrap().is_none());
    db.check().unwrap();
}

#[test]
fn the_space_of_a_deleted_blob_is_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let db = repeatable().open(directory.path().join("db")).unwrap();
    let mut lengths = Vec::new();
    for round in 0..6 {
        db.put_blob_from("b", &content(round, 8 * CHUNK)[..])
            .unwrap();
        drop(db.blob_writer("unfinished"));
        let mut unfinished = db.blob_writer("unfinished");
        unfinished.write_all(&content(round, 9 * CHUNK)).unwrap();
        drop(unfinished);
        db.delete_blob("b").unwrap();
        db.checkpoint().unwrap();
        lengths.push(db.stats().unwrap().file_bytes);
    }
    assert_eq!(
        lengths.iter().max(),
        lengths[..2].iter().max(),
        "{lengths:?}"
    );
    assert_eq!(db.stats().unwrap().trees["aurora/chunks"].entries, 0);
}

/// What came and went waits for a checkpoint, which the few bytes in the log would not ask for.
#[test]
fn what_goes_through_a_cache_does_not_stay_in_the_file() {
    const MIB: usize = 1 << 20;
    let (put, kept) = (600, 8);
    // With threads, some more comes in before one of them has made the checkpoint.
    for (background, most_mib) in [(false, 128), (true, 300)] {
        let builder = Aurora::builder().background(background);
        let storage = Arc::new(MemoryStorage::new());
        let db = builder.open_storage(storage).unwrap();
        let body = content(1, MIB);
        for round in 0..put {
            let key = format!("page {}", round % kept);
            match round % 3 {
                0 => db.put(&key, &body, None).unwrap(),
                1 => drop(db.put_blob_from(&key, &body[..]).unwrap()),
                _ => {
                    let staged = db.stage_blob(&body[..]).unwrap();
                    db.write(|tx| tx.attach_blob(&key, staged)).unwrap();
                }
            }
        }
        let file_mib = db.stats().unwrap().file_bytes >> 20;
        assert!(file_mib < most_mib, "{file_mib} MiB, threads: {background}");
        db.check().unwrap();
        db.close().unwrap();
    }
}

/// It waits for the next one, which need not wait for as much again.
#[test]
fn what_came_and_went_before_a_checkpoint_that_failed_makes_the_next_one_due() {
    let disk = SimDisk::new(1);
    disk.set_trace_limit(4);
    let builder = Aurora::builder().background(false);
    let db = builder.open_storage(disk.storage()).unwrap();
    let body = content(1, 1 << 20);
    let put = |count| (0..count).for_each(|_| db.put("page", &body, None).unwrap());
    put(60);
    let before = db.stats().unwrap().checkpoints;
    let full = SimFault::Error(io::ErrorKind::StorageFull);
    disk.fail_from(SimOperation::Write, 1, full);
    assert!(db.checkpoint().unwrap_err().is_disk_full());
    disk.clear_faults();
    put(10);
    assert_eq!(db.stats().unwrap().checkpoints, before + 1);
}

fn chunks(db: &Aurora) -> u64 {
    let trees = db.stats().unwrap().trees;
    trees.get("aurora/chunks").map_or(0, |tree| tree.entries)
}

fn staged(db: &Aurora) -> u64 {
    let trees = db.stats().unwrap().trees;
    trees.get("aurora/staged").map_or(0, |tree| tree.entries)
}

#[test]
fn a_dropped_writer_and_a_failed_source_leave_nothing() {
    let db = Aurora::in_memory().unwrap();
    let mut writer = db.blob_writer("b");
    writer.write_all(&content(1, 20 * CHUNK)).unwrap();
    assert!(chunks(&db) > 0);
    assert_eq!(staged(&db), 1);
    db.check().unwrap();
    drop(writer);
    assert_eq!((chunks(&db), staged(&db)), (0, 0));

    match db
        .put_blob_from("b", Failing(GROUP + 6 * CHUNK))
        .unwrap_err()
    {
        Error::BlobSource { offset, .. } => assert_eq!(offset, (GROUP + 6 * CHUNK) as u64),
        other => panic!("{other}"),
    }
    assert_eq!((chunks(&db), staged(&db)), (0, 0));

    let mut writer = db.blob_writer(vec![b'k'; 5000]);
    writer.write_all(&content(1, 20 * CHUNK)).unwrap();
    let refused = writer.finish().unwrap_err();
    assert!(matches!(refused, Error::KeyTooLong { .. }), "{refused}");
    assert_eq!((chunks(&db), staged(&db)), (0, 0));
    assert!(db.blob_info("b").unwrap().is_none());
    db.check().unwrap();
}

/// What comes after it would be stored as if it came right behind what was before: a blob with a part missing.
#[test]
fn a_writer_that_could_not_store_a_part_stores_no_blob() {
    let full = SimFault::Error(io::ErrorKind::StorageFull);
    for before in [0, GROUP + CHUNK] {
        let disk = SimDisk::new(1);
        let db = open(disk.storage()).unwrap();
        let mut writer = db.blob_writer("b");
        writer.write_all(&content(1, before)).unwrap();
        disk.fail_once(SimOperation::Write, 1, full);
        writer.write_all(&content(2, 2 * GROUP)).unwrap_err();
        disk.clear_faults(); // there is room again
        let more = writer.write_all(&content(3, GROUP)).unwrap_err();
        assert!(more.to_string().contains("full"), "{more}");
        let error = writer.finish().unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        assert!(db.get_blob("b").unwrap().is_none());
        assert_eq!((chunks(&db), staged(&db)), (0, 0));
        db.put_blob_from("b", &content(4, 2 * GROUP)[..]).unwrap();
        db.check().unwrap();
    }
}

/// Each part that was stored of it made it longer, so it was read until the disk was full.
#[test]
fn the_database_s_own_file_is_no_blob() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("own.db");
    let db = Aurora::open(&path).unwrap();
    db.put_blob_from("a", &content(1, 2 * GROUP)[..]).unwrap();
    let mut paths = vec![path];
    #[cfg(unix)]
    {
        let [link, name] = ["link", "name"].map(|name| directory.path().join(name));
        std::os::unix::fs::symlink(&paths[0], &link).unwrap();
        std::fs::hard_link(&paths[0], &name).unwrap();
        paths.extend([link, name]);
    }
    for path in paths {
        let error = db.put_blob("b", &path).wait().unwrap_err();
        assert!(matches!(error, Error::OtherFile { .. }), "{error:?}");
        assert!(error.to_string().contains("`backup_to`"), "{error}");
    }
    assert!(db.blob_info("b").unwrap().is_none());
    // That of another is a file like any.
    let other = directory.path().join("other.db");
    let another = Aurora::open(&other).unwrap();
    another.put("k", "v", None).unwrap();
    let info = db.put_blob("b", &other).wait().unwrap();
    assert_eq!(info.size, std::fs::metadata(&other).unwrap().len());
}

/// The number of an upload whose first part could not be committed goes to the next one. Among the living for the first one
/// still, what the next one left would never have been taken away.
#[test]
fn the_number_of_an_upload_that_could_not_be_committed_is_nobody_s() {
    let full = SimFault::Error(io::ErrorKind::StorageFull);
    let mut failed = 0;
    for nth in 1.. {
        let disk = SimDisk::new(1);
        let db = open(disk.storage()).unwrap();
        // A full log: the commit has to wait for a checkpoint, whose writes come after those of the content.
        disk.fail_from(SimOperation::Write, 1, full);
        let put = |n: u32| db.put(n.to_be_bytes(), [1; 500], None);
        assert!((0..1000).any(|n| put(n).is_err()));
        disk.clear_faults();
        disk.fail_once(SimOperation::Write, nth, full);
        let mut writer = db.blob_writer("a");
        let written = writer.write_all(&content(1, GROUP + CHUNK));
        disk.clear_faults();
        drop(writer);
        if written.is_ok() {
            break;
        }
        failed += 1;
        let mut next = db.blob_writer("b");
        next.write_all(&content(2, GROUP + CHUNK)).unwrap();
        assert_eq!(staged(&db), 1, "{nth}");
        drop(next);
        assert_eq!((chunks(&db), staged(&db)), (0, 0), "{nth}");
        db.check().unwrap();
    }
    assert!(failed > 4, "{failed} uploads failed");
}

#[test]
fn a_writer_dropped_in_someone_s_turn_is_cleaned_up_by_the_next_upload() {
    let db = Aurora::in_memory().unwrap();
    let mut writer = db.blob_writer("b");
    writer.write_all(&content(1, GROUP + CHUNK)).unwrap();
    let tx = db.begin_write().unwrap();
    drop(writer); // must not wait for this thread's own transaction
    drop(tx);
    assert_eq!(staged(&db), 1);
    db.check().unwrap();
    let mut other = db.blob_writer("c");
    other.write_all(&content(2, GROUP + CHUNK)).unwrap();
    assert_eq!(staged(&db), 1);
    other.finish().unwrap();
    assert_eq!((chunks(&db), staged(&db)), (9, 0));
    db.check().unwrap();
}

#[test]
fn blobs_from_a_source_can_be_awaited() {
    let db = Aurora::in_memory().unwrap();
    let bytes = content(5, 3 * GROUP + 17);
    block_on(async {
        let info = db
            .put_blob_from_async("b", io::Cursor::new(bytes.clone()))
            .await?;
        assert_eq!(info.size, bytes.len() as u64);
        let info = db.append_blob_async("b", &b"the end"[..]).await?;
        assert_eq!(info.size, bytes.len() as u64 + 7);
        let staged = db.stage_blob_async(io::Cursor::new(bytes.clone())).await?;
        db.write(|tx| tx.attach_blob("c", staged))?;
        let refused = db.append_blob_async("nothing", &b"x"[..]).await;
        assert!(matches!(refused, Err(Error::BlobNotFound { .. })));
        Ok::<(), Error>(())
    })
    .unwrap();
    let expected = [&bytes[..], b"the end"].concat();
    assert!(whole(db.get_blob("b").unwrap()) == expected);
    assert!(whole(db.get_blob("c").unwrap()) == bytes);
    db.check().unwrap();
}

#[test]
fn blobs_commit_with_everything_else_or_not_at_all() {
    let db = Aurora::in_memory().unwrap();
    let bytes = content(1, 3 * CHUNK);
    let failed = db.write(|tx| {
        tx.tree("t")?.put("key", "value")?;
        tx.put_blob_from("b", &bytes[..])?;
        Err::<(), _>(Error::WorkDone)
    });
    assert!(failed.is_err());
    assert!(db.blob_info("b").unwrap().is_none());
    assert_eq!(chunks(&db), 0);

    db.write(|tx| {
        tx.tree("t")?.put("key", "value")?;
        tx.put_blob_from("b", &bytes[..])?;
        assert_eq!(tx.blob_info("b")?.unwrap().size, bytes.len() as u64);
        let mut some = [0; 10];
        assert_eq!(tx.read_blob_range("b", CHUNK as u64 - 5, &mut some)?, 10);
        assert_eq!(some, bytes[CHUNK - 5..CHUNK + 5]);
        tx.append_blob("b", &b"end"[..])?;
        tx.write_blob_at("b", 0, b"begin")?;
        tx.truncate_blob("b", 3 * CHUNK as u64 + 2)?;
        tx.set_blob_meta("b", BlobMeta::new().content_type("x/y"))?;
        Ok(())
    })
    .unwrap();
    let mut expected = [&bytes[..], b"en"].concat();
    expected[..5].copy_from_slice(b"begin");
    assert!(whole(db.get_blob("b").unwrap()) == expected);
    db.check().unwrap();

    assert!(db.write(|tx| tx.delete_blob("b")).unwrap());
    assert_eq!(chunks(&db), 0);
    db.check().unwrap();
}

#[test]
fn a_source_that_fails_in_a_transaction_leaves_it_as_it_was() {
    let db = Aurora::in_memory().unwrap();
    let bytes = content(1, 2 * CHUNK + 1000);
    db.put_blob_from("b", &bytes[..]).unwrap();
    db.write(|tx| {
        for given in [0, 10, CHUNK, 3 * CHUNK] {
            assert!(tx.put_blob_from("c", Failing(given)).is_err());
            assert!(tx.append_blob("b", Failing(given)).is_err());
        }
        let refused = tx.put_blob_from(vec![b'k'; 5000], &bytes[..]).unwrap_err();
        assert!(refused.is_misuse());
        tx.tree("t")?.put("key", "value").map(|_| ())
    })
    .unwrap();
    db.check().unwrap();
    assert_eq!(chunks(&db), 3);
    assert!(whole(db.get_blob("b").unwrap()) == bytes);
    assert!(db.append_blob("b", Failing(5 * CHUNK)).is_err());
    assert!(whole(db.get_blob("b").unwrap()) == bytes);
    db.check().unwrap();
}

#[test]
fn staged_content_is_attached_dropped_or_left_by_a_transaction_that_did_not_commit() {
    let db = Aurora::in_memory().unwrap();
    for length in [100, GROUP + CHUNK + 5] {
        let bytes = content(1, length);
        let stage = || db.stage_blob(&bytes[..]).unwrap().content_type("a/b");
        assert_eq!(stage().size(), length as u64);
        assert_eq!((chunks(&db), staged(&db)), (0, 0));

        let one = stage();
        let failed = db.write(|tx| {
            tx.attach_blob("b", one)?;
            Err::<(), _>(Error::WorkDone)
        });
        assert!(failed.is_err());
        assert!(db.blob_info("b").unwrap().is_none());
        db.check().unwrap();

        let two = stage();
        db.write(|tx| tx.attach_blob("b", two)).unwrap();
        assert!(whole(db.get_blob("b").unwrap()) == bytes);
        assert_eq!(
            (chunks(&db), staged(&db)),
            (length.div_ceil(CHUNK) as u64, 0)
        );
        let kind = db.blob_info("b").unwrap().unwrap().content_type;
        assert_eq!(kind.as_deref(), Some("a/b"));
        db.check().unwrap();

        let other = Aurora::in_memory().unwrap();
        let three = stage();
        let refused = other.write(|tx| tx.attach_blob("b", three)).unwrap_err();
        assert!(matches!(refused, Error::StagedElsewhere));
        db.delete_blob("b").unwrap();
        assert_eq!((chunks(&db), staged(&db)), (0, 0));
    }
}

#[test]
fn an_append_of_any_length_reaches_the_blob_as_it_is_then() {
    let db = Aurora::in_memory().unwrap();
    let mut model = content(1, CHUNK / 2);
    db.put_blob_from("b", &model[..]).unwrap();
    for (seed, length) in [0, 1, CHUNK / 2 - 1, 3 * CHUNK, 9 * CHUNK + 77]
        .iter()
        .enumerate()
    {
        let more = content(seed as u64, *length);
        model.extend_from_slice(&more);
        let info = db.append_blob("b", &more[..]).unwrap();
        assert_eq!(info.size, model.len() as u64);
        assert_eq!(info.checksum, crc32c::crc32c(&model));
        assert!(whole(db.get_blob("b").unwrap()) == model);
        db.check().unwrap();
        assert_eq!(staged(&db), 0);
    }
    // Several at once: none is lost.
    std::thread::scope(|scope| {
        for fill in 0..3u8 {
            let db = &db;
            scope.spawn(move || db.append_blob("b", &vec![fill; GROUP + CHUNK][..]).unwrap());
        }
    });
    let bytes = whole(db.get_blob("b").unwrap());
    assert_eq!(bytes.len(), model.len() + 3 * (GROUP + CHUNK));
    let added = &bytes[model.len()..];
    for part in added.chunks(GROUP + CHUNK) {
        assert!(part.iter().all(|byte| *byte == part[0]));
    }
    db.check().unwrap();
}

#[test]
fn a_range_reads_only_the_chunks_that_it_touches() {
    let disk = SimDisk::new(1);
    let bytes = content(3, 40 * CHUNK);
    {
        let db = open(disk.storage()).unwrap();
        db.put_blob_from("b", &bytes[..]).unwrap();
        db.close().unwrap();
    }
    let disk = disk.reopen();
    let db = open(disk.storage()).unwrap();
    let reader = db.get_blob("b").unwrap().unwrap();
    let before = disk.counters().bytes(SimOperation::Read);
    let mut some = vec![0; 100];
    reader
        .read_range(20 * CHUNK as u64 - 50, &mut some)
        .unwrap();
    assert_eq!(some, bytes[20 * CHUNK - 50..20 * CHUNK + 50]);
    let read = disk.counters().bytes(SimOperation::Read) - before;
    assert!(read <= 2 * CHUNK as u64 + 4 * 4096, "{read} bytes");
    // A write of few bytes writes few chunks.
    let written = db.stats().unwrap().written.long_values;
    db.write_blob_at("b", 30 * CHUNK as u64 - 1, b"xy").unwrap();
    let written = db.stats().unwrap().written.long_values - written;
    assert_eq!(written, 2 * CHUNK as u64);
}

#[test]
fn others_commit_while_a_long_blob_comes_in() {
    struct Slow {
        left: usize,
        commits: Arc<AtomicU64>,
    }
    impl Read for Slow {
        /// Gives no more before others have committed.
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 {
                return Ok(0);
            }
            self.left -= 1;
            let before = self.commits.load(Ordering::Acquire);
            let begun = std::time::Instant::now();
            while self.commits.load(Ordering::Acquire) < before + 2 {
                assert!(begun.elapsed() < Duration::from_secs(60), "nobody commits");
                std::thread::yield_now();
            }
            buffer.fill(1);
            Ok(buffer.len())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let db = Aurora::open(directory.path().join("db")).unwrap();
    let commits = Arc::new(AtomicU64::new(0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let tree = db.tree("t").unwrap();
            while !done.load(Ordering::Acquire) {
                tree.put("key", "value").unwrap();
                commits.fetch_add(1, Ordering::Release);
            }
        });
        let source = Slow {
            left: 100,
            commits: commits.clone(),
        };
        let info = db.put_blob_from("b", source).unwrap();
        assert!(info.size > 10 * CHUNK as u64);
        let mut appended = Slow {
            left: 20,
            commits: commits.clone(),
        };
        db.append_blob("b", &mut appended).unwrap();
        done.store(true, Ordering::Release);
    });
    db.check().unwrap();
}

#[test]
fn damage_is_an_error_that_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    let bytes = content(9, 3 * CHUNK);
    {
        let db = repeatable().open(&path).unwrap();
        db.put_blob_from("b", &bytes[..]).unwrap();
    }
    let mut file = std::fs::read(&path).unwrap();
    let place = file
        .windows(64)
        .position(|window| window == &bytes[2 * CHUNK..2 * CHUNK + 64])
        .unwrap();
    file[place + 1000] ^= 1;
    std::fs::write(&path, &file).unwrap();
    let db = repeatable().open(&path).unwrap();
    let mut reader = db.get_blob("b").unwrap().unwrap();
    let mut good = vec![0; 2 * CHUNK];
    reader.read_exact(&mut good).unwrap();
    let error = reader.read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.downcast::<Error>().unwrap().is_corruption());
    assert!(db.check().unwrap_err().is_corruption());
    // Whichever part of the chunk is asked for, and in whichever way.
    for length in [10, 20_000, CHUNK] {
        let reader = db.get_blob("b").unwrap().unwrap();
        let offset = 3 * CHUNK - length;
        let error = { reader.read_range(offset as u64, &mut vec![0; length]) }.unwrap_err();
        assert!(error.is_corruption(), "{length}: {error}");
        let mut reader = db.get_blob("b").unwrap().unwrap();
        reader.seek(SeekFrom::Start(offset as u64)).unwrap();
        let read = reader.read(&mut vec![0; length]);
        assert_eq!(
            read.unwrap_err().kind(),
            io::ErrorKind::InvalidData,
            "{length}"
        );
    }
    // What comes from a damaged blob is not stored as another.
    let reader = db.get_blob("b").unwrap().unwrap();
    assert!(db.put_blob_from("c", reader).unwrap_err().is_corruption());
}

/// Where bytes are in a file.
fn place_of(bytes: &[u8], file: &[u8]) -> usize {
    let begin = bytes.first_chunk::<64>().unwrap();
    let places = file.windows(64).position(|window| window == begin);
    places.expect("it is in the file")
}

#[test]
fn damage_in_any_chunk_is_found_whatever_was_read_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    let bytes = content(9, 2 * GROUP + CHUNK + 50_000);
    {
        let db = repeatable().open(&path).unwrap();
        db.put_blob_from("b", &bytes[..]).unwrap();
    }
    let healthy = std::fs::read(&path).unwrap();
    for chunk in [0, 3, 7, 8, 15, 16, 17] {
        let begin = chunk * CHUNK;
        let mut file = healthy.clone();
        let place = place_of(&bytes[begin..], &file);
        file[place + 49_000] ^= 0x10;
        std::fs::write(&path, &file).unwrap();
        for step in [CHUNK, 1 << 20, 40_000] {
            let db = repeatable().open(&path).unwrap();
            let mut reader = db.get_blob("b").unwrap().unwrap();
            let (mut buffer, mut read) = (vec![0; step], 0);
            // All before it comes, and nothing of it.
            let error = loop {
                match reader.read(&mut buffer) {
                    Ok(length) => {
                        assert!(length > 0, "chunk {chunk}: the damage was not noticed");
                        assert!(buffer[..length] == bytes[read..read + length]);
                        read += length;
                    }
                    Err(error) => break error,
                }
            };
            assert_eq!((read, error.kind()), (begin, io::ErrorKind::InvalidData));
            let mut reader = db.get_blob("b").unwrap().unwrap();
            reader.seek(SeekFrom::Start(begin as u64 + 7)).unwrap();
            for _ in 0..2 {
                let refused = shown(reader.clone(), step).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
            }
            // A chunk that was refused once is not taken for good later.
            let end = bytes.len().min(begin + CHUNK);
            for length in [end - begin, 20_000, 100] {
                let part = reader.read_range(begin as u64, &mut vec![0; length]);
                assert!(part.unwrap_err().is_corruption(), "chunk {chunk}, {length}");
            }
            for other in (0..18).filter(|other| *other != chunk) {
                let mut part = vec![0; 40_000];
                let at = other * CHUNK + 1000;
                let length = reader.read_range(at as u64, &mut part).unwrap();
                assert!(part[..length] == bytes[at..at + length], "chunk {other}");
            }
        }
    }
}

#[test]
fn long_blobs_lie_at_round_places_and_short_ones_before_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    let (long, short) = (content(1, 2 * GROUP + CHUNK), content(2, 4 * CHUNK));
    {
        let db = repeatable().open(&path).unwrap();
        db.put_blob_from("long", &long[..]).unwrap();
        db.put_blob_from("short", &short[..]).unwrap();
        db.check().unwrap();
    }
    let file = std::fs::read(&path).unwrap();
    let places = [0, 1].map(|group| place_of(&long[group * GROUP..], &file));
    assert_eq!(places.map(|place| place % GROUP), [0, 0], "{places:?}");
    assert_eq!(
        place_of(&long[GROUP - CHUNK..], &file),
        places[0] + GROUP - CHUNK
    );
    assert!(
        place_of(&short, &file) < places[0],
        "what was left out is not used"
    );
}

#[test]
fn nothing_of_a_blob_is_in_the_one_after_it() {
    let db = Aurora::in_memory().unwrap();
    let mut given_up = db.blob_writer("long");
    given_up.write_all(&vec![0xaa; GROUP + CHUNK / 2]).unwrap();
    drop(given_up);
    db.put_blob_from("failed", Failing(CHUNK)).unwrap_err();
    for length in [0, 1, CHUNK - 1, CHUNK + 1, GROUP + 4095, GROUP + 4097] {
        db.put_blob_from("next", &content(3, length)[..]).unwrap();
        assert!(whole(db.get_blob("next").unwrap()) == content(3, length));
        db.put_blob_from("long", &vec![0xaa; 2 * GROUP][..])
            .unwrap();
        db.check().unwrap();
    }
}

#[test]
fn a_database_that_is_read_only_takes_no_blob_and_reads_those_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    let bytes = content(9, 3 * CHUNK);
    repeatable()
        .open(&path)
        .unwrap()
        .put_blob_from("b", &bytes[..])
        .unwrap();
    let db = Aurora::builder().read_only(true).open(&path).unwrap();
    assert!(whole(db.get_blob("b").unwrap()) == bytes);
    for length in [10, 9 * CHUNK] {
        let refused = db.put_blob_from("c", &content(1, length)[..]).unwrap_err();
        assert!(matches!(refused, Error::ReadOnly), "{refused}");
    }
}

// Random changes against a vector.

#[derive(Debug, Clone)]
enum Change {
    Put(usize),
    PutInTransaction(usize),
    Append(usize),
    AppendInTransaction(usize),
    Truncate(usize),
    WriteAt(usize, usize),
    Seek(usize, usize),
    Reopen,
    Checkpoint,
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..2000usize,
        2 => (0..4usize, -2..3i64).prop_map(|(n, by)| (n * CHUNK).saturating_add_signed(by as isize)),
        2 => 0..3 * CHUNK,
        1 => GROUP..GROUP + 2 * CHUNK,
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => length().prop_map(Change::Put),
        1 => length().prop_map(Change::PutInTransaction),
        4 => length().prop_map(Change::Append),
        2 => length().prop_map(Change::AppendInTransaction),
        4 => length().prop_map(Change::Truncate),
        6 => (length(), length()).prop_map(|(at, n)| Change::WriteAt(at, n)),
        4 => (length(), length()).prop_map(|(at, n)| Change::Seek(at, n)),
        1 => Just(Change::Reopen),
        1 => Just(Change::Checkpoint),
    ]
}

fn run(changes: &[Change]) {
    let disk = SimDisk::new(1);
    let mut db = open(disk.storage()).unwrap();
    let mut model = Vec::new();
    db.put_blob_from("b", &model[..]).unwrap();
    for (seed, change) in changes.iter().enumerate() {
        let bytes = |length| content(seed as u64, length);
        match *change {
            Change::Put(length) => {
                model = bytes(length);
                db.put_blob_from("b", &model[..]).unwrap();
            }
            Change::PutInTransaction(length) => {
                model = bytes(length);
                db.write(|tx| tx.put_blob_from("b", &model[..])).unwrap();
            }
            Change::Append(length) => {
                model.extend(bytes(length));
                db.append_blob("b", &bytes(length)[..]).unwrap();
            }
            Change::AppendInTransaction(length) => {
                model.extend(bytes(length));
                let more = bytes(length);
                db.write(|tx| tx.append_blob("b", &more[..])).unwrap();
            }
            Change::Truncate(length) => {
                model.resize(length, 0);
                db.truncate_blob("b", length as u64).unwrap();
            }
            Change::WriteAt(offset, length) => {
                if model.len() < offset + length {
                    model.resize(offset + length, 0);
                }
                model[offset..offset + length].copy_from_slice(&bytes(length));
                db.write_blob_at("b", offset as u64, bytes(length)).unwrap();
            }
            Change::Seek(offset, length) => {
                let mut reader = db.get_blob("b").unwrap().unwrap();
                reader.seek(SeekFrom::Start(offset as u64)).unwrap();
                let mut read = Vec::new();
                reader.take(length as u64).read_to_end(&mut read).unwrap();
                let begin = offset.min(model.len());
                let end = (offset + length).min(model.len());
                assert!(read == model[begin..end]);
            }
            Change::Reopen => {
                db.close().unwrap();
                db = open(disk.reopen().storage()).unwrap();
            }
            Change::Checkpoint => db.checkpoint().unwrap(),
        }
        let info = db.blob_info("b").unwrap().unwrap();
        assert_eq!(info.size, model.len() as u64, "{change:?}");
        assert_eq!(info.checksum, crc32c::crc32c(&model), "{change:?}");
    }
    assert!(whole(db.get_blob("b").unwrap()) == model);
    assert_eq!(chunks(&db), model.len().div_ceil(CHUNK) as u64);
    db.check().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: budget(40) as u32, ..ProptestConfig::default() })]

    #[test]
    fn a_blob_is_what_a_vector_would_be(changes in proptest::collection::vec(change(), 1..20)) {
        run(&changes);
    }
}

// Crashes.

/// Puts, changes and half-finished uploads. Returns what must be there and what may be.
fn upload(disk: &SimDisk, acknowledged: &mut Vec<usize>) -> aurora::Result<()> {
    let db = open(disk.reopen().storage())?;
    for (n, length) in LENGTHS.iter().enumerate() {
        db.put_blob_from(format!("blob {n}"), &content(n as u64, *length)[..])?;
        acknowledged.push(n);
        // One that is never finished, and that nobody can clean up.
        let mut unfinished = db.blob_writer(format!("blob {n}"));
        let written = unfinished.write_all(&content(77, GROUP + CHUNK));
        std::mem::forget(unfinished);
        written.map_err(|error| error.downcast::<Error>().unwrap())?;
    }
    let mut tx = db.begin_write()?;
    tx.set_durability(Durability::Full);
    tx.tree("t")?.put("with", "the blob")?;
    tx.put_blob_from("in a transaction", &content(50, 2 * CHUNK)[..])?;
    tx.commit()?;
    acknowledged.push(50);
    Ok(())
}

const LENGTHS: [usize; 3] = [3000, GROUP + 4097, 2 * GROUP + CHUNK];

fn verify(image: &SimDisk, acknowledged: &[usize], what: &str) {
    let db = open(image.reopen().storage()).unwrap_or_else(|error| panic!("{what}: {error}"));
    db.check().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(staged(&db), 0, "{what}");
    let mut expected = 0;
    for (n, length) in LENGTHS.iter().enumerate() {
        match db.get_blob(format!("blob {n}")).unwrap() {
            Some(reader) => {
                assert!(whole(Some(reader)) == content(n as u64, *length), "{what}");
                expected += length.div_ceil(CHUNK) as u64;
            }
            None => assert!(!acknowledged.contains(&n), "{what}: blob {n} is lost"),
        }
    }
    let both = db.blob_info("in a transaction").unwrap();
    let plain = db.begin_read().unwrap().tree("t").is_ok();
    assert_eq!(both.is_some(), plain, "{what}: one without the other");
    assert!(plain || !acknowledged.contains(&50), "{what}");
    expected += both.map_or(0, |info| info.chunks);
    assert_eq!(chunks(&db), expected, "{what}: chunks of nobody");
}

#[test]
fn a_blob_half_written_at_a_crash_leaves_no_chunks() {
    let whole_run = SimDisk::new(1);
    upload(&whole_run, &mut Vec::new()).unwrap();
    let length = whole_run.counters().mutating_calls();
    let mut left_behind = 0;
    // A part of the moments by default, all with a budget.
    let has_budget = std::env::var_os("AURORA_TEST_BUDGET").is_some();
    for nth in (0..length).step_by(if has_budget { 1 } else { 5 }) {
        let disk = SimDisk::new(1);
        disk.crash_after(nth);
        let mut acknowledged = Vec::new();
        let cut = upload(&disk, &mut acknowledged);
        assert_eq!(cut.is_err(), disk.has_crashed());
        for variant in [
            SimCrash::LoseAll,
            SimCrash::KeepAll,
            SimCrash::Random { seed: nth },
            SimCrash::Sectors { seed: nth },
        ] {
            let image = disk.crash_image(variant);
            let before = Aurora::builder()
                .read_only(true)
                .open_storage(image.crash_image(SimCrash::KeepAll).storage());
            left_behind += before.map_or(0, |db| staged(&db));
            verify(&image, &acknowledged, &format!("cut {nth}, {variant:?}"));
        }
    }
    assert!(left_behind > 0, "no crash left anything to clean up");
}

/// Who writes sees the commits before it, also those that nobody has waited for.
#[test]
fn what_is_not_durable_yet_is_appended_to() {
    let disk = aurora::storage::SimDisk::new(1);
    let builder = Aurora::builder().background(false);
    let db = builder.open_storage(disk.storage()).unwrap();
    db.put("key", "a value", None).unwrap();
    let mut tx = db.begin_write().unwrap();
    tx.put_blob_from("blob", &b"one"[..]).unwrap();
    tx.put_blob_from("key", &b"one"[..]).unwrap();
    let commit = tx.commit_async().unwrap();
    for key in ["blob", "key"] {
        assert_eq!(db.append_blob(key, &b" two"[..]).unwrap().size, 7);
    }
    commit.wait().unwrap();
    let refused = db.append_blob("nothing", &b"x"[..]);
    assert!(matches!(refused, Err(Error::BlobNotFound { .. })));
}
