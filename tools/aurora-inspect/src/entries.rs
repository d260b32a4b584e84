//! All entries of all trees, one after the other, for `diff` and `dump`.
//!
//! A file whose log is empty is read page by page, and not locked; one with commits in its log is
//! opened for reading, and the log replayed in memory.
//!
//! # Invariants
//!
//! 1. Entries come in the order of their keys, or the walk fails: damage is never passed over.
//! 2. It ends: a step down lowers the level, and no page is entered twice.
//! 3. Memory is a page a level, or a batch of entries.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::Path;

use aurora::anatomy::{Cell, Node, Pair, Reader, Reference, Root, Run};

use crate::source::{PageBytes, Source};
use crate::wal::Wal;
use crate::walk::{PageSet, for_each_entry};
use crate::{Failure, Fault};

const BATCH_BYTES: usize = 1 << 20;

/// A file whose entries are read.
#[derive(Debug)]
pub struct Database {
    source: Source,
    reader: Option<Reader>,
    trees: BTreeMap<String, Root>,
}

fn damaged(fault: &Fault) -> Failure {
    Failure(format!(
        "{}; `check` tells more, and `salvage` helps",
        fault.line()
    ))
}

impl Database {
    /// Opens a file for reading.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let named = |failure: Failure| Failure(format!("{}: {failure}", path.display()));
        Database::of(Source::open(path, None)?).map_err(named)
    }

    /// The same for a file that is open already.
    pub fn of(source: Source) -> Result<Self, Failure> {
        let wal = Wal::read(&source, false)?;
        if let Some(fault) = wal
            .faults
            .list()
            .iter()
            .find(|f| f.severity == crate::Severity::Damage)
        {
            return Err(damaged(fault));
        }
        let mut trees = BTreeMap::new();
        if wal.commits > 0 {
            let reader = Reader::open(source.storage());
            let reader = reader.map_err(|error| Failure(error.to_string()))?;
            for tree in reader.trees() {
                trees.insert(tree, Root::default());
            }
            return Ok(Database {
                source,
                reader: Some(reader),
                trees,
            });
        }
        let root = source.header()?.catalog;
        let mut wrong = None;
        let faults = for_each_entry(&source, crate::survey::CATALOG, &root, |entry| {
            let value = match entry.cell {
                Cell::Inline(value) => value,
                Cell::Run(_) => &[],
            };
            let name = std::str::from_utf8(entry.key).ok();
            match (name, aurora::anatomy::decode_catalog_entry(value)) {
                (Some(name), Some((_, root))) => {
                    trees.insert(name.to_string(), root);
                    true
                }
                _ => {
                    wrong = Some(crate::show::brief(entry.key, 64));
                    false
                }
            }
        });
        if let Some(fault) = faults.list().first() {
            return Err(damaged(fault));
        }
        if let Some(key) = wrong {
            return Err(Failure(format!(
                "the catalog's entry {key} does not decode"
            )));
        }
        Ok(Database {
            source,
            reader: None,
            trees,
        })
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u32 {
        self.source.page_size()
    }

    /// Whether pages of two files with equal references are equal.
    pub fn shares_pages(&self, other: &Database) -> bool {
        let is_plain = self.reader.is_none() && other.reader.is_none();
        is_plain
            && self.source.salt() == other.source.salt()
            && self.page_size() == other.page_size()
    }

    /// All trees, in the order of their names.
    pub fn trees(&self) -> impl Iterator<Item = &str> {
        self.trees.keys().map(String::as_str)
    }

    /// Whether there is a tree of that name.
    pub fn has(&self, tree: &str) -> bool {
        self.trees.contains_key(tree)
    }

    /// The entries of a tree; none if there is no such tree.
    pub fn entries(&self, tree: &str) -> Entries<'_> {
        match &self.reader {
            Some(reader) => Entries::Read(Batches {
                reader,
                tree: tree.to_string(),
                batch: VecDeque::new(),
                last: None,
                before: None,
                is_done: false,
            }),
            None => {
                let root = self.trees.get(tree).copied().unwrap_or_default();
                Entries::Pages(Pages::new(&self.source, tree, root))
            }
        }
    }
}

/// A value, perhaps in pages of its own.
#[derive(Debug)]
pub enum Content<'s> {
    /// All of it.
    Bytes(Vec<u8>),
    /// Where it is.
    Run(&'s Source, Run),
}

impl Content<'_> {
    /// Its length.
    pub fn length(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Run(_, run) => u64::from(run.length_bytes),
        }
    }

    /// All of it.
    pub fn read(self) -> Result<Vec<u8>, Failure> {
        match self {
            Content::Bytes(bytes) => Ok(bytes),
            Content::Run(source, run) => source.run(&run).map_err(|fault| damaged(&fault)),
        }
    }
}

/// The entries of a tree, in the order of their keys.
#[derive(Debug)]
pub enum Entries<'d> {
    /// From pages.
    Pages(Pages<'d>),
    /// From an open file.
    Read(Batches<'d>),
}

impl<'d> Entries<'d> {
    /// The next entry.
    pub fn next_entry(&mut self) -> Result<Option<(Vec<u8>, Content<'d>)>, Failure> {
        match self {
            Entries::Pages(pages) => pages.next(),
            Entries::Read(batches) => batches.next(),
        }
    }
}

/// Reads from an open file.
#[derive(Debug)]
pub struct Batches<'d> {
    reader: &'d Reader,
    tree: String,
    batch: VecDeque<Pair>,
    last: Option<Vec<u8>>,
    before: Option<Vec<u8>>,
    is_done: bool,
}

