//! Aurora: an embedded database in one file.
//!
//! Ordered trees of bytes with transactions, snapshots, and a log inside the file, so that a call
//! that returned `Ok` has survived a power cut. See [`Aurora`] for how to begin.
//!
//! ```text
//! db, backup, compact, inspect    what a user calls
//! blob                            content of any size, in chunks under one key
//!   txn                           snapshots, one writer at a time, commit, checkpoint, recovery
//!     tree                        B+tree over pages: search, insert, delete, cursors, counts
//!       pager          log        verified pages and free space; the write-ahead log
//!         format       storage    every byte as pure functions; the only code that touches a file
//! ```
//!
//! Arrows only point down.
#![deny(missing_docs)]
// Never panic on data.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backup;
mod blob;
mod clock;
mod compact;
mod db;
mod error;
mod format;
mod handle;
mod inspect;
mod log;
mod moment;
mod pager;
pub mod storage;
mod sync;
mod tree;
mod txn;
mod work;

pub use blob::{BlobInfo, BlobMeta, BlobReader, BlobWriter, StagedBlob};
pub use clock::{Clock, SystemClock};
pub use compact::Progress;
pub use db::{Aurora, Builder, Tree};
pub use error::{Error, Result};
pub use inspect::{CheckReport, Stats, TreeStats, WrittenBytes};
pub use txn::snapshot::{Entry, Range, Snapshot, TreeCursor, TreeView, ValueRef};
pub use txn::write::{Commit, Durability, Savepoint, TreeMut, WriteTransaction};
pub use work::Work;
