//! Free space: which pages the newest state uses, and which ones must not be touched yet.
//!
//! Each chunk covers as many pages as one bitmap page has bits, and has two bitmaps. `used`: the
//! newest committed state (plus catalog, space map and log) uses the page; this is what a
//! checkpoint writes. `busy`: the page cannot be allocated, because it is used, or an older
//! checkpoint or snapshot still sees it, or a transaction under way has it.
//!
//! # Invariants
//!
//! 1. Used pages are busy.
//! 2. Chunks are loaded when they are first needed: opening a file reads the index pages only.
//!    An unloaded chunk has not changed since the durable checkpoint. Before a bit of one is set it is loaded, or is made
//!    anew if it lies behind the end.
//! 3. The lowest free page is allocated first, so the file stays dense and its tail comes free.
//! 4. `used` bitmaps are shared with the images that checkpoints take, and copied on change.
//! 5. The page before `end` is busy, so the file ends where its last page does.
//! 6. A long run that is appended begins at a multiple of its length, or of a part of it. The system
//!    keeps what is written there together in memory, in as few pieces as can be: 64 reads of 64 KiB
//!    each within 16 MiB took 0.26 to 0.33 ms, and 0.31 to 0.35 ms from chunks that began anywhere.
//! 7. What a search for several pages has looked through in vain is not looked through again (`floors`).

mod busy;
mod floors;
mod plan;
mod read;
#[cfg(test)]
#[cfg(not(shuttle))]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use self::busy::Busy;
use self::floors::Floors;
pub(crate) use self::plan::{SpaceImage, SpacePlan};
use self::read::{read_bitmap, read_index};
use super::Pager;
use super::stream::STREAM_BYTES;
use crate::format::header::Header;
use crate::format::space::{self as layout, SpaceEntry};
use crate::format::{Fault, PageNumber};
use crate::{Error, Result};

/// No place needs to be rounder than this, but for streams.
const MAX_ALIGN_PAGES: u32 = 64;

#[derive(Debug)]
struct Chunk {
    used: Option<Arc<[u64]>>,
    busy: Busy,
    /// `used` differs from the durable checkpoint.
    dirty: bool,
}

impl Chunk {
    fn empty(words: usize) -> Self {
        Chunk {
            used: Some(vec![0; words].into()),
            busy: Busy::new(vec![0; words]),
            dirty: false,
        }
    }

    fn unloaded() -> Self {
        Chunk {
            used: None,
            busy: Busy::default(),
            dirty: false,
        }
    }
}

/// The space map's own pages in a checkpoint: level 0 are the bitmaps, the last level is the root.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpaceTree {
    pub levels: Vec<Vec<SpaceEntry>>,
}

impl SpaceTree {
    /// All pages of the map.
    pub(crate) fn pages(&self) -> impl Iterator<Item = PageNumber> + '_ {
        let entries = self.levels.iter().flatten();
        entries.map(|e| e.page.page).filter(|page| *page != 0)
    }

    /// How many entries of a level there are in this range of places.
    fn count(&self, level: usize, places: &Range<usize>) -> usize {
        let entries = self.levels.get(level).map_or(0, Vec::len);
        entries.min(places.end).saturating_sub(places.start)
    }
}

/// The allocator.
#[derive(Debug)]
pub(crate) struct Space {
    page_size: u32,
    /// Pages in a chunk.
    bits: u32,
    end: u32,
    /// The length that a checkpoint under way will name in its header; 0 if there is none.
    planned_end: u32,
    free: u32,
    /// No page below is free.
    lowest: u32,
    /// For several pages side by side (invariant 7).
    floors: Floors,
    chunks: Vec<Chunk>,
    /// As in the durable checkpoint.
    tree: SpaceTree,
}

impl Space {
    /// A file in which only the header slots are used.
    pub(crate) fn create(page_size: u32) -> Self {
        let mut space = Space {
            page_size,
            bits: layout::bits_per_page(page_size),
            end: 0,
            planned_end: 0,
            free: 0,
            lowest: 0,
            floors: Floors::default(),
            chunks: Vec::new(),
            tree: SpaceTree::default(),
        };
        for page in 0..2 {
            space.extend(page + 1);
            space.set_busy(page);
            space.flip_used(page, true);
        }
        space
    }

