//! Data of four times the memory: the process is in a control group with a limit, which counts the
//! pages of files that it reads as well.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::data::{Choice, ENTRY_BYTES, family};
use crate::engine::{Outcome, Place, Promise};
use crate::options::{Child, Options};
use crate::process;
use crate::rows::basic::read_many;
use crate::rows::{Bench, Row, load, row, scaled};

const GROUP: &str = "memory";
/// The process that fills the database, without a limit.
pub const FILL: &str = "memory-fill";
const READS: u64 = 10_000;
const COMMITS: u64 = 5_000;
/// Less than this is too little for the engines' own tables and stacks.
const LEAST: u64 = 24 << 20;

pub fn rows(options: &Options) -> Vec<Row> {
    let reads = scaled(options, READS);
    let commits = scaled(options, COMMITS);
    let given = "data of four times the memory";
    vec![
        row(
            GROUP,
            "small-reads",
            &format!("{reads} random reads, {given}"),
            None,
        ),
        row(
            GROUP,
            "small-commits",
            &format!("{commits} unsynced commits of one entry, {given}"),
            None,
        ),
    ]
}

pub fn run(bench: &Bench<'_>) -> Outcome<()> {
    let entries = bench.options.entries;
    let limit = entries * ENTRY_BYTES / 4;
    if !bench.recorder.wants_any(&["small-reads", "small-commits"]) {
        return Ok(());
    }
    if limit < LEAST {
        let needed = LEAST * 4 / ENTRY_BYTES;
        return Err(format!("skipped: it takes at least {needed} entries").into());
    }
    let group =
        Group::new(limit).map_err(|reason| format!("skipped: no memory limit: {reason}"))?;
    let child = Child {
        group: FILL.to_string(),
        engine: bench.engine.to_string(),
        rows: Vec::new(),
    };
    let directory = bench.place.directory.parent().ok_or("no directory")?;
    process::run(bench.options, &child, directory).1?;
    forget(&bench.place.directory)?;
    group.join()?;
    let peer = crate::engines::open(bench.engine, &small(bench))?;
    let recorder = &bench.recorder;
    recorder.time("small-reads", 0, || {
        let reads = bench.scaled(READS);
        Ok(Some(read_many(
            peer.as_ref(),
            entries,
            reads,
            1,
            Choice::Uniform,
        )?))
    })?;
    let commits = bench.scaled(COMMITS);
    recorder.time("small-commits", commits * ENTRY_BYTES, || {
        for n in 0..commits {
            load(
                peer.as_ref(),
                family(3) + n..family(3) + n + 1,
                Promise::Unsynced,
            )?;
        }
        peer.flush()?;
        Ok(None)
    })
}

/// A quarter of the memory for the cache: the rest is for everything else, the kernel's pages too.
fn small(bench: &Bench<'_>) -> Place {
    Place {
        cache_bytes: bench.options.entries * ENTRY_BYTES / 16,
        has_little_memory: true,
        ..bench.place.clone()
    }
}

pub fn fill(bench: &Bench<'_>) -> Outcome<()> {
    let peer = bench.open()?;
    load(peer.as_ref(), 0..bench.options.entries, Promise::Durable)?;
    peer.settle()
}

/// Lets the kernel drop what it holds of the files.
fn forget(directory: &Path) -> Outcome<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
            continue;
        }
        let file = File::open(path)?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

/// A control group with a memory limit, below the one that this process is in.
struct Group {
    home: PathBuf,
    path: PathBuf,
}

impl Group {
    fn new(limit: u64) -> Outcome<Self> {
        let text = std::fs::read_to_string("/proc/self/cgroup")?;
        let mut homes = text.lines().filter_map(|line| {
            let (_, line) = line.split_once(':')?;
            let (controllers, path) = line.split_once(':')?;
            let path = path.trim_start_matches('/');
            match controllers {
                "memory" => Some((
                    Path::new("/sys/fs/cgroup/memory").join(path),
                    "memory.limit_in_bytes",
                )),
                "" => Some((Path::new("/sys/fs/cgroup").join(path), "memory.max")),
                _ => None,
            }
        });
        let usable = |(home, _): &(PathBuf, &str)| home.join("cgroup.procs").exists();
        let (home, file) = homes.find(usable).ok_or("no control group with memory")?;
        let path = home.join(format!("aurora-bench-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        let group = Group { home, path };
        std::fs::write(group.path.join(file), limit.to_string())?;
        Ok(group)
    }

    fn join(&self) -> Outcome<()> {
        let own = std::process::id().to_string();
        Ok(std::fs::write(self.path.join("cgroup.procs"), own)?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let own = std::process::id().to_string();
        let _ = std::fs::write(self.home.join("cgroup.procs"), own);
        let _ = std::fs::remove_dir(&self.path);
    }
}
