//! Aurora: an embedded database in one file.
//!
//! Keys with a time to live, collections of documents with indexes and queries, and blobs, in one
//! transaction, with snapshots, and with a log inside the file, so that a commit that returned `Ok` has
//! survived a power cut (with [`Durability::Full`], the default). Beneath are ordered trees of bytes, which are there to be used too. See
//! [`Aurora`] for how to begin, [`Schema`] and [`Query`] for documents, and the [`guide`] for what to know when a program
//! depends on it: threads, isolation, errors, memory, space, limits.
//!
//! ```text
//! db, trees, upkeep               what a user calls
//!   backup, compact, inspect      copies, smaller files, what is in them
//!   export                        collections to files and back
//!     query                       filters, plans, rows
//!       collection                schemas, documents, index entries
//!         keys, blob, value       keys that expire; content in chunks; values and their order
//!           hot                   values and documents from memory
//!             txn                 snapshots, one writer at a time, commit, checkpoint, recovery
//!               tree              B+tree over pages: search, insert, delete, cursors, counts
//!                 pager    log    verified pages and free space; the write-ahead log
//!                   format        every byte as pure functions
//!                     storage     the only code that touches a file
//! ```
//!
//! A layer calls only those below it. But an index can have a query's filter; transactions and snapshots carry the
//! `handle`, with the clock and the caches of the layers above; and what expires may be a document or a blob. A `moment` is
//! either of these two; a `walk` goes through a tree of one.
#![deny(missing_docs)]
// Never panic on data.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "inspect")]
#[doc(hidden)]
pub mod anatomy;
mod backup;
mod blob;
mod checksum;
mod clock;
mod collection;
mod compact;
mod db;
mod error;
mod events;
mod export;
mod format;
mod handle;
mod hot;
mod inspect;
mod keys;
mod locks;
mod log;
mod moment;
mod pager;
mod path;
mod prefetch;
mod query;
pub mod storage;
mod sync;
mod tree;
mod trees;
mod txn;
mod upkeep;
mod value;
mod walk;
mod work;

pub use blob::{BlobInfo, BlobMeta, BlobReader, BlobScan, BlobWriter, StagedBlob};
pub use clock::{Clock, SystemClock};
pub use collection::{
    BuildProgress, Collection, CollectionMut, CollectionView, Field, Index, IndexInfo, Patch,
    Schema,
};
pub use compact::Progress;
pub use db::{Aurora, Builder};
pub use error::{Error, Result};
pub use export::{Export, Exported, IfThere, Import, Imported, Refused};
pub use hot::SharedBytes;
pub use inspect::{CheckReport, HotStats, Stats, TreeSize, TreeStats, WrittenBytes};
pub use keys::{Batch, DataInfo, KeyScan, Scan, Swap, Target, Ttl};
pub use query::{Cursor, Explanation, Fields, Filter, Group, Grouped, Page, Query, Rows};
pub use trees::{Tree, TreeScan};
pub use txn::commit::Commit;
pub use txn::cursor::{Entry, Keys, Range, TreeCursor};
pub use txn::reader::TreeReader;
pub use txn::snapshot::Snapshot;
pub use txn::tree_mut::TreeMut;
pub use txn::value::ValueRef;
pub use txn::view::TreeView;
pub use txn::write::{Durability, Savepoint, WriteTransaction};
pub use value::{
    Comparand, Document, DocumentId, FieldType, MAX_DEPTH, Object, Operand, Timestamp, Uuid, Value,
};
pub use work::Work;

#[doc = include_str!("guide.md")]
pub mod guide {}

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
