//! Checking a page: what reading it relies on ([`validate`], invariant 8), and what is left of
//! invariant 4 ([`Node::check_cells`]).

use crate::format::page::{
    self, BRANCH, CELLS_START, COUNT, GARBAGE, HEADER_BYTES, KIND, LEAF, LENGTHS, LEVEL, PREFIX,
    SUFFIX, UNIFORM_LEAF,
};
use crate::format::{Fault, PageNumber, RunRef, Version, get_u16, get_u32};

use super::lengths::{Lengths, stride};
use super::slot::Slot;
use super::{HEAD_BYTES, Node, SLOT_BYTES, UNIFORM_VALUE_MIN, max_key_bytes};

const FIRST_PAGE: PageNumber = 2;

impl Node<'_> {
    /// Checks what [`validate`] leaves out because reading does not need it: that cells do not
    /// overlap, that the garbage is counted, that heads are padded with zeroes.
    pub(crate) fn check_cells(&self) -> Result<(), Fault> {
        let mut cells: Vec<(usize, usize)> = Vec::with_capacity(self.count());
        for i in 0..self.count() {
            let slot = self.slot(i);
            let length = self.cell_bytes(&slot);
            if length > 0 {
                cells.push((slot.offset, length));
            }
            let unused_bits = 8 * HEAD_BYTES.saturating_sub(slot.length) as u32;
            if slot.head & !u32::MAX.checked_shl(unused_bits).unwrap_or(0) != 0 {
                let at = self.slot_at(i);
                return Err(Fault::new(
                    "the head of a short key is not padded with zeroes",
                    at,
                    0,
                    u64::from(slot.head),
                ));
            }
        }
        cells.sort_unstable();
        let mut free_from = self.cells_start();
        let mut taken = 0;
        for (offset, length) in cells {
            if offset < free_from {
                return Err(Fault::new(
                    "two cells overlap",
                    offset,
                    free_from as u64,
                    offset as u64,
                ));
            }
            free_from = offset + length;
            taken += length;
        }
        let left_over = self.cells_end().saturating_sub(self.cells_start() + taken);
        if left_over != self.garbage() {
            return Err(Fault::new(
                "the garbage is not what the cells leave over",
                GARBAGE,
                left_over as u64,
                self.garbage() as u64,
            ));
        }
        Ok(())
    }
}

/// Checks that every offset and length lies inside the page, so that reading it is meaningful,
/// and that the cells fit the page together. `page` is the number that the page was found under. The order of the keys is
/// not checked here.
pub(crate) fn validate(bytes: &[u8], page: PageNumber) -> Result<(), Fault> {
    validate_within(bytes, page, Version::MAX, u64::MAX)
}

/// The same, and no long value is younger than `newest` or reaches past the first so many pages: to free one that does would
/// be to free whatever else is there.
pub(crate) fn validate_within(
    bytes: &[u8],
    page: PageNumber,
    newest: Version,
    pages: u64,
) -> Result<(), Fault> {
    let count = validate_header(bytes)?;
    let node = Node::new(bytes);
    if node.count() != count {
        return Err(Fault::new(
            "the slots reach past the page",
            COUNT,
            node.count() as u64,
            count as u64,
        ));
    }
    if let Lengths::Uniform { suffix, value } = node.lengths {
        return validate_uniform(&node, suffix, value);
    }
    let is_branch = node.is_branch();
    let (cells_start, cells_end) = (node.cells_start(), node.cells_end());
    let longest_key = max_key_bytes(bytes.len() as u32);
    let mut all_cells = 0;
    for (i, raw) in node.full_slots().iter().enumerate() {
        let slot = Slot::decode(*raw);
        all_cells += node.cell_bytes(&slot);
        let at = HEADER_BYTES + SLOT_BYTES * i;
        // Version 0.1 could leave a cell of no bytes there.
        if slot.offset < cells_start && node.cell_bytes(&slot) > 0 {
            return Err(Fault::new(
                "a cell lies before the cells",
                at + 4,
                cells_start as u64,
                slot.offset as u64,
            ));
        }
        if slot.offset + node.rest_offset(&slot) > cells_end
            || slot.offset + node.cell_bytes(&slot) > cells_end
        {
            return Err(Fault::new(
                "a cell reaches past the cells",
                at + 4,
                cells_end as u64,
                slot.offset as u64,
            ));
        }
        if node.prefix.len() + slot.length > longest_key {
            return Err(Fault::new(
                "a key is too long",
                at + 6,
                longest_key as u64,
                slot.length as u64,
            ));
        }
        if is_branch {
            validate_child(&node, i, &slot, page)?;
        } else if let Some(run) = node.run(i) {
            validate_run(&slot, &run, newest)?;
            validate_end(&slot, &run, bytes.len(), pages)?;
        }
    }
    // Else they would not fit when the page is laid out anew.
    let room = cells_end.saturating_sub(cells_start);
    if all_cells > room {
        let what = "the cells overlap";
        return Err(Fault::new(what, CELLS_START, room as u64, all_cells as u64));
    }
    Ok(())
}

