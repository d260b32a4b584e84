//! Writing slots and cells, each cell in front of the others, and counting the garbage (invariant 4).

use crate::format::page::GARBAGE;
use crate::format::{get_u16, put_u16, put_u32, put_u64};

use super::layout::{CHILD_BYTES, CHILD_CHECKSUM, CHILD_COUNT};
use super::lengths::Lengths;
use super::slot::{Slot, head_of};
use super::{Child, HEAD_BYTES, Payload};

#[inline]
pub(super) fn put_slice(bytes: &mut [u8], offset: usize, source: &[u8]) {
    debug_assert!(offset + source.len() <= bytes.len());
    if let Some(target) = bytes.get_mut(offset..offset + source.len()) {
        target.copy_from_slice(source);
    }
}

pub(super) fn add_garbage(bytes: &mut [u8], more: usize) {
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

pub(super) fn write_child(bytes: &mut [u8], offset: usize, child: &Child) {
    put_u32(bytes, offset, child.page.page);
    put_u32(bytes, offset + CHILD_CHECKSUM, child.page.checksum);
    put_u64(bytes, offset + CHILD_COUNT, child.count);
}

/// Writes slot `i` and its cell, which ends where the cells now start. The caller has made room.
pub(super) fn place(
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

pub(super) fn put_slot(bytes: &mut [u8], i: usize, slot: &Slot, lengths: Lengths) {
    let at = lengths.slot_at(i);
    match lengths.is_uniform() {
        false => put_slice(bytes, at, &slot.encode()),
        true => put_u32(bytes, at, slot.head),
    }
}
