//! Streams out: a blob as a snapshot sees it.

use std::cell::Cell;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::content::DIRECT_BYTES;
use super::crc::shift;
use super::found::Found;
use super::meta::{BlobInfo, Meta};
use super::{Flaw, GROUP_BYTES, KEYS};
use crate::format::RunRef;
use crate::txn::snapshot::Snapshot;
use crate::txn::value::LongValue;
use crate::work::Work;
use crate::{Error, Result};

/// Reads a blob as it was when it was asked for, whatever becomes of it meanwhile.
///
/// It holds a snapshot. Every chunk is checked when it is first read; when all of the content was
/// read in order, the checksum of the whole is compared too, and if it differs the read that
/// reaches the end is an error.
///
/// It is a [`BufRead`] as well: lines can be read without another buffer, and
/// [`fill_buf`](BufRead::fill_buf) gives what follows in the chunk, which is a part of the map of the
/// file where that can be (on Linux, for each whole 2 MiB of a blob). Else it is a copy in memory that
/// the reader keeps, of at most a chunk. If the checksum of the whole differs, the `fill_buf` after the
/// last bytes is an error.
///
/// ```
/// use std::io::{Read, Seek, SeekFrom};
///
/// # let db = aurora::Aurora::in_memory()?;
/// db.put_blob_from("poem", &b"Tyger Tyger, burning bright"[..])?;
/// let mut poem = db.get_blob("poem")?.unwrap();
/// db.delete_blob("poem")?;
///
/// let mut text = String::new();
/// poem.read_to_string(&mut text).unwrap();
/// assert!(text.ends_with("bright"));
/// poem.seek(SeekFrom::Start(6)).unwrap();
/// assert_eq!(poem.bytes().next().unwrap().unwrap(), b'T');
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BlobReader {
    snapshot: Snapshot,
    key: Arc<[u8]>,
    meta: Arc<Meta>,
    expiry_ms: Option<u64>,
    position: u64,
    /// Up to where it was read in order, and the checksum of the chunks that are whole before that.
    in_order: (u64, u32),
    held: Held,
    shown: Shown,
    found: Arc<Found>,
    /// What [`BufRead::consume`] could not say.
    failure: Option<Error>,
}

impl BlobReader {
    pub(super) fn new(snapshot: Snapshot, key: &[u8], meta: Meta, expiry_ms: Option<u64>) -> Self {
        BlobReader {
            snapshot,
            key: key.into(),
            meta: Arc::new(meta),
            expiry_ms,
            position: 0,
            in_order: (0, 0),
            held: Held::default(),
            shown: Shown::default(),
            found: Arc::default(),
            failure: None,
        }
    }

    /// What the blob is like.
    pub fn info(&self) -> BlobInfo {
        self.meta.info(self.expiry_ms)
    }

    /// Bytes of the content.
    pub fn size(&self) -> u64 {
        self.meta.content.size
    }

    /// Reads from an offset on, until the buffer is full or the blob ends. Returns how many bytes
    /// it were. Does not move the position of the reader, and touches only the chunks of the range.
    pub fn read_range(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let find = |_: &_, at| self.long_chunk(at);
        self.meta.content.read(&self.snapshot, offset, buffer, find)
    }

    /// The chunk with this byte, if it is long, its number, and the place of the byte in it.
    fn long_chunk(&self, offset: u64) -> Result<Option<(LongValue<'_>, u32, usize)>> {
        let content = &self.meta.content;
        let (index, within) = content.place(offset);
        if offset < content.size
            && let Some(run) = self.found.get(index)
        {
            return Ok(Some((self.snapshot.long_value(run), index, within)));
        }
        let chunk = content.long_chunk(&self.snapshot, offset)?;
        if let Some((chunk, index, _)) = &chunk {
            self.found.put(*index, chunk.run());
        }
        Ok(chunk)
    }

