//! What was found to be wrong, and how it is listed.

use aurora::anatomy::Flaw;
use serde::Serialize;

/// How many faults are kept with all they say; the rest are counted.
const KEPT: usize = 10_000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is not what the format promises.
    Damage,
    /// Worth knowing, and possible in a healthy file.
    Notice,
}

/// A promise of the format that the file does not keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// How bad it is.
    pub severity: Severity,
    /// Which part of the file: `header`, `page`, `tree`, `run`, `space`, `log`, `catalog`, `key`,
    /// `expiry`, `blob`, `collection`, `document`, `index`.
    pub area: &'static str,
    /// Which promise.
    pub what: String,
    /// The page, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// The byte in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The tree, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
    /// The key in that tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What the promise asks for.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Fault {
    /// A fault; the place is added by the methods below.
    pub fn new(
        area: &'static str,
        what: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Fault {
            severity: Severity::Damage,
            area,
            what: what.into(),
            page: None,
            offset: None,
            tree: None,
            key: None,
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// A rule that bytes of a page break.
    pub fn in_page(area: &'static str, page: u32, page_size: u32, flaw: Flaw) -> Self {
        let shown = |number: u64| match flaw.what.contains("checksum") {
            true => format!("{number:#010x}"),
            false => number.to_string(),
        };
        let mut fault = Fault::new(area, flaw.what, shown(flaw.expected), shown(flaw.found));
        fault.page = Some(page);
        fault.offset = Some(u64::from(page) * u64::from(page_size) + u64::from(flaw.offset));
        fault
    }

    /// It may be so in a healthy file.
    pub fn notice(mut self) -> Self {
        self.severity = Severity::Notice;
        self
    }

    /// Where it is.
    pub fn at_page(mut self, page: u32, page_size: u32, within: u32) -> Self {
        self.page = Some(page);
        self.offset = Some(u64::from(page) * u64::from(page_size) + u64::from(within));
        self
    }

    /// Where it is.
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Whose it is.
    pub fn in_tree(mut self, tree: &str) -> Self {
        self.tree = Some(tree.to_string());
        self
    }

    /// Whose it is.
    pub fn of_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let mut line = match self.severity {
            Severity::Damage => String::from("damage: "),
            Severity::Notice => String::from("notice: "),
        };
        line += self.area;
        if let Some(page) = self.page {
            line += &format!(", page {page}");
        }
        if let Some(offset) = self.offset {
            line += &format!(", offset {offset}");
        }
        if let Some(tree) = &self.tree {
            line += &format!(", tree {tree:?}");
        }
        if let Some(key) = &self.key {
            line += &format!(", key {key}");
        }
        line += &format!(": {}", self.what);
        line += &format!(" (expected {}, found {})", self.expected, self.found);
        line
    }
}

/// All that was found, in the order in which it was.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Faults {
    list: Vec<Fault>,
    damages: u64,
    notices: u64,
}

impl Faults {
    /// Adds one.
    pub fn add(&mut self, fault: Fault) {
        match fault.severity {
            Severity::Damage => self.damages += 1,
            Severity::Notice => self.notices += 1,
        }
        if self.list.len() < KEPT {
            self.list.push(fault);
        }
    }

    /// Adds all of another list.
    pub fn append(&mut self, other: Faults) {
        self.damages += other.damages;
        self.notices += other.notices;
        let room = KEPT.saturating_sub(self.list.len());
        self.list.extend(other.list.into_iter().take(room));
    }

    /// The first ones, all if they are not too many.
    pub fn list(&self) -> &[Fault] {
        &self.list
    }

    /// How many are damage.
    pub fn damages(&self) -> u64 {
        self.damages
    }

    /// How many are not.
    pub fn notices(&self) -> u64 {
        self.notices
    }

    /// Whether nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        self.damages == 0
    }

    /// How many there are in all.
    pub fn len(&self) -> u64 {
        self.damages + self.notices
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for fault in &self.list {
            text += &fault.line();
            text.push('\n');
        }
        let rest = self.len() - self.list.len() as u64;
        if rest > 0 {
            text += &format!("... and {rest} more\n");
        }
        text
    }
}

/// Why a command could not run.
#[derive(Debug)]
pub struct Failure(pub String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// What a command says.
#[derive(Debug)]
pub struct Report {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: serde_json::Value,
    /// Whether damage was found.
    pub is_damaged: bool,
}

impl Report {
    /// A report of something serializable.
    pub fn new(text: String, json: impl Serialize, is_damaged: bool) -> Result<Self, Failure> {
        let json = serde_json::to_value(json)
            .map_err(|error| Failure(format!("the result is no JSON: {error}")))?;
        Ok(Report {
            text,
            json,
            is_damaged,
        })
    }
}
