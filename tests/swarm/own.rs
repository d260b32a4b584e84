//! Calls of the database's own, each of which is a transaction by itself, and futures that are polled for a while and dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use aurora::{Aurora, Batch, BlobMeta, Error, Filter, Patch, Result, WriteTransaction};

use super::Run;
use super::changes::{self, More, bytes, key, one_of, prefix, refused};
use super::common::ops::{Op, change};
use super::common::world::{Content, World, person_of};

/// A tree that both kinds of steps use.
const TREE: &str = "t";

type Turns<'a> = Pin<Box<dyn Future<Output = Result<WriteTransaction>> + 'a>>;

impl Run {
    /// One call that changes something.
    pub fn own(&mut self) -> Result<()> {
        match self.random.below(9) {
            0 => self.append_blob(),
            1 => self.apply_batch(),
            2 => self.delete_keys(),
            3 => self.change_found(),
            4 => self.change_tree(),
            5 => self.say_of_blob(),
            6 => self.rename(),
            7 => self.write_later(),
            _ => self.take_turns(),
        }
    }

    fn last_world(&self) -> World {
        self.work.history.last().clone()
    }

    fn append_blob(&mut self) -> Result<()> {
        let (now_ms, db) = (self.now(), self.db());
        let key = key(&mut self.random);
        let mut more = bytes(&mut self.random);
        if self.random.chance(6) {
            more.resize(5 << 19, 7); // more than is kept in memory of it
        }
        let mut world = self.last_world();
        let alive = world.keys.get_mut(&key);
        let alive = alive.filter(|entry| entry.is_alive(now_ms));
        let append = |db: &Aurora, is_awaited: bool| {
            let source = std::io::Cursor::new(more.clone());
            match is_awaited {
                true => pollster::block_on(db.append_blob_async(&key, source)),
                false => db.append_blob(&key, source),
            }
        };
        let is_awaited = self.random.chance(2);
        match alive {
            None => refused(append(&db, is_awaited), |error| {
                matches!(error, Error::BlobNotFound { .. })
            }),
            Some(entry) => match &entry.content {
                Content::Value(_) => refused(append(&db, is_awaited), |error| {
                    matches!(error, Error::WrongKind { .. })
                }),
                Content::Blob(old) => {
                    let content = [&old[..], &more[..]].concat();
                    let size = content.len() as u64;
                    entry.content = Content::Blob(content.into());
                    self.push(world);
                    assert_eq!(append(&db, is_awaited)?.size, size);
                    self.done();
                    Ok(())
                }
            },
        }
    }

    fn apply_batch(&mut self) -> Result<()> {
        let (now_ms, db) = (self.now(), self.db());
        let mut world = self.last_world();
        let mut batch = Batch::new();
        changes::fill_batch(&mut self.random, &mut batch, &mut world, now_ms);
        self.push(world);
        db.apply(batch)?;
        self.done();
        Ok(())
    }

    fn delete_keys(&mut self) -> Result<()> {
        let (now_ms, db) = (self.now(), self.db());
        let mut world = self.last_world();
        if self.random.chance(2) {
            let key = key(&mut self.random);
            world.keys.remove(&key);
            self.push(world);
            return self.finish(db.delete(key));
        }
        let prefix = prefix(&mut self.random);
        let is_meant = |key: &[u8]| key.starts_with(prefix.as_bytes());
        let alive = world.keys.iter();
        let alive = alive.filter(|(key, entry)| is_meant(key) && entry.is_alive(now_ms));
        let alive = alive.count() as u64;
        world.keys.retain(|key, _| !is_meant(key));
        self.push(world);
        let deleted = match self.random.chance(2) {
            true => db.delete_prefix(prefix)?,
            false => {
                // Behind the last key that begins so.
                let end = format!("{prefix}~");
                db.delete_range(prefix..&end)?
            }
        };
        assert_eq!(deleted, alive, "deleted of {prefix:?}");
        self.done();
        Ok(())
    }

    /// What a query finds is changed or deleted.
    fn change_found(&mut self) -> Result<()> {
        let (now_ms, db) = (self.now(), self.db());
        let Some((name, people)) = self.some_collection() else {
            return Ok(());
        };
        let n = self.random.below(6) as i64;
        let mut world = self.last_world();
        let own = &mut world.collections.get_mut(&name).unwrap().people;
        let query = db.query(&name).matching(Filter::eq("n", n));
        let found = people.alive(now_ms).into_iter();
        let found = found.filter(|id| people.people[id].n == n);
        if self.random.chance(2) {
            found.for_each(|id| drop(own.remove(&id)));
            self.push(world);
            return self.finish(query.delete());
        }
        for id in found {
            let person = own.get_mut(&id).unwrap();
            person.n += 1;
            person.tags.push("new".into());
        }
        self.push(world);
        self.finish(query.update(Patch::new().inc("n", 1).push("tags", "new")))
    }

