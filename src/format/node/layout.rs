//! Sizes and limits: what of a slot and of a cell has how many bytes, how long keys may be (invariant
//! 5), and which values are kept in the leaf (invariant 6).

use crate::format::page::{HEADER_BYTES, PREFIX};

pub(crate) const SLOT_BYTES: usize = 8;
/// How many bytes of the suffix live in the slot.
pub(crate) const HEAD_BYTES: usize = 4;
/// A slot of a uniform leaf is a head and nothing else.
pub(crate) const UNIFORM_SLOT_BYTES: usize = HEAD_BYTES;
/// Values of a uniform leaf have at least so many bytes (invariant 6).
pub(crate) const UNIFORM_VALUE_MIN: usize = 20;
/// The fixed part of a branch cell: page, checksum, count.
pub(super) const CHILD_BYTES: usize = 16;
pub(super) const CHILD_CHECKSUM: usize = 4;
pub(super) const CHILD_COUNT: usize = 8;
pub(super) const VALUE_LENGTH_BYTES: usize = 2;

/// Where faults about the prefix point.
pub(crate) const PREFIX_OFFSET: usize = PREFIX;

/// The longest value that a run's reference can describe.
pub(crate) const MAX_VALUE_BYTES: u64 = u32::MAX as u64;

/// The longest key: a branch always has room for three of them.
pub(crate) const fn max_key_bytes(page_size: u32) -> usize {
    page_size as usize / 4
}

/// What a page has for slots, cells and the prefix together.
pub(crate) const fn usable_bytes(page_size: usize) -> usize {
    page_size.saturating_sub(HEADER_BYTES)
}

/// The bound on slot, lengths, key and value of an inline entry (invariant 6).
pub(crate) const fn inline_max(page_size: u32) -> usize {
    usable_bytes(page_size as usize) / 3
}

/// Whether a value is kept in the leaf, beside its key.
pub(crate) const fn is_inline(page_size: u32, key_bytes: usize, value_bytes: usize) -> bool {
    value_bytes < page_size as usize
        && SLOT_BYTES + VALUE_LENGTH_BYTES + key_bytes + value_bytes <= inline_max(page_size)
}
