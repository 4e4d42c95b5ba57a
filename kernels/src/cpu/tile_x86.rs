//! [`Sixteen`] as AVX2 and as AVX-512 instructions.
#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::avx512::Avx512;
use super::simd::Arithmetic;
use super::tile::Sixteen;

macro_rules! x86 {
    ($e:expr) => {
        // SAFETY: `self` is the proof that the instructions exist; pointers are the caller's promise.
        unsafe { $e }
    };
}

impl Sixteen for Avx2 {
    type V = [__m256; 2];
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [Arithmetic::splat(self, x); 2]
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        [Arithmetic::add(self, a[0], b[0]), Arithmetic::add(self, a[1], b[1])]
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        [Arithmetic::sub(self, a[0], b[0]), Arithmetic::sub(self, a[1], b[1])]
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        [Arithmetic::mul(self, a[0], b[0]), Arithmetic::mul(self, a[1], b[1])]
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        [Arithmetic::max(self, a[0], b[0]), Arithmetic::max(self, a[1], b[1])]
    }
    #[inline(always)]
    fn exp(self, v: Self::V) -> Self::V {
        [Arithmetic::exp(self, v[0]), Arithmetic::exp(self, v[1])]
    }
    #[inline(always)]
    unsafe fn bytes(self, p: *const i8) -> Self::V {
        x86!({
            let half = |p: *const i8| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())));
            [half(p), half(p.add(8))]
        })
    }

    #[inline(always)]
    fn zeros(self) -> Self::V {
        x86!([_mm256_setzero_ps(); 2])
    }
    #[inline(always)]
    unsafe fn floats(self, p: *const f32) -> Self::V {
        x86!([_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))])
    }
    #[inline(always)]
    unsafe fn halves(self, p: *const u16) -> Self::V {
        x86!({
            let v = _mm256_loadu_si256(p.cast());
            let even = _mm256_slli_epi32::<16>(v);
            let odd = _mm256_and_si256(v, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            [_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd)]
        })
    }
    #[inline(always)]
    fn add_product(self, x: f32, w: Self::V, sum: Self::V) -> Self::V {
        x86!({
            let x = _mm256_set1_ps(x);
            [_mm256_fmadd_ps(x, w[0], sum[0]), _mm256_fmadd_ps(x, w[1], sum[1])]
        })
    }
    #[inline(always)]
    unsafe fn put(self, p: *mut f32, v: Self::V) {
        x86!({
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        })
    }
    #[inline(always)]
    fn ahead<T>(self, p: *const T) {
        x86!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
}

impl Sixteen for Avx512 {
    type V = __m512;
    const WIDE: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        Arithmetic::splat(self, x)
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        Arithmetic::add(self, a, b)
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        Arithmetic::sub(self, a, b)
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        Arithmetic::mul(self, a, b)
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        Arithmetic::max(self, a, b)
    }
    #[inline(always)]
    fn exp(self, v: __m512) -> __m512 {
        Arithmetic::exp(self, v)
    }
    #[inline(always)]
    unsafe fn bytes(self, p: *const i8) -> __m512 {
        x86!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))))
    }
    #[inline(always)]
    fn zeros(self) -> __m512 {
        x86!(_mm512_setzero_ps())
    }
    #[inline(always)]
    unsafe fn floats(self, p: *const f32) -> __m512 {
        x86!(_mm512_loadu_ps(p))
    }
    /// The sixteen numbers in both halves of a register: a shift of the lower half gives the even places, a mask of the upper one the odd ones.
    #[inline(always)]
    unsafe fn halves(self, p: *const u16) -> __m512 {
        x86!({
            let both = _mm512_broadcast_i64x4(_mm256_loadu_si256(p.cast()));
            let shift = _mm512_inserti64x4::<0>(_mm512_setzero_si512(), _mm256_set1_epi32(16));
            let shifted = _mm512_sllv_epi32(both, shift);
            _mm512_castsi512_ps(_mm512_and_si512(shifted, _mm512_set1_epi32(0xffff_0000_u32 as i32)))
        })
    }
    #[inline(always)]
    fn add_product(self, x: f32, w: __m512, sum: __m512) -> __m512 {
        x86!(_mm512_fmadd_ps(_mm512_set1_ps(x), w, sum))
    }
    #[inline(always)]
    unsafe fn put(self, p: *mut f32, v: __m512) {
        x86!(_mm512_storeu_ps(p, v))
    }
    #[inline(always)]
    fn ahead<T>(self, p: *const T) {
        x86!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
}
