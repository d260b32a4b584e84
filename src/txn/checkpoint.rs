//! The checkpoint: one state, written whole, made the file's state by one header slot.
//!
//! ```text
//! fix      under the core lock: the newest state, its place in the log, its space map
//! write    dirty pages from the leaves up, then the catalog, then the space map
//! sync     everything above, and the file's length
//! turn     write header slot (N mod 2), sync it: from here on a crash finds checkpoint N
//! settle   frames are clean, the log's window moves up, pages of checkpoint N - 1 come free
//! ```
//!
//! # Invariants
//!
//! 1. Until the header slot of checkpoint N is durable, nothing that checkpoint N - 1 uses is
//!    written to, and no page that it uses is released.
//! 2. A failed write before the sync leaves everything as it was: the pages are dirty still, the
//!    places are given back. A failed sync, or a failed header write, poisons the log: what the
//!    disk holds is not known.
//! 3. The header slot is written only after a sync of all that it refers to, the length included.
//! 4. A file system that shuts down under a sync can let it succeed without having written. So after
//!    the slot's sync something is written that need not stay: only if that can be done was the file
//!    system up, and only then does anybody hear of the checkpoint. (As for the log, `log`, invariant 7.)
//! 5. Log, catalog and space map are read by an open and by the next checkpoint, never through a snapshot. So what of them
//!    only checkpoint N - 1 used is free as soon as the slot of N is durable, the log's window has moved up and the map
//!    in memory is N's, or with the next sweep: an open finds it free in that. The slot of N - 1 names it still, but with
//!    N durable that one is taken only where N was damaged later, which the log tells (format-spec, section 4).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::engine::Engine;
use super::pace::Pace;
use super::pages::{Levels, Outcome, TxnPages};
use super::reclaim::Look;
use super::state::{State, catalog};
use crate::events;
use crate::format::header::{Header, LogRegion, SLOT_BYTES};
use crate::format::{PageNumber, TreeRoot, page, record};
use crate::log::Position;
use crate::pager::{Cause, PageSource, Pager, SpaceImage, SpacePlan, frame};
use crate::sync::shielded;
use crate::tree;
use crate::{Error, Result};

/// Why a checkpoint is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To make room in the log and in memory.
    Routine,
    /// To move what lies at this page or behind it: the log, the catalog, the space map. Made even
    /// if there is nothing new, so the caller must have the turn.
    Compact(PageNumber),
    /// To leave nothing to recover.
    Close,
}

/// A transaction that commits by being checkpointed.
pub(crate) struct Candidate<'a> {
    pub pages: &'a mut TxnPages,
    pub state: Arc<State>,
}

/// A state under way to the disk.
pub(super) struct Job {
    pub(super) state: Arc<State>,
    pub(super) position: Position,
    pub(super) image: SpaceImage,
    pub(super) dirty: Vec<PageNumber>,
    pub(super) purpose: Purpose,
    pub(super) before: Header,
    pub(super) before_state: Arc<State>,
    /// Those that wait for it ([`Engine::passed_pages`]).
    pub(super) passed_pages: u64,
    /// What the transaction that commits with this checkpoint did, and the state before it.
    pub(super) candidate: Option<(Outcome, Arc<State>)>,
}

/// What was written.
struct Written {
    levels: Levels,
    catalog: Outcome,
    catalog_root: TreeRoot,
    plan: SpacePlan,
    new_ring: Option<LogRegion>,
}

impl Engine {
    /// Called without the turn, as it may have much to cut.
    pub(crate) fn checkpoint(self: &Arc<Self>) -> Result<()> {
        self.checkpoint_alone()?;
        self.cut_long_tail();
        Ok(())
    }

    /// The same, and leaves it to others to cut the tail of the file.
    pub(super) fn checkpoint_alone(self: &Arc<Self>) -> Result<()> {
        self.checkpoint_with(Purpose::Routine, None)
    }

