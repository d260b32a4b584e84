//! Pages that come soon are asked of the device together, where they are in no memory.
//!
//! One after the other, each takes the device's time to answer; a device answers many at once in little more than that
//! (see `tools/bench/results.md`).
//!
//! # Invariants
//!
//! 1. These are hints: nothing that is read depends on them, and no error comes of them.
//! 2. Pages in frames cost nothing. Of others, one of a group is looked for in the system's memory; if it is there,
//!    the group is taken to be there. After one that was not, some groups are asked for unseen: where a part
//!    is missing, one look tells little.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Pager;
use crate::format::{PageNumber, RunRef};

/// So many groups are asked for without a look after one that was missing.
const UNSEEN: u32 = 8;

/// No more of a long value is asked for: the rest comes as it is read.
const RUN_BYTES: u64 = 256 << 10;

/// How many of the next groups are asked for without a look (invariant 2).
#[derive(Debug, Default)]
pub(super) struct Suspicion(AtomicU32);

impl Pager {
    /// Whether the page is in no frame, so that to read it may be to wait for the device.
    #[inline]
    pub(crate) fn is_far(&self, page: PageNumber) -> bool {
        self.known(page).is_none_or(|entry| entry.frame.is_empty())
    }

    /// Asks for nodes that are read soon. Never waits for the device.
    pub(crate) fn fetch(&self, pages: impl Iterator<Item = PageNumber>) {
        let length = u64::from(self.page_size());
        self.fetch_parts(pages.map(|page| (page, length)));
    }

    /// The same for long values.
    pub(crate) fn fetch_runs(&self, runs: impl Iterator<Item = RunRef>) {
        let length = |run: &RunRef| u64::from(run.length_bytes).min(RUN_BYTES);
        self.fetch_parts(runs.map(|run| (run.first, length(&run))));
    }

    fn fetch_parts(&self, parts: impl Iterator<Item = (PageNumber, u64)>) {
        let is_there = |page: &PageNumber| *page < self.file_pages(); // else it is damage, which the reader meets
        let far = parts.filter(|(page, _)| self.is_far(*page) && is_there(page));
        let mut asked: Option<Range<u64>> = None;
        for (page, length_bytes) in far {
            let begin = self.offset(page);
            let part = begin..begin + length_bytes;
            asked = Some(match asked {
                None if !self.is_missing(page) => return,
                None => part,
                // Neighbours are asked for in one call.
                Some(before) if before.end == part.start => before.start..part.end,
                Some(before) if part.end == before.start => part.start..before.end,
                Some(before) => {
                    self.start_read(before);
                    part
                }
            });
        }
        if let Some(last) = asked {
            self.start_read(last);
        }
    }

    fn start_read(&self, range: Range<u64>) {
        let length_bytes = range.end.saturating_sub(range.start);
        self.storage().start_read(range.start, length_bytes);
    }

    fn is_missing(&self, page: PageNumber) -> bool {
        let unseen = self.suspicion.0.load(Ordering::Relaxed);
        if unseen > 0 {
            self.suspicion.0.store(unseen - 1, Ordering::Relaxed);
            return true;
        }
        let is_missing = !self.storage().is_cached(self.offset(page));
        if is_missing {
            self.suspicion.0.store(UNSEEN, Ordering::Relaxed);
        }
        is_missing
    }
}
