//! Fields read straight from a document's bytes, so that a filter pays for what it looks at.

use std::cmp::Ordering;
use std::sync::Arc;

use super::cbor::{
    FieldNames, KEY_NANOSECONDS, KEY_SECONDS, TAG_EXTENDED_TIME, TAG_SECONDS, TAG_UUID,
};
use super::order::{compare, compare_floats, compare_int, key_class};
use super::reader::{self, Reader};
use super::{DocumentId, MAX_DEPTH, Object, Timestamp, Uuid, Value};

/// Why bytes are not a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault(pub &'static str);

impl Fault {
    pub(super) const INDEFINITE: Fault = Fault("a list or map without a length");
    pub(super) const UNKNOWN_NUMBER: Fault = Fault("a field number without a name");
    pub(super) const BAD_KEY: Fault = Fault("a field name of the wrong type");
    const TOO_DEEP: Fault = Fault("values nested too deep");
    pub(super) const NOT_CBOR: Fault = Fault("the bytes of a document are not CBOR");
    pub(super) const CUT_OFF: Fault = Fault("the bytes of a document end too early");
    pub(super) const NOT_UTF8: Fault = Fault("a text that is not UTF-8");
    const BAD_TYPE: Fault = Fault("a value of no known type");
    const BAD_TIME: Fault = Fault("a time out of range");
    const BAD_UUID: Fault = Fault("a UUID that is not 16 bytes");
}

/// A value in a document's bytes. Lists and maps are slices that begin with them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw<'b> {
    Missing,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(&'b str),
    Bytes(&'b [u8]),
    Uuid(Uuid),
    Time(Timestamp),
    Array(&'b [u8]),
    Object(&'b [u8]),
}

/// A value, or the beginning of a list or map.
enum Item<'b> {
    Whole(Raw<'b>),
    Array(u64),
    Map(u64),
}

/// Reads as far as that goes without reading anything twice.
#[inline]
fn read_item<'b>(from: &mut Reader<'b>) -> Result<Item<'b>, Fault> {
    let head = from.head()?;
    let raw = match head.major {
        reader::UNSIGNED | reader::NEGATIVE => Raw::Int(head.integer().ok_or(Fault::BAD_TYPE)?),
        reader::BYTES => Raw::Bytes(from.bytes(head.argument)?),
        reader::TEXT => Raw::String(from.text(head.argument)?),
        reader::ARRAY => return Ok(Item::Array(head.argument)),
        reader::MAP => return Ok(Item::Map(head.argument)),
        reader::TAG => read_tagged(head.argument, from)?,
        _ => match head.info {
            reader::NULL => Raw::Null,
            reader::FALSE => Raw::Bool(false),
            reader::TRUE => Raw::Bool(true),
            reader::FLOAT => Raw::Float(f64::from_bits(head.argument)),
            _ => return Err(Fault::BAD_TYPE),
        },
    };
    Ok(Item::Whole(raw))
}

/// Reads a value as a whole. `levels` says how much deeper it may be nested.
pub(super) fn read_value(from: &mut Reader<'_>, levels: usize) -> Result<Value, Fault> {
    let deeper = || levels.checked_sub(1).ok_or(Fault::TOO_DEEP);
    match read_item(from)? {
        Item::Whole(raw) => raw.to_value(levels),
        Item::Array(elements) => {
            let deeper = deeper()?;
            let mut values = Vec::with_capacity(elements.min(reader::TRUSTED) as usize);
            for _ in 0..elements {
                values.push(read_value(from, deeper)?);
            }
            Ok(Value::Array(values))
        }
        Item::Map(fields) => {
            let deeper = deeper()?;
            let mut object = Object::with_capacity(fields.min(reader::TRUSTED) as usize);
            for _ in 0..fields {
                let name = read_name(from)?;
                object.push(name.into(), read_value(from, deeper)?);
            }
            Ok(Value::Object(object))
        }
    }
}

/// Moves past a value that [`read_value`] takes, and refuses every other.
///
/// Every document that is read goes through here, so nothing is made of the values.
#[inline(always)] // a call for each value would take as long as the rest
pub(super) fn check_value(from: &mut Reader<'_>, levels: usize) -> Result<(), Fault> {
    if from.skip_whole() {
        return Ok(());
    }
    let head = from.head()?;
    match head.major {
        reader::TEXT => from.check_text(head.argument),
        reader::UNSIGNED | reader::NEGATIVE => match head.integer() {
            Some(_) => Ok(()),
            None => Err(Fault::BAD_TYPE),
        },
        reader::BYTES => from.bytes(head.argument).map(|_| ()),
        reader::ARRAY => check_elements(from, head.argument, levels),
        reader::MAP => check_fields(from, head.argument, levels),
        reader::TAG => check_tagged(head.argument, from),
        _ => match head.info {
            reader::NULL | reader::FALSE | reader::TRUE | reader::FLOAT => Ok(()),
            _ => Err(Fault::BAD_TYPE),
        },
    }
}

fn check_elements(from: &mut Reader<'_>, elements: u64, levels: usize) -> Result<(), Fault> {
    let deeper = levels.checked_sub(1).ok_or(Fault::TOO_DEEP)?;
    for _ in 0..elements {
        check_value(from, deeper)?;
    }
    Ok(())
}

fn check_fields(from: &mut Reader<'_>, fields: u64, levels: usize) -> Result<(), Fault> {
    let deeper = levels.checked_sub(1).ok_or(Fault::TOO_DEEP)?;
    for _ in 0..fields {
        read_name(from)?;
        check_value(from, deeper)?;
    }
    Ok(())
}

fn read_name<'b>(from: &mut Reader<'b>) -> Result<&'b str, Fault> {
    match from.head()? {
        head if head.major == reader::TEXT => from.text(head.argument),
        _ => Err(Fault::BAD_KEY),
    }
}

