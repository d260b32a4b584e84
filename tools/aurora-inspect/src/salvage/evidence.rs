//! What a damaged page still says of the pages below it.
//!
//! A branch keeps the cells of children that it no longer has: as garbage between its other cells,
//! and in the unused part below them. So bytes that look like a reference show that a page was
//! below this one at some time, and no more: they are a *hint*. A reference is *sure* if the page
//! as a whole still adds up.
//!
//! # Invariants
//!
//! 1. A reference is sure only if its cell is one that a slot names; the slots and cells fit the
//!    page without overlaps and with the garbage that it counts; the entries below all slots add up
//!    to what the parent counted; what is below lies in the gap, in the order of the slots; and no
//!    hint leads to a newer page with the same keys.
//! 2. A sure reference of a leaf of the catalog is one that a slot names, of as many slots as the
//!    parent counted.

use std::collections::HashMap;

use aurora::anatomy::{Node, PAGE_HEADER_BYTES, PageHeader, Reference};

use super::gather::{Gap, Gather};
use super::index::{Index, Intact};
use super::names;
use super::orphans::{Grounds, ends};

/// Bytes of a branch's cell without the rest of its key, and how much of a key is in the slot.
const CELL_BYTES: usize = 16;
const HEAD_BYTES: usize = 4;

/// Page and checksum.
type Key = (u32, u32);

/// References in damaged pages.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// The gap whose damaged page refers to it, for sure.
    sure: HashMap<Key, usize>,
    /// The tree that it was once a page of.
    hints: HashMap<Key, usize>,
}

impl Evidence {
    pub fn of(gather: &Gather<'_>, grounds: &Grounds<'_>) -> Self {
        let mut evidence = Evidence::default();
        for (number, gap) in gather.gaps.iter().enumerate() {
            // A user's leaf leads to no pages of a tree, whatever its bytes.
            if !gap.is_evidence || (gap.level == 0 && gap.tree != usize::MAX) {
                continue;
            }
            let Ok(bytes) = gather.source.raw(gap.at.page) else {
                continue;
            };
            let hints = hints(grounds.index, &bytes);
            let sure = match gap.level {
                0 => roots(gap, &bytes),
                _ => children(gather, grounds, gap, &bytes, &hints),
            };
            let key = |at: Reference| (at.page, at.checksum);
            evidence
                .hints
                .extend(hints.iter().map(|page| (key(page.at), gap.tree)));
            evidence
                .sure
                .extend(sure.into_iter().map(|at| (key(at), number)));
        }
        evidence
    }

    /// The gap that the page belongs into.
    pub fn parent(&self, at: Reference) -> Option<usize> {
        self.sure.get(&(at.page, at.checksum)).copied()
    }

    /// The tree that the page was in, now or once.
    pub fn tree(&self, at: Reference) -> Option<usize> {
        self.hints.get(&(at.page, at.checksum)).copied()
    }
}

/// Intact nodes that any bytes of a page lead to: cells begin anywhere.
fn hints(index: &Index, bytes: &[u8]) -> Vec<Intact> {
    let windows = bytes.windows(8).skip(PAGE_HEADER_BYTES);
    windows
        .filter_map(|window| index.node(reference(window)?).copied())
        .collect()
}

fn reference(bytes: &[u8]) -> Option<Reference> {
    let (page, checksum) = bytes.split_first_chunk::<4>()?;
    Some(Reference {
        page: u32::from_le_bytes(*page),
        checksum: u32::from_le_bytes(checksum.try_into().ok()?),
    })
}

/// The roots that a damaged leaf of the catalog still names.
fn roots(gap: &Gap, bytes: &[u8]) -> Vec<Reference> {
    let count = u64::from(PageHeader::decode(bytes).count);
    // Slots behind the last one are left of trees that were dropped.
    if gap.count.is_some_and(|wanted| wanted != count) {
        return Vec::new();
    }
    names::fragments(bytes)
        .iter()
        .map(|entry| entry.root.at)
        .collect()
}

