//! Where the log's ring lies: a checkpoint lays out a larger one, a compaction one further to the front.
//!
//! # Invariants
//!
//! 1. A ring has its room on the device, where the storage can tell, before a place behind it can be given away. Else
//!    commits would lie behind one that the disk has no room for, where the file cannot be cut: its zeros would stay, and
//!    leave no room for the pages of those commits. The space is locked for that long: commits wait for the system to
//!    find the blocks, readers do not.
//! 2. A ring that does not come to be has given its room back before its place can be taken by others.

use std::sync::atomic::Ordering;

use super::checkpoint::{Job, Purpose};
use super::engine::Engine;
use super::pace::Pace;
use crate::events;
use crate::format::PageNumber;
use crate::format::header::LogRegion;
use crate::pager::Cause;
use crate::{Error, Result};

/// The ring grows by this factor when it fills up, until it reaches the limit, or [`DATA_SHARE`].
const RING_GROWTH: u64 = 8;

/// A checkpoint comes when half of the ring is full, and writes no more than the data. In a ring of twice the data it
/// writes no more than the log did, so a longer one gains little. (With 50 KB of data a file that was written to again
/// and again became 20 to 52 MiB long, now 6 to 8, and commits took as long; with 1 MB 48 to 57, now 11 to 23.)
const DATA_SHARE: u64 = 2;

/// By how much the ring grows when a commit had to wait for room.
const STALLED_GROWTH: u64 = 64;

/// So long a ring is enough for less data.
const SMALL_RING_BYTES: u64 = 4 << 20;

/// Where commits had to wait for room in it, it may be this many times as long.
const STALLED_SHARE: u64 = 2;

/// For records that are large for the ring, it becomes this part of the file at least: in a large
/// file each record dirties as many pages as it has entries, so it pays to make few checkpoints.
/// So it does with a transaction that commits by a checkpoint, but is never longer than what that wrote: in the
/// ring that a load of 1,000,000 entries met, the 50th small commit began the next checkpoint, and 100 of them
/// took 15 to 19 instead of 11 to 16 ms, 50,000 unsynced ones 239 to 307 instead of 198 to 229 (six turns each).
const LARGE_SHARE: u64 = 8;

/// A compaction makes the ring this part of the file, if it is larger. It grows again soon if there is
/// much to write; until then it is only bytes.
const COMPACT_RING_SHARE: u64 = 512;

/// Where there is nothing else to do, a compaction shortens a ring that is more than this part of the file.
const LONG_RING_SHARE: u32 = 32;
/// And longer than this, so that the file is shorter afterwards whatever else has to move.
const LONG_RING_PAGES: u32 = 24;

/// A new ring is written in pieces of this length. The system keeps what one call wrote in one piece of
/// its cache, and goes through all of that piece's blocks for each later write into it and for each sync:
/// commits took 3 to 6 % longer in a ring written by 256 KiB, and a tenth to a seventh by 1 MiB and more.
const ZEROS_AT_ONCE_BYTES: usize = 16 << 10;

/// So many zeros are written before commits that wait for the device are let go first: they may wait for this
/// very ring.
const ZEROS_BEFORE_A_PAUSE_BYTES: usize = 256 << 10;

/// Where there is no room for a longer ring, so many checkpoints do without one before the next try, at the most.
const MOST_RESTS_LOG2: u32 = 6;

/// The ring of a new file: an empty database stays below 64 KiB.
pub(crate) const FIRST_RING_BYTES: u32 = 32 << 10;

