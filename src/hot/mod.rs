//! The hot tier: the values and decoded documents that are read most, in front of the trees.
//!
//! What it answers is always what the newest published state says, the one that a snapshot taken
//! now would see. Nobody ever waits for it to catch up: a commit drops what it changed in the
//! moment in which it is published.
//!
//! # Invariants
//!
//! Let a commit be published by a *change* (`change.rs`): mark, publish, unmark, in this order.
//! Each shard has a `version` and a count `publishing`, both guarded by the shard's lock.
//!
//! 1. Mark: for each shard in which the commit touched something, `version` goes up, `publishing`
//!    goes up, and the touched entries are dropped, under one lock of the shard. Unmark:
//!    `publishing` goes down. Between the two, the state is published.
//! 2. A reader's miss gives a ticket with the shard's `version`; there is none while `publishing`
//!    is not 0. The value is then read from the state that is published *after* the ticket was
//!    given, and it is let in only if `publishing` is 0 and `version` is still the ticket's.
//! 3. So no change of the shard was marked and not unmarked at any time from the ticket to the
//!    entry: one marked before was unmarked before the ticket, and its state was published by
//!    then; one marked in between shows in `version`; one marked later finds the entry and
//!    drops it. The value that was read is that of the newest published state when it gets in.
//! 4. By 1 and 3, an entry of a shard is at every moment what the newest published state says, and
//!    from mark to unmark there is no entry of a touched key. Whoever saw the new state, in a
//!    snapshot or by an acknowledged commit, did so after the mark, so that the old value cannot
//!    answer any more; whoever got the new value from here did so after the unmark, so that every
//!    snapshot taken from then on has it too.
//! 5. A commit is marked with the first state published that holds it. States overtake each other:
//!    a buffered commit publishes the full ones below it that still wait for the disk. The log
//!    keeps the order (its invariant 6).
//! 6. Dropping all of a space raises the space's epoch, after all shards were marked. An entry
//!    remembers the epoch in which it got in and answers only in that one. It cannot have got in
//!    with the new epoch and an old value: its shard was marked when the epoch rose.
//! 7. What is never published (a failed commit, a rolled back one) changes nothing here. A change
//!    that is dropped between mark and unmark unmarks.
//! 8. The shards' locks are leaves: nothing is called with one held, and no two are held at once.
//! 9. The bytes of all entries and tables stay within the limit.

mod change;
mod key;
mod read;
mod shard;
mod shared;
#[cfg(test)]
mod tests;
mod values;

use std::any::Any;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use self::change::Touched;
pub(crate) use self::read::read_through;
use self::shard::{Key, Shard};
pub use self::shared::SharedBytes;
use crate::inspect::HotStats;
use crate::sync::{Mutex, MutexGuard};

/// The space of plain keys. Collection n is space n.
pub(crate) const KEYS: u32 = 0;

/// The mask of marked shards has a bit for each.
const MAX_SHARDS: usize = 64;

/// A shard is not smaller than this, so that small limits still take values of some size.
const MIN_SHARD_BYTES: usize = 1 << 20;

/// Spaces share their epochs with those of the same number modulo this.
const EPOCHS: usize = 64;

/// Something that is read often, ready for use. Clones share it.
#[derive(Debug, Clone)]
pub(crate) enum Hot {
    Value(SharedBytes),
    Document(SharedDocument),
}

/// A decoded document. The tier does not know its type.
#[derive(Debug, Clone)]
pub(crate) struct SharedDocument {
    pub document: Arc<dyn Any + Send + Sync>,
    pub expires_ms: Option<u64>,
    /// The memory that it takes, about.
    pub bytes: usize,
}

impl Hot {
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        match self {
            Hot::Value(value) => value.expires_ms(),
            Hot::Document(document) => document.expires_ms,
        }
    }
}

/// What a lookup found.
#[derive(Debug)]
pub(crate) enum Looked {
    Hit(Hot),
    /// With a ticket if the value is wanted here.
    Miss(Option<Ticket>),
}

/// The permission to offer a value that is read after the ticket was given (invariant 2).
#[derive(Debug)]
pub(crate) struct Ticket {
    hash: u64,
    version: u64,
}

