//! Moving pages for online compaction, a few leaves at a time.
//!
//! # Invariants
//!
//! 1. What the tree holds does not change, only where.
//! 2. A page moves by being made private: a page that is private already keeps its number. Pages
//!    and runs of this very transaction are for the caller to place where they may stay.
//! 3. A leaf that is less than [`LOOSE_BELOW`] full, and has room for one more entry of its own,
//!    takes entries from the next ones below the same branch until it is [`PACKED_AT_MOST`] full; a
//!    leaf that is emptied that way is freed. How full it is means: once it is laid out densely, as
//!    leaves are that get here.
//! 4. Each call moves a long value at least, if it comes to one that is to move: so callers come to the end.

use crate::format::node::{self, Child, Density, Inserts, Node, Payload, Scratch};
use crate::format::{Fault, PageNumber, PageRef, RunRef, TreeRoot, page};
use crate::{Error, Result};

use super::delete::{TOO_EMPTY, collapse, merge_near, merge_pair, percent};
use super::pages::{ReadPages, WritePages};
use super::upcoming::REACH;
use super::{node_at, private};

/// In percent. Room that is left for inserts to come would be a few entries a leaf, and the file as
/// much larger for all others: with 95 and 85 a file of 1.10 times its data took 1.15.
const PACKED_AT_MOST: usize = 100;
/// In percent: a leaf fuller than that is not worth writing again.
const LOOSE_BELOW: usize = 97;

/// How much is done in one go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub leaves: usize,
    /// Of long values that move. (Of the last one more than that is moved, whatever its length.)
    pub long_bytes: u64,
}

impl Budget {
    pub(crate) const ALL: Budget = Budget {
        leaves: usize::MAX,
        long_bytes: u64::MAX,
    };
}

/// Moves every page that `wants_move` names on the way to so many leaves, beginning with
/// the one for `from_key`. Returns the key to go on from, which may be in the middle of a leaf; `None` at
/// the end of the tree.
pub(crate) fn relocate<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    from_key: &[u8],
    budget: Budget,
    wants_move: &dyn Fn(PageNumber) -> bool,
) -> Result<Option<Vec<u8>>> {
    let mut from = from_key.to_vec();
    let mut going = Going {
        wants_move,
        ahead: 0,
        long_bytes: budget.long_bytes,
    };
    for _ in 0..budget.leaves {
        if root.is_empty() {
            return Ok(None);
        }
        if going.long_bytes == 0 {
            break;
        }
        let moved = move_below(pages, &root.root, root.level, &from, &mut going)?;
        let mut rest = TreeRoot {
            root: moved.page,
            ..*root
        };
        collapse(pages, &mut rest)?;
        *root = rest;
        match moved.next {
            Some(next) if next > from => from = next,
            Some(_) => {
                let fault = Fault::new("the separators of a branch are not in order", 0, 0, 0);
                return Err(fault.in_page(root.root.page, pages.page_size()));
            }
            None => return Ok(None),
        }
    }
    Ok(Some(from))
}

struct Going<'w> {
    wants_move: &'w dyn Fn(PageNumber) -> bool,
    /// So many of the next leaves were asked for.
    ahead: usize,
    /// What is left of the budget.
    long_bytes: u64,
}

struct Moved {
    page: PageRef,
    /// The separator after the leaf that was visited, or the key in it that was not come to.
    next: Option<Vec<u8>>,
}

fn move_below<P: WritePages>(
    pages: &mut P,
    at: &PageRef,
    level: u8,
    key: &[u8],
    going: &mut Going<'_>,
) -> Result<Moved> {
    if level == 0 {
        return move_leaf(pages, at, key, going);
    }
    let mut at = *at;
    let bytes = pages.read(&at)?;
    let node = node_at(&bytes, at.page, level)?;
    let i = node.child_index(key);
    if level == 1 {
        fetch_leaves(pages, &node, i, &mut going.ahead);
    }
    drop(bytes);
    if level == 1 {
        while is_loose(pages, &at, i)? {
            at = private(pages.make_private(&at)?);
            if !pack(pages, at.page, i)? {
                break;
            }
            going.ahead = going.ahead.saturating_sub(1);
        }
    }
    let bytes = pages.read(&at)?;
    let node = node_at(&bytes, at.page, level)?;
    let child = node.child(i);
    let next = (i + 1 < node.count()).then(|| node.key_vec(i + 1));
    drop(bytes);
    let below = move_below(pages, &child.page, level - 1, key, going)?;
    // A private page below may have been written early, and changed since: what leads to it is written again.
    let is_private = below.page.checksum == 0;
    if below.page != child.page || is_private || (going.wants_move)(at.page) {
        at = private(pages.make_private(&at)?);
        let moved = Child {
            page: below.page,
            ..child
        };
        node::set_child(pages.bytes_mut(at.page)?, i, &moved);
    }
    if level > 1 {
        at = merge_thin(pages, &at, i)?;
    }
    Ok(Moved {
        page: at,
        next: below.next.or(next),
    })
}

/// Has the device begin with leaves of a branch from the `i`-th on, of which `ahead` were asked for.
fn fetch_leaves<P: ReadPages>(pages: &P, node: &Node<'_>, i: usize, ahead: &mut usize) {
    if i == 0 {
        *ahead = 0; // those were of the branch before
    }
    let from = i.saturating_add(*ahead);
    let leaf = |i| (i < node.count()).then(|| node.child(i).page.page);
    if *ahead <= REACH / 2 && leaf(from).is_some_and(|leaf| pages.is_far(leaf)) {
        pages.fetch((from..i.saturating_add(REACH)).map_while(leaf));
        *ahead = REACH;
    }
    *ahead = ahead.saturating_sub(1);
}

