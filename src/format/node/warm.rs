//! Asking for the lines of a page before they are read.

use crate::prefetch::prefetch;

use super::Node;

/// So many cache lines of a cell are asked for at once: small documents are whole in them.
const CELL_LINES: usize = 4;

/// Asks for the lines of a page that a search is about to read, all at once: without this the
/// first one, which tells the number of slots, would have to arrive before the others are asked
/// for.
#[inline]
pub(crate) fn warm(bytes: &[u8]) {
    for line in searched_lines(bytes.len()) {
        prefetch(bytes, line);
    }
}

/// Where the lines are that a search in a page looks at first. The last one holds the prefix.
#[inline]
pub(crate) fn searched_lines(page_bytes: usize) -> [usize; 5] {
    [0, 64, 128, 192, page_bytes.wrapping_sub(1)]
}

/// Asks for all of a page that a scan comes to next.
pub(crate) fn warm_all(bytes: &[u8]) {
    for line in (0..bytes.len()).step_by(64) {
        prefetch(bytes, line);
    }
}

impl Node<'_> {
    /// Asks for the cell in slot `i`.
    #[inline]
    pub(crate) fn warm_cell(&self, i: usize) {
        let slot = self.slot(i);
        for line in 0..CELL_LINES {
            prefetch(self.bytes, slot.offset + line * 64);
        }
    }

    /// Asks for the cell of a child.
    #[inline]
    pub(crate) fn warm_child(&self, i: usize) {
        prefetch(self.bytes, self.slot(i).offset);
    }
}
