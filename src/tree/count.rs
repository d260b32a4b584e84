//! Positions: how many entries come before a key, which entry is the n-th.
//!
//! # Invariants
//!
//! 1. Each call reads one page a level; entries outside of the last leaf are counted by the counts
//!    in their parents, never one by one.

use std::ops::Bound;

use crate::Result;
use crate::format::node::Node;
use crate::format::{Fault, PageRef, TreeRoot, page};

use super::pages::ReadPages;
use super::range::slots_between;
use super::{Found, node_at};

/// How many entries are inside the upper bound `below`.
pub(crate) fn rank<P: ReadPages>(pages: &P, root: &TreeRoot, below: Bound<&[u8]>) -> Result<u64> {
    let (Bound::Included(key) | Bound::Excluded(key)) = below else {
        return Ok(root.count);
    };
    if root.is_empty() {
        return Ok(0);
    }
    let mut before: u64 = 0;
    let mut page = root.root;
    for level in (1..=root.level).rev() {
        let bytes = pages.read(&page)?;
        let node = node_at(&bytes, page.page, level)?;
        let i = node.child_index(key);
        for child in node.children().take(i) {
            before = before.saturating_add(child.count);
        }
        page = node.child(i).page;
    }
    let leaf = pages.read(&page)?;
    let node = node_at(&leaf, page.page, 0)?;
    let (_, end) = slots_between(&node, Bound::Unbounded, below);
    Ok(before.saturating_add(end as u64))
}

/// How many entries are between two bounds.
pub(crate) fn count_range<P: ReadPages>(
    pages: &P,
    root: &TreeRoot,
    lower: Bound<&[u8]>,
    upper: Bound<&[u8]>,
) -> Result<u64> {
    let before = match lower {
        Bound::Unbounded => 0,
        Bound::Included(key) => rank(pages, root, Bound::Excluded(key))?,
        Bound::Excluded(key) => rank(pages, root, Bound::Included(key))?,
    };
    Ok(rank(pages, root, upper)?.saturating_sub(before))
}

/// The child of a branch that has the `n`-th entry, and that entry's place below the child.
pub(super) fn child_of_nth(node: &Node<'_>, n: u64) -> Option<(usize, u64)> {
    let mut left = n;
    for (i, child) in node.children().enumerate() {
        if left < child.count {
            return Some((i, left));
        }
        left -= child.count;
    }
    None
}

#[cold]
pub(super) fn wrong_count(bytes: &[u8], at: &PageRef, expected: u64) -> crate::Error {
    let found = page::count(bytes) as u64;
    Fault::new(
        "the page has fewer entries than its parent says",
        page::COUNT,
        expected,
        found,
    )
    .in_page(at.page, bytes.len() as u32)
}

/// The entry that `n` others come before.
pub(crate) fn nth<'p, P: ReadPages>(
    pages: &'p P,
    root: &TreeRoot,
    n: u64,
) -> Result<Option<Found<P::Bytes<'p>>>> {
    if n >= root.count || root.is_empty() {
        return Ok(None);
    }
    let mut left = n;
    let mut page = root.root;
    for level in (1..=root.level).rev() {
        let bytes = pages.read(&page)?;
        let node = node_at(&bytes, page.page, level)?;
        let Some((i, below)) = child_of_nth(&node, left) else {
            return Err(wrong_count(&bytes, &page, left));
        };
        left = below;
        page = node.child(i).page;
    }
    let leaf = pages.read(&page)?;
    let node = node_at(&leaf, page.page, 0)?;
    let slot = left as usize;
    if left >= node.count() as u64 {
        return Err(wrong_count(&leaf, &page, left));
    }
    let value = node.value(slot);
    Ok(Some(Found {
        leaf,
        page: page.page,
        slot,
        value,
    }))
}

/// The entry with the smallest key.
pub(crate) fn first<'p, P: ReadPages>(
    pages: &'p P,
    root: &TreeRoot,
) -> Result<Option<Found<P::Bytes<'p>>>> {
    nth(pages, root, 0)
}

/// The entry with the greatest key.
pub(crate) fn last<'p, P: ReadPages>(
    pages: &'p P,
    root: &TreeRoot,
) -> Result<Option<Found<P::Bytes<'p>>>> {
    nth(pages, root, root.count.wrapping_sub(1))
}
