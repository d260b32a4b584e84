//! A real process that is killed at random moments, again and again on the same file: every commit
//! that it acknowledged is there, what is there is a prefix of what each thread did, and the file
//! is sound and goes on.
mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use aurora::{Aurora, Durability, Error};
use common::{Random, budget};

const FILE: &str = "AURORA_KILL_FILE";
const ROUND: &str = "AURORA_KILL_ROUND";
const THREADS: u64 = 4;

/// Each thread has a tree in which the keys are the numbers of its commits, and the entry `count`
/// how many there are. All of a commit is written at once, so the two always agree.
fn tree_of(thread: u64) -> String {
    format!("thread {thread}")
}

/// The value of a commit follows from its number.
fn value_of(thread: u64, number: u64) -> Vec<u8> {
    let mut random = Random(thread << 32 | number);
    let length = match random.below(40) {
        0 => 100_000 + random.below(300_000),
        1..=3 => 5000 + random.below(40_000),
        4..=10 => 1000 + random.below(2000),
        _ => random.below(200),
    };
    let mut value = vec![random.next() as u8; length as usize];
    value
        .iter_mut()
        .step_by(61)
        .for_each(|byte| *byte = random.next() as u8);
    value
}

/// Long values would fill the disk in long runs: only the newest so many commits are kept.
const KEPT: u64 = 150;

fn commit(db: &Aurora, thread: u64, number: u64, durability: Durability) -> aurora::Result<()> {
    let mut tx = db.begin_write()?;
    tx.set_durability(durability);
    let mut tree = tx.tree(&tree_of(thread))?;
    tree.put(number.to_be_bytes(), value_of(thread, number))?;
    tree.put("count", number.to_be_bytes())?;
    if let Some(old) = number.checked_sub(KEPT) {
        tree.delete(old.to_be_bytes())?;
    }
    // A batch of small things that is whole or not there.
    let mut batch = tx.tree(&format!("batch {thread}"))?;
    for i in 0..number % 7 {
        batch.put(i.to_be_bytes(), number.to_be_bytes())?;
    }
    batch.delete_range((number % 7).to_be_bytes()..)?;
    tx.commit()
}

/// How many commits of a thread are there, after a look at all of them.
fn verify(db: &Aurora, thread: u64) -> u64 {
    let snapshot = db.begin_read().unwrap();
    let Ok(tree) = snapshot.tree(&tree_of(thread)) else {
        return 0;
    };
    let count = tree.get("count").unwrap().unwrap();
    let count = u64::from_be_bytes((*count).try_into().unwrap());
    let first = count.saturating_sub(KEPT) + 1;
    assert_eq!(
        tree.len(),
        count.min(KEPT) + 1,
        "thread {thread} at {count}"
    );
    for number in first..=count {
        let found = tree.get(number.to_be_bytes()).unwrap();
        let found = found.unwrap_or_else(|| panic!("thread {thread}: {number} of {count} is gone"));
        assert!(
            *found == *value_of(thread, number),
            "thread {thread}: the value of {number}"
        );
    }
    let batch = snapshot.tree(&format!("batch {thread}")).unwrap();
    assert_eq!(batch.len(), count % 7, "thread {thread} at {count}");
    for entry in batch.iter() {
        assert_eq!(entry.unwrap().1, count.to_be_bytes(), "a batch came apart");
    }
    count
}

/// What the child runs. Not a test of its own.
#[test]
#[ignore = "this is the process that the other tests kill"]
fn child() {
    let Ok(path) = std::env::var(FILE) else {
        return;
    };
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let builder = Aurora::builder().memory_limit(2 << 20).log_limit(256 << 10);
    let db = builder.background(round % 3 != 2).open(&path).unwrap();
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).unwrap();
        out.flush().unwrap();
    };
    say("\nopened\n".to_string());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (db, say) = (&db, &say);
            scope.spawn(move || {
                let mut number = verify(db, thread);
                let mut random = Random(round << 8 | thread);
                loop {
                    // The last thread commits buffered and acknowledges what it flushed.
                    let buffered = thread == THREADS - 1;
                    let commits = if buffered { 1 + random.below(6) } else { 1 };
                    let durability = match buffered {
                        true => Durability::Buffered,
                        false => Durability::Full,
                    };
                    for _ in 0..commits {
                        number += 1;
                        commit(db, thread, number, durability).unwrap();
                    }
                    if buffered {
                        db.flush().unwrap();
                    }
                    say(format!("{thread} {number}\n"));
                }
            });
        }
        scope.spawn(|| {
            let mut random = Random(round);
            loop {
                thread::sleep(Duration::from_millis(5 + random.below(40)));
                match random.below(3) {
                    0 => db.checkpoint().unwrap(),
                    1 => drop(db.compact().unwrap()),
                    _ => drop(db.begin_read().unwrap()),
                }
            }
        });
    });
}

fn start(path: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(FILE, path)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Everything that the child said before it died: whether it got the file open, and per thread
/// the last commit that it acknowledged. A last line without its end was not said.
fn listen(out: ChildStdout) -> (bool, Vec<u64>) {
    let mut out = BufReader::new(out);
    let mut last = vec![0; THREADS as usize];
    let mut opened = false;
    let mut line = String::new();
    while out.read_line(&mut line).unwrap() > 0 {
        opened |= line == "opened\n";
        if let Some(line) = line.strip_suffix('\n')
            && let Some((thread, number)) = line.split_once(' ')
            && let (Ok(thread), Ok(number)) = (thread.parse::<usize>(), number.parse())
            && thread < last.len()
        {
            last[thread] = number;
        }
        line.clear();
    }
    (opened, last)
}

fn complaints(child: &mut Child) -> String {
    let mut text = String::new();
    let mut from = child.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut from, &mut text).unwrap();
    text
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("killed.db");
    let mut random = Random(0xdead);
    let mut present = vec![0; THREADS as usize];
    let (mut opened, mut replayed) = (0, 0);
    let rounds = budget(30);
    for round in 0..rounds {
        let mut child = start(&path, round);
        let out = child.stdout.take().unwrap();
        let listener = thread::spawn(move || listen(out));
        let patience = match random.below(5) {
            0 => random.below(60), // perhaps while it opens
            _ => 100 + random.below(600),
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
        for thread in 0..THREADS {
            let count = verify(&db, thread);
            let (before, said) = (present[thread as usize], acknowledged[thread as usize]);
            assert!(
                count >= said,
                "round {round}, thread {thread}: {count}, said {said}"
            );
            assert!(
                count >= before,
                "round {round}, thread {thread}: {count}, had {before}"
            );
            // One commit may have been on its way; of the buffered ones, up to six.
            let most = said.max(before) + if thread == THREADS - 1 { 6 } else { 1 };
            assert!(
                count <= most,
                "round {round}, thread {thread}: {count}, said {said}"
            );
            present[thread as usize] = count;
        }
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
