//! The program around the database: its storages fail or panic, its tasks stop, run or go where they are woken, its
//! closures and iterators panic half-way. None of that may cost others anything.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use aurora::storage::{FileStorage, Map, MemoryStorage, Storage};
use aurora::{Aurora, Error, Field, FieldType, Object, Result, Schema};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// A device that can be told to be slow, to fail and to panic where the log is written.
#[derive(Debug, Default)]
struct Device {
    memory: MemoryStorage,
    /// Writes of the log wait until a header slot was written, and then fail like all that is synced later.
    fails_behind_header: AtomicBool,
    waits: AtomicBool,
    is_dead: AtomicBool,
    headers: Mutex<u64>,
    header_written: Condvar,
    log_delay_ms: AtomicU64,
    panics: AtomicBool,
}

/// Where the header slots end.
const SLOTS_END: u64 = 2 * 4096;

impl Device {
    fn synced(&self) -> io::Result<()> {
        match self.is_dead.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the device is gone")),
            false => Ok(()),
        }
    }
}

impl Storage for Device {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.memory.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset < SLOTS_END {
            // The proof that the header was synced.
            *self.headers.lock().unwrap() += 1;
            self.header_written.notify_all();
        }
        self.memory.write_at(offset, bytes)
    }
    fn sync_range(&self, _: u64, _: u64) -> io::Result<()> {
        self.synced()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.synced()
    }
    fn write_sync_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset < SLOTS_END {
            self.synced()?;
            return self.memory.write_at(offset, bytes);
        }
        if self.fails_behind_header.load(Ordering::SeqCst) {
            let headers = self.headers.lock().unwrap();
            let before = *headers;
            self.waits.store(true, Ordering::SeqCst);
            let unwritten = |headers: &mut u64| *headers == before;
            drop(
                self.header_written
                    .wait_timeout_while(headers, LONG, unwritten),
            );
            self.is_dead.store(true, Ordering::SeqCst);
        }
        std::thread::sleep(Duration::from_millis(
            self.log_delay_ms.load(Ordering::SeqCst),
        ));
        assert!(
            !self.panics.load(Ordering::SeqCst),
            "the device panics, as it was told"
        );
        self.synced()?;
        self.memory.write_at(offset, bytes)
    }
    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.memory.set_length(length_bytes)
    }
    fn length(&self) -> io::Result<u64> {
        self.memory.length()
    }
    fn lock(&self, exclusive: bool) -> io::Result<()> {
        self.memory.lock(exclusive)
    }
}

fn on_device() -> (Arc<Device>, Aurora) {
    let device = Arc::new(Device::default());
    let db = Aurora::builder().open_storage(device.clone()).unwrap();
    db.put("k", "old", None).unwrap();
    (device, db)
}

/// What a thread does must end in time, or the test fails instead of hanging.
fn in_time<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = channel();
    std::thread::spawn(move || done.send(run()));
    result.recv_timeout(LONG).expect("it takes for ever")
}

/// The checkpoint that holds a commit succeeds, and the write of its record fails: the commit is durable, and may be
/// acknowledged. Nobody saw it before the database was opened again.
#[test]
fn what_was_acknowledged_is_seen_though_the_log_failed() {
    let (device, db) = on_device();
    device.fails_behind_header.store(true, Ordering::SeqCst);
    let writer = db.clone();
    let put = std::thread::spawn(move || writer.put("k", "new", None));
    while !device.waits.load(Ordering::SeqCst) && !put.is_finished() {
        std::thread::yield_now();
    }
    let checkpointed = db.checkpoint();
    // It is acknowledged, unless its thread looks before the checkpoint is heard of.
    let _ = put.join().unwrap();
    assert!(checkpointed.is_ok(), "{checkpointed:?}");
    assert_eq!(db.get("k").unwrap().as_deref(), Some(&b"new"[..]));
    let snapshot = db.begin_read().unwrap();
    assert_eq!(snapshot.get("k").unwrap().as_deref(), Some(&b"new"[..]));
}

