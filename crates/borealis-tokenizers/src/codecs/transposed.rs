//! Transposed convolutions over time, whole or piece by piece.

use borealis_kernels::candle::{Device, Tensor};

use super::conv::{Memory, Norm};
use super::names::Names;
use crate::Result;

/// Input samples that are computed at once.
const TILE: usize = 1 << 10;

/// A transposed convolution whose kernel is two strides long, as in all of these codecs: neighbours overlap by one stride.
#[derive(Debug)]
pub(super) struct Transposed {
    /// `[in, out / groups, 2 * stride]`.
    weight: Tensor,
    /// `[1, out, 1]`.
    bias: Option<Tensor>,
    stride: usize,
    groups: usize,
    /// Samples that are cut off at the start and at the end.
    pub cut: (usize, usize),
    pub norm: Option<Norm>,
}

impl Transposed {
    /// `weight` and, if `bias`, `bias` under `names`.
    pub fn load(
        names: &Names<'_>,
        [from, to]: [usize; 2],
        stride: usize,
        groups: usize,
        bias: bool,
        cut: (usize, usize),
    ) -> Result<Self> {
        let weight = names.weight([from, to / groups, 2 * stride])?;
        let bias = bias.then(|| names.tensor("bias", &[to])).transpose()?;
        let bias = bias.map(|b| b.reshape((1, to, 1))).transpose()?;
        Ok(Self { weight, bias, stride, groups, cut, norm: None })
    }

    /// `[1, in, n]` -> `[1, out, (n + 1) * stride - cut]`. In a stream: n * stride samples, nothing is cut at the start and one stride at the end.
    pub fn run(&self, x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
        let Some(slot) = memory.slot() else {
            let (done, tail) = self.overlap(x, None)?;
            let mut y = self.add_bias(&Tensor::cat(&[&done, &tail], 2)?)?;
            if let Some(norm) = &self.norm {
                y = norm.run(&y)?;
            }
            return Ok(y.narrow(2, self.cut.0, y.dim(2)?.saturating_sub(self.cut.0 + self.cut.1))?.contiguous()?);
        };
        let (done, tail) = self.overlap(x, slot.take())?;
        *slot = Some(tail);
        self.add_bias(&done)
    }

    fn add_bias(&self, y: &Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y.clone()),
        }
    }

    /// The `n * stride` samples that nothing will be added to, and the last stride of samples. `before` is that of the samples before.
    fn overlap(&self, x: &Tensor, before: Option<Tensor>) -> Result<(Tensor, Tensor)> {
        let n = x.dim(2)?;
        let mut tail = before;
        let mut parts = Vec::with_capacity(2 * n.div_ceil(TILE));
        for start in (0..n).step_by(TILE) {
            let length = TILE.min(n - start);
            let y = self.spread(&x.narrow(2, start, length)?)?;
            let first = y.narrow(2, 0, self.stride)?;
            parts.push(match tail.take() {
                Some(tail) => (first + tail)?,
                None => first,
            });
            if length > 1 {
                parts.push(y.narrow(2, self.stride, (length - 1) * self.stride)?);
            }
            tail = Some(y.narrow(2, length * self.stride, self.stride)?.contiguous()?);
        }
        let done = Tensor::cat(&parts, 2)?;
        let tail = match tail {
            Some(tail) => tail,
            None => done.narrow(2, 0, 0)?,
        };
        Ok((done, tail))
    }

    /// `[1, in, n]` -> `[1, out, (n + 1) * stride]`.
    fn spread(&self, x: &Tensor) -> Result<Tensor> {
        if self.groups == 1 {
            return Ok(x.contiguous()?.conv_transpose1d(&self.weight, 0, 0, self.stride, 1, 1)?);
        }
        // candle would run a convolution for each group; there are as many groups as channels.
        let (from, to, kernel) = self.weight.dims3()?;
        let n = x.dim(2)?;
        let length = (n + 1) * self.stride;
        let values = x.flatten_all()?.to_vec1::<f32>()?;
        let weight = self.weight.flatten_all()?.to_vec1::<f32>()?;
        let mut out = vec![0.0f32; self.groups * to * length];
        for (channel, values) in values.chunks_exact(n).enumerate() {
            let group = channel / (from / self.groups);
            for o in 0..to {
                let kernel = &weight[(channel * to + o) * kernel..][..kernel];
                let out = &mut out[(group * to + o) * length..][..length];
                for (t, value) in values.iter().enumerate() {
                    out[t * self.stride..].iter_mut().zip(kernel).for_each(|(y, w)| *y += value * w);
                }
            }
        }
        Ok(Tensor::from_vec(out, (1, self.groups * to, length), &Device::Cpu)?)
    }
}
