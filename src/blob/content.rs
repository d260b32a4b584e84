//! The chunks of one blob: read, append, truncate, overwrite, remove.
//!
//! # Invariants
//!
//! 1. After each call, failed or not, size and checksum are those of the chunks, unless the
//!    transaction has failed.
//! 2. Only chunks that a change touches are read or written.
//! 3. A chunk has the length that size and chunk length ask for; a stored one that has not is
//!    damage.

use std::io::Read;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use super::crc::shift;
use super::{CHUNK_BYTES, CHUNKS, Flaw, GROUP_BYTES, LAST_NUMBER};
use crate::checksum;
use crate::moment::{FACTS_TREE, Moment};
use crate::txn::tree_mut::Pieces;
use crate::txn::value::{LongValue, ValueRef};
use crate::txn::view::TreeView;
use crate::txn::write::WriteTransaction;
use crate::{Error, Result};

/// Reads of so many bytes go straight into the reader's buffer; smaller ones through the map, without
/// a call for each.
pub(super) const DIRECT_BYTES: usize = 16 << 10;

/// Where the content of a blob is, and what it is as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub number: u64,
    pub size: u64,
    pub chunk_bytes: u32,
    /// CRC-32C of the whole.
    pub checksum: u32,
}

/// The key of a chunk.
pub(super) fn chunk_key(number: u64, index: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The keys of the chunks of a blob from one on.
pub(super) fn keys_from(number: u64, index: u32) -> RangeInclusive<[u8; 12]> {
    chunk_key(number, index)..=chunk_key(number, u32::MAX)
}

/// The last number that a blob got, or 0.
pub(super) fn last_number(moment: &impl Moment) -> Result<u64> {
    let Some(facts) = moment.system_view(FACTS_TREE) else {
        return Ok(0);
    };
    let Some(bytes) = facts.get(LAST_NUMBER)? else {
        return Ok(0);
    };
    let number = bytes.first_chunk().ok_or_else(|| {
        let flaw = Flaw {
            what: "the last number of a blob is not 8 bytes long",
            expected: 8,
            found: bytes.len() as u64,
        };
        flaw.at(FACTS_TREE, LAST_NUMBER.as_bytes())
    })?;
    Ok(u64::from_le_bytes(*number))
}

/// A number would be given again that a blob has.
pub(super) fn is_taken(last: u64, taken: u64) -> Error {
    let flaw = Flaw {
        what: "the last number of a blob is lower than that of another",
        expected: taken,
        found: last,
    };
    flaw.at(FACTS_TREE, LAST_NUMBER.as_bytes())
}

/// Takes a number that no blob had before.
pub(super) fn take_number(tx: &mut WriteTransaction) -> Result<u64> {
    let last = last_number(tx)?;
    let number = last.checked_add(1).ok_or_else(|| {
        let flaw = Flaw {
            what: "the last number of a blob is the greatest that there is",
            expected: 0,
            found: last,
        };
        flaw.at(FACTS_TREE, LAST_NUMBER.as_bytes())
    })?;
    let has_chunks = |view: TreeView<'_>| {
        Ok(view
            .range(keys_from(number, 0))
            .next()
            .transpose()?
            .is_some())
    };
    if tx.system_view(CHUNKS).map_or(Ok(false), has_chunks)? {
        return Err(is_taken(last, number));
    }
    tx.system_tree(FACTS_TREE)?
        .put(LAST_NUMBER, number.to_le_bytes())?;
    Ok(number)
}

impl Content {
    /// No content yet.
    pub(super) fn new(number: u64) -> Self {
        Content {
            number,
            size: 0,
            chunk_bytes: CHUNK_BYTES,
            checksum: 0,
        }
    }

    pub(super) fn chunks(&self) -> u64 {
        self.size.div_ceil(u64::from(self.chunk_bytes.max(1)))
    }

    /// Chunks are numbered with 32 bits.
    pub(super) fn max_chunks(&self) -> u64 {
        1 << 32
    }

