//! The operations that crash workloads are made of: each is done to a database and to the model
//! alike, and noted in a history before it is tried.

use std::sync::Arc;

use aurora::storage::SimDisk;
use aurora::{Aurora, Durability, Error, Index, Patch, Result, WriteTransaction};

use super::Random;
use super::world::{Content, Entry, People, Person, SetClock, World, open_at, schema};

/// What can be done. A number goes with it, from which keys and values follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Put,
    Replace,
    Delete,
    /// A value of some pages that goes through the log.
    Overflow,
    /// A value that is written to its place, and whose place goes to the log.
    Run,
    Buffered,
    DeleteRange,
    CreateTree,
    DropTree,
    RenameTree,
    PutTtl,
    Expire,
    PutBlob,
    AppendBlob,
    DeleteBlob,
    Insert,
    Update,
    DeleteDocument,
    CreateIndex,
    DropIndex,
    NewCollection,
    DeleteCollection,
    /// Some of each in one transaction.
    Mixed,
    /// More than the log takes: commits by a checkpoint.
    Large,
    /// Many entries in one call, then the removal of many.
    Many,
    Savepoint,
    RolledBack,
    Checkpoint,
    CompactStep,
    Reopen,
}

impl Op {
    pub const ALL: [Op; 30] = [
        Op::Put,
        Op::Replace,
        Op::Delete,
        Op::Overflow,
        Op::Run,
        Op::Buffered,
        Op::DeleteRange,
        Op::CreateTree,
        Op::DropTree,
        Op::RenameTree,
        Op::PutTtl,
        Op::Expire,
        Op::PutBlob,
        Op::AppendBlob,
        Op::DeleteBlob,
        Op::Insert,
        Op::Update,
        Op::DeleteDocument,
        Op::CreateIndex,
        Op::DropIndex,
        Op::NewCollection,
        Op::DeleteCollection,
        Op::Mixed,
        Op::Large,
        Op::Many,
        Op::Savepoint,
        Op::RolledBack,
        Op::Checkpoint,
        Op::CompactStep,
        Op::Reopen,
    ];
}

/// What should be there, and what must be.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The state after each commit, from the one at the start on.
    pub states: Vec<Arc<World>>,
    /// This one and those before it were acknowledged as durable.
    pub acknowledged: usize,
}

impl History {
    pub fn new(start: World) -> Self {
        History {
            states: vec![Arc::new(start)],
            acknowledged: 0,
        }
    }

    pub fn last(&self) -> &World {
        self.states.last().unwrap()
    }

    /// Notes a state before its commit is tried: from then on it may be on the disk.
    pub fn push(&mut self, world: World) {
        self.states.push(Arc::new(world));
    }

    pub fn acknowledge(&mut self) {
        self.acknowledged = self.states.len() - 1;
    }

    /// The states that a crash may leave.
    pub fn possible(&self) -> &[Arc<World>] {
        &self.states[self.acknowledged..]
    }
}

/// A database on a simulated disk, at work.
pub struct Work {
    pub db: Option<Aurora>,
    pub disk: SimDisk,
    pub clock: Arc<SetClock>,
    pub history: History,
}

