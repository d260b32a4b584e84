//! Recovery in the cases that have names: what must be dropped, what must be refused, and what
//! others got wrong.

mod common;
#[path = "common/hooked.rs"]
mod hooked;

use std::io::ErrorKind;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use aurora::storage::{SimCrash, SimDisk, SimFailedSync, SimFault, SimOperation};
use aurora::{Aurora, Durability, Error};
use common::{Model, contents, open, repeatable};
use hooked::{Hooked, at_event};

fn put(db: &Aurora, key: &str, value: &[u8]) {
    db.tree("a").unwrap().put(key, value).unwrap();
}

fn put_buffered(db: &Aurora, key: &str, value: &[u8]) {
    let mut tx = db.begin_write().unwrap();
    tx.set_durability(Durability::Buffered);
    tx.tree("a").unwrap().put(key, value).unwrap();
    tx.commit().unwrap();
}

fn model(entries: &[(&str, &[u8])]) -> Model {
    let tree = entries
        .iter()
        .map(|(key, value)| (key.as_bytes().to_vec(), value.to_vec()))
        .collect();
    Model([("a".to_string(), tree)].into())
}

fn state_of(db: &Aurora) -> Model {
    contents(&db.begin_read().unwrap()).unwrap()
}

/// A database with threads of its own writes what nobody waits for in about half a second.
#[test]
fn buffered_commits_reach_the_disk_by_themselves() {
    let disk = SimDisk::new(4);
    let db = Aurora::builder().open_storage(disk.storage()).unwrap();
    for round in 0..3u8 {
        put_buffered(&db, "key", &[round]);
        let expected = state_of(&db);
        let start = Instant::now();
        loop {
            let image = disk.crash_image(SimCrash::LoseAll);
            let after = open(image.storage()).unwrap();
            if state_of(&after) == expected {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(20));
        }
        if round == 1 {
            put(&db, "full", b"1"); // takes the one in the buffer along, and what comes next is not forgotten
            put_buffered(&db, "other", b"2");
        }
    }
}

/// Twenty acknowledged commits in the log, and the process is gone.
fn killed() -> (SimDisk, Model) {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    for n in 0..20u8 {
        put(&db, &format!("key{n}"), &[n; 40]);
    }
    let expected = state_of(&db);
    let image = disk.kill_image();
    drop(db);
    (image, expected)
}

/// Flips one bit of each byte in turn: the database opens with everything in it, or says what is
/// wrong. Returns how many flips were noticed.
fn flip_each(image: &SimDisk, expected: &Model, bytes: std::ops::Range<u64>) -> u64 {
    let pristine = image.image();
    let mut noticed = 0;
    for offset in bytes {
        let disk = SimDisk::from_image(pristine.clone(), 1);
        assert!(disk.flip_bit(offset, (offset % 8) as u8));
        let read = open(disk.storage()).and_then(|db| {
            db.check()?;
            contents(&db.begin_read()?)
        });
        match read {
            Ok(found) => assert_eq!(&found, expected, "byte {offset}"),
            Err(error) => {
                assert!(
                    error.is_corruption() || is_foreign(&error),
                    "byte {offset}: {error}"
                );
                noticed += 1;
            }
        }
    }
    noticed
}

fn is_foreign(error: &Error) -> bool {
    matches!(error, Error::NotADatabase { .. })
}

#[test]
fn rot_in_acknowledged_records_is_an_error_and_never_a_silent_cut() {
    let (image, expected) = killed();
    let db = open(image.reopen().storage()).unwrap();
    let used = db.stats().unwrap().log_used_bytes;
    drop(db);
    let (image, _) = killed();
    let log = 2 * 4096;
    // Every byte of every record is noticed; what is behind the last one has no meaning.
    assert_eq!(flip_each(&image, &expected, log..log + used), used);
    assert_eq!(flip_each(&image, &expected, log + used..log + 4096), 0);
}

#[test]
fn rot_in_the_last_acknowledged_record_is_noticed_too() {
    let (image, expected) = killed();
    let bytes = image.image();
    let last = (2 * 4096..3 * 4096)
        .rev()
        .find(|at| bytes[*at..].starts_with(&[19; 40]))
        .unwrap() as u64;
    let disk = SimDisk::from_image(bytes, 1);
    disk.flip_bit(last, 0);
    let error = open(disk.storage()).unwrap_err();
    assert!(matches!(error, Error::LogDamaged { .. }), "{error}");
    drop(expected);
}

/// Where the first ring begins in a new file.
const RING: usize = 2 * 4096;
const RING_BYTES: usize = 32 << 10;

/// Writes over these bytes what looks like headers of records, one behind the other. Each names its own place in the ring, a
/// lap that is to come and a payload nearly as long as the ring, and says that the log was durable far behind its end.
/// Returns how many there are.
fn forge_headers(image: &mut [u8], within: std::ops::Range<usize>) -> u64 {
    let from = within.start.next_multiple_of(8);
    let mut forged = 0;
    for (at, to) in (from..)
        .step_by(56)
        .zip(image[..within.end][from..].chunks_exact_mut(56))
    {
        to.fill(0);
        to[..4].copy_from_slice(b"ALOG");
        to[4..8].copy_from_slice(&(RING_BYTES as u32 - 64).to_le_bytes());
        let lsn = at - RING + (RING_BYTES << 20);
        to[8..16].copy_from_slice(&(lsn as u64).to_le_bytes());
        to[16..24].copy_from_slice(&1_000_000_u64.to_le_bytes());
        to[32..40].copy_from_slice(&(1_u64 << 60).to_le_bytes());
        to[40] = 1;
        forged += 1;
    }
    forged
}

/// A file with one value of so many bytes, and another, as a power cut leaves it; and where that value lies in it.
fn with_value(value: &[u8]) -> (SimDisk, std::ops::Range<usize>) {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    put(&db, "before", b"1");
    put(&db, "forged", value);
    put(&db, "after", b"2");
    let cut = disk.crash_image(SimCrash::LoseAll);
    let image = cut.image();
    let at = image.windows(value.len()).position(|bytes| bytes == value);
    let at = at.unwrap();
    (cut, at..at + value.len())
}

/// Someone who chooses values can put into them whatever looks like a record and is none. It is no proof of damage, however
/// much of it there is.
#[test]
fn values_full_of_headers_of_records_are_no_damage() {
    for headers in [1, 8, 9, 10, 100, 140] {
        let mut value = vec![0xab; headers * 56 + 16];
        let (cut, place) = with_value(&value);
        let mut image = cut.image();
        let forged = forge_headers(&mut image, place.clone());
        assert_eq!(forged, headers as u64);
        value.copy_from_slice(&image[place.clone()]);
        let (cut, same_place) = with_value(&value);
        assert_eq!(place, same_place);
        let db = open(cut.storage()).unwrap_or_else(|error| panic!("{headers} headers: {error}"));
        let expected = model(&[("after", b"2"), ("before", b"1"), ("forged", &value)]);
        assert_eq!(state_of(&db), expected);
    }
}

/// As in the last lap's records, or in pages that had other uses before they became a ring.
#[test]
fn a_ring_full_of_headers_of_records_ends_where_it_ends() {
    let (killed, expected) = killed();
    let used = open(killed.reopen().storage()).unwrap().stats().unwrap();
    let used = used.log_used_bytes as usize;
    let mut image = killed.image();
    let behind_the_mark = RING + used + 56;
    assert!(forge_headers(&mut image, behind_the_mark..RING + RING_BYTES) > 500);
    let db = open(SimDisk::from_image(image.clone(), 1).storage()).unwrap();
    assert_eq!(state_of(&db), expected);
    drop(db);
    // Where one that was acknowledged is damaged, it is the record behind it that proves it, and nothing within.
    let (cut, place) = with_value(&[0xab; 1000]);
    let mut image = cut.image();
    forge_headers(&mut image, place.clone());
    let (cut, place) = with_value(&image[place]);
    cut.flip_bit(place.start as u64 - 5, 0); // of its key
    let error = open(cut.storage()).unwrap_err();
    let later = match error {
        Error::LogDamaged { later_lsn, .. } => later_lsn,
        _ => panic!("{error}"),
    };
    assert!(
        later < RING_BYTES as u64,
        "what was forged is named: {error}"
    );
}

