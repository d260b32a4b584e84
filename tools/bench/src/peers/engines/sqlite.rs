//! SQLite in WAL mode, a table WITHOUT ROWID, prepared statements, a connection for each reader.
//!
//! Durable: `synchronous=FULL`: the log is synced before a commit returns. Unsynced:
//! `synchronous=NORMAL`, which in WAL mode syncs at checkpoints only.

use std::path::PathBuf;
use std::sync::Mutex;

use rusqlite::{CachedStatement, Connection};

use crate::engine::{Outcome, Peer, Place, Promise, Reader, Reading, Visit, Writer, Writing};

pub struct Sqlite {
    path: PathBuf,
    cache_kib: u64,
    /// SQLite takes one writer at a time; waiting here is cheaper than its own waiting.
    writer: Mutex<(Connection, Promise)>,
    readers: Mutex<Vec<Connection>>,
}

impl Sqlite {
    pub fn open(place: &Place) -> Outcome<Self> {
        let path = place.directory.join("sqlite.db");
        let cache_kib = place.cache_bytes >> 10;
        let writer = connect(&path, cache_kib)?;
        writer.execute_batch(
            "CREATE TABLE IF NOT EXISTS data (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID",
        )?;
        if place.log_bytes.is_some() {
            writer.execute_batch("PRAGMA wal_autocheckpoint=0")?;
        }
        Ok(Sqlite {
            path,
            cache_kib,
            writer: Mutex::new((writer, Promise::Durable)),
            readers: Mutex::new(Vec::new()),
        })
    }

    fn checkpoint(&self) -> Outcome<()> {
        let writer = self.writer.lock().map_err(|_| "a writer panicked")?;
        let pragma = "PRAGMA wal_checkpoint(TRUNCATE)";
        writer.0.query_row(pragma, [], |_| Ok(()))?;
        Ok(())
    }
}

fn connect(path: &PathBuf, cache_kib: u64) -> Outcome<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(&format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-{cache_kib}; \
         PRAGMA busy_timeout=60000"
    ))?;
    Ok(connection)
}

impl Peer for Sqlite {
    fn write(&self, promise: Promise, work: Writing<'_>) -> Outcome<()> {
        let mut writer = self.writer.lock().map_err(|_| "a writer panicked")?;
        if writer.1 != promise {
            writer.0.execute_batch(match promise {
                Promise::Durable => "PRAGMA synchronous=FULL",
                Promise::Unsynced => "PRAGMA synchronous=NORMAL",
            })?;
            writer.1 = promise;
        }
        let tx = writer.0.transaction()?;
        work(&mut Tx {
            put: tx.prepare_cached("INSERT OR REPLACE INTO data VALUES (?1, ?2)")?,
            delete: tx.prepare_cached("DELETE FROM data WHERE k = ?1")?,
        })?;
        Ok(tx.commit()?)
    }

    fn read(&self, work: Reading<'_>) -> Outcome<()> {
        let kept = self.readers.lock().map_err(|_| "a reader panicked")?.pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => connect(&self.path, self.cache_kib)?,
        };
        let tx = connection.transaction()?;
        work(&mut View {
            get: tx.prepare_cached("SELECT v FROM data WHERE k = ?1")?,
            scan: tx.prepare_cached("SELECT k, v FROM data WHERE k >= ?1 ORDER BY k LIMIT ?2")?,
            len: tx.prepare_cached("SELECT count(*) FROM data")?,
            count: tx.prepare_cached("SELECT count(*) FROM data WHERE k >= ?1 AND k < ?2")?,
        })?;
        tx.commit()?;
        let readers = self.readers.lock();
        readers.map_err(|_| "a reader panicked")?.push(connection);
        Ok(())
    }

    /// A durable commit makes all before it durable.
    fn flush(&self) -> Outcome<()> {
        self.checkpoint()
    }

    fn settle(&self) -> Outcome<()> {
        self.checkpoint()
    }

    fn compact(&mut self) -> Outcome<bool> {
        self.readers = Mutex::default();
        self.checkpoint()?;
        let writer = self.writer.lock().map_err(|_| "a writer panicked")?;
        writer.0.execute_batch("VACUUM")?;
        drop(writer);
        self.checkpoint()?;
        Ok(true)
    }
}

struct Tx<'c> {
    put: CachedStatement<'c>,
    delete: CachedStatement<'c>,
}

impl Writer for Tx<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        self.put.execute((key, value))?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Outcome<()> {
        self.delete.execute((key,))?;
        Ok(())
    }
}

struct View<'c> {
    get: CachedStatement<'c>,
    scan: CachedStatement<'c>,
    len: CachedStatement<'c>,
    count: CachedStatement<'c>,
}

impl Reader for View<'_> {
    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let mut rows = self.get.query((key,))?;
        match rows.next()? {
            Some(row) => {
                visit(row.get_ref(0)?.as_blob()?);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn scan(&mut self, from: &[u8], limit: u64, visit: Visit<'_>) -> Outcome<()> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = self.scan.query((from, limit))?;
        while let Some(row) = rows.next()? {
            visit(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        }
        Ok(())
    }

    fn len(&mut self) -> Outcome<u64> {
        Ok(self.len.query_row([], |row| row.get::<_, i64>(0))? as u64)
    }

    fn count(&mut self, low: &[u8], high: &[u8]) -> Outcome<u64> {
        let count = self
            .count
            .query_row((low, high), |row| row.get::<_, i64>(0));
        Ok(count? as u64)
    }
}
