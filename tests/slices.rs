//! Queries go in slices, so that a task that awaits one lets others run, and hold few rows at a time: whatever they look
//! at, and however long it is.

#[cfg(target_os = "linux")]
#[path = "common/memory.rs"]
mod memory;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use aurora::{Aurora, Document, Filter, Index, Object, Query, Schema, Value, Work};

/// Awaits, and says how often others could run meanwhile.
fn polled<'a, T: Send + 'a>(work: Work<'a, T>, mut between: impl FnMut()) -> (u64, T) {
    let mut work = pin!(work);
    let mut context = Context::from_waker(Waker::noop());
    let mut polls = 0;
    loop {
        polls += 1;
        if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
            return (polls, done.unwrap());
        }
        between();
    }
}

fn ids(rows: &[Document]) -> Vec<i64> {
    let ids = rows.iter().map(|row| row.id.value().as_int().unwrap());
    ids.collect()
}

/// A collection of these values of the field `a`, which is indexed, with the ids 0, 1, 2 and so on.
fn collection<V: Into<Value>>(values: impl IntoIterator<Item = V>) -> Aurora {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::schemaless().index(Index::on(["a"]));
    db.new_collection("c", schema).unwrap();
    let documents = (0i64..)
        .zip(values)
        .map(|(id, value)| [("id", Value::from(id)), ("a", value.into())]);
    db.collection("c").unwrap().insert_many(documents).unwrap();
    db
}

/// They were all passed over in one slice, as there was no document among them.
#[test]
fn values_that_no_document_has_are_looked_for_in_slices() {
    let db = collection((0..1000).map(|n| n * 400));
    // Apart from one another, and from nearly all that is there.
    let list = (0..100_000i64).map(|n| 4 * n + 1).chain([0, 400, 800]);
    let list = Filter::is_in("a", list);
    let query = || db.query("c").matching(list.clone());
    let (polls, found) = polled(query().collect(), || ());
    assert_eq!(ids(&found), [0, 1, 2]);
    assert!(polls > 100, "{polls} slices");
    // The same in the order of the index, from either end.
    for ascending in [true, false] {
        let query = || query().order_by("a", ascending);
        assert!(!query().explain().wait().unwrap().sorts());
        let (polls, found) = polled(query().collect(), || ());
        let expected = if ascending { [0, 1, 2] } else { [2, 1, 0] };
        assert_eq!(ids(&found), expected);
        assert!(polls > 100, "{polls} slices");
    }
}

/// The index has one value for all of them, so all were put in order before anybody else could run.
#[test]
fn rows_whose_values_were_cut_to_the_same_are_put_in_order_in_slices() {
    const COUNT: i64 = 6000;
    let same = "x".repeat(600);
    let number = |id: i64| id * 7919 % COUNT;
    let db = collection((0..COUNT).map(|id| format!("{same}{:06}", number(id))));
    for ascending in [true, false] {
        let looks = AtomicU64::new(0);
        let query = db.query("c").filter(|f| {
            looks.fetch_add(1, Ordering::Relaxed);
            f.ends_with("a", "0")
        });
        let query = query.order_by("a", ascending).limit(400);
        assert!(!query.clone().explain().wait().unwrap().sorts());
        looks.store(0, Ordering::Relaxed);
        let mut most = 0;
        let (polls, found) = polled(query.collect(), || {
            most = most.max(looks.swap(0, Ordering::Relaxed));
        });
        let mut expected: Vec<i64> = (0..COUNT).filter(|id| number(*id) % 10 == 0).collect();
        expected.sort_by_key(|id| if ascending { number(*id) } else { -number(*id) });
        assert_eq!(ids(&found), expected[..400]);
        assert!(polls > 10 && most <= 1024, "{polls} slices, {most} looks");
    }
}