    /// Reads the index of the space map. The bitmaps are read when they are needed.
    pub(crate) fn open(pager: &Pager, header: &Header) -> Result<Self> {
        let mut space = Space {
            page_size: header.page_size,
            bits: layout::bits_per_page(header.page_size),
            end: header.pages,
            planned_end: 0,
            free: 0,
            lowest: 2,
            floors: Floors::default(),
            chunks: Vec::new(),
            tree: SpaceTree::default(),
        };
        let bitmaps = header.pages.div_ceil(space.bits) as usize;
        space.tree = read_index(pager, header, bitmaps)?;
        space.chunks.resize_with(bitmaps, Chunk::unloaded);
        let used: u64 = space.bitmap_entries().map(|e| u64::from(e.used)).sum();
        let Some(free) = u64::from(header.pages).checked_sub(used) else {
            let fault = Fault::new(
                "the space map uses more pages than the file has",
                0,
                u64::from(header.pages),
                used,
            );
            return Err(pager.corrupt(header.space.page, fault));
        };
        space.free = free as u32;
        space.check_tail(pager, header)?;
        space.check_own(pager, header)?;
        space.trim(pager)?;
        Ok(space)
    }

    /// Bits for pages behind the end are 0: they would count as used pages below it.
    fn check_tail(&mut self, pager: &Pager, header: &Header) -> Result<()> {
        let Some(last) = self.chunks.len().checked_sub(1) else {
            return Ok(());
        };
        self.load(pager, last)?;
        let behind = (last as u64 + 1) * u64::from(self.bits);
        let behind = u32::try_from(behind).unwrap_or(u32::MAX);
        if let Some(page) = self.first_busy(self.end..behind) {
            let what = "the space map marks a page behind the end as used";
            let fault = Fault::new(what, 0, u64::from(self.end), u64::from(page));
            return Err(pager.corrupt(header.space.page, fault));
        }
        Ok(())
    }

    /// What the header names is used, and so are the header's own pages, or else they would be given away.
    fn check_own(&mut self, pager: &Pager, header: &Header) -> Result<()> {
        let regions = [header.log, header.next_log].map(|log| (log.first, log.pages));
        let pages = [header.catalog.root.page, header.space.page].map(|page| (page, 1));
        let slots = [(0, 2)].into_iter();
        for (first, count) in slots.chain(regions).chain(pages) {
            for page in first..first.saturating_add(count) {
                self.load(pager, (page / self.bits) as usize)?;
                if !self.is_busy(page) {
                    let what = match page {
                        0 | 1 => "the space map marks a page with a header slot as free",
                        _ => "the space map marks a page that the header names as free",
                    };
                    let fault = Fault::new(what, 0, 1, u64::from(page));
                    return Err(pager.corrupt(header.space.page, fault));
                }
            }
        }
        Ok(())
    }

    fn bitmap_entries(&self) -> impl Iterator<Item = &SpaceEntry> {
        self.tree.levels.first().into_iter().flatten()
    }

    /// The number of pages up to the last one that is not free.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// The length in pages that the file must keep for the present, and for the checkpoint under
    /// way. The latter may count pages that a transaction has given back since.
    pub(crate) fn kept_end(&self) -> u32 {
        self.end.max(self.planned_end)
    }

    /// The number of free pages below the end.
    pub(crate) fn free(&self) -> u32 {
        self.free
    }

    pub(crate) fn tree(&self) -> &SpaceTree {
        &self.tree
    }

    /// The new tree is durable.
    pub(crate) fn set_tree(&mut self, tree: SpaceTree) {
        self.planned_end = 0;
        self.tree = tree;
    }

    fn place(&self, page: PageNumber) -> (usize, usize, u64) {
        let bit = page % self.bits;
        (
            (page / self.bits) as usize,
            (bit / 64) as usize,
            1 << (bit % 64),
        )
    }

    /// Pages of the chunk that lie below the end.
    fn coverage(&self, chunk: usize) -> u32 {
        let start = chunk as u64 * u64::from(self.bits);
        u64::from(self.end)
            .saturating_sub(start)
            .min(u64::from(self.bits)) as u32
    }

    fn busy_count(&self, chunk: usize) -> u32 {
        match self.chunks.get(chunk) {
            Some(c) if c.used.is_some() => c.busy.count(),
            _ => self
                .tree
                .levels
                .first()
                .and_then(|level| level.get(chunk))
                .map_or(0, |entry| entry.used),
        }
    }

