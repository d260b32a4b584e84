//! One shard of the hot tier: entries by hash, the one first to go that was read longest ago.
//!
//! # Invariants
//!
//! 1. `bytes` is the sum of what the entries cost, plus the table of misses, and at most `limit`.
//! 2. There is at most one entry of a hash. The key is compared on every read, so that keys of the
//!    same hash displace each other and are never taken for one another.

use std::hash::{BuildHasherDefault, Hasher};

use lru::LruCache;

use super::Hot;
use super::key::OwnedKey;
use crate::inspect::HotStats;

/// What an entry costs beyond its key and its value: the nodes of the table and of the list, and
/// the headers of what is shared.
pub(super) const ENTRY_BYTES: usize = 192;

/// An entry takes at most this part of its shard.
const LARGEST_SHARE: usize = 8;

/// Two places in the table of misses for so many bytes of the limit. With more, more of the keys
/// that are read all alike get in; with fewer, a large hot set gets in slowly.
const BYTES_PER_PAIR: usize = 1024;

/// An entry is not moved to the front again until this part of the shard has come in since. To move
/// one touches its neighbours, which are not in the processor's cache: that is half of a hit.
const NEAR_FRONT_PART: u64 = 8;

/// What is looked for.
pub(super) struct Key<'k> {
    pub hash: u64,
    pub space: u32,
    pub epoch: u64,
    pub bytes: &'k [u8],
}

#[derive(Debug)]
pub(super) struct Entry {
    space: u32,
    epoch: u64,
    key: OwnedKey,
    value: Hot,
    bytes: usize,
    /// `admitted` of the shard when the entry was last moved to the front.
    moved: u64,
}

impl Entry {
    #[inline]
    fn is(&self, key: &Key<'_>) -> bool {
        self.epoch == key.epoch && self.space == key.space && self.key.bytes() == key.bytes
    }
}

/// The hashes are used as they are.
#[derive(Debug, Default, Clone)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
pub(super) struct Shard {
    entries: LruCache<u64, Entry, BuildHasherDefault<Identity>>,
    /// Parts of the hashes that were missed lately, each in the one pair where it can be, the
    /// later first: two keys that share a place do not keep each other out. Made when the first
    /// is missed.
    missed: Vec<[u32; 2]>,
    limit: usize,
    bytes: usize,
    /// Invariants 1 and 2 of the module.
    publishing: u32,
    version: u64,
    hits: u64,
    misses: u64,
    admitted: u64,
    refused: u64,
    evicted: u64,
    dropped: u64,
}

impl Shard {
    pub(super) fn new(limit: usize) -> Self {
        Shard {
            entries: LruCache::unbounded_with_hasher(BuildHasherDefault::default()),
            missed: Vec::new(),
            limit,
            bytes: 0,
            publishing: 0,
            version: 0,
            hits: 0,
            misses: 0,
            admitted: 0,
            refused: 0,
            evicted: 0,
            dropped: 0,
        }
    }

    #[inline]
    pub(super) fn get(&mut self, key: &Key<'_>) -> Option<Hot> {
        let near_front = self.entries.len() as u64 / NEAR_FRONT_PART;
        let entry = self.entries.peek_mut(&key.hash)?;
        if !entry.is(key) {
            return None;
        }
        self.hits += 1;
        let hot = entry.value.clone();
        if self.admitted - entry.moved > near_front {
            entry.moved = self.admitted;
            self.entries.promote(&key.hash);
        }
        Some(hot)
    }

    /// Counts a miss. Answers with the version for a ticket if the value is wanted: it was missed
    /// lately too, and nothing is being published in this shard.
    pub(super) fn miss(&mut self, hash: u64) -> Option<u64> {
        self.misses += 1;
        let is_wanted = self.note_wanted(hash) && self.publishing == 0;
        is_wanted.then_some(self.version)
    }

    /// Says whether the hash was noted before, and notes it.
    fn note_wanted(&mut self, hash: u64) -> bool {
        if self.missed.is_empty() {
            self.missed = vec![[0; 2]; self.limit / BYTES_PER_PAIR];
            self.bytes += self.missed.len() * size_of::<[u32; 2]>();
        }
        let part = (hash >> 32) as u32;
        let places = self.missed.len().max(1) as u64;
        // The low half of the hash, spread over the places.
        let place = ((hash & u64::from(u32::MAX)) * places) >> 32;
        let Some(pair) = self.missed.get_mut(place as usize) else {
            return false;
        };
        let is_known = pair.contains(&part);
        *pair = [part, if pair[0] == part { pair[1] } else { pair[0] }];
        is_known
    }

    /// Invariant 3 of the module.
    pub(super) fn admit(
        &mut self,
        key: &Key<'_>,
        version: u64,
        value: &Hot,
        value_bytes: usize,
    ) -> bool {
        let bytes = ENTRY_BYTES + key.bytes.len() + value_bytes;
        if self.publishing > 0 || version != self.version || bytes > self.limit / LARGEST_SHARE {
            self.refused += 1;
            return false;
        }
        self.remove(key.hash);
        while self.bytes + bytes > self.limit
            && let Some((_, entry)) = self.entries.pop_lru()
        {
            self.bytes -= entry.bytes;
            self.evicted += 1;
        }
        let entry = Entry {
            space: key.space,
            epoch: key.epoch,
            key: key.bytes.into(),
            value: value.clone(),
            bytes,
            moved: self.admitted + 1,
        };
        self.bytes += bytes;
        self.admitted += 1;
        self.entries.put(key.hash, entry);
        true
    }

    pub(super) fn remove(&mut self, hash: u64) -> Option<Entry> {
        let entry = self.entries.pop(&hash)?;
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// A change begins to be published: nothing gets in until [`unmark`](Self::unmark), nor what
    /// was looked for before.
    pub(super) fn mark(&mut self) {
        self.version += 1;
        self.publishing += 1;
    }

    pub(super) fn unmark(&mut self) {
        self.publishing = self.publishing.saturating_sub(1);
    }

    /// Removes what a commit has changed. It is wanted back at the first miss.
    pub(super) fn supersede(&mut self, hash: u64) -> Option<Entry> {
        let entry = self.remove(hash)?;
        self.dropped += 1;
        self.note_wanted(hash);
        Some(entry)
    }

    pub(super) fn add_to(&self, stats: &mut HotStats) {
        stats.hits += self.hits;
        stats.misses += self.misses;
        stats.entries += self.entries.len() as u64;
        stats.bytes += self.bytes as u64;
        stats.admitted += self.admitted;
        stats.refused += self.refused;
        stats.evicted += self.evicted;
        stats.dropped += self.dropped;
    }
}
