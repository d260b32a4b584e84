//! Memory for frames, in blocks of the size of a huge page.
//!
//! Frames lie scattered over the memory that a cache has. With the system's pages of 4 KiB nearly
//! every step down a tree also waits for the processor to look up where its page is: random reads
//! of a million entries took 1.2 µs with huge pages, and 2.1 µs without, in the same hour.
//!
//! But memory is not asked for as huge pages. Where the machine is a guest whose host takes back what
//! is free, a fresh huge page is always such memory: its first touch took 8 to 11 µs for each 4 KiB,
//! all at once and within somebody's commit, where that of a small page took 1.6 to 2.1. (A load of a
//! million entries in order: 1.10 s with huge pages from the start, 0.45 s without.) So a thread with
//! nothing else to do makes blocks ready ahead of their use ([`Arena::supply`]): as huge pages while
//! somebody fills many frames ([`Arena::begin_burst`]), if it is in good time, and piece by piece with
//! small ones else, because the system holds a lock while it makes a huge page ready, and small commits
//! beside it would wait. (A load in order took 0.31 s with huge pages for all, and 0.23 s in this way.)
//! What that thread is too late for begins with small pages too, and the system is told that it may put
//! them together once the block is full.
//!
//! Who can do without new memory for a moment, as a reader whom the map of the file serves can, takes only places
//! whose memory is there ([`Arena::take_ready`]), and asks for more of them by it.
//!
//! # Invariants
//!
//! 1. A place is given to one owner at a time, who gives it back with the block that it came from.
//! 2. Blocks are never unmapped, so a place stays an address. Memory of empty blocks goes back to the
//!    system, but for a part that is kept for the next frames.
//! 3. A block is offered for a huge page only when all its memory was touched anyway, or where so many
//!    blocks are in use that this is a small part of them: a small database takes no more memory than
//!    it uses.
//! 4. A place that is said to be ready was in use since its block last got memory, or its block was made ready as a
//!    whole. (Some that a thread took and gave back unused are said to be: that costs time, and nothing else.)
//! 5. A child that `fork` makes has the arenas as they are between two calls: the thread that forks has their locks meanwhile.
#![allow(unsafe_code)] // places in mapped memory

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::locks::{Condvar, Mutex, MutexGuard};

/// The size of a huge page on most machines; elsewhere blocks are as good as any.
const BLOCK_BYTES: usize = 2 << 20;
/// So many blocks are mapped at once at the most: the system keeps a record of each mapping.
const MAX_REGION_BLOCKS: usize = 16;
/// Empty blocks that keep their memory: a part of those in use, within limits. The frames that a
/// checkpoint sets free are needed again before the next one, and memory that was given back has to
/// be cleared again, within somebody's commit: with two such blocks the slowest thousandth of commits
/// took 38 times the median.
const MIN_KEPT: usize = 2;
const MAX_KEPT: usize = 64;
const KEPT_PART: usize = 4;
/// Blocks whose memory is made ready ahead of its use: a part of those in use, within a limit. Less than
/// are kept, so that they are not given back at once.
const AHEAD_PART: usize = 8;
const MAX_AHEAD: usize = 8;
/// So much of a block of small pages is made ready at once.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))] // others are not asked ahead
const PIECE_BYTES: usize = 128 << 10;

/// Memory for one frame, not initialised.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub start: NonNull<u8>,
    /// The block that it is in.
    pub block: u32,
    /// Its memory is there: it was used before, or made ready.
    pub is_ready: bool,
}

#[derive(Debug)]
struct Block {
    region: usize,
    /// Where in the region it starts.
    offset: usize,
    start: NonNull<u8>,
    /// Places that were given back.
    free: Vec<u16>,
    /// How many places were ever given out since the block was last empty, from the front.
    fresh: usize,
    /// How many places have memory, from the front.
    ready: usize,
    /// The system was told that it may be one huge page (invariant 3).
    may_be_huge: bool,
    /// It stands in `full`, once.
    is_listed: bool,
}

impl Block {
    fn used(&self) -> usize {
        self.fresh - self.free.len()
    }

    fn has_ready(&self) -> bool {
        !self.free.is_empty() || self.fresh < self.ready
    }

