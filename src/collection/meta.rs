//! What the catalog keeps of a collection, and what is worked out from it.

use std::sync::Arc;

use super::schema::{Expires, Field, Index, Schema};
use crate::query::Filter;
use crate::value::{FieldNames, FieldType, Object, Path, Value, decode_document, encode_fields};

/// A collection as the catalog knows it, with what is derived from that. Shared by all who use it;
/// a change of the catalog makes a new one.
#[derive(Debug)]
pub(crate) struct Meta {
    pub name: Arc<str>,
    pub number: u32,
    /// Grows with every change of the schema.
    pub version: u32,
    pub schema: Schema,
    /// All names that ever had a number, in the order of the numbers.
    pub known_names: Vec<Arc<str>>,
    /// The number that the next index gets.
    pub next_index: u32,
    pub indexes: Vec<IndexMeta>,

    // Derived.
    pub names: Arc<FieldNames>,
    pub documents_tree: String,
    pub expires: Option<(Path, u64)>,
    pub id_path: Path,
    /// The fields with a default, by their places in the schema: those that others are in come first.
    defaults: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct IndexMeta {
    pub number: u32,
    pub index: Index,
    /// While it is built: the encoded id up to which documents are in it. Empty at first.
    pub built_to: Option<Vec<u8>>,

    // Derived.
    pub name: String,
    pub tree: String,
    pub paths: Vec<Path>,
}

impl IndexMeta {
    pub(crate) fn is_ready(&self) -> bool {
        self.built_to.is_none()
    }

    /// An array in the field of such an index has an entry for each element.
    pub(crate) fn has_elements(&self) -> bool {
        self.paths.len() == 1
    }
}

/// Name of the tree with the documents of a collection.
pub(super) fn documents_tree(collection: u32) -> String {
    format!("aurora/documents/{collection}")
}

/// Name of the tree with the entries of an index.
pub(super) fn index_tree(collection: u32, index: u32) -> String {
    format!("aurora/index/{collection}/{index}")
}

/// Whether a tree has documents, or the entries of an index.
pub(super) fn is_of_a_collection(tree: &str) -> bool {
    tree.starts_with("aurora/documents/") || tree.starts_with("aurora/index/")
}

/// Name of the tree that maps names of collections to their records.
pub(crate) const CATALOG_TREE: &str = "aurora/collections";

/// Version of the record.
const RECORD_VERSION: i64 = 1;

/// An index before its derived parts are filled in.
pub(crate) struct NumberedIndex {
    pub number: u32,
    pub index: Index,
    pub built_to: Option<Vec<u8>>,
}

impl Meta {
    pub(crate) fn assemble(
        name: Arc<str>,
        number: u32,
        version: u32,
        schema: Schema,
        known_names: Vec<Arc<str>>,
        next_index: u32,
        indexes: Vec<NumberedIndex>,
    ) -> Self {
        let names = Arc::new(FieldNames::new(known_names.iter().cloned()));
        let indexes = indexes.into_iter().map(|numbered| IndexMeta {
            name: numbered.index.name(),
            tree: index_tree(number, numbered.number),
            paths: { numbered.index.paths.iter() }
                .map(|path| Path::new(path, &names))
                .collect(),
            number: numbered.number,
            index: numbered.index,
            built_to: numbered.built_to,
        });
        let indexes = indexes.collect();
        let expires = schema.expires.as_ref();
        let with_default = schema.fields.iter().enumerate();
        let with_default = with_default.filter(|(_, field)| field.default.is_some());
        let mut defaults: Vec<(usize, usize)> = with_default
            .map(|(place, field)| (field.path.len(), place))
            .collect();
        defaults.sort_unstable();
        Meta {
            defaults: defaults.into_iter().map(|(_, place)| place).collect(),
            name,
            number,
            version,
            known_names,
            next_index,
            indexes,
            documents_tree: documents_tree(number),
            expires: expires.map(|e| (Path::new(&e.path, &names), e.after_ms)),
            id_path: Path::new("id", &names),
            names,
            schema,
        }
    }

    /// The fields that have a default, those that others are in first.
    pub(super) fn fields_with_default(&self) -> impl Iterator<Item = &Field> {
        let places = self.defaults.iter();
        places.filter_map(|place| self.schema.fields.get(*place))
    }

    /// The parts of a present index that the catalog keeps.
    pub(crate) fn numbered_indexes(&self) -> Vec<NumberedIndex> {
        let indexes = self.indexes.iter();
        { indexes }
            .map(|index| NumberedIndex {
                number: index.number,
                index: index.index.clone(),
                built_to: index.built_to.clone(),
            })
            .collect()
    }

    /// The record, as `format-spec.md` describes it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let text = |text: &str| Value::from(text);
        let list = |values: Vec<Value>| Value::Array(values);
        let names = self.known_names.iter().map(|name| text(name)).collect();
        let fields = self.schema.fields.iter().map(field_to_value).collect();
        let declared = { self.schema.indexes.iter() }
            .map(|index| Value::Object(index_to_object(index)))
            .collect();
        let indexes = { self.indexes.iter() }
            .map(|index| {
                let mut object = index_to_object(&index.index);
                object.insert("number", index.number);
                if let Some(built_to) = &index.built_to {
                    object.insert("built_to", built_to.clone());
                }
                Value::Object(object)
            })
            .collect();
        let mut record = Object::from([
            ("format", Value::Int(RECORD_VERSION)),
            ("number", self.number.into()),
            ("version", self.version.into()),
            ("strict", self.schema.strict.into()),
            ("names", list(names)),
            ("fields", list(fields)),
            ("declared", list(declared)),
            ("indexes", list(indexes)),
            ("next_index", self.next_index.into()),
        ]);
        if let Some(expires) = &self.schema.expires {
            record.insert("expires", text(&expires.path));
            let after = i64::try_from(expires.after_ms).unwrap_or(i64::MAX);
            record.insert("expires_after_ms", after);
        }
        encode_fields(&record, &FieldNames::default())
    }

