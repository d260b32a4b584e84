//! `salvage FROM TO`: a new file out of what can still be verified in a damaged one.

use std::path::Path;
use std::sync::Arc;

use aurora::storage::FileStorage;
use serde_json::json;

use crate::place::NewFile;
use crate::salvage::{LOST_AND_FOUND, Salvaged, salvage as run};
use crate::table::Table;
use crate::{Failure, Report, Silent, Source, Watcher};

/// Makes the file `to`, which must not be there yet.
pub fn salvage(from: &Path, to: &Path, watcher: &dyn Watcher) -> Result<Report, Failure> {
    let failed = |error: std::io::Error| Failure(format!("{}: {error}", from.display()));
    let damaged = FileStorage::open_read_only(from).map_err(failed)?;
    let changed = || std::fs::metadata(from).and_then(|data| Ok((data.modified()?, data.len())));
    let before = changed().ok();
    let (file, storage) = NewFile::begin(to, from)?;
    let salvaged = run(Arc::new(damaged), storage, watcher)?;
    if before != changed().ok() {
        return Err(Failure(format!(
            "{}: somebody is writing to it, so what is damaged cannot be told from what changes: close it there, or \
             salvage a copy of it",
            from.display()
        )));
    }
    watcher.phase("checking the new file", None);
    let check = super::check(|| Source::open(file.path(), None), &Silent)?;
    if check.is_damaged {
        let text = check.text;
        return Err(Failure(format!(
            "the new file would not be healthy:\n{text}"
        )));
    }
    file.place()?;
    report(&salvaged)
}

fn report(salvaged: &Salvaged) -> Result<Report, Failure> {
    let mut text = format!(
        "brought back: {}\npages of {} bytes, from {}\n",
        salvaged.state, salvaged.page_size, salvaged.geometry
    );
    text += &format!(
        "{} transactions of the log were applied; version {}\n\n",
        salvaged.log.commits, salvaged.log.version
    );
    let mut table = Table::new(&["tree", "entries"]);
    for (name, entries) in &salvaged.trees {
        table.row(vec![name.clone(), entries.to_string()]);
    }
    text += &table.text();
    text += &salvaged.losses.text();
    if salvaged.may_be_older {
        text += "\nthe other header slot is damaged, and nothing in the log was written under this checkpoint: what was \
                 committed later is lost, if anything was\n";
    }
    text += match salvaged.losses.is_empty() {
        true => "\nnothing was lost: the file was whole\n",
        false if salvaged.losses.lost_count == 0 && !salvaged.losses.uncertain.is_empty() => {
            "\nthe new file is healthy, and nothing is listed as lost; but what is uncertain may be of its trees\n"
        }
        false if salvaged.losses.lost_count == 0 && salvaged.may_be_older => {
            "\nthe new file is healthy, and nothing is listed as lost; but it may be of an older state\n"
        }
        false if salvaged.losses.lost_count == 0 => {
            "\nno entry was lost; the new file is healthy\n"
        }
        false => "\nthe new file is healthy, and misses what is listed above\n",
    };
    let uncertain = salvaged.losses.uncertain_entries();
    if uncertain > 0 {
        text +=
            &format!("{uncertain} entries are under {LOST_AND_FOUND}: nobody can vouch for them\n");
    }
    let is_damaged = !salvaged.losses.is_empty();
    let mut json = serde_json::to_value(salvaged).map_err(|e| Failure(e.to_string()))?;
    let trees = salvaged.trees.iter();
    json["trees"] = trees
        .map(|(name, entries)| json!({"name": name, "entries": entries}))
        .collect();
    Report::new(text, json, is_damaged)
}
