//! What can be asked of one key, at any moment.

use std::time::Duration;

use super::record::{Kind, RecordRef};
use super::store;
use crate::hot::SharedBytes;
use crate::moment::Moment;
use crate::{Error, Result};

/// How long a key has to live. See [`Aurora::ttl`](crate::Aurora::ttl).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// There is no such key.
    Missing,
    /// It does not expire.
    Never,
    /// It expires after this time.
    After(Duration),
}

pub(super) fn get(moment: &impl Moment, key: &[u8]) -> Result<Option<SharedBytes>> {
    load(moment, key, &[])
}

/// A value that the hot tier can keep.
pub(super) fn get_with_key(moment: &impl Moment, key: &[u8]) -> Result<Option<SharedBytes>> {
    load(moment, key, key)
}

fn load(moment: &impl Moment, key: &[u8], kept_key: &[u8]) -> Result<Option<SharedBytes>> {
    store::live(moment, key, |record| {
        check_kind(key, &record, Kind::Value)?;
        Ok(SharedBytes::new(kept_key, record.payload, record.expiry_ms))
    })
}

pub(super) fn get_many<K: AsRef<[u8]>>(
    moment: &impl Moment,
    keys: impl IntoIterator<Item = K>,
) -> Result<Vec<Option<SharedBytes>>> {
    let keys: Vec<K> = keys.into_iter().collect();
    store::live_many(moment, keys.iter().map(AsRef::as_ref), |key, record| {
        check_kind(key, &record, Kind::Value)?;
        Ok(SharedBytes::new(&[], record.payload, record.expiry_ms))
    })
}

pub(super) fn contains(moment: &impl Moment, key: &[u8]) -> Result<bool> {
    Ok(store::live(moment, key, |_| Ok(()))?.is_some())
}

pub(super) fn ttl(moment: &impl Moment, key: &[u8]) -> Result<Ttl> {
    let expiry = store::live(moment, key, |record| Ok(record.expiry_ms))?;
    Ok(match expiry {
        None => Ttl::Missing,
        Some(None) => Ttl::Never,
        Some(Some(expiry_ms)) => {
            let left = expiry_ms.saturating_sub(moment.now_ms());
            Ttl::After(Duration::from_millis(left))
        }
    })
}

fn check_kind(key: &[u8], record: &RecordRef<'_>, wanted: Kind) -> Result<()> {
    if record.kind == wanted {
        return Ok(());
    }
    Err(Error::WrongKind {
        key: text(key),
        found: record.kind.name(),
        wanted: wanted.name(),
    })
}

/// A key as people read it.
pub(super) fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
