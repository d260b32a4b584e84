//! The survey: everything that can be reached from a header slot, page by page.
//!
//! ```text
//! header slot -> catalog -> trees -> runs
//!             -> space map                       what they say of a page is compared at the end:
//!             -> log rings                       reached and free pages together are all pages
//! ```
//!
//! # Invariants
//!
//! 1. It ends, and takes memory in proportion to the number of pages of the file.
//! 2. No page is counted for two uses: the second one is a fault, and is not followed.

use aurora::anatomy::{self, Cell, Node, Run, SPACE_BITMAP, SPACE_INDEX};
use serde::Serialize;

use crate::map::SpaceMap;
use crate::source::Source;
use crate::walk::{Entry, Step, Visitor, walk};
use crate::{Failure, Fault, Faults};

/// Name that the catalog has in what is shown. No tree can be called so.
pub const CATALOG: &str = "aurora/(catalog)";
/// How many of the longest values are listed.
const LARGEST: usize = 10;

/// What a page is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Use {
    /// Nothing leads to it, and it is not free.
    #[default]
    Unknown = 0,
    /// A header slot.
    Header = 1,
    /// The log's ring.
    Log = 2,
    /// A leaf of a tree.
    Leaf = 3,
    /// A branch of a tree.
    Branch = 4,
    /// A long value, or a part of one.
    Run = 5,
    /// A bitmap of the space map.
    Bitmap = 6,
    /// An index page of the space map.
    Index = 7,
    /// Free, says the space map.
    Free = 8,
    /// Behind what the checkpoint covers.
    Beyond = 9,
}

impl Use {
    /// All of them.
    pub const ALL: [Use; 10] = [
        Use::Unknown,
        Use::Header,
        Use::Log,
        Use::Leaf,
        Use::Branch,
        Use::Run,
        Use::Bitmap,
        Use::Index,
        Use::Free,
        Use::Beyond,
    ];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Use::Unknown => "unknown",
            Use::Header => "header",
            Use::Log => "log",
            Use::Leaf => "leaf",
            Use::Branch => "branch",
            Use::Run => "run",
            Use::Bitmap => "bitmap",
            Use::Index => "index",
            Use::Free => "free",
            Use::Beyond => "beyond",
        }
    }
}

/// What is known of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageInfo {
    /// Its use.
    pub usage: Use,
    /// Its level.
    pub level: u8,
    /// How full it is, in percent.
    pub fill: u8,
    /// Something is wrong with it.
    pub is_damaged: bool,
    /// Slots of a node, entries of an index page.
    pub entries: u16,
    /// Index in [`Survey::trees`], plus 1; 0: none.
    pub tree: u32,
}

/// A level of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Level {
    /// 0 for the leaves.
    pub level: u8,
    /// Pages.
    pub pages: u64,
    /// Slots in them.
    pub slots: u64,
    /// Slots of the page with the fewest.
    pub fewest: u64,
    /// Slots of the page with the most.
    pub most: u64,
    /// Bytes in use, without page headers.
    pub used_bytes: u64,
}

/// A long value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Large {
    /// Its tree.
    pub tree: String,
    /// Its key.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// The page where it begins.
    pub page: u32,
}

/// What was found of a tree.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TreeSurvey {
    /// Its name.
    pub name: String,
    /// Its number in records of the log.
    pub number: u32,
    /// Its root.
    #[serde(skip)]
    pub root: anatomy::Root,
    /// The root's page.
    pub root_page: u32,
    /// Entries, as the catalog says.
    pub entries: u64,
    /// Entries that were found.
    pub entries_found: u64,
    /// Levels, counting the leaves.
    pub depth: u32,
    /// Pages of leaves.
    pub leaf_pages: u64,
    /// Pages of branches.
    pub branch_pages: u64,
    /// Long values.
    pub runs: u64,
    /// Pages of long values.
    pub run_pages: u64,
    /// Bytes of all keys.
    pub key_bytes: u64,
    /// Bytes of all values.
    pub value_bytes: u64,
    /// How full the leaves are, from 0 to 1.
    pub leaf_fill: f64,
    /// From the leaves up.
    pub levels: Vec<Level>,
    /// Faults in it.
    pub damages: u64,
}

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether long values are read and compared with their checksums.
    pub read_runs: bool,
}

/// Hears how far a survey is.
pub trait Watcher {
    /// So many more pages were looked at.
    fn pages(&self, count: u64) {
        let _ = count;
    }

    /// Something else begins: its name, and how much there is to do, if that is known.
    fn phase(&self, name: &str, total: Option<u64>) {
        let _ = (name, total);
    }
}

