//! Statistics, and the structural check of an open database.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::events;
use crate::format::{Fault, PageNumber};
use crate::pager::{Cause, Pager, Space};
use crate::tree::{self, PageKind, TreeShape};
use crate::txn::engine::{Core, Engine};
use crate::txn::reclaim::Look;
use crate::txn::snapshot::Snapshot;
use crate::txn::state::State;
use crate::{Error, Result};

/// How large a tree is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeSize {
    /// Entries.
    pub entries: u64,
    /// Levels, counting the leaves: 0 for an empty tree.
    pub depth: u32,
}

/// What a tree is made of. See [`Aurora::tree_stats`](crate::Aurora::tree_stats).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct TreeStats {
    /// Entries.
    pub entries: u64,
    /// Levels, counting the leaves: 0 for an empty tree.
    pub depth: u32,
    /// Leaf pages.
    pub leaf_pages: u64,
    /// Branch pages.
    pub branch_pages: u64,
    /// Pages of long values.
    pub overflow_pages: u64,
    /// The share of the leaves that is in use, from 0 to 1.
    pub leaf_fill: f64,
    /// Bytes of all keys.
    pub key_bytes: u64,
    /// Bytes of all values.
    pub value_bytes: u64,
}

/// Bytes that were written to the file since it was opened, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrittenBytes {
    /// Records of the log.
    pub log: u64,
    /// Pages, by checkpoints.
    pub checkpoint: u64,
    /// Pages of large transactions, while they go on.
    pub spill: u64,
    /// Long values, straight to their place.
    pub long_values: u64,
    /// Header slots.
    pub header: u64,
}

impl WrittenBytes {
    /// All of them: divided by the bytes that the user stored, the write amplification.
    pub fn total(&self) -> u64 {
        self.log + self.checkpoint + self.spill + self.long_values + self.header
    }
}

/// The hot tier in the statistics. Counts are since the database was opened.
/// See [`Builder::hot_limit`](crate::Builder::hot_limit).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HotStats {
    /// Reads that it answered.
    pub hits: u64,
    /// Reads that went to the trees.
    pub misses: u64,
    /// Values and documents in it.
    pub entries: u64,
    /// Memory that it uses, in bytes, its own tables included.
    pub bytes: u64,
    /// The memory that it may use.
    pub limit_bytes: u64,
    /// Values that were taken in.
    pub admitted: u64,
    /// Values that were wanted and not taken in: too large, or changed while they were read.
    pub refused: u64,
    /// Values that made way for others.
    pub evicted: u64,
    /// Values that were dropped because a commit changed them.
    pub dropped: u64,
}

/// See [`Aurora::stats`](crate::Aurora::stats).
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// The page size, in bytes.
    pub page_size: u32,
    /// The length of the file, in bytes.
    pub file_bytes: u64,
    /// Pages up to the last one in use.
    pub pages: u64,
    /// Pages among them that can be allocated at once.
    pub free_pages: u64,
    /// Pages that nothing newer uses, kept for snapshots and for the durable checkpoint.
    pub waiting_pages: u64,
    /// Pages of the space map.
    pub space_map_pages: u64,
    /// Pages of the log.
    pub log_pages: u64,
    /// Each tree by name.
    pub trees: BTreeMap<String, TreeSize>,
    /// Bytes of the log's ring.
    pub log_bytes: u64,
    /// Bytes of it that hold records since the last checkpoint.
    pub log_used_bytes: u64,
    /// Commits that were appended to the log since the file was opened.
    pub log_records: u64,
    /// Writes of the log: several commits may have shared one.
    pub log_batches: u64,
    /// Checkpoints since the file was opened.
    pub checkpoints: u64,
    /// The number of the durable checkpoint.
    pub checkpoint: u64,
    /// Pages that were read from the file and verified.
    pub cache_misses: u64,
    /// Pages that were dropped from memory.
    pub cache_evictions: u64,
    /// Memory of pages that are in the file too, in bytes.
    pub clean_bytes: u64,
    /// Memory of pages that are not in the file yet, in bytes.
    pub dirty_bytes: u64,
    /// The newest state that readers see.
    pub version: u64,
    /// The oldest state that someone still holds: a snapshot, or the durable checkpoint.
    pub oldest_version: u64,
    /// Pages that only wait for that oldest state.
    pub oldest_pins_pages: u64,
    /// States that someone holds.
    pub held_versions: u64,
    /// Bytes written since the file was opened.
    pub written: WrittenBytes,
    /// Syncs since the file was opened.
    pub syncs: u64,
    /// The hot tier.
    pub hot: HotStats,
}

