//! Changing many entries at once, in the order of their keys.
//!
//! Each page on the way is visited once for all that changes below it. A leaf that takes many entries
//! is laid out once with all of them, and where they need several leaves, into all of these at once.
//!
//! # Invariants
//!
//! 1. The keys ascend, none comes twice, and every value fits beside its key in a leaf. The caller has
//!    seen to that.
//! 2. A page below which nothing changes is not copied.
//! 3. Pages that come of one share its entries evenly, except at the right end of the tree: what goes
//!    behind all others fills leaves (as in [`mod@super::insert`], invariant 3).
//! 4. A page that loses entries and falls below [`TOO_EMPTY`] merges with a sibling as after a single
//!    removal ([`mod@super::delete`], invariant 2).

use crate::Result;
use crate::format::node::{self, Child, Density, Inserts, Item, Node, Payload, Scratch};
use crate::format::page::{BRANCH, COUNT, LEAF};
use crate::format::{Fault, PageNumber, PageRef, RunRef, TreeRoot};
use crate::prefetch::prefetch;

use super::delete::{TOO_EMPTY, collapse, merge_near, percent};
use super::pages::{ReadPages, WritePages};
use super::upcoming::Upcoming;
use super::{branch_at, node_at, private};

/// Up to so many changes of a leaf are made one after the other, where it has room for them: laying
/// it out anew costs about as much.
const FEW: usize = 4;

/// So many entries are asked for in memory ahead of their turn. A leaf seldom takes more.
const WARM: usize = 64;