impl<'b> Raw<'b> {
    /// Reads the value at the reader's place, and moves past it.
    #[inline]
    pub(crate) fn read(from: &mut Reader<'b>) -> Result<Raw<'b>, Fault> {
        let start = from.rest();
        match read_item(from)? {
            Item::Whole(raw) => Ok(raw),
            Item::Array(elements) => {
                from.skip(elements)?;
                Ok(Raw::Array(start))
            }
            Item::Map(fields) => {
                from.skip(fields.saturating_mul(2))?;
                Ok(Raw::Object(start))
            }
        }
    }

    /// The first byte of the encoding in an index, to tell types apart.
    pub(crate) fn class(&self) -> u8 {
        match self {
            Raw::Missing => super::order::MISSING,
            Raw::Null => key_class(&Value::Null),
            Raw::Bool(_) => key_class(&Value::Bool(false)),
            Raw::Int(_) | Raw::Float(_) => key_class(&Value::Int(0)),
            Raw::String(_) => key_class(&Value::String(String::new())),
            Raw::Bytes(_) => key_class(&Value::Bytes(Vec::new())),
            Raw::Uuid(_) => key_class(&Value::Uuid(Uuid::nil())),
            Raw::Time(_) => key_class(&Value::DateTime(Timestamp::UNIX_EPOCH)),
            Raw::Array(_) => key_class(&Value::Array(Vec::new())),
            Raw::Object(_) => key_class(&Value::Object(Object::new())),
        }
    }

    /// Compares with a value; what is missing comes first.
    pub(crate) fn compare(&self, value: Operand<'_>) -> Result<Ordering, Fault> {
        Ok(match (self, value) {
            (Raw::Bool(a), Operand::Bool(b)) => a.cmp(&b),
            (Raw::Int(a), Operand::Int(b)) => a.cmp(&b),
            (Raw::Int(a), Operand::Float(b)) => compare_int(*a, b),
            (Raw::Float(a), Operand::Float(b)) => compare_floats(*a, b),
            (Raw::Float(a), Operand::Int(b)) => compare_int(b, *a).reverse(),
            (Raw::String(a), Operand::String(b)) => (*a).cmp(b),
            (Raw::Bytes(a), Operand::Bytes(b)) => (*a).cmp(b),
            (Raw::Uuid(a), Operand::Uuid(b)) => a.cmp(&b),
            (Raw::Time(a), Operand::Time(b)) => a.cmp(&b),
            (Raw::Array(_) | Raw::Object(_), Operand::Nested(b)) => {
                compare(&self.to_value(MAX_DEPTH)?, b)
            }
            _ => self.class().cmp(&value.class()),
        })
    }

    /// The elements of an array; nothing for other values.
    pub(crate) fn elements(&self) -> Result<Elements<'b>, Fault> {
        let Raw::Array(bytes) = self else {
            return Ok(Elements {
                reader: Reader::new(&[]),
                left: 0,
            });
        };
        let mut reader = Reader::new(bytes);
        let left = reader.array()?;
        Ok(Elements { reader, left })
    }

