//! What the log's lock protects: the end of the log, what of it is written and durable, and who waits.

use std::collections::VecDeque;
use std::sync::Arc;

use super::geometry::Geometry;
use super::waiting::{Waiting, Woken};
use super::{Publication, Told};
use crate::format::record::{self, RecordHeader};
use crate::format::{Lsn, Version};
use crate::{Error, Result};

/// Kept free in the ring: a switch record and a mark.
const RESERVE_BYTES: u64 = 2 * record::RECORD_HEADER_BYTES as u64;

/// So many bytes of long values are synced together with the records that name them. An open has to
/// read them if it finds no proof that the sync was done; a second sync would cost a small blob a third
/// of its time.
const RUNS_TOGETHER_BYTES: u64 = 4 << 20;

#[derive(Debug)]
pub(super) struct Pending<S> {
    pub(super) end: Lsn,
    pub(super) state: Arc<S>,
}

#[derive(Debug)]
pub(super) struct Inner<S> {
    pub(super) geometry: Geometry,
    pub(super) end: Lsn,
    pub(super) last_crc: u32,
    pub(super) written: Lsn,
    pub(super) durable: Lsn,
    pub(super) buffer: Vec<u8>,
    /// The number of the durable checkpoint.
    pub(super) checkpoint: u64,
    pub(super) leading: bool,
    /// The number of the batch that is in `buffer`.
    pub(super) batch: u64,
    /// Somebody waits, for a time, until that batch is complete.
    pub(super) gathering: bool,
    /// Long values that were written to their place and are named by records in `buffer`.
    pub(super) runs: UnsyncedRuns,
    pub(super) pending: VecDeque<Pending<S>>,
    /// Who is to be told when which state is published, in order. Apart from `pending`, because a
    /// newer state may be published first. Kept after a failure: a buffered commit on top of
    /// those that failed may still be published.
    pub(super) notices: VecDeque<(Version, Box<dyn Publication>)>,
    pub(super) wakers: Waiting,
    /// Tasks that need not wait any more, for the background thread to wake.
    pub(super) left: Woken,
    pub(super) failed: Option<Arc<Error>>,
    /// Someone wants the background thread to lead.
    pub(super) kicked: bool,
    /// Records are in `buffer` that nobody waits for: the background thread leads in a while.
    pub(super) lingers: bool,
    /// Who leads holds locks above the log's: tasks are left to the background thread.
    pub(super) is_closing: bool,
    pub(super) stopping: bool,
    /// Commits in the last batch.
    pub(super) last_batch: u64,
    /// `records` when it was written.
    pub(super) batched: u64,
    pub(super) records: u64,
    pub(super) batches: u64,
    /// Batches that somebody waits for, the one that is on its way included.
    pub(super) awaited_batches: u64,
}

/// Long values that were written to their place and not synced.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UnsyncedRuns {
    pub(super) bytes: u64,
    /// They are too many to be read by an open: they are synced before the records are written.
    pub(super) come_first: bool,
}

impl UnsyncedRuns {
    /// Adds those of a record, and returns the flags that it takes.
    pub(super) fn add(&mut self, bytes: u64) -> u8 {
        self.bytes = self.bytes.saturating_add(bytes);
        match bytes {
            0 => 0,
            _ if self.bytes <= RUNS_TOGETHER_BYTES => record::FLAG_RUNS_UNSYNCED,
            _ => {
                self.come_first = true;
                0
            }
        }
    }
}

impl<S> Inner<S> {
    pub(super) fn room(&self, page_size: u32) -> u64 {
        let ring = self.geometry.current().length_bytes(page_size);
        let used = self.end - self.geometry.base();
        ring.saturating_sub(used).saturating_sub(RESERVE_BYTES)
    }

    pub(super) fn push(
        &mut self,
        kind: u8,
        flags: u8,
        version: Version,
        payload: &[u8],
        salt: u64,
    ) {
        let header = RecordHeader {
            length_bytes: payload.len() as u32,
            lsn: self.end,
            version,
            checkpoint: self.checkpoint,
            durable: self.durable,
            kind,
            flags,
            previous: self.last_crc,
            ..RecordHeader::default()
        };
        let before = self.buffer.len();
        self.last_crc = record::encode(&mut self.buffer, &header, payload, salt);
        self.end += (self.buffer.len() - before) as u64;
    }

    /// The mark that belongs at `end` once the log is durable up to there (invariant 7).
    pub(super) fn mark(&self, end: Lsn, flags: u8, salt: u64) -> Vec<u8> {
        let header = RecordHeader {
            lsn: end,
            checkpoint: self.checkpoint,
            durable: end,
            kind: record::MARK,
            flags,
            previous: self.last_crc,
            ..RecordHeader::default()
        };
        let mut bytes = Vec::new();
        record::encode(&mut bytes, &header, &[], salt);
        bytes
    }

    /// Whether everyone whom the last batch has woken is back.
    pub(super) fn is_complete(&self) -> bool {
        self.last_batch <= 1 || self.records >= self.batched + self.last_batch
    }

    /// The batch that makes the log durable up to `lsn`: the one in the buffer, or in flight.
    pub(super) fn batch_of(&self, lsn: Lsn) -> u64 {
        self.batch - u64::from(lsn <= self.written)
    }

    /// Closes the batch in the buffer, and returns its number.
    pub(super) fn next_batch(&mut self) -> u64 {
        self.gathering = false;
        self.batch += 1;
        self.batch - 1
    }

    pub(super) fn outcome(&self, lsn: Lsn) -> Option<Result<()>> {
        if self.durable >= lsn {
            return Some(Ok(()));
        }
        // The first failure itself, for everyone who was waiting for that write.
        self.failed.as_ref().map(|cause| Err((**cause).clone()))
    }

    pub(super) fn notices_up_to(&mut self, version: Version) -> Told {
        let due = self.notices.partition_point(|(of, _)| *of <= version);
        self.notices
            .drain(..due)
            .map(|(_, notice)| notice)
            .collect()
    }

    /// A checkpoint made everything before `lsn` durable: it need not be written any more.
    pub(super) fn skip_to(&mut self, lsn: Lsn) {
        if lsn > self.written {
            let skipped = (lsn - self.written) as usize;
            self.buffer.drain(..skipped.min(self.buffer.len()));
            self.written = lsn;
        }
    }
}
