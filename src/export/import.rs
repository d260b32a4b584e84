//! Import: rows of a file as documents, some thousand in a transaction.
//!
//! # Invariants
//!
//! 1. A row is stored as a whole or refused with a reason, and what is stored is durable when the
//!    import returns, however it ends.
//! 2. In memory are one batch of rows and a bounded number of reasons.

use std::cell::Cell;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{self, Fault};
use super::{Format, csv, json, plain};
use crate::collection::catalog;
use crate::collection::incoming::Incoming;
use crate::collection::meta::Meta;
use crate::collection::{documents, many};
use crate::db::Aurora;
use crate::txn::write::WriteTransaction;
use crate::value::Object;
use crate::work::Work;
use crate::{Error, Result};

const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// Refused rows that are kept with their reasons.
const REASONS_KEPT: usize = 1000;

/// What to do with a row whose id a document has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IfThere {
    /// Refuse the row.
    #[default]
    Refuse,
    /// Put it in the place of the document.
    Replace,
    /// Leave the document as it is.
    Skip,
}

/// What an import did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Imported {
    /// Rows that were stored.
    pub taken: u64,
    /// Rows that were left out because their documents were there, with [`IfThere::Skip`].
    pub skipped: u64,
    /// The number of rows that were refused.
    pub refused_count: u64,
    /// The first 1000 of them.
    pub refused: Vec<Refused>,
}

/// A row that was not stored, and why.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Refused {
    /// Which row: the first document of the file is 1. In JSON Lines the number of the line.
    pub row: u64,
    /// What is wrong with it.
    pub reason: Error,
}

/// An import into a collection. Made by [`Aurora::import`].
///
/// Reads what [`Export`](crate::Export) writes, so that the documents are the same, and what other
/// programs write: values are fitted to the types of the schema. Rows are stored in transactions of
/// some thousand. A row that does not fit is refused, and does not keep the others out.
///
/// ```
/// use aurora::{Aurora, Field, FieldType, IfThere, Schema};
///
/// let db = Aurora::in_memory()?;
/// let schema = Schema::new()
///     .field(Field::new("id", FieldType::Int))
///     .field(Field::new("title", FieldType::String).required());
/// db.new_collection("books", schema)?;
/// let file = "id,title\n1,Dune\n2,\n3,Solaris\n";
/// let imported = db.import("books").read_csv(file.as_bytes())?;
/// assert_eq!((imported.taken, imported.refused_count), (2, 1));
/// assert_eq!(imported.refused[0].row, 2);
///
/// let again = db.import("books").if_there(IfThere::Skip).read_csv(file.as_bytes())?;
/// assert_eq!((again.taken, again.skipped), (0, 2));
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "an import does nothing until it is told from where"]
pub struct Import {
    db: Aurora,
    collection: String,
    if_there: IfThere,
    stops: bool,
    separator: u8,
}

impl Import {
    pub(super) fn new(db: Aurora, collection: String) -> Self {
        Import {
            db,
            collection,
            if_there: IfThere::default(),
            stops: false,
            separator: b',',
        }
    }

    /// What to do with a row whose id a document has already. It is refused, if not set.
    pub fn if_there(mut self, then: IfThere) -> Self {
        self.if_there = then;
        self
    }

    /// Whether to end at the first row that is refused, with
    /// [`Error::ImportStopped`]. The rows before it stay stored.
    pub fn stop_at_first_error(mut self, stop: bool) -> Self {
        self.stops = stop;
        self
    }

    /// What is between the cells of a row of CSV: `b';'` or `b'\t'`, for example. A comma, if not set. With a quotation mark,
    /// the end of a line or what is not ASCII, reading fails with [`Error::BadOption`](crate::Error::BadOption).
    ///
    /// ```
    /// # use aurora::{Aurora, Field, FieldType, Schema};
    /// # let db = Aurora::in_memory()?;
    /// let schema = Schema::new().field(Field::new("title", FieldType::String).required());
    /// db.new_collection("books", schema)?;
    /// let file = "id;title\n7;Dune, the first part\n";
    /// let imported = db.import("books").separator(b';').read_csv(file.as_bytes())?;
    /// assert_eq!(imported.taken, 1);
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn separator(mut self, separator: u8) -> Self {
        self.separator = separator;
        self
    }

