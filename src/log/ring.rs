//! A ring of the log, as it is read on open.
//!
//! # Invariants
//!
//! 1. A record is accepted if it is intact, at its position, linked to the one before, and lies over none that was
//!    accepted in front of it.

use crate::format::Lsn;
use crate::format::header::LogRegion;
use crate::format::record::{self, RecordHeader};
use crate::pager::Pager;
use crate::{Error, Result};

use super::Position;

/// Rings are read in pieces of this size.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// A ring as it is read: its bytes from position `base` on are kept as far as its records go. (A ring is mostly
/// longer than these. To keep all of two rings took 50 to 70 ms, most of it for memory.)
#[derive(Debug)]
pub(super) struct Ring {
    pub region: LogRegion,
    pub base: Lsn,
    pub length_bytes: u64,
    pub bytes: Vec<u8>,
}

impl Ring {
    pub(super) fn new(pager: &Pager, region: LogRegion, base: Lsn) -> Self {
        Ring {
            region,
            base,
            length_bytes: region.length_bytes(pager.page_size()),
            bytes: Vec::new(),
        }
    }

    /// The byte offset in the file of a position.
    pub(super) fn offset(&self, pager: &Pager, lsn: Lsn) -> u64 {
        pager.offset(self.region.first) + lsn % self.length_bytes.max(1)
    }

    /// Reads on until `end_bytes` are here, or all.
    fn fill(&mut self, pager: &Pager, end_bytes: u64) -> Result<()> {
        let end = end_bytes.min(self.length_bytes);
        while (self.bytes.len() as u64) < end {
            let here = self.bytes.len() as u64;
            let piece = (PIECE_BYTES as u64).min(self.length_bytes - here);
            let reserved = self.bytes.try_reserve(piece as usize);
            reserved.map_err(|_| Error::no_memory("read the log into memory", here))?;
            self.bytes.resize((here + piece) as usize, 0);
            let to = self.bytes.get_mut(here as usize..).unwrap_or_default();
            read(pager, self.region, self.base.saturating_add(here), to)?;
        }
        Ok(())
    }

    /// The next record, if it is one (invariant 1).
    pub(super) fn accept(&mut self, pager: &Pager, at: Position) -> Result<Option<RecordHeader>> {
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
        let bytes = record::record_bytes(header.length_bytes.into());
        self.fill(pager, index.saturating_add(bytes))?;
        let is_intact = record::is_intact(self.rest(index), &header, pager.salt());
        Ok(is_intact.then_some(header))
    }

    /// Reads what lies so far behind `base`, around the ring's end.
    pub(super) fn read(&self, pager: &Pager, index: u64, to: &mut [u8]) -> Result<()> {
        read(pager, self.region, self.base.saturating_add(index), to)
    }

    fn rest(&self, index: u64) -> &[u8] {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.bytes.get(index..).unwrap_or_default()
    }
}

/// Reads what lies from a position of a ring on, around its end.
fn read(pager: &Pager, region: LogRegion, lsn: Lsn, to: &mut [u8]) -> Result<()> {
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
