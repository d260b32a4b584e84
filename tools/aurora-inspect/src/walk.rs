//! Walking a tree from its root, page by page, whatever state it is in.
//!
//! # Invariants
//!
//! 1. It ends: a step down lowers the level, and no page is entered twice in one walk. Nothing is
//!    recursive.
//! 2. A page that cannot be read is a fault, and the walk goes on beside it.
//! 3. Memory is what one page a level takes, and a bit for each page of the file.

use aurora::anatomy::{self, Cell, Flaw, Node, PageHeader, Reference, Root};

use crate::source::{PageBytes, Source};
use crate::{Fault, Faults};

/// A page that the walk is about to read.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Where it is.
    pub at: Reference,
    /// The level that it has to have.
    pub level: u8,
}

/// An entry of a leaf.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The leaf.
    pub page: u32,
    /// The slot in the leaf.
    pub slot: usize,
    /// Where that is in the page.
    pub offset: u32,
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub cell: Cell<'a>,
}

/// Hears of what a walk comes by.
pub trait Visitor {
    /// A page is about to be read. `false`: leave out what is below.
    fn step(&mut self, step: Step) -> bool {
        let _ = step;
        true
    }

    /// A page was read, and is a node.
    fn node(&mut self, page: u32, node: &Node<'_>) {
        let _ = (page, node);
    }

    /// An entry. `false`: the walk is to end.
    fn entry(&mut self, entry: &Entry<'_>) -> bool {
        let _ = entry;
        true
    }

    /// Something is wrong.
    fn fault(&mut self, fault: Fault);
}

/// A set of pages.
#[derive(Debug)]
pub struct PageSet(Vec<u64>);

impl PageSet {
    /// None of so many pages.
    pub fn new(pages: u32) -> Self {
        PageSet(vec![0; pages.div_ceil(64) as usize])
    }

    /// Adds a page. Says whether it is new; pages that cannot be are not.
    pub fn add(&mut self, page: u32) -> bool {
        let Some(word) = self.0.get_mut(page as usize / 64) else {
            return false;
        };
        let is_new = *word & 1 << (page % 64) == 0;
        *word |= 1 << (page % 64);
        is_new
    }

    /// Whether a page is in it.
    pub fn has(&self, page: u32) -> bool {
        let word = self.0.get(page as usize / 64).copied().unwrap_or(0);
        word & 1 << (page % 64) != 0
    }
}

/// A branch on the way down.
struct Frame {
    page: u32,
    level: u8,
    bytes: PageBytes,
    next: usize,
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

/// What a page has to be, as its parent says.
struct Wanted {
    at: Reference,
    level: u8,
    count: u64,
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

/// A walk over one tree.
pub struct Walk<'s, V> {
    source: &'s Source,
    tree: &'s str,
    visitor: &'s mut V,
    seen: PageSet,
}

/// Walks over the whole tree, in the order of the keys.
pub fn walk<V: Visitor>(source: &Source, tree: &str, root: &Root, visitor: &mut V) {
    if root.at.page == 0 {
        if root.count != 0 || root.level != 0 {
            let what = "a tree without pages has entries";
            visitor.fault(Fault::new("tree", what, 0, root.count).in_tree(tree));
        }
        return;
    }
    let mut walk = Walk {
        source,
        tree,
        visitor,
        seen: PageSet::new(source.pages()),
    };
    let wanted = Wanted {
        at: root.at,
        level: root.level,
        count: root.count,
        low: Vec::new(),
        high: None,
    };
    walk.run(wanted);
}

impl<V: Visitor> Walk<'_, V> {
    fn run(&mut self, root: Wanted) {
        let mut stack = Vec::new();
        if !self.enter(root, &mut stack) {
            return;
        }
        while let Some(frame) = stack.last_mut() {
            let Ok(node) = Node::read(&frame.bytes, frame.page) else {
                stack.pop();
                continue;
            };
            let i = frame.next;
            if i >= node.count() {
                stack.pop();
                continue;
            }
            frame.next += 1;
            let child = node.child(i);
            let low = if i == 0 {
                frame.low.clone()
            } else {
                node.key(i)
            };
            let high = match i + 1 < node.count() {
                true => Some(node.key(i + 1)),
                false => frame.high.clone(),
            };
            let wanted = Wanted {
                at: child.at,
                level: frame.level.saturating_sub(1),
                count: child.count,
                low,
                high,
            };
            if !self.enter(wanted, &mut stack) {
                return;
            }
        }
    }

