//! Content that is stored before anyone can see it, and becomes a blob in one transaction.
//!
//! # Invariants
//!
//! 1. A number is among the living uploads from before its transaction commits until its content
//!    is attached to a key, or its owner is gone. So what is listed as staged and is not among
//!    them, seen by one who has the writers' turn, belongs to nobody.
//! 2. Content that fits one group is not staged: it waits in memory for the transaction that
//!    makes it a blob.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use super::content::{Content, copy, fill, remove_chunks, source_failed, take_number};
use super::meta::{BlobInfo, BlobMeta, Meta};
use super::{CHUNK_BYTES, Flaw, GROUP_BYTES, STAGED};
use crate::db::Aurora;
use crate::events;
use crate::keys::expiry;
use crate::keys::record::Kind;
use crate::keys::store::put_record;
use crate::moment::Moment;
use crate::sync::{Mutex, shielded};
use crate::txn::write::{Durability, WriteTransaction};
use crate::{Error, Result};

const GROUP: usize = GROUP_BYTES as usize;
/// More than a group, so that content of exactly one group is known to end there.
const BUFFER_BYTES: usize = GROUP + 4096;

/// The numbers that writers of this process are filling, and the memory of the last that was done.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    /// With how many writers have each: a number whose transaction failed may be given to another before the first has
    /// heard of it.
    numbers: Mutex<BTreeMap<u64, u32>>,
    spare: Mutex<Buffer>,
}

impl Uploads {
    fn add(&self, number: u64) {
        *self.numbers.lock().entry(number).or_default() += 1;
    }

    fn remove(&self, number: u64) {
        let mut numbers = self.numbers.lock();
        if let Entry::Occupied(mut writers) = numbers.entry(number) {
            *writers.get_mut() -= 1;
            if *writers.get() == 0 {
                writers.remove();
            }
        }
    }

    fn contains(&self, number: u64) -> bool {
        self.numbers.lock().contains_key(&number)
    }
}

/// What came in and is not stored yet.
///
/// Its memory goes from one blob to the next: to zero as much that is new to the process took
/// longer than to copy a blob into it.
#[derive(Default)]
struct Buffer {
    /// Memory that was used before; what is behind `filled` has no meaning.
    bytes: Vec<u8>,
    filled: usize,
}

/// Without the content.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Buffer");
        shown.field("filled", &self.filled).finish_non_exhaustive()
    }
}

