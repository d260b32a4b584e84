//! The pages that all readers share, as the trees read them: under one pin, or each with a count of its own.

use crate::Result;
use crate::format::{Fault, PageNumber, PageRef, RunRef};
use crate::pager::{PageBytes, Pager, Pin, PinnedBytes};
use crate::prefetch::prefetch_start;
use crate::tree::pages::ReadPages;

/// Pages read under one pin.
pub(super) struct PinnedPages<'g> {
    pub pager: &'g Pager,
    pub pin: &'g Pin,
}

impl<'g> ReadPages for PinnedPages<'g> {
    type Bytes<'p>
        = PinnedBytes<'g>
    where
        Self: 'p;

    fn page_size(&self) -> u32 {
        self.pager.page_size()
    }

    #[inline]
    fn ask(&self, page: &PageRef) {
        if let Some(entry) = self.pager.known(page.page) {
            prefetch_start(entry);
        }
    }

    #[inline]
    fn ask_for_leaf(&self, branch: PageNumber, slot: usize) {
        self.pager.ask_for_leaf(branch, slot);
    }

    #[inline]
    fn note_leaf(&self, branch: PageNumber, slot: usize, leaf: &[u8]) {
        self.pager.note_leaf(branch, slot, leaf);
    }

    #[inline]
    fn is_far(&self, page: PageNumber) -> bool {
        self.pager.is_far(page)
    }

    fn fetch(&self, pages: impl Iterator<Item = PageNumber>) {
        self.pager.fetch(pages);
    }

    fn fetch_runs(&self, runs: impl Iterator<Item = RunRef>) {
        self.pager.fetch_runs(runs);
    }

    #[inline]
    fn read(&self, page: &PageRef) -> Result<PinnedBytes<'g>> {
        self.pager.read_pinned(page, self.pin)
    }

    fn read_run(&self, run: &RunRef) -> Result<PinnedBytes<'g>> {
        // Values are read through the pager, which gives bytes that outlive the pin. An empty one would be wrong data.
        let what = "a long value was asked of pages that give nodes only";
        let fault = Fault::new(what, 0, 0, run.length_bytes.into());
        Err(self.pager.corrupt(run.first, fault))
    }
}

impl ReadPages for Pager {
    type Bytes<'p> = PageBytes<'p>;

    fn page_size(&self) -> u32 {
        Pager::page_size(self)
    }

    #[inline]
    fn read(&self, page: &PageRef) -> Result<PageBytes<'_>> {
        self.hold(page)
    }

    fn ask(&self, page: &PageRef) {
        self.expect(page.page);
    }

    #[inline]
    fn ask_for_leaf(&self, branch: PageNumber, slot: usize) {
        Pager::ask_for_leaf(self, branch, slot);
    }

    #[inline]
    fn note_leaf(&self, branch: PageNumber, slot: usize, leaf: &[u8]) {
        Pager::note_leaf(self, branch, slot, leaf);
    }

    #[inline]
    fn is_far(&self, page: PageNumber) -> bool {
        Pager::is_far(self, page)
    }

    fn fetch(&self, pages: impl Iterator<Item = PageNumber>) {
        Pager::fetch(self, pages);
    }

    fn fetch_runs(&self, runs: impl Iterator<Item = RunRef>) {
        Pager::fetch_runs(self, runs);
    }

    /// Under a pin: a count of a frame would be a change of memory that all readers share.
    #[inline]
    fn look<R>(&self, page: &PageRef, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let pin = crate::pager::pin();
        Ok(look(&self.read_pinned(page, &pin)?))
    }

    /// Under one pin: those within count no more than a number of their thread. (A pin is a fence.)
    #[inline]
    fn together<R>(&self, reads: impl FnOnce() -> R) -> R {
        let _pin = crate::pager::pin();
        reads()
    }

    #[inline]
    fn warm(&self, page: &PageRef, lines: impl FnOnce(&[u8])) {
        let pin = crate::pager::pin();
        if let Some(bytes) = self.peek(page.page, &pin) {
            lines(&bytes);
        }
    }

    #[inline]
    fn ask_for_run(&self, run: &RunRef) {
        if let Some(entry) = self.known(run.first) {
            prefetch_start(entry);
        }
    }

    #[inline]
    fn warm_run(&self, run: &RunRef) {
        Pager::warm_run(self, run);
    }

    fn read_run(&self, run: &RunRef) -> Result<PageBytes<'_>> {
        Pager::read_run(self, run)
    }
}