/// Hears, and does nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Watcher for Silent {}

/// What was found.
#[derive(Debug, Default)]
pub struct Survey {
    /// Each page of the file.
    pub pages: Vec<PageInfo>,
    /// The catalog, then all trees in the order of their names.
    pub trees: Vec<TreeSurvey>,
    /// What the space map says.
    pub space: SpaceMap,
    /// The longest values.
    pub largest: Vec<Large>,
    /// What is wrong.
    pub faults: Faults,
}

impl Survey {
    /// Looks at everything that the chosen header leads to.
    pub fn take(
        source: &Source,
        options: Options,
        watcher: &dyn Watcher,
    ) -> Result<Survey, Failure> {
        let header = *source.header()?;
        watcher.phase("pages", Some(u64::from(source.pages())));
        let mut pages = Vec::new();
        let length = source.file_pages() as usize;
        pages.try_reserve_exact(length).map_err(|_| {
            Failure(format!(
                "there is no memory for what is known of {length} pages"
            ))
        })?;
        pages.resize(length, PageInfo::default());
        let mut survey = Survey {
            pages,
            ..Survey::default()
        };
        survey.claim(source, 0, 2, Use::Header, 0, "header");
        for ring in [header.log, header.next_log] {
            survey.claim(source, ring.first, ring.pages, Use::Log, 0, "log");
            watcher.pages(u64::from(ring.pages));
        }
        let catalog = survey.catalog(source, options, watcher);
        for (name, number, root) in catalog {
            let tree = TreeSurvey {
                name,
                number,
                ..TreeSurvey::default()
            };
            survey.tree(source, tree, root, options, watcher, &mut |_| {});
        }
        survey.check_numbers(source);
        let space = SpaceMap::read(source, &header);
        for (page, level, entries, kind) in &space.pages {
            let usage = match *kind {
                SPACE_BITMAP => Use::Bitmap,
                SPACE_INDEX => Use::Index,
                _ => Use::Unknown,
            };
            if survey.claim(source, *page, 1, usage, 0, "space")
                && let Some(info) = survey.pages.get_mut(*page as usize)
            {
                info.level = *level;
                info.entries = *entries;
            }
            watcher.pages(1);
        }
        survey.faults.append(space.faults.clone());
        survey.space = space;
        survey.compare(source);
        survey.mark_damage();
        Ok(survey)
    }

    /// The tree of that name.
    pub fn tree_named(&self, name: &str) -> Option<&TreeSurvey> {
        self.trees.iter().find(|tree| tree.name == name)
    }

    /// The name of the tree that a page belongs to.
    pub fn tree_of(&self, info: &PageInfo) -> &str {
        let index = (info.tree as usize).wrapping_sub(1);
        self.trees.get(index).map_or("", |tree| &tree.name)
    }

    /// How many pages there are of a use.
    pub fn count(&self, usage: Use) -> u64 {
        self.pages.iter().filter(|info| info.usage == usage).count() as u64
    }

    /// Notes what pages are used for. `false`: not all of them were without a use.
    fn claim(
        &mut self,
        source: &Source,
        first: u32,
        count: u32,
        usage: Use,
        tree: u32,
        area: &'static str,
    ) -> bool {
        let end = first.saturating_add(count);
        if end > source.pages() && count > 0 {
            let what = "a page in use lies behind the end of the file";
            let last = source.pages().saturating_sub(1);
            let mut fault = Fault::new(area, what, format!("at most {last}"), end - 1);
            fault.page = Some(first);
            self.faults.add(fault);
        }
        for page in first..end.min(source.pages()) {
            let Some(info) = self.pages.get_mut(page as usize) else {
                break;
            };
            if info.usage != Use::Unknown {
                let other = info.usage.name();
                info.is_damaged = true;
                let what = "a page is used twice";
                let fault = Fault::new(area, what, usage.name(), other);
                self.faults.add(fault.at_page(page, source.page_size(), 0));
                return false;
            }
            *info = PageInfo {
                usage,
                tree,
                // Of a node it is known once it can be read.
                fill: match usage {
                    Use::Leaf | Use::Branch => 0,
                    _ => 100,
                },
                ..PageInfo::default()
            };
        }
        end <= source.pages()
    }

