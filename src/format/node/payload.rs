//! What a slot leads to: a value in the leaf, an overflow run, or a child.

use std::ops::Range;

use crate::format::{PageRef, RunRef};

use super::HEAD_BYTES;
use super::layout::CHILD_BYTES;
use super::lengths::Lengths;

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
    pub(super) fn own_bytes(&self) -> usize {
        match self {
            Payload::Inline(value) => value.len(),
            Payload::Run(_) => RunRef::ENCODED_BYTES,
            Payload::Child(_) => CHILD_BYTES,
        }
    }

    /// The bytes of the cell in a page of such `lengths`.
    #[inline]
    pub(super) fn cell_bytes(&self, suffix_bytes: usize, lengths: Lengths) -> usize {
        let length_bytes = match self {
            Payload::Inline(_) => lengths.field_bytes(),
            Payload::Run(_) | Payload::Child(_) => 0,
        };
        length_bytes + self.own_bytes() + suffix_bytes.saturating_sub(HEAD_BYTES)
    }

    pub(super) fn inline_bytes(&self) -> Option<usize> {
        match self {
            Payload::Inline(value) => Some(value.len()),
            Payload::Run(_) | Payload::Child(_) => None,
        }
    }
}
