//! Pages against ordered maps, and bytes of all sorts against panics.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::format::page::{
    self, BRANCH, CELLS_START, COUNT, KIND, LEAF, LENGTHS, LEVEL, PREFIX, SUFFIX, UNIFORM_LEAF,
};
use crate::format::{PageRef, RunRef, get_u16, put_u16, put_u32};

fn leaf(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    page::init(&mut bytes, 7, 1, LEAF, 0);
    bytes
}

fn branch(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    page::init(&mut bytes, 7, 1, BRANCH, 1);
    bytes
}

fn assert_sound(bytes: &[u8]) {
    validate(bytes, 7).unwrap();
    Node::new(bytes).check_cells().unwrap();
}

/// Short alphabets and zeroes, so that heads tie and prefixes come and go.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let tail = proptest::collection::vec(0u8..3, 0..8);
    let prefix = prop_oneof![
        Just(Vec::new()),
        Just(vec![1; 5]),
        Just(b"a long shared prefix".to_vec()),
        Just(b"a long shared".to_vec()),
    ];
    (prefix, tail).prop_map(|(prefix, tail)| [prefix, tail].concat())
}

/// Mostly the same length.
fn any_length(below: usize) -> impl Strategy<Value = usize> {
    prop_oneof![6 => Just(7), 1 => Just(0), 2 => 0..below]
}

/// Mostly short, so that the length of a value is much of an entry.
fn any_short_or_long() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..4),
        2 => proptest::collection::vec(0u8..2, 0..1024),
    ]
}

/// What a uniform leaf can hold, up to as much as it can hold, and the length of the values.
fn uniform_entries() -> impl Strategy<Value = (BTreeMap<Vec<u8>, Vec<u8>>, usize)> {
    let prefix =
        proptest::sample::select(vec![&b""[..], &b"common"[..], &b"a much longer prefix"[..]]);
    let tails = proptest::collection::btree_set(proptest::collection::vec(0u8..4, 5), 1..150);
    let value_bytes = prop_oneof![Just(20usize), Just(24), Just(150)];
    (prefix, tails, value_bytes).prop_map(|(prefix, tails, value_bytes)| {
        let entry = |tail: &Vec<u8>| ([prefix, tail.as_slice()].concat(), vec![0xee; value_bytes]);
        let mut entries: BTreeMap<_, _> = tails.iter().map(entry).collect();
        while usable_bytes(4096) < dense(&entries) {
            entries.pop_last();
        }
        (entries, value_bytes)
    })
}

