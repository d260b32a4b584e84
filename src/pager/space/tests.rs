//! The allocator against plain sets, over several bitmaps: allocated, committed, freed, written by checkpoints that
//! succeed or not, moved by compactions, and opened again.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex};

use super::*;
use crate::format::page;
use crate::pager::Cause;
use crate::storage::Storage;

const PAGE: u32 = 4096;
const SALT: u64 = 5;

/// A file that is mostly holes: only what is written takes memory.
#[derive(Debug, Default)]
struct Sparse {
    pages: Mutex<HashMap<u64, Vec<u8>>>,
    length: Mutex<u64>,
}

impl Storage for Sparse {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let pages = self.pages.lock().unwrap();
        for (at, part) in (offset / 4096..).zip(buffer.chunks_mut(4096)) {
            part.fill(0);
            if let Some(page) = pages.get(&at) {
                part.copy_from_slice(&page[..part.len()]);
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut pages = self.pages.lock().unwrap();
        for (at, part) in (offset / 4096..).zip(bytes.chunks(4096)) {
            pages.insert(at, part.to_vec());
        }
        Ok(())
    }

    fn sync_range(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        *self.length.lock().unwrap() = length_bytes;
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(*self.length.lock().unwrap())
    }

    fn lock(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what a checkpoint writes of the map. Returns the header that names it.
fn write(pager: &Pager, plan: &mut SpacePlan) -> Header {
    pager.ensure_pages(u64::from(plan.pages)).unwrap();
    for node in plan.nodes.clone() {
        let mut bytes = plan.encode(PAGE, 1, node);
        let checksum = page::checksum(&bytes, node.2, SALT);
        crate::format::put_u32(&mut bytes, page::CHECKSUM, checksum);
        plan.seal(node, checksum);
        pager.write_at(node.2, &bytes, Cause::Checkpoint).unwrap();
        pager.entry(node.2).set_checksum(checksum);
    }
    let (space, space_level) = plan.root();
    Header {
        page_size: PAGE,
        salt: SALT,
        version: 1,
        pages: plan.pages,
        space,
        space_level,
        ..Header::default()
    }
}

type Run = (PageNumber, u32);

/// The allocator, and plain sets of what it should say.
struct World {
    storage: Arc<Sparse>,
    pager: Pager,
    space: Space,
    busy: BTreeSet<PageNumber>,
    used: BTreeSet<PageNumber>,
    /// Of transactions under way, of the newest state, and freed but seen by the durable checkpoint.
    held: Vec<Run>,
    kept: Vec<Run>,
    waiting: Vec<Run>,
    /// The durable checkpoint: its header, what it uses, and of that what belongs to states.
    header: Header,
    durable: BTreeSet<PageNumber>,
    durable_kept: Vec<Run>,
    random: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let storage = Arc::new(Sparse::default());
        let pager = Pager::new(storage.clone(), PAGE, SALT, 1 << 20).unwrap();
        let mut world = World {
            storage,
            pager,
            space: Space::create(PAGE),
            busy: BTreeSet::from([0, 1]),
            used: BTreeSet::from([0, 1]),
            held: Vec::new(),
            kept: Vec::new(),
            waiting: Vec::new(),
            header: Header::default(),
            durable: BTreeSet::new(),
            durable_kept: Vec::new(),
            random: seed,
        };
        world.checkpoint(PageNumber::MAX, false);
        world
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % limit.max(1)
    }

    fn take(&mut self, from: fn(&mut World) -> &mut Vec<Run>) -> Option<Run> {
        let index = self.random as usize >> 7;
        let runs = from(self);
        let index = index.checked_rem(runs.len())?;
        Some(runs.swap_remove(index))
    }

    fn allocate(&mut self, pages: u32) {
        let first = self.space.allocate_run(&self.pager, pages).unwrap();
        for page in first..first + pages {
            assert!(self.busy.insert(page), "page {page} is given away twice");
        }
        self.held.push((first, pages));
    }

    fn release(&mut self, (first, pages): Run) {
        self.space.release(&self.pager, first, pages).unwrap();
        (first..first + pages).for_each(|page| assert!(self.busy.remove(&page)));
    }

    fn commit(&mut self, run: Run) {
        self.space
            .set_used(&self.pager, run.0, run.1, true)
            .unwrap();
        self.used.extend(run.0..run.0 + run.1);
        self.kept.push(run);
    }

    fn free(&mut self, run: Run) {
        self.space
            .set_used(&self.pager, run.0, run.1, false)
            .unwrap();
        (run.0..run.0 + run.1).for_each(|page| assert!(self.used.remove(&page)));
        self.waiting.push(run);
    }

    /// A checkpoint of the newest state that moves the map's pages from `cutoff` on, and may fail.
    fn checkpoint(&mut self, cutoff: PageNumber, fails: bool) {
        let image = self.space.take_image();
        let (mut state, kept) = (self.used.clone(), self.kept.clone());
        let waiting = std::mem::take(&mut self.waiting);
        let old: Vec<_> = self.space.tree().pages().collect();
        old.iter().for_each(|page| _ = state.remove(page));
        // What happens while it is written is not part of it.
        for _ in 0..self.below(3) {
            self.change();
        }
        let moved = |page| page >= cutoff;
        let mut plan = self.space.plan(&self.pager, image, &moved).unwrap();
        for (_, _, page) in &plan.nodes {
            assert!(self.busy.insert(*page), "page {page} is given away twice");
            self.used.insert(*page);
        }
        if fails {
            for (_, _, page) in &plan.nodes {
                self.busy.remove(page);
                self.used.remove(page);
            }
            self.space.abandon(&self.pager, &plan).unwrap();
            self.waiting.extend(waiting);
            return self.look();
        }
        self.header = write(&self.pager, &mut plan);
        let now: BTreeSet<_> = plan.tree.pages().collect();
        self.space.set_tree(plan.tree);
        for page in plan.freed {
            assert!(self.used.remove(&page));
            self.pager.forget(page, &crate::pager::pin());
            self.release((page, 1));
        }
        state.extend(now);
        (self.durable, self.durable_kept) = (state, kept);
        for run in waiting {
            self.release(run);
        }
        self.look();
    }

    fn reopen(&mut self) {
        self.pager = Pager::new(self.storage.clone(), PAGE, SALT, 1 << 20).unwrap();
        self.space = Space::open(&self.pager, &self.header).unwrap();
        self.used.clone_from(&self.durable);
        self.busy.clone_from(&self.durable);
        self.kept.clone_from(&self.durable_kept);
        self.held.clear();
        self.waiting.clear();
        let free = self.space.free() as usize;
        assert_eq!(free + self.busy.len(), self.space.end() as usize);
    }

    fn change(&mut self) {
        match self.below(10) {
            0..5 => {
                let longest = [1, 1, 9, 300, 3_000, 40_000][self.below(6) as usize];
                let pages = 1 + self.below(longest) as u32;
                self.allocate(pages);
            }
            5 | 6 => {
                if let Some(run) = self.take(|world| &mut world.held) {
                    self.commit(run);
                }
            }
            7 => {
                if let Some(run) = self.take(|world| &mut world.held) {
                    self.release(run);
                }
            }
            _ => {
                if let Some(run) = self.take(|world| &mut world.kept) {
                    self.free(run);
                }
            }
        }
    }

    /// Looks at all pages, which loads every bitmap.
    fn look(&mut self) {
        if self.below(4) > 0 {
            return;
        }
        let (mut used, mut busy) = (BTreeSet::new(), BTreeSet::new());
        let visit = |page, is_used: bool, is_busy: bool| {
            used.extend(is_used.then_some(page));
            busy.extend(is_busy.then_some(page));
        };
        self.space.for_each(&self.pager, visit).unwrap();
        assert!(used == self.used && busy == self.busy);
        let free = self.space.free() as usize;
        assert_eq!(free + self.busy.len(), self.space.end() as usize);
    }

    fn step(&mut self) {
        match self.below(40) {
            0..4 => self.checkpoint(PageNumber::MAX, false),
            4 => self.checkpoint(PageNumber::MAX, true),
            5 | 6 => {
                let cutoff = self.space.end() - self.space.free();
                let fails = self.below(4) == 0;
                self.checkpoint(cutoff, fails);
            }
            7 | 8 => self.reopen(),
            // Nearly all goes.
            9 if self.below(4) == 0 => {
                while self.kept.len() > 2
                    && let Some(run) = self.take(|world| &mut world.kept)
                {
                    self.free(run);
                }
            }
            _ => self.change(),
        }
    }
}

#[test]
fn it_gives_no_page_away_twice_whatever_the_number_of_bitmaps() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
        }
    }
}

