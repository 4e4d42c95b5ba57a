//! From canonical tensors to weights on a device.

use borealis_kernels::{Backend, HostTensor, HostType, QuantFormat};
use borealis_weights::TensorSet;

use crate::error::Result;

/// Reads tensors of one checkpoint into one backend.
pub(crate) struct Loader<'a, B: Backend> {
    pub backend: &'a B,
    pub tensors: &'a TensorSet,
    pub format: QuantFormat,
}

impl<B: Backend> Loader<'_, B> {
    /// A norm or a bias: f32 whatever the format.
    pub fn vector(&self, name: &str, len: usize) -> Result<B::Buffer> {
        let values = self.values(name, &[len])?;
        let mut buffer = self.backend.alloc(len)?;
        self.backend.write(&mut buffer, 0, &values)?;
        Ok(buffer)
    }

    /// A small tensor as host numbers.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.tensors.expect(name, shape)?;
        Ok(self.tensors.to_f32(name)?)
    }

    /// A matrix `[out, in]` or a stack `[E, out, in]` in the loader's format.
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Result<B::Weight> {
        let tensor = self.tensors.expect(name, shape)?;
        Ok(self.backend.weight(&tensor, self.format_for(shape))?)
    }

    /// A matrix in f32: routers and small tables, where rounding changes choices.
    pub fn exact(&self, name: &str, shape: &[usize]) -> Result<B::Weight> {
        let tensor = self.tensors.expect(name, shape)?;
        Ok(self.backend.weight(&tensor, QuantFormat::F32)?)
    }

    /// Two matrices of the same shape, one above the other, so that one multiplication computes both.
    pub fn stacked(&self, first: &str, second: &str, shape: [usize; 2]) -> Result<B::Weight> {
        let (a, b) = (self.tensors.expect(first, &shape)?, self.tensors.expect(second, &shape)?);
        let shape = [2 * shape[0], shape[1]];
        let format = self.format_for(&shape);
        let same = a.dtype == b.dtype && a.scales.map(|s| s.1) == b.scales.map(|s| s.1);
        if same {
            let scales = a.scales.zip(b.scales).map(|((x, group), (y, _))| ([x, y].concat(), group));
            let scales = scales.as_ref().map(|(bytes, group)| (bytes.as_slice(), *group));
            let tensor = HostTensor { dtype: a.dtype, shape: &shape, data: &[a.data, b.data].concat(), scales };
            return Ok(self.backend.weight(&tensor, format)?);
        }
        let values = [self.tensors.to_f32(first)?, self.tensors.to_f32(second)?].concat();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = HostTensor { dtype: HostType::F32, shape: &shape, data: &bytes, scales: None };
        Ok(self.backend.weight(&tensor, format)?)
    }

    fn format_for(&self, shape: &[usize]) -> QuantFormat {
        stored_format(self.format, shape)
    }
}

/// The format that a matrix really gets: int8 needs whole groups of 64 inputs, narrower matrices stay bf16.
pub(crate) fn stored_format(format: QuantFormat, shape: &[usize]) -> QuantFormat {
    match (format, shape.last()) {
        (QuantFormat::Int8, Some(inputs)) if inputs % 64 != 0 => QuantFormat::Bf16,
        _ => format,
    }
}
