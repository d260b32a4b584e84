//! From which page on a search for several free pages side by side can find them.
//!
//! A file that has lived for long can have gaps of a page or two everywhere. In 1 GiB of such a file each value of three
//! pages took 3.8 ms, in which the same gaps were looked through from the front, and 35 µs where there are none.
//!
//! # Invariants
//!
//! 1. No free pages side by side, as many as an entry's length, begin below its floor.
//! 2. Lengths ascend, and floors do: what is not there for a length is not there for a longer one.

use crate::format::PageNumber;

/// So many lengths are known at a time. Most programs store values of a few lengths; of others the floor of the next
/// shorter one is known.
const MOST: usize = 32;

/// Lengths that were looked for, each with its floor.
#[derive(Debug, Default)]
pub(super) struct Floors(Vec<(u32, PageNumber)>);

impl Floors {
    /// Where a search for so many pages begins.
    pub(super) fn of(&self, pages: u32) -> PageNumber {
        let fitting = self.0.partition_point(|(length, _)| *length <= pages);
        let longest = fitting.checked_sub(1).and_then(|last| self.0.get(last));
        longest.map_or(0, |(_, floor)| *floor)
    }

    /// A search for so many pages found that none begin below `floor`.
    pub(super) fn raise(&mut self, pages: u32, floor: PageNumber) {
        if self.of(pages) >= floor {
            return;
        }
        let begin = self.0.partition_point(|(length, _)| *length < pages);
        let longer = self.0.iter().skip(begin);
        let told = longer.take_while(|(_, known)| *known <= floor).count();
        self.0.splice(begin..begin + told, [(pages, floor)]);
        if self.0.len() > MOST {
            self.forget_one();
        }
    }

    /// Forgets the length whose floor is least above that of the one before it.
    fn forget_one(&mut self) {
        let before = std::iter::once(0).chain(self.0.iter().map(|(_, floor)| *floor));
        let gains = self.0.iter().zip(before);
        let gains = gains.map(|((_, floor), before)| floor.saturating_sub(before));
        let least = gains.enumerate().min_by_key(|(_, gain)| *gain);
        if let Some((place, _)) = least {
            self.0.remove(place);
        }
    }

    /// Pages came free: so many from `first` on, and so many beside them, before and behind, were free already. `None`: many,
    /// or it is not known how many.
    pub(super) fn lower(
        &mut self,
        first: PageNumber,
        pages: u32,
        (before, behind): (Option<u32>, Option<u32>),
    ) {
        let beside = before.zip(behind).map(|(a, b)| a.saturating_add(b));
        let together = beside.map_or(u32::MAX, |beside| pages.saturating_add(beside));
        // Where as many as are looked for were free in front of them already, the floor is not above those.
        let longest = self.0.last().map_or(0, |(length, _)| *length);
        let begin = first.saturating_sub(before.unwrap_or(longest));
        let shorter = self.0.iter_mut();
        for (_, floor) in shorter.take_while(|(length, _)| *length <= together) {
            *floor = begin.min(*floor);
        }
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGES: u32 = 400;

    /// Where the first of so many free pages begin.
    fn first_of(free: &[bool], pages: u32) -> u32 {
        let windows = free.windows(pages as usize).zip(0..);
        let mut found = windows.filter(|(window, _)| window.iter().all(|free| *free));
        found.next().map_or(PAGES, |(_, first)| first)
    }

    proptest! {
        /// Both invariants, whatever is taken and given back; what is known of the pages beside is exact, or nothing.
        #[test]
        fn nothing_that_fits_begins_below_a_floor(
            changes in prop::collection::vec((0..PAGES, 1..70u32, 0..4u8), 1..300),
        ) {
            let mut free = vec![false; PAGES as usize];
            let mut floors = Floors::default();
            for (first, pages, kind) in changes {
                if kind < 2 {
                    let found = first_of(&free, pages);
                    prop_assert!(floors.of(pages) <= found);
                    floors.raise(pages, found);
                    free.iter_mut().skip(found as usize).take(pages as usize).for_each(|page| *page = false);
                    continue;
                }
                let end = PAGES.min(first + pages.min(9));
                if free[first as usize..end as usize].contains(&true) {
                    continue;
                }
                let before = free[..first as usize].iter().rev().take_while(|free| **free).count() as u32;
                let behind = free[end as usize..].iter().take_while(|free| **free).count() as u32;
                let told = |count: u32| (kind == 2 && count < 64).then_some(count);
                free[first as usize..end as usize].fill(true);
                floors.lower(first, end - first, (told(before), told(behind)));
                prop_assert!(floors.0.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
                prop_assert!(floors.0.len() <= MOST);
                for (length, floor) in &floors.0 {
                    prop_assert!(*floor <= first_of(&free, *length), "{length}");
                }
            }
        }
    }
}
