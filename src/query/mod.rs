//! Queries: which documents of a collection, in which order.
//!
//! ```text
//! Query -> decision (the filter's boolean function) -> ranges -> plan -> execute, page by page
//! ```

mod decision;
mod execute;
mod explain;
mod fields;
mod filter;
mod group;
mod ids;
mod origin;
mod page;
mod plan;
mod ranges;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::collection::catalog;
use crate::collection::index::unreadable;
use crate::collection::meta::Meta;
use crate::collection::patch::Patch;
use crate::collection::{documents, many};
use crate::txn::snapshot::Snapshot;
use crate::txn::write::WriteTransaction;
use crate::value::{Document, MAX_DEPTH, Object, Raw, Value};
use crate::work::Work;
use crate::{Error, Result};

use self::execute::{Execution, Slice, Spec};
pub use self::explain::Explanation;
pub use self::fields::Fields;
pub(crate) use self::fields::{BAD_PATTERN, ID, RowReader};
pub use self::filter::Filter;
pub use self::group::{Group, Grouped};
use self::origin::Origin;
pub use self::page::Cursor;
use self::plan::Plan;

/// What is looked at between two looks at whether someone else wants the thread.
const SLICE: Slice = Slice {
    candidates: 512,
    bytes: 4 << 20,
};

/// What a [`Rows`] holds at a time, at the most; of longer rows one.
const ROWS_HELD: Slice = Slice {
    candidates: 64,
    bytes: 1 << 20,
};

/// A query on the documents of a collection. Made by [`Aurora::query`](crate::Aurora::query),
/// [`Snapshot::query`](crate::Snapshot::query) and [`WriteTransaction::query`](crate::WriteTransaction::query).
///
/// ```
/// use aurora::{Aurora, Field, FieldType, Filter, Schema};
///
/// let db = Aurora::in_memory()?;
/// let schema = Schema::new()
///     .field(Field::new("title", FieldType::String))
///     .field(Field::new("year", FieldType::Int).indexed())
///     .field(Field::new("tags", FieldType::String).indexed());
/// db.new_collection("books", schema)?;
/// for (title, year, tag) in [("A", 2020, "x"), ("B", 2021, "y"), ("C", 2022, "y")] {
///     let tags = vec![tag.into()];
///     db.insert_into("books", [("title", title.into()), ("year", year.into()), ("tags", aurora::Value::Array(tags))])?;
/// }
///
/// let found = db.query("books")
///     .filter(|f| f.gt("year", 2020) && f.contains("tags", "y"))
///     .order_by("year", false)
///     .limit(10)
///     .collect()
///     .wait()?;
/// assert_eq!(found.len(), 2);
/// assert_eq!(found[0].get("title").and_then(|title| title.as_str()), Some("C"));
///
/// // The same as a value.
/// let filter = Filter::gt("year", 2020).and(Filter::contains("tags", "y"));
/// assert_eq!(db.query("books").matching(filter).count().wait()?, 2);
/// # Ok::<(), aurora::Error>(())
/// ```
///
/// Without [`order_by`](Self::order_by) rows come in the order of their ids. In filters, orders and groups every
/// document has the field `id`, which needs no index: documents are found by it. A query sees one
/// moment: what is committed when it starts, or its snapshot's. A field that no document has is a missing one, and not an
/// error; if it should be there, [`explain`](Self::explain) tells how it is spelled.
#[derive(Clone)]
#[must_use = "a query does nothing until its results are asked for"]
pub struct Query<'q> {
    origin: Origin,
    collection: String,
    spec: Spec<'q>,
    select: Option<Vec<String>>,
    fault: Option<String>,
}

impl fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("collection", &self.collection)
            .field("order", &self.spec.order)
            .finish_non_exhaustive()
    }
}

impl<'q> Query<'q> {
    fn new(origin: Origin, collection: String) -> Self {
        Query {
            origin,
            collection,
            spec: Spec {
                filters: Vec::new(),
                order: Vec::new(),
                after: None,
                offset: 0,
                limit: None,
            },
            select: None,
            fault: None,
        }
    }

