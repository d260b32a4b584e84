//! Storing entries: path copy, split, growth of the root.
//!
//! # Invariants
//!
//! 1. `KeyTooLong` and `ValueTooLong` are returned before anything has changed.
//! 2. On the way down each page becomes private; on the way up its parent learns its new number,
//!    its new count and, after a split, its new sibling.
//! 3. A page splits in the middle of its bytes, except where entries arrive in ascending order:
//!    there the page splits right behind the new entry, or if that is at the end, the new one goes
//!    alone into a new page. So the page on the left gets and stays full. That is so at the right
//!    end of the tree, and in leaves whose last inserts each went right behind the one before.
//!    A leaf that is filled like this is a uniform one, if its entries are all alike: the first one of
//!    a tree begins as such, and each goes on with what the one before it was when it was full.
//! 4. After an entry went behind all others, the next one is tried there first ([`append`]).

use crate::format::node::{self, Child, Density, Item, Node, Payload, Scratch};
use crate::format::page::{BRANCH, LEAF, UNIFORM_LEAF};
use crate::format::{PageNumber, PageRef, RunRef, TreeRoot};
use crate::{Error, Result};

use super::pages::WritePages;
use super::{branch_at, node_at, private};

/// Stores an entry. True if there was one with this key, which it replaces.
pub(crate) fn put<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    key: &[u8],
    value: &[u8],
) -> Result<bool> {
    check_entry(pages.page_size(), key, value.len())?;
    if node::is_inline(pages.page_size(), key.len(), value.len()) {
        return store(pages, root, key, &Payload::Inline(value));
    }
    let run = pages.allocate_run(value)?;
    store(pages, root, key, &Payload::Run(run))
}

/// Stores an entry whose value is in a run already. True if it replaces one.
pub(crate) fn put_run<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    key: &[u8],
    run: RunRef,
) -> Result<bool> {
    check_key(pages.page_size(), key)?;
    store(pages, root, key, &Payload::Run(run))
}

/// Refuses what can never be stored, before anything changes.
pub(crate) fn check_entry(page_size: u32, key: &[u8], value_bytes: usize) -> Result<()> {
    if value_bytes as u64 > node::MAX_VALUE_BYTES {
        return Err(Error::ValueTooLong {
            length: value_bytes as u64,
            limit: node::MAX_VALUE_BYTES,
        });
    }
    check_key(page_size, key)
}

fn check_key(page_size: u32, key: &[u8]) -> Result<()> {
    let limit = node::max_key_bytes(page_size);
    if key.len() > limit {
        return Err(Error::KeyTooLong {
            length: key.len(),
            limit,
        });
    }
    Ok(())
}

/// What became of a page that something was stored below.
struct Stored {
    page: PageNumber,
    replaced: bool,
    split: Option<Split>,
}

/// The right half of a page that was split.
struct Split {
    separator: Vec<u8>,
    right: PageNumber,
    right_count: u64,
}

fn store<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    key: &[u8],
    payload: &Payload<'_>,
) -> Result<bool> {
    if root.is_empty() {
        let page = pages.allocate(UNIFORM_LEAF, 0)?;
        node::insert(pages.bytes_mut(page)?, 0, key, payload);
        *root = TreeRoot {
            root: private(page),
            count: 1,
            level: 0,
        };
        return Ok(false);
    }
    // Whoever appends one entry goes on.
    if *pages.appends() && append(pages, root, key, payload)? {
        return Ok(false);
    }
    let stored = store_below(pages, &root.root, root.level, true, key, payload)?;
    let mut grown = TreeRoot {
        root: private(stored.page),
        count: root.count.saturating_add(u64::from(!stored.replaced)),
        level: root.level,
    };
    if let Some(split) = stored.split {
        grow(pages, &mut grown, &split)?;
    }
    *root = grown;
    Ok(stored.replaced)
}

/// Room for the pages of one way down. No tree gets so deep: a branch has three children at least.
pub(super) const MAX_STEPS: usize = 40;