    /// Makes the newest committed state the one that the file holds; or a transaction's, which is
    /// committed by that.
    pub(crate) fn checkpoint_with(
        self: &Arc<Self>,
        purpose: Purpose,
        candidate: Option<Candidate<'_>>,
    ) -> Result<()> {
        let _held = events::hold();
        let _one_at_a_time = self.checkpointing.lock();
        if let Some(error) = self.log.failure() {
            return Err(error);
        }
        // Who waited for the last checkpoint is too late: the file does not change any more.
        if purpose != Purpose::Close && self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        if purpose != Purpose::Close {
            self.begin_session()?;
        }
        // After a panic half-way nothing in memory can be relied on.
        let told = |error: &Error| self.lose_faith(error);
        let fixed = shielded("begin a checkpoint", told, || self.fix(purpose, candidate))?;
        let done = match fixed {
            Some(job) => shielded("write a checkpoint", told, || self.carry_out(job)),
            None => Ok(()),
        };
        self.core.lock().checkpoint_failure = done.as_ref().err().cloned();
        // Nobody keeps it for long who writes little.
        drop(self.take_record());
        frame::settle();
        done?;
        let is_clean = purpose == Purpose::Close;
        if is_clean {
            self.cut_tail_within();
        }
        let flags = if is_clean { record::FLAG_CLEAN } else { 0 };
        let marked = self.log.write_mark(flags, is_clean);
        // Short of a clean close the mark is only proof for the next open, not a promise.
        if is_clean { marked } else { Ok(()) }
    }

    fn carry_out(self: &Arc<Self>, mut job: Job) -> Result<()> {
        let written = match self.write(&mut job) {
            Ok(written) => written,
            Err(error) => {
                self.give_up(job)?;
                return Err(error);
            }
        };
        // Invariant 2. A failure behind the header leaves what is in memory a checkpoint behind the disk: the next
        // one would write over the slot that counts.
        let header = self.turn_to(&job, &written);
        let settled = header.and_then(|header| self.settle(job, written, header));
        settled.inspect_err(|error| self.log.poison(error))
    }

    /// Takes the newest state, with exactly its place in the log. `None`: there is nothing new.
    fn fix(
        self: &Arc<Self>,
        purpose: Purpose,
        candidate: Option<Candidate<'_>>,
    ) -> Result<Option<Job>> {
        let mut core = self.core.lock();
        self.sweep_or_poison(&mut core, Look::AtAll)?;
        let before = core.header;
        let is_new = core.current.version > before.version;
        if !is_new && candidate.is_none() && matches!(purpose, Purpose::Routine | Purpose::Close) {
            return Ok(None);
        }
        // Where commits are too large for the ring that waits, no record would ever lead there, and no larger
        // one take its place.
        let wanted = self.wanted_ring_bytes.load(Ordering::Relaxed);
        let is_too_small = purpose == Purpose::Routine && wanted > self.log.ring_bytes();
        if matches!(purpose, Purpose::Compact(_)) || is_too_small {
            self.log.switch(core.current.version);
        }
        let position = self.log.position();
        if !is_new && candidate.is_none() {
            // A checkpoint of its own version could not be told from the one before it. The caller
            // has the turn, so no transaction is under way with the next version.
            let state = Arc::new(State {
                version: before.version + 1,
                trees: core.current.trees.clone(),
            });
            self.install(&mut core, &Outcome::default(), state.clone())?;
            self.log.publish(state, position.lsn, false, None);
        }
        let version = candidate
            .as_ref()
            .map_or(core.current.version, |c| c.state.version);
        core.reclaimer.begin_checkpoint(version);
        let passed_pages = self.passed_pages.swap(0, Ordering::Relaxed);
        let candidate = match candidate {
            Some(candidate) => {
                let previous = core.current.clone();
                let outcome = candidate.pages.finish(version);
                if let Err(error) = self.install(&mut core, &outcome, candidate.state) {
                    self.log.poison(&error);
                    return Err(error);
                }
                Some((outcome, previous))
            }
            None => None,
        };
        let dirty = std::mem::take(&mut core.dirty);
        for page in &dirty {
            self.pager.entry(*page).clear_listed();
        }
        Ok(Some(Job {
            state: core.current.clone(),
            position,
            image: self.space.lock().take_image(),
            dirty,
            purpose,
            before,
            before_state: core.checkpoint_state.clone(),
            passed_pages,
            candidate,
        }))
    }

