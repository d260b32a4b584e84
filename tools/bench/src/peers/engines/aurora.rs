//! Aurora with default options, but for the cache, which all engines have of one size.
//!
//! Durable: the default of every commit (`Durability::Full`): the log has the record, and the
//! device has the log, when the commit returns. Unsynced: `Durability::Buffered`.

use std::io::BufRead;

use ::aurora::{Aurora, Durability, TreeCursor, TreeMut, TreeReader, TreeView};

use crate::data::Key;
use crate::engine::{
    Blobs, Entry, Hot, Order, Outcome, Peer, Place, Promise, Reader, Reading, Visit, Writer,
    Writing,
};

const TREE: &str = "data";

pub struct AuroraPeer {
    db: Aurora,
}

impl AuroraPeer {
    pub fn open(place: &Place) -> Outcome<Self> {
        let mut builder = Aurora::builder()
            .memory_limit(place.cache_bytes as usize)
            .hot_limit((64 << 20).min(place.cache_bytes as usize / 4));
        if let Some(log_bytes) = place.log_bytes {
            builder = builder.log_limit(log_bytes * 5 / 2); // a checkpoint begins at half
        }
        let db = builder.open(place.directory.join("aurora"))?;
        db.write(|tx| tx.tree(TREE).map(drop))?;
        Ok(AuroraPeer { db })
    }
}

impl Peer for AuroraPeer {
    fn write(&self, promise: Promise, work: Writing<'_>) -> Outcome<()> {
        let mut tx = self.db.begin_write()?;
        if promise == Promise::Unsynced {
            tx.set_durability(Durability::Buffered);
        }
        work(&mut Tree(tx.tree(TREE)?))?;
        Ok(tx.commit()?)
    }

    fn read(&self, work: Reading<'_>) -> Outcome<()> {
        let snapshot = self.db.begin_read()?;
        let view = snapshot.tree(TREE)?;
        let (reader, cursor) = (view.reader(), view.cursor());
        work(&mut View {
            view,
            reader,
            cursor,
        })
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.db.flush()?)
    }

    fn settle(&self) -> Outcome<()> {
        Ok(self.db.checkpoint()?)
    }

    fn compact(&mut self) -> Outcome<bool> {
        self.db.compact()?;
        Ok(true)
    }

    fn hot(&self) -> Option<&dyn Hot> {
        Some(self)
    }

    fn blobs(&self) -> Option<&dyn Blobs> {
        Some(self)
    }
}

/// Keys and values as the database keeps them itself, with the hot tier in front.
impl Hot for AuroraPeer {
    fn load(&self, entries: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Outcome<()> {
        self.db.write(|tx| {
            for (key, value) in entries {
                tx.put(key, value, None)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let found = self.db.get(key)?;
        if let Some(value) = &found {
            visit(value);
        }
        Ok(found.is_some())
    }
}

impl Blobs for AuroraPeer {
    fn put(&self, key: &str, content: &[u8]) -> Outcome<()> {
        self.db.put_blob_from(key, content)?;
        Ok(())
    }

    fn get(&self, key: &str, visit: &mut dyn FnMut(&[u8])) -> Outcome<()> {
        let mut reader = self.db.get_blob(key)?.ok_or("a blob is missing")?;
        loop {
            let piece = reader.fill_buf()?;
            if piece.is_empty() {
                return Ok(());
            }
            visit(piece);
            let length = piece.len();
            reader.consume(length);
        }
    }

    fn parts(
        &self,
        key: &str,
        offsets: &[u64],
        length: usize,
        visit: &mut dyn FnMut(&[u8]),
    ) -> Outcome<()> {
        let reader = self.db.get_blob(key)?.ok_or("a blob is missing")?;
        let mut buffer = vec![0; length];
        for offset in offsets {
            if reader.read_range(*offset, &mut buffer)? != length {
                return Err("a blob is too short".into());
            }
            visit(&buffer);
        }
        Ok(())
    }
}

struct Tree<'t>(TreeMut<'t>);

impl Writer for Tree<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        self.0.put(key, value)?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Outcome<()> {
        self.0.delete(key)?;
        Ok(())
    }

    fn put_many(&mut self, entries: &mut dyn Iterator<Item = Entry>, _order: Order) -> Outcome<()> {
        self.0.put_many(entries)?;
        Ok(())
    }

    fn delete_many(&mut self, keys: &mut dyn Iterator<Item = Key>) -> Outcome<()> {
        self.0.delete_many(keys)?;
        Ok(())
    }
}

struct View<'s> {
    view: TreeView<'s>,
    reader: TreeReader<'s>,
    cursor: TreeCursor<'s>,
}

impl Reader for View<'_> {
    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let found = self.reader.get(key)?;
        if let Some(value) = found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn scan(&mut self, from: &[u8], limit: u64, visit: Visit<'_>) -> Outcome<()> {
        let cursor = &mut self.cursor;
        let mut more = cursor.seek(from)?;
        let mut left = limit;
        while more && left > 0 {
            let (key, value) = cursor.entry()?;
            visit(key, value);
            left -= 1;
            more = left > 0 && cursor.next()?;
        }
        Ok(())
    }

    fn len(&mut self) -> Outcome<u64> {
        Ok(self.view.len())
    }

    fn count(&mut self, low: &[u8], high: &[u8]) -> Outcome<u64> {
        Ok(self.view.count(low..high)?)
    }
}
