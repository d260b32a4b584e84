//! Blobs and their chunks, both ways.
//!
//! The payload of a blob's record is its number (u64), its size (u64), the length of its chunks
//! (u32), the CRC-32C of its content (u32), when it was put, its type and the user's map. It is
//! decoded by the engine's own code. Chunks are in `aurora/chunks`
//! under the number (u64, big-endian) and their index (u32, big-endian).

use std::collections::HashMap;

use aurora::anatomy::{BlobDetails, Flaw, KeyRecord, crc32c};
use serde::Serialize;

use super::{CHUNKS, Check, KEYS, META, STAGED, Trees};
use crate::Fault;

/// All that a blob's record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlobRecord {
    /// Never used twice.
    pub number: u64,
    /// Bytes of the content.
    pub size: u64,
    /// Bytes of each chunk but the last.
    pub chunk_bytes: u32,
    /// CRC-32C of the content.
    pub checksum: u32,
    /// When it was put, in milliseconds since 1970.
    pub created_ms: u64,
    /// What kind of content it is, if it says so.
    pub content_type: Option<String>,
    /// The user's own entries.
    pub map: Vec<(String, String)>,
    /// The entries are in order, and the record is no longer than records are.
    #[serde(skip)]
    pub is_canonical: bool,
}

impl BlobRecord {
    /// Reads the payload of a record.
    pub fn decode(payload: &[u8]) -> Result<Self, Flaw> {
        let details = BlobDetails::decode(payload)?;
        Ok(BlobRecord {
            number: details.number,
            size: details.size,
            chunk_bytes: details.chunk_bytes,
            checksum: details.checksum,
            created_ms: details.created_ms,
            content_type: details.content_type,
            map: details.map,
            is_canonical: details.is_canonical,
        })
    }

    /// How many chunks it has.
    pub fn chunks(&self) -> u64 {
        self.size.div_ceil(u64::from(self.chunk_bytes.max(1)))
    }

    /// The length that a chunk has to have.
    pub fn length_of(&self, index: u32) -> u64 {
        let chunk = u64::from(self.chunk_bytes);
        let before = u64::from(index).saturating_mul(chunk);
        self.size.saturating_sub(before).min(chunk)
    }

    /// The key of a chunk.
    pub fn chunk_key(&self, index: u32) -> Vec<u8> {
        [&self.number.to_be_bytes()[..], &index.to_be_bytes()].concat()
    }

    /// Reads the content chunk by chunk, and says what is wrong with it. A hole of many chunks is
    /// one fault: `limit` chunks at most are looked for in it.
    pub fn content(
        &self,
        trees: &Trees<'_>,
        mut each: impl FnMut(u32, &[u8]),
    ) -> Result<(), (String, String, String)> {
        let wrong =
            |what: &str, expected: String, found: String| Err((what.to_string(), expected, found));
        let mut checksum = 0;
        for index in 0..self.chunks() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let chunk = match trees.get(CHUNKS, &self.chunk_key(index)) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => {
                    let expected = format!("chunk {index} of {}", self.chunks());
                    return wrong("a chunk of a blob is missing", expected, "none".into());
                }
                Err(fault) => {
                    let expected = format!("chunk {index} of {}", self.chunks());
                    return wrong("a chunk of a blob cannot be read", expected, fault.what);
                }
            };
            if chunk.len() as u64 != self.length_of(index) {
                let what = format!("chunk {index} of a blob has another length");
                let (expected, found) = (self.length_of(index), chunk.len());
                return wrong(&what, expected.to_string(), found.to_string());
            }
            checksum = crc32c(checksum, &chunk);
            each(index, &chunk);
        }
        if checksum != self.checksum {
            let (expected, found) = (self.checksum, checksum);
            let what = "the content of a blob does not match its checksum";
            return wrong(what, format!("{expected:#010x}"), format!("{found:#010x}"));
        }
        Ok(())
    }
}

