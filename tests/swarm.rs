//! Swarm testing: each run draws its own mixture of operations, its own options and its own troubles, and goes on in one
//! file through all of them: transactions with savepoints in savepoints, beyond the memory limit too; schemas that change,
//! collections that get other names; work within a compaction and between the steps of an index that is built; blobs that come in
//! by and by; exports and imports; backups, and going on in one; snapshots, scans, rows and
//! blob readers that are held meanwhile; other options with each open; a clock that jumps; calls that fail, a disk that is full
//! for a while, power cuts, and power cuts of the recovery. What the other suites try by themselves meets here. Against the plain
//! model. In one run of four the database has its threads.
//!
//! Longer with `AURORA_TEST_BUDGET`; one run again with `AURORA_SEED`.

#[path = "swarm/changes.rs"]
mod changes;
mod common;
#[path = "swarm/own.rs"]
mod own;
#[path = "swarm/steps.rs"]
mod steps;
#[path = "swarm/threads.rs"]
mod threads;

use std::collections::VecDeque;

use aurora::storage::{SimCrash, SimDisk, SimFailedSync, SimFault, SimOperation, SimTarget};
use aurora::{
    Aurora, BlobReader, BlobWriter, Builder, Collection, Commit, Durability, Entry, Error, Result,
    Rows, Savepoint, Scan, Snapshot, StagedBlob,
};
use changes::{More, one_of};
use common::ops::{History, Op, Work, change};
use common::world::{
    Content, People, Person, SetClock, World, difference, observe, observe_moment, person_of,
    schema, set_now,
};
use common::{Random, budget, each};

type Do = fn(&mut Run) -> Result<()>;

/// What a run may do, and whether it does so while calls fail: one trouble at a time.
const STEPS: [(&str, Do, bool); 27] = [
    ("index", Run::build_index, true),
    ("index", Run::build_index, true),
    ("expire", Run::pass_time, true),
    ("clock back", Run::set_clock_back, true),
    ("checkpoint", Run::checkpoint, true),
    ("alter", Run::alter, true),
    ("delete collection", Run::delete_collection, true),
    ("export", Run::export, true),
    ("stage", Run::stage, true),
    ("stage", Run::stage, true),
    ("stage", Run::stage, true),
    ("rows", Run::hold_rows, true),
    ("own", Run::own, true),
    ("own", Run::own, true),
    ("own", Run::own, true),
    ("own", Run::own, true),
    ("many", Run::get_many, true),
    ("backup", Run::backup, false),
    ("flush", Run::settle, true),
    ("compact", Run::compact, true),
    ("hold", Run::hold, true),
    ("release", Run::release, true),
    ("look", Run::look, false),
    ("read only", Run::read_only, false),
    ("reopen", Run::reopen, false),
    ("crash", Run::crash, false),
    ("trouble", Run::trouble, false),
];
const TRANSACTION: (&str, Do, bool) = ("transaction", Run::transaction, true);

/// What is kept while the database goes on, with what it has to show.
#[derive(Default)]
struct Held {
    /// With the time at which it was taken.
    snapshots: Vec<(Snapshot, World, u64)>,
    rows: Vec<(Rows<'static>, VecDeque<(i64, Person)>)>,
    staged: Vec<(StagedBlob, Vec<u8>)>,
    writers: Vec<(BlobWriter, Vec<u8>, Vec<u8>)>,
    collections: Vec<Collection>,
    scans: Vec<(Scan<'static>, VecDeque<Entry>)>,
    blobs: Vec<(BlobReader, std::sync::Arc<[u8]>)>,
    commits: Vec<(usize, Commit)>,
}

struct Run {
    seed: u64,
    random: Random,
    work: Work,
    held: Held,
    /// This run's mixture.
    changes: Vec<Op>,
    more: Vec<More>,
    steps: Vec<(&'static str, Do, bool)>,
    page_size: u32,
    has_threads: bool,
    /// What the database's own commits promise.
    is_full: bool,
    /// Calls may fail.
    is_troubled: bool,
    log: Vec<&'static str>,
}

/// Says which seed to run again.
impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.log.len().saturating_sub(30);
            eprintln!("seed {} after {:?}", self.seed, &self.log[last..]);
            self.work.disk.crash_after(0); // a close would write
        }
    }
}

