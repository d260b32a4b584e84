//! The tree against an ordered map, over strict pages.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::testing::TestPages;
use super::*;
use crate::Error;
use crate::format::node;
use pages::WritePages;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A small generator, so that big tests run the same each time.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

fn value_of(pages: &TestPages, found: &Found<&[u8]>) -> Vec<u8> {
    match &found.value {
        ValueAt::Inline(_) => found.inline().unwrap().to_vec(),
        ValueAt::Run(run) => pages.read_run(run).unwrap().to_vec(),
    }
}

fn get(pages: &TestPages, root: &TreeRoot, key: &[u8]) -> Option<Vec<u8>> {
    let found = find(pages, root, key).unwrap()?;
    Some(value_of(pages, &found))
}

fn contents(pages: &TestPages, root: &TreeRoot) -> Model {
    let mut cursor = Cursor::new(pages, root);
    let mut all = Model::new();
    let mut more = cursor.first().unwrap();
    while more {
        let (key, value) = cursor.entry().unwrap();
        all.insert(key.to_vec(), value.to_vec());
        more = cursor.next().unwrap();
    }
    all
}

/// Keys of every awkward sort; few enough that they meet again.
fn make_key(random: &mut Random, page_size: u32) -> Vec<u8> {
    let longest = node::max_key_bytes(page_size);
    let n = random.below(400);
    match random.below(10) {
        0 => Vec::new(),
        1 => vec![0; random.below(9) as usize],
        2 => {
            let mut key = vec![b'p'; (longest - 8).min(900)];
            key.extend(n.to_be_bytes());
            key
        }
        3 => {
            let mut key = n.to_be_bytes().to_vec();
            key.resize(longest - (n as usize % 3), n as u8);
            key
        }
        4 | 5 => format!("user/{n}").into_bytes(),
        6 => format!("a/quite/long/common/prefix/of/many/keys/{n:08}").into_bytes(),
        7 => vec![b'a'; n as usize % 40],
        _ => (n as u32).wrapping_mul(0x9e37_79b9).to_be_bytes().to_vec(),
    }
}

fn make_value(random: &mut Random, page_size: u32) -> Vec<u8> {
    let length = match random.below(12) {
        0 => 0,
        1 => random.below(u64::from(page_size) * 3),
        2 | 3 => random.below(node::inline_max(page_size) as u64 + 20),
        _ => random.below(120),
    };
    let byte = random.next() as u8;
    vec![byte; length as usize]
}

fn make_bound(random: &mut Random, page_size: u32) -> Bound<Vec<u8>> {
    match random.below(5) {
        0 => Bound::Unbounded,
        1 | 2 => Bound::Excluded(make_key(random, page_size)),
        _ => Bound::Included(make_key(random, page_size)),
    }
}

fn slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

