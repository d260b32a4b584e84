//! When a page that the newest state no longer uses may be used again.
//!
//! A page that was born at version B and freed at version F is part of every state from B up to
//! but not including F. It can be reused when none of these is left: no snapshot holds one, the
//! durable checkpoint is none of them, nor the one being written.
//!
//! # Invariants
//!
//! 1. Every committed state is watched until only this list holds it. Whoever needs a state (a
//!    snapshot, the published state, the durable checkpoint, a commit that waits for the disk)
//!    holds its `Arc`; one that only we hold can never be taken again.
//! 2. A retired page waits at the oldest watched state that can see it, and is looked at again
//!    only when that one is gone. So a long reader pins what it can see and nothing else.
//! 3. What a commit does here does not grow with the number of states that are held: it looks at the newest few, where
//!    short readers are, and at the oldest for as long as nearly all are gone. At all it looks when the states that commits
//!    have looked at since the last time are as many: what is dropped between others that are held waits for no more than
//!    one commit for each [`NEWEST`] of them, or for the next checkpoint.
//! 4. While a checkpoint runs, pages born up to its state wait for it to end, whether or not it
//!    uses them: it may be reading their frames.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::state::State;
use crate::format::{PageNumber, Version};

/// So many of the newest states are looked at with each commit: as long as no more are held, all of them. Each
/// that is not in the processor's cache takes some 50 ns.
const NEWEST: usize = 16;
/// And from the oldest on, until so many are held: the durable checkpoint is one of them, and a reader who began long
/// before all others may be.
const OLDEST: usize = 4;

/// Which states are looked at for whether somebody still holds them (invariant 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// As many as a commit has time for.
    AtSome,
    AtAll,
}

/// Pages that no newer state uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retired {
    pub first: PageNumber,
    pub pages: u32,
    pub birth: Version,
    /// The first version that does not use them.
    pub death: Version,
}

impl Retired {
    pub(crate) fn first(&self) -> PageNumber {
        self.first
    }
}

#[derive(Debug)]
struct Watched {
    state: Arc<State>,
    waiting: Vec<Retired>,
}

impl Watched {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.state) > 1
    }
}

/// The states that may still be looked at, oldest first, with the pages that wait for each.
#[derive(Debug, Default)]
pub(crate) struct Reclaimer {
    watched: VecDeque<Watched>,
    /// The state of the running checkpoint, and what waits for its end (invariant 4).
    checkpoint: Option<(Version, Vec<Retired>)>,
    /// How many of the newest states were looked at since all were.
    looked_at: usize,
    free: Vec<Retired>,
}

impl Reclaimer {
    /// A new state exists. Versions only grow.
    pub(crate) fn watch(&mut self, state: Arc<State>) {
        self.watched.push_back(Watched {
            state,
            waiting: Vec::new(),
        });
    }

    /// The newest state does not use these pages.
    pub(crate) fn retire(&mut self, page: Retired) {
        if let Some((version, waiting)) = &mut self.checkpoint
            && page.birth <= *version
        {
            waiting.push(page);
            return;
        }
        let index = self
            .watched
            .partition_point(|w| w.state.version < page.birth);
        match self.watched.get_mut(index) {
            Some(watched) if watched.state.version < page.death => watched.waiting.push(page),
            _ => self.free.push(page),
        }
    }

    pub(crate) fn begin_checkpoint(&mut self, version: Version) {
        self.checkpoint = Some((version, Vec::new()));
    }

    pub(crate) fn end_checkpoint(&mut self) {
        if let Some((_, waiting)) = self.checkpoint.take() {
            waiting.into_iter().for_each(|page| self.retire(page));
        }
    }

    /// The state of the running checkpoint was that of a transaction that failed with it: what it
    /// retired is in use.
    pub(crate) fn retract(&mut self, version: Version) {
        let keep = |page: &Retired| page.death != version;
        self.watched.retain(|w| w.state.version != version);
        for watched in &mut self.watched {
            watched.waiting.retain(keep);
        }
        if let Some((_, waiting)) = &mut self.checkpoint {
            waiting.retain(keep);
        }
        self.free.retain(keep);
    }

    /// Pages that no state sees come free with the next sweep.
    pub(crate) fn free_later(&mut self, runs: &[(PageNumber, u32)]) {
        let unseen = runs.iter().map(|(first, pages)| Retired {
            first: *first,
            pages: *pages,
            birth: 0,
            death: 0,
        });
        self.free.extend(unseen);
    }

    /// Lets go of states that nobody else holds, and returns the pages that came free.
    pub(crate) fn sweep(&mut self, look: Look) -> Vec<Retired> {
        self.looked_at = self.looked_at.saturating_add(NEWEST);
        // All that are gone first: else a page would go from one to the next, a thousand times with a thousand snapshots.
        let waiting = if look == Look::AtAll || self.looked_at >= self.watched.len() {
            self.looked_at = 0;
            self.take_gone()
        } else {
            self.take_gone_at_the_ends()
        };
        // What the last holder read happens before the pages change.
        fence(Ordering::Acquire);
        waiting.into_iter().for_each(|page| self.retire(page));
        std::mem::take(&mut self.free)
    }

    /// Lets go of all states that nobody else holds, and returns what waited for them.
    fn take_gone(&mut self) -> Vec<Retired> {
        let mut waiting = Vec::new();
        self.watched.retain_mut(|watched| {
            let is_held = watched.is_held();
            if !is_held {
                waiting.append(&mut watched.waiting);
            }
            is_held
        });
        waiting
    }

