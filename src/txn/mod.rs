//! Transactions: snapshots that see one moment, one writer at a time, commits that last.

mod ahead;
mod arriving;
pub(crate) mod bulk;
pub(crate) mod checkpoint;
pub(crate) mod commit;
pub(crate) mod cursor;
pub(crate) mod engine;
mod pace;
pub(crate) mod pages;
pub(crate) mod reader;
pub(crate) mod reclaim;
mod recovery;
mod replay;
mod ring;
mod session;
mod shared;
pub(crate) mod snapshot;
pub(crate) mod state;
mod tail;
pub(crate) mod tree_mut;
pub(crate) mod turn;
mod undo;
pub(crate) mod value;
pub(crate) mod view;
pub(crate) mod write;
