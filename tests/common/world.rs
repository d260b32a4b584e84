//! A plain model of everything that a user can store, and a look at a database that gives the same:
//! trees, keys with what expires, blobs byte by byte, documents, and indexes both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aurora::storage::Storage;
use aurora::{
    Aurora, Clock, Field, FieldType, Filter, Index, Object, Result, Schema, Snapshot, Timestamp,
    Ttl, Value,
};

use super::Tree;

/// A clock that is set by hand.
#[derive(Debug, Default)]
pub struct SetClock {
    reached_ms: AtomicU64,
    says_ms: AtomicU64,
}

impl SetClock {
    pub fn at(ms: u64) -> Arc<Self> {
        let clock = SetClock::default();
        clock.reach(ms);
        clock.says_ms.store(ms, Ordering::Relaxed);
        Arc::new(clock)
    }

    pub fn advance(&self, ms: u64) {
        let says = self.says_ms.fetch_add(ms, Ordering::Relaxed) + ms;
        self.reached_ms.fetch_max(says, Ordering::Relaxed);
    }

    /// It jumps back. For a database that saw it before, time stands still then.
    pub fn set_back(&self, ms: u64) {
        self.says_ms.fetch_sub(ms, Ordering::Relaxed);
    }

    pub fn says(&self) -> u64 {
        self.says_ms.load(Ordering::Relaxed)
    }

    /// What a database has that was opened anew.
    pub fn reach(&self, ms: u64) {
        self.reached_ms.store(ms, Ordering::Relaxed);
    }

    /// The time that a database has that saw all of it.
    pub fn now(&self) -> u64 {
        self.reached_ms.load(Ordering::Relaxed)
    }
}

impl Clock for SetClock {
    fn now_ms(&self) -> u64 {
        self.says()
    }
}

/// What is under a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Content {
    Value(Arc<[u8]>),
    Blob(Arc<[u8]>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    pub content: Content,
    pub expires_ms: Option<u64>,
}

impl Entry {
    pub fn is_alive(&self, now_ms: u64) -> bool {
        self.expires_ms.is_none_or(|expires| expires > now_ms)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Person {
    pub name: String,
    pub n: i64,
    pub tags: Vec<String>,
    pub seen_s: i64,
    pub extra: Option<i64>,
}

/// What a schema says of the field `extra`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Extra {
    #[default]
    No,
    Yes,
    WithDefault,
}

pub const DEFAULT_EXTRA: i64 = 7;

/// A collection, and its indexes by name: whether each is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct People {
    pub people: BTreeMap<i64, Person>,
    pub indexes: BTreeMap<String, bool>,
    /// Nobody is forgotten.
    pub is_kept: bool,
    pub extra: Extra,
}

/// Everything that a database holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct World {
    pub trees: BTreeMap<String, Tree>,
    pub keys: BTreeMap<Vec<u8>, Entry>,
    pub collections: BTreeMap<String, People>,
}

/// People are forgotten so long after they were seen.
pub const FORGOTTEN_MS: u64 = 100_000;

pub fn schema() -> Schema {
    People::created().schema()
}

impl Person {
    pub fn of(id: i64, now_ms: u64) -> Self {
        Person {
            name: format!("name {id} {}", "x".repeat((id % 7) as usize * 20)),
            n: id % 3,
            tags: (0..id % 3).map(|tag| format!("tag {tag}")).collect(),
            seen_s: (now_ms / 1000) as i64,
            extra: None,
        }
    }

    pub fn object(&self, id: i64) -> Object {
        let tags = self.tags.iter().map(|tag| Value::from(tag.clone()));
        let mut object = Object::from([
            ("id", Value::from(id)),
            ("name", self.name.clone().into()),
            ("n", self.n.into()),
            ("tags", Value::Array(tags.collect())),
            ("seen", Timestamp::from_second(self.seen_s).unwrap().into()),
        ]);
        if let Some(extra) = self.extra {
            object.insert("extra", extra);
        }
        object
    }
}

