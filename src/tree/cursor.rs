//! Walking over the entries in order, in both directions.
//!
//! # Invariants
//!
//! 1. A cursor is on an entry inside its bounds, or on nothing. Stepping off either end leaves it
//!    on nothing; only seeking puts it on an entry again.
//! 2. The bounds are compared with keys once a leaf, when it is entered; within the leaf, steps
//!    compare slot numbers.
//! 3. Only the current leaf is held in place; branches are read again when the walk passes from one
//!    leaf to the next. A step within a leaf reads nothing and allocates nothing.
//! 4. A walk in one direction ends: the leaves that it enters have an entry at least, and no more together than the tree has.
//!    (Branches that share their children would keep it for ever.)

use std::ops::{Bound, Deref};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Result;
use crate::format::node::{self, Node, ValueAt};
use crate::format::{Fault, PageNumber, PageRef, RunRef, TreeRoot, page};

use super::count::{child_of_nth, wrong_count};
use super::pages::ReadPages;
use super::range::slots_between;
use super::upcoming::{REACH, Walk};
use super::{branch_at, node_at};

/// So many entries ahead of a walk, cells are asked for: each may lie anywhere in its page. (Without
/// that, seeks of 10 entries of a million took 1.4 times as long, and a scan of all 1.25 times. With 6
/// or 10 a scan takes longer than with 3.)
const AHEAD: usize = 3;

/// Whoever seeks an entry that near to the end of its leaf is likely to come to the next leaf.
const NEAR_END: usize = 10;

/// So many long values are asked of the device at once.
const RUNS_AHEAD: usize = 16;
/// So far ahead of a walk the first lines of long values are asked of the memory, and twice as far what tells where they are.
const RUNS_WARM: usize = 4;
const NONE_ASKED: usize = usize::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// A branch on the way to the current leaf.
struct Step {
    page: PageRef,
    slot: usize,
    count: usize,
}

struct Leaf<B> {
    bytes: B,
    page: PageNumber,
    count: usize,
    /// The slots inside the bounds.
    start: usize,
    end: usize,
    /// When it was entered.
    was_far: bool,
    /// Where the long values begin that were not asked for yet. (Atomic, as values are looked at through a shared
    /// reference.)
    unasked: AtomicUsize,
}

/// A value: in the leaf, or read from its overflow run.
pub(crate) enum ValueBytes<'c, B> {
    Inline(&'c [u8]),
    Run(B),
}

impl<B: Deref<Target = [u8]>> Deref for ValueBytes<'_, B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            ValueBytes::Inline(value) => value,
            ValueBytes::Run(value) => value,
        }
    }
}

/// A place in a tree.
pub(crate) struct Cursor<'p, P: ReadPages> {
    pages: &'p P,
    root: TreeRoot,
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    /// From the root down; the level of step `i` is `root.level - i`.
    path: Vec<Step>,
    leaf: Option<Leaf<P::Bytes<'p>>>,
    slot: usize,
    /// The direction of the walk from leaf to leaf, and the entries of those entered in it.
    walk: (Direction, u64),
    /// What was asked for ahead of it.
    ahead: Walk,
    key: Vec<u8>,
    /// Whether `key` holds the key of `slot`.
    key_is_current: bool,
}

impl<P: ReadPages> std::fmt::Debug for Cursor<'_, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Cursor");
        if let Some(leaf) = &self.leaf {
            shown.field("page", &leaf.page).field("slot", &self.slot);
        }
        shown.finish_non_exhaustive()
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

impl<'p, P: ReadPages> Cursor<'p, P> {
    /// A cursor on nothing.
    pub(crate) fn new(pages: &'p P, root: &TreeRoot) -> Self {
        Cursor {
            pages,
            root: *root,
            lower: Bound::Unbounded,
            upper: Bound::Unbounded,
            path: Vec::with_capacity(usize::from(root.level)),
            leaf: None,
            slot: 0,
            walk: (Direction::Forward, 0),
            ahead: Walk::default(),
            key: Vec::new(),
            key_is_current: false,
        }
    }

