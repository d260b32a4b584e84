//! Documents in Aurora and in SQLite: one run, one machine, the same documents, the same questions,
//! and a comparison of every answer.
//!
//! `cargo run --release --bin documents -- --documents 1000000 --json result.json`
//!
//! - `--documents N`: how many (100,000 if not given)
//! - `--dir PATH`: where the files go (a directory for temporary files if not given)
//! - `--json FILE`: the result as JSON as well
//! - `--only TEXT`: only questions with this in their description
//! - `--repeat N`: each question so many times as often, for a profiler
//! - `--cpu`: for questions, the time that this thread had a processor: where others work as well
//! - `--others LIST`: with `--features others`, also `native_db` and `published` (the `aurora-db`
//!   crate); in the package `polodb`, the same program, also `polodb`; what they cannot do, or do
//!   wrongly, is said below the table
//! - `--plans`: how each engine answers each question

mod aurora_engine;
mod documents;
mod engine;
mod measure;
#[cfg(feature = "others")]
mod native_engine;
#[cfg(feature = "polodb")]
mod polo_engine;
#[cfg(feature = "others")]
mod published_engine;
mod report;
mod sqlite_engine;

use std::path::PathBuf;

use engine::Outcome;
use measure::Run;
use report::Report;

#[derive(Debug)]
pub struct Options {
    documents: u64,
    directory: Option<PathBuf>,
    json: Option<PathBuf>,
    only: String,
    repeat: usize,
    cpu: bool,
    plans: bool,
    others: Vec<String>,
}

fn options() -> Outcome<Options> {
    let mut options = Options {
        documents: 100_000,
        directory: None,
        json: None,
        only: String::new(),
        repeat: 1,
        cpu: false,
        plans: false,
        others: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match &*argument {
            "--documents" => options.documents = value()?.replace('_', "").parse()?,
            "--dir" => options.directory = Some(value()?.into()),
            "--json" => options.json = Some(value()?.into()),
            "--only" => options.only = value()?,
            "--repeat" => options.repeat = value()?.parse()?,
            "--others" => options.others = value()?.split(',').map(str::to_string).collect(),
            "--cpu" => options.cpu = true,
            "--plans" => options.plans = true,
            _ => return Err(format!("unknown option {argument}").into()),
        }
    }
    Ok(options)
}

fn main() -> Outcome<()> {
    let options = options()?;
    let directory = match &options.directory {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let mut run = Run::new(&options, directory.path());
    run.everything()?;
    let report = Report {
        engines: run.names.clone(),
        lines: run.lines,
        remarks: run.remarks,
    };
    println!("{}", report.table());
    if let Some(file) = &options.json {
        let facts = serde_json::json!({
            "documents": options.documents,
            "sqlite": rusqlite::version(),
            "time_of_questions": if options.cpu { "of this thread on a processor" } else { "elapsed" },
        });
        std::fs::write(file, format!("{:#}\n", report.json(facts)))?;
    }
    Ok(())
}
