//! The header slots: the first 256 bytes of pages 0 and 1.
//!
//! ```text
//!   0  [u8;8] magic         "AURORADB"
//!   8  u32  format          1
//!  12  u32  page_size       4096, 8192, 16384, 32768 or 65536
//!  16  u64  checkpoint      number of the checkpoint; it is in slot number mod 2
//!  24  u64  version         version of the state that the checkpoint holds
//!  32  u64  salt            random, chosen at creation, seeds every checksum
//!  40  u64  compatible      feature flags that an older program may ignore
//!  48  u64  read_compatible ... that forbid it to write
//!  56  u64  incompatible    ... that forbid it to open the file
//!  64  u32  pages           pages that the checkpoint covers; the file has at least that many
//!  68  u32  reserved        0
//!  72  u32  catalog_page, u32 catalog_checksum, u64 catalog_count, u8 catalog_level, 7 x 0
//!  96  u32  space_page, u32 space_checksum, u8 space_level, 7 x 0
//! 112  u32  log_page, u32 log_pages           the ring that the log starts in
//! 120  u32  next_log_page, u32 next_log_pages the ring it goes on in after a switch, or 0
//! 128  u64  log_start       position of the first record after the checkpoint
//! 136  u32  log_start_crc   checksum of the record before it: the seed of the chain
//! 140  ...  reserved        0
//! 252  u32  checksum        CRC-32C of bytes 0..252
//! ```

use super::page::{MAX_PAGE_SIZE, MIN_PAGE_SIZE};
use super::record::ALIGN_BYTES;
use super::{Lsn, PageNumber, PageRef, TreeRoot, Version, get_u32, get_u64, put_u32, put_u64};
use crate::checksum;
use crate::{Error, Result};

pub(crate) const MAGIC: [u8; 8] = *b"AURORADB";
pub(crate) const FORMAT_VERSION: u32 = 1;
pub(crate) const SLOT_BYTES: usize = 256;
/// The highest version, checkpoint and log position. Nobody ever counts that far.
pub(crate) const MAX_COUNT: u64 = (1 << 63) - 1;
pub(crate) const SLOT_CHECKSUM: usize = 252;

/// A ring of pages that the log is written into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogRegion {
    pub first: PageNumber,
    pub pages: u32,
}

impl LogRegion {
    pub(crate) fn length_bytes(&self, page_size: u32) -> u64 {
        u64::from(self.pages) * u64::from(page_size)
    }
}