    /// The `length` bytes from an offset on, fewer if the blob ends before. Await it, or wait for
    /// it.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// db.put_blob_from("poem", &b"Tyger Tyger, burning bright"[..])?;
    /// let poem = db.get_blob("poem")?.unwrap();
    /// assert_eq!(poem.read_at(13, 7).wait()?, b"burning");
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn read_at(&self, offset: u64, length: usize) -> Work<'static, Vec<u8>> {
        let reader = self.clone();
        Work::on_thread(move || {
            let rest = reader.size().saturating_sub(offset);
            let length = length.min(usize::try_from(rest).unwrap_or(usize::MAX));
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(length).map_err(|_| {
                let source = io::Error::from(io::ErrorKind::OutOfMemory);
                Error::io("read a blob into memory", offset, source)
            })?;
            reader.read_into(offset, length, &mut bytes)?;
            Ok(bytes)
        })
    }

    /// Appends the `length` bytes from an offset on, fewer if the blob ends before. Memory is touched only as far as there
    /// are chunks: a damaged record can speak of any length.
    fn read_into(&self, offset: u64, length: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let mut left = length;
        while left > 0 {
            let done = bytes.len();
            let step = left.min(GROUP_BYTES as usize);
            bytes.resize(done + step, 0);
            let at = offset.saturating_add((length - left) as u64);
            let read = self.read_range(at, bytes.get_mut(done..).unwrap_or_default())?;
            bytes.truncate(done + read);
            if read < step {
                break;
            }
            left -= step;
        }
        Ok(())
    }

    /// Copies what follows the position in its chunk. Returns how much it was.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let (content, position) = (self.meta.content, self.position);
        if buffer.len() >= DIRECT_BYTES
            && let Some((chunk, index, within)) = content.long_chunk(&self.snapshot, position)?
        {
            let length = buffer.len().min(chunk.len().saturating_sub(within));
            let buffer = buffer.get_mut(..length).unwrap_or_default();
            if length == chunk.len()
                && let Some(before) = content.place_in_group(index)
            {
                chunk.copy_streamed(before, buffer)?;
            } else if length == chunk.len()
                || (chunk.is_checked() && self.held.index != Some(index))
            {
                chunk.copy(within, buffer)?;
            } else {
                // It has to be read as a whole to be checked: what follows is at hand then.
                self.held.read(&chunk, index)?;
                super::content::copy(buffer, self.held.bytes().get(within..).unwrap_or_default());
            }
            let is_end = within + length == chunk.len();
            return self.moved(length, is_end.then_some((chunk.len(), chunk.checksum())));
        }
        let step = content.with_chunk(&self.snapshot, position, usize::MAX, |chunk, within| {
            let rest = chunk.get(within..).unwrap_or_default();
            super::content::copy(buffer, rest);
            let length = buffer.len().min(rest.len());
            let is_end = length == rest.len();
            (length, is_end.then(|| (chunk.len(), chunk.checksum())))
        })?;
        match step {
            Some((length, ended)) => self.moved(length, ended),
            None => Ok(0),
        }
    }

    /// Makes the chunk at the position ready to be looked at: where it lies, or copied.
    fn bring(&mut self, index: u32) -> Result<()> {
        let content = self.meta.content;
        let Some((chunk, ..)) = content.long_chunk(&self.snapshot, self.position)? else {
            // It is short.
            self.hide(None);
            let held = &mut self.held;
            let step = content.with_chunk(&self.snapshot, self.position, usize::MAX, |chunk, _| {
                held.fill(index, chunk.len(), chunk.checksum(), |into| {
                    into.copy_from_slice(chunk);
                    Ok(())
                })
            });
            return step?.unwrap_or(Ok(()));
        };
        let run = chunk.run();
        let before = content.place_in_group(index);
        if before.map_or(Ok(false), |before| chunk.show(before))? {
            self.hide(Some((index, run)));
            return Ok(());
        }
        self.hide(None);
        self.held.read(&self.snapshot.long_value(run), index)
    }

    /// What was shown is looked at no more, but perhaps something else.
    fn hide(&mut self, next: Option<(u32, RunRef)>) {
        let before = std::mem::replace(&mut self.shown.0, next);
        if let Some((_, run)) = before {
            let next = next.as_ref().map(|(_, run)| run);
            self.snapshot.long_value(run).leave(next);
        }
    }

    /// What follows the position in its chunk, as it lies in memory. Nothing at the end.
    fn look(&mut self) -> Result<&[u8]> {
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        let content = self.meta.content;
        if self.position >= content.size {
            return Ok(&[]);
        }
        let (index, within) = content.place(self.position);
        if self.shown_at(index).is_none() && self.held.index != Some(index) {
            self.bring(index)?;
        }
        let chunk = match self.shown_at(index) {
            Some(chunk) => chunk.shown(),
            None => Some(self.held.bytes()),
        };
        let rest = chunk.and_then(|chunk| chunk.get(within..));
        rest.ok_or_else(|| {
            let what = "a chunk of a blob is not where it was a moment ago";
            content.damage(index, what, content.length_of(index), 0)
        })
    }

    /// The chunk, if it is the one that is shown.
    fn shown_at(&self, index: u32) -> Option<LongValue<'_>> {
        let (at, run) = self.shown.0?;
        (at == index).then(|| self.snapshot.long_value(run))
    }

    /// So many bytes of what [`look`](Self::look) gave were read.
    fn pass(&mut self, wanted: usize) -> Result<()> {
        let content = self.meta.content;
        if self.position >= content.size {
            return Ok(()); // a seek may lead anywhere
        }
        let (index, within) = content.place(self.position);
        let length = content.length_of(index) as usize;
        let step = wanted.min(length.saturating_sub(within));
        let is_end = within + step == length;
        let checksum = match self.shown_at(index) {
            Some(chunk) => chunk.checksum(),
            None if self.held.index == Some(index) => self.held.checksum,
            None => return Ok(()), // nothing was looked at
        };
        self.moved(step, is_end.then_some((length, checksum)))?;
        Ok(())
    }

    /// So many bytes were read, up to the end of a chunk of this length and checksum. (Each chunk was
    /// checked against its own checksum. That of the whole follows from those of the chunks, without
    /// another look at the bytes.)
    fn moved(&mut self, length: usize, ended: Option<(usize, u32)>) -> Result<usize> {
        let (end, mut checksum) = self.in_order;
        let position = self.position + length as u64;
        if self.position <= end && position > end {
            if let Some((bytes, of_chunk)) = ended {
                checksum = shift(checksum, bytes as u64) ^ of_chunk;
            }
            let content = &self.meta.content;
            if position == content.size && checksum != content.checksum {
                return Err(self.damage(checksum));
            }
            self.in_order = (position, checksum);
        }
        self.position = position;
        Ok(length)
    }

    fn damage(&self, checksum: u32) -> Error {
        let flaw = Flaw {
            what: "the content of a blob does not match its checksum",
            expected: u64::from(self.meta.content.checksum),
            found: u64::from(checksum),
        };
        flaw.at(KEYS, &self.key)
    }
}

