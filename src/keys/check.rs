//! Whether the keys and the expiry index say the same.

use super::expiry::{self, Due, EXPIRY, OF_KEY};
use super::record::Flaw;
use super::scan::look_here;
use super::store::{self, KEYS};
use crate::Result;
use crate::moment::Moment;

/// Every record decodes; every key that expires has an entry in the index, and every entry of a
/// key has a key that expires then.
pub(crate) fn check(moment: &impl Moment) -> Result<()> {
    expiry::stored_clock(moment)?;
    check_keys(moment)?;
    check_index(moment)
}

fn check_keys(moment: &impl Moment) -> Result<()> {
    let Some(keys) = moment.system_view(KEYS) else {
        return Ok(());
    };
    let mut cursor = keys.cursor();
    let mut more = cursor.first()?;
    while more {
        if let Some(expiry_ms) = look_here(&mut cursor, |record| Ok(record.expiry_ms))? {
            let is_there = expiry::lists(moment, expiry_ms, OF_KEY, cursor.key())?;
            if !is_there {
                let flaw = Flaw {
                    what: "a key that expires is not in the expiry index",
                    expected: expiry_ms,
                    found: 0,
                };
                return Err(flaw.at(KEYS, cursor.key()));
            }
        }
        more = cursor.next()?;
    }
    Ok(())
}

fn check_index(moment: &impl Moment) -> Result<()> {
    let Some(index) = moment.system_view(EXPIRY) else {
        return Ok(());
    };
    let mut cursor = index.cursor();
    let mut more = cursor.first()?;
    while more {
        let due = Due::decode(cursor.key())?;
        if due.owner == OF_KEY {
            let found = store::stored(moment, due.name, |record| Ok(record.expiry_ms))?;
            if found != Some(Some(due.expiry_ms)) {
                let flaw = Flaw {
                    what: "the key of an entry of the expiry index does not expire then",
                    expected: due.expiry_ms,
                    found: found.flatten().unwrap_or(0),
                };
                return Err(flaw.at(EXPIRY, due.name));
            }
        }
        more = cursor.next()?;
    }
    Ok(())
}
