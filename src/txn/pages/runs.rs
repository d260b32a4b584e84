//! Long values of a transaction: straight to their place if they are long enough, else in the slab like pages.

use super::TxnPages;
use crate::Result;
use crate::format::{PageNumber, RunRef};
use crate::pager::frame::Unique;
use crate::tree::pages::ReadPages;
use crate::txn::tree_mut::Pieces;

/// Values from this length on are written straight to their place and logged by reference.
pub(crate) const DIRECT_BYTES: usize = 32 << 10;

impl TxnPages {
    /// Whether values were written straight to their place: they must be synced before a record
    /// that refers to them.
    pub(crate) fn direct_bytes(&self) -> u64 {
        self.direct_bytes
    }

    pub(crate) fn is_direct(run: &RunRef) -> bool {
        run.length_bytes as usize >= DIRECT_BYTES
    }

    /// Numbers of pages that were written straight to the file by a record of the log that is
    /// being replayed.
    pub(crate) fn adopt_run(&mut self, run: &RunRef) {
        let pages = run.pages(self.engine.pager.page_size());
        self.allocated.push((run.first, pages));
    }

    /// Long values side by side. Few writes for all of them took less time than one for each, and what
    /// the system keeps of them in memory is in larger pieces, which are faster to read.
    pub(crate) fn allocate_pieces(&mut self, pieces: &Pieces<'_>) -> Result<Vec<RunRef>> {
        self.spill_if_due()?;
        let page_size = self.page_size();
        let pages = pieces.bytes.len().div_ceil(page_size as usize);
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        let mut first = self.allocate_below_ceiling(pages)?;
        self.allocated.push((first, pages));
        self.direct_bytes += pieces.bytes.len() as u64;
        self.engine.pager.write_run(first, pieces.bytes)?;
        let chunks = pieces.bytes.chunks(pieces.each).zip(pieces.checksums);
        let run = |(value, checksum): (&[u8], &u32)| {
            let run = RunRef {
                first,
                length_bytes: u32::try_from(value.len()).unwrap_or(u32::MAX),
                checksum: *checksum,
                birth: self.version,
            };
            first += run.pages(page_size);
            run
        };
        Ok(chunks.map(run).collect())
    }

    pub(super) fn store_run(&mut self, first: PageNumber, value: &[u8]) -> Result<()> {
        if value.len() >= DIRECT_BYTES {
            self.direct_bytes += value.len() as u64;
            let pager = &self.engine.pager;
            if self.can_spill {
                return pager.write_run(first, value);
            }
        }
        self.put_slot(first, Unique::copy_of(value, self.version, true));
        Ok(())
    }
}
