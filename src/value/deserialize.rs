//! Types of the program's own from documents, through `serde`.
//!
//! # Invariants
//!
//! 1. What a type asks for decides how a value is given that can be given in several ways: bytes as bytes or as a list of
//!    numbers, a UUID as 16 bytes or as text, the name of a field as text or as a whole number.
//! 2. Where it takes whatever comes, UUIDs and times are given as they write themselves in a format for machines: as
//!    bytes, and as text.

use serde::de::value::{
    Error, MapAccessDeserializer, MapDeserializer, SeqDeserializer, StrDeserializer,
};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::{Object, Value};

/// What bytes are for a type that takes whatever comes, and says only later what it wants: one that is flattened, or
/// an enum without tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BytesAs {
    Bytes,
    List,
}

/// The fields of an object, for a struct or a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfObject<'v> {
    pub fields: &'v Object,
    /// For a struct that has an `id` where the fields have none.
    pub id: Option<&'v Value>,
    pub bytes_as: BytesAs,
}

/// Any value.
#[derive(Debug, Clone, Copy)]
struct OfValue<'v> {
    value: &'v Value,
    bytes_as: BytesAs,
}

/// The name of a field.
#[derive(Debug, Clone, Copy)]
struct OfName<'v>(&'v str);

impl<'v> OfObject<'v> {
    fn map<'de>(
        self,
    ) -> MapDeserializer<'de, impl Iterator<Item = (OfName<'v>, OfValue<'v>)> + use<'v>, Error>
    {
        let OfObject {
            fields,
            id,
            bytes_as,
        } = self;
        let fields = fields.iter().chain(id.map(|id| ("id", id)));
        MapDeserializer::new(
            fields.map(move |(name, value)| (OfName(name), OfValue { value, bytes_as })),
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
                Value::Float(number) if number == number.trunc() && number.abs() < EXACT => {
                    visitor.visit_i64(number as i64)
                }
                _ => self.deserialize_any(visitor),
            }
        })*
    };
}

/// Below it each whole number is a float of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl<'v> OfValue<'v> {
    fn object(self, fields: &'v Object) -> OfObject<'v> {
        OfObject {
            fields,
            id: None,
            bytes_as: self.bytes_as,
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
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(text) => visitor.visit_str(text),
            Value::Bytes(_) if self.bytes_as == BytesAs::List => self.deserialize_seq(visitor),
            Value::Bytes(bytes) => visitor.visit_bytes(bytes),
            Value::Uuid(uuid) => visitor.visit_bytes(uuid.as_bytes()),
            Value::DateTime(time) => visitor.visit_string(time.to_string()),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(fields) => self.object(fields).deserialize_any(visitor),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Bytes(bytes) => visitor.visit_bytes(bytes),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let bytes = match self.value {
            Value::Array(values) => {
                let bytes_as = self.bytes_as;
                let values = values.iter().map(move |value| OfValue { value, bytes_as });
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

    forward_to_deserialize_any! {
        bool f32 f64 char unit unit_struct map struct identifier ignored_any
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

/// Whole numbers are text as names, and whole numbers again for a map that has them as keys.
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
        bool f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for OfName<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
