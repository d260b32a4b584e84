//! Pages that nothing leads to any more, and the gaps that they belong into.
//!
//! A page is *alive* if it was shown to be part of the state: the space map of the state says that
//! it is used, or, where that part of the map is lost, its reference, page and checksum, still
//! stands for sure in the damaged page that led to it ([`Evidence`]). It belongs into a gap if its
//! keys lie in it, and in no gap of another tree.
//!
//! # Invariants
//!
//! 1. Only a living page is put into a gap. Old copies of a page are not alive, however sound.
//! 2. No gap gets more entries than its parent counted, and no two pages with overlapping keys: the
//!    newer one is right, as both cannot have been in the tree when it was written.
//! 3. It ends: each round enters a page that was not entered before.

use std::collections::{HashMap, HashSet};

use aurora::anatomy::Node;

use super::evidence::Evidence;
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
    /// The gap whose damaged page still refers to it, for sure.
    pub parent: Option<usize>,
    /// The tree that it was in, now or once.
    pub tree: Option<usize>,
}

/// What the search rests on.
pub(crate) struct Grounds<'g> {
    pub index: &'g Index,
    pub space: Option<&'g SpaceMap>,
    /// Nothing newer belongs to the state.
    pub version: u64,
    /// Whether a leaf that looks like one of the catalog may be put into a gap.
    pub for_catalog: bool,
    /// A page may be of a tree that is not known: then its keys do not tell where it belongs.
    pub has_lost_trees: bool,
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
        let fits = choose(&gather.gaps, &orphans, grounds);
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
    find_without(gather, grounds, &HashSet::new())
}

/// The same as if some pages were not there.
pub(crate) fn find_without(
    gather: &Gather<'_>,
    grounds: &Grounds<'_>,
    passed: &HashSet<u32>,
) -> Vec<Orphan> {
    let evidence = Evidence::of(gather, grounds);
    // The page of a gap is known not to be what belongs there.
    let wrong: HashSet<u32> = gather.gaps.iter().map(|gap| gap.at.page).collect();
    let mut orphans = Vec::new();
    let mut below: HashSet<(u32, bool)> = HashSet::new();
    let candidates = grounds.index.all().filter(|page| {
        page.is_node()
            && page.birth <= grounds.version
            && !gather.reached.has(page.at.page)
            && !wrong.contains(&page.at.page)
            && !passed.contains(&page.at.page)
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
            tree: evidence.tree(intact.at),
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

/// The first and the last key that are known to be below a node.
pub(crate) fn ends(gather: &Gather<'_>, index: &Index, node: &Node<'_>) -> (Vec<u8>, Vec<u8>) {
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
fn choose(gaps: &[Gap], orphans: &[Orphan], grounds: &Grounds<'_>) -> Vec<(usize, usize)> {
    let mut fits = Vec::new();
    for (number, orphan) in orphans.iter().enumerate() {
        if grounds.has_lost_trees && orphan.parent.is_none() && orphan.tree.is_none() {
            continue;
        }
        let fitting = |(_, gap): &(usize, &Gap)| {
            gap.level > orphan.intact.level
                && orphan.intact.birth <= gap.birth
                && gap.place(&orphan.first, &orphan.last).is_some()
        };
        let mut fitting: Vec<(usize, &Gap)> = gaps.iter().enumerate().filter(fitting).collect();
        if let Some(parent) = orphan.parent {
            fitting.retain(|(gap, _)| *gap == parent);
        } else if let Some(tree) = orphan.tree {
            fitting.retain(|(_, gap)| gap.tree == tree);
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
    pages: Vec<&Orphan>,
    sink: &mut dyn Sink,
) -> Result<Vec<u32>, Failure> {
    let Some(wanted) = gather.gaps.get(gap).cloned() else {
        return Ok(Vec::new());
    };
    let offered: Vec<u32> = pages.iter().map(|orphan| orphan.intact.at.page).collect();
    let pages = sure_ones(&wanted, pages);
    let taken: HashSet<u32> = pages.iter().map(|orphan| orphan.intact.at.page).collect();
    let mut refused = offered;
    refused.retain(|page| !taken.contains(page));
    for (i, orphan) in pages.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| pages.get(i));
        let behind = pages.get(i + 1);
        let Some(start) = start_of(gather, gap, orphan, before.copied(), behind.copied()) else {
            refused.push(orphan.intact.at.page);
            continue;
        };
        let astray = gather.walk(wanted.tree, start, sink)?;
        if let Some(gap) = gather.gaps.get_mut(gap) {
            let found = orphan.intact.entries.saturating_sub(astray);
            gap.found = gap.found.saturating_add(found);
            split(&mut gap.free, orphan);
        }
    }
    Ok(refused)
}

/// Those of the pages that a gap can have together, in the order of their keys.
fn sure_ones<'o>(gap: &Gap, mut pages: Vec<&'o Orphan>) -> Vec<&'o Orphan> {
    pages.sort_by(|a, b| a.first.cmp(&b.first));
    let outdated = outdated(&pages);
    pages.retain(|orphan| !outdated.contains(&orphan.intact.at.page));
    let fit = |pages: &[&Orphan]| {
        let entries = pages.iter().map(|orphan| orphan.intact.entries);
        let sum = entries.fold(gap.found, u64::saturating_add);
        gap.count.is_none_or(|count| sum <= count)
    };
    // With too many of them, which ones are wrong cannot be told but by the damaged page.
    if !fit(&pages) {
        pages.retain(|orphan| orphan.parent.is_some());
    }
    if !fit(&pages) {
        pages.clear();
    }
    pages
}

/// Pages whose keys overlap with those of a page that is newer, or as new.
fn outdated(pages: &[&Orphan]) -> HashSet<u32> {
    let mut outdated = HashSet::new();
    for (i, a) in pages.iter().enumerate() {
        let behind = pages.iter().skip(i + 1);
        for b in behind.take_while(|b| b.first <= a.last) {
            if a.intact.birth <= b.intact.birth {
                outdated.insert(a.intact.at.page);
            }
            if b.intact.birth <= a.intact.birth {
                outdated.insert(b.intact.at.page);
            }
        }
    }
    outdated
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
