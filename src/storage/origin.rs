//! Telling a child that `fork` made from the process that opened the file.
//!
//! # Invariants
//!
//! 1. Whoever asks in the process that took the mark hears that it is there; whoever asks in a child of it, that it is
//!    not. (Children that were not made by the C library's `fork` are told by their process id alone.)
#![allow(unsafe_code)] // the system's call has no safe form in a crate that is here anyway

/// The process in which something was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    process: u32,
    /// What [`forks`] said. `None` where only the process id tells.
    forks: Option<u64>,
}

impl Origin {
    /// This process.
    pub(crate) fn here() -> Self {
        Origin {
            process: std::process::id(),
            forks: forks(),
        }
    }

    /// The id of the process.
    pub(crate) fn process(self) -> u32 {
        self.process
    }

    /// Whether this is that process. Where the system tells of a fork it takes a nanosecond: it is asked for each read.
    pub(crate) fn is_here(self) -> bool {
        match self.forks {
            Some(_) => forks() == self.forks,
            None => self.has_same_id(),
        }
    }

    /// The same, also for a child that was made by other means than `fork`. It takes a call of the system.
    pub(crate) fn has_same_id(self) -> bool {
        std::process::id() == self.process
    }
}

/// How many forks lie between this process and the first one that asked. `None` if nobody counts them.
#[cfg(target_os = "linux")]
fn forks() -> Option<u64> {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static FORKS: AtomicU64 = AtomicU64::new(0);
    static IS_COUNTED: OnceLock<bool> = OnceLock::new();

    extern "C" fn count() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    let is_counted = IS_COUNTED.get_or_init(|| {
        // SAFETY: `count` may run in a child at any moment: it takes no lock and no memory, only adds to a number.
        unsafe { libc::pthread_atfork(None, None, Some(count)) == 0 }
    });
    is_counted.then(|| FORKS.load(Ordering::Relaxed))
}

#[cfg(not(target_os = "linux"))]
fn forks() -> Option<u64> {
    None
}

/// Has these called around each `fork` from now on, by the thread that forks: before it, and after it in the parent and in
/// the child. Where forks are not told of, nothing is called.
#[cfg(target_os = "linux")]
pub(crate) fn at_fork(
    before: extern "C" fn(),
    in_parent: extern "C" fn(),
    in_child: extern "C" fn(),
) {
    // SAFETY: they can be called at any time by any thread, as all functions that are safe. (If there is no memory for the
    // list of them, children are as they would be without.)
    unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn at_fork(_: extern "C" fn(), _: extern "C" fn(), _: extern "C" fn()) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        let origin = Origin::here();
        assert!(origin.is_here() && origin.has_same_id());
        assert_eq!(origin.process(), std::process::id());
        let other = Origin {
            process: 0,
            forks: origin.forks.map(|forks| forks + 1),
        };
        assert!(!other.is_here() && !other.has_same_id());
    }
}
