//! Export of collections to files, and import.
//!
//! ```text
//! mod, import       what users call
//!   json, csv       the formats, a document at a time
//!     plain, file   documents as values that JSON has; files that are named when complete
//!       picked      some of their fields
//! ```
//!
//! # Invariants
//!
//! 1. What is exported and imported into a collection with the same schema is the same, types
//!    included.
//! 2. A file has its name only when it is complete and durable; until then the one that had the
//!    name before has it.
//! 3. Everything in a file is of one moment. In memory are some documents at a time.

mod csv;
mod file;
mod import;
mod json;
mod picked;
mod plain;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Result;
use crate::collection::catalog;
use crate::collection::meta::Meta;
use crate::db::Aurora;
use crate::path::with_extension;
use crate::query::{Explanation, Query};
use crate::txn::snapshot::Snapshot;
use crate::value::Object;
use crate::work::Work;

use self::file::{Fault, PartialFile};
pub use self::import::{IfThere, Import, Imported, Refused};
use self::plain::Plain;

impl Aurora {
    /// Writes a collection to a file, as a JSON array of its documents. The extension `.json` is
    /// added if it is not there. See [`Export`] for the form of values.
    ///
    /// ```
    /// # use aurora::{Aurora, Schema};
    /// # let directory = std::env::temp_dir().join(format!("aurora-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory).unwrap();
    /// # let path = directory.join("books");
    /// let db = Aurora::in_memory()?;
    /// db.new_collection("books", Schema::schemaless())?;
    /// db.insert_into("books", [("title", "Dune")])?;
    /// let exported = db.export_as_json("books", &path)?; // books.json
    /// assert_eq!(exported.documents, 1);
    ///
    /// db.new_collection("copies", Schema::schemaless())?;
    /// let imported = db.import_json("copies", &exported.path)?;
    /// assert_eq!((imported.taken, imported.refused_count), (1, 0));
    /// # std::fs::remove_dir_all(&directory).unwrap();
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::CollectionNotFound`](crate::Error::CollectionNotFound),
    /// [`Error::OtherFile`](crate::Error::OtherFile) if the file cannot be written: the one that
    /// was there before stays then.
    pub fn export_as_json(
        &self,
        collection: impl AsRef<str>,
        path: impl AsRef<Path>,
    ) -> Result<Exported> {
        self.export(collection).to_json(path)
    }

    /// Writes a collection to a file, with a JSON object for each document on a line of its own.
    /// The extension is `.jsonl`. See [`export_as_json`](Self::export_as_json).
    pub fn export_as_json_lines(
        &self,
        collection: impl AsRef<str>,
        path: impl AsRef<Path>,
    ) -> Result<Exported> {
        self.export(collection).to_json_lines(path)
    }

    /// Writes a collection to a file, with a row of cells for each document. The extension is
    /// `.csv`. See [`export_as_json`](Self::export_as_json).
    pub fn export_as_csv(
        &self,
        collection: impl AsRef<str>,
        path: impl AsRef<Path>,
    ) -> Result<Exported> {
        self.export(collection).to_csv(path)
    }

    /// An export of a collection, or of a part of it.
    pub fn export<'q>(&self, collection: impl AsRef<str>) -> Export<'q> {
        Export::new(self.query(collection))
    }

    /// Stores the documents of a file: see [`Import::from_json`].
    pub fn import_json(
        &self,
        collection: impl AsRef<str>,
        path: impl AsRef<Path>,
    ) -> Result<Imported> {
        self.import(collection).from_json(path)
    }

    /// Stores the documents of a file: see [`Import::from_json_lines`].
    pub fn import_json_lines(
        &self,
        collection: impl AsRef<str>,
        path: impl AsRef<Path>,
    ) -> Result<Imported> {
        self.import(collection).from_json_lines(path)
    }

    /// Stores the documents of a file: see [`Import::from_csv`].
    pub fn import_csv(
        &self,
        collection: impl AsRef<str>,
        path: impl AsRef<Path>,
    ) -> Result<Imported> {
        self.import(collection).from_csv(path)
    }

    /// An import into a collection, with options.
    pub fn import(&self, collection: impl AsRef<str>) -> Import {
        Import::new(self.clone(), collection.as_ref().to_string())
    }
}

impl Snapshot {
    /// An export of a collection as it was at this moment.
    pub fn export<'q>(&self, collection: impl AsRef<str>) -> Export<'q> {
        Export::new(self.query(collection))
    }
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The file, with its extension.
    pub path: PathBuf,
    /// The number of documents in it.
    pub documents: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    JsonLines,
    Csv,
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::JsonLines => "jsonl",
            Format::Csv => "csv",
        }
    }
}

/// An export of a collection. Made by [`Aurora::export`] and [`Snapshot::export`].
///
/// It sees one moment. A file is written beside its place under another name, and gets its own when
/// it is complete and synced; if that fails, what was there before is still there. (A program that is killed
/// meanwhile leaves a file whose name ends in `.partial`.) Where a file is replaced, the same users may read the new one; a link
/// stays, and what it leads to is replaced.
///
/// ```
/// use aurora::{Aurora, Field, FieldType, Schema};
///
/// let db = Aurora::in_memory()?;
/// let schema = Schema::new()
///     .field(Field::new("id", FieldType::Int))
///     .field(Field::new("title", FieldType::String))
///     .field(Field::new("year", FieldType::Int));
/// db.new_collection("books", schema)?;
/// for (title, year) in [("Dune", 1965), ("Contact", 1985)] {
///     db.insert_into("books", [("title", aurora::Value::from(title)), ("year", year.into())])?;
/// }
///
/// let mut file = Vec::new();
/// let old = db.export("books").query(|q| q.filter(|f| f.lt("year", 1970)));
/// old.fields(["title", "year"]).write_csv(&mut file)?;
/// assert_eq!(file, b"title,year\nDune,1965\n");
///
/// let mut file = Vec::new();
/// db.export("books").write_json_lines(&mut file)?;
/// assert_eq!(file.split(|byte| *byte == b'\n').next().unwrap(), br#"{"id":1,"title":"Dune","year":1965}"#);
/// # Ok::<(), aurora::Error>(())
/// ```
///
/// # The form of values
///
/// What is exported as a whole and [imported](crate::Import) into a collection with the same schema
/// is the same as before, types included. For that, values that JSON does not have are written like
/// this:
///
/// | value | where the schema declares the type | elsewhere |
/// |---|---|---|
/// | `Float` 2 | `2.0` | `2.0` |
/// | `Float` not a number, infinite | `"NaN"`, `"Infinity"`, `"-Infinity"` | `{"$float": "NaN"}` |
/// | `Uuid` | `"0190b5a2-..."` | `{"$uuid": "0190b5a2-..."}` |
/// | `DateTime` | `"2024-06-19T15:22:45Z"` | `{"$date": "2024-06-19T15:22:45Z"}` |
/// | `Bytes`, hexadecimal | `"00ff"` | `{"$bytes": "00ff"}` |
/// | an object whose only name begins with `$` | | `{"$object": {"$name": ...}}` |
///
/// A document's id is the field `id`. A UUID that is not a field of the document, because the schema
/// has none of that name, is plain text there, and a text that looks like one is
/// `{"$string": "..."}`. Where documents may have a field `id` and one does not, its id is
/// `{"$id": "..."}`.
///
/// In CSV the first row has the names: `id`, the fields of the schema in their order, then all
/// others by name. A field that a document does not have is an empty cell. Text is itself, unless
/// that would be read as something else; then, as all other values, it is JSON in the cell: an
/// empty text is `""`, with the quotation marks. For fields with a textual type, what would be read
/// as something else are `null` and texts that begin with `"` or `[`; for others everything that is
/// JSON, such as `5`. A name with dots is a path if the schema declares that path, and else just a
/// name; one that could be taken for the other is in quotation marks.
#[derive(Debug)]
#[must_use = "an export does nothing until it is told to where"]
pub struct Export<'q> {
    query: Query<'q>,
    fields: Option<Vec<String>>,
}