    /// Many entries of a tree at once.
    fn change_tree(&mut self) -> Result<()> {
        let db = self.db();
        let tree = db.tree(TREE)?;
        let mut world = self.last_world();
        let model = world.trees.entry(TREE.into()).or_default();
        let random = &mut self.random;
        let keys: Vec<_> = (0..1 + random.below(60))
            .map(|_| format!("key{:02}", random.below(80)).into_bytes())
            .collect();
        match random.below(4) {
            0 => {
                let entries = keys.into_iter().map(|key| (key, bytes(random)));
                let entries: Vec<_> = entries.collect();
                model.extend(entries.iter().cloned());
                self.push(world);
                tree.put_many(entries)?;
            }
            1 => {
                let before = model.len();
                model.retain(|key, _| !keys.contains(key));
                let gone = (before - model.len()) as u64;
                self.push(world);
                assert_eq!(tree.delete_many(&keys)?, gone);
            }
            2 => {
                let (low, high) = (b"key1".to_vec(), b"key6".to_vec());
                let before = model.len();
                model.retain(|key, _| *key < low || *key >= high);
                let gone = (before - model.len()) as u64;
                self.push(world);
                assert_eq!(tree.delete_range(low..high)?, gone);
            }
            _ => {
                let gone = std::mem::take(model).len() as u64;
                self.push(world);
                assert_eq!(tree.clear()?, gone);
            }
        }
        self.done();
        Ok(())
    }

    /// What is said of a blob changes, and nothing else of it.
    fn say_of_blob(&mut self) -> Result<()> {
        let (now_ms, db) = (self.now(), self.db());
        let key = key(&mut self.random);
        let world = self.last_world();
        let alive = world.keys.get(&key).filter(|entry| entry.is_alive(now_ms));
        let number = self.random.next().to_string();
        let meta = BlobMeta::new().content_type("text/plain");
        let said = db.set_blob_meta(&key, meta.with("number", &number));
        match alive.map(|entry| (&entry.content, entry.expires_ms)) {
            None => refused(said, |error| matches!(error, Error::BlobNotFound { .. })),
            Some((Content::Value(_), _)) => {
                refused(said, |error| matches!(error, Error::WrongKind { .. }))
            }
            Some((Content::Blob(content), expires_ms)) => {
                let said = said?;
                let is_there = (said.size, said.checksum, said.expires_ms);
                let crc = crc32c::crc32c(content);
                assert_eq!(is_there, (content.len() as u64, crc, expires_ms));
                assert_eq!(said.map["number"], number);
                if self.is_full {
                    assert_eq!(db.blob_info(&key)?, Some(said));
                }
                self.push(world); // as it was, in the model
                self.done();
                Ok(())
            }
        }
    }

    fn rename(&mut self) -> Result<()> {
        let db = self.db();
        let Some((from, people)) = self.some_collection() else {
            return Ok(());
        };
        let to = one_of(&mut self.random, &changes::COLLECTIONS);
        let mut world = self.last_world();
        if to != from && world.collections.contains_key(to) {
            let is_taken = |error: &Error| matches!(error, Error::BadCollectionName { .. });
            return refused(db.rename_collection(&from, to), is_taken);
        }
        world.collections.remove(&from);
        world.collections.insert(to.into(), people);
        self.push(world);
        db.rename_collection(&from, to)?;
        self.done();
        Ok(())
    }

