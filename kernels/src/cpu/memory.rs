//! Memory of the CPU backend: aligned arrays, scratch that threads keep, and output that chunks share.

use std::alloc::{Layout, handle_alloc_error};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Types that may be read from zeroed or copied bytes.
///
/// # Safety
/// Every bit pattern is a value, without padding; the alignment is at most 64.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: numbers.
unsafe impl Plain for f32 {}
// SAFETY: numbers.
unsafe impl Plain for u16 {}
// SAFETY: numbers.
unsafe impl Plain for u8 {}
// SAFETY: numbers.
unsafe impl Plain for i8 {}
// SAFETY: numbers.
unsafe impl Plain for u64 {}

/// Bytes from which an array asks for large pages: a step that streams through weights then waits for far fewer address translations.
const LARGE: usize = 4 << 20;

/// A zeroed array that starts on a cache line; a large one on a large page, where the system has them.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    start: NonNull<T>,
    len: usize,
    layout: Layout,
}

// SAFETY: an array that owns its numbers.
unsafe impl<T: Plain + Send> Send for Aligned<T> {}
// SAFETY: as above; shared, it is only read.
unsafe impl<T: Plain + Sync> Sync for Aligned<T> {}

impl<T: Plain> Aligned<T> {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = len.saturating_mul(size_of::<T>());
        let align = if bytes >= LARGE { 2 << 20 } else { 64 };
        let Ok(layout) = Layout::from_size_align(bytes.max(1), align) else { handle_alloc_error(Layout::new::<T>()) };
        // SAFETY: the size is not zero.
        let Some(start) = NonNull::new(unsafe { std::alloc::alloc(layout) }) else { handle_alloc_error(layout) };
        if bytes >= LARGE {
            ask_for_large_pages(start, bytes);
        }
        // SAFETY: just allocated with so many bytes. The advice was before the first touch, or pages would be small.
        unsafe { start.write_bytes(0, bytes) };
        Self { start: start.cast(), len, layout }
    }
}

/// Tells the system that large pages are welcome; it may not care.
fn ask_for_large_pages(start: NonNull<u8>, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        unsafe extern "C" {
            fn madvise(start: *mut std::ffi::c_void, bytes: usize, advice: std::ffi::c_int) -> std::ffi::c_int;
        }
        const MADV_HUGEPAGE: std::ffi::c_int = 14;
        // SAFETY: advice on our own pages changes no byte; failing is harmless.
        unsafe { madvise(start.as_ptr().cast(), bytes, MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes);
}

impl<T> Drop for Aligned<T> {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.start.as_ptr().cast(), self.layout) };
    }
}

impl<T: Plain> std::ops::Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the memory holds `len` values, is aligned, and every pattern is a value.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// A mutable slice whose disjoint parts are handed to the chunks of a parallel region.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: parts are handed out by `part` alone, whose caller promises that they do not overlap.
unsafe impl<T: Send> Sync for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), of: PhantomData }
    }

    /// Elements `at..at + len`.
    ///
    /// # Safety
    /// No two parts that are alive at the same time overlap.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub(crate) unsafe fn part(&self, at: usize, len: usize) -> &'a mut [T] {
        assert!(at <= self.len && len <= self.len - at, "a part outside of its slice");
        // SAFETY: inside the slice; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}

/// The first `len` elements, after growing when there are fewer.
pub(crate) fn first<T: Clone + Default>(v: &mut Vec<T>, len: usize) -> &mut [T] {
    if v.len() < len {
        v.resize(len, T::default());
    }
    &mut v[..len]
}

/// Calls `f` with `len` numbers (of any value) of a buffer that this thread keeps.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local!(static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) });
    // Taken out and put back, so that a nested call gets another buffer instead of an error.
    let mut buffer = SCRATCH.with(|s| std::mem::take(&mut *s.borrow_mut()));
    let result = f(first(&mut buffer, len));
    SCRATCH.with(|s| {
        let mut kept = s.borrow_mut();
        if kept.len() < buffer.len() {
            *kept = buffer;
        }
    });
    result
}
