//! What a checkpoint writes of the space map: an image of the newest state, and places for the pages of the map
//! that change with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::read::read_bitmap;
use super::{Space, SpaceTree, count_ones, flip};
use crate::Result;
use crate::format::space::{self as layout, SpaceEntry};
use crate::format::{PageNumber, PageRef, page};
use crate::pager::Pager;

/// The `used` bitmaps of one state, while a checkpoint writes them.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpaceImage {
    pub(super) chunks: Vec<Option<Arc<[u64]>>>,
    pub(super) dirty: BTreeSet<usize>,
}

/// A page of the space map to be written: level, index in the level, page number.
pub(crate) type SpaceNode = (u8, usize, PageNumber);

/// What writing an image takes.
#[derive(Debug, Default)]
pub(crate) struct SpacePlan {
    pub image: SpaceImage,
    pub tree: SpaceTree,
    /// Bottom-up.
    pub nodes: Vec<SpaceNode>,
    /// Pages of the map before, which the new checkpoint does not use.
    pub freed: Vec<PageNumber>,
    /// The length of the file in pages that the checkpoint needs.
    pub pages: u32,
}

impl Space {
    /// The bitmaps of the newest committed state, for a checkpoint of it.
    pub(crate) fn take_image(&mut self) -> SpaceImage {
        let mut image = SpaceImage::default();
        for (index, chunk) in self.chunks.iter_mut().enumerate() {
            image.chunks.push(chunk.used.clone());
            if std::mem::take(&mut chunk.dirty) {
                image.dirty.insert(index);
            }
        }
        image
    }

    /// The checkpoint failed: what it would have written is still to be written.
    pub(crate) fn give_back(&mut self, image: &SpaceImage) {
        for index in &image.dirty {
            if let Some(chunk) = self.chunks.get_mut(*index) {
                chunk.dirty = true;
            }
        }
    }

    /// A page that belongs to the checkpoint itself: marked in its image and in the present.
    pub(crate) fn set_used_in(
        &mut self,
        pager: &Pager,
        image: &mut SpaceImage,
        page: PageNumber,
        used: bool,
    ) -> Result<()> {
        let (index, word, bit) = self.place(page);
        self.complete(pager, image, index)?;
        if let Some(Some(words)) = image.chunks.get_mut(index) {
            flip(words, word, bit, used);
        }
        image.dirty.insert(index);
        self.load(pager, index)?;
        self.flip_used(page, used);
        Ok(())
    }

    /// Has the image hold that bitmap, which is going to be written: because it changes, or only to have it elsewhere.
    fn complete(&self, pager: &Pager, image: &mut SpaceImage, index: usize) -> Result<()> {
        if image.chunks.len() <= index {
            image.chunks.resize(index + 1, None);
        }
        if let Some(slot) = image.chunks.get_mut(index)
            && slot.is_none()
        {
            // Not loaded when the image was taken: unchanged since the durable checkpoint.
            *slot = Some(read_bitmap(pager, &self.tree, index, self.bits)?.into());
        }
        Ok(())
    }

    /// Finds places for the pages of the space map that change with `image`, and marks them in it.
    /// `moved` says which pages must get a new place though they did not change.
    pub(crate) fn plan(
        &mut self,
        pager: &Pager,
        image: SpaceImage,
        moved: &dyn Fn(PageNumber) -> bool,
    ) -> Result<SpacePlan> {
        let mut plan = SpacePlan {
            image,
            tree: self.tree.clone(),
            ..SpacePlan::default()
        };
        let mut placed: BTreeSet<(usize, usize)> = BTreeSet::new();
        // Placing a page may dirty one more bitmap, and so on; each is placed once, so this ends.
        loop {
            self.fit_levels(pager, &mut plan)?;
            let dirty = self.nodes_to_place(&plan, moved);
            let mut progress = false;
            for (level, index) in dirty {
                if placed.insert((level, index)) {
                    progress = true;
                    self.place_node(pager, &mut plan, level, index)?;
                }
            }
            if !progress {
                break;
            }
        }
        plan.pages = self.end;
        self.planned_end = plan.pages;
        plan.nodes = placed
            .into_iter()
            .filter_map(|(level, index)| {
                let entry = plan.tree.levels.get(level)?.get(index)?;
                Some((level as u8, index, entry.page.page))
            })
            .collect();
        Ok(plan)
    }

    /// Gives the tree as many nodes on each level as the file's length asks for.
    fn fit_levels(&mut self, pager: &Pager, plan: &mut SpacePlan) -> Result<()> {
        let bitmaps = self.end.div_ceil(self.bits) as usize;
        let levels = usize::from(layout::root_level(bitmaps, self.page_size)) + 1;
        let fanout = layout::entries_per_page(self.page_size);
        let mut nodes = bitmaps;
        let mut dropped = Vec::new();
        for spare in plan.tree.levels.drain(levels.min(plan.tree.levels.len())..) {
            dropped.extend(spare);
        }
        plan.tree.levels.resize(levels, Vec::new());
        for level in &mut plan.tree.levels {
            if level.len() > nodes {
                dropped.extend(level.drain(nodes..));
            }
            level.resize(nodes, SpaceEntry::default());
            nodes = nodes.div_ceil(fanout);
        }
        for entry in dropped {
            self.drop_node(pager, plan, entry.page.page)?;
        }
        Ok(())
    }

