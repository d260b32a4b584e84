//! Trees as users hold them: single operations, and entries one by one with a moment of their own.

use std::iter::FusedIterator;
use std::ops::RangeBounds;

use crate::Result;
use crate::db::Aurora;
use crate::moment::Moment;
use crate::txn::cursor::{Entry, Keys, Range, StepKeys, TreeCursor};
use crate::txn::snapshot::Snapshot;
use crate::txn::view::prefix_range;
use crate::walk::{Pick, Walk};

/// A named tree, for single operations. Each is a transaction of its own; to do several things at
/// once, use [`Aurora::write`]. To read a tree that nothing was ever written to is [`Error::TreeNotFound`](crate::Error::TreeNotFound).
#[derive(Debug, Clone)]
pub struct Tree {
    db: Aurora,
    name: String,
}

impl Tree {
    pub(crate) fn new(db: Aurora, name: &str) -> Self {
        let name = name.to_string();
        Tree { db, name }
    }

    /// The tree's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores a value, as durably as the handle's [`Durability`](crate::Durability) says. Says whether there was one already.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<bool> {
        self.db.write(|tx| tx.tree(&self.name)?.put(key, value))
    }

    /// Stores many entries, in any order, in one transaction. See [`TreeMut::put_many`](crate::TreeMut::put_many).
    pub fn put_many<K, V>(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<u64>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        self.db.write(|tx| tx.tree(&self.name)?.put_many(entries))
    }

    /// Removes a key. Says whether it was there.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.db.write(|tx| tx.tree(&self.name)?.delete(key))
    }

    /// Removes many keys, in any order, in one transaction. Returns how many were there.
    pub fn delete_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<u64> {
        self.db.write(|tx| tx.tree(&self.name)?.delete_many(keys))
    }

    /// Removes all entries and returns how many there were.
    pub fn clear(&self) -> Result<u64> {
        self.db.write(|tx| tx.tree(&self.name)?.clear())
    }

    /// Removes all keys of a range and returns how many there were.
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        self.db.write(|tx| tx.tree(&self.name)?.delete_range(range))
    }

    /// Removes all keys that begin with `prefix` and returns how many there were.
    pub fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<u64> {
        self.db
            .write(|tx| tx.tree(&self.name)?.delete_prefix(prefix))
    }

    /// The value of a key, as a copy. Without a copy: [`TreeView::get`](crate::TreeView::get).
    ///
    /// # Errors
    /// [`Error::TreeNotFound`](crate::Error::TreeNotFound) if nothing was ever written to the tree.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.db.read(|snapshot| {
            let value = snapshot.tree(&self.name)?.get(key)?;
            Ok(value.map(|value| value.to_vec()))
        })
    }

    /// The values of several keys at one moment, as copies: one for each key, in their order. See
    /// [`TreeView::get_many`](crate::TreeView::get_many).
    ///
    /// # Errors
    /// [`Error::TreeNotFound`](crate::Error::TreeNotFound) if nothing was ever written to the tree.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        self.db
            .read(|snapshot| snapshot.tree(&self.name)?.get_many(keys))
    }

    /// Whether the key is there.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.db
            .read(|snapshot| snapshot.tree(&self.name)?.contains(key))
    }

    /// The number of entries. O(1).
    pub fn len(&self) -> Result<u64> {
        self.db
            .read(|snapshot| Ok(snapshot.tree(&self.name)?.len()))
    }

    /// Whether there are no entries. O(1).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The number of entries in a range. O(log n).
    pub fn count<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        self.db
            .read(|snapshot| snapshot.tree(&self.name)?.count(range))
    }

    /// The entry with the lowest key.
    pub fn first(&self) -> Result<Option<Entry>> {
        self.db.read(|snapshot| snapshot.tree(&self.name)?.first())
    }

    /// The entry with the highest key.
    pub fn last(&self) -> Result<Option<Entry>> {
        self.db.read(|snapshot| snapshot.tree(&self.name)?.last())
    }

    /// The entries of a range, of this moment, from either end.
    ///
    /// # Errors
    /// [`Error::TreeNotFound`](crate::Error::TreeNotFound) if nothing was ever written to the tree.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<TreeScan> {
        self.db.begin_read()?.scan_tree(&self.name, range)
    }

    /// The entries whose keys begin with `prefix`, of this moment, from either end.
    ///
    /// # Errors
    /// [`Error::TreeNotFound`](crate::Error::TreeNotFound) if nothing was ever written to the tree.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Result<TreeScan> {
        self.range(prefix_range(prefix.as_ref()))
    }

    /// All entries, of this moment, from either end.
    ///
    /// # Errors
    /// [`Error::TreeNotFound`](crate::Error::TreeNotFound) if nothing was ever written to the tree.
    pub fn iter(&self) -> Result<TreeScan> {
        self.range::<&[u8]>(..)
    }

    /// Calls `visit` for each entry of a range, of one moment, until it answers `false`.
    pub fn for_each<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        mut visit: impl FnMut(Entry) -> bool,
    ) -> Result<()> {
        self.db.read(|snapshot| {
            let entries: Range<'_> = snapshot.tree(&self.name)?.range(range);
            for entry in entries {
                if !visit(entry?) {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// The entries of a range of a tree, as copies, in key order; `rev()` walks it backwards. Made by [`Tree::range`] and
/// [`Snapshot::scan_tree`].
///
/// It keeps its moment, and borrows nothing: it can be put into a struct, be sent to another thread, and be kept across an
/// `.await`. It holds some hundred entries of each end (256 KiB, or one that is longer), and goes down the tree again for the
/// next. What is borrowed from a snapshot ([`TreeView::range`](crate::TreeView::range)) holds one, and takes about half the time
/// (140 instead of 280 ns an entry of 174 bytes in memory).
///
/// Pages that it can see are kept for as long as it lives, as with a [`Snapshot`]. After an error it ends; what was fetched
/// together with it does not come any more, where a borrowed one gives all that lies before.
///
/// ```
/// use aurora::{Aurora, TreeScan};
///
/// /// What is left to do, whoever adds to it meanwhile.
/// struct Jobs(TreeScan);
///
/// impl Jobs {
///     fn next(&mut self) -> aurora::Result<Option<String>> {
///         let job = self.0.next().transpose()?;
///         Ok(job.map(|(_, name)| String::from_utf8_lossy(&name).into_owned()))
///     }
/// }
///
/// let db = Aurora::in_memory()?;
/// let tree = db.tree("jobs")?;
/// tree.put_many([("1", "sweep"), ("2", "mop")])?;
/// let mut jobs = Jobs(tree.iter()?);
/// tree.put("3", "rest")?;
/// let done = std::thread::spawn(move || {
///     let mut done = Vec::new();
///     while let Some(job) = jobs.next()? {
///         done.push(job);
///     }
///     aurora::Result::Ok(done)
/// });
/// assert_eq!(done.join().unwrap()?, ["sweep", "mop"]);
/// let last = tree.range("2"..)?.next_back().transpose()?;
/// assert_eq!(last, Some((b"3".to_vec(), b"rest".to_vec())));
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "iterators do nothing unless they are consumed"]
pub struct TreeScan(Walk<'static, Entries>);

#[derive(Debug)]
struct Entries {
    without_values: bool,
}

impl Pick for Entries {
    type Item = Vec<u8>;

    fn pick(
        &mut self,
        _: &impl Moment,
        cursor: &mut TreeCursor<'_>,
    ) -> Result<Option<(Vec<u8>, usize)>> {
        if self.without_values {
            return Ok(Some((Vec::new(), cursor.key().len())));
        }
        let value = cursor.value()?.to_vec();
        let bytes = value.len();
        Ok(Some((value, bytes)))
    }
}

impl TreeScan {
    /// The keys alone. Long values are not read.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// let films = db.tree("films")?;
    /// films.put_many([("alien", vec![0; 1_000_000]), ("brazil", vec![0; 2_000_000])])?;
    /// let last = films.iter()?.keys().next_back().transpose()?;
    /// assert_eq!(last, Some(b"brazil".to_vec()));
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn keys(mut self) -> Keys<Self> {
        self.0.pick.without_values = true;
        Keys(self)
    }
}

impl StepKeys for TreeScan {
    fn step_key(&mut self, backwards: bool) -> Result<Option<Vec<u8>>> {
        Ok(self.0.step(backwards)?.map(|(key, _)| key))
    }
}

impl Iterator for TreeScan {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step(false).transpose()
    }
}

impl DoubleEndedIterator for TreeScan {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.step(true).transpose()
    }
}

impl FusedIterator for TreeScan {}

impl Snapshot {
    /// The entries of a range of a tree, from either end, as an iterator that keeps this moment and borrows nothing. One that
    /// borrows it is [`TreeView::range`](crate::TreeView::range).
    ///
    /// # Errors
    /// [`Error::TreeNotFound`](crate::Error::TreeNotFound) if there was no such tree at this moment.
    pub fn scan_tree<K: AsRef<[u8]>>(
        &self,
        name: impl AsRef<str>,
        range: impl RangeBounds<K>,
    ) -> Result<TreeScan> {
        let name = name.as_ref();
        self.tree(name)?;
        let pick = Entries {
            without_values: false,
        };
        Ok(TreeScan(Walk::of_snapshot(self.clone(), name, range, pick)))
    }

    /// The entries of a tree whose keys begin with `prefix`, as [`scan_tree`](Self::scan_tree) gives them.
    ///
    /// # Errors
    /// [`Error::TreeNotFound`](crate::Error::TreeNotFound) if there was no such tree at this moment.
    pub fn scan_tree_prefix(
        &self,
        name: impl AsRef<str>,
        prefix: impl AsRef<[u8]>,
    ) -> Result<TreeScan> {
        self.scan_tree(name, prefix_range(prefix.as_ref()))
    }
}
