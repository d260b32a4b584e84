//! Pages that nothing leads to any more, and the gaps that they belong into.
//!
//! A page is *alive* if it was shown to be part of the state: the space map of the state says that
//! it is used, or its reference, page and checksum, still stands in the damaged page that led to
//! it. It belongs into a gap if its keys lie in it, and in no gap of another tree.
//!
//! # Invariants
//!
//! 1. Only a living page is put into a gap. Old copies of a page are not alive, however sound.
//! 2. No gap gets more entries than its parent counted, and no two pages with overlapping keys.
//! 3. It ends: each round enters a page that was not entered before.

use std::collections::{HashMap, HashSet};

use aurora::anatomy::{Node, PAGE_HEADER_BYTES, Reference};

use super::gather::{Gap, Gather, High, Sink, Start};
use super::index::{Index, Intact};
use crate::Failure;
use crate::map::SpaceMap;

/// A page that nothing leads to.
#[derive(Debug, Clone)]
pub(crate) struct Orphan {
    pub intact: Intact,
    pub first: Vec<u8>,
    pub last: Vec<u8>,
    /// Shown to be of the state.
    pub is_alive: bool,
    /// The gap whose damaged page still refers to it.
    pub parent: Option<usize>,
}

/// What the search rests on.
pub(crate) struct Grounds<'g> {
    pub index: &'g Index,
    pub space: Option<&'g SpaceMap>,
    /// Nothing newer belongs to the state.
    pub version: u64,
    /// Whether a leaf that looks like one of the catalog may be put into a gap.
    pub for_catalog: bool,
}

/// Puts living pages into gaps until none fits any more.
pub(crate) fn fill_gaps(
    gather: &mut Gather<'_>,
    grounds: &Grounds<'_>,
    sink: &mut dyn Sink,
) -> Result<(), Failure> {
    let mut refused: HashSet<u32> = HashSet::new();
    while !gather.gaps.is_empty() {
        let mut orphans = find(gather, grounds);
        orphans.retain(|orphan| orphan.is_alive && !refused.contains(&orphan.intact.at.page));
        // The highest first: what lies below them comes with them.
        let fits = choose(&gather.gaps, &orphans);
        let Some(level) = fits.iter().map(|(o, _)| orphan_level(&orphans, *o)).max() else {
            return Ok(());
        };
        let mut by_gap: HashMap<usize, Vec<&Orphan>> = HashMap::new();
        for (orphan, gap) in fits {
            if let Some(orphan) = orphans.get(orphan).filter(|o| o.intact.level == level) {
                by_gap.entry(gap).or_default().push(orphan);
            }
        }
        let mut gaps: Vec<_> = by_gap.into_iter().collect();
        gaps.sort_by_key(|(gap, _)| *gap);
        for (gap, pages) in gaps {
            let refusals = admit(gather, gap, pages, sink)?;
            refused.extend(refusals);
        }
    }
    Ok(())
}

fn orphan_level(orphans: &[Orphan], at: usize) -> u8 {
    orphans.get(at).map_or(0, |orphan| orphan.intact.level)
}

/// Intact nodes that were not reached, are not too new, and that no other such node refers to.
pub(crate) fn find(gather: &Gather<'_>, grounds: &Grounds<'_>) -> Vec<Orphan> {
    let evidence = Evidence::of(gather);
    // The page of a gap is known not to be what belongs there.
    let wrong: HashSet<u32> = gather.gaps.iter().map(|gap| gap.at.page).collect();
    let mut orphans = Vec::new();
    let mut below: HashSet<(u32, bool)> = HashSet::new();
    let candidates = grounds.index.all().filter(|page| {
        page.is_node()
            && page.birth <= grounds.version
            && !gather.reached.has(page.at.page)
            && !wrong.contains(&page.at.page)
    });
    for intact in candidates {
        let Ok(bytes) = gather.source.raw_once(intact.at.page) else {
            continue;
        };
        let Ok(node) = Node::read(&bytes, intact.at.page) else {
            continue;
        };
        if is_catalog(gather, grounds.index, &node) != grounds.for_catalog
            || (grounds.for_catalog && node.is_branch())
        {
            continue;
        }
        let parent = evidence.parent(intact.at);
        let used = grounds.space.and_then(|map| map.is_used(intact.at.page));
        let is_alive = used == Some(true) || (used.is_none() && parent.is_some());
        if used == Some(false) {
            continue;
        }
        if node.is_branch() {
            let children = (0..node.count()).map(|i| node.child(i).at);
            let there = children.filter(|at| grounds.index.node(*at).is_some());
            below.extend(there.map(|at| (at.page, is_alive)));
        }
        let (first, last) = ends(gather, grounds.index, &node);
        orphans.push(Orphan {
            intact: *intact,
            first,
            last,
            is_alive,
            parent,
        });
    }
    // What a dead page refers to may be alive, and is looked at for itself.
    orphans.retain(|orphan| {
        let page = orphan.intact.at.page;
        !below.contains(&(page, true)) && (orphan.is_alive || !below.contains(&(page, false)))
    });
    orphans
}

