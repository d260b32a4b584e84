#![cfg(not(shuttle))] // tests/shuttle.rs has the tier under the scheduler

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::clock::Clock;
use crate::log::Publication;
use crate::storage::{MemoryStorage, SimDisk};
use crate::{Aurora, Builder, Durability, Result};

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

#[test]
fn a_key_gets_in_with_its_second_miss() {
    let tier = tier(1 << 20);
    assert!(matches!(tier.lookup(KEYS, b"k"), Looked::Miss(None)));
    let Looked::Miss(Some(ticket)) = tier.lookup(KEYS, b"k") else {
        panic!("no ticket")
    };
    assert!(tier.admit(ticket, KEYS, b"k", &value(b"k", b"v")));
    assert_eq!(
        bytes_of(tier.lookup(KEYS, b"k")).as_deref(),
        Some(&b"v"[..])
    );
    assert!(
        matches!(tier.lookup(5, b"k"), Looked::Miss(_)),
        "a space of its own"
    );
    let stats = tier.stats();
    assert_eq!((stats.hits, stats.misses, stats.admitted), (1, 3, 1));
    tier.forget(KEYS, b"k");
    assert_eq!(bytes_of(tier.lookup(KEYS, b"k")), None);
    assert_eq!(tier.stats().entries, 0);
}

/// Fills the tier with values. Returns how many came in.
fn fill(tier: &HotTier, value_bytes: usize) -> u64 {
    let mut n = 0u64;
    let limit = tier.limit_bytes as u64;
    while tier.stats().bytes + limit / 64 < limit {
        n += 1;
        assert!(store(tier, &n.to_be_bytes(), &vec![7; value_bytes]));
    }
    n
}

#[test]
fn what_is_read_stays_longer_than_what_is_not() {
    let tier = tier(1 << 20);
    let last = fill(&tier, 100);
    let at = |n: u64| bytes_of(tier.lookup(KEYS, &n.to_be_bytes()));
    let read = || (1..=last).filter(|n| n % 10 == 0);
    let there = || read().filter(|n| at(*n).is_some()).count();
    let before = there();
    assert!(before as u64 > last / 10 * 9 / 10);
    for n in last + 1..4 * last {
        assert!(store(&tier, &n.to_be_bytes(), &[7; 100]));
        if n % (last / 8) == 0 {
            there();
        }
    }
    assert!(there() > before * 9 / 10);
    let others = (1..=last).filter(|n| n % 10 != 0 && at(*n).is_some());
    assert_eq!(others.count(), 0);
    // All of it read again and again does not keep others out.
    for n in 10 * last..11 * last {
        assert!(store(&tier, &n.to_be_bytes(), &[7; 100]));
        assert!(at(n).is_some() && at(n).is_some());
    }
    assert!(tier.stats().bytes <= 1 << 20);
}

#[test]
fn values_of_all_lengths_are_as_they_were_stored() {
    let tier = tier(4 << 20);
    let mut random = Random(8);
    let mut model = std::collections::BTreeMap::new();
    for _ in 0..60_000 {
        let n = random.below(8_000);
        let mut key = vec![1; n as usize % 100];
        key.extend(n.to_le_bytes());
        if random.below(20) == 0 {
            let mut changed = change(&tier, &[&key]);
            changed.before();
            changed.after();
            model.remove(&key);
        }
        match tier.lookup(KEYS, &key) {
            Looked::Hit(Hot::Value(found)) => {
                let known: &(Vec<u8>, Option<u64>) = model.get(&key).expect("was stored");
                assert_eq!((&*found, found.expires_ms()), (&known.0[..], known.1));
            }
            Looked::Miss(Some(ticket)) => {
                let bytes = vec![random.below(256) as u8; random.below(1_500) as usize];
                let expires_ms = (random.below(2) == 0).then(|| random.below(1 << 40));
                let hot = Hot::Value(SharedBytes::new(&key, &bytes, expires_ms));
                if tier.admit(ticket, KEYS, &key, &hot) {
                    model.insert(key, (bytes, expires_ms));
                }
            }
            _ => {}
        }
    }
    let stats = tier.stats();
    assert!(stats.hits > 1_000 && stats.evicted > 1_000, "{stats:?}");
}

