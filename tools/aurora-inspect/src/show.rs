//! Bytes for people: as text where they are text, as CBOR where they are that, else as hex.
//!
//! # Invariants
//!
//! 1. What is shown is bounded, whatever the length.

use aurora::anatomy::{DueRecord, IndexRecord, KeyRecord, decode_id};

/// How many bytes of a key or value are shown where nothing else is asked for.
pub const BRIEF_BYTES: usize = 48;
/// Deeper CBOR than documents can have is not shown as such.
const MAX_DEPTH: usize = 80;

/// Printable text in quotes, or hex after `0x`; cut at so many bytes.
pub fn brief(bytes: &[u8], limit: usize) -> String {
    let cut = bytes.get(..limit).unwrap_or(bytes);
    let more = if cut.len() < bytes.len() { "…" } else { "" };
    let text = match std::str::from_utf8(cut) {
        Ok(text) => Some(text),
        // A character may be cut in two.
        Err(error) if cut.len() < bytes.len() && error.error_len().is_none() => cut
            .get(..error.valid_up_to())
            .and_then(|whole| std::str::from_utf8(whole).ok()),
        Err(_) => None,
    };
    match text {
        Some(text) if text.chars().all(|c| !c.is_control()) => format!("{text:?}{more}"),
        _ => format!("0x{}{more}", hex(cut)),
    }
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key of the tree, decoded as far as the tree's name says how.
pub fn key(tree: &str, bytes: &[u8], limit: usize) -> String {
    let decoded = if tree == "aurora/expiry" {
        due(bytes, limit)
    } else if tree == "aurora/chunks" {
        chunk(bytes)
    } else if tree == "aurora/staged" {
        let number = bytes.first_chunk().map(|n| u64::from_be_bytes(*n));
        number
            .filter(|_| bytes.len() == 8)
            .map(|n| format!("blob {n}"))
    } else if tree.starts_with("aurora/documents/") {
        decode_id(bytes).map(|id| id.to_string())
    } else if tree.starts_with("aurora/index/") {
        let split = IndexRecord::split(bytes);
        split.and_then(|(values, id)| Some(format!("0x{} of {}", hex(values), decode_id(id)?)))
    } else {
        None
    };
    decoded.unwrap_or_else(|| brief(bytes, limit))
}

fn due(bytes: &[u8], limit: usize) -> Option<String> {
    let due = DueRecord::decode(bytes).ok()?;
    let name = match due.is_document {
        false => brief(due.name, limit),
        true => {
            let (collection, id) = due.name.split_first_chunk::<4>()?;
            let id = decode_id(id)?;
            format!(
                "document {id} of collection {}",
                u32::from_be_bytes(*collection)
            )
        }
    };
    Some(format!("{} ms: {name}", due.expiry_ms))
}

fn chunk(bytes: &[u8]) -> Option<String> {
    let (number, index) = bytes.split_first_chunk::<8>()?;
    let index: [u8; 4] = index.try_into().ok()?;
    let (number, index) = (u64::from_be_bytes(*number), u32::from_be_bytes(index));
    Some(format!("blob {number}, chunk {index}"))
}

/// A value of the tree, decoded as far as the tree's name says how.
pub fn value(tree: &str, key: &[u8], bytes: &[u8], limit: usize) -> String {
    let decoded = if tree == "aurora/keys" {
        KeyRecord::decode(bytes).ok().map(|record| {
            let kind = if record.is_blob { "blob " } else { "" };
            let until = record.expiry_ms.map(|ms| format!("until {ms} ms "));
            let payload = brief(record.payload, limit);
            format!("{kind}{}{payload}", until.unwrap_or_default())
        })
    } else if tree == "aurora/collections" || tree.starts_with("aurora/documents/") {
        cbor(bytes)
    } else if tree == "aurora/meta" {
        number(key, bytes)
    } else if tree == crate::survey::CATALOG {
        aurora::anatomy::decode_catalog_entry(bytes).map(|(number, root)| {
            format!(
                "tree {number}: root page {}, level {}, {} entries",
                root.at.page, root.level, root.count
            )
        })
    } else {
        None
    };
    match decoded {
        Some(text) if text.chars().count() <= limit.saturating_mul(4) => text,
        Some(text) => text
            .chars()
            .take(limit.saturating_mul(4))
            .chain(['…'])
            .collect(),
        None => brief(bytes, limit),
    }
}

fn number(_key: &[u8], bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => Some(u32::from_le_bytes(bytes.try_into().ok()?).to_string()),
        8 => Some(u64::from_le_bytes(bytes.try_into().ok()?).to_string()),
        _ => None,
    }
}

/// CBOR in diagnostic notation, if the bytes are one value of it and nothing else.
pub fn cbor(bytes: &[u8]) -> Option<String> {
    let mut reader = Cbor { rest: bytes };
    let mut text = String::new();
    reader.value(&mut text, MAX_DEPTH)?;
    reader.rest.is_empty().then_some(text)
}

struct Cbor<'a> {
    rest: &'a [u8],
}

impl<'a> Cbor<'a> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(head)
    }

    fn head(&mut self) -> Option<(u8, u8, u64)> {
        let first = *self.take(1)?.first()?;
        let (major, info) = (first >> 5, first & 31);
        let argument = match info {
            0..=23 => u64::from(info),
            24..=27 => {
                let bytes = self.take(1 << (info - 24))?;
                bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            }
            _ => return None,
        };
        Some((major, info, argument))
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let (major, info, argument) = self.head()?;
        match major {
            0 => *out += &argument.to_string(),
            1 => *out += &(-1 - i128::from(argument)).to_string(),
            2 => *out += &format!("h'{}'", hex(self.take(argument)?)),
            3 => *out += &format!("{:?}", std::str::from_utf8(self.take(argument)?).ok()?),
            4 => {
                out.push('[');
                for i in 0..argument {
                    *out += if i > 0 { ", " } else { "" };
                    self.value(out, depth)?;
                }
                out.push(']');
            }
            5 => {
                out.push('{');
                for i in 0..argument {
                    *out += if i > 0 { ", " } else { "" };
                    self.value(out, depth)?;
                    *out += ": ";
                    self.value(out, depth)?;
                }
                out.push('}');
            }
            6 => {
                *out += &format!("{argument}(");
                self.value(out, depth)?;
                out.push(')');
            }
            _ => *out += &simple(info, argument)?,
        }
        Some(())
    }
}

fn simple(info: u8, argument: u64) -> Option<String> {
    Some(match info {
        20 => "false".to_string(),
        21 => "true".to_string(),
        22 => "null".to_string(),
        26 => f32::from_bits(u32::try_from(argument).ok()?).to_string(),
        27 => format!("{:?}", f64::from_bits(argument)),
        _ => format!("simple({argument})"),
    })
}

/// A key as a person types it: text, or hex digits after `0x`.
pub fn parse_key(text: &str) -> Result<Vec<u8>, crate::Failure> {
    let Some(digits) = text.strip_prefix("0x") else {
        return Ok(text.as_bytes().to_vec());
    };
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16)
            .ok()
            .filter(|_| pair.len() == 2 && !pair.starts_with('+'))
    };
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
    bytes.ok_or_else(|| crate::Failure(format!("{text:?} is not pairs of hexadecimal digits")))
}