#[test]
fn a_damaged_header_slot_is_never_replaced_by_an_older_state() {
    // After a kill, after a checkpoint, after a commit by checkpoint that left no record, and
    // after a clean close.
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    put(&db, "one", b"1");
    db.checkpoint().unwrap();
    put(&db, "two", b"2");
    let after_checkpoint = (disk.kill_image(), state_of(&db));
    db.write(|tx| {
        let mut tree = tx.tree("a")?;
        for n in 0..1000u32 {
            tree.put(n.to_be_bytes(), [5; 100])?;
        }
        Ok(())
    })
    .unwrap();
    let after_large = (disk.kill_image(), state_of(&db));
    let last = state_of(&db);
    db.close().unwrap();
    let after_close = (disk.kill_image(), last);
    for (image, expected) in [killed(), after_checkpoint, after_large, after_close] {
        flip_each(&image, &expected, 0..256);
        flip_each(&image, &expected, 4096..4096 + 256);
    }
}

/// B1 and B2 are in one batch that a power cut tears: B1 is lost, B2 is not. What `next` commits then is durable, and
/// nothing else, at the next cut.
fn dropped_tails_stay_dropped(
    first: (&str, &[u8]),
    next: impl Fn(Aurora, &SimDisk) -> Aurora,
    expected: &Model,
) {
    let mut tried = 0;
    for seed in 0..400 {
        let disk = SimDisk::new(seed);
        let db = open(disk.storage()).unwrap();
        put(&db, "a", &[1; 1990]);
        for (key, value) in [first, ("c", &[2; 1200])] {
            let mut tx = db.begin_write().unwrap();
            tx.set_durability(Durability::Buffered);
            tx.tree("a").unwrap().put(key, value).unwrap();
            tx.commit().unwrap();
        }
        disk.crash_after(1);
        db.flush().unwrap_err();
        let torn = disk.crash_image(SimCrash::Sectors { seed });
        drop(db);
        let db = open(torn.storage()).unwrap();
        if state_of(&db) != model(&[("a", &[1; 1990])]) {
            continue;
        }
        tried += 1;
        let db = next(db, &torn);
        let cut = torn.crash_image(SimCrash::LoseAll);
        drop(db);
        let db = open(cut.storage()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(&state_of(&db), expected, "seed {seed}");
    }
    assert!(tried > 50, "only {tried} tears were of use");
}

#[test]
fn a_record_of_a_dropped_tail_never_comes_back() {
    // What is committed next has the length of B1, so that B2 stands exactly behind it, intact.
    let next = |db, _: &SimDisk| {
        put(&db, "d", &[3; 1200]);
        db
    };
    let expected = model(&[("a", &[1; 1990]), ("d", &[3; 1200])]);
    dropped_tails_stay_dropped(("b", &[2; 1200]), next, &expected);
}

/// A program that tries again what was lost: B2 follows what is B1 to the last byte, but for its version.
#[test]
fn nor_does_it_where_the_lost_commit_is_made_again() {
    let first: (&str, &[u8]) = ("b", &[2; 1200]);
    let again = |db, _: &SimDisk| {
        put(&db, first.0, first.1);
        db
    };
    let expected = model(&[("a", &[1; 1990]), first]);
    dropped_tails_stay_dropped(first, again, &expected);
    // Nor after a session that changed nothing, and left a file that looks as if nobody had to look behind its end.
    let later = |db: Aurora, disk: &SimDisk| {
        db.close().unwrap();
        again(open(disk.storage()).unwrap(), disk)
    };
    dropped_tails_stay_dropped(first, later, &expected);
}

#[test]
fn places_of_long_values_are_not_reused_while_the_log_refers_to_them() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    put(&db, "other", b"value");
    db.checkpoint().unwrap();
    for n in 0..12u8 {
        put(&db, "long", &vec![n; 40_000]);
        if n % 3 == 0 {
            db.tree("a").unwrap().delete("long").unwrap();
        }
        let image = disk.crash_image(SimCrash::LoseAll);
        let again = open(image.storage()).unwrap();
        assert_eq!(state_of(&again), state_of(&db), "after {n}");
        again.check().unwrap();
    }
}

#[test]
fn the_ring_grows_for_commits_that_do_not_fit_it() {
    let disk = SimDisk::new(1);
    let db = repeatable()
        .log_limit(4 << 20)
        .open_storage(disk.storage())
        .unwrap();
    for n in 0..60u8 {
        put(&db, &format!("key{n}"), &[n; 10_000]);
    }
    let stats = db.stats().unwrap();
    assert!(stats.log_bytes > 64 << 10, "{} bytes", stats.log_bytes);
    assert!(stats.checkpoints < 30, "{} checkpoints", stats.checkpoints);
}

/// A log of many times the size of what was imported once would stay in the file for nothing.
#[test]
fn one_large_commit_leaves_the_ring_small_and_a_second_one_grows_it() {
    let disk = SimDisk::new(1);
    let builder = repeatable().log_limit(4 << 20);
    let db = builder.open_storage(disk.storage()).unwrap();
    let before = db.stats().unwrap().log_bytes;
    let import = |first: u16| {
        db.write(|tx| {
            let mut tree = tx.tree("data")?;
            for n in first..first + 1000 {
                tree.put(n.to_be_bytes(), [7; 200])?;
            }
            Ok(())
        })
        .unwrap();
        db.stats().unwrap()
    };
    let once = import(0);
    assert_eq!(once.log_bytes, before);
    assert!(once.file_bytes < 600 << 10, "{} bytes", once.file_bytes);
    import(1000);
    put(&db, "key", b"the next record goes to the new ring");
    let twice = db.stats().unwrap();
    assert!(twice.log_bytes > 1 << 20, "{} bytes", twice.log_bytes);
}

/// A load would else leave the first ring behind, which 50 small commits fill to half: the next checkpoint.
#[test]
fn a_large_load_leaves_a_ring_for_many_small_commits() {
    let disk = SimDisk::new(1);
    let builder = repeatable().log_limit(4 << 20).memory_limit(64 << 20);
    let db = builder.open_storage(disk.storage()).unwrap();
    db.write(|tx| {
        let mut tree = tx.tree("data")?;
        tree.put_many((0..40_000u32).map(|n| (n.to_be_bytes(), [7; 200])))?;
        Ok(())
    })
    .unwrap();
    let loaded = db.stats().unwrap();
    for n in 0..1000 {
        put(&db, &format!("key{n}"), &[1; 200]);
    }
    let stats = db.stats().unwrap();
    assert_eq!(stats.checkpoints, loaded.checkpoints);
    let log_bytes = stats.log_bytes;
    assert!(log_bytes > 512 << 10, "{log_bytes} bytes");
    assert!(log_bytes <= stats.file_bytes / 8, "{log_bytes} bytes");
    let again = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap();
    assert_eq!(state_of(&again), state_of(&db));
    again.check().unwrap();
}

/// A ring of an eighth of the file would undo what the compaction gave back.
#[test]
fn a_commit_of_middle_size_leaves_a_ring_of_no_more_than_it_wrote() {
    const WRITTEN_BYTES: u64 = 600 << 10;
    let disk = SimDisk::new(1);
    let builder = repeatable().log_limit(8 << 20).memory_limit(64 << 20);
    let db = builder.open_storage(disk.storage()).unwrap();
    let load = |first: u32, count: u32| {
        let entries = (first..first + count).map(|n| (n.to_be_bytes(), [7; 200]));
        db.write(|tx| tx.tree("data")?.put_many(entries).map(drop))
            .unwrap();
    };
    load(0, 100_000);
    db.compact().unwrap();
    put(&db, "key", b"the record goes to the ring of the compaction");
    let compact = db.stats().unwrap();
    assert!(compact.log_bytes < 64 << 10, "{} bytes", compact.log_bytes);
    load(100_000, (WRITTEN_BYTES / 250) as u32);
    put(&db, "key", b"the next one to what the commit left");
    let stats = db.stats().unwrap();
    assert_eq!(stats.checkpoints, compact.checkpoints + 1);
    assert!(stats.log_bytes > 128 << 10, "{} bytes", stats.log_bytes);
    assert!(
        stats.log_bytes <= WRITTEN_BYTES + (64 << 10),
        "{} bytes",
        stats.log_bytes
    );
}