    /// The value itself. What is missing becomes null.
    pub(crate) fn to_value(self, levels: usize) -> Result<Value, Fault> {
        Ok(match self {
            Raw::Missing | Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Int(value) => Value::Int(value),
            Raw::Float(value) => Value::Float(value),
            Raw::String(value) => Value::String(value.to_string()),
            Raw::Bytes(value) => Value::Bytes(value.to_vec()),
            Raw::Uuid(value) => Value::Uuid(value),
            Raw::Time(value) => Value::DateTime(value),
            Raw::Array(bytes) | Raw::Object(bytes) => read_value(&mut Reader::new(bytes), levels)?,
        })
    }
}

fn read_tagged<'b>(tag: u64, from: &mut Reader<'b>) -> Result<Raw<'b>, Fault> {
    match tag {
        TAG_UUID => {
            let bytes = match from.head()? {
                head if head.major == reader::BYTES => from.bytes(head.argument)?,
                _ => return Err(Fault::BAD_UUID),
            };
            let uuid = Uuid::from_slice(bytes).map_err(|_| Fault::BAD_UUID)?;
            Ok(Raw::Uuid(uuid))
        }
        TAG_SECONDS => time(from.integer()?, 0),
        TAG_EXTENDED_TIME => {
            if from.map()? != 2 || from.integer()? != KEY_SECONDS {
                return Err(Fault::BAD_TIME);
            }
            let second = from.integer()?;
            if from.integer()? != KEY_NANOSECONDS {
                return Err(Fault::BAD_TIME);
            }
            time(second, from.integer()?)
        }
        _ => Err(Fault::BAD_TYPE),
    }
}

/// Moves past what [`read_tagged`] takes.
#[inline]
fn check_tagged(tag: u64, from: &mut Reader<'_>) -> Result<(), Fault> {
    // {1: a second of four bytes, -9: nanoseconds of four bytes}, as most times are: looked at as a
    // whole, and nothing made of it. All such seconds are in range.
    let is_usual = |bytes: &[u8; 13]| match bytes {
        [0xa2, 0x01, 0x1a, _, _, _, _, 0x28, 0x1a, within @ ..] => {
            u32::from_be_bytes(*within) < NANOSECONDS
        }
        _ => false,
    };
    if tag == TAG_EXTENDED_TIME && from.skip_chunk(is_usual) {
        return Ok(());
    }
    read_tagged(tag, from).map(|_| ())
}

/// In a second.
const NANOSECONDS: u32 = 1_000_000_000;

fn time<'b>(second: i64, within: i64) -> Result<Raw<'b>, Fault> {
    if !(0..i64::from(NANOSECONDS)).contains(&within) {
        return Err(Fault::BAD_TIME);
    }
    let time = Timestamp::new(second, within as i32).map_err(|_| Fault::BAD_TIME)?;
    Ok(Raw::Time(time))
}

