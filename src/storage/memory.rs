//! A file that lives in memory: for databases that need not outlive the process, and for tests.
//!
//! # Invariants
//!
//! 1. A chunk that is not in the map is all zeros.
//! 2. Bytes past the length are zeros, in every chunk, so growing never shows old bytes.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::locks::RwLock;

use super::Storage;
use super::lock::{LockTable, Opener};

/// Growing a file adds chunks and copies nothing.
const CHUNK_BYTES: usize = 64 * 1024;

/// A [`Storage`] in memory. It syncs at once and has no map.
///
/// A clone is the same opener of the same bytes. [`reopen`](MemoryStorage::reopen) is another
/// opener, as if the file were opened a second time: the bytes live until the last is dropped.
#[derive(Clone)]
pub struct MemoryStorage {
    content: Arc<RwLock<Content>>,
    opener: Arc<Opener>,
}

#[derive(Default)]
struct Content {
    chunks: BTreeMap<u64, Box<[u8]>>,
    length_bytes: u64,
}

impl MemoryStorage {
    /// An empty file.
    pub fn new() -> Self {
        MemoryStorage {
            content: Arc::default(),
            opener: Arc::new(Opener::new(Arc::new(LockTable::default()))),
        }
    }

    /// A file with these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let storage = MemoryStorage::new();
        storage.content.write().write(0, bytes);
        storage
    }

    /// Another opener of the same bytes, which holds no lock yet.
    pub fn reopen(&self) -> Self {
        MemoryStorage {
            content: Arc::clone(&self.content),
            opener: Arc::new(self.opener.another()),
        }
    }

    /// A copy of all bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let content = self.content.read();
        let mut bytes = vec![0; content.length_bytes as usize];
        content.read(0, &mut bytes);
        bytes
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        MemoryStorage::new()
    }
}

impl std::fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStorage")
            .field("length_bytes", &self.content.read().length_bytes)
            .finish()
    }
}

/// Splits `offset..offset + length` at the chunk borders: (chunk, offset in it, offset in the
/// range, length).
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let position = offset + done as u64;
        let chunk = position / CHUNK_BYTES as u64;
        let within = (position % CHUNK_BYTES as u64) as usize;
        let piece = (CHUNK_BYTES - within).min(length - done);
        let start = done;
        done += piece;
        Some((chunk, within, start, piece))
    })
}

impl Content {
    fn read(&self, offset: u64, buffer: &mut [u8]) {
        for (chunk, within, start, length) in pieces(offset, buffer.len()) {
            let target = &mut buffer[start..start + length];
            match self.chunks.get(&chunk) {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + length]),
                None => target.fill(0),
            }
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (chunk, within, start, length) in pieces(offset, bytes.len()) {
            self.chunks
                .entry(chunk)
                .or_insert_with(|| vec![0; CHUNK_BYTES].into_boxed_slice())
                [within..within + length]
                .copy_from_slice(&bytes[start..start + length]);
        }
        if !bytes.is_empty() {
            self.length_bytes = self.length_bytes.max(offset + bytes.len() as u64);
        }
    }

    fn set_length(&mut self, length_bytes: u64) {
        let first_gone = length_bytes.div_ceil(CHUNK_BYTES as u64);
        self.chunks.split_off(&first_gone);
        let within = (length_bytes % CHUNK_BYTES as u64) as usize;
        if within > 0
            && let Some(last) = self.chunks.get_mut(&(length_bytes / CHUNK_BYTES as u64))
        {
            last[within..].fill(0);
        }
        self.length_bytes = length_bytes;
    }
}

/// The end of a range, or an error for one that no file can hold.
pub(super) fn end_of(offset: u64, length: usize) -> io::Result<u64> {
    offset
        .checked_add(length as u64)
        .filter(|&end| end <= i64::MAX as u64)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

impl Storage for MemoryStorage {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let content = self.content.read();
        if !buffer.is_empty() && end_of(offset, buffer.len())? > content.length_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        content.read(offset, buffer);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        end_of(offset, bytes.len())?;
        self.content.write().write(offset, bytes);
        Ok(())
    }

    fn sync_range(&self, _offset: u64, _length_bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        end_of(length_bytes, 0)?;
        self.content.write().set_length(length_bytes);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.content.read().length_bytes)
    }

    fn lock(&self, exclusive: bool) -> io::Result<()> {
        self.opener.take(exclusive)
    }
}
