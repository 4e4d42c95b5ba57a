//! Attention, rotation and SwiGLU in plain tensors.

use candle_core::{D, DType, Tensor};

use crate::backend::Result;
use crate::{KvFormat, Rotation, Span};

/// `[rows, 2 inner]` -> `[rows, inner]`: silu of the first half times the second half.
pub(super) fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let inner = gate_up.dim(D::Minus1)? / 2;
    let gate = gate_up.narrow(D::Minus1, 0, inner)?.silu()?;
    Ok((gate * gate_up.narrow(D::Minus1, inner, inner)?)?)
}

/// Rotates pairs of `x` `[rows, heads, D]` by `angles` `[rows, 1, D]` (cosines, then sines).
pub(super) fn rotate(rotation: Rotation, x: &Tensor, angles: &Tensor) -> Result<Tensor> {
    let (rows, heads, dim) = x.dims3()?;
    let half = dim / 2;
    // Pairs lie along the axis of length 2.
    let (split, axis) = match rotation {
        Rotation::Half => (vec![rows, heads, 2, half], 2),
        Rotation::Interleaved => (vec![rows, heads, half, 2], 3),
    };
    let x = x.reshape(split)?;
    let (a, b) = (x.narrow(axis, 0, 1)?.squeeze(axis)?, x.narrow(axis, 1, 1)?.squeeze(axis)?);
    let (cos, sin) = (angles.narrow(2, 0, half)?, angles.narrow(2, half, half)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Ok(Tensor::stack(&[first, second], axis)?.reshape((rows, heads, dim))?)
}

/// Layer norm over the last axis of `x` `[rows, n, width]`, then weight and bias `[1, n, width]`.
pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    Ok(centred.broadcast_div(&deviation)?.broadcast_mul(weight)?.broadcast_add(bias)?)
}

/// Keys or values `[rows, heads, D]` after they were kept in `format`: what [`KvFormat`] says, in f32.
pub(super) fn kept(x: &Tensor, format: KvFormat) -> Result<Tensor> {
    Ok(match format {
        KvFormat::F32 => x.clone(),
        KvFormat::Bf16 => x.to_dtype(DType::BF16)?.to_dtype(DType::F32)?,
        KvFormat::Int8 if x.elem_count() == 0 => x.clone(),
        KvFormat::Int8 => {
            // Adding and taking away 1.5 * 2^23 leaves the nearest whole number, ties to even.
            const MAGIC: f64 = 12_582_912.0;
            let scale = (x.abs()?.max_keepdim(D::Minus1)? / 127.0)?.maximum(f64::from(f32::MIN_POSITIVE))?;
            let codes = ((x.broadcast_div(&scale)? + MAGIC)? - MAGIC)?;
            codes.broadcast_mul(&scale)?
        }
    })
}

/// One query row `[kv_heads, group, D]` over the slots of `span`. Returns `[kv_heads, group, D]`.
pub(super) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, span: Span, scale: f32) -> Result<Tensor> {
    let seen = |slab: &Tensor| -> Result<Tensor> {
        let part = |(a, b): (u32, u32)| slab.narrow(0, a as usize, (b - a) as usize);
        let rows = Tensor::cat(&[part(span.prefix)?, part(span.recent)?], 0)?;
        Ok(rows.transpose(0, 1)?.contiguous()?) // [kv_heads, seen, D]
    };
    let scores = (q.contiguous()?.matmul(&seen(k)?.t()?)? * f64::from(scale))?;
    Ok(candle_nn::ops::softmax_last_dim(&scores)?.matmul(&seen(v)?)?)
}
