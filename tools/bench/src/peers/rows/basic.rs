//! The rows of redb's benchmark: 24-byte random keys with 150-byte random values.

use std::time::Instant;

use crate::data::{self, Choice, Draw, ENTRY_BYTES, Sum, family};
use crate::engine::{Outcome, Peer, Promise};
use crate::options::Options;
use crate::rows::{Bar, Bench, Row, Unit, load, row, scaled, size_on_disk};

const GROUP: &str = "basic";
const SINGLES: u64 = 100;
const BATCHES: u64 = 100;
const BATCH: u64 = 1000;
const NOSYNC: u64 = 50_000;
const READS: u64 = 1_000_000;
const SEEKS: u64 = 500_000;
const SEEK_ENTRIES: u64 = 10;
const THREADS: [u64; 4] = [4, 8, 16, 32];

pub fn rows(options: &Options) -> Vec<Row> {
    let ahead = Some(Bar::BestPeer(1.0));
    let reads = scaled(options, READS);
    let nosync = scaled(options, NOSYNC);
    let entries = options.entries;
    let r = |id: &str, what: String, bar| row(GROUP, id, &what, bar);
    let mut rows = vec![
        r(
            "load",
            format!("bulk load of {entries} in random order, one transaction"),
            Some(Bar::BestPeer(1.5)),
        )
        .durable(),
        r(
            "singles",
            format!("{SINGLES} durable commits of one entry"),
            ahead,
        )
        .durable(),
        r(
            "batches",
            format!("{BATCHES} durable batches of {BATCH}"),
            ahead,
        )
        .durable(),
        r(
            "nosync",
            format!("{nosync} unsynced commits of one entry"),
            ahead,
        ),
        r("len", "len()".to_string(), Some(Bar::AtMost(1e-6))),
        r(
            "reads-1",
            format!("{reads} random reads, 1 thread"),
            Some(Bar::Versus("lmdb", 1.5)),
        ),
        r(
            "seeks",
            format!("{} seeks of {SEEK_ENTRIES} entries", scaled(options, SEEKS)),
            Some(Bar::Versus("lmdb", 1.0)),
        ),
    ];
    for threads in THREADS {
        let what = format!("{reads} random reads, {threads} threads");
        let bar = Some(Bar::Versus("lmdb", 1.5));
        rows.push(r(&format!("reads-{threads}"), what, bar));
    }
    let raw = "size on disk / raw data";
    rows.extend([
        r("size", "size on disk before removals".into(), None)
            .unit(Unit::Bytes)
            .without_chart(),
        r("size-raw", format!("{raw}, before removals"), None).unit(Unit::Times),
        r(
            "removals",
            format!("removal of {}, one transaction", entries / 2),
            ahead,
        )
        .durable(),
        r("size-removed", format!("{raw}, after removals"), None).unit(Unit::Times),
        r("compaction", "compaction".into(), None).without_chart(),
        r(
            "size-compacted",
            format!("{raw}, compacted"),
            Some(Bar::LeastAndAtMost(1.35)),
        )
        .unit(Unit::Times),
    ]);
    rows
}

pub fn run(bench: &Bench<'_>) -> Outcome<()> {
    let entries = bench.options.entries;
    let recorder = &bench.recorder;
    let mut peer = bench.open()?;
    recorder.always("load", entries * ENTRY_BYTES, || {
        load(peer.as_ref(), 0..entries, Promise::Durable)?;
        Ok(None)
    })?;
    let added = write_small(bench, peer.as_ref())?;
    len(bench, peer.as_ref())?;
    recorder.time("reads-1", 0, || Ok(Some(reads(bench, peer.as_ref(), 1)?)))?;
    recorder.time("seeks", 0, || Ok(Some(seeks(bench, peer.as_ref())?)))?;
    for threads in THREADS {
        let id = format!("reads-{threads}");
        recorder.time(&id, 0, || Ok(Some(reads(bench, peer.as_ref(), threads)?)))?;
    }
    sizes(bench, peer.as_mut(), entries + added)
}

/// Small transactions. Returns how many entries there are more.
fn write_small(bench: &Bench<'_>, peer: &dyn Peer) -> Outcome<u64> {
    let recorder = &bench.recorder;
    let nosync = bench.scaled(NOSYNC);
    recorder.always("singles", SINGLES * ENTRY_BYTES, || {
        for n in 0..SINGLES {
            load(peer, family(1) + n..family(1) + n + 1, Promise::Durable)?;
        }
        Ok(None)
    })?;
    recorder.always("batches", BATCHES * BATCH * ENTRY_BYTES, || {
        for batch in 0..BATCHES {
            let first = family(2) + batch * BATCH;
            load(peer, first..first + BATCH, Promise::Durable)?;
        }
        Ok(None)
    })?;
    recorder.always("nosync", nosync * ENTRY_BYTES, || {
        for n in 0..nosync {
            load(peer, family(3) + n..family(3) + n + 1, Promise::Unsynced)?;
        }
        Ok(None)
    })?;
    peer.flush()?;
    Ok(SINGLES + BATCHES * BATCH + nosync)
}

