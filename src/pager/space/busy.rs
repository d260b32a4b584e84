//! Which pages of a chunk cannot be allocated, with the first free one found in a few looks.
//!
//! Each small commit frees the branches that it copies, near the front of the file, and takes places for new ones:
//! looking word by word through all that is full behind them took a twentieth of an unsynced commit.
//!
//! # Invariants
//!
//! 1. A bit of `full` is set where the word of `words` has no free page.
//! 2. `count` is the number of bits that are set in `words`.

use super::count_ones;

/// A bitmap of one chunk, and a bitmap of its full words. Empty until its chunk is loaded.
#[derive(Debug, Default)]
pub(super) struct Busy {
    words: Box<[u64]>,
    full: Box<[u64]>,
    count: u32,
}

impl Busy {
    pub(super) fn new(words: impl Into<Box<[u64]>>) -> Self {
        let words: Box<[u64]> = words.into();
        let full = words.chunks(64).map(|group| {
            let full = group.iter().enumerate();
            full.fold(0, |bits, (i, word)| {
                bits | u64::from(*word == u64::MAX) << i
            })
        });
        Busy {
            full: full.collect(),
            count: count_ones(&words),
            words,
        }
    }

    /// How many pages are busy.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// 64 pages; `None` behind the last, and in a chunk that is not loaded.
    pub(super) fn word(&self, word: usize) -> Option<u64> {
        self.words.get(word).copied()
    }

    /// Makes the page busy that `mask` has in the word. Says whether it was free.
    pub(super) fn set(&mut self, word: usize, mask: u64) -> bool {
        let Some(value) = self.words.get_mut(word) else {
            return false;
        };
        let was_free = *value & mask == 0;
        *value |= mask;
        self.count += u32::from(was_free);
        if *value == u64::MAX
            && let Some(full) = self.full.get_mut(word / 64)
        {
            *full |= 1 << (word % 64);
        }
        was_free
    }

    /// Makes the page free that `mask` has in the word. Says whether it was busy.
    pub(super) fn clear(&mut self, word: usize, mask: u64) -> bool {
        let Some(value) = self.words.get_mut(word) else {
            return false;
        };
        let was_busy = *value & mask != 0;
        *value &= !mask;
        self.count -= u32::from(was_busy);
        if let Some(full) = self.full.get_mut(word / 64) {
            *full &= !(1 << (word % 64));
        }
        was_busy
    }

    /// The first free page in the word `from` or behind it.
    pub(super) fn first_free(&self, from: usize) -> Option<u32> {
        let before = (1 << (from % 64)) - 1;
        let masks = std::iter::once(before).chain(std::iter::repeat(0));
        let groups = self.full.iter().enumerate().skip(from / 64).zip(masks);
        let mut free = groups.map(|((i, full), mask)| (i, !(full | mask)));
        let (group, free) = free.find(|(_, free)| *free != 0)?;
        let word = group * 64 + free.trailing_zeros() as usize;
        let page = word * 64 + self.words.get(word)?.trailing_ones() as usize;
        u32::try_from(page).ok()
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Invariants 1 and 2, against a plain set.
        #[test]
        fn it_says_what_a_set_says(
            words in 1usize..200,
            full in any::<bool>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..400),
        ) {
            let start = if full { u64::MAX } else { 0 };
            let mut busy = Busy::new(vec![start; words]);
            let mut model = vec![full; words * 64];
            for (index, set) in changes {
                let page = index.index(model.len());
                let (word, bit) = (page / 64, 1 << (page % 64));
                let was = std::mem::replace(&mut model[page], set);
                match set {
                    true => prop_assert_eq!(busy.set(word, bit), !was),
                    false => prop_assert_eq!(busy.clear(word, bit), was),
                }
                let free = (word * 64..model.len()).find(|page| !model[*page]);
                prop_assert_eq!(busy.first_free(word), free.map(|page| page as u32));
                prop_assert_eq!(busy.count() as usize, model.iter().filter(|busy| **busy).count());
            }
            let again = Busy::new(busy.words.clone());
            prop_assert_eq!(&again.full, &busy.full);
            prop_assert_eq!(busy.word(words), None);
        }
    }
}
