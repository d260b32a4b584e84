//! Databases with every feature of the format, built the same way each time: what the independent
//! reader is tried with, and what golden files were made of.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use aurora::storage::MemoryStorage;
use aurora::{
    Aurora, Builder, Field, FieldType, Filter, Index, Object, Result, Schema, Timestamp, Uuid,
    Value,
};

use super::Random;
use super::listing::Still;

/// A database to be built.
#[derive(Clone, Copy)]
pub struct Sample {
    pub name: &'static str,
    pub page_size: u32,
    /// Whether it is small, and kept as a golden file.
    pub golden: bool,
    /// Closed, or copied while it was open, with commits that are only in the log.
    pub closed: bool,
    pub build: fn(&Aurora) -> Result<()>,
}

/// All samples.
pub const SAMPLES: [Sample; 17] = [
    sample("empty", 4096, |_| Ok(())).closed().golden(),
    sample("trees", 4096, trees).closed(),
    sample("values", 4096, values).closed(),
    sample("values-16k-open", 16384, values),
    sample("keys-open", 4096, keys).golden(),
    sample("keys-16k", 16384, keys).closed(),
    sample("small-16k-open", 16384, small).golden(),
    sample("documents-open", 4096, documents),
    sample("paths", 4096, documents_before_their_schema)
        .closed()
        .golden(),
    sample("lengths", 4096, lengths).closed().golden(),
    sample("uniform", 4096, uniform).closed().golden(),
    sample("laps-open", 4096, laps).golden(),
    sample("switch-open", 4096, switch).golden(),
    sample("sets-open", 4096, sets).golden(),
    sample("everything", 4096, everything).closed().golden(),
    sample("everything-open", 4096, everything),
    sample("everything-16k-open", 16384, everything),
];

const fn sample(name: &'static str, page_size: u32, build: fn(&Aurora) -> Result<()>) -> Sample {
    Sample {
        name,
        page_size,
        golden: false,
        closed: false,
        build,
    }
}

/// How all samples are opened: the same bytes each time.
pub fn builder(page_size: u32) -> Builder {
    Aurora::builder()
        .background(false)
        .page_size(page_size)
        .salt(0x0123_4567_89ab_cdef)
        .clock(Arc::new(Still))
}

impl Sample {
    const fn closed(mut self) -> Self {
        self.closed = true;
        self
    }

    const fn golden(mut self) -> Self {
        self.golden = true;
        self
    }

    /// The bytes of its file.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let storage = MemoryStorage::new();
        // Keeps golden files small. Values above a quarter of the log commit by a checkpoint then.
        let log_limit = if self.golden { 64 << 10 } else { 512 << 10 };
        let builder = builder(self.page_size).log_limit(log_limit);
        let db = builder.open_storage(Arc::new(storage.clone()))?;
        (self.build)(&db)?;
        if self.closed {
            db.compact()?;
            db.close()?;
            return Ok(storage.to_bytes());
        }
        db.flush()?;
        Ok(storage.to_bytes())
    }
}

/// Trees of keys without values, short ones beside long ones, after a removal. Short keys that fit their slots have
/// cells of no bytes; once one of them could come to lie before all others, as in the golden file.
fn sets(db: &Aurora) -> Result<()> {
    const KEYS: [&str; 4] = ["abcde", "abcdef", "x", "y"];
    db.write(|tx| {
        for removed in KEYS {
            let mut set = tx.tree(format!("without {removed}"))?;
            for key in KEYS {
                set.put(key, "")?;
            }
            set.delete(removed)?;
        }
        Ok(())
    })?;
    // The leaves as the removals left them.
    db.checkpoint()?;
    db.write(|tx| {
        let mut set = tx.tree("with all")?;
        KEYS.iter().try_for_each(|key| set.put(key, "").map(drop))
    })
}

