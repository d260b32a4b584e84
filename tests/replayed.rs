//! Records of the log that no writer made: operations of all kinds in any order, whole and sealed, behind those that are
//! there. An open makes of them what a plain reading of section 12 of `format-spec.md` does, or says that they are damage;
//! and so does one that only reads.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use aurora::storage::MemoryStorage;
use aurora::{Aurora, Result};
use common::{Model, Random, Tree, budget, contents, each, repeatable};

const SALT: u64 = 7;
const HEAD: usize = 56;
const COMMIT: u8 = 1;
const MARK: u8 = 2;

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The trees with their numbers, as a plain reader has them.
#[derive(Debug, Clone, Default)]
struct Plain {
    names: BTreeMap<String, u32>,
    trees: BTreeMap<u32, Tree>,
}

/// A file that was in use: its bytes, what its log leads to, and where that ends.
struct Base {
    bytes: Vec<u8>,
    page_size: usize,
    plain: Plain,
    /// Where the ring lies, and how long it is.
    ring: (usize, usize),
    start: u64,
    end: u64,
    last_crc: u32,
    version: u64,
    checkpoint: u64,
}

fn base(seed: u64) -> Base {
    let mut random = Random(seed);
    let page_size = 4096 << random.below(3);
    let storage = MemoryStorage::new();
    let open = || {
        let builder = repeatable().page_size(page_size).log_limit(256 << 10);
        builder.open_storage(Arc::new(storage.reopen()))
    };
    let db = open().unwrap();
    // The numbers follow from the order in which the trees are made.
    for name in ["a", "b", "c"] {
        db.tree(name).unwrap().put("first", "1").unwrap();
    }
    let mut plain = Plain::default();
    let log = Log::read(&storage.to_bytes(), page_size as usize);
    for (name, number) in log.created {
        plain.names.insert(name, number);
    }
    assert_eq!(plain.names.len(), 3);
    for round in 0..1 + random.below(3) {
        let many = (0..300_u64).map(|n| (key(&mut random, n), vec![n as u8; (n % 90) as usize]));
        db.tree("b")
            .unwrap()
            .put_many(many.collect::<Vec<_>>())
            .unwrap();
        db.tree("a")
            .unwrap()
            .put("long", vec![round as u8; 50_000])
            .unwrap();
        if random.chance(2) {
            db.checkpoint().unwrap();
        }
    }
    db.checkpoint().unwrap();
    for n in 0..random.below(6) {
        db.tree("c")
            .unwrap()
            .put(n.to_be_bytes(), "in the log")
            .unwrap();
    }
    let model = contents(&db.begin_read().unwrap()).unwrap();
    for (name, tree) in model.0 {
        plain.trees.insert(plain.names[&name], tree);
    }
    // As if it were killed.
    let bytes = storage.to_bytes();
    let log = Log::read(&bytes, page_size as usize);
    Base {
        page_size: page_size as usize,
        plain,
        ring: log.ring,
        start: log.start,
        end: log.end,
        last_crc: log.last_crc,
        version: log.version,
        checkpoint: log.checkpoint,
        bytes,
    }
}

/// The log of a file, as far as it takes to go on with it.
struct Log {
    ring: (usize, usize),
    start: u64,
    end: u64,
    last_crc: u32,
    version: u64,
    checkpoint: u64,
    created: Vec<(String, u32)>,
}

impl Log {
    fn read(bytes: &[u8], page_size: usize) -> Log {
        let slot = match u64_at(bytes, 16) > u64_at(bytes, page_size + 16) {
            true => 0,
            false => page_size,
        };
        let number = |at: usize| u64_at(bytes, slot + at);
        let mut ring = (u32_at(bytes, slot + 112), u32_at(bytes, slot + 116));
        let next = (u32_at(bytes, slot + 120), u32_at(bytes, slot + 124));
        let mut log = Log {
            ring,
            start: number(128),
            end: number(128),
            last_crc: u32_at(bytes, slot + 136) as u32,
            version: number(24),
            checkpoint: number(16),
            created: Vec::new(),
        };
        loop {
            log.ring = (ring.0 * page_size, ring.1 * page_size);
            let at = |lsn: u64| log.ring.0 + lsn as usize % log.ring.1;
            let turned: Vec<u8> = (0..log.ring.1 as u64)
                .map(|i| bytes[at(log.end + i)])
                .collect();
            let here = &turned[..];
            if !here.starts_with(b"ALOG") || u64_at(here, 8) != log.end || here[40] == MARK {
                return log;
            }
            let length = u32_at(here, 4);
            let payload = &here[HEAD..HEAD + length];
            if payload.first() == Some(&5) {
                let name = &payload[7..7 + usize::from(payload[5])];
                let name = String::from_utf8(name.to_vec()).unwrap();
                log.created.push((name, u32_at(payload, 1) as u32));
            }
            log.end += (HEAD + length).next_multiple_of(8) as u64;
            log.last_crc = u32_at(here, 48) as u32;
            log.version = u64_at(here, 16).max(log.version);
            if here[40] == 3 {
                ring = next;
                log.start = log.end;
            }
        }
    }
}

