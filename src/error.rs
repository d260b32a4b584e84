//! The one public error type.
//!
//! Every variant says what happened, where, and what the caller can do about it. Match on the
//! variants for detail, or ask the predicates (`is_corruption()` and so on) for the kind of
//! trouble it is.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The result of every fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, and what to do.
///
/// It is `Clone`, because one failed write may have to be reported to every commit that was
/// waiting for it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on the file.
    #[error("{operation} failed at byte {offset}: {source}; check the device and the file system")]
    Io {
        /// What was being done, as a verb phrase: `read`, `write`, `sync`.
        operation: &'static str,
        /// The byte offset in the file.
        offset: u64,
        /// The operating system's own error.
        #[source]
        source: Arc<io::Error>,
    },

    /// The file could not be opened at all.
    #[error("cannot open {}: {source}; {}", path.display(), advice_for_open(source))]
    Open {
        /// The path as it was resolved.
        path: PathBuf,
        /// The operating system's own error.
        #[source]
        source: Arc<io::Error>,
    },

    /// Another handle, in this process or in another, has the file open. Also after a [`close`](crate::Aurora::close), until
    /// its clones, trees, snapshots and all else that came of it are dropped.
    #[error(
        "the database is open elsewhere; close the other handle and drop what came of it, or clone it instead of opening the file twice"
    )]
    Locked,

    /// There is no file at the path and the options say not to make one, or the directory is missing.
    #[error("there is no database at {}; check the path and its directory, or let the database be made with `create(true)`", path.display())]
    NotFound {
        /// The path as it was resolved.
        path: PathBuf,
    },

    /// The file exists, and is not one of Aurora's.
    #[error("this is not an Aurora database: {reason}; check the path; the file was not changed")]
    NotADatabase {
        /// What the first bytes looked like.
        reason: &'static str,
    },

    /// The file was written by a newer version than this program understands.
    #[error(
        "the file has format version {found}, this program reads up to {supported}; open it with a newer release; the file was not changed"
    )]
    NewerFormat {
        /// The version in the file.
        found: u32,
        /// The newest version that this program reads.
        supported: u32,
    },

    /// The file needs a feature that this program does not know.
    #[error(
        "the file uses features {flags:#x} that this program does not know; open it with a newer release; the file was not changed"
    )]
    UnknownFeatures {
        /// The unknown bits.
        flags: u64,
    },

    /// Bytes in the file are not what was written there.
    #[error(
        "damage at page {page}, byte {offset}: {what}: expected {expected:#x}, found {found:#x}; restore a backup, or salvage the file with aurora-inspect"
    )]
    Corrupt {
        /// Which rule is broken.
        what: &'static str,
        /// The page number; of a long value, which has one checksum, its first page; for the log, the page in which the
        /// record starts.
        page: u64,
        /// The byte offset in the file.
        offset: u64,
        /// What the rule asks for.
        expected: u64,
        /// What the file holds.
        found: u64,
    },

    /// A record in one of the database's own trees is not one that Aurora writes, although the page
    /// that holds it is sound.
    #[error(
        "damage in the tree {tree}, key {key:?}: {what}: expected {expected}, found {found}; restore a backup, or salvage the file with aurora-inspect"
    )]
    BadRecord {
        /// The tree.
        tree: &'static str,
        /// The key of the record in that tree, as text.
        key: String,
        /// Which rule is broken.
        what: &'static str,
        /// What the rule asks for.
        expected: u64,
        /// What the record holds.
        found: u64,
    },

    /// The file is shorter than its header says.
    #[error(
        "the file is cut off: it has {found} bytes, its header says {expected}; restore a backup, or salvage the file with aurora-inspect"
    )]
    Truncated {
        /// The length that the header records.
        expected: u64,
        /// The length of the file.
        found: u64,
    },

    /// Acknowledged commits in the log are damaged, and later ones prove that they were durable.
    #[error(
        "the log is damaged at position {lsn} (byte {offset}): a later record at {later_lsn} proves that it was durable; restore a backup, or salvage the file with aurora-inspect"
    )]
    LogDamaged {
        /// The log position of the first record that cannot be read.
        lsn: u64,
        /// The byte offset in the file of that record.
        offset: u64,
        /// The log position of the record that proves the damage.
        later_lsn: u64,
    },

    /// No space is left on the device.
    #[error(
        "the disk is full ({operation} at byte {offset}); nothing that was acknowledged is lost; free some space and try again"
    )]
    DiskFull {
        /// What was being done.
        operation: &'static str,
        /// The byte offset in the file.
        offset: u64,
    },

    /// The file may not grow as far: the file system has a limit for one file, or the process has (`RLIMIT_FSIZE`).
    /// The latter is an error only in a process that ignores the signal `SIGXFSZ`, which ends others.
    #[error(
        "the file may not grow any further ({operation} at byte {offset}): that is the limit of the file system or of this process (`ulimit -f`); nothing that was acknowledged is lost; raise the limit, or delete what is not needed, and try again"
    )]
    FileTooLarge {
        /// What was being done.
        operation: &'static str,
        /// The byte offset in the file.
        offset: u64,
    },

    /// The file has reached the largest size that its page size allows.
    #[error("the file is full: it has all of its {pages} pages; create it with a larger page size")]
    FileFull {
        /// The number of pages.
        pages: u64,
    },

    /// An earlier write or sync failed, so what is on the disk is not known.
    #[error(
        "writes are refused since an earlier failure ({cause}); reads go on; close and reopen the database to recover every acknowledged commit that the disk kept"
    )]
    Poisoned {
        /// The first failure.
        cause: Arc<Error>,
    },

    /// This process was forked from the one that opened the database.
    #[error(
        "the database was opened by the process {opened_by}, and this is a child that `fork` made of it; use it there, or close it there and open it here"
    )]
    Forked {
        /// The id of the process that opened it.
        opened_by: u32,
    },

    /// The system starts no more threads for this process.
    #[error(
        "the system does not start another thread ({source}); raise the limit of threads or of memory, or open the database with `background(false)` and wait for its calls without awaiting them"
    )]
    NoThread {
        /// The operating system's own error.
        #[source]
        source: Arc<io::Error>,
    },

    /// A path that has no name for a file.
    #[error("{} cannot be the path of a file: {reason}", path.display())]
    BadPath {
        /// The path that was given.
        path: PathBuf,
        /// What is wrong with it, and what would do.
        reason: &'static str,
    },

    /// The handle, or the transaction, was opened for reading only.
    #[error("the database is open for reading only; open it without `read_only(true)` to write")]
    ReadOnly,

    /// The database was closed.
    #[error("the database is closed; drop its handles and snapshots, then open it again")]
    Closed,

    /// An earlier operation of this transaction failed half-way, so it cannot be committed.
    #[error(
        "an earlier operation of this transaction failed; roll back to a savepoint from before it, or drop it and start again"
    )]
    TransactionFailed,

    /// The savepoint belongs to another transaction or was rolled back already.
    #[error("the savepoint is not one of this transaction's living ones; take a new one")]
    UnknownSavepoint,

    /// A key is longer than a page can hold.
    #[error(
        "the key has {length} bytes, the limit is {limit}; use a shorter key, or create the file with a larger page size"
    )]
    KeyTooLong {
        /// The length of the key.
        length: usize,
        /// The longest key that this file takes.
        limit: usize,
    },

    /// A value is longer than the format can hold.
    #[error("the value has {length} bytes, the limit is {limit}; store it in pieces")]
    ValueTooLong {
        /// The length of the value.
        length: u64,
        /// The longest value.
        limit: u64,
    },

    /// There is no tree of that name.
    #[error("there is no tree named {name:?}; write to it first, or check the name")]
    TreeNotFound {
        /// The name that was asked for.
        name: String,
    },

    /// The name of a tree is empty, too long, or taken.
    #[error("{name:?} cannot be the name of a tree: {reason}")]
    BadTreeName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// An option of the builder has a value that cannot work.
    #[error("the option {option} cannot be {value}: {reason}")]
    BadOption {
        /// The name of the builder's method.
        option: &'static str,
        /// The value that was given.
        value: u64,
        /// What is allowed.
        reason: &'static str,
    },

    /// A future was polled, or waited for, after it had given its result, or its thread ended
    /// without one.
    #[error("this work is over, and its result was given away or lost; start it again")]
    WorkDone,

    /// The key holds a blob where a value was asked for, or the other way round.
    #[error("the key {key:?} holds a {found}, not a {wanted}; use the calls for it")]
    WrongKind {
        /// The key, as text.
        key: String,
        /// What it holds: `blob` or `value`.
        found: &'static str,
        /// What the call is for.
        wanted: &'static str,
    },

    /// There is no blob under the key.
    #[error("there is no blob under the key {key:?}; check the key, or put one first")]
    BlobNotFound {
        /// The key, as text.
        key: String,
    },

    /// A blob would be longer than one can be.
    #[error(
        "the blob would have {length} bytes, the limit is {limit}; check the offset or the size that was given"
    )]
    BlobTooLong {
        /// How long it would be, or the greatest number if that is more.
        length: u64,
        /// The longest blob.
        limit: u64,
    },

    /// Where the bytes of a blob come from has failed.
    #[error(
        "the source of the blob failed after {offset} bytes: {source}; nothing of it was stored; start it again"
    )]
    BlobSource {
        /// How many bytes were read from it.
        offset: u64,
        /// Its own error.
        #[source]
        source: Arc<io::Error>,
    },

    /// A blob was staged in one database and is attached to another.
    #[error("the blob was staged in another database; stage it in the one that it is for")]
    StagedElsewhere,

    /// A value that should be a number is not.
    #[error("the value of the key {key:?} is not a number that can be incremented: {reason}")]
    NotANumber {
        /// The key, as text.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// There is no collection of that name.
    #[error("there is no collection named {collection:?}; make it with `new_collection`")]
    CollectionNotFound {
        /// The name that was asked for.
        collection: String,
    },

    /// There is a collection of that name already, with another schema.
    #[error(
        "there is a collection named {collection:?} already, with another schema ({difference}): alter_collection gives it \
         this one; create_index and drop_index have changed it, if they were called"
    )]
    CollectionExists {
        /// The name.
        collection: String,
        /// What is different first.
        difference: String,
    },

    /// A collection cannot be given a name.
    #[error("{name:?} cannot be the name of the collection: {reason}; choose another one")]
    BadCollectionName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The schema of a collection cannot be.
    #[error("the collection {collection:?} cannot have this schema: {reason}")]
    BadSchema {
        /// The name of the collection.
        collection: String,
        /// What is wrong.
        reason: String,
    },

    /// There is no document of that id in the collection.
    #[error("there is no document {id} in {collection:?}; check the id")]
    DocumentNotFound {
        /// The name of the collection.
        collection: String,
        /// The id, as text.
        id: String,
    },

    /// A value is not of the type that the schema declares for its field.
    #[error(
        "the field {field:?} of {collection:?} takes {expected}, not {found} ({value}); change the value or the schema"
    )]
    WrongType {
        /// The name of the collection.
        collection: String,
        /// The field, with dots for nested ones.
        field: String,
        /// The declared type.
        expected: &'static str,
        /// The type that was given.
        found: &'static str,
        /// The value, cut to a readable length.
        value: String,
    },

    /// The schema is strict and does not have the field.
    #[error(
        "the collection {collection:?} has no field {field:?} (value {value}), and its schema is strict; declare the field, or \
         let the schema take others with `strict(false)`"
    )]
    UnknownField {
        /// The name of the collection.
        collection: String,
        /// The field.
        field: String,
        /// The value, cut to a readable length.
        value: String,
    },

    /// A required field is missing, or null.
    #[error("the field {field:?} of {collection:?} is required; give it a value")]
    MissingField {
        /// The name of the collection.
        collection: String,
        /// The field.
        field: String,
    },

    /// A document came without an id, and there is no number left behind the ids of the others.
    #[error(
        "{collection:?} has a document with the greatest number as its id, so there is no next one; give the document an id"
    )]
    NoNextId {
        /// The name of the collection.
        collection: String,
    },

    /// Another document has this value in a unique field.
    #[error("another document of {collection:?} ({id}) has {value} in the unique field {field:?}")]
    Duplicate {
        /// The name of the collection.
        collection: String,
        /// The field, or the fields of a compound index with commas between.
        field: String,
        /// The value, cut to a readable length.
        value: String,
        /// The id of the document that has it.
        id: String,
    },

    /// An index of that name does not exist, or exists already.
    #[error("the collection {collection:?} cannot do this with the index {index:?}: {reason}")]
    BadIndex {
        /// The name of the collection.
        collection: String,
        /// The name of the index.
        index: String,
        /// What is wrong.
        reason: &'static str,
    },

    /// A query that cannot be run.
    #[error("this query cannot be run: {reason}")]
    BadQuery {
        /// What is wrong.
        reason: String,
    },

    /// A value cannot be turned into a document, or a document into a value of that type.
    #[error("cannot convert {what}: {reason}")]
    Conversion {
        /// What was to be converted.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },

    /// A record of the database's own cannot be read although its page is whole: the program that
    /// wrote it was wrong.
    #[error("a record of {what} cannot be read: {reason}; salvage the file with aurora-inspect")]
    Unreadable {
        /// What the record belongs to.
        what: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A check has found a document that its collection would refuse, so that no call of this program has stored it as it
    /// is. It can be read, replaced and deleted like others.
    #[error(
        "the document {id} of {collection:?} is not as its schema says: {cause}; replace it or delete it, or restore a backup"
    )]
    BadDocument {
        /// The name of the collection.
        collection: String,
        /// The id, as text.
        id: String,
        /// What would be said to who stored it now.
        #[source]
        cause: Arc<Error>,
    },

    /// A file beside the database, to import or export, cannot be read or written.
    #[error("cannot {operation} {}: {source}{}", path.display(), advice_for_other(source))]
    OtherFile {
        /// What was being done, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's own error.
        #[source]
        source: Arc<io::Error>,
    },

    /// An import ended before the end of its file: what comes next is not of the format, or was
    /// refused and the import was told to stop.
    #[error(
        "the import stopped at row {row}: {cause}; the {taken} rows that were taken before it are stored; correct the row and import the rest"
    )]
    ImportStopped {
        /// The row, as [`Refused::row`](crate::Refused::row) counts.
        row: u64,
        /// The number of rows that were stored.
        taken: u64,
        /// What is wrong with the row.
        #[source]
        cause: Arc<Error>,
    },

    /// The target of a backup exists.
    #[error("{} exists; choose another path, or remove it first", path.display())]
    AlreadyExists {
        /// The path that was given.
        path: PathBuf,
    },
}