fn validate_run(slot: &Slot, run: &RunRef, newest: Version) -> Result<(), Fault> {
    if run.first < FIRST_PAGE {
        return Err(Fault::new(
            "a run lies in the header",
            slot.offset,
            u64::from(FIRST_PAGE),
            u64::from(run.first),
        ));
    }
    if run.birth > newest {
        let what = "a long value is younger than the checkpoint that leads to it";
        return Err(Fault::new(what, slot.offset, newest, run.birth));
    }
    Ok(())
}

fn validate_end(slot: &Slot, run: &RunRef, page_bytes: usize, pages: u64) -> Result<(), Fault> {
    let end = u64::from(run.first) + u64::from(run.pages(page_bytes as u32));
    if end > pages {
        let what = "a long value reaches past the pages of the checkpoint that leads to it";
        return Err(Fault::new(what, slot.offset, pages, end));
    }
    Ok(())
}

/// The header of a uniform leaf says where every cell is.
fn validate_uniform(node: &Node<'_>, suffix: u16, value: u16) -> Result<(), Fault> {
    if usize::from(value) < UNIFORM_VALUE_MIN {
        return Err(Fault::new(
            "the values of a uniform leaf are too short",
            LENGTHS,
            UNIFORM_VALUE_MIN as u64 + 1,
            u64::from(get_u16(node.bytes, LENGTHS)),
        ));
    }
    let longest_key = max_key_bytes(node.bytes.len() as u32);
    if node.prefix.len() + usize::from(suffix) > longest_key {
        return Err(Fault::new(
            "the keys of a uniform leaf are too long",
            SUFFIX,
            longest_key as u64,
            u64::from(suffix),
        ));
    }
    let cells = node.count().saturating_mul(stride(suffix, value));
    let between = node.cells_end().saturating_sub(node.cells_start());
    if cells != between {
        return Err(Fault::new(
            "the cells of a uniform leaf do not fill their place",
            CELLS_START,
            node.cells_end().saturating_sub(cells) as u64,
            node.cells_start() as u64,
        ));
    }
    Ok(())
}

fn validate_header(bytes: &[u8]) -> Result<usize, Fault> {
    let size = bytes.len() as u64;
    if size < u64::from(page::MIN_PAGE_SIZE) || size > u64::from(page::MAX_PAGE_SIZE) {
        return Err(Fault::new(
            "a page has an impossible size",
            0,
            u64::from(page::MIN_PAGE_SIZE),
            size,
        ));
    }
    let (kind, level, count) = (page::kind(bytes), page::level(bytes), page::count(bytes));
    if kind != LEAF && kind != BRANCH && kind != UNIFORM_LEAF {
        return Err(Fault::new(
            "the page is not a tree node",
            KIND,
            u64::from(LEAF),
            u64::from(kind),
        ));
    }
    if (kind != BRANCH) != (level == 0) {
        return Err(Fault::new(
            "the level does not go with the kind of node",
            LEVEL,
            u64::from(kind == BRANCH),
            u64::from(level),
        ));
    }
    if kind == BRANCH && count == 0 {
        return Err(Fault::new("a branch has no children", COUNT, 1, 0));
    }
    let prefix = usize::from(get_u16(bytes, PREFIX));
    let longest = max_key_bytes(bytes.len() as u32);
    if prefix > longest {
        return Err(Fault::new(
            "the prefix is longer than a key",
            PREFIX,
            longest as u64,
            prefix as u64,
        ));
    }
    let slots_end = Lengths::of(bytes).slot_at(count);
    let cells_start = get_u32(bytes, CELLS_START) as usize;
    let cells_end = bytes.len() - prefix;
    if slots_end > cells_start || cells_start > cells_end {
        return Err(Fault::new(
            "the cells start outside of the page",
            CELLS_START,
            slots_end as u64,
            cells_start as u64,
        ));
    }
    let garbage = usize::from(get_u16(bytes, GARBAGE));
    if kind != UNIFORM_LEAF && garbage > cells_end - cells_start {
        return Err(Fault::new(
            "more garbage than cells",
            GARBAGE,
            (cells_end - cells_start) as u64,
            garbage as u64,
        ));
    }
    Ok(count)
}

fn validate_child(node: &Node<'_>, i: usize, slot: &Slot, page: PageNumber) -> Result<(), Fault> {
    let at = HEADER_BYTES + SLOT_BYTES * i;
    if slot.overflow {
        return Err(Fault::new(
            "a branch points to an overflow run",
            at + 6,
            0,
            1,
        ));
    }
    if i == 0 && slot.length != 0 {
        return Err(Fault::new(
            "the first child has a key",
            at + 6,
            0,
            slot.length as u64,
        ));
    }
    let child = node.child(i).page.page;
    if child < FIRST_PAGE || child == page {
        return Err(Fault::new(
            "a branch points to the header or to itself",
            slot.offset,
            u64::from(FIRST_PAGE),
            u64::from(child),
        ));
    }
    Ok(())
}