/// The values of a shard beside a model: each get finds what was put last or nothing, and the counts are exact.
#[test]
fn a_table_of_values_counts_what_it_has() {
    let mut values = super::values::Values::new(64 << 10);
    let mut random = Random(4);
    let mut model = std::collections::BTreeMap::new();
    let mut epoch = 0;
    for _ in 0..50_000 {
        let n = random.below(3_000);
        let bytes = n.to_le_bytes();
        let key = Key {
            hash: n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            space: KEYS,
            epoch,
            bytes: &bytes,
        };
        match random.below(8) {
            0..3 => {
                values.remove(key.hash);
                if values.is_crowded() && values.len() < 2_000 {
                    let before = values.bytes();
                    let growth = values.growth_bytes();
                    values.grow();
                    assert_eq!(values.bytes(), before + growth);
                }
                let value = SharedBytes::new(&bytes, &vec![1; random.below(90) as usize], None);
                values.put(&key, value.clone());
                assert!(
                    values
                        .get(&key)
                        .is_some_and(|found| std::ptr::eq(&*found, &*value))
                );
                model.insert(n, (epoch, value));
            }
            3 => {
                if let Some(removed) = values.remove(key.hash) {
                    assert_eq!(model[&n].1, removed);
                }
                model.remove(&n);
            }
            4 => {
                let before = values.len();
                assert_eq!(values.evict(), before > 0);
                assert_eq!(values.len(), before.saturating_sub(1));
            }
            _ => {
                if let Some(found) = values.get(&key) {
                    assert_eq!(model[&n], (epoch, found));
                }
            }
        }
        if random.below(5_000) == 0 {
            // A few epochs later, or so many that they cannot be told apart in a slot.
            epoch += [1, 1 << 16, 1 << 40][random.below(3) as usize];
        }
    }
    let len = values.len();
    assert!(len > 100);
    for left in (0..len).rev() {
        assert!(values.evict());
        assert_eq!(values.len(), left);
    }
    assert!(!values.evict());
    let empty = values.bytes();
    values.grow();
    assert_eq!(
        values.bytes(),
        2 * empty,
        "nothing but the table is counted"
    );
}

#[test]
fn values_and_documents_take_room_from_each_other() {
    let limit = 1 << 20;
    for documents_first in [false, true] {
        let tier = tier(limit);
        let documents = |range: std::ops::Range<u64>| {
            for key in range.map(u64::to_be_bytes) {
                drop(tier.lookup(3, &key));
                if let Looked::Miss(Some(ticket)) = tier.lookup(3, &key) {
                    tier.admit(ticket, 3, &key, &document(Arc::new(key), 1_000));
                }
            }
        };
        let values = |range: std::ops::Range<u64>| {
            for n in range {
                assert!(store(&tier, &n.to_be_bytes(), &[7; 100]));
            }
        };
        let found = |space: u32, range: std::ops::Range<u64>| {
            let hit = |n: &u64| matches!(tier.lookup(space, &n.to_be_bytes()), Looked::Hit(_));
            range.filter(hit).count()
        };
        // Alone, each takes all; then the other takes half of it.
        match documents_first {
            false => {
                values(0..20_000);
                assert!(found(KEYS, 0..20_000) > limit / 300);
                documents(0..10_000);
            }
            true => {
                documents(0..10_000);
                assert!(found(3, 0..10_000) > limit / 1_400);
                values(0..20_000);
            }
        }
        for _ in 0..2 {
            let of_values = found(KEYS, 0..80_000);
            assert!(
                (limit / 600..limit / 350).contains(&of_values),
                "{of_values}"
            );
            let of_documents = found(3, 0..10_000);
            assert!(
                (limit / 2_800..limit / 2_000).contains(&of_documents),
                "{of_documents}"
            );
            // And it stays so.
            values(20_000..80_000);
        }
        assert!(tier.stats().bytes <= limit as u64);
    }
}

/// What a change of very many keys has left cannot be found any more, and goes before all else, read or not.
#[test]
fn what_is_of_an_old_epoch_goes_first() {
    let mut values = super::values::Values::new(64 << 10);
    values.grow();
    let bytes: Vec<[u8; 8]> = (0..32u64).map(u64::to_le_bytes).collect();
    let key = |n: usize, epoch| Key {
        hash: (n as u64) << 8, // all in one set
        space: KEYS,
        epoch,
        bytes: &bytes[n],
    };
    let put = |values: &mut super::values::Values, n, epoch| {
        values.put(&key(n, epoch), SharedBytes::new(&bytes[n], b"v", None))
    };
    for n in 0..8 {
        assert_eq!(put(&mut values, n, 0), 0);
        assert!(values.get(&key(n, 0)).is_some());
    }
    for n in 8..12 {
        assert_eq!(put(&mut values, n, 1), 1);
    }
    assert!((8..12).all(|n| values.get(&key(n, 1)).is_some()));
    // And the hand takes those that are left.
    for _ in 0..4 {
        assert!(values.evict());
    }
    assert!((8..12).all(|n| values.get(&key(n, 1)).is_some()));
    assert_eq!(values.len(), 4);
}

