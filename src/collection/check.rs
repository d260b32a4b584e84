//! What a collection promises, checked: documents against the schema, indexes against documents
//! both ways, unique values against one another, what expires.

use std::collections::HashSet;
use std::sync::Arc;

use super::catalog;
use super::documents::{check_unique, expiry_name, expiry_of, is_expired, refit, some_after};
use super::index;
use super::meta::{Meta, is_of_a_collection};
use crate::keys::expiry;
use crate::moment::Moment;
use crate::value::decode_id;
use crate::{Error, Result};

/// Checks all collections. Reads everything. `trees`: the names of all that there are.
pub(crate) fn check<'n>(moment: &impl Moment, trees: impl Iterator<Item = &'n str>) -> Result<()> {
    let names = catalog::names(moment)?;
    let metas = names.iter().map(|name| catalog::load(moment, name));
    let metas = metas.collect::<Result<Vec<_>>>()?;
    catalog::check_numbers(moment, &metas)?;
    check_owners(&metas, trees)?;
    metas.iter().try_for_each(|meta| check_one(moment, meta))
}

/// Documents whose collection is lost are seen by nobody.
fn check_owners<'n>(metas: &[Arc<Meta>], trees: impl Iterator<Item = &'n str>) -> Result<()> {
    let indexes = metas.iter().flat_map(|meta| &meta.indexes);
    let mut owned: HashSet<&str> = indexes.map(|index| &*index.tree).collect();
    owned.extend(metas.iter().map(|meta| &*meta.documents_tree));
    let mut trees = trees.filter(|tree| is_of_a_collection(tree));
    match trees.find(|tree| !owned.contains(tree)) {
        None => Ok(()),
        Some(tree) => Err(Error::Unreadable {
            what: format!("the tree {tree:?}"),
            reason: "it belongs to no collection",
        }),
    }
}

fn fault(meta: &Meta, reason: &'static str) -> Error {
    Error::Unreadable {
        what: format!("the collection {:?}", meta.name),
        reason,
    }
}

/// What is wrong with a document that the schema refuses: who asks for a check has made no mistake.
fn misfit(meta: &Meta, key: &[u8], error: Error) -> Error {
    if !error.is_misuse() {
        return error;
    }
    Error::BadDocument {
        collection: meta.name.to_string(),
        id: decode_id(key).unwrap_or_default().to_string(),
        cause: Arc::new(error),
    }
}

fn check_one(moment: &impl Moment, meta: &Meta) -> Result<()> {
    // The steps begin behind the empty key.
    if let Some(documents) = moment.system_view(&meta.documents_tree)
        && documents.contains([])?
    {
        return Err(fault(meta, "a document has an empty key, which is no id"));
    }
    let mut counts = vec![0u64; meta.indexes.len()];
    let mut after = Vec::new();
    loop {
        let (some, _) = some_after(moment, meta, &after)?;
        let Some((last, _)) = some.last() else { break };
        after = last.clone();
        for (key, document) in &some {
            check_document(moment, meta, key, document, &mut counts)?;
        }
    }
    for (index, count) in meta.indexes.iter().zip(counts) {
        let found = { moment.system_view(&index.tree) }.map_or(0, |view| view.len());
        // Every entry that belongs there was found, so others are too many.
        if found != count && index.is_ready() {
            return Err(fault(meta, "an index has entries of no document"));
        }
    }
    Ok(())
}

