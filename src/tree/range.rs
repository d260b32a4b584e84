//! Removing many entries at once: whole subtrees go without their entries being touched.
//!
//! # Invariants
//!
//! 1. Every page below a dropped subtree is freed, and every overflow run; leaves are read for
//!    their runs and births, never changed.
//! 2. Only the pages on the two boundary paths are copied.
//! 3. Afterwards the pages along the boundary are merged like after single removals.
//! 4. Below a page that is dropped are as many entries as its count says: a file whose branches share their children,
//!    which would take for ever, is damage.

use std::ops::Bound;

use crate::Result;
use crate::format::node::{self, Child, Node};
use crate::format::{Fault, PageNumber, PageRef, RunRef, TreeRoot, page};

use super::delete::{self, collapse, merge_near, percent};
use super::pages::WritePages;
use super::upcoming::Upcoming;
use super::{node_at, private};

type KeyBound<'k> = Bound<&'k [u8]>;

/// Removes the entries between two bounds; returns how many there were.
pub(crate) fn delete_range<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    lower: KeyBound<'_>,
    upper: KeyBound<'_>,
) -> Result<u64> {
    if root.is_empty() || is_void(lower, upper) {
        return Ok(0);
    }
    let (left, removed) = trim(pages, &root.root, root.level, root.count, lower, upper)?;
    if removed == 0 {
        return Ok(0);
    }
    let mut rest = TreeRoot::default();
    if let Some(page) = left {
        rest = TreeRoot {
            root: page,
            count: root.count.saturating_sub(removed),
            level: root.level,
        };
        collapse(pages, &mut rest)?;
        let boundary = match lower {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        if rest.level > 0 {
            let page = mend(pages, &rest.root, rest.level, boundary)?;
            rest.root = private(page);
            collapse(pages, &mut rest)?;
        }
    }
    *root = rest;
    Ok(removed)
}

/// Frees all pages and runs of a tree, which is empty after that.
pub(crate) fn drop_tree<P: WritePages>(pages: &mut P, root: &mut TreeRoot) -> Result<()> {
    if !root.is_empty() {
        drop_below(pages, &root.root, root.level, root.count)?;
    }
    *root = TreeRoot::default();
    Ok(())
}

pub(super) fn is_void(lower: KeyBound<'_>, upper: KeyBound<'_>) -> bool {
    match (lower, upper) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) => low >= high,
        _ => false,
    }
}

fn drop_below<P: WritePages>(pages: &mut P, at: &PageRef, level: u8, count: u64) -> Result<()> {
    let bytes = pages.read(at)?;
    let node = node_at(&bytes, at.page, level)?;
    check_count(pages, at, &node, count)?;
    let birth = page::birth(&bytes);
    if level == 0 {
        let runs: Vec<RunRef> = (0..node.count()).filter_map(|i| node.run(i)).collect();
        drop(bytes);
        for run in &runs {
            pages.free_run(run);
        }
    } else {
        let children: Vec<Child> = node.children().collect();
        drop(bytes);
        let mut upcoming = Upcoming::default();
        for (i, child) in children.iter().enumerate() {
            upcoming.turn(pages, i, |i| Some(children.get(i)?.page.page));
            drop_below(pages, &child.page, level - 1, child.count)?;
        }
    }
    pages.free(at.page, birth);
    Ok(())
}

/// Invariant 4.
fn check_count<P: WritePages>(pages: &P, at: &PageRef, node: &Node<'_>, count: u64) -> Result<()> {
    let found = match node.level() {
        0 => node.count() as u64,
        _ => node
            .children()
            .fold(0, |sum: u64, child| sum.saturating_add(child.count)),
    };
    if found == count && count > 0 {
        return Ok(());
    }
    let what = "a count is not that of the entries below";
    let fault = Fault::new(what, page::COUNT, count, found);
    Err(fault.in_page(at.page, pages.page_size()))
}

/// The slots of a leaf inside the bounds.
pub(super) fn slots_between(
    node: &Node<'_>,
    lower: KeyBound<'_>,
    upper: KeyBound<'_>,
) -> (usize, usize) {
    let start = match lower {
        Bound::Unbounded => 0,
        Bound::Included(key) => node.search(key).unwrap_or_else(|i| i),
        Bound::Excluded(key) => node.search(key).map_or_else(|i| i, |i| i + 1),
    };
    let end = match upper {
        Bound::Unbounded => node.count(),
        Bound::Included(key) => node.search(key).map_or_else(|i| i, |i| i + 1),
        Bound::Excluded(key) => node.search(key).unwrap_or_else(|i| i),
    };
    (start, end)
}

