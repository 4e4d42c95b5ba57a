//! Weights on the device: rows padded to whole groups of 64 inputs, so that kernels read 16 bytes at a time and meet no edge.

use std::sync::Arc;

use half::bf16;

use super::Argument;
use super::driver::{Device, Memory};
use crate::backend::Result;
use crate::{GROUP, HostTensor, HostType, QuantFormat, check};

/// A weight of [`super::Cuda`].
pub struct CudaWeight {
    data: Memory,
    scales: Option<Memory>,
    pub(super) format: QuantFormat,
    /// Matrices of a stack; `None` for a single matrix.
    stack: Option<usize>,
    pub(super) out: usize,
    pub(super) inputs: usize,
}

/// What kernels get of a weight. Must equal `Matrix` in common.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    data: u64,
    scales: u64,
    inputs: u32,
    pitch: u32,
}

// SAFETY: `repr(C)`, of numbers.
unsafe impl Argument for Matrix {}

/// Bytes that are made ready on the host at a time.
const PIECE: usize = 8 << 20;

impl CudaWeight {
    /// Converts and copies a tensor, a few megabytes at a time.
    pub(super) fn upload(device: &Arc<Device>, tensor: &HostTensor<'_>, format: QuantFormat) -> Result<Self> {
        tensor.check()?;
        let (stack, out, inputs) = match *tensor.shape {
            [out, inputs] => (None, out, inputs),
            [stack, out, inputs] => (Some(stack), out, inputs),
            _ => return Err(check::shape("weight", format!("shape {:?}: expected two or three axes", tensor.shape))),
        };
        let weight = Self::allocate(device, stack, out, inputs, format)?;
        weight.put(device, 0, tensor)?;
        Ok(weight)
    }

    /// Memory for a matrix or a stack, not cleared.
    pub(super) fn allocate(
        device: &Arc<Device>,
        stack: Option<usize>,
        out: usize,
        inputs: usize,
        format: QuantFormat,
    ) -> Result<Self> {
        let pitch = inputs.next_multiple_of(GROUP);
        if out.max(pitch) > u32::MAX as usize {
            return Err(check::shape("weight", format!("matrices of {out} x {inputs} are too large")));
        }
        let rows = stack.unwrap_or(1) * out;
        let data = device.allocate(rows * pitch * bits_of(format) / 8)?;
        let scales = match format {
            QuantFormat::Int8 | QuantFormat::Int4 => Some(device.allocate(rows * pitch / GROUP * 2)?),
            QuantFormat::F32 | QuantFormat::Bf16 => None,
        };
        Ok(Self { data, scales, format, stack, out, inputs })
    }

    /// Converts and copies the matrices of `tensor` `[n, out, in]` into the place of matrices `first..first + n`.
    pub(super) fn replace(&mut self, device: &Device, first: usize, tensor: &HostTensor<'_>) -> Result<()> {
        check::replacement([self.stack("replace")?, self.out, self.inputs], first, tensor)?;
        self.put(device, first * self.out, tensor)
    }

    /// The rows of a tensor, which was checked, into the place of the rows from `at` on.
    fn put(&self, device: &Device, at: usize, tensor: &HostTensor<'_>) -> Result<()> {
        let pitch = self.inputs.next_multiple_of(GROUP);
        let (row_bytes, group_bytes) = (pitch * bits_of(self.format) / 8, pitch / GROUP * 2);
        let some = (PIECE / row_bytes.max(1)).max(1);
        let (mut bytes, mut groups) = (Vec::new(), Vec::new());
        let mut values = vec![0f32; self.inputs];
        let rows = tensor.rows();
        for first in (0..rows).step_by(some) {
            bytes.clear();
            groups.clear();
            for row in first..rows.min(first + some) {
                encode(tensor, row, self.format, &mut values, &mut bytes, &mut groups);
                bytes.resize((row + 1 - first) * row_bytes, 0);
                groups.resize((row + 1 - first) * if self.scales.is_some() { group_bytes } else { 0 }, 0);
            }
            device.upload(&self.data, (at + first) * row_bytes, &bytes)?;
            if let Some(scales) = &self.scales {
                device.upload(scales, (at + first) * group_bytes, &groups)?;
            }
        }
        Ok(())
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        self.data.bytes() + self.scales.as_ref().map_or(0, Memory::bytes)
    }

    /// For kernels.
    pub(super) fn raw(&self) -> Matrix {
        Matrix {
            data: self.data.pointer(),
            scales: self.scales.as_ref().map_or(0, Memory::pointer),
            inputs: self.inputs as u32,
            pitch: self.inputs.next_multiple_of(GROUP) as u32,
        }
    }

    /// This, when it is a single matrix.
    pub(super) fn matrix(&self, op: &'static str) -> Result<&Self> {
        match self.stack {
            None => Ok(self),
            Some(n) => Err(check::shape(op, format!("expected [out, in], not a stack of {n}"))),
        }
    }

    /// Matrices, when it is a stack.
    pub(super) fn stack(&self, op: &'static str) -> Result<usize> {
        self.stack.ok_or_else(|| check::shape(op, "expected a stack [E, out, in], not one matrix"))
    }
}

impl std::fmt::Debug for CudaWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CudaWeight({:?} x {} x {}, {})", self.stack, self.out, self.inputs, self.format.name())
    }
}

pub(crate) fn bits_of(format: QuantFormat) -> usize {
    match format {
        QuantFormat::F32 => 32,
        QuantFormat::Bf16 => 16,
        QuantFormat::Int8 => 8,
        QuantFormat::Int4 => 4,
    }
}

/// Appends one row in `format`; `values` is scratch of the row's length.
pub(crate) fn encode(
    tensor: &HostTensor<'_>,
    row: usize,
    format: QuantFormat,
    values: &mut [f32],
    bytes: &mut Vec<u8>,
    scales: &mut Vec<u8>,
) {
    let stored = |size: usize| &tensor.data[row * values.len() * size..(row + 1) * values.len() * size];
    match (format, tensor.dtype) {
        // As they lie in the checkpoint.
        (QuantFormat::F32, HostType::F32) => bytes.extend_from_slice(stored(4)),
        (QuantFormat::Bf16, HostType::Bf16) => bytes.extend_from_slice(stored(2)),
        (QuantFormat::F32, _) => {
            tensor.row(row, values);
            bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        }
        (QuantFormat::Bf16, _) => {
            tensor.row(row, values);
            bytes.extend(values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()));
        }
        (QuantFormat::Int8 | QuantFormat::Int4, _) => {
            let row = tensor.quantised(row, format);
            match format {
                QuantFormat::Int4 => {
                    let pair = |p: &[i8]| (p[0] + 8) as u8 | ((p.get(1).copied().unwrap_or(0) + 8) as u8) << 4;
                    bytes.extend(row.q.chunks(2).map(pair));
                }
                _ => bytes.extend(row.q.iter().map(|q| *q as u8)),
            }
            scales.extend(row.scales.iter().flat_map(|s| s.to_le_bytes()));
        }
    }
}
