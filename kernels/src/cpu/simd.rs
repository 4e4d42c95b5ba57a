//! Which instructions there are, and eight f32 lanes, once as AVX2 and once as plain Rust.
//!
//! Every kernel is written once over [`Simd`]. [`Scalar`] does lane by lane what the AVX2 instructions do (a fused
//! multiply-add is one rounding in both), so the two give the same bits and the tests can demand it.
//! The choice is made at run time: [`Level::detect`].

/// Lanes of a vector.
pub(crate) const LANES: usize = 8;

/// Instructions of [`crate::Cpu`]'s kernels. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// Plain Rust.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// These, and AVX-512 F, BW, VL and VNNI.
    Avx512,
}

/// Which instructions to use: only ones that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level(Instructions);

impl Level {
    /// The best that this processor has.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                let wide = has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni");
                return Self(if wide { Instructions::Avx512 } else { Instructions::Avx2 });
            }
        }
        Self(Instructions::Scalar)
    }

    /// `most` or less, when this processor has less.
    pub(crate) fn at_most(most: Instructions) -> Self {
        Self(Self::detect().0.min(most))
    }

    pub(crate) fn instructions(self) -> Instructions {
        self.0
    }

    /// Whether AVX2, FMA and F16C are there and wanted.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(crate) fn avx2(self) -> bool {
        self.0 >= Instructions::Avx2
    }

    /// Whether the AVX-512 instructions are there and wanted.
    pub(crate) fn avx512(self) -> bool {
        self.0 == Instructions::Avx512
    }
}

/// Arithmetic on the f32 lanes of a vector. A value of the implementing type is the proof that the instructions exist.
pub(crate) trait Arithmetic: Copy {
    /// A vector.
    type V: Copy;

    fn splat(self, x: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a > b ? a : b` (b when one is NaN).
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b` (b when one is NaN).
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// To the nearest whole number, ties to even.
    fn round(self, v: Self::V) -> Self::V;
    /// `2^v` for whole v in -126..=127.
    fn exp2_whole(self, v: Self::V) -> Self::V;

    /// `e^v` to about one unit in the last place; arguments are held in -87..=88. The polynomial is that of Cephes' `expf`.
    #[inline(always)]
    fn exp(self, v: Self::V) -> Self::V {
        // The bound is the first operand, so that NaN passes.
        let x = self.min(self.splat(88.0), self.max(self.splat(-87.0), v));
        let n = self.round(self.mul(x, self.splat(std::f32::consts::LOG2_E)));
        let r = self.fma(n, self.splat(-0.693_359_4), x);
        let r = self.fma(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = self.fma(p, r, self.splat(c));
        }
        let p = self.add(self.fma(p, self.mul(r, r), r), self.splat(1.0));
        self.mul(p, self.exp2_whole(n))
    }

    /// `1 / (1 + e^-v)`.
    #[inline(always)]
    fn sigmoid(self, v: Self::V) -> Self::V {
        let one = self.splat(1.0);
        self.div(one, self.add(one, self.exp(self.sub(self.splat(0.0), v))))
    }

    /// `v * sigmoid(v)`.
    #[inline(always)]
    fn silu(self, v: Self::V) -> Self::V {
        self.div(v, self.add(self.splat(1.0), self.exp(self.sub(self.splat(0.0), v))))
    }
}

/// Eight f32 lanes.
pub(crate) trait Simd: Arithmetic {
    /// # Safety
    /// `p` is readable for 8 numbers.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// # Safety
    /// `p` is writable for 8 numbers.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// |magnitude| with the sign of `sign`.
    fn with_sign(self, magnitude: Self::V, sign: Self::V) -> Self::V;
    /// `[a0 + a1, a2 + a3, .., b6 + b7]`.
    fn pairs(self, a: Self::V, b: Self::V) -> Self::V;
    /// `[window[at[0]], window[at[1]], ..]`.
    /// # Safety
    /// `window` is readable for 8 numbers; every index is below 8.
    unsafe fn look_up(self, window: *const f32, at: &[u32; LANES]) -> Self::V;
    /// Numbers in 0..256 as bytes, cut towards zero.
    /// # Safety
    /// `p` is writable for 8 bytes.
    unsafe fn store_u8(self, p: *mut u8, v: Self::V);
    /// Whole numbers in -128..=127 as signed bytes.
    /// # Safety
    /// `p` is writable for 8 bytes.
    unsafe fn store_i8(self, p: *mut i8, v: Self::V);

