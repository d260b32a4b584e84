//! The room that a file takes on a disk where holes take none.
//!
//! # Invariants
//!
//! 1. Once the room is limited, every block that has bytes other than zeros is counted.

use std::collections::BTreeSet;
use std::ops::Range;

const BLOCK_BYTES: u64 = 4096;

/// The blocks that a file has, and how many it can have.
#[derive(Debug)]
pub(super) struct Blocks {
    taken: BTreeSet<u64>,
    most: u64,
}

impl Blocks {
    /// All blocks of a file of this length are taken, if they are more than there is room for.
    pub(super) fn new(length_bytes: u64, room_bytes: u64) -> Self {
        Blocks {
            taken: (0..length_bytes.div_ceil(BLOCK_BYTES)).collect(),
            most: room_bytes / BLOCK_BYTES,
        }
    }

    pub(super) fn set_room(&mut self, room_bytes: u64) {
        self.most = room_bytes / BLOCK_BYTES;
    }

    pub(super) fn taken_bytes(&self) -> u64 {
        self.taken.len() as u64 * BLOCK_BYTES
    }

    /// Takes blocks for a range, from its start on. Returns how many of its bytes have their blocks then.
    pub(super) fn take(&mut self, offset: u64, length_bytes: u64) -> u64 {
        if length_bytes == 0 {
            return 0;
        }
        let end = offset.saturating_add(length_bytes);
        for block in offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) {
            if self.taken.contains(&block) {
                continue;
            }
            if self.taken.len() as u64 >= self.most {
                return (block * BLOCK_BYTES).saturating_sub(offset);
            }
            self.taken.insert(block);
        }
        length_bytes
    }

    /// Gives back the blocks that lie in the range as a whole.
    pub(super) fn give_back(&mut self, offset: u64, length_bytes: u64) {
        let end = offset.saturating_add(length_bytes) / BLOCK_BYTES;
        self.remove(offset.div_ceil(BLOCK_BYTES)..end);
    }

    /// The file is cut to this length.
    pub(super) fn cut(&mut self, length_bytes: u64) {
        self.remove(length_bytes.div_ceil(BLOCK_BYTES)..u64::MAX);
    }

    fn remove(&mut self, blocks: Range<u64>) {
        self.taken.retain(|block| !blocks.contains(block));
    }
}
