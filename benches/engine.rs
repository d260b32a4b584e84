//! The engine's own micro-benchmarks: `cargo bench`.
//!
//! Entries are 24-byte random keys with 150-byte random values. Every value that is read is
//! compared with the one that was written. `AURORA_BENCH_ENTRIES` sets how many there are (1 M).
//!
//! Two results are checked, and the run fails if they do not hold:
//! one durable commit costs at most 1.25 times one synced 256-byte overwrite of a preallocated
//! file, measured in turns with it; and eight committing threads reach at least four times the
//! commits a second of one.

use std::path::Path;
use std::time::{Duration, Instant};

use aurora::storage::{FileStorage, Storage};
use aurora::{Aurora, Durability};

const KEY_BYTES: usize = 24;
const VALUE_BYTES: usize = 150;

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

fn report(name: &str, operations: u64, took: Duration) {
    let each = took.as_nanos() as f64 / operations as f64;
    println!(
        "{name:<44} {:>10.1} ms {each:>12.0} ns each",
        took.as_secs_f64() * 1e3
    );
}

fn timed<T>(name: &str, operations: u64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    report(name, operations, start.elapsed());
    result
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn open(path: &Path) -> Aurora {
    Aurora::builder()
        .memory_limit(4 << 30)
        .open(path)
        .expect("open")
}

fn load(db: &Aurora, entries: u64) {
    timed("bulk load, random order, one transaction", entries, || {
        db.write(|tx| {
            let mut tree = tx.tree("data")?;
            for n in 0..entries {
                let (key, value) = entry(n);
                tree.put(key, value)?;
            }
            Ok(())
        })
        .expect("load");
    });
}

fn load_sorted(directory: &Path, entries: u64, descends: bool) {
    let order = if descends { "descending" } else { "sorted" };
    let db = open(&directory.join(order));
    let mut keys: Vec<u64> = (0..entries).collect();
    keys.sort_by_key(|n| entry(*n).0);
    if descends {
        keys.reverse();
    }
    let name = format!("bulk load, {order}, one transaction");
    timed(&name, entries, || {
        db.write(|tx| {
            let mut tree = tx.tree("data")?;
            for n in keys {
                let (key, value) = entry(n);
                tree.put(key, value)?;
            }
            Ok(())
        })
        .expect("load");
    });
    let fill = db.tree_stats().expect("stats")["data"].leaf_fill;
    println!("{:<44} {:>10.1} %", "  leaves full", fill * 100.0);
    if descends {
        timed("first and last entry", 1_000_000, || {
            let snapshot = db.begin_read().expect("read");
            let tree = snapshot.tree("data").expect("tree");
            for _ in 0..500_000 {
                assert!(tree.first().expect("first") < tree.last().expect("last"));
            }
        });
        timed("taken from the front, one transaction", entries, || {
            db.write(|tx| {
                let mut tree = tx.tree("data")?;
                while tree.pop_first()?.is_some() {}
                Ok(())
            })
            .expect("pop");
        });
    }
}

fn reads(db: &Aurora, entries: u64, threads: u64) {
    let name = format!("1 M random gets, {threads} threads");
    let each = 1_000_000 / threads;
    timed(&name, each * threads, || {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let snapshot = db.begin_read().expect("read");
                    let tree = snapshot.tree("data").expect("tree");
                    let mut random = Random(thread);
                    for _ in 0..each {
                        let (key, value) = entry(random.next() % entries);
                        let found = tree.get(key).expect("get").expect("present");
                        assert!(*found == value);
                    }
                });
            }
        });
    });
}

/// What the reads above spend on making up keys and comparing values.
fn overhead(entries: u64) {
    timed("  of which making up keys and values", 1_000_000, || {
        let mut random = Random(0);
        let mut sum = 0u64;
        for _ in 0..1_000_000 {
            let (key, value) = entry(random.next() % entries);
            sum += u64::from(key[0]) + u64::from(value[0]);
        }
        std::hint::black_box(sum);
    });
}