/// A device that panics is one that fails: nobody waits for the thread that met it.
#[test]
fn a_storage_that_panics_is_one_that_fails() {
    let (device, db) = on_device();
    device.panics.store(true, Ordering::SeqCst);
    let others = db.clone();
    let refused = in_time(move || (others.put("k", "new", None), others.put("k", "newer", None)));
    assert!(matches!(refused.0, Err(Error::Io { .. })), "{refused:?}");
    assert!(refused.1.is_err_and(|error| error.is_poisoned()));
    assert_eq!(db.get("k").unwrap().as_deref(), Some(&b"old"[..]));
    in_time(move || drop(db));
}

/// What a task does when it is woken, right there.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Woken {
    Goes,
    Panics,
    Runs,
}

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    job: Mutex<Option<Job>>,
    woken: Woken,
    is_woken: Mutex<bool>,
    was_woken: Condvar,
}

impl Task {
    /// Polled once, and then as it is woken.
    fn start(job: impl Future<Output = ()> + Send + 'static, woken: Woken) -> Arc<Task> {
        let task = Arc::new(Task {
            job: Mutex::new(Some(Box::pin(job))),
            woken,
            is_woken: Mutex::new(false),
            was_woken: Condvar::new(),
        });
        let waker = Waker::from(task.clone());
        let mut job = task.job.lock().unwrap().take().unwrap();
        assert!(
            job.as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        *task.job.lock().unwrap() = Some(job);
        task
    }

    fn await_wake(&self) {
        let woken = self.is_woken.lock().unwrap();
        let waited = self
            .was_woken
            .wait_timeout_while(woken, LONG, |woken| !*woken);
        let is_woken = *waited.unwrap().0;
        assert!(is_woken, "nobody wakes the task");
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let job = self.job.lock().unwrap().take();
        let waker = Waker::from(self.clone());
        match (self.woken, job) {
            (Woken::Runs, Some(mut job)) => {
                let polled = job.as_mut().poll(&mut Context::from_waker(&waker));
                if polled.is_pending() {
                    *self.job.lock().unwrap() = Some(job);
                    return;
                }
            }
            (Woken::Goes, job) => drop(job),
            _ => {}
        }
        *self.is_woken.lock().unwrap() = true;
        self.was_woken.notify_all();
        assert!(self.woken != Woken::Panics, "the executor is gone");
    }
}

/// A task that waits for a commit which a checkpoint makes durable goes where it is woken, with the last handle, or its
/// waker panics. Both ended up within the checkpoint.
#[test]
fn tasks_may_go_and_wakers_panic_where_they_are_woken() {
    for woken in [Woken::Goes, Woken::Panics] {
        let (device, db) = on_device();
        device.log_delay_ms.store(50, Ordering::SeqCst);
        let (_, first) = db.write_async(|tx| tx.put("a", "1", None)).wait().unwrap();
        let first = std::thread::spawn(move || first.wait());
        std::thread::sleep(Duration::from_millis(10)); // it is under way
        let (_, second) = db.write_async(|tx| tx.put("b", "2", None)).wait().unwrap();
        let kept = db.clone();
        let job = async move {
            second.await.unwrap();
            drop(kept);
        };
        let task = Task::start(job, woken);
        let own = db.clone();
        in_time(move || own.checkpoint()).unwrap();
        task.await_wake();
        first.join().unwrap().unwrap();
        device.log_delay_ms.store(0, Ordering::SeqCst);
        in_time(move || {
            db.put("c", "3", None).unwrap();
            let (_, fourth) = db.write_async(|tx| tx.put("d", "4", None)).wait().unwrap();
            pollster::block_on(fourth).unwrap();
            db.checkpoint().unwrap();
            db.check().unwrap();
            drop(db);
        });
    }
}

/// It waited in the call: on an executor of one thread for ever, if a task of that thread had the turn.
#[test]
fn an_async_write_leaves_its_thread_to_others_while_it_waits_for_its_turn() {
    in_time(|| {
        let db = Aurora::in_memory().unwrap();
        let held = db.begin_write().unwrap();
        let mut write = Box::pin(db.write_async(|tx| tx.increment("n", 1)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(write.as_mut().poll(&mut context).is_pending());
        held.commit().unwrap();
        let (sum, commit) = pollster::block_on(write).unwrap();
        pollster::block_on(commit).unwrap();
        assert_eq!(sum, 1);
        // Nothing happens until it is awaited, or waited for.
        drop(db.write_async(|tx| tx.increment("n", 1)));
        let (sum, commit) = db.write_async(|tx| tx.increment("n", 1)).wait().unwrap();
        commit.wait().unwrap();
        assert_eq!(sum, 2);
    });
}

/// A close writes what is in the log with the writers' turn held. A task that runs where it is woken, and closes too,
/// waited for that turn on the stack that held it.
#[test]
fn a_task_that_closes_where_it_is_woken_does_not_wait_for_itself() {
    for _ in 0..300 {
        let db = Aurora::in_memory().unwrap();
        let commit = |key: &str| {
            db.write_async(|tx| tx.put(key, "1", None))
                .wait()
                .unwrap()
                .1
        };
        // After a batch of two the background thread waits a moment for two: the close goes before it.
        let _first_two = (commit("a"), commit("b"));
        db.flush().unwrap();
        let (third, own) = (commit("c"), db.clone());
        let job = async move {
            third.await.unwrap();
            own.close().unwrap();
        };
        let task = Task::start(job, Woken::Runs);
        in_time(move || db.close()).unwrap();
        task.await_wake();
    }
}

/// The thread that would poll a task may be the one that waits for its turn behind it.
#[test]
fn calls_that_block_do_not_wait_for_tasks_that_nobody_polls() {
    let db = Aurora::in_memory().unwrap();
    let transaction = db.begin_write().unwrap();
    let mut deletion = Box::pin(db.delete("a"));
    let mut context = Context::from_waker(Waker::noop());
    assert!(deletion.as_mut().poll(&mut context).is_pending());
    let other = db.clone();
    let waiting = std::thread::spawn(move || in_time(move || other.put("b", "2", None)));
    std::thread::sleep(Duration::from_millis(50)); // it is in line
    drop(transaction);
    waiting.join().unwrap().unwrap();
    // The task has lost nothing but time.
    let polled = in_time(move || {
        loop {
            if let Poll::Ready(done) = deletion
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
            {
                return done;
            }
            std::thread::yield_now();
        }
    });
    polled.unwrap();
}

/// Gives some bytes, and panics.
struct Treacherous(usize);

impl io::Read for Treacherous {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(self.0 > 0, "the source panics, as it was told");
        self.0 -= 1;
        Ok(buffer.len())
    }
}

/// What is half made after a panic is not committed, and a savepoint mends it.
#[test]
fn a_panic_within_a_change_spoils_the_transaction() {
    type Change = fn(&mut aurora::WriteTransaction) -> Result<()>;
    let changes: [(&str, Change); 5] = [
        ("insert_many", |tx| {
            let documents = (0..10i64).map(|n| {
                assert!(n < 5, "the iterator panics, as it was told");
                Object::from([("n", n)])
            });
            tx.collection("c")?.insert_many(documents).map(drop)
        }),
        ("put_many", |tx| {
            let all = (0..100_000u32).map(|n| {
                assert!(n < 99_999, "the iterator panics, as it was told");
                (n.to_be_bytes(), [0; 400])
            });
            tx.tree("t")?.put_many(all).map(drop)
        }),
        ("put_blob_from", |tx| {
            tx.put_blob_from("new", Treacherous(5)).map(drop)
        }),
        ("append_blob", |tx| {
            tx.append_blob("blob", Treacherous(5)).map(drop)
        }),
        ("merge", |tx| {
            tx.merge("k", |_| panic!("the closure panics, as it was told"))
                .map(drop)
        }),
    ];
    let db = Aurora::builder().memory_limit(16 << 20);
    let db = db.open_storage(Arc::new(MemoryStorage::new())).unwrap();
    let schema = Schema::new().field(Field::new("n", FieldType::Int).indexed());
    db.new_collection("c", schema).unwrap();
    db.put_blob_from("blob", &[7u8; 100_000][..]).unwrap();
    for (name, change) in changes {
        let mut tx = db.begin_write().unwrap();
        tx.put("before", name, None).unwrap();
        let savepoint = tx.savepoint().unwrap();
        let panicked = std::thread::scope(|scope| scope.spawn(|| change(&mut tx)).join().is_err());
        assert!(panicked, "{name}");
        if name != "merge" {
            // Nothing had changed when its closure was called.
            assert!(
                matches!(tx.put("x", "1", None), Err(Error::TransactionFailed)),
                "{name}"
            );
            tx.roll_back_to(&savepoint).unwrap();
        }
        tx.commit().unwrap();
        db.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(db.get("before").unwrap().as_deref(), Some(name.as_bytes()));

        let mut tx = db.begin_write().unwrap();
        let panicked = std::thread::scope(|scope| scope.spawn(|| change(&mut tx)).join().is_err());
        assert!(panicked);
        let committed = tx.commit();
        assert!(
            name == "merge" || matches!(committed, Err(Error::TransactionFailed)),
            "{name}"
        );
        db.check().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(db.collection("c").unwrap().len().unwrap(), 0);
}

/// What reads can go to other threads, and so be held across an `.await`.
#[test]
fn everything_can_be_sent_and_shared() {
    fn is_both<T: Send + Sync>() {}
    is_both::<Aurora>();
    is_both::<aurora::Snapshot>();
    is_both::<aurora::WriteTransaction>();
    is_both::<aurora::Scan<'static>>();
    is_both::<aurora::TreeView<'static>>();
    is_both::<aurora::Range<'static>>();
    is_both::<aurora::TreeCursor<'static>>();
    is_both::<aurora::BlobReader>();
    is_both::<aurora::BlobWriter>();
    is_both::<aurora::Commit>();
    fn is_sent<T: Send>() {}
    is_sent::<aurora::Work<'static, u64>>();
    is_sent::<aurora::Query<'static>>();
    is_sent::<aurora::Rows<'static>>();
    fn ends<T: std::iter::FusedIterator>() {}
    ends::<aurora::Range<'static>>();
    ends::<aurora::Scan<'static>>();
    ends::<aurora::Rows<'static>>();
}

/// A file that can only grow, as one does on some systems while it is mapped.
#[derive(Debug, Default)]
struct Growing(MemoryStorage);

impl Storage for Growing {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }
    fn sync_range(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        match length_bytes < self.0.length()? {
            true => Err(io::Error::other("the file is mapped")),
            false => self.0.set_length(length_bytes),
        }
    }
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
    fn lock(&self, exclusive: bool) -> io::Result<()> {
        self.0.lock(exclusive)
    }
}

/// Not to get space back is no reason to fail, nor is it one to fail later, when the space is needed again.
#[test]
fn a_file_that_cannot_be_cut_is_filled_again() {
    let file = Arc::new(Growing::default());
    let open = || {
        let builder = Aurora::builder().background(false).log_limit(64 << 10);
        builder.open_storage(file.clone())
    };
    let db = open().unwrap();
    for round in 0..3 {
        for n in 0..200 {
            db.put(format!("{n}"), vec![round; 20_000], None).unwrap();
        }
        db.tree("t").unwrap().put([round], [round]).unwrap();
        let rest = db.scan::<&[u8]>(..).unwrap().map(|entry| entry.unwrap().0);
        for key in rest.collect::<Vec<_>>() {
            db.delete(key).wait().unwrap();
        }
        for _ in 0..3 {
            db.checkpoint().unwrap();
        }
        db.compact().unwrap();
        db.check().unwrap();
    }
    assert!(file.0.length().unwrap() > 1 << 20, "it was never long");
    db.close().unwrap();
    let db = open().unwrap();
    assert_eq!(db.tree("t").unwrap().len().unwrap(), 3);
    db.put("k", vec![1; 2_000_000], None).unwrap();
    db.check().unwrap();
}

/// A program's own types hold handles and derive `Debug`.
#[test]
fn what_is_printed_of_a_handle_is_short_and_without_data() {
    let db = Aurora::in_memory().unwrap();
    for n in 0..2000u32 {
        db.put(format!("key {n}"), "a secret", None).unwrap();
        db.get(format!("key {n}")).unwrap();
    }
    let snapshot = db.begin_read().unwrap();
    let tree = db.tree("t").unwrap();
    let mut writer = db.blob_writer("blob");
    io::Write::write_all(&mut writer, &[b'a'; 100_000]).unwrap();
    let (_, commit) = db
        .write_async(|tx| tx.put("z", "a secret", None))
        .wait()
        .unwrap();
    let query = db.query("c");
    let scan = db.scan_prefix("key").unwrap();
    let mut tx = db.begin_write().unwrap();
    tx.put("own", "a secret", None).unwrap();
    let shown = [
        format!("{db:?}"),
        format!("{snapshot:?}"),
        format!("{tree:?}"),
        format!("{writer:?}"),
        format!("{commit:?}"),
        format!("{query:?}"),
        format!("{scan:?}"),
        format!("{tx:?}"),
    ];
    for text in shown {
        assert!(
            text.len() < 1000 && !text.contains("97, 97, 97"),
            "{} bytes: {text:.2000}",
            text.len()
        );
        assert!(!text.contains("secret"), "{text}");
    }
}

/// What is awaited on a thread of its own panics as it would here.
#[test]
fn a_panic_on_a_thread_of_its_own_comes_back() {
    let db = Aurora::in_memory().unwrap();
    let import = db.put_blob_from_async("k", Treacherous(0));
    let caught =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pollster::block_on(import)));
    let text = caught
        .err()
        .and_then(|panic| panic.downcast_ref::<&str>().map(|text| text.to_string()));
    assert_eq!(text.as_deref(), Some("the source panics, as it was told"));
    db.put("k", "v", None).unwrap();
}

