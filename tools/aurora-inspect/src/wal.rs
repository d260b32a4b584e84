//! The log: what waits in it, where replay would stop, and why.
//!
//! # Invariants
//!
//! 1. Records are accepted by the rules of the format, with the engine's code for single ones. The
//!    verdict on the end is the engine's own.
//! 2. Memory is bounded by the length of the rings, which lie in the file.

use std::collections::{HashMap, HashSet};

use aurora::Error;
use aurora::anatomy::{
    self, COMMIT, FLAG_CLEAN, FLAG_RUNS_UNSYNCED, Header, LogRecord, MARK, Operation,
    RECORD_HEADER_BYTES, Ring, Run, SWITCH,
};
use serde::Serialize;

use crate::source::Source;
use crate::{Failure, Fault, Faults};

/// Nobody ever counts that far.
const MAX_VERSION: u64 = u64::MAX >> 1;

/// A record that replay would accept.
#[derive(Debug, Clone, Serialize)]
pub struct RecordInfo {
    /// `commit`, `switch` or `mark`.
    pub kind: &'static str,
    /// Its position.
    pub lsn: u64,
    /// Its byte in the file.
    pub offset: u64,
    /// How often the ring was gone round before it.
    pub lap: u64,
    /// All its bytes.
    pub bytes: u64,
    /// The version that it makes.
    pub version: u64,
    /// The checkpoint that was durable when it was appended.
    pub checkpoint: u64,
    /// The log was durable up to here when it was appended.
    pub durable: u64,
    /// Changes in it.
    pub operations: u64,
    /// The changes, if they are asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

/// What the log holds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Wal {
    /// First page of the ring that the log starts in.
    pub ring_page: u32,
    /// Pages of it.
    pub ring_pages: u32,
    /// First page of the ring that it goes on in; 0: there is none.
    pub next_ring_page: u32,
    /// Pages of it.
    pub next_ring_pages: u32,
    /// Where replay starts.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Transactions that wait.
    pub commits: u64,
    /// Changes in them.
    pub operations: u64,
    /// Version of the last one.
    pub version: u64,
    /// Whether the last user closed the file.
    pub is_clean: bool,
    /// Why replay stops there.
    pub stop: String,
    /// All records.
    pub records: Vec<RecordInfo>,
    /// Long values that only the log knows of: first page and pages.
    pub runs: Vec<(u32, u32)>,
    /// Commits whose long values were synced with them: positions and changes.
    #[serde(skip)]
    unsynced: Vec<(u64, Vec<u8>)>,
    #[serde(skip)]
    long: Vec<Run>,
    #[serde(skip)]
    steps: Vec<(u64, Step)>,
    /// No ring could be read.
    #[serde(skip)]
    is_unread: bool,
    /// What is wrong.
    pub faults: Faults,
}

/// What a change needs of the trees that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Change(u32),
    Create(u32, Vec<u8>),
    Rename(u32, Vec<u8>),
    Drop(u32),
    LongKey(usize),
}

impl Step {
    fn of(operation: &Operation<'_>, longest: usize) -> Self {
        match operation {
            Operation::Put { key, .. }
            | Operation::PutRun { key, .. }
            | Operation::Delete { key, .. }
                if key.len() > longest =>
            {
                Step::LongKey(key.len())
            }
            Operation::Put { tree, .. }
            | Operation::PutRun { tree, .. }
            | Operation::Delete { tree, .. }
            | Operation::DeleteRange { tree, .. } => Step::Change(*tree),
            Operation::CreateTree { tree, name } => Step::Create(*tree, name.to_vec()),
            Operation::RenameTree { tree, name } => Step::Rename(*tree, name.to_vec()),
            Operation::DropTree { tree } => Step::Drop(*tree),
        }
    }
}

/// A ring, turned so that it begins at a position.
struct Bytes {
    ring: Ring,
    base: u64,
    bytes: Vec<u8>,
}

impl Bytes {
    fn read(source: &Source, ring: Ring, base: u64) -> Result<Self, Fault> {
        let page_size = u64::from(source.page_size());
        let length = u64::from(ring.pages) * page_size;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut bytes = source.bytes_at(u64::from(ring.first) * page_size, length)?;
        bytes.rotate_left((base % (length as u64).max(1)) as usize);
        Ok(Bytes { ring, base, bytes })
    }

