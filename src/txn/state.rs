//! A state: one moment of the database, immutable, shared by everyone who looks at it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::format::{TreeRoot, Version};
use crate::log::Versioned;

/// The number of a tree while it exists.
pub(crate) type TreeId = u32;

/// So many roots lie together.
const CHUNK: usize = 16;

/// So many of these chunks are in one list.
const CHUNKS: usize = 64;

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
/// that a commit costs about the same however many trees there are: a list or two of pointers, one chunk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trees {
    names: Arc<Names>,
    roots: Roots,
}

/// Roots by the numbers of their trees, in chunks that a copy shares. (With one list of all chunks each savepoint before a
/// change, and each commit, copied 8 bytes for every 16 trees: 10 KB beside 20,000.)
#[derive(Debug, Clone, Default)]
struct Roots {
    /// The first chunks, which are all that there are in most databases.
    first: Arc<Chunks>,
    /// Those behind, in lists of the same length.
    others: Arc<Vec<Arc<Chunks>>>,
}

/// Up to [`CHUNKS`] of them: what is missing at the end is of no tree.
type Chunks = Vec<Arc<[TreeRoot; CHUNK]>>;

impl Roots {
    fn get(&self, id: TreeId) -> Option<&TreeRoot> {
        let (chunk, within) = (id as usize / CHUNK, id as usize % CHUNK);
        let chunks = match chunk.checked_sub(CHUNKS) {
            None => &self.first,
            Some(behind) => self.others.get(behind / CHUNKS)?,
        };
        chunks.get(chunk % CHUNKS)?.get(within)
    }

    fn set(&mut self, id: TreeId, root: TreeRoot) {
        let (chunk, within) = (id as usize / CHUNK, id as usize % CHUNK);
        let chunks = match chunk.checked_sub(CHUNKS) {
            None => Some(&mut self.first),
            Some(behind) => {
                let others = Arc::make_mut(&mut self.others);
                if others.len() <= behind / CHUNKS {
                    // One empty list for all: a high number in a forged file takes no memory for those below it.
                    others.resize(behind / CHUNKS + 1, Arc::default());
                }
                others.get_mut(behind / CHUNKS)
            }
        };
        let Some(chunks) = chunks.map(Arc::make_mut) else {
            return;
        };
        if chunks.len() <= chunk % CHUNKS {
            chunks.resize(chunk % CHUNKS + 1, Arc::default()); // nor so
        }
        if let Some(chunk) = chunks.get_mut(chunk % CHUNKS)
            && let Some(slot) = Arc::make_mut(chunk).get_mut(within)
        {
            *slot = root;
        }
    }
}

/// Names and numbers, each found by the other, in parts that a copy shares: to make a tree or drop one copies two of them
/// and the lists of all. (As two maps, which were copied whole, each took 5 to 7 ms beside 15,000 others.)
#[derive(Debug, Clone, Default)]
struct Names {
    /// In order of the names; none is empty.
    ids: Vec<Arc<Part>>,
    names: Vec<Arc<[Option<Arc<str>>; NAMES]>>,
    /// Numbers that no tree has, below the highest that one has.
    vacant: Vacant,
    /// Above all that are taken.
    next: TreeId,
}

/// Some names in order, with their numbers.
type Part = Vec<(Arc<str>, TreeId)>;

/// A part with more names than this becomes two.
const MOST_IN_PART: usize = 128;

/// So many names lie together by their numbers.
const NAMES: usize = 64;

impl Names {
    /// The part in which a name is or would be, if it is not behind all.
    fn part_of(&self, name: &str) -> usize {
        let is_before = |part: &Arc<Part>| part.last().is_some_and(|(last, _)| &**last < name);
        self.ids.partition_point(is_before)
    }

    fn id(&self, name: &str) -> Option<TreeId> {
        let part = self.ids.get(self.part_of(name))?;
        let place = part.binary_search_by(|(known, _)| (**known).cmp(name));
        part.get(place.ok()?).map(|(_, id)| *id)
    }

    /// All from that name on, in order.
    fn from(&self, name: &str) -> impl Iterator<Item = (&str, TreeId)> {
        let first = self.part_of(name);
        let parts = self.ids.get(first..).unwrap_or_default();
        let before = parts
            .first()
            .map_or(0, |part| part.partition_point(|(known, _)| &**known < name));
        let all = parts.iter().flat_map(|part| part.iter()).skip(before);
        all.map(|(name, id)| (&**name, *id))
    }

