//! What the hot tier is worth: `cargo bench --bench hot`.
//!
//! Entries are 24-byte random keys with 150-byte random values; 90 % of the reads are of 1 % of
//! the keys. The database with a tier and the one without take turns. `AURORA_BENCH_ENTRIES` sets how many entries there are (1 M).

use std::sync::Arc;
use std::time::{Duration, Instant};

use aurora::storage::MemoryStorage;
use aurora::{Aurora, Durability};

const KEY_BYTES: usize = 24;
const VALUE_BYTES: usize = 150;
const READS: u64 = 1_000_000;
const STRETCH: usize = 500;
const ROUNDS: usize = 5;

/// Repeatable random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The n-th entry, the same in every run.
fn entry(n: u64) -> ([u8; KEY_BYTES], [u8; VALUE_BYTES]) {
    let mut random = Random(n.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let (mut key, mut value) = ([0; KEY_BYTES], [0; VALUE_BYTES]);
    for chunk in key.chunks_mut(8).chain(value.chunks_mut(8)) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
    (key, value)
}

fn load(entries: u64, hot_bytes: usize) -> Aurora {
    let db = Aurora::builder()
        .memory_limit(4 << 30)
        .hot_limit(hot_bytes)
        .open_storage(Arc::new(MemoryStorage::new()))
        .expect("open");
    let mut tx = db.begin_write().expect("begin");
    tx.set_durability(Durability::Buffered);
    for n in 0..entries {
        let (key, value) = entry(n);
        tx.put(key, value, None).expect("put");
    }
    tx.commit().expect("commit");
    db
}

/// The keys in the order in which one thread reads them, laid out before the clock runs.
fn skewed(entries: u64, seed: u64, hot_of_ten: u64) -> Vec<[u8; KEY_BYTES]> {
    let mut random = Random(seed);
    let hot = (entries / 100).max(1);
    (0..READS)
        .map(|_| {
            let is_hot = random.next() % 10 < hot_of_ten;
            let n = random.next() % if is_hot { hot } else { entries };
            entry(n).0
        })
        .collect()
}

/// One read of one thread, in nanoseconds, with so many threads reading at once: the median of
/// short stretches, so that what else runs on the machine hardly shows.
fn read(db: &Aurora, orders: &[Vec<[u8; KEY_BYTES]>]) -> Vec<f64> {
    let stretch = |keys: &[[u8; KEY_BYTES]]| {
        let start = Instant::now();
        for key in keys {
            let value = db.get(key).expect("read").expect("there");
            assert_eq!(value.len(), VALUE_BYTES);
        }
        nanos(start.elapsed(), keys.len())
    };
    let stretches = |order: &Vec<_>| order.chunks(STRETCH).map(stretch).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let threads: Vec<_> = orders
            .iter()
            .map(|order| scope.spawn(move || stretches(order)))
            .collect();
        let times = threads
            .into_iter()
            .map(|thread| thread.join().expect("joined"));
        times.flatten().collect()
    })
}

fn nanos(took: Duration, operations: usize) -> f64 {
    took.as_nanos() as f64 / operations as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Commits of one small change, buffered, to see what telling the tier costs.
fn commits(db: &Aurora) -> Vec<f64> {
    let commit = |n: u64| {
        let mut tx = db.begin_write().expect("begin");
        tx.set_durability(Durability::Buffered);
        let (key, value) = entry(n % 100);
        let start = Instant::now();
        tx.put(key, value, None).expect("put");
        tx.commit().expect("commit");
        nanos(start.elapsed(), 1)
    };
    (0..5_000).map(commit).collect()
}

fn main() {
    let entries = std::env::var("AURORA_BENCH_ENTRIES")
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(1_000_000);
    let (off, on) = (load(entries, 0), load(entries, 64 << 20));
    for (name, hot_of_ten) in [
        ("90 % of reads on 1 % of keys", 9),
        ("all reads on 1 % of keys", 10),
        ("reads of all keys alike", 0),
    ] {
        for threads in [1, 2] {
            let orders: Vec<_> = (0..threads)
                .map(|seed| skewed(entries, seed, hot_of_ten))
                .collect();
            let mut times = [Vec::new(), Vec::new()];
            for db in [&off, &on] {
                read(db, &orders); // what is hot gets in
            }
            for _ in 0..ROUNDS {
                for (db, times) in [&off, &on].iter().zip(&mut times) {
                    times.extend(read(db, &orders));
                }
            }
            let [without, with] = times.map(median);
            println!(
                "{name:<30} {threads} threads: {without:>6.0} ns without, {with:>6.0} ns with: {:.2} times",
                without / with
            );
        }
    }
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (db, times) in [&off, &on].iter().zip(&mut times) {
            times.extend(commits(db));
        }
    }
    let [without, with] = times.map(median);
    println!("one buffered commit of a hot key: {without:.0} ns without, {with:.0} ns with");
    println!("{:?}", on.stats().expect("stats").hot);
}
