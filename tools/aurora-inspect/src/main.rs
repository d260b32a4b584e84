//! The command line.

use std::io::{ErrorKind, StdoutLock, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aurora_inspect::commands::{self, Filter, PageOptions};
use aurora_inspect::entries::Database;
use aurora_inspect::show::parse_key;
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
    /// Levels, fan-out and ranges of keys of a tree.
    Tree {
        file: PathBuf,
        name: String,
        /// A line for each page.
        #[arg(long)]
        pages: bool,
        /// Write a picture of it to this file.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// The way from the header to a key, page by page.
    Path {
        file: PathBuf,
        tree: String,
        /// Text, or hexadecimal digits after 0x.
        #[arg(allow_hyphen_values = true)]
        key: String,
    },
    /// What waits in the log, and where replay would stop.
    Wal {
        file: PathBuf,
        /// With every change.
        #[arg(long)]
        changes: bool,
    },
    /// Where the file is full, and where it is free.
    Space { file: PathBuf },
    /// The blob of a key, with its chunks.
    Blob {
        file: PathBuf,
        /// Text, or hexadecimal digits after 0x.
        #[arg(allow_hyphen_values = true)]
        key: String,
    },
    /// A document, with its entries in indexes.
    Document {
        file: PathBuf,
        collection: String,
        /// A UUID, a number, or a string (in quotes if it looks like one of the others).
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// Which trees and keys differ in two files.
    ///
    /// The exit status is 0 if none do, and 1 if some do.
    Diff {
        a: PathBuf,
        b: PathBuf,
        /// List so many of the keys that differ.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Write the whole database as lines of text.
    Dump {
        file: PathBuf,
        /// Write them to this file, which must not be there yet.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Make a new database out of a dump.
    Load {
        dump: PathBuf,
        /// The new file, which must not be there yet.
        to: PathBuf,
        /// Another page size than the dump names.
        #[arg(long, value_name = "BYTES")]
        page_size: Option<u32>,
    },
    /// Make a new, healthy file out of all that can still be verified in a damaged one.
    ///
    /// The damaged file is only read. Lists exactly what was lost.
    Salvage {
        /// The damaged file.
        from: PathBuf,
        /// The new one, which must not be there yet.
        to: PathBuf,
    },
    /// Write a page of HTML that shows every page of the file.
    Map {
        file: PathBuf,
        /// Where it is written.
        html: PathBuf,
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
            let printed = print(&report, arguments.json);
            match printed {
                // Whoever reads may have seen enough: that is no failure.
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    complain(format_args!("the report could not be written: {error}"));
                    ExitCode::from(2)
                }
                _ => ExitCode::from(u8::from(report.is_damaged)),
            }
        }
        Err(failure) => {
            complain(format_args!("{failure}"));
            ExitCode::from(2)
        }
    }
}

/// Says what went wrong, if anybody listens.
fn complain(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "aurora-inspect: {what}");
}

/// The standard output, and whether nobody reads it any more.
struct Output<'o> {
    out: StdoutLock<'o>,
    is_closed: bool,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes);
        self.is_closed |= matches!(&written, Err(error) if error.kind() == ErrorKind::BrokenPipe);
        written
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let flushed = self.out.flush();
        self.is_closed |= matches!(&flushed, Err(error) if error.kind() == ErrorKind::BrokenPipe);
        flushed
    }
}