impl Engine {
    /// Lays out a larger ring for the log if the present one is too small; for a compaction, one
    /// further to the front, and smaller if the file is. It is filled with zeros, so that later
    /// syncs overwrite and change no metadata, and so that nothing that lay there (a value can hold
    /// a copy of a log) is taken for records.
    pub(super) fn write_new_ring(&self, job: &Job, pace: &mut Pace) -> Result<Option<LogRegion>> {
        // With the position of the checkpoint behind a switch, the log is in one ring again.
        let (present, next) = self.log.geometry().regions_from(job.position.lsn);
        if next.is_some() {
            return Ok(None);
        }
        let wanted = match job.purpose {
            Purpose::Compact(cutoff) => self.compact_ring_bytes(present, cutoff),
            Purpose::Close => None,
            Purpose::Routine if self.rests() => None,
            Purpose::Routine => self.grown_ring_bytes(present, self.bulk_bytes(job)),
        };
        let Some(bytes) = wanted else { return Ok(None) };
        let pages = bytes.div_ceil(u64::from(self.pager.page_size()));
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        let first = match self.place_ring(job, present, pages) {
            Err(error) if is_no_room(&error) => {
                self.cut_tail_within();
                return Ok(self.without_ring(bytes));
            }
            placed => placed?,
        };
        let Some(first) = first else { return Ok(None) };
        let ring = LogRegion { first, pages };
        if let Err(error) = self.zero_fill(ring, pace) {
            self.undo_ring(Some(ring))?;
            // After a failed sync there is nothing to go on with.
            if is_no_room(&error) && self.log.failure().is_none() {
                self.cut_tail_within();
                return Ok(self.without_ring(bytes));
            }
            return Err(error);
        }
        self.wanted_ring_bytes.store(0, Ordering::Relaxed);
        self.ring_refusals.store(0, Ordering::Relaxed);
        Ok(Some(ring))
    }

    /// A place with room for a ring of so many pages, if there is one that is worth it. The room is asked for before
    /// anything can be allocated behind the ring (invariant 1).
    fn place_ring(&self, job: &Job, present: LogRegion, pages: u32) -> Result<Option<PageNumber>> {
        let mut space = self.space.lock();
        let first = space.allocate_run(&self.pager, pages)?;
        // A compaction must not make the file larger: but where there is no gap in front of a
        // ring that is much too long, a shorter one behind it gives more than it takes, and the
        // next round finds the place of the long one free.
        let is_worse = first > present.first && pages > present.pages / 2;
        if job.purpose != Purpose::Routine && is_worse {
            space.release(&self.pager, first, pages)?;
            return Ok(None);
        }
        let reserved = self.pager.reserve_pages(first, pages);
        let reserved = match job.purpose {
            Purpose::Routine => reserved.and_then(|()| self.check_spare(space.end(), pages)),
            _ => reserved,
        };
        if reserved.is_err() {
            self.pager.discard_pages(first, pages); // a part of the room may be taken
            space.release(&self.pager, first, pages)?;
        }
        reserved.map(|()| Some(first))
    }

    /// Whether there would be room for so many pages more, behind the end. The records of a ring change pages, and one
    /// that leaves these no room is worse than none. Called with the space locked, so that nothing can lie there.
    fn check_spare(&self, end: PageNumber, pages: u32) -> Result<()> {
        let length = self.pager.file_pages().max(end);
        let reserved = self.pager.reserve_pages(end, pages);
        self.pager.discard_pages(end, pages);
        // Not being able to give space back is no reason to fail.
        if let Err(error) = self.pager.truncate_pages(length, ()) {
            events::tell(move || tracing::warn!(%error, "the file could not be shortened"));
        }
        reserved
    }

    /// Without a longer ring commits take longer, or are by a checkpoint. It is tried again, less and less often: where
    /// room cannot be asked for, each time fills the disk with zeros, for all who share it, before it gives way.
    fn without_ring(&self, bytes: u64) -> Option<LogRegion> {
        events::tell(move || tracing::warn!(bytes, "no room for a longer log"));
        self.wanted_ring_bytes.store(0, Ordering::Relaxed);
        let refusals = self.ring_refusals.fetch_add(1, Ordering::Relaxed);
        let rests = (1 << refusals.min(MOST_RESTS_LOG2)) - 1;
        self.ring_rests.store(rests, Ordering::Relaxed);
        None
    }