/// Whether a node is a leaf of a catalog, or leads to one.
fn is_catalog(gather: &Gather<'_>, index: &Index, node: &Node<'_>) -> bool {
    if !node.is_branch() {
        return super::index::catalog_leaf(index, node).is_some();
    }
    node.level() == 1
        && (0..node.count()).any(|i| {
            let at = node.child(i).at;
            let bytes = index.node(at).and_then(|_| gather.source.raw(at.page).ok());
            bytes.is_some_and(|bytes| {
                let below = Node::read(&bytes, at.page).ok();
                below.is_some_and(|leaf| super::index::catalog_leaf(index, &leaf).is_some())
            })
        })
}

/// References that still stand in damaged pages.
struct Evidence {
    gaps: HashMap<Reference2, usize>,
}

/// Page and checksum.
type Reference2 = (u32, u32);

impl Evidence {
    fn of(gather: &Gather<'_>) -> Self {
        let mut gaps = HashMap::new();
        for (number, gap) in gather
            .gaps
            .iter()
            .enumerate()
            .filter(|(_, gap)| gap.is_evidence)
        {
            let Ok(bytes) = gather.source.raw(gap.at.page) else {
                continue;
            };
            // Cells begin anywhere.
            for window in bytes.windows(8).skip(PAGE_HEADER_BYTES) {
                if let Some((page, checksum)) = window.split_first_chunk::<4>()
                    && let Ok(checksum) = checksum.try_into()
                {
                    let page = u32::from_le_bytes(*page);
                    if page >= 2 && page < gather.source.file_pages() {
                        gaps.insert((page, u32::from_le_bytes(checksum)), number);
                    }
                }
            }
        }
        Evidence { gaps }
    }

    fn parent(&self, at: Reference) -> Option<usize> {
        self.gaps.get(&(at.page, at.checksum)).copied()
    }
}

/// The first and the last key that are known to be below a node.
fn ends(gather: &Gather<'_>, index: &Index, node: &Node<'_>) -> (Vec<u8>, Vec<u8>) {
    let last = node.key(node.count().saturating_sub(1));
    if !node.is_branch() {
        return (node.key(0), last);
    }
    let first = end(gather, index, node, |_| 0, |_| 0);
    let back = |node: &Node<'_>| node.count().saturating_sub(1);
    let behind = end(gather, index, node, back, back);
    // A branch with one child has no key of its own.
    let own = (node.count() > 1).then(|| (node.key(1), last));
    match (first, behind, own) {
        (Some(first), Some(last), _) => (first, last),
        (Some(first), None, own) => (first.clone(), own.map_or(first, |(_, last)| last)),
        (None, Some(last), own) => (own.map_or(last.clone(), |(first, _)| first), last),
        (None, None, own) => own.unwrap_or_default(),
    }
}