    /// Reads a file with an array of documents. The extension may be left out.
    ///
    /// # Errors
    /// [`Error::OtherFile`] if the file cannot be read, [`Error::ImportStopped`] where it is not
    /// JSON, [`Error::CollectionNotFound`]. What was stored before that stays.
    pub fn from_json(self, path: impl AsRef<Path>) -> Result<Imported> {
        self.read_file(Format::Json, path.as_ref())
    }

    /// Reads a file with a document on each line.
    ///
    /// # Errors
    /// Those of [`from_json`](Self::from_json); a line that is not JSON is just refused.
    pub fn from_json_lines(self, path: impl AsRef<Path>) -> Result<Imported> {
        self.read_file(Format::JsonLines, path.as_ref())
    }

    /// Reads a file of rows of cells, with commas between, or another [`separator`](Self::separator); the first row has the
    /// names. A row is refused that does not have as many cells, and so are all if no column has a field that is required.
    ///
    /// # Errors
    /// [`Error::ImportStopped`] at a row in which a quotation mark is opened and never closed, and where two columns have one
    /// name; else those of [`from_json`](Self::from_json).
    pub fn from_csv(self, path: impl AsRef<Path>) -> Result<Imported> {
        self.read_file(Format::Csv, path.as_ref())
    }

    /// Like [`from_json`](Self::from_json), on a thread of its own.
    pub fn from_json_async(self, path: impl Into<PathBuf>) -> Work<'static, Imported> {
        let path = path.into();
        Work::on_thread(move || self.from_json(path))
    }

    /// Like [`from_json_lines`](Self::from_json_lines), on a thread of its own.
    pub fn from_json_lines_async(self, path: impl Into<PathBuf>) -> Work<'static, Imported> {
        let path = path.into();
        Work::on_thread(move || self.from_json_lines(path))
    }

    /// Like [`from_csv`](Self::from_csv), on a thread of its own.
    pub fn from_csv_async(self, path: impl Into<PathBuf>) -> Work<'static, Imported> {
        let path = path.into();
        Work::on_thread(move || self.from_csv(path))
    }

    /// Like [`from_json`](Self::from_json), from anywhere.
    pub fn read_json(self, from: impl Read) -> Result<Imported> {
        self.read(Format::Json, from, Path::new("the reader"))
    }

    /// Like [`from_json_lines`](Self::from_json_lines), from anywhere.
    pub fn read_json_lines(self, from: impl Read) -> Result<Imported> {
        self.read(Format::JsonLines, from, Path::new("the reader"))
    }

    /// Like [`from_csv`](Self::from_csv), from anywhere.
    pub fn read_csv(self, from: impl Read) -> Result<Imported> {
        self.read(Format::Csv, from, Path::new("the reader"))
    }

    fn read_file(self, format: Format, path: &Path) -> Result<Imported> {
        let (path, file) = file::open(path, format.extension())?;
        self.read(format, file, &path)
    }

    fn read(self, format: Format, from: impl Read, path: &Path) -> Result<Imported> {
        if matches!(self.separator, b'"' | b'\n' | b'\r' | 0x80..) {
            return Err(Error::BadOption {
                option: "separator",
                value: self.separator.into(),
                reason: "a character of ASCII that does not end a line and is no quotation mark",
            });
        }
        let snapshot = self.db.begin_read()?;
        let meta = catalog::load(&snapshot, &self.collection)?;
        drop(snapshot);
        let from = BufReader::with_capacity(BUFFER_BYTES, from);
        let schema = &meta.schema;
        let mut loader = Loader::new(&self, &meta);
        let mut take_text = |row: u64, text: &[u8]| {
            let fields = json::parse_row(text);
            loader.take(row, text.len(), fields).map_err(Fault::Of)
        };
        let read = match format {
            Format::Json => json::read_array(from, &mut take_text),
            Format::JsonLines => json::read_lines(from, &mut take_text),
            Format::Csv => csv::read(schema, self.separator, from, &mut |row, bytes, fields| {
                loader.take(row, bytes, fields).map_err(Fault::Of)
            }),
        };
        loader.finish(read, path)
    }
}

struct Row {
    number: u64,
    parsed: Result<Incoming>,
}

/// Gathers rows, and stores them when they are many.
struct Loader<'i> {
    import: &'i Import,
    meta: &'i Meta,
    batch: Vec<Row>,
    batch_bytes: usize,
    last_row: u64,
    imported: Imported,
}

