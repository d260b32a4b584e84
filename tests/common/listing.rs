//! What a database holds, as JSON: the form in which the engine, the independent reader and the
//! golden files are compared.

use aurora::{Aurora, Object, Snapshot, Ttl, Value};
use serde_json::{Map, Value as Json, json};

/// The time of all clocks in these tests, in milliseconds since 1970.
pub const NOW_MS: u64 = 1_750_000_000_000;

/// A clock that stands still at [`NOW_MS`].
#[derive(Debug)]
pub struct Still;

impl aurora::Clock for Still {
    fn now_ms(&self) -> u64 {
        NOW_MS
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that can be read of a database through its API, one object a line.
pub fn listing(db: &Aurora) -> aurora::Result<Vec<Json>> {
    let mut lines = Vec::new();
    let snapshot = db.begin_read()?;
    for name in snapshot.tree_names() {
        let view = snapshot.tree(name)?;
        lines.push(json!({"what": "tree", "tree": name, "entries": view.len()}));
        for entry in view.iter() {
            let (key, value) = entry?;
            lines.push(json!({"tree": name, "key": hex(&key), "value": hex(&value)}));
        }
    }
    list_keys(&snapshot, &mut lines)?;
    for name in db.collections()? {
        list_collection(db, &name, &mut lines)?;
    }
    Ok(lines)
}

fn list_keys(snapshot: &Snapshot, lines: &mut Vec<Json>) -> aurora::Result<()> {
    let expires = |key: &[u8]| -> aurora::Result<Option<u64>> {
        Ok(match snapshot.ttl(key)? {
            Ttl::After(left) => Some(NOW_MS + left.as_millis() as u64),
            _ => None,
        })
    };
    for entry in snapshot.scan::<&[u8]>(..) {
        let (key, value) = entry?;
        let (expires, value) = (expires(&key)?, hex(&value));
        lines.push(json!({"what": "key", "key": hex(&key), "expires": expires, "value": value}));
    }
    for (key, _) in snapshot.get_data_by_pattern("")? {
        // Only blobs' keys are left; in these tests they are text.
        let Ok(Some(blob)) = snapshot.get_blob(&key) else {
            continue;
        };
        let info = blob.info();
        let content = blob.read_at(0, info.size as usize).wait()?;
        lines.push(json!({
            "what": "key", "key": hex(key.as_bytes()), "expires": info.expires_ms,
            "blob": {
                "size": info.size,
                "checksum": info.checksum,
                "created": info.created_ms,
                "type": info.content_type.unwrap_or_default(),
                "entries": info.map,
            },
            "content": hex(&content),
        }));
    }
    Ok(())
}

fn list_collection(db: &Aurora, name: &str, lines: &mut Vec<Json>) -> aurora::Result<()> {
    let collection = db.collection(name)?;
    let indexes: Vec<Json> = collection
        .indexes()?
        .iter()
        .map(|info| {
            json!({"paths": info.index.fields(), "unique": info.index.is_unique(),
                "entries": info.entries})
        })
        .collect();
    lines.push(json!({"what": "collection", "name": name, "indexes": indexes}));
    for document in collection.query().collect().wait()? {
        let (id, fields) = (
            value_json(document.id.value()),
            fields_json(document.fields()),
        );
        lines.push(json!({"what": "document", "collection": name, "id": id, "fields": fields}));
    }
    Ok(())
}

fn fields_json(fields: &Object) -> Json {
    let fields: Map<String, Json> = fields
        .iter()
        .map(|(name, value)| (name.to_string(), value_json(value)))
        .collect();
    Json::Object(fields)
}

/// What JSON has no type for is an object with one name.
fn value_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::Float(value) => json!({"float": format!("{:016x}", value.to_bits())}),
        Value::String(value) => json!(value),
        Value::Bytes(value) => json!({"bytes": hex(value)}),
        Value::Uuid(value) => json!({"uuid": value.to_string()}),
        Value::DateTime(value) => {
            let nanoseconds = value.as_nanosecond();
            let second = 1_000_000_000;
            json!({"time": [
                nanoseconds.div_euclid(second) as i64,
                nanoseconds.rem_euclid(second) as i64,
            ]})
        }
        Value::Array(values) => values.iter().map(value_json).collect(),
        Value::Object(fields) => json!({"object": fields_json(fields)}),
        other => panic!("a type of value that the tests do not know: {other:?}"),
    }
}

/// Long strings as their length and CRC-32C, for listings that are kept.
pub fn shortened(line: Json) -> Json {
    match line {
        Json::String(text) if text.len() > 120 => {
            let checksum = crc32c::crc32c(text.as_bytes());
            json!(format!(
                "{}.. {} characters, crc32c {checksum:08x}",
                first(&text),
                text.len()
            ))
        }
        Json::Array(values) => values.into_iter().map(shortened).collect(),
        Json::Object(fields) => {
            let fields = fields
                .into_iter()
                .map(|(name, value)| (name, shortened(value)));
            Json::Object(fields.collect())
        }
        other => other,
    }
}

fn first(text: &str) -> String {
    text.chars().take(20).collect()
}

/// Lines in an order that does not depend on who lists them.
pub fn sorted(lines: impl IntoIterator<Item = Json>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().map(|line| line.to_string()).collect();
    lines.sort();
    lines
}

/// Says where two sorted listings differ, rather than printing both.
pub fn assert_same(what: &str, found: &[String], expected: &[String]) {
    let short = |line: &String| line.chars().take(300).collect::<String>();
    let only_in = |a: &[String], b: &[String]| -> Vec<String> {
        let lines = a.iter().filter(|line| b.binary_search(line).is_err());
        lines.take(4).map(short).collect()
    };
    assert!(
        found == expected,
        "{what}: found but not expected: {:#?}\nexpected but not found: {:#?}",
        only_in(found, expected),
        only_in(expected, found),
    );
}