    /// Keeps the documents for which the closure answers `true`. Several filters all have to.
    ///
    /// The closure is planned, not just run: before the query begins, it is called with made-up answers,
    /// to learn what it asks and what it makes of the answers, and from that follow
    /// the ranges of indexes that are worth looking at. So it must depend on nothing but the
    /// answers. One that asks more than some hundred combinations, or looks at values themselves
    /// ([`Fields::value`]), is answered by looking at every document.
    pub fn filter(mut self, filter: impl Fn(&Fields<'_>) -> bool + Send + Sync + 'q) -> Self {
        self.spec.filters.push(Arc::new(filter));
        self
    }

    /// Keeps the documents that match. Like [`filter`](Self::filter), with a condition that is a
    /// value.
    pub fn matching(mut self, filter: Filter) -> Self {
        self.fault = self.fault.or_else(|| filter.fault());
        let node = filter.0;
        self.filter(move |fields| node.holds(fields))
    }

    /// Orders by a field, ascending or descending; by several if it is called several times. Rows
    /// that are equal in all of them are ordered by their ids, in the direction of the last.
    /// Missing values come first, then null, then the others in the order of
    /// [`Value`].
    pub fn order_by(mut self, field: impl Into<String>, ascending: bool) -> Self {
        self.spec.order.push((field.into(), ascending));
        self
    }

    /// At most so many rows. A [`page`](Self::page) has its own limit.
    pub fn limit(mut self, rows: u64) -> Self {
        self.spec.limit = Some(rows);
        self
    }

    /// Leaves out so many rows at the start, which is behind the cursor if there is one: a query for the next page leaves
    /// it out. Costs O(log n) where an index gives the order and the
    /// filter; else they are found and dropped. [`after`](Self::after) does better.
    pub fn offset(mut self, rows: u64) -> Self {
        self.spec.offset = rows;
        self
    }

    /// Begins behind a row: with the cursor of the page before.
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.spec.after = Some(cursor);
        self
    }

    /// Only these fields of each document: names, or paths of names with dots between, under objects of their own. `id` is
    /// among them only if the schema declares it or the document was stored with one; every row has its id
    /// beside its fields ([`Document::id`](crate::Document::id)).
    pub fn select<P: Into<String>>(mut self, fields: impl IntoIterator<Item = P>) -> Self {
        self.select = Some(fields.into_iter().map(Into::into).collect());
        self
    }

    pub(crate) fn collection_name(&self) -> &str {
        &self.collection
    }

    /// The same, with its moment fixed, so that it can be run twice.
    pub(crate) fn at_one_moment(mut self) -> Result<(Self, Snapshot)> {
        let snapshot = self.origin.snapshot()?;
        self.origin = Origin::Snapshot(snapshot.clone());
        Ok((self, snapshot))
    }

    fn check(&self) -> Result<()> {
        self.fault
            .clone()
            .map_or(Ok(()), |reason| Err(Error::BadQuery { reason }))
    }

