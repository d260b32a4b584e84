//! A new file that takes its name only once it is complete.
//!
//! # Invariants
//!
//! 1. A file that is there already is never replaced or written to.
//! 2. After a failure nothing is left behind under the name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// Begins one; fails if there is a file of that name.
    pub fn begin(to: &Path) -> Result<(Self, Arc<dyn Storage>), Failure> {
        if to.symlink_metadata().is_ok() {
            let to = to.display();
            return Err(Failure(format!(
                "{to}: there is a file already: name another one"
            )));
        }
        let mut name = to.as_os_str().to_os_string();
        name.push(format!(".partial-{}", std::process::id()));
        let partial = PathBuf::from(name);
        let storage = FileStorage::create_new(&partial);
        let storage =
            storage.map_err(|error| Failure(format!("{}: {error}", partial.display())))?;
        let file = NewFile {
            to: to.to_path_buf(),
            partial,
            is_placed: false,
        };
        Ok((file, Arc::new(storage)))
    }

    /// Where it is until it is placed.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Gives the file its name, durably.
    pub fn place(mut self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure(format!("{}: {error}", self.to.display()));
        // A link fails where a rename would replace what was put there meanwhile.
        match std::fs::hard_link(&self.partial, &self.to) {
            Ok(()) => std::fs::remove_file(&self.partial).map_err(failed)?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            // Not every file system has links.
            Err(_) if self.to.symlink_metadata().is_ok() => {
                return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
            }
            Err(_) => std::fs::rename(&self.partial, &self.to).map_err(failed)?,
        }
        self.is_placed = true;
        let placed = FileStorage::open_read_only(&self.to).map_err(failed)?;
        placed.sync_parent_directory().map_err(failed)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}
