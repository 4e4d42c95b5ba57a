//! Weights on the device, laid out as [`crate::Cuda`] lays them out: rows padded to whole groups of 64 inputs, so that kernels read 16 bytes at a time
//! and meet no edge.

use super::arguments::Place;
use super::driver::{Device, Memory};
use crate::backend::Result;
use crate::cuda::weight::{bits_of, encode};
use crate::{GROUP, HostTensor, QuantFormat, check};

/// A weight of [`super::Metal`].
pub struct MetalWeight {
    data: Memory,
    scales: Option<Memory>,
    pub(super) format: QuantFormat,
    /// Matrices of a stack; `None` for a single matrix.
    stack: Option<usize>,
    pub(super) out: usize,
    pub(super) inputs: usize,
}

/// Bytes that are made ready at a time.
const PIECE: usize = 8 << 20;

impl MetalWeight {
    /// Converts and copies a tensor, a few megabytes at a time.
    pub(super) fn upload(device: &Device, tensor: &HostTensor<'_>, format: QuantFormat) -> Result<Self> {
        tensor.check()?;
        let (stack, out, inputs) = match *tensor.shape {
            [out, inputs] => (None, out, inputs),
            [stack, out, inputs] => (Some(stack), out, inputs),
            _ => return Err(check::shape("weight", format!("shape {:?}: expected two or three axes", tensor.shape))),
        };
        let pitch = inputs.next_multiple_of(GROUP);
        if out.max(pitch) > u32::MAX as usize {
            return Err(check::shape("weight", format!("shape {:?} is too large", tensor.shape)));
        }
        let rows = stack.unwrap_or(1) * out;
        let (row_bytes, group_bytes) = (pitch * bits_of(format) / 8, pitch / GROUP * 2);
        let data = device.allocate(rows * row_bytes)?;
        let scales = match format {
            QuantFormat::Int8 | QuantFormat::Int4 => Some(device.allocate(rows * group_bytes)?),
            QuantFormat::F32 | QuantFormat::Bf16 => None,
        };
        let some = (PIECE / row_bytes.max(1)).max(1);
        let (mut bytes, mut groups, mut values) = (Vec::new(), Vec::new(), vec![0f32; inputs]);
        for first in (0..rows).step_by(some) {
            bytes.clear();
            groups.clear();
            for row in first..rows.min(first + some) {
                encode(tensor, row, format, &mut values, &mut bytes, &mut groups);
                bytes.resize((row + 1 - first) * row_bytes, 0);
                groups.resize((row + 1 - first) * if scales.is_some() { group_bytes } else { 0 }, 0);
            }
            // SAFETY: the memory is new: no kernel knows it.
            unsafe {
                data.fill(first * row_bytes, &bytes)?;
                if let Some(scales) = &scales {
                    scales.fill(first * group_bytes, &groups)?;
                }
            }
        }
        Ok(Self { data, scales, format, stack, out, inputs })
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        self.data.bytes() + self.scales.as_ref().map_or(0, Memory::bytes)
    }

    /// Codes or numbers, and scales; formats without scales bind the numbers again, which no kernel reads as scales.
    pub(super) fn places(&self) -> (Place<'_>, Place<'_>) {
        (self.data.place(), self.scales.as_ref().unwrap_or(&self.data).place())
    }

    /// Elements from one row to the next.
    pub(super) fn pitch(&self) -> u32 {
        self.inputs.next_multiple_of(GROUP) as u32
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

impl std::fmt::Debug for MetalWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MetalWeight({:?} x {} x {}, {})", self.stack, self.out, self.inputs, self.format.name())
    }
}