/// Trees of some levels, long keys, long prefixes, the empty key, deletions, savepoints, names.
fn trees(db: &Aurora) -> Result<()> {
    let mut random = Random(1);
    let longest = db.stats()?.page_size as usize / 4;
    db.write(|tx| {
        let mut numbers = tx.tree("numbers")?;
        for i in 0..600_u32 {
            numbers.put(i.to_be_bytes(), i.to_string())?;
        }
        let mut long = tx.tree("long keys")?;
        for i in 0..25_u32 {
            let mut key = vec![b'p'; longest - 5 - random.below(200) as usize];
            key.extend_from_slice(&(i % 7).to_be_bytes());
            key.push(i as u8);
            long.put(key, i.to_le_bytes())?;
        }
        long.put(vec![0xff; longest], "the longest key")?;
        let mut short = tx.tree("kurze Schlüssel")?;
        for key in [
            "", "\0", "\0\0", "a", "a\0", "ab", "abcd", "abcd\0", "abcde", "abcdef",
        ] {
            short.put(key, key.repeat(3))?;
        }
        tx.tree("empty")?;
        tx.tree("to be dropped")?.put("x", "y")?;
        tx.tree("to be renamed")?.put("x", "z")?;
        Ok(())
    })?;
    db.checkpoint()?;
    db.write(|tx| {
        let mut numbers = tx.tree("numbers")?;
        numbers.delete_range(100_u32.to_be_bytes()..300_u32.to_be_bytes())?;
        for i in (0..600_u32).step_by(3) {
            numbers.delete(i.to_be_bytes())?;
        }
        let savepoint = tx.savepoint()?;
        tx.tree("numbers")?.clear()?;
        tx.tree("never made")?.put("k", "v")?;
        tx.roll_back_to(&savepoint)?;
        tx.drop_tree("to be dropped")?;
        tx.rename_tree("to be renamed", "renamed")?;
        tx.tree("takes its number")?.put("n", "m")?;
        Ok(())
    })
}

/// Values around each limit: the third of a page, whole pages, 32 KiB.
fn values(db: &Aurora) -> Result<()> {
    let mut random = Random(2);
    let page = db.stats()?.page_size as usize;
    let inline = (page - 32) / 3 - 10 - 3;
    let mut lengths = vec![0, 1, inline - 1, inline, inline + 1, page, page + 1];
    db.write(|tx| {
        for (i, &length) in lengths.iter().enumerate() {
            tx.tree("values")?
                .put(format!("a{i:02}"), random.bytes(length))?;
        }
        Ok(())
    })?;
    db.checkpoint()?;
    lengths.extend([32_767, 32_768]);
    for (i, length) in lengths.into_iter().enumerate() {
        db.write(|tx| {
            let mut tree = tx.tree("values")?;
            tree.put(format!("b{i:02}"), random.bytes(length))?;
            tree.delete(format!("a{:02}", i * 3))?;
            Ok(())
        })?;
    }
    db.write(|tx| {
        let savepoint = tx.savepoint()?;
        tx.tree("values")?.put("c", random.bytes(33_000))?;
        tx.roll_back_to(&savepoint)?;
        tx.tree("values")?.put("c", "kept")?;
        Ok(())
    })?;
    // Written twice before a checkpoint: the log has both.
    db.tree("values")?.put("b08", random.bytes(33_000))?;
    db.tree("values")?.put("b08", "short")?;
    Ok(())
}