/// An error of the database in the form that `std::io` asks for; `downcast` gives it back.
fn as_io(error: Error) -> io::Error {
    let kind = if error.is_corruption() {
        io::ErrorKind::InvalidData
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, error)
}

thread_local! {
    /// What the last reader of this thread held a chunk in. (With fresh memory for each, blobs of 64 KiB
    /// took a tenth longer, and of 1 MiB a fifteenth.)
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A chunk that was copied as a whole, which it has to be to be checked.
#[derive(Debug, Default)]
struct Held {
    index: Option<u32>,
    /// CRC-32C of the chunk.
    checksum: u32,
    length: usize,
    memory: Vec<u8>,
}

impl Held {
    fn bytes(&self) -> &[u8] {
        self.memory.get(..self.length).unwrap_or_default()
    }

    fn read(&mut self, chunk: &LongValue<'_>, index: u32) -> Result<()> {
        if self.index == Some(index) {
            return Ok(());
        }
        self.fill(index, chunk.len(), chunk.checksum(), |into| {
            chunk.copy(0, into)
        })
    }

    fn fill(
        &mut self,
        index: u32,
        length: usize,
        checksum: u32,
        copy: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        self.index = None;
        if self.memory.len() < length {
            // A thread that ends may have none any more.
            self.memory = SPARE.try_with(Cell::take).unwrap_or_default();
        }
        if self.memory.len() < length {
            self.memory.resize(length, 0);
        }
        copy(self.memory.get_mut(..length).unwrap_or_default())?;
        (self.index, self.length, self.checksum) = (Some(index), length, checksum);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if !memory.is_empty() {
            let _ = SPARE.try_with(|spare| spare.set(memory));
        }
    }
}

/// A reader's copy holds nothing.
impl Clone for Held {
    fn clone(&self) -> Self {
        Held::default()
    }
}

/// The chunk that is shown where it lies: its number, and its place.
#[derive(Debug, Default)]
struct Shown(Option<(u32, RunRef)>);

/// A reader's copy was shown nothing.
impl Clone for Shown {
    fn clone(&self) -> Self {
        Shown::default()
    }
}

impl Drop for BlobReader {
    fn drop(&mut self) {
        self.hide(None);
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.step(buffer).map_err(as_io)
    }

    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let rest = self.size().saturating_sub(self.position);
        buffer.try_reserve_exact(usize::try_from(rest).unwrap_or(usize::MAX))?;
        let begin = buffer.len();
        loop {
            let end = buffer.len();
            let more = self.size().saturating_sub(self.position);
            let more = more.min(u64::from(self.meta.content.chunk_bytes)) as usize;
            buffer.resize(end + more, 0);
            let step = self.step(buffer.get_mut(end..).unwrap_or_default());
            buffer.truncate(end + *step.as_ref().unwrap_or(&0));
            if step.map_err(as_io)? == 0 {
                return Ok(buffer.len() - begin);
            }
        }
    }
}

