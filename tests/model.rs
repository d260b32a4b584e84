//! The database against an ordered map: random transactions with savepoints and roll-backs,
//! snapshots, ranges, counts, checkpoints, compaction, reopening and power cuts, with the
//! structural check after each step that leaves something committed.

mod common;

use std::ops::Bound;

use aurora::storage::{SimCrash, SimDisk};
use aurora::{Aurora, Durability, Savepoint, Snapshot, TreeView, WriteTransaction};
use common::{Change, Model, Random, Tree, budget, contents, repeatable};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Action {
    Change(u64),
    Savepoint,
    RollBack(u8),
    Forget(u8),
    Commit(bool),
    Abort,
    Query(u64),
    Snapshot,
    DropSnapshot,
    Checkpoint,
    Compact,
    Flush,
    Reopen,
    Crash(u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        20 => any::<u64>().prop_map(Action::Change),
        3 => Just(Action::Savepoint),
        1 => any::<u8>().prop_map(Action::RollBack),
        1 => any::<u8>().prop_map(Action::Forget),
        5 => any::<bool>().prop_map(Action::Commit),
        1 => Just(Action::Abort),
        6 => any::<u64>().prop_map(Action::Query),
        1 => Just(Action::Snapshot),
        1 => Just(Action::DropSnapshot),
        1 => Just(Action::Checkpoint),
        1 => Just(Action::Compact),
        1 => Just(Action::Flush),
        1 => Just(Action::Reopen),
        1 => any::<u64>().prop_map(Action::Crash),
    ]
}

/// A transaction under way, with the model of what it sees and its savepoints.
struct Open {
    tx: WriteTransaction,
    model: Model,
    savepoints: Vec<(Savepoint, Model)>,
}

struct World {
    disk: SimDisk,
    page_size: u32,
    db: Option<Aurora>,
    open: Option<Open>,
    /// The commits that a crash may leave: the last acknowledged one and those after it.
    possible: Vec<Model>,
    snapshots: Vec<(Snapshot, Model)>,
}

impl World {
    fn new(page_size: u32) -> Self {
        let mut world = World {
            disk: SimDisk::new(3),
            page_size,
            db: None,
            open: None,
            possible: vec![Model::default()],
            snapshots: Vec::new(),
        };
        world.reopen();
        world
    }

    fn reopen(&mut self) {
        self.db = None;
        let storage = self.disk.reopen().storage();
        let builder = repeatable().page_size(self.page_size);
        self.db = Some(builder.open_storage(storage).unwrap());
    }

    fn db(&self) -> &Aurora {
        self.db.as_ref().unwrap()
    }

    fn last(&self) -> &Model {
        self.possible.last().unwrap()
    }

    fn acknowledge(&mut self) {
        self.possible.drain(..self.possible.len() - 1);
    }

    fn transaction(&mut self) -> &mut Open {
        if self.open.is_none() {
            self.open = Some(Open {
                tx: self.db().begin_write().unwrap(),
                model: self.last().clone(),
                savepoints: Vec::new(),
            });
        }
        self.open.as_mut().unwrap()
    }

