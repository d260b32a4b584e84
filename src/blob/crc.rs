//! Arithmetic on CRC-32C, so that the checksum of a whole stays exact when a part of it changes.
//!
//! With `crc(AB)` for A followed by B:
//! `crc(AB) = shift(crc(A), len B) ^ crc(B)`, and if B is replaced by B' of the same length,
//! `crc(ABC) ^ crc(AB'C) = shift(crc(B) ^ crc(B'), len C)`.

use super::CHUNK_BYTES;
use crate::checksum::{self, Stride};

/// A checksum, or a difference of two, moved over as many bytes.
pub(super) fn shift(checksum: u32, bytes: u64) -> u32 {
    /// Mostly it is a chunk, and a stride takes longer to make than to use.
    const CHUNK: Stride = Stride::new(CHUNK_BYTES as u64);
    match checksum {
        // That of nothing, which is before the first chunk, stays what it is.
        0 => 0,
        _ if bytes == u64::from(CHUNK_BYTES) => CHUNK.shift(checksum),
        _ => checksum::shift(checksum, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::crc32c;

    #[test]
    fn parts_make_the_whole() {
        let all = 5000 + CHUNK_BYTES;
        let bytes: Vec<u8> = (0..all).map(|i| (i.wrapping_mul(i) >> 3) as u8).collect();
        for cut in [0, 1, 7, 2500, 4999, 5000, bytes.len()] {
            let (first, second) = bytes.split_at(cut);
            let tail = second.len() as u64;
            let joined = shift(crc32c(first), tail) ^ crc32c(second);
            assert_eq!(joined, crc32c(&bytes), "cut at {cut}");
        }
    }

    #[test]
    fn a_replaced_part_moves_the_whole_by_its_difference() {
        let old: Vec<u8> = (0..3000u32).map(|i| (i * 31) as u8).collect();
        let mut new = old.clone();
        new[1000..1700].fill(9);
        let difference = crc32c(&old[1000..1700]) ^ crc32c(&new[1000..1700]);
        assert_eq!(crc32c(&old) ^ shift(difference, 1300), crc32c(&new));
    }
}
