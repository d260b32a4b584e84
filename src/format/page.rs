//! The 32 bytes that every tree and space page starts with, and the checksum over the page.
//!
//! ```text
//!  0  u32  checksum     CRC-32C of bytes 4.. of the page, seeded with the file's salt and `page`
//!  4  u32  page         the page's own number
//!  8  u64  birth        the version that made this page
//! 16  u8   kind         1 leaf, 2 branch, 3 space bitmap, 4 space index, 5 uniform leaf
//! 17  u8   level        0 for leaves and bitmaps, one more than its children for the others
//! 18  u16  count        slots of a node, entries of a space index
//! 20  u32  cells_start  nodes: offset of the lowest cell (the page size if there is none)
//! 24  u16  prefix       nodes: length of the common key prefix, kept in the page's last bytes
//! 26  u16  garbage      nodes: bytes between cells_start and the prefix that no cell uses; of
//!                       which a uniform leaf has none, so there it is
//!          suffix       the length of every key without the prefix
//! 28  u16  appends      leaves, a hint: bits 13 to 15, how many of the last inserts came right
//!                       behind the one before, up to 7, or right before it if bit 12 is set,
//!                       those counted that went to the leaf that this one was split from;
//!                       bits 0 to 11, the slot of the last one
//! 30  u16  lengths      leaves: 0, or 1 more than the length that all inline values have
//! ```

use super::{Fault, PageNumber, Version, get_u16, get_u32, get_u64, put_u16, put_u32, put_u64};
use crate::checksum;

pub(crate) const HEADER_BYTES: usize = 32;
pub(crate) const MIN_PAGE_SIZE: u32 = 4096;
pub(crate) const MAX_PAGE_SIZE: u32 = 65536;

pub(crate) const CHECKSUM: usize = 0;
pub(crate) const PAGE: usize = 4;
pub(crate) const BIRTH: usize = 8;
pub(crate) const KIND: usize = 16;
pub(crate) const LEVEL: usize = 17;
pub(crate) const COUNT: usize = 18;
pub(crate) const CELLS_START: usize = 20;
pub(crate) const PREFIX: usize = 24;
pub(crate) const GARBAGE: usize = 26;
pub(crate) const SUFFIX: usize = GARBAGE;
pub(crate) const APPENDS: usize = 28;
pub(crate) const LENGTHS: usize = 30;

pub(crate) const LEAF: u8 = 1;
pub(crate) const BRANCH: u8 = 2;
pub(crate) const SPACE_BITMAP: u8 = 3;
pub(crate) const SPACE_INDEX: u8 = 4;
pub(crate) const UNIFORM_LEAF: u8 = 5;

#[inline]
pub(crate) fn kind(bytes: &[u8]) -> u8 {
    bytes.get(KIND).copied().unwrap_or(0)
}

/// Of a leaf, which can become one of the other kind.
pub(crate) fn set_kind(bytes: &mut [u8], kind: u8) {
    if let Some(byte) = bytes.get_mut(KIND) {
        *byte = kind;
    }
}

#[inline]
pub(crate) fn level(bytes: &[u8]) -> u8 {
    bytes.get(LEVEL).copied().unwrap_or(0)
}

#[inline]
pub(crate) fn count(bytes: &[u8]) -> usize {
    usize::from(get_u16(bytes, COUNT))
}

#[inline]
pub(crate) fn birth(bytes: &[u8]) -> Version {
    get_u64(bytes, BIRTH)
}

/// Starts a page, which is all zeroes, with the common header.
pub(crate) fn init(bytes: &mut [u8], page: PageNumber, birth: Version, kind: u8, level: u8) {
    debug_assert!(bytes.iter().all(|byte| *byte == 0));
    put_u32(bytes, PAGE, page);
    put_u64(bytes, BIRTH, birth);
    if let Some(chunk) = bytes.get_mut(KIND..=LEVEL) {
        chunk.copy_from_slice(&[kind, level]);
    }
    let size = bytes.len() as u32;
    put_u32(bytes, CELLS_START, size);
    put_u16(bytes, COUNT, 0);
}

/// The checksum that the page must carry, and that its parent's reference must hold.
pub(crate) fn checksum(bytes: &[u8], page: PageNumber, salt: u64) -> u32 {
    let mut seed = [0; 12];
    put_u64(&mut seed, 0, salt);
    put_u32(&mut seed, 8, page);
    let body = bytes.get(PAGE..).unwrap_or_default();
    // 0 stands for "not written yet" in references, so no page has it.
    checksum::append(checksum::crc32c(&seed), body).max(1)
}

/// Checks a page read from the disk against the reference that led to it.
pub(crate) fn verify(
    bytes: &[u8],
    page: PageNumber,
    expected: u32,
    salt: u64,
) -> Result<(), Fault> {
    let found = checksum(bytes, page, salt);
    if found != expected {
        return Err(Fault::new(
            "the page does not match the checksum in its reference",
            CHECKSUM,
            u64::from(expected),
            u64::from(found),
        ));
    }
    let stored = get_u32(bytes, CHECKSUM);
    if stored != expected {
        return Err(Fault::new(
            "the page's own checksum is wrong",
            CHECKSUM,
            u64::from(expected),
            u64::from(stored),
        ));
    }
    let number = get_u32(bytes, PAGE);
    if number != page {
        return Err(Fault::new(
            "the page carries another page's number",
            PAGE,
            u64::from(page),
            u64::from(number),
        ));
    }
    Ok(())
}
