//! What a transaction touched, and how the tier learns of it when that is published.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::HotTier;
use super::shard::Removed;
use crate::log::Publication;
use crate::txn::write::WriteTransaction;

/// A transaction that touches more than this empties the tier: it is the log's lock under which
/// the tier learns of it.
const MANY: usize = 1 << 15;

/// The hashes and spaces that a transaction changed, or may have changed. Nothing is allocated
/// for one that changes none.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(super) hashes: Vec<u64>,
    pub(super) spaces: Vec<u32>,
    everything: bool,
}

impl WriteTransaction {
    /// Says that a key of a space changes, or may change, with this transaction. To be called for
    /// every change of something that is ever read through the hot tier.
    pub(crate) fn touch(&mut self, space: u32, key: &[u8]) {
        let hot = &self.handle().hot;
        if hot.is_off() {
            return;
        }
        let hash = hot.hash(space, key);
        self.touched.add(hash);
    }

    /// Like [`touch`](Self::touch) for every key of a space. Costs the same however many there
    /// are.
    pub(crate) fn touch_space(&mut self, space: u32) {
        if !self.handle().hot.is_off() && !self.touched.spaces.contains(&space) {
            self.touched.spaces.push(space);
        }
    }
}

impl Touched {
    pub(super) fn add(&mut self, hash: u64) {
        if self.everything || self.hashes.last() == Some(&hash) {
            return;
        }
        self.hashes.push(hash);
        if self.hashes.len() > MANY {
            self.hashes = Vec::new();
            self.everything = true;
        }
    }

    /// What is to travel with the commit: nothing if nothing was touched.
    pub(crate) fn notice(&mut self, tier: &Arc<HotTier>) -> Option<Box<dyn Publication>> {
        let Touched {
            mut hashes,
            spaces,
            everything,
        } = std::mem::take(self);
        if hashes.is_empty() && spaces.is_empty() && !everything {
            return None;
        }
        hashes.sort_unstable_by_key(|hash| (tier.shard_index(*hash), *hash));
        hashes.dedup();
        Some(Box::new(Change {
            tier: tier.clone(),
            hashes,
            spaces,
            everything,
            marked: 0,
            superseded: Vec::new(),
        }))
    }
}

/// A commit's touched keys on their way to being published.
#[derive(Debug)]
struct Change {
    tier: Arc<HotTier>,
    /// Ordered by shard.
    hashes: Vec<u64>,
    spaces: Vec<u32>,
    everything: bool,
    /// A bit for each shard that is marked.
    marked: u64,
    /// Freed with the change, when the log's lock is not held any more.
    superseded: Vec<Removed>,
}

impl Change {
    fn is_wide(&self) -> bool {
        self.everything || !self.spaces.is_empty()
    }
}

impl Publication for Change {
    fn before(&mut self) {
        let is_wide = self.is_wide();
        let mut rest = &self.hashes[..];
        for (index, shard) in self.tier.shards.iter().enumerate() {
            let is_here = |hash: &u64| self.tier.shard_index(*hash) == index;
            let (here, others) = rest.split_at(rest.partition_point(is_here));
            rest = others;
            if here.is_empty() && !is_wide {
                continue;
            }
            let mut shard = shard.0.lock();
            shard.mark();
            self.marked |= 1 << index;
            let gone = here.iter().filter_map(|hash| shard.supersede(*hash));
            self.superseded.extend(gone);
        }
        // Invariant 6: after all shards were marked.
        let epochs = self.tier.epochs.iter();
        if self.everything {
            epochs.for_each(|epoch| _ = epoch.fetch_add(1, Ordering::AcqRel));
        } else {
            for space in &self.spaces {
                self.tier.epoch(*space).fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    fn after(&mut self) {
        for (index, shard) in self.tier.shards.iter().enumerate() {
            if self.marked & (1 << index) != 0 {
                shard.0.lock().unmark();
            }
        }
        self.marked = 0;
    }
}

/// Invariant 7.
impl Drop for Change {
    fn drop(&mut self) {
        self.after();
    }
}
