//! The calls for keys: on a database, each a transaction of its own; in a write transaction; and,
//! to read, on a snapshot.

use std::ops::RangeBounds;
use std::time::Duration;

use super::{
    Batch, DataInfo, KeyScan, Scan, Swap, Target, Ttl, change, expiry, listing, read, store,
};
use crate::Result;
use crate::db::Aurora;
use crate::hot::{self, Hot, SharedBytes};
use crate::moment::Moment;
use crate::txn::snapshot::Snapshot;
use crate::txn::view::prefix_range;
use crate::txn::write::WriteTransaction;
use crate::walk::bounds_of;
use crate::work::Work;

/// Reading keys.
macro_rules! reads {
    ($of:ty) => {
        impl $of {
            /// The value of a key, unless it has expired.
            ///
            /// # Errors
            /// [`Error::WrongKind`](crate::Error::WrongKind) if there is a blob under the key.
            pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<SharedBytes>> {
                read::get(self, key.as_ref())
            }

            /// The values of several keys, one for each, in their order. See
            /// [`Aurora::get_many`](crate::Aurora::get_many).
            ///
            /// # Errors
            /// [`Error::WrongKind`](crate::Error::WrongKind) if there is a blob under one of them.
            pub fn get_many<K: AsRef<[u8]>>(
                &self,
                keys: impl IntoIterator<Item = K>,
            ) -> Result<Vec<Option<SharedBytes>>> {
                read::get_many(self, keys)
            }

            /// Whether there is a value or a blob under the key that has not expired.
            pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
                read::contains(self, key.as_ref())
            }

            /// How long the key has to live, seen from this moment.
            pub fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Ttl> {
                read::ttl(self, key.as_ref())
            }

            /// What is under the keys that begin with `prefix`, in short.
            pub fn get_data_by_pattern(
                &self,
                prefix: impl AsRef<[u8]>,
            ) -> Result<Vec<(String, DataInfo)>> {
                listing::list(self, prefix.as_ref())
            }
        }
    };
}

reads!(Snapshot);
reads!(WriteTransaction);

impl Snapshot {
    /// The values of a range of keys, from either end. Keeps this moment for as long as it lives.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan<'static> {
        Scan::of_snapshot(self.clone(), range)
    }

    /// The values of the keys that begin with `prefix`, from either end. Keeps this moment for as
    /// long as it lives.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan<'static> {
        self.scan(prefix_range(prefix.as_ref()))
    }

    /// The keys of a range alone, of values and of blobs, from either end. Keeps this moment for as long as it lives.
    pub fn scan_keys<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> KeyScan<'static> {
        KeyScan::of_snapshot(self.clone(), range)
    }

    /// The keys that begin with `prefix` alone, of values and of blobs, from either end. Keeps this moment for as long as it
    /// lives.
    pub fn scan_keys_prefix(&self, prefix: impl AsRef<[u8]>) -> KeyScan<'static> {
        self.scan_keys(prefix_range(prefix.as_ref()))
    }
}

/// Keys in a transaction. Its time stands still: what expires is what had expired when it began,
/// and times to live count from then.
impl WriteTransaction {
    /// Stores a value under a key, in the place of whatever was there. It lives for `ttl`, or,
    /// without one, until it is removed.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`](crate::Error::KeyTooLong) above a quarter of the page size less 9
    /// bytes, [`Error::ValueTooLong`](crate::Error::ValueTooLong) above 4 GiB; nothing has changed
    /// then.
    pub fn put(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Option<Duration>,
    ) -> Result<()> {
        change::put(self, key.as_ref(), value.as_ref(), ttl)
    }

    /// Removes a key with the value or the blob under it, or the document of an id. Says whether it was there.
    ///
    /// ```
    /// # use aurora::{Aurora, Schema};
    /// let db = Aurora::in_memory()?;
    /// db.new_collection("books", Schema::schemaless())?;
    /// let id = db.insert_into("books", [("title", "Dune")])?;
    /// db.put("books:last", "Dune", None)?;
    /// db.write(|tx| {
    ///     assert!(tx.delete(&id)?);
    ///     assert!(tx.delete("books:last")?);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// Of a document, [`Error::CollectionNotFound`](crate::Error::CollectionNotFound) if there is no such collection.
    pub fn delete(&mut self, target: impl Into<Target>) -> Result<bool> {
        target.into().delete(self)
    }

