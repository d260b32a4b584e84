//! Documents within a transaction: checked against the schema, stored with their index entries.
//!
//! # Invariants
//!
//! 1. A document, its index entries and its entry in the index of what expires change in one
//!    transaction.
//! 2. A document that breaks the schema or a unique index changes nothing.
//! 3. Every change of a document is told to the hot tier.
//! 4. The key of a document is the encoding of its id, and if it has a field `id`, that is the id.

use std::collections::HashSet;
use std::sync::Arc;

use super::catalog;
use super::incoming::{
    Incoming, as_patched, check_id, checked, checked_fields, declared_id, given_id,
};
use super::index::{self, MAX_ID_BYTES, agree, cut, split, unique_values, unreadable};
use super::many::Waiting;
use super::meta::{IndexMeta, Meta};
use super::patch::Patch;
use crate::hot::{Hot, SharedDocument};
use crate::keys::expiry;
use crate::moment::Moment;
use crate::txn::write::WriteTransaction;
use crate::value::{
    Differences, Document, DocumentId, EncodedFields, Object, Raw, Value, decode_document,
    decode_id, encode, encode_fields,
};
use crate::{Error, Result};

/// The key of a document.
pub(crate) fn key_of(meta: &Meta, id: &Value) -> Result<Vec<u8>> {
    key_of_id(&meta.name, id)
}

pub(super) fn key_of_id(collection: &str, id: &Value) -> Result<Vec<u8>> {
    let bad = |expected| Error::WrongType {
        collection: collection.to_string(),
        field: "id".to_string(),
        expected,
        found: id.type_name(),
        value: id.brief(),
    };
    if !matches!(id, Value::Uuid(_) | Value::String(_) | Value::Int(_)) {
        return Err(bad("a Uuid, a String or an Int"));
    }
    let mut key = Vec::new();
    encode(id, &mut key);
    if key.len() > MAX_ID_BYTES {
        return Err(bad("at most 252 bytes, less one for each U+0000"));
    }
    Ok(key)
}

/// The document of these bytes.
pub(crate) fn decode(meta: &Meta, key: &[u8], bytes: &[u8]) -> Result<Document> {
    let fields = EncodedFields::new(bytes, &meta.names);
    let fields = fields.map_err(|fault| unreadable(meta, fault.0))?;
    Ok(Document::encoded(id_of(meta, key)?, fields))
}

/// The id that a key stands for.
pub(crate) fn id_of(meta: &Meta, key: &[u8]) -> Result<DocumentId> {
    let id = decode_id(key).ok_or_else(|| unreadable(meta, "its id does not decode"))?;
    Ok(DocumentId::new(meta.name.clone(), id))
}

/// When a document expires.
pub(crate) fn expiry_of(meta: &Meta, document: &[u8]) -> Result<Option<u64>> {
    let Some((path, after_ms)) = &meta.expires else {
        return Ok(None);
    };
    let found = path.find(document);
    match found.map_err(|fault| unreadable(meta, fault.0))? {
        Raw::Time(time) => {
            let start = u64::try_from(time.as_millisecond()).unwrap_or(0);
            Ok(start.checked_add(*after_ms))
        }
        _ => Ok(None),
    }
}

/// Whether a document is gone although it is still there.
pub(crate) fn is_expired(meta: &Meta, document: &[u8], now_ms: u64) -> Result<bool> {
    Ok(expiry_of(meta, document)?.is_some_and(|expiry| expiry <= now_ms))
}

/// The bytes of a document that is there and has not expired.
pub(crate) fn find(moment: &impl Moment, meta: &Meta, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(view) = moment.system_view(&meta.documents_tree) else {
        return Ok(None);
    };
    match view.get(key)? {
        Some(bytes) if !is_expired(meta, &bytes, moment.now_ms())? => Ok(Some(bytes.to_vec())),
        _ => Ok(None),
    }
}

