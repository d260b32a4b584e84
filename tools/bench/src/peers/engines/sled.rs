//! sled.
//!
//! "Durable": `flush` after each batch. It returns before the device has the bytes, so durable rows
//! are shown and compared with nothing. Unsynced: nothing is said; it flushes twice a second.

use ::sled::{Batch, Config, Db};

use crate::engine::{Outcome, Peer, Place, Promise, Reader, Reading, Visit, Writer, Writing};

pub struct Sled {
    db: Db,
}

impl Sled {
    pub fn open(place: &Place) -> Outcome<Self> {
        let config = Config::new()
            .path(place.directory.join("sled"))
            .cache_capacity(place.cache_bytes);
        Ok(Sled { db: config.open()? })
    }
}

impl Peer for Sled {
    fn write(&self, promise: Promise, work: Writing<'_>) -> Outcome<()> {
        let mut batch = Operations(Batch::default());
        work(&mut batch)?;
        self.db.apply_batch(batch.0)?;
        if promise == Promise::Durable {
            self.db.flush()?;
        }
        Ok(())
    }

    /// It has no snapshots.
    fn read(&self, work: Reading<'_>) -> Outcome<()> {
        work(&mut View(&self.db))
    }

    fn flush(&self) -> Outcome<()> {
        self.db.flush()?;
        Ok(())
    }

    fn settle(&self) -> Outcome<()> {
        self.flush()
    }

    fn compact(&mut self) -> Outcome<bool> {
        Ok(false)
    }
}

struct Operations(Batch);

impl Writer for Operations {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        self.0.insert(key, value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Outcome<()> {
        self.0.remove(key);
        Ok(())
    }
}

struct View<'d>(&'d Db);

impl Reader for View<'_> {
    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let found = self.0.get(key)?;
        if let Some(value) = &found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn scan(&mut self, from: &[u8], limit: u64, visit: Visit<'_>) -> Outcome<()> {
        for entry in self.0.range(from..).take(limit as usize) {
            let (key, value) = entry?;
            visit(&key, &value);
        }
        Ok(())
    }

    fn len(&mut self) -> Outcome<u64> {
        Ok(self.0.len() as u64)
    }

    fn count(&mut self, low: &[u8], high: &[u8]) -> Outcome<u64> {
        let mut count = 0;
        for key in self.0.range(low..high).keys() {
            key?;
            count += 1;
        }
        Ok(count)
    }
}