    fn at(&self, lsn: u64) -> &[u8] {
        let index = usize::try_from(lsn.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.bytes.get(index..).unwrap_or_default()
    }

    fn offset(&self, source: &Source, lsn: u64) -> u64 {
        let start = u64::from(self.ring.first) * u64::from(source.page_size());
        start + lsn % (self.bytes.len() as u64).max(1)
    }

    fn lap(&self, lsn: u64) -> u64 {
        lsn / (self.bytes.len() as u64).max(1)
    }
}

impl Wal {
    /// Reads the log from the chosen header's start. `with_changes`: with every operation.
    pub fn read(source: &Source, with_changes: bool) -> Result<Wal, Failure> {
        let header = *source.header()?;
        let mut wal = Wal::follow_to(source, &header, u64::MAX, with_changes);
        if let Some(limit) = wal.first_incomplete(source) {
            wal = Wal::follow_to(source, &header, limit, with_changes);
        }
        if !wal.is_unread {
            wal.judge(source, &header);
        }
        Ok(wal)
    }

    /// Where the first commit is whose long values should be there and are not.
    fn first_incomplete(&self, source: &Source) -> Option<u64> {
        let proven = self.records.iter().map(|record| record.durable).max();
        let mut budget = source.length();
        let mut unsynced = self.unsynced.iter();
        let incomplete = unsynced.find(|(lsn, payload)| {
            proven.is_none_or(|proven| *lsn >= proven) && !source.has_runs_of(payload, &mut budget)
        });
        incomplete.map(|(lsn, _)| *lsn)
    }

    /// The records in front of `limit`.
    fn follow_to(source: &Source, header: &Header, limit: u64, with_changes: bool) -> Wal {
        let mut wal = Wal {
            ring_page: header.log.first,
            ring_pages: header.log.pages,
            next_ring_page: header.next_log.first,
            next_ring_pages: header.next_log.pages,
            start: header.log_start,
            end: header.log_start,
            version: header.version,
            ..Wal::default()
        };
        match Bytes::read(source, header.log, header.log_start) {
            Ok(ring) => wal.follow(source, header, ring, limit, with_changes),
            Err(mut fault) => {
                fault.area = "log";
                wal.stop = fault.what.clone();
                wal.faults.add(fault);
                wal.is_unread = true;
            }
        }
        wal
    }

    /// Long values that only the log knows of are in the file, and whole.
    pub fn check_runs(&self, source: &Source) -> Faults {
        let mut faults = Faults::default();
        // Records can be forged so that they all name one long value.
        let mut budget = source.length().saturating_mul(2);
        for run in &self.long {
            let pages = u64::from(run.pages(source.page_size()));
            let end = u64::from(run.first) + pages;
            if (run.length_bytes as usize) < anatomy::DIRECT_BYTES {
                let what = "a value whose place the log names is too short to have one there";
                let fault = Fault::new("log", what, anatomy::DIRECT_BYTES, run.length_bytes);
                faults.add(fault.at_page(run.first, source.page_size(), 0));
            } else if run.first < 2 || end > u64::from(source.file_pages()) {
                let what = "a long value in the log lies outside of the file";
                let fault = Fault::new("log", what, source.file_pages(), end);
                faults.add(fault.at_page(run.first, source.page_size(), 0));
            } else if let Some(left) = budget.checked_sub(u64::from(run.length_bytes)) {
                budget = left;
                if let Err(mut fault) = source.run(run) {
                    fault.area = "log";
                    faults.add(fault);
                }
            }
        }
        faults
    }

    /// Changes are of trees that are there, given those of the catalog.
    pub fn check_trees(&self, source: &Source, trees: &[(String, u32)]) -> Faults {
        let mut faults = Faults::default();
        let mut names: HashMap<u32, Vec<u8>> = { trees.iter() }
            .map(|(name, number)| (*number, name.as_bytes().to_vec()))
            .collect();
        let mut taken: HashSet<Vec<u8>> = names.values().cloned().collect();
        for (offset, step) in &self.steps {
            let is_name = |name: &[u8]| {
                std::str::from_utf8(name).is_ok_and(|name| (1..=255).contains(&name.len()))
            };
            let wrong = match step {
                Step::Change(tree) => (!names.contains_key(tree)).then_some(*tree),
                Step::Drop(tree) => match names.remove(tree) {
                    Some(name) => {
                        taken.remove(&name);
                        None
                    }
                    None => Some(*tree),
                },
                Step::Create(tree, name) => {
                    let is_wrong = *tree > aurora::anatomy::MAX_TREE
                        || names.contains_key(tree)
                        || !is_name(name)
                        || !taken.insert(name.clone());
                    names.insert(*tree, name.clone());
                    is_wrong.then_some(*tree)
                }
                Step::Rename(tree, name) => {
                    let is_wrong = !is_name(name) || !taken.insert(name.clone());
                    let old = names.insert(*tree, name.clone());
                    let is_there = old.is_some();
                    old.map(|old| taken.remove(&old));
                    (is_wrong || !is_there).then_some(*tree)
                }
                Step::LongKey(length) => {
                    let what = "a key in the log is longer than keys can be";
                    let longest = anatomy::longest_key(source.page_size());
                    faults.add(Fault::new("log", what, longest, length).at_offset(*offset));
                    None
                }
            };
            if let Some(tree) = wrong {
                let what = "a change in the log is of a tree that cannot be";
                let found = format!("tree {tree}");
                let fault = Fault::new("log", what, "a tree that is there, or a new one", found);
                faults.add(fault.at_offset(*offset));
            }
        }
        faults
    }