#[test]
fn a_table_for_many_values_becomes_smaller_for_few() {
    let tier = tier(1 << 20);
    for n in 0..20_000u64 {
        assert!(store(&tier, &n.to_be_bytes(), b""));
    }
    assert!(tier.stats().entries > 5_000);
    for n in 20_000..20_300u64 {
        assert!(store(&tier, &n.to_be_bytes(), &[7; 60_000]));
    }
    // With a table as large as before it would be 12 or 13 of them.
    assert!(tier.stats().entries >= 15, "{:?}", tier.stats());
}

/// A value and a document whose hashes are the same in the half that values are told apart by.
#[test]
fn a_change_drops_all_that_may_be_meant() {
    let mut shard = Shard::new(1 << 20);
    let key = |space, hash, bytes| Key {
        hash,
        space,
        epoch: 0,
        bytes,
    };
    let of_document = key(1, 9, b"d");
    let of_value = key(KEYS, 9 | 1 << 33, b"v");
    let empty = |shard: &Shard| {
        let mut stats = HotStats::default();
        shard.add_to(&mut stats);
        assert_eq!(
            (stats.entries, stats.bytes),
            (0, 24 << 10),
            "the tables only"
        );
    };
    for of_change in [&of_document, &of_value] {
        assert!(shard.admit(&of_document, 0, &document(Arc::new(1), 100)));
        assert!(shard.admit(&of_value, 0, &value(b"v", b"1")));
        assert!(shard.get(&of_document).is_some() && shard.get(&of_value).is_some());
        drop(shard.supersede(of_change.hash));
        assert!(shard.get(of_change).is_none());
        drop(shard.remove(of_document.hash));
        drop(shard.remove(of_value.hash));
    }
    empty(&shard);
}

/// A shard beside a model, with hashes that collide in half or as a whole: what it answers is what was stored last
/// and not changed since; nothing is over the limit, and nothing is counted that is not there.
#[test]
fn a_shard_answers_as_a_model_and_counts_exactly() {
    // A value and a document have the same, and four of each the same half.
    let hash_of = |n: u64| (n & 0xfe) << 33 | n >> 3;
    let limit = 128 << 10;
    let mut shard = Shard::new(limit);
    let mut random = Random(11);
    let mut model = std::collections::BTreeMap::new();
    let mut epochs = [0u64; 2];
    let bytes_of = |shard: &Shard| {
        let mut stats = HotStats::default();
        shard.add_to(&mut stats);
        stats.bytes as usize
    };
    let mut hits = [0; 2];
    for _ in 0..200_000 {
        let n = random.below(1 << 12);
        let hash = hash_of(n);
        let space = n as u32 & 1;
        let id = n.to_le_bytes();
        let key = Key {
            hash,
            space,
            epoch: epochs[space as usize],
            bytes: &id,
        };
        match random.below(8) {
            0..2 => {
                let content = vec![random.below(256) as u8; random.below(200) as usize];
                let hot = match space {
                    KEYS => value(&id, &content),
                    _ => document(Arc::new(content.clone()), content.len()),
                };
                if shard.admit(&key, 0, &hot) {
                    model.insert(n, (key.epoch, content));
                }
            }
            2 => {
                drop(shard.supersede(hash));
                model.retain(|n, _| hash_of(*n) != hash);
            }
            _ => {
                let found = match shard.get(&key) {
                    Some(Hot::Value(value)) => value.to_vec(),
                    Some(Hot::Document(found)) => found
                        .document
                        .downcast_ref::<Vec<u8>>()
                        .expect("bytes")
                        .clone(),
                    None => continue,
                };
                assert_eq!(model.get(&n), Some(&(key.epoch, found)));
                hits[space as usize] += 1;
            }
        }
        assert!(bytes_of(&shard) <= limit);
        if random.below(20_000) == 0 {
            epochs[random.below(2) as usize] += [1, 1 << 16][random.below(2) as usize];
        }
    }
    assert!(hits.iter().all(|hits| *hits > 1_000), "{hits:?}");
    for n in 0..1 << 12 {
        drop(shard.remove(hash_of(n)));
    }
    let mut stats = HotStats::default();
    shard.add_to(&mut stats);
    assert_eq!(stats.entries, 0);
    let left = bytes_of(&shard);
    let table_of_misses = limit / 1024 * 8;
    assert!((left - table_of_misses).is_power_of_two(), "{left}");
}

