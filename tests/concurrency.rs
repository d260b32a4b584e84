//! Real threads: every reader sees one moment, nobody starves, commits share syncs, futures
//! resolve, backups and compactions run beside all of it.
mod common;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use aurora::storage::{MemoryStorage, SimCrash, SimDisk, Storage};
use aurora::{Aurora, Commit, Durability, Error, Result, Snapshot, Tree, WriteTransaction};
use common::{Random, budget, contents, open};

// --- A bank, whose books must always balance ---------------------------------------------------

const ACCOUNTS: u64 = 60;
const TOTAL: u64 = ACCOUNTS * 1000;

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}

/// A balance with padding that says which transfer wrote it.
fn account(balance: u64, transfer: u64, random: &mut Random) -> Vec<u8> {
    let mut value = balance.to_be_bytes().to_vec();
    value.extend(transfer.to_be_bytes());
    value.extend(vec![transfer as u8; random.below(500) as usize]);
    value
}

fn open_bank(db: &Aurora) {
    db.write(|tx| {
        for i in 0..ACCOUNTS {
            tx.tree("accounts")?
                .put(i.to_be_bytes(), account(1000, 0, &mut Random(i)))?;
        }
        stamp(tx, 0)
    })
    .unwrap();
}

/// Writes the number of a transfer into several trees, and a long value that shows it.
fn stamp(tx: &mut WriteTransaction, transfer: u64) -> Result<()> {
    for name in ["accounts stamp", "b", "c"] {
        tx.tree(name)?.put("transfer", transfer.to_be_bytes())?;
    }
    let length = [100, 3000, 20_000, 50_000][transfer as usize % 4];
    tx.tree("b")?.put("long", vec![transfer as u8; length])?;
    // A window that moves on: pages are freed and used again all of the time.
    let mut window = tx.tree("window")?;
    window.put(transfer.to_be_bytes(), vec![transfer as u8; 900])?;
    if let Some(old) = transfer.checked_sub(30) {
        window.delete(old.to_be_bytes())?;
    }
    Ok(())
}

fn transfer(tx: &mut WriteTransaction, random: &mut Random) -> Result<u64> {
    let next = number(&tx.view("b")?.get("transfer")?.unwrap()) + 1;
    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
    if from != to {
        let mut tree = tx.tree("accounts")?;
        let balance = number(&tree.get(from.to_be_bytes())?.unwrap());
        let amount = random.below(balance + 1);
        tree.put(from.to_be_bytes(), account(balance - amount, next, random))?;
        let balance = number(&tree.get(to.to_be_bytes())?.unwrap());
        tree.put(to.to_be_bytes(), account(balance + amount, next, random))?;
    }
    stamp(tx, next)?;
    Ok(next)
}

/// Checks that a snapshot shows one moment, and returns which: the number of its last transfer.
fn audit(snapshot: &Snapshot) -> u64 {
    let at = number(
        &snapshot
            .tree("b")
            .unwrap()
            .get("transfer")
            .unwrap()
            .unwrap(),
    );
    for name in ["accounts stamp", "c"] {
        let tree = snapshot.tree(name).unwrap();
        assert_eq!(
            number(&tree.get("transfer").unwrap().unwrap()),
            at,
            "{name}"
        );
    }
    let accounts = snapshot.tree("accounts").unwrap();
    let (mut sum, mut newest, mut count) = (0, 0, 0);
    for entry in accounts.iter() {
        let (key, value) = entry.unwrap();
        assert_eq!(number(&key), count);
        let written = number(&value[8..]);
        assert!(value[16..].iter().all(|byte| *byte == written as u8));
        (sum, newest, count) = (sum + number(&value), newest.max(written), count + 1);
    }
    assert_eq!((sum, count, accounts.len()), (TOTAL, ACCOUNTS, ACCOUNTS));
    assert!(newest <= at, "an account of the future");
    let long = snapshot.tree("b").unwrap().get("long").unwrap().unwrap();
    assert_eq!(long.len(), [100, 3000, 20_000, 50_000][at as usize % 4]);
    assert!(
        long.iter().all(|byte| *byte == at as u8),
        "another moment's long value"
    );
    let window = snapshot.tree("window").unwrap();
    assert_eq!(window.len(), (at + 1).min(30));
    for (i, entry) in window.iter().rev().enumerate() {
        let (key, value) = entry.unwrap();
        assert_eq!(number(&key), at - i as u64);
        assert_eq!(value, vec![(at - i as u64) as u8; 900]);
    }
    at
}

fn small() -> aurora::Builder {
    Aurora::builder().memory_limit(1 << 20).log_limit(128 << 10)
}

/// Sets the flag when it is dropped, so that a failed thread stops the others.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Job<'a> = Box<dyn Fn(&AtomicBool) + Send + 'a>;

/// Runs all jobs in threads, for a time or until one of them ends.
fn run_for(time: Duration, jobs: Vec<Job<'_>>) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for job in jobs {
            let stop = &stop;
            scope.spawn(move || {
                let _stop = StopOnDrop(stop);
                job(stop);
            });
        }
        let end = Instant::now() + time;
        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn going(stop: &AtomicBool) -> bool {
    !stop.load(Ordering::Relaxed)
}

fn write_for_long(db: &Aurora, seed: u64, stop: &AtomicBool) {
    let mut random = Random(seed);
    while going(stop) {
        let mut tx = db.begin_write().unwrap();
        if random.chance(3) {
            tx.set_durability(Durability::Buffered);
        }
        if random.chance(8) {
            // Something that is undone: nobody may ever see it.
            let savepoint = tx.savepoint().unwrap();
            tx.tree("accounts").unwrap().clear().unwrap();
            tx.tree("b").unwrap().put("long", vec![1; 70_000]).unwrap();
            tx.roll_back_to(&savepoint).unwrap();
        }
        transfer(&mut tx, &mut random).unwrap();
        match random.below(10) {
            0 => drop(tx),
            1 => drop(tx.commit_async().unwrap()),
            _ => tx.commit().unwrap(),
        }
    }
}