    fn drop_node(&mut self, pager: &Pager, plan: &mut SpacePlan, page: PageNumber) -> Result<()> {
        if page != 0 {
            plan.freed.push(page);
            self.set_used_in(pager, &mut plan.image, page, false)?;
        }
        Ok(())
    }

    /// Changed bitmaps, every index page above one, and each that has another number of pages below it than the durable one
    /// of its place, level by level. (Where the file becomes shorter, what is below the last one can be all unchanged.)
    fn nodes_to_place(
        &self,
        plan: &SpacePlan,
        moved: &dyn Fn(PageNumber) -> bool,
    ) -> BTreeSet<(usize, usize)> {
        let fanout = layout::entries_per_page(self.page_size);
        let mut nodes = BTreeSet::new();
        for (level, entries) in plan.tree.levels.iter().enumerate() {
            for (index, entry) in entries.iter().enumerate() {
                let children = index * fanout..(index + 1) * fanout;
                let changed = match level.checked_sub(1) {
                    None => plan.image.dirty.contains(&index),
                    Some(below) => {
                        let placed = (below, children.start)..(below, children.end);
                        nodes.range(placed).next().is_some()
                            || plan.tree.count(below, &children)
                                != self.tree.count(below, &children)
                    }
                };
                if changed || entry.page.page == 0 || moved(entry.page.page) {
                    nodes.insert((level, index));
                }
            }
        }
        nodes
    }

    fn place_node(
        &mut self,
        pager: &Pager,
        plan: &mut SpacePlan,
        level: usize,
        index: usize,
    ) -> Result<()> {
        if level == 0 {
            self.complete(pager, &mut plan.image, index)?;
        }
        let page = self.allocate(pager)?;
        self.set_used_in(pager, &mut plan.image, page, true)?;
        let entry = plan
            .tree
            .levels
            .get_mut(level)
            .and_then(|l| l.get_mut(index));
        let old = entry.map(|entry| {
            let old = entry.page.page;
            entry.page = PageRef { page, checksum: 0 };
            old
        });
        self.drop_node(pager, plan, old.unwrap_or(0))
    }

    /// Undoes a plan whose checkpoint failed.
    pub(crate) fn abandon(&mut self, pager: &Pager, plan: &SpacePlan) -> Result<()> {
        self.planned_end = 0;
        let pin = crate::pager::pin();
        for (_, _, page) in &plan.nodes {
            // Or what serves as a node next would seem to be written with the checksum that this one was written with.
            pager.forget(*page, &pin);
            self.set_used(pager, *page, 1, false)?;
            self.release(pager, *page, 1)?;
        }
        for page in &plan.freed {
            self.set_used(pager, *page, 1, true)?;
        }
        self.give_back(&plan.image);
        Ok(())
    }
}

impl SpacePlan {
    /// Fills the bytes of a node whose children are sealed.
    pub(crate) fn encode(
        &mut self,
        page_size: u32,
        birth: u64,
        (level, index, number): SpaceNode,
    ) -> Vec<u8> {
        let mut bytes = vec![0; page_size as usize];
        let level = usize::from(level);
        let used = if level == 0 {
            page::init(&mut bytes, number, birth, page::SPACE_BITMAP, 0);
            let words = self.image.chunks.get(index).and_then(|c| c.as_deref());
            let words = words.unwrap_or_default();
            layout::put_words(&mut bytes, words);
            count_ones(words)
        } else {
            page::init(&mut bytes, number, birth, page::SPACE_INDEX, level as u8);
            let fanout = layout::entries_per_page(page_size);
            let children = self.tree.levels.get(level - 1).into_iter().flatten();
            let mut used = 0u32;
            let mut count = 0;
            for child in children.skip(index * fanout).take(fanout) {
                layout::put_entry(&mut bytes, count, child);
                count += 1;
                used = used.saturating_add(child.used);
            }
            crate::format::put_u16(&mut bytes, page::COUNT, count as u16);
            used
        };
        if let Some(entry) = self.entry_mut(level, index) {
            entry.used = used;
        }
        bytes
    }

    /// Records the checksum of a node's bytes.
    pub(crate) fn seal(&mut self, (level, index, _): SpaceNode, checksum: u32) {
        if let Some(entry) = self.entry_mut(usize::from(level), index) {
            entry.page.checksum = checksum;
        }
    }

    fn entry_mut(&mut self, level: usize, index: usize) -> Option<&mut SpaceEntry> {
        self.tree.levels.get_mut(level)?.get_mut(index)
    }

    /// The root, and its level.
    pub(crate) fn root(&self) -> (PageRef, u8) {
        let level = self.tree.levels.len().saturating_sub(1);
        let root = self.tree.levels.last().and_then(|l| l.first());
        (root.map(|e| e.page).unwrap_or_default(), level as u8)
    }
}
