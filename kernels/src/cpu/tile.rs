//! The innermost loop of products with f32 and bf16 weights: some rows times some panels of 16 outputs, kept in registers.
//!
//! With many rows a tile has enough sums to hide the latency of a multiply-add; with fewer rows several panels are walked side by side for the same
//! reason. Every output element is `fma(x[n-1], w[n-1], .. fma(x[0], w[0], 0))` in all shapes of tile and with all instructions, so neither shows in a
//! result. Weights that are codes: `dots.rs`.
#![allow(clippy::needless_range_loop)] // indices of several register arrays at once, as in the formulas

use half::bf16;

use super::simd::{Arithmetic, LANES, Level, Scalar, wide_kernel};
use super::weight::{Data, Matrix, PANEL};

/// Most rows of a tile with any instructions.
pub(crate) const ROWS: usize = 8;
/// Most outputs of a tile, over all its rows.
pub(crate) const TILE: usize = ROWS * PANEL;

/// Most rows of a tile: their sums fit the registers.
pub(crate) fn rows(level: Level) -> usize {
    if level.avx512() { ROWS } else { 6 }
}

/// Panels that are walked side by side for `rows` rows when `panels` are there.
pub(crate) fn side_by_side(level: Level, rows: usize, panels: usize) -> usize {
    match (rows, panels) {
        (1, 4..) => 4,
        (2, 4..) if level.avx512() => 4,
        (1 | 2, 2..) => 2,
        (3 | 4, 2..) if level.avx512() => 2,
        _ => 1,
    }
}

/// Sixteen lanes: the outputs of a panel, slots of the KV slab. A value of the implementing type is the proof that the instructions exist.
pub(crate) trait Sixteen: Copy {
    /// Sixteen f32.
    type V: Copy;
    /// Whether they are one register, of which there are 32.
    const WIDE: bool;

