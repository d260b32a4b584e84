//! Snapshots: one moment of the database, for as long as it is held.

use std::sync::Arc;

use super::engine::Engine;
use super::state::State;
use super::value::LongValue;
use super::view::{Source, TreeView};
use crate::format::RunRef;
use crate::handle::Handle;
use crate::moment::SYSTEM_PREFIX;
use crate::txn::write::check_not_system;
use crate::{Error, Result};

/// A consistent view of the whole database at one moment.
///
/// It sees every commit that was visible when it was taken and nothing later, for as long as it
/// lives. It never blocks a writer or a checkpoint, and nothing blocks it; what it costs is space:
/// pages that it can see and that newer states no longer use are kept until it is dropped.
///
/// Taking one costs some tens of nanoseconds. Cloning is as cheap.
#[derive(Debug, Clone)]
pub struct Snapshot {
    state: Arc<State>,
    handle: Arc<Handle>,
    taken_ms: u64,
}

impl Snapshot {
    pub(crate) fn new(handle: Arc<Handle>) -> Result<Self> {
        handle.engine.check_open()?;
        // The time first: a key that is renewed in between must not look expired.
        let taken_ms = handle.clock.now_ms();
        let state = handle.engine.log.published();
        Ok(Snapshot {
            state,
            handle,
            taken_ms,
        })
    }

    /// A value of this snapshot that was found before.
    pub(crate) fn long_value(&self, run: RunRef) -> LongValue<'_> {
        let pager = &self.handle.engine.pager;
        LongValue { pager, run }
    }

    /// The number of the state that this snapshot sees. It grows with every commit.
    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// The tree of that name.
    ///
    /// # Errors
    /// [`Error::TreeNotFound`] if there was none at this moment.
    pub fn tree(&self, name: impl AsRef<str>) -> Result<TreeView<'_>> {
        let name = name.as_ref();
        check_not_system(name)?;
        self.find(name).ok_or_else(|| not_found(name))
    }

    /// A tree of any name, the database's own included.
    pub(crate) fn find(&self, name: &str) -> Option<TreeView<'_>> {
        Some(TreeView {
            source: Source::Shared(&self.handle.engine.pager),
            root: self.state.trees.root(self.state.trees.id(name)?),
        })
    }

    /// The names of all trees, in order.
    pub fn tree_names(&self) -> impl Iterator<Item = &str> {
        let names = self.state.trees.names().map(|(name, _)| name);
        names.filter(|name| !name.starts_with(SYSTEM_PREFIX))
    }

    /// The names of the database's own trees too.
    pub(crate) fn all_tree_names(&self) -> impl Iterator<Item = &str> {
        self.state.trees.names().map(|(name, _)| name)
    }

    pub(crate) fn taken_ms(&self) -> u64 {
        self.taken_ms
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.handle.engine
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }
}

pub(crate) fn not_found(name: &str) -> Error {
    Error::TreeNotFound {
        name: name.to_string(),
    }
}
