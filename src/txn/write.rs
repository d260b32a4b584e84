//! Write transactions: many changes, in many trees, that happen together or not at all.
//!
//! # Invariants
//!
//! 1. Every change goes through [`apply`] or, for many at once, through [`tree::change_many`], which tests
//!    compare with it. The replay of the log uses the same two, so the record and the trees cannot disagree.
//!    (But for an entry that is taken from an end: [`tree::delete_outermost`] removes what the key in the record would.)
//! 2. A change that failed half-way makes the transaction fail: it can roll back to a savepoint or
//!    be dropped, not committed.
//! 3. A transaction whose record outgrows the log's limit keeps none: it commits by checkpoint.
//! 4. What is in the record is something that a replay makes, and not damage to it: names and keys are as long as those
//!    can be, whatever a caller asks to remove.
//! 5. A savepoint is there until it is gone back behind, or until neither it nor one behind it is held any more, which the next
//!    one finds out, or the commit.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cursor::Entry;
use super::pages::{DIRECT_BYTES, Mark, TxnPages};
use super::snapshot::not_found;
use super::state::{MAX_NAME_BYTES, MAX_TREE, TreeId, Trees};
use super::tree_mut::{Pieces, TreeMut};
use super::turn::Turn;
use super::view::{Source, TreeView};
use crate::format::record::Operation;
use crate::format::{Fault, TreeRoot, node};
use crate::handle::Handle;
use crate::hot::Touched;
use crate::log::longest_payload;
use crate::moment::SYSTEM_PREFIX;
use crate::tree::{self, Change, End, pages::WritePages};
use crate::{Error, Result};

/// What `Ok` from a commit means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The commit is on the disk and survives a power cut. Commits of several threads share one
    /// write of the device.
    #[default]
    Full,
    /// The commit is visible to everyone at once, and is kept in this process's memory until it reaches the disk: with
    /// the next full commit, with [`Aurora::flush`](crate::Aurora::flush) or a close, when 256 KiB have gathered, or
    /// after about half a second (not with [`background(false)`](crate::Builder::background), where no thread looks
    /// after it). A crash, also of the process alone, loses at most a tail of such commits, never one of the middle
    /// and never a part of one.
    Buffered,
}

/// A point in a transaction to go back to. See [`WriteTransaction::savepoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Savepoint {
    id: u64,
    transaction: u64,
    /// Invariant 5.
    held: Arc<()>,
}

#[derive(Debug)]
struct Saved {
    id: u64,
    held: Arc<()>,
    mark: Mark,
    trees: Trees,
    record_bytes: usize,
}

/// The first changes of a transaction that go to several trees ask for the pages of all of them together, and after one
/// for which something was in no memory as many of the next ones: with all in memory, to look would only take time.
const APPROACHES: u8 = 8;

/// Write transactions begun in this process: an identity, nothing that behaviour depends on.
static TRANSACTIONS: AtomicU64 = AtomicU64::new(0);

/// Changes that become visible and durable together, or never.
///
/// There is one at a time; the others wait in turn, and none waits forever. It can be moved between threads. A thread
/// that holds one must not call what writes to the database by itself ([`Aurora::put`](crate::Aurora::put) and all
/// others that are transactions of their own): that would wait for this one to end, forever. The same goes for a task
/// that holds one across an `.await`, if other tasks of its executor make such calls.
/// Dropping it rolls everything back. After a panic in code that was called from within a change (an iterator, a source, a
/// closure) it can only be rolled back, as a whole or to a savepoint.
#[must_use = "dropping it rolls back; `commit` keeps what it has done"]
pub struct WriteTransaction {
    // Dropped in this order: the pages give their places back before the turn goes on.
    pub(super) pages: TxnPages,
    pub(super) trees: Trees,
    /// Tells this transaction's savepoints from those of others.
    number: u64,
    pub(super) record: Vec<u8>,
    /// Invariant 3.
    pub(super) by_checkpoint: bool,
    failed: bool,
    saved: Vec<Saved>,
    next_savepoint: u64,
    pub(super) durability: Durability,
    begun_ms: u64,
    /// What the hot tier must not answer with any more once this is published.
    pub(crate) touched: Touched,
    /// For so many changes more the pages of all their trees are asked for together.
    approaches: u8,
    turn: Turn,
    pub(super) handle: Arc<Handle>,
}

