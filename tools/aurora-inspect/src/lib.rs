//! Looking into an Aurora file without opening the database: what is in it, and whether it is as
//! the format promises.
//!
//! ```text
//! commands   what each command says
//!   upper    keys, expiry, blobs, collections: what the database's own trees promise
//!   survey   every page that can be reached     wal   the log
//!     walk   one tree     map   the space map
//!       source   the file: slots, pages checked against references
//!         show, table, fault   how things are shown
//! ```
//!
//! # Invariants
//!
//! 1. The file is never written to, and not locked: it may be open elsewhere.
//! 2. Nothing panics, whatever the bytes. What is wrong is collected, and the rest is looked at.
//! 3. Work and memory are bounded by the length of the file.
#![deny(missing_docs)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Faults are rare and collected one level up: they need not be small.
#![allow(clippy::result_large_err)]

pub mod commands;
pub mod dump;
pub mod entries;
pub mod fault;
pub mod map;
pub mod place;
pub mod salvage;
pub mod show;
pub mod source;
pub mod survey;
pub mod table;
pub mod upper;
pub mod wal;
pub mod walk;

pub use fault::{Failure, Fault, Faults, Report, Severity};
pub use source::Source;
pub use survey::{Options, Silent, Survey, Use, Watcher};
