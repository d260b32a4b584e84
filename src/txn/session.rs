//! A session: what happens to the file from a handle's first write to its close.
//!
//! An open makes durable what recovery decided, and marks that a session has begun, before anything else is written
//! (`recovery`, invariant 1). Where the last session was closed cleanly nothing had to be decided. There all this is left
//! to the first write: who only reads leaves the file as it was, and needs no threads. (To open a file of 1 MB, read a key and close it
//! took 790 to 850 µs, three writes that wait for the device and four threads; without them it takes 65 to 75.)
//!
//! # Invariants
//!
//! 1. [`Engine::begin_session`] has returned `Ok` before anything else is written to the file: all that is written comes of a
//!    change within a transaction or of a checkpoint, which call it. (A compaction begins with a checkpoint.)
//! 2. A session that has ended does not begin any more, and one that did not begin ends without a write.
//! 3. A failure to write is a failed sync: nothing is written from then on. What else keeps it from beginning (a thread that does
//!    not start) is the error of each call that wants to write, which tries again what is left to do.
//! 4. Who awaits a transaction has a session begun by another thread, before it queues up: to begin waits for the disk.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::checkpoint::write_slot;
use super::engine::Engine;
use crate::format::header::SLOT_BYTES;
use crate::sync::Mutex;
use crate::{Error, Result};

/// Whether the session of an engine has begun, and what is to be done when it does.
#[derive(Debug, Default)]
pub(crate) struct Session {
    has_begun: AtomicBool,
    beginning: Mutex<Beginning>,
}

/// What is left to do.
#[derive(Default)]
struct Beginning {
    /// The number of the durable checkpoint, and the slot that the open chose, as it was read: to be written again
    /// (`recovery`, invariant 2), and then a mark.
    slot: Option<(u64, [u8; SLOT_BYTES])>,
    services: Vec<Service>,
    has_ended: bool,
}

impl fmt::Debug for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beginning").finish_non_exhaustive()
    }
}

/// A thread of the database.
struct Service {
    name: &'static str,
    run: Arc<dyn Fn() + Send + Sync>,
}

impl Engine {
    /// Leaves the slot, and the mark that a session has begun, to the first write. For an open that found nothing else to
    /// write.
    pub(super) fn leave_to_first_write(&self, checkpoint: u64, slot: [u8; SLOT_BYTES]) {
        self.session.beginning.lock().slot = Some((checkpoint, slot));
    }

    /// Whether an open has left anything to the first write but the threads.
    pub(super) fn is_left_to_first_write(&self) -> bool {
        self.session.beginning.lock().slot.is_some()
    }

    /// Starts a thread when the session begins, or now if it has begun. It is waited for when the database is closed.
    pub(crate) fn serve(
        &self,
        name: &'static str,
        run: impl Fn() + Send + Sync + 'static,
    ) -> Result<()> {
        let mut beginning = self.session.beginning.lock();
        let run = Arc::new(run);
        beginning.services.push(Service { name, run });
        match self.has_session() {
            true => self.start_services(&mut beginning),
            false => Ok(()),
        }
    }

    /// Whether anything was, or may have been, written to the file since it was opened.
    pub(crate) fn has_session(&self) -> bool {
        self.session.has_begun.load(Ordering::Acquire)
    }

    /// Before anything is written (invariant 1).
    #[inline]
    pub(crate) fn begin_session(&self) -> Result<()> {
        match self.has_session() {
            true => Ok(()),
            false => self.begin_session_now(),
        }
    }

    #[cold]
    fn begin_session_now(&self) -> Result<()> {
        let mut beginning = self.session.beginning.lock();
        if beginning.has_ended {
            return Err(Error::Closed);
        }
        if let Some((checkpoint, slot)) = beginning.slot {
            let written = write_slot(&self.pager, checkpoint, &slot);
            let marked = written.and_then(|()| self.log.write_mark(0, true));
            marked.inspect_err(|error| self.log.poison(error))?;
            beginning.slot = None;
        }
        self.start_services(&mut beginning)?;
        self.session.has_begun.store(true, Ordering::Release);
        Ok(())
    }

    fn start_services(&self, beginning: &mut Beginning) -> Result<()> {
        while let Some(service) = beginning.services.last() {
            let run = service.run.clone();
            self.spawn(service.name, move || run())?;
            beginning.services.pop();
        }
        Ok(())
    }

    /// It does not begin any more (invariant 2). Says whether it had.
    pub(super) fn end_session(&self) -> bool {
        let mut beginning = self.session.beginning.lock();
        beginning.has_ended = true;
        let services = std::mem::take(&mut beginning.services);
        drop(beginning);
        // They hold the engine.
        drop(services);
        self.has_session()
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use crate::Aurora;
    use crate::storage::SimDisk;

    /// As for a checkpoint that had found the database open just before it was closed.
    #[test]
    fn a_session_does_not_begin_when_it_has_ended() {
        let builder = || Aurora::builder().background(false);
        let disk = SimDisk::new(1);
        builder()
            .open_storage(disk.storage())
            .unwrap()
            .close()
            .unwrap();
        let before = disk.image();
        let db = builder().open_storage(disk.storage()).unwrap();
        let engine = db.handle.engine.clone();
        assert!(!engine.end_session());
        assert!(engine.begin_session().is_err());
        assert!(!engine.has_session());
        assert!(disk.image() == before);
    }
}
