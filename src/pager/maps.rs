//! Maps of the file: one that reaches far enough, made when it is asked for.
//!
//! # Invariants
//!
//! 1. Maps are only added. An older one stays until the pager goes, so no reader can lose its bytes; they double in
//!    size, so all of them together are less than twice the largest.
//! 2. A storage without maps, or an error, is no map: pages are read with calls then.
//! 3. Nothing is mapped where addresses are few, so that they do not run out for whatever else the program has in
//!    memory, nor where a file cannot be cut while it is mapped.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::Pager;
use crate::format::PageNumber;
use crate::storage::{Map, Storage};

/// The smallest map: small files need one only.
const SMALLEST_LOG2: u32 = 24;
const MAPS: usize = 64 - SMALLEST_LOG2 as usize;

/// Invariant 3: on 64 bits, and not on Windows.
pub(super) const CAN_MAP: bool = cfg!(all(unix, target_pointer_width = "64"));

/// Maps that the system has the same advice for.
#[derive(Debug)]
pub(super) struct Maps {
    maps: [OnceLock<Option<Arc<Map>>>; MAPS],
    /// Index of the newest one, plus one.
    newest: AtomicUsize,
    advise: fn(&Map) -> io::Result<()>,
}

impl Maps {
    pub(super) fn new(advise: fn(&Map) -> io::Result<()>) -> Self {
        Maps {
            maps: [const { OnceLock::new() }; MAPS],
            newest: AtomicUsize::new(0),
            advise,
        }
    }

    #[inline]
    fn newest(&self) -> Option<&Map> {
        let index = self.newest.load(Ordering::Acquire).checked_sub(1)?;
        self.maps.get(index)?.get()?.as_deref()
    }

    /// A map that reaches as far, if there can be one.
    pub(super) fn reaching(&self, storage: &dyn Storage, end: u64) -> Option<&Map> {
        if !CAN_MAP {
            return None;
        }
        let log2 = end.checked_next_power_of_two()?.ilog2().max(SMALLEST_LOG2);
        let index = (log2 - SMALLEST_LOG2) as usize;
        let map = self.maps.get(index)?.get_or_init(|| {
            let map = storage.map(1 << log2).ok().flatten()?;
            let _ = (self.advise)(&map); // a matter of speed
            Some(map)
        });
        let map = map.as_deref()?;
        self.newest.fetch_max(index + 1, Ordering::AcqRel);
        Some(map)
    }
}

impl Pager {
    /// A slice of the newest map, if the storage maps and the file reaches that far (invariant 4 of the pager).
    #[inline]
    pub(super) fn mapped(&self, first: PageNumber, length: usize) -> Option<&[u8]> {
        let offset = self.offset(first);
        let end = offset + length as u64;
        if end > u64::from(self.file_pages()) * u64::from(self.page_size) {
            return None;
        }
        let bytes = self.newest_map().and_then(|map| map.bytes(offset, length));
        if bytes.is_some() {
            return bytes;
        }
        self.map_more(offset, length)
    }

    #[inline]
    pub(super) fn newest_map(&self) -> Option<&Map> {
        self.maps.newest()
    }

    #[cold]
    fn map_more(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let end = offset.checked_add(length as u64)?;
        let map = self.maps.reaching(self.storage(), end)?;
        map.bytes(offset, length)
    }
}
