//! What the system has in its memory of a file, and asking it to read what it has not.
#![allow(unsafe_code)] // the system's calls have no safe form in a crate that is here anyway

use std::fs::File;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether reads of a file would wait for the device.
#[derive(Debug, Default)]
pub(super) struct Cached {
    /// The system does not tell: it has no such call, or not for this file.
    #[cfg(target_os = "linux")]
    is_unknown: AtomicBool,
}

#[cfg(target_os = "linux")]
impl Cached {
    /// Whether the byte there is in the system's memory. Where that cannot be told, it is.
    pub(super) fn has(&self, file: &File, offset: u64) -> bool {
        if self.is_unknown.load(Ordering::Relaxed) {
            return true;
        }
        match read_without_waiting(file, offset) {
            Ok(_) => true,
            Err(libc::EAGAIN) => false,
            Err(libc::EINTR) => true,
            Err(_) => {
                self.is_unknown.store(true, Ordering::Relaxed);
                true
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Cached {
    pub(super) fn has(&self, _file: &File, _offset: u64) -> bool {
        true
    }
}

/// Reads one byte if that waits for nothing, and throws it away. Returns how many were read, or the error's number.
#[cfg(target_os = "linux")]
fn read_without_waiting(file: &File, offset: u64) -> Result<usize, i32> {
    use std::os::fd::AsRawFd;

    let mut byte = 0_u8;
    let part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // The call takes an offset in two halves. Where a register holds all of it, the second one is not looked at.
    let (low, high) = (offset as libc::c_ulong, (offset >> 32) as libc::c_ulong);
    // SAFETY: `part` describes one byte that lives until the call has returned and that nothing else uses, the
    // descriptor is open for as long as `file` is borrowed, and the other arguments are numbers.
    let read = unsafe {
        libc::syscall(
            libc::SYS_preadv2,
            file.as_raw_fd(),
            &raw const part,
            1 as libc::c_ulong,
            low,
            high,
            libc::RWF_NOWAIT,
        )
    };
    usize::try_from(read).map_err(|_| {
        let error = std::io::Error::last_os_error();
        error.raw_os_error().unwrap_or(libc::EINVAL)
    })
}

/// Has the device begin to read this range into the system's memory, and does not wait for it. A hint: nothing depends
/// on it.
#[cfg(target_os = "linux")]
pub(super) fn start_read(file: &File, offset: u64, length_bytes: u64) {
    use std::os::fd::AsRawFd;

    let (Ok(offset), Ok(length)) = (i64::try_from(offset), usize::try_from(length_bytes)) else {
        return;
    };
    // SAFETY: the call takes numbers only, no memory, and the descriptor is open for as long as `file` is borrowed.
    unsafe { libc::readahead(file.as_raw_fd(), offset, length) };
}

#[cfg(not(target_os = "linux"))]
pub(super) fn start_read(_file: &File, _offset: u64, _length_bytes: u64) {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    const LENGTH_BYTES: u64 = 8 << 20;

    /// Takes the file out of the system's memory, where the file system has a device to read it from again.
    fn drop_from_memory(file: &File) {
        file.sync_all().unwrap();
        // SAFETY: the call takes numbers only, no memory.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }

    #[test]
    fn what_was_read_is_cached_and_what_was_dropped_can_be_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![7; LENGTH_BYTES as usize]).unwrap();
        let file = File::open(&path).unwrap();
        let cached = Cached::default();
        assert!(cached.has(&file, 4096), "it was just written");
        drop_from_memory(&file);
        let far = LENGTH_BYTES - 4096;
        if cached.has(&file, far) {
            return; // a file system in memory
        }
        start_read(&file, far, 4096);
        let begin = std::time::Instant::now();
        while !cached.has(&file, far) {
            assert!(begin.elapsed().as_secs() < 60, "it never came");
            std::thread::yield_now();
        }
    }

    #[test]
    fn places_that_there_are_not_and_files_of_other_kinds_do_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, [7; 100]).unwrap();
        let file = File::open(&path).unwrap();
        let cached = Cached::default();
        for offset in [0, 100, 1 << 40, u64::MAX] {
            cached.has(&file, offset);
            start_read(&file, offset, 4096);
            start_read(&file, offset, u64::MAX);
        }
        let (reader, _writer) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(reader));
        let of_pipe = Cached::default();
        assert!(of_pipe.has(&pipe, 0));
        start_read(&pipe, 0, 4096);
    }
}