/// Makes a change in a transaction.
pub fn change(
    op: Op,
    seed: u64,
    tx: &mut WriteTransaction,
    world: &mut World,
    now_ms: u64,
) -> Result<()> {
    let mut random = Random(seed);
    let random = &mut random;
    let base = format!("base{}", random.below(4)).into_bytes();
    let number = random.below(40);
    let fill = random.next() as u8;
    let filled = |length: usize| -> Vec<u8> {
        let bytes = (0..length).map(|i| fill.wrapping_add((i / 64) as u8));
        bytes.collect()
    };
    match op {
        Op::Put | Op::Buffered => {
            let key = format!("key{number:02}").into_bytes();
            put(tx, world, "t", key, filled(30 + number as usize))?;
        }
        Op::Replace => put(tx, world, "t", base, filled(50))?,
        Op::Delete => {
            tx.tree("t")?.delete(&base)?;
            world.trees.entry("t".into()).or_default().remove(&base);
        }
        Op::Overflow => put(tx, world, "t", base, filled(4500))?,
        Op::Run => put(tx, world, "t", base, filled(33_000))?,
        Op::DeleteRange => {
            let tree = world.trees.entry("t".into()).or_default();
            tree.retain(|key, _| key[..] < b"base1"[..] || key[..] >= b"base3"[..]);
            tx.tree("t")?.delete_range("base1".."base3")?;
        }
        Op::CreateTree => {
            let name = format!("new{}", number % 3);
            put(tx, world, &name, base, filled(100))?;
        }
        Op::DropTree => match tx.drop_tree("t") {
            Err(Error::TreeNotFound { .. }) => assert!(!world.trees.contains_key("t")),
            done => {
                done?;
                assert!(world.trees.remove("t").is_some());
            }
        },
        Op::RenameTree => {
            let (from, to) = if number.is_multiple_of(2) {
                ("t", "u")
            } else {
                ("u", "t")
            };
            if world.trees.contains_key(from) && !world.trees.contains_key(to) {
                tx.rename_tree(from, to)?;
                let tree = world.trees.remove(from).unwrap();
                world.trees.insert(to.into(), tree);
            }
        }
        Op::PutTtl => {
            let (key, value) = (format!("ttl{}", number % 3), filled(20));
            tx.put(&key, &value, Some(std::time::Duration::from_millis(5000)))?;
            let entry = Entry {
                content: Content::Value(value.into()),
                expires_ms: Some(now_ms + 5000),
            };
            world.keys.insert(key.into_bytes(), entry);
        }
        Op::PutBlob => {
            let key = format!("blob{}", number % 2);
            let content = filled([900, 9000, 40_000][(number % 3) as usize]);
            tx.put_blob_from(&key, &content[..])?;
            let entry = Entry {
                content: Content::Blob(content.into()),
                expires_ms: None,
            };
            world.keys.insert(key.into_bytes(), entry);
        }
        Op::AppendBlob => {
            let key = format!("blob{}", number % 2).into_bytes();
            let more = filled(3000);
            if let Some(entry) = world.keys.get_mut(&key)
                && entry.is_alive(now_ms)
                && let Content::Blob(old) = &entry.content
            {
                tx.append_blob(&key, &more[..])?;
                entry.content = Content::Blob([&old[..], &more[..]].concat().into());
            }
        }
        Op::DeleteBlob => {
            let key = format!("blob{}", number % 2).into_bytes();
            let entry = world.keys.get(&key).filter(|entry| entry.is_alive(now_ms));
            match (tx.delete_blob(&key), entry.map(|entry| &entry.content)) {
                (Err(Error::WrongKind { .. }), Some(Content::Value(_))) => {}
                (was, Some(Content::Blob(_))) => {
                    assert!(was?);
                    world.keys.remove(&key);
                }
                (was, _) => assert!(!was?),
            }
        }
        Op::Insert | Op::Update | Op::DeleteDocument => {
            change_people(op, random, tx, world, now_ms)?;
        }
        Op::DropIndex => {
            if let Some(people) = world.collections.get_mut("people")
                && people.indexes.remove("tags").is_some()
            {
                tx.collection("people")?.drop_index("tags")?;
            }
        }
        Op::NewCollection => {
            let known = world.collections.get("more");
            let created = tx.new_collection("more", schema());
            if known.is_some_and(|known| !known.is_as_created()) {
                let refused = matches!(created, Err(Error::CollectionExists { .. }));
                return if refused { Ok(()) } else { created };
            }
            created?;
            let people = world.collections.entry("more".into());
            people.or_insert_with(People::created);
        }
        Op::DeleteCollection => {
            if world.collections.remove("people").is_some() {
                tx.delete_collection("people")?;
            }
        }
        Op::Mixed => {
            for (part, op) in [Op::Put, Op::PutTtl, Op::Insert, Op::Update, Op::PutBlob]
                .into_iter()
                .enumerate()
            {
                change(op, seed.wrapping_add(1 + part as u64), tx, world, now_ms)?;
            }
        }
        Op::Large => {
            for i in 0..60u64 {
                let key = format!("large{:02}", i * 7 % 60).into_bytes();
                put(tx, world, "t", key, filled(200 + number as usize))?;
            }
        }
        Op::Many => {
            let key = |i: u64| format!("many{:02}", i * 7 % 40).into_bytes();
            let entries: Vec<_> = (0..40)
                .map(|i| {
                    (
                        key(i),
                        filled([0, 90, 5000][(i % 3) as usize] + number as usize),
                    )
                })
                .collect();
            let gone: Vec<_> = (0..30).step_by(2).map(key).collect();
            let mut tree = tx.tree("t")?;
            tree.put_many(entries.iter().map(|(key, value)| (key, value)))?;
            assert_eq!(tree.delete_many(&gone)?, 15);
            let model = world.trees.entry("t".to_string()).or_default();
            model.extend(entries);
            model.retain(|key, _| !gone.contains(key));
        }
        Op::Savepoint => {
            put(tx, world, "t", base.clone(), filled(70))?;
            let savepoint = tx.savepoint()?;
            let mut undone = world.clone();
            change(Op::Large, seed, tx, &mut undone, now_ms)?;
            change(Op::Mixed, seed, tx, &mut undone, now_ms)?;
            change(Op::Run, seed, tx, &mut undone, now_ms)?;
            tx.roll_back_to(&savepoint)?;
            put(tx, world, "t", b"after".to_vec(), filled(9))?;
        }
        other => panic!("{other:?} is not made in a transaction"),
    }
    Ok(())
}

