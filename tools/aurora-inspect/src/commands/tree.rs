//! `tree NAME`: levels, fan-out and ranges of keys; and as a picture.

use aurora::anatomy::Node;
use serde::Serialize;

use crate::survey::{Options, Silent, Survey, TreeSurvey};
use crate::table::{Table, percent};
use crate::walk::{Visitor, walk};
use crate::{Failure, Fault, Report, Source, show};

/// How many pages of a level are listed or drawn; the rest are counted.
const LISTED: usize = 4000;

/// A page of the tree.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TreePage {
    pub page: u32,
    pub level: u8,
    pub slots: u64,
    pub fill_percent: u64,
    /// The page above, 0 for the root.
    pub parent: u32,
    /// The first key, or the first that separates.
    pub first_key: String,
    pub last_key: String,
}

#[derive(Debug, Serialize)]
struct Shown<'s> {
    #[serde(flatten)]
    tree: &'s TreeSurvey,
    page_list: Vec<TreePage>,
    faults: Vec<Fault>,
}

/// Describes a tree; `with_pages`: with a line for each page. The second part is a picture, as SVG.
pub fn tree(source: &Source, name: &str, with_pages: bool) -> Result<(Report, String), Failure> {
    let survey = Survey::take(source, Options { read_runs: false }, &Silent)?;
    let tree = survey
        .tree_named(name)
        .ok_or_else(|| super::no_tree(name))?;
    let mut pages = Pages {
        name: name.to_string(),
        list: Vec::new(),
        left_out: 0,
        usable: aurora::anatomy::usable_bytes(source.page_size()) as u64,
        parents: std::collections::HashMap::new(),
    };
    walk(source, name, &tree.root, &mut pages);
    let mut text = super::moment(source, None);
    text += &format!(
        "tree {name:?}, number {}, {} entries, {} levels, root page {}, {} long values in {} pages\n\n",
        tree.number, tree.entries, tree.depth, tree.root_page, tree.runs, tree.run_pages
    );
    text += &levels(tree, source);
    text += &ranges(&pages, tree);
    if with_pages {
        text += &format!("\n{}", listed(&pages));
    }
    let faults: Vec<Fault> = { survey.faults.list().iter() }
        .filter(|fault| fault.tree.as_deref() == Some(name))
        .cloned()
        .collect();
    for fault in &faults {
        text += &fault.line();
        text.push('\n');
    }
    let svg = super::drawing::tree(name, &pages.list, pages.left_out);
    let is_damaged = tree.damages > 0;
    let shown = Shown {
        tree,
        page_list: pages.list,
        faults,
    };
    Ok((Report::new(text, &shown, is_damaged)?, svg))
}

fn levels(tree: &TreeSurvey, source: &Source) -> String {
    let mut table = Table::new(&[
        "level", "pages", "slots", "fewest", "average", "most", "fill",
    ]);
    let usable = aurora::anatomy::usable_bytes(source.page_size()) as u64;
    for level in tree.levels.iter().rev() {
        table.row(vec![
            level.level.to_string(),
            level.pages.to_string(),
            level.slots.to_string(),
            level.fewest.to_string(),
            format!("{:.1}", level.slots as f64 / level.pages.max(1) as f64),
            level.most.to_string(),
            percent(level.used_bytes, level.pages * usable),
        ]);
    }
    table.text()
}

fn ranges(pages: &Pages, tree: &TreeSurvey) -> String {
    let mut leaves = pages.list.iter().filter(|page| page.level == 0);
    let first = leaves.clone().next().map(|page| &page.first_key);
    let last = leaves.next_back().map(|page| &page.last_key);
    match (first, last) {
        (Some(first), Some(last)) => {
            let more = if pages.left_out > 0 {
                " (of those listed)"
            } else {
                ""
            };
            format!("\nkeys from {first} to {last}{more}\n")
        }
        _ if tree.entries == 0 => String::from("\nno keys\n"),
        _ => String::from("\nno leaf can be read\n"),
    }
}

fn listed(pages: &Pages) -> String {
    let headings = [
        "page",
        "level",
        "parent",
        "slots",
        "fill",
        "first key",
        "last key",
    ];
    let mut table = Table::new(&headings);
    for page in &pages.list {
        table.row(vec![
            page.page.to_string(),
            page.level.to_string(),
            page.parent.to_string(),
            page.slots.to_string(),
            format!("{}%", page.fill_percent),
            page.first_key.clone(),
            page.last_key.clone(),
        ]);
    }
    let mut text = table.text();
    if pages.left_out > 0 {
        text += &format!("... and {} more pages\n", pages.left_out);
    }
    text
}

struct Pages {
    name: String,
    list: Vec<TreePage>,
    left_out: u64,
    usable: u64,
    parents: std::collections::HashMap<u32, u32>,
}

impl Visitor for Pages {
    fn node(&mut self, page: u32, node: &Node<'_>) {
        // Branches come before what is below them: their pages are always kept.
        if node.is_branch() {
            for slot in 0..node.count() {
                self.parents.insert(node.child(slot).at.page, page);
            }
        }
        if self.list.len() >= LISTED {
            self.left_out += 1;
            return;
        }
        let first = usize::from(node.is_branch());
        let tree = if node.is_branch() { "" } else { &self.name };
        let key = |slot: usize| match slot < node.count() {
            true => show::key(tree, &node.key(slot), show::BRIEF_BYTES),
            false => String::from("-"),
        };
        self.list.push(TreePage {
            page,
            level: node.level(),
            slots: node.count() as u64,
            fill_percent: (node.used() as u64 * 100 / self.usable.max(1)).min(100),
            parent: self.parents.get(&page).copied().unwrap_or(0),
            first_key: key(first),
            last_key: key(node.count().saturating_sub(1).max(first)),
        });
    }

    fn fault(&mut self, _: Fault) {}
}