#[test]
fn documents_are_shared() {
    let tier = tier(1 << 20);
    let document: Arc<dyn Any + Send + Sync> = Arc::new(vec![1, 2, 3]);
    let hot = self::document(document.clone(), 24);
    assert!(matches!(tier.lookup(5, b"id"), Looked::Miss(None)));
    let Looked::Miss(Some(ticket)) = tier.lookup(5, b"id") else {
        panic!("no ticket")
    };
    assert!(tier.admit(ticket, 5, b"id", &hot));
    let Looked::Hit(Hot::Document(found)) = tier.lookup(5, b"id") else {
        panic!("not there")
    };
    assert!(Arc::ptr_eq(&document, &found.document));
}

#[test]
fn values_are_shared() {
    let tier = tier(1 << 20);
    assert!(store(&tier, b"k", b"v"));
    let hit = || match tier.lookup(KEYS, b"k") {
        Looked::Hit(Hot::Value(value)) => value,
        _ => panic!("not there"),
    };
    let (first, second) = (hit(), hit());
    assert!(std::ptr::eq(&first[..], &second[..]));
    let mut changed = change(&tier, &[b"k"]);
    changed.before();
    changed.after();
    assert_eq!(first, b"v", "whoever has it keeps it");
}

#[test]
fn a_tier_of_no_bytes_is_off() {
    let tier = tier(0);
    for _ in 0..3 {
        assert!(matches!(tier.lookup(KEYS, b"k"), Looked::Miss(None)));
    }
    assert_eq!(tier.stats(), HotStats::default());
}

#[test]
fn what_was_read_before_a_change_does_not_get_in() {
    let tier = tier(8 << 20);
    let (key, same, other) = keys_by_shard(&tier);
    // From before to after the change.
    let early = ticket(&tier, &key).expect("a ticket");
    let mut changed = change(&tier, &[&key]);
    changed.before();
    changed.after();
    assert!(!tier.admit(early, KEYS, &key, &value(&key, b"old")));
    // From before into the change.
    let early = ticket(&tier, &key).expect("a ticket");
    let mut changed = change(&tier, &[&key]);
    changed.before();
    assert!(!tier.admit(early, KEYS, &key, &value(&key, b"old")));
    // Within it.
    assert!(ticket(&tier, &key).is_none());
    assert!(ticket(&tier, &same).is_none());
    assert!(store(&tier, &other, b"other"), "no business of this shard");
    changed.after();
    assert!(store(&tier, &key, b"new"));
    assert_eq!(
        bytes_of(tier.lookup(KEYS, &key)).as_deref(),
        Some(&b"new"[..])
    );
    assert_eq!(tier.stats().refused, 2);
}

#[test]
fn a_change_drops_what_it_touches_before_it_is_published() {
    let tier = tier(8 << 20);
    let (key, same, other) = keys_by_shard(&tier);
    for key in [&key, &same, &other] {
        assert!(store(&tier, key, b"old"));
    }
    let mut changed = change(&tier, &[&key, &key]);
    assert_eq!(
        bytes_of(tier.lookup(KEYS, &key)).as_deref(),
        Some(&b"old"[..])
    );
    changed.before();
    assert_eq!(bytes_of(tier.lookup(KEYS, &key)), None);
    for key in [&same, &other] {
        assert_eq!(
            bytes_of(tier.lookup(KEYS, key)).as_deref(),
            Some(&b"old"[..])
        );
    }
    changed.after();
    assert!(
        matches!(tier.lookup(KEYS, &key), Looked::Miss(Some(_))),
        "wanted back at once"
    );
}

#[test]
fn two_changes_of_one_shard_overlap() {
    let tier = tier(8 << 20);
    let (key, same, _) = keys_by_shard(&tier);
    let (mut first, mut second) = (change(&tier, &[&key]), change(&tier, &[&same]));
    first.before();
    second.before();
    first.after();
    assert!(ticket(&tier, &key).is_none());
    second.after();
    assert!(ticket(&tier, &key).is_some());
}

