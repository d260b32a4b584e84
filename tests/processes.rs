//! Other processes at the same file: one that is stopped and still holds the lock, several that
//! open at once, and one that copies the file while it is in use. (`kill.rs` has those that die.)
#![cfg(unix)]
#![allow(unsafe_code)] // signals

mod common;

use std::fs::File;
use std::future::Future;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aurora::{Aurora, Error};
use common::acks::{THREADS, compare, complaints, listen, start, told, verify, work};
use common::budget;

/// What the child runs. Not a test of its own.
#[test]
#[ignore = "this is the other process"]
fn child() {
    let Some((path, round)) = told() else {
        return;
    };
    let builder = Aurora::builder().memory_limit(2 << 20).log_limit(256 << 10);
    match builder.open(&path) {
        Ok(db) => work(&db, round, |error| panic!("{error}")),
        Err(Error::Locked) => std::process::exit(5),
        Err(error) => panic!("{error}"),
    }
}

fn signal(child: &Child, signal: i32) {
    let done = unsafe { libc::kill(child.id() as i32, signal) };
    assert_eq!(done, 0);
}

/// Waits until it says that it has opened the file, and has acknowledged something.
fn wait_for_work(child: &mut Child) -> BufReader<ChildStdout> {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let mut opened = false;
    while !opened || !line.contains(' ') {
        opened |= line == "opened\n";
        line.clear();
        let length = out.read_line(&mut line).unwrap();
        assert!(length > 0, "{}", complaints(child));
    }
    out
}

fn open(path: &Path) -> aurora::Result<Aurora> {
    Aurora::builder().background(false).open(path)
}

#[test]
fn a_stopped_process_still_holds_the_lock_and_goes_on_when_it_is_continued() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stopped.db");
    let mut child = start(&path, 0);
    let mut out = wait_for_work(&mut child);
    for _ in 0..5 {
        signal(&child, libc::SIGSTOP);
        let asked = Instant::now();
        for read_only in [false, true] {
            let error = Aurora::builder().read_only(read_only).open(&path);
            assert!(matches!(error, Err(Error::Locked)), "{error:?}");
        }
        // At once, and not when the other wakes up.
        assert!(asked.elapsed() < Duration::from_secs(2));
        thread::sleep(Duration::from_millis(20));
        signal(&child, libc::SIGCONT);
        for _ in 0..20 {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "it did not go on");
        }
    }
    // Killed while it is stopped, it gives the lock back.
    signal(&child, libc::SIGSTOP);
    child.kill().unwrap();
    child.wait().unwrap();
    let db = open(&path).unwrap();
    db.check().unwrap();
    (0..THREADS).for_each(|thread| assert!(verify(&db, thread).unwrap() > 0));
}

#[test]
fn of_processes_that_open_at_once_exactly_one_gets_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("race.db");
    let mut present = vec![0; THREADS as usize];
    for round in 0..budget(10) {
        let mut children: Vec<Child> = (0..4).map(|_| start(&path, round)).collect();
        let listeners: Vec<_> = children
            .iter_mut()
            .map(|child| child.stdout.take().unwrap())
            .map(|out| thread::spawn(move || listen(out)))
            .collect();
        let until = Instant::now() + Duration::from_secs(20);
        let mut lost = 0;
        while lost < 3 && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
            let ended = |child: &mut Child| child.try_wait().unwrap().is_some();
            lost = children
                .iter_mut()
                .filter_map(|child| ended(child).then_some(()))
                .count();
        }
        thread::sleep(Duration::from_millis(40));
        let mut winners = 0;
        for child in &mut children {
            match child.try_wait().unwrap() {
                None => winners += 1,
                Some(status) => assert_eq!(status.code(), Some(5), "{}", complaints(child)),
            }
            let _ = child.kill();
            child.wait().unwrap();
        }
        assert_eq!(winners, 1, "round {round}");
        let mut said = vec![0; THREADS as usize];
        for listener in listeners {
            let (_, one) = listener.join().unwrap();
            said.iter_mut()
                .zip(one)
                .for_each(|(said, one)| *said = one.max(*said));
        }
        let db = open(&path).unwrap();
        db.check().unwrap();
        present = compare(&db, &present, &said, &format!("round {round}"));
    }
}

