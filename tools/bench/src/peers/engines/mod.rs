//! The engines that can be measured, by name.

mod aurora;
mod canopy;
mod fjall;
mod lmdb;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocks;
mod sled;
mod sqlite;

use crate::engine::{Outcome, Peer, Place};

/// What an engine is, for the table and for the bars.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    /// Whether a commit waits for the device. What does not wait is shown and never compared with.
    pub durable: bool,
    pub is_tree: bool,
}

const fn kind(name: &'static str, is_tree: bool) -> Kind {
    Kind {
        name,
        durable: true,
        is_tree,
    }
}

pub const KINDS: [Kind; 8] = [
    kind("aurora", true),
    kind("lmdb", true),
    kind("redb", true),
    kind("canopydb", true),
    kind("fjall", false),
    kind("rocksdb", false),
    Kind {
        durable: false, // its flush returns before the device has the bytes
        ..kind("sled", false)
    },
    kind("sqlite", true),
];

pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Whether this build has the engine.
pub fn is_built(name: &str) -> bool {
    name != "rocksdb" || cfg!(feature = "rocksdb")
}

pub fn open(name: &str, place: &Place) -> Outcome<Box<dyn Peer>> {
    std::fs::create_dir_all(&place.directory)?;
    Ok(match name {
        "aurora" => Box::new(aurora::AuroraPeer::open(place)?),
        "lmdb" => Box::new(lmdb::Lmdb::open(place)?),
        "redb" => Box::new(redb::Redb::open(place)?),
        "canopydb" => Box::new(canopy::Canopy::open(place)?),
        "fjall" => Box::new(fjall::Fjall::open(place)?),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => Box::new(rocks::Rocks::open(place)?),
        "sled" => Box::new(sled::Sled::open(place)?),
        "sqlite" => Box::new(sqlite::Sqlite::open(place)?),
        _ => return Err(format!("no engine {name} in this build").into()),
    })
}
