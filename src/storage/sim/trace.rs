//! What a simulated disk was asked to do: the kinds of call, how many there were, and the last of
//! them one by one.

use std::collections::VecDeque;
use std::fmt;

/// A kind of call to a simulated disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SimOperation {
    /// `read_at`
    Read,
    /// `write_at`
    Write,
    /// `write_sync_at`
    WriteSync,
    /// `sync_range`
    SyncRange,
    /// `sync_all`
    SyncAll,
    /// `set_length`
    SetLength,
    /// `length`
    Length,
    /// `lock`
    Lock,
    /// `map`
    Map,
    /// `reserve`
    Reserve,
    /// `discard`
    Discard,
}

impl SimOperation {
    /// Every kind.
    pub const ALL: [SimOperation; 11] = [
        SimOperation::Read,
        SimOperation::Write,
        SimOperation::WriteSync,
        SimOperation::SyncRange,
        SimOperation::SyncAll,
        SimOperation::SetLength,
        SimOperation::Length,
        SimOperation::Lock,
        SimOperation::Map,
        SimOperation::Reserve,
        SimOperation::Discard,
    ];

    /// Whether a call of this kind can change the disk or what of it is durable: those that
    /// [`SimDisk::crash_after`](super::SimDisk::crash_after) counts.
    pub fn is_mutating(self) -> bool {
        let is_change = matches!(self, SimOperation::SetLength | SimOperation::Discard);
        is_change || self.is_write() || self.is_sync()
    }

    /// Whether a call of this kind writes bytes.
    pub fn is_write(self) -> bool {
        matches!(self, SimOperation::Write | SimOperation::WriteSync)
    }

    /// Whether a call of this kind makes bytes durable.
    pub fn is_sync(self) -> bool {
        matches!(
            self,
            SimOperation::WriteSync | SimOperation::SyncRange | SimOperation::SyncAll
        )
    }
}

/// How often each kind of call was made, and how many bytes each kind moved. Calls that failed
/// count too; their bytes do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimCounters {
    calls: [u64; SimOperation::ALL.len()],
    bytes: [u64; SimOperation::ALL.len()],
}

impl SimCounters {
    /// The calls of one kind.
    pub fn calls(&self, operation: SimOperation) -> u64 {
        self.calls[operation as usize]
    }

    /// The calls of all kinds.
    pub fn all_calls(&self) -> u64 {
        self.calls.iter().sum()
    }

    /// The calls that can change the disk: writes, syncs, `set_length` and `discard`.
    pub fn mutating_calls(&self) -> u64 {
        self.sum_of(&self.calls, SimOperation::is_mutating)
    }

    /// The bytes that one kind of call read, wrote, or, for `sync_range` and `sync_all`, made
    /// durable. `write_sync_at` counts the bytes that it wrote.
    pub fn bytes(&self, operation: SimOperation) -> u64 {
        self.bytes[operation as usize]
    }

    /// The bytes written, synced or not.
    pub fn bytes_written(&self) -> u64 {
        self.sum_of(&self.bytes, SimOperation::is_write)
    }

    /// The bytes made durable.
    pub fn bytes_synced(&self) -> u64 {
        self.sum_of(&self.bytes, SimOperation::is_sync)
    }

    pub(super) fn count_call(&mut self, operation: SimOperation) {
        self.calls[operation as usize] += 1;
    }

    pub(super) fn count_bytes(&mut self, operation: SimOperation, bytes: u64) {
        self.bytes[operation as usize] += bytes;
    }

    fn sum_of(
        &self,
        figures: &[u64; SimOperation::ALL.len()],
        which: fn(SimOperation) -> bool,
    ) -> u64 {
        SimOperation::ALL
            .into_iter()
            .filter(|&operation| which(operation))
            .map(|operation| figures[operation as usize])
            .sum()
    }
}

/// How a call to a simulated disk went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimOutcome {
    /// As asked.
    Done,
    /// It returned an error: one that was injected, a full disk, a bad range, or a held lock.
    Failed,
    /// It returned `Ok` and did something else, as injected.
    Lied,
    /// The power was cut during this call.
    Cut,
    /// The power was off already.
    Off,
}

/// One call to a simulated disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimEvent {
    /// The number of the call, counted from 1 over all kinds.
    pub number: u64,
    /// What was called.
    pub operation: SimOperation,
    /// The byte offset; 0 for calls that have none.
    pub offset: u64,
    /// The number of bytes; for `set_length` and `map`, the length asked for.
    pub length_bytes: u64,
    /// How it went.
    pub outcome: SimOutcome,
}

impl fmt::Display for SimEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "#{} {:?} {}+{}: {:?}",
            self.number, self.operation, self.offset, self.length_bytes, self.outcome
        )
    }
}

/// The last calls, oldest first. A ring: a long run costs no more memory than a short one.
#[derive(Debug)]
pub(super) struct Trace {
    events: VecDeque<SimEvent>,
    limit: usize,
}

impl Trace {
    pub(super) fn new() -> Self {
        Trace {
            events: VecDeque::new(),
            limit: 256,
        }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        let excess = self.events.len().saturating_sub(limit);
        self.events.drain(..excess);
    }

    pub(super) fn push(&mut self, event: SimEvent) {
        if self.limit == 0 {
            return;
        }
        if self.events.len() == self.limit {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Writes down how the call that was pushed last went.
    pub(super) fn settle(&mut self, outcome: SimOutcome) {
        if let Some(last) = self.events.back_mut() {
            last.outcome = outcome;
        }
    }

    pub(super) fn to_vec(&self) -> Vec<SimEvent> {
        self.events.iter().copied().collect()
    }
}
