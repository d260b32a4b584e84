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

/// For so many elements room is made at once. For more, when they are there.
pub(super) const TRUSTED: u64 = 64;

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

/// How many bytes an item has that is all head, by its first byte: integers that fit in 64 bits with
/// a sign, whatever they are; truth values, null and floats of 64 bits. 0: another item.
const WHOLE_BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut first = 0;
    while first < 256 {
        bytes[first] = match first {
            0x00..0x18 | 0x20..0x38 => 1,
            0x18 | 0x38 => 2,
            0x19 | 0x39 => 3,
            0x1a | 0x3a => 5,
            0xf4..=0xf6 => 1,
            0xfb => 9,
            _ => 0,
        };
        first += 1;
    }
    bytes
};

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
        if is_ascii(bytes) || std::str::from_utf8(bytes).is_ok() {
            return Ok(());
        }
        Err(Fault::NOT_UTF8)
    }

    /// Moves past an item that is all head (a number, a truth value, null) and that documents have.
    /// False: it is another, and nothing has moved.
    #[inline]
    pub(super) fn skip_whole(&mut self) -> bool {
        let Some(first) = self.rest.first() else {
            return false;
        };
        let length = usize::from(WHOLE_BYTES[usize::from(*first)]);
        match self.rest.split_at_checked(length) {
            Some((_, rest)) if length > 0 => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Moves past a number below a bound that has no byte but its head. False: it is another item,
    /// and nothing has moved.
    #[inline]
    pub(super) fn skip_below(&mut self, bound: usize) -> bool {
        match self.rest.split_first() {
            Some((first @ 0..24, rest)) if usize::from(*first) < bound => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Moves past the next bytes if they are as `fits` wants them.
    #[inline]
    pub(super) fn skip_chunk<const N: usize>(&mut self, fits: impl Fn(&[u8; N]) -> bool) -> bool {
        match self.rest.split_first_chunk::<N>() {
            Some((chunk, rest)) if fits(chunk) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// An integer of 64 bits.
    pub(super) fn integer(&mut self) -> Result<i64, Fault> {
        self.head()?.integer().ok_or(Fault::NOT_CBOR)
    }

    /// The bytes of the next item with all that is in it.
    #[inline]
    pub(super) fn item(&mut self) -> Option<&'b [u8]> {
        let start = self.rest;
        self.skip(1).ok()?;
        start.get(..start.len().checked_sub(self.rest.len())?)
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

/// Like `[u8]::is_ascii`, in fewer steps for the short texts of documents.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let seen = words.fold(0, |seen, bits| seen | bits);
    let last = match bytes.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last),
        None => { rest.iter() }.fold(0, |seen, byte| seen | u64::from(*byte)),
    };
    (seen | last) & HIGH_BITS == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_is_all_head_is_as_long_as_the_reader_says() {
        for first in 0..=255u8 {
            let mut bytes = [0; 10];
            bytes[0] = first;
            let (mut quick, mut whole) = (Reader::new(&bytes), Reader::new(&bytes));
            let was_quick = quick.skip_whole();
            let head = whole.head();
            let is_wanted = head.is_ok_and(|head| match head.major {
                // Eight bytes of a number may be more than fit.
                UNSIGNED | NEGATIVE => head.info != 27,
                7 => matches!(head.info, FALSE | TRUE | NULL | FLOAT),
                _ => false,
            });
            assert_eq!(was_quick, is_wanted, "{first:#x}");
            if was_quick {
                assert_eq!(quick.rest(), whole.rest(), "{first:#x}");
                let length = bytes.len() - quick.rest().len();
                assert!(
                    !Reader::new(&bytes[..length - 1]).skip_whole(),
                    "{first:#x}"
                );
            }
        }
    }

    #[test]
    fn ascii_is_what_the_library_says() {
        for length in 0..40 {
            let mut bytes = vec![b'a'; length];
            assert!(is_ascii(&bytes));
            for at in 0..length {
                bytes[at] = 0x80;
                assert!(!is_ascii(&bytes), "{at} of {length}");
                bytes[at] = 0x7f;
            }
        }
    }

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
