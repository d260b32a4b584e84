//! A new, healthy file out of all that can still be verified in a damaged one.
//!
//! ```text
//! geometry   page size and salt, from a slot or from the pages' own checksums
//! index      every page that proves itself            records   every record of the log that does
//!   state    the newest state that is left: catalog, space map, log
//!     gather   walking verified references, noting gaps
//!       evidence what a damaged page still says of the pages below it
//!       orphans  living pages that nothing leads to, put into gaps
//!       names    trees whose entry in the catalog is lost
//!         replay   commits of the log, onto the new file
//!           repair   indexes, expiry, blobs, collections
//! output     the new file     losses   what it does not have
//! ```
//!
//! # Invariants
//!
//! 1. The damaged file is only read.
//! 2. What is in a tree under its own name was in that tree in the newest state, or in the newest
//!    that is provable; all else is under `lost+found/`.
//! 3. Everything that was lost is told, or counted by its parent and told as a count.
//! 4. It ends, with memory in proportion to the number of pages.

mod evidence;
mod gather;
mod geometry;
mod index;
mod losses;
mod names;
mod orphans;
mod output;
mod records;
mod repair;
mod replay;
mod state;

use std::collections::HashSet;
use std::sync::Arc;

use aurora::anatomy::{Rebuild, Root};
use aurora::storage::Storage;
use serde::Serialize;

use crate::source::{Source, read_slots};
use crate::{Failure, Severity, Watcher, show};
use gather::{Gap, Gather, Sink, Start, Value};
use index::{Index, Named};
pub use losses::{Doubt, Loss, Losses};
use names::{Name, Names};
use orphans::Grounds;
pub use output::LOST_AND_FOUND;
use output::Output;
pub(crate) use output::failed;
pub use replay::Replayed;
use state::State;

/// What `salvage` did.
#[derive(Debug, Serialize)]
pub struct Salvaged {
    /// Bytes of a page.
    pub page_size: u32,
    /// Where page size and salt are from.
    pub geometry: String,
    /// Which state was brought back.
    pub state: String,
    /// The other header slot is damaged, and nothing in the log was written under this checkpoint: there may have been a newer one.
    pub may_be_older: bool,
    /// Its checkpoint, if its header was sound.
    pub checkpoint: Option<u64>,
    /// Commits of the log that were applied.
    pub log: Replayed,
    /// Trees of the new file, with entries.
    pub trees: Vec<(String, u64)>,
    /// What is missing.
    pub losses: Losses,
}

/// Reads all that can be verified in `from`, and writes it into the empty storage `to`.
pub fn salvage(
    from: Arc<dyn Storage>,
    to: Arc<dyn Storage>,
    watcher: &dyn Watcher,
) -> Result<Salvaged, Failure> {
    let io = |error: std::io::Error| Failure(error.to_string());
    let length = from.length().map_err(io)?;
    let slots = read_slots(&*from, length).map_err(io)?;
    for slot in &slots {
        if let crate::source::SlotState::Newer(reason) = &slot.state {
            return Err(Failure(reason.clone()));
        }
    }
    let geometry = geometry::find(&*from, length, &slots)?;
    let source = Source::whole(from, length, slots, geometry.page_size, geometry.salt);
    let index = Index::scan(&source, watcher)?;
    let state = state::choose(&source, &index);
    let rebuild = Rebuild::create(to, geometry.page_size, None).map_err(failed)?;
    let mut work = Work {
        output: Output::new(rebuild, geometry.page_size),
        gather: Gather::new(&source),
        source: &source,
        index: &index,
        state: &state,
        catalog_gaps: Vec::new(),
        all_named: true,
    };
    watcher.phase("trees", None);
    work.slots();
    let catalog = work.catalog()?;
    work.trees(catalog)?;
    work.lost_trees()?;
    work.uncertain()?;
    watcher.phase("log", None);
    let may_miss = !work.catalog_gaps.is_empty();
    let commits = state.commits(&source);
    work.gather.renew_budget();
    let log = replay::replay(
        &state,
        &commits,
        &mut work.gather,
        &mut work.output,
        may_miss,
    )?;
    work.tell()?;
    watcher.phase("keys, blobs and collections", None);
    let mut output = work.output;
    repair::repair(&mut output)?;
    let mut trees = Vec::new();
    for name in output.rebuild.trees().map_err(failed)? {
        let entries = output.rebuild.count(&name).map_err(failed)?;
        trees.push((name, entries));
    }
    output.rebuild.finish().map_err(failed)?;
    Ok(Salvaged {
        page_size: geometry.page_size,
        geometry: geometry.from,
        checkpoint: state.header.map(|header| header.checkpoint),
        may_be_older: state.may_be_outdated,
        state: state.from,
        log,
        trees,
        losses: output.losses,
    })
}