impl<'i> Loader<'i> {
    fn new(import: &'i Import, meta: &'i Meta) -> Self {
        Loader {
            import,
            meta,
            batch: Vec::new(),
            batch_bytes: 0,
            last_row: 0,
            imported: Imported::default(),
        }
    }

    fn take(&mut self, number: u64, bytes: usize, fields: Result<Object, String>) -> Result<()> {
        let fields = fields.map_err(|reason| Error::Conversion {
            what: "the row to a document",
            reason,
        });
        let parsed = fields.and_then(|fields| plain::incoming(&self.meta.schema, fields));
        self.last_row = number;
        self.batch.push(Row { number, parsed });
        self.batch_bytes += bytes;
        if self.batch.len() >= BATCH_ROWS || self.batch_bytes >= BATCH_BYTES {
            self.store()?;
        }
        Ok(())
    }

    /// Stores the batch. Invariant 1: all that fits of it, in one transaction.
    fn store(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let import = self.import;
        let stored = import.db.write(|tx| store(tx, import, batch))?;
        let imported = &mut self.imported;
        imported.taken += stored.taken;
        imported.skipped += stored.skipped;
        imported.refused_count += stored.refused.len() as u64;
        if let (true, Some(first)) = (import.stops, stored.refused.first()) {
            return Err(self.stopped(first.row, first.reason.clone()));
        }
        let room = REASONS_KEPT.saturating_sub(imported.refused.len());
        imported
            .refused
            .extend(stored.refused.into_iter().take(room));
        Ok(())
    }

    fn stopped(&self, row: u64, cause: Error) -> Error {
        Error::ImportStopped {
            row,
            taken: self.imported.taken,
            cause: Arc::new(cause),
        }
    }

    /// What was read before a fault is stored too.
    fn finish(mut self, read: Result<(), Fault>, path: &Path) -> Result<Imported> {
        if let Err(Fault::Of(error)) = read {
            return Err(error);
        }
        self.store()?;
        match read {
            Ok(()) => Ok(self.imported),
            Err(Fault::Of(error)) => Err(error),
            Err(Fault::Io(error)) => Err(file::refused("read", path, error)),
            Err(Fault::Content(reason)) => {
                let cause = Error::Conversion {
                    what: "the file to documents",
                    reason,
                };
                Err(self.stopped(self.last_row + 1, cause))
            }
        }
    }
}

#[derive(Default)]
struct Stored {
    taken: u64,
    skipped: u64,
    refused: Vec<Refused>,
}

/// Stores rows up to the first that is refused, and then goes on behind it.
fn store(tx: &mut WriteTransaction, import: &Import, batch: Vec<Row>) -> Result<Stored> {
    let meta = catalog::load(tx, &import.collection)?;
    let mut stored = Stored::default();
    let mut rows = batch.into_iter();
    while rows.len() > 0 {
        let number = Cell::new(0);
        let given = Cell::new(0u64);
        let next = rows.by_ref().map(|row| {
            number.set(row.number);
            given.set(given.get() + 1);
            row.parsed
        });
        let if_there = match import.if_there {
            IfThere::Replace => documents::IfThere::Replace,
            _ => documents::IfThere::Refuse,
        };
        let Err(reason) = many::insert_many(tx, &meta, next, if_there) else {
            stored.taken += given.get();
            break;
        };
        stored.taken += given.get().saturating_sub(1);
        if import.if_there == IfThere::Skip && is_there(&reason) {
            stored.skipped += 1;
            continue;
        }
        if !is_of_row(&reason) {
            return Err(reason);
        }
        stored.refused.push(Refused {
            row: number.get(),
            reason,
        });
        if import.stops {
            break;
        }
    }
    Ok(stored)
}

/// Whether another document has the id.
fn is_there(reason: &Error) -> bool {
    // Ids are told by this name only, and no index finds two documents with one id.
    matches!(reason, Error::Duplicate { field, .. } if field == "id")
}

/// Whether only this row is at fault. Such a row has changed nothing.
fn is_of_row(reason: &Error) -> bool {
    matches!(
        reason,
        Error::WrongType { .. }
            | Error::UnknownField { .. }
            | Error::MissingField { .. }
            | Error::Duplicate { .. }
            | Error::NoNextId { .. }
            | Error::Conversion { .. }
    )
}
