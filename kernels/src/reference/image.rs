//! Patches and the painting head in plain tensors.

use candle_core::{Device, Tensor};

use crate::backend::Result;
use crate::{Canvas, Patches, Target, check};

/// `[n, h, w, c]` -> `[n, oh, ow, kernel * kernel * c]`.
pub(super) fn patches(x: &Tensor, p: Patches) -> Result<Tensor> {
    let (oh, ow) = p.out();
    let x = x.pad_with_zeros(1, p.pad, p.pad)?.pad_with_zeros(2, p.pad, p.pad)?;
    let picks = |offset: usize, count: usize| {
        let at: Vec<u32> = (0..count).map(|i| (offset + i * p.stride) as u32).collect();
        Tensor::new(at.as_slice(), x.device())
    };
    let mut taps = Vec::with_capacity(p.kernel * p.kernel);
    for ky in 0..p.kernel {
        let lines = x.index_select(&picks(ky, oh)?, 1)?;
        for kx in 0..p.kernel {
            taps.push(lines.index_select(&picks(kx, ow)?, 2)?);
        }
    }
    Ok(Tensor::cat(&taps, 3)?)
}

/// The matrix `[size, from]` of bilinear upsampling.
fn upsampling(from: usize, full: usize, size: usize, device: &Device) -> Result<Tensor> {
    let mut m = vec![0f32; size * from];
    for i in 0..size {
        let tap = check::tap(i, from, full);
        m[i * from + tap.a] += 1.0 - tap.t;
        m[i * from + tap.b] += tap.t;
    }
    Ok(Tensor::from_vec(m, (size, from), device)?)
}

/// `[h, w, c]` -> `[c, H, W]`.
fn upsample(x: &Tensor, canvas: Canvas) -> Result<Tensor> {
    let (h, w, _) = x.dims3()?;
    let rows = upsampling(h, canvas.full.0, canvas.size.0, x.device())?;
    let columns = upsampling(w, canvas.full.1, canvas.size.1, x.device())?;
    let x = x.permute((2, 0, 1))?.contiguous()?;
    Ok(rows.broadcast_matmul(&x)?.broadcast_matmul(&columns.t()?)?)
}

/// Paints one frame; see [`crate::Backend::paint`].
pub(super) fn paint(masks: &Tensor, colours: &Tensor, canvas: Canvas, target: Target<'_>) -> Result<()> {
    let (h, w) = canvas.size;
    let logits = (upsample(masks, canvas)? * f64::from(canvas.scale))?;
    let weights = candle_nn::ops::softmax(&logits, 0)?; // [K, H, W]
    let colours = upsample(colours, canvas)?.reshape((canvas.layers, 3, h, w))?;
    let rgb = colours.broadcast_mul(&weights.unsqueeze(1)?)?.sum(0)?; // [3, H, W]
    let rgb = (rgb + 0.5)?.clamp(0f32, 1f32)?;
    let values = rgb.flatten_all()?.to_vec1::<f32>()?;
    match target {
        Target::Rgb(out) => out.copy_from_slice(&values),
        Target::I420(y, u, v) => to_i420(&values, h, w, y, u, v),
    }
    Ok(())
}

/// BT.709, limited range, from planar RGB in 0..1; chroma of the mean colour of 2x2 pixels.
fn to_i420(rgb: &[f32], h: usize, w: usize, y: &mut [u8], u: &mut [u8], v: &mut [u8]) {
    let at = |c: usize, row: usize, col: usize| rgb[(c * h + row) * w + col];
    let luma = |r: f32, g: f32, b: f32| 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let byte = |x: f32| (x + 0.5).floor().clamp(0.0, 255.0) as u8;
    for row in 0..h {
        for col in 0..w {
            y[row * w + col] = byte(16.0 + 219.0 * luma(at(0, row, col), at(1, row, col), at(2, row, col)));
        }
    }
    for row in 0..h / 2 {
        for col in 0..w / 2 {
            let mean = |c: usize| {
                (at(c, 2 * row, 2 * col)
                    + at(c, 2 * row, 2 * col + 1)
                    + at(c, 2 * row + 1, 2 * col)
                    + at(c, 2 * row + 1, 2 * col + 1))
                    * 0.25
            };
            let (r, g, b) = (mean(0), mean(1), mean(2));
            let luma = luma(r, g, b);
            u[row * (w / 2) + col] = byte(128.0 + 224.0 * (b - luma) / 1.8556);
            v[row * (w / 2) + col] = byte(128.0 + 224.0 * (r - luma) / 1.5748);
        }
    }
}
