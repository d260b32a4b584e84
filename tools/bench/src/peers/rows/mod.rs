//! The rows: what is measured, in which group, and what Aurora has to reach.
//!
//! A group is what one process does for one engine, from a new directory on. The work of a group is
//! always the same for all engines.

pub mod basic;
pub mod blobs;
pub mod commits;
pub mod memory;
pub mod reads;
pub mod recovery;

use crate::engine::{Order, Outcome, Peer, Place, Promise};
use crate::options::Options;
use crate::recorder::Recorder;
use crate::{data, engines};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Bytes,
    /// How many times as much as something else.
    Times,
}

/// What Aurora has to reach in a row.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    /// So many times as good as the best peer.
    BestPeer(f64),
    /// So many times as good as one engine (or the plain file).
    Versus(&'static str, f64),
    AtMost(f64),
    AtLeast(f64),
    /// At most so much, and the least of all peers.
    LeastAndAtMost(f64),
    /// Better than all engines that are B+trees.
    BestTree,
}

#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub group: &'static str,
    pub what: String,
    pub unit: Unit,
    pub bar: Option<Bar>,
    /// Whether it waits for the device: engines that do not are not compared with.
    pub durable: bool,
    pub chart: bool,
}

pub const GROUPS: [&str; 6] = ["basic", "commits", "reads", "recovery", "memory", "blobs"];

pub fn row(group: &'static str, id: &str, what: &str, bar: Option<Bar>) -> Row {
    Row {
        id: id.to_string(),
        group,
        what: what.to_string(),
        unit: Unit::Seconds,
        bar,
        durable: false,
        chart: true,
    }
}

impl Row {
    pub fn unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    pub fn without_chart(mut self) -> Self {
        self.chart = false;
        self
    }
}

/// All rows, in the order of the table.
pub fn all(options: &Options) -> Vec<Row> {
    let mut rows = basic::rows(options);
    rows.extend(commits::rows());
    rows.extend(reads::rows(options));
    rows.extend(recovery::rows(options));
    rows.extend(memory::rows(options));
    rows.extend(blobs::rows(options));
    for group in GROUPS {
        let what = format!("most memory, group of rows \"{group}\"");
        let id = format!("peak-{group}");
        rows.push(row(group, &id, &what, None).unit(Unit::Bytes));
    }
    rows
}

/// One engine in one process.
pub struct Bench<'o> {
    pub options: &'o Options,
    pub place: Place,
    pub engine: &'o str,
    pub recorder: Recorder,
}

impl Bench<'_> {
    pub fn open(&self) -> Outcome<Box<dyn Peer>> {
        engines::open(self.engine, &self.place)
    }

    /// How many operations of a row with so many by default: fewer when there are few entries.
    pub fn scaled(&self, operations: u64) -> u64 {
        scaled(self.options, operations)
    }
}

pub fn scaled(options: &Options, operations: u64) -> u64 {
    let share = (options.entries as f64 / 1e6).min(1.0);
    ((operations as f64 * share) as u64).max(operations.min(100))
}

/// Entries of a range of numbers, in one transaction.
pub fn load(peer: &dyn Peer, numbers: std::ops::Range<u64>, promise: Promise) -> Outcome<()> {
    peer.write(promise, &mut |tx| {
        let mut entries = numbers.clone().map(|n| (data::key(n), data::value(n)));
        match numbers.end - numbers.start {
            1 => entries.try_for_each(|(key, value)| tx.put(&key, &value)),
            _ => tx.put_many(&mut entries, Order::Any),
        }
    })
}

/// What files take up on the device.
pub fn size_on_disk(directory: &std::path::Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        total += match facts.is_dir() {
            true => size_on_disk(&entry.path())?,
            false => facts.blocks() * 512,
        };
    }
    Ok(total)
}
