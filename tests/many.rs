//! Many documents that change in one call are as if they had changed one after the other: they, the indexes, what was
//! refused, and what was done before that. The entries of indexes wait in such a call, and are changed in their order.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aurora::{
    Aurora, Document, Error, Field, FieldType, Filter, Index, Object, Patch, Schema, Timestamp,
    Value,
};
use common::budget;
use proptest::option::of;
use proptest::prelude::*;

#[derive(Debug)]
struct Clock(AtomicU64);

impl aurora::Clock for Clock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const START_MS: u64 = 1_000_000;

/// A database with a collection that has indexes of all kinds, and its clock.
fn database() -> (Aurora, Arc<Clock>) {
    let clock = Arc::new(Clock(AtomicU64::new(START_MS)));
    let db = Aurora::builder()
        .background(false)
        .clock(clock.clone())
        .open_storage(Arc::new(aurora::storage::MemoryStorage::new()));
    let db = db.unwrap();
    let schema = Schema::schemaless()
        .field(Field::new("id", FieldType::Int))
        .index(Index::on(["a"]).named("a"))
        .index(Index::on(["b"]).named("b").unique())
        .index(Index::on(["a", "b"]).named("both"))
        .index(Index::on(["inner.x"]).named("x"))
        .index(Index::on(["a"]).named("part").only(Filter::gt("b", 6)))
        .index(Index::on(["tags"]).named("tags"))
        .index(Index::on(["keys"]).named("keys").unique())
        .expires_after("seen", Duration::from_millis(100));
    db.new_collection("c", schema).unwrap();
    (db, clock)
}

fn small() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0..6i64).prop_map(Value::Int),
        1 => Just(Value::Null),
        1 => Just(Value::from("a".repeat(600))),
        1 => Just(Value::from("a".repeat(601))),
        1 => proptest::collection::vec(0..4i64, 0..7)
            .prop_map(|all| Value::Array(all.into_iter().map(Value::Int).collect())),
    ]
}

fn document() -> impl Strategy<Value = Object> {
    (
        of(small()),
        of(0..12i64),
        of(small()),
        of(small()),
        proptest::option::weighted(0.3, proptest::collection::vec(0..500i64, 0..4)),
        proptest::option::weighted(0.5, 0..200i64),
        of(0..3i64),
    )
        .prop_map(|(a, b, x, tags, keys, seen, other)| {
            let mut fields = Object::new();
            let mut set = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    fields.insert(name, value);
                }
            };
            set("a", a);
            set("b", b.map(Value::Int));
            set("inner", x.map(|x| Value::Object([("x", x)].into())));
            set("tags", tags);
            let list = |keys: Vec<i64>| Value::Array(keys.into_iter().map(Value::Int).collect());
            set("keys", keys.map(list));
            set("seen", seen.map(time));
            set("other", other.map(Value::Int));
            fields
        })
}

fn time(behind_ms: i64) -> Value {
    Value::DateTime(Timestamp::from_millisecond(START_MS as i64 + behind_ms).unwrap())
}

#[derive(Debug, Clone)]
enum Step {
    Insert(Vec<(i64, Object)>),
    Update(Filter, Patch),
    Delete(Filter),
    /// So many milliseconds pass.
    Wait(u64),
}

fn patch() -> impl Strategy<Value = Patch> {
    let change = (0..9usize, small(), 0..400i64);
    proptest::collection::vec(change, 0..3).prop_map(|changes| {
        changes.into_iter().fold(Patch::new(), |patch, change| {
            let (kind, value, number) = change;
            match kind {
                0 => patch.set("a", value),
                1 => patch.inc("b", number % 12),
                2 => patch.set("inner.x", value),
                3 => patch.unset("inner"),
                4 => patch.push("tags", value),
                5 => patch.pull("tags", value),
                6 => patch.set("seen", time(number)),
                7 => patch.unset("a"),
                _ => patch.inc("other", 1),
            }
        })
    })
}

fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        (0..6i64).prop_map(|a| Filter::eq("a", a)),
        (0..12i64).prop_map(|b| Filter::lt("b", b)),
        (0..4i64).prop_map(|tag| Filter::contains("tags", tag)),
        (0..20i64).prop_map(|id| Filter::lt("id", id)),
        Just(Filter::all([])),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let rows = proptest::collection::vec((0..20i64, document()), 0..20);
    prop_oneof![
        3 => rows.prop_map(Step::Insert),
        3 => (filter(), patch()).prop_map(|(filter, patch)| Step::Update(filter, patch)),
        1 => filter().prop_map(Step::Delete),
        1 => (0..200u64).prop_map(Step::Wait),
    ]
}

fn with_id(id: i64, fields: &Object) -> Object {
    let mut fields = fields.clone();
    fields.insert("id", id);
    fields
}

/// What was refused, without what differs from one database to the other (nothing does).
fn told(error: Error) -> String {
    error.to_string()
}

/// In one call.
fn together(db: &Aurora, step: &Step) -> Result<(), String> {
    let mut tx = db.begin_write().unwrap();
    let done = match step {
        Step::Insert(rows) => {
            let rows = rows.iter().map(|(id, fields)| with_id(*id, fields));
            let mut collection = tx.collection("c").unwrap();
            collection.insert_many(rows).map(|_| ())
        }
        Step::Update(filter, patch) => {
            let query = db.query("c").matching(filter.clone());
            query.update_in(&mut tx, patch).map(|_| ())
        }
        Step::Delete(filter) => {
            let query = db.query("c").matching(filter.clone());
            query.delete_in(&mut tx).map(|_| ())
        }
        Step::Wait(_) => Ok(()),
    };
    tx.commit().unwrap();
    done.map_err(told)
}

