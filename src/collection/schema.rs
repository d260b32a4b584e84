//! What a collection's documents look like, as users declare it.

use std::time::Duration;

use super::nearest::nearest;
use crate::query::{Filter, ID};
use crate::value::{FieldType, Value};

/// A field of a collection.
///
/// ```
/// use aurora::{Field, FieldType};
///
/// Field::new("email", FieldType::String).required().unique();
/// Field::new("address.city", FieldType::String).indexed(); // inside of an object
/// Field::new("visits", FieldType::Int).default(0);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "it describes; `new_collection` and `create_index` make what it says"]
pub struct Field {
    pub(crate) path: String,
    pub(crate) kind: FieldType,
    pub(crate) required: bool,
    pub(crate) unique: bool,
    pub(crate) indexed: bool,
    pub(crate) default: Option<Value>,
}

impl Field {
    /// A field by its name, or by a path of names with dots between for one inside of an object. The object needs no
    /// declaration. One that has it (`a` beside `a.b`) is of the type `Object` or `Any`: with another type a document with
    /// an object there is refused, and only one whose names have dots themselves (`{"a": 5, "a.b": 1}`) can have both.
    pub fn new(path: impl Into<String>, kind: FieldType) -> Self {
        Field {
            path: path.into(),
            kind,
            required: false,
            unique: false,
            indexed: false,
            default: None,
        }
    }

    /// Every document has it, and not null.
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// No two documents have the same value in it. Null and missing values do not count. Of an array each element
    /// counts by itself: none of them is a value, or an element, in another document. It holds after each change, within a
    /// transaction as well: two documents exchange their values by way of a third one, or of null. Makes an index; not for
    /// the field `id`: ids are unique anyway, and documents are found by them without one.
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// Makes an index on it.
    pub fn indexed(mut self) -> Self {
        self.indexed = true;
        self
    }

    /// What a document gets that does not have the field. Null is a value, and stays: `None` in a struct is null. Under a path
    /// (`a.b`) also where `a` is null or missing, which becomes an object; not where `a` is something else.
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self
    }
}

/// An index of a collection: documents in the order of one or several fields.
///
/// An index on one field has, for a document in which that field is an array, an entry for each
/// element as well, so that `contains` finds it.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "it describes; `new_collection` and `create_index` make what it says"]
pub struct Index {
    pub(crate) name: Option<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) unique: bool,
    pub(crate) only: Option<Filter>,
}

impl Index {
    /// An index on fields, by their names or paths. Its name is theirs, with commas between.
    pub fn on<P: Into<String>>(paths: impl IntoIterator<Item = P>) -> Self {
        Index {
            name: None,
            paths: paths.into_iter().map(Into::into).collect(),
            unique: false,
            only: None,
        }
    }

    /// Gives it a name of its own.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// No two documents have the same values in these fields. Documents in which one of them is
    /// null or missing do not count. With one field, each element of an array counts by itself, as with
    /// [`Field::unique`]; with several, arrays are compared as a whole.
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// Takes in only the documents that match. A query can use it if it asks for the same
    /// conditions. A condition on the field `id` looks at what is stored under that name. So that every document has it there,
    /// declare it as required: else no query uses the index.
    pub fn only(mut self, filter: Filter) -> Self {
        self.only = Some(filter);
        self
    }

    /// Whether it says the same as another, which may have its name from its fields.
    pub(crate) fn says_the_same(&self, other: &Index) -> bool {
        self.name() == other.name()
            && (&self.paths, self.unique, &self.only) == (&other.paths, other.unique, &other.only)
    }

    /// The name of the index.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.paths.join(","))
    }

    /// The fields, in their order.
    pub fn fields(&self) -> &[String] {
        &self.paths
    }

    /// Whether it allows a value only once.
    pub fn is_unique(&self) -> bool {
        self.unique
    }

    /// The condition of a partial index.
    pub fn condition(&self) -> Option<&Filter> {
        self.only.as_ref()
    }
}