    /// A cursor that sees only the entries between two bounds. It is on nothing.
    pub(crate) fn between(
        pages: &'p P,
        root: &TreeRoot,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Self {
        let mut cursor = Cursor::new(pages, root);
        cursor.lower = lower.map(<[u8]>::to_vec);
        cursor.upper = upper.map(<[u8]>::to_vec);
        cursor
    }

    /// To the first entry inside the bounds.
    pub(crate) fn first(&mut self) -> Result<bool> {
        let lower = std::mem::replace(&mut self.lower, Bound::Unbounded);
        let descended = match &lower {
            Bound::Included(key) | Bound::Excluded(key) => self.descend_to(key),
            Bound::Unbounded => self.descend_root(|_| 0),
        };
        self.lower = lower;
        if !descended? {
            return Ok(false);
        }
        self.enter_bounds();
        self.slot = 0;
        let is_there = self.settle_forward()?;
        self.ask_behind();
        self.check_inside(is_there)
    }

    /// Whoever goes on behind the last key that it saw must not see it again, and again.
    fn check_inside(&mut self, is_there: bool) -> Result<bool> {
        if !is_there {
            return Ok(false);
        }
        self.assemble_key();
        let key = &self.key[..];
        let is_above = match &self.lower {
            Bound::Included(lower) => key >= &lower[..],
            Bound::Excluded(lower) => key > &lower[..],
            Bound::Unbounded => true,
        };
        let is_below = match &self.upper {
            Bound::Included(upper) => key <= &upper[..],
            Bound::Excluded(upper) => key < &upper[..],
            Bound::Unbounded => true,
        };
        if is_above && is_below {
            return Ok(true);
        }
        let page = self.leaf.take().map_or(0, |leaf| leaf.page);
        let fault = Fault::new("the keys of a tree are not in order", 0, 0, 0);
        Err(fault.in_page(page, self.pages.page_size()))
    }

    /// To the last entry inside the bounds.
    pub(crate) fn last(&mut self) -> Result<bool> {
        let upper = std::mem::replace(&mut self.upper, Bound::Unbounded);
        let descended = match &upper {
            Bound::Included(key) | Bound::Excluded(key) => self.descend_to(key),
            Bound::Unbounded => self.descend_root(|node| node.count().saturating_sub(1)),
        };
        self.upper = upper;
        if !descended? {
            return Ok(false);
        }
        self.enter_bounds();
        self.slot = usize::MAX;
        let is_there = self.settle_backward()?;
        self.ask_before();
        self.check_inside(is_there)
    }

    /// To the first entry whose key is `key` or greater.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<bool> {
        if let Bound::Included(low) | Bound::Excluded(low) = &self.lower
            && key < low.as_slice()
        {
            return self.first();
        }
        if !self.descend_to(key)? {
            return Ok(false);
        }
        self.slot = self.search(key).unwrap_or_else(|i| i);
        let is_there = self.settle_forward()?;
        self.ask_behind();
        Ok(is_there)
    }

    /// Asks for what a walk forward from here comes to first, as far as it is inside the bounds.
    fn ask_behind(&self) {
        let Some(leaf) = &self.leaf else {
            return;
        };
        let node = Node::new(&leaf.bytes);
        { self.slot..leaf.end.min(self.slot + AHEAD + 1) }.for_each(|slot| node.warm_cell(slot));
        if self.slot + NEAR_END > leaf.count
            && leaf.end == leaf.count
            && let Some(step) = self.path.last()
        {
            self.pages.ask_for_leaf(step.page.page, step.slot + 1);
        }
    }

    /// The same for a walk backward. (Not for [`seek_for_prev`](Self::seek_for_prev), of which many want one entry only: to
    /// find that took a tenth longer, and ten were found no sooner than with what [`prev`](Self::prev) asks for.)
    fn ask_before(&self) {
        let Some(leaf) = &self.leaf else {
            return;
        };
        let node = Node::new(&leaf.bytes);
        let from = leaf.start.max(self.slot.saturating_sub(AHEAD));
        { from..=self.slot }.for_each(|slot| node.warm_cell(slot));
        if self.slot < NEAR_END
            && leaf.start == 0
            && let Some(step) = self.path.last()
            && let Some(before) = step.slot.checked_sub(1)
        {
            self.pages.ask_for_leaf(step.page.page, before);
        }
    }

    /// To the last entry whose key is less than `key`, or equal to it if `or_equal`.
    pub(crate) fn seek_for_prev(&mut self, key: &[u8], or_equal: bool) -> Result<bool> {
        if let Bound::Included(high) | Bound::Excluded(high) = &self.upper
            && key > high.as_slice()
        {
            return self.last();
        }
        if !self.descend_to(key)? {
            return Ok(false);
        }
        // One past the entry that is wanted.
        self.slot = self
            .search(key)
            .map_or_else(|i| i, |i| i + usize::from(or_equal));
        self.settle_backward()
    }