impl Base {
    /// Puts a record behind the last one. Says whether it fits.
    fn append(&mut self, kind: u8, payload: &[u8]) -> bool {
        let bytes = (HEAD + payload.len()).next_multiple_of(8);
        if (self.end - self.start) as usize + bytes + 2 * HEAD > self.ring.1 {
            return false;
        }
        let version = match kind {
            COMMIT => self.version + 1,
            _ => 0,
        };
        let mut record = b"ALOG".to_vec();
        record.extend((payload.len() as u32).to_le_bytes());
        for number in [self.end, version, self.checkpoint, self.end] {
            record.extend(number.to_le_bytes());
        }
        record.extend([kind, 0, 0, 0]);
        record.extend(self.last_crc.to_le_bytes());
        let crc = crc32c::crc32c(&SALT.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &record);
        let crc = crc32c::crc32c_append(crc, payload);
        record.extend(crc.to_le_bytes());
        record.extend([0; 4]);
        record.extend(payload);
        record.resize(bytes, 0);
        for (i, byte) in record.into_iter().enumerate() {
            let at = self.ring.0 + (self.end as usize + i) % self.ring.1;
            self.bytes[at] = byte;
        }
        if kind == COMMIT {
            self.version = version;
            self.end += bytes as u64;
            self.last_crc = crc;
        }
        true
    }
}

fn key(random: &mut Random, n: u64) -> Vec<u8> {
    match random.below(8) {
        0 => Vec::new(),
        1 => vec![b'x'; 1 + (n % 1024) as usize],
        _ => format!("key {:03}", random.below(400)).into_bytes(),
    }
}

fn text(payload: &mut Vec<u8>, bytes: &[u8]) {
    payload.extend((bytes.len() as u16).to_le_bytes());
    payload.extend(bytes);
}

/// One operation, for the log and for the plain reader. `None`: it is damage.
fn operation(
    random: &mut Random,
    base: &Base,
    payload: &mut Vec<u8>,
    plain: &mut Plain,
) -> Option<()> {
    let numbers: Vec<u32> = plain.trees.keys().copied().collect();
    let is_wild = random.chance(60);
    let mut number = || match numbers.is_empty() || is_wild {
        true => [0, 1, 5, 77, 1 << 24, u32::MAX][random.below(6) as usize],
        false => numbers[random.below(numbers.len() as u64) as usize],
    };
    let tree = number();
    let longest = base.page_size / 4;
    let name = |random: &mut Random| match random.below(40) {
        0 => vec![],
        1 => vec![0xff; 3],
        2 => vec![b'n'; 256],
        3 => vec![b'n'; 255],
        n => vec![b'a' + (n % 7) as u8],
    };
    match random.below(24) {
        0..10 => {
            let mut key = key(random, 200);
            if random.chance(80) {
                key = vec![b'k'; longest + random.below(2) as usize];
            }
            let inline = (base.page_size - 32) / 3 - 10;
            let length = match random.below(12) {
                0 => inline.saturating_sub(key.len()) + random.below(3) as usize,
                1 => 5_000,
                2 if random.chance(4) => 33_000,
                n => n as usize * 9,
            };
            let value = vec![random.next() as u8; length];
            payload.push(1);
            payload.extend(tree.to_le_bytes());
            text(payload, &key);
            payload.extend((length as u32).to_le_bytes());
            payload.extend(&value);
            let model = plain.trees.get_mut(&tree)?;
            if key.len() > longest {
                return None;
            }
            model.insert(key, value);
        }
        10..14 => {
            let key = key(random, 200);
            payload.push(2);
            payload.extend(tree.to_le_bytes());
            text(payload, &key);
            plain.trees.get_mut(&tree)?.remove(&key);
        }
        14..17 => {
            payload.push(3);
            payload.extend(tree.to_le_bytes());
            let mut bounds = Vec::new();
            for _ in 0..2 {
                let kind = random.below(3) as u8;
                let key = match kind {
                    0 => Vec::new(),
                    _ => key(random, 200),
                };
                payload.push(kind);
                text(payload, &key);
                bounds.push((kind, key));
            }
            let is_above = |key: &Vec<u8>| match bounds[0].0 {
                0 => true,
                1 => *key >= bounds[0].1,
                _ => *key > bounds[0].1,
            };
            let is_below = |key: &Vec<u8>| match bounds[1].0 {
                0 => true,
                1 => *key <= bounds[1].1,
                _ => *key < bounds[1].1,
            };
            let model = plain.trees.get_mut(&tree)?;
            model.retain(|key, _| !(is_above(key) && is_below(key)));
        }
        17..20 => {
            let free = (0..).find(|number| !plain.trees.contains_key(number));
            let number = if is_wild { tree } else { free.unwrap() };
            let number = if random.chance(4) {
                number.saturating_add(3)
            } else {
                number
            };
            let name = name(random);
            payload.push(5);
            payload.extend(number.to_le_bytes());
            text(payload, &name);
            let name = String::from_utf8(name).ok()?;
            let is_fine = (1..256).contains(&name.len()) && number < 1 << 24;
            if !is_fine || plain.names.contains_key(&name) || plain.trees.contains_key(&number) {
                return None;
            }
            plain.names.insert(name, number);
            plain.trees.insert(number, Tree::new());
        }
        20 | 21 => {
            payload.push(6);
            payload.extend(tree.to_le_bytes());
            plain.trees.remove(&tree)?;
            plain.names.retain(|_, number| *number != tree);
        }
        _ => {
            let name = name(random);
            payload.push(7);
            payload.extend(tree.to_le_bytes());
            text(payload, &name);
            let name = String::from_utf8(name).ok()?;
            let is_there = plain.trees.contains_key(&tree);
            if !is_there || !(1..256).contains(&name.len()) || plain.names.contains_key(&name) {
                return None;
            }
            plain.names.retain(|_, number| *number != tree);
            plain.names.insert(name, tree);
        }
    }
    Some(())
}

