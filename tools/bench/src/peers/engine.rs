//! What each engine is asked to do. All engines are driven through the same few calls, so that the
//! cost of the driving is the same for all.

use std::path::PathBuf;

use crate::data::{Key, VALUE_BYTES};

pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What a commit promises when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// On the disk: survives a power cut.
    Durable,
    /// Visible, and on the disk at some later time.
    Unsynced,
}

/// How the engine is opened.
#[derive(Debug, Clone)]
pub struct Place {
    pub directory: PathBuf,
    /// How much memory the engine's cache may use.
    pub cache_bytes: u64,
    /// How large an engine that wants to know may ever become.
    pub map_bytes: u64,
    /// How large a log has to be able to become, if not as large as the engine likes.
    pub log_bytes: Option<u64>,
    /// Whether there is less memory than data.
    pub has_little_memory: bool,
}

pub type Writing<'w> = &'w mut dyn FnMut(&mut dyn Writer) -> Outcome<()>;
pub type Reading<'r> = &'r mut dyn FnMut(&mut dyn Reader) -> Outcome<()>;
pub type Visit<'v> = &'v mut dyn FnMut(&[u8], &[u8]);

/// An engine that is open.
pub trait Peer: Send + Sync {
    /// Runs the closure in one transaction (or one atomic batch) and commits.
    fn write(&self, promise: Promise, work: Writing<'_>) -> Outcome<()>;
    /// Runs the closure on one snapshot.
    fn read(&self, work: Reading<'_>) -> Outcome<()>;
    /// Makes unsynced commits durable.
    fn flush(&self) -> Outcome<()>;
    /// Brings everything from logs and memory to its place.
    fn settle(&self) -> Outcome<()>;
    /// Makes the files as small as the engine can. `false` if it has no such call.
    fn compact(&mut self) -> Outcome<bool>;
    /// The engine's way of looking up values that are wanted again and again, if it has one: for
    /// skewed reads. `None` means that they are read like all others.
    fn hot(&self) -> Option<&dyn Hot> {
        None
    }
    /// The engine's way of storing long values, if it has one.
    fn blobs(&self) -> Option<&dyn Blobs> {
        None
    }
}

/// Long values, whole and in parts.
pub trait Blobs: Send + Sync {
    /// Stores one, durably.
    fn put(&self, key: &str, content: &[u8]) -> Outcome<()>;
    /// Shows it piece by piece.
    fn get(&self, key: &str, visit: &mut dyn FnMut(&[u8])) -> Outcome<()>;
    fn parts(
        &self,
        key: &str,
        offsets: &[u64],
        length: usize,
        visit: &mut dyn FnMut(&[u8]),
    ) -> Outcome<()>;
}

/// Values kept ready by the engine itself.
pub trait Hot: Send + Sync {
    fn load(&self, entries: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Outcome<()>;
    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Outcome<bool>;
}

pub trait Writer {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()>;
    fn delete(&mut self, key: &[u8]) -> Outcome<()>;

    /// Stores many, by the engine's call for that, if it has one.
    fn put_many(&mut self, entries: &mut dyn Iterator<Item = Entry>, _order: Order) -> Outcome<()> {
        for (key, value) in entries {
            self.put(&key, &value)?;
        }
        Ok(())
    }

    /// Removes many, by the engine's call for that, if it has one.
    fn delete_many(&mut self, keys: &mut dyn Iterator<Item = Key>) -> Outcome<()> {
        for key in keys {
            self.delete(&key)?;
        }
        Ok(())
    }
}

pub type Entry = (Key, [u8; VALUE_BYTES]);

/// What an engine may know of the order of what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Any,
    /// Ascending, behind all that is there.
    Ascending,
}

pub trait Reader {
    /// Shows the value; says whether there was one.
    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Outcome<bool>;
    /// Shows up to so many entries from a key on.
    fn scan(&mut self, from: &[u8], limit: u64, visit: Visit<'_>) -> Outcome<()>;
    fn len(&mut self) -> Outcome<u64>;
    /// How many keys are in `low..high`.
    fn count(&mut self, low: &[u8], high: &[u8]) -> Outcome<u64>;
}
