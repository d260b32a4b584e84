//! `check`: everything that the file promises.

use serde::Serialize;

use crate::survey::{Options, Survey, Use};
use crate::wal::Wal;
use crate::{Failure, Fault, Faults, Report, Source, Watcher};

/// How often a file that changes meanwhile is looked at again.
const ATTEMPTS: usize = 3;

#[derive(Debug, Serialize)]
struct Checked {
    healthy: bool,
    checkpoint: Option<u64>,
    version: Option<u64>,
    waiting_transactions: u64,
    trees: u64,
    entries: u64,
    pages: u64,
    used_pages: u64,
    free_pages: u64,
    damages: u64,
    notices: u64,
    faults: Vec<Fault>,
}

/// Checks the whole file. `open` opens it, once more if it has changed meanwhile.
pub fn check(
    open: impl Fn() -> Result<Source, Failure>,
    watcher: &dyn Watcher,
) -> Result<Report, Failure> {
    let mut source = open()?;
    for attempt in 1.. {
        let (report, moved) = once(&source, watcher)?;
        if !report.is_damaged || !moved || attempt == ATTEMPTS {
            return Ok(report);
        }
        source = open()?;
    }
    Err(Failure(String::from("the file changes all the time")))
}

fn once(source: &Source, watcher: &dyn Watcher) -> Result<(Report, bool), Failure> {
    let mut faults = Faults::default();
    if source.chosen().is_none() {
        faults.append(source.check_slots(true));
        let what = "no header slot is sound";
        faults.add(Fault::new("header", what, "at least 1", 0));
        return Ok((report(source, None, None, faults)?, false));
    }
    watcher.phase("log", None);
    let wal = Wal::read(source, false)?;
    faults.append(source.check_slots(wal.is_clean));
    faults.append(wal.faults.clone());
    faults.append(wal.check_runs(source));
    let survey = Survey::take(source, Options { read_runs: true }, watcher)?;
    faults.append(survey.faults.clone());
    // With a damaged catalog, nobody knows which trees there are.
    if let Some((catalog, trees)) = survey.trees.split_first()
        && catalog.damages == 0
    {
        let trees: Vec<_> = { trees.iter() }
            .map(|tree| (tree.name.clone(), tree.number))
            .collect();
        faults.append(wal.check_trees(source, &trees));
    }
    faults.append(crate::upper::check(source, &survey, watcher));
    let moved = source.has_moved_on();
    if moved {
        let what = "the file got a newer checkpoint while it was checked";
        let number = source.chosen().map_or(0, |header| header.checkpoint);
        faults.add(Fault::new("file", what, number, "a later one").notice());
    }
    Ok((report(source, Some(&survey), Some(&wal), faults)?, moved))
}

fn report(
    source: &Source,
    survey: Option<&Survey>,
    wal: Option<&Wal>,
    faults: Faults,
) -> Result<Report, Failure> {
    let trees = survey.map_or(&[][..], |survey| survey.trees.get(1..).unwrap_or_default());
    let free = survey.map_or(0, |survey| survey.count(Use::Free));
    let checked = Checked {
        healthy: faults.is_healthy(),
        checkpoint: source.chosen().map(|header| header.checkpoint),
        version: source.chosen().map(|header| header.version),
        waiting_transactions: wal.map_or(0, |wal| wal.commits),
        trees: trees.len() as u64,
        entries: trees.iter().map(|tree| tree.entries_found).sum(),
        pages: u64::from(source.pages()),
        used_pages: u64::from(source.pages()).saturating_sub(free),
        free_pages: free,
        damages: faults.damages(),
        notices: faults.notices(),
        faults: faults.list().to_vec(),
    };
    let mut text = super::moment(source, wal);
    text += &format!(
        "{} trees with {} entries; {} pages, {} of them free\n",
        checked.trees, checked.entries, checked.pages, checked.free_pages
    );
    text += &faults.text();
    let notices = count(faults.notices(), "notice");
    text += &match (faults.damages(), faults.notices()) {
        (0, 0) => String::from("healthy\n"),
        (0, _) => format!("healthy; {notices}\n"),
        (damages, _) => format!("damaged: {}, {notices}\n", count(damages, "fault")),
    };
    Report::new(text, &checked, !faults.is_healthy())
}

fn count(number: u64, what: &str) -> String {
    match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}