    /// Invariant 3. Without huge pages everything works, only slower.
    fn offer_huge_page(&mut self, regions: &[Arc<MmapRaw>], offered: bool) {
        if self.may_be_huge == offered {
            return;
        }
        self.may_be_huge = offered;
        #[cfg(target_os = "linux")]
        if let Some(region) = regions.get(self.region) {
            let advice = match offered {
                true => memmap2::Advice::HugePage,
                false => memmap2::Advice::NoHugePage,
            };
            let _ = region.advise_range(advice, self.offset, BLOCK_BYTES);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = regions;
    }
}

/// All frames of one size, of all databases of the process.
#[derive(Debug)]
struct Blocks {
    regions: Vec<Arc<MmapRaw>>,
    blocks: Vec<Block>,
    /// Blocks that have memory, and places left.
    available: Vec<u32>,
    /// How many of those are empty.
    empty: usize,
    /// Empty blocks without memory.
    bare: Vec<u32>,
    /// Blocks that are not empty.
    in_use: usize,
    /// There are no more addresses.
    is_exhausted: bool,
    /// Blocks that are to be offered for huge pages. Not by who filled them: the system makes such a call
    /// wait while another thread gets memory.
    full: Vec<u32>,
    /// How many fill many frames now.
    bursts: usize,
    /// Somebody went without a place whose memory is there.
    is_wanted: bool,
    /// The system gives memory before its first use.
    makes_ready: bool,
    /// How many threads supply.
    suppliers: usize,
}

// SAFETY: the pointers are to mappings that live as long as the process (invariant 2); they are
// only computed with here, under a lock.
unsafe impl Send for Blocks {}

/// Memory for frames of one size.
#[derive(Debug)]
pub(super) struct Arena {
    place_bytes: usize,
    blocks: Mutex<Blocks>,
    /// Whether to ask for a place whose memory is there is worth the lock.
    may_have_ready: AtomicBool,
    /// There is something to do for those who [`supply`](Self::supply).
    has_work: Condvar,
}

impl Arena {
    /// `place_bytes` is a multiple of the alignment that is wanted, and much less than a block.
    pub(super) const fn new(place_bytes: usize) -> Self {
        Arena {
            place_bytes,
            blocks: Mutex::new(Blocks {
                regions: Vec::new(),
                blocks: Vec::new(),
                available: Vec::new(),
                empty: 0,
                bare: Vec::new(),
                in_use: 0,
                is_exhausted: false,
                full: Vec::new(),
                bursts: 0,
                is_wanted: false,
                makes_ready: cfg!(target_os = "linux"),
                suppliers: 0,
            }),
            may_have_ready: AtomicBool::new(true),
            has_work: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock()
    }

    /// Keeps all others out until the answer is dropped.
    pub(super) fn hold(&self) -> Held<'_> {
        Held(self.lock())
    }

    /// Puts up to `count` places into `places`; fewer, or none, if there is no memory.
    pub(super) fn take(&self, count: usize, places: &mut Vec<Place>) {
        let mut blocks = self.lock();
        for _ in 0..count {
            match blocks.take(self.place_bytes) {
                Some(place) => places.push(place),
                None => break,
            }
        }
        if blocks.is_short() {
            self.has_work.notify_one();
        }
    }

    /// The same for places whose memory is there. `false`: there are none, and there will be some soon. Where nobody makes
    /// memory ready, those that there are have to do.
    pub(super) fn take_ready(&self, count: usize, places: &mut Vec<Place>) -> bool {
        let mut blocks = self.lock();
        if blocks.suppliers == 0 || !blocks.makes_ready {
            drop(blocks);
            if places.is_empty() {
                self.take(count, places);
            }
            return !places.is_empty();
        }
        let before = places.len();
        let next = || blocks.take_ready(self.place_bytes);
        places.extend(std::iter::from_fn(next).take(count));
        let has_some = places.len() > before;
        if !has_some {
            blocks.is_wanted = true;
            self.may_have_ready.store(false, Ordering::Relaxed);
        }
        if blocks.is_short() {
            self.has_work.notify_one();
        }
        has_some
    }

    /// Whether [`take_ready`](Self::take_ready) may find some.
    #[inline]
    pub(super) fn may_have_ready(&self) -> bool {
        self.may_have_ready.load(Ordering::Relaxed)
    }

    /// Called with the lock.
    fn note_ready(&self) {
        // Read first: the line stays shared between the cores.
        if !self.may_have_ready() {
            self.may_have_ready.store(true, Ordering::Relaxed);
        }
    }

