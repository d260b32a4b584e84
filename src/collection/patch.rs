//! Changes to a document, field by field.

use crate::value::{Object, Value};

/// What to change in a document. Changes are made in the order in which they were added.
///
/// ```
/// use aurora::Patch;
///
/// Patch::new()
///     .set("address.city", "Zürich")
///     .unset("nickname")
///     .inc("visits", 1)
///     .push("tags", "new")
///     .pull("tags", "old");
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "it changes nothing until it is given to an update"]
pub struct Patch {
    changes: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq)]
enum Change {
    Set(String, Value),
    Unset(String),
    Inc(String, Value),
    Push(String, Value),
    Pull(String, Value),
}

impl Patch {
    /// No changes.
    pub fn new() -> Self {
        Patch::default()
    }

    fn with(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Sets a field, making objects on the way to it.
    pub fn set(self, path: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with(Change::Set(path.into(), value.into()))
    }

    /// Removes a field. One for which the schema has a default gets that at once.
    pub fn unset(self, path: impl Into<String>) -> Self {
        self.with(Change::Unset(path.into()))
    }

    /// Adds to a number; a missing one counts as zero.
    pub fn inc(self, path: impl Into<String>, by: impl Into<Value>) -> Self {
        self.with(Change::Inc(path.into(), by.into()))
    }

    /// Adds an element to the end of an array; a missing one is made, and a single value becomes
    /// an array with it.
    pub fn push(self, path: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with(Change::Push(path.into(), value.into()))
    }

    /// Removes all elements with this value from an array.
    pub fn pull(self, path: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with(Change::Pull(path.into(), value.into()))
    }

    /// Makes the changes. The error is the path of the one that cannot be made, with the reason.
    pub(super) fn apply(&self, fields: &mut Object) -> Result<(), (String, &'static str)> {
        for change in &self.changes {
            let (path, done) = change.apply(fields);
            done.map_err(|reason| (path.to_string(), reason))?;
        }
        Ok(())
    }
}

const NO_OBJECT: &str = "a value on the way to it is not an object";

impl Change {
    fn apply(&self, fields: &mut Object) -> (&str, Result<(), &'static str>) {
        let mut set = |path: &str, value: Value| {
            let is_set = fields.set_path(path, value);
            if is_set { Ok(()) } else { Err(NO_OBJECT) }
        };
        match self {
            Change::Set(path, value) => (path, set(path, value.clone())),
            Change::Unset(path) => {
                fields.remove_path(path);
                (path, Ok(()))
            }
            Change::Inc(path, by) => {
                let sum = added(fields.get_path(path), by);
                let done = sum.and_then(|sum| {
                    let is_set = fields.set_path(path, sum);
                    if is_set { Ok(()) } else { Err(NO_OBJECT) }
                });
                (path, done)
            }
            Change::Push(path, value) => {
                let mut array = match fields.get_path(path) {
                    Some(Value::Array(values)) => values.clone(),
                    None | Some(Value::Null) => Vec::new(),
                    Some(single) => vec![single.clone()],
                };
                array.push(value.clone());
                let is_set = fields.set_path(path, Value::Array(array));
                (path, if is_set { Ok(()) } else { Err(NO_OBJECT) })
            }
            Change::Pull(path, value) => {
                if let Some(Value::Array(values)) = fields.get_path(path) {
                    let left = { values.iter() }
                        .filter(|own| *own != value)
                        .cloned()
                        .collect();
                    fields.set_path(path, Value::Array(left));
                }
                (path, Ok(()))
            }
        }
    }
}

fn added(to: Option<&Value>, by: &Value) -> Result<Value, &'static str> {
    const OVERFLOW: &str = "the sum does not fit into signed 64 bits";
    match (to, by) {
        (None | Some(Value::Null), Value::Int(_) | Value::Float(_)) => Ok(by.clone()),
        (Some(Value::Int(a)), Value::Int(b)) => a.checked_add(*b).map(Value::Int).ok_or(OVERFLOW),
        (Some(a), b) => match (a.as_float(), b.as_float()) {
            (Some(a), Some(b)) => Ok(Value::Float(a + b)),
            _ => Err("it can only be incremented if it is a number, by a number"),
        },
        (None, _) => Err("it can only be incremented by a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_made_in_order() {
        let mut fields = Object::from([
            ("n", Value::from(1)),
            (
                "tags",
                Value::Array(vec!["a".into(), "b".into(), "a".into()]),
            ),
            ("one", "x".into()),
        ]);
        let patch = Patch::new()
            .inc("n", 2)
            .inc("new", 1.5)
            .inc("n", 0.5)
            .set("a.b", true)
            .push("tags", "c")
            .pull("tags", "a")
            .push("one", "y")
            .push("list", 1)
            .unset("gone");
        patch.apply(&mut fields).unwrap();
        let array = |values: &[&str]| Value::Array(values.iter().map(|v| (*v).into()).collect());
        let expected = Object::from([
            ("n", Value::Float(3.5)),
            ("tags", array(&["b", "c"])),
            ("one", array(&["x", "y"])),
            ("new", 1.5.into()),
            ("a", Value::Object([("b", true)].into())),
            ("list", Value::Array(vec![1.into()])),
        ]);
        assert_eq!(fields, expected);
    }

    #[test]
    fn changes_that_cannot_be_made_are_told() {
        let mut fields = Object::from([("s", Value::from("x")), ("n", i64::MAX.into())]);
        for patch in [
            Patch::new().inc("s", 1),
            Patch::new().inc("n", 1),
            Patch::new().inc("q", "x"),
            Patch::new().set("s.t", 1),
        ] {
            assert!(patch.apply(&mut fields).is_err(), "{patch:?}");
        }
    }
}