    fn run(&mut self, action: &Action) {
        match action {
            Action::Change(seed) => {
                let change = Change::random(&mut Random(*seed));
                let open = self.transaction();
                change.apply(&mut open.tx).unwrap();
                change.apply_to(&mut open.model);
            }
            Action::Savepoint => {
                let open = self.transaction();
                let savepoint = open.tx.savepoint().unwrap();
                open.savepoints.push((savepoint, open.model.clone()));
            }
            Action::RollBack(which) => {
                let open = self.transaction();
                if !open.savepoints.is_empty() {
                    let index = usize::from(*which) % open.savepoints.len();
                    open.savepoints.truncate(index + 1);
                    let (savepoint, model) = open.savepoints.last().unwrap();
                    open.tx.roll_back_to(savepoint).unwrap();
                    open.model = model.clone();
                }
            }
            Action::Forget(which) => {
                let open = self.transaction();
                if !open.savepoints.is_empty() {
                    let index = usize::from(*which) % open.savepoints.len();
                    open.savepoints.remove(index);
                }
            }
            Action::Commit(full) => {
                if let Some(mut open) = self.open.take() {
                    if !full {
                        open.tx.set_durability(Durability::Buffered);
                    }
                    open.tx.commit().unwrap();
                    self.possible.push(open.model);
                    if *full {
                        self.acknowledge();
                    }
                    self.check();
                }
            }
            Action::Abort => self.open = None,
            Action::Query(seed) => {
                let seed = *seed;
                if let Some(open) = &self.open {
                    query(|name| open.tx.view(name).ok(), &open.model, seed);
                }
                let snapshot = self.db().begin_read().unwrap();
                query(|name| snapshot.tree(name).ok(), self.last(), seed);
            }
            Action::Snapshot => {
                let snapshot = self.db().begin_read().unwrap();
                self.snapshots.push((snapshot, self.last().clone()));
            }
            Action::DropSnapshot => {
                self.snapshots.pop();
            }
            Action::Checkpoint => {
                self.db().checkpoint().unwrap();
                self.acknowledge();
            }
            Action::Compact => {
                // Its steps are transactions, so it would wait for one that is open.
                self.open = None;
                // What is only in the log and in memory has to be written in any case.
                self.db().checkpoint().unwrap();
                self.acknowledge();
                let before = self.db().stats().unwrap().file_bytes;
                self.db().compact().unwrap();
                let after = self.db().stats().unwrap().file_bytes;
                assert!(after <= before, "compaction made {after} bytes of {before}");
                self.check();
            }
            Action::Flush => {
                self.db().flush().unwrap();
                self.acknowledge();
            }
            Action::Reopen => {
                self.open = None;
                self.snapshots.clear();
                self.db.take().unwrap().close().unwrap();
                self.acknowledge();
                self.reopen();
                self.check();
            }
            Action::Crash(seed) => self.crash(*seed),
        }
    }

    fn crash(&mut self, seed: u64) {
        self.check_snapshots();
        self.snapshots.clear();
        let image = self.disk.crash_image(match seed % 4 {
            0 => SimCrash::LoseAll,
            1 => SimCrash::KeepAll,
            2 => SimCrash::Sectors { seed },
            _ => SimCrash::Bytes { seed },
        });
        self.open = None;
        self.db = None;
        self.disk = image;
        self.reopen();
        let found = contents(&self.db().begin_read().unwrap()).unwrap();
        assert!(
            self.possible.contains(&found),
            "not a state that a crash may leave"
        );
        self.possible = vec![found];
        self.check();
    }

    fn check(&self) {
        if self.open.is_none() {
            self.db().check().unwrap();
        }
        assert_eq!(
            &contents(&self.db().begin_read().unwrap()).unwrap(),
            self.last()
        );
    }

    fn check_snapshots(&self) {
        for (snapshot, model) in &self.snapshots {
            assert_eq!(&contents(snapshot).unwrap(), model, "a snapshot changed");
        }
    }
}

