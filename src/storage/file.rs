//! The operating system's files.
//!
//! # Invariants
//!
//! 1. The name of a file that this process made is durable before the first byte is written to
//!    it: a file that has bytes also has its directory entry, whatever crash comes.
//! 2. Nothing but a regular file is ever opened.
//! 3. A child that `fork` made neither changes the file nor gives up the lock, which is its parent's: the two share
//!    one descriptor.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::cached::{self, Cached};
use super::eager::Eager;
use super::map::shows_holes;
use super::origin::Origin;
use super::room;
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::start::heeds_dsync;
use super::start::start_write;
use super::streams::Streams;
#[cfg(windows)]
use super::windows::{Held, is_file_at, read_exact_at, write_all_at};
use super::{Map, Storage};
#[cfg(unix)]
use crate::error::is_no_descriptor;

/// Writes from this length on are counted until they are synced. Shorter ones are mostly marks of the log, whose
/// page the next record writes again. What is not counted costs a lone commit time and nothing else: its sync is
/// one of the whole file.
const COUNTED_BYTES: usize = 4 << 10;

/// An empty file that is found in use this often, with such pauses, is not only looked at.
const MOST_LOOKS: u32 = 200;
const LOOK: Duration = Duration::from_millis(1);

/// A file of the operating system, as a [`Storage`].
#[derive(Debug)]
pub struct FileStorage {
    path: PathBuf,
    file: File,
    /// What syncs it.
    streams: Streams,
    /// Bytes that were written and not synced, about.
    unsynced_bytes: AtomicU64,
    eager: Eager,
    cached: Cached,
    /// See [`shows_holes`].
    can_map: bool,
    read_only: bool,
    origin: Origin,
    #[cfg(windows)]
    held: Held,
}

