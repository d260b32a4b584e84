//! Collections: schemas and what they refuse, documents and their index entries, indexes that come
//! and go, everything in one transaction.

#[path = "common/memory.rs"]
mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aurora::storage::{MemoryStorage, SimCrash, SimDisk};
use aurora::{
    Aurora, Clock, Document, Error, Field, FieldType, Filter, Index, Object, Patch, Schema,
    Timestamp, Uuid, Value,
};
use serde::{Deserialize, Serialize};

fn schema_of_people() -> Schema {
    Schema::new()
        .field(Field::new("email", FieldType::String).required().unique())
        .field(Field::new("name", FieldType::String).indexed())
        .field(Field::new("visits", FieldType::Int).default(0))
        .field(Field::new("address.city", FieldType::String).indexed())
        .field(Field::new("tags", FieldType::String).indexed())
        .field(Field::new("score", FieldType::Float))
}

fn person(email: &str) -> Object {
    Object::from([("email", email)])
}

fn open() -> Aurora {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("people", schema_of_people()).unwrap();
    db
}

#[test]
fn what_does_not_fit_the_schema_is_refused_by_name() {
    let db = open();
    db.insert_into("people", person("a")).unwrap();
    let insert = |fields: Object| db.insert_into("people", fields).unwrap_err();
    let with = |name: &str, value: Value| {
        let mut fields = person("b");
        fields.insert(name, value);
        insert(fields)
    };
    match insert(Object::from([("name", "x")])) {
        Error::MissingField { collection, field } => {
            assert_eq!((&*collection, &*field), ("people", "email"));
        }
        other => panic!("{other}"),
    }
    match with("visits", "many".into()) {
        Error::WrongType {
            field,
            expected,
            found,
            value,
            ..
        } => {
            assert_eq!(
                (&*field, expected, found, &*value),
                ("visits", "Int", "String", "many")
            );
        }
        other => panic!("{other}"),
    }
    match with("adress", 1.into()) {
        Error::UnknownField { field, .. } => assert_eq!(field, "adress"),
        other => panic!("{other}"),
    }
    match insert(person("a")) {
        Error::Duplicate { field, value, .. } => assert_eq!((&*field, &*value), ("email", "a")),
        other => panic!("{other}"),
    }
    assert!(matches!(
        with("tags", Value::Array(vec![1.into()])),
        Error::WrongType { .. }
    ));
    let nested = Value::Object([("city", 1)].into());
    assert!(matches!(with("address", nested), Error::WrongType { .. }));
    let missing = db.insert_into("nobody", person("a")).unwrap_err();
    assert!(matches!(missing, Error::CollectionNotFound { .. }));
    // All of them are told apart from damage, and none has changed anything.
    assert!(missing.is_misuse());
    assert_eq!(db.collection("people").unwrap().len().unwrap(), 1);
    db.check().unwrap();
}

