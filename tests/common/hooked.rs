//! Work that is done at an exact moment inside a call of the engine: when it is about to sync, or
//! when it reports something.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aurora::storage::{Map, Storage};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

type Work = Box<dyn FnOnce() + Send>;
type Each = Box<dyn FnMut(u64) + Send>;

/// A storage that does something before it syncs the whole file.
#[derive(Clone)]
pub struct Hooked {
    inner: Arc<dyn Storage>,
    work: Arc<Mutex<Option<Work>>>,
    each: Arc<Mutex<Option<Each>>>,
    zeros: Arc<Mutex<Option<Each>>>,
    cuts: Arc<Mutex<Option<Each>>>,
    through: Arc<Mutex<Option<Each>>>,
    /// Written since the last sync of the whole file.
    unsynced_bytes: Arc<AtomicU64>,
}

impl Hooked {
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Hooked {
            inner,
            work: Arc::default(),
            each: Arc::default(),
            zeros: Arc::default(),
            cuts: Arc::default(),
            through: Arc::default(),
            unsynced_bytes: Arc::default(),
        }
    }

    /// Does `work` before each sync of the whole file, if it is not at it already. It is told how many
    /// bytes were written since the last one.
    #[allow(dead_code)] // in some of the test programs
    pub fn before_each_sync(&self, work: impl FnMut(u64) + Send + 'static) {
        *self.each.lock().unwrap() = Some(Box::new(work));
    }

    /// Does `work` before each write of nothing but zeros, which is where a longer log is laid out. It is told where.
    #[allow(dead_code)] // in some of the test programs
    pub fn before_zeros(&self, work: impl FnMut(u64) + Send + 'static) {
        *self.zeros.lock().unwrap() = Some(Box::new(work));
    }

    /// Does `work` before each call that makes the file shorter. It is told by how many bytes.
    #[allow(dead_code)] // in some of the test programs
    pub fn before_each_cut(&self, work: impl FnMut(u64) + Send + 'static) {
        *self.cuts.lock().unwrap() = Some(Box::new(work));
    }

    /// Does `work` before each write that is durable when it returns. It is told where.
    #[allow(dead_code)] // in some of the test programs
    pub fn before_each_write_through(&self, work: impl FnMut(u64) + Send + 'static) {
        *self.through.lock().unwrap() = Some(Box::new(work));
    }

    fn write_through(&self, offset: u64) {
        if let Some(work) = &mut *self.through.lock().unwrap() {
            work(offset);
        }
    }

    /// Does `work` just before the next sync of the whole file, once.
    #[allow(dead_code)] // in some of the test programs
    pub fn before_sync(&self, work: impl FnOnce() + Send + 'static) {
        *self.work.lock().unwrap() = Some(Box::new(work));
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Storage for Hooked {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        self.unsynced_bytes.fetch_add(length, Ordering::Relaxed);
        if bytes.iter().all(|byte| *byte == 0)
            && let Some(work) = &mut *self.zeros.lock().unwrap()
        {
            work(offset);
        }
        self.inner.write_at(offset, bytes)
    }

    fn sync_range(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        self.inner.sync_range(offset, length_bytes)
    }

    fn sync_all(&self) -> io::Result<()> {
        let work = self.work.lock().unwrap().take();
        if let Some(work) = work {
            work();
        }
        let unsynced_bytes = self.unsynced_bytes.swap(0, Ordering::Relaxed);
        let each = self.each.lock().unwrap().take();
        if let Some(mut each) = each {
            each(unsynced_bytes);
            self.each.lock().unwrap().get_or_insert(each);
        }
        self.inner.sync_all()
    }

    fn start_write(&self, offset: u64, length_bytes: u64) {
        self.inner.start_write(offset, length_bytes);
    }

    fn write_sync_alone_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_through(offset);
        self.inner.write_sync_alone_at(offset, bytes)
    }

    fn write_sync_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_through(offset);
        self.inner.write_sync_at(offset, bytes)
    }

    fn reserve(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        self.inner.reserve(offset, length_bytes)
    }

    fn discard(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        self.inner.discard(offset, length_bytes)
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        let cut_bytes = self.inner.length()?.saturating_sub(length_bytes);
        if cut_bytes > 0
            && let Some(work) = &mut *self.cuts.lock().unwrap()
        {
            work(cut_bytes);
        }
        self.inner.set_length(length_bytes)
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn lock(&self, exclusive: bool) -> io::Result<()> {
        self.inner.lock(exclusive)
    }

    fn map(&self, length_bytes: u64) -> io::Result<Option<Arc<Map>>> {
        self.inner.map(length_bytes)
    }
}

/// Does something when a part of the engine reports for the first time.
pub struct AtEvent {
    target: &'static str,
    work: Mutex<Option<Work>>,
}

/// Calls `call`, and does `work` in the middle of it: when the module `target` reports.
#[allow(dead_code)] // in some of the test programs
pub fn at_event<T>(
    target: &'static str,
    work: impl FnOnce() + Send + 'static,
    call: impl FnOnce() -> T,
) -> T {
    let work: Work = Box::new(work);
    let subscriber = AtEvent {
        target,
        work: Mutex::new(Some(work)),
    };
    tracing::subscriber::with_default(subscriber, call)
}

impl Subscriber for AtEvent {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == self.target
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        let work = self.work.lock().unwrap().take();
        if let Some(work) = work {
            work();
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
