//! Places that a transaction took and gave up again, which serve it before it takes others.
//!
//! # Invariants
//!
//! 1. Neighbours that come together stay together, up to [`LONGEST`], and serve first what needs as many. Where none of
//!    the length are left, a longer piece is cut.
//! 2. A mark is a few numbers, however much waits: what is taken of what was there at the newest mark is noted, so that
//!    each mark can be gone back to.

use crate::format::PageNumber;
use crate::format::page::MIN_PAGE_SIZE;

use super::DIRECT_BYTES;

/// No value that comes here takes more pages.
const LONGEST: u32 = DIRECT_BYTES as u32 / MIN_PAGE_SIZE;

/// Pieces by their length, the shortest first.
#[derive(Debug, Default)]
pub(super) struct Recycled {
    pieces: Vec<Pieces>,
}

/// Those of one length.
#[derive(Debug, Default)]
struct Pieces {
    firsts: Vec<PageNumber>,
    /// So many of them are as they were at the newest mark.
    kept: usize,
    /// What was taken of those, and where it was (invariant 2).
    taken: Vec<(usize, PageNumber)>,
}

/// A state to go back to: for each length, how many there were, and had been taken, and how many were then as they had been
/// at the mark before.
#[derive(Debug, Clone, Default)]
pub(super) struct RecycledMark {
    lengths: Vec<(usize, usize, usize)>,
}

impl Recycled {
    pub(super) fn give(&mut self, mut first: PageNumber, mut pages: u32) {
        while pages > 0 {
            let length = pages.min(LONGEST);
            let at = (length as usize).saturating_sub(1);
            if self.pieces.len() <= at {
                self.pieces.resize_with(at + 1, Pieces::default);
            }
            if let Some(pieces) = self.pieces.get_mut(at) {
                pieces.firsts.push(first);
            }
            first = first.saturating_add(length);
            pages -= length;
        }
    }

    /// So many neighbours, if there are any (invariant 1).
    pub(super) fn take(&mut self, pages: u32) -> Option<PageNumber> {
        let mut longer = (1u32..)
            .zip(&mut self.pieces)
            .skip((pages as usize).saturating_sub(1));
        let (length, first) = longer.find_map(|(length, pieces)| Some((length, pieces.take()?)))?;
        self.give(first.saturating_add(pages), length.saturating_sub(pages));
        Some(first)
    }

    pub(super) fn mark(&mut self) -> RecycledMark {
        let mark = |pieces: &mut Pieces| {
            let before = std::mem::replace(&mut pieces.kept, pieces.firsts.len());
            (pieces.kept, pieces.taken.len(), before)
        };
        RecycledMark {
            lengths: self.pieces.iter_mut().map(mark).collect(),
        }
    }

    /// Puts back what was taken since, and forgets what was given since. Returns what was put back: first page and length.
    pub(super) fn go_back_to(&mut self, mark: &RecycledMark) -> Vec<(PageNumber, u32)> {
        let mut back = Vec::new();
        // Of the lengths that were not there yet there were none.
        let lengths = mark.lengths.iter().copied();
        let lengths = lengths.chain(std::iter::repeat((0, 0, 0)));
        for ((length, pieces), (count, taken, _)) in (1..).zip(&mut self.pieces).zip(lengths) {
            for first in pieces.go_back_to(count, taken) {
                back.push((first, length));
            }
        }
        back
    }

    /// Forgets a mark, and those after it: what is there stays.
    pub(super) fn release(&mut self, mark: &RecycledMark) {
        let lengths = mark.lengths.iter().copied();
        let lengths = lengths.chain(std::iter::repeat((0, 0, 0)));
        for (pieces, (_, taken, kept)) in self.pieces.iter_mut().zip(lengths) {
            pieces.release(taken, kept);
        }
    }