/// Several documents as they are stored, one for each key, in their order.
pub(super) fn find_many(
    moment: &impl Moment,
    meta: &Meta,
    keys: &[Vec<u8>],
) -> Result<Vec<Option<Document>>> {
    let mut found = Vec::with_capacity(keys.len());
    let Some(view) = moment.system_view(&meta.documents_tree) else {
        found.resize_with(keys.len(), || None);
        return Ok(found);
    };
    let now_ms = moment.now_ms();
    view.get_group(keys.iter().map(Vec::as_slice), |key, bytes| {
        found.push(match bytes {
            Some(bytes) if !is_expired(meta, bytes, now_ms)? => Some(decode(meta, key, bytes)?),
            _ => None,
        });
        Ok(true)
    })?;
    Ok(found)
}

/// A document for the hot tier.
pub(super) fn load_hot(moment: &impl Moment, meta: &Meta, key: &[u8]) -> Result<Option<Hot>> {
    let Some(bytes) = find(moment, meta, key)? else {
        return Ok(None);
    };
    let document = Arc::new(decode(meta, key, &bytes)?);
    let size_bytes = document.memory_bytes();
    Ok(Some(Hot::Document(SharedDocument {
        document,
        expires_ms: expiry_of(meta, &bytes)?,
        bytes: size_bytes,
    })))
}

/// The document that the hot tier has.
pub(super) fn of_hot(hot: Hot) -> Option<Arc<Document>> {
    match hot {
        Hot::Document(hot) => hot.document.downcast().ok(),
        Hot::Value(_) => None,
    }
}

fn not_found(meta: &Meta, key: &[u8]) -> Error {
    Error::DocumentNotFound {
        collection: meta.name.to_string(),
        id: decode_id(key).unwrap_or_default().to_string(),
    }
}

/// What to do when there is a document of that id already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfThere {
    Refuse,
    Replace,
}

/// Stores a document. Gives it an id if it has none.
pub(crate) fn insert(
    tx: &mut WriteTransaction,
    meta: &Meta,
    incoming: impl Into<Incoming>,
    if_there: IfThere,
) -> Result<Value> {
    let id = insert_one(tx, meta, incoming.into(), if_there, None)?;
    relieve(tx, meta, 1)?;
    Ok(id)
}

/// Stores a document. What can wait of its changes does, if there is where.
pub(super) fn insert_one(
    tx: &mut WriteTransaction,
    meta: &Meta,
    incoming: Incoming,
    if_there: IfThere,
    waiting: Option<&mut Waiting>,
) -> Result<Value> {
    let (id, fields) = checked(tx, meta, incoming)?;
    let key = key_of(meta, &id)?;
    let old = stored(tx, meta, &key)?;
    if let Some(old) = &old
        && if_there == IfThere::Refuse
        && !is_expired(meta, old, tx.now_ms())?
    {
        return Err(Error::Duplicate {
            collection: meta.name.to_string(),
            field: "id".to_string(),
            value: id.brief(),
            id: id.to_string(),
        });
    }
    let document = encode_fields(&fields, &meta.names);
    change(tx, meta, &key, old.as_deref(), Some(&document), waiting)?;
    Ok(id)
}

/// Puts other fields in the place of a document's. The id stays.
pub(crate) fn replace(
    tx: &mut WriteTransaction,
    meta: &Meta,
    key: &[u8],
    fields: Object,
) -> Result<()> {
    let old = find(tx, meta, key)?.ok_or_else(|| not_found(meta, key))?;
    replace_found(tx, meta, key, &old, fields, None)?;
    relieve(tx, meta, 1)
}

fn replace_found(
    tx: &mut WriteTransaction,
    meta: &Meta,
    key: &[u8],
    old: &[u8],
    mut fields: Object,
    waiting: Option<&mut Waiting>,
) -> Result<()> {
    let id = decode_id(key).ok_or_else(|| unreadable(meta, "its id does not decode"))?;
    let given = given_id(meta, &fields);
    if let Some(own) = &given
        && *own != id
    {
        return Err(Error::WrongType {
            collection: meta.name.to_string(),
            field: "id".to_string(),
            expected: "the id that it has",
            found: own.type_name(),
            value: own.brief(),
        });
    }
    let had_field = matches!(meta.id_path.find(old), Ok(raw) if !matches!(raw, Raw::Missing));
    // As when it is stored: a strict schema without a field `id` takes the id and does not keep it.
    if declared_id(meta).is_some() || had_field || (!meta.schema.strict && given.is_some()) {
        fields.insert("id", id);
    } else {
        fields.remove("id");
    }
    let fields = checked_fields(meta, fields)?;
    let document = encode_fields(&fields, &meta.names);
    change(tx, meta, key, Some(old), Some(&document), waiting)
}

