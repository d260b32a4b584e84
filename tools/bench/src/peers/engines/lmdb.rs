//! LMDB through heed.
//!
//! Durable: the default; a commit writes its pages, syncs, and writes and syncs the meta page.
//! Unsynced: `MDB_NOSYNC`, which is less than the others promise: a power cut can damage the file.

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};

use heed::types::Bytes;
use heed::{CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode, PutFlags};
use heed::{RoTxn, RwTxn};

use crate::engine::{
    Entry, Order, Outcome, Peer, Place, Promise, Reader, Reading, Visit, Writer, Writing,
};

type Data = Database<Bytes, Bytes>;

pub struct Lmdb {
    env: Env,
    data: Data,
    place: Place,
    is_unsynced: AtomicBool,
}

impl Lmdb {
    pub fn open(place: &Place) -> Outcome<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(place.map_bytes as usize);
        if place.has_little_memory {
            // What LMDB's own documentation advises then.
            // SAFETY: the flag changes nothing but what the kernel reads ahead.
            unsafe { options.flags(EnvFlags::NO_READ_AHEAD) };
        }
        // SAFETY: the directory is this process's own, and nobody changes its files meanwhile.
        let env = unsafe { options.open(&place.directory)? };
        let mut tx = env.write_txn()?;
        let data = env.create_database(&mut tx, None)?;
        tx.commit()?;
        Ok(Lmdb {
            env,
            data,
            place: place.clone(),
            is_unsynced: AtomicBool::new(false),
        })
    }

    fn promise(&self, promise: Promise) -> Outcome<()> {
        let unsynced = promise == Promise::Unsynced;
        if self.is_unsynced.swap(unsynced, Ordering::Relaxed) != unsynced {
            let mode = match unsynced {
                true => FlagSetMode::Enable,
                false => FlagSetMode::Disable,
            };
            // SAFETY: a program that ends by itself loses nothing; no thread writes meanwhile.
            unsafe { self.env.set_flags(EnvFlags::NO_SYNC, mode)? };
        }
        Ok(())
    }
}

impl Peer for Lmdb {
    fn write(&self, promise: Promise, work: Writing<'_>) -> Outcome<()> {
        self.promise(promise)?;
        let mut tx = self.env.write_txn()?;
        work(&mut Tx {
            data: self.data,
            tx: &mut tx,
        })?;
        Ok(tx.commit()?)
    }

    fn read(&self, work: Reading<'_>) -> Outcome<()> {
        let tx = self.env.read_txn()?;
        work(&mut View {
            data: self.data,
            tx: &tx,
        })
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.env.force_sync()?)
    }

    fn settle(&self) -> Outcome<()> {
        Ok(self.env.force_sync()?)
    }

    /// A compact copy, and the original is gone: as a user of LMDB would do it.
    fn compact(&mut self) -> Outcome<bool> {
        let copy = self.place.directory.join("compact.mdb");
        self.env.copy_to_path(&copy, CompactionOption::Enabled)?;
        std::fs::rename(&copy, self.place.directory.join("data.mdb"))?;
        Ok(true)
    }
}

struct Tx<'t, 'e> {
    data: Data,
    tx: &'t mut RwTxn<'e>,
}

impl Writer for Tx<'_, '_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        Ok(self.data.put(self.tx, key, value)?)
    }

    fn delete(&mut self, key: &[u8]) -> Outcome<()> {
        self.data.delete(self.tx, key)?;
        Ok(())
    }

    fn put_many(&mut self, entries: &mut dyn Iterator<Item = Entry>, order: Order) -> Outcome<()> {
        let flags = match order {
            Order::Any => PutFlags::empty(),
            Order::Ascending => PutFlags::APPEND,
        };
        for (key, value) in entries {
            self.data.put_with_flags(self.tx, flags, &key, &value)?;
        }
        Ok(())
    }
}

struct View<'t, 'e> {
    data: Data,
    tx: &'t RoTxn<'e>,
}

impl Reader for View<'_, '_> {
    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let found = self.data.get(self.tx, key)?;
        if let Some(value) = found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn scan(&mut self, from: &[u8], limit: u64, visit: Visit<'_>) -> Outcome<()> {
        let range = self
            .data
            .range(self.tx, &(Bound::Included(from), Bound::Unbounded))?;
        for entry in range.take(limit as usize) {
            let (key, value) = entry?;
            visit(key, value);
        }
        Ok(())
    }

    fn len(&mut self) -> Outcome<u64> {
        Ok(self.data.len(self.tx)?)
    }

    fn count(&mut self, low: &[u8], high: &[u8]) -> Outcome<u64> {
        let mut count = 0;
        let range = (Bound::Included(low), Bound::Excluded(high));
        for entry in self.data.range(self.tx, &range)? {
            entry?;
            count += 1;
        }
        Ok(count)
    }
}