/// Each commit would be by a checkpoint, which a hundred times as much is written for, until a small one came.
#[test]
fn the_ring_grows_for_large_commits_while_a_small_ring_waits_for_its_first_record() {
    let disk = SimDisk::new(1);
    let builder = repeatable().log_limit(16 << 20);
    let db = builder.open_storage(disk.storage()).unwrap();
    let (mut n, before) = (0, db.stats().unwrap().checkpoints);
    // The checkpoint after the last one of these lays out a ring, and nothing is in it yet.
    while db.stats().unwrap().checkpoints == before {
        put(&db, &format!("small{n}"), &[1; 100]);
        n += 1;
    }
    let checkpoints = db.stats().unwrap().checkpoints;
    for n in 0..20u32 {
        db.write(|tx| {
            let mut tree = tx.tree("data")?;
            (0..500u32).try_for_each(|m| tree.put((n * 500 + m).to_be_bytes(), [2; 200]).map(drop))
        })
        .unwrap();
    }
    let made = db.stats().unwrap().checkpoints - checkpoints;
    assert!(made < 10, "{made} checkpoints for 20 commits");
    let again = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap();
    assert_eq!(state_of(&again), state_of(&db));
    again.check().unwrap();
}

#[test]
fn a_value_that_looks_like_a_record_is_a_value() {
    // The log of one database, stored as a value in another with the same salt, at the same
    // position in the file as far as that can be arranged.
    let (image, _) = killed();
    let log = image.image()[2 * 4096..3 * 4096].to_vec();
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    for shift in 0..8 {
        put(&db, &format!("key{shift}"), &log[shift..]);
    }
    let expected = state_of(&db);
    for crash in [SimCrash::LoseAll, SimCrash::KeepAll] {
        let db = open(disk.crash_image(crash).storage()).unwrap();
        assert_eq!(state_of(&db), expected);
        db.check().unwrap();
    }
}

#[test]
fn records_of_earlier_laps_are_not_replayed() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    for n in 0..3000u32 {
        put(&db, &format!("key{:03}", n % 100), &n.to_le_bytes());
        if n % 37 == 0 {
            let image = disk.crash_image(SimCrash::LoseAll);
            assert_eq!(
                state_of(&open(image.storage()).unwrap()),
                state_of(&db),
                "after {n}"
            );
        }
    }
    assert!(db.stats().unwrap().checkpoints > 3);
}

#[test]
fn opening_after_a_crash_does_not_read_the_whole_file() {
    let disk = SimDisk::new(1);
    let db = repeatable()
        .memory_limit(64 << 20)
        .open_storage(disk.storage())
        .unwrap();
    db.write(|tx| {
        let mut tree = tx.tree("a")?;
        for n in 0..100_000u32 {
            tree.put(n.to_be_bytes(), [7; 100])?;
        }
        Ok(())
    })
    .unwrap();
    put(&db, "last", b"one");
    let image = disk.kill_image();
    let file_bytes = image.image().len() as u64;
    let before = image.counters().bytes(aurora::storage::SimOperation::Read);
    let db = open(image.storage()).unwrap();
    let read = image.counters().bytes(aurora::storage::SimOperation::Read) - before;
    assert!(
        read < file_bytes / 20,
        "{read} bytes of {file_bytes} were read"
    );
    assert_eq!(db.tree("a").unwrap().len().unwrap(), 100_001);
}

/// A log of five thousand changes of two trees, which an open makes in the order of their keys.
fn killed_with_many_changes() -> (SimDisk, Model) {
    let disk = SimDisk::new(1);
    let builder = repeatable().log_limit(16 << 20).memory_limit(64 << 20);
    let db = builder.open_storage(disk.storage()).unwrap();
    let import = |first: u32| {
        db.write(|tx| {
            for n in first..first + 10_000 {
                tx.tree("a")?.put(scattered(n), [7; 100])?;
                tx.tree("b")?.put(n.to_be_bytes(), [8; 20])?;
            }
            Ok(())
        })
        .unwrap();
    };
    (0..2).for_each(|part| import(part * 10_000)); // the second one grows the ring
    db.checkpoint().unwrap();
    for round in 0..20u32 {
        db.write(|tx| {
            for n in (0..250).map(|n| round * 1009 + n * 80) {
                match n % 5 {
                    0 => drop(tx.tree("a")?.delete(scattered(n))?),
                    1 => drop(tx.tree("a")?.put(scattered(n), [round as u8; 130])?),
                    2 => drop(tx.tree("a")?.put(scattered(n + 50_000), [9; 10])?),
                    3 => drop(tx.tree("b")?.put(n.to_be_bytes(), vec![3; 2500])?),
                    _ => drop(tx.tree("b")?.put(n.to_be_bytes(), [round as u8; 70])?),
                }
            }
            let (grows, shrinks) = (b"grows".as_slice(), b"shrinks".as_slice());
            for (key, length) in [(grows, 10), (grows, 2500), (shrinks, 2500), (shrinks, 10)] {
                tx.tree("b")?.put(key, vec![round as u8; length])?;
            }
            let lower = (round * 700).to_be_bytes();
            let upper = (round * 700 + 50).to_be_bytes();
            tx.tree("b")?.delete_range(lower..upper).map(drop)
        })
        .unwrap();
    }
    let log_bytes = db.stats().unwrap().log_used_bytes;
    assert!(log_bytes > 400 << 10, "{log_bytes} bytes");
    let expected = state_of(&db);
    let image = disk.kill_image();
    drop(db);
    (image, expected)
}

/// Keys whose order has nothing to do with that of the numbers.
fn scattered(n: u32) -> [u8; 8] {
    u64::from(n)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .to_be_bytes()
}

/// With and without the thread that reads ahead (`txn::arriving`).
#[test]
fn many_changes_are_replayed_as_they_were_made() {
    let (image, expected) = killed_with_many_changes();
    for background in [false, true] {
        let storage = SimDisk::from_image(image.image(), 1).storage();
        let builder = repeatable().background(background);
        let db = builder.open_storage(storage).unwrap();
        assert!(state_of(&db) == expected, "background: {background}");
        db.check().unwrap();
        db.checkpoint().unwrap();
        assert!(state_of(&db) == expected, "background: {background}");
    }
}

/// What was stored could not be read any more: a cell of no bytes was left before the others.
#[test]
fn a_set_of_short_and_long_keys_is_read_again_after_a_removal() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    for removed in ["abcde", "abcdef", "x", "y"] {
        db.write(|tx| {
            let mut set = tx.tree("set")?;
            set.clear()?;
            for key in ["abcde", "abcdef", "x", "y"] {
                set.put(key, "")?;
            }
            set.delete(removed).map(drop)
        })
        .unwrap();
        db.checkpoint().unwrap();
        let again = open(disk.kill_image().storage()).unwrap();
        assert!(state_of(&again) == state_of(&db), "{removed}");
        again.check().unwrap();
    }
}