/// What a checkpoint leaves behind: everything that `open` needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header {
    pub page_size: u32,
    pub checkpoint: u64,
    pub version: Version,
    pub salt: u64,
    pub compatible: u64,
    pub read_compatible: u64,
    pub incompatible: u64,
    pub pages: u32,
    pub catalog: TreeRoot,
    pub space: PageRef,
    pub space_level: u8,
    pub log: LogRegion,
    pub next_log: LogRegion,
    pub log_start: Lsn,
    pub log_start_crc: u32,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut b = [0; SLOT_BYTES];
        b[..8].copy_from_slice(&MAGIC);
        put_u32(&mut b, 8, FORMAT_VERSION);
        put_u32(&mut b, 12, self.page_size);
        put_u64(&mut b, 16, self.checkpoint);
        put_u64(&mut b, 24, self.version);
        put_u64(&mut b, 32, self.salt);
        put_u64(&mut b, 40, self.compatible);
        put_u64(&mut b, 48, self.read_compatible);
        put_u64(&mut b, 56, self.incompatible);
        put_u32(&mut b, 64, self.pages);
        put_u32(&mut b, 72, self.catalog.root.page);
        put_u32(&mut b, 76, self.catalog.root.checksum);
        put_u64(&mut b, 80, self.catalog.count);
        b[88] = self.catalog.level;
        put_u32(&mut b, 96, self.space.page);
        put_u32(&mut b, 100, self.space.checksum);
        b[104] = self.space_level;
        put_u32(&mut b, 112, self.log.first);
        put_u32(&mut b, 116, self.log.pages);
        put_u32(&mut b, 120, self.next_log.first);
        put_u32(&mut b, 124, self.next_log.pages);
        put_u64(&mut b, 128, self.log_start);
        put_u32(&mut b, 136, self.log_start_crc);
        let checksum = checksum::crc32c(&b[..SLOT_CHECKSUM]);
        put_u32(&mut b, SLOT_CHECKSUM, checksum);
        b
    }

    /// Reads a slot that starts at byte `offset` of the file.
    pub(crate) fn decode(b: &[u8; SLOT_BYTES], offset: u64) -> Result<Self> {
        check_seal(b, offset)?;
        let header = Self::read(b);
        header.check_page_size(offset)?;
        header.check_rings_inside(offset)?;
        header.check_rings().map_err(|(at, first)| {
            let what = "a log ring lies over another, or over a page that the header names";
            fault(offset, what, at, 0, u64::from(first))
        })?;
        header.check_counts(offset)?;
        Ok(header)
    }

    /// The fields, whatever they say.
    fn read(b: &[u8; SLOT_BYTES]) -> Self {
        let page_ref = |at| PageRef {
            page: get_u32(b, at),
            checksum: get_u32(b, at + 4),
        };
        let region = |at| LogRegion {
            first: get_u32(b, at),
            pages: get_u32(b, at + 4),
        };
        Header {
            page_size: get_u32(b, 12),
            checkpoint: get_u64(b, 16),
            version: get_u64(b, 24),
            salt: get_u64(b, 32),
            compatible: get_u64(b, 40),
            read_compatible: get_u64(b, 48),
            incompatible: get_u64(b, 56),
            pages: get_u32(b, 64),
            catalog: TreeRoot {
                root: page_ref(72),
                count: get_u64(b, 80),
                level: b[88],
            },
            space: page_ref(96),
            space_level: b[104],
            log: region(112),
            next_log: region(120),
            log_start: get_u64(b, 128),
            log_start_crc: get_u32(b, 136),
        }
    }

    fn check_page_size(&self, offset: u64) -> Result<()> {
        let size = self.page_size;
        if size.is_power_of_two() && (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&size) {
            return Ok(());
        }
        let what = "the page size is not a power of two from 4096 to 65536";
        let (expected, found) = (u64::from(MIN_PAGE_SIZE), u64::from(size));
        Err(fault(offset, what, 12, expected, found))
    }

    fn check_rings_inside(&self, offset: u64) -> Result<()> {
        for (at, region) in [(112, self.log), (120, self.next_log)] {
            let end = u64::from(region.first) + u64::from(region.pages);
            let absent = at == 120 && region.pages == 0;
            if !absent && (region.first < 2 || region.pages == 0 || end > u64::from(self.pages)) {
                let what = "a log ring lies outside of the file";
                return Err(fault(offset, what, at, u64::from(self.pages), end));
            }
        }
        Ok(())
    }

    /// What is added to them never overflows then.
    fn check_counts(&self, offset: u64) -> Result<()> {
        let counts = [
            (16, self.checkpoint),
            (24, self.version),
            (128, self.log_start),
        ];
        for (at, count) in counts {
            if count > MAX_COUNT {
                let what = "a count is higher than any writer gets";
                return Err(fault(offset, what, at, MAX_COUNT, count));
            }
        }
        if !self.log_start.is_multiple_of(ALIGN_BYTES as u64) {
            let what = "a log position is no multiple of 8";
            return Err(fault(offset, what, 128, 0, self.log_start % 8));
        }
        Ok(())
    }

    /// The rings are apart from each other and from the pages that the header names. Else: the field of the ring, and
    /// where it begins.
    fn check_rings(&self) -> Result<(), (u64, PageNumber)> {
        let is_in = |ring: LogRegion, page: PageNumber| {
            page >= ring.first && u64::from(page) < u64::from(ring.first) + u64::from(ring.pages)
        };
        for (at, ring, other) in [
            (112, self.log, self.next_log),
            (120, self.next_log, self.log),
        ] {
            let named = [self.catalog.root.page, self.space.page];
            let is_over = other.pages > 0 && is_in(ring, other.first);
            if is_over || named.iter().any(|page| is_in(ring, *page)) {
                return Err((at, ring.first));
            }
        }
        Ok(())
    }
}

