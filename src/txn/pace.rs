//! How the pages of a checkpoint go to the device: in small parts while commits wait for it too.

use super::engine::Engine;
use crate::Result;

/// So much is written between two syncs while commits wait for the device, and while none do.
const SHARED_UNSYNCED_BYTES: usize = 64 << 10;
const ALONE_UNSYNCED_BYTES: usize = 1 << 20;

/// When so much was written since a batch of the log that somebody waits for went to the device, no such commits are
/// going on.
const COMMITS_GO_ON_BYTES: usize = 512 << 10;

/// How the pages of a checkpoint go to the device.
pub(super) struct Pace {
    unsynced_bytes: usize,
    /// Batches of the log that were waited for when last looked.
    batches: u64,
    /// Written since there was a new one.
    since_commit_bytes: usize,
}

impl Pace {
    pub(super) fn new(commits_go_on: bool, batches: u64) -> Self {
        let since_commit_bytes = if commits_go_on {
            0
        } else {
            COMMITS_GO_ON_BYTES
        };
        Pace {
            unsynced_bytes: 0,
            batches,
            since_commit_bytes,
        }
    }
}

impl Engine {
    /// Has the device finish what was written.
    pub(crate) fn sync_written(&self) -> Result<()> {
        // What a failed sync should have covered is unknown.
        let synced = self.pager.sync_all();
        synced.inspect_err(|error| self.log.poison(error))
    }

    /// Lets the device finish what was written so far, before much has gathered, if commits wait for
    /// it too: a sync of the log has to wait for whatever the system is writing.
    ///
    /// (One commit in a thousand took 4 to 7 ms where this was done only if a commit waited at that very
    /// moment, however little was written at once, because much had gathered when none did. Now it takes
    /// 1.2 to 2.3 ms with 64 KiB; with 256 it took 2.0 where 64 took 1.4. Pauses after each sync made no difference, but commits
    /// waited for room in the log.)
    pub(super) fn give_way(&self, pace: &mut Pace, written_bytes: usize) -> Result<()> {
        pace.since_commit_bytes += written_bytes;
        pace.unsynced_bytes += written_bytes;
        if pace.unsynced_bytes < SHARED_UNSYNCED_BYTES {
            return Ok(());
        }
        let begun = self.log.awaited_batches();
        if std::mem::replace(&mut pace.batches, begun) != begun {
            pace.since_commit_bytes = 0;
        }
        let limit_bytes = match pace.since_commit_bytes < COMMITS_GO_ON_BYTES {
            true => SHARED_UNSYNCED_BYTES,
            false => ALONE_UNSYNCED_BYTES,
        };
        if pace.unsynced_bytes < limit_bytes {
            return Ok(());
        }
        pace.unsynced_bytes = 0;
        self.sync_written()
    }
}
