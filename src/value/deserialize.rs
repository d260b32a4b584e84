//! Types of the program's own from documents, through `serde`.
//!
//! # Invariants
//!
//! 1. What a type asks for decides how a value is given that can be given in several ways: bytes as bytes or as a list of
//!    numbers, a UUID as 16 bytes or as text, the name of a field as text or as a whole number.
//! 2. Where it takes whatever comes, UUIDs and times are given as they write themselves in a format for machines: as
//!    bytes, and as text. What it does not take so is given in the other ways that it can be given ([`Form::ALL`]).

use serde::de::value::{
    Error, MapAccessDeserializer, MapDeserializer, SeqDeserializer, StrDeserializer,
};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::{Object, Uuid, Value};

/// What a value is for a type that takes whatever comes, and says only later what it wants: one that is flattened, an
/// enum without tags, a value of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    bytes: BytesAs,
    /// A float without a fraction is a whole number.
    is_whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BytesAs {
    Bytes,
    /// Bytes are lists of numbers, UUIDs are bytes.
    List,
    /// Bytes are lists of numbers, UUIDs are text.
    ListAndText,
}

impl Form {
    /// In the order in which they are tried.
    pub(super) const ALL: [Form; 6] = {
        const fn form(bytes: BytesAs, is_whole: bool) -> Form {
            Form { bytes, is_whole }
        }
        [
            form(BytesAs::Bytes, false),
            form(BytesAs::List, false),
            form(BytesAs::ListAndText, false),
            form(BytesAs::Bytes, true),
            form(BytesAs::List, true),
            form(BytesAs::ListAndText, true),
        ]
    };
}

/// The fields of an object, for a struct or a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfObject<'v> {
    pub fields: &'v Object,
    /// For a struct that has an `id` where the fields have none.
    pub id: Option<&'v Value>,
    pub form: Form,
}

/// Any value.
#[derive(Debug, Clone, Copy)]
struct OfValue<'v> {
    value: &'v Value,
    form: Form,
}

/// The name of a field.
#[derive(Debug, Clone, Copy)]
struct OfName<'v>(&'v str);

impl<'v> OfObject<'v> {
    fn map<'de>(
        self,
    ) -> MapDeserializer<'de, impl Iterator<Item = (OfName<'v>, OfValue<'v>)> + use<'v>, Error>
    {
        let OfObject { fields, id, form } = self;
        let fields = fields.iter().chain(id.map(|id| ("id", id)));
        MapDeserializer::new(
            fields.map(move |(name, value)| (OfName(name), OfValue { value, form })),
        )
    }
}

impl<'de> Deserializer<'de> for OfObject<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut map = OfObject { id: None, ..self }.map();
        let value = visitor.visit_map(&mut map)?;
        map.end()?;
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let takes_id = fields.contains(&"id") && self.fields.get("id").is_none();
        let id = self.id.filter(|_| takes_id);
        let mut map = OfObject { id, ..self }.map();
        let value = visitor.visit_map(&mut map)?;
        map.end()?;
        Ok(value)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let object = OfObject { id: None, ..self };
        visitor.visit_enum(MapAccessDeserializer::new(object.map()))
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

/// A field that the schema declares to be a float has whole numbers as floats.
macro_rules! number_of_value {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match *self.value {
                Value::Float(number) => visit_whole(number, visitor),
                _ => self.deserialize_any(visitor),
            }
        })*
    };
}

/// Gives a float as the whole number that it is, if it is one; the visitor says whether it is in the bounds of its type.
fn visit_whole<'de, V: Visitor<'de>>(number: f64, visitor: V) -> Result<V::Value, Error> {
    /// The first numbers that are beyond types with so many bits.
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    const TWO_TO_64: f64 = 2.0 * TWO_TO_63;
    const TWO_TO_127: f64 = TWO_TO_63 * TWO_TO_64;
    const TWO_TO_128: f64 = TWO_TO_64 * TWO_TO_64;
    if number != number.trunc() {
        return visitor.visit_f64(number);
    }
    // What a float cannot hold was not stored as one: each of these is exact.
    match number {
        _ if (-TWO_TO_63..TWO_TO_63).contains(&number) => visitor.visit_i64(number as i64),
        _ if (0.0..TWO_TO_64).contains(&number) => visitor.visit_u64(number as u64),
        _ if (-TWO_TO_127..TWO_TO_127).contains(&number) => visitor.visit_i128(number as i128),
        _ if (0.0..TWO_TO_128).contains(&number) => visitor.visit_u128(number as u128),
        _ => visitor.visit_f64(number),
    }
}

