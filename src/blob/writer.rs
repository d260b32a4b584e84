//! Streams in: a blob that is written piece by piece, and one that waits for its key.

use std::io::{self, Write};
use std::time::Duration;

use super::meta::BlobInfo;
use super::stage::{Labels, Stage};
use crate::Result;
use crate::db::Aurora;

macro_rules! labelled {
    ($type:ident) => {
        impl $type {
            /// Says what kind of content it is, `image/jpeg` for example.
            pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
                self.labels.said = self.labels.said.content_type(content_type);
                self
            }

            /// Adds an entry of your own to what is known of the blob.
            pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
                self.labels.said = self.labels.said.with(name, value);
                self
            }

            /// Lets the blob expire so long after it gets its key.
            pub fn expires_after(mut self, ttl: Duration) -> Self {
                self.labels.ttl = Some(ttl);
                self
            }
        }
    };
}

labelled!(BlobWriter);
labelled!(StagedBlob);

/// Writes a blob of any size; [`finish`](Self::finish) puts it under its key.
///
/// Until then nobody sees it, and other writers go on. What is written to it is stored in transactions of its own, which wait
/// for their turn: not within a write transaction of the same thread. Dropped before, it leaves only reusable
/// space, and so does a crash. Memory stays about two megabytes.
///
/// ```
/// use std::io::Write;
///
/// # let db = aurora::Aurora::in_memory()?;
/// let mut writer = db
///     .blob_writer("reports:may")
///     .content_type("text/csv")
///     .with("author", "Ada");
/// for day in 1..=31 {
///     writeln!(writer, "{day},{}", day * day).unwrap();
/// }
/// let info = writer.finish()?;
/// assert_eq!(info.content_type.as_deref(), Some("text/csv"));
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the blob is there when `finish` has returned, not before"]
pub struct BlobWriter {
    stage: Stage,
    key: Vec<u8>,
    labels: Labels,
}

impl BlobWriter {
    pub(super) fn new(db: Aurora, key: Vec<u8>) -> Self {
        BlobWriter {
            stage: Stage::new(db),
            key,
            labels: Labels::default(),
        }
    }

    pub(super) fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    /// Puts the blob under its key, as durable as the database's commits are. What was there
    /// before, blob or value, is freed.
    ///
    /// # Errors
    /// That of an earlier write that failed; [`KeyTooLong`](crate::Error::KeyTooLong), or
    /// [`ValueTooLong`](crate::Error::ValueTooLong) if the content type and the map are. Nothing
    /// is stored then.
    pub fn finish(self) -> Result<BlobInfo> {
        let BlobWriter {
            mut stage,
            key,
            labels,
        } = self;
        let db = stage.db.clone();
        db.write(|tx| stage.attach(tx, &key, &labels))
    }
}

impl Write for BlobWriter {
    /// Takes all bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stage.push(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    /// Does nothing: only `finish` makes the blob visible, and durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Content that is in the database already and becomes a blob when a transaction
/// [attaches](crate::WriteTransaction::attach_blob) it to a key. Dropped before, it leaves only
/// reusable space.
#[derive(Debug)]
#[must_use = "it is gone when it is dropped; attach it to a key"]
pub struct StagedBlob {
    pub(super) stage: Stage,
    pub(super) labels: Labels,
}

impl StagedBlob {
    /// Bytes of the content.
    pub fn size(&self) -> u64 {
        self.stage.size()
    }
}
