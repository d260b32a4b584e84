//! Pins: as long as there is one, no frame is freed that somebody may have found in a cell.
//!
//! # Invariants
//!
//! 1. All pins are of one collector, which nothing but this crate uses. The one that `crossbeam_epoch` has ready is shared by
//!    the whole process: a pin that some other part of the program keeps would keep all memory that leaves the cells
//!    meanwhile, and a commit would run, under the engine's locks, what others have put off, which may wait for these locks.
//! 2. What is put off here gives memory back, and does nothing else.
#![allow(unsafe_code)] // passes on what the crate asks of who puts something off

use std::sync::LazyLock;

use crossbeam_epoch::{Collector, Guard, LocalHandle};

static COLLECTOR: LazyLock<Collector> = LazyLock::new(Collector::new);

thread_local! {
    static HANDLE: LocalHandle = COLLECTOR.register();
}

/// See the module. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Pin(Guard);

#[inline]
pub(crate) fn pin() -> Pin {
    let pinned = HANDLE.try_with(LocalHandle::pin);
    // A thread that ends has no handle any more.
    Pin(pinned.unwrap_or_else(|_| COLLECTOR.register().pin()))
}

/// So many things the collector does at most each time that it is asked.
const AT_A_TIME: usize = 8 * 64;
/// So often it is asked before what was put off under a pin that has just ended can be done.
const ASKED_BEFORE: usize = 4;

/// Does what was put off, if it is about so many things and no pin stands in the way. (Asked under the pin that they were put
/// off under, the collector can do none of them, and afterwards only some with each of a hundred pins.)
pub(super) fn see_to_all(things: usize) {
    for _ in 0..things / AT_A_TIME + ASKED_BEFORE {
        pin().see_to();
    }
}

impl Pin {
    /// As if it had ended and begun anew, if the thread has no other.
    #[inline]
    pub(crate) fn renew(&mut self) {
        self.0.repin();
    }

    /// Does something once all pins of this moment have ended, on whatever thread.
    ///
    /// # Safety
    /// It may be done on another thread, and when whatever it borrows is gone.
    pub(super) unsafe fn put_off(&self, work: impl FnOnce()) {
        // SAFETY: the same is asked of the caller.
        unsafe { self.0.defer_unchecked(work) };
    }

    /// Does what was put off, as far as its pins have ended.
    pub(super) fn see_to(&self) {
        self.0.flush();
    }
}