/// Keys that live for ever, that expire, that have expired; blobs.
fn keys(db: &Aurora) -> Result<()> {
    let mut random = Random(3);
    db.write(|tx| {
        for i in 0..80_u64 {
            let ttl = (i % 3 == 0).then(|| Duration::from_secs(i + 1));
            tx.put(format!("key:{i:03}"), random.bytes(i as usize), ttl)?;
        }
        Ok(())
    })?;
    db.put("", "of the empty key", None)?;
    db.put("gone", "at once", Some(Duration::ZERO))?;
    db.put("long", random.bytes(5000), Some(Duration::from_secs(5)))?;
    db.checkpoint()?;
    db.persist("key:003")?;
    db.expire("key:001", Duration::from_millis(1))?;
    db.delete("key:002").wait()?;
    db.put_blob_from("blob:small", &b"content"[..])?;
    let mut writer = db
        .blob_writer("blob:large")
        .content_type("image/png")
        .with("name", "größe")
        .with("a", "");
    writer
        .write_all(&random.bytes(9000))
        .expect("a blob takes bytes");
    writer.finish()?;
    db.put_blob_from("blob:empty", &b""[..])?;
    db.append_blob("blob:large", &random.bytes(100)[..])?;
    db.expire("blob:small", Duration::from_secs(77))?;
    Ok(())
}

/// A collection with each kind of index, documents with each type of value.
fn documents(db: &Aurora) -> Result<()> {
    let schema = Schema::new()
        .field(Field::new("email", FieldType::String).required().unique())
        .field(Field::new("visits", FieldType::Int).indexed().default(0))
        .field(Field::new("tags", FieldType::Array).indexed())
        .field(Field::new("address.city", FieldType::String).indexed())
        .field(Field::new("until", FieldType::DateTime))
        .index(Index::on(["address.city", "visits"]).named("city and visits"))
        .index(
            Index::on(["visits"])
                .named("many")
                .only(Filter::gte("visits", 50)),
        )
        .strict(false)
        .expires_after("until", Duration::from_secs(1000));
    db.new_collection("people", schema)?;
    db.new_collection("things", Schema::schemaless())?;
    db.create_index("things", Index::on(["v"])).wait()?;
    db.collection("people")?.insert_many((0..40).map(person))?;
    documents_before_their_schema(db)?;
    db.checkpoint()?;
    db.collection("people")?.delete(Uuid::from_u128(5))?;
    let patch = aurora::Patch::new().inc("visits", 1000).unset("note");
    db.collection("people")?.update(Uuid::from_u128(6), patch)?;
    db.write(|tx| {
        let mut things = tx.collection("things")?;
        for (i, value) in each_type().into_iter().enumerate() {
            let fields = [("id", Value::Int(i as i64 - 3)), ("v", value.clone())];
            things.insert_fields(Object::from(fields))?;
            let id = format!("string {i}");
            let fields = [("id", Value::from(id)), ("other", value)];
            things.insert_fields(Object::from(fields))?;
        }
        Ok(())
    })
}

/// Documents with names that get numbers only later, and with dots in names.
fn documents_before_their_schema(db: &Aurora) -> Result<()> {
    db.new_collection("older", Schema::schemaless())?;
    for i in 0..6 {
        let mut inner = Object::from([("c", Value::Int(i))]);
        inner.insert("b.c", i * 2);
        let mut fields = Object::from([("id", Value::Int(i)), ("n", Value::Int(i * i))]);
        fields.insert("a", Value::Object(inner));
        if i % 2 == 0 {
            fields.insert("a.c", "whole");
        }
        if i % 3 == 0 {
            fields.insert("a.b", Object::from([("c", "not this way")]));
        }
        db.insert_into("older", fields)?;
    }
    db.create_index("older", Index::on(["n"])).wait()?;
    db.create_index("older", Index::on(["a.c"])).wait()?;
    db.create_index("older", Index::on(["a.b.c"])).wait()?;
    let schema = Schema::schemaless()
        .field(Field::new("a", FieldType::Any).indexed())
        .field(Field::new("added", FieldType::Bool).default(true));
    db.alter_collection("older", schema).wait()
}