impl<'q> Export<'q> {
    fn new(query: Query<'q>) -> Self {
        Export {
            query,
            fields: None,
        }
    }

    /// Which documents, in which order: adds to the query.
    pub fn query(mut self, change: impl FnOnce(Query<'q>) -> Query<'q>) -> Self {
        self.query = change(self.query);
        self
    }

    /// Only these fields, by their names or paths, in this order. The id is `id`.
    pub fn fields<P: Into<String>>(mut self, fields: impl IntoIterator<Item = P>) -> Self {
        self.fields = Some(fields.into_iter().map(Into::into).collect());
        self
    }

    /// How the documents are found, and which of the chosen fields no document can have, of which the file says nothing:
    /// [`Query::explain`].
    pub fn explain(self) -> Work<'q, Explanation> {
        match self.fields {
            Some(fields) => self.query.select(fields).explain(),
            None => self.query.explain(),
        }
    }

    /// Writes a file with a JSON array. The extension `.json` is added if it is not there.
    ///
    /// # Errors
    /// Those of [`Aurora::export_as_json`], and of the query.
    pub fn to_json(self, path: impl AsRef<Path>) -> Result<Exported> {
        self.write_file(Format::Json, path.as_ref())
    }

    /// Writes a file with a document on each line. The extension is `.jsonl`.
    pub fn to_json_lines(self, path: impl AsRef<Path>) -> Result<Exported> {
        self.write_file(Format::JsonLines, path.as_ref())
    }