fn dense(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> usize {
    measure(&new_items(entries), false, Density::Dense)
}

fn new_items(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Item<'_>> {
    let items = entries.iter();
    items
        .map(|(key, value)| Item::New(key, Payload::Inline(value)))
        .collect()
}

fn uniform_leaf(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut bytes = leaf(4096);
    build(&mut bytes, &new_items(entries), Density::Dense);
    bytes
}

/// An entry like those of a page, or one that is not.
#[derive(Debug, Clone)]
enum Like {
    /// The entry at this place.
    Same(usize),
    /// Behind all others.
    Behind,
    /// Another, near it.
    Near(usize, u8),
    /// Of another length.
    Longer(usize, usize),
    /// With nothing in common.
    Other(Vec<u8>, usize),
}

fn alike_or_not() -> impl Strategy<Value = Like> {
    let key = proptest::collection::vec(any::<u8>(), 0..1000);
    prop_oneof![
        4 => (0usize..150).prop_map(Like::Same),
        4 => Just(Like::Behind),
        4 => (0usize..150, any::<u8>()).prop_map(|(i, byte)| Like::Near(i, byte)),
        1 => (0usize..150, 0usize..300).prop_map(|(i, length)| Like::Longer(i, length)),
        1 => (key, 0usize..300).prop_map(|(key, length)| Like::Other(key, length)),
    ]
}

impl Like {
    fn of(&self, model: &BTreeMap<Vec<u8>, Vec<u8>>, value_bytes: usize) -> (Vec<u8>, usize) {
        let nth = |i: usize| {
            let key = model.keys().nth(i % model.len().max(1));
            key.cloned().unwrap_or_else(|| b"first".to_vec())
        };
        let with_last = |mut key: Vec<u8>, change: &dyn Fn(u8) -> u8| {
            if let Some(byte) = key.last_mut() {
                *byte = change(*byte);
            }
            key
        };
        match self {
            Like::Same(i) => (nth(*i), value_bytes),
            Like::Behind => {
                let last = nth(model.len().saturating_sub(1));
                (with_last(last, &|byte| byte.saturating_add(1)), value_bytes)
            }
            Like::Near(i, byte) => (with_last(nth(*i), &|_| *byte), value_bytes),
            Like::Longer(i, length) => (nth(*i), *length),
            Like::Other(key, length) => (key.clone(), *length),
        }
    }
}

fn assert_holds(bytes: &[u8], model: &BTreeMap<Vec<u8>, Vec<u8>>) {
    assert_sound(bytes);
    let node = Node::new(bytes);
    assert_eq!(node.count(), model.len());
    for (i, (key, value)) in model.iter().enumerate() {
        assert_eq!(node.search(key), Ok(i));
        assert_eq!(&node.key_vec(i), key);
        assert_eq!(node.payload(i), Payload::Inline(value));
    }
}

/// What one page has no room for fits two.
fn assert_splits(bytes: &[u8], i: usize, key: &[u8], payload: Payload<'_>) {
    let node = Node::new(bytes);
    let items = node.items_with(i, key, payload);
    let at = split_point(&items, i, bytes.len(), false);
    let mut n = 0;
    for half in [&items[..at], &items[at..]] {
        let mut page = leaf(bytes.len());
        build(&mut page, half, Density::Roomy);
        assert!(Node::new(&page).used() <= usable_bytes(bytes.len()));
        assert_sound(&page);
        for (slot, item) in half.iter().enumerate() {
            assert_eq!(Node::new(&page).key_vec(slot), item.key_vec());
            n += 1;
        }
    }
    assert_eq!(n, items.len());
}

fn child(n: u64) -> Child {
    let page = PageRef {
        page: n as u32 + 100,
        checksum: n as u32 ^ 0x55,
    };
    Child { page, count: n }
}

fn read_all(bytes: &[u8]) {
    let node = Node::new(bytes);
    let mut key = Vec::new();
    for i in 0..node.count().min(2000) + 2 {
        node.key(i, &mut key);
        let _ = (node.value(i), node.child(i), node.run(i), node.key_bytes(i));
        let _ = (node.search(&key), node.child_index(&key));
    }
    let _ = (
        node.search(b""),
        node.child_index(b"zzzzzzzz"),
        node.used(),
        node.gap(),
    );
    let _ = (
        node.check_cells(),
        node.items().len(),
        node.inserts_to(1).run(),
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_leaf_is_an_ordered_map(
        steps in proptest::collection::vec((any_key(), any_length(200), any::<bool>()), 1..150)
    ) {
        let mut bytes = leaf(4096);
        let mut model = BTreeMap::new();
        for (key, length, adds) in steps {
            let value = vec![length as u8; length];
            let found = Node::new(&bytes).search(&key);
            prop_assert_eq!(found.is_ok(), model.contains_key(&key));
            let (Ok(i) | Err(i)) = found;
            prop_assert_eq!(i, model.range(..key.clone()).count());
            if found.is_ok() && adds && overwrite(&mut bytes, i, &Payload::Inline(&value)) {
                model.insert(key, value);
            } else {
                if found.is_ok() {
                    remove(&mut bytes, i);
                    model.remove(&key);
                }
                let before = bytes.clone();
                if adds && insert(&mut bytes, i, &key, &Payload::Inline(&value)) {
                    model.insert(key, value);
                } else {
                    prop_assert_eq!(&bytes, &before);
                }
            }
            assert_sound(&bytes);
        }
        let node = Node::new(&bytes);
        prop_assert_eq!(node.count(), model.len());
        for (i, (key, value)) in model.iter().enumerate() {
            prop_assert_eq!(&node.key_vec(i), key);
            prop_assert_eq!(node.payload(i), Payload::Inline(value));
        }
    }

    #[test]
    fn a_branch_finds_the_child(
        keys in proptest::collection::btree_set(any_key(), 1..90),
        removed in proptest::collection::vec(0usize..90, 0..60),
        probes in proptest::collection::vec(any_key(), 1..40),
    ) {
        let mut bytes = branch(4096);
        insert(&mut bytes, 0, b"ignored", &Payload::Child(child(0)));
        let mut model = vec![(Vec::new(), child(0))];
        for (n, key) in keys.into_iter().filter(|key| !key.is_empty()).enumerate() {
            let child = child(n as u64 + 1);
            // From both sides, so that prefixes shrink in front and at the end.
            let i = if n % 2 == 0 { model.len() } else { 1 + model[1..].partition_point(|(other, _)| *other < key) };
            if insert(&mut bytes, i, &key, &Payload::Child(child)) {
                model.insert(i, (key, child));
            }
            assert_sound(&bytes);
        }
        for i in removed {
            if i < model.len() && model.len() > 1 {
                remove(&mut bytes, i);
                model.remove(i);
                model[0].0.clear();
                assert_sound(&bytes);
            }
        }
        let node = Node::new(&bytes);
        for (i, (key, child)) in model.iter().enumerate() {
            prop_assert_eq!(&node.key_vec(i), key);
            prop_assert_eq!(node.child(i), *child);
        }
        for key in probes.iter().chain(model.iter().map(|(key, _)| key)) {
            let expected = model[1..].iter().take_while(|(other, _)| other <= key).count();
            prop_assert_eq!(node.child_index(key), expected);
        }
    }

    #[test]
    fn any_two_halves_fit(
        entries in proptest::collection::btree_map(
            any_short_or_long(), any_length(1400), 1..500),
        extra in any_short_or_long(),
        extra_bytes in any_length(1400),
    ) {
        let value = vec![1; 1400];
        let payload = |key: &[u8], length: usize| {
            if is_inline(4096, key.len(), length) {
                Payload::Inline(&value[..length])
            } else {
                Payload::Run(RunRef { first: 9, ..RunRef::default() })
            }
        };
        let mut bytes = leaf(4096);
        for (key, length) in &entries {
            let Err(i) = Node::new(&bytes).search(key) else { unreachable!() };
            insert(&mut bytes, i, key, &payload(key, *length));
        }
        let node = Node::new(&bytes);
        if let Err(i) = node.search(&extra) {
            let items = node.items_with(i, &extra, payload(&extra, extra_bytes));
            if measure(&items, false, Density::Dense) > usable_bytes(4096) {
                let at = split_point(&items, i, 4096, false);
                prop_assert!(at > 0 && at < items.len());
                for half in [&items[..at], &items[at..]] {
                    prop_assert!(measure(half, false, Density::Dense) <= usable_bytes(4096));
                    let mut page = leaf(4096);
                    build(&mut page, half, Density::Roomy);
                    assert_sound(&page);
                    for (i, item) in half.iter().enumerate() {
                        prop_assert_eq!(Node::new(&page).key_vec(i), item.key_vec());
                    }
                }
            }
        }
    }

    #[test]
    fn a_uniform_leaf_is_an_ordered_map(
        start in uniform_entries(),
        steps in proptest::collection::vec((alike_or_not(), any::<bool>()), 1..60),
    ) {
        let (mut model, value_bytes) = start;
        let mut bytes = uniform_leaf(&model);
        prop_assert!(Node::new(&bytes).is_uniform());
        assert_holds(&bytes, &model);
        for (step, (change, adds)) in steps.into_iter().enumerate() {
            let (key, length) = change.of(&model, value_bytes);
            let value = vec![step as u8; length];
            let payload = Payload::Inline(&value);
            let found = Node::new(&bytes).search(&key);
            prop_assert_eq!(found.is_ok(), model.contains_key(&key));
            let (Ok(i) | Err(i)) = found;
            if found.is_ok() && adds && overwrite(&mut bytes, i, &payload) {
                model.insert(key, value);
            } else {
                if found.is_ok() {
                    remove(&mut bytes, i);
                    model.remove(&key);
                }
                let before = bytes.clone();
                if adds && insert(&mut bytes, i, &key, &payload) {
                    model.insert(key, value);
                } else {
                    prop_assert_eq!(&bytes, &before);
                    if adds {
                        assert_splits(&bytes, i, &key, payload);
                    }
                }
            }
            assert_holds(&bytes, &model);
        }
    }

    #[test]
    fn damaged_pages_are_read_without_panic(
        flips in proptest::collection::vec((0usize..4096, any::<u8>()), 1..40),
        in_header in any::<bool>(),
        kind in prop_oneof![Just(LEAF), Just(BRANCH), Just(UNIFORM_LEAF)],
    ) {
        let is_leaf = kind != BRANCH;
        let mut bytes = if is_leaf { leaf(4096) } else { branch(4096) };
        page::set_kind(&mut bytes, kind);
        for n in 0..60u64 {
            let key = format!("some prefix {n:04}");
            let payload = match (is_leaf, n % 5) {
                (false, _) => Payload::Child(child(n)),
                (true, 0) if kind == LEAF => Payload::Run(RunRef { first: 5, ..RunRef::default() }),
                (true, _) => Payload::Inline(&[1; 30]),
            };
            prop_assert!(insert(&mut bytes, n as usize, key.as_bytes(), &payload));
        }
        for (at, byte) in flips {
            let at = if in_header { 16 + at % 500 } else { at };
            bytes[at] = byte;
        }
        read_all(&bytes);
        if validate(&bytes, 7).is_ok() {
            // What is valid can be changed, too.
            let mut changed = bytes.clone();
            patch_checksums(&mut changed, Some);
            remove(&mut changed, 3);
            let payload = if is_leaf { Payload::Inline(b"v") } else { Payload::Child(child(1)) };
            let count = Node::new(&changed).count();
            insert(&mut changed, count.min(2), b"some key", &payload);
            read_all(&changed);
        }
    }

    #[test]
    fn noise_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let _ = validate(&bytes, 7);
        read_all(&bytes);
    }
}

#[test]
fn zero_padding_does_not_confuse_keys() {
    let mut bytes = leaf(4096);
    let keys: [&[u8]; 7] = [
        b"",
        b"\0",
        b"\0\0\0\0",
        b"\0\0\0\0\0",
        b"a",
        b"a\0",
        b"a\0\0\0\0",
    ];
    for key in keys.iter().rev() {
        assert!(insert(&mut bytes, 0, key, &Payload::Inline(key)));
    }
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(Node::new(&bytes).search(key), Ok(i));
    }
    assert_eq!(Node::new(&bytes).search(b"a\0\0"), Err(6));
}

