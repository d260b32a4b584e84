//! The same query gives the same answer with any indexes or none, as a closure or as a value, and
//! it is the answer of a plain model. Over random schemas, documents and filters.

#[path = "common/memory.rs"]
mod memory;

use std::collections::BTreeMap;

use aurora::{
    Aurora, Cursor, Document, DocumentId, Field, FieldType, Fields, Filter, Index, Object, Patch,
    Schema, Value,
};
use proptest::prelude::*;

/// A filter that exists in three forms: for the engine as a value, as a closure, and for the model.
#[derive(Debug, Clone)]
enum Ask {
    Eq(usize, Value),
    Ne(usize, Value),
    Gt(usize, Value),
    Gte(usize, Value),
    Lt(usize, Value),
    Lte(usize, Value),
    Between(usize, Value, Value),
    In(usize, Vec<Value>),
    Contains(usize, Value),
    StartsWith(usize, String),
    EndsWith(usize, String),
    Matches(usize, String),
    Exists(usize),
    IsNull(usize),
    Length(usize, u64),
    And(Box<Ask>, Box<Ask>),
    Or(Box<Ask>, Box<Ask>),
    Not(Box<Ask>),
}

/// The last is the id, which the documents of one collection have in their keys alone.
const PATHS: [&str; 6] = ["a", "b", "c", "d.x", "e", "id"];

impl Ask {
    fn filter(&self) -> Filter {
        match self {
            Ask::Eq(p, v) => Filter::eq(PATHS[*p], v),
            Ask::Ne(p, v) => Filter::ne(PATHS[*p], v),
            Ask::Gt(p, v) => Filter::gt(PATHS[*p], v),
            Ask::Gte(p, v) => Filter::gte(PATHS[*p], v),
            Ask::Lt(p, v) => Filter::lt(PATHS[*p], v),
            Ask::Lte(p, v) => Filter::lte(PATHS[*p], v),
            Ask::Between(p, a, b) => Filter::between(PATHS[*p], a, b),
            Ask::In(p, values) => Filter::is_in(PATHS[*p], values),
            Ask::Contains(p, v) => Filter::contains(PATHS[*p], v),
            Ask::StartsWith(p, t) => Filter::starts_with(PATHS[*p], t),
            Ask::EndsWith(p, t) => Filter::ends_with(PATHS[*p], t),
            Ask::Matches(p, t) => Filter::matches(PATHS[*p], t),
            Ask::Exists(p) => Filter::exists(PATHS[*p]),
            Ask::IsNull(p) => Filter::is_null(PATHS[*p]),
            Ask::Length(p, n) => Filter::length(PATHS[*p], *n..=*n + 1),
            Ask::And(a, b) => a.filter().and(b.filter()),
            Ask::Or(a, b) => a.filter().or(b.filter()),
            Ask::Not(a) => a.filter().not(),
        }
    }

    fn closure(&self, f: &Fields<'_>) -> bool {
        match self {
            Ask::Eq(p, v) => f.eq(PATHS[*p], v),
            Ask::Ne(p, v) => f.ne(PATHS[*p], v),
            Ask::Gt(p, v) => f.gt(PATHS[*p], v),
            Ask::Gte(p, v) => f.gte(PATHS[*p], v),
            Ask::Lt(p, v) => f.lt(PATHS[*p], v),
            Ask::Lte(p, v) => f.lte(PATHS[*p], v),
            Ask::Between(p, a, b) => f.between(PATHS[*p], a, b),
            Ask::In(p, values) => f.is_in(PATHS[*p], values),
            Ask::Contains(p, v) => f.contains(PATHS[*p], v),
            Ask::StartsWith(p, t) => f.starts_with(PATHS[*p], t),
            Ask::EndsWith(p, t) => f.ends_with(PATHS[*p], t),
            Ask::Matches(p, t) => f.matches(PATHS[*p], t),
            Ask::Exists(p) => f.exists(PATHS[*p]),
            Ask::IsNull(p) => f.is_null(PATHS[*p]),
            Ask::Length(p, n) => f.length(PATHS[*p], *n..=*n + 1),
            Ask::And(a, b) => a.closure(f) && b.closure(f),
            Ask::Or(a, b) => a.closure(f) || b.closure(f),
            Ask::Not(a) => !a.closure(f),
        }
    }

    fn holds(&self, document: &Object) -> bool {
        let get = |p: &usize| document.get_path(PATHS[*p]);
        let same_type = |a: &Value, b: &Value| {
            let number = |v: &Value| matches!(v, Value::Int(_) | Value::Float(_));
            a.type_name() == b.type_name() || (number(a) && number(b))
        };
        let compares = |p: &usize, v: &Value, holds: fn(std::cmp::Ordering) -> bool| {
            get(p).is_some_and(|own| same_type(own, v) && holds(own.cmp(v)))
        };
        let equals = |own: Option<&Value>, v: &Value| own.unwrap_or(&Value::Null) == v;
        let text = |p: &usize| get(p).and_then(|v| v.as_str());
        match self {
            Ask::Eq(p, v) => equals(get(p), v),
            Ask::Ne(p, v) => !equals(get(p), v),
            Ask::Gt(p, v) => compares(p, v, |o| o.is_gt()),
            Ask::Gte(p, v) => compares(p, v, |o| o.is_ge()),
            Ask::Lt(p, v) => compares(p, v, |o| o.is_lt()),
            Ask::Lte(p, v) => compares(p, v, |o| o.is_le()),
            Ask::Between(p, a, b) => compares(p, a, |o| o.is_ge()) && compares(p, b, |o| o.is_le()),
            Ask::In(p, values) => values.iter().any(|v| equals(get(p), v)),
            Ask::Contains(p, v) => match (get(p), v) {
                (Some(Value::Array(values)), v) => values.contains(v),
                (Some(Value::String(text)), Value::String(part)) => text.contains(part.as_str()),
                _ => false,
            },
            Ask::StartsWith(p, t) => text(p).is_some_and(|text| text.starts_with(t.as_str())),
            Ask::EndsWith(p, t) => text(p).is_some_and(|text| text.ends_with(t.as_str())),
            // The patterns are plain letters with an anchor.
            Ask::Matches(p, t) => {
                text(p).is_some_and(|text| text.starts_with(t.trim_start_matches('^')))
            }
            Ask::Exists(p) => get(p).is_some(),
            Ask::IsNull(p) => get(p).is_none_or(Value::is_null),
            Ask::Length(p, n) => get(p)
                .and_then(|v| v.as_array())
                .is_some_and(|values| (*n..=*n + 1).contains(&(values.len() as u64))),
            Ask::And(a, b) => a.holds(document) && b.holds(document),
            Ask::Or(a, b) => a.holds(document) || b.holds(document),
            Ask::Not(a) => !a.holds(document),
        }
    }
}

/// Few values, so that they meet; some are longer than an index entry takes.
fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => (0i64..6).prop_map(Value::Int),
        1 => (0i32..12).prop_map(|i| Value::Float(f64::from(i) / 2.0)),
        3 => "[ab]{0,2}".prop_map(Value::String),
        1 => ("[ab]", 0usize..3).prop_map(|(c, n)| Value::String(c.repeat(509 + n))),
        1 => ("[ab]", "[ab]").prop_map(|(a, b)| Value::String(a.repeat(600) + &b)),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => Just(Value::Null),
        1 => (0u128..3).prop_map(|u| Value::Uuid(aurora::Uuid::from_u128(u))),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => scalar(),
        1 => proptest::collection::vec(scalar(), 0..4).prop_map(Value::Array),
    ]
}

fn document() -> impl Strategy<Value = Object> {
    let field = || proptest::option::weighted(0.85, value());
    (field(), field(), field(), field(), field()).prop_map(|(a, b, c, x, e)| {
        let mut object = Object::new();
        for (name, value) in [("a", a), ("b", b), ("c", c), ("e", e)] {
            if let Some(value) = value {
                object.insert(name, value);
            }
        }
        if let Some(x) = x {
            object.insert("d", Object::from([("x", x)]));
        }
        object
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    let path = || 0..PATHS.len();
    let letter = "[ab]{0,2}";
    let leaf = prop_oneof![
        3 => (path(), value()).prop_map(|(p, v)| Ask::Eq(p, v)),
        1 => (path(), value()).prop_map(|(p, v)| Ask::Ne(p, v)),
        2 => (path(), scalar()).prop_map(|(p, v)| Ask::Gt(p, v)),
        2 => (path(), scalar()).prop_map(|(p, v)| Ask::Gte(p, v)),
        2 => (path(), scalar()).prop_map(|(p, v)| Ask::Lt(p, v)),
        2 => (path(), value()).prop_map(|(p, v)| Ask::Lte(p, v)),
        2 => (path(), scalar(), scalar()).prop_map(|(p, a, b)| Ask::Between(p, a, b)),
        2 => (path(), proptest::collection::vec(scalar(), 0..4)).prop_map(|(p, v)| Ask::In(p, v)),
        3 => (path(), scalar()).prop_map(|(p, v)| Ask::Contains(p, v)),
        1 => (path(), letter).prop_map(|(p, t)| Ask::StartsWith(p, t)),
        1 => (path(), letter).prop_map(|(p, t)| Ask::EndsWith(p, t)),
        1 => (path(), letter).prop_map(|(p, t)| Ask::Matches(p, format!("^{t}"))),
        1 => path().prop_map(Ask::Exists),
        1 => path().prop_map(Ask::IsNull),
        1 => (path(), 0u64..3).prop_map(|(p, n)| Ask::Length(p, n)),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Ask::And(a.into(), b.into())),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Ask::Or(a.into(), b.into())),
            inner.prop_map(|a| Ask::Not(a.into())),
        ]
    })
}