fn read_for_long(db: &Aurora, held: usize, seen: &AtomicU64, stop: &AtomicBool) {
    let mut snapshots = VecDeque::new();
    let mut last = (0, 0);
    while going(stop) {
        let snapshot = db.begin_read().unwrap();
        let now = (audit(&snapshot), snapshot.version());
        assert!(
            now.0 >= last.0 && now.1 >= last.1,
            "time went back: {last:?}, {now:?}"
        );
        last = now;
        seen.fetch_max(now.0, Ordering::Relaxed);
        let model = contents(&snapshot).unwrap();
        snapshots.push_back((snapshot, now.0, model));
        if snapshots.len() > held {
            let (snapshot, at, model) = snapshots.pop_front().unwrap();
            assert_eq!(audit(&snapshot), at);
            assert!(
                contents(&snapshot).unwrap() == model,
                "a held snapshot changed"
            );
        }
    }
    for (snapshot, at, model) in snapshots {
        assert_eq!(audit(&snapshot), at);
        assert!(
            contents(&snapshot).unwrap() == model,
            "a held snapshot changed"
        );
    }
}

fn readers_and_writers(db: &Aurora, time: Duration, compacting: bool) {
    open_bank(db);
    let oldest = db.begin_read().unwrap();
    let model = contents(&oldest).unwrap();
    let seen = AtomicU64::new(0);
    run_for(
        time,
        vec![
            Box::new(|stop| write_for_long(db, 1, stop)),
            Box::new(|stop| write_for_long(db, 2, stop)),
            Box::new(|stop| read_for_long(db, 0, &seen, stop)),
            Box::new(|stop| read_for_long(db, 3, &seen, stop)),
            Box::new(|stop| read_for_long(db, 12, &seen, stop)),
            Box::new(|stop| {
                let mut random = Random(9);
                while going(stop) {
                    thread::sleep(Duration::from_millis(random.below(20)));
                    match random.below(4) {
                        0 => db.checkpoint().unwrap(),
                        1 if compacting => drop(db.compact().unwrap()),
                        1 | 2 => db.flush().unwrap(),
                        _ => drop(db.check().unwrap()),
                    }
                }
            }),
        ],
    );
    assert_eq!(audit(&oldest), 0);
    assert!(contents(&oldest).unwrap() == model);
    drop(oldest);
    let seen = seen.load(Ordering::Relaxed);
    assert!(seen > 100, "only {seen} transfers in {time:?}");
    db.check().unwrap();
    let stats = db.stats().unwrap();
    assert!(stats.checkpoints > 3, "{stats:?}");
    assert!(
        stats.held_versions <= 4,
        "someone still holds old states: {stats:?}"
    );
}

fn readers_and_writers_of_a_file(time: Duration, compacting: bool) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank.db");
    let db = small().open(&path).unwrap();
    readers_and_writers(&db, time, compacting);
    let at = audit(&db.begin_read().unwrap());
    db.close().unwrap();
    let db = small().open(&path).unwrap();
    assert_eq!(audit(&db.begin_read().unwrap()), at);
    db.check().unwrap();
}

#[test]
fn every_reader_sees_one_moment_of_a_file() {
    readers_and_writers_of_a_file(Duration::from_secs(budget(4)), false);
}

/// Without a map every page goes through memory, of which there is little.
#[test]
fn every_reader_sees_one_moment_of_a_storage_without_a_map() {
    for background in [true, false] {
        let db = small().background(background);
        let db = db.open_storage(Arc::new(MemoryStorage::new())).unwrap();
        readers_and_writers(&db, Duration::from_secs(budget(2)), false);
    }
}

#[test]
fn every_reader_sees_one_moment_while_a_file_is_compacted() {
    readers_and_writers_of_a_file(Duration::from_secs(budget(4)), true);
}

#[test]
fn every_reader_sees_one_moment_while_a_storage_without_a_map_is_compacted() {
    for background in [true, false] {
        let db = small().background(background);
        let db = db.open_storage(Arc::new(MemoryStorage::new())).unwrap();
        readers_and_writers(&db, Duration::from_secs(budget(2)), true);
    }
}

#[test]
fn a_snapshot_outlives_the_handle_and_can_be_read_by_many_threads() {
    let db = small()
        .open_storage(Arc::new(MemoryStorage::new()))
        .unwrap();
    open_bank(&db);
    let snapshot = db.begin_read().unwrap();
    for seed in 0..50 {
        db.write(|tx| transfer(tx, &mut Random(seed))).unwrap();
    }
    db.close().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            let clone = snapshot.clone();
            scope.spawn(move || assert_eq!(audit(&clone), 0));
            scope.spawn(|| assert_eq!(audit(&snapshot), 0));
        }
    });
}

// --- Turns --------------------------------------------------------------------------------------

#[test]
fn writers_take_turns_and_none_starves() {
    for background in [true, false] {
        let db = small()
            .background(background)
            .durability(Durability::Buffered);
        let db = db.open_storage(Arc::new(MemoryStorage::new())).unwrap();
        let counts: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        let jobs = counts.iter().map(|count| -> Job<'_> {
            let db = &db;
            Box::new(move |stop| {
                while going(stop) {
                    let mut tx = db.begin_write().unwrap();
                    let n = count.fetch_add(1, Ordering::Relaxed);
                    tx.tree("t")
                        .unwrap()
                        .put((n % 50).to_be_bytes(), [1; 50])
                        .unwrap();
                    tx.commit().unwrap();
                }
            })
        });
        run_for(Duration::from_millis(1500), jobs.collect());
        let counts: Vec<u64> = counts.into_iter().map(AtomicU64::into_inner).collect();
        let (low, high) = (*counts.iter().min().unwrap(), *counts.iter().max().unwrap());
        // Who runs may overtake who sleeps (`src/txn/turn.rs`), and the operating system decides
        // who runs: shares differ, yet nobody gets next to nothing.
        assert!(low > 20 && low * 20 > high, "turns: {counts:?}");
    }
}