/// What [`Aurora::check`](crate::Aurora::check) looked at, all of it sound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Trees.
    pub trees: u64,
    /// Entries in them.
    pub entries: u64,
    /// Pages that the newest state uses.
    pub used_pages: u64,
    /// Pages that wait for snapshots or the durable checkpoint.
    pub waiting_pages: u64,
    /// Free pages.
    pub free_pages: u64,
}

impl TreeStats {
    fn new(shape: &TreeShape, page_size: u32) -> Self {
        TreeStats {
            entries: shape.entries,
            depth: u32::from(shape.depth),
            leaf_pages: shape.leaf_pages,
            branch_pages: shape.branch_pages,
            overflow_pages: shape.run_pages,
            leaf_fill: shape.fill(page_size),
            key_bytes: shape.key_bytes,
            value_bytes: shape.value_bytes,
        }
    }
}

/// Each tree of a snapshot, read as a whole.
pub(crate) fn tree_stats(snapshot: &Snapshot) -> Result<BTreeMap<String, TreeStats>> {
    let pager = &*snapshot.engine().pager;
    let known = &snapshot.state().trees;
    let mut trees = BTreeMap::new();
    for (name, id) in known.names() {
        let root = known.root(id);
        let shape = tree::check(pager, &root, &mut |_, _, _| Ok(()))?;
        trees.insert(name.to_string(), TreeStats::new(&shape, pager.page_size()));
    }
    Ok(trees)
}

/// Reads no page.
pub(crate) fn stats(engine: &Arc<Engine>, hot: HotStats) -> Result<Stats> {
    engine.check_open()?;
    let state = engine.log.published();
    let trees = state.trees.names().map(|(name, id)| {
        let root = state.trees.root(id);
        let depth = match root.is_empty() {
            true => 0,
            false => u32::from(root.level) + 1,
        };
        let entries = root.count;
        (name.to_string(), TreeSize { entries, depth })
    });
    let trees = trees.collect();
    let written = &engine.pager.written;
    let log = engine.log.usage();
    let cache = engine.pager.cache.counters();
    let core = engine.core.lock();
    let space = engine.space.lock();
    let (oldest_version, oldest_pins_pages) = core.reclaimer.oldest().unwrap_or_default();
    let rings = [core.header.log, core.header.next_log];
    Ok(Stats {
        page_size: engine.pager.page_size(),
        file_bytes: engine.file_bytes(),
        pages: u64::from(space.end()),
        free_pages: u64::from(space.free()),
        waiting_pages: core.reclaimer.waiting_pages(),
        space_map_pages: space.tree().pages().count() as u64,
        log_pages: rings.iter().map(|ring| u64::from(ring.pages)).sum(),
        trees,
        log_bytes: log.ring_bytes,
        log_used_bytes: log.used_bytes,
        log_records: log.records,
        log_batches: log.batches,
        checkpoints: core.checkpoints,
        checkpoint: core.header.checkpoint,
        cache_misses: cache.misses,
        cache_evictions: cache.evictions,
        clean_bytes: cache.clean_bytes,
        dirty_bytes: engine.pager.cache.dirty_bytes() as u64,
        version: state.version,
        oldest_version,
        oldest_pins_pages,
        held_versions: core.reclaimer.states() as u64,
        written: WrittenBytes {
            log: written.bytes(Cause::Log),
            checkpoint: written.bytes(Cause::Checkpoint),
            spill: written.bytes(Cause::Spill),
            long_values: written.bytes(Cause::Run),
            header: written.bytes(Cause::Header),
        },
        syncs: written.syncs.load(std::sync::atomic::Ordering::Relaxed),
        hot,
    })
}

fn catalog_pages(engine: &Engine, core: &Core) -> Result<Vec<PageNumber>> {
    let mut pages = Vec::new();
    tree::check(
        &*engine.pager,
        &core.header.catalog,
        &mut |_, first, count| {
            pages.extend(first..first.saturating_add(count));
            Ok(())
        },
    )?;
    Ok(pages)
}

/// What the space map says of a page, or will be found to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    used: bool,
    busy: bool,
}

impl Use {
    fn packed(self) -> u64 {
        u64::from(self.used) | u64::from(self.busy) << 1
    }
}

/// Everything that is used, found by following every reference from the newest state. A bit for each page, because a file
/// may have very many.
struct Survey {
    used: Vec<u64>,
    busy: Vec<u64>,
    end: u32,
    page_size: u32,
}

impl Survey {
    fn new(end: u32, page_size: u32) -> Self {
        let words = end.div_ceil(64) as usize;
        Survey {
            used: vec![0; words],
            busy: vec![0; words],
            end,
            page_size,
        }
    }