/// One chunk at a time.
impl BufRead for BlobReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.look().map_err(as_io)
    }

    fn consume(&mut self, amount: usize) {
        if amount > 0 {
            self.failure = self.pass(amount).err();
        }
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(by) => self.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let target = target.ok_or_else(|| {
            let what = "a seek to before the beginning, or beyond all offsets";
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })?;
        if target != self.position {
            self.failure = None;
        }
        self.position = target;
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Aurora;

    /// A record that speaks of more than there is took memory for all of it before anything was read.
    #[test]
    fn what_a_record_says_of_the_length_takes_no_memory() {
        let db = Aurora::in_memory().unwrap();
        let content: Vec<u8> = (0..3_000_000u32)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect();
        db.put_blob_from("b", &content[..]).unwrap();
        let reader = db.get_blob("b").unwrap().unwrap();
        for (offset, length) in [(0, 3_000_000), (17, 2_500_000), (2_999_990, 100), (5, 0)] {
            let read = reader.read_at(offset, length).wait().unwrap();
            let from = offset as usize;
            assert_eq!(read, content[from..(from + length).min(content.len())]);
        }
        let mut reader = db.get_blob("b").unwrap().unwrap();
        let content = &mut Arc::make_mut(&mut reader.meta).content;
        content.size = u64::from(content.chunk_bytes) << 16;
        let (size, mut bytes) = (content.size as usize, Vec::new());
        let error = reader.read_into(0, size, &mut bytes).unwrap_err();
        assert!(error.is_corruption(), "{error}");
        assert!(bytes.len() < 10_000_000, "{}", bytes.len());
    }

    /// Whichever way it is read. It stays an error until the position is another.
    #[test]
    fn a_wrong_checksum_of_the_whole_is_an_error_at_the_end() {
        let db = Aurora::in_memory().unwrap();
        let bytes = vec![7; 600_000];
        db.put_blob_from("b", &bytes[..]).unwrap();
        let mut reader = db.get_blob("b").unwrap().unwrap();
        Arc::make_mut(&mut reader.meta).content.checksum ^= 1;
        for _ in 0..2 {
            let error = reader.clone().read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let mut seen = 0;
            let error = loop {
                match reader.fill_buf().map(<[u8]>::len) {
                    Ok(length) => {
                        assert!(length > 0, "the end, and no error");
                        reader.consume(length);
                        seen += length;
                    }
                    Err(error) => break error,
                }
            };
            assert_eq!((seen, error.kind()), (600_000, io::ErrorKind::InvalidData));
            reader.stream_position().unwrap();
            assert!(reader.seek(SeekFrom::Current(i64::MIN)).is_err());
            assert!(reader.fill_buf().is_err());
            reader.seek(SeekFrom::Start(0)).unwrap();
        }
    }
}