    /// The chunk that a byte is in, and where in it.
    pub(super) fn place(&self, offset: u64) -> (u32, usize) {
        let chunk_bytes = u64::from(self.chunk_bytes.max(1));
        (
            (offset / chunk_bytes) as u32,
            (offset % chunk_bytes) as usize,
        )
    }

    /// How many bytes are before a chunk in the group that it was written with. `None`: that is not a
    /// whole group.
    pub(super) fn place_in_group(&self, index: u32) -> Option<u64> {
        let begin = u64::from(index) * u64::from(self.chunk_bytes);
        let before = begin % GROUP_BYTES;
        (begin - before + GROUP_BYTES <= self.size).then_some(before)
    }

    /// How long a chunk must be.
    pub(super) fn length_of(&self, index: u32) -> u64 {
        let begin = u64::from(index) * u64::from(self.chunk_bytes);
        u64::from(self.chunk_bytes).min(self.size.saturating_sub(begin))
    }

    pub(super) fn damage(
        &self,
        index: u32,
        what: &'static str,
        expected: u64,
        found: u64,
    ) -> Error {
        let flaw = Flaw {
            what,
            expected,
            found,
        };
        flaw.at(CHUNKS, format!("{}/{index}", self.number).as_bytes())
    }

    /// Invariant 3.
    fn check_length(&self, index: u32, found: u64) -> Result<()> {
        let expected = self.length_of(index);
        if found != expected {
            let what = "a chunk of a blob has another length than it should";
            return Err(self.damage(index, what, expected, found));
        }
        Ok(())
    }

