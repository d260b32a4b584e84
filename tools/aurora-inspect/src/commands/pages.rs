//! `pages`: a line for each page.

use serde::Serialize;

use crate::survey::{Options, PageInfo, Silent, Survey, Use};
use crate::table::Table;
use crate::{Failure, Report, Source};

/// Which pages are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of this use.
    pub kind: Option<String>,
    /// Those of this tree.
    pub tree: Option<String>,
    /// Those with a fault.
    pub damaged: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    page: u32,
    offset: u64,
    kind: &'static str,
    tree: Option<String>,
    level: u8,
    entries: u16,
    fill_percent: u8,
    damaged: bool,
}

/// Lists the pages that pass the filter.
pub fn pages(source: &Source, filter: &Filter) -> Result<Report, Failure> {
    if let Some(kind) = &filter.kind
        && !Use::ALL.iter().any(|usage| usage.name() == kind)
    {
        let names = Use::ALL.map(Use::name).join(", ");
        return Err(Failure(format!(
            "there are no pages of kind {kind:?}, only: {names}"
        )));
    }
    let survey = Survey::take(source, Options { read_runs: false }, &Silent)?;
    if let Some(tree) = &filter.tree
        && survey.tree_named(tree).is_none()
    {
        return Err(super::no_tree(tree));
    }
    let mut lines = Vec::new();
    for (page, info) in (0u32..).zip(&survey.pages) {
        let tree = survey.tree_of(info);
        if filter
            .kind
            .as_ref()
            .is_some_and(|kind| info.usage.name() != kind)
            || filter.tree.as_ref().is_some_and(|name| tree != name)
            || (filter.damaged && !info.is_damaged)
        {
            continue;
        }
        lines.push(line(source, page, info, tree));
    }
    let mut table = Table::new(&[
        "page", "offset", "kind", "tree", "level", "entries", "fill", "",
    ]);
    for line in &lines {
        table.row(vec![
            line.page.to_string(),
            line.offset.to_string(),
            line.kind.to_string(),
            line.tree.clone().unwrap_or_default(),
            line.level.to_string(),
            line.entries.to_string(),
            format!("{}%", line.fill_percent),
            if line.damaged { "damaged" } else { "" }.to_string(),
        ]);
    }
    let text = super::moment(source, None) + &table.text();
    Report::new(text, &lines, !survey.faults.is_healthy())
}

fn line(source: &Source, page: u32, info: &PageInfo, tree: &str) -> Line {
    Line {
        page,
        offset: u64::from(page) * u64::from(source.page_size()),
        kind: info.usage.name(),
        tree: (!tree.is_empty()).then(|| tree.to_string()),
        level: info.level,
        entries: info.entries,
        fill_percent: info.fill,
        damaged: info.is_damaged,
    }
}