fn person(i: i64) -> Object {
    let mut person = Object::new();
    person.insert("id", Uuid::from_u128(i as u128));
    person.insert("email", format!("{i}@example.org"));
    if i % 4 != 0 {
        person.insert("visits", i * 7 % 100);
    }
    let tags = ["red", "green", "blue"];
    let tags = &tags[..(i % 4) as usize];
    person.insert(
        "tags",
        Value::Array(tags.iter().map(|&tag| tag.into()).collect()),
    );
    if i % 5 != 0 {
        let city = ["Bern", "Köln", "", "x\0y"][(i % 4) as usize];
        let mut address = Object::new();
        address.insert("city", city);
        address.insert("zip", i);
        person.insert("address", Value::Object(address));
    }
    if i % 10 == 0 {
        let until = Timestamp::from_millisecond(super::listing::NOW_MS as i64 + i).unwrap();
        person.insert("until", Value::DateTime(until));
    }
    if i % 3 == 0 {
        person.insert("note", "n".repeat(i as usize * 10));
    }
    person
}

/// Values of every type, with the ends of their ranges.
fn each_type() -> Vec<Value> {
    let mut object = Object::new();
    object.insert("z", 1);
    object.insert(
        "a",
        Value::Array(vec![Value::Null, Value::Object(Object::new())]),
    );
    let mut values = vec![Value::Null, Value::Bool(false), Value::Bool(true)];
    for int in [
        0,
        1,
        -1,
        23,
        24,
        255,
        256,
        65_536,
        i64::MAX,
        i64::MIN,
        (1 << 53) + 1,
        -(1 << 53) - 1,
    ] {
        values.push(Value::Int(int));
    }
    for float in [
        0.0,
        -0.0,
        1.5,
        -2.5,
        1e300,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        2f64.powi(53),
    ] {
        values.push(Value::Float(float));
    }
    values.extend([
        Value::from(""),
        Value::from("a\0b\u{ff}\u{10ffff}"),
        Value::from("long ".repeat(150)),
        Value::Bytes(vec![]),
        Value::Bytes(vec![0, 0xff, 0, 0]),
        Value::Uuid(Uuid::from_u128(u128::MAX - 1)),
        Value::Array(vec![]),
        Value::Array(vec![
            1.into(),
            1.into(),
            Value::Float(1.0),
            "x".into(),
            Value::Null,
        ]),
        Value::Array(vec![
            Value::Array(vec![true.into()]),
            Value::Object(object.clone()),
        ]),
        Value::Object(Object::new()),
        Value::Object(object),
    ]);
    for (seconds, nanoseconds) in [
        (0, 0),
        (1_700_000_000, 0),
        (1_700_000_000, 1),
        (-1, 0),
        (-2, 250_000_000),
    ] {
        let time = Timestamp::from_nanosecond(seconds * 1_000_000_000 + nanoseconds);
        values.push(Value::DateTime(time.unwrap()));
    }
    values
}

/// A log that has gone around its ring some times, and lies across its end.
fn laps(db: &Aurora) -> Result<()> {
    let mut random = Random(4);
    for i in 0..71_u32 {
        db.write(|tx| {
            let mut tree = tx.tree("laps")?;
            tree.put(format!("{:02}", i % 30), random.bytes(900 + i as usize))?;
            tree.delete(format!("{:02}", i % 17))?;
            Ok(())
        })?;
        if i % 6 == 0 && i <= 60 {
            db.checkpoint()?;
        }
    }
    Ok(())
}

/// A log that has gone on in a larger ring, behind a switch record that replay has to pass.
fn switch(db: &Aurora) -> Result<()> {
    let mut random = Random(5);
    for i in 0..SWITCH_COMMITS {
        db.tree("switch")?
            .put(format!("{:02}", i % 20), random.bytes(1500))?;
    }
    // Its record has a reference to a run that only the log knows of.
    db.tree("switch")?.put("long", random.bytes(33_000))?;
    Ok(())
}

const SWITCH_COMMITS: u32 = 14;