/// Without the changes and what they hold.
impl fmt::Debug for WriteTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteTransaction")
            .field("durability", &self.durability)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl WriteTransaction {
    pub(crate) fn new(handle: Arc<Handle>, turn: Turn, durability: Durability) -> Result<Self> {
        let engine = handle.engine.clone();
        engine.check_writable()?;
        let (base, version) = engine.next_version();
        let number = TRANSACTIONS.fetch_add(1, Ordering::Relaxed);
        let record = engine.take_record();
        Ok(WriteTransaction {
            pages: TxnPages::new(engine, version, true),
            trees: base.trees.clone(),
            number,
            record,
            by_checkpoint: false,
            failed: false,
            saved: Vec::new(),
            next_savepoint: 0,
            durability,
            begun_ms: handle.clock.now_ms(),
            touched: Touched::default(),
            approaches: APPROACHES,
            turn,
            handle,
        })
    }

    /// Undoes everything, as dropping it does.
    pub fn roll_back(self) {}

    /// What the commit of this transaction promises. Starts as what the handle that began it promises.
    pub fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    /// Whether others wait for this transaction to end, to begin theirs.
    pub(crate) fn is_awaited(&self) -> bool {
        self.handle.engine.turns.is_awaited()
    }

    /// Keeps no record: the commit will be a checkpoint. For what is sure to be large.
    pub(crate) fn commit_by_checkpoint(&mut self) {
        self.by_checkpoint = true;
        self.record = Vec::new();
        self.pages.write_ahead();
    }

    /// The tree of that name, which is made if there is none.
    ///
    /// # Errors
    /// [`Error::BadTreeName`] for a name that is empty or longer than 255 bytes.
    pub fn tree(&mut self, name: impl AsRef<str>) -> Result<TreeMut<'_>> {
        let name = name.as_ref();
        check_not_system(name)?;
        self.system_tree(name)
    }

    /// A tree of any name, the database's own included.
    pub(crate) fn system_tree(&mut self, name: &str) -> Result<TreeMut<'_>> {
        let id = match self.trees.id(name) {
            Some(id) => id,
            None => self.create(name)?,
        };
        Ok(TreeMut { txn: self, id })
    }

    /// The tree of that name, to read.
    ///
    /// # Errors
    /// [`Error::TreeNotFound`] if there is none.
    pub fn view(&self, name: impl AsRef<str>) -> Result<TreeView<'_>> {
        let name = name.as_ref();
        check_not_system(name)?;
        self.find(name).ok_or_else(|| not_found(name))
    }

    pub(crate) fn find(&self, name: &str) -> Option<TreeView<'_>> {
        Some(self.view_of(self.trees.id(name)?))
    }

    pub(crate) fn begun_ms(&self) -> u64 {
        self.begun_ms
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(super) fn view_of(&self, id: TreeId) -> TreeView<'_> {
        TreeView {
            source: Source::Private(&self.pages),
            root: self.trees.root(id),
        }
    }

    /// The names of all trees, in order.
    pub fn tree_names(&self) -> impl Iterator<Item = &str> {
        let names = self.trees.names().map(|(name, _)| name);
        names.filter(|name| !name.starts_with(SYSTEM_PREFIX))
    }

    /// The names of all trees, the database's own included.
    #[cfg(feature = "inspect")]
    pub(crate) fn all_names(&self) -> Vec<String> {
        self.trees
            .names()
            .map(|(name, _)| name.to_string())
            .collect()
    }

    fn create(&mut self, name: &str) -> Result<TreeId> {
        check_name(name)?;
        let tree = self.trees.vacant_id();
        if tree > MAX_TREE {
            return Err(Error::BadTreeName {
                name: name.to_string(),
                reason: "there are 16,777,216 trees, and there cannot be more: drop one first",
            });
        }
        let name = name.as_bytes();
        self.change(&Operation::CreateTree { tree, name })?;
        Ok(tree)
    }

    /// Removes a tree with all its entries. Costs a visit to each of its pages.
    ///
    /// # Errors
    /// [`Error::TreeNotFound`] if there is none of that name.
    pub fn drop_tree(&mut self, name: impl AsRef<str>) -> Result<()> {
        let name = name.as_ref();
        check_not_system(name)?;
        self.drop_system_tree(name)
    }

    pub(crate) fn drop_system_tree(&mut self, name: &str) -> Result<()> {
        let tree = self.trees.id(name).ok_or_else(|| not_found(name))?;
        self.change(&Operation::DropTree { tree }).map(|_| ())
    }

    /// Gives a tree another name.
    ///
    /// # Errors
    /// [`Error::TreeNotFound`] if there is none, [`Error::BadTreeName`] if the new name is taken: also by the tree itself.
    pub fn rename_tree(&mut self, from: impl AsRef<str>, to: impl AsRef<str>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        check_not_system(from)?;
        check_not_system(to)?;
        let tree = self.trees.id(from).ok_or_else(|| not_found(from))?;
        check_name(to)?;
        if self.trees.id(to).is_some() {
            return Err(Error::BadTreeName {
                name: to.to_string(),
                reason: "another tree has it",
            });
        }
        let name = to.as_bytes();
        self.change(&Operation::RenameTree { tree, name })
            .map(|_| ())
    }

    /// Remembers this point. [`roll_back_to`](Self::roll_back_to) undoes what comes after it.
    /// Costs nothing now; pages that are changed later are copied once more. Pages from before it stay in memory, whatever
    /// the [memory limit](crate::Builder::memory_limit), and keep their places in the file, for as long as it is held: drop it
    /// where nothing is to be undone any more. (The next savepoint looks whether those before it were dropped, the newest
    /// first, as far as they were.)
    ///
    /// ```
    /// let db = aurora::Aurora::in_memory()?;
    /// db.write(|tx| {
    ///     for row in ["1", "two", "3"] {
    ///         let savepoint = tx.savepoint()?; // dropped when the row is done
    ///         tx.increment("rows", 1)?;
    ///         tx.put("last", row, None)?;
    ///         if row.parse::<u32>().is_err() {
    ///             tx.roll_back_to(&savepoint)?;
    ///         }
    ///     }
    ///     Ok(())
    /// })?;
    /// assert_eq!(db.get("rows")?.as_deref(), Some(&b"2"[..]));
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn savepoint(&mut self) -> Result<Savepoint> {
        self.check_usable()?;
        self.release_dropped();
        let id = self.next_savepoint;
        self.next_savepoint += 1;
        let held = Arc::new(());
        self.saved.push(Saved {
            id,
            held: held.clone(),
            mark: self.pages.savepoint(),
            trees: self.trees.clone(),
            record_bytes: self.record.len(),
        });
        Ok(Savepoint {
            id,
            transaction: self.number,
            held,
        })
    }

    /// Undoes everything since the savepoint, which stays and can be rolled back to again. Later
    /// savepoints are gone. Also mends a transaction in which an operation failed.
    ///
    /// # Errors
    /// [`Error::UnknownSavepoint`] if it is another transaction's, or was itself undone.
    pub fn roll_back_to(&mut self, savepoint: &Savepoint) -> Result<()> {
        // Their numbers ascend.
        let found = { &self.saved }.binary_search_by_key(&savepoint.id, |saved| saved.id);
        let index = found
            .ok()
            .filter(|_| savepoint.transaction == self.number)
            .ok_or(Error::UnknownSavepoint)?;
        self.saved.truncate(index + 1);
        if let Some(saved) = self.saved.last() {
            if let Err(error) = self.pages.roll_back_to(&saved.mark) {
                let event = move || tracing::debug!(%error, "pages could not be written ahead");
                self.turn.tell_later(event);
            }
            self.trees = saved.trees.clone();
            self.record.truncate(saved.record_bytes);
            self.failed = false;
        }
        Ok(())
    }

    /// Invariant 5.
    fn release_dropped(&mut self) {
        let before = self.saved.len();
        while let Some(last) =
            { &mut self.saved }.pop_if(|saved| Arc::strong_count(&saved.held) == 1)
        {
            self.pages.release(&last.mark);
        }
        if self.saved.len() < before
            && let Err(error) = self.pages.spill_released()
        {
            let event = move || tracing::debug!(%error, "pages could not be written early");
            self.turn.tell_later(event);
        }
    }

    /// There is no going back any more (invariant 5).
    pub(super) fn release_savepoints(&mut self) {
        if let Some(first) = self.saved.first() {
            self.pages.release(&first.mark);
            self.saved.clear();
        }
    }

    /// Changes that belong together: if one of them fails, for whatever reason, the transaction
    /// does (invariant 2).
    pub(crate) fn together<T>(&mut self, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let changed = self.watched(change);
        self.failed |= changed.is_err();
        changed
    }

    /// Says where entries of several trees are going to be changed, so that the device reads for all of them at once. Only
    /// a hint: what cannot be read is met by the change itself.
    pub(crate) fn approach<'k>(&mut self, places: impl Iterator<Item = (&'k str, &'k [u8])>) {
        let Some(left) = self.approaches.checked_sub(1) else {
            return;
        };
        let trees = &self.trees;
        let places = places.filter_map(|(name, key)| Some((trees.root(trees.id(name)?), key)));
        let was_far = tree::approach(&self.pages, places);
        self.approaches = match was_far {
            Ok(true) => APPROACHES,
            _ => left,
        };
    }

    /// A change in the middle of which code of the user's is called: after a panic there it is half made, and the
    /// transaction fails.
    pub(crate) fn watched<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        match catch_unwind(AssertUnwindSafe(|| change(self))) {
            Ok(value) => value,
            Err(panic) => {
                self.failed = true;
                resume_unwind(panic)
            }
        }
    }

    /// Tells an event when the transaction has ended (`events`, invariant 2).
    pub(crate) fn tell_later(&mut self, event: impl FnOnce() + Send + Sync + 'static) {
        self.turn.tell_later(event);
    }

    /// Whether a change failed half-way (invariant 2).
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// How long a key can be, in bytes.
    pub(super) fn longest_key(&self) -> usize {
        node::max_key_bytes(self.handle.engine.pager.page_size())
    }

    pub(super) fn check_usable(&self) -> Result<()> {
        if self.failed {
            return Err(Error::TransactionFailed);
        }
        self.handle.engine.check_origin()
    }

    /// The same for changes: what the first one does may be written at once.
    pub(super) fn check_changeable(&self) -> Result<()> {
        self.check_usable()?;
        self.handle.engine.begin_session()
    }

    /// Invariants 1 and 2.
    pub(super) fn change(&mut self, operation: &Operation<'_>) -> Result<u64> {
        self.check_changeable()?;
        match apply(&mut self.pages, &mut self.trees, operation) {
            Ok(affected) => {
                self.note(operation);
                Ok(affected)
            }
            Err(error) => {
                // A wrong argument is found before anything changes.
                self.failed |= !error.is_misuse();
                Err(error)
            }
        }
    }

    /// Makes changes whose keys ascend, and whose values fit beside them in a leaf (invariants 1
    /// and 2).
    pub(super) fn change_many(&mut self, tree: TreeId, changes: &[Change<'_>]) -> Result<u64> {
        let many = |pages: &mut _, root: &mut _| tree::change_many(pages, root, changes);
        let changed = edit(&mut self.pages, &mut self.trees, tree, many);
        self.failed |= changed.is_err();
        let affected = changed?;
        for &Change { key, value } in changes {
            self.note(&match value {
                Some(value) => Operation::Put { tree, key, value },
                None => Operation::Delete { tree, key },
            });
        }
        Ok(affected)
    }

    /// Adds the operation to the record, until the record is too long (invariant 3).
    fn note(&mut self, operation: &Operation<'_>) {
        if self.by_checkpoint {
            return;
        }
        operation.encode(&mut self.record);
        let limit = longest_payload(self.handle.engine.settings.log_limit_bytes);
        if self.record.len() as u64 > limit {
            self.commit_by_checkpoint();
        }
    }

    pub(super) fn put_in(&mut self, id: TreeId, key: &[u8], value: &[u8]) -> Result<bool> {
        self.check_changeable()?;
        let page_size = self.handle.engine.pager.page_size();
        let is_long =
            value.len() >= DIRECT_BYTES && !node::is_inline(page_size, key.len(), value.len());
        if !is_long {
            let operation = Operation::Put {
                tree: id,
                key,
                value,
            };
            return self.change(&operation).map(|replaced| replaced > 0);
        }
        tree::check_entry(page_size, key, value.len())?;
        // Written to its place now, with the record holding only where that is.
        let run = match self.pages.allocate_run(value) {
            Ok(run) => run,
            Err(error) => {
                self.failed = true;
                return Err(error);
            }
        };
        let operation = Operation::PutRun { tree: id, key, run };
        self.change(&operation).map(|replaced| replaced > 0)
    }

    /// Long values that belong together, under the keys that `key` makes of their places in the order.
    pub(super) fn put_pieces_in(
        &mut self,
        id: TreeId,
        pieces: &Pieces<'_>,
        key: &dyn Fn(u32) -> [u8; 12],
    ) -> Result<()> {
        self.check_changeable()?;
        let page_size = self.handle.engine.pager.page_size();
        let long = match pieces.each.is_multiple_of(page_size as usize) {
            true => pieces.long(page_size),
            false => 0,
        };
        let (direct, rest) = pieces.bytes.split_at(long);
        let mut place = 0;
        self.together(|tx| {
            if !direct.is_empty() {
                let direct = Pieces {
                    bytes: direct,
                    ..*pieces
                };
                for run in tx.pages.allocate_pieces(&direct)? {
                    let key = &key(place);
                    tx.change(&Operation::PutRun { tree: id, key, run })?;
                    place += 1;
                }
            }
            for piece in rest.chunks(pieces.each) {
                tx.put_in(id, &key(place), piece)?;
                place += 1;
            }
            Ok(())
        })
    }

    /// No entry has a key that is longer than keys can be, and for a replay it would be damage (invariant 4).
    pub(super) fn delete_in(&mut self, tree: TreeId, key: &[u8]) -> Result<bool> {
        self.check_changeable()?;
        if key.len() > self.longest_key() {
            return Ok(false);
        }
        let operation = Operation::Delete { tree, key };
        self.change(&operation).map(|removed| removed > 0)
    }

    /// Removes the entry at an end, which is read before anything changes.
    pub(super) fn pop_in(&mut self, tree: TreeId, end: End) -> Result<Option<Entry>> {
        self.check_changeable()?;
        let Some((key, value)) = self.view_of(tree).outermost(end)? else {
            return Ok(None);
        };
        let remove =
            |pages: &mut _, root: &mut _| tree::delete_outermost(pages, root, end).map(u64::from);
        let removed = edit(&mut self.pages, &mut self.trees, tree, remove);
        self.failed |= removed.is_err();
        removed?;
        self.note(&Operation::Delete { tree, key: &key });
        Ok(Some((key, value)))
    }
}