/// Removes what is between the bounds below `at`, which holds `count` entries. Returns what is
/// left of the page, if anything is, and the number removed.
fn trim<P: WritePages>(
    pages: &mut P,
    at: &PageRef,
    level: u8,
    count: u64,
    lower: KeyBound<'_>,
    upper: KeyBound<'_>,
) -> Result<(Option<PageRef>, u64)> {
    if lower == Bound::Unbounded && upper == Bound::Unbounded {
        drop_below(pages, at, level, count)?;
        return Ok((None, count));
    }
    if level == 0 {
        return trim_leaf(pages, at, lower, upper);
    }
    let bytes = pages.read(at)?;
    let node = node_at(&bytes, at.page, level)?;
    let low = match lower {
        Bound::Included(key) | Bound::Excluded(key) => node.child_index(key),
        Bound::Unbounded => 0,
    };
    let high = match upper {
        Bound::Included(key) | Bound::Excluded(key) => node.child_index(key),
        Bound::Unbounded => node.count().saturating_sub(1),
    };
    let children: Vec<Child> = (low..=high).map(|i| node.child(i)).collect();
    drop(bytes);
    let mut left = Vec::with_capacity(children.len());
    let mut removed: u64 = 0;
    let mut upcoming = Upcoming::default();
    for (i, child) in (low..=high).zip(&children) {
        upcoming.turn(pages, i - low, |i| Some(children.get(i)?.page.page));
        let lower = if i == low { lower } else { Bound::Unbounded };
        let upper = if i == high { upper } else { Bound::Unbounded };
        let (page, gone) = trim(pages, &child.page, level - 1, child.count, lower, upper)?;
        removed = removed.saturating_add(gone);
        left.push((page, child.count.saturating_sub(gone)));
    }
    if removed == 0 {
        return Ok((Some(*at), 0));
    }
    let (page, bytes) = pages.private_bytes(at)?;
    for (i, (page, count)) in (low..high + 1).zip(left).rev() {
        match page {
            Some(page) => node::set_child(bytes, i, &Child { page, count }),
            None => node::remove(bytes, i),
        }
    }
    if Node::new(bytes).count() == 0 {
        let birth = pages.version();
        pages.free(page, birth);
        return Ok((None, removed));
    }
    Ok((Some(private(page)), removed))
}

fn trim_leaf<P: WritePages>(
    pages: &mut P,
    at: &PageRef,
    lower: KeyBound<'_>,
    upper: KeyBound<'_>,
) -> Result<(Option<PageRef>, u64)> {
    let bytes = pages.read(at)?;
    let node = node_at(&bytes, at.page, 0)?;
    let (start, end) = slots_between(&node, lower, upper);
    if start >= end {
        return Ok((Some(*at), 0));
    }
    let removed = (end - start) as u64;
    if end - start == node.count() {
        drop(bytes);
        drop_below(pages, at, 0, removed)?;
        return Ok((None, removed));
    }
    let runs: Vec<RunRef> = (start..end).filter_map(|i| node.run(i)).collect();
    drop(bytes);
    let (page, bytes) = pages.private_bytes(at)?;
    for i in (start..end).rev() {
        node::remove(bytes, i);
    }
    for run in &runs {
        pages.free_run(run);
    }
    Ok((Some(private(page)), removed))
}

/// Merges what is too empty along the path to `key`: on the way down, so that the children of two
/// thin branches become siblings, and again on the way up, when the children are settled.
fn mend<P: WritePages>(pages: &mut P, at: &PageRef, level: u8, key: &[u8]) -> Result<PageNumber> {
    let page = pages.make_private(at)?;
    merge_around(pages, page, key)?;
    if level > 1 {
        let node = node_at(pages.bytes_mut(page)?, page, level)?;
        let i = node.child_index(key);
        let child = node.child(i);
        let below = mend(pages, &child.page, level - 1, key)?;
        let mended = Child {
            page: private(below),
            ..child
        };
        node::set_child(pages.bytes_mut(page)?, i, &mended);
        merge_around(pages, page, key)?;
    }
    Ok(page)
}

/// Merges the child that `key` leads to, and the one after it, for as long as one is too empty.
fn merge_around<P: WritePages>(pages: &mut P, page: PageNumber, key: &[u8]) -> Result<()> {
    let limit = percent(pages.page_size(), delete::TOO_EMPTY);
    loop {
        let node = Node::new(pages.bytes_mut(page)?);
        let near = node.child_index(key);
        let (first, end) = (near, node.count().min(near + 2));
        let level = node.level().saturating_sub(1);
        let mut merged = false;
        for i in first..end {
            let child = Node::new(pages.bytes_mut(page)?).child(i);
            let bytes = pages.read(&child.page)?;
            let is_thin = node_at(&bytes, child.page.page, level)?.used() < limit;
            drop(bytes);
            if is_thin && merge_near(pages, page, i)? {
                merged = true;
                break;
            }
        }
        if !merged {
            return Ok(());
        }
    }
}
