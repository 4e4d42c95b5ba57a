//! Norms, tables and frames: what several operations of the trait share.

use super::{Argument, Cuda, CudaBuffer, CudaWeight, args, by_format, bytes_mut, room};
use crate::backend::Result;
use crate::{Canvas, Target, check};

/// Vectors shorter than this are normalised by a warp, longer ones by a block.
const SHORT: usize = 512;

/// Must equal `Canvas` in paint.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawCanvas {
    grid: [u32; 2],
    layers: u32,
    full: [u32; 2],
    size: [u32; 2],
    scale: f32,
}

// SAFETY: `repr(C)`, of numbers.
unsafe impl Argument for RawCanvas {}

impl Cuda {
    /// RMS norm of vectors at address `x`; sizes were checked.
    pub(super) fn norm(&self, x: u64, weight: &CudaBuffer, eps: f32, rows: usize, out: u64) -> Result<()> {
        let (n, w, count) = (weight.len as u32, weight.memory.pointer(), rows as u32);
        let (name, blocks) =
            if weight.len < SHORT { ("rms_norm_warp", rows.div_ceil(8)) } else { ("rms_norm_block", rows) };
        // SAFETY: the parameters of `rms_norm_*`; the caller checked sizes.
        unsafe { self.device.launch(name, [blocks, 1, 1], 256, 0, args![x, w, n, eps, count, out]) }
    }

    /// Sums of a table's rows.
    pub(super) fn lookup(
        &self,
        op: &'static str,
        table: &CudaWeight,
        ids: &[u32],
        codes: usize,
        out: &mut CudaBuffer,
        add: bool,
    ) -> Result<()> {
        let table = table.matrix(op)?;
        check::ids(op, ids, table.out)?;
        let groups = ids.len() / codes;
        let len = groups * table.inputs;
        let out = out.get(op, 0, len)?;
        if len == 0 {
            return Ok(());
        }
        let mut state = self.state();
        let list = state.uploads.send(&self.device, ids.iter().copied())?;
        let args = args![table.raw(), list, codes as u32, groups as u32, out, u32::from(add)];
        // SAFETY: the parameters of `embed_*`; ids and sizes were checked.
        unsafe { self.each(by_format!(table.format, "embed_", ""), len, args) }
    }

    /// Grids at the two addresses; sizes were checked.
    pub(super) fn paint_frame(&self, masks: u64, colours: u64, canvas: Canvas, target: Target<'_>) -> Result<()> {
        let pair = |(h, w): (usize, usize)| [h as u32, w as u32];
        let raw = RawCanvas {
            grid: pair(canvas.grid),
            layers: canvas.layers as u32,
            full: pair(canvas.full),
            size: pair(canvas.size),
            scale: canvas.scale,
        };
        let pixels = canvas.size.0 * canvas.size.1;
        let mut state = self.state();
        let picture = room(&self.device, &mut state.picture, 3 * pixels * 4)?;
        let args = args![masks, colours, raw, picture.pointer()];
        match target {
            Target::Rgb(out) => {
                // SAFETY: the parameters of `paint_rgb`; the picture has room for three planes of f32.
                unsafe { self.each("paint_rgb", pixels, args)? };
                self.device.download(picture, 0, bytes_mut(out))
            }
            Target::I420(y, u, v) => {
                // SAFETY: the parameters of `paint_i420`; height and width are even, the picture has room.
                unsafe { self.each("paint_i420", pixels / 4, args)? };
                let at = [0, pixels, pixels + pixels / 4];
                [y, u, v].into_iter().zip(at).try_for_each(|(plane, at)| self.device.download(picture, at, plane))
            }
        }
    }
}
