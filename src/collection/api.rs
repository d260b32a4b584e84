//! Collections as users hold them.

use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::build::{self, BuildProgress, Goal};
use super::catalog;
use super::documents::{self, IfThere};
use super::many;
use super::meta::Meta;
use super::patch::Patch;
use super::schema::{Index, Schema};
use crate::Result;
use crate::db::Aurora;
use crate::hot;
use crate::moment::Moment;
use crate::query::Query;
use crate::sync::waited;
use crate::txn::snapshot::Snapshot;
use crate::txn::write::{Durability, WriteTransaction};
use crate::value::{Document, DocumentId, Object, Value, from_serde};
use crate::work::Work;

impl Aurora {
    /// Makes a collection. If there is one of that name with a schema that says the same, it is left as it is: programs call
    /// this whenever they start.
    ///
    /// # Errors
    /// [`Error::CollectionExists`](crate::Error::CollectionExists) if it has another schema, which
    /// [`alter_collection`](Self::alter_collection) changes,
    /// [`Error::BadSchema`](crate::Error::BadSchema) for one that cannot be,
    /// [`Error::BadCollectionName`](crate::Error::BadCollectionName) for a name that is empty or longer than 255 bytes.
    pub fn new_collection(&self, name: impl AsRef<str>, schema: impl Into<Schema>) -> Result<()> {
        self.write(|tx| tx.new_collection(name, schema))
    }

    /// A collection by its name.
    ///
    /// # Errors
    /// [`Error::CollectionNotFound`](crate::Error::CollectionNotFound) if there is none.
    pub fn collection(&self, name: impl AsRef<str>) -> Result<Collection> {
        let name = name.as_ref().to_string();
        let meta = self.read(|snapshot| catalog::load(snapshot, &name))?;
        Ok(Collection {
            db: self.clone(),
            name,
            number: Arc::new(AtomicU32::new(meta.number)),
        })
    }

    /// The names of all collections, in order.
    pub fn collections(&self) -> Result<Vec<String>> {
        self.read(catalog::names)
    }

    /// Stores a document in a collection. It gets an id unless it has a field `id`: a UUID of version 7, so that ids are
    /// in the order of their making; the same as text where the schema declares the field `id` a string; and where it declares it
    /// an integer, the number behind the greatest that is there, from 1 on (that of the last document comes again once it was
    /// deleted).
    ///
    /// Of the program's own types, UUIDs and times are [`Value::Uuid`] and [`Value::DateTime`] in fields that the schema
    /// declares so; elsewhere they are bytes and text, as `serde` hands them over, and filters find them as that.
    /// Times are those that serialize as text of RFC 3339: jiff's `Timestamp`, chrono's `DateTime<Utc>`. Others have to be told
    /// to: `time`'s `OffsetDateTime` with `#[serde(with = "time::serde::rfc3339")]`.
    ///
    /// # Errors
    /// [`Error::WrongType`](crate::Error::WrongType),
    /// [`Error::MissingField`](crate::Error::MissingField),
    /// [`Error::UnknownField`](crate::Error::UnknownField) if it does not fit the schema,
    /// [`Error::Duplicate`](crate::Error::Duplicate) if another has its id or the value of a unique
    /// field. Nothing has changed then.
    pub fn insert_into(
        &self,
        collection: impl AsRef<str>,
        fields: impl Into<Object>,
    ) -> Result<DocumentId> {
        let fields = fields.into();
        self.write(|tx| tx.collection(collection)?.insert_fields(fields))
    }

