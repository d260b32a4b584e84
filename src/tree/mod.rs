//! The ordered map: a counted, copy-on-write B+tree over the pages of [`pages`].
//!
//! ```text
//!                      branch, level 2        each child: page, checksum, entries below
//!                     /        |       \
//!          branch, 1       branch, 1     branch, 1
//!          /     \          /    \          |
//!        leaf   leaf      leaf   leaf      leaf        level 0: the entries
//!                           \
//!                            overflow run              one long value
//! ```
//!
//! # Invariants
//!
//! 1. Every page has the level that its parent (or the [`TreeRoot`]) implies. Each step down
//!    checks it, so a descent ends after at most `root.level` steps whatever the bytes: no loops,
//!    no unbounded recursion.
//! 2. All leaves are at level 0, so all are equally deep.
//! 3. No leaf is empty, no branch is without children; a tree without entries has no pages and is
//!    `TreeRoot::default()`. After a removal the root, if it is a branch, has at least two children.
//! 4. Child `i` of a branch holds the keys from separator `i` on, and before separator `i + 1`.
//! 5. Each child's count in its parent is the number of entries below it; `TreeRoot::count` is the
//!    number of all.
//! 6. A page of another version is never changed: it is copied first, and its parent, which is
//!    private by then, is pointed to the copy. References to private pages have the checksum 0. (In a branch that was
//!    written early and came back they have the one that they were written with, which counts no more.) A branch whose
//!    child changes is in memory when the child's change is done, so that it is written after it.
//! 7. Every page or run that leaves the tree is freed exactly once.
//! 8. An operation that returns an error may have changed the pages half-way (but not before it
//!    has checked the key and the value): the transaction then has to be dropped. The [`TreeRoot`]
//!    is written last.

mod approach;
pub(crate) mod bulk;
pub(crate) mod check;
pub(crate) mod count;
pub(crate) mod cursor;
pub(crate) mod delete;
pub(crate) mod group;
pub(crate) mod insert;
pub(crate) mod pages;
pub(crate) mod range;
pub(crate) mod relocate;
mod upcoming;

#[cfg(test)]
mod speed;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(crate) use approach::approach;
pub(crate) use bulk::{Change, change_many, each_leaf};
pub(crate) use check::{PageKind, TreeShape, check};
pub(crate) use count::{count_range, nth, outermost, rank};
pub(crate) use cursor::{Cursor, ValueBytes};
pub(crate) use delete::{End, delete, delete_outermost};
pub(crate) use group::{GROUP, find_group};
pub(crate) use insert::{check_entry, put, put_run};
pub(crate) use range::{delete_range, drop_tree};
pub(crate) use relocate::{Budget, relocate};

use crate::Result;
use crate::format::node::{self, Node, ValueAt};
use crate::format::{Fault, PageNumber, PageRef, RunRef, TreeRoot, page};
use pages::ReadPages;

/// No tree is higher: a file has no more than 2^32 pages, and a branch that lost all children but one is merged or
/// lowered.
pub(crate) const MAX_LEVEL: u8 = insert::MAX_STEPS as u8;

/// An entry that was found: the leaf is kept in place for as long as this lives.
pub(crate) struct Found<B> {
    pub leaf: B,
    pub page: PageNumber,
    pub slot: usize,
    pub value: ValueAt,
}

impl<B: std::ops::Deref<Target = [u8]>> Found<B> {
    /// The value, if it is in the leaf.
    pub(crate) fn inline(&self) -> Option<&[u8]> {
        match &self.value {
            ValueAt::Inline(range) => self.leaf.get(range.clone()),
            ValueAt::Run(_) => None,
        }
    }

    /// The reference to the value, if it is in an overflow run.
    pub(crate) fn run(&self) -> Option<RunRef> {
        match self.value {
            ValueAt::Inline(_) => None,
            ValueAt::Run(run) => Some(run),
        }
    }

    /// Puts the key into `key`, replacing what was there.
    pub(crate) fn key(&self, key: &mut Vec<u8>) {
        Node::new(&self.leaf).key(self.slot, key);
    }
}

/// The bytes as a node of the level that the page's parent implies.
#[inline]
fn node_at(bytes: &[u8], page: PageNumber, level: u8) -> Result<Node<'_>> {
    let node = Node::new(bytes);
    if node.level() == level {
        return Ok(node);
    }
    Err(wrong_level(bytes, page, level))
}

/// Like [`node_at`], above the leaves.
#[inline]
fn branch_at(bytes: &[u8], page: PageNumber, level: u8) -> Result<Node<'_>> {
    let node = Node::branch(bytes);
    if node.level() == level {
        return Ok(node);
    }
    Err(wrong_level(bytes, page, level))
}

#[cold]
fn wrong_level(bytes: &[u8], page: PageNumber, level: u8) -> crate::Error {
    let found = page::level(bytes);
    Fault::new(
        "the page has another level than its parent implies",
        page::LEVEL,
        u64::from(level),
        u64::from(found),
    )
    .in_page(page, bytes.len() as u32)
}

/// Finds the entry with this key.
#[inline]
pub(crate) fn find<'p, P: ReadPages>(
    pages: &'p P,
    root: &TreeRoot,
    key: &[u8],
) -> Result<Option<Found<P::Bytes<'p>>>> {
    if root.is_empty() {
        return Ok(None);
    }
    let mut page = root.root;
    let mut above = None;
    for level in (1..=root.level).rev() {
        let bytes = pages.read(&page)?;
        let node = branch_at(&bytes, page.page, level)?;
        let i = node.child_index(key);
        if level == 1 {
            pages.ask_for_leaf(page.page, i);
            above = Some((page.page, i));
        }
        page = node.child(i).page;
    }
    let leaf = pages.read(&page)?;
    node::warm(&leaf);
    if let Some((branch, i)) = above {
        pages.note_leaf(branch, i, &leaf);
    }
    let node = node_at(&leaf, page.page, 0)?;
    let lowest = node.lowest(key);
    node.warm_cell(lowest);
    let Ok(slot) = node.search_from(lowest, key) else {
        return Ok(None);
    };
    let value = node.value(slot);
    Ok(Some(Found {
        leaf,
        page: page.page,
        slot,
        value,
    }))
}

/// A reference to a private page: it has no checksum until a checkpoint writes it.
#[inline]
fn private(page: PageNumber) -> PageRef {
    PageRef { page, checksum: 0 }
}
