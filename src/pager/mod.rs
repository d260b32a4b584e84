//! The pager: page numbers in, verified bytes out.
//!
//! A page number resolves to a frame in memory if there is one, else to the map of the file. The
//! first touch of a page in the file reads it with a call that can fail, checks it against the
//! checksum in its parent's reference, and remembers that. What was read stays in a frame while the
//! cache has room, as frames lie in huge pages (documents found by an index took 0.6 of the time
//! that they take from the map); after that the map serves the page with no copy. Where the storage
//! cannot map, frames of other pages make room.
//!
//! # Invariants
//!
//! 1. The bytes behind a page number do not change while any state that a reader can see uses it:
//!    the transaction layer reuses a number only when no such state is left.
//! 2. A frame that is not clean is never dropped while its page number is in use.
//! 3. Maps are only added. An older map stays until the pager goes, so no reader can lose its
//!    bytes; maps double in size, so all of them together are less than twice the largest.
//! 4. Nothing past the file's length is touched through a map.

mod arena;
mod cache;
pub(crate) mod frame;
mod hints;
mod space;
mod stream;
mod table;
mod write;
mod zeroed;

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::checksum;
use crate::sync::Mutex;
use crossbeam_epoch::Guard;

use self::cache::Cache;
use self::frame::{Frame, Pinned, Unique};
use self::hints::Hints;
pub(crate) use self::space::{Space, SpaceImage, SpacePlan};
pub(crate) use self::stream::STREAM_BYTES;
use self::stream::StreamMaps;
pub(crate) use self::table::Entry;
use self::table::PageTable;
pub(crate) use self::write::{Cause, PageSource, WriteCounters};
use crate::format::{Fault, PageNumber, PageRef, RunRef, Version, node, page};
use crate::prefetch::prefetch_start;
use crate::storage::{Map, Storage};
use crate::{Error, Result};

/// The smallest map: small files need one only.
const FIRST_MAP_LOG2: u32 = 24;
const MAPS: usize = 64 - FIRST_MAP_LOG2 as usize;

/// Long values are checked in pieces that fit the processor's caches.
const PIECE_BYTES: usize = 64 << 10;
/// Values from this length on are asked for as a whole before they are read through the map.
const ASK_BYTES: usize = 16 << 10;

thread_local! {
    /// Memory for a piece, kept for the next value.
    static PIECE: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}

/// Verified pages of one file, and the place where new ones are written.
#[derive(Debug)]
pub(crate) struct Pager {
    storage: Arc<dyn Storage>,
    page_size: u32,
    salt: u64,
    /// Of the pages that were in the file when it was opened.
    newest_birth: AtomicU64,
    table: PageTable,
    maps: [OnceLock<Arc<Map>>; MAPS],
    /// Index of the newest map, plus one.
    newest_map: AtomicUsize,
    can_map: AtomicBool,
    streams: StreamMaps,
    /// The length of the file in whole pages (invariant 4).
    file_pages: AtomicU32,
    /// Held while the file's length changes.
    growing: Mutex<()>,
    hints: Hints,
    pub(crate) cache: Cache,
    pub(crate) written: WriteCounters,
}

/// Bytes that outlive the call which found them.
#[derive(Debug)]
pub(crate) enum PageBytes<'p> {
    /// In the map, which lives as long as the pager (invariants 1 and 3), or in a transaction.
    Borrowed(&'p [u8]),
    /// In a frame, of which this is a count; the length is that of the value or page.
    Held(Frame, usize),
}

/// Bytes of a node that are good for as long as a pin.
#[derive(Clone, Copy)]
pub(crate) enum PinnedBytes<'g> {
    Mapped(&'g [u8]),
    Frame(Pinned<'g>),
}

impl Deref for PinnedBytes<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            PinnedBytes::Mapped(bytes) => bytes,
            PinnedBytes::Frame(frame) => frame.bytes(),
        }
    }
}

