//! The value of a key in one piece of memory, with what the hot tier has to know of it.
//!
//! A hit of the tier looks at two places that are in no cache: the slot in its table, and this. With the key, the
//! value and the place in an order each in memory of its own there were four. (Keys of more than 30 bytes are in
//! memory of their own still.)

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use triomphe::ThinArc;

use super::key::{ALLOCATOR_BYTES, OwnedKey};

/// The value of a key: bytes that are never changed. Clones share them, also with the hot tier, so a clone
/// costs the same however long they are.
///
/// It is used like a `&[u8]`. It takes about 64 bytes of memory beyond its length, and, if it comes from
/// [`Aurora::get`](crate::Aurora::get), its key if that is longer than 30 bytes. It keeps nothing else alive.
///
/// ```
/// use aurora::{Aurora, SharedBytes};
///
/// let db = Aurora::in_memory()?;
/// db.put("key", "value", None)?;
/// let value: SharedBytes = db.get("key")?.expect("it is there");
/// assert_eq!(value, *b"value");
/// assert_eq!(value.len(), 5);
/// assert_eq!(String::from_utf8_lossy(&value), "value");
/// let owned: Vec<u8> = value.into();
/// # assert_eq!(owned, b"value");
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedBytes(ThinArc<Header, u8>);

struct Header {
    key: OwnedKey,
    expires_ms: Option<u64>,
}

impl SharedBytes {
    pub(crate) fn new(key: &[u8], bytes: &[u8], expires_ms: Option<u64>) -> Self {
        let key = key.into();
        SharedBytes(ThinArc::from_header_and_slice(
            Header { key, expires_ms },
            bytes,
        ))
    }

    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        self.0.header.header.key.bytes()
    }

    #[inline]
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        self.0.header.header.expires_ms
    }

    /// The memory that it takes, about.
    pub(super) fn memory_bytes(&self) -> usize {
        const COUNTS_BYTES: usize = 2 * size_of::<usize>(); // of references, of bytes
        let header = &self.0.header.header;
        let own = COUNTS_BYTES + size_of::<Header>() + self.len();
        own + ALLOCATOR_BYTES + header.key.memory_bytes()
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0.slice
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for SharedBytes {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<B: AsRef<[u8]> + ?Sized> PartialEq<B> for SharedBytes {
    fn eq(&self, other: &B) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for SharedBytes {}

impl PartialOrd for SharedBytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SharedBytes {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for SharedBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl From<&[u8]> for SharedBytes {
    fn from(bytes: &[u8]) -> Self {
        SharedBytes::new(&[], bytes, None)
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        bytes[..].into()
    }
}

impl From<SharedBytes> for Vec<u8> {
    fn from(bytes: SharedBytes) -> Self {
        bytes.to_vec()
    }
}

impl From<SharedBytes> for Arc<[u8]> {
    fn from(bytes: SharedBytes) -> Self {
        Arc::from(&*bytes)
    }
}
