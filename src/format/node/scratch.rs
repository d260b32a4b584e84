//! Memory for the time of a rebuild, kept for the next one.

/// A copy of a page for the time of a rebuild. Its memory is kept for the next one: allocating and
/// freeing a page at a time makes some allocators hand it back to the system each time.
pub(crate) struct Scratch(Vec<u8>);

thread_local! {
    static SPARE: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}

impl Scratch {
    pub(crate) fn copy(bytes: &[u8]) -> Self {
        let mut spare = SPARE.take();
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
        SPARE.set(std::mem::take(&mut self.0));
    }
}

/// Room for two keys, kept for the next use as the memory of [`Scratch`] is.
pub(super) struct KeyPair {
    pub(super) one: Vec<u8>,
    pub(super) other: Vec<u8>,
}

thread_local! {
    static SPARE_KEYS: std::cell::Cell<(Vec<u8>, Vec<u8>)> =
        const { std::cell::Cell::new((Vec::new(), Vec::new())) };
}

impl KeyPair {
    pub(super) fn take() -> Self {
        let (one, other) = SPARE_KEYS.take();
        KeyPair { one, other }
    }
}

impl Drop for KeyPair {
    fn drop(&mut self) {
        SPARE_KEYS.set((
            std::mem::take(&mut self.one),
            std::mem::take(&mut self.other),
        ));
    }
}
