//! `dump FILE` and `load DUMP TO`: a database as text, and back.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use crate::dump::{Counts, dump as write, load as read};
use crate::entries::Database;
use crate::place::NewFile;
use crate::{Failure, Report, Silent, Source};

/// Writes a database as text, to a new file or to `out`.
pub fn dump(from: &Path, output: Option<&Path>, out: &mut dyn Write) -> Result<Report, Failure> {
    let database = Database::open(from)?;
    let Some(path) = output else {
        let counts = write(&database, &mut BufWriter::new(out))?;
        return Report::new(String::new(), counts, false);
    };
    let (file, _) = NewFile::begin(path, from)?;
    let failed = |error: std::io::Error| Failure(format!("{}: {error}", path.display()));
    let partial = File::options()
        .write(true)
        .open(file.path())
        .map_err(failed)?;
    let counts = write(&database, &mut BufWriter::new(&partial))?;
    partial.sync_all().map_err(failed)?;
    file.place()?;
    report("written", counts)
}

/// Makes a new database out of a dump.
pub fn load(from: &Path, to: &Path, page_size: Option<u32>) -> Result<Report, Failure> {
    let named = |failure: Failure| Failure(format!("{}: {failure}", from.display()));
    let opened = File::open(from).map_err(|error| named(Failure(error.to_string())))?;
    let (file, storage) = NewFile::begin(to, from)?;
    let counts = read(&mut BufReader::new(opened), storage, page_size).map_err(named)?;
    let check = super::check(|| Source::open(file.path(), None), &Silent)?;
    if check.is_damaged {
        let what = "what is in the dump does not fit together";
        return Err(named(Failure(format!("{what}:\n{}", check.text))));
    }
    file.place()?;
    report("loaded", counts)
}

fn report(what: &str, counts: Counts) -> Result<Report, Failure> {
    let Counts { trees, entries } = counts;
    let text = format!("{what}: {trees} trees with {entries} entries\n");
    Report::new(text, counts, false)
}