fn put(
    tx: &mut WriteTransaction,
    world: &mut World,
    tree: &str,
    key: Vec<u8>,
    value: Vec<u8>,
) -> Result<()> {
    tx.tree(tree)?.put(&key, &value)?;
    let tree = world.trees.entry(tree.to_string()).or_default();
    tree.insert(key, value);
    Ok(())
}

fn change_people(
    op: Op,
    random: &mut Random,
    tx: &mut WriteTransaction,
    world: &mut World,
    now_ms: u64,
) -> Result<()> {
    let Some(people) = world.collections.get_mut("people") else {
        return Ok(());
    };
    // Those that have expired are still in the model, and no longer in the collection.
    let alive = people.alive(now_ms);
    let one = alive
        .get(random.below(alive.len() as u64) as usize)
        .copied();
    let mut collection = tx.collection("people")?;
    match (op, one) {
        (Op::Insert, _) => {
            let id = people.people.keys().next_back().map_or(0, |id| id + 1);
            for id in id..id + 2 {
                let person = Person::of(id, now_ms);
                collection.insert_fields(person.object(id))?;
                let person = people.fitted(person);
                people.people.insert(id, person);
            }
        }
        (Op::Update, Some(id)) => {
            let person = people.people.get_mut(&id).unwrap();
            collection.update(id, Patch::new().inc("n", 1).push("tags", "new"))?;
            person.n += 1;
            person.tags.push("new".into());
        }
        (Op::DeleteDocument, Some(id)) => {
            assert!(collection.delete(id)?);
            people.people.remove(&id);
        }
        _ => {}
    }
    Ok(())
}

impl Work {
    /// Opens what is on a disk, which holds this.
    pub fn start(disk: SimDisk, clock: Arc<SetClock>, history: History) -> Result<Self> {
        let mut work = Work {
            db: None,
            disk,
            clock,
            history,
        };
        work.open()?;
        Ok(work)
    }

    fn open(&mut self) -> Result<()> {
        let storage = self.disk.reopen().storage();
        self.db = Some(open_at(storage, &self.clock)?);
        Ok(())
    }

    pub fn db(&self) -> &Aurora {
        self.db.as_ref().unwrap()
    }