fn print(report: &Report, json: bool) -> std::io::Result<()> {
    // A dump on the standard output is all that was asked for.
    if report.text.is_empty() {
        return Ok(());
    }
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

/// Runs a command on files that somebody else may be writing to. Damage that was found then is only believed once they
/// stood still meanwhile.
fn settled(
    files: &[&PathBuf],
    attempts: u32,
    run: impl Fn() -> Result<Report, Failure>,
) -> Result<Report, Failure> {
    let state = |file: &&PathBuf| {
        let data = std::fs::metadata(file).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    let states = || files.iter().map(state).collect::<Vec<_>>();
    for attempt in 1..=attempts {
        let before = states();
        let report = run();
        let is_sound = report.as_ref().is_ok_and(|report| !report.is_damaged);
        if is_sound || before == states() {
            return report;
        }
        std::thread::sleep(PAUSE * attempt);
    }
    let names: Vec<_> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    Err(Failure(format!(
        "{}: somebody is writing to it, so nothing can be said of it now: try again, or look at a backup of it",
        names.join(", ")
    )))
}

/// How often a file that changes meanwhile is looked at.
const ATTEMPTS: u32 = 6;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Writes a picture, but never over the file that is looked at, nor over another database.
fn save(path: &Path, database: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error| Failure(format!("{}: {error}", path.display()));
    if let (Ok(one), Ok(other)) = (path.canonicalize(), database.canonicalize())
        && one == other
    {
        return Err(Failure(String::from(
            "the picture would replace the database",
        )));
    }
    if Source::is_at(path) {
        return Err(Failure(format!(
            "{}: the picture would replace a database",
            path.display()
        )));
    }
    std::fs::write(path, text).map_err(failed)
}

fn run(arguments: &Arguments) -> Result<Report, Failure> {
    use Command::{Diff, Dump, Load, Salvage};
    let takes_no_slot = matches!(
        arguments.command,
        Diff { .. } | Dump { .. } | Load { .. } | Salvage { .. }
    );
    if takes_no_slot && arguments.slot.is_some() {
        let what = "this command takes no --slot: it reads the newest state";
        return Err(Failure(what.to_string()));
    }
    match &arguments.command {
        Command::Diff { a, b, .. } => settled(&[a, b], ATTEMPTS, || command(arguments)),
        // It writes while it reads.
        Command::Dump { file, .. } => settled(&[file], 1, || command(arguments)),
        // This one looks itself, before it gives the new file its name.
        Command::Load { .. } | Command::Salvage { .. } => command(arguments),
        Command::Summary { file }
        | Command::Check { file }
        | Command::Page { file, .. }
        | Command::Pages { file, .. }
        | Command::Tree { file, .. }
        | Command::Path { file, .. }
        | Command::Wal { file, .. }
        | Command::Space { file }
        | Command::Blob { file, .. }
        | Command::Document { file, .. }
        | Command::Map { file, .. } => settled(&[file], ATTEMPTS, || command(arguments)),
    }
}

fn command(arguments: &Arguments) -> Result<Report, Failure> {
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
        Command::Tree {
            file,
            name,
            pages,
            svg,
        } => {
            let (report, picture) = commands::tree(&open(file)?, name, *pages)?;
            if let Some(path) = svg {
                save(path, file, &picture)?;
            }
            Ok(report)
        }
        Command::Path { file, tree, key } => commands::path(&open(file)?, tree, &parse_key(key)?),
        Command::Wal { file, changes } => commands::wal(&open(file)?, *changes),
        Command::Space { file } => commands::space(&open(file)?),
        Command::Blob { file, key } => commands::blob(&open(file)?, &parse_key(key)?),
        Command::Document {
            file,
            collection,
            id,
        } => commands::document(&open(file)?, collection, id),
        Command::Diff { a, b, limit } => {
            commands::diff(&Database::open(a)?, &Database::open(b)?, *limit)
        }
        Command::Dump { file, output } => {
            let mut out = Output {
                out: std::io::stdout().lock(),
                is_closed: false,
            };
            match commands::dump(file, output.as_deref(), &mut out) {
                // As with a report: whoever reads has seen enough.
                Err(_) if out.is_closed => Report::new(String::new(), (), false),
                dumped => dumped,
            }
        }
        Command::Load {
            dump,
            to,
            page_size,
        } => commands::load(dump, to, *page_size),
        Command::Salvage { from, to } => match progress::Bar::on_terminal() {
            Some(bar) => commands::salvage(from, to, &bar),
            None => commands::salvage(from, to, &Silent),
        },
        Command::Map { file, html } => {
            let (report, page) = commands::picture(&open(file)?, &file.display().to_string())?;
            save(html, file, &page)?;
            Ok(report)
        }
    }
}
