//! Durable commits of 256 bytes: one thread beside a synced overwrite of a plain file, several
//! threads, what reaches the device, and how long the slowest take while checkpoints run.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Instant;

use aurora_bench::{Random, median_of, percentile};

use crate::data::{self, Choice, Draw, Sum, family};
use crate::engine::{Outcome, Peer, Promise};
use crate::recorder::bytes_written;
use crate::report::FILE;
use crate::rows::{Bar, Bench, Row, Unit, load, row};

const GROUP: &str = "commits";
/// With its key a commit is of 256 bytes.
const VALUE: usize = 256 - data::KEY_BYTES;
const SINGLE: u64 = 2_000;
const THREADED: u64 = 4_000;
const THREADS: [u64; 4] = [2, 4, 8, 16];
const RANDOM: u64 = 5_000;
const LONG: u64 = 20_000;
/// A commit while checkpoints run: so many entries, of so many bytes.
const LONG_ENTRIES: u64 = 4;
const LONG_VALUE: usize = 1000;

pub fn rows() -> Vec<Row> {
    let ahead = Some(Bar::BestPeer(1.0));
    let r = |id: &str, what: &str, bar| row(GROUP, id, what, bar).durable();
    let mut rows = vec![
        r("commit-1", "one durable commit of 256 bytes, median", ahead),
        r(
            "commit-1-file",
            "the same / one synced overwrite of 256 bytes",
            Some(Bar::AtMost(1.2)),
        )
        .unit(Unit::Times),
    ];
    for threads in THREADS {
        let (id, what) = (
            format!("commit-{threads}"),
            format!("a durable commit, {threads} threads"),
        );
        rows.push(r(&id, &what, ahead));
        let bar = match threads {
            8 => Some(Bar::AtLeast(5.0)),
            16 => Some(Bar::AtLeast(8.0)),
            _ => None,
        };
        let (id, what) = (
            format!("gain-{threads}"),
            format!("commits of {threads} threads / of one"),
        );
        rows.push(r(&id, &what, bar).unit(Unit::Times).without_chart());
    }
    rows.push(
        r(
            "amplification",
            "written to the device / data, random single commits",
            Some(Bar::BestTree),
        )
        .unit(Unit::Times),
    );
    let latency = "commit of 4 KB while checkpoints run";
    for (id, name) in [
        ("p50", "median"),
        ("p99", "p99"),
        ("p999", "p99.9"),
        ("max", "slowest"),
    ] {
        rows.push(r(
            &format!("latency-{id}"),
            &format!("{latency}, {name}"),
            None,
        ));
    }
    rows.push(
        r(
            "latency-spread",
            &format!("{latency}, p99.9 / median"),
            Some(Bar::AtMost(10.0)),
        )
        .unit(Unit::Times),
    );
    rows
}

pub fn run(bench: &Bench<'_>) -> Outcome<()> {
    let peer = bench.open()?;
    let peer = peer.as_ref();
    load(peer, 0..bench.options.entries, Promise::Durable)?;
    peer.settle()?;
    let recorder = &bench.recorder;
    let one = single(bench, peer)?;
    for threads in THREADS {
        let ids = [format!("commit-{threads}"), format!("gain-{threads}")];
        if recorder.wants(&ids[0]) || recorder.wants(&ids[1]) {
            // Not beside what the rows before have left to do.
            peer.settle()?;
            let each = threaded(bench, peer, threads)?;
            recorder.value(&ids[0], each);
            recorder.value(&ids[1], one / each);
        }
    }
    if recorder.wants("amplification") {
        amplification(bench, peer)?;
    }
    let ids = [
        "latency-p50",
        "latency-p99",
        "latency-p999",
        "latency-max",
        "latency-spread",
    ];
    if recorder.wants_any(&ids) {
        latency(bench, peer)?;
    }
    Ok(())
}

fn put(peer: &dyn Peer, n: u64, value: &mut [u8]) -> Outcome<()> {
    // Another value than was loaded: SQLite does not write what is there already.
    data::fill(n ^ 1 << 62, value);
    peer.write(Promise::Durable, &mut |tx| tx.put(&data::key(n), value))
}

/// One commit, one overwrite, in turns, so that both meet the same device. Returns the seconds that
/// a commit takes on average.
fn single(bench: &Bench<'_>, peer: &dyn Peer) -> Outcome<f64> {
    let mut value = [0; VALUE];
    let overwritten = Overwritten::new(bench)?;
    let (mut commits, mut overwrites) = (Vec::new(), Vec::new());
    for n in 0..bench.scaled(SINGLE) {
        overwrites.push(overwritten.write(n, &[n as u8; 256])?);
        let start = Instant::now();
        put(peer, family(1) + n, &mut value)?;
        commits.push(start.elapsed().as_secs_f64());
    }
    let mean = commits.iter().sum::<f64>() / commits.len() as f64;
    let commit = median_of(commits).unwrap_or(0.0);
    let overwrite = median_of(overwrites).unwrap_or(0.0);
    bench.recorder.value("commit-1", commit);
    bench.recorder.value_of("commit-1", FILE, overwrite);
    bench.recorder.value("commit-1-file", commit / overwrite);
    Ok(mean)
}

