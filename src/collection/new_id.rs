//! Ids for documents that come without one.

use std::fmt;

use uuid::Uuid;

use super::documents::key_of;
use super::meta::Meta;
use crate::moment::Moment;
use crate::txn::write::WriteTransaction;
use crate::value::{FieldType, Value, decode_id};
use crate::{Error, Result};

/// Ids of documents that came without one: in the order of their making, so that they are added
/// at the end of the tree.
pub(super) fn new_id(tx: &WriteTransaction, meta: &Meta, kind: Option<FieldType>) -> Result<Value> {
    if kind == Some(FieldType::Int) {
        return next_number(tx, meta);
    }
    let id = tx.handle().ids.next(tx.now_ms());
    Ok(match kind {
        Some(FieldType::String) => Value::String(id.to_string()),
        _ => Value::Uuid(id),
    })
}

fn next_number(tx: &WriteTransaction, meta: &Meta) -> Result<Value> {
    let Some(view) = tx.system_view(&meta.documents_tree) else {
        return Ok(Value::Int(1));
    };
    let mut cursor = view.cursor();
    let greatest = key_of(meta, &Value::Int(i64::MAX))?;
    let last = match cursor.seek_back(&greatest)? {
        true => decode_id(cursor.key()).and_then(|id| id.as_int()),
        false => None,
    };
    let next = last.unwrap_or(0).max(0).checked_add(1);
    next.map(Value::Int).ok_or_else(|| Error::NoNextId {
        collection: meta.name.to_string(),
    })
}

/// Makes ids that grow: UUIDs of version 7, with the time of the transaction in front.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    last: crate::sync::Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    millisecond: u64,
    /// The 74 bits behind the time.
    rest: u128,
    drawn: Drawn,
}

/// Random numbers of 48 bits, which the system is asked for many at a time: each call of it takes as long as a search in
/// a tree.
#[derive(Default)]
struct Drawn {
    numbers: Vec<[u8; 6]>,
}

/// They are no secret once they are in ids, but those that are still to come are.
impl fmt::Debug for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drawn").finish_non_exhaustive()
    }
}

impl Drawn {
    fn next(&mut self) -> u128 {
        const AT_A_TIME: usize = 64;
        if self.numbers.is_empty() {
            self.numbers.resize(AT_A_TIME, [0; 6]);
            // A system without randomness leaves zeros: ids are different then, too, and in order, but easy to guess.
            let _ = getrandom::fill(self.numbers.as_flattened_mut());
        }
        let [a, b, c, d, e, f] = self.numbers.pop().unwrap_or_default();
        u128::from(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

impl Ids {
    pub(crate) fn next(&self, now_ms: u64) -> Uuid {
        const REST_BITS: u32 = 74;
        let mut last = self.last.lock();
        let random = last.drawn.next();
        if now_ms > last.millisecond {
            last.millisecond = now_ms;
            last.rest = random << 25;
        } else {
            // In the same millisecond a random step: in order, and hard to guess.
            last.rest += (random & 0xffff_ffff) + 1;
        }
        if last.rest >> REST_BITS > 0 {
            last.millisecond += 1;
            last.rest = random;
        }
        let time = u128::from(last.millisecond) & ((1 << 48) - 1);
        let (high, low) = (last.rest >> 62, last.rest & ((1 << 62) - 1));
        Uuid::from_u128(time << 80 | 7 << 76 | high << 64 | 2 << 62 | low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_grow_and_are_of_version_7() {
        let ids = Ids::default();
        let mut last = Uuid::nil();
        for i in 0..20_000u64 {
            let id = ids.next(1_700_000_000_000 + i / 500);
            assert!(id > last);
            assert_eq!((id.get_version_num(), id.as_u128() >> 62 & 3), (7, 2));
            last = id;
        }
    }
}