#[test]
fn handles_can_be_shared_and_sent() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Aurora>();
    is_sync::<Aurora>();
    is_send::<Tree>();
    is_sync::<Tree>();
    is_send::<Snapshot>();
    is_sync::<Snapshot>();
    is_send::<Commit>();
    is_send::<WriteTransaction>();
    is_send::<Error>();
    is_sync::<Error>();
    is_send::<aurora::Builder>();
    is_send::<aurora::Stats>();
}

#[test]
fn a_transaction_can_end_on_another_thread() {
    let db = small()
        .open_storage(Arc::new(MemoryStorage::new()))
        .unwrap();
    for i in 0..40u32 {
        let mut tx = db.begin_write().unwrap();
        tx.tree("t")
            .unwrap()
            .put(i.to_be_bytes(), vec![1; 40_000])
            .unwrap();
        let ended = thread::spawn(move || match i % 4 {
            0 => drop(tx),
            1 => tx.commit().unwrap(),
            2 => drop(tx.commit_async().unwrap()),
            _ => {
                tx.tree("t")
                    .unwrap()
                    .put(i.to_be_bytes(), "changed")
                    .unwrap();
                tx.commit().unwrap();
            }
        });
        // The next turn comes whenever the other thread is done.
        let tx = db.begin_write().unwrap();
        assert_eq!(
            tx.view("t")
                .is_ok_and(|tree| tree.contains(i.to_be_bytes()).unwrap()),
            i % 4 > 0
        );
        drop(tx);
        ended.join().unwrap();
    }
    assert_eq!(db.tree("t").unwrap().len().unwrap(), 30);
    // A panic while a transaction is open gives the turn back.
    let clone = db.clone();
    let panicked = thread::spawn(move || {
        let _tx = clone.begin_write().unwrap();
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(panicked.join().is_err());
    db.tree("t").unwrap().put("after", "a panic").unwrap();
    db.check().unwrap();
}

/// Readers of an old and of the newest moment, while what they read is replaced, evicted and its
/// memory used again.
#[test]
fn a_reader_stays_at_its_moment() {
    let db = small()
        .open_storage(Arc::new(MemoryStorage::new()))
        .unwrap();
    let keys = 12_000_u64;
    let value = |round: u64, n: u64| {
        // Some are in their leaf, some in runs.
        let length = if n.is_multiple_of(97) { 9000 } else { 100 };
        let mut value = vec![n as u8; length];
        value[..8].copy_from_slice(&round.to_be_bytes());
        value
    };
    let fill = |round: u64| {
        db.write(|tx| {
            let mut tree = tx.tree("t")?;
            for n in 0..keys {
                tree.put(n.to_be_bytes(), value(round, n))?;
            }
            Ok(())
        })
        .unwrap();
    };
    fill(0);
    let old = db.begin_read().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..2 {
            let (db, old, done) = (&db, &old, &done);
            scope.spawn(move || {
                let mut random = Random(seed);
                while !done.load(Ordering::Relaxed) {
                    let newest = db.begin_read().unwrap();
                    let (a, b) = (old.tree("t").unwrap(), newest.tree("t").unwrap());
                    let (mut a, mut b) = (a.reader(), b.reader());
                    let round = number(b.get(0_u64.to_be_bytes()).unwrap().unwrap());
                    for _ in 0..500 {
                        let n = random.below(keys);
                        let key = n.to_be_bytes();
                        assert_eq!(a.get(key).unwrap().unwrap(), value(0, n));
                        assert_eq!(b.get(key).unwrap().unwrap(), value(round, n));
                        assert_eq!(b.get([9]).unwrap(), None);
                    }
                }
            });
        }
        for round in 1..budget(20) {
            fill(round);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(db.stats().unwrap().cache_evictions > 0, "all stayed");
}

#[test]
fn close_waits_for_the_running_transaction() {
    let storage = SimDisk::new(1);
    let db = small().open_storage(storage.storage()).unwrap();
    let mut tx = db.begin_write().unwrap();
    tx.tree("t").unwrap().put("k", "v").unwrap();
    let clone = db.clone();
    let closer = thread::spawn(move || clone.close());
    thread::sleep(Duration::from_millis(50));
    assert!(!closer.is_finished(), "close did not wait");
    tx.commit().unwrap();
    closer.join().unwrap().unwrap();
    assert!(matches!(db.begin_write(), Err(Error::Closed)));
    drop(db);
    let db = open(storage.storage()).unwrap();
    assert_eq!(db.tree("t").unwrap().get("k").unwrap().unwrap(), b"v");
}

// --- Group commit -------------------------------------------------------------------------------

/// Memory in which a sync takes its time, as it does on a disk.
#[derive(Debug)]
struct Slow(MemoryStorage, Duration);

impl Storage for Slow {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }
    fn sync_range(&self, _offset: u64, _length_bytes: u64) -> io::Result<()> {
        thread::sleep(self.1);
        Ok(())
    }
    fn sync_all(&self) -> io::Result<()> {
        thread::sleep(self.1);
        Ok(())
    }
    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.0.set_length(length_bytes)
    }
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
    fn lock(&self, exclusive: bool) -> io::Result<()> {
        self.0.lock(exclusive)
    }
}

fn slow(milliseconds: u64) -> Arc<dyn Storage> {
    Arc::new(Slow(
        MemoryStorage::new(),
        Duration::from_millis(milliseconds),
    ))
}

#[test]
fn durable_commits_of_several_threads_share_syncs() {
    for background in [true, false] {
        let db = Aurora::builder()
            .background(background)
            .open_storage(slow(3))
            .unwrap();
        let before = db.stats().unwrap();
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for thread in 0..8u64 {
                let (db, start) = (&db, &start);
                scope.spawn(move || {
                    start.wait();
                    for i in 0..40u64 {
                        db.tree("t")
                            .unwrap()
                            .put((thread << 8 | i).to_be_bytes(), "v")
                            .unwrap();
                    }
                });
            }
        });
        let stats = db.stats().unwrap();
        let records = stats.log_records - before.log_records;
        let batches = stats.log_batches - before.log_batches;
        assert_eq!(records, 320);
        assert!(
            batches * 2 < records,
            "{batches} writes for {records} commits"
        );
        assert!(stats.syncs - before.syncs < records, "{stats:?}");
        assert_eq!(db.tree("t").unwrap().len().unwrap(), 320);
    }
}