fn index() -> impl Strategy<Value = Index> {
    let paths = proptest::sample::subsequence(PATHS.to_vec(), 1..=3).prop_shuffle();
    (paths, proptest::option::weighted(0.2, ask())).prop_map(|(paths, only)| {
        let index = Index::on(paths);
        match only {
            Some(ask) => index.only(ask.filter()),
            None => index,
        }
    })
}

#[derive(Debug, Clone)]
struct Query {
    ask: Option<Ask>,
    order: Vec<(usize, bool)>,
    offset: u64,
    limit: Option<u64>,
}

fn query() -> impl Strategy<Value = Query> {
    let order = proptest::collection::vec((0..PATHS.len(), any::<bool>()), 0..3);
    let limit = proptest::option::of(0u64..8);
    let offset = prop_oneof![2 => Just(0u64), 1 => 0u64..6];
    (proptest::option::weighted(0.9, ask()), order, offset, limit).prop_map(
        |(ask, order, offset, limit)| Query {
            ask,
            order,
            offset,
            limit,
        },
    )
}

/// The rows of the model: filtered, and in order.
fn expected(documents: &[(i64, Object)], query: &Query) -> Vec<(i64, Object)> {
    let passes = |document: &Object| query.ask.as_ref().is_none_or(|ask| ask.holds(document));
    let mut rows: Vec<(i64, Object)> = { documents.iter() }
        .filter(|(_, d)| passes(d))
        .cloned()
        .collect();
    rows.sort_by(|(id_a, a), (id_b, b)| {
        let mut ascending = true;
        for (path, up) in &query.order {
            ascending = *up;
            let order = a.get_path(PATHS[*path]).cmp(&b.get_path(PATHS[*path]));
            let order = if *up { order } else { order.reverse() };
            if order.is_ne() {
                return order;
            }
        }
        let order = id_a.cmp(id_b);
        if ascending { order } else { order.reverse() }
    });
    rows
}

fn built<'q>(db: &Aurora, collection: &str, query: &'q Query, closure: bool) -> aurora::Query<'q> {
    let mut built = db.query(collection);
    if let Some(ask) = &query.ask {
        built = if closure {
            built.filter(|f| ask.closure(f))
        } else {
            built.matching(ask.filter())
        };
    }
    for (path, up) in &query.order {
        built = built.order_by(PATHS[*path], *up);
    }
    built
}

fn ids(rows: &[Document]) -> Vec<i64> {
    rows.iter()
        .map(|row| row.id.value().as_int().unwrap())
        .collect()
}

fn check_query(db: &Aurora, name: &str, documents: &[(i64, Object)], query: &Query) {
    let all = expected(documents, query);
    let skip = query.offset as usize;
    let take = query.limit.map_or(usize::MAX, |limit| limit as usize);
    let wanted: Vec<i64> = all
        .iter()
        .skip(skip)
        .take(take)
        .map(|(id, _)| *id)
        .collect();
    for closure in [false, true] {
        let limited = || {
            let built = built(db, name, query, closure).offset(query.offset);
            query
                .limit
                .map_or_else(|| built_again(db, name, query, closure), |l| built.limit(l))
        };
        let plan = limited().explain().wait().unwrap();
        let rows = limited().collect().wait().unwrap();
        assert_eq!(ids(&rows), wanted, "{name} {query:?}\n{plan}");
        for row in &rows {
            let (id, fields) = &documents[row.id.value().as_int().unwrap() as usize];
            let mut own = row.fields().clone();
            own.insert("id", *id);
            assert_eq!(&own, fields, "{name}");
        }
        let counted = limited().count().wait().unwrap();
        assert_eq!(
            counted,
            wanted.len() as u64,
            "count of {name} {query:?}\n{plan}"
        );
        let streamed: Vec<Document> = limited().rows().unwrap().map(Result::unwrap).collect();
        assert_eq!(ids(&streamed), wanted);
    }
    // Page by page.
    let mut paged = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let mut next = built(db, name, query, true);
        if let Some(cursor) = after.take() {
            next = next.after(cursor.to_string().parse().unwrap());
        }
        let page = next.page(2).wait().unwrap();
        paged.extend(ids(&page.documents));
        match page.next {
            Some(cursor) => after = Some(cursor),
            None => break,
        }
    }
    let whole: Vec<i64> = all.iter().map(|(id, _)| *id).collect();
    assert_eq!(paged, whole, "pages of {name} {query:?}");
    let ask = || built(db, name, query, true);
    check_groups(&ask, &all, &format!("{name} {query:?}"));
}

/// Counts, sums, averages, least and greatest values by every field, against a plain walk through the rows.
fn check_groups<'q>(ask: &dyn Fn() -> aurora::Query<'q>, rows: &[(i64, Object)], what: &str) {
    let value = |row: &Object, path: &str| row.get_path(path).cloned().unwrap_or_default();
    let number = |value: &Value| match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    };
    // Rows come in another order, and sums of floats follow it.
    let is_near = |a: &Value, b: &Value| match (number(a), number(b)) {
        (Some(x), Some(y)) => {
            a == b || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-9 * x.abs().max(1.0)
        }
        _ => a == b,
    };
    for (at, by) in PATHS.iter().enumerate() {
        let of = PATHS[(at + 1) % PATHS.len()];
        let mut groups: BTreeMap<Value, Vec<Value>> = BTreeMap::new();
        for (_, row) in rows {
            groups
                .entry(value(row, by))
                .or_default()
                .push(value(row, of));
        }
        let grouped = ask().group_by(*by).count().sum(of).avg(of).min(of).max(of);
        let found = grouped.collect().wait().unwrap();
        let keys: Vec<&Value> = found.iter().map(|group| &group.key).collect();
        assert_eq!(keys, groups.keys().collect::<Vec<_>>(), "{what} by {by}");
        for (group, values) in found.iter().zip(groups.values()) {
            let numbers: Vec<f64> = values.iter().filter_map(number).collect();
            let is_whole = values.iter().all(|value| !matches!(value, Value::Float(_)));
            let whole: i128 = { values.iter() }
                .filter_map(|value| value.as_int().map(i128::from))
                .sum();
            let sum = match i64::try_from(whole) {
                Ok(whole) if is_whole => Value::Int(whole),
                _ => Value::Float(numbers.iter().sum()),
            };
            let average = match numbers.len() {
                0 => Value::Null,
                count => Value::Float(numbers.iter().sum::<f64>() / count as f64),
            };
            let mut there: Vec<&Value> = values.iter().filter(|v| !v.is_null()).collect();
            there.sort();
            let end = |value: Option<&&Value>| value.map_or(Value::Null, |value| (*value).clone());
            let count = Value::from(values.len() as i64);
            let expected = [count, sum, average, end(there.first()), end(there.last())];
            for (found, expected) in group.results.iter().zip(&expected) {
                assert!(
                    is_near(found, expected),
                    "{what} by {by}: {group:?}, {expected:?}"
                );
            }
        }
    }
}

