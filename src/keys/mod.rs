//! Values under keys: with a time to live if one is given, changed one at a time or together, and
//! found by key, by range, and by prefix.
//!
//! # Invariants
//!
//! 1. A key is there for a reader if its record is in the reader's state and does not expire at or
//!    before the reader's moment. Nothing else counts: not the index, not the sweep. (But who wants keys alone asks the
//!    index about those whose records are too long to be read for that. The two change together, and `check` compares them.)
//! 2. Time does not go back within a process ([`Forward`](crate::clock::Forward)), nor below what
//!    was stored by a sweep or a close; so what has expired does not come back.
//! 3. The same calls mean the same on a database, in a transaction, and on a snapshot: all of them
//!    are written once, on a moment.

mod api;
mod batch;
mod change;
mod check;
pub(crate) mod expiry;
mod listing;
mod read;
pub(crate) mod record;
pub(crate) mod scan;
pub(crate) mod store;
pub(crate) mod sweeper;
mod target;
#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use change::Swap;
pub(crate) use check::check;
pub use listing::DataInfo;
pub use read::Ttl;
pub use scan::{KeyScan, Scan};
pub use target::Target;
