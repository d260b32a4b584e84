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
//!                           before; bits 0..12 the slot of the last one: a hint for splits),
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

use std::cmp::Ordering;
use std::hint::select_unpredictable;
use std::ops::Range;

use crate::prefetch::prefetch;

use super::page::{
    self, APPENDS, BRANCH, CELLS_START, COUNT, GARBAGE, HEADER_BYTES, KIND, LEAF, LENGTHS, LEVEL,
    PREFIX, SUFFIX, UNIFORM_LEAF,
};
use super::{
    Fault, PageNumber, PageRef, RunRef, get_u16, get_u32, get_u64, put_u16, put_u32, put_u64,
};

pub(crate) const SLOT_BYTES: usize = 8;
/// How many bytes of the suffix live in the slot.
pub(crate) const HEAD_BYTES: usize = 4;
/// A slot of a uniform leaf is a head and nothing else.
pub(crate) const UNIFORM_SLOT_BYTES: usize = HEAD_BYTES;
/// Values of a uniform leaf have at least so many bytes (invariant 6).
pub(crate) const UNIFORM_VALUE_MIN: usize = 20;
/// The fixed part of a branch cell: page, checksum, count.
pub(crate) const CHILD_BYTES: usize = 16;
const CHILD_CHECKSUM: usize = 4;
const CHILD_COUNT: usize = 8;
const VALUE_LENGTH_BYTES: usize = 2;
/// So many cache lines of a cell are asked for at once: small documents are whole in them.
const CELL_LINES: usize = 4;
const OVERFLOW_FLAG: u16 = 0x8000;
/// The `appends` field: how many inserts in a row (up to this) each went right behind the one
/// before, in bits 13..15, and the slot of the last one in bits 0..12.
const LONGEST_ASCENT: u16 = 7;
const ASCENT_SHIFT: u32 = 13;
const ASCENT_SLOT: u16 = (1 << ASCENT_SHIFT) - 1;
const FIRST_PAGE: PageNumber = 2;
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

/// What a branch knows about one of its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Child {
    pub page: PageRef,
    /// The number of entries in the leaves below.
    pub count: u64,
}

/// Where the value of a leaf's entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ValueAt {
    /// In the leaf, at these bytes of the page.
    Inline(Range<usize>),
    /// In an overflow run.
    Run(RunRef),
}

/// What a slot leads to, beside its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload<'a> {
    Inline(&'a [u8]),
    Run(RunRef),
    Child(Child),
}

impl Payload<'_> {
    /// The bytes of the cell without the rest of the key and the length of an inline value.
    #[inline]
    fn own_bytes(&self) -> usize {
        match self {
            Payload::Inline(value) => value.len(),
            Payload::Run(_) => RunRef::ENCODED_BYTES,
            Payload::Child(_) => CHILD_BYTES,
        }
    }

    /// The bytes of the cell in a page of such `lengths`.
    #[inline]
    fn cell_bytes(&self, suffix_bytes: usize, lengths: Lengths) -> usize {
        let length_bytes = match self {
            Payload::Inline(_) => lengths.field_bytes(),
            Payload::Run(_) | Payload::Child(_) => 0,
        };
        length_bytes + self.own_bytes() + suffix_bytes.saturating_sub(HEAD_BYTES)
    }

    fn inline_bytes(&self) -> Option<usize> {
        match self {
            Payload::Inline(value) => Some(value.len()),
            Payload::Run(_) | Payload::Child(_) => None,
        }
    }
}

/// Where a page says how long its suffixes and its inline values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    /// Each slot has the length of its suffix, each cell that of its value.
    InCells,
    /// All values have this length, which is in the page's header.
    Same(u16),
    /// All suffixes and all values have these, and there is no value in a run: a uniform leaf.
    Uniform { suffix: u16, value: u16 },
}

impl Lengths {
    #[inline]
    fn of(bytes: &[u8]) -> Self {
        let raw = get_u16(bytes, LENGTHS);
        if page::kind(bytes) == UNIFORM_LEAF {
            return Lengths::Uniform {
                suffix: get_u16(bytes, SUFFIX),
                value: raw.saturating_sub(1),
            };
        }
        match raw.checked_sub(1) {
            None => Lengths::InCells,
            Some(length) => Lengths::Same(length),
        }
    }

    /// Puts them into the header of a page that has no garbage, or is not uniform and was not before.
    fn store(self, bytes: &mut [u8]) {
        let raw = match self {
            Lengths::InCells => 0,
            Lengths::Same(value) | Lengths::Uniform { value, .. } => value.saturating_add(1),
        };
        put_u16(bytes, LENGTHS, raw);
        if let Lengths::Uniform { suffix, .. } = self {
            page::set_kind(bytes, UNIFORM_LEAF);
            put_u16(bytes, SUFFIX, suffix);
        } else if page::kind(bytes) == UNIFORM_LEAF {
            page::set_kind(bytes, LEAF);
            put_u16(bytes, GARBAGE, 0);
        }
    }

    /// Of a page whose only inline value has this length.
    fn only(length: usize) -> Self {
        Lengths::Same(length as u16)
    }

    /// Of a leaf whose suffixes and values all have these, if it can be uniform.
    fn uniform(suffix: usize, value: usize) -> Option<Self> {
        let (suffix, value) = (u16::try_from(suffix).ok()?, u16::try_from(value).ok()?);
        let is_long = usize::from(value) >= UNIFORM_VALUE_MIN;
        is_long.then_some(Lengths::Uniform { suffix, value })
    }

    /// Of a leaf that gets its first entry.
    fn first(bytes: &[u8], key: &[u8], payload: &Payload<'_>) -> Self {
        let Some(length) = payload.inline_bytes() else {
            return Lengths::InCells;
        };
        let uniform = match page::kind(bytes) {
            UNIFORM_LEAF => Lengths::uniform(key.len(), length),
            _ => None,
        };
        uniform.unwrap_or(Lengths::only(length))
    }

    #[inline]
    fn is_uniform(self) -> bool {
        matches!(self, Lengths::Uniform { .. })
    }

    #[inline]
    fn slot_bytes(self) -> usize {
        match self {
            Lengths::InCells | Lengths::Same(_) => SLOT_BYTES,
            Lengths::Uniform { .. } => UNIFORM_SLOT_BYTES,
        }
    }

    /// Where slot `i` is in the page.
    #[inline]
    fn slot_at(self, i: usize) -> usize {
        HEADER_BYTES + self.slot_bytes() * i
    }

    /// What cells of inline values have in front.
    #[inline]
    fn field_bytes(self) -> usize {
        match self {
            Lengths::InCells => VALUE_LENGTH_BYTES,
            Lengths::Same(_) | Lengths::Uniform { .. } => 0,
        }
    }

    /// Whether a value can be stored beside such a suffix without laying the page out anew.
    #[inline]
    fn allow(self, suffix: usize, payload: &Payload<'_>) -> bool {
        let value = payload.inline_bytes();
        match self {
            Lengths::InCells => true,
            Lengths::Same(all) => value.is_none_or(|value| usize::from(all) == value),
            Lengths::Uniform {
                suffix: of_all,
                value: all,
            } => usize::from(of_all) == suffix && value == Some(usize::from(all)),
        }
    }
}

/// The bytes of each cell of a uniform leaf.
#[inline]
fn stride(suffix: u16, value: u16) -> usize {
    usize::from(suffix).saturating_sub(HEAD_BYTES) + usize::from(value)
}

#[derive(Clone, Copy, Default)]
struct Slot {
    head: u32,
    offset: usize,
    length: usize,
    overflow: bool,
}

impl Slot {
    #[inline]
    fn decode(raw: [u8; SLOT_BYTES]) -> Self {
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
    fn encode(self) -> [u8; SLOT_BYTES] {
        let flag = if self.overflow { OVERFLOW_FLAG } else { 0 };
        let length = self.length as u16 | flag;
        let offset = u64::from(self.offset as u16);
        let raw = u64::from(self.head) | offset << 32 | u64::from(length) << 48;
        raw.to_le_bytes()
    }

    #[inline]
    fn rest_bytes(&self) -> usize {
        self.length.saturating_sub(HEAD_BYTES)
    }
}

/// The head in a slot of either kind, which begins with it.
#[inline]
fn slot_head<const N: usize>(raw: &[u8; N]) -> u32 {
    raw.first_chunk()
        .map_or(0, |head| u32::from_le_bytes(*head))
}

/// The first 4 bytes as a number that orders as they do; missing ones count as 0.
#[inline]
fn head_of(suffix: &[u8]) -> u32 {
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

/// How many leading slots satisfy `goes_left`, which holds for a leading part of them. The loop
/// has no branch that depends on the data, so nothing is mispredicted.
#[inline]
fn partition<const N: usize>(slots: &[[u8; N]], goes_left: impl Fn(u32) -> bool) -> usize {
    let mut base = 0;
    let mut size = slots.len();
    while size > 1 {
        let half = size / 2;
        let left = slots
            .get(base + half)
            .is_some_and(|slot| goes_left(slot_head(slot)));
        base = select_unpredictable(left, base + half, base);
        size -= half;
    }
    base + usize::from(
        slots
            .get(base)
            .is_some_and(|slot| goes_left(slot_head(slot))),
    )
}

/// How many leading bytes the two have in common.
#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// The shortest string `s` with `left < s <= right`; wants `left < right`.
pub(crate) fn shortest_separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    let length = common_prefix(left, right) + 1;
    right.get(..length).unwrap_or(right).to_vec()
}

/// A node, to be read. Copying it is cheap.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    bytes: &'a [u8],
    /// Whole slots, of a size that goes with `lengths`.
    slots: &'a [u8],
    prefix: &'a [u8],
    lengths: Lengths,
}