/// What the documents of a collection look like.
///
/// ```
/// use aurora::{Aurora, Field, FieldType, Filter, Index, Schema};
/// use std::time::Duration;
///
/// let db = Aurora::in_memory()?;
/// let sessions = Schema::new()
///     .field(Field::new("user", FieldType::String).required().indexed())
///     .field(Field::new("seen", FieldType::DateTime))
///     .field(Field::new("open", FieldType::Bool).default(true))
///     .index(Index::on(["user", "seen"]).only(Filter::eq("open", true)))
///     .expires_after("seen", Duration::from_secs(3600));
/// db.new_collection("sessions", sessions)?;
///
/// // The short form: name, type, unique.
/// db.new_collection("tags", vec![("name", FieldType::String, true)])?;
/// // Anything goes.
/// db.new_collection("notes", Schema::schemaless())?;
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "it describes; `new_collection` and `create_index` make what it says"]
pub struct Schema {
    pub(crate) fields: Vec<Field>,
    pub(crate) indexes: Vec<Index>,
    pub(crate) strict: bool,
    pub(crate) expires: Option<Expires>,
}

/// When documents expire: some time after the date in a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expires {
    pub path: String,
    pub after_ms: u64,
}

impl Default for Schema {
    fn default() -> Self {
        Schema {
            fields: Vec::new(),
            indexes: Vec::new(),
            strict: true,
            expires: None,
        }
    }
}

/// The first that one of two has and the other has not, or has otherwise.
fn first_difference<T: PartialEq>(
    what: &str,
    [one, other]: &[Vec<(String, T)>; 2],
) -> Option<String> {
    let find = |all: &[(String, T)], name: &str| all.iter().position(|(own, _)| own == name);
    for (name, item) in one {
        match find(other, name).and_then(|at| other.get(at)) {
            None => return Some(format!("it has the {what} {name:?}, and this one has not")),
            Some((_, theirs)) if theirs != item => {
                return Some(format!("its {what} {name:?} is another"));
            }
            Some(_) => {}
        }
    }
    let (missing, _) = other.iter().find(|(name, _)| find(one, name).is_none())?;
    Some(format!("it has no {what} {missing:?}, and this one has"))
}

impl Schema {
    /// A schema with no fields yet, that takes no fields but those that it gets.
    pub fn new() -> Self {
        Schema::default()
    }

    /// A schema that takes any fields.
    pub fn schemaless() -> Self {
        Schema::new().strict(false)
    }

