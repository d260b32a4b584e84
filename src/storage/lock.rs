//! The lock of the storages that live in memory: one exclusive holder, or any number of shared
//! ones, as with `flock`.

use std::io;
use std::sync::Arc;

use crate::locks::Mutex;

/// Who holds the lock of one in-memory file.
#[derive(Debug, Default)]
pub(super) struct LockTable {
    holders: Mutex<Holders>,
}

#[derive(Debug, Default)]
struct Holders {
    exclusive: bool,
    shared: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    Shared,
    Exclusive,
}

/// One opener's side of the lock, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Opener {
    table: Arc<LockTable>,
    held: Mutex<Held>,
}

impl Opener {
    /// A new opener that holds nothing yet.
    pub(super) fn new(table: Arc<LockTable>) -> Self {
        Opener {
            table,
            held: Mutex::new(Held::Nothing),
        }
    }

    /// Another opener of the same file.
    pub(super) fn another(&self) -> Self {
        Opener::new(Arc::clone(&self.table))
    }

    /// Takes the lock, or changes the one that is held. `WouldBlock`, with what was held before
    /// still held, if another opener is in the way.
    pub(super) fn take(&self, exclusive: bool) -> io::Result<()> {
        let mut held = self.held.lock();
        let mut holders = self.table.holders.lock();
        let others_shared = holders.shared - u64::from(*held == Held::Shared);
        let other_exclusive = holders.exclusive && *held != Held::Exclusive;
        if other_exclusive || (exclusive && others_shared > 0) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        holders.exclusive = exclusive;
        holders.shared = others_shared + u64::from(!exclusive);
        *held = if exclusive {
            Held::Exclusive
        } else {
            Held::Shared
        };
        Ok(())
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        let mut holders = self.table.holders.lock();
        match *self.held.get_mut() {
            Held::Nothing => {}
            Held::Shared => holders.shared -= 1,
            Held::Exclusive => holders.exclusive = false,
        }
    }
}