impl<'a> Node<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self::with(bytes, Lengths::of(bytes))
    }

    /// Like [`new`](Self::new), for a page above the leaves: it cannot be a uniform leaf, so much
    /// need not be asked for.
    #[inline]
    pub(crate) fn branch(bytes: &'a [u8]) -> Self {
        Self::with(bytes, Lengths::InCells)
    }

    #[inline]
    fn with(bytes: &'a [u8], lengths: Lengths) -> Self {
        let slots_end = lengths.slot_at(page::count(bytes));
        let prefix = usize::from(get_u16(bytes, PREFIX));
        Node {
            bytes,
            slots: bytes.get(HEADER_BYTES..slots_end).unwrap_or_default(),
            prefix: bytes
                .get(bytes.len().saturating_sub(prefix)..)
                .unwrap_or_default(),
            lengths,
        }
    }

    /// The slots, unless it is a uniform leaf.
    #[inline]
    fn full_slots(&self) -> &'a [[u8; SLOT_BYTES]] {
        self.slots.as_chunks().0
    }

    /// The slots of a uniform leaf.
    #[inline]
    fn heads(&self) -> &'a [[u8; UNIFORM_SLOT_BYTES]] {
        self.slots.as_chunks().0
    }

    /// How many leading slots have heads that satisfy `goes_left`.
    #[inline]
    fn partition(&self, goes_left: impl Fn(u32) -> bool) -> usize {
        match self.lengths.is_uniform() {
            false => partition(self.full_slots(), goes_left),
            true => partition(self.heads(), goes_left),
        }
    }

    #[inline]
    fn head(&self, i: usize) -> Option<u32> {
        match self.lengths.is_uniform() {
            false => self.full_slots().get(i).map(slot_head),
            true => self.heads().get(i).map(slot_head),
        }
    }

    /// Whether it is a leaf whose entries all have the same lengths.
    pub(crate) fn is_uniform(&self) -> bool {
        self.lengths.is_uniform()
    }

    /// How much shorter the slots could be at most.
    pub(crate) fn uniform_saves(&self) -> usize {
        match self.lengths {
            Lengths::Same(_) => self.count() * (SLOT_BYTES - UNIFORM_SLOT_BYTES),
            Lengths::InCells | Lengths::Uniform { .. } => 0,
        }
    }

    /// Where slot `i` is in the page.
    pub(crate) fn slot_at(&self, i: usize) -> usize {
        self.lengths.slot_at(i)
    }

    #[inline]
    pub(crate) fn is_branch(&self) -> bool {
        page::kind(self.bytes) == BRANCH
    }

    #[inline]
    pub(crate) fn level(&self) -> u8 {
        page::level(self.bytes)
    }

    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.slots.len() / self.lengths.slot_bytes()
    }

    #[inline]
    pub(crate) fn prefix(&self) -> &'a [u8] {
        self.prefix
    }

    /// In a leaf: whether the last inserts came in ascending order, each right behind the one
    /// before, and the one that is to be slot `i` goes on with that.
    pub(crate) fn is_ascending(&self, i: usize) -> bool {
        let (run, last) = ascent(self.bytes);
        run == LONGEST_ASCENT && last + 1 == i
    }

    fn cells_start(&self) -> usize {
        (get_u32(self.bytes, CELLS_START) as usize).min(self.bytes.len())
    }

    fn garbage(&self) -> usize {
        match self.lengths.is_uniform() {
            false => usize::from(get_u16(self.bytes, GARBAGE)),
            true => 0,
        }
    }

    fn cells_end(&self) -> usize {
        self.bytes.len().saturating_sub(self.prefix.len())
    }

    fn slots_end(&self) -> usize {
        self.slot_at(self.count())
    }

    /// The bytes between the slots and the cells.
    #[inline]
    fn gap(&self) -> usize {
        self.cells_start().saturating_sub(self.slots_end())
    }

    /// The bytes that slots, cells and prefix take, without garbage.
    pub(crate) fn used(&self) -> usize {
        let cells = self.bytes.len().saturating_sub(self.cells_start());
        (self.slots.len() + cells).saturating_sub(self.garbage())
    }

    #[inline]
    fn slot(&self, i: usize) -> Slot {
        if let Lengths::Uniform { suffix, value } = self.lengths {
            return self.uniform_slot(i, suffix, value);
        }
        match self.full_slots().get(i) {
            Some(raw) => Slot::decode(*raw),
            None => Slot::default(),
        }
    }

    /// What a slot of another leaf would say: the cells of a uniform one lie side by side, the
    /// first at the end of the page, as appending leaves them.
    #[inline]
    fn uniform_slot(&self, i: usize, suffix: u16, value: u16) -> Slot {
        let Some(raw) = self.heads().get(i) else {
            return Slot::default();
        };
        let behind = (i + 1).saturating_mul(stride(suffix, value));
        Slot {
            head: slot_head(raw),
            offset: self.cells_end().saturating_sub(behind),
            length: usize::from(suffix),
            overflow: false,
        }
    }

    /// The offset of a slot's cell in the page, and the length of the suffix.
    #[cfg(feature = "inspect")]
    pub(crate) fn cell_at(&self, i: usize) -> (usize, usize) {
        let slot = self.slot(i);
        (slot.offset, slot.length)
    }

    /// How many leading slots have no key.
    fn unkeyed(&self) -> usize {
        usize::from(self.is_branch())
    }

    #[inline]
    fn slice(&self, start: usize, length: usize) -> &'a [u8] {
        self.bytes.get(start..start + length).unwrap_or_default()
    }

    /// The bytes of the cell in front of the rest of the key.
    #[inline]
    fn rest_offset(&self, slot: &Slot) -> usize {
        if slot.overflow {
            0
        } else if self.is_branch() {
            CHILD_BYTES
        } else {
            self.lengths.field_bytes()
        }
    }

    /// The length of the value of a slot, which is inline.
    #[inline]
    fn value_bytes(&self, slot: &Slot) -> usize {
        match self.lengths {
            Lengths::InCells => usize::from(get_u16(self.bytes, slot.offset)),
            Lengths::Same(value) | Lengths::Uniform { value, .. } => usize::from(value),
        }
    }

    #[inline]
    fn rest(&self, slot: &Slot) -> &'a [u8] {
        self.slice(slot.offset + self.rest_offset(slot), slot.rest_bytes())
    }

    /// The bytes of the cell without the rest of the key and the length of an inline value.
    #[inline]
    fn own_bytes(&self, slot: &Slot) -> usize {
        if slot.overflow {
            RunRef::ENCODED_BYTES
        } else if self.is_branch() {
            CHILD_BYTES
        } else {
            self.value_bytes(slot)
        }
    }

    fn cell_bytes(&self, slot: &Slot) -> usize {
        let is_inline = !slot.overflow && !self.is_branch();
        let length_bytes = match is_inline {
            true => self.lengths.field_bytes(),
            false => 0,
        };
        length_bytes + self.own_bytes(slot) + slot.rest_bytes()
    }

    /// Compares the suffix in slot `i` with one that has the same head.
    #[inline]
    fn settle(&self, i: usize, suffix: &[u8]) -> Ordering {
        let slot = self.slot(i);
        if slot.length < HEAD_BYTES || suffix.len() < HEAD_BYTES {
            // The shorter one is a prefix of the other, which goes on with zeroes.
            return slot.length.cmp(&suffix.len());
        }
        self.rest(&slot)
            .cmp(suffix.get(HEAD_BYTES..).unwrap_or_default())
    }

    /// Among slots `range`, which all have the suffix's head: where it is or would be.
    #[cold]
    fn search_ties(&self, range: Range<usize>, suffix: &[u8]) -> Result<usize, usize> {
        let Range { mut start, mut end } = range;
        while start < end {
            let middle = start + (end - start) / 2;
            match self.settle(middle, suffix) {
                Ordering::Less => start = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => end = middle,
            }
        }
        Err(start)
    }

    /// In a leaf: the slot of `key`, or the one where it belongs.
    #[inline]
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(suffix) = key.strip_prefix(self.prefix) else {
            return Err(self.beside(key));
        };
        let head = head_of(suffix);
        self.search_ties_from(self.partition(|other| other < head), suffix, head)
    }

    /// Where a key belongs that does not share the prefix.
    #[inline]
    fn beside(&self, key: &[u8]) -> usize {
        if key < self.prefix { 0 } else { self.count() }
    }

    /// In a leaf: the lowest slot that `key` can be in.
    #[inline]
    pub(crate) fn lowest(&self, key: &[u8]) -> usize {
        let Some(suffix) = key.strip_prefix(self.prefix) else {
            return self.beside(key);
        };
        let head = head_of(suffix);
        self.partition(|other| other < head)
    }

    /// Like [`search`](Self::search), from what [`lowest`](Self::lowest) said of the key.
    #[inline]
    pub(crate) fn search_from(&self, lowest: usize, key: &[u8]) -> Result<usize, usize> {
        match key.strip_prefix(self.prefix) {
            Some(suffix) => self.search_ties_from(lowest, suffix, head_of(suffix)),
            None => Err(lowest),
        }
    }

    #[inline]
    fn search_ties_from(&self, low: usize, suffix: &[u8], head: u32) -> Result<usize, usize> {
        let ties = |i: usize| self.head(i) == Some(head);
        if !ties(low) {
            return Err(low);
        }
        match self.settle(low, suffix) {
            Ordering::Equal => Ok(low),
            Ordering::Greater => Err(low),
            Ordering::Less if !ties(low + 1) => Err(low + 1),
            Ordering::Less => {
                let end = self.partition(|other| other <= head);
                self.search_ties(low + 1..end, suffix)
            }
        }
    }

    /// Asks for the cell in slot `i`.
    #[inline]
    pub(crate) fn warm_cell(&self, i: usize) {
        let slot = self.slot(i);
        for line in 0..CELL_LINES {
            prefetch(self.bytes, slot.offset + line * 64);
        }
    }

    /// Asks for the cell of a child.
    #[inline]
    pub(crate) fn warm_child(&self, i: usize) {
        prefetch(self.bytes, self.slot(i).offset);
    }

    /// In a branch: the child whose keys include `key`.
    #[inline]
    pub(crate) fn child_index(&self, key: &[u8]) -> usize {
        let slots = self.full_slots();
        let keyed = slots.get(1..).unwrap_or_default();
        let Some(suffix) = key.strip_prefix(self.prefix) else {
            return if key < self.prefix { 0 } else { keyed.len() };
        };
        let head = head_of(suffix);
        // Slot `i` is `keyed[i - 1]`, so a number of keys passed is a child's index.
        let index = partition(keyed, |other| other <= head);
        let ties = |i: usize| i > 0 && { slots.get(i) }.is_some_and(|slot| slot_head(slot) == head);
        if !ties(index) || self.settle(index, suffix) != Ordering::Greater {
            return index;
        }
        if !ties(index - 1) {
            return index - 1;
        }
        let start = 1 + partition(keyed, |other| other < head);
        match self.search_ties(start..index, suffix) {
            Ok(found) => found,
            Err(after) => after - 1,
        }
    }

    /// Like [`child_index`](Self::child_index), which is probably `near`: one look at each end of it,
    /// where the heads alone tell.
    #[inline]
    pub(crate) fn child_index_near(&self, key: &[u8], near: usize) -> usize {
        let Some(suffix) = key.strip_prefix(self.prefix) else {
            return self.child_index(key);
        };
        let head = head_of(suffix);
        let slots = self.full_slots();
        let is_above = near == 0 || { slots.get(near) }.is_some_and(|s| slot_head(s) < head);
        let is_below = { slots.get(near + 1) }.is_none_or(|s| head < slot_head(s));
        if is_above && is_below {
            return near;
        }
        self.child_index(key)
    }

    /// The length of the key in slot `i`.
    pub(crate) fn key_bytes(&self, i: usize) -> usize {
        if i < self.unkeyed() {
            return 0;
        }
        self.prefix.len() + self.slot(i).length
    }

    /// Puts the key of slot `i` into `key`, replacing what was there.
    #[inline]
    pub(crate) fn key(&self, i: usize, key: &mut Vec<u8>) {
        key.clear();
        if i < self.unkeyed() {
            return;
        }
        key.extend_from_slice(self.prefix);
        self.push_suffix(&self.slot(i), key);
    }

    #[inline]
    fn push_suffix(&self, slot: &Slot, key: &mut Vec<u8>) {
        let head = slot.head.to_be_bytes();
        key.extend_from_slice(head.get(..slot.length).unwrap_or(&head));
        key.extend_from_slice(self.rest(slot));
    }

    /// The key of slot `i`.
    pub(crate) fn key_vec(&self, i: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.key_bytes(i));
        self.key(i, &mut key);
        key
    }

    /// In a leaf: where the value of slot `i` is.
    #[inline]
    pub(crate) fn value(&self, i: usize) -> ValueAt {
        let slot = self.slot(i);
        if slot.overflow {
            let run = self.slice(slot.offset + slot.rest_bytes(), RunRef::ENCODED_BYTES);
            return ValueAt::Run(RunRef::decode(run));
        }
        let length = self.value_bytes(&slot);
        let start = slot.offset + self.lengths.field_bytes() + slot.rest_bytes();
        if start + length > self.bytes.len() {
            return ValueAt::Inline(0..0);
        }
        ValueAt::Inline(start..start + length)
    }

    /// In a leaf: the overflow run of slot `i`, if its value is in one.
    pub(crate) fn run(&self, i: usize) -> Option<RunRef> {
        if !self.slot(i).overflow {
            return None;
        }
        match self.value(i) {
            ValueAt::Run(run) => Some(run),
            ValueAt::Inline(_) => None,
        }
    }

    /// In a branch: child `i`.
    #[inline]
    pub(crate) fn child(&self, i: usize) -> Child {
        let cell = self.slice(self.slot(i).offset, CHILD_BYTES);
        Child {
            page: PageRef {
                page: get_u32(cell, 0),
                checksum: get_u32(cell, CHILD_CHECKSUM),
            },
            count: get_u64(cell, CHILD_COUNT),
        }
    }

    /// In a branch: the number of entries below child `i`.
    #[inline]
    pub(crate) fn child_count(&self, i: usize) -> u64 {
        get_u64(self.bytes, self.slot(i).offset + CHILD_COUNT)
    }

    /// In a branch: all of its children.
    pub(crate) fn children(&self) -> impl Iterator<Item = Child> + use<'a> {
        let node = *self;
        (0..node.count()).map(move |i| node.child(i))
    }

    fn payload(&self, i: usize) -> Payload<'a> {
        if self.is_branch() {
            return Payload::Child(self.child(i));
        }
        match self.value(i) {
            ValueAt::Inline(range) => Payload::Inline(self.slice(range.start, range.len())),
            ValueAt::Run(run) => Payload::Run(run),
        }
    }

    /// Checks what [`validate`] leaves out because reading does not need it: that cells do not
    /// overlap, that the garbage is counted, that heads are padded with zeroes.
    pub(crate) fn check_cells(&self) -> Result<(), Fault> {
        let mut cells: Vec<(usize, usize)> = Vec::with_capacity(self.count());
        for i in 0..self.count() {
            let slot = self.slot(i);
            cells.push((slot.offset, self.cell_bytes(&slot)));
            let unused_bits = 8 * HEAD_BYTES.saturating_sub(slot.length) as u32;
            if slot.head & !u32::MAX.checked_shl(unused_bits).unwrap_or(0) != 0 {
                let at = self.slot_at(i);
                return Err(Fault::new(
                    "the head of a short key is not padded with zeroes",
                    at,
                    0,
                    u64::from(slot.head),
                ));
            }
        }
        cells.sort_unstable();
        let mut free_from = self.cells_start();
        let mut taken = 0;
        for (offset, length) in cells {
            if offset < free_from {
                return Err(Fault::new(
                    "two cells overlap",
                    offset,
                    free_from as u64,
                    offset as u64,
                ));
            }
            free_from = offset + length;
            taken += length;
        }
        let left_over = self.cells_end().saturating_sub(self.cells_start() + taken);
        if left_over != self.garbage() {
            return Err(Fault::new(
                "the garbage is not what the cells leave over",
                GARBAGE,
                left_over as u64,
                self.garbage() as u64,
            ));
        }
        Ok(())
    }
}

