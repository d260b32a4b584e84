//! What else a transaction of the swarm does: to the database and to the model alike.

use std::time::Duration;

use aurora::{
    Aurora, Batch, BlobMeta, Error, Filter, Index, Patch, Result, Swap, WriteTransaction,
};

use super::common::Random;
use super::common::world::{Content, Entry, Extra, People, Person, World, schema};

/// Values and blobs take the place of each other under these.
const KEYS: [&str; 9] = [
    "ttl0", "ttl1", "ttl2", "blob0", "blob1", "n0", "n1", "long", "",
];
pub const COLLECTIONS: [&str; 3] = ["people", "more", "third"];
/// A tree that alone is more than the memory takes.
const CROWDED: &str = "crowded";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    Put,
    PutBlob,
    Expire,
    Persist,
    Increment,
    Swap,
    Merge,
    Delete,
    DeletePrefix,
    WriteBlobAt,
    CutBlob,
    InsertMany,
    Crowd,
    Refused,
    Upsert,
    Replace,
    UpdateSome,
    UnsetExtra,
    DeleteSome,
    Rename,
    Create,
    DropIndex,
    Index,
    Huge,
    Sweep,
    Batch,
    SayOfBlob,
    Pop,
}

pub const ALL: [More; 28] = [
    More::Put,
    More::PutBlob,
    More::Expire,
    More::Persist,
    More::Increment,
    More::Swap,
    More::Merge,
    More::Delete,
    More::DeletePrefix,
    More::WriteBlobAt,
    More::CutBlob,
    More::InsertMany,
    More::Crowd,
    More::Refused,
    More::Upsert,
    More::Replace,
    More::UpdateSome,
    More::UnsetExtra,
    More::DeleteSome,
    More::Rename,
    More::Create,
    More::DropIndex,
    More::Index,
    More::Huge,
    More::Sweep,
    More::Batch,
    More::SayOfBlob,
    More::Pop,
];

/// One of some.
pub fn one_of<T: Clone>(random: &mut Random, some: &[T]) -> T {
    some[random.below(some.len() as u64) as usize].clone()
}

/// A call has to be refused so. Another error is given on.
pub fn refused<T: std::fmt::Debug>(
    result: Result<T>,
    as_this: impl Fn(&Error) -> bool,
) -> Result<()> {
    match result {
        Err(error) if as_this(&error) => Ok(()),
        Err(error) => Err(error),
        Ok(done) => panic!("it was not refused: {done:?}"),
    }
}

pub fn expiry(ttl: Option<Duration>, now_ms: u64) -> Option<u64> {
    now_ms.checked_add(u64::try_from(ttl?.as_millis()).ok()?)
}

/// One of the keys.
pub fn key(random: &mut Random) -> Vec<u8> {
    one_of(random, &KEYS).as_bytes().to_vec()
}

/// The beginning of some of them.
pub fn prefix(random: &mut Random) -> &'static str {
    one_of(random, &["ttl", "blob", "n", "long", ""])
}

/// Puts and deletes, of the same keys too.
pub fn fill_batch(random: &mut Random, batch: &mut Batch, world: &mut World, now_ms: u64) {
    for _ in 0..random.below(7) {
        let key = key(random);
        if random.chance(3) {
            batch.delete(&key);
            world.keys.remove(&key);
            continue;
        }
        let (value, ttl) = (bytes(random), ttl(random));
        batch.put(&key, &value, ttl);
        let entry = Entry {
            content: Content::Value(value.into()),
            expires_ms: expiry(ttl, now_ms),
        };
        world.keys.insert(key, entry);
    }
}

pub fn bytes(random: &mut Random) -> Vec<u8> {
    let length = one_of(random, &[0, 3, 30, 900, 5_000, 40_000]);
    let fill = random.next() as u8;
    let bytes = (0..length).map(|i| fill.wrapping_add((i / 64) as u8));
    bytes.collect()
}