/// One after the other, in the same order.
fn apart(db: &Aurora, step: &Step) -> Result<(), String> {
    let mut tx = db.begin_write().unwrap();
    let found = |filter: &Filter, tx: &aurora::WriteTransaction| {
        let rows = db.query("c").matching(filter.clone()).collect_in(tx);
        let rows = rows.unwrap().into_iter();
        rows.map(|row| row.id.value().clone()).collect::<Vec<_>>()
    };
    let done = match step {
        Step::Insert(rows) => rows.iter().try_for_each(|(id, fields)| {
            let mut collection = tx.collection("c").unwrap();
            collection.insert_fields(with_id(*id, fields)).map(|_| ())
        }),
        Step::Update(filter, patch) => {
            let mut ids = found(filter, &tx).into_iter();
            ids.try_for_each(|id| tx.collection("c").unwrap().update(id, patch))
        }
        Step::Delete(filter) => {
            let mut ids = found(filter, &tx).into_iter();
            ids.try_for_each(|id| tx.collection("c").unwrap().delete(id).map(|_| ()))
        }
        Step::Wait(_) => Ok(()),
    };
    tx.commit().unwrap();
    done.map_err(told)
}

/// All documents, those of each index in its order, and how many each has.
fn contents(db: &Aurora) -> Vec<Vec<Document>> {
    let all = || db.query("c");
    let queries = [
        all(),
        all().order_by("a", true),
        all().order_by("b", true),
        all().order_by("inner.x", false),
        all().filter(|f| f.gt("a", 1) && f.gt("b", 6)),
        all().filter(|f| f.contains("tags", 1)),
        all().filter(|f| f.lt("keys", 250)),
    ];
    let rows = { queries.into_iter() }.map(|query| query.collect().wait().unwrap());
    rows.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: budget(512) as u32, ..ProptestConfig::default() })]

    #[test]
    fn documents_that_change_in_one_call_are_as_if_changed_one_by_one(
        steps in proptest::collection::vec(step(), 1..12),
    ) {
        let ((one, its_clock), (other, other_clock)) = (database(), database());
        for step in &steps {
            if let Step::Wait(ms) = step {
                for clock in [&its_clock, &other_clock] {
                    clock.0.fetch_add(*ms, Ordering::Relaxed);
                }
            }
            prop_assert_eq!(together(&one, step), apart(&other, step));
            prop_assert_eq!(contents(&one), contents(&other));
            one.check().unwrap();
        }
    }
}

/// The document that has expired is still stored, and would come back as it was.
#[test]
fn a_value_of_a_document_that_has_expired_is_free_for_another_even_if_it_comes_back() {
    let (db, clock) = database();
    let old = Object::from([("id", Value::Int(1)), ("b", 7.into()), ("seen", time(0))]);
    let new = Object::from([("id", 2), ("b", 7)]);
    db.collection("c")
        .unwrap()
        .insert_fields(old.clone())
        .unwrap();
    clock.0.fetch_add(150, Ordering::Relaxed);
    let refused = db.collection("c").unwrap().insert_many([new.clone(), old]);
    assert!(matches!(refused, Err(Error::Duplicate { field, .. }) if field == "b"));
    db.collection("c").unwrap().insert_fields(new).unwrap();
    db.check().unwrap();
}

/// More of them than wait at a time, with more entries than do.
#[test]
fn more_documents_than_wait_at_a_time_change_in_one_call() {
    const ALL: i64 = 40_000;
    let storage = Arc::new(aurora::storage::MemoryStorage::new());
    let builder = Aurora::builder().memory_limit(16 << 20);
    let db = builder.open_storage(storage).unwrap();
    let schema = Schema::new()
        .field(Field::new("n", FieldType::Int).unique())
        .field(Field::new("group", FieldType::Int).indexed())
        .field(Field::new("tags", FieldType::Array).indexed());
    db.new_collection("c", schema).unwrap();
    let row = |n: i64| {
        let tags = (0..10).map(|tag| Value::Int((n + tag) % 97)).collect();
        Object::from([
            ("n", Value::Int(n)),
            ("group", (n % 10).into()),
            ("tags", Value::Array(tags)),
        ])
    };
    db.collection("c")
        .unwrap()
        .insert_many((0..ALL).map(row))
        .unwrap();
    let moved = db.query("c").filter(|f| f.lt("group", 5));
    let moved = moved.update(Patch::new().inc("group", 100).push("tags", 1000));
    assert_eq!(moved.wait().unwrap(), ALL as u64 / 2);
    db.check().unwrap();
    let count = |filter: Filter| -> u64 { db.query("c").matching(filter).count().wait().unwrap() };
    assert_eq!(count(Filter::gte("group", 100)), ALL as u64 / 2);
    assert_eq!(count(Filter::contains("tags", 1000)), ALL as u64 / 2);
    let gone = db.query("c").filter(|f| f.gte("group", 100)).delete();
    assert_eq!(gone.wait().unwrap(), ALL as u64 / 2);
    db.check().unwrap();
    assert_eq!(count(Filter::contains("tags", 1000)), 0);
    assert_eq!(count(Filter::all([])), ALL as u64 / 2);
    // What is gone has left its unique values.
    db.collection("c").unwrap().insert_fields(row(0)).unwrap();
    let refused = db.collection("c").unwrap().insert_fields(row(5));
    assert!(
        matches!(refused, Err(Error::Duplicate { .. })),
        "{refused:?}"
    );
}
