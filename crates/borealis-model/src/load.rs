//! From canonical tensors to weights on a device.

use std::borrow::Cow;

use borealis_kernels::{Backend, HostTensor, HostType, QuantFormat};
use borealis_weights::{Tensor, TensorSet, WeightsError};

use crate::error::Result;
use crate::ranks::Placement;

/// Reads tensors of one checkpoint into one backend.
pub(crate) struct Loader<'a, B: Backend> {
    pub backend: &'a B,
    pub tensors: &'a TensorSet,
    pub format: QuantFormat,
    /// Which rank's experts are wanted; `None`: all.
    pub share: Option<(&'a Placement, usize)>,
}

impl<B: Backend> Loader<'_, B> {
    /// A norm or a bias: f32 whatever the format.
    pub fn vector(&self, name: &str, len: usize) -> Result<B::Buffer> {
        self.buffer(&self.values(name, &[len])?)
    }

    /// A small tensor as host numbers.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.tensors.expect(name, shape)?;
        Ok(self.tensors.to_f32(name)?)
    }

    /// A matrix `[out, in]` or a stack `[E, out, in]` in the loader's format.
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Result<B::Weight> {
        Ok(self.backend.weight(&self.finite(name, shape)?.host(), self.format)?)
    }

    /// A matrix in f32: routers and small tables, where rounding changes choices.
    pub fn exact(&self, name: &str, shape: &[usize]) -> Result<B::Weight> {
        Ok(self.backend.weight(&self.finite(name, shape)?.host(), QuantFormat::F32)?)
    }

    /// The experts of layer `layer` that this rank holds, of a stack `[E, out, in]`: only their bytes are read.
    pub fn experts(&self, layer: usize, name: &str, shape: [usize; 3]) -> Result<B::Weight> {
        let Some((placement, rank)) = self.share else { return self.matrix(name, &shape) };
        let held = placement.held(layer, rank);
        let dtype = self.tensors.stored().find(|t| t.0 == name).map(|t| t.1);
        let Some(dtype) = dtype else { return self.matrix(name, &shape) };
        let bits = match dtype {
            HostType::F32 => 32,
            HostType::F16 | HostType::Bf16 => 16,
            HostType::I8 => 8,
            // Two to a byte, in rows of an even length.
            HostType::I4 => 4,
        };
        let data = parts(self.tensors.pieces(name)?, shape[1] * shape[2] * bits / 8, &held);
        let scales = self.tensors.scales(name)?.map(|(bytes, group)| {
            let size = bytes.len() / shape[0].max(1);
            (parts([Cow::Borrowed(bytes)].into_iter(), size, &held), group)
        });
        let scales = scales.as_ref().map(|(bytes, group)| (bytes.as_slice(), *group));
        let shape = [held.len(), shape[1], shape[2]];
        let tensor = self.checked(name, Tensor { dtype, shape: &shape, data: data.into(), scales })?;
        Ok(self.backend.weight(&tensor.host(), self.format)?)
    }

    /// A tensor of this shape without NaN and infinities.
    fn finite(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>> {
        self.checked(name, self.tensors.expect(name, shape)?)
    }

    /// Refuses NaN and infinities: one of them would make every logit NaN.
    fn checked<'t>(&self, name: &str, tensor: Tensor<'t>) -> Result<Tensor<'t>> {
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

    /// Two matrices of the same shape, one above the other, so that one multiplication computes both.
    pub fn stacked(&self, first: &str, second: &str, shape: [usize; 2]) -> Result<B::Weight> {
        let (a, b) = (self.finite(first, &shape)?, self.finite(second, &shape)?);
        let shape = [2 * shape[0], shape[1]];
        let same = a.dtype == b.dtype && a.scales.map(|s| s.1) == b.scales.map(|s| s.1);
        if same {
            let scales = a.scales.zip(b.scales).map(|((x, group), (y, _))| ([x, y].concat(), group));
            let scales = scales.as_ref().map(|(bytes, group)| (bytes.as_slice(), *group));
            let tensor = HostTensor { dtype: a.dtype, shape: &shape, data: &[&*a.data, &*b.data].concat(), scales };
            return Ok(self.backend.weight(&tensor, self.format)?);
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

/// Of bytes that come in pieces and hold matrices of `size` bytes each, those of the matrices `wanted` (ascending), one after another.
fn parts<'a>(pieces: impl Iterator<Item = Cow<'a, [u8]>>, size: usize, wanted: &[usize]) -> Vec<u8> {
    let mut out = Vec::with_capacity(wanted.len() * size);
    let mut at = 0;
    for piece in pieces {
        let end = at + piece.len();
        for start in wanted.iter().map(|i| i * size) {
            let (from, to) = (start.clamp(at, end), (start + size).clamp(at, end));
            out.extend_from_slice(&piece[from - at..to - at]);
        }
        at = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_are_found_across_pieces() {
        let whole: Vec<u8> = (0..12).collect();
        for cuts in [vec![12], vec![5, 7], vec![1, 1, 10], vec![3, 3, 3, 3]] {
            let mut at = 0;
            let pieces = cuts.iter().map(|n| {
                at += n;
                &whole[at - n..at]
            });
            assert_eq!(
                parts(pieces.collect::<Vec<_>>().into_iter().map(Cow::Borrowed), 3, &[0, 2]),
                [0, 1, 2, 6, 7, 8]
            );
        }
    }
}
