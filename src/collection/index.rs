//! The entries of a document in an index, as `format-spec.md` describes them.
//!
//! # Invariants
//!
//! 1. Every document that an index takes in has exactly one entry in its first part, for the whole
//!    values of its fields, missing ones included. So that part counts and orders documents.
//! 2. If the index has one field and a document an array in it, there is an entry for each distinct
//!    element in the second part.
//! 3. The part for the values is cut at [`LIMIT_BYTES`]. Entries of that length may stand for
//!    longer values: who finds one looks at the document.

use super::meta::{IndexMeta, Meta};
use crate::query::Fields;
use crate::value::{Raw, Value, encode_raw};
use crate::{Error, Result};

/// First byte of the entries for whole values, and of those for elements of arrays.
pub(crate) const WHOLE: u8 = 1;
pub(crate) const ELEMENT: u8 = 2;

/// The longest part for the values of an entry, its first byte included.
pub(crate) const LIMIT_BYTES: usize = 512;

/// The longest encoded id.
pub(crate) const MAX_ID_BYTES: usize = 255;

/// Cuts the part for the values (invariant 3).
pub(crate) fn cut(values: &mut Vec<u8>) {
    values.truncate(LIMIT_BYTES);
}

/// Whether the part for the values may have been cut.
pub(crate) fn is_cut(values: &[u8]) -> bool {
    values.len() >= LIMIT_BYTES
}

/// The entries of a document, in the order of their values.
pub(crate) fn entries(
    meta: &Meta,
    index: &IndexMeta,
    id: &[u8],
    document: &[u8],
) -> Result<Vec<Vec<u8>>> {
    let values = values_of(meta, index, document)?;
    Ok({ values.into_iter() }
        .map(|values| entry(values, id))
        .collect())
}

/// An entry: the part for the values, the id, the length of the id.
pub(crate) fn entry(mut values: Vec<u8>, id: &[u8]) -> Vec<u8> {
    values.extend_from_slice(id);
    values.push(id.len().min(MAX_ID_BYTES) as u8);
    values
}

/// The part for the values, and the id.
pub(crate) fn split(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = entry.split_last()?;
    let at = rest.len().checked_sub(usize::from(*length))?;
    rest.split_at_checked(at)
}

/// Why a document cannot be read.
pub(crate) fn unreadable(meta: &Meta, reason: &'static str) -> Error {
    if reason == crate::query::BAD_PATTERN.0 {
        return Error::BadQuery {
            reason: reason.to_string(),
        };
    }
    Error::Unreadable {
        what: format!("a document of the collection {:?}", meta.name),
        reason,
    }
}

/// The parts for the values of a document's entries, sorted.
fn values_of(meta: &Meta, index: &IndexMeta, document: &[u8]) -> Result<Vec<Vec<u8>>> {
    if !takes_in(meta, index, document)? {
        return Ok(Vec::new());
    }
    let fault = |fault: crate::value::Fault| unreadable(meta, fault.0);
    // Most entries fit, with the id: they are made without another allocation. (Thousands wait in memory for the others of
    // a transaction: with 64 bytes instead of 40 inserts of 10,000 documents took a tenth longer.)
    let mut whole = Vec::with_capacity(40);
    whole.push(WHOLE);
    let mut elements = Vec::new();
    for path in &index.paths {
        let raw = path.find(document).map_err(fault)?;
        encode_raw(&raw, &mut whole).map_err(fault)?;
        if index.has_elements() {
            let mut found = raw.elements().map_err(fault)?;
            while let Some(element) = found.next().map_err(fault)? {
                let mut values = vec![ELEMENT];
                encode_raw(&element, &mut values).map_err(fault)?;
                cut(&mut values);
                elements.push(values);
            }
        }
    }
    cut(&mut whole);
    let mut all = vec![whole];
    elements.sort_unstable();
    elements.dedup();
    all.append(&mut elements);
    Ok(all)
}

