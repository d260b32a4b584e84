//! What could not be brought back, and what was brought back with a doubt.

use serde::Serialize;

use crate::table::Table;

/// How many are kept with all they say; the rest are counted.
const KEPT: usize = 10_000;

/// Something that was in the file and is not in the new one.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Loss {
    /// `page`, `value`, `entry`, `tree`, `record`, `commits`, `blob`, `document`, `collection`,
    /// `key`.
    pub kind: &'static str,
    /// The tree, by its name in the new file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
    /// The page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// How many pages, from that one on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages: Option<u32>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The last key before it that is in the new file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The first key behind it that is in the new file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// How many entries were there, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// How many of them were found after all.
    pub recovered: u64,
    /// What is wrong.
    pub what: String,
}

/// Something in the new file that nobody can vouch for, or that was made anew.
#[derive(Debug, Clone, Serialize)]
pub struct Doubt {
    /// The tree that it is in now.
    pub tree: String,
    /// How many entries.
    pub entries: u64,
    /// Why.
    pub what: String,
}

/// All of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Losses {
    /// Data that is gone.
    pub lost: Vec<Loss>,
    /// How many losses there are, listed or not.
    pub lost_count: u64,
    /// What is in trees of `lost+found`.
    pub uncertain: Vec<Doubt>,
    /// Damage that cost no data.
    pub repaired: Vec<String>,
}

impl Losses {
    /// Notes a loss.
    pub(crate) fn lose(&mut self, loss: Loss) {
        self.lost_count += 1;
        if self.lost.len() < KEPT {
            self.lost.push(loss);
        }
    }

    /// Notes entries that are in a tree of `lost+found`.
    pub(crate) fn doubt(&mut self, tree: &str, entries: u64, what: impl Into<String>) {
        let what = what.into();
        let same = |doubt: &&mut Doubt| doubt.tree == tree && doubt.what == what;
        if let Some(doubt) = self.uncertain.iter_mut().find(same) {
            doubt.entries += entries;
        } else if self.uncertain.len() < KEPT {
            self.uncertain.push(Doubt {
                tree: tree.to_string(),
                entries,
                what,
            });
        }
    }

    /// Notes damage that cost nothing.
    pub(crate) fn repair(&mut self, what: impl Into<String>) {
        let what = what.into();
        if self.repaired.len() < KEPT && !self.repaired.contains(&what) {
            self.repaired.push(what);
        }
    }

    /// Whether the file was whole.
    pub fn is_empty(&self) -> bool {
        self.lost_count == 0 && self.uncertain.is_empty() && self.repaired.is_empty()
    }

    /// Entries in trees of `lost+found`.
    pub(crate) fn uncertain_entries(&self) -> u64 {
        let entries = self.uncertain.iter().map(|doubt| doubt.entries);
        entries.fold(0, u64::saturating_add)
    }

    /// Tables for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.lost.is_empty() {
            let headings = [
                "lost",
                "tree",
                "page",
                "after key",
                "before key",
                "entries",
                "what",
            ];
            let mut table = Table::new(&headings);
            for loss in &self.lost {
                table.row(loss.row());
            }
            text += &format!("\n{} losses\n{}", self.lost_count, table.text());
        }
        if self.lost_count > self.lost.len() as u64 {
            text += &format!(
                "... and {} more\n",
                self.lost_count - self.lost.len() as u64
            );
        }
        if !self.uncertain.is_empty() {
            let mut table = Table::new(&["uncertain, in tree", "entries", "why"]);
            for doubt in &self.uncertain {
                let entries = doubt.entries.to_string();
                table.row(vec![doubt.tree.clone(), entries, doubt.what.clone()]);
            }
            text += &format!("\n{}", table.text());
        }
        if !self.repaired.is_empty() {
            text += "\nrepaired without loss:\n";
            for what in &self.repaired {
                text += &format!("  {what}\n");
            }
        }
        text
    }
}

impl Loss {
    fn row(&self) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let page = match (self.page, self.pages) {
            (Some(page), Some(pages)) if pages > 1 => format!("{page} +{}", pages - 1),
            (Some(page), _) => page.to_string(),
            (None, _) => String::new(),
        };
        let (after, before) = match &self.key {
            Some(key) => (format!("= {key}"), String::new()),
            None => (text(&self.after), text(&self.before)),
        };
        let entries = match (self.entries, self.recovered) {
            (Some(entries), 0) => entries.to_string(),
            (Some(entries), found) if found > entries => format!("{entries} ({found} found)"),
            (Some(entries), found) => format!("{} of {entries}", entries.saturating_sub(found)),
            (None, 0) => String::from("?"),
            (None, found) => format!("? ({found} found)"),
        };
        let tree = text(&self.tree);
        vec![
            self.kind.to_string(),
            tree,
            page,
            after,
            before,
            entries,
            self.what.clone(),
        ]
    }
}
