//! Memory for what a thread reads and does not keep.

use std::cell::Cell;

thread_local! {
    /// Kept for the next time.
    static PIECE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends so many bytes, whatever is in them. (Zeroing them each time took a quarter as long as to read a page.)
pub(super) fn with_piece<T>(length: usize, use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut piece = PIECE.take();
    if piece.len() < length {
        piece.resize(length, 0);
    }
    let used = use_it(piece.get_mut(..length).unwrap_or_default());
    PIECE.set(piece);
    used
}