#[test]
fn documents_live_through_all_changes() {
    let db = open();
    let people = db.collection("people").unwrap();
    let id = people.insert_fields(person("a")).unwrap();
    let get = || people.get(&id).unwrap().unwrap();
    assert_eq!(get().get("visits"), Some(&Value::from(0)), "the default");
    people
        .update(
            &id,
            Patch::new().inc("visits", 2).set("address.city", "Bern"),
        )
        .unwrap();
    assert_eq!(get().get("address.city"), Some(&"Bern".into()));
    let found = people.query().filter(|f| f.eq("address.city", "Bern"));
    assert_eq!(found.count().wait().unwrap(), 1);
    people
        .replace(&id, Object::from([("email", "b"), ("name", "B")]))
        .unwrap();
    assert_eq!(get().get("address.city"), None);
    assert_eq!(
        people.insert_fields(person("a")).map(|_| ()).ok(),
        Some(()),
        "the value is free"
    );
    assert!(matches!(
        people.update(&id, Patch::new().set("email", "a")),
        Err(Error::Duplicate { .. })
    ));
    let mut again = person("c");
    again.insert("id", &id);
    assert_eq!(people.upsert(again).unwrap(), id);
    assert_eq!(get().get("email"), Some(&"c".into()));
    assert!(db.delete(&id).wait().unwrap());
    assert!(!people.delete(&id).unwrap());
    assert!(matches!(
        people.update(&id, Patch::new()),
        Err(Error::DocumentNotFound { .. })
    ));
    assert_eq!(people.get(&id).unwrap(), None);
    db.check().unwrap();
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Book {
    id: Uuid,
    title: String,
    added: Timestamp,
    tags: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    id: Uuid,
    title: String,
}

#[test]
fn types_of_the_program_go_in_and_out() {
    let db = Aurora::in_memory().unwrap();
    let schema = vec![
        ("id", FieldType::Uuid, true),
        ("title", FieldType::String, false),
        ("added", FieldType::DateTime, false),
        ("tags", FieldType::String, false),
    ];
    db.new_collection("books", schema).unwrap();
    let book = Book {
        id: Uuid::from_u128(5),
        title: "Dune".into(),
        added: "2024-05-01T12:00:00.5Z".parse().unwrap(),
        tags: vec!["a".into(), "b".into()],
    };
    let books = db.collection("books").unwrap();
    let id = books.insert(&book).unwrap();
    assert_eq!(id.value(), &Value::Uuid(book.id));
    assert_eq!(books.get_as::<Book>(book.id).unwrap().as_ref(), Some(&book));
    let all: Vec<Book> = books.query().collect_as().wait().unwrap();
    assert_eq!(all, [book]);
    // A type with an id in a collection that keeps it apart from the fields.
    db.new_collection(
        "more",
        Schema::new().field(Field::new("title", FieldType::String)),
    )
    .unwrap();
    let note = Note {
        id: Uuid::from_u128(6),
        title: "x".into(),
    };
    let notes = db.collection("more").unwrap();
    notes.insert(&note).unwrap();
    assert_eq!(notes.get_as::<Note>(note.id).unwrap(), Some(note));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Measured<T> {
    v: T,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Outer<T> {
    name: String,
    #[serde(flatten)]
    inner: Measured<T>,
}

fn comes_back<T>(schema: Schema, value: T)
where
    T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug + Send + 'static,
{
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", schema).unwrap();
    let c = db.collection("c").unwrap();
    let id = c.insert(&value).unwrap();
    let stored = c.get(&id).unwrap();
    match c.get_as::<T>(&id) {
        Ok(Some(found)) => assert_eq!(found, value, "{stored:?}"),
        other => panic!("{value:?}: {other:?}"),
    }
    assert_eq!(c.query().collect_as::<T>().wait().unwrap(), [value]);
}

/// A field that is declared to be a float takes whole numbers that it can hold, however large, and gives them back.
#[test]
fn whole_numbers_of_a_float_field_come_back() {
    let schema = || Schema::schemaless().field(Field::new("v", FieldType::Float));
    for v in [0i64, 1 << 52, 1 << 53, (1 << 53) + 2, 1 << 60, 1 << 62] {
        comes_back(schema(), Measured { v });
        comes_back(schema(), Measured { v: v as u64 });
        comes_back(
            schema(),
            Measured {
                v: u128::from(v as u64),
            },
        );
        comes_back(schema(), Measured { v: vec![-v, 1] });
        let outer = |v| Outer {
            name: "x".into(),
            inner: Measured { v },
        };
        comes_back(schema(), outer(v));
        comes_back(schema(), outer(-v));
    }
    comes_back(schema(), Measured { v: i64::MIN });
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", schema()).unwrap();
    let c = db.collection("c").unwrap();
    let fits = |v: f64| {
        let id = c.insert_fields([("v", v)]).unwrap();
        let found = [
            c.get_as::<Measured<i64>>(&id).is_ok(),
            c.get_as::<Measured<u64>>(&id).is_ok(),
            c.get_as::<Measured<u128>>(&id).is_ok(),
            c.get_as::<Measured<u8>>(&id).is_ok(),
        ];
        assert_eq!(
            c.get_as::<Measured<f64>>(&id).unwrap(),
            Some(Measured { v })
        );
        found
    };
    let two = |power| 2f64.powi(power);
    assert_eq!(fits(two(63)), [false, true, true, false]);
    assert_eq!(fits(-two(63)), [true, false, false, false]);
    assert_eq!(fits(two(64)), [false, false, true, false]);
    assert_eq!(fits(two(128)), [false; 4]);
    assert_eq!(fits(0.5), [false; 4]);
    assert_eq!(fits(f64::INFINITY), [false; 4]);
}

/// What takes anything gets UUIDs as text, as JSON has them.
#[test]
fn documents_with_uuids_and_bytes_become_json() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Rest {
        n: i64,
        #[serde(flatten)]
        rest: serde_json::Map<String, serde_json::Value>,
    }
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let c = db.collection("c").unwrap();
    let key = Uuid::from_u128(77);
    let fields = |bytes: bool| {
        let list = Value::Array(vec![key.into(), 1.into()]);
        let mut fields = Object::from([("n", Value::from(1)), ("key", key.into()), ("list", list)]);
        if bytes {
            fields.insert("data", vec![1u8, 255]);
        }
        fields
    };
    for bytes in [false, true] {
        let id = c.insert_fields(fields(bytes)).unwrap();
        let expected = serde_json::to_value(fields(bytes)).unwrap();
        let json = c.get_as::<serde_json::Value>(&id).unwrap();
        assert_eq!(json.as_ref(), Some(&expected));
        let map = c
            .get_as::<std::collections::BTreeMap<String, serde_json::Value>>(&id)
            .unwrap();
        assert_eq!(map.unwrap()["key"], expected["key"]);
        let rest = c.get_as::<Rest>(&id).unwrap().unwrap();
        assert_eq!(rest.rest["list"], expected["list"]);
    }
}

/// Values are made of lists and gone through without a word about their types, and are keys of maps.
#[test]
fn values_are_made_and_used_like_those_of_the_language() {
    use std::collections::{BTreeMap, HashMap, HashSet};
    let list = |values: &[i64]| Value::Array(values.iter().map(|v| Value::Int(*v)).collect());
    assert_eq!(Value::from(vec![1i64, 2]), list(&[1, 2]));
    assert_eq!([1, 2].into_iter().collect::<Value>(), list(&[1, 2]));
    assert_eq!(Value::from(vec![1u8, 2]).type_name(), "Bytes");
    let words = Value::from(vec!["a", "b"]);
    assert_eq!(words, Value::from(vec!["a".to_string(), "b".to_string()]));
    let object = Object::from([("b", words), ("a", 2.0.into())]);
    let mut names = Vec::new();
    for (name, value) in &object {
        assert_eq!(object.get(name), Some(value));
        names.push(name);
    }
    assert_eq!(names, ["b", "a"]);
    let fields: BTreeMap<_, _> = object.clone().into_iter().collect();
    assert_eq!(fields.len(), 2);
    let turned = Object::from([("a", Value::from(2)), ("b", fields["b"].clone())]);
    let set = HashSet::from([Value::Object(object), Value::Object(turned)]);
    assert_eq!(set.len(), 1);
    let equal = [Value::Int(0), Value::Float(-0.0), Value::Float(0.0)];
    assert_eq!(HashSet::from(equal).len(), 1);
    let other = [i64::MAX, i64::MAX - 1, 1 << 53, (1 << 53) + 1].map(Value::Int);
    let nans = [f64::NAN, -f64::NAN, f64::INFINITY].map(Value::Float);
    let counts: HashMap<Value, u32> = other.into_iter().chain(nans).map(|v| (v, 1)).collect();
    assert_eq!(counts.len(), 6);
    let payload: Value = serde_json::from_str(r#"{"list":[1,2.5,null]}"#).unwrap();
    comes_back(Schema::schemaless(), Measured { v: payload });
}

/// Names that `serde` does not hand over as text, and come back as what they were.
#[test]
fn names_of_fields_are_uuids_and_truth_values_as_text() {
    use std::collections::BTreeMap;
    let uuids = BTreeMap::from([(Uuid::from_u128(5), 1), (Uuid::from_u128(6), 2)]);
    comes_back(Schema::schemaless(), Measured { v: uuids });
    let truths = BTreeMap::from([(true, 1), (false, 2)]);
    comes_back(Schema::schemaless(), Measured { v: truths });
    let key = Uuid::from_u128(5);
    let object = Object::of(&BTreeMap::from([(key, 1)])).unwrap();
    assert_eq!(object.get(&key.to_string()), Some(&Value::Int(1)));
}

#[test]
fn what_does_not_convert_is_told_with_its_place() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let c = db.collection("c").unwrap();
    let v = vec![Measured { v: 1 }, Measured { v: u64::MAX }];
    let refused = c.insert(&Measured { v }).unwrap_err().to_string();
    for part in ["v.v", "signed 64 bits", "18446744073709551615"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let id = c.insert_fields([("id", "one"), ("v", "text")]).unwrap();
    let direct = c.get_as::<Measured<u64>>(&id).map(drop);
    let query = c.query().collect_as::<Measured<u64>>().wait().map(drop);
    for refused in [direct, query] {
        let refused = refused.unwrap_err().to_string();
        for part in ["one", "\"c\"", "invalid type"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
    }
}

#[test]
fn ids_of_every_kind() {
    let db = Aurora::in_memory().unwrap();
    for (name, kind) in [
        ("n", FieldType::Int),
        ("s", FieldType::String),
        ("u", FieldType::Uuid),
    ] {
        db.new_collection(name, Schema::new().field(Field::new("id", kind)))
            .unwrap();
        let first = db.insert_into(name, Object::new()).unwrap();
        let second = db.insert_into(name, Object::new()).unwrap();
        assert!(first.value() < second.value(), "{name}");
        assert_eq!(first.value().type_name(), kind.name());
        let document = db.collection(name).unwrap().get(&second).unwrap().unwrap();
        assert_eq!(document.get("id"), Some(second.value()));
        let same = db.insert_into(name, Object::from([("id", second.value())]));
        assert!(matches!(same, Err(Error::Duplicate { .. })));
    }
    let own = db.insert_into("n", Object::from([("id", 40)])).unwrap();
    assert_eq!(own.value(), &Value::Int(40));
    let next = db.insert_into("n", Object::new()).unwrap();
    assert_eq!(next.value(), &Value::Int(41));
    // A NUL takes two bytes.
    let with_id = |id: String| db.insert_into("s", Object::from([("id", id)]));
    for (letters, nuls) in [(252, 0), (250, 1), (0, 126)] {
        let fits = "x".repeat(letters) + &"\0".repeat(nuls);
        assert_eq!(
            with_id(fits.clone()).unwrap().value(),
            &Value::String(fits.clone())
        );
        match with_id(fits + "x") {
            Err(Error::WrongType { expected, .. }) => {
                assert!(expected.contains("252"), "{expected}")
            }
            other => panic!("{other:?}"),
        }
    }
    db.check().unwrap();
}

#[test]
fn the_field_id_is_the_id_whatever_happens() {
    let db = Aurora::in_memory().unwrap();
    let get = |name: &str, id: Value| db.collection(name).unwrap().get(id).unwrap().unwrap();

    // A document without the field.
    db.new_collection("loose", Schema::schemaless()).unwrap();
    let loose = db.collection("loose").unwrap();
    let id = loose.insert_fields([("n", 1)]).unwrap();
    loose
        .replace(&id, [("id", Value::Null), ("n", 2.into())])
        .unwrap();
    assert_eq!(
        get("loose", (&id).into()).fields(),
        &Object::from([("n", 2)])
    );
    loose.replace(&id, [("id", Value::from(&id))]).unwrap();
    assert_eq!(get("loose", (&id).into()).get("id"), Some(id.value()));

    // A strict schema takes an id without having the field.
    db.new_collection("strict", vec![("n", FieldType::Int, false)])
        .unwrap();
    let strict = db.collection("strict").unwrap();
    strict.insert_fields([("id", 1), ("n", 1)]).unwrap();
    strict.replace(1, [("id", 1), ("n", 2)]).unwrap();
    assert_eq!(get("strict", 1.into()).fields(), &Object::from([("n", 2)]));
    let other = strict.replace(1, [("id", 2), ("n", 2)]).unwrap_err();
    assert!(matches!(other, Error::WrongType { .. }), "{other}");

    // An id that is written as text is taken as when it was stored.
    db.new_collection("typed", vec![("id", FieldType::Uuid, true)])
        .unwrap();
    let typed = db.collection("typed").unwrap();
    let id = typed.insert_fields([("id", Uuid::from_u128(5))]).unwrap();
    typed.replace(&id, [("id", id.to_string())]).unwrap();

    // A text does not become a UUID because the field does.
    let text = Uuid::from_u128(5).to_string();
    loose.insert_fields([("id", &text)]).unwrap();
    db.query("loose")
        .matching(Filter::ne("id", &*text))
        .delete()
        .wait()
        .unwrap();
    for kind in [FieldType::Uuid, FieldType::Int] {
        let schema = Schema::new().field(Field::new("id", kind));
        let refused = db.alter_collection("loose", schema).wait().unwrap_err();
        assert!(matches!(refused, Error::WrongType { .. }), "{refused}");
    }
    let schema = Schema::new().field(Field::new("n", FieldType::Int));
    let schema = schema.field(Field::new("id", FieldType::Uuid));
    let refused = db.alter_collection("strict", schema).wait().unwrap_err();
    assert!(matches!(refused, Error::WrongType { .. }), "{refused}");
    db.check().unwrap();
}

#[test]
fn documents_keys_and_trees_commit_together_or_not_at_all() {
    let db = open();
    let failed = db.write(|tx| {
        tx.put("key", "value", None)?;
        tx.tree("tree")?.put("key", "value")?;
        tx.collection("people")?.insert_fields(person("a"))?;
        tx.new_collection("more", Schema::schemaless())?;
        tx.collection("people")?
            .insert_fields(person("a"))
            .map(|_| ())
    });
    assert!(matches!(failed, Err(Error::Duplicate { .. })));
    assert_eq!(db.get("key").unwrap(), None);
    assert_eq!(db.collection("people").unwrap().len().unwrap(), 0);
    assert_eq!(db.collections().unwrap(), ["people"]);
    // The transaction itself can go on after a document was refused.
    db.write(|tx| {
        tx.collection("people")?.insert_fields(person("a"))?;
        assert!(tx.collection("people")?.insert_fields(person("a")).is_err());
        tx.put("key", "value", None)
    })
    .unwrap();
    assert_eq!(db.collection("people").unwrap().len().unwrap(), 1);
    assert!(db.contains("key").unwrap());
    db.check().unwrap();
}

#[test]
fn unique_holds_under_many_threads_and_in_arrays() {
    let db = open();
    let taken = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..50 {
                    match db.insert_into("people", person(&format!("{i}"))) {
                        Ok(_) => {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(Error::Duplicate { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
    });
    assert_eq!(taken.into_inner(), 50);
    let several = |emails: &[&str]| {
        let emails = emails.iter().map(|email| (*email).into()).collect();
        db.insert_into("people", Object::from([("email", Value::Array(emails))]))
    };
    several(&["x", "y"]).unwrap();
    assert!(matches!(several(&["z", "x"]), Err(Error::Duplicate { .. })));
    assert!(matches!(
        db.insert_into("people", person("y")),
        Err(Error::Duplicate { .. })
    ));
    assert!(matches!(several(&["7"]), Err(Error::Duplicate { .. })));
    // Values that are cut in the index are compared whole.
    let long = "l".repeat(2000);
    db.insert_into("people", person(&format!("{long}1")))
        .unwrap();
    db.insert_into("people", person(&format!("{long}2")))
        .unwrap();
    let again = db.insert_into("people", person(&format!("{long}1")));
    assert!(matches!(again, Err(Error::Duplicate { .. })));
    db.check().unwrap();
}

#[test]
fn indexes_come_and_go_on_a_filled_collection() {
    let db = open();
    let people = db.collection("people").unwrap();
    let all = (0..5000).map(|i| {
        let mut fields = person(&format!("{i}"));
        fields.insert("visits", i % 7);
        fields.insert("score", f64::from(i));
        fields
    });
    people.insert_many(all).unwrap();
    let index = Index::on(["visits", "score"]).only(Filter::gt("visits", 2));
    let steps = Arc::new(AtomicU64::new(0));
    let told = steps.clone();
    db.create_index_with("people", index, move |progress| {
        assert!(progress.done <= progress.total && progress.total == 5000);
        told.fetch_add(1, Ordering::Relaxed);
    })
    .wait()
    .unwrap();
    assert!(steps.load(Ordering::Relaxed) > 3);
    let query = || {
        people
            .query()
            .filter(|f| f.eq("visits", 5))
            .order_by("score", false)
            .limit(3)
    };
    let plan = query().explain().wait().unwrap();
    assert_eq!(
        (plan.indexes(), plan.examined),
        (vec!["visits,score"], 3),
        "{plan}"
    );
    let rows = query().collect().wait().unwrap();
    // Rows outside of a partial index are found without it.
    let outside = people
        .query()
        .filter(|f| f.eq("visits", 2))
        .count()
        .wait()
        .unwrap();
    assert_eq!(outside, 714);
    db.check().unwrap();
    db.drop_index("people", "visits,score").wait().unwrap();
    assert_eq!(query().collect().wait().unwrap(), rows);
    assert!(matches!(
        db.drop_index("people", "visits,score").wait(),
        Err(Error::BadIndex { .. })
    ));
    // A unique index on values that are not leaves nothing behind.
    let unique = db
        .create_index("people", Index::on(["visits"]).named("u").unique())
        .wait();
    assert!(matches!(unique, Err(Error::Duplicate { .. })));
    assert!(
        people
            .indexes()
            .unwrap()
            .iter()
            .all(|info| info.index.name() != "u")
    );
    db.check().unwrap();
}

/// The transaction goes on as if nobody had asked for the index.
#[test]
fn an_index_that_is_refused_in_a_transaction_leaves_nothing() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let documents = (0..1500i64).map(|i| {
        let value = if i == 1400 { 1399 } else { i };
        [("id", i * 10), ("v", value)]
    });
    db.collection("c").unwrap().insert_many(documents).unwrap();
    let unique = || Index::on(["v"]).unique();
    db.write(|tx| {
        let mut c = tx.collection("c")?;
        let error = c.create_index(unique()).unwrap_err();
        assert!(matches!(error, Error::Duplicate { .. }), "{error}");
        assert!(c.create_index(Index::on(["v", "v"])).is_err());
        c.insert_fields([("id", 5), ("v", 777_777)]).map(drop)
    })
    .unwrap();
    let c = db.collection("c").unwrap();
    assert!(c.indexes().unwrap().is_empty());
    c.insert_fields([("id", 7), ("v", 3)]).unwrap();
    for id in [7, 14_000] {
        c.delete(id).unwrap();
    }
    db.create_index("c", unique()).wait().unwrap();
    let found = db.query("c").matching(Filter::eq("v", 777_777)).count();
    assert_eq!(found.wait().unwrap(), 1);
    let again = c.insert_fields([("id", 8), ("v", 777_777)]);
    assert!(matches!(again, Err(Error::Duplicate { .. })));
    db.check().unwrap();
}

#[test]
fn unique_elements_of_arrays_are_the_same_in_either_order() {
    let array = |values: &[Value]| Value::Array(values.to_vec());
    let five = Value::from(5);
    let nested = array(&[array(std::slice::from_ref(&five))]);
    // What may stand side by side, and what may not.
    let pairs = [
        (
            array(&[Value::Null, 1.into()]),
            array(&[Value::Null, 2.into()]),
            true,
        ),
        (array(&[]), array(&[]), true),
        (array(std::slice::from_ref(&five)), nested.clone(), true),
        (nested.clone(), nested.clone(), false),
        (array(std::slice::from_ref(&five)), five.clone(), false),
        (
            array(&[1.into(), five.clone()]),
            array(&[five.clone(), 2.into()]),
            false,
        ),
        (
            array(&["x".repeat(900).into()]),
            array(&[Value::Null, "x".repeat(901).into()]),
            true,
        ),
        (
            array(&["x".repeat(900).into()]),
            "x".repeat(900).into(),
            false,
        ),
    ];
    for (one, other, fit) in pairs {
        for (first, second) in [(&one, &other), (&other, &one)] {
            let db = Aurora::in_memory().unwrap();
            let schema = Schema::new().field(Field::new("u", FieldType::Any).unique());
            db.new_collection("c", schema).unwrap();
            db.insert_into("c", [("u", first.clone())]).unwrap();
            let stored = db.insert_into("c", [("u", second.clone())]);
            assert_eq!(stored.is_ok(), fit, "{first} and {second}: {stored:?}");
            db.check().unwrap();
        }
    }
}

#[test]
fn an_index_is_built_while_others_write() {
    let db = open();
    let people = db.collection("people").unwrap();
    people
        .insert_many((0..4000).map(|i| person(&format!("{i}"))))
        .unwrap();
    std::thread::scope(|scope| {
        let built = scope.spawn(|| db.create_index("people", Index::on(["visits"])).wait());
        for i in 0..200 {
            people.insert_fields(person(&format!("new {i}"))).unwrap();
            let old = people
                .query()
                .filter(|f| f.eq("email", format!("{}", i * 3)));
            old.delete().wait().unwrap();
        }
        built.join().unwrap().unwrap();
    });
    let info = people
        .indexes()
        .unwrap()
        .into_iter()
        .find(|info| info.index.name() == "visits");
    let info = info.unwrap();
    assert!(info.is_ready);
    assert_eq!(info.entries, people.len().unwrap());
    db.check().unwrap();
}

/// The one that builds it looks at a thousand documents in each of its turns: where more came in each of the others', it ran
/// after them for as long as they came.
#[test]
fn an_index_is_built_while_more_comes_in_than_is_built_at_a_time() {
    const COMMITS: i64 = 60;
    const EACH: i64 = 3_000;
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let load = |commit: i64| {
        let all = (commit * EACH..(commit + 1) * EACH).map(|n| Object::from([("n", n)]));
        db.collection("c").unwrap().insert_many(all).unwrap();
    };
    (0..3).for_each(load);
    let is_built = AtomicBool::new(false);
    let commits = std::thread::scope(|scope| {
        scope.spawn(|| {
            db.create_index("c", Index::on(["n"]).unique())
                .wait()
                .unwrap();
            is_built.store(true, Ordering::SeqCst);
        });
        let mut commits = 3;
        while commits < COMMITS && !is_built.load(Ordering::SeqCst) {
            load(commits);
            commits += 1;
        }
        commits
    });
    assert!(commits < COMMITS, "it was built only then");
    let info = db.collection("c").unwrap().indexes().unwrap();
    assert_eq!(
        (info[0].is_ready, info[0].entries),
        (true, (commits * EACH) as u64)
    );
    db.check().unwrap();
}

/// Who builds an index of a collection, and finds another one under its name, with an index of the same name, has to build
/// all of that.
#[test]
fn an_index_is_built_of_a_collection_that_took_the_place_of_another() {
    for drops_index in [true, false] {
        let db = Aurora::in_memory().unwrap();
        let index = || Index::on(["n"]);
        let fill = |from: i64, to: i64| {
            let all = (from..to).map(|n| Object::from([("id", n), ("n", n)]));
            db.collection("c").unwrap().insert_many(all).unwrap();
        };
        db.new_collection("c", Schema::schemaless()).unwrap();
        fill(0, 2_000);
        let (other, is_first) = (db.clone(), AtomicBool::new(true));
        let built = db.create_index_with("c", index(), move |progress| {
            if !is_first.swap(false, Ordering::SeqCst) || progress.done == progress.total {
                return;
            }
            match drops_index {
                true => other.drop_index("c", "n").wait().unwrap(),
                false => {
                    other.delete_collection("c").wait().unwrap();
                    other.new_collection("c", Schema::schemaless()).unwrap();
                }
            }
            let all = (5_000..15_000i64).map(|n| Object::from([("id", n), ("n", n)]));
            other.collection("c").unwrap().insert_many(all).unwrap();
            // Begun by another, and left.
            let steps = AtomicU64::new(0);
            let begun = std::panic::AssertUnwindSafe(|| {
                let stop = move |_| assert!(steps.fetch_add(1, Ordering::SeqCst) == 0);
                other.create_index_with("c", Index::on(["n"]), stop).wait()
            });
            assert!(std::panic::catch_unwind(begun).is_err());
        });
        built.wait().unwrap();
        let info = db.collection("c").unwrap().indexes().unwrap();
        let documents = db.collection("c").unwrap().len().unwrap();
        assert_eq!((info[0].is_ready, info[0].entries), (true, documents));
        db.check().unwrap();
    }
}

#[test]
fn a_collection_gets_another_name() {
    let db = open();
    let people = db.collection("people").unwrap();
    let ids: Vec<_> = (0..50)
        .map(|n| people.insert_fields(person(&format!("{n}"))).unwrap())
        .collect();
    let hot = people.get(&ids[7]).unwrap().unwrap();
    assert_eq!(people.get(&ids[7]).unwrap().unwrap(), hot);
    let before = db.begin_read().unwrap();

    let undone: aurora::Result<()> = db.write(|tx| {
        tx.rename_collection("people", "users")?;
        assert_eq!(tx.collection("users")?.len(), 50);
        assert!(tx.collection("people").is_err());
        Err(Error::UnknownSavepoint)
    });
    assert!(undone.is_err());
    assert_eq!(db.collections().unwrap(), ["people"]);
    db.rename_collection("people", "people").unwrap();
    db.new_collection("taken", Schema::schemaless()).unwrap();
    for (from, to) in [("people", "taken"), ("people", ""), ("nobody", "somebody")] {
        let refused = db.rename_collection(from, to).unwrap_err();
        assert!(refused.is_misuse(), "{refused}");
    }

    db.rename_collection("people", "users").unwrap();
    assert_eq!(db.collections().unwrap(), ["taken", "users"]);
    assert_eq!(before.collection("people").unwrap().len(), 50);
    let users = db.collection("users").unwrap();
    for _ in 0..3 {
        let found = users.get(&ids[7]).unwrap().unwrap();
        assert_eq!(found.id.collection(), "users");
        assert_eq!(found.fields(), hot.fields());
        // A handle with the old name finds nothing, in memory neither.
        let gone = people.get(&ids[7]);
        assert!(
            matches!(gone, Err(Error::CollectionNotFound { .. })),
            "{gone:?}"
        );
    }
    let found = users.query().filter(|f| f.eq("email", "7"));
    let plan = found.clone().explain().wait().unwrap();
    assert_eq!((plan.rows, plan.indexes()), (1, vec!["email"]));
    assert!(matches!(
        users.insert_fields(person("7")),
        Err(Error::Duplicate { .. })
    ));
    db.check().unwrap();
    // The name is free, and the handle is of what has it now.
    db.new_collection("people", schema_of_people()).unwrap();
    assert_eq!(people.get(&ids[7]).unwrap(), None);
    let id = people.insert_fields(person("7")).unwrap();
    assert_eq!(people.get(&id).unwrap().unwrap().id.collection(), "people");
    assert_eq!((people.len().unwrap(), users.len().unwrap()), (1, 50));
    db.check().unwrap();
}

#[test]
fn a_schema_changes_with_a_version() {
    let db = open();
    let people = db.collection("people").unwrap();
    let id = people.insert_fields(person("a")).unwrap();
    people.insert_fields(person("b")).unwrap();
    let (schema, version) = people.schema().unwrap();
    assert_eq!((&schema, version), (&schema_of_people(), 1));
    let wider = people_with_country();
    db.alter_collection("people", wider.clone()).wait().unwrap();
    let (schema, version) = people.schema().unwrap();
    assert_eq!((&schema, version), (&wider, 2));
    let document = people.get(&id).unwrap().unwrap();
    assert_eq!(document.get("country"), Some(&"CH".into()));
    let indexes = people.indexes().unwrap();
    let country = indexes.iter().find(|info| info.index.name() == "country");
    assert_eq!(country.map(|info| info.entries), Some(2));
    let none = people.query().filter(|f| f.eq("country", "FR"));
    let none = none.explain().wait().unwrap();
    assert_eq!((none.examined, none.indexes()), (0, vec!["country"]));
    // A schema that a document does not fit changes nothing.
    let narrower = Schema::new().field(Field::new("email", FieldType::Int));
    assert!(db.alter_collection("people", narrower).wait().is_err());
    assert_eq!(people.schema().unwrap().1, 2);
    assert!(matches!(
        db.new_collection("people", people_with_country().strict(false)),
        Err(Error::CollectionExists { .. })
    ));
    db.new_collection("people", people_with_country()).unwrap();
    db.check().unwrap();
}

/// Whatever a schema is written like, it is the same if it says the same. Without an index that is there it is another.
#[test]
fn a_schema_that_says_the_same_is_the_same() {
    let db = Aurora::in_memory().unwrap();
    let a = || Field::new("a", FieldType::Int);
    let b = || Field::new("b", FieldType::String).required();
    let two = || Index::on(["a", "b"]).only(Filter::is_in("a", [2, 1]));
    let first = Schema::new().field(a().indexed()).field(b().unique());
    db.new_collection("c", first.index(two())).unwrap();
    let same = [
        Schema::new()
            .field(b().unique())
            .field(a().indexed())
            .index(two()),
        Schema::new()
            .field(b())
            .field(a())
            .index(two().named("a,b"))
            .index(Index::on(["a"]))
            .index(Index::on(["b"]).unique()),
        Schema::new()
            .field(b().unique().indexed())
            .field(a().indexed())
            .index(two()),
    ];
    for schema in same {
        db.new_collection("c", schema).unwrap();
    }
    let whole = || { Schema::new().field(b().unique()) }.field(a().indexed());
    let other = [
        (whole(), r#"it has the index "a,b""#),
        (
            Schema::new().field(b()).field(a().indexed()).index(two()),
            r#"it has the index "b""#,
        ),
        (
            Schema::new()
                .field(b().indexed())
                .field(a().indexed())
                .index(two()),
            r#"its index "b" is another"#,
        ),
        (
            Schema::new()
                .field(b().unique())
                .field(a().indexed().required())
                .index(two()),
            r#"its field "a" is another"#,
        ),
        (
            Schema::new()
                .field(b().unique())
                .field(a().indexed().default(1))
                .index(two()),
            r#"its field "a" is another"#,
        ),
        (
            Schema::new()
                .field(b().unique())
                .index(Index::on(["a"]))
                .index(two())
                .strict(false),
            r#"it has the field "a""#,
        ),
        (
            whole().index(two()).field(Field::new("c", FieldType::Int)),
            r#"it has no field "c""#,
        ),
        (
            whole().index(two()).index(Index::on(["b", "a"])),
            r#"it has no index "b,a""#,
        ),
        (whole().index(two()).strict(false), "other fields"),
    ];
    for (schema, difference) in other {
        let refused = db.new_collection("c", schema.clone()).unwrap_err();
        let is_refused = matches!(refused, Error::CollectionExists { .. });
        assert!(is_refused, "{schema:?}");
        assert!(refused.to_string().contains(difference), "{refused}");
    }
    let timed = |seconds| {
        let at = Schema::new().field(Field::new("at", FieldType::DateTime));
        at.expires_after("at", Duration::from_secs(seconds))
    };
    db.new_collection("timed", timed(1)).unwrap();
    let refused = db.new_collection("timed", timed(2)).unwrap_err();
    assert!(
        refused.to_string().contains("when documents expire"),
        "{refused}"
    );
    // As a program does that makes its index when it starts, and asks for its old schema at the next start.
    let schema = || Schema::new().field(a());
    db.new_collection("d", schema()).unwrap();
    db.create_index("d", Index::on(["a"])).wait().unwrap();
    let refused = db.new_collection("d", schema()).unwrap_err().to_string();
    for part in ["alter_collection", "create_index", "drop_index"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert!(!refused.contains("delete"), "{refused}");
    db.new_collection("d", Schema::new().field(a().indexed()))
        .unwrap();
}

/// An index or an expiry of a field that no document can have was a slip of the pen, and did nothing.
#[test]
fn a_strict_schema_has_the_fields_of_its_indexes() {
    let db = Aurora::in_memory().unwrap();
    let schema = || {
        Schema::new()
            .field(Field::new("a", FieldType::Int))
            .field(Field::new("at", FieldType::DateTime))
            .field(Field::new("any", FieldType::Any))
            .field(Field::new("object", FieldType::Object))
            .field(Field::new("deep.er", FieldType::Int))
    };
    let bad = |made: aurora::Result<()>, field: &str| match made {
        Err(Error::BadSchema { reason, .. }) => assert!(reason.contains(field), "{reason}"),
        other => panic!("{field}: {other:?}"),
    };
    db.new_collection("there", schema()).unwrap();
    for typo in ["typo", "a.b", "deep.er.x", "att", "deeper", "objects.x"] {
        let quoted = format!("{typo:?}");
        let index = || Index::on(["a", typo]);
        bad(db.new_collection("c", schema().index(index())), &quoted);
        let expiring = schema().expires_after(typo, Duration::ZERO);
        bad(db.new_collection("c", expiring), &quoted);
        bad(db.create_index("there", index()).wait(), &quoted);
        bad(
            db.alter_collection("there", schema().index(index())).wait(),
            &quoted,
        );
        // Where every field may be, so may that.
        let loose = schema().index(index()).strict(false);
        db.new_collection(typo, loose).unwrap();
    }
    for good in ["id", "any.x", "object.x.y", "deep", "deep.other"] {
        db.create_index("there", Index::on([good])).wait().unwrap();
    }
    let expiring = schema().expires_after("any.at", Duration::ZERO);
    db.new_collection("expiring", expiring).unwrap();
}

fn people_with_country() -> Schema {
    schema_of_people().field(
        Field::new("country", FieldType::String)
            .default("CH")
            .indexed(),
    )
}

#[test]
fn schemas_that_cannot_be_are_refused() {
    let db = Aurora::in_memory().unwrap();
    let field = |name: &str| Schema::new().field(Field::new(name, FieldType::Int));
    let bad = [
        field(""),
        field("a..b"),
        field("a").field(Field::new("a", FieldType::Int)),
        Schema::new().field(Field::new("a", FieldType::Int).default("x")),
        Schema::new().field(Field::new("id", FieldType::Float)),
        Schema::new().field(Field::new("id.x", FieldType::Int).default(1)),
        Schema::new().index(Index::on(Vec::<String>::new())),
        Schema::new()
            .index(Index::on(["a"]))
            .index(Index::on(["a"]).unique()),
        Schema::new().index(Index::on(["a"]).only(Filter::matches("a", "("))),
        field("a").expires_after("a", Duration::ZERO),
    ];
    for schema in bad {
        let refused = db.new_collection("c", schema.clone());
        assert!(
            matches!(refused, Err(Error::BadSchema { .. })),
            "{schema:?}"
        );
    }
    for name in [String::new(), "n".repeat(256)] {
        let refused = db.new_collection(&name, Schema::new());
        assert!(matches!(refused, Err(Error::BadCollectionName { .. })));
    }
}

#[derive(Debug, Default)]
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A database without threads, in memory, and its clock.
fn with_clock() -> (Arc<SetClock>, Aurora) {
    let clock = Arc::new(SetClock(AtomicU64::new(1_000_000)));
    let builder = Aurora::builder().background(false).clock(clock.clone());
    let db = builder.open_storage(Arc::new(MemoryStorage::new()));
    (clock, db.unwrap())
}

#[test]
fn documents_expire_and_their_space_comes_back() {
    let clock = Arc::new(SetClock::default());
    let db = Aurora::builder().background(false).clock(clock.clone());
    let db = db.open_storage(Arc::new(MemoryStorage::new())).unwrap();
    let schema = Schema::new()
        .field(Field::new("user", FieldType::String).unique())
        .field(Field::new("seen", FieldType::DateTime).indexed())
        .expires_after("seen", Duration::from_secs(10));
    db.new_collection("sessions", schema).unwrap();
    let sessions = db.collection("sessions").unwrap();
    let session = |user: &str, second: i64| {
        let seen = Timestamp::from_second(second).unwrap();
        Object::from([("user", Value::from(user)), ("seen", seen.into())])
    };
    let a = sessions.insert_fields(session("a", 1)).unwrap();
    let b = sessions.insert_fields(session("b", 2)).unwrap();
    let before = db.begin_read().unwrap();
    clock.0.store(11_000, Ordering::Relaxed);
    let users = |rows: Vec<Document>| -> Vec<String> {
        rows.iter()
            .map(|row| row.get("user").unwrap().to_string())
            .collect()
    };
    assert_eq!(sessions.get(&a).unwrap(), None);
    assert_eq!(users(sessions.query().collect().wait().unwrap()), ["b"]);
    let seen = sessions
        .query()
        .order_by("seen", true)
        .collect()
        .wait()
        .unwrap();
    assert_eq!(users(seen), ["b"]);
    assert_eq!(sessions.query().count().wait().unwrap(), 1);
    assert_eq!(before.query("sessions").count().wait().unwrap(), 2);
    // What has expired does not stand in the way of a new one.
    assert!(matches!(
        sessions.update(&a, Patch::new()),
        Err(Error::DocumentNotFound { .. })
    ));
    sessions.insert_fields(session("a", 11)).unwrap();
    // A change of the date is a longer life.
    sessions
        .update(
            &b,
            Patch::new().set("seen", Timestamp::from_second(12).unwrap()),
        )
        .unwrap();
    clock.0.store(21_999, Ordering::Relaxed);
    while db.sweep(10).unwrap() > 0 {}
    assert_eq!(users(sessions.query().collect().wait().unwrap()), ["b"]);
    assert_eq!(sessions.len().unwrap(), 1, "the others are gone for good");
    db.check().unwrap();
    // Entries of a collection that is gone are swept away.
    db.delete_collection("sessions").wait().unwrap();
    clock.0.store(100_000, Ordering::Relaxed);
    while db.sweep(10).unwrap() > 0 {}
    db.check().unwrap();
}

/// A field that is declared gets a number in the place of its name, and its values may become others: an index that was
/// there before follows.
#[test]
fn an_index_stays_right_when_its_field_is_declared() {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::schemaless().index(Index::on(["x"]));
    db.new_collection("c", schema.clone()).unwrap();
    let uuid = Uuid::from_u128(7);
    db.insert_into("c", [("x", uuid.to_string())]).unwrap();
    let declared = schema.field(Field::new("x", FieldType::Uuid));
    db.alter_collection("c", declared).wait().unwrap();
    db.check().unwrap();
    let count = |value: Value| {
        let query = db.query("c").matching(Filter::eq("x", value));
        query.count().wait().unwrap()
    };
    assert_eq!(count(uuid.into()), 1);
    assert_eq!(count(uuid.to_string().into()), 0);
}

/// What could not be read back would take the collection with it.
#[test]
fn a_schema_that_is_nested_too_deep_to_be_stored_is_refused() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    db.insert_into("c", [("a", 1)]).unwrap();
    let nested = |levels: i64| {
        (0..levels).fold(Filter::eq("a", 0), |all, i| {
            all.and(Filter::gt("b", i)).or(Filter::eq("c", i))
        })
    };
    let index = |levels| Index::on(["x"]).only(nested(levels));
    let refused = db.create_index("c", index(16)).wait();
    assert!(
        matches!(refused, Err(Error::BadSchema { .. })),
        "{refused:?}"
    );
    let deep = (0..63).fold(Value::from(1), |value, _| Value::Array(vec![value]));
    let schema = Schema::new().field(Field::new("d", FieldType::Any).default(deep));
    let refused = db.new_collection("d", schema);
    assert!(
        matches!(refused, Err(Error::BadSchema { .. })),
        "{refused:?}"
    );
    db.create_index("c", index(12)).wait().unwrap();
    assert_eq!(db.collection("c").unwrap().len().unwrap(), 1);
    db.check().unwrap();
}

/// Bounds that cannot be stored are what they are stored as, from the beginning.
#[test]
fn a_schema_without_bounds_is_the_same_when_it_is_read_back() {
    let db = Aurora::in_memory().unwrap();
    let index = || Index::on(["x"]).only(Filter::length("tags", 1..=u64::MAX));
    let schema = || {
        let schema = Schema::schemaless().index(index());
        schema.expires_after("at", Duration::MAX)
    };
    db.new_collection("c", schema()).unwrap();
    db.new_collection("c", schema()).unwrap();
    db.create_index("c", index()).wait().unwrap();
    db.insert_into(
        "c",
        [
            ("x", Value::from(1)),
            ("tags", Value::Array(vec!["a".into()])),
        ],
    )
    .unwrap();
    let query = db
        .query("c")
        .filter(|f| f.eq("x", 1) && f.length("tags", 1..));
    let plan = query.explain().wait().unwrap().to_string();
    assert!(
        plan.contains('x') && !plan.contains("every document"),
        "{plan}"
    );
}

/// Whose an entry is, is not looked for among all collections.
#[test]
fn documents_of_one_of_many_collections_are_swept_in_good_time() {
    let (clock, db) = with_clock();
    db.write(|tx| {
        for i in 0..2_000 {
            tx.new_collection(format!("other {i}"), Schema::schemaless())?;
        }
        Ok(())
    })
    .unwrap();
    let schema = Schema::schemaless().expires_after("at", Duration::from_secs(1));
    db.new_collection("c", schema).unwrap();
    let at = Timestamp::from_millisecond(1_000_000).unwrap();
    let documents = (0..5_000i64).map(|i| [("id", Value::from(i)), ("at", at.into())]);
    db.collection("c").unwrap().insert_many(documents).unwrap();
    clock.0.store(2_000_000, Ordering::Relaxed);
    let start = std::time::Instant::now();
    db.sweep(usize::MAX).unwrap();
    println!("{:?}", start.elapsed());
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(db.sweep(usize::MAX).unwrap(), 0);
    db.check().unwrap();
}

/// Of two that have a value, the one that has expired does not count, whichever comes first.
#[test]
fn what_has_expired_is_in_no_unique_index_that_is_made() {
    for expires_first in [false, true] {
        let (clock, db) = with_clock();
        let schema = Schema::schemaless().expires_after("at", Duration::from_secs(1));
        db.new_collection("c", schema.clone()).unwrap();
        let at = Value::from(Timestamp::from_millisecond(1_000_000).unwrap());
        let (short, long) = (i64::from(!expires_first), i64::from(expires_first));
        let fields = |id: i64, x: &str| [("id", Value::from(id)), ("x", x.into())];
        let mut expiring = Object::from(fields(short, "same"));
        expiring.insert("at", at);
        db.insert_into("c", expiring).unwrap();
        db.insert_into("c", fields(long, "same")).unwrap();
        // Nothing is written that would sweep it.
        clock.0.store(2_000_000, Ordering::Relaxed);
        let unique = Index::on(["x"]).unique();
        db.create_index("c", unique.clone()).wait().unwrap();
        // Nor in the way of one that is kept, under a schema in which nothing expires.
        let kept = Schema::schemaless()
            .index(unique)
            .field(Field::new("n", FieldType::Int).default(1));
        db.alter_collection("c", kept).wait().unwrap();
        db.check().unwrap();
        assert_eq!(db.collection("c").unwrap().len().unwrap(), 1);
    }
}

/// A value that stays with its document was unique when it came. But that of one which has expired may be another's by now.
#[test]
fn what_has_expired_does_not_come_back_with_a_value_that_another_has() {
    let (clock, db) = with_clock();
    let schema = Schema::schemaless()
        .index(Index::on(["x"]).unique())
        .expires_after("at", Duration::from_secs(1));
    db.new_collection("c", schema).unwrap();
    let document = |id: i64, x: i64, at_ms: i64| {
        let at = Value::from(Timestamp::from_millisecond(at_ms).unwrap());
        Object::from([("id", Value::from(id)), ("x", x.into()), ("at", at)])
    };
    // Writes remove the oldest first, and do not come to the one that counts.
    for id in 10..30 {
        db.insert_into("c", document(id, id, 999_900)).unwrap();
    }
    db.insert_into("c", document(1, 7, 1_000_000)).unwrap();
    clock.0.store(2_000_000, Ordering::Relaxed);
    db.insert_into("c", document(2, 7, 2_000_000)).unwrap();
    let c = db.collection("c").unwrap();
    let refused = c.upsert(document(1, 7, 2_000_000));
    assert!(
        matches!(refused, Err(Error::Duplicate { .. })),
        "{refused:?}"
    );
    c.upsert(document(2, 7, 2_000_001)).unwrap();
    c.update(2, Patch::new().set("y", 1)).unwrap();
    db.check().unwrap();
}

/// Each change of one element is a change of few entries.
#[test]
fn long_arrays_in_an_index_are_changed_in_good_time() {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::new().field(Field::new("tags", FieldType::Int).indexed());
    db.new_collection("c", schema).unwrap();
    let tags = |count: i64| Value::Array((0..count).map(Value::from).collect());
    let id = db.insert_into("c", [("tags", tags(50_000))]).unwrap();
    let start = std::time::Instant::now();
    let c = db.collection("c").unwrap();
    c.update(&id, Patch::new().set("tags", tags(50_001)))
        .unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    db.check().unwrap();
}

/// Nobody sees them, so nobody could mend them.
#[test]
fn documents_that_have_expired_are_in_the_way_of_no_new_schema() {
    let (clock, db) = with_clock();
    let schema = Schema::schemaless()
        .index(Index::on(["x"]))
        .expires_after("at", Duration::from_secs(1));
    db.new_collection("c", schema.clone()).unwrap();
    let at = Timestamp::from_millisecond(1_000_000).unwrap();
    db.insert_into("c", [("x", Value::from("text")), ("at", at.into())])
        .unwrap();
    db.insert_into("c", [("x", 5)]).unwrap();
    let to_int = || schema.clone().field(Field::new("x", FieldType::Int));
    assert!(db.alter_collection("c", to_int()).wait().is_err());
    clock.0.store(2_000_000, Ordering::Relaxed);
    db.alter_collection("c", to_int()).wait().unwrap();
    assert_eq!(db.collection("c").unwrap().len().unwrap(), 1);
    let found = db.query("c").matching(Filter::eq("x", 5)).count();
    assert_eq!(found.wait().unwrap(), 1);
    db.check().unwrap();
    assert_eq!(db.sweep(10).unwrap(), 0);
}

#[test]
fn everything_is_there_after_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let id = {
        let db = Aurora::open(&path).unwrap();
        db.new_collection("people", schema_of_people()).unwrap();
        let id = db.insert_into("people", person("a")).unwrap();
        db.close().unwrap();
        id
    };
    let db = Aurora::open(&path).unwrap();
    assert_eq!(db.collections().unwrap(), ["people"]);
    let people_again = db.collection("people").unwrap();
    assert_eq!(people_again.schema().unwrap().0, schema_of_people());
    assert_eq!(
        people_again.get(&id).unwrap().unwrap().get("email"),
        Some(&"a".into())
    );
    assert!(matches!(
        db.insert_into("people", person("a")),
        Err(Error::Duplicate { .. })
    ));
    let next = db.insert_into("people", person("b")).unwrap();
    assert!(next.value() > id.value());
    db.check().unwrap();
}

/// Readers never see an older value than one that anybody has seen before, through the hot tier,
/// whoever changes it and however.
#[test]
fn what_is_read_from_memory_is_never_stale() {
    let db = Aurora::builder()
        .open_storage(Arc::new(MemoryStorage::new()))
        .unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let collection = db.collection("c").unwrap();
    const KEYS: i64 = 3;
    for id in 0..KEYS {
        collection.insert_fields([("id", id), ("n", 0)]).unwrap();
        db.put(id.to_be_bytes(), "0", None).unwrap();
    }
    let seen: Vec<(AtomicU64, AtomicU64)> = (0..KEYS).map(|_| Default::default()).collect();
    let stop = AtomicU64::new(0);
    let number = |document: &Document| document.get("n").unwrap().as_int().unwrap() as u64;
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (db, seen, collection) = (&db, &seen, &collection);
            scope.spawn(move || {
                for i in 0..600 {
                    let id = (i + writer) % KEYS;
                    let mut tx = db.begin_write().unwrap();
                    if i % 3 == 0 {
                        tx.set_durability(aurora::Durability::Buffered);
                    }
                    let patch = Patch::new().inc("n", 1);
                    tx.collection("c").unwrap().update(id, &patch).unwrap();
                    let key = tx.increment(id.to_be_bytes(), 1).unwrap() as u64;
                    let document = tx.collection("c").unwrap().get(id).unwrap().unwrap();
                    tx.commit().unwrap();
                    seen[id as usize]
                        .0
                        .fetch_max(number(&document), Ordering::SeqCst);
                    seen[id as usize].1.fetch_max(key, Ordering::SeqCst);
                    if i % 50 == 0 {
                        assert!(collection.get(id).unwrap().is_some());
                    }
                }
            });
        }
        for reader in 0..3 {
            let (db, seen, collection, stop) = (&db, &seen, &collection, &stop);
            scope.spawn(move || {
                let mut i = reader;
                while stop.load(Ordering::Relaxed) == 0 {
                    i += 1;
                    let id = i % KEYS;
                    let (of_document, of_key) = &seen[id as usize];
                    let (low, low_key) = (
                        of_document.load(Ordering::SeqCst),
                        of_key.load(Ordering::SeqCst),
                    );
                    let found = number(&collection.get(id).unwrap().unwrap());
                    let key = db.get(id.to_be_bytes()).unwrap().unwrap();
                    let key: u64 = std::str::from_utf8(&key).unwrap().parse().unwrap();
                    assert!(
                        found >= low && key >= low_key,
                        "{found} {low} {key} {low_key}"
                    );
                    of_document.fetch_max(found, Ordering::SeqCst);
                    of_key.fetch_max(key, Ordering::SeqCst);
                }
            });
        }
        while seen
            .iter()
            .map(|(n, _)| n.load(Ordering::SeqCst))
            .sum::<u64>()
            < 1200
        {
            std::thread::yield_now();
        }
        stop.store(1, Ordering::Relaxed);
    });
    let stats = db.stats().unwrap();
    assert!(stats.hot.hits > 100, "{:?}", stats.hot);
}

#[test]
fn a_handle_follows_its_name_to_another_collection() {
    let db = Aurora::in_memory().unwrap();
    let make = |n: i64| {
        db.new_collection("c", Schema::schemaless()).unwrap();
        db.insert_into("c", [("id", 1), ("n", n)]).unwrap();
    };
    make(1);
    let collection = db.collection("c").unwrap();
    let n = || {
        collection
            .get(1)
            .unwrap()
            .map(|document| document.get("n").cloned().unwrap())
    };
    for _ in 0..4 {
        assert_eq!(n(), Some(Value::Int(1)));
    }
    db.delete_collection("c").wait().unwrap();
    assert!(matches!(
        collection.get(1),
        Err(Error::CollectionNotFound { .. })
    ));
    make(2);
    for _ in 0..4 {
        assert_eq!(n(), Some(Value::Int(2)));
    }
}

/// Where there is no thread that does, whoever stores many removes as many, and not only who stores one.
#[test]
fn what_has_expired_goes_where_many_documents_come() {
    let names = ["insert_many", "in a transaction", "import", "refused"];
    for (way, name) in names.into_iter().enumerate() {
        let (clock, db) = with_clock();
        let schema = Schema::schemaless()
            .index(Index::on(["k"]))
            .field(Field::new("at", FieldType::DateTime))
            .expires_after("at", Duration::from_millis(100));
        db.new_collection("c", schema).unwrap();
        let c = db.collection("c").unwrap();
        for round in 0..50 {
            let now = 1_000_000 + 1_000 * round;
            clock.0.store(now, Ordering::Relaxed);
            let at = Timestamp::from_millisecond(now as i64).unwrap();
            let new = |k: i64| Object::from([("at", Value::from(at)), ("k", k.into())]);
            let documents = (0..20).map(new);
            let row = |k: i64| format!("{{\"at\":\"{at}\",\"k\":{k}}}\n");
            let rows: String = (0..20).map(row).collect();
            match way {
                0 => c.insert_many(documents).map(drop).unwrap(),
                1 => {
                    { db.write(|tx| tx.collection("c")?.insert_many(documents).map(drop)) }.unwrap()
                }
                2 => {
                    let imported = db.import("c").read_json_lines(rows.as_bytes());
                    assert_eq!(imported.unwrap().taken, 20);
                }
                _ => {
                    // Each part between two rows that are refused is one of its own.
                    let rows = rows.replace('\n', "\n{\"at\":5}\n");
                    let imported = db.import("c").read_json_lines(rows.as_bytes());
                    assert_eq!(imported.unwrap().refused_count, 20);
                }
            }
            let (alive, stored) = (c.query().count().wait().unwrap(), c.len().unwrap());
            assert_eq!(alive, 20, "{name}");
            assert!(stored <= 40, "{name}: {stored} are stored, {alive} alive");
            db.check().unwrap();
        }
    }
}

/// As the same number that is given.
#[test]
fn a_whole_number_that_is_the_default_of_a_float_field_is_a_float() {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::new()
        .field(Field::new("id", FieldType::Int))
        .field(Field::new("price", FieldType::Float).default(11))
        .field(Field::new("more", FieldType::Float).default(Value::Array(vec![1.into()])));
    db.new_collection("c", schema.clone()).unwrap();
    let more = Value::Array(vec![1.into()]);
    db.insert_into("c", [("id", 1)]).unwrap();
    let given = [("id", Value::from(2)), ("price", 11.into()), ("more", more)];
    db.insert_into("c", given).unwrap();
    for id in [1, 2] {
        let document = db.collection("c").unwrap().get(id).unwrap().unwrap();
        let shown = format!("{:?} {:?}", document.get("price"), document.get("more"));
        assert_eq!(shown, "Some(Float(11.0)) Some(Array([Float(1.0)]))");
    }
    // A field that is declared later is the same.
    let later = schema.field(Field::new("new", FieldType::Float).default(3));
    db.alter_collection("c", later).wait().unwrap();
    let document = db.collection("c").unwrap().get(1).unwrap().unwrap();
    assert_eq!(format!("{:?}", document.get("new")), "Some(Float(3.0))");
}

fn entries_of(db: &Aurora, tree: &str) -> u64 {
    let trees = db.stats().unwrap().trees;
    trees.get(tree).map_or(0, |tree| tree.entries)
}

/// Lives may be long, and collections made again and again.
#[test]
fn a_collection_that_is_gone_leaves_nothing_that_expires() {
    let (clock, db) = with_clock();
    let expiring = || Schema::schemaless().expires_after("at", Duration::from_secs(1_000_000));
    let document = |id: i64| {
        let at = Timestamp::from_millisecond(1_000_000 + id % 7).unwrap();
        Object::from([("id", Value::from(id)), ("at", at.into())])
    };
    db.new_collection("others", expiring()).unwrap();
    db.insert_into("others", document(1)).unwrap();
    db.put("key", "value", Some(Duration::from_secs(1_000_000)))
        .unwrap();
    for count in [0, 1, 40_000] {
        db.new_collection("c", expiring()).unwrap();
        let c = db.collection("c").unwrap();
        c.insert_many((0..count).map(document)).unwrap();
        // One without a date, and one that has expired.
        c.insert_fields(Object::from([("id", -1)])).unwrap();
        assert_eq!(entries_of(&db, "aurora/expiry"), count as u64 + 2);
        db.delete_collection("c").wait().unwrap();
        assert_eq!(entries_of(&db, "aurora/expiry"), 2, "of {count}");
        db.check().unwrap();
    }
    // Nor do documents that no longer expire, nor those that nobody sees any more.
    db.new_collection("c", expiring()).unwrap();
    let c = db.collection("c").unwrap();
    c.insert_many((0..100).map(document)).unwrap();
    db.alter_collection("c", Schema::schemaless())
        .wait()
        .unwrap();
    assert_eq!(entries_of(&db, "aurora/expiry"), 2);
    db.alter_collection("c", expiring()).wait().unwrap();
    assert_eq!(entries_of(&db, "aurora/expiry"), 102);
    clock.0.store(2_000_000_000, Ordering::Relaxed);
    db.delete_collection("c").wait().unwrap();
    assert_eq!(entries_of(&db, "aurora/expiry"), 2);
    db.check().unwrap();
}

/// Of two that have a value, the one that has expired under the new schema does not count, whichever comes first.
#[test]
fn what_expires_under_a_new_schema_is_in_the_way_of_no_index_in_it() {
    for expired in [1, 2] {
        let (_, db) = with_clock();
        db.new_collection("c", Schema::schemaless()).unwrap();
        for id in [1, 2] {
            let at = if id == expired { 1 } else { 1_000_000 };
            let at = Timestamp::from_second(at).unwrap();
            let fields = [("id", Value::from(id)), ("u", 7.into()), ("at", at.into())];
            db.insert_into("c", Object::from(fields)).unwrap();
        }
        let schema = Schema::schemaless()
            .field(Field::new("u", FieldType::Int).unique())
            .expires_after("at", Duration::from_secs(60));
        db.alter_collection("c", schema).wait().unwrap();
        db.check().unwrap();
        let left = db.query("c").collect().wait().unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].get("id"), Some(&(3 - expired).into()));
    }
}

/// The same where the index stays, and only now the documents get the same value, and the date is one.
#[test]
fn what_expires_under_a_new_schema_is_in_the_way_of_no_default() {
    for expired in [1, 2] {
        let (_, db) = with_clock();
        let unique = || Schema::schemaless().index(Index::on(["u"]).unique());
        db.new_collection("c", unique()).unwrap();
        let old = [
            ("id", Value::from(expired)),
            ("u", 7.into()),
            ("at", "1970-01-01T00:00:01Z".into()),
        ];
        db.insert_into("c", Object::from(old)).unwrap();
        db.insert_into("c", [("id", 3 - expired)]).unwrap();
        let schema = unique()
            .field(Field::new("u", FieldType::Int).default(7))
            .field(Field::new("at", FieldType::DateTime))
            .expires_after("at", Duration::from_secs(60));
        db.alter_collection("c", schema).wait().unwrap();
        db.check().unwrap();
        let left = db.query("c").collect().wait().unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].get("u"), Some(&7.into()));
    }
}

