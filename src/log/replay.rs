//! Reading the log back on open: which records count, where it ends, and whether that end is a
//! torn tail or damage.
//!
//! # Invariants
//!
//! 1. Records are accepted in order as long as each one is intact, at its position and linked to
//!    the one before. The first that is not ends the log.
//! 2. The end is a torn tail unless a record behind it proves otherwise: one that was appended
//!    when the log was already durable past the end, or under a checkpoint newer than the one
//!    that is being opened. Then acknowledged commits are damaged, and opening fails.
//! 3. A commit whose long values were synced together with its record counts if the log is known to
//!    have been durable behind it, or if all of them are there. The first that does not count ends
//!    the log.
//! 4. A record behind the end is told of, so that no later one is made with its version or a lower one. Else the record
//!    that is missing in front of it could be made again, byte for byte, and it would belong to the log again.
//! 5. That the file was closed cleanly is believed if nothing near behind that mark proves otherwise: a disk can give back
//!    an old version of its sector, from before a later session began there. No farther, as clean files open in a time that
//!    does not follow the ring.

use std::ops::Range;

use super::behind::find_proof;
use super::ring::{self, Ring};
use super::{Geometry, Position};
use crate::checksum;
use crate::format::header::Header;
use crate::format::record::{self, Operation, Operations, RecordHeader};
use crate::format::{Lsn, RunRef, Version};
use crate::pager::Pager;
use crate::{Error, Result};

/// Long values are read, and written again, in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// So far behind the mark of a clean close proof is looked for (invariant 5): as much as was read of the ring for it.
const BEHIND_CLEAN_BYTES: u64 = ring::PIECE_BYTES as u64;

/// An accepted commit record.
#[derive(Debug)]
pub(crate) struct Commit {
    pub version: Version,
    pub lsn: Lsn,
    /// Its long values were synced together with it (invariant 3).
    has_unsynced_runs: bool,
    /// Which ring's bytes the payload is in, and where.
    ring: usize,
    payload: Range<usize>,
}

/// What the log holds.
#[derive(Debug)]
pub(crate) struct Scan {
    pub commits: Vec<Commit>,
    pub end: Position,
    pub geometry: Geometry,
    /// The last session closed the file: there is nothing to recover.
    pub is_clean: bool,
    /// The highest version of a record behind the end (invariant 4), or 0.
    pub newest_dropped: Version,
    /// The log is known to have been durable up to here.
    proven: Lsn,
    rings: Vec<Ring>,
}

impl Scan {
    pub(crate) fn payload(&self, commit: &Commit) -> &[u8] {
        self.rings
            .get(commit.ring)
            .and_then(|ring| ring.bytes.get(commit.payload.clone()))
            .unwrap_or_default()
    }

    /// Writes and syncs the accepted records again, and the long values that no sync is known of: that
    /// they can be read does not mean that they are durable, if the last session's sync failed.
    pub(crate) fn rewrite(&self, pager: &Pager) -> Result<()> {
        self.rewrite_runs(pager)?;
        for (index, ring) in self.rings.iter().enumerate() {
            let end = match self.geometry.switched {
                Some((at, _)) if index == 0 => at,
                _ => self.end.lsn,
            };
            let length = end.saturating_sub(ring.base) as usize;
            let bytes = ring.bytes.get(..length).unwrap_or_default();
            let start = ring.base % ring.length_bytes.max(1);
            let before_end = (ring.length_bytes - start).min(bytes.len() as u64) as usize;
            let (head, tail) = bytes.split_at(before_end);
            for (within, piece) in [(start, head), (0, tail)] {
                if piece.is_empty() {
                    continue;
                }
                let offset = pager.offset(ring.region.first) + within;
                let written = pager.storage().write_sync_at(offset, piece);
                pager.synced("write the log again", offset, written)?;
            }
        }
        Ok(())
    }

    /// Where the first commit is whose long values should be there and are not (invariant 3).
    fn first_incomplete(&self, pager: &Pager) -> Result<Option<Lsn>> {
        // Long values share no page: if they are longer than the file, they are not all there.
        let mut room = u64::from(pager.file_pages());
        for (commit, run) in self.unproven_runs() {
            let left = room.checked_sub(u64::from(run.pages(pager.page_size())));
            room = left.unwrap_or(0);
            if left.is_none() || !is_there(pager, &run)? {
                return Ok(Some(commit.lsn));
            }
        }
        Ok(None)
    }

    /// Long values that no sync is known of. A payload that does not parse is found in replay.
    fn unproven_runs(&self) -> impl Iterator<Item = (&Commit, RunRef)> {
        let is_unproven = |commit: &&Commit| commit.has_unsynced_runs && commit.lsn >= self.proven;
        let commits = self.commits.iter().filter(is_unproven);
        commits.flat_map(|commit| {
            let operations = Operations::new(self.payload(commit)).map_while(|found| found);
            let runs = operations.filter_map(|operation| match operation {
                Operation::PutRun { run, .. } => Some(run),
                _ => None,
            });
            runs.map(move |run| (commit, run))
        })
    }

    /// Each to the end of its last page: a failed sync may have lost the length of the file, which ends with a page.
    fn rewrite_runs(&self, pager: &Pager) -> Result<()> {
        let write = |offset, piece: &[u8]| {
            let written = pager.storage().write_at(offset, piece);
            written.map_err(|error| Error::io("write a long value again", offset, error))
        };
        let mut is_any = false;
        for (_, run) in self.unproven_runs() {
            is_any = true;
            pager.check_place(run.first, u64::from(run.pages(pager.page_size())))?;
            for_each_piece(pager, &run, write)?;
            let end = pager.offset(run.first) + u64::from(run.length_bytes);
            let rest = end.next_multiple_of(pager.page_size().into()) - end;
            if rest > 0 {
                write(end, &vec![0; rest as usize])?;
            }
        }
        if is_any { pager.sync_all() } else { Ok(()) }
    }
}

