//! Arithmetic on CRC-32C, so that the checksum of a whole stays exact when a part of it changes.
//!
//! With `crc(AB)` for A followed by B:
//! `crc(AB) = shift(crc(A), len B) ^ crc(B)`, and if B is replaced by B' of the same length,
//! `crc(ABC) ^ crc(AB'C) = shift(crc(B) ^ crc(B'), len C)`.

/// A checksum, or a difference of two, moved over as many bytes.
pub(super) fn shift(checksum: u32, mut bytes: u64) -> u32 {
    let mut shifted = checksum;
    while bytes > 0 {
        let step = usize::try_from(bytes).unwrap_or(usize::MAX);
        shifted = crc32c::crc32c_combine(shifted, 0, step);
        bytes -= step as u64;
    }
    shifted
}

/// A shift by one distance, made once for many uses.
pub(super) struct Stride {
    /// What becomes of each bit.
    columns: [u32; 32],
}

impl Stride {
    pub(super) fn new(bytes: u64) -> Self {
        let mut columns = [0; 32];
        for (bit, column) in columns.iter_mut().enumerate() {
            *column = shift(1 << bit, bytes);
        }
        Stride { columns }
    }

    pub(super) fn shift(&self, checksum: u32) -> u32 {
        let set = |bit: &usize| checksum >> bit & 1 == 1;
        let columns = self.columns.iter().enumerate();
        columns
            .filter(|(bit, _)| set(bit))
            .fold(0, |sum, (_, column)| sum ^ column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crc32c::crc32c;

    #[test]
    fn parts_make_the_whole() {
        let bytes: Vec<u8> = (0..5000u32).map(|i| ((i * i) >> 3) as u8).collect();
        for cut in [0, 1, 7, 2500, 4999, 5000] {
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
