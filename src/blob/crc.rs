//! Arithmetic on CRC-32C, so that the checksum of a whole stays exact when a part of it changes.
//!
//! With `crc(AB)` for A followed by B:
//! `crc(AB) = shift(crc(A), len B) ^ crc(B)`, and if B is replaced by B' of the same length,
//! `crc(ABC) ^ crc(AB'C) = shift(crc(B) ^ crc(B'), len C)`.
//!
//! A checksum is a polynomial modulo that of CRC-32C, the highest power in the lowest bit; a shift
//! multiplies it by a power of x.

use super::CHUNK_BYTES;

/// The polynomial of CRC-32C, in that order of bits.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomials 1 and x to the 8th.
const ONE: u32 = 1 << 31;
const ONE_BYTE: u32 = 1 << 23;

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
pub(super) fn shift(checksum: u32, bytes: u64) -> u32 {
    /// Mostly it is a chunk, and a stride takes longer to make than to use.
    const CHUNK: Stride = Stride::new(CHUNK_BYTES as u64);
    match checksum {
        // That of nothing, which is before the first chunk, stays what it is.
        0 => 0,
        _ if bytes == u64::from(CHUNK_BYTES) => CHUNK.shift(checksum),
        _ => Stride::new(bytes).shift(checksum),
    }
}

/// A shift by one distance, made once for many uses.
pub(super) struct Stride {
    factor: u32,
}

impl Stride {
    pub(super) const fn new(mut bytes: u64) -> Self {
        let (mut factor, mut power) = (ONE, ONE_BYTE);
        while bytes > 0 {
            if bytes & 1 == 1 {
                factor = multiply(factor, power);
            }
            power = multiply(power, power);
            bytes >>= 1;
        }
        Stride { factor }
    }

    pub(super) fn shift(&self, checksum: u32) -> u32 {
        multiply(self.factor, checksum)
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
            assert_eq!(
                Stride::new(tail).shift(crc32c(first)),
                shift(crc32c(first), tail)
            );
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