    /// Whether this checkpoint does not ask for a longer ring.
    fn rests(&self) -> bool {
        let left = |rests: u32| rests.checked_sub(1);
        let order = Ordering::Relaxed;
        self.ring_rests.fetch_update(order, order, left).is_ok()
    }

    /// What a transaction wrote that commits with the checkpoint and leaves a log for what comes after it.
    fn bulk_bytes(&self, job: &Job) -> u64 {
        let outcome = job.candidate.as_ref().map(|(outcome, _)| outcome);
        let outcome = outcome.filter(|_| self.settings.leaves_log);
        let runs = outcome.into_iter().flat_map(|outcome| &outcome.allocated);
        let pages: u64 = runs.map(|(_, pages)| u64::from(*pages)).sum();
        pages * u64::from(self.pager.page_size())
    }

    fn grown_ring_bytes(&self, present: LogRegion, bulk_bytes: u64) -> Option<u64> {
        let now = present.length_bytes(self.pager.page_size());
        let wanted = self.wanted_ring_bytes.load(Ordering::Relaxed);
        let limit = self.settings.log_limit_bytes;
        if now >= limit {
            return None;
        }
        // The file itself becomes that long later, when what is new has been written.
        let share = self.pager.offset(self.end_and_free().0) / LARGE_SHARE;
        let bulk = share.min(bulk_bytes).min(limit);
        let grown = if self.log.is_half_full() || wanted > now {
            let share = if wanted > 0 { share } else { bulk };
            let enough = match self.enough_ring_for_data(present) {
                enough if enough < 2 * now => now, // the place of each ring is a gap later
                enough => enough.min(now * RING_GROWTH),
            };
            enough.max(wanted).max(share).min(limit)
        } else if bulk < 2 * now {
            now // a little longer is not worth a ring of its own
        } else {
            bulk
        };
        (grown > now).then_some(grown)
    }

    /// How long a ring is worth its length, for what the newest state uses.
    fn enough_ring_for_data(&self, present: LogRegion) -> u64 {
        let waiting = self.core.lock().reclaimer.waiting_pages();
        let (end, free) = self.end_and_free();
        let beside = waiting + u64::from(free) + u64::from(present.pages);
        let data = u64::from(end).saturating_sub(beside);
        let data_bytes = data * u64::from(self.pager.page_size());
        (data_bytes * DATA_SHARE).max(SMALL_RING_BYTES)
    }

    /// How long a ring that made commits wait shall become.
    pub(super) fn ring_after_a_stall(&self) -> u64 {
        let (present, _) = self.log.geometry().regions_from(self.log.position().lsn);
        let most = self.enough_ring_for_data(present) * STALLED_SHARE;
        (self.log.ring_bytes() * STALLED_GROWTH).min(most)
    }

    fn compact_ring_bytes(&self, present: LogRegion, cutoff: PageNumber) -> Option<u64> {
        let enough = self.enough_ring_bytes(present, cutoff);
        let is_in_tail = present.first + present.pages > cutoff;
        (is_in_tail || self.is_too_long(present, enough)).then_some(enough)
    }

    /// How long a compaction leaves the ring in a file of that many pages.
    fn enough_ring_bytes(&self, ring: LogRegion, pages: u32) -> u64 {
        let share = self.pager.offset(pages) / COMPACT_RING_SHARE;
        let now = ring.length_bytes(self.pager.page_size());
        share.max(u64::from(FIRST_RING_BYTES)).min(now)
    }

    fn is_too_long(&self, ring: LogRegion, enough_bytes: u64) -> bool {
        ring.length_bytes(self.pager.page_size()) > enough_bytes + enough_bytes / 2
    }

