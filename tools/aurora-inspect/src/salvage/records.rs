//! Records of the log that prove themselves, and the chain of those that follow a state.
//!
//! # Invariants
//!
//! 1. A record counts only if its checksum is right.
//! 2. The chain has no holes: each record holds the checksum of the one before it.
//! 3. The work is bounded by a multiple of the file's length.
//! 4. What an open would accept is found however much there is that looks like a record and is none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use aurora::anatomy::{
    self, COMMIT, FLAG_CLEAN, FLAG_RUNS_UNSYNCED, Header, LogRecord, MARK, RECORD_HEADER_BYTES,
    Ring, SWITCH,
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
    /// Bytes of the file that accepted records have: no other record is there.
    taken: Vec<Range<u64>>,
}

impl Log {
    /// Adds the records that an open accepts (invariant 4).
    pub fn follow(&mut self, source: &Source, header: &Header) {
        let mut next = (header.log_start, header.log_start_crc);
        for ring in rings_of(header) {
            let begin = next.0;
            let is_over = self.follow_in(source, ring, &mut next);
            self.take(source, ring, begin, next.0);
            if is_over {
                return;
            }
        }
    }

    /// Those of one ring, from a position and behind a record of that checksum. Says whether the log ends in it.
    fn follow_in(&mut self, source: &Source, ring: Ring, next: &mut (u64, u32)) -> bool {
        let (start, length) = place(source, ring);
        let mut room = length;
        loop {
            let lsn = next.0;
            let offset = start + lsn.checked_rem(length).unwrap_or(0);
            let is_next = |r: &LogRecord| (r.lsn, r.previous) == *next && r.bytes <= room;
            let found = record_at(source, offset, source.length(), Some(ring), is_next);
            let Some(record) = found else {
                return true;
            };
            self.add(record, offset, Some(ring));
            if record.kind == MARK {
                return true;
            }
            room -= record.bytes;
            *next = (lsn.saturating_add(record.bytes), record.checksum);
            if record.kind == SWITCH {
                return false;
            }
        }
    }

    /// The positions of a ring from `begin` to `end` are those of accepted records.
    fn take(&mut self, source: &Source, ring: Ring, begin: u64, end: u64) {
        let (start, length) = place(source, ring);
        let offset = begin.checked_rem(length).unwrap_or(0);
        let behind = offset + end.saturating_sub(begin);
        self.taken.push(start + offset..start + behind.min(length));
        self.taken
            .push(start..start + behind.saturating_sub(length));
    }

    fn add(&mut self, record: LogRecord, offset: u64, ring: Option<Ring>) {
        self.seen.insert(offset);
        let found = Found {
            record,
            offset,
            ring,
        };
        self.by_lsn.entry(record.lsn).or_default().push(found);
    }

    /// Adds the records of a ring.
    pub fn add_ring(&mut self, source: &Source, ring: Ring) {
        let (start, length) = place(source, ring);
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
        let is_taken = self.taken.iter().any(|taken| taken.contains(&offset));
        if is_taken || self.seen.contains(&offset) {
            return;
        }
        let fits = |record: &LogRecord| {
            if !lies_at(source, record, offset, ring) {
                return false;
            }
            let left = budget.checked_sub(record.bytes);
            *budget = left.unwrap_or(*budget);
            left.is_some()
        };
        if let Some(record) = record_at(source, offset, end, ring, fits) {
            self.add(record, offset, ring);
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

    /// Whether a record that lies where this checkpoint's log goes on, or a mark at its end, was written under it.
    pub fn knows(&self, header: &Header) -> bool {
        let later = self.by_lsn.range(header.log_start..);
        { later.flat_map(|(_, found)| found) }
            .any(|found| found.record.checkpoint == header.checkpoint)
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
        let mut proven = BTreeMap::new();
        let mut furthest = 0;
        for (lsn, found) in self.by_lsn.iter().rev() {
            let here = found.iter().map(|f| f.record.durable).max();
            furthest = furthest.max(here.unwrap_or(0));
            proven.insert(*lsn, furthest);
        }
        let is_complete = |found: &&&Found| {
            let record = &found.record;
            let durable = proven.get(&record.lsn).copied().unwrap_or(0);
            record.flags & FLAG_RUNS_UNSYNCED == 0
                || record.kind != COMMIT
                || durable > record.lsn
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
        let others = self
            .all()
            .filter(|f| f.record.kind != MARK && f.record.lsn < f.end());
        let by_end: HashMap<(u64, u32), &Found> =
            others.map(|f| ((f.end(), f.record.checksum), f)).collect();
        let mut at = first;
        loop {
            let is_first_ever = at.record.lsn == 0 && at.record.previous == 0;
            match by_end.get(&(at.record.lsn, at.record.previous)).copied() {
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

/// Where a ring begins in the file, and its length.
fn place(source: &Source, ring: Ring) -> (u64, u64) {
    let page_size = u64::from(source.page_size());
    let pages = |count: u32| u64::from(count) * page_size;
    (pages(ring.first), pages(ring.pages))
}

/// The record at an offset, if its header is one that is wanted, and all of it is intact.
fn record_at(
    source: &Source,
    offset: u64,
    end: u64,
    ring: Option<Ring>,
    is_wanted: impl FnOnce(&LogRecord) -> bool,
) -> Option<LogRecord> {
    let head = read(source, offset, end, ring, RECORD_HEADER_BYTES)?;
    let claimed = anatomy::read_record(&head, source.salt()).filter(is_wanted)?;
    let length = usize::try_from(claimed.bytes).ok()?;
    let bytes = read(source, offset, end, ring, length)?;
    anatomy::read_record(&bytes, source.salt()).filter(|record| record.is_intact)
}

/// Whether a record's position is that of its place in the ring.
fn lies_at(source: &Source, record: &LogRecord, offset: u64, ring: Option<Ring>) -> bool {
    let Some(ring) = ring else {
        return true;
    };
    let (start, length) = place(source, ring);
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
