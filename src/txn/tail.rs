//! The end of the file, where nothing is needed any more, given back to the system.
//!
//! # Invariants
//!
//! 1. Nothing is cut that the header counts, or that a checkpoint under way is about to count: an open would take
//!    the file for a damaged one.
//! 2. Nothing is allocated in the tail before the pager takes it for gone: that is done with the space locked. Who is given
//!    a place there later has the pager make the file longer, which waits for the cut.
//! 3. A call cuts [`MOST_CUT_BYTES`] at the most, and holds nothing that a commit waits for. The system lets nobody write
//!    to the file while it shortens it, the log neither: who commits waits for a part and not for the whole. A crash between
//!    two parts leaves a longer file than it need be, no more.
//! 4. After a close nobody cuts.

use std::sync::atomic::Ordering;

use super::engine::{Core, Engine};
use crate::Error;
use crate::events;
use crate::format::PageNumber;
use crate::pager::Space;
use crate::sync::{Patience, shielded};

/// Most of the time that it takes is the device's, which is told of each piece that is free now (where the file system
/// is mounted so): 8,000 pieces of 100 KB took 0.8 s, and 15 in a slow hour, in which a durable commit waited. So the parts begin
/// short, and become as long as the device is fast: 111 ms were the longest wait in a slow hour. (At 4 MiB each it was 16 to
/// 40 ms, and 530 in a slow hour. 768 MiB of one piece in parts of 4, 16, 64 MiB and at once took 270 to 290, 240 to 315, 235 to 280 and 220 to 290 ms,
/// and kept a write waiting for 8 to 11, 10 to 24, 26 to 43 and 225 to 290.)
const MOST_CUT_BYTES: u64 = 4 << 20;
const LEAST_CUT_BYTES: u64 = 256 << 10;
/// After a part that took longer the next one is half as long, after one that took a quarter of that twice as long.
const LONG_CUT_MICROS: u64 = 16_000;

/// A tail that is cut part by part.
#[derive(Debug)]
pub(super) struct Cut {
    /// As far as it was free at first: what the file grows by meanwhile is left to the next one.
    to: PageNumber,
    /// The length that the last part has left.
    at: PageNumber,
    /// How much the next part cuts.
    part_bytes: u64,
}

impl Cut {
    /// Has the next part take about as long as it should.
    fn adapt(&mut self, is_long: bool, is_short: bool) {
        if is_long {
            self.part_bytes = (self.part_bytes / 2).max(LEAST_CUT_BYTES);
        } else if is_short {
            self.part_bytes = (self.part_bytes * 2).min(MOST_CUT_BYTES);
        }
    }
}

impl Engine {
    /// Whether the header still counts pages at the end that nothing needs any more.
    pub(crate) fn has_old_length(&self) -> bool {
        let core = self.core.lock();
        core.header.pages > self.space.lock().kept_end()
    }

    /// Gives the free tail of the file back, however short. Not with the turn, which commits wait for.
    pub(crate) fn cut_tail(&self) {
        self.cut_above(0);
    }

    /// The same if it is worth a call. After a checkpoint, without the turn.
    pub(crate) fn cut_long_tail(&self) {
        self.cut_above(self.worth_cutting());
    }

    /// The same for who makes a checkpoint, or closes the file.
    pub(super) fn cut_tail_within(&self) {
        let Some(mut cut) = self.begin_cut(0) else {
            return;
        };
        while self.cut_part(&mut cut) {}
    }

    fn cut_above(&self, above_pages: u32) {
        let Some(mut cut) = self.begin_cut(above_pages) else {
            return;
        };
        while self.cut_on(&mut cut) {}
    }

    /// How long a free tail is worth it.
    pub(super) fn worth_cutting(&self) -> u32 {
        let pages = self.core.lock().header.pages;
        (pages / 4).max(16)
    }

    /// Where there is to be cut, if it is more than that.
    pub(super) fn begin_cut(&self, above_pages: u32) -> Option<Cut> {
        let core = self.core.lock();
        let to = needed(&core, &self.space.lock());
        let at = self.pager.file_pages();
        // Without threads of its own a run is repeatable.
        let part_bytes = match self.settings.background {
            true => LEAST_CUT_BYTES,
            false => MOST_CUT_BYTES,
        };
        (at.saturating_sub(to) > above_pages).then_some(Cut { to, at, part_bytes })
    }

    /// Cuts one part, unless the database is closed (invariant 4) or refuses writes. Says whether there is more.
    pub(super) fn cut_on(&self, cut: &mut Cut) -> bool {
        let _held = events::hold();
        let _one_at_a_time = self.checkpointing.lock();
        self.may_cut() && self.cut_part(cut)
    }

    /// The same for the thread that others wait for: where a checkpoint or a check of the file is under way, the rest is
    /// left to the next time.
    pub(super) fn cut_on_unless_busy(&self, cut: &mut Cut) -> bool {
        let _held = events::hold();
        let one_at_a_time = self.checkpointing.try_lock();
        one_at_a_time.is_some() && self.may_cut() && self.cut_part(cut)
    }

    fn may_cut(&self) -> bool {
        !self.closed.load(Ordering::Acquire) && self.log.failure().is_none()
    }

    /// Invariant 1 by the core's lock, 2 by that of the space, both let go of before the file is touched.
    fn cut_part(&self, cut: &mut Cut) -> bool {
        let core = self.core.lock();
        let space = self.space.lock();
        let needed = needed(&core, &space).max(cut.to);
        let length = self.pager.file_pages();
        if length > cut.at || length <= needed {
            return false;
        }
        let pages = (cut.part_bytes / u64::from(self.pager.page_size())) as u32;
        let left = length.saturating_sub(pages.max(1)).max(needed);
        let [long, short] = [LONG_CUT_MICROS, LONG_CUT_MICROS / 4].map(Patience::new);
        let told = |error: &Error| self.lose_faith(error);
        let cut_it = || self.pager.truncate_pages(left, (space, core));
        // Not being able to give space back is no reason to fail.
        if let Err(error) = shielded("shorten the file", told, cut_it) {
            events::tell(move || tracing::warn!(%error, "the file could not be shortened"));
            return false;
        }
        if self.settings.background {
            cut.adapt(long.is_over(), !short.is_over());
        }
        cut.at = left;
        left > needed
    }
}

/// The length that the file must keep (invariant 1).
fn needed(core: &Core, space: &Space) -> PageNumber {
    space.kept_end().max(core.header.pages)
}