/// What is removed by keys, prefixes and bounds that are longer than keys can be is what a plain map says, and the log that
/// tells of it is one that an open reads. (Lengths in it have 16 bits.)
#[test]
fn nothing_as_long_as_no_key_can_be_is_written_to_the_log() {
    let disk = SimDisk::new(1);
    let open = |disk: &SimDisk| repeatable().log_limit(4 << 20).open_storage(disk.storage());
    let db = open(&disk).unwrap();
    let longest = |last: u8| [vec![b'p'; 1023], vec![last]].concat();
    let keys = [vec![], b"o".to_vec(), vec![b'p'; 1023]];
    let keys = keys.into_iter().chain([b'o', b'p', b'q'].map(longest));
    let keys: Vec<Vec<u8>> = keys.chain([b"q".to_vec()]).collect();
    let tree = db.tree("a").unwrap();
    // Two that are too large for the log make it one that takes such records.
    for byte in [1, 2] {
        let many = (0..400_u32).map(|n| (n.to_be_bytes(), [byte; 500]));
        tree.put_many(many).unwrap();
    }
    db.checkpoint().unwrap();
    tree.clear().unwrap();
    let fill = || tree.put_many(keys.iter().map(|key| (key, "value")));
    let is_read_again = |what: &str| {
        let again = open(&disk.kill_image()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(state_of(&again) == state_of(&db), "{what}");
    };
    for length in [1025, 2000, 65_535, 65_536, 70_000, 200_000] {
        let long = vec![b'p'; length];
        fill().unwrap();
        db.checkpoint().unwrap();
        assert!(!tree.delete(&long).unwrap());
        is_read_again("one");
        db.checkpoint().unwrap();
        let many = [&long[..], &b"o"[..], &long[..]];
        assert_eq!(tree.delete_many(many).unwrap(), 1);
        is_read_again("many");
        db.checkpoint().unwrap();
        assert_eq!(tree.delete_prefix(&long).unwrap(), 0);
        is_read_again("a prefix");
        let bounds = |key: &Vec<u8>| [Bound::Included(key.clone()), Bound::Excluded(key.clone())];
        let ends = keys.iter().chain([&long]).flat_map(bounds);
        let ends: Vec<Bound<Vec<u8>>> = ends.chain([Bound::Unbounded]).collect();
        for end in &ends {
            db.checkpoint().unwrap();
            for other in bounds(&long) {
                for range in [(end.clone(), other.clone()), (other.clone(), end.clone())] {
                    fill().unwrap();
                    let mut left = keys.clone();
                    left.retain(|key| !range.contains(key));
                    let removed = tree.delete_range(range.clone()).unwrap();
                    assert_eq!(removed as usize, keys.len() - left.len(), "{length}");
                    let found = contents(&db.begin_read().unwrap()).unwrap();
                    assert!(found.0["a"].keys().eq(&left), "{length}");
                }
            }
            is_read_again("a range");
        }
    }
}

/// Whichever thread meets a page that is damaged: the open says so, and ends.
#[test]
fn a_damaged_page_that_a_replay_needs_is_an_error() {
    let (image, expected) = killed_with_many_changes();
    let pristine = image.image();
    let pages = pristine.len() / 4096;
    let mut noticed = 0;
    for page in (2..pages).step_by(pages / 40) {
        let mut bytes = pristine.clone();
        bytes[page * 4096 + 2000] ^= 4;
        let storage = SimDisk::from_image(bytes, 1).storage();
        match repeatable().background(true).open_storage(storage) {
            Ok(db) => match contents(&db.begin_read().unwrap()) {
                Ok(found) => assert!(found == expected, "page {page}"),
                Err(error) => assert!(error.is_corruption(), "{error}"),
            },
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                noticed += 1;
            }
        }
    }
    assert!(noticed > 5, "{noticed}");
}

/// A sync that failed should have made the file longer. The system shows the new length until the
/// power goes, and it is not on the disk: what the next session puts there needs a length of its
/// own. (Found by `nth_call`.)
#[test]
fn the_length_that_a_failed_sync_lost_is_not_relied_on() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    put(&db, "before", b"1");
    disk.fail_once(SimOperation::SyncAll, 1, SimFault::Eio);
    let error = db.tree("a").unwrap().put("long", [1; 400_000]).unwrap_err();
    assert!(error.is_io(), "{error}");
    let killed = disk.kill_image();
    disk.crash_after(0);
    drop(db);
    for (key, length) in [("run", 45_000), ("other run", 200_000)] {
        let disk = killed.kill_image();
        let db = open(disk.storage()).unwrap();
        put(&db, key, &vec![2; length]);
        let expected = state_of(&db);
        let lost = disk.crash_image(SimCrash::LoseAll);
        disk.crash_after(0);
        drop(db);
        let db = open(lost.storage()).unwrap();
        assert_eq!(state_of(&db), expected);
        db.check().unwrap();
    }
}

/// A database whose last checkpoint was cut in the write of its header slot: the moment, and what
/// is in it before and after.
fn cut_in_the_header() -> (SimDisk, Model) {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    put(&db, "one", &[1; 3000]);
    db.checkpoint().unwrap();
    put(&db, "two", &[2; 3000]);
    disk.record_moments();
    db.checkpoint().unwrap();
    let expected = state_of(&db);
    disk.crash_after(0);
    let is_slot = |moment: &SimDisk| moment.unsynced_bytes().last() == Some(&256);
    let moment = disk.take_moments().into_iter().find(is_slot).unwrap();
    (moment, expected)
}

/// redb PR #1290: recovery wrote a torn slot again with a fresh checksum, and a second crash made
/// it the newest.
#[test]
fn a_torn_header_slot_never_gets_a_fresh_checksum() {
    let (moment, expected) = cut_in_the_header();
    let change = moment.unsynced_changes() - 1;
    let mut torn_slots = 0;
    for bytes in 1..256 {
        let torn = moment.crash_image(SimCrash::Torn { change, bytes });
        let before = torn.image();
        let db = open(torn.reopen().storage()).unwrap();
        assert_eq!(state_of(&db), expected);
        put(&db, "three", b"3");
        let after = torn.durable_image();
        for slot in [0..256, 4096..4096 + 256] {
            assert!(
                before[slot.clone()] == after[slot],
                "torn after {bytes}: a slot changed"
            );
        }
        torn_slots += 1;
        let second = torn.crash_image(SimCrash::LoseAll);
        let again = open(second.storage()).unwrap();
        assert_eq!(state_of(&again), state_of(&db));
        again.check().unwrap();
    }
    assert_eq!(torn_slots, 255);
}

/// redb `crash_consistency`: a header was durable, and the extension of the file was not. redb PR
/// #1435: a slot was published before what made it valid was durable.
#[test]
fn a_slot_is_never_durable_before_the_length_and_the_pages_that_it_names() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    for round in 0..6u8 {
        db.write(|tx| {
            let mut tree = tx.tree("a")?;
            (0..60 * u32::from(round))
                .try_for_each(|n| tree.put(n.to_be_bytes(), [round; 300]).map(drop))
        })
        .unwrap();
        put(&db, "last", &[round]);
        let expected = state_of(&db);
        disk.record_moments();
        db.checkpoint().unwrap();
        for (number, moment) in disk.take_moments().iter().enumerate() {
            let changes = moment.unsynced_changes();
            let crashes = [
                SimCrash::LoseAll,
                SimCrash::OnlyWrites,
                SimCrash::OnlyLengths,
                SimCrash::KeepAll,
                // The newest write alone: it overtook all others.
                SimCrash::Suffix { changes: 1 },
                SimCrash::Suffix {
                    changes: changes / 2,
                },
            ];
            for crash in crashes {
                let image = moment.crash_image(crash);
                let found = open(image.storage())
                    .unwrap_or_else(|error| panic!("{round}, {number}, {crash:?}: {error}"));
                assert_eq!(state_of(&found), expected, "{round}, {number}, {crash:?}");
                found.check().unwrap();
            }
        }
    }
}

/// redb PR #893: checksums that values can forge. Whole pages and header slots of the same file,
/// with checksums that are right, stored as long values, which lie in the file as they are.
#[test]
fn a_value_that_looks_like_a_page_or_a_header_is_a_value() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    for n in 0..20u8 {
        put(&db, &format!("key{n}"), &[n; 400]);
    }
    db.checkpoint().unwrap();
    // Newer slots than there are, valid by their own checksum.
    let mut file = disk.image();
    for slot in [0, 4096] {
        let number = u64::from_le_bytes(file[slot + 16..slot + 24].try_into().unwrap());
        file[slot + 16..slot + 24].copy_from_slice(&(number + 100).to_le_bytes());
        let checksum = crc32c::crc32c(&file[slot..slot + 252]);
        file[slot + 252..slot + 256].copy_from_slice(&checksum.to_le_bytes());
    }
    let tree = db.tree("a").unwrap();
    tree.put("the file", &file).unwrap();
    tree.put("the log", &file[2 * 4096..10 * 4096]).unwrap();
    db.checkpoint().unwrap();
    tree.put("again", &file).unwrap();
    tree.delete("the file").unwrap();
    db.checkpoint().unwrap();
    let expected = state_of(&db);
    let image = disk.kill_image().image();
    // What is in the free places of the old value is as good as what is in the file.
    for crash in [SimCrash::LoseAll, SimCrash::KeepAll] {
        let db = open(disk.crash_image(crash).storage()).unwrap();
        assert_eq!(state_of(&db), expected);
        db.check().unwrap();
    }
    // With its slots damaged the file is refused: no slot is looked for in values.
    let mut damaged = image;
    damaged[..256].fill(0);
    damaged[4096..4096 + 256].fill(0);
    let error = open(SimDisk::from_image(damaged, 1).storage()).unwrap_err();
    assert!(error.is_corruption() || is_foreign(&error), "{error}");
}

