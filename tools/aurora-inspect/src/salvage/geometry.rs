//! The page size and the salt of a file, even if no header slot can tell them.
//!
//! The salt is the first thing that goes into a page's checksum, and all pages have one length. So
//! a checksum depends on the salt only by the 32 bits that the CRC's register holds behind it, and
//! running the CRC backwards from an intact page gives them. Any salt that leads to the same
//! register makes the same checksums, of pages and of records: one of them is as good as the one
//! that was lost.
//!
//! # Invariants
//!
//! 1. A salt that was computed is that of at least two pages that carry their own number.

use std::collections::HashMap;

use aurora::anatomy::{MAX_PAGE_SIZE, MIN_PAGE_SIZE, PAGE_HEADER_BYTES, PageHeader, crc32c};
use aurora::storage::Storage;

use crate::Failure;
use crate::source::{Slot, newest};

/// Pages that agree, after which no more are asked.
const ENOUGH: u32 = 64;
/// The fewest pages that have to agree.
const LEAST: u32 = 2;
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// How a file is divided, and what its checksums begin with.
#[derive(Debug, Clone)]
pub(crate) struct Geometry {
    pub page_size: u32,
    pub salt: u64,
    /// Where they are from.
    pub from: String,
}

/// From a sound slot, or else from the pages themselves.
pub(crate) fn find(
    storage: &dyn Storage,
    length: u64,
    slots: &[Slot; 2],
) -> Result<Geometry, Failure> {
    if let Some(slot) = newest(slots)
        && let Some(header) = slot.header()
    {
        return Ok(Geometry {
            page_size: header.page_size,
            salt: header.salt,
            from: format!("header slot {}", slot.number),
        });
    }
    let mut best: Option<(u32, u32, u32)> = None;
    for log2 in MIN_PAGE_SIZE.ilog2()..=MAX_PAGE_SIZE.ilog2() {
        let page_size = 1u32 << log2;
        let votes = vote(storage, length, page_size)?;
        if let Some((register, count)) = votes
            && best.is_none_or(|(_, _, most)| count > most)
        {
            best = Some((page_size, register, count));
        }
    }
    let Some((page_size, register, count)) = best.filter(|(_, _, count)| *count >= LEAST) else {
        return Err(Failure(String::from(
            "nothing can be verified: both header slots are damaged, and no two pages agree on \
             the salt that their checksums begin with",
        )));
    };
    Ok(Geometry {
        page_size,
        salt: salt_for(register),
        from: format!("the checksums of {count} pages, which agree"),
    })
}

/// The register that most pages of this size ask for, and how many they are.
fn vote(storage: &dyn Storage, length: u64, page_size: u32) -> Result<Option<(u32, u32)>, Failure> {
    let backwards = Backwards::new();
    let mut votes: HashMap<u32, u32> = HashMap::new();
    let mut bytes = vec![0; page_size as usize];
    let pages = length / u64::from(page_size);
    for page in 2..u32::try_from(pages).unwrap_or(u32::MAX) {
        let offset = u64::from(page) * u64::from(page_size);
        let mut head = [0; PAGE_HEADER_BYTES];
        let read = |bytes: &mut [u8]| {
            let read = storage.read_at(offset, bytes);
            read.map_err(|error| Failure(error.to_string()))
        };
        read(&mut head)?;
        let header = PageHeader::decode(&head);
        if header.page != page || !(1..=5).contains(&header.kind) || header.checksum < 2 {
            continue;
        }
        read(&mut bytes)?;
        let register = backwards.before(header.checksum, bytes.get(4..).unwrap_or_default());
        let register = backwards.before(register, &page.to_le_bytes());
        let count = votes.entry(register).or_default();
        *count += 1;
        if *count >= ENOUGH {
            return Ok(Some((register, *count)));
        }
    }
    Ok(votes.into_iter().max_by_key(|(_, count)| *count))
}

/// A salt whose eight bytes have this CRC: the first four are zero, the last four follow.
fn salt_for(register: u32) -> u64 {
    let zeros = crc32c(0, &[0; 4]);
    let wanted = Backwards::new().before(register, &[0; 4]);
    u64::from(wanted ^ zeros) << 32
}

/// CRC-32C run backwards.
struct Backwards {
    /// For the highest byte of a table's entry: the index, and the entry.
    by_top: [(u8, u32); 256],
}

impl Backwards {
    fn new() -> Self {
        let mut by_top = [(0, 0); 256];
        for index in 0..=255_u8 {
            let mut entry = u32::from(index);
            for _ in 0..8 {
                entry = (entry >> 1) ^ (POLYNOMIAL * (entry & 1));
            }
            if let Some(slot) = by_top.get_mut((entry >> 24) as usize) {
                *slot = (index, entry);
            }
        }
        Backwards { by_top }
    }

    /// The CRC of what came before `bytes`, if with them it is `crc`.
    fn before(&self, crc: u32, bytes: &[u8]) -> u32 {
        let mut register = !crc;
        for byte in bytes.iter().rev() {
            let top = (register >> 24) as usize;
            let (index, entry) = self.by_top.get(top).copied().unwrap_or_default();
            register = ((register ^ entry) << 8) | u32::from(index ^ byte);
        }
        !register
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crc_runs_backwards() {
        for length in [0, 1, 3, 4, 8, 1000] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let before = 0x1234_5678;
            let after = crc32c(before, &bytes);
            assert_eq!(Backwards::new().before(after, &bytes), before);
        }
    }

    #[test]
    fn another_salt_makes_the_same_checksums() {
        let page: Vec<u8> = (0..4096).map(|i| (i % 251) as u8).collect();
        for salt in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let other = salt_for(crc32c(0, &salt.to_le_bytes()));
            let checksum = |salt| aurora::anatomy::checksum(&page, 7, salt);
            assert_eq!(checksum(salt), checksum(other));
            assert_ne!(checksum(salt), checksum(salt ^ 2));
        }
    }
}
