//! `document COLLECTION ID`: a document, its bytes, and its entries in all indexes.

use aurora::{Uuid, Value};
use serde_json::json;

use crate::survey::{Options, Silent, Survey};
use crate::upper::{Trees, load_collections};
use crate::{Failure, Report, Source, show};

/// Shows a document. The id is a UUID, a whole number, or else a string; in quotes it is a string.
pub fn document(source: &Source, name: &str, id: &str) -> Result<Report, Failure> {
    let survey = Survey::take(source, Options { read_runs: false }, &Silent)?;
    let trees = Trees::new(source, &survey);
    let (collections, faults) = load_collections(&trees);
    let Some(collection) = collections.iter().find(|c| c.name() == name) else {
        let more = if faults.is_healthy() {
            ""
        } else {
            " that can be read"
        };
        return Err(Failure(format!(
            "the checkpoint has no collection {name:?}{more}"
        )));
    };
    let tree = collection.documents_tree();
    let mut text = super::moment(source, None);
    for id in ids(id) {
        let key = collection.document_key(&id);
        let key = key.map_err(|error| Failure(error.to_string()))?;
        let bytes = match trees.get(tree, &key) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            Err(fault) => {
                text += &fault.line();
                return Report::new(text + "\n", json!({"faults": [fault]}), true);
            }
        };
        let decoded = collection.document(&key, &bytes);
        let mut is_damaged = decoded.is_err();
        text += &format!("document {id} of {name:?}, {} bytes\n", bytes.len());
        text += &match &decoded {
            Ok(document) => format!("{:#}\n", document.fields()),
            Err(error) => format!("damage: {error}\n"),
        };
        if let Some(cbor) = show::cbor(&bytes) {
            text += &format!("as it is stored: {cbor}\n");
        }
        if let Ok(Some(expiry_ms)) = collection.expiry_ms(&bytes) {
            text += &format!("expires at {expiry_ms} ms\n");
        }
        let mut indexes = Vec::new();
        for index in collection.indexes() {
            for entry in index.entries(&key, &bytes).unwrap_or_default() {
                let is_there = trees.contains(index.tree(), &entry);
                is_damaged |= index.is_ready() && is_there == Some(false);
                let state = match is_there {
                    Some(true) => "there",
                    Some(false) => "MISSING",
                    None => "cannot be read",
                };
                let shown = show::key(index.tree(), &entry, 64);
                text += &format!("index {:?}: {shown}: {state}\n", index.name());
                indexes.push(json!({
                    "index": index.name(), "entry": show::hex(&entry), "there": is_there,
                }));
            }
        }
        let json = json!({
            "collection": name, "id": id.to_string(), "bytes": show::hex(&bytes),
            "document": decoded.ok().map(|document| document.fields().to_string()),
            "indexes": indexes,
        });
        return Report::new(text, json, is_damaged);
    }
    Err(Failure(format!(
        "the collection {name:?} has no document {id}"
    )))
}

/// What the text can be the id of.
fn ids(text: &str) -> Vec<Value> {
    if let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        return vec![Value::from(inner)];
    }
    let mut ids = Vec::new();
    if let Ok(id) = Uuid::parse_str(text) {
        ids.push(Value::Uuid(id));
    }
    if let Ok(id) = text.parse::<i64>() {
        ids.push(Value::Int(id));
    }
    ids.push(Value::from(text));
    ids
}
