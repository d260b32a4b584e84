//! Rot and lies: sectors that turn to zeros or to something else, pages that trade places, old
//! versions of pages that come back, and writes that were acknowledged and never happened, or
//! happened elsewhere. Each is reported, on reading and by the check, or changes nothing that is
//! shown; never a wrong answer, never a panic.
//!
//! What cannot be noticed, by design: a disk that forgets the newest part of the log *and all that
//! was written after it* is as it was before those commits, so an exact prefix of them is
//! accepted where the log itself was rolled back. (`flips.rs` has the single bytes.)

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aurora::storage::{SimDisk, SimFault, SimOperation};
use common::ops::{History, Op, Work};
use common::world::{SetClock, World, observe, open_at, set_now};
use common::{budget, each};

const START_MS: u64 = 1_750_000_000_000;
const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// What the history of a file leaves: its bytes after each operation, and the states.
struct Past {
    images: Vec<Vec<u8>>,
    states: Vec<Arc<World>>,
    now_ms: u64,
}

impl Past {
    fn last(&self) -> &[u8] {
        self.images.last().unwrap()
    }
}

const WORKLOAD: [Op; 14] = [
    Op::Put,
    Op::NewCollection,
    Op::PutBlob,
    Op::Overflow,
    Op::Run,
    Op::Checkpoint,
    Op::PutTtl,
    Op::AppendBlob,
    Op::Large,
    Op::Replace,
    Op::Checkpoint,
    Op::DeleteRange,
    Op::Put,
    Op::CreateTree,
];

