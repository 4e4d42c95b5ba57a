//! Products of rows with matrices.

use super::weight::Matrix;
use super::{Argument, Cuda, CudaWeight, args, by_format};
use crate::QuantFormat;
use crate::backend::Result;

/// Most rows for which a kernel that reads each weight once for up to eight (sixteen) rows is used; above, tiles. Both give the same bits.
const FEW: usize = 16;
/// Outputs of a block of the small kernels in f32, for each output that its threads hold.
const BLOCK: usize = 8;
/// Rows of a tile.
pub(super) const TILE: usize = 32;
/// Outputs of a block of the small kernels on tensor cores: those of one instruction.
pub(super) const OUTPUTS: usize = 16;

/// Whether products of these weights run on tensor cores (tensor.cuh); f32 runs on plain multiply-adds (matmul.cuh).
pub(super) fn on_tensor_cores(format: QuantFormat) -> bool {
    format != QuantFormat::F32
}

/// Outputs of a tile.
pub(super) fn tile_outputs(format: QuantFormat) -> usize {
    if on_tensor_cores(format) { 64 } else { 32 }
}

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
            let grid = [p.outputs.div_ceil(tile_outputs(w.format)), p.rows.div_ceil(TILE), p.stack];
            // SAFETY: the parameters of `matmul_*_tile`; sizes are the caller's promise.
            return unsafe { self.device.launch(by_format!(w.format, "matmul_", "_tile"), grid, 256, 0, args) };
        }
        if on_tensor_cores(w.format) {
            let (name, some) = match p.rows {
                ..=8 => (by_format!(w.format, "matmul_", "_8"), 8),
                _ => (by_format!(w.format, "matmul_", "_16"), 16),
            };
            let grid = [p.outputs.div_ceil(OUTPUTS), p.rows.div_ceil(some), p.stack];
            // SAFETY: the parameters of `matmul_*` in tensor.cuh; sizes are the caller's promise.
            return unsafe { self.device.launch(name, grid, 256, 0, args) };
        }
        let (name, some, each) = match p.rows {
            0 | 1 => ("matmul_f32_1", 1, 1),
            2 => ("matmul_f32_2", 2, 1),
            3 | 4 => ("matmul_f32_4", 4, 2),
            _ => ("matmul_f32_8", 8, 2),
        };
        let grid = [p.outputs.div_ceil(BLOCK * each), p.rows.div_ceil(some), p.stack];
        // SAFETY: the parameters of `matmul_*` in matmul.cuh; sizes are the caller's promise.
        unsafe { self.device.launch(name, grid, 128, 0, args) }
    }
}
