//! A whole database as lines of text, and back. The form is described in `README.md`.
//!
//! # Invariants
//!
//! 1. Both directions stream: memory is one value, and a batch of entries.
//! 2. A dump that is not complete, or was changed, is refused: its last line has the counts and a
//!    checksum of all before it.
//! 3. What is wrong with a line is told with its number.

use std::io::{BufRead, Read, Write};
use std::sync::Arc;

use aurora::anatomy::{Rebuild, crc32c};
use aurora::storage::Storage;
use serde::Serialize;

use crate::entries::Database;
use crate::{Failure, show};

/// Version of the form.
pub const VERSION: u32 = 1;
/// Bytes of a value that are written on one line.
const PIECE_BYTES: usize = 16 << 10;
/// No line is longer: a key of the longest kind and a piece, each byte escaped, and some more.
const LONGEST_LINE: usize = 1 << 20;
/// The longest value.
const LONGEST_VALUE: usize = u32::MAX as usize;
const EMPTY: &[u8] = b"-";

/// What was written or read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Trees.
    pub trees: u64,
    /// Entries of all of them.
    pub entries: u64,
}

/// Bytes as they stand in a line: printable ASCII as it is, other bytes and the backslash as a
/// backslash and two hexadecimal digits; nothing at all as `-`.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if bytes.is_empty() {
        out.extend_from_slice(EMPTY);
        return;
    }
    let is_dash = bytes == EMPTY;
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'\\' && !is_dash {
            out.push(byte);
            continue;
        }
        let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or(b'0');
        out.extend_from_slice(&[b'\\', digit(byte >> 4), digit(byte & 15)]);
    }
}

/// The bytes that stand there.
pub fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    if text == EMPTY {
        return Ok(Vec::new());
    }
    if text.is_empty() {
        return Err(String::from("bytes are missing; no bytes are written as -"));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            if !byte.is_ascii_graphic() {
                return Err(format!("the byte {byte:#04x} has to be escaped"));
            }
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let escaped = match rest {
            [high, low, ..] => digit(*high).zip(digit(*low)),
            _ => None,
        };
        let Some((high, low)) = escaped else {
            return Err(String::from(
                "two hexadecimal digits have to follow a backslash",
            ));
        };
        bytes.push((high << 4 | low) as u8);
        rest = rest.get(2..).unwrap_or_default();
    }
    Ok(bytes)
}

/// Writes lines, and sums them up.
struct Lines<'w> {
    out: &'w mut dyn Write,
    checksum: u32,
    line: Vec<u8>,
}

impl Lines<'_> {
    fn write(&mut self, word: &str, parts: &[&[u8]]) -> Result<(), Failure> {
        self.line.clear();
        self.line.extend_from_slice(word.as_bytes());
        for part in parts {
            self.line.push(b' ');
            escape(part, &mut self.line);
        }
        self.end()
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.line.push(b'\n');
        self.checksum = crc32c(self.checksum, &self.line);
        let written = self.out.write_all(&self.line);
        written.map_err(|error| Failure(format!("the dump cannot be written: {error}")))
    }
}

/// Writes all of a database as text.
pub fn dump(database: &Database, out: &mut dyn Write) -> Result<Counts, Failure> {
    let mut lines = Lines {
        out,
        checksum: 0,
        line: Vec::new(),
    };
    let mut counts = Counts::default();
    lines.write(&format!("aurora-dump {VERSION}"), &[])?;
    lines.write(&format!("page-size {}", database.page_size()), &[])?;
    for tree in database.trees() {
        counts.trees += 1;
        lines.write("tree", &[tree.as_bytes()])?;
        let mut entries = database.entries(tree);
        while let Some((key, content)) = entries.next_entry()? {
            counts.entries += 1;
            let value = content.read()?;
            let (first, mut rest) = cut(&value);
            lines.write(":", &[&key, first])?;
            while !rest.is_empty() {
                let (piece, after) = cut(rest);
                lines.write("+", &[piece])?;
                rest = after;
            }
        }
    }
    let (trees, entries, checksum) = (counts.trees, counts.entries, lines.checksum);
    lines.write(&format!("end {trees} {entries} {checksum:08x}"), &[])?;
    let flushed = out.flush();
    flushed.map_err(|error| Failure(format!("the dump cannot be written: {error}")))?;
    Ok(counts)
}

