//! What keeps an open database open: shared by its handles, snapshots and transactions.

use std::sync::Arc;

use crate::blob::Uploads;
use crate::clock::Forward;
use crate::txn::engine::Engine;

/// Closes the database when the last one who holds it is gone.
#[derive(Debug)]
pub(crate) struct Handle {
    pub engine: Arc<Engine>,
    pub clock: Forward,
    pub uploads: Arc<Uploads>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.engine.close() {
            tracing::error!(%error, "the database was not closed cleanly");
        }
    }
}
