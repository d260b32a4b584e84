//! What a child measures, told to its parent line by line, as JSON.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::data::Sum;
use crate::engine::Outcome;

/// One measurement.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    pub row: String,
    /// Which column it belongs to.
    pub column: String,
    pub value: f64,
    /// What was read; has to be the same for all engines.
    pub digest: Option<u64>,
    /// Bytes that the device got meanwhile.
    pub written: u64,
    /// Bytes of keys and values that were to be written.
    pub data: u64,
}

impl Measured {
    pub fn to_json(&self) -> Value {
        json!({
            "row": self.row,
            "column": self.column,
            "value": self.value,
            "digest": self.digest,
            "written": self.written,
            "data": self.data,
        })
    }

    pub fn from_json(line: &Value) -> Option<Self> {
        Some(Measured {
            row: line["row"].as_str()?.to_string(),
            column: line["column"].as_str()?.to_string(),
            value: line["value"].as_f64()?,
            digest: line["digest"].as_u64(),
            written: line["written"].as_u64()?,
            data: line["data"].as_u64()?,
        })
    }
}

/// A number from a file of the kernel in which lines are `name: number`.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let line = line.trim_start_matches(':').trim();
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes that reached the device that a directory is on, those of the journal of its file system
/// included, after everything was brought there; of all processes, so nothing else may run. (What
/// the kernel says of one process, `/proc/self/io`, counts a whole folio for each write into one:
/// many times what is written.) Only that is known where the device is none of the kernel's own.
pub fn bytes_written(directory: &Path) -> u64 {
    device_bytes(directory)
        .or_else(|| field("/proc/self/io", "write_bytes"))
        .unwrap_or(0)
}

fn device_bytes(directory: &Path) -> Option<u64> {
    let opened = File::open(directory).ok()?;
    rustix::fs::syncfs(&opened).ok()?;
    let device = opened.metadata().ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    let sectors: u64 = text.split_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * 512)
}

/// The most memory that this process ever had, pages of mapped files included.
pub fn peak_memory() -> u64 {
    field("/proc/self/status", "VmHWM").unwrap_or(0) << 10
}

#[derive(Debug)]
pub struct Recorder {
    column: String,
    rows: Vec<String>,
    directory: PathBuf,
}

impl Recorder {
    pub fn new(column: &str, rows: &[String], directory: &Path) -> Self {
        Recorder {
            column: column.to_string(),
            rows: rows.to_vec(),
            directory: directory.to_path_buf(),
        }
    }

    pub fn wants(&self, row: &str) -> bool {
        self.rows.iter().any(|wanted| wanted == row)
    }

    pub fn wants_any(&self, rows: &[&str]) -> bool {
        rows.iter().any(|row| self.wants(row))
    }

    pub fn say(&self, measured: &Measured) {
        println!("{}", measured.to_json());
    }

    /// A number that was found, of a row that is wanted.
    pub fn value(&self, row: &str, value: f64) {
        self.value_of(row, &self.column, value);
    }

    pub fn value_of(&self, row: &str, column: &str, value: f64) {
        if self.wants(row) {
            self.say(&Measured {
                row: row.to_string(),
                column: column.to_string(),
                value,
                ..Measured::default()
            });
        }
    }

    /// A number, and the sum of what was read for it.
    pub fn found(&self, row: &str, value: f64, sum: Sum) {
        self.found_of(row, &self.column, value, sum);
    }

    pub fn found_of(&self, row: &str, column: &str, value: f64, sum: Sum) {
        if self.wants(row) {
            self.say(&Measured {
                row: row.to_string(),
                column: column.to_string(),
                value,
                digest: Some(sum.digest()),
                ..Measured::default()
            });
        }
    }

    /// Runs and times something if the row is wanted. What was read comes back as a sum.
    pub fn time(
        &self,
        row: &str,
        data: u64,
        work: impl FnOnce() -> Outcome<Option<Sum>>,
    ) -> Outcome<()> {
        match self.wants(row) {
            true => self.always(row, data, work).map(drop),
            false => Ok(()),
        }
    }

    /// The same for work that the rows behind it need: it is done, and told if it is wanted.
    pub fn always(
        &self,
        row: &str,
        data: u64,
        work: impl FnOnce() -> Outcome<Option<Sum>>,
    ) -> Outcome<Duration> {
        // What only reads is not to wait for a sync.
        let count = || match data > 0 && self.wants(row) {
            true => bytes_written(&self.directory),
            false => 0,
        };
        let written = count();
        let start = Instant::now();
        let sum = work()?;
        let took = start.elapsed();
        if self.wants(row) {
            self.say(&Measured {
                row: row.to_string(),
                column: self.column.clone(),
                value: took.as_secs_f64(),
                digest: sum.map(|sum| sum.digest()),
                written: count().saturating_sub(written),
                data,
            });
        }
        Ok(took)
    }
}
