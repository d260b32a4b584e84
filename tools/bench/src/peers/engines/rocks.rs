//! RocksDB, without compression: the values are random.
//!
//! Durable: `WriteOptions::set_sync(true)`: the log is synced before a write returns. Unsynced:
//! the same without, its default. A Bloom filter of 10 bits a key, as its own guide advises.

use rocksdb::{
    BlockBasedOptions, Cache, CompactOptions, DB, DBRawIterator, Options, ReadOptions, Snapshot,
    WriteBatch, WriteOptions,
};

use crate::engine::{Outcome, Peer, Place, Promise, Reader, Reading, Visit, Writer, Writing};

pub struct Rocks {
    db: DB,
}

impl Rocks {
    pub fn open(place: &Place) -> Outcome<Self> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(place.cache_bytes as usize));
        blocks.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        let threads = std::thread::available_parallelism()?.get();
        options.increase_parallelism(i32::try_from(threads)?);
        if let Some(log_bytes) = place.log_bytes {
            options.set_write_buffer_size(log_bytes as usize * 4);
            options.set_max_total_wal_size(log_bytes * 4);
        }
        let db = DB::open(&options, place.directory.join("rocksdb"))?;
        Ok(Rocks { db })
    }
}

impl Peer for Rocks {
    fn write(&self, promise: Promise, work: Writing<'_>) -> Outcome<()> {
        let mut batch = Batch(WriteBatch::default());
        work(&mut batch)?;
        let mut options = WriteOptions::default();
        options.set_sync(promise == Promise::Durable);
        Ok(self.db.write_opt(batch.0, &options)?)
    }

    fn read(&self, work: Reading<'_>) -> Outcome<()> {
        let snapshot = self.db.snapshot();
        let cursor = snapshot.raw_iterator();
        work(&mut View {
            cursor,
            snapshot: &snapshot,
        })
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn settle(&self) -> Outcome<()> {
        Ok(self.db.flush()?)
    }

    fn compact(&mut self) -> Outcome<bool> {
        self.db.flush()?;
        let options = CompactOptions::default();
        let everything: (Option<&[u8]>, Option<&[u8]>) = (None, None);
        self.db
            .compact_range_opt(everything.0, everything.1, &options);
        Ok(true)
    }
}

struct Batch(WriteBatch);

impl Writer for Batch {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        self.0.put(key, value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Outcome<()> {
        self.0.delete(key);
        Ok(())
    }
}

struct View<'s> {
    cursor: DBRawIterator<'s>,
    snapshot: &'s Snapshot<'s>,
}

impl Reader for View<'_> {
    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let found = self.snapshot.get_pinned_opt(key, ReadOptions::default())?;
        if let Some(value) = &found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn scan(&mut self, from: &[u8], limit: u64, visit: Visit<'_>) -> Outcome<()> {
        let mut left = limit;
        self.cursor.seek(from);
        while left > 0
            && let Some((key, value)) = self.cursor.item()
        {
            visit(key, value);
            left -= 1;
            if left > 0 {
                self.cursor.next();
            }
        }
        Ok(self.cursor.status()?)
    }

    fn len(&mut self) -> Outcome<u64> {
        self.cursor.seek_to_first();
        let mut count = 0;
        while self.cursor.valid() {
            count += 1;
            self.cursor.next();
        }
        self.cursor.status()?;
        Ok(count)
    }

    fn count(&mut self, low: &[u8], high: &[u8]) -> Outcome<u64> {
        self.cursor.seek(low);
        let mut count = 0;
        while self.cursor.key().is_some_and(|key| key < high) {
            count += 1;
            self.cursor.next();
        }
        self.cursor.status()?;
        Ok(count)
    }
}
