//! What keeps a database durable, small, copied and known: flush, checkpoint, compaction, backup, statistics, check.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Result;
use crate::compact::{Compaction, Progress};
use crate::db::{Aurora, with_extension};
use crate::inspect::{CheckReport, Stats, TreeStats};
use crate::txn::commit::Commit;
use crate::work::Work;

impl Aurora {
    /// Makes every commit so far durable, buffered ones too.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) or [`Error::DiskFull`](crate::Error::DiskFull): which of the buffered commits are durable is not known then, and writes
    /// are refused until the database is reopened.
    pub fn flush(&self) -> Result<()> {
        Commit::of_all(&self.handle.engine)?.wait()
    }

    /// [`flush`](Self::flush), waited for by awaiting the result: the disk is waited for on the thread of the log. What
    /// was committed before this call is durable then.
    ///
    /// # Errors
    /// Those of [`flush`](Self::flush) when it is awaited; at once [`Error::Closed`](crate::Error::Closed),
    /// [`Error::ReadOnly`](crate::Error::ReadOnly) and [`Error::Poisoned`](crate::Error::Poisoned).
    pub fn flush_async(&self) -> Result<Commit> {
        Commit::of_all(&self.handle.engine)
    }

    /// Writes everything that is only in the log to its place, and empties the log. Happens by
    /// itself when half of the log or of the memory is used, when changed pages take eight times the
    /// [log's limit](crate::Builder::log_limit), or when values of 32 KiB and more that came and went since the last one take 64 MiB
    /// of the file, and an eighth of it.
    pub fn checkpoint(&self) -> Result<()> {
        self.handle.engine.check_writable()?;
        self.handle.engine.checkpoint()
    }

    /// [`checkpoint`](Self::checkpoint), on a thread of its own if it is awaited.
    pub fn checkpoint_async(&self) -> Work<'static, ()> {
        let db = self.clone();
        Work::on_thread(move || db.checkpoint())
    }

    /// Moves pages from the end of the file into free places and gives the tail back, while
    /// readers and writers go on. Returns how many bytes the file lost.
    ///
    /// Else only a free tail is given back, by a close, or by a checkpoint if it is more than a quarter of the file: pages
    /// that are freed within it, or in front of the log, are used again, and stay a part of it. It is worth it
    /// where [`Stats::free_pages`](crate::Stats::free_pages) is large, as after a large removal. It reads and writes what
    /// it moves, and packs the leaves. What is packed first can lie too far behind and has to move once more, so that
    /// up to twice as much as there is of data is written. A long value moves only into a gap that takes it
    /// whole; where long values lie between shorter gaps, these stay. What a snapshot sees that is held meanwhile stays
    /// where it is, and the file as long as that needs: compact again when it is dropped.
    ///
    /// Works in bounded steps, each a transaction that waits for its turn like any other. A crash at any point leaves
    /// what a crash always leaves.
    pub fn compact(&self) -> Result<u64> {
        self.compact_with(|_| true)
    }

    /// [`compact`](Self::compact), on a thread of its own if it is awaited.
    pub fn compact_async(&self) -> Work<'static, u64> {
        let db = self.clone();
        Work::on_thread(move || db.compact())
    }

    /// Like [`compact`](Self::compact); the closure is told the progress after each step, and
    /// stops it by answering `false`.
    pub fn compact_with(&self, progress: impl FnMut(&Progress) -> bool) -> Result<u64> {
        Compaction::new(self.handle.clone())?.run(progress)
    }

    /// Writes a compact copy of what is committed now to a new file, while writes go on. `.db` is
    /// added unless the path ends in it. The copy is checked as a whole before it gets its name, and is a database as any
    /// other: to restore it is to open it. (To copy the file of an open database by other means is no backup.) A
    /// snapshot is held meanwhile. Who may not read the database's file may not read the copy.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`](crate::Error::AlreadyExists) if there is something at the path, and
    /// [`Error::BadPath`](crate::Error::BadPath) if it has no name for a file.
    pub fn backup_to(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = with_extension(path.as_ref())?;
        crate::backup::backup(&self.begin_read()?, &path)
    }

    /// [`backup_to`](Self::backup_to), on a thread of its own if it is awaited.
    pub fn backup_to_async(&self, path: impl AsRef<Path>) -> Work<'static, ()> {
        let (db, path) = (self.clone(), path.as_ref().to_path_buf());
        Work::on_thread(move || db.backup_to(path))
    }

    /// Counts and sizes: pages, trees, log, cache, snapshots, bytes written. Reads no page: it takes some
    /// microseconds, and more with thousands of trees or of pages that wait for a snapshot.
    pub fn stats(&self) -> Result<Stats> {
        crate::inspect::stats(&self.handle.engine, self.handle.hot.stats())
    }

    /// What each tree is made of: its pages, how full its leaves are, the bytes of its keys and values, all of
    /// one moment. Reads and checks every page of the trees, so it takes time in proportion to the file.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// db.write(|tx| tx.tree("events")?.put("first", "two books").map(drop))?;
    /// assert_eq!(db.stats()?.trees["events"].entries, 1);
    /// assert_eq!(db.tree_stats()?["events"].value_bytes, 9);
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) if a page is damaged.
    pub fn tree_stats(&self) -> Result<BTreeMap<String, TreeStats>> {
        crate::inspect::tree_stats(&self.begin_read()?)
    }

    /// [`tree_stats`](Self::tree_stats), on a thread of its own if it is awaited.
    pub fn tree_stats_async(&self) -> Work<'static, BTreeMap<String, TreeStats>> {
        let db = self.clone();
        Work::on_thread(move || db.tree_stats())
    }

    /// Checks everything that the file promises about its structure: checksums along every
    /// reference, order, counts, separators, long values, and that reachable pages and free ones
    /// are together all pages. Reads everything, so it takes time in proportion to the file. Waits for its turn to write, and
    /// holds it for this part. Then checks, on a
    /// snapshot, that keys and the index of what expires say the same, that blobs and their chunks
    /// belong to each other, that documents fit their schema, that indexes hold exactly their
    /// entries, and that no two documents have one value of a unique field.
    ///
    /// # Errors
    /// The first fault that it finds: [`is_corruption`](crate::Error::is_corruption) is true of it. What is wrong with a
    /// document under its schema is [`Error::BadDocument`](crate::Error::BadDocument), with its id. After a failed sync or
    /// checkpoint that failure, as what is in memory then says nothing of the file.
    pub fn check(&self) -> Result<CheckReport> {
        let report = crate::inspect::check(&self.handle.engine)?;
        let snapshot = self.begin_read()?;
        crate::keys::check(&snapshot)?;
        crate::blob::check(&snapshot)?;
        crate::collection::check(&snapshot, snapshot.all_tree_names())?;
        Ok(report)
    }

    /// [`check`](Self::check), on a thread of its own if it is awaited.
    pub fn check_async(&self) -> Work<'static, CheckReport> {
        let db = self.clone();
        Work::on_thread(move || db.check())
    }
}