// --- Futures ------------------------------------------------------------------------------------

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        assert!(Instant::now() < deadline, "a future was never woken");
        thread::park_timeout(Duration::from_secs(60));
    }
}

type Task<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Polls all tasks, whichever of them is woken, until all are done.
async fn all<T>(tasks: Vec<Task<'_, T>>) -> Vec<T> {
    let mut tasks: Vec<Option<Task<'_, T>>> = tasks.into_iter().map(Some).collect();
    let mut values = Vec::new();
    std::future::poll_fn(move |context| {
        for slot in &mut tasks {
            if let Some(task) = slot
                && let Poll::Ready(value) = task.as_mut().poll(context)
            {
                values.push(value);
                *slot = None;
            }
        }
        match tasks.iter().any(Option::is_some) {
            true => Poll::Pending,
            false => Poll::Ready(std::mem::take(&mut values)),
        }
    })
    .await
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn commits_can_be_awaited_one_by_one_and_together() {
    for (background, latency) in [(true, 2), (true, 0), (false, 1)] {
        let builder = Aurora::builder().background(background);
        let db = builder.open_storage(slow(latency)).unwrap();
        let mut commits: Vec<Task<'_, Result<()>>> = Vec::new();
        for i in 0..100u32 {
            let (_, commit) = db
                .write_async(|tx| tx.tree("t")?.put(i.to_be_bytes(), "v").map(|_| ()))
                .wait()
                .unwrap();
            // The next transaction sees it at once; readers see it when it is durable.
            let next = db.begin_write().unwrap();
            assert_eq!(next.view("t").unwrap().len(), u64::from(i) + 1);
            drop(next);
            match i % 5 {
                0 | 1 => {
                    match i % 2 {
                        0 => block_on(commit).unwrap(),
                        _ => commit.wait().unwrap(),
                    }
                    assert_eq!(db.tree("t").unwrap().len().unwrap(), u64::from(i) + 1);
                }
                2 => drop(commit),
                _ => commits.push(Box::pin(commit)),
            }
        }
        for outcome in block_on(all(commits)) {
            outcome.unwrap();
        }
        db.flush().unwrap();
        assert_eq!(db.tree("t").unwrap().len().unwrap(), 100);
        // A commit of nothing is there already.
        block_on(db.begin_write().unwrap().commit_async().unwrap()).unwrap();
        db.check().unwrap();
    }
}

#[test]
fn an_awaited_commit_is_on_the_disk_and_a_dropped_one_follows() {
    for background in [true, false] {
        let disk = SimDisk::new(4);
        let db = small()
            .background(background)
            .open_storage(disk.storage())
            .unwrap();
        for i in 0..60u32 {
            let (_, dropped) = db
                .write_async(|tx| tx.tree("dropped")?.put(i.to_be_bytes(), "v"))
                .wait()
                .unwrap();
            let mut dropped = Box::pin(dropped);
            if i % 2 == 0 {
                let _ = poll_once(dropped.as_mut());
            }
            drop(dropped);
            let (_, commit) = db
                .write_async(|tx| tx.tree("t")?.put(i.to_be_bytes(), "v"))
                .wait()
                .unwrap();
            match i % 3 {
                0 => commit.wait().unwrap(),
                _ => block_on(commit).unwrap(),
            }
            let survivor = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap();
            let snapshot = survivor.begin_read().unwrap();
            for name in ["t", "dropped"] {
                assert_eq!(
                    snapshot.tree(name).unwrap().len(),
                    u64::from(i) + 1,
                    "{name}"
                );
            }
        }
    }
}

/// Nobody polls it, waits for it, or commits anything behind it.
#[test]
fn a_commit_that_nobody_asks_about_is_soon_on_the_disk() {
    let disk = SimDisk::new(4);
    let db = small().background(true);
    let db = db.open_storage(disk.storage()).unwrap();
    let commit = db.write_async(|tx| tx.put("k", "v", None)).wait();
    let (_, commit) = commit.unwrap();
    drop(commit);
    let start = Instant::now();
    let is_there = |db: &Aurora| db.get("k").unwrap().as_deref() == Some(b"v");
    while !is_there(&db) {
        assert!(start.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(20));
    }
    let survivor = disk.crash_image(SimCrash::LoseAll);
    assert!(is_there(&open(survivor.storage()).unwrap()));
}

#[test]
fn a_handle_with_another_durability_promises_it_for_its_own_writes() {
    let disk = SimDisk::new(4);
    let db = small()
        .background(false)
        .open_storage(disk.storage())
        .unwrap();
    let has = |key: &str| {
        let survivor = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap();
        survivor.begin_read().unwrap().contains(key).unwrap()
    };
    let buffered = db.with_durability(Durability::Buffered);
    buffered.put("first", "value", None).unwrap();
    assert!(db.get("first").unwrap().is_some());
    assert!(!has("first"));
    db.put("second", "value", None).unwrap();
    assert!(has("first") && has("second"));
}

#[test]
fn trees_take_and_give_many_at_once() {
    let db = Aurora::in_memory().unwrap();
    let tree = db.tree("t").unwrap();
    assert!(matches!(tree.first(), Err(Error::TreeNotFound { .. })));
    let entries = (0..100u8).rev().map(|n| ([n], [n, n]));
    assert_eq!(tree.put_many(entries).unwrap(), 0);
    assert_eq!(tree.count([10]..[20]).unwrap(), 10);
    assert_eq!(tree.delete_many([[99], [0], [200]]).unwrap(), 2);
    assert_eq!(tree.first().unwrap().unwrap().0.to_vec(), [1]);
    assert_eq!(tree.last().unwrap().unwrap().0.to_vec(), [98]);
    let popped = db.write(|tx| {
        let mut tree = tx.tree("t")?;
        Ok([tree.pop_last()?, tree.pop_first()?, tree.pop_first()?])
    });
    let keys = popped.unwrap().map(|entry| entry.unwrap().0.to_vec());
    assert_eq!(keys, [[98], [1], [2]]);
    assert_eq!(tree.clear().unwrap(), 95);
    let popped = db.write(|tx| tx.tree("t")?.pop_first()).unwrap();
    assert_eq!(popped, None);
    assert!(tree.is_empty().unwrap());
    assert_eq!(tree.first().unwrap(), None);
}

#[test]
fn a_flush_that_is_awaited_makes_buffered_commits_durable() {
    for background in [true, false] {
        let disk = SimDisk::new(4);
        let builder = small().background(background);
        let builder = builder.durability(Durability::Buffered);
        let db = builder.open_storage(disk.storage()).unwrap();
        db.tree("t").unwrap().put("key", "value").unwrap();
        let flush = db.flush_async().unwrap();
        match background {
            true => block_on(flush).unwrap(),
            false => flush.wait().unwrap(),
        }
        let survivor = open(disk.crash_image(SimCrash::LoseAll).storage()).unwrap();
        assert!(survivor.tree("t").unwrap().contains("key").unwrap());
        db.clone().close().unwrap();
        assert!(matches!(db.flush_async(), Err(Error::Closed)));
    }
}

#[test]
fn what_works_on_the_whole_file_can_be_awaited() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("a.db"), directory.path().join("b.db"));
    block_on(async {
        let db = Aurora::open_async(&path).await?;
        db.write(|tx| {
            let entries = (0..20_000u32).map(|i| (i.to_be_bytes(), [7; 100]));
            tx.tree("t")?.put_many(entries)
        })?;
        db.tree("t")?.delete_range(5_000u32.to_be_bytes()..)?;
        let before = db.stats()?;
        db.checkpoint_async().await?;
        assert_eq!(db.stats()?.checkpoints, before.checkpoints + 1);
        let lost_bytes = db.compact_async().await?;
        assert!(lost_bytes > 1 << 20, "{lost_bytes} bytes");
        assert_eq!(db.check_async().await?.entries, 5_000);
        assert_eq!(db.tree_stats_async().await?["t"].entries, 5_000);
        db.backup_to_async(&copy).await?;
        let again = db.backup_to_async(&copy).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })));
        db.clone().close_async().await?;
        assert!(matches!(db.checkpoint_async().await, Err(Error::Closed)));
        let copied = Aurora::open_async(&copy).await?;
        assert_eq!(copied.tree("t")?.len()?, 5_000);
        let missing = Aurora::builder()
            .create(false)
            .open_async(directory.path().join("c"));
        assert!(matches!(missing.await, Err(Error::NotFound { .. })));
        Ok::<(), Error>(())
    })
    .unwrap();
}

