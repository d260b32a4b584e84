//! Asking for memory before it is needed.
//!
//! A search in a page that is not in the processor's caches waits some hundred nanoseconds for each
//! line that it touches. Asked for together, lines arrive together.
#![allow(unsafe_code)] // the instruction has no safe form

/// Asks for the cache line of a byte. Costs an instruction, and never waits. Past the end: nothing.
#[inline]
pub(crate) fn prefetch(bytes: &[u8], at: usize) {
    if let Some(byte) = bytes.get(at) {
        prefetch_start(byte);
    }
}

/// Asks for the cache line in which a value begins.
#[inline]
pub(crate) fn prefetch_start<T>(value: &T) {
    prefetch_address(std::ptr::from_ref(value).addr());
}

/// Asks for the cache line at an address, which may be any number.
#[inline]
pub(crate) fn prefetch_address(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction does not fault for any address, and changes nothing but what is
        // cached. Every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) }
    }
    // Elsewhere there is no stable instruction for it.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::prefetch;

    #[test]
    fn any_place_can_be_asked_for() {
        for at in [0, 1, 2, 64, usize::MAX] {
            prefetch(&[1, 2], at);
            prefetch(&[], at);
        }
    }
}