/// Stores an entry behind all others, if it belongs there and the last leaf has room: straight down
/// the right side, without a search in each branch. If not, it says so, and the tree holds what it
/// held.
fn append<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    key: &[u8],
    payload: &Payload<'_>,
) -> Result<bool> {
    let mut steps = [0; MAX_STEPS];
    let Some(branches) = steps.get_mut(..usize::from(root.level)) else {
        return Ok(false);
    };
    let mut at = root.root;
    let mut above = None;
    for (level, step) in (1..=root.level).rev().zip(&mut *branches) {
        let (page, bytes) = pages.private_bytes(&at)?;
        let node = branch_at(bytes, page, level)?;
        let last = node.child(node.count().saturating_sub(1)).page;
        lead_to(pages, root, above, &at, page)?;
        (*step, above, at) = (page, Some(page), last);
    }
    let (leaf, bytes) = pages.private_bytes(&at)?;
    let node = node_at(bytes, leaf, 0)?;
    let end = node.count();
    let stored = node.search(key) == Err(end) && node::insert(bytes, end, key, payload);
    lead_to(pages, root, above, &at, leaf)?;
    if stored {
        for page in branches {
            let bytes = pages.bytes_mut(*page)?;
            change_last_child(bytes, |child| child.count = child.count.saturating_add(1));
        }
        root.count = root.count.saturating_add(1);
    }
    Ok(stored)
}

/// The last page below `above`, or the root, was `old` and is `new` now.
#[inline]
fn lead_to<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    above: Option<PageNumber>,
    old: &PageRef,
    new: PageNumber,
) -> Result<()> {
    if new == old.page {
        return Ok(());
    }
    match above {
        Some(above) => change_last_child(pages.bytes_mut(above)?, |child| {
            child.page = private(new);
        }),
        None => root.root = private(new),
    }
    Ok(())
}

#[inline]
fn change_last_child(bytes: &mut [u8], change: impl FnOnce(&mut Child)) {
    let node = Node::branch(bytes);
    let last = node.count().saturating_sub(1);
    let mut child = node.child(last);
    change(&mut child);
    node::set_child(bytes, last, &child);
}

/// Puts a new root above the two halves of the old one.
fn grow<P: WritePages>(pages: &mut P, root: &mut TreeRoot, split: &Split) -> Result<()> {
    let level = root.level.saturating_add(1);
    let page = pages.allocate(BRANCH, level)?;
    let bytes = pages.bytes_mut(page)?;
    let left = Child {
        page: root.root,
        count: root.count.saturating_sub(split.right_count),
    };
    node::insert(bytes, 0, &[], &Payload::Child(left));
    node::insert(bytes, 1, &split.separator, &Payload::Child(split.child()));
    root.root = private(page);
    root.level = level;
    Ok(())
}

impl Split {
    fn child(&self) -> Child {
        Child {
            page: private(self.right),
            count: self.right_count,
        }
    }
}

/// Stores below `at`, which is the last of its level if `rightmost`.
fn store_below<P: WritePages>(
    pages: &mut P,
    at: &PageRef,
    level: u8,
    rightmost: bool,
    key: &[u8],
    payload: &Payload<'_>,
) -> Result<Stored> {
    let (page, bytes) = pages.private_bytes(at)?;
    node::warm(bytes);
    if level == 0 {
        node_at(bytes, page, 0)?;
        let put = put_in_leaf(bytes, rightmost, key, payload);
        return settle_leaf(pages, page, put, key, payload);
    }
    let node = branch_at(bytes, page, level)?;
    let i = node.child_index(key);
    let is_last = i + 1 == node.count();
    let child = node.child(i);
    let below = store_below(
        pages,
        &child.page,
        level - 1,
        rightmost && is_last,
        key,
        payload,
    )?;
    let mut changed = Child {
        page: private(below.page),
        count: child.count.saturating_add(u64::from(!below.replaced)),
    };
    let mut split = None;
    if let Some(lower) = below.split {
        changed.count = changed.count.saturating_sub(lower.right_count);
        let bytes = pages.bytes_mut(page)?;
        node::set_child(bytes, i, &changed);
        let sibling = Payload::Child(lower.child());
        if !node::insert(bytes, i + 1, &lower.separator, &sibling) {
            let append = rightmost && is_last;
            split = Some(split_page(
                pages,
                page,
                i + 1,
                &lower.separator,
                &sibling,
                append,
            )?);
        }
    } else {
        // Compared with what is there now:
        // both pages may have been written early since, and the one below come back to be changed. Then this one comes
        // back, too, and is written again with the checksum that it will have.
        let bytes = pages.bytes_mut(page)?;
        if branch_at(bytes, page, level)?.child(i) != changed {
            node::set_child(bytes, i, &changed);
        }
    }
    Ok(Stored {
        page,
        replaced: below.replaced,
        split,
    })
}

/// What came of storing an entry in a leaf.
struct LeafPut {
    slot: usize,
    /// It is the last of the tree, and was not there before.
    is_last: bool,
    replaced: bool,
    old_run: Option<RunRef>,
    /// There is no room: the leaf has to be split; if true, behind its last entry.
    splits: Option<bool>,
}