    /// The catalog's entries that can be read.
    fn catalog(
        &mut self,
        source: &Source,
        options: Options,
        watcher: &dyn Watcher,
    ) -> Vec<(String, u32, anatomy::Root)> {
        let Some(header) = source.chosen() else {
            return Vec::new();
        };
        let tree = TreeSurvey {
            name: CATALOG.to_string(),
            ..TreeSurvey::default()
        };
        let mut entries = Vec::new();
        let mut faults = Faults::default();
        let mut read = |entry: &Entry<'_>| {
            let wrong = |what: &str, expected: String, found: String| {
                let fault = Fault::new("catalog", what, expected, found);
                let fault = fault.at_page(entry.page, source.page_size(), entry.offset);
                fault.of_key(crate::show::brief(entry.key, 255))
            };
            let value = match entry.cell {
                Cell::Inline(value) => value,
                Cell::Run(_) => &[],
            };
            let name = std::str::from_utf8(entry.key).ok();
            let Some(name) = name.filter(|name| (1..=255).contains(&name.len())) else {
                let what = "the name of a tree is not 1 to 255 bytes of UTF-8";
                faults.add(wrong(
                    what,
                    "a name".to_string(),
                    entry.key.len().to_string(),
                ));
                return;
            };
            match anatomy::decode_catalog_entry(value) {
                Some((number, root)) if number <= anatomy::MAX_TREE => {
                    entries.push((name.to_string(), number, root));
                }
                Some((number, _)) => {
                    let what = "the number of a tree is too high";
                    faults.add(wrong(
                        what,
                        format!("at most {}", anatomy::MAX_TREE),
                        number.to_string(),
                    ));
                }
                None => {
                    let what = "an entry of the catalog does not parse";
                    faults.add(wrong(what, "24 bytes".into(), value.len().to_string()));
                }
            }
        };
        let root = header.catalog;
        self.tree(source, tree, root, options, watcher, &mut read);
        self.faults.append(faults);
        entries
    }

    fn tree(
        &mut self,
        source: &Source,
        mut tree: TreeSurvey,
        root: anatomy::Root,
        options: Options,
        watcher: &dyn Watcher,
        each: &mut dyn FnMut(&Entry<'_>),
    ) {
        tree.root = root;
        tree.root_page = root.at.page;
        tree.entries = root.count;
        if root.at.page != 0 {
            tree.depth = u32::from(root.level) + 1;
        }
        let name = tree.name.clone();
        let damages = self.faults.damages();
        let mut visitor = TreeVisitor {
            source,
            number: self.trees.len() as u32 + 1,
            survey: self,
            tree,
            options,
            watcher,
            each,
        };
        walk(source, &name, &root, &mut visitor);
        let mut tree = visitor.tree;
        let usable = anatomy::usable_bytes(source.page_size()) as u64;
        let leaves = tree.levels.iter().find(|level| level.level == 0);
        tree.leaf_fill = match leaves {
            Some(level) if level.pages > 0 => {
                level.used_bytes as f64 / (level.pages * usable) as f64
            }
            _ => 1.0,
        };
        tree.levels.sort_by_key(|level| level.level);
        tree.damages = self.faults.damages() - damages;
        self.trees.push(tree);
    }

    /// No two trees have one number.
    fn check_numbers(&mut self, source: &Source) {
        let mut numbers = std::collections::HashMap::new();
        for tree in self.trees.iter().skip(1) {
            if let Some(other) = numbers.insert(tree.number, &tree.name) {
                let what = "two trees have one number";
                let fault = Fault::new("catalog", what, "one", 2).in_tree(&tree.name);
                self.faults.add(fault.of_key(format!("{other:?}")));
            }
        }
        let count = source.chosen().map_or(0, |header| header.catalog.count);
        if count != self.trees.len() as u64 - 1 && self.faults.is_healthy() {
            let what = "the catalog has another number of trees than the header says";
            let found = self.trees.len() - 1;
            self.faults.add(Fault::new("catalog", what, count, found));
        }
    }

    /// Reached and free pages together are all pages, and none is both.
    fn compare(&mut self, source: &Source) {
        let end = source.pages();
        let mut spans: Vec<(u32, u32, bool)> = Vec::new();
        for (page, info) in (0u32..).zip(&mut self.pages) {
            if page >= end {
                info.usage = Use::Beyond;
                continue;
            }
            let Some(is_used) = self.space.is_used(page) else {
                continue;
            };
            let is_reached = info.usage != Use::Unknown;
            if !is_used && !is_reached {
                info.usage = Use::Free;
            }
            if is_used == is_reached {
                continue;
            }
            info.is_damaged = true;
            match spans.last_mut() {
                Some((_, last, used)) if last.checked_add(1) == Some(page) && *used == is_used => {
                    *last = page;
                }
                _ => spans.push((page, page, is_used)),
            }
        }
        // What damage hides looks as if nothing led to it.
        let is_hidden = !self.faults.is_healthy();
        for (first, last, is_used) in spans {
            let (what, expected, found) = match is_used {
                true => (
                    "pages are marked as used and nothing leads to them",
                    "free",
                    "used",
                ),
                false => ("pages are in use and marked as free", "used", "free"),
            };
            let what = match first == last {
                true => what.to_string(),
                false => format!("{what} (pages {first} to {last})"),
            };
            let fault = Fault::new("space", what, expected, found);
            let fault = fault.at_page(first, source.page_size(), 0);
            self.faults.add(match is_used && is_hidden {
                true => fault.notice(),
                false => fault,
            });
        }
    }

    fn mark_damage(&mut self) {
        for fault in self.faults.list() {
            if fault.severity == crate::Severity::Damage
                && let Some(page) = fault.page
                && let Some(info) = self.pages.get_mut(page as usize)
            {
                info.is_damaged = true;
            }
        }
    }
}

