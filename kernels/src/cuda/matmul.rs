//! Products of rows with matrices.

use super::weight::Matrix;
use super::{Argument, Cuda, CudaWeight, args, by_format};
use crate::backend::Result;

/// Most rows for which a kernel that reads each weight once for up to eight rows is used; above, tiles of 32 x 32 outputs. Both give the same bits.
const FEW: usize = 16;
/// Outputs of a block of the small kernels, for each output that its threads hold.
const BLOCK: usize = 8;
/// Rows and outputs of a tile.
pub(super) const TILE: usize = 32;

/// How one operand or result lies. Must equal `Layout` in matmul.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Numbers from one row to the next.
    pub(super) row: u32,
    /// Numbers from one matrix of a stack to the next.
    pub(super) stack: u32,
}

// SAFETY: `repr(C)`, of numbers.
unsafe impl Argument for Layout {}

/// A product of `rows` rows at address `x` with outputs `from ..` of each of `stack` matrices.
pub(super) struct Product {
    pub(super) from: usize,
    pub(super) outputs: usize,
    pub(super) stack: usize,
    pub(super) rows: usize,
    pub(super) x: (u64, Layout),
    pub(super) out: (u64, Layout),
    pub(super) accumulate: bool,
}

impl Cuda {
    /// # Safety
    /// Both addresses have room for what the product says, and `w` for its outputs.
    pub(super) unsafe fn product(&self, w: &CudaWeight, p: &Product) -> Result<()> {
        let raw: Matrix = w.raw();
        let (from, outputs, per_stack, rows) = (p.from as u32, p.outputs as u32, w.out as u32, p.rows as u32);
        let ((x, x_layout), (out, out_layout), add) = (p.x, p.out, u32::from(p.accumulate));
        let args = args![raw, from, outputs, per_stack, x, x_layout, rows, out, out_layout, add];
        if p.rows > FEW {
            let grid = [p.outputs.div_ceil(TILE), p.rows.div_ceil(TILE), p.stack];
            // SAFETY: the parameters of `matmul_*_tile` in matmul.cuh; sizes are the caller's promise.
            return unsafe { self.device.launch(by_format!(w.format, "matmul_", "_tile"), grid, 256, 0, args) };
        }
        let (name, some, each) = match p.rows {
            0 | 1 => (by_format!(w.format, "matmul_", "_1"), 1, 1),
            2 => (by_format!(w.format, "matmul_", "_2"), 2, 1),
            3 | 4 => (by_format!(w.format, "matmul_", "_4"), 4, 2),
            _ => (by_format!(w.format, "matmul_", "_8"), 8, 2),
        };
        let grid = [p.outputs.div_ceil(BLOCK * each), p.rows.div_ceil(some), p.stack];
        // SAFETY: the parameters of `matmul_*` in matmul.cuh; sizes are the caller's promise.
        unsafe { self.device.launch(name, grid, 128, 0, args) }
    }
}