    /// Writes all that the state needs to places that no durable state uses (invariant 1).
    fn write(self: &Arc<Self>, job: &mut Job) -> Result<Written> {
        let levels = self.dirty_levels(job);
        let mut pace = {
            let commits_go_on = job.purpose == Purpose::Routine && job.candidate.is_none();
            Pace::new(commits_go_on, self.log.awaited_batches())
        };
        for pages in levels.values() {
            let source = FrameSource { pager: &self.pager };
            let pager = &self.pager;
            pager.write_pages(pages, &source, Cause::Checkpoint, &mut |bytes| {
                self.give_way(&mut pace, bytes)
            })?;
        }
        let mut pages = TxnPages::new(self.clone(), job.state.version, false);
        let catalog_root = self.write_catalog(job, &mut pages)?;
        let catalog = pages.finish(job.state.version);
        let new_ring = match self.write_new_ring(job, &mut pace) {
            Ok(ring) => ring,
            Err(error) => {
                self.undo_catalog(&catalog)?;
                return Err(error);
            }
        };
        let (planned, new_ring) = self.write_space_or_without(job, &catalog, new_ring);
        match planned {
            Ok(plan) => Ok(Written {
                levels,
                catalog,
                catalog_root,
                plan,
                new_ring,
            }),
            Err(error) => {
                self.undo_catalog(&catalog)?;
                self.undo_rings(job, new_ring)?;
                Err(error)
            }
        }
    }

    /// Sorts dirty pages into levels. A page that came free since it was listed, and may have a
    /// new life in a newer state, is not the checkpoint's business.
    fn dirty_levels(&self, job: &Job) -> Levels {
        let pin = crate::pager::pin();
        let mut levels = Levels::new();
        for number in &job.dirty {
            let frame = self.pager.entry(*number).frame.load(&pin);
            let Some(frame) = frame.filter(|f| !f.is_clean() && f.birth() <= job.state.version)
            else {
                continue;
            };
            let is_node = !frame.is_run();
            let level = if is_node {
                page::level(frame.bytes())
            } else {
                0
            };
            levels.entry(level).or_default().push((*number, is_node));
        }
        levels.values_mut().for_each(|pages| pages.sort_unstable());
        levels
    }

    /// Brings the catalog up to date and writes its pages.
    fn write_catalog(self: &Arc<Self>, job: &Job, pages: &mut TxnPages) -> Result<TreeRoot> {
        let mut root = job.before.catalog;
        let mut seen = Vec::new();
        for (name, id) in job.state.trees.names() {
            seen.push(name);
            let mut tree = job.state.trees.root(id);
            // The durable checkpoint pins its pages, so the same number is the same page.
            let unchanged = job.before_state.trees.id(name) == Some(id)
                && job.before_state.trees.root(id).root.page == tree.root.page;
            if unchanged {
                continue;
            }
            if let Some(checksum) = self.checksum_of(tree.root.page)
                && !tree.is_empty()
            {
                tree.root.checksum = checksum;
            }
            let entry = catalog::encode(id, &tree);
            let known = tree::find(pages, &root, name.as_bytes())?
                .is_some_and(|found| found.inline() == Some(&entry[..]));
            if !known {
                tree::put(pages, &mut root, name.as_bytes(), &entry)?;
            }
        }
        if root.count > seen.len() as u64 {
            remove_dropped(pages, &mut root, &seen)?;
        }
        if let Purpose::Compact(cutoff) = job.purpose {
            let wants_move = |page| page >= cutoff;
            tree::relocate(pages, &mut root, &[], tree::Budget::ALL, &wants_move)?;
        }
        let levels = pages.levels();
        let source = pages.source();
        for pages_of_level in levels.values() {
            self.pager
                .write_pages(pages_of_level, &source, Cause::Checkpoint, &mut |_| Ok(()))?;
        }
        if let Some(checksum) = self.checksum_of(root.root.page)
            && !root.is_empty()
        {
            root.root.checksum = checksum;
        }
        Ok(root)
    }

    /// The checksum that a page was last written with, if it was.
    fn checksum_of(&self, page: PageNumber) -> Option<u32> {
        self.pager.known(page)?.checksum()
    }

    /// A longer ring is a matter of speed: where it leaves no room for the space map, the checkpoint does without.
    fn write_space_or_without(
        &self,
        job: &mut Job,
        catalog: &Outcome,
        new_ring: Option<LogRegion>,
    ) -> (Result<SpacePlan>, Option<LogRegion>) {
        let planned = self.write_space(job, catalog, new_ring);
        let is_full = planned.as_ref().is_err_and(Error::is_disk_full);
        let Some(ring) = new_ring.filter(|_| is_full && job.purpose == Purpose::Routine) else {
            return (planned, new_ring);
        };
        // Half forgotten, the map in memory is not to be relied on.
        let forgotten = self.forget_ring(job, ring);
        let forgotten = forgotten.inspect_err(|error| self.log.poison(error));
        let planned = forgotten.and_then(|()| self.write_space(job, catalog, None));
        (planned, None)
    }