#[test]
fn a_change_that_is_dropped_half_way_leaves_nothing_marked() {
    let tier = tier(8 << 20);
    let mut changed = change(&tier, &[b"k"]);
    changed.before();
    drop(changed);
    assert!(store(&tier, b"k", b"v"));
    drop(change(&tier, &[b"k"])); // never published
    assert_eq!(
        bytes_of(tier.lookup(KEYS, b"k")).as_deref(),
        Some(&b"v"[..])
    );
}

#[test]
fn a_space_is_dropped_as_a_whole() {
    let tier = tier(8 << 20);
    let put = |space: u32, n: u64| {
        let key = n.to_le_bytes();
        let _ = tier.lookup(space, &key);
        let Looked::Miss(Some(ticket)) = tier.lookup(space, &key) else {
            panic!("no ticket")
        };
        let hot = match space {
            KEYS => value(&key, &key),
            _ => document(Arc::new(key), 8),
        };
        assert!(tier.admit(ticket, space, &key, &hot));
    };
    let count = |space| {
        let keys = 0..100u64;
        keys.filter(|n| matches!(tier.lookup(space, &n.to_le_bytes()), Looked::Hit(_)))
            .count()
    };
    for (space, n) in (0..300u64).map(|n| (n as u32 % 3, n / 3)) {
        put(space, n);
    }
    let early = ticket(&tier, b"k").expect("a ticket");
    let mut touched = Touched::default();
    touched.spaces.push(1);
    let mut changed = touched.notice(&tier).expect("a notice");
    assert_eq!([0, 1, 2].map(count), [100, 100, 100]);
    changed.before();
    assert_eq!([0, 1, 2].map(count), [100, 0, 100]);
    assert!(!tier.admit(early, KEYS, b"k", &value(b"k", b"v")));
    changed.after();
    assert_eq!([0, 1, 2].map(count), [100, 0, 100]);
    put(1, 5);
    assert_eq!(count(1), 1);
    let mut touched = Touched::default();
    touched.spaces.push(KEYS);
    let mut changed = touched.notice(&tier).expect("a notice");
    changed.before();
    changed.after();
    assert_eq!([0, 1, 2].map(count), [0, 1, 100]);
    put(KEYS, 5);
    assert_eq!(count(KEYS), 1);
}

#[test]
fn a_change_of_very_many_keys_drops_everything() {
    let tier = tier(8 << 20);
    assert!(store(&tier, b"k", b"v"));
    let mut touched = Touched::default();
    (0..100_000).for_each(|hash| touched.add(hash));
    assert_eq!(touched.hashes.len(), 0);
    let mut changed = touched.notice(&tier).expect("a notice");
    changed.before();
    assert_eq!(bytes_of(tier.lookup(KEYS, b"k")), None);
    changed.after();
    assert_eq!(bytes_of(tier.lookup(KEYS, b"k")), None);
    assert!(store(&tier, b"k", b"w"));
}

#[test]
fn keys_of_one_hash_are_not_taken_for_one_another() {
    let mut shard = Shard::new(1 << 20);
    let key = |bytes: &'static [u8]| Key {
        hash: 9,
        space: KEYS,
        epoch: 0,
        bytes,
    };
    assert!(shard.admit(&key(b"a"), 0, &value(b"a", b"1")));
    assert!(shard.get(&key(b"b")).is_none());
    let bytes = shard.admit(&key(b"b"), 0, &value(b"b", b"2"));
    assert!(bytes && shard.get(&key(b"a")).is_none() && shard.get(&key(b"b")).is_some());
    assert!(shard.remove(9).value.is_some());
    // A document displaces a value, and the other way around.
    let of_document = Key {
        space: 1,
        ..key(b"a")
    };
    assert!(shard.admit(&key(b"a"), 0, &value(b"a", b"1")));
    assert!(shard.admit(&of_document, 0, &document(Arc::new(1), 1)));
    assert!(shard.get(&key(b"a")).is_none() && shard.get(&of_document).is_some());
    assert!(shard.admit(&key(b"a"), 0, &value(b"a", b"1")));
    assert!(shard.get(&key(b"a")).is_some() && shard.get(&of_document).is_none());
    shard.remove(9);
    let mut stats = HotStats::default();
    shard.add_to(&mut stats);
    assert_eq!(stats.entries, 0);
}