    /// Removes a collection with all its documents and indexes. Where documents expire, it goes through all of them.
    pub fn delete_collection(&self, name: impl AsRef<str>) -> Work<'static, ()> {
        let name = name.as_ref().to_string();
        Work::transaction(self.clone(), move |tx| tx.delete_collection(&name))
    }

    /// Gives a collection another name. Nothing of what it holds is touched. Handles with the old name find nothing from then
    /// on; an index that is being built has to be asked for again, with the new one.
    ///
    /// # Errors
    /// [`Error::CollectionNotFound`](crate::Error::CollectionNotFound) if there is none,
    /// [`Error::BadCollectionName`](crate::Error::BadCollectionName) if another collection has the new name, or none can
    /// have it.
    pub fn rename_collection(&self, from: impl AsRef<str>, to: impl AsRef<str>) -> Result<()> {
        self.write(|tx| tx.rename_collection(from, to))
    }

    /// Gives a collection another schema, in one transaction: every document is checked against it
    /// and gets the defaults of new fields; indexes come and go as it says. Fields that a strict
    /// schema no longer has must have been unset before, with [`Patch::unset`](crate::Patch::unset): one that has a default gets
    /// it again, so a schema without that default has to come first. (Not the field `id`: it goes by itself, and the id stays.)
    /// Documents that have expired, now or under the new schema, are removed.
    ///
    /// # Errors
    /// What is wrong with the first document that does not fit. Nothing has changed then.
    pub fn alter_collection(
        &self,
        name: impl AsRef<str>,
        schema: impl Into<Schema>,
    ) -> Work<'static, ()> {
        let (name, schema) = (name.as_ref().to_string(), schema.into());
        Work::transaction(self.clone(), move |tx| tx.alter_collection(name, schema))
    }

    /// Adds an index to a collection, filled or not, in steps between which others read and write.
    /// Queries use it when it is complete. After a crash, call it again: it goes on from where it
    /// was.
    ///
    /// The index is a part of the collection's schema from then on: a program that asks for the collection with
    /// [`new_collection`](Self::new_collection) when it starts declares it there as well, or asks only if there is none.
    ///
    /// # Errors
    /// [`Error::Duplicate`](crate::Error::Duplicate) if it is unique and two documents have the
    /// same value: the index is removed again. [`Error::BadIndex`](crate::Error::BadIndex) if another index has its name, or
    /// gets it while this one is built (by [`alter_collection`](Self::alter_collection)), or if it is dropped meanwhile.
    pub fn create_index(&self, collection: impl AsRef<str>, index: Index) -> Work<'static, ()> {
        self.create_index_with(collection, index, |_| {})
    }

    /// Like [`create_index`](Self::create_index); the closure is told the progress after each of its transactions.
    pub fn create_index_with(
        &self,
        collection: impl AsRef<str>,
        index: Index,
        mut progress: impl FnMut(BuildProgress) + Send + 'static,
    ) -> Work<'static, ()> {
        let (db, collection) = (self.clone(), collection.as_ref().to_string());
        Work::on_thread(move || {
            let name = index.name();
            let goal = db.write(|tx| {
                build::begin_index(tx, &collection, index)?;
                Goal::of(tx, &collection, &name)
            })?;
            let mut steps = 0;
            loop {
                let (is_done, done) = build_for_a_turn(&db, &collection, &name, &goal, &mut steps)?;
                progress(done);
                if is_done {
                    return Ok(());
                }
            }
        })
    }

    /// Removes an index, also from the collection's schema: see [`create_index`](Self::create_index).
    pub fn drop_index(
        &self,
        collection: impl AsRef<str>,
        index: impl AsRef<str>,
    ) -> Work<'static, ()> {
        let (collection, index) = (collection.as_ref().to_string(), index.as_ref().to_string());
        Work::transaction(self.clone(), move |tx| {
            build::drop_index(tx, &collection, &index)
        })
    }
}

/// So many steps of building an index one transaction does at most while nobody waits for it to end. The more, the fewer
/// pages of the index are copied for few entries each: with one, an index of 300,000 numbers took 1.6 times as long.
const MOST_STEPS: usize = 32;

/// Takes more documents into an index, in one transaction: while nobody waits, in as many steps as all turns before together;
/// and for twice as long as its turn was waited for: beside large transactions of others it would take hours with a few at a
/// time. Counts the steps.
fn build_for_a_turn(
    db: &Aurora,
    collection: &str,
    index: &str,
    goal: &Goal,
    steps: &mut usize,
) -> Result<(bool, BuildProgress)> {
    let (tx, share) = waited(|| db.begin_write());
    let mut tx = tx?;
    let end = *steps + (*steps).clamp(1, MOST_STEPS);
    let built = build::build_some(&mut tx, collection, index, Some(goal), |tx| {
        *steps += 1;
        !share.is_over() || (*steps < end && !tx.is_awaited())
    });
    match &built {
        // What a crash takes away of it is built again, and the commit of the last part covers all.
        Ok((false, _)) => tx.set_durability(Durability::Buffered),
        Ok(_) => {}
        // Refused and removed at once: another thread may build the same one.
        Err(crate::Error::Duplicate { .. }) => build::drop_index(&mut tx, collection, index)?,
        Err(_) => return built,
    }
    tx.commit()?;
    built
}

