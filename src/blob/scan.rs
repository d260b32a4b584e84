//! The blobs of a range of keys, from either end, without holding more than a few of their records.

use std::iter::FusedIterator;
use std::ops::RangeBounds;

use super::Flaw;
use super::meta::{BlobInfo, MAX_BYTES, Meta};
use crate::Result;
use crate::keys::record::{Kind, MAX_HEAD_BYTES, RecordRef};
use crate::keys::scan::Live;
use crate::keys::store::KEYS;
use crate::moment::Moment;
use crate::txn::cursor::TreeCursor;
use crate::txn::snapshot::Snapshot;
use crate::txn::write::WriteTransaction;
use crate::walk::{Pick, Walk};

/// Keys of blobs with what these are like, in key order; `rev()` walks them backwards. Keys that have expired and keys of
/// values are left out. The content is read by its key, on a snapshot of the same moment if need be.
///
/// All entries are of one moment: that of the snapshot, which it keeps, or of the transaction.
/// After an error it ends.
///
/// ```
/// let db = aurora::Aurora::in_memory()?;
/// db.put("images:note", "not a blob", None)?;
/// db.put_blob_from("images:cat", &b"meow"[..])?;
/// db.put_blob_from(b"images:\xff", &b"woof!"[..])?; // keys are bytes
///
/// let mut blobs = db.scan_blobs_prefix("images:")?;
/// let (key, info) = blobs.next().unwrap()?;
/// assert_eq!((&key[..], info.size), (&b"images:cat"[..], 4));
/// let (key, info) = blobs.next().unwrap()?;
/// assert_eq!((&key[..], info.size), (&b"images:\xff"[..], 5));
/// assert!(blobs.next().is_none());
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "iterators do nothing unless they are consumed"]
pub struct BlobScan<'a>(Walk<'a, Blobs>);

impl BlobScan<'static> {
    pub(super) fn of_snapshot<K: AsRef<[u8]>>(
        snapshot: Snapshot,
        range: impl RangeBounds<K>,
    ) -> Self {
        BlobScan(Walk::of_snapshot(snapshot, KEYS, range, Blobs))
    }
}

impl<'a> BlobScan<'a> {
    pub(super) fn of_transaction<K: AsRef<[u8]>>(
        tx: &'a WriteTransaction,
        range: impl RangeBounds<K>,
    ) -> Self {
        BlobScan(Walk::of_transaction(tx, KEYS, range, Blobs))
    }
}

#[derive(Debug)]
struct Blobs;

impl Pick for Blobs {
    type Item = BlobInfo;

    fn pick(
        &mut self,
        moment: &impl Moment,
        cursor: &mut TreeCursor<'_>,
    ) -> Result<Option<(BlobInfo, usize)>> {
        const LONGEST: u64 = (MAX_HEAD_BYTES + MAX_BYTES) as u64;
        if cursor.long_length().is_some_and(|length| length > LONGEST) {
            return Ok(None); // a value, which need not be read to know that
        }
        Live(blob).pick(moment, cursor)
    }
}

/// What the blob is like, if the key holds one.
fn blob(record: RecordRef<'_>) -> Result<Option<(BlobInfo, usize)>, Flaw> {
    if record.kind != Kind::Blob {
        return Ok(None);
    }
    let info = Meta::decode(record.payload)?.info(record.expiry_ms);
    Ok(Some((info, record.payload.len())))
}

impl Iterator for BlobScan<'_> {
    type Item = Result<(Vec<u8>, BlobInfo)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step(false).transpose()
    }
}

impl DoubleEndedIterator for BlobScan<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.step(true).transpose()
    }
}

impl FusedIterator for BlobScan<'_> {}