    /// A transaction that is submitted, behind another one or not, and given up at any time.
    fn write_later(&mut self) -> Result<()> {
        let (now_ms, db) = (self.now(), self.db());
        let before = self.last_world();
        let mut random = super::common::Random(self.random.next());
        let more = self.more.clone();
        let mut made = None;
        let mut others = self
            .random
            .chance(2)
            .then(|| db.begin_write())
            .transpose()?;
        let patience = self.random.below(5);
        let mut work = db.write_async(|tx| {
            let mut world = before;
            for _ in 0..1 + random.below(3) {
                if more.is_empty() || random.chance(2) {
                    let op = one_of(&mut random, &[Op::Put, Op::Mixed, Op::Large, Op::Run]);
                    change(op, random.next(), tx, &mut world, now_ms)?;
                } else {
                    let op = one_of(&mut random, &more);
                    if op != More::Crowd {
                        changes::change(op, &mut random, &db, tx, &mut world, now_ms)?;
                    }
                }
            }
            made = Some(world);
            Ok(())
        });
        let mut context = Context::from_waker(Waker::noop());
        let mut done = None;
        for polls in 0..patience {
            match Pin::new(&mut work).poll(&mut context) {
                Poll::Ready(ready) => {
                    assert!(others.is_none(), "two have the turn");
                    done = Some(ready);
                    break;
                }
                Poll::Pending => assert!(others.is_some() || self.has_threads, "nobody has it"),
            }
            if polls == 1 {
                others = None;
            }
        }
        drop(others);
        drop(work);
        assert!(
            made.is_none() || done.is_some(),
            "it ran and is not finished"
        );
        let Some(done) = done else { return Ok(()) };
        if let Some(world) = made {
            self.push(world);
        }
        let ((), commit) = done?;
        let at = self.work.history.states.len() - 1;
        match self.random.below(3) {
            0 => {
                commit.wait()?;
                self.done();
            }
            1 => drop(commit),
            _ if self.is_full => self.held.commits.push((at, commit)),
            _ => {}
        }
        Ok(())
    }

    /// Several wait for their turn. Some go away, and the others have it one after the other.
    fn take_turns(&mut self) -> Result<()> {
        let db = self.db();
        let mut first = self
            .random
            .chance(2)
            .then(|| db.begin_write())
            .transpose()?;
        let mut waiting: Vec<Turns<'_>> = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            waiting.push(Box::pin(db.begin_write_async()));
        }
        let mut context = Context::from_waker(Waker::noop());
        let mut rounds = 0;
        while !waiting.is_empty() {
            rounds += 1;
            if rounds > self.random.below(4) {
                first = None;
            }
            let one = self.random.below(waiting.len() as u64) as usize;
            if self.random.chance(4) {
                drop(waiting.remove(one));
                continue;
            }
            let polled = waiting[one].as_mut().poll(&mut context);
            let Poll::Ready(tx) = polled else { continue };
            drop(waiting.swap_remove(one));
            let mut tx = tx?;
            assert!(first.is_none(), "two have the turn");
            let mut world = self.last_world();
            let seed = self.random.next();
            change(Op::Put, seed, &mut tx, &mut world, self.now())?;
            if self.random.chance(3) {
                continue; // and is dropped with its turn
            }
            self.push(world);
            tx.commit()?;
            self.done();
        }
        drop(first);
        assert!(db.try_begin_write()?.is_some() || self.has_threads);
        Ok(())
    }

    /// Answers for many keys at once.
    pub fn get_many(&mut self) -> Result<()> {
        self.settle()?;
        let (now_ms, db) = (self.now(), self.db());
        let world = self.last_world().at(now_ms);
        let keys: Vec<_> = (0..self.random.below(12))
            .map(|_| key(&mut self.random))
            .collect();
        let is_blob = |key: &Vec<u8>| match world.keys.get(key).map(|entry| &entry.content) {
            Some(Content::Blob(_)) => true,
            Some(Content::Value(_)) | None => false,
        };
        let found = db.get_many(&keys);
        if keys.iter().any(is_blob) {
            refused(found, |error| matches!(error, Error::WrongKind { .. }))?;
        } else {
            for (key, found) in keys.iter().zip(found?) {
                let expected = world.keys.get(key).map(|entry| match &entry.content {
                    Content::Value(bytes) | Content::Blob(bytes) => &bytes[..],
                });
                assert_eq!(found.as_deref(), expected, "{key:?}");
            }
        }
        if let Some(tree) = world.trees.get(TREE) {
            let keys = (0..50).map(|n| format!("key{:02}", n * 7 % 100).into_bytes());
            let keys: Vec<_> = keys.collect();
            let found = db.tree(TREE)?.get_many(&keys)?;
            for (key, found) in keys.iter().zip(found) {
                assert_eq!(found.as_ref(), tree.get(key), "{key:?}");
            }
        }
        if let Some((name, people)) = self.some_collection() {
            let alive = people.alive(now_ms);
            let ids: Vec<i64> = (0..30).map(|_| self.random.below(60) as i64).collect();
            let found = db.collection(&name)?.get_many(ids.iter().copied())?;
            for (id, found) in ids.into_iter().zip(found) {
                let found = found.map(|document| person_of(document.fields()));
                let expected = people.people.get(&id).filter(|_| alive.contains(&id));
                assert_eq!(found.as_ref(), expected, "{name} {id}");
            }
        }
        Ok(())
    }
}