/// More rows than are put in order at once, and more groups than rows of one of them.
#[test]
fn many_rows_are_sorted_and_grouped() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let number = |id: i64| id.wrapping_mul(0x9e37_79b9_7f4a_7c15u64 as i64) >> 44;
    let documents = (0..10_000i64).map(|id| [("id", id), ("n", number(id)), ("few", id % 7)]);
    db.collection("c").unwrap().insert_many(documents).unwrap();
    let mut expected: Vec<(i64, i64)> = (0..10_000).map(|id| (number(id), id)).collect();
    expected.sort();
    let mut backwards = expected.clone();
    backwards.sort_by_key(|(n, id)| std::cmp::Reverse((*n, *id)));
    for (ascending, expected) in [(true, &expected), (false, &backwards)] {
        let sorted = || db.query("c").order_by("n", ascending);
        let wanted: Vec<i64> = expected.iter().map(|(_, id)| *id).collect();
        assert_eq!(ids(&sorted().collect().wait().unwrap()), wanted);
        let rows = sorted().rows().unwrap().map(Result::unwrap);
        assert_eq!(ids(&rows.collect::<Vec<_>>()), wanted);
        for (offset, limit) in [(0, 5), (4090, 20), (9000, 5000)] {
            let some = sorted().offset(offset).limit(limit).collect();
            let end = wanted.len().min((offset + limit) as usize);
            assert_eq!(ids(&some.wait().unwrap()), wanted[offset as usize..end]);
        }
    }
    let rows = |(_, id): &(i64, i64)| Object::from([("n", number(*id)), ("few", id % 7)]);
    let rows: Vec<Object> = expected.iter().map(rows).collect();
    for by in ["n", "few"] {
        let mut groups: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        for row in &rows {
            let value = |field| row.get(field).unwrap().as_int().unwrap();
            let (count, sum) = groups.entry(value(by)).or_default();
            *count += 1;
            *sum += value("n");
        }
        let found = db.query("c").group_by(by).count().sum("n").collect();
        let found = found.wait().unwrap().into_iter();
        let found = found.map(|group| (group.key, group.results));
        let expected = { groups.into_iter() }
            .map(|(key, (count, sum))| (Value::from(key), vec![count.into(), sum.into()]));
        assert!(found.eq(expected), "by {by}");
    }
}

fn built_again<'q>(db: &Aurora, name: &str, query: &'q Query, closure: bool) -> aurora::Query<'q> {
    built(db, name, query, closure).offset(query.offset)
}

fn cases() -> u32 {
    std::env::var("AURORA_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(150)
}

#[test]
fn what_is_selected_has_the_names_that_it_has_in_the_document() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let nested = Object::from([("b", 2)]);
    let stored = [
        Object::from([("a", Value::from(5)), ("a.b", 1.into())]),
        Object::from([("a.b", Value::from(1))]),
        Object::from([("a", Value::Object(nested.clone()))]),
        Object::from([("a", 7)]),
        Object::from([(
            "a",
            Value::Object(Object::from([("b", 5), ("b.c", 1), ("d.e/f", 2)])),
        )]),
    ];
    for fields in stored.clone() {
        db.insert_into("c", fields).unwrap();
    }
    let selected = |paths: &[&str]| {
        let rows = db
            .query("c")
            .select(paths.to_vec())
            .collect()
            .wait()
            .unwrap();
        let fields = rows.into_iter().map(|row| row.into_fields());
        fields.collect::<Vec<_>>()
    };
    assert_eq!(selected(&["a", "a.b"]), stored);
    assert_eq!(selected(&["a.b", "a"]), stored);
    let alone = [
        stored[1].clone(),
        stored[1].clone(),
        stored[2].clone(),
        Object::new(),
        Object::from([("a", Value::Object(Object::from([("b", 5)])))]),
    ];
    assert_eq!(selected(&["a.b"]), alone);
    let parts = selected(&["a.d.e/f", "a.b", "a.b.c"]);
    assert_eq!(parts.last(), stored.last());
    let exported = |paths: &[&str]| {
        let mut bytes = Vec::new();
        let export = db.export("c").fields(paths.to_vec());
        export.write_json_lines(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        exported(&["a", "a.b"]),
        [
            r#"{"a":5,"a.b":1}"#,
            r#"{"a.b":1}"#,
            r#"{"a":{"b":2}}"#,
            r#"{"a":7}"#,
            r#"{"a":{"b":5,"b.c":1,"d.e/f":2}}"#
        ]
    );
}

/// Pages in the order of ids, from one range of an index, from several, and from all documents.
#[test]
fn pages_without_an_order_are_all_rows_once() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let documents = (0..500i64).map(|i| [("id", i), ("a", i % 3), ("b", i % 7)]);
    db.collection("c").unwrap().insert_many(documents).unwrap();
    for name in ["a", "b"] {
        db.create_index("c", Index::on([name])).wait().unwrap();
    }
    let either = Filter::eq("a", 1).or(Filter::eq("b", 2));
    for filter in [
        Filter::eq("a", 1),
        either,
        Filter::gt("a", -1),
        Filter::all([]),
    ] {
        let query = || db.query("c").matching(filter.clone());
        let all = query().collect().wait().unwrap();
        assert!(all.len() > 100);
        for rows in [1, 7, 64, 1000] {
            let mut found = Vec::new();
            let mut next = None;
            loop {
                let query = match next {
                    Some(cursor) => query().after(cursor),
                    None => query(),
                };
                let page = query.page(rows).wait().unwrap();
                found.extend(page.documents);
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
            assert_eq!(found, all, "{rows}");
        }
    }
}

/// Hundreds of values, of which one holds, are hundreds of ways into the index.
#[test]
fn a_filter_of_hundreds_of_values_is_planned_in_good_time() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let documents = (0..2000i64).map(|i| [("id", i), ("a", i)]);
    db.collection("c").unwrap().insert_many(documents).unwrap();
    db.create_index("c", Index::on(["a"])).wait().unwrap();
    let any = Filter::any((0..400i64).map(|i| Filter::eq("a", 3 * i)));
    let start = own_time();
    let found = db.query("c").matching(any).count().wait().unwrap();
    assert_eq!(found, 400);
    let took = own_time() - start;
    println!("{took:?}");
    assert!(took < std::time::Duration::from_secs(3), "{took:?}");
}

/// The time that this thread has worked, which is no longer where others keep the machine busy. Where the system does not
/// tell, the time since the first call.
fn own_time() -> std::time::Duration {
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};
    static START: OnceLock<Instant> = OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat");
    let told = told
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok());
    match told {
        Some(nanos) => Duration::from_nanos(nanos),
        None => START.get_or_init(Instant::now).elapsed(),
    }
}

/// Each way of such a filter says no to all values of the ways before it, of two fields; and each is held against the
/// conditions of all indexes.
#[test]
fn hundreds_of_values_of_two_fields_are_planned_in_good_time() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let documents = (0..1000i64).map(|i| [("id", i), ("a", i), ("b", i + 1), ("s", i % 10)]);
    db.collection("c").unwrap().insert_many(documents).unwrap();
    for name in ["a", "b"] {
        db.create_index("c", Index::on([name])).wait().unwrap();
    }
    let ids: Vec<i64> = (0..250).collect();
    let timed = |most_ms: u64| {
        let start = own_time();
        let query = db
            .query("c")
            .filter(|f| ids.iter().any(|id| f.eq("a", id) || f.eq("b", id)));
        let plan = query.clone().explain().wait().unwrap();
        assert_eq!(plan.rows, 250, "{plan}");
        assert_eq!(query.count().wait().unwrap(), 250);
        let took = own_time() - start;
        println!("{took:?}");
        let most = std::time::Duration::from_millis(most_ms);
        assert!(took < most, "{took:?}");
    };
    timed(1000);
    for k in 0..5 {
        let any = Filter::any((0..200i64).map(|i| Filter::eq("s", 10 + i * (k + 1))));
        let index = Index::on(["a", "s"]).named(format!("p{k}")).only(any);
        db.create_index("c", index).wait().unwrap();
    }
    timed(2000);
    // More than can be planned: found by looking at each document.
    let many: Vec<i64> = (0..20_000).collect();
    let start = own_time();
    let query = db
        .query("c")
        .filter(|f| many.iter().any(|id| f.eq("b", id) && f.eq("id", id - 1)));
    assert_eq!(query.limit(3).collect().wait().unwrap().len(), 3);
    let took = own_time() - start;
    assert!(took < std::time::Duration::from_secs(3), "{took:?}");
}

/// Each alternative was planned with a copy of the whole list: seconds and a gigabyte, for a thousand documents.
#[test]
fn a_long_list_beside_hundreds_of_values_is_planned_in_good_time() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let documents = (0..1000i64).map(|i| [("id", i), ("a", i), ("b", i), ("c", i)]);
    db.collection("c").unwrap().insert_many(documents).unwrap();
    for paths in [&["a"][..], &["b", "a"], &["c", "a"]] {
        let index = Index::on(paths.iter().copied());
        db.create_index("c", index).wait().unwrap();
    }
    let list: Vec<i64> = (0..20_000).map(|i| 3 * i).collect();
    let found: Vec<i64> = (0..200).map(|i| 3 * i).collect();
    for field in ["a", "id"] {
        let values = Filter::is_in(field, list.clone());
        for other in ["b", "c", "d"] {
            let any = Filter::any((0..200i64).map(|b| Filter::eq(other, 3 * b)));
            let both = || db.query("c").matching(values.clone().and(any.clone()));
            let start = own_time();
            let rows = both().collect().wait().unwrap();
            let expected = if other == "d" { &[][..] } else { &found };
            assert_eq!(ids(&rows), expected, "{field} {other}");
            assert_eq!(
                ids(&both().order_by("a", true).collect().wait().unwrap()),
                expected
            );
            assert_eq!(both().count().wait().unwrap(), expected.len() as u64);
            let took = own_time() - start;
            println!("{field} {other}: {took:?}");
            assert!(took < std::time::Duration::from_secs(3), "{took:?}");
        }
    }
}

