//! Walks over a range of a tree, from either end, that keep their moment instead of borrowing it: they hold keys and copies of
//! some entries, and no places in pages.
//!
//! # Invariants
//!
//! 1. Between two fetches there are only keys: whoever holds a walk holds no page and no pin, and can be another thread each
//!    time.
//! 2. A fetch goes on behind the last key that one before it looked at, so no entry is given twice, from whichever end.
//! 3. An error of a fetch is given at once, before the entries that were fetched with it, and ends the walk.
//! 4. No more than two fetches are held, one for each end.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::Result;
use crate::moment::Moment;
use crate::txn::cursor::TreeCursor;
use crate::txn::snapshot::Snapshot;
use crate::txn::view::as_bytes;
use crate::txn::write::WriteTransaction;

/// Entries that are fetched at first; then twice as many each time, up to the most.
const FIRST_FETCH: usize = 4;
const MOST_FETCH: usize = 256;
/// Enough is fetched when what was taken of them has this many bytes.
const FETCH_BYTES: usize = 256 << 10;

/// Where the entries come from.
#[derive(Debug)]
enum Source<'a> {
    Snapshot(Snapshot),
    Transaction(&'a WriteTransaction),
}

/// What is wanted of each entry.
pub(crate) trait Pick {
    type Item;

    /// What is taken of the entry that the cursor is on, and how many bytes of memory that is; `None` to go past it.
    fn pick(
        &mut self,
        moment: &impl Moment,
        cursor: &mut TreeCursor<'_>,
    ) -> Result<Option<(Self::Item, usize)>>;
}

/// Keys of a range with what is picked of their entries, from either end.
#[derive(Debug)]
pub(crate) struct Walk<'a, P: Pick> {
    source: Source<'a>,
    /// The name of the tree. One that is not there is empty.
    tree: Arc<str>,
    pub pick: P,
    /// What has not been fetched from either end yet.
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    /// Fetched from the low end, lowest first.
    front: VecDeque<(Vec<u8>, P::Item)>,
    /// Fetched from the high end, highest first.
    back: VecDeque<(Vec<u8>, P::Item)>,
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

impl<P: Pick> Walk<'static, P> {
    pub(crate) fn of_snapshot<K: AsRef<[u8]>>(
        snapshot: Snapshot,
        tree: &str,
        range: impl RangeBounds<K>,
        pick: P,
    ) -> Self {
        Walk::new(Source::Snapshot(snapshot), tree, range, pick)
    }
}

impl<'a, P: Pick> Walk<'a, P> {
    pub(crate) fn of_transaction<K: AsRef<[u8]>>(
        tx: &'a WriteTransaction,
        tree: &str,
        range: impl RangeBounds<K>,
        pick: P,
    ) -> Self {
        Walk::new(Source::Transaction(tx), tree, range, pick)
    }

    fn new<K: AsRef<[u8]>>(
        source: Source<'a>,
        tree: &str,
        range: impl RangeBounds<K>,
        pick: P,
    ) -> Self {
        let (lower, upper) = bounds_of(range);
        Walk {
            source,
            tree: Arc::from(tree),
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
    fn fetch(&mut self, backwards: bool) -> Result<VecDeque<(Vec<u8>, P::Item)>> {
        let range = (self.lower.clone(), self.upper.clone());
        let limit = self.fetch;
        self.fetch = (limit * 2).min(MOST_FETCH);
        let (tree, pick) = (&self.tree, &mut self.pick);
        let fetched = match &self.source {
            Source::Snapshot(snapshot) => fetch(snapshot, tree, range, pick, backwards, limit)?,
            Source::Transaction(tx) => fetch(*tx, tree, range, pick, backwards, limit)?,
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

    pub(crate) fn step(&mut self, backwards: bool) -> Result<Option<(Vec<u8>, P::Item)>> {
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

fn fetch<P: Pick>(
    moment: &impl Moment,
    tree: &str,
    range: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    pick: &mut P,
    backwards: bool,
    limit: usize,
) -> Result<Fetched<P::Item>> {
    let mut fetched = Fetched {
        entries: VecDeque::new(),
        reached: None,
    };
    let Some(tree) = moment.system_view(tree) else {
        return Ok(fetched);
    };
    let mut cursor = tree.cursor_in(range);
    let mut more = if backwards {
        cursor.last()?
    } else {
        cursor.first()?
    };
    let (mut looked_at, mut bytes) = (0, 0);
    while more {
        if let Some((what, its_bytes)) = pick.pick(moment, &mut cursor)? {
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

/// The bounds of a range of keys.
pub(crate) fn bounds_of<K: AsRef<[u8]>>(
    range: impl RangeBounds<K>,
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (
        as_bytes(range.start_bound()).map(<[u8]>::to_vec),
        as_bytes(range.end_bound()).map(<[u8]>::to_vec),
    )
}
