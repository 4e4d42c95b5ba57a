//! From canonical tensors to weights on a device.

use std::sync::Arc;

use borealis_kernels::{Backend, HostTensor, HostType, QuantFormat};
use borealis_weights::{Stack, Tensor, TensorSet, WeightsError};

use crate::error::Result;
use crate::hot::Copies;
use crate::ranks::Placement;

/// Reads tensors of one checkpoint into one backend.
pub(crate) struct Loader<'a, B: Backend> {
    pub backend: &'a B,
    pub tensors: &'a TensorSet,
    pub format: QuantFormat,
    /// Which rank's experts are wanted; `None`: all.
    pub share: Option<(&'a Placement, usize)>,
    /// Experts of each layer that may lie on the device; more are copied on demand.
    pub places: usize,
    /// Counts such copies.
    pub copies: Arc<Copies>,
}

impl<B: Backend> Loader<'_, B> {
    /// A norm or a bias: f32 whatever the format.
    pub fn vector(&self, name: &str, len: usize) -> Result<B::Buffer> {
        self.buffer(&self.values(name, &[len])?)
    }

    /// A small tensor as host numbers.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.tensors.expect(name, shape)?;
        let values = self.tensors.to_f32(name)?;
        self.tensors.release(name)?;
        Ok(values)
    }

    /// A matrix `[out, in]` or a stack `[E, out, in]` in the loader's format.
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Result<B::Weight> {
        self.kept(name, shape, self.format)
    }

    /// A matrix in f32: routers and small tables, where rounding changes choices.
    pub fn exact(&self, name: &str, shape: &[usize]) -> Result<B::Weight> {
        self.kept(name, shape, QuantFormat::F32)
    }

    /// On the device in a format; the host keeps nothing of it.
    fn kept(&self, name: &str, shape: &[usize], format: QuantFormat) -> Result<B::Weight> {
        let weight = self.backend.weight(&self.finite(name, shape)?.host(), format)?;
        self.tensors.release(name)?;
        Ok(weight)
    }

    /// The experts of layer `layer` that this rank holds, of a stack `[E, out, in]`: a handle, nothing is read.
    pub fn experts(&self, layer: usize, name: &str, shape: [usize; 3]) -> Result<Source> {
        let held = self.share.map_or_else(|| (0..shape[0]).collect(), |(placement, rank)| placement.held(layer, rank));
        Ok(Source { name: name.to_string(), stack: self.tensors.stack(name, shape)?, held, shape })
    }

    /// A tensor of this shape without NaN and infinities.
    fn finite(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>> {
        checked(name, self.tensors.expect(name, shape)?)
    }

    /// Two matrices of the same shape, one above the other, so that one multiplication computes both.
    pub fn stacked(&self, first: &str, second: &str, shape: [usize; 2]) -> Result<B::Weight> {
        let (a, b) = (self.finite(first, &shape)?, self.finite(second, &shape)?);
        let shape = [2 * shape[0], shape[1]];
        let same = a.dtype == b.dtype && a.scales.map(|s| s.1) == b.scales.map(|s| s.1);
        if same {
            let scales = a.scales.zip(b.scales).map(|((x, group), (y, _))| ([x, y].concat(), group));
            let scales = scales.as_ref().map(|(bytes, group)| (bytes.as_slice(), *group));
            let tensor = HostTensor { dtype: a.dtype, shape: &shape, data: &[&*a.data, &*b.data].concat(), scales };
            let weight = self.backend.weight(&tensor, self.format)?;
            self.tensors.release(first)?;
            self.tensors.release(second)?;
            return Ok(weight);
        }
        self.made(&[self.tensors.to_f32(first)?, self.tensors.to_f32(second)?].concat(), &shape)
    }

    /// A matrix or a stack of these numbers, in the loader's format.
    pub fn made(&self, values: &[f32], shape: &[usize]) -> Result<B::Weight> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = HostTensor { dtype: HostType::F32, shape, data: &bytes, scales: None };
        Ok(self.backend.weight(&tensor, self.format)?)
    }

    /// The bias beside a matrix, when there shall be one.
    pub fn bias(&self, wanted: bool, name: &str, len: usize) -> Result<Option<B::Buffer>> {
        wanted.then(|| self.vector(&format!("{name}.bias"), len)).transpose()
    }

    /// Two biases, one behind the other.
    pub fn stacked_bias(&self, wanted: bool, first: &str, second: &str, len: usize) -> Result<Option<B::Buffer>> {
        if !wanted {
            return Ok(None);
        }
        let value = |name: &str| self.values(&format!("{name}.bias"), &[len]);
        self.buffer(&[value(first)?, value(second)?].concat()).map(Some)
    }

    /// These numbers on the device.
    pub fn buffer(&self, values: &[f32]) -> Result<B::Buffer> {
        let mut buffer = self.backend.alloc(values.len())?;
        self.backend.write(&mut buffer, 0, values)?;
        Ok(buffer)
    }
}

/// Refuses NaN and infinities: one of them would make every logit NaN.
fn checked<'t>(name: &str, tensor: Tensor<'t>) -> Result<Tensor<'t>> {
    let halves = |bytes: &[u8], exponent: u16| {
        bytes.as_chunks::<2>().0.iter().all(|b| u16::from_le_bytes(*b) & exponent != exponent)
    };
    let finite = match tensor.dtype {
        HostType::F32 => tensor.data.as_chunks::<4>().0.iter().all(|b| f32::from_le_bytes(*b).is_finite()),
        HostType::F16 => halves(&tensor.data, 0x7C00),
        HostType::Bf16 => halves(&tensor.data, 0x7F80),
        HostType::I8 | HostType::I4 => tensor.scales.is_none_or(|(scales, _)| halves(scales, 0x7C00)),
    };
    if finite {
        return Ok(tensor);
    }
    let problem = "has a value that is not finite: the checkpoint is damaged or its training failed".into();
    Err(WeightsError::Tensor { file: "model.safetensors".into(), tensor: name.into(), problem }.into())
}

/// The experts of one layer on one rank, as they lie in the checkpoint's files: read one at a time, when they are wanted.
pub(crate) struct Source {
    name: String,
    stack: Stack,
    /// Which experts of the stack the rank holds.
    held: Vec<usize>,
    shape: [usize; 3],
}

impl Source {
    /// Experts that the rank holds.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// A stack for `places` of them.
    pub fn room<B: Backend>(&self, b: &B, format: QuantFormat, places: usize) -> Result<B::Weight> {
        Ok(b.stack([places, self.shape[1], self.shape[2]], format)?)
    }

    /// All of them on the device; beside it there is never more than one in memory.
    pub fn load<B: Backend>(&self, b: &B, format: QuantFormat) -> Result<B::Weight> {
        let mut weight = self.room(b, format, self.len())?;
        (0..self.len()).try_for_each(|i| self.copy(b, i, &mut weight, i))?;
        Ok(weight)
    }

    /// Copies the rank's expert `i` to `place` of a stack on the device.
    pub fn copy<B: Backend>(&self, b: &B, i: usize, weight: &mut B::Weight, place: usize) -> Result<()> {
        let expert = self.held[i];
        b.replace(weight, place, &checked(&self.name, self.stack.matrix(expert))?.host())?;
        self.stack.release(expert);
        Ok(())
    }
}