/// Checks that every offset and length lies inside the page, so that reading it is meaningful.
/// `page` is the number that the page was found under. The order of the keys is not checked here.
pub(crate) fn validate(bytes: &[u8], page: PageNumber) -> Result<(), Fault> {
    let count = validate_header(bytes)?;
    let node = Node::new(bytes);
    if node.count() != count {
        return Err(Fault::new(
            "the slots reach past the page",
            COUNT,
            node.count() as u64,
            count as u64,
        ));
    }
    if let Lengths::Uniform { suffix, value } = node.lengths {
        return validate_uniform(&node, suffix, value);
    }
    let is_branch = node.is_branch();
    let (cells_start, cells_end) = (node.cells_start(), node.cells_end());
    let longest_key = max_key_bytes(bytes.len() as u32);
    for (i, raw) in node.full_slots().iter().enumerate() {
        let slot = Slot::decode(*raw);
        let at = HEADER_BYTES + SLOT_BYTES * i;
        if slot.offset < cells_start {
            return Err(Fault::new(
                "a cell lies before the cells",
                at + 4,
                cells_start as u64,
                slot.offset as u64,
            ));
        }
        if slot.offset + node.rest_offset(&slot) > cells_end
            || slot.offset + node.cell_bytes(&slot) > cells_end
        {
            return Err(Fault::new(
                "a cell reaches past the cells",
                at + 4,
                cells_end as u64,
                slot.offset as u64,
            ));
        }
        if node.prefix.len() + slot.length > longest_key {
            return Err(Fault::new(
                "a key is too long",
                at + 6,
                longest_key as u64,
                slot.length as u64,
            ));
        }
        if is_branch {
            validate_child(&node, i, &slot, page)?;
        } else if let Some(run) = node.run(i)
            && run.first < FIRST_PAGE
        {
            return Err(Fault::new(
                "a run lies in the header",
                slot.offset,
                u64::from(FIRST_PAGE),
                u64::from(run.first),
            ));
        }
    }
    Ok(())
}

/// The header of a uniform leaf says where every cell is.
fn validate_uniform(node: &Node<'_>, suffix: u16, value: u16) -> Result<(), Fault> {
    if usize::from(value) < UNIFORM_VALUE_MIN {
        return Err(Fault::new(
            "the values of a uniform leaf are too short",
            LENGTHS,
            UNIFORM_VALUE_MIN as u64 + 1,
            u64::from(get_u16(node.bytes, LENGTHS)),
        ));
    }
    let longest_key = max_key_bytes(node.bytes.len() as u32);
    if node.prefix.len() + usize::from(suffix) > longest_key {
        return Err(Fault::new(
            "the keys of a uniform leaf are too long",
            SUFFIX,
            longest_key as u64,
            u64::from(suffix),
        ));
    }
    let cells = node.count().saturating_mul(stride(suffix, value));
    let between = node.cells_end().saturating_sub(node.cells_start());
    if cells != between {
        return Err(Fault::new(
            "the cells of a uniform leaf do not fill their place",
            CELLS_START,
            node.cells_end().saturating_sub(cells) as u64,
            node.cells_start() as u64,
        ));
    }
    Ok(())
}

fn validate_header(bytes: &[u8]) -> Result<usize, Fault> {
    let size = bytes.len() as u64;
    if size < u64::from(page::MIN_PAGE_SIZE) || size > u64::from(page::MAX_PAGE_SIZE) {
        return Err(Fault::new(
            "a page has an impossible size",
            0,
            u64::from(page::MIN_PAGE_SIZE),
            size,
        ));
    }
    let (kind, level, count) = (page::kind(bytes), page::level(bytes), page::count(bytes));
    if kind != LEAF && kind != BRANCH && kind != UNIFORM_LEAF {
        return Err(Fault::new(
            "the page is not a tree node",
            KIND,
            u64::from(LEAF),
            u64::from(kind),
        ));
    }
    if (kind != BRANCH) != (level == 0) {
        return Err(Fault::new(
            "the level does not go with the kind of node",
            LEVEL,
            u64::from(kind == BRANCH),
            u64::from(level),
        ));
    }
    if kind == BRANCH && count == 0 {
        return Err(Fault::new("a branch has no children", COUNT, 1, 0));
    }
    let prefix = usize::from(get_u16(bytes, PREFIX));
    let longest = max_key_bytes(bytes.len() as u32);
    if prefix > longest {
        return Err(Fault::new(
            "the prefix is longer than a key",
            PREFIX,
            longest as u64,
            prefix as u64,
        ));
    }
    let slots_end = Lengths::of(bytes).slot_at(count);
    let cells_start = get_u32(bytes, CELLS_START) as usize;
    let cells_end = bytes.len() - prefix;
    if slots_end > cells_start || cells_start > cells_end {
        return Err(Fault::new(
            "the cells start outside of the page",
            CELLS_START,
            slots_end as u64,
            cells_start as u64,
        ));
    }
    let garbage = usize::from(get_u16(bytes, GARBAGE));
    if kind != UNIFORM_LEAF && garbage > cells_end - cells_start {
        return Err(Fault::new(
            "more garbage than cells",
            GARBAGE,
            (cells_end - cells_start) as u64,
            garbage as u64,
        ));
    }
    Ok(count)
}