#[test]
fn values_of_one_length_have_it_in_the_header() {
    let key = |n: u32| n.to_be_bytes();
    let fill = |value: &[u8]| {
        let mut bytes = leaf(4096);
        let mut count = 0;
        while insert(
            &mut bytes,
            count,
            &key(count as u32),
            &Payload::Inline(value),
        ) {
            count += 1;
        }
        (bytes, count)
    };
    let (mut bytes, count) = fill(&[5; 12]);
    assert_eq!(count, usable_bytes(4096) / (SLOT_BYTES + 12));
    assert_eq!(get_u16(&bytes, LENGTHS), 13);
    // A shorter value than all others takes more room than there is: the page stays as it is.
    let before = bytes.clone();
    assert!(!overwrite(&mut bytes, 3, &Payload::Inline(&[6; 11])));
    assert!(!insert(&mut bytes, count, b"z", &Payload::Inline(b"")));
    assert_eq!(bytes, before);
    assert!(overwrite(&mut bytes, 3, &Payload::Inline(&[6; 12])));
    assert_eq!(Node::new(&bytes).payload(3), Payload::Inline(&[6; 12]));
    for _ in 0..count / 4 {
        remove(&mut bytes, 0);
    }
    assert!(insert(&mut bytes, 0, b"", &Payload::Inline(b"")));
    assert_eq!(get_u16(&bytes, LENGTHS), 0);
    assert_sound(&bytes);
    assert_eq!(Node::new(&bytes).payload(0), Payload::Inline(b""));
    assert_eq!(Node::new(&bytes).payload(1), Payload::Inline(&[5; 12]));
    // Of one length again, once it is laid out anew.
    remove(&mut bytes, 0);
    let old = bytes.clone();
    build(&mut bytes, &Node::new(&old).items(), Density::Roomy);
    assert_eq!(get_u16(&bytes, LENGTHS), 13);
    assert_sound(&bytes);
    // With no value, of no length.
    while Node::new(&bytes).count() > 0 {
        remove(&mut bytes, 0);
    }
    assert_eq!(get_u16(&bytes, LENGTHS), 0);
    let (_, empty) = fill(b"");
    assert_eq!(empty, usable_bytes(4096) / SLOT_BYTES);
}