struct TreeVisitor<'s> {
    source: &'s Source,
    number: u32,
    survey: &'s mut Survey,
    tree: TreeSurvey,
    options: Options,
    watcher: &'s dyn Watcher,
    each: &'s mut dyn FnMut(&Entry<'_>),
}

impl TreeVisitor<'_> {
    fn level(&mut self, number: u8) -> Option<&mut Level> {
        let levels = &mut self.tree.levels;
        if !levels.iter().any(|level| level.level == number) {
            levels.push(Level {
                level: number,
                fewest: u64::MAX,
                ..Level::default()
            });
        }
        levels.iter_mut().find(|level| level.level == number)
    }

    fn run(&mut self, entry: &Entry<'_>, run: &Run) {
        let pages = run.pages(self.source.page_size());
        self.tree.runs += 1;
        self.tree.run_pages += u64::from(pages);
        self.remember(entry, run);
        let is_ours = { &mut *self.survey }.claim(
            self.source,
            run.first,
            pages,
            Use::Run,
            self.number,
            "run",
        );
        self.watcher.pages(u64::from(pages));
        if is_ours
            && self.options.read_runs
            && let Err(fault) = self.source.run(run)
        {
            let key = crate::show::key(&self.tree.name, entry.key, 64);
            self.fault(fault.in_tree(&self.tree.name.clone()).of_key(key));
        }
    }

    fn remember(&mut self, entry: &Entry<'_>, run: &Run) {
        let largest = &mut self.survey.largest;
        let bytes = u64::from(run.length_bytes);
        let place = largest.partition_point(|other| other.bytes >= bytes);
        if place < LARGEST {
            let large = Large {
                tree: self.tree.name.clone(),
                key: crate::show::key(&self.tree.name, entry.key, 64),
                bytes,
                page: run.first,
            };
            largest.insert(place, large);
            largest.truncate(LARGEST);
        }
    }
}

impl Visitor for TreeVisitor<'_> {
    fn step(&mut self, step: Step) -> bool {
        let usage = if step.level == 0 {
            Use::Leaf
        } else {
            Use::Branch
        };
        self.watcher.pages(1);
        { &mut *self.survey }.claim(self.source, step.at.page, 1, usage, self.number, "tree")
    }

    fn node(&mut self, page: u32, node: &Node<'_>) {
        let (slots, used) = (node.count() as u64, node.used() as u64);
        let usable = anatomy::usable_bytes(self.source.page_size()) as u64;
        if let Some(info) = self.survey.pages.get_mut(page as usize) {
            info.level = node.level();
            info.entries = slots.min(u64::from(u16::MAX)) as u16;
            info.fill = (used * 100 / usable.max(1)).min(100) as u8;
        }
        match node.is_branch() {
            true => self.tree.branch_pages += 1,
            false => self.tree.leaf_pages += 1,
        }
        if let Some(level) = self.level(node.level()) {
            level.pages += 1;
            level.slots += slots;
            level.fewest = level.fewest.min(slots);
            level.most = level.most.max(slots);
            level.used_bytes += used;
        }
    }

    fn entry(&mut self, entry: &Entry<'_>) -> bool {
        self.tree.entries_found += 1;
        self.tree.key_bytes += entry.key.len() as u64;
        match &entry.cell {
            Cell::Inline(value) => self.tree.value_bytes += value.len() as u64,
            Cell::Run(run) => {
                self.tree.value_bytes += u64::from(run.length_bytes);
                self.run(entry, run);
            }
        }
        (self.each)(entry);
        true
    }

    fn fault(&mut self, fault: Fault) {
        self.survey.faults.add(fault);
    }
}
