//! Where a page says how long its suffixes and its values are, and with that where its slots are; in a
//! uniform leaf its cells, too. Only values that are long enough make one (invariant 6).

use crate::format::page::{self, GARBAGE, HEADER_BYTES, LEAF, LENGTHS, SUFFIX, UNIFORM_LEAF};
use crate::format::{get_u16, put_u16};

use super::layout::VALUE_LENGTH_BYTES;
use super::{HEAD_BYTES, Payload, SLOT_BYTES, UNIFORM_SLOT_BYTES, UNIFORM_VALUE_MIN};

/// Where a page says how long its suffixes and its inline values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lengths {
    /// Each slot has the length of its suffix, each cell that of its value.
    InCells,
    /// All values have this length, which is in the page's header.
    Same(u16),
    /// All suffixes and all values have these, and there is no value in a run: a uniform leaf.
    Uniform { suffix: u16, value: u16 },
}

impl Lengths {
    #[inline]
    pub(super) fn of(bytes: &[u8]) -> Self {
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
    pub(super) fn store(self, bytes: &mut [u8]) {
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
    pub(super) fn only(length: usize) -> Self {
        Lengths::Same(length as u16)
    }

    /// Of a leaf whose suffixes and values all have these, if it can be uniform.
    pub(super) fn uniform(suffix: usize, value: usize) -> Option<Self> {
        let (suffix, value) = (u16::try_from(suffix).ok()?, u16::try_from(value).ok()?);
        let is_long = usize::from(value) >= UNIFORM_VALUE_MIN;
        is_long.then_some(Lengths::Uniform { suffix, value })
    }

    /// Of a leaf that gets its first entry.
    pub(super) fn first(bytes: &[u8], key: &[u8], payload: &Payload<'_>) -> Self {
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
    pub(super) fn is_uniform(self) -> bool {
        matches!(self, Lengths::Uniform { .. })
    }

    #[inline]
    pub(super) fn slot_bytes(self) -> usize {
        match self {
            Lengths::InCells | Lengths::Same(_) => SLOT_BYTES,
            Lengths::Uniform { .. } => UNIFORM_SLOT_BYTES,
        }
    }

    /// Where slot `i` is in the page.
    #[inline]
    pub(super) fn slot_at(self, i: usize) -> usize {
        HEADER_BYTES + self.slot_bytes() * i
    }

    /// What cells of inline values have in front.
    #[inline]
    pub(super) fn field_bytes(self) -> usize {
        match self {
            Lengths::InCells => VALUE_LENGTH_BYTES,
            Lengths::Same(_) | Lengths::Uniform { .. } => 0,
        }
    }

    /// Whether a value can be stored beside such a suffix without laying the page out anew.
    #[inline]
    pub(super) fn allow(self, suffix: usize, payload: &Payload<'_>) -> bool {
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
pub(super) fn stride(suffix: u16, value: u16) -> usize {
    usize::from(suffix).saturating_sub(HEAD_BYTES) + usize::from(value)
}