    fn follow(
        &mut self,
        source: &Source,
        header: &Header,
        first: Bytes,
        limit: u64,
        with_changes: bool,
    ) {
        let mut ring = first;
        let mut next = (header.next_log.pages > 0).then_some(header.next_log);
        let mut crc = header.log_start_crc;
        loop {
            if self.end >= limit {
                self.stop = "a commit without its long values: it was not synced".to_string();
                return;
            }
            let bytes = ring.at(self.end);
            let record = anatomy::read_record(bytes, source.salt());
            let offset = ring.offset(source, self.end);
            let Some(record) = record.filter(|r| is_next(r, self.end, crc)) else {
                let (stop, is_usual) = why(record.as_ref(), bytes, self.end, crc);
                if !is_usual {
                    let what = "the log ends in something that is no whole record";
                    let fault = Fault::new("log", what, "a record, or nothing", &stop);
                    self.faults.add(fault.at_offset(offset).notice());
                }
                self.stop = stop;
                return;
            };
            if record.kind == MARK {
                self.is_clean = record.flags & FLAG_CLEAN != 0;
                self.stop = match self.is_clean {
                    true => "a mark: the file was closed",
                    false => "a mark: everything before it was acknowledged",
                }
                .to_string();
                self.note(&record, offset, ring.lap(record.lsn), 0, Vec::new());
                return;
            }
            let end = RECORD_HEADER_BYTES.saturating_add(record.length_bytes as usize);
            let payload = bytes.get(RECORD_HEADER_BYTES..end).unwrap_or_default();
            if record.flags & FLAG_RUNS_UNSYNCED != 0 {
                self.unsynced.push((record.lsn, payload.to_vec()));
            }
            let longest = anatomy::longest_key(source.page_size());
            let (count, changes) = self.operations(payload, offset, with_changes, longest);
            self.note(&record, offset, ring.lap(record.lsn), count, changes);
            self.end = record.lsn.saturating_add(record.bytes);
            crc = record.checksum;
            if record.kind == COMMIT && record.version > MAX_VERSION {
                let what = "a version in the log is higher than any writer gets";
                let fault = Fault::new("log", what, MAX_VERSION, record.version);
                self.faults.add(fault.at_offset(offset));
            }
            if record.kind == COMMIT {
                self.commits += 1;
                self.operations += count;
                self.version = record.version;
                continue;
            }
            let Some(to) = next.take() else {
                self.stop = "a switch to a ring that the header does not name".to_string();
                return;
            };
            match Bytes::read(source, to, self.end) {
                Ok(bytes) => ring = bytes,
                Err(mut fault) => {
                    fault.area = "log";
                    self.stop = fault.what.clone();
                    self.faults.add(fault);
                    return;
                }
            }
        }
    }

    fn note(
        &mut self,
        r: &LogRecord,
        offset: u64,
        lap: u64,
        operations: u64,
        changes: Vec<String>,
    ) {
        self.records.push(RecordInfo {
            kind: match r.kind {
                COMMIT => "commit",
                SWITCH => "switch",
                _ => "mark",
            },
            lsn: r.lsn,
            offset,
            lap,
            bytes: r.bytes,
            version: r.version,
            checkpoint: r.checkpoint,
            durable: r.durable,
            operations,
            changes,
        });
    }

    fn operations(
        &mut self,
        payload: &[u8],
        offset: u64,
        keep: bool,
        longest: usize,
    ) -> (u64, Vec<String>) {
        let (mut count, mut changes) = (0, Vec::new());
        for operation in anatomy::operations(payload) {
            let Some(operation) = operation else {
                let what = "the changes of a commit do not parse";
                let found = format!("{count} changes and something else");
                let fault = Fault::new("log", what, "changes to the end", found);
                self.faults.add(fault.at_offset(offset));
                break;
            };
            count += 1;
            if let Operation::PutRun { run, .. } = &operation {
                self.runs.push(run_of(run));
                self.long.push(*run);
            }
            let step = (offset, Step::of(&operation, longest));
            if self.steps.last() != Some(&step) {
                self.steps.push(step);
            }
            if keep {
                changes.push(describe(&operation));
            }
        }
        (count, changes)
    }

