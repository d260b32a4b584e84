//! Compaction: pages move from the end of the file into free places, and the tail is given back.
//!
//! # Invariants
//!
//! 1. A step is a transaction that changes no entry: it only makes pages private, which gives them
//!    a lower place, because the lowest free page is always allocated first. It needs no record in
//!    the log; a crash that loses it loses no data.
//! 2. A step allocates nothing behind the present end, and is taken only while enough free pages
//!    are left for the checkpoints that follow; so the file does not grow on the way. (Only a log ring
//!    that is more than twice as long as it should be may get a shorter one behind the end, if there
//!    is no gap: the next round moves that one into the place of the long one.)
//! 3. The tail comes free when a checkpoint has made the new places durable, and is cut only as
//!    far as no snapshot sees it, without the turn.

use std::sync::Arc;

use crate::events;
use crate::format::PageNumber;
use crate::handle::Handle;
use crate::tree::pages::WritePages;
use crate::tree::{self, Budget};
use crate::txn::checkpoint::Purpose;
use crate::txn::engine::Engine;
use crate::txn::pages::TxnPages;
use crate::txn::state::{State, TreeId};
use crate::{Error, Result};

/// How far a compaction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Steps taken so far.
    pub steps: u64,
    /// The length of the file now, in bytes.
    pub file_bytes: u64,
    /// The length that it would have with no free page in it.
    pub target_bytes: u64,
}

/// Leaves that one step visits, and how much of long values it moves: some milliseconds of the writer's
/// turn. (By their leaves alone, a step moved 100 MiB of values of 100 KiB, and who wrote waited for it.)
const STEP_LEAVES: usize = 128;
const STEP_LONG_BYTES: u64 = 4 << 20;
/// So much of them is written between two syncs: with all of it to be written by the next checkpoint's, a durable commit
/// beside that waited for all of it (300 MiB, 0.6 s).
const UNSYNCED_BYTES: u64 = STEP_LONG_BYTES;
/// The second pass in a row that gains less than this share of the file is the last one. (The first
/// may only have made room: its old places wait for a checkpoint and the readers.)
const WORTH_SHARE: u32 = 256;
const MAX_PASSES: u32 = 8;
/// So many more, until the file has the length that it needs.
const LAST_CHECKPOINTS: u32 = 3;

pub(crate) struct Compaction {
    handle: Arc<Handle>,
    steps: u64,
    /// Of long values that have moved since the last sync.
    unsynced_bytes: u64,
}

impl Compaction {
    pub(crate) fn new(handle: Arc<Handle>) -> Result<Self> {
        handle.engine.check_writable()?;
        Ok(Compaction {
            handle,
            steps: 0,
            unsynced_bytes: 0,
        })
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.handle.engine
    }

    /// Runs to the end, or until `progress` says to stop. Returns the bytes given back.
    pub(crate) fn run(mut self, mut progress: impl FnMut(&Progress) -> bool) -> Result<u64> {
        let before = self.engine().file_bytes();
        // Frees what is only waiting, so that the cutoff is the right one.
        self.engine().checkpoint()?;
        let (mut gained_little, mut log_is_tried) = (false, false);
        for _ in 0..MAX_PASSES {
            let (end, free) = self.engine().end_and_free();
            let is_little = free <= (end / WORTH_SHARE).max(self.engine().checkpoint_reserve());
            if is_little && (log_is_tried || !self.engine().has_long_ring()) {
                break;
            }
            log_is_tried |= is_little;
            let cutoff = end - free;
            // The log needs one long gap, of which packing the leaves leaves none.
            self.checkpoint_moving(cutoff)?;
            let finished = is_little || self.pass(cutoff, &mut progress)?;
            // Most is written without keeping writers waiting. Then, each with little to write: one
            // that moves the log, the catalog and the space map; and one that, with the old places
            // free, records the shorter length.
            self.engine().checkpoint()?;
            self.checkpoint_moving(cutoff)?;
            self.checkpoint_moving(cutoff)?;
            let (now, _) = self.engine().end_and_free();
            events::tell(move || tracing::debug!(from = end, to = now, "compaction pass"));
            let gains_little = end.saturating_sub(now) <= end / WORTH_SHARE;
            if !finished || (gains_little && gained_little && !is_little) {
                break;
            }
            gained_little = gains_little && !is_little;
        }
        // A log that has moved last leaves its old place to the next checkpoint, and the length
        // without that to the one after. None of these moves anything.
        for _ in 0..LAST_CHECKPOINTS {
            if !self.engine().has_old_length() {
                break;
            }
            self.checkpoint_moving(PageNumber::MAX)?;
        }
        self.engine().check_writable()?;
        self.engine().cut_tail();
        Ok(before.saturating_sub(self.engine().file_bytes()))
    }