#[test]
fn many_documents_are_read_by_their_ids_in_their_order() {
    let db = open();
    let people = db.collection("people").unwrap();
    let rows = (0..200).map(|n| person(&n.to_string()));
    let mut ids: Vec<Value> = people
        .insert_many(rows)
        .unwrap()
        .iter()
        .map(Value::from)
        .collect();
    people.delete(&ids[7]).unwrap();
    ids.push(Uuid::nil().into());
    ids.reverse();
    ids.push(ids[3].clone());
    let one_by_one: Vec<_> = ids.iter().map(|id| people.get(id).unwrap()).collect();
    let found = people.get_many(&ids).unwrap();
    assert_eq!(found.iter().flatten().count(), 200);
    let same = |found: &[Option<Document>]| {
        found.len() == ids.len()
            && found
                .iter()
                .zip(&one_by_one)
                .all(|(one, other)| one.as_ref() == other.as_deref())
    };
    assert!(same(&found));
    let snapshot = db.begin_read().unwrap();
    assert!(same(
        &snapshot
            .collection("people")
            .unwrap()
            .get_many(&ids)
            .unwrap()
    ));
    let mut tx = db.begin_write().unwrap();
    let mut own = tx.collection("people").unwrap();
    own.delete(&ids[5]).unwrap();
    assert_eq!(own.get_many(&ids[5..7]).unwrap(), [None, found[6].clone()]);
    drop(tx);
    assert!(matches!(
        people.get_many([true]),
        Err(Error::WrongType { .. })
    ));
}

