//! Tasks that wait for the log, and how they are woken.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::format::Lsn;
use crate::sync::wake;

/// Tasks by the position up to which the log has to be durable for them.
#[derive(Debug, Default)]
pub(super) struct Waiting(BTreeMap<Lsn, Vec<Waker>>);

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A task that is polled again is there already, unless it has got another waker.
    pub(super) fn add(&mut self, lsn: Lsn, waker: &Waker) {
        let wakers = self.0.entry(lsn).or_default();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    pub(super) fn take_up_to(&mut self, lsn: Lsn) -> Woken {
        if self.0.is_empty() {
            return Woken::default();
        }
        let still = match lsn.checked_add(1) {
            Some(above) => self.0.split_off(&above),
            None => BTreeMap::new(),
        };
        let woken = std::mem::replace(&mut self.0, still);
        Woken(woken.into_values().flatten().collect())
    }
}

/// Tasks that are woken when it is dropped, which is when no lock is held (`log`, invariant 11).
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Woken(Vec<Waker>);

impl Woken {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over those of another.
    pub(super) fn append(&mut self, other: &mut Woken) {
        self.0.append(&mut other.0);
    }
}

impl Drop for Woken {
    fn drop(&mut self) {
        self.0.drain(..).for_each(wake);
    }
}
