//! One shard of the hot tier: the values of keys, and documents, the one first to go that was read longest ago.
//!
//! # Invariants
//!
//! 1. Values, documents and tables take at most `limit` bytes.
//! 2. There is at most one value or document of a hash. The key is compared on every read, so that keys of
//!    the same hash displace each other and are never taken for one another.
//! 3. Of values and documents, each is sure of half of the limit: who wants more room takes it from the
//!    other if that has more, else from its own.

use std::hash::{BuildHasherDefault, Hasher};

use lru::LruCache;

use super::key::OwnedKey;
use super::values::Values;
use super::{Document, Hot, KEYS, SharedBytes};
use crate::inspect::HotStats;

/// What a document costs beyond its key and itself: the nodes of the table and of the list, and
/// the headers of what is shared.
pub(super) const ENTRY_BYTES: usize = 192;

/// A value or a document takes at most this part of its shard.
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
    document: Document,
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

/// What was dropped: to be freed by whoever holds no lock.
#[derive(Debug)]
#[allow(dead_code)] // it is only dropped
pub(super) enum Removed {
    Value(SharedBytes),
    Document(Entry),
}

#[derive(Debug)]
pub(super) struct Shard {
    values: Values,
    documents: LruCache<u64, Entry, BuildHasherDefault<Identity>>,
    /// What the documents take.
    document_bytes: usize,
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
            document_bytes: 0,
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
        self.values.bytes() + self.document_bytes + missed
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

    fn document(&mut self, key: &Key<'_>) -> Option<Document> {
        let near_front = self.documents.len() as u64 / NEAR_FRONT_PART;
        let entry = self.documents.peek_mut(&key.hash)?;
        if !entry.is(key) {
            return None;
        }
        let document = entry.document.clone();
        if self.admitted - entry.moved > near_front {
            entry.moved = self.admitted;
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
            self.missed = vec![[0; 2]; self.limit / BYTES_PER_PAIR];
            self.make_room(0, true);
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
        let is_current = self.publishing == 0 && version == self.version;
        if is_current && self.take_in(key, value, value_bytes) {
            self.admitted += 1;
            return true;
        }
        self.refused += 1;
        false
    }

    fn take_in(&mut self, key: &Key<'_>, hot: &Hot, document_bytes: usize) -> bool {
        drop(self.remove(key.hash));
        match hot {
            Hot::Value(value) => self.take_in_value(key, value),
            Hot::Document(document) => self.take_in_document(key, document, document_bytes),
        }
    }

    fn take_in_value(&mut self, key: &Key<'_>, value: &SharedBytes) -> bool {
        let bytes = value.memory_bytes();
        let is_own = key.space == KEYS && value.key() == key.bytes;
        if !is_own || bytes > self.limit / LARGEST_SHARE {
            return false;
        }
        if self.values.is_crowded() {
            let growth_bytes = self.values.growth_bytes();
            if self.bytes() + growth_bytes + bytes <= self.limit {
                self.values.grow();
            }
        }
        if !self.values.has_table() || !self.make_room(bytes, true) {
            return false;
        }
        self.evicted += u64::from(self.values.put(key, value.clone()));
        true
    }

    fn take_in_document(&mut self, key: &Key<'_>, document: &Document, bytes: usize) -> bool {
        let bytes = ENTRY_BYTES + key.bytes.len() + bytes;
        if bytes > self.limit / LARGEST_SHARE || !self.make_room(bytes, false) {
            return false;
        }
        let entry = Entry {
            space: key.space,
            epoch: key.epoch,
            key: key.bytes.into(),
            document: document.clone(),
            bytes,
            moved: self.admitted + 1,
        };
        self.document_bytes += bytes;
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
        let is_value = match (self.values.bytes() > half, self.document_bytes > half) {
            (true, _) => true,
            (_, true) => false,
            _ => for_value,
        };
        let has_gone = match is_value || self.documents.is_empty() {
            true => self.values.evict() || self.evict_document(),
            false => self.evict_document(),
        };
        self.evicted += u64::from(has_gone);
        has_gone
    }

    fn evict_document(&mut self) -> bool {
        let Some((_, entry)) = self.documents.pop_lru() else {
            return false;
        };
        self.document_bytes -= entry.bytes;
        true
    }

    /// Takes what has this hash.
    pub(super) fn remove(&mut self, hash: u64) -> Option<Removed> {
        if let Some(value) = self.values.remove(hash) {
            return Some(Removed::Value(value));
        }
        let entry = self.documents.pop(&hash)?;
        self.document_bytes -= entry.bytes;
        Some(Removed::Document(entry))
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
        let removed = self.remove(hash)?;
        self.dropped += 1;
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
