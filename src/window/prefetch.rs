//! Asking the processor for a cache line ahead of its use; does nothing but on x86-64.

/// Starts loading the cache line of `target` and returns at once.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the one prefetch intrinsic; there is no safe form of it")]
pub(crate) fn prefetch<T>(target: &T) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch is a hint: it neither reads nor writes as far as the program can tell, and
    // cannot fault. The address is that of a live reference anyway. SSE is part of x86-64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(target).cast()) }
}

/// Does nothing: stable Rust has no prefetch for this processor.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn prefetch<T>(_target: &T) {}