impl People {
    /// As it is when it was made with [`schema`].
    pub fn created() -> Self {
        let indexes = ["n", "name", "tags"];
        People {
            indexes: indexes.map(|name| (name.to_string(), true)).into(),
            ..People::default()
        }
    }

    /// Whether its schema is that of [`created`](Self::created).
    pub fn is_as_created(&self) -> bool {
        let created = People::created();
        let names = |people: &People| people.indexes.keys().cloned().collect::<Vec<_>>();
        let same = (self.is_kept, self.extra) == (created.is_kept, created.extra);
        same && names(self) == names(&created)
    }

    /// The schema that it has.
    pub fn schema(&self) -> Schema {
        let has = |index: &str| self.indexes.contains_key(index);
        let field = |name: &str, kind| match has(name) {
            true => Field::new(name, kind).indexed(),
            false => Field::new(name, kind),
        };
        let mut schema = Schema::new()
            .field(Field::new("id", FieldType::Int))
            .field(Field::new("name", FieldType::String).unique())
            .field(field("n", FieldType::Int))
            .field(field("tags", FieldType::String))
            .field(Field::new("seen", FieldType::DateTime));
        if !self.is_kept {
            schema = schema.expires_after("seen", Duration::from_millis(FORGOTTEN_MS));
        }
        let extra = field("extra", FieldType::Int);
        match self.extra {
            Extra::No => {}
            Extra::Yes => schema = schema.field(extra),
            Extra::WithDefault => schema = schema.field(extra.default(DEFAULT_EXTRA)),
        }
        match has(&Index::on(["n", "name"]).name()) {
            true => schema.index(Index::on(["n", "name"])),
            false => schema,
        }
    }

    pub fn is_alive(&self, person: &Person, now_ms: u64) -> bool {
        self.is_kept || person.seen_s as u64 * 1000 + FORGOTTEN_MS > now_ms
    }

    /// The ids of those that are there at that time.
    pub fn alive(&self, now_ms: u64) -> Vec<i64> {
        let people = self.people.iter();
        let alive = people.filter(|(_, person)| self.is_alive(person, now_ms));
        alive.map(|(id, _)| *id).collect()
    }

    /// A person as it is stored here.
    pub fn fitted(&self, mut person: Person) -> Person {
        if self.extra == Extra::WithDefault {
            person.extra = person.extra.or(Some(DEFAULT_EXTRA));
        }
        person
    }
}

impl World {
    /// What of it can be seen at this time.
    pub fn at(&self, now_ms: u64) -> World {
        let mut world = self.clone();
        world.keys.retain(|_, entry| entry.is_alive(now_ms));
        for people in world.collections.values_mut() {
            let alive = people.alive(now_ms);
            people
                .people
                .retain(|id, _| alive.binary_search(id).is_ok());
            // Of a schema the fields are seen.
            people.is_kept = false;
            if people.extra == Extra::WithDefault {
                people.extra = Extra::Yes;
            }
        }
        world
    }
}

/// In what two differ, in short.
pub fn difference(found: &World, expected: &World) -> String {
    let lines = |world: &World| -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for (name, tree) in &world.trees {
            lines.insert(format!("tree {name}"));
            for (key, value) in tree {
                let key = String::from_utf8_lossy(key);
                let crc = crc32c::crc32c(value);
                lines.insert(format!("tree {name} {key:?}: {} {crc:x}", value.len()));
            }
        }
        for (key, entry) in &world.keys {
            let (kind, bytes) = match &entry.content {
                Content::Value(bytes) => ("value", bytes),
                Content::Blob(bytes) => ("blob", bytes),
            };
            lines.insert(format!(
                "{kind} {:?}: {} {:x}, expires {:?}",
                String::from_utf8_lossy(key),
                bytes.len(),
                crc32c::crc32c(bytes),
                entry.expires_ms
            ));
        }
        for (name, people) in &world.collections {
            let (indexes, extra) = (&people.indexes, people.extra);
            lines.insert(format!("{name}: indexes {indexes:?}, extra {extra:?}"));
            for (id, person) in &people.people {
                lines.insert(format!("{name} {id}: {person:?}"));
            }
        }
        lines
    };
    let (found, expected) = (lines(found), lines(expected));
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| -> Vec<String> {
        a.difference(b).take(6).cloned().collect()
    };
    format!(
        "found but not expected: {:?}, expected but not found: {:?}",
        only(&found, &expected),
        only(&expected, &found)
    )
}

