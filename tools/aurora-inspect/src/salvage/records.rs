//! Records of the log that prove themselves, and the chain of those that follow a state.
//!
//! # Invariants
//!
//! 1. A record counts only if its checksum is right.
//! 2. The chain has no holes: each record holds the checksum of the one before it.
//! 3. The work is bounded by a multiple of the file's length.

use std::collections::{BTreeMap, BTreeSet};

use aurora::anatomy::{
    self, COMMIT, FLAG_CLEAN, FLAG_RUNS_UNSYNCED, Header, LogRecord, MARK, RECORD_HEADER_BYTES,
    Ring,
};

use crate::source::Source;

const MAGIC: &[u8] = b"ALOG";
/// Bytes that are read at a time where no ring is known.
const WINDOW: usize = 1 << 20;
/// How often the file's length may be read for records that turn out to be none.
const BUDGET: u64 = 16;

/// An intact record: its fixed part, and where it lies.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub record: LogRecord,
    /// The byte in the file.
    pub offset: u64,
    /// The ring that it lies in, if one is known: it may go on at its start.
    ring: Option<Ring>,
}

impl Found {
    pub fn end(&self) -> u64 {
        self.record.lsn.saturating_add(self.record.bytes)
    }
}

/// All intact records, by position.
#[derive(Debug, Default)]
pub(crate) struct Log {
    by_lsn: BTreeMap<u64, Vec<Found>>,
    seen: BTreeSet<u64>,
}

impl Log {
    /// Adds the records of a ring.
    pub fn add_ring(&mut self, source: &Source, ring: Ring) {
        let page_size = u64::from(source.page_size());
        let length = u64::from(ring.pages) * page_size;
        let start = u64::from(ring.first) * page_size;
        if length == 0 {
            return;
        }
        // What is left of one that the end of the file was cut from.
        let end = start.saturating_add(length).min(source.length());
        self.search(source, start, end, Some(ring));
    }

    /// Adds those that lie anywhere, as far as they lie in one piece.
    pub fn add_everywhere(&mut self, source: &Source) {
        let start = 2 * u64::from(source.page_size());
        self.search(source, start, source.length(), None);
    }

    fn search(&mut self, source: &Source, start: u64, end: u64, ring: Option<Ring>) {
        let mut budget = (end - start.min(end)).saturating_mul(BUDGET);
        let mut at = start;
        while at < end {
            let length = (end - at).min(WINDOW as u64) as usize;
            if let Ok(window) = source.bytes_at(at, length) {
                for (i, piece) in (0u64..).zip(window.chunks_exact(8)) {
                    if piece.starts_with(MAGIC) {
                        self.try_at(source, at + i * 8, end, ring, &mut budget);
                    }
                }
            }
            at += length as u64;
        }
    }

    fn try_at(
        &mut self,
        source: &Source,
        offset: u64,
        end: u64,
        ring: Option<Ring>,
        budget: &mut u64,
    ) {
        if self.seen.contains(&offset) {
            return;
        }
        let wraps = ring.is_some();
        let Some(head) = read(source, offset, end, ring, RECORD_HEADER_BYTES) else {
            return;
        };
        let Some(record) = anatomy::read_record(&head, source.salt()) else {
            return;
        };
        if wraps && !lies_at(source, &record, offset, ring) {
            return;
        }
        let Ok(length) = usize::try_from(record.bytes) else {
            return;
        };
        let Some(left) = budget.checked_sub(record.bytes) else {
            return;
        };
        *budget = left;
        let Some(bytes) = read(source, offset, end, ring, length) else {
            return;
        };
        let record = anatomy::read_record(&bytes, source.salt());
        if let Some(record) = record.filter(|record| record.is_intact) {
            self.seen.insert(offset);
            let found = Found {
                record,
                offset,
                ring,
            };
            self.by_lsn.entry(record.lsn).or_default().push(found);
        }
    }

    /// The changes of a record.
    pub fn payload(&self, source: &Source, found: &Found) -> Option<Vec<u8>> {
        let length = RECORD_HEADER_BYTES.saturating_add(found.record.length_bytes as usize);
        let mut bytes = read(source, found.offset, source.length(), found.ring, length)?;
        Some(bytes.split_off(RECORD_HEADER_BYTES.min(bytes.len())))
    }

    pub fn all(&self) -> impl Iterator<Item = &Found> {
        self.by_lsn.values().flatten()
    }

    /// The highest checkpoint that a record knows to be durable.
    pub fn newest_checkpoint(&self) -> u64 {
        let checkpoints = self.all().map(|found| found.record.checkpoint);
        checkpoints.max().unwrap_or(0)
    }

    /// The record at a position that follows one of that checksum; marks apart.
    fn next(&self, lsn: u64, previous: u32) -> Option<&Found> {
        let found = self.by_lsn.get(&lsn)?.iter();
        let mut found = found.filter(|f| f.record.previous == previous && f.record.kind != MARK);
        found.next()
    }