/// A clock that panics where the sweeper looks at it for the first time.
#[derive(Debug, Default)]
struct Treacherously {
    now_ms: AtomicU64,
    /// Looks of the sweeper's thread.
    looks: AtomicU64,
}

impl aurora::Clock for Treacherously {
    fn now_ms(&self) -> u64 {
        if std::thread::current().name() == Some("aurora-sweep") {
            let earlier = self.looks.fetch_add(1, Ordering::SeqCst);
            assert!(earlier > 0, "the clock panics, as it was told");
        }
        self.now_ms.load(Ordering::SeqCst)
    }
}

/// What expires later is removed all the same.
#[test]
fn a_clock_that_panics_does_not_end_the_sweeper() {
    let clock = Arc::new(Treacherously::default());
    let builder = Aurora::builder().clock(clock.clone());
    let storage = Arc::new(MemoryStorage::new());
    let db = builder.open_storage(storage).unwrap();
    db.put("k", "v", Some(Duration::from_millis(5))).unwrap();
    clock.now_ms.store(1000, Ordering::SeqCst);
    let begun = std::time::Instant::now();
    while clock.looks.load(Ordering::SeqCst) < 3 {
        assert!(begun.elapsed() < LONG, "the sweeper is gone");
        db.put("other", "v", Some(Duration::from_millis(1)))
            .unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    db.put("k", "v", None).unwrap();
    db.check().unwrap();
}

/// A clock that panics once it is told to.
#[derive(Debug, Default)]
struct Unwound(AtomicBool);

impl aurora::Clock for Unwound {
    fn now_ms(&self) -> u64 {
        let panics = self.0.load(Ordering::SeqCst);
        assert!(!panics, "the clock panics, as it was told");
        1_000
    }
}

/// The process ended where a close met it, with a second panic when the handle was dropped, and a handle that was dropped left
/// the file locked.
#[test]
fn a_clock_that_panics_keeps_no_database_open() {
    use std::io::Write;

    for is_dropped in [false, true] {
        for background in [false, true] {
            let storage = MemoryStorage::new();
            let clock = Arc::new(Unwound::default());
            let builder = Aurora::builder().background(background);
            let own = builder.clone().clock(clock.clone());
            let db = own.open_storage(Arc::new(storage.reopen())).unwrap();
            db.put("k", "v", Some(Duration::from_secs(9))).unwrap();
            let mut upload = db.blob_writer("b");
            upload.write_all(&vec![7; 5 << 20]).unwrap();
            clock.0.store(true, Ordering::SeqCst);
            drop(upload);
            match is_dropped {
                true => drop(db),
                false => db.close().unwrap(),
            }
            let again = builder.clock(Arc::new(Unwound::default()));
            let again = again.open_storage(Arc::new(storage.reopen())).unwrap();
            assert!(again.contains("k").unwrap());
            again.check().unwrap();
        }
    }
}

/// The crate that tells when memory can be used again runs what its users have put off, of which there may be others than
/// the database. It was run within a commit, and waited for its turn to write.
#[test]
fn what_others_have_put_off_is_not_done_within_a_commit() {
    let (done, end) = channel();
    std::thread::spawn(move || {
        let db = Aurora::in_memory().unwrap();
        let tree = db.tree("t").unwrap();
        for _ in 0..200 {
            let log = db.tree("log").unwrap();
            crossbeam_epoch::pin().defer(move || log.put("something went", "").unwrap());
        }
        for n in 0..2_000u32 {
            tree.put(n.to_be_bytes(), [1; 100]).unwrap();
        }
        done.send(()).unwrap();
    });
    assert_eq!(end.recv_timeout(LONG), Ok(()));
}

/// A file whose map shows what was in it before, as a file system could that keeps what calls read and what maps show
/// apart.
#[derive(Debug)]
struct Stale {
    now: FileStorage,
    before: FileStorage,
}

impl Storage for Stale {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.now.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.now.write_at(offset, bytes)
    }
    fn sync_range(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        self.now.sync_range(offset, length_bytes)
    }
    fn sync_all(&self) -> io::Result<()> {
        self.now.sync_all()
    }
    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.before.set_length(length_bytes)?;
        self.now.set_length(length_bytes)
    }
    fn length(&self) -> io::Result<u64> {
        self.now.length()
    }
    fn lock(&self, exclusive: bool) -> io::Result<()> {
        self.now.lock(exclusive)
    }
    fn map(&self, length_bytes: u64) -> io::Result<Option<Arc<Map>>> {
        self.before.map(length_bytes)
    }
}

