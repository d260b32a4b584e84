//! What lies behind the end of the log, and whether it proves that the log went on: a torn tail is told from damage
//! by it.
//!
//! # Invariants
//!
//! 1. Only an intact record proves something. What looks like one and is none proves nothing, however much of it there is:
//!    who chooses the values chooses most of the bytes in a ring.
//! 2. The search takes time in proportion to the ring, whatever is in it. What looks like the header of a record takes
//!    no longer to look at if the record would be a long one: see [`Sums`].
//! 3. The bytes of accepted records hold nothing else. A record that was appended later lies over none of them, or they would
//!    not be there.

use super::ring::{PIECE_BYTES, Ring};
use crate::Result;
use crate::checksum;
use crate::format::header::MAX_COUNT;
use crate::format::record::{self, RecordHeader};
use crate::format::{Lsn, Version};
use crate::pager::Pager;

/// A record at or behind `end` that proves that the log was durable further than that, or that
/// a newer checkpoint was. `newest` becomes the highest version of all that prove nothing. A record that begins `within`
/// bytes behind `end` or farther is not looked for.
pub(super) fn find_proof(
    pager: &Pager,
    ring: &Ring,
    end: Lsn,
    within: u64,
    checkpoint: u64,
    newest: &mut Version,
) -> Result<Option<RecordHeader>> {
    let accepted = end.saturating_sub(ring.base);
    let mut sums = None;
    let mut place = accepted;
    let until = accepted.saturating_add(within).min(ring.length_bytes);
    let longest = until.saturating_sub(accepted).min(PIECE_BYTES as u64) as usize;
    let mut buffer = vec![0; longest + record::RECORD_HEADER_BYTES];
    while place < until {
        let piece = (PIECE_BYTES as u64).min(until - place);
        let piece = piece.min(ring.length_bytes.div_ceil(2)) as usize;
        // A header may begin in this piece and end in the next, or where this view began.
        let bytes = buffer.get_mut(..piece + record::RECORD_HEADER_BYTES);
        let bytes = bytes.unwrap_or_default();
        ring.read(pager, place, bytes)?;
        for (index, header) in headers(bytes, piece) {
            let start = place.saturating_add(index as u64);
            let proves = header.durable > end || header.checkpoint > checkpoint;
            let is_of_use = proves || (*newest + 1..=MAX_COUNT).contains(&header.version);
            if !is_of_use || header.lsn < end || !can_lie_there(ring, start, &header, accepted) {
                continue;
            }
            let head = bytes.get(index..).unwrap_or_default();
            let sums = sums.get_or_insert_with(|| Sums::new(pager, ring, start));
            if !sums.is_intact(start, head, &header)? {
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

/// What looks like the header of a record, wherever one can begin in front of `end`.
fn headers(bytes: &[u8], end: usize) -> impl Iterator<Item = (usize, RecordHeader)> {
    let places = (0..end).step_by(record::ALIGN_BYTES);
    places.filter_map(|index| {
        let bytes = bytes.get(index..)?;
        let is_one = bytes.starts_with(&record::MAGIC);
        Some((index, is_one.then(|| record::decode_header(bytes))??))
    })
}

/// Whether this is the place of the record, and it fits there (invariant 3).
fn can_lie_there(ring: &Ring, start: u64, header: &RecordHeader, accepted: u64) -> bool {
    let length = ring.length_bytes.max(1);
    let bytes = record::record_bytes(header.length_bytes.into());
    // Where no record was accepted, one may go on over the place where the view began.
    let room = if accepted == 0 {
        length
    } else {
        length.saturating_sub(start)
    };
    header.lsn % length == ring.base.saturating_add(start) % length && bytes <= room
}

/// How far the places are apart whose checksums are kept: so many bytes are read for any other, at the most.
const STEP_BYTES: u64 = 256;

/// So much is read at a time where steps are gone on from: headers side by side ask for bytes side by side.
const NEAR_BYTES: u64 = 4 * STEP_BYTES;

/// Checksums of all that lies between a place and each step behind it. That of any part follows from two of them, so its
/// length does not matter. They are made as far as they are asked for, and take a 64th of the ring's length in memory,
/// or a 32nd if there are records that go on over the place where the view began.
struct Sums<'a> {
    pager: &'a Pager,
    ring: &'a Ring,
    from: u64,
    at_steps: Vec<u32>,
    buffer: Vec<u8>,
    /// What was read last around the beginning of a payload, and around the end of one.
    near: [Near; 2],
}

/// A few steps as they are in the ring, from this place on.
#[derive(Default)]
struct Near {
    place: u64,
    bytes: Vec<u8>,
}

impl<'a> Sums<'a> {
    /// `from` is the first place that is going to be asked for.
    fn new(pager: &'a Pager, ring: &'a Ring, from: u64) -> Self {
        let piece = (PIECE_BYTES as u64).min(ring.length_bytes) as usize;
        Sums {
            pager,
            ring,
            from,
            at_steps: vec![0],
            buffer: vec![0; piece],
            near: [Near::default(), Near::default()],
        }
    }

    /// Whether the record is there that begins at `start` with these bytes.
    fn is_intact(&mut self, start: u64, bytes: &[u8], header: &RecordHeader) -> Result<bool> {
        let Some(head) = bytes.first_chunk() else {
            return Ok(false);
        };
        let length = u64::from(header.length_bytes);
        let payload = start.saturating_add(record::RECORD_HEADER_BYTES as u64);
        let end = payload.saturating_add(length);
        let [head, to_payload, to_end] = [
            record::head_checksum(head, self.pager.salt()),
            self.up_to(payload, 0)?,
            self.up_to(end, 1)?,
        ];
        if checksum::shift(head ^ to_payload, length) ^ to_end != header.checksum {
            return Ok(false);
        }
        let mut padding = [0; record::ALIGN_BYTES];
        let padding = padding.get_mut(..record::padding_bytes(header.length_bytes as usize));
        let padding = padding.unwrap_or_default();
        self.ring.read(self.pager, end, padding)?;
        Ok(padding.iter().all(|byte| *byte == 0))
    }

    /// The checksum of all from the first place up to this one. `side` says which of both places it is near to.
    fn up_to(&mut self, place: u64, side: usize) -> Result<u32> {
        let behind = place.saturating_sub(self.from);
        let step = behind / STEP_BYTES;
        self.go_on_to(step)?;
        let at_step = self.at_steps.get(step as usize);
        let at_step = at_step.copied().unwrap_or(0);
        let Some(near) = self.near.get_mut(side) else {
            return Ok(at_step);
        };
        let begin = behind - behind % NEAR_BYTES;
        if near.bytes.is_empty() || near.place != begin {
            near.bytes.resize(NEAR_BYTES as usize, 0);
            near.place = begin;
            let here = self.from.saturating_add(begin);
            self.ring.read(self.pager, here, &mut near.bytes)?;
        }
        let rest = (step * STEP_BYTES - begin) as usize..(behind - begin) as usize;
        let rest = near.bytes.get(rest).unwrap_or_default();
        Ok(checksum::append(at_step, rest))
    }

    /// Reads on until there is a checksum of that step. (A ring's length is a multiple of a page's, and that of a step's.)
    fn go_on_to(&mut self, step: u64) -> Result<()> {
        while self.at_steps.len() as u64 <= step {
            let steps = self.at_steps.len() as u64 - 1;
            let here = self.from.saturating_add(steps.saturating_mul(STEP_BYTES));
            self.ring.read(self.pager, here, &mut self.buffer)?;
            for bytes in self.buffer.chunks(STEP_BYTES as usize) {
                let last = self.at_steps.last().copied().unwrap_or(0);
                self.at_steps.push(checksum::append(last, bytes));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::format::header::LogRegion;
    use crate::pager::Cause;
    use crate::storage::MemoryStorage;

    const SALT: u64 = 7;
    const LENGTH: u64 = 800 << 10;
    const BASE: Lsn = 40 << 10;

    fn encoded(header: &RecordHeader, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = RecordHeader {
            length_bytes: payload.len() as u32,
            kind: record::COMMIT,
            ..*header
        };
        record::encode(&mut bytes, &header, payload, SALT);
        bytes
    }

    /// A ring with these bytes, each piece at its position of whatever lap.
    fn ring_of(pieces: &[(Lsn, Vec<u8>)]) -> (Pager, LogRegion, Vec<u8>) {
        let pager = Pager::new(Arc::new(MemoryStorage::new()), 4096, SALT, 1 << 20).unwrap();
        let (first, pages) = (2, (LENGTH / 4096) as u32);
        pager.ensure_pages(u64::from(first + pages)).unwrap();
        let mut image = vec![0; LENGTH as usize];
        for (lsn, bytes) in pieces {
            for (byte, place) in bytes.iter().zip(*lsn..) {
                image[(place % LENGTH) as usize] = *byte;
            }
        }
        pager.write_at(first, &image, Cause::Log).unwrap();
        (pager, LogRegion { first, pages }, image)
    }

    /// A record which was durable further than to `end`, at a position of the lap after it.
    fn proof_at(lsn: Lsn, payload_bytes: usize) -> (Lsn, Vec<u8>) {
        let header = RecordHeader {
            lsn,
            durable: lsn,
            ..RecordHeader::default()
        };
        (lsn, encoded(&header, &vec![3; payload_bytes]))
    }

    /// The header of a record as long as the ring, or nearly, that would prove something, without the rest of it.
    fn forged_at(lsn: Lsn) -> (Lsn, Vec<u8>) {
        let (_, mut bytes) = proof_at(lsn, 0);
        bytes[4..8].copy_from_slice(&(LENGTH as u32 - 64).to_le_bytes());
        (lsn, bytes)
    }

    fn found(pieces: &[(Lsn, Vec<u8>)], base: Lsn, end: Lsn) -> Option<Lsn> {
        let (pager, region, _) = ring_of(pieces);
        let ring = Ring::new(&pager, region, base);
        let found = find_proof(&pager, &ring, end, u64::MAX, 1, &mut 0).unwrap();
        found.map(|header| header.lsn)
    }

    /// Also where it goes from one piece to the next, or over the place where the view begins.
    #[test]
    fn a_record_that_proves_more_is_found_wherever_it_lies() {
        let edges = [0, PIECE_BYTES as u64, 2 * PIECE_BYTES as u64, LENGTH];
        let near = [-64_i64, -56, -48, -8, 0, 8, 100_000];
        for (edge, offset) in edges.into_iter().flat_map(|e| near.map(|n| (e, n))) {
            let lsn = (BASE + LENGTH + edge).saturating_add_signed(offset);
            for payload_bytes in [0, 1000, 100 << 10] {
                let proof = [proof_at(lsn, payload_bytes)];
                let place = format!("{edge} {offset} {payload_bytes}");
                assert_eq!(found(&proof, BASE, BASE), Some(lsn), "{place}");
                // One that was not durable further than to where the log ends proves nothing.
                assert_eq!(found(&proof, lsn, lsn), None, "{place}");
            }
        }
    }

    /// Invariant 3: not even intact ones, by someone who has read the salt in the file.
    #[test]
    fn what_lies_in_accepted_records_proves_nothing() {
        let accepted = 64 << 10;
        for (place, is_proof) in [
            (0, false),
            (1024, false),
            (accepted - 8, false),
            (accepted, true),
            (LENGTH - 1056, true),
            (LENGTH - 1048, false),
            (LENGTH - 8, false),
        ] {
            let lsn = BASE + LENGTH + place;
            let is_found = found(&[proof_at(lsn, 1000)], BASE, BASE + accepted);
            assert_eq!(is_found, is_proof.then_some(lsn), "at {place}");
        }
    }

    /// Invariants 1 and 2.
    #[test]
    fn headers_without_end_are_no_proof_and_take_little_time() {
        let forged = |lap: u64| {
            let places = (BASE + lap * LENGTH..).step_by(56);
            let pieces = places.take(LENGTH as usize / 56);
            pieces.map(forged_at).collect::<Vec<_>>()
        };
        let start = std::time::Instant::now();
        let mut pieces = forged(1);
        assert_eq!(found(&pieces, BASE, BASE), None);
        assert_eq!(found(&pieces, BASE, BASE + 4096), None);
        // And what is a proof is found among them.
        let lsn = BASE + 2 * LENGTH - 200_000;
        pieces.push(proof_at(lsn, 100_001));
        assert_eq!(found(&pieces, BASE, BASE), Some(lsn));
        // To read each as far as its header says would be to read the ring some 15,000 times, and again.
        assert!(start.elapsed() < std::time::Duration::from_secs(5));
    }

    /// The search as it is told in the specification, and nothing else.
    fn plain_search(image: &[u8], end: Lsn) -> (Option<Lsn>, Version) {
        let (mut newest, accepted) = (0, end - BASE);
        let twice = [image, image].concat();
        for index in (accepted..LENGTH).step_by(8) {
            let place = (BASE + index) % LENGTH;
            let view = &twice[place as usize..][..LENGTH as usize];
            let Some(header) = record::decode_header(view) else {
                continue;
            };
            let bytes = record::record_bytes(header.length_bytes.into());
            let is_behind = accepted == 0 || index + bytes <= LENGTH;
            let is_there = header.lsn % LENGTH == place && header.lsn >= end;
            if !is_behind || !is_there || !record::is_intact(view, &header, SALT) {
                continue;
            }
            if header.durable > end || header.checkpoint > 1 {
                return (Some(header.lsn), newest);
            }
            newest = newest.max(header.version);
        }
        (None, newest)
    }

    /// Records of all kinds and lengths, whole, torn and forged, one over the other.
    #[test]
    fn it_finds_what_a_plain_search_finds() {
        let mut state = 1_u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let mut proofs = 0;
        for round in 0..60 {
            let end = BASE + [0, 8, 4096, 300_000][random(4) as usize];
            let mut pieces = Vec::new();
            for _ in 0..random(40) {
                let lsn = BASE + random(2 * LENGTH) / 8 * 8;
                let header = RecordHeader {
                    lsn: lsn + if random(8) == 0 { 8 } else { 0 },
                    version: random(50),
                    checkpoint: 1 + u64::from(random(60) == 0),
                    durable: if random(30) == 0 { end + 8 } else { end },
                    ..RecordHeader::default()
                };
                let longest = 1 << random(18);
                let length = random(longest);
                let payload: Vec<u8> = (0..length).map(|_| random(256) as u8).collect();
                let mut bytes = encoded(&header, &payload);
                match random(6) {
                    0 => bytes.truncate(56 + random(length + 1) as usize),
                    1 => bytes[4] ^= 8,
                    2 => *bytes.last_mut().unwrap() ^= 1, // mostly of the padding
                    _ => {}
                }
                pieces.push((lsn, bytes));
            }
            let (pager, region, image) = ring_of(&pieces);
            let ring = Ring::new(&pager, region, BASE);
            let mut newest = 0;
            let found = find_proof(&pager, &ring, end, u64::MAX, 1, &mut newest).unwrap();
            let found = (found.map(|header| header.lsn), newest);
            assert_eq!(found, plain_search(&image, end), "round {round}");
            proofs += u32::from(found.0.is_some());
        }
        assert!((10..50).contains(&proofs), "{proofs} of 60 with a proof");
    }
}
