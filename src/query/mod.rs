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
mod running;
mod within;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::collection::patch::Patch;
use crate::txn::snapshot::Snapshot;
use crate::value::Document;
use crate::work::Work;
use crate::{Error, Result};

use self::execute::{Execution, Spec};
pub use self::explain::Explanation;
pub use self::fields::Fields;
pub(crate) use self::fields::{BAD_PATTERN, ID, RowReader};
pub use self::filter::Filter;
pub use self::group::{Group, Grouped};
use self::origin::Origin;
use self::page::Gathered;
pub use self::page::{Cursor, Page};
use self::plan::Plan;
pub use self::running::Rows;
use self::running::{Decoder, SLICE};

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
    /// [`Value`](crate::Value).
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
    pub fn count(self) -> Work<'q, u64> {
        let (query, known) = self.counted();
        query.run_unless(
            move |plan| known.rows(plan),
            count_row,
            |counted, _| Ok(counted),
        )
    }

    /// What is to be run to count the rows, if the plan does not know how many there are.
    fn counted(mut self) -> (Self, Known) {
        let is_whole = self.spec.after.is_none();
        if is_whole {
            // The order does not matter for how many there are.
            self.spec.order.clear();
        }
        let known = Known {
            is_whole,
            offset: self.spec.offset,
            limit: self.spec.limit,
        };
        (self, known)
    }

    /// A page of rows, and the cursor of the next: `None` if this one was not full. (Behind a full last page comes an
    /// empty one.)
    pub fn page(self, rows: u64) -> Work<'q, Page> {
        self.limit(rows)
            .run(Gathered::take, move |gathered, execution| {
                gathered.finish(rows, execution)
            })
    }

    /// The rows one by one, in memory for some of them at a time: 64, or fewer where they are long.
    pub fn rows(self) -> Result<Rows<'q>> {
        Ok(Rows::new(self.start()?))
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

/// What of a query the plan may know the number of rows of.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// It begins at its first row.
    is_whole: bool,
    offset: u64,
    limit: Option<u64>,
}

impl Known {
    fn rows(&self, plan: &Plan) -> Option<u64> {
        let rows = plan.known_count.filter(|_| self.is_whole)?;
        let rest = rows.saturating_sub(self.offset);
        Some(self.limit.map_or(rest, |limit| rest.min(limit)))
    }
}
