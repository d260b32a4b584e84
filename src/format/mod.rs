//! Every byte on disk, as pure functions over byte slices: no I/O, no allocation policy, no locks.
//!
//! `format-spec.md` is the contract; the constants here are compared with it by a test. All
//! integers are little-endian.
//!
//! # Invariants
//!
//! 1. Nothing in here panics, whatever the bytes: readers are total functions or return a
//!    [`Fault`].
//! 2. A page that passed [`page::verify`] and its kind's `validate` has every offset and length
//!    inside the page, so the readers built on it never see a fallback value.

pub(crate) mod header;
pub(crate) mod node;
pub(crate) mod page;
pub(crate) mod record;
pub(crate) mod space;
#[cfg(test)]
mod spec_tests;

/// The number of a page: its offset in the file divided by the page size. 0 and 1 are the header
/// slots, so 0 also means "no page".
pub(crate) type PageNumber = u32;

/// The number of a committed state. Grows with every commit and every savepoint.
pub(crate) type Version = u64;

/// A position in the log: the number of bytes ever appended before it.
pub(crate) type Lsn = u64;

/// A rule of the format that some bytes break. The caller adds the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which rule.
    pub what: &'static str,
    /// The byte offset within the page.
    pub offset: u32,
    /// What the rule asks for.
    pub expected: u64,
    /// What the bytes hold.
    pub found: u64,
}

impl Fault {
    pub(crate) fn new(what: &'static str, offset: usize, expected: u64, found: u64) -> Self {
        Fault {
            what,
            offset: offset as u32,
            expected,
            found,
        }
    }

    /// The public error for this fault in page `page`.
    pub(crate) fn in_page(self, page: PageNumber, page_size: u32) -> crate::Error {
        crate::Error::Corrupt {
            what: self.what,
            page: u64::from(page),
            offset: u64::from(page) * u64::from(page_size) + u64::from(self.offset),
            expected: self.expected,
            found: self.found,
        }
    }
}

/// A reference to a page: where it is, and the checksum that its bytes must have.
///
/// A page that was never written has no checksum yet: the reference holds 0, and the page is
/// served from its frame in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PageRef {
    pub page: PageNumber,
    pub checksum: u32,
}

/// A reference to an overflow run: contiguous pages that hold one long value and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RunRef {
    pub first: PageNumber,
    /// The length of the value.
    pub length_bytes: u32,
    /// CRC-32C of the value.
    pub checksum: u32,
    /// The version that wrote the run.
    pub birth: Version,
}

impl RunRef {
    pub(crate) const ENCODED_BYTES: usize = 20;

    /// How many pages the run covers.
    pub(crate) fn pages(&self, page_size: u32) -> u32 {
        self.length_bytes.div_ceil(page_size)
    }

    pub(crate) fn encode(&self) -> [u8; Self::ENCODED_BYTES] {
        let mut bytes = [0; Self::ENCODED_BYTES];
        put_u32(&mut bytes, 0, self.first);
        put_u32(&mut bytes, 4, self.length_bytes);
        put_u32(&mut bytes, 8, self.checksum);
        put_u64(&mut bytes, 12, self.birth);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        RunRef {
            first: get_u32(bytes, 0),
            length_bytes: get_u32(bytes, 4),
            checksum: get_u32(bytes, 8),
            birth: get_u64(bytes, 12),
        }
    }
}

/// Where a tree begins: its root page, and what the parent of a page would know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TreeRoot {
    /// Page 0: the tree is empty and has no pages.
    pub root: PageRef,
    /// The number of entries in the tree.
    pub count: u64,
    /// The level of the root page: 0 if it is a leaf.
    pub level: u8,
}

impl TreeRoot {
    pub(crate) fn is_empty(&self) -> bool {
        self.root.page == 0
    }
}

macro_rules! little_endian {
    ($get:ident, $put:ident, $type:ty, $bytes:literal) => {
        /// Reads at `offset`; 0 if the slice ends before.
        #[inline]
        pub(crate) fn $get(bytes: &[u8], offset: usize) -> $type {
            match bytes
                .get(offset..)
                .and_then(|rest| rest.first_chunk::<$bytes>())
            {
                Some(chunk) => <$type>::from_le_bytes(*chunk),
                None => 0,
            }
        }

        /// Writes at `offset`; nothing if the slice ends before, which no caller lets happen.
        #[inline]
        pub(crate) fn $put(bytes: &mut [u8], offset: usize, value: $type) {
            debug_assert!(offset + $bytes <= bytes.len());
            if let Some(chunk) = bytes
                .get_mut(offset..)
                .and_then(|rest| rest.first_chunk_mut::<$bytes>())
            {
                *chunk = value.to_le_bytes();
            }
        }
    };
}

little_endian!(get_u16, put_u16, u16, 2);
little_endian!(get_u32, put_u32, u32, 4);
little_endian!(get_u64, put_u64, u64, 8);