/// With pages of 4 KiB that is a file of 43 GiB. What the index page that was the root counts, and nobody had asked for
/// before, stands in the root above it.
#[test]
fn counts_are_right_when_the_map_becomes_a_level_higher() {
    let storage = Arc::new(Sparse::default());
    let pager = Pager::new(storage.clone(), PAGE, SALT, 1 << 20).unwrap();
    let mut space = Space::create(PAGE);
    let bitmaps = layout::entries_per_page(PAGE) as u32;
    let edge = bitmaps * layout::bits_per_page(PAGE);
    // Full up to the last page that one index page covers, with the map itself.
    let pages = edge - space.end() - bitmaps - 1;
    let first = space.append(pages).unwrap();
    space.set_used(&pager, first, pages, true).unwrap();
    let image = space.take_image();
    let mut plan = space.plan(&pager, image, &|_| false).unwrap();
    let header = write(&pager, &mut plan);
    assert_eq!((header.pages, header.space_level), (edge, 1));

    let pager = Pager::new(storage.clone(), PAGE, SALT, 1 << 20).unwrap();
    let mut space = Space::open(&pager, &header).unwrap();
    assert_eq!((space.end(), space.free()), (edge, 0));
    let behind = space.append(1).unwrap();
    space.set_used(&pager, behind, 1, true).unwrap();
    let image = space.take_image();
    let mut plan = space.plan(&pager, image, &|_| false).unwrap();
    let header = write(&pager, &mut plan);
    assert_eq!(header.space_level, 2);
    let counts = plan.tree.levels[1].iter().map(|entry| entry.used);
    assert_eq!(counts.collect::<Vec<_>>(), [edge, header.pages - edge]);

    let pager = Pager::new(storage, PAGE, SALT, 1 << 20).unwrap();
    let space = Space::open(&pager, &header).unwrap();
    assert_eq!((space.end(), space.free()), (header.pages, 0));
    assert_eq!(space.tree().levels[2][0].used, header.pages);
}