    /// Plans it, and gets ready to run.
    fn start(self) -> Result<Running<'q>> {
        self.check()?;
        let snapshot = self.origin.snapshot()?;
        let meta = catalog::load(&snapshot, &self.collection)?;
        let fields = RowReader::new(meta.names.clone());
        let execution = Execution::new(&snapshot, meta, self.spec)?;
        Ok(Running {
            snapshot,
            execution,
            fields,
            select: self.select,
        })
    }

    /// Runs it in slices, giving each row to `take`, and `finish` makes the result of that.
    fn run<A, T>(
        self,
        take: impl Fn(&mut A, &Decoder<'_>, &[u8], &[u8]) -> Result<()> + Send + 'q,
        finish: impl Fn(A, &Execution<'q>) -> Result<T> + Send + 'q,
    ) -> Work<'q, T>
    where
        A: Default + Send + 'q,
        T: Send + 'q,
    {
        self.run_unless(|_| None, take, finish)
    }

    /// Like [`run`](Self::run), unless the plan alone `knows` the result.
    fn run_unless<A, T>(
        self,
        knows: impl Fn(&Plan) -> Option<T> + Send + 'q,
        take: impl Fn(&mut A, &Decoder<'_>, &[u8], &[u8]) -> Result<()> + Send + 'q,
        finish: impl Fn(A, &Execution<'q>) -> Result<T> + Send + 'q,
    ) -> Work<'q, T>
    where
        A: Default + Send + 'q,
        T: Send + 'q,
    {
        let mut waiting = Some(self);
        let mut running = None;
        let mut gathered = A::default();
        Work::slices(move || {
            if let Some(query) = waiting.take() {
                let run = query.start()?;
                if let Some(known) = knows(&run.execution.plan) {
                    return Ok(Some(known));
                }
                running = Some(run);
            }
            let Some(run) = &mut running else {
                return Err(Error::WorkDone);
            };
            let is_done = run.step(SLICE, |decoder, id, document| {
                take(&mut gathered, decoder, id, document)
            })?;
            if is_done {
                return finish(std::mem::take(&mut gathered), &run.execution).map(Some);
            }
            Ok(None)
        })
    }

    /// All rows.
    pub fn collect(self) -> Work<'q, Vec<Document>> {
        let take = |rows: &mut Vec<Document>, decoder: &Decoder<'_>, id: &[u8], bytes: &[u8]| {
            if rows.is_empty() {
                rows.reserve(decoder.rows_ahead);
            }
            rows.push(decoder.document(id, bytes)?);
            Ok(())
        };
        self.run(take, |rows, _| Ok(rows))
    }

    /// All rows as a type of the program's own.
    ///
    /// # Errors
    /// [`Error::Conversion`] if a document does not fit the type.
    pub fn collect_as<T: DeserializeOwned + Send + 'q>(self) -> Work<'q, Vec<T>> {
        let take = |rows: &mut Vec<T>, decoder: &Decoder<'_>, id: &[u8], bytes: &[u8]| {
            rows.push(decoder.document(id, bytes)?.to()?);
            Ok(())
        };
        self.run(take, |rows, _| Ok(rows))
    }

    /// The first row, if there is one.
    pub fn first(mut self) -> Work<'q, Option<Document>> {
        self.spec.limit = Some(self.spec.limit.map_or(1, |limit| limit.min(1)));
        let take = |row: &mut Option<Document>, decoder: &Decoder<'_>, id: &[u8], bytes: &[u8]| {
            *row = Some(decoder.document(id, bytes)?);
            Ok(())
        };
        self.run(take, |row, _| Ok(row))
    }

    /// The number of rows. Costs O(log n) where the filter is a range of an index, or of ids, or nothing; not in collections
    /// whose documents expire, where each row is looked at.
    pub fn count(mut self) -> Work<'q, u64> {
        let is_whole = self.spec.after.is_none();
        if is_whole {
            // The order does not matter for how many there are.
            self.spec.order.clear();
        }
        let (offset, limit) = (self.spec.offset, self.spec.limit);
        let knows = move |plan: &Plan| {
            let rest = plan
                .known_count
                .filter(|_| is_whole)?
                .saturating_sub(offset);
            Some(limit.map_or(rest, |limit| rest.min(limit)))
        };
        self.run_unless(knows, count_row, |counted, _| Ok(counted))
    }

    /// A page of rows, and the cursor of the next: `None` if this one was not full. (Behind a full last page comes an
    /// empty one.)
    pub fn page(self, rows: u64) -> Work<'q, Page> {
        type Last = Option<(Vec<u8>, Vec<u8>)>;
        let take = |(documents, last): &mut (Vec<Document>, Last),
                    decoder: &Decoder<'_>,
                    id: &[u8],
                    bytes: &[u8]| {
            documents.push(decoder.document(id, bytes)?);
            *last = Some((id.to_vec(), bytes.to_vec()));
            Ok(())
        };
        self.limit(rows)
            .run(take, move |(documents, last), execution| {
                let is_full = documents.len() as u64 == rows;
                let next = match last.filter(|_| is_full) {
                    Some((id, bytes)) => Some(execution.cursor_behind(&id, &bytes)?),
                    None => None,
                };
                Ok(Page { documents, next })
            })
    }

    /// The rows one by one, in memory for some of them at a time: 64, or fewer where they are long.
    pub fn rows(self) -> Result<Rows<'q>> {
        Ok(Rows {
            running: self.start()?,
            held: std::collections::VecDeque::new(),
            failure: None,
            is_done: false,
        })
    }

    /// Changes every document that is found, in one transaction. Returns their number.
    ///
    /// They are found first, and changed then, one after the other in the order of the query. A unique value has to be free
    /// when its document's turn comes: to add one to all numbers of a unique field, begin with the greatest
    /// (`order_by("n", false)`).
    pub fn update(self, patch: impl Borrow<Patch> + Send + 'q) -> Work<'q, u64> {
        let db = match self.origin.writable() {
            Ok(db) => db,
            Err(error) => return failed(error),
        };
        Work::transaction(db, move |tx| self.update_in(tx, patch))
    }

    /// Deletes every document that is found, in one transaction. Returns their number.
    pub fn delete(self) -> Work<'q, u64> {
        let db = match self.origin.writable() {
            Ok(db) => db,
            Err(error) => return failed(error),
        };
        Work::transaction(db, move |tx| self.delete_in(tx))
    }

    /// All rows as a transaction sees them, its own changes included.
    pub fn collect_in(self, tx: &WriteTransaction) -> Result<Vec<Document>> {
        self.rows_in(tx, Ok)
    }

    /// All rows as a transaction sees them, as a type of the program's own.
    ///
    /// # Errors
    /// [`Error::Conversion`] if a document does not fit the type.
    pub fn collect_as_in<T: DeserializeOwned>(self, tx: &WriteTransaction) -> Result<Vec<T>> {
        self.rows_in(tx, |document| document.to())
    }

    /// The first row as a transaction sees them, behind the query's offset, if there is one.
    pub fn first_in(self, tx: &WriteTransaction) -> Result<Option<Document>> {
        let limit = self.spec.limit.map_or(1, |limit| limit.min(1));
        Ok(self.limit(limit).collect_in(tx)?.pop())
    }

    /// The number of rows as a transaction sees them, with the query's offset and limit. Looks at each of them.
    pub fn count_in(mut self, tx: &WriteTransaction) -> Result<u64> {
        if self.spec.after.is_none() {
            self.spec.order.clear(); // it does not matter for how many there are
        }
        let mut rows = 0;
        self.run_in(tx, |_, _, _| {
            rows += 1;
            Ok(())
        })?;
        Ok(rows)
    }

    fn rows_in<T>(
        self,
        tx: &WriteTransaction,
        mut row: impl FnMut(Document) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut rows = Vec::new();
        self.run_decoded_in(tx, |decoder, id, bytes| {
            rows.push(row(decoder.document(id, bytes)?)?);
            Ok(())
        })?;
        Ok(rows)
    }

    fn run_decoded_in(
        self,
        tx: &WriteTransaction,
        mut take: impl FnMut(&Decoder<'_>, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let select = self.select.clone();
        let mut fields = None;
        self.run_in(tx, |meta, id, bytes| {
            let decoder = Decoder {
                meta,
                fields: fields.get_or_insert_with(|| RowReader::new(meta.names.clone())),
                select: select.as_deref(),
                rows_ahead: 0,
            };
            take(&decoder, id, bytes)
        })?;
        Ok(())
    }

    /// Changes every document that is found, as part of a transaction. After an error those before it are changed: roll
    /// back to a savepoint, or drop the transaction.
    pub fn update_in(self, tx: &mut WriteTransaction, patch: impl Borrow<Patch>) -> Result<u64> {
        let (meta, ids) = self.ids_in(tx)?;
        many::update_many(tx, &meta, &ids, patch.borrow())?;
        Ok(ids.len() as u64)
    }

    /// Deletes every document that is found, as part of a transaction. After an error those before it are deleted: roll
    /// back to a savepoint, or drop the transaction.
    pub fn delete_in(self, tx: &mut WriteTransaction) -> Result<u64> {
        let (meta, ids) = self.ids_in(tx)?;
        many::delete_many(tx, &meta, &ids)?;
        Ok(ids.len() as u64)
    }

    fn ids_in(self, tx: &WriteTransaction) -> Result<(Arc<Meta>, Vec<Vec<u8>>)> {
        let mut ids = Vec::new();
        let meta = self.run_in(tx, |_, id, _| {
            ids.push(id.to_vec());
            Ok(())
        })?;
        Ok((meta, ids))
    }

    fn run_in(
        self,
        tx: &WriteTransaction,
        mut take: impl FnMut(&Arc<Meta>, &[u8], &[u8]) -> Result<()>,
    ) -> Result<Arc<Meta>> {
        self.check()?;
        self.origin.check_for(tx)?;
        let meta = catalog::load(tx, &self.collection)?;
        let mut execution = Execution::new(tx, meta.clone(), self.spec)?;
        while !execution.step(tx, SLICE, &mut |id, bytes| take(&meta, id, bytes))? {}
        Ok(meta)
    }

    /// How the query is answered: runs it, without giving out its rows, and tells the plan with what
    /// it expected and what it met. It also tells of fields that no document can have: to others, they are just missing.
    pub fn explain(self) -> Work<'q, Explanation> {
        let selected = self.select.clone().unwrap_or_default();
        self.run(count_row, move |rows, execution| {
            Ok(Explanation::new(execution, selected.clone(), rows))
        })
    }

    /// Groups the rows by a field. An array is one value, not several: rows with the same list are a group. See
    /// [`Grouped`].
    pub fn group_by(self, field: impl Into<String>) -> Grouped<'q> {
        Grouped::new(self, Some(field.into()))
    }

    /// Sums and counts over all rows, as one group.
    pub fn aggregate(self) -> Grouped<'q> {
        Grouped::new(self, None)
    }
}

