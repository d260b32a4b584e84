//! Open after a kill: another process fills a database, commits some more, and kills itself.

use std::time::Instant;

use crate::data::{self, ENTRY_BYTES, Sum, family};
use crate::engine::{Order, Outcome, Place, Promise};
use crate::options::{Child, Options};
use crate::process;
use crate::rows::{Bar, Bench, Row, row};

const GROUP: &str = "recovery";
/// The process that is killed.
pub const FILL: &str = "recovery-fill";
/// What the log gets, commit by commit.
const COMMIT_ENTRIES: u64 = 16;
/// So many entries are filled in at once.
const STEP: usize = 1_000_000;
/// Up to here every engine keeps the log that it has by default.
const DEFAULT_LOG_MIB: u64 = 15;

fn id(log_mib: u64) -> String {
    format!("open-{log_mib}")
}

pub fn rows(options: &Options) -> Vec<Row> {
    let logs = options.logs_mib.iter().map(|log_mib| {
        let file = options.recovery_mib();
        let value = options.recovery_value_bytes;
        let what = format!(
            "open after a kill, {file} MiB of data, {log_mib} MiB of {value}-byte values committed since"
        );
        row(GROUP, &id(*log_mib), &what, Some(Bar::AtMost(0.3)))
    });
    logs.collect()
}

fn place(bench: &Bench<'_>, log_mib: u64) -> Place {
    Place {
        directory: bench.place.directory.join(id(log_mib)),
        log_bytes: (log_mib > DEFAULT_LOG_MIB).then_some(log_mib << 20),
        ..bench.place.clone()
    }
}

fn commits(bench: &Bench<'_>, log_mib: u64) -> u64 {
    let entry_bytes = data::KEY_BYTES + bench.options.recovery_value_bytes;
    let each = COMMIT_ENTRIES * entry_bytes as u64;
    ((log_mib << 20) / each).max(1)
}

pub fn run(bench: &Bench<'_>) -> Outcome<()> {
    for log_mib in bench.options.logs_mib.iter().copied() {
        let id = id(log_mib);
        if !bench.recorder.wants(&id) {
            continue;
        }
        let child = Child {
            group: FILL.to_string(),
            engine: bench.engine.to_string(),
            rows: vec![id.clone()],
        };
        let directory = bench.place.directory.parent().ok_or("no directory")?;
        if let (_, Err(reason)) = process::run(bench.options, &child, directory)
            && !reason.contains("signal: 9")
        {
            return Err(format!("could not fill: {reason}").into());
        }
        let start = Instant::now();
        let peer = crate::engines::open(bench.engine, &place(bench, log_mib))?;
        let last = family(12) + commits(bench, log_mib) * COMMIT_ENTRIES - 1;
        let mut sum = Sum::default();
        let mut is_there = false;
        peer.read(&mut |view| {
            is_there = view.get(&data::key(last), &mut |value| sum.add(value))?;
            Ok(())
        })?;
        let took = start.elapsed().as_secs_f64();
        if !is_there {
            return Err("the last durable commit is lost".into());
        }
        bench.recorder.found(&id, took, sum);
        drop(peer);
        std::fs::remove_dir_all(place(bench, log_mib).directory)?;
    }
    Ok(())
}

/// Does not return if all goes well.
pub fn fill(bench: &Bench<'_>) -> Outcome<()> {
    for log_mib in bench.options.logs_mib.iter().copied() {
        if bench.recorder.wants(&id(log_mib)) {
            fill_one(bench, log_mib)?;
        }
    }
    Err("nothing to fill".into())
}

fn fill_one(bench: &Bench<'_>, log_mib: u64) -> Outcome<()> {
    let peer = crate::engines::open(bench.engine, &place(bench, log_mib))?;
    let entries = (bench.options.recovery_mib() << 20) / ENTRY_BYTES;
    // In order, some at a time: what is measured is the open, and large trees are slow to fill at random.
    let mut numbers: Vec<(data::Key, u64)> = (0..entries).map(|n| (data::key(n), n)).collect();
    numbers.sort_unstable();
    for part in numbers.chunks(STEP) {
        peer.write(Promise::Unsynced, &mut |tx| {
            let mut entries = part.iter().map(|(key, n)| (*key, data::value(*n)));
            tx.put_many(&mut entries, Order::Ascending)
        })?;
    }
    peer.flush()?;
    peer.settle()?;
    let mut value = vec![0; bench.options.recovery_value_bytes];
    let commits = commits(bench, log_mib);
    for commit in 0..commits {
        // The last one makes all before it durable.
        let promise = match commit + 1 == commits {
            true => Promise::Durable,
            false => Promise::Unsynced,
        };
        let first = family(12) + commit * COMMIT_ENTRIES;
        peer.write(promise, &mut |tx| {
            for n in first..first + COMMIT_ENTRIES {
                data::fill(n, &mut value);
                tx.put(&data::key(n), &value)?;
            }
            Ok(())
        })?;
    }
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::KILL)?;
    Ok(())
}
