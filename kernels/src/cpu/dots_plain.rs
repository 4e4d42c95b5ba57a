//! [`Dots`] in plain Rust.

use half::f16;

use super::dots::Dots;
use super::simd::Scalar;
use super::weight::PANEL;

#[inline(always)]
fn dots<const R: usize>(x: [*const i8; R], weight: impl Fn(usize, usize) -> i32) -> [[i32; PANEL]; R] {
    x.map(|x| {
        let mut dot = [0i32; PANEL];
        for i in 0..crate::GROUP {
            // SAFETY: the callers' promise: 64 codes.
            let x = i32::from(unsafe { *x.add(i) });
            dot.iter_mut().enumerate().for_each(|(lane, d)| *d += x * weight(lane, i));
        }
        dot
    })
}

impl Dots for Scalar {
    type I = [i32; PANEL];
    type F = [f32; PANEL];

    #[inline(always)]
    fn zero(self) -> Self::F {
        [0.0; PANEL]
    }
    #[inline(always)]
    unsafe fn eight<const R: usize>(self, w: *const u8, x: [*const i8; R], _: [i32; R]) -> [Self::I; R] {
        // SAFETY: 16 lines of 64 bytes, by the caller's promise.
        dots(x, |lane, i| i32::from(unsafe { *w.add(i / 4 * 64 + lane * 4 + i % 4) }) - 128)
    }
    #[inline(always)]
    unsafe fn four<const R: usize>(self, w: *const u8, x: [*const i8; R], _: [i32; R]) -> [Self::I; R] {
        dots(x, |lane, i| {
            // SAFETY: 8 lines of 64 bytes, by the caller's promise.
            let byte = unsafe { *w.add(i / 8 * 64 + lane * 4 + i % 4) };
            i32::from(byte >> (i / 4 % 2 * 4) & 15) - 8
        })
    }
    #[inline(always)]
    unsafe fn halves(self, p: *const u16) -> Self::F {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u16; PANEL]>().read_unaligned() }.map(|b| f16::from_bits(b).to_f32())
    }
    #[inline(always)]
    fn scaled(self, dot: Self::I, weights: Self::F, row: f32, total: Self::F) -> Self::F {
        std::array::from_fn(|i| (dot[i] as f32).mul_add(weights[i] * row, total[i]))
    }
    #[inline(always)]
    unsafe fn put(self, p: *mut f32, v: Self::F) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<Self::F>().write_unaligned(v) }
    }
    #[inline(always)]
    fn ahead(self, _: *const u8) {}
}