fn count_row(counted: &mut u64, _: &Decoder<'_>, _: &[u8], _: &[u8]) -> Result<()> {
    *counted += 1;
    Ok(())
}

fn failed<'q, T: Send + 'q>(error: Error) -> Work<'q, T> {
    let mut error = Some(error);
    Work::slices(move || Err(error.take().unwrap_or(Error::WorkDone)))
}

/// A page of rows. See [`Query::page`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Page {
    /// The rows.
    pub documents: Vec<Document>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Cursor>,
}

/// A query with the moment that it looks at.
struct Running<'q> {
    snapshot: Snapshot,
    execution: Execution<'q>,
    fields: RowReader,
    select: Option<Vec<String>>,
}

impl Running<'_> {
    fn step(
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
        self.execution.step(&self.snapshot, slice, &mut sink)
    }
}

/// Makes documents of bytes.
struct Decoder<'d> {
    meta: &'d Meta,
    fields: &'d RowReader,
    select: Option<&'d [String]>,
    rows_ahead: usize,
}

impl Decoder<'_> {
    fn document(&self, id: &[u8], bytes: &[u8]) -> Result<Document> {
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

/// The rows of a query, one by one. See [`Query::rows`].
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Rows<'q> {
    running: Running<'q>,
    held: std::collections::VecDeque<Document>,
    is_done: bool,
    /// What ended it, for when the rows before are given.
    failure: Option<Error>,
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

impl std::iter::FusedIterator for Rows<'_> {}
