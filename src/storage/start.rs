//! Asking the system to begin a write.
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
        // The call is not there, not for this file, or had no memory: it began nothing.
        Some(libc::ENOSYS | libc::EPERM | libc::EINVAL | libc::ESPIPE | libc::ENOMEM) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn start_write(_file: &File, _offset: u64, _length_bytes: u64) -> io::Result<()> {
    Ok(())
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