async fn increment(db: &Aurora, times: u32) -> Result<()> {
    for _ in 0..times {
        let mut tx = db.begin_write_async().await?;
        let now = tx
            .tree("t")?
            .get("counter")?
            .map_or(0, |value| number(&value));
        tx.tree("t")?.put("counter", (now + 1).to_be_bytes())?;
        tx.commit_async()?.await?;
    }
    Ok(())
}

#[test]
fn many_tasks_on_few_threads_take_turns_beside_blocking_writers() {
    for background in [true, false] {
        let db = Aurora::builder()
            .background(background)
            .open_storage(slow(0))
            .unwrap();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let tasks =
                        (0..50).map(|_| Box::pin(increment(&db, 5)) as Task<'_, Result<()>>);
                    for outcome in block_on(all(tasks.collect())) {
                        outcome.unwrap();
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..100 {
                    db.write(|tx| {
                        let now = tx
                            .tree("t")?
                            .get("counter")?
                            .map_or(0, |value| number(&value));
                        tx.tree("t")?.put("counter", (now + 1).to_be_bytes())
                    })
                    .unwrap();
                }
            });
        });
        let counter = db.tree("t").unwrap().get("counter").unwrap().unwrap();
        assert_eq!(number(&counter), 2 * 50 * 5 + 100);
    }
}

#[test]
fn a_dropped_wait_passes_its_turn_on() {
    let db = Aurora::in_memory().unwrap();
    // Before its turn came, after it came, and never polled.
    for handed in [false, true] {
        let holder = db.begin_write().unwrap();
        let mut first = Box::pin(db.begin_write_async());
        let mut second = Box::pin(db.begin_write_async());
        let unpolled = db.begin_write_async();
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        if handed {
            drop(holder);
            drop(first);
        } else {
            drop(first);
            drop(holder);
        }
        drop(unpolled);
        let tx = block_on(second).unwrap();
        drop(tx);
        db.tree("t").unwrap().put("k", "v").unwrap();
    }
}

// --- Backup -------------------------------------------------------------------------------------

fn open_backup(path: &Path) -> u64 {
    let copy = Aurora::builder().create(false).open(path).unwrap();
    copy.check().unwrap();
    let at = audit(&copy.begin_read().unwrap());
    copy.write(|tx| transfer(tx, &mut Random(1))).unwrap();
    assert_eq!(audit(&copy.begin_read().unwrap()), at + 1);
    at
}

/// Both are made by large commits, which leave a log for many more.
#[test]
fn a_backup_and_a_compacted_file_have_short_logs() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy.db");
    let db = Aurora::open(directory.path().join("a.db")).unwrap();
    let entries = (0..40_000u32).map(|n| (n.to_be_bytes(), [7; 200]));
    db.tree("t").unwrap().put_many(entries).unwrap();
    let loaded = db.stats().unwrap();
    assert!(loaded.log_pages > 100, "{loaded:#?}");
    db.backup_to(&copy).unwrap();
    let copied = Aurora::open(&copy).unwrap().stats().unwrap();
    assert!(copied.log_pages <= 16, "{copied:#?}");
    assert!(copied.file_bytes < 40_000 * 225, "{copied:#?}");
    assert!(db.compact().unwrap() > 0);
    let compacted = db.stats().unwrap();
    assert!(compacted.log_pages <= 16, "{compacted:#?}");
    assert!(compacted.file_bytes < 40_000 * 225, "{compacted:#?}");
    db.check().unwrap();
}