    /// Marks the checkpoint's own pages in the space map and writes what changed of it.
    fn write_space(
        &self,
        job: &mut Job,
        catalog: &Outcome,
        new_ring: Option<LogRegion>,
    ) -> Result<SpacePlan> {
        let cutoff = match job.purpose {
            Purpose::Compact(cutoff) => cutoff,
            _ => PageNumber::MAX,
        };
        let mut image = std::mem::take(&mut job.image);
        let planned = {
            let mut space = self.space.lock();
            self.mark_own_pages(&mut space, &mut image, job, catalog, new_ring)
                .and_then(|()| space.plan(&self.pager, image.clone(), &|page| page >= cutoff))
        };
        job.image = image;
        // A bitmap that cannot be read leaves the map in memory half changed.
        let mut plan = planned.inspect_err(|error| self.log.poison(error))?;
        // The length that the header will name may count pages of a transaction under way that
        // nobody has written yet, even if no page of the map changes.
        let written = self
            .pager
            .ensure_pages(u64::from(plan.pages))
            .and_then(|()| self.write_space_nodes(job, &mut plan));
        if let Err(error) = written {
            self.space.lock().abandon(&self.pager, &plan)?;
            return Err(error);
        }
        Ok(plan)
    }

    fn write_space_nodes(&self, job: &Job, plan: &mut SpacePlan) -> Result<()> {
        let size = self.pager.page_size();
        for node in plan.nodes.clone() {
            let mut bytes = plan.encode(size, job.state.version, node);
            let checksum = page::checksum(&bytes, node.2, self.pager.salt());
            crate::format::put_u32(&mut bytes, page::CHECKSUM, checksum);
            plan.seal(node, checksum);
            self.pager.write_at(node.2, &bytes, Cause::Checkpoint)?;
            self.pager.entry(node.2).set_checksum(checksum);
        }
        Ok(())
    }

    fn mark_own_pages(
        &self,
        space: &mut crate::pager::Space,
        image: &mut SpaceImage,
        job: &Job,
        catalog: &Outcome,
        new_ring: Option<LogRegion>,
    ) -> Result<()> {
        let pager = &self.pager;
        let mut mark = |first: PageNumber, pages: u32, used: bool| -> Result<()> {
            for page in first..first.saturating_add(pages) {
                space.set_used_in(pager, image, page, used)?;
            }
            Ok(())
        };
        for (first, pages) in &catalog.allocated {
            mark(*first, *pages, true)?;
        }
        for page in &catalog.unused {
            mark(*page, 1, false)?;
        }
        for retired in &catalog.freed {
            mark(retired.first, retired.pages, false)?;
        }
        if let Some(ring) = new_ring {
            mark(ring.first, ring.pages, true)?;
        }
        for ring in self.rings_given_up(job) {
            mark(ring.first, ring.pages, false)?;
        }
        Ok(())
    }

    /// Syncs, writes the header slot, syncs it (invariant 3).
    fn turn_to(&self, job: &Job, written: &Written) -> Result<Header> {
        let (log, next) = self.log.geometry().regions_from(job.position.lsn);
        let (space, space_level) = written.plan.root();
        let header = Header {
            checkpoint: job.before.checkpoint + 1,
            version: job.state.version,
            pages: written.plan.pages,
            catalog: written.catalog_root,
            space,
            space_level,
            log,
            next_log: next.or(written.new_ring).unwrap_or_default(),
            log_start: job.position.lsn,
            log_start_crc: job.position.crc,
            ..job.before
        };
        self.pager.sync_all()?;
        write_slot(&self.pager, header.checkpoint, &header.encode())?;
        self.prove_sync(&job.before)?;
        Ok(header)
    }