/// A commit arrives while a checkpoint is written: the checkpoint holds what was before it, and
/// the next one must not take the tree for the same as in this one.
#[test]
fn a_commit_during_a_checkpoint_is_part_of_the_next_one() {
    let disk = SimDisk::new(1);
    let storage = Hooked::new(disk.storage());
    let db = open(Arc::new(storage.clone())).unwrap();
    put(&db, "one", b"1");
    let during = db.clone();
    storage.before_sync(move || put(&during, "two", b"2"));
    db.checkpoint().unwrap();
    let expected = model(&[("one", b"1"), ("two", b"2")]);
    for round in 0..3 {
        assert_eq!(state_of(&db), expected);
        for crash in [SimCrash::LoseAll, SimCrash::KeepAll] {
            let found = open(disk.crash_image(crash).storage()).unwrap();
            assert_eq!(state_of(&found), expected, "{crash:?} after {round} more");
            found.check().unwrap();
        }
        db.checkpoint().unwrap();
    }
}

/// The pages that a checkpoint wrote may be what the failed sync of a commit beside it should have covered. Its own
/// sync finds nothing left to do then.
#[test]
fn a_checkpoint_does_not_survive_the_failed_sync_of_a_commit_beside_it() {
    let disk = SimDisk::new(1);
    let storage = Hooked::new(disk.storage());
    let db = open(Arc::new(storage.clone())).unwrap();
    put(&db, "one", b"1");
    let expected = state_of(&db);
    let (during, failing) = (db.clone(), disk.clone());
    storage.before_sync(move || {
        failing.fail_once(SimOperation::SyncAll, 1, SimFault::Eio);
        let long = during.tree("a").unwrap().put("long", [1; 40_000]);
        assert!(long.is_err_and(|error| error.is_io()));
    });
    assert!(db.checkpoint().is_err());
    assert!(
        db.tree("a")
            .unwrap()
            .put("two", b"2")
            .is_err_and(|error| error.is_poisoned())
    );
    let found = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap();
    assert_eq!(state_of(&found), expected);
    found.check().unwrap();
}

/// Whoever waits for the last checkpoint of a database that is closed comes too late.
#[test]
fn nothing_is_written_after_a_close() {
    let disk = SimDisk::new(1);
    let storage = Hooked::new(disk.storage());
    let db = open(Arc::new(storage.clone())).unwrap();
    for n in 0..400u32 {
        db.tree("a")
            .unwrap()
            .put(n.to_be_bytes(), [7; 900])
            .unwrap();
    }
    db.checkpoint().unwrap();
    db.tree("a")
        .unwrap()
        .delete_range(..300u32.to_be_bytes())
        .unwrap();
    let expected = state_of(&db);
    let (closing, probe, counted) = (db.clone(), db.clone(), disk.clone());
    let (give, given) = channel();
    storage.before_sync(move || {
        let closing = std::thread::spawn(move || {
            closing.close().unwrap();
            counted.counters()
        });
        while probe.begin_read().is_ok() {
            std::thread::yield_now();
        }
        give.send(closing).unwrap();
    });
    let compacted = db.compact();
    assert!(matches!(compacted, Err(Error::Closed)), "{compacted:?}");
    let at_close = given.recv().unwrap().join().unwrap();
    assert_eq!(format!("{:?}", disk.counters()), format!("{at_close:?}"));
    let found = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap();
    assert_eq!(state_of(&found), expected);
}

/// A checkpoint has planned the length that its header will name, with pages of a transaction
/// under way, which gives them back. A compaction, done with its own checkpoints, cuts the tail.
#[test]
fn a_compaction_never_cuts_the_length_that_a_header_is_about_to_name() {
    let disk = SimDisk::new(1);
    let storage = Hooked::new(disk.storage());
    let db = open(Arc::new(storage.clone())).unwrap();
    put(&db, "front", &[1; 400_000]);
    put(&db, "behind", &[2; 40_000]);
    db.checkpoint().unwrap();
    db.tree("a").unwrap().delete("front").unwrap();
    db.checkpoint().unwrap();
    let (at_sync, synced) = channel();
    let (finish, finished) = channel();
    let (other, hooks) = (db.clone(), storage.clone());
    let mut checkpoint = None;
    let (give, given) = channel();
    let start = move || {
        // Free pages at the front, for what the checkpoint writes, so that the transaction's are
        // the last.
        for length in [20_000, 1, 2] {
            put(&other, "small", &vec![3; length]);
            other.checkpoint().unwrap();
        }
        put(&other, "small", b"3");
        let mut tx = other.begin_write().unwrap();
        tx.tree("a").unwrap().put("long", [4; 800_000]).unwrap();
        hooks.before_sync(move || {
            drop(tx);
            at_sync.send(()).unwrap();
            finished.recv().unwrap();
        });
        let thread = std::thread::spawn(move || other.checkpoint().unwrap());
        synced.recv_timeout(Duration::from_secs(60)).unwrap();
        give.send(thread).unwrap();
    };
    at_event("aurora::compact", start, || {
        db.compact_with(|_| false).unwrap();
        checkpoint = given.try_recv().ok();
    });
    finish.send(()).unwrap();
    let checkpoint = checkpoint.expect("the compaction had nothing to do");
    checkpoint.join().unwrap();
    let expected = state_of(&db);
    for crash in [SimCrash::LoseAll, SimCrash::KeepAll] {
        let found = open(disk.crash_image(crash).storage()).unwrap();
        assert_eq!(state_of(&found), expected, "{crash:?}");
        found.check().unwrap();
    }
}

/// A long tail is cut part by part, with commits and checkpoints between the parts.
#[test]
fn a_crash_between_the_parts_of_a_cut_tail_loses_nothing() {
    let disk = SimDisk::new(1);
    let storage = Hooked::new(disk.storage());
    let db = open(Arc::new(storage.clone())).unwrap();
    put(&db, "front", &[1; 400_000]);
    for n in 0..9 {
        put(&db, &format!("long {n}"), &vec![2; 1 << 20]);
    }
    put(&db, "behind", &[2; 40_000]);
    db.checkpoint().unwrap();
    for n in 0..9 {
        db.tree("a").unwrap().delete(format!("long {n}")).unwrap();
    }
    db.tree("a").unwrap().delete("front").unwrap();
    let (other, image_of) = (db.clone(), disk.clone());
    let (count, counted) = channel();
    storage.before_each_cut(move |_| {
        let db = other.clone();
        let writer = std::thread::spawn(move || {
            put(&db, "between", b"1");
            state_of(&db)
        });
        let expected = writer.join().unwrap();
        for crash in [
            SimCrash::LoseAll,
            SimCrash::KeepAll,
            SimCrash::OnlyLengths,
            SimCrash::OnlyWrites,
        ] {
            let found = open(image_of.crash_image(crash).storage()).unwrap();
            assert_eq!(state_of(&found), expected, "{crash:?}");
            found.check().unwrap();
        }
        count.send(()).unwrap();
    });
    db.compact().unwrap();
    storage.before_each_cut(|_| {});
    let parts = counted.try_iter().count();
    assert!(parts >= 3, "{parts} parts");
    let stats = db.stats().unwrap();
    assert!(stats.file_bytes < 1 << 20, "{} bytes", stats.file_bytes);
    let expected = state_of(&db);
    let found = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap();
    assert_eq!(state_of(&found), expected);
}