/// Who was refused at once had to ask again and again.
#[test]
fn an_open_waits_for_the_lock_as_long_as_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("waited.db");
    let mut child = start(&path, 0);
    let _out = wait_for_work(&mut child);
    let patient = |limit| Aurora::builder().background(false).wait_for_lock(limit);
    let short = Duration::from_millis(300);
    for read_only in [false, true] {
        let asked = Instant::now();
        let refused = patient(short).read_only(read_only).open(&path);
        assert!(matches!(refused, Err(Error::Locked)), "{refused:?}");
        let took = asked.elapsed();
        assert!(took >= short && took < short * 20, "{took:?}");
    }
    // Who awaits it does not wait in a poll.
    let mut opening = patient(Duration::from_secs(60)).open_async(&path);
    let asked = Instant::now();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let polled = std::pin::Pin::new(&mut opening).poll(&mut context);
    assert!(polled.is_pending() && asked.elapsed() < Duration::from_secs(20));
    let waiting = thread::spawn(move || opening.wait());
    thread::sleep(Duration::from_millis(100));
    assert!(!waiting.is_finished());
    child.kill().unwrap();
    child.wait().unwrap();
    let db = waiting.join().unwrap().unwrap();
    db.check().unwrap();
    // Who is not there any more takes it from nobody.
    let mut opening = patient(Duration::MAX).open_async(&path);
    let polled = std::pin::Pin::new(&mut opening).poll(&mut context);
    assert!(polled.is_pending());
    drop(opening);
    #[cfg(target_os = "linux")]
    {
        let is_waiting = || {
            let threads = std::fs::read_dir("/proc/self/task").unwrap();
            let names = threads.map(|thread| thread.unwrap().path().join("comm"));
            let names: Vec<_> = names
                .filter_map(|name| std::fs::read_to_string(name).ok())
                .collect();
            names.iter().any(|name| name.trim() == "aurora-work")
        };
        let until = Instant::now() + Duration::from_secs(20);
        while is_waiting() {
            assert!(Instant::now() < until, "it waits for the lock still");
            thread::sleep(Duration::from_millis(10));
        }
    }
    // Within the process, and without an end.
    let closing = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        db.close().unwrap();
    });
    patient(Duration::MAX).open(&path).unwrap().close().unwrap();
    closing.join().unwrap();
    let disk = aurora::storage::SimDisk::new(1);
    let first = patient(short).open_storage(disk.storage()).unwrap();
    let second = patient(short).open_storage(disk.storage());
    assert!(matches!(second, Err(Error::Locked)), "{second:?}");
    let closing = thread::spawn(move || drop(first));
    patient(Duration::from_secs(60))
        .open_storage(disk.storage())
        .unwrap();
    closing.join().unwrap();
}

/// Who waited for a database that was just being made was told that the empty file was none. And while somebody looked at it, it
/// was in use for the one who came to make it.
#[test]
fn who_waits_for_a_database_that_is_being_made_opens_it() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..40 {
        let path = directory.path().join(format!("{round}.db"));
        // As it is found between its making and its lock.
        if round % 2 == 0 {
            File::create(&path).unwrap();
        }
        let open_and_read = |builder: aurora::Builder| {
            let path = path.clone();
            let builder = builder
                .background(false)
                .wait_for_lock(Duration::from_secs(60));
            thread::spawn(move || {
                loop {
                    match builder.clone().open(&path) {
                        Err(Error::NotFound { .. }) => thread::yield_now(),
                        opened => return opened?.get("k"),
                    }
                }
            })
        };
        let waiting = [
            open_and_read(Aurora::builder().read_only(true)),
            open_and_read(Aurora::builder().create(false)),
        ];
        thread::sleep(Duration::from_millis(round % 7));
        let made = Aurora::builder().background(false).open(&path);
        let made = made.unwrap_or_else(|error| panic!("round {round}: {error}"));
        made.put("k", "v", None).unwrap();
        made.close().unwrap();
        for waiting in waiting {
            let found = waiting.join().unwrap();
            let found = found.unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert_eq!(found.as_deref(), Some(&b"v"[..]), "round {round}");
        }
    }
    // Who looks has the lock of the file for a moment.
    let path = directory.path().join("looked at.db");
    File::create(&path).unwrap();
    let looks = File::open(&path).unwrap();
    looks.lock_shared().unwrap();
    let looking = thread::spawn(move || {
        thread::sleep(Duration::from_millis(5));
        looks.unlock().unwrap(); // a child of another test may have a copy
    });
    Aurora::open(&path).unwrap().close().unwrap();
    looking.join().unwrap();
    // As long as it was told to, and with the reason.
    let path = directory.path().join("empty.db");
    File::create(&path).unwrap();
    let asked = Instant::now();
    let limit = Duration::from_millis(200);
    let builder = Aurora::builder().read_only(true).wait_for_lock(limit);
    let refused = builder.open(&path).unwrap_err();
    assert!(matches!(refused, Error::NotADatabase { .. }), "{refused}");
    assert!(asked.elapsed() >= limit);
}