fn validate_child(node: &Node<'_>, i: usize, slot: &Slot, page: PageNumber) -> Result<(), Fault> {
    let at = HEADER_BYTES + SLOT_BYTES * i;
    if slot.overflow {
        return Err(Fault::new(
            "a branch points to an overflow run",
            at + 6,
            0,
            1,
        ));
    }
    if i == 0 && slot.length != 0 {
        return Err(Fault::new(
            "the first child has a key",
            at + 6,
            0,
            slot.length as u64,
        ));
    }
    let child = node.child(i).page.page;
    if child < FIRST_PAGE || child == page {
        return Err(Fault::new(
            "a branch points to the header or to itself",
            slot.offset,
            u64::from(FIRST_PAGE),
            u64::from(child),
        ));
    }
    Ok(())
}

#[inline]
fn put_slice(bytes: &mut [u8], offset: usize, source: &[u8]) {
    debug_assert!(offset + source.len() <= bytes.len());
    if let Some(target) = bytes.get_mut(offset..offset + source.len()) {
        target.copy_from_slice(source);
    }
}

fn add_garbage(bytes: &mut [u8], more: usize) {
    let garbage = usize::from(get_u16(bytes, GARBAGE)) + more;
    put_u16(bytes, GARBAGE, garbage as u16);
}

fn write_payload(
    bytes: &mut [u8],
    offset: usize,
    rest: &[u8],
    payload: &Payload<'_>,
    lengths: Lengths,
) {
    match payload {
        Payload::Inline(value) => {
            if lengths == Lengths::InCells {
                put_u16(bytes, offset, value.len() as u16);
            }
            let offset = offset + lengths.field_bytes();
            put_slice(bytes, offset, rest);
            put_slice(bytes, offset + rest.len(), value);
        }
        Payload::Run(run) => {
            put_slice(bytes, offset, rest);
            put_slice(bytes, offset + rest.len(), &run.encode());
        }
        Payload::Child(child) => {
            write_child(bytes, offset, child);
            put_slice(bytes, offset + CHILD_BYTES, rest);
        }
    }
}

fn write_child(bytes: &mut [u8], offset: usize, child: &Child) {
    put_u32(bytes, offset, child.page.page);
    put_u32(bytes, offset + CHILD_CHECKSUM, child.page.checksum);
    put_u64(bytes, offset + CHILD_COUNT, child.count);
}

/// Writes slot `i` and its cell, which ends where the cells now start. The caller has made room.
fn place(
    bytes: &mut [u8],
    i: usize,
    cells_start: usize,
    suffix: &[u8],
    payload: &Payload<'_>,
    lengths: Lengths,
) -> usize {
    let offset = cells_start.saturating_sub(payload.cell_bytes(suffix.len(), lengths));
    let rest = suffix.get(HEAD_BYTES..).unwrap_or_default();
    write_payload(bytes, offset, rest, payload, lengths);
    let slot = Slot {
        head: head_of(suffix),
        offset,
        length: suffix.len(),
        overflow: matches!(payload, Payload::Run(_)),
    };
    put_slot(bytes, i, &slot, lengths);
    offset
}

fn put_slot(bytes: &mut [u8], i: usize, slot: &Slot, lengths: Lengths) {
    let at = lengths.slot_at(i);
    match lengths.is_uniform() {
        false => put_slice(bytes, at, &slot.encode()),
        true => put_u32(bytes, at, slot.head),
    }
}

/// Inserts an entry or a child as slot `i`. Squeezes out garbage and changes the prefix if that
/// makes room. False, and nothing changed, if it does not fit. The key of a branch's slot 0 is
/// ignored.
pub(crate) fn insert(bytes: &mut [u8], i: usize, key: &[u8], payload: &Payload<'_>) -> bool {
    let node = Node::new(bytes);
    let count = node.count();
    let (is_branch, cells_start, gap) = (node.is_branch(), node.cells_start(), node.gap());
    let lengths = match count {
        0 if !is_branch => Lengths::first(bytes, key, payload),
        _ => node.lengths,
    };
    let key = if is_branch && i == 0 { &[] } else { key };
    let suffix = match key.strip_prefix(node.prefix) {
        Some(suffix) => suffix,
        None if is_branch && i == 0 => key,
        None => return insert_rebuilding(bytes, i, key, payload),
    };
    // Cells of a uniform leaf are in the order of the slots: what is not behind all others would
    // move many of them, each time.
    let is_allowed = lengths.allow(suffix.len(), payload) && (i == count || !lengths.is_uniform());
    let slot_bytes = lengths.slot_bytes();
    if !is_allowed || slot_bytes + payload.cell_bytes(suffix.len(), lengths) > gap {
        return insert_rebuilding(bytes, i, key, payload);
    }
    let (from, to) = (lengths.slot_at(i), lengths.slot_at(count));
    if from < to {
        bytes.copy_within(from..to, from + slot_bytes);
    }
    let offset = place(bytes, i, cells_start, suffix, payload, lengths);
    if count == 0 {
        lengths.store(bytes);
    }
    put_u16(bytes, COUNT, count as u16 + 1);
    put_u32(bytes, CELLS_START, offset as u32);
    note_insert(bytes, i);
    true
}

/// The run of ascending inserts, and the slot of the last one.
fn ascent(bytes: &[u8]) -> (u16, usize) {
    let raw = get_u16(bytes, APPENDS);
    (raw >> ASCENT_SHIFT, usize::from(raw & ASCENT_SLOT))
}

/// Notes that inserts come in ascending order, the last one at slot `i`; or that they do not.
pub(crate) fn set_ascent(bytes: &mut [u8], is_ascending: bool, i: usize) {
    let run = if is_ascending { LONGEST_ASCENT } else { 0 };
    put_u16(bytes, APPENDS, run << ASCENT_SHIFT | i as u16 & ASCENT_SLOT);
}

fn note_insert(bytes: &mut [u8], i: usize) {
    if page::kind(bytes) != BRANCH {
        let (run, last) = ascent(bytes);
        let run = if last + 1 == i {
            LONGEST_ASCENT.min(run + 1)
        } else {
            0
        };
        put_u16(bytes, APPENDS, run << ASCENT_SHIFT | i as u16 & ASCENT_SLOT);
    }
}

#[cold]
fn insert_rebuilding(bytes: &mut [u8], i: usize, key: &[u8], payload: &Payload<'_>) -> bool {
    let old = Scratch::copy(bytes);
    let node = Node::new(&old);
    let items = node.items_with(i, key, *payload);
    let plan = match node.is_uniform() {
        false => Plan::loose(&items, node.is_branch()),
        // Where the next one will be behind it, too, it stays as it is.
        true if i == node.count() => Plan::dense(&items, false),
        true => Plan::fitting(&items, false, bytes.len()),
    };
    if plan.bytes(&items, node.is_branch()) > usable_bytes(bytes.len()) {
        return false;
    }
    build_as(bytes, &items, &plan);
    note_insert(bytes, i);
    true
}

/// Gives a page that is full the longest prefix that its keys allow. Appending keeps whatever prefix
/// the page had, mostly none: without this, keys that share their beginning share their heads too,
/// and each search goes from cell to cell. (Measured: 16% of reading documents by an index.)
/// Nothing more is expected, so it becomes a uniform leaf if it can.
pub(crate) fn finish(bytes: &mut [u8]) {
    let old = Scratch::copy(bytes);
    let node = Node::new(&old);
    let items = node.items();
    let plan = Plan::dense(&items, node.is_branch());
    let is_better = plan.prefix > node.prefix.len() || plan.is_uniform() != node.is_uniform();
    // Keys that are whole in their heads save nothing, and the prefix itself takes room.
    if is_better && plan.bytes(&items, node.is_branch()) <= usable_bytes(bytes.len()) {
        build_as(bytes, &items, &plan);
    }
}

/// Writes another value over that of slot `i`. False, and nothing changed, unless the new one is
/// of the same sort and no longer, and of the same length if all are.
pub(crate) fn overwrite(bytes: &mut [u8], i: usize, payload: &Payload<'_>) -> bool {
    let node = Node::new(bytes);
    let slot = node.slot(i);
    let (old, new) = (node.own_bytes(&slot), payload.own_bytes());
    let same_sort = slot.overflow == matches!(payload, Payload::Run(_));
    let lengths = node.lengths;
    let is_allowed = lengths.allow(slot.length, payload);
    if i >= node.count() || !same_sort || new > old || !is_allowed {
        return false;
    }
    match payload {
        Payload::Inline(value) => {
            if lengths == Lengths::InCells {
                put_u16(bytes, slot.offset, value.len() as u16);
            }
            let start = slot.offset + lengths.field_bytes() + slot.rest_bytes();
            put_slice(bytes, start, value);
        }
        Payload::Run(run) => put_slice(bytes, slot.offset + slot.rest_bytes(), &run.encode()),
        Payload::Child(child) => write_child(bytes, slot.offset, child),
    }
    if old > new {
        add_garbage(bytes, old - new);
    }
    true
}

/// Points child `i` of a branch to another page, with another count.
#[inline]
pub(crate) fn set_child(bytes: &mut [u8], i: usize, child: &Child) {
    let node = Node::branch(bytes);
    if i < node.count() {
        let offset = node.slot(i).offset;
        write_child(bytes, offset, child);
    }
}