/// Opens without threads, with little memory, and with the first ring that a file has.
pub fn open_at(storage: Arc<dyn Storage>, clock: &Arc<SetClock>) -> Result<Aurora> {
    super::repeatable()
        .clock(clock.clone())
        .hot_limit(1 << 20)
        .open_storage(storage)
}

/// Everything that can be seen in a database, by all ways there are to see it.
pub fn observe(db: &Aurora) -> Result<World> {
    observe_moment(&db.begin_read()?, Some(db))
}

/// The same of a snapshot, with a look at the hot tier if it is of now.
pub fn observe_moment(snapshot: &Snapshot, db: Option<&Aurora>) -> Result<World> {
    let mut world = World {
        trees: super::contents(snapshot)?.0,
        ..World::default()
    };
    for name in world.trees.keys() {
        let view = snapshot.tree(name)?;
        let mut back: Vec<_> = view.iter().rev().collect::<Result<_>>()?;
        back.reverse();
        let forth = &world.trees[name];
        assert!(
            back.iter().map(|(k, v)| (k, v)).eq(forth.iter()),
            "{name} is not the same from its end"
        );
    }
    observe_keys(db, snapshot, &mut world)?;
    for name in snapshot.collections()? {
        let people = observe_people(db, snapshot, &name)?;
        world.collections.insert(name, people);
    }
    Ok(world)
}

fn observe_keys(db: Option<&Aurora>, snapshot: &Snapshot, world: &mut World) -> Result<()> {
    let values: Vec<_> = snapshot.scan::<&[u8]>(..).collect::<Result<_>>()?;
    let mut back: Vec<_> = snapshot.scan::<&[u8]>(..).rev().collect::<Result<_>>()?;
    back.reverse();
    assert_eq!(values, back, "a scan from the end");
    let expires_ms = |key: &[u8]| -> Result<Option<u64>> {
        Ok(match snapshot.ttl(key)? {
            Ttl::After(left) => Some(NOW_MS.get() + left.as_millis() as u64),
            Ttl::Never => None,
            Ttl::Missing => panic!("a key that is there is missing"),
        })
    };
    for (key, value) in values {
        if let Some(db) = db {
            let found = db.get(&key)?;
            assert_eq!(found.as_deref(), Some(&value[..]), "by the hot tier");
        }
        let entry = Entry {
            expires_ms: expires_ms(&key)?,
            content: Content::Value(value.into()),
        };
        world.keys.insert(key, entry);
    }
    for (key, info) in snapshot.get_data_by_pattern("")? {
        if world.keys.contains_key(key.as_bytes()) {
            continue;
        }
        let blob = snapshot.get_blob(&key)?;
        let blob = blob.unwrap_or_else(|| panic!("{key} is listed as {info:?}, and is no blob"));
        let info = blob.info();
        let content = blob.read_at(0, info.size as usize + 1).wait()?;
        assert_eq!(content.len() as u64, info.size, "the size of blob {key}");
        assert_eq!(crc32c::crc32c(&content), info.checksum, "blob {key}");
        let entry = Entry {
            content: Content::Blob(content.into()),
            expires_ms: info.expires_ms,
        };
        world.keys.insert(key.into_bytes(), entry);
    }
    Ok(())
}

