//! Records and operations of the log, and what an open would make of it.

use std::ops::Bound;
use std::sync::Arc;

use super::page::Run;
use super::slot::Header;
use crate::Result;
use crate::format::record::{self, Operations};
use crate::pager::Pager;
use crate::storage::Storage;

/// The fixed part of a record. The fields are those of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LogRecord {
    pub length_bytes: u32,
    pub lsn: u64,
    pub version: u64,
    pub checkpoint: u64,
    pub durable: u64,
    pub kind: u8,
    pub flags: u8,
    pub previous: u32,
    pub checksum: u32,
    /// Whether checksum and padding are right.
    pub is_intact: bool,
    /// All bytes of the record.
    pub bytes: u64,
}

/// The record that these bytes begin with, if they can be the start of one.
pub fn read_record(bytes: &[u8], salt: u64) -> Option<LogRecord> {
    let header = record::decode_header(bytes)?;
    let length = u64::from(header.length_bytes) + record::RECORD_HEADER_BYTES as u64;
    Some(LogRecord {
        length_bytes: header.length_bytes,
        lsn: header.lsn,
        version: header.version,
        checkpoint: header.checkpoint,
        durable: header.durable,
        kind: header.kind,
        flags: header.flags,
        previous: header.previous,
        checksum: header.checksum,
        is_intact: record::is_intact(bytes, &header, salt),
        bytes: length.next_multiple_of(record::ALIGN_BYTES as u64),
    })
}

/// One change in a commit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation<'a> {
    Put {
        tree: u32,
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        tree: u32,
        key: &'a [u8],
    },
    DeleteRange {
        tree: u32,
        lower: Bound<&'a [u8]>,
        upper: Bound<&'a [u8]>,
    },
    PutRun {
        tree: u32,
        key: &'a [u8],
        run: Run,
    },
    CreateTree {
        tree: u32,
        name: &'a [u8],
    },
    DropTree {
        tree: u32,
    },
    RenameTree {
        tree: u32,
        name: &'a [u8],
    },
}

/// The operations of a payload. `None`: it goes on with something that is none.
pub fn operations(payload: &[u8]) -> impl Iterator<Item = Option<Operation<'_>>> {
    Operations::new(payload).map(|operation| operation.map(convert))
}

fn convert(operation: record::Operation<'_>) -> Operation<'_> {
    use record::Operation as Own;
    match operation {
        Own::Put { tree, key, value } => Operation::Put { tree, key, value },
        Own::Delete { tree, key } => Operation::Delete { tree, key },
        Own::DeleteRange { tree, lower, upper } => Operation::DeleteRange { tree, lower, upper },
        Own::PutRun { tree, key, run } => Operation::PutRun {
            tree,
            key,
            run: run.into(),
        },
        Own::CreateTree { tree, name } => Operation::CreateTree { tree, name },
        Own::DropTree { tree } => Operation::DropTree { tree },
        Own::RenameTree { tree, name } => Operation::RenameTree { tree, name },
    }
}

/// Where replay would stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The position behind the last record that counts.
    pub lsn: u64,
    /// Commits that wait in the log.
    pub commits: u64,
    /// Whether the file was closed by its last user.
    pub is_clean: bool,
}

/// Reads the log as an open does, and fails as an open would. The rings must lie in the file: what is in
/// use of them is read into memory.
pub fn log_end(storage: Arc<dyn Storage>, header: &Header) -> Result<LogEnd> {
    const LEAST_MEMORY_BYTES: usize = 1 << 20;
    let pager = Pager::new(storage, header.page_size, header.salt, LEAST_MEMORY_BYTES)?;
    let scan = crate::log::scan(&pager, &header.own)?;
    Ok(LogEnd {
        lsn: scan.end.lsn,
        commits: scan.commits.len() as u64,
        is_clean: scan.is_clean,
    })
}