/// So short for some that it has to be repeated to be seen at all.
fn len(bench: &Bench<'_>, peer: &dyn Peer) -> Outcome<()> {
    if !bench.recorder.wants("len") {
        return Ok(());
    }
    peer.read(&mut |view| {
        let (length, each) = repeated(|| view.len())?;
        bench.recorder.value("len", each);
        let expected = bench.options.entries + SINGLES + BATCHES * BATCH + bench.scaled(NOSYNC);
        match length == expected {
            true => Ok(()),
            false => Err(format!("len is {length}, not {expected}").into()),
        }
    })
}

/// What comes of it, and how many seconds one call takes.
pub fn repeated<T>(mut work: impl FnMut() -> Outcome<T>) -> Outcome<(T, f64)> {
    let mut calls = 1u64;
    loop {
        let start = Instant::now();
        for _ in 1..calls {
            std::hint::black_box(work()?);
        }
        let last = work()?;
        let took = start.elapsed().as_secs_f64();
        if took > 0.02 {
            return Ok((last, took / calls as f64));
        }
        calls *= 8;
    }
}

fn reads(bench: &Bench<'_>, peer: &dyn Peer, threads: u64) -> Outcome<Sum> {
    read_many(
        peer,
        bench.options.entries,
        bench.scaled(READS),
        threads,
        Choice::Uniform,
    )
}

/// Random reads by several threads, each on a snapshot of its own.
pub fn read_many(
    peer: &dyn Peer,
    entries: u64,
    reads: u64,
    threads: u64,
    choice: Choice,
) -> Outcome<Sum> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let draw = Draw::new(choice, entries, thread);
                scope.spawn(move || read_some(peer, draw, reads / threads))
            })
            .collect();
        let mut total = Sum::default();
        for worker in workers {
            total.join(worker.join().map_err(|_| "a reader panicked")??);
        }
        Ok(total)
    })
}

pub fn read_some(peer: &dyn Peer, mut draw: Draw, reads: u64) -> Outcome<Sum> {
    let mut sum = Sum::default();
    peer.read(&mut |view| {
        for _ in 0..reads {
            let n = draw.next();
            if !view.get(&data::key(n), &mut |value| sum.add(value))? {
                return Err(format!("entry {n} is missing").into());
            }
        }
        Ok(())
    })?;
    Ok(sum)
}

fn seeks(bench: &Bench<'_>, peer: &dyn Peer) -> Outcome<Sum> {
    let mut sum = Sum::default();
    let mut draw = Draw::new(Choice::Uniform, bench.options.entries, 7);
    peer.read(&mut |view| {
        for _ in 0..bench.scaled(SEEKS) {
            view.scan(&data::key(draw.next()), SEEK_ENTRIES, &mut |key, value| {
                sum.add(key);
                sum.add(value);
            })?;
        }
        Ok(())
    })?;
    Ok(sum)
}

fn sizes(bench: &Bench<'_>, peer: &mut dyn Peer, entries: u64) -> Outcome<()> {
    let recorder = &bench.recorder;
    let removed = bench.options.entries / 2;
    let ids = [
        "size",
        "size-raw",
        "removals",
        "size-removed",
        "compaction",
        "size-compacted",
    ];
    if !recorder.wants_any(&ids) {
        return Ok(());
    }
    let raw = |entries: u64| (entries * ENTRY_BYTES) as f64;
    peer.settle()?;
    let size = size_on_disk(&bench.place.directory)? as f64;
    recorder.value("size", size);
    recorder.value("size-raw", size / raw(entries));
    recorder.always("removals", removed * ENTRY_BYTES, || {
        peer.write(Promise::Durable, &mut |tx| {
            tx.delete_many(&mut (0..removed).map(data::key))
        })?;
        Ok(None)
    })?;
    peer.settle()?;
    let left = raw(entries - removed);
    let size = size_on_disk(&bench.place.directory)? as f64;
    recorder.value("size-removed", size / left);
    let mut compacts = true;
    let took = Instant::now();
    if recorder.wants_any(&["compaction", "size-compacted"]) {
        compacts = peer.compact()?;
    }
    if compacts {
        recorder.value("compaction", took.elapsed().as_secs_f64());
        let size = size_on_disk(&bench.place.directory)? as f64;
        recorder.value("size-compacted", size / left);
    }
    check(peer, entries - removed)
}

/// Whether exactly the others are left.
fn check(peer: &dyn Peer, expected: u64) -> Outcome<()> {
    peer.read(&mut |view| {
        let mut count = 0;
        view.scan(&[0], u64::MAX, &mut |_, _| count += 1)?;
        match count == expected {
            true => Ok(()),
            false => Err(format!("{count} entries are left, not {expected}").into()),
        }
    })
}
