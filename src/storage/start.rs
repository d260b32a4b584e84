//! Asking the system to begin a write.
#![allow(unsafe_code)] // the system's call has no safe form in a crate that is here anyway

use std::fs::File;

/// Begins to bring what was written to this range to the device, and does not wait for it. Whether it
/// went well is for a sync to say. False where the system has no such call or refuses it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn start_write(file: &File, offset: u64, length_bytes: u64) -> bool {
    use std::os::fd::AsRawFd;

    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length_bytes)) else {
        return false;
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
    started == 0
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn start_write(_file: &File, _offset: u64, _length_bytes: u64) -> bool {
    false
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
        assert!(start_write(&file, 5_000, 100));
        assert!(start_write(&file, 0, 0));
        assert!(!start_write(&file, u64::MAX, 1));
        assert!(!start_write(&file, 0, u64::MAX));
        assert_eq!(std::fs::read(&path).unwrap(), [7; 10_000]);
    }
}