/// Changes single fields of a document.
pub(crate) fn update(
    tx: &mut WriteTransaction,
    meta: &Meta,
    key: &[u8],
    patch: &Patch,
) -> Result<()> {
    update_one(tx, meta, key, patch, None)?;
    relieve(tx, meta, 1)
}

/// Changes single fields of a document. What can wait of its changes does, if there is where.
pub(super) fn update_one(
    tx: &mut WriteTransaction,
    meta: &Meta,
    key: &[u8],
    patch: &Patch,
    waiting: Option<&mut Waiting>,
) -> Result<()> {
    let old = find(tx, meta, key)?.ok_or_else(|| not_found(meta, key))?;
    let fields = decode_document(&old, &meta.names);
    let mut fields = fields.map_err(|fault| unreadable(meta, fault.0))?;
    as_patched(meta, &mut fields);
    patch
        .apply(&mut fields)
        .map_err(|(path, reason)| Error::Conversion {
            what: "a document as the patch says",
            reason: format!("{path:?}: {reason}"),
        })?;
    replace_found(tx, meta, key, &old, fields, waiting)
}

/// Removes a document. Says whether it was there.
pub(crate) fn delete(tx: &mut WriteTransaction, meta: &Meta, key: &[u8]) -> Result<bool> {
    let was_there = delete_one(tx, meta, key, None)?;
    relieve(tx, meta, 1)?;
    Ok(was_there)
}

/// Removes a document. What can wait of its changes does, if there is where.
pub(super) fn delete_one(
    tx: &mut WriteTransaction,
    meta: &Meta,
    key: &[u8],
    waiting: Option<&mut Waiting>,
) -> Result<bool> {
    let Some(old) = stored(tx, meta, key)? else {
        return Ok(false);
    };
    let was_there = !is_expired(meta, &old, tx.now_ms())?;
    change(tx, meta, key, Some(&old), None, waiting)?;
    Ok(was_there)
}

/// The bytes of a document, expired or not.
fn stored(tx: &WriteTransaction, meta: &Meta, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(view) = tx.system_view(&meta.documents_tree) else {
        return Ok(None);
    };
    Ok(view.get(key)?.map(|bytes| bytes.to_vec()))
}

/// Invariant 1: the document, its index entries, its expiry. What nothing looks at before all is done waits, if there is
/// where ([`many`](super::many), invariant 1).
fn change(
    tx: &mut WriteTransaction,
    meta: &Meta,
    key: &[u8],
    old: Option<&[u8]>,
    new: Option<&[u8]>,
    mut waiting: Option<&mut Waiting>,
) -> Result<()> {
    let changes = changes_of_indexes(tx, meta, key, old, new)?;
    if waiting.is_none() {
        tx.approach(changes.iter().flat_map(|change| {
            let all = change.gone().chain(change.added());
            all.map(|entry| (change.index.tree.as_str(), entry.as_slice()))
        }));
    }
    let mut is_by_time = false;
    if let Some(new) = new {
        for change in changes.iter().filter(|change| change.may_clash) {
            is_by_time |= check_unique(tx, meta, change.index, key, new)?;
        }
    }
    tx.touch(meta.number, key);
    if let Some(new) = new {
        // First what may be refused, with nothing changed.
        tx.system_tree(&meta.documents_tree)?.put(key, new)?;
    }
    tx.together(|tx| {
        for change in &changes {
            // Others look into an index that is unique for what comes, not for what goes.
            match &mut waiting {
                Some(waiting) if !change.index.index.unique || new.is_none() => {
                    waiting.change_index(change);
                }
                _ => {
                    let mut tree = tx.system_tree(&change.index.tree)?;
                    for gone in change.gone() {
                        tree.delete(gone)?;
                    }
                    for added in change.added() {
                        tree.put(added, [])?;
                    }
                }
            }
        }
        store_time_if(tx, is_by_time)?;
        change_expiry(tx, meta, key, old, new)?;
        match (new, waiting) {
            (Some(_), _) => Ok(()),
            (None, Some(waiting)) => {
                waiting.remove_document(key);
                Ok(())
            }
            (None, None) => {
                let mut documents = tx.system_tree(&meta.documents_tree)?;
                documents.delete(key).map(|_| ())
            }
        }
    })
}