fn past(is_closed: bool) -> Past {
    let clock = SetClock::at(START_MS);
    let (image, world) = common::ops::base(true, &clock);
    let disk = SimDisk::from_image(image, 1);
    let mut work = Work::start(disk.clone(), clock.clone(), History::new(world)).unwrap();
    let mut images = vec![disk.image()];
    for (number, op) in WORKLOAD.iter().enumerate() {
        work.step(*op, number as u64).unwrap();
        images.push(disk.image());
    }
    if is_closed {
        work.db.take().unwrap().close().unwrap();
        images.push(disk.image());
    }
    disk.crash_after(0);
    Past {
        images,
        states: work.history.states.clone(),
        now_ms: clock.now(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    NotOpened,
    Reported,
    ByCheckOnly,
    NoEffect,
    /// As it was before the last commits.
    Prefix,
}

/// What a program finds in these bytes.
fn look(bytes: Vec<u8>, past: &Past, what: &dyn Fn() -> String) -> Outcome {
    look_on(&SimDisk::from_image(bytes, 1), past, what)
}

fn look_on(disk: &SimDisk, past: &Past, what: &dyn Fn() -> String) -> Outcome {
    set_now(past.now_ms);
    let expect_structured = |error: &aurora::Error| {
        let fine = error.is_corruption() || matches!(error, aurora::Error::NotADatabase { .. });
        assert!(fine, "{}: {error:?}", what());
    };
    let db = match open_at(disk.reopen().storage(), &SetClock::at(past.now_ms)) {
        Ok(db) => db,
        Err(error) => {
            expect_structured(&error);
            return Outcome::NotOpened;
        }
    };
    let found = observe(&db);
    let checked = db.check();
    disk.crash_after(0);
    drop(db);
    match (found, checked) {
        (Err(error), Ok(_)) => panic!("{}: read: {error}, and the check is content", what()),
        (Err(error), Err(also)) => {
            expect_structured(&error);
            expect_structured(&also);
            Outcome::Reported
        }
        (Ok(found), checked) => {
            let at = |state: &Arc<World>| state.at(past.now_ms);
            if let Err(error) = &checked {
                expect_structured(error);
            }
            if found == at(past.states.last().unwrap()) {
                match checked {
                    Ok(_) => Outcome::NoEffect,
                    Err(_) => Outcome::ByCheckOnly,
                }
            } else if past.states.iter().any(|state| found == at(state)) {
                Outcome::Prefix
            } else {
                panic!("{}: a wrong answer", what());
            }
        }
    }
}

/// Tries all cases on all cores and counts the outcomes.
fn try_all<T: Sync>(
    title: &str,
    cases: &[T],
    outcome: impl Fn(&T) -> Outcome + Sync,
) -> BTreeMap<Outcome, u64> {
    let counts = Mutex::new(BTreeMap::new());
    each(cases, |case| {
        let outcome = outcome(case);
        *counts.lock().unwrap().entry(outcome).or_default() += 1;
    });
    let counts = counts.into_inner().unwrap();
    println!("{title}: {} cases, {counts:?}", cases.len());
    counts
}

/// Where the newest mark of the log is: the proof of all records before it (section 12 of
/// `format-spec.md`). Found by its magic and its kind, from the bytes alone.
fn newest_mark(bytes: &[u8]) -> std::ops::Range<usize> {
    let lsn = |at: usize| u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap());
    let is_mark = |at: &usize| bytes[*at..].starts_with(b"ALOG") && bytes[at + 40] == 2;
    let marks = (2 * PAGE..bytes.len() - 56).step_by(8).filter(is_mark);
    let newest = marks.max_by_key(|at| lsn(*at)).unwrap();
    newest..newest + 56
}

/// An exact prefix is accepted where the end of the log went with its proof, and nowhere else.
fn assert_no_prefix(outcome: Outcome, with_proof: bool, what: &dyn Fn() -> String) -> Outcome {
    assert!(
        outcome != Outcome::Prefix || with_proof,
        "{}: acknowledged commits are gone",
        what()
    );
    outcome
}

fn overlap(a: &std::ops::Range<usize>, b: &std::ops::Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

#[test]
fn zeroed_and_overwritten_sectors_are_reported_or_have_no_effect() {
    for is_closed in [true, false] {
        let past = past(is_closed);
        let mark = newest_mark(past.last());
        let cases: Vec<(usize, u8)> = (0..past.last().len() / SECTOR)
            .flat_map(|sector| [(sector, 0u8), (sector, 0xff), (sector, 1)])
            .collect();
        let counts = try_all("sectors", &cases, |&(sector, fill)| {
            let mut bytes = past.last().to_vec();
            let at = sector * SECTOR;
            if fill == 1 {
                // The bytes of another sector.
                let from = (at + 3 * PAGE) % (bytes.len() - SECTOR) / SECTOR * SECTOR;
                bytes.copy_within(from..from + SECTOR, at);
            } else {
                bytes[at..at + SECTOR].fill(fill);
            }
            let what = || format!("closed: {is_closed}, sector {sector} filled with {fill}");
            let with_proof = overlap(&mark, &(at..at + SECTOR));
            assert_no_prefix(look(bytes, &past, &what), with_proof, &what)
        });
        assert!(counts[&Outcome::Reported] > 50 && counts[&Outcome::NotOpened] > 3);
    }
}

#[test]
fn swapped_and_misplaced_pages_are_reported_or_have_no_effect() {
    for is_closed in [true, false] {
        let past = past(is_closed);
        let mark = newest_mark(past.last());
        let pages = past.last().len() / PAGE;
        let stride = (8 / budget(1)).max(1) as usize;
        let cases: Vec<(usize, usize)> = (0..pages)
            .flat_map(|a| (0..pages).map(move |b| (a, b)))
            .filter(|(a, b)| a != b && (a * 7 + b) % stride == 0)
            .collect();
        // Swapped if the first is the lower one, else copied over the second.
        let counts = try_all("pages", &cases, |&(a, b)| {
            let mut bytes = past.last().to_vec();
            let second = bytes[b * PAGE..(b + 1) * PAGE].to_vec();
            bytes.copy_within(a * PAGE..(a + 1) * PAGE, b * PAGE);
            if a < b {
                bytes[a * PAGE..(a + 1) * PAGE].copy_from_slice(&second);
            }
            let what = || format!("closed: {is_closed}, pages {a} and {b}");
            let hit = [Some(b), (a < b).then_some(a)].into_iter().flatten();
            let with_proof = hit
                .map(|page| page * PAGE..(page + 1) * PAGE)
                .any(|page| overlap(&mark, &page));
            assert_no_prefix(look(bytes, &past, &what), with_proof, &what)
        });
        assert!(counts[&Outcome::Reported] > 50);
    }
}

#[test]
fn old_versions_of_pages_are_reported_or_have_no_effect() {
    for is_closed in [true, false] {
        let past = past(is_closed);
        let mark = newest_mark(past.last());
        let last = past.last();
        let mut cases = Vec::new();
        for (version, image) in past.images.iter().enumerate() {
            for page in 0..last.len().min(image.len()) / PAGE {
                let bytes = page * PAGE..(page + 1) * PAGE;
                if image[bytes.clone()] != last[bytes] {
                    cases.push((version, page));
                }
            }
        }
        let counts = try_all("old versions", &cases, |&(version, page)| {
            let mut bytes = last.to_vec();
            let old = page * PAGE..(page + 1) * PAGE;
            bytes[old.clone()].copy_from_slice(&past.images[version][old]);
            let what = || format!("closed: {is_closed}, page {page} of {version}");
            let with_proof = overlap(&mark, &(page * PAGE..(page + 1) * PAGE));
            assert_no_prefix(look(bytes, &past, &what), with_proof, &what)
        });
        assert!(counts[&Outcome::Reported] > 20);
    }
}

#[test]
fn writes_that_vanished_or_went_elsewhere_are_reported_or_have_no_effect() {
    let clock = SetClock::at(START_MS);
    let (image, world) = common::ops::base(true, &clock);
    let run = |fault: Option<(SimOperation, u64, SimFault)>| {
        let clock = SetClock::at(START_MS);
        let disk = SimDisk::from_image(image.clone(), 1);
        if let Some((operation, nth, fault)) = fault {
            disk.fail_once(operation, nth, fault);
        }
        let history = History::new(world.clone());
        let mut work = Work::start(disk.clone(), clock.clone(), history)?;
        for (number, op) in WORKLOAD.iter().enumerate() {
            work.step(*op, number as u64)?;
        }
        Ok::<_, aurora::Error>((disk, work, clock.now()))
    };
    let (disk, work, _) = run(None).unwrap();
    let counters = disk.counters();
    disk.crash_after(0);
    drop(work);
    let mut cases = Vec::new();
    for operation in [
        SimOperation::Write,
        SimOperation::WriteSync,
        SimOperation::SyncAll,
        SimOperation::SetLength,
    ] {
        for nth in 1..=counters.calls(operation) {
            cases.push((operation, nth, SimFault::Lost));
            if operation.is_write() {
                for page in [0u64, 1, 2, 12, 30, 40] {
                    let offset = page * PAGE as u64 + 16 * (nth % 2);
                    cases.push((operation, nth, SimFault::Misdirected { offset }));
                    cases.push((operation, nth, SimFault::Duplicated { offset }));
                }
            }
        }
    }
    let counts = try_all("lies", &cases, |&(operation, nth, fault)| {
        let what = || format!("{operation:?} {nth} {fault:?}");
        // A lie may be noticed while the database is still open.
        let (disk, work, now_ms) = match run(Some((operation, nth, fault))) {
            Ok(done) => done,
            Err(error) => {
                let fine = error.is_corruption() || error.is_poisoned() || error.is_io();
                assert!(fine, "{}: {error}", what());
                return Outcome::Reported;
            }
        };
        let past = Past {
            images: Vec::new(),
            states: work.history.states.clone(),
            now_ms,
        };
        let killed = disk.kill_image();
        let closed = work.db.unwrap().close();
        let outcome = look_on(&killed, &past, &|| format!("{}, killed", what()));
        // One write is lost, and not what follows it: the mark behind a record gives it away.
        assert_no_prefix(outcome, false, &what);
        if closed.is_ok() {
            let outcome = look_on(&disk, &past, &|| format!("{}, closed", what()));
            assert_no_prefix(outcome, false, &what);
        }
        outcome
    });
    assert!(counts[&Outcome::Reported] + counts[&Outcome::NotOpened] > 50);
}

/// A clean close says that nothing is behind it. If that mark comes back, what a later session committed is still told of
/// by what that session wrote behind it.
#[test]
fn the_mark_of_an_earlier_close_that_comes_back_hides_no_commits() {
    let clock = SetClock::at(START_MS);
    let (image, world) = common::ops::base(true, &clock);
    let disk = SimDisk::from_image(image, 1);
    let mut work = Work::start(disk.clone(), clock.clone(), History::new(world)).unwrap();
    work.db.take().unwrap().close().unwrap();
    let closed = disk.image();
    let history = work.history.clone();
    let mut work = Work::start(disk.clone(), clock.clone(), history).unwrap();
    for number in 0..30 {
        work.step(Op::Put, number).unwrap();
    }
    let past = Past {
        images: vec![closed, disk.image()],
        states: work.history.states.clone(),
        now_ms: clock.now(),
    };
    disk.crash_after(0);
    let mark = newest_mark(past.last());
    for unit in [SECTOR, PAGE] {
        for at in (0..past.last().len() - unit).step_by(unit) {
            let mut bytes = past.last().to_vec();
            let old = past.images[0].get(at..at + unit);
            let Some(old) = old.filter(|old| **old != bytes[at..at + unit]) else {
                continue;
            };
            bytes[at..at + unit].copy_from_slice(old);
            let what = || format!("{unit} bytes at {at}");
            let with_proof = overlap(&mark, &(at..at + unit));
            assert_no_prefix(look(bytes, &past, &what), with_proof, &what);
        }
    }
}