/// Neither do long documents make a slice long.
#[test]
fn a_slice_ends_where_documents_are_long() {
    let db = collection((0..100).map(|n| format!("{n:02}{}", "x".repeat(1 << 20))));
    let plans: [&dyn Fn(Query<'static>) -> Query<'static>; 4] = [
        &|query| query,
        &|query| query.filter(|f| f.lt("a", "3")).order_by("a", true),
        &|query| query.filter(|f| f.starts_with("a", "1") || f.starts_with("a", "3")),
        &|query| query.order_by("b", true),
    ];
    for (number, plan) in plans.iter().enumerate() {
        let count = [100, 30, 20, 100][number];
        let (polls, found) = polled(plan(db.query("c")).collect(), || ());
        assert_eq!(found.len(), count);
        assert!(polls as usize >= count / 5, "plan {number}: {polls} slices");
    }
}

/// Pieces of one query beside a plain sort, with values that are cut to the same and others, short documents and long ones
/// that end a slice in the middle of anything.
#[test]
fn slices_of_any_length_give_the_same_rows() {
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for round in 0..12 {
        let count = 20 + random(400);
        let long = if round % 2 == 0 { 300_000 } else { 100 };
        let mut rows: Vec<(String, i64, usize)> = Vec::new();
        for id in 0..count as i64 {
            let (head, tail) = (["a", "b", "c"][random(3) as usize], random(50));
            let value = match random(3) {
                0 => format!("{head}{tail:02}"),
                _ => format!("{}{tail:02}", head.repeat(600)),
            };
            let length = if random(8) == 0 { long } else { 10 };
            rows.push((value, id, length));
        }
        let db = Aurora::in_memory().unwrap();
        let schema = Schema::schemaless().index(Index::on(["a"]));
        db.new_collection("c", schema).unwrap();
        let documents = rows.iter().map(|(value, id, length)| {
            let body = "y".repeat(*length);
            Object::from([
                ("id", Value::from(*id)),
                ("a", value.as_str().into()),
                ("body", body.into()),
            ])
        });
        db.collection("c").unwrap().insert_many(documents).unwrap();
        for ascending in [true, false] {
            for head in ["", "a", "b"] {
                let mut expected: Vec<_> =
                    rows.iter().filter(|row| row.0.starts_with(head)).collect();
                expected.sort();
                if !ascending {
                    expected.reverse();
                }
                let expected: Vec<i64> = expected.iter().map(|row| row.1).collect();
                let all = || {
                    let query = db.query("c").order_by("a", ascending);
                    query.filter(move |f| f.starts_with("a", head))
                };
                assert_eq!(ids(&all().collect().wait().unwrap()), expected);
                let rows = all().rows().unwrap().map(|row| row.unwrap());
                assert_eq!(ids(&rows.collect::<Vec<_>>()), expected);
                let (offset, limit) = (random(count) as usize, 1 + random(count) as usize);
                let part = all()
                    .offset(offset as u64)
                    .limit(limit as u64)
                    .rows()
                    .unwrap();
                let part: Vec<_> = part.map(|row| row.unwrap()).collect();
                let within: Vec<i64> = expected.iter().copied().skip(offset).take(limit).collect();
                assert_eq!(ids(&part), within);
                let (mut paged, mut after) = (Vec::new(), None);
                loop {
                    let query = match after.take() {
                        Some(cursor) => all().after(cursor),
                        None => all(),
                    };
                    let page = query.page(1 + random(60)).wait().unwrap();
                    paged.extend(ids(&page.documents));
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(paged, expected);
            }
        }
    }
}

/// Sixty-four rows at a time were held, of any length.
#[cfg(target_os = "linux")]
#[test]
fn the_rows_of_a_query_and_an_export_take_little_memory_however_long_they_are() {
    if !memory::is_alone(
        "the_rows_of_a_query_and_an_export_take_little_memory_however_long_they_are",
    ) {
        return;
    }
    const COUNT: i64 = 40;
    const LENGTH: usize = 6 << 20;
    let directory = tempfile::tempdir().unwrap();
    let builder = Aurora::builder().memory_limit(8 << 20);
    let builder = builder.durability(aurora::Durability::Buffered);
    let db = builder.open(directory.path().join("db")).unwrap();
    let schema = Schema::schemaless().index(Index::on(["a"]));
    db.new_collection("c", schema).unwrap();
    for id in 0..COUNT {
        let body = "y".repeat(LENGTH);
        let fields = [
            ("id", Value::from(id)),
            ("a", (id % 4).into()),
            ("body", body.into()),
        ];
        db.insert_into("c", fields).unwrap();
    }
    db.checkpoint().unwrap();
    let before = memory::memory_kib();
    let took = || memory::memory_kib().saturating_sub(before);
    let queries = [
        db.query("c"),
        db.query("c").filter(|f| f.lt("a", 1)).order_by("a", true),
        db.query("c").filter(|f| f.eq("a", 1) || f.eq("a", 2)),
        db.query("c").filter(|f| f.eq("a", 3)),
    ];
    for (number, query) in queries.into_iter().enumerate() {
        let (mut rows, mut most) = (0, 0);
        for row in query.rows().unwrap() {
            assert_eq!(
                row.unwrap().get("body").unwrap().as_str().unwrap().len(),
                LENGTH
            );
            most = most.max(took());
            rows += 1;
        }
        assert_eq!(rows, [COUNT, COUNT / 4, COUNT / 2, COUNT / 4][number]);
        assert!(most < 60 << 10, "query {number}: {most} KiB");
    }
    struct Watched<'w>(&'w dyn Fn() -> u64, u64);
    impl std::io::Write for Watched<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1 = self.1.max((self.0)());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut to = Watched(&took, 0);
    assert_eq!(
        db.export("c").write_json_lines(&mut to).unwrap(),
        COUNT as u64
    );
    assert!(to.1 < 60 << 10, "{} KiB for an export", to.1);
}