    /// The same for the newest states, and the oldest (invariant 3).
    fn take_gone_at_the_ends(&mut self) -> Vec<Retired> {
        let mut waiting = Vec::new();
        let newest = self.watched.len().saturating_sub(NEWEST);
        for index in (newest..self.watched.len()).rev() {
            self.let_go(index, &mut waiting);
        }
        let mut held = 0;
        while held < OLDEST && held < self.watched.len() {
            held += usize::from(!self.let_go(held, &mut waiting));
        }
        waiting
    }

    /// Lets go of this state if nobody else holds it, and says whether it did.
    fn let_go(&mut self, index: usize, waiting: &mut Vec<Retired>) -> bool {
        let is_gone = self.watched.get(index).is_some_and(|w| !w.is_held());
        if is_gone && let Some(gone) = self.watched.remove(index) {
            waiting.extend(gone.waiting);
        }
        is_gone
    }

    /// The oldest state that is still held, and how many pages wait for it.
    pub(crate) fn oldest(&self) -> Option<(Version, u64)> {
        let oldest = self.watched.front()?;
        let pages = oldest.waiting.iter().map(|r| u64::from(r.pages)).sum();
        Some((oldest.state.version, pages))
    }

    /// Everything that waits.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Retired> {
        let states = self.watched.iter().flat_map(|w| &w.waiting);
        let checkpoint = self.checkpoint.iter().flat_map(|(_, waiting)| waiting);
        states.chain(checkpoint).chain(&self.free)
    }

    /// How many pages that is.
    pub(crate) fn waiting_pages(&self) -> u64 {
        self.waiting().map(|retired| u64::from(retired.pages)).sum()
    }

    /// The number of states that are held.
    pub(crate) fn states(&self) -> usize {
        self.watched.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(version: Version) -> Arc<State> {
        Arc::new(State {
            version,
            ..State::default()
        })
    }

    fn page(first: PageNumber, birth: Version, death: Version) -> Retired {
        Retired {
            first,
            pages: 1,
            birth,
            death,
        }
    }

    fn firsts(pages: Vec<Retired>) -> Vec<PageNumber> {
        let mut firsts: Vec<_> = pages.iter().map(|p| p.first).collect();
        firsts.sort_unstable();
        firsts
    }

    #[test]
    fn a_reader_pins_only_what_it_can_see() {
        let mut reclaimer = Reclaimer::default();
        let (one, two, three) = (state(1), state(2), state(3));
        for s in [&one, &two, &three] {
            reclaimer.watch(s.clone());
        }
        reclaimer.retire(page(10, 1, 2)); // seen by 1 only
        reclaimer.retire(page(11, 2, 3)); // seen by 2 only
        reclaimer.retire(page(12, 1, 3)); // seen by 1 and 2
        drop(two);
        assert_eq!(firsts(reclaimer.sweep(Look::AtSome)), [11]);
        drop(one);
        assert_eq!(firsts(reclaimer.sweep(Look::AtSome)), [10, 12]);
        assert_eq!(reclaimer.oldest(), Some((3, 0)));
    }

    #[test]
    fn a_running_checkpoint_keeps_what_was_born_before_it() {
        let mut reclaimer = Reclaimer::default();
        let five = state(5);
        reclaimer.watch(five.clone());
        reclaimer.begin_checkpoint(5);
        reclaimer.retire(page(10, 3, 4)); // no state sees it, the checkpoint may read its frame
        reclaimer.retire(page(11, 6, 7));
        assert_eq!(firsts(reclaimer.sweep(Look::AtSome)), [11]);
        reclaimer.end_checkpoint();
        assert_eq!(firsts(reclaimer.sweep(Look::AtSome)), [10]);
    }

    /// More states than a commit looks at, dropped in any order.
    #[test]
    fn no_page_comes_free_while_a_state_that_sees_it_is_held_and_all_do_at_last() {
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut reclaimer = Reclaimer::default();
        let mut held: Vec<Arc<State>> = Vec::new();
        for version in 1..3900 {
            let newest = state(version);
            reclaimer.watch(newest.clone());
            for _ in 0..random(4) {
                let birth = version - 1 - random(version.min(300));
                let page = page(version as PageNumber, birth, version);
                reclaimer.retire(page);
            }
            let most = if version % 500 < 400 { 2 } else { 8 };
            for _ in 0..random(most).min(held.len() as u64) {
                held.swap_remove(random(held.len() as u64) as usize);
            }
            let look = match random(100) {
                0 => Look::AtAll,
                _ => Look::AtSome,
            };
            let is_seen = |page: &Retired| {
                let sees = |s: &Arc<State>| (page.birth..page.death).contains(&s.version);
                held.iter().any(sees)
            };
            for free in reclaimer.sweep(look) {
                assert!(!is_seen(&free), "{free:?} is seen");
            }
            if look == Look::AtAll {
                assert!(reclaimer.waiting().all(is_seen));
                assert_eq!(reclaimer.states(), held.len() + 1);
            }
            held.push(newest);
        }
        assert!(held.len() > 4 * NEWEST, "{}", held.len());
        held.clear();
        reclaimer.sweep(Look::AtSome);
        assert_eq!((reclaimer.states(), reclaimer.waiting().count()), (0, 0));
    }
}
