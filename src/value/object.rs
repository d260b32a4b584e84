//! Named values, in the order in which they were put in.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::Serialize;

use super::convert::from_serde;
use super::{MAX_DEPTH, Value};
use crate::Result;

/// From so many names on they are found by a table while an object is made.
const MANY_NAMES: usize = 32;

/// Named values. Iterates in the order in which names were first put in; that order does not count
/// when objects are compared.
#[derive(Clone, Default)]
pub struct Object {
    /// Names are shared: the documents of a query hold the schema's.
    fields: Vec<(Arc<str>, Value)>,
}

impl Object {
    /// An object with nothing in it.
    pub fn new() -> Self {
        Object::default()
    }

    /// The fields of a value of the program's own type, for the calls that take fields.
    ///
    /// ```
    /// use aurora::{Aurora, Object, Schema};
    ///
    /// #[derive(serde::Serialize)]
    /// struct Book {
    ///     title: String,
    /// }
    ///
    /// let db = Aurora::in_memory()?;
    /// db.new_collection("books", Schema::schemaless())?;
    /// let books = ["Contact", "Cosmos"].map(|title| Book { title: title.to_string() });
    /// let fields = books.iter().map(Object::of).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(db.collection("books")?.insert_many(fields)?.len(), 2);
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Conversion`](crate::Error::Conversion) if it is no struct or map, or has a number that does not fit.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        from_serde(value)
    }

    pub(crate) fn with_capacity(fields: usize) -> Self {
        Object {
            fields: Vec::with_capacity(fields),
        }
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let mut fields = self.fields.iter();
        fields.find(|(known, _)| **known == *name).map(|(_, v)| v)
    }

    /// The value of a name, to change.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        let mut fields = self.fields.iter_mut();
        fields.find(|(known, _)| **known == *name).map(|(_, v)| v)
    }

    /// The value at a path of names with dots between. A name that holds dots itself comes first.
    pub fn get_path(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.get(path) {
            return Some(value);
        }
        let (first, rest) = path.split_once('.')?;
        self.get(first)?.as_object()?.get_path(rest)
    }

    /// Like [`get_path`](Self::get_path), for one that is most likely in this place.
    pub(crate) fn get_path_near(&self, path: &str, place: usize) -> Option<&Value> {
        match self.fields.get(place) {
            Some((name, value)) if **name == *path => Some(value),
            _ => self.get_path(path),
        }
    }

    /// Sets the value under names, one within the other, whatever dots they have, making objects on the way. Nothing
    /// happens where something that is not an object is in the way.
    pub(crate) fn set_at<N: AsRef<str>>(&mut self, names: &[N], value: Value) {
        let Some((first, rest)) = names.split_first() else {
            return;
        };
        let first = first.as_ref();
        if rest.is_empty() {
            self.insert(first, value);
            return;
        }
        if self.get(first).is_none() {
            self.insert(first, Value::Object(Object::new()));
        }
        if let Some(Value::Object(inner)) = self.get_mut(first) {
            inner.set_at(rest, value);
        }
    }

    /// Like [`get_path`](Self::get_path), to change.
    pub(crate) fn get_path_mut(&mut self, path: &str) -> Option<&mut Value> {
        if self.get(path).is_some() {
            return self.get_mut(path);
        }
        let (first, rest) = path.split_once('.')?;
        match self.get_mut(first)? {
            Value::Object(inner) => inner.get_path_mut(rest),
            _ => None,
        }
    }

    /// Sets the value at a path of names with dots between, making objects on the way where there
    /// is nothing. `false` if something that is not an object is in the way.
    pub(crate) fn set_path(&mut self, path: &str, value: Value) -> bool {
        // One more level than a document may have: it is refused for that later.
        self.set_path_within(path, value, MAX_DEPTH + 1)
    }

    fn set_path_within(&mut self, path: &str, value: Value, depth: usize) -> bool {
        let (first, rest) = match path.split_once('.') {
            Some(parts) if depth > 0 && self.get(path).is_none() => parts,
            _ => {
                self.insert(path, value);
                return true;
            }
        };
        if self.get(first).is_none_or(Value::is_null) {
            self.insert(first, Value::Object(Object::new()));
        }
        match self.get_mut(first) {
            Some(Value::Object(inner)) => inner.set_path_within(rest, value, depth - 1),
            _ => false,
        }
    }

    /// Removes the value at a path of names with dots between.
    pub(crate) fn remove_path(&mut self, path: &str) -> Option<Value> {
        if let Some(value) = self.remove(path) {
            return Some(value);
        }
        let (first, rest) = path.split_once('.')?;
        match self.get_mut(first)? {
            Value::Object(inner) => inner.remove_path(rest),
            _ => None,
        }
    }

    /// Sets the value of a name. Returns the one that it had.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, value: impl Into<Value>) -> Option<Value> {
        let name = name.into();
        let value = value.into();
        if let Some(known) = self.get_mut(&name) {
            return Some(std::mem::replace(known, value));
        }
        self.fields.push((name, value));
        None
    }

    /// Adds a name that is known to be new.
    pub(super) fn push(&mut self, name: Arc<str>, value: Value) {
        self.fields.push((name, value));
    }

    /// Removes a name.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let index = self.fields.iter().position(|(known, _)| **known == *name)?;
        Some(self.fields.remove(index).1)
    }

    /// The number of names.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The names with their values.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> + ExactSizeIterator {
        self.fields.iter().map(|(name, value)| (&**name, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Value)> {
        self.fields.iter_mut().map(|(name, value)| (&**name, value))
    }

    pub(crate) fn into_fields(self) -> Vec<(Arc<str>, Value)> {
        self.fields
    }

    /// The fields by name, which is how objects compare.
    pub(super) fn sorted(&self) -> Vec<(&str, &Value)> {
        let mut sorted: Vec<_> = self.iter().collect();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        sorted
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .iter()
                .all(|(name, value)| other.get(name) == Some(value))
    }
}

impl Eq for Object {}

impl Hash for Object {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sorted().hash(state);
    }
}

/// The names with their values.
impl IntoIterator for Object {
    type Item = (Arc<str>, Value);
    type IntoIter = std::vec::IntoIter<(Arc<str>, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.fields.into_iter()
    }
}

/// The names with their values, as [`Object::iter`] gives them.
impl<'o> IntoIterator for &'o Object {
    type Item = (&'o str, &'o Value);
    type IntoIter = Fields<'o>;

    fn into_iter(self) -> Fields<'o> {
        let parts: Parts<'o> = |(name, value)| (name, value);
        self.fields.iter().map(parts)
    }
}

/// What goes through the fields of an object.
type Fields<'o> = std::iter::Map<std::slice::Iter<'o, (Arc<str>, Value)>, Parts<'o>>;
type Parts<'o> = fn(&'o (Arc<str>, Value)) -> (&'o str, &'o Value);

impl<N: Into<Arc<str>>, V: Into<Value>> FromIterator<(N, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut object = Object::new();
        // Where there are many names, to look through them for each would take for ever.
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        for (name, value) in fields {
            let (name, value) = (name.into(), value.into());
            if object.len() < MANY_NAMES {
                object.insert(name, value);
                continue;
            }
            if places.is_empty() {
                let names = object.fields.iter().map(|(name, _)| name.clone());
                places.extend(names.zip(0..));
            }
            let next = object.fields.len();
            let place = *places.entry(name.clone()).or_insert(next);
            match object.fields.get_mut(place) {
                Some((_, known)) => *known = value,
                None => object.fields.push((name, value)),
            }
        }
        object
    }
}

impl<N: Into<Arc<str>>, V: Into<Value>> From<Vec<(N, V)>> for Object {
    fn from(fields: Vec<(N, V)>) -> Self {
        fields.into_iter().collect()
    }
}

impl<N: Into<Arc<str>>, V: Into<Value>, const L: usize> From<[(N, V); L]> for Object {
    fn from(fields: [(N, V); L]) -> Self {
        fields.into_iter().collect()
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma} {name}: {value}")?;
        }
        f.write_str(if self.is_empty() { "}" } else { " }" })
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_like_few() {
        for count in [1, MANY_NAMES - 1, MANY_NAMES, MANY_NAMES + 1, 200] {
            let names = (0..count).chain(0..count / 2).chain(count..count + 3);
            let fields = names.enumerate().map(|(i, n)| (format!("n{n}"), i as i64));
            let fields: Vec<_> = fields.collect();
            let mut one_by_one = Object::new();
            for (name, value) in fields.clone() {
                one_by_one.insert(name, value);
            }
            let together: Object = fields.into_iter().collect();
            assert!(together.iter().eq(one_by_one.iter()), "{count} names");
        }
    }
}