/// The file system has no room for another file or for what is in one, or gives this user none.
fn is_no_room(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::StorageFull,
        io::ErrorKind::QuotaExceeded,
        io::ErrorKind::FileTooLarge,
    ];
    kinds.contains(&error.kind())
}

/// The process, or the system, has as many files open as it may.
pub(crate) fn is_no_descriptor(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

fn advice_for_open(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if is_no_room(error) => "free some space and try again",
        _ if is_no_descriptor(error) => "close some files, or raise the limit (`ulimit -n`)",
        io::ErrorKind::ReadOnlyFilesystem => {
            "it can be opened there with `read_only(true)` if it is there already"
        }
        io::ErrorKind::WouldBlock => "wait until it has ended, or choose another path",
        io::ErrorKind::PermissionDenied => {
            "this process must be allowed to read and write the file (with `read_only(true)`, to read it) and to search its \
             directory, which it also reads and writes to make a file"
        }
        _ => "check that the path is a file this process may read and write",
    }
}

fn advice_for_other(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if is_no_room(error) => "; free some space and try again",
        io::ErrorKind::PermissionDenied => {
            "; this process must be allowed to, and to search its directory"
        }
        _ => "",
    }
}

impl Error {
    /// The file holds what it should not: damage, or a record that nothing should have written; not a wrong call, and
    /// not a broken device.
    pub fn is_corruption(&self) -> bool {
        matches!(
            self,
            Error::Corrupt { .. }
                | Error::Unreadable { .. }
                | Error::BadRecord { .. }
                | Error::BadDocument { .. }
                | Error::Truncated { .. }
                | Error::LogDamaged { .. }
        )
    }