/// What becomes of a document's entries in an index.
pub(super) struct IndexChange<'m> {
    /// The place of the index among those of the collection.
    pub place: usize,
    pub index: &'m IndexMeta,
    before: Vec<Vec<u8>>,
    after: Vec<Vec<u8>>,
    /// Whether another document may have a value that comes.
    may_clash: bool,
}

impl IndexChange<'_> {
    /// The entries that go.
    pub fn gone(&self) -> impl Iterator<Item = &Vec<u8>> {
        missing_in(&self.before, &self.after)
    }

    /// The entries that come.
    pub fn added(&self) -> impl Iterator<Item = &Vec<u8>> {
        missing_in(&self.after, &self.before)
    }
}

fn missing_in<'e>(some: &'e [Vec<u8>], others: &'e [Vec<u8>]) -> impl Iterator<Item = &'e Vec<u8>> {
    /// Fewer are compared sooner than put into a table.
    const FEW: usize = 4;
    let known = (others.len() > FEW).then(|| others.iter().collect::<HashSet<_>>());
    some.iter().filter(move |entry| match &known {
        Some(known) => !known.contains(entry),
        None => !others.contains(entry),
    })
}

/// What becomes of a document's entries, in those indexes which it is something to.
fn changes_of_indexes<'m>(
    tx: &WriteTransaction,
    meta: &'m Meta,
    key: &[u8],
    old: Option<&[u8]>,
    new: Option<&[u8]>,
) -> Result<Vec<IndexChange<'m>>> {
    // Values that stay were found to be unique when they came. But those of one that has expired may be another's by now.
    let may_stay = match old {
        Some(old) => !is_expired(meta, old, tx.now_ms())?,
        None => false,
    };
    let differences = match (old, new) {
        (Some(old), Some(new)) => Differences::between(old, new),
        _ => None,
    };
    let entries = |index, document: Option<&[u8]>| match document {
        Some(document) => index::entries(meta, index, key, document),
        None => Ok(Vec::new()),
    };
    let mut changes = Vec::with_capacity(meta.indexes.len());
    for (place, index) in meta.indexes.iter().enumerate() {
        let is_unique = index.index.unique;
        // A condition may ask for any field.
        let is_same =
            index.index.only.is_none() && { &differences }.as_ref().is_some_and(|differences| {
                let mut paths = index.paths.iter();
                !paths.any(|path| differences.concern(path))
            });
        if is_same && (may_stay || !is_unique) {
            continue;
        }
        let (before, after) = (entries(index, old)?, entries(index, new)?);
        let stays = may_stay && before == after && !after.iter().any(|e| stands_for_longer(e));
        if before != after || (is_unique && !stays) {
            changes.push(IndexChange {
                place,
                index,
                before,
                after,
                may_clash: is_unique && !stays,
            });
        }
    }
    Ok(changes)
}

/// See [`check_unique`].
pub(super) fn store_time_if(tx: &mut WriteTransaction, is_by_time: bool) -> Result<()> {
    let now_ms = tx.now_ms();
    if is_by_time {
        expiry::raise_clock(tx, now_ms)?;
    }
    Ok(())
}

/// Whether an entry may be the same for values that differ.
fn stands_for_longer(entry: &[u8]) -> bool {
    split(entry).is_none_or(|(values, _)| index::is_cut(values))
}