#[test]
fn the_limit_is_kept() {
    for limit in [1, 1000, 300 << 10, 1 << 20, 5 << 20] {
        let tier = tier(limit);
        let mut random = Random(limit as u64);
        for _ in 0..30_000 {
            let key = random.below(3000).to_le_bytes();
            let length = 1 << random.below(19);
            if let Looked::Miss(Some(ticket)) = tier.lookup(KEYS, &key) {
                tier.admit(ticket, KEYS, &key, &value(&key, &vec![1; length]));
            }
            if random.below(50) == 0 {
                let mut changed = change(&tier, &[&key]);
                changed.before();
                changed.after();
            }
            if random.below(100) == 0 {
                assert!(
                    tier.stats().bytes <= limit as u64,
                    "{limit}: {:?}",
                    tier.stats()
                );
            }
        }
        let stats = tier.stats();
        assert!(stats.bytes <= limit as u64);
        if limit > 1000 {
            assert!(stats.bytes > limit as u64 / 2, "{limit}: {stats:?}");
            let all = [stats.refused, stats.evicted, stats.dropped];
            assert!(!all.contains(&0), "{stats:?}");
        }
    }
}

fn builder() -> Builder {
    Aurora::builder().background(false).salt(3)
}

fn open(builder: Builder) -> Aurora {
    let storage = Arc::new(MemoryStorage::new());
    builder.open_storage(storage).expect("open")
}

fn put(db: &Aurora, key: &[u8], value: &[u8]) {
    db.write(|tx| tx.put(key, value, None)).expect("put");
}

fn get(db: &Aurora, key: &[u8]) -> Option<Vec<u8>> {
    db.get(key).expect("get").map(|value| value.to_vec())
}

/// Reads until it is answered by the tier.
fn warm(db: &Aurora, key: &[u8]) {
    let before = db.handle.hot.stats().hits;
    for _ in 0..3 {
        get(db, key);
    }
    assert!(db.handle.hot.stats().hits > before);
}

#[test]
fn a_scan_does_not_wash_out_what_is_hot() {
    let db = open(builder().hot_limit(1 << 20));
    let keys = 10_000u64;
    db.write(|tx| (0..keys).try_for_each(|n| tx.put(n.to_le_bytes(), [7; 200], None)))
        .expect("load");
    let hot = || (0..keys).step_by(100);
    (0..3).for_each(|_| hot().for_each(|n| _ = get(&db, &n.to_le_bytes())));
    for round in 0..20 {
        (0..keys).for_each(|n| _ = get(&db, &n.to_le_bytes()));
        let before = db.stats().expect("stats").hot;
        hot().for_each(|n| _ = get(&db, &n.to_le_bytes()));
        let hits = db.handle.hot.stats().hits - before.hits;
        assert!(hits >= 98, "round {round}: {hits} of 100, {before:?}");
        assert!(before.bytes <= before.limit_bytes);
    }
    // And with reads of everything in between, in no order.
    let mut random = Random(5);
    let before = db.handle.hot.stats();
    for n in (0..100).flat_map(|_| hot()) {
        get(&db, &n.to_le_bytes());
        get(&db, &random.below(keys).to_le_bytes());
    }
    let hits = db.handle.hot.stats().hits - before.hits;
    assert!(hits >= 9_900, "{hits} of 20,000");
}

