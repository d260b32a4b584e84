//! Transactions: snapshots that see one moment, one writer at a time, commits that last.

mod ahead;
mod arriving;
mod bulk;
pub(crate) mod checkpoint;
pub(crate) mod engine;
pub(crate) mod pages;
pub(crate) mod reader;
pub(crate) mod reclaim;
mod recovery;
mod replay;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod turn;
pub(crate) mod write;
