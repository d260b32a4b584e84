//! CRC-32C, the checksum of everything in the file.
//!
//! The processor's multiplication without carry makes it: on one with AVX-512, 4 KiB in the second
//! level cache took 0.09 us, 64 KiB 1.1 us; with the instruction for CRC-32C itself (the crate
//! `crc32c`) it was 0.2 and 2.5 us. Lengths below 300 bytes took the same time either way.
//!
//! Checksums of parts make that of the whole, and the other way round. With `crc(AB)` for A followed by B:
//! `crc(AB) = shift(crc(A), len B) ^ crc(B)`.
//!
//! A checksum is a polynomial modulo that of CRC-32C, the highest power in the lowest bit; a shift
//! multiplies it by a power of x.

use crc_fast::{CrcAlgorithm, Digest};

/// The polynomial of CRC-32C, in that order of bits.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomials 1 and x to the 8th.
const ONE: u32 = 1 << 31;
const ONE_BYTE: u32 = 1 << 23;

/// What shifts by the distances that one byte of a distance stands for: by 0 to 255 bytes, by 0 to 255 times 256, and
/// so on. (With the powers of two alone, a shift took a multiplication for each bit that is set.)
static FACTORS: [[u32; 256]; 8] = {
    let mut factors = [[ONE; 256]; 8];
    let (mut byte, mut one) = (0, ONE_BYTE);
    while byte < 8 {
        let mut times = 1;
        while times < 256 {
            factors[byte][times] = multiply(factors[byte][times - 1], one);
            times += 1;
        }
        one = multiply(factors[byte][255], one);
        byte += 1;
    }
    factors
};

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

/// The product of two polynomials.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut bit) = (0, 32);
    while bit > 0 {
        bit -= 1;
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = (b >> 1) ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    product
}

/// A checksum, or a difference of two, moved over as many bytes.
pub(crate) fn shift(checksum: u32, bytes: u64) -> u32 {
    Stride::new(bytes).shift(checksum)
}

/// A shift by one distance, made once for many uses.
pub(crate) struct Stride {
    factor: u32,
}

impl Stride {
    pub(crate) const fn new(bytes: u64) -> Self {
        let bytes = bytes.to_le_bytes();
        let (mut factor, mut at) = (FACTORS[0][bytes[0] as usize], 1);
        while at < bytes.len() {
            if bytes[at] > 0 {
                factor = multiply(factor, FACTORS[at][bytes[at] as usize]);
            }
            at += 1;
        }
        Stride { factor }
    }

    pub(crate) fn shift(&self, checksum: u32) -> u32 {
        multiply(self.factor, checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole() {
        let bytes: Vec<u8> = (0..70_000u32)
            .map(|i| (i.wrapping_mul(i) >> 3) as u8)
            .collect();
        for cut in [0, 1, 7, 2500, 4999, 5000, 65_535, 65_536, bytes.len()] {
            let (first, second) = bytes.split_at(cut);
            let joined = shift(crc32c(first), second.len() as u64) ^ crc32c(second);
            assert_eq!(joined, crc32c(&bytes), "cut at {cut}");
        }
        // Whatever is in between: two shifts are one.
        let distances = [0, 1, 8, 4096, u64::from(u32::MAX), 1 << 40, u64::MAX >> 1];
        for (one, other) in distances
            .into_iter()
            .flat_map(|d| distances.map(|e| (d, e)))
        {
            let twice = shift(shift(0x1234_5678, one), other);
            assert_eq!(twice, shift(0x1234_5678, one + other), "{one} and {other}");
        }
    }

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
