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
//!    end of the tree, and in leaves whose last inserts each went right behind the one before, those counted that went
//!    to the leaf before it was split.
//!    A leaf that is filled like this is a uniform one, if its entries are all alike: the first one of
//!    a tree begins as such, and each goes on with what the one before it was when it was full.
//!    Where they arrive in descending order, each right before the one before, it is the other way round:
//!    the page on the right gets and stays full. (Newest first, say, by keys that count down: the pages
//!    were half full, and there were twice as many to write.)
//! 4. After two entries in a row went behind all others, or before all, the next one is tried there first
//!    ([`store_outermost`]).

use crate::format::node::{self, Child, Density, Inserts, Item, Node, Payload, Run, Scratch};
use crate::format::page::{BRANCH, LEAF, UNIFORM_LEAF};
use crate::format::{PageNumber, PageRef, RunRef, TreeRoot};
use crate::{Error, Result};

use super::delete::End;
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
    /// The left one, where there are two.
    page: PageNumber,
    replaced: bool,
    split: Option<Split>,
}

/// Where a leaf that has no room is to be cut.
enum Cut {
    /// Between its entries, where the run tells.
    Within(Inserts),
    /// The new entry goes behind all others, alone, and more will.
    BehindAll(Inserts),
    /// The same at the other end.
    BeforeAll(Inserts),
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
    // Whoever appends entries goes on.
    if let Some(end) = pages.ends().likely()
        && store_outermost(pages, root, end, key, payload)?
    {
        return Ok(false);
    }
    let stored = store_below(pages, &root.root, root.level, Edges::ROOT, key, payload)?;
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

/// Stores an entry behind all others, or before all, if it belongs there and the leaf at that end has room:
/// straight down that side, without a search in each branch. If not, it says so, and the tree holds what it
/// held.
fn store_outermost<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    end: End,
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
        let outermost = node.child(end.of(&node)).page;
        lead_to(pages, root, end, above, &at, page)?;
        (*step, above, at) = (page, Some(page), outermost);
    }
    let (leaf, bytes) = pages.private_bytes(&at)?;
    let node = node_at(bytes, leaf, 0)?;
    let slot = match end {
        End::First => 0,
        End::Last => node.count(),
    };
    let stored = node.search(key) == Err(slot) && node::insert(bytes, slot, key, payload);
    lead_to(pages, root, end, above, &at, leaf)?;
    if stored {
        for page in branches {
            let bytes = pages.bytes_mut(*page)?;
            let count_it = |child: &mut Child| child.count = child.count.saturating_add(1);
            change_outermost(bytes, end, count_it);
        }
        root.count = root.count.saturating_add(1);
    }
    Ok(stored)
}

/// The page at that end below `above`, or the root, was `old` and is `new` now.
#[inline]
fn lead_to<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    end: End,
    above: Option<PageNumber>,
    old: &PageRef,
    new: PageNumber,
) -> Result<()> {
    if new == old.page {
        return Ok(());
    }
    match above {
        Some(above) => change_outermost(pages.bytes_mut(above)?, end, |child| {
            child.page = private(new);
        }),
        None => root.root = private(new),
    }
    Ok(())
}

