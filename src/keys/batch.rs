//! Changes that are gathered first and made together.

use std::time::Duration;

/// Changes to make in one transaction, in their order: see [`Aurora::apply`](crate::Aurora::apply).
///
/// ```
/// use aurora::{Aurora, Batch};
///
/// let db = Aurora::in_memory()?;
/// let mut batch = Batch::new();
/// batch.put("a", "1", None).put("b", "2", None).delete("c");
/// db.apply(batch)?;
/// assert!(db.contains("b")?);
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub(super) steps: Vec<Step>,
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        ttl: Option<Duration>,
    },
    Delete {
        key: Vec<u8>,
    },
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds: store a value, like [`Aurora::put`](crate::Aurora::put).
    pub fn put(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Option<Duration>,
    ) -> &mut Self {
        self.steps.push(Step::Put {
            key: key.as_ref().to_vec(),
            value: value.as_ref().to_vec(),
            ttl,
        });
        self
    }

    /// Adds: remove a key, if it is there.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        let key = key.as_ref().to_vec();
        self.steps.push(Step::Delete { key });
        self
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there are no changes in it.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