/// No checkpoint succeeds any more, so nothing makes room in the log: commits go on until it is
/// full, and then they are refused.
#[test]
fn a_log_that_is_full_refuses_commits_and_keeps_those_that_it_has() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    put(&db, "before", b"1");
    db.checkpoint().unwrap();
    disk.fail_from(
        SimOperation::Write,
        1,
        SimFault::Error(ErrorKind::StorageFull),
    );
    let mut acknowledged = state_of(&db);
    let tree = acknowledged.0.get_mut("a").unwrap();
    let refused = (0..10_000u32).find_map(|n| {
        let (key, value) = (format!("key{:02}", n % 50), [n as u8; 100]);
        let error = db.tree("a").unwrap().put(&key, value).err();
        if error.is_none() {
            tree.insert(key.into_bytes(), value.to_vec());
        }
        error
    });
    let error = refused.expect("the log never was full");
    assert!(error.is_disk_full(), "{error}");
    assert_eq!(state_of(&db), acknowledged);
    for crash in [SimCrash::LoseAll, SimCrash::KeepAll] {
        let found = open(disk.crash_image(crash).storage()).unwrap();
        assert_eq!(state_of(&found), acknowledged, "{crash:?}");
        found.check().unwrap();
    }
}

/// A mark of the log at `lsn`, right in every byte but for its link: it says that the log was
/// durable up to there.
fn mark_at(lsn: u64, salt: u64) -> [u8; 56] {
    let mut b = [0; 56];
    b[..4].copy_from_slice(b"ALOG");
    b[8..16].copy_from_slice(&lsn.to_le_bytes());
    b[32..40].copy_from_slice(&lsn.to_le_bytes());
    b[40] = 2;
    let seed = crc32c::crc32c(&salt.to_le_bytes());
    let checksum = crc32c::crc32c_append(seed, &b[..48]);
    b[48..52].copy_from_slice(&checksum.to_le_bytes());
    b
}

/// The log has the bytes of values below 32 KiB and the places of longer ones, and what keeps such a place until the next
/// checkpoint goes by that length. No version ever wrote the place of a shorter one, so it is damage.
#[test]
fn the_place_of_a_short_value_in_the_log_is_damage() {
    const DIRECT: u32 = 32 << 10;
    let value: Vec<u8> = (0..DIRECT).map(|n| ((n * n) >> 5) as u8).collect();
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    put(&db, "long", &value);
    let image = disk.image();
    let find = |part: &[u8]| image.windows(part.len()).position(|bytes| bytes == part);
    let run = find(&value).unwrap();
    let reference = [(run / 4096) as u32, DIRECT].map(u32::to_le_bytes).concat();
    let at = find(&reference).unwrap();
    let head = { image[..at].windows(4) }.rposition(|bytes| bytes == b"ALOG");
    let head = head.unwrap();
    let with_length = |length: u32| {
        let mut image = image.clone();
        image[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
        let of_value = crc32c::crc32c(&value[..length as usize]);
        image[at + 8..at + 12].copy_from_slice(&of_value.to_le_bytes());
        let payload = u32::from_le_bytes(image[head + 4..head + 8].try_into().unwrap());
        let record = &mut image[head..head + 56 + payload as usize];
        let seed = crc32c::crc32c(&7_u64.to_le_bytes());
        let checksum = crc32c::crc32c_append(seed, &record[..48]);
        let checksum = crc32c::crc32c_append(checksum, &record[56..]);
        record[48..52].copy_from_slice(&checksum.to_le_bytes());
        open(SimDisk::from_image(image, 1).storage())
    };
    assert_eq!(
        state_of(&with_length(DIRECT).unwrap()),
        model(&[("long", &value)])
    );
    for length in [DIRECT - 1, 20_000, 4096, 0] {
        match with_length(length) {
            Err(Error::Corrupt {
                offset,
                expected,
                found,
                ..
            }) => {
                let place = (run as u64, u64::from(DIRECT), u64::from(length));
                assert_eq!((offset, expected, found), place);
            }
            other => panic!("{length}: {other:?}"),
        }
    }
}

/// A value that holds what a log further on would hold (a copy of this very database, which was
/// used since, holds that) lay where the log gets a larger ring.
#[test]
fn what_lay_in_the_place_of_a_new_ring_is_not_taken_for_the_log() {
    const RING: u64 = 128 << 10;
    // In each page a mark for wherever in the ring the page comes to lie.
    let mut value = vec![0; 3 * RING as usize];
    for (number, page) in value.chunks_exact_mut(4096).enumerate() {
        for shift in 0..RING / 4096 {
            let at = (shift * 64) as usize;
            let in_ring = (number as u64 + shift) * 4096 % RING + at as u64;
            page[at..at + 56].copy_from_slice(&mark_at((RING << 10) + in_ring, 7));
        }
    }
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    put(&db, "the copy", &value);
    put(&db, "behind", &[1; 100_000]);
    db.checkpoint().unwrap();
    db.tree("a").unwrap().delete("the copy").unwrap();
    db.checkpoint().unwrap();
    let places = |disk: &SimDisk| {
        let image = disk.image();
        let marks = image.windows(4).step_by(64).filter(|w| w == b"ALOG");
        marks.count()
    };
    assert!(places(&disk) > 2000, "the value is still where it was");
    for n in 0..60u8 {
        put(&db, &format!("key{n}"), &[n; 8_000]);
        let expected = state_of(&db);
        for crash in [SimCrash::LoseAll, SimCrash::KeepAll] {
            let found = open(disk.crash_image(crash).storage())
                .unwrap_or_else(|error| panic!("{n}, {crash:?}: {error}"));
            assert_eq!(state_of(&found), expected, "{n}, {crash:?}");
        }
    }
    assert_eq!(db.stats().unwrap().log_bytes, RING);
}

/// A commit that only a checkpoint holds; behind it in the log a batch of two that a power cut
/// tore, with the first lost. Then the checkpoint's slot rots: the second record is all that says
/// that there was a newer checkpoint, and it says nothing of a log that was longer.
#[test]
fn a_torn_tail_is_proof_of_the_checkpoint_that_it_was_written_under() {
    let large = |db: &Aurora, n: u8| {
        db.write(|tx| {
            let mut tree = tx.tree("a")?;
            (0..500u32).try_for_each(|key| tree.put(key.to_be_bytes(), [n; 100]).map(drop))
        })
        .unwrap();
    };
    let mut tried = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let db = open(disk.storage()).unwrap();
        put(&db, "one", b"1");
        db.checkpoint().unwrap();
        put(&db, "two", b"2");
        large(&db, 3);
        let checkpointed = state_of(&db);
        put_buffered(&db, "lost", &[4; 1500]);
        put_buffered(&db, "kept", &[5; 200]);
        disk.crash_after(1);
        db.flush().unwrap_err();
        drop(db);
        let whole = disk.crash_image(SimCrash::KeepAll).image();
        let torn = disk.crash_image(SimCrash::Sectors { seed });
        let kept = whole.windows(200).position(|w| w == [5; 200]).unwrap();
        let record = kept - 80..kept + 208;
        if torn.image()[record.clone()] != whole[record] {
            continue;
        }
        let found = open(torn.kill_image().storage()).unwrap();
        if state_of(&found) != checkpointed {
            continue;
        }
        tried += 1;
        let image = torn.image();
        let number = |slot: usize| u64::from_le_bytes(image[slot + 16..][..8].try_into().unwrap());
        let newest = if number(0) > number(4096) { 0 } else { 4096 };
        torn.flip_bit(newest + 100, 0);
        let error = open(torn.storage()).err();
        let error = error.expect("an older state was taken for the newest");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
    assert!(tried > 10, "only {tried} tears were of use");
}

/// The session before closed the file; this one dies when a sync fails, and leaves no record. The
/// length that the sync should have made durable is there until the power goes.
#[test]
fn a_session_that_died_is_not_taken_for_the_one_that_closed_the_file() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    put(&db, "before", b"1");
    db.close().unwrap();
    let db = open(disk.storage()).unwrap();
    disk.fail_once(SimOperation::SyncAll, 1, SimFault::Eio);
    let error = db.tree("a").unwrap().put("long", [1; 400_000]).unwrap_err();
    assert!(error.is_io(), "{error}");
    let killed = disk.kill_image();
    disk.crash_after(0);
    drop(db);
    let db = open(killed.storage()).unwrap();
    put(&db, "run", &[2; 45_000]);
    let expected = state_of(&db);
    let lost = killed.crash_image(SimCrash::LoseAll);
    let found = open(lost.storage()).unwrap();
    assert_eq!(state_of(&found), expected);
    found.check().unwrap();
}

