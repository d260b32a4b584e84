//! The newest state of a file as an open shows it, the log applied, with all trees: what `diff` and
//! `dump` read.
//!
//! # Invariants
//!
//! 1. The file is opened for reading only, and locked so that nobody writes to it meanwhile.
//! 2. Nothing is hidden because it has expired: whole trees are shown as they are.

use std::ops::Bound;
use std::sync::Arc;

use super::rebuild::{Pair, Standing};
use crate::moment::Moment;
use crate::storage::Storage;
use crate::txn::snapshot::Snapshot;
use crate::{Aurora, Result};

/// A state of a file.
#[derive(Debug)]
pub struct Reader {
    snapshot: Snapshot,
    page_size: u32,
}

impl Reader {
    /// Opens a file, and replays its log in memory.
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        let builder = Aurora::builder().read_only(true).create(false);
        let builder = builder.background(false).clock(Arc::new(Standing));
        let db = builder.open_storage(storage)?;
        Ok(Reader {
            snapshot: db.begin_read()?,
            page_size: db.handle.engine.pager.page_size(),
        })
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// The names of all trees, in order.
    pub fn trees(&self) -> Vec<String> {
        self.snapshot.all_tree_names().map(str::to_string).collect()
    }

    /// How many entries a tree has.
    pub fn count(&self, tree: &str) -> u64 {
        self.snapshot.system_view(tree).map_or(0, |view| view.len())
    }

    /// The entries from a place on, about so many bytes of them and at least one if there is any.
    pub fn entries(&self, tree: &str, from: Bound<&[u8]>, limit_bytes: usize) -> Result<Vec<Pair>> {
        let view = self.snapshot.system_view(tree);
        view.map_or(Ok(Vec::new()), |view| {
            super::rebuild::batch(&view, from, limit_bytes)
        })
    }
}
