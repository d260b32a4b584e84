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

impl Node<'_> {
    /// In a leaf: the run that the one that is to be slot `i` goes on with, if it is a long one.
    pub(crate) fn run_to(&self, i: usize) -> Run {
        let raw = get_u16(self.bytes, APPENDS);
        let goes_on = step(raw, i) == Some(raw & DESCENDS);
        match raw >> RUN_SHIFT {
            LONGEST_RUN if goes_on && raw & DESCENDS == 0 => Run::Ascending,
            LONGEST_RUN if goes_on => Run::Descending,
            _ => Run::Nowhere,
        }
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

/// Notes that inserts come in this order, the last one at slot `i`.
pub(crate) fn set_run(bytes: &mut [u8], run: Run, i: usize) {
    let raw = match run {
        Run::Nowhere => 0,
        Run::Ascending => LONGEST_RUN << RUN_SHIFT,
        Run::Descending => LONGEST_RUN << RUN_SHIFT | DESCENDS,
    };
    put_u16(bytes, APPENDS, raw | slot_of(i));
}

pub(super) fn note_insert(bytes: &mut [u8], i: usize) {
    if page::kind(bytes) != BRANCH {
        let raw = get_u16(bytes, APPENDS);
        let run = match step(raw, i) {
            Some(direction) if direction == raw & DESCENDS => {
                LONGEST_RUN.min((raw >> RUN_SHIFT) + 1) << RUN_SHIFT | direction
            }
            Some(direction) => 1 << RUN_SHIFT | direction,
            None => 0,
        };
        put_u16(bytes, APPENDS, run | slot_of(i));
    }
}
