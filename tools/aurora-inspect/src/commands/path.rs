//! `path TREE KEY`: the way from the header to a key, page by page.

use serde::Serialize;

use crate::survey::CATALOG;
use crate::walk::{Found, find};
use crate::{Failure, Fault, Report, Source, show};

#[derive(Debug, Serialize)]
struct Step {
    tree: String,
    page: u32,
    offset: u64,
    level: u8,
    slot: usize,
}

#[derive(Debug, Serialize)]
struct Way {
    slot: u64,
    steps: Vec<Step>,
    found: bool,
    value: Option<String>,
    run_page: Option<u32>,
    fault: Option<Fault>,
}

/// Goes from the header slot through the catalog to the tree, and to the key.
pub fn path(source: &Source, tree: &str, key: &[u8]) -> Result<Report, Failure> {
    let header = *source.header()?;
    let slot = header.checkpoint % 2;
    let mut text = super::moment(source, None);
    text += &format!(
        "header slot {slot}: catalog at page {}\n",
        header.catalog.at.page
    );
    let mut way = Way {
        slot,
        steps: Vec::new(),
        found: false,
        value: None,
        run_page: None,
        fault: None,
    };
    let mut root = header.catalog;
    if tree != CATALOG {
        match find(source, CATALOG, &header.catalog, tree.as_bytes()) {
            Ok(found) => {
                add(&mut way, &mut text, source, CATALOG, &found);
                let value = found.value.ok_or_else(|| super::no_tree(tree))?;
                let entry = aurora::anatomy::decode_catalog_entry(&value);
                let what = "the entry of the tree in the catalog does not parse";
                let (number, at) = entry.ok_or_else(|| Failure(String::from(what)))?;
                text += &format!(
                    "tree {tree:?}, number {number}: root at page {}, level {}, {} entries\n",
                    at.at.page, at.level, at.count
                );
                root = at;
            }
            Err(fault) => return broken(way, text, fault),
        }
    }
    match find(source, tree, &root, key) {
        Ok(found) => {
            add(&mut way, &mut text, source, tree, &found);
            finish(&mut way, &mut text, tree, key, found);
            Report::new(text, &way, false)
        }
        Err(fault) => broken(way, text, fault),
    }
}

fn broken(mut way: Way, mut text: String, fault: Fault) -> Result<Report, Failure> {
    text += &fault.line();
    text.push('\n');
    way.fault = Some(fault);
    Report::new(text, &way, true)
}

fn add(way: &mut Way, text: &mut String, source: &Source, tree: &str, found: &Found) {
    for (page, level, slot) in &found.path {
        let kind = if *level == 0 { "leaf" } else { "branch" };
        *text += &format!("  page {page}: {kind}, level {level}, slot {slot}\n");
        way.steps.push(Step {
            tree: tree.to_string(),
            page: *page,
            offset: u64::from(*page) * u64::from(source.page_size()),
            level: *level,
            slot: *slot,
        });
    }
}

fn finish(way: &mut Way, text: &mut String, tree: &str, key: &[u8], found: Found) {
    let Some(value) = found.value else {
        *text += "the key is not there: that slot is where it belongs\n";
        return;
    };
    way.found = true;
    way.run_page = found.run.map(|run| run.first);
    if let Some(run) = found.run {
        *text += &format!(
            "  page {}: a long value of {} bytes\n",
            run.first, run.length_bytes
        );
    }
    let shown = show::value(tree, key, &value, 256);
    *text += &format!("{} = {shown}\n", show::key(tree, key, 256));
    way.value = Some(show::hex(&value));
}