/// As a program does that puts a backup in its place.
#[test]
fn who_waits_for_a_file_opens_the_one_that_is_there_then() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.db");
    let old = open(&path).unwrap();
    let builder = Aurora::builder().wait_for_lock(Duration::from_secs(60));
    let waiting = {
        let path = path.clone();
        thread::spawn(move || builder.background(false).open(path))
    };
    thread::sleep(Duration::from_millis(100));
    let other = directory.path().join("other.db");
    let new = open(&other).unwrap();
    new.put("is", "new", None).unwrap();
    new.close().unwrap();
    std::fs::rename(&other, &path).unwrap();
    let opened = waiting.join().unwrap().unwrap();
    assert!(opened.contains("is").unwrap());
    drop(old);
}

/// Another file takes the place of the database again and again, by who has it locked; those that open it meanwhile find
/// one, and can lock it when it is gone from the path.
#[test]
fn nothing_is_committed_to_a_file_that_is_at_no_path_any_more() {
    use std::os::unix::fs::MetadataExt;

    let directory = tempfile::tempdir().unwrap();
    let [path, copy] = ["file.db", "copy.db"].map(|name| directory.path().join(name));
    open(&path).unwrap().close().unwrap();
    let is_over = AtomicBool::new(false);
    let replace = || {
        let file = File::open(&path).unwrap();
        let number = |about: std::fs::Metadata| (about.dev(), about.ino());
        let is_there = || number(file.metadata().unwrap()) == number(path.metadata().unwrap());
        if file.try_lock().is_ok() && is_there() {
            std::fs::copy(&path, &copy).unwrap();
            std::fs::rename(&copy, &path).unwrap();
        }
    };
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let acknowledged = thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                replace();
                thread::sleep(Duration::from_micros(50));
            }
        });
        let start = Instant::now();
        let mut acknowledged = 0;
        while start.elapsed() < Duration::from_secs(4) {
            let builder = Aurora::builder().wait_for_lock(Duration::from_secs(60));
            let db = builder.background(false).open(&path).unwrap();
            assert_eq!(db.increment("n", 1).unwrap(), acknowledged + 1);
            acknowledged += 1;
        }
        acknowledged
    });
    assert!(acknowledged > 20, "{acknowledged}");
    assert_eq!(
        open(&path).unwrap().increment("n", 0).unwrap(),
        acknowledged
    );
}

/// Runs in a child that `fork` makes of this process, and says whether all was as it should be.
fn in_a_fork(run: impl FnOnce() -> bool) -> bool {
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        unsafe { libc::alarm(20) }; // one that hangs is ended
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        unsafe { libc::_exit(i32::from(!outcome.unwrap_or(false))) }
    }
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    status == 0
}

