//! The catalog: which collections there are.
//!
//! # Invariants
//!
//! 1. Whoever reads a collection's documents uses its record of the same moment. Records are
//!    decoded once: the bytes that a moment sees say whether the decoded form is the right one.
//! 2. The number of a collection is never used again, so what a deleted one may have left behind (entries
//!    in the index of what expires, in files of earlier times) cannot be taken for another's.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::meta::{CATALOG_TREE, Meta, documents_tree};
use crate::moment::{FACTS_TREE, Moment};
use crate::sync::Mutex;
use crate::txn::write::WriteTransaction;
use crate::{Error, Result};

/// The bytes of a record, and what they decode to.
type Decoded = (Vec<u8>, Arc<Meta>);

/// So many decoded records are kept. Where collections are made for a while and deleted, names come without end.
const MOST_DECODED: usize = 1024;

/// Names by their numbers are kept for so many: they are short, and to look for one goes through all.
const MOST_NAMES: usize = 1 << 18;

/// Decoded records with their bytes (invariant 1), for names that were used.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    decoded: Mutex<HashMap<String, Decoded>>,
    /// The name that a collection of that number had when it was last looked at. Taken alone, or with `decoded` held.
    names: Mutex<HashMap<u32, Arc<str>>>,
}

impl Catalog {
    fn decode(&self, name: &str, bytes: &[u8]) -> Result<Arc<Meta>> {
        let mut decoded = self.decoded.lock();
        if let Some((known, meta)) = decoded.get(name)
            && known == bytes
        {
            return Ok(meta.clone());
        }
        let meta = Meta::decode(name, bytes).ok_or_else(|| Error::Unreadable {
            what: format!("the collection {name:?}"),
            reason: "its schema does not decode",
        })?;
        let meta = Arc::new(meta);
        if decoded.len() >= MOST_DECODED && !decoded.contains_key(name) {
            // Any of them: one that is used comes back.
            let some = decoded.keys().next().cloned();
            some.and_then(|name| decoded.remove(&name));
        }
        decoded.insert(name.to_string(), (bytes.to_vec(), meta.clone()));
        self.note_name(&meta);
        Ok(meta)
    }

    fn note_name(&self, meta: &Meta) {
        let mut names = self.names.lock();
        if names.len() >= MOST_NAMES && !names.contains_key(&meta.number) {
            // Any of them, as above.
            let some = names.keys().next().copied();
            some.and_then(|number| names.remove(&number));
        }
        names.insert(meta.number, meta.name.clone());
    }

    /// Of a collection that is gone. Whoever looks at an earlier moment decodes it again.
    pub(crate) fn forget(&self, meta: &Meta) {
        self.decoded.lock().remove(&*meta.name);
        self.names.lock().remove(&meta.number);
    }

    /// The name that a collection of that number had when it was last looked at.
    fn name_of(&self, number: u32) -> Option<Arc<str>> {
        self.names.lock().get(&number).cloned()
    }
}

/// The collection of that name, at this moment.
pub(crate) fn find(moment: &impl Moment, name: &str) -> Result<Option<Arc<Meta>>> {
    let Some(view) = moment.system_view(CATALOG_TREE) else {
        return Ok(None);
    };
    match view.get(name)? {
        Some(bytes) => moment.handle().catalog.decode(name, &bytes).map(Some),
        None => Ok(None),
    }
}

/// Like [`find`]; an error if there is none.
pub(crate) fn load(moment: &impl Moment, name: &str) -> Result<Arc<Meta>> {
    find(moment, name)?.ok_or_else(|| Error::CollectionNotFound {
        collection: name.to_string(),
    })
}