    fn zeros(self) -> Self::V;
    fn splat(self, x: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a > b ? a : b` (b when one is NaN).
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// As [`Arithmetic::exp`].
    fn exp(self, v: Self::V) -> Self::V;
    /// # Safety
    /// `p` is readable for 16 numbers.
    unsafe fn floats(self, p: *const f32) -> Self::V;
    /// Sixteen bf16 numbers stored as (0, 8), (1, 9), ..
    /// # Safety
    /// `p` is readable for 16 numbers.
    unsafe fn halves(self, p: *const u16) -> Self::V;
    /// Sixteen signed bytes as numbers.
    /// # Safety
    /// `p` is readable for 16 bytes.
    unsafe fn bytes(self, p: *const i8) -> Self::V;
    /// `x * w + sum`, rounded once.
    fn add_product(self, x: f32, w: Self::V, sum: Self::V) -> Self::V;
    /// # Safety
    /// `p` is writable for 16 numbers.
    unsafe fn put(self, p: *mut f32, v: Self::V);
    /// Asks for the cache line at `p`, which need not be readable.
    fn ahead<T>(self, p: *const T);

    /// The lanes as an array.
    #[inline(always)]
    fn lanes(self, v: Self::V) -> [f32; PANEL] {
        let mut a = [0f32; PANEL];
        // SAFETY: `a` holds 16 numbers.
        unsafe { self.put(a.as_mut_ptr(), v) };
        a
    }
}

#[inline(always)]
fn each(a: [f32; PANEL], b: [f32; PANEL], f: impl Fn(f32, f32) -> f32) -> [f32; PANEL] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Sixteen for Scalar {
    type V = [f32; PANEL];
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; PANEL]
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn exp(self, v: Self::V) -> Self::V {
        let half = |at: usize| Arithmetic::exp(self, std::array::from_fn(|i| v[at + i]));
        let halves = [half(0), half(LANES)];
        std::array::from_fn(|i| halves[i / LANES][i % LANES])
    }

    #[inline(always)]
    fn zeros(self) -> Self::V {
        [0.0; PANEL]
    }
    #[inline(always)]
    unsafe fn floats(self, p: *const f32) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn halves(self, p: *const u16) -> Self::V {
        // SAFETY: the caller's promise.
        let v = unsafe { p.cast::<[u16; PANEL]>().read_unaligned() };
        std::array::from_fn(|lane| bf16::from_bits(v[<u16 as Stored>::place(lane)]).to_f32())
    }
    #[inline(always)]
    unsafe fn bytes(self, p: *const i8) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[i8; PANEL]>().read_unaligned() }.map(f32::from)
    }
    #[inline(always)]
    fn add_product(self, x: f32, w: Self::V, sum: Self::V) -> Self::V {
        std::array::from_fn(|i| x.mul_add(w[i], sum[i]))
    }
    #[inline(always)]
    unsafe fn put(self, p: *mut f32, v: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    fn ahead<T>(self, _: *const T) {}
}

wide_kernel! {
    /// Rows `x[at[r]..]` times `panels` panels of `w` from `first` on: `out[r * panels * 16 + lane]`. `panels` is what
    /// [`side_by_side`] says, the rows are at most [`rows`].
    fn tile(w: &Matrix<'_>, first: usize, panels: usize, x: &[f32], at: &[usize], out: &mut [f32; TILE]) = dispatch
}

#[inline(always)]
fn dispatch<S: Sixteen>(
    s: S,
    w: &Matrix<'_>,
    first: usize,
    panels: usize,
    x: &[f32],
    at: &[usize],
    out: &mut [f32; TILE],
) {
    match (at.len(), panels) {
        (1, 4) => any::<S, 1, 4>(s, w, first, x, at, out),
        (1, 2) => any::<S, 1, 2>(s, w, first, x, at, out),
        (1, 1) => any::<S, 1, 1>(s, w, first, x, at, out),
        (2, 4) => any::<S, 2, 4>(s, w, first, x, at, out),
        (2, 2) => any::<S, 2, 2>(s, w, first, x, at, out),
        (2, 1) => any::<S, 2, 1>(s, w, first, x, at, out),
        (3, 2) => any::<S, 3, 2>(s, w, first, x, at, out),
        (3, 1) => any::<S, 3, 1>(s, w, first, x, at, out),
        (4, 2) => any::<S, 4, 2>(s, w, first, x, at, out),
        (4, 1) => any::<S, 4, 1>(s, w, first, x, at, out),
        (5, 1) => any::<S, 5, 1>(s, w, first, x, at, out),
        (6, 1) => any::<S, 6, 1>(s, w, first, x, at, out),
        (7, 1) => any::<S, 7, 1>(s, w, first, x, at, out),
        (8, 1) => any::<S, 8, 1>(s, w, first, x, at, out),
        (rows, panels) => unreachable!("a tile of {rows} rows and {panels} panels"),
    }
}

#[inline(always)]
fn any<S: Sixteen, const R: usize, const P: usize>(
    s: S,
    w: &Matrix<'_>,
    first: usize,
    x: &[f32],
    at: &[usize],
    out: &mut [f32; TILE],
) {
    let n = w.inputs;
    let rows: [*const f32; R] = std::array::from_fn(|r| x[at[r]..at[r] + n].as_ptr());
    let span = |p: usize| (first + p) * n * PANEL..(first + p + 1) * n * PANEL;
    // SAFETY: the slices just taken hold n inputs of every row and of every panel.
    let acc = unsafe {
        match w.data {
            Data::F32(d) => chain::<S, R, P, f32>(s, rows, std::array::from_fn(|p| d[span(p)].as_ptr()), n),
            Data::Bf16(d) => chain::<S, R, P, u16>(s, rows, std::array::from_fn(|p| d[span(p)].as_ptr()), n),
            // Products with codes go to `dots.rs`.
            Data::Codes { .. } => [[s.zeros(); P]; R],
        }
    };
    for r in 0..R {
        for p in 0..P {
            // SAFETY: at most 128 numbers in all shapes of `dispatch`.
            unsafe { s.put(out.as_mut_ptr().add((r * P + p) * PANEL), acc[r][p]) };
        }
    }
}

/// How sixteen weights, keys or values are stored.
pub(crate) trait Stored: Sized {
    /// # Safety
    /// `p` is readable for 16 of them.
    unsafe fn load<S: Sixteen>(s: S, p: *const Self) -> S::V;
    /// Where a lane lies among the sixteen.
    fn place(lane: usize) -> usize {
        lane
    }
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load<S: Sixteen>(s: S, p: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.floats(p) }
    }
}

/// bf16.
impl Stored for u16 {
    #[inline(always)]
    unsafe fn load<S: Sixteen>(s: S, p: *const u16) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.halves(p) }
    }
    fn place(lane: usize) -> usize {
        lane % 8 * 2 + lane / 8
    }
}

/// Codes, without their scale.
impl Stored for i8 {
    #[inline(always)]
    unsafe fn load<S: Sixteen>(s: S, p: *const i8) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.bytes(p) }
    }
}

/// One chain over `n` inputs.
///
/// # Safety
/// Rows hold `n` numbers, panels `16 n`.
#[inline(always)]
unsafe fn chain<S: Sixteen, const R: usize, const P: usize, T: Stored>(
    s: S,
    rows: [*const f32; R],
    panels: [*const T; P],
    n: usize,
) -> [[S::V; P]; R] {
    let mut acc = [[s.zeros(); P]; R];
    for i in 0..n {
        for p in 0..P {
            // The panels of the next tile follow these: they come from a far cache, too late for their first reader.
            s.ahead(panels[p].wrapping_add((i + P * n) * PANEL));
            // SAFETY: i < n.
            let w = unsafe { T::load(s, panels[p].add(i * PANEL)) };
            for r in 0..R {
                // SAFETY: i < n.
                acc[r][p] = s.add_product(unsafe { *rows[r].add(i) }, w, acc[r][p]);
            }
        }
    }
    acc
}
