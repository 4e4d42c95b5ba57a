//! The arguments of a kernel, in the order in which it names them.

use super::driver::Memory;

/// A number, or a struct of numbers, that a kernel takes by value: of the same size and layout as in the .metal files.
///
/// # Safety
/// `#[repr(C)]` or a number, aligned to at most 4 bytes, without padding.
pub(super) unsafe trait Value: Copy {}
// SAFETY: numbers.
unsafe impl Value for u32 {}
// SAFETY: a number.
unsafe impl Value for f32 {}

/// A place in the device's memory.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) memory: &'a Memory,
    /// Bytes from its start.
    pub(super) at: usize,
}

/// One argument.
#[derive(Clone, Copy)]
pub(super) enum Bound<'a> {
    Place(Place<'a>),
    /// Bytes of the host, copied before the launch returns.
    Bytes(&'a [u8]),
}

/// Arguments, and room for the values among them.
const MOST: usize = 16;
const WORDS: usize = 40;

#[derive(Clone, Copy)]
enum Item<'a> {
    Bound(Bound<'a>),
    /// Words of `Args::words`.
    Value(usize, usize),
}

/// The arguments of one launch.
pub(super) struct Args<'a> {
    items: [Item<'a>; MOST],
    len: usize,
    words: [u32; WORDS],
    used: usize,
}

/// What can be added to [`Args`].
pub(super) trait Argument<'a> {
    fn add_to(self, args: Args<'a>) -> Args<'a>;
}

impl<'a> Args<'a> {
    pub(super) fn new() -> Self {
        Self { items: [Item::Value(0, 0); MOST], len: 0, words: [0; WORDS], used: 0 }
    }

    /// These and one more.
    pub(super) fn with(self, argument: impl Argument<'a>) -> Self {
        argument.add_to(self)
    }

    fn push(mut self, item: Item<'a>) -> Self {
        assert!(self.len < MOST, "no kernel has more arguments");
        self.items[self.len] = item;
        self.len += 1;
        self
    }

    /// How each is bound.
    pub(super) fn bound(&self) -> impl Iterator<Item = Bound<'_>> {
        self.items[..self.len].iter().map(|item| match *item {
            Item::Bound(bound) => bound,
            Item::Value(from, to) => Bound::Bytes(words(&self.words[from..to])),
        })
    }
}

impl<'a> Argument<'a> for Place<'a> {
    fn add_to(self, args: Args<'a>) -> Args<'a> {
        args.push(Item::Bound(Bound::Place(self)))
    }
}

/// A list of the host.
impl<'a> Argument<'a> for &'a [u32] {
    fn add_to(self, args: Args<'a>) -> Args<'a> {
        args.push(Item::Bound(Bound::Bytes(words(self))))
    }
}

impl<'a, T: Value> Argument<'a> for T {
    fn add_to(self, mut args: Args<'a>) -> Args<'a> {
        let (from, to) = (args.used, args.used + size_of::<T>().div_ceil(4));
        assert!(to <= WORDS, "no kernel has more values");
        // SAFETY: the words from `from` to `to` are inside of the array, hold a T and are aligned for it.
        unsafe { args.words.as_mut_ptr().add(from).cast::<T>().write(self) };
        args.used = to;
        args.push(Item::Value(from, to))
    }
}

/// Bytes of words.
fn words(words: &[u32]) -> &[u8] {
    // SAFETY: every byte of a word is initialised, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// The arguments of a kernel, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { crate::metal::arguments::Args::new()$(.with($value))* };
}
pub(super) use args;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_as_kernels_read_them() {
        #[repr(C)]
        #[derive(Clone, Copy)]
        struct Pair {
            n: u32,
            x: f32,
        }
        // SAFETY: `repr(C)`, of numbers of four bytes.
        unsafe impl Value for Pair {}
        let list = [7u32, 8];
        let args = args![1u32, &list[..], Pair { n: 2, x: 0.5 }, -1f32];
        let words = |bound: Bound<'_>| match bound {
            Bound::Bytes(bytes) => bytes.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect::<Vec<_>>(),
            Bound::Place(_) => Vec::new(),
        };
        let found: Vec<_> = args.bound().map(words).collect();
        assert_eq!(found, [vec![1], vec![7, 8], vec![2, 0.5f32.to_bits()], vec![(-1f32).to_bits()]]);
    }
}