/// A value to compare with, without a copy of it.
#[derive(Debug, Clone, Copy)]
pub enum Operand<'v> {
    #[doc(hidden)]
    Null,
    #[doc(hidden)]
    Bool(bool),
    #[doc(hidden)]
    Int(i64),
    #[doc(hidden)]
    Float(f64),
    #[doc(hidden)]
    String(&'v str),
    #[doc(hidden)]
    Bytes(&'v [u8]),
    #[doc(hidden)]
    Uuid(Uuid),
    #[doc(hidden)]
    Time(Timestamp),
    /// An array or an object.
    #[doc(hidden)]
    Nested(&'v Value),
}

impl<'v> Operand<'v> {
    /// As if it were in a document; an array or an object is not.
    pub(crate) fn raw(self) -> Result<Raw<'v>, &'v Value> {
        Ok(match self {
            Operand::Null => Raw::Null,
            Operand::Bool(value) => Raw::Bool(value),
            Operand::Int(value) => Raw::Int(value),
            Operand::Float(value) => Raw::Float(value),
            Operand::String(value) => Raw::String(value),
            Operand::Bytes(value) => Raw::Bytes(value),
            Operand::Uuid(value) => Raw::Uuid(value),
            Operand::Time(value) => Raw::Time(value),
            Operand::Nested(value) => return Err(value),
        })
    }

    fn class(&self) -> u8 {
        self.raw().map_or_else(key_class, |raw| raw.class())
    }

    /// Whether the field's value is of the type of this one, numbers being one type.
    pub(crate) fn is_of_type(&self, raw: &Raw<'_>) -> bool {
        raw.class() == self.class()
    }

    /// The value itself.
    pub(crate) fn to_value(self) -> Value {
        match self {
            Operand::Null => Value::Null,
            Operand::Bool(value) => Value::Bool(value),
            Operand::Int(value) => Value::Int(value),
            Operand::Float(value) => Value::Float(value),
            Operand::String(value) => value.into(),
            Operand::Bytes(value) => value.into(),
            Operand::Uuid(value) => Value::Uuid(value),
            Operand::Time(value) => Value::DateTime(value),
            Operand::Nested(value) => value.clone(),
        }
    }
}

/// What a field can be compared with: everything that becomes a [`Value`], but for lists and objects, which have to be one.
pub trait Comparand {
    #[doc(hidden)]
    fn operand(&self) -> Operand<'_>;
}

impl Comparand for Value {
    fn operand(&self) -> Operand<'_> {
        match self {
            Value::Null => Operand::Null,
            Value::Bool(value) => Operand::Bool(*value),
            Value::Int(value) => Operand::Int(*value),
            Value::Float(value) => Operand::Float(*value),
            Value::String(value) => Operand::String(value),
            Value::Bytes(value) => Operand::Bytes(value),
            Value::Uuid(value) => Operand::Uuid(*value),
            Value::DateTime(value) => Operand::Time(*value),
            Value::Array(_) | Value::Object(_) => Operand::Nested(self),
        }
    }
}

impl<T: Comparand + ?Sized> Comparand for &T {
    fn operand(&self) -> Operand<'_> {
        (**self).operand()
    }
}

impl<T: Comparand> Comparand for Option<T> {
    fn operand(&self) -> Operand<'_> {
        self.as_ref().map_or(Operand::Null, T::operand)
    }
}

macro_rules! comparands {
    ($($type:ty => $value:ident => $operand:expr;)*) => {
        $(impl Comparand for $type {
            fn operand(&self) -> Operand<'_> {
                let $value = self;
                $operand
            }
        })*
    };
}

comparands! {
    bool => value => Operand::Bool(*value);
    i8 => value => Operand::Int((*value).into());
    i16 => value => Operand::Int((*value).into());
    i32 => value => Operand::Int((*value).into());
    i64 => value => Operand::Int(*value);
    isize => value => Operand::Int(*value as i64);
    u8 => value => Operand::Int((*value).into());
    u16 => value => Operand::Int((*value).into());
    u32 => value => Operand::Int((*value).into());
    f32 => value => Operand::Float((*value).into());
    f64 => value => Operand::Float(*value);
    str => value => Operand::String(value);
    String => value => Operand::String(value);
    Arc<str> => value => Operand::String(value);
    [u8] => value => Operand::Bytes(value);
    Vec<u8> => value => Operand::Bytes(value);
    Uuid => value => Operand::Uuid(*value);
    Timestamp => value => Operand::Time(*value);
    DocumentId => value => value.value().operand();
}

/// The elements of an array, one after the other.
#[derive(Debug)]
pub(crate) struct Elements<'b> {
    reader: Reader<'b>,
    left: u64,
}

impl<'b> Elements<'b> {
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn next(&mut self) -> Result<Option<Raw<'b>>, Fault> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        Raw::read(&mut self.reader).map(Some)
    }
}

/// A key of a document's map.
#[derive(Debug, Clone)]
struct Key {
    number: Option<u32>,
    name: Arc<str>,
}

