//! Descriptors of one file that syncs go through.
//!
//! The kernel tells the failure of a write once for each open file description, to whoever syncs next
//! through it. Two threads that sync through the same one can therefore both have lost bytes, and only
//! one of them is told: a commit could be acknowledged although a checkpoint's sync had failed on its
//! bytes.
//!
//! Pages and the records of lone commits are written through a descriptor that is none of these, and synced
//! through one of them: an error is kept with the file, and told once to each. What the system says when it is
//! asked to begin with a write is told nowhere else, so it counts as a failed sync.
//!
//! # Invariants
//!
//! 1. At most one thread at a time syncs through a descriptor, and all of them were opened before
//!    anything was written.
//! 2. After a sync has failed, all later ones do.
//! 3. Every descriptor is of the same file as the first: they are compared by device and inode, so a
//!    rename in between cannot split them.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use crate::locks::{Mutex, MutexGuard};

/// One for the log, one for a checkpoint, and one for whoever else comes.
const STREAMS: usize = 3;

/// Ways to sync one file.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Empty where there can be no others than the file's own.
    descriptors: Vec<Mutex<File>>,
    /// They were opened so that a write returns once its own bytes are durable, and the file system heeds that.
    /// Elsewhere a write and a sync of the whole file do the same, slower.
    are_synced: bool,
    /// Instead of descriptors.
    fallback: Mutex<()>,
    failure: OnceLock<io::Error>,
}

impl Streams {
    pub(super) fn open(file: &File, path: &Path) -> Self {
        let flag = super::file::synced_flag(file);
        let opened = (0..STREAMS).map_while(|_| super::file::open_again(file, path, flag));
        Streams {
            descriptors: opened.map(Mutex::new).collect(),
            are_synced: flag.is_some(),
            ..Streams::default()
        }
    }

    /// Whether there are descriptors that sync with each write.
    pub(super) fn are_synced(&self) -> bool {
        self.are_synced && !self.descriptors.is_empty()
    }

    /// Syncs all that was written to the file.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        match self.free_one() {
            Some(stream) => self.guarded(|| stream.sync_data()),
            None => {
                let _alone = self.fallback.lock();
                self.guarded(|| file.sync_data())
            }
        }
    }

    /// Writes bytes and syncs them. `write` writes them to the file that it is given.
    pub(super) fn write_sync(
        &self,
        file: &File,
        write: impl Fn(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.free_one() {
            Some(stream) if self.are_synced => self.guarded(|| write(&stream)),
            Some(stream) => self.guarded(|| {
                write(&stream)?;
                stream.sync_data()
            }),
            None => {
                let _alone = self.fallback.lock();
                self.guarded(|| {
                    write(file)?;
                    file.sync_data()
                })
            }
        }
    }

    /// Writes bytes that a later [`sync`](Self::sync) covers, and has the system begin with them.
    pub(super) fn begin(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.guarded(write)
    }

    /// One that nobody syncs through, waiting if there is none.
    fn free_one(&self) -> Option<MutexGuard<'_, File>> {
        let mut streams = self.descriptors.iter();
        let free = streams.find_map(Mutex::try_lock);
        free.or_else(|| self.descriptors.first().map(Mutex::lock))
    }

    /// Invariant 2. For a sync called with the descriptor locked, so that who has it next sees the failure.
    fn guarded(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if let Some(failure) = self.failure.get() {
            let what = format!("an earlier sync of the file failed: {failure}");
            return Err(io::Error::new(failure.kind(), what));
        }
        sync().inspect_err(|error| {
            let told = match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => error.kind().into(),
            };
            let _ = self.failure.set(told);
        })
    }

    /// The first descriptor, for tests of its flags.
    #[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
    pub(super) fn first(&self) -> Option<MutexGuard<'_, File>> {
        self.descriptors.first().map(Mutex::lock)
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn streams() -> (File, Streams) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.db");
        let file = File::create_new(&path).unwrap();
        let streams = Streams::open(&file, &path);
        assert_eq!(streams.descriptors.len(), STREAMS);
        (file, streams)
    }

    /// Invariant 1.
    #[test]
    fn two_syncs_at_a_time_have_a_descriptor_each() {
        let (file, streams) = streams();
        let outer = |first: &File| {
            let inner = |second: &File| {
                assert_ne!(first.as_raw_fd(), second.as_raw_fd());
                Ok(())
            };
            streams.write_sync(&file, inner)?;
            streams.sync(&file)
        };
        streams.write_sync(&file, outer).unwrap();
    }

    /// Invariant 2, with descriptors that sync and without.
    #[test]
    fn after_a_failed_sync_all_others_fail() {
        let (file, streams) = streams();
        for streams in [streams, Streams::default()] {
            streams.sync(&file).unwrap();
            let full = |_: &File| Err(io::ErrorKind::StorageFull.into());
            streams.write_sync(&file, full).unwrap_err();
            let error = streams.sync(&file).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            streams.write_sync(&file, |_| Ok(())).unwrap_err();
            streams.begin(|| Ok(())).unwrap_err();
        }
    }

    /// Nobody else would be told.
    #[test]
    fn after_a_write_that_could_not_begin_all_syncs_fail() {
        let (file, streams) = streams();
        streams.begin(|| Ok(())).unwrap();
        streams.sync(&file).unwrap();
        let damaged = || Err(io::Error::from_raw_os_error(libc::EIO));
        streams.begin(damaged).unwrap_err();
        let error = streams.sync(&file).unwrap_err();
        assert!(error.to_string().contains("an earlier sync"), "{error}");
    }
}