impl FileStorage {
    /// Opens a file that exists, to read and to write.
    ///
    /// Fails with `NotFound` if there is none, `IsADirectory` for a directory, `InvalidInput` for a link to nothing and
    /// for anything else that is not a regular file, and `PermissionDenied`.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        refuse_other_than_files(&metadata(path)?)?;
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let storage = FileStorage::from_file(path, file, false)?;
        // An empty file may be one whose maker died before its name was durable (invariant 1).
        if storage.length()? == 0 {
            storage.sync_parent_directory()?;
        }
        Ok(storage)
    }

    /// Makes a new file and makes its name durable. Fails with `AlreadyExists` if there is
    /// anything at the path, and with `NotFound` if its directory is missing.
    pub fn create_new(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let storage = FileStorage::create_of(path, None)?;
        let named = storage.sync_parent_directory();
        named.inspect_err(|_| storage.take_away(path))?;
        Ok(storage)
    }

    /// The same for a file that is to be a database at once: it is locked before anything else is done, so that who comes
    /// meanwhile finds it in use, not empty.
    fn make_locked(path: &Path) -> io::Result<Self> {
        let storage = FileStorage::create_of(path, None)?;
        storage.lock_while_empty();
        let named = storage.sync_parent_directory();
        named.inspect_err(|_| storage.take_away(path))?;
        Ok(storage)
    }

    /// Who only looks whether a file is a database has the lock for that, for no longer than a moment. (Who makes one of it
    /// has it for good, and it is theirs.)
    fn lock_while_empty(&self) {
        for _ in 0..MOST_LOOKS {
            let is_empty = self.length().is_ok_and(|length| length == 0);
            if !is_empty || self.lock(true).is_ok() {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// An empty file that nobody has is not left behind. (Another opener may have found it, and made a database of it.)
    fn take_away(&self, path: &Path) {
        let is_unused = self.lock(true).is_ok() && self.length().is_ok_and(|length| length == 0);
        if is_unused && self.is_at(path).unwrap_or(false) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// The same for what is made of another file: nobody may do with it, at any moment, what they may not with that one. It
    /// is locked before anything else is done. `WouldBlock` if somebody found it before that: then it is theirs to take away.
    pub(crate) fn create_locked_of(path: &Path, other: Option<&FileStorage>) -> io::Result<Self> {
        let storage = FileStorage::create_of(path, other)?;
        let locked = storage.lock(true);
        let is_lost = match &locked {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(()) => !storage.is_at(path)?,
        };
        if is_lost {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let named = locked.and_then(|()| storage.sync_parent_directory());
        named.inspect_err(|_| drop(std::fs::remove_file(path)))?;
        Ok(storage)
    }

    fn create_of(path: &Path, other: Option<&FileStorage>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        if let Some(other) = other {
            use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

            // Whose file it is reads and writes it, whatever the other one allows.
            let allowed = other.file.metadata()?.permissions().mode() | 0o600;
            options.mode(allowed & 0o666);
        }
        #[cfg(not(unix))]
        let _ = other;
        let file = options.open(path)?;
        let storage = FileStorage::from_file(path, file, false);
        storage.inspect_err(|_| drop(std::fs::remove_file(path)))
    }

    /// Opens the file to read and to write, and makes it if there is none. The errors are those
    /// of [`open`](FileStorage::open) and [`create_new`](FileStorage::create_new).
    pub fn open_or_create(path: impl AsRef<Path>) -> io::Result<Self> {
        FileStorage::open_or(path.as_ref(), |path| FileStorage::create_new(path))
    }

    /// The same for who makes a database of it: locked if nothing is in it, and nobody else is at that.
    pub(crate) fn open_or_make(path: &Path) -> io::Result<Self> {
        let storage = FileStorage::open_or(path, FileStorage::make_locked)?;
        storage.lock_while_empty();
        Ok(storage)
    }

    fn open_or(path: &Path, make: impl Fn(&Path) -> io::Result<Self>) -> io::Result<Self> {
        match FileStorage::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        match make(path) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => FileStorage::open(path),
            created => created,
        }
    }

    /// Opens a file that exists, only to read it. Every call that would change it fails with
    /// `PermissionDenied`. The errors of opening are those of [`open`](FileStorage::open).
    pub fn open_read_only(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        refuse_other_than_files(&metadata(path)?)?;
        FileStorage::from_file(path, File::open(path)?, true)
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is the file at that path. Where a system does not tell, it is.
    pub(crate) fn is_at(&self, path: &Path) -> io::Result<bool> {
        match is_file_at(&self.file, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            told => told,
        }
    }

    /// Makes the name of the file durable, by syncing the directory that it is in. Does nothing
    /// on platforms, and in file systems, where a directory cannot be synced.
    pub fn sync_parent_directory(&self) -> io::Result<()> {
        #[cfg(unix)]
        {
            // The real path: the entry that counts is the file's, not that of a link to it.
            let path = std::fs::canonicalize(&self.path)?;
            sync_directory(path.parent().unwrap_or(&path)).map_err(|error| {
                if is_no_descriptor(&error) {
                    return error; // it is not about the directory
                }
                let what = format!("its directory cannot be synced: {error}");
                io::Error::new(error.kind(), what)
            })?;
        }
        Ok(())
    }

    fn from_file(path: &Path, file: File, read_only: bool) -> io::Result<Self> {
        refuse_other_than_files(&file.metadata()?)?;
        let streams = match read_only {
            true => Streams::default(),
            false => Streams::open(&file, path),
        };
        Ok(FileStorage {
            path: path.to_path_buf(),
            can_map: shows_holes(&file),
            file,
            streams,
            unsynced_bytes: AtomicU64::new(0),
            eager: Eager::default(),
            cached: Cached::default(),
            read_only,
            origin: Origin::here(),
            #[cfg(windows)]
            held: Held::default(),
        })
    }

    /// The flags that the kernel has for a descriptor that syncs.
    #[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
    pub(super) fn synced_flags(&self) -> Option<u32> {
        use std::os::fd::AsRawFd;
        let descriptor = self.streams.first()?.as_raw_fd();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        u32::from_str_radix(flags.trim(), 8).ok()
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.read_only {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the file was opened for reading only",
            ));
        }
        self.check_origin()
    }

    /// Invariant 3.
    fn check_origin(&self) -> io::Result<()> {
        if self.origin.is_here() {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the file was opened by the process that this one was forked from",
        ))
    }
}

impl Drop for FileStorage {
    /// Closing is not enough: a process that another thread is starting has a copy of the descriptor, and
    /// the lock with it, until it runs its program.
    fn drop(&mut self) {
        if self.origin.is_here() && self.origin.has_same_id() {
            let _ = self.file.unlock();
        }
    }
}

impl Storage for FileStorage {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        read_exact_at(&self.file, offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        if bytes.len() >= COUNTED_BYTES {
            let bytes = bytes.len() as u64;
            self.unsynced_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        write_all_at(&self.file, offset, bytes)
    }

    fn start_write(&self, offset: u64, length_bytes: u64) {
        if self.read_only {
            return;
        }
        // An error makes all later syncs fail: they would not be told of it.
        let start = || start_write(&self.file, offset, length_bytes);
        let _ = self.streams.begin(start);
    }

    // No platform has a portable sync of a range that also covers the drive's cache and the
    // length, so this syncs the file. `write_sync_at` is the fast way.
    fn sync_range(&self, _offset: u64, _length_bytes: u64) -> io::Result<()> {
        self.sync_all()
    }

    // `sync_data` covers the data and as much metadata as it takes to read it, the length too;
    // on macOS it is F_FULLFSYNC. `sync_all` would add a journal commit for the time stamps.
    fn sync_all(&self) -> io::Result<()> {
        self.check_writable()?;
        let covered = self.unsynced_bytes.load(Ordering::Relaxed);
        self.streams.sync(&self.file)?;
        // Another sync may have covered the same ones.
        let left = |now: u64| Some(now.saturating_sub(covered));
        let _ = self
            .unsynced_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        Ok(())
    }

    fn write_sync_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        let write = |file: &File| write_all_at(file, offset, bytes);
        self.streams.write_sync(&self.file, write)
    }

    fn write_sync_alone_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        // The second half is a sync of the whole file.
        let has_more = self.unsynced_bytes.load(Ordering::Relaxed) > 0;
        if has_more || !self.streams.are_synced() {
            return self.write_sync_at(offset, bytes);
        }
        let write = || {
            write_all_at(&self.file, offset, bytes)?;
            start_write(&self.file, offset, bytes.len() as u64)
        };
        let begin = || self.streams.begin(write);
        let plain = || self.write_sync_at(offset, bytes);
        self.eager
            .write(bytes.len(), plain, begin, || self.streams.sync(&self.file))
    }

    fn is_cached(&self, offset: u64) -> bool {
        self.cached.has(&self.file, offset)
    }

    fn start_read(&self, offset: u64, length_bytes: u64) {
        cached::start_read(&self.file, offset, length_bytes);
    }

    fn reserve(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        room::reserve(&self.file, offset, length_bytes)
    }

    fn discard(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        room::discard(&self.file, offset, length_bytes)
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        self.file.set_len(length_bytes)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn lock(&self, exclusive: bool) -> io::Result<()> {
        self.check_origin()?;
        #[cfg(windows)]
        let taken = self.held.take(&self.file, exclusive);
        #[cfg(not(windows))]
        let taken = match exclusive {
            true => self.file.try_lock(),
            false => self.file.try_lock_shared(),
        };
        taken.map_err(|error| match error {
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
            TryLockError::Error(error) => error,
        })
    }

    fn map(&self, length_bytes: u64) -> io::Result<Option<Arc<Map>>> {
        if !self.can_map {
            return Ok(None);
        }
        Map::new(&self.file, length_bytes).map(|map| Some(Arc::new(map)))
    }
}

/// Makes the names in a directory durable, where that can be done: some file systems have no such call, and say that it
/// makes no sense.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(directory)?.sync_all() {
        Err(error) if is_no_such_call(&error) => Ok(()),
        synced => synced,
    }
}