#[test]
fn a_cell_of_no_bytes_can_be_at_the_end_of_the_largest_page() {
    let mut bytes = leaf(65536);
    for (i, key) in [&b""[..], b"abcd", b"b"].into_iter().enumerate() {
        assert!(insert(&mut bytes, i, key, &Payload::Inline(b"")));
        assert_sound(&bytes);
    }
    assert_eq!(Node::new(&bytes).search(b"abcd"), Ok(1));
    assert_eq!(Node::new(&bytes).payload(1), Payload::Inline(b""));
    remove(&mut bytes, 0);
    assert!(insert(&mut bytes, 2, b"c", &Payload::Inline(b"value")));
    assert_sound(&bytes);
    assert_eq!(Node::new(&bytes).key_vec(0), b"abcd");
}

/// A set of keys, some of them short: what was stored could not be read any more.
#[test]
fn a_cell_of_no_bytes_does_not_come_to_lie_before_the_cells() {
    let mut bytes = leaf(4096);
    for (i, key) in [&b"abcde"[..], b"b"].into_iter().enumerate() {
        assert!(insert(&mut bytes, i, key, &Payload::Inline(b"")));
    }
    remove(&mut bytes, 0);
    assert_sound(&bytes);
    assert_eq!(Node::new(&bytes).key_vec(0), b"b");
    // As it was left by versions that let it: it is read, and changed as any other.
    put_u32(&mut bytes, CELLS_START, 4096);
    put_u16(&mut bytes, page::GARBAGE, 0);
    assert_sound(&bytes);
    for key in [&b"a"[..], b"aaaaaa", b"c"] {
        let Err(i) = Node::new(&bytes).search(key) else {
            panic!("it is there")
        };
        assert!(insert(&mut bytes, i, key, &Payload::Inline(b"")));
        assert_sound(&bytes);
    }
    for left in [3, 2, 1, 0] {
        remove(&mut bytes, 0);
        assert_eq!(Node::new(&bytes).count(), left);
        assert_sound(&bytes);
    }
}

