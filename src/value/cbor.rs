//! Documents as CBOR (RFC 8949), as `format-spec.md` describes them.
//!
//! A document is a map. Fields that the collection knows by name have small numbers as keys, so
//! that names are stored once for a collection; others have their names.

use std::collections::HashMap;
use std::sync::Arc;

use minicbor::Encoder;
use minicbor::data::Tag;

use super::order::split_time;
use super::raw::{Fault, check_value, read_value};
use super::reader::{self, Reader};
use super::{MAX_DEPTH, Object, Timestamp, Value};

/// RFC 8943 and RFC 9581: a UUID, whole seconds since 1970, and seconds with nanoseconds.
pub(super) const TAG_UUID: u64 = 37;
pub(super) const TAG_SECONDS: u64 = 1;
pub(super) const TAG_EXTENDED_TIME: u64 = 1001;
pub(super) const KEY_SECONDS: i64 = 1;
pub(super) const KEY_NANOSECONDS: i64 = -9;

/// The names of a collection's fields by their numbers. A number never gets another name.
#[derive(Debug, Clone, Default)]
pub(crate) struct FieldNames {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl FieldNames {
    pub(crate) fn new(names: impl IntoIterator<Item = Arc<str>>) -> Self {
        let names: Vec<Arc<str>> = names.into_iter().collect();
        let numbers = names.iter().cloned().zip(0..).collect();
        FieldNames { names, numbers }
    }

    pub(crate) fn name(&self, number: u64) -> Option<&Arc<str>> {
        self.names.get(usize::try_from(number).ok()?)
    }

    /// Like [`number`](Self::number). Fields mostly come in the order of the schema: looked at first.
    fn number_near(&self, name: &str, position: usize) -> Option<u32> {
        match self.names.get(position) {
            Some(near) if **near == *name => u32::try_from(position).ok(),
            _ => self.number(name),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }
}

/// The bytes of a document.
pub(crate) fn encode_fields(fields: &Object, names: &FieldNames) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::with_capacity(64));
    // Writing to a vector cannot fail.
    let _ = encoder.map(fields.len() as u64);
    for (position, (name, value)) in fields.iter().enumerate() {
        let _ = match names.number_near(name, position) {
            Some(number) => encoder.u32(number),
            None => encoder.str(name),
        };
        encode_value(value, &mut encoder);
    }
    encoder.into_writer()
}

/// Invariant 3 of the module holds because values are checked before they are stored.
fn encode_value(value: &Value, encoder: &mut Encoder<Vec<u8>>) {
    let _ = match value {
        Value::Null => encoder.null(),
        Value::Bool(value) => encoder.bool(*value),
        Value::Int(value) => encoder.i64(*value),
        Value::Float(value) => encoder.f64(*value),
        Value::String(value) => encoder.str(value),
        Value::Bytes(value) => encoder.bytes(value),
        Value::Uuid(value) => {
            let _ = encoder.tag(Tag::new(TAG_UUID));
            encoder.bytes(value.as_bytes())
        }
        Value::DateTime(time) => {
            encode_time(*time, encoder);
            return;
        }
        Value::Array(values) => {
            let _ = encoder.array(values.len() as u64);
            values.iter().for_each(|value| encode_value(value, encoder));
            return;
        }
        Value::Object(object) => {
            let _ = encoder.map(object.len() as u64);
            for (name, value) in object.iter() {
                let _ = encoder.str(name);
                encode_value(value, encoder);
            }
            return;
        }
    };
}

fn encode_time(time: Timestamp, encoder: &mut Encoder<Vec<u8>>) {
    let (second, within) = split_time(time);
    if within == 0 {
        let _ = encoder.tag(Tag::new(TAG_SECONDS));
        let _ = encoder.i64(second);
        return;
    }
    let _ = encoder.tag(Tag::new(TAG_EXTENDED_TIME));
    let _ = encoder.map(2);
    let _ = encoder.i64(KEY_SECONDS);
    let _ = encoder.i64(second);
    let _ = encoder.i64(KEY_NANOSECONDS);
    let _ = encoder.u32(within);
}

/// The fields of a document.
pub(crate) fn decode_document(bytes: &[u8], names: &FieldNames) -> Result<Object, Fault> {
    let mut reader = Reader::new(bytes);
    let fields = reader.map()?;
    let mut object = Object::with_capacity(fields.min(reader::TRUSTED) as usize);
    for _ in 0..fields {
        let head = reader.head()?;
        let name = match head.major {
            reader::UNSIGNED => names
                .name(head.argument)
                .ok_or(Fault::UNKNOWN_NUMBER)?
                .clone(),
            reader::TEXT => Arc::from(reader.text(head.argument)?),
            _ => return Err(Fault::BAD_KEY),
        };
        object.push(name, read_value(&mut reader, MAX_DEPTH)?);
    }
    Ok(object)
}

/// The fields of a document as they are stored. They are known to decode.
#[derive(Debug, Clone)]
pub(crate) struct EncodedFields {
    bytes: Box<[u8]>,
    names: Arc<FieldNames>,
}

impl EncodedFields {
    /// Takes bytes that [`decode_document`] takes, and refuses all others.
    pub(crate) fn new(bytes: &[u8], names: &Arc<FieldNames>) -> Result<Self, Fault> {
        check_document(bytes, names)?;
        Ok(EncodedFields {
            bytes: bytes.into(),
            names: names.clone(),
        })
    }