/// The children that a damaged branch names, if all of it adds up; else none.
fn children(
    gather: &Gather<'_>,
    grounds: &Grounds<'_>,
    gap: &Gap,
    bytes: &[u8],
    hints: &[Intact],
) -> Vec<Reference> {
    let node = Node::read(bytes, gap.at.page).ok();
    let Some(node) = node.filter(|node| node.level() == gap.level && is_tight(node, bytes)) else {
        return Vec::new();
    };
    let mut sum = 0_u64;
    let mut found: Vec<Below> = Vec::new();
    for i in 0..node.count() {
        let child = node.child(i);
        let Some(intact) = grounds.index.node(child.at) else {
            sum = sum.saturating_add(child.count);
            continue;
        };
        sum = sum.saturating_add(intact.entries);
        let Some(below) = Below::read(gather, grounds, gap, intact) else {
            return Vec::new();
        };
        if found
            .last()
            .is_some_and(|before| before.last >= below.first)
        {
            return Vec::new();
        }
        found.push(below);
    }
    let is_outdated = |below: &Below| below.is_outdated(gather, grounds.index, hints);
    if gap.count != Some(sum) || found.iter().any(is_outdated) {
        return Vec::new();
    }
    found.into_iter().map(|below| below.intact.at).collect()
}

/// An intact page that a slot of a damaged branch names.
struct Below {
    intact: Intact,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Below {
    /// `None`: it cannot be in the gap.
    fn read(
        gather: &Gather<'_>,
        grounds: &Grounds<'_>,
        gap: &Gap,
        intact: &Intact,
    ) -> Option<Self> {
        let used = grounds.space.and_then(|map| map.is_used(intact.at.page));
        let fits = intact.level.checked_add(1) == Some(gap.level)
            && intact.birth <= gap.birth.min(grounds.version)
            && used != Some(false);
        let (first, last) = ends_of(gather, grounds.index, intact).filter(|_| fits)?;
        let is_within = gap.low <= first && gap.high.as_ref().is_none_or(|high| last < *high);
        is_within.then_some(Below {
            intact: *intact,
            first,
            last,
        })
    }

    /// Whether a hint leads to a newer page of the same keys: then this is an old one.
    fn is_outdated(&self, gather: &Gather<'_>, index: &Index, hints: &[Intact]) -> bool {
        let mut hints = hints
            .iter()
            .filter(|hint| hint.birth > self.intact.birth && hint.level == self.intact.level);
        hints.any(|hint| {
            ends_of(gather, index, hint)
                .is_some_and(|(first, last)| first <= self.last && self.first <= last)
        })
    }
}

fn ends_of(gather: &Gather<'_>, index: &Index, intact: &Intact) -> Option<(Vec<u8>, Vec<u8>)> {
    let bytes = gather.source.raw(intact.at.page).ok()?;
    let node = Node::read(&bytes, intact.at.page).ok()?;
    Some(ends(gather, index, &node))
}

/// Whether the cells of a branch lie side by side, and leave over what it counts as garbage.
fn is_tight(node: &Node<'_>, bytes: &[u8]) -> bool {
    let header = PageHeader::decode(bytes);
    let mut cells: Vec<(usize, usize)> = { 0..node.count() }
        .map(|i| {
            let (offset, length) = node.slot(i);
            let rest = usize::from(length).saturating_sub(HEAD_BYTES);
            (usize::from(offset), CELL_BYTES.saturating_add(rest))
        })
        .collect();
    cells.sort_unstable();
    let overlap = cells.windows(2).any(|pair| match pair {
        [(offset, length), (next, _)] => offset.saturating_add(*length) > *next,
        _ => false,
    });
    let taken = cells
        .iter()
        .fold(0_usize, |sum, (_, length)| sum.saturating_add(*length));
    let others = [
        header.cells_start as usize,
        usize::from(header.prefix),
        taken,
    ];
    let left = others
        .iter()
        .try_fold(bytes.len(), |left, part| left.checked_sub(*part));
    !overlap && left == Some(usize::from(header.garbage))
}

/// Pages that a damaged branch names, and that are not intact either.
pub(crate) fn missing_below(gather: &Gather<'_>, index: &Index, gap: &Gap) -> Vec<u32> {
    let bytes = gather.source.raw(gap.at.page).ok();
    let bytes = bytes.filter(|_| gap.is_evidence && gap.level > 0);
    let node = { bytes.as_ref() }.and_then(|bytes| Node::read(bytes, gap.at.page).ok());
    let node = node.filter(|node| node.level() == gap.level);
    let children = node.into_iter().flat_map(|node| {
        let children = (0..node.count()).map(|i| node.child(i).at);
        children.collect::<Vec<_>>()
    });
    children
        .filter(|at| index.node(*at).is_none())
        .map(|at| at.page)
        .collect()
}