impl<'v> OfValue<'v> {
    fn object(self, fields: &'v Object) -> OfObject<'v> {
        OfObject {
            fields,
            id: None,
            form: self.form,
        }
    }
}

impl<'de> Deserializer<'de> for OfValue<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::Float(value) if self.form.is_whole => visit_whole(*value, visitor),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(text) => visitor.visit_str(text),
            Value::Bytes(bytes) if self.form.bytes == BytesAs::Bytes => visitor.visit_bytes(bytes),
            Value::Bytes(_) => self.deserialize_seq(visitor),
            Value::Uuid(uuid) if self.form.bytes == BytesAs::ListAndText => {
                visitor.visit_string(uuid.to_string())
            }
            Value::Uuid(uuid) => visitor.visit_bytes(uuid.as_bytes()),
            Value::DateTime(time) => visitor.visit_string(time.to_string()),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(fields) => self.object(fields).deserialize_any(visitor),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Bytes(bytes) => visitor.visit_bytes(bytes),
            Value::Uuid(uuid) => visitor.visit_bytes(uuid.as_bytes()),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let bytes = match self.value {
            Value::Array(values) => {
                let form = self.form;
                let values = values.iter().map(move |value| OfValue { value, form });
                let mut values = SeqDeserializer::new(values);
                let value = visitor.visit_seq(&mut values)?;
                values.end()?;
                return Ok(value);
            }
            Value::Bytes(bytes) => bytes.as_slice(),
            Value::Uuid(uuid) => uuid.as_bytes(),
            _ => return self.deserialize_any(visitor),
        };
        let mut bytes = SeqDeserializer::new(bytes.iter().copied());
        let value = visitor.visit_seq(&mut bytes)?;
        bytes.end()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Uuid(uuid) => visitor.visit_string(uuid.to_string()),
            // They may look like text, and are none.
            Value::Bytes(bytes) => Err(Error::invalid_type(Unexpected::Bytes(bytes), &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::String(variant) => {
                visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(&**variant))
            }
            Value::Object(fields) => {
                let object = self.object(fields);
                object.deserialize_enum(name, variants, visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match *self.value {
            Value::Float(number) => visitor.visit_f64(number),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool char unit unit_struct map struct identifier ignored_any
    }

    number_of_value! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }
}

impl<'de> IntoDeserializer<'de, Error> for OfValue<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Whole numbers, truth values and UUIDs are text as names, and what they were again for a map that has them as keys.
macro_rules! number_of_name {
    ($($method:ident $type:ident $visit:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.parse::<$type>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => visitor.visit_str(self.0),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for OfName<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }

    number_of_name! {
        deserialize_i8 i8 visit_i8
        deserialize_i16 i16 visit_i16
        deserialize_i32 i32 visit_i32
        deserialize_i64 i64 visit_i64
        deserialize_i128 i128 visit_i128
        deserialize_u8 u8 visit_u8
        deserialize_u16 u16 visit_u16
        deserialize_u32 u32 visit_u32
        deserialize_u64 u64 visit_u64
        deserialize_u128 u128 visit_u128
        deserialize_bool bool visit_bool
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match Uuid::try_parse(self.0) {
            Ok(uuid) => visitor.visit_bytes(uuid.as_bytes()),
            Err(_) => visitor.visit_str(self.0),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(StrDeserializer::<Error>::new(self.0))
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        f32 f64 char str string unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for OfName<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
