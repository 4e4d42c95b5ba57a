//! Rows as eight-bit codes: what a product with int8 or int4 weights multiplies.
//!
//! A row is cut into the weights' groups of 64 inputs; each has its own scale, `max|x| / 127`. Within a group a product is then a sum of whole numbers,
//! which is exact in any order and on any processor; the groups are put together in f32, one after another. A group of zeros has scale 0, one with NaN or
//! an infinity the scale NaN, so that both show in the result.

use super::memory::{Shared, first};
use super::pool::Pool;
use super::simd::{LANES, Level, Simd, kernel};
use super::weight::Matrix;
use crate::GROUP;

/// Rows of a chunk when many rows are coded.
const CHUNK: usize = 16;

/// Rows of codes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codes<'a> {
    /// `[rows, groups * 64]`, zeros after the last input.
    pub(crate) q: &'a [i8],
    /// `[rows, groups]`.
    pub(crate) scales: &'a [f32],
    /// `[rows, groups]`: the sum of each group's codes, by which a product is corrected for the offset of the weights' codes.
    pub(crate) sums: &'a [i32],
    pub(crate) groups: usize,
}

/// The rows that a product reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// Row i lies at `i * stride`.
    Floats {
        x: &'a [f32],
        stride: usize,
    },
    Codes(Codes<'a>),
}

/// Memory of codes, kept from step to step.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    q: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

/// Memory of codes whose rows and groups are written by the chunks of a parallel region.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    q: Shared<'a, i8>,
    scales: Shared<'a, f32>,
    sums: Shared<'a, i32>,
    groups: usize,
}

impl Scratch {
    /// `rows` rows of `width` inputs as `w` wants them: floats as they are, or codes.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn input<'a>(
        &'a mut self,
        level: Level,
        pool: &Pool,
        w: &Matrix<'_>,
        x: &'a [f32],
        rows: usize,
        stride: usize,
    ) -> Input<'a> {
        if !w.coded() {
            return Input::Floats { x, stride };
        }
        let writer = self.writer(rows, w.inputs);
        pool.run(rows.div_ceil(CHUNK), &|c| {
            for row in c * CHUNK..rows.min((c + 1) * CHUNK) {
                // SAFETY: a row belongs to one chunk.
                unsafe { writer.write(level, row, 0, &x[row * stride..row * stride + w.inputs]) };
            }
        });
        Input::Codes(self.codes(rows, w.inputs))
    }

    /// Room for `rows` rows of `width` inputs.
    pub(crate) fn writer(&mut self, rows: usize, width: usize) -> Writer<'_> {
        let groups = width.div_ceil(GROUP);
        Writer {
            q: Shared::new(first(&mut self.q, rows * groups * GROUP)),
            scales: Shared::new(first(&mut self.scales, rows * groups)),
            sums: Shared::new(first(&mut self.sums, rows * groups)),
            groups,
        }
    }

    /// What was written.
    pub(crate) fn codes(&self, rows: usize, width: usize) -> Codes<'_> {
        let groups = width.div_ceil(GROUP);
        let (q, n) = (&self.q[..rows * groups * GROUP], rows * groups);
        Codes { q, scales: &self.scales[..n], sums: &self.sums[..n], groups }
    }
}

impl Writer<'_> {
    /// Codes `x`, which are the inputs of `row` from `from` (the start of a group) on.
    ///
    /// # Safety
    /// No two calls that run at the same time write the same group of a row.
    pub(crate) unsafe fn write(&self, level: Level, row: usize, from: usize, x: &[f32]) {
        let (at, n) = (row * self.groups + from / GROUP, x.len().div_ceil(GROUP));
        // SAFETY: the caller's promise.
        let (q, scales, sums) =
            unsafe { (self.q.part(at * GROUP, n * GROUP), self.scales.part(at, n), self.sums.part(at, n)) };
        encode(level, x, q, scales, sums);
    }
}

kernel! {
    /// Codes, scales and sums of the groups of `x`.
    fn encode(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i32]) = encode_any
}

#[inline(always)]
fn encode_any<S: Simd>(s: S, x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    let groups = q.as_chunks_mut::<GROUP>().0;
    for (((x, q), scale), sum) in x.chunks(GROUP).zip(groups).zip(scales).zip(sums) {
        if let Some(x) = x.as_array() {
            (*scale, *sum) = encode_group(s, x, q);
        } else {
            let mut padded = [0f32; GROUP];
            padded[..x.len()].copy_from_slice(x);
            (*scale, *sum) = encode_group(s, &padded, q);
        }
    }
}

#[inline(always)]
fn encode_group<S: Simd>(s: S, x: &[f32; GROUP], q: &mut [i8; GROUP]) -> (f32, i32) {
    let (zero, mut most, mut bad) = (s.splat(0.0), s.splat(0.0), s.splat(0.0));
    for i in (0..GROUP).step_by(LANES) {
        // SAFETY: i + 8 <= 64.
        let v = unsafe { s.load(x.as_ptr().add(i)) };
        most = s.max(most, s.max(v, s.sub(zero, v)));
        // 0 for numbers, NaN for all else.
        bad = s.fma(v, zero, bad);
    }
    let max = s.largest(most) + s.sum(bad);
    if max.is_nan() || max < 1e-30 {
        q.fill(0);
        return (if max.is_nan() { f32::NAN } else { 0.0 }, 0);
    }
    let (factor, mut sum) = (s.splat(127.0 / max), zero);
    for i in (0..GROUP).step_by(LANES) {
        // SAFETY: i + 8 <= 64.
        unsafe {
            let code = s.round(s.mul(s.load(x.as_ptr().add(i)), factor));
            sum = s.add(sum, code);
            s.store_i8(q.as_mut_ptr().add(i), code);
        }
    }
    (max / 127.0, s.sum(sum) as i32)
}
