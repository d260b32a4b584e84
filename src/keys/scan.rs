//! The keys of a range with what they hold, from either end, without holding more than a few of them.

use std::collections::HashSet;
use std::iter::FusedIterator;
use std::ops::{Bound, RangeBounds};

use super::expiry::{self, OF_KEY};
use super::record::{Flaw, Kind, RecordRef};
use super::store::KEYS;
use crate::Result;
use crate::moment::Moment;
use crate::txn::cursor::{Entry, TreeCursor};
use crate::txn::snapshot::Snapshot;
use crate::txn::write::WriteTransaction;
use crate::walk::{Pick, Walk};

/// What is taken of a record, and how many bytes of memory that is; `None` to go past it.
type Take<T> = fn(RecordRef<'_>) -> Result<Option<(T, usize)>, Flaw>;

/// What is taken of records that have not expired.
#[derive(Debug)]
pub(crate) struct Live<T>(pub Take<T>);

impl<T> Pick for Live<T> {
    type Item = T;

    fn pick(
        &mut self,
        moment: &impl Moment,
        cursor: &mut TreeCursor<'_>,
    ) -> Result<Option<(T, usize)>> {
        let now_ms = moment.now_ms();
        look_here(cursor, |record| {
            if record.is_over(now_ms) {
                return Ok(None);
            }
            (self.0)(record)
        })
    }
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
pub struct Scan<'a>(Walk<'a, Live<Vec<u8>>>);

impl Scan<'static> {
    pub(super) fn of_snapshot<K: AsRef<[u8]>>(
        snapshot: Snapshot,
        range: impl RangeBounds<K>,
    ) -> Self {
        Scan(Walk::of_snapshot(snapshot, KEYS, range, Live(value)))
    }
}

impl<'a> Scan<'a> {
    pub(super) fn of_transaction<K: AsRef<[u8]>>(
        tx: &'a WriteTransaction,
        range: impl RangeBounds<K>,
    ) -> Self {
        Scan(Walk::of_transaction(tx, KEYS, range, Live(value)))
    }
}

/// The value, if the key holds one.
fn value(record: RecordRef<'_>) -> Result<Option<(Vec<u8>, usize)>, Flaw> {
    let is_value = record.kind == Kind::Value;
    Ok(is_value.then(|| (record.payload.to_vec(), record.payload.len())))
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

/// Keys alone, those of values and those of blobs, in key order; `rev()` walks them backwards. Keys that have expired are
/// left out.
///
/// What the keys hold is not read, however long it is: only what lies beside its key is (up to 1,354 bytes with pages of
/// 4 KiB). Which of the keys of long values have expired is asked of the index of what expires. (Where very many keys have
/// expired and are not removed yet, more than a MiB of them, long values are read after all; so it can be with an old file that
/// is opened for reading only.)
///
/// All keys are of one moment: that of the snapshot, which it keeps, or of the transaction. After an error it ends.
///
/// ```
/// let db = aurora::Aurora::in_memory()?;
/// db.put("film:1", vec![0; 10_000_000], None)?;
/// db.put("film:2", "lost", None)?;
/// db.put_blob_from("film:3", &b"a blob"[..])?;
/// let keys: Vec<Vec<u8>> = db.scan_keys_prefix("film:")?.collect::<aurora::Result<_>>()?;
/// assert_eq!(keys, [b"film:1", b"film:2", b"film:3"]);
/// let last = db.scan_keys(..="film:2")?.next_back().transpose()?;
/// assert_eq!(last, Some(b"film:2".to_vec()));
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "iterators do nothing unless they are consumed"]
pub struct KeyScan<'a>(Walk<'a, LiveKeys>);

/// What has expired and is not removed yet, as far as somebody asked.
#[derive(Debug, Default)]
enum Over {
    #[default]
    NotAsked,
    Few(HashSet<Vec<u8>>),
    /// Too many to be held: the records say it.
    Many,
}

/// So many bytes of keys that have expired are held.
const MOST_OVER_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
struct LiveKeys(Over);

impl Pick for LiveKeys {
    type Item = ();

    fn pick(
        &mut self,
        moment: &impl Moment,
        cursor: &mut TreeCursor<'_>,
    ) -> Result<Option<((), usize)>> {
        let is_long = cursor.long_length().is_some();
        if is_long && matches!(self.0, Over::NotAsked) {
            self.0 = over(moment)?;
        }
        let is_over = match &self.0 {
            Over::Few(over) if is_long => over.contains(cursor.key()),
            _ => look_here(cursor, |record| Ok(record.is_over(moment.now_ms())))?,
        };
        Ok((!is_over).then(|| ((), cursor.key().len())))
    }
}

/// The keys that have expired at this moment, by the index of what expires.
fn over(moment: &impl Moment) -> Result<Over> {
    let mut keys = HashSet::new();
    let mut bytes = 0;
    let is_whole = expiry::for_each_over(moment, |due| {
        if due.owner == OF_KEY {
            bytes += due.name.len();
            keys.insert(due.name.to_vec());
        }
        bytes <= MOST_OVER_BYTES
    })?;
    Ok(match is_whole {
        true => Over::Few(keys),
        false => Over::Many,
    })
}

impl KeyScan<'static> {
    pub(super) fn of_snapshot<K: AsRef<[u8]>>(
        snapshot: Snapshot,
        range: impl RangeBounds<K>,
    ) -> Self {
        KeyScan(Walk::of_snapshot(
            snapshot,
            KEYS,
            range,
            LiveKeys::default(),
        ))
    }
}

impl<'a> KeyScan<'a> {
    pub(super) fn of_transaction<K: AsRef<[u8]>>(
        tx: &'a WriteTransaction,
        range: impl RangeBounds<K>,
    ) -> Self {
        KeyScan(Walk::of_transaction(tx, KEYS, range, LiveKeys::default()))
    }

    fn step(&mut self, backwards: bool) -> Result<Option<Vec<u8>>> {
        Ok(self.0.step(backwards)?.map(|(key, ())| key))
    }
}

impl Iterator for KeyScan<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(false).transpose()
    }
}

impl DoubleEndedIterator for KeyScan<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(true).transpose()
    }
}

impl FusedIterator for KeyScan<'_> {}

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

/// Hands the record under the cursor to a closure.
pub(super) fn look_here<T>(
    cursor: &mut TreeCursor<'_>,
    look: impl FnOnce(RecordRef<'_>) -> Result<T, Flaw>,
) -> Result<T> {
    let looked = RecordRef::decode(cursor.value()?).and_then(look);
    looked.map_err(|flaw| flaw.at(KEYS, cursor.key()))
}