    fn load(&mut self, pager: &Pager, index: usize) -> Result<()> {
        if self.chunks.get(index).is_none_or(|c| c.used.is_some()) {
            return Ok(());
        }
        let words = read_bitmap(pager, &self.tree, index, self.bits)?;
        if let Some(chunk) = self.chunks.get_mut(index) {
            chunk.busy = Busy::new(words.clone());
            chunk.used = Some(words.into());
        }
        Ok(())
    }

    /// Whether all of a chunk is free, and was when the file was opened: there is no need to look at its pages.
    fn is_void(&self, index: usize) -> bool {
        let is_loaded = self
            .chunks
            .get(index)
            .is_none_or(|chunk| chunk.used.is_some());
        let entry = self.tree.levels.first().and_then(|level| level.get(index));
        !is_loaded && entry.is_some_and(|entry| entry.used == 0)
    }

    fn is_busy(&self, page: PageNumber) -> bool {
        let (chunk, word, bit) = self.place(page);
        self.chunks
            .get(chunk)
            .and_then(|c| c.busy.word(word))
            .is_none_or(|w| w & bit != 0)
    }

    /// Word by word: there are 32,512 pages to a bitmap.
    fn first_busy(&self, pages: Range<PageNumber>) -> Option<PageNumber> {
        let mut from = pages.start;
        while from < pages.end {
            let (chunk, word, bit) = self.place(from);
            let word = self.chunks.get(chunk).and_then(|c| c.busy.word(word));
            let left = word.unwrap_or(u64::MAX) & !(bit - 1);
            if left != 0 {
                let skipped = left.trailing_zeros() - bit.trailing_zeros();
                return Some(from + skipped).filter(|page| *page < pages.end);
            }
            from = from.saturating_add(64 - bit.trailing_zeros());
        }
        None
    }

    /// Adds chunks so that pages below `end` have one, and moves the end.
    fn extend(&mut self, end: u32) {
        let words = self.bits as usize / 64;
        let chunks = end.div_ceil(self.bits) as usize;
        // Behind the present end nothing is used. A chunk there that is not loaded would not keep what is marked in it.
        let behind = self.end.div_ceil(self.bits) as usize;
        for chunk in self.chunks.iter_mut().take(chunks).skip(behind) {
            if chunk.used.is_none() {
                *chunk = Chunk::empty(words);
            }
        }
        while self.chunks.len() < chunks {
            self.chunks.push(Chunk::empty(words));
        }
        self.end = end;
    }

    /// Marks a page of a loaded chunk busy. Says whether it was free.
    fn set_busy(&mut self, page: PageNumber) -> bool {
        let (chunk, word, bit) = self.place(page);
        let chunk = self.chunks.get_mut(chunk);
        chunk.is_some_and(|chunk| chunk.busy.set(word, bit))
    }

    /// One page, the lowest that is free.
    pub(crate) fn allocate(&mut self, pager: &Pager) -> Result<PageNumber> {
        if self.free > 0 {
            let start = (self.lowest / self.bits) as usize;
            for chunk in start..self.chunks.len() {
                if self.busy_count(chunk) >= self.coverage(chunk) {
                    continue;
                }
                self.load(pager, chunk)?;
                if let Some(page) = self.lowest_free_in(chunk) {
                    self.set_busy(page);
                    self.free -= 1;
                    self.lowest = page + 1;
                    return Ok(page);
                }
            }
        }
        self.append(1)
    }

    fn lowest_free_in(&self, index: usize) -> Option<PageNumber> {
        let base = index as u32 * self.bits;
        let from = self.lowest.saturating_sub(base).min(self.bits);
        let chunk = self.chunks.get(index)?;
        let page = base + chunk.busy.first_free(from as usize / 64)?;
        (page < self.end).then_some(page)
    }

    /// Pages at the end of the file.
    fn append(&mut self, pages: u32) -> Result<PageNumber> {
        let first = self.end;
        // The last page number is kept free, so that ends and sums stay inside 32 bits.
        let Some(end) = first.checked_add(pages).filter(|end| *end < u32::MAX) else {
            return Err(Error::FileFull {
                pages: u64::from(u32::MAX),
            });
        };
        self.extend(end);
        for page in first..end {
            self.set_busy(page);
        }
        if self.free == 0 {
            self.lowest = end;
        }
        Ok(first)
    }

