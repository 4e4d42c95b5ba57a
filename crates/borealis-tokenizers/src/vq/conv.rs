//! Convolutions over space and time as gathered patches times a matrix, strip by strip so that the patches stay small.

use borealis_kernels::candle::{Device, Tensor};
use rayon::prelude::*;

use crate::vq::map::FeatureMap;
use crate::vq::source::Source;
use crate::{Result, TokenizerError};

/// Numbers of the gathered patches of a strip: they stay in the last-level cache.
const STRIP: usize = 4 << 20;

/// (time, down, across).
pub(crate) type Three = (usize, usize, usize);

/// How a convolution reads its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub kernel: Three,
    pub stride: Three,
    /// Zeros before the first frame, and on each of the four sides: top, bottom, left, right.
    pub front: usize,
    pub sides: [usize; 4],
    /// The input is read as if every place and frame were repeated so many times (nearest neighbour).
    pub enlarge: Three,
}

impl Shape {
    /// A square kernel over each frame with zeros around it; keeps the size.
    pub fn same(kernel: usize) -> Self {
        let sides = [(kernel - 1) / 2; 4];
        Self { kernel: (1, kernel, kernel), stride: (1, 1, 1), front: 0, sides, enlarge: (1, 1, 1) }
    }

    /// 3x3 with zeros below and at the right: half the size.
    pub fn down() -> Self {
        Self { stride: (1, 2, 2), sides: [0, 1, 0, 1], ..Self::same(3) }
    }

    /// 3x3 after every place is repeated: twice the size.
    pub fn up() -> Self {
        Self { enlarge: (1, 2, 2), ..Self::same(3) }
    }

    /// Patches that do not overlap.
    pub fn patches(side: usize) -> Self {
        Self { kernel: (1, side, side), stride: (1, side, side), sides: [0; 4], ..Self::same(1) }
    }

    /// Causal in time (two frames of zeros before the first), size kept in space.
    pub fn causal(kernel: Three) -> Self {
        let side = |k: usize| [(k - 1).div_ceil(2), (k - 1) / 2];
        let ([top, bottom], [left, right]) = (side(kernel.1), side(kernel.2));
        Self { kernel, stride: (1, 1, 1), front: 2, sides: [top, bottom, left, right], enlarge: (1, 1, 1) }
    }

    fn taps(&self) -> usize {
        self.kernel.0 * self.kernel.1 * self.kernel.2
    }

    /// (frames, height, width) of the result; `None` when the input is smaller than the kernel.
    fn out(&self, x: &FeatureMap) -> Option<Three> {
        let [top, bottom, left, right] = self.sides;
        let len = |size: usize, kernel: usize, stride: usize| Some(size.checked_sub(kernel)? / stride + 1);
        Some((
            len(x.frames * self.enlarge.0 + self.front, self.kernel.0, self.stride.0)?,
            len(x.height * self.enlarge.1 + top + bottom, self.kernel.1, self.stride.1)?,
            len(x.width * self.enlarge.2 + left + right, self.kernel.2, self.stride.2)?,
        ))
    }
}

/// A convolution with bias.
#[derive(Debug)]
pub(crate) struct Conv {
    /// `[taps * inputs, outputs]`, a tap's inputs together.
    weight: Tensor,
    bias: Option<Vec<f32>>,
    inputs: usize,
    outputs: usize,
    shape: Shape,
}

impl Conv {
    /// `<name>.weight` `[outputs, inputs, (time,) down, across]` and `<name>.bias`.
    pub fn load(s: &Source<'_>, name: &str, inputs: usize, outputs: usize, shape: Shape) -> Result<Self> {
        let (t, h, w) = shape.kernel;
        let flat = shape.front == 0;
        let full: Vec<usize> = if flat { vec![outputs, inputs, h, w] } else { vec![outputs, inputs, t, h, w] };
        let weight = s.get(&format!("{name}.weight"), &full)?;
        Self::new(weight, Some(s.get(&format!("{name}.bias"), &[outputs])?), inputs, outputs, shape)
    }

