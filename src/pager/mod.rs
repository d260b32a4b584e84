//! The pager: page numbers in, verified bytes out.
//!
//! A page number resolves to a frame in memory if there is one, else to the map of the file. The
//! first touch of a page in the file reads it with a call that can fail, checks it against the
//! checksum in its parent's reference, and remembers that. What was read stays in a frame while the
//! cache has room, as frames lie in huge pages (documents found by an index took 0.6 of the time
//! that they take from the map); after that the map serves the page with no copy, and so it does where a
//! frame would have to be made of fresh memory, whose first touch takes longer than to read the page (documents found by
//! an index soon after opening took a third less time). Where the storage cannot map, frames of other pages make room.
//!
//! # Invariants
//!
//! 1. The bytes behind a page number do not change while any state that a reader can see uses it:
//!    the transaction layer reuses a number only when no such state is left.
//! 2. A frame that is not clean is never dropped while its page number is in use.
//! 3. A map stays until the pager goes, so no reader can lose its bytes.
//! 4. Nothing past the file's length is touched through a map.
//! 5. A map serves a node only if it showed, when the node was checked, the same bytes as a call had read.

mod arena;
mod cache;
mod fetch;
mod forked;
pub(crate) mod frame;
mod hints;
mod maps;
mod piece;
mod pin;
mod runs;
mod space;
mod stream;
mod table;
mod write;
mod zeroed;

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::sync::Mutex;

use self::cache::Cache;
use self::fetch::Suspicion;
use self::frame::{Frame, Pinned, Unique};
use self::hints::Hints;
use self::maps::Maps;
use self::piece::with_piece;
pub(crate) use self::pin::{Pin, pin};
pub(crate) use self::space::{Space, SpaceImage, SpacePlan};
pub(crate) use self::stream::STREAM_BYTES;
pub(crate) use self::table::Entry;
use self::table::PageTable;
pub(crate) use self::write::{Cause, PageSource, WriteCounters};
use crate::format::{Fault, PageNumber, PageRef, Version, node, page};
use crate::prefetch::prefetch_start;
use crate::storage::{Map, Storage};
use crate::{Error, Result};