#[test]
fn entries_of_the_same_lengths_make_a_uniform_leaf() {
    let key = |n: u32| [&n.to_le_bytes()[..], &[7; 20]].concat();
    let mut sorted: Vec<Vec<u8>> = (1..=23).map(key).collect();
    sorted.sort();
    let mut bytes = leaf(4096);
    page::set_kind(&mut bytes, UNIFORM_LEAF);
    for (i, key) in sorted.iter().enumerate() {
        assert!(
            insert(&mut bytes, i, key, &Payload::Inline(&[5; 150])),
            "{i}"
        );
        assert_sound(&bytes);
    }
    assert!(Node::new(&bytes).is_uniform());
    assert!(!insert(
        &mut bytes,
        23,
        &key(24),
        &Payload::Inline(&[5; 150])
    ));
    // Between others: a page that is ready for more of them, if that fits.
    remove(&mut bytes, 5);
    remove(&mut bytes, 9);
    assert!(Node::new(&bytes).is_uniform());
    assert!(insert(
        &mut bytes,
        5,
        &sorted[5],
        &Payload::Inline(&[5; 150])
    ));
    assert_eq!(page::kind(&bytes), LEAF);
    assert_sound(&bytes);
    finish(&mut bytes);
    assert!(Node::new(&bytes).is_uniform());
    assert!(insert(
        &mut bytes,
        10,
        &sorted[10],
        &Payload::Inline(&[5; 150])
    ));
    // Here it does not.
    assert!(Node::new(&bytes).is_uniform());
    assert_sound(&bytes);
    while Node::new(&bytes).count() > 0 {
        remove(&mut bytes, 0);
        assert_sound(&bytes);
    }
    assert_eq!(page::kind(&bytes), LEAF);
    assert!(insert(&mut bytes, 0, b"k", &Payload::Inline(&[5; 150])));
    assert_sound(&bytes);
}

