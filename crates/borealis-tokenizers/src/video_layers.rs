//! The layers of the video tokenizer over a [`Backend`]: pictures are `[places, channels]` matrices, convolutions are gathered patches times a matrix.

use borealis_kernels::{Activation, Backend, HostTensor, HostType, Patches, QuantFormat};
use borealis_weights::TensorSet;

use crate::Result;

/// Where tensors are read from and put.
pub(crate) struct Loader<'a, B: Backend> {
    pub(crate) backend: &'a B,
    pub(crate) tensors: &'a TensorSet,
}

impl<B: Backend> Loader<'_, B> {
    /// Host numbers to a matrix of the device.
    fn matrix(&self, rows: usize, columns: usize, values: &[f32]) -> Result<B::Weight> {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = HostTensor { dtype: HostType::F32, shape: &[rows, columns], data: &data, scales: None };
        Ok(self.backend.weight(&tensor, QuantFormat::F32)?)
    }

    fn buffer(&self, values: &[f32]) -> Result<B::Buffer> {
        let mut buffer = self.backend.alloc(values.len())?;
        self.backend.write(&mut buffer, 0, values)?;
        Ok(buffer)
    }

    /// `<name>.weight` `[outputs, inputs, kernel, kernel]` and `<name>.bias`.
    pub(crate) fn conv(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<Conv<B>> {
        let w = self.tensors.expect_f32(&format!("{name}.weight"), &[outputs, inputs, kernel, kernel])?;
        let bias = self.tensors.expect_f32(&format!("{name}.bias"), &[outputs])?;
        // [out, in, ky, kx] -> [out, ky, kx, in], the order of Backend::patches.
        let taps = kernel * kernel;
        let mut by_tap = vec![0.0; w.len()];
        for (row, from) in by_tap.chunks_exact_mut(inputs * taps).zip(w.chunks_exact(inputs * taps)) {
            for (i, kernel) in from.chunks_exact(taps).enumerate() {
                for (t, v) in kernel.iter().enumerate() {
                    row[t * inputs + i] = *v;
                }
            }
        }
        let weight = self.matrix(outputs, inputs * taps, &by_tap)?;
        Ok(Conv { weight, bias: self.buffer(&bias)?, inputs, kernel, stride })
    }

    /// A 1x1 convolution whose outputs are `parts` equal groups that are computed one at a time.
    pub(crate) fn split(&self, name: &str, inputs: usize, outputs: usize, parts: usize) -> Result<Split<B>> {
        let w = self.tensors.expect_f32(&format!("{name}.weight"), &[outputs, inputs, 1, 1])?;
        let bias = self.tensors.expect_f32(&format!("{name}.bias"), &[outputs])?;
        let biases = bias.chunks(outputs / parts).map(|b| self.buffer(b)).collect::<Result<_>>()?;
        Ok(Split { weight: self.matrix(outputs, inputs, &w)?, biases, width: outputs / parts })
    }

    pub(crate) fn norm(&self, name: &str, channels: usize, eps: f32) -> Result<Norm<B>> {
        let weight = self.tensors.expect_f32(&format!("{name}.weight"), &[channels])?;
        Ok(Norm { weight: self.buffer(&weight)?, eps })
    }

    pub(crate) fn block(&self, name: &str, channels: usize, eps: f32) -> Result<Block<B>> {
        Ok(Block {
            norm: self.norm(&format!("{name}.norm"), channels, eps)?,
            first: self.conv(&format!("{name}.conv1"), channels, channels, 3, 1)?,
            second: self.conv(&format!("{name}.conv2"), channels, channels, 3, 1)?,
            channels,
        })
    }

    pub(crate) fn time(&self, name: &str, channels: usize) -> Result<TimeMix<B>> {
        let w = self.tensors.expect_f32(&format!("{name}.conv.weight"), &[channels, 2 * channels, 1, 1])?;
        let bias = self.tensors.expect_f32(&format!("{name}.conv.bias"), &[channels])?;
        let half = |at: usize| -> Vec<f32> {
            w.chunks_exact(2 * channels).flat_map(|row| row[at..at + channels].iter().copied()).collect()
        };
        Ok(TimeMix {
            now: self.matrix(channels, channels, &half(0))?,
            before: self.matrix(channels, channels, &half(channels))?,
            bias: self.buffer(&bias)?,
            channels,
        })
    }
}

/// A convolution with padding `(kernel - 1) / 2`.
pub(crate) struct Conv<B: Backend> {
    weight: B::Weight,
    bias: B::Buffer,
    inputs: usize,
    kernel: usize,
    stride: usize,
}

