//! The layout of the tree's pages: sorted slots in front, cells growing towards them from the end.
//!
//! ```text
//!  0                32                                cells_start      page_size - prefix   page_size
//!  +----------------+--------+--------+-----+- - - - -+----------------+--------------------+
//!  | header, 32 B   | slot 0 | slot 1 | ... |  free   | cells, garbage | common key prefix  |
//!  | (see page.rs)  |  8 B   |  8 B   |     |         |                |                    |
//!  +----------------+--------+--------+-----+- - - - -+----------------+--------------------+
//!
//!  header fields used here: 16 kind u8, 17 level u8, 18 count u16, 20 cells_start u32,
//!                           24 prefix u16, 26 garbage u16, 28 appends u16 (leaves: bits 13..15
//!                           how many inserts in a row, up to 7, each went right behind the one
//!                           before, or right before it if bit 12 is set, those counted that
//!                           went to the leaf that this one was split from; bits 0..11 the slot
//!                           of the last one: a hint for splits),
//!                           30 lengths u16 (leaves: 0, or 1 more than the length of every inline
//!                           value of the page)
//!
//!  A uniform leaf, whose suffixes all have one length and whose values all have one, has in
//!  26 the suffix u16 and slots of 4 bytes: the head. The cell of slot i is at
//!  page_size - prefix - (i + 1) * (r + value).
//!
//!  slot i, at 32 + 8 * i                       (suffix = the key without the page's prefix)
//!  +0  u32  head     the first 4 bytes of the suffix as a big-endian number, zero-padded
//!  +4  u16  offset   of the cell, from the start of the page; 0 for 65536, where a cell of no
//!                    bytes can be
//!  +6  u16  length   bits 0..14: length of the suffix; bit 15: the value is in an overflow run
//!
//!  leaf cell, inline        +0 u16 value length | +2 rest | +2+r value, if `lengths` is 0;
//!                           +0 rest | +r value, if it is not
//!  leaf cell, overflow      +0 rest | +r  u32 first page | u32 length | u32 checksum | u64 birth
//!  branch cell              +0 u32 child page | +4 u32 child checksum | +8 u64 entries below | +16 rest
//!                           (rest = the suffix without its first 4 bytes, r = its length; a suffix
//!                           of up to 4 bytes has no rest: it is all in the head)
//! ```
//!
//! # Invariants
//!
//! 1. Slots are in ascending order of their keys, and no two keys are equal.
//! 2. Slot 0 of a branch has no key: its suffix length and head are 0, it stands for "before
//!    everything", and it does not count for the prefix. Child `i` holds the keys `k` with
//!    `key(i) <= k < key(i + 1)`.
//! 3. Every key of the page starts with the prefix. A page with no keys has the prefix length 0.
//! 4. Cells lie between `cells_start` and `page_size - prefix` and do not overlap; what they leave
//!    over there is counted by `garbage`. `32 + 8 * count <= cells_start`.
//! 5. A key has at most `page_size / 4` bytes (so a suffix length fits 15 bits).
//! 6. An entry is inline only if `10 + key + value <= (page_size - 32) / 3`. With `U = page_size -
//!    32`, every entry then costs at most `U / 3 - p` beside a prefix of `p` bytes, and so does an
//!    overflow entry or a child (at most `28 + page_size / 4`). A page that overflows holds at most
//!    `p + (U - p) + (U / 3 - p)`; cutting it at the entry nearest to the middle leaves at most
//!    `5 U / 6` in the larger half: **a split into two pages always works**. A key that does not
//!    share the prefix sorts before or after all the others, so there it can be cut off alone.
//!    (A page whose values have one length saves 2 bytes of at least 10 for each. A value of another
//!    length costs it those: it then holds at most `p + 5 (U - p) / 4 + (U / 3 - p)`, of which the
//!    larger half is still less than `U`.)
//!    A uniform leaf saves 4 more. Its entries have `UNIFORM_VALUE_MIN` bytes and the 4 of the slot at
//!    least, so they grow from `c >= 24` to at most `c + 6`, which is `5 c / 4` again. Where a key
//!    that does not share the prefix is cut off alone, what is left may fit no other way than before:
//!    [`build`] lays it out as a uniform leaf then, whatever else was wanted. (Its suffixes keep 4
//!    bytes, if the keys have them, so a longer prefix never takes more room than it saves.)
//! 7. A uniform leaf is one that was filled in order, by appending, in bulk or by compaction, or one
//!    that fits no other way. An insert between its entries makes another leaf of it: the cells would
//!    have to move, each time, and where one comes there come more. So trees that take entries in
//!    random order pay for it once a leaf at most.
//! 8. Readers are total: whatever the bytes, they return something and never panic. On a page that
//!    passed [`validate`] what they return is what the page says.

mod cell;
mod check;
mod edit;
mod item;
mod layout;
mod lengths;
mod payload;
mod plan;
mod read;
mod rebuild;
mod run;
mod scratch;
mod search;
mod slot;
mod split;
mod warm;

#[cfg(test)]
mod tests;

pub(crate) use check::{validate, validate_within};
pub(crate) use edit::{insert, insert_children, overwrite, patch_checksums, remove, set_child};
pub(crate) use item::Item;
#[cfg(test)]
pub(crate) use layout::inline_max;
pub(crate) use layout::{
    HEAD_BYTES, MAX_VALUE_BYTES, PREFIX_OFFSET, SLOT_BYTES, UNIFORM_SLOT_BYTES, UNIFORM_VALUE_MIN,
    is_inline, max_key_bytes, usable_bytes,
};
pub(crate) use payload::{Child, Payload, ValueAt};
pub(crate) use plan::{Density, common_prefix, dense_bytes, measure};
pub(crate) use read::Node;
pub(crate) use rebuild::{build, finish};
pub(crate) use run::{Inserts, Run, set_inserts};
pub(crate) use scratch::Scratch;
pub(crate) use split::{fill_point, run_split_point, shortest_separator, split_point};
pub(crate) use warm::{searched_lines, warm, warm_all};