/// Inserts children behind a branch's own, each with the slot that it gets if those before it are in
/// place. False, and nothing changed, if the page has to be laid out anew for them: without that, each
/// one takes a twentieth of the time.
pub(crate) fn insert_children<'k>(
    bytes: &mut [u8],
    children: impl Iterator<Item = (usize, &'k [u8], Child)> + Clone,
) -> bool {
    let node = Node::new(bytes);
    let mut room = node.gap();
    for (i, key, child) in children.clone() {
        let Some(suffix) = key.strip_prefix(node.prefix).filter(|_| i > 0) else {
            return false;
        };
        let cell = Payload::Child(child).cell_bytes(suffix.len(), node.lengths);
        match room.checked_sub(SLOT_BYTES + cell) {
            Some(left) => room = left,
            None => return false,
        }
    }
    children.fold(true, |done, (i, key, child)| {
        done && insert(bytes, i, key, &Payload::Child(child))
    })
}

/// Removes slot `i`. When a branch loses its slot 0, the next one loses its key and takes its
/// place.
pub(crate) fn remove(bytes: &mut [u8], i: usize) {
    let node = Node::new(bytes);
    let (count, is_branch, prefix) = (node.count(), node.is_branch(), node.prefix.len());
    if i >= count {
        return;
    }
    let slot = node.slot(i);
    let (cell, cells_start, lengths) = (node.cell_bytes(&slot), node.cells_start(), node.lengths);
    if lengths.is_uniform() && cells_start <= slot.offset {
        // What lies in front of it are the cells of the slots behind it.
        bytes.copy_within(cells_start..slot.offset, cells_start + cell);
        put_u32(bytes, CELLS_START, (cells_start + cell) as u32);
    } else if slot.offset == cells_start {
        put_u32(bytes, CELLS_START, (slot.offset + cell) as u32);
    } else {
        add_garbage(bytes, cell);
    }
    let at = lengths.slot_at(i);
    bytes.copy_within(at + lengths.slot_bytes()..lengths.slot_at(count), at);
    let count = count - 1;
    put_u16(bytes, COUNT, count as u16);
    if is_branch && i == 0 && count > 0 {
        remove_first_key(bytes);
    }
    if count == 0 {
        let size = bytes.len() as u32;
        put_u32(bytes, CELLS_START, size);
        put_u16(bytes, GARBAGE, 0);
        put_u16(bytes, PREFIX, 0);
        Lengths::InCells.store(bytes);
    } else if count <= usize::from(is_branch) && prefix > 0 {
        put_u16(bytes, PREFIX, 0);
        add_garbage(bytes, prefix);
    }
}

fn remove_first_key(bytes: &mut [u8]) {
    let slot = Node::new(bytes).slot(0);
    add_garbage(bytes, slot.rest_bytes());
    let bare = Slot {
        offset: slot.offset,
        ..Slot::default()
    };
    put_slice(bytes, HEADER_BYTES, &bare.encode());
}

/// Fills in the checksums of the children for which `checksum_of` has one.
pub(crate) fn patch_checksums(
    bytes: &mut [u8],
    mut checksum_of: impl FnMut(PageNumber) -> Option<u32>,
) {
    for i in 0..page::count(bytes) {
        let node = Node::new(bytes);
        let (offset, child) = (node.slot(i).offset, node.child(i));
        if let Some(checksum) = checksum_of(child.page.page) {
            put_u32(bytes, offset + CHILD_CHECKSUM, checksum);
        }
    }
}

/// A copy of a page for the time of a rebuild. Its memory is kept for the next one: allocating and
/// freeing a page at a time makes some allocators hand it back to the system each time.
pub(crate) struct Scratch(Vec<u8>);

thread_local! {
    static SPARE: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}

impl Scratch {
    pub(crate) fn copy(bytes: &[u8]) -> Self {
        let mut spare = SPARE.take();
        spare.clear();
        spare.extend_from_slice(bytes);
        Scratch(spare)
    }
}

impl std::ops::Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SPARE.set(std::mem::take(&mut self.0));
    }
}

/// Room for two keys, kept for the next use as the memory of [`Scratch`] is.
struct KeyPair {
    one: Vec<u8>,
    other: Vec<u8>,
}

thread_local! {
    static SPARE_KEYS: std::cell::Cell<(Vec<u8>, Vec<u8>)> =
        const { std::cell::Cell::new((Vec::new(), Vec::new())) };
}

impl KeyPair {
    fn take() -> Self {
        let (one, other) = SPARE_KEYS.take();
        KeyPair { one, other }
    }
}

impl Drop for KeyPair {
    fn drop(&mut self) {
        SPARE_KEYS.set((
            std::mem::take(&mut self.one),
            std::mem::take(&mut self.other),
        ));
    }
}

/// One entry of a page that is to be laid out: from a slot of an old page, or a new one.
#[derive(Clone, Copy)]
pub(crate) enum Item<'a> {
    Kept(Node<'a>, usize),
    New(&'a [u8], Payload<'a>),
}

impl<'a> Item<'a> {
    /// The lengths of its key and its value, if that is in the leaf.
    #[inline]
    fn inline_lengths(&self) -> Option<(usize, usize)> {
        match self {
            Item::Kept(node, i) => {
                let slot = node.slot(*i);
                let is_inline = !slot.overflow && !node.is_branch();
                is_inline.then(|| (node.prefix.len() + slot.length, node.value_bytes(&slot)))
            }
            Item::New(key, payload) => Some((key.len(), payload.inline_bytes()?)),
        }
    }

    #[inline]
    fn inline_bytes(&self) -> Option<usize> {
        Some(self.inline_lengths()?.1)
    }

    /// The slot and the cell, beside a prefix of `prefix` bytes, in a page of such `lengths`.
    #[inline]
    fn cost(&self, prefix: usize, lengths: Lengths) -> usize {
        let (key, own) = match self {
            Item::Kept(node, i) => {
                let slot = node.slot(*i);
                let own = match !slot.overflow && !node.is_branch() {
                    true => lengths.field_bytes() + node.value_bytes(&slot),
                    false => node.own_bytes(&slot),
                };
                (node.prefix.len() + slot.length, own)
            }
            Item::New(key, payload) => (key.len(), payload.cell_bytes(0, lengths)),
        };
        lengths.slot_bytes() + own + key.saturating_sub(prefix + HEAD_BYTES)
    }

    /// Asks for a new entry's value, which is wherever the caller has it.
    pub(crate) fn warm(&self) {
        if let Item::New(_, Payload::Inline(value)) = self {
            (0..value.len())
                .step_by(64)
                .for_each(|line| prefetch(value, line));
        }
    }

    pub(crate) fn key(&self, key: &mut Vec<u8>) {
        match self {
            Item::Kept(node, i) => node.key(*i, key),
            Item::New(new, _) => {
                key.clear();
                key.extend_from_slice(new);
            }
        }
    }

    pub(crate) fn key_vec(&self) -> Vec<u8> {
        let mut key = Vec::new();
        self.key(&mut key);
        key
    }

    /// The number of the tree's entries that it stands for.
    pub(crate) fn entries(&self) -> u64 {
        match self {
            Item::Kept(node, i) if node.is_branch() => node.child(*i).count,
            Item::New(_, Payload::Child(child)) => child.count,
            Item::Kept(..) | Item::New(..) => 1,
        }
    }
}

impl<'a> Node<'a> {
    /// The page's slots, in order.
    pub(crate) fn items(&self) -> Vec<Item<'a>> {
        (0..self.count()).map(|i| Item::Kept(*self, i)).collect()
    }

    /// The page's slots with one more, as slot `i`.
    pub(crate) fn items_with(
        &self,
        i: usize,
        key: &'a [u8],
        payload: Payload<'a>,
    ) -> Vec<Item<'a>> {
        let mut items = Vec::with_capacity(self.count() + 1);
        items.extend((0..i.min(self.count())).map(|i| Item::Kept(*self, i)));
        items.push(Item::New(key, payload));
        items.extend((i..self.count()).map(|i| Item::Kept(*self, i)));
        items
    }
}

/// The prefix of a page with these entries, as the beginning of a key that lies in `keys`.
/// The keys are sorted, so the first and the last tell.
fn prefix_of<'k>(items: &[Item<'_>], is_branch: bool, keys: &'k mut KeyPair) -> &'k [u8] {
    let keyed = items.get(usize::from(is_branch)..).unwrap_or_default();
    // The key after a single one would only shorten its prefix.
    let [first, .., last] = keyed else {
        return &[];
    };
    first.key(&mut keys.one);
    last.key(&mut keys.other);
    let length = common_prefix(&keys.one, &keys.other);
    keys.one.get(..length).unwrap_or_default()
}