fn look(db: &Aurora, plain: &Plain, what: &str) {
    let found = contents(&db.begin_read().unwrap()).unwrap();
    let trees = plain.names.iter();
    let trees = trees.map(|(name, number)| (name.clone(), plain.trees[number].clone()));
    let expected = Model(trees.collect());
    let names = |model: &Model| -> Vec<(String, usize)> {
        let trees = model.0.iter();
        trees
            .map(|(name, tree)| (name.clone(), tree.len()))
            .collect()
    };
    assert_eq!(names(&found), names(&expected), "{what}");
    assert!(found == expected, "{what}: values");
    db.check().unwrap_or_else(|error| panic!("{what}: {error}"));
}

#[test]
fn operations_in_any_order_make_what_they_say() {
    let first: u64 = std::env::var("AURORA_SEED").map_or(0, |seed| seed.parse().unwrap());
    let seeds = first..first + budget(150);
    // What is damage ends a log after some five operations, which hardly change one key twice: others leave it out.
    let runs: Vec<(u64, bool)> = seeds
        .flat_map(|seed| [(seed, false), (seed, true)])
        .collect();
    each(&runs, |(seed, is_tame)| {
        let mut base = base(seed % 16);
        let mut random = Random(seed ^ 0x5eed);
        let mut plain = base.plain.clone();
        let mut is_sound = true;
        for _ in 0..random.below(30) {
            let mut payload = Vec::new();
            let mut next = plain.clone();
            let longest = [2, 10, 200][random.below(3) as usize];
            let mut is_one = true;
            for _ in 0..1 + random.below(longest) {
                let bytes = payload.len();
                is_one = operation(&mut random, &base, &mut payload, &mut next).is_some();
                if !is_one && *is_tame {
                    payload.truncate(bytes); // it has changed nothing else
                    is_one = true;
                }
                if !is_one {
                    break;
                }
            }
            if !base.append(COMMIT, &payload) {
                continue;
            }
            is_sound &= is_one;
            plain = next;
            if !is_one {
                break;
            }
        }
        if random.chance(2) {
            base.append(MARK, &[]);
        }
        let memory = MemoryStorage::from_bytes(&base.bytes);
        let open = |read_only: bool| -> Result<Aurora> {
            let builder = repeatable().create(false).read_only(read_only);
            let builder = builder.background(seed % 5 == 1);
            builder.open_storage(Arc::new(memory.reopen()))
        };
        let what = format!("seed {seed}, {is_tame}");
        for read_only in [true, false] {
            match open(read_only) {
                Ok(db) => {
                    assert!(is_sound, "{what}: damage was taken for a commit");
                    look(&db, &plain, &what);
                    db.close().unwrap();
                }
                Err(error) => {
                    assert!(!is_sound && error.is_corruption(), "{what}: {error:?}");
                    // One that writes may have cut off what is free.
                    let is_same = memory.to_bytes() == base.bytes;
                    assert!(is_same || !read_only, "{what}: it was changed");
                }
            }
        }
        if is_sound {
            let db = open(false).unwrap();
            look(&db, &plain, &format!("{what}, again"));
            db.compact().unwrap();
            look(&db, &plain, &format!("{what}, compacted"));
        }
    });
}
