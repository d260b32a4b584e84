//! Records of the log, and the operations that a commit record holds.
//!
//! ```text
//! record                                        operations of a commit record
//!  0  [u8;4] magic    "ALOG"                     u8   kind
//!  4  u32  length     of the payload, in bytes   u32  tree
//!  8  u64  lsn        the record's position      1 put          u16 key length, key,
//! 16  u64  version    the state it makes                        u32 value length, value
//! 24  u64  checkpoint newest durable one         2 delete       u16 key length, key
//! 32  u64  durable    the log was durable up to  3 delete range lower bound, upper bound, each:
//!                     here when it was appended                 u8 0 none, 1 included, 2 excluded,
//! 40  u8   kind       1 commit, 2 mark, 3 switch                u16 key length, key
//! 41  u8   flags      mark: 1 = closed cleanly;  4 put run      u16 key length, key, run (20 bytes)
//!                     commit: 2 = its runs were  5 create tree  u16 name length, name
//!                     not synced before it       6 drop tree
//! 42  u16  reserved   0                          7 rename tree  u16 name length, name
//! 44  u32  previous   checksum of the record
//!                     before it
//! 48  u32  checksum   CRC-32C, seeded with the
//!                     salt, of all the rest
//! 52  u32  reserved   0
//! 56  payload, then zeros up to a multiple of 8
//! ```
//!
//! # Invariants
//!
//! 1. A record is accepted only if its checksum, its position and its link to the record before
//!    it are right: neither a record of an earlier lap nor bytes inside a value can pass.
//! 2. Positions are counted in bytes from the creation of the file and never restart.

use std::ops::Bound;

use super::{Lsn, RunRef, Version, get_u16, get_u32, get_u64, put_u16, put_u32, put_u64};
use crate::checksum;

pub(crate) const MAGIC: [u8; 4] = *b"ALOG";
pub(crate) const RECORD_HEADER_BYTES: usize = 56;
pub(crate) const ALIGN_BYTES: usize = 8;
/// Where the checksum is in the header.
const CHECKSUM: usize = 48;

pub(crate) const COMMIT: u8 = 1;
pub(crate) const MARK: u8 = 2;
pub(crate) const SWITCH: u8 = 3;
pub(crate) const FLAG_CLEAN: u8 = 1;
/// The runs that the commit names were not synced before its record was written.
pub(crate) const FLAG_RUNS_UNSYNCED: u8 = 2;

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RecordHeader {
    pub length_bytes: u32,
    pub lsn: Lsn,
    pub version: Version,
    pub checkpoint: u64,
    pub durable: Lsn,
    pub kind: u8,
    pub flags: u8,
    pub previous: u32,
    pub checksum: u32,
}

/// How many bytes a record with this payload takes in the log.
pub(crate) fn record_bytes(payload_bytes: u64) -> u64 {
    (RECORD_HEADER_BYTES as u64 + payload_bytes).next_multiple_of(ALIGN_BYTES as u64)
}

/// How many zeros there are behind such a payload.
pub(crate) fn padding_bytes(payload_bytes: usize) -> usize {
    payload_bytes.wrapping_neg() % ALIGN_BYTES
}

/// Appends the record to `out` and returns its checksum.
pub(crate) fn encode(out: &mut Vec<u8>, header: &RecordHeader, payload: &[u8], salt: u64) -> u32 {
    let mut b = [0; RECORD_HEADER_BYTES];
    b[..4].copy_from_slice(&MAGIC);
    put_u32(&mut b, 4, payload.len() as u32);
    put_u64(&mut b, 8, header.lsn);
    put_u64(&mut b, 16, header.version);
    put_u64(&mut b, 24, header.checkpoint);
    put_u64(&mut b, 32, header.durable);
    b[40] = header.kind;
    b[41] = header.flags;
    put_u32(&mut b, 44, header.previous);
    let checksum = checksum(&b, payload, salt);
    put_u32(&mut b, CHECKSUM, checksum);
    out.extend_from_slice(&b);
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(ALIGN_BYTES), 0);
    checksum
}

fn checksum(header: &[u8; RECORD_HEADER_BYTES], payload: &[u8], salt: u64) -> u32 {
    checksum::append(head_checksum(header, salt), payload)
}