fn put_in_leaf(bytes: &mut [u8], rightmost: bool, key: &[u8], payload: &Payload<'_>) -> LeafPut {
    let node = Node::new(bytes);
    let found = node.search(key);
    let old_run = found.ok().and_then(|i| node.run(i));
    let (Ok(slot) | Err(slot)) = found;
    let is_last = rightmost && found == Err(node.count());
    let mut stored = found.is_ok() && node::overwrite(bytes, slot, payload);
    if !stored {
        if found.is_ok() {
            node::remove(bytes, slot);
        }
        stored = node::insert(bytes, slot, key, payload);
    }
    let splits = (!stored).then(|| {
        let node = Node::new(bytes);
        slot == node.count() && (rightmost || node.is_ascending(slot))
    });
    LeafPut {
        slot,
        is_last,
        replaced: found.is_ok(),
        old_run,
        splits,
    }
}

fn settle_leaf<P: WritePages>(
    pages: &mut P,
    page: PageNumber,
    put: LeafPut,
    key: &[u8],
    payload: &Payload<'_>,
) -> Result<Stored> {
    *pages.appends() = put.is_last;
    let split = match put.splits {
        Some(append) => Some(split_page(pages, page, put.slot, key, payload, append)?),
        None => None,
    };
    if let Some(run) = put.old_run
        && *payload != Payload::Run(run)
    {
        pages.free_run(&run);
    }
    Ok(Stored {
        page,
        replaced: put.replaced,
        split,
    })
}

/// Splits a page that has no room for a new slot `i`. If `append`, only that one moves.
fn split_page<P: WritePages>(
    pages: &mut P,
    page: PageNumber,
    i: usize,
    key: &[u8],
    payload: &Payload<'_>,
    append: bool,
) -> Result<Split> {
    let left = Node::new(pages.bytes_mut(page)?);
    let (is_branch, level) = (left.is_branch(), left.level());
    let is_ascending = left.is_ascending(i);
    let mut kind = if is_branch { BRANCH } else { LEAF };
    if !append {
        let right = pages.allocate(kind, level)?;
        return split_in_two(pages, page, right, i, key, payload);
    }
    let separator = if is_branch {
        key.to_vec()
    } else {
        node::shortest_separator(&left.key_vec(i.saturating_sub(1)), key)
    };
    let bytes = pages.bytes_mut(page)?;
    node::finish(bytes);
    if Node::new(bytes).is_uniform() {
        kind = UNIFORM_LEAF; // what follows is probably alike, and appended
    }
    let right = pages.allocate(kind, level)?;
    let bytes = pages.bytes_mut(right)?;
    node::insert(bytes, 0, key, payload);
    if !is_branch {
        node::set_ascent(bytes, is_ascending, 0);
        pages.finished(page);
    }
    Ok(Split {
        separator,
        right,
        right_count: Item::New(key, *payload).entries(),
    })
}

fn split_in_two<P: WritePages>(
    pages: &mut P,
    page: PageNumber,
    right: PageNumber,
    i: usize,
    key: &[u8],
    payload: &Payload<'_>,
) -> Result<Split> {
    let old = Scratch::copy(pages.bytes_mut(page)?);
    let node = Node::new(&old);
    let items = node.items_with(i, key, *payload);
    let is_ascending = !node.is_branch() && node.is_ascending(i);
    let behind = is_ascending
        .then(|| node::ascending_split_point(&items, i, old.len()))
        .flatten();
    let at = behind.unwrap_or_else(|| node::split_point(&items, i, old.len(), node.is_branch()));
    let (low, high) = items.split_at(at.min(items.len()));
    let (Some(last_low), Some(first_high)) = (low.last(), high.first()) else {
        return Err(super::wrong_level(&old, page, node.level()));
    };
    let separator = if node.is_branch() {
        first_high.key_vec()
    } else {
        node::shortest_separator(&last_low.key_vec(), &first_high.key_vec())
    };
    node::build(pages.bytes_mut(page)?, low, Density::Roomy);
    node::build(pages.bytes_mut(right)?, high, Density::Roomy);
    if !node.is_branch() {
        // In which half the next one of the run belongs is told by where this one went.
        let (home, slot) = if i < at { (page, i) } else { (right, i - at) };
        node::set_ascent(pages.bytes_mut(page)?, false, 0);
        node::set_ascent(pages.bytes_mut(home)?, is_ascending, slot);
    }
    Ok(Split {
        separator,
        right,
        right_count: high
            .iter()
            .fold(0, |sum: u64, item| sum.saturating_add(item.entries())),
    })
}
