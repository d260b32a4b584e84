//! Swarm testing: each run draws its own mixture of operations, its own options and its own troubles, and goes on in one
//! file through all of them: transactions with savepoints in savepoints, work within a compaction, snapshots, scans and
//! blob readers that are held meanwhile, other options with each open, calls that fail, a disk that is full for a while, power
//! cuts, and power cuts of the recovery. What the other suites try by themselves meets here. Against the plain model.
//!
//! Longer with `AURORA_TEST_BUDGET`; one run again with `AURORA_SEED`.

mod common;

use std::collections::VecDeque;

use aurora::storage::{SimCrash, SimDisk, SimFailedSync, SimFault, SimOperation, SimTarget};
use aurora::{
    Aurora, BlobReader, Builder, Commit, Durability, Entry, Error, Result, Savepoint, Scan,
    Snapshot,
};
use common::ops::{History, Op, Work, change};
use common::world::{Content, People, SetClock, World, difference, observe, schema, set_now};
use common::{Model, Random, budget, contents, each};

type Do = fn(&mut Run) -> Result<()>;

/// What a run may do, and whether it does so while calls fail: one trouble at a time.
const STEPS: [(&str, Do, bool); 12] = [
    ("index", |run| run.work_step(Op::CreateIndex), true),
    ("expire", |run| run.work_step(Op::Expire), true),
    ("checkpoint", |run| run.work_step(Op::Checkpoint), true),
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
    snapshots: Vec<(Snapshot, Model)>,
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
    steps: Vec<(&'static str, Do, bool)>,
    page_size: u32,
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
            steps,
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
            .background(false)
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
        let storage = self.work.disk.reopen().storage();
        self.work.db = Some(self.options().open_storage(storage).unwrap());
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

    fn work_step(&mut self, op: Op) -> Result<()> {
        self.work.step(op, self.random.next())
    }

    fn transaction(&mut self) -> Result<()> {
        let now_ms = self.now();
        let mut world = self.work.history.last().clone();
        let mut tx = self.db().begin_write()?;
        let mut saved: Vec<(Savepoint, World)> = Vec::new();
        let most = [1, 3, 12][self.random.below(3) as usize];
        for _ in 0..1 + self.random.below(most) {
            match self.random.below(8) {
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
                _ => {
                    let op = self.changes[self.random.below(self.changes.len() as u64) as usize];
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

    /// All that was committed is durable, and visible.
    fn settle(&mut self) -> Result<()> {
        self.db().flush()?;
        self.work.history.acknowledge();
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
        let seen = contents(&snapshot)?;
        assert_eq!(seen.0, world.trees);
        self.held.snapshots.push((snapshot, seen));
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
        for (snapshot, seen) in &self.held.snapshots {
            assert_eq!(&contents(snapshot)?, seen, "a held snapshot");
        }
        if self.random.chance(2) {
            self.held.snapshots.pop();
            self.held.scans.clear();
            self.held.blobs.clear();
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
        Ok(())
    }

    fn read_only(&mut self) -> Result<()> {
        let image = self.work.disk.kill_image();
        let before = image.image();
        let reader = self.options().read_only(true);
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
        self.open();
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
        self.work.disk.crash_after(0); // a close would write
        self.held = Held::default();
        self.work.db = None;
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
        let state = possible.find(|state| history.states[*state].at(self.now()) == found);
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