    /// Makes memory ready before it is needed, on a thread that may wait, until told to stop: the first
    /// touch of fresh memory is a third of what a load in order costs.
    pub(super) fn supply(&self, is_over: &AtomicBool) {
        let mut blocks = self.lock();
        blocks.suppliers += 1;
        while !is_over.load(Ordering::Relaxed) {
            if let Some((number, memory)) = blocks.take_surplus() {
                drop(blocks);
                memory.give_back();
                blocks = self.lock();
                blocks.bare.push(number);
            } else if !blocks.is_short() {
                blocks.offer_full();
                blocks = self.has_work.wait(blocks);
            } else if let Some((number, memory)) = blocks.take_bare() {
                drop(blocks);
                let is_ready = memory.touch();
                blocks = self.lock();
                blocks.is_wanted = false;
                blocks.makes_ready &= is_ready;
                if is_ready && let Some(block) = blocks.blocks.get_mut(number as usize) {
                    block.ready = BLOCK_BYTES / self.place_bytes;
                }
                self.note_ready();
                // In front: it is the last that is needed.
                blocks.available.insert(0, number);
                blocks.empty += 1;
            }
        }
        blocks.suppliers -= 1;
        if blocks.suppliers == 0 {
            blocks.strip();
            self.note_ready();
        }
    }

    /// Somebody is going to fill many frames, until [`end_burst`](Self::end_burst).
    pub(super) fn begin_burst(&self) {
        self.lock().bursts += 1;
    }

    pub(super) fn end_burst(&self) {
        let mut blocks = self.lock();
        blocks.bursts = blocks.bursts.saturating_sub(1);
    }

    /// Makes all who supply look whether they should stop.
    pub(super) fn wake_suppliers(&self) {
        // Not between their look and their wait.
        drop(self.lock());
        self.has_work.notify_all();
    }

    /// Takes back places that `take` gave, and that nobody uses any more (invariant 1).
    pub(super) fn give_back(&self, places: impl Iterator<Item = Place>) {
        let mut blocks = self.lock();
        for place in places {
            blocks.give_back(place, self.place_bytes);
        }
        self.note_ready();
        if blocks.has_surplus() {
            self.has_work.notify_one();
        }
    }
}

/// See [`Arena::hold`].
pub(super) struct Held<'a>(MutexGuard<'a, Blocks>);

impl Held<'_> {
    /// In the child of a fork none of those is there who supply, or fill many frames.
    pub(super) fn forget_others(&mut self) {
        (self.0.suppliers, self.0.bursts) = (0, 0);
    }
}

impl Blocks {
    fn take(&mut self, place_bytes: usize) -> Option<Place> {
        if self.available.is_empty() {
            self.furnish()?;
        }
        self.take_from(self.available.len().checked_sub(1)?, place_bytes)
    }

    /// A place whose memory is there.
    fn take_ready(&mut self, place_bytes: usize) -> Option<Place> {
        let has_ready = |number: &u32| {
            let block = self.blocks.get(*number as usize);
            block.is_some_and(Block::has_ready)
        };
        // Few are passed: what has no memory comes in when nothing is available.
        let index = self.available.iter().rposition(has_ready)?;
        self.take_from(index, place_bytes)
    }

    /// A place in one of the blocks that are available.
    fn take_from(&mut self, available: usize, place_bytes: usize) -> Option<Place> {
        let number = *self.available.get(available)?;
        let block = self.blocks.get_mut(number as usize)?;
        if block.used() == 0 {
            self.empty = self.empty.saturating_sub(1);
            self.in_use += 1;
        }
        let is_ready = block.has_ready();
        let index = match block.free.pop() {
            Some(index) => usize::from(index),
            None => {
                block.fresh += 1;
                block.ready = block.ready.max(block.fresh);
                block.fresh - 1
            }
        };
        if block.used() == BLOCK_BYTES / place_bytes {
            self.available.remove(available);
            if !block.may_be_huge && !std::mem::replace(&mut block.is_listed, true) {
                self.full.push(number);
            }
        }
        // SAFETY: `index` is below the number of places of a block, so the place lies in it.
        let start = unsafe { block.start.add(index * place_bytes) };
        Some(Place {
            start,
            block: number,
            is_ready,
        })
    }

    /// So many blocks should be ready.
    fn ahead(&self) -> usize {
        (self.in_use / AHEAD_PART).min(MAX_AHEAD)
    }

    /// Whether memory should be made ready.
    fn is_short(&self) -> bool {
        let is_short = self.is_wanted || self.empty < self.ahead();
        is_short && !(self.bare.is_empty() && self.is_exhausted)
    }