/// The child shares the file and its lock, and has a copy of what the engine knew of them.
#[test]
fn a_child_of_a_fork_leaves_the_file_to_its_parent() {
    let is_forked = |outcome: aurora::Result<()>| matches!(outcome, Err(Error::Forked { .. }));
    for background in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("forked.db");
        let builder = Aurora::builder().background(background);
        let db = builder.open(&path).unwrap();
        let put = |n: u32| db.put(format!("{n}"), [7; 500], None).map(drop);
        (0..50).for_each(|n| put(n).unwrap());
        let mut begun = db.begin_write().unwrap();
        begun.put("never", "x", None).unwrap();
        // What it holds of the database it lets go: handles, and a transaction that was under way.
        let (handle, other) = (db.clone(), db.clone());
        assert!(in_a_fork(move || {
            is_forked(begun.commit())
                && is_forked(put(1))
                && is_forked(handle.begin_write().map(drop))
                && is_forked(handle.get("1").map(drop))
                && is_forked(handle.checkpoint())
                && is_forked(handle.flush())
                && is_forked(handle.compact().map(drop))
                && is_forked(handle.close())
        }));
        assert!(in_a_fork(|| {
            drop((other, unsafe { std::ptr::read(&db) }));
            true
        }));
        // The lock is held still, and each commit is there after a kill.
        assert!(matches!(open(&path), Err(Error::Locked)), "{background}");
        (50..70).for_each(|n| put(n).unwrap());
        let copy = directory.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        drop(db);
        for path in [&copy, &path] {
            let db = open(path).unwrap();
            db.check().unwrap();
            let is_there = |n: &u32| db.contains(format!("{n}")).unwrap();
            assert_eq!((0..70).filter(is_there).count(), 70, "{background}");
            assert!(!db.contains("never").unwrap());
        }
    }
}

/// How much memory the process has, in bytes.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages = statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    pages * 4096
}

/// What a thread of the parent reads at that moment is no business of the child's, which has no such thread: it kept all
/// memory that the child's databases let go of.
#[cfg(target_os = "linux")]
#[test]
fn a_child_of_a_fork_opens_a_database_of_its_own_and_gives_its_memory_back() {
    let directory = tempfile::tempdir().unwrap();
    let db = Aurora::in_memory().unwrap();
    db.write(|tx| tx.tree("t")?.put("key", "value").map(drop))
        .unwrap();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (end, is_over) = std::sync::mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (ready, is_over) = (ready, is_over);
            let snapshot = db.begin_read().unwrap();
            let tree = snapshot.tree("t").unwrap();
            let mut reader = tree.reader();
            assert!(reader.get("key").unwrap().is_some());
            ready.send(()).unwrap();
            let _ = is_over.recv();
            assert!(reader.get("key").unwrap().is_some());
        });
        is_ready.recv().unwrap();
        for background in [false, true] {
            let path = directory.path().join(format!("own-{background}"));
            assert!(in_a_fork(|| {
                let builder = Aurora::builder().background(background);
                let builder = builder.memory_limit(4 << 20).log_limit(1 << 20);
                let own = builder.durability(aurora::Durability::Buffered);
                let own = own.open(&path).unwrap();
                let before = resident_bytes();
                for round in 0..600u32 {
                    let entries = (0..100u32).map(|n| (n.to_be_bytes(), [round as u8; 1000]));
                    own.tree("t").unwrap().put_many(entries).unwrap();
                }
                let grown = resident_bytes().saturating_sub(before);
                assert!(grown < 30 << 20, "{grown} bytes"); // of 60 MB that came and went
                own.check().unwrap();
                own.close().unwrap();
                true
            }));
        }
        drop(end);
    });
}

/// The arenas of memory for pages are of all databases of the process: a thread of the parent that was at one of them when
/// it forked kept it from the child for ever.
#[cfg(target_os = "linux")]
#[test]
fn a_child_of_a_fork_waits_for_no_thread_of_its_parent() {
    let db = Aurora::in_memory().unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut tx = db.begin_write().unwrap();
                    let entries = (0..300u32).map(|n| (n.to_be_bytes(), [7; 1000]));
                    tx.tree("t").unwrap().put_many(entries).unwrap();
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..budget(400) {
                assert!(
                    in_a_fork(|| {
                        let own = Aurora::builder().background(false);
                        let storage = std::sync::Arc::new(aurora::storage::MemoryStorage::new());
                        let own = own.open_storage(storage).unwrap();
                        let entries = (0..300u32).map(|n| (n.to_be_bytes(), [7; 1000]));
                        own.tree("t").unwrap().put_many(entries).unwrap();
                        own.tree("t").unwrap().len().unwrap() == 300
                    }),
                    "round {round}"
                );
            }
        }));
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        outcome.unwrap();
    });
}