    fn insert(&mut self, name: &str, id: TreeId) {
        match id < self.next {
            true => self.vacant.take(id),
            false => self.vacant.add(self.next..id),
        }
        self.next = self.next.max(id.saturating_add(1));
        let name: Arc<str> = name.into();
        self.set_name(id, Some(name.clone()));
        // Behind all is in the last part.
        let index = self.part_of(&name).min(self.ids.len().saturating_sub(1));
        if self.ids.is_empty() {
            self.ids.push(Arc::default());
        }
        let is_last = index + 1 >= self.ids.len();
        let Some(part) = self.ids.get_mut(index).map(Arc::make_mut) else {
            return;
        };
        match part.binary_search_by(|(known, _)| known.cmp(&name)) {
            Err(place) => part.insert(place, (name, id)),
            // Only a forged log gives a name twice.
            Ok(place) => part.splice(place..=place, [(name, id)]).for_each(drop),
        }
        if part.len() > MOST_IN_PART {
            // Names often come in order.
            let kept = match is_last {
                true => MOST_IN_PART,
                false => MOST_IN_PART / 2,
            };
            let rest = part.split_off(kept);
            self.ids.insert(index + 1, Arc::new(rest));
        }
    }

    /// Gives a number another name, or none. Returns the one before.
    fn set_name(&mut self, id: TreeId, name: Option<Arc<str>>) -> Option<Arc<str>> {
        let (index, within) = (id as usize / NAMES, id as usize % NAMES);
        if self.names.len() <= index {
            // One empty part for all below a high number.
            let none = Arc::new([const { None }; NAMES]);
            self.names.resize(index + 1, none);
        }
        let part = Arc::make_mut(self.names.get_mut(index)?);
        std::mem::replace(part.get_mut(within)?, name)
    }

    fn name(&self, id: TreeId) -> Option<&Arc<str>> {
        let part = self.names.get(id as usize / NAMES)?;
        part.get(id as usize % NAMES)?.as_ref()
    }

