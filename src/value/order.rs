//! The total order of values, and its encoding as bytes that sort the same way.
//!
//! `format-spec.md` describes the bytes. Every encoding is free of prefixes: none is the beginning
//! of another, so encodings can be put one after the other and still sort as lists do.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use super::{Fault, MAX_DEPTH, Object, Raw, Value};

/// First byte of the encoding of each type. Zero ends arrays and objects.
pub(super) const MISSING: u8 = 0x08;
const NULL: u8 = 0x10;
const BOOL: u8 = 0x20;
const NUMBER: u8 = 0x30;
const STRING: u8 = 0x40;
const BYTES: u8 = 0x50;
const UUID: u8 = 0x60;
const TIME: u8 = 0x70;
const ARRAY: u8 = 0x80;
const OBJECT: u8 = 0x90;
const END: u8 = 0;

/// Floats from here on have gaps in which more than one integer lies.
const EXACT_LIMIT: f64 = 9_007_199_254_740_992.0; // 2^53

/// The first byte of the encoding: equal for values of one type class.
pub(crate) fn key_class(value: &Value) -> u8 {
    match value {
        Value::Null => NULL,
        Value::Bool(_) => BOOL,
        Value::Int(_) | Value::Float(_) => NUMBER,
        Value::String(_) => STRING,
        Value::Bytes(_) => BYTES,
        Value::Uuid(_) => UUID,
        Value::DateTime(_) => TIME,
        Value::Array(_) => ARRAY,
        Value::Object(_) => OBJECT,
    }
}

/// Compares any two values.
pub(crate) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => compare_floats(*a, *b),
        (Value::Int(a), Value::Float(b)) => compare_int(*a, *b),
        (Value::Float(a), Value::Int(b)) => compare_int(*b, *a).reverse(),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        (Value::DateTime(a), Value::DateTime(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => a.cmp(b),
        (Value::Object(a), Value::Object(b)) => compare_objects(a, b),
        _ => key_class(a).cmp(&key_class(b)),
    }
}

/// Feeds a hash, equally for values that are equal: a whole number and the float that it is, objects in any order.
pub(super) fn hash<H: Hasher>(value: &Value, state: &mut H) {
    state.write_u8(key_class(value));
    match value {
        Value::Null => {}
        Value::Bool(value) => value.hash(state),
        Value::Int(value) => {
            let (floor, above) = floor_of(*value);
            (sortable(floor), above).hash(state);
        }
        Value::Float(value) => (sortable(*value), 0u16).hash(state),
        Value::String(value) => value.hash(state),
        Value::Bytes(value) => value.hash(state),
        Value::Uuid(value) => value.hash(state),
        Value::DateTime(value) => value.hash(state),
        Value::Array(values) => values.hash(state),
        Value::Object(object) => object.sorted().hash(state),
    }
}

fn compare_objects(a: &Object, b: &Object) -> Ordering {
    a.sorted().cmp(&b.sorted())
}

/// By value; the two zeros are equal, NaN comes last.
pub(super) fn compare_floats(a: f64, b: f64) -> Ordering {
    sortable(a).cmp(&sortable(b))
}

/// Compares exactly, also where a float cannot hold the integer.
pub(super) fn compare_int(a: i64, b: f64) -> Ordering {
    let (floor, above) = floor_of(a);
    compare_floats(floor, b).then(above.cmp(&0))
}

/// The largest float that is not above the integer, and how far it is below.
fn floor_of(value: i64) -> (f64, u16) {
    let near = value as f64;
    if near.abs() < EXACT_LIMIT {
        return (near, 0);
    }
    let floor = if near as i128 > i128::from(value) {
        near.next_down()
    } else {
        near
    };
    let above = i128::from(value) - floor as i128;
    (floor, above as u16) // below 1024, the gap of the largest
}

/// A float as an integer that sorts the same way.
fn sortable(value: f64) -> u64 {
    let value = if value.is_nan() {
        f64::NAN.copysign(1.0)
    } else {
        value + 0.0 // makes a negative zero positive
    };
    let bits = value.to_bits();
    if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    }
}

