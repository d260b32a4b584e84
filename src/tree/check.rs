//! The structural check: does every page say what the tree's invariants want?
//!
//! # Invariants
//!
//! 1. It looks at every page and every entry, and reads every overflow run.
//! 2. It ends whatever the bytes: the recursion is bounded by the levels, and each page number is
//!    handed to `visit`, which can refuse one that it has seen before.

use std::cmp::Ordering;

use crate::Result;
use crate::format::node::{self, Node, ValueAt};
use crate::format::page::{COUNT, HEADER_BYTES};
use crate::format::{Fault, PageNumber, PageRef, RunRef, TreeRoot};

use super::node_at;
use super::pages::ReadPages;
use super::upcoming::Upcoming;

/// What a page that belongs to a tree is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PageKind {
    Leaf,
    Branch,
    Run,
}

/// What a tree is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TreeShape {
    pub entries: u64,
    pub leaf_pages: u64,
    pub branch_pages: u64,
    pub run_pages: u64,
    /// The number of levels; 0 for an empty tree.
    pub depth: u8,
    /// Bytes in leaves that slots, cells and prefixes take, without headers.
    pub leaf_bytes_used: u64,
    pub key_bytes: u64,
    pub value_bytes: u64,
}

impl TreeShape {
    /// How full the leaves are, from 0 to 1.
    pub(crate) fn fill(&self, page_size: u32) -> f64 {
        let room = self.leaf_pages * node::usable_bytes(page_size as usize) as u64;
        if room == 0 {
            return 1.0;
        }
        self.leaf_bytes_used as f64 / room as f64
    }
}

/// Checks the whole tree. `visit` hears of every page: what it is for, its number, and how many
/// pages follow each other from there.
pub(crate) fn check<P: ReadPages>(
    pages: &P,
    root: &TreeRoot,
    visit: &mut impl FnMut(PageKind, PageNumber, u32) -> Result<()>,
) -> Result<TreeShape> {
    let mut check = Check {
        pages,
        visit,
        shape: TreeShape::default(),
        key: Vec::new(),
    };
    if root.is_empty() {
        if root.count != 0 || root.level != 0 {
            let fault = Fault::new("a tree without pages has entries", 0, 0, root.count);
            return Err(fault.in_page(0, pages.page_size()));
        }
        return Ok(check.shape);
    }
    check.shape.depth = root.level.saturating_add(1);
    check.below(&root.root, root.level, root.count, &[], None)?;
    Ok(check.shape)
}

struct Check<'c, P, V> {
    pages: &'c P,
    visit: &'c mut V,
    shape: TreeShape,
    /// The key that came last.
    key: Vec<u8>,
}