    /// The records that follow a position.
    pub fn chain(&self, mut lsn: u64, mut previous: u32) -> Vec<&Found> {
        let mut chain = Vec::new();
        // Positions grow with each step.
        while let Some(found) = self.next(lsn, previous).filter(|f| f.end() > lsn) {
            chain.push(found);
            lsn = found.end();
            previous = found.record.checksum;
        }
        chain
    }

    /// The commits up to the first one whose long values are not all there, if no record proves that it
    /// was durable: it never was.
    pub fn complete<'f>(&self, source: &Source, chain: Vec<&'f Found>) -> Vec<&'f Found> {
        let mut budget = source.length();
        let is_complete = |found: &&&Found| {
            let record = &found.record;
            let later = self.by_lsn.range(record.lsn..).flat_map(|(_, found)| found);
            record.flags & FLAG_RUNS_UNSYNCED == 0
                || record.kind != COMMIT
                || later.map(|f| f.record.durable).max() > Some(record.lsn)
                || { self.payload(source, found) }
                    .is_some_and(|payload| source.has_runs_of(&payload, &mut budget))
        };
        chain.iter().take_while(is_complete).copied().collect()
    }

    /// The records behind a state whose header is lost. `None`: there are some, but none that is
    /// shown to be the first one behind it.
    pub fn chain_behind(&self, version: u64) -> Option<Vec<&Found>> {
        let is_newer = |f: &&Found| f.record.kind == COMMIT && f.record.version > version;
        let Some(least) = self.all().filter(is_newer).map(|f| f.record.lsn).min() else {
            return Some(Vec::new());
        };
        let first = self.by_lsn.get(&least)?.iter().find(|f| is_newer(f))?;
        // The record before it belongs to the state, or there never was one. Switch records are
        // passed: they carry the version of the commit behind them.
        let mut at = first;
        loop {
            let is_first_ever = at.record.lsn == 0 && at.record.previous == 0;
            let before = self.all().find(|f| {
                f.record.kind != MARK
                    && f.end() == at.record.lsn
                    && f.record.checksum == at.record.previous
                    && f.record.lsn < at.record.lsn
            });
            match before {
                None if !is_first_ever => return None,
                Some(before) if before.record.kind != COMMIT => at = before,
                _ => break,
            }
        }
        Some(self.chain(first.record.lsn, first.record.previous))
    }

    /// Whether the chain that ends here is all: the mark of a close is behind it.
    pub fn is_closed(&self, end: u64, last: u32) -> bool {
        let is_closing = |f: &Found| {
            let r = &f.record;
            r.kind == MARK && r.flags & FLAG_CLEAN != 0 && r.previous == last
        };
        let here = self.by_lsn.get(&end);
        here.is_some_and(|here| here.iter().any(is_closing))
    }

    /// A record that proves that the log was longer than the chain that ends here.
    pub fn proof(&self, end: u64, last: u32, checkpoint: u64) -> Option<&Found> {
        if self.is_closed(end, last) {
            return None;
        }
        let mut later = self.by_lsn.range(end..).flat_map(|(_, found)| found);
        later.find(|f| f.record.durable > end || f.record.checkpoint > checkpoint)
    }
}

/// Whether a record's position is that of its place in the ring.
fn lies_at(source: &Source, record: &LogRecord, offset: u64, ring: Option<Ring>) -> bool {
    let Some(ring) = ring else {
        return true;
    };
    let page_size = u64::from(source.page_size());
    let length = u64::from(ring.pages) * page_size;
    let start = u64::from(ring.first) * page_size;
    record.bytes <= length && record.lsn.checked_rem(length) == offset.checked_sub(start)
}

fn read(
    source: &Source,
    offset: u64,
    end: u64,
    ring: Option<Ring>,
    length: usize,
) -> Option<Vec<u8>> {
    let here = end.saturating_sub(offset).min(length as u64) as usize;
    let ring_end = ring.map(|ring| {
        (u64::from(ring.first) + u64::from(ring.pages)) * u64::from(source.page_size())
    });
    let here = ring_end.map_or(here, |end| {
        here.min(end.saturating_sub(offset).min(length as u64) as usize)
    });
    let mut bytes = source.bytes_at(offset, here).ok()?;
    if here < length {
        let ring = ring?;
        let start = u64::from(ring.first) * u64::from(source.page_size());
        let rest = length - here;
        if rest as u64 > u64::from(ring.pages) * u64::from(source.page_size()) {
            return None;
        }
        bytes.extend(source.bytes_at(start, rest).ok()?);
    }
    Some(bytes)
}

/// The rings that a header names.
pub(crate) fn rings_of(header: &Header) -> Vec<Ring> {
    let rings = [header.log, header.next_log];
    rings.into_iter().filter(|ring| ring.pages > 0).collect()
}