/// Seconds since 1970, and nanoseconds from there on: before 1970 from the second below.
pub(super) fn split_time(time: super::Timestamp) -> (i64, u32) {
    let (second, within) = (time.as_second(), time.subsec_nanosecond());
    match u32::try_from(within) {
        Ok(within) => (second, within),
        Err(_) => (second - 1, (within + 1_000_000_000).unsigned_abs()),
    }
}

/// Appends the encoding of a value.
pub(crate) fn encode(value: &Value, out: &mut Vec<u8>) {
    out.push(key_class(value));
    match value {
        Value::Null => {}
        Value::Bool(value) => out.push(u8::from(*value)),
        Value::Int(value) => {
            let (floor, above) = floor_of(*value);
            encode_number(floor, above, out);
        }
        Value::Float(value) => encode_number(*value, 0, out),
        Value::String(value) => encode_bytes(value.as_bytes(), out),
        Value::Bytes(value) => encode_bytes(value, out),
        Value::Uuid(value) => out.extend_from_slice(value.as_bytes()),
        Value::DateTime(time) => {
            let (second, within) = split_time(*time);
            out.extend_from_slice(&(second as u64 ^ 1 << 63).to_be_bytes());
            out.extend_from_slice(&within.to_be_bytes());
        }
        Value::Array(values) => {
            values.iter().for_each(|value| encode(value, out));
            out.push(END);
        }
        Value::Object(object) => {
            for (name, value) in object.sorted() {
                out.push(STRING);
                encode_bytes(name.as_bytes(), out);
                encode(value, out);
            }
            out.push(END);
        }
    }
}

/// The id of a document from its encoding: a UUID, a string or a whole number.
pub(crate) fn decode_id(bytes: &[u8]) -> Option<Value> {
    let (class, rest) = bytes.split_first()?;
    match *class {
        UUID => super::Uuid::from_slice(rest).ok().map(Value::Uuid),
        STRING => {
            let escaped = rest.strip_suffix(&[0, 0])?;
            let mut text = Vec::with_capacity(escaped.len());
            let mut bytes = escaped.iter();
            while let Some(byte) = bytes.next() {
                text.push(*byte);
                if *byte == 0 && bytes.next() != Some(&u8::MAX) {
                    return None;
                }
            }
            String::from_utf8(text).ok().map(Value::String)
        }
        NUMBER => {
            let (sortable, above) = rest.split_first_chunk::<8>()?;
            let sortable = u64::from_be_bytes(*sortable);
            let is_positive = sortable >> 63 == 1;
            let bits = if is_positive {
                sortable & !(1 << 63)
            } else {
                !sortable
            };
            let above = match above {
                [] => 0,
                [high, low] => i128::from(u16::from_be_bytes([*high, *low])),
                _ => return None,
            };
            let floor = f64::from_bits(bits);
            let whole = floor.is_finite().then_some(floor as i128 + above)?;
            i64::try_from(whole).ok().map(Value::Int)
        }
        _ => None,
    }
}

/// Appends what stands for a field that is not there. It sorts before null.
pub(crate) fn encode_missing(out: &mut Vec<u8>) {
    out.push(MISSING);
}

/// Appends the encoding of what was found in a document.
pub(crate) fn encode_raw(raw: &Raw<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match raw {
        Raw::Missing => encode_missing(out),
        // Without a copy.
        Raw::String(text) => {
            out.push(STRING);
            encode_bytes(text.as_bytes(), out);
        }
        raw => encode(&raw.to_value(MAX_DEPTH)?, out),
    }
    Ok(())
}

/// Appends what the encodings of all strings that begin with `prefix` begin with.
pub(crate) fn string_prefix(prefix: &str, out: &mut Vec<u8>) {
    out.push(STRING);
    escape(prefix.as_bytes(), out);
}

fn encode_number(floor: f64, above: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&sortable(floor).to_be_bytes());
    if floor.abs() >= EXACT_LIMIT {
        out.extend_from_slice(&above.to_be_bytes());
    }
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    escape(bytes, out);
    out.extend_from_slice(&[0, 0]);
}