/// With pages of 4 KiB that is a file of more than 43 GiB. Of the last index page only bitmaps at its end went, and none that
/// it still has was written: it kept those that were gone, and the file could not be opened any more.
#[test]
fn an_index_page_is_written_again_when_the_file_ends_before_its_last_bitmaps() {
    let storage = Arc::new(Sparse::default());
    let pager = Pager::new(storage.clone(), PAGE, SALT, 1 << 20).unwrap();
    let mut space = Space::create(PAGE);
    let (bits, fanout) = (layout::bits_per_page(PAGE), layout::entries_per_page(PAGE));
    let kept = fanout as u32 + 2;
    let pin = crate::pager::pin();
    let checkpoint = |space: &mut Space, free: Option<Run>| {
        let image = space.take_image();
        let mut plan = space.plan(&pager, image, &|_| false).unwrap();
        let header = write(&pager, &mut plan);
        space.set_tree(plan.tree);
        for page in plan.freed {
            pager.forget(page, &pin);
            space.release(&pager, page, 1).unwrap();
        }
        if let Some((first, pages)) = free {
            space.release(&pager, first, pages).unwrap();
        }
        header
    };
    // Room for the map in front, then what stays, then what goes.
    let room = (space.append(2_000).unwrap(), 2_000);
    let stays = kept * bits - space.end();
    let stays = (space.append(stays).unwrap(), stays);
    let goes = (space.append(3 * bits).unwrap(), 3 * bits);
    space.release(&pager, room.0, room.1).unwrap();
    space.set_used(&pager, stays.0, stays.1, true).unwrap();
    space.set_used(&pager, goes.0, goes.1, true).unwrap();
    let header = checkpoint(&mut space, None);
    assert_eq!((header.pages, header.space_level), ((kept + 3) * bits, 2));
    space.set_used(&pager, goes.0, goes.1, false).unwrap();
    checkpoint(&mut space, Some(goes));
    assert_eq!(space.end(), kept * bits);
    let header = checkpoint(&mut space, None);
    assert_eq!(header.pages, kept * bits);

    let pager = Pager::new(storage, PAGE, SALT, 1 << 20).unwrap();
    let again = Space::open(&pager, &header).unwrap();
    assert_eq!((again.end(), again.free()), (space.end(), space.free()));
}