fn cut(value: &[u8]) -> (&[u8], &[u8]) {
    value.split_at(value.len().min(PIECE_BYTES))
}

/// Reads lines, with their numbers.
struct Input<'r> {
    from: &'r mut dyn BufRead,
    number: u64,
    /// Of the lines before this one.
    checksum: u32,
    line: Vec<u8>,
}

impl Input<'_> {
    fn wrong(&self, what: impl std::fmt::Display) -> Failure {
        Failure(format!("line {}: {what}", self.number))
    }

    /// The next line without its end. `None`: there is no more.
    fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        self.checksum = crc32c(self.checksum, &self.line);
        self.line.clear();
        self.number += 1;
        let mut limited = (&mut *self.from).take(LONGEST_LINE as u64 + 1);
        let read = limited.read_until(b'\n', &mut self.line);
        if let Err(error) = read {
            return Err(self.wrong(error));
        }
        if self.line.len() > LONGEST_LINE {
            return Err(self.wrong(format!("it is longer than {LONGEST_LINE} bytes")));
        }
        if self.line.is_empty() {
            return Ok(None);
        }
        match self.line.split_last() {
            Some((b'\n', line)) => Ok(Some(line)),
            _ => Err(self.wrong("the dump ends within it: it is not complete")),
        }
    }
}

/// An entry that is being read.
#[derive(Default)]
struct Pending {
    key: Vec<u8>,
    value: Vec<u8>,
    line: u64,
}

struct Load<'r> {
    input: Input<'r>,
    rebuild: Option<Rebuild>,
    tree: Option<String>,
    pending: Option<Pending>,
    counts: Counts,
}

/// Makes a database in an empty storage out of a dump. `page_size`: another one than the dump
/// names.
pub fn load(
    from: &mut dyn BufRead,
    to: Arc<dyn Storage>,
    page_size: Option<u32>,
) -> Result<Counts, Failure> {
    let input = Input {
        from,
        number: 0,
        checksum: 0,
        line: Vec::new(),
    };
    let mut load = Load {
        input,
        rebuild: None,
        tree: None,
        pending: None,
        counts: Counts::default(),
    };
    load.begin(to, page_size)?;
    while !load.line()? {}
    if load.input.next()?.is_some() {
        return Err(load.input.wrong("there is something behind the last line"));
    }
    if let Some(rebuild) = load.rebuild {
        rebuild.finish().map_err(crate::salvage::failed)?;
    }
    Ok(load.counts)
}