    /// Adds a field.
    pub fn field(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    /// Adds an index, on several fields perhaps, or on a part of the documents.
    pub fn index(mut self, index: Index) -> Self {
        self.indexes.push(index);
        self
    }

    /// Whether documents with other fields than those of the schema are refused. They are, if not set.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// A document is gone this long after the date in the field. One without a date there stays; a date before 1970
    /// counts as the first moment of 1970.
    pub fn expires_after(mut self, path: impl Into<String>, after: Duration) -> Self {
        self.expires = Some(Expires {
            path: path.into(),
            // As it is stored.
            after_ms: i64::try_from(after.as_millis()).unwrap_or(i64::MAX) as u64,
        });
        self
    }

    /// The fields.
    pub fn fields(&self) -> impl Iterator<Item = (&str, FieldType)> {
        let fields = self.fields.iter();
        fields.map(|field| (field.path.as_str(), field.kind))
    }

    /// All indexes: those of single fields first, then the others.
    pub fn indexes(&self) -> Vec<Index> {
        let of_fields = self.fields.iter().filter(|field| {
            // No two documents have the same id, with an index or without.
            field.indexed || (field.unique && field.path != "id")
        });
        let of_fields = of_fields.map(|field| Index {
            name: None,
            paths: vec![field.path.clone()],
            unique: field.unique,
            only: None,
        });
        of_fields.chain(self.indexes.iter().cloned()).collect()
    }

    /// Whether it says the same as another, however it is written: the order of fields does not count, nor does it whether
    /// an index is made by a field or by itself.
    pub(crate) fn says_the_same(&self, other: &Schema) -> bool {
        self.strict == other.strict
            && self.expires == other.expires
            && self.fields_by_name() == other.fields_by_name()
            && self.indexes_by_name() == other.indexes_by_name()
    }

    fn fields_by_name(&self) -> Vec<(String, Field)> {
        let mut fields: Vec<_> = { self.fields.iter().cloned() }
            .map(|mut field| {
                (field.indexed, field.unique) = (false, false); // these are among the indexes
                (field.path.clone(), field)
            })
            .collect();
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        fields
    }

    fn indexes_by_name(&self) -> Vec<(String, Index)> {
        let mut indexes: Vec<_> = { self.indexes().into_iter() }
            .map(|mut index| {
                let name = index.name();
                index.name = Some(name.clone());
                (name, index)
            })
            .collect();
        indexes.sort_by(|(a, _), (b, _)| a.cmp(b));
        indexes
    }

    /// What tells it from another that does not say the same, seen from it.
    pub(crate) fn difference(&self, other: &Schema) -> String {
        let fields = [self, other].map(Schema::fields_by_name);
        let indexes = [self, other].map(Schema::indexes_by_name);
        first_difference("field", &fields)
            .or_else(|| first_difference("index", &indexes))
            .or_else(|| (self.expires != other.expires).then(|| "when documents expire".into()))
            .unwrap_or_else(|| "whether other fields are allowed".into())
    }

    /// A field that an index or the expiry is of, and that no document can have: a slip of the pen, most likely. Asked only of what
    /// users declare: a file may have been made when nobody asked.
    pub(crate) fn fault_of_names(&self) -> Option<String> {
        let indexes = self.indexes();
        let of_index = indexes.iter().find_map(|index| self.fault_of_index(index));
        let expires = self.expires.as_ref().map(|expires| expires.path.as_str());
        of_index.or_else(|| {
            let path = expires.filter(|path| !self.can_have(path))?;
            Some(format!(
                "the field {path:?}, after which documents expire, {NOBODYS}"
            ))
        })
    }

    /// The same for one index.
    pub(crate) fn fault_of_index(&self, index: &Index) -> Option<String> {
        let name = index.name();
        if let Some(path) = index.paths.iter().find(|path| !self.can_have(path)) {
            return Some(format!(
                "the field {path:?} of the index {name:?} {NOBODYS}"
            ));
        }
        let mut asked = index.only.iter().flat_map(Filter::fields);
        let path = asked.find(|path| !self.can_have(path))?;
        Some(format!(
            "the field {path:?} in the condition of the index {name:?} {NOBODYS}"
        ))
    }

    /// Whether every document has its id as a field too, and not only as its key.
    pub(crate) fn stores_ids(&self) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|field| field.path == ID && field.required)
    }

    /// What to tell who asks for a field that no document can have, and is told that it is missing everywhere.
    pub(crate) fn fault_of_question(&self, path: &str) -> Option<String> {
        if self.can_have(path) {
            return None;
        }
        let known = self.fields.iter().map(|field| field.path.as_str());
        let meant = match nearest(path, known.chain(["id"])) {
            Some(near) => format!("is {near:?} meant?"),
            None => "declare it, or make the schema `strict(false)`".to_string(),
        };
        let path: String = path.chars().take(MOST_SHOWN).collect();
        Some(format!(
            "no document has the field {path:?}, which the schema does not declare: {meant}"
        ))
    }

    /// Whether a document can have something at a path.
    fn can_have(&self, path: &str) -> bool {
        let first = |path: &str| path.split('.').next().unwrap_or_default().to_string();
        if !self.strict || path == "id" {
            return true;
        }
        let is_under = |path: &str, whole: &str| {
            { path.strip_prefix(whole) }.is_some_and(|rest| rest.starts_with('.'))
        };
        let mut around = { self.fields.iter() }
            .filter(|field| field.path == path || is_under(path, &field.path));
        // The innermost field that it is in says what is there.
        match around.clone().max_by_key(|field| field.path.len()) {
            Some(_) if around.any(|field| field.path == path) => true,
            Some(field) => matches!(field.kind, FieldType::Object | FieldType::Any),
            // An object that there is for the sake of other fields takes any names.
            None => { self.fields.iter() }.any(|field| is_under(&field.path, &first(path))),
        }
    }

    /// What is wrong with it, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        for (i, field) in self.fields.iter().enumerate() {
            let path = &field.path;
            if path.is_empty() || path.split('.').any(str::is_empty) {
                return Some(format!("{path:?} cannot be the name of a field"));
            }
            if self.fields.iter().take(i).any(|other| other.path == *path) {
                return Some(format!("the field {path:?} is declared twice"));
            }
            if let Some(default) = &field.default
                && !takes(field.kind, default)
            {
                let kind = field.kind.name();
                return Some(format!("the default of {path:?} is not of the type {kind}"));
            }
            if path.starts_with("id.") && field.default.is_some() {
                return Some(format!(
                    "{path:?} cannot have a default: an id has no fields"
                ));
            }
            if path == "id" && !can_be_id(field.kind) {
                return Some("the field \"id\" must be Uuid, String, Int or Any".to_string());
            }
        }
        let indexes = self.indexes();
        for (i, index) in indexes.iter().enumerate() {
            let name = index.name();
            if index.paths.is_empty() || index.paths.len() > MAX_INDEX_FIELDS {
                return Some(format!("the index {name:?} needs 1 to 8 fields"));
            }
            let mut paths = index.paths.iter().enumerate();
            if paths.any(|(i, path)| index.paths.iter().take(i).any(|earlier| earlier == path)) {
                return Some(format!("the index {name:?} has a field twice"));
            }
            if indexes.iter().take(i).any(|other| other.name() == name) {
                return Some(format!("there are two indexes named {name:?}"));
            }
            let filter = index.only.as_ref();
            if let Some(reason) = filter.and_then(|filter| filter.fault()) {
                return Some(format!("the condition of the index {name:?}: {reason}"));
            }
        }
        if let Some(expires) = &self.expires {
            let field = self.fields.iter().find(|field| field.path == expires.path);
            if field.is_some_and(|field| field.kind != FieldType::DateTime) {
                return Some(format!("{:?} is not a DateTime", expires.path));
            }
        }
        None
    }
}

