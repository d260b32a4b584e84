//! fjall, without compression: the values are random.
//!
//! Durable: `PersistMode::SyncData` with each batch, `fdatasync` of its journal. Unsynced:
//! `PersistMode::Buffer`, which is what it does if nothing is said.

use ::fjall::Readable;
use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Snapshot};

use crate::engine::{Outcome, Peer, Place, Promise, Reader, Reading, Visit, Writer, Writing};

pub struct Fjall {
    db: Database,
    data: Keyspace,
}

impl Fjall {
    pub fn open(place: &Place) -> Outcome<Self> {
        let mut builder = Database::builder(&place.directory).cache_size(place.cache_bytes);
        let mut options = KeyspaceCreateOptions::default();
        if let Some(log_bytes) = place.log_bytes {
            builder = builder.max_journaling_size(log_bytes * 4);
            options = options.max_memtable_size(log_bytes * 4);
        }
        let db = builder.open()?;
        let data = db.keyspace("data", || options)?;
        Ok(Fjall { db, data })
    }
}

impl Peer for Fjall {
    fn write(&self, promise: Promise, work: Writing<'_>) -> Outcome<()> {
        let mode = match promise {
            Promise::Durable => PersistMode::SyncData,
            Promise::Unsynced => PersistMode::Buffer,
        };
        let mut batch = Batch {
            data: &self.data,
            batch: self.db.batch().durability(Some(mode)),
        };
        work(&mut batch)?;
        Ok(batch.batch.commit()?)
    }

    fn read(&self, work: Reading<'_>) -> Outcome<()> {
        work(&mut View {
            data: &self.data,
            snapshot: self.db.snapshot(),
        })
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }

    fn settle(&self) -> Outcome<()> {
        self.db.persist(PersistMode::SyncAll)?;
        self.data.rotate_memtable_and_wait()?;
        Ok(())
    }

    fn compact(&mut self) -> Outcome<bool> {
        self.data.rotate_memtable_and_wait()?;
        self.data.major_compact()?;
        Ok(true)
    }
}

struct Batch<'b> {
    data: &'b Keyspace,
    batch: OwnedWriteBatch,
}

impl Writer for Batch<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        self.batch.insert(self.data, key, value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Outcome<()> {
        self.batch.remove(self.data, key);
        Ok(())
    }
}

struct View<'b> {
    data: &'b Keyspace,
    snapshot: Snapshot,
}

impl Reader for View<'_> {
    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let found = self.snapshot.get(self.data, key)?;
        if let Some(value) = &found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn scan(&mut self, from: &[u8], limit: u64, visit: Visit<'_>) -> Outcome<()> {
        let range = self.snapshot.range::<&[u8], _>(self.data, from..);
        for entry in range.take(limit as usize) {
            let (key, value) = entry.into_inner()?;
            visit(&key, &value);
        }
        Ok(())
    }

    fn len(&mut self) -> Outcome<u64> {
        Ok(self.snapshot.len(self.data)? as u64)
    }

    fn count(&mut self, low: &[u8], high: &[u8]) -> Outcome<u64> {
        let mut count = 0;
        for entry in self.snapshot.range::<&[u8], _>(self.data, low..high) {
            entry.key()?;
            count += 1;
        }
        Ok(count)
    }
}
