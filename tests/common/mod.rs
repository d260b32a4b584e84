//! What the suites share: a plain model of the database, workloads drawn from a seed, and the
//! comparison of the two.
#![allow(dead_code)] // each suite uses a part

pub mod acks;
pub mod cuts;
pub mod listing;
pub mod ops;
pub mod samples;
pub mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aurora::storage::Storage;
use aurora::{Aurora, Builder, Durability, Snapshot};

pub type Tree = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the database should hold: trees by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model(pub BTreeMap<String, Tree>);

/// A small generator of repeatable random numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// One change, to the database and to the model alike.
#[derive(Debug, Clone)]
pub enum Change {
    Put(String, Vec<u8>, Vec<u8>),
    Delete(String, Vec<u8>),
    /// Entries in any order, some of them with the same key.
    PutMany(String, Vec<(Vec<u8>, Vec<u8>)>),
    DeleteMany(String, Vec<Vec<u8>>),
    DeleteRange(String, Vec<u8>, Vec<u8>),
    DropTree(String),
    RenameTree(String, String),
}

pub const TREES: [&str; 3] = ["a", "b", "long name of a tree"];

pub fn key(random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0 => Vec::new(),
        1 => random.bytes(3),
        2 => {
            let mut key = vec![b'x'; 200 + random.below(400) as usize];
            key.push(random.next() as u8);
            key
        }
        _ => format!("key{:05}", random.below(300)).into_bytes(),
    }
}

pub fn value(random: &mut Random) -> Vec<u8> {
    let length = match random.below(40) {
        0..=25 => random.below(120),
        26..=35 => random.below(1300),
        36..=38 => random.below(12_000),
        _ => 30_000 + random.below(60_000),
    };
    let fill = random.next() as u8;
    let mut value = vec![fill; length as usize];
    value
        .iter_mut()
        .step_by(97)
        .for_each(|b| *b = random.next() as u8);
    value
}

impl Change {
    pub fn random(random: &mut Random) -> Self {
        let tree = TREES[random.below(TREES.len() as u64) as usize].to_string();
        match random.below(26) {
            24 => {
                let count = [3, 40, 300][random.below(3) as usize];
                let entry = |_| (key(random), value(random));
                Change::PutMany(tree, (0..count).map(entry).collect())
            }
            25 => {
                let count = [3, 40, 300][random.below(3) as usize];
                Change::DeleteMany(tree, (0..count).map(|_| key(random)).collect())
            }
            0..=15 => Change::Put(tree, key(random), value(random)),
            16..=20 => Change::Delete(tree, key(random)),
            21 => {
                let (a, b) = (key(random), key(random));
                let (low, high) = if a <= b { (a, b) } else { (b, a) };
                Change::DeleteRange(tree, low, high)
            }
            22 if random.chance(4) => Change::DropTree(tree),
            23 if random.chance(4) => {
                let to = TREES[random.below(TREES.len() as u64) as usize].to_string();
                Change::RenameTree(tree, to)
            }
            _ => Change::Put(tree, key(random), value(random)),
        }
    }

    pub fn apply(&self, tx: &mut aurora::WriteTransaction) -> aurora::Result<()> {
        match self {
            Change::Put(tree, key, value) => tx.tree(tree)?.put(key, value).map(|_| ()),
            Change::Delete(tree, key) => tx.tree(tree)?.delete(key).map(|_| ()),
            Change::PutMany(tree, entries) => {
                let entries = entries.iter().map(|(key, value)| (key, value));
                tx.tree(tree)?.put_many(entries).map(|_| ())
            }
            Change::DeleteMany(tree, keys) => tx.tree(tree)?.delete_many(keys).map(|_| ()),
            Change::DeleteRange(tree, low, high) => {
                tx.tree(tree)?.delete_range(&low[..]..&high[..]).map(|_| ())
            }
            Change::DropTree(tree) => match tx.drop_tree(tree) {
                Err(aurora::Error::TreeNotFound { .. }) => Ok(()),
                done => done,
            },
            Change::RenameTree(from, to) => match tx.rename_tree(from, to) {
                Err(aurora::Error::TreeNotFound { .. } | aurora::Error::BadTreeName { .. }) => {
                    Ok(())
                }
                done => done,
            },
        }
    }

    pub fn apply_to(&self, model: &mut Model) {
        let trees = &mut model.0;
        match self {
            Change::Put(tree, key, value) => {
                let tree = trees.entry(tree.clone()).or_default();
                tree.insert(key.clone(), value.clone());
            }
            Change::Delete(tree, key) => {
                trees.entry(tree.clone()).or_default().remove(key);
            }
            Change::PutMany(tree, entries) => {
                let tree = trees.entry(tree.clone()).or_default();
                tree.extend(entries.iter().cloned());
            }
            Change::DeleteMany(tree, keys) => {
                let tree = trees.entry(tree.clone()).or_default();
                tree.retain(|key, _| !keys.contains(key));
            }
            Change::DeleteRange(tree, low, high) => {
                let tree = trees.entry(tree.clone()).or_default();
                tree.retain(|key, _| key < low || key >= high);
            }
            Change::DropTree(tree) => {
                trees.remove(tree);
            }
            Change::RenameTree(from, to) => {
                if !trees.contains_key(to)
                    && let Some(tree) = trees.remove(from)
                {
                    trees.insert(to.clone(), tree);
                }
            }
        }
    }
}

/// Everything that a snapshot shows.
pub fn contents(snapshot: &Snapshot) -> aurora::Result<Model> {
    let mut model = Model::default();
    for name in snapshot.tree_names() {
        let view = snapshot.tree(name)?;
        let tree: Tree = view.iter().collect::<aurora::Result<_>>()?;
        assert_eq!(tree.len() as u64, view.len(), "the count of {name}");
        model.0.insert(name.to_string(), tree);
    }
    Ok(model)
}

/// The options of a repeatable run: no threads, a fixed salt, little memory, a small log.
pub fn repeatable() -> Builder {
    Aurora::builder()
        .background(false)
        .salt(7)
        .memory_limit(1 << 20)
        .log_limit(128 << 10)
        .durability(Durability::Full)
}

pub fn open(storage: Arc<dyn Storage>) -> aurora::Result<Aurora> {
    repeatable().open_storage(storage)
}

/// How much of a long suite to run: the environment variable `AURORA_TEST_BUDGET` multiplies it.
pub fn budget(base: u64) -> u64 {
    let factor = std::env::var("AURORA_TEST_BUDGET")
        .ok()
        .and_then(|value| value.parse::<u64>().ok())
        .unwrap_or(1);
    base * factor.max(1)
}

/// Does something with each item, on all cores. The first panic ends it for all.
pub fn each<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    struct Stop<'a>(&'a AtomicUsize);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.store(usize::MAX / 2, Ordering::Relaxed);
            }
        }
    }
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _stop = Stop(&next);
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}