    /// All of them, page by page. There are none afterwards.
    pub(super) fn drain(&mut self) -> Vec<PageNumber> {
        let of_length = |(length, pieces): (u32, Pieces)| {
            let firsts = pieces.firsts.into_iter();
            firsts.flat_map(move |first| first..first.saturating_add(length))
        };
        let pieces = (1..).zip(std::mem::take(&mut self.pieces));
        pieces.flat_map(of_length).collect()
    }
}

impl Pieces {
    fn take(&mut self) -> Option<PageNumber> {
        let first = self.firsts.pop()?;
        let at = self.firsts.len();
        if at < self.kept {
            self.kept = at;
            self.taken.push((at, first));
        }
        Some(first)
    }

    /// As if there had been no mark since so many had been taken, when so many were as at the mark before.
    fn release(&mut self, taken: usize, kept: usize) {
        let since = self.taken.split_off(taken.min(self.taken.len()));
        self.taken
            .extend(since.into_iter().filter(|(at, _)| *at < kept));
        self.kept = self.kept.min(kept);
    }

    /// To when there were so many, and so many had been taken.
    fn go_back_to(&mut self, count: usize, taken: usize) -> Vec<PageNumber> {
        let since = self.taken.split_off(taken.min(self.taken.len()));
        for (at, first) in since.iter().rev() {
            self.firsts.truncate(*at);
            self.firsts.push(*first);
        }
        self.firsts.truncate(count);
        self.kept = count;
        since.into_iter().map(|(_, first)| first).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with lists that are copied at each mark.
    #[test]
    fn a_mark_brings_back_what_was_there() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let all = |recycled: &Recycled| -> Vec<Vec<PageNumber>> {
            let pieces = recycled.pieces.iter();
            let mut firsts: Vec<_> = pieces.map(|pieces| pieces.firsts.clone()).collect();
            while firsts.last().is_some_and(Vec::is_empty) {
                firsts.pop();
            }
            firsts
        };
        for _ in 0..300 {
            let (mut recycled, mut next) = (Recycled::default(), 0);
            let mut marks: Vec<(RecycledMark, Vec<Vec<PageNumber>>)> = Vec::new();
            for _ in 0..200 {
                match random(12) {
                    0 => {
                        let state = all(&recycled);
                        marks.push((recycled.mark(), state));
                    }
                    1 if !marks.is_empty() => {
                        marks.truncate(1 + random(marks.len() as u64) as usize);
                        let (mark, state) = marks.last().unwrap();
                        recycled.go_back_to(mark);
                        assert_eq!(all(&recycled), *state);
                    }
                    2 if !marks.is_empty() => {
                        let released = random(marks.len() as u64) as usize;
                        let state = all(&recycled);
                        recycled.release(&marks[released].0);
                        assert_eq!(all(&recycled), state);
                        marks.truncate(released);
                        let noted: usize = recycled.pieces.iter().map(|p| p.taken.len()).sum();
                        assert!(noted == 0 || !marks.is_empty());
                    }
                    2..=5 => {
                        let pages = 1 + random(20) as u32;
                        recycled.give(next, pages);
                        next += pages;
                    }
                    _ => _ = recycled.take(1 + random(8) as u32),
                }
            }
        }
    }

    #[test]
    fn neighbours_serve_what_needs_as_many() {
        let mut recycled = Recycled::default();
        recycled.give(100, 5);
        recycled.give(200, 3);
        recycled.give(300, 1);
        assert_eq!(recycled.take(3), Some(200));
        assert_eq!(recycled.take(1), Some(300));
        assert_eq!(recycled.take(2), Some(100)); // cut
        assert_eq!(recycled.take(4), None);
        assert_eq!(recycled.take(3), Some(102));
        assert_eq!(recycled.take(1), None);
        recycled.give(1000, 19);
        assert_eq!(
            recycled.drain(),
            [1016, 1017, 1018]
                .into_iter()
                .chain(1000..1016)
                .collect::<Vec<_>>()
        );
    }
}