/// The name of the unfinished copy is longer, and was too long for the system.
#[cfg(unix)]
#[test]
fn a_backup_may_have_the_longest_name_that_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let db = Aurora::in_memory().unwrap();
    db.put("key", "value", None).unwrap();
    for name in ["n".repeat(252), "n".repeat(245), "ö".repeat(126)] {
        let path = directory.path().join(name);
        db.backup_to(&path).unwrap();
        assert!(Aurora::open(&path).unwrap().contains("key").unwrap());
        let again = db.backup_to(&path);
        assert!(matches!(again, Err(Error::AlreadyExists { .. })));
    }
    let files = std::fs::read_dir(directory.path()).unwrap();
    assert_eq!(files.count(), 3);
}

/// It was for everyone, whoever may read the file that it is made of.
#[cfg(unix)]
#[test]
fn a_backup_of_a_private_file_is_private() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mode = |name: &str| std::fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
    // What a new file allows if nothing is said.
    std::fs::write(path("plain"), "").unwrap();
    let plain = mode("plain");
    let db = Aurora::open(path("db")).unwrap();
    db.put("key", "value", None).unwrap();
    assert_eq!(mode("db.db"), plain);
    for allowed in [0o600, 0o640, 0o400, 0o777] {
        let permissions = PermissionsExt::from_mode(allowed);
        std::fs::set_permissions(path("db.db"), permissions).unwrap();
        let copy = format!("{allowed:o}.db");
        db.backup_to(path(&copy)).unwrap();
        assert_eq!(mode(&copy), (allowed | 0o600) & plain);
        assert!(Aurora::open(path(&copy)).unwrap().contains("key").unwrap());
    }
}

#[test]
fn a_backup_is_one_moment_while_writers_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank.db");
    let db = small().open(&path).unwrap();
    open_bank(&db);
    let backups = AtomicU64::new(0);
    run_for(
        Duration::from_secs(budget(3)),
        vec![
            Box::new(|stop| write_for_long(&db, 1, stop)),
            Box::new(|stop| write_for_long(&db, 2, stop)),
            Box::new(|stop| {
                while going(stop) {
                    let n = backups.fetch_add(1, Ordering::Relaxed);
                    let copy = directory.path().join(format!("copy{n}"));
                    let before = audit(&db.begin_read().unwrap());
                    db.backup_to(&copy).unwrap();
                    let after = audit(&db.begin_read().unwrap());
                    let at = open_backup(&copy.with_extension("db"));
                    assert!(
                        (before..=after).contains(&at),
                        "{before} <= {at} <= {after}"
                    );
                    assert!(!copy.with_extension("db.partial.db").exists());
                }
            }),
        ],
    );
    assert!(backups.into_inner() >= 2);

    // What exists stays as it is.
    let existing = directory.path().join("copy0.db");
    let bytes = std::fs::read(&existing).unwrap();
    for name in ["copy0.db", "copy0", "bank.db", "bank"] {
        let error = db.backup_to(directory.path().join(name)).unwrap_err();
        assert!(
            matches!(error, Error::AlreadyExists { .. }) && error.is_misuse(),
            "{error:?}"
        );
        assert!(error.to_string().contains("another path"), "{error}");
    }
    assert!(std::fs::read(&existing).unwrap() == bytes);
    let nowhere = directory.path().join("no/such/place");
    let error = db.backup_to(&nowhere).unwrap_err();
    assert!(
        matches!(&error, Error::Open { path, .. } if *path == nowhere.with_extension("db")),
        "{error:?}"
    );
    db.write(|tx| transfer(tx, &mut Random(1))).unwrap();
    db.check().unwrap();
    // The rest of an interrupted backup is in nobody's way.
    std::fs::write(
        directory.path().join("late.db.partial.db"),
        "half of a backup",
    )
    .unwrap();
    db.backup_to(directory.path().join("late")).unwrap();
    let at = audit(&db.begin_read().unwrap());
    assert_eq!(open_backup(&directory.path().join("late.db")), at);
}

/// Backs up to one name after the other, until `disturb`, which is called while that goes on, says that it was in
/// time, and `check` does too.
fn disturbed_backups(
    disturb: impl Fn(&Aurora, &Path) -> bool,
    check: impl Fn(aurora::Result<()>, &Path) -> bool,
) {
    let directory = tempfile::tempdir().unwrap();
    let db = Aurora::open(directory.path().join("a.db")).unwrap();
    db.write(|tx| {
        let mut tree = tx.tree("a")?;
        (0..30_000u32).try_for_each(|n| tree.put(n.to_be_bytes(), [7; 100]).map(drop))
    })
    .unwrap();
    for round in 0..100 {
        let path = directory.path().join(format!("copy{round}.db"));
        let partial = path.with_extension("db.partial.db");
        let (in_time, copied) = std::thread::scope(|scope| {
            let copying = scope.spawn(|| db.backup_to(&path));
            while !partial.exists() && !path.exists() {
                std::thread::yield_now();
            }
            // It is locked a moment after it is there.
            std::thread::sleep(Duration::from_millis(10));
            (disturb(&db, &path), copying.join().unwrap())
        });
        if in_time && check(copied, &path) {
            return;
        }
    }
    panic!("never in time");
}

#[test]
fn a_second_backup_to_the_same_path_leaves_the_first_alone() {
    let second = |db: &Aurora, path: &Path| {
        let error = db.backup_to(path).unwrap_err();
        let is_late = matches!(error, Error::AlreadyExists { .. });
        assert!(
            is_late || error.to_string().contains("another backup"),
            "{error}"
        );
        !is_late
    };
    disturbed_backups(second, |copied, path| {
        copied.unwrap();
        let copy = Aurora::open(path).unwrap();
        copy.check().unwrap();
        assert_eq!(copy.tree("a").unwrap().len().unwrap(), 30_000);
        true
    });
}