/// A default can put an object where another field is declared, and fields into an object. Nothing was compared with the
/// schema after that: the document was stored, and `check` took it for damage.
#[test]
fn what_defaults_make_fits_the_schema_as_well() {
    let text = Field::new("a", FieldType::String);
    let within = Field::new("a.b", FieldType::Int).default(5);
    let number = Field::new("d.x", FieldType::Int);
    let object = Object::from([("x", "not a number")]);
    let object = Field::new("d", FieldType::Object).default(object);
    for fields in [
        [text.clone(), within.clone()],
        [within, text],
        [number.clone(), object.clone()],
        [object, number],
    ] {
        let db = Aurora::in_memory().unwrap();
        let schema = { fields.iter().cloned() }.fold(Schema::new(), Schema::field);
        db.new_collection("c", schema).unwrap();
        for document in [Object::new(), Object::from([("a", Value::Null)])] {
            let refused = db.insert_into("c", document).unwrap_err();
            assert!(refused.is_misuse(), "{fields:?}: {refused}");
        }
        db.check().unwrap();
        assert!(db.collection("c").unwrap().is_empty().unwrap());
    }
}

/// Such a schema looks as if no document could have both, and is none that cannot be: names may have dots.
#[test]
fn a_number_beside_a_field_within_it_takes_names_with_dots() {
    let db = Aurora::in_memory().unwrap();
    let number = |path: &str| Field::new(path, FieldType::Int).indexed();
    let schema = Schema::new().field(number("a")).field(number("a.b"));
    db.new_collection("c", schema).unwrap();
    let both = Object::from([("a", 5), ("a.b", 1)]);
    db.insert_into("c", both).unwrap();
    let within = Object::from([("a", Object::from([("b", 1)]))]);
    let refused = db.insert_into("c", within).unwrap_err();
    assert!(
        matches!(&refused, Error::WrongType { field, found: "Object", .. } if field == "a"),
        "{refused}"
    );
    let found = db.query("c").filter(|f| f.eq("a", 5) && f.eq("a.b", 1));
    assert_eq!(found.count().wait().unwrap(), 1);
    db.check().unwrap();
}

