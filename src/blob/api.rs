//! What a user calls: on the database, on a snapshot, and in a transaction.

use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use super::content::{Content, take_number};
use super::extension;
use super::meta::{BlobInfo, BlobMeta, Meta};
use super::reader::BlobReader;
use super::scan::BlobScan;
use super::stage::{Labels, Stage, put_new};
use super::writer::{BlobWriter, StagedBlob};
use crate::db::Aurora;
use crate::keys::record::{Kind, Record};
use crate::keys::store::{KEYS, find_record, remove_record, rewrite_record};
use crate::moment::Moment;
use crate::txn::snapshot::Snapshot;
use crate::txn::view::prefix_range;
use crate::txn::write::WriteTransaction;
use crate::work::Work;
use crate::{Error, Result};

/// The blob of a key, with the record that it was found in.
///
/// # Errors
/// [`Error::WrongKind`] if the key holds a value.
fn find(moment: &impl Moment, key: &[u8]) -> Result<Option<(Record, Meta)>> {
    let Some(record) = find_record(moment, key)? else {
        return Ok(None);
    };
    if record.kind != Kind::Blob {
        return Err(Error::WrongKind {
            key: text(key),
            found: "value",
            wanted: "blob",
        });
    }
    let meta = Meta::decode(&record.payload).map_err(|flaw| flaw.at(KEYS, key))?;
    Ok(Some((record, meta)))
}

