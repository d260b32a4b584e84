//! Events for the program's `tracing`, told where nothing of the database is held.
//!
//! Whoever receives them is code of the program's own: it may be slow, panic, or use the very database that tells.
//!
//! # Invariants
//!
//! 1. An event is told by a thread that holds no lock of the engine, and no turn to write but one that the program itself
//!    holds. What happens under a lock is kept until the outermost [`Held`] of the thread goes, and a lock is
//!    taken after a `Held` that is there for it.
//! 2. What happens in a transaction is told when its turn has been given back ([`Turn`](crate::txn::turn::Turn)).
//! 3. The thread that makes checkpoints tells when nobody can wait for it (`txn::engine`, invariant 6).
//! 4. A receiver that panics ends nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Sends one event, with what it needs for that.
type Event = Box<dyn FnOnce() + Send + Sync>;

/// Events that are told later.
#[derive(Default)]
pub(crate) struct Events(Vec<Event>);

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events", self.0.len())
    }
}

impl Events {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, event: impl FnOnce() + Send + Sync + 'static) {
        self.0.push(Box::new(event));
    }

    pub(crate) fn append(&mut self, mut later: Events) {
        self.0.append(&mut later.0);
    }

    pub(crate) fn tell(self) {
        self.0.into_iter().for_each(tell_boxed);
    }
}

thread_local! {
    /// How many `Held` the thread has.
    static HELD: Cell<u32> = const { Cell::new(0) };
    static KEPT: RefCell<VecDeque<Event>> = const { RefCell::new(VecDeque::new()) };
}

/// As long as it is there, events of this thread are kept.
#[must_use = "events are told when it goes"]
pub(crate) struct Held {
    /// It belongs to its thread.
    _here: PhantomData<*const ()>,
}

/// Keeps events until this goes. Taken before locks, so that it goes after them.
pub(crate) fn hold() -> Held {
    HELD.set(HELD.get().saturating_add(1));
    Held { _here: PhantomData }
}

impl Drop for Held {
    fn drop(&mut self) {
        let others = HELD.get().saturating_sub(1);
        HELD.set(others);
        if others == 0 {
            tell_kept();
        }
    }
}

/// Tells an event, or keeps it while the thread has a `Held`.
pub(crate) fn tell(event: impl FnOnce() + Send + Sync + 'static) {
    tell_boxed(Box::new(event));
}

fn tell_boxed(event: Event) {
    // Under the scheduler all tasks are on one thread, and nobody receives events.
    if HELD.get() == 0 || cfg!(shuttle) {
        return send(event);
    }
    let mut event = Some(event);
    // A thread that is ending has no place for it any more.
    let _ = KEPT.try_with(|kept| kept.borrow_mut().extend(event.take()));
}

/// Whether events wait for the last `Held` of the thread to go.
pub(crate) fn are_kept() -> bool {
    KEPT.try_with(|kept| !kept.borrow().is_empty())
        .unwrap_or(false)
}

/// Does something, and gives what there is to tell of it to the caller.
pub(crate) fn collected(run: impl FnOnce()) -> Events {
    let _held = hold();
    let before = KEPT.try_with(|kept| kept.borrow().len()).unwrap_or(0);
    run();
    let own = KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        let from = before.min(kept.len());
        kept.split_off(from)
    });
    Events(own.map(Vec::from).unwrap_or_default())
}

fn tell_kept() {
    // One at a time: who receives it may use the database, and so come back here.
    while let Ok(Some(event)) = KEPT.try_with(|kept| kept.borrow_mut().pop_front()) {
        send(event);
    }
}

/// Invariant 4.
fn send(event: Event) {
    let _ = catch_unwind(AssertUnwindSafe(event));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static TOLD: AtomicU32 = AtomicU32::new(0);

    fn note(number: u32) -> impl FnOnce() + Send + Sync {
        move || {
            TOLD.fetch_add(number, Ordering::SeqCst);
        }
    }

    #[test]
    fn events_wait_for_the_outermost_and_panic_for_nobody() {
        let told = || TOLD.load(Ordering::SeqCst);
        tell(note(1));
        assert_eq!(told(), 1);
        let outer = hold();
        let inner = hold();
        tell(|| panic!("a receiver that panics"));
        tell(|| {
            // Who receives an event may come back.
            let _held = hold();
            tell(note(100));
        });
        tell(note(10));
        drop(inner);
        assert!(are_kept() && told() == 1);
        drop(outer);
        assert!(!are_kept());
        assert_eq!(told(), 111);
    }
}