#[test]
fn a_uniform_leaf_that_a_strange_key_is_cut_off_from_stays_one() {
    let key = |n: u16| [&[b'm'; 900][..], &n.to_be_bytes(), &[7; 8]].concat();
    let entries: BTreeMap<_, _> = (0..105).map(|n| (key(n * 300), vec![5; 20])).collect();
    assert!((4035..=usable_bytes(4096)).contains(&dense(&entries)));
    let bytes = uniform_leaf(&entries);
    assert_holds(&bytes, &entries);
    for (i, strange) in [(0, b"a"), (105, b"z")] {
        assert!(!insert(
            &mut bytes.clone(),
            i,
            strange,
            &Payload::Inline(b"v")
        ));
        assert_splits(&bytes, i, strange, Payload::Inline(b"v"));
    }
}

#[test]
fn a_uniform_leaf_whose_numbers_do_not_go_together_is_refused() {
    let mut bytes = leaf(4096);
    page::set_kind(&mut bytes, UNIFORM_LEAF);
    for n in 0..10u32 {
        let key = n.to_be_bytes();
        assert!(insert(
            &mut bytes,
            n as usize,
            &key,
            &Payload::Inline(&[5; 30])
        ));
    }
    let with = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        validate(&bytes, 7)
    };
    assert_eq!(with(&|_| ()), Ok(()));
    let number = |at: usize, value: u16| with(&|bytes| put_u16(bytes, at, value));
    for (at, value) in [
        (LENGTHS, 0),
        (LENGTHS, 20),
        (LENGTHS, 30),
        (LENGTHS, 32),
        (SUFFIX, 5),
        (SUFFIX, 2000),
        (COUNT, 9),
        (COUNT, 11),
        (COUNT, 0xffff),
        (PREFIX, 1),
    ] {
        assert!(number(at, value).is_err(), "{value} at {at}");
    }
    for (at, value) in [(LEVEL, 1), (KIND, LEAF), (KIND, BRANCH), (CELLS_START, 77)] {
        assert!(with(&|bytes| bytes[at] = value).is_err(), "{value} at {at}");
    }
}

#[test]
fn checksums_are_patched_in_place() {
    let mut bytes = branch(4096);
    for n in 0..5 {
        insert(
            &mut bytes,
            n as usize,
            format!("k{n}").as_bytes(),
            &Payload::Child(child(n)),
        );
    }
    patch_checksums(&mut bytes, |page| (page == 102).then_some(99));
    let sums: Vec<u32> = Node::new(&bytes)
        .children()
        .map(|c| c.page.checksum)
        .collect();
    assert_eq!(sums, [0x55, 0x54, 99, 0x56, 0x51]);
}

/// A page that was made to do harm: entries that share a cell would not fit when it is laid out anew.
#[test]
fn cells_that_overlap_are_refused() {
    let mut bytes = leaf(4096);
    let value = [7; 710];
    for (i, key) in [&b"aaaa"[..], b"bbbb", b"cccc"].into_iter().enumerate() {
        let value = &value[..700 + i]; // else it would be a uniform leaf
        assert!(insert(&mut bytes, i, key, &Payload::Inline(value)));
    }
    assert_sound(&bytes);
    let slot = |i: usize| page::HEADER_BYTES + SLOT_BYTES * i;
    let mut overlapping = bytes.clone();
    let offset = get_u16(&bytes, slot(0) + 4);
    for i in 1..3 {
        put_u16(&mut overlapping, slot(i) + 4, offset);
    }
    validate(&overlapping, 7).unwrap(); // together they are as long as the cells
    let start = u32::from(offset);
    put_u32(&mut overlapping, CELLS_START, start);
    assert_eq!(
        validate(&overlapping, 7).unwrap_err().what,
        "the cells overlap"
    );
}

#[test]
fn no_long_value_is_younger_than_who_leads_to_it() {
    let mut bytes = vec![0; 4096];
    page::init(&mut bytes, 7, 1, LEAF, 0);
    let run = RunRef {
        first: 9,
        length_bytes: 5000,
        checksum: 1,
        birth: 12,
    };
    assert!(insert(&mut bytes, 0, b"key", &Payload::Run(run)));
    validate_within(&bytes, 7, 12, u64::MAX).unwrap();
    let fault = validate_within(&bytes, 7, 11, u64::MAX).unwrap_err();
    assert!(fault.what.contains("younger"), "{fault:?}");
}