fn info(moment: &impl Moment, key: &[u8]) -> Result<Option<BlobInfo>> {
    let found = find(moment, key)?;
    Ok(found.map(|(record, meta)| meta.info(record.expiry_ms)))
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// Changes the blob of a key, and its record with it.
fn change(
    tx: &mut WriteTransaction,
    key: &[u8],
    change: impl FnOnce(&mut WriteTransaction, &mut Meta) -> Result<()>,
) -> Result<BlobInfo> {
    let found = find(tx, key)?;
    let (record, mut meta) = found.ok_or_else(|| Error::BlobNotFound { key: text(key) })?;
    tx.watched(|tx| change(tx, &mut meta))?;
    let payload = meta.encode()?;
    let info = meta.info(record.expiry_ms);
    // The content has changed already.
    tx.together(|tx| rewrite_record(tx, key, &Record { payload, ..record }.to_ref()))?;
    Ok(info)
}

/// Appends what was staged, in chunks, and removes it where it was staged.
fn append_staged(tx: &mut WriteTransaction, key: &[u8], stage: &mut Stage) -> Result<BlobInfo> {
    let snapshot = stage.db.begin_read()?;
    let (stored, buffer) = stage.parts();
    let meta = Meta {
        content: stored,
        created_ms: 0,
        said: BlobMeta::new(),
    };
    // Its checksum is that of what is stored, so the copy is checked as a whole.
    let stored = BlobReader::new(snapshot, key, meta, None);
    let info = change(tx, key, |tx, meta| {
        meta.content.append(tx, &mut stored.chain(buffer))
    })?;
    tx.together(|tx| stage.discard(tx))?;
    Ok(info)
}

/// Blobs: content of any size under a key, next to plain values.
impl Aurora {
    /// Stores a file as the blob of a key. What was there before, blob or value, is replaced. The
    /// content type is guessed from the extension of the file's name.
    ///
    /// Other writers go on while the file is read. Nothing is seen of the blob, and nothing is
    /// left of it after a crash, until it is whole.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("portrait.jpg");
    /// # std::fs::write(&path, "not really").unwrap();
    /// let info = db.put_blob("images:portrait", &path).wait()?; // or `.await`
    /// assert_eq!(info.content_type.as_deref(), Some("image/jpeg"));
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OtherFile`] if the file cannot be read, or is the database's own, which has no end for who stores what it
    /// reads of it ([`backup_to`](Self::backup_to) copies it).
    pub fn put_blob(
        &self,
        key: impl AsRef<[u8]>,
        path: impl AsRef<Path>,
    ) -> Work<'static, BlobInfo> {
        let path = path.as_ref().to_path_buf();
        let mut writer = self.blob_writer(key);
        let own = self.handle.file.clone();
        Work::on_thread(move || {
            let refused = |source| Error::OtherFile {
                operation: "read",
                path: path.clone(),
                source,
            };
            let mut file = File::open(&path).map_err(|error| refused(Arc::new(error)))?;
            if own.is_some_and(|own| own.is_at(&path).unwrap_or(false)) {
                let what = "it is the file of this database, which grows as it is read; `backup_to` copies it";
                let source = io::Error::new(io::ErrorKind::InvalidInput, what);
                return Err(refused(Arc::new(source)));
            }
            let read = writer.stage().read_from(&mut file);
            read.map_err(|error| match error {
                Error::BlobSource { source, .. } => refused(source),
                other => other,
            })?;
            if let Some(kind) = extension::content_type(&path) {
                writer = writer.content_type(kind);
            }
            writer.finish()
        })
    }

    /// Stores all that a source gives as the blob of a key. Like [`put_blob`](Self::put_blob), and
    /// says nothing of the content type. To say more, use [`blob_writer`](Self::blob_writer).
    ///
    /// The source is read to its end. One that grows by what is stored of it (a reader of the database's own file) has none.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// let info = db.put_blob_from("numbers", &[7; 1000][..])?;
    /// assert_eq!((info.size, info.chunks), (1000, 1));
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BlobSource`] if the source fails.
    pub fn put_blob_from(&self, key: impl AsRef<[u8]>, mut source: impl Read) -> Result<BlobInfo> {
        let mut writer = self.blob_writer(key);
        writer.stage().read_from(&mut source)?;
        writer.finish()
    }

    /// [`put_blob_from`](Self::put_blob_from), on a thread of its own if it is awaited.
    pub fn put_blob_from_async(
        &self,
        key: impl AsRef<[u8]>,
        source: impl Read + Send + 'static,
    ) -> Work<'static, BlobInfo> {
        let (db, key) = (self.clone(), key.as_ref().to_vec());
        Work::on_thread(move || db.put_blob_from(key, source))
    }

    /// A blob to be written piece by piece.
    pub fn blob_writer(&self, key: impl AsRef<[u8]>) -> BlobWriter {
        BlobWriter::new(self.clone(), key.as_ref().to_vec())
    }

    /// Stores content that a later transaction makes a blob: the long part of the work. Other writers go on
    /// meanwhile. More than two megabytes are stored in transactions of its own, so it must not be called by who holds
    /// a write transaction.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// let scan = db.stage_blob(&[0xff; 100_000][..])?.content_type("image/tiff");
    /// db.write(|tx| {
    ///     tx.tree("invoices")?.put("2024-17", "paid")?;
    ///     tx.attach_blob("scans:2024-17", scan)
    /// })?; // both, or neither
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn stage_blob(&self, mut source: impl Read) -> Result<StagedBlob> {
        let mut stage = Stage::new(self.clone());
        stage.read_from(&mut source)?;
        let labels = Labels::default();
        Ok(StagedBlob { stage, labels })
    }

    /// [`stage_blob`](Self::stage_blob), on a thread of its own if it is awaited.
    pub fn stage_blob_async(
        &self,
        source: impl Read + Send + 'static,
    ) -> Work<'static, StagedBlob> {
        let db = self.clone();
        Work::on_thread(move || db.stage_blob(source))
    }

    /// A reader of the blob of a key, as it is now.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if the key holds a value.
    pub fn get_blob(&self, key: impl AsRef<[u8]>) -> Result<Option<BlobReader>> {
        self.begin_read()?.get_blob(key)
    }

    /// What the blob of a key is like.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if the key holds a value.
    pub fn blob_info(&self, key: impl AsRef<[u8]>) -> Result<Option<BlobInfo>> {
        self.begin_read()?.blob_info(key)
    }

    /// The blobs of a range of keys, from either end, of this moment, with what each is like.
    pub fn scan_blobs<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
    ) -> Result<BlobScan<'static>> {
        Ok(BlobScan::of_snapshot(self.begin_read()?, range))
    }

    /// The blobs whose keys begin with `prefix`, from either end, of this moment, with what each is like.
    pub fn scan_blobs_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<BlobScan<'static>> {
        self.scan_blobs(prefix_range(prefix.as_ref()))
    }

    /// Appends all that a source gives to the blob of a key, at once when it has given all. Other
    /// writers go on until then. More than two megabytes are stored twice for that.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// db.put_blob_from("log", &b"one\n"[..])?;
    /// let info = db.append_blob("log", &b"two\n"[..])?;
    /// assert_eq!(info.size, 8);
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BlobNotFound`] if there is none, [`Error::BlobSource`] if the source fails.
    pub fn append_blob(&self, key: impl AsRef<[u8]>, mut source: impl Read) -> Result<BlobInfo> {
        let key = key.as_ref();
        if !matches!(self.blob_info(key), Ok(Some(_))) {
            // A transaction also sees what commits that are not durable yet have left.
            let found = self.begin_write()?.blob_info(key)?;
            found.ok_or_else(|| Error::BlobNotFound { key: text(key) })?;
        }
        let mut stage = Stage::new(self.clone());
        stage.read_from(&mut source)?;
        self.write(|tx| append_staged(tx, key, &mut stage))
    }

    /// [`append_blob`](Self::append_blob), on a thread of its own if it is awaited.
    pub fn append_blob_async(
        &self,
        key: impl AsRef<[u8]>,
        source: impl Read + Send + 'static,
    ) -> Work<'static, BlobInfo> {
        let (db, key) = (self.clone(), key.as_ref().to_vec());
        Work::on_thread(move || db.append_blob(key, source))
    }

    /// Cuts the blob of a key to a size. A larger size than it has fills it up with zeros.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`] if there is none, [`Error::BlobTooLong`] if it would be longer than a blob can be (2^32 chunks:
    /// 1 PiB). Nothing has changed then.
    pub fn truncate_blob(&self, key: impl AsRef<[u8]>, size: u64) -> Result<BlobInfo> {
        self.write(|tx| tx.truncate_blob(key, size))
    }

    /// Writes bytes at an offset of the blob of a key, over what is there and beyond its end. What
    /// lies between the end and the offset becomes zeros. Only the chunks that are touched are
    /// written again; snapshots and readers see what was there before.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// db.put_blob_from("poem", &b"Tyger Tyger"[..])?;
    /// db.write_blob_at("poem", 6, b"burning")?;
    /// let poem = db.get_blob("poem")?.unwrap();
    /// assert_eq!(poem.read_at(0, 100).wait()?, b"Tyger burning");
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BlobNotFound`] if there is none, [`Error::BlobTooLong`] if it would be longer than a blob can be (2^32 chunks:
    /// 1 PiB). Nothing has changed then.
    pub fn write_blob_at(
        &self,
        key: impl AsRef<[u8]>,
        offset: u64,
        bytes: impl AsRef<[u8]>,
    ) -> Result<BlobInfo> {
        self.write(|tx| tx.write_blob_at(key, offset, bytes))
    }

    /// Replaces what is said of the blob of a key: content type and map.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`] if there is none.
    pub fn set_blob_meta(&self, key: impl AsRef<[u8]>, meta: BlobMeta) -> Result<BlobInfo> {
        self.write(|tx| tx.set_blob_meta(key, meta))
    }

    /// Removes the blob of a key. Says whether there was one.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if the key holds a value.
    pub fn delete_blob(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.write(|tx| tx.delete_blob(key))
    }
}