/// Hands out a long value's bytes piece by piece, with the place of each in the file.
fn for_each_piece(
    pager: &Pager,
    run: &RunRef,
    mut then: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; PIECE_BYTES.min(run.length_bytes as usize)];
    let mut offset = pager.offset(run.first);
    let end = offset.saturating_add(u64::from(run.length_bytes));
    while offset < end {
        let length = (end - offset).min(PIECE_BYTES as u64) as usize;
        let piece = buffer.get_mut(..length).unwrap_or_default();
        pager
            .storage()
            .read_at(offset, piece)
            .map_err(|error| Error::io("read a long value", offset, error))?;
        then(offset, piece)?;
        offset += length as u64;
    }
    Ok(())
}

/// Whether a long value that the log names is in its place.
fn is_there(pager: &Pager, run: &RunRef) -> Result<bool> {
    let pages = run.pages(pager.page_size());
    if pager.check_place(run.first, u64::from(pages)).is_err() {
        return Ok(false);
    }
    let mut checksum = 0;
    for_each_piece(pager, run, |_, piece| {
        checksum = checksum::append(checksum, piece);
        Ok(())
    })?;
    Ok(checksum == run.checksum)
}

/// Reads the log from the header's start to its end.
pub(crate) fn scan(pager: &Pager, header: &Header) -> Result<Scan> {
    let mut found = follow(pager, header, Lsn::MAX)?;
    if let Some(missing) = found.first_incomplete(pager)? {
        found = follow(pager, header, missing)?;
    }
    let newest_dropped = refuse_damage(pager, header, &found)?;
    if !found.is_clean {
        found.newest_dropped = newest_dropped;
    }
    Ok(found)
}

/// Reads the records in front of `limit`.
fn follow(pager: &Pager, header: &Header, limit: Lsn) -> Result<Scan> {
    let second = (header.next_log.pages > 0).then_some(header.next_log);
    let mut found = Scan {
        commits: Vec::new(),
        end: Position {
            lsn: header.log_start,
            crc: header.log_start_crc,
        },
        geometry: Geometry {
            start: header.log_start,
            first: header.log,
            switched: None,
            next: second,
        },
        is_clean: false,
        newest_dropped: 0,
        proven: header.log_start,
        rings: vec![Ring::new(pager, header.log, header.log_start)],
    };
    while found.end.lsn < limit
        && let Some(ring) = found.rings.last_mut()
        && let Some(record) = ring.accept(pager, found.end)?
    {
        if record.checkpoint > header.checkpoint {
            return Err(damaged(pager, header, ring, found.end.lsn, &record));
        }
        found.proven = found.proven.max(record.durable);
        if record.kind == record::MARK {
            found.is_clean = record.flags & record::FLAG_CLEAN != 0;
            break;
        }
        let index = (found.end.lsn - ring.base) as usize;
        let start = index + record::RECORD_HEADER_BYTES;
        let bytes = record::record_bytes(record.length_bytes.into());
        let from = found.end.lsn;
        found.end = Position {
            lsn: from + bytes,
            crc: record.checksum,
        };
        if record.kind == record::SWITCH {
            let Some(region) = found.geometry.next.take() else {
                return Err(damaged(pager, header, ring, from, &record));
            };
            found.geometry.switched = Some((found.end.lsn, region));
            found.rings.push(Ring::new(pager, region, found.end.lsn));
        } else {
            found.commits.push(Commit {
                version: record.version,
                lsn: from,
                has_unsynced_runs: record.flags & record::FLAG_RUNS_UNSYNCED != 0,
                ring: found.rings.len() - 1,
                payload: start..start + record.length_bytes as usize,
            });
        }
    }
    Ok(found)
}

/// Looks at what lies behind the end. Gives the highest version there is (invariant 4).
fn refuse_damage(pager: &Pager, header: &Header, found: &Scan) -> Result<Version> {
    let end = found.end.lsn;
    let mut newest = 0;
    let not_entered = found.geometry.next;
    let not_entered = not_entered.map(|region| Ring::new(pager, region, end));
    let current = found.rings.last();
    let within = match found.is_clean {
        true => BEHIND_CLEAN_BYTES,
        false => u64::MAX,
    };
    for ring in current.into_iter().chain(&not_entered) {
        if let Some(proof) = find_proof(pager, ring, end, within, header.checkpoint, &mut newest)? {
            return Err(damaged(pager, header, current.unwrap_or(ring), end, &proof));
        }
    }
    Ok(newest)
}

fn damaged(pager: &Pager, header: &Header, ring: &Ring, lsn: Lsn, proof: &RecordHeader) -> Error {
    if proof.checkpoint > header.checkpoint {
        let slot = proof.checkpoint % 2;
        return Error::Corrupt {
            what: "the header slot of the newest checkpoint is damaged",
            page: slot,
            offset: slot * u64::from(header.page_size),
            expected: proof.checkpoint,
            found: header.checkpoint,
        };
    }
    Error::LogDamaged {
        lsn,
        offset: ring.offset(pager, lsn),
        later_lsn: proof.lsn,
    }
}
