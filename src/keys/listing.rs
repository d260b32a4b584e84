//! What is under the keys of a prefix, in short.

use super::read::text;
use super::record::{Flaw, Kind, RecordRef};
use super::scan::look_here;
use super::store::KEYS;
use crate::Result;
use crate::moment::Moment;
use crate::txn::view::prefix_range;

/// How much of a value a preview shows, in bytes.
const PREVIEW_BYTES: usize = 64;

/// What a key holds, in short. See
/// [`Aurora::get_data_by_pattern`](crate::Aurora::get_data_by_pattern).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataInfo {
    /// A value.
    Value {
        /// Its length, in bytes.
        size: u64,
        /// How it begins, as text: 64 bytes at most, and `…` if there is more. What is not UTF-8
        /// is shown as `�`.
        preview: String,
    },
    /// A blob.
    Blob {
        /// Its length, in bytes.
        size: u64,
    },
}

pub(super) fn list(moment: &impl Moment, prefix: &[u8]) -> Result<Vec<(String, DataInfo)>> {
    let mut found = Vec::new();
    let Some(tree) = moment.system_view(KEYS) else {
        return Ok(found);
    };
    let now_ms = moment.now_ms();
    let mut cursor = tree.cursor_in(prefix_range(prefix));
    let mut more = cursor.first()?;
    while more {
        let info = look_here(&mut cursor, |record| {
            let is_there = !record.is_over(now_ms);
            is_there.then(|| info(&record)).transpose()
        })?;
        if let Some(info) = info {
            found.push((text(cursor.key()), info));
        }
        more = cursor.next()?;
    }
    Ok(found)
}

fn info(record: &RecordRef<'_>) -> Result<DataInfo, Flaw> {
    Ok(match record.kind {
        Kind::Value => DataInfo::Value {
            size: record.payload.len() as u64,
            preview: preview(record.payload),
        },
        Kind::Blob => DataInfo::Blob {
            size: record.blob_bytes()?,
        },
    })
}

fn preview(value: &[u8]) -> String {
    let Some(begin) = value.get(..PREVIEW_BYTES).filter(|b| b.len() < value.len()) else {
        return String::from_utf8_lossy(value).into_owned();
    };
    // A character that the cut went through is left out.
    let whole = match std::str::from_utf8(begin) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => begin.len(),
    };
    let mut text = String::from_utf8_lossy(begin.get(..whole).unwrap_or(begin)).into_owned();
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_is_short_and_ends_with_a_whole_character() {
        assert_eq!(preview(b"short"), "short");
        assert_eq!(preview(&[b'x'; 64]), "x".repeat(64));
        assert_eq!(preview(&[b'x'; 65]), "x".repeat(64) + "…");
        let long = "x".repeat(63) + "äää";
        assert_eq!(preview(long.as_bytes()), "x".repeat(63) + "…");
        assert_eq!(preview(&[0xff, b'a']), "\u{fffd}a");
    }
}