#[test]
fn of_backups_to_one_path_that_begin_at_once_one_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let db = Aurora::open(directory.path().join("a.db")).unwrap();
    db.put("key", "value", None).unwrap();
    for round in 0..100 * budget(1) {
        let path = directory.path().join(format!("copy{round}.db"));
        let start = Barrier::new(4);
        let ended: Vec<_> = std::thread::scope(|scope| {
            let begun: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        db.backup_to(&path)
                    })
                })
                .collect();
            begun.into_iter().map(|copy| copy.join().unwrap()).collect()
        });
        assert_eq!(ended.iter().filter(|copy| copy.is_ok()).count(), 1);
        for error in ended.into_iter().filter_map(Result::err) {
            let is_late = matches!(error, Error::AlreadyExists { .. });
            assert!(
                is_late || error.to_string().contains("another backup is writing"),
                "round {round}: {error}"
            );
        }
        let copy = Aurora::builder().read_only(true).open(&path).unwrap();
        assert!(copy.contains("key").unwrap());
        assert!(!path.with_extension("db.partial.db").exists());
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_took_the_place_of_an_unfinished_backup_does_not_get_its_name() {
    let replace = |_: &Aurora, path: &Path| {
        let partial = path.with_extension("db.partial.db");
        let in_time = std::fs::remove_file(&partial).is_ok();
        std::fs::write(&partial, "somebody else's").unwrap();
        in_time
    };
    disturbed_backups(replace, |copied, path| {
        let other = std::fs::read(path.with_extension("db.partial.db")).unwrap();
        assert_eq!(other, b"somebody else's");
        if copied.is_ok() {
            // It had its name a moment before, and still has it.
            let copy = Aurora::open(path).unwrap();
            assert_eq!(copy.tree("a").unwrap().len().unwrap(), 30_000);
            return false;
        }
        let error = copied.unwrap_err();
        assert!(error.is_io(), "{error:?}");
        assert!(!path.exists());
        true
    });
}

// --- Compaction ---------------------------------------------------------------------------------

/// Much, of which most is removed: every place where something is left is somewhere in the file.
fn scatter(db: &Aurora, entries: u32) {
    for part in 0..entries / 100 {
        db.write(|tx| {
            for i in part * 100..part * 100 + 100 {
                let length = if i % 50 == 7 {
                    40_000
                } else {
                    300 + i as usize % 900
                };
                tx.tree(["x", "y"][i as usize % 2])?
                    .put(i.to_be_bytes(), vec![i as u8; length])?;
            }
            Ok(())
        })
        .unwrap();
    }
    db.write(|tx| {
        for i in (0..entries).filter(|i| i % 10 > 1) {
            tx.tree(["x", "y"][i as usize % 2])?
                .delete(i.to_be_bytes())?;
        }
        Ok(())
    })
    .unwrap();
    db.checkpoint().unwrap();
}

#[test]
fn compaction_gives_the_tail_back_while_others_work() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("big.db");
    let db = small().open(&path).unwrap();
    scatter(&db, 6000);
    open_bank(&db);
    db.checkpoint().unwrap();
    let old = db.begin_read().unwrap();
    let model = contents(&old).unwrap();
    let x_and_y = |snapshot: &Snapshot| {
        let model = contents(snapshot).unwrap();
        (model.0["x"].clone(), model.0["y"].clone())
    };
    let expected = x_and_y(&old);
    let before = std::fs::metadata(&path).unwrap().len();
    let seen = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    run_for(
        Duration::from_secs(60),
        vec![
            Box::new(|stop| write_for_long(&db, 1, stop)),
            Box::new(|stop| read_for_long(&db, 4, &seen, stop)),
            Box::new(|_| {
                let mut steps = 0;
                db.compact_with(|progress| {
                    assert!(progress.target_bytes <= progress.file_bytes, "{progress:?}");
                    assert_eq!(progress.steps, steps + 1);
                    steps += 1;
                    assert_eq!(x_and_y(&db.begin_read().unwrap()), expected);
                    true
                })
                .unwrap();
                assert!(steps > 0);
                done.store(true, Ordering::Relaxed);
            }),
        ],
    );
    assert!(done.into_inner());
    assert!(contents(&old).unwrap() == model, "the old snapshot changed");
    drop(old);
    db.check().unwrap();
    db.compact().unwrap();
    let after = std::fs::metadata(&path).unwrap().len();
    assert!(after < before / 2, "{before} bytes became {after}");
    assert_eq!(db.stats().unwrap().file_bytes, after);
    assert_eq!(x_and_y(&db.begin_read().unwrap()), expected);
    audit(&db.begin_read().unwrap());
    let model = contents(&db.begin_read().unwrap()).unwrap();
    // Nothing to gain: nothing changes.
    db.compact().unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() <= after);
    db.close().unwrap();
    let db = small().open(&path).unwrap();
    assert!(contents(&db.begin_read().unwrap()).unwrap() == model);
    db.check().unwrap();
}

/// Compactions with commits in between: a ring that was laid out for the log is turned to by the
/// next commit, and only after that can a compaction move the log to the front.
fn compact_as_far_as_it_goes(db: &Aurora) {
    for round in 0..8 {
        db.compact().unwrap();
        db.tree("turn")
            .unwrap()
            .put("k", vec![round; 2000])
            .unwrap();
        db.checkpoint().unwrap();
    }
    db.write(|tx| tx.drop_tree("turn")).unwrap();
    db.compact().unwrap();
}

#[test]
fn compaction_gives_the_tail_back_when_the_log_is_in_it() {
    for commits in [false, true] {
        let disk = SimDisk::new(3);
        let db = open(disk.storage()).unwrap();
        scatter(&db, 2000);
        let before = disk.image().len();
        db.compact_with(|_| false).unwrap(); // the leaves move in part, then the rest
        db.compact().unwrap();
        if commits {
            compact_as_far_as_it_goes(&db);
        }
        let (after, stats) = (disk.image().len(), db.stats().unwrap());
        assert!(
            after < before / 2,
            "{before} became {after}, with commits {commits}: {stats:#?}"
        );
    }
}