    fn fault(&mut self, page: u32, flaw: Flaw) {
        let fault = self.source.fault("tree", page, flaw).in_tree(self.tree);
        self.visitor.fault(fault);
    }

    /// Reads a page. `false`: the visitor wants no more.
    fn enter(&mut self, wanted: Wanted, stack: &mut Vec<Frame>) -> bool {
        let Wanted { at, level, .. } = wanted;
        if !self.visitor.step(Step { at, level }) {
            return true;
        }
        let bytes = match self.source.page(at) {
            Ok(bytes) => bytes,
            Err(fault) => {
                self.visitor.fault(fault.in_tree(self.tree));
                return true;
            }
        };
        if !self.seen.add(at.page) {
            let what = "a page is referred to twice";
            self.fault(at.page, flaw(what, 0, 1, 2));
            return true;
        }
        let node = match Node::read(&bytes, at.page) {
            Ok(node) => node,
            Err(flaw) => {
                self.fault(at.page, flaw);
                return true;
            }
        };
        if node.level() != level {
            let what = "the page has another level than its parent implies";
            let found = u64::from(node.level());
            self.fault(at.page, flaw(what, 17, u64::from(level), found));
            return true;
        }
        let birth = PageHeader::decode(&bytes).birth;
        if birth > self.newest() {
            let what = "a page is younger than the checkpoint that names it";
            self.fault(at.page, flaw(what, 8, self.newest(), birth));
        }
        self.check(at.page, &node, &wanted);
        self.visitor.node(at.page, &node);
        if level > 0 {
            stack.push(Frame {
                page: at.page,
                level,
                bytes: bytes.clone(),
                next: 0,
                low: wanted.low,
                high: wanted.high,
            });
            return true;
        }
        self.entries(at.page, &node)
    }

    /// Nothing that the header leads to is younger.
    fn newest(&self) -> u64 {
        let header = self.source.chosen();
        header.map_or(u64::MAX, |header| header.version)
    }

    fn entries(&mut self, page: u32, node: &Node<'_>) -> bool {
        (0..node.count()).all(|slot| {
            let key = node.key(slot);
            let entry = Entry {
                page,
                slot,
                offset: node.slot_offset(slot),
                key: &key,
                cell: node.value(slot),
            };
            self.visitor.entry(&entry)
        })
    }

    fn check(&mut self, page: u32, node: &Node<'_>, wanted: &Wanted) {
        if let Err(flaw) = node.check_cells() {
            self.fault(page, flaw);
        }
        if node.count() == 0 {
            self.fault(page, flaw("a node of the tree is empty", 18, 1, 0));
        }
        self.check_keys(page, node, wanted);
        let found = match node.is_branch() {
            false => node.count() as u64,
            true => {
                (0..node.count()).fold(0, |sum: u64, i| sum.saturating_add(node.child(i).count))
            }
        };
        if found != wanted.count {
            let what = "a count is not that of the entries below";
            self.fault(page, flaw(what, 18, wanted.count, found));
        }
        if !node.is_branch() {
            self.check_places(page, node);
        }
    }

    fn check_keys(&mut self, page: u32, node: &Node<'_>, wanted: &Wanted) {
        let first = usize::from(node.is_branch());
        if node.count() <= first && !node.prefix().is_empty() {
            let what = "a page without keys has a prefix";
            let length = node.prefix().len() as u64;
            self.fault(page, flaw(what, 24, 0, length));
        }
        let mut before = wanted.low.clone();
        for slot in first..node.count() {
            let key = node.key(slot);
            let may_be_equal = slot == first && !node.is_branch();
            let in_order = before < key || (may_be_equal && before == key);
            let is_within = wanted.high.as_ref().is_none_or(|high| key < *high);
            let what = match (in_order, is_within, slot == first) {
                (true, true, _) => None,
                (false, _, true) => Some("a key is below the separator of its page"),
                (false, _, false) => Some("the keys are not in ascending order"),
                (true, false, _) => Some("a key belongs to a page further on"),
            };
            if let Some(what) = what {
                let bound = match in_order {
                    true => wanted.high.clone().unwrap_or_default(),
                    false => before,
                };
                let side = if in_order { "less than" } else { "more than" };
                let expected = format!("{side} {}", crate::show::brief(&bound, 48));
                let found = crate::show::brief(&key, 48);
                let fault = Fault::new("tree", what, expected, found).in_tree(self.tree);
                let at = node.slot_offset(slot);
                self.visitor
                    .fault(fault.at_page(page, self.source.page_size(), at));
            }
            before = key;
        }
    }