    /// A linear layer over the channels: `<name>.weight` `[outputs, inputs]`, with `<name>.bias` if `bias`.
    pub fn linear(s: &Source<'_>, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Self> {
        let weight = s.get(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = bias.then(|| s.get(&format!("{name}.bias"), &[outputs])).transpose()?;
        Self::new(weight, bias, inputs, outputs, Shape::same(1))
    }

    fn new(weight: Vec<f32>, bias: Option<Vec<f32>>, inputs: usize, outputs: usize, shape: Shape) -> Result<Self> {
        // [out, in, taps] -> [taps, in, out]
        let weight = Tensor::from_vec(weight, (outputs, inputs, shape.taps()), &Device::Cpu)
            .and_then(|w| w.permute((2, 1, 0))?.reshape((shape.taps() * inputs, outputs)))?;
        Ok(Self { weight, bias, inputs, outputs, shape })
    }

    /// The convolution of `x`, which must have its number of channels.
    pub fn apply(&self, x: &FeatureMap) -> Result<FeatureMap> {
        if x.channels != self.inputs {
            return Err(TokenizerError::length("channels of a picture", x.channels, self.inputs));
        }
        let small = "must be larger than the kernel of the tokenizer's first layer";
        let (frames, height, width) =
            self.shape.out(x).ok_or_else(|| TokenizerError::size("picture", x.width, x.height, small))?;
        let depth = self.shape.taps() * self.inputs;
        let lines = frames * height;
        let step = (STRIP / (depth * width).max(1)).max(1);
        let mut out = Vec::with_capacity(lines * width * self.outputs);
        for first in (0..lines).step_by(step) {
            let count = step.min(lines - first);
            let patches = self.gather(x, first, count, (height, width));
            self.product(patches, count * width, &mut out)?;
        }
        if let Some(bias) = &self.bias {
            out.par_chunks_mut(1024 * self.outputs).for_each(|piece| {
                for place in piece.chunks_exact_mut(self.outputs) {
                    place.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
                }
            });
        }
        Ok(FeatureMap { frames, height, width, channels: self.outputs, data: out })
    }

    fn product(&self, patches: Vec<f32>, rows: usize, out: &mut Vec<f32>) -> Result<()> {
        let depth = self.shape.taps() * self.inputs;
        let product = Tensor::from_vec(patches, (rows, depth), &Device::Cpu)?.matmul(&self.weight)?;
        out.append(&mut product.flatten_all()?.to_vec1()?);
        Ok(())
    }

    /// Patches of `count` output lines from line `first` (lines of all frames are numbered through): `[count * width, taps * inputs]`.
    fn gather(&self, x: &FeatureMap, first: usize, count: usize, (height, width): (usize, usize)) -> Vec<f32> {
        let depth = self.shape.taps() * self.inputs;
        let from = first * width * self.inputs;
        if self.shape.taps() == 1 && self.shape.enlarge == (1, 1, 1) {
            return x.data[from..from + count * width * self.inputs].to_vec();
        }
        let mut patches = vec![0.0; count * width * depth];
        patches.par_chunks_mut(width * depth).enumerate().for_each(|(i, line)| {
            let (t, y) = ((first + i) / height, (first + i) % height);
            self.gather_line(x, t, y, line);
        });
        patches
    }

    /// Patches of output line `y` of frame `t`.
    fn gather_line(&self, x: &FeatureMap, t: usize, y: usize, line: &mut [f32]) {
        let Shape { kernel, stride, front, sides: [top, _, left, _], enlarge, .. } = self.shape;
        let (c, depth) = (self.inputs, self.shape.taps() * self.inputs);
        // Where a tap reads, if it is not in the zeros around the input.
        let source = |at: usize, tap: usize, stride: usize, pad: usize, enlarge: usize, size: usize| {
            (at * stride + tap).checked_sub(pad).map(|p| p / enlarge).filter(|p| *p < size)
        };
        for kt in 0..kernel.0 {
            let Some(st) = source(t, kt, stride.0, front, enlarge.0, x.frames) else { continue };
            for ky in 0..kernel.1 {
                let Some(sy) = source(y, ky, stride.1, top, enlarge.1, x.height) else { continue };
                let row = &x.data[(st * x.height + sy) * x.width * c..][..x.width * c];
                let tap = (kt * kernel.1 + ky) * kernel.2;
                for (at, patch) in line.chunks_exact_mut(depth).enumerate() {
                    for kx in 0..kernel.2 {
                        if let Some(sx) = source(at, kx, stride.2, left, enlarge.2, x.width) {
                            patch[(tap + kx) * c..][..c].copy_from_slice(&row[sx * c..][..c]);
                        }
                    }
                }
            }
        }
    }
}
