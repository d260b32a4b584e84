//! One shard of the hot tier: the [values](super::values) of keys, and documents, of which the one is first to go that was
//! read longest ago.
//!
//! # Invariants
//!
//! 1. Values, documents and tables take at most `limit` bytes. (While a table grows, the old one is there too.)
//! 2. There is at most one document of a hash, at most one value of half a hash, and what is dropped for a hash are
//!    both. The key is compared on every read, so that keys of the same hash displace each other and are never
//!    taken for one another.
//! 3. Of values and documents, each is sure of half of the limit: who wants more room takes it from the
//!    other if that has more, else from its own.

use std::hash::{BuildHasherDefault, Hasher};

use lru::LruCache;

use super::key::OwnedKey;
use super::values::Values;
use super::{Hot, KEYS, SharedBytes, SharedDocument};
use crate::inspect::HotStats;

/// What a document costs beyond its key and itself: the nodes of the table and of the list, and
/// the headers of what is shared.
pub(super) const ENTRY_BYTES: usize = 192;

/// A value or a document takes at most this part of its shard.
const LARGEST_SHARE: usize = 8;

/// Two places in the table of misses for so many bytes of the limit. With more, more of the keys
/// that are read all alike get in; with fewer, a large hot set gets in slowly.
const BYTES_PER_PAIR: usize = 1024;

/// But no more than so many, 8 MiB, however large the limit.
const MOST_PAIRS: usize = 1 << 20;

/// A document is not moved to the front again until this part of them has come in since. To move
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
    document: SharedDocument,
    bytes: usize,
    /// `documents_begun` of the shard when it was last moved to the front.
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

/// What was dropped: to be freed by whoever holds no lock.
#[derive(Debug)]
pub(super) struct Removed {
    pub value: Option<SharedBytes>,
    pub document: Option<Entry>,
}

#[derive(Debug)]
pub(super) struct Shard {
    values: Values,
    documents: LruCache<u64, Entry, BuildHasherDefault<Identity>>,
    /// What the documents take.
    documents_bytes: usize,
    /// How many came in.
    documents_begun: u64,
    /// Parts of the hashes that were missed lately, each in the one pair where it can be, the
    /// later first: two keys that share a place do not keep each other out. Made when the first
    /// is missed.
    missed: Vec<[u32; 2]>,
    limit: usize,
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
            values: Values::new(limit),
            documents: LruCache::unbounded_with_hasher(BuildHasherDefault::default()),
            documents_bytes: 0,
            documents_begun: 0,
            missed: Vec::new(),
            limit,
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

    fn bytes(&self) -> usize {
        let missed = self.missed.len() * size_of::<[u32; 2]>();
        self.values.bytes() + self.documents_bytes + missed
    }

    #[inline]
    pub(super) fn get(&mut self, key: &Key<'_>) -> Option<Hot> {
        let hot = match key.space {
            KEYS => Hot::Value(self.values.get(key)?),
            _ => Hot::Document(self.document(key)?),
        };
        self.hits += 1;
        Some(hot)
    }

    fn document(&mut self, key: &Key<'_>) -> Option<SharedDocument> {
        let near_front = self.documents.len() as u64 / NEAR_FRONT_PART;
        let entry = self.documents.peek_mut(&key.hash)?;
        if !entry.is(key) {
            return None;
        }
        let document = entry.document.clone();
        if self.documents_begun - entry.moved > near_front {
            entry.moved = self.documents_begun;
            self.documents.promote(&key.hash);
        }
        Some(document)
    }

    /// Counts a miss. Answers with the version for a ticket if the value is wanted: it was missed
    /// lately too, and nothing is being published in this shard. (Taking in everything while there is room was tried: more
    /// hits, but each costs fresh memory, and reads of which 90 % are of 1 % of the keys took half as long again.)
    pub(super) fn miss(&mut self, hash: u64) -> Option<u64> {
        self.misses += 1;
        let is_wanted = self.note_wanted(hash) && self.publishing == 0;
        is_wanted.then_some(self.version)
    }

