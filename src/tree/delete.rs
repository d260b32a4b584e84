//! Removing entries: path copy, merging of what has become too empty, collapse of the root.
//!
//! # Invariants
//!
//! 1. Nothing is copied if the key is not there.
//! 2. A page that falls below [`TOO_EMPTY`] merges with a sibling if both together stay within
//!    [`MERGED_AT_MOST`]. Entries are not shifted between siblings: two neighbours that cannot be
//!    merged hold at least 45% of two pages on average, which shifting could not better, and
//!    a new separator could be too long for the parent.
//! 3. A page without entries leaves the tree at once.

use crate::Result;
use crate::format::node::{self, Child, Density, Inserts, Node, Payload, Scratch};
use crate::format::{PageNumber, PageRef, TreeRoot, page};

use super::pages::{ReadPages, WritePages};
use super::{node_at, private};

/// Below this part of a page (in percent), a node looks for a sibling to merge with.
pub(super) const TOO_EMPTY: usize = 40;
/// Above this, a merged page would soon have to split again.
pub(super) const MERGED_AT_MOST: usize = 90;

pub(super) fn percent(page_size: u32, percent: usize) -> usize {
    node::usable_bytes(page_size as usize) * percent / 100
}

/// Removes an entry. False if there is none with this key.
pub(crate) fn delete<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    key: &[u8],
) -> Result<bool> {
    if root.is_empty() {
        return Ok(false);
    }
    let there = At {
        child: |node: &Node<'_>| node.child_index(key),
        slot: |node: &Node<'_>| node.search(key).ok(),
    };
    delete_at(pages, root, &there)
}

/// An end of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    First,
    Last,
}

impl End {
    /// The slot at that end of a page.
    #[inline]
    pub(super) fn of(self, node: &Node<'_>) -> usize {
        match self {
            End::First => 0,
            End::Last => node.count().saturating_sub(1),
        }
    }
}

/// Removes the entry at an end, as [`delete`] would by its key, with no search for that. False if there
/// is none.
pub(crate) fn delete_outermost<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    end: End,
) -> Result<bool> {
    if root.is_empty() {
        return Ok(false);
    }
    let there = At {
        child: |node: &Node<'_>| end.of(node),
        slot: |node: &Node<'_>| Some(end.of(node)).filter(|slot| *slot < node.count()),
    };
    delete_at(pages, root, &there)
}

/// Where an entry is: below which child of a branch, and in which slot of a leaf, if it is there.
struct At<C, S> {
    child: C,
    slot: S,
}

fn delete_at<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    there: &At<impl Fn(&Node<'_>) -> usize, impl Fn(&Node<'_>) -> Option<usize>>,
) -> Result<bool> {
    let Some(removed) = delete_below(pages, &root.root, root.level, there)? else {
        return Ok(false);
    };
    let mut rest = TreeRoot {
        root: private(removed.page),
        count: root.count.saturating_sub(1),
        level: root.level,
    };
    if removed.count < 2 {
        collapse(pages, &mut rest)?;
    }
    *root = rest;
    Ok(true)
}

/// What is left of a page that something was removed below.
struct Removed {
    page: PageNumber,
    count: usize,
    too_empty: bool,
}

fn remains(page: PageNumber, bytes: &[u8]) -> Removed {
    let limit = percent(bytes.len() as u32, TOO_EMPTY);
    let node = Node::new(bytes);
    Removed {
        page,
        count: node.count(),
        too_empty: node.used() < limit,
    }
}

fn delete_below<P: WritePages>(
    pages: &mut P,
    at: &PageRef,
    level: u8,
    there: &At<impl Fn(&Node<'_>) -> usize, impl Fn(&Node<'_>) -> Option<usize>>,
) -> Result<Option<Removed>> {
    let bytes = pages.read(at)?;
    node::warm(&bytes);
    let node = node_at(&bytes, at.page, level)?;
    if level == 0 {
        let Some(i) = (there.slot)(&node) else {
            return Ok(None);
        };
        let run = node.run(i);
        drop(bytes);
        let (page, bytes) = pages.private_bytes(at)?;
        node::remove(bytes, i);
        let removed = remains(page, bytes);
        if let Some(run) = run {
            pages.free_run(&run);
        }
        return Ok(Some(removed));
    }
    let i = (there.child)(&node);
    let child = node.child(i);
    drop(bytes);
    let Some(below) = delete_below(pages, &child.page, level - 1, there)? else {
        return Ok(None);
    };
    let (page, bytes) = pages.private_bytes(at)?;
    if below.count == 0 {
        node::remove(bytes, i);
        let removed = remains(page, bytes);
        let birth = pages.version();
        pages.free(below.page, birth);
        return Ok(Some(removed));
    }
    let shrunk = Child {
        page: private(below.page),
        count: child.count.saturating_sub(1),
    };
    node::set_child(bytes, i, &shrunk);
    if !below.too_empty {
        return Ok(Some(remains(page, bytes)));
    }
    merge_near(pages, page, i)?;
    Ok(Some(remains(page, pages.bytes_mut(page)?)))
}