/// A zero byte is followed by 255, so that two zeros can end the text.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for part in bytes.split_inclusive(|byte| *byte == 0) {
        out.extend_from_slice(part);
        if part.last() == Some(&0) {
            out.push(u8::MAX);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any value, with a bias to those that are easily confused.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-3i64..3).prop_map(Value::Int),
            (-3i64..3).prop_map(|i| Value::Int(i64::MAX / 3 * i)),
            any::<f64>().prop_map(Value::Float),
            (-6i32..6).prop_map(|i| Value::Float(f64::from(i) / 2.0)),
            prop_oneof![
                Just(f64::NAN),
                Just(-0.0),
                Just(f64::INFINITY),
                Just(9.3e18),
                Just(-9.3e18),
            ]
            .prop_map(Value::Float),
            "[a-c\0]{0,3}".prop_map(Value::String),
            proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..4)
                .prop_map(Value::Bytes),
            any::<u128>().prop_map(|u| Value::Uuid(super::super::Uuid::from_u128(u))),
            (-3i128..3).prop_map(|n| {
                let time = super::super::Timestamp::from_nanosecond(n * 700_000_000);
                Value::DateTime(time.unwrap())
            }),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                proptest::collection::vec(("[ab]{0,2}", inner), 0..3)
                    .prop_map(|fields| Value::Object(fields.into())),
            ]
        })
    }

    fn encoded(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        encode(value, &mut out);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn encodings_sort_as_values_do(a in any_value(), b in any_value(), c in any_value()) {
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.cmp(&b));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
            if a != b {
                prop_assert!(!encoded(&a).starts_with(&encoded(&b)));
            }
        }
    }

    proptest! {
        #[test]
        fn ids_read_back(number in any::<i64>(), text in "[a\0ü]{0,5}", uuid in any::<u128>()) {
            for id in [
                Value::Int(number),
                Value::Int(number >> 40),
                Value::String(text),
                Value::Uuid(super::super::Uuid::from_u128(uuid)),
            ] {
                let read = decode_id(&encoded(&id)).unwrap();
                prop_assert_eq!(format!("{read:?}"), format!("{id:?}"));
            }
        }
    }

    #[test]
    fn integers_and_floats_compare_exactly() {
        let two_53 = 1i64 << 53;
        let cases = [
            (
                Value::Int(two_53 + 1),
                Value::Float(two_53 as f64),
                Ordering::Greater,
            ),
            (
                Value::Int(i64::MAX),
                Value::Float(9_223_372_036_854_775_808.0),
                Ordering::Less,
            ),
            (
                Value::Int(i64::MIN),
                Value::Float(-9_223_372_036_854_775_808.0),
                Ordering::Equal,
            ),
            (Value::Int(3), Value::Float(3.0), Ordering::Equal),
            (Value::Int(-1), Value::Float(-0.5), Ordering::Less),
            (Value::Int(i64::MAX), Value::Float(f64::NAN), Ordering::Less),
        ];
        for (a, b, expected) in cases {
            assert_eq!(a.cmp(&b), expected, "{a:?} {b:?}");
            assert_eq!(encoded(&a).cmp(&encoded(&b)), expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn types_come_in_the_documented_order() {
        let mut missing = Vec::new();
        encode_missing(&mut missing);
        let in_order = [
            Value::Null,
            Value::Bool(true),
            Value::Float(f64::NAN),
            Value::from("z"),
            Value::Bytes(vec![255]),
            Value::Uuid(super::super::Uuid::max()),
            Value::DateTime(super::super::Timestamp::MAX),
            Value::Array(vec![]),
            Value::Object(Object::new()),
        ];
        assert!(missing < encoded(&in_order[0]));
        assert!(in_order.is_sorted());
    }

    #[test]
    fn a_string_prefix_begins_what_begins_with_it() {
        let mut prefix = Vec::new();
        string_prefix("a\0", &mut prefix);
        assert!(encoded(&Value::from("a\0b")).starts_with(&prefix));
        assert!(encoded(&Value::from("a\0")).starts_with(&prefix));
        assert!(!encoded(&Value::from("a")).starts_with(&prefix));
    }
}