    /// Invariant 4. What is written is what stands there: the slot of the checkpoint before, which is
    /// not needed any more.
    fn prove_sync(&self, before: &Header) -> Result<()> {
        let offset = slot_offset(&self.pager, before.checkpoint);
        let bytes = before.encode();
        self.pager.written.add(Cause::Header, bytes.len() as u64);
        match self.pager.storage().write_at(offset, &bytes) {
            Ok(()) => Ok(()),
            Err(error) => match Error::io("write the header", offset, error) {
                Error::DiskFull { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    /// The checkpoint is durable: lets go of everything that only the one before needed.
    fn settle(self: &Arc<Self>, job: Job, written: Written, header: Header) -> Result<()> {
        let next = (header.next_log.pages > 0).then_some(header.next_log);
        let given_up = self.rings_given_up(&job);
        self.log.checkpointed(header.checkpoint, job.position, next);
        let of_trees = written.levels.values().flatten().map(|(page, _)| *page);
        self.set_clean(of_trees, true);
        let of_catalog = written.catalog.dirty.iter().map(|(page, _)| *page);
        self.set_clean(of_catalog, false);

        let mut core = self.core.lock();
        core.reclaimer.end_checkpoint();
        {
            let mut space = self.space.lock();
            space.set_tree(written.plan.tree);
            for page in written.catalog.unused {
                space.release(&self.pager, page, 1)?;
            }
        }
        // Only now, that nobody reads the space map at its old place (invariant 5).
        let rings = given_up.iter().map(|ring| (ring.first, ring.pages));
        let of_map = written.plan.freed.iter().map(|page| (*page, 1));
        let of_catalog = written.catalog.freed.iter().map(|r| (r.first, r.pages));
        let free: Vec<_> = rings.chain(of_map).chain(of_catalog).collect();
        let commits = job.candidate.is_some();
        if !commits {
            self.release(&free, |run| *run)?;
        }
        core.header = header;
        core.checkpoint_state = job.state;
        drop(job.before_state); // or what only it uses would wait for the next commit
        core.checkpoints += 1;
        self.checkpoint_version
            .store(header.version, Ordering::Release);
        self.sweep_or_poison(&mut core, Look::AtAll)?;
        if commits {
            // Its transaction's state is not published yet: with the pages of the one before, which come free when it is.
            // (Freed here, they scattered what a compaction packs: it left 10 pages free of 1,259 instead of 6.)
            core.reclaimer.free_later(&free);
        }
        let (checkpoint, pages, dirty) = (header.checkpoint, header.pages, job.dirty.len());
        events::tell(move || tracing::debug!(checkpoint, pages, dirty, "checkpoint"));
        Ok(())
    }

    /// The pages are in the file. `counted`: they are part of the dirty bytes.
    pub(super) fn set_clean(&self, pages: impl Iterator<Item = PageNumber>, counted: bool) {
        let pin = crate::pager::pin();
        for number in pages {
            let Some(frame) = self.pager.entry(number).frame.load(&pin) else {
                continue;
            };
            let bytes = frame.bytes().len();
            frame.set_clean();
            if counted {
                self.pager.cache.sub_dirty(bytes);
            }
            self.pager.cache.admit(&self.pager, number, bytes);
        }
    }
}

fn slot_offset(pager: &Pager, checkpoint: u64) -> u64 {
    pager.offset((checkpoint % 2) as PageNumber)
}

/// Writes a header slot and makes it durable.
pub(crate) fn write_slot(pager: &Pager, checkpoint: u64, bytes: &[u8; SLOT_BYTES]) -> Result<()> {
    let offset = slot_offset(pager, checkpoint);
    pager.written.add(Cause::Header, bytes.len() as u64);
    pager.written.count_sync();
    let written = pager.storage().write_sync_at(offset, bytes);
    pager.synced("write the header", offset, written)
}

/// The bytes that are in the pages' cells.
pub(super) struct FrameSource<'a> {
    pub pager: &'a Pager,
}

impl PageSource for FrameSource<'_> {
    fn with_bytes(&self, number: PageNumber, then: &mut dyn FnMut(&[u8])) -> Result<()> {
        let pin = crate::pager::pin();
        // A dirty frame stays in its cell while a checkpoint runs (`reclaim`, invariant 4).
        match self.pager.entry(number).frame.load(&pin) {
            Some(frame) => {
                then(frame.bytes());
                Ok(())
            }
            None => {
                let fault = crate::format::Fault::new("a dirty page has no frame", 0, 1, 0);
                Err(self.pager.corrupt(number, fault))
            }
        }
    }
}

/// Deletes the catalog's entries of trees that are no more. `names` is sorted.
fn remove_dropped(pages: &mut TxnPages, root: &mut TreeRoot, names: &[&str]) -> Result<()> {
    let mut gone = Vec::new();
    let mut cursor = tree::Cursor::new(&*pages, root);
    let mut more = cursor.first()?;
    while more {
        let name = cursor.key();
        let is_known = std::str::from_utf8(name).is_ok_and(|n| names.binary_search(&n).is_ok());
        if !is_known {
            gone.push(name.to_vec());
        }
        more = cursor.next()?;
    }
    drop(cursor);
    for name in gone {
        tree::delete(pages, root, &name)?;
    }
    Ok(())
}
