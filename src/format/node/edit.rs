//! Changing a page in place: insert, overwrite, remove. Keeps the first child without a key (invariant
//! 2), no prefix where there are no keys (invariant 3), the garbage counted (invariant 4) and a uniform
//! leaf uniform as long as entries come behind the others (invariant 7). The caller says which slot, so
//! the order is its part (invariant 1).

use crate::format::page::{self, CELLS_START, COUNT, GARBAGE, HEADER_BYTES, PREFIX};
use crate::format::{PageNumber, put_u16, put_u32};

use super::cell::{add_garbage, place, put_slice, write_child};
use super::layout::CHILD_CHECKSUM;
use super::lengths::Lengths;
use super::rebuild::insert_rebuilding;
use super::run::note_insert;
use super::slot::Slot;
use super::{Child, Node, Payload, SLOT_BYTES};

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
    } else if slot.offset == cells_start && !shares_its_place(&node, i, slot.offset) {
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

/// Whether there is a cell of no bytes where that of slot `i` is: it must not come to lie before the cells.
fn shares_its_place(node: &Node<'_>, i: usize, offset: usize) -> bool {
    let is_there = |other: usize| other != i && node.slot(other).offset == offset;
    node.lengths == Lengths::only(0) && (0..node.count()).any(is_there)
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