    fn checkpoint_moving(&self, cutoff: PageNumber) -> Result<()> {
        self.engine().check_origin()?;
        let held = events::hold();
        let turn = self.engine().turns.wait();
        self.engine()
            .checkpoint_with(Purpose::Compact(cutoff), None)?;
        drop((turn, held));
        self.engine().cut_long_tail();
        Ok(())
    }

    /// Visits all leaves of all trees once. Says whether it got to the end.
    fn pass(
        &mut self,
        cutoff: PageNumber,
        progress: &mut impl FnMut(&Progress) -> bool,
    ) -> Result<bool> {
        let mut place = Place::default();
        let mut is_fresh = true;
        let (_, free) = self.engine().end_and_free();
        loop {
            match self.step(cutoff, &place)? {
                Step::To(next) => (place, is_fresh) = (next, false),
                Step::Cramped if is_fresh => return Ok(true),
                // The old places of what has moved are free after a checkpoint, unless a snapshot sees
                // them: then there would be a checkpoint for each few leaves.
                Step::Cramped => {
                    self.engine().checkpoint()?;
                    if self.engine().end_and_free().1 < free / 2 {
                        return Ok(true);
                    }
                    is_fresh = true;
                    continue;
                }
                Step::End => return Ok(true),
            }
            self.steps += 1;
            self.sync_if_due()?;
            let engine = self.engine();
            let size = u64::from(engine.pager.page_size());
            let report = Progress {
                steps: self.steps,
                file_bytes: engine.file_bytes(),
                target_bytes: u64::from(cutoff) * size,
            };
            if !progress(&report) {
                return Ok(false);
            }
            if engine.wants_checkpoint() {
                engine.checkpoint()?;
            }
        }
    }

    /// Without the turn: who writes meanwhile waits for no more than the device has to.
    fn sync_if_due(&mut self) -> Result<()> {
        if self.unsynced_bytes < UNSYNCED_BYTES {
            return Ok(());
        }
        self.unsynced_bytes = 0;
        self.engine().sync_written()
    }

    /// One transaction: some leaves of one tree, or a part of one with long values.
    fn step(&mut self, cutoff: PageNumber, place: &Place) -> Result<Step> {
        let engine = &self.handle.engine;
        engine.check_origin()?;
        let _held = events::hold();
        let _turn = engine.turns.wait();
        engine.check_writable()?;
        let (current, version) = engine.next_version();
        let Some((name, id, from)) = resume(&current, place) else {
            return Ok(Step::End);
        };
        let (end, free) = engine.end_and_free();
        let spare = free.saturating_sub(engine.checkpoint_reserve());
        let leaves = STEP_LEAVES.min(spare as usize / 2); // a leaf, and its share of the branches
        if leaves < 2 {
            return Ok(Step::Cramped);
        }
        let budget = Budget {
            leaves,
            long_bytes: STEP_LONG_BYTES,
        };
        let mut pages = TxnPages::new(engine.clone(), version, true);
        pages.confine(end);
        let mut trees = current.trees.clone();
        let mut root = trees.root(id);
        let wants_move = |page| page >= cutoff;
        let next = match tree::relocate(&mut pages, &mut root, &from, budget, &wants_move) {
            Ok(next) => next,
            // Deeper trees need more branches than was thought: nothing has moved.
            Err(Error::FileFull { .. }) => return Ok(Step::Cramped),
            Err(error) => return Err(error),
        };
        trees.set_root(id, root);
        if !pages.is_unchanged() {
            let version = pages.version();
            let state = Arc::new(State { version, trees });
            engine.commit_unlogged(&mut pages, &state)?;
            self.unsynced_bytes += pages.direct_bytes();
        }
        Ok(Step::To(match next {
            Some(from) => Place { name, from },
            // The lowest name above this one, so the next tree is the one that follows.
            None => Place {
                name: name + "\0",
                from: Vec::new(),
            },
        }))
    }
}

/// Where a pass goes on: in a tree of this name or above, from a key.
#[derive(Debug, Default)]
struct Place {
    name: String,
    from: Vec<u8>,
}

/// What a step has done.
#[derive(Debug)]
enum Step {
    To(Place),
    /// Nothing: there are too few free places.
    Cramped,
    /// Nothing: all trees were visited.
    End,
}

/// The tree to go on with: the named one if it is still there, else the next by name.
fn resume(state: &State, place: &Place) -> Option<(String, TreeId, Vec<u8>)> {
    let (found, id) = state.trees.first_from(&place.name)?;
    let from = if found == place.name {
        place.from.clone()
    } else {
        Vec::new()
    };
    Some((found.to_string(), id, from))
}
