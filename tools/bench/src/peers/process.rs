//! A process for each engine and group of rows: with caches of its own, a peak of its own, and
//! nothing left of the engine before.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::engine::{Outcome, Place};
use crate::options::{Child, Options};
use crate::recorder::{Measured, Recorder, peak_memory};
use crate::rows::{self, Bench};

/// Runs a child and returns what it measured.
pub fn run(
    options: &Options,
    child: &Child,
    directory: &Path,
) -> (Vec<Measured>, Result<(), String>) {
    match start(options, child, directory) {
        Ok((text, result)) => {
            let lines = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            let measured = lines.filter_map(|line| Measured::from_json(&line));
            (measured.collect(), result)
        }
        Err(error) => (Vec::new(), Err(error.to_string())),
    }
}

fn start(
    options: &Options,
    child: &Child,
    directory: &Path,
) -> Outcome<(String, Result<(), String>)> {
    let output = Command::new(std::env::current_exe()?)
        .args(options.for_child())
        .args(["--child", &child.group, "--engine", &child.engine])
        .args(["--rows", &child.rows.join(",")])
        .arg("--dir")
        .arg(directory)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.trim().lines().last().unwrap_or_default().to_string();
    let result = match output.status.success() {
        true => Ok(()),
        false => Err(format!("{}: {last}", output.status)),
    };
    Ok((String::from_utf8(output.stdout)?, result))
}

/// What a child does.
pub fn be(options: &Options, child: &Child) -> Outcome<()> {
    let directory = options.directory.clone().ok_or("a child needs --dir")?;
    let limit = options.limit_s;
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(limit));
        eprintln!("took longer than {limit} s");
        std::process::exit(3);
    });
    let bench = Bench {
        options,
        place: Place {
            directory: directory.join(&child.engine),
            cache_bytes: options.cache_mib << 20,
            map_bytes: map_bytes(options),
            log_bytes: None,
            has_little_memory: false,
        },
        engine: &child.engine,
        recorder: Recorder::new(&child.engine, &child.rows, &directory),
    };
    match &*child.group {
        "basic" => rows::basic::run(&bench)?,
        "commits" => rows::commits::run(&bench)?,
        "reads" => rows::reads::run(&bench)?,
        "recovery" => rows::recovery::run(&bench)?,
        "memory" => rows::memory::run(&bench)?,
        "blobs" => rows::blobs::run(&bench)?,
        rows::recovery::FILL => rows::recovery::fill(&bench)?,
        rows::memory::FILL => rows::memory::fill(&bench)?,
        other => return Err(format!("no group {other}").into()),
    }
    let row = format!("peak-{}", child.group);
    bench.recorder.value(&row, peak_memory() as f64);
    Ok(())
}

/// Room for everything that any row writes, and then some.
fn map_bytes(options: &Options) -> u64 {
    let entries = options.entries * crate::data::ENTRY_BYTES * 16;
    let files = (options.recovery_mib() << 20) * 8;
    let blobs: u64 = options.blob_kib.iter().map(|kib| kib << 14).sum();
    (entries + files + blobs).max(64 << 30)
}