    fn chunk<'v>(
        &self,
        view: Option<TreeView<'v>>,
        index: u32,
        wanted_bytes: usize,
    ) -> Result<ValueRef<'v>> {
        let key = chunk_key(self.number, index);
        let chunk = match view {
            Some(view) if wanted_bytes < self.chunk_bytes as usize / 4 => {
                view.get_for_a_part(&key)?
            }
            Some(view) => view.get(key)?,
            None => None,
        };
        let chunk = chunk.ok_or_else(|| {
            let what = "a chunk of a blob is missing";
            self.damage(index, what, self.length_of(index), 0)
        })?;
        self.check_length(index, chunk.len() as u64)?;
        Ok(chunk)
    }

    /// Hands over the chunk that `offset` is in, and the place of that byte in it. `None` at the end.
    /// `wanted_bytes` of it are going to be read.
    pub(super) fn with_chunk<T>(
        &self,
        moment: &impl Moment,
        offset: u64,
        wanted_bytes: usize,
        then: impl FnOnce(&ValueRef<'_>, usize) -> T,
    ) -> Result<Option<T>> {
        if offset >= self.size {
            return Ok(None);
        }
        let (index, within) = self.place(offset);
        let chunk = self.chunk(moment.system_view(CHUNKS), index, wanted_bytes)?;
        Ok(Some(then(&chunk, within)))
    }

    /// The chunk with this byte, to copy parts of it, and its number and the place of the byte in it.
    /// `None` at the end, for a chunk that is short, and in a transaction.
    pub(super) fn long_chunk<'m>(
        &self,
        moment: &'m impl Moment,
        offset: u64,
    ) -> Result<Option<(LongValue<'m>, u32, usize)>> {
        let view = moment.system_view(CHUNKS).filter(|_| offset < self.size);
        let (index, within) = self.place(offset);
        let key = chunk_key(self.number, index);
        let chunk = view.map(|view| view.long_value(&key)).transpose()?;
        let Some(chunk) = chunk.flatten() else {
            return Ok(None);
        };
        self.check_length(index, chunk.len() as u64)?;
        Ok(Some((chunk, index, within)))
    }

    /// Copies what there is from `offset` on, up to the length of `into`. Returns how much it was. `find` is
    /// [`long_chunk`](Self::long_chunk), or what knows its answers.
    pub(super) fn read<'m, M: Moment>(
        &self,
        moment: &'m M,
        offset: u64,
        into: &mut [u8],
        find: impl Fn(&'m M, u64) -> Result<Option<(LongValue<'m>, u32, usize)>>,
    ) -> Result<usize> {
        let mut done = 0;
        // Also what is left of it in the next chunk: the map would show all that the system keeps
        // together there, which counts as memory of the process.
        let is_direct = into.len() >= DIRECT_BYTES;
        while let Some(rest) = into.get_mut(done..)
            && !rest.is_empty()
        {
            if is_direct && let Some((chunk, _, within)) = find(moment, offset + done as u64)? {
                let length = rest.len().min(chunk.len().saturating_sub(within));
                chunk.copy(within, rest.get_mut(..length).unwrap_or_default())?;
                done += length;
                continue;
            }
            let copied =
                self.with_chunk(moment, offset + done as u64, rest.len(), |chunk, within| {
                    let bytes = chunk.get(within..).unwrap_or_default();
                    let length = bytes.len().min(rest.len());
                    copy(rest, bytes.get(..length).unwrap_or_default());
                    length
                })?;
            match copied {
                None | Some(0) => break,
                Some(copied) => done += copied,
            }
        }
        Ok(done)
    }

    /// Appends all that the source gives. If it fails, what it gave is gone again.
    pub(super) fn append(
        &mut self,
        tx: &mut WriteTransaction,
        source: &mut dyn Read,
    ) -> Result<()> {
        let before = self.size;
        let mut chunk = vec![0; self.chunk_bytes as usize];
        loop {
            let (index, begin) = self.place(self.size);
            if begin > 0 {
                copy(
                    &mut chunk,
                    &self.chunk(tx.system_view(CHUNKS), index, usize::MAX)?,
                );
            }
            let space = chunk.get_mut(begin..).unwrap_or_default();
            let (length, read) = fill(source, space);
            let wanted = space.len();
            if let Err(error) = read {
                let offset = self.size - before + length as u64;
                self.truncate(tx, before)?;
                return Err(source_failed(offset, error));
            }
            if length == 0 {
                return Ok(());
            }
            self.store_last(
                tx,
                index,
                begin,
                chunk.get(..begin + length).unwrap_or_default(),
            )?;
            if length < wanted {
                return Ok(());
            }
        }
    }

    /// Appends bytes. A last chunk that is not full is filled first.
    pub(super) fn append_bytes(
        &mut self,
        tx: &mut WriteTransaction,
        mut bytes: &[u8],
    ) -> Result<()> {
        if self.place(self.size).1 > 0 {
            return self.append(tx, &mut bytes);
        }
        let checksums = self.checksums(bytes);
        self.append_chunks(tx, bytes, &checksums)
    }

    /// The checksum of each chunk of bytes that are going to be appended to whole chunks.
    pub(super) fn checksums(&self, bytes: &[u8]) -> Vec<u32> {
        let chunks = bytes.chunks(self.chunk_bytes.max(1) as usize);
        chunks.map(checksum::crc32c).collect()
    }

    /// What it is once these bytes are appended to it, whose chunks have these checksums. (That of the
    /// whole follows from them: bytes are looked at once for both.)
    pub(super) fn grown(mut self, bytes: &[u8], checksums: &[u32]) -> Self {
        let chunks = bytes.chunks(self.chunk_bytes.max(1) as usize);
        for (chunk, of_chunk) in chunks.zip(checksums) {
            self.checksum = shift(self.checksum, chunk.len() as u64) ^ of_chunk;
        }
        self.size = self.size.saturating_add(bytes.len() as u64);
        self
    }

    /// Appends chunks with their checksums to whole chunks.
    pub(super) fn append_chunks(
        &mut self,
        tx: &mut WriteTransaction,
        bytes: &[u8],
        checksums: &[u32],
    ) -> Result<()> {
        let grown = self.grown(bytes, checksums);
        self.check_size(grown.size)?;
        let (number, (first, _)) = (self.number, self.place(self.size));
        let pieces = Pieces {
            bytes,
            each: self.chunk_bytes.max(1) as usize,
            checksums,
        };
        tx.system_tree(CHUNKS)?.put_pieces(&pieces, &|index| {
            chunk_key(number, first.saturating_add(index))
        })?;
        *self = grown;
        Ok(())
    }

    /// Stores the last chunk, of which what is from `begin` on is new.
    fn store_last(
        &mut self,
        tx: &mut WriteTransaction,
        index: u32,
        begin: usize,
        chunk: &[u8],
    ) -> Result<()> {
        if begin == 0 {
            return self.append_chunks(tx, chunk, &[checksum::crc32c(chunk)]);
        }
        let new = chunk.get(begin..).unwrap_or_default();
        let size = self.size.saturating_add(new.len() as u64);
        self.check_size(size)?;
        tx.system_tree(CHUNKS)?
            .put(chunk_key(self.number, index), chunk)?;
        self.size = size;
        self.checksum = checksum::append(self.checksum, new);
        Ok(())
    }

    fn check_size(&self, length: u64) -> Result<()> {
        let limit = self.max_chunks() * u64::from(self.chunk_bytes);
        if length > limit {
            return Err(Error::BlobTooLong { length, limit });
        }
        Ok(())
    }

    /// Cuts the content to a size, or fills it up with zeros.
    pub(super) fn truncate(&mut self, tx: &mut WriteTransaction, size: u64) -> Result<()> {
        self.check_size(size)?;
        if size >= self.size {
            let zeros = size - self.size;
            return self.append(tx, &mut std::io::repeat(0).take(zeros));
        }
        tx.together(|tx| {
            let (index, within) = self.place(size);
            let mut checksum = self.checksum_of_chunks(tx, index)?;
            let mut first_gone = keys_from(self.number, index);
            if within > 0 {
                let chunk = self.chunk(tx.system_view(CHUNKS), index, usize::MAX)?;
                let kept = chunk.get(..within).unwrap_or_default().to_vec();
                drop(chunk);
                checksum = checksum::append(checksum, &kept);
                tx.system_tree(CHUNKS)?
                    .put(chunk_key(self.number, index), kept)?;
                first_gone = keys_from(self.number, index.saturating_add(1));
            }
            if self.place(self.size - 1).0 >= first_after(index, within) {
                tx.system_tree(CHUNKS)?.delete_range(first_gone)?;
            }
            self.size = size;
            self.checksum = checksum;
            Ok(())
        })
    }

    /// The checksum of the chunks before `end`, from what the tree knows of each: none is read.
    pub(super) fn checksum_of_chunks(&self, moment: &impl Moment, end: u32) -> Result<u32> {
        let mut whole = 0;
        self.for_each_chunk(moment, end, |length, checksum| {
            whole = shift(whole, length) ^ checksum;
        })?;
        Ok(whole)
    }

    /// Length and checksum of each chunk before `end`. One that is missing, or has another length
    /// than it should, is damage.
    fn for_each_chunk(
        &self,
        moment: &impl Moment,
        end: u32,
        mut visit: impl FnMut(u64, u32),
    ) -> Result<()> {
        let Some(view) = moment.system_view(CHUNKS).filter(|_| end > 0) else {
            return self.check_found(0, end);
        };
        let last = chunk_key(self.number, end - 1);
        let range = (
            Bound::Included(chunk_key(self.number, 0)),
            Bound::Included(last),
        );
        let mut cursor = view.cursor_in(range);
        let mut more = cursor.first()?;
        let mut found = 0;
        while more {
            if cursor.key() != chunk_key(self.number, found) {
                break;
            }
            let (length, checksum) = cursor.length_and_checksum()?;
            self.check_length(found, length)?;
            visit(length, checksum);
            found += 1;
            more = cursor.next()?;
        }
        self.check_found(found, end)
    }

    fn check_found(&self, found: u32, end: u32) -> Result<()> {
        if found < end {
            let what = "a chunk of a blob is missing";
            return Err(self.damage(found, what, self.length_of(found), 0));
        }
        Ok(())
    }

    /// Compares all chunks with size and checksum. Returns how many there are.
    pub(super) fn check(&self, moment: &impl Moment) -> Result<u64> {
        let chunks = self.chunks();
        let end = u32::try_from(chunks).unwrap_or(u32::MAX);
        let checksum = self.checksum_of_chunks(moment, end)?;
        if checksum != self.checksum {
            let (expected, found) = (u64::from(self.checksum), u64::from(checksum));
            let what = "the content of a blob does not match its checksum";
            return Err(self.damage(0, what, expected, found));
        }
        Ok(chunks)
    }

    /// Writes bytes at an offset: over what is there, and behind the end. What is between the end
    /// and the offset becomes zeros.
    pub(super) fn write_at(
        &mut self,
        tx: &mut WriteTransaction,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        self.check_size(offset.saturating_add(bytes.len() as u64))?;
        tx.together(|tx| {
            if offset > self.size {
                self.truncate(tx, offset)?;
            }
            let inside = usize::try_from(self.size - offset).unwrap_or(usize::MAX);
            let (over, behind) = bytes.split_at(inside.min(bytes.len()));
            self.overwrite(tx, offset, over)?;
            self.append_bytes(tx, behind)
        })
    }

    fn overwrite(
        &mut self,
        tx: &mut WriteTransaction,
        mut offset: u64,
        mut bytes: &[u8],
    ) -> Result<()> {
        while !bytes.is_empty() {
            let (index, begin) = self.place(offset);
            let mut chunk = self
                .chunk(tx.system_view(CHUNKS), index, usize::MAX)?
                .to_vec();
            let target = chunk.get_mut(begin..).unwrap_or_default();
            let (new, rest) = bytes.split_at(bytes.len().min(target.len()));
            let target = target.get_mut(..new.len()).unwrap_or_default();
            let difference = checksum::crc32c(target) ^ checksum::crc32c(new);
            copy(target, new);
            tx.system_tree(CHUNKS)?
                .put(chunk_key(self.number, index), &chunk)?;
            offset += new.len() as u64;
            self.checksum ^= shift(difference, self.size - offset);
            bytes = rest;
        }
        Ok(())
    }

    /// Removes all chunks.
    pub(super) fn remove(&self, tx: &mut WriteTransaction) -> Result<()> {
        remove_chunks(tx, self.number)
    }
}

