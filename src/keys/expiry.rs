//! What expires, in order of time: the expiry index, the sweep that follows it, and the latest
//! time that was reached.
//!
//! # Invariants
//!
//! 1. Whether something has expired is decided by its own record and the reader's moment. The
//!    index only finds what can be removed, so a late sweep shows nobody anything.
//! 2. A sweep removes a bounded number of entries in one transaction, and that transaction also
//!    raises the stored clock to the time that the sweep went by: after a reopen the clock cannot
//!    stand before it.
//! 3. Entries sort by time, so the first one is the next to expire.
//! 4. A write fails for want of a sweep once at the most: where something that has expired cannot be removed because of
//!    damage, or because the device does not read it, writes do without sweeping from then on. What it is about may be
//!    nothing of theirs.

use std::time::Duration;

use super::record::Flaw;
use super::store;
use crate::collection::documents;
use crate::moment::{FACTS_TREE, Moment};
use crate::txn::write::WriteTransaction;
use crate::{Error, Result};

pub(crate) const EXPIRY: &str = "aurora/expiry";
/// What is told where sweeping fails.
pub(crate) const NOT_SWEPT: &str = "what has expired could not be removed";
/// The key in the tree of facts of the latest time that was reached.
pub(crate) const CLOCK: &str = "clock";

/// Whose entry it is: a key's, with the key behind it.
pub(crate) const OF_KEY: u8 = 0;
/// Whose entry it is: a document's, with its collection and id behind it.
pub(crate) const OF_DOCUMENT: u8 = 1;
/// What stands before the name in an entry: the time and whose entry it is.
pub(crate) const ENTRY_HEAD_BYTES: usize = 9;

/// How many entries each write sweeps when there is no thread for it: more than one, so that writes
/// with a time to live cannot outrun it.
const RELIEF: usize = 2;

/// An entry of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due<'a> {
    pub expiry_ms: u64,
    pub owner: u8,
    pub name: &'a [u8],
}

/// What tells an entry from others of its owner.
pub(crate) type TimeAndName = (u64, Vec<u8>);

impl<'a> Due<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut entry = Vec::with_capacity(ENTRY_HEAD_BYTES + self.name.len());
        entry.extend_from_slice(&self.expiry_ms.to_be_bytes());
        entry.push(self.owner);
        entry.extend_from_slice(self.name);
        entry
    }

    pub(crate) fn decode(entry: &'a [u8]) -> Result<Self> {
        let split = entry.split_first_chunk::<8>();
        let split = split.and_then(|(time, rest)| Some((time, rest.split_first()?)));
        let Some((time, (owner, name))) = split else {
            let flaw = Flaw {
                what: "an entry of the expiry index is too short",
                expected: ENTRY_HEAD_BYTES as u64,
                found: entry.len() as u64,
            };
            return Err(flaw.at(EXPIRY, entry));
        };
        if *owner > OF_DOCUMENT {
            let flaw = Flaw {
                what: "an entry of the expiry index is of an unknown kind",
                expected: u64::from(OF_DOCUMENT),
                found: u64::from(*owner),
            };
            return Err(flaw.at(EXPIRY, entry));
        }
        Ok(Due {
            expiry_ms: u64::from_be_bytes(*time),
            owner: *owner,
            name,
        })
    }
}

/// When something expires that lives so long from now. `None`: never, it is too far away to say.
/// Parts of a millisecond count as one, so that a short life is not none.
pub(crate) fn after(now_ms: u64, ttl: Duration) -> Option<u64> {
    let ttl_ms = ttl.as_nanos().div_ceil(1_000_000);
    now_ms.checked_add(u64::try_from(ttl_ms).ok()?)
}

/// Adds an entry, and tells the sweeper if it is the next one.
pub(crate) fn add(tx: &mut WriteTransaction, expiry_ms: u64, owner: u8, name: &[u8]) -> Result<()> {
    let due = Due {
        expiry_ms,
        owner,
        name,
    };
    tx.system_tree(EXPIRY)?.put(due.encode(), [])?;
    tx.handle().alarm.lower(expiry_ms);
    Ok(())
}

