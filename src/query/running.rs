//! A query that is being answered: its moment, and documents made of what is found.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

use super::Query;
use super::execute::{Execution, Slice};
use super::fields::RowReader;
use super::origin::Seen;
use crate::collection::index::unreadable;
use crate::collection::meta::Meta;
use crate::collection::{catalog, documents};
use crate::txn::write::WriteTransaction;
use crate::value::{Document, MAX_DEPTH, Object, Raw, Value};
use crate::{Error, Result};

/// What is looked at between two looks at whether someone else wants the thread.
pub(super) const SLICE: Slice = Slice {
    candidates: 512,
    bytes: 4 << 20,
};

/// What a [`Rows`] holds at a time, at the most; of longer rows one.
const ROWS_HELD: Slice = Slice {
    candidates: 64,
    bytes: 1 << 20,
};

/// A query with the moment that it looks at.
pub(super) struct Running<'q> {
    seen: Seen<'q>,
    pub execution: Execution<'q>,
    fields: RowReader,
    select: Option<Vec<String>>,
}

impl<'q> Query<'q> {
    /// Plans it, and gets ready to run.
    pub(super) fn start(self) -> Result<Running<'q>> {
        self.check()?;
        let seen = Seen::Snapshot(self.origin.snapshot()?);
        self.start_at(seen)
    }

    /// The same, to look at what a transaction sees.
    pub(super) fn start_in(self, tx: &'q WriteTransaction) -> Result<Running<'q>> {
        self.check()?;
        self.origin.check_for(tx)?;
        self.start_at(Seen::Transaction(tx))
    }

    fn start_at(self, seen: Seen<'q>) -> Result<Running<'q>> {
        let meta = catalog::load(&seen, &self.collection)?;
        let fields = RowReader::new(meta.names.clone());
        let execution = Execution::new(&seen, meta, self.spec)?;
        Ok(Running {
            seen,
            execution,
            fields,
            select: self.select,
        })
    }
}

impl<'q> Running<'q> {
    /// Looks at some more, and hands rows to `take`. Says whether that was all.
    pub fn step(
        &mut self,
        slice: Slice,
        mut take: impl FnMut(&Decoder<'_>, &[u8], &[u8]) -> Result<()>,
    ) -> Result<bool> {
        let meta = self.execution.meta.clone();
        let decoder = Decoder {
            meta: &meta,
            fields: &self.fields,
            select: self.select.as_deref(),
            rows_ahead: self.execution.rows_ahead(),
        };
        let mut sink = |id: &[u8], document: &[u8]| take(&decoder, id, document);
        match &self.seen {
            Seen::Snapshot(snapshot) => self.execution.step(snapshot, slice, &mut sink),
            Seen::Transaction(tx) => self.execution.step(*tx, slice, &mut sink),
        }
    }

    /// Hands all rows to `take`.
    pub fn finish(
        mut self,
        mut take: impl FnMut(&Decoder<'_>, &[u8], &[u8]) -> Result<()>,
    ) -> Result<Execution<'q>> {
        while !self.step(SLICE, &mut take)? {}
        Ok(self.execution)
    }
}

/// Makes documents of bytes.
pub(super) struct Decoder<'d> {
    pub meta: &'d Meta,
    pub fields: &'d RowReader,
    select: Option<&'d [String]>,
    pub rows_ahead: usize,
}

impl Decoder<'_> {
    pub fn document(&self, id: &[u8], bytes: &[u8]) -> Result<Document> {
        let Some(select) = self.select else {
            return documents::decode(self.meta, id, bytes);
        };
        let mut fields = Object::new();
        for path in select {
            let Some(value) = self.value(bytes, path)? else {
                continue;
            };
            match path.contains('.') {
                true => fields.set_at(&self.names(bytes, path)?, value),
                false => drop(fields.insert(path.as_str(), value)),
            }
        }
        Ok(Document::new(documents::id_of(self.meta, id)?, fields))
    }

    /// The names by which a field is found.
    fn names(&self, document: &[u8], field: &str) -> Result<Vec<Arc<str>>> {
        let names = self.fields.names(document, field);
        names.map_err(|fault| unreadable(self.meta, fault.0))
    }

    /// The value of a field. `None`: there is none.
    fn value(&self, document: &[u8], field: &str) -> Result<Option<Value>> {
        let value = match self.fields.find(document, field) {
            Ok(Raw::Missing) => return Ok(None),
            Ok(raw) => raw.to_value(MAX_DEPTH),
            Err(fault) => Err(fault),
        };
        value
            .map(Some)
            .map_err(|fault| unreadable(self.meta, fault.0))
    }
}

/// The rows of a query, one by one. See [`Query::rows`] and [`Query::rows_in`].
///
/// All of one moment, which it keeps, or of the transaction. After an error it ends.
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Rows<'q> {
    running: Running<'q>,
    held: VecDeque<Document>,
    is_done: bool,
    /// What ended it, for when the rows before are given.
    failure: Option<Error>,
}

impl<'q> Rows<'q> {
    pub(super) fn new(running: Running<'q>) -> Self {
        Rows {
            running,
            held: VecDeque::new(),
            is_done: false,
            failure: None,
        }
    }
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        while self.held.is_empty() && !self.is_done {
            let held = &mut self.held;
            let stepped = self.running.step(ROWS_HELD, |decoder, id, bytes| {
                held.push_back(decoder.document(id, bytes)?);
                Ok(())
            });
            match stepped {
                Ok(is_done) => self.is_done = is_done,
                Err(error) => {
                    self.is_done = true;
                    self.failure = Some(error);
                }
            }
        }
        let row = self.held.pop_front().map(Ok);
        row.or_else(|| self.failure.take().map(Err))
    }
}

impl FusedIterator for Rows<'_> {}