    /// Pages at the end of the file, long runs at a round place (invariant 6). What is left out before
    /// it is free.
    fn append_run(&mut self, pages: u32) -> Result<PageNumber> {
        let before = self.end;
        let first = before.checked_next_multiple_of(self.alignment(pages));
        let Some(first) = first.filter(|first| *first < u32::MAX - pages) else {
            return self.append(pages);
        };
        self.extend(first);
        self.free += first - before;
        self.append(pages)
    }

    fn alignment(&self, pages: u32) -> u32 {
        let stream = (STREAM_BYTES / u64::from(self.page_size)) as u32;
        if pages.is_multiple_of(stream) {
            return stream;
        }
        // An eighth, so that no more than an eighth is left out.
        let eighth = (pages / 8).checked_ilog2().map_or(1, |log2| 1 << log2);
        eighth.min(MAX_ALIGN_PAGES)
    }

    /// Contiguous pages.
    pub(crate) fn allocate_run(&mut self, pager: &Pager, pages: u32) -> Result<PageNumber> {
        if pages <= 1 {
            return self.allocate(pager);
        }
        let from = self.floors.of(pages).max(self.lowest);
        let found = if self.free >= pages {
            self.find_run(pager, pages, from)?
        } else {
            None
        };
        self.floors.raise(pages, found.unwrap_or(self.end));
        let Some(first) = found else {
            return self.append_run(pages);
        };
        for page in first..first + pages {
            self.set_busy(page);
        }
        self.free -= pages;
        Ok(first)
    }

    /// The first free pages side by side, so many, at or behind `from`. Goes by words: bit by bit, a file with gaps of a
    /// page everywhere took 4 ns for each of its pages, with every value of several pages.
    fn find_run(&mut self, pager: &Pager, pages: u32, from: u32) -> Result<Option<PageNumber>> {
        let mut at = from;
        // Where the free pages begin that end at `at`.
        let mut start = from;
        while at < self.end {
            let index = (at / self.bits) as usize;
            if self.busy_count(index) >= self.coverage(index) {
                at = (index as u32 + 1).saturating_mul(self.bits);
                start = at;
                continue;
            }
            self.load(pager, index)?;
            let (_, word, bit) = self.place(at);
            let word = self.chunks.get(index).and_then(|c| c.busy.word(word));
            // What is in front of `at` was not asked for.
            let busy = word.unwrap_or(u64::MAX) | (bit - 1);
            let base = at - bit.trailing_zeros();
            at = base.saturating_add(64);
            let free_up_to = base.saturating_add(busy.trailing_zeros()).min(self.end);
            if free_up_to.saturating_sub(start) >= pages {
                return Ok(Some(start));
            }
            if busy == 0 {
                continue;
            }
            let within = beginnings(!busy, pages);
            let first = base.saturating_add(within.trailing_zeros());
            if within != 0 && self.end.saturating_sub(first) >= pages {
                return Ok(Some(first));
            }
            start = at.saturating_sub(busy.leading_zeros());
        }
        Ok(None)
    }

    /// Takes pages at a given place: a run that the log refers to.
    pub(crate) fn reserve(&mut self, pager: &Pager, first: PageNumber, pages: u32) -> Result<()> {
        let end = first.saturating_add(pages);
        if first < 2 || end == u32::MAX {
            let fault = Fault::new(
                "the log refers to a run outside of the file",
                0,
                2,
                u64::from(first),
            );
            return Err(pager.corrupt(first, fault));
        }
        if end > self.end {
            self.free += end - self.end;
            self.extend(end);
        }
        for page in first..end {
            self.load(pager, (page / self.bits) as usize)?;
            // Nothing that the log names is used again before the next checkpoint.
            if !self.set_busy(page) {
                let what = "the log refers to a run whose pages are in use";
                return Err(pager.corrupt(first, Fault::new(what, 0, 0, u64::from(page))));
            }
            self.free -= 1;
        }
        Ok(())
    }

    /// Nobody can see the pages any more: they can be allocated again.
    pub(crate) fn release(&mut self, pager: &Pager, first: PageNumber, pages: u32) -> Result<()> {
        for page in first..first.saturating_add(pages) {
            let (index, word, bit) = self.place(page);
            self.load(pager, index)?;
            let Some(chunk) = self.chunks.get_mut(index) else {
                continue;
            };
            self.free += u32::from(chunk.busy.clear(word, bit));
        }
        self.lowest = self.lowest.min(first);
        let behind = first.saturating_add(pages);
        let beside = (self.free_before(first), self.free_from(behind));
        self.floors.lower(first, pages, beside);
        if behind >= self.end {
            self.trim(pager)?;
        }
        Ok(())
    }

