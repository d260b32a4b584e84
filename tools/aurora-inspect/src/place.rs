//! A new file that takes its name only once it is complete.
//!
//! # Invariants
//!
//! 1. A file that is there already is never replaced or written to.
//! 2. After a failure nothing is left behind under the name.
//! 3. Nobody may read it, at any moment, who may not read what it was made from.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aurora::anatomy::with_ending;
use aurora::storage::{FileStorage, Storage};

use crate::Failure;

/// A file in the making, beside the place where it will be.
#[derive(Debug)]
pub struct NewFile {
    to: PathBuf,
    partial: PathBuf,
    is_placed: bool,
}

impl NewFile {
    /// Begins one that is made from another file; fails if there is a file of that name.
    pub fn begin(to: &Path, from: &Path) -> Result<(Self, Arc<dyn Storage>), Failure> {
        if to.symlink_metadata().is_ok() {
            let to = to.display();
            return Err(Failure(format!(
                "{to}: there is a file already: name another one"
            )));
        }
        let partial = with_ending(to, &format!(".partial-{}", std::process::id()));
        let failed = |error| Failure(format!("{}: {error}", partial.display()));
        create(&partial, from).map_err(failed)?;
        let file = NewFile {
            to: to.to_path_buf(),
            partial: partial.clone(),
            is_placed: false,
        };
        let storage = FileStorage::open(&partial).map_err(failed)?;
        Ok((file, Arc::new(storage)))
    }

    /// Where it is until it is placed.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Gives the file its name, durably.
    pub fn place(mut self) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure(format!("{}: {error}", self.to.display()));
        // A link fails where a rename would replace what was put there meanwhile.
        match std::fs::hard_link(&self.partial, &self.to) {
            Ok(()) => std::fs::remove_file(&self.partial).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            // Not every file system has links.
            Err(_) if self.to.symlink_metadata().is_ok() => {
                return Err(failed(io::ErrorKind::AlreadyExists.into()));
            }
            Err(_) => std::fs::rename(&self.partial, &self.to).map_err(failed)?,
        }
        self.is_placed = true;
        let placed = FileStorage::open_read_only(&self.to).map_err(failed)?;
        placed.sync_parent_directory().map_err(failed)
    }
}

/// Creates the file with what others may not do with the one that it is made from taken away: if that came later, they could
/// have opened it before (invariant 3).
fn create(partial: &Path, from: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

        /// What a file that is not to be run gets at the most.
        const MOST: u32 = 0o666;
        /// Whose file it is reads and writes it, whatever the other one allows.
        const OWNER: u32 = 0o600;
        let other = from.metadata()?;
        // A pipe says nothing of what comes through it.
        if other.is_file() {
            options.mode(MOST & (other.permissions().mode() | OWNER));
        }
    }
    #[cfg(not(unix))]
    let _ = from;
    options.open(partial).map(drop)
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}