impl<B: Backend> Conv<B> {
    /// `x`: `[h * w, inputs]` -> `out`: `[h * w / stride^2, outputs]` (added to it when `accumulate`); `columns` holds the patches.
    pub(crate) fn apply(
        &self,
        b: &B,
        x: &B::Buffer,
        (h, w): (usize, usize),
        columns: &mut B::Buffer,
        accumulate: bool,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let p = Patches {
            n: 1,
            h,
            w,
            c: self.inputs,
            kernel: self.kernel,
            stride: self.stride,
            pad: (self.kernel - 1) / 2,
        };
        let (oh, ow) = p.out();
        if self.kernel == 1 && self.stride == 1 {
            b.matmul(x, h * w, &self.weight, None, accumulate, out)?;
        } else {
            b.patches(x, p, columns)?;
            b.matmul(columns, oh * ow, &self.weight, None, accumulate, out)?;
        }
        Ok(b.add_bias(out, &self.bias, oh * ow)?)
    }

    /// Numbers of `columns` for an input of `h` x `w`.
    pub(crate) fn columns(&self, places: usize) -> usize {
        places / (self.stride * self.stride) * self.kernel * self.kernel * self.inputs
    }
}

/// A 1x1 convolution in parts.
pub(crate) struct Split<B: Backend> {
    weight: B::Weight,
    biases: Vec<B::Buffer>,
    width: usize,
}

impl<B: Backend> Split<B> {
    /// Part `part` of the outputs: `[rows, outputs / parts]`.
    pub(crate) fn apply(&self, b: &B, x: &B::Buffer, rows: usize, part: usize, out: &mut B::Buffer) -> Result<()> {
        let range = (part * self.width, (part + 1) * self.width);
        b.matmul(x, rows, &self.weight, Some(range), false, out)?;
        Ok(b.add_bias(out, &self.biases[part], rows)?)
    }
}

/// RMS norm over the channels of a place.
pub(crate) struct Norm<B: Backend> {
    weight: B::Buffer,
    eps: f32,
}

impl<B: Backend> Norm<B> {
    pub(crate) fn apply(&self, b: &B, x: &B::Buffer, rows: usize, out: &mut B::Buffer) -> Result<()> {
        Ok(b.rms_norm(x, &self.weight, self.eps, rows, out)?)
    }
}

/// `x + conv2(silu(conv1(silu(norm(x)))))`.
pub(crate) struct Block<B: Backend> {
    norm: Norm<B>,
    first: Conv<B>,
    second: Conv<B>,
    channels: usize,
}

impl<B: Backend> Block<B> {
    pub(crate) fn apply(&self, b: &B, x: &mut B::Buffer, (h, w): (usize, usize), s: &mut Scratch<B>) -> Result<()> {
        let len = h * w * self.channels;
        self.norm.apply(b, x, h * w, &mut s.a)?;
        b.activate(Activation::Silu, &mut s.a, len)?;
        self.first.apply(b, &s.a, (h, w), &mut s.columns, false, &mut s.b)?;
        b.activate(Activation::Silu, &mut s.b, len)?;
        self.second.apply(b, &s.b, (h, w), &mut s.columns, true, x)
    }
}

/// `x_t + conv([x_t, x_{t-1}])`.
pub(crate) struct TimeMix<B: Backend> {
    now: B::Weight,
    before: B::Weight,
    bias: B::Buffer,
    channels: usize,
}

impl<B: Backend> TimeMix<B> {
    /// Mixes `x` into `out`; afterwards `state.features` are those of `x`.
    pub(crate) fn apply(
        &self,
        b: &B,
        x: &mut B::Buffer,
        rows: usize,
        state: &mut Past<B>,
        out: &mut B::Buffer,
    ) -> Result<()> {
        b.matmul(x, rows, &self.now, None, false, out)?;
        let before = if state.is_first { &*x } else { &state.features };
        b.matmul(before, rows, &self.before, None, true, out)?;
        b.add_bias(out, &self.bias, rows)?;
        b.add(out, x, rows * self.channels)?;
        std::mem::swap(x, &mut state.features);
        state.is_first = false;
        Ok(())
    }
}

/// What a causal stream remembers: the features of the latent frame before.
pub(crate) struct Past<B: Backend> {
    features: B::Buffer,
    is_first: bool,
}

impl<B: Backend> Past<B> {
    pub(crate) fn new(b: &B, len: usize) -> Result<Self> {
        Ok(Self { features: b.alloc(len)?, is_first: true })
    }
}

/// Buffers that every block uses.
pub(crate) struct Scratch<B: Backend> {
    pub(crate) a: B::Buffer,
    pub(crate) b: B::Buffer,
    pub(crate) columns: B::Buffer,
}

impl<B: Backend> Scratch<B> {
    /// For activations of up to `len` and patches of up to `columns` numbers.
    pub(crate) fn new(b: &B, len: usize, columns: usize) -> Result<Self> {
        Ok(Self { a: b.alloc(len)?, b: b.alloc(len)?, columns: b.alloc(columns)? })
    }
}