    /// How many pages in front of this one are free. `None`: many, or those up to where its chunk begins.
    fn free_before(&self, page: PageNumber) -> Option<u32> {
        let (chunk, word, bit) = self.place(page);
        let busy = &self.chunks.get(chunk)?.busy;
        let here = bit.trailing_zeros();
        let below = busy.word(word)? & (bit - 1);
        if below != 0 {
            return (here + below.leading_zeros()).checked_sub(u64::BITS);
        }
        let before = busy.word(word.checked_sub(1)?)?;
        (before != 0).then(|| here + before.leading_zeros())
    }

    /// How many pages from this one on are free. `None`: many, or those up to where its chunk ends.
    fn free_from(&self, page: PageNumber) -> Option<u32> {
        let (chunk, word, bit) = self.place(page);
        let busy = &self.chunks.get(chunk)?.busy;
        let here = bit.trailing_zeros();
        let from = busy.word(word)? >> here;
        if from != 0 {
            return Some(from.trailing_zeros());
        }
        let behind = busy.word(word + 1)?;
        (behind != 0).then(|| u64::BITS - here + behind.trailing_zeros())
    }

    /// Moves the end down over free pages (invariant 5).
    fn trim(&mut self, pager: &Pager) -> Result<()> {
        while self.end > 2 {
            let last = self.end - 1;
            let index = last / self.bits;
            if self.is_void(index as usize) {
                let start = (index * self.bits).max(2);
                self.free -= self.end - start;
                self.end = start;
                continue;
            }
            self.load(pager, index as usize)?;
            if self.is_busy(last) {
                break;
            }
            self.end = last;
            self.free -= 1;
        }
        self.lowest = self.lowest.min(self.end);
        Ok(())
    }

    /// The newest committed state uses these pages, or stops to.
    pub(crate) fn set_used(
        &mut self,
        pager: &Pager,
        first: PageNumber,
        pages: u32,
        used: bool,
    ) -> Result<()> {
        for page in first..first.saturating_add(pages) {
            let index = (page / self.bits) as usize;
            self.load(pager, index)?;
            self.flip_used(page, used);
            if let Some(chunk) = self.chunks.get_mut(index) {
                chunk.dirty = true;
            }
        }
        Ok(())
    }

    fn flip_used(&mut self, page: PageNumber, used: bool) {
        let (chunk, word, bit) = self.place(page);
        if let Some(words) = self.chunks.get_mut(chunk).and_then(|c| c.used.as_mut()) {
            flip(words, word, bit, used);
        }
    }

    /// Calls `visit` for every page that is used, busy or both, below the end.
    pub(crate) fn for_each(
        &mut self,
        pager: &Pager,
        mut visit: impl FnMut(PageNumber, bool, bool),
    ) -> Result<()> {
        for index in 0..self.end.div_ceil(self.bits) {
            if self.is_void(index as usize) {
                continue;
            }
            self.load(pager, index as usize)?;
            let Some(chunk) = self.chunks.get(index as usize) else {
                continue;
            };
            for word in 0..self.bits / 64 {
                let used = chunk.used.as_ref();
                let used = used.and_then(|used| used.get(word as usize).copied());
                let (used, busy) = (
                    used.unwrap_or(0),
                    chunk.busy.word(word as usize).unwrap_or(0),
                );
                let mut left = used | busy;
                while left != 0 {
                    let bit = left & left.wrapping_neg();
                    left ^= bit;
                    let page = index * self.bits + word * 64 + bit.trailing_zeros();
                    if page < self.end {
                        visit(page, used & bit != 0, busy & bit != 0);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Bits from which on so many are set.
fn beginnings(mut bits: u64, count: u32) -> u64 {
    if count > u64::BITS {
        return 0;
    }
    let mut known = 1;
    while known < count {
        let step = known.min(count - known);
        bits &= bits >> step;
        known += step;
    }
    bits
}

fn count_ones(words: &[u64]) -> u32 {
    words.iter().map(|w| w.count_ones()).sum()
}

fn flip(words: &mut Arc<[u64]>, word: usize, bit: u64, set: bool) {
    if let Some(word) = Arc::make_mut(words).get_mut(word) {
        if set {
            *word |= bit;
        } else {
            *word &= !bit;
        }
    }
}
