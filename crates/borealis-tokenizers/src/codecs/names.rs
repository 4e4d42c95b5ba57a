//! Tensors of a codec by name.

use borealis_kernels::candle::{DType, Device, Tensor};
use borealis_weights::TensorSet;

use crate::Result;

/// A place in the tree of names.
#[derive(Clone)]
pub(super) struct Names<'a> {
    tensors: &'a TensorSet,
    prefix: String,
    dtype: DType,
}

impl<'a> Names<'a> {
    /// The top.
    pub fn new(tensors: &'a TensorSet) -> Self {
        Self { tensors, prefix: String::new(), dtype: DType::F32 }
    }

    /// The same; what is computed with its tensors is computed in double precision.
    pub fn double(self) -> Self {
        Self { dtype: DType::F64, ..self }
    }

    /// What lies under `name`.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: format!("{}{name}.", self.prefix), ..*self }
    }

    /// Whether there is a tensor `name` here.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains(&format!("{}{name}", self.prefix))
    }

    /// The numbers of `name`, which must have `shape`.
    pub fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        Ok(self.tensors.expect_f32(&format!("{}{name}", self.prefix), shape)?)
    }

    /// The tensor `name`, which must have `shape`.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.numbers(name, shape)?, shape, &Device::Cpu)?.to_dtype(self.dtype)?)
    }

    /// Knows a tensor that training left in the file and decoding does not need.
    pub fn leftover(&self, name: &str, shape: &[usize]) -> Result<()> {
        if self.has(name) {
            self.numbers(name, shape)?;
        }
        Ok(())
    }

    /// The weight of a convolution, `[a, b, kernel]`: plain, or as weight norm keeps it, a direction and a length for each of the `a` (Salimans and Kingma 2016),
    /// under PyTorch's new names or its old ones.
    pub fn weight(&self, shape: [usize; 3]) -> Result<Tensor> {
        let norms =
            [("parametrizations.weight.original0", "parametrizations.weight.original1"), ("weight_g", "weight_v")];
        let Some((length, direction)) = norms.into_iter().find(|(length, _)| self.has(length)) else {
            return self.tensor("weight", &shape);
        };
        let lengths = self.numbers(length, &[shape[0], 1, 1])?;
        let mut weight = self.numbers(direction, &shape)?;
        for (row, length) in weight.chunks_exact_mut(shape[1] * shape[2]).zip(lengths) {
            let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            // A direction of zeros has no length to give it.
            let factor = if norm > 0.0 { (f64::from(length) / norm) as f32 } else { 0.0 };
            row.iter_mut().for_each(|v| *v *= factor);
        }
        Ok(Tensor::from_vec(weight, &shape, &Device::Cpu)?.to_dtype(self.dtype)?)
    }
}
