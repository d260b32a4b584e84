//! The record of a key, for blobs: byte 0 is the kind, with the highest bit set if 8 bytes of an
//! expiry follow; the rest is the payload.

use super::{Flaw, forget};
use crate::Result;
use crate::moment::Moment;
use crate::txn::write::WriteTransaction;

pub(super) const KEYS: &str = "aurora/keys";
const EXPIRY: &str = "aurora/expiry";
const EXPIRES: u8 = 0x80;
/// The owner of an entry of the expiry index that is a key.
const OF_KEY: u8 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Value,
    Blob,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Value => 0,
            Kind::Blob => 1,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub kind: Kind,
    pub expiry_ms: Option<u64>,
    pub payload: Vec<u8>,
}

impl Record {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let too_short = Flaw {
            what: "the record of a key ends before its expiry does",
            expected: 9,
            found: bytes.len() as u64,
        };
        let (head, rest) = bytes.split_first().ok_or(too_short)?;
        let kind = match head & !EXPIRES {
            0 => Kind::Value,
            1 => Kind::Blob,
            other => {
                return Err(Flaw {
                    what: "the kind of a key is unknown",
                    expected: 1,
                    found: u64::from(other),
                });
            }
        };
        let (expiry_ms, payload) = if head & EXPIRES == 0 {
            (None, rest)
        } else {
            let (expiry, payload) = rest.split_first_chunk().ok_or(too_short)?;
            (Some(u64::from_le_bytes(*expiry)), payload)
        };
        Ok(Record {
            kind,
            expiry_ms,
            payload: payload.to_vec(),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind.code()];
        if let Some(expiry_ms) = self.expiry_ms {
            bytes = vec![self.kind.code() | EXPIRES];
            bytes.extend_from_slice(&expiry_ms.to_le_bytes());
        }
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

fn stored(moment: &impl Moment, key: &[u8]) -> Result<Option<Record>> {
    let Some(bytes) = (match moment.system_view(KEYS) {
        Some(view) => view.get(key)?,
        None => None,
    }) else {
        return Ok(None);
    };
    let record = Record::decode(&bytes).map_err(|flaw| flaw.at(KEYS, key))?;
    Ok(Some(record))
}

/// The record of a key, unless the key has expired.
pub(super) fn find_record(moment: &impl Moment, key: &[u8]) -> Result<Option<Record>> {
    let now_ms = moment.now_ms();
    let record = stored(moment, key)?;
    Ok(record.filter(|record| record.expiry_ms.is_none_or(|expiry_ms| expiry_ms > now_ms)))
}

/// Stores a record. What was under the key before is replaced, and what that referred to is freed.
pub(super) fn put_record(
    tx: &mut WriteTransaction,
    key: &[u8],
    kind: Kind,
    payload: &[u8],
    expiry_ms: Option<u64>,
) -> Result<()> {
    let old = stored(tx, key)?;
    let record = Record {
        kind,
        expiry_ms,
        payload: payload.to_vec(),
    };
    tx.system_tree(KEYS)?.put(key, record.encode())?;
    tx.together(|tx| {
        if let Some(old) = &old {
            released(tx, key, old)?;
        }
        if let Some(expiry_ms) = expiry_ms {
            tx.system_tree(EXPIRY)?.put(due(expiry_ms, key), [])?;
        }
        Ok(())
    })
}

/// Stores a record that refers to the same things as the one before it: nothing is freed. The
/// expiry stays.
pub(super) fn rewrite_record(tx: &mut WriteTransaction, key: &[u8], record: &Record) -> Result<()> {
    tx.system_tree(KEYS)?.put(key, record.encode())?;
    Ok(())
}

/// Removes a key with everything that it refers to. Says whether it was there and had not expired.
pub(super) fn remove_record(tx: &mut WriteTransaction, key: &[u8]) -> Result<bool> {
    let Some(old) = stored(tx, key)? else {
        return Ok(false);
    };
    let now_ms = tx.now_ms();
    tx.together(|tx| {
        tx.system_tree(KEYS)?.delete(key)?;
        released(tx, key, &old)
    })?;
    Ok(old.expiry_ms.is_none_or(|expiry_ms| expiry_ms > now_ms))
}

fn released(tx: &mut WriteTransaction, key: &[u8], old: &Record) -> Result<()> {
    if let Some(expiry_ms) = old.expiry_ms {
        tx.system_tree(EXPIRY)?.delete(due(expiry_ms, key))?;
    }
    match old.kind {
        Kind::Value => Ok(()),
        Kind::Blob => forget(tx, &old.payload),
    }
}

fn due(expiry_ms: u64, key: &[u8]) -> Vec<u8> {
    [&expiry_ms.to_be_bytes()[..], &[OF_KEY], key].concat()
}
