//! `blob KEY`: a blob's record, and its chunks against it.

use aurora::anatomy::KeyRecord;
use serde_json::json;

use crate::survey::{Options, Silent, Survey};
use crate::table::bytes;
use crate::upper::{BlobRecord, KEYS, Trees, content_fault};
use crate::{Failure, Report, Source, show};

/// Shows the blob of a key, and reads all of its content.
pub fn blob(source: &Source, key: &[u8]) -> Result<Report, Failure> {
    let survey = Survey::take(source, Options { read_runs: false }, &Silent)?;
    let trees = Trees::new(source, &survey);
    let shown = show::brief(key, 256);
    let mut text = super::moment(source, None);
    let value = match trees.get(KEYS, key) {
        Ok(value) => value,
        Err(fault) => {
            text += &fault.line();
            return Report::new(text + "\n", json!({"faults": [fault]}), true);
        }
    };
    let Some(value) = value else {
        return Err(Failure(format!("the checkpoint has no key {shown}")));
    };
    let record = KeyRecord::decode(&value).ok();
    let Some(record) = record.filter(|record| record.is_blob) else {
        return Err(Failure(format!("the key {shown} holds no blob")));
    };
    let blob = match BlobRecord::decode(record.payload) {
        Ok(blob) => blob,
        Err(flaw) => {
            text += &format!(
                "damage: the record of the blob does not decode: {} (expected {}, found {})\n",
                flaw.what, flaw.expected, flaw.found
            );
            let json = json!({"record": show::hex(&value), "decodes": false, "why": flaw.what});
            return Report::new(text, json, true);
        }
    };
    text += &format!(
        "blob {}, {} ({} bytes), {} chunks of {} bytes, checksum {:#010x}\n",
        blob.number,
        bytes(blob.size),
        blob.size,
        blob.chunks(),
        blob.chunk_bytes,
        blob.checksum
    );
    let kind = match &blob.content_type {
        Some(kind) => format!("{kind:?}"),
        None => String::from("not said"),
    };
    text += &format!("type {kind}, put at {} ms\n", blob.created_ms);
    for (name, value) in &blob.map {
        text += &format!("  {name:?} = {value:?}\n");
    }
    if !blob.is_canonical {
        text += "damage: its map is not in the order of its names\n";
    }
    if let Some(expiry_ms) = record.expiry_ms {
        text += &format!("expires at {expiry_ms} ms\n");
    }
    let mut found = 0;
    let fault = { blob.content(&trees, |_, _| found += 1) }
        .err()
        .map(|wrong| content_fault(key, wrong));
    text += &match &fault {
        Some(fault) => format!("{}\nafter {found} sound chunks\n", fault.line()),
        None => format!("all {found} chunks are there, and the content matches\n"),
    };
    let json = json!({
        "blob": blob, "chunks": blob.chunks(), "sound_chunks": found,
        "expiry_ms": record.expiry_ms, "faults": fault.iter().collect::<Vec<_>>(),
    });
    Report::new(text, json, fault.is_some() || !blob.is_canonical)
}
