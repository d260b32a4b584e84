//! Plain values as JSON, read and written a document at a time.

use std::fmt;
use std::io::{BufRead, Write};

use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::value::RawValue;

use super::Source;
use super::file::Fault;
use crate::value::from_format::Within;
use crate::value::{MAX_DEPTH, Object, Value};

/// Every level of a document may come with a tag, and what is innermost too.
const MAX_LEVELS: usize = 2 * MAX_DEPTH;

struct Written<'v>(&'v Value);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => to.serialize_unit(),
            Value::Bool(value) => to.serialize_bool(*value),
            Value::Int(value) => to.serialize_i64(*value),
            Value::Float(value) => to.serialize_f64(*value),
            Value::String(value) => to.serialize_str(value),
            Value::Array(values) => to.collect_seq(values.iter().map(Written)),
            Value::Object(object) => WrittenObject(object).serialize(to),
            // Not plain: tagged before.
            other => to.collect_str(other),
        }
    }
}

struct WrittenObject<'v>(&'v Object);

impl Serialize for WrittenObject<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0.iter() {
            map.serialize_entry(name, &Written(value))?;
        }
        map.end()
    }
}

pub(super) fn text(value: &Value) -> Result<String, Fault> {
    Ok(serde_json::to_string(&Written(value))?)
}

/// The value that the text is, if it is JSON.
pub(super) fn parse(text: &[u8]) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    // The limit is the reader's own.
    deserializer.disable_recursion_limit();
    let value = Within(MAX_LEVELS).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The fields of a document.
pub(super) fn parse_row(text: &[u8]) -> Result<Object, String> {
    match parse(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(format!(
            "it is not an object but {} ({})",
            other.type_name(),
            other.brief()
        )),
        Err(error) => Err(within_row(&error, text)),
    }
}

/// What is wrong, and where: the places that are told are counted from the start of the row.
fn within_row(error: &serde_json::Error, row: &[u8]) -> String {
    let (line, column) = (error.line(), error.column());
    let reason = error.to_string();
    let Some(what) = reason.strip_suffix(&format!(" at line {line} column {column}")) else {
        return reason;
    };
    match row.contains(&b'\n') {
        true => format!("{what} at line {line} of the row, column {column}"),
        false => format!("{what} at column {column} of the row"),
    }
}

/// All documents as one array, laid out for people.
pub(super) fn write_array(source: &Source<'_>, mut to: impl Write) -> Result<u64, Fault> {
    let mut documents = 0;
    let mut serializer = serde_json::Serializer::pretty(&mut to);
    let mut array = serializer.serialize_seq(None)?;
    for document in source.documents()? {
        array.serialize_element(&WrittenObject(&source.chosen(document?)))?;
        documents += 1;
    }
    SerializeSeq::end(array)?;
    to.write_all(b"\n")?;
    Ok(documents)
}

/// Each document on a line.
pub(super) fn write_lines(source: &Source<'_>, mut to: impl Write) -> Result<u64, Fault> {
    let mut documents = 0;
    for document in source.documents()? {
        serde_json::to_writer(&mut to, &WrittenObject(&source.chosen(document?)))?;
        to.write_all(b"\n")?;
        documents += 1;
    }
    Ok(documents)
}

/// Gives a row's number and its text.
pub(super) type TakeRow<'t> = dyn FnMut(u64, &[u8]) -> Result<(), Fault> + 't;

/// The elements of an array, one by one. Only what is not JSON at all ends it: the values of a row
/// are the taker's to judge.
pub(super) fn read_array(mut from: impl BufRead, take: &mut TakeRow<'_>) -> Result<(), Fault> {
    skip_mark(&mut from)?;
    let mut fault = None;
    let mut deserializer = serde_json::Deserializer::from_reader(from);
    let rows = Rows {
        take,
        fault: &mut fault,
    };
    let read = deserializer.deserialize_seq(rows);
    match (fault, read) {
        (Some(fault), _) => Err(fault),
        (None, read) => Ok(read.and_then(|()| deserializer.end())?),
    }
}

struct Rows<'r, 't> {
    take: &'r mut TakeRow<'t>,
    fault: &'r mut Option<Fault>,
}

impl<'de> Visitor<'de> for Rows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of documents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(row) = from.next_element::<Box<RawValue>>()? {
            number += 1;
            if let Err(fault) = (self.take)(number, row.get().as_bytes()) {
                *self.fault = Some(fault);
                return Err(de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// The lines, one by one, numbered with the empty ones.
pub(super) fn read_lines(mut from: impl BufRead, take: &mut TakeRow<'_>) -> Result<(), Fault> {
    skip_mark(&mut from)?;
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        number += 1;
        let row = line.trim_ascii();
        if !row.is_empty() {
            take(number, row)?;
        }
    }
}

/// Some programs begin a file of text with the three bytes that say it is UTF-8.
fn skip_mark(from: &mut impl BufRead) -> Result<(), Fault> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    // A reader that gives less than three bytes at first is not such a file.
    if from.fill_buf()?.starts_with(MARK) {
        let mut mark = [0; MARK.len()];
        from.read_exact(&mut mark)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_and_whole_numbers_stay_what_they_are() {
        for (written, name) in [
            ("2", "Int"),
            ("2.0", "Float"),
            ("-0.0", "Float"),
            ("1e16", "Float"),
            ("9223372036854775807", "Int"),
            ("9223372036854775808", "Float"),
            ("5e-324", "Float"),
            ("0.1", "Float"),
        ] {
            let value = parse(written.as_bytes()).unwrap();
            assert_eq!(value.type_name(), name, "{written}");
            let again = parse(text(&value).unwrap().as_bytes()).unwrap();
            assert_eq!((again.type_name(), &again), (name, &value));
        }
        assert!(parse(b"9223372036854775809").is_err());
        assert!(parse(b"1e400").is_err());
    }

    #[test]
    fn what_is_nested_too_deep_is_refused() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parse(nested(MAX_LEVELS).as_bytes()).is_ok());
        assert!(parse(nested(MAX_LEVELS + 1).as_bytes()).is_err());
        assert!(parse(nested(1_000_000).as_bytes()).is_err());
        let mut rows = 0;
        let array = format!("[{}, 5]", nested(1_000_000));
        let mut take = |_, _: &[u8]| {
            rows += 1;
            Ok(())
        };
        read_array(array.as_bytes(), &mut take).unwrap();
        assert_eq!(rows, 2);
    }
}
