//! The ascent of a leaf: how many inserts in a row went each right behind the one before. A hint for
//! splits, which no invariant rests on.

use crate::format::page::{self, APPENDS, BRANCH};
use crate::format::{get_u16, put_u16};

use super::Node;

/// The `appends` field: how many inserts in a row (up to this) each went right behind the one
/// before, in bits 13..15, and the slot of the last one in bits 0..12.
const LONGEST_ASCENT: u16 = 7;
const ASCENT_SHIFT: u32 = 13;
const ASCENT_SLOT: u16 = (1 << ASCENT_SHIFT) - 1;

impl Node<'_> {
    /// In a leaf: whether the last inserts came in ascending order, each right behind the one
    /// before, and the one that is to be slot `i` goes on with that.
    pub(crate) fn is_ascending(&self, i: usize) -> bool {
        let (run, last) = ascent(self.bytes);
        run == LONGEST_ASCENT && last + 1 == i
    }
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

pub(super) fn note_insert(bytes: &mut [u8], i: usize) {
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
