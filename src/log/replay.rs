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

use std::ops::Range;

use super::{Geometry, Position};
use crate::checksum;
use crate::format::header::{Header, LogRegion, MAX_COUNT};
use crate::format::record::{self, Operation, Operations, RecordHeader};
use crate::format::{Lsn, RunRef, Version};
use crate::pager::Pager;
use crate::{Error, Result};

/// The log and long values are read, and long values written again, in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// See [`Ring::find_proof`].
const LOOKS_AT_RING: u64 = 8;

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
            let before_end = (ring.length_bytes - start) as usize;
            let (head, tail) = bytes.split_at(bytes.len().min(before_end));
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

/// A ring as it is read: its bytes from position `base` on are kept as far as its records go. (A ring is mostly
/// longer than these. To keep all of two rings took 50 to 70 ms, most of it for memory.)
#[derive(Debug)]
struct Ring {
    region: LogRegion,
    base: Lsn,
    length_bytes: u64,
    bytes: Vec<u8>,
}

impl Ring {
    fn new(pager: &Pager, region: LogRegion, base: Lsn) -> Self {
        Ring {
            region,
            base,
            length_bytes: region.length_bytes(pager.page_size()),
            bytes: Vec::new(),
        }
    }

    /// The byte offset in the file of a position.
    fn offset(&self, pager: &Pager, lsn: Lsn) -> u64 {
        pager.offset(self.region.first) + lsn % self.length_bytes.max(1)
    }

    /// Reads on until `end_bytes` are here, or all.
    fn fill(&mut self, pager: &Pager, end_bytes: u64) -> Result<()> {
        let end = end_bytes.min(self.length_bytes);
        while (self.bytes.len() as u64) < end {
            let here = self.bytes.len() as u64;
            let piece = (PIECE_BYTES as u64).min(self.length_bytes - here);
            self.bytes.resize((here + piece) as usize, 0);
            let to = self.bytes.get_mut(here as usize..).unwrap_or_default();
            read_ring(pager, self.region, self.base.saturating_add(here), to)?;
        }
        Ok(())
    }

    /// The next record, if it is one (invariant 1).
    fn accept(&mut self, pager: &Pager, at: Position) -> Result<Option<RecordHeader>> {
        let index = at.lsn.saturating_sub(self.base);
        let head_end = index.saturating_add(record::RECORD_HEADER_BYTES as u64);
        self.fill(pager, head_end)?;
        let Some(header) = record::decode_header(self.rest(index)) else {
            return Ok(None);
        };
        let linked = header.lsn == at.lsn && header.previous == at.crc;
        if !linked {
            return Ok(None);
        }
        let bytes = record::record_bytes(header.length_bytes as usize) as u64;
        self.fill(pager, index.saturating_add(bytes))?;
        let is_intact = record::is_intact(self.rest(index), &header, pager.salt());
        Ok(is_intact.then_some(header))
    }

    fn rest(&self, index: u64) -> &[u8] {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.bytes.get(index..).unwrap_or_default()
    }

