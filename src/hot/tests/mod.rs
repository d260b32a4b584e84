#![cfg(not(shuttle))] // tests/shuttle.rs has the tier under the scheduler

mod changes;
mod database;
mod tier;

use super::*;
use crate::log::Publication;

/// Repeatable random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

fn value(key: &[u8], bytes: &[u8]) -> Hot {
    Hot::Value(SharedBytes::new(key, bytes, None))
}

fn document(document: Arc<dyn Any + Send + Sync>, bytes: usize) -> Hot {
    Hot::Document(SharedDocument {
        document,
        expires_ms: None,
        bytes,
    })
}

fn bytes_of(looked: Looked) -> Option<Vec<u8>> {
    match looked {
        Looked::Hit(Hot::Value(bytes)) => Some(bytes.to_vec()),
        _ => None,
    }
}

/// A ticket for a key that was missed before.
fn ticket(tier: &HotTier, key: &[u8]) -> Option<Ticket> {
    for _ in 0..2 {
        if let Looked::Miss(Some(ticket)) = tier.lookup(KEYS, key) {
            return Some(ticket);
        }
    }
    None
}

fn store(tier: &HotTier, key: &[u8], bytes: &[u8]) -> bool {
    let ticket = ticket(tier, key).expect("a ticket");
    tier.admit(ticket, KEYS, key, &value(key, bytes))
}

fn change(tier: &Arc<HotTier>, keys: &[&[u8]]) -> Box<dyn Publication> {
    let mut touched = Touched::default();
    keys.iter()
        .for_each(|key| touched.add(tier.hash(KEYS, key)));
    touched.notice(tier).expect("something touched")
}

fn tier(limit: usize) -> Arc<HotTier> {
    Arc::new(HotTier::new(limit, 7))
}

/// Keys of different shards, and then two of the same.
fn keys_by_shard(tier: &HotTier) -> ([u8; 8], [u8; 8], [u8; 8]) {
    let of = |n: u64| (tier.shard_index(tier.hash(KEYS, &n.to_le_bytes())), n);
    let first = of(0);
    let same = (1..).map(of).find(|(shard, _)| *shard == first.0);
    let other = (1..).map(of).find(|(shard, _)| *shard != first.0);
    let bytes = |found: Option<(usize, u64)>| found.expect("a key").1.to_le_bytes();
    (bytes(Some(first)), bytes(same), bytes(other))
}