/// The collection with that number, if it is still there and has had documents.
pub(crate) fn by_number(moment: &impl Moment, number: u32) -> Result<Option<Arc<Meta>>> {
    // Of one that is gone there may be an entry for each of its documents: it is not looked for each time.
    if moment.system_view(&documents_tree(number)).is_none() {
        return Ok(None);
    }
    let has_number = |meta: &Arc<Meta>| meta.number == number;
    let catalog = &moment.handle().catalog;
    if let Some(name) = catalog.name_of(number)
        && let Some(meta) = find(moment, &name)?.filter(has_number)
    {
        return Ok(Some(meta));
    }
    // Sweeps ask for each document: all names are noted at once, or each of thousands of collections would be looked for like
    // this again and again, which took some milliseconds for each document.
    let mut found = None;
    for name in names(moment)? {
        match find(moment, &name) {
            Ok(Some(meta)) => {
                catalog.note_name(&meta);
                found = found.or(Some(meta).filter(has_number));
            }
            Ok(None) => {}
            Err(error) if found.is_none() => return Err(error),
            Err(_) => break, // of another collection
        }
    }
    Ok(found)
}

/// The names of all collections, in order.
pub(crate) fn names(moment: &impl Moment) -> Result<Vec<String>> {
    let Some(view) = moment.system_view(CATALOG_TREE) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in view.iter() {
        let name = String::from_utf8(entry?.0).map_err(|error| Error::Unreadable {
            what: format!(
                "the collection {:?}",
                String::from_utf8_lossy(error.as_bytes())
            ),
            reason: "its name is not UTF-8",
        });
        names.push(name?);
    }
    Ok(names)
}

/// Writes the record of a collection.
pub(crate) fn store(tx: &mut WriteTransaction, meta: &Meta) -> Result<()> {
    let record = meta.encode();
    // Whoever cannot read it could not even remove it.
    if Meta::decode(&meta.name, &record).is_none() {
        return Err(Error::BadSchema {
            collection: meta.name.to_string(),
            reason: "a default or a condition in it is nested too deep to be stored".to_string(),
        });
    }
    tx.system_tree(CATALOG_TREE)?.put(&*meta.name, record)?;
    Ok(())
}

/// The fact that is the last number of a collection.
const COUNTER_KEY: &str = "collection";

/// A counter that gives a number again would have two things in one place.
pub(super) fn refuse_taken(tx: &WriteTransaction, tree: &str, counter: &'static str) -> Result<()> {
    match tx.system_view(tree) {
        None => Ok(()),
        Some(_) => Err(Error::Unreadable {
            what: counter.to_string(),
            reason: "it gives a number that is taken",
        }),
    }
}

const COUNTER: &str = "the counter of collections";

fn bad_counter(reason: &'static str) -> Error {
    Error::Unreadable {
        what: COUNTER.to_string(),
        reason,
    }
}

/// The last number that a collection got, or 0.
fn last_number(moment: &impl Moment) -> Result<u32> {
    let Some(facts) = moment.system_view(FACTS_TREE) else {
        return Ok(0);
    };
    let Some(bytes) = facts.get(COUNTER_KEY)? else {
        return Ok(0);
    };
    let number = bytes.as_ref().try_into().map(u32::from_le_bytes);
    number.map_err(|_| bad_counter("it is not a number"))
}

/// A number that no collection had (invariant 2).
pub(crate) fn next_number(tx: &mut WriteTransaction) -> Result<u32> {
    let next = last_number(tx)?.checked_add(1);
    let next = next.ok_or_else(|| bad_counter("it has reached its end"))?;
    tx.system_tree(FACTS_TREE)?
        .put(COUNTER_KEY, next.to_le_bytes())?;
    refuse_taken(tx, &documents_tree(next), COUNTER)?;
    Ok(next)
}