impl<P: ReadPages, V: FnMut(PageKind, PageNumber, u32) -> Result<()>> Check<'_, P, V> {
    fn fault(&self, page: PageNumber, fault: Fault) -> crate::Error {
        fault.in_page(page, self.pages.page_size())
    }

    /// Checks what is below `at`, whose keys must be at least `low` and less than `high`.
    fn below(
        &mut self,
        at: &PageRef,
        level: u8,
        count: u64,
        low: &[u8],
        high: Option<&[u8]>,
    ) -> Result<()> {
        let kind = if level == 0 {
            PageKind::Leaf
        } else {
            PageKind::Branch
        };
        (self.visit)(kind, at.page, 1)?;
        let bytes = self.pages.read(at)?;
        let node = node_at(&bytes, at.page, level)?;
        node::validate(&bytes, at.page).map_err(|fault| self.fault(at.page, fault))?;
        node.check_cells()
            .map_err(|fault| self.fault(at.page, fault))?;
        if node.count() == 0 {
            return Err(self.fault(
                at.page,
                Fault::new("a node of the tree is empty", COUNT, 1, 0),
            ));
        }
        self.check_keys(at.page, &node, low, high)?;
        let found = if level == 0 {
            self.check_values(at.page, &node)?;
            node.count() as u64
        } else {
            self.shape.branch_pages += 1;
            node.children()
                .fold(0, |sum: u64, child| sum.saturating_add(child.count))
        };
        if found != count {
            let fault = Fault::new(
                "a count is not that of the entries below",
                COUNT,
                count,
                found,
            );
            return Err(self.fault(at.page, fault));
        }
        if level > 0 {
            self.check_children(&node, level, low, high)?;
        }
        Ok(())
    }

    fn check_keys(
        &mut self,
        page: PageNumber,
        node: &Node<'_>,
        low: &[u8],
        high: Option<&[u8]>,
    ) -> Result<()> {
        let first = usize::from(node.is_branch());
        if node.count() <= first && !node.prefix().is_empty() {
            let length = node.prefix().len() as u64;
            let what = "a page without keys has a prefix";
            return Err(self.fault(page, Fault::new(what, node::PREFIX_OFFSET, 0, length)));
        }
        let mut key = Vec::new();
        for i in first..node.count() {
            node.key(i, &mut key);
            let offset = node.slot_at(i);
            // A branch's separators are all above its own lower bound.
            let order = if i == first {
                low.cmp(&key)
            } else {
                self.key.as_slice().cmp(&key)
            };
            let in_order = match order {
                Ordering::Less => true,
                Ordering::Equal => i == first && !node.is_branch(),
                Ordering::Greater => false,
            };
            if !in_order {
                let fault = Fault::new("the keys are not in ascending order", offset, 1, 0);
                return Err(self.fault(page, fault));
            }
            if high.is_some_and(|high| key.as_slice() >= high) {
                let fault = Fault::new("a key belongs to a page further on", offset, 0, 1);
                return Err(self.fault(page, fault));
            }
            std::mem::swap(&mut self.key, &mut key);
        }
        Ok(())
    }

    fn check_values(&mut self, page: PageNumber, node: &Node<'_>) -> Result<()> {
        self.shape.leaf_pages += 1;
        self.shape.entries += node.count() as u64;
        self.shape.leaf_bytes_used += node.used() as u64;
        for i in 0..node.count() {
            self.shape.key_bytes += node.key_bytes(i) as u64;
            match node.value(i) {
                ValueAt::Inline(range) => self.shape.value_bytes += range.len() as u64,
                ValueAt::Run(run) => self.check_run(page, i, &run)?,
            }
        }
        Ok(())
    }

    fn check_run(&mut self, page: PageNumber, i: usize, run: &RunRef) -> Result<()> {
        let run_pages = run.pages(self.pages.page_size());
        (self.visit)(PageKind::Run, run.first, run_pages)?;
        self.shape.run_pages += u64::from(run_pages);
        self.shape.value_bytes += u64::from(run.length_bytes);
        let length = self.pages.read_run(run)?.len() as u64;
        if length != u64::from(run.length_bytes) {
            let offset = HEADER_BYTES + node::SLOT_BYTES * i;
            let expected = u64::from(run.length_bytes);
            let what = "a long value has another length than its reference says";
            return Err(self.fault(page, Fault::new(what, offset, expected, length)));
        }
        Ok(())
    }

    fn check_children(
        &mut self,
        node: &Node<'_>,
        level: u8,
        low: &[u8],
        high: Option<&[u8]>,
    ) -> Result<()> {
        let mut from = low.to_vec();
        let mut upcoming = Upcoming::default();
        for (i, child) in node.children().enumerate() {
            let turn = |i| (i < node.count()).then(|| node.child(i).page.page);
            upcoming.turn(self.pages, i, turn);
            let to = (i + 1 < node.count()).then(|| node.key_vec(i + 1));
            let below = to.as_deref().or(high);
            self.below(
                &child.page,
                level.saturating_sub(1),
                child.count,
                &from,
                below,
            )?;
            from = to.unwrap_or_default();
        }
        Ok(())
    }
}