/// A shard in cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Aligned(Mutex<Shard>);

/// See the module.
pub(crate) struct HotTier {
    /// A power of two of them, or none: then the tier is off.
    shards: Box<[Aligned]>,
    hasher: foldhash::fast::FixedState,
    /// Invariant 6.
    epochs: [AtomicU64; EPOCHS],
    limit_bytes: usize,
}

/// Without what is in it: a program that prints its handle would print the data, megabytes of it.
impl fmt::Debug for HotTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotTier").finish_non_exhaustive()
    }
}

impl HotTier {
    /// A tier of so many bytes at the most; 0 turns it off. The seed keeps those who choose keys
    /// from choosing hashes.
    pub(crate) fn new(limit_bytes: usize, seed: u64) -> Self {
        let fitting = (limit_bytes / MIN_SHARD_BYTES).clamp(1, MAX_SHARDS);
        let count = if limit_bytes == 0 {
            0
        } else {
            1 << fitting.ilog2()
        };
        let shard_bytes = limit_bytes.checked_div(count).unwrap_or(0);
        let shards = (0..count).map(|_| Aligned(Mutex::new(Shard::new(shard_bytes))));
        HotTier {
            shards: shards.collect(),
            hasher: foldhash::fast::FixedState::with_seed(seed),
            epochs: std::array::from_fn(|_| AtomicU64::new(0)),
            limit_bytes,
        }
    }

    fn is_off(&self) -> bool {
        self.shards.is_empty()
    }

    #[inline]
    fn hash(&self, space: u32, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(space);
        hasher.write(key);
        hasher.finish()
    }

    /// From bits that the shards' own tables do not use.
    #[inline]
    fn shard_index(&self, hash: u64) -> usize {
        (hash >> 40) as usize & self.shards.len().wrapping_sub(1)
    }

    #[inline]
    fn shard(&self, hash: u64) -> Option<MutexGuard<'_, Shard>> {
        let shard = self.shards.get(self.shard_index(hash))?;
        Some(shard.0.lock())
    }

    #[inline]
    fn epoch(&self, space: u32) -> &AtomicU64 {
        &self.epochs[space as usize % EPOCHS]
    }

    /// What the newest published state has for a key, if it is here. After a miss, read the value
    /// from a snapshot that is taken *now*, and offer it if there is a ticket.
    #[inline]
    pub(crate) fn lookup(&self, space: u32, key: &[u8]) -> Looked {
        if self.is_off() {
            return Looked::Miss(None);
        }
        let hash = self.hash(space, key);
        let Some(mut shard) = self.shard(hash) else {
            return Looked::Miss(None);
        };
        let key = Key {
            hash,
            space,
            epoch: self.epoch(space).load(Ordering::Acquire),
            bytes: key,
        };
        match shard.get(&key) {
            Some(hot) => Looked::Hit(hot),
            None => Looked::Miss(shard.miss(hash).map(|version| Ticket { hash, version })),
        }
    }

    /// Takes in what was read after the ticket was given. Says whether it did.
    pub(crate) fn admit(&self, ticket: Ticket, space: u32, key: &[u8], hot: &Hot) -> bool {
        let Some(mut shard) = self.shard(ticket.hash) else {
            return false;
        };
        let key = Key {
            hash: ticket.hash,
            space,
            epoch: self.epoch(space).load(Ordering::Acquire),
            bytes: key,
        };
        shard.admit(&key, ticket.version, hot)
    }

    /// Drops an entry: always allowed.
    pub(crate) fn forget(&self, space: u32, key: &[u8]) {
        let hash = self.hash(space, key);
        if let Some(mut shard) = self.shard(hash) {
            let entry = shard.remove(hash);
            drop(shard);
            drop(entry);
        }
    }

    pub(crate) fn stats(&self) -> HotStats {
        let mut stats = HotStats {
            limit_bytes: self.limit_bytes as u64,
            ..HotStats::default()
        };
        for shard in &self.shards {
            shard.0.lock().add_to(&mut stats);
        }
        stats
    }
}