/// Refuses the names of the database's own trees.
pub(crate) fn check_not_system(name: &str) -> Result<()> {
    if name.starts_with(SYSTEM_PREFIX) {
        return Err(Error::BadTreeName {
            name: name.to_string(),
            reason: "names that begin with `aurora/` are the database's own",
        });
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME_BYTES {
        "it is longer than 255 bytes"
    } else {
        return Ok(());
    };
    Err(Error::BadTreeName {
        name: name.to_string(),
        reason,
    })
}

/// Applies one operation. Returns how many entries were replaced or removed.
pub(super) fn apply(
    pages: &mut TxnPages,
    trees: &mut Trees,
    operation: &Operation<'_>,
) -> Result<u64> {
    match *operation {
        Operation::Put { tree, key, value } => edit(pages, trees, tree, |pages, root| {
            tree::put(pages, root, key, value).map(u64::from)
        }),
        Operation::PutRun { tree, key, run } => edit(pages, trees, tree, |pages, root| {
            tree::put_run(pages, root, key, run).map(u64::from)
        }),
        Operation::Delete { tree, key } => edit(pages, trees, tree, |pages, root| {
            tree::delete(pages, root, key).map(u64::from)
        }),
        Operation::DeleteRange { tree, lower, upper } => edit(pages, trees, tree, |pages, root| {
            tree::delete_range(pages, root, lower, upper)
        }),
        Operation::CreateTree { tree, name } => {
            trees.insert(as_name(pages, name)?, tree, TreeRoot::default());
            Ok(0)
        }
        Operation::DropTree { tree } => {
            let removed = edit(pages, trees, tree, |pages, root| {
                let count = root.count;
                tree::drop_tree(pages, root).map(|()| count)
            })?;
            trees.remove(tree);
            Ok(removed)
        }
        Operation::RenameTree { tree, name } => {
            trees.rename(tree, as_name(pages, name)?);
            Ok(0)
        }
    }
}

pub(super) fn edit(
    pages: &mut TxnPages,
    trees: &mut Trees,
    id: TreeId,
    change: impl FnOnce(&mut TxnPages, &mut TreeRoot) -> Result<u64>,
) -> Result<u64> {
    let mut root = trees.root(id);
    let affected = change(pages, &mut root)?;
    trees.set_root(id, root);
    Ok(affected)
}

/// Names are checked when they are given; in the log only a forged record holds anything else.
fn as_name<'n>(pages: &TxnPages, name: &'n [u8]) -> Result<&'n str> {
    std::str::from_utf8(name).map_err(|error| {
        let fault = Fault::new(
            "the name of a tree in the log is not UTF-8",
            0,
            name.len() as u64,
            error.valid_up_to() as u64,
        );
        pages.engine().pager.corrupt(0, fault)
    })
}