struct Work<'w> {
    output: Output,
    gather: Gather<'w>,
    source: &'w Source,
    index: &'w Index,
    state: &'w State,
    catalog_gaps: Vec<Gap>,
    /// Each tree that was found without an entry in the catalog has its name.
    all_named: bool,
}

/// Takes the entries of the catalog.
#[derive(Default)]
struct CatalogSink {
    entries: Vec<Named>,
    /// Keys that are no names, or have no roots.
    wrong: Vec<Vec<u8>>,
}

impl Sink for CatalogSink {
    fn entry(&mut self, _: usize, key: &[u8], value: Value<'_>) -> Result<(), Failure> {
        let entry = match value {
            Value::Whole(value) => index::named(key, value),
            _ => None,
        };
        match entry {
            Some(entry) => self.entries.push(entry),
            None => self.wrong.push(key.to_vec()),
        }
        Ok(())
    }
}

impl<'w> Work<'w> {
    fn grounds(&self, for_catalog: bool) -> Grounds<'w> {
        Grounds {
            index: self.index,
            space: self.state.space.as_ref(),
            version: self.state.version,
            for_catalog,
            has_lost_trees: !for_catalog && !self.is_catalog_whole(),
        }
    }

    /// What is wrong with the slots and with the map, which the new file has no use for.
    fn slots(&mut self) {
        for fault in self.source.check_slots(true).list() {
            if fault.severity == Severity::Damage {
                self.output.losses.repair(fault.line());
            }
        }
        let map = self.state.space.as_ref();
        let faults = map.filter(|_| self.state.header.is_some());
        for fault in faults.map(|map| map.faults.list()).unwrap_or_default() {
            self.output.losses.repair(fault.line());
        }
        if self.state.is_outdated {
            let what = "a newer checkpoint is known to have been written, and is lost";
            self.output.losses.lose(Loss {
                kind: "commits",
                what: what.to_string(),
                ..Loss::default()
            });
        }
        if let Some(header) = &self.state.header {
            let expected = u64::from(header.pages) * u64::from(header.page_size);
            let found = self.source.length();
            if found < expected {
                let what = format!("the file has {found} bytes, and should have {expected}");
                self.output.losses.repair(what);
            }
        }
    }

    /// The trees that the catalog names.
    fn catalog(&mut self) -> Result<Vec<Named>, Failure> {
        let mut sink = CatalogSink::default();
        let version = self.state.version;
        match &self.state.catalog {
            Some(root) => {
                let start = Start::of(root, version);
                self.gather.walk(usize::MAX, start, &mut sink)?;
            }
            // All that is left of it belongs into one gap.
            None => self.gather.gaps.push(Gap {
                tree: usize::MAX,
                at: aurora::anatomy::Reference::default(),
                level: u8::MAX,
                low: Vec::new(),
                high: None,
                count: None,
                birth: version,
                why: "the root of the catalog is lost".to_string(),
                found: 0,
                free: vec![(Vec::new(), None)],
                is_evidence: false,
            }),
        }
        let grounds = self.grounds(true);
        orphans::fill_gaps(&mut self.gather, &grounds, &mut sink)?;
        self.catalog_gaps = std::mem::take(&mut self.gather.gaps);
        for key in sink.wrong {
            self.output.losses.lose(Loss {
                kind: "tree",
                tree: Some(show::brief(&key, 255)),
                what: "its entry in the catalog is not one".to_string(),
                ..Loss::default()
            });
        }
        Ok(sink.entries)
    }

    fn trees(&mut self, catalog: Vec<Named>) -> Result<(), Failure> {
        // All names first: what is uncertain of one tree must not go into another that has its name under `lost+found/`.
        let mut trees = Vec::new();
        for entry in catalog {
            let tree = self.output.add_tree(&entry.name, Some(entry.number))?;
            trees.push((tree, entry.root));
        }
        for (tree, root) in trees {
            self.walk(tree, &root)?;
        }
        self.fill()
    }

    fn walk(&mut self, tree: usize, root: &Root) -> Result<(), Failure> {
        let start = Start::of(root, self.state.version);
        self.gather.walk(tree, start, &mut self.output).map(|_| ())
    }

    fn fill(&mut self) -> Result<(), Failure> {
        let grounds = self.grounds(false);
        orphans::fill_gaps(&mut self.gather, &grounds, &mut self.output)
    }

    /// Trees that the catalog named before it was damaged.
    fn lost_trees(&mut self) -> Result<(), Failure> {
        if self.is_catalog_whole() {
            return Ok(());
        }
        let names = Names::collect(self.source, self.index, &self.state.log, &self.catalog_gaps);
        let own_gaps = self.gather.gaps.len();
        let mut found = 0;
        // References in the damaged catalog are evidence as well.
        self.gather.gaps.extend(self.catalog_gaps.iter().cloned());
        let orphans = orphans::find(&self.gather, &self.grounds(false));
        self.gather.gaps.truncate(own_gaps);
        for orphan in orphans.into_iter().filter(|orphan| orphan.is_alive) {
            let intact = orphan.intact;
            let is_of_gap = self.gather.gaps.iter().any(|gap| {
                gap.level > intact.level && gap.place(&orphan.first, &orphan.last).is_some()
            });
            if self.gather.reached.has(intact.at.page) || is_of_gap {
                continue;
            }
            found += 1;
            let root = Root {
                at: intact.at,
                count: intact.entries,
                level: intact.level,
            };
            let tree = match names.of(intact.at, &root) {
                Name::Sure(name, number) if !self.has(&name)? => {
                    self.output.add_tree(&name, Some(number))?
                }
                Name::Sure(name, _) | Name::Likely(name) => {
                    self.all_named = false;
                    self.doubtful(&name, "the name is from an older or damaged page")
                }
                Name::Unknown => {
                    self.all_named = false;
                    let name = format!("tree-at-page-{}", intact.at.page);
                    self.doubtful(&name, "the name of the tree is lost")
                }
            };
            // Another tree may have got the same name under `lost+found/`.
            self.output.beside = self.output.is_doubtful(tree);
            self.walk(tree, &root)?;
            self.output.beside = false;
        }
        // Numbers of trees that were dropped and whose names are sure are not told as lost.
        if let Some(gap) = self.catalog_gaps.first_mut() {
            gap.found = gap.found.saturating_add(found);
        }
        self.fill()
    }

    fn is_catalog_whole(&self) -> bool {
        { self.catalog_gaps.iter() }.all(|gap| gap.count.is_some_and(|count| gap.found >= count))
    }

    fn has(&mut self, name: &str) -> Result<bool, Failure> {
        self.output.rebuild.has(name).map_err(failed)
    }

    fn doubtful(&mut self, name: &str, why: &'static str) -> usize {
        let tree = self.output.add_lost_tree(name, None);
        if let Some(tree) = self.output.trees.get_mut(tree) {
            tree.doubt = Some(why);
        }
        tree
    }

    /// What may belong to the state: it goes to `lost+found`, newest first.
    fn uncertain(&mut self) -> Result<(), Failure> {
        let is_open = |gap: &Gap| gap.count.is_none_or(|count| gap.found < count);
        if !self.gather.gaps.iter().any(is_open) && self.is_catalog_whole() {
            return Ok(());
        }
        // What refers to them can belong into no gap, though they do.
        let mut passed = HashSet::new();
        let mut before = usize::MAX;
        self.output.beside = true;
        while passed.len() != before {
            before = passed.len();
            self.uncertain_without(&mut passed)?;
        }
        self.output.beside = false;
        Ok(())
    }

    /// The same as if some pages were not there, to which those are added that belong into no gap.
    fn uncertain_without(&mut self, passed: &mut HashSet<u32>) -> Result<(), Failure> {
        let is_open = |gap: &Gap| gap.count.is_none_or(|count| gap.found < count);
        let mut orphans = orphans::find_without(&self.gather, &self.grounds(false), passed);
        // What a damaged page speaks of comes first: newer pages of other trees can have the same keys.
        orphans.sort_by_key(|orphan| {
            let intact = &orphan.intact;
            std::cmp::Reverse((orphan.tree.is_some(), intact.birth, intact.level))
        });
        for orphan in orphans {
            let intact = orphan.intact;
            if self.gather.reached.has(intact.at.page) {
                continue;
            }
            let gaps: Vec<&Gap> = { self.gather.gaps.iter() }
                .filter(|gap| {
                    let is_above = gap.level >= intact.level;
                    let overlaps = gap.low <= orphan.last
                        && gap.high.as_ref().is_none_or(|high| orphan.first < *high);
                    is_above && overlaps && intact.birth <= gap.birth && is_open(gap)
                })
                .collect();
            let first = gaps.first().map(|gap| gap.tree);
            let is_one = first.is_some_and(|tree| gaps.iter().all(|gap| gap.tree == tree));
            let is_unnamed = !self.is_catalog_whole();
            let name = match first.filter(|_| is_one) {
                Some(tree) => self.output.name(tree),
                None if first.is_some() || is_unnamed => {
                    format!("page-{}", intact.at.page)
                }
                // It belongs into no gap: an old copy.
                None => {
                    passed.insert(intact.at.page);
                    continue;
                }
            };
            let root = Root {
                at: intact.at,
                count: intact.entries,
                level: intact.level,
            };
            let why = match orphan.is_alive {
                true => "of the newest state, but of no certain tree",
                false => "perhaps an old copy: nothing shows that the state has these pages",
            };
            let gaps = self.gather.gaps.len();
            let tree = self.doubtful(&name, why);
            self.walk(tree, &root)?;
            // What an old copy misses is no loss of the state.
            self.gather.gaps.truncate(gaps);
            if !orphan.is_alive {
                self.output.overwritten_range(tree, |_| true);
            }
        }
        Ok(())
    }

    /// Tells what the gaps cost.
    fn tell(&mut self) -> Result<(), Failure> {
        for gap in std::mem::take(&mut self.catalog_gaps) {
            let is_repaired = gap.level > 0 || self.all_named;
            if gap.count.is_some_and(|count| gap.found >= count) && is_repaired {
                let (page, why) = (gap.at.page, &gap.why);
                let what = format!("page {page} of the catalog: {why}; all below it was found");
                self.output.losses.repair(what);
                continue;
            }
            self.output.losses.lose(Loss {
                kind: "page",
                tree: Some(crate::survey::CATALOG.to_string()),
                page: Some(gap.at.page).filter(|page| *page > 0),
                pages: Some(1),
                entries: gap.count,
                recovered: gap.count.map_or(gap.found, |count| gap.found.min(count)),
                what: format!("{}: entries are trees", gap.why),
                ..Loss::default()
            });
        }
        for gap in std::mem::take(&mut self.gather.gaps) {
            let Some(tree) = self
                .output
                .trees
                .get(gap.tree)
                .filter(|tree| !tree.is_dropped)
            else {
                continue;
            };
            let name = tree.name.clone();
            if gap.level > 0 && gap.count == Some(gap.found) {
                let (page, level) = (gap.at.page, gap.level);
                let why = &gap.why;
                self.output.losses.repair(format!(
                    "page {page}, a branch of level {level} of {name:?}: {why}; all {} entries \
                     below it were found",
                    gap.found
                ));
                continue;
            }
            let missing = evidence::missing_below(&self.gather, self.index, &gap);
            let (low, high) = gap.free.first().cloned().unwrap_or((gap.low, gap.high));
            let rebuild = &mut self.output.rebuild;
            let near = rebuild.neighbors(&name, &low, high.as_deref());
            let (after, before) = near.map_err(failed)?;
            let shown = |key: Vec<u8>| show::key(&name, &key, 256);
            self.output.losses.lose(Loss {
                kind: "page",
                tree: Some(name.clone()),
                page: Some(gap.at.page),
                pages: Some(1),
                key: None,
                after: after.map(shown),
                before: before.map(shown),
                entries: gap.count,
                recovered: gap.found,
                what: gap.why + &below(&missing),
            });
        }
        if self.gather.miscounts > 0 {
            let count = self.gather.miscounts;
            let what = format!("{count} counts in branches are not those of what is below");
            self.output.losses.repair(what);
        }
        self.output.tell_values();
        self.output.tell_doubts();
        Ok(())
    }
}

/// The pages that a damaged one refers to and that are not there, in words.
fn below(missing: &[u32]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = { missing.iter().take(SHOWN) }
        .map(|page| format!("page {page}"))
        .collect();
    let more = match missing.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match shown.is_empty() {
        true => more,
        false => format!(
            "; what it refers to at {}{more} was not found",
            shown.join(", ")
        ),
    }
}
