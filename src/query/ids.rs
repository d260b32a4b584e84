//! Ids of candidates: many short byte strings, in one allocation.
//!
//! # Invariants
//!
//! 1. `ends` are ascending places in `bytes`: id `i` lies from the end of the one before to its own.

use std::cmp::Ordering;
use std::ops::Range;

/// Ids, in the order in which they were put here.
#[derive(Debug, Default, Clone)]
pub(super) struct IdList {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// So many leading bytes of an id are compared as one number: an integer as a whole, and all but
/// one byte of a UUID.
const HEAD_BYTES: usize = 16;

impl IdList {
    /// With room for so many UUIDs or numbers.
    pub(super) fn with_room(ids: usize) -> Self {
        IdList {
            bytes: Vec::with_capacity((HEAD_BYTES + 1) * ids),
            ends: Vec::with_capacity(ids),
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn push(&mut self, id: &[u8]) {
        self.bytes.extend_from_slice(id);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn append(&mut self, other: &IdList) {
        let shift = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| shift + end));
    }

    fn get(&self, i: usize) -> &[u8] {
        let start = match i.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or_default(),
            None => 0,
        };
        let end = self.ends.get(i).copied().unwrap_or_default();
        self.bytes.get(start..end).unwrap_or_default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.slice(0..self.len())
    }

    /// Those with these positions.
    pub(super) fn slice(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        range.map(|i| self.get(i))
    }

    /// Puts them in order, each once.
    pub(super) fn sort(&mut self) {
        // Those of one value of an index are in order already.
        if (1..self.len()).all(|i| self.get(i - 1) < self.get(i)) {
            return;
        }
        let mut order: Vec<(u128, usize)> =
            { 0..self.len() }.map(|i| (head(self.get(i)), i)).collect();
        order.sort_unstable_by(|a, b| match a.0.cmp(&b.0) {
            Ordering::Equal => self.get(a.1).cmp(self.get(b.1)),
            unequal => unequal,
        });
        let mut sorted = IdList {
            bytes: Vec::with_capacity(self.bytes.len()),
            ends: Vec::with_capacity(self.ends.len()),
        };
        for (_, i) in order {
            let id = self.get(i);
            if sorted.len() == 0 || sorted.get(sorted.len() - 1) != id {
                sorted.push(id);
            }
        }
        *self = sorted;
    }

    /// Those that are in both lists, which are in order.
    pub(super) fn in_both(&self, other: &IdList) -> IdList {
        let mut both = IdList::default();
        let (mut own, mut theirs) = (0, 0);
        while own < self.len() && theirs < other.len() {
            match self.get(own).cmp(other.get(theirs)) {
                Ordering::Less => own += 1,
                Ordering::Greater => theirs += 1,
                Ordering::Equal => {
                    both.push(self.get(own));
                    own += 1;
                    theirs += 1;
                }
            }
        }
        both
    }
}

/// The first bytes as a number that orders as they do; missing ones count as 0.
fn head(id: &[u8]) -> u128 {
    match id.first_chunk::<HEAD_BYTES>() {
        Some(chunk) => u128::from_be_bytes(*chunk),
        None => {
            let mut head = [0; HEAD_BYTES];
            head.iter_mut().zip(id).for_each(|(to, from)| *to = *from);
            u128::from_be_bytes(head)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn list(ids: &[Vec<u8>]) -> IdList {
        let mut list = IdList::default();
        ids.iter().for_each(|id| list.push(id));
        list
    }

    fn sorted(ids: &[Vec<u8>]) -> IdList {
        let mut list = list(ids);
        list.sort();
        list
    }

    /// Ids that are often equal, or beginnings of one another, up to behind their heads.
    fn ids() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let id = (0..20usize, prop::collection::vec(0..3u8, 0..4));
        let id = id.prop_map(|(zeroes, rest)| [vec![0; zeroes], rest].concat());
        prop::collection::vec(id, 0..60)
    }

    proptest! {
        #[test]
        fn sorting_and_meeting_are_those_of_sets(a in ids(), b in ids()) {
            let sets = [&a, &b].map(|ids| ids.iter().cloned().collect::<BTreeSet<_>>());
            let lists = [sorted(&a), sorted(&b)];
            for (list, set) in lists.iter().zip(&sets) {
                prop_assert!(list.iter().eq(set.iter()));
            }
            let both = lists[0].in_both(&lists[1]);
            prop_assert!(both.iter().eq(sets[0].intersection(&sets[1])));
            let mut all = lists[0].clone();
            all.append(&lists[1]);
            all.sort();
            prop_assert!(all.iter().eq(sets[0].union(&sets[1])));
        }
    }
}
