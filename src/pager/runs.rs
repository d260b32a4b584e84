//! Long values: from a frame, from the map, or with calls that can fail.
//!
//! # Invariants
//!
//! 1. No byte of a long value is handed out before all of it matched the checksum in its reference.
//! 2. Memory for one is asked for only once it is known that the file is as long.

use super::frame::{Pinned, Unique};
use super::piece::with_piece;
use super::{Entry, PageBytes, Pager};
use crate::checksum;
use crate::format::{Fault, RunRef};
use crate::prefetch::prefetch;
use crate::{Error, Result};

/// Long values are checked in pieces that fit the processor's caches.
const PIECE_BYTES: usize = 64 << 10;
/// Values from this length on are asked for as a whole before they are read through the map.
const ASK_BYTES: usize = 16 << 10;
/// So much of one is asked of the memory ahead of a walk: the processor finds out by itself how it goes on.
const WARM_BYTES: usize = 256;

impl Pager {
    /// The bytes of a long value.
    pub(crate) fn read_run(&self, run: &RunRef) -> Result<PageBytes<'_>> {
        let entry = self.entry_of(run.first)?;
        let length = run.length_bytes as usize;
        let pin = crate::pager::pin();
        if let Some(frame) = entry.frame.load(&pin) {
            entry.touch();
            return Ok(PageBytes::Held(frame.hold(), length));
        }
        if entry.is_run_verified()
            && let Some(bytes) = self.mapped(run.first, length)
        {
            return Ok(PageBytes::Borrowed(bytes));
        }
        if length == 0 {
            return Ok(PageBytes::Borrowed(&[]));
        }
        self.cache.count_miss();
        if self.mapped(run.first, length).is_some() {
            self.verify_run(run)?;
            entry.set_run_verified();
            if let Some(bytes) = self.mapped(run.first, length) {
                return Ok(PageBytes::Borrowed(bytes));
            }
        }
        // Before memory for it is asked for.
        self.check_place(run.first, u64::from(run.pages(self.page_size)))?;
        let frame = Unique::try_to_fill(length, 0);
        let no_memory =
            || Error::no_memory("read a long value into memory", self.offset(run.first));
        let mut frame = frame.ok_or_else(no_memory)?;
        self.read_raw(run.first, &mut frame)?;
        self.check_run(run, checksum::crc32c(&frame))?;
        let frame = frame.share();
        frame.set_clean();
        // A value that would push everything else out is not worth keeping.
        if length <= self.cache.budget_bytes() / 8 {
            entry.set_run_frame(true);
            if entry.frame.fill(frame.clone()) {
                self.cache.admit(self, run.first, length);
            }
        }
        Ok(PageBytes::Held(frame, length))
    }

    /// Whether a long value was read and checked before.
    pub(crate) fn knows_run(&self, run: &RunRef) -> bool {
        let entry = self.known(run.first);
        entry.is_some_and(|entry| {
            entry.is_run_verified() || entry.frame.load(&crate::pager::pin()).is_some()
        })
    }

    /// Asks for the first lines of a long value, if it is in memory. Never waits.
    pub(crate) fn warm_run(&self, run: &RunRef) {
        let Some(entry) = self.known(run.first) else {
            return;
        };
        // No look at the frame itself: a later count of another one would wait for what was looked at.
        if !entry.frame.ask(WARM_BYTES)
            && entry.is_run_verified()
            && let Some(bytes) = self.mapped(run.first, run.length_bytes as usize)
        {
            for line in (0..WARM_BYTES).step_by(64) {
                prefetch(bytes, line);
            }
        }
    }

    /// Copies a part of a long value: as many bytes as `into` has, from one of them on. What is in no
    /// frame is read straight into `into`: out of the map it would be copied as well, after a wait for
    /// each of its pages (blobs of 16 MiB took 1.6 times as long).
    pub(crate) fn copy_run(&self, run: &RunRef, from: usize, into: &mut [u8]) -> Result<()> {
        self.copy_run_behind(run, None, from, into)
    }

    /// The same. `before`: how much of what was written together with the value comes before it, if it
    /// is one of a stream.
    pub(crate) fn copy_run_behind(
        &self,
        run: &RunRef,
        before: Option<u64>,
        from: usize,
        into: &mut [u8],
    ) -> Result<()> {
        let (length, end) = (run.length_bytes as usize, from.saturating_add(into.len()));
        if end > length {
            let what = "a part of a long value that is shorter";
            let fault = Fault::new(what, 0, length as u64, end as u64);
            return Err(self.corrupt(run.first, fault));
        }
        let entry = self.entry_of(run.first)?;
        let frame = entry.frame.load(&crate::pager::pin()).map(Pinned::hold);
        if let Some(part) = frame.as_deref().and_then(|bytes| bytes.get(from..end)) {
            entry.touch();
            into.copy_from_slice(part);
            return Ok(());
        }
        let (is_verified, is_whole) = (entry.is_run_verified(), into.len() == length);
        if !is_verified && !is_whole {
            self.verify_run(run)?;
        }
        self.check_place(run.first, u64::from(run.pages(self.page_size)))?;
        if let Some(before) = before
            && (!is_verified && is_whole)
            && self.copy_streamed(run, before, into)?
        {
            self.cache.count_miss();
            entry.set_run_verified();
            return Ok(());
        }
        let offset = self.offset(run.first) + from as u64;
        self.storage
            .read_at(offset, into)
            .map_err(|error| Error::io("read a long value", offset, error))?;
        if !is_verified {
            self.cache.count_miss();
            if is_whole {
                self.check_run(run, checksum::crc32c(into))?;
            }
            entry.set_run_verified();
        }
        Ok(())
    }

    /// Reads a long value with calls that can fail, piece by piece, and checks it.
    fn verify_run(&self, run: &RunRef) -> Result<()> {
        let length = run.length_bytes as usize;
        let pages = length.div_ceil(self.page_size as usize) as u64;
        self.check_place(run.first, pages)?;
        let checksum = with_piece(PIECE_BYTES, |piece| {
            let mut checksum = 0;
            for begin in (0..length).step_by(PIECE_BYTES) {
                let bytes = piece.get_mut(..(length - begin).min(PIECE_BYTES));
                let bytes = bytes.unwrap_or_default();
                let offset = self.offset(run.first) + begin as u64;
                self.storage
                    .read_at(offset, bytes)
                    .map_err(|error| Error::io("read a long value", offset, error))?;
                checksum = checksum::append(checksum, bytes);
            }
            Ok(checksum)
        })?;
        self.check_run(run, checksum)
    }

    pub(super) fn check_run(&self, run: &RunRef, found: u32) -> Result<()> {
        if found == run.checksum {
            return Ok(());
        }
        let what = "a long value does not match its checksum";
        let fault = Fault::new(what, 0, u64::from(run.checksum), u64::from(found));
        Err(self.corrupt(run.first, fault))
    }

    /// Asks for a long value that the map is going to serve as a whole. (Its bytes may have left the
    /// system's cache, and would come back page by page.)
    pub(crate) fn ask_for(&self, run: &RunRef) {
        let length = run.length_bytes as usize;
        if length >= ASK_BYTES
            && self.known(run.first).is_some_and(Entry::is_run_verified)
            && let Some(map) = self.newest_map()
        {
            // Only advice: nothing depends on it.
            let _ = map.will_need(self.offset(run.first), length);
        }
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::format::PageRef;
    use crate::pager::Cause;
    use crate::storage::FileStorage;

    /// A file can name one page as a long value and as a node: what was checked as one is not yet checked as the other.
    #[test]
    fn a_long_value_is_not_taken_for_a_node() {
        let directory = tempfile::tempdir().unwrap();
        let storage = FileStorage::open_or_create(directory.path().join("file")).unwrap();
        let pager = Pager::new(Arc::new(storage), 4096, 7, 1 << 20).unwrap();
        pager.ensure_pages(8).unwrap();
        let bytes = vec![9; 4096];
        pager.write_at(2, &bytes, Cause::Log).unwrap();
        let run = RunRef {
            first: 2,
            length_bytes: 4096,
            checksum: checksum::crc32c(&bytes),
            birth: 1,
        };
        assert_eq!(&*pager.read_run(&run).unwrap(), &bytes[..]);
        assert!(pager.knows_run(&run));
        let node = PageRef {
            page: 2,
            checksum: run.checksum,
        };
        // Without a map it has a frame, which is not taken for a node, either.
        assert!(!pager.is_at_hand(2) || !crate::pager::maps::CAN_MAP);
        assert!(pager.hold(&node).is_err_and(|error| error.is_corruption()));
        let pin = crate::pager::pin();
        assert!(pager.read_pinned(&node, &pin).is_err());
    }

    /// What a transaction stored there in memory is as little of a node.
    #[test]
    fn the_frame_of_a_long_value_is_not_taken_for_a_node() {
        let storage = crate::storage::MemoryStorage::new();
        let pager = Pager::new(Arc::new(storage), 4096, 7, 1 << 20).unwrap();
        pager.ensure_pages(8).unwrap();
        let target = PageRef {
            page: 2,
            checksum: 1,
        };
        let pin = crate::pager::pin();
        let entry = pager.entry(2);
        entry.set_run_frame(true);
        let frame = Unique::copy_of(&[9; 5000], 1, true).share();
        entry.frame.replace(Some(frame), &pin);
        assert!(
            pager
                .hold(&target)
                .is_err_and(|error| error.is_corruption())
        );
        assert!(
            pager
                .read_pinned(&target, &pin)
                .is_err_and(|error| error.is_corruption())
        );
        assert!(pager.peek(2, &pin).is_none());
        // The page begins a new life, as a node.
        pager.forget(2, &pin);
        let frame = Unique::copy_of(&[9; 4096], 1, false).share();
        entry.frame.replace(Some(frame), &pin);
        assert!(pager.hold(&target).is_ok() && pager.peek(2, &pin).is_some());
    }

    /// Nor is memory asked for before it is known that the file is as long.
    #[test]
    fn a_long_value_behind_the_file_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        let storage = FileStorage::open_or_create(directory.path().join("file")).unwrap();
        let pager = Pager::new(Arc::new(storage), 4096, 7, 1 << 20).unwrap();
        pager.ensure_pages(8).unwrap();
        let run = RunRef {
            first: 2,
            length_bytes: u32::MAX,
            checksum: 1,
            birth: 1,
        };
        let start = std::time::Instant::now();
        assert!(
            pager
                .read_run(&run)
                .is_err_and(|error| error.is_corruption())
        );
        assert!(start.elapsed().as_millis() < 100, "4 GiB were zeroed first");
    }
}
