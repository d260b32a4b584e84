//! The database's own trees in the new file, made to keep their promises to each other.
//!
//! What is derived (indexes of collections, the index of what expires, counters) is compared with what it
//! is derived from and made anew if it differs. What cannot stand alone (a blob without all of its
//! chunks, a document without its collection) goes to `lost+found/` under the name of its tree.
//!
//! # Invariants
//!
//! 1. Memory is a batch of entries, and a few bytes for each blob.
//! 2. Nothing is made up: what is derived is derived by the engine's code.

use std::collections::{HashMap, HashSet};
use std::ops::Bound;

use aurora::anatomy::{CollectionRecord, DueRecord, IndexRecord, KeyRecord, Pair, crc32c};

use super::losses::Loss;
use super::output::{Output, failed};
use crate::upper::{BlobRecord, CHUNKS, COLLECTIONS, EXPIRY, KEYS, META, STAGED};
use crate::{Failure, show};

/// Bytes of entries that are in memory at a time.
const BATCH_BYTES: usize = 1 << 20;

/// Repairs everything above the trees.
pub(crate) fn repair(output: &mut Output) -> Result<(), Failure> {
    facts(output)?;
    blobs(output)?;
    chunks(output)?;
    let collections = collections(output)?;
    for collection in &collections {
        documents(output, collection)?;
        for index in collection.indexes() {
            unique(output, collection, &index)?;
        }
        for index in collection.indexes() {
            rebuild(output, collection, &index)?;
        }
    }
    expiry(output, &collections)
}