/// Ids that documents were given are a field where any are taken: a strict schema refused that, and it could not be unset.
#[test]
fn documents_with_ids_of_their_own_get_a_strict_schema() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    for id in 0..3 {
        db.insert_into("c", [("id", id), ("n", 10 + id)]).unwrap();
    }
    let ids = || -> Vec<Option<Value>> {
        let rows = db.query("c").order_by("n", true).collect().wait().unwrap();
        rows.iter().map(|row| row.get("id").cloned()).collect()
    };
    let strict = || Schema::new().field(Field::new("n", FieldType::Int));
    let text = Field::new("id", FieldType::String);
    let kept = [0, 1, 2].map(|id| Some(Value::Int(id))).to_vec();
    let alter = |schema: Schema| db.alter_collection("c", schema).wait();
    let refused = alter(strict().field(text)).unwrap_err();
    assert!(matches!(refused, Error::WrongType { .. }), "{refused}");
    assert_eq!(ids(), kept);
    alter(strict().field(Field::new("id", FieldType::Int))).unwrap();
    assert_eq!(ids(), kept);
    alter(strict()).unwrap();
    assert_eq!(ids(), [None, None, None]);
    let second = db.query("c").filter(|f| f.eq("id", 1));
    let second = second.collect().wait().unwrap();
    assert_eq!(second[0].get("n"), Some(&Value::Int(11)));
    assert!(db.collection("c").unwrap().get(2).unwrap().is_some());
    db.check().unwrap();
    // Each has an id, so it may be required.
    alter(strict().field(Field::new("id", FieldType::Int).required())).unwrap();
    assert_eq!(ids(), kept);
    db.check().unwrap();
}

