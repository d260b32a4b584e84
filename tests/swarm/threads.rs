//! The swarm with several threads at once: who has the turn to write notes what it is about to commit, so the order of the
//! states is that of the commits, whoever made them. Readers find one of the states that may be there, and so does who
//! comes after the power went.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use aurora::storage::{SimCrash, SimDisk};
use aurora::{Aurora, Durability, Error, Index, Result, WriteTransaction};

use super::changes::{self, More, one_of};
use super::comes_of_trouble;
use super::common::Random;
use super::common::ops::{History, Op, change};
use super::common::world::{
    Content, Entry, SetClock, World, difference, observe, observe_moment, set_now,
};

const WRITERS: u64 = 3;
/// What a round is at the most: calls of each thread.
const CALLS: u64 = 60;

/// A tree that has the number of the state.
const MARKER: &str = "state";

struct Round {
    /// The number of the state at the start.
    first: u64,
    db: Aurora,
    disk: SimDisk,
    now_ms: u64,
    history: Mutex<History>,
    is_over: AtomicBool,
}

/// This index comes and goes in transactions of its own, which nobody notes.
fn without_index(mut world: World) -> World {
    let name = Index::on(["n", "name"]).name();
    for people in world.collections.values_mut() {
        people.indexes.remove(&name);
    }
    world
}

impl Round {
    fn expected(&self, state: &World) -> World {
        without_index(state.at(self.now_ms))
    }

    /// Which of the states from one on is there.
    fn find(&self, found: World, from: usize, what: &str) -> usize {
        let found = without_index(found);
        let states = self.history.lock().unwrap().states.clone();
        let state = (from..states.len()).find(|number| self.expected(&states[*number]) == found);
        state.unwrap_or_else(|| {
            let last = difference(&found, &self.expected(states.last().unwrap()));
            panic!("{what}: none of the states that may be there; beside the last: {last}")
        })
    }

    /// Which state is durable at least.
    fn acknowledged(&self) -> usize {
        self.history.lock().unwrap().acknowledged
    }

    fn acknowledge(&self, state: usize) {
        let mut history = self.history.lock().unwrap();
        history.acknowledged = history.acknowledged.max(state);
    }