/// Removes some of what has expired for each document that was written, where there is no thread that does.
pub(super) fn relieve(tx: &mut WriteTransaction, meta: &Meta, documents: usize) -> Result<()> {
    if meta.expires.is_some() {
        tx.together(|tx| expiry::relieve_after(tx, documents))?;
    }
    Ok(())
}

fn change_expiry(
    tx: &mut WriteTransaction,
    meta: &Meta,
    key: &[u8],
    old: Option<&[u8]>,
    new: Option<&[u8]>,
) -> Result<()> {
    if meta.expires.is_none() {
        return Ok(());
    }
    let expiry = |document: Option<&[u8]>| match document {
        Some(document) => expiry_of(meta, document),
        None => Ok(None),
    };
    set_expiry(tx, meta.number, key, expiry(old)?, expiry(new)?)
}

/// Changes the time at which a document expires.
pub(super) fn set_expiry(
    tx: &mut WriteTransaction,
    collection: u32,
    key: &[u8],
    before: Option<u64>,
    after: Option<u64>,
) -> Result<()> {
    if before == after {
        return Ok(());
    }
    let name = expiry_name(collection, key);
    if let Some(before) = before {
        expiry::remove(tx, before, expiry::OF_DOCUMENT, &name)?;
    }
    if let Some(after) = after {
        expiry::add(tx, after, expiry::OF_DOCUMENT, &name)?;
    }
    Ok(())
}

/// The bytes of a document under its schema: with the defaults, and checked against it.
pub(crate) fn refit(meta: &Meta, key: &[u8], document: &[u8]) -> Result<Vec<u8>> {
    fitted(meta, decode(meta, key, document)?)
}

/// The bytes of a document under another schema. Its field `id` comes and goes as if it were stored under that one
/// (invariant 4): nobody can unset it before.
pub(super) fn refit_to(meta: &Meta, key: &[u8], document: &[u8]) -> Result<Vec<u8>> {
    let mut document = decode(meta, key, document)?;
    let mut declared = { meta.schema.fields.iter() }.filter(|field| field.path == "id");
    match declared.next() {
        Some(field) if field.required && document.fields().get("id").is_none() => {
            let id = document.id.value().clone();
            document.insert("id", id);
        }
        None if meta.schema.strict => drop(document.remove("id")),
        _ => {}
    }
    fitted(meta, document)
}

fn fitted(meta: &Meta, document: Document) -> Result<Vec<u8>> {
    let id = document.id.value().clone();
    let fields = checked_fields(meta, document.into_fields())?;
    // The id itself stays of its type.
    check_id(meta, &id, &fields)?;
    Ok(encode_fields(&fields, &meta.names))
}

/// What stands for a document in the index of what expires.
pub(crate) fn expiry_name(collection: u32, key: &[u8]) -> Vec<u8> {
    [&collection.to_be_bytes(), key].concat()
}