    fn mark(&mut self, first: PageNumber, pages: u32, used: bool) -> Result<()> {
        for page in first..first.saturating_add(pages) {
            let (word, bit) = (page as usize / 64, 1u64 << (page % 64));
            let places = (self.used.get_mut(word), self.busy.get_mut(word));
            let (Some(all_used), Some(all_busy)) = places else {
                return Err(self.fault("a page in use lies behind the end", page, 0, 1));
            };
            if *all_busy & bit != 0 {
                return Err(self.fault("a page is used twice", page, 1, 2));
            }
            *all_busy |= bit;
            if used {
                *all_used |= bit;
            }
        }
        Ok(())
    }

    /// What was found of a page, which is forgotten.
    fn take(&mut self, page: PageNumber) -> Use {
        let (word, bit) = (page as usize / 64, 1u64 << (page % 64));
        let take = |words: &mut Vec<u64>| {
            let word = words.get_mut(word)?;
            let was_set = *word & bit != 0;
            *word &= !bit;
            Some(was_set)
        };
        Use {
            used: take(&mut self.used).unwrap_or(false),
            busy: take(&mut self.busy).unwrap_or(false),
        }
    }

    /// The first page that is left.
    fn first_left(&self) -> Option<PageNumber> {
        let mut words = self.busy.iter().zip(0u32..);
        let (word, index) = words.find(|(word, _)| **word != 0)?;
        Some(index * 64 + word.trailing_zeros())
    }

    fn fault(&self, what: &'static str, page: PageNumber, expected: u64, found: u64) -> Error {
        Fault::new(what, 0, expected, found).in_page(page, self.page_size)
    }
}

pub(crate) fn check(engine: &Arc<Engine>) -> Result<CheckReport> {
    engine.check_open()?;
    let _held = events::hold();
    let _turn = engine.turns.wait();
    let _no_checkpoint = engine.checkpointing.lock();
    // A checkpoint that failed half way has left the pages that it was about to use marked as used: what does not agree
    // then is no damage of the file.
    if let Some(error) = engine.log.failure() {
        return Err(error);
    }
    let mut core = engine.core.lock();
    engine.sweep_or_poison(&mut core, Look::AtAll)?;
    let end = engine.space.lock().end();
    let mut survey = Survey::new(end, engine.pager.page_size());
    let mut report = CheckReport::default();
    let state: Arc<State> = core.current.clone();
    for (_, id) in state.trees.names() {
        let root = state.trees.root(id);
        let shape = tree::check(&*engine.pager, &root, &mut |_: PageKind, first, pages| {
            survey.mark(first, pages, true)
        })?;
        report.trees += 1;
        report.entries += shape.entries;
    }
    for page in catalog_pages(engine, &core)? {
        survey.mark(page, 1, true)?;
    }
    let mut space = engine.space.lock();
    for page in space.tree().pages() {
        survey.mark(page, 1, true)?;
    }
    for ring in [core.header.log, core.header.next_log] {
        survey.mark(ring.first, ring.pages, true)?;
    }
    survey.mark(0, 2, true)?;
    for retired in core.reclaimer.waiting() {
        survey.mark(retired.first, retired.pages, false)?;
    }
    compare(&mut survey, &mut space, &engine.pager, &mut report)?;
    if report.free_pages != u64::from(space.free()) {
        let (expected, found) = (report.free_pages, u64::from(space.free()));
        return Err(survey.fault("the count of free pages is wrong", 0, expected, found));
    }
    Ok(report)
}

fn compare(
    survey: &mut Survey,
    space: &mut Space,
    pager: &Pager,
    report: &mut CheckReport,
) -> Result<()> {
    let what = "reachable pages and free pages are not all pages";
    let mut wrong = None;
    space.for_each(pager, |page, used, busy| {
        let (found, mapped) = (survey.take(page), Use { used, busy });
        if found != mapped {
            wrong = wrong.or(Some((page, found, mapped)));
        }
        match used {
            true => report.used_pages += 1,
            false => report.waiting_pages += 1,
        }
    })?;
    if let Some((page, found, mapped)) = wrong {
        return Err(survey.fault(what, page, found.packed(), mapped.packed()));
    }
    if let Some(page) = survey.first_left() {
        let found = survey.take(page).packed();
        return Err(survey.fault(what, page, found, 0));
    }
    let taken = report.used_pages + report.waiting_pages;
    report.free_pages = u64::from(survey.end).saturating_sub(taken);
    Ok(())
}
