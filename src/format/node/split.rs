//! Where entries are cut into pages, and the key that stands between two. A split into two pages always
//! works (invariant 6).

use super::layout::CHILD_BYTES;
use super::plan::{lengths_of, prefix_bytes};
use super::{Density, Item, Run, SLOT_BYTES, common_prefix, measure, usable_bytes};

/// How many of the entries go to the left page when one page is too small for them. `new` is the
/// index of the entry that made it so.
pub(crate) fn split_point(
    items: &[Item<'_>],
    new: usize,
    page_size: usize,
    is_branch: bool,
) -> usize {
    let prefix = prefix_bytes(items, is_branch);
    let bare = SLOT_BYTES + CHILD_BYTES;
    let lengths = lengths_of(items);
    let cost_of = |(i, item): (usize, &Item<'_>)| match is_branch && i == 0 {
        true => bare,
        false => item.cost(prefix, lengths),
    };
    let total: usize = items.iter().enumerate().map(cost_of).sum();
    let (mut left, mut best, mut best_size) = (0, 1, usize::MAX);
    for (i, item) in items.iter().enumerate() {
        let cost = cost_of((i, item));
        let dropped_key = if is_branch { cost - bare } else { 0 };
        let size = left.max(total - left - dropped_key);
        if i > 0 && size < best_size {
            (best, best_size) = (i, size);
        }
        left += cost;
    }
    if prefix + best_size <= usable_bytes(page_size) {
        return best;
    }
    // Only a key that does not share the page's prefix gets here, and it is the first or the last.
    let first = usize::from(is_branch);
    if new <= first {
        first + 1
    } else {
        items.len() - 1
    }
}

/// Like [`split_point`], for an entry in the middle of a leaf that goes on with a run of inserts: it
/// becomes the last of the left page, where the next ones can follow it, or the first of the right one,
/// where they can go before it.
pub(crate) fn run_split_point(
    items: &[Item<'_>],
    new: usize,
    page_size: usize,
    run: Run,
) -> Option<usize> {
    let at = match run {
        Run::Nowhere => return None,
        Run::Ascending => new + 1,
        Run::Descending => new,
    };
    let (low, high) = items.split_at_checked(at)?;
    let room = usable_bytes(page_size);
    let fits = |half: &[Item<'_>]| !half.is_empty() && measure(half, false, Density::Dense) <= room;
    (fits(low) && fits(high)).then_some(at)
}

/// How many of the entries fill a page up to `limit` bytes. A `guess` that is near saves most of the time,
/// which is about the same however many follow those.
pub(crate) fn fill_point(
    items: &[Item<'_>],
    limit: usize,
    is_branch: bool,
    density: Density,
    guess: usize,
) -> usize {
    let fits_in = |count| {
        let part = items.get(..count).unwrap_or_default();
        measure(part, is_branch, density) <= limit
    };
    let (mut fits, mut too_many) = (0, items.len() + 1);
    // From the guess on in ever longer steps, until the point lies between two of them.
    let (mut next, mut step) = (guess, 1);
    while fits + 1 < too_many {
        let count = next.clamp(fits + 1, too_many - 1);
        match fits_in(count) {
            true => fits = count,
            false => too_many = count,
        }
        next = if fits == 0 {
            too_many.saturating_sub(step)
        } else if too_many > items.len() {
            fits + step
        } else {
            fits + (too_many - fits) / 2
        };
        step *= 2;
    }
    fits
}

/// The shortest string `s` with `left < s <= right`; wants `left < right`.
pub(crate) fn shortest_separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    let length = common_prefix(left, right) + 1;
    right.get(..length).unwrap_or(right).to_vec()
}
