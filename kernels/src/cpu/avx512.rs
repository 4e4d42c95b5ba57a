//! The proof that this processor has the AVX-512 instructions that our kernels use.
#![cfg(target_arch = "x86_64")]

/// Proof that AVX-512 F, BW, VL and VNNI exist, and AVX2, FMA and F16C with them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The processor has avx512f, avx512bw, avx512vl, avx512vnni, avx2, fma and f16c.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}
