//! Records in the tree of keys, always together with their entries in the expiry index. Blobs use
//! these functions too.
//!
//! # Invariants
//!
//! 1. A record and its index entry change in one transaction, here and nowhere else.
//! 2. A wrong argument is refused before anything has changed; whatever fails after the first
//!    change makes the transaction fail.
//! 3. Every change of a record is told to the hot tier, here and nowhere else.
//! 4. What a record refers to is freed when the record is replaced or removed, and not when only
//!    its expiry or its key changes.

use super::expiry::{self, OF_KEY};
use super::record::{Kind, MAX_HEAD_BYTES, Record, RecordRef};
use crate::blob;
use crate::format::node;
use crate::hot;
use crate::moment::Moment;
use crate::txn::write::WriteTransaction;
use crate::{Error, Result};

pub(crate) const KEYS: &str = "aurora/keys";

/// Hands the record of a key to a closure as it is stored, expired or not.
pub(super) fn stored<T>(
    moment: &impl Moment,
    key: &[u8],
    look: impl FnOnce(RecordRef<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let Some(tree) = moment.system_view(KEYS) else {
        return Ok(None);
    };
    let Some(bytes) = tree.get(key)? else {
        return Ok(None);
    };
    let record = RecordRef::decode(&bytes).map_err(|flaw| flaw.at(KEYS, key))?;
    look(record).map(Some)
}

/// Hands the records of keys that have not expired to a closure, and gives what it makes of them: one answer for each
/// key, in their order.
pub(super) fn live_many<'k, T>(
    moment: &impl Moment,
    keys: impl ExactSizeIterator<Item = &'k [u8]>,
    mut look: impl FnMut(&[u8], RecordRef<'_>) -> Result<T>,
) -> Result<Vec<Option<T>>> {
    let mut found = Vec::with_capacity(keys.len());
    let Some(tree) = moment.system_view(KEYS) else {
        found.resize_with(keys.len(), || None);
        return Ok(found);
    };
    let now_ms = moment.now_ms();
    tree.get_group(keys, |key, bytes| {
        let record = bytes.map(RecordRef::decode).transpose();
        let record = record.map_err(|flaw| flaw.at(KEYS, key))?;
        let record = record.filter(|record| !record.is_over(now_ms));
        found.push(record.map(|record| look(key, record)).transpose()?);
        Ok(true)
    })?;
    Ok(found)
}

/// Hands the record of a key to a closure, unless the key has expired.
pub(super) fn live<T>(
    moment: &impl Moment,
    key: &[u8],
    look: impl FnOnce(RecordRef<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let now_ms = moment.now_ms();
    let found = stored(moment, key, |record| {
        if record.is_over(now_ms) {
            return Ok(None);
        }
        look(record).map(Some)
    })?;
    Ok(found.flatten())
}

/// The record of a key, unless the key has expired.
pub(crate) fn find_record(moment: &impl Moment, key: &[u8]) -> Result<Option<Record>> {
    live(moment, key, |record| Ok(record.to_record()))
}

/// Stores a record. What was under the key before is replaced, and what that referred to is freed.
pub(crate) fn put_record(
    tx: &mut WriteTransaction,
    key: &[u8],
    kind: Kind,
    payload: &[u8],
    expiry_ms: Option<u64>,
) -> Result<()> {
    let record = RecordRef {
        kind,
        expiry_ms,
        payload,
    };
    write(tx, key, &record, replaced)
}

/// Stores a record that refers to the same things as the one before it: nothing is freed.
pub(crate) fn rewrite_record(
    tx: &mut WriteTransaction,
    key: &[u8],
    record: &RecordRef<'_>,
) -> Result<()> {
    write(tx, key, record, |_, _| Ok(()))
}

fn write(
    tx: &mut WriteTransaction,
    key: &[u8],
    record: &RecordRef<'_>,
    free: impl FnOnce(&mut WriteTransaction, &Record) -> Result<()>,
) -> Result<()> {
    check_fits(tx, key, record.payload.len())?;
    // Before, so that what is stored now is not swept before those who refer to it are done.
    tx.together(expiry::relieve)?;
    let old = outgoing(tx, key)?;
    tx.touch(hot::KEYS, key);
    tx.system_tree(KEYS)?.put(key, record.encode())?;
    tx.together(|tx| {
        let before = old.as_ref().and_then(|old| old.expiry_ms);
        if before != record.expiry_ms {
            if let Some(expiry_ms) = before {
                expiry::remove(tx, expiry_ms, OF_KEY, key)?;
            }
            if let Some(expiry_ms) = record.expiry_ms {
                expiry::add(tx, expiry_ms, OF_KEY, key)?;
            }
        }
        match &old {
            Some(old) => free(tx, old),
            None => Ok(()),
        }
    })
}

/// Removes a key with everything that it refers to. Says whether it was there and had not expired.
pub(crate) fn remove_record(tx: &mut WriteTransaction, key: &[u8]) -> Result<bool> {
    let Some(old) = outgoing(tx, key)? else {
        return Ok(false);
    };
    let was_alive = !old.is_over(tx.now_ms());
    erase(tx, key, &old)?;
    tx.together(expiry::relieve)?;
    Ok(was_alive)
}

/// Moves what is under a key to another one, with its expiry. What was there is replaced, and what that referred to is
/// freed. Says whether there is anything to move.
pub(super) fn move_record(tx: &mut WriteTransaction, from: &[u8], to: &[u8]) -> Result<bool> {
    check_fits(tx, to, 0)?;
    let Some(record) = find_record(tx, from)? else {
        return Ok(false);
    };
    if from != to {
        put_record(tx, to, record.kind, &record.payload, record.expiry_ms)?;
        // Frees nothing: what the record refers to belongs to the other key now.
        tx.together(|tx| take_out(tx, from, record.expiry_ms))?;
    }
    Ok(true)
}

/// Removes a key and its index entry, given the record that is stored under it.
fn erase(tx: &mut WriteTransaction, key: &[u8], old: &Record) -> Result<()> {
    tx.together(|tx| {
        take_out(tx, key, old.expiry_ms)?;
        replaced(tx, old)
    })
}

fn take_out(tx: &mut WriteTransaction, key: &[u8], expiry_ms: Option<u64>) -> Result<()> {
    tx.touch(hot::KEYS, key);
    tx.system_tree(KEYS)?.delete(key)?;
    if let Some(expiry_ms) = expiry_ms {
        expiry::remove(tx, expiry_ms, OF_KEY, key)?;
    }
    Ok(())
}

/// Removes the key that an index entry names, if it expires when the entry says. Says whether it
/// does.
pub(super) fn erase_expired(tx: &mut WriteTransaction, key: &[u8], expiry_ms: u64) -> Result<bool> {
    match outgoing(tx, key)? {
        Some(old) if old.expiry_ms == Some(expiry_ms) => {
            erase(tx, key, &old)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// What is stored under a key that is about to be replaced or removed. Of a value only the head,
/// which saves the copy.
fn outgoing(tx: &WriteTransaction, key: &[u8]) -> Result<Option<Record>> {
    stored(tx, key, |record| {
        let payload = match record.kind {
            Kind::Value => Vec::new(),
            Kind::Blob => record.payload.to_vec(),
        };
        Ok(Record {
            kind: record.kind,
            expiry_ms: record.expiry_ms,
            payload,
        })
    })
}

/// Frees what a record refers to, after the record is gone from the tree. The payload of a value
/// is not given here: there is nothing in it to free.
fn replaced(tx: &mut WriteTransaction, old: &Record) -> Result<()> {
    match old.kind {
        Kind::Value => Ok(()),
        Kind::Blob => blob::forget(tx, &old.payload),
    }
}

/// Keys leave room for what stands before them in the expiry index, and values for the head of
/// the record.
pub(super) fn check_fits(tx: &WriteTransaction, key: &[u8], payload_bytes: usize) -> Result<()> {
    let limit = node::max_key_bytes(tx.handle().engine.pager.page_size());
    let limit = limit - expiry::ENTRY_HEAD_BYTES;
    if key.len() > limit {
        return Err(Error::KeyTooLong {
            length: key.len(),
            limit,
        });
    }
    let (length, limit) = (
        payload_bytes as u64,
        node::MAX_VALUE_BYTES - MAX_HEAD_BYTES as u64,
    );
    if length > limit {
        return Err(Error::ValueTooLong { length, limit });
    }
    Ok(())
}
