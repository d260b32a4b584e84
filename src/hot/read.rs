//! Reading through the tier: from it if it has the key, else from the trees.

use std::sync::Arc;

use super::{Hot, Looked};
use crate::Result;
use crate::handle::Handle;
use crate::txn::snapshot::Snapshot;

/// What the newest published state has for a key of a space, and that is not expired.
///
/// `load` reads it from the snapshot it is given if the tier does not have it. It must answer by the snapshot alone: with
/// another moment's value the tier would be wrong until that key is changed again.
#[inline]
pub(crate) fn read_through(
    handle: &Arc<Handle>,
    space: u32,
    key: &[u8],
    load: impl FnOnce(&Snapshot) -> Result<Option<Hot>>,
) -> Result<Option<Hot>> {
    handle.engine.check_open()?;
    let ticket = match handle.hot.lookup(space, key) {
        Looked::Hit(hot) => {
            let is_over = |ms| ms <= handle.clock.now_ms();
            if !hot.expires_ms().is_some_and(is_over) {
                return Ok(Some(hot));
            }
            // Not the answer yet: it may have been renewed between the lookup and the clock.
            handle.hot.forget(space, key);
            None
        }
        Looked::Miss(ticket) => ticket,
    };
    // Taken after the lookup: invariant 2.
    let loaded = load(&Snapshot::new(handle.clone())?)?;
    if let (Some(ticket), Some(hot)) = (ticket, &loaded) {
        handle.hot.admit(ticket, space, key, hot);
    }
    Ok(loaded)
}
