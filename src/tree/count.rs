//! Positions: how many entries come before a key, which entry is the n-th.
//!
//! # Invariants
//!
//! 1. Each call reads one page a level, for each end of a range; entries outside of the last leaf are counted by the counts
//!    in their parents, never one by one.

use std::ops::{Bound, Range};

use crate::Result;
use crate::format::node::{self, Child, Node};
use crate::format::{Fault, PageRef, TreeRoot, page};

use super::delete::End;
use super::pages::ReadPages;
use super::range::{is_void, slots_between};
use super::{Found, branch_at, node_at};

/// How many entries are inside the upper bound `below`.
pub(crate) fn rank<P: ReadPages>(pages: &P, root: &TreeRoot, below: Bound<&[u8]>) -> Result<u64> {
    count_range(pages, root, Bound::Unbounded, below)
}

/// How many entries are between two bounds.
///
/// Both ways down are taken together: what lies between them is counted where they part, and
/// below that what lies behind the one and before the other. Of a branch's children the fewer are
/// added up, those that count or those that do not. (Adding up all that come before each of two
/// bounds took 1.8 times as long.)
pub(crate) fn count_range<P: ReadPages>(
    pages: &P,
    root: &TreeRoot,
    lower: Bound<&[u8]>,
    upper: Bound<&[u8]>,
) -> Result<u64> {
    let is_bounded = [lower, upper].map(|bound| !matches!(bound, Bound::Unbounded));
    if root.is_empty() || is_bounded == [false; 2] {
        return Ok(root.count);
    }
    if is_void(lower, upper) {
        return Ok(0);
    }
    let whole = Child {
        page: root.root,
        count: root.count,
    };
    let mut counted: u64 = 0;
    let mut ways = Ways {
        low: is_bounded[0].then_some(whole),
        high: is_bounded[1].then_some(whole),
    };
    for level in (1..=root.level).rev() {
        let more = ways.step(pages, level, lower, upper)?;
        counted = counted.saturating_add(more);
    }
    Ok(counted.saturating_add(ways.finish(pages, lower, upper)?))
}

/// The ways down to the two ends of a range; none to an end that is open.
struct Ways {
    low: Option<Child>,
    high: Option<Child>,
}

impl Ways {
    /// The page in which both ends are still, if they are.
    fn common(&self) -> Option<Child> {
        let (low, high) = (self.low?, self.high?);
        (low.page.page == high.page.page).then_some(low)
    }

    /// One level down. Gives the number of entries that were passed and lie between the ends.
    fn step<P: ReadPages>(
        &mut self,
        pages: &P,
        level: u8,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Result<u64> {
        if let Some(at) = self.common() {
            let (low, high, more) = look(pages, &at, level, |node| {
                let (i, j) = (child_of(node, lower), child_of(node, upper));
                let more = count_children(node, i + 1..j, at.count);
                (node.child(i), node.child(j), more)
            })?;
            (self.low, self.high) = (Some(low), Some(high));
            self.warm(pages);
            return Ok(more);
        }
        let mut more: u64 = 0;
        if let Some(at) = &mut self.low {
            let (child, behind) = look(pages, at, level, |node| {
                let i = child_of(node, lower);
                let behind = count_children(node, i + 1..node.count(), at.count);
                (node.child(i), behind)
            })?;
            (*at, more) = (child, behind);
        }
        if let Some(at) = &mut self.high {
            let (child, before) = look(pages, at, level, |node| {
                let j = child_of(node, upper);
                (node.child(j), count_children(node, 0..j, at.count))
            })?;
            (*at, more) = (child, more.saturating_add(before));
        }
        self.warm(pages);
        Ok(more)
    }

    /// The pages of the next step are asked for together.
    fn warm<P: ReadPages>(&self, pages: &P) {
        for child in [&self.low, &self.high].into_iter().flatten() {
            pages.warm(&child.page, node::warm);
        }
    }

    /// In the leaves.
    fn finish<P: ReadPages>(
        &self,
        pages: &P,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Result<u64> {
        let between = |at: &Child, lower, upper| {
            look(pages, at, 0, |node| {
                let (start, end) = slots_between(node, lower, upper);
                end.saturating_sub(start) as u64
            })
        };
        if let Some(at) = self.common() {
            return between(&at, lower, upper);
        }
        let low = self.low.map(|at| between(&at, lower, Bound::Unbounded));
        let high = self.high.map(|at| between(&at, Bound::Unbounded, upper));
        let (low, high) = (low.unwrap_or(Ok(0))?, high.unwrap_or(Ok(0))?);
        Ok(low.saturating_add(high))
    }
}

#[inline]
fn look<P: ReadPages, R>(
    pages: &P,
    at: &Child,
    level: u8,
    look: impl FnOnce(&Node<'_>) -> R,
) -> Result<R> {
    let look = |bytes: &[u8]| Ok(look(&node_at(bytes, at.page.page, level)?));
    pages.look(&at.page, look)?
}

/// The child in which an end of a range is.
fn child_of(node: &Node<'_>, bound: Bound<&[u8]>) -> usize {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) => node.child_index(key),
        Bound::Unbounded => 0,
    }
}

/// The entries below some of a branch's children, which have `total` together.
fn count_children(node: &Node<'_>, range: Range<usize>, total: u64) -> u64 {
    let add_up = |range: Range<usize>| {
        let counts = range.map(|i| node.child_count(i));
        counts.fold(0, u64::saturating_add)
    };
    if range.is_empty() {
        return 0;
    }
    if range.len() * 2 <= node.count() {
        return add_up(range);
    }
    let outside = add_up(0..range.start).saturating_add(add_up(range.end..node.count()));
    total.saturating_sub(outside)
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

/// The entry at one end, which no count leads to (adding up those of all other children took half of the time that it
/// took to find the last one).
#[inline]
pub(crate) fn outermost<'p, P: ReadPages>(
    pages: &'p P,
    root: &TreeRoot,
    end: End,
) -> Result<Option<Found<P::Bytes<'p>>>> {
    if root.is_empty() {
        return Ok(None);
    }
    let mut at = root.root;
    for level in (1..=root.level).rev() {
        let bytes = pages.read(&at)?;
        let node = branch_at(&bytes, at.page, level)?;
        at = node.child(end.of(&node)).page;
    }
    let leaf = pages.read(&at)?;
    let node = node_at(&leaf, at.page, 0)?;
    let slot = end.of(&node);
    if slot >= node.count() {
        return Err(wrong_count(&leaf, &at, 1));
    }
    let value = node.value(slot);
    Ok(Some(Found {
        leaf,
        page: at.page,
        slot,
        value,
    }))
}
