//! Reads CBOR (RFC 8949) item by item, as far as documents use it.
//!
//! A scan reads the head of every field of every document, so this is as direct as it can be: one
//! look at the head of an item, no allocation, nothing read twice.

use super::raw::Fault;

/// The major types.
pub(super) const UNSIGNED: u8 = 0;
pub(super) const NEGATIVE: u8 = 1;
pub(super) const BYTES: u8 = 2;
pub(super) const TEXT: u8 = 3;
pub(super) const ARRAY: u8 = 4;
pub(super) const MAP: u8 = 5;
pub(super) const TAG: u8 = 6;

/// Simple values, and the float of 64 bits, by the low five bits of their head.
pub(super) const FALSE: u8 = 20;
pub(super) const TRUE: u8 = 21;
pub(super) const NULL: u8 = 22;
pub(super) const FLOAT: u8 = 27;

/// The beginning of an item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub major: u8,
    /// The low five bits of the first byte.
    pub info: u8,
    /// The number, length or bits that follow.
    pub argument: u64,
}

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    #[inline]
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// The bytes from here on.
    #[inline]
    pub(super) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Fault::CUT_OFF)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn head(&mut self) -> Result<Head, Fault> {
        let [first] = self.take()?;
        let info = first & 31;
        let argument = match info {
            0..=23 => u64::from(info),
            24 => u64::from(self.take::<1>()?[0]),
            25 => u64::from(u16::from_be_bytes(self.take()?)),
            26 => u64::from(u32::from_be_bytes(self.take()?)),
            27 => u64::from_be_bytes(self.take()?),
            31 => return Err(Fault::INDEFINITE),
            _ => return Err(Fault::NOT_CBOR),
        };
        Ok(Head {
            major: first >> 5,
            info,
            argument,
        })
    }

    /// The number of fields of a map.
    #[inline]
    pub(super) fn map(&mut self) -> Result<u64, Fault> {
        self.length_of(MAP)
    }

    /// The number of elements of an array.
    #[inline]
    pub(super) fn array(&mut self) -> Result<u64, Fault> {
        self.length_of(ARRAY)
    }

    #[inline]
    fn length_of(&mut self, major: u8) -> Result<u64, Fault> {
        match self.head()? {
            head if head.major == major => Ok(head.argument),
            _ => Err(Fault::NOT_CBOR),
        }
    }

    /// The bytes of a text or of bytes, behind their head.
    #[inline]
    pub(super) fn bytes(&mut self, length: u64) -> Result<&'b [u8], Fault> {
        let length = usize::try_from(length).map_err(|_| Fault::CUT_OFF)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Fault::CUT_OFF)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    pub(super) fn text(&mut self, length: u64) -> Result<&'b str, Fault> {
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Fault::NOT_UTF8)
    }

    /// Moves past a text, behind its head.
    #[inline]
    pub(super) fn check_text(&mut self, length: u64) -> Result<(), Fault> {
        let bytes = self.bytes(length)?;
        // Most are, and that takes a fraction of the time.
        if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() {
            return Ok(());
        }
        Err(Fault::NOT_UTF8)
    }

    /// An integer of 64 bits.
    pub(super) fn integer(&mut self) -> Result<i64, Fault> {
        self.head()?.integer().ok_or(Fault::NOT_CBOR)
    }

    /// Moves past so many items and all that is in them. Ends, whatever the bytes say: each item
    /// takes a byte.
    #[inline]
    pub(super) fn skip(&mut self, items: u64) -> Result<(), Fault> {
        let mut left = items;
        while left > 0 {
            left -= 1;
            let head = self.head()?;
            match head.major {
                BYTES | TEXT => {
                    self.bytes(head.argument)?;
                }
                ARRAY => left = left.saturating_add(head.argument),
                MAP => left = left.saturating_add(head.argument.saturating_mul(2)),
                TAG => left = left.saturating_add(1),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Head {
    /// The integer that it is, if it is one that fits.
    #[inline]
    pub(super) fn integer(&self) -> Option<i64> {
        let magnitude = i64::try_from(self.argument).ok()?;
        match self.major {
            UNSIGNED => Some(magnitude),
            NEGATIVE => Some(-1 - magnitude),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipping_ends_behind_the_items() {
        // [1, "ab", {1: [null]}], tag 1 of 2, then 7.
        let bytes = [
            0x83, 0x01, 0x62, b'a', b'b', 0xa1, 0x01, 0x81, 0xf6, 0xc1, 0x02, 0x07,
        ];
        let mut reader = Reader::new(&bytes);
        reader.skip(2).unwrap();
        assert_eq!(reader.rest(), [7]);
        for length in 0..bytes.len() - 1 {
            assert!(Reader::new(&bytes[..length]).skip(2).is_err(), "{length}");
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_errors() {
        let lengths: [&[u8]; 5] = [
            &[0x9b, 255, 255, 255, 255, 255, 255, 255, 255], // an array
            &[0xbb, 255, 255, 255, 255, 255, 255, 255, 255], // a map
            &[0x7b, 255, 255, 255, 255, 255, 255, 255, 255], // a text
            &[0x9f, 0xff],                                   // without a length
            &[0x1c],                                         // not a head
        ];
        for bytes in lengths {
            assert!(Reader::new(bytes).skip(1).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn integers_have_64_bits() {
        let integer = |bytes: &[u8]| Reader::new(bytes).integer().ok();
        assert_eq!(integer(&[0x20]), Some(-1));
        let mut bytes = [0x3b, 0x7f, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(integer(&bytes), Some(i64::MIN));
        bytes[1] = 0x80;
        assert_eq!(integer(&bytes), None);
        bytes[0] = 0x1b;
        assert_eq!(integer(&bytes), None);
        assert_eq!(integer(&[0xf6]), None);
    }
}