    /// What a transaction goes on from: what was noted last, unless its commit failed.
    fn base(&self, tx: &WriteTransaction) -> Result<World> {
        let marker = match tx.view(MARKER) {
            Ok(tree) => tree.get(MARKER)?.map(|marker| marker.to_vec()),
            Err(Error::TreeNotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let marker = marker.map_or(0, |marker| u64::from_be_bytes(marker.try_into().unwrap()));
        let history = self.history.lock().unwrap();
        let number = (marker - self.first) as usize;
        let is_last = number + 1 == history.states.len();
        assert!(is_last || self.disk.has_crashed());
        Ok(World::clone(&history.states[number]))
    }

    fn write(&self, random: &mut Random) -> Result<()> {
        const CHANGES: [Op; 12] = [
            Op::Put,
            Op::Overflow,
            Op::Run,
            Op::DeleteRange,
            Op::CreateTree,
            Op::DropTree,
            Op::RenameTree,
            Op::Insert,
            Op::Update,
            Op::DeleteDocument,
            Op::Mixed,
            Op::Large,
        ];
        let long: Vec<u8> = match random.chance(8) {
            true => vec![random.next() as u8; 5 << 19],
            false => Vec::new(),
        };
        let staged = (!long.is_empty()).then(|| self.db.stage_blob(&long[..]));
        let mut tx = self.db.begin_write()?;
        let mut world = self.base(&tx)?;
        for _ in 0..1 + random.below(4) {
            let savepoint = random.chance(4).then(|| tx.savepoint()).transpose()?;
            let before = savepoint.is_some().then(|| world.clone());
            match random.chance(2) {
                true => {
                    let op = one_of(random, &CHANGES);
                    change(op, random.next(), &mut tx, &mut world, self.now_ms)?;
                }
                false => {
                    let op = one_of(random, &changes::ALL);
                    if op != More::Crowd || random.chance(6) {
                        changes::change(op, random, &self.db, &mut tx, &mut world, self.now_ms)?;
                    }
                }
            }
            if let Some((savepoint, before)) = savepoint.zip(before)
                && random.chance(2)
            {
                tx.roll_back_to(&savepoint)?;
                world = before;
            }
        }
        if let Some(staged) = staged {
            tx.attach_blob("long", staged?)?;
            let entry = Entry {
                content: Content::Blob(long.into()),
                expires_ms: None,
            };
            world.keys.insert(b"long".to_vec(), entry);
        }
        let is_full = !random.chance(3);
        if !is_full {
            tx.set_durability(Durability::Buffered);
        }
        if random.chance(8) {
            tx.roll_back();
            return Ok(());
        }
        let number = self.history.lock().unwrap().states.len() as u64;
        let marker = (self.first + number).to_be_bytes();
        tx.tree(MARKER)?.put(MARKER, marker)?;
        let tree = world.trees.entry(MARKER.into()).or_default();
        tree.insert(MARKER.into(), marker.into());
        let state = {
            let mut history = self.history.lock().unwrap();
            history.push(world);
            history.states.len() - 1
        };
        match random.chance(3) {
            true => pollster::block_on(tx.commit_async()?)?,
            false => tx.commit()?,
        }
        if is_full {
            self.acknowledge(state);
        }
        Ok(())
    }

    fn read(&self, random: &mut Random) -> Result<()> {
        let durable = self.acknowledged();
        let snapshot = self.db.begin_read()?;
        if random.chance(2) {
            self.write(random)?; // and see that nothing of it is in there
        }
        self.find(observe_moment(&snapshot, None)?, durable, "a snapshot");
        Ok(())
    }

    fn care(&self, random: &mut Random) -> Result<()> {
        let some_collection = |random: &mut Random| {
            let history = self.history.lock().unwrap();
            let names: Vec<String> = history.last().collections.keys().cloned().collect();
            (!names.is_empty()).then(|| one_of(random, &names))
        };
        let at_most = |done: Result<()>| match done {
            // Others have renamed it, or dropped it.
            Err(Error::CollectionNotFound { .. } | Error::BadIndex { .. }) => Ok(()),
            done => done,
        };
        match random.below(9) {
            0 => self.db.checkpoint(),
            1 => self.db.compact().map(drop),
            2 => {
                let state = self.history.lock().unwrap().states.len() - 1;
                // What was pushed last may be committed only now.
                self.db.flush()?;
                self.acknowledge(state.saturating_sub(1));
                Ok(())
            }
            3 => self.db.check().map(drop),
            4 => {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("copy.db");
                let durable = self.acknowledged();
                self.db.backup_to(&path)?;
                let copy = SimDisk::from_image(std::fs::read(&path).unwrap(), random.next());
                let builder = Aurora::builder().read_only(true);
                let builder = builder.clock(SetClock::at(self.now_ms));
                let copy = builder.open_storage(copy.storage())?;
                self.find(observe(&copy)?, durable, "a backup");
                Ok(())
            }
            5 | 6 => match some_collection(random) {
                Some(name) => at_most(self.db.create_index(name, Index::on(["n", "name"])).wait()),
                None => Ok(()),
            },
            7 => match some_collection(random) {
                Some(name) => {
                    let index = Index::on(["n", "name"]).name();
                    at_most(self.db.drop_index(name, index).wait())
                }
                None => Ok(()),
            },
            _ => {
                self.db.stats()?;
                self.db.sweep(10).map(drop)
            }
        }
    }

    /// Until all is done, or the power is gone.
    fn run(&self, seed: u64, call: impl Fn(&Self, &mut Random) -> Result<()>) {
        let mut random = Random(seed);
        set_now(self.now_ms);
        for _ in 0..CALLS {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = call(self, &mut random) {
                self.is_over.store(true, Ordering::Relaxed);
                let is_cut = self.disk.has_crashed();
                assert!(is_cut && comes_of_trouble(&error), "{error:?}");
            }
        }
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Ends the others when one panics.
struct Ends<'r>(&'r Round);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

pub fn run(seed: u64, rounds: u64) {
    let mut random = Random(seed);
    let mut disk = SimDisk::new(seed);
    let mut world = World::default();
    let clock = SetClock::at(1_750_000_000_000);
    let page_size = 4096 << random.below(3);
    for number in 0..rounds {
        clock.advance(random.below(90_000));
        let db = Aurora::builder()
            .page_size(page_size)
            .memory_limit(one_of(&mut random, &[1 << 20, 4 << 20, 64 << 20]))
            .log_limit(one_of(&mut random, &[64 << 10, 256 << 10, 4 << 20]))
            .hot_limit(one_of(&mut random, &[0, 64 << 10, 1 << 20]))
            .clock(clock.clone())
            .open_storage(disk.storage())
            .unwrap_or_else(|error| panic!("seed {seed}, round {number}: {error}"));
        let marker = world
            .trees
            .get(MARKER)
            .map(|tree| tree[MARKER.as_bytes()].clone());
        let first = marker.map_or(0, |marker| u64::from_be_bytes(marker.try_into().unwrap()));
        let round = Round {
            first,
            db,
            disk: disk.clone(),
            now_ms: clock.now(),
            history: Mutex::new(History::new(world)),
            is_over: AtomicBool::new(false),
        };
        set_now(round.now_ms);
        let is_cut = !random.chance(3);
        if is_cut {
            disk.crash_after(1 + random.below(500));
        }
        std::thread::scope(|scope| {
            let round = &round;
            for writer in 0..WRITERS {
                let seed = random.next() + writer;
                scope.spawn(move || {
                    let _ends = Ends(round);
                    round.run(seed, Round::write);
                });
            }
            for call in [Round::read, Round::care] {
                let seed = random.next();
                scope.spawn(move || {
                    let _ends = Ends(round);
                    round.run(seed, call);
                });
            }
        });
        let what = format!("seed {seed}, round {number}");
        let seed = random.next();
        let next = if is_cut {
            disk.crash_after(0); // if it was not before
            disk.crash_image(match seed % 4 {
                0 => SimCrash::LoseAll,
                1 => SimCrash::KeepAll,
                2 => SimCrash::Sectors { seed },
                _ => SimCrash::Random { seed },
            })
        } else {
            round.db.flush().unwrap();
            round.db.check().unwrap();
            let last = round.history.lock().unwrap().states.len() - 1;
            round.find(observe(&round.db).unwrap(), last, &what);
            round.acknowledge(last);
            match seed % 3 {
                0 => disk.kill_image(),
                1 => disk.crash_image(SimCrash::LoseAll),
                _ => {
                    round.db.clone().close().unwrap();
                    disk.reopen()
                }
            }
        };
        let Round {
            db,
            history,
            now_ms,
            ..
        } = round;
        drop(db);
        let builder = Aurora::builder().clock(clock.clone()).background(false);
        let db = builder.open_storage(next.storage());
        let db = db.unwrap_or_else(|error| panic!("{what}: {error}"));
        let round = Round {
            first,
            db,
            disk: next.clone(),
            now_ms,
            history,
            is_over: AtomicBool::new(false),
        };
        round
            .db
            .check()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let durable = round.acknowledged();
        let state = round.find(observe(&round.db).unwrap(), durable, &what);
        world = World::clone(&round.history.lock().unwrap().states[state]);
        round.db.close().unwrap();
        disk = next;
    }
}