    /// Says whether the hash was noted before, and notes it.
    fn note_wanted(&mut self, hash: u64) -> bool {
        if self.missed.is_empty() {
            let pairs = (self.limit / BYTES_PER_PAIR).min(MOST_PAIRS);
            self.missed = vec![[0; 2]; pairs];
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
    pub(super) fn admit(&mut self, key: &Key<'_>, version: u64, hot: &Hot) -> bool {
        let is_current = self.publishing == 0 && version == self.version;
        let is_in = is_current && self.take_in(key, hot);
        match is_in {
            true => self.admitted += 1,
            false => self.refused += 1,
        }
        is_in
    }

    fn take_in(&mut self, key: &Key<'_>, hot: &Hot) -> bool {
        drop(self.remove(key.hash));
        match (key.space, hot) {
            (KEYS, Hot::Value(value)) => self.take_in_value(key, value),
            (KEYS, _) | (_, Hot::Value(_)) => false,
            (_, Hot::Document(document)) => self.take_in_document(key, document),
        }
    }

    fn take_in_value(&mut self, key: &Key<'_>, value: &SharedBytes) -> bool {
        let bytes = value.memory_bytes();
        if value.key() != key.bytes || bytes > self.limit / LARGEST_SHARE {
            return false;
        }
        if self.values.is_crowded() {
            self.let_values_grow(bytes);
        }
        if !self.values.has_table() || !self.make_room(bytes, true) {
            return false;
        }
        self.evicted += self.values.put(key, value.clone());
        true
    }

    /// Makes the table of values larger, if there is room for that and a value of so many bytes. (Invariant 3: there is
    /// if they are below their half.)
    fn let_values_grow(&mut self, bytes: usize) {
        let more = self.values.growth_bytes() + bytes;
        if self.values.bytes() + more <= self.limit / 2 {
            while self.bytes() + more > self.limit && self.evict_document() {
                self.evicted += 1;
            }
        }
        if self.bytes() + more <= self.limit {
            self.values.grow();
        }
    }

    fn take_in_document(&mut self, key: &Key<'_>, document: &SharedDocument) -> bool {
        let bytes = ENTRY_BYTES + key.bytes.len() + document.bytes;
        if bytes > self.limit / LARGEST_SHARE || !self.make_room(bytes, false) {
            return false;
        }
        self.documents_begun += 1;
        let entry = Entry {
            space: key.space,
            epoch: key.epoch,
            key: key.bytes.into(),
            document: document.clone(),
            bytes,
            moved: self.documents_begun,
        };
        self.documents_bytes += bytes;
        self.documents.put(key.hash, entry);
        true
    }

    /// Makes room for so many bytes. Says whether there is.
    fn make_room(&mut self, bytes: usize, for_value: bool) -> bool {
        while self.bytes() + bytes > self.limit {
            if !self.give_way(for_value) {
                return false;
            }
        }
        true
    }

    /// The next that has to go goes (invariant 3). Says whether there was something.
    fn give_way(&mut self, for_value: bool) -> bool {
        let half = self.limit / 2;
        let is_value = match (self.values.bytes() > half, self.documents_bytes > half) {
            (true, _) => true,
            (_, true) => false,
            _ => for_value,
        };
        let has_gone = match is_value || self.documents.is_empty() {
            true => self.evict_value() || self.evict_document(),
            false => self.evict_document(),
        };
        self.evicted += u64::from(has_gone);
        has_gone
    }

    fn evict_value(&mut self) -> bool {
        let has_gone = self.values.evict();
        self.evicted += self.values.shrink();
        has_gone
    }

    fn evict_document(&mut self) -> bool {
        let Some((_, entry)) = self.documents.pop_lru() else {
            return false;
        };
        self.documents_bytes -= entry.bytes;
        true
    }

    /// Takes what has this hash (invariant 2).
    pub(super) fn remove(&mut self, hash: u64) -> Removed {
        let document = self.documents.pop(&hash);
        self.documents_bytes -= document.as_ref().map_or(0, |entry| entry.bytes);
        Removed {
            value: self.values.remove(hash),
            document,
        }
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
    pub(super) fn supersede(&mut self, hash: u64) -> Option<Removed> {
        let removed = self.remove(hash);
        let count = u64::from(removed.value.is_some()) + u64::from(removed.document.is_some());
        if count == 0 {
            return None;
        }
        self.dropped += count;
        self.note_wanted(hash);
        Some(removed)
    }

    pub(super) fn add_to(&self, stats: &mut HotStats) {
        stats.hits += self.hits;
        stats.misses += self.misses;
        stats.entries += (self.values.len() + self.documents.len()) as u64;
        stats.bytes += self.bytes() as u64;
        stats.admitted += self.admitted;
        stats.refused += self.refused;
        stats.evicted += self.evicted;
        stats.dropped += self.dropped;
    }
}
