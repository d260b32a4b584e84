//! Many changes of one tree in one call: gathered, put in order, made page by page.
//!
//! # Invariants
//!
//! 1. The outcome is that of the same calls made one by one; of those for the same key the last one
//!    counts.
//! 2. What is gathered at a time is bounded ([`gather_bytes`]), however much there is.
//! 3. The record gets each change by itself: a replay need not know which of them came in one call.

use super::state::TreeId;
use super::tree_mut::TreeMut;
use super::write::WriteTransaction;
use crate::Result;
use crate::format::node;
use crate::tree::{self, Change};

const LEAST_GATHERED_BYTES: usize = 1 << 20;

/// What an entry that waits takes beside its key and its value.
pub(crate) const ENTRY_BYTES: usize = 64;

impl TreeMut<'_> {
    /// Stores many entries, in any order. Returns how many replaced one.
    ///
    /// Much faster than as many calls of [`put`](Self::put): entries are gathered, some 64 MiB at a
    /// time at most, put in order, and stored page by page. If a key comes twice, the later entry
    /// counts.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// db.write(|tx| {
    ///     let mut squares = tx.tree("squares")?;
    ///     squares.put_many((0..10_000u32).rev().map(|n| (n.to_be_bytes(), (n * n).to_be_bytes())))
    /// })?;
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`put`](Self::put). Some entries may have been stored then, so the transaction fails:
    /// it can be rolled back to a savepoint or be dropped, not committed.
    pub fn put_many<K, V>(&mut self, entries: impl IntoIterator<Item = (K, V)>) -> Result<u64>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        self.change_many(
            entries.into_iter(),
            |(key, value)| key.as_ref().len() + value.as_ref().len(),
            |(key, value)| Change {
                key: key.as_ref(),
                value: Some(value.as_ref()),
            },
        )
    }

    /// Removes many keys, in any order. Returns how many were there.
    ///
    /// Much faster than as many calls of [`delete`](Self::delete), as [`put_many`](Self::put_many) is.
    /// For all keys between two, [`delete_range`](Self::delete_range) is faster still.
    ///
    /// # Errors
    /// As for [`put_many`](Self::put_many).
    pub fn delete_many<K: AsRef<[u8]>>(
        &mut self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<u64> {
        self.change_many(
            keys.into_iter(),
            |key| key.as_ref().len(),
            |key| Change {
                key: key.as_ref(),
                value: None,
            },
        )
    }

    /// Stores keys without values, or removes them, in any order. If a key comes twice, the later one counts.
    pub(crate) fn change_keys(
        &mut self,
        keys: impl Iterator<Item = (Vec<u8>, bool)>,
    ) -> Result<()> {
        let changed = self.change_many(
            keys,
            |(key, _)| key.len(),
            |(key, comes)| Change {
                key,
                value: comes.then_some(&[]),
            },
        );
        changed.map(|_| ())
    }

    fn change_many<T>(
        &mut self,
        mut all: impl Iterator<Item = T>,
        length: impl Fn(&T) -> usize,
        change: impl Fn(&T) -> Change<'_>,
    ) -> Result<u64> {
        let id = self.id;
        self.txn.together(|txn| {
            let limit = gather_bytes(txn);
            let (mut affected, mut gathered) = (0, Vec::new());
            let mut gather = |gathered: &mut Vec<T>, limit_bytes: usize| {
                let mut bytes = 0;
                while bytes < limit_bytes
                    && let Some(one) = all.next()
                {
                    bytes += ENTRY_BYTES + length(&one);
                    gathered.push(one);
                }
            };
            loop {
                gather(&mut gathered, LEAST_GATHERED_BYTES);
                if gathered.is_empty() {
                    return Ok(affected);
                }
                // Entries that come in order gain nothing by being many at a time.
                if !is_in_order(&gathered, &change) {
                    gather(&mut gathered, limit - LEAST_GATHERED_BYTES);
                }
                let changes = gathered.iter().map(&change).collect();
                affected += txn.change_gathered(id, changes)?;
                gathered.clear();
            }
        })
    }
}

/// How much is gathered at a time (invariant 2).
pub(crate) fn gather_bytes(txn: &WriteTransaction) -> usize {
    let budget = txn.handle().engine.pager.cache.budget_bytes();
    (budget / 8).clamp(LEAST_GATHERED_BYTES, 64 << 20)
}

fn is_in_order<T>(all: &[T], change: impl Fn(&T) -> Change<'_>) -> bool {
    all.is_sorted_by(|a, b| change(a).key < change(b).key)
}

impl WriteTransaction {
    fn change_gathered(&mut self, id: TreeId, mut changes: Vec<Change<'_>>) -> Result<u64> {
        self.check_changeable()?;
        let page_size = self.handle().engine.pager.page_size();
        let length = |change: &Change<'_>| change.value.map_or(0, <[u8]>::len);
        for change in changes.iter().filter(|change| change.value.is_some()) {
            tree::check_entry(page_size, change.key, length(change))?;
        }
        // As with a single removal: it is not there, and must not be in the record.
        let longest = self.longest_key();
        changes.retain(|change| change.key.len() <= longest);
        let is_in_order = changes.len() > 1 && is_in_order(&changes, |change| *change);
        self.pages.expect_order(is_in_order);
        let mut affected = put_in_order(&mut changes);
        let (changes, long): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|change| node::is_inline(page_size, change.key.len(), length(change)));
        affected += self.change_many(id, &changes)?;
        for Change { key, value } in long {
            affected += u64::from(match value {
                Some(value) => self.put_in(id, key, value)?,
                None => self.delete_in(id, key)?,
            });
        }
        Ok(affected)
    }
}

/// Sorts changes by key, and leaves the last one of each. Returns how many entries were replaced by
/// another of them.
pub(super) fn put_in_order(changes: &mut Vec<Change<'_>>) -> u64 {
    if is_in_order(changes, |change| *change) {
        return 0;
    }
    let shared = shared_bytes(changes);
    let mut order: Vec<(u64, u32)> = changes
        .iter()
        .zip(0..)
        .map(|(change, i)| (head(change.key.get(shared..).unwrap_or_default()), i))
        .collect();
    let at = |i: u32| changes.get(i as usize).map_or(&[][..], |change| change.key);
    order.sort_unstable_by(|(head, i), (other_head, other)| {
        let heads = head.cmp(other_head);
        heads.then_with(|| at(*i).cmp(at(*other)).then(i.cmp(other)))
    });
    let (mut replaced, mut before) = (0, None);
    let mut sorted: Vec<Change<'_>> = Vec::with_capacity(changes.len());
    for (head, i) in order {
        let Some(change) = changes.get(i as usize) else {
            continue;
        };
        let is_near = before.replace(head) == Some(head);
        match sorted.last_mut() {
            Some(last) if is_near && last.key == change.key => {
                replaced += u64::from(last.value.is_some());
                *last = *change;
            }
            _ => sorted.push(*change),
        }
    }
    *changes = sorted;
    replaced
}

/// How many bytes all keys begin with that are the same.
fn shared_bytes(changes: &[Change<'_>]) -> usize {
    let Some((first, rest)) = changes.split_first() else {
        return 0;
    };
    rest.iter().fold(first.key.len(), |shared, change| {
        let first = first.key.get(..shared).unwrap_or_default();
        node::common_prefix(first, change.key)
    })
}

/// The first bytes as a number that orders as they do; missing ones count as 0.
fn head(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => {
            let mut chunk = [0; 8];
            chunk.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(chunk)
        }
    }
}
