//! An entry of a page that is to be laid out, and what it costs there.

use crate::prefetch::prefetch;

use super::lengths::Lengths;
use super::{HEAD_BYTES, Node, Payload};

/// One entry of a page that is to be laid out: from a slot of an old page, or a new one.
#[derive(Clone, Copy)]
pub(crate) enum Item<'a> {
    Kept(Node<'a>, usize),
    New(&'a [u8], Payload<'a>),
}

impl<'a> Item<'a> {
    /// The lengths of its key and its value, if that is in the leaf.
    #[inline]
    pub(super) fn inline_lengths(&self) -> Option<(usize, usize)> {
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
    pub(super) fn inline_bytes(&self) -> Option<usize> {
        Some(self.inline_lengths()?.1)
    }

    /// The slot and the cell, beside a prefix of `prefix` bytes, in a page of such `lengths`.
    #[inline]
    pub(super) fn cost(&self, prefix: usize, lengths: Lengths) -> usize {
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
