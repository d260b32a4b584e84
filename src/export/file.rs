//! Files beside the database: written under another name, and named when they are complete.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::path::{with_ending, with_extension};
use crate::storage::sync_directory;
use crate::{Error, Result};

/// What can go wrong where the name of the file is not known.
#[derive(Debug)]
pub(super) enum Fault {
    Of(Error),
    Io(io::Error),
    /// What is read is not of the format.
    Content(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Of(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        match error.is_io() {
            true => Fault::Io(error.into()),
            false => Fault::Content(error.to_string()),
        }
    }
}

impl From<csv::Error> for Fault {
    fn from(error: csv::Error) -> Self {
        match error.into_kind() {
            csv::ErrorKind::Io(error) => Fault::Io(error),
            other => Fault::Content(format!("{other:?}")),
        }
    }
}

pub(super) fn refused(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::OtherFile {
        operation,
        path: path.to_path_buf(),
        source: Arc::new(source),
    }
}

/// The file to import: with the extension added if there is none of the name as it is given.
pub(super) fn open(path: &Path, extension: &str) -> Result<(PathBuf, File)> {
    match File::open(path) {
        Ok(file) => Ok((path.to_path_buf(), file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let longer = with_extension(path, extension)?;
            match File::open(&longer) {
                Ok(file) => Ok((longer, file)),
                Err(_) => Err(refused("open", path, error)),
            }
        }
        Err(error) => Err(refused("open", path, error)),
    }
}

/// A file that has its name when it is complete and durable. Dropped before, it is removed.
#[derive(Debug)]
pub(super) struct PartialFile {
    /// The name as it was given.
    name: PathBuf,
    /// Where the file will be: where the name leads to, if it is a link.
    target: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    is_named: bool,
}

/// Exports to one path at a time do not write to the same file.
static NEXT: AtomicU64 = AtomicU64::new(1);

const BUFFER_BYTES: usize = 256 << 10;

/// Who may read the file that is there may read the new one, and nobody else.
fn permissions_of(target: &Path) -> Option<Permissions> {
    let before = std::fs::metadata(target).ok()?;
    (cfg!(unix) && before.is_file()).then(|| before.permissions())
}

/// Creates a file. If it gets the permissions of another, nobody else may open it before it has them.
fn create_new(path: &Path, is_private: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if is_private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = is_private;
    options.open(path)
}

impl PartialFile {
    pub(super) fn create(name: PathBuf) -> Result<Self> {
        let target = match name.is_symlink() {
            // A link to nothing is replaced itself.
            true => std::fs::canonicalize(&name).unwrap_or_else(|_| name.clone()),
            false => name.clone(),
        };
        let before = permissions_of(&target);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let partial = with_ending(
                &target,
                &format!(".{}-{number}.partial", std::process::id()),
            );
            match create_new(&partial, before.is_some()) {
                Ok(file) => {
                    let partial = PartialFile {
                        name,
                        target,
                        partial,
                        file: BufWriter::with_capacity(BUFFER_BYTES, file),
                        is_named: false,
                    };
                    if let Some(before) = before {
                        let allowed = std::fs::set_permissions(&partial.partial, before);
                        allowed.map_err(|error| refused("create", &partial.partial, error))?;
                    }
                    return Ok(partial);
                }
                // Left by a process with the same number that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(refused("create", &partial, error)),
            }
        }
    }

    /// Gives it its name, in the place of what had it before. Returns that.
    pub(super) fn finish(mut self) -> Result<PathBuf> {
        let written = self.file.flush();
        let synced = written.and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| refused("write", &self.target, error))?;
        let named = std::fs::rename(&self.partial, &self.target);
        named.map_err(|error| refused("name the complete file", &self.target, error))?;
        self.is_named = true;
        let parent = self.target.parent();
        let directory = parent.filter(|parent| !parent.as_os_str().is_empty());
        let synced = sync_directory(directory.unwrap_or(Path::new(".")));
        synced.map_err(|error| refused("sync the directory of", &self.target, error))?;
        Ok(std::mem::take(&mut self.name))
    }
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.is_named {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_file_stays_until_the_new_one_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        std::fs::write(&path, "old").unwrap();
        let entries = || std::fs::read_dir(directory.path()).unwrap().count();

        let mut partial = PartialFile::create(path.clone()).unwrap();
        partial.write_all(&[7; 2 * BUFFER_BYTES]).unwrap();
        assert_eq!(
            (std::fs::read(&path).unwrap(), entries()),
            ("old".into(), 2)
        );
        drop(partial);
        assert_eq!(
            (std::fs::read(&path).unwrap(), entries()),
            ("old".into(), 1)
        );

        let mut partial = PartialFile::create(path.clone()).unwrap();
        partial.write_all(b"new").unwrap();
        assert_eq!(partial.finish().unwrap(), path);
        assert_eq!(
            (std::fs::read(&path).unwrap(), entries()),
            ("new".into(), 1)
        );
    }
}
