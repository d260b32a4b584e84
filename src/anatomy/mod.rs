//! The parts of a file, for programs that look into it without opening it: `tools/aurora-inspect`.
//!
//! Not for others: it follows the code, and changes with it. All but `rebuild` only reads.
//!
//! ```text
//! slot      header slots
//! page      page headers, nodes, pages of the space map
//! log       records and operations, and what an open would make of the log
//! records   what the database's own trees hold: keys, expiry, collections, blobs
//! reader    all trees of the newest state, the log applied
//! rebuild   a new file that is filled entry by entry
//! ```
//!
//! # Invariants
//!
//! 1. Nothing in here panics, whatever the bytes.
//! 2. What is decoded here is decoded by the code that the engine uses.

mod log;
mod page;
mod reader;
mod rebuild;
mod records;
mod slot;

pub use log::{LogEnd, LogRecord, Operation, log_end, operations, read_record};
pub use page::{
    Cell, Child, Node, PageHeader, Reference, Root, Run, SpaceEntry, checksum,
    decode_catalog_entry, is_inline, longest_key, space_bits, space_entries_per_page, space_entry,
    space_root_level, usable_bytes, verify,
};
pub use reader::Reader;
pub use rebuild::{Neighbors, Pair, Rebuild};
pub use records::{BlobDetails, CollectionRecord, DueRecord, IndexRecord, KeyRecord, decode_id};
pub use slot::{Header, Ring, decode_slot};

pub use crate::path::with_ending;

use crate::checksum;
use crate::format::{header, page as page_format, record};

/// The format that this build reads.
pub const FORMAT_VERSION: u32 = header::FORMAT_VERSION;
/// The length of a header slot.
pub const SLOT_BYTES: usize = header::SLOT_BYTES;
/// The smallest page.
pub const MIN_PAGE_SIZE: u32 = page_format::MIN_PAGE_SIZE;
/// The largest page.
pub const MAX_PAGE_SIZE: u32 = page_format::MAX_PAGE_SIZE;
/// The highest number of a tree.
pub const MAX_TREE: u32 = crate::txn::state::MAX_TREE;
/// The log names the places of values from this length on; shorter ones are in its records.
pub const DIRECT_BYTES: usize = crate::txn::pages::DIRECT_BYTES;
/// What nodes and pages of the space map begin with.
pub const PAGE_HEADER_BYTES: usize = page_format::HEADER_BYTES;
/// Kind of page.
pub const LEAF: u8 = page_format::LEAF;
/// Kind of page.
pub const BRANCH: u8 = page_format::BRANCH;
/// Kind of page.
pub const SPACE_BITMAP: u8 = page_format::SPACE_BITMAP;
/// Kind of page.
pub const SPACE_INDEX: u8 = page_format::SPACE_INDEX;
/// Kind of page.
pub const UNIFORM_LEAF: u8 = page_format::UNIFORM_LEAF;
/// Kind of record.
pub const COMMIT: u8 = record::COMMIT;
/// Kind of record.
pub const MARK: u8 = record::MARK;
/// Kind of record.
pub const SWITCH: u8 = record::SWITCH;
/// Flag of a mark.
pub const FLAG_CLEAN: u8 = record::FLAG_CLEAN;
/// Flag of a commit: an open compares its long values with their checksums, unless the log proves that
/// they were synced.
pub const FLAG_RUNS_UNSYNCED: u8 = record::FLAG_RUNS_UNSYNCED;
/// What a record of the log begins with.
pub const RECORD_HEADER_BYTES: usize = record::RECORD_HEADER_BYTES;

/// CRC-32C of `bytes`, going on from that of what was before them (0: nothing).
pub fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    checksum::append(before, bytes)
}

/// A rule of the format that some bytes break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flaw {
    /// Which rule.
    pub what: &'static str,
    /// The byte offset within the page.
    pub offset: u32,
    /// What the rule asks for.
    pub expected: u64,
    /// What the bytes hold.
    pub found: u64,
}

impl From<crate::format::Fault> for Flaw {
    fn from(fault: crate::format::Fault) -> Self {
        Flaw {
            what: fault.what,
            offset: fault.offset,
            expected: fault.expected,
            found: fault.found,
        }
    }
}

impl From<crate::keys::record::Flaw> for Flaw {
    fn from(flaw: crate::keys::record::Flaw) -> Self {
        Flaw {
            what: flaw.what,
            offset: 0,
            expected: flaw.expected,
            found: flaw.found,
        }
    }
}