/// What becomes of a key: it gets this value, or goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// Makes all changes. Returns how many entries were replaced or removed.
pub(crate) fn change_many<P: WritePages>(
    pages: &mut P,
    root: &mut TreeRoot,
    changes: &[Change<'_>],
) -> Result<u64> {
    let mut job = Job {
        removes: changes.iter().any(|change| change.value.is_none()),
        affected: 0,
        pages,
    };
    let changed = if root.is_empty() {
        job.fill(changes)?
    } else {
        let rightmost = true;
        job.change_below(&root.root, root.level, rightmost, changes)?
    };
    if let Some(changed) = changed {
        let mut rest = job.grow(changed, root.level)?;
        if !rest.is_empty() {
            collapse(job.pages, &mut rest)?;
        }
        check_growth(job.pages, root, &rest, changes)?;
        *root = rest;
    }
    Ok(job.affected)
}

/// The count of a tree comes from those in its branches. One that is wrong there must not become the tree's: with more entries
/// than the file has bytes it could not be opened again.
fn check_growth<P: ReadPages>(
    pages: &P,
    before: &TreeRoot,
    now: &TreeRoot,
    changes: &[Change<'_>],
) -> Result<()> {
    let most = before.count.saturating_add(changes.len() as u64);
    if now.count <= most {
        return Ok(());
    }
    let what = "a count is not that of the entries below";
    let fault = Fault::new(what, COUNT, most, now.count);
    Err(fault.in_page(before.root.page, pages.page_size()))
}

struct Job<'p, P> {
    pages: &'p mut P,
    /// Whether any of the changes is a removal.
    removes: bool,
    affected: u64,
}

fn has_put(changes: &[Change<'_>]) -> bool {
    changes.iter().any(|change| change.value.is_some())
}

/// Calls `visit` for each leaf that the changes, in order, put something into, until it says that it is
/// enough. [`change_many`] makes these private in this order, without a look at them before.
pub(crate) fn each_leaf<P: ReadPages>(
    pages: &P,
    at: &PageRef,
    level: u8,
    changes: &[Change<'_>],
    visit: &mut dyn FnMut(&PageRef) -> Result<bool>,
) -> Result<bool> {
    if level == 0 {
        return if has_put(changes) {
            visit(at)
        } else {
            Ok(true)
        };
    }
    let mut rest = changes;
    let mut upcoming = Upcoming::default();
    let steps = steps(pages, at, level, changes)?.0;
    for (i, step) in steps.iter().enumerate() {
        upcoming.turn(pages, i, |i| steps.get(i).map(Step::page));
        let (below, behind) = rest.split_at(step.changes.min(rest.len()));
        if !each_leaf(pages, &step.child.page, level - 1, below, visit)? {
            return Ok(false);
        }
        rest = behind;
    }
    Ok(true)
}

/// Which changes belong below which child of a branch, and its last slot.
fn steps<P: ReadPages>(
    pages: &P,
    at: &PageRef,
    level: u8,
    changes: &[Change<'_>],
) -> Result<(Vec<Step>, usize)> {
    let bytes = pages.read(at)?;
    node::warm(&bytes);
    let node = branch_at(&bytes, at.page, level)?;
    let mut steps = Vec::with_capacity(changes.len().min(node.count()));
    if level == 1 {
        changes.iter().for_each(|change| prefetch(change.key, 0));
    }
    let (mut separator, mut rest, mut near) = (Vec::new(), changes, 0);
    while let Some(first) = rest.first() {
        let slot = node.child_index_near(first.key, near);
        let mut count = rest.len();
        if slot + 1 < node.count() {
            node.key(slot + 1, &mut separator);
            count = leading(rest, |change| change.key < separator.as_slice());
        }
        let child = node.child(slot);
        pages.ask(&child.page);
        steps.push(Step {
            slot,
            child,
            changes: count,
        });
        rest = rest.get(count.max(1)..).unwrap_or_default();
        near = slot + 1;
    }
    Ok((steps, node.count().saturating_sub(1)))
}

/// What a page has become: itself with other entries, and pages behind it; or nothing.
#[derive(Default)]
struct Changed {
    first: Option<Child>,
    more: Vec<(Vec<u8>, Child)>,
    is_thin: bool,
}

/// The changes below one child of a branch.
struct Step {
    slot: usize,
    child: Child,
    changes: usize,
}

impl Step {
    fn page(&self) -> PageNumber {
        self.child.page.page
    }
}

impl<P: WritePages> Job<'_, P> {
    /// A tree of what was an empty one.
    fn fill(&mut self, changes: &[Change<'_>]) -> Result<Option<Changed>> {
        let items: Vec<Item<'_>> = changes.iter().filter_map(new_item).collect();
        if items.is_empty() {
            return Ok(None);
        }
        let page = self.pages.allocate(LEAF, 0)?;
        self.lay_out(page, &items, 0, true).map(Some)
    }

    /// The root above what the old one has become, with as many levels as it takes.
    fn grow(&mut self, mut changed: Changed, mut level: u8) -> Result<TreeRoot> {
        while let Some(first) = changed.first {
            if changed.more.is_empty() {
                return Ok(TreeRoot {
                    root: first.page,
                    count: first.count,
                    level,
                });
            }
            level = level.saturating_add(1);
            let more = changed.more.iter();
            let more = more.map(|(key, child)| Item::New(key, Payload::Child(*child)));
            let first = Item::New(&[], Payload::Child(first));
            let items: Vec<Item<'_>> = std::iter::once(first).chain(more).collect();
            let page = self.pages.allocate(BRANCH, level)?;
            changed = self.lay_out(page, &items, level, false)?;
        }
        Ok(TreeRoot::default())
    }

    /// Makes the changes below a page, which is the last of its level if `rightmost`. `None` if they
    /// change nothing (invariant 2).
    fn change_below(
        &mut self,
        at: &PageRef,
        level: u8,
        rightmost: bool,
        changes: &[Change<'_>],
    ) -> Result<Option<Changed>> {
        if level == 0 {
            return self.change_leaf(at, rightmost, changes);
        }
        let (steps, last_slot) = steps(self.pages, at, level, changes)?;
        let mut done = Vec::with_capacity(steps.len());
        let mut rest = changes;
        let mut upcoming = Upcoming::default();
        for (i, step) in steps.iter().enumerate() {
            upcoming.turn(self.pages, i, |i| steps.get(i).map(Step::page));
            let (below, behind) = rest.split_at(step.changes.min(rest.len()));
            // What one waits for in memory arrives while this one is changed.
            if let Some(next) = steps.get(i + 1) {
                self.pages.warm(&next.child.page, node::warm_all);
                let next = behind.get(..next.changes.min(WARM)).unwrap_or_default();
                next.iter()
                    .filter_map(new_item)
                    .for_each(|item| item.warm());
            }
            let rightmost = rightmost && step.slot == last_slot;
            let child = &step.child.page;
            if let Some(changed) = self.change_below(child, level - 1, rightmost, below)? {
                done.push((step.slot, changed));
            }
            rest = behind;
        }
        if done.is_empty() {
            return Ok(None);
        }
        self.settle_branch(at, level, done).map(Some)
    }

    fn change_leaf(
        &mut self,
        at: &PageRef,
        rightmost: bool,
        changes: &[Change<'_>],
    ) -> Result<Option<Changed>> {
        if !has_put(changes) && !self.has_effect(at, changes)? {
            return Ok(None);
        }
        let (page, bytes) = self.pages.private_bytes(at)?;
        node_at(bytes, at.page, 0)?;
        let (mut rest, mut replaced) = (changes, Replaced::default());
        if changes.len() <= FEW {
            while let Some((change, behind)) = rest.split_first() {
                if !change_in_place(bytes, change, &mut replaced) {
                    break;
                }
                rest = behind;
            }
        }
        let changed = if rest.is_empty() {
            self.remains(page)?
        } else {
            self.rebuild_leaf(page, rightmost, rest, &mut replaced)?
        };
        self.affected = self.affected.saturating_add(replaced.entries);
        for run in &replaced.runs {
            self.pages.free_run(run);
        }
        Ok(Some(changed))
    }

    /// Invariant 2: removals of what is not there change nothing.
    fn has_effect(&self, at: &PageRef, removals: &[Change<'_>]) -> Result<bool> {
        let bytes = self.pages.read(at)?;
        node::warm(&bytes);
        let node = node_at(&bytes, at.page, 0)?;
        Ok(removals
            .iter()
            .any(|change| node.search(change.key).is_ok()))
    }

    fn rebuild_leaf(
        &mut self,
        page: PageNumber,
        rightmost: bool,
        changes: &[Change<'_>],
        replaced: &mut Replaced,
    ) -> Result<Changed> {
        let old = Scratch::copy(self.pages.bytes_mut(page)?);
        let node = Node::new(&old);
        let mut items = Vec::with_capacity(node.count() + changes.len());
        let mut from = 0;
        for change in changes {
            let found = match from < node.count() {
                true => node.search(change.key),
                false => Err(from),
            };
            let (Ok(slot) | Err(slot)) = found;
            items.extend((from..slot).map(|i| Item::Kept(node, i)));
            from = slot;
            if found.is_ok() {
                replaced.note(&node, slot);
                from += 1;
            }
            items.extend(new_item(change));
        }
        items.extend((from..node.count()).map(|i| Item::Kept(node, i)));
        let is_behind = |change: &Change<'_>| node.search(change.key) == Err(node.count());
        let packed = rightmost && changes.first().is_some_and(is_behind);
        self.lay_out(page, &items, 0, packed)
    }

    /// Leads a branch to what its children have become.
    fn settle_branch(
        &mut self,
        at: &PageRef,
        level: u8,
        done: Vec<(usize, Changed)>,
    ) -> Result<Changed> {
        let (page, bytes) = self.pages.private_bytes(at)?;
        let mut has_more = false;
        for (slot, changed) in done.iter().rev() {
            match &changed.first {
                Some(child) => node::set_child(bytes, *slot, child),
                None => node::remove(bytes, *slot),
            }
            has_more |= !changed.more.is_empty();
        }
        let thin: Vec<PageNumber> = done
            .iter()
            .filter(|(_, changed)| changed.is_thin)
            .filter_map(|(_, changed)| Some(changed.first?.page.page))
            .collect();
        if has_more && !node::insert_children(self.pages.bytes_mut(page)?, pages_behind(&done)) {
            let changed = self.rebuild_branch(page, level, done)?;
            if !changed.more.is_empty() {
                return Ok(changed);
            }
        }
        if !thin.is_empty() {
            self.merge_thin(page, thin)?;
        }
        self.remains(page)
    }

    /// Lays a branch out with the pages that came behind its children. (Children that went are gone
    /// from it already, so slots are found by the pages in them.)
    fn rebuild_branch(
        &mut self,
        page: PageNumber,
        level: u8,
        done: Vec<(usize, Changed)>,
    ) -> Result<Changed> {
        let old = Scratch::copy(self.pages.bytes_mut(page)?);
        let node = Node::new(&old);
        let more: usize = done.iter().map(|(_, changed)| changed.more.len()).sum();
        let mut items = Vec::with_capacity(node.count() + more);
        let mut from = 0;
        let mut gone = 0;
        for (slot, changed) in &done {
            if changed.first.is_none() {
                gone += 1;
                continue;
            }
            let end = (slot + 1).saturating_sub(gone);
            items.extend((from..end).map(|i| Item::Kept(node, i)));
            let more = changed.more.iter();
            items.extend(more.map(|(key, child)| Item::New(key, Payload::Child(*child))));
            from = end;
        }
        items.extend((from..node.count()).map(|i| Item::Kept(node, i)));
        self.lay_out(page, &items, level, false)
    }

    /// Merges children that have become thin (invariant 4).
    fn merge_thin(&mut self, parent: PageNumber, mut thin: Vec<PageNumber>) -> Result<()> {
        thin.sort_unstable();
        let limit = percent(self.pages.page_size(), TOO_EMPTY);
        let count = Node::new(self.pages.bytes_mut(parent)?).count();
        for i in (0..count).rev() {
            loop {
                let node = Node::new(self.pages.bytes_mut(parent)?);
                let child = node.child(i).page;
                if i >= node.count() || thin.binary_search(&child.page).is_err() {
                    break;
                }
                let level = node.level().saturating_sub(1);
                let used = node_at(&self.pages.read(&child)?, child.page, level)?.used();
                if used >= limit || !merge_near(self.pages, parent, i)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Lays entries or children out into a private page and as many behind it as they need. All of
    /// them but the last are filled if `packed`, else they get about the same (invariant 3).
    fn lay_out(
        &mut self,
        page: PageNumber,
        items: &[Item<'_>],
        level: u8,
        packed: bool,
    ) -> Result<Changed> {
        let is_branch = level > 0;
        let kind = if is_branch { BRANCH } else { LEAF };
        let room = node::usable_bytes(self.pages.page_size() as usize);
        let density = if packed {
            Density::Dense
        } else {
            Density::Roomy
        };
        let mut left = node::measure(items, is_branch, density);
        let (mut at, mut rest, mut changed) = (page, items, Changed::default());
        while let Some(first) = rest.first() {
            let limit = share(left, room, rest.len(), packed);
            let guess = rest.len().saturating_mul(limit) / left.max(1);
            let count = node::fill_point(rest, limit, is_branch, density, guess).max(1);
            let (part, behind) = rest.split_at(count.min(rest.len()));
            behind.iter().take(count).for_each(Item::warm);
            if changed.first.is_some() {
                if packed && !is_branch {
                    self.pages.finished(at);
                }
                at = self.pages.allocate(kind, level)?;
            }
            let bytes = self.pages.bytes_mut(at)?;
            node::build(bytes, part, density);
            if !is_branch {
                node::set_inserts(bytes, Inserts::ANYHOW, 0);
            }
            let child = Child {
                page: private(at),
                count: part.iter().map(Item::entries).fold(0, u64::saturating_add),
            };
            match changed.first {
                None => changed.first = Some(child),
                Some(_) => {
                    let before = items.get(items.len() - rest.len() - 1);
                    let separator = match before {
                        Some(before) if !is_branch => {
                            node::shortest_separator(&before.key_vec(), &first.key_vec())
                        }
                        _ => first.key_vec(),
                    };
                    changed.more.push((separator, child));
                }
            }
            left = left.saturating_sub(node::measure(part, is_branch, density));
            rest = behind;
        }
        if changed.more.is_empty() {
            return self.remains_of(page, changed.first);
        }
        Ok(changed)
    }

    /// What a page has become that stays one page, or none if nothing is in it.
    fn remains(&mut self, page: PageNumber) -> Result<Changed> {
        let node = Node::new(self.pages.bytes_mut(page)?);
        let count = match node.is_branch() {
            true => node
                .children()
                .fold(0, |sum: u64, c| sum.saturating_add(c.count)),
            false => node.count() as u64,
        };
        let child = Child {
            page: private(page),
            count,
        };
        self.remains_of(page, (count > 0).then_some(child))
    }

    fn remains_of(&mut self, page: PageNumber, child: Option<Child>) -> Result<Changed> {
        if child.is_none() {
            let birth = self.pages.version();
            self.pages.free(page, birth);
            return Ok(Changed::default());
        }
        let limit = percent(self.pages.page_size(), TOO_EMPTY);
        let used = Node::new(self.pages.bytes_mut(page)?).used();
        Ok(Changed {
            first: child,
            more: Vec::new(),
            is_thin: self.removes && used < limit,
        })
    }
}

/// What changes took out of a leaf.
#[derive(Default)]
struct Replaced {
    entries: u64,
    runs: Vec<RunRef>,
}

impl Replaced {
    fn note(&mut self, node: &Node<'_>, slot: usize) {
        self.entries += 1;
        self.runs.extend(node.run(slot));
    }
}

/// The pages that came behind a branch's children: the slot that each gets in the end, its key, and what
/// leads to it.
fn pages_behind(done: &[(usize, Changed)]) -> impl Iterator<Item = (usize, &[u8], Child)> + Clone {
    let mut moved = 0_isize;
    done.iter().flat_map(move |(slot, changed)| {
        let first = slot.saturating_add_signed(moved + 1);
        moved += changed.more.len() as isize - isize::from(changed.first.is_none());
        let more = changed.more.iter().zip(first..);
        more.map(|((key, child), slot)| (slot, key.as_slice(), *child))
    })
}

fn new_item<'c>(change: &Change<'c>) -> Option<Item<'c>> {
    let value = change.value?;
    Some(Item::New(change.key, Payload::Inline(value)))
}

/// Makes one change of a private leaf. False if it has no room; an entry that is replaced has gone
/// then.
fn change_in_place(bytes: &mut [u8], change: &Change<'_>, replaced: &mut Replaced) -> bool {
    let node = Node::new(bytes);
    let found = node.search(change.key);
    let (Ok(slot) | Err(slot)) = found;
    if found.is_ok() {
        replaced.note(&node, slot);
    }
    let payload = change.value.map(Payload::Inline);
    if let (Ok(_), Some(payload)) = (found, &payload)
        && node::overwrite(bytes, slot, payload)
    {
        return true;
    }
    if found.is_ok() {
        node::remove(bytes, slot);
    }
    payload.is_none_or(|payload| node::insert(bytes, slot, change.key, &payload))
}

/// How many leading changes are so, which holds for a leading part of them.
fn leading(changes: &[Change<'_>], is_so: impl Fn(&Change<'_>) -> bool) -> usize {
    // Mostly few, of many.
    let mut end = 1;
    while changes.get(end).is_some_and(&is_so) {
        end *= 2;
    }
    let start = end / 2;
    let part = changes
        .get(start..end.min(changes.len()))
        .unwrap_or_default();
    start + part.partition_point(is_so)
}

/// How many bytes the next page gets of `left` that are to go into as few pages as can be.
fn share(left: usize, room: usize, entries: usize, packed: bool) -> usize {
    if packed || left <= room {
        return room;
    }
    // Rounded to the nearest entry, lest the last page gets all that was rounded off.
    let half_entry = left / entries.max(1) / 2;
    room.min(left / left.div_ceil(room) + half_entry)
}
