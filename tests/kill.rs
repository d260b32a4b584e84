//! A real process that is killed at random moments, again and again on the same file: every commit
//! that it acknowledged is there, what is there is a prefix of what each thread did, and the file
//! is sound and goes on.
mod common;

use std::io::{BufRead, BufReader};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use aurora::{Aurora, Durability, Error};
use common::acks::{THREADS, commit, compare, complaints, listen, start, told, work};
use common::{Random, budget};

/// What the child runs. Not a test of its own.
#[test]
#[ignore = "this is the process that the other tests kill"]
fn child() {
    let Some((path, round)) = told() else {
        return;
    };
    let builder = Aurora::builder().memory_limit(2 << 20).log_limit(256 << 10);
    let db = builder.background(round % 3 != 2).open(&path).unwrap();
    work(&db, round, |error| panic!("{error}"));
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("killed.db");
    let mut random = Random(0xdead);
    let mut present = vec![0; THREADS as usize];
    let (mut opened, mut replayed) = (0, 0);
    let rounds = budget(200);
    for round in 0..rounds {
        let mut child = start(&path, round);
        let out = child.stdout.take().unwrap();
        let listener = thread::spawn(move || listen(out));
        let patience = match random.below(5) {
            0 => random.below(40), // perhaps while it opens
            _ => 30 + random.below(130),
        };
        // Where a process takes longer to start (wine), more of that goes by before it is at work.
        let patience = if cfg!(windows) {
            8 * patience
        } else {
            patience
        };
        thread::sleep(Duration::from_millis(patience));
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(ended.is_none(), "round {round}: {}", complaints(&mut child));
        let (was_open, acknowledged) = listener.join().unwrap();
        opened += u64::from(was_open);
        if !path.exists() {
            continue; // killed before it got there
        }
        let read_only = Aurora::builder()
            .read_only(round % 3 == 0 && round % 5 != 3)
            .open(&path);
        let db = match read_only {
            // Killed before anything of the file was made.
            Err(Error::NotADatabase { .. }) if !was_open && present == [0; 4] => continue,
            opened => opened.unwrap(),
        };
        replayed += u64::from(db.stats().unwrap().log_used_bytes > 0);
        db.check().unwrap();
        present = compare(&db, &present, &acknowledged, &format!("round {round}"));
        // Now and then the parent does some work itself, and closes in an orderly way.
        if round % 5 == 3 {
            for thread in 0..THREADS {
                present[thread as usize] += 1;
                commit(&db, thread, present[thread as usize], Durability::Full).unwrap();
            }
            db.close().unwrap();
        }
    }
    println!("{rounds} rounds, {opened} opened, {replayed} with a log to replay: {present:?}");
    assert!(
        opened > rounds / 2,
        "only {opened} of {rounds} were killed at work"
    );
    assert!(
        replayed > rounds / 3,
        "only {replayed} of {rounds} had a log to replay"
    );
    assert!(present.iter().all(|count| *count > rounds), "{present:?}");
}

#[test]
fn of_openers_that_race_exactly_one_wins() {
    for round in 0..budget(20) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("race.db");
        if round % 2 == 1 {
            let db = Aurora::open(&path).unwrap();
            db.tree("t").unwrap().put("k", "v").unwrap();
        }
        let (start, end) = (Barrier::new(4), Barrier::new(4));
        let wins: usize = thread::scope(|scope| {
            let racers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let opened = Aurora::open(&path);
                        end.wait(); // nobody closes before all have tried
                        match opened {
                            Ok(db) => {
                                db.tree("t").unwrap().put("winner", "me").unwrap();
                                1
                            }
                            Err(error) => {
                                assert!(error.is_locked(), "{error:?}");
                                0
                            }
                        }
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!(wins, 1);
        let db = Aurora::open(&path).unwrap();
        assert!(db.tree("t").unwrap().contains("winner").unwrap());
        assert_eq!(db.tree("t").unwrap().contains("k").unwrap(), round % 2 == 1);
        db.check().unwrap();
    }
}

#[test]
fn another_process_is_locked_out_until_it_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("held.db");
    drop(Aurora::open(&path).unwrap());
    let mut child = start(&path, 0);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "opened\n" {
        line.clear();
        assert!(
            out.read_line(&mut line).unwrap() > 0,
            "{}",
            complaints(&mut child)
        );
    }
    for read_only in [false, true] {
        let error = Aurora::builder()
            .read_only(read_only)
            .open(&path)
            .unwrap_err();
        assert!(matches!(error, Error::Locked), "{error:?}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let db = Aurora::open(&path).unwrap();
    db.check().unwrap();
}
