//! CRC-32C, the checksum of everything in the file.
//!
//! The processor's multiplication without carry makes it: on one with AVX-512, 4 KiB in the second
//! level cache took 0.09 us, 64 KiB 1.1 us; with the instruction for CRC-32C itself (the crate
//! `crc32c`) it was 0.2 and 2.5 us. Lengths below 300 bytes took the same time either way.

use crc_fast::{CrcAlgorithm, Digest};

#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of what has the checksum `before`, followed by `bytes`.
#[inline]
pub(crate) fn append(before: u32, bytes: &[u8]) -> u32 {
    // A checksum is the complement of the state that it was made from.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!before));
    digest.update(bytes);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against another program, with all lengths and places where a faster way of going on could begin.
    #[test]
    fn it_is_that_of_others() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let bytes: Vec<u8> = (0..70_000u32)
            .map(|i| (i.wrapping_mul(i) >> 3) as u8)
            .collect();
        let lengths = (0..1100).chain([4072, 4096, 16_384, 65_536, 69_000]);
        for length in lengths {
            let part = &bytes[length % 67..][..length];
            assert_eq!(crc32c(part), ::crc32c::crc32c(part), "{length} bytes");
            let (first, second) = part.split_at(length / 3);
            let joined = append(crc32c(first), second);
            assert_eq!(joined, crc32c(part), "{length} bytes in two parts");
        }
    }
}