/// Every blob has its chunks, and every chunk has its blob, or is of one that is being written.
pub(super) fn check(check: &mut Check<'_>) {
    let mut blobs = Vec::new();
    let mut bad = Vec::new();
    check.trees.for_each(KEYS, |entry| {
        let Some(value) = check.trees.value(entry) else {
            return;
        };
        let Ok(record) = KeyRecord::decode(&value) else {
            return;
        };
        if !record.is_blob {
            return;
        }
        match BlobRecord::decode(record.payload) {
            Ok(blob) => blobs.push((entry.key.to_vec(), blob)),
            Err(flaw) => bad.push((entry.key.to_vec(), flaw)),
        }
    });
    for (key, flaw) in bad {
        let what = format!("the record of a blob does not decode: {}", flaw.what);
        check.add("blob", what, flaw.expected, flaw.found, KEYS, &key);
    }
    check
        .watcher
        .phase("blobs", Some(check.trees.entries(CHUNKS)));
    let mut owners: HashMap<u64, u64> = HashMap::new();
    for (key, blob) in &blobs {
        if !blob.is_canonical {
            let what = "the map of a blob is not in the order of its names";
            check.add(
                "blob",
                what,
                "each name once, in order",
                "others",
                KEYS,
                key,
            );
        }
        if owners.insert(blob.number, blob.chunks()).is_some() {
            let what = "two blobs have one number";
            check.add("blob", what, "one", blob.number, KEYS, key);
            // The content was looked at: many blobs of one number would take as many times as long.
            continue;
        }
        let watcher = check.watcher;
        let content = blob.content(&check.trees, |_, _| watcher.pages(1));
        if let Err((what, expected, found)) = content
            && check.can_miss("blob", CHUNKS)
        {
            check.add("blob", what, expected, found, KEYS, key);
        }
    }
    check_counter(check, owners.keys().max().copied());
    check_chunks(check, owners);
}

/// Numbers are not used again: none is above the last one that was given.
fn check_counter(check: &mut Check<'_>, highest: Option<u64>) {
    let (Some(highest), Ok(value)) = (highest, check.trees.get(META, b"blob")) else {
        return;
    };
    // What is no number was told already.
    let last = value.map_or(Some(0), |value| {
        value.try_into().ok().map(u64::from_le_bytes)
    });
    if let Some(last) = last.filter(|last| *last < highest)
        && check.can_miss("blob", META)
    {
        let what = "a blob has a number that was not given yet";
        let expected = format!("at most {last}");
        check.add("blob", what, expected, highest, META, b"blob");
    }
}

/// What is listed as not finished is of no blob: the next open would remove the chunks.
fn check_staged(check: &mut Check<'_>, owners: &mut HashMap<u64, u64>) {
    let mut wrong = Vec::new();
    let mut staged = Vec::new();
    check.trees.for_each(STAGED, |entry| {
        let number = entry.key.try_into().map(u64::from_be_bytes);
        let what = match number {
            Err(_) => "the number of an unfinished blob is not 8 bytes long",
            Ok(number) if owners.contains_key(&number) => {
                "a number is listed as that of an unfinished blob, and a blob has it"
            }
            Ok(number) => return staged.push(number),
        };
        wrong.push((entry.key.to_vec(), what));
    });
    for (key, what) in wrong {
        let found = crate::show::brief(&key, 32);
        check.add("blob", what, "a number of no blob", found, STAGED, &key);
    }
    owners.extend(staged.into_iter().map(|number| (number, u64::MAX)));
}

fn check_chunks(check: &mut Check<'_>, mut owners: HashMap<u64, u64>) {
    check_staged(check, &mut owners);
    // A lost page of keys would make all of its blobs' chunks look like nobody's.
    if !check.trees.has(CHUNKS) || !check.can_miss("blob", KEYS) {
        return;
    }
    // Chunks that follow each other are told as one.
    let mut lost: Vec<(Vec<u8>, u64, &'static str)> = Vec::new();
    let mut last = None;
    check.trees.for_each(CHUNKS, |entry| {
        let split = entry.key.split_first_chunk::<8>();
        let split = split.and_then(|(number, index)| {
            let index: [u8; 4] = index.try_into().ok()?;
            Some((u64::from_be_bytes(*number), u32::from_be_bytes(index)))
        });
        let what = match split {
            None => "the key of a chunk is not 12 bytes long",
            Some((number, index)) => match owners.get(&number) {
                Some(chunks) if u64::from(index) < *chunks => return last = None,
                Some(_) => "a chunk lies behind the end of its blob",
                None => "a chunk belongs to no blob",
            },
        };
        let number = split.map(|(number, _)| number);
        match lost.last_mut() {
            Some((_, count, other)) if last == number && *other == what => *count += 1,
            _ => lost.push((entry.key.to_vec(), 1, what)),
        }
        last = number;
    });
    for (key, count, what) in lost {
        let found = if count == 1 {
            "1 chunk".into()
        } else {
            format!("{count} chunks")
        };
        check.add("blob", what, "none", found, CHUNKS, &key);
    }
}

/// The fault of content that cannot be read whole.
pub fn content_fault(key: &[u8], wrong: (String, String, String)) -> Fault {
    let (what, expected, found) = wrong;
    let fault = Fault::new("blob", what, expected, found).in_tree(KEYS);
    fault.of_key(crate::show::key(KEYS, key, 64))
}