#[inline]
fn change_outermost(bytes: &mut [u8], end: End, change: impl FnOnce(&mut Child)) {
    let node = Node::branch(bytes);
    let at = end.of(&node);
    let mut child = node.child(at);
    change(&mut child);
    node::set_child(bytes, at, &child);
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

/// Whether a page is the first of its level, and the last.
#[derive(Clone, Copy)]
struct Edges {
    first: bool,
    last: bool,
}

impl Edges {
    const ROOT: Edges = Edges {
        first: true,
        last: true,
    };
}

/// Stores below `at`.
fn store_below<P: WritePages>(
    pages: &mut P,
    at: &PageRef,
    level: u8,
    edges: Edges,
    key: &[u8],
    payload: &Payload<'_>,
) -> Result<Stored> {
    let (page, bytes) = pages.private_bytes(at)?;
    node::warm(bytes);
    if level == 0 {
        node_at(bytes, page, 0)?;
        let put = put_in_leaf(bytes, edges, key, payload);
        return settle_leaf(pages, page, put, key, payload);
    }
    let node = branch_at(bytes, page, level)?;
    let i = node.child_index(key);
    let child = node.child(i);
    let edges = Edges {
        first: edges.first && i == 0,
        last: edges.last && i + 1 == node.count(),
    };
    let below = store_below(pages, &child.page, level - 1, edges, key, payload)?;
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
            let (key, anyhow) = (&lower.separator, Inserts::ANYHOW);
            split = Some(match edges.last {
                true => split_behind(pages, page, i + 1, key, &sibling, anyhow)?,
                false => split_page(pages, page, i + 1, key, &sibling, anyhow)?,
            });
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
    /// It was not there before, and is the first or the last of the tree.
    end: Option<End>,
    replaced: bool,
    old_run: Option<RunRef>,
    /// There is no room: the leaf has to be split.
    cut: Option<Cut>,
}

fn put_in_leaf(bytes: &mut [u8], edges: Edges, key: &[u8], payload: &Payload<'_>) -> LeafPut {
    let node = Node::new(bytes);
    let found = node.search(key);
    let old_run = found.ok().and_then(|i| node.run(i));
    let (Ok(slot) | Err(slot)) = found;
    let end = match found {
        Err(slot) if edges.last && slot == node.count() => Some(End::Last),
        Err(0) if edges.first => Some(End::First),
        _ => None,
    };
    let mut stored = found.is_ok() && node::overwrite(bytes, slot, payload);
    if !stored {
        if found.is_ok() {
            node::remove(bytes, slot);
        }
        stored = node::insert(bytes, slot, key, payload);
    }
    let cut = (!stored).then(|| {
        let node = Node::new(bytes);
        let inserts = match node.inserts_to(slot) {
            // One that grows again and again is where it was.
            inserts if found.is_ok() && inserts.run() != Run::Ascending => Inserts::ANYHOW,
            inserts => inserts,
        };
        match inserts.run() {
            _ if slot == node.count() && edges.last => Cut::BehindAll(inserts),
            Run::Ascending if slot == node.count() => Cut::BehindAll(inserts),
            Run::Descending if slot == 0 => Cut::BeforeAll(inserts),
            _ => Cut::Within(inserts),
        }
    });
    LeafPut {
        slot,
        end,
        replaced: found.is_ok(),
        old_run,
        cut,
    }
}

fn settle_leaf<P: WritePages>(
    pages: &mut P,
    page: PageNumber,
    put: LeafPut,
    key: &[u8],
    payload: &Payload<'_>,
) -> Result<Stored> {
    pages.ends().note(put.end);
    let slot = put.slot;
    let (left, split) = match put.cut {
        None => (page, None),
        Some(Cut::Within(inserts)) => {
            let split = split_page(pages, page, slot, key, payload, inserts)?;
            (page, Some(split))
        }
        Some(Cut::BehindAll(inserts)) => {
            let split = split_behind(pages, page, slot, key, payload, inserts)?;
            (page, Some(split))
        }
        Some(Cut::BeforeAll(inserts)) => {
            let (new, rest) = split_before(pages, page, key, payload, inserts)?;
            (new, Some(rest))
        }
    };
    if let Some(run) = put.old_run
        && *payload != Payload::Run(run)
    {
        pages.free_run(&run);
    }
    Ok(Stored {
        page: left,
        replaced: put.replaced,
        split,
    })
}

/// Puts a new leaf with this entry alone in front of one that has no room for it. Gives the new one, and
/// the other as what came to be on its right.
fn split_before<P: WritePages>(
    pages: &mut P,
    page: PageNumber,
    key: &[u8],
    payload: &Payload<'_>,
    inserts: Inserts,
) -> Result<(PageNumber, Split)> {
    let bytes = pages.bytes_mut(page)?;
    node::finish(bytes);
    let right = Node::new(bytes);
    let (separator, right_count) = (
        node::shortest_separator(key, &right.key_vec(0)),
        right.count() as u64,
    );
    let left = pages.allocate(LEAF, 0)?;
    let bytes = pages.bytes_mut(left)?;
    node::insert(bytes, 0, key, payload);
    node::set_inserts(bytes, inserts, 0);
    pages.finished(page);
    let right = Split {
        separator,
        right: page,
        right_count,
    };
    Ok((left, right))
}

/// Splits a page that has no room for a new slot `i`: only that one, which is the last, moves.
fn split_behind<P: WritePages>(
    pages: &mut P,
    page: PageNumber,
    i: usize,
    key: &[u8],
    payload: &Payload<'_>,
    inserts: Inserts,
) -> Result<Split> {
    let left = Node::new(pages.bytes_mut(page)?);
    let (is_branch, level) = (left.is_branch(), left.level());
    let mut kind = if is_branch { BRANCH } else { LEAF };
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
        node::set_inserts(bytes, inserts, 0);
        pages.finished(page);
    }
    Ok(Split {
        separator,
        right,
        right_count: Item::New(key, *payload).entries(),
    })
}

/// Splits a page that has no room for a new slot `i` in two.
fn split_page<P: WritePages>(
    pages: &mut P,
    page: PageNumber,
    i: usize,
    key: &[u8],
    payload: &Payload<'_>,
    inserts: Inserts,
) -> Result<Split> {
    let node = Node::new(pages.bytes_mut(page)?);
    let (kind, level) = match node.is_branch() {
        true => (BRANCH, node.level()),
        false => (LEAF, node.level()),
    };
    let right = pages.allocate(kind, level)?;
    let old = Scratch::copy(pages.bytes_mut(page)?);
    let node = Node::new(&old);
    let items = node.items_with(i, key, *payload);
    let beside = node::run_split_point(&items, i, old.len(), inserts.run());
    let at = beside.unwrap_or_else(|| node::split_point(&items, i, old.len(), node.is_branch()));
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
        node::set_inserts(pages.bytes_mut(page)?, Inserts::ANYHOW, 0);
        node::set_inserts(pages.bytes_mut(home)?, inserts, slot);
    }
    Ok(Split {
        separator,
        right,
        right_count: high
            .iter()
            .fold(0, |sum: u64, item| sum.saturating_add(item.entries())),
    })
}