/// A search by words, from where the ones before it came to, finds what one from the front finds page by page.
#[test]
fn the_first_pages_that_fit_are_given_whatever_was_looked_for_before() {
    let pager = Pager::new(Arc::new(Sparse::default()), PAGE, SALT, 1 << 20).unwrap();
    let bits = layout::bits_per_page(PAGE);
    let mut random = World::new(3);
    for round in 0..40 {
        let mut space = Space::create(PAGE);
        let end = bits + 400;
        let _ = space.append(end - 2).unwrap();
        let mut is_free = vec![false; end as usize];
        // Around the border of two bitmaps.
        let (low, high) = (bits - 500, end - 1);
        for _ in 0..400 {
            let near = low + random.below(u64::from(high - low)) as u32;
            let longest = [1, 1, 3, 90][random.below(4) as usize];
            let pages = 1 + random.below(longest) as u32;
            let range = near as usize..(near + pages).min(high) as usize;
            let pages = range.len() as u32;
            if random.below(3) > 0 {
                if is_free[range.clone()].iter().all(|free| !free) {
                    is_free[range].fill(true);
                    space.release(&pager, near, pages).unwrap();
                }
                continue;
            }
            let fits = |free: &[bool]| free.iter().all(|free| *free);
            let first = is_free.windows(pages as usize).position(fits);
            let found = space.allocate_run(&pager, pages).unwrap();
            match first {
                Some(first) => {
                    assert_eq!(found, first as u32, "round {round}, {pages} pages");
                    is_free[first..first + pages as usize].fill(false);
                }
                None => {
                    assert!(found >= end, "round {round}, {pages} pages");
                    space.release(&pager, found, pages).unwrap();
                }
            }
        }
    }
}

/// Each value of several pages went through all gaps from the front, as one of a page came free there with each commit.
#[test]
fn gaps_that_are_too_short_are_not_looked_through_each_time() {
    let pager = Pager::new(Arc::new(Sparse::default()), PAGE, SALT, 1 << 20).unwrap();
    let mut space = Space::create(PAGE);
    let first = space.append(1 << 20).unwrap();
    for page in (first..first + (1 << 20)).step_by(2) {
        space.release(&pager, page, 1).unwrap();
    }
    let start = std::time::Instant::now();
    for _ in 0..1000 {
        for pages in [2, 3, 10, 64] {
            space.allocate_run(&pager, pages).unwrap();
        }
        let page = space.allocate(&pager).unwrap();
        space.release(&pager, page, 1).unwrap();
    }
    let took = start.elapsed();
    assert!(took < std::time::Duration::from_secs(2), "{took:?}");
}
