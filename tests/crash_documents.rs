//! Keys that expire, documents with indexes, and blobs, cut at every operation of the disk: after
//! each crash all of them are as after one of the steps, every acknowledged step is among those
//! before, and everything that belongs together agrees.

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aurora::storage::{SimCrash, SimDisk, Storage};
use aurora::{
    Aurora, Clock, DataInfo, Field, FieldType, Index, Object, Patch, Result, Schema, Timestamp,
    Value,
};
use common::budget;

#[derive(Debug, Default)]
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn open(storage: Arc<dyn Storage>, clock: Arc<SetClock>) -> Result<Aurora> {
    let builder = Aurora::builder().background(false).clock(clock).salt(1);
    builder.memory_limit(1 << 20).open_storage(storage)
}

fn schema() -> Schema {
    Schema::new()
        .field(Field::new("id", FieldType::Int))
        .field(Field::new("name", FieldType::String).unique())
        .field(Field::new("n", FieldType::Int).indexed())
        .field(Field::new("tags", FieldType::String).indexed())
        .field(Field::new("seen", FieldType::DateTime))
        .expires_after("seen", Duration::from_secs(100))
}

fn person(id: i64) -> Object {
    let tags = (0..id % 4).map(|tag| Value::from(format!("tag {tag}")));
    Object::from([
        ("id", Value::from(id)),
        (
            "name",
            format!("name {id} {}", "x".repeat(id as usize * 40)).into(),
        ),
        ("n", (id % 5).into()),
        ("tags", Value::Array(tags.collect())),
        ("seen", Timestamp::from_second(id * 10).unwrap().into()),
    ])
}

fn content(seed: u64, length: usize) -> Vec<u8> {
    common::Random(seed).bytes(length)
}

/// Every one is one step for whoever looks at the database.
const STEPS: usize = 17;

fn step(db: &Aurora, clock: &SetClock, number: usize) -> Result<()> {
    let people = || db.collection("people");
    match number {
        0 => db.put("key", "value", None),
        1 => db.new_collection("people", schema()),
        2 => people()?.insert_many((0..30).map(person)).map(|_| ()),
        3 => db.put("short", "life", Some(Duration::from_secs(5))),
        4 => db
            .put_blob_from("blob", &content(4, 700_000)[..])
            .map(|_| ()),
        5 => people()?.update(7, Patch::new().inc("n", 100).push("tags", "new")),
        6 => db.create_index("people", Index::on(["n", "name"])).wait(),
        7 => db.append_blob("blob", &content(7, 90_000)[..]).map(|_| ()),
        8 => db
            .query("people")
            .filter(|f| f.eq("n", 3))
            .delete()
            .wait()
            .map(|_| ()),
        9 => db.checkpoint(),
        10 => {
            // Time is not the database's to undo.
            clock.0.store(190_000, Ordering::Relaxed);
            db.sweep(100).map(|_| ())
        }
        11 => db.write(|tx| {
            tx.put("key", "in one", None)?;
            tx.collection("people")?.upsert(person(40))?;
            tx.collection("people")?.delete(29)?;
            tx.put_blob_from("small", &content(11, 100)[..])?;
            tx.tree("tree")?.put("a", "b").map(|_| ())
        }),
        12 => db
            .put_blob_from("blob", &content(12, 300_000)[..])
            .map(|_| ()),
        13 => db.drop_index("people", "n").wait(),
        14 => db.delete("blob").wait().map(|_| ()),
        15 => db.compact().map(|_| ()),
        _ => db.delete_collection("people").wait(),
    }
}

/// All that a user can see, as text.
type State = BTreeMap<String, String>;

