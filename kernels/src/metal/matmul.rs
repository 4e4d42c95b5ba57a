//! Products of rows with matrices.

use super::arguments::{Place, Value};
use super::{Metal, MetalWeight, args, by_format};
use crate::backend::Result;

/// Groups of 16 lanes of a threadgroup. Must equal `GROUPS` in matmul.metal.
const GROUPS: usize = 8;
/// From so many rows on, threads hold more outputs: fewer reads for each product, fewer threads. All kernels give the same bits.
const MANY: usize = 32;

/// A product of `rows` rows with outputs `from .. from + outputs` of each of a stack of matrices of `per_stack` outputs. Must equal `Product` in matmul.metal.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) from: u32,
    pub(super) outputs: u32,
    pub(super) per_stack: u32,
    pub(super) rows: u32,
    pub(super) inputs: u32,
    pub(super) pitch: u32,
    /// Numbers from one row to the next, and from one matrix's part to the next.
    pub(super) x: [u32; 2],
    pub(super) out: [u32; 2],
    pub(super) add: u32,
}

// SAFETY: `repr(C)`, of numbers of four bytes.
unsafe impl Value for Sizes {}

impl Metal {
    /// # Safety
    /// Both places have room for what the sizes say, and `w` for its outputs.
    pub(super) unsafe fn product(
        &self,
        w: &MetalWeight,
        stack: usize,
        s: Sizes,
        x: Place<'_>,
        out: Place<'_>,
    ) -> Result<()> {
        let (rows, outputs) = (s.rows as usize, s.outputs as usize);
        let (name, some, each) = match rows {
            0 | 1 => (by_format!(w.format, "matmul_", "_1"), 1, 1),
            2 => (by_format!(w.format, "matmul_", "_2"), 2, 1),
            3 | 4 => (by_format!(w.format, "matmul_", "_4"), 4, 2),
            5..MANY => (by_format!(w.format, "matmul_", "_8"), 8, 2),
            _ => (by_format!(w.format, "matmul_", "_many"), 8, 4),
        };
        let grid = [outputs.div_ceil(GROUPS * each), rows.div_ceil(some), stack];
        let (data, scales) = w.places();
        // SAFETY: the parameters of `matmul_*`; sizes are the caller's promise.
        unsafe { self.device.launch(name, grid, 128, 0, args![data, scales, s, x, out]) }
    }
}
