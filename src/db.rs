//! The database as its users hold it: open, read, write, close.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Forward, SystemClock};
use crate::format::page::{MAX_PAGE_SIZE, MIN_PAGE_SIZE};
use crate::handle::Handle;
use crate::hot::HotTier;
use crate::keys::expiry;
use crate::keys::sweeper::{self, Alarm, Bell, Waiting};
use crate::storage::{FileStorage, MemoryStorage, Storage};
use crate::sync::Tries;
use crate::trees::Tree;
use crate::txn::commit::Commit;
use crate::txn::engine::{Engine, Settings};
use crate::txn::snapshot::Snapshot;
use crate::txn::write::{Durability, WriteTransaction, check_not_system};
use crate::work::{Wanted, Work};
use crate::{Error, Result};

/// An open database. Clones are handles on the same one; it is closed when the last of them is dropped, with all that
/// came of it: trees, collections, snapshots, readers, transactions.
///
/// It belongs to the process that opened it. In a child that `fork` makes of that process every call is
/// [`Error::Forked`], and to drop the handles there does nothing to the file; what was begun before the fork (snapshots,
/// cursors, readers) must not be read on there. A child that is to use the database opens it itself, once its parent has
/// closed it.
///
/// ```
/// use aurora::Aurora;
///
/// let directory = tempfile::tempdir().unwrap();
/// let db = Aurora::open(directory.path().join("mydb"))?; // makes mydb.db
///
/// db.write(|tx| {
///     let mut users = tx.tree("users")?;
///     users.put("ada", "Ada Lovelace")?;
///     users.put("grace", "Grace Hopper")?;
///     Ok(())
/// })?; // on the disk from here on
///
/// let users = db.tree("users")?;
/// assert_eq!(users.get("ada")?.as_deref(), Some(&b"Ada Lovelace"[..]));
/// assert_eq!(users.len()?, 2);
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Aurora {
    pub(crate) handle: Arc<Handle>,
    pub(crate) durability: Durability,
}

/// How to open a database. See [`Aurora::builder`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until it opens a database"]
pub struct Builder {
    settings: Settings,
    create: bool,
    durability: Durability,
    clock: Arc<dyn Clock>,
    waiting: Option<Arc<dyn Waiting>>,
    hot_bytes: usize,
    lock_wait: Duration,
}

/// So many files that are gone from the path when they are locked are looked at, one after the other.
const MOST_FILES: u32 = 100;

impl Default for Builder {
    fn default() -> Self {
        Builder {
            settings: Settings {
                page_size: 4096,
                memory_bytes: 256 << 20,
                log_limit_bytes: 32 << 20,
                leaves_log: true,
                read_only: false,
                background: true,
                salt: None,
            },
            create: true,
            durability: Durability::Full,
            clock: Arc::new(SystemClock),
            waiting: None,
            hot_bytes: 64 << 20,
            lock_wait: Duration::ZERO,
        }
    }
}

impl Builder {
    /// The page size of a file that is created, in bytes: a power of two from 4096 (the default)
    /// to 65536. An existing file keeps its own. Larger pages take longer keys (a quarter of a
    /// page), scan faster, and cost more for each small commit. An entry that is longer than a third of a page has its value in
    /// pages of its own, whole ones: where most values are somewhat longer, larger pages take less room.
    pub fn page_size(mut self, bytes: u32) -> Self {
        self.settings.page_size = bytes;
        self
    }

