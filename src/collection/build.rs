//! Making, changing and removing collections and their indexes.
//!
//! # Invariants
//!
//! 1. From the moment an index is in the catalog, every change of a document keeps its entries, so
//!    that the builder only has to go once through the documents, in the order of their ids.
//! 2. No query uses an index before it is built. How far that has come is in the catalog, in the
//!    same transaction as the entries: after a crash it goes on from there.

use std::collections::HashSet;
use std::sync::Arc;

use super::catalog;
use super::documents::{
    check_unique, expiry_of, is_expired, refit_to, set_expiry, some_after, some_expiries_after,
    store_time_if,
};
use super::index;
use super::meta::{CATALOG_TREE, IndexMeta, Meta, NumberedIndex, index_tree};
use super::schema::{Index, Schema};
use crate::keys::expiry;
use crate::moment::Moment;
use crate::txn::bulk::{ENTRY_BYTES, gather_bytes};
use crate::txn::write::WriteTransaction;
use crate::{Error, Result};

/// Documents that a step of taking them out of the index of what expires looks at. It keeps their ids alone.
const STEP_EXPIRIES: usize = 16 << 10;

/// How far the building of an index has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildProgress {
    /// Documents that are in the index.
    pub done: u64,
    /// Documents of the collection.
    pub total: u64,
}

/// Makes a collection. One that is there already with the same schema is left as it is.
pub(crate) fn create(tx: &mut WriteTransaction, name: &str, schema: Schema) -> Result<()> {
    let bad = |reason: String| Error::BadSchema {
        collection: name.to_string(),
        reason,
    };
    if let Some(reason) = fault_of_name(name) {
        let name = name.to_string();
        return Err(Error::BadCollectionName { name, reason });
    }
    if let Some(reason) = schema.fault() {
        return Err(bad(reason));
    }
    if let Some(known) = catalog::find(tx, name)? {
        if known.schema.says_the_same(&schema) {
            return Ok(());
        }
        return Err(Error::CollectionExists {
            collection: name.to_string(),
            difference: known.schema.difference(&schema),
        });
    }
    if let Some(reason) = schema.fault_of_names() {
        return Err(bad(reason));
    }
    let number = catalog::next_number(tx)?;
    let indexes = numbered(schema.indexes(), 1);
    let next_index = indexes.len() as u32 + 1;
    let names = names_of(&schema, &[]);
    let meta = Meta::assemble(
        Arc::from(name),
        number,
        1,
        schema,
        names,
        next_index,
        indexes,
    );
    catalog::store(tx, &meta)
}

const MAX_NAME_BYTES: usize = 255;

fn fault_of_name(name: &str) -> Option<&'static str> {
    let is_bad = name.is_empty() || name.len() > MAX_NAME_BYTES;
    is_bad.then_some("its name must have 1 to 255 bytes")
}

/// Gives a collection another name. What it holds is found by its number, and stays as it is.
pub(crate) fn rename(tx: &mut WriteTransaction, from: &str, to: &str) -> Result<()> {
    let meta = catalog::load(tx, from)?;
    if from == to {
        return Ok(());
    }
    let bad = |reason| Error::BadCollectionName {
        name: to.to_string(),
        reason,
    };
    if let Some(reason) = fault_of_name(to) {
        return Err(bad(reason));
    }
    if catalog::find(tx, to)?.is_some() {
        return Err(bad("another collection has it"));
    }
    let renamed = Meta::assemble(
        Arc::from(to),
        meta.number,
        meta.version,
        meta.schema.clone(),
        meta.known_names.clone(),
        meta.next_index,
        meta.numbered_indexes(),
    );
    // Documents say of which collection they are.
    tx.touch_space(meta.number);
    tx.together(|tx| {
        catalog::store(tx, &renamed)?;
        tx.system_tree(CATALOG_TREE)?.delete(from)
    })?;
    tx.handle().catalog.forget(&meta);
    Ok(())
}

fn numbered(indexes: Vec<Index>, first: u32) -> Vec<NumberedIndex> {
    let numbered = indexes
        .into_iter()
        .zip(first..)
        .map(|(index, number)| NumberedIndex {
            number,
            index,
            built_to: None,
        });
    numbered.collect()
}