impl Buffer {
    fn filled(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// Room for so many more bytes, of which [`add`](Self::add) says how many came.
    fn space(&mut self, length: usize) -> &mut [u8] {
        let end = self.filled + length;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(self.filled..end).unwrap_or_default()
    }

    fn add(&mut self, length: usize) {
        self.filled = self.filled.saturating_add(length).min(self.bytes.len());
    }

    /// Takes so many bytes off the front.
    fn remove(&mut self, length: usize) {
        self.bytes
            .copy_within(length.min(self.filled)..self.filled, 0);
        self.filled = self.filled.saturating_sub(length);
    }
}

/// Removes what a crash left of blobs that were being written.
pub(crate) fn recover(db: &Aurora) -> Result<()> {
    let snapshot = db.begin_read()?;
    let staged = snapshot.system_view(STAGED);
    if db.handle.engine.settings.read_only || staged.is_none_or(|view| view.is_empty()) {
        return Ok(());
    }
    drop(snapshot); // so that what is removed is free at once
    match remove_dead(db.begin_write()?) {
        // It only costs space, and the next upload tries again.
        Err(error) if error.is_disk_full() => {
            let what = "what was left of unfinished blobs could not be removed";
            events::tell(move || tracing::warn!(%error, "{what}"));
            Ok(())
        }
        done => done,
    }
}

fn remove_dead(mut tx: WriteTransaction) -> Result<()> {
    tx.set_durability(Durability::Buffered);
    sweep(&mut tx)?;
    tx.commit()
}

/// Removes what is staged and belongs to nobody (invariant 1).
fn sweep(tx: &mut WriteTransaction) -> Result<()> {
    for number in staged_numbers(tx)? {
        if !tx.handle().uploads.contains(number) {
            remove_chunks(tx, number)?;
            tx.system_tree(STAGED)?.delete(number.to_be_bytes())?;
        }
    }
    Ok(())
}

pub(super) fn staged_numbers(moment: &impl Moment) -> Result<Vec<u64>> {
    let Some(view) = moment.system_view(STAGED) else {
        return Ok(Vec::new());
    };
    let mut numbers = Vec::new();
    for entry in view.iter() {
        let (key, _) = entry?;
        let number = key.as_slice().try_into().map_err(|_| {
            let flaw = Flaw {
                what: "the number of a staged blob is not 8 bytes long",
                expected: 8,
                found: key.len() as u64,
            };
            flaw.at(STAGED, &key)
        })?;
        numbers.push(u64::from_be_bytes(number));
    }
    Ok(numbers)
}

/// What is put into the record besides the content.
#[derive(Debug, Clone, Default)]
pub(super) struct Labels {
    pub said: BlobMeta,
    pub ttl: Option<std::time::Duration>,
}

impl Labels {
    /// When the blob expires. `None`: never, or too far away to say.
    fn expiry_ms(&self, now_ms: u64) -> Option<u64> {
        expiry::after(now_ms, self.ttl?)
    }
}

/// Stores the record of a new blob. What was under the key is freed.
pub(super) fn put_new(
    tx: &mut WriteTransaction,
    key: &[u8],
    content: Content,
    labels: &Labels,
) -> Result<BlobInfo> {
    let now_ms = tx.now_ms();
    let meta = Meta {
        content,
        created_ms: now_ms,
        said: labels.said.clone(),
    };
    let expiry_ms = labels.expiry_ms(now_ms);
    put_record(tx, key, Kind::Blob, &meta.encode()?, expiry_ms)?;
    Ok(meta.info(expiry_ms))
}

/// Content on its way in. Dropped before it is attached, it leaves nothing.
#[derive(Debug)]
pub(super) struct Stage {
    pub db: Aurora,
    /// What is stored. The number is 0 until something is.
    content: Content,
    /// What is not stored yet.
    buffer: Buffer,
    failure: Option<Error>,
}

impl Stage {
    pub(super) fn new(db: Aurora) -> Self {
        // In a child of a fork nobody may be there to let go of the lock. What is done next there is refused.
        let buffer = match db.handle.engine.check_origin() {
            Ok(()) => std::mem::take(&mut *db.handle.uploads.spare.lock()),
            Err(_) => Buffer::default(),
        };
        Stage {
            db,
            content: Content::new(0),
            buffer,
            failure: None,
        }
    }

    /// What came in so far.
    pub(super) fn size(&self) -> u64 {
        self.content.size + self.buffer.filled as u64
    }

    /// What is stored, and what is not yet.
    pub(super) fn parts(&self) -> (Content, &[u8]) {
        (self.content, self.buffer.filled())
    }

    fn check(&self) -> Result<()> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Takes bytes, as many as are given.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.check()?;
        while !bytes.is_empty() {
            if self.buffer.filled == 0 && bytes.len() > GROUP {
                let (group, rest) = bytes.split_at(GROUP);
                self.store(group)?;
                bytes = rest;
                continue;
            }
            let space = BUFFER_BYTES.saturating_sub(self.buffer.filled);
            let (now, rest) = bytes.split_at(space.min(bytes.len()));
            copy(self.buffer.space(now.len()), now);
            self.buffer.add(now.len());
            bytes = rest;
            self.relieve()?;
        }
        Ok(())
    }

    /// Takes all that a source gives.
    pub(super) fn read_from(&mut self, source: &mut dyn Read) -> Result<()> {
        self.check()?;
        loop {
            // In steps, so that a small blob takes little memory.
            let wanted = BUFFER_BYTES.saturating_sub(self.buffer.filled);
            let wanted = wanted.min(CHUNK_BYTES as usize);
            let (length, read) = fill(source, self.buffer.space(wanted));
            self.buffer.add(length);
            read.map_err(|error| source_failed(self.size(), error))?;
            if length < wanted {
                return Ok(());
            }
            self.relieve()?;
        }
    }

