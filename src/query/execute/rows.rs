//! Rows in the order that was asked for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Execution, Sink, State};
use crate::Result;
use crate::collection::index::unreadable;
use crate::query::fields::{ID, RowReader};
use crate::query::page::Cursor;
use crate::value::{Fault, Raw, encode, encode_missing};

/// A row on its way through a sort. Compares by its key.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub key: Vec<u8>,
    pub id: Vec<u8>,
    pub document: Vec<u8>,
}

/// Rows that come in their order. Which is next is found out when it is taken: to put a million of them in order at once
/// takes a second.
pub(super) type Sorted = BinaryHeap<Reverse<Row>>;

pub(super) fn sorted(rows: BinaryHeap<Row>) -> Sorted {
    let rows = rows.into_vec().into_iter().map(Reverse);
    rows.collect::<Vec<_>>().into()
}

/// The bytes that rows are ordered by: the values of the fields of `order_by` and the id, inverted
/// where the order is descending.
pub(super) fn row_key(
    reader: &RowReader,
    order: &[(String, bool)],
    id: &[u8],
    document: &[u8],
) -> Result<Vec<u8>, Fault> {
    let mut key = Vec::new();
    let mut is_backwards = false;
    for (field, ascending) in order {
        let start = key.len();
        put_value(reader, field, id, document, &mut key)?;
        is_backwards = !ascending;
        if is_backwards {
            invert(&mut key, start);
        }
    }
    let start = key.len();
    key.extend_from_slice(id);
    if is_backwards {
        invert(&mut key, start);
    }
    Ok(key)
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
    match reader.find(document, field)? {
        Raw::Missing => encode_missing(key),
        raw => encode(&raw.to_value(crate::value::MAX_DEPTH)?, key),
    }
    Ok(())
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
            && let Some(Reverse(row)) = rows.pop()
        {
            *left -= 1;
            self.bytes_left = self.bytes_left.saturating_sub(row.document.len());
            if !self.emit(&row.id, &row.document, sink)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keeps no more rows than are wanted.
    pub(super) fn sort_in(&mut self, key: Vec<u8>, id: &[u8], document: &[u8]) {
        let wanted = { self.limit_left }
            .and_then(|limit| limit.checked_add(self.offset_left))
            .map(|rows| usize::try_from(rows).unwrap_or(usize::MAX));
        if wanted.is_some_and(|wanted| self.sorter.len() >= wanted) {
            match self.sorter.peek() {
                Some(last) if key < last.key => {
                    self.sorter.pop();
                }
                _ => return,
            }
        }
        self.sorter.push(Row {
            key,
            id: id.to_vec(),
            document: document.to_vec(),
        });
    }

    /// A cursor that stands behind a row.
    pub(crate) fn cursor_behind(&self, id: &[u8], document: &[u8]) -> Result<Cursor> {
        let fault = |fault: Fault| unreadable(&self.meta, fault.0);
        let mut values = Vec::new();
        for (field, _) in &self.spec.order {
            put_value(&self.reader, field, id, document, &mut values).map_err(fault)?;
        }
        let key = row_key(&self.reader, &self.spec.order, id, document).map_err(fault)?;
        Ok(Cursor::new(&self.spec.order, values, id.to_vec(), key))
    }
}
