//! What the record of a blob says, as pure functions, and as users see it.
//!
//! # Invariants
//!
//! 1. Decoding is total: what does not decode is a flaw with a name, never a guess. Every record
//!    that decodes encodes to the same bytes, unless its map was not in order.

use std::collections::BTreeMap;

use super::Flaw;
use super::content::Content;
use crate::{Error, Result};

/// A record is never longer than this, with the content type and the map.
pub(super) const MAX_BYTES: usize = u16::MAX as usize;
/// Longer chunks than this would not fit the promise about memory.
const MAX_CHUNK_BYTES: u32 = 1 << 20;

/// What the user says about a blob: its content type, and a map of strings of the user's own.
///
/// Both together, and four bytes for each entry, are at most 65,499 bytes.
///
/// ```
/// # let db = aurora::Aurora::in_memory()?;
/// db.put_blob_from("notes", &b"to do"[..])?;
/// let meta = aurora::BlobMeta::new()
///     .content_type("text/plain")
///     .with("language", "en");
/// let info = db.set_blob_meta("notes", meta)?;
/// assert_eq!(info.content_type.as_deref(), Some("text/plain"));
/// assert_eq!(info.map["language"], "en");
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlobMeta {
    pub(super) content_type: Option<String>,
    pub(super) map: BTreeMap<String, String>,
}

impl BlobMeta {
    /// Nothing is said yet.
    pub fn new() -> Self {
        BlobMeta::default()
    }

    /// What kind of content it is, `image/jpeg` for example.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into()).filter(|kind| !kind.is_empty());
        self
    }

    /// An entry of the user's own map. Replaces one of the same name.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.map.insert(name.into(), value.into());
        self
    }
}

/// What a blob is like.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlobInfo {
    /// Bytes of the content.
    pub size: u64,
    /// Chunks that the content is stored in.
    pub chunks: u64,
    /// What kind of content it is, if that was said or could be guessed.
    pub content_type: Option<String>,
    /// When the blob was put, in milliseconds since 1970. Changing it does not change this.
    pub created_ms: u64,
    /// When it will be gone, in milliseconds since 1970, if it expires.
    pub expires_ms: Option<u64>,
    /// CRC-32C of the content.
    pub checksum: u32,
    /// The user's own entries.
    pub map: BTreeMap<String, String>,
}

/// The payload of the record of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub content: Content,
    pub created_ms: u64,
    pub said: BlobMeta,
}

impl Meta {
    pub(super) fn info(&self, expires_ms: Option<u64>) -> BlobInfo {
        BlobInfo {
            size: self.content.size,
            chunks: self.content.chunks(),
            content_type: self.said.content_type.clone(),
            created_ms: self.created_ms,
            expires_ms,
            checksum: self.content.checksum,
            map: self.said.map.clone(),
        }
    }

    /// # Errors
    /// [`Error::ValueTooLong`] if content type and map are.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&self.content.number.to_le_bytes());
        bytes.extend_from_slice(&self.content.size.to_le_bytes());
        bytes.extend_from_slice(&self.content.chunk_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.content.checksum.to_le_bytes());
        bytes.extend_from_slice(&self.created_ms.to_le_bytes());
        put_text(
            &mut bytes,
            self.said.content_type.as_deref().unwrap_or_default(),
        );
        // Lengths that do not fit their two bytes make the whole too long, too.
        bytes.extend_from_slice(&(self.said.map.len() as u16).to_le_bytes());
        for (name, value) in &self.said.map {
            put_text(&mut bytes, name);
            put_text(&mut bytes, value);
        }
        if bytes.len() > MAX_BYTES {
            return Err(Error::ValueTooLong {
                length: bytes.len() as u64,
                limit: MAX_BYTES as u64,
            });
        }
        Ok(bytes)
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Self, Flaw> {
        let mut fields = Fields {
            rest: payload,
            length: payload.len(),
        };
        let content = Content {
            number: u64::from_le_bytes(fields.array()?),
            size: u64::from_le_bytes(fields.array()?),
            chunk_bytes: u32::from_le_bytes(fields.array()?),
            checksum: u32::from_le_bytes(fields.array()?),
        };
        check_content(&content)?;
        let created_ms = u64::from_le_bytes(fields.array()?);
        let content_type = Some(fields.text()?).filter(|kind| !kind.is_empty());
        let entries = u16::from_le_bytes(fields.array()?);
        let mut map = BTreeMap::new();
        for _ in 0..entries {
            map.insert(fields.text()?, fields.text()?);
        }
        if !fields.rest.is_empty() {
            return Err(Flaw {
                what: "the record of a blob goes on after its end",
                expected: (fields.length - fields.rest.len()) as u64,
                found: fields.length as u64,
            });
        }
        let said = BlobMeta { content_type, map };
        Ok(Meta {
            content,
            created_ms,
            said,
        })
    }
}