pub fn ttl(random: &mut Random) -> Option<Duration> {
    let ms = |ms| Some(Duration::from_millis(ms));
    one_of(
        random,
        &[
            None,
            None,
            ms(0),
            ms(3_000),
            ms(60_000),
            Some(Duration::MAX),
        ],
    )
}

pub fn change(
    op: More,
    random: &mut Random,
    db: &Aurora,
    tx: &mut WriteTransaction,
    world: &mut World,
    now_ms: u64,
) -> Result<()> {
    let key = key(random);
    match op {
        More::Put => {
            let (value, ttl) = (bytes(random), ttl(random));
            tx.put(&key, &value, ttl)?;
            let entry = Entry {
                content: Content::Value(value.into()),
                expires_ms: expiry(ttl, now_ms),
            };
            world.keys.insert(key, entry);
        }
        More::PutBlob => {
            let (content, ttl) = (bytes(random), ttl(random));
            tx.put_blob_from(&key, &content[..])?;
            if let Some(ttl) = ttl {
                assert!(tx.expire(&key, ttl)?);
            }
            let entry = Entry {
                content: Content::Blob(content.into()),
                expires_ms: expiry(ttl, now_ms),
            };
            world.keys.insert(key, entry);
        }
        More::DeletePrefix => {
            let prefix = prefix(random);
            let range = |key: &[u8]| match prefix {
                "n" => (b"l".as_slice()..b"o".as_slice()).contains(&key),
                prefix => key.starts_with(prefix.as_bytes()),
            };
            let in_range = world.keys.iter().filter(|(key, _)| range(key));
            let alive = in_range.filter(|(_, entry)| entry.is_alive(now_ms)).count();
            let deleted = match prefix {
                "n" => tx.delete_range("l".."o")?,
                prefix => tx.delete_prefix(prefix)?,
            };
            assert_eq!(deleted, alive as u64, "deleted of {prefix:?}");
            world.keys.retain(|key, _| !range(key));
        }
        More::Huge => {
            let length = 200 + random.below(900) as usize;
            let (from, step) = (random.below(700), one_of(random, &[1, 7, 97]));
            let key = |n: u64| format!("{:04}", (from + n * step) % 700).into_bytes();
            let fill = random.next() as u8;
            let mut tree = tx.tree(CROWDED)?;
            let model = world.trees.entry(CROWDED.into()).or_default();
            let in_one = random.chance(2);
            if in_one {
                tree.put_many((0..500).map(|n| (key(n), vec![fill; length])))?;
            }
            for n in 0..500 {
                if !in_one {
                    tree.put(key(n), vec![fill; length])?;
                }
                model.insert(key(n), vec![fill; length]);
            }
            if random.chance(3) {
                let (low, high) = (b"0200".to_vec(), b"0600".to_vec());
                let count = model.range(low.clone()..high.clone()).count() as u64;
                assert_eq!(tree.delete_range(low.clone()..high.clone())?, count);
                model.retain(|key, _| *key < low || *key >= high);
            }
        }
        More::Sweep => drop(tx.sweep(1 + random.below(5) as usize)?),
        More::Batch => {
            let mut batch = Batch::new();
            fill_batch(random, &mut batch, world, now_ms);
            tx.apply(batch)?;
        }
        More::Pop => {
            let mut tree = tx.tree("t")?;
            let model = world.trees.entry("t".into()).or_default();
            for _ in 0..1 + random.below(20) {
                let (popped, expected) = match random.chance(2) {
                    true => (tree.pop_first()?, model.pop_first()),
                    false => (tree.pop_last()?, model.pop_last()),
                };
                assert_eq!(popped, expected);
            }
        }
        More::Expire
        | More::Persist
        | More::Increment
        | More::Swap
        | More::Merge
        | More::Delete
        | More::WriteBlobAt
        | More::SayOfBlob
        | More::CutBlob => change_key(op, random, tx, world, key, now_ms)?,
        _ => change_collection(op, random, db, tx, world, now_ms)?,
    }
    Ok(())
}

