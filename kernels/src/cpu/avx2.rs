//! The eight lanes of [`Simd`] as AVX2, FMA and F16C instructions.
#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::*;

use super::simd::{Arithmetic, LANES, Simd};

/// Proof that AVX2, FMA and F16C exist.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The processor has AVX2, FMA and F16C.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

macro_rules! avx {
    ($e:expr) => {
        // SAFETY: `self` is the proof that the instructions exist; pointers are the caller's promise.
        unsafe { $e }
    };
}

impl Arithmetic for Avx2 {
    type V = __m256;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        avx!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        avx!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        avx!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        avx!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        avx!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        avx!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        avx!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        avx!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn round(self, v: __m256) -> __m256 {
        avx!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v))
    }
    #[inline(always)]
    fn exp2_whole(self, v: __m256) -> __m256 {
        avx!({
            let n = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
        })
    }
}

impl Simd for Avx2 {
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        avx!(_mm256_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        avx!(_mm256_storeu_ps(p, v))
    }
    #[inline(always)]
    fn with_sign(self, magnitude: __m256, sign: __m256) -> __m256 {
        avx!({
            let bit = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(bit, magnitude), _mm256_and_ps(bit, sign))
        })
    }
    #[inline(always)]
    fn pairs(self, a: __m256, b: __m256) -> __m256 {
        // hadd interleaves the 128-bit halves of its operands.
        avx!(_mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(_mm256_hadd_ps(a, b)))))
    }
    #[inline(always)]
    unsafe fn look_up(self, window: *const f32, at: &[u32; LANES]) -> __m256 {
        avx!({
            let at = _mm256_loadu_si256(at.as_ptr().cast());
            _mm256_permutevar8x32_ps(_mm256_loadu_ps(window), at)
        })
    }
    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8, v: __m256) {
        avx!({
            let v = _mm256_cvttps_epi32(v);
            let words = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
            _mm_storel_epi64(p.cast(), _mm_packus_epi16(words, words));
        })
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: __m256) {
        avx!({
            let v = _mm256_cvtps_epi32(v);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
            _mm_storel_epi64(p.cast(), _mm_packs_epi16(words, words));
        })
    }
}
