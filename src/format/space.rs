//! Pages of the space map: which pages of the file a checkpoint uses.
//!
//! ```text
//! bitmap page (kind 3, level 0)          index page (kind 4, level 1 and up)
//!  0  32 bytes, the page header           0  32 bytes, the page header (count: its entries)
//! 32  bits, page_size - 32 bytes:        32  entries of 12 bytes:
//!     bit i of the map page number k         u32 page      0: nothing below is used
//!     is page k x bits + i of the file;      u32 checksum
//!     bit 0 is the lowest of byte 32;        u32 used      bits set below
//!     1: used
//! ```
//!
//! The entries of the level-1 index pages, in order, are the bitmap pages 0, 1, 2 ...; those of
//! level 2 are the index pages of level 1, and so on up to the root.

use super::page::HEADER_BYTES;
use super::{PageRef, get_u32, put_u32};

pub(crate) const ENTRY_BYTES: usize = 12;

/// How many pages one bitmap page covers.
pub(crate) fn bits_per_page(page_size: u32) -> u32 {
    (page_size - HEADER_BYTES as u32) * 8
}

/// How many entries an index page holds.
pub(crate) fn entries_per_page(page_size: u32) -> usize {
    (page_size as usize - HEADER_BYTES) / ENTRY_BYTES
}

/// The level of the root above `bitmaps` bitmap pages: at least 1.
pub(crate) fn root_level(bitmaps: usize, page_size: u32) -> u8 {
    let fanout = entries_per_page(page_size);
    let mut nodes = bitmaps.max(1).div_ceil(fanout);
    let mut level = 1;
    while nodes > 1 {
        nodes = nodes.div_ceil(fanout);
        level += 1;
    }
    level
}

/// A reference to a bitmap or index page, and how many pages below it are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SpaceEntry {
    pub page: PageRef,
    pub used: u32,
}

pub(crate) fn entry(bytes: &[u8], index: usize) -> SpaceEntry {
    let at = HEADER_BYTES + index * ENTRY_BYTES;
    SpaceEntry {
        page: PageRef {
            page: get_u32(bytes, at),
            checksum: get_u32(bytes, at + 4),
        },
        used: get_u32(bytes, at + 8),
    }
}

pub(crate) fn put_entry(bytes: &mut [u8], index: usize, entry: &SpaceEntry) {
    let at = HEADER_BYTES + index * ENTRY_BYTES;
    put_u32(bytes, at, entry.page.page);
    put_u32(bytes, at + 4, entry.page.checksum);
    put_u32(bytes, at + 8, entry.used);
}

/// The bitmap of a page as words of 64 bits, lowest page in the lowest bit.
pub(crate) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes
        .get(HEADER_BYTES..)
        .unwrap_or_default()
        .chunks_exact(8)
        .map(|chunk| super::get_u64(chunk, 0))
}

pub(crate) fn put_words(bytes: &mut [u8], words: &[u64]) {
    let body = bytes.get_mut(HEADER_BYTES..).unwrap_or_default();
    for (chunk, word) in body.chunks_exact_mut(8).zip(words) {
        super::put_u64(chunk, 0, *word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_level_follows_the_fan_out() {
        assert_eq!(entries_per_page(4096), 338);
        assert_eq!(bits_per_page(4096), 32512);
        assert_eq!(root_level(0, 4096), 1);
        assert_eq!(root_level(338, 4096), 1);
        assert_eq!(root_level(339, 4096), 2);
        assert_eq!(root_level(338 * 338 + 1, 4096), 3);
    }

    #[test]
    fn words_and_entries_read_back() {
        let mut page = vec![0; 4096];
        let words_in: Vec<u64> = (0..508).map(|i| i * 0x0101_0101).collect();
        put_words(&mut page, &words_in);
        assert_eq!(words(&page).collect::<Vec<_>>(), words_in);
        let e = SpaceEntry {
            page: PageRef {
                page: 5,
                checksum: 6,
            },
            used: 7,
        };
        put_entry(&mut page, 337, &e);
        assert_eq!(entry(&page, 337), e);
    }
}
