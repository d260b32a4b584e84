//! Leaves that a replay is about to change, read and checked by another thread before their turn.
//!
//! To read a leaf takes about as long as to change it. (See `tools/bench/results.md` for what it gave.)
//!
//! # Invariants
//!
//! 1. The leaves come in the order in which the changes are made. One that is asked for out of that order
//!    is not waited for: who asks reads it.
//! 2. What arrives is as [`Pager::take`] gives it. An error only ends the arrivals: who asks for that leaf
//!    reads it and meets the error again.
//! 3. At most [`BATCHES`] of [`BATCH`] leaves wait.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::Result;
use crate::events;
use crate::format::{PageNumber, PageRef, TreeRoot, Version};
use crate::pager::Pager;
use crate::pager::frame::Unique;
use crate::tree::{self, Change};

/// Handed over at once: to wake a thread takes longer than to read a page.
const BATCH: usize = 64;
const BATCHES: usize = 8;

type Leaf = (PageNumber, Unique);

/// Where the leaves arrive.
#[derive(Debug)]
pub(super) struct Arriving {
    /// Never contended: so that a transaction is `Sync`, which a receiver is not.
    batches: Mutex<Receiver<Vec<Leaf>>>,
    /// In reverse order.
    here: Vec<Leaf>,
}

pub(super) fn channel() -> (SyncSender<Vec<Leaf>>, Arriving) {
    let (sender, batches) = sync_channel(BATCHES);
    let batches = Mutex::new(batches);
    let here = Vec::new();
    (sender, Arriving { batches, here })
}

impl Arriving {
    /// The leaf, if it is the next one (invariant 1).
    pub(super) fn next(&mut self, page: PageNumber) -> Option<Unique> {
        if self.here.is_empty() {
            self.here = self.batches.get_mut().ok()?.recv().ok()?;
            self.here.reverse();
        }
        let (_, leaf) = self.here.pop_if(|(number, _)| *number == page)?;
        Some(leaf)
    }
}

/// Reads the leaves of a tree that the changes are about, until they are not wanted any more.
pub(super) fn read_ahead(
    pager: &Pager,
    root: &TreeRoot,
    changes: &[Change<'_>],
    version: Version,
    sender: SyncSender<Vec<Leaf>>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut read = |leaf: &PageRef| -> Result<bool> {
        if let Some(bytes) = pager.take(leaf, version)? {
            batch.push((leaf.page, bytes));
        }
        if batch.len() < BATCH {
            return Ok(true);
        }
        let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
        Ok(sender.send(full).is_ok())
    };
    if let Err(error) = tree::each_leaf(pager, &root.root, root.level, changes, &mut read) {
        events::tell(move || tracing::debug!(%error, "a leaf could not be read ahead"));
    }
    let _ = sender.send(batch);
}
