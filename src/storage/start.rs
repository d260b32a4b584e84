//! Asking the system to begin a write, and whether one can be made durable by itself.
#![allow(unsafe_code)] // the system's call has no safe form in a crate that is here anyway

use std::fs::File;
use std::io;

/// Begins to bring what was written to this range to the device, and does not wait for it. Does nothing where
/// the system has no such call or does not allow it.
///
/// An error means that bytes may be lost, and need not be told again by a later sync: where a file system finds
/// places for them only now and fails, it drops them and says so here. (What goes wrong on the device is told
/// by the next sync.)
#[cfg(target_os = "linux")]
pub(super) fn start_write(file: &File, offset: u64, length_bytes: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    // A length of zero would stand for all behind the offset.
    let (Ok(offset), Ok(length @ 1..)) = (i64::try_from(offset), i64::try_from(length_bytes))
    else {
        return Ok(());
    };
    // SAFETY: the call takes numbers only, no memory, and the descriptor is open for as long as `file`
    // is borrowed.
    let started = unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset,
            length,
            libc::SYNC_FILE_RANGE_WRITE,
        )
    };
    if started == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // The call is not there, not allowed, not for this file, or had no memory: it began nothing.
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => Ok(()),
        Some(libc::EINVAL | libc::ESPIPE | libc::ENOMEM) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn start_write(_file: &File, _offset: u64, _length_bytes: u64) -> io::Result<()> {
    Ok(())
}

/// Whether a write through a descriptor that was opened with `O_DSYNC` is durable when it returns. The flag is for the file
/// system to heed, and not all do: FUSE leaves it to the program behind it where the kernel is to keep nothing of a
/// file, and that program need not know of it. So it is relied on where it is known to hold; elsewhere a sync follows.
#[cfg(target_os = "linux")]
pub(super) fn heeds_dsync(file: &File) -> bool {
    const EXT: u32 = 0xef53; // 2, 3 and 4
    const XFS: u32 = 0x5846_5342;
    const BTRFS: u32 = 0x9123_683e;
    const F2FS: u32 = 0xf2f5_2010;
    const TMPFS: u32 = 0x0102_1994;
    // (An overlay hands it on to whatever is below.)
    let known = [EXT, XFS, BTRFS, F2FS, TMPFS];
    file_system(file).is_some_and(|magic| known.contains(&magic))
}

/// Files of apps are often on FUSE there.
#[cfg(target_os = "android")]
pub(super) fn heeds_dsync(_file: &File) -> bool {
    false
}

/// The number that the system has for the kind of file system that a file is on. `None` if it does not tell.
#[cfg(target_os = "linux")]
pub(super) fn file_system(file: &File) -> Option<u32> {
    use std::os::fd::AsRawFd;

    let mut about = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the call writes one such structure to the place that it is given, which is as large, and the descriptor
    // is open for as long as `file` is borrowed.
    let told = unsafe { libc::fstatfs(file.as_raw_fd(), about.as_mut_ptr()) };
    if told != 0 {
        return None;
    }
    // SAFETY: the call has succeeded, so it has written all of the structure.
    let about = unsafe { about.assume_init() };
    // Its type differs between systems; the numbers have 32 bits.
    Some(about.f_type as u32)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_begun_and_what_cannot_be_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.db");
        std::fs::write(&path, [7; 10_000]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        for (offset, length) in [(5_000, 100), (0, 0), (u64::MAX, 1), (0, u64::MAX)] {
            start_write(&file, offset, length).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), [7; 10_000]);
        let (reader, _writer) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(reader));
        start_write(&pipe, 0, 100).unwrap();
    }
}
