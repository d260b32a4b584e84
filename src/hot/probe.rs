//! The tier by itself, for tests and measurements from outside of the crate: keys with nothing
//! around them.

use std::sync::Arc;

use super::{Hot, KEYS, read_through};
use crate::txn::snapshot::Snapshot;
use crate::txn::write::WriteTransaction;
use crate::{Aurora, Result};

const TREE: &str = "aurora/hot-probe";

#[doc(hidden)]
impl Aurora {
    /// The value of a key, read through the hot tier.
    pub fn probe_get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        let hot = read_through(&self.handle, KEYS, key, |snapshot| {
            Ok(snapshot.probe_get(key)?.map(|bytes| {
                let size = bytes.len();
                let expires_ms = None;
                (Hot::Value { bytes, expires_ms }, size)
            }))
        })?;
        Ok(hot.and_then(|hot| match hot {
            Hot::Value { bytes, .. } => Some(bytes),
            Hot::Document { .. } => None,
        }))
    }
}

#[doc(hidden)]
impl Snapshot {
    /// The value of a key, without the hot tier.
    pub fn probe_get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        let Some(tree) = self.find(TREE) else {
            return Ok(None);
        };
        Ok(tree.get(key)?.map(|value| Arc::from(&*value)))
    }
}

#[doc(hidden)]
impl WriteTransaction {
    /// The value of a key, as this transaction sees it.
    pub fn probe_view(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        let Some(tree) = self.find(TREE) else {
            return Ok(None);
        };
        Ok(tree.get(key)?.map(|value| Arc::from(&*value)))
    }

    /// Stores the value of a key, and tells the hot tier.
    pub fn probe_put(&mut self, key: &[u8], value: &[u8]) -> Result<bool> {
        self.touch(KEYS, key);
        self.system_tree(TREE)?.put(key, value)
    }

    /// Removes all keys, and tells the hot tier.
    pub fn probe_clear(&mut self) -> Result<u64> {
        self.touch_space(KEYS);
        self.system_tree(TREE)?.clear()
    }
}