fn prefix_bytes(items: &[Item<'_>], is_branch: bool) -> usize {
    prefix_of(items, is_branch, &mut KeyPair::take()).len()
}

/// How a page with these entries says how long their values are, if it is not uniform.
fn lengths_of(items: &[Item<'_>]) -> Lengths {
    let mut lengths = items.iter().filter_map(Item::inline_bytes);
    match lengths.next() {
        Some(first) if lengths.all(|other| other == first) => Lengths::only(first),
        _ => Lengths::InCells,
    }
}

/// How long the keys and the values of these entries are, if all are alike and in the leaf.
fn alike(items: &[Item<'_>]) -> Option<(usize, usize)> {
    let lengths = items.first()?.inline_lengths()?;
    let is_like = |item: &Item<'_>| item.inline_lengths() == Some(lengths);
    items.iter().all(is_like).then_some(lengths)
}

/// What a page is laid out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Density {
    /// More entries are expected between these: a uniform leaf only if they fit no other way.
    Roomy,
    /// It is to stay as it is, or to be appended to: a uniform leaf if it can be one.
    Dense,
}

/// How a page with some entries is to be laid out.
#[derive(Clone, Copy)]
struct Plan {
    prefix: usize,
    lengths: Lengths,
    /// The length of every key, where all entries are alike.
    key: Option<usize>,
}

impl Plan {
    /// With slots that say all there is to say, where the next entry finds its place soon.
    fn loose(items: &[Item<'_>], is_branch: bool) -> Self {
        let alike = alike(items).filter(|_| !is_branch);
        Plan {
            prefix: prefix_bytes(items, is_branch),
            lengths: alike.map_or_else(|| lengths_of(items), |(_, value)| Lengths::only(value)),
            key: alike.map(|(key, _)| key),
        }
    }

    /// A uniform leaf of the same entries, if they can be one.
    fn as_uniform(&self) -> Option<Self> {
        let (key, Lengths::Same(value)) = (self.key?, self.lengths) else {
            return None;
        };
        // A suffix that is whole in its head does not get cheaper by being shorter.
        let prefix = self.prefix.min(key.saturating_sub(HEAD_BYTES));
        Some(Plan {
            prefix,
            lengths: Lengths::uniform(key - prefix, usize::from(value))?,
            key: self.key,
        })
    }

    /// In as few bytes as can be.
    fn dense(items: &[Item<'_>], is_branch: bool) -> Self {
        let loose = Plan::loose(items, is_branch);
        loose.as_uniform().unwrap_or(loose)
    }

    /// Loose if a page has room for that.
    fn fitting(items: &[Item<'_>], is_branch: bool, page_size: usize) -> Self {
        let loose = Plan::loose(items, is_branch);
        match loose.as_uniform() {
            Some(uniform) if loose.bytes(items, is_branch) > usable_bytes(page_size) => uniform,
            _ => loose,
        }
    }

    /// What the page uses, without the header.
    fn bytes(&self, items: &[Item<'_>], is_branch: bool) -> usize {
        let unkeyed = usize::from(is_branch) * (SLOT_BYTES + CHILD_BYTES);
        let keyed = items.get(usize::from(is_branch)..).unwrap_or_default();
        let cost = |item: &Item<'_>| item.cost(self.prefix, self.lengths);
        let costs = match (self.key, keyed.first()) {
            (Some(_), Some(first)) => keyed.len() * cost(first),
            _ => keyed.iter().map(cost).sum(),
        };
        self.prefix + unkeyed + costs
    }

    fn is_uniform(&self) -> bool {
        self.lengths.is_uniform()
    }
}

/// The bytes that a page with these entries is to use, without the header.
pub(crate) fn measure(items: &[Item<'_>], is_branch: bool, density: Density) -> usize {
    match density {
        Density::Roomy => Plan::loose(items, is_branch),
        Density::Dense => Plan::dense(items, is_branch),
    }
    .bytes(items, is_branch)
}

/// The bytes that a leaf would use if it was laid out densely.
pub(crate) fn dense_bytes(node: &Node<'_>) -> usize {
    match node.is_uniform() {
        true => node.used(),
        false => measure(&node.items(), node.is_branch(), Density::Dense),
    }
}

/// How many of the entries go to the left page when one page is too small for them. `new` is the
/// index of the entry that made it so.
pub(crate) fn split_point(
    items: &[Item<'_>],
    new: usize,
    page_size: usize,
    is_branch: bool,
) -> usize {
    let prefix = prefix_bytes(items, is_branch);
    let bare = SLOT_BYTES + CHILD_BYTES;
    let lengths = lengths_of(items);
    let cost_of = |(i, item): (usize, &Item<'_>)| match is_branch && i == 0 {
        true => bare,
        false => item.cost(prefix, lengths),
    };
    let total: usize = items.iter().enumerate().map(cost_of).sum();
    let (mut left, mut best, mut best_size) = (0, 1, usize::MAX);
    for (i, item) in items.iter().enumerate() {
        let cost = cost_of((i, item));
        let dropped_key = if is_branch { cost - bare } else { 0 };
        let size = left.max(total - left - dropped_key);
        if i > 0 && size < best_size {
            (best, best_size) = (i, size);
        }
        left += cost;
    }
    if prefix + best_size <= usable_bytes(page_size) {
        return best;
    }
    // Only a key that does not share the page's prefix gets here, and it is the first or the last.
    let first = usize::from(is_branch);
    if new <= first {
        first + 1
    } else {
        items.len() - 1
    }
}

/// Like [`split_point`], for an entry in the middle of a leaf that goes on with ascending inserts:
/// it becomes the last of the left page, where the next ones can follow it.
pub(crate) fn ascending_split_point(
    items: &[Item<'_>],
    new: usize,
    page_size: usize,
) -> Option<usize> {
    let (low, high) = items.split_at_checked(new + 1)?;
    let room = usable_bytes(page_size);
    let fits = |half: &[Item<'_>]| !half.is_empty() && measure(half, false, Density::Dense) <= room;
    (fits(low) && fits(high)).then_some(new + 1)
}

/// How many of the entries fill a page up to `limit` bytes. Costs about the same however many follow
/// those.
pub(crate) fn fill_point(
    items: &[Item<'_>],
    limit: usize,
    is_branch: bool,
    density: Density,
) -> usize {
    let fits_in = |count| {
        let part = items.get(..count).unwrap_or_default();
        measure(part, is_branch, density) <= limit
    };
    let mut too_many = 1;
    while too_many <= items.len() && fits_in(too_many) {
        too_many *= 2;
    }
    let mut fits = too_many / 2;
    too_many = too_many.min(items.len() + 1);
    while fits + 1 < too_many {
        let middle = fits + (too_many - fits) / 2;
        if fits_in(middle) {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    fits
}

/// Asks for the lines of a page that a search is about to read, all at once: without this the
/// first one, which tells the number of slots, would have to arrive before the others are asked
/// for.
#[inline]
pub(crate) fn warm(bytes: &[u8]) {
    for line in searched_lines(bytes.len()) {
        prefetch(bytes, line);
    }
}

/// Where the lines are that a search in a page looks at first. The last one holds the prefix.
#[inline]
pub(crate) fn searched_lines(page_bytes: usize) -> [usize; 5] {
    [0, 64, 128, 192, page_bytes.wrapping_sub(1)]
}

/// Asks for all of a page that a scan comes to next.
pub(crate) fn warm_all(bytes: &[u8]) {
    for line in (0..bytes.len()).step_by(64) {
        prefetch(bytes, line);
    }
}

/// Lays a page out anew with these entries, which fit. The header keeps its page number, birth,
/// level and run of appends.
pub(crate) fn build(bytes: &mut [u8], items: &[Item<'_>], density: Density) {
    let is_branch = page::kind(bytes) == BRANCH;
    let plan = match density {
        Density::Roomy => Plan::fitting(items, is_branch, bytes.len()),
        Density::Dense => Plan::dense(items, is_branch),
    };
    build_as(bytes, items, &plan);
}

fn build_as(bytes: &mut [u8], items: &[Item<'_>], plan: &Plan) {
    let (is_branch, lengths) = (page::kind(bytes) == BRANCH, plan.lengths);
    let (mut keys, mut key) = (KeyPair::take(), KeyPair::take());
    if let Some(first) = items.get(usize::from(is_branch)) {
        first.key(&mut keys.one);
    }
    let (prefix, key) = (
        keys.one.get(..plan.prefix).unwrap_or_default(),
        &mut key.one,
    );
    let mut cells_start = bytes.len().saturating_sub(prefix.len());
    put_slice(bytes, cells_start, prefix);
    for (i, item) in items.iter().enumerate() {
        if is_branch && i == 0 {
            let payload = match item {
                Item::Kept(node, i) => node.payload(*i),
                Item::New(_, payload) => *payload,
            };
            cells_start = place(bytes, i, cells_start, &[], &payload, lengths);
            continue;
        }
        cells_start = match item {
            Item::Kept(node, from)
                if node.prefix.len() == prefix.len()
                    && node.lengths == lengths
                    && *from >= node.unkeyed() =>
            {
                copy_cell(bytes, i, cells_start, node, *from)
            }
            Item::Kept(node, from) => {
                node.key(*from, key);
                let suffix = key.get(prefix.len()..).unwrap_or_default();
                place(bytes, i, cells_start, suffix, &node.payload(*from), lengths)
            }
            Item::New(key, payload) => {
                let suffix = key.get(prefix.len()..).unwrap_or_default();
                place(bytes, i, cells_start, suffix, payload, lengths)
            }
        };
    }
    put_u16(bytes, COUNT, items.len() as u16);
    put_u32(bytes, CELLS_START, cells_start as u32);
    put_u16(bytes, PREFIX, prefix.len() as u16);
    put_u16(bytes, GARBAGE, 0);
    lengths.store(bytes);
}

/// Copies slot and cell as they are: the prefix is the same.
fn copy_cell(
    bytes: &mut [u8],
    i: usize,
    cells_start: usize,
    node: &Node<'_>,
    from: usize,
) -> usize {
    let slot = node.slot(from);
    let length = node.cell_bytes(&slot);
    let offset = cells_start.saturating_sub(length);
    put_slice(bytes, offset, node.slice(slot.offset, length));
    put_slot(bytes, i, &Slot { offset, ..slot }, node.lengths);
    offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn leaf(size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        page::init(&mut bytes, 7, 1, LEAF, 0);
        bytes
    }

    fn branch(size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        page::init(&mut bytes, 7, 1, BRANCH, 1);
        bytes
    }

    fn assert_sound(bytes: &[u8]) {
        validate(bytes, 7).unwrap();
        Node::new(bytes).check_cells().unwrap();
    }

    /// Short alphabets and zeroes, so that heads tie and prefixes come and go.
    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        let tail = proptest::collection::vec(0u8..3, 0..8);
        let prefix = prop_oneof![
            Just(Vec::new()),
            Just(vec![1; 5]),
            Just(b"a long shared prefix".to_vec()),
            Just(b"a long shared".to_vec()),
        ];
        (prefix, tail).prop_map(|(prefix, tail)| [prefix, tail].concat())
    }

    /// Mostly the same length.
    fn any_length(below: usize) -> impl Strategy<Value = usize> {
        prop_oneof![6 => Just(7), 1 => Just(0), 2 => 0..below]
    }

    /// Mostly short, so that the length of a value is much of an entry.
    fn any_short_or_long() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            8 => proptest::collection::vec(any::<u8>(), 0..4),
            2 => proptest::collection::vec(0u8..2, 0..1024),
        ]
    }

    /// What a uniform leaf can hold, up to as much as it can hold, and the length of the values.
    fn uniform_entries() -> impl Strategy<Value = (BTreeMap<Vec<u8>, Vec<u8>>, usize)> {
        let prefix =
            proptest::sample::select(vec![&b""[..], &b"common"[..], &b"a much longer prefix"[..]]);
        let tails = proptest::collection::btree_set(proptest::collection::vec(0u8..4, 5), 1..150);
        let value_bytes = prop_oneof![Just(20usize), Just(24), Just(150)];
        (prefix, tails, value_bytes).prop_map(|(prefix, tails, value_bytes)| {
            let entry =
                |tail: &Vec<u8>| ([prefix, tail.as_slice()].concat(), vec![0xee; value_bytes]);
            let mut entries: BTreeMap<_, _> = tails.iter().map(entry).collect();
            while usable_bytes(4096) < dense(&entries) {
                entries.pop_last();
            }
            (entries, value_bytes)
        })
    }

    fn dense(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> usize {
        measure(&new_items(entries), false, Density::Dense)
    }

    fn new_items(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Item<'_>> {
        let items = entries.iter();
        items
            .map(|(key, value)| Item::New(key, Payload::Inline(value)))
            .collect()
    }

    fn uniform_leaf(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
        let mut bytes = leaf(4096);
        build(&mut bytes, &new_items(entries), Density::Dense);
        bytes
    }

    /// An entry like those of a page, or one that is not.
    #[derive(Debug, Clone)]
    enum Like {
        /// The entry at this place.
        Same(usize),
        /// Behind all others.
        Behind,
        /// Another, near it.
        Near(usize, u8),
        /// Of another length.
        Longer(usize, usize),
        /// With nothing in common.
        Other(Vec<u8>, usize),
    }

    fn alike_or_not() -> impl Strategy<Value = Like> {
        let key = proptest::collection::vec(any::<u8>(), 0..1000);
        prop_oneof![
            4 => (0usize..150).prop_map(Like::Same),
            4 => Just(Like::Behind),
            4 => (0usize..150, any::<u8>()).prop_map(|(i, byte)| Like::Near(i, byte)),
            1 => (0usize..150, 0usize..300).prop_map(|(i, length)| Like::Longer(i, length)),
            1 => (key, 0usize..300).prop_map(|(key, length)| Like::Other(key, length)),
        ]
    }

    impl Like {
        fn of(&self, model: &BTreeMap<Vec<u8>, Vec<u8>>, value_bytes: usize) -> (Vec<u8>, usize) {
            let nth = |i: usize| {
                let key = model.keys().nth(i % model.len().max(1));
                key.cloned().unwrap_or_else(|| b"first".to_vec())
            };
            let with_last = |mut key: Vec<u8>, change: &dyn Fn(u8) -> u8| {
                if let Some(byte) = key.last_mut() {
                    *byte = change(*byte);
                }
                key
            };
            match self {
                Like::Same(i) => (nth(*i), value_bytes),
                Like::Behind => {
                    let last = nth(model.len().saturating_sub(1));
                    (with_last(last, &|byte| byte.saturating_add(1)), value_bytes)
                }
                Like::Near(i, byte) => (with_last(nth(*i), &|_| *byte), value_bytes),
                Like::Longer(i, length) => (nth(*i), *length),
                Like::Other(key, length) => (key.clone(), *length),
            }
        }
    }

    fn assert_holds(bytes: &[u8], model: &BTreeMap<Vec<u8>, Vec<u8>>) {
        assert_sound(bytes);
        let node = Node::new(bytes);
        assert_eq!(node.count(), model.len());
        for (i, (key, value)) in model.iter().enumerate() {
            assert_eq!(node.search(key), Ok(i));
            assert_eq!(&node.key_vec(i), key);
            assert_eq!(node.payload(i), Payload::Inline(value));
        }
    }

    /// What one page has no room for fits two.
    fn assert_splits(bytes: &[u8], i: usize, key: &[u8], payload: Payload<'_>) {
        let node = Node::new(bytes);
        let items = node.items_with(i, key, payload);
        let at = split_point(&items, i, bytes.len(), false);
        let mut n = 0;
        for half in [&items[..at], &items[at..]] {
            let mut page = leaf(bytes.len());
            build(&mut page, half, Density::Roomy);
            assert!(Node::new(&page).used() <= usable_bytes(bytes.len()));
            assert_sound(&page);
            for (slot, item) in half.iter().enumerate() {
                assert_eq!(Node::new(&page).key_vec(slot), item.key_vec());
                n += 1;
            }
        }
        assert_eq!(n, items.len());
    }

    fn child(n: u64) -> Child {
        let page = PageRef {
            page: n as u32 + 100,
            checksum: n as u32 ^ 0x55,
        };
        Child { page, count: n }
    }

    fn read_all(bytes: &[u8]) {
        let node = Node::new(bytes);
        let mut key = Vec::new();
        for i in 0..node.count().min(2000) + 2 {
            node.key(i, &mut key);
            let _ = (node.value(i), node.child(i), node.run(i), node.key_bytes(i));
            let _ = (node.search(&key), node.child_index(&key));
        }
        let _ = (
            node.search(b""),
            node.child_index(b"zzzzzzzz"),
            node.used(),
            node.gap(),
        );
        let _ = (node.check_cells(), node.items().len(), node.is_ascending(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_leaf_is_an_ordered_map(
            steps in proptest::collection::vec((any_key(), any_length(200), any::<bool>()), 1..150)
        ) {
            let mut bytes = leaf(4096);
            let mut model = BTreeMap::new();
            for (key, length, adds) in steps {
                let value = vec![length as u8; length];
                let found = Node::new(&bytes).search(&key);
                prop_assert_eq!(found.is_ok(), model.contains_key(&key));
                let (Ok(i) | Err(i)) = found;
                prop_assert_eq!(i, model.range(..key.clone()).count());
                if found.is_ok() && adds && overwrite(&mut bytes, i, &Payload::Inline(&value)) {
                    model.insert(key, value);
                } else {
                    if found.is_ok() {
                        remove(&mut bytes, i);
                        model.remove(&key);
                    }
                    let before = bytes.clone();
                    if adds && insert(&mut bytes, i, &key, &Payload::Inline(&value)) {
                        model.insert(key, value);
                    } else {
                        prop_assert_eq!(&bytes, &before);
                    }
                }
                assert_sound(&bytes);
            }
            let node = Node::new(&bytes);
            prop_assert_eq!(node.count(), model.len());
            for (i, (key, value)) in model.iter().enumerate() {
                prop_assert_eq!(&node.key_vec(i), key);
                prop_assert_eq!(node.payload(i), Payload::Inline(value));
            }
        }

        #[test]
        fn a_branch_finds_the_child(
            keys in proptest::collection::btree_set(any_key(), 1..90),
            removed in proptest::collection::vec(0usize..90, 0..60),
            probes in proptest::collection::vec(any_key(), 1..40),
        ) {
            let mut bytes = branch(4096);
            insert(&mut bytes, 0, b"ignored", &Payload::Child(child(0)));
            let mut model = vec![(Vec::new(), child(0))];
            for (n, key) in keys.into_iter().filter(|key| !key.is_empty()).enumerate() {
                let child = child(n as u64 + 1);
                // From both sides, so that prefixes shrink in front and at the end.
                let i = if n % 2 == 0 { model.len() } else { 1 + model[1..].partition_point(|(other, _)| *other < key) };
                if insert(&mut bytes, i, &key, &Payload::Child(child)) {
                    model.insert(i, (key, child));
                }
                assert_sound(&bytes);
            }
            for i in removed {
                if i < model.len() && model.len() > 1 {
                    remove(&mut bytes, i);
                    model.remove(i);
                    model[0].0.clear();
                    assert_sound(&bytes);
                }
            }
            let node = Node::new(&bytes);
            for (i, (key, child)) in model.iter().enumerate() {
                prop_assert_eq!(&node.key_vec(i), key);
                prop_assert_eq!(node.child(i), *child);
            }
            for key in probes.iter().chain(model.iter().map(|(key, _)| key)) {
                let expected = model[1..].iter().take_while(|(other, _)| other <= key).count();
                prop_assert_eq!(node.child_index(key), expected);
            }
        }

        #[test]
        fn any_two_halves_fit(
            entries in proptest::collection::btree_map(
                any_short_or_long(), any_length(1400), 1..500),
            extra in any_short_or_long(),
            extra_bytes in any_length(1400),
        ) {
            let value = vec![1; 1400];
            let payload = |key: &[u8], length: usize| {
                if is_inline(4096, key.len(), length) {
                    Payload::Inline(&value[..length])
                } else {
                    Payload::Run(RunRef { first: 9, ..RunRef::default() })
                }
            };
            let mut bytes = leaf(4096);
            for (key, length) in &entries {
                let Err(i) = Node::new(&bytes).search(key) else { unreachable!() };
                insert(&mut bytes, i, key, &payload(key, *length));
            }
            let node = Node::new(&bytes);
            if let Err(i) = node.search(&extra) {
                let items = node.items_with(i, &extra, payload(&extra, extra_bytes));
                if measure(&items, false, Density::Dense) > usable_bytes(4096) {
                    let at = split_point(&items, i, 4096, false);
                    prop_assert!(at > 0 && at < items.len());
                    for half in [&items[..at], &items[at..]] {
                        prop_assert!(measure(half, false, Density::Dense) <= usable_bytes(4096));
                        let mut page = leaf(4096);
                        build(&mut page, half, Density::Roomy);
                        assert_sound(&page);
                        for (i, item) in half.iter().enumerate() {
                            prop_assert_eq!(Node::new(&page).key_vec(i), item.key_vec());
                        }
                    }
                }
            }
        }

        #[test]
        fn a_uniform_leaf_is_an_ordered_map(
            start in uniform_entries(),
            steps in proptest::collection::vec((alike_or_not(), any::<bool>()), 1..60),
        ) {
            let (mut model, value_bytes) = start;
            let mut bytes = uniform_leaf(&model);
            prop_assert!(Node::new(&bytes).is_uniform());
            assert_holds(&bytes, &model);
            for (step, (change, adds)) in steps.into_iter().enumerate() {
                let (key, length) = change.of(&model, value_bytes);
                let value = vec![step as u8; length];
                let payload = Payload::Inline(&value);
                let found = Node::new(&bytes).search(&key);
                prop_assert_eq!(found.is_ok(), model.contains_key(&key));
                let (Ok(i) | Err(i)) = found;
                if found.is_ok() && adds && overwrite(&mut bytes, i, &payload) {
                    model.insert(key, value);
                } else {
                    if found.is_ok() {
                        remove(&mut bytes, i);
                        model.remove(&key);
                    }
                    let before = bytes.clone();
                    if adds && insert(&mut bytes, i, &key, &payload) {
                        model.insert(key, value);
                    } else {
                        prop_assert_eq!(&bytes, &before);
                        if adds {
                            assert_splits(&bytes, i, &key, payload);
                        }
                    }
                }
                assert_holds(&bytes, &model);
            }
        }

        #[test]
        fn damaged_pages_are_read_without_panic(
            flips in proptest::collection::vec((0usize..4096, any::<u8>()), 1..40),
            in_header in any::<bool>(),
            kind in prop_oneof![Just(LEAF), Just(BRANCH), Just(UNIFORM_LEAF)],
        ) {
            let is_leaf = kind != BRANCH;
            let mut bytes = if is_leaf { leaf(4096) } else { branch(4096) };
            page::set_kind(&mut bytes, kind);
            for n in 0..60u64 {
                let key = format!("some prefix {n:04}");
                let payload = match (is_leaf, n % 5) {
                    (false, _) => Payload::Child(child(n)),
                    (true, 0) if kind == LEAF => Payload::Run(RunRef { first: 5, ..RunRef::default() }),
                    (true, _) => Payload::Inline(&[1; 30]),
                };
                prop_assert!(insert(&mut bytes, n as usize, key.as_bytes(), &payload));
            }
            for (at, byte) in flips {
                let at = if in_header { 16 + at % 500 } else { at };
                bytes[at] = byte;
            }
            read_all(&bytes);
            if validate(&bytes, 7).is_ok() {
                // What is valid can be changed, too.
                let mut changed = bytes.clone();
                patch_checksums(&mut changed, Some);
                remove(&mut changed, 3);
                let payload = if is_leaf { Payload::Inline(b"v") } else { Payload::Child(child(1)) };
                let count = Node::new(&changed).count();
                insert(&mut changed, count.min(2), b"some key", &payload);
                read_all(&changed);
            }
        }

        #[test]
        fn noise_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let _ = validate(&bytes, 7);
            read_all(&bytes);
        }
    }

    #[test]
    fn zero_padding_does_not_confuse_keys() {
        let mut bytes = leaf(4096);
        let keys: [&[u8]; 7] = [
            b"",
            b"\0",
            b"\0\0\0\0",
            b"\0\0\0\0\0",
            b"a",
            b"a\0",
            b"a\0\0\0\0",
        ];
        for key in keys.iter().rev() {
            assert!(insert(&mut bytes, 0, key, &Payload::Inline(key)));
        }
        for (i, key) in keys.iter().enumerate() {
            assert_eq!(Node::new(&bytes).search(key), Ok(i));
        }
        assert_eq!(Node::new(&bytes).search(b"a\0\0"), Err(6));
    }

    #[test]
    fn values_of_one_length_have_it_in_the_header() {
        let key = |n: u32| n.to_be_bytes();
        let fill = |value: &[u8]| {
            let mut bytes = leaf(4096);
            let mut count = 0;
            while insert(
                &mut bytes,
                count,
                &key(count as u32),
                &Payload::Inline(value),
            ) {
                count += 1;
            }
            (bytes, count)
        };
        let (mut bytes, count) = fill(&[5; 12]);
        assert_eq!(count, usable_bytes(4096) / (SLOT_BYTES + 12));
        assert_eq!(get_u16(&bytes, LENGTHS), 13);
        // A shorter value than all others takes more room than there is: the page stays as it is.
        let before = bytes.clone();
        assert!(!overwrite(&mut bytes, 3, &Payload::Inline(&[6; 11])));
        assert!(!insert(&mut bytes, count, b"z", &Payload::Inline(b"")));
        assert_eq!(bytes, before);
        assert!(overwrite(&mut bytes, 3, &Payload::Inline(&[6; 12])));
        assert_eq!(Node::new(&bytes).payload(3), Payload::Inline(&[6; 12]));
        for _ in 0..count / 4 {
            remove(&mut bytes, 0);
        }
        assert!(insert(&mut bytes, 0, b"", &Payload::Inline(b"")));
        assert_eq!(get_u16(&bytes, LENGTHS), 0);
        assert_sound(&bytes);
        assert_eq!(Node::new(&bytes).payload(0), Payload::Inline(b""));
        assert_eq!(Node::new(&bytes).payload(1), Payload::Inline(&[5; 12]));
        // Of one length again, once it is laid out anew.
        remove(&mut bytes, 0);
        let old = bytes.clone();
        build(&mut bytes, &Node::new(&old).items(), Density::Roomy);
        assert_eq!(get_u16(&bytes, LENGTHS), 13);
        assert_sound(&bytes);
        // With no value, of no length.
        while Node::new(&bytes).count() > 0 {
            remove(&mut bytes, 0);
        }
        assert_eq!(get_u16(&bytes, LENGTHS), 0);
        let (_, empty) = fill(b"");
        assert_eq!(empty, usable_bytes(4096) / SLOT_BYTES);
    }

    #[test]
    fn a_cell_of_no_bytes_can_be_at_the_end_of_the_largest_page() {
        let mut bytes = leaf(65536);
        for (i, key) in [&b""[..], b"abcd", b"b"].into_iter().enumerate() {
            assert!(insert(&mut bytes, i, key, &Payload::Inline(b"")));
            assert_sound(&bytes);
        }
        assert_eq!(Node::new(&bytes).search(b"abcd"), Ok(1));
        assert_eq!(Node::new(&bytes).payload(1), Payload::Inline(b""));
        remove(&mut bytes, 0);
        assert!(insert(&mut bytes, 2, b"c", &Payload::Inline(b"value")));
        assert_sound(&bytes);
        assert_eq!(Node::new(&bytes).key_vec(0), b"abcd");
    }

    #[test]
    fn entries_of_the_same_lengths_make_a_uniform_leaf() {
        let key = |n: u32| [&n.to_le_bytes()[..], &[7; 20]].concat();
        let mut sorted: Vec<Vec<u8>> = (1..=23).map(key).collect();
        sorted.sort();
        let mut bytes = leaf(4096);
        page::set_kind(&mut bytes, UNIFORM_LEAF);
        for (i, key) in sorted.iter().enumerate() {
            assert!(
                insert(&mut bytes, i, key, &Payload::Inline(&[5; 150])),
                "{i}"
            );
            assert_sound(&bytes);
        }
        assert!(Node::new(&bytes).is_uniform());
        assert!(!insert(
            &mut bytes,
            23,
            &key(24),
            &Payload::Inline(&[5; 150])
        ));
        // Between others: a page that is ready for more of them, if that fits.
        remove(&mut bytes, 5);
        remove(&mut bytes, 9);
        assert!(Node::new(&bytes).is_uniform());
        assert!(insert(
            &mut bytes,
            5,
            &sorted[5],
            &Payload::Inline(&[5; 150])
        ));
        assert_eq!(page::kind(&bytes), LEAF);
        assert_sound(&bytes);
        finish(&mut bytes);
        assert!(Node::new(&bytes).is_uniform());
        assert!(insert(
            &mut bytes,
            10,
            &sorted[10],
            &Payload::Inline(&[5; 150])
        ));
        // Here it does not.
        assert!(Node::new(&bytes).is_uniform());
        assert_sound(&bytes);
        while Node::new(&bytes).count() > 0 {
            remove(&mut bytes, 0);
            assert_sound(&bytes);
        }
        assert_eq!(page::kind(&bytes), LEAF);
        assert!(insert(&mut bytes, 0, b"k", &Payload::Inline(&[5; 150])));
        assert_sound(&bytes);
    }

    #[test]
    fn a_uniform_leaf_that_a_strange_key_is_cut_off_from_stays_one() {
        let key = |n: u16| [&[b'm'; 900][..], &n.to_be_bytes(), &[7; 8]].concat();
        let entries: BTreeMap<_, _> = (0..105).map(|n| (key(n * 300), vec![5; 20])).collect();
        assert!((4035..=usable_bytes(4096)).contains(&dense(&entries)));
        let bytes = uniform_leaf(&entries);
        assert_holds(&bytes, &entries);
        for (i, strange) in [(0, b"a"), (105, b"z")] {
            assert!(!insert(
                &mut bytes.clone(),
                i,
                strange,
                &Payload::Inline(b"v")
            ));
            assert_splits(&bytes, i, strange, Payload::Inline(b"v"));
        }
    }

    #[test]
    fn a_uniform_leaf_whose_numbers_do_not_go_together_is_refused() {
        let mut bytes = leaf(4096);
        page::set_kind(&mut bytes, UNIFORM_LEAF);
        for n in 0..10u32 {
            let key = n.to_be_bytes();
            assert!(insert(
                &mut bytes,
                n as usize,
                &key,
                &Payload::Inline(&[5; 30])
            ));
        }
        let with = |change: &dyn Fn(&mut [u8])| {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            validate(&bytes, 7)
        };
        assert_eq!(with(&|_| ()), Ok(()));
        let number = |at: usize, value: u16| with(&|bytes| put_u16(bytes, at, value));
        for (at, value) in [
            (LENGTHS, 0),
            (LENGTHS, 20),
            (LENGTHS, 30),
            (LENGTHS, 32),
            (SUFFIX, 5),
            (SUFFIX, 2000),
            (COUNT, 9),
            (COUNT, 11),
            (COUNT, 0xffff),
            (PREFIX, 1),
        ] {
            assert!(number(at, value).is_err(), "{value} at {at}");
        }
        for (at, value) in [(LEVEL, 1), (KIND, LEAF), (KIND, BRANCH), (CELLS_START, 77)] {
            assert!(with(&|bytes| bytes[at] = value).is_err(), "{value} at {at}");
        }
    }

    #[test]
    fn checksums_are_patched_in_place() {
        let mut bytes = branch(4096);
        for n in 0..5 {
            insert(
                &mut bytes,
                n as usize,
                format!("k{n}").as_bytes(),
                &Payload::Child(child(n)),
            );
        }
        patch_checksums(&mut bytes, |page| (page == 102).then_some(99));
        let sums: Vec<u32> = Node::new(&bytes)
            .children()
            .map(|c| c.page.checksum)
            .collect();
        assert_eq!(sums, [0x55, 0x54, 99, 0x56, 0x51]);
    }
}