/// Verified pages of one file, and the place where new ones are written.
#[derive(Debug)]
pub(crate) struct Pager {
    storage: Arc<dyn Storage>,
    page_size: u32,
    salt: u64,
    /// Of the pages that were in the file when it was opened.
    newest_birth: AtomicU64,
    /// How many those are that its newest checkpoint covers.
    first_pages: AtomicU64,
    table: PageTable,
    maps: Maps,
    /// Others, for what is read in order.
    streams: Maps,
    /// The length of the file in whole pages (invariant 4).
    file_pages: AtomicU32,
    /// Held while the file's length changes.
    growing: Mutex<()>,
    hints: Hints,
    suspicion: Suspicion,
    /// The first sync that failed.
    sync_failure: OnceLock<Error>,
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
        forked::watch();
        Ok(Pager {
            storage,
            page_size,
            salt,
            newest_birth: AtomicU64::new(Version::MAX),
            first_pages: AtomicU64::new(u64::MAX),
            table: PageTable::new(),
            // Pages are first read with calls, which read ahead where reads are in order. What is touched in the
            // map has left the system's cache, as memory is short: to read around it then took 16 times as long
            // as to read just it.
            maps: Maps::new(Map::advise_random),
            streams: Maps::new(Map::advise_sequential),
            file_pages: AtomicU32::new(u32::try_from(pages).unwrap_or(u32::MAX)),
            growing: Mutex::new(()),
            sync_failure: OnceLock::new(),
            suspicion: Suspicion::default(),
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
        pin: &'g Pin,
    ) -> Result<PinnedBytes<'g>> {
        let entry = self.entry_of(target.page)?;
        loop {
            if let Some(frame) = entry.frame.load(pin) {
                frame.warm_head();
                if !entry.touch_node() {
                    return Err(self.not_a_node(target.page));
                }
                return Ok(PinnedBytes::Frame(frame));
            }
            let length = self.page_size as usize;
            let is_to_keep = self.cache.has_room(length) && frame::may_be_ready(length);
            if !is_to_keep && let Some(bytes) = self.verified(target.page, entry) {
                return Ok(PinnedBytes::Mapped(bytes));
            }
            if let Some(bytes) = self.fault_in(target, entry)? {
                return Ok(PinnedBytes::Mapped(bytes));
            }
            // It is in a frame, which the next turn finds, unless another thread evicted it at once.
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
    pub(crate) fn peek<'g>(&'g self, page: PageNumber, pin: &'g Pin) -> Option<PinnedBytes<'g>> {
        let entry = self.known(page)?;
        if let Some(frame) = entry.frame.load(pin) {
            return (!entry.is_run_frame()).then_some(PinnedBytes::Frame(frame));
        }
        let bytes = entry
            .is_verified()
            .then(|| self.mapped(page, self.page_size as usize));
        bytes.flatten().map(PinnedBytes::Mapped)
    }

    /// The bytes of a node, good for as long as the pager and the state that it was found in.
    pub(crate) fn hold(&self, target: &PageRef) -> Result<PageBytes<'_>> {
        let pin = pin();
        let entry = self.entry_of(target.page)?;
        loop {
            if let Some(frame) = entry.frame.load(&pin) {
                if !entry.touch_node() {
                    return Err(self.not_a_node(target.page));
                }
                // To count waits for the head, and the processor does not look ahead meanwhile.
                node::warm(frame.bytes());
                return Ok(PageBytes::Held(frame.hold(), self.page_size as usize));
            }
            // What is read in order is as fast from the map.
            if let Some(bytes) = self.verified(target.page, entry) {
                return Ok(PageBytes::Borrowed(bytes));
            }
            if let Some(bytes) = self.fault_in(target, entry)? {
                return Ok(PageBytes::Borrowed(bytes));
            }
        }
    }

    /// Only in a file that was made to do harm, which names one page twice.
    #[cold]
    pub(crate) fn not_a_node(&self, page: PageNumber) -> Error {
        let what = "a long value is where a node should be";
        self.corrupt(page, Fault::new(what, page::KIND, 0, 0))
    }

    /// The bytes of a node in the map, if they were checked before.
    #[inline]
    fn verified(&self, page: PageNumber, entry: &Entry) -> Option<&[u8]> {
        let is_verified = entry.is_verified();
        is_verified.then(|| self.mapped(page, self.page_size as usize))?
    }

    /// Reads a node with a call that can fail, checks it, and keeps it in a frame if there is room (`None`), else what
    /// it learnt: the map has the same bytes.
    #[cold]
    fn fault_in(&self, target: &PageRef, entry: &Entry) -> Result<Option<&[u8]>> {
        let length = self.page_size as usize;
        if let Some(mut frame) = self.frame_to_keep(target.page) {
            self.fill_node(target, entry, &mut frame)?;
            self.keep_frame(target.page, entry, frame);
            return Ok(None);
        }
        with_piece(length, |bytes| {
            self.fill_node(target, entry, bytes)?;
            // Branches are read again and again.
            let is_kept = page::level(bytes) > 0 && self.cache.has_room(length);
            let mapped = self.mapped(target.page, length).filter(|_| !is_kept);
            // There may be file systems whose maps do not show what calls read (invariant 5).
            if let Some(mapped) = mapped
                && mapped == bytes
            {
                entry.set_verified();
                return Ok(Some(mapped));
            }
            let frame = Unique::copy_of(bytes, 0, false);
            self.keep_frame(target.page, entry, frame);
            Ok(None)
        })
    }

    /// Memory for a page that is read and stays, if it need not be waited for or no map can serve the page.
    fn frame_to_keep(&self, page: PageNumber) -> Option<Unique> {
        let length = self.page_size as usize;
        let fresh = || Unique::to_fill(length, 0);
        if self.mapped(page, length).is_none() {
            return Some(fresh());
        }
        if !self.cache.has_room(length) {
            return None;
        }
        if self.cache.is_small() {
            return Some(fresh());
        }
        let ready = Unique::ready(length, 0);
        ready.or_else(|| self.cache.has_few().then(fresh))
    }

    fn keep_frame(&self, page: PageNumber, entry: &Entry, frame: Unique) {
        let frame = frame.share();
        frame.set_clean();
        let bytes = frame.len();
        entry.set_run_frame(false);
        // If the cell is filled already, another thread put the same bytes there.
        if entry.frame.fill(frame) {
            self.cache.admit(self, page, bytes);
        }
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
        let is_held = |entry: &Entry| entry.frame.load(&pin()).is_some();
        let entry = self.known(page);
        entry.is_some_and(|entry| entry.is_verified() || is_held(entry))
    }

    fn read_node(&self, target: &PageRef, entry: &Entry, birth: Version) -> Result<Unique> {
        let mut frame = Unique::to_fill(self.page_size as usize, birth);
        self.fill_node(target, entry, &mut frame)?;
        Ok(frame)
    }

    /// Reads a node and checks it.
    fn fill_node(&self, target: &PageRef, entry: &Entry, bytes: &mut [u8]) -> Result<()> {
        self.fill_verified(target, entry, bytes)?;
        let (newest, pages) = match entry.checksum() {
            None => {
                let pages = self.first_pages.load(Ordering::Relaxed);
                (self.newest_birth.load(Ordering::Relaxed), pages)
            }
            Some(_) => (Version::MAX, u64::MAX), // this process wrote it
        };
        node::validate_within(bytes, target.page, newest, pages)
            .map_err(|fault| self.corrupt(target.page, fault))?;
        if page::count(bytes) == 0 {
            let fault = Fault::new("a node of the tree is empty", page::COUNT, 1, 0);
            return Err(self.corrupt(target.page, fault));
        }
        self.cache.count_miss();
        Ok(())
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
        let mut frame = Unique::to_fill(self.page_size as usize, birth);
        self.fill_verified(target, entry, &mut frame)?;
        Ok(frame)
    }

    fn fill_verified(&self, target: &PageRef, entry: &Entry, bytes: &mut [u8]) -> Result<()> {
        let expected = entry.checksum().unwrap_or(target.checksum);
        self.read_raw(target.page, bytes)?;
        if expected == 0 {
            let fault = Fault::new("a reference to a page that was never written", 0, 1, 0);
            return Err(self.corrupt(target.page, fault));
        }
        page::verify(bytes, target.page, expected, self.salt)
            .map_err(|fault| self.corrupt(target.page, fault))?;
        if entry.checksum().is_none() {
            self.check_birth(target.page, page::birth(bytes))?;
        }
        Ok(())
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

    /// Says which version the newest checkpoint in the file has, and how many pages, when it is opened.
    pub(crate) fn set_newest(&self, version: Version, pages: u32) {
        self.newest_birth.store(version, Ordering::Relaxed);
        self.first_pages.store(u64::from(pages), Ordering::Relaxed);
    }

    fn read_raw(&self, first: PageNumber, bytes: &mut [u8]) -> Result<()> {
        let pages = bytes.len().div_ceil(self.page_size as usize) as u64;
        self.check_place(first, pages)?;
        let offset = self.offset(first);
        self.storage
            .read_at(offset, bytes)
            .map_err(|error| Error::io("read a page", offset, error))
    }

    /// Visits what belongs to pages, each with its entry and the head of its frame on the way into the
    /// processor's cache before its turn: a transaction of 1,000 changes waited a ninth of its time for these
    /// heads alone.
    pub(crate) fn visit_warm<T>(
        &self,
        items: &[T],
        page: impl Fn(&T) -> PageNumber,
        pin: &Pin,
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
    pub(crate) fn forget(&self, page: PageNumber, pin: &Pin) {
        let Some(entry) = self.known(page) else {
            return;
        };
        if let Some(frame) = entry.frame.load(pin)
            && frame.is_clean()
            // Else the clock of the cache was faster.
            && entry.frame.clear_if(frame, pin)
        {
            self.cache.forget(frame.bytes().len());
        }
        entry.reset(pin);
    }
}
