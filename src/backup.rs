//! Backup: a compact copy of a snapshot in a file of its own.
//!
//! # Invariants
//!
//! 1. The copy gets its name only when it is complete, checked and durable; until then it has the
//!    name with `.partial.db` added (to what there is room for of a long one). One of that name that a backup left which was cut short goes first.
//! 2. Every page that is read is verified on the way, and the copy is checked as a whole and
//!    compared in its counts before it is named.
//! 3. The unfinished copy is locked until it has its name. Where the name turns out to be another file's, which has taken
//!    its place meanwhile, that file does not keep it. So no other backup to the same path takes it away, or is taken for it.
//! 4. Nobody may read the copy, at any moment, who may not read the database's own file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::db::Aurora;
use crate::moment::Moment;
use crate::path::with_ending;
use crate::storage::{FileStorage, Storage, sync_directory};
use crate::txn::snapshot::Snapshot;
use crate::{Error, Result};

/// The time of the snapshot: nothing expires while it is copied.
#[derive(Debug)]
struct At(u64);

impl Clock for At {
    fn now_ms(&self) -> u64 {
        self.0
    }
}

/// With more a copy is not made faster: one of 0.5 GB took 2.1 to 3.9 s, and with 256 MiB 2.2 to 3.4.
const MOST_MEMORY_BYTES: usize = 64 << 20;

/// Writes the copy as one transaction that commits by checkpoint: pages beyond the memory limit go
/// straight to their place, so memory stays small.
pub(crate) fn backup(snapshot: &Snapshot, path: &Path) -> Result<()> {
    if path.exists() {
        return Err(Error::AlreadyExists {
            path: path.to_path_buf(),
        });
    }
    let partial = with_ending(path, ".partial.db");
    // Whatever is in the way has the copy's name, all else is about the directory.
    let refused = |error| Error::Open {
        path: if partial.exists() {
            partial.clone()
        } else {
            path.to_path_buf()
        },
        source: Arc::new(error),
    };
    let begun = begin(&partial, snapshot.handle().file.as_deref());
    let storage = Arc::new(begun.map_err(refused)?);
    // Who closes the copy does not unlock it: that is done when `storage` goes (invariant 3).
    let named = copy(snapshot, storage.clone()).and_then(|()| name(&storage, &partial, path));
    if named.is_err() && storage.is_at(&partial).unwrap_or(false) {
        let _ = std::fs::remove_file(&partial);
    }
    named?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    sync_directory(directory).map_err(|error| Error::io("sync the directory", 0, error))
}

/// The unfinished copy, of this backup alone. Of several that begin at once the last one to make the file has it.
fn begin(partial: &Path, original: Option<&FileStorage>) -> io::Result<FileStorage> {
    let begun =
        remove_stale(partial).and_then(|()| FileStorage::create_locked_of(partial, original));
    begun.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::AlreadyExists => {
            let what = "another backup is writing this copy";
            io::Error::new(io::ErrorKind::WouldBlock, what)
        }
        _ => error,
    })
}

/// What a backup left that was cut short. One that is under way has its file locked (invariant 3).
fn remove_stale(partial: &Path) -> io::Result<()> {
    let stale = match FileStorage::open(partial) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        stale => stale?,
    };
    stale.lock(true)?;
    if stale.is_at(partial)? {
        std::fs::remove_file(partial)?;
    }
    Ok(())
}

/// Gives the finished copy its name, which no other file has.
fn name(storage: &FileStorage, partial: &Path, path: &Path) -> Result<()> {
    let refused = |error| Error::Open {
        path: path.to_path_buf(),
        source: Arc::new(error),
    };
    let taken_away = || {
        let what = "the unfinished copy was taken away";
        refused(io::Error::new(io::ErrorKind::NotFound, what))
    };
    if !storage.is_at(partial).map_err(refused)? {
        return Err(taken_away());
    }
    let linked = std::fs::hard_link(partial, path);
    match &linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::AlreadyExists {
                path: path.to_path_buf(),
            });
        }
        // Some file systems have no such links: there it is only unlikely that a file is replaced.
        Err(_) => std::fs::rename(partial, path).map_err(refused)?,
    }
    // Another file may have taken its place since the look at it, and has the name now.
    if !storage.is_at(path).map_err(refused)? {
        let undone = match linked {
            Ok(()) => std::fs::remove_file(path),
            Err(_) => std::fs::rename(path, partial),
        };
        undone.map_err(refused)?;
        return Err(taken_away());
    }
    // Or have taken it since it has its name, which is no business of the copy's.
    if linked.is_ok() && storage.is_at(partial).unwrap_or(false) {
        std::fs::remove_file(partial).map_err(refused)?;
    }
    Ok(())
}

fn copy(snapshot: &Snapshot, storage: Arc<FileStorage>) -> Result<()> {
    let engine = snapshot.engine();
    let target = Aurora::builder()
        .page_size(engine.pager.page_size())
        // As much again as the database itself may have, and no more than is of use here.
        .memory_limit(engine.settings.memory_bytes.min(MOST_MEMORY_BYTES))
        .hot_limit(0)
        .background(false)
        .leave_no_log() // it would make the copy longer
        .clock(Arc::new(At(snapshot.now_ms())))
        .open_storage(storage)?;
    let mut transaction = target.begin_write()?;
    transaction.commit_by_checkpoint();
    for name in snapshot.all_tree_names() {
        let Some(from) = snapshot.find(name) else {
            continue;
        };
        let mut to = transaction.system_tree(name)?;
        let mut from = from.cursor();
        let mut more = from.first()?;
        while more {
            let key = from.key().to_vec();
            to.put(key, from.value()?)?;
            more = from.next()?;
        }
    }
    transaction.commit()?;
    compare(snapshot, &target)?;
    target.close()
}

/// Invariant 2.
fn compare(snapshot: &Snapshot, target: &Aurora) -> Result<()> {
    target.check()?;
    let copy = target.begin_read()?;
    for name in snapshot.all_tree_names() {
        let len = |snapshot: &Snapshot| snapshot.find(name).map_or(0, |tree| tree.len());
        let (expected, found) = (len(snapshot), len(&copy));
        if expected != found {
            return Err(Error::Corrupt {
                what: "a tree of the backup has another number of entries",
                page: 0,
                offset: 0,
                expected,
                found,
            });
        }
    }
    Ok(())
}