/// A key at an end of what is below a node, if the way to it is intact.
fn end(
    gather: &Gather<'_>,
    index: &Index,
    node: &Node<'_>,
    child: impl Fn(&Node<'_>) -> usize,
    slot: impl Fn(&Node<'_>) -> usize,
) -> Option<Vec<u8>> {
    let mut at = node.child(child(node)).at;
    for _ in 0..node.level() {
        index.node(at)?;
        let bytes = gather.source.raw(at.page).ok()?;
        let below = Node::read(&bytes, at.page).ok()?;
        if !below.is_branch() {
            return Some(below.key(slot(&below)));
        }
        at = below.child(child(&below)).at;
    }
    None
}

/// Which orphan belongs into which gap.
fn choose(gaps: &[Gap], orphans: &[Orphan]) -> Vec<(usize, usize)> {
    let mut fits = Vec::new();
    for (number, orphan) in orphans.iter().enumerate() {
        let fitting = |(_, gap): &(usize, &Gap)| {
            gap.level > orphan.intact.level
                && orphan.intact.birth <= gap.birth
                && gap.place(&orphan.first, &orphan.last).is_some()
        };
        let mut fitting: Vec<(usize, &Gap)> = gaps.iter().enumerate().filter(fitting).collect();
        if let Some(parent) = orphan.parent {
            fitting.retain(|(gap, _)| *gap == parent);
        }
        let Some((_, first)) = fitting.first() else {
            continue;
        };
        let tree = first.tree;
        // In which tree it is cannot be told.
        if fitting.iter().any(|(_, gap)| gap.tree != tree) {
            continue;
        }
        // The nearest above it.
        if let Some((gap, _)) = fitting.iter().min_by_key(|(_, gap)| gap.level) {
            fits.push((number, *gap));
        }
    }
    fits
}

/// Enters the pages, and says which of them were refused.
fn admit(
    gather: &mut Gather<'_>,
    gap: usize,
    mut pages: Vec<&Orphan>,
    sink: &mut dyn Sink,
) -> Result<Vec<u32>, Failure> {
    let Some(wanted) = gather.gaps.get(gap).cloned() else {
        return Ok(Vec::new());
    };
    pages.sort_by(|a, b| a.first.cmp(&b.first));
    let mut refused = Vec::new();
    let overlapping: HashSet<u32> = pages
        .windows(2)
        .filter_map(|pair| match pair {
            [a, b] if b.first <= a.last => Some([a.intact.at.page, b.intact.at.page]),
            _ => None,
        })
        .flatten()
        .collect();
    let sum = pages
        .iter()
        .fold(wanted.found, |n, o| n.saturating_add(o.intact.entries));
    let too_many = wanted.count.is_some_and(|count| sum > count);
    pages.retain(|orphan| {
        let page = orphan.intact.at.page;
        let is_sure = orphan.parent.is_some() || !(too_many || overlapping.contains(&page));
        if !is_sure {
            refused.push(page);
        }
        is_sure
    });
    for (i, orphan) in pages.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| pages.get(i));
        let behind = pages.get(i + 1);
        let Some(start) = start_of(gather, gap, orphan, before.copied(), behind.copied()) else {
            refused.push(orphan.intact.at.page);
            continue;
        };
        gather.walk(wanted.tree, start, sink)?;
        if let Some(gap) = gather.gaps.get_mut(gap) {
            gap.found = gap.found.saturating_add(orphan.intact.entries);
            split(&mut gap.free, orphan);
        }
    }
    Ok(refused)
}

fn start_of(
    gather: &Gather<'_>,
    gap: usize,
    orphan: &Orphan,
    before: Option<&Orphan>,
    behind: Option<&Orphan>,
) -> Option<Start> {
    let gap = gather.gaps.get(gap)?;
    let (low, high) = gap.free.get(gap.place(&orphan.first, &orphan.last)?)?;
    let low = match before {
        Some(before) if before.last > *low => before.last.clone(),
        _ => low.clone(),
    };
    let high = match (behind, high) {
        (Some(behind), Some(high)) if behind.first < *high => Some(behind.first.clone()),
        (Some(behind), None) => Some(behind.first.clone()),
        (_, high) => high.clone(),
    };
    // A leaf's own keys are its range: what lies beside them may be another's.
    let is_leaf = orphan.intact.level == 0;
    Some(Start {
        at: orphan.intact.at,
        level: orphan.intact.level,
        low: if is_leaf { orphan.first.clone() } else { low },
        high,
        count: Some(orphan.intact.entries),
        birth: orphan.intact.birth,
    })
}

/// Takes the keys that a page is known to cover out of the free parts.
fn split(free: &mut Vec<(Vec<u8>, High)>, orphan: &Orphan) {
    let mut behind = orphan.last.clone();
    behind.push(0);
    let (from, to) = (orphan.first.as_slice(), behind);
    let mut left = Vec::new();
    for (begin, end) in free.drain(..) {
        if to <= begin || end.as_ref().is_some_and(|end| end.as_slice() <= from) {
            left.push((begin, end));
            continue;
        }
        if begin.as_slice() < from {
            left.push((begin, Some(from.to_vec())));
        }
        if end.as_ref().is_none_or(|end| to < *end) {
            left.push((to.clone(), end));
        }
    }
    *free = left;
}
