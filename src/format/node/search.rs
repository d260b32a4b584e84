//! Searching a node: by the heads first, then by the rests of those that are equal. It relies on the
//! order of the slots (invariant 1), on the first child having no key (invariant 2) and on the prefix
//! (invariant 3). Where a page breaks them, the answer means nothing, but there is one (invariant 8).

use std::cmp::Ordering;
use std::hint::select_unpredictable;
use std::ops::Range;

use super::slot::{head_of, slot_head};
use super::{HEAD_BYTES, Node};

/// How many leading slots satisfy `goes_left`, which holds for a leading part of them. The loop
/// has no branch that depends on the data, so nothing is mispredicted.
#[inline]
fn partition<const N: usize>(slots: &[[u8; N]], goes_left: impl Fn(u32) -> bool) -> usize {
    let mut base = 0;
    let mut size = slots.len();
    while size > 1 {
        let half = size / 2;
        let left = slots
            .get(base + half)
            .is_some_and(|slot| goes_left(slot_head(slot)));
        base = select_unpredictable(left, base + half, base);
        size -= half;
    }
    base + usize::from(
        slots
            .get(base)
            .is_some_and(|slot| goes_left(slot_head(slot))),
    )
}

impl Node<'_> {
    /// How many leading slots have heads that satisfy `goes_left`.
    #[inline]
    fn partition(&self, goes_left: impl Fn(u32) -> bool) -> usize {
        match self.lengths.is_uniform() {
            false => partition(self.full_slots(), goes_left),
            true => partition(self.heads(), goes_left),
        }
    }

    #[inline]
    fn head(&self, i: usize) -> Option<u32> {
        match self.lengths.is_uniform() {
            false => self.full_slots().get(i).map(slot_head),
            true => self.heads().get(i).map(slot_head),
        }
    }

    /// Compares the suffix in slot `i` with one that has the same head.
    #[inline]
    fn settle(&self, i: usize, suffix: &[u8]) -> Ordering {
        let slot = self.slot(i);
        if slot.length < HEAD_BYTES || suffix.len() < HEAD_BYTES {
            // The shorter one is a prefix of the other, which goes on with zeroes.
            return slot.length.cmp(&suffix.len());
        }
        self.rest(&slot)
            .cmp(suffix.get(HEAD_BYTES..).unwrap_or_default())
    }

    /// Among slots `range`, which all have the suffix's head: where it is or would be.
    #[cold]
    fn search_ties(&self, range: Range<usize>, suffix: &[u8]) -> Result<usize, usize> {
        let Range { mut start, mut end } = range;
        while start < end {
            let middle = start + (end - start) / 2;
            match self.settle(middle, suffix) {
                Ordering::Less => start = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => end = middle,
            }
        }
        Err(start)
    }

    /// In a leaf: the slot of `key`, or the one where it belongs.
    #[inline]
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(suffix) = key.strip_prefix(self.prefix) else {
            return Err(self.beside(key));
        };
        let head = head_of(suffix);
        self.search_ties_from(self.partition(|other| other < head), suffix, head)
    }

    /// Where a key belongs that does not share the prefix.
    #[inline]
    fn beside(&self, key: &[u8]) -> usize {
        if key < self.prefix { 0 } else { self.count() }
    }

    /// In a leaf: the lowest slot that `key` can be in.
    #[inline]
    pub(crate) fn lowest(&self, key: &[u8]) -> usize {
        let Some(suffix) = key.strip_prefix(self.prefix) else {
            return self.beside(key);
        };
        let head = head_of(suffix);
        self.partition(|other| other < head)
    }

    /// Like [`search`](Self::search), from what [`lowest`](Self::lowest) said of the key.
    #[inline]
    pub(crate) fn search_from(&self, lowest: usize, key: &[u8]) -> Result<usize, usize> {
        match key.strip_prefix(self.prefix) {
            Some(suffix) => self.search_ties_from(lowest, suffix, head_of(suffix)),
            None => Err(lowest),
        }
    }

    #[inline]
    fn search_ties_from(&self, low: usize, suffix: &[u8], head: u32) -> Result<usize, usize> {
        let ties = |i: usize| self.head(i) == Some(head);
        if !ties(low) {
            return Err(low);
        }
        match self.settle(low, suffix) {
            Ordering::Equal => Ok(low),
            Ordering::Greater => Err(low),
            Ordering::Less if !ties(low + 1) => Err(low + 1),
            Ordering::Less => {
                let end = self.partition(|other| other <= head);
                self.search_ties(low + 1..end, suffix)
            }
        }
    }

    /// In a branch: the child whose keys include `key`.
    #[inline]
    pub(crate) fn child_index(&self, key: &[u8]) -> usize {
        let slots = self.full_slots();
        let keyed = slots.get(1..).unwrap_or_default();
        let Some(suffix) = key.strip_prefix(self.prefix) else {
            return if key < self.prefix { 0 } else { keyed.len() };
        };
        let head = head_of(suffix);
        // Slot `i` is `keyed[i - 1]`, so a number of keys passed is a child's index.
        let index = partition(keyed, |other| other <= head);
        let ties = |i: usize| i > 0 && { slots.get(i) }.is_some_and(|slot| slot_head(slot) == head);
        if !ties(index) || self.settle(index, suffix) != Ordering::Greater {
            return index;
        }
        if !ties(index - 1) {
            return index - 1;
        }
        let start = 1 + partition(keyed, |other| other < head);
        match self.search_ties(start..index, suffix) {
            Ok(found) => found,
            Err(after) => after - 1,
        }
    }

    /// Like [`child_index`](Self::child_index), which is probably `near`: one look at each end of it,
    /// where the heads alone tell.
    #[inline]
    pub(crate) fn child_index_near(&self, key: &[u8], near: usize) -> usize {
        let Some(suffix) = key.strip_prefix(self.prefix) else {
            return self.child_index(key);
        };
        let head = head_of(suffix);
        let slots = self.full_slots();
        let is_above = near == 0 || { slots.get(near) }.is_some_and(|s| slot_head(s) < head);
        let is_below = { slots.get(near + 1) }.is_none_or(|s| head < slot_head(s));
        if is_above && is_below {
            return near;
        }
        self.child_index(key)
    }
}
