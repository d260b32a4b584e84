//! Blobs: content of any size under a key, streamed in and out in chunks.
//!
//! A blob has a number that is never used again. Its content is in the tree of chunks, under the
//! number and the index of each chunk; what it is like is in the record of its key. A record and
//! its chunks change in one transaction.
//!
//! ```text
//! api       what a user calls on a database, a snapshot and a transaction
//!   writer, reader      streams in and out
//!   scan                which blobs there are
//!     stage             chunks that are stored before anyone can see them
//!       content         the chunks of one blob: read, append, truncate, overwrite
//!         meta, crc     the record's bytes; arithmetic on checksums
//! ```
//!
//! # Invariants
//!
//! 1. Every chunk belongs to the blob of exactly one record, or to a number that is listed as
//!    staged. All chunks of a blob are as long as its record says, the last one excepted, and
//!    together they are as long as it says and have its checksum.
//! 2. A staged number is listed in the transaction that takes it, and leaves the list in the one
//!    that makes it the blob of a key. What is listed and has no living writer in this process is
//!    dead, because no other process can have the file open: it is removed when the file is opened
//!    and when a number is staged.
//! 3. A long stream never holds the writers' turn while it waits for its source, except inside of
//!    a user's own transaction.
//! 4. Whatever the size of a blob, at most two groups of chunks are in memory for it.

mod api;
mod check;
mod content;
mod crc;
mod extension;
mod found;
mod meta;
mod reader;
mod scan;
mod stage;
mod writer;

pub(crate) use check::check;
pub use meta::{BlobInfo, BlobMeta};
pub use reader::BlobReader;
pub use scan::BlobScan;
pub(crate) use stage::{Uploads, recover};
pub use writer::{BlobWriter, StagedBlob};

use crate::Result;
use crate::keys::record::Flaw;
use crate::keys::store::KEYS;
use crate::txn::write::WriteTransaction;

/// Chunks: blob number u64 BE, index u32 BE.
const CHUNKS: &str = "aurora/chunks";
/// Blobs that no record has yet: number u64 BE.
const STAGED: &str = "aurora/staged";
/// The fact that is the last blob number taken, u64 LE.
const LAST_NUMBER: &str = "blob";
/// The length of a chunk of a new blob: 64 pages of 4096 bytes, and so long that it is written
/// straight to its place.
const CHUNK_BYTES: u32 = 256 << 10;
/// What is stored in one transaction while a blob comes in, a whole number of chunks; and what the
/// system keeps together, so that it is read fast.
const GROUP_BYTES: u64 = crate::pager::STREAM_BYTES;

/// Frees the content of a blob whose record is gone, given the payload of that record.
pub(crate) fn forget(tx: &mut WriteTransaction, payload: &[u8]) -> Result<()> {
    let meta = meta::Meta::decode(payload).map_err(|flaw| flaw.at(KEYS, b"(replaced)"))?;
    meta.content.remove(tx)
}

/// All that the payload of a blob's record says, for who looks into files.
#[cfg(feature = "inspect")]
pub(crate) fn details(payload: &[u8]) -> Result<crate::anatomy::BlobDetails, Flaw> {
    let meta = meta::Meta::decode(payload)?;
    let is_canonical = meta.encode().is_ok_and(|bytes| bytes == payload);
    Ok(crate::anatomy::BlobDetails {
        number: meta.content.number,
        size: meta.content.size,
        chunk_bytes: meta.content.chunk_bytes,
        checksum: meta.content.checksum,
        created_ms: meta.created_ms,
        content_type: meta.said.content_type,
        map: meta.said.map.into_iter().collect(),
        is_canonical,
    })
}