/// To look for a value in a long list costs more than to look at a document.
#[test]
fn a_long_list_is_looked_up_in_the_index() {
    let db = numbers(3_000);
    let half: Vec<i64> = (0..1_500).map(|n| 2 * n).collect();
    let plan = {
        db.query("numbers")
            .filter(|f| f.is_in("n", &half))
            .explain()
    }
    .wait();
    let plan = plan.unwrap();
    assert_eq!((plan.is_scan(), plan.rows), (false, 1_500), "{plan}");
    // Where there is no index, a list that is a value is in order and is not gone through for each document.
    let names = (0..200_000).map(|n| format!("number {}", 2 * n));
    let start = own_time();
    let query = { db.query("numbers") }.matching(Filter::is_in("text", names));
    assert_eq!(query.count().wait().unwrap(), 1_500);
    let took = own_time() - start;
    assert!(took < std::time::Duration::from_secs(3), "{took:?}");
    let mixed: [Value; 6] = [
        3.into(),
        Value::Null,
        "x".into(),
        2.5.into(),
        3.into(),
        1.into(),
    ];
    let count = |field: &str| {
        let query = { db.query("numbers") }.matching(Filter::is_in(field, mixed.clone()));
        query.count().wait().unwrap()
    };
    assert_eq!((count("n"), count("missing"), count("text")), (2, 3_000, 0));
}

/// Each step of a walk once copied all of its ranges.
#[test]
fn an_ordered_walk_through_many_ranges_takes_no_copies() {
    let db = numbers(120_000);
    let half: Vec<i64> = (0..60_000).map(|n| 2 * n).collect();
    for (field, backwards) in [("n", false), ("n", true), ("id", false)] {
        let start = own_time();
        let query = db.query("numbers").filter(|f| f.is_in("n", &half));
        let rows = query.order_by(field, !backwards).rows().unwrap();
        assert_eq!(rows.map(Result::unwrap).count(), 60_000);
        let took = own_time() - start;
        println!("{took:?}");
        assert!(
            took < std::time::Duration::from_secs(3),
            "by {field}: {took:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_same_with_and_without_indexes(
        documents in proptest::collection::vec(document(), 0..40),
        indexes in proptest::collection::vec(index(), 1..5),
        queries in proptest::collection::vec(query(), 1..8),
        updates in proptest::collection::vec((any::<prop::sample::Index>(), document()), 0..6),
    ) {
        let db = Aurora::builder().background(false)
            .open_storage(std::sync::Arc::new(aurora::storage::MemoryStorage::new())).unwrap();
        let mut indexed = Schema::schemaless().field(Field::new("id", FieldType::Int));
        for (i, index) in indexes.iter().enumerate() {
            indexed = indexed.index(index.clone().named(format!("i{i}")));
        }
        db.new_collection("indexed", indexed).unwrap();
        let plain = Schema::schemaless().field(Field::new("id", FieldType::Int));
        db.new_collection("plain", plain).unwrap();
        let mut strict = Schema::new();
        for path in PATHS.iter().filter(|path| **path != "id") {
            strict = strict.field(Field::new(*path, FieldType::Any));
        }
        for (i, index) in indexes.iter().enumerate() {
            strict = strict.index(index.clone().named(format!("i{i}")));
        }
        db.new_collection("strict", strict).unwrap();
        const NAMES: [&str; 3] = ["plain", "indexed", "strict"];
        let with_id = |id: i64, mut fields: Object| {
            fields.insert("id", id);
            (id, fields)
        };
        let documents = (0..).zip(documents).map(|(id, fields)| with_id(id, fields));
        let mut documents: Vec<(i64, Object)> = documents.collect();
        for name in NAMES {
            let all = documents.iter().map(|(_, fields)| fields.clone());
            db.collection(name).unwrap().insert_many(all).unwrap();
        }
        for (at, fields) in updates {
            if documents.is_empty() {
                break;
            }
            let at = at.index(documents.len());
            let (id, own) = &mut documents[at];
            for name in NAMES {
                db.collection(name).unwrap().replace(*id, fields.clone()).unwrap();
            }
            *own = with_id(*id, fields).1;
        }
        db.check().unwrap();
        for query in &queries {
            for name in NAMES {
                check_query(&db, name, &documents, query);
            }
        }
    }
}

/// A collection of numbers with an index on them.
fn numbers(count: i64) -> Aurora {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::new()
        .field(Field::new("n", FieldType::Int).indexed())
        .field(Field::new("even", FieldType::Bool).indexed())
        .field(Field::new("text", FieldType::String))
        .index(Index::on(["even", "n"]));
    db.new_collection("numbers", schema).unwrap();
    let documents = (0..count).map(|n| {
        Object::from([
            ("n", Value::from(n)),
            ("even", (n % 2 == 0).into()),
            ("text", format!("number {n}").into()),
        ])
    });
    db.collection("numbers")
        .unwrap()
        .insert_many(documents)
        .unwrap();
    db
}

#[test]
fn plans_use_indexes_and_know_what_they_cost() {
    let db = numbers(10_000);
    let range = db
        .query("numbers")
        .filter(|f| f.gte("n", 100) && f.lt("n", 110));
    let plan = range.explain().wait().unwrap();
    assert_eq!(
        (plan.indexes(), plan.rows, plan.examined),
        (vec!["n"], 10, 10),
        "{plan}"
    );
    let text = plan.to_string();
    assert!(text.contains("10 entries in 1 range\n"), "{plan}");

    let sorted = db.query("numbers").order_by("n", false).limit(5);
    let plan = sorted.explain().wait().unwrap();
    assert_eq!(
        (plan.indexes(), plan.examined, plan.sorts()),
        (vec!["n"], 5, false),
        "{plan}"
    );

    let compound = db
        .query("numbers")
        .filter(|f| f.eq("even", true))
        .order_by("n", true)
        .limit(3);
    let plan = compound.explain().wait().unwrap();
    assert_eq!(
        (plan.indexes(), plan.examined),
        (vec!["even,n"], 3),
        "{plan}"
    );

    let deep = db
        .query("numbers")
        .order_by("n", true)
        .offset(9_990)
        .limit(5);
    let plan = deep.explain().wait().unwrap();
    assert_eq!((plan.examined, plan.rows), (5, 5), "{plan}");

    let or = db.query("numbers").filter(|f| f.eq("n", 5) || f.eq("n", 7));
    let plan = or.explain().wait().unwrap();
    assert_eq!((plan.indexes(), plan.examined), (vec!["n"], 2), "{plan}");
    assert!(plan.to_string().contains(": 1 entry in 1 range"), "{plan}");

    let none = db.query("numbers").filter(|f| f.gt("n", 5) && f.lt("n", 3));
    let plan = none.explain().wait().unwrap();
    assert_eq!(plan.examined, 0, "{plan}");

    let scan = db.query("numbers").filter(|f| f.ends_with("text", "77"));
    let plan = scan.explain().wait().unwrap();
    assert!(plan.is_scan() && plan.rows == 100, "{plan}");
    println!("{plan}");
}

/// The tree of the documents is in the order of their ids: it is the index of `id`, also where the ids were made and are
/// no fields.
#[test]
fn documents_are_found_by_their_ids() {
    let db = numbers(1000);
    let all = db.query("numbers").collect().wait().unwrap();
    let one = db.query("numbers").filter(|f| f.eq("id", &all[7].id));
    let plan = one.clone().explain().wait().unwrap();
    assert_eq!((plan.examined, plan.is_scan()), (1, false), "{plan}");
    assert_eq!(ids_of(one), [all[7].id.clone()]);

    let some = [&all[900].id, &all[3].id, &all[41].id];
    let some = db.query("numbers").filter(|f| f.is_in("id", some));
    let plan = some.clone().explain().wait().unwrap();
    assert_eq!((plan.examined, plan.rows), (3, 3), "{plan}");
    assert_eq!(
        ids_of(some.clone()),
        [3, 41, 900].map(|i: usize| all[i].id.clone())
    );
    let back = some.clone().order_by("id", false).offset(1);
    assert_eq!(ids_of(back), [41, 3].map(|i: usize| all[i].id.clone()));
    assert_eq!(
        some.order_by("id", true).limit(2).count().wait().unwrap(),
        2
    );

    let last = db
        .query("numbers")
        .order_by("id", false)
        .offset(10)
        .limit(5);
    let plan = last.clone().explain().wait().unwrap();
    assert_eq!((plan.examined, plan.sorts()), (5, false), "{plan}");
    assert_eq!(ids_of(last)[0], all[989].id);

    // An index narrows it down further than half of the ids; its entries of one value are in their order.
    let both = |n: i64| {
        let half = &all[500].id;
        db.query("numbers")
            .filter(move |f| f.eq("n", n) && f.lt("id", half))
    };
    let number = all[20].get("n").and_then(Value::as_int).unwrap();
    let plan = both(number).explain().wait().unwrap();
    assert_eq!(
        (plan.indexes(), plan.examined, plan.rows),
        (vec!["n"], 1, 1),
        "{plan}"
    );
    let even = db.query("numbers").filter(|f| f.eq("even", true));
    let plan = even
        .order_by("id", false)
        .limit(4)
        .explain()
        .wait()
        .unwrap();
    assert_eq!((plan.rows, plan.sorts()), (4, false), "{plan}");

    let groups = db
        .query("numbers")
        .filter(|f| f.lte("id", &all[1].id))
        .group_by("id");
    assert_eq!(groups.count().collect().wait().unwrap().len(), 2);
    let found = db
        .query("numbers")
        .filter(|f| f.value("id") == *all[5].id.value());
    assert_eq!(ids_of(found), [all[5].id.clone()]);
    // One that cannot be an id, and one longer than ids are.
    for none in ["x", &"x".repeat(1000)] {
        let plan = { db.query("numbers").filter(|f| f.gte("id", none)).explain() }.wait();
        assert_eq!(plan.unwrap().examined, 0);
    }
}

/// An index of `id` has only what was stored, so it is asked for no id.
#[test]
fn indexes_do_not_hide_documents_that_were_given_their_ids() {
    let db = Aurora::in_memory().unwrap();
    let only = Filter::gte("id", aurora::Uuid::nil());
    let schema = Schema::schemaless()
        .index(Index::on(["x"]).only(only.clone()))
        .index(Index::on(["x", "id"]));
    db.new_collection("c", schema).unwrap();
    for n in 0..300 {
        let mut fields = Object::from([("x", Value::from(n % 10)), ("n", n.into())]);
        if n % 3 == 0 {
            fields.insert("id", aurora::Uuid::from_u128(n as u128)); // below those that are made
        }
        db.insert_into("c", fields).unwrap();
    }
    let mut of_seven = Vec::new();
    for document in db.query("c").collect().wait().unwrap() {
        if document.get("x") == Some(&Value::from(7)) {
            of_seven.push(document.id);
        }
    }
    assert_eq!(of_seven.len(), 30);
    let seven = || db.query("c").filter(|f| f.eq("x", 7));
    assert_eq!(ids_of(seven().matching(only)), of_seven);
    of_seven.reverse();
    assert_eq!(
        ids_of(seven().order_by("id", false).limit(2)),
        of_seven[..2]
    );
}

fn ids_of(query: aurora::Query<'_>) -> Vec<DocumentId> {
    let rows = query.collect().wait().unwrap();
    rows.into_iter().map(|row| row.id).collect()
}

/// A count that an index gives was once computed with a share of all documents, and rounded up: 7 of
/// 41 were 8.
#[test]
fn a_count_from_an_index_is_exact_for_each_share_of_the_documents() {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::new().field(Field::new("n", FieldType::Int).indexed());
    db.new_collection("c", schema).unwrap();
    for all in 1..=50i64 {
        let fields = Object::from([("n", Value::Int(all))]);
        db.collection("c").unwrap().insert_fields(fields).unwrap();
        for some in 0..=all {
            let query = db.query("c").filter(move |f| f.between("n", 1, some));
            let counted = query.count().wait().unwrap();
            assert_eq!(counted, some as u64, "{some} of {all}");
        }
    }
}

/// A count that an index gives was once left to a scan, wherever the scan was the cheapest way to the rows.
#[test]
fn a_count_from_an_index_looks_at_no_document() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let db = numbers(3_000);
    let asked = AtomicU64::new(0);
    let counted = |low: i64, limit: Option<u64>, order: &[&str]| {
        asked.store(0, Ordering::Relaxed);
        let mut query = db.query("numbers").filter(|f| {
            asked.fetch_add(1, Ordering::Relaxed);
            f.gte("n", low)
        });
        for field in order {
            query = query.order_by(*field, false);
        }
        if let Some(limit) = limit {
            query = query.offset(7).limit(limit);
        }
        let count = query.count().wait().unwrap();
        (count, asked.load(Ordering::Relaxed))
    };
    for share in [1, 2, 3, 4, 10, 100] {
        let rows = 3_000 / share;
        let low = 3_000 - rows;
        for order in [&[][..], &["n"], &["text", "n"]] {
            let (count, asked) = counted(low, None, order);
            assert_eq!(count, rows as u64);
            // To plan it takes a few made-up answers.
            assert!(asked < 10, "1/{share}: asked {asked} times");
            for limit in [0, 5, 3_000] {
                let (count, asked) = counted(low, Some(limit), order);
                assert_eq!(count, limit.min(rows as u64 - 7));
                assert!(asked < 10, "1/{share}, limit {limit}: asked {asked} times");
            }
        }
    }
}