/// Asks every kind of question about one tree.
fn query<'a>(view: impl Fn(&str) -> Option<TreeView<'a>>, model: &Model, seed: u64) {
    let mut random = Random(seed);
    let name = common::TREES[random.below(3) as usize];
    let Some(view) = view(name) else {
        assert!(!model.0.contains_key(name));
        return;
    };
    let tree: &Tree = &model.0[name];
    let key = common::key(&mut random);
    assert_eq!(
        view.get(&key).unwrap().as_deref(),
        tree.get(&key).map(Vec::as_slice)
    );
    let mut reader = view.reader();
    for key in tree.keys().take(20).chain([&key]) {
        assert_eq!(
            reader.get(key).unwrap(),
            tree.get(key).map(Vec::as_slice),
            "by a reader"
        );
    }
    drop(reader);
    assert_eq!(view.len(), tree.len() as u64);
    let entry = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
    assert_eq!(view.first().unwrap(), tree.first_key_value().map(entry));
    assert_eq!(view.last().unwrap(), tree.last_key_value().map(entry));
    let nth = random.below(tree.len() as u64 + 2);
    assert_eq!(
        view.nth(nth).unwrap(),
        tree.iter().nth(nth as usize).map(entry)
    );
    let (a, b) = (common::key(&mut random), common::key(&mut random));
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    let bound = |key: Vec<u8>, kind: u64| match kind {
        0 => Bound::Unbounded,
        1 => Bound::Included(key),
        _ => Bound::Excluded(key),
    };
    let (lower, upper) = (bound(low, random.below(3)), bound(high, random.below(3)));
    if let (Bound::Excluded(a), Bound::Excluded(b)) = (&lower, &upper)
        && a == b
    {
        return; // a BTreeMap panics on it
    }
    let range = (lower, upper);
    let expected: Vec<_> = tree.range(range.clone()).map(entry).collect();
    let found: Vec<_> = view.range(range.clone()).map(Result::unwrap).collect();
    assert_eq!(found, expected);
    let mut backwards: Vec<_> = view
        .range(range.clone())
        .rev()
        .map(Result::unwrap)
        .collect();
    backwards.reverse();
    assert_eq!(backwards, expected);
    assert_eq!(view.count(range.clone()).unwrap(), expected.len() as u64);
    // From both ends at once.
    let mut both = view.range(range);
    let mut ends = expected.iter();
    for step in 0..expected.len() + 1 {
        if step % 3 == 0 {
            assert_eq!(
                both.next_back().transpose().unwrap().as_ref(),
                ends.next_back()
            );
        } else {
            assert_eq!(both.next().transpose().unwrap().as_ref(), ends.next());
        }
    }
    let prefix = &b"key0012"[..4 + random.below(4) as usize];
    let expected = tree
        .iter()
        .filter(|(key, _)| key.starts_with(prefix))
        .map(entry);
    let found = view.prefix(prefix).map(Result::unwrap);
    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

fn run(page_size: u32, actions: &[Action]) {
    let mut world = World::new(page_size);
    for action in actions {
        world.run(action);
    }
    world.check_snapshots();
    world.open = None;
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: budget(256) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_behaves_like_an_ordered_map(
        page_size in prop_oneof![3 => Just(4096u32), 1 => Just(16384u32), 1 => Just(65536u32)],
        actions in prop::collection::vec(action(), 1..120),
    ) {
        run(page_size, &actions);
    }
}

/// A checkpoint that changes no page of the space map, while a transaction holds pages past the end
/// of the file: its header named a length that the file did not have.
#[test]
fn a_header_never_names_more_pages_than_the_file_has() {
    run(
        4096,
        &[
            Action::Change(8743900271828590550),
            Action::Commit(false),
            Action::Reopen,
            Action::Change(15378911921400521439),
            Action::Commit(false),
            Action::Change(11423192035654140067),
            Action::Change(0),
            Action::Change(16221867902037769816),
            Action::Checkpoint,
            Action::Reopen,
        ],
    );
}

/// Many at once do what one after the other would do, and say the same.
#[test]
fn many_changes_count_as_single_ones_do() {
    for seed in 0..40 {
        let (one, many) = (World::new(4096), World::new(4096));
        for round in 0..4 {
            let mut random = Random(seed * 10 + round);
            let count = 1 + random.below(400);
            let entries: Vec<_> = (0..count)
                .map(|_| (common::key(&mut random), common::value(&mut random)))
                .collect();
            let gone: Vec<_> = (0..count / 2).map(|_| common::key(&mut random)).collect();
            let single = one.db().write(|tx| {
                let mut tree = tx.tree("a")?;
                let mut affected = [0, 0];
                for (key, value) in &entries {
                    affected[0] += u64::from(tree.put(key, value)?);
                }
                for key in &gone {
                    affected[1] += u64::from(tree.delete(key)?);
                }
                Ok(affected)
            });
            let together = many.db().write(|tx| {
                let mut tree = tx.tree("a")?;
                let replaced = tree.put_many(entries.iter().map(|(k, v)| (k, v)))?;
                Ok([replaced, tree.delete_many(&gone)?])
            });
            assert_eq!(single.unwrap(), together.unwrap());
        }
        many.db().check().unwrap();
        let [one, many] = [one, many].map(|world| contents(&world.db().begin_read().unwrap()));
        assert_eq!(one.unwrap(), many.unwrap());
    }
}

/// Entries of the same lengths, in order, packed by a compaction, and mixed with others.
#[test]
fn entries_of_the_same_lengths_behave_like_an_ordered_map() {
    for seed in 0..30 {
        let mut random = Random(seed);
        let db = repeatable()
            .open_storage(SimDisk::new(seed).storage())
            .unwrap();
        let key = |n: u64| [&b"key"[..], &n.to_be_bytes(), &[9; 10]].concat();
        let step = 1 + seed % 2 * 0x0101_0101_0101;
        let fill: Vec<_> = (0..300)
            .map(|i| (key(i * 4 * step), random.bytes(40)))
            .collect();
        let mut model = std::collections::BTreeMap::new();
        db.write(|tx| {
            for (key, value) in &fill {
                tx.tree("a")?.put(key, value)?;
            }
            Ok(())
        })
        .unwrap();
        model.extend(fill);
        for round in 0..6 {
            if round % 2 == 1 {
                db.compact().unwrap();
            }
            db.write(|tx| {
                let mut tree = tx.tree("a")?;
                for _ in 0..30 {
                    let n = random.below(1250);
                    let (mut key, mut length) = (key(n * step), 40);
                    match random.below(20) {
                        0 => length = 39,
                        1 => length = 2000,
                        2 => key.truncate(12),
                        _ => {}
                    }
                    if random.below(3) == 0 {
                        let was_there = model.remove(&key).is_some();
                        assert_eq!(tree.delete(&key)?, was_there);
                    } else {
                        let value = random.bytes(length);
                        let replaced = tree.put(&key, &value)?;
                        assert_eq!(replaced, model.insert(key, value).is_some());
                    }
                }
                Ok(())
            })
            .unwrap();
            db.check().unwrap();
            let snapshot = db.begin_read().unwrap();
            let view = snapshot.tree("a").unwrap();
            let mut reader = view.reader();
            for (key, value) in &model {
                assert_eq!(reader.get(key).unwrap(), Some(value.as_slice()));
            }
            let mut expected = model.iter();
            let mut cursor = view.cursor();
            let mut is_there = cursor.first().unwrap();
            while is_there {
                let (key, value) = expected.next().unwrap();
                assert_eq!(cursor.key(), key.as_slice());
                assert_eq!(cursor.value().unwrap(), value.as_slice());
                is_there = cursor.next().unwrap();
            }
            assert_eq!(expected.next(), None);
        }
    }
}

/// More than is gathered at a time, in order and not.
#[test]
fn many_changes_are_made_some_at_a_time() {
    let db = repeatable()
        .open_storage(SimDisk::new(3).storage())
        .unwrap();
    let key = |n: u32| n.to_be_bytes();
    for numbers in [
        (0..30_000).collect::<Vec<u32>>(),
        (0..30_000).map(|n| n * 7919 % 30_000).collect(),
        (0..60_000).map(|n| n * 7919 % 60_000 / 2).collect(),
    ] {
        let mut tx = db.begin_write().unwrap();
        let mut tree = tx.tree("t").unwrap();
        let entries = numbers.iter().enumerate();
        let twice = numbers.len() as u64 - 30_000;
        let stored = tree.put_many(entries.map(|(i, n)| (key(*n), [i as u8; 90])));
        assert_eq!((stored.unwrap(), tree.len()), (twice, 30_000));
        for n in (0..30_000).step_by(97) {
            let last = numbers.iter().rposition(|other| *other == n).unwrap();
            let found = tree.get(key(n)).unwrap().unwrap();
            assert_eq!(*found, [last as u8; 90]);
        }
        let odd = numbers.iter().filter(|n| *n % 2 == 1);
        assert_eq!(tree.delete_many(odd.map(|n| key(*n))).unwrap(), 15_000);
        let left: Vec<_> = tree
            .range::<&[u8]>(..)
            .map(|entry| entry.unwrap().0)
            .collect();
        assert!(
            left.iter()
                .eq((0..30_000).step_by(2).map(key).collect::<Vec<_>>().iter())
        );
    }
}

#[test]
fn trees_lose_prefixes_and_get_other_names() {
    let db = Aurora::in_memory().unwrap();
    let tree = db.tree("t").unwrap();
    let keys = [&b"a"[..], b"ab", b"abc", b"ac", b"\xff", b"\xff\xff\x01"];
    tree.put_many(keys.map(|key| (key, "value"))).unwrap();
    assert_eq!(tree.delete_prefix("ab").unwrap(), 2);
    assert_eq!(tree.delete_prefix([0xff]).unwrap(), 2);
    assert_eq!(tree.delete_prefix("b").unwrap(), 0);
    assert_eq!(tree.first().unwrap().unwrap().0, b"a");
    assert_eq!(tree.last().unwrap().unwrap().0, b"ac");
    db.rename_tree("t", "u").unwrap();
    assert!(db.rename_tree("t", "v").unwrap_err().is_misuse());
    assert!(db.rename_tree("u", "u").unwrap_err().is_misuse());
    assert!(db.drop_tree("aurora/keys").unwrap_err().is_misuse());
    assert_eq!(db.tree("u").unwrap().delete_prefix("").unwrap(), 2);
    assert_eq!(db.tree_names().unwrap(), ["u"]);
    db.drop_tree("u").unwrap();
    assert!(db.drop_tree("u").unwrap_err().is_misuse());
    assert!(db.tree_names().unwrap().is_empty());
}
