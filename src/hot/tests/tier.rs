//! The tier alone: what gets in, what stays, how much memory it takes.

use super::*;

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