/// Where in a document a field is: names with dots between. A name that holds dots itself comes
/// before a way through objects.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    whole: Key,
    /// The first name, and the way from there.
    nested: Option<(Key, Box<Path>)>,
}

impl Path {
    pub(crate) fn new(path: &str, names: &FieldNames) -> Self {
        Path::with_depth(path, names, MAX_DEPTH)
    }

    /// No document is deeper than that, whatever the path says.
    fn with_depth(path: &str, names: &FieldNames, depth: usize) -> Self {
        let key = |name: &str| Key {
            number: names.number(name),
            name: Arc::from(name),
        };
        let parts = path.split_once('.').filter(|_| depth > 0);
        let nested = parts.map(|(first, rest)| {
            // Nested names have no numbers.
            let rest = Path::with_depth(rest, &FieldNames::default(), depth - 1);
            (key(first), Box::new(rest))
        });
        Path {
            whole: key(path),
            nested,
        }
    }

    /// The value there.
    #[inline]
    pub(crate) fn find<'b>(&self, document: &'b [u8]) -> Result<Raw<'b>, Fault> {
        let mut reader = Reader::new(document);
        let fields = reader.map()?;
        let mut on_the_way = None;
        for _ in 0..fields {
            let (is_whole, is_first) = self.matches(&mut reader)?;
            if is_whole {
                return Raw::read(&mut reader);
            }
            if is_first {
                on_the_way = Some(Raw::read(&mut reader)?);
            } else {
                reader.skip(1)?;
            }
        }
        match (on_the_way, &self.nested) {
            (Some(Raw::Object(inner)), Some((_, rest))) => rest.find(inner),
            _ => Ok(Raw::Missing),
        }
    }

    /// The names by which [`find`](Self::find) comes there; of what it does not find, some.
    pub(crate) fn names(&self, document: &[u8]) -> Result<Vec<Arc<str>>, Fault> {
        let of_key = |key: &Key| {
            let (whole, nested) = (key.clone(), None);
            Path { whole, nested }.find(document)
        };
        if let Some((first, rest)) = &self.nested
            && matches!(of_key(&self.whole)?, Raw::Missing)
            && let Raw::Object(inner) = of_key(first)?
        {
            let mut names = rest.names(inner)?;
            names.insert(0, first.name.clone());
            return Ok(names);
        }
        Ok(vec![self.whole.name.clone()])
    }

    /// Whether the key at the reader's place is the whole path, or its first name.
    #[inline]
    fn matches(&self, reader: &mut Reader<'_>) -> Result<(bool, bool), Fault> {
        let first = self.nested.as_ref().map(|(key, _)| key);
        let head = reader.head()?;
        match head.major {
            reader::TEXT => {
                let name = reader.bytes(head.argument)?;
                let is = |key: &Key| key.number.is_none() && key.name.as_bytes() == name;
                Ok((is(&self.whole), first.is_some_and(is)))
            }
            reader::UNSIGNED => {
                let is = |key: &Key| key.number.is_some_and(|n| u64::from(n) == head.argument);
                Ok((is(&self.whole), first.is_some_and(is)))
            }
            _ => Err(Fault::BAD_KEY),
        }
    }
}

/// The fields in which two documents differ.
#[derive(Debug)]
pub(crate) struct Differences<'b> {
    /// Their keys, as they are encoded.
    keys: Vec<&'b [u8]>,
}

impl<'b> Differences<'b> {
    /// `None`: they have not the same fields in the same order, or cannot be read, and may differ in all.
    pub(crate) fn between(a: &'b [u8], b: &'b [u8]) -> Option<Self> {
        let (mut a, mut b) = (Reader::new(a), Reader::new(b));
        let fields = a.map().ok()?;
        if b.map().ok()? != fields {
            return None;
        }
        let mut keys = Vec::new();
        for _ in 0..fields {
            let key = a.item()?;
            if b.item()? != key {
                return None;
            }
            if a.item()? != b.item()? {
                keys.push(key);
            }
        }
        Some(Differences { keys })
    }

    /// Whether what a path leads to may be among them.
    pub(crate) fn concern(&self, path: &Path) -> bool {
        self.keys.iter().any(|key| {
            let found = path.matches(&mut Reader::new(key));
            found.map_or(true, |(is_whole, is_first)| is_whole || is_first)
        })
    }
}
