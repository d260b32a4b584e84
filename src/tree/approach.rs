//! Having the device read what leads to several places, of several trees, together.
//!
//! Who changes one entry in each of some trees waits for the device once for each page on each of the ways, one after the
//! other, where nothing is in memory. Here a step down is taken on all ways before the next one is taken on any, and
//! before each the device is asked for all its pages.
//!
//! # Invariants
//!
//! 1. Nothing but speed depends on it, and it changes nothing.
//! 2. A way has as many steps as its root has levels, whatever the bytes.

use crate::Result;
use crate::format::{PageRef, TreeRoot};

use super::branch_at;
use super::pages::ReadPages;

/// So many ways are taken at once at the most; those behind them are left out.
const MOST_WAYS: usize = 32;

/// How far one way is.
struct Way<'k> {
    page: PageRef,
    level: u8,
    key: &'k [u8],
}

/// Asks for the leaves in which these keys of trees belong, and reads what is above them. Says whether any of all that was
/// in no frame.
pub(crate) fn approach<'k, P: ReadPages>(
    pages: &P,
    places: impl Iterator<Item = (TreeRoot, &'k [u8])>,
) -> Result<bool> {
    let trees = places.filter(|(root, _)| !root.is_empty());
    let mut ways: Vec<Way<'k>> = trees
        .take(MOST_WAYS)
        .map(|(root, key)| Way {
            page: root.root,
            level: root.level,
            key,
        })
        .collect();
    let mut was_far = false;
    loop {
        was_far |= ways.iter().any(|way| pages.is_far(way.page.page));
        pages.fetch(ways.iter().map(|way| way.page.page));
        let mut has_moved = false;
        for way in ways.iter_mut().filter(|way| way.level > 0) {
            let (page, level) = (way.page, way.level);
            way.page = pages.look(&page, |bytes| {
                let node = branch_at(bytes, page.page, level)?;
                Result::Ok(node.child(node.child_index(way.key)).page)
            })??;
            way.level -= 1;
            has_moved = true;
        }
        if !has_moved {
            return Ok(was_far);
        }
    }
}
