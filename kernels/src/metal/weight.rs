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
    /// Converts and copies a tensor.
    pub(super) fn upload(device: &Device, tensor: &HostTensor<'_>, format: QuantFormat) -> Result<Self> {
        tensor.check()?;
        let (stack, out, inputs) = match *tensor.shape {
            [out, inputs] => (None, out, inputs),
            [stack, out, inputs] => (Some(stack), out, inputs),
            _ => return Err(check::shape("weight", format!("shape {:?}: expected two or three axes", tensor.shape))),
        };
        let weight = Self::allocate(device, stack, out, inputs, format)?;
        // SAFETY: the memory is new: no kernel knows it.
        unsafe { weight.put(0, tensor)? };
        Ok(weight)
    }

    /// Memory for a matrix or a stack, not cleared.
    pub(super) fn allocate(
        device: &Device,
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

    /// Converts and copies the matrices of `tensor` `[n, out, in]` into the place of matrices `first..first + n`, after everything that was started before.
    pub(super) fn replace(&mut self, device: &Device, first: usize, tensor: &HostTensor<'_>) -> Result<()> {
        check::replacement([self.stack("replace")?, self.out, self.inputs], first, tensor)?;
        device.wait()?;
        // SAFETY: no kernel is at work, and the weight is borrowed.
        unsafe { self.put(first * self.out, tensor) }
    }

    /// The rows of a tensor, which was checked, into the place of the rows from `at` on, a few megabytes at a time.
    ///
    /// # Safety
    /// No kernel that was started and may not be done uses these rows.
    unsafe fn put(&self, at: usize, tensor: &HostTensor<'_>) -> Result<()> {
        let pitch = self.inputs.next_multiple_of(GROUP);
        let (row_bytes, group_bytes) = (pitch * bits_of(self.format) / 8, pitch / GROUP * 2);
        let some = (PIECE / row_bytes.max(1)).max(1);
        let (mut bytes, mut groups, mut values) = (Vec::new(), Vec::new(), vec![0f32; self.inputs]);
        let rows = tensor.rows();
        for first in (0..rows).step_by(some) {
            bytes.clear();
            groups.clear();
            for row in first..rows.min(first + some) {
                encode(tensor, row, self.format, &mut values, &mut bytes, &mut groups);
                bytes.resize((row + 1 - first) * row_bytes, 0);
                groups.resize((row + 1 - first) * if self.scales.is_some() { group_bytes } else { 0 }, 0);
            }
            // SAFETY: the caller's promise.
            unsafe {
                self.data.fill((at + first) * row_bytes, &bytes)?;
                if let Some(scales) = &self.scales {
                    scales.fill((at + first) * group_bytes, &groups)?;
                }
            }
        }
        Ok(())
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
