//! A new file that takes its name only once it is complete.
//!
//! # Invariants
//!
//! 1. A file that is there already is never replaced or written to.
//! 2. After a failure nothing is left behind under the name.
//! 3. Nobody may read it who may not read what it was made from.

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
    /// Begins one that is made from another file; fails if there is a file of that name.
    pub fn begin(to: &Path, from: &Path) -> Result<(Self, Arc<dyn Storage>), Failure> {
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
        file.restrict(from)
            .map_err(|error| Failure(format!("{}: {error}", file.partial.display())))?;
        Ok((file, Arc::new(storage)))
    }

    /// Takes away what others may not do with the file that it is made from (invariant 3).
    #[cfg(unix)]
    fn restrict(&self, from: &Path) -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;

        /// Whose file it is reads and writes it, whatever the other one allows.
        const OWNER: u32 = 0o700;
        let other = from.metadata()?;
        // A pipe says nothing of what comes through it.
        if !other.is_file() {
            return Ok(());
        }
        let mut own = self.partial.metadata()?.permissions();
        own.set_mode(own.mode() & (other.permissions().mode() | OWNER));
        std::fs::set_permissions(&self.partial, own)
    }

    #[cfg(not(unix))]
    fn restrict(&self, _from: &Path) -> std::io::Result<()> {
        Ok(())
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