fn state_of(db: &Aurora) -> State {
    let mut state = State::new();
    for (key, info) in db.get_data_by_pattern("").unwrap() {
        let seen = match info {
            DataInfo::Blob { size } => {
                let mut bytes = Vec::new();
                let mut blob = db.get_blob(&key).unwrap().unwrap();
                blob.read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes.len() as u64, size);
                format!("blob {:x}", crc32c(&bytes))
            }
            _ => format!("{:?} {:?}", db.get(&key).unwrap(), db.ttl(&key).unwrap()),
        };
        state.insert(format!("key {key}"), seen);
    }
    for name in db.collections().unwrap() {
        let collection = db.collection(&name).unwrap();
        let ready = collection
            .indexes()
            .unwrap()
            .into_iter()
            .filter(|index| index.is_ready);
        let ready: Vec<String> = ready.map(|index| index.index.name()).collect();
        state.insert(format!("collection {name}"), ready.join(" "));
        for document in collection.query().collect().wait().unwrap() {
            state.insert(format!("{name} {}", document.id), document.to_string());
        }
        for index in ready {
            let order = index.split(',').next().unwrap();
            let ordered = collection
                .query()
                .order_by(order, true)
                .count()
                .wait()
                .unwrap();
            assert_eq!(ordered, collection.query().count().wait().unwrap());
        }
    }
    for name in db.tree_names().unwrap() {
        let length = db.tree(&name).unwrap().len().unwrap();
        state.insert(format!("tree {name}"), length.to_string());
    }
    state
}

/// A number that stands for bytes (FNV-1a).
fn crc32c(bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325u64;
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// The states after each step, with nothing in the way.
fn states() -> Vec<State> {
    let clock = Arc::new(SetClock::default());
    let db = open(SimDisk::new(1).storage(), clock.clone()).unwrap();
    let mut states = vec![state_of(&db)];
    for number in 0..STEPS {
        step(&db, &clock, number).unwrap();
        db.check().unwrap();
        states.push(state_of(&db));
    }
    states
}

fn variants(seed: u64) -> Vec<SimCrash> {
    vec![
        SimCrash::LoseAll,
        SimCrash::KeepAll,
        SimCrash::Random { seed },
        SimCrash::Sectors { seed },
        SimCrash::Bytes { seed },
    ]
}

fn verify(image: &SimDisk, clock: &Arc<SetClock>, states: &[State], done: usize, what: &str) {
    let db = open(image.storage(), clock.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    db.check().unwrap_or_else(|error| panic!("{what}: {error}"));
    let state = state_of(&db);
    // The step in which the time changed is seen by every reader from then on.
    let possible = &states[done..states.len().min(done + 2)];
    assert!(
        possible.contains(&state),
        "{what}: after {done} steps:\n{state:#?}\n{possible:#?}"
    );
    // Work goes on.
    db.put("after", "all", None).unwrap();
    db.new_collection("after", schema()).unwrap();
    db.collection("after")
        .unwrap()
        .insert_many((20..24).map(person))
        .unwrap();
    db.put_blob_from("after blob", &[1; 50_000][..]).unwrap();
    db.check()
        .unwrap_or_else(|error| panic!("{what}, later: {error}"));
}

#[test]
fn everything_is_there_as_a_whole_after_a_crash_at_any_moment() {
    let states = states();
    // By default every few operations; with a budget, all.
    let stride = (24 / budget(1)).max(1);
    let mut cut_at = 1;
    let mut images = 0;
    loop {
        let clock = Arc::new(SetClock::default());
        let disk = SimDisk::new(cut_at);
        disk.crash_after(cut_at);
        let mut done = 0;
        if let Ok(db) = open(disk.storage(), clock.clone()) {
            while done < STEPS && step(&db, &clock, done).is_ok() {
                done += 1;
            }
        }
        if done == STEPS && !disk.has_crashed() {
            break;
        }
        for variant in variants(cut_at) {
            let what = format!("cut at {cut_at}, {variant:?}");
            // What was created half is no database yet, and is made anew.
            verify(&disk.crash_image(variant), &clock, &states, done, &what);
            images += 1;
        }
        cut_at += 1 + cut_at % stride;
    }
    println!("{images} crash images");
    assert!(images > 50, "only {images}");
}
