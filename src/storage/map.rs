//! A read-only memory map of the database file.
//!
//! # Invariants
//!
//! 1. The map never outlives its address range: slices borrow from the [`Map`], and whoever holds
//!    one holds the `Arc<Map>`.
//! 2. A slice is asked for only below the file's current length, and the file is cut only where no state that somebody
//!    can see has a page, so no slice that lives is there. (Touching a mapped page past the end of the file kills the
//!    process.)
//!    Nor is a file mapped where to touch a hole takes room ([`shows_holes`]): that kills it when there is none.
//! 3. A slice is asked for only over bytes that nobody writes while the slice lives: pages are
//!    copied on write and reused only when no snapshot can see them, and other processes are kept
//!    out by the lock on the file.
#![allow(unsafe_code)] // memory maps cannot be made or read without it; nothing else here needs it

use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};

/// A read-only view of the first bytes of a file, without copying them. Made by
/// [`Storage::map`](super::Storage::map).
///
/// It may be longer than the file, so that the file can grow under it without a new map.
pub struct Map {
    map: MmapRaw,
    length_bytes: usize,
}

impl Map {
    /// Maps the first `length_bytes` of `file`.
    ///
    /// On Unix the map may go past the end of the file. Windows has no such maps: there it ends
    /// where the file ends now, so ask [`len`](Map::len). (The engine makes none there.)
    pub(crate) fn new(file: &File, length_bytes: u64) -> io::Result<Self> {
        let length_bytes = if cfg!(unix) {
            length_bytes
        } else {
            length_bytes.min(file.metadata()?.len())
        };
        let length_bytes = usize::try_from(length_bytes).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the map does not fit into the address space",
            )
        })?;
        let map = MmapOptions::new()
            .len(length_bytes)
            .map_raw_read_only(file)?;
        Ok(Map { map, length_bytes })
    }

    /// The length of the map in bytes, which may be more than the file has.
    pub fn len(&self) -> usize {
        self.length_bytes
    }

    /// Whether the map has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.length_bytes == 0
    }

    /// The bytes of `offset..offset + length_bytes`, or `None` if the map ends before.
    ///
    /// The caller must keep invariants 2 and 3 above; only the engine, which does, can call this.
    #[inline]
    pub(crate) fn bytes(&self, offset: u64, length_bytes: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(length_bytes)?;
        if end > self.length_bytes {
            return None;
        }
        // SAFETY: `start..end` lies inside the mapping, as was just checked, and the mapping
        // lives as long as `self`, which the slice borrows. Any byte is a valid `u8`, and a
        // mapping is never longer than `isize::MAX` (memmap2 checks that). That the memory is
        // backed by the file and does not change while the slice lives is the contract of
        // invariants 2 and 3: the engine asks only for pages below the file's length that no one
        // rewrites while a snapshot can see them, and the file is locked against other processes.
        Some(unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(start), length_bytes) })
    }

    /// Tells the system that reads will be scattered, so that it reads what is touched and nothing
    /// around it. Does nothing where there is no such advice.
    pub fn advise_random(&self) -> io::Result<()> {
        #[cfg(unix)]
        self.map.advise(memmap2::Advice::Random)?;
        Ok(())
    }

    /// Tells the system that reads will be in order. Does nothing where there is no such advice.
    pub fn advise_sequential(&self) -> io::Result<()> {
        #[cfg(unix)]
        self.map.advise(memmap2::Advice::Sequential)?;
        Ok(())
    }

    /// Makes the system read these bytes, if it has to, and show them in the map: to touch them next
    /// takes no time and meets no error of the device. An error if they cannot be read, or where there
    /// is no such call.
    pub fn populate(&self, offset: u64, length_bytes: usize) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(start) = self.start_of(offset, length_bytes) {
            let advice = memmap2::Advice::PopulateRead;
            return self.map.advise_range(advice, start, length_bytes);
        }
        let _ = (offset, length_bytes);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes these bytes out of the process's memory until they are touched again. Does nothing where
    /// there is no such advice, or beyond the end.
    pub fn let_go(&self, offset: u64, length_bytes: usize) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(start) = self.start_of(offset, length_bytes) {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: this is a shared map of a file that is only read: whoever touches the bytes next,
            // in this thread or another, sees those of the file again, as before.
            unsafe {
                self.map
                    .unchecked_advise_range(advice, start, length_bytes)?
            };
        }
        let _ = (offset, length_bytes);
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn start_of(&self, offset: u64, length_bytes: usize) -> Option<usize> {
        let start = usize::try_from(offset).ok()?;
        (start.saturating_add(length_bytes) <= self.length_bytes).then_some(start)
    }

    /// Tells the system that these bytes are about to be read, so that it reads them together.
    /// Does nothing where there is no such advice, or beyond the end.
    pub fn will_need(&self, offset: u64, length_bytes: usize) -> io::Result<()> {
        #[cfg(unix)]
        if let Ok(start) = usize::try_from(offset)
            && start.saturating_add(length_bytes) <= self.length_bytes
        {
            let advice = memmap2::Advice::WillNeed;
            self.map.advise_range(advice, start, length_bytes)?;
        }
        let _ = (offset, length_bytes);
        Ok(())
    }
}

/// Whether all of the file that is there now can be touched in a map without taking room for it. In a file system in memory
/// a hole is filled when it is touched, also by who only reads, and a full one kills the process for it, also through an
/// overlay. A call reads zeros there. (A database reads no place that it has not written. But copies can have holes where zeros were
/// written: in long values, and in large pages.)
pub(super) fn shows_holes(file: &File) -> bool {
    #[cfg(target_os = "linux")]
    {
        const TMPFS: u32 = 0x0102_1994;
        const OVERLAY: u32 = 0x794c_7630;
        let is_in_memory = match super::start::file_system(file) {
            Some(TMPFS) => true,
            // It shows the file of whatever is below.
            Some(OVERLAY) => !has_extents(file),
            _ => false,
        };
        !is_in_memory || !has_holes(file)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        true
    }
}

/// Whether the file system says where on a device a file lies. One in memory cannot.
#[cfg(target_os = "linux")]
fn has_extents(file: &File) -> bool {
    use std::os::fd::AsRawFd;

    /// The system's structure, with room for no extent: then they are only counted.
    #[repr(C)]
    #[derive(Default)]
    struct Fiemap {
        start: u64,
        length: u64,
        flags: u32,
        mapped_extents: u32,
        extent_count: u32,
        reserved: u32,
    }
    const FS_IOC_FIEMAP: u32 = 0xc020_660b;
    let mut first_byte = Fiemap {
        length: 1,
        ..Fiemap::default()
    };
    // SAFETY: the call reads and writes this structure, which is the system's and lives until it has returned, and
    // nothing behind it, as it has room for no extent. The descriptor is open for as long as `file` is borrowed.
    let counted = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP as _, &raw mut first_byte) };
    counted == 0
}

#[cfg(target_os = "linux")]
fn has_holes(file: &File) -> bool {
    use std::os::fd::AsRawFd;

    let Ok(length) = file.metadata().map(|about| about.len()) else {
        return true;
    };
    // SAFETY: the call takes numbers only, no memory, and the descriptor is open for as long as `file` is borrowed. It
    // moves where the descriptor stands, which nobody uses: all reads and writes say where.
    let first = unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_HOLE) };
    length > 0 && u64::try_from(first).unwrap_or(0) < length
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map")
            .field("length_bytes", &self.length_bytes)
            .finish()
    }
}
