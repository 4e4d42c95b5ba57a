//! Parts of flat buffers, and weights, as tensors.

use candle_core::Tensor;

use super::{Reference, ReferenceWeight};
use crate::backend::Result;
use crate::{KernelError, check};

/// `shape` numbers of a flat buffer from `at` on.
pub(super) fn view(op: &'static str, buffer: &Tensor, at: usize, shape: &[usize]) -> Result<Tensor> {
    let len = shape.iter().product();
    check::at_least(op, "a buffer", buffer.elem_count(), at + len)?;
    Ok(buffer.narrow(0, at, len)?.reshape(shape)?)
}

/// Overwrites `buffer[at..]` with all numbers of `values`.
pub(super) fn put(op: &'static str, buffer: &Tensor, at: usize, values: &Tensor) -> Result<()> {
    let values = values.flatten_all()?.force_contiguous()?;
    check::at_least(op, "a buffer", buffer.elem_count(), at + values.elem_count())?;
    if values.elem_count() > 0 {
        buffer.slice_set(&values, 0, at)?;
    }
    Ok(())
}

impl ReferenceWeight {
    pub(super) fn matrix(&self, op: &'static str) -> Result<(&Tensor, usize, usize)> {
        let (out, inputs) =
            self.0.dims2().map_err(|_| check::shape(op, format!("expected [out, in], not {:?}", self.0.dims())))?;
        Ok((&self.0, out, inputs))
    }

    pub(super) fn stack(&self, op: &'static str) -> Result<(&Tensor, [usize; 3])> {
        let (e, out, inputs) =
            self.0.dims3().map_err(|_| check::shape(op, format!("expected [E, out, in], not {:?}", self.0.dims())))?;
        Ok((&self.0, [e, out, inputs]))
    }
}

impl Reference {
    /// Rows of a table; an id of `u32::MAX` gives zeros.
    pub(super) fn lookup(&self, op: &'static str, table: &ReferenceWeight, ids: &[u32]) -> Result<Tensor> {
        let (table, rows, _) = table.matrix(op)?;
        check::ids(op, ids, rows)?;
        let known: Vec<u32> = ids.iter().map(|&id| if id == u32::MAX { 0 } else { id }).collect();
        let keep: Vec<f32> = ids.iter().map(|&id| if id == u32::MAX { 0.0 } else { 1.0 }).collect();
        let keep = Tensor::from_vec(keep, (ids.len(), 1), &self.device)?;
        let known = Tensor::new(known.as_slice(), &self.device)?;
        table.index_select(&known, 0)?.broadcast_mul(&keep).map_err(KernelError::from)
    }
}