#[test]
fn commits_of_every_kind_are_seen_at_once() {
    let db = open(builder().log_limit(64 << 10));
    put(&db, b"k", b"0");
    let mut n = 0u8;
    for kind in 0..6 {
        for _ in 0..3 {
            warm(&db, b"k");
            n += 1;
            let mut tx = db.begin_write().expect("begin");
            tx.put(b"k", [n], None).expect("put");
            match kind {
                0 => tx.commit().expect("commit"),
                1 => {
                    tx.set_durability(Durability::Buffered);
                    tx.commit().expect("commit");
                }
                2 => tx.commit_async().expect("commit").wait().expect("wait"),
                3 => {
                    tx.commit_by_checkpoint();
                    tx.commit().expect("commit");
                }
                4 => {
                    // Published by a checkpoint, not by whoever waits.
                    drop(tx.commit_async().expect("commit"));
                    assert_eq!(get(&db, b"k"), Some(vec![n - 1]));
                    db.checkpoint().expect("checkpoint");
                }
                _ => {
                    // Published by a later commit that does not wait.
                    drop(tx.commit_async().expect("commit"));
                    assert_eq!(get(&db, b"k"), Some(vec![n - 1]));
                    let mut tx = db.begin_write().expect("begin");
                    tx.set_durability(Durability::Buffered);
                    tx.tree("other")
                        .and_then(|mut t| t.put("a", "b"))
                        .expect("put");
                    tx.commit().expect("commit");
                }
            }
            assert_eq!(get(&db, b"k"), Some(vec![n]), "kind {kind}");
        }
    }
    db.flush().expect("flush");
    assert_eq!(get(&db, b"k"), Some(vec![n]));
    db.compact().expect("compact");
    assert_eq!(get(&db, b"k"), Some(vec![n]));
    warm(&db, b"k");
    db.write(|tx| {
        tx.touch_space(KEYS);
        tx.system_tree(crate::keys::store::KEYS)?.clear()
    })
    .expect("clear");
    assert_eq!(get(&db, b"k"), None);
}

#[test]
fn what_is_rolled_back_changes_nothing() {
    let db = open(builder());
    put(&db, b"k", b"old");
    warm(&db, b"k");
    let mut tx = db.begin_write().expect("begin");
    tx.put(b"k", b"new", None).expect("put");
    drop(tx);
    let before = db.handle.hot.stats().hits;
    assert_eq!(get(&db, b"k"), Some(b"old".to_vec()));
    assert_eq!(db.handle.hot.stats().hits, before + 1);
}

#[test]
fn a_commit_that_fails_changes_nothing() {
    let disk = SimDisk::new(5);
    let db = builder().open_storage(disk.storage()).expect("open");
    put(&db, b"k", b"old");
    warm(&db, b"k");
    disk.crash_after(0);
    let failed: Result<()> = db.write(|tx| tx.put(b"k", b"new", None));
    failed.expect_err("the disk is gone");
    let before = db.handle.hot.stats().hits;
    assert_eq!(get(&db, b"k"), Some(b"old".to_vec()));
    assert_eq!(db.handle.hot.stats().hits, before + 1);
    assert!(
        store(&db.handle.hot, b"another", b"v"),
        "a shard stayed marked"
    );
}

/// A buffered commit may be published although a full one below it has failed meanwhile.
#[test]
fn a_state_on_top_of_one_that_failed_brings_its_changes_too() {
    let db = open(builder());
    put(&db, b"k", b"old");
    warm(&db, b"k");
    let engine = &db.handle.engine;
    let mut tx = db.begin_write().expect("begin");
    tx.put(b"k", b"new", None).expect("put");
    drop(tx.commit_async().expect("commit")); // waits for the disk
    engine.log.poison(&crate::Error::Closed);
    assert_eq!(get(&db, b"k"), Some(b"old".to_vec()));
    let (current, version) = engine.next_version();
    let trees = current.trees.clone();
    let state = Arc::new(crate::txn::state::State { version, trees });
    engine.log.publish(state, 0, true, None);
    assert_eq!(get(&db, b"k"), Some(b"new".to_vec()));
}

#[test]
fn what_expires_is_gone_in_time() {
    #[derive(Debug)]
    struct Set(AtomicU64);
    impl Clock for Set {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }
    let clock = Arc::new(Set(AtomicU64::new(10)));
    let db = open(builder().clock(clock.clone()));
    let read = || {
        read_through(&db.handle, KEYS, b"k", |snapshot| {
            Ok((snapshot.taken_ms() < 20).then(|| {
                let value = SharedBytes::new(b"k", b"v", Some(20));
                Hot::Value(value)
            }))
        })
        .expect("read")
        .is_some()
    };
    for now in [10, 11, 12, 19] {
        clock.0.store(now, Ordering::Relaxed);
        assert!(read());
    }
    assert_eq!(db.handle.hot.stats().hits, 2);
    clock.0.store(20, Ordering::Relaxed);
    assert!(!read());
    assert_eq!(db.handle.hot.stats().entries, 0);
}

#[test]
fn a_closed_database_does_not_answer_from_the_tier() {
    let db = open(builder());
    put(&db, b"k", b"v");
    warm(&db, b"k");
    let other = db.clone();
    db.close().expect("close");
    assert!(matches!(other.get(b"k"), Err(crate::Error::Closed)));
}

const STRESS_KEYS: usize = 4;

