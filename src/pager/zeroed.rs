//! Large tables that take memory only where they are used.
#![allow(unsafe_code)] // values that no constructor made

use std::sync::atomic::AtomicU64;

use super::table::Entry;

/// Types whose valid values include the one of all zero bits.
///
/// # Safety
/// All zeros must be a valid value, and one that needs no destructor to have been constructed.
pub(super) unsafe trait Zeroed {}

// SAFETY: an atomic pointer and an atomic integer; null and zero are the empty entry.
unsafe impl Zeroed for Entry {}
// SAFETY: an integer.
unsafe impl Zeroed for AtomicU64 {}

/// So many values of zero bits. The memory comes from the system untouched.
pub(super) fn zeroed<T: Zeroed>(length: usize) -> Box<[T]> {
    let layout = match std::alloc::Layout::array::<T>(length) {
        Ok(layout) if layout.size() > 0 => layout,
        _ => return Box::new([]),
    };
    // SAFETY: the layout has a non-zero size; all zeros is a valid value (`Zeroed`); and the box
    // takes over exactly the `length` values that were allocated with the layout that it will free
    // them with.
    unsafe {
        let values = std::alloc::alloc_zeroed(layout).cast::<T>();
        if values.is_null() {
            std::alloc::handle_alloc_error(layout);
        }
        Box::from_raw(std::ptr::slice_from_raw_parts_mut(values, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn tables_begin_empty_and_can_be_empty() {
        let table = zeroed::<AtomicU64>(5000);
        assert_eq!(table.len(), 5000);
        assert!(table.iter().all(|value| value.load(Ordering::Relaxed) == 0));
        table[4999].store(7, Ordering::Relaxed);
        assert_eq!(table[4999].load(Ordering::Relaxed), 7);
        assert!(zeroed::<AtomicU64>(0).is_empty());
        assert!(!zeroed::<Entry>(3)[2].is_verified());
    }
}
