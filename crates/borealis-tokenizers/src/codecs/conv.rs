//! Convolutions over time, whole or piece by piece.

use borealis_kernels::candle::{Device, Tensor};

use super::names::Names;
use crate::Result;

/// Output samples that are computed at once: bounds the memory of the unrolled input, whatever the length of the sound.
const TILE: usize = 1 << 12;

/// What a stream remembers between its pieces: a slot for every layer that looks back, in the order in which the layers run.
pub(super) struct Memory {
    slots: Option<Vec<Option<Tensor>>>,
    at: usize,
}

impl Memory {
    /// For a sound that is there as a whole.
    pub fn none() -> Self {
        Self { slots: None, at: 0 }
    }

    /// For a sound that arrives in pieces.
    pub fn stream() -> Self {
        Self { slots: Some(Vec::new()), at: 0 }
    }

    /// To the first layer again.
    pub fn rewind(&mut self) {
        self.at = 0;
    }

    /// The slot of the layer that runs now; `None` when the sound is there as a whole.
    pub fn slot(&mut self) -> Option<&mut Option<Tensor>> {
        let slots = self.slots.as_mut()?;
        if slots.len() == self.at {
            slots.push(None);
        }
        self.at += 1;
        slots.get_mut(self.at - 1)
    }
}

/// What stands beyond the ends of a sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pad {
    /// Silence.
    Constant,
    /// The sound in a mirror; its end sample is not repeated.
    Reflect,
    /// The end sample.
    Replicate,
}

/// A convolution without padding.
#[derive(Debug)]
pub(super) struct Conv {
    /// `[out, in, kernel]`.
    weight: Tensor,
    /// `[1, out, 1]`.
    bias: Option<Tensor>,
    pub stride: usize,
    dilation: usize,
    /// Samples that one output sees.
    pub span: usize,
}

/// Kernel, stride and dilation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
}

impl Shape {
    /// A kernel that moves by single samples.
    pub fn kernel(kernel: usize) -> Self {
        Self { kernel, stride: 1, dilation: 1 }
    }
}

impl Conv {
    /// `weight` and, if `bias`, `bias` under `names`.
    pub fn load(names: &Names<'_>, from: usize, to: usize, shape: Shape, bias: bool) -> Result<Self> {
        let weight = names.weight([to, from, shape.kernel])?;
        let bias = bias.then(|| names.tensor("bias", &[to])).transpose()?;
        let bias = bias.map(|b| b.reshape((1, to, 1))).transpose()?;
        let span = (shape.kernel - 1) * shape.dilation + 1;
        Ok(Self { weight, bias, stride: shape.stride, dilation: shape.dilation, span })
    }

    /// `[1, in, n]` -> `[1, out, (n - span) / stride + 1]`; n is at least the span.
    pub fn run(&self, x: &Tensor) -> Result<Tensor> {
        let outputs = (x.dim(2)? - self.span) / self.stride + 1;
        let mut tiles = Vec::with_capacity(outputs.div_ceil(TILE));
        for start in (0..outputs).step_by(TILE) {
            let n = TILE.min(outputs - start);
            let piece = x.narrow(2, start * self.stride, (n - 1) * self.stride + self.span)?;
            tiles.push(piece.conv1d(&self.weight, 0, self.stride, self.dilation, 1)?);
        }
        let y = if tiles.len() == 1 { tiles.swap_remove(0) } else { Tensor::cat(&tiles, 2)? };
        match &self.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }
}

/// A convolution that pads its input so that n samples give `ceil(n / stride)`.
#[derive(Debug)]
pub(super) struct PaddedConv {
    pub conv: Conv,
    pub pad: Pad,
    pub causal: bool,
    pub norm: Option<Norm>,
}

impl PaddedConv {
    /// `[1, in, n]` -> `[1, out, ceil(n / stride)]`. In a stream: causal, stride 1.
    pub fn run(&self, x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
        let total = self.conv.span.saturating_sub(self.conv.stride);
        let padded = match memory.slot() {
            None => {
                let n = x.dim(2)?;
                let extra = n.next_multiple_of(self.conv.stride) - n;
                let right = if self.causal { 0 } else { total / 2 };
                pad(x, total - right, right + extra, self.pad)?
            }
            Some(_) if total == 0 => x.clone(),
            Some(slot) => {
                let joined = match slot.take() {
                    Some(before) => Tensor::cat(&[&before, x], 2)?,
                    None => pad(x, total, 0, self.pad)?,
                };
                *slot = Some(joined.narrow(2, joined.dim(2)? - total, total)?.contiguous()?);
                joined
            }
        };
        let y = self.conv.run(&padded)?;
        match &self.norm {
            Some(norm) => norm.run(&y),
            None => Ok(y),
        }
    }
}

/// Adds `left` and `right` samples. A sound that is too short for its mirror image is filled up with silence first.
pub(super) fn pad(x: &Tensor, left: usize, right: usize, mode: Pad) -> Result<Tensor> {
    if left == 0 && right == 0 {
        return Ok(x.clone());
    }
    if mode == Pad::Constant {
        return Ok(x.pad_with_zeros(2, left, right)?);
    }
    let (_, channels, n) = x.dims3()?;
    let values = x.flatten_all()?.to_vec1::<f32>()?;
    let filled = if n <= left.max(right) { left.max(right) + 1 } else { n };
    let source = |at: usize| match mode {
        _ if (left..left + n).contains(&at) => Some(at - left),
        Pad::Constant => None,
        Pad::Replicate if at < left => Some(0),
        Pad::Replicate => Some(n - 1),
        Pad::Reflect if at < left => Some(left - at).filter(|&i| i < n),
        Pad::Reflect if at - left < filled => None,
        Pad::Reflect => Some(2 * (filled - 1) - (at - left)).filter(|&i| i < n),
    };
    let length = left + n + right;
    let mut out = Vec::with_capacity(channels * length);
    for channel in values.chunks_exact(n) {
        out.extend((0..left).map(|at| source(at).map_or(0.0, |i| channel[i])));
        out.extend_from_slice(channel);
        out.extend((left + n..length).map(|at| source(at).map_or(0.0, |i| channel[i])));
    }
    Ok(Tensor::from_vec(out, (1, channels, length), &Device::Cpu)?)
}

/// Normalisation over all channels and the whole time, then a scale and an offset for each channel (group norm with one group).
#[derive(Debug)]
pub(super) struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    /// Added to the variance; the value of PyTorch.
    const EPSILON: f64 = 1e-5;

    /// `weight` and `bias` under `names`.
    pub fn load(names: &Names<'_>, channels: usize) -> Result<Self> {
        Ok(Self { weight: names.numbers("weight", &[channels])?, bias: names.numbers("bias", &[channels])? })
    }

    /// `[1, channels, n]`.
    pub fn run(&self, x: &Tensor) -> Result<Tensor> {
        let mut values = x.flatten_all()?.to_vec1::<f32>()?;
        let count = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count;
        let factor = 1.0 / (variance + Self::EPSILON).sqrt();
        for ((channel, weight), bias) in values.chunks_exact_mut(x.dim(2)?).zip(&self.weight).zip(&self.bias) {
            let scale = factor * f64::from(*weight);
            channel.iter_mut().for_each(|v| *v = ((f64::from(*v) - mean) * scale) as f32 + bias);
        }
        Ok(Tensor::from_vec(values, x.dims(), &Device::Cpu)?)
    }
}