/// Removes all chunks of a number, whole subtrees at once.
pub(super) fn remove_chunks(tx: &mut WriteTransaction, number: u64) -> Result<()> {
    if tx.system_view(CHUNKS).is_none_or(|view| view.is_empty()) {
        return Ok(());
    }
    tx.system_tree(CHUNKS)?.delete_range(keys_from(number, 0))?;
    Ok(())
}

/// The first chunk that goes when a blob is cut `within` chunk `index`.
fn first_after(index: u32, within: usize) -> u32 {
    index.saturating_add(u32::from(within > 0))
}

/// Copies as much as fits both.
pub(super) fn copy(to: &mut [u8], from: &[u8]) {
    let length = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..length), from.get(..length)) {
        to.copy_from_slice(from);
    }
}

/// Reads until the buffer is full or the source ends. Returns how much it was, even if the source
/// failed then.
pub(super) fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> (usize, std::io::Result<()>) {
    let mut filled = 0;
    while let Some(space) = buffer.get_mut(filled..)
        && !space.is_empty()
    {
        match source.read(space) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled.min(buffer.len()), Ok(()))
}

/// What a failed source means. If it is a blob itself, its own error says more.
pub(super) fn source_failed(offset: u64, error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::BlobSource {
            offset,
            source: Arc::new(error),
        },
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;
    use crate::Aurora;

    /// With the same number twice, a blob would get the chunks of another.
    #[test]
    fn the_last_number_is_not_given_twice() {
        let db = Aurora::in_memory().unwrap();
        db.put_blob_from("a", &b"one"[..]).unwrap();
        for (last, can_go_on) in [(u64::MAX - 1, true), (u64::MAX, false)] {
            db.write(|tx| {
                let mut facts = tx.system_tree(FACTS_TREE)?;
                facts.put(LAST_NUMBER, last.to_le_bytes()).map(drop)
            })
            .unwrap();
            let put = db.put_blob_from("b", &b"two"[..]);
            assert_eq!(put.is_ok(), can_go_on);
            assert!(can_go_on || put.is_err_and(|error| error.is_corruption()));
        }
    }
}