    /// Removes all keys of a range, with the values and blobs under them, and returns how many there were.
    pub fn delete_range<K: AsRef<[u8]>>(&mut self, range: impl RangeBounds<K>) -> Result<u64> {
        change::delete_range(self, bounds_of(range))
    }

    /// Removes all keys that begin with `prefix`, with the values and blobs under them, and returns how many there were.
    pub fn delete_prefix(&mut self, prefix: impl AsRef<[u8]>) -> Result<u64> {
        self.delete_range(prefix_range(prefix.as_ref()))
    }

    /// Gives the value or the blob of a key another key, as [`Aurora::rename`] does. Says whether it was there.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`](crate::Error::KeyTooLong), as for [`put`](Self::put); nothing has changed then.
    pub fn rename(&mut self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<bool> {
        store::move_record(self, from.as_ref(), to.as_ref())
    }

    /// Gives a key another time to live, from now on. Says whether it is there. A value is written again.
    pub fn expire(&mut self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<bool> {
        let expiry_ms = expiry::after(self.now_ms(), ttl);
        Ok(change::set_expiry(self, key.as_ref(), expiry_ms)?.is_some())
    }

    /// Lets a key live until it is removed. Says whether it is there and would have expired.
    pub fn persist(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        let old = change::set_expiry(self, key.as_ref(), None)?;
        Ok(old.is_some_and(|old| old.expiry_ms.is_some()))
    }

    /// Stores `new` if the key holds `expected`. `None` stands for a missing key: it is what a new
    /// key is expected to hold, and what removes one. A key that is there keeps its expiry, and a new one has none:
    /// [`compare_and_put`](Self::compare_and_put) gives it one.
    ///
    /// # Errors
    /// [`Error::WrongKind`](crate::Error::WrongKind) if there is a blob under the key.
    pub fn compare_and_swap(
        &mut self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Swap> {
        change::compare_and_swap(self, key.as_ref(), expected, new)
    }

    /// Like [`put`](Self::put), if the key holds `expected`. See [`Aurora::compare_and_put`].
    ///
    /// # Errors
    /// Those of [`put`](Self::put), and [`Error::WrongKind`](crate::Error::WrongKind) if there is a blob under the key.
    pub fn compare_and_put(
        &mut self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Option<Duration>,
    ) -> Result<Swap> {
        change::compare_and_put(self, key.as_ref(), expected, value.as_ref(), ttl)
    }

    /// Adds to a number that is stored as decimal text, and returns the sum. A missing key counts
    /// as 0; one that is there keeps its expiry.
    ///
    /// # Errors
    /// [`Error::NotANumber`](crate::Error::NotANumber) if the value is not a whole number or the
    /// sum does not fit 64 bits, [`Error::WrongKind`](crate::Error::WrongKind) if there is a blob
    /// under the key.
    pub fn increment(&mut self, key: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        change::increment(self, key.as_ref(), by)
    }

    /// Replaces a value by what `change` makes of it, and returns that. `None` stands for a
    /// missing key. A key that is there keeps its expiry.
    ///
    /// # Errors
    /// [`Error::WrongKind`](crate::Error::WrongKind) if there is a blob under the key.
    pub fn merge(
        &mut self,
        key: impl AsRef<[u8]>,
        change: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<SharedBytes>> {
        change::merge(self, key.as_ref(), change)
    }

    /// Makes the changes of a batch. If one has a wrong argument, none is made.
    pub fn apply(&mut self, batch: Batch) -> Result<()> {
        change::apply(self, &batch)
    }

    /// Removes at most `limit` of what has expired, and returns how many there were.
    pub fn sweep(&mut self, limit: usize) -> Result<usize> {
        expiry::sweep(self, limit)
    }

    /// The values of a range of keys, from either end.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan<'_> {
        Scan::of_transaction(self, range)
    }

    /// The values of the keys that begin with `prefix`, from either end.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan<'_> {
        self.scan(prefix_range(prefix.as_ref()))
    }

    /// The keys of a range alone, of values and of blobs, from either end.
    pub fn scan_keys<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> KeyScan<'_> {
        KeyScan::of_transaction(self, range)
    }

    /// The keys that begin with `prefix` alone, of values and of blobs, from either end.
    pub fn scan_keys_prefix(&self, prefix: impl AsRef<[u8]>) -> KeyScan<'_> {
        self.scan_keys(prefix_range(prefix.as_ref()))
    }
}

