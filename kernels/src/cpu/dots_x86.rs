//! [`Dots`] as AVX2 and as AVX-512 (VNNI) instructions.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::needless_range_loop)] // indices of several register arrays at once

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::avx512::Avx512;
use super::dots::Dots;

/// Bytes by which reading runs ahead: some lines more than a core's own prefetcher has under way.
const AHEAD: usize = 2048;

/// Four codes of a row, in every lane.
///
/// # Safety
/// `x` is readable for 4 bytes.
#[inline(always)]
unsafe fn quad(x: *const i8) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { x.cast::<i32>().read_unaligned() }
}

macro_rules! x86 {
    ($e:expr) => {
        // SAFETY: `self` is the proof that the instructions exist; pointers are the caller's promise.
        unsafe { $e }
    };
}

impl Dots for Avx2 {
    type I = [__m256i; 2];
    type F = [__m256; 2];

    #[inline(always)]
    fn zero(self) -> Self::F {
        x86!([_mm256_setzero_ps(); 2])
    }

    /// `vpmaddubsw` adds pairs in 16 bits. |weight| <= 128 times |code| <= 127 twice fits, so the weight gives its magnitude and the row's code its sign.
    #[inline(always)]
    unsafe fn eight<const R: usize>(self, w: *const u8, x: [*const i8; R], _: [i32; R]) -> [Self::I; R] {
        x86!({
            let (offset, ones) = (_mm256_set1_epi8(-128), _mm256_set1_epi16(1));
            let mut acc = [[_mm256_setzero_si256(); 2]; R];
            for line in 0..16 {
                self.ahead(w.wrapping_add(line * 64 + AHEAD));
                for half in 0..2 {
                    let w = _mm256_xor_si256(_mm256_loadu_si256(w.add(line * 64 + half * 32).cast()), offset);
                    let magnitude = _mm256_abs_epi8(w);
                    for r in 0..R {
                        let x = _mm256_sign_epi8(_mm256_set1_epi32(quad(x[r].add(line * 4))), w);
                        let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, x), ones);
                        acc[r][half] = _mm256_add_epi32(acc[r][half], pairs);
                    }
                }
            }
            acc
        })
    }

    /// A pair is at most 2 * 15 * 127: eight of them add up in 16 bits.
    #[inline(always)]
    unsafe fn four<const R: usize>(self, w: *const u8, x: [*const i8; R], sums: [i32; R]) -> [Self::I; R] {
        x86!({
            let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
            let mut acc: [[__m256i; 2]; R] = std::array::from_fn(|r| [_mm256_set1_epi32(-8 * sums[r]); 2]);
            for start in [0, 4] {
                let mut short = [[_mm256_setzero_si256(); 2]; R];
                for line in start..start + 4 {
                    self.ahead(w.wrapping_add(line * 64 + AHEAD));
                    for half in 0..2 {
                        let both = _mm256_loadu_si256(w.add(line * 64 + half * 32).cast());
                        let even = _mm256_and_si256(both, low);
                        let odd = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
                        for r in 0..R {
                            let a = _mm256_maddubs_epi16(even, _mm256_set1_epi32(quad(x[r].add(line * 8))));
                            let b = _mm256_maddubs_epi16(odd, _mm256_set1_epi32(quad(x[r].add(line * 8 + 4))));
                            short[r][half] = _mm256_add_epi16(short[r][half], _mm256_add_epi16(a, b));
                        }
                    }
                }
                for r in 0..R {
                    for half in 0..2 {
                        let pairs = _mm256_madd_epi16(short[r][half], ones);
                        acc[r][half] = _mm256_add_epi32(acc[r][half], pairs);
                    }
                }
            }
            acc
        })
    }

    #[inline(always)]
    unsafe fn halves(self, p: *const u16) -> Self::F {
        x86!([_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(8).cast()))])
    }
    #[inline(always)]
    fn scaled(self, dot: Self::I, weights: Self::F, row: f32, total: Self::F) -> Self::F {
        std::array::from_fn(|h| {
            x86!({
                let scale = _mm256_mul_ps(weights[h], _mm256_set1_ps(row));
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[h]), scale, total[h])
            })
        })
    }
    #[inline(always)]
    unsafe fn put(self, p: *mut f32, v: Self::F) {
        x86!({
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        })
    }
    #[inline(always)]
    fn ahead(self, p: *const u8) {
        x86!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
}

impl Dots for Avx512 {
    type I = __m512i;
    type F = __m512;

    #[inline(always)]
    fn zero(self) -> __m512 {
        x86!(_mm512_setzero_ps())
    }