    /// The operating system or the device failed.
    pub fn is_io(&self) -> bool {
        matches!(
            self,
            Error::Io { .. }
                | Error::Open { .. }
                | Error::DiskFull { .. }
                | Error::FileTooLarge { .. }
                | Error::OtherFile { .. }
        )
    }

    /// Another handle has the file.
    pub fn is_locked(&self) -> bool {
        matches!(self, Error::Locked)
    }

    /// The device has no room, or does not let the file have more: that of the database, or another that was to be made. The call
    /// can be tried again when there is some, unless writes are [`Poisoned`](Error::Poisoned) from then on: the log itself
    /// could not be written.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Error::DiskFull { .. } | Error::FileTooLarge { .. } => true,
            Error::Open { source, .. } | Error::OtherFile { source, .. } => is_no_room(source),
            _ => false,
        }
    }

    /// The handle takes no more writes until the database is reopened.
    pub fn is_poisoned(&self) -> bool {
        matches!(self, Error::Poisoned { .. })
    }

    /// The caller passed something that does not work here: a key too long, a missing tree, a bad
    /// option, a document that the schema or a unique index refuses. What was refused has changed nothing, and the
    /// database goes on. (Calls that change many things within a transaction say what is left of them.)
    pub fn is_misuse(&self) -> bool {
        matches!(
            self,
            Error::KeyTooLong { .. }
                | Error::ValueTooLong { .. }
                | Error::TreeNotFound { .. }
                | Error::BadTreeName { .. }
                | Error::BadOption { .. }
                | Error::UnknownSavepoint
                | Error::ReadOnly
                | Error::Closed
                | Error::Forked { .. }
                | Error::BadPath { .. }
                | Error::TransactionFailed
                | Error::AlreadyExists { .. }
                | Error::WorkDone
                | Error::WrongKind { .. }
                | Error::BlobNotFound { .. }
                | Error::BlobTooLong { .. }
                | Error::StagedElsewhere
                | Error::NotANumber { .. }
                | Error::CollectionNotFound { .. }
                | Error::CollectionExists { .. }
                | Error::BadCollectionName { .. }
                | Error::BadSchema { .. }
                | Error::DocumentNotFound { .. }
                | Error::WrongType { .. }
                | Error::UnknownField { .. }
                | Error::MissingField { .. }
                | Error::NoNextId { .. }
                | Error::Duplicate { .. }
                | Error::BadIndex { .. }
                | Error::BadQuery { .. }
                | Error::Conversion { .. }
        )
    }

    /// There is no memory, or no address, for something that may be very long.
    pub(crate) fn no_memory(operation: &'static str, offset: u64) -> Self {
        Error::io(operation, offset, io::ErrorKind::OutOfMemory.into())
    }

    /// Wraps an operating-system error, telling a full disk from the rest.
    pub(crate) fn io(operation: &'static str, offset: u64, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::FileTooLarge => Error::FileTooLarge { operation, offset },
            _ if is_no_room(&source) => Error::DiskFull { operation, offset },
            _ => Error::Io {
                operation,
                offset,
                source: Arc::new(source),
            },
        }
    }
}
