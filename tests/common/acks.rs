//! Writers in a process of their own, which say through a pipe what was acknowledged to them, and
//! the look at what they left.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use aurora::{Aurora, Durability, Error};

use super::Random;

pub const FILE: &str = "AURORA_KILL_FILE";
pub const ROUND: &str = "AURORA_KILL_ROUND";
pub const THREADS: u64 = 4;

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

pub fn commit(db: &Aurora, thread: u64, number: u64, durability: Durability) -> aurora::Result<()> {
    let mut tx = db.begin_write()?;
    tx.set_durability(durability);
    let mut tree = tx.tree(tree_of(thread))?;
    tree.put(number.to_be_bytes(), value_of(thread, number))?;
    tree.put("count", number.to_be_bytes())?;
    if let Some(old) = number.checked_sub(KEPT) {
        tree.delete(old.to_be_bytes())?;
    }
    // A batch of small things that is whole or not there.
    let mut batch = tx.tree(format!("batch {thread}"))?;
    for i in 0..number % 7 {
        batch.put(i.to_be_bytes(), number.to_be_bytes())?;
    }
    batch.delete_range((number % 7).to_be_bytes()..)?;
    tx.commit()
}

/// How many commits of a thread are there, after a look at all of them.
pub fn verify(db: &Aurora, thread: u64) -> aurora::Result<u64> {
    let snapshot = db.begin_read()?;
    let tree = match snapshot.tree(tree_of(thread)) {
        Ok(tree) => tree,
        Err(Error::TreeNotFound { .. }) => return Ok(0),
        Err(error) => return Err(error),
    };
    let count = tree.get("count")?.unwrap();
    let count = u64::from_be_bytes((*count).try_into().unwrap());
    let first = count.saturating_sub(KEPT) + 1;
    assert_eq!(
        tree.len(),
        count.min(KEPT) + 1,
        "thread {thread} at {count}"
    );
    for number in first..=count {
        let found = tree.get(number.to_be_bytes())?;
        let found = found.unwrap_or_else(|| panic!("thread {thread}: {number} of {count} is gone"));
        assert!(
            *found == *value_of(thread, number),
            "thread {thread}: the value of {number}"
        );
    }
    let batch = snapshot.tree(format!("batch {thread}"))?;
    assert_eq!(batch.len(), count % 7, "thread {thread} at {count}");
    for entry in batch.iter() {
        assert_eq!(entry?.1, count.to_be_bytes(), "a batch came apart");
    }
    Ok(count)
}

/// Where the process that is to be started finds the file, and which round it is.
pub fn told() -> Option<(String, u64)> {
    let path = std::env::var(FILE).ok()?;
    Some((path, std::env::var(ROUND).unwrap().parse().unwrap()))
}

/// Commits without end, and says what was acknowledged. `failed` is told of errors, and does not
/// come back.
pub fn work(db: &Aurora, round: u64, failed: fn(Error) -> !) {
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).unwrap();
        out.flush().unwrap();
    };
    fn ok<T>(done: aurora::Result<T>, failed: fn(Error) -> !) -> T {
        done.unwrap_or_else(|error| failed(error))
    }
    let must = |done| ok(done, failed);
    say("\nopened\n".to_string());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (say, must) = (&say, &must);
            scope.spawn(move || {
                let mut number = ok(verify(db, thread), failed);
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
                        must(commit(db, thread, number, durability));
                    }
                    if buffered {
                        must(db.flush());
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
                    0 => must(db.checkpoint()),
                    1 => must(db.compact().map(drop)),
                    _ => must(db.begin_read().map(drop)),
                }
            }
        });
    });
}

/// Starts the test `child` of this program as a process of its own.
pub fn start(path: &Path, round: u64) -> Child {
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
pub fn listen(out: ChildStdout) -> (bool, Vec<u64>) {
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

pub fn complaints(child: &mut Child) -> String {
    let mut text = String::new();
    let mut from = child.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut from, &mut text).unwrap();
    text
}

/// Holds what is there against what was there before and what was said to be there. Returns it.
pub fn compare(db: &Aurora, before: &[u64], said: &[u64], what: &str) -> Vec<u64> {
    (0..THREADS)
        .map(|thread| {
            let count = verify(db, thread).unwrap();
            let (before, said) = (before[thread as usize], said[thread as usize]);
            assert!(
                count >= said && count >= before,
                "{what}, thread {thread}: {count}, said {said}, had {before}"
            );
            // One commit may have been on its way; of the buffered ones, up to six.
            let most = said.max(before) + if thread == THREADS - 1 { 6 } else { 1 };
            assert!(
                count <= most,
                "{what}, thread {thread}: {count}, said {said}"
            );
            count
        })
        .collect()
}
