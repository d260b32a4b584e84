//! The command line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use aurora_inspect::commands::{self, Filter, PageOptions};
use aurora_inspect::{Failure, Report, Silent, Source};
use clap::{Parser, Subcommand};

mod progress;

/// See and check an Aurora file, healthy or not. It is never written to, and not locked.
///
/// The exit status is 0 if all is well, 1 if damage was found, and 2 if the command could not run.
#[derive(Debug, Parser)]
#[command(name = "aurora-inspect", version)]
struct Arguments {
    /// Print JSON for programs.
    #[arg(long, global = true)]
    json: bool,
    /// Look at the checkpoint in this header slot, and not at the newest.
    #[arg(long, global = true, value_parser = clap::value_parser!(u8).range(0..=1))]
    slot: Option<u8>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What is in the file.
    Summary { file: PathBuf },
    /// Check everything that the file promises.
    Check { file: PathBuf },
    /// What is in a page.
    Page {
        file: PathBuf,
        /// The number of the page.
        number: u32,
        /// Its bytes.
        #[arg(long)]
        hex: bool,
        /// Keys and values whole.
        #[arg(long)]
        full: bool,
    },
    /// A line for each page.
    Pages {
        file: PathBuf,
        /// Only pages of this kind: leaf, branch, run, log, free, ...
        #[arg(long)]
        kind: Option<String>,
        /// Only pages of this tree.
        #[arg(long)]
        tree: Option<String>,
        /// Only damaged pages.
        #[arg(long)]
        damaged: bool,
    },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no failure.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(&arguments) {
        Ok(report) => {
            // Whoever reads may have seen enough: that is no failure.
            let _ = print(&report, arguments.json);
            ExitCode::from(u8::from(report.is_damaged))
        }
        Err(failure) => {
            eprintln!("aurora-inspect: {failure}");
            ExitCode::from(2)
        }
    }
}

fn print(report: &Report, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match json {
        true => {
            serde_json::to_writer_pretty(&mut out, &report.json)?;
            out.write_all(b"\n")?;
        }
        false => out.write_all(report.text.as_bytes())?,
    }
    out.flush()
}

fn run(arguments: &Arguments) -> Result<Report, Failure> {
    let open = |file: &PathBuf| Source::open(file, arguments.slot);
    match &arguments.command {
        Command::Summary { file } => commands::summary(&open(file)?),
        Command::Check { file } => match progress::Bar::on_terminal() {
            Some(bar) => commands::check(|| open(file), &bar),
            None => commands::check(|| open(file), &Silent),
        },
        Command::Page {
            file,
            number,
            hex,
            full,
        } => {
            let options = PageOptions {
                hex: *hex,
                full: *full,
            };
            commands::page(&open(file)?, *number, options)
        }
        Command::Pages {
            file,
            kind,
            tree,
            damaged,
        } => {
            let filter = Filter {
                kind: kind.clone(),
                tree: tree.clone(),
                damaged: *damaged,
            };
            commands::pages(&open(file)?, &filter)
        }
    }
}
