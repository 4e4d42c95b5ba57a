//! Frames of the painting head.

use super::arguments::{Place, Value};
use super::{Metal, args, room};
use crate::backend::Result;
use crate::cuda::bytes_mut;
use crate::{Canvas, Target};

/// Must equal `Canvas` in paint.metal.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawCanvas {
    grid: [u32; 2],
    layers: u32,
    full: [u32; 2],
    size: [u32; 2],
    scale: f32,
}

// SAFETY: `repr(C)`, of numbers of four bytes.
unsafe impl Value for RawCanvas {}

impl Metal {
    /// Grids at the two places; sizes were checked.
    pub(super) fn paint_frame(
        &self,
        masks: Place<'_>,
        colours: Place<'_>,
        canvas: Canvas,
        target: Target<'_>,
    ) -> Result<()> {
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
        let args = args![masks, colours, raw, picture.place()];
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