fn seeks(db: &Aurora, entries: u64) {
    timed("500 k seeks of 10 entries", 500_000, || {
        let snapshot = db.begin_read().expect("read");
        let mut cursor = snapshot.tree("data").expect("tree").cursor();
        let mut random = Random(9);
        let mut bytes = 0;
        for _ in 0..500_000 {
            let (key, value) = entry(random.next() % entries);
            assert!(cursor.seek(key).expect("seek"));
            assert!(cursor.value().expect("value") == value);
            for _ in 0..10 {
                bytes += cursor.key().len() + cursor.value().expect("value").len();
                if !cursor.next().expect("next") {
                    break;
                }
            }
        }
        std::hint::black_box(bytes);
    });
}

fn scan(db: &Aurora, entries: u64) {
    timed("full ordered scan", entries, || {
        let snapshot = db.begin_read().expect("read");
        let mut cursor = snapshot.tree("data").expect("tree").cursor();
        let mut more = cursor.first().expect("first");
        let (mut seen, mut bytes) = (0, 0);
        while more {
            bytes += cursor.key().len() + cursor.value().expect("value").len();
            seen += 1;
            more = cursor.next().expect("next");
        }
        assert_eq!(seen, entries);
        assert_eq!(bytes as u64, entries * (KEY_BYTES + VALUE_BYTES) as u64);
    });
}

fn counts(db: &Aurora) {
    let snapshot = db.begin_read().expect("read");
    let tree = snapshot.tree("data").expect("tree");
    timed("count of a range", 100_000, || {
        let mut random = Random(4);
        for _ in 0..100_000 {
            let (a, b) = (random.next().to_le_bytes(), random.next().to_le_bytes());
            std::hint::black_box(tree.count(a.min(b)..a.max(b)).expect("count"));
        }
    });
}

fn small_commits(db: &Aurora) {
    timed("50 k buffered one-operation commits", 50_000, || {
        for n in 0..50_000 {
            let (key, value) = entry(n | 1 << 40);
            let mut tx = db.begin_write().expect("begin");
            tx.set_durability(Durability::Buffered);
            tx.tree("data").expect("tree").put(key, value).expect("put");
            tx.commit().expect("commit");
        }
    });
    db.flush().expect("flush");
    timed("100 durable batches of 1,000", 100_000, || {
        for batch in 0..100 {
            db.write(|tx| {
                let mut tree = tx.tree("data")?;
                for n in 0..1000 {
                    let (key, value) = entry((batch * 1000 + n) | 1 << 41);
                    tree.put(key, value)?;
                }
                Ok(())
            })
            .expect("batch");
        }
    });
}

/// One durable commit beside one synced overwrite, in turns, so that both meet the same disk.
fn durable_commit(db: &Aurora, directory: &Path) -> f64 {
    let file = FileStorage::open_or_create(directory.join("overwrite")).expect("file");
    // Page by page: the system keeps what one call wrote in one piece of its cache, and later writes into a
    // large one take longer.
    for page in 0..1024 {
        file.write_at(page * 4096, &[0; 4096]).expect("fill");
    }
    file.sync_all().expect("sync");
    // Not beside the checkpoint that the phase before may have left to do.
    db.checkpoint().expect("checkpoint");
    let (mut commits, mut overwrites) = (Vec::new(), Vec::new());
    let mut offset = 0;
    for n in 0..2_000u64 {
        let start = Instant::now();
        file.write_sync_at(offset, &[n as u8; 256]).expect("write");
        overwrites.push(start.elapsed());
        offset = (offset + 256) % (4 << 20);
        let (key, value) = entry(n | 1 << 42);
        let start = Instant::now();
        db.write(|tx| tx.tree("data")?.put(key, value))
            .expect("put");
        commits.push(start.elapsed());
    }
    let (commit, overwrite) = (median(&mut commits), median(&mut overwrites));
    let ratio = commit.as_secs_f64() / overwrite.as_secs_f64();
    println!(
        "{:<44} {:>10.1} us, p99 {:.1} us",
        "one durable commit, median",
        commit.as_secs_f64() * 1e6,
        commits[commits.len() * 99 / 100].as_secs_f64() * 1e6,
    );
    println!(
        "{:<44} {:>10.1} us, ratio {ratio:.2}",
        "  one synced 256-byte overwrite, median",
        overwrite.as_secs_f64() * 1e6,
    );
    ratio
}