    fn remove(&mut self, id: TreeId) {
        if self.name(id).is_none() {
            return;
        }
        let Some(name) = self.set_name(id, None) else {
            return;
        };
        let index = self.part_of(&name);
        if let Some(part) = self.ids.get_mut(index).map(Arc::make_mut) {
            if let Ok(place) = part.binary_search_by(|(known, _)| known.cmp(&name)) {
                part.remove(place);
            }
            if part.is_empty() {
                self.ids.remove(index);
            }
        }
        self.vacant.add(id..id.saturating_add(1));
        // What is vacant up to the end is above all that are taken.
        if let Some(start) = self.vacant.last_up_to(self.next) {
            self.next = start;
            self.vacant.cut(start);
            self.names.truncate((start as usize).div_ceil(NAMES));
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

    /// Where the last range starts, if it ends there.
    fn last_up_to(&self, end: TreeId) -> Option<TreeId> {
        let (start, last) = self.0.last_key_value()?;
        (*last == end).then_some(*start)
    }

    /// Takes out all numbers from `end` on. A range never spans it: it is that of the highest tree, or above that.
    fn cut(&mut self, end: TreeId) {
        self.0.split_off(&end);
    }
}

impl Trees {
    pub(crate) fn id(&self, name: &str) -> Option<TreeId> {
        self.names.id(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, TreeId)> {
        self.names.from("")
    }

    /// The tree of that name, or the one that comes next by name.
    pub(crate) fn first_from(&self, name: &str) -> Option<(&str, TreeId)> {
        self.names.from(name).next()
    }

    pub(crate) fn root(&self, id: TreeId) -> TreeRoot {
        self.roots.get(id).copied().unwrap_or_default()
    }

    pub(crate) fn set_root(&mut self, id: TreeId, root: TreeRoot) {
        self.roots.set(id, root);
    }

    /// The lowest number that no tree has.
    pub(crate) fn vacant_id(&self) -> TreeId {
        let vacant = self.names.vacant.first();
        vacant.unwrap_or(self.names.next)
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

/// The highest number of a tree. The lists of all roots and names below it take some 2 MiB.
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
    fn names_and_numbers_are_found_by_each_other_whatever_was_made_and_dropped() {
        let mut trees = Trees::default();
        let mut model: BTreeMap<String, TreeId> = BTreeMap::new();
        let mut seed = 3_u64;
        for step in 0..30_000_u32 {
            seed = crate::checksum::crc32c(&seed.to_le_bytes()).into();
            // Up to some thousand, then down to none.
            let makes = seed.is_multiple_of(5) == (step > 15_000);
            let name = format!("t{}", seed % 4_000);
            match model.get(&name).copied() {
                None if makes => {
                    let id = trees.vacant_id();
                    trees.insert(&name, id, TreeRoot::default());
                    model.insert(name, id);
                }
                Some(id) if seed.is_multiple_of(7) => {
                    trees.rename(id, &format!("{name}~"));
                    assert_eq!(trees.id(&name), None);
                    trees.rename(id, &name);
                }
                Some(id) if !makes => {
                    trees.remove(id);
                    model.remove(&name);
                }
                _ => {
                    let next = model.range(name.clone()..).next();
                    let next = next.map(|(name, id)| (name.as_str(), *id));
                    assert_eq!(trees.first_from(&name), next, "step {step}");
                    assert_eq!(trees.id(&name), model.get(&name).copied());
                }
            }
            if step.is_multiple_of(1_000) {
                let all = model.iter().map(|(name, id)| (name.as_str(), *id));
                assert!(trees.names().eq(all), "step {step}");
                let names = &trees.names;
                assert!(names.ids.iter().all(|part| !part.is_empty()));
                let highest = model.values().max().map_or(0, |id| id + 1);
                assert_eq!(names.next, highest, "step {step}");
                let most = model.len().div_ceil(MOST_IN_PART / 4) + 1;
                assert!(step > 15_000 || names.ids.len() <= most);
            }
        }
    }

    #[test]
    fn a_tree_that_is_made_or_dropped_leaves_the_parts_of_others_shared() {
        let mut trees = Trees::default();
        for id in 0..20_000 {
            trees.insert(
                &format!("t{:05}", id * 7_919 % 20_000),
                id,
                TreeRoot::default(),
            );
        }
        let before = trees.names.clone();
        trees.insert("t10000 too", 20_000, TreeRoot::default());
        trees.remove(7);
        let (names, after) = (&before.names, &trees.names);
        let shared = { names.iter().zip(&after.names) }.filter(|(a, b)| Arc::ptr_eq(a, b));
        assert!(shared.count() + 2 >= names.len() && names.len() > 200);
        let of_before: HashSet<_> = before.ids.iter().map(Arc::as_ptr).collect();
        let shared = { after.ids.iter() }.filter(|part| of_before.contains(&Arc::as_ptr(part)));
        assert!(shared.count() + 2 >= of_before.len() && of_before.len() > 100);
    }

    /// What a savepoint keeps of the roots beside it, and a commit copies.
    #[test]
    fn a_root_that_changes_leaves_nearly_all_lists_shared() {
        let of = |id: TreeId, round| TreeRoot {
            count: u64::from(id) * 3 + round,
            ..TreeRoot::default()
        };
        let mut trees = Trees::default();
        (0..20_000).for_each(|id| trees.insert(&format!("t{id}"), id, of(id, 0)));
        for changed in [0, 15, 16, 1_023, 1_024, 2_047, 2_048, 19_999] {
            let before = trees.clone();
            trees.set_root(changed, of(changed, 1));
            let (old, new) = (&before.roots, &trees.roots);
            let of_first = match Arc::ptr_eq(&old.first, &new.first) {
                true => 0,
                false => new.first.len(),
            };
            let of_others = match Arc::ptr_eq(&old.others, &new.others) {
                true => 0,
                false => new.others.len() + CHUNKS,
            };
            assert!(of_first + of_others <= 100, "{of_first}, {of_others}");
            for id in 0..20_000 {
                assert_eq!(before.root(id), of(id, 0));
                assert_eq!(trees.root(id), of(id, u64::from(id == changed)));
            }
            trees = before;
        }
        assert_eq!(trees.root(20_000), TreeRoot::default());
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
        let lists: HashSet<_> = trees.roots.others.iter().map(Arc::as_ptr).collect();
        assert_eq!(lists.len(), 2);
        let last = trees.roots.others.last().unwrap();
        let chunks: HashSet<_> = last.iter().map(Arc::as_ptr).collect();
        assert_eq!((last.len(), chunks.len()), (CHUNKS, 2));
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
