//! Reading the pages of the space map.

use super::{SpaceTree, count_ones};
use crate::Result;
use crate::format::header::Header;
use crate::format::space::{self as layout, SpaceEntry};
use crate::format::{Fault, PageRef, page};
use crate::pager::Pager;

fn read_page(pager: &Pager, target: &PageRef, kind: u8, level: u8) -> Result<Vec<u8>> {
    let bytes = pager.read_target(target)?;
    let found = (page::kind(&bytes), page::level(&bytes));
    if found != (kind, level) {
        let pack = |(kind, level)| u64::from(kind) << 8 | u64::from(level);
        let fault = Fault::new(
            "a page of the space map has the wrong kind or level",
            page::KIND,
            pack((kind, level)),
            pack(found),
        );
        return Err(pager.corrupt(target.page, fault));
    }
    Ok(bytes.to_vec())
}

pub(super) fn read_bitmap(
    pager: &Pager,
    tree: &SpaceTree,
    index: usize,
    bits: u32,
) -> Result<Vec<u64>> {
    let entry = tree.levels.first().and_then(|level| level.get(index));
    let entry = entry.copied().unwrap_or_default();
    if entry.page.page == 0 && entry.used == 0 {
        return Ok(vec![0; bits as usize / 64]);
    }
    let bytes = read_page(pager, &entry.page, page::SPACE_BITMAP, 0)?;
    let words: Vec<u64> = layout::words(&bytes).collect();
    let used = count_ones(&words);
    if used != entry.used {
        let fault = Fault::new(
            "a bitmap of the space map has the wrong number of used pages",
            page::HEADER_BYTES,
            u64::from(entry.used),
            u64::from(used),
        );
        return Err(pager.corrupt(entry.page.page, fault));
    }
    Ok(words)
}

/// Reads the index from the root down to the entries of all bitmaps.
pub(super) fn read_index(pager: &Pager, header: &Header, bitmaps: usize) -> Result<SpaceTree> {
    let expected = layout::root_level(bitmaps, header.page_size);
    if header.space_level != expected {
        let fault = Fault::new(
            "the space map has the wrong depth",
            104,
            u64::from(expected),
            u64::from(header.space_level),
        );
        return Err(pager.corrupt(0, fault));
    }
    let fanout = layout::entries_per_page(header.page_size);
    let root = SpaceEntry {
        page: header.space,
        used: 0,
    };
    let mut levels = vec![vec![root]];
    for level in (1..=expected).rev() {
        let nodes = bitmaps.div_ceil(fanout.saturating_pow(u32::from(level) - 1));
        let mut below = Vec::with_capacity(nodes);
        for parent in levels.last().into_iter().flatten() {
            let bytes = read_page(pager, &parent.page, page::SPACE_INDEX, level)?;
            let wanted = fanout.min(nodes - below.len());
            let count = page::count(&bytes);
            if count != wanted {
                let fault = Fault::new(
                    "an index page of the space map has the wrong number of entries",
                    page::COUNT,
                    wanted as u64,
                    count as u64,
                );
                return Err(pager.corrupt(parent.page.page, fault));
            }
            below.extend((0..count).map(|index| layout::entry(&bytes, index)));
        }
        // What the header names is counted nowhere else; it is when the map becomes a level higher.
        if let ([.., last], true) = (&mut levels[..], level == expected) {
            let counts = below.iter().map(|entry: &SpaceEntry| entry.used);
            let used = counts.fold(0, u32::saturating_add);
            last.iter_mut().for_each(|root| root.used = used);
        }
        levels.push(below);
    }
    levels.reverse();
    Ok(SpaceTree { levels })
}