    /// A record at or behind `end` that proves that the log was durable further than that, or that
    /// a newer checkpoint was (invariant 2). What a crash leaves takes up no more than the ring, but for a few that look
    /// so and are not: with so many that to look at them took as long as [`LOOKS_AT_RING`] rings, one is taken for a
    /// proof of damage. `newest` becomes the highest version of all that prove nothing.
    fn find_proof(
        &self,
        pager: &Pager,
        end: Lsn,
        checkpoint: u64,
        newest: &mut Version,
    ) -> Result<Option<RecordHeader>> {
        let mut place = 0;
        let mut left_bytes = self.length_bytes.saturating_mul(LOOKS_AT_RING);
        let mut buffer = vec![0; PIECE_BYTES + record::RECORD_HEADER_BYTES];
        let mut of_record = Vec::new();
        while place < self.length_bytes {
            let piece = (PIECE_BYTES as u64).min(self.length_bytes - place);
            let piece = piece.min(self.length_bytes.div_ceil(2)) as usize;
            let lsn = self.base.saturating_add(place);
            // A header may begin in this piece and end in the next, or where this view began.
            let bytes = buffer.get_mut(..piece + record::RECORD_HEADER_BYTES);
            let bytes = bytes.unwrap_or_default();
            read_ring(pager, self.region, lsn, bytes)?;
            for (index, header) in headers(bytes, piece) {
                let place = lsn.saturating_add(index as u64) % self.length_bytes;
                let in_place = header.lsn >= end && header.lsn % self.length_bytes == place;
                let proves = header.durable > end || header.checkpoint > checkpoint;
                let is_of_use = proves || (*newest + 1..=MAX_COUNT).contains(&header.version);
                let length = record::record_bytes(header.length_bytes as usize) as u64;
                if !in_place || !is_of_use || length > self.length_bytes {
                    continue;
                }
                let Some(left) = left_bytes.checked_sub(length) else {
                    return Ok(Some(header));
                };
                left_bytes = left;
                if !self.is_intact(pager, &header, &mut of_record)? {
                    continue;
                }
                if proves {
                    return Ok(Some(header));
                }
                *newest = header.version;
            }
            place += piece as u64;
        }
        Ok(None)
    }

    /// Whether the record that this seems to be the header of, and that fits the ring, is there.
    fn is_intact(
        &self,
        pager: &Pager,
        header: &RecordHeader,
        buffer: &mut Vec<u8>,
    ) -> Result<bool> {
        buffer.resize(record::record_bytes(header.length_bytes as usize), 0);
        read_ring(pager, self.region, header.lsn, buffer)?;
        Ok(record::is_intact(buffer, header, pager.salt()))
    }
}

/// What looks like the header of a record, wherever one can begin in front of `end`.
fn headers(bytes: &[u8], end: usize) -> impl Iterator<Item = (usize, RecordHeader)> {
    let places = (0..end).step_by(record::ALIGN_BYTES);
    places.filter_map(|index| {
        let bytes = bytes.get(index..)?;
        let is_one = bytes.starts_with(&record::MAGIC);
        Some((index, is_one.then(|| record::decode_header(bytes))??))
    })
}

/// Reads what lies from a position of a ring on, around its end.
fn read_ring(pager: &Pager, region: LogRegion, lsn: Lsn, to: &mut [u8]) -> Result<()> {
    let length = region.length_bytes(pager.page_size());
    let start = lsn % length.max(1);
    let before_end = (length - start).min(to.len() as u64) as usize;
    let (head, tail) = to.split_at_mut(before_end);
    for (within, piece) in [(start, head), (0, tail)] {
        if piece.is_empty() {
            continue;
        }
        let offset = pager.offset(region.first) + within;
        let read = pager.storage().read_at(offset, piece);
        read.map_err(|error| Error::io("read the log", offset, error))?;
    }
    Ok(())
}

