//! Who receives events may use the database that tells them, be slow, or panic.

#[path = "common/panicking.rs"]
mod panicking;

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use aurora::storage::{MemoryStorage, SimDisk, SimFault, SimTarget};
use aurora::{Aurora, Result};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use panicking::Panicking;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(40);

type Receiver = Arc<dyn Fn(&str) + Send + Sync>;

/// Hands the events of the program to the test that runs.
struct Post;

static RECEIVER: Mutex<Option<Receiver>> = Mutex::new(None);

thread_local! {
    /// Events of what a receiver does are not received.
    static RECEIVES: Cell<bool> = const { Cell::new(false) };
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Post {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let receiver = RECEIVER.lock().unwrap().clone();
        if let Some(receiver) = receiver.filter(|_| !RECEIVES.replace(true)) {
            receiver(&message.0);
            RECEIVES.set(false);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// One test at a time has the events of the program.
fn receive(receiver: impl Fn(&str) + Send + Sync + 'static) -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    static SET: OnceLock<()> = OnceLock::new();
    SET.get_or_init(|| tracing::subscriber::set_global_default(Post).unwrap());
    let one = ONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    *RECEIVER.lock().unwrap() = Some(Arc::new(receiver));
    one
}

/// What a thread does must end in time, or the test fails instead of hanging.
fn in_time<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = channel();
    std::thread::spawn(move || done.send(run()));
    result.recv_timeout(LONG).expect("it takes for ever")
}

/// Checkpoints told of themselves under the locks of the engine: who wrote that into the same database waited for ever,
/// and so did all others.
#[test]
fn events_may_be_written_into_the_database_that_tells_them() {
    for background in [false, true] {
        let place: Arc<Mutex<Option<Aurora>>> = Arc::default();
        let told = Arc::new(AtomicU64::new(0));
        let (own, count) = (place.clone(), told.clone());
        let _one = receive(move |message| {
            let Some(db) = own.lock().unwrap().clone() else {
                return;
            };
            count.fetch_add(1, Ordering::SeqCst);
            // Meanwhile others fill the log, and wait for a checkpoint with their turn.
            std::thread::sleep(Duration::from_millis(3));
            let seen = db.begin_read().and_then(|_| db.stats()).map(drop);
            // Large, so that it needs checkpoints itself.
            let written = db.put("event", format!("{message}{:30000}", ""), None);
            assert!(seen.is_ok() && (written.is_ok() || db.stats().is_err()));
        });
        in_time(move || {
            let builder = Aurora::builder().background(background);
            let builder = builder.log_limit(64 << 10).memory_limit(1 << 20);
            let db = { builder.open_storage(Arc::new(MemoryStorage::new())) }.unwrap();
            *place.lock().unwrap() = Some(db.clone());
            std::thread::scope(|scope| {
                for thread in 0..3u32 {
                    let db = &db;
                    scope.spawn(move || {
                        for n in 0..300u32 {
                            let key = [thread.to_be_bytes(), (n % 50).to_be_bytes()].concat();
                            db.tree("t")
                                .unwrap()
                                .put(key, vec![n as u8; 3_000])
                                .unwrap();
                        }
                    });
                }
                // Transactions that have pages written early, and need a checkpoint to commit.
                for round in 0..4u8 {
                    db.write(|tx| {
                        let mut tree = tx.tree("large")?;
                        for n in 0..3_000u32 {
                            tree.put(n.to_be_bytes(), [round; 500])?;
                        }
                        Ok(())
                    })
                    .unwrap();
                }
                db.checkpoint().unwrap();
                db.compact().unwrap();
            });
            db.check().unwrap();
            *place.lock().unwrap() = None;
            db.close().unwrap();
        });
        let told = told.load(Ordering::SeqCst);
        assert!(told > 3, "{background}: {told}");
    }
}

#[test]
fn a_receiver_that_panics_ends_nothing() {
    let _one = receive(|_| {});
    let db = Aurora::builder().background(false);
    let db = db.open_storage(Arc::new(MemoryStorage::new())).unwrap();
    *RECEIVER.lock().unwrap() = Some(Arc::new(|_| {
        RECEIVES.set(false);
        panic!("a receiver that panics");
    }));
    for n in 0..3 {
        db.put("k", format!("{n}"), None).unwrap();
        db.checkpoint().unwrap();
    }
    assert_eq!(db.get("k").unwrap().as_deref(), Some(&b"2"[..]));
    db.check().unwrap();
}

/// An event, what could be read when it came, and whether a write was refused.
type Heard = (String, Option<Vec<u8>>, bool);

/// A failed sync is told by the commit that met it, which holds no turn and no lock then.
#[test]
fn who_hears_that_writes_are_refused_can_read() {
    let place: Arc<Mutex<Option<Aurora>>> = Arc::default();
    let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
    let (own, list) = (place.clone(), heard.clone());
    let _one = receive(move |message| {
        let Some(db) = own.lock().unwrap().clone() else {
            return;
        };
        let there = db.get("k").unwrap().map(|value| value.to_vec());
        let refused = db
            .put("x", "y", None)
            .is_err_and(|error| error.is_poisoned());
        list.lock()
            .unwrap()
            .push((message.to_string(), there, refused));
    });
    in_time(move || {
        let disk = SimDisk::new(3);
        let db = Aurora::builder().background(false);
        let db = db.open_storage(disk.storage()).unwrap();
        db.put("k", "v", None).unwrap();
        *place.lock().unwrap() = Some(db.clone());
        disk.fail_from(SimTarget::Syncs, 1, SimFault::Eio);
        let failed: Result<()> = db.put("k", "w", None);
        assert!(failed.is_err());
        *place.lock().unwrap() = None;
    });
    let heard = heard.lock().unwrap();
    let (message, there, refused) = heard.first().unwrap();
    assert!(message.contains("writes are refused"), "{message}");
    assert_eq!((there.as_deref(), refused), (Some(&b"v"[..]), &true));
}

/// What goes wrong while a transaction has pages written early was told in the middle of it: who wrote into the database
/// then waited for the end of the very call that told.
#[test]
fn what_goes_wrong_within_a_transaction_is_told_after_it() {
    let place: Arc<Mutex<Option<Aurora>>> = Arc::default();
    let heard = Arc::new(AtomicU64::new(0));
    let (own, count) = (place.clone(), heard.clone());
    let _one = receive(move |_| {
        if let Some(db) = own.lock().unwrap().clone() {
            count.fetch_add(1, Ordering::SeqCst);
            let refused = db.put("x", "y", None);
            assert!(refused.is_err_and(|error| error.is_poisoned()));
        }
    });
    in_time(move || {
        let storage = Panicking::new(Arc::new(MemoryStorage::new()));
        let db = Aurora::builder().background(false).log_limit(64 << 10);
        let db = db.open_storage(storage.clone()).unwrap();
        *place.lock().unwrap() = Some(db.clone());
        storage.writes_panic.store(true, Ordering::SeqCst);
        let many = (0..20_000u32).map(|n| (n.to_be_bytes(), [1; 100]));
        assert!(db.tree("t").unwrap().put_many(many).is_err());
        *place.lock().unwrap() = None;
    });
    assert_eq!(heard.load(Ordering::SeqCst), 1);
}

/// Also where nothing of the database is held: an open, a compaction and a close have to come to their end.
#[test]
fn a_receiver_that_panics_ends_no_open_compaction_or_close() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let list = told.clone();
    let _one = receive(move |message| {
        RECEIVES.set(false);
        list.lock().unwrap().push(message.to_string());
        panic!("a receiver that panics");
    });
    let storage = MemoryStorage::new();
    let open = || {
        let db = Aurora::builder().background(false);
        db.open_storage(Arc::new(storage.reopen())).unwrap()
    };
    let db = open();
    for n in 0..500u32 {
        db.tree("t")
            .unwrap()
            .put(n.to_be_bytes(), [1; 500])
            .unwrap();
    }
    db.tree("t").unwrap().clear().unwrap();
    db.compact().unwrap();
    db.close().unwrap();
    drop(open());
    let told = told.lock().unwrap();
    for what in ["created", "compaction", "opened"] {
        assert!(
            told.iter().any(|told| told.contains(what)),
            "{what}: {told:?}"
        );
    }
}
