//! Rows in the order that was asked for.

use super::{Execution, RowRef, Sink, Sorted, State};
use crate::Result;
use crate::collection::index::unreadable;
use crate::query::fields::{ID, RowReader};
use crate::query::page::Cursor;
use crate::value::{Fault, encode_raw};

/// Appends the bytes that rows are ordered by: the values of the fields of `order_by` and the id, inverted
/// where the order is descending.
pub(super) fn put_row_key(
    reader: &RowReader,
    order: &[(String, bool)],
    id: &[u8],
    document: &[u8],
    key: &mut Vec<u8>,
) -> Result<(), Fault> {
    let mut is_backwards = false;
    for (field, ascending) in order {
        let start = key.len();
        put_value(reader, field, id, document, key)?;
        is_backwards = !ascending;
        if is_backwards {
            invert(key, start);
        }
    }
    let start = key.len();
    key.extend_from_slice(id);
    if is_backwards {
        invert(key, start);
    }
    Ok(())
}

/// Appends the encoding of a field.
fn put_value(
    reader: &RowReader,
    field: &str,
    id: &[u8],
    document: &[u8],
    key: &mut Vec<u8>,
) -> Result<(), Fault> {
    if field == ID {
        key.extend_from_slice(id);
        return Ok(());
    }
    encode_raw(&reader.find(document, field)?, key)
}

/// No encoding is the beginning of another, so inverting all bytes turns the order round.
fn invert(key: &mut [u8], start: usize) {
    for byte in key.iter_mut().skip(start) {
        *byte = !*byte;
    }
}

impl Execution<'_> {
    pub(super) fn emit_sorted(
        &mut self,
        mut rows: Sorted,
        mut budget: usize,
        sink: &mut Sink<'_>,
    ) -> Result<State> {
        let wants_more = self.emit_some(&mut rows, &mut budget, sink)?;
        Ok(match wants_more && !rows.is_empty() {
            true => State::Sorted(rows),
            false => State::Done,
        })
    }

    /// Gives the next rows, as many as the step has room for. Says whether more are wanted.
    pub(super) fn emit_some(
        &mut self,
        rows: &mut Sorted,
        left: &mut usize,
        sink: &mut Sink<'_>,
    ) -> Result<bool> {
        while *left > 0
            && !self.is_enough()
            && let Some(row) = rows.pop()
        {
            *left -= 1;
            self.bytes_left = self.bytes_left.saturating_sub(row.document.len());
            if !self.emit(row.id, row.document, sink)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts the present row among the others.
    pub(super) fn sort_in(&mut self, id: &[u8], document: &[u8]) {
        let wanted = { self.limit_left }
            .and_then(|limit| limit.checked_add(self.offset_left))
            .map(|rows| usize::try_from(rows).unwrap_or(usize::MAX));
        let key = &self.row_key;
        self.sorter.push(wanted, RowRef { key, id, document });
    }

    /// A cursor that stands behind a row.
    pub(crate) fn cursor_behind(&self, id: &[u8], document: &[u8]) -> Result<Cursor> {
        let fault = |fault: Fault| unreadable(&self.meta, fault.0);
        let mut values = Vec::new();
        for (field, _) in &self.spec.order {
            put_value(&self.reader, field, id, document, &mut values).map_err(fault)?;
        }
        let mut key = Vec::new();
        put_row_key(&self.reader, &self.spec.order, id, document, &mut key).map_err(fault)?;
        Ok(Cursor::new(&self.spec.order, values, id.to_vec(), key))
    }
}