    /// The engine opens a file only to read whose counts are half way to their end.
    fn judge_counts(&mut self, header: &Header) {
        let counts = [header.checkpoint, header.version, self.end, self.version];
        let highest = counts.into_iter().max().unwrap_or(0);
        if highest > MAX_VERSION / 2 {
            let what = "a count is near its end: nobody can write to the file";
            let fault = Fault::new("header", what, MAX_VERSION / 2, highest);
            self.faults.add(fault);
        }
    }

    /// What the engine makes of it.
    fn judge(&mut self, source: &Source, header: &Header) {
        self.judge_counts(header);
        let in_file = |ring: Ring| {
            u64::from(ring.first) + u64::from(ring.pages) <= u64::from(source.file_pages())
        };
        if !in_file(header.log) || !in_file(header.next_log) {
            let what = "a log ring lies behind the end of the file";
            let fault = Fault::new("log", what, "inside", "outside");
            return self.faults.add(fault);
        }
        let fault = match anatomy::log_end(source.storage(), header) {
            Ok(end) if end.lsn == self.end => return,
            Ok(end) => {
                // It was appended to between the two readings.
                let what = "the log changed while it was read";
                Fault::new("log", what, self.end, end.lsn).notice()
            }
            Err(Error::LogDamaged {
                lsn,
                offset,
                later_lsn,
            }) => {
                let what = "acknowledged commits in the log are damaged";
                let found = format!(
                    "nothing that can be read at {lsn}, and a record at {later_lsn} that proves it"
                );
                Fault::new("log", what, format!("a record at {lsn}"), found).at_offset(offset)
            }
            // The older of two sound slots was asked for.
            Err(Error::Corrupt { expected, .. }) if source.has_newer_slot(header, expected) => {
                let what =
                    "a newer checkpoint is in the other slot: some of the log is for that one";
                Fault::new("log", what, header.checkpoint, expected).notice()
            }
            Err(Error::Corrupt {
                what,
                offset,
                expected,
                found,
                ..
            }) => Fault::new("log", what, expected, found).at_offset(offset),
            Err(error) => Fault::new("log", error.to_string(), "a log that can be read", "none"),
        };
        self.faults.add(fault);
    }
}

fn is_next(record: &LogRecord, lsn: u64, crc: u32) -> bool {
    record.lsn == lsn && record.previous == crc && record.is_intact
}

/// Why the log ends at a position, and whether that is how logs end that nothing happened to.
fn why(record: Option<&LogRecord>, bytes: &[u8], lsn: u64, crc: u32) -> (String, bool) {
    let Some(record) = record else {
        let head = bytes.get(..RECORD_HEADER_BYTES).unwrap_or(bytes);
        return match head.iter().all(|byte| *byte == 0) {
            true => ("zeros: nothing was ever written there".to_string(), true),
            false => ("no record begins there".to_string(), false),
        };
    };
    if record.lsn < lsn && record.is_intact {
        let text = format!("a record of an earlier lap, with position {}", record.lsn);
        return (text, true);
    }
    if !record.is_intact {
        return ("a record with a wrong checksum".to_string(), false);
    }
    if record.lsn != lsn {
        let text = format!("a record with another position, {}", record.lsn);
        return (text, false);
    }
    let previous = record.previous;
    let text = format!("a record that follows another one: {previous:#010x} and not {crc:#010x}");
    (text, false)
}

fn run_of(run: &Run) -> (u32, u32) {
    // Pages are counted by who knows their size.
    (run.first, run.length_bytes)
}

fn describe(operation: &Operation<'_>) -> String {
    let brief = |bytes: &[u8]| crate::show::brief(bytes, crate::show::BRIEF_BYTES);
    match operation {
        Operation::Put { tree, key, value } => {
            let (key, length) = (brief(key), value.len());
            format!(
                "put in tree {tree}: {key} = {} ({length} bytes)",
                brief(value)
            )
        }
        Operation::Delete { tree, key } => format!("delete in tree {tree}: {}", brief(key)),
        Operation::DeleteRange { tree, lower, upper } => {
            let lower = lower.map(brief);
            format!(
                "delete range in tree {tree}: {lower:?} to {:?}",
                upper.map(brief)
            )
        }
        Operation::PutRun { tree, key, run } => {
            let (key, length, page) = (brief(key), run.length_bytes, run.first);
            format!("put in tree {tree}: {key} = {length} bytes in pages from {page}")
        }
        Operation::CreateTree { tree, name } => format!("create tree {tree}: {}", brief(name)),
        Operation::DropTree { tree } => format!("drop tree {tree}"),
        Operation::RenameTree { tree, name } => format!("rename tree {tree}: {}", brief(name)),
    }
}
