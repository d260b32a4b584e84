//! The results of a query as a write transaction sees them, its own changes included.

use std::borrow::Borrow;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::page::Gathered;
use super::{Explanation, Page, Query, Rows};
use crate::Result;
use crate::collection::many;
use crate::collection::meta::Meta;
use crate::collection::patch::Patch;
use crate::txn::write::WriteTransaction;
use crate::value::Document;

/// Within a transaction: what it sees, with its own changes. Queries of the database can be asked so, and those that
/// [`WriteTransaction::query`] makes; not those of a snapshot.
impl<'q> Query<'q> {
    /// All rows as a transaction sees them, its own changes included.
    pub fn collect_in(self, tx: &WriteTransaction) -> Result<Vec<Document>> {
        self.all_in(tx, Ok)
    }

    /// All rows as a transaction sees them, as a type of the program's own.
    ///
    /// # Errors
    /// [`Error::Conversion`](crate::Error::Conversion) if a document does not fit the type.
    pub fn collect_as_in<T: DeserializeOwned>(self, tx: &WriteTransaction) -> Result<Vec<T>> {
        self.all_in(tx, |document| document.to())
    }

    fn all_in<T>(
        self,
        tx: &WriteTransaction,
        mut row: impl FnMut(Document) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut rows = Vec::new();
        self.start_in(tx)?.finish(|decoder, id, bytes| {
            rows.push(row(decoder.document(id, bytes)?)?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The first row as a transaction sees them, behind the query's offset, if there is one.
    pub fn first_in(self, tx: &WriteTransaction) -> Result<Option<Document>> {
        let limit = self.spec.limit.map_or(1, |limit| limit.min(1));
        Ok(self.limit(limit).collect_in(tx)?.pop())
    }

    /// The number of rows as a transaction sees them, with the query's offset and limit. Costs what [`count`](Self::count)
    /// does.
    pub fn count_in(self, tx: &WriteTransaction) -> Result<u64> {
        let (query, known) = self.counted();
        let running = query.start_in(tx)?;
        if let Some(rows) = known.rows(&running.execution.plan) {
            return Ok(rows);
        }
        let mut rows = 0;
        running.finish(|_, _, _| {
            rows += 1;
            Ok(())
        })?;
        Ok(rows)
    }

    /// A page of rows as a transaction sees them, with the cursor of the next, as [`page`](Self::page) gives it. The cursor
    /// is of a place, and not of the transaction: it is good for any query with the same order, then and later.
    ///
    /// ```
    /// # use aurora::{Aurora, Patch, Schema};
    /// let db = Aurora::in_memory()?;
    /// db.new_collection("jobs", Schema::schemaless())?;
    /// db.write(|tx| {
    ///     tx.collection("jobs")?.insert_many((0..5).map(|n| [("n", n)]))?;
    ///     let jobs = tx.query("jobs").order_by("n", true);
    ///     let first = jobs.clone().page_in(tx, 3)?;
    ///     for job in &first.documents {
    ///         tx.collection("jobs")?.update(&job.id, Patch::new().set("done", true))?;
    ///     }
    ///     let next = jobs.after(first.next.expect("a full page")).page_in(tx, 3)?;
    ///     assert_eq!((next.documents.len(), next.next), (2, None));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn page_in(self, tx: &WriteTransaction, rows: u64) -> Result<Page> {
        let mut gathered = Gathered::default();
        let running = self.limit(rows).start_in(tx)?;
        let execution = running.finish(|decoder, id, bytes| gathered.take(decoder, id, bytes))?;
        gathered.finish(rows, &execution)
    }

    /// The rows as a transaction sees them, one by one, in memory for some of them at a time, as [`rows`](Self::rows) gives
    /// them. The transaction cannot change anything while they are looked at: for changes, take the ids first, or use
    /// [`page_in`](Self::page_in).
    ///
    /// ```
    /// # use aurora::{Aurora, Schema};
    /// let db = Aurora::in_memory()?;
    /// db.new_collection("parcels", Schema::schemaless())?;
    /// db.write(|tx| {
    ///     tx.collection("parcels")?.insert_many([[("kg", 5)], [("kg", 9)], [("kg", 20)]])?;
    ///     let mut kg = 0;
    ///     for parcel in tx.query("parcels").order_by("kg", true).rows_in(tx)? {
    ///         kg += parcel?.get("kg").and_then(|kg| kg.as_int()).unwrap_or(0);
    ///         if kg > 10 {
    ///             break; // the others are not even read
    ///         }
    ///     }
    ///     assert_eq!(kg, 14);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn rows_in(self, tx: &'q WriteTransaction) -> Result<Rows<'q>> {
        Ok(Rows::new(self.start_in(tx)?))
    }

    /// How the query is answered within a transaction, as [`explain`](Self::explain) tells it.
    pub fn explain_in(self, tx: &WriteTransaction) -> Result<Explanation> {
        let selected = self.select.clone().unwrap_or_default();
        let mut rows = 0;
        let execution = self.start_in(tx)?.finish(|_, _, _| {
            rows += 1;
            Ok(())
        })?;
        Ok(Explanation::new(&execution, selected, rows))
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
        let execution = self.start_in(tx)?.finish(|_, id, _| {
            ids.push(id.to_vec());
            Ok(())
        })?;
        Ok((execution.meta, ids))
    }
}