impl Load<'_> {
    fn begin(&mut self, to: Arc<dyn Storage>, page_size: Option<u32>) -> Result<(), Failure> {
        let first = self.input.next()?.map(<[u8]>::to_vec).unwrap_or_default();
        let version = first.strip_prefix(b"aurora-dump ").and_then(number);
        match version {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => {
                let what = format!("a dump of version {version}; this program reads {VERSION}");
                return Err(self.input.wrong(what));
            }
            None => {
                return Err(self
                    .input
                    .wrong("this is no dump: it has to begin `aurora-dump 1`"));
            }
        }
        let second = self.input.next()?.map(<[u8]>::to_vec).unwrap_or_default();
        let named = second.strip_prefix(b"page-size ").and_then(number);
        let named = named.and_then(|size| u32::try_from(size).ok());
        let Some(named) = named else {
            return Err(self.input.wrong("`page-size` and a number are missing"));
        };
        let created = Rebuild::create(to, page_size.unwrap_or(named), None);
        self.rebuild = Some(created.map_err(|error| self.input.wrong(error))?);
        Ok(())
    }

    /// Reads a line. `true`: it was the last.
    fn line(&mut self) -> Result<bool, Failure> {
        let Some(line) = self.input.next()? else {
            return Err(self
                .input
                .wrong("the dump is not complete: its last line is missing"));
        };
        let space = line.iter().position(|byte| *byte == b' ');
        let space = space.unwrap_or(line.len());
        let word = line.get(..space).unwrap_or_default().to_vec();
        let rest = line.get(space + 1..).unwrap_or_default().to_vec();
        match word.as_slice() {
            b":" => self.entry(&rest)?,
            b"+" => self.more(&rest)?,
            b"tree" => self.tree(&rest)?,
            b"end" => {
                self.put()?;
                self.end(&rest)?;
                return Ok(true);
            }
            _ => {
                let word = show::brief(&word, 32);
                let what = format!("it has to begin with `tree`, `:`, `+` or `end`, not {word}");
                return Err(self.input.wrong(what));
            }
        }
        Ok(false)
    }

    fn bytes(&self, text: &[u8]) -> Result<Vec<u8>, Failure> {
        unescape(text).map_err(|what| self.input.wrong(what))
    }

    fn tree(&mut self, name: &[u8]) -> Result<(), Failure> {
        self.put()?;
        let name = String::from_utf8(self.bytes(name)?);
        let name = name.map_err(|_| self.input.wrong("the name of a tree is UTF-8"))?;
        let Some(rebuild) = &mut self.rebuild else {
            return Ok(());
        };
        let input = &self.input;
        if rebuild.has(&name).map_err(|error| input.wrong(error))? {
            return Err(input.wrong(format!("the tree {name:?} is there twice")));
        }
        rebuild
            .create_tree(&name)
            .map_err(|error| input.wrong(error))?;
        self.counts.trees += 1;
        self.tree = Some(name);
        Ok(())
    }

    fn entry(&mut self, rest: &[u8]) -> Result<(), Failure> {
        self.put()?;
        let Some(space) = rest.iter().position(|byte| *byte == b' ') else {
            return Err(self.input.wrong("an entry is a key and a value"));
        };
        let (key, value) = rest.split_at(space);
        self.pending = Some(Pending {
            key: self.bytes(key)?,
            value: self.bytes(value.get(1..).unwrap_or_default())?,
            line: self.input.number,
        });
        Ok(())
    }

    fn more(&mut self, rest: &[u8]) -> Result<(), Failure> {
        let piece = self.bytes(rest)?;
        let Some(pending) = &mut self.pending else {
            return Err(self.input.wrong("there is no value that it could go on"));
        };
        if pending.value.len().saturating_add(piece.len()) > LONGEST_VALUE {
            return Err(self.input.wrong("the value is longer than values can be"));
        }
        pending.value.extend_from_slice(&piece);
        Ok(())
    }

    /// Stores the entry that was read to its end.
    fn put(&mut self) -> Result<(), Failure> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let wrong = |what: String| Failure(format!("line {}: {what}", pending.line));
        let (Some(tree), Some(rebuild)) = (&self.tree, &mut self.rebuild) else {
            return Err(wrong(String::from("an entry has to follow its `tree`")));
        };
        let was_there = rebuild.put(tree, &pending.key, &pending.value);
        if was_there.map_err(|error| wrong(error.to_string()))? {
            let key = show::brief(&pending.key, 64);
            return Err(wrong(format!("the key {key} is there twice in {tree:?}")));
        }
        self.counts.entries += 1;
        Ok(())
    }

    fn end(&self, rest: &[u8]) -> Result<(), Failure> {
        let checksum = self.input.checksum;
        let Counts { trees, entries } = self.counts;
        let expected = format!("{trees} {entries} {checksum:08x}");
        if rest == expected.as_bytes() {
            return Ok(());
        }
        let found = show::brief(rest, 64);
        let what = format!("the dump was cut or changed: expected {expected:?}, found {found}");
        Err(self.input.wrong(what))
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}