    /// Whether a compaction would make the file much shorter by its log alone.
    pub(crate) fn has_long_ring(&self) -> bool {
        let (present, next) = self.log.geometry().regions_from(self.log.position().lsn);
        let ring = next.unwrap_or(present);
        let (end, _) = self.end_and_free();
        ring.pages > (end / LONG_RING_SHARE).max(LONG_RING_PAGES)
            && self.is_too_long(ring, self.enough_ring_bytes(ring, end))
    }

    fn zero_fill(&self, ring: LogRegion, pace: &mut Pace) -> Result<()> {
        let zeros = vec![0; ZEROS_AT_ONCE_BYTES.max(self.pager.page_size() as usize)];
        let step = (zeros.len() / self.pager.page_size() as usize) as u32;
        let mut at = ring.first;
        let mut written_bytes = 0;
        while at < ring.first + ring.pages {
            let pages = step.min(ring.first + ring.pages - at);
            let bytes = zeros
                .get(..pages as usize * self.pager.page_size() as usize)
                .unwrap_or_default();
            self.pager.write_at(at, bytes, Cause::Checkpoint)?;
            written_bytes += bytes.len();
            if written_bytes >= ZEROS_BEFORE_A_PAUSE_BYTES {
                self.give_way(pace, std::mem::take(&mut written_bytes))?;
            }
            at += pages;
        }
        self.give_way(pace, written_bytes)
    }

    /// Rings that the header before this one names, and this one does not.
    pub(super) fn rings_given_up(&self, job: &Job) -> Vec<LogRegion> {
        let (log, next) = self.log.geometry().regions_from(job.position.lsn);
        let kept = [Some(log), next];
        [job.before.log, job.before.next_log]
            .into_iter()
            .filter(|ring| ring.pages > 0 && !kept.contains(&Some(*ring)))
            .collect()
    }

    /// Goes on without the ring, which the space map of the checkpoint names already.
    pub(super) fn forget_ring(&self, job: &mut Job, ring: LogRegion) -> Result<()> {
        let _ = self.without_ring(ring.length_bytes(self.pager.page_size()));
        {
            let mut space = self.space.lock();
            for page in ring.first..ring.first.saturating_add(ring.pages) {
                space.set_used_in(&self.pager, &mut job.image, page, false)?;
            }
            self.pager.discard_pages(ring.first, ring.pages); // invariant 2
            space.release(&self.pager, ring.first, ring.pages)?;
        }
        self.cut_tail_within();
        Ok(())
    }

    pub(super) fn undo_ring(&self, ring: Option<LogRegion>) -> Result<()> {
        let Some(ring) = ring else { return Ok(()) };
        let mut space = self.space.lock();
        space.set_used(&self.pager, ring.first, ring.pages, false)?;
        self.pager.discard_pages(ring.first, ring.pages); // invariant 2
        space.release(&self.pager, ring.first, ring.pages)
    }

    /// The rings of the header before stay in use, the new one does not come to be.
    pub(super) fn undo_rings(&self, job: &Job, new_ring: Option<LogRegion>) -> Result<()> {
        self.undo_ring(new_ring)?;
        let mut space = self.space.lock();
        for ring in self.rings_given_up(job) {
            space.set_used(&self.pager, ring.first, ring.pages, true)?;
        }
        Ok(())
    }
}

/// The disk is full, or the file cannot be as long.
fn is_no_room(error: &Error) -> bool {
    error.is_disk_full() || matches!(error, Error::FileFull { .. })
}

#[cfg(test)]
mod tests {
    use std::io::{Error as IoError, ErrorKind};

    use super::*;

    #[test]
    fn only_want_of_room_is_a_reason_to_go_on_without_a_ring() {
        let of = |kind| is_no_room(&Error::io("write a page", 0, IoError::from(kind)));
        assert!(of(ErrorKind::StorageFull) && of(ErrorKind::QuotaExceeded));
        assert!(of(ErrorKind::FileTooLarge));
        assert!(is_no_room(&Error::FileFull { pages: 1 }));
        assert!(!of(ErrorKind::Other) && !is_no_room(&Error::Closed));
    }
}