/// What was checked is what is read: pages that the map shows as they were are read with calls.
#[test]
fn a_map_that_shows_other_bytes_serves_no_page() {
    let directory = tempfile::tempdir().unwrap();
    let [now, before] = ["now.db", "before.db"].map(|name| directory.path().join(name));
    let entries = |round: u8| (0..20_000u32).map(move |key| (key.to_be_bytes(), [round; 100]));
    for round in 0..3 {
        std::fs::copy(&now, &before).ok();
        let db = Aurora::open(&now).unwrap();
        db.write(|tx| tx.tree("t")?.put_many(entries(round)))
            .unwrap();
        db.close().unwrap();
    }
    let stale = Stale {
        now: FileStorage::open(&now).unwrap(),
        before: FileStorage::open(&before).unwrap(),
    };
    stale.before.set_length(stale.length().unwrap()).unwrap();
    // Most pages are in no frame.
    let builder = Aurora::builder().memory_limit(1 << 20);
    let db = builder.open_storage(Arc::new(stale)).unwrap();
    let snapshot = db.begin_read().unwrap();
    let tree = snapshot.tree("t").unwrap();
    for _ in 0..2 {
        let all = tree.iter().map(|entry| entry.unwrap());
        assert!(all.map(|(_, value)| value[0]).eq([2; 20_000]));
        for (key, value) in entries(2) {
            assert_eq!(tree.get(key).unwrap().as_deref(), Some(&value[..]));
        }
    }
}