/// Values under keys. Each change is a transaction of its own; to make several together, use
/// [`apply`](Self::apply), or the same calls in [`write`](Self::write).
///
/// ```
/// use std::time::Duration;
/// use aurora::{Aurora, Ttl};
///
/// let db = Aurora::in_memory()?;
/// db.put("user:1".to_string(), b"John Doe".to_vec(), None)?;
/// db.put("session:7", "of user 1", Some(Duration::from_secs(3600)))?;
///
/// if let Some(value) = db.get("user:1")? {
///     println!("{}", String::from_utf8_lossy(&value));
/// }
/// assert!(matches!(db.ttl("session:7")?, Ttl::After(_)));
/// assert!(db.delete("user:1").wait()?); // or `.await?`
/// assert_eq!(db.get("user:1")?, None);
/// # Ok::<(), aurora::Error>(())
/// ```
impl Aurora {
    /// Stores a value under a key, in the place of whatever was there. It lives for `ttl`, or,
    /// without one, until it is removed: an expired key is gone for every reader from that moment
    /// on, also after the database was closed, or has crashed. (Only if the clock is set back between a crash and the
    /// next open can one be there again, that expired since the last sweep.) A `ttl` of zero expires at once.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`](crate::Error::KeyTooLong) above a quarter of the page size less 9
    /// bytes, [`Error::ValueTooLong`](crate::Error::ValueTooLong) above 4 GiB.
    pub fn put(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Option<Duration>,
    ) -> Result<()> {
        self.write(|tx| tx.put(key, value, ttl))
    }