impl Snapshot {
    /// A collection as it was at this moment.
    pub fn collection(&self, name: impl AsRef<str>) -> Result<CollectionView<'_>> {
        Ok(CollectionView {
            meta: catalog::load(self, name.as_ref())?,
            snapshot: self,
        })
    }

    /// The names of all collections at this moment, in order.
    pub fn collections(&self) -> Result<Vec<String>> {
        catalog::names(self)
    }
}

impl WriteTransaction {
    /// Makes a collection. See [`Aurora::new_collection`].
    pub fn new_collection(
        &mut self,
        name: impl AsRef<str>,
        schema: impl Into<Schema>,
    ) -> Result<()> {
        build::create(self, name.as_ref(), schema.into())
    }

    /// Removes a collection with all its documents and indexes.
    pub fn delete_collection(&mut self, name: impl AsRef<str>) -> Result<()> {
        build::delete(self, name.as_ref())
    }

    /// Gives a collection another name. See [`Aurora::rename_collection`].
    pub fn rename_collection(&mut self, from: impl AsRef<str>, to: impl AsRef<str>) -> Result<()> {
        build::rename(self, from.as_ref(), to.as_ref())
    }

    /// Gives a collection another schema. See [`Aurora::alter_collection`].
    ///
    /// # Errors
    /// What is wrong with the first document that does not fit. The transaction has failed then: roll back to a savepoint,
    /// or drop it.
    pub fn alter_collection(
        &mut self,
        name: impl AsRef<str>,
        schema: impl Into<Schema>,
    ) -> Result<()> {
        build::alter(self, name.as_ref(), schema.into())
    }

    /// The names of all collections as the transaction sees them, in order.
    pub fn collections(&self) -> Result<Vec<String>> {
        catalog::names(self)
    }

    /// A collection, to read and to change as part of this transaction.
    pub fn collection(&mut self, name: impl AsRef<str>) -> Result<CollectionMut<'_>> {
        Ok(CollectionMut {
            meta: catalog::load(self, name.as_ref())?,
            tx: self,
        })
    }
}

/// An index as it is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct IndexInfo {
    /// What it is an index of.
    pub index: Index,
    /// Whether it is complete, and used by queries.
    pub is_ready: bool,
    /// The number of its entries.
    pub entries: u64,
}

fn index_infos(moment: &impl Moment, meta: &Meta) -> Vec<IndexInfo> {
    let indexes = meta.indexes.iter().map(|index| IndexInfo {
        index: index.index.clone(),
        is_ready: index.is_ready(),
        entries: moment.system_view(&index.tree).map_or(0, |view| view.len()),
    });
    indexes.collect()
}

fn get(moment: &impl Moment, meta: &Meta, id: &Value) -> Result<Option<Document>> {
    let key = documents::key_of(meta, id)?;
    match documents::find(moment, meta, &key)? {
        Some(bytes) => documents::decode(meta, &key, &bytes).map(Some),
        None => Ok(None),
    }
}

fn get_many<I: Into<Value>>(
    moment: &impl Moment,
    meta: &Meta,
    ids: impl IntoIterator<Item = I>,
) -> Result<Vec<Option<Document>>> {
    let keys = ids
        .into_iter()
        .map(|id| documents::key_of(meta, &id.into()));
    let keys = keys.collect::<Result<Vec<_>>>()?;
    documents::find_many(moment, meta, &keys)
}

/// A collection of an open database. Each call is a transaction of its own; to do several things at
/// once use [`Aurora::write`] and [`WriteTransaction::collection`].
///
/// ```
/// use aurora::{Aurora, Patch, Schema};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Book { title: String, year: u16 }
///
/// let db = Aurora::in_memory()?;
/// db.new_collection("books", Schema::schemaless())?;
/// let books = db.collection("books")?;
/// let id = books.insert(&Book { title: "Dune".into(), year: 1965 })?;
/// books.update(&id, Patch::new().inc("year", 1))?;
/// assert_eq!(books.get_as::<Book>(&id)?.unwrap().year, 1966);
/// assert!(books.delete(&id)?);
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Collection {
    db: Aurora,
    name: String,
    /// The number that the name had when it was last looked up: the space of the hot tier in which
    /// its documents are. A collection that is gone has none there.
    number: Arc<AtomicU32>,
}