pub(crate) fn remove(
    tx: &mut WriteTransaction,
    expiry_ms: u64,
    owner: u8,
    name: &[u8],
) -> Result<()> {
    let due = Due {
        expiry_ms,
        owner,
        name,
    };
    tx.system_tree(EXPIRY)?.delete(due.encode())?;
    Ok(())
}

/// Removes many entries, by their times and names. They may be gone.
pub(crate) fn remove_many(
    tx: &mut WriteTransaction,
    owner: u8,
    entries: Vec<TimeAndName>,
) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let entries = entries.iter().map(|(expiry_ms, name)| {
        let due = Due {
            expiry_ms: *expiry_ms,
            owner,
            name,
        };
        due.encode()
    });
    tx.system_tree(EXPIRY)?.delete_many(entries)?;
    Ok(())
}

/// Whether there is such an entry.
pub(crate) fn lists(moment: &impl Moment, expiry_ms: u64, owner: u8, name: &[u8]) -> Result<bool> {
    let due = Due {
        expiry_ms,
        owner,
        name,
    };
    match moment.system_view(EXPIRY) {
        Some(index) => index.contains(due.encode()),
        None => Ok(false),
    }
}

/// When the next of all expires.
pub(crate) fn next_ms(moment: &impl Moment) -> Result<Option<u64>> {
    let Some(index) = moment.system_view(EXPIRY) else {
        return Ok(None);
    };
    let mut cursor = index.cursor();
    if !cursor.first()? {
        return Ok(None);
    }
    Ok(Some(Due::decode(cursor.key())?.expiry_ms))
}

/// Removes at most `limit` of what has expired, the oldest first, and returns how many there were
/// (invariant 2).
pub(crate) fn sweep(tx: &mut WriteTransaction, limit: usize) -> Result<usize> {
    let now_ms = tx.now_ms();
    let due = due(tx, limit)?;
    if due.is_empty() {
        return Ok(0);
    }
    tx.together(|tx| {
        for entry in &due {
            expire(tx, Due::decode(entry)?)?;
        }
        raise_clock(tx, now_ms)?;
        Ok(due.len())
    })
}

/// The entries of the first `limit` that have expired.
fn due(tx: &WriteTransaction, limit: usize) -> Result<Vec<Vec<u8>>> {
    let mut due = Vec::new();
    if limit > 0 {
        for_each_over(tx, |entry| {
            due.push(entry.encode());
            due.len() < limit
        })?;
    }
    Ok(due)
}