    /// Does one thing. After an error the history says what may be there.
    pub fn step(&mut self, op: Op, seed: u64) -> Result<()> {
        let now_ms = self.clock.now();
        let db = self.db().clone();
        let history = &mut self.history;
        match op {
            Op::Checkpoint => db.checkpoint()?,
            Op::CompactStep => drop(db.compact_with(|_| false)?),
            Op::Expire => {
                self.clock.advance(6000);
                if db.sweep(100)? == 0 {
                    return Ok(());
                }
            }
            Op::Reopen => {
                drop(db);
                let db = self.db.take().unwrap();
                db.close()?;
                self.history.acknowledge();
                return self.open();
            }
            Op::CreateIndex => {
                let index = Index::on(["n", "name"]);
                let mut world = history.last().clone();
                let Some(people) = world.collections.get_mut("people") else {
                    return Ok(());
                };
                if people.indexes.get(&index.name()) == Some(&true) {
                    return Ok(());
                }
                people.indexes.insert(index.name(), false);
                history.push(world.clone());
                let people = world.collections.get_mut("people").unwrap();
                people.indexes.insert(index.name(), true);
                history.push(world);
                db.create_index("people", index).wait()?;
            }
            Op::RolledBack => {
                let mut undone = history.last().clone();
                let mut tx = db.begin_write()?;
                change(Op::Large, seed, &mut tx, &mut undone, now_ms)?;
                change(Op::Mixed, seed, &mut tx, &mut undone, now_ms)?;
                return Ok(());
            }
            op => {
                let mut world = history.last().clone();
                let mut tx = db.begin_write()?;
                if op == Op::Buffered {
                    tx.set_durability(Durability::Buffered);
                }
                change(op, seed, &mut tx, &mut world, now_ms)?;
                history.push(world);
                tx.commit()?;
                // A full commit promises all before it too, even if it is empty itself.
                if op == Op::Buffered {
                    return Ok(());
                }
            }
        }
        self.history.acknowledge();
        Ok(())
    }
}

/// A file with something of each kind in it, and what it holds: closed, or killed with commits in
/// the log that are in no checkpoint.
pub fn base(is_closed: bool, clock: &Arc<SetClock>) -> (Vec<u8>, World) {
    let (image, history) = base_with_history(is_closed, clock);
    (image, history.last().clone())
}

/// The same, with all the states that there were.
pub fn base_with_history(is_closed: bool, clock: &Arc<SetClock>) -> (Vec<u8>, History) {
    let disk = SimDisk::new(1);
    let mut work = Work::start(disk, clock.clone(), History::new(World::default())).unwrap();
    let db = work.db().clone();
    let mut world = World::default();
    db.write(|tx| {
        tx.new_collection("people", schema())?;
        let people = world.collections.entry("people".into());
        people.or_insert_with(People::created);
        for i in 0..4u8 {
            put(
                tx,
                &mut world,
                "t",
                format!("base{i}").into_bytes(),
                vec![i; 40],
            )?;
        }
        put(tx, &mut world, "t", b"long".to_vec(), vec![7; 9000])?;
        put(tx, &mut world, "old", b"k".to_vec(), vec![1; 10])
    })
    .unwrap();
    work.history.push(world);
    work.history.acknowledge();
    drop(db);
    for (seed, op) in [Op::Insert, Op::PutTtl, Op::PutBlob, Op::Large]
        .into_iter()
        .enumerate()
    {
        work.step(op, seed as u64).unwrap();
    }
    if is_closed {
        work.step(Op::Reopen, 0).unwrap();
        let image = work.disk.kill_image().image();
        return (image, work.history.clone());
    }
    for (seed, op) in [Op::Insert, Op::PutBlob, Op::Overflow, Op::Put]
        .into_iter()
        .enumerate()
    {
        work.step(op, 20 + seed as u64).unwrap();
    }
    let image = work.disk.kill_image().image();
    (image, work.history.clone())
}
