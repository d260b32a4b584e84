//! What keeps an open database open: shared by its handles, snapshots and transactions.

use std::sync::Arc;

use crate::clock::Forward;
use crate::hot::HotTier;
use crate::txn::engine::Engine;

/// Closes the database when the last one who holds it is gone.
#[derive(Debug)]
pub(crate) struct Handle {
    pub engine: Arc<Engine>,
    pub clock: Forward,
    /// Values of keys and decoded documents of the newest published state.
    pub hot: Arc<HotTier>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.engine.close() {
            tracing::error!(%error, "the database was not closed cleanly");
        }
    }
}