/// Shows the entries of what has expired, the oldest first, until `visit` says that it wants no more. Says whether it wanted
/// all.
pub(super) fn for_each_over(
    moment: &impl Moment,
    mut visit: impl FnMut(Due<'_>) -> bool,
) -> Result<bool> {
    let Some(index) = moment.system_view(EXPIRY) else {
        return Ok(true);
    };
    let now_ms = moment.now_ms();
    let mut cursor = index.cursor();
    let mut more = cursor.first()?;
    while more {
        let due = Due::decode(cursor.key())?;
        if due.expiry_ms > now_ms {
            break;
        }
        if !visit(due) {
            return Ok(false);
        }
        more = cursor.next()?;
    }
    Ok(true)
}

/// Removes what an entry names, with the entry.
fn expire(tx: &mut WriteTransaction, due: Due<'_>) -> Result<()> {
    let was_there = match due.owner {
        OF_KEY => store::erase_expired(tx, due.name, due.expiry_ms)?,
        _ => documents::erase_expired(tx, due.name, due.expiry_ms)?,
    };
    if !was_there {
        // The record decides, not the entry; `Aurora::check` reports the two as damage.
        let expiry_ms = due.expiry_ms;
        tx.tell_later(move || tracing::warn!(expiry_ms, "an expiry without its record"));
        remove(tx, due.expiry_ms, due.owner, due.name)?;
    }
    Ok(())
}

/// Sweeps a little, if there is no thread that does.
pub(crate) fn relieve(tx: &mut WriteTransaction) -> Result<()> {
    relieve_after(tx, 1)
}

/// Sweeps as much as so many writes do.
///
/// # Errors
/// Damage, and what the device cannot read, is told by one write at the most (invariant 4).
pub(crate) fn relieve_after(tx: &mut WriteTransaction, writes: usize) -> Result<()> {
    let handle = tx.handle().clone();
    if handle.engine.settings.background || handle.alarm.has_given_up() {
        return Ok(());
    }
    match sweep(tx, RELIEF.saturating_mul(writes)) {
        Err(error) if error.is_corruption() || matches!(error, Error::Io { .. }) => {
            handle.alarm.give_up();
            if tx.has_failed() {
                return Err(error);
            }
            tx.tell_later(move || tracing::warn!(%error, "{NOT_SWEPT}"));
            Ok(())
        }
        swept => swept.map(|_| ()),
    }
}

/// The latest time that was stored.
pub(crate) fn stored_clock(moment: &impl Moment) -> Result<Option<u64>> {
    let Some(meta) = moment.system_view(FACTS_TREE) else {
        return Ok(None);
    };
    let Some(bytes) = meta.get(CLOCK)? else {
        return Ok(None);
    };
    let Ok(bytes) = <[u8; 8]>::try_from(&bytes[..]) else {
        let flaw = Flaw {
            what: "the stored clock is not a number of 8 bytes",
            expected: 8,
            found: bytes.len() as u64,
        };
        return Err(flaw.at(FACTS_TREE, CLOCK.as_bytes()));
    };
    Ok(Some(u64::from_le_bytes(bytes)))
}

/// Stores the time, if it is later than the one that is stored. Says whether it was.
pub(crate) fn raise_clock(tx: &mut WriteTransaction, now_ms: u64) -> Result<bool> {
    if stored_clock(tx)?.is_some_and(|stored| stored >= now_ms) {
        return Ok(false);
    }
    tx.system_tree(FACTS_TREE)?
        .put(CLOCK, now_ms.to_le_bytes())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_sort_by_time_and_come_back() {
        let entry = |expiry_ms, name| Due {
            expiry_ms,
            owner: OF_KEY,
            name,
        };
        let (early, late) = (entry(255, b"z"), entry(256, b"a"));
        assert!(early.encode() < late.encode());
        assert_eq!(Due::decode(&late.encode()).unwrap(), late);
        assert_eq!(late.encode(), [0, 0, 0, 0, 0, 0, 1, 0, OF_KEY, b'a']);
        assert_eq!(late.encode().len(), ENTRY_HEAD_BYTES + 1);
    }

    #[test]
    fn entries_that_break_a_rule_are_damage() {
        assert!(Due::decode(&[0; 8]).unwrap_err().is_corruption());
        assert!(Due::decode(&[0; 9]).is_ok());
        let unknown = [0, 0, 0, 0, 0, 0, 0, 0, 2];
        assert!(Due::decode(&unknown).unwrap_err().is_corruption());
    }

    #[test]
    fn lives_are_rounded_up_and_saturate() {
        assert_eq!(after(5, Duration::ZERO), Some(5));
        assert_eq!(after(5, Duration::from_nanos(1)), Some(6));
        assert_eq!(after(5, Duration::from_millis(3)), Some(8));
        assert_eq!(after(5, Duration::from_micros(3001)), Some(9));
        assert_eq!(
            after(5, Duration::from_millis(u64::MAX - 5)),
            Some(u64::MAX)
        );
        assert_eq!(after(6, Duration::from_millis(u64::MAX - 5)), None);
        assert_eq!(after(0, Duration::MAX), None);
    }
}