    /// How much memory pages may use, in bytes; 256 MiB if not set, at least 1 MiB. Pages beyond
    /// it are dropped, or written early, and read again through the map of the file; commits wait while it is
    /// full of pages that are not written yet. Those leave half of it to the others, so that reads stay fast: while commits
    /// come in faster than a checkpoint writes them, both together can take up to twice the limit. A full disk stops
    /// checkpoints and not commits: there they take what all commits in the log have changed.
    /// The page table (16 bytes for each page that was used) comes on top.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.settings.memory_bytes = bytes;
        self
    }

    /// How much memory the hot tier may use, in bytes; 64 MiB if not set, on top of
    /// [`memory_limit`](Self::memory_limit). It holds the values and documents that are read most,
    /// found by their hash and ready for use, always as the newest state has them. What is read
    /// once does not get in, so a scan does not wash it out. 0 turns it off.
    /// [`Stats::hot`](crate::Stats::hot) says what it does.
    pub fn hot_limit(mut self, bytes: usize) -> Self {
        self.hot_bytes = bytes;
        self
    }

    /// How large the log in the file may grow, in bytes; 32 MiB if not set, at least 64 KiB. It
    /// starts at 32 KiB and grows when commits fill it: to twice the data, or to 4 MiB if that is more, and to twice that
    /// where commits had to wait for room. A larger log makes for fewer checkpoints and a longer open after a crash. A
    /// transaction with more changes than a quarter of the present log commits by a checkpoint (after the second such one the
    /// log has room for 64 of them, whatever the data); with the next commit the log becomes an eighth of the file, but no more than the limit
    /// and no more than that transaction wrote.
    ///
    /// A checkpoint begins at the latest when changed pages in memory take eight times this limit, or half of the
    /// [memory limit](Self::memory_limit) if that is less. At twelve times, or all of the memory limit, commits wait for
    /// it, unless the last one failed. (One transaction can leave more, and so can what comes in while a checkpoint is
    /// under way.) An open after a crash has at the most so much to make again, which takes 1 to 1.5 ms for each MiB.
    pub fn log_limit(mut self, bytes: u64) -> Self {
        self.settings.log_limit_bytes = bytes;
        self
    }

    /// Whether a missing file is made. It is, if not set.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Opens for reading only: the file is not written to, not even to recover it, and other
    /// readers can have it open at the same time.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.settings.read_only = read_only;
        self
    }

    /// How long an open waits while another handle, of this process or of another, has the file; not at all if not set. It
    /// looks again and again, up to twenty times a second, and who looks first when the file comes free gets it. Who does not
    /// make databases (`read_only(true)`, `create(false)`) waits as long for one in a file that is empty: another handle
    /// may be about to make it.
    pub fn wait_for_lock(mut self, limit: Duration) -> Self {
        self.lock_wait = limit;
        self
    }

    /// What `Ok` from a commit means, unless a transaction says otherwise. Full if not set.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Whether the database has threads of its own for checkpoints, async commits, and the removal
    /// of what has expired. It has, if not set. Without them the same work is done within the calls that need it, which makes
    /// every run the same: for tests, and for programs that must not have threads.
    pub fn background(mut self, background: bool) -> Self {
        self.settings.background = background;
        self
    }

    /// The number that seeds every checksum of a file that is created. Random if not set; set it
    /// to make files byte for byte the same.
    pub fn salt(mut self, salt: u64) -> Self {
        self.settings.salt = Some(salt);
        self
    }

    /// The clock that says what has expired. The operating system's if not set. Time does not go
    /// back in a database: when the clock does, the latest time that was seen stays.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// A transaction that commits by a checkpoint leaves the log as it is: for what is written once.
    pub(crate) fn leave_no_log(mut self) -> Self {
        self.settings.leaves_log = false;
        self
    }

    /// Where the sweeper waits for the next expiry, if not on the real time.
    #[cfg(test)]
    pub(crate) fn waiting(mut self, place: Arc<dyn Waiting>) -> Self {
        self.waiting = Some(place);
        self
    }

    /// Opens the database at a path. `.db` is added unless the path ends in it.
    ///
    /// After a crash the log is replayed, which takes time in proportion to the log and not to
    /// the file. A file that was closed cleanly is not written to before something is changed.
    ///
    /// # Errors
    /// [`Error::Locked`] if another handle has the file: at once, or after [`wait_for_lock`](Self::wait_for_lock);
    /// [`Error::NotADatabase`],
    /// [`Error::NewerFormat`], [`Error::Truncated`], [`Error::Corrupt`], [`Error::LogDamaged`] for
    /// what the file is, [`Error::NotFound`], [`Error::Open`] and [`Error::BadPath`] for what the path is. Nothing that the file
    /// holds is changed then; if it was not closed and its damage is found late, it may have lost free pages at its end.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Aurora> {
        self.open_while(path.as_ref(), &Wanted::ALWAYS)
    }

    fn open_while(&self, path: &Path, wanted: &Wanted) -> Result<Aurora> {
        self.check()?;
        let path = with_extension(path)?;
        // From the path on each time: there may be another file by then.
        self.while_locked(wanted, || self.open_file(&path))
    }

    /// Who puts another file in the place of a database has it locked, or nothing is certain. So one that was found and could
    /// be locked only when that was done is not the one that is there any more: what is committed to it would be nowhere.
    fn open_file(&self, path: &Path) -> Result<Aurora> {
        let mut tries = 0;
        loop {
            let storage = Arc::new(self.find_file(path)?);
            Engine::lock(&*storage, &self.settings)?;
            tries += 1;
            // There may be file systems that give one file several numbers.
            if storage.is_at(path).unwrap_or(true) || tries == MOST_FILES {
                return self.start(storage.clone(), Some(storage));
            }
        }
    }

    fn find_file(&self, path: &Path) -> Result<FileStorage> {
        let opened = match (self.settings.read_only, self.create) {
            (true, _) => FileStorage::open_read_only(path),
            (false, true) => FileStorage::open_or_make(path),
            (false, false) => FileStorage::open(path),
        };
        opened.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound {
                path: path.to_path_buf(),
            },
            _ => Error::Open {
                path: path.to_path_buf(),
                source: Arc::new(error),
            },
        })
    }

    /// Tries to open until the file is not locked any more, and no other handle is about to make a database of it, or the
    /// time is over.
    fn while_locked(&self, wanted: &Wanted, open: impl Fn() -> Result<Aurora>) -> Result<Aurora> {
        let mut tries = Tries::new(self.lock_wait);
        loop {
            let opened = open();
            let is_in_use = |error: &Error| error.is_locked() || Engine::has_found_nothing(error);
            if !opened.as_ref().is_err_and(is_in_use) || !wanted.is_wanted() || !tries.pause() {
                return opened;
            }
        }
    }

    /// [`open`](Self::open), on a thread of its own if it is awaited: after a crash an open reads the log, which can
    /// take some tenths of a second, and it may [wait](Self::wait_for_lock) for another to close the file. Dropped
    /// while it waits for that, it waits no more; dropped later, it opens the database and closes it again.
    pub fn open_async(self, path: impl AsRef<Path>) -> Work<'static, Aurora> {
        let path = path.as_ref().to_path_buf();
        Work::on_thread_while(move |wanted| self.open_while(&path, wanted))
    }

    /// Opens the database in a storage of the caller's: memory, a simulated disk, or anything
    /// else that keeps the promises of [`Storage`].
    pub fn open_storage(self, storage: Arc<dyn Storage>) -> Result<Aurora> {
        self.check()?;
        self.while_locked(&Wanted::ALWAYS, || self.start(storage.clone(), None))
    }

    /// In a storage, which may be a `file`.
    fn start(&self, storage: Arc<dyn Storage>, file: Option<Arc<FileStorage>>) -> Result<Aurora> {
        let engine = Engine::start(storage, self.settings.clone(), self.create)?;
        let waiting = self.waiting.clone();
        let waiting = waiting.unwrap_or_else(|| Arc::new(Bell::default()));
        let hot = HotTier::new(self.hot_bytes, engine.pager.salt());
        let (clock, alarm) = (Forward::new(self.clock.clone()), Alarm::new(waiting));
        let db = Aurora {
            handle: Arc::new(Handle::new(engine, file, clock, alarm, hot)),
            durability: self.durability,
        };
        match db.make_ready() {
            Ok(()) => Ok(db),
            Err(error) => {
                let _ = db.handle.engine.abandon(); // the error is the one that is told
                Err(error)
            }
        }
    }

    fn check(&self) -> Result<()> {
        let bad = |option, value, reason| {
            Err(Error::BadOption {
                option,
                value,
                reason,
            })
        };
        let size = self.settings.page_size;
        if !size.is_power_of_two() || !(MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&size) {
            let reason = "it must be a power of two from 4096 to 65536";
            return bad("page_size", u64::from(size), reason);
        }
        if self.settings.memory_bytes < 1 << 20 {
            let value = self.settings.memory_bytes as u64;
            return bad("memory_limit", value, "it must be at least 1 MiB");
        }
        let log = self.settings.log_limit_bytes;
        if !(64 << 10..=1 << 40).contains(&log) {
            return bad("log_limit", log, "it must be from 64 KiB to 1 TiB");
        }
        Ok(())
    }
}