fn check_document(
    moment: &impl Moment,
    meta: &Meta,
    key: &[u8],
    document: &[u8],
    counts: &mut [u64],
) -> Result<()> {
    refit(meta, key, document).map_err(|error| misfit(meta, key, error))?;
    for (index, count) in meta.indexes.iter().zip(counts) {
        let view = moment.system_view(&index.tree);
        for entry in index::entries(meta, index, key, document)? {
            let is_there = match &view {
                Some(view) => view.contains(&entry)?,
                None => false,
            };
            if !is_there && index.is_ready() {
                return Err(fault(meta, "a document is not in an index"));
            }
            *count += u64::from(is_there);
        }
        // Of two with one value either is told, and the one that comes first by its id is looked at first.
        if index.is_ready() && !is_expired(meta, document, moment.now_ms())? {
            check_unique(moment, meta, index, key, document)
                .map_err(|error| misfit(meta, key, error))?;
        }
    }
    if let Some(expiry) = expiry_of(meta, document)? {
        let name = expiry_name(meta.number, key);
        if !expiry::lists(moment, expiry, expiry::OF_DOCUMENT, &name)? {
            return Err(fault(meta, "a document that expires is not listed so"));
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;
    use crate::collection::{Field, Index, Schema};
    use crate::db::Aurora;
    use crate::value::{FieldType, Object, Value, encode, encode_fields};

    #[test]
    fn a_document_with_an_empty_key_is_a_finding_of_the_check() {
        let db = Aurora::in_memory().unwrap();
        db.new_collection("books", Schema::schemaless()).unwrap();
        db.insert_into("books", [("name", "x")]).unwrap();
        db.check().unwrap();
        db.write(|tx| {
            let meta = catalog::load(tx, "books")?;
            let bytes = encode_fields(&Object::from([("name", "y")]), &meta.names);
            tx.system_tree(&meta.documents_tree)?.put([], bytes)
        })
        .unwrap();
        let found = db.check().unwrap_err();
        assert!(found.is_corruption(), "{found:?}");
        assert!(found.to_string().contains("empty key"), "{found}");
    }

    /// As another program may have stored them.
    #[test]
    fn two_documents_with_one_unique_value_are_a_finding_of_the_check() {
        let long = "x".repeat(600);
        let many = |tags: &[&str]| Value::from(tags.to_vec());
        let one = |field, value| Object::from([(field, value)]);
        let cases = [
            (one("name", "x".into()), one("name", "x".into()), true),
            (
                one("name", long.as_str().into()),
                one("name", long.as_str().into()),
                true,
            ),
            (
                one("name", long.as_str().into()),
                one("name", (long.clone() + "y").into()),
                false,
            ),
            (one("name", Value::Null), one("name", Value::Null), false),
            (
                one("tags", many(&["a", "b"])),
                one("tags", many(&["c", "a"])),
                true,
            ),
            (
                one("tags", many(&["a", "b"])),
                one("tags", many(&["c", "d"])),
                false,
            ),
            (one("tags", many(&["a"])), one("tags", "a".into()), true),
            (one("left", 1.into()), one("left", 1.into()), false),
        ];
        for (first, second, is_found) in cases {
            let db = Aurora::in_memory().unwrap();
            let schema = Schema::schemaless()
                .index(Index::on(["name"]).unique())
                .index(Index::on(["tags"]).unique())
                .index(Index::on(["left", "right"]).unique());
            db.new_collection("books", schema).unwrap();
            db.insert_into("books", first.clone()).unwrap();
            db.write(|tx| {
                let meta = catalog::load(tx, "books")?;
                let mut key = Vec::new();
                encode(&Value::Int(77), &mut key);
                let bytes = encode_fields(&second, &meta.names);
                for index in &meta.indexes {
                    for entry in index::entries(&meta, index, &key, &bytes)? {
                        tx.system_tree(&index.tree)?.put(entry, [])?;
                    }
                }
                tx.system_tree(&meta.documents_tree)?.put(key, bytes)
            })
            .unwrap();
            let checked = db.check();
            assert_eq!(checked.is_err(), is_found, "{first} {second}: {checked:?}");
            let Err(found) = checked else { continue };
            assert!(found.is_corruption() && !found.is_misuse(), "{found:?}");
            assert!(found.to_string().contains("unique"), "{found}");
        }
    }

    /// As another program may have stored it.
    #[test]
    fn a_document_that_does_not_fit_is_a_finding_of_the_check() {
        let schema = Schema::new()
            .field(Field::new("name", FieldType::String).required())
            .field(Field::new("year", FieldType::Int));
        for (wrong, says) in [
            (Object::from([("name", "x"), ("year", "y")]), "takes Int"),
            (Object::from([("year", 5)]), "is required"),
            (Object::from([("name", "x"), ("more", "y")]), "no field"),
        ] {
            let db = Aurora::in_memory().unwrap();
            db.new_collection("books", schema.clone()).unwrap();
            db.insert_into("books", [("name", "x")]).unwrap();
            db.check().unwrap();
            db.write(|tx| {
                let meta = catalog::load(tx, "books")?;
                let mut key = Vec::new();
                encode(&Value::Int(77), &mut key);
                let bytes = encode_fields(&wrong, &meta.names);
                tx.system_tree(&meta.documents_tree)?.put(key, bytes)
            })
            .unwrap();
            let found = db.check().unwrap_err();
            assert!(found.is_corruption() && !found.is_misuse(), "{found:?}");
            let text = found.to_string();
            for part in ["\"books\"", "document 77", says] {
                assert!(text.contains(part), "{text}");
            }
        }
    }
}
