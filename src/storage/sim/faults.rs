//! What can go wrong on a simulated disk besides a power cut, and the plan of when it does.

use std::io;

use super::trace::SimOperation;

/// Something that goes wrong in one call.
///
/// A fault that makes no sense for the call it meets (a misdirected sync, say) does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimFault {
    /// The call fails with this kind of error. A failed read, `write_at`, `set_length`, `reserve`, `discard` or lock has
    /// done nothing. What a failed sync leaves is up to [`SimFailedSync`]; a failed
    /// `write_sync_at` is a write that went well and a sync that failed.
    Error(io::ErrorKind),
    /// The call fails as [`SimFault::Error`] does, with the error of a broken device: `EIO`,
    /// error 5 of the operating system.
    Eio,
    /// The call does a part of its work, as the seed says, and fails with `EIO`: a write leaves
    /// its first bytes, a sync makes some of the writes that it covers durable and loses others.
    Partial,
    /// The call says `Ok` and does nothing: a write leaves the old bytes (though the file still
    /// grows, with zeros), a sync makes nothing durable, `set_length` leaves the length, `reserve` reserves nothing.
    Lost,
    /// A write lands at another byte offset, and not where it should. What of it would land past
    /// the end of the file is lost.
    Misdirected {
        /// Where it lands, in bytes from the start of the file.
        offset: u64,
    },
    /// A write lands where it should, and at another byte offset too, up to the end of the file.
    Duplicated {
        /// Where the second copy lands, in bytes from the start of the file.
        offset: u64,
    },
}

/// Which calls a planned fault counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimTarget {
    /// All calls.
    Any,
    /// Calls that can change the disk: writes, syncs, `set_length` and `discard`.
    Mutating,
    /// `write_at` and `write_sync_at`.
    Writes,
    /// `sync_range`, `sync_all` and `write_sync_at`.
    Syncs,
    /// Calls of one kind.
    Only(SimOperation),
}

impl From<SimOperation> for SimTarget {
    fn from(operation: SimOperation) -> Self {
        SimTarget::Only(operation)
    }
}

impl SimTarget {
    fn matches(self, operation: SimOperation) -> bool {
        match self {
            SimTarget::Any => true,
            SimTarget::Mutating => operation.is_mutating(),
            SimTarget::Writes => operation.is_write(),
            SimTarget::Syncs => operation.is_sync(),
            SimTarget::Only(only) => operation == only,
        }
    }
}

/// What a failed sync leaves of the writes that it should have made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SimFailedSync {
    /// They stay readable but count as clean, so the next sync succeeds without making them
    /// durable, and a power cut loses them. This is what Linux with ext4 does (measured).
    #[default]
    Lost,
    /// They stay unsynced, and the next sync can still make them durable.
    Kept,
    /// Some became durable, as the seed says; the others are as with `Lost`.
    Partly,
}

/// The faults to come.
#[derive(Debug, Default)]
pub(super) struct FaultPlan {
    faults: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    target: SimTarget,
    /// How many matching calls go well before this one is due.
    spared: u64,
    lasting: bool,
    fault: SimFault,
}

impl FaultPlan {
    /// Plans `fault` for the `nth` matching call from now, the first being 1 (0 means 1 too).
    pub(super) fn add(&mut self, target: SimTarget, nth: u64, lasting: bool, fault: SimFault) {
        self.faults.push(Planned {
            target,
            spared: nth.saturating_sub(1),
            lasting,
            fault,
        });
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    /// The fault that this call meets: of several that are due, the one planned first. All plans
    /// count the call, whichever it meets.
    pub(super) fn meet(&mut self, operation: SimOperation) -> Option<SimFault> {
        let mut met = None;
        self.faults.retain_mut(|planned| {
            if !planned.target.matches(operation) {
                return true;
            }
            if planned.spared > 0 {
                planned.spared -= 1;
                return true;
            }
            if met.is_none() {
                met = Some(planned.fault);
                return planned.lasting;
            }
            true // due, and another was first: it waits for the next call
        });
        met
    }
}