/// The power goes while long values are synced together with the records that name them: what is
/// left is a prefix of the commits, and every value in it is whole. It stays so.
#[test]
fn a_commit_whose_long_values_did_not_reach_the_disk_never_was() {
    let (mut cut, mut whole) = (0, 0);
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let db = open(disk.storage()).unwrap();
        put(&db, "a", b"1");
        let mut states = vec![state_of(&db)];
        for (key, length) in [("b", 40_000), ("c", 10), ("d", 70_000), ("e", 10)] {
            put_buffered(&db, key, &vec![seed as u8 + 1; length]);
            states.push(state_of(&db));
        }
        disk.record_moments();
        db.flush().unwrap();
        let moments = disk.take_moments();
        disk.crash_after(0);
        drop(db);
        for moment in &moments {
            let changes = moment.unsynced_changes();
            let variants = [SimCrash::Random { seed }, SimCrash::Sectors { seed }];
            let ends = (0..=changes).map(|changes| SimCrash::Suffix { changes });
            for variant in variants.into_iter().chain(ends) {
                let image = moment.crash_image(variant);
                let db = open(image.storage()).unwrap();
                let found = state_of(&db);
                let length = states.iter().position(|state| *state == found);
                let length = length.unwrap_or_else(|| panic!("{variant:?} is no prefix"));
                cut += u64::from(length == 0);
                whole += u64::from(length == 4);
                put(&db, "f", b"2");
                let expected = state_of(&db);
                let lost = image.crash_image(SimCrash::LoseAll);
                image.crash_after(0);
                drop(db);
                let db = open(lost.storage()).unwrap();
                assert_eq!(state_of(&db), expected, "{variant:?}");
                db.check().unwrap();
            }
        }
    }
    assert!(cut > 100 && whole > 100, "{cut} cut, {whole} whole");
}

/// A sync fails and takes the bytes of a long value with it: they can be read until the power goes. The
/// next session keeps the commit, so it has to write them again.
#[test]
fn a_long_value_that_a_failed_sync_lost_is_written_again() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    put(&db, "room", &[1; 400_000]);
    db.tree("a").unwrap().delete("room").unwrap();
    db.checkpoint().unwrap();
    put(&db, "before", b"1");
    disk.fail_once(SimOperation::SyncAll, 1, SimFault::Eio);
    let error = db.tree("a").unwrap().put("long", [2; 300_000]).unwrap_err();
    assert!(error.is_io(), "{error}");
    let killed = disk.kill_image();
    disk.crash_after(0);
    drop(db);
    let db = open(killed.storage()).unwrap();
    assert_eq!(
        state_of(&db),
        model(&[("before", b"1"), ("long", &[2; 300_000])])
    );
    let expected = state_of(&db);
    let lost = killed.crash_image(SimCrash::LoseAll);
    killed.crash_after(0);
    drop(db);
    assert_eq!(state_of(&open(lost.storage()).unwrap()), expected);
}

/// Rot in a long value is damage that is told, and no reason to forget an acknowledged commit.
#[test]
fn rot_in_an_acknowledged_long_value_is_not_taken_for_a_torn_commit() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    put(&db, "long", &[7; 50_000]);
    let killed = disk.kill_image();
    disk.crash_after(0);
    drop(db);
    let place = killed.image().windows(500).position(|w| w == [7; 500]);
    assert!(killed.flip_bit(place.unwrap() as u64 + 20_000, 3));
    let db = open(killed.storage()).unwrap();
    let error = db.tree("a").unwrap().get("long").unwrap_err();
    assert!(error.is_corruption(), "{error}");
}

/// Short ones share a sync with their record, what takes long to compare has its own before it.
#[test]
fn long_values_cost_one_sync_and_very_long_ones_two() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    let syncs_of = |key: &str, length: usize| {
        let before = disk.counters();
        put(&db, key, &vec![1; length]);
        let after = disk.counters();
        [SimOperation::SyncAll, SimOperation::WriteSync]
            .map(|kind| after.calls(kind) - before.calls(kind))
    };
    syncs_of("first", 10);
    assert_eq!(syncs_of("short", 1000), [0, 1]);
    assert_eq!(syncs_of("long", 65_536), [1, 0]);
    assert_eq!(syncs_of("longer", 4 << 20), [1, 0]);
    assert_eq!(syncs_of("very long", (4 << 20) + 1), [1, 1]);
    // The one before it does not count for the next batch.
    assert_eq!(syncs_of("long again", 65_536), [1, 0]);
    drop(db);

    // The record is not written before they are synced.
    let disk = SimDisk::new(2);
    let db = open(disk.storage()).unwrap();
    put(&db, "before", b"1");
    disk.record_moments();
    let very_long = vec![3; (4 << 20) + 1];
    put(&db, "very long", &very_long);
    let states = [
        model(&[("before", b"1")]),
        model(&[("before", b"1"), ("very long", &very_long)]),
    ];
    for moment in disk.take_moments() {
        for changes in 0..=moment.unsynced_changes() {
            let image = moment.crash_image(SimCrash::Suffix { changes });
            let found = state_of(&open(image.storage()).unwrap());
            assert!(states.contains(&found), "{changes} changes");
        }
    }
}

/// The mark behind a batch shows that the file system still took writes when the batch was synced
/// (one that shuts down drops what it has not written, and a sync then has nothing to do).
#[test]
fn a_commit_fails_if_the_file_takes_no_write_after_its_sync() {
    for length in [10, 50_000] {
        let disk = SimDisk::new(1);
        let db = open(disk.storage()).unwrap();
        put(&db, "before", b"1");
        // A long value and its record are written before.
        let nth = if length > 32_768 { 3 } else { 1 };
        disk.fail_once(SimOperation::Write, nth, SimFault::Eio);
        let error = db.tree("a").unwrap().put("key", vec![1; length]);
        assert!(error.unwrap_err().is_io(), "{length} bytes");
        let error = db.tree("a").unwrap().put("key", "2").unwrap_err();
        assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    }
}

/// The same for a checkpoint, which also says of commits that they are durable.
#[test]
fn a_checkpoint_fails_if_the_file_takes_no_write_after_its_sync() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    let writes_of_checkpoint = |value: &[u8]| {
        put(&db, "key", value);
        let before = disk.counters().calls(SimOperation::Write);
        let done = db.checkpoint();
        (done, disk.counters().calls(SimOperation::Write) - before)
    };
    writes_of_checkpoint(b"1").0.unwrap();
    let (done, writes) = writes_of_checkpoint(b"2");
    done.unwrap();
    // The last one is the mark in the log, which nobody relies on.
    put(&db, "key", b"3");
    disk.fail_once(SimOperation::Write, writes - 1, SimFault::Eio);
    assert!(db.checkpoint().unwrap_err().is_io());
    let error = db.tree("a").unwrap().put("key", "4").unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    drop(db);
    let found = state_of(&open(disk.storage()).unwrap());
    assert_eq!(found, model(&[("key", b"3")]));
}

/// Numbers of trees are never given anew: those of the newest stay high when the older ones are dropped.
#[test]
fn trees_are_found_again_however_many_older_ones_were_dropped() {
    let name = |n: usize| format!("day {n:04}");
    let disk = SimDisk::new(7);
    let db = open(disk.storage()).unwrap();
    db.write(|tx| (0..3_000).try_for_each(|n| tx.tree(name(n))?.put("key", name(n)).map(|_| ())))
        .unwrap();
    db.write(|tx| (0..2_999).try_for_each(|n| tx.drop_tree(name(n))))
        .unwrap();
    let check = |db: &Aurora| {
        assert_eq!(db.tree_names().unwrap(), [name(2_999)]);
        let value = db.tree(name(2_999)).unwrap().get("key").unwrap();
        assert_eq!(value.as_deref(), Some(name(2_999).as_bytes()));
        db.check().unwrap();
    };
    check(&db);
    // From the log, and then from the catalog.
    let killed = disk.kill_image();
    let after = open(killed.storage()).unwrap();
    check(&after);
    after.close().unwrap();
    let again = open(killed.storage()).unwrap();
    check(&again);
    again.tree("new").unwrap().put("key", "value").unwrap();
    again.check().unwrap();
}

