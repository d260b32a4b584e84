//! The end of the file, where nothing is needed any more, given back to the system.
//!
//! # Invariants
//!
//! 1. Nothing is cut that the header counts, or that a checkpoint under way is about to count: an open would take
//!    the file for a damaged one.
//! 2. Nothing is allocated in the tail while it is cut: that is done with the space locked.

use std::sync::atomic::Ordering;

use super::engine::{Core, Engine};
use crate::events;

impl Engine {
    /// Whether the header still counts pages at the end that nothing needs any more.
    pub(crate) fn has_old_length(&self) -> bool {
        let core = self.core.lock();
        core.header.pages > self.space.lock().kept_end()
    }

    /// Gives the free tail of the file back, however short.
    pub(crate) fn cut_tail(&self) {
        self.cut(&self.core.lock(), 0);
    }

    /// Gives the tail of the file back, if it is free and worth a call.
    pub(super) fn truncate(&self, core: &mut Core) {
        let closing = self.closed.load(Ordering::Acquire);
        let worth = (core.header.pages / 4).max(16);
        self.cut(core, if closing { 0 } else { worth });
    }

    /// Invariant 1 by the core's lock, 2 by that of the space.
    fn cut(&self, core: &Core, above_pages: u32) {
        let space = self.space.lock();
        let needed = space.kept_end().max(core.header.pages);
        let slack = self.pager.file_pages().saturating_sub(needed);
        if slack > above_pages {
            // Not being able to give space back is no reason to fail.
            if let Err(error) = self.pager.truncate_pages(needed) {
                events::tell(move || tracing::warn!(%error, "the file could not be shortened"));
            }
        }
    }
}