/// Whether the collections have these schemas, in all that they say.
fn has_schemas(db: &Aurora, world: &World) -> Result<bool> {
    let mut tx = match db.begin_write() {
        Err(Error::ReadOnly | Error::Poisoned { .. }) => return Ok(true), // they cannot be asked for
        tx => tx?,
    };
    for (name, people) in &world.collections {
        match tx.new_collection(name, people.schema()) {
            Err(Error::CollectionExists { .. }) => return Ok(false),
            same => same?,
        }
    }
    Ok(true)
}

fn comes_of_trouble(error: &Error) -> bool {
    let other = matches!(error, Error::TransactionFailed | Error::Closed);
    error.is_io() || error.is_poisoned() || other
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let steps = STEPS.into_iter().filter(|_| !random.chance(3));
        let steps = steps.chain([TRANSACTION; 8]).collect();
        let few = 1 + random.below(3);
        let within = |op: &Op| {
            use Op::*;
            !matches!(
                op,
                Buffered | Expire | CreateIndex | RolledBack | Checkpoint | CompactStep | Reopen
            )
        };
        let changes = Op::ALL.into_iter().filter(within);
        let changes = changes
            .filter(|op| *op == Op::Put || random.below(4) >= few)
            .collect();
        let more = changes::ALL.into_iter();
        let more = more.filter(|op| match op {
            More::Crowd => seed % 8 == 1, // it takes long
            More::Huge => seed % 3 == 1,
            _ => random.below(4) >= few,
        });
        let more = more.collect();
        let mut run = Run {
            seed,
            work: Work {
                db: None,
                disk: SimDisk::new(seed),
                clock: SetClock::at(1_750_000_000_000),
                history: History::new(World::default()),
            },
            held: Held::default(),
            changes,
            more,
            steps,
            has_threads: seed % 4 == 3,
            is_full: true,
            page_size: 4096 << random.below(5),
            is_troubled: false,
            log: Vec::new(),
            random,
        };
        run.open();
        run
    }

    /// Other options each time. (The page size is that of the file, whatever is asked for.)
    fn options(&mut self) -> Builder {
        let mut of = |choices: &[u64]| choices[self.random.below(choices.len() as u64) as usize];
        let is_new = self.work.disk.counters().mutating_calls() == 0;
        Aurora::builder()
            .background(self.has_threads)
            .durability(match self.is_full {
                true => Durability::Full,
                false => Durability::Buffered,
            })
            .salt(7)
            .page_size(if is_new {
                self.page_size
            } else {
                4096 << of(&[0, 4])
            })
            .memory_limit(of(&[1 << 20, 1 << 20, 3 << 20, 64 << 20]) as usize)
            .log_limit(of(&[64 << 10, 64 << 10, 128 << 10, 1 << 20]))
            .hot_limit(of(&[0, 1, 64 << 10, 1 << 20]) as usize)
            .clock(self.work.clock.clone())
    }

    fn open(&mut self) {
        self.is_full = !self.random.chance(4);
        let storage = self.work.disk.reopen().storage();
        let db = self.options().open_storage(storage).unwrap();
        self.learn_time(&db).unwrap();
        self.work.db = Some(db);
    }

    fn db(&self) -> Aurora {
        self.work.db().clone()
    }

    fn now(&self) -> u64 {
        self.work.clock.now()
    }

    fn step(&mut self) -> Result<()> {
        let step = self.steps[self.random.below(self.steps.len() as u64) as usize];
        let is_out_of_place = self.is_troubled && !step.2;
        let (name, step, _) = if is_out_of_place { TRANSACTION } else { step };
        self.log.push(name);
        step(self)
    }

    fn checkpoint(&mut self) -> Result<()> {
        let db = self.db();
        match self.random.chance(2) {
            true => db.checkpoint()?,
            false => pollster::block_on(db.checkpoint_async())?,
        }
        self.work.history.acknowledge();
        Ok(())
    }

    fn transaction(&mut self) -> Result<()> {
        let now_ms = self.now();
        let mut world = self.work.history.last().clone();
        let db = self.db();
        let mut tx = match self.random.chance(2) {
            true => db.begin_write()?,
            false => pollster::block_on(db.begin_write_async())?,
        };
        if self.random.chance(8) {
            assert!(db.try_begin_write()?.is_none());
        }
        let mut saved: Vec<(Savepoint, World)> = Vec::new();
        let most = [1, 3, 12][self.random.below(3) as usize];
        for _ in 0..1 + self.random.below(most) {
            match self.random.below(10) {
                0 => saved.push((tx.savepoint()?, world.clone())),
                1 if !saved.is_empty() => {
                    saved.truncate(1 + self.random.below(saved.len() as u64) as usize);
                    let (savepoint, before) = saved.last().unwrap();
                    tx.roll_back_to(savepoint)?;
                    world = before.clone();
                }
                2 if !world.collections.contains_key("people") => {
                    tx.new_collection("people", schema())?;
                    world.collections.insert("people".into(), People::created());
                }
                3 if !self.held.staged.is_empty() => {
                    let (staged, content) = self.held.staged.pop().unwrap();
                    tx.attach_blob("long", staged)?;
                    let entry = common::world::Entry {
                        content: Content::Blob(content.into()),
                        expires_ms: None,
                    };
                    world.keys.insert(b"long".to_vec(), entry);
                }
                4..7 if !self.more.is_empty() => {
                    let op = one_of(&mut self.random, &self.more);
                    changes::change(op, &mut self.random, &db, &mut tx, &mut world, now_ms)?;
                }
                _ => {
                    let op = one_of(&mut self.random, &self.changes);
                    change(op, self.random.next(), &mut tx, &mut world, now_ms)?;
                }
            }
        }
        let is_full = !self.random.chance(3);
        tx.set_durability(if is_full {
            Durability::Full
        } else {
            Durability::Buffered
        });
        match self.random.below(8) {
            0 => tx.roll_back(),
            1 => {
                self.work.history.push(world);
                let commit = tx.commit_async()?;
                if is_full && self.random.chance(2) {
                    let at = self.work.history.states.len() - 1;
                    self.held.commits.push((at, commit));
                }
            }
            _ => {
                self.work.history.push(world);
                tx.commit()?;
                if is_full {
                    self.work.history.acknowledge();
                }
            }
        }
        Ok(())
    }

    /// All that was committed is durable, and visible: what was before need not be remembered.
    fn settle(&mut self) -> Result<()> {
        self.db().flush()?;
        self.work.history = History::new(World::clone(self.work.history.last()));
        for (at, _) in &mut self.held.commits {
            *at = 0;
        }
        Ok(())
    }

    /// Transactions between its steps.
    fn compact(&mut self) -> Result<()> {
        let mut done = Ok(());
        let compacted = self.db().compact_with(|_| {
            for _ in 0..self.random.below(3) {
                if done.is_ok() {
                    done = self.transaction();
                }
            }
            done.is_ok()
        });
        done?;
        compacted.map(drop)
    }

    fn hold(&mut self) -> Result<()> {
        self.settle()?;
        let db = self.db();
        let world = self.work.history.last().at(self.now());
        let snapshot = db.begin_read()?;
        self.held
            .snapshots
            .push((snapshot, world.clone(), self.now()));
        let mut values = VecDeque::new();
        for (key, entry) in world.keys {
            match entry.content {
                Content::Value(value) => values.push_back((key, value.to_vec())),
                Content::Blob(bytes) => {
                    let blob = db.get_blob(&key)?.expect("a blob");
                    self.held.blobs.push((blob, bytes));
                }
            }
        }
        self.held.scans.push((db.scan::<&[u8]>(..)?, values));
        Ok(())
    }

    /// Goes on with what is held, from both ends and in the middle, and lets go of some.
    fn release(&mut self) -> Result<()> {
        for (scan, values) in &mut self.held.scans {
            let (found, expected) = match self.random.chance(2) {
                true => (scan.next(), values.pop_front()),
                false => (scan.next_back(), values.pop_back()),
            };
            assert_eq!(found.transpose()?, expected, "a held scan");
        }
        for (blob, bytes) in &self.held.blobs {
            let at = self.random.below(bytes.len() as u64 + 1);
            let found = blob.read_at(at, 5000).wait()?;
            let expected = &bytes[at as usize..];
            assert!(found == expected[..expected.len().min(5000)], "a held blob");
        }
        for (rows, expected) in &mut self.held.rows {
            for _ in 0..self.random.below(20) {
                let row = rows.next().transpose()?;
                let row = row.map(|row| match row.id.value() {
                    aurora::Value::Int(id) => (*id, person_of(row.fields())),
                    other => panic!("the id {other:?}"),
                });
                assert_eq!(row, expected.pop_front(), "held rows");
            }
        }
        for (snapshot, seen, taken_ms) in &self.held.snapshots {
            set_now(*taken_ms);
            let found = observe_moment(snapshot, None)?;
            let differ = || difference(&found, seen);
            assert!(&found == seen, "a held snapshot: {}", differ());
        }
        if self.random.chance(2) {
            self.held.snapshots.pop();
            self.held.scans.clear();
            self.held.blobs.clear();
            self.held.rows.pop();
        }
        let count = self.held.commits.len() as u64;
        if count > 0 {
            let (at, commit) = self.held.commits.remove(self.random.below(count) as usize);
            commit.wait()?;
            self.work.history.acknowledged = self.work.history.acknowledged.max(at);
        }
        Ok(())
    }

    /// Everything is as it should be.
    fn look(&mut self) -> Result<()> {
        self.settle()?;
        let db = self.db();
        db.check()?;
        set_now(self.now());
        let (found, expected) = (observe(&db)?, self.work.history.last().at(self.now()));
        assert!(found == expected, "{}", difference(&found, &expected));
        self.look_by_handles()
    }

    /// Handles that were made once find what has their name now.
    fn look_by_handles(&mut self) -> Result<()> {
        let world = self.work.history.last().at(self.now());
        for collection in &self.held.collections {
            let Some(people) = world.collections.get(collection.name()) else {
                let found = collection.get(0);
                let is_gone = matches!(found, Err(Error::CollectionNotFound { .. }));
                assert!(is_gone, "{}: {found:?}", collection.name());
                continue;
            };
            for id in 0..40 {
                let found = collection.get(id)?;
                let found = found.map(|document| person_of(document.fields()));
                let name = collection.name();
                assert_eq!(found.as_ref(), people.people.get(&id), "{name} {id}");
            }
        }
        if self.held.collections.len() < 6
            && let Some(name) = world.collections.keys().next_back()
        {
            self.held.collections.push(self.db().collection(name)?);
        }
        Ok(())
    }

    fn read_only(&mut self) -> Result<()> {
        let image = self.work.disk.kill_image();
        let before = image.image();
        let clock = SetClock::at(self.now());
        let reader = self.options().read_only(true).clock(clock);
        let db = reader.open_storage(image.reopen().storage())?;
        self.find(&db)?;
        db.close()?;
        assert!(image.image() == before, "a reader has written");
        Ok(())
    }

    fn reopen(&mut self) -> Result<()> {
        self.held = Held::default();
        self.work.db.take().unwrap().close()?;
        self.work.history.acknowledge();
        let reached_ms = self.now();
        self.open();
        let mut keys = self.work.history.last().keys.values();
        if keys.any(|entry| {
            entry
                .expires_ms
                .is_some_and(|expires| expires <= reached_ms)
        }) {
            assert!(self.now() >= reached_ms, "what has expired can come back");
        }
        self.look()
    }

    fn variant(&mut self) -> SimCrash {
        let seed = self.random.next();
        match seed % 7 {
            0 => SimCrash::LoseAll,
            1 => SimCrash::KeepAll,
            2 => SimCrash::OnlyWrites,
            3 => SimCrash::OnlyLengths,
            4 => SimCrash::Bytes { seed },
            5 => SimCrash::Random { seed },
            _ => SimCrash::Sectors { seed },
        }
    }

    /// The power goes, mostly in the middle of something.
    fn crash(&mut self) -> Result<()> {
        self.is_troubled = true;
        self.work.disk.crash_after(1 + self.random.below(60));
        for _ in 0..20 {
            if let Err(error) = self.step() {
                assert!(
                    self.work.disk.has_crashed() && comes_of_trouble(&error),
                    "{error:?}"
                );
                break;
            }
        }
        let variant = self.variant();
        let image = self.work.disk.crash_image(variant);
        self.recover(image)
    }

    /// Goes on with what is left; the recovery may be cut as well.
    fn recover(&mut self, mut image: SimDisk) -> Result<()> {
        self.leave();
        self.is_troubled = false;
        while self.random.chance(3) {
            image.crash_after(self.random.below(14));
            let opened = self.options().open_storage(image.reopen().storage());
            if let Err(error) = &opened {
                assert!(image.has_crashed() && comes_of_trouble(error), "{error:?}");
            }
            let variant = self.variant();
            let next = image.crash_image(variant);
            image.crash_after(0);
            drop(opened);
            image = next;
        }
        self.work.disk = image;
        self.open();
        let db = self.db();
        let state = self.find(&db)?;
        self.work.history = History::new(World::clone(&self.work.history.states[state]));
        self.look()
    }

    /// Which state the database shows, of those that may be there.
    fn find(&self, db: &Aurora) -> Result<usize> {
        set_now(self.now());
        let (found, history) = (observe(db)?, &self.work.history);
        let mut possible = (history.acknowledged..history.states.len()).rev();
        let mut state = None;
        for number in possible.by_ref() {
            let possible = &history.states[number];
            if possible.at(self.now()) == found && has_schemas(db, possible)? {
                state = Some(number);
                break;
            }
        }
        Ok(state.unwrap_or_else(|| {
            let last = difference(&found, &history.last().at(self.now()));
            panic!("none of the states that may be there; beside the last: {last}")
        }))
    }

    /// Calls fail, or the disk is full, for a while.
    fn trouble(&mut self) -> Result<()> {
        self.is_troubled = true;
        let disk = self.work.disk.clone();
        let lost = [
            SimFailedSync::Lost,
            SimFailedSync::Kept,
            SimFailedSync::Partly,
        ];
        disk.set_failed_sync(lost[self.random.below(3) as usize]);
        let room = disk.image().len() as u64 + [0, 5000, 60_000][self.random.below(3) as usize];
        let targets = [
            SimOperation::Read.into(),
            SimTarget::Writes,
            SimTarget::Syncs,
            SimTarget::Any,
        ];
        let target: SimTarget = targets[self.random.below(4) as usize];
        let fault = [SimFault::Eio, SimFault::Partial][self.random.below(2) as usize];
        let nth = 1 + self.random.below(40);
        match self.random.below(4) {
            0 => disk.set_capacity(Some(room)),
            1 => disk.set_room(Some(room)),
            2 => disk.fail_once(target, nth, fault),
            _ => disk.fail_from(target, nth, fault),
        }
        for _ in 0..1 + self.random.below(10) {
            let before = self.work.history.states.len();
            let Err(error) = self.step() else { continue };
            assert!(comes_of_trouble(&error), "{error:?}");
            let is_refused = self.db().try_begin_write().is_err();
            if is_refused || self.log.last() != Some(&TRANSACTION.0) {
                break; // what is there of it is not known
            }
            self.work.history.states.truncate(before); // it never happened
        }
        disk.clear_faults();
        disk.set_capacity(None);
        disk.set_room(None);
        self.is_troubled = false;
        let db = self.db();
        if db.flush().is_err() {
            self.find(&db)?; // reads go on
            let variant = self.variant();
            let is_killed = self.random.chance(3);
            let killed = is_killed.then(|| disk.kill_image());
            return self.recover(killed.unwrap_or_else(|| disk.crash_image(variant)));
        }
        let state = self.find(&db)?;
        self.held.commits.clear();
        self.work.history.states.truncate(state + 1);
        self.settle()?;
        self.look()
    }
}

#[test]
fn whatever_meets_it_is_as_the_model_says() {
    let seeds: Vec<u64> = match std::env::var("AURORA_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..budget(200)).collect(),
    };
    each(&seeds, |seed| {
        let mut run = Run::new(*seed);
        for _ in 0..60 {
            run.step().unwrap_or_else(|error| panic!("{error:?}"));
        }
        run.look().unwrap();
        run.reopen().unwrap();
    });
}

#[test]
fn threads_that_do_all_of_it_at_once_find_what_was_committed() {
    let seeds: Vec<u64> = match std::env::var("AURORA_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..budget(12)).collect(),
    };
    for seed in seeds {
        threads::run(seed, 4);
    }
}
