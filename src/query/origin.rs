//! Where queries come from, and what they look at.

use std::sync::{Arc, Weak};

use super::Query;
use crate::db::Aurora;
use crate::handle::Handle;
use crate::moment::Moment;
use crate::txn::engine::Engine;
use crate::txn::snapshot::Snapshot;
use crate::txn::view::TreeView;
use crate::txn::write::WriteTransaction;
use crate::{Error, Result};

/// Where a query looks.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// What is committed when it starts.
    Database(Aurora),
    Snapshot(Snapshot),
    /// The transaction that it is given to, of this database. (It does not keep the database open.)
    Transaction(Weak<Engine>),
}

impl Origin {
    /// The moment that it looks at, from now on.
    pub fn snapshot(&self) -> Result<Snapshot> {
        match self {
            Origin::Database(db) => db.begin_read(),
            Origin::Snapshot(snapshot) => Ok(snapshot.clone()),
            Origin::Transaction(_) => Err(needs_transaction()),
        }
    }

    /// The database whose documents are to be changed.
    pub fn writable(&self) -> Result<Aurora> {
        match self {
            Origin::Database(db) => Ok(db.clone()),
            Origin::Snapshot(_) => Err(Error::BadQuery {
                reason: "a snapshot cannot be changed; query the database instead".to_string(),
            }),
            Origin::Transaction(_) => Err(needs_transaction()),
        }
    }

    /// Whether it can look at what this transaction sees: it would be answered with other documents than those that it was
    /// made for.
    pub fn check_for(&self, tx: &WriteTransaction) -> Result<()> {
        let engine = &tx.handle().engine;
        let reason = match self {
            Origin::Database(db) if Arc::ptr_eq(&db.handle.engine, engine) => return Ok(()),
            Origin::Transaction(of) if Weak::as_ptr(of) == Arc::as_ptr(engine) => return Ok(()),
            Origin::Database(_) | Origin::Transaction(_) => {
                "it is a query of another database than the transaction"
            }
            Origin::Snapshot(_) => {
                "a snapshot's query sees that moment, and no transaction; query the database instead"
            }
        };
        Err(Error::BadQuery {
            reason: reason.to_string(),
        })
    }
}

/// What a query that is run looks at.
#[derive(Debug)]
pub(super) enum Seen<'t> {
    Snapshot(Snapshot),
    Transaction(&'t WriteTransaction),
}

impl Moment for Seen<'_> {
    fn system_view(&self, name: &str) -> Option<TreeView<'_>> {
        match self {
            Seen::Snapshot(snapshot) => snapshot.system_view(name),
            Seen::Transaction(tx) => tx.system_view(name),
        }
    }

    fn now_ms(&self) -> u64 {
        match self {
            Seen::Snapshot(snapshot) => snapshot.now_ms(),
            Seen::Transaction(tx) => tx.now_ms(),
        }
    }

    fn handle(&self) -> &Arc<Handle> {
        match self {
            Seen::Snapshot(snapshot) => Moment::handle(snapshot),
            Seen::Transaction(tx) => Moment::handle(*tx),
        }
    }
}

/// What a transaction sees is lent by it: nothing that runs by itself can look at it.
fn needs_transaction() -> Error {
    let reason = "it is a transaction's query: ask for its results with the transaction (`collect_in` and so on)";
    Error::BadQuery {
        reason: reason.to_string(),
    }
}

impl Aurora {
    /// A query on a collection. See [`Query`].
    pub fn query<'q>(&self, collection: impl AsRef<str>) -> Query<'q> {
        Query::new(
            Origin::Database(self.clone()),
            collection.as_ref().to_string(),
        )
    }
}

impl Snapshot {
    /// A query on a collection as it was at this moment. See [`Query`].
    pub fn query<'q>(&self, collection: impl AsRef<str>) -> Query<'q> {
        Query::new(
            Origin::Snapshot(self.clone()),
            collection.as_ref().to_string(),
        )
    }
}

impl WriteTransaction {
    /// A query on a collection as the transaction sees it, its own changes included. Its results are asked for with the
    /// transaction: all calls for them have a form that ends in `_in`, as [`collect_in`](Query::collect_in),
    /// [`first_in`](Query::first_in), [`count_in`](Query::count_in), [`page_in`](Query::page_in),
    /// [`rows_in`](Query::rows_in), [`update_in`](Query::update_in), [`delete_in`](Query::delete_in), and
    /// [`collect_in`](crate::Grouped::collect_in) of groups. (Queries that [`Aurora::query`](crate::Aurora::query) made can
    /// be asked so as well; this is for functions that are handed a transaction and nothing else.)
    ///
    /// ```
    /// use aurora::{Aurora, Patch, Result, Schema, WriteTransaction};
    ///
    /// fn pay(tx: &mut WriteTransaction, customer: &str) -> Result<u64> {
    ///     let open = tx.query("bills").filter(|f| f.eq("customer", customer) && f.eq("paid", false));
    ///     open.update_in(tx, Patch::new().set("paid", true))
    /// }
    ///
    /// let db = Aurora::in_memory()?;
    /// db.new_collection("bills", Schema::schemaless())?;
    /// let paid = db.write(|tx| {
    ///     tx.collection("bills")?.insert_fields([("customer", "Ada".into()), ("paid", aurora::Value::from(false))])?;
    ///     pay(tx, "Ada")
    /// })?;
    /// assert_eq!(paid, 1);
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn query<'q>(&self, collection: impl AsRef<str>) -> Query<'q> {
        Query::new(
            Origin::Transaction(Arc::downgrade(&self.handle().engine)),
            collection.as_ref().to_string(),
        )
    }
}