/// Blobs of one moment.
impl Snapshot {
    /// A reader of the blob of a key, as it was at this moment.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if the key holds a value.
    pub fn get_blob(&self, key: impl AsRef<[u8]>) -> Result<Option<BlobReader>> {
        let key = key.as_ref();
        let found = find(self, key)?;
        Ok(found.map(|(record, meta)| BlobReader::new(self.clone(), key, meta, record.expiry_ms)))
    }

    /// What the blob of a key was like at this moment.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if the key holds a value.
    pub fn blob_info(&self, key: impl AsRef<[u8]>) -> Result<Option<BlobInfo>> {
        info(self, key.as_ref())
    }

    /// The blobs of a range of keys, from either end, with what each was like. Keeps this moment for as long as it lives.
    pub fn scan_blobs<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> BlobScan<'static> {
        BlobScan::of_snapshot(self.clone(), range)
    }

    /// The blobs whose keys begin with `prefix`, from either end, with what each was like. Keeps this moment for as long as
    /// it lives.
    pub fn scan_blobs_prefix(&self, prefix: impl AsRef<[u8]>) -> BlobScan<'static> {
        self.scan_blobs(prefix_range(prefix.as_ref()))
    }
}

/// Blobs that change together with everything else in the transaction, or not at all.
///
/// Sources are read within the transaction, which is the writers' turn; for long ones there is
/// [`Aurora::stage_blob`]. If a source fails, nothing has changed, and the transaction can go on.
impl WriteTransaction {
    /// Stores all that a source gives as the blob of a key.
    ///
    /// # Errors
    /// [`Error::BlobSource`] if the source fails.
    pub fn put_blob_from(
        &mut self,
        key: impl AsRef<[u8]>,
        mut source: impl Read,
    ) -> Result<BlobInfo> {
        let mut content = Content::new(take_number(self)?);
        self.watched(|tx| content.append(tx, &mut source))?;
        let put = put_new(self, key.as_ref(), content, &Labels::default());
        if put.as_ref().is_err_and(Error::is_misuse) {
            content.remove(self)?; // the transaction can still be committed
        }
        put
    }