    /// Stores a group when the buffer is full.
    fn relieve(&mut self) -> Result<()> {
        if self.buffer.filled < BUFFER_BYTES {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let stored = self.store(buffer.filled().get(..GROUP).unwrap_or_default());
        buffer.remove(GROUP);
        self.buffer = buffer;
        stored
    }

    fn store(&mut self, group: &[u8]) -> Result<()> {
        let stored = self.store_group(group);
        if let Err(error) = &stored {
            // What is stored is not what `content` says any more.
            self.failure = Some(error.clone());
        }
        stored
    }

    fn store_group(&mut self, group: &[u8]) -> Result<()> {
        let mut tx = self.db.begin_write()?;
        tx.set_durability(Durability::Buffered);
        // What the transaction does not commit is not the upload's: others get the number again.
        let mut content = self.content;
        let is_first = content.number == 0;
        if is_first {
            sweep(&mut tx)?;
            content.number = take_number(&mut tx)?;
            tx.system_tree(STAGED)?
                .put(content.number.to_be_bytes(), [])?;
        }
        content.append_bytes(&mut tx, group)?;
        let uploads = &self.db.handle.uploads;
        if is_first {
            uploads.add(content.number); // before anyone can see that it is listed
        }
        if let Err(error) = tx.commit() {
            if is_first {
                uploads.remove(content.number);
            }
            return Err(error);
        }
        self.content = content;
        Ok(())
    }

    /// Makes it the blob of a key.
    pub(super) fn attach(
        &mut self,
        tx: &mut WriteTransaction,
        key: &[u8],
        labels: &Labels,
    ) -> Result<BlobInfo> {
        self.check_for(tx)?;
        let mut whole = self.content;
        if whole.number == 0 {
            whole.number = take_number(tx)?;
        }
        let checksums = whole.checksums(self.buffer.filled());
        let whole = whole.grown(self.buffer.filled(), &checksums);
        let info = put_new(tx, key, whole, labels)?;
        let mut stored = Content {
            number: whole.number,
            ..self.content
        };
        tx.together(|tx| {
            stored.append_chunks(tx, self.buffer.filled(), &checksums)?;
            self.unlist(tx)
        })?;
        Ok(info)
    }

    /// Whether it can become a part of this transaction.
    pub(super) fn check_for(&self, tx: &WriteTransaction) -> Result<()> {
        self.check()?;
        if !Arc::ptr_eq(&self.db.handle.engine, &tx.handle().engine) {
            return Err(Error::StagedElsewhere);
        }
        Ok(())
    }

    /// The content belongs to somebody else now, or to nobody: if the transaction does not commit,
    /// it is listed still and not among the living.
    fn unlist(&mut self, tx: &mut WriteTransaction) -> Result<()> {
        let number = std::mem::take(&mut self.content.number);
        if number > 0 {
            tx.system_tree(STAGED)?.delete(number.to_be_bytes())?;
            tx.handle().uploads.remove(number);
        }
        Ok(())
    }

    /// Removes what is stored, within a transaction that has taken a copy.
    pub(super) fn discard(&mut self, tx: &mut WriteTransaction) -> Result<()> {
        let number = self.content.number;
        if number > 0 {
            remove_chunks(tx, number)?;
        }
        self.unlist(tx)
    }
}

impl Drop for Stage {
    /// Waiting for the turn could wait for ever, for a transaction of this very thread. What cannot
    /// be removed now is removed by the next upload, or when the file is opened.
    fn drop(&mut self) {
        if self.db.handle.engine.check_origin().is_err() {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.filled = 0;
        *self.db.handle.uploads.spare.lock() = buffer;
        if self.content.number == 0 {
            return;
        }
        self.db.handle.uploads.remove(self.content.number);
        // A clock that panics here would end a process in which another panic has this dropped.
        let removed = shielded(
            "remove an unfinished blob",
            |_| {},
            || self.db.try_begin_write()?.map_or(Ok(()), remove_dead),
        );
        if let Err(error) = removed {
            events::tell(move || tracing::debug!(%error, "an unfinished blob is removed later"));
        }
    }
}