/// The path of a database's file.
pub(crate) fn with_extension(path: &Path) -> Result<PathBuf> {
    crate::path::with_extension(path, "db")
}

impl Aurora {
    /// What an open does once the trees are there.
    fn make_ready(&self) -> Result<()> {
        if let Some(reached_ms) = expiry::stored_clock(&self.begin_read()?)? {
            self.handle.clock.reach(reached_ms);
        }
        crate::blob::recover(self)?;
        sweeper::start(&self.handle, self.durability)
    }

    /// Opens the database at a path, or makes one; `.db` is added unless the path ends in it.
    /// [`Builder::open`] has the details and the errors.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(path)
    }

    /// [`open`](Self::open), on a thread of its own if it is awaited.
    pub fn open_async(path: impl AsRef<Path>) -> Work<'static, Self> {
        Self::builder().open_async(path)
    }

    /// All options, each with its default.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A database in memory, gone when it is dropped. The same engine on another storage.
    pub fn in_memory() -> Result<Self> {
        Self::builder().open_storage(Arc::new(MemoryStorage::new()))
    }

    /// A handle on the same database whose writes promise something else when they return.
    ///
    /// ```
    /// use aurora::{Aurora, Durability};
    ///
    /// let db = Aurora::in_memory()?;
    /// let cache = db.with_durability(Durability::Buffered);
    /// cache.put("page:1", "can be made again", None)?; // waits for no disk
    /// db.put("user:1", "Ada Lovelace", None)?; // on the disk, and with it what came before
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn with_durability(&self, durability: Durability) -> Aurora {
        let handle = self.handle.clone();
        Aurora { handle, durability }
    }

    /// Takes a snapshot of what is committed now.
    pub fn begin_read(&self) -> Result<Snapshot> {
        Snapshot::new(self.handle.clone())
    }

    /// Runs a closure on a snapshot.
    pub fn read<T>(&self, read: impl FnOnce(&Snapshot) -> Result<T>) -> Result<T> {
        read(&self.begin_read()?)
    }

    /// Starts a write transaction, waiting until those before it have ended: forever, if this thread holds one.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Closed`], or [`Error::Poisoned`] if a sync has failed and the database must
    /// be reopened to write. The same for all that writes.
    pub fn begin_write(&self) -> Result<WriteTransaction> {
        self.handle.engine.check_open()?; // before the turn: a closing one waits for tasks that are woken
        let turn = self.handle.engine.turns.wait();
        WriteTransaction::new(self.handle.clone(), turn, self.durability)
    }

    /// Starts a write transaction without blocking the thread while others have their turn. Poll it until it is there, or
    /// drop it: left alone in line, it holds up those behind it. Calls that block, and tasks that are polled meanwhile, go past
    /// it after some milliseconds.
    pub async fn begin_write_async(&self) -> Result<WriteTransaction> {
        let engine = &self.handle.engine;
        engine.check_writable()?; // before the turn: a closing one waits for tasks that are woken
        if engine.settings.background && !engine.has_session() {
            // The first change would wait for the disk in the poll that makes it (`work`, invariant 2).
            let engine = engine.clone();
            Work::on_thread(move || engine.begin_session()).await?;
        }
        let turn = engine.turns.queue_up().await;
        WriteTransaction::new(self.handle.clone(), turn, self.durability)
    }

    /// Starts a write transaction if nobody else has one; `None` at once if somebody has.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// let first = db.begin_write()?;
    /// assert!(db.try_begin_write()?.is_none());
    /// first.roll_back();
    /// assert!(db.try_begin_write()?.is_some());
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`begin_write`](Self::begin_write).
    pub fn try_begin_write(&self) -> Result<Option<WriteTransaction>> {
        self.handle.engine.check_open()?; // before the turn: a closing one waits for tasks that are woken
        let turn = self.handle.engine.turns.take_if_free();
        turn.map(|turn| WriteTransaction::new(self.handle.clone(), turn, self.durability))
            .transpose()
    }

    /// Runs a closure in a write transaction and commits it; rolls it back if the closure fails. To roll back for a
    /// reason of the program's own, with an error of its own type, there is [`transact`](Self::transact).
    ///
    /// Within the closure, write through the transaction: a call of the database's own that writes waits for this
    /// transaction to end, forever.
    ///
    /// # Errors
    /// Those of the closure, of [`begin_write`](Self::begin_write), and of [`WriteTransaction::commit`].
    pub fn write<T>(&self, write: impl FnOnce(&mut WriteTransaction) -> Result<T>) -> Result<T> {
        let mut transaction = self.begin_write()?;
        let value = write(&mut transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Like [`write`](Self::write), for a closure with an error type of the program's own. The closure says which.
    ///
    /// ```
    /// use aurora::{Aurora, Error};
    ///
    /// #[derive(Debug)]
    /// enum Refused {
    ///     TooLittle(i64),
    ///     Database(Error),
    /// }
    ///
    /// impl From<Error> for Refused {
    ///     fn from(error: Error) -> Self {
    ///         Refused::Database(error)
    ///     }
    /// }
    ///
    /// fn pay(db: &Aurora, amount: i64) -> Result<i64, Refused> {
    ///     db.transact(|tx| {
    ///         let left = tx.increment("purse", -amount)?;
    ///         if left < 0 {
    ///             return Err(Refused::TooLittle(left + amount)); // nothing has changed
    ///         }
    ///         Ok(left)
    ///     })
    /// }
    ///
    /// let db = Aurora::in_memory()?;
    /// db.increment("purse", 10)?;
    /// assert!(matches!(pay(&db, 7), Ok(3)));
    /// assert!(matches!(pay(&db, 7), Err(Refused::TooLittle(3))));
    /// assert!(matches!(pay(&db, 3), Ok(0)));
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the closure, and those of [`write`](Self::write) as that type.
    pub fn transact<T, E: From<Error>>(
        &self,
        write: impl FnOnce(&mut WriteTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut transaction = self.begin_write()?;
        let value = write(&mut transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Like [`write`](Self::write), in two steps that can be awaited: first the turn, with the closure's value when it has
    /// run, then the commit. The next transaction can begin in between, and sees the changes
    /// ([`commit_async`](WriteTransaction::commit_async)).
    ///
    /// ```
    /// # fn main() -> aurora::Result<()> {
    /// # pollster::block_on(async {
    /// let db = aurora::Aurora::in_memory()?;
    /// let (visits, commit) = db.write_async(|tx| tx.increment("visits", 1)).await?;
    /// assert_eq!(visits, 1);
    /// commit.await?; // on the disk
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn write_async<'a, T: Send + 'a>(
        &self,
        write: impl FnOnce(&mut WriteTransaction) -> Result<T> + Send + 'a,
    ) -> Work<'a, (T, Commit)> {
        Work::submission(self.clone(), write)
    }

    /// A tree by name, for single operations that are transactions of their own. The tree is made
    /// by the first write to it.
    ///
    /// # Errors
    /// [`Error::Closed`] after [`close`](Self::close), [`Error::BadTreeName`] for a name that begins
    /// with `aurora/`: those are the database's own.
    pub fn tree(&self, name: impl AsRef<str>) -> Result<Tree> {
        self.handle.engine.check_open()?;
        let name = name.as_ref();
        check_not_system(name)?;
        Ok(Tree::new(self.clone(), name))
    }

    /// The names of all trees, in order.
    pub fn tree_names(&self) -> Result<Vec<String>> {
        self.read(|snapshot| Ok(snapshot.tree_names().map(str::to_string).collect()))
    }

    /// Removes a tree with all its entries. See [`WriteTransaction::drop_tree`].
    ///
    /// # Errors
    /// [`Error::TreeNotFound`] if there is none of that name.
    pub fn drop_tree(&self, name: impl AsRef<str>) -> Result<()> {
        self.write(|tx| tx.drop_tree(name))
    }

    /// Gives a tree another name. Handles with the old name find nothing from then on.
    ///
    /// # Errors
    /// [`Error::TreeNotFound`] if there is none, [`Error::BadTreeName`] if the new name is taken: also by the tree itself.
    pub fn rename_tree(&self, from: impl AsRef<str>, to: impl AsRef<str>) -> Result<()> {
        self.write(|tx| tx.rename_tree(from, to))
    }

    /// Makes everything durable and closes the database, whatever other handles there are: their
    /// calls get [`Error::Closed`] from then on. Snapshots that are held go on. The file stays locked until all of these
    /// are dropped, and [commits](Commit) that were to be waited for, too: opening it before that is [`Error::Locked`]. Waits
    /// for a running write transaction to end: forever, if this thread holds it.
    ///
    /// Dropping the last handle does the same, but cannot report errors.
    pub fn close(self) -> Result<()> {
        self.handle.close()
    }

    /// [`close`](Self::close), on a thread of its own if it is awaited. If it never is, the handle is only dropped.
    pub fn close_async(self) -> Work<'static, ()> {
        Work::on_thread(move || self.close())
    }
}
