//! A state: one moment of the database, immutable, shared by everyone who looks at it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};
use std::sync::Arc;

use crate::format::{TreeRoot, Version};
use crate::log::Versioned;

/// The number of a tree while it exists.
pub(crate) type TreeId = u32;

const CHUNK: usize = 16;

/// What a snapshot is: a version number and the root of every tree.
#[derive(Default)]
pub(crate) struct State {
    pub version: Version,
    pub trees: Trees,
}

/// Without the trees, of which there may be thousands.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("State");
        shown
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Versioned for State {
    fn version(&self) -> Version {
        self.version
    }
}

/// The trees by name and by number. Cloning shares everything but what is changed afterwards, so
/// that a commit costs the same however many trees there are: one list of pointers, one chunk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trees {
    names: Arc<Names>,
    roots: Arc<Vec<Arc<[TreeRoot; CHUNK]>>>,
}

/// Names and numbers, each found by the other.
#[derive(Debug, Clone, Default)]
struct Names {
    ids: BTreeMap<Arc<str>, TreeId>,
    names: BTreeMap<TreeId, Arc<str>>,
    /// Numbers that no tree has, below the highest that one has.
    vacant: Vacant,
}

impl Names {
    fn insert(&mut self, name: &str, id: TreeId) {
        let next = self.next();
        match id < next {
            true => self.vacant.take(id),
            false => self.vacant.add(next..id),
        }
        let name: Arc<str> = name.into();
        self.ids.insert(name.clone(), id);
        self.names.insert(id, name);
    }

    /// Above all that are taken.
    fn next(&self) -> TreeId {
        let highest = self.names.last_key_value();
        highest.map_or(0, |(id, _)| id.saturating_add(1))
    }

    fn remove(&mut self, id: TreeId) {
        if let Some(name) = self.names.remove(&id) {
            self.ids.remove(&name);
            self.vacant.add(id..id.saturating_add(1));
            let next = self.next();
            self.vacant.cut(next);
        }
    }
}

/// A set of numbers as ranges, by their starts: no two overlap or touch, so that a single tree of a high number, the
/// others dropped, takes one entry and not millions.
#[derive(Debug, Clone, Default)]
struct Vacant(BTreeMap<TreeId, TreeId>);

impl Vacant {
    fn first(&self) -> Option<TreeId> {
        self.0.first_key_value().map(|(start, _)| *start)
    }

    /// Adds numbers that are not there.
    fn add(&mut self, mut added: Range<TreeId>) {
        if added.is_empty() {
            return;
        }
        if let Some((&start, &end)) = self.0.range(..added.start).next_back()
            && end == added.start
        {
            added.start = start;
        }
        if let Some(end) = self.0.remove(&added.end) {
            added.end = end;
        }
        self.0.insert(added.start, added.end);
    }

    /// Takes a number out, if it is there.
    fn take(&mut self, id: TreeId) {
        let Some((&start, &end)) = self.0.range(..=id).next_back() else {
            return;
        };
        if id < end {
            self.0.remove(&start);
            self.add(start..id);
            self.add(id.saturating_add(1)..end);
        }
    }

    /// Takes out all numbers from `end` on. A range never spans it: it is that of the highest tree, or above that.
    fn cut(&mut self, end: TreeId) {
        self.0.split_off(&end);
    }
}

impl Trees {
    pub(crate) fn id(&self, name: &str) -> Option<TreeId> {
        self.names.ids.get(name).copied()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, TreeId)> {
        self.names.ids.iter().map(|(name, id)| (&**name, *id))
    }

    /// The tree of that name, or the one that comes next by name.
    pub(crate) fn first_from(&self, name: &str) -> Option<(&str, TreeId)> {
        let from = (Bound::Included(name), Bound::Unbounded);
        let (name, id) = self.names.ids.range::<str, _>(from).next()?;
        Some((name, *id))
    }

    pub(crate) fn root(&self, id: TreeId) -> TreeRoot {
        let id = id as usize;
        let chunk = self.roots.get(id / CHUNK);
        chunk
            .and_then(|c| c.get(id % CHUNK))
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn set_root(&mut self, id: TreeId, root: TreeRoot) {
        let id = id as usize;
        let roots = Arc::make_mut(&mut self.roots);
        if roots.len() <= id / CHUNK {
            // One empty chunk for all: a high number in a forged file takes no memory for those below it.
            roots.resize(id / CHUNK + 1, Arc::default());
        }
        if let Some(chunk) = roots.get_mut(id / CHUNK)
            && let Some(slot) = Arc::make_mut(chunk).get_mut(id % CHUNK)
        {
            *slot = root;
        }
    }

    /// The lowest number that no tree has.
    pub(crate) fn vacant_id(&self) -> TreeId {
        let vacant = self.names.vacant.first();
        vacant.unwrap_or_else(|| self.names.next())
    }

    pub(crate) fn insert(&mut self, name: &str, id: TreeId, root: TreeRoot) {
        Arc::make_mut(&mut self.names).insert(name, id);
        self.set_root(id, root);
    }

    pub(crate) fn remove(&mut self, id: TreeId) {
        Arc::make_mut(&mut self.names).remove(id);
        self.set_root(id, TreeRoot::default());
    }

    pub(crate) fn rename(&mut self, id: TreeId, name: &str) {
        let names = Arc::make_mut(&mut self.names);
        names.remove(id);
        names.insert(name, id);
    }
}

/// The highest number of a tree. The list of all roots below it takes 8 MiB.
pub(crate) const MAX_TREE: TreeId = (1 << 24) - 1;

/// The longest name of a tree, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// What the catalog holds for a tree: its number and root. The key is its name.
pub(crate) mod catalog {
    use super::{TreeId, TreeRoot};
    use crate::format::{PageRef, get_u32, get_u64, put_u32, put_u64};