fn commits_per_second(db: &Aurora, threads: u64) -> f64 {
    db.checkpoint().expect("checkpoint"); // as above
    let each = 2_000; // long enough that the device's moods even out
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for n in 0..each {
                    let (key, value) = entry(n | (43 + thread) << 50);
                    db.write(|tx| tx.tree("data")?.put(key, value))
                        .expect("put");
                }
            });
        }
    });
    let rate = (each * threads) as f64 / start.elapsed().as_secs_f64();
    let name = format!("durable commits, {threads} threads");
    println!("{name:<44} {rate:>10.0} a second");
    rate
}

fn open_after_crash(directory: &Path) {
    let path = directory.join("crashed");
    let db = open(&path);
    load(&db, 100_000);
    // The log is as full as it gets; the copy is what a killed process leaves.
    let mut n = 0;
    let fullest = loop {
        let (key, value) = entry(n | 1 << 45);
        let mut tx = db.begin_write().expect("begin");
        tx.set_durability(Durability::Buffered);
        tx.tree("data").expect("tree").put(key, value).expect("put");
        tx.commit().expect("commit");
        n += 1;
        if n % 1000 == 0 {
            let stats = db.stats().expect("stats");
            let full = stats.log_used_bytes * 100 / stats.log_bytes.max(1);
            if stats.log_bytes >= 32 << 20 && full >= 45 || n > 400_000 {
                break stats.log_used_bytes;
            }
        }
    };
    db.flush().expect("flush");
    let copy = directory.join("copy.db");
    std::fs::copy(path.with_extension("db"), &copy).expect("copy");
    let start = Instant::now();
    let reopened = open(&copy);
    let took = start.elapsed();
    println!(
        "{:<44} {:>10.1} ms, {:.1} MiB of log",
        "open after a crash",
        took.as_secs_f64() * 1e3,
        fullest as f64 / f64::from(1 << 20),
    );
    let (key, value) = entry((n - 1) | 1 << 45);
    let found = reopened.tree("data").expect("tree").get(key).expect("get");
    assert_eq!(found.as_deref(), Some(&value[..]));
}

fn removal_and_size(db: &Aurora, entries: u64) {
    let size = |name: &str| {
        let bytes = db.stats().expect("stats").file_bytes;
        println!("{name:<44} {:>10.1} MiB", bytes as f64 / f64::from(1 << 20));
    };
    size("size on disk");
    timed("removal of half, one transaction", entries / 2, || {
        db.write(|tx| {
            let mut tree = tx.tree("data")?;
            for n in (0..entries).step_by(2) {
                assert!(tree.delete(entry(n).0)?);
            }
            Ok(())
        })
        .expect("remove");
    });
    timed("compaction", entries / 2, || db.compact().expect("compact"));
    size("size after compaction");
    db.check().expect("check");
}

fn main() {
    let entries = std::env::var("AURORA_BENCH_ENTRIES")
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(1_000_000);
    let directory = tempfile::tempdir().expect("directory");
    let db = open(&directory.path().join("bench"));
    println!("{entries} entries of {KEY_BYTES} + {VALUE_BYTES} bytes, 4 KiB pages\n");
    load(&db, entries);
    load_sorted(directory.path(), entries, false);
    load_sorted(directory.path(), entries, true);
    for threads in [1, 2, 4, 8] {
        reads(&db, entries, threads);
    }
    overhead(entries);
    seeks(&db, entries);
    scan(&db, entries);
    counts(&db);
    small_commits(&db);
    let ratio = durable_commit(&db, directory.path());
    for threads in [2, 4, 16] {
        commits_per_second(&db, threads);
    }
    let mut gains: Vec<f64> = (0..5)
        .map(|_| {
            let one = commits_per_second(&db, 1);
            commits_per_second(&db, 8) / one
        })
        .collect();
    gains.sort_by(f64::total_cmp);
    let gain = gains[gains.len() / 2];
    println!(
        "{:<44} {gain:>10.1} x of one, median of five turns",
        "  8 threads"
    );
    removal_and_size(&db, entries);
    open_after_crash(directory.path());

    let mut failed = false;
    for (holds, what) in [
        (
            ratio <= 1.25,
            "a durable commit within 1.25 x of a synced overwrite",
        ),
        (gain >= 4.0, "8 threads at 4 x the commits of one"),
    ] {
        println!("{} {what}", if holds { "ok    " } else { "MISSED" });
        failed |= !holds;
    }
    std::process::exit(i32::from(failed));
}