/// What a record's checksum begins with: that of the salt and the header, up to its own place. The payload's bytes follow,
/// without the padding.
pub(crate) fn head_checksum(header: &[u8; RECORD_HEADER_BYTES], salt: u64) -> u32 {
    let seed = checksum::crc32c(&salt.to_le_bytes());
    checksum::append(seed, &header[..CHECKSUM])
}

/// Reads the fixed part, if these bytes can be the start of a record at all.
pub(crate) fn decode_header(bytes: &[u8]) -> Option<RecordHeader> {
    let b: &[u8; RECORD_HEADER_BYTES] = bytes.first_chunk()?;
    let plausible = b[..4] == MAGIC
        && (COMMIT..=SWITCH).contains(&b[40])
        && b[42..44] == [0; 2]
        && b[52..56] == [0; 4];
    plausible.then(|| RecordHeader {
        length_bytes: get_u32(b, 4),
        lsn: get_u64(b, 8),
        version: get_u64(b, 16),
        checkpoint: get_u64(b, 24),
        durable: get_u64(b, 32),
        kind: b[40],
        flags: b[41],
        previous: get_u32(b, 44),
        checksum: get_u32(b, CHECKSUM),
    })
}

/// Whether header and payload match the record's checksum, and the padding is zero.
pub(crate) fn is_intact(bytes: &[u8], header: &RecordHeader, salt: u64) -> bool {
    // A length of nearly 4 GiB is more than 32 bits can count together with the header.
    let whole = usize::try_from(record_bytes(header.length_bytes.into())).ok();
    let Some(rest) = whole.and_then(|whole| bytes.get(RECORD_HEADER_BYTES..whole)) else {
        return false;
    };
    let (Some(head), Some((payload, padding))) = (
        bytes.first_chunk::<RECORD_HEADER_BYTES>(),
        rest.split_at_checked(header.length_bytes as usize),
    ) else {
        return false;
    };
    checksum(head, payload, salt) == header.checksum && padding.iter().all(|b| *b == 0)
}

/// One change, as the log holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation<'a> {
    Put {
        tree: u32,
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        tree: u32,
        key: &'a [u8],
    },
    DeleteRange {
        tree: u32,
        lower: Bound<&'a [u8]>,
        upper: Bound<&'a [u8]>,
    },
    PutRun {
        tree: u32,
        key: &'a [u8],
        run: RunRef,
    },
    CreateTree {
        tree: u32,
        name: &'a [u8],
    },
    DropTree {
        tree: u32,
    },
    RenameTree {
        tree: u32,
        name: &'a [u8],
    },
}

/// What a put takes beside its key and value, at most.
const PUT_EXTRA_BYTES: usize = 16;

impl Operation<'_> {
    /// Appends the operation to a payload.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        if let Operation::Put { key, value, .. } = self {
            // In one step: growing was a tenth of the instructions of a commit of one entry.
            out.reserve(key.len() + value.len() + PUT_EXTRA_BYTES);
        }
        let mut start = |kind: u8, tree: u32| {
            out.push(kind);
            out.extend_from_slice(&tree.to_le_bytes());
        };
        match self {
            Operation::Put { tree, key, value } => {
                start(1, *tree);
                put_short(out, key);
                out.extend_from_slice(&(value.len() as u32).to_le_bytes());
                out.extend_from_slice(value);
            }
            Operation::Delete { tree, key } => {
                start(2, *tree);
                put_short(out, key);
            }
            Operation::DeleteRange { tree, lower, upper } => {
                start(3, *tree);
                put_bound(out, lower);
                put_bound(out, upper);
            }
            Operation::PutRun { tree, key, run } => {
                start(4, *tree);
                put_short(out, key);
                out.extend_from_slice(&run.encode());
            }
            Operation::CreateTree { tree, name } => {
                start(5, *tree);
                put_short(out, name);
            }
            Operation::DropTree { tree } => start(6, *tree),
            Operation::RenameTree { tree, name } => {
                start(7, *tree);
                put_short(out, name);
            }
        }
    }
}

/// `bytes` is never longer than a key, which a page size of 64 KiB limits to 16 KiB.
fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = [0; 2];
    put_u16(&mut length, 0, bytes.len() as u16);
    out.extend_from_slice(&length);
    out.extend_from_slice(bytes);
}

fn put_bound(out: &mut Vec<u8>, bound: &Bound<&[u8]>) {
    let (kind, key): (u8, &[u8]) = match bound {
        Bound::Unbounded => (0, &[]),
        Bound::Included(key) => (1, key),
        Bound::Excluded(key) => (2, key),
    };
    out.push(kind);
    put_short(out, key);
}

