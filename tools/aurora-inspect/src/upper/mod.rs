//! What the database's own trees promise each other.
//!
//! # Invariants
//!
//! 1. Damage of pages is the survey's business and is not told again. What a damaged tree lost
//!    is not told as missing there: a notice says that the comparison was left out.
//! 2. Long values that are read add up to a multiple of the file's length at the most, even if many
//!    entries share one (which the survey tells).

mod blobs;
mod collections;
mod facts;
mod keys;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use aurora::anatomy::{self, Flaw, Root};

pub use blobs::{BlobRecord, content_fault};
pub use collections::load as load_collections;

use crate::source::Source;
use crate::survey::{Survey, TreeSurvey};
use crate::walk::{self, Entry, find, locate};
use crate::{Fault, Faults, Watcher, show};

/// Tree of users' keys.
pub const KEYS: &str = "aurora/keys";
/// Tree of what expires.
pub const EXPIRY: &str = "aurora/expiry";
/// Tree of small facts.
pub const META: &str = "aurora/meta";
/// Tree of collections.
pub const COLLECTIONS: &str = "aurora/collections";
/// Tree of chunks of blobs.
pub const CHUNKS: &str = "aurora/chunks";
/// Tree of blobs that no key has yet.
pub const STAGED: &str = "aurora/staged";

/// How often the length of the file may be read in long values.
const BUDGET: u64 = 16;

/// Compares all of the database's own trees.
pub fn check(source: &Source, survey: &Survey, watcher: &dyn Watcher) -> Faults {
    let mut check = Check {
        trees: Trees::new(source, survey),
        faults: Faults::default(),
        watcher,
    };
    facts::check(&mut check);
    let collections = collections::check(&mut check);
    keys::check(&mut check, &collections);
    blobs::check(&mut check);
    check.faults
}

/// The trees of the checkpoint, by name.
pub struct Trees<'s> {
    /// The file.
    pub source: &'s Source,
    survey: &'s Survey,
    by_name: HashMap<&'s str, &'s TreeSurvey>,
    told: RefCell<HashSet<String>>,
    /// Bytes of long values that may still be read (invariant 2).
    budget: Cell<u64>,
}

impl<'s> Trees<'s> {
    /// The trees that the survey found.
    pub fn new(source: &'s Source, survey: &'s Survey) -> Self {
        let trees = survey.trees.iter().skip(1);
        Trees {
            source,
            survey,
            by_name: trees.map(|tree| (tree.name.as_str(), tree)).collect(),
            told: RefCell::default(),
            budget: Cell::new(source.length().saturating_mul(BUDGET)),
        }
    }

    /// Where a tree begins; an empty one if there is none.
    pub fn root(&self, tree: &str) -> Root {
        let tree = self.by_name.get(tree);
        tree.map_or(Root::default(), |tree| tree.root)
    }

    /// Whether there is a tree of that name.
    pub fn has(&self, tree: &str) -> bool {
        self.by_name.contains_key(tree)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &'s str> {
        self.survey
            .trees
            .iter()
            .skip(1)
            .map(|tree| tree.name.as_str())
    }

    /// Entries that were found in a tree.
    pub fn entries(&self, tree: &str) -> u64 {
        self.survey
            .tree_named(tree)
            .map_or(0, |tree| tree.entries_found)
    }

    /// Whether nothing is missing in a tree. What a damaged catalog lost may be any tree.
    pub fn is_whole(&self, tree: &str) -> bool {
        let catalog = self
            .survey
            .trees
            .first()
            .is_some_and(|tree| tree.damages == 0);
        catalog
            && self
                .survey
                .tree_named(tree)
                .is_none_or(|tree| tree.damages == 0)
    }

    /// The value of a key. `Err`: what is in the way, which the survey has told.
    pub fn get(&self, tree: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(find(self.source, tree, &self.root(tree), key)?.value)
    }

    /// Whether a key is there. `None`: it cannot be said.
    pub fn contains(&self, tree: &str, key: &[u8]) -> Option<bool> {
        match locate(self.source, tree, &self.root(tree), key) {
            Ok(found) => Some(found.is_there()),
            Err(_) => None,
        }
    }

    /// Hands every entry of a tree to `each`.
    pub fn for_each(&self, tree: &str, mut each: impl FnMut(&Entry<'_>)) {
        walk::for_each_entry(self.source, tree, &self.root(tree), |entry| {
            each(entry);
            true
        });
    }

    /// The value of an entry, if it can be read.
    pub fn value(&self, entry: &Entry<'_>) -> Option<Vec<u8>> {
        if let anatomy::Cell::Run(run) = entry.cell {
            let left = self.budget.get().checked_sub(u64::from(run.length_bytes))?;
            self.budget.set(left);
        }
        walk::value_of(self.source, entry.cell).ok()
    }
}

/// A check that is under way.
struct Check<'s> {
    trees: Trees<'s>,
    faults: Faults,
    watcher: &'s dyn Watcher,
}

impl Check<'_> {
    /// A fault in a record.
    fn add(
        &mut self,
        area: &'static str,
        what: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
        tree: &str,
        key: &[u8],
    ) {
        let fault = Fault::new(area, what, expected, found).in_tree(tree);
        let mut fault = fault.of_key(show::key(tree, key, 64));
        // Where the record is, or would be.
        if let Ok(found) = locate(self.trees.source, tree, &self.trees.root(tree), key)
            && let Some((page, _, slot)) = found.path.last()
        {
            let at = self.trees.source.raw(*page).map_or(0, |bytes| {
                aurora::anatomy::PageHeader::decode(&bytes).slot_offset(*slot)
            });
            fault = fault.at_page(*page, self.trees.source.page_size(), at);
        }
        self.faults.add(fault);
    }

    fn flaw(&mut self, area: &'static str, flaw: Flaw, tree: &str, key: &[u8]) {
        self.add(area, flaw.what, flaw.expected, flaw.found, tree, key);
    }

    /// Whether what is missing in a tree counts as missing.
    fn can_miss(&mut self, area: &'static str, tree: &str) -> bool {
        if self.trees.is_whole(tree) {
            return true;
        }
        if self.trees.told.borrow_mut().insert(tree.to_string()) {
            let what = "entries of other trees were not looked for in a damaged tree";
            let fault = Fault::new(area, what, "a whole tree", "a damaged one").notice();
            self.faults.add(fault.in_tree(tree));
        }
        false
    }
}
