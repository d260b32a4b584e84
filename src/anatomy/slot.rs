//! Header slots.

use super::page::{Reference, Root};
use crate::Result;
use crate::format::header::{self, LogRegion, SLOT_BYTES};

/// A ring of pages that the log is written into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ring {
    /// Its first page.
    pub first: u32,
    /// How many pages it has; 0: there is none.
    pub pages: u32,
}

impl From<LogRegion> for Ring {
    fn from(region: LogRegion) -> Self {
        Ring {
            first: region.first,
            pages: region.pages,
        }
    }
}

/// What a header slot says. The fields are those of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Header {
    pub page_size: u32,
    pub checkpoint: u64,
    pub version: u64,
    pub salt: u64,
    pub compatible: u64,
    pub read_compatible: u64,
    pub incompatible: u64,
    pub pages: u32,
    pub catalog: Root,
    pub space: Reference,
    pub space_level: u8,
    pub log: Ring,
    pub next_log: Ring,
    pub log_start: u64,
    pub log_start_crc: u32,
    pub(super) own: header::Header,
}

/// Reads a slot that starts at byte `offset` of the file.
pub fn decode_slot(bytes: &[u8; SLOT_BYTES], offset: u64) -> Result<Header> {
    let own = header::Header::decode(bytes, offset)?;
    Ok(Header {
        page_size: own.page_size,
        checkpoint: own.checkpoint,
        version: own.version,
        salt: own.salt,
        compatible: own.compatible,
        read_compatible: own.read_compatible,
        incompatible: own.incompatible,
        pages: own.pages,
        catalog: own.catalog.into(),
        space: own.space.into(),
        space_level: own.space_level,
        log: own.log.into(),
        next_log: own.next_log.into(),
        log_start: own.log_start,
        log_start_crc: own.log_start_crc,
        own,
    })
}