/// A plain file that is overwritten and synced, record by record.
struct Overwritten {
    file: File,
    path: PathBuf,
}

impl Overwritten {
    const BYTES: u64 = 4 << 20;
    const PIECE_BYTES: u64 = 4 << 10;

    fn new(bench: &Bench<'_>) -> Outcome<Self> {
        let path = bench.place.directory.join("overwritten");
        // Piece by piece, for the best that the device can do: the system keeps what one call wrote as one
        // piece of its cache, and each later write into a large one takes longer.
        let mut whole = File::create(&path)?;
        for _ in 0..Self::BYTES / Self::PIECE_BYTES {
            whole.write_all(&[1; Self::PIECE_BYTES as usize])?;
        }
        let mut options = OpenOptions::new();
        options.write(true);
        options.custom_flags(rustix::fs::OFlags::DSYNC.bits().cast_signed());
        let file = options.open(&path)?;
        file.sync_all()?;
        Ok(Overwritten { file, path })
    }

    /// Writes the n-th record. Returns the seconds that it took.
    fn write(&self, n: u64, bytes: &[u8]) -> Outcome<f64> {
        let records = Self::BYTES / bytes.len() as u64;
        let start = Instant::now();
        self.file
            .write_all_at(bytes, n % records * bytes.len() as u64)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

impl Drop for Overwritten {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Seconds for each commit of all threads together.
fn threaded(bench: &Bench<'_>, peer: &dyn Peer, threads: u64) -> Outcome<f64> {
    let each = (bench.scaled(THREADED) / threads).max(20);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || -> Outcome<()> {
                    let mut value = [0; VALUE];
                    let first = family(16 + threads) + thread * each;
                    (first..first + each).try_for_each(|n| put(peer, n, &mut value))
                })
            })
            .collect();
        for worker in workers {
            worker.join().map_err(|_| "a writer panicked")??;
        }
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    })?;
    let took = start.elapsed().as_secs_f64();
    let mut found = 0;
    peer.read(&mut |view| {
        for n in 0..threads * each {
            let key = data::key(family(16 + threads) + n);
            found += u64::from(view.get(&key, &mut |_| ())?);
        }
        Ok(())
    })?;
    match found == threads * each {
        true => Ok(took / (threads * each) as f64),
        false => Err(format!("{found} of {} commits are there", threads * each).into()),
    }
}

/// Commits that replace single entries all over the tree, until everything is in its place.
fn amplification(bench: &Bench<'_>, peer: &dyn Peer) -> Outcome<()> {
    peer.settle()?;
    let commits = bench.scaled(RANDOM);
    let mut draw = Draw::new(Choice::Uniform, bench.options.entries, 3);
    let mut value = [0; data::VALUE_BYTES];
    let before = bytes_written(&bench.place.directory);
    for _ in 0..commits {
        put(peer, draw.next(), &mut value)?;
    }
    peer.settle()?;
    let written = bytes_written(&bench.place.directory).saturating_sub(before);
    let data = commits * data::ENTRY_BYTES;
    bench
        .recorder
        .value("amplification", written as f64 / data as f64);
    Ok(())
}

/// So much is written that every engine has checkpoints, or compactions, to do meanwhile. Before it, as
/// many synced overwrites of a file: what the device alone does.
fn latency(bench: &Bench<'_>, peer: &dyn Peer) -> Outcome<()> {
    let commits = bench.scaled(LONG);
    let overwritten = Overwritten::new(bench)?;
    let bytes = vec![1; LONG_ENTRIES as usize * (LONG_VALUE + data::KEY_BYTES)];
    let overwrites = (0..commits).map(|n| overwritten.write(n, &bytes));
    let overwrites = overwrites.collect::<Outcome<Vec<f64>>>()?;
    drop(overwritten);
    let space = commits * 2;
    let mut random = Random::new(11);
    let mut times = Vec::new();
    let mut value = vec![0; LONG_VALUE];
    let mut last = 0;
    for _ in 0..commits {
        let numbers: [u64; LONG_ENTRIES as usize] =
            std::array::from_fn(|_| family(5) + random.below(space));
        let start = Instant::now();
        peer.write(Promise::Durable, &mut |tx| {
            for n in numbers {
                data::fill(n, &mut value);
                tx.put(&data::key(n), &value)?;
            }
            Ok(())
        })?;
        times.push(start.elapsed().as_secs_f64());
        last = numbers[0];
    }
    let mut sum = Sum::default();
    peer.read(
        &mut |view| match view.get(&data::key(last), &mut |value| sum.add(value))? {
            true => Ok(()),
            false => Err("a commit is missing".into()),
        },
    )?;
    let recorder = &bench.recorder;
    for (name, times) in [(bench.engine, times), (FILE, overwrites)] {
        let at = |share| percentile(times.clone(), share).unwrap_or(0.0);
        let (median, high) = (at(0.5), at(0.999));
        match name == FILE {
            true => recorder.value_of("latency-p50", name, median), // nothing was read of it
            false => recorder.found_of("latency-p50", name, median, sum),
        }
        recorder.value_of("latency-p99", name, at(0.99));
        recorder.value_of("latency-p999", name, high);
        recorder.value_of("latency-max", name, at(1.0));
        recorder.value_of("latency-spread", name, high / median);
    }
    Ok(())
}
