//! What the databases of a process share, in a child that `fork` makes of it: memory for frames, and the collector of it.
//!
//! The child may open databases of its own. It has a copy of the memory, and one thread: what the others were in the
//! middle of nobody ends there. A lock that one of them had would be waited for for ever, and a pin that one of them had
//! would keep all memory of all that the child opens.

use std::sync::Once;

use super::{frame, pin};
use crate::storage::at_fork;

/// Sees to it from now on.
pub(super) fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| at_fork(before, in_parent, in_child));
}

extern "C" fn before() {
    pin::make_spare();
    frame::hold_arenas();
}

extern "C" fn in_parent() {
    frame::let_arenas_go(false);
}

extern "C" fn in_child() {
    frame::let_arenas_go(true);
    pin::use_spare();
}