    /// A value is in the leaf if and only if it is short enough; and none is too young.
    fn check_places(&mut self, page: u32, node: &Node<'_>) {
        let page_size = self.source.page_size();
        for slot in 0..node.count() {
            let key_bytes = node.key(slot).len();
            let (is_inline, length, birth) = match node.value(slot) {
                Cell::Inline(value) => (true, value.len(), 0),
                Cell::Run(run) => (false, run.length_bytes as usize, run.birth),
            };
            if birth > self.newest() {
                let what = "a long value is younger than the checkpoint that leads to it";
                let at = node.slot_offset(slot);
                self.fault(page, flaw(what, at, self.newest(), birth));
            }
            let belongs = anatomy::is_inline(page_size, key_bytes, length);
            if belongs != is_inline {
                let what = "a value is not where its length belongs";
                let place = |is: bool| if is { "the leaf" } else { "a run" };
                let fault = Fault::new("tree", what, place(belongs), place(is_inline));
                let at = node.slot_offset(slot);
                let fault = fault.at_page(page, page_size, at).in_tree(self.tree);
                self.visitor.fault(fault);
            }
        }
    }
}

fn flaw(what: &'static str, offset: u32, expected: u64, found: u64) -> Flaw {
    Flaw {
        what,
        offset,
        expected,
        found,
    }
}

/// What a search for a key found.
#[derive(Debug)]
pub struct Found {
    /// The pages from the root to the leaf, and the slot that was taken in each.
    pub path: Vec<(u32, u8, usize)>,
    /// The value, if the key is there and it was read.
    pub value: Option<Vec<u8>>,
    /// Its run, if it is in one.
    pub run: Option<aurora::anatomy::Run>,
}

impl Found {
    /// Whether the key is there.
    pub fn is_there(&self) -> bool {
        self.value.is_some() || self.run.is_some()
    }
}

/// Goes from the root to a key, and reads its value. What is in the way is an error.
pub fn find(source: &Source, tree: &str, root: &Root, key: &[u8]) -> Result<Found, Fault> {
    let mut found = locate(source, tree, root, key)?;
    if let Some(run) = &found.run {
        let value = source.run(run).map_err(|fault| fault.in_tree(tree))?;
        found.value = Some(value);
    }
    Ok(found)
}

/// The same, and a value in a run is not read.
pub fn locate(source: &Source, tree: &str, root: &Root, key: &[u8]) -> Result<Found, Fault> {
    let mut found = Found {
        path: Vec::new(),
        value: None,
        run: None,
    };
    if root.at.page == 0 {
        return Ok(found);
    }
    let mut at = root.at;
    for level in (0..=root.level).rev() {
        let bytes = source.page(at).map_err(|fault| fault.in_tree(tree))?;
        let fault = |flaw| source.fault("tree", at.page, flaw).in_tree(tree);
        let node = Node::read(&bytes, at.page).map_err(fault)?;
        if node.level() != level {
            let what = "the page has another level than its parent implies";
            return Err(fault(flaw(what, 17, level.into(), node.level().into())));
        }
        if level > 0 {
            let child = node.child_index(key);
            found.path.push((at.page, level, child));
            at = node.child(child).at;
            continue;
        }
        let place = node.search(key);
        let (Ok(slot) | Err(slot)) = place;
        found.path.push((at.page, level, slot));
        if place.is_ok() {
            match node.value(slot) {
                Cell::Inline(value) => found.value = Some(value.to_vec()),
                Cell::Run(run) => found.run = Some(run),
            }
        }
    }
    Ok(found)
}

/// The value of an entry, wherever it is.
pub fn value_of(source: &Source, cell: Cell<'_>) -> Result<Vec<u8>, Fault> {
    match cell {
        Cell::Inline(value) => Ok(value.to_vec()),
        Cell::Run(run) => source.run(&run),
    }
}

/// Hands every entry that can be reached to `each`; `false` from it ends the walk. What is in the
/// way is returned.
pub fn for_each_entry(
    source: &Source,
    tree: &str,
    root: &Root,
    each: impl FnMut(&Entry<'_>) -> bool,
) -> Faults {
    struct Each<F> {
        each: F,
        faults: Faults,
    }
    impl<F: FnMut(&Entry<'_>) -> bool> Visitor for Each<F> {
        fn entry(&mut self, entry: &Entry<'_>) -> bool {
            (self.each)(entry)
        }

        fn fault(&mut self, fault: Fault) {
            self.faults.add(fault);
        }
    }
    let mut visitor = Each {
        each,
        faults: Faults::default(),
    };
    walk(source, tree, root, &mut visitor);
    visitor.faults
}
