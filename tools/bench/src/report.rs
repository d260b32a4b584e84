//! What was measured, as a table and as JSON.

use serde_json::{Value, json};

/// How often Aurora has to be as fast as SQLite.
#[derive(Debug, Clone, Copy)]
pub struct Bar(pub f64);

/// One thing that was measured: seconds for each engine, in the order of the engines.
#[derive(Debug)]
pub struct Line {
    pub what: &'static str,
    pub bar: Option<Bar>,
    pub seconds: Vec<Option<f64>>,
    pub note: String,
}

impl Line {
    fn ratio(&self, engine: usize) -> Option<f64> {
        let own = self.seconds.first().copied().flatten()?;
        self.seconds
            .get(engine)
            .copied()
            .flatten()
            .map(|other| other / own)
    }

    /// Whether the bar is met against SQLite with text; true if there is none.
    fn is_met(&self) -> bool {
        match (self.bar, self.ratio(1)) {
            (Some(Bar(bar)), Some(ratio)) => ratio >= bar,
            _ => true,
        }
    }
}

#[derive(Debug)]
pub struct Report {
    pub engines: Vec<&'static str>,
    pub lines: Vec<Line>,
    /// What somebody cannot do, and why.
    pub remarks: Vec<String>,
}

fn shown(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_string(),
        Some(s) if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        Some(s) if s < 1.0 => format!("{:.2} ms", s * 1e3),
        Some(s) => format!("{s:.2} s"),
    }
}

impl Report {
    /// A table in Markdown: times, and how many times as fast Aurora is.
    pub fn table(&self) -> String {
        let mut table = String::from("| what |");
        for engine in &self.engines {
            table.push_str(&format!(" {engine} |"));
        }
        for engine in self.engines.iter().skip(1) {
            table.push_str(&format!(" vs {engine} |"));
        }
        table.push_str(" bar | |\n|");
        table.push_str(&" --- |".repeat(self.engines.len() * 2 + 2));
        table.push('\n');
        for line in &self.lines {
            table.push_str(&format!("| {} |", line.what));
            for seconds in &line.seconds {
                table.push_str(&format!(" {} |", shown(*seconds)));
            }
            for engine in 1..self.engines.len() {
                match line.ratio(engine) {
                    Some(ratio) => table.push_str(&format!(" {ratio:.2} |")),
                    None => table.push_str(" - |"),
                }
            }
            let bar = match line.bar {
                None => "-".to_string(),
                Some(Bar(bar)) if line.is_met() => format!("{bar} met"),
                Some(Bar(bar)) => format!("{bar} MISSED"),
            };
            table.push_str(&format!(" {bar} | {} |\n", line.note));
        }
        for remark in &self.remarks {
            table.push_str(&format!("\n{remark}\n"));
        }
        table
    }

    pub fn json(&self, facts: Value) -> Value {
        let lines = self.lines.iter().map(|line| {
            let ratios: Vec<_> = (1..self.engines.len()).map(|e| line.ratio(e)).collect();
            json!({
                "what": line.what,
                "seconds": line.seconds,
                "ratios": ratios,
                "bar": line.bar.map(|bar| bar.0),
                "met": line.is_met(),
                "note": line.note,
            })
        });
        json!({ "facts": facts, "engines": self.engines, "lines": lines.collect::<Vec<_>>(), "remarks": self.remarks })
    }
}
