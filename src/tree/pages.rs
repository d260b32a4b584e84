//! What the tree needs of the pager: pages to read, and private pages to change.

use std::ops::Deref;

use super::delete::End;
use crate::Result;
use crate::format::{PageNumber, PageRef, RunRef, Version};

/// A source of verified pages: one state of the database.
pub(crate) trait ReadPages {
    /// Keeps a page's bytes in place for as long as it lives.
    type Bytes<'p>: Deref<Target = [u8]>
    where
        Self: 'p;

    fn page_size(&self) -> u32;

    /// The bytes of a leaf or branch page: `page_size` long, with the right checksum, and valid
    /// as a node (`format::node::validate`). That the level is the expected one is left to the
    /// caller to check.
    fn read(&self, page: &PageRef) -> Result<Self::Bytes<'_>>;

    /// Asks for what [`read`](Self::read) looks at first. Never waits.
    #[inline]
    fn ask(&self, _page: &PageRef) {}

    /// Asks for the leaf in that slot of a branch, before it is known which page it is. Never waits.
    #[inline]
    fn ask_for_leaf(&self, _branch: PageNumber, _slot: usize) {}

    /// What `read` gave is the leaf in that slot of a branch.
    #[inline]
    fn note_leaf(&self, _branch: PageNumber, _slot: usize, _leaf: &[u8]) {}

    /// Whether to read a page may be to wait for the device. (Where all pages are in memory, it never is.)
    #[inline]
    fn is_far(&self, _page: PageNumber) -> bool {
        false
    }

    /// Has the device begin with pages that are read soon, where it is to be waited for. Does not wait itself.
    #[inline]
    fn fetch(&self, _pages: impl Iterator<Item = PageNumber>) {}

    /// The same for long values.
    #[inline]
    fn fetch_runs(&self, _runs: impl Iterator<Item = RunRef>) {}

    /// Has a look at a leaf or branch page, as `read` gives it.
    #[inline]
    fn look<R>(&self, page: &PageRef, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        Ok(look(&self.read(page)?))
    }

    /// Several looks and reads one after the other, which cost less together.
    #[inline]
    fn together<R>(&self, reads: impl FnOnce() -> R) -> R {
        reads()
    }

    /// Asks for lines of a page that will be read soon, if it is in memory. Never waits.
    #[inline]
    fn warm(&self, _page: &PageRef, _lines: impl FnOnce(&[u8])) {}

    /// Asks for what tells where a long value is. Never waits.
    #[inline]
    fn ask_for_run(&self, _run: &RunRef) {}

    /// Asks for the first lines of a long value that will be read soon, if it is in memory. Never waits.
    #[inline]
    fn warm_run(&self, _run: &RunRef) {}

    /// The bytes of a long value, verified: exactly `run.length_bytes`.
    fn read_run(&self, run: &RunRef) -> Result<Self::Bytes<'_>>;
}

/// Where the next entry will go, by where the last ones went. Only a guess.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ends {
    last: Option<End>,
    likely: Option<End>,
}

impl Ends {
    /// An entry was stored at an end of its tree, or between others.
    #[inline]
    pub(super) fn note(&mut self, end: Option<End>) {
        self.likely = end.filter(|_| end == self.last);
        self.last = end;
    }

    /// The end at which two entries in a row were stored.
    #[inline]
    pub(crate) fn likely(&self) -> Option<End> {
        self.likely
    }
}

/// A transaction's pages: private copies that it may change, on top of the state it began from.
pub(crate) trait WritePages: ReadPages {
    /// The version that new pages are born with. Pages with this birth are private: the
    /// transaction changes them in place.
    fn version(&self) -> Version;

    /// Makes the page private. Returns its number: the same one if it was private already, else
    /// that of a copy (number and birth in the copy's header are set); the original is then freed
    /// as by `free`.
    fn make_private(&mut self, page: &PageRef) -> Result<PageNumber>;

    /// Makes the page private, and gives its bytes to be changed.
    fn private_bytes(&mut self, page: &PageRef) -> Result<(PageNumber, &mut [u8])> {
        let page = self.make_private(page)?;
        Ok((page, self.bytes_mut(page)?))
    }

    /// The bytes of a private page, to be changed.
    fn bytes_mut(&mut self, page: PageNumber) -> Result<&mut [u8]>;

    /// A new private page: header initialised (`format::page::init`) with this kind and level.
    fn allocate(&mut self, kind: u8, level: u8) -> Result<PageNumber>;

    /// The state no longer uses this page, which was born at `birth`.
    fn free(&mut self, page: PageNumber, birth: Version);

    /// The private leaf is full, and entries went on behind it: it will probably not change again.
    fn finished(&mut self, _leaf: PageNumber) {}

    /// At which ends of their trees the last entries were stored, whatever the trees.
    fn ends(&mut self) -> &mut Ends;

    /// Stores a long value in contiguous pages.
    fn allocate_run(&mut self, value: &[u8]) -> Result<RunRef>;

    /// The state no longer uses this run.
    fn free_run(&mut self, run: &RunRef);
}