impl<'g> PinnedBytes<'g> {
    /// The same bytes, for longer than the pin: from the map of `pager`, or with a count of the
    /// frame.
    pub(crate) fn keep<'p>(self, pager: &'p Pager, page: PageNumber) -> PageBytes<'p> {
        match self {
            PinnedBytes::Mapped(bytes) => match pager.mapped(page, bytes.len()) {
                Some(bytes) => PageBytes::Borrowed(bytes),
                // The map cannot have shrunk; a copy is as good.
                None => {
                    let copy = Unique::copy_of(bytes, 0, false);
                    PageBytes::Held(copy.share(), bytes.len())
                }
            },
            PinnedBytes::Frame(frame) => {
                let length = frame.bytes().len();
                PageBytes::Held(frame.hold(), length)
            }
        }
    }
}

impl Deref for PageBytes<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            PageBytes::Borrowed(bytes) => bytes,
            PageBytes::Held(frame, length) => frame.get(..*length).unwrap_or_default(),
        }
    }
}

impl Pager {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        page_size: u32,
        salt: u64,
        budget_bytes: usize,
    ) -> Result<Self> {
        let length = storage
            .length()
            .map_err(|error| Error::io("read the length of the file", 0, error))?;
        let pages = length / u64::from(page_size);
        Ok(Pager {
            storage,
            page_size,
            salt,
            newest_birth: AtomicU64::new(Version::MAX),
            table: PageTable::new(),
            maps: [const { OnceLock::new() }; MAPS],
            newest_map: AtomicUsize::new(0),
            can_map: AtomicBool::new(true),
            streams: StreamMaps::new(),
            file_pages: AtomicU32::new(u32::try_from(pages).unwrap_or(u32::MAX)),
            growing: Mutex::new(()),
            hints: Hints::new(budget_bytes / page_size.max(1) as usize),
            cache: Cache::new(budget_bytes),
            written: WriteCounters::default(),
        })
    }

    pub(crate) fn page_size(&self) -> u32 {
        self.page_size
    }

    pub(crate) fn salt(&self) -> u64 {
        self.salt
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub(crate) fn file_pages(&self) -> u32 {
        self.file_pages.load(Ordering::Acquire)
    }

    pub(crate) fn entry(&self, page: PageNumber) -> &Entry {
        self.table.entry(page)
    }

    /// The entry of a page that a reference in the file leads to, which may be anywhere.
    pub(crate) fn known(&self, page: PageNumber) -> Option<&Entry> {
        self.table.known(page)
    }

    #[inline]
    fn entry_of(&self, page: PageNumber) -> Result<&Entry> {
        match self.table.known(page) {
            Some(entry) => Ok(entry),
            None => {
                self.check_place(page, 1)?;
                Ok(self.table.entry(page))
            }
        }
    }

    /// Pages lie in the file, behind the header slots.
    pub(crate) fn check_place(&self, first: PageNumber, pages: u64) -> Result<()> {
        let end = u64::from(first) + pages;
        let limit = u64::from(self.file_pages());
        if first >= 2 && end <= limit {
            return Ok(());
        }
        let what = "a reference leads outside of the file";
        Err(self.corrupt(first, Fault::new(what, 0, limit, end)))
    }

    pub(crate) fn offset(&self, page: PageNumber) -> u64 {
        u64::from(page) * u64::from(self.page_size)
    }

    pub(crate) fn corrupt(&self, page: PageNumber, fault: Fault) -> Error {
        fault.in_page(page, self.page_size)
    }

    /// The bytes of a node, good for as long as the pin.
    #[inline]
    pub(crate) fn read_pinned<'g>(
        &'g self,
        target: &PageRef,
        pin: &'g Guard,
    ) -> Result<PinnedBytes<'g>> {
        let entry = self.entry_of(target.page)?;
        loop {
            if let Some(frame) = entry.frame.load(pin) {
                frame.warm_head();
                entry.touch();
                return Ok(PinnedBytes::Frame(frame));
            }
            if entry.is_verified()
                && let Some(bytes) = self.mapped(target.page, self.page_size as usize)
            {
                return Ok(PinnedBytes::Mapped(bytes));
            }
            // Brings the page into the map or into a frame, which the next turn finds, unless
            // another thread evicted it at once.
            self.fault_in(target, entry)?;
        }
    }

    /// Asks for the leaf in that slot of a branch, where it was last seen.
    #[inline]
    pub(crate) fn ask_for_leaf(&self, branch: PageNumber, slot: usize) {
        self.hints.ask(branch, slot, self.page_size as usize);
    }

    /// Remembers where the leaf in that slot of a branch is in memory.
    #[inline]
    pub(crate) fn note_leaf(&self, branch: PageNumber, slot: usize, leaf: &[u8]) {
        self.hints.note(branch, slot, leaf);
    }

    /// The bytes of a node, if they are at hand.
    #[inline]
    pub(crate) fn peek<'g>(&'g self, page: PageNumber, pin: &'g Guard) -> Option<PinnedBytes<'g>> {
        let entry = self.known(page)?;
        if let Some(frame) = entry.frame.load(pin) {
            return Some(PinnedBytes::Frame(frame));
        }
        let bytes = entry
            .is_verified()
            .then(|| self.mapped(page, self.page_size as usize));
        bytes.flatten().map(PinnedBytes::Mapped)
    }

    /// The bytes of a node, good for as long as the pager and the state that it was found in.
    pub(crate) fn hold(&self, target: &PageRef) -> Result<PageBytes<'_>> {
        let pin = crossbeam_epoch::pin();
        let entry = self.entry_of(target.page)?;
        loop {
            if let Some(frame) = entry.frame.load(&pin) {
                entry.touch();
                return Ok(PageBytes::Held(frame.hold(), self.page_size as usize));
            }
            if entry.is_verified()
                && let Some(bytes) = self.mapped(target.page, self.page_size as usize)
            {
                return Ok(PageBytes::Borrowed(bytes));
            }
            self.fault_in(target, entry)?;
        }
    }

    /// First touch: reads the page with a call that can fail, checks it, and keeps what it learnt.
    #[cold]
    fn fault_in(&self, target: &PageRef, entry: &Entry) -> Result<()> {
        let frame = self.read_node(target, entry, 0)?;
        if self.mapped(target.page, self.page_size as usize).is_some() {
            entry.set_verified();
            // The map serves the page from here on, also once its frame is gone.
            if !self.cache.has_room(frame.len()) {
                return Ok(());
            }
        }
        let frame = frame.share();
        frame.set_clean();
        let bytes = frame.len();
        // If the cell is filled already, another thread put the same bytes there.
        if entry.frame.fill(frame) {
            self.cache.admit(self, target.page, bytes);
        }
        Ok(())
    }

    /// The bytes of a node for a caller who will change them, as those of `birth`, and after whom nobody
    /// reads the page: nothing is kept of it. `None` if it is at hand.
    pub(crate) fn take(&self, target: &PageRef, birth: Version) -> Result<Option<Unique>> {
        let entry = self.entry_of(target.page)?;
        if self.is_at_hand(target.page) {
            return Ok(None);
        }
        self.read_node(target, entry, birth).map(Some)
    }

    /// Makes ready for what will be known of a page that is read soon.
    pub(crate) fn expect(&self, page: PageNumber) {
        if let Some(entry) = self.known(page) {
            entry.occupy();
        }
    }

    /// Whether [`hold`](Self::hold) need not read the page: it did before, or it is in memory.
    pub(crate) fn is_at_hand(&self, page: PageNumber) -> bool {
        let is_held = |entry: &Entry| entry.frame.load(&crossbeam_epoch::pin()).is_some();
        let entry = self.known(page);
        entry.is_some_and(|entry| entry.is_verified() || is_held(entry))
    }

    fn read_node(&self, target: &PageRef, entry: &Entry, birth: Version) -> Result<Unique> {
        let frame = self.read_verified(target, entry, birth)?;
        node::validate(&frame, target.page).map_err(|fault| self.corrupt(target.page, fault))?;
        self.cache.count_miss();
        Ok(frame)
    }

    /// Reads a page of any kind that a reference leads to.
    pub(crate) fn read_target(&self, target: &PageRef) -> Result<Unique> {
        self.read_verified(target, self.entry_of(target.page)?, 0)
    }

    /// Reads a page of any kind into a frame of its own, as one of `birth`, and checks it against its
    /// reference.
    pub(crate) fn read_verified(
        &self,
        target: &PageRef,
        entry: &Entry,
        birth: Version,
    ) -> Result<Unique> {
        let expected = entry.checksum().unwrap_or(target.checksum);
        let length = self.page_size as usize;
        let frame = self.read_raw(target.page, Unique::to_fill(length, birth))?;
        if expected == 0 {
            let fault = Fault::new("a reference to a page that was never written", 0, 1, 0);
            return Err(self.corrupt(target.page, fault));
        }
        page::verify(&frame, target.page, expected, self.salt)
            .map_err(|fault| self.corrupt(target.page, fault))?;
        if entry.checksum().is_none() {
            self.check_birth(target.page, page::birth(&frame))?;
        }
        Ok(frame)
    }

    /// What was in the file when it was opened is no younger than its newest checkpoint. (A page that says so would be
    /// taken for one of the present transaction's own.)
    fn check_birth(&self, page: PageNumber, birth: Version) -> Result<()> {
        let newest = self.newest_birth.load(Ordering::Relaxed);
        if birth <= newest {
            return Ok(());
        }
        let what = "a page is younger than the checkpoint that names it";
        Err(self.corrupt(page, Fault::new(what, page::BIRTH, newest, birth)))
    }

    /// Says which version the newest checkpoint in the file has, when it is opened.
    pub(crate) fn set_newest_birth(&self, version: Version) {
        self.newest_birth.store(version, Ordering::Relaxed);
    }

    fn read_raw(&self, first: PageNumber, mut frame: Unique) -> Result<Unique> {
        let pages = frame.len().div_ceil(self.page_size as usize) as u64;
        self.check_place(first, pages)?;
        let offset = self.offset(first);
        self.storage
            .read_at(offset, &mut frame)
            .map_err(|error| Error::io("read a page", offset, error))?;
        Ok(frame)
    }

    /// The bytes of a long value.
    pub(crate) fn read_run(&self, run: &RunRef) -> Result<PageBytes<'_>> {
        let entry = self.entry_of(run.first)?;
        let length = run.length_bytes as usize;
        let pin = crossbeam_epoch::pin();
        if let Some(frame) = entry.frame.load(&pin) {
            entry.touch();
            return Ok(PageBytes::Held(frame.hold(), length));
        }
        if entry.is_run_verified()
            && let Some(bytes) = self.mapped(run.first, length)
        {
            return Ok(PageBytes::Borrowed(bytes));
        }
        if length == 0 {
            return Ok(PageBytes::Borrowed(&[]));
        }
        self.cache.count_miss();
        if self.mapped(run.first, length).is_some() {
            self.verify_run(run)?;
            entry.set_run_verified();
            if let Some(bytes) = self.mapped(run.first, length) {
                return Ok(PageBytes::Borrowed(bytes));
            }
        }
        // Before memory for it is asked for.
        self.check_place(run.first, u64::from(run.pages(self.page_size)))?;
        let frame = self.read_raw(run.first, Unique::to_fill(length, 0))?;
        self.check_run(run, checksum::crc32c(&frame))?;
        let frame = frame.share();
        frame.set_clean();
        // A value that would push everything else out is not worth keeping.
        if length <= self.cache.budget_bytes() / 8 && entry.frame.fill(frame.clone()) {
            self.cache.admit(self, run.first, length);
        }
        Ok(PageBytes::Held(frame, length))
    }

    /// Whether a long value was read and checked before.
    pub(crate) fn knows_run(&self, run: &RunRef) -> bool {
        let entry = self.known(run.first);
        entry.is_some_and(|entry| {
            entry.is_run_verified() || entry.frame.load(&crossbeam_epoch::pin()).is_some()
        })
    }

    /// Copies a part of a long value: as many bytes as `into` has, from one of them on. What is in no
    /// frame is read straight into `into`: out of the map it would be copied as well, after a wait for
    /// each of its pages (blobs of 16 MiB took 1.6 times as long).
    pub(crate) fn copy_run(&self, run: &RunRef, from: usize, into: &mut [u8]) -> Result<()> {
        self.copy_run_behind(run, None, from, into)
    }

    /// The same. `before`: how much of what was written together with the value comes before it, if it
    /// is one of a stream.
    pub(crate) fn copy_run_behind(
        &self,
        run: &RunRef,
        before: Option<u64>,
        from: usize,
        into: &mut [u8],
    ) -> Result<()> {
        let (length, end) = (run.length_bytes as usize, from.saturating_add(into.len()));
        if end > length {
            let what = "a part of a long value that is shorter";
            let fault = Fault::new(what, 0, length as u64, end as u64);
            return Err(self.corrupt(run.first, fault));
        }
        let entry = self.entry_of(run.first)?;
        let frame = entry.frame.load(&crossbeam_epoch::pin()).map(Pinned::hold);
        if let Some(part) = frame.as_deref().and_then(|bytes| bytes.get(from..end)) {
            entry.touch();
            into.copy_from_slice(part);
            return Ok(());
        }
        let (is_verified, is_whole) = (entry.is_run_verified(), into.len() == length);
        if !is_verified && !is_whole {
            self.verify_run(run)?;
        }
        self.check_place(run.first, u64::from(run.pages(self.page_size)))?;
        if let Some(before) = before
            && (!is_verified && is_whole)
            && self.copy_streamed(run, before, into)?
        {
            self.cache.count_miss();
            entry.set_run_verified();
            return Ok(());
        }
        let offset = self.offset(run.first) + from as u64;
        self.storage
            .read_at(offset, into)
            .map_err(|error| Error::io("read a long value", offset, error))?;
        if !is_verified {
            self.cache.count_miss();
            if is_whole {
                self.check_run(run, checksum::crc32c(into))?;
            }
            entry.set_run_verified();
        }
        Ok(())
    }

    /// Reads a long value with calls that can fail, piece by piece, and checks it.
    fn verify_run(&self, run: &RunRef) -> Result<()> {
        let length = run.length_bytes as usize;
        let pages = length.div_ceil(self.page_size as usize) as u64;
        self.check_place(run.first, pages)?;
        let mut piece = PIECE.take();
        piece.resize(PIECE_BYTES, 0);
        let mut checksum = 0;
        for begin in (0..length).step_by(PIECE_BYTES) {
            let bytes = piece.get_mut(..(length - begin).min(PIECE_BYTES));
            let bytes = bytes.unwrap_or_default();
            let offset = self.offset(run.first) + begin as u64;
            self.storage
                .read_at(offset, bytes)
                .map_err(|error| Error::io("read a long value", offset, error))?;
            checksum = checksum::append(checksum, bytes);
        }
        PIECE.set(piece);
        self.check_run(run, checksum)
    }

    fn check_run(&self, run: &RunRef, found: u32) -> Result<()> {
        if found == run.checksum {
            return Ok(());
        }
        let what = "a long value does not match its checksum";
        let fault = Fault::new(what, 0, u64::from(run.checksum), u64::from(found));
        Err(self.corrupt(run.first, fault))
    }

    /// Asks for a long value that the map is going to serve as a whole. (Its bytes may have left the
    /// system's cache, and would come back page by page.)
    pub(crate) fn ask_for(&self, run: &RunRef) {
        let length = run.length_bytes as usize;
        if length >= ASK_BYTES
            && self.known(run.first).is_some_and(Entry::is_run_verified)
            && let Some(map) = self.newest_map()
        {
            // Only advice: nothing depends on it.
            let _ = map.will_need(self.offset(run.first), length);
        }
    }

    /// A slice of the newest map, if the storage maps and the file reaches that far.
    #[inline]
    fn mapped(&self, first: PageNumber, length: usize) -> Option<&[u8]> {
        let offset = self.offset(first);
        let end = offset + length as u64;
        if end > u64::from(self.file_pages()) * u64::from(self.page_size) {
            return None;
        }
        let bytes = self.newest_map().and_then(|map| map.bytes(offset, length));
        if bytes.is_some() {
            return bytes;
        }
        self.grow_map(offset, length)
    }

    #[inline]
    fn newest_map(&self) -> Option<&Map> {
        let index = self.newest_map.load(Ordering::Acquire).checked_sub(1)?;
        self.maps.get(index)?.get().map(|map| &**map)
    }

    #[cold]
    fn grow_map(&self, offset: u64, length: usize) -> Option<&[u8]> {
        if !self.can_map.load(Ordering::Relaxed) {
            return None;
        }
        let end = offset.checked_add(length as u64)?;
        let log2 = end.next_power_of_two().ilog2().max(FIRST_MAP_LOG2);
        let index = (log2 - FIRST_MAP_LOG2) as usize;
        let cell = self.maps.get(index)?;
        let map = match cell.get() {
            Some(map) => map,
            None => match self.storage.map(1 << log2) {
                Ok(Some(map)) => {
                    // Pages are first read with calls, which read ahead where reads are in order.
                    // What is touched here has left the system's cache, as memory is short: to
                    // read around it then took 16 times as long as to read just it.
                    if let Err(error) = map.advise_random() {
                        tracing::debug!(%error, "no advice for the map");
                    }
                    let _ = cell.set(map); // another thread's map is as good
                    self.newest_map.fetch_max(index + 1, Ordering::AcqRel);
                    cell.get()?
                }
                // No map: pages are kept in frames instead.
                Ok(None) | Err(_) => {
                    self.can_map.store(false, Ordering::Relaxed);
                    return None;
                }
            },
        };
        map.bytes(offset, length)
    }

    /// Visits what belongs to pages, each with its entry and the head of its frame on the way into the
    /// processor's cache before its turn: a transaction of 1,000 changes waited a ninth of its time for these
    /// heads alone.
    pub(crate) fn visit_warm<T>(
        &self,
        items: &[T],
        page: impl Fn(&T) -> PageNumber,
        pin: &Guard,
        mut visit: impl FnMut(&T),
    ) {
        const AHEAD: usize = 8;
        let known = |i: usize| self.known(page(items.get(i)?));
        for (i, item) in items.iter().enumerate() {
            if let Some(entry) = known(i + 2 * AHEAD) {
                prefetch_start(entry);
            }
            if let Some(frame) = known(i + AHEAD).and_then(|entry| entry.frame.load(pin)) {
                frame.warm_head();
            }
            visit(item);
        }
    }

    /// The page number's life ends: whatever was known of it is forgotten.
    pub(crate) fn forget(&self, page: PageNumber, pin: &Guard) {
        let Some(entry) = self.known(page) else {
            return;
        };
        if let Some(frame) = entry.frame.load(pin)
            && frame.is_clean()
        {
            self.cache.forget(frame.bytes().len());
        }
        entry.reset(pin);
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;
    use crate::storage::FileStorage;

    /// A file can name one page as a long value and as a node: what was checked as one is not yet checked as the other.
    #[test]
    fn a_long_value_is_not_taken_for_a_node() {
        let directory = tempfile::tempdir().unwrap();
        let storage = FileStorage::open_or_create(directory.path().join("file")).unwrap();
        let pager = Pager::new(Arc::new(storage), 4096, 7, 1 << 20).unwrap();
        pager.ensure_pages(8).unwrap();
        let bytes = vec![9; 4096];
        pager.write_at(2, &bytes, Cause::Log).unwrap();
        let run = RunRef {
            first: 2,
            length_bytes: 4096,
            checksum: checksum::crc32c(&bytes),
            birth: 1,
        };
        assert_eq!(&*pager.read_run(&run).unwrap(), &bytes[..]);
        assert!(pager.knows_run(&run));
        let node = PageRef {
            page: 2,
            checksum: run.checksum,
        };
        assert!(!pager.is_at_hand(2));
        assert!(pager.hold(&node).is_err_and(|error| error.is_corruption()));
        let pin = crossbeam_epoch::pin();
        assert!(pager.read_pinned(&node, &pin).is_err());
    }

    /// Nor is memory asked for before it is known that the file is as long.
    #[test]
    fn a_long_value_behind_the_file_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        let storage = FileStorage::open_or_create(directory.path().join("file")).unwrap();
        let pager = Pager::new(Arc::new(storage), 4096, 7, 1 << 20).unwrap();
        pager.ensure_pages(8).unwrap();
        let run = RunRef {
            first: 2,
            length_bytes: u32::MAX,
            checksum: 1,
            birth: 1,
        };
        let start = std::time::Instant::now();
        assert!(
            pager
                .read_run(&run)
                .is_err_and(|error| error.is_corruption())
        );
        assert!(start.elapsed().as_millis() < 100, "4 GiB were zeroed first");
    }
}