/// Changes that depend on what is there.
fn change_key(
    op: More,
    random: &mut Random,
    tx: &mut WriteTransaction,
    world: &mut World,
    key: Vec<u8>,
    now_ms: u64,
) -> Result<()> {
    let alive = world.keys.get(&key).filter(|entry| entry.is_alive(now_ms));
    let alive = alive.cloned();
    let is_wrong_kind = |error: &Error| matches!(error, Error::WrongKind { .. });
    let (value, blob) = match alive.as_ref().map(|entry| &entry.content) {
        Some(Content::Value(value)) => (Some(value.clone()), None),
        Some(Content::Blob(blob)) => (None, Some(blob.clone())),
        None => (None, None),
    };
    let expires_ms = alive.as_ref().and_then(|entry| entry.expires_ms);
    let put = |world: &mut World, content: Content| {
        let entry = Entry {
            content,
            expires_ms,
        };
        world.keys.insert(key.clone(), entry);
    };
    match op {
        More::Expire => {
            let ttl = Duration::from_millis(one_of(random, &[0, 4_000, 70_000]));
            assert_eq!(tx.expire(&key, ttl)?, alive.is_some());
            if alive.is_some() {
                world.keys.get_mut(&key).unwrap().expires_ms = expiry(Some(ttl), now_ms);
            }
        }
        More::Persist => {
            assert_eq!(tx.persist(&key)?, expires_ms.is_some());
            if alive.is_some() {
                world.keys.get_mut(&key).unwrap().expires_ms = None;
            }
        }
        More::Delete => {
            assert_eq!(tx.delete(&key)?, alive.is_some());
            world.keys.remove(&key);
        }
        More::Increment | More::Swap | More::Merge if blob.is_some() => {
            let refused_here = match op {
                More::Increment => tx.increment(&key, 1).map(drop),
                More::Swap => tx.compare_and_swap(&key, None, None).map(drop),
                _ => tx.merge(&key, |_| None).map(drop),
            };
            refused(refused_here, is_wrong_kind)?;
        }
        More::Increment => {
            let text = value.as_deref().map(std::str::from_utf8);
            let number = match text {
                None => Some(0),
                Some(text) => text.ok().and_then(|text| text.parse::<i64>().ok()),
            };
            let by = random.below(100) as i64 - 50;
            let Some(number) = number else {
                let is_no_number = |error: &Error| matches!(error, Error::NotANumber { .. });
                return refused(tx.increment(&key, by), is_no_number);
            };
            assert_eq!(tx.increment(&key, by)?, number + by);
            let text = (number + by).to_string().into_bytes();
            put(world, Content::Value(text.into()));
        }
        More::Swap => {
            let new = (!random.chance(3)).then(|| bytes(random));
            let is_right = !random.chance(3);
            let expected = match is_right {
                true => value.as_deref(),
                false => Some(&b"what nobody stored"[..]),
            };
            match tx.compare_and_swap(&key, expected, new.as_deref())? {
                Swap::Done => assert!(is_right),
                Swap::Differs { present } => {
                    assert!(!is_right);
                    assert_eq!(present.as_deref(), value.as_deref());
                    return Ok(());
                }
            }
            match new {
                Some(new) => put(world, Content::Value(new.into())),
                None => drop(world.keys.remove(&key)),
            }
        }
        More::Merge => {
            let more = (!random.chance(3)).then(|| bytes(random));
            let merged = |old: Option<&[u8]>| {
                let more = more.as_ref()?;
                Some([old.unwrap_or_default(), more].concat())
            };
            let new = merged(value.as_deref()).filter(|new| new.len() < 100_000);
            let found = tx.merge(&key, |old| {
                assert_eq!(old, value.as_deref());
                new.clone()
            })?;
            assert_eq!(found.as_deref(), new.as_deref());
            match new {
                Some(new) => put(world, Content::Value(new.into())),
                None => drop(world.keys.remove(&key)),
            }
        }
        More::SayOfBlob => {
            let said = tx.set_blob_meta(&key, BlobMeta::new().with("a", "b"));
            let Some(blob) = blob else {
                return refused(said, |error| match value {
                    Some(_) => matches!(error, Error::WrongKind { .. }),
                    None => matches!(error, Error::BlobNotFound { .. }),
                });
            };
            let said = said?;
            let is_there = (said.size, said.checksum, said.expires_ms);
            let crc = crc32c::crc32c(&blob);
            assert_eq!(is_there, (blob.len() as u64, crc, expires_ms));
        }
        More::WriteBlobAt | More::CutBlob => {
            let size = blob.as_ref().map_or(0, |blob| blob.len()) as u64;
            let at = one_of(random, &[0, size / 2, size, size + 3_000]);
            let mut more = bytes(random);
            more.push(1);
            let changed = match op {
                More::CutBlob => tx.truncate_blob(&key, at),
                _ => tx.write_blob_at(&key, at, &more),
            };
            let Some(blob) = blob else {
                return refused(changed, |error| {
                    matches!(error, Error::BlobNotFound { .. }) == value.is_none()
                        && matches!(error, Error::BlobNotFound { .. } | Error::WrongKind { .. })
                });
            };
            let mut content = blob.to_vec();
            let at = at as usize;
            match op {
                More::CutBlob => content.resize(at, 0),
                _ => {
                    content.resize(content.len().max(at + more.len()), 0);
                    content[at..at + more.len()].copy_from_slice(&more);
                }
            }
            let info = changed?;
            assert_eq!(info.size, content.len() as u64);
            put(world, Content::Blob(content.into()));
        }
        other => panic!("{other:?} is no change of a key"),
    }
    Ok(())
}

