//! The bytes of a file, in pieces that copies share until one of them changes: a crash test makes
//! thousands of copies of nearly the same file.
//!
//! # Invariants
//!
//! 1. There are as many pieces as the length needs; bytes of the last one past the length are 0.

use std::sync::{Arc, LazyLock};

const PIECE_BYTES: usize = 4096;

type Piece = Arc<[u8; PIECE_BYTES]>;

static ZEROS: LazyLock<Piece> = LazyLock::new(|| Arc::new([0; PIECE_BYTES]));

#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    pieces: Vec<Piece>,
    length: usize,
}

impl Image {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut image = Image::default();
        image.overwrite(0, bytes);
        image
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Cuts it, or extends it with zeros.
    pub(super) fn resize(&mut self, length: usize) {
        let pieces = length.div_ceil(PIECE_BYTES);
        self.pieces.resize_with(pieces, || ZEROS.clone());
        let within = length % PIECE_BYTES;
        if length < self.length
            && within > 0
            && let Some(last) = self.pieces.last_mut()
        {
            Arc::make_mut(last)[within..].fill(0); // invariant 1
        }
        self.length = length;
    }

    /// Writes bytes, growing the image where it ends before.
    pub(super) fn overwrite(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.length < end {
            self.resize(end);
        }
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let within = at % PIECE_BYTES;
            let (now, later) = rest.split_at(rest.len().min(PIECE_BYTES - within));
            let piece = &mut self.pieces[at / PIECE_BYTES];
            // What does not change stays shared.
            if piece[within..within + now.len()] != *now {
                Arc::make_mut(piece)[within..within + now.len()].copy_from_slice(now);
            }
            at += now.len();
            rest = later;
        }
    }

    /// Fills `buffer` from `offset`; it must not go past the end.
    pub(super) fn read(&self, offset: usize, buffer: &mut [u8]) {
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let within = at % PIECE_BYTES;
            let length = rest.len().min(PIECE_BYTES - within);
            let (now, later) = rest.split_at_mut(length);
            now.copy_from_slice(&self.pieces[at / PIECE_BYTES][within..within + length]);
            at += length;
            rest = later;
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length];
        self.read(0, &mut bytes);
        bytes
    }

    pub(super) fn flip_bit(&mut self, offset: usize, bit: u8) -> bool {
        if offset >= self.length {
            return false;
        }
        let piece = Arc::make_mut(&mut self.pieces[offset / PIECE_BYTES]);
        piece[offset % PIECE_BYTES] ^= 1 << (bit % 8);
        true
    }

    /// A number that is the same for the same bytes, and hardly ever for others.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = 0x9e37_79b9_7f4a_7c15 ^ self.length as u64;
        for piece in &self.pieces {
            // Four sums side by side, as one has to wait for each of its steps.
            let mut sums = [hash, !hash, hash.rotate_left(17), hash.rotate_left(41)];
            for words in piece.chunks_exact(32) {
                for (sum, word) in sums.iter_mut().zip(words.chunks_exact(8)) {
                    let word = word
                        .first_chunk()
                        .map_or(0, |word| u64::from_le_bytes(*word));
                    *sum = (*sum ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
                    *sum ^= *sum >> 29;
                }
            }
            for sum in sums {
                hash = (hash ^ sum).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
                hash ^= hash >> 33;
            }
        }
        hash
    }
}