fn is_inside(key: &[u8], lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> bool {
    let above = match lower {
        Bound::Unbounded => true,
        Bound::Included(low) => key >= low,
        Bound::Excluded(low) => key > low,
    };
    let below = match upper {
        Bound::Unbounded => true,
        Bound::Included(high) => key <= high,
        Bound::Excluded(high) => key < high,
    };
    above && below
}

struct World {
    pages: TestPages,
    root: TreeRoot,
    model: Model,
    random: Random,
    snapshots: Vec<(TreeRoot, Model)>,
}

impl World {
    fn new(page_size: u32, seed: u64) -> Self {
        World {
            pages: TestPages::new(page_size),
            root: TreeRoot::default(),
            model: Model::new(),
            random: Random(seed),
            snapshots: Vec::new(),
        }
    }

    fn step(&mut self, removals: u64) {
        let page_size = self.pages.page_size();
        let key = make_key(&mut self.random, page_size);
        let action = self.random.below(100);
        if action < removals {
            let removed = delete(&mut self.pages, &mut self.root, &key).unwrap();
            assert_eq!(removed, self.model.remove(&key).is_some());
        } else if action == 98 && self.random.below(4) == 0 {
            self.remove_range();
        } else if action == 96 && self.random.below(3) == 0 {
            self.pop_some();
        } else if action == 97 && self.random.below(3) == 0 {
            self.change_many(removals);
        } else if action == 99 {
            self.compact();
        } else {
            let value = make_value(&mut self.random, page_size);
            let replaced = put(&mut self.pages, &mut self.root, &key, &value).unwrap();
            assert_eq!(replaced, self.model.insert(key, value).is_some());
        }
    }

    fn remove_range(&mut self) {
        let page_size = self.pages.page_size();
        let lower = make_bound(&mut self.random, page_size);
        let upper = make_bound(&mut self.random, page_size);
        let (low, high) = (slice(&lower), slice(&upper));
        let before = self.model.len();
        self.model.retain(|key, _| !is_inside(key, low, high));
        let removed = delete_range(&mut self.pages, &mut self.root, low, high).unwrap();
        assert_eq!(removed, (before - self.model.len()) as u64);
    }

    /// What is at an end is found and removed, until there is nothing perhaps.
    fn pop_some(&mut self) {
        let end = match self.random.below(2) {
            0 => End::First,
            _ => End::Last,
        };
        for _ in 0..self.random.below(60) {
            let found = outermost(&self.pages, &self.root, end).unwrap();
            let entry = found.map(|found| {
                let mut key = Vec::new();
                found.key(&mut key);
                (key, value_of(&self.pages, &found))
            });
            let expected = match end {
                End::First => self.model.pop_first(),
                End::Last => self.model.pop_last(),
            };
            assert!(entry == expected, "{end:?}");
            let removed = delete_outermost(&mut self.pages, &mut self.root, end).unwrap();
            assert_eq!(removed, expected.is_some());
        }
    }

    /// From none to hundreds at once, some of them in vain.
    fn change_many(&mut self, removals: u64) {
        let page_size = self.pages.page_size();
        let most = [0, 3, 30, 400][self.random.below(4) as usize];
        let mut wanted = BTreeMap::new();
        for _ in 0..self.random.below(most + 1) {
            let key = make_key(&mut self.random, page_size);
            let mut value = make_value(&mut self.random, page_size);
            let longest = node::inline_max(page_size) - key.len() - 10;
            value.truncate(longest);
            let is_put = self.random.below(100) >= removals;
            wanted.insert(key, is_put.then_some(value));
        }
        let changes: Vec<Change<'_>> = wanted
            .iter()
            .map(|(key, value)| Change {
                key,
                value: value.as_deref(),
            })
            .collect();
        let affected = change_many(&mut self.pages, &mut self.root, &changes).unwrap();
        let mut expected = 0;
        for (key, value) in wanted {
            let before = match value {
                Some(value) => self.model.insert(key, value),
                None => self.model.remove(&key),
            };
            expected += u64::from(before.is_some());
        }
        assert_eq!(affected, expected);
    }

    fn compact(&mut self) {
        let from = make_key(&mut self.random, self.pages.page_size());
        let limit = self.random.next() as PageNumber % (self.pages.live_pages() as u32 * 4 + 1);
        let budget = Budget {
            leaves: self.random.below(20) as usize,
            long_bytes: [u64::MAX, 1, 9000][self.random.below(3) as usize],
        };
        relocate(&mut self.pages, &mut self.root, &from, budget, &|page| {
            page > limit
        })
        .unwrap();
    }

    fn commit(&mut self) {
        self.pages.check(&self.root);
        if self.snapshots.len() < 4 {
            self.snapshots.push((self.root, self.model.clone()));
        }
        self.pages.next_version();
    }

    fn compare(&mut self) {
        assert_eq!(self.root.count, self.model.len() as u64);
        assert!(contents(&self.pages, &self.root) == self.model);
        for (root, model) in &self.snapshots {
            assert!(contents(&self.pages, root) == *model, "a snapshot changed");
        }
        for _ in 0..20 {
            let key = make_key(&mut self.random, self.pages.page_size());
            assert!(get(&self.pages, &self.root, &key) == self.model.get(&key).cloned());
        }
        for is_sorted in [false, true] {
            self.compare_group(is_sorted);
        }
        for _ in 0..6 {
            self.compare_range();
        }
    }

    /// Many entries at once, of which some are not there and some are the same.
    fn compare_group(&mut self, is_sorted: bool) {
        let page_size = self.pages.page_size();
        let wanted = self.random.below(GROUP as u64 + 1);
        let make = |_| make_key(&mut self.random, page_size);
        let mut keys: Vec<Vec<u8>> = (0..wanted).map(make).collect();
        if is_sorted {
            keys.sort();
        }
        let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let mut given = 0;
        find_group(&self.pages, &self.root, &slices, |key, found| {
            let value = found.map(|(leaf, value)| match value {
                ValueAt::Inline(range) => leaf[range].to_vec(),
                ValueAt::Run(run) => self.pages.read_run(&run).unwrap().to_vec(),
            });
            assert_eq!(key, slices[given]);
            assert!(value == self.model.get(key).cloned(), "{key:?}");
            given += 1;
            Ok(true)
        })
        .unwrap();
        assert_eq!(given, keys.len());
    }

    fn compare_range(&mut self) {
        let page_size = self.pages.page_size();
        let (pages, root) = (&self.pages, &self.root);
        let lower = make_bound(&mut self.random, page_size);
        let upper = make_bound(&mut self.random, page_size);
        let (low, high) = (slice(&lower), slice(&upper));
        let expected: Vec<&Vec<u8>> = self
            .model
            .keys()
            .filter(|key| is_inside(key, low, high))
            .collect();
        let count = count_range(pages, root, low, high).unwrap();
        assert_eq!(count, expected.len() as u64);

        let mut cursor = Cursor::between(pages, root, low, high);
        let mut forward = Vec::new();
        let mut more = cursor.first().unwrap();
        while more {
            forward.push(cursor.key().to_vec());
            more = cursor.next().unwrap();
        }
        assert!(forward.iter().eq(expected.iter().copied()));
        let mut more = cursor.last().unwrap();
        while more {
            assert_eq!(Some(cursor.key().to_vec()), forward.pop());
            more = cursor.prev().unwrap();
        }
        assert!(forward.is_empty());

        let key = make_key(&mut self.random, page_size);
        let after = expected.iter().find(|other| ***other >= key);
        assert_eq!(cursor.seek(&key).unwrap(), after.is_some());
        assert_eq!(cursor.key(), after.map_or(&[][..], |key| key.as_slice()));
        let or_equal = self.random.below(2) == 0;
        let before = expected
            .iter()
            .rfind(|other| ***other < key || (or_equal && ***other == key));
        let found = cursor.seek_for_prev(&key, or_equal).unwrap();
        assert_eq!(found, before.is_some());
        assert_eq!(cursor.key(), before.map_or(&[][..], |key| key.as_slice()));

        let n = self.random.below(self.model.len() as u64 + 2);
        let nth_key = self.model.keys().nth(n as usize);
        let found = nth(pages, root, n).unwrap().map(|found| {
            let mut key = Vec::new();
            found.key(&mut key);
            key
        });
        assert_eq!(found.as_ref(), nth_key);
        let visible = nth_key.is_some_and(|key| is_inside(key, low, high));
        assert_eq!(cursor.seek_nth(n).unwrap(), visible);
        if visible {
            assert_eq!(Some(&cursor.key().to_vec()), nth_key);
        }
    }
}

fn run_world(page_size: u32, seed: u64, batches: usize, batch: usize) {
    let mut world = World::new(page_size, seed);
    for round in 0..batches {
        // Growing and shrinking phases.
        let removals = if (round / 4) % 2 == 0 { 25 } else { 70 };
        for _ in 0..batch {
            world.step(removals);
        }
        world.commit();
        world.compare();
    }
    drop_tree(&mut world.pages, &mut world.root).unwrap();
    assert_eq!(world.pages.live_pages(), 0);
    assert_eq!(world.root, TreeRoot::default());
}

#[test]
fn a_tree_behaves_like_an_ordered_map() {
    for seed in 0..12 {
        run_world(4096, seed, 12, 150);
    }
}

#[test]
fn with_large_pages_too() {
    for seed in 100..104 {
        run_world(65536, seed, 8, 250);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_of_operations(seed: u64, batch in 1usize..120) {
        run_world(4096, seed, 8, batch);
    }
}

fn filled(n: u64, key: impl Fn(u64) -> Vec<u8>, value: usize) -> (TestPages, TreeRoot) {
    let mut pages = TestPages::new(4096);
    let mut root = TreeRoot::default();
    for i in 0..n {
        put(&mut pages, &mut root, &key(i), &vec![i as u8; value]).unwrap();
        if i % 1000 == 999 {
            pages.next_version();
        }
    }
    (pages, root)
}

#[test]
fn a_sequential_load_is_packed() {
    let (pages, root) = filled(20_000, |i| format!("key{i:013}").into_bytes(), 60);
    let fill = pages.check(&root).fill(4096);
    assert!(fill >= 0.95, "only {fill:.3} full");
}

#[test]
fn full_pages_of_a_sequential_load_share_what_their_keys_share() {
    // So few entries to a page that a longer prefix makes no room for one more.
    let (pages, root) = filled(3_000, |i| i.to_be_bytes()[2..].to_vec(), 150);
    let shape = pages.check(&root);
    let bare = pages
        .nodes()
        .filter(|bytes| node::Node::new(bytes).prefix().is_empty());
    // The last of each level has not been finished.
    assert!(bare.count() <= usize::from(root.level) + 1, "{shape:?}");
}

#[test]
fn full_pages_of_short_keys_have_no_room_for_a_prefix() {
    for value in 0..40 {
        let (pages, root) = filled(1_000, |i| (i as u32).to_be_bytes().to_vec(), value);
        pages.check(&root);
    }
}

#[test]
fn interleaved_ascending_streams_are_packed_too() {
    let key = |i: u64| format!("{:03}/{:010}", i % 7, i / 7).into_bytes();
    let (pages, root) = filled(20_000, key, 60);
    let fill = pages.check(&root).fill(4096);
    assert!(fill >= 0.9, "only {fill:.3} full");
}

#[test]
fn a_load_in_descending_order_is_packed_too() {
    let descending = |i: u64| format!("key{:013}", 1_000_000 - i).into_bytes();
    // Newest first, in each of some series; and from both ends towards the middle.
    let newest_first = |i: u64| format!("{:03}/{:010}", i % 7, 1_000_000 - i / 7).into_bytes();
    let inwards = |i: u64| match i % 2 {
        0 => format!("{:010}", i / 2).into_bytes(),
        _ => format!("{:010}", 1_000_000 - i / 2).into_bytes(),
    };
    type Order<'o> = &'o dyn Fn(u64) -> Vec<u8>;
    for (order, key) in [
        ("descending", &descending as Order<'_>),
        ("newest first", &newest_first),
        ("inwards", &inwards),
    ] {
        let (pages, root) = filled(20_000, key, 60);
        let fill = pages.check(&root).fill(4096);
        assert!(fill >= 0.88, "{order}: only {fill:.3} full");
    }
}

/// So few entries to a leaf that no run of inserts becomes long before it is split.
#[test]
fn runs_of_long_entries_are_packed_too() {
    let in_order = |i: u64| format!("key{i:013}").into_bytes();
    let descending = |i: u64| format!("key{:013}", 1_000_000 - i).into_bytes();
    let oldest_first = |i: u64| format!("{:03}/{i:010}", i % 7).into_bytes();
    let newest_first = |i: u64| format!("{:03}/{:010}", i % 7, 1_000_000 - i).into_bytes();
    type Order<'o> = &'o dyn Fn(u64) -> Vec<u8>;
    for value in [350, 450, 600, 900] {
        let fill_of = |key: Order<'_>| {
            let (pages, root) = filled(4_000, key, value);
            pages.check(&root).fill(4096)
        };
        let best = fill_of(&in_order);
        for (order, key) in [
            ("descending", &descending as Order<'_>),
            ("oldest first", &oldest_first),
            ("newest first", &newest_first),
        ] {
            let fill = fill_of(key);
            assert!(
                fill >= 0.95 * best,
                "{order}, {value}: {fill:.3} of {best:.3}"
            );
        }
    }
}

/// One entry that grows again and again is no run of entries, which would be cut off from the others.
#[test]
fn a_value_that_grows_in_its_place_is_no_descent() {
    let key = |i: u64| format!("key{i:05}").into_bytes();
    let (mut pages, mut root) = filled(60, key, 40);
    for length in 41..1200 {
        put(&mut pages, &mut root, &key(0), &vec![2; length]).unwrap();
    }
    assert_eq!(pages.check(&root).entries, 60);
    let counts = pages.nodes().map(|bytes| node::Node::new(bytes).count());
    assert_eq!(counts.filter(|count| *count == 1).count(), 0);
}

#[test]
fn a_random_load_is_two_thirds_full() {
    let (pages, root) = filled(20_000, |i| Random(i).bytes(16), 60);
    let fill = pages.check(&root).fill(4096);
    assert!(fill >= 0.62, "only {fill:.3} full");
}

#[test]
fn removals_leave_no_thin_tree_behind() {
    let (mut pages, mut root) = filled(20_000, |i| Random(i).bytes(16), 60);
    for i in (0..20_000).filter(|i| i % 10 != 0) {
        assert!(delete(&mut pages, &mut root, &Random(i).bytes(16)).unwrap());
    }
    let shape = pages.check(&root);
    assert_eq!(shape.entries, 2000);
    assert!(
        shape.fill(4096) >= 0.45,
        "only {:.3} full",
        shape.fill(4096)
    );
    for i in (0..20_000).filter(|i| i % 10 == 0) {
        assert!(delete(&mut pages, &mut root, &Random(i).bytes(16)).unwrap());
    }
    assert_eq!((root, pages.live_pages()), (TreeRoot::default(), 0));
}

#[test]
fn a_range_goes_without_touching_its_entries() {
    let key = |i: u64| format!("key{i:013}").into_bytes();
    let (mut pages, mut root) = filled(50_000, key, 60);
    pages.next_version();
    let (low, high) = (key(10_007), key(40_011));
    let bounds = (Bound::Included(&low[..]), Bound::Excluded(&high[..]));
    assert_eq!(
        delete_range(&mut pages, &mut root, bounds.0, bounds.1).unwrap(),
        30_004
    );
    let shape = pages.check(&root);
    assert_eq!(shape.entries, 19_996);
    assert!(shape.fill(4096) > 0.94);
    assert_eq!(get(&pages, &root, &low), None);
    assert!(get(&pages, &root, &high).is_some());
}

#[test]
fn compaction_moves_everything_and_packs_it() {
    let (mut pages, mut root) = filled(20_000, |i| Random(i).bytes(16), 60);
    put(&mut pages, &mut root, b"long", &vec![7; 50_000]).unwrap();
    pages.next_version();
    let before = contents(&pages, &root);
    let limit = pages.allocate(crate::format::page::LEAF, 0).unwrap();
    pages.free(limit, pages.version());
    let mut from = Some(Vec::new());
    while let Some(key) = from {
        let budget = Budget {
            leaves: 16,
            ..Budget::ALL
        };
        from = relocate(&mut pages, &mut root, &key, budget, &|page| page <= limit).unwrap();
    }
    let shape = pages.check(&root);
    assert!(shape.fill(4096) > 0.92, "only {:.3} full", shape.fill(4096));
    assert!(contents(&pages, &root) == before);
    check(&pages, &root, &mut |_, page, _| {
        assert!(page > limit, "page {page} stayed");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_key_that_is_too_long_changes_nothing() {
    let mut pages = TestPages::new(4096);
    let mut root = TreeRoot::default();
    let error = put(&mut pages, &mut root, &[0; 1025], b"").unwrap_err();
    assert!(matches!(
        error,
        Error::KeyTooLong {
            length: 1025,
            limit: 1024
        }
    ));
    assert_eq!((root, pages.live_pages()), (TreeRoot::default(), 0));
}

#[test]
fn an_existing_run_can_be_stored_again() {
    let mut pages = TestPages::new(4096);
    let mut root = TreeRoot::default();
    let run = pages.allocate_run(&[5; 9000]).unwrap();
    assert!(!put_run(&mut pages, &mut root, b"k", run).unwrap());
    assert!(put_run(&mut pages, &mut root, b"k", run).unwrap());
    assert_eq!(find(&pages, &root, b"k").unwrap().unwrap().run(), Some(run));
    pages.check(&root);
    assert!(put(&mut pages, &mut root, b"k", b"short").unwrap());
    pages.check(&root);
}

#[test]
fn deleting_a_missing_key_copies_nothing() {
    let (mut pages, mut root) = filled(2_000, |i| i.to_be_bytes().to_vec(), 20);
    pages.next_version();
    let before = root;
    assert!(!delete(&mut pages, &mut root, b"nothing").unwrap());
    let bounds = (Bound::Included(&b"n"[..]), Bound::Unbounded);
    assert_eq!(
        delete_range(&mut pages, &mut root, bounds.0, bounds.1).unwrap(),
        0
    );
    assert_eq!(root, before);
}

/// A tree of `levels` above one leaf, each branch with the one below it as its only child, many times.
fn shared_tree(pages: &mut TestPages, levels: u8) -> TreeRoot {
    let mut root = TreeRoot::default();
    put(pages, &mut root, b"key", b"value").unwrap();
    for level in 1..=levels {
        let page = pages.allocate(page::BRANCH, level).unwrap();
        let child = node::Child {
            page: root.root,
            count: root.count,
        };
        let bytes = pages.bytes_mut(page).unwrap();
        for i in 0..50u8 {
            let separator: &[u8] = if i == 0 { &[] } else { &[i] };
            assert!(node::insert(
                bytes,
                usize::from(i),
                separator,
                &node::Payload::Child(child)
            ));
        }
        root = TreeRoot {
            root: private(page),
            level,
            count: root.count,
        };
    }
    pages.next_version();
    root
}

#[test]
fn branches_that_share_their_children_do_not_keep_anyone_for_ever() {
    let mut pages = TestPages::new(4096);
    pages.strict = false;
    let root = shared_tree(&mut pages, 20);
    let mut cursor = Cursor::new(&pages, &root);
    assert!(cursor.first().unwrap());
    assert!(cursor.next().unwrap());
    assert!(cursor.next().is_err_and(|error| error.is_corruption()));
    assert!(cursor.last().unwrap());
    assert!(cursor.prev().unwrap());
    assert!(cursor.prev().is_err_and(|error| error.is_corruption()));
    let mut dropped = root;
    let error = drop_tree(&mut pages, &mut dropped).unwrap_err();
    assert!(error.is_corruption(), "{error}");
    let bounds = (Bound::Included(&b"\x01"[..]), Bound::Unbounded);
    let error = delete_range(&mut pages, &mut dropped, bounds.0, bounds.1).unwrap_err();
    assert!(error.is_corruption(), "{error}");
}

/// Invariant 4 of `cursor`: who turns round begins to count again.
#[test]
fn a_cursor_goes_to_and_fro_for_as_long_as_it_wants() {
    let mut pages = TestPages::new(4096);
    let mut root = TreeRoot::default();
    for i in 0..1000u32 {
        put(&mut pages, &mut root, &i.to_be_bytes(), &[7; 100]).unwrap();
    }
    let mut cursor = Cursor::new(&pages, &root);
    for _ in 0..100 {
        assert!(cursor.first().unwrap());
        assert_eq!(
            (1..2000).take_while(|_| cursor.next().unwrap()).count(),
            999
        );
        assert!(cursor.last().unwrap());
        assert_eq!(
            (1..2000).take_while(|_| cursor.prev().unwrap()).count(),
            999
        );
        // Over the edge between two leaves and back.
        assert!(cursor.seek(&500u32.to_be_bytes()).unwrap());
        for _ in 0..100 {
            assert!((0..50).all(|_| cursor.next().unwrap()));
            assert!((0..50).all(|_| cursor.prev().unwrap()));
        }
        assert_eq!(cursor.key(), 500u32.to_be_bytes());
    }
}

#[test]
fn a_page_of_the_wrong_level_is_damage() {
    let (pages, mut root) = filled(2_000, |i| i.to_be_bytes().to_vec(), 20);
    root.level += 1;
    assert!(find(&pages, &root, b"x").is_err_and(|error| error.is_corruption()));
    let error = check(&pages, &root, &mut |_, _, _| Ok(())).unwrap_err();
    assert!(error.is_corruption());
    root.level -= 1;
    root.count += 1;
    assert!(check(&pages, &root, &mut |_, _, _| Ok(())).is_err());
}

/// Changes of many entries at once: stores them, or removes them.
fn change_all(
    pages: &mut TestPages,
    root: &mut TreeRoot,
    keys: impl Iterator<Item = Vec<u8>>,
    value: Option<&[u8]>,
) -> u64 {
    let mut keys: Vec<_> = keys.collect();
    keys.sort();
    let changes = keys.iter().map(|key| Change { key, value });
    change_many(pages, root, &changes.collect::<Vec<_>>()).unwrap()
}

#[test]
fn many_entries_at_once_fill_their_pages() {
    let key = |i: u64| Random(i).bytes(16);
    let (mut pages, mut root) = filled(0, key, 60);
    change_all(&mut pages, &mut root, (0..20_000).map(key), Some(&[1; 60]));
    let fill = pages.check(&root).fill(4096);
    assert!(fill >= 0.95, "only {fill:.3} full");
    // Again as many between them.
    change_all(
        &mut pages,
        &mut root,
        (20_000..39_000).map(key),
        Some(&[1; 60]),
    );
    let fill = pages.check(&root).fill(4096);
    assert!(fill >= 0.64, "only {fill:.3} full");
}

#[test]
fn many_entries_behind_all_others_fill_their_pages() {
    let key = |i: u64| format!("key{i:013}").into_bytes();
    let (mut pages, mut root) = filled(50, key, 60);
    for i in 0..200 {
        let keys = (50 + i * 60..110 + i * 60).map(key);
        change_all(&mut pages, &mut root, keys, Some(&[1; 60]));
    }
    let fill = pages.check(&root).fill(4096);
    assert!(fill >= 0.95, "only {fill:.3} full");
}

#[test]
fn pages_that_come_of_one_share_its_entries_evenly() {
    // A leaf takes about 46 of these: 80 between two of it need three.
    let key = |i: u64| format!("key{i:013}").into_bytes();
    let (mut pages, mut root) = filled(40, |i| key(i * 1000), 60);
    assert_eq!(root.level, 0);
    change_all(&mut pages, &mut root, (1..81).map(key), Some(&[1; 60]));
    let shape = pages.check(&root);
    assert_eq!(shape.entries, 120);
    let leaves = pages
        .nodes()
        .map(node::Node::new)
        .filter(|node| !node.is_branch());
    let counts: Vec<_> = leaves.map(|leaf| leaf.count()).collect();
    assert_eq!(counts.len(), 3);
    assert!(
        counts.iter().all(|count| (38..=42).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn removals_of_many_leave_no_thin_tree_behind() {
    let key = |i: u64| Random(i).bytes(16);
    let (mut pages, mut root) = filled(20_000, key, 60);
    let most = (0..20_000).filter(|i| i % 10 != 0);
    let removed = change_all(&mut pages, &mut root, most.map(key), None);
    let shape = pages.check(&root);
    assert_eq!((removed, shape.entries), (18_000, 2000));
    let fill = shape.fill(4096);
    assert!(fill >= 0.45, "only {fill:.3} full");
    let rest = (0..20_000).filter(|i| i % 10 == 0);
    change_all(&mut pages, &mut root, rest.map(key), None);
    assert_eq!((root, pages.live_pages()), (TreeRoot::default(), 0));
}

#[test]
fn removing_many_that_are_missing_copies_nothing() {
    let key = |i: u64| Random(i).bytes(16);
    let (mut pages, mut root) = filled(5_000, key, 60);
    pages.next_version();
    let before = root;
    let missing = (5_000..9_000).map(key);
    assert_eq!(change_all(&mut pages, &mut root, missing, None), 0);
    assert_eq!(root, before);
}

#[test]
fn only_pages_on_the_way_to_changes_are_copied() {
    let key = |i: u64| format!("key{i:013}").into_bytes();
    let (mut pages, mut root) = filled(20_000, key, 60);
    pages.next_version();
    let few = [7, 8, 9_000, 19_999].map(key);
    change_all(&mut pages, &mut root, few.into_iter(), Some(&[2; 60]));
    let version = pages.version();
    let copied = pages.nodes().filter(|bytes| page::birth(bytes) == version);
    assert_eq!((copied.count(), root.level), (6, 2));
}

#[test]
fn leaves_that_go_and_leaves_that_grow_meet_in_one_branch() {
    let key = |i: u64| format!("key{i:013}").into_bytes();
    let (mut pages, mut root) = filled(2_000, |i| key(i * 1000), 60);
    assert_eq!(root.level, 1);
    let mut wanted: Vec<_> = (0..200).map(|i| (key(i * 1000), None)).collect();
    wanted.extend((1..300).map(|i| (key(900_000 + i), Some(&[1; 60][..]))));
    wanted.extend((1300..1400).map(|i| (key(i * 1000), None)));
    wanted.extend((1..50).map(|i| (key(1_700_000 + i), Some(&[1; 60][..]))));
    let changes = wanted
        .iter()
        .map(|(key, value)| Change { key, value: *value });
    let changes: Vec<_> = changes.collect();
    let removed = change_many(&mut pages, &mut root, &changes).unwrap();
    assert_eq!((removed, pages.check(&root).entries), (300, 2_048));
    let found = contents(&pages, &root);
    for (key, value) in &wanted {
        assert_eq!(found.get(key).map(Vec::as_slice), *value);
    }
}

/// A leaf that was made to do harm, with one key many times: who goes on behind a key must not meet it for ever.
#[test]
fn keys_out_of_order_end_a_walk_in_pieces() {
    let mut pages = TestPages::new(4096);
    let mut root = TreeRoot::default();
    for n in 0..5u8 {
        put(&mut pages, &mut root, &[b'a' + n; 4], &[n; 3]).unwrap();
    }
    let (page, bytes) = pages.private_bytes(&root.root).unwrap();
    let first = page::HEADER_BYTES;
    let head = bytes[first..first + 4].to_vec();
    for i in 1..5 {
        let slot = Node::new(bytes).slot_at(i);
        bytes[slot..slot + 4].copy_from_slice(&head);
    }
    root.root.page = page;
    let from = Bound::Excluded(&b"aaaa"[..]);
    let mut cursor = Cursor::between(&pages, &root, from, Bound::Unbounded);
    let error = cursor.first().unwrap_err();
    assert!(error.to_string().contains("not in order"), "{error}");
    let mut cursor = Cursor::between(&pages, &root, Bound::Unbounded, from);
    let last = cursor.last();
    assert!(last.is_err() || !last.unwrap());
}