impl Collection {
    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores a document of the program's own type. See [`Aurora::insert_into`].
    pub fn insert<T: Serialize + ?Sized>(&self, document: &T) -> Result<DocumentId> {
        let fields = from_serde(document)?;
        self.change(|collection| collection.insert_fields(fields))
    }

    /// Stores a document. See [`Aurora::insert_into`].
    pub fn insert_fields(&self, fields: impl Into<Object>) -> Result<DocumentId> {
        let fields = fields.into();
        self.change(|collection| collection.insert_fields(fields))
    }

    /// Stores many documents in one transaction: all of them, or none if one is refused.
    pub fn insert_many<O: Into<Object>>(
        &self,
        documents: impl IntoIterator<Item = O>,
    ) -> Result<Vec<DocumentId>> {
        self.change(|collection| collection.insert_many(documents))
    }

    /// The document of that id, shared with the hot tier.
    pub fn get(&self, id: impl Into<Value>) -> Result<Option<Arc<Document>>> {
        let id = id.into();
        let number = self.number.load(Ordering::Relaxed);
        let key = documents::key_of_id(&self.name, &id)?;
        let mut elsewhere = None;
        let found = hot::read_through(&self.db.handle, number, &key, |snapshot| {
            let meta = catalog::load(snapshot, &self.name)?;
            let loaded = documents::load_hot(snapshot, &meta, &key)?;
            if meta.number == number {
                return Ok(loaded);
            }
            // Another collection has the name now: what it holds does not belong into this space.
            self.number.store(meta.number, Ordering::Relaxed);
            elsewhere = loaded;
            Ok(None)
        })?;
        match found.or(elsewhere).and_then(documents::of_hot) {
            // The collection of that number has another name now.
            Some(other) if other.id.collection() != self.name => {
                let found = self
                    .db
                    .read(|snapshot| snapshot.collection(&self.name)?.get(id))?;
                Ok(found.map(Arc::new))
            }
            found => Ok(found),
        }
    }

    /// The documents of several ids at one moment: one for each id, in their order; `None` for one that is not there. Looks for some of them at
    /// once, and asks the device for many together where they are not in memory. It goes past the hot tier: what is read
    /// as a whole seldom is what is read often.
    pub fn get_many<I: Into<Value>>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Vec<Option<Document>>> {
        self.db
            .read(|snapshot| snapshot.collection(&self.name)?.get_many(ids))
    }

    /// The document of that id, as the program's own type.
    ///
    /// # Errors
    /// [`Error::Conversion`](crate::Error::Conversion) if it does not fit the type.
    pub fn get_as<T: DeserializeOwned>(&self, id: impl Into<Value>) -> Result<Option<T>> {
        self.get(id)?.map(|document| document.to()).transpose()
    }

    /// Changes single fields of a document. Who wants to see what was there, or what came of it, with nobody in between, reads
    /// it in the same transaction:
    ///
    /// ```
    /// # use aurora::{Aurora, Patch, Schema, Value};
    /// # let db = Aurora::in_memory()?;
    /// # db.new_collection("shelf", Schema::schemaless())?;
    /// # let id = db.insert_into("shelf", [("jars", 7)])?;
    /// let (before, after) = db.write(|tx| {
    ///     let mut shelf = tx.collection("shelf")?;
    ///     let before = shelf.get(&id)?;
    ///     shelf.update(&id, Patch::new().inc("jars", -1))?;
    ///     Ok((before, shelf.get(&id)?))
    /// })?;
    /// # let jars = |document: Option<aurora::Document>| document.and_then(|document| document.get("jars")?.as_int());
    /// # assert_eq!((jars(before), jars(after)), (Some(7), Some(6)));
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// The same with [`get`](CollectionMut::get) and [`delete`](CollectionMut::delete) takes a document out; for those that a
    /// query finds there are [`collect_in`](Query::collect_in) and [`delete_in`](Query::delete_in).
    ///
    /// # Errors
    /// [`Error::DocumentNotFound`](crate::Error::DocumentNotFound) if there is none of that id,
    /// and those of [`Aurora::insert_into`].
    pub fn update(&self, id: impl Into<Value>, patch: impl Borrow<Patch>) -> Result<()> {
        self.change(|collection| collection.update(id, patch.borrow()))
    }