fn is_no_such_call(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported];
    kinds.contains(&error.kind())
}

/// What the path leads to. A link to nothing is told from a path without anything: nothing can be made there.
fn metadata(path: &Path) -> io::Result<std::fs::Metadata> {
    std::fs::metadata(path).map_err(|error| match std::fs::read_link(path) {
        Ok(target) if error.kind() == io::ErrorKind::NotFound => {
            let target = target.display();
            let what = format!("the path is a link to {target}, where there is nothing");
            io::Error::new(io::ErrorKind::InvalidInput, what)
        }
        _ => error,
    })
}

/// A directory can be opened for reading, and opening a pipe waits for its other end, so both are
/// refused by what they are.
fn refuse_other_than_files(metadata: &std::fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        Ok(())
    } else if metadata.is_dir() {
        Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "the path is a directory",
        ))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path is not a regular file",
        ))
    }
}

/// `O_DSYNC` has this value on the architectures that follow the kernel's generic headers. On the
/// others (mips, sparc, alpha, hppa) the slower way is taken.
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64",
        target_arch = "powerpc64",
        target_arch = "s390x",
        target_arch = "loongarch64",
    )
))]
const O_DSYNC: Option<i32> = Some(0o10000);
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64",
        target_arch = "powerpc64",
        target_arch = "s390x",
        target_arch = "loongarch64",
    ))
))]
const O_DSYNC: Option<i32> = None;

