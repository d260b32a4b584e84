//! A storage whose calls panic when it is told to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aurora::storage::Storage;

#[derive(Debug)]
pub struct Panicking {
    inner: Arc<dyn Storage>,
    pub reads_panic: AtomicBool,
    pub writes_panic: AtomicBool,
}

impl Panicking {
    pub fn new(inner: Arc<dyn Storage>) -> Arc<Self> {
        Arc::new(Panicking {
            inner,
            reads_panic: AtomicBool::new(false),
            writes_panic: AtomicBool::new(false),
        })
    }
}

fn as_told(panics: &AtomicBool) {
    assert!(!panics.load(Ordering::SeqCst), "a storage that panics");
}

impl Storage for Panicking {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        as_told(&self.reads_panic);
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        as_told(&self.writes_panic);
        self.inner.write_at(offset, bytes)
    }

    fn sync_range(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        self.inner.sync_range(offset, length_bytes)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.inner.sync_all()
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.inner.set_length(length_bytes)
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn lock(&self, exclusive: bool) -> io::Result<()> {
        self.inner.lock(exclusive)
    }
}