    /// Makes staged content the blob of a key.
    ///
    /// # Errors
    /// [`Error::StagedElsewhere`] if it was staged in another database.
    pub fn attach_blob(&mut self, key: impl AsRef<[u8]>, staged: StagedBlob) -> Result<BlobInfo> {
        let StagedBlob { mut stage, labels } = staged;
        stage.attach(self, key.as_ref(), &labels)
    }

    /// What the blob of a key is like.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if the key holds a value.
    pub fn blob_info(&self, key: impl AsRef<[u8]>) -> Result<Option<BlobInfo>> {
        info(self, key.as_ref())
    }

    /// The blobs of a range of keys, from either end, with what each is like.
    pub fn scan_blobs<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> BlobScan<'_> {
        BlobScan::of_transaction(self, range)
    }

    /// The blobs whose keys begin with `prefix`, from either end, with what each is like.
    pub fn scan_blobs_prefix(&self, prefix: impl AsRef<[u8]>) -> BlobScan<'_> {
        self.scan_blobs(prefix_range(prefix.as_ref()))
    }

    /// Reads the blob of a key from an offset on, until the buffer is full or the blob ends.
    /// Returns the number of bytes read.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`] if there is none.
    pub fn read_blob_range(
        &self,
        key: impl AsRef<[u8]>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize> {
        let key = key.as_ref();
        let found = find(self, key)?;
        let (_, meta) = found.ok_or_else(|| Error::BlobNotFound { key: text(key) })?;
        let content = meta.content;
        content.read(self, offset, buffer, |tx, at| content.long_chunk(tx, at))
    }

    /// Appends all that a source gives to the blob of a key.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`] if there is none, [`Error::BlobSource`] if the source fails.
    pub fn append_blob(
        &mut self,
        key: impl AsRef<[u8]>,
        mut source: impl Read,
    ) -> Result<BlobInfo> {
        change(self, key.as_ref(), |tx, meta| {
            meta.content.append(tx, &mut source)
        })
    }

    /// Cuts the blob of a key to a size, or fills it up with zeros.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`] if there is none, [`Error::BlobTooLong`] if it would be longer than a blob can be (2^32 chunks:
    /// 1 PiB). Nothing has changed then.
    pub fn truncate_blob(&mut self, key: impl AsRef<[u8]>, size: u64) -> Result<BlobInfo> {
        change(self, key.as_ref(), |tx, meta| {
            meta.content.truncate(tx, size)
        })
    }

    /// Writes bytes at an offset of the blob of a key. See [`Aurora::write_blob_at`].
    ///
    /// # Errors
    /// [`Error::BlobNotFound`] if there is none, [`Error::BlobTooLong`] if it would be longer than a blob can be (2^32 chunks:
    /// 1 PiB). Nothing has changed then.
    pub fn write_blob_at(
        &mut self,
        key: impl AsRef<[u8]>,
        offset: u64,
        bytes: impl AsRef<[u8]>,
    ) -> Result<BlobInfo> {
        change(self, key.as_ref(), |tx, meta| {
            meta.content.write_at(tx, offset, bytes.as_ref())
        })
    }

    /// Replaces what is said of the blob of a key: content type and map.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`] if there is none.
    pub fn set_blob_meta(&mut self, key: impl AsRef<[u8]>, said: BlobMeta) -> Result<BlobInfo> {
        change(self, key.as_ref(), |_, meta| {
            meta.said = said;
            Ok(())
        })
    }

    /// Removes the blob of a key. Says whether there was one.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if the key holds a value.
    pub fn delete_blob(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        if find(self, key)?.is_none() {
            return Ok(false);
        }
        remove_record(self, key)
    }
}
