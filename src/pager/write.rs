//! Writing pages to their place, and the length of the file.
//!
//! # Invariants
//!
//! 1. A page is written only to a place that no durable state uses, so a torn write hurts nothing.
//! 2. A page's checksum is recorded in the page table before its bytes are written, and the copy
//!    that is written carries it. Children come before their parents, so that the copy of a branch
//!    carries its children's new checksums.
//! 3. The file is extended before anything is written past its end, in steps that grow with it up
//!    to a cap.
//! 4. After a sync has failed, in whatever thread, none succeeds: what a thread wrote may be what another's failed sync
//!    should have covered, and its own finds nothing left to do.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::stream::STREAM_BYTES;
use super::{Pager, Pin};
use crate::events;
use crate::format::node::{Child, Node};
use crate::format::{Fault, PageNumber, PageRef, node, page, put_u32};
use crate::{Error, Result};

/// Why bytes were written, for the statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Pages, by a checkpoint.
    Checkpoint,
    /// Pages of a large transaction, while it goes on.
    Spill,
    /// Long values, straight to their place.
    Run,
    /// Records of the log.
    Log,
    /// Header slots.
    Header,
}

/// Bytes and syncs by cause.
#[derive(Debug, Default)]
pub(crate) struct WriteCounters {
    bytes: [AtomicU64; 5],
    pub(crate) syncs: AtomicU64,
}