/// Each key's value is a number that grows with every commit.
#[derive(Default)]
struct Numbers {
    /// The largest that anyone has seen, or that was acknowledged.
    seen: [AtomicU64; STRESS_KEYS],
    /// The largest that was handed over.
    submitted: [AtomicU64; STRESS_KEYS],
    done: AtomicBool,
    reads: AtomicU64,
}

fn number(bytes: Option<SharedBytes>) -> u64 {
    bytes.map_or(0, |b| u64::from_le_bytes((*b).try_into().expect("8 bytes")))
}

fn write_numbers(db: &Aurora, numbers: &Numbers, seed: u64, rounds: u64) {
    let mut random = Random(seed);
    for _ in 0..rounds {
        let mut tx = db.begin_write().expect("begin");
        let mut changed = Vec::new();
        for _ in 0..1 + random.below(2) {
            let k = random.below(STRESS_KEYS as u64) as usize;
            let next = numbers.submitted[k].fetch_add(1, Ordering::SeqCst) + 1;
            tx.put([k as u8], next.to_le_bytes(), None).expect("put");
            changed.push((k, next));
        }
        if random.below(20) == 0 {
            tx.touch_space(KEYS);
        }
        if random.below(2) == 0 {
            tx.set_durability(Durability::Buffered);
        }
        if random.below(50) == 0 {
            tx.commit_by_checkpoint();
        }
        let commit = tx.commit_async().expect("commit");
        commit.wait().expect("wait");
        for (k, next) in changed {
            numbers.seen[k].fetch_max(next, Ordering::SeqCst);
        }
    }
}

fn read_numbers(db: &Aurora, numbers: &Numbers, seed: u64) {
    let mut random = Random(seed);
    while !numbers.done.load(Ordering::Relaxed) {
        let k = random.below(STRESS_KEYS as u64) as usize;
        let lowest = numbers.seen[k].load(Ordering::SeqCst);
        // Most from the tier, some past it: the two must agree about what is newest.
        let is_past = random.below(8) == 0;
        let read = if is_past {
            db.begin_read().and_then(|snapshot| snapshot.get([k as u8]))
        } else {
            db.get([k as u8])
        };
        let found = number(read.expect("read"));
        let highest = numbers.submitted[k].load(Ordering::SeqCst);
        assert!(
            found >= lowest,
            "stale: {found} after {lowest}, past the tier: {is_past}"
        );
        assert!(found <= highest, "{found} was never written, {highest} was");
        numbers.seen[k].fetch_max(found, Ordering::SeqCst);
        numbers.reads.fetch_add(1, Ordering::Relaxed);
    }
}

fn stress(db: &Aurora, rounds: u64) {
    let numbers = Numbers::default();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..5)
            .map(|n| (100 + n, &numbers))
            .map(|(seed, numbers)| scope.spawn(move || read_numbers(db, numbers, seed)))
            .collect();
        let writers: Vec<_> = (0..3)
            .map(|n| (200 + n, &numbers))
            .map(|(seed, numbers)| scope.spawn(move || write_numbers(db, numbers, seed, rounds)))
            .collect();
        let written: Vec<_> = writers.into_iter().map(|thread| thread.join()).collect();
        numbers.done.store(true, Ordering::Relaxed);
        let read = readers.into_iter().map(|thread| thread.join());
        assert!(written.into_iter().chain(read).all(|joined| joined.is_ok()));
    });
    for k in 0..STRESS_KEYS {
        let last = numbers.submitted[k].load(Ordering::SeqCst);
        assert_eq!(number(db.get([k as u8]).expect("read")), last);
    }
    let stats = db.handle.hot.stats();
    let reads = numbers.reads.load(Ordering::Relaxed);
    eprintln!("{reads} reads, {stats:?}");
    assert!(
        stats.hits > reads / 10,
        "the tier had no part in it: {stats:?}"
    );
    assert!(stats.dropped > rounds / 10);
}

#[test]
fn nobody_ever_reads_less_than_was_seen_before() {
    stress(&open(Aurora::builder().hot_limit(1 << 20)), 2_000);
    stress(&open(Aurora::builder().hot_limit(64 << 20)), 500);
}

#[test]
fn nobody_ever_reads_less_than_was_seen_before_on_a_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let builder = Aurora::builder().hot_limit(1 << 20);
    stress(
        &builder.open(directory.path().join("stress")).expect("open"),
        500,
    );
}