    /// To the entry of the whole tree that `n` others come before, if it is inside the bounds.
    pub(crate) fn seek_nth(&mut self, n: u64) -> Result<bool> {
        let mut left = n;
        self.leaf = None;
        self.key_is_current = false;
        if n >= self.root.count {
            return Ok(false);
        }
        let mut is_broken = false;
        let descended = self.descend_root(|node| match child_of_nth(node, left) {
            Some((i, below)) => {
                left = below;
                i
            }
            None => {
                is_broken = true;
                0
            }
        })?;
        let Some(leaf) = self.leaf.as_ref().filter(|_| descended) else {
            return Ok(false);
        };
        if is_broken || left >= leaf.count as u64 {
            let page = PageRef {
                page: leaf.page,
                checksum: 0,
            };
            return Err(wrong_count(&leaf.bytes, &page, left));
        }
        self.slot = left as usize;
        let is_inside = (leaf.start..leaf.end).contains(&self.slot);
        if !is_inside {
            self.leaf = None;
        }
        Ok(is_inside)
    }

    /// To the next entry. False, and on nothing, at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<bool> {
        let Some(leaf) = &self.leaf else {
            return Ok(false);
        };
        self.slot += 1;
        self.key_is_current = false;
        if self.slot < leaf.end {
            Node::new(&leaf.bytes).warm_cell(self.slot + AHEAD);
            return Ok(true);
        }
        self.settle_forward()
    }

    /// To the previous entry. False, and on nothing, at the beginning.
    #[inline]
    pub(crate) fn prev(&mut self) -> Result<bool> {
        let Some(leaf) = &self.leaf else {
            return Ok(false);
        };
        self.key_is_current = false;
        if self.slot > leaf.start {
            self.slot -= 1;
            // Of further leaves the bytes are asked for as a whole: there this would only take time (a twentieth of all).
            if self.walk.1 == 0 {
                Node::new(&leaf.bytes).warm_cell(self.slot.wrapping_sub(AHEAD));
            }
            return Ok(true);
        }
        self.settle_backward()
    }

    /// The key that the cursor is on; empty if it is on nothing.
    #[inline]
    pub(crate) fn key(&mut self) -> &[u8] {
        self.assemble_key();
        &self.key
    }

    #[inline]
    fn assemble_key(&mut self) {
        if self.key_is_current {
            return;
        }
        match &self.leaf {
            Some(leaf) => Node::new(&leaf.bytes).key(self.slot, &mut self.key),
            None => self.key.clear(),
        }
        self.key_is_current = true;
    }

    /// The value that the cursor is on; empty if it is on nothing.
    #[inline]
    pub(crate) fn value(&self) -> Result<ValueBytes<'_, P::Bytes<'p>>> {
        let Some(leaf) = &self.leaf else {
            return Ok(ValueBytes::Inline(&[]));
        };
        match Node::new(&leaf.bytes).value(self.slot) {
            ValueAt::Inline(range) => Ok(ValueBytes::Inline(
                leaf.bytes.get(range).unwrap_or_default(),
            )),
            ValueAt::Run(run) => {
                self.fetch_runs(leaf, &run);
                self.warm_runs(leaf);
                self.pages.read_run(&run).map(ValueBytes::Run)
            }
        }
    }

    /// Has the device begin with the long values that come next, in a walk that has come from another leaf: who reads
    /// one here may want no other.
    fn fetch_runs(&self, leaf: &Leaf<P::Bytes<'p>>, run: &RunRef) {
        if !self.ahead.is_on() || !self.pages.is_far(run.first) {
            return;
        }
        let (slot, unasked) = (self.slot, leaf.unasked.load(Ordering::Relaxed));
        let node = Node::new(&leaf.bytes);
        if self.walk.0 == Direction::Forward && (slot >= unasked || unasked == NONE_ASKED) {
            let end = leaf.end.min(slot.saturating_add(RUNS_AHEAD));
            leaf.unasked.store(end, Ordering::Relaxed);
            self.pages
                .fetch_runs((slot..end).filter_map(|i| node.run(i)));
        } else if self.walk.0 == Direction::Backward && slot < unasked {
            let start = leaf.start.max((slot + 1).saturating_sub(RUNS_AHEAD));
            leaf.unasked.store(start, Ordering::Relaxed);
            self.pages
                .fetch_runs((start..=slot).rev().filter_map(|i| node.run(i)));
        }
    }

    /// Asks the memory for the long values that come next, in such a walk.
    fn warm_runs(&self, leaf: &Leaf<P::Bytes<'p>>) {
        if !self.ahead.is_on() {
            return;
        }
        let node = Node::new(&leaf.bytes);
        let ahead = |distance: usize| {
            let slot = match self.walk.0 {
                Direction::Forward => self.slot.checked_add(distance),
                Direction::Backward => self.slot.checked_sub(distance),
            };
            let slot = slot.filter(|slot| (leaf.start..leaf.end).contains(slot));
            slot.and_then(|slot| node.run(slot))
        };
        if let Some(run) = ahead(2 * RUNS_WARM) {
            self.pages.ask_for_run(&run);
        }
        if let Some(run) = ahead(RUNS_WARM) {
            self.pages.warm_run(&run);
        }
    }

    /// Where the value here is, if it is in an overflow run.
    pub(crate) fn run(&self) -> Option<RunRef> {
        let leaf = self.leaf.as_ref()?;
        match Node::new(&leaf.bytes).value(self.slot) {
            ValueAt::Inline(_) => None,
            ValueAt::Run(run) => Some(run),
        }
    }

    /// Key and value at once.
    #[inline]
    pub(crate) fn entry(&mut self) -> Result<(&[u8], ValueBytes<'_, P::Bytes<'p>>)> {
        self.assemble_key();
        Ok((&self.key, self.value()?))
    }

    fn search(&self, key: &[u8]) -> Result<usize, usize> {
        match &self.leaf {
            Some(leaf) => Node::new(&leaf.bytes).search(key),
            None => Err(0),
        }
    }

    fn descend_to(&mut self, key: &[u8]) -> Result<bool> {
        self.descend_root(|node| node.child_index(key))
    }

    fn descend_root(&mut self, pick: impl FnMut(&Node<'_>) -> usize) -> Result<bool> {
        self.path.clear();
        self.leaf = None;
        self.walk.1 = 0;
        self.ahead = Walk::default();
        self.key_is_current = false;
        if self.root.is_empty() {
            return Ok(false);
        }
        let TreeRoot { root, level, .. } = self.root;
        let pages = self.pages;
        pages.together(|| self.descend(root, level, pick))?;
        Ok(true)
    }

    /// From a page down to a leaf, which becomes the current one.
    fn descend(
        &mut self,
        mut page: PageRef,
        level: u8,
        mut pick: impl FnMut(&Node<'_>) -> usize,
    ) -> Result<()> {
        for level in (1..=level).rev() {
            let (slot, count, child) = self.pages.look(&page, |bytes| {
                let node = branch_at(bytes, page.page, level)?;
                let slot = pick(&node);
                if level == 1 {
                    self.pages.ask_for_leaf(page.page, slot);
                }
                Result::Ok((slot, node.count(), node.child(slot).page))
            })??;
            self.path.push(Step { page, slot, count });
            page = child;
        }
        let was_far = self.pages.is_far(page.page);
        let bytes = self.pages.read(&page)?;
        node::warm(&bytes);
        if let Some(step) = self.path.last() {
            self.pages.note_leaf(step.page.page, step.slot, &bytes);
        }
        let count = node_at(&bytes, page.page, 0)?.count();
        self.leaf = Some(Leaf {
            bytes,
            page: page.page,
            count,
            start: 0,
            end: count,
            was_far,
            unasked: AtomicUsize::new(NONE_ASKED),
        });
        self.enter_bounds();
        Ok(())
    }

    /// Finds out which slots of the current leaf are inside the bounds.
    fn enter_bounds(&mut self) {
        if let Some(leaf) = &mut self.leaf {
            let node = Node::new(&leaf.bytes);
            (leaf.start, leaf.end) =
                slots_between(&node, as_slice(&self.lower), as_slice(&self.upper));
        }
    }

    /// From a slot that may be past the last one: to it, or to the next leaf's first, or off.
    fn settle_forward(&mut self) -> Result<bool> {
        self.key_is_current = false;
        loop {
            let Some(leaf) = &self.leaf else {
                return Ok(false);
            };
            self.slot = self.slot.max(leaf.start);
            if self.slot < leaf.end {
                return Ok(true);
            }
            let at_bound = leaf.end < leaf.count;
            self.leaf = None;
            let pages = self.pages;
            if at_bound || !pages.together(|| self.next_leaf())? {
                return Ok(false);
            }
            self.slot = 0;
        }
    }

    /// To the entry before the current slot: in this leaf, or the last one before it, or off.
    fn settle_backward(&mut self) -> Result<bool> {
        self.key_is_current = false;
        loop {
            let Some(leaf) = &self.leaf else {
                return Ok(false);
            };
            self.slot = self.slot.min(leaf.end);
            if self.slot > leaf.start {
                self.slot -= 1;
                return Ok(true);
            }
            let at_bound = leaf.start > 0;
            self.leaf = None;
            let pages = self.pages;
            if at_bound || !pages.together(|| self.previous_leaf())? {
                return Ok(false);
            }
            self.slot = usize::MAX;
        }
    }

    fn next_leaf(&mut self) -> Result<bool> {
        while let Some(step) = self.path.pop() {
            if step.slot + 1 < step.count {
                self.enter_sibling(&step, step.slot + 1, step.slot + 2, |_| 0)?;
                self.count_leaf(Direction::Forward)?;
                return self.fetch_ahead().map(|()| true);
            }
        }
        Ok(false)
    }

    fn previous_leaf(&mut self) -> Result<bool> {
        while let Some(step) = self.path.pop() {
            if step.slot > 0 {
                let after = step.slot.wrapping_sub(2);
                self.enter_sibling(&step, step.slot - 1, after, |node| {
                    node.count().saturating_sub(1)
                })?;
                self.count_leaf(Direction::Backward)?;
                return self.fetch_ahead().map(|()| true);
            }
        }
        Ok(false)
    }

    /// Invariant 4, for the leaf that was entered.
    fn count_leaf(&mut self, direction: Direction) -> Result<()> {
        let Some(leaf) = &self.leaf else {
            return Ok(());
        };
        if self.walk.0 != direction {
            self.walk = (direction, 0);
            self.ahead = Walk::default();
        }
        self.walk.1 = self.walk.1.saturating_add(leaf.count as u64);
        if leaf.count > 0 && self.walk.1 <= self.root.count {
            return Ok(());
        }
        let what = "the leaves of a tree have other entries than it counts";
        let fault = Fault::new(what, page::COUNT, self.root.count, self.walk.1);
        Err(fault.in_page(leaf.page, self.pages.page_size()))
    }

    /// Descends into another child of a branch that was just popped off the path. The one `after`
    /// it, if there is one, will be next: if it is a leaf, its bytes are asked for, unless the walk is short yet. (Without
    /// that, a scan of leaves that lie scattered in memory took 1.3 times as long.)
    fn enter_sibling(
        &mut self,
        step: &Step,
        slot: usize,
        after: usize,
        pick: impl FnMut(&Node<'_>) -> usize,
    ) -> Result<()> {
        let level = self.root.level.saturating_sub(self.path.len() as u8);
        let (child, after) = self.pages.look(&step.page, |bytes| {
            let node = node_at(bytes, step.page.page, level)?;
            let is_wanted = level == 1 && after < step.count && self.ahead.is_on();
            let after = is_wanted.then(|| node.child(after).page);
            Result::Ok((node.child(slot).page, after))
        })??;
        self.path.push(Step {
            page: step.page,
            slot,
            count: step.count,
        });
        self.descend(child, level.saturating_sub(1), pick)?;
        if level > 1 {
            self.ahead.leave_branch();
        }
        if let Some(after) = after {
            self.pages.warm(&after, node::warm_all);
        }
        Ok(())
    }

    /// Has the device begin with leaves that the walk comes to, if it is long enough and they are in no frames.
    fn fetch_ahead(&mut self) -> Result<()> {
        let Some(leaf) = &self.leaf else {
            return Ok(());
        };
        let distances = self.ahead.enter(leaf.was_far);
        let Some(step) = self.path.last().filter(|_| !distances.is_empty()) else {
            return Ok(());
        };
        let mut upcoming = [0; REACH];
        let count = self.pages.look(&step.page, |bytes| {
            let node = branch_at(bytes, step.page.page, 1)?;
            let slots = distances.map_while(|distance| self.slot_ahead(&node, step.slot, distance));
            let found = upcoming.iter_mut().zip(slots);
            let found = found.map(|(page, slot)| *page = node.child(slot).page.page);
            Result::Ok(found.count())
        })??;
        self.pages.fetch(upcoming.into_iter().take(count));
        Ok(())
    }

    /// The slot of a branch that the walk comes to after so many others behind `slot`, if it comes to it.
    fn slot_ahead(&self, node: &Node<'_>, slot: usize, distance: usize) -> Option<usize> {
        match self.walk.0 {
            Direction::Forward => {
                let ahead = slot.checked_add(1 + distance)?;
                let is_inside = match &self.upper {
                    Bound::Included(upper) | Bound::Excluded(upper) => {
                        node.key_vec(ahead) <= *upper
                    }
                    Bound::Unbounded => true,
                };
                (ahead < node.count() && is_inside).then_some(ahead)
            }
            Direction::Backward => {
                let ahead = slot.checked_sub(1 + distance)?;
                let is_inside = match &self.lower {
                    Bound::Included(lower) | Bound::Excluded(lower) => {
                        node.key_vec(ahead + 1) > *lower
                    }
                    Bound::Unbounded => true,
                };
                is_inside.then_some(ahead)
            }
        }
    }
}
