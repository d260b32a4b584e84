//! Which pages come next: they are asked of the device together, some ahead of their turns.

use crate::format::PageNumber;

use super::pages::ReadPages;

/// So many pages are asked for ahead of their turn.
pub(super) const REACH: usize = 32;

/// Pages whose turns come one after the other, and how far they were asked for.
#[derive(Debug, Default)]
pub(super) struct Upcoming {
    /// The first that was not.
    next: usize,
}

impl Upcoming {
    /// It is the turn of page `i`. `page` tells which page each turn is about; they end where it tells none.
    #[inline]
    pub(super) fn turn<P: ReadPages>(
        &mut self,
        pages: &P,
        i: usize,
        page: impl Fn(usize) -> Option<PageNumber>,
    ) {
        // Half of them are still to come when the next ones are asked for.
        let is_due = self.next <= i + REACH / 2;
        if is_due && page(i).is_some_and(|page| pages.is_far(page)) {
            let from = self.next.max(i);
            self.next = i + REACH;
            pages.fetch((from..self.next).map_while(page));
        }
    }
}

/// How far ahead of a walk over leaves is asked for. A short walk asks for nothing; the longer it gets, the more.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Leaves that were entered one beside the other.
    entered: usize,
    /// Leaves ahead that were asked for.
    asked: usize,
    reach: usize,
}

impl Walk {
    /// The next leaf was entered. Which ones are to be asked for now: those from so many ahead of it, up to so many.
    #[inline]
    pub(super) fn enter(&mut self, was_far: bool) -> std::ops::Range<usize> {
        self.entered += 1;
        self.asked = self.asked.saturating_sub(1);
        let is_due = was_far && self.entered > 1 && self.asked <= self.reach / 2;
        if !is_due {
            return 0..0;
        }
        self.reach = (2 * self.reach).clamp(4, REACH);
        let from = self.asked;
        self.asked = self.reach;
        from..self.reach
    }

    /// Whether it has come from one leaf to another.
    pub(super) fn is_on(&self) -> bool {
        self.entered > 0
    }

    /// What was asked for is not what comes: the branch ended.
    pub(super) fn leave_branch(&mut self) {
        self.asked = 0;
    }
}