#[test]
fn elements_of_arrays_and_parts_of_strings_are_found_together() {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::new().field(Field::new("tags", FieldType::String).indexed());
    db.new_collection("c", schema).unwrap();
    let documents = (0..5000).map(|n| {
        let array = |tag: &str| Value::Array(vec!["other".into(), tag.into()]);
        let tags = match n {
            _ if n % 1000 == 1 => array("fantasy"),
            _ if n % 1000 == 2 => Value::from("of fantasy and more"),
            _ if n % 1000 == 3 => Value::from("other"),
            _ => array(&format!("tag {n}")),
        };
        Object::from([("tags", tags)])
    });
    db.collection("c").unwrap().insert_many(documents).unwrap();
    let fantasy = || db.query("c").filter(|f| f.contains("tags", "fantasy"));
    let plan = fantasy().explain().wait().unwrap();
    // Five arrays, and ten strings that have to be looked at.
    assert_eq!((plan.rows, plan.examined), (10, 15), "{plan}");
    assert_eq!(plan.indexes(), ["tags"]);
    assert_eq!(fantasy().count().wait().unwrap(), 10);
    let exact = db.query("c").filter(|f| f.contains("tags", "tag 77"));
    assert_eq!(exact.count().wait().unwrap(), 1);
}

#[test]
fn updates_and_deletes_of_what_is_found() {
    let db = numbers(100);
    let up = db
        .query("numbers")
        .filter(|f| f.lt("n", 10))
        .update(Patch::new().inc("n", 1000));
    assert_eq!(up.wait().unwrap(), 10);
    let moved = db.query("numbers").filter(|f| f.gte("n", 1000)).count();
    assert_eq!(moved.wait().unwrap(), 10);
    let gone = db.query("numbers").filter(|f| f.eq("even", false)).delete();
    assert_eq!(gone.wait().unwrap(), 50);
    assert_eq!(db.collection("numbers").unwrap().len().unwrap(), 50);
    db.check().unwrap();
    // Within a transaction, its own changes are seen.
    db.write(|tx| {
        let deleted = db
            .query("numbers")
            .filter(|f| f.eq("n", 20))
            .delete_in(tx)?;
        assert_eq!(deleted, 1);
        assert!(
            db.query("numbers")
                .filter(|f| f.eq("n", 20))
                .collect_in(tx)?
                .is_empty()
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_transaction_answers_with_its_own_changes() {
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Number {
        n: i64,
    }
    let db = numbers(10);
    let small = || db.query("numbers").filter(|f| f.lt("n", 10));
    let bump = Patch::new().inc("n", 100);
    db.write(|tx| {
        let new = Object::of(&Number { n: -7 })?;
        let id = tx.collection("numbers")?.upsert(new)?;
        assert_eq!(small().count_in(tx)?, 11);
        let first = small().order_by("n", true).first_in(tx)?.unwrap();
        assert_eq!(first.get("n"), Some(&Value::Int(-7)));
        let lowest = small().order_by("n", true).limit(2);
        let lowest: Vec<Number> = lowest.collect_as_in(tx)?;
        assert_eq!(lowest, [Number { n: -7 }, Number { n: 0 }]);
        // A patch is lent or given away.
        let mut collection = tx.collection("numbers")?;
        collection.update(id.value().clone(), &bump)?;
        collection.update(id.value().clone(), bump.clone())?;
        let found: Option<Number> = collection.get_as(id.value().clone())?;
        assert_eq!(found, Some(Number { n: 193 }));
        assert_eq!(small().limit(3).count_in(tx)?, 3);
        assert_eq!(small().order_by("text", true).offset(4).count_in(tx)?, 6);
        assert_eq!(small().limit(0).first_in(tx)?, None);
        let third = small().order_by("n", true).offset(2).first_in(tx)?.unwrap();
        assert_eq!(third.get("n"), Some(&Value::Int(2)));
        assert_eq!(small().update_in(tx, &bump)?, 10);
        assert_eq!(small().first_in(tx)?, None);
        Ok(())
    })
    .unwrap();
    let snapshot = db.begin_read().unwrap();
    let view = snapshot.collection("numbers").unwrap();
    assert_eq!(view.name(), "numbers");
    let collection = db.collection("numbers").unwrap();
    assert_eq!(view.schema(), collection.schema().unwrap());
    assert_eq!(view.indexes(), collection.indexes().unwrap());
    let id = snapshot.query("numbers").filter(|f| f.eq("n", 193));
    let id = id.first().wait().unwrap().unwrap().id;
    let found: Option<Number> = view.get_as(id.value().clone()).unwrap();
    assert_eq!(found, Some(Number { n: 193 }));
    let rows = snapshot.query("numbers").collect().wait().unwrap();
    let ids: std::collections::HashSet<_> = rows.iter().map(|row| row.id.clone()).collect();
    assert_eq!(ids.len(), 11);
    let equal = |id: Value| std::collections::HashSet::from([DocumentId::new("c", id)]);
    assert_eq!(equal(Value::Int(2)), equal(Value::Float(2.0)));
    assert_eq!(equal(Value::Int(0)), equal(Value::Float(-0.0)));
    assert_ne!(equal(Value::Int(i64::MAX)), equal(Value::Int(i64::MAX - 1)));
    assert!(ids.contains(&id));
}

#[test]
fn unique_values_are_moved_on_in_the_order_of_the_query() {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::new().field(Field::new("n", FieldType::Int).unique());
    db.new_collection("c", schema).unwrap();
    let numbers = (0..10i64).map(|n| Object::from([("n", n)]));
    db.collection("c").unwrap().insert_many(numbers).unwrap();
    let up = || Patch::new().inc("n", 1);
    let refused = db.query("c").order_by("n", true).update(up()).wait();
    assert!(matches!(refused, Err(aurora::Error::Duplicate { .. })));
    let moved = db.query("c").order_by("n", false).update(up()).wait();
    assert_eq!(moved.unwrap(), 10);
    let sum = db.query("c").aggregate().sum("n").collect().wait().unwrap();
    assert_eq!(sum[0].results, [Value::Int(55)]);
    db.check().unwrap();
}

/// They were answered with the transaction's documents.
#[test]
fn a_query_of_another_database_or_of_a_snapshot_is_refused_in_a_transaction() {
    let (db, other) = (numbers(10), numbers(20));
    let snapshot = db.begin_read().unwrap();
    let mut tx = db.begin_write().unwrap();
    for query in [other.query("numbers"), snapshot.query("numbers")] {
        let query = || query.clone();
        let found = [
            query().collect_in(&tx).map(|rows| rows.len() as u64),
            query().count_in(&tx),
            query().first_in(&tx).map(|_| 1),
            query().aggregate().collect_in(&tx).map(|_| 1),
            query().update_in(&mut tx, Patch::new().inc("n", 1)),
            query().delete_in(&mut tx),
        ];
        for found in found {
            let error = found.unwrap_err();
            assert!(matches!(error, aurora::Error::BadQuery { .. }), "{error}");
        }
    }
    // A handle that promises something else is one of the same database.
    let buffered = db.with_durability(aurora::Durability::Buffered);
    assert_eq!(buffered.query("numbers").count_in(&tx).unwrap(), 10);
}

/// A function that is handed a transaction had no way to ask it anything.
#[test]
fn a_transaction_makes_queries_that_it_alone_answers() {
    let (db, other) = (numbers(10), numbers(20));
    let mut tx = db.begin_write().unwrap();
    let new = tx.collection("numbers").unwrap().insert_fields([("n", 77)]);
    new.unwrap();
    let of_collection = tx.collection("numbers").unwrap().query();
    for query in [tx.query("numbers"), of_collection] {
        let great = || query.clone().filter(|f| f.gte("n", 5));
        assert_eq!(great().collect_in(&tx).unwrap().len(), 6);
        assert_eq!(great().count_in(&tx).unwrap(), 6);
        let first = great().order_by("n", false).first_in(&tx).unwrap();
        assert_eq!(first.unwrap().get("n"), Some(&Value::Int(77)));
        let sum = great().aggregate().sum("n").collect_in(&tx).unwrap();
        assert_eq!(sum[0].results, [Value::Int(112)]);
        assert_eq!(great().update_in(&mut tx, Patch::new()).unwrap(), 6);
        // What runs by itself cannot see what is not committed, and says how to ask.
        let alone = [
            great().collect().wait().map(|rows| rows.len() as u64),
            great().count().wait(),
            great().page(5).wait().map(|_| 1),
            great().rows().map(|_| 1),
            great().explain().wait().map(|_| 1),
            great().aggregate().count().collect().wait().map(|_| 1),
            great().update(Patch::new()).wait(),
            great().delete().wait(),
        ];
        for found in alone {
            let error = found.unwrap_err();
            assert!(error.to_string().contains("`collect_in`"), "{error}");
        }
        let of_other = other.begin_write().unwrap();
        let refused = great().count_in(&of_other);
        assert!(matches!(refused, Err(aurora::Error::BadQuery { .. })));
    }
    let last = tx.query("numbers").filter(|f| f.eq("n", 77));
    assert_eq!(last.clone().delete_in(&mut tx).unwrap(), 1);
    tx.commit().unwrap();
    // A later transaction answers it, too; and it does not keep the database open.
    let later = db.begin_write().unwrap();
    assert_eq!(last.count_in(&later).unwrap(), 0);
    let kept = later.query("numbers");
    drop(later);
    db.close().unwrap();
    assert!(matches!(
        kept.count_in(&other.begin_write().unwrap()),
        Err(aurora::Error::BadQuery { .. })
    ));
}

/// Pages, rows one by one and explanations were to be had outside of a transaction only.
#[test]
fn a_transaction_gives_pages_and_rows_and_explains() {
    let (db, other) = (numbers(300), numbers(10));
    let snapshot = db.begin_read().unwrap();
    let mut tx = db.begin_write().unwrap();
    let mut collection = tx.collection("numbers").unwrap();
    let new = (0..200).map(|n| [("n", n * 2 - 100)]);
    collection.insert_many(new).unwrap();
    let gone = db.query("numbers").filter(|f| f.gte("n", 250));
    assert_eq!(gone.delete_in(&mut tx).unwrap(), 75); // 25 of them are new
    let numbers_of = |rows: &[aurora::Document]| -> Vec<i64> {
        let numbers = rows.iter().map(|row| row.get("n").and_then(Value::as_int));
        numbers.map(|n| n.unwrap()).collect()
    };
    for query in [db.query("numbers"), tx.query("numbers")] {
        for (field, ascending) in [("n", true), ("n", false), ("text", true), ("id", false)] {
            let query = || {
                let query = query.clone().filter(|f| f.gt("n", -50) && f.exists("n"));
                query.order_by(field, ascending)
            };
            let all = query().collect_in(&tx).unwrap();
            assert_eq!(all.len(), 399, "{field}");
            let mut paged = Vec::new();
            let mut after = None;
            loop {
                let page = match after.take() {
                    Some(cursor) => query().after(cursor).page_in(&tx, 100),
                    None => query().page_in(&tx, 100),
                };
                let page = page.unwrap();
                paged.extend(page.documents);
                let Some(next) = page.next else { break };
                after = Some(next.to_string().parse().unwrap());
            }
            assert_eq!(paged, all, "{field}");
            let rows = query().rows_in(&tx).unwrap();
            let rows: Vec<_> = rows.map(|row| row.unwrap()).collect();
            assert_eq!(rows, all, "{field}");
            let some = query().select(["n"]).offset(7).limit(90);
            let some: Vec<_> = some.rows_in(&tx).unwrap().map(|row| row.unwrap()).collect();
            assert_eq!(numbers_of(&some), numbers_of(&all[7..97]));
            assert_eq!(query().explain_in(&tx).unwrap().rows, 399);
            assert_eq!(query().count_in(&tx).unwrap(), 399);
        }
        let range = || query.clone().filter(|f| f.gte("n", 200));
        let plan = range().explain_in(&tx).unwrap();
        assert_eq!((plan.rows, plan.indexes()), (75, vec!["n"]), "{plan}");
        assert!(!plan.is_scan());
        for (offset, limit, rows) in [(0, 500, 75), (10, 500, 65), (10, 20, 20), (80, 5, 0)] {
            let part = range().order_by("text", true).offset(offset).limit(limit);
            assert_eq!(part.count_in(&tx).unwrap(), rows);
        }
        let grouped = range().group_by("evne").count().explain_in(&tx).unwrap();
        assert_eq!(grouped.unknown_fields().collect::<Vec<_>>(), ["evne"]);
    }
    // Outside nothing of it is seen, and others are refused.
    assert_eq!(
        db.query("numbers")
            .page(1000)
            .wait()
            .unwrap()
            .documents
            .len(),
        300
    );
    for query in [other.query("numbers"), snapshot.query("numbers")] {
        let found = [
            query.clone().page_in(&tx, 5).map(|_| 1),
            query.clone().rows_in(&tx).map(|_| 1),
            query.clone().explain_in(&tx).map(|_| 1),
            query.clone().aggregate().explain_in(&tx).map(|_| 1),
        ];
        for found in found {
            let error = found.unwrap_err();
            assert!(matches!(error, aurora::Error::BadQuery { .. }), "{error}");
        }
    }
}

#[test]
fn a_transaction_groups_and_describes_what_it_has_changed() {
    let db = numbers(10);
    let by_even = || db.query("numbers").group_by("even").count().sum("n");
    let mut tx = db.begin_write().unwrap();
    let mut collection = tx.collection("numbers").unwrap();
    collection.create_index(Index::on(["text"])).unwrap();
    let (schema, version) = collection.schema();
    assert_eq!(collection.indexes().last().unwrap().index.name(), "text");
    collection.insert_fields([("n", 100)]).unwrap();
    let results = |groups: Vec<aurora::Group>| -> Vec<(Value, Vec<Value>)> {
        { groups.into_iter() }
            .map(|group| (group.key, group.results))
            .collect()
    };
    let expected = |key: Value, rows: i64, sum: i64| (key, vec![rows.into(), sum.into()]);
    assert_eq!(
        results(by_even().collect_in(&tx).unwrap()),
        [
            expected(Value::Null, 1, 100),
            expected(false.into(), 5, 25),
            expected(true.into(), 5, 20)
        ]
    );
    assert_eq!(results(by_even().collect().wait().unwrap()).len(), 2);
    let none = db.query("numbers").filter(|f| f.eq("n", -1)).aggregate();
    let none = none.count().collect_in(&tx).unwrap();
    assert_eq!(results(none), [(Value::Null, vec![0.into()])]);

    tx.new_collection("more", Schema::schemaless()).unwrap();
    assert_eq!(tx.collections().unwrap(), ["more", "numbers"]);
    assert_eq!(db.collections().unwrap(), ["numbers"]);
    // Another schema, as a part of the transaction; one that does not fit, undone.
    let strict = |kind| Schema::new().field(Field::new("n", kind));
    let before = tx.savepoint().unwrap();
    let refused = tx.alter_collection("numbers", strict(FieldType::Int));
    assert!(matches!(refused, Err(aurora::Error::UnknownField { .. })));
    let mut collection = tx.collection("numbers").unwrap();
    let failed = collection.insert_fields([("n", 1)]);
    assert!(matches!(failed, Err(aurora::Error::TransactionFailed)));
    tx.roll_back_to(&before).unwrap();
    assert_eq!(
        tx.collection("numbers").unwrap().schema(),
        (schema.clone(), version)
    );
    let wider = schema.field(Field::new("new", FieldType::Int).default(7));
    tx.alter_collection("numbers", wider).unwrap();
    let found = db.query("numbers").filter(|f| f.eq("new", 7));
    assert_eq!(found.count_in(&tx).unwrap(), 11);
    tx.commit().unwrap();
    assert_eq!(
        db.collection("numbers").unwrap().indexes().unwrap().len(),
        4
    );
    db.check().unwrap();
}

#[test]
fn a_snapshot_keeps_its_answers() {
    let db = numbers(100);
    let before = db.begin_read().unwrap();
    db.query("numbers")
        .filter(|f| f.lt("n", 50))
        .delete()
        .wait()
        .unwrap();
    let count = |query: aurora::Query<'_>| query.filter(|f| f.lt("n", 60)).count().wait().unwrap();
    assert_eq!(count(before.query("numbers")), 60);
    assert_eq!(count(db.query("numbers")), 10);
    db.drop_index("numbers", "n").wait().unwrap();
    db.delete_collection("numbers").wait().unwrap();
    assert_eq!(count(before.query("numbers")), 60);
    assert!(db.query("numbers").count().wait().unwrap_err().is_misuse());
}

/// Deeper than any document, and than any stack.
#[test]
fn a_path_without_end_is_nowhere() {
    let db = numbers(10);
    let path = "a.".repeat(1_000_000) + "a";
    let count = |filter: Filter| db.query("numbers").matching(filter).count().wait();
    assert_eq!(count(Filter::eq(&path, 1)).unwrap(), 0);
    let update = db.query("numbers").update(Patch::new().set(&path, 1));
    assert!(update.wait().unwrap_err().is_misuse());
    let schema = Schema::new().field(Field::new(&path, FieldType::Int).indexed());
    assert!(db.new_collection("deep", schema).is_err() || db.collection("deep").is_ok());
}

#[test]
fn groups_and_aggregates() {
    let db = numbers(10);
    let groups = db
        .query("numbers")
        .group_by("even")
        .count()
        .sum("n")
        .avg("n")
        .min("n")
        .max("text");
    let groups = groups.collect().wait().unwrap();
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[1].key, Value::from(true));
    let expected: [Value; 5] = [5.into(), 20.into(), 4.0.into(), 0.into(), "number 8".into()];
    assert_eq!(groups[1].results, expected);
    let whole = db
        .query("numbers")
        .filter(|f| f.gt("n", 100))
        .aggregate()
        .count()
        .avg("n");
    assert_eq!(
        whole.collect().wait().unwrap()[0].results,
        [Value::from(0), Value::Null]
    );
}

#[test]
fn what_cannot_be_asked_is_an_error() {
    let db = numbers(3);
    let bad = db.query("numbers").filter(|f| f.matches("text", "("));
    assert!(matches!(
        bad.collect().wait(),
        Err(aurora::Error::BadQuery { .. })
    ));
    let bad = db.query("numbers").matching(Filter::matches("text", "("));
    assert!(matches!(
        bad.count().wait(),
        Err(aurora::Error::BadQuery { .. })
    ));
    let page = db
        .query("numbers")
        .order_by("n", true)
        .page(1)
        .wait()
        .unwrap();
    let other = db
        .query("numbers")
        .order_by("n", false)
        .after(page.next.unwrap());
    assert!(matches!(
        other.collect().wait(),
        Err(aurora::Error::BadQuery { .. })
    ));
}

/// Any range is taken by both forms of a filter, and an empty one finds nothing.
#[test]
fn lengths_are_asked_for_with_any_range() {
    use std::ops::Bound::{Excluded, Unbounded};
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    for n in 0..5usize {
        let list = Value::from_iter(vec![7; n]);
        db.insert_into("c", [("list", list)]).unwrap();
    }
    macro_rules! check {
        ($range:expr, $rows:expr) => {
            let rows = db.query("c").filter(|f| f.length("list", $range)).count();
            assert_eq!(rows.wait().unwrap(), $rows);
            let filter = Filter::length("list", $range);
            let rows = db.query("c").matching(filter.clone()).count().wait();
            assert_eq!(rows.unwrap(), $rows);
            let others = db.query("c").matching(filter.not()).count().wait();
            assert_eq!(others.unwrap(), 5 - $rows);
        };
    }
    check!(.., 5);
    check!(2.., 3);
    check!(..2, 2);
    check!(..=2, 3);
    check!(1..3, 2);
    check!(1..=3, 3);
    check!((Excluded(1), Unbounded), 3);
    check!(..0, 0);
    check!(2..2, 0);
    check!(u64::MAX.., 0);
    check!((Excluded(u64::MAX), Unbounded), 0);
    check!(4..=u64::MAX, 1);
}

/// It is missing, and nothing said that another one was meant.
#[test]
fn a_field_that_no_document_can_have_is_told_with_the_one_that_is_meant() {
    let schema = || {
        Schema::new()
            .field(Field::new("name", FieldType::String))
            .field(Field::new("address.city", FieldType::String))
            .field(Field::new("more", FieldType::Object))
    };
    let db = Aurora::in_memory().unwrap();
    db.new_collection("people", schema()).unwrap();
    db.insert_into("people", [("name", "x")]).unwrap();
    let ask = || db.query("people");
    let told = |query: aurora::Query<'_>, field: &str, says: &str| {
        let plan = query.explain().wait().unwrap();
        assert!(plan.unknown_fields().eq([field]), "{plan}");
        let text = plan.to_string();
        assert!(text.contains(says) && text.contains(field), "{text}");
    };
    let meant = "is \"name\" meant?";
    told(ask().filter(|f| f.eq("naem", "x")), "naem", meant);
    let second = ask().filter(|f| f.eq("name", "x") && (f.eq("name", "y") || f.exists("naem")));
    told(second, "naem", meant);
    told(ask().matching(Filter::eq("naem", "x").not()), "naem", meant);
    told(
        ask().order_by("name", true).order_by("naem", true),
        "naem",
        meant,
    );
    told(ask().select(["name", "naem"]), "naem", meant);
    told(ask().filter(|f| f.eq("Name", "x")), "Name", meant);
    let city = ask().filter(|f| f.eq("adress.city", "x"));
    told(city, "adress.city", "is \"address.city\" meant?");
    told(ask().filter(|f| f.eq("price", 5)), "price", "strict(false)");
    told(ask().filter(|f| f.eq("name.x", 5)), "name.x", meant);
    // Of groups, and of what is worked out for them.
    let grouped = [
        ask().group_by("naem").count(),
        ask().group_by("name").sum("naem").count(),
        ask().select(["name"]).aggregate().max("naem"),
    ];
    for grouped in grouped {
        let plan = grouped.explain().wait().unwrap();
        assert!(plan.unknown_fields().eq(["naem"]), "{plan}");
    }
    let fine = ask().group_by("name").avg("id").count().explain();
    assert_eq!(fine.wait().unwrap().unknown_fields().count(), 0);

    // What a document can have.
    let quiet = |query: aurora::Query<'_>| {
        let plan = query.explain().wait().unwrap();
        assert_eq!(plan.unknown_fields().count(), 0, "{plan}");
        assert!(!plan.to_string().contains("no document"), "{plan}");
    };
    let fine = ask().filter(|f| !f.exists("address.zip") && f.is_null("more.x.y") && f.ne("id", 7));
    quiet(fine.order_by("address", true).order_by("id", false));
    db.new_collection("loose", schema().strict(false)).unwrap();
    quiet(
        db.query("loose")
            .filter(|f| f.eq("naem", "x"))
            .order_by("oder", true),
    );
}

/// An index has the order of long values only as far as it has the values: rows behind that are put in order when they are
/// met. All of them were in memory for that, whatever the limit.
#[cfg(target_os = "linux")]
#[test]
fn the_first_of_many_long_values_are_found_in_little_memory() {
    use std::sync::atomic::{AtomicU64, Ordering};

    if !memory::is_alone("the_first_of_many_long_values_are_found_in_little_memory") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let builder = Aurora::builder().memory_limit(8 << 20);
    let builder = builder.durability(aurora::Durability::Buffered);
    let db = builder.open(directory.path().join("db")).unwrap();
    let schema = Schema::schemaless().index(Index::on(["a"]));
    db.new_collection("c", schema).unwrap();
    let (same, body) = ("x".repeat(600), "y".repeat(3000));
    let count = 20_000i64;
    for few in 0..20 {
        let documents = (0..count / 20).map(|i| {
            let n = (few * 1000 + i) * 7919 % count;
            [
                ("id", Value::from(n)),
                ("a", format!("{same}{n:06}").into()),
                ("body", body.as_str().into()),
            ]
        });
        db.collection("c").unwrap().insert_many(documents).unwrap();
    }
    for (ascending, offset) in [(true, 0), (false, 0), (true, 300)] {
        let before = memory::memory_kib();
        let (most, looks) = (AtomicU64::new(0), AtomicU64::new(0));
        let query = db.query("c").filter(|f| {
            let look = looks.fetch_add(1, Ordering::Relaxed);
            if look < 10 || look % 500 == 0 {
                most.fetch_max(memory::memory_kib(), Ordering::Relaxed);
            }
            f.ends_with("body", "y")
        });
        let query = query.order_by("a", ascending).offset(offset).limit(2);
        let found = ids(&query.collect().wait().unwrap());
        let first = if ascending { offset as i64 } else { count - 1 };
        let second = if ascending { first + 1 } else { first - 1 };
        assert_eq!(found, [first, second]);
        let took = most.into_inner().saturating_sub(before);
        assert!(took < 20 << 10, "{took} KiB for two rows");
    }
}

/// The text of an order put commas between its fields, and names may have some: a cursor of one order was taken for that of
/// another, and its values for those of other fields.
#[test]
fn a_cursor_of_an_order_is_none_of_another_whatever_the_names() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    for n in 0..4i64 {
        let fields = [("a", n), ("b", -n), ("a,+b", n), ("a\\", n), ("b,+a\\", n)];
        db.insert_into("c", fields).unwrap();
    }
    let orders: [&[&str]; 6] = [
        &["a", "b"],
        &["a,+b"],
        &["a\\", "b"],
        &["a\\,+b"],
        &["b", "a\\"],
        &["b,+a\\"],
    ];
    let ordered = |order: &[&str]| {
        let query = db.query("c");
        order
            .iter()
            .fold(query, |query, field| query.order_by(*field, true))
    };
    for (i, order) in orders.iter().enumerate() {
        let first = ordered(order).page(3).wait().unwrap();
        let cursor: Cursor = first.next.unwrap().to_string().parse().unwrap();
        for (j, other) in orders.iter().enumerate() {
            let rest = ordered(other).after(cursor.clone()).collect().wait();
            match rest {
                Ok(rest) => assert_eq!((i, rest.len()), (j, 1)),
                Err(error) => assert!(i != j && error.is_misuse(), "{order:?} {other:?}: {error}"),
            }
        }
    }
    // What was handed out before is taken back.
    let page = ordered(orders[0]).page(1).wait().unwrap();
    assert!(page.next.unwrap().to_string().starts_with("2b612c2b62."));
}