/// Removes the document that an entry of that index names, if it expires when the entry says. Says
/// whether the entry was right, or is of a collection that is gone.
pub(crate) fn erase_expired(
    tx: &mut WriteTransaction,
    name: &[u8],
    expiry_ms: u64,
) -> Result<bool> {
    let Some((number, key)) = name.split_first_chunk::<4>() else {
        return Ok(false);
    };
    let Some(meta) = catalog::by_number(tx, u32::from_be_bytes(*number))? else {
        expiry::remove(tx, expiry_ms, expiry::OF_DOCUMENT, name)?;
        return Ok(true);
    };
    match stored(tx, &meta, key)? {
        Some(old) if expiry_of(&meta, &old)? == Some(expiry_ms) => {
            change(tx, &meta, key, Some(&old), None, None)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Finds another document with the same values in a unique index. Says whether there is one that only does not count because it
/// has expired: who stores the values stores the time, too, so that it is not there again if the clock goes back.
pub(super) fn check_unique(
    moment: &impl Moment,
    meta: &Meta,
    index: &IndexMeta,
    key: &[u8],
    document: &[u8],
) -> Result<bool> {
    let mut is_by_time = false;
    let Some(view) = moment.system_view(&index.tree) else {
        return Ok(false);
    };
    let mut cursor = view.cursor();
    for mut values in unique_values(meta, index, document)? {
        cut(&mut values);
        let mut is_found = cursor.seek(&values)?;
        while is_found && cursor.key().starts_with(&values) {
            let Some((own, other)) = split(cursor.key()) else {
                return Err(unreadable(meta, "an index entry is too short"));
            };
            if own != values {
                break; // a longer value that begins the same: only where both were cut
            }
            let is_it = match other == key {
                true => Some(false),
                false => is_same(moment, meta, index, &values, other, document)?,
            };
            is_by_time |= is_it.is_none();
            if is_it == Some(true) {
                return Err(Error::Duplicate {
                    collection: meta.name.to_string(),
                    field: index.index.paths.join(","),
                    value: index::shown(index, document),
                    id: decode_id(other).unwrap_or_default().to_string(),
                });
            }
            is_found = cursor.next()?;
        }
    }
    Ok(is_by_time)
}

/// Whether the other document really has the value; `None` if it has expired.
fn is_same(
    moment: &impl Moment,
    meta: &Meta,
    index: &IndexMeta,
    values: &[u8],
    other: &[u8],
    document: &[u8],
) -> Result<Option<bool>> {
    if !index::is_cut(values) && meta.expires.is_none() {
        return Ok(Some(true));
    }
    let other = find(moment, meta, other)?;
    Ok(other.map(|other| !index::is_cut(values) || agree(index, &other, document)))
}

/// So many documents are looked at in one step where all of them are, or fewer if they are long: they are in memory.
const STEP_DOCUMENTS: usize = 1024;
const STEP_BYTES: usize = 16 << 20;

/// Some documents behind an id, in the order of their ids, and whether there may be others behind those: used to build
/// indexes and to check.
pub(super) fn some_after(
    moment: &impl Moment,
    meta: &Meta,
    after: &[u8],
) -> Result<(Stored, bool)> {
    let mut some = Vec::new();
    let Some(view) = moment.system_view(&meta.documents_tree) else {
        return Ok((some, false));
    };
    let bounds = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
    let mut bytes = 0usize;
    for found in view.range::<&[u8]>(bounds) {
        let (key, document) = found?;
        refuse_backwards(meta, some.last().map_or(after, |(last, _)| last), &key)?;
        bytes = bytes.saturating_add(document.len());
        some.push((key, document));
        if some.len() >= STEP_DOCUMENTS || bytes >= STEP_BYTES {
            return Ok((some, true));
        }
    }
    Ok((some, false))
}

/// A page whose keys are not in order would lead who goes on behind the last one in a circle.
fn refuse_backwards(meta: &Meta, before: &[u8], key: &[u8]) -> Result<()> {
    match key > before || before.is_empty() {
        true => Ok(()),
        false => Err(unreadable(
            meta,
            "its documents are not in the order of their ids",
        )),
    }
}

/// Documents as they are stored, with their keys.
pub(super) type Stored = Vec<(Vec<u8>, Vec<u8>)>;

/// What stands in the index of what expires for some documents behind an id, and the last id that was looked at, if there
/// is one. Documents that cannot be read have no entry that could be found: they keep none of the others from being.
pub(super) fn some_expiries_after(
    moment: &impl Moment,
    meta: &Meta,
    after: &[u8],
    limit: usize,
) -> Result<(Option<Vec<u8>>, Vec<expiry::TimeAndName>)> {
    let (mut last, mut entries) = (None, Vec::new());
    let Some(view) = moment.system_view(&meta.documents_tree) else {
        return Ok((last, entries));
    };
    let bounds = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
    for found in view.range::<&[u8]>(bounds).take(limit) {
        let (key, document) = found?;
        refuse_backwards(meta, last.as_deref().unwrap_or(after), &key)?;
        if let Ok(Some(expiry)) = expiry_of(meta, &document) {
            entries.push((expiry, expiry_name(meta.number, &key)));
        }
        last = Some(key);
    }
    Ok((last, entries))
}
