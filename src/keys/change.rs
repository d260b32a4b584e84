//! Changes that depend on what is there, inside a transaction. The expiry of a key stays what it
//! was, as long as there is something under the key, unless the call gives it another one.

use std::ops::Bound;
use std::time::Duration;

use super::batch::{Batch, Step};
use super::record::{Kind, Record, RecordRef};
use super::scan::first_keys;
use super::{expiry, read, store};
use crate::hot::SharedBytes;
use crate::moment::Moment;
use crate::txn::write::WriteTransaction;
use crate::{Error, Result};

/// What came of a [`compare_and_swap`](crate::Aurora::compare_and_swap), or of a
/// [`compare_and_put`](crate::Aurora::compare_and_put).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it may not have been done"]
pub enum Swap {
    /// The key held what was expected, and holds the new value now.
    Done,
    /// The key held something else, and still does.
    Differs {
        /// What it holds; `None` if it is missing.
        present: Option<SharedBytes>,
    },
}

impl Swap {
    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        matches!(self, Swap::Done)
    }
}

pub(super) fn put(
    tx: &mut WriteTransaction,
    key: &[u8],
    value: &[u8],
    ttl: Option<Duration>,
) -> Result<()> {
    let expiry_ms = ttl.and_then(|ttl| expiry::after(tx.now_ms(), ttl));
    store::put_record(tx, key, Kind::Value, value, expiry_ms)
}

/// Gives a key another expiry, whatever it holds. Says what it was before, if the key is there.
pub(super) fn set_expiry(
    tx: &mut WriteTransaction,
    key: &[u8],
    expiry_ms: Option<u64>,
) -> Result<Option<Record>> {
    let Some(old) = store::find_record(tx, key)? else {
        return Ok(None);
    };
    if old.expiry_ms != expiry_ms {
        let record = RecordRef {
            kind: old.kind,
            expiry_ms,
            payload: &old.payload,
        };
        store::rewrite_record(tx, key, &record)?;
    }
    Ok(Some(old))
}

pub(super) fn compare_and_swap(
    tx: &mut WriteTransaction,
    key: &[u8],
    expected: Option<&[u8]>,
    new: Option<&[u8]>,
) -> Result<Swap> {
    let old = read::get(tx, key)?;
    if old.as_deref() != expected {
        return Ok(Swap::Differs { present: old });
    }
    replace(tx, key, old.as_ref(), new)?;
    Ok(Swap::Done)
}

pub(super) fn compare_and_put(
    tx: &mut WriteTransaction,
    key: &[u8],
    expected: Option<&[u8]>,
    value: &[u8],
    ttl: Option<Duration>,
) -> Result<Swap> {
    let present = read::get(tx, key)?;
    if present.as_deref() != expected {
        return Ok(Swap::Differs { present });
    }
    put(tx, key, value, ttl)?;
    Ok(Swap::Done)
}

pub(super) fn increment(tx: &mut WriteTransaction, key: &[u8], by: i64) -> Result<i64> {
    let bad = |reason| Error::NotANumber {
        key: read::text(key),
        reason,
    };
    let old = read::get(tx, key)?;
    let number = match &old {
        None => 0,
        Some(old) => std::str::from_utf8(old)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .ok_or_else(|| bad("it is not a whole number of 64 bits as decimal text"))?,
    };
    let sum = number
        .checked_add(by)
        .ok_or_else(|| bad("the sum does not fit 64 bits"))?;
    replace(tx, key, old.as_ref(), Some(sum.to_string().as_bytes()))?;
    Ok(sum)
}

pub(super) fn merge(
    tx: &mut WriteTransaction,
    key: &[u8],
    change: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>,
) -> Result<Option<SharedBytes>> {
    let old = read::get(tx, key)?;
    let new = change(old.as_deref());
    replace(tx, key, old.as_ref(), new.as_deref())?;
    Ok(new.map(SharedBytes::from))
}

/// Puts a new value in the place of one, with its expiry; or removes the key.
fn replace(
    tx: &mut WriteTransaction,
    key: &[u8],
    old: Option<&SharedBytes>,
    new: Option<&[u8]>,
) -> Result<()> {
    match new {
        Some(new) => {
            let expiry_ms = old.and_then(SharedBytes::expires_ms);
            store::put_record(tx, key, Kind::Value, new, expiry_ms)
        }
        None => store::remove_record(tx, key).map(|_| ()),
    }
}

/// So many keys of a range are removed before the next are looked for.
const RANGE_STEP: usize = 1024;

/// Removes the keys of a range with what is under them. Returns how many were there.
pub(super) fn delete_range(
    tx: &mut WriteTransaction,
    (mut lower, upper): (Bound<Vec<u8>>, Bound<Vec<u8>>),
) -> Result<u64> {
    let mut removed = 0;
    loop {
        let keys = first_keys(tx, (lower, upper.clone()), RANGE_STEP)?;
        let Some(last) = keys.last() else {
            return Ok(removed);
        };
        lower = Bound::Excluded(last.clone());
        removed += tx.together(|tx| {
            let mut removed = 0;
            for key in &keys {
                removed += u64::from(store::remove_record(tx, key)?);
            }
            Ok(removed)
        })?;
    }
}

/// All changes of a batch, or none.
pub(super) fn apply(tx: &mut WriteTransaction, batch: &Batch) -> Result<()> {
    for step in &batch.steps {
        if let Step::Put { key, value, .. } = step {
            store::check_fits(tx, key, value.len())?;
        }
    }
    tx.together(|tx| {
        for step in &batch.steps {
            match step {
                Step::Put { key, value, ttl } => put(tx, key, value, *ttl)?,
                Step::Delete { key } => store::remove_record(tx, key).map(|_| ())?,
            }
        }
        Ok(())
    })
}
