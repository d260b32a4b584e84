//! canopydb.
//!
//! Durable: `commit_with(true)`: the log is synced before the commit returns. Unsynced:
//! `commit_with(false)`, its default; the log is synced once a second.

use std::time::Duration;

use canopydb::{Database, DbOptions, EnvOptions, Tree};

use crate::engine::{Outcome, Peer, Place, Promise, Reader, Reading, Visit, Writer, Writing};

const TREE: &[u8] = b"data";

pub struct Canopy {
    db: Database,
}

impl Canopy {
    pub fn open(place: &Place) -> Outcome<Self> {
        let mut options = EnvOptions::new(&place.directory);
        options.page_cache_size = place.cache_bytes as usize;
        let mut own = DbOptions::new();
        if let Some(log_bytes) = place.log_bytes {
            options.max_wal_size = log_bytes * 4;
            own.checkpoint_target_size = log_bytes as usize * 4;
            own.throttle_memory_limit = log_bytes as usize * 4;
            own.stall_memory_limit = log_bytes as usize * 4;
            own.checkpoint_interval = Duration::from_secs(3600);
        }
        let db = Database::with_options(options, own)?;
        let tx = db.begin_write()?;
        tx.get_or_create_tree(TREE)?;
        tx.commit()?;
        Ok(Canopy { db })
    }
}

impl Peer for Canopy {
    fn write(&self, promise: Promise, work: Writing<'_>) -> Outcome<()> {
        let tx = self.db.begin_write()?;
        work(&mut Tx(tx.get_or_create_tree(TREE)?))?;
        tx.commit_with(promise == Promise::Durable)?;
        Ok(())
    }

    fn read(&self, work: Reading<'_>) -> Outcome<()> {
        let tx = self.db.begin_read()?;
        work(&mut View(tx.get_tree(TREE)?.ok_or("no tree")?))
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.db.sync()?)
    }

    fn settle(&self) -> Outcome<()> {
        self.db.sync()?;
        Ok(self.db.checkpoint()?)
    }

    fn compact(&mut self) -> Outcome<bool> {
        self.db.compact()?;
        self.db.checkpoint()?;
        Ok(true)
    }
}

struct Tx<'t>(Tree<'t>);

impl Writer for Tx<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        Ok(self.0.insert(key, value)?)
    }

    fn delete(&mut self, key: &[u8]) -> Outcome<()> {
        self.0.delete(key)?;
        Ok(())
    }
}

struct View<'t>(Tree<'t>);

impl Reader for View<'_> {
    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let found = self.0.get(key)?;
        if let Some(value) = &found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn scan(&mut self, from: &[u8], limit: u64, visit: Visit<'_>) -> Outcome<()> {
        for entry in self.0.range(from..)?.take(limit as usize) {
            let (key, value) = entry?;
            visit(&key, &value);
        }
        Ok(())
    }

    fn len(&mut self) -> Outcome<u64> {
        Ok(self.0.len())
    }

    fn count(&mut self, low: &[u8], high: &[u8]) -> Outcome<u64> {
        let mut count = 0;
        for key in self.0.range_keys(low..high)? {
            key?;
            count += 1;
        }
        Ok(count)
    }
}