impl<'d> Batches<'d> {
    fn next(&mut self) -> Result<Option<(Vec<u8>, Content<'d>)>, Failure> {
        if self.batch.is_empty() && !self.is_done {
            let from = match &self.last {
                Some(last) => Bound::Excluded(last.as_slice()),
                None => Bound::Unbounded,
            };
            let batch = self.reader.entries(&self.tree, from, BATCH_BYTES);
            self.batch = batch.map_err(|error| Failure(error.to_string()))?.into();
            self.is_done = self.batch.is_empty();
            self.last = self.batch.back().map(|(key, _)| key.clone());
        }
        let Some((key, value)) = self.batch.pop_front() else {
            return Ok(None);
        };
        // Else a damaged tree could lead round and round.
        if self.before.as_ref().is_some_and(|before| *before >= key) {
            let tree = &self.tree;
            let key = crate::show::brief(&key, 48);
            let what = "the keys of the tree are not in ascending order";
            return Err(Failure(format!(
                "{tree:?}, key {key}: {what}; `check` tells more"
            )));
        }
        self.before = Some(key.clone());
        Ok(Some((key, Content::Bytes(value))))
    }
}

#[derive(Debug)]
struct Frame {
    page: u32,
    bytes: PageBytes,
    level: u8,
    next: usize,
}

/// Reads pages.
#[derive(Debug)]
pub struct Pages<'d> {
    source: &'d Source,
    tree: String,
    /// Until the walk has begun.
    root: Option<Root>,
    stack: Vec<Frame>,
    seen: PageSet,
    last: Option<Vec<u8>>,
}

/// A subtree that is about to be entered.
type Below = (Reference, u8);

impl<'d> Pages<'d> {
    fn new(source: &'d Source, tree: &str, root: Root) -> Self {
        Pages {
            source,
            tree: tree.to_string(),
            root: Some(root).filter(|root| root.at.page != 0),
            stack: Vec::new(),
            seen: PageSet::new(source.pages()),
            last: None,
        }
    }

    /// The subtree that comes next, if no leaf is being read.
    pub(crate) fn below(&mut self) -> Option<Below> {
        self.leave();
        if let Some(root) = &self.root {
            return Some((root.at, root.level));
        }
        let frame = self.stack.last().filter(|frame| frame.level > 0)?;
        let node = Node::read(&frame.bytes, frame.page).ok()?;
        Some((node.child(frame.next).at, frame.level - 1))
    }

    /// Whether an entry comes next.
    pub(crate) fn is_in_leaf(&mut self) -> bool {
        self.leave();
        self.stack.last().is_some_and(|frame| frame.level == 0)
    }

    /// Leaves pages that are read to their end.
    fn leave(&mut self) {
        while let Some(frame) = self.stack.last() {
            let node = Node::read(&frame.bytes, frame.page);
            if node.is_ok_and(|node| frame.next < node.count()) {
                return;
            }
            self.stack.pop();
        }
    }

    /// Passes over the subtree that comes next.
    pub(crate) fn skip(&mut self) {
        if self.root.take().is_none()
            && let Some(frame) = self.stack.last_mut().filter(|frame| frame.level > 0)
        {
            frame.next += 1;
        }
    }

    /// Enters the subtree that comes next.
    pub(crate) fn enter(&mut self) -> Result<(), Failure> {
        let Some((at, level)) = self.below() else {
            return Ok(());
        };
        self.skip();
        let in_tree = |fault: Fault| damaged(&fault.in_tree(&self.tree));
        let bytes = self.source.page(at).map_err(in_tree)?;
        let wrong = |what: &str| {
            let fault = Fault::new("tree", what, "a page of the tree", "another");
            in_tree(fault.at_page(at.page, self.source.page_size(), 0))
        };
        if !self.seen.add(at.page) {
            return Err(wrong("a page is referred to twice"));
        }
        let node = Node::read(&bytes, at.page);
        let node = node.map_err(|flaw| in_tree(self.source.fault("tree", at.page, flaw)))?;
        if node.level() != level || node.count() == 0 {
            return Err(wrong("the page has another level than its parent implies"));
        }
        self.stack.push(Frame {
            page: at.page,
            bytes,
            level,
            next: 0,
        });
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(Vec<u8>, Content<'d>)>, Failure> {
        while !self.is_in_leaf() {
            if self.below().is_none() {
                return Ok(None);
            }
            self.enter()?;
        }
        let Some(frame) = self.stack.last_mut() else {
            return Ok(None);
        };
        let node = Node::read(&frame.bytes, frame.page);
        let node = node.map_err(|flaw| damaged(&self.source.fault("tree", frame.page, flaw)))?;
        let key = node.key(frame.next);
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            let what = "the keys are not in ascending order";
            let fault = Fault::new("tree", what, "a higher key", crate::show::brief(&key, 48));
            let at = node.slot_offset(frame.next);
            let fault = fault.at_page(frame.page, self.source.page_size(), at);
            return Err(damaged(&fault.in_tree(&self.tree)));
        }
        let content = match node.value(frame.next) {
            Cell::Inline(value) => Content::Bytes(value.to_vec()),
            Cell::Run(run) => Content::Run(self.source, run),
        };
        frame.next += 1;
        self.last = Some(key.clone());
        Ok(Some((key, content)))
    }
}
