//! Changes and the tier: what they touch is gone before they are seen, and what was read before does not get in.

use super::*;

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
