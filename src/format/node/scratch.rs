//! Memory for the time of a rebuild, kept for the next one.

use std::cell::Cell;

/// A copy of a page for the time of a rebuild. Its memory is kept for the next one: allocating and
/// freeing a page at a time makes some allocators hand it back to the system each time.
pub(crate) struct Scratch(Vec<u8>);

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Scratch {
    pub(crate) fn copy(bytes: &[u8]) -> Self {
        // While a thread ends there is none: then it is memory like any other.
        let mut spare = SPARE.try_with(Cell::take).unwrap_or_default();
        spare.clear();
        spare.extend_from_slice(bytes);
        Scratch(spare)
    }
}

impl std::ops::Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let spare = std::mem::take(&mut self.0);
        let _ = SPARE.try_with(|place| place.set(spare));
    }
}

/// Room for two keys, kept for the next use as the memory of [`Scratch`] is.
pub(super) struct KeyPair {
    pub(super) one: Vec<u8>,
    pub(super) other: Vec<u8>,
}

thread_local! {
    static SPARE_KEYS: Cell<(Vec<u8>, Vec<u8>)> =
        const { Cell::new((Vec::new(), Vec::new())) };
}

impl KeyPair {
    pub(super) fn take() -> Self {
        let (one, other) = SPARE_KEYS.try_with(Cell::take).unwrap_or_default();
        KeyPair { one, other }
    }
}

impl Drop for KeyPair {
    fn drop(&mut self) {
        let spare = (
            std::mem::take(&mut self.one),
            std::mem::take(&mut self.other),
        );
        let _ = SPARE_KEYS.try_with(|place| place.set(spare));
    }
}
