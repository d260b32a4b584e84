//! The disk, as the engine sees it: the only place where a file is touched.
//!
//! Everything above this module goes through [`Storage`], so the same engine runs on the
//! operating system's files ([`FileStorage`]), in memory ([`MemoryStorage`]), and on a simulated
//! disk that loses, tears and reorders unsynced writes (`SimDisk`, feature `sim`).
//!
//! # Invariants
//!
//! 1. A write is durable only after a sync that covers it returned `Ok`: `sync_all` covers every
//!    earlier write and length, `sync_range`, `write_sync_at` and `write_sync_alone_at` the bytes of
//!    their range.
//! 2. Between syncs, writes may reach the disk in any order, in part, or not at all. A write
//!    never changes bytes outside of its range.
//! 3. After a failed sync, nothing is known about the writes that it should have covered, and every later sync fails: one
//!    that another thread is at may find nothing left to do. (The engine refuses to go on after the first failure that
//!    it is told of, but between two threads only the storage can know.)

use std::io;
use std::sync::Arc;

mod cached;
mod eager;
mod file;
mod lock;
mod map;
mod memory;
mod origin;
mod room;
#[cfg(any(test, feature = "sim"))]
mod sim;
mod start;
mod streams;
#[cfg(windows)]
mod windows;

pub use file::FileStorage;
pub(crate) use file::sync_directory;
pub use map::Map;
pub use memory::MemoryStorage;
pub(crate) use origin::{Origin, at_fork};
#[cfg(any(test, feature = "sim"))]
pub use sim::{
    SimCounters, SimCrash, SimDisk, SimEvent, SimFailedSync, SimFault, SimOperation, SimOutcome,
    SimTarget,
};

#[cfg(test)]
mod tests;

/// A random-access file. All offsets and lengths are in bytes.
///
/// The methods take `&self`: the engine reads from many threads while one writes. No two calls
/// write overlapping ranges at the same time.
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// Fills `buffer` from `offset`. Bytes past the end are an `UnexpectedEof` error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, growing the file when it ends before. Not durable
    /// until synced (invariants 1 and 2).
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes earlier writes to this range durable. May make more durable than it was asked to.
    fn sync_range(&self, offset: u64, length_bytes: u64) -> io::Result<()>;

    /// Makes every earlier write, and the length, durable.
    fn sync_all(&self) -> io::Result<()>;

    /// Writes and makes durable just these bytes, in one step where the platform has one.
    fn write_sync_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)?;
        self.sync_range(offset, bytes.len() as u64)
    }

    /// The same as [`write_sync_at`](Self::write_sync_at), with the same promise: on `Ok` these bytes are durable.
    /// The thread may stay awake for some microseconds meanwhile to be back sooner. The default is right for
    /// every storage; one that wraps another and does something of its own in `write_sync_at` does it here too.
    fn write_sync_alone_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_sync_at(offset, bytes)
    }

    /// Begins to bring what was written to this range to the disk, and does not wait for it. A hint: nothing is
    /// durable by it, and to do nothing is right too. What goes wrong here has to fail the next sync.
    fn start_write(&self, offset: u64, length_bytes: u64) {
        let _ = (offset, length_bytes);
    }

    /// Whether the byte at `offset` is in memory, so that to read it waits for no device. Asked before many reads, to
    /// tell whether [`start_read`](Self::start_read) is worth its time. Where that cannot be told, it is. (A storage that
    /// wraps another has to pass both on; with the defaults nothing is asked for ahead.)
    fn is_cached(&self, offset: u64) -> bool {
        let _ = offset;
        true
    }

    /// Begins to bring this range from the disk to memory, and does not wait for it: it will be read soon. A hint: to
    /// do nothing is right too, also for a range that the file does not have.
    fn start_read(&self, offset: u64, length_bytes: u64) {
        let _ = (offset, length_bytes);
    }

    /// Makes sure that there is room on the device for this range, which lies inside of the file: extending a file
    /// may leave a hole that takes room only when it is written to. Changes neither the bytes nor the length. To do
    /// nothing is right too; then a write to the range is what meets a full device. After an error a part of the room
    /// may be taken.
    fn reserve(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        let _ = (offset, length_bytes);
        Ok(())
    }

    /// The bytes of this range mean nothing any more: the device may have its room back. They are zeros from then on,
    /// or what they were; which of the two is durable is not known before the next sync. The length stays.
    fn discard(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        let _ = (offset, length_bytes);
        Ok(())
    }

    /// Cuts the file or extends it with zeros. Not durable until `sync_all`.
    fn set_length(&self, length_bytes: u64) -> io::Result<()>;

    /// The length of the file.
    fn length(&self) -> io::Result<u64>;

    /// Takes the lock that keeps other openers out: exclusive to write, shared to read only.
    /// `WouldBlock` if another holds it. Held until the storage is dropped.
    fn lock(&self, exclusive: bool) -> io::Result<()>;

    /// A read-only map of the first `length_bytes`, which may be more than the file has now, or
    /// `None` where the storage cannot map. Bytes written later show through it; bytes past the
    /// end of the file must not be touched.
    fn map(&self, length_bytes: u64) -> io::Result<Option<Arc<Map>>> {
        let _ = length_bytes;
        Ok(None)
    }
}