/// Whether a document matches the condition of a partial index.
fn takes_in(meta: &Meta, index: &IndexMeta, document: &[u8]) -> Result<bool> {
    let Some(filter) = &index.index.only else {
        return Ok(true);
    };
    let row = crate::query::RowReader::new(meta.names.clone());
    row.matches(None, document, |fields: &Fields<'_>| filter.0.holds(fields))
        .map_err(|fault| unreadable(meta, fault.0))
}

/// What a unique index has to find nowhere else: the parts for the values of a document's entries
/// in both parts of the index. Null and missing values do not count.
pub(crate) fn unique_values(
    meta: &Meta,
    index: &IndexMeta,
    document: &[u8],
) -> Result<Vec<Vec<u8>>> {
    let fault = |fault: crate::value::Fault| unreadable(meta, fault.0);
    if !index.index.unique || !takes_in(meta, index, document)? {
        return Ok(Vec::new());
    }
    for path in &index.paths {
        if matches!(
            path.find(document).map_err(fault)?,
            Raw::Missing | Raw::Null
        ) {
            return Ok(Vec::new());
        }
    }
    let [path] = index.paths.as_slice() else {
        return values_of(meta, index, document);
    };
    let mut all = Vec::new();
    let whole = path.find(document).map_err(fault)?;
    if !matches!(whole, Raw::Array(_)) {
        add_unique(whole, &mut all).map_err(fault)?;
    }
    let mut elements = whole.elements().map_err(fault)?;
    while let Some(element) = elements.next().map_err(fault)? {
        add_unique(element, &mut all).map_err(fault)?;
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// A value is neither the whole of another document's field nor an element of an array there. (An array is never
/// compared as a whole: its entry there stands for its elements.)
fn add_unique(raw: Raw<'_>, all: &mut Vec<Vec<u8>>) -> Result<(), crate::value::Fault> {
    let parts: &[u8] = match raw {
        Raw::Null => &[],
        Raw::Array(_) => &[ELEMENT],
        _ => &[WHOLE, ELEMENT],
    };
    for part in parts {
        let mut values = vec![*part];
        encode_raw(&raw, &mut values)?;
        cut(&mut values);
        all.push(values);
    }
    Ok(())
}

/// The values of the index's fields, as an error shows them.
pub(crate) fn shown(index: &IndexMeta, document: &[u8]) -> String {
    let values = index.paths.iter().map(|path| {
        let raw = path.find(document).unwrap_or(Raw::Missing);
        raw.to_value(crate::value::MAX_DEPTH).unwrap_or_default()
    });
    Value::Array(values.collect()).brief()
}

/// Whether two documents agree in a value that was cut (invariant 3): some value of the one is some
/// value of the other.
pub(crate) fn agree(index: &IndexMeta, a: &[u8], b: &[u8]) -> bool {
    let values = |document: &[u8]| -> Vec<Value> {
        let raws = { index.paths.iter() }.map(|path| path.find(document).unwrap_or(Raw::Missing));
        let values = raws.map(|raw| raw.to_value(crate::value::MAX_DEPTH).unwrap_or_default());
        match values.collect::<Vec<_>>() {
            one if one.len() == 1 => match one.into_iter().next() {
                Some(Value::Array(elements)) => elements,
                other => other.into_iter().collect(),
            },
            several => vec![Value::Array(several)],
        }
    };
    let of_b = values(b);
    let mut counted = values(a).into_iter().filter(|value| !value.is_null());
    counted.any(|value| of_b.contains(&value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{FieldNames, MAX_DEPTH, Object, Uuid, encode_fields};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn in_order(value: Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        crate::value::encode(&value, &mut bytes);
        bytes
    }

    /// The tables of the section on collections in `format-spec.md`.
    #[test]
    fn the_format_is_as_it_is_written_down() {
        let spec = include_str!("../../format-spec.md");
        let says = |what: &str, value: &str| {
            let row = format!("| {what} | {value} |");
            assert!(spec.contains(&row), "not in format-spec.md: {row}");
        };
        says("kind of an entry for whole values", &WHOLE.to_string());
        says("kind of an entry for an element", &ELEMENT.to_string());
        says("longest part for the values", &LIMIT_BYTES.to_string());
        says("longest encoded id", &MAX_ID_BYTES.to_string());
        says("deepest nesting", &MAX_DEPTH.to_string());
        let one = in_order(1.into());
        says("the integer 1 in order", &hex(&one));
        says(
            "the integer 2^63 - 1 in order",
            &hex(&in_order(i64::MAX.into())),
        );
        says(
            "the string \"a\", U+0000 in order",
            &hex(&in_order("a\0".into())),
        );
        let array = Value::Array(vec![true.into()]);
        says("the array of true in order", &hex(&in_order(array)));
        let fields = Object::from([("x", Value::from(1)), ("b", Uuid::from_u128(1).into())]);
        let document = encode_fields(&fields, &FieldNames::new(["x".into()]));
        let what = "the document {x: 1, b: UUID 1} with x known as 0";
        says(what, &hex(&document));
        let values = [&[WHOLE][..], &one].concat();
        let own = entry(values.clone(), &in_order(2.into()));
        says("entry of the integer 1 for the document 2", &hex(&own));
        assert_eq!(split(&own), Some((&values[..], &in_order(2.into())[..])));
    }
}