/// Whether leaf `i` below a branch has room to take entries from a leaf after it.
fn is_loose<P: ReadPages>(pages: &P, at: &PageRef, i: usize) -> Result<bool> {
    let bytes = pages.read(at)?;
    let node = node_at(&bytes, at.page, 1)?;
    if i + 1 >= node.count() {
        return Ok(false);
    }
    let left = node.child(i).page;
    let bytes = pages.read(&left)?;
    let node = node_at(&bytes, left.page, 0)?;
    let used = node::dense_bytes(&node);
    let with_one_more = used + used / node.count().max(1);
    Ok(used < percent(pages.page_size(), LOOSE_BELOW)
        && with_one_more <= percent(pages.page_size(), PACKED_AT_MOST))
}

/// Fills leaf `i` below a private branch from the next one. False if nothing could be moved.
fn pack<P: WritePages>(pages: &mut P, parent: PageNumber, i: usize) -> Result<bool> {
    let limit = percent(pages.page_size(), PACKED_AT_MOST);
    if merge_pair(pages, parent, i, limit, Density::Dense)? {
        return Ok(true);
    }
    let node = Node::new(pages.bytes_mut(parent)?);
    let (left, right) = (node.child(i), node.child(i + 1));
    let old_separator = node.key_vec(i + 1);
    let left_bytes = Scratch::copy(&pages.read(&left.page)?);
    let right_bytes = Scratch::copy(&pages.read(&right.page)?);
    let left_node = node_at(&left_bytes, left.page.page, 0)?;
    let mut items = left_node.items();
    items.append(&mut node_at(&right_bytes, right.page.page, 0)?.items());
    let guess = left_node.count();
    let at = node::fill_point(&items, limit, false, Density::Dense, guess);
    let (low, high) = items.split_at(at);
    let (Some(last_low), Some(first_high)) = (low.last(), high.first()) else {
        return Ok(false);
    };
    if low.len() <= left_node.count() || node::measure(high, false, Density::Dense) > limit {
        return Ok(false);
    }
    let separator = node::shortest_separator(&last_low.key_vec(), &first_high.key_vec());
    let bytes = pages.bytes_mut(parent)?;
    node::remove(bytes, i + 1);
    if !node::insert(bytes, i + 1, &separator, &Payload::Child(right)) {
        // A longer separator than the old one, for which the branch has room.
        node::insert(bytes, i + 1, &old_separator, &Payload::Child(right));
        return Ok(false);
    }
    for (at, page, part) in [(i, left.page, low), (i + 1, right.page, high)] {
        let (page, bytes) = pages.private_bytes(&page)?;
        node::build(bytes, part, Density::Dense);
        node::set_inserts(bytes, Inserts::ANYHOW, 0);
        let child = Child {
            page: private(page),
            count: part.len() as u64,
        };
        node::set_child(pages.bytes_mut(parent)?, at, &child);
    }
    Ok(true)
}

/// Merges child `i`, a branch that lost children to merges, with a sibling if it is thin.
fn merge_thin<P: WritePages>(pages: &mut P, at: &PageRef, i: usize) -> Result<PageRef> {
    let limit = percent(pages.page_size(), TOO_EMPTY);
    let bytes = pages.read(at)?;
    let node = Node::new(&bytes);
    let (child, level) = (node.child(i).page, node.level());
    let child_bytes = pages.read(&child)?;
    let is_thin = node_at(&child_bytes, child.page, level.saturating_sub(1))?.used() < limit;
    let is_private = page::birth(&child_bytes) == pages.version();
    drop(child_bytes);
    drop(bytes);
    // A thin branch that nobody has touched is left alone: looking at it would copy its parent.
    if !is_thin || !is_private {
        return Ok(*at);
    }
    let page = pages.make_private(at)?;
    merge_near(pages, page, i)?;
    Ok(private(page))
}

/// Moves a leaf and the overflow runs of its entries, from that of a key on, as far as the budget goes.
fn move_leaf<P: WritePages>(
    pages: &mut P,
    at: &PageRef,
    from: &[u8],
    going: &mut Going<'_>,
) -> Result<Moved> {
    let page_size = pages.page_size();
    let bytes = pages.read(at)?;
    let node = node_at(&bytes, at.page, 0)?;
    let wanted = |run: &RunRef| {
        let end = run.first.saturating_add(run.pages(page_size));
        (run.first..end).any(going.wants_move)
    };
    let (Ok(first) | Err(first)) = node.search(from);
    let mut runs = (first..node.count())
        .filter_map(|i| Some((i, node.run(i)?)))
        .filter(|(_, run)| wanted(run));
    let mut moving = Vec::new();
    while going.long_bytes > 0
        && let Some((i, run)) = runs.next()
    {
        going.long_bytes = { going.long_bytes }.saturating_sub(u64::from(run.length_bytes));
        moving.push((i, run));
    }
    let next = runs.next().map(|(i, _)| node.key_vec(i));
    drop(bytes);
    if moving.is_empty() && !(going.wants_move)(at.page) {
        return Ok(Moved { page: *at, next });
    }
    let page = pages.make_private(at)?;
    for (i, run) in moving {
        let value = pages.read_run(&run)?.to_vec();
        let copy = match pages.allocate_run(&value) {
            Ok(copy) => copy,
            // No gap is long enough: the run stays where it is.
            Err(Error::FileFull { .. }) => continue,
            Err(error) => return Err(error),
        };
        node::overwrite(pages.bytes_mut(page)?, i, &Payload::Run(copy));
        pages.free_run(&run);
    }
    let page = private(page);
    Ok(Moved { page, next })
}