    pub(crate) fn decode(name: &str, bytes: &[u8]) -> Option<Self> {
        let record = decode_document(bytes, &FieldNames::default()).ok()?;
        if record.get("format")?.as_int()? != RECORD_VERSION {
            return None;
        }
        let schema = Schema {
            fields: items(&record, "fields", field_from_value)?,
            indexes: items(&record, "declared", |value| {
                index_from_object(value.as_object()?)
            })?,
            strict: record.get("strict")?.as_bool()?,
            expires: match record.get("expires") {
                Some(path) => Some(Expires {
                    path: path.as_str()?.to_string(),
                    after_ms: u64::try_from(record.get("expires_after_ms")?.as_int()?).ok()?,
                }),
                None => None,
            },
        };
        let indexes = items(&record, "indexes", |value| {
            let object = value.as_object()?;
            Some(NumberedIndex {
                number: number(object, "number")?,
                index: index_from_object(object)?,
                built_to: match object.get("built_to") {
                    Some(bytes) => Some(bytes.as_bytes()?.to_vec()),
                    None => None,
                },
            })
        })?;
        let names = items(&record, "names", |name| Some(Arc::from(name.as_str()?)))?;
        Some(Meta::assemble(
            Arc::from(name),
            number(&record, "number")?,
            number(&record, "version")?,
            schema,
            names,
            number(&record, "next_index")?,
            indexes,
        ))
    }
}

fn number(object: &Object, name: &str) -> Option<u32> {
    u32::try_from(object.get(name)?.as_int()?).ok()
}

fn items<T>(record: &Object, name: &str, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    record.get(name)?.as_array()?.iter().map(read).collect()
}

const KINDS: [FieldType; 10] = [
    FieldType::String,
    FieldType::Int,
    FieldType::Float,
    FieldType::Bool,
    FieldType::Uuid,
    FieldType::Bytes,
    FieldType::DateTime,
    FieldType::Array,
    FieldType::Object,
    FieldType::Any,
];

fn field_to_value(field: &Field) -> Value {
    let mut object = Object::from([
        ("path", Value::from(&field.path)),
        ("type", field.kind.name().into()),
        ("required", field.required.into()),
        ("unique", field.unique.into()),
        ("indexed", field.indexed.into()),
    ]);
    if let Some(default) = &field.default {
        object.insert("default", default);
    }
    Value::Object(object)
}

fn field_from_value(value: &Value) -> Option<Field> {
    let object = value.as_object()?;
    let kind = object.get("type")?.as_str()?;
    Some(Field {
        path: object.get("path")?.as_str()?.to_string(),
        kind: KINDS.into_iter().find(|known| known.name() == kind)?,
        required: object.get("required")?.as_bool()?,
        unique: object.get("unique")?.as_bool()?,
        indexed: object.get("indexed")?.as_bool()?,
        default: object.get("default").cloned(),
    })
}

fn index_to_object(index: &Index) -> Object {
    let paths = index.paths.iter().map(Value::from).collect();
    let mut object = Object::from([
        ("paths", Value::Array(paths)),
        ("unique", index.unique.into()),
    ]);
    if let Some(name) = &index.name {
        object.insert("name", name);
    }
    if let Some(filter) = &index.only {
        object.insert("only", filter.to_value());
    }
    object
}

fn index_from_object(object: &Object) -> Option<Index> {
    Some(Index {
        name: match object.get("name") {
            Some(name) => Some(name.as_str()?.to_string()),
            None => None,
        },
        paths: items(object, "paths", |path| Some(path.as_str()?.to_string()))?,
        unique: object.get("unique")?.as_bool()?,
        only: match object.get("only") {
            Some(filter) => Some(Filter::from_value(filter)?),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn records_read_back() {
        let schema = Schema::new()
            .field(Field::new("a", FieldType::Int).required().default(3))
            .field(Field::new("b.c", FieldType::DateTime).unique())
            .index(Index::on(["a", "b.c"]).named("both").unique())
            .index(Index::on(["a"]).named("part").only(Filter::gt("a", 5)))
            .strict(false)
            .expires_after("b.c", Duration::from_millis(1500));
        let indexes = { schema.indexes().into_iter().zip(3..) }
            .map(|(index, number)| NumberedIndex {
                number,
                index,
                built_to: (number == 4).then(|| vec![1, 2]),
            })
            .collect();
        let names = vec!["a".into(), "b".into(), "gone".into()];
        let meta = Meta::assemble("c".into(), 7, 2, schema, names, 9, indexes);
        let read = Meta::decode("c", &meta.encode()).unwrap();
        assert_eq!(read.schema, meta.schema);
        assert_eq!((read.number, read.version, read.next_index), (7, 2, 9));
        assert_eq!(read.known_names, meta.known_names);
        assert_eq!(format!("{:?}", read.indexes), format!("{:?}", meta.indexes));
        assert_eq!(read.encode(), meta.encode());
        assert!(Meta::decode("c", &[]).is_none());
    }
}