    /// Writes a file with a row of cells for each document. The extension is `.csv`.
    pub fn to_csv(self, path: impl AsRef<Path>) -> Result<Exported> {
        self.write_file(Format::Csv, path.as_ref())
    }

    /// Writes a JSON array to anywhere. Returns the number of documents.
    pub fn write_json(self, to: impl Write) -> Result<u64> {
        self.write(Format::Json, to)
    }

    /// Writes a document on each line to anywhere. Returns the number of documents.
    pub fn write_json_lines(self, to: impl Write) -> Result<u64> {
        self.write(Format::JsonLines, to)
    }

    /// Writes a row of cells for each document to anywhere. Returns the number of documents.
    pub fn write_csv(self, to: impl Write) -> Result<u64> {
        self.write(Format::Csv, to)
    }

    fn write_file(self, format: Format, path: &Path) -> Result<Exported> {
        let path = with_extension(path, format.extension())?;
        let source = self.source()?;
        let mut file = PartialFile::create(path.clone())?;
        let documents = source.write(format, &mut file, &path)?;
        Ok(Exported {
            path: file.finish()?,
            documents,
        })
    }

    fn write(self, format: Format, to: impl Write) -> Result<u64> {
        let path = Path::new("the writer");
        let mut to = BufWriter::new(to);
        let documents = self.source()?.write(format, &mut to, path)?;
        let flushed = to.flush();
        flushed.map_err(|error| file::refused("write", path, error))?;
        Ok(documents)
    }

    fn source(self) -> Result<Source<'q>> {
        let (query, snapshot) = self.query.at_one_moment()?;
        let meta = catalog::load(&snapshot, query.collection_name())?;
        Ok(Source {
            query,
            meta,
            fields: self.fields,
        })
    }
}

impl Export<'static> {
    /// Like [`to_json`](Self::to_json), on a thread of its own.
    pub fn to_json_async(self, path: impl Into<PathBuf>) -> Work<'static, Exported> {
        let path = path.into();
        Work::on_thread(move || self.to_json(path))
    }

    /// Like [`to_json_lines`](Self::to_json_lines), on a thread of its own.
    pub fn to_json_lines_async(self, path: impl Into<PathBuf>) -> Work<'static, Exported> {
        let path = path.into();
        Work::on_thread(move || self.to_json_lines(path))
    }

    /// Like [`to_csv`](Self::to_csv), on a thread of its own.
    pub fn to_csv_async(self, path: impl Into<PathBuf>) -> Work<'static, Exported> {
        let path = path.into();
        Work::on_thread(move || self.to_csv(path))
    }
}

/// The documents to export, which can be gone through more than once.
struct Source<'q> {
    query: Query<'q>,
    meta: Arc<Meta>,
    fields: Option<Vec<String>>,
}

impl Source<'_> {
    fn documents(&self) -> Result<impl Iterator<Item = Result<Plain>>> {
        let rows = self.query.clone().rows()?;
        Ok(rows.map(|document| Ok(Plain::new(&self.meta.schema, document?))))
    }

    /// What is wanted of a document.
    fn chosen(&self, document: Plain) -> Object {
        match &self.fields {
            Some(fields) => document.picked(fields),
            None => document.whole(),
        }
    }

    fn write(&self, format: Format, to: &mut impl Write, path: &Path) -> Result<u64> {
        let written = match format {
            Format::Json => json::write_array(self, to),
            Format::JsonLines => json::write_lines(self, to),
            Format::Csv => csv::write(self, to),
        };
        written.map_err(|fault| match fault {
            Fault::Of(error) => error,
            Fault::Io(error) => file::refused("write", path, error),
            Fault::Content(reason) => crate::Error::Conversion {
                what: "a document to the format of the file",
                reason,
            },
        })
    }
}
