//! The innermost loop of products with int8 and int4 weights: rows of codes times panels of 16 outputs.
//!
//! A line of a panel is 16 outputs x 4 inputs: what one 512-bit `vpdpbusd` (or two 256-bit `vpmaddubsw`, or an AMX tile row) multiplies. Weights' codes are
//! stored with an offset (128 or 8), so that they are unsigned; what the offset adds, offset times the sum of the row's codes, is
//! taken off at the start. All of that is whole numbers below 2^24: every instruction set gives the same dot product, and the
//! only roundings are those of `total = fma(dot, weight scale * row scale, total)`, group after group.
#![allow(clippy::needless_range_loop)] // indices of several register arrays at once, as in the formulas

use super::codes::Codes;
use super::simd::{Level, wide_kernel};
use super::weight::{Bits, Matrix, PANEL};
use crate::GROUP;

/// Most rows of a tile with any instructions.
pub(crate) const ROWS: usize = 8;
/// Panels that one call walks, one after another.
pub(crate) const PANELS: usize = 4;
/// Most numbers of a tile.
pub(crate) const TILE: usize = ROWS * PANELS * PANEL;

/// Rows of a tile: as many as their sums fit the registers.
pub(crate) fn rows(level: Level) -> usize {
    if level.avx512() { ROWS } else { 4 }
}

/// Sixteen lanes of whole numbers and of f32. A value of the implementing type is the proof that the instructions exist.
pub(crate) trait Dots: Copy {
    /// Sixteen i32.
    type I: Copy;
    /// Sixteen f32.
    type F: Copy;

    fn zero(self) -> Self::F;
    /// Dot products of R rows' group at `x` with a group of int8 codes. `sums` are the sums of the rows' codes.
    /// # Safety
    /// `w` is readable for 1024 bytes, each `x` for 64.
    unsafe fn eight<const R: usize>(self, w: *const u8, x: [*const i8; R], sums: [i32; R]) -> [Self::I; R];
    /// The same with int4 codes.
    /// # Safety
    /// `w` is readable for 512 bytes, each `x` for 64.
    unsafe fn four<const R: usize>(self, w: *const u8, x: [*const i8; R], sums: [i32; R]) -> [Self::I; R];
    /// Sixteen IEEE halves.
    /// # Safety
    /// `p` is readable for 16 numbers.
    unsafe fn halves(self, p: *const u16) -> Self::F;
    /// `fma(dot, weights * row, total)`.
    fn scaled(self, dot: Self::I, weights: Self::F, row: f32, total: Self::F) -> Self::F;
    /// # Safety
    /// `p` is writable for 16 numbers.
    unsafe fn put(self, p: *mut f32, v: Self::F);
    /// Asks for the cache line at `p`, which need not be readable.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    fn ahead(self, p: *const u8);
}

wide_kernel! {
    /// Rows `at` of `x` times `panels` panels (at most [`PANELS`]) of `w` from `first` on: `out[r * panels * 16 + p * 16 + lane]`. At most [`rows`] rows.
    fn tile(w: &Matrix<'_>, first: usize, panels: usize, x: &Codes<'_>, at: &[usize], out: &mut [f32; TILE]) = dispatch
}

#[inline(always)]
fn dispatch<S: Dots>(
    s: S,
    w: &Matrix<'_>,
    first: usize,
    panels: usize,
    x: &Codes<'_>,
    at: &[usize],
    out: &mut [f32; TILE],
) {
    match at.len() {
        1 => walk::<S, 1>(s, w, first, panels, x, at, out),
        2 => walk::<S, 2>(s, w, first, panels, x, at, out),
        3 => walk::<S, 3>(s, w, first, panels, x, at, out),
        4 => walk::<S, 4>(s, w, first, panels, x, at, out),
        5 => walk::<S, 5>(s, w, first, panels, x, at, out),
        6 => walk::<S, 6>(s, w, first, panels, x, at, out),
        7 => walk::<S, 7>(s, w, first, panels, x, at, out),
        8 => walk::<S, 8>(s, w, first, panels, x, at, out),
        rows => unreachable!("a tile of {rows} rows"),
    }
}

#[inline(always)]
fn walk<S: Dots, const R: usize>(
    s: S,
    w: &Matrix<'_>,
    first: usize,
    panels: usize,
    x: &Codes<'_>,
    at: &[usize],
    out: &mut [f32; TILE],
) {
    let (bits, codes, scales) = w.codes();
    match bits {
        Bits::Eight => panels_of::<S, R, 8>(s, codes, scales, first, panels, x, at, out),
        Bits::Four => panels_of::<S, R, 4>(s, codes, scales, first, panels, x, at, out),
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn panels_of<S: Dots, const R: usize, const BITS: usize>(
    s: S,
    codes: &[u8],
    scales: &[u16],
    first: usize,
    panels: usize,
    x: &Codes<'_>,
    at: &[usize],
    out: &mut [f32; TILE],
) {
    let groups = x.groups;
    let size = GROUP * PANEL * BITS / 8;
    let rows: [usize; R] = std::array::from_fn(|r| at[r] * groups);
    let q: [*const i8; R] = std::array::from_fn(|r| x.q[rows[r] * GROUP..(rows[r] + groups) * GROUP].as_ptr());
    let row_scales: [&[f32]; R] = std::array::from_fn(|r| &x.scales[rows[r]..rows[r] + groups]);
    let row_sums: [&[i32]; R] = std::array::from_fn(|r| &x.sums[rows[r]..rows[r] + groups]);
    for p in 0..panels {
        let w = codes[(first + p) * groups * size..(first + p + 1) * groups * size].as_ptr();
        let scales = scales[(first + p) * groups * PANEL..(first + p + 1) * groups * PANEL].as_ptr();
        let mut total = [s.zero(); R];
        for g in 0..groups {
            let sums = std::array::from_fn(|r| row_sums[r][g]);
            // SAFETY: g is a group of the panel and of every row.
            let (dots, weights) = unsafe {
                let (w, q) = (w.add(g * size), std::array::from_fn(|r| q[r].add(g * GROUP)));
                let dots = if BITS == 8 { s.eight::<R>(w, q, sums) } else { s.four::<R>(w, q, sums) };
                (dots, s.halves(scales.add(g * PANEL)))
            };
            for r in 0..R {
                total[r] = s.scaled(dots[r], weights, row_scales[r][g], total[r]);
            }
        }
        for r in 0..R {
            // SAFETY: at most 8 rows of 4 panels.
            unsafe { s.put(out.as_mut_ptr().add((r * panels + p) * PANEL), total[r]) };
        }
    }
}
