//! Aurora and other embedded engines: one run, one machine, the same entries, the same durability,
//! and a comparison of everything that was read.
//!
//! `cargo run --release --features rocksdb --bin peers -- --json result.json --charts charts`
//!
//! The README of this package says what the options are, and what is measured how.

mod chart;
mod data;
mod engine;
mod engines;
mod options;
mod process;
mod recorder;
mod report;
mod rows;

use std::path::Path;

use engine::Outcome;
use options::{Child, Options};
use report::Report;
use rows::Row;

fn main() -> Outcome<()> {
    let options = Options::from_arguments()?;
    match &options.child {
        Some(child) => process::be(&options, child),
        None => measure(&options),
    }
}

fn measure(options: &Options) -> Outcome<()> {
    let directory = match &options.directory {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let is_wanted = |row: &Row| {
        let texts = &options.only;
        let has = |text: &String| row.what.contains(&**text) || row.id.contains(&**text);
        texts.is_empty() || texts.iter().any(has)
    };
    let rows: Vec<Row> = rows::all(options).into_iter().filter(is_wanted).collect();
    let mut report = Report::new(options, rows);
    let start = std::time::Instant::now();
    for turn in 0..options.repeat {
        let next_end = start
            .elapsed()
            .mul_f64((turn + 1) as f64 / turn.max(1) as f64);
        if options
            .minutes
            .is_some_and(|minutes| next_end.as_secs() > minutes * 60)
        {
            break;
        }
        report.count_repetition();
        for group in rows::GROUPS {
            run_group(options, &mut report, group, turn, directory.path())?;
            // After each group: a long run that is ended early is not lost.
            if let Some(file) = &options.json {
                std::fs::write(file, format!("{:#}\n", report.json()))?;
            }
        }
    }
    println!("{}", report.table());
    if let Some(charts) = &options.charts {
        chart::draw(&report, charts)?;
    }
    match report.is_same() {
        true => Ok(()),
        false => Err("engines have read different things".into()),
    }
}

/// The engines take turns, another one first each time.
fn run_group(
    options: &Options,
    report: &mut Report,
    group: &str,
    turn: usize,
    directory: &Path,
) -> Outcome<()> {
    let rows = report.rows.iter().filter(|row| row.group == group);
    let rows: Vec<String> = rows.map(|row| row.id.clone()).collect();
    if rows.iter().all(|id| id.starts_with("peak-")) && options.only.is_empty() || rows.is_empty() {
        return Ok(());
    }
    for place in 0..options.engines.len() {
        let engine = &options.engines[(place + turn) % options.engines.len()];
        let child = Child {
            group: group.to_string(),
            engine: engine.clone(),
            rows: rows.clone(),
        };
        eprintln!("{group}, turn {} of {}: {engine}", turn + 1, options.repeat);
        let own = directory.join(format!("{group}-{turn}-{engine}"));
        std::fs::create_dir(&own)?;
        let (measured, result) = process::run(options, &child, &own);
        std::fs::remove_dir_all(&own)?;
        report.add(measured);
        if let Err(reason) = result {
            eprintln!("  failed: {reason}");
            report.fail(group, engine, reason);
        }
    }
    Ok(())
}