/// What is the same schema took a document, or refused it, or gave it other fields, by the order in which fields were declared.
#[test]
fn fields_may_be_declared_in_any_order() {
    let object = |name: &str, value: Value| Value::Object(Object::from([(name, value)]));
    let inner = Field::new("a.b", FieldType::Int);
    let outer = Field::new("a", FieldType::Object);
    let of_b = outer.clone().default(object("b", 1.into()));
    let of_c = outer.default(object("c", 2.into()));
    let both = Object::from([("c", 2), ("b", 3)]);
    for (fields, expected) in [
        ([inner.clone().required(), of_b], object("b", 1.into())),
        ([inner.default(3), of_c], Value::Object(both)),
    ] {
        for is_reversed in [false, true] {
            let mut fields = fields.to_vec();
            if is_reversed {
                fields.reverse();
            }
            let schema = fields.into_iter().fold(Schema::new(), Schema::field);
            let db = Aurora::in_memory().unwrap();
            db.new_collection("c", schema).unwrap();
            let id = db.insert_into("c", Object::new());
            let id = id.unwrap_or_else(|error| panic!("reversed: {is_reversed}: {error}"));
            let stored = db.collection("c").unwrap().get(&id).unwrap().unwrap();
            assert_eq!(stored.get("a"), Some(&expected), "reversed: {is_reversed}");
            db.check().unwrap();
        }
    }
}