    /// The number of bytes and of fields.
    pub(super) fn size(&self) -> (usize, usize) {
        let fields = Reader::new(&self.bytes).map().unwrap_or(0);
        (self.bytes.len(), fields as usize)
    }

    /// The fields.
    pub(super) fn decode(&self) -> Object {
        // They were checked.
        decode_document(&self.bytes, &self.names).unwrap_or_default()
    }
}

fn check_name(reader: &mut Reader<'_>, names: &FieldNames) -> Result<(), Fault> {
    let head = reader.head()?;
    match head.major {
        reader::UNSIGNED if names.name(head.argument).is_some() => Ok(()),
        reader::UNSIGNED => Err(Fault::UNKNOWN_NUMBER),
        reader::TEXT => reader.check_text(head.argument),
        _ => Err(Fault::BAD_KEY),
    }
}

fn check_document(bytes: &[u8], names: &FieldNames) -> Result<(), Fault> {
    let mut reader = Reader::new(bytes);
    for _ in 0..reader.map()? {
        if !reader.skip_below(names.names.len()) {
            check_name(&mut reader, names)?;
        }
        check_value(&mut reader, MAX_DEPTH)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::order::tests::any_value;
    use super::super::raw::{Comparand, Path, Raw};
    use super::*;
    use proptest::prelude::*;

    /// Equal, and of the same types all the way down, with the sign of zero.
    fn is_same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Float(a), Value::Float(b)) => {
                a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
            }
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
            }
            (Value::Object(a), Value::Object(b)) => {
                let names = a.iter().zip(b.iter());
                a.len() == b.len() && { names }.all(|(a, b)| a.0 == b.0 && is_same(a.1, b.1))
            }
            _ => a.type_name() == b.type_name() && a == b,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn documents_read_back(values in proptest::collection::vec(any_value(), 0..5)) {
            let names = FieldNames::new(["f0", "f2", "f3"].map(Arc::from));
            let fields: Object =
                values.iter().enumerate().map(|(i, v)| (format!("f{i}"), v.clone())).collect();
            let bytes = encode_fields(&fields, &names);
            let read = decode_document(&bytes, &names).unwrap();
            prop_assert!(is_same(&Value::Object(fields.clone()), &Value::Object(read)));
            for (i, value) in values.iter().enumerate() {
                let path = Path::new(&format!("f{i}"), &names);
                let raw = path.find(&bytes).unwrap();
                prop_assert!(is_same(&raw.to_value(MAX_DEPTH).unwrap(), value));
                for other in &values {
                    prop_assert_eq!(raw.compare(other.operand()).unwrap(), value.cmp(other));
                }
            }
        }

        #[test]
        fn damaged_documents_are_errors(
            value in any_value(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let names = FieldNames::new(["a"].map(Arc::from));
            let mut bytes = encode_fields(&Object::from([("a", value)]), &names);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // Whatever comes out, nothing panics and nothing runs away.
            let _ = Path::new("a.b.c", &names).find(&bytes);
            // What passes the check decodes, and the other way round.
            for bytes in [&bytes[..], &bytes[..at]] {
                let decoded = decode_document(bytes, &names);
                prop_assert_eq!(check_document(bytes, &names).err(), decoded.err());
            }
        }
    }

    /// The check has short cuts of its own for what is usual.
    #[test]
    fn each_byte_of_a_usual_document_is_checked_as_it_is_decoded() {
        let names = FieldNames::new(["a", "b", "c"].map(Arc::from));
        let time = Timestamp::new(1_700_000_000, 999_999_999).unwrap();
        let text = Value::String("a text of some length".to_string());
        let fields = [
            ("a", Value::DateTime(time)),
            ("b", text),
            ("c", 70_000.into()),
        ];
        let bytes = encode_fields(&Object::from(fields), &names);
        for at in 0..bytes.len() {
            for byte in 0..=255 {
                let mut bytes = bytes.clone();
                bytes[at] = byte;
                let decoded = decode_document(&bytes, &names).err();
                let checked = check_document(&bytes, &names).err();
                assert_eq!(checked, decoded, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let names = FieldNames::default();
        let mut bytes = vec![0xa1, 0x61, b'a'];
        bytes.extend([0x81; 100_000]);
        bytes.push(0);
        assert!(decode_document(&bytes, &names).is_err());
        assert!(check_document(&bytes, &names).is_err());
    }

    #[test]
    fn paths_go_through_objects_and_prefer_whole_names() {
        let names = FieldNames::new(["address".into()]);
        let fields = Object::from([
            ("address", Value::Object([("city", "Zürich")].into())),
            ("a.b", Value::from(1)),
            ("a", Value::Object([("b", 2)].into())),
        ]);
        let bytes = encode_fields(&fields, &names);
        let find = |path: &str| {
            let raw = Path::new(path, &names).find(&bytes).unwrap();
            (!matches!(raw, Raw::Missing)).then(|| raw.to_value(MAX_DEPTH).unwrap())
        };
        assert_eq!(find("address.city"), Some("Zürich".into()));
        assert_eq!(find("a.b"), Some(1.into()));
        for path in [
            "address.city",
            "a.b",
            "a",
            "address.zip",
            "x",
            "x.y",
            "a.b.c",
        ] {
            assert_eq!(find(path).as_ref(), fields.get_path(path), "{path}");
        }
    }
}
