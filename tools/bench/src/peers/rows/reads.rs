//! Keys in order: load, scan, counts. Reads that prefer some entries, and reads beside a writer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::data::{self, Choice, Draw, ENTRY_BYTES, Sum, family};
use crate::engine::{Hot, Order, Outcome, Peer, Promise};
use crate::options::Options;
use crate::rows::basic::{read_some, repeated};
use crate::rows::{Bar, Bench, Row, load, row, scaled};

const GROUP: &str = "reads";
const READS: u64 = 1_000_000;
const BESIDE: u64 = 500_000;
const COUNTS: u64 = 16;

pub fn rows(options: &Options) -> Vec<Row> {
    let reads = scaled(options, READS);
    let beside = scaled(options, BESIDE);
    let entries = options.entries;
    let tenth = format!("count of a range of a tenth, {}", entries / 10);
    let lmdb = |factor| Some(Bar::Versus("lmdb", factor));
    let r = |id: &str, what: String, bar| row(GROUP, id, &what, bar);
    vec![
        r(
            "load-sorted",
            format!("bulk load of {entries} in order, one transaction"),
            Some(Bar::BestPeer(1.5)),
        )
        .durable(),
        r("scan", format!("full ordered scan of {entries}"), lmdb(1.0)),
        r("count", tenth, Some(Bar::AtMost(1e-6))),
        r("skewed", format!("{reads} reads, 90 % of 1 %"), lmdb(3.0)),
        r("zipf", format!("{reads} reads, Zipf 0.99"), lmdb(3.0)),
        r(
            "beside",
            format!("{beside} random reads while a writer commits"),
            lmdb(1.0),
        ),
        r(
            "beside-writer",
            "one of the commits of that writer, unsynced".to_string(),
            None,
        ),
    ]
}

pub fn run(bench: &Bench<'_>) -> Outcome<()> {
    let entries = bench.options.entries;
    let recorder = &bench.recorder;
    let peer = bench.open()?;
    let peer = peer.as_ref();
    recorder.time("load-sorted", entries * ENTRY_BYTES, || {
        load_sorted(peer, entries)
    })?;
    // The entries of the other rows are in the order of no number.
    if recorder.wants_any(&["scan", "count", "skewed", "zipf", "beside"]) {
        clear(bench, peer, recorder.wants("load-sorted"))?;
        load(peer, 0..entries, Promise::Durable)?;
        peer.settle()?;
    }
    recorder.time("scan", 0, || scan(peer, entries))?;
    if recorder.wants("count") {
        count(bench, peer)?;
    }
    skewed(bench, peer)?;
    recorder.time("beside", 0, || beside(bench, peer))
}

fn load_sorted(peer: &dyn Peer, entries: u64) -> Outcome<Option<Sum>> {
    peer.write(Promise::Durable, &mut |tx| {
        let mut all = (0..entries).map(|n| (data::ordered_key(n), data::value(n)));
        tx.put_many(&mut all, Order::Ascending)
    })?;
    Ok(None)
}

/// Checks what is there, and removes it.
fn clear(bench: &Bench<'_>, peer: &dyn Peer, is_loaded: bool) -> Outcome<()> {
    if !is_loaded {
        return Ok(());
    }
    let entries = bench.options.entries;
    scan(peer, entries)?;
    peer.write(Promise::Unsynced, &mut |tx| {
        tx.delete_many(&mut (0..entries).map(data::ordered_key))
    })?;
    peer.settle()
}

fn scan(peer: &dyn Peer, entries: u64) -> Outcome<Option<Sum>> {
    let mut sum = Sum::default();
    let mut is_ordered = true;
    let mut before = data::Key::default();
    peer.read(&mut |view| {
        view.scan(&[0], u64::MAX, &mut |key, value| {
            is_ordered &= before[..] < *key;
            before.copy_from_slice(key);
            sum.add(key);
            sum.add(value);
        })
    })?;
    match is_ordered && sum.count == 2 * entries {
        true => Ok(Some(sum)),
        false => Err(format!(
            "{} of {entries} entries, in order: {is_ordered}",
            sum.count / 2
        )
        .into()),
    }
}