/// No two collections have one number, and none has one that was not given yet: the next one would get it as well.
pub(super) fn check_numbers<'m>(
    moment: &impl Moment,
    metas: impl IntoIterator<Item = &'m Arc<Meta>>,
) -> Result<()> {
    let last = last_number(moment)?;
    let mut known = HashSet::new();
    for meta in metas {
        if !known.insert(meta.number) {
            return Err(Error::Unreadable {
                what: format!("the collection {:?}", meta.name),
                reason: "another collection has its number",
            });
        }
        if meta.number > last {
            return Err(bad_counter("a collection has a number that was not given"));
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::collection::documents::expiry_name;
    use crate::collection::schema::{Field, Index, Schema};
    use crate::db::Aurora;
    use crate::keys::expiry;
    use crate::value::FieldType;

    /// Whoever makes collections with ever new names and deletes them had the records of all of them in memory.
    #[test]
    fn records_that_are_kept_are_bounded() {
        let db = Aurora::in_memory().unwrap();
        let kept = || db.handle.catalog.decoded.lock().len();
        let schema = || Schema::new().field(Field::new("n", FieldType::Int));
        for i in 0..30 {
            let name = format!("for a while {i}");
            db.new_collection(&name, schema()).unwrap();
            db.insert_into(&name, [("n", 1)]).unwrap();
            db.delete_collection(&name).wait().unwrap();
        }
        assert_eq!(kept(), 0);
        let name = |i: usize| format!("name {i}");
        db.write(|tx| {
            (0..2 * MOST_DECODED + 7).try_for_each(|i| tx.new_collection(name(i), schema()))
        })
        .unwrap();
        for i in 0..2 * MOST_DECODED + 7 {
            assert!(db.collection(name(i)).unwrap().is_empty().unwrap());
            assert!((1..=MOST_DECODED).contains(&kept()));
        }
        db.insert_into(name(1), [("n", 1)]).unwrap();
        assert_eq!(db.collection(name(1)).unwrap().len().unwrap(), 1);
    }

    /// Files of earlier times have what a collection left in the index of what expires: it is removed without a search for
    /// the collection among all the others.
    #[test]
    fn the_leftovers_of_a_collection_are_swept_in_good_time() {
        let storage = Arc::new(crate::storage::MemoryStorage::new());
        let builder = Aurora::builder().background(false);
        let db = builder.open_storage(storage).unwrap();
        db.write(|tx| {
            for i in 0..2_000 {
                tx.new_collection(format!("other {i}"), Schema::schemaless())?;
            }
            for i in 0..5_000u32 {
                let name = expiry_name(1_000_000, &i.to_be_bytes());
                expiry::add(tx, 1_000, expiry::OF_DOCUMENT, &name)?;
            }
            Ok(())
        })
        .unwrap();
        let start = std::time::Instant::now();
        assert_eq!(db.sweep(usize::MAX).unwrap(), 5_000);
        let took = start.elapsed();
        assert!(took < std::time::Duration::from_secs(2), "{took:?}");
        assert_eq!(db.sweep(usize::MAX).unwrap(), 0);
        db.check().unwrap();
    }

    /// A file can say anything of the numbers that were given.
    #[test]
    fn a_number_that_is_taken_is_not_given_again() {
        let db = Aurora::in_memory().unwrap();
        db.new_collection("c", Schema::schemaless()).unwrap();
        db.insert_into("c", [("v", 1)]).unwrap();
        db.create_index("c", Index::on(["v"])).wait().unwrap();
        let put =
            |key: &str, content: &[u8]| db.write(|tx| tx.put_blob_from(key, content).map(drop));
        put("b", b"content").unwrap();
        db.write(|tx| {
            let mut facts = tx.system_tree(FACTS_TREE)?;
            facts.put(COUNTER_KEY, 0u32.to_le_bytes())?;
            facts.put("blob", 0u64.to_le_bytes())?;
            let meta = load(tx, "c")?;
            let lower = Meta::assemble(
                meta.name.clone(),
                meta.number,
                meta.version + 1,
                meta.schema.clone(),
                meta.known_names.clone(),
                1,
                meta.numbered_indexes(),
            );
            store(tx, &lower)
        })
        .unwrap();
        let corrupt = |refused: Result<()>| refused.is_err_and(|error| error.is_corruption());
        assert!(corrupt(db.new_collection("d", Schema::schemaless())));
        assert!(corrupt(db.create_index("c", Index::on(["w"])).wait()));
        assert!(corrupt(put("d", b"other")));
        assert_eq!(db.collection("c").unwrap().len().unwrap(), 1);
        let mut content = Vec::new();
        db.get_blob("b")
            .unwrap()
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        assert_eq!(content, b"content");
    }
}
