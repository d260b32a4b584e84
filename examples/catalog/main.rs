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
    export(db, documents, &mut checks)?;
    let report = db.check()?;
    println!("\nThe file is sound: {report:?}");
    Ok(checks)
}

/// Writes what is left as JSON, JSON Lines and CSV, and compares what the files say: read by another
/// reader, and imported again.
fn export(db: &Aurora, documents: &[Emoji], checks: &mut Checks) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("emoji");
    let stored = db.query("emoji").collect_as::<Emoji>().wait()?;
    checks.same(
        "there is something to export",
        stored.len() > documents.len() / 10,
        true,
    );
    let start = Instant::now();
    let json = db.export_as_json("emoji", &path)?;
    let lines = db.export_as_json_lines("emoji", &path)?;
    let csv = db.export_as_csv("emoji", &path)?;
    println!(
        "\n{} documents exported three times in {:?}",
        json.documents,
        start.elapsed()
    );

    let text = std::fs::read_to_string(&json.path)?;
    let read: Vec<Emoji> = serde_json::from_str(&text)?;
    checks.same("exported as JSON", &read, &stored);
    let text = std::fs::read_to_string(&lines.path)?;
    let read: Vec<Emoji> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    checks.same("exported as JSON Lines", &read, &stored);

    for exported in [json, lines, csv] {
        let copy = Aurora::in_memory()?;
        copy.new_collection("emoji", schema())?;
        let start = Instant::now();
        let kind = exported
            .path
            .extension()
            .unwrap_or_default()
            .to_string_lossy();
        let imported = match &*kind {
            "json" => copy.import_json("emoji", &exported.path)?,
            "jsonl" => copy.import_json_lines("emoji", &exported.path)?,
            _ => copy.import_csv("emoji", &exported.path)?,
        };
        println!(
            "{} documents imported from {kind} in {:?}",
            imported.taken,
            start.elapsed()
        );
        let read = copy.query("emoji").collect_as::<Emoji>().wait()?;
        checks.same(&format!("imported from {kind}"), &read, &stored);
    }
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