/// Different ranges, each of a tenth of all keys.
fn count(bench: &Bench<'_>, peer: &dyn Peer) -> Outcome<()> {
    let range = |n: u64| {
        let low = (u64::MAX / 10 * 9) / COUNTS * n;
        (low.to_be_bytes(), (low + u64::MAX / 10).to_be_bytes())
    };
    peer.read(&mut |view| {
        let (total, each) = repeated(|| {
            let mut total = 0;
            for n in 0..COUNTS {
                let (low, high) = range(n);
                total += view.count(&low, &high)?;
            }
            Ok(total)
        })?;
        let mut sum = Sum::default();
        sum.add(&total.to_le_bytes());
        bench.recorder.found("count", each / COUNTS as f64, sum);
        Ok(())
    })
}

fn skewed(bench: &Bench<'_>, peer: &dyn Peer) -> Outcome<()> {
    let recorder = &bench.recorder;
    let entries = bench.options.entries;
    let rows = [("skewed", Choice::NinetyOfOne), ("zipf", Choice::Zipf)];
    if !recorder.wants_any(&["skewed", "zipf"]) {
        return Ok(());
    }
    if let Some(hot) = peer.hot() {
        hot.load(&mut (0..entries).map(|n| (data::key(n).to_vec(), data::value(n).to_vec())))?;
        peer.settle()?;
    }
    for (id, choice) in rows {
        let reads = bench.scaled(READS);
        // What is drawn is drawn before the clock runs: Zipf's law takes longer than a read.
        let keys = |seed, reads: u64| -> Vec<data::Key> {
            let mut draw = Draw::new(choice, entries, seed);
            (0..reads).map(|_| data::key(draw.next())).collect()
        };
        read_keys(peer, &keys(1, reads / 4))?; // so that it is known what is read often
        let keys = keys(2, reads);
        recorder.time(id, 0, || Ok(Some(read_keys(peer, &keys)?)))?;
    }
    Ok(())
}

fn read_keys(peer: &dyn Peer, keys: &[data::Key]) -> Outcome<Sum> {
    if let Some(hot) = peer.hot() {
        return read_hot(hot, keys);
    }
    let mut sum = Sum::default();
    peer.read(&mut |view| {
        for key in keys {
            if !view.get(key, &mut |value| sum.add(value))? {
                return Err("an entry is missing".into());
            }
        }
        Ok(())
    })?;
    Ok(sum)
}

fn read_hot(hot: &dyn Hot, keys: &[data::Key]) -> Outcome<Sum> {
    let mut sum = Sum::default();
    for key in keys {
        if !hot.get(key, &mut |value| sum.add(value))? {
            return Err("an entry is missing".into());
        }
    }
    Ok(sum)
}

/// One thread reads, each hundred reads on a snapshot of their own; another commits single entries,
/// unsynced, as fast as it can: how fast that is is a row of its own, as who commits more disturbs more.
fn beside(bench: &Bench<'_>, peer: &dyn Peer) -> Outcome<Option<Sum>> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> Outcome<f64> {
            let first = family(9);
            let mut n = first;
            let start = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                load(peer, n..n + 1, Promise::Unsynced)?;
                n += 1;
            }
            Ok(start.elapsed().as_secs_f64() / (n - first).max(1) as f64)
        });
        let mut sum = Sum::default();
        let mut result = Ok(());
        for round in 0..bench.scaled(BESIDE) / 100 {
            match read_many_here(peer, bench.options.entries, round) {
                Ok(some) => sum.join(some),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        let commit = writer.join().map_err(|_| "the writer panicked")??;
        bench.recorder.value("beside-writer", commit);
        result.map(|()| Some(sum))
    })
}

fn read_many_here(peer: &dyn Peer, entries: u64, seed: u64) -> Outcome<Sum> {
    read_some(peer, Draw::new(Choice::Uniform, entries, seed), 100)
}
