//! Steps of the swarm that are more than one transaction, or that others come in between of.

use std::collections::VecDeque;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};

use aurora::storage::SimDisk;
use aurora::{Aurora, Error, IfThere, Index, Result};

use super::changes::one_of;
use super::common::Random;
use super::common::ops::History;
use super::common::world::{Content, Entry, Extra, People, World, difference, observe, set_now};
use super::{Held, Run};

/// An error that came through a writer of the standard library.
fn of_io(error: std::io::Error) -> Error {
    let inner = error.into_inner().and_then(|inner| inner.downcast().ok());
    *inner.expect("an error of the database")
}

/// More than is kept in memory of a blob that comes in.
const LONG: usize = 5 << 19;

impl Run {
    /// What was pushed before is committed, as durably as the database's commits are.
    pub fn done(&mut self) {
        if self.is_full {
            self.work.history.acknowledge();
        }
    }

    pub fn push(&mut self, world: World) {
        self.work.history.push(world);
    }

    pub fn some_collection(&mut self) -> Option<(String, People)> {
        let collections = &self.work.history.last().collections;
        let names: Vec<_> = collections.keys().cloned().collect();
        let name = (!names.is_empty()).then(|| one_of(&mut self.random, &names))?;
        let people = collections[&name].clone();
        Some((name, people))
    }

