//! Pins: as long as there is one, no frame is freed that somebody may have found in a cell.
//!
//! # Invariants
//!
//! 1. All pins are of one collector, which nothing but this crate uses. The one that `crossbeam_epoch` has ready is shared by
//!    the whole process: a pin that some other part of the program keeps would keep all memory that leaves the cells
//!    meanwhile, and a commit would run, under the engine's locks, what others have put off, which may wait for these locks.
//! 2. What is put off here gives memory back, and does nothing else.
//! 3. A child that `fork` makes has another collector: a pin of a thread that is not there would keep all memory of all
//!    databases that the child opens.
#![allow(unsafe_code)] // passes on what the crate asks of who puts something off; a handle that changes in a fork alone

use std::cell::{Cell, UnsafeCell};
use std::ptr::null_mut;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use crossbeam_epoch::{Collector, Guard, LocalHandle};

static FIRST: LazyLock<Collector> = LazyLock::new(Collector::new);

/// In its place in a child of a fork; never freed.
static OWN: AtomicPtr<Collector> = AtomicPtr::new(null_mut());

fn collector() -> &'static Collector {
    // SAFETY: what was stored there is never freed.
    let own = unsafe { OWN.load(Ordering::Acquire).as_ref() };
    own.unwrap_or_else(|| &FIRST)
}

/// Changed by [`use_spare`] alone.
struct Own(UnsafeCell<LocalHandle>);

thread_local! {
    static HANDLE: Own = Own(UnsafeCell::new(collector().register()));
    /// For a child of this thread, which should not need memory before it runs.
    static SPARE: Cell<Option<(LocalHandle, Box<Collector>)>> = const { Cell::new(None) };
}

/// See the module. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Pin(Guard);

#[inline]
pub(crate) fn pin() -> Pin {
    // SAFETY: it is changed in no call but that of `use_spare`, which is not made within this one.
    let pinned = HANDLE.try_with(|own| unsafe { &*own.0.get() }.pin());
    // A thread that ends has no handle any more.
    Pin(pinned.unwrap_or_else(|_| collector().register().pin()))
}

/// Before a fork: the child may need what [`use_spare`] takes.
pub(super) fn make_spare() {
    let _ = HANDLE.try_with(|_| ()); // so that there is one to put another in the place of
    let _ = SPARE.try_with(|spare| {
        let made = spare.take().unwrap_or_else(|| {
            let collector = Box::new(Collector::new());
            (collector.register(), collector)
        });
        spare.set(Some(made));
    });
}

/// In the child of a fork, whose only thread this is: invariant 3. (Pins that this thread has are of the old collector, and
/// end there.)
pub(super) fn use_spare() {
    let Ok(Some((handle, collector))) = SPARE.try_with(Cell::take) else {
        return;
    };
    OWN.store(Box::into_raw(collector), Ordering::Release);
    // SAFETY: nobody borrows from it: `pin` does for the time of its call alone, in which nothing forks.
    let replace = |own: &Own| unsafe { std::mem::replace(&mut *own.0.get(), handle) };
    if let Ok(old) = HANDLE.try_with(replace) {
        std::mem::forget(old); // its collector is left as it is
    }
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