    #[inline(always)]
    unsafe fn eight<const R: usize>(self, w: *const u8, x: [*const i8; R], sums: [i32; R]) -> [__m512i; R] {
        // SAFETY: the caller's promise.
        unsafe {
            match R {
                0..=4 => self.eight_in_turns::<R, 4>(w, x, sums),
                _ => self.eight_in_turns::<R, 2>(w, x, sums),
            }
        }
    }

    #[inline(always)]
    unsafe fn four<const R: usize>(self, w: *const u8, x: [*const i8; R], sums: [i32; R]) -> [__m512i; R] {
        // SAFETY: the caller's promise.
        unsafe {
            match R {
                0..=2 => self.four_in_turns::<R, 4>(w, x, sums),
                _ => self.four_in_turns::<R, 2>(w, x, sums),
            }
        }
    }

    #[inline(always)]
    unsafe fn halves(self, p: *const u16) -> __m512 {
        x86!(_mm512_cvtph_ps(_mm256_loadu_si256(p.cast())))
    }
    #[inline(always)]
    fn scaled(self, dot: __m512i, weights: __m512, row: f32, total: __m512) -> __m512 {
        x86!(_mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(weights, _mm512_set1_ps(row)), total))
    }
    #[inline(always)]
    unsafe fn put(self, p: *mut f32, v: __m512) {
        x86!(_mm512_storeu_ps(p, v))
    }
    #[inline(always)]
    fn ahead(self, p: *const u8) {
        x86!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
}

impl Avx512 {
    /// `vpdpbusd` takes five cycles and two can begin in each: lines go to T sums in turn (the order of whole numbers does not matter).
    ///
    /// # Safety
    /// As [`Dots::eight`].
    #[inline(always)]
    unsafe fn eight_in_turns<const R: usize, const T: usize>(
        self,
        w: *const u8,
        x: [*const i8; R],
        sums: [i32; R],
    ) -> [__m512i; R] {
        x86!({
            let mut acc = start::<R, T>(sums, -128);
            for first in (0..16).step_by(T) {
                for turn in 0..T {
                    let line = first + turn;
                    self.ahead(w.wrapping_add(line * 64 + AHEAD));
                    let w = _mm512_loadu_si512(w.add(line * 64).cast());
                    for r in 0..R {
                        let x = _mm512_set1_epi32(quad(x[r].add(line * 4)));
                        acc[r][turn] = _mm512_dpbusd_epi32(acc[r][turn], w, x);
                    }
                }
            }
            end(acc)
        })
    }

    /// The same with two sums for each of T / 2 lines.
    ///
    /// # Safety
    /// As [`Dots::four`].
    #[inline(always)]
    unsafe fn four_in_turns<const R: usize, const T: usize>(
        self,
        w: *const u8,
        x: [*const i8; R],
        sums: [i32; R],
    ) -> [__m512i; R] {
        x86!({
            let low = _mm512_set1_epi8(15);
            let mut acc = start::<R, T>(sums, -8);
            for first in (0..8).step_by(T / 2) {
                for turn in 0..T / 2 {
                    let line = first + turn;
                    self.ahead(w.wrapping_add(line * 64 + AHEAD));
                    let both = _mm512_loadu_si512(w.add(line * 64).cast());
                    let halves = [_mm512_and_si512(both, low), _mm512_and_si512(_mm512_srli_epi16::<4>(both), low)];
                    for half in 0..2 {
                        for r in 0..R {
                            let x = _mm512_set1_epi32(quad(x[r].add(line * 8 + half * 4)));
                            let sum = &mut acc[r][2 * turn + half];
                            *sum = _mm512_dpbusd_epi32(*sum, halves[half], x);
                        }
                    }
                }
            }
            end(acc)
        })
    }
}

/// The first sum of each row starts with what the offset of the weights' codes adds, taken off.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn start<const R: usize, const T: usize>(sums: [i32; R], offset: i32) -> [[__m512i; T]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [[_mm512_setzero_si512(); T]; R];
        for r in 0..R {
            acc[r][0] = _mm512_set1_epi32(offset * sums[r]);
        }
        acc
    }
}

/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn end<const R: usize, const T: usize>(acc: [[__m512i; T]; R]) -> [__m512i; R] {
    let mut sums = [acc[0][0]; R];
    for r in 0..R {
        sums[r] = acc[r][0];
        for turn in 1..T {
            // SAFETY: the caller's promise.
            sums[r] = unsafe { _mm512_add_epi32(sums[r], acc[r][turn]) };
        }
    }
    sums
}
