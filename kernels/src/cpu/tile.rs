//! The innermost loop of all matrix products: up to six rows times some panels of 16 outputs, kept in registers.
//!
//! With six rows a tile has twelve accumulators of eight lanes, which hides the latency of a multiply-add; with
//! fewer rows several panels are walked side by side for the same reason. Every output element is
//! `fma(x[n-1], w[n-1], .. fma(x[0], w[0], 0))` in all shapes of tile (for int8: such a chain per group of 64 inputs, and a
//! chain of the groups' sums times their scales), so the shape never shows in a result.
#![allow(clippy::needless_range_loop)] // indices of several register arrays at once, as in the formulas

use super::simd::{Simd, kernel};
use super::weight::{Data, Matrix, PANEL};
use crate::GROUP;

/// Most rows of a tile.
pub(crate) const ROWS: usize = 6;
/// Most outputs of a tile, over all its rows.
pub(crate) const TILE: usize = ROWS * PANEL;

/// Panels that are walked side by side for `rows` rows when `panels` are there.
pub(crate) fn side_by_side(rows: usize, panels: usize) -> usize {
    match (rows, panels) {
        (1, 4..) => 4,
        (1 | 2, 2..) => 2,
        _ => 1,
    }
}

kernel! {
    /// Rows `x[at[r]..]` times `panels` panels of `w` from `first` on: `out[r * panels * 16 + lane]`. `panels` is what
    /// [`side_by_side`] says.
    fn tile(w: &Matrix<'_>, first: usize, panels: usize, x: &[f32], at: &[usize], out: &mut [f32; TILE]) = dispatch
}

#[inline(always)]
fn dispatch<S: Simd>(
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
        (2, 2) => any::<S, 2, 2>(s, w, first, x, at, out),
        (2, 1) => any::<S, 2, 1>(s, w, first, x, at, out),
        (3, 1) => any::<S, 3, 1>(s, w, first, x, at, out),
        (4, 1) => any::<S, 4, 1>(s, w, first, x, at, out),
        (5, 1) => any::<S, 5, 1>(s, w, first, x, at, out),
        (6, 1) => any::<S, 6, 1>(s, w, first, x, at, out),
        (rows, panels) => unreachable!("a tile of {rows} rows and {panels} panels"),
    }
}

/// How sixteen weights are stored.
trait Sixteen {
    type T;
    /// # Safety
    /// `p` is readable for 16 weights.
    unsafe fn load<S: Simd>(s: S, p: *const Self::T) -> [S::V; 2];
}

struct F32;
struct Bf16;
struct I8;

impl Sixteen for F32 {
    type T = f32;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> [S::V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [s.load(p), s.load(p.add(8))] }
    }
}

impl Sixteen for Bf16 {
    type T = u16;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u16) -> [S::V; 2] {
        // SAFETY: the caller's promise.
        unsafe { s.load_bf16(p) }
    }
}

impl Sixteen for I8 {
    type T = i8;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const i8) -> [S::V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [s.load_i8(p), s.load_i8(p.add(8))] }
    }
}

type Acc<V, const R: usize, const P: usize> = [[[V; 2]; P]; R];

#[inline(always)]
fn any<S: Simd, const R: usize, const P: usize>(
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
            Data::F32(d) => {
                let panels: [*const f32; P] = std::array::from_fn(|p| d[span(p)].as_ptr());
                chain::<S, R, P, F32>(s, rows, panels, n)
            }
            Data::Bf16(d) => {
                let panels: [*const u16; P] = std::array::from_fn(|p| d[span(p)].as_ptr());
                chain::<S, R, P, Bf16>(s, rows, panels, n)
            }
            Data::Int8 { q, scales } => {
                let panels: [*const i8; P] = std::array::from_fn(|p| q[span(p)].as_ptr());
                let size = n.div_ceil(GROUP) * PANEL;
                let scales: [*const u16; P] =
                    std::array::from_fn(|p| scales[(first + p) * size..(first + p + 1) * size].as_ptr());
                grouped::<S, R, P>(s, rows, panels, scales, n)
            }
        }
    };
    for r in 0..R {
        for p in 0..P {
            for h in 0..2 {
                // SAFETY: at most 96 numbers in all shapes of `dispatch`.
                unsafe { s.store(out.as_mut_ptr().add((r * P + p) * PANEL + h * 8), acc[r][p][h]) };
            }
        }
    }
}

/// One chain over `n` inputs.
///
/// # Safety
/// Rows hold `n` numbers, panels `16 n`.
#[inline(always)]
unsafe fn chain<S: Simd, const R: usize, const P: usize, W: Sixteen>(
    s: S,
    rows: [*const f32; R],
    panels: [*const W::T; P],
    n: usize,
) -> Acc<S::V, R, P> {
    let mut acc = [[[s.splat(0.0); 2]; P]; R];
    for i in 0..n {
        for p in 0..P {
            // The panels of the next tile follow these: they come from a far cache, too late for their first reader.
            s.prefetch(panels[p].wrapping_add((i + P * n) * PANEL));
            // SAFETY: i < n.
            let w = unsafe { W::load(s, panels[p].add(i * PANEL)) };
            for r in 0..R {
                // SAFETY: i < n.
                let x = s.splat(unsafe { *rows[r].add(i) });
                acc[r][p] = [s.fma(x, w[0], acc[r][p][0]), s.fma(x, w[1], acc[r][p][1])];
            }
        }
    }
    acc
}

/// A chain per group of inputs; the groups' sums are chained with their scales.
///
/// # Safety
/// Rows hold `n` numbers, panels `16 n`, scales 16 for each group.
#[inline(always)]
unsafe fn grouped<S: Simd, const R: usize, const P: usize>(
    s: S,
    rows: [*const f32; R],
    panels: [*const i8; P],
    scales: [*const u16; P],
    n: usize,
) -> Acc<S::V, R, P> {
    let mut total = [[[s.splat(0.0); 2]; P]; R];
    for (g, start) in (0..n).step_by(GROUP).enumerate() {
        // SAFETY: the group begins inside rows and panels and ends at n at the latest; g is a group.
        unsafe {
            let rows = rows.map(|r| r.add(start));
            let starts = panels.map(|p| p.add(start * PANEL));
            let acc = chain::<S, R, P, I8>(s, rows, starts, GROUP.min(n - start));
            for p in 0..P {
                let scale = scales[p].add(g * PANEL);
                let scale = [s.load_f16(scale), s.load_f16(scale.add(8))];
                for r in 0..R {
                    for h in 0..2 {
                        total[r][p][h] = s.fma(acc[r][p][h], scale[h], total[r][p][h]);
                    }
                }
            }
        }
    }
    total
}
