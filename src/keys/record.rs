//! The record of a key: what the tree of keys stores, as pure functions.
//!
//! # Invariants
//!
//! 1. Byte 0 is the kind, with the highest bit set if the key expires; then 8 bytes say when. The
//!    rest is the payload.
//! 2. What does not decode is an error that says which rule it breaks, never a guess.

use crate::Error;

/// The bit of byte 0 that says that an expiry follows.
pub(crate) const EXPIRES: u8 = 0x80;
pub(crate) const EXPIRY_BYTES: usize = 8;
/// The most that a record is longer than its payload.
pub(crate) const MAX_HEAD_BYTES: usize = 1 + EXPIRY_BYTES;
/// Where a blob's size is in the payload of its record, after its number.
const BLOB_SIZE_OFFSET: usize = 8;

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Value,
    Blob,
}

impl Kind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Kind::Value => 0,
            Kind::Blob => 1,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Kind::Value),
            1 => Some(Kind::Blob),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Value => "value",
            Kind::Blob => "blob",
        }
    }
}

/// A rule that bytes in a tree break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub what: &'static str,
    pub expected: u64,
    pub found: u64,
}

impl Flaw {
    pub(crate) fn at(self, tree: &'static str, key: &[u8]) -> Error {
        Error::BadRecord {
            tree,
            key: String::from_utf8_lossy(key).into_owned(),
            what: self.what,
            expected: self.expected,
            found: self.found,
        }
    }
}

/// The record of a key, borrowed from the page or the value that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordRef<'a> {
    pub kind: Kind,
    /// Milliseconds since 1970; the key is gone at that time and after.
    pub expiry_ms: Option<u64>,
    pub payload: &'a [u8],
}

/// The record of a key, as a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub kind: Kind,
    /// Milliseconds since 1970; the key is gone at that time and after.
    pub expiry_ms: Option<u64>,
    pub payload: Vec<u8>,
}

impl<'a> RecordRef<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let Some((head, rest)) = bytes.split_first() else {
            return Err(Flaw {
                what: "the record of a key is empty",
                expected: 1,
                found: 0,
            });
        };
        let kind = Kind::of_code(head & !EXPIRES).ok_or(Flaw {
            what: "the kind of a key is unknown",
            expected: u64::from(Kind::Blob.code()),
            found: u64::from(head & !EXPIRES),
        })?;
        if head & EXPIRES == 0 {
            return Ok(RecordRef {
                kind,
                expiry_ms: None,
                payload: rest,
            });
        }
        let Some((expiry, payload)) = rest.split_first_chunk::<EXPIRY_BYTES>() else {
            return Err(Flaw {
                what: "the record of a key ends before its expiry does",
                expected: MAX_HEAD_BYTES as u64,
                found: bytes.len() as u64,
            });
        };
        Ok(RecordRef {
            kind,
            expiry_ms: Some(u64::from_le_bytes(*expiry)),
            payload,
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAX_HEAD_BYTES + self.payload.len());
        match self.expiry_ms {
            None => bytes.push(self.kind.code()),
            Some(expiry_ms) => {
                bytes.push(self.kind.code() | EXPIRES);
                bytes.extend_from_slice(&expiry_ms.to_le_bytes());
            }
        }
        bytes.extend_from_slice(self.payload);
        bytes
    }

    /// Whether the key is gone at that time.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        self.expiry_ms.is_some_and(|expiry_ms| expiry_ms <= now_ms)
    }

    /// The bytes of a blob, of which the payload only says where they are.
    pub(crate) fn blob_bytes(&self) -> Result<u64, Flaw> {
        let size = self.payload.get(BLOB_SIZE_OFFSET..);
        let size = size.and_then(|rest| rest.first_chunk::<8>()).ok_or(Flaw {
            what: "the record of a blob ends before its size does",
            expected: (BLOB_SIZE_OFFSET + 8) as u64,
            found: self.payload.len() as u64,
        })?;
        Ok(u64::from_le_bytes(*size))
    }

    pub(crate) fn to_record(self) -> Record {
        Record {
            kind: self.kind,
            expiry_ms: self.expiry_ms,
            payload: self.payload.to_vec(),
        }
    }
}

impl Record {
    pub(crate) fn to_ref(&self) -> RecordRef<'_> {
        RecordRef {
            kind: self.kind,
            expiry_ms: self.expiry_ms,
            payload: &self.payload,
        }
    }

    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        self.expiry_ms.is_some_and(|expiry_ms| expiry_ms <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let record = RecordRef {
            kind: Kind::Blob,
            expiry_ms: Some(0x0102_0304),
            payload: b"xyz",
        };
        let bytes = [0x81, 4, 3, 2, 1, 0, 0, 0, 0, b'x', b'y', b'z'];
        assert_eq!(record.encode(), bytes);
        assert_eq!(RecordRef::decode(&bytes), Ok(record));
        let forever = RecordRef {
            kind: Kind::Value,
            expiry_ms: None,
            payload: b"v",
        };
        assert_eq!(forever.encode(), [0, b'v']);
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let flaw = |bytes: &[u8]| RecordRef::decode(bytes).unwrap_err();
        assert_eq!(flaw(&[]).what, "the record of a key is empty");
        assert_eq!(flaw(&[2]).found, 2);
        assert_eq!(flaw(&[0x82, 0, 0, 0, 0, 0, 0, 0, 0]).found, 2);
        assert_eq!((flaw(&[0x80; 8]).expected, flaw(&[0x80; 8]).found), (9, 8));
        assert!(RecordRef::decode(&[0x80; 9]).is_ok());
    }

    #[test]
    fn a_key_is_over_at_its_expiry_and_not_before() {
        let mut record = RecordRef {
            kind: Kind::Value,
            expiry_ms: Some(10),
            payload: b"",
        };
        assert_eq!(
            [9, 10, 11].map(|now| record.is_over(now)),
            [false, true, true]
        );
        record.expiry_ms = None;
        assert!(!record.is_over(u64::MAX));
    }

    #[test]
    fn the_size_of_a_blob_is_its_second_number() {
        let mut payload = [7u64.to_le_bytes(), 500u64.to_le_bytes()].concat();
        payload.push(1);
        let size = |payload| {
            let record = RecordRef {
                kind: Kind::Blob,
                expiry_ms: None,
                payload,
            };
            record.blob_bytes()
        };
        assert_eq!(size(&payload), Ok(500));
        assert_eq!(size(&payload[..15]).unwrap_err().found, 15);
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(
            is_blob: bool,
            expiry_ms: Option<u64>,
            payload: Vec<u8>,
        ) {
            let kind = if is_blob { Kind::Blob } else { Kind::Value };
            let record = RecordRef { kind, expiry_ms, payload: &payload };
            let bytes = record.encode();
            prop_assert_eq!(RecordRef::decode(&bytes), Ok(record));
        }

        #[test]
        fn what_decodes_encodes_to_the_same(bytes: Vec<u8>) {
            if let Ok(record) = RecordRef::decode(&bytes) {
                prop_assert_eq!(record.encode(), bytes);
            }
        }
    }
}