    /// Puts other fields in the place of all those of a document. Its id stays.
    pub fn replace(&self, id: impl Into<Value>, fields: impl Into<Object>) -> Result<()> {
        self.change(|collection| collection.replace(id, fields))
    }

    /// Stores a document, in the place of the one with its id if there is one.
    pub fn upsert(&self, fields: impl Into<Object>) -> Result<DocumentId> {
        self.change(|collection| collection.upsert(fields))
    }

    /// Removes a document with its index entries. Says whether it was there.
    pub fn delete(&self, id: impl Into<Value>) -> Result<bool> {
        self.change(|collection| collection.delete(id))
    }

    /// A query on the documents.
    pub fn query<'q>(&self) -> Query<'q> {
        self.db.query(&self.name)
    }

    /// The number of documents, those that have expired and are not yet removed included. O(1).
    pub fn len(&self) -> Result<u64> {
        self.db
            .read(|snapshot| Ok(snapshot.collection(&self.name)?.len()))
    }

    /// Whether there are no documents. O(1).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The schema, and the number of its version, which grows with every change.
    pub fn schema(&self) -> Result<(Schema, u32)> {
        self.db.read(|snapshot| {
            let meta = catalog::load(snapshot, &self.name)?;
            Ok((meta.schema.clone(), meta.version))
        })
    }

    /// The indexes.
    pub fn indexes(&self) -> Result<Vec<IndexInfo>> {
        self.db.read(|snapshot| {
            let meta = catalog::load(snapshot, &self.name)?;
            Ok(index_infos(snapshot, &meta))
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut CollectionMut<'_>) -> Result<T>) -> Result<T> {
        self.db.write(|tx| change(&mut tx.collection(&self.name)?))
    }
}

/// A collection at one moment.
#[derive(Debug)]
pub struct CollectionView<'s> {
    snapshot: &'s Snapshot,
    meta: Arc<Meta>,
}

impl CollectionView<'_> {
    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.meta.name
    }

    /// The schema, and the number of its version.
    pub fn schema(&self) -> (Schema, u32) {
        (self.meta.schema.clone(), self.meta.version)
    }

    /// The indexes.
    pub fn indexes(&self) -> Vec<IndexInfo> {
        index_infos(self.snapshot, &self.meta)
    }

    /// The document of that id.
    pub fn get(&self, id: impl Into<Value>) -> Result<Option<Document>> {
        get(self.snapshot, &self.meta, &id.into())
    }

    /// The documents of several ids: one for each id, in their order; `None` for one that is not there.
    pub fn get_many<I: Into<Value>>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Vec<Option<Document>>> {
        get_many(self.snapshot, &self.meta, ids)
    }

    /// The document of that id, as the program's own type.
    ///
    /// # Errors
    /// [`Error::Conversion`](crate::Error::Conversion) if it does not fit the type.
    pub fn get_as<T: DeserializeOwned>(&self, id: impl Into<Value>) -> Result<Option<T>> {
        self.get(id)?.map(|document| document.to()).transpose()
    }

    /// The number of documents, those that have expired and are not yet removed included. O(1).
    pub fn len(&self) -> u64 {
        let view = self.snapshot.find(&self.meta.documents_tree);
        view.map_or(0, |view| view.len())
    }

    /// Whether there are no documents. O(1).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A query on the documents of this moment.
    pub fn query<'q>(&self) -> Query<'q> {
        self.snapshot.query(&*self.meta.name)
    }
}

/// A collection within a write transaction: sees the transaction's own changes. What it is told to
/// do happens when the transaction commits, or never. For queries that see them there is
/// [`WriteTransaction::query`].
#[derive(Debug)]
pub struct CollectionMut<'t> {
    tx: &'t mut WriteTransaction,
    meta: Arc<Meta>,
}

