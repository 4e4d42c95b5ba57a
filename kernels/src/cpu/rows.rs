//! Row-wise and element-wise kernels.
#![allow(clippy::needless_range_loop)] // indices of several register arrays at once, as in the formulas

use super::simd::{LANES, Simd, kernel};

kernel! {
    /// RMS norm of one row: `out = x * w / sqrt(mean(x^2) + eps)`. The squares are summed in 4 x 8 lanes. `x` and `out` may be one row.
    fn rms_norm(x: *const f32, w: &[f32], eps: f32, out: *mut f32) = rms_norm_any
}

/// `x` and `out` point to `w.len()` numbers each.
#[inline(always)]
fn rms_norm_any<S: Simd>(s: S, x: *const f32, w: &[f32], eps: f32, out: *mut f32) {
    let n = w.len();
    let blocks = n / LANES;
    let mut sums = [s.splat(0.0); 4];
    for b in 0..blocks {
        // SAFETY: block b ends before n.
        let v = unsafe { s.load(x.add(b * LANES)) };
        sums[b % 4] = s.fma(v, v, sums[b % 4]);
    }
    let mut sum = s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])));
    for i in blocks * LANES..n {
        // SAFETY: i < n.
        let v = unsafe { *x.add(i) };
        sum = v.mul_add(v, sum);
    }
    let scale = 1.0 / (sum / n as f32 + eps).sqrt();
    for b in 0..blocks {
        // SAFETY: block b ends before n.
        unsafe {
            let v = s.mul(s.load(x.add(b * LANES)), s.splat(scale));
            s.store(out.add(b * LANES), s.mul(v, s.load(w.as_ptr().add(b * LANES))));
        }
    }
    for i in blocks * LANES..n {
        // SAFETY: i < n.
        unsafe { *out.add(i) = *x.add(i) * scale * w[i] };
    }
}

/// An element-wise function.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Function {
    Silu,
    Tanh,
    Sigmoid,
}

kernel! {
    /// Applies a function to every number, in place; a last part of fewer than eight goes through a padded copy.
    fn apply(f: Function, x: &mut [f32]) = apply_any
}

#[inline(always)]
fn apply_any<S: Simd>(s: S, f: Function, x: &mut [f32]) {
    let (whole, rest) = x.as_chunks_mut::<LANES>();
    for v in whole {
        // SAFETY: 8 numbers.
        unsafe { s.store(v.as_mut_ptr(), function(s, f, s.load(v.as_ptr()))) };
    }
    let mut last = [0f32; LANES];
    last[..rest.len()].copy_from_slice(rest);
    // SAFETY: 8 numbers.
    unsafe { s.store(last.as_mut_ptr(), function(s, f, s.load(last.as_ptr()))) };
    rest.copy_from_slice(&last[..rest.len()]);
}

// Not a closure: closures are not sure to be inlined, and what is not inlined has no AVX2.
#[inline(always)]
fn function<S: Simd>(s: S, f: Function, v: S::V) -> S::V {
    match f {
        Function::Silu => s.silu(v),
        Function::Tanh => s.tanh(v),
        Function::Sigmoid => s.sigmoid(v),
    }
}

kernel! {
    /// `out = silu(gate) * up`, all of one length.
    fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) = swiglu_any
}

#[inline(always)]
fn swiglu_any<S: Simd>(s: S, gate: &[f32], up: &[f32], out: &mut [f32]) {
    let n = out.len();
    assert!(gate.len() >= n && up.len() >= n, "gate and up are as long as out");
    for at in (0..n).step_by(LANES) {
        let len = LANES.min(n - at);
        if len == LANES {
            // SAFETY: 8 numbers from `at` on, in all three.
            unsafe {
                let v = s.mul(s.silu(s.load(gate.as_ptr().add(at))), s.load(up.as_ptr().add(at)));
                s.store(out.as_mut_ptr().add(at), v);
            }
            continue;
        }
        let (mut a, mut b) = ([0f32; LANES], [0f32; LANES]);
        a[..len].copy_from_slice(&gate[at..at + len]);
        b[..len].copy_from_slice(&up[at..at + len]);
        // SAFETY: 8 numbers.
        let v = unsafe { s.mul(s.silu(s.load(a.as_ptr())), s.load(b.as_ptr())) };
        out[at..at + len].copy_from_slice(&s.array(v)[..len]);
    }
}

kernel! {
    /// Replaces x by `e^(x - max)`; returns (max, sum). The length is a multiple of 8; padding is minus infinity.
    /// The sum is taken in eight lanes, counted from the start of `x`.
    fn exponentials(x: &mut [f32]) -> (f32, f32) = exponentials_any
}

#[inline(always)]
pub(crate) fn exponentials_any<S: Simd>(s: S, x: &mut [f32]) -> (f32, f32) {
    let (whole, rest) = x.as_chunks_mut::<LANES>();
    assert!(rest.is_empty(), "padded to whole vectors");
    let mut most = s.splat(f32::NEG_INFINITY);
    for v in whole.iter() {
        // SAFETY: 8 numbers.
        most = s.max(unsafe { s.load(v.as_ptr()) }, most);
    }
    let max = s.largest(most);
    let mut sum = s.splat(0.0);
    for v in whole {
        // SAFETY: 8 numbers.
        unsafe {
            let e = s.exp(s.sub(s.load(v.as_ptr()), s.splat(max)));
            sum = s.add(sum, e);
            s.store(v.as_mut_ptr(), e);
        }
    }
    (max, s.sum(sum))
}

kernel! {
    /// `e^x`, with the bits that [`exponentials`] gives.
    fn exponential(x: f32) -> f32 = exponential_any
}

#[inline(always)]
fn exponential_any<S: Simd>(s: S, x: f32) -> f32 {
    s.array(s.exp(s.splat(x)))[0]
}

kernel! {
    /// Rotates the pairs (a[i], b[i]) by the angles of these cosines and sines.
    fn rotate_halves(x: &mut [f32], cos: &[f32], sin: &[f32]) = rotate_halves_any
}

#[inline(always)]
fn rotate_halves_any<S: Simd>(s: S, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let n = cos.len();
    let (a, b) = x.split_at_mut(n);
    assert!(b.len() == n && sin.len() == n, "two halves");
    let whole = n / LANES * LANES;
    for i in (0..whole).step_by(LANES) {
        // SAFETY: i + 8 <= n, the length of all four.
        unsafe {
            let (va, vb) = (s.load(a.as_ptr().add(i)), s.load(b.as_ptr().add(i)));
            let (c, d) = (s.load(cos.as_ptr().add(i)), s.load(sin.as_ptr().add(i)));
            s.store(a.as_mut_ptr().add(i), s.sub(s.mul(va, c), s.mul(vb, d)));
            s.store(b.as_mut_ptr().add(i), s.add(s.mul(vb, c), s.mul(va, d)));
        }
    }
    for i in whole..n {
        (a[i], b[i]) = (a[i] * cos[i] - b[i] * sin[i], b[i] * cos[i] + a[i] * sin[i]);
    }
}

/// Rotates the pairs (x[2i], x[2i + 1]).
pub(crate) fn rotate_interleaved(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    for (i, p) in x.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        *p = [p[0] * cos[i] - p[1] * sin[i], p[1] * cos[i] + p[0] * sin[i]];
    }
}