fn change_collection(
    op: More,
    random: &mut Random,
    db: &Aurora,
    tx: &mut WriteTransaction,
    world: &mut World,
    now_ms: u64,
) -> Result<()> {
    if op == More::Create {
        let name = one_of(random, &COLLECTIONS);
        if !world.collections.contains_key(name) {
            tx.new_collection(name, schema())?;
            world.collections.insert(name.into(), People::created());
        }
        return Ok(());
    }
    let names: Vec<String> = world.collections.keys().cloned().collect();
    if names.is_empty() {
        return Ok(());
    }
    let name = one_of(random, &names);
    if op == More::Rename {
        let to = one_of(random, &COLLECTIONS);
        if to != name && world.collections.contains_key(to) {
            let is_taken = |error: &Error| matches!(error, Error::BadCollectionName { .. });
            return refused(tx.rename_collection(&name, to), is_taken);
        }
        tx.rename_collection(&name, to)?;
        let people = world.collections.remove(&name).unwrap();
        world.collections.insert(to.into(), people);
        return Ok(());
    }
    let people = world.collections.get_mut(&name).unwrap();
    let alive = people.alive(now_ms);
    let next = people.people.keys().next_back().map_or(0, |id| id + 1);
    let person = |id: i64, random: &mut Random| Person {
        n: random.below(5) as i64,
        ..Person::of(id, now_ms - random.below(80_000))
    };
    let one = (!alive.is_empty()).then(|| one_of(random, &alive));
    match (op, one) {
        (More::InsertMany | More::Crowd, _) => {
            let count = match op {
                More::Crowd if people.people.len() < 2_500 => 1_300,
                More::Crowd => return Ok(()),
                _ => 1 + random.below(30) as i64,
            };
            let new: Vec<_> = (next..next + count)
                .map(|id| (id, person(id, random)))
                .collect();
            let mut collection = tx.collection(&name)?;
            collection.insert_many(new.iter().map(|(id, person)| person.object(*id)))?;
            for (id, person) in new {
                let person = people.fitted(person);
                people.people.insert(id, person);
            }
        }
        (More::Refused, Some(one)) => {
            let mut other = Person::of(next, now_ms).object(next);
            match random.chance(2) {
                true => drop(other.insert("id", one)),
                false => drop(other.insert("name", people.people[&one].name.clone())),
            }
            let inserted = tx.collection(&name)?.insert_fields(other);
            refused(inserted, |error| matches!(error, Error::Duplicate { .. }))?;
        }
        (More::Upsert, _) => {
            let id = one.unwrap_or(next);
            let person = person(id, random);
            tx.collection(&name)?.upsert(person.object(id))?;
            let person = people.fitted(person);
            people.people.insert(id, person);
        }
        (More::Replace, Some(id)) => {
            let mut person = person(id, random);
            if people.extra != Extra::No {
                person.extra = one_of(random, &[None, Some(1), Some(9)]);
            }
            tx.collection(&name)?.replace(id, person.object(id))?;
            let person = people.fitted(person);
            people.people.insert(id, person);
        }
        (More::UpdateSome, _) => {
            let n = random.below(6) as i64;
            let query = db.query(&name).matching(Filter::eq("n", n));
            let patch = Patch::new().inc("n", 1).push("tags", "new");
            let updated = query.update_in(tx, patch)?;
            let mut expected = 0;
            for id in alive {
                let person = people.people.get_mut(&id).unwrap();
                if person.n == n {
                    person.n += 1;
                    person.tags.push("new".into());
                    expected += 1;
                }
            }
            assert_eq!(updated, expected);
        }
        (More::UnsetExtra, _) => {
            let patch = Patch::new().unset("extra");
            db.query(&name).update_in(tx, patch)?;
            for id in alive {
                let mut person = people.people[&id].clone();
                person.extra = None;
                let person = people.fitted(person);
                people.people.insert(id, person);
            }
        }
        (More::DeleteSome, _) => {
            let n = random.below(6) as i64;
            let query = db.query(&name).matching(Filter::eq("n", n));
            let deleted = query.delete_in(tx)?;
            let gone = |id: &i64| people.people[id].n == n;
            let gone: Vec<i64> = alive.into_iter().filter(gone).collect();
            assert_eq!(deleted, gone.len() as u64);
            people.people.retain(|id, _| !gone.contains(id));
        }
        (More::DropIndex, _) => {
            let index = one_of(random, &["n", "tags", "extra"]);
            let dropped = tx.collection(&name)?.drop_index(index);
            match people.indexes.remove(index) {
                Some(_) => dropped?,
                None => refused(dropped, |error| matches!(error, Error::BadIndex { .. }))?,
            }
        }
        (More::Index, _) => match random.below(3) {
            0 => {
                // Of a value that some have in common.
                let index = Index::on(["n"]).named("alone").unique();
                let mut numbers: Vec<i64> = alive.iter().map(|id| people.people[id].n).collect();
                numbers.sort_unstable();
                let are_all_different = numbers.windows(2).all(|two| two[0] != two[1]);
                let mut collection = tx.collection(&name)?;
                let created = collection.create_index(index);
                match are_all_different {
                    true => {
                        created?;
                        collection.drop_index("alone")?;
                    }
                    false => {
                        refused(created, |error| matches!(error, Error::Duplicate { .. }))?;
                    }
                }
            }
            1 => {
                let index = Index::on(["n", "name"]);
                people.indexes.insert(index.name(), true);
                tx.collection(&name)?.create_index(index)?;
            }
            _ => {
                let index = one_of(random, &["n", "tags"]);
                people.indexes.insert(index.into(), true);
                tx.collection(&name)?.create_index(Index::on([index]))?;
            }
        },
        _ => {}
    }
    Ok(())
}
