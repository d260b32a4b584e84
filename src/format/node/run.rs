//! The run of a leaf: how many inserts in a row went each right behind the one before, or each right before
//! it. A hint for splits, which no invariant rests on.

use crate::format::page::{self, APPENDS, BRANCH};
use crate::format::{get_u16, put_u16};

use super::Node;

/// The `appends` field: how many inserts in a row (up to this) each went right behind the one before, in
/// bits 13..15; or right before it, if bit 12 is set; and the slot of the last one, without what does not
/// fit, in bits 0..11.
const LONGEST_RUN: u16 = 7;
const RUN_SHIFT: u32 = 13;
const DESCENDS: u16 = 1 << 12;
const SLOT: u16 = DESCENDS - 1;

/// Where the next entry of a leaf is likely to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    Nowhere,
    /// Right behind the last one.
    Ascending,
    /// Right before the last one.
    Descending,
}

/// How the last inserts of a leaf came, one more counted that did not find room: what stays known of them when it is split.
/// (With a leaf of nine entries no run came to seven before the next split: runs of long entries left their leaves half
/// full.)
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inserts {
    /// As in the field, without the slot.
    bits: u16,
    run: Run,
}

impl Inserts {
    /// In no order.
    pub(crate) const ANYHOW: Inserts = Inserts {
        bits: 0,
        run: Run::Nowhere,
    };

    /// The run that the new one goes on with, if it is a long one.
    pub(crate) fn run(self) -> Run {
        self.run
    }
}

impl Node<'_> {
    /// In a leaf: how inserts came, with the one that is to be slot `i`.
    pub(crate) fn inserts_to(&self, i: usize) -> Inserts {
        let raw = get_u16(self.bytes, APPENDS);
        let goes_on = step(raw, i) == Some(raw & DESCENDS);
        let run = match raw >> RUN_SHIFT {
            LONGEST_RUN if goes_on && raw & DESCENDS == 0 => Run::Ascending,
            LONGEST_RUN if goes_on => Run::Descending,
            _ => Run::Nowhere,
        };
        let bits = counted(raw, i);
        Inserts { bits, run }
    }
}

fn slot_of(i: usize) -> u16 {
    i as u16 & SLOT
}

/// The direction in which an insert at slot `i` follows the last one: as the bit that says so.
#[inline]
fn step(raw: u16, i: usize) -> Option<u16> {
    match slot_of(i).wrapping_sub(raw) & SLOT {
        0 => Some(DESCENDS),
        1 => Some(0),
        _ => None,
    }
}

/// The run with an insert at slot `i`: its length and its direction.
#[inline]
fn counted(raw: u16, i: usize) -> u16 {
    match step(raw, i) {
        Some(direction) if direction == raw & DESCENDS => {
            LONGEST_RUN.min((raw >> RUN_SHIFT) + 1) << RUN_SHIFT | direction
        }
        Some(direction) => 1 << RUN_SHIFT | direction,
        None => 0,
    }
}

/// Notes that inserts came like this, the last one at slot `i`.
pub(crate) fn set_inserts(bytes: &mut [u8], inserts: Inserts, i: usize) {
    put_u16(bytes, APPENDS, inserts.bits | slot_of(i));
}

pub(super) fn note_insert(bytes: &mut [u8], i: usize) {
    if page::kind(bytes) != BRANCH {
        let raw = get_u16(bytes, APPENDS);
        put_u16(bytes, APPENDS, counted(raw, i) | slot_of(i));
    }
}
