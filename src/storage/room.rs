//! Asking the system to keep room for a part of a file, and to take it back.
#![allow(unsafe_code)] // the system's calls have no safe form in a crate that is here anyway

use std::fs::File;
use std::io;

/// Makes sure that later writes to this range, which lies inside of the file, find room on the device. Does
/// nothing where the file system has no such call: then those writes meet the full device themselves.
#[cfg(target_os = "linux")]
pub(super) fn reserve(file: &File, offset: u64, length_bytes: u64) -> io::Result<()> {
    match change(file, libc::FALLOC_FL_KEEP_SIZE, offset, length_bytes) {
        Err(error) if is_not_there(&error) => Ok(()),
        reserved => reserved,
    }
}

/// Gives the blocks of this range back to the device; its bytes are zeros from then on.
#[cfg(target_os = "linux")]
pub(super) fn discard(file: &File, offset: u64, length_bytes: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    match change(file, mode, offset, length_bytes) {
        Err(error) if is_not_there(&error) => Ok(()),
        discarded => discarded,
    }
}

#[cfg(target_os = "linux")]
fn change(file: &File, mode: i32, offset: u64, length_bytes: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let offset = libc::off_t::try_from(offset);
    let length = libc::off_t::try_from(length_bytes);
    let (Ok(offset), Ok(length @ 1..)) = (offset, length) else {
        return Ok(());
    };
    loop {
        // SAFETY: the call takes numbers only, no memory, and the descriptor is open for as long as `file`
        // is borrowed.
        if unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The file system, or the system, does not have the call, or not for this file.
#[cfg(target_os = "linux")]
fn is_not_there(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    let codes = [
        libc::EOPNOTSUPP,
        libc::ENOSYS,
        libc::EPERM,
        libc::EACCES, // no file system says this; a sandbox may
        libc::EINVAL,
        libc::ENODEV,
        libc::ESPIPE,
    ];
    code.is_some_and(|code| codes.contains(&code))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reserve(_file: &File, _offset: u64, _length_bytes: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn discard(_file: &File, _offset: u64, _length_bytes: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn room_is_kept_and_given_back_and_the_length_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.db");
        std::fs::write(&path, [7; 8192]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        let blocks = || std::fs::metadata(&path).unwrap().blocks();
        reserve(&file, 8192, (1 << 20) - 8192).unwrap();
        let reserved = blocks();
        discard(&file, 4096, (1 << 20) - 4096).unwrap();
        // Not all file systems have the calls.
        if reserved >= (1 << 20) / 512 {
            assert!(blocks() < reserved / 2, "{} of {reserved}", blocks());
            let bytes = std::fs::read(&path).unwrap();
            assert!(bytes[..4096].iter().all(|byte| *byte == 7));
            assert!(bytes[4096..].iter().all(|byte| *byte == 0));
        }
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    }

    #[test]
    fn what_cannot_be_is_not_done() {
        let (_reader, writer) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        for (offset, length) in [(0, 100), (0, 0), (u64::MAX, 1)] {
            reserve(&pipe, offset, length).unwrap();
            discard(&pipe, offset, length).unwrap();
        }
    }
}
