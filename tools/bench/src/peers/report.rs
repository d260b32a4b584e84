//! What all processes measured: medians, spreads, ratios and bars, as a table and as JSON.

use std::collections::BTreeMap;

use aurora_bench::median_of;
use serde_json::{Value, json};

use crate::engines;
use crate::options::Options;
use crate::recorder::Measured;
use crate::rows::{Bar, Row, Unit};

pub const OWN: &str = "aurora";
/// A plain file, where one can do the same.
pub const FILE: &str = "file";

#[derive(Debug)]
pub struct Report {
    pub rows: Vec<Row>,
    pub columns: Vec<String>,
    facts: Value,
    measured: BTreeMap<(String, String), Vec<Measured>>,
    /// How many times as long as Aurora a plain file took in the same process, by row: in another one the
    /// device and the memory are in another mood.
    versus_file: BTreeMap<String, Vec<f64>>,
    failures: Vec<(String, String, String)>,
}

/// The measurements of a row and a column.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    /// Bytes to the device for each byte of data.
    pub amplification: Option<f64>,
}

impl Report {
    pub fn new(options: &Options, rows: Vec<Row>) -> Self {
        let mut columns = options.engines.clone();
        columns.push(FILE.to_string());
        let facts = json!({
            "entries": options.entries,
            "repetitions": 0,
            "cache_mib": options.cache_mib,
            "logs_mib": options.logs_mib,
            "recovery_mib": options.recovery_mib(),
            "blob_kib": options.blob_kib,
            "processors": std::thread::available_parallelism().map_or(1, usize::from),
            "arguments": std::env::args().skip(1).collect::<Vec<_>>(),
            "sqlite": rusqlite::version(),
        });
        Report {
            rows,
            columns,
            facts,
            measured: BTreeMap::new(),
            versus_file: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    pub fn count_repetition(&mut self) {
        let begun = self.facts["repetitions"].as_u64().unwrap_or(0);
        self.facts["repetitions"] = (begun + 1).into();
    }

    /// Adds what one process measured.
    pub fn add(&mut self, measured: Vec<Measured>) {
        for own in measured.iter().filter(|one| one.column == OWN) {
            let is_beside = |one: &&Measured| one.row == own.row && one.column == FILE;
            if let Some(file) = measured.iter().find(is_beside) {
                let ratios = self.versus_file.entry(own.row.clone()).or_default();
                ratios.push(file.value / own.value);
            }
        }
        for one in measured {
            let place = (one.row.clone(), one.column.clone());
            self.measured.entry(place).or_default().push(one);
        }
    }

    pub fn fail(&mut self, group: &str, engine: &str, reason: String) {
        let failure = (group.to_string(), engine.to_string(), reason);
        if !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }

    pub fn cell(&self, row: &Row, column: &str) -> Option<Cell> {
        let measured = self.measured.get(&(row.id.clone(), column.to_string()))?;
        let values: Vec<f64> = measured.iter().map(|one| one.value).collect();
        let written = |one: &&Measured| one.data > 0;
        let amplifications = { measured.iter().filter(written) }
            .map(|one| one.written as f64 / one.data as f64)
            .collect();
        Some(Cell {
            low: values.iter().copied().fold(f64::INFINITY, f64::min),
            high: values.iter().copied().fold(0.0, f64::max),
            median: median_of(values)?,
            amplification: median_of(amplifications),
        })
    }

    /// Whether the column is one that a row may be compared with.
    fn is_peer(&self, row: &Row, column: &str) -> bool {
        let is_durable = engines::find(column).is_some_and(|kind| kind.durable);
        column != OWN && column != FILE && (is_durable || !row.durable)
    }

    /// The best of those that pass.
    fn best<'r>(&'r self, row: &Row, pass: impl Fn(&str) -> bool) -> Option<(&'r str, f64)> {
        let columns = self.columns.iter().map(String::as_str);
        let peers = columns.filter(|column| self.is_peer(row, column) && pass(column));
        let values = peers.filter_map(|column| Some((column, self.cell(row, column)?.median)));
        values.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The best peer, and how many times as good Aurora is.
    pub fn against_best(&self, row: &Row) -> Option<(&str, f64)> {
        if row.id.starts_with("gain-") {
            return None; // more is better there
        }
        let own = self.cell(row, OWN)?.median;
        let (name, best) = self.best(row, |_| true)?;
        Some((name, best / own))
    }

    /// What the bar says, and whether it is met. `None` where one side was not measured.
    pub fn verdict(&self, row: &Row) -> Option<(String, bool)> {
        let own = self.cell(row, OWN)?.median;
        let bar = row.bar?;
        let at_least = |name: &str, ratio: f64, factor: f64| {
            (
                format!("{ratio:.2} x {name}, bar {factor}"),
                ratio >= factor,
            )
        };
        let versus = |name: &str, other: f64, factor: f64| at_least(name, other / own, factor);
        Some(match bar {
            Bar::BestPeer(factor) => {
                let (name, best) = self.best(row, |_| true)?;
                versus(name, best, factor)
            }
            Bar::Versus(FILE, factor) => {
                let ratios = self.versus_file.get(&row.id)?;
                at_least(FILE, median_of(ratios.clone())?, factor)
            }
            Bar::Versus(name, factor) => versus(name, self.cell(row, name)?.median, factor),
            Bar::AtMost(most) => {
                let text = format!("at most {}", shown(row.unit, most));
                (text, own <= most)
            }
            Bar::AtLeast(least) => (format!("at least {}", shown(row.unit, least)), own >= least),
            Bar::LeastAndAtMost(most) => {
                let is_least = self.best(row, |_| true).is_none_or(|(_, best)| own <= best);
                let text = format!("the least, at most {}", shown(row.unit, most));
                (text, own <= most && is_least)
            }
            Bar::BestTree => {
                let is_tree = |name: &str| engines::find(name).is_some_and(|kind| kind.is_tree);
                let (name, best) = self.best(row, is_tree)?;
                versus(name, best, 1.0)
            }
        })
    }

    /// Rows in which not everybody has read the same.
    fn different(&self) -> Vec<&Row> {
        let differs = |row: &&Row| {
            let mut digests = { self.measured.iter() }
                .filter(|((id, _), _)| *id == row.id)
                .flat_map(|(_, measured)| measured.iter().filter_map(|one| one.digest));
            let first = digests.next();
            digests.any(|digest| Some(digest) != first)
        };
        self.rows.iter().filter(differs).collect()
    }

    pub fn is_same(&self) -> bool {
        self.different().is_empty()
    }

    /// Columns in which there is something.
    pub fn used_columns(&self) -> Vec<&str> {
        let columns = self.columns.iter().map(String::as_str);
        let is_used = |column: &&str| self.measured.keys().any(|(_, name)| name == *column);
        columns.filter(is_used).collect()
    }

    pub fn table(&self) -> String {
        let columns = self.used_columns();
        let mut table = format!(
            "| row | {} | best peer / aurora | bar |\n",
            columns.join(" | ")
        );
        table.push_str(&format!("|{}\n", " --- |".repeat(columns.len() + 3)));
        for row in &self.rows {
            if !columns
                .iter()
                .any(|column| self.cell(row, column).is_some())
            {
                continue;
            }
            table.push_str(&format!("| {} |", row.what));
            for column in &columns {
                table.push_str(&format!(" {} |", self.text(row, column)));
            }
            let best = match self.against_best(row) {
                Some((name, ratio)) => format!("{ratio:.2} ({name})"),
                None => "-".to_string(),
            };
            let bar = match self.verdict(row) {
                Some((text, true)) => format!("met: {text}"),
                Some((text, false)) => format!("MISSED: {text}"),
                None => "-".to_string(),
            };
            table.push_str(&format!(" {best} | {bar} |\n"));
        }
        table.push_str(&self.written_table(&columns));
        table.push_str(&self.remarks());
        table
    }

    fn text(&self, row: &Row, column: &str) -> String {
        let Some(cell) = self.cell(row, column) else {
            return "-".to_string();
        };
        let is_shaky = row.durable && engines::find(column).is_some_and(|kind| !kind.durable);
        let mark = if is_shaky { " *" } else { "" };
        let spread = (cell.high - cell.low) / 2.0 / cell.median;
        let value = shown(row.unit, cell.median);
        match spread >= 0.005 && spread.is_finite() {
            true => format!("{value} ±{:.0} %{mark}", spread * 100.0),
            false => format!("{value}{mark}"),
        }
    }

    fn written_table(&self, columns: &[&str]) -> String {
        let written = |row: &Row, column: &str| self.cell(row, column)?.amplification;
        let is_written = |row: &&Row| columns.iter().any(|column| written(row, column).is_some());
        let rows: Vec<&Row> = self.rows.iter().filter(is_written).collect();
        if rows.is_empty() {
            return String::new();
        }
        let head = "bytes to the device for each byte of data, within the row";
        let mut table = format!("\n| {head} | {} |\n", columns.join(" | "));
        table.push_str(&format!("|{}\n", " --- |".repeat(columns.len() + 1)));
        for row in rows {
            table.push_str(&format!("| {} |", row.what));
            for column in columns {
                match written(row, column) {
                    Some(times) => table.push_str(&format!(" {times:.2} |")),
                    None => table.push_str(" - |"),
                }
            }
            table.push('\n');
        }
        table
    }

    fn remarks(&self) -> String {
        let mut text = String::new();
        if self
            .columns
            .iter()
            .any(|column| engines::find(column).is_some_and(|k| !k.durable))
        {
            text.push_str("\n\\* does not wait for the device, and is compared with nothing.\n");
        }
        for (group, engine, reason) in &self.failures {
            text.push_str(&format!(
                "\n{engine} did not finish the rows \"{group}\": {reason}\n"
            ));
        }
        for row in self.different() {
            text.push_str(&format!("\nNOT THE SAME was read in \"{}\"\n", row.what));
        }
        text
    }

    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let cells = self.columns.iter().filter_map(|column| {
                let cell = self.cell(row, column)?;
                let facts = json!({
                    "median": cell.median,
                    "low": cell.low,
                    "high": cell.high,
                    "written_for_each_byte": cell.amplification,
                });
                Some((column.clone(), facts))
            });
            let verdict = self.verdict(row);
            json!({
                "id": row.id,
                "group": row.group,
                "what": row.what,
                "unit": match row.unit {
                    Unit::Seconds => "seconds",
                    Unit::Bytes => "bytes",
                    Unit::Times => "times",
                },
                "engines": cells.collect::<serde_json::Map<_, _>>(),
                "best_peer_by_aurora": self.against_best(row).map(|(_, ratio)| ratio),
                "best_peer": self.against_best(row).map(|(name, _)| name),
                "bar": verdict.as_ref().map(|(text, _)| text),
                "met": verdict.as_ref().map(|(_, met)| met),
            })
        });
        let failures = self.failures.iter().map(
            |(group, engine, reason)| json!({ "group": group, "engine": engine, "reason": reason }),
        );
        json!({
            "facts": self.facts,
            "rows": rows.collect::<Vec<_>>(),
            "failures": failures.collect::<Vec<_>>(),
        })
    }
}

pub fn shown(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Seconds if value < 1e-6 => format!("{:.0} ns", value * 1e9),
        Unit::Seconds if value < 1e-3 => format!("{:.1} µs", value * 1e6),
        Unit::Seconds if value < 1.0 => format!("{:.1} ms", value * 1e3),
        Unit::Seconds => format!("{value:.2} s"),
        Unit::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
        Unit::Times => format!("{value:.2} x"),
    }
}