/// The length that a failed sync lost is durable again when the record that needs it is.
#[test]
fn a_long_value_after_a_failed_sync_outlives_a_power_cut_behind_the_next_open() {
    let failures = [
        SimFailedSync::Lost,
        SimFailedSync::Partly,
        SimFailedSync::Kept,
    ];
    let operations = [SimOperation::SyncAll, SimOperation::WriteSync];
    for (failure, operation) in failures.iter().flat_map(|f| operations.map(|o| (*f, o))) {
        for length in [5_000, 20_000, 65_536, 100_000, 300_001] {
            for warm in [0, 30] {
                let what = format!("{operation:?} {failure:?}, {length} bytes, {warm} puts before");
                let disk = SimDisk::new(length as u64);
                disk.set_failed_sync(failure);
                let db = open(disk.storage()).unwrap();
                db.put("acknowledged", "1", None).unwrap();
                for n in 0..warm {
                    db.put(n.to_string(), vec![1; 3000], None).unwrap();
                }
                db.checkpoint().unwrap();
                db.put("later", "2", None).unwrap();
                disk.fail_once(operation, 1, SimFault::Eio);
                let put = db.put("long", vec![7; length], None);
                if put.is_ok() {
                    continue;
                }
                drop(db);
                disk.clear_faults();
                let again = open(disk.reopen().storage()).unwrap();
                let was_there = again.contains("long").unwrap();
                let cut = disk.crash_image(SimCrash::LoseAll);
                let after = open(cut.storage()).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(after.contains("acknowledged").unwrap(), "{what}");
                assert!(after.contains("later").unwrap(), "{what}");
                assert_eq!(after.contains("long").unwrap(), was_there, "{what}");
                after
                    .check()
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
    }
}

/// A checkpoint that failed half way has marked pages as used that are not: `check` took that for damage of the file.
#[test]
fn a_check_behind_a_failed_checkpoint_finds_no_damage() {
    for operation in [SimOperation::SyncAll, SimOperation::WriteSync] {
        for failure in [SimFailedSync::Kept, SimFailedSync::Lost] {
            let disk = SimDisk::new(1);
            disk.set_failed_sync(failure);
            let db = open(disk.storage()).unwrap();
            let put = |n: u32, byte: u8| db.put(n.to_be_bytes(), vec![byte; 300], None).unwrap();
            (0..50).for_each(|n| put(n, 1));
            db.checkpoint().unwrap();
            (0..10).for_each(|n| put(n, 2));
            disk.fail_once(operation, 1, SimFault::Eio);
            db.checkpoint().unwrap_err();
            assert!(db.flush().unwrap_err().is_poisoned());
            assert!(db.check().unwrap_err().is_poisoned());
            assert_eq!(db.get(9u32.to_be_bytes()).unwrap().unwrap()[0], 2);
            drop(db);
            let again = open(disk.reopen().storage()).unwrap();
            again.check().unwrap();
            assert_eq!(again.get(9u32.to_be_bytes()).unwrap().unwrap()[0], 2);
        }
    }
}

/// A file that is refused is left as it is. One whose header spoke of too few pages was cut to them before it was refused.
#[test]
fn a_header_that_speaks_of_too_few_pages_costs_none() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    for n in 0..90_u8 {
        put(&db, &format!("key{n}"), &[n; 1000]);
    }
    db.checkpoint().unwrap();
    put(&db, "later", b"1");
    let (image, expected) = (disk.image(), state_of(&db));
    drop(db);
    let number = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
    let slot = if number(16) > number(4096 + 16) {
        0
    } else {
        4096
    };
    let pages = number(slot + 64) as u32;
    let mut refused = 0;
    for fewer in 1..20 {
        let mut image = image.clone();
        image[slot + 64..slot + 68].copy_from_slice(&(pages - fewer).to_le_bytes());
        let checksum = crc32c::crc32c(&image[slot..slot + 252]);
        image[slot + 252..slot + 256].copy_from_slice(&checksum.to_le_bytes());
        let disk = SimDisk::from_image(image.clone(), 1);
        match open(disk.storage()) {
            // The last pages are free.
            Ok(db) => assert_eq!(state_of(&db), expected, "{fewer} pages fewer"),
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                assert!(disk.image() == image, "{fewer} pages fewer");
                refused += 1;
            }
        }
    }
    assert_ne!(refused, 0);
}

/// The ring that one checkpoint names may be entered while the next one is written. That is the ring of the log then, and
/// not one that waits: the checkpoint after it named it as both, and no open took the file any more.
#[test]
fn a_ring_that_is_entered_during_a_checkpoint_is_not_named_again() {
    let disk = SimDisk::new(1);
    let storage = Hooked::new(disk.storage());
    let db = open(Arc::new(storage.clone())).unwrap();
    let before = db.stats().unwrap();
    let (hooks, other) = (storage.clone(), db.clone());
    let (give, given) = channel();
    // The commit that fills half of the ring makes the checkpoint that names a longer one. Another comes in meanwhile, in the
    // ring before, and makes the next checkpoint as soon as it can; during that, one is the first in the longer ring.
    storage.before_sync(move || {
        let (first, second) = (other.clone(), other.clone());
        let thread = std::thread::spawn(move || put_buffered(&first, "first", b"1"));
        while other.tree("a").unwrap().get("first").unwrap().is_none() {
            std::thread::yield_now();
        }
        let (id, mut second) = (thread.thread().id(), Some(second));
        hooks.before_each_sync(move |_| {
            if std::thread::current().id() == id
                && let Some(db) = second.take()
            {
                put_buffered(&db, "second", b"1");
            }
        });
        give.send(thread).unwrap();
    });
    let first = (0..).find_map(|n| {
        put(&db, &format!("key{n}"), &[1; 900]);
        given.try_recv().ok()
    });
    first.unwrap().join().unwrap();
    let entered = db.stats().unwrap();
    assert_eq!(entered.checkpoints, before.checkpoints + 2);
    assert!(entered.log_bytes > before.log_bytes, "{entered:?}");
    for key in ["third", "fourth"] {
        db.checkpoint().unwrap();
        put(&db, key, b"1");
        for crash in [SimCrash::LoseAll, SimCrash::KeepAll] {
            let found = open(disk.crash_image(crash).storage()).unwrap();
            assert_eq!(state_of(&found), state_of(&db), "{crash:?}, {key}");
            found.check().unwrap();
        }
    }
}

/// A commit by checkpoint that fails has new pages of the catalog given up, and the old ones in use again. Those that the next
/// checkpoint does not change as well would else be free in its space map, and be given away with the next open.
#[test]
fn the_catalog_that_a_failed_commit_gives_up_leaves_the_one_before_in_use() {
    let disk = SimDisk::new(1);
    let db = open(disk.storage()).unwrap();
    // So that the catalog has many leaves: the commits that fail change one, and those after them another.
    let name = |n: u32| format!("{n:0>250}");
    db.write(|tx| {
        let mut names = (0..200).map(name);
        names.try_for_each(|name| tx.tree(name)?.put("key", "1").map(drop))
    })
    .unwrap();
    db.checkpoint().unwrap();
    let mut failed = 0;
    for nth in 1.. {
        disk.fail_once(
            SimOperation::Write,
            nth,
            SimFault::Error(ErrorKind::StorageFull),
        );
        let committed = db.write(|tx| {
            let mut tree = tx.tree(name(0))?;
            (0..40u32).try_for_each(|n| tree.put(n.to_be_bytes(), [nth as u8; 900]).map(drop))
        });
        disk.clear_faults();
        if committed.is_ok() {
            break;
        }
        failed += 1;
        db.tree(name(199)).unwrap().put("key", [nth as u8]).unwrap();
        db.checkpoint().unwrap();
        db.check().unwrap();
        let again = open(disk.kill_image().storage()).unwrap();
        again.check().unwrap();
        // What is free there is filled.
        let trees = 0..200;
        for n in trees.clone() {
            again.tree(name(n)).unwrap().put("more", "2").unwrap();
        }
        again.checkpoint().unwrap();
        again.check().unwrap();
        assert_eq!(again.tree_names().unwrap().len(), trees.len());
    }
    assert!(failed > 6, "{failed} commits failed");
}