/// Reads the operations of a payload one after the other. `None` inside of the iteration means
/// that the payload does not parse, which the record's checksum makes a bug or a forgery.
pub(crate) struct Operations<'a> {
    rest: &'a [u8],
}

impl<'a> Operations<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Operations { rest: payload }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(head)
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let length = get_u16(self.take(2)?, 0);
        self.take(usize::from(length))
    }

    fn bound(&mut self) -> Option<Bound<&'a [u8]>> {
        let kind = *self.take(1)?.first()?;
        let key = self.short()?;
        match kind {
            0 => Some(Bound::Unbounded),
            1 => Some(Bound::Included(key)),
            2 => Some(Bound::Excluded(key)),
            _ => None,
        }
    }

    fn operation(&mut self) -> Option<Operation<'a>> {
        let kind = *self.take(1)?.first()?;
        let tree = get_u32(self.take(4)?, 0);
        Some(match kind {
            1 => {
                let key = self.short()?;
                let length = get_u32(self.take(4)?, 0);
                let value = self.take(length as usize)?;
                Operation::Put { tree, key, value }
            }
            2 => Operation::Delete {
                tree,
                key: self.short()?,
            },
            3 => Operation::DeleteRange {
                tree,
                lower: self.bound()?,
                upper: self.bound()?,
            },
            4 => Operation::PutRun {
                tree,
                key: self.short()?,
                run: RunRef::decode(self.take(RunRef::ENCODED_BYTES)?),
            },
            5 => Operation::CreateTree {
                tree,
                name: self.short()?,
            },
            6 => Operation::DropTree { tree },
            7 => Operation::RenameTree {
                tree,
                name: self.short()?,
            },
            _ => return None,
        })
    }
}

impl<'a> Iterator for Operations<'a> {
    type Item = Option<Operation<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let operation = self.operation();
        if operation.is_none() {
            self.rest = &[];
        }
        Some(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Operation<'static>> {
        vec![
            Operation::CreateTree {
                tree: 1,
                name: b"t",
            },
            Operation::Put {
                tree: 1,
                key: b"k",
                value: b"value",
            },
            Operation::Delete { tree: 1, key: b"" },
            Operation::DeleteRange {
                tree: 2,
                lower: Bound::Excluded(b"a"),
                upper: Bound::Unbounded,
            },
            Operation::PutRun {
                tree: 1,
                key: b"big",
                run: RunRef {
                    first: 3,
                    length_bytes: 4,
                    checksum: 5,
                    birth: 6,
                },
            },
            Operation::RenameTree {
                tree: 1,
                name: b"u",
            },
            Operation::DropTree { tree: 1 },
        ]
    }

    #[test]
    fn operations_read_back_in_order() {
        let mut payload = Vec::new();
        sample().iter().for_each(|op| op.encode(&mut payload));
        let back: Option<Vec<_>> = Operations::new(&payload).collect();
        assert_eq!(back.unwrap(), sample());
        for cut in 1..payload.len() {
            // A cut payload ends early or says so; it never panics.
            let _ = Operations::new(&payload[..cut]).count();
        }
    }

    /// On 32 bits header and payload together are more than can be counted.
    #[test]
    fn the_greatest_length_is_only_one_that_is_not_there() {
        let mut bytes = Vec::new();
        encode(&mut bytes, &RecordHeader::default(), b"", 1);
        put_u32(&mut bytes, 4, u32::MAX);
        bytes[40] = COMMIT;
        let header = decode_header(&bytes).unwrap();
        assert_eq!(record_bytes(header.length_bytes.into()), (1 << 32) + 56);
        assert!(!is_intact(&bytes, &header, 1));
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_noticed() {
        let mut bytes = Vec::new();
        let header = RecordHeader {
            lsn: 64,
            version: 3,
            kind: COMMIT,
            previous: 9,
            ..RecordHeader::default()
        };
        encode(&mut bytes, &header, b"payload", 1);
        assert_eq!(bytes.len() as u64, record_bytes(7));
        let intact =
            |bytes: &[u8]| decode_header(bytes).is_some_and(|header| is_intact(bytes, &header, 1));
        assert!(intact(&bytes));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!intact(&bad), "bit {bit}");
        }
        let other_salt = decode_header(&bytes).unwrap();
        assert!(!is_intact(&bytes, &other_salt, 2));
    }
}
