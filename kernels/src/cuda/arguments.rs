//! The values of a kernel's parameters.

use std::ffi::c_void;

/// A type that a kernel takes: of the same size and layout as in the .cuh files.
///
/// # Safety
/// `#[repr(C)]` or a number, aligned to at most 8 bytes.
pub(super) unsafe trait Argument: Copy {}
// SAFETY: numbers.
unsafe impl Argument for u32 {}
// SAFETY: a number; addresses on the device are of this type.
unsafe impl Argument for u64 {}
// SAFETY: a number.
unsafe impl Argument for f32 {}

/// Words for all values of a kernel, and values.
const WORDS: usize = 32;
const VALUES: usize = 16;

/// The values of one launch, kept by value until the driver has copied them.
#[derive(Clone)]
pub(super) struct Args {
    words: [u64; WORDS],
    starts: [usize; VALUES],
    values: usize,
    used: usize,
}

impl Args {
    pub(super) fn new() -> Self {
        Self { words: [0; WORDS], starts: [0; VALUES], values: 0, used: 0 }
    }

    /// These and one more.
    pub(super) fn with<T: Argument>(mut self, value: T) -> Self {
        let end = self.used + size_of::<T>().div_ceil(8);
        assert!(end <= WORDS && self.values < VALUES, "no kernel has more parameters");
        // SAFETY: the words from `used` to `end` are inside of the array, hold a T and are aligned for it.
        unsafe { self.words.as_mut_ptr().add(self.used).cast::<T>().write(value) };
        self.starts[self.values] = self.used;
        (self.values, self.used) = (self.values + 1, end);
        self
    }

    /// All values, as words.
    pub(super) fn words(&self) -> &[u64] {
        &self.words[..self.used]
    }

    /// Pointers to the values, for the driver.
    pub(super) fn pointers(&mut self) -> [*mut c_void; VALUES] {
        let first = self.words.as_mut_ptr();
        // SAFETY: every start is inside of the array.
        self.starts.map(|at| unsafe { first.add(at) }.cast())
    }
}

/// The values of a kernel's parameters, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { super::arguments::Args::new()$(.with($value))* };
}
pub(super) use args;
