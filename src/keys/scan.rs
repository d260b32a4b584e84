//! The keys of a range with what they hold, from either end, without holding more than a few of them.

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
/// keys of blobs are left out: for those there is [`scan_blobs`](crate::Aurora::scan_blobs).
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
pub struct Scan<'a>(Walk<'a, Vec<u8>>);

/// What a walk takes of a record that has not expired, and how many bytes of memory that is; `None` to go past it.
pub(crate) type Pick<T> = fn(RecordRef<'_>) -> Result<Option<(T, usize)>, Flaw>;

/// Keys that have not expired, with what is taken of their records, from either end.
#[derive(Debug)]
pub(crate) struct Walk<'a, T> {
    source: Source<'a>,
    pick: Pick<T>,
    /// What has not been fetched from either end yet.
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    /// Fetched from the low end, lowest first.
    front: VecDeque<(Vec<u8>, T)>,
    /// Fetched from the high end, highest first.
    back: VecDeque<(Vec<u8>, T)>,
    fetch: usize,
    /// Nothing is left between the bounds.
    exhausted: bool,
}

/// What one fetch brings.
struct Fetched<T> {
    entries: VecDeque<(Vec<u8>, T)>,
    /// The last key that was looked at; `None` if nothing was left behind it.
    reached: Option<Vec<u8>>,
}

impl Scan<'static> {
    pub(super) fn of_snapshot<K: AsRef<[u8]>>(
        snapshot: Snapshot,
        range: impl RangeBounds<K>,
    ) -> Self {
        Scan(Walk::of_snapshot(snapshot, range, value))
    }
}

impl<'a> Scan<'a> {
    pub(super) fn of_transaction<K: AsRef<[u8]>>(
        tx: &'a WriteTransaction,
        range: impl RangeBounds<K>,
    ) -> Self {
        Scan(Walk::of_transaction(tx, range, value))
    }
}

/// The value, if the key holds one.
fn value(record: RecordRef<'_>) -> Result<Option<(Vec<u8>, usize)>, Flaw> {
    let is_value = record.kind == Kind::Value;
    Ok(is_value.then(|| (record.payload.to_vec(), record.payload.len())))
}

impl<T> Walk<'static, T> {
    pub(crate) fn of_snapshot<K: AsRef<[u8]>>(
        snapshot: Snapshot,
        range: impl RangeBounds<K>,
        pick: Pick<T>,
    ) -> Self {
        Walk::new(Source::Snapshot(snapshot), range, pick)
    }
}

impl<'a, T> Walk<'a, T> {
    pub(crate) fn of_transaction<K: AsRef<[u8]>>(
        tx: &'a WriteTransaction,
        range: impl RangeBounds<K>,
        pick: Pick<T>,
    ) -> Self {
        Walk::new(Source::Transaction(tx), range, pick)
    }

    fn new<K: AsRef<[u8]>>(source: Source<'a>, range: impl RangeBounds<K>, pick: Pick<T>) -> Self {
        let (lower, upper) = bounds_of(range);
        Walk {
            source,
            pick,
            lower,
            upper,
            front: VecDeque::new(),
            back: VecDeque::new(),
            fetch: FIRST_FETCH,
            exhausted: false,
        }
    }

    /// Fetches some entries from one end.
    fn fetch(&mut self, backwards: bool) -> Result<VecDeque<(Vec<u8>, T)>> {
        let range = (self.lower.clone(), self.upper.clone());
        let limit = self.fetch;
        self.fetch = (limit * 2).min(MOST_FETCH);
        let fetched = match &self.source {
            Source::Snapshot(snapshot) => fetch(snapshot, range, self.pick, backwards, limit)?,
            Source::Transaction(tx) => fetch(*tx, range, self.pick, backwards, limit)?,
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

    pub(crate) fn step(&mut self, backwards: bool) -> Result<Option<(Vec<u8>, T)>> {
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

fn fetch<T>(
    moment: &impl Moment,
    range: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    pick: Pick<T>,
    backwards: bool,
    limit: usize,
) -> Result<Fetched<T>> {
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
        let picked = look_here(&mut cursor, |record| {
            if record.is_over(now_ms) {
                return Ok(None);
            }
            pick(record)
        })?;
        if let Some((what, its_bytes)) = picked {
            bytes += its_bytes;
            fetched.entries.push_back((cursor.key().to_vec(), what));
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
        self.0.step(false).transpose()
    }
}

impl DoubleEndedIterator for Scan<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.step(true).transpose()
    }
}

impl FusedIterator for Scan<'_> {}