    pub(crate) const ENTRY_BYTES: usize = 24;

    pub(crate) fn encode(id: TreeId, root: &TreeRoot) -> [u8; ENTRY_BYTES] {
        let mut b = [0; ENTRY_BYTES];
        put_u32(&mut b, 0, id);
        put_u32(&mut b, 4, root.root.page);
        put_u32(&mut b, 8, root.root.checksum);
        b[12] = root.level;
        put_u64(&mut b, 16, root.count);
        b
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<(TreeId, TreeRoot)> {
        let b: &[u8; ENTRY_BYTES] = bytes.try_into().ok()?;
        let root = TreeRoot {
            root: PageRef {
                page: get_u32(b, 4),
                checksum: get_u32(b, 8),
            },
            count: get_u64(b, 16),
            level: b[12],
        };
        Some((get_u32(b, 0), root))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut trees = Trees::default();
        let root = |count| TreeRoot {
            count,
            ..TreeRoot::default()
        };
        for i in 0..40 {
            assert_eq!(trees.vacant_id(), i);
            trees.insert(&format!("t{i}"), i, root(u64::from(i)));
        }
        let before = trees.clone();
        trees.set_root(20, root(99));
        trees.remove(7);
        trees.rename(8, "other");
        assert_eq!(before.root(20).count, 20);
        assert_eq!(before.id("t7"), Some(7));
        assert_eq!((trees.root(20).count, trees.id("t7")), (99, None));
        assert_eq!((trees.id("other"), trees.id("t8")), (Some(8), None));
        assert_eq!(trees.vacant_id(), 7);
    }

    #[test]
    fn the_lowest_vacant_number_is_found_whatever_was_dropped() {
        let mut trees = Trees::default();
        let mut model = BTreeSet::new();
        let mut seed = 7_u64;
        for step in 0..20_000 {
            seed = crate::checksum::crc32c(&seed.to_le_bytes()).into();
            let lowest = (0..).find(|id| !model.contains(id)).unwrap();
            assert_eq!(trees.vacant_id(), lowest, "step {step}");
            let id = (seed % 40) as TreeId;
            if model.remove(&id) {
                trees.remove(id);
            } else if seed.is_multiple_of(3) {
                model.insert(id);
                trees.insert(&format!("t{id}"), id, TreeRoot::default());
            } else {
                model.insert(lowest);
                trees.insert(&format!("t{lowest}"), lowest, TreeRoot::default());
            }
            let ranges: Vec<_> = trees.names.vacant.0.iter().collect();
            let is_tight = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
            assert!(is_tight, "step {step}: {ranges:?}");
        }
    }

    #[test]
    fn the_next_tree_by_name_is_found() {
        let mut trees = Trees::default();
        for (id, name) in ["b", "d", "a"].into_iter().enumerate() {
            trees.insert(name, id as TreeId, TreeRoot::default());
        }
        let from = |name| trees.first_from(name);
        assert_eq!((from(""), from("a")), (Some(("a", 2)), Some(("a", 2))));
        assert_eq!((from("a\0"), from("c")), (Some(("b", 0)), Some(("d", 1))));
        assert_eq!((from("d"), from("d\0")), (Some(("d", 1)), None));
    }

    #[test]
    fn a_high_number_takes_little() {
        let mut trees = Trees::default();
        trees.insert("high", MAX_TREE, TreeRoot::default());
        assert_eq!(trees.names.vacant.0.len(), 1);
        let chunks: HashSet<_> = trees.roots.iter().map(Arc::as_ptr).collect();
        assert_eq!(chunks.len(), 2);
        assert_eq!(trees.vacant_id(), 0);
    }

    #[test]
    fn catalog_entries_read_back() {
        let root = TreeRoot {
            root: crate::format::PageRef {
                page: 3,
                checksum: 4,
            },
            count: 5,
            level: 2,
        };
        assert_eq!(catalog::decode(&catalog::encode(9, &root)), Some((9, root)));
        assert_eq!(catalog::decode(&[0; 23]), None);
    }
}
