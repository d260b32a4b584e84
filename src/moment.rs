//! A moment of the database, seen by a snapshot or from inside a write transaction: what the
//! modules for keys, documents and blobs read from.

use std::sync::Arc;

use crate::handle::Handle;
use crate::txn::snapshot::Snapshot;
use crate::txn::view::TreeView;
use crate::txn::write::WriteTransaction;

/// Trees of the database's own have names that begin with this. Users' trees cannot.
pub(crate) const SYSTEM_PREFIX: &str = "aurora/";

/// Name of the tree of small facts about the database: the time that was reached, the last numbers
/// that were given out.
pub(crate) const FACTS_TREE: &str = "aurora/meta";

/// Something that shows one moment of all trees.
pub(crate) trait Moment {
    /// A tree of the database's own; `None` if nothing was ever written to it.
    fn system_view(&self, name: &str) -> Option<TreeView<'_>>;

    /// The time of this moment: what expires at it or before is gone.
    fn now_ms(&self) -> u64;

    fn handle(&self) -> &Arc<Handle>;
}

impl Moment for Snapshot {
    fn system_view(&self, name: &str) -> Option<TreeView<'_>> {
        self.find(name)
    }

    fn now_ms(&self) -> u64 {
        self.taken_ms()
    }

    fn handle(&self) -> &Arc<Handle> {
        Snapshot::handle(self)
    }
}

impl Moment for WriteTransaction {
    fn system_view(&self, name: &str) -> Option<TreeView<'_>> {
        self.find(name)
    }

    fn now_ms(&self) -> u64 {
        self.begun_ms()
    }

    fn handle(&self) -> &Arc<Handle> {
        WriteTransaction::handle(self)
    }
}