/// The flag with which a descriptor syncs each write, where there is one that holds.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn synced_flag(file: &File) -> Option<i32> {
    O_DSYNC.filter(|_| heeds_dsync(file))
}

/// Opens `file` once more with this flag, or gives up: that is no error, only slower.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn open_again(file: &File, path: &Path, flag: Option<i32>) -> Option<File> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = OpenOptions::new();
    options.write(true).custom_flags(flag.unwrap_or(0));
    // The descriptor's own name finds the file even after a rename. Without /proc the path has
    // to do, and the comparison tells if it leads elsewhere by now.
    let descriptor = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let again = options
        .open(descriptor)
        .or_else(|_| options.open(path))
        .ok()?;
    let is_same = same_file(&file.metadata().ok()?, &again.metadata().ok()?);
    is_same.then_some(again)
}

#[cfg(not(windows))]
fn is_file_at(file: &File, path: &Path) -> io::Result<bool> {
    Ok(same_file(&file.metadata()?, &std::fs::metadata(path)?))
}

/// Whether both are of one file, whatever it is called. Where a system does not tell, they are.
#[cfg(not(windows))]
fn same_file(first: &std::fs::Metadata, second: &std::fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (first.dev(), first.ino()) == (second.dev(), second.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = (first, second);
        true
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn synced_flag(_file: &File) -> Option<i32> {
    None
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn open_again(_file: &File, _path: &Path, _flag: Option<i32>) -> Option<File> {
    None
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(unix)]
fn write_all_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_descriptor_does_not_keep_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.db");
        let storage = FileStorage::create_new(&path).unwrap();
        storage.lock(true).unwrap();
        let copy = storage.file.try_clone().unwrap();
        let other = FileStorage::open(&path).unwrap();
        other.lock(true).unwrap_err();
        drop(storage);
        other.lock(true).unwrap();
        drop(copy);
    }

    /// Not by who made it and could not make its name durable, for want of descriptors for example.
    #[test]
    fn a_new_file_that_another_opener_has_found_is_not_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.db");
        let made = FileStorage::create_of(&path, None).unwrap();
        let found = FileStorage::open(&path).unwrap();
        found.lock(true).unwrap();
        made.take_away(&path);
        assert!(path.exists(), "it has it");
        found.write_at(0, b"a database").unwrap();
        drop(found);
        made.take_away(&path);
        assert!(path.exists(), "it is filled");
        made.set_length(0).unwrap();
        made.take_away(&path);
        assert!(!path.exists());
    }

    #[test]
    fn the_second_descriptor_is_never_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.db");
        let file = File::create_new(&path).unwrap();
        std::fs::rename(&path, directory.path().join("moved.db")).unwrap();
        let other = File::create_new(&path).unwrap();
        let same = |a: &File, b: &File| same_file(&a.metadata().unwrap(), &b.metadata().unwrap());
        assert!(!same(&file, &other));
        assert!(same(&file, &file.try_clone().unwrap()));
        let again = open_again(&file, &path, synced_flag(&file)).unwrap();
        assert!(same(&file, &again));
    }
}