    fn offer_full(&mut self) {
        for number in std::mem::take(&mut self.full) {
            let Some(block) = self.blocks.get_mut(number as usize) else {
                continue;
            };
            block.is_listed = false;
            if block.used() > 0 {
                block.offer_huge_page(&self.regions, true);
            }
        }
    }

    /// A block without memory, which is to get some.
    fn take_bare(&mut self) -> Option<(u32, BlockMemory)> {
        if self.bare.is_empty() {
            self.grow();
        }
        let Some(number) = self.bare.pop() else {
            self.is_exhausted = true;
            return None;
        };
        self.memory(number, self.bursts > 0 && self.empty * 2 >= self.ahead())
    }

    /// The memory of a block that nobody uses, which is to be huge pages or not.
    fn memory(&mut self, number: u32, is_huge: bool) -> Option<(u32, BlockMemory)> {
        let block = self.blocks.get_mut(number as usize)?;
        block.offer_huge_page(&self.regions, is_huge);
        let memory = BlockMemory {
            region: self.regions.get(block.region)?.clone(),
            offset: block.offset,
            is_huge,
        };
        Some((number, memory))
    }

    /// Makes a block available that gets its memory when it is used.
    fn furnish(&mut self) -> Option<()> {
        if self.bare.is_empty() {
            self.grow();
        }
        self.available.push(self.bare.pop()?);
        self.empty += 1;
        Some(())
    }

    fn give_back(&mut self, place: Place, place_bytes: usize) {
        let Some(block) = self.blocks.get_mut(place.block as usize) else {
            return;
        };
        if block.used() == BLOCK_BYTES / place_bytes {
            self.available.push(place.block);
        }
        let offset = place.start.as_ptr() as usize - block.start.as_ptr() as usize;
        block.free.push((offset / place_bytes) as u16);
        if block.used() > 0 {
            return;
        }
        block.free.clear();
        block.fresh = 0;
        self.empty += 1;
        self.in_use = self.in_use.saturating_sub(1);
        // The system may make that wait, so it is for a thread that may wait, where there is one.
        if self.suppliers == 0 {
            self.strip();
        }
    }

    /// Gives the memory of empty blocks back to the system, but for a part of them.
    fn strip(&mut self) {
        while let Some((number, memory)) = self.take_surplus() {
            memory.give_back();
            self.bare.push(number);
        }
    }

    fn has_surplus(&self) -> bool {
        self.empty > (self.in_use / KEPT_PART).clamp(MIN_KEPT, MAX_KEPT)
    }

    /// An empty block of which there are too many, which is to be bare.
    fn take_surplus(&mut self) -> Option<(u32, BlockMemory)> {
        if !self.has_surplus() {
            return None;
        }
        let is_empty = |number: &u32| {
            let block = self.blocks.get(*number as usize);
            block.is_some_and(|block| block.used() == 0)
        };
        let position = self.available.iter().position(is_empty)?;
        let number = self.available.remove(position);
        self.empty -= 1;
        self.blocks.get_mut(number as usize)?.ready = 0;
        self.memory(number, false)
    }

    /// Maps more blocks, twice as many as before, up to [`MAX_REGION_BLOCKS`].
    fn grow(&mut self) {
        let count = self.blocks.len().clamp(1, MAX_REGION_BLOCKS);
        // One more for what lies before the first multiple of a block's size.
        let mut options = MmapOptions::new();
        options.len((count + 1) * BLOCK_BYTES).no_reserve_swap();
        let Ok(region) = options.map_anon() else {
            return;
        };
        let region = Arc::new(MmapRaw::from(region));
        let skipped = region.as_mut_ptr().align_offset(BLOCK_BYTES);
        #[cfg(target_os = "linux")]
        {
            // Where the system makes all memory huge unless it is told not to (invariant 3).
            let _ = region.advise_range(memmap2::Advice::NoHugePage, skipped, count * BLOCK_BYTES);
        }
        for index in (0..count).rev() {
            let offset = skipped + index * BLOCK_BYTES;
            // SAFETY: `skipped` is less than a block, and the region has `count + 1` of them.
            let start = unsafe { region.as_mut_ptr().add(offset) };
            let Some(start) = NonNull::new(start) else {
                return;
            };
            self.bare.push(self.blocks.len() as u32);
            self.blocks.push(Block {
                region: self.regions.len(),
                offset,
                start,
                free: Vec::new(),
                fresh: 0,
                ready: 0,
                may_be_huge: false,
                is_listed: false,
            });
        }
        self.regions.push(region);
    }
}

