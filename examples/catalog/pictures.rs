//! Pictures as blobs, each with a document that says what it is like.

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use aurora::{Aurora, Field, FieldType, Schema, Value};

use super::check::Checks;

/// Where the header of a PNG file says how wide and how high the picture is.
const SIZE_AT: u64 = 16;

fn side(header: &[u8], at: usize) -> u32 {
    let bytes = header.get(at..at + 4).and_then(|side| side.try_into().ok());
    bytes.map_or(0, u32::from_be_bytes)
}

fn pngs(directory: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "png") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn key_of(path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    format!("pictures:{name}")
}

pub fn store(db: &Aurora, directory: &Path, checks: &mut Checks) -> Result<(), Box<dyn Error>> {
    let paths = pngs(directory)?;
    let schema = Schema::new()
        .field(Field::new("blob", FieldType::String).required().unique())
        .field(Field::new("bytes", FieldType::Int).indexed())
        .field(Field::new("size.width", FieldType::Int))
        .field(Field::new("size.height", FieldType::Int));
    db.new_collection("pictures", schema)?;

    let start = Instant::now();
    for path in &paths {
        let key = key_of(path);
        let staged = db
            .stage_blob(std::fs::File::open(path)?)?
            .content_type("image/png");
        // The picture and its document: both, or neither.
        db.write(|tx| {
            let info = tx.attach_blob(&key, staged)?;
            let mut header = [0; 8];
            tx.read_blob_range(&key, SIZE_AT, &mut header)?;
            let size = [
                ("width", Value::from(side(&header, 0))),
                ("height", side(&header, 4).into()),
            ];
            let fields = [
                ("blob", Value::from(&key)),
                ("bytes", Value::from(info.size as i64)),
                ("size", Value::Object(size.into())),
            ];
            tx.collection("pictures")?.insert_fields(fields)
        })?;
    }
    println!("\n{} pictures stored in {:?}", paths.len(), start.elapsed());
    if let Some(path) = paths.first() {
        // The short way, for a picture alone. The content type follows from the name of the file.
        let info = db.put_blob("a copy", path).wait()?;
        checks.same(
            "content type",
            info.content_type.as_deref(),
            Some("image/png"),
        );
        checks.same("size of a file", info.size, std::fs::metadata(path)?.len());
        checks.same("a blob that is deleted", db.delete_blob("a copy")?, true);
    }
    compare(db, &paths, checks)
}

/// Reads everything back, and compares it with the files.
fn compare(db: &Aurora, paths: &[PathBuf], checks: &mut Checks) -> Result<(), Box<dyn Error>> {
    let mut large = 0;
    for path in paths {
        let file = std::fs::read(path)?;
        let key = key_of(path);
        let mut blob = db.get_blob(&key)?.ok_or("a picture is missing")?;
        let mut bytes = Vec::new();
        blob.read_to_end(&mut bytes)?;
        checks.same(&key, bytes == file, true);
        let middle = file.len() / 2;
        let part = blob.read_at(middle as u64, 100).wait()?;
        checks.same(
            "a part of it",
            &part[..],
            &file[middle..(middle + 100).min(file.len())],
        );

        let document = { db.query("pictures").filter(|f| f.eq("blob", &key)) }
            .first()
            .wait()?
            .ok_or("the document of a picture is missing")?;
        let number = |field: &str| document.get(field).and_then(Value::as_int);
        let size = [number("size.width"), number("size.height")];
        let expected = [side(&file, 16), side(&file, 20)].map(|side| Some(i64::from(side)));
        checks.same("width and height", size, expected);
        checks.same("bytes", number("bytes"), Some(file.len() as i64));
        large += u64::from(file.len() >= 50_000);
    }
    let found = { db.query("pictures").filter(|f| f.gte("bytes", 50_000)) }
        .count()
        .wait()?;
    checks.same("large pictures", found, large);
    Ok(())
}
