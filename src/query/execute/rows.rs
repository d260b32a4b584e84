//! Rows in the order that was asked for.

use std::collections::VecDeque;

use super::{Execution, Sink, State, step};
use crate::Result;
use crate::collection::index::{split, unreadable};
use crate::moment::Moment;
use crate::query::fields::{ID, RowReader};
use crate::query::page::Cursor;
use crate::query::plan::Source;
use crate::txn::cursor::TreeCursor;
use crate::txn::view::TreeView;
use crate::value::{Fault, Raw, encode, encode_missing};

/// A row on its way through a sort. Compares by its key.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub key: Vec<u8>,
    pub id: Vec<u8>,
    pub document: Vec<u8>,
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
    /// Looks at all entries that were cut to the same values. Of their rows the sorter keeps what is wanted: there may be as
    /// many as the collection has. Says whether there are other entries behind them.
    pub(super) fn sort_group(
        &mut self,
        moment: &impl Moment,
        cursor: &mut TreeCursor<'_>,
        values: &[u8],
        documents: &TreeView<'_>,
    ) -> Result<bool> {
        let Source::InOrder { descending, .. } = self.plan.source else {
            return Ok(false);
        };
        let mut there = true;
        while there {
            let Some((own, id)) = split(cursor.key()) else {
                return Err(self.bad_entry());
            };
            if own != values {
                break;
            }
            let document = self.document(documents, id)?;
            if self.is_row(moment, id, &document)?
                && let Some(key) = self.key_of_row(id, &document)?
            {
                self.sort_in(key, id, &document);
            }
            there = step(cursor, descending)?;
        }
        Ok(there)
    }

    pub(super) fn emit_sorted(
        &mut self,
        mut rows: VecDeque<Row>,
        budget: usize,
        sink: &mut Sink<'_>,
    ) -> Result<State> {
        for _ in 0..budget {
            let Some(row) = rows.pop_front() else {
                return Ok(State::Done);
            };
            if !self.emit(&row.id, &row.document, sink)? {
                return Ok(State::Done);
            }
        }
        Ok(State::Sorted(rows))
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