    /// The value of a key, unless it has expired.
    ///
    /// # Errors
    /// [`Error::WrongKind`](crate::Error::WrongKind) if there is a blob under the key.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<SharedBytes>> {
        let key = key.as_ref();
        let found = hot::read_through(&self.handle, hot::KEYS, key, |snapshot| {
            let value = read::get_with_key(snapshot, key)?;
            Ok(value.map(Hot::Value))
        })?;
        Ok(match found {
            Some(Hot::Value(value)) => Some(value),
            _ => None,
        })
    }

    /// The values of several keys at one moment: one for each key, in the order of the keys, which may be any; `None`
    /// for one that is not there or has expired.
    ///
    /// Looks for some of them at once, and asks the device for many together where they are not in memory. It goes
    /// past the hot tier: what is read as a whole seldom is what is read often.
    ///
    /// ```
    /// # let db = aurora::Aurora::in_memory()?;
    /// db.put("a", "1", None)?;
    /// db.put("b", "2", None)?;
    /// let found = db.get_many(["b", "c", "a"])?;
    /// let found: Vec<Option<&[u8]>> = found.iter().map(Option::as_deref).collect();
    /// assert_eq!(found, [Some(&b"2"[..]), None, Some(&b"1"[..])]);
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::WrongKind`](crate::Error::WrongKind) if there is a blob under one of them.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<SharedBytes>>> {
        self.read(|snapshot| snapshot.get_many(keys))
    }

    /// Deletes a key with the value or the blob under it, or the document of an id. Says whether it was there.
    ///
    /// # Errors
    /// Of a document, [`Error::CollectionNotFound`](crate::Error::CollectionNotFound) if there is no such collection.
    pub fn delete(&self, target: impl Into<Target>) -> Work<'static, bool> {
        let target = target.into();
        Work::transaction(self.clone(), move |tx| target.delete(tx))
    }

    /// Deletes all keys of a range, with the values and blobs under them, in one transaction. Returns how many there were.
    /// Looks at each of them; [`Tree::delete_range`](crate::Tree::delete_range) does not.
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        self.write(|tx| tx.delete_range(range))
    }

    /// Deletes all keys that begin with `prefix`, with the values and blobs under them, in one transaction. Returns how many
    /// there were.
    ///
    /// ```
    /// let db = aurora::Aurora::in_memory()?;
    /// for key in ["session:1", "session:2", "user:1"] {
    ///     db.put(key, "value", None)?;
    /// }
    /// assert_eq!(db.delete_prefix("session:")?, 2);
    /// assert!(db.contains("user:1")?);
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<u64> {
        self.write(|tx| tx.delete_prefix(prefix))
    }

    /// Gives the value or the blob of a key another key, with its time to live. Whatever was under that one is replaced. A value
    /// is written again; of a blob only the record moves, whatever its size. Says whether there was anything under `from`.
    ///
    /// ```
    /// let db = aurora::Aurora::in_memory()?;
    /// db.put_blob_from("inbox/report", &b"all is well"[..])?;
    /// assert!(db.rename("inbox/report", "archive/report")?);
    /// assert_eq!(db.blob_info("archive/report")?.unwrap().size, 11);
    /// assert!(!db.contains("inbox/report")?);
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::KeyTooLong`](crate::Error::KeyTooLong), as for [`put`](Self::put).
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<bool> {
        self.write(|tx| tx.rename(from, to))
    }

    /// Whether there is a value or a blob under the key that has not expired. Whether it has is stored with it: a long value is
    /// read for that, if nobody has read it before.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.read(|snapshot| snapshot.contains(key))
    }

    /// Gives a key another time to live, from now on. Says whether it is there. A value is written again, however long, as its
    /// time is stored with it; a blob is not.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let db = aurora::Aurora::in_memory()?;
    /// db.put("key", "value", None)?;
    /// assert!(db.expire("key", Duration::ZERO)?);
    /// assert_eq!(db.get("key")?, None);
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn expire(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<bool> {
        self.write(|tx| tx.expire(key, ttl))
    }

    /// Lets a key live until it is removed. Says whether it is there and would have expired.
    pub fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.write(|tx| tx.persist(key))
    }

    /// How long the key has to live.
    pub fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Ttl> {
        self.read(|snapshot| snapshot.ttl(key))
    }

    /// Stores `new` if the key holds `expected`. `None` stands for a missing key: it is what a new
    /// key is expected to hold, and what removes one. A key that is there keeps its expiry, and a new one has none:
    /// [`compare_and_put`](Self::compare_and_put) gives it one.
    ///
    /// ```
    /// let db = aurora::Aurora::in_memory()?;
    /// assert!(db.compare_and_swap("lock", None, Some(b"me"))?.is_done());
    /// assert!(!db.compare_and_swap("lock", None, Some(b"you"))?.is_done());
    /// assert!(db.compare_and_swap("lock", Some(b"me"), None)?.is_done());
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::WrongKind`](crate::Error::WrongKind) if there is a blob under the key.
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Swap> {
        self.write(|tx| tx.compare_and_swap(key, expected, new))
    }

    /// Like [`put`](Self::put), if the key holds `expected`; `None` stands for a missing key. The value lives for `ttl`, or,
    /// without one, until it is removed, whatever the key's expiry was: [`compare_and_swap`](Self::compare_and_swap) keeps that.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let db = aurora::Aurora::in_memory()?;
    /// let lease = Some(Duration::from_secs(30));
    /// // Who dies with it holds it for half a minute; who lives renews it.
    /// assert!(db.compare_and_put("lock", None, "me", lease)?.is_done());
    /// assert!(!db.compare_and_put("lock", None, "you", lease)?.is_done());
    /// assert!(db.compare_and_put("lock", Some(b"me"), "me", lease)?.is_done());
    /// assert!(db.compare_and_swap("lock", Some(b"me"), None)?.is_done());
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`put`](Self::put), and [`Error::WrongKind`](crate::Error::WrongKind) if there is a blob under the key.
    pub fn compare_and_put(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Option<Duration>,
    ) -> Result<Swap> {
        self.write(|tx| tx.compare_and_put(key, expected, value, ttl))
    }

    /// Adds to a number that is stored as decimal text, and returns the sum. A missing key counts
    /// as 0; one that is there keeps its expiry.
    ///
    /// ```
    /// let db = aurora::Aurora::in_memory()?;
    /// assert_eq!(db.increment("visits", 1)?, 1);
    /// assert_eq!(db.increment("visits", 41)?, 42);
    /// assert_eq!(db.get("visits")?.as_deref(), Some(&b"42"[..]));
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotANumber`](crate::Error::NotANumber) if the value is not a whole number or the
    /// sum does not fit 64 bits, [`Error::WrongKind`](crate::Error::WrongKind) if there is a blob
    /// under the key.
    pub fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        self.write(|tx| tx.increment(key, by))
    }

    /// Replaces a value by what `change` makes of it, and returns that. `None` stands for a
    /// missing key. A key that is there keeps its expiry. `change` holds up other writers, and
    /// must not write to the database itself.
    ///
    /// ```
    /// let db = aurora::Aurora::in_memory()?;
    /// for word in ["one", "two"] {
    ///     db.merge("words", |old| Some([old.unwrap_or_default(), word.as_bytes()].concat()))?;
    /// }
    /// assert_eq!(db.get("words")?.as_deref(), Some(&b"onetwo"[..]));
    /// # Ok::<(), aurora::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::WrongKind`](crate::Error::WrongKind) if there is a blob under the key.
    pub fn merge(
        &self,
        key: impl AsRef<[u8]>,
        change: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<SharedBytes>> {
        self.write(|tx| tx.merge(key, change))
    }

    /// Makes the changes of a batch: all of them, or none.
    pub fn apply(&self, batch: Batch) -> Result<()> {
        self.write(|tx| tx.apply(batch))
    }

    /// The values of a range of keys, from either end, of this moment.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Scan<'static>> {
        Ok(Scan::of_snapshot(self.begin_read()?, range))
    }

    /// The values of the keys that begin with `prefix`, from either end, of this moment.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Scan<'static>> {
        self.scan(prefix_range(prefix.as_ref()))
    }

    /// The keys of a range alone, of values and of blobs, from either end, of this moment. What they hold is not read.
    pub fn scan_keys<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
    ) -> Result<KeyScan<'static>> {
        Ok(self.begin_read()?.scan_keys(range))
    }

    /// The keys that begin with `prefix` alone, of values and of blobs, from either end, of this moment. What they hold is not
    /// read.
    pub fn scan_keys_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<KeyScan<'static>> {
        self.scan_keys(prefix_range(prefix.as_ref()))
    }

    /// What is under the keys that begin with `prefix`, in short, all at once. Keys are given as text: bytes that are no
    /// UTF-8 are shown as `\u{FFFD}`. For many keys, or for their bytes, use [`scan_prefix`](Self::scan_prefix) and
    /// [`scan_blobs_prefix`](Self::scan_blobs_prefix).
    ///
    /// ```
    /// use aurora::DataInfo;
    ///
    /// let db = aurora::Aurora::in_memory()?;
    /// db.put("user:1", "John Doe", None)?;
    /// for (key, info) in db.get_data_by_pattern("user:")? {
    ///     match info {
    ///         DataInfo::Value { size, preview } => println!("{key}: {size} bytes: {preview}"),
    ///         DataInfo::Blob { size } => println!("{key}: a blob of {size} bytes"),
    ///     }
    /// }
    /// # Ok::<(), aurora::Error>(())
    /// ```
    pub fn get_data_by_pattern(&self, prefix: impl AsRef<[u8]>) -> Result<Vec<(String, DataInfo)>> {
        self.read(|snapshot| snapshot.get_data_by_pattern(prefix))
    }

    /// Removes at most `limit` of what has expired, the oldest first, in one transaction, and
    /// returns how many there were. Nobody sees a difference; the space can be used again.
    ///
    /// Happens by itself: on a thread of the database's own soon after something has expired, or,
    /// without such a thread ([`background(false)`](crate::Builder::background)), a little with
    /// each change of a key, and of a document where documents expire. (Changes of trees remove nothing of it.)
    pub fn sweep(&self, limit: usize) -> Result<usize> {
        self.write(|tx| tx.sweep(limit))
    }
}