thread_local! {
    /// The time of the clock that the database of this thread has.
    static NOW_MS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Says what time it is in the databases that this thread observes.
pub fn set_now(ms: u64) {
    NOW_MS.set(ms);
}

fn observe_people(db: Option<&Aurora>, snapshot: &Snapshot, name: &str) -> Result<People> {
    let mut people = People::default();
    let collection = snapshot.collection(name)?;
    if collection
        .schema()
        .0
        .fields()
        .any(|(name, _)| name == "extra")
    {
        people.extra = Extra::Yes;
    }
    for document in snapshot.query(name).collect().wait()? {
        let Value::Int(id) = *document.id.value() else {
            panic!("the id {:?}", document.id)
        };
        people.people.insert(id, person_of(document.fields()));
    }
    for info in collection.indexes() {
        if info.index.name() != "seen" {
            people.indexes.insert(info.index.name(), info.is_ready);
        }
    }
    let of_filter = |filter: Filter| -> Result<BTreeSet<i64>> {
        let rows = snapshot.query(name).matching(filter).collect().wait()?;
        Ok(rows
            .iter()
            .map(|row| match row.id.value() {
                Value::Int(id) => *id,
                other => panic!("the id {other:?}"),
            })
            .collect())
    };
    let those = |is: &dyn Fn(&Person) -> bool| -> BTreeSet<i64> {
        let those = people.people.iter().filter(|(_, person)| is(person));
        those.map(|(id, _)| *id).collect()
    };
    // From the indexes to the documents: every value that there is, and some that are not.
    let numbers: BTreeSet<i64> = people.people.values().map(|p| p.n).collect();
    for n in numbers.into_iter().chain([-1, 100]) {
        let found = of_filter(Filter::eq("n", n))?;
        assert_eq!(found, those(&|p| p.n == n), "{name} by n = {n}");
    }
    for tag in ["tag 0", "tag 1", "new", "none"] {
        let found = of_filter(Filter::contains("tags", tag))?;
        let has = those(&|p| p.tags.iter().any(|t| t == tag));
        assert_eq!(found, has, "{name} by {tag}");
    }
    let extras: BTreeSet<i64> = people.people.values().filter_map(|p| p.extra).collect();
    for extra in extras {
        let found = of_filter(Filter::eq("extra", extra))?;
        let has = those(&|p| p.extra == Some(extra));
        assert_eq!(found, has, "{name} by extra = {extra}");
    }
    // Of very many some.
    let some = people.people.iter().step_by(1 + people.people.len() / 200);
    for (id, person) in some {
        if let Some(db) = db {
            let found = db.collection(name)?.get(*id)?;
            let found = found.map(|document| person_of(document.fields()));
            assert_eq!(found.as_ref(), Some(person), "{name} {id} by the hot tier");
        }
        let found = of_filter(Filter::eq("name", person.name.clone()))?;
        assert_eq!(found, [*id].into(), "{name} by the name of {id}");
    }
    // And in the order of one, from both ends.
    let order = |ascending| -> Result<Vec<i64>> {
        let rows = snapshot.query(name).order_by("n", ascending).collect();
        let rows = rows.wait()?;
        Ok(rows.iter().map(|row| person_of(row.fields()).n).collect())
    };
    let (up, mut down) = (order(true)?, order(false)?);
    down.reverse();
    let mut sorted: Vec<i64> = people.people.values().map(|p| p.n).collect();
    sorted.sort_unstable();
    assert!(up == sorted && down == sorted, "{name} in the order of n");
    let count = snapshot.query(name).count().wait()?;
    assert_eq!(count, people.people.len() as u64, "the count of {name}");
    Ok(people)
}

pub fn person_of(fields: &Object) -> Person {
    let text = |value: &Value| match value {
        Value::String(text) => text.to_string(),
        other => panic!("{other:?} is no text"),
    };
    let field = |name| fields.get(name).unwrap_or(&Value::Null);
    Person {
        name: text(field("name")),
        n: match field("n") {
            Value::Int(n) => *n,
            other => panic!("n is {other:?}"),
        },
        tags: match field("tags") {
            Value::Array(tags) => tags.iter().map(text).collect(),
            other => panic!("tags are {other:?}"),
        },
        seen_s: match field("seen") {
            Value::DateTime(time) => time.as_second(),
            other => panic!("seen is {other:?}"),
        },
        extra: match field("extra") {
            Value::Int(extra) => Some(*extra),
            Value::Null => None,
            other => panic!("extra is {other:?}"),
        },
    }
}
