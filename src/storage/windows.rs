//! What is different about files on Windows.
//!
//! # Invariants
//!
//! 1. An opener has one lock at most: the system does not change the kind of a lock, and refuses one that is taken
//!    twice, also to who has it.
//! 2. No offset reaches the system that it takes for a command, such as "at the end" or "where the last call ended".

use std::fs::{File, TryLockError};
use std::io;
use std::os::windows::fs::FileExt;
use std::path::Path;

use crate::locks::Mutex;

/// The lock that an opener has.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// `None`: it has none.
    is_exclusive: Mutex<Option<bool>>,
}

impl Held {
    /// Takes the lock, or changes the one that is held, as the other systems do. If another opener is in the way,
    /// what was held before still is, unless a third one was faster.
    pub(super) fn take(&self, file: &File, exclusive: bool) -> Result<(), TryLockError> {
        let mut held = self.is_exclusive.lock();
        if *held == Some(exclusive) {
            return Ok(());
        }
        let before = *held;
        if before.is_some() {
            // Had it failed, the lock would be in the way of the next call, which tells. (Wine says that it failed
            // when it did not.)
            let _ = file.unlock();
            *held = None;
        }
        let taken = try_lock(file, exclusive);
        if taken.is_ok() {
            *held = Some(exclusive);
        } else if let Some(before) = before
            && try_lock(file, before).is_ok()
        {
            *held = Some(before);
        }
        taken
    }
}

fn try_lock(file: &File, exclusive: bool) -> Result<(), TryLockError> {
    match exclusive {
        true => file.try_lock(),
        false => file.try_lock_shared(),
    }
}

/// The number of a file is told only to who has it open, and no other file gets it meanwhile.
pub(super) fn is_file_at(file: &File, path: &Path) -> io::Result<bool> {
    let number = |file: &File| {
        let told = winapi_util::file::information(file)?;
        io::Result::Ok((told.volume_serial_number(), told.file_index()))
    };
    let there = File::open(path)?;
    Ok(number(file)? == number(&there)?)
}

/// Invariant 2.
fn check_range(offset: u64, length: usize) -> io::Result<()> {
    let end = offset.checked_add(length as u64);
    if end.is_some_and(|end| i64::try_from(end).is_ok()) {
        return Ok(());
    }
    let what = "no file has as many bytes";
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

pub(super) fn read_exact_at(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    check_range(offset, buffer.len())?;
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = buffer.get_mut(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) fn write_all_at(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    check_range(offset, bytes.len())?;
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
