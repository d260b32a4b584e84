//! Records of blobs and chunks against each other, both ways.

use std::collections::HashSet;

use super::content::{is_taken, keys_from, last_number};
use super::meta::Meta;
use super::stage::staged_numbers;
use super::{CHUNKS, Flaw};
use crate::Result;
use crate::keys::record::{Kind, RecordRef};
use crate::keys::store::KEYS;
use crate::moment::Moment;

/// Every blob has its chunks, with its size and checksum, and every chunk a blob or a staged
/// number; and no number is above the last one that was given. The chunks' own bytes are the structural check's business.
pub(crate) fn check(moment: &impl Moment) -> Result<()> {
    let mut owners = HashSet::new();
    let mut owned = 0;
    if let Some(keys) = moment.system_view(KEYS) {
        let mut cursor = keys.cursor();
        let mut more = cursor.first()?;
        while more {
            let key = cursor.key().to_vec();
            // A key that is no blob is left to the check of keys.
            if let Ok(record) = RecordRef::decode(cursor.value()?)
                && record.kind == Kind::Blob
            {
                let meta = Meta::decode(record.payload).map_err(|flaw| flaw.at(KEYS, &key))?;
                claim(&mut owners, meta.content.number, &key)?;
                owned += meta.content.check(moment)?;
            }
            more = cursor.next()?;
        }
    }
    for number in staged_numbers(moment)? {
        claim(&mut owners, number, b"(staged)")?;
        if let Some(chunks) = moment.system_view(CHUNKS) {
            owned += chunks.count(keys_from(number, 0))?;
        }
    }
    // Else the next blob would get a number that is taken.
    let (last, highest) = (last_number(moment)?, owners.iter().max());
    if let Some(taken) = highest.filter(|taken| **taken > last) {
        return Err(is_taken(last, *taken));
    }
    let found = moment.system_view(CHUNKS).map_or(0, |view| view.len());
    if owned != found {
        return Err(orphan(moment, &owners, owned, found)?);
    }
    Ok(())
}

fn claim(owners: &mut HashSet<u64>, number: u64, key: &[u8]) -> Result<()> {
    if !owners.insert(number) {
        let flaw = Flaw {
            what: "two blobs have the same number",
            expected: number.saturating_add(1),
            found: number,
        };
        return Err(flaw.at(KEYS, key));
    }
    Ok(())
}

/// Names the first chunk that belongs to nobody. A blob's surplus of chunks behind its end is
/// named by the first of all its chunks.
fn orphan(
    moment: &impl Moment,
    owners: &HashSet<u64>,
    expected: u64,
    found: u64,
) -> Result<crate::Error> {
    let mut name = b"(behind the end of a blob)".to_vec();
    if let Some(chunks) = moment.system_view(CHUNKS) {
        let mut cursor = chunks.cursor();
        let mut more = cursor.first()?;
        while more {
            let number = cursor.key().first_chunk().map(|n| u64::from_be_bytes(*n));
            if number.is_none_or(|number| !owners.contains(&number)) {
                name = number.map_or(name, |number| number.to_string().into_bytes());
                break;
            }
            more = cursor.next()?;
        }
    }
    let flaw = Flaw {
        what: "there are chunks that belong to no blob",
        expected,
        found,
    };
    Ok(flaw.at(CHUNKS, &name))
}