impl WriteCounters {
    pub(crate) fn add(&self, cause: Cause, bytes: u64) {
        if let Some(counter) = self.bytes.get(cause as usize) {
            counter.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_sync(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self, cause: Cause) -> u64 {
        self.bytes
            .get(cause as usize)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

/// Where the bytes of a page to be written come from.
pub(crate) trait PageSource {
    /// Calls `then` with the bytes of the page or run that starts at `page`.
    fn with_bytes(&self, page: PageNumber, then: &mut dyn FnMut(&[u8])) -> Result<()>;
}

/// Neighbouring pages are written together, up to this many bytes.
const GATHER_BYTES: usize = 256 << 10;
/// Below that, to ask the disk to begin costs more than it gains, for pages that nobody waits for yet.
const MANY_BYTES: usize = 64 << 10;
/// The disk begins with a long value when so much of it was copied; with [`STREAM_BYTES`], if it is as
/// long as that. (What is written by one call is one piece of the system's memory, and is shown by the
/// map in one step. In smaller parts, blobs of 16 and 64 MiB took twice as long to read, and came in no
/// faster.)
const START_BYTES: usize = 256 << 10;
const MIN_STEP_BYTES: u64 = 16 << 10;
const MAX_STEP_BYTES: u64 = 64 << 20;

impl Pager {
    /// Whether what a reference leads to was written, so that its checksum is known. That of the reference may be of what
    /// the page held before, if it is in memory only.
    pub(crate) fn knows_checksum(&self, target: &PageRef, pin: &Pin) -> bool {
        let Some(entry) = self.known(target.page) else {
            return target.checksum != 0;
        };
        if entry.checksum().is_some() {
            return true;
        }
        let frame = entry.frame.load(pin);
        target.checksum != 0 && frame.is_none_or(|frame| frame.is_clean())
    }

    /// Brings a copied page into the form it has in the file: children's checksums, its own. A branch is written after
    /// what is below it, or not at all (invariant 2): it could not be read again.
    fn stamp(&self, copy: &mut [u8], number: PageNumber) -> Result<()> {
        if page::kind(copy) == page::BRANCH {
            let pin = crate::pager::pin();
            let is_unknown = |child: &Child| !self.knows_checksum(&child.page, &pin);
            let unknown = Node::new(copy).children().find(is_unknown);
            if let Some(child) = unknown {
                let what = "a branch would be written before this page below it";
                let fault = Fault::new(what, 0, 0, u64::from(child.page.page));
                return Err(self.corrupt(number, fault));
            }
            node::patch_checksums(copy, |child| self.known(child)?.checksum());
        }
        let checksum = page::checksum(copy, number, self.salt());
        put_u32(copy, page::CHECKSUM, checksum);
        self.entry(number).set_checksum(checksum);
        Ok(())
    }

    /// Writes pages of one level, gathered where they are neighbours. `pages` is sorted, with
    /// whether each carries a page header (to be stamped) or is raw bytes. Levels are written from
    /// the leaves up (invariant 2). `after` is told how much each write wrote.
    pub(crate) fn write_pages(
        &self,
        pages: &[(PageNumber, bool)],
        source: &dyn PageSource,
        cause: Cause,
        after: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let size = self.page_size() as usize;
        let mut gathered: Vec<u8> = Vec::new();
        let mut start: PageNumber = 0;
        for &(number, is_node) in pages {
            let next = u64::from(start) + (gathered.len() / size) as u64;
            let far = next != u64::from(number) || gathered.len() >= GATHER_BYTES;
            if !gathered.is_empty() && far {
                self.write_gathered(start, &gathered, cause)?;
                after(gathered.len())?;
                gathered.clear();
            }
            if gathered.is_empty() {
                start = number;
            }
            let begin = gathered.len();
            source.with_bytes(number, &mut |bytes| gathered.extend_from_slice(bytes))?;
            if is_node && let Some(copy) = gathered.get_mut(begin..) {
                self.stamp(copy, number)?;
            }
            gathered.resize(gathered.len().next_multiple_of(size), 0);
        }
        if !gathered.is_empty() {
            self.write_gathered(start, &gathered, cause)?;
            after(gathered.len())?;
        }
        Ok(())
    }

    /// Writes whole pages.
    pub(crate) fn write_at(&self, first: PageNumber, bytes: &[u8], cause: Cause) -> Result<()> {
        let pages = bytes.len().div_ceil(self.page_size() as usize) as u64;
        self.ensure_pages(u64::from(first) + pages)?;
        let offset = self.offset(first);
        self.storage()
            .write_at(offset, bytes)
            .map_err(|error| Error::io("write a page", offset, error))?;
        self.written.add(cause, bytes.len() as u64);
        Ok(())
    }

    /// Writes whole pages, and has the disk begin with them if they are many. (A load in order took 0.87 of
    /// the time; one in random order, removals and compactions were as before.)
    fn write_gathered(&self, first: PageNumber, bytes: &[u8], cause: Cause) -> Result<()> {
        self.write_at(first, bytes, cause)?;
        if bytes.len() >= MANY_BYTES {
            self.storage()
                .start_write(self.offset(first), bytes.len() as u64);
        }
        Ok(())
    }

    /// Writes a long value, or several side by side, and has the disk begin with each part while the next one is
    /// copied.
    pub(crate) fn write_run(&self, first: PageNumber, bytes: &[u8]) -> Result<()> {
        // At once, so that a full disk is met before the first byte.
        let all = bytes.len().div_ceil(self.page_size() as usize) as u64;
        self.ensure_pages(u64::from(first) + all)?;
        let part_bytes = match bytes.len() < STREAM_BYTES as usize {
            true => START_BYTES,
            false => STREAM_BYTES as usize,
        };
        let pages = (part_bytes / self.page_size() as usize).max(1) as u32;
        let (mut at, mut rest) = (first, bytes);
        while !rest.is_empty() {
            // Each ends at a round place.
            let next = at.saturating_add(pages - at % pages);
            let length = (next - at) as usize * self.page_size() as usize;
            let (part, behind) = rest.split_at(length.min(rest.len()));
            self.write_at(at, part, Cause::Run)?;
            self.storage()
                .start_write(self.offset(at), part.len() as u64);
            (at, rest) = (next, behind);
        }
        Ok(())
    }

    pub(crate) fn sync_all(&self) -> Result<()> {
        self.written.count_sync();
        self.synced("sync", 0, self.storage().sync_all())
    }

    /// What a sync, or a write that syncs, has come to (invariant 4).
    pub(crate) fn synced(
        &self,
        operation: &'static str,
        offset: u64,
        outcome: io::Result<()>,
    ) -> Result<()> {
        if let Err(error) = outcome {
            let error = Error::io(operation, offset, error);
            return Err(self.sync_failure.get_or_init(|| error).clone());
        }
        self.sync_failure.get().cloned().map_or(Ok(()), Err)
    }

    /// The same for a panic on the way, which may have been within a sync.
    pub(crate) fn fail_syncs(&self, error: &Error) {
        let _ = self.sync_failure.set(error.clone());
    }

    /// Makes the file at least this long (invariant 3).
    pub(crate) fn ensure_pages(&self, pages: u64) -> Result<()> {
        if pages <= u64::from(self.file_pages()) {
            return Ok(());
        }
        let _growing = self.growing.lock();
        let size = u64::from(self.page_size());
        let now = u64::from(self.file_pages());
        if pages <= now {
            return Ok(());
        }
        if pages > u64::from(u32::MAX) {
            return Err(Error::FileFull {
                pages: u64::from(u32::MAX),
            });
        }
        let step = (now * size / 4).clamp(MIN_STEP_BYTES, MAX_STEP_BYTES) / size;
        let generous = (now + step).max(pages).min(u64::from(u32::MAX));
        // A nearly full disk may have room for what is needed and not for the step.
        let reached = match self.storage().set_length(generous * size) {
            Ok(()) => generous,
            Err(_) if generous > pages => {
                self.set_length(pages * size)?;
                pages
            }
            Err(error) => return Err(Error::io("extend the file", now * size, error)),
        };
        self.file_pages.store(reached as u32, Ordering::Release);
        Ok(())
    }

    /// Makes the file long enough for these pages, and has room kept for them on the device, where it can be.
    pub(crate) fn reserve_pages(&self, first: PageNumber, pages: u32) -> Result<()> {
        self.ensure_pages(u64::from(first) + u64::from(pages))?;
        let offset = self.offset(first);
        self.storage()
            .reserve(offset, u64::from(pages) * u64::from(self.page_size()))
            .map_err(|error| Error::io("reserve room", offset, error))
    }

    /// Gives the room of pages back to the device, for others and for other places of the file. They must be
    /// allocated, or the space be locked, so that nobody writes there meanwhile, and hold nothing that anybody needs.
    pub(crate) fn discard_pages(&self, first: PageNumber, pages: u32) {
        let length = u64::from(pages) * u64::from(self.page_size());
        // Not being able to give room back is no reason to fail.
        if let Err(error) = self.storage().discard(self.offset(first), length) {
            events::tell(move || tracing::warn!(%error, "room could not be given back"));
        }
    }

    /// Gives the tail of the file back. Nothing that a state can see is there, and readers check
    /// the length before they touch a map. What keeps others from taking places there, `held`, is let go of before the
    /// file is touched: who takes one then finds the file too short, and waits here to make it longer.
    pub(crate) fn truncate_pages<T>(&self, pages: u32, held: T) -> Result<()> {
        let _growing = self.growing.lock();
        if pages >= self.file_pages() {
            return Ok(());
        }
        self.file_pages.store(pages, Ordering::Release);
        drop(held);
        let cut = self.set_length(self.offset(pages));
        if cut.is_err()
            && let Ok(length) = self.storage().length()
        {
            // Who takes the file for shorter than it is makes it longer by cutting it, which fails again.
            let there = u32::try_from(length / u64::from(self.page_size())).unwrap_or(u32::MAX);
            self.file_pages.store(there.max(pages), Ordering::Release);
        }
        cut
    }

    fn set_length(&self, length: u64) -> Result<()> {
        self.storage()
            .set_length(length)
            .map_err(|error| Error::io("set the length of the file", length, error))
    }
}