/// Each step of a thousand documents was a transaction that waited for the disk, and copied most pages of the index.
#[test]
fn an_index_is_built_in_few_transactions() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let all = (0..40_000i64).map(|n| [("id", n), ("n", n * 7919 % 40_009)]);
    db.collection("c").unwrap().insert_many(all).unwrap();
    let before = db.stats().unwrap();
    db.create_index("c", Index::on(["n"])).wait().unwrap();
    let after = db.stats().unwrap();
    assert!(
        after.version - before.version <= 10,
        "{} transactions",
        after.version - before.version
    );
    let found = db.query("c").filter(|f| f.lt("n", 1000)).count();
    assert_eq!(
        found.wait().unwrap(),
        (0..40_000).filter(|n| n * 7919 % 40_009 < 1000).count() as u64
    );
    db.check().unwrap();
}

/// An index was built, and all documents were checked or given another schema, with a thousand of them in memory, however
/// long they are.
#[test]
fn long_documents_are_gone_through_a_few_at_a_time() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let text = "x".repeat(1 << 20);
    for n in 0..50 {
        let document = [("n", Value::from(n)), ("text", text.as_str().into())];
        db.insert_into("c", document).unwrap();
    }
    let (told, steps) = std::sync::mpsc::channel();
    let built = db.create_index_with("c", Index::on(["n"]), move |progress| {
        told.send(progress.done).unwrap();
    });
    built.wait().unwrap();
    let steps: Vec<u64> = std::iter::once(0).chain(steps).collect();
    assert_eq!(steps.last(), Some(&50));
    let most = steps.windows(2).map(|two| two[1] - two[0]).max();
    assert!(most.is_some_and(|most| most <= 20), "{steps:?}");
    let found = db.query("c").filter(|f| f.gte("n", 10)).count();
    assert_eq!(found.wait().unwrap(), 40);
    db.check().unwrap();
}

