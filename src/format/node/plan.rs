//! Planning a page: its prefix (invariant 3), whether it is a uniform leaf (invariants 6 and 7), and what
//! it uses then.

use super::layout::CHILD_BYTES;
use super::lengths::Lengths;
use super::scratch::KeyPair;
use super::{HEAD_BYTES, Item, Node, SLOT_BYTES, usable_bytes};

/// What a page is laid out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Density {
    /// More entries are expected between these: a uniform leaf only if they fit no other way.
    Roomy,
    /// It is to stay as it is, or to be appended to: a uniform leaf if it can be one.
    Dense,
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

pub(super) fn prefix_bytes(items: &[Item<'_>], is_branch: bool) -> usize {
    prefix_of(items, is_branch, &mut KeyPair::take()).len()
}

/// How a page with these entries says how long their values are, if it is not uniform.
pub(super) fn lengths_of(items: &[Item<'_>]) -> Lengths {
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

/// How a page with some entries is to be laid out.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) prefix: usize,
    pub(super) lengths: Lengths,
    /// The length of every key, where all entries are alike.
    key: Option<usize>,
}

impl Plan {
    /// With slots that say all there is to say, where the next entry finds its place soon.
    pub(super) fn loose(items: &[Item<'_>], is_branch: bool) -> Self {
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
    pub(super) fn dense(items: &[Item<'_>], is_branch: bool) -> Self {
        let loose = Plan::loose(items, is_branch);
        loose.as_uniform().unwrap_or(loose)
    }

    /// Loose if a page has room for that.
    pub(super) fn fitting(items: &[Item<'_>], is_branch: bool, page_size: usize) -> Self {
        let loose = Plan::loose(items, is_branch);
        match loose.as_uniform() {
            Some(uniform) if loose.bytes(items, is_branch) > usable_bytes(page_size) => uniform,
            _ => loose,
        }
    }

    /// What the page uses, without the header.
    pub(super) fn bytes(&self, items: &[Item<'_>], is_branch: bool) -> usize {
        let unkeyed = usize::from(is_branch) * (SLOT_BYTES + CHILD_BYTES);
        let keyed = items.get(usize::from(is_branch)..).unwrap_or_default();
        let cost = |item: &Item<'_>| item.cost(self.prefix, self.lengths);
        let costs = match (self.key, keyed.first()) {
            (Some(_), Some(first)) => keyed.len() * cost(first),
            _ => keyed.iter().map(cost).sum(),
        };
        self.prefix + unkeyed + costs
    }

    pub(super) fn is_uniform(&self) -> bool {
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

/// How many leading bytes the two have in common.
#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
