//! A node, to be read: its slots, keys, values and children. Total, as all that reads (invariant 8).

use crate::format::page::{self, BRANCH, CELLS_START, GARBAGE, HEADER_BYTES, PREFIX};
use crate::format::{PageRef, RunRef, get_u16, get_u32, get_u64};

use super::layout::{CHILD_BYTES, CHILD_CHECKSUM, CHILD_COUNT};
use super::lengths::{Lengths, stride};
use super::slot::{Slot, slot_head};
use super::{Child, Payload, SLOT_BYTES, UNIFORM_SLOT_BYTES, ValueAt};

/// A node, to be read. Copying it is cheap.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(super) bytes: &'a [u8],
    /// Whole slots, of a size that goes with `lengths`.
    slots: &'a [u8],
    pub(super) prefix: &'a [u8],
    pub(super) lengths: Lengths,
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
    pub(super) fn full_slots(&self) -> &'a [[u8; SLOT_BYTES]] {
        self.slots.as_chunks().0
    }

    /// The slots of a uniform leaf.
    #[inline]
    pub(super) fn heads(&self) -> &'a [[u8; UNIFORM_SLOT_BYTES]] {
        self.slots.as_chunks().0
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

    pub(super) fn cells_start(&self) -> usize {
        (get_u32(self.bytes, CELLS_START) as usize).min(self.bytes.len())
    }

    pub(super) fn garbage(&self) -> usize {
        match self.lengths.is_uniform() {
            false => usize::from(get_u16(self.bytes, GARBAGE)),
            true => 0,
        }
    }

    pub(super) fn cells_end(&self) -> usize {
        self.bytes.len().saturating_sub(self.prefix.len())
    }

    fn slots_end(&self) -> usize {
        self.slot_at(self.count())
    }

    /// The bytes between the slots and the cells.
    #[inline]
    pub(super) fn gap(&self) -> usize {
        self.cells_start().saturating_sub(self.slots_end())
    }

    /// The bytes that slots, cells and prefix take, without garbage.
    pub(crate) fn used(&self) -> usize {
        let cells = self.bytes.len().saturating_sub(self.cells_start());
        (self.slots.len() + cells).saturating_sub(self.garbage())
    }

    #[inline]
    pub(super) fn slot(&self, i: usize) -> Slot {
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
    pub(super) fn unkeyed(&self) -> usize {
        usize::from(self.is_branch())
    }

    #[inline]
    pub(super) fn slice(&self, start: usize, length: usize) -> &'a [u8] {
        self.bytes.get(start..start + length).unwrap_or_default()
    }

    /// The bytes of the cell in front of the rest of the key.
    #[inline]
    pub(super) fn rest_offset(&self, slot: &Slot) -> usize {
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
    pub(super) fn value_bytes(&self, slot: &Slot) -> usize {
        match self.lengths {
            Lengths::InCells => usize::from(get_u16(self.bytes, slot.offset)),
            Lengths::Same(value) | Lengths::Uniform { value, .. } => usize::from(value),
        }
    }

    #[inline]
    pub(super) fn rest(&self, slot: &Slot) -> &'a [u8] {
        self.slice(slot.offset + self.rest_offset(slot), slot.rest_bytes())
    }

    /// The bytes of the cell without the rest of the key and the length of an inline value.
    #[inline]
    pub(super) fn own_bytes(&self, slot: &Slot) -> usize {
        if slot.overflow {
            RunRef::ENCODED_BYTES
        } else if self.is_branch() {
            CHILD_BYTES
        } else {
            self.value_bytes(slot)
        }
    }

    #[inline]
    pub(super) fn cell_bytes(&self, slot: &Slot) -> usize {
        let is_inline = !slot.overflow && !self.is_branch();
        let length_bytes = match is_inline {
            true => self.lengths.field_bytes(),
            false => 0,
        };
        length_bytes + self.own_bytes(slot) + slot.rest_bytes()
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

    pub(super) fn payload(&self, i: usize) -> Payload<'a> {
        if self.is_branch() {
            return Payload::Child(self.child(i));
        }
        match self.value(i) {
            ValueAt::Inline(range) => Payload::Inline(self.slice(range.start, range.len())),
            ValueAt::Run(run) => Payload::Run(run),
        }
    }
}
