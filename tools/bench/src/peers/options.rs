//! What the command line says.

use std::path::PathBuf;

use crate::engine::Outcome;
use crate::engines;

#[derive(Debug, Clone)]
pub struct Options {
    pub entries: u64,
    pub repeat: usize,
    /// No further repetition begins if it would probably end later than so many minutes after the
    /// start.
    pub minutes: Option<u64>,
    pub directory: Option<PathBuf>,
    pub json: Option<PathBuf>,
    pub charts: Option<PathBuf>,
    pub only: Vec<String>,
    pub engines: Vec<String>,
    pub cache_mib: u64,
    pub recovery_mib: Option<u64>,
    /// How long the values are that are committed before the kill.
    pub recovery_value_bytes: usize,
    pub logs_mib: Vec<u64>,
    /// How large blobs are; if nothing is said, larger ones when there are many entries.
    pub blob_kib: Vec<u64>,
    /// How long one process may take before it is given up.
    pub limit_s: u64,
    /// Set in a process that measures one engine: what it is to do.
    pub child: Option<Child>,
}

#[derive(Debug, Clone, Default)]
pub struct Child {
    pub group: String,
    pub engine: String,
    pub rows: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let built = engines::KINDS.iter().map(|kind| kind.name.to_string());
        Options {
            entries: 1_000_000,
            repeat: 3,
            minutes: None,
            directory: None,
            json: None,
            charts: None,
            only: Vec::new(),
            engines: built.filter(|name| engines::is_built(name)).collect(),
            cache_mib: 4096,
            recovery_mib: None,
            recovery_value_bytes: 1000,
            logs_mib: vec![15],
            blob_kib: Vec::new(),
            limit_s: 900,
            child: None,
        }
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_string).collect()
}

fn number(text: &str) -> Outcome<u64> {
    Ok(text.replace('_', "").parse()?)
}

fn numbers(text: &str) -> Outcome<Vec<u64>> {
    text.split(',').map(number).collect()
}

impl Options {
    pub fn from_arguments() -> Outcome<Self> {
        let mut options = Options::default();
        let mut child = Child::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let value = { arguments.next() }.ok_or(format!("{argument} needs a value"))?;
            match &*argument {
                "--entries" => options.entries = number(&value)?.max(1000),
                "--repeat" => options.repeat = value.parse()?,
                "--minutes" => options.minutes = Some(number(&value)?),
                "--dir" => options.directory = Some(value.into()),
                "--json" => options.json = Some(value.into()),
                "--charts" => options.charts = Some(value.into()),
                "--only" => options.only = list(&value),
                "--engines" => options.engines = list(&value),
                "--cache-mib" => options.cache_mib = number(&value)?,
                "--recovery-mib" => options.recovery_mib = Some(number(&value)?),
                "--recovery-value-bytes" => options.recovery_value_bytes = number(&value)? as usize,
                "--logs-mib" => options.logs_mib = numbers(&value)?,
                "--blob-kib" => options.blob_kib = numbers(&value)?,
                "--limit-s" => options.limit_s = number(&value)?,
                "--child" => child.group = value,
                "--engine" => child.engine = value,
                "--rows" => child.rows = list(&value),
                _ => return Err(format!("unknown option {argument}").into()),
            }
        }
        for name in &options.engines {
            if engines::find(name).is_none() {
                return Err(format!("unknown engine {name}").into());
            }
            if !engines::is_built(name) {
                return Err(format!("{name} is not in this build: --features {name}").into());
            }
        }
        if options.blob_kib.is_empty() {
            options.blob_kib = match options.entries {
                0..1_000_000 => vec![64, 1 << 10],
                _ => vec![64, 1 << 10, 16 << 10, 256 << 10],
            };
        }
        if !child.group.is_empty() {
            options.child = Some(child);
        }
        Ok(options)
    }

    /// The options that a child has to have as well.
    pub fn for_child(&self) -> Vec<String> {
        let joined = |numbers: &[u64]| {
            let texts: Vec<String> = numbers.iter().map(u64::to_string).collect();
            texts.join(",")
        };
        let mut arguments = Vec::new();
        let mut add = |name: &str, value: String| arguments.extend([name.to_string(), value]);
        add("--entries", self.entries.to_string());
        add("--cache-mib", self.cache_mib.to_string());
        add("--logs-mib", joined(&self.logs_mib));
        add("--blob-kib", joined(&self.blob_kib));
        add("--limit-s", self.limit_s.to_string());
        add("--recovery-mib", self.recovery_mib().to_string());
        add(
            "--recovery-value-bytes",
            self.recovery_value_bytes.to_string(),
        );
        arguments
    }

    /// How large the files are that are opened after a kill.
    pub fn recovery_mib(&self) -> u64 {
        let own = (self.entries * crate::data::ENTRY_BYTES) >> 20;
        self.recovery_mib.unwrap_or(own.clamp(1, 1024))
    }
}
