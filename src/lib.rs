//! Aurora: an embedded database in one file.
//!
//! Ordered trees of bytes with transactions, snapshots, and a log inside the file, so that a call
//! that returned `Ok` has survived a power cut. See [`Aurora`] for how to begin.
//!
//! ```text
//! db, backup, compact, inspect    what a user calls
//!   keys                          values under keys, and what expires
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

#[cfg(feature = "inspect")]
#[doc(hidden)]
pub mod anatomy;
mod backup;
mod clock;
mod collection;
mod compact;
mod db;
mod error;
mod format;
mod handle;
mod inspect;
mod keys;
mod log;
mod moment;
mod pager;
mod query;
pub mod storage;
mod sync;
mod tree;
mod txn;
mod value;
mod work;

pub use clock::{Clock, SystemClock};
pub use collection::{
    BuildProgress, Collection, CollectionMut, CollectionView, Field, Index, IndexInfo, Patch,
    Schema,
};
pub use compact::Progress;
pub use db::{Aurora, Builder, Tree};
pub use error::{Error, Result};
pub use inspect::{CheckReport, Stats, TreeStats, WrittenBytes};
pub use keys::{Batch, DataInfo, Scan, Swap, Target, Ttl};
pub use query::{Cursor, Explanation, Fields, Filter, Group, Grouped, Page, Query, Rows};
pub use txn::snapshot::{Entry, Range, Snapshot, TreeCursor, TreeView, ValueRef};
pub use txn::write::{Commit, Durability, Savepoint, TreeMut, WriteTransaction};
pub use value::{
    Comparand, Document, DocumentId, FieldType, MAX_DEPTH, Object, Operand, Timestamp, Uuid, Value,
};
pub use work::Work;