    /// The lanes as an array.
    #[inline(always)]
    fn array(self, v: Self::V) -> [f32; LANES] {
        let mut a = [0f32; LANES];
        // SAFETY: `a` holds 8 numbers.
        unsafe { self.store(a.as_mut_ptr(), v) };
        a
    }

    /// Sum of the lanes in a fixed order.
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        let a = self.array(v);
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }

    /// Largest lane.
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        self.array(v).into_iter().fold(f32::NEG_INFINITY, |m, x| if m > x { m } else { x })
    }

    /// `tanh(v) = sign(v) (1 - 2 / (e^2|v| + 1))`; absolute error about 1e-7.
    #[inline(always)]
    fn tanh(self, v: Self::V) -> Self::V {
        let one = self.splat(1.0);
        let twice = self.add(v, v);
        let e = self.exp(self.max(twice, self.sub(self.splat(0.0), twice)));
        let t = self.sub(one, self.div(self.splat(2.0), self.add(e, one)));
        self.with_sign(t, v)
    }
}

/// Plain Rust.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn map2(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Arithmetic for Scalar {
    type V = [f32; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn round(self, v: Self::V) -> Self::V {
        v.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn exp2_whole(self, v: Self::V) -> Self::V {
        v.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
}

impl Simd for Scalar {
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    fn with_sign(self, magnitude: Self::V, sign: Self::V) -> Self::V {
        map2(magnitude, sign, f32::copysign)
    }
    #[inline(always)]
    fn pairs(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if i < 4 { a[2 * i] + a[2 * i + 1] } else { b[2 * i - 8] + b[2 * i - 7] })
    }
    #[inline(always)]
    unsafe fn look_up(self, window: *const f32, at: &[u32; LANES]) -> Self::V {
        // SAFETY: the caller's promise.
        at.map(|i| unsafe { *window.add(i as usize) })
    }
    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8, v: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u8; LANES]>().write_unaligned(v.map(|x| x as u8)) }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[i8; LANES]>().write_unaligned(v.map(|x| x as i8)) }
    }
}

/// Makes a function `name(level, ..)` out of a generic `fn(simd, ..)` marked `#[inline(always)]`: compiled once with
/// AVX2, FMA and F16C switched on, and once without.
macro_rules! kernel {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $generic:path) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name(level: $crate::cpu::simd::Level, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            if level.avx2() {
                #[target_feature(enable = "avx2,fma,f16c")]
                #[allow(clippy::too_many_arguments)]
                fn with_avx2($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: this function runs only where the three features are.
                    $generic(unsafe { $crate::cpu::avx2::Avx2::new() }, $($arg),*)
                }
                // SAFETY: a level says avx2 only after it found avx2, fma and f16c.
                return unsafe { with_avx2($($arg),*) };
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = level;
            $generic($crate::cpu::simd::Scalar, $($arg),*)
        }
    };
}
pub(crate) use kernel;

/// As [`kernel!`], for a generic function over sixteen lanes: compiled a third time with AVX-512.
macro_rules! wide_kernel {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $generic:path) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name(level: $crate::cpu::simd::Level, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
                #[allow(clippy::too_many_arguments)]
                fn with_avx512($($arg: $ty),*) {
                    // SAFETY: this function runs only where these features are.
                    $generic(unsafe { $crate::cpu::avx512::Avx512::new() }, $($arg),*);
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                #[allow(clippy::too_many_arguments)]
                fn with_avx2($($arg: $ty),*) {
                    // SAFETY: this function runs only where the three features are.
                    $generic(unsafe { $crate::cpu::avx2::Avx2::new() }, $($arg),*);
                }
                if level.avx512() {
                    // SAFETY: a level says avx512 only after it found these features.
                    return unsafe { with_avx512($($arg),*) };
                }
                if level.avx2() {
                    // SAFETY: a level says avx2 only after it found avx2, fma and f16c.
                    return unsafe { with_avx2($($arg),*) };
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = level;
            $generic($crate::cpu::simd::Scalar, $($arg),*);
        }
    };
}
pub(crate) use wide_kernel;