/// Leaves whose values have one length, none, or lengths of their own; and one after the other.
fn lengths(db: &Aurora) -> Result<()> {
    let mut random = Random(7);
    db.write(|tx| {
        for i in 0..400_u32 {
            let key = i.to_be_bytes();
            tx.tree("same")?.put(key, random.bytes(16))?;
            tx.tree("none")?.put(key, [])?;
            // A page at a time of one length, and pages of several.
            let length = if i < 200 {
                i / 50
            } else {
                random.below(30) as u32
            };
            tx.tree("several")?
                .put(key, random.bytes(length as usize))?;
            // Values in runs do not count.
            let length = if i % 10 == 0 { 2000 } else { 8 };
            tx.tree("runs")?.put(key, random.bytes(length))?;
        }
        Ok(())
    })?;
    db.checkpoint()?;
    db.tree("same")?
        .put(150_u32.to_be_bytes(), random.bytes(15))?;
    db.tree("none")?.put(150_u32.to_be_bytes(), "one")?;
    db.tree("runs")?
        .delete_range(20_u32.to_be_bytes()..40_u32.to_be_bytes())?;
    Ok(())
}

/// Uniform leaves: filled in order, in bulk, by compaction; and what became of some of them when other
/// entries came.
fn uniform(db: &Aurora) -> Result<()> {
    let mut random = Random(8);
    let mut fill = |tree: &'static str, count: u32, key_bytes: usize, value_bytes: usize| {
        db.write(|tx| {
            let mut tree = tx.tree(tree)?;
            for i in 0..count {
                let mut key = i.to_be_bytes().to_vec();
                key.resize(key_bytes, i as u8);
                tree.put(key, random.bytes(value_bytes))?;
            }
            Ok(())
        })
    };
    fill("in order", 120, 24, 150)?;
    fill("short keys", 150, 4, 20)?;
    fill("too short values", 150, 24, 19)?;
    fill("disturbed", 120, 24, 150)?;
    let mut keys: Vec<[u8; 24]> = (0..200)
        .map(|_| random.bytes(24).try_into().expect("it has 24 bytes"))
        .collect();
    db.write(|tx| {
        for key in &keys {
            tx.tree("in random order")?.put(key, random.bytes(150))?;
        }
        Ok(())
    })?;
    db.compact()?;
    keys.truncate(40);
    db.write(|tx| {
        let mut tree = tx.tree("disturbed")?;
        tree.delete([[0, 0, 0, 10].as_slice(), &[10; 20]].concat())?;
        tree.put(
            [[0, 0, 0, 70].as_slice(), &[70; 20]].concat(),
            random.bytes(149),
        )?;
        tree.put([0, 0, 0, 100, 0], random.bytes(150))?;
        tree.put("behind all others", random.bytes(900))?;
        tree.put("behind this, too", random.bytes(5000))?;
        for key in &keys {
            tx.tree("in random order")?.delete(key)?;
        }
        Ok(())
    })
}

/// A little of most things.
fn small(db: &Aurora) -> Result<()> {
    let mut random = Random(6);
    db.write(|tx| {
        for i in 0..40_u32 {
            tx.tree("small")?
                .put(format!("key {i}"), random.bytes(20))?;
        }
        tx.tree("small")?.put("long", random.bytes(6000))?;
        tx.tree("dropped")?.put("a", "b")?;
        tx.tree("old name")?.put("c", "d")?;
        tx.put("key", "value", Some(Duration::from_secs(10)))
    })?;
    db.checkpoint()?;
    db.write(|tx| tx.drop_tree("dropped"))?;
    db.write(|tx| tx.rename_tree("old name", "new name"))?;
    db.tree("takes its number")?.put("e", "f")?;
    db.new_collection(
        "things",
        Schema::new().field(Field::new("n", FieldType::Int).indexed()),
    )?;
    for i in 0..5 {
        db.insert_into("things", Object::from([("id", i), ("n", i * i)]))?;
    }
    db.tree("small")?.delete_range("key 1".."key 2")?;
    db.tree("small")?.put("long", random.bytes(7000))?;
    Ok(())
}

fn everything(db: &Aurora) -> Result<()> {
    trees(db)?;
    keys(db)?;
    documents(db)?;
    values(db)
}
