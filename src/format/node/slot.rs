//! A slot: the head of a key, and where its cell is.

use super::{HEAD_BYTES, SLOT_BYTES};

const OVERFLOW_FLAG: u16 = 0x8000;

#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) head: u32,
    pub(super) offset: usize,
    pub(super) length: usize,
    pub(super) overflow: bool,
}

impl Slot {
    #[inline]
    pub(super) fn decode(raw: [u8; SLOT_BYTES]) -> Self {
        let raw = u64::from_le_bytes(raw);
        let length = (raw >> 48) as u16;
        // 0 stands for 65536: an empty cell at the end of a page of that size.
        let offset = ((raw >> 32) as u16).wrapping_sub(1);
        Slot {
            head: raw as u32,
            offset: usize::from(offset) + 1,
            length: usize::from(length & !OVERFLOW_FLAG),
            overflow: length & OVERFLOW_FLAG != 0,
        }
    }

    #[inline]
    pub(super) fn encode(self) -> [u8; SLOT_BYTES] {
        let flag = if self.overflow { OVERFLOW_FLAG } else { 0 };
        let length = self.length as u16 | flag;
        let offset = u64::from(self.offset as u16);
        let raw = u64::from(self.head) | offset << 32 | u64::from(length) << 48;
        raw.to_le_bytes()
    }

    #[inline]
    pub(super) fn rest_bytes(&self) -> usize {
        self.length.saturating_sub(HEAD_BYTES)
    }
}

/// The head in a slot of either kind, which begins with it.
#[inline]
pub(super) fn slot_head<const N: usize>(raw: &[u8; N]) -> u32 {
    raw.first_chunk()
        .map_or(0, |head| u32::from_le_bytes(*head))
}

/// The first 4 bytes as a number that orders as they do; missing ones count as 0.
#[inline]
pub(super) fn head_of(suffix: &[u8]) -> u32 {
    match suffix.first_chunk::<HEAD_BYTES>() {
        Some(chunk) => u32::from_be_bytes(*chunk),
        None => {
            let mut chunk = [0; HEAD_BYTES];
            for (to, from) in chunk.iter_mut().zip(suffix) {
                *to = *from;
            }
            u32::from_be_bytes(chunk)
        }
    }
}
