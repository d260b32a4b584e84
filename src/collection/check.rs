//! What a collection promises, checked: documents against the schema, indexes against documents
//! both ways, what expires.

use super::catalog;
use super::documents::{expiry_name, expiry_of, refit, some_after};
use super::index;
use super::meta::Meta;
use crate::keys::expiry;
use crate::moment::Moment;
use crate::{Error, Result};

/// Checks all collections. Reads everything.
pub(crate) fn check(moment: &impl Moment) -> Result<()> {
    let names = catalog::names(moment)?;
    let metas = names.iter().map(|name| catalog::load(moment, name));
    let metas = metas.collect::<Result<Vec<_>>>()?;
    catalog::check_numbers(moment, &metas)?;
    metas.iter().try_for_each(|meta| check_one(moment, meta))
}

fn fault(meta: &Meta, reason: &'static str) -> Error {
    Error::Unreadable {
        what: format!("the collection {:?}", meta.name),
        reason,
    }
}

fn check_one(moment: &impl Moment, meta: &Meta) -> Result<()> {
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
    refit(meta, key, document)?;
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
    }
    if let Some(expiry) = expiry_of(meta, document)? {
        let name = expiry_name(meta.number, key);
        if !expiry::lists(moment, expiry, expiry::OF_DOCUMENT, &name)? {
            return Err(fault(meta, "a document that expires is not listed so"));
        }
    }
    Ok(())
}
