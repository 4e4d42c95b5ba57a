//! Matrices of 8-bit floats with a scale for each block (DeepSeek-V3, 2412.19437, section 3.3.2; also Qwen3's FP8 checkpoints): `<name>.weight` F8_E4M3 and
//! `<name>.weight_scale_inv` F32, value = number times scale. They are handed out as f32, expanded when they are asked for.

use crate::header::Raw;
use crate::shards::Shards;
use crate::storage::Bytes;
use crate::{Result, WeightsError};
use borealis_kernels::HostType;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// The type in the file, as safetensors names it.
pub(crate) const FP8: &str = "F8_E4M3";
/// Ending of the tensor of scales.
const SCALES: &str = "_scale_inv";

/// Rows and columns that share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockSize {
    pub rows: usize,
    pub columns: usize,
}

/// What is needed to expand one matrix.
#[derive(Debug)]
pub(crate) struct Scaled {
    size: BlockSize,
    /// Columns of the matrix.
    columns: usize,
    /// Where the f32 scales lie: `[rows / size.rows, columns / size.columns]`, rounded up.
    shard: usize,
    range: Range<usize>,
}

/// Expanded matrices by their place: shard, and first byte.
pub(crate) type Blocks = BTreeMap<(usize, usize), Scaled>;

/// Joins matrices and scales: afterwards a matrix says that it is F32, and the scales are no tensors of their own.
pub(crate) fn join(shards: &mut Shards, size: Option<BlockSize>) -> Result<Blocks> {
    let Some(size) = size else { return Ok(Blocks::new()) };
    let mut scales: BTreeMap<String, (usize, Raw)> = BTreeMap::new();
    for (shard, (_, raws)) in shards.parts.iter_mut().enumerate() {
        for raw in raws.extract_if(.., |raw| raw.name.ends_with(SCALES)) {
            scales.insert(raw.name[..raw.name.len() - SCALES.len()].to_string(), (shard, raw));
        }
    }
    let bad = |tensor: &str, problem: String| WeightsError::Tensor {
        file: shards.file.clone(),
        tensor: tensor.into(),
        problem,
    };
    let mut blocks = Blocks::new();
    for (at, (_, raws)) in shards.parts.iter_mut().enumerate() {
        for raw in raws.iter_mut().filter(|raw| raw.dtype.as_ref().is_err_and(|name| name == FP8)) {
            let [rows, columns] = raw.shape[..] else {
                return Err(bad(&raw.name, format!("is {FP8} {:?}: such tensors are matrices", raw.shape)));
            };
            let expected = [rows.div_ceil(size.rows), columns.div_ceil(size.columns)];
            let (shard, scale) = match scales.remove(&raw.name) {
                Some((shard, s)) if s.dtype == Ok(HostType::F32) && s.shape == expected => (shard, s),
                Some((_, s)) => {
                    return Err(bad(&s.name, format!("is {:?} {:?}, must be F32 {expected:?}", s.dtype, s.shape)));
                }
                None => {
                    return Err(bad(&raw.name, format!("is {FP8} and needs {}{SCALES} as F32 {expected:?}", raw.name)));
                }
            };
            blocks.insert((at, raw.range.start), Scaled { size, columns, shard, range: scale.range });
            raw.dtype = Ok(HostType::F32);
        }
    }
    match scales.into_values().next() {
        Some((_, raw)) => Err(bad(&raw.name, format!("is there without a tensor of type {FP8} that it belongs to"))),
        None => Ok(blocks),
    }
}

/// The bytes of a part (a shard's number and a range of it), expanded where they are 8-bit floats.
pub(crate) fn expanded<'a>(
    blocks: &Blocks,
    shards: &'a [Bytes],
    (shard, range): &(usize, Range<usize>),
) -> Cow<'a, [u8]> {
    let bytes = &shards[*shard][range.clone()];
    match blocks.get(&(*shard, range.start)) {
        Some(scaled) => Cow::Owned(scaled.expand(bytes, shards)),
        None => Cow::Borrowed(bytes),
    }
}

impl Scaled {
    /// The f32 bytes of a matrix.
    fn expand(&self, data: &[u8], shards: &[Bytes]) -> Vec<u8> {
        let scales = shards[self.shard][self.range.clone()].as_chunks::<4>().0;
        let across = self.columns.div_ceil(self.size.columns);
        let mut out = Vec::with_capacity(4 * data.len());
        for (row, codes) in data.chunks_exact(self.columns).enumerate() {
            let scales = &scales[row / self.size.rows * across..][..across];
            for (codes, scale) in codes.chunks(self.size.columns).zip(scales) {
                let scale = f32::from_le_bytes(*scale);
                out.extend(codes.iter().flat_map(|code| (value(*code) * scale).to_le_bytes()));
            }
        }
        out
    }
}

/// The number of an E4M3 code: one sign, four bits of exponent with bias 7, three of mantissa; no infinities (Micikevicius et al. 2022, 2209.05433).
fn value(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let magnitude = match exponent {
        0 => mantissa * 2f32.powi(-9),
        15 if code & 7 == 7 => f32::NAN,
        e => (8.0 + mantissa) * 2f32.powi(e - 10),
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_values() {
        let known = [
            (0x00, 0.0),
            (0x01, 0.001_953_125),
            (0x08, 0.015_625),
            (0x38, 1.0),
            (0x3c, 1.5),
            (0xc0, -2.0),
            (0x7e, 448.0),
            (0xfe, -448.0),
        ];
        for (code, wanted) in known {
            assert_eq!(value(code), wanted, "{code:#x}");
        }
        assert!(value(0x7f).is_nan() && value(0xff).is_nan());
        assert!((0..0x7e).all(|code| value(code) < value(code + 1)), "in ascending order");
    }
}