/// The names that get numbers: those known before, then the new first names of paths.
fn names_of(schema: &Schema, known: &[Arc<str>]) -> Vec<Arc<str>> {
    let mut names = known.to_vec();
    let paths = schema.fields.iter().map(|field| field.path.as_str());
    for path in paths.chain(["id"]) {
        let first = path.split('.').next().unwrap_or(path);
        if !names.iter().any(|name| **name == *first) {
            names.push(Arc::from(first));
        }
    }
    names
}

/// Removes a collection with all its documents and indexes.
pub(crate) fn delete(tx: &mut WriteTransaction, name: &str) -> Result<()> {
    let meta = catalog::load(tx, name)?;
    tx.together(|tx| {
        forget_expiries(tx, &meta)?;
        drop_if_there(tx, &meta.documents_tree)?;
        for index in &meta.indexes {
            drop_if_there(tx, &index.tree)?;
        }
        tx.touch_space(meta.number);
        tx.system_tree(CATALOG_TREE)?.delete(name)
    })?;
    tx.handle().catalog.forget(&meta);
    Ok(())
}

/// Takes all documents out of the index of what expires, where their entries would stay until their time comes.
fn forget_expiries(tx: &mut WriteTransaction, meta: &Meta) -> Result<()> {
    if meta.expires.is_none() {
        return Ok(());
    }
    let mut after = Vec::new();
    loop {
        let (last, entries) = some_expiries_after(tx, meta, &after, STEP_EXPIRIES)?;
        expiry::remove_many(tx, expiry::OF_DOCUMENT, entries)?;
        match last {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

fn drop_if_there(tx: &mut WriteTransaction, tree: &str) -> Result<()> {
    match tx.drop_system_tree(tree) {
        Err(Error::TreeNotFound { .. }) => Ok(()),
        dropped => dropped,
    }
}

/// The collection with one index more, to be built.
pub(super) fn begin_index(tx: &mut WriteTransaction, name: &str, index: Index) -> Result<()> {
    let meta = catalog::load(tx, name)?;
    let bad = |reason| {
        Err(Error::BadIndex {
            collection: name.to_string(),
            index: index.name(),
            reason,
        })
    };
    if let Some(known) = meta.indexes.iter().find(|known| known.name == index.name()) {
        return match known.index.says_the_same(&index) {
            true => Ok(()), // it is there, or goes on to be built
            false => bad("there is another index of that name"),
        };
    }
    let mut schema = meta.schema.clone();
    schema.indexes.push(index.clone());
    if let Some(reason) = { schema.fault() }.or_else(|| schema.fault_of_index(&index)) {
        return Err(Error::BadSchema {
            collection: name.to_string(),
            reason,
        });
    }
    let tree = index_tree(meta.number, meta.next_index);
    catalog::refuse_taken(tx, &tree, "the counter of indexes")?;
    let mut indexes = meta.numbered_indexes();
    indexes.push(NumberedIndex {
        number: meta.next_index,
        index,
        built_to: Some(Vec::new()),
    });
    let next = number_after(meta.next_index)?;
    catalog::store(
        tx,
        &changed(&meta, schema, meta.known_names.clone(), next, indexes),
    )
}

fn number_after(number: u32) -> Result<u32> {
    number.checked_add(1).ok_or_else(|| Error::Unreadable {
        what: "the counter of indexes".to_string(),
        reason: "it has reached its end",
    })
}

fn changed(
    meta: &Meta,
    schema: Schema,
    names: Vec<Arc<str>>,
    next_index: u32,
    indexes: Vec<NumberedIndex>,
) -> Meta {
    let version = meta.version.saturating_add(1);
    Meta::assemble(
        meta.name.clone(),
        meta.number,
        version,
        schema,
        names,
        next_index,
        indexes,
    )
}

/// Takes all documents into an index. If one is refused, there is no such index; after another error the transaction
/// fails, because there is a part of one.
pub(super) fn build(tx: &mut WriteTransaction, collection: &str, index: &str) -> Result<()> {
    loop {
        match build_some(tx, collection, index, None, |_| true) {
            Ok((true, _)) => return Ok(()),
            Ok((false, _)) => {}
            Err(error) if error.is_misuse() => {
                drop_index(tx, collection, index)?;
                return Err(error);
            }
            Err(error) => return tx.together(|_| Err(error)),
        }
    }
}

/// Up to where documents have to be taken into an index. Those that come behind are in it from the start, built or not
/// (invariant 1): where many come in each transaction, who ran after them would never arrive.
#[derive(Debug)]
pub(super) struct Goal {
    /// The numbers of the collection and of the index: others may have got their names since.
    of: (u32, u32),
    /// The key of the last document, empty if there was none.
    last: Vec<u8>,
    /// What was asked for.
    index: Index,
}

impl Goal {
    /// Of an index that is in the catalog.
    pub(super) fn of(tx: &WriteTransaction, collection: &str, index: &str) -> Result<Self> {
        let meta = catalog::load(tx, collection)?;
        let (_, building) = position_of(&meta, index)?;
        let mut last = Vec::new();
        if let Some(view) = tx.system_view(&meta.documents_tree) {
            let mut cursor = view.cursor();
            if cursor.last()? {
                last.extend_from_slice(cursor.key());
            }
        }
        let of = (meta.number, building.number);
        let index = building.index.clone();
        Ok(Goal { of, last, index })
    }

    /// A new schema can have put another index in the place of the one that was asked for.
    fn check(&self, meta: &Meta, building: &IndexMeta) -> Result<()> {
        match building.index.says_the_same(&self.index) {
            true => Ok(()),
            false => Err(Error::BadIndex {
                collection: meta.name.to_string(),
                index: building.name.clone(),
                reason: "another index has got its name meanwhile",
            }),
        }
    }

    fn is_reached(&self, meta: &Meta, index: &IndexMeta, by: &[u8]) -> bool {
        self.of == (meta.number, index.number) && by >= self.last.as_slice()
    }
}

/// Takes some more documents into an index, while `goes_on` says so. Says whether that was all, or as far as the goal is, if
/// there is one.
pub(super) fn build_some(
    tx: &mut WriteTransaction,
    collection: &str,
    index: &str,
    goal: Option<&Goal>,
    mut goes_on: impl FnMut(&WriteTransaction) -> bool,
) -> Result<(bool, BuildProgress)> {
    let meta = catalog::load(tx, collection)?;
    let (position, building) = position_of(&meta, index)?;
    goal.map_or(Ok(()), |goal| goal.check(&meta, building))?;
    let documents = { tx.find(&meta.documents_tree) }.map_or(0, |view| view.len());
    let finished = BuildProgress {
        done: documents,
        total: documents,
    };
    let Some(mut built_to) = building.built_to.clone() else {
        return Ok((true, finished));
    };
    let mut gathered = Gathered::default();
    let is_done = loop {
        let (some, is_more) = some_after(tx, &meta, &built_to)?;
        gathered.add_entries(tx, &meta, building, &some)?;
        if let Some((last, _)) = some.into_iter().last() {
            built_to = last;
        }
        if !is_more || goal.is_some_and(|goal| goal.is_reached(&meta, building, &built_to)) {
            break true;
        }
        if !goes_on(tx) || gathered.bytes >= gather_bytes(tx) {
            break false;
        }
    };
    gathered.put(tx, building)?;
    let mut indexes = meta.numbered_indexes();
    if let Some(index) = indexes.get_mut(position) {
        index.built_to = if is_done {
            None
        } else {
            Some(built_to.clone())
        };
    }
    let (schema, names) = (meta.schema.clone(), meta.known_names.clone());
    catalog::store(tx, &changed(&meta, schema, names, meta.next_index, indexes))?;
    let done = match tx.find(&meta.documents_tree) {
        Some(view) if !is_done => view.rank(&built_to)? + 1,
        _ => documents,
    };
    let progress = BuildProgress {
        done,
        total: documents,
    };
    Ok((is_done, progress))
}

fn position_of<'m>(meta: &'m Meta, index: &str) -> Result<(usize, &'m IndexMeta)> {
    let found = meta
        .indexes
        .iter()
        .enumerate()
        .find(|(_, known)| known.name == index);
    found.ok_or_else(|| Error::BadIndex {
        collection: meta.name.to_string(),
        index: index.to_string(),
        reason: "there is none of that name",
    })
}

/// Entries of an index that are put there together: a page of it is copied once for all of them. (About [`gather_bytes`] at most.)
#[derive(Debug, Default)]
struct Gathered {
    entries: Vec<Vec<u8>>,
    bytes: usize,
}

impl Gathered {
    fn add_entries(
        &mut self,
        tx: &mut WriteTransaction,
        meta: &Meta,
        index: &IndexMeta,
        documents: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<()> {
        for (key, document) in documents {
            let own = index::entries(meta, index, key, document)?;
            if !index.index.unique {
                self.bytes += own.iter().map(|e| ENTRY_BYTES + e.len()).sum::<usize>();
                self.entries.extend(own);
                continue;
            }
            // One by one: the next may have the same value. What nobody sees any more is in nobody's way.
            let is_over = is_expired(meta, document, tx.now_ms())?;
            if !is_over {
                check_unique(tx, meta, index, key, document)?;
            }
            store_time_if(tx, is_over)?;
            let mut tree = tx.system_tree(&index.tree)?;
            for entry in own {
                tree.put(entry, [])?;
            }
        }
        Ok(())
    }

    fn put(self, tx: &mut WriteTransaction, index: &IndexMeta) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let entries = self.entries.into_iter().map(|entry| (entry, []));
        tx.system_tree(&index.tree)?.put_many(entries).map(|_| ())
    }
}

/// Removes an index.
pub(super) fn drop_index(tx: &mut WriteTransaction, collection: &str, name: &str) -> Result<()> {
    let meta = catalog::load(tx, collection)?;
    let (position, index) = position_of(&meta, name)?;
    let mut schema = meta.schema.clone();
    schema.indexes.retain(|index| index.name() != name);
    for field in &mut schema.fields {
        if field.path == name {
            field.indexed = false;
            field.unique = false;
        }
    }
    let mut indexes = meta.numbered_indexes();
    indexes.remove(position);
    drop_if_there(tx, &index.tree)?;
    let names = meta.known_names.clone();
    catalog::store(tx, &changed(&meta, schema, names, meta.next_index, indexes))
}

/// Gives a collection another schema: every document is checked against it and gets its defaults,
/// indexes come and go.
pub(super) fn alter(tx: &mut WriteTransaction, name: &str, schema: Schema) -> Result<()> {
    let old = catalog::load(tx, name)?;
    if let Some(reason) = { schema.fault() }.or_else(|| schema.fault_of_names()) {
        return Err(Error::BadSchema {
            collection: name.to_string(),
            reason,
        });
    }
    let mut next_index = old.next_index;
    let mut indexes = Vec::new();
    let mut kept = Vec::new();
    for index in schema.indexes() {
        let known = old
            .indexes
            .iter()
            .find(|known| known.index.says_the_same(&index) && known.is_ready());
        let number = known.map_or(next_index, |known| known.number);
        match known {
            Some(_) => kept.push(number),
            None => {
                let tree = index_tree(old.number, next_index);
                catalog::refuse_taken(tx, &tree, "the counter of indexes")?;
                next_index = number_after(next_index)?;
            }
        }
        indexes.push(NumberedIndex {
            number,
            index,
            built_to: None,
        });
    }
    let names = names_of(&schema, &old.known_names);
    let new = changed(&old, schema, names, next_index, indexes);
    // Stored first: what is wrong with it is known before much is done.
    catalog::store(tx, &new)?;
    tx.together(|tx| refit_all(tx, &old, &new, &kept))
}

/// Puts documents and indexes under a new schema, which is stored already. Indexes with these numbers are kept.
fn refit_all(tx: &mut WriteTransaction, old: &Meta, new: &Meta, kept: &[u32]) -> Result<()> {
    for index in { old.indexes.iter() }.filter(|index| !kept.contains(&index.number)) {
        drop_if_there(tx, &index.tree)?;
    }
    // The same bytes may mean other documents from now on.
    tx.touch_space(old.number);
    // All that have expired first, or have now: they are in no other document's way.
    if old.expires.is_some() || new.expires.is_some() {
        for_each(tx, old, |tx, key, document| {
            match is_over(old, new, key, document, tx.now_ms())? {
                true => erase_before_refit(tx, old, new, kept, key, document),
                false => Ok(()),
            }
        })?;
    }
    for_each(tx, old, |tx, key, document| {
        refit_one(tx, old, new, kept, key, document)
    })
}

/// Whether a document has expired, or fits the new schema and has expired under that.
fn is_over(old: &Meta, new: &Meta, key: &[u8], document: &[u8], now_ms: u64) -> Result<bool> {
    if is_expired(old, document, now_ms)? {
        return Ok(true);
    }
    match new.expires.as_ref().map(|_| refit_to(new, key, document)) {
        Some(Ok(fitted)) => is_expired(new, &fitted, now_ms),
        _ => Ok(false), // what does not fit is told later, with the others before it fitted
    }
}

/// Calls `change` for each document, in the order of their ids.
fn for_each(
    tx: &mut WriteTransaction,
    meta: &Meta,
    mut change: impl FnMut(&mut WriteTransaction, &[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let mut after = Vec::new();
    loop {
        let (some, _) = some_after(tx, meta, &after)?;
        let Some((last, _)) = some.last() else {
            return Ok(());
        };
        after = last.clone();
        for (key, document) in &some {
            change(tx, key, document)?;
        }
    }
}

fn refit_one(
    tx: &mut WriteTransaction,
    old: &Meta,
    new: &Meta,
    kept: &[u32],
    key: &[u8],
    document: &[u8],
) -> Result<()> {
    let fitted = refit_to(new, key, document)?;
    for index in &new.indexes {
        let is_kept = kept.contains(&index.number);
        if is_kept && fitted == document {
            continue;
        }
        let before = match old_index(old, index).filter(|_| is_kept) {
            Some(before) => index::entries(old, before, key, document)?,
            None => Vec::new(),
        };
        check_unique(tx, new, index, key, &fitted)?;
        let after = index::entries(new, index, key, &fitted)?;
        let mut tree = tx.system_tree(&index.tree)?;
        let kept: HashSet<_> = after.iter().collect();
        for entry in before.iter().filter(|entry| !kept.contains(entry)) {
            tree.delete(entry)?;
        }
        for entry in &after {
            tree.put(entry, [])?;
        }
    }
    let (before, after) = (expiry_of(old, document)?, expiry_of(new, &fitted)?);
    set_expiry(tx, new.number, key, before, after)?;
    if fitted != document {
        tx.system_tree(&new.documents_tree)?.put(key, fitted)?;
    }
    Ok(())
}

/// The same index in the old schema. Of a document that was stored under that one, it alone finds the values: a field that
/// gets declared gets a number in the place of its name.
fn old_index<'m>(old: &'m Meta, index: &IndexMeta) -> Option<&'m IndexMeta> {
    { old.indexes.iter() }.find(|known| known.number == index.number)
}

/// What nobody sees any more need not fit the new schema.
fn erase_before_refit(
    tx: &mut WriteTransaction,
    old: &Meta,
    new: &Meta,
    kept: &[u32],
    key: &[u8],
    document: &[u8],
) -> Result<()> {
    let kept = { new.indexes.iter() }.filter(|index| kept.contains(&index.number));
    for index in kept {
        let Some(before) = old_index(old, index) else {
            continue;
        };
        let entries = index::entries(old, before, key, document)?;
        let mut tree = tx.system_tree(&index.tree)?;
        for entry in entries {
            tree.delete(entry)?;
        }
    }
    let before = expiry_of(old, document)?;
    set_expiry(tx, new.number, key, before, None)?;
    tx.system_tree(&new.documents_tree)?.delete(key)?;
    Ok(())
}

#[cfg(test)]
#[test]
fn indexes_do_not_share_a_number() {
    assert_eq!(number_after(7).ok(), Some(8));
    assert!(number_after(u32::MAX).is_err());
}