/// It waited for the queue of writers, or for the memory that uploads share, which a thread of the parent had locked.
#[test]
fn a_child_of_a_fork_lets_go_of_what_writes_at_once() {
    let db = Aurora::in_memory().unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(db.try_begin_write().unwrap());
                    drop(db.blob_writer("b"));
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..budget(300) {
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                let tx = db.begin_write().unwrap();
                let mut waits = Box::pin(db.write_async(|tx| tx.put("k", "v", None)));
                assert!(waits.as_mut().poll(&mut context).is_pending());
                let mut polled = Box::pin(db.begin_write_async());
                assert!(polled.as_mut().poll(&mut context).is_pending());
                // A copy, so that the parent has its own.
                let (tx_there, waits_there) =
                    unsafe { (std::ptr::read(&tx), std::ptr::read(&waits)) };
                let mut there = Some((tx_there, waits_there));
                let is_done = in_a_fork(|| {
                    let (tx, waits) = there.take().unwrap();
                    let polled = polled.as_mut().poll(&mut context);
                    drop((tx, waits));
                    let put = db.put_blob_from("b", &b"content"[..]);
                    matches!(polled, std::task::Poll::Ready(Err(Error::Forked { .. })))
                        && matches!(put, Err(Error::Forked { .. }))
                });
                std::mem::forget(there);
                assert!(is_done, "round {round}");
                drop((polled, waits, tx));
            }
        }));
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        outcome.unwrap();
    });
}

/// Piece by piece, from the front, while the file changes.
fn copy_slowly(from: &Path, to: &Path, piece: u64) {
    let (mut from, mut to) = (File::open(from).unwrap(), File::create(to).unwrap());
    while std::io::copy(&mut (&mut from).take(piece), &mut to).unwrap() > 0 {
        thread::sleep(Duration::from_micros(60));
    }
}

#[test]
fn a_copy_of_a_file_in_use_is_some_committed_state_or_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("used.db");
    let copy = directory.path().join("copy.db");
    let mut child = start(&path, 1);
    let out = wait_for_work(&mut child);
    let listener = thread::spawn(move || {
        let mut last = vec![0; THREADS as usize];
        for line in out.lines() {
            if let Some((thread, number)) = line.unwrap().split_once(' ')
                && let (Ok(thread), Ok(number)) = (thread.parse::<usize>(), number.parse::<u64>())
            {
                last[thread] = number;
            }
        }
        last
    });
    let (mut opened, mut refused) = (Vec::new(), 0);
    for round in 0..budget(40) {
        thread::sleep(Duration::from_millis(7));
        copy_slowly(&path, &copy, 1 << (12 + round % 8));
        let seen = Aurora::builder()
            .read_only(round % 2 == 0)
            .background(false)
            .open(&copy)
            .and_then(|db| db.check().map(|_| db));
        match seen {
            // A state that was committed: what belongs together is there together.
            Ok(db) => opened.push(
                (0..THREADS)
                    .map(|thread| verify(&db, thread).unwrap())
                    .collect(),
            ),
            Err(error) => {
                assert!(error.is_corruption(), "round {round}: {error:?}");
                refused += 1;
            }
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut last = listener.join().unwrap();
    // What was under way at the end may be more than what was said.
    last.iter_mut().for_each(|last| *last += 6);
    println!("{} copies were whole, {refused} were refused", opened.len());
    for counts in opened {
        let counts: Vec<u64> = counts;
        let fits = counts.iter().zip(&last).all(|(count, last)| count <= last);
        assert!(fits, "{counts:?} beyond {last:?}");
    }
    open(&path).unwrap().check().unwrap();
}