/// Merges child `i` of a private branch with the sibling after or before it, if that fits.
pub(super) fn merge_near<P: WritePages>(
    pages: &mut P,
    parent: PageNumber,
    i: usize,
) -> Result<bool> {
    let limit = percent(pages.page_size(), MERGED_AT_MOST);
    let mut merge = |i| merge_pair(pages, parent, i, limit, Density::Roomy);
    Ok(merge(i)? || (i > 0 && merge(i - 1)?))
}

/// Merges children `i` and `i + 1` of a private branch into the first, if the result uses at most
/// `limit` bytes.
pub(super) fn merge_pair<P: WritePages>(
    pages: &mut P,
    parent: PageNumber,
    i: usize,
    limit: usize,
    density: Density,
) -> Result<bool> {
    let bytes = pages.bytes_mut(parent)?;
    let node = Node::new(bytes);
    if i + 1 >= node.count() {
        return Ok(false);
    }
    let level = node.level().saturating_sub(1);
    let (left, right) = (node.child(i), node.child(i + 1));
    let separator = if level > 0 {
        node.key_vec(i + 1)
    } else {
        Vec::new()
    };
    let Some((left_bytes, right_bytes)) = read_mergeable(pages, &left, &right, level, limit)?
    else {
        return Ok(false);
    };
    let (left_node, right_node) = (Node::new(&left_bytes), Node::new(&right_bytes));
    let mut items = left_node.items();
    let mut more = right_node.items();
    if level > 0
        && let Some(first) = more.first_mut()
    {
        *first = node::Item::New(&separator, Payload::Child(right_node.child(0)));
    }
    items.append(&mut more);
    if node::measure(&items, level > 0, density) > limit {
        return Ok(false);
    }
    let (page, bytes) = pages.private_bytes(&left.page)?;
    node::build(bytes, &items, density);
    if level == 0 {
        node::set_inserts(bytes, Inserts::ANYHOW, 0);
    }
    pages.free(right.page.page, page::birth(&right_bytes));
    let merged = Child {
        page: private(page),
        count: left.count.saturating_add(right.count),
    };
    let bytes = pages.bytes_mut(parent)?;
    node::remove(bytes, i + 1);
    node::set_child(bytes, i, &merged);
    Ok(true)
}

/// Copies of two siblings, unless a glance tells that they are too full to be merged.
fn read_mergeable<P: ReadPages>(
    pages: &P,
    left: &Child,
    right: &Child,
    level: u8,
    limit: usize,
) -> Result<Option<(Scratch, Scratch)>> {
    let left_bytes = pages.read(&left.page)?;
    let right_bytes = pages.read(&right.page)?;
    let left_node = node_at(&left_bytes, left.page.page, level)?;
    let right_node = node_at(&right_bytes, right.page.page, level)?;
    // The common prefix of both is no longer than that of each, so only prefixes are saved, and
    // what a uniform leaf's slots are shorter by; or, where a page has a single key and no prefix,
    // that key.
    let at_least = |node: &Node<'_>| {
        let keyed = node.count().saturating_sub(usize::from(node.is_branch()));
        let saved = if keyed < 2 {
            node.used()
        } else {
            node.prefix().len() + node.uniform_saves()
        };
        node.used().saturating_sub(saved)
    };
    if at_least(&left_node) + at_least(&right_node) > limit {
        return Ok(None);
    }
    Ok(Some((
        Scratch::copy(&left_bytes),
        Scratch::copy(&right_bytes),
    )))
}

/// Brings a root in order after removals: no root for no entries, no root with a single child.
pub(super) fn collapse<P: WritePages>(pages: &mut P, root: &mut TreeRoot) -> Result<()> {
    loop {
        let bytes = pages.read(&root.root)?;
        let node = node_at(&bytes, root.root.page, root.level)?;
        let (count, birth) = (node.count(), page::birth(&bytes));
        if count > 1 || (count == 1 && root.level == 0) {
            return Ok(());
        }
        let child = node.child(0);
        drop(bytes);
        pages.free(root.root.page, birth);
        if count == 0 {
            *root = TreeRoot::default();
            return Ok(());
        }
        root.root = child.page;
        root.level -= 1;
    }
}