/// The memory of a block that stands in no list: nobody else uses it.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))] // as above; on Windows it is not given back, either
struct BlockMemory {
    region: Arc<MmapRaw>,
    offset: usize,
    is_huge: bool,
}

impl BlockMemory {
    /// Lets the system give it, and says whether it did. Where it cannot, the first use does.
    fn touch(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            let step = if self.is_huge {
                BLOCK_BYTES
            } else {
                PIECE_BYTES
            };
            let advice = memmap2::Advice::PopulateWrite;
            let mut pieces = (self.offset..self.offset + BLOCK_BYTES).step_by(step);
            pieces.all(|offset| self.region.advise_range(advice, offset, step).is_ok())
        }
        #[cfg(not(target_os = "linux"))]
        false
    }

    fn give_back(&self) {
        #[cfg(unix)]
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the block has no place in use, and is in no list that places are taken from, so no
            // byte of it is anything to anybody. If the advice is refused, the memory stays, which costs
            // only memory.
            let _ = unsafe {
                self.region
                    .unchecked_advise_range(advice, self.offset, BLOCK_BYTES)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const PLACE_BYTES: usize = 64 + 4096;
    const PLACES: usize = BLOCK_BYTES / PLACE_BYTES;

    fn take(arena: &Arena, count: usize) -> Vec<Place> {
        let mut places = Vec::new();
        arena.take(count, &mut places);
        assert_eq!(places.len(), count);
        places
    }

    /// Invariant 1.
    #[test]
    fn places_do_not_overlap_and_come_back() {
        let arena = Arena::new(PLACE_BYTES);
        let mut places = take(&arena, 5 * PLACES / 2);
        for round in 0..20 {
            let starts: BTreeSet<usize> =
                places.iter().map(|p| p.start.as_ptr() as usize).collect();
            assert_eq!(starts.len(), places.len());
            let mut pairs = starts.iter().zip(starts.iter().skip(1));
            assert!(pairs.all(|(a, b)| b - a >= PLACE_BYTES));
            assert!(starts.iter().all(|start| start % 64 == 0));
            for place in &places {
                // SAFETY: a place is owned memory of `PLACE_BYTES`.
                unsafe { place.start.write_bytes(round, PLACE_BYTES) };
            }
            let kept = places.split_off(places.len() * usize::from(round % 3) / 3);
            arena.give_back(std::mem::replace(&mut places, kept).into_iter());
            places.extend(take(&arena, 5 * PLACES / 2 - places.len()));
        }
        let blocks = arena.lock().blocks.len();
        assert!(blocks <= 4, "{blocks} blocks for less than three full ones");
    }

    #[test]
    fn memory_is_ready_ahead_of_its_use() {
        let arena = Arena::new(PLACE_BYTES);
        let is_over = AtomicBool::new(false);
        let empty = || arena.lock().empty;
        std::thread::scope(|scope| {
            let supplier = scope.spawn(|| arena.supply(&is_over));
            let mut places = take(&arena, (AHEAD_PART - 1) * PLACES);
            assert_eq!(empty(), 0, "few blocks have nothing ahead of them");
            places.extend(take(&arena, (AHEAD_PART + 1) * PLACES));
            while empty() < 2 {
                std::thread::yield_now();
            }
            let mut more = take(&arena, 2 * PLACES);
            more.append(&mut places);
            let starts: BTreeSet<_> = more.iter().map(|place| place.start).collect();
            assert_eq!(starts.len(), more.len(), "a place is given once");
            is_over.store(true, Ordering::Relaxed);
            arena.wake_suppliers();
            supplier.join().unwrap();
            arena.give_back(more.into_iter());
        });
    }

    /// Invariant 4.
    #[cfg(target_os = "linux")]
    #[test]
    fn who_can_wait_gets_memory_that_is_there_and_causes_more_of_it() {
        let arena = Arena::new(PLACE_BYTES);
        let take_ready = |count| {
            let mut places = Vec::new();
            let are_there = arena.take_ready(count, &mut places);
            assert_eq!(are_there, !places.is_empty());
            places
        };
        // Nobody makes any ready.
        let mut places = take_ready(3);
        assert_eq!(places.iter().filter(|place| place.is_ready).count(), 0);
        assert!(arena.take_ready(3, &mut places) && places.len() == 3);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let supplier = scope.spawn(|| arena.supply(&is_over));
            while arena.lock().suppliers == 0 {
                std::thread::yield_now();
            }
            assert!(take_ready(5).is_empty());
            while !arena.may_have_ready() {
                std::thread::yield_now();
            }
            let whole = take_ready(PLACES + 5);
            assert_eq!(whole.len(), PLACES, "a block");
            let others = take(&arena, 2);
            assert!(others.iter().all(|place| !place.is_ready));
            // What was in use is ready too.
            let start = places[0].start;
            arena.give_back(places.drain(..));
            assert!(arena.may_have_ready());
            let again = take_ready(3);
            assert!(again.iter().any(|place| place.start == start));
            for place in again.iter().chain(&whole) {
                assert!(place.is_ready);
            }
            is_over.store(true, Ordering::Relaxed);
            arena.wake_suppliers();
            supplier.join().unwrap();
            assert!(arena.may_have_ready());
        });
    }

    /// Huge pages take long to make: only while many frames are filled, and if that is in time.
    #[test]
    fn memory_is_huge_in_a_burst_and_in_good_time() {
        let arena = Arena::new(PLACE_BYTES);
        let _places = take(&arena, 4 * AHEAD_PART * PLACES);
        let ready = |in_time: bool| {
            let mut blocks = arena.lock();
            assert_eq!((blocks.empty, blocks.ahead()), (0, 4));
            blocks.empty = if in_time { 2 } else { 1 };
            let (number, memory) = blocks.take_bare().unwrap();
            blocks.empty = 0;
            blocks.bare.push(number);
            memory.is_huge
        };
        assert!(!ready(true));
        arena.begin_burst();
        assert!(ready(true));
        assert!(!ready(false));
        arena.end_burst();
        assert!(!ready(true));
    }

    #[test]
    fn who_supplies_memory_gives_it_back_too() {
        let arena = Arena::new(PLACE_BYTES);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| arena.supply(&is_over));
            let places = take(&arena, 6 * PLACES);
            arena.give_back(places.into_iter());
            while arena.lock().empty > MIN_KEPT {
                std::thread::yield_now();
            }
            // Also what it finds when it ends.
            let places = take(&arena, 6 * PLACES);
            is_over.store(true, Ordering::Relaxed);
            arena.give_back(places.into_iter());
            arena.wake_suppliers();
        });
        let blocks = arena.lock();
        assert_eq!(blocks.bare.len() + MIN_KEPT, blocks.blocks.len());
    }

    /// The list does not grow where nobody supplies.
    #[test]
    fn a_block_that_is_full_again_is_listed_once() {
        let arena = Arena::new(PLACE_BYTES);
        let mut places = take(&arena, 3 * PLACES);
        for _ in 0..100 {
            arena.give_back(places.drain(PLACES..));
            places.extend(take(&arena, 2 * PLACES));
        }
        let blocks = arena.lock();
        assert!(blocks.full.len() <= blocks.blocks.len());
    }

    /// Invariant 2.
    #[test]
    fn empty_blocks_give_their_memory_back_and_are_used_again() {
        let arena = Arena::new(PLACE_BYTES);
        let places = take(&arena, 6 * PLACES);
        let blocks = arena.lock().blocks.len();
        // SAFETY: a place is owned memory of `PLACE_BYTES`.
        let write = |place: &Place| unsafe { place.start.write_bytes(1, PLACE_BYTES) };
        places.iter().for_each(write);
        let first = places[0];
        arena.give_back(places.into_iter());
        let has = |empty, bare, in_use| {
            let now = arena.lock();
            assert_eq!(
                (now.empty, now.bare.len(), now.in_use),
                (empty, bare, in_use)
            );
            assert_eq!(now.blocks.len(), blocks);
        };
        has(MIN_KEPT, blocks - MIN_KEPT, 0);
        let places = take(&arena, 6 * PLACES);
        has(0, blocks - 6, 6);
        let ready = places.iter().filter(|place| place.is_ready).count();
        assert_eq!(ready, MIN_KEPT * PLACES, "what was kept");
        let is_first = |place: &&Place| place.start == first.start;
        let again = places.iter().find(is_first).unwrap();
        // SAFETY: as above; memory of a mapping is initialised.
        let byte = unsafe { again.start.read() };
        assert!(byte <= 1);
        places.iter().for_each(write);
    }
}
