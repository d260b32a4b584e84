//! What keeps an open database open: shared by its handles, snapshots and transactions.

use std::fmt;
use std::sync::Arc;

use crate::Result;
use crate::blob::Uploads;
use crate::clock::Forward;
use crate::collection::catalog::Catalog;
use crate::collection::new_id::Ids;
use crate::events;
use crate::hot::HotTier;
use crate::keys::expiry;
use crate::keys::sweeper::Alarm;
use crate::storage::FileStorage;
use crate::sync::shielded;
use crate::txn::engine::Engine;
use crate::txn::write::{Durability, WriteTransaction};

/// Closes the database when the last one who holds it is gone.
pub(crate) struct Handle {
    pub engine: Arc<Engine>,
    /// The file, if it is one of the system's: copies are for those who may read it.
    pub file: Option<Arc<FileStorage>>,
    pub clock: Arc<Forward>,
    pub alarm: Arc<Alarm>,
    /// Values of keys and decoded documents of the newest published state.
    pub hot: Arc<HotTier>,
    pub catalog: Arc<Catalog>,
    pub ids: Arc<Ids>,
    pub uploads: Arc<Uploads>,
    /// Not so for the handles of the database's own threads.
    keeps_open: bool,
}

/// Without what is in it: a program that prints its handle would print the data, megabytes of it.
impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn new(
        engine: Arc<Engine>,
        file: Option<Arc<FileStorage>>,
        clock: Forward,
        alarm: Alarm,
        hot: HotTier,
    ) -> Self {
        Handle {
            engine,
            file,
            clock: Arc::new(clock),
            alarm: Arc::new(alarm),
            hot: Arc::new(hot),
            catalog: Arc::default(),
            ids: Arc::default(),
            uploads: Arc::default(),
            keeps_open: true,
        }
    }

    /// A handle on the same database that does not keep it open: for its own threads, so that it
    /// is always the user's last handle that closes it, and on the user's thread.
    pub(crate) fn helper(&self) -> Self {
        Handle {
            engine: self.engine.clone(),
            file: self.file.clone(),
            clock: self.clock.clone(),
            alarm: self.alarm.clone(),
            hot: self.hot.clone(),
            catalog: self.catalog.clone(),
            ids: self.ids.clone(),
            uploads: self.uploads.clone(),
            keeps_open: false,
        }
    }

    pub(crate) fn close(&self) -> Result<()> {
        self.engine.check_origin()?; // before any lock
        if self.engine.check_writable().is_ok()
            && let Err(error) = shielded("store the time", |_| {}, || self.store_clock())
        {
            // It only matters if the clock goes back, and must not stop the rest: a clock that panics neither.
            events::tell(move || tracing::warn!(%error, "the time could not be stored"));
        }
        self.alarm.stop();
        self.engine.close()
    }

    /// Stores the time, so that it cannot be earlier when the database is opened again. Only where
    /// something may expire: to others the time means nothing.
    fn store_clock(&self) -> Result<()> {
        let turn = self.engine.turns.wait();
        let helper = Arc::new(self.helper());
        // The checkpoint that follows makes it durable.
        let mut tx = WriteTransaction::new(helper, turn, Durability::Buffered)?;
        let now_ms = tx.begun_ms();
        if tx.find(expiry::EXPIRY).is_some() && expiry::raise_clock(&mut tx, now_ms)? {
            tx.commit()?;
        }
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.keeps_open {
            return;
        }
        if self.engine.check_origin().is_err() {
            // Its parts may be locked, by threads that are not here: it stays as it is until this process ends.
            std::mem::forget(self.engine.clone());
            return;
        }
        if let Err(error) = self.close() {
            events::tell(move || tracing::error!(%error, "the database was not closed cleanly"));
        }
    }
}
