//! Long values that are read as a whole, mostly one after the other: copied out of a map when it is for
//! the first time, or shown there.
//!
//! A call copies them from the system's memory, and then they have to be looked at once more for
//! their checksum. Out of a map they are looked at first, and copied while they are in the
//! processor's nearest memory: blobs of 16 MiB took 0.75 of the time. That is so only where the
//! system shows [`STREAM_BYTES`] in one step, because they were written together to a round place.
//! Elsewhere each page of the map takes its own time, and the call is faster (1 MiB: 0.85).
//!
//! # Invariants
//!
//! 1. Bytes are touched only after the system was asked to show them, with a call that can fail where
//!    to touch them would end the process. (What another reader lets go of in between, or the system for
//!    want of memory, comes back when it is touched, as with the pager's own maps.)
//! 2. What was read in order does not stay in the map, so a stream takes no more than
//!    [`STREAM_BYTES`] of it.

use super::Pager;
use crate::Result;
use crate::checksum;
use crate::format::RunRef;
use crate::storage::Map;

/// What is written together to a multiple of its length, so that it is read fast.
pub(crate) const STREAM_BYTES: u64 = 2 << 20;

/// What is looked at and then copied. (With 4 KiB it took up to 1.2 times as long, with 16
/// KiB 1.1 times.)
const STEP_BYTES: usize = 8 << 10;

impl Pager {
    /// The map that a long value is in, and the offset where it begins.
    fn stream_of(&self, run: &RunRef) -> Option<(&Map, u64)> {
        let begin = self.offset(run.first);
        let end = begin + u64::from(run.length_bytes);
        Some((self.streams.reaching(self.storage(), end)?, begin))
    }

    /// The bytes of a long value in the map, if it lies where the system can show it in one step.
    /// `before` is how much of what was written with it comes before it.
    fn populated(&self, run: &RunRef, before: u64) -> Option<&[u8]> {
        let (map, begin) = self.stream_of(run)?;
        if begin % STREAM_BYTES != before {
            return None;
        }
        let length = run.length_bytes as usize;
        // Invariant 1. If it fails, the other way says why.
        map.populate(begin, length).ok()?;
        map.bytes(begin, length)
    }

    /// Copies a long value that was not checked yet, and checks it. `before` is how much of what was
    /// written with it comes before it. False: it has to be read in another way.
    pub(super) fn copy_streamed(&self, run: &RunRef, before: u64, into: &mut [u8]) -> Result<bool> {
        let Some(bytes) = self.populated(run, before) else {
            return Ok(false);
        };
        let mut found = 0;
        for (from, to) in bytes.chunks(STEP_BYTES).zip(into.chunks_mut(STEP_BYTES)) {
            found = checksum::append(found, from);
            to.copy_from_slice(from);
        }
        if before + u64::from(run.length_bytes) == STREAM_BYTES {
            self.leave_stream(run);
        }
        self.check_run(run, found)?;
        Ok(true)
    }

    /// Shows a long value in the map, checked. `before` as above. False: it has to be copied.
    pub(crate) fn show_run(&self, run: &RunRef, before: u64) -> Result<bool> {
        let entry = self.entry_of(run.first)?;
        if entry.frame.load(&crate::pager::pin()).is_some() {
            return Ok(false);
        }
        self.check_place(run.first, u64::from(run.pages(self.page_size())))?;
        let Some(bytes) = self.populated(run, before) else {
            return Ok(false);
        };
        if !entry.is_run_verified() {
            self.cache.count_miss();
            self.check_run(run, checksum::crc32c(bytes))?;
            entry.set_run_verified();
        }
        Ok(true)
    }

    /// What [`show_run`](Self::show_run) has shown.
    pub(crate) fn shown_run(&self, run: &RunRef) -> Option<&[u8]> {
        let (map, begin) = self.stream_of(run)?;
        map.bytes(begin, run.length_bytes as usize)
    }

    /// Whether two long values were shown together.
    pub(crate) fn is_one_stream(&self, one: &RunRef, other: &RunRef) -> bool {
        let [one, other] = [one, other].map(|run| self.offset(run.first) / STREAM_BYTES);
        one == other
    }

    /// A reader goes on elsewhere than beside the value.
    pub(crate) fn leave_stream(&self, run: &RunRef) {
        if let Some((map, begin)) = self.stream_of(run) {
            // Invariant 2. Only a matter of memory.
            let round = begin - begin % STREAM_BYTES;
            let _ = map.let_go(round, STREAM_BYTES as usize);
        }
    }
}