/// Of each that was not among the last thousand all were gone through, for every document, in the writers' turn.
#[test]
fn documents_of_thousands_of_collections_are_removed_in_good_time() {
    const COLLECTIONS: usize = 4000;
    let clock = Arc::new(SetClock(AtomicU64::new(0)));
    let builder = Aurora::builder().background(false).clock(clock.clone());
    let db = builder
        .open_storage(Arc::new(MemoryStorage::new()))
        .unwrap();
    let schema = Schema::schemaless().expires_after("at", Duration::from_secs(1));
    let name = |i: usize| format!("of many {}", (i * 7) % COLLECTIONS);
    db.write(|tx| {
        for i in 0..COLLECTIONS {
            tx.new_collection(name(i), schema.clone())?;
            // So that no two of a collection are removed one after the other.
            let at = |second: i64| Timestamp::from_second(second).unwrap();
            let documents = [[("at", at(1))], [("at", at(2))]];
            tx.collection(name(i))?.insert_many(documents)?;
        }
        // Some have another name by then.
        (0..10).try_for_each(|i| tx.rename_collection(name(i), format!("renamed {i}")))
    })
    .unwrap();
    clock.0.store(1_000_000, Ordering::SeqCst);
    let start = std::time::Instant::now();
    assert_eq!(db.sweep(usize::MAX).unwrap(), 2 * COLLECTIONS);
    let took = start.elapsed();
    println!("{took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    db.check().unwrap();
}

/// The index entries of many documents are put in order together: those of 16,384 documents, however many each has.
#[cfg(target_os = "linux")]
#[test]
fn many_documents_with_long_arrays_come_in_with_little_memory() {
    if !memory::is_alone("many_documents_with_long_arrays_come_in_with_little_memory") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let builder = Aurora::builder().memory_limit(8 << 20);
    let db = builder.open(directory.path().join("db")).unwrap();
    let schema = Schema::schemaless().index(Index::on(["a"]));
    db.new_collection("c", schema).unwrap();
    let before = memory::memory_kib();
    let mut most = 0;
    let documents = (0..5000i64).map(|n| {
        if n % 100 == 0 {
            most = most.max(memory::memory_kib());
        }
        let words = (0..300).map(|word| n * 7 + word * 1000);
        [("id", Value::from(n)), ("a", words.collect())]
    });
    db.collection("c").unwrap().insert_many(documents).unwrap();
    let took = most.saturating_sub(before);
    println!("{took} KiB");
    assert!(took < 64 << 10, "{took} KiB");
    let found = db.query("c").filter(|f| f.contains("a", 7000)).count();
    let expected =
        (0..5000i64).filter(|n| n * 7 <= 7000 && n * 7 % 1000 == 0 && n * 7 >= 7000 - 299_000);
    assert_eq!(found.wait().unwrap(), expected.count() as u64);
}

/// A unique value of a document that had expired was free, and the time at which it was found so was in memory alone: after a
/// crash, and with the clock set back, both documents were there.
#[test]
fn what_gave_a_unique_value_up_is_not_there_again_when_the_clock_is_set_back() {
    let schema = || {
        Schema::schemaless()
            .field(Field::new("email", FieldType::String).unique())
            .expires_after("seen", Duration::from_secs(1))
    };
    let seen = |second: i64| Timestamp::from_second(second).unwrap();
    for builds in [false, true] {
        let disk = SimDisk::new(1);
        let clock = Arc::new(SetClock(AtomicU64::new(1_000)));
        let open = |disk: &SimDisk| {
            let builder = Aurora::builder().clock(clock.clone());
            builder.open_storage(disk.storage()).unwrap()
        };
        let db = open(&disk);
        db.new_collection("people", schema()).unwrap();
        let person =
            |second| Object::from([("email", Value::from("a@b")), ("seen", seen(second).into())]);
        if builds {
            db.drop_index("people", "email").wait().unwrap();
        }
        db.insert_into("people", person(1)).unwrap();
        db.flush().unwrap();
        // Most likely before a thread removes what has expired.
        clock.0.store(2_000, Ordering::SeqCst);
        db.insert_into("people", person(100)).unwrap();
        if builds {
            db.create_index("people", Index::on(["email"]).unique())
                .wait()
                .unwrap();
        }
        let disk = disk.crash_image(SimCrash::KeepAll);
        drop(db);
        clock.0.store(1_000, Ordering::SeqCst);
        let db = open(&disk);
        let found = db.query("people").filter(|f| f.eq("email", "a@b"));
        assert_eq!(found.count().wait().unwrap(), 1);
        db.check().unwrap();
    }
}

/// It looked for the index by its name alone: what a new schema had put in its place was taken for it.
#[test]
fn an_index_whose_name_another_gets_meanwhile_is_not_said_to_be_built() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let all = (0..3_000i64).map(|n| Object::from([("id", n), ("n", n), ("m", n)]));
    db.collection("c").unwrap().insert_many(all).unwrap();
    let asked = || Index::on(["n"]).named("i");
    for (other, is_the_same) in [
        (Index::on(["m"]).named("i"), false),
        (asked().unique(), false),
        (asked().only(Filter::gt("n", 5)), false),
        (asked(), true),
    ] {
        let (beside, schema) = (db.clone(), Schema::schemaless().index(other));
        let mut is_first = true;
        let built = db.create_index_with("c", asked(), move |_| {
            if std::mem::take(&mut is_first) {
                beside.alter_collection("c", schema.clone()).wait().unwrap();
            }
        });
        match built.wait() {
            Ok(()) => assert!(is_the_same),
            Err(error) => assert!(
                !is_the_same && error.to_string().contains("meanwhile"),
                "{error}"
            ),
        }
        let info = db.collection("c").unwrap().indexes().unwrap();
        assert!(info.iter().all(|index| index.is_ready) && info.len() == 1);
        db.check().unwrap();
        db.drop_index("c", "i").wait().unwrap();
    }
}

/// It is the same index, with its name from its fields or given.
#[test]
fn an_index_that_is_named_as_its_fields_is_the_one_that_is_there() {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::new()
        .field(Field::new("n", FieldType::Int).indexed())
        .field(Field::new("m", FieldType::Int))
        .index(Index::on(["n", "m"]));
    db.new_collection("c", schema).unwrap();
    db.insert_into("c", [("n", 1), ("m", 2)]).unwrap();
    for index in [
        Index::on(["n"]).named("n"),
        Index::on(["n"]),
        Index::on(["n", "m"]).named("n,m"),
    ] {
        db.create_index("c", index).wait().unwrap();
    }
    for other in [Index::on(["m"]).named("n"), Index::on(["n"]).unique()] {
        let refused = db.create_index("c", other).wait();
        assert!(matches!(refused, Err(Error::BadIndex { .. })));
    }
    assert_eq!(db.collection("c").unwrap().indexes().unwrap().len(), 2);
}

/// `serde` writes an empty `Vec<u8>` as an empty list, which a field of any type takes: among bytes there was a list, behind
/// all of them in every order, equal to none, and as often as one liked in a unique field.
#[test]
fn no_bytes_are_bytes_where_the_schema_says_so() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        id: i64,
        content: Vec<u8>,
        parts: Vec<Vec<u8>>,
    }
    let file = |id, content: &[u8], parts: &[&[u8]]| File {
        id,
        content: content.to_vec(),
        parts: parts.iter().map(|part| part.to_vec()).collect(),
    };
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::new()
        .field(Field::new("id", FieldType::Int))
        .field(Field::new("content", FieldType::Bytes).required().unique())
        .field(Field::new("parts", FieldType::Bytes).indexed());
    db.new_collection("files", schema).unwrap();
    let files = db.collection("files").unwrap();
    let all = [file(1, b"x", &[b"a", b""]), file(2, b"", &[])];
    for file in &all {
        files.insert(file).unwrap();
        assert_eq!(files.get_as::<File>(file.id).unwrap().as_ref(), Some(file));
    }
    let empty = files.get(2).unwrap().unwrap();
    assert_eq!(empty.get("content"), Some(&Value::Bytes(Vec::new())));
    let query = db.query("files").filter(|f| f.lt("content", vec![1u8]));
    assert_eq!(query.count().wait().unwrap(), 1);
    let again = files.insert(&file(3, b"", &[])).unwrap_err();
    assert!(matches!(again, Error::Duplicate { .. }), "{again}");
    // A list of bytes is emptied and filled.
    let parts = |patch: Patch| {
        files.update(2, patch).unwrap();
        files.get_as::<File>(2).unwrap().unwrap().parts
    };
    assert_eq!(parts(Patch::new().push("parts", vec![7u8])), [[7u8]]);
    assert!(parts(Patch::new().pull("parts", vec![7u8])).is_empty());
    let two = Patch::new()
        .push("parts", vec![8u8])
        .push("parts", Vec::<u8>::new());
    assert_eq!(parts(two), [vec![8u8], vec![]]);
    db.check().unwrap();
}