fn check_content(content: &Content) -> Result<(), Flaw> {
    let chunk_bytes = content.chunk_bytes;
    if chunk_bytes == 0 || chunk_bytes > MAX_CHUNK_BYTES {
        return Err(Flaw {
            what: "the chunks of a blob cannot have this length",
            expected: u64::from(MAX_CHUNK_BYTES),
            found: u64::from(chunk_bytes),
        });
    }
    if content.chunks() > content.max_chunks() {
        return Err(Flaw {
            what: "a blob has more chunks than can be numbered",
            expected: content.max_chunks(),
            found: content.chunks(),
        });
    }
    Ok(())
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// Takes fields from the front of a record.
struct Fields<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(self.too_short(N))?;
        self.rest = rest;
        Ok(*field)
    }

    fn text(&mut self) -> Result<String, Flaw> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        let (text, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(self.too_short(length))?;
        self.rest = rest;
        String::from_utf8(text.to_vec()).map_err(|error| Flaw {
            what: "a text in the record of a blob is not UTF-8",
            expected: length as u64,
            found: error.utf8_error().valid_up_to() as u64,
        })
    }

    fn too_short(&self, wanted: usize) -> Flaw {
        let begin = self.length - self.rest.len();
        Flaw {
            what: "the record of a blob ends too early",
            expected: (begin + wanted) as u64,
            found: self.length as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta() -> impl Strategy<Value = Meta> {
        let content = (
            any::<u64>(),
            0..1u64 << 40,
            1..=MAX_CHUNK_BYTES,
            any::<u32>(),
        );
        let map = proptest::collection::btree_map(any::<String>(), any::<String>(), 0..4);
        let said = (proptest::option::of("[a-z/]{1,20}"), map);
        (content, any::<u64>(), said).prop_filter_map("numbered", |(content, created_ms, said)| {
            let (number, size, chunk_bytes, checksum) = content;
            let content = Content {
                number,
                size,
                chunk_bytes,
                checksum,
            };
            let (content_type, map) = said;
            let said = BlobMeta { content_type, map };
            (content.chunks() <= content.max_chunks()).then_some(Meta {
                content,
                created_ms,
                said,
            })
        })
    }

    proptest! {
        #[test]
        fn a_record_comes_back_and_a_cut_one_is_refused(meta in meta(), cut in any::<prop::sample::Index>()) {
            let bytes = meta.encode().unwrap();
            prop_assert_eq!(Meta::decode(&bytes).unwrap(), meta);
            let cut = cut.index(bytes.len());
            prop_assert!(Meta::decode(&bytes[..cut]).is_err());
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Meta::decode(&bytes);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let meta = Meta {
            content: Content {
                number: 1,
                size: 2,
                chunk_bytes: 3,
                checksum: 4,
            },
            created_ms: 5,
            said: BlobMeta::new().content_type("t").with("k", "v"),
        };
        let expected = [
            &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0][..],
            &[3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, b't', 1, 0, 1, 0, b'k', 1, 0, b'v'],
        ];
        assert_eq!(meta.encode().unwrap(), expected.concat());
    }

    #[test]
    fn a_record_that_breaks_a_rule_is_refused_by_name() {
        let meta = Meta {
            content: Content::new(1),
            created_ms: 0,
            said: BlobMeta::new(),
        };
        let good = meta.encode().unwrap();
        let mut longer = good.clone();
        longer.push(0);
        assert!(Meta::decode(&longer).unwrap_err().what.contains("goes on"));
        let mut chunkless = good.clone();
        chunkless[16..20].fill(0);
        assert!(
            Meta::decode(&chunkless)
                .unwrap_err()
                .what
                .contains("cannot have")
        );
        let mut huge = good.clone();
        huge[8..16].fill(0xff);
        assert!(
            Meta::decode(&huge)
                .unwrap_err()
                .what
                .contains("more chunks")
        );
        let said = BlobMeta::new().with("k", "v".repeat(MAX_BYTES));
        let refused = Meta { said, ..meta }.encode().unwrap_err();
        assert!(matches!(refused, Error::ValueTooLong { .. }));
    }
}