    /// Waited for, awaited, or polled once and dropped: then it is done or undone, which is found out.
    pub fn finish<T: Send + 'static>(&mut self, mut work: aurora::Work<'static, T>) -> Result<()> {
        match self.random.below(3) {
            0 => drop(work.wait()?),
            1 => drop(pollster::block_on(work)?),
            _ => {
                let mut context = Context::from_waker(Waker::noop());
                match Pin::new(&mut work).poll(&mut context) {
                    Poll::Ready(done) => drop(done?),
                    Poll::Pending => {
                        drop(work);
                        let db = self.db();
                        db.flush()?;
                        let state = self.find(&db)?;
                        self.work.history.states.truncate(state + 1);
                        return self.settle();
                    }
                }
            }
        }
        self.done();
        Ok(())
    }

    pub fn alter(&mut self) -> Result<()> {
        let (now_ms, db) = (self.now(), self.db());
        let Some((name, old)) = self.some_collection() else {
            return Ok(());
        };
        let random = &mut self.random;
        let mut new = People {
            is_kept: random.chance(2),
            extra: one_of(random, &[Extra::No, Extra::Yes, Extra::WithDefault]),
            ..People::default()
        };
        let mut indexes = vec!["name".to_string()];
        if new.extra != Extra::No && random.chance(2) {
            indexes.push("extra".into());
        }
        for index in ["n".into(), "tags".into(), Index::on(["n", "name"]).name()] {
            if random.chance(2) {
                indexes.push(index);
            }
        }
        new.indexes = indexes.into_iter().map(|index| (index, true)).collect();
        let alive = old.alive(now_ms);
        let is_refused =
            new.extra == Extra::No && alive.iter().any(|id| old.people[id].extra.is_some());
        for id in alive {
            let person = new.fitted(old.people[&id].clone());
            if new.is_alive(&person, now_ms) {
                new.people.insert(id, person);
            }
        }
        let altered = db.alter_collection(&name, new.schema());
        if is_refused {
            let error = altered.wait().expect_err("a document does not fit");
            return match error {
                Error::UnknownField { .. } => Ok(()),
                other => Err(other),
            };
        }
        let mut world = self.work.history.last().clone();
        world.collections.insert(name, new);
        self.push(world);
        self.finish(altered)
    }

    pub fn delete_collection(&mut self) -> Result<()> {
        let db = self.db();
        let Some((name, _)) = self.some_collection() else {
            return Ok(());
        };
        let mut world = self.work.history.last().clone();
        world.collections.remove(&name);
        self.push(world);
        self.finish(db.delete_collection(&name))
    }

    /// In the background, with transactions of others between its steps. It may be dropped meanwhile, and its collection
    /// may get another schema or another name, or be deleted.
    pub fn build_index(&mut self) -> Result<()> {
        let db = self.db();
        let Some((name, people)) = self.some_collection() else {
            return Ok(());
        };
        let index = Index::on(["n", "name"]);
        if people.indexes.get(&index.name()) == Some(&true) {
            return Ok(());
        }
        let with = |world: &World, is_ready: bool| {
            let mut world = world.clone();
            let people = world.collections.get_mut(&name)?;
            let known = people.indexes.get_mut(&index.name());
            known.map(|known| *known = is_ready)?;
            Some(world)
        };
        let mut world = self.work.history.last().clone();
        let people = world.collections.get_mut(&name).unwrap();
        people.indexes.insert(index.name(), false);
        self.push(world);
        let building = self.work.history.states.len() - 1;
        let (reached, at_step): (Sender<bool>, Receiver<bool>) = channel();
        let (go_on, told): (Sender<()>, Receiver<()>) = channel();
        let built = db.create_index_with(&name, index.clone(), move |progress| {
            let _ = reached.send(progress.done >= progress.total);
            let _ = told.recv();
        });
        std::thread::scope(|scope| {
            let builder = scope.spawn(|| built.wait());
            let mut others = Ok(());
            loop {
                // Each of its steps may be the last.
                let before = self.work.history.states.len();
                let last = with(self.work.history.last(), true);
                let is_there = last.is_some();
                if let Some(last) = last {
                    self.push(last);
                }
                let Ok(is_done) = at_step.recv() else {
                    break;
                };
                if !is_done {
                    self.work.history.states.truncate(before);
                    for _ in 0..self.random.below(4) {
                        if others.is_ok() {
                            others = self.transaction();
                        }
                    }
                    if others.is_ok() && self.random.chance(8) {
                        others = self.alter();
                    }
                } else if !is_there {
                    break;
                }
                if others.is_err() || go_on.send(()).is_err() || is_done {
                    break;
                }
            }
            if others.is_err() {
                // It may still come to its end, with what failed or without it.
                let states = &self.work.history.states;
                let possible = states.iter().skip(building);
                let ready: Vec<World> = possible.filter_map(|world| with(world, true)).collect();
                ready.into_iter().for_each(|world| self.push(world));
            }
            drop((go_on, at_step));
            let built = builder.join().expect("the builder does not panic");
            others?;
            match built {
                Ok(()) => {}
                Err(Error::BadIndex { .. } | Error::CollectionNotFound { .. })
                    if !self.is_there(&name, &index) => {}
                Err(error) => return Err(error),
            }
            self.settle()
        })
    }

    fn is_there(&self, name: &str, index: &Index) -> bool {
        let people = self.work.history.last().collections.get(name);
        people.is_some_and(|people| people.indexes.contains_key(&index.name()))
    }

    /// A collection goes out and comes in again.
    pub fn export(&mut self) -> Result<()> {
        self.settle()?;
        let (now_ms, db) = (self.now(), self.db());
        let Some((name, people)) = self.some_collection() else {
            return Ok(());
        };
        let alive = people.alive(now_ms);
        let count = alive.len() as u64;
        let format = self.random.below(3);
        let mut file = Vec::new();
        let export = db.export(&name);
        let written = match format {
            0 => export.write_json(&mut file)?,
            1 => export.write_json_lines(&mut file)?,
            _ => export.write_csv(&mut file)?,
        };
        assert_eq!(written, count, "exported of {name}");
        let if_there = match self.random.below(3) {
            0 => IfThere::Replace,
            1 => IfThere::Skip,
            _ => {
                let mut world = self.work.history.last().clone();
                world.collections.get_mut(&name).unwrap().people.clear();
                self.push(world);
                assert_eq!(db.query(&name).delete().wait()?, count);
                self.done();
                IfThere::Refuse
            }
        };
        let mut world = self.work.history.last().clone();
        let own = world.collections.get_mut(&name).unwrap();
        for id in alive {
            own.people.insert(id, people.people[&id].clone());
        }
        self.push(world);
        let import = db.import(&name).if_there(if_there);
        let imported = match format {
            0 => import.read_json(&file[..])?,
            1 => import.read_json_lines(&file[..])?,
            _ => import.read_csv(&file[..])?,
        };
        let taken = match if_there {
            IfThere::Skip => (0, count),
            _ => (count, 0),
        };
        assert_eq!((imported.taken, imported.skipped), taken, "{imported:?}");
        self.done();
        Ok(())
    }

    /// A copy has what was committed. Some runs go on in it.
    pub fn backup(&mut self) -> Result<()> {
        self.settle()?;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("copy.db");
        match self.random.chance(2) {
            true => self.db().backup_to(&path)?,
            false => pollster::block_on(self.db().backup_to_async(&path))?,
        }
        let copy = SimDisk::from_image(std::fs::read(&path).unwrap(), self.random.next());
        if self.random.chance(2) {
            let last = World::clone(self.work.history.last());
            self.leave();
            self.work.disk = copy;
            self.work.history = History::new(last);
            self.open();
            return self.look();
        }
        let db = self.options().open_storage(copy.reopen().storage())?;
        db.check()?;
        set_now(self.now());
        let (found, expected) = (observe(&db)?, self.work.history.last().at(self.now()));
        let differ = || difference(&found, &expected);
        assert!(found == expected, "the backup: {}", differ());
        db.close()
    }

    /// Blobs come in, by and by, and some are given up.
    pub fn stage(&mut self) -> Result<()> {
        let db = self.db();
        // In some runs several of them are on their way at once.
        let is_long = self.seed % 5 == 2;
        let content = |random: &mut Random| {
            let length = match is_long {
                true => one_of(random, &[10, LONG, LONG]),
                false => one_of(random, &[0, 10, 9_000, 300_000, LONG]),
            };
            let fill = random.next() as u8;
            let content = (0..length).map(|i| fill.wrapping_add((i / 1000) as u8));
            content.collect::<Vec<u8>>()
        };
        match self.random.below(6) {
            0 => {
                let content = content(&mut self.random);
                let staged = db.stage_blob(&content[..])?;
                assert_eq!(staged.size(), content.len() as u64);
                self.held.staged.push((staged, content));
            }
            1 => {
                let key = one_of(&mut self.random, &["blob0", "blob1", "long"]);
                let key = key.as_bytes().to_vec();
                let writer = db.blob_writer(&key);
                self.held.writers.push((writer, key, Vec::new()));
            }
            2 | 3 => {
                let Some(mut held) = self.held.writers.pop() else {
                    return Ok(());
                };
                let more = content(&mut self.random);
                if held.2.len() < 2 * LONG {
                    held.0.write_all(&more).map_err(of_io)?;
                    held.2.extend(more);
                }
                self.held.writers.push(held);
            }
            4 => {
                let Some((writer, key, content)) = self.held.writers.pop() else {
                    return Ok(());
                };
                let mut world = self.work.history.last().clone();
                let entry = Entry {
                    content: Content::Blob(content.into()),
                    expires_ms: None,
                };
                world.keys.insert(key, entry);
                self.push(world);
                writer.finish()?;
                self.done();
            }
            _ => {
                // Given up.
                let staged = self.held.staged.pop();
                let writer = self.held.writers.pop();
                drop((staged, writer));
            }
        }
        Ok(())
    }

    pub fn pass_time(&mut self) -> Result<()> {
        let ms = one_of(&mut self.random, &[1, 2_000, 6_000, 45_000, 120_000]);
        self.work.clock.advance(ms);
        let db = self.db();
        db.contains("seen by the database")?;
        if self.random.chance(2) {
            db.sweep(self.random.below(30) as usize)?;
        }
        Ok(())
    }

    pub fn set_clock_back(&mut self) -> Result<()> {
        self.db().contains("seen by the database")?;
        let ms = 1 + self.random.below(100_000);
        self.work.clock.set_back(ms);
        Ok(())
    }

    /// Rows that come one by one, whatever happens meanwhile.
    pub fn hold_rows(&mut self) -> Result<()> {
        self.settle()?;
        let Some((name, people)) = self.some_collection() else {
            return Ok(());
        };
        let alive = people.alive(self.now()).into_iter();
        let expected: VecDeque<_> = alive.map(|id| (id, people.people[&id].clone())).collect();
        let query = self.db().query(&name).order_by("id", true);
        self.held.rows.push((query.rows()?, expected));
        Ok(())
    }

    /// The time that a database has, which may lie behind the one that was reached before, if the clock was set back.
    pub fn learn_time(&mut self, db: &Aurora) -> Result<()> {
        const TTL_MS: u64 = 1_000_000;
        let mut tx = db.begin_write()?;
        tx.put_blob_from("probe", &b""[..])?;
        tx.expire("probe", std::time::Duration::from_millis(TTL_MS))?;
        let info = tx.blob_info("probe")?.expect("a blob");
        tx.roll_back();
        let now_ms = info.expires_ms.expect("it expires") - TTL_MS;
        let (says_ms, reached_ms) = (self.work.clock.says(), self.now());
        assert!(
            (says_ms..=reached_ms.max(says_ms)).contains(&now_ms),
            "it is {now_ms}, the clock says {says_ms}, and {reached_ms} was reached"
        );
        self.work.clock.reach(now_ms);
        Ok(())
    }

    /// Without a word to the database.
    pub fn leave(&mut self) {
        self.work.disk.crash_after(0); // a close would write
        self.held = Held::default();
        self.work.db = None;
    }
}
