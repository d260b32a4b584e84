//! redb.
//!
//! Durable: `Durability::Immediate`, the default. Unsynced: `Durability::None`.

use ::redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTableMetadata, Table,
    TableDefinition,
};

use crate::engine::{Outcome, Peer, Place, Promise, Reader, Reading, Visit, Writer, Writing};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("data");

pub struct Redb {
    db: Database,
}

impl Redb {
    pub fn open(place: &Place) -> Outcome<Self> {
        let db = Database::builder()
            .set_cache_size(place.cache_bytes as usize)
            .create(place.directory.join("redb"))?;
        let tx = db.begin_write()?;
        tx.open_table(TABLE)?;
        tx.commit()?;
        Ok(Redb { db })
    }
}

impl Peer for Redb {
    fn write(&self, promise: Promise, work: Writing<'_>) -> Outcome<()> {
        let mut tx = self.db.begin_write()?;
        if promise == Promise::Unsynced {
            tx.set_durability(Durability::None)?;
        }
        work(&mut Tx(tx.open_table(TABLE)?))?;
        Ok(tx.commit()?)
    }

    fn read(&self, work: Reading<'_>) -> Outcome<()> {
        let tx = self.db.begin_read()?;
        work(&mut View(tx.open_table(TABLE)?))
    }

    /// A durable commit makes all before it durable.
    fn flush(&self) -> Outcome<()> {
        Ok(self.db.begin_write()?.commit()?)
    }

    fn settle(&self) -> Outcome<()> {
        self.flush()
    }

    fn compact(&mut self) -> Outcome<bool> {
        while self.db.compact()? {}
        Ok(true)
    }
}

struct Tx<'t>(Table<'t, &'static [u8], &'static [u8]>);

impl Writer for Tx<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        self.0.insert(key, value)?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Outcome<()> {
        self.0.remove(key)?;
        Ok(())
    }
}

struct View(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Reader for View {
    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let found = self.0.get(key)?;
        if let Some(value) = &found {
            visit(value.value());
        }
        Ok(found.is_some())
    }

    fn scan(&mut self, from: &[u8], limit: u64, visit: Visit<'_>) -> Outcome<()> {
        for entry in self.0.range::<&[u8]>(from..)?.take(limit as usize) {
            let (key, value) = entry?;
            visit(key.value(), value.value());
        }
        Ok(())
    }

    fn len(&mut self) -> Outcome<u64> {
        Ok(self.0.len()?)
    }

    fn count(&mut self, low: &[u8], high: &[u8]) -> Outcome<u64> {
        let mut count = 0;
        for entry in self.0.range::<&[u8]>(low..high)? {
            entry?;
            count += 1;
        }
        Ok(count)
    }
}