/// A rule that the slot breaks which starts at byte `offset` of the file: in the field at `at`.
fn fault(offset: u64, what: &'static str, at: u64, expected: u64, found: u64) -> Error {
    Error::Corrupt {
        what,
        page: u64::from(offset > 0),
        offset: offset + at,
        expected,
        found,
    }
}

/// That it is a slot, whole, and one that this program can read, before any field of it means anything.
fn check_seal(b: &[u8; SLOT_BYTES], offset: u64) -> Result<()> {
    if b[..8] != MAGIC {
        return Err(Error::NotADatabase {
            reason: "it does not begin with Aurora's mark",
        });
    }
    let stored = get_u32(b, SLOT_CHECKSUM);
    let computed = checksum::crc32c(&b[..SLOT_CHECKSUM]);
    if stored != computed {
        let what = "the header slot does not match its checksum";
        let (expected, found) = (u64::from(computed), u64::from(stored));
        return Err(fault(offset, what, SLOT_CHECKSUM as u64, expected, found));
    }
    let format = get_u32(b, 8);
    if format != FORMAT_VERSION {
        return Err(Error::NewerFormat {
            found: format,
            supported: FORMAT_VERSION,
        });
    }
    match get_u64(b, 56) {
        0 => Ok(()),
        flags => Err(Error::UnknownFeatures { flags }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            page_size: 4096,
            checkpoint: 7,
            version: 42,
            salt: 0x1234_5678_9abc_def0,
            pages: 100,
            catalog: TreeRoot {
                root: PageRef {
                    page: 16,
                    checksum: 10,
                },
                count: 11,
                level: 1,
            },
            space: PageRef {
                page: 12,
                checksum: 13,
            },
            space_level: 1,
            log: LogRegion { first: 2, pages: 8 },
            next_log: LogRegion {
                first: 20,
                pages: 32,
            },
            log_start: 96,
            log_start_crc: 77,
            ..Header::default()
        }
    }

    #[test]
    fn rings_that_lie_over_something_are_refused() {
        let changes: [fn(&mut Header); 5] = [
            |header| header.catalog.root.page = 9,
            |header| header.space.page = 20,
            |header| header.next_log.first = 9,
            |header| header.next_log = LogRegion { first: 2, pages: 4 },
            |header| {
                header.log = LogRegion {
                    first: 50,
                    pages: 4,
                }
            },
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut header = sample();
            change(&mut header);
            let decoded = Header::decode(&header.encode(), 0);
            assert!(decoded.is_err_and(|error| error.is_corruption()), "{i}");
        }
        let mut header = sample();
        (header.next_log.first, header.space.page) = (17, 90);
        assert_eq!(Header::decode(&header.encode(), 0).unwrap(), header);
    }

    #[test]
    fn a_slot_reads_back_as_it_was_written() {
        let header = sample();
        assert_eq!(Header::decode(&header.encode(), 0).unwrap(), header);
    }

    #[test]
    fn every_flipped_bit_of_a_slot_is_noticed() {
        let good = sample().encode();
        for byte in 0..SLOT_BYTES {
            for bit in 0..8 {
                let mut bad = good;
                bad[byte] ^= 1 << bit;
                assert!(Header::decode(&bad, 0).is_err(), "byte {byte} bit {bit}");
            }
        }
    }

    #[test]
    fn newer_formats_and_unknown_features_are_named() {
        let reseal = |b: &mut [u8; SLOT_BYTES]| {
            let checksum = checksum::crc32c(&b[..SLOT_CHECKSUM]);
            put_u32(b, SLOT_CHECKSUM, checksum);
        };
        let mut b = sample().encode();
        put_u32(&mut b, 8, 9);
        reseal(&mut b);
        assert!(matches!(
            Header::decode(&b, 0),
            Err(Error::NewerFormat { found: 9, .. })
        ));
        let mut b = sample().encode();
        put_u64(&mut b, 56, 4);
        reseal(&mut b);
        assert!(matches!(
            Header::decode(&b, 0),
            Err(Error::UnknownFeatures { flags: 4 })
        ));
    }
}
