//! The key of an entry, kept within the entry if it is short: one place in memory less to look at.

const SHORT: usize = 30;

/// What an allocation takes beyond its bytes, about.
pub(super) const ALLOCATOR_BYTES: usize = 16;

#[derive(Debug)]
pub(super) enum OwnedKey {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl OwnedKey {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            OwnedKey::Short(length, bytes) => bytes.get(..*length as usize).unwrap_or(bytes),
            OwnedKey::Long(bytes) => bytes,
        }
    }

    /// The memory that it takes beyond itself.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            OwnedKey::Short(..) => 0,
            OwnedKey::Long(bytes) => bytes.len() + ALLOCATOR_BYTES,
        }
    }
}

impl From<&[u8]> for OwnedKey {
    fn from(key: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..key.len()) {
            Some(place) => {
                place.copy_from_slice(key);
                OwnedKey::Short(key.len() as u8, bytes)
            }
            None => OwnedKey::Long(key.into()),
        }
    }
}

#[cfg(test)]
#[test]
fn keys_of_all_lengths_are_kept() {
    for length in 0..80 {
        let key: Vec<u8> = (0..length).collect();
        let owned = OwnedKey::from(&key[..]);
        assert_eq!(owned.bytes(), key);
        assert_eq!(matches!(owned, OwnedKey::Short(..)), key.len() <= SHORT);
    }
}