/// A condition on the id was never met: it looks at what is stored as the field `id`, which a document may lack. Where the
/// schema says that none does, it is used.
#[test]
fn a_condition_on_the_id_is_used_where_every_document_has_it_stored() {
    let db = Aurora::in_memory().unwrap();
    let index = || Index::on(["n"]).named("late").only(Filter::gte("id", 50));
    let id = || Field::new("id", FieldType::Int);
    let n = || Field::new("n", FieldType::Int);
    let schema = || {
        Schema::new()
            .field(id().required())
            .field(n())
            .index(index())
    };
    db.new_collection("c", schema()).unwrap();
    let all = (0..100i64).map(|n| Object::from([("id", n), ("n", n % 10)]));
    db.collection("c").unwrap().insert_many(all).unwrap();
    db.insert_into("c", [("n", 3)]).unwrap();
    let found = |low: i64| {
        let query = db
            .query("c")
            .filter(move |f| f.gte("id", low) && f.eq("n", 3));
        (ids_of(query.clone()).len(), query.explain().wait().unwrap())
    };
    let (rows, explained) = found(60);
    assert_eq!(
        (rows, explained.indexes()),
        (5, vec!["late"]),
        "{explained}"
    );
    let (rows, explained) = found(40);
    assert_eq!((rows, explained.indexes()), (7, vec![]), "{explained}");
    db.check().unwrap();

    // Elsewhere there may be documents that it does not have.
    for id in [None, Some(id())] {
        let schema = Schema::schemaless().field(n()).index(index());
        let schema = id.into_iter().fold(schema, Schema::field);
        db.new_collection("d", schema).unwrap();
        let all = (0..100i64).map(|n| Object::from([("id", n), ("n", n % 10)]));
        db.collection("d").unwrap().insert_many(all).unwrap();
        let query = db.query("d").filter(|f| f.gte("id", 60) && f.eq("n", 3));
        assert_eq!(ids_of(query.clone()).len(), 4);
        assert!(query.explain().wait().unwrap().indexes().is_empty());
        db.check().unwrap();
        db.delete_collection("d").wait().unwrap();
    }
    // A field that no document can have, as in the fields of the index.
    let slip = Index::on(["n"])
        .named("slip")
        .only(Filter::eq("opne", true).not());
    let refused = db.create_index("c", slip).wait().unwrap_err().to_string();
    assert!(refused.contains("\"opne\" in the condition"), "{refused}");
}
