//! A catalog of emoji: real documents in many scripts, with nested fields and arrays, and pictures as
//! blobs. Every answer of the database is compared with one that plain iterators give.
//!
//! ```text
//! cargo run --release --example catalog
//! ```
//!
//! takes four languages of the npm package `emojibase-data`, which are in `examples/data/emoji`, and
//! the pictures in `examples/data/pictures`; the notices there say whose they are. For all of its
//! languages, unpack the package (`npm pack emojibase-data`, then `tar xf`) and name the directory,
//! and a directory of any pictures of your own after it if you like:
//!
//! ```text
//! cargo run --release --example catalog -- path/to/package [path/to/pictures]
//! ```
//!
//! Exits with 1 if an answer is not the one that was expected.

mod check;
mod pictures;
mod queries;
pub mod source;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use aurora::{Aurora, Field, FieldType, Filter, Index, Schema};

use check::Checks;
use source::Emoji;

fn schema() -> Schema {
    Schema::new()
        .field(Field::new("id", FieldType::String))
        .field(Field::new("language", FieldType::String).required())
        .field(Field::new("hexcode", FieldType::String).required())
        .field(Field::new("emoji", FieldType::String).required())
        .field(Field::new("label", FieldType::String).required().indexed())
        .field(Field::new("tags", FieldType::String).indexed())
        .field(Field::new("order", FieldType::Int))
        .field(Field::new("version", FieldType::Float).indexed())
        .field(Field::new("gender", FieldType::Int))
        .field(Field::new("group.key", FieldType::String).indexed())
        .field(Field::new("group.name", FieldType::String).indexed())
        .field(Field::new("skins", FieldType::Array))
        .field(Field::new("seen", FieldType::Int))
        .index(Index::on(["language", "order"]))
        .index(Index::on(["language", "hexcode"]).unique())
        .index(
            Index::on(["label"])
                .named("label of people")
                .only(Filter::exists("gender")),
        )
}

/// Makes a database of the documents.
pub fn load(path: &Path, documents: &[Emoji]) -> Result<Aurora, Box<dyn Error>> {
    let db = Aurora::open(path)?;
    db.new_collection("emoji", schema())?;
    let start = Instant::now();
    db.write(|tx| {
        let mut emoji = tx.collection("emoji")?;
        documents
            .iter()
            .try_for_each(|one| emoji.insert(one).map(|_| ()))
    })?;
    println!(
        "{} documents stored in {:?}",
        documents.len(),
        start.elapsed()
    );
    Ok(db)
}

/// Asks the database all questions, and compares the answers with what the documents say.
pub fn check(db: &Aurora, documents: &[Emoji], pictures: &Path) -> Result<Checks, Box<dyn Error>> {
    let mut checks = Checks::default();
    queries::reading(db, documents, &mut checks)?;
    queries::pages(db, documents, &mut checks)?;
    queries::groups(db, documents, &mut checks)?;
    pictures::store(db, pictures, &mut checks)?;
    queries::writing(db, documents, &mut checks)?;
    export(db, &mut checks)?;
    let report = db.check()?;
    println!("\nThe file is sound: {report:?}");
    Ok(checks)
}

/// Writes the collection as JSON and CSV, and compares what is read back from the files, by another
/// reader and by a second database, with the documents.
fn export(db: &Aurora, checks: &mut Checks) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("emoji");
    let start = Instant::now();
    let exported = db.export_as_json("emoji", &path)?;
    let as_csv = db.export_as_csv("emoji", &path)?;
    println!("\nExported as JSON and CSV in {:?}", start.elapsed());
    let stored: Vec<Emoji> = db.query("emoji").collect_as().wait()?;
    checks.same("rows of JSON", exported.documents, stored.len() as u64);
    let text = std::fs::read_to_string(&exported.path)?;
    let read: Vec<Emoji> = serde_json::from_str(&text)?;
    checks.same("exported as JSON", read == stored, true);

    let second = Aurora::in_memory()?;
    second.new_collection("emoji", schema())?;
    let imported = second.import_csv("emoji", &as_csv.path)?;
    checks.same("rows of CSV", imported.taken, stored.len() as u64);
    let back: Vec<Emoji> = second.query("emoji").collect_as().wait()?;
    checks.same("imported from CSV", back == stored, true);
    Ok(())
}

fn run() -> Result<Checks, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let data = arguments.next().unwrap_or_else(|| shipped.join("emoji"));
    let pictures = arguments.next().unwrap_or_else(|| shipped.join("pictures"));
    let documents = source::read(&data)?;
    let directory = tempfile::tempdir()?;
    let db = load(&directory.path().join("catalog"), &documents)?;
    check(&db, &documents, &pictures)
}

fn main() -> ExitCode {
    match run() {
        Ok(checks) if checks.differences.is_empty() => {
            println!("All {} answers are as expected.", checks.made);
            ExitCode::SUCCESS
        }
        Ok(checks) => {
            let (wrong, made) = (checks.differences.len(), checks.made);
            eprintln!("{wrong} of {made} answers are not as expected:");
            checks
                .differences
                .iter()
                .for_each(|one| eprintln!("- {one}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
