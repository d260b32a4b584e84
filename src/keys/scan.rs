//! The values of a range of keys, from either end, without holding more than a few of them.

use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::ops::{Bound, RangeBounds};

use super::record::{Flaw, Kind, RecordRef};
use super::store::KEYS;
use crate::Result;
use crate::moment::Moment;
use crate::txn::cursor::{Entry, TreeCursor};
use crate::txn::snapshot::Snapshot;
use crate::txn::view::as_bytes;
use crate::txn::write::WriteTransaction;

/// Entries that are fetched at first; then twice as many each time, up to the most.
const FIRST_FETCH: usize = 4;
const MOST_FETCH: usize = 256;
/// Enough is fetched when the values have this many bytes.
const FETCH_BYTES: usize = 256 << 10;

/// Where the entries come from.
#[derive(Debug)]
enum Source<'a> {
    Snapshot(Snapshot),
    Transaction(&'a WriteTransaction),
}

/// Keys with their values, in key order; `rev()` walks them backwards. Keys that have expired and
/// keys of blobs are left out.
///
/// All entries are of one moment: that of the snapshot, which it keeps, or of the transaction.
/// After an error it ends.
///
/// ```
/// let db = aurora::Aurora::in_memory()?;
/// for user in ["ada", "alan", "grace"] {
///     db.put(format!("user:{user}"), user, None)?;
/// }
/// let last = db.scan_prefix("user:")?.next_back().transpose()?;
/// assert_eq!(last, Some((b"user:grace".to_vec(), b"grace".to_vec())));
/// assert_eq!(db.scan("user:a".."user:b")?.count(), 2);
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Scan<'a> {
    source: Source<'a>,
    /// What has not been fetched from either end yet.
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    /// Fetched from the low end, lowest first.
    front: VecDeque<Entry>,
    /// Fetched from the high end, highest first.
    back: VecDeque<Entry>,
    fetch: usize,
    /// Nothing is left between the bounds.
    exhausted: bool,
}

/// What one fetch brings.
struct Fetched {
    entries: VecDeque<Entry>,
    /// The last key that was looked at; `None` if nothing was left behind it.
    reached: Option<Vec<u8>>,
}

impl Scan<'static> {
    pub(super) fn of_snapshot<K: AsRef<[u8]>>(
        snapshot: Snapshot,
        range: impl RangeBounds<K>,
    ) -> Self {
        Scan::new(Source::Snapshot(snapshot), range)
    }
}

impl<'a> Scan<'a> {
    pub(super) fn of_transaction<K: AsRef<[u8]>>(
        tx: &'a WriteTransaction,
        range: impl RangeBounds<K>,
    ) -> Self {
        Scan::new(Source::Transaction(tx), range)
    }

    fn new<K: AsRef<[u8]>>(source: Source<'a>, range: impl RangeBounds<K>) -> Self {
        let (lower, upper) = bounds_of(range);
        Scan {
            source,
            lower,
            upper,
            front: VecDeque::new(),
            back: VecDeque::new(),
            fetch: FIRST_FETCH,
            exhausted: false,
        }
    }

    /// Fetches some entries from one end.
    fn fetch(&mut self, backwards: bool) -> Result<VecDeque<Entry>> {
        let range = (self.lower.clone(), self.upper.clone());
        let limit = self.fetch;
        self.fetch = (limit * 2).min(MOST_FETCH);
        let fetched = match &self.source {
            Source::Snapshot(snapshot) => fetch(snapshot, range, backwards, limit)?,
            Source::Transaction(tx) => fetch(*tx, range, backwards, limit)?,
        };
        if let Some(key) = fetched.reached {
            self.exhausted = false;
            let bound = if backwards {
                &mut self.upper
            } else {
                &mut self.lower
            };
            *bound = Bound::Excluded(key);
        }
        Ok(fetched.entries)
    }

    fn step(&mut self, backwards: bool) -> Result<Option<Entry>> {
        loop {
            let (near, far) = if backwards {
                (&mut self.back, &mut self.front)
            } else {
                (&mut self.front, &mut self.back)
            };
            if let Some(entry) = near.pop_front() {
                return Ok(Some(entry));
            }
            if self.exhausted {
                // The two ends have met: what the other one fetched is all that is left.
                return Ok(far.pop_back());
            }
            self.exhausted = true; // unless the fetch finds that there is more
            let fetched = self.fetch(backwards);
            if fetched.is_err() {
                self.front.clear();
                self.back.clear();
            }
            let near = if backwards {
                &mut self.back
            } else {
                &mut self.front
            };
            *near = fetched?;
        }
    }
}

fn fetch(
    moment: &impl Moment,
    range: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    backwards: bool,
    limit: usize,
) -> Result<Fetched> {
    let mut fetched = Fetched {
        entries: VecDeque::new(),
        reached: None,
    };
    let Some(tree) = moment.system_view(KEYS) else {
        return Ok(fetched);
    };
    let now_ms = moment.now_ms();
    let mut bytes = 0;
    let mut cursor = tree.cursor_in(range);
    let mut more = if backwards {
        cursor.last()?
    } else {
        cursor.first()?
    };
    let mut looked_at = 0;
    while more {
        if let Some(value) = value_here(&mut cursor, now_ms)? {
            bytes += value.len();
            fetched.entries.push_back((cursor.key().to_vec(), value));
        }
        looked_at += 1;
        if looked_at == limit || bytes >= FETCH_BYTES {
            fetched.reached = Some(cursor.key().to_vec());
            break;
        }
        more = if backwards {
            cursor.prev()?
        } else {
            cursor.next()?
        };
    }
    Ok(fetched)
}

/// The first keys of a range, whatever they hold, and expired or not.
pub(super) fn first_keys(
    moment: &impl Moment,
    range: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    limit: usize,
) -> Result<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    let Some(tree) = moment.system_view(KEYS) else {
        return Ok(keys);
    };
    let mut cursor = tree.cursor_in(range);
    let mut more = cursor.first()?;
    while more && keys.len() < limit {
        keys.push(cursor.key().to_vec());
        more = cursor.next()?;
    }
    Ok(keys)
}

/// The bounds of a range of keys.
pub(super) fn bounds_of<K: AsRef<[u8]>>(
    range: impl RangeBounds<K>,
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (
        as_bytes(range.start_bound()).map(<[u8]>::to_vec),
        as_bytes(range.end_bound()).map(<[u8]>::to_vec),
    )
}

/// The value under the cursor, if it is one and has not expired.
fn value_here(cursor: &mut TreeCursor<'_>, now_ms: u64) -> Result<Option<Vec<u8>>> {
    look_here(cursor, |record| {
        let is_there = record.kind == Kind::Value && !record.is_over(now_ms);
        Ok(is_there.then(|| record.payload.to_vec()))
    })
}

/// Hands the record under the cursor to a closure.
pub(super) fn look_here<T>(
    cursor: &mut TreeCursor<'_>,
    look: impl FnOnce(RecordRef<'_>) -> Result<T, Flaw>,
) -> Result<T> {
    let looked = RecordRef::decode(cursor.value()?).and_then(look);
    looked.map_err(|flaw| flaw.at(KEYS, cursor.key()))
}

impl Iterator for Scan<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(false).transpose()
    }
}

impl DoubleEndedIterator for Scan<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(true).transpose()
    }
}

impl FusedIterator for Scan<'_> {}