/// Reads the log from the header's start to its end.
pub(crate) fn scan(pager: &Pager, header: &Header) -> Result<Scan> {
    let mut found = follow(pager, header, Lsn::MAX)?;
    if let Some(missing) = found.first_incomplete(pager)? {
        found = follow(pager, header, missing)?;
    }
    if !found.is_clean {
        found.newest_dropped = refuse_damage(pager, header, &found)?;
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
        let bytes = record::record_bytes(record.length_bytes as usize) as u64;
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
    for ring in current.into_iter().chain(&not_entered) {
        if let Some(proof) = ring.find_proof(pager, end, header.checkpoint, &mut newest)? {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pager::Cause;
    use crate::storage::MemoryStorage;

    const SALT: u64 = 7;
    const LENGTH: u64 = 800 << 10;

    /// A ring with one record, which was durable further than to `end`, at a position of the lap after it.
    fn ring_with(lsn: Lsn, payload_bytes: usize) -> (Pager, LogRegion) {
        let pager = Pager::new(Arc::new(MemoryStorage::new()), 4096, SALT, 1 << 20).unwrap();
        let (first, pages) = (2, (LENGTH / 4096) as u32);
        pager.ensure_pages(u64::from(first + pages)).unwrap();
        let mut bytes = Vec::new();
        let header = RecordHeader {
            length_bytes: payload_bytes as u32,
            lsn,
            durable: lsn,
            kind: record::COMMIT,
            ..RecordHeader::default()
        };
        record::encode(&mut bytes, &header, &vec![3; payload_bytes], SALT);
        let mut image = vec![0; LENGTH as usize];
        for (byte, place) in bytes.iter().zip(lsn..) {
            image[(place % LENGTH) as usize] = *byte;
        }
        pager.write_at(first, &image, Cause::Log).unwrap();
        (pager, LogRegion { first, pages })
    }

    /// Invariant 2: also where it goes from one piece to the next, or over the place where the view begins.
    #[test]
    fn a_record_that_proves_more_is_found_wherever_it_lies() {
        let base = 40 << 10;
        let edges = [0, PIECE_BYTES as u64, 2 * PIECE_BYTES as u64, LENGTH];
        let near = [-64_i64, -56, -48, -8, 0, 8, 100_000];
        for (edge, offset) in edges.into_iter().flat_map(|e| near.map(|n| (e, n))) {
            let lsn = (base + LENGTH + edge).saturating_add_signed(offset);
            for payload_bytes in [0, 1000, 100 << 10] {
                let (pager, region) = ring_with(lsn, payload_bytes);
                let ring = Ring::new(&pager, region, base);
                let found = ring.find_proof(&pager, base + 8, 1, &mut 0).unwrap();
                let found = found.map(|header| header.lsn);
                assert_eq!(found, Some(lsn), "{edge} {offset} {payload_bytes}");
                // One that was not durable further than to where the log ends proves nothing.
                let found = ring.find_proof(&pager, lsn, 1, &mut 0).unwrap();
                assert!(found.is_none());
            }
        }
    }

    /// A ring full of what looks like records that prove something, and are none, each as long as the ring.
    #[test]
    fn headers_without_end_are_not_looked_at_without_end() {
        let base = 40 << 10;
        let pager = Pager::new(Arc::new(MemoryStorage::new()), 4096, SALT, 1 << 20).unwrap();
        let (first, pages) = (2, (LENGTH / 4096) as u32);
        pager.ensure_pages(u64::from(first + pages)).unwrap();
        let mut image = Vec::new();
        while image.len() as u64 + 100 < LENGTH {
            let place = image.len() as u64;
            let mut bytes = Vec::new();
            let header = RecordHeader {
                lsn: place + LENGTH,
                durable: u64::MAX >> 1,
                kind: record::COMMIT,
                ..RecordHeader::default()
            };
            record::encode(&mut bytes, &header, &[], SALT);
            let length = (LENGTH as u32 - 64).to_le_bytes();
            let at = (0..bytes.len() - 4).find(|at| {
                let mut other = bytes.clone();
                other[*at..*at + 4].copy_from_slice(&length);
                record::decode_header(&other).is_some_and(|h| h.length_bytes == LENGTH as u32 - 64)
            });
            bytes[at.unwrap()..][..4].copy_from_slice(&length);
            image.extend(bytes);
        }
        image.resize(LENGTH as usize, 0);
        pager.write_at(first, &image, Cause::Log).unwrap();
        let ring = Ring::new(&pager, LogRegion { first, pages }, base);
        let start = std::time::Instant::now();
        let found = ring.find_proof(&pager, base + 8, 1, &mut 0).unwrap();
        assert!(found.is_some());
        assert!(start.elapsed() < std::time::Duration::from_secs(2));
    }
}