/// Hands each entry to `each`, which may change trees meanwhile.
fn for_each(
    output: &mut Output,
    tree: &str,
    mut each: impl FnMut(&mut Output, &[u8], &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut batch: Vec<Pair> = output
        .rebuild
        .entries(tree, Bound::Unbounded, BATCH_BYTES)
        .map_err(failed)?;
    while let Some((last, _)) = batch.last() {
        let last = last.clone();
        for (key, value) in &batch {
            each(output, key, value)?;
        }
        let from = Bound::Excluded(last.as_slice());
        batch = output
            .rebuild
            .entries(tree, from, BATCH_BYTES)
            .map_err(failed)?;
    }
    Ok(())
}

/// Moves an entry to `lost+found`, and tells it as lost.
fn move_away(
    output: &mut Output,
    kind: &'static str,
    tree: &str,
    key: &[u8],
    value: &[u8],
    what: &str,
) -> Result<(), Failure> {
    output.rebuild.delete(tree, key).map_err(failed)?;
    output.put_lost(tree, key, value, what)?;
    output.losses.lose(Loss {
        kind,
        tree: Some(tree.to_string()),
        key: Some(show::key(tree, key, 256)),
        entries: Some(1),
        what: what.to_string(),
        ..Loss::default()
    });
    Ok(())
}

/// Facts are numbers.
fn facts(output: &mut Output) -> Result<(), Failure> {
    for (fact, length) in [("clock", 8), ("blob", 8), ("collection", 4)] {
        let value = output.rebuild.get(META, fact.as_bytes()).map_err(failed)?;
        if let Some(value) = value.filter(|value| value.len() != length) {
            let what = "a fact about the database is not a number";
            move_away(output, "entry", META, fact.as_bytes(), &value, what)?;
        }
    }
    Ok(())
}

/// A counter is at least as high as what was numbered.
fn raise(output: &mut Output, fact: &str, least: u64, length: usize) -> Result<(), Failure> {
    let value = output.rebuild.get(META, fact.as_bytes()).map_err(failed)?;
    let number = value.map(|value| {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(&value) {
            *to = *from;
        }
        u64::from_le_bytes(bytes)
    });
    if least == 0 || number.is_some_and(|number| number >= least) {
        return Ok(());
    }
    let bytes = least.to_le_bytes();
    let bytes = bytes.get(..length).unwrap_or(&bytes);
    output
        .rebuild
        .put(META, fact.as_bytes(), bytes)
        .map_err(failed)?;
    output
        .losses
        .repair(format!("the last number of a {fact} is {least} again"));
    Ok(())
}

/// How many records with the number of one blob are compared with its content.
const CLAIMS: u32 = 16;

/// Records of keys decode, and blobs are whole.
fn blobs(output: &mut Output) -> Result<(), Failure> {
    let (mut numbers, mut claims) = (HashSet::new(), HashMap::new());
    for_each(output, KEYS, |output, key, value| {
        let what = match blob_fault(output, value, &mut numbers, &mut claims)? {
            Some(what) => what,
            None => return Ok(()),
        };
        let is_blob = KeyRecord::decode(value).is_ok_and(|record| record.is_blob);
        let kind = if is_blob { "blob" } else { "key" };
        move_away(output, kind, KEYS, key, value, &what)
    })?;
    let last = numbers.iter().max().copied().unwrap_or(0);
    raise(output, "blob", last, 8)
}

/// What is wrong with a record of a key. The numbers of whole blobs are kept.
fn blob_fault(
    output: &mut Output,
    value: &[u8],
    numbers: &mut HashSet<u64>,
    claims: &mut HashMap<u64, u32>,
) -> Result<Option<String>, Failure> {
    let record = match KeyRecord::decode(value) {
        Ok(record) if !record.is_blob => return Ok(None),
        Ok(record) => record,
        Err(flaw) => return Ok(Some(flaw.what.to_string())),
    };
    let blob = match BlobRecord::decode(record.payload) {
        Ok(blob) if blob.is_canonical => blob,
        Ok(_) => return Ok(Some("the map of a blob is not in order".to_string())),
        Err(flaw) => return Ok(Some(flaw.what.to_string())),
    };
    let claims = claims.entry(blob.number).or_default();
    *claims += 1;
    if numbers.contains(&blob.number) || *claims > CLAIMS {
        return Ok(Some("another blob has its number".to_string()));
    }
    let mut checksum = 0;
    for index in 0..blob.chunks() {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let chunk = output
            .rebuild
            .get(CHUNKS, &blob.chunk_key(index))
            .map_err(failed)?;
        let Some(chunk) = chunk.filter(|chunk| chunk.len() as u64 == blob.length_of(index)) else {
            let count = blob.chunks();
            return Ok(Some(format!(
                "chunk {index} of {count} of the blob is missing"
            )));
        };
        checksum = crc32c(checksum, &chunk);
    }
    if checksum != blob.checksum {
        return Ok(Some(
            "the content of the blob does not match its checksum".to_string(),
        ));
    }
    numbers.insert(blob.number);
    Ok(None)
}

/// Every chunk belongs to a blob. What was staged had no key yet, and is left out.
fn chunks(output: &mut Output) -> Result<(), Failure> {
    let mut owners: HashMap<u64, u64> = HashMap::new();
    for_each(output, KEYS, |_, _, value| {
        if let Ok(record) = KeyRecord::decode(value)
            && record.is_blob
            && let Ok(blob) = BlobRecord::decode(record.payload)
        {
            owners.insert(blob.number, blob.chunks());
        }
        Ok(())
    })?;
    let mut staged = HashSet::new();
    for_each(output, STAGED, |output, key, value| {
        match key.try_into().map(u64::from_be_bytes) {
            Ok(number) => {
                staged.insert(number);
                output.rebuild.delete(STAGED, key).map_err(failed)?;
                Ok(())
            }
            Err(_) => move_away(
                output,
                "entry",
                STAGED,
                key,
                value,
                "not the number of a blob",
            ),
        }
    })?;
    for_each(output, CHUNKS, |output, key, value| {
        let number = key.split_first_chunk::<8>().and_then(|(number, index)| {
            let index: [u8; 4] = index.try_into().ok()?;
            Some((u64::from_be_bytes(*number), u32::from_be_bytes(index)))
        });
        match number {
            Some((number, index)) if owners.get(&number).is_some_and(|n| u64::from(index) < *n) => {
                Ok(())
            }
            Some((number, _)) if staged.contains(&number) && !owners.contains_key(&number) => {
                output.rebuild.delete(CHUNKS, key).map_err(failed)?;
                Ok(())
            }
            _ => {
                output.rebuild.delete(CHUNKS, key).map_err(failed)?;
                output.put_lost(CHUNKS, key, value, "a chunk of no whole blob")
            }
        }
    })
}

/// The collections whose records decode. Trees of others go to `lost+found`.
fn collections(output: &mut Output) -> Result<Vec<CollectionRecord>, Failure> {
    let mut found: Vec<CollectionRecord> = Vec::new();
    for_each(output, COLLECTIONS, |output, key, value| {
        let name = std::str::from_utf8(key).ok();
        let record = name.and_then(|name| CollectionRecord::decode(name, value));
        match record {
            Some(record) if found.iter().all(|other| other.number() != record.number()) => {
                found.push(record);
                Ok(())
            }
            Some(_) => {
                let what = "another collection has its number";
                move_away(output, "collection", COLLECTIONS, key, value, what)
            }
            None => {
                let what = "the record of a collection does not decode";
                move_away(output, "collection", COLLECTIONS, key, value, what)
            }
        }
    })?;
    let last = found
        .iter()
        .map(CollectionRecord::number)
        .max()
        .unwrap_or(0);
    raise(output, "collection", u64::from(last), 4)?;
    for tree in output.rebuild.trees().map_err(failed)? {
        let has_owner = found.iter().any(|collection| {
            collection.documents_tree() == tree
                || collection.indexes().any(|index| index.tree() == tree)
        });
        if has_owner {
            continue;
        }
        if tree.starts_with("aurora/index/") {
            output.rebuild.drop_tree(&tree).map_err(failed)?;
            output
                .losses
                .repair(format!("{tree} is of no collection that is left: dropped"));
        } else if tree.starts_with("aurora/documents/") {
            unowned(output, &tree)?;
        }
    }
    Ok(found)
}

fn unowned(output: &mut Output, tree: &str) -> Result<(), Failure> {
    let what = "documents of a collection whose record is lost";
    let count = output.rebuild.count(tree).map_err(failed)?;
    for_each(output, tree, |output, key, value| {
        output.put_lost(tree, key, value, what)
    })?;
    output.rebuild.drop_tree(tree).map_err(failed)?;
    output.losses.lose(Loss {
        kind: "collection",
        tree: Some(tree.to_string()),
        entries: Some(count),
        what: what.to_string(),
        ..Loss::default()
    });
    Ok(())
}

/// Documents decode, have the id of their key, and are as their schema says.
fn documents(output: &mut Output, collection: &CollectionRecord) -> Result<(), Failure> {
    let tree = collection.documents_tree();
    for_each(output, tree, |output, key, value| {
        let what = match document_fault(collection, key, value) {
            Some(what) => what,
            None => return Ok(()),
        };
        move_away(output, "document", tree, key, value, &what)
    })
}

fn document_fault(collection: &CollectionRecord, key: &[u8], value: &[u8]) -> Option<String> {
    let Some(id) = aurora::anatomy::decode_id(key) else {
        return Some("the id of a document does not decode".to_string());
    };
    let document = match collection.document(key, value) {
        Ok(document) => document,
        Err(error) => return Some(error.to_string()),
    };
    if document.get("id").is_some_and(|own| *own != id) {
        return Some("a document has another id than its key".to_string());
    }
    let fits = collection.check_document(key, value);
    fits.and_then(|()| collection.expiry_ms(value))
        .err()
        .map(|error| error.to_string())
}

/// Documents that may not be there together: only in files that were damaged on purpose.
fn unique(
    output: &mut Output,
    collection: &CollectionRecord,
    index: &IndexRecord<'_>,
) -> Result<(), Failure> {
    if !index.is_unique() {
        return Ok(());
    }
    // Of the index, and not of all documents: equal values lie side by side there.
    rebuild(output, collection, index)?;
    let documents = collection.documents_tree();
    let mut before: Option<(Vec<u8>, bool)> = None;
    for_each(output, index.tree(), |output, entry, _| {
        let Some((values, id)) = IndexRecord::split(entry) else {
            return Ok(());
        };
        let Some(document) = output.rebuild.get(documents, id).map_err(failed)? else {
            return Ok(());
        };
        let counts = collection.expiry_ms(&document).ok().flatten().is_none() && {
            index.unique_values(&document)
        }
        .is_ok_and(|unique| unique.iter().any(|value| value == values));
        let is_second = counts
            && before
                .as_ref()
                .is_some_and(|(other, counts)| *counts && other == values);
        if is_second {
            let what = "another document has its value in a unique index";
            return move_away(output, "document", documents, id, &document, what);
        }
        match &mut before {
            Some((other, has_one)) if other == values => *has_one |= counts,
            _ => before = Some((values.to_vec(), counts)),
        }
        Ok(())
    })
}

/// An index has exactly the entries of its documents.
fn rebuild(
    output: &mut Output,
    collection: &CollectionRecord,
    index: &IndexRecord<'_>,
) -> Result<(), Failure> {
    let (mut wanted, mut missing) = (0_u64, 0_u64);
    visit(output, collection, index, |output, entry, must| {
        let value = output.rebuild.get(index.tree(), &entry).map_err(failed)?;
        let is_there = value.is_some_and(|value| value.is_empty());
        wanted += u64::from(is_there);
        missing += u64::from(must && !is_there);
        Ok(())
    })?;
    let there = output.rebuild.count(index.tree()).map_err(failed)?;
    if missing == 0 && wanted == there {
        return Ok(());
    }
    output.rebuild.drop_tree(index.tree()).map_err(failed)?;
    visit(output, collection, index, |output, entry, _| {
        output
            .rebuild
            .put(index.tree(), &entry, b"")
            .map_err(failed)?;
        Ok(())
    })?;
    let (collection, index) = (collection.name(), index.name());
    let what = format!("the index {index:?} of {collection:?} was made anew from its documents");
    output.losses.repair(what);
    Ok(())
}

/// Hands the entries that an index can have to `each`, and whether they have to be there.
fn visit(
    output: &mut Output,
    collection: &CollectionRecord,
    index: &IndexRecord<'_>,
    mut each: impl FnMut(&mut Output, Vec<u8>, bool) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for_each(output, collection.documents_tree(), |output, key, value| {
        let must = index.built_to().is_none_or(|built_to| key <= built_to);
        for entry in index.entries(key, value).unwrap_or_default() {
            each(output, entry, must)?;
        }
        Ok(())
    })
}

/// What expires is listed, and nothing else.
fn expiry(output: &mut Output, collections: &[CollectionRecord]) -> Result<(), Failure> {
    let (mut wanted, mut missing) = (0_u64, 0_u64);
    due(output, collections, |output, entry| {
        let value = output.rebuild.get(EXPIRY, &entry).map_err(failed)?;
        let is_there = value.is_some_and(|value| value.is_empty());
        wanted += 1;
        missing += u64::from(!is_there);
        Ok(())
    })?;
    let there = output.rebuild.count(EXPIRY).map_err(failed)?;
    if missing == 0 && wanted == there {
        return Ok(());
    }
    output.rebuild.drop_tree(EXPIRY).map_err(failed)?;
    due(output, collections, |output, entry| {
        output.rebuild.put(EXPIRY, &entry, b"").map_err(failed)?;
        Ok(())
    })?;
    output
        .losses
        .repair("the index of what expires was made anew".to_string());
    Ok(())
}

fn due(
    output: &mut Output,
    collections: &[CollectionRecord],
    mut each: impl FnMut(&mut Output, Vec<u8>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for_each(output, KEYS, |output, key, value| {
        let record = KeyRecord::decode(value).ok();
        let Some(expiry_ms) = record.and_then(|record| record.expiry_ms) else {
            return Ok(());
        };
        let due = DueRecord {
            expiry_ms,
            is_document: false,
            name: key,
        };
        each(output, due.encode())
    })?;
    for collection in collections.iter().filter(|c| c.expires().is_some()) {
        for_each(output, collection.documents_tree(), |output, key, value| {
            let Ok(Some(expiry_ms)) = collection.expiry_ms(value) else {
                return Ok(());
            };
            let name = collection.expiry_name(key);
            let due = DueRecord {
                expiry_ms,
                is_document: true,
                name: &name,
            };
            each(output, due.encode())
        })?;
    }
    Ok(())
}