/// Who writes meanwhile waits for a step: of long values it moves a few, however many the references to them fit into
/// its leaves.
#[test]
fn a_step_of_a_compaction_moves_few_long_values() {
    const VALUES: u64 = 600;
    const BYTES: usize = 200_000;
    let db = Aurora::in_memory().unwrap();
    let value = |n: u64| vec![n as u8; BYTES];
    db.write(|tx| {
        let mut data = tx.tree("data")?;
        (0..VALUES).try_for_each(|n| data.put(n.to_be_bytes(), value(n)).map(drop))
    })
    .unwrap();
    db.write(|tx| {
        let gone = ..(VALUES / 2).to_be_bytes();
        tx.tree("data")?.delete_range(gone)
    })
    .unwrap();
    db.checkpoint().unwrap();
    let before = db.stats().unwrap().file_bytes;
    let mut steps = 0;
    db.compact_with(|progress| {
        steps = progress.steps;
        true
    })
    .unwrap();
    let moved = VALUES / 2 * BYTES as u64;
    assert!(steps > moved / (5 << 20), "{steps} steps for {moved} bytes");
    let after = db.stats().unwrap().file_bytes;
    assert!(after < before * 6 / 10, "{before} became {after}");
    let snapshot = db.begin_read().unwrap();
    let tree = snapshot.tree("data").unwrap();
    assert_eq!(tree.len(), VALUES / 2);
    for n in VALUES / 2..VALUES {
        assert!(
            tree.get(n.to_be_bytes()).unwrap().unwrap() == value(n),
            "{n}"
        );
    }
    db.check().unwrap();
}

#[test]
fn compaction_leaves_little_room() {
    const ENTRIES: u64 = 60_000;
    let db = Aurora::in_memory().unwrap();
    let key = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let tree = db.tree("data").unwrap();
    for part in [0..ENTRIES / 2, ENTRIES / 2..ENTRIES] {
        db.write(|tx| {
            let mut data = tx.tree("data")?;
            { part.clone() }.try_for_each(|n| data.put(key(n), [1; 150]).map(drop))
        })
        .unwrap();
    }
    db.write(|tx| {
        let mut data = tx.tree("data")?;
        { 0..ENTRIES / 2 }.try_for_each(|n| data.delete(key(n)).map(drop))
    })
    .unwrap();
    db.compact().unwrap();
    assert_eq!(tree.len().unwrap(), ENTRIES / 2);
    db.check().unwrap();
    let stats = db.stats().unwrap();
    assert!(stats.free_pages * 200 <= stats.pages, "{stats:#?}");
    let fill = db.tree_stats().unwrap()["data"].leaf_fill;
    assert!(fill > 0.95, "{fill}");
    let raw = ENTRIES / 2 * 158;
    assert!(stats.file_bytes * 100 <= raw * 116, "{stats:#?}");
    // Nothing behind the last page, and a log that is small for the file.
    let length = stats.pages * u64::from(stats.page_size);
    assert_eq!(stats.file_bytes, length, "{stats:#?}");
    assert!(stats.log_bytes * 50 <= stats.file_bytes, "{stats:#?}");
}

#[test]
fn compaction_can_be_stopped_and_taken_up_again() {
    let disk = SimDisk::new(3);
    let db = open(disk.storage()).unwrap();
    scatter(&db, 2000);
    let model = contents(&db.begin_read().unwrap()).unwrap();
    let mut size = disk.image().len();
    let first = size;
    for _ in 0..10 {
        db.compact_with(|_| false).unwrap();
        assert!(
            disk.image().len() <= size,
            "it grew from {size} to {}",
            disk.image().len()
        );
        size = disk.image().len();
        db.check().unwrap();
        assert!(contents(&db.begin_read().unwrap()).unwrap() == model);
    }
    compact_as_far_as_it_goes(&db);
    assert!(disk.image().len() <= first);
    assert!(contents(&db.begin_read().unwrap()).unwrap() == model);
    db.check().unwrap();
}

#[test]
fn a_crash_anywhere_in_a_compaction_loses_nothing() {
    let disk = SimDisk::new(3);
    let db = open(disk.storage()).unwrap();
    scatter(&db, 800);
    let model = contents(&db.begin_read().unwrap()).unwrap();
    db.close().unwrap();
    let image = disk.image();
    let run = |cut: Option<u64>| {
        let disk = SimDisk::from_image(image.clone(), 5);
        let db = open(disk.storage()).unwrap();
        let before = disk.counters().mutating_calls();
        if let Some(nth) = cut {
            disk.crash_after(nth);
        }
        let outcome = db.compact();
        // What comes after the last checkpoint is not needed: its failure is none.
        assert!(outcome.is_ok() || disk.has_crashed(), "{outcome:?}");
        let calls = disk.counters().mutating_calls() - before;
        drop(db);
        (disk, calls)
    };
    let (whole, calls) = run(None);
    assert!(whole.image().len() < image.len() / 2);
    assert!(calls > 10);
    let every = calls.div_ceil(budget(60)).max(1);
    for nth in (1..=calls).step_by(every as usize).chain([calls]) {
        let (disk, _) = run(Some(nth));
        let variants = [
            SimCrash::LoseAll,
            SimCrash::KeepAll,
            SimCrash::OnlyLengths,
            SimCrash::Random { seed: nth },
            SimCrash::Sectors { seed: nth },
        ];
        for variant in variants {
            let left = disk.crash_image(variant);
            let db = open(left.storage()).unwrap();
            db.check().unwrap();
            let found = contents(&db.begin_read().unwrap()).unwrap();
            assert!(found == model, "cut {nth} of {calls}, {variant:?}");
            if variant == SimCrash::LoseAll {
                compact_as_far_as_it_goes(&db);
                db.check().unwrap();
                assert!(contents(&db.begin_read().unwrap()).unwrap() == model);
                let (now, then) = (left.image().len(), image.len());
                assert!(now < then / 2, "cut {nth}: {then} became {now}");
            }
        }
    }
}