const MAX_INDEX_FIELDS: usize = 8;
/// So much of a name is shown.
const MOST_SHOWN: usize = 100;

/// What is wrong with a field that only an index or the expiry names.
const NOBODYS: &str =
    "is not declared, so no document can have it: declare it, or make the schema `strict(false)`";

fn can_be_id(kind: FieldType) -> bool {
    use FieldType as T;
    matches!(kind, T::Uuid | T::String | T::Int | T::Any)
}

/// Whether a field of that type takes the value: its type, null, or an array of its type.
pub(crate) fn takes(kind: FieldType, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) if kind != FieldType::Array => {
            values.iter().all(|value| is_of(kind, value))
        }
        _ => is_of(kind, value),
    }
}

fn is_of(kind: FieldType, value: &Value) -> bool {
    use FieldType as T;
    match kind {
        T::Any => true,
        T::String => matches!(value, Value::String(_)),
        T::Int => matches!(value, Value::Int(_)),
        T::Float => matches!(value, Value::Float(_) | Value::Int(_)),
        T::Bool => matches!(value, Value::Bool(_)),
        T::Uuid => matches!(value, Value::Uuid(_)),
        T::Bytes => matches!(value, Value::Bytes(_)),
        T::DateTime => matches!(value, Value::DateTime(_)),
        T::Array => matches!(value, Value::Array(_)),
        T::Object => matches!(value, Value::Object(_)),
    }
}

/// The short form: name, type, and whether it is unique.
impl<N: Into<String>> From<Vec<(N, FieldType, bool)>> for Schema {
    fn from(fields: Vec<(N, FieldType, bool)>) -> Self {
        let mut schema = Schema::new();
        for (name, kind, unique) in fields {
            let mut field = Field::new(name, kind);
            field.unique = unique;
            schema.fields.push(field);
        }
        schema
    }
}