impl CollectionMut<'_> {
    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.meta.name
    }

    /// The schema, and the number of its version.
    pub fn schema(&self) -> (Schema, u32) {
        (self.meta.schema.clone(), self.meta.version)
    }

    /// The indexes.
    pub fn indexes(&self) -> Vec<IndexInfo> {
        index_infos(self.tx, &self.meta)
    }

    fn id(&self, id: Value) -> DocumentId {
        DocumentId::new(self.meta.name.clone(), id)
    }

    /// Stores a document of the program's own type. See [`Aurora::insert_into`].
    pub fn insert<T: Serialize + ?Sized>(&mut self, document: &T) -> Result<DocumentId> {
        self.insert_fields(from_serde(document)?)
    }

    /// Stores a document. See [`Aurora::insert_into`].
    pub fn insert_fields(&mut self, fields: impl Into<Object>) -> Result<DocumentId> {
        let id = documents::insert(self.tx, &self.meta, fields.into(), IfThere::Refuse)?;
        Ok(self.id(id))
    }

    /// Stores many documents. If one is refused, those before it are stored.
    pub fn insert_many<O: Into<Object>>(
        &mut self,
        documents: impl IntoIterator<Item = O>,
    ) -> Result<Vec<DocumentId>> {
        let all = documents.into_iter().map(|fields| Ok(fields.into().into()));
        let ids = many::insert_many(self.tx, &self.meta, all, IfThere::Refuse)?;
        Ok(ids.into_iter().map(|id| self.id(id)).collect())
    }

    /// The document of that id.
    pub fn get(&self, id: impl Into<Value>) -> Result<Option<Document>> {
        get(self.tx, &self.meta, &id.into())
    }

    /// The documents of several ids: one for each id, in their order; `None` for one that is not there.
    pub fn get_many<I: Into<Value>>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Vec<Option<Document>>> {
        get_many(self.tx, &self.meta, ids)
    }

    /// The document of that id, as the program's own type.
    ///
    /// # Errors
    /// [`Error::Conversion`](crate::Error::Conversion) if it does not fit the type.
    pub fn get_as<T: DeserializeOwned>(&self, id: impl Into<Value>) -> Result<Option<T>> {
        self.get(id)?.map(|document| document.to()).transpose()
    }

    /// Changes single fields of a document. See [`Collection::update`].
    pub fn update(&mut self, id: impl Into<Value>, patch: impl Borrow<Patch>) -> Result<()> {
        let key = documents::key_of(&self.meta, &id.into())?;
        documents::update(self.tx, &self.meta, &key, patch.borrow())
    }

    /// Puts other fields in the place of all those of a document. Its id stays.
    pub fn replace(&mut self, id: impl Into<Value>, fields: impl Into<Object>) -> Result<()> {
        let key = documents::key_of(&self.meta, &id.into())?;
        documents::replace(self.tx, &self.meta, &key, fields.into())
    }

    /// Stores a document, in the place of the one with its id if there is one.
    pub fn upsert(&mut self, fields: impl Into<Object>) -> Result<DocumentId> {
        let id = documents::insert(self.tx, &self.meta, fields.into(), IfThere::Replace)?;
        Ok(self.id(id))
    }

    /// Removes a document with its index entries. Says whether it was there.
    pub fn delete(&mut self, id: impl Into<Value>) -> Result<bool> {
        let key = documents::key_of(&self.meta, &id.into())?;
        documents::delete(self.tx, &self.meta, &key)
    }

    /// A query on it, as the transaction sees it. See [`WriteTransaction::query`].
    pub fn query<'q>(&self) -> Query<'q> {
        self.tx.query(&*self.meta.name)
    }

    /// The number of documents, those that have expired and are not yet removed included. O(1).
    pub fn len(&self) -> u64 {
        { self.tx.find(&self.meta.documents_tree) }.map_or(0, |view| view.len())
    }

    /// Whether there are no documents. O(1).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an index and fills it, as part of this transaction. It is a part of the schema from then on: see
    /// [`Aurora::create_index`].
    ///
    /// # Errors
    /// [`Error::Duplicate`](crate::Error::Duplicate) if it is unique and two documents have the
    /// same value: the index is removed again, and the transaction goes on.
    pub fn create_index(&mut self, index: Index) -> Result<()> {
        let name = index.name();
        build::begin_index(self.tx, &self.meta.name, index)?;
        let built = build::build(self.tx, &self.meta.name, &name);
        self.meta = catalog::load(self.tx, &self.meta.name)?;
        built
    }

    /// Removes an index, also from the schema.
    pub fn drop_index(&mut self, name: impl AsRef<str>) -> Result<()> {
        build::drop_index(self.tx, &self.meta.name, name.as_ref())?;
        self.meta = catalog::load(self.tx, &self.meta.name)?;
        Ok(())
    }
}
