//! The header of a safetensors file: read by the `safetensors` crate, with checks around it.

use crate::{Result, WeightsError, json::parse_json};
use borealis_kernels::HostType;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use std::ops::Range;

/// Longest header, bytes: room for a hundred thousand tensors.
const MAX_HEADER: u64 = 32 << 20;
/// Most axes of a tensor.
const MAX_RANK: usize = 6;

/// One tensor of a header.
#[derive(Debug)]
pub(crate) struct Raw {
    pub name: String,
    /// Its type, or the name of one that is not read.
    pub dtype: std::result::Result<HostType, String>,
    /// In elements: for I4 (U8 in the file) the last axis is twice the file's.
    pub shape: Vec<usize>,
    /// Bytes in the file (not in the data section).
    pub range: Range<usize>,
}

/// Parses the header of a whole file. Afterwards every `range` lies inside `bytes`, they cover the data section
/// without overlap or hole, and each has the length that shape and type imply.
pub(crate) fn read(file: &str, bytes: &[u8]) -> Result<Vec<Raw>> {
    let damaged = |problem: String| WeightsError::Header { file: file.into(), problem };
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(damaged(format!("{} bytes are too few for a safetensors file", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(damaged(format!("its header would be {length} bytes, at most {MAX_HEADER} are read")));
    }
    if length > rest.len() as u64 {
        return Err(damaged(format!("its header would be {length} bytes but only {} follow", rest.len())));
    }
    // The crate keeps the last of two equal names; which one is meant is not ours to guess.
    let header = &rest[..length as usize];
    if header.first() != Some(&b'{') {
        return Err(damaged("its header does not start with {".into()));
    }
    parse_json(file, header).map_err(|e| match e {
        WeightsError::Json { problem, .. } => damaged(format!("bad header: {problem}")),
        e => e,
    })?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(describe(&e, bytes.len())))?;

    let start = 8 + length as usize;
    let mut raws = Vec::with_capacity(metadata.tensors().len());
    for (name, info) in metadata.tensors() {
        let bad = |problem: String| WeightsError::Tensor { file: file.into(), tensor: name.clone(), problem };
        let mut shape = info.shape.clone();
        let dtype = match (info.dtype, shape.last_mut()) {
            // Two codes to a byte: the tensor's own shape has twice the columns.
            (Dtype::U8, Some(columns)) => {
                *columns =
                    columns.checked_mul(2).ok_or_else(|| bad("has more columns than memory has bytes".into()))?;
                Ok(HostType::I4)
            }
            (dtype, _) => host_type(dtype).ok_or_else(|| dtype.to_string()),
        };
        if info.shape.len() > MAX_RANK || info.shape.contains(&0) {
            return Err(bad(format!("has shape {:?}: use 0 to {MAX_RANK} axes of at least 1", info.shape)));
        }
        let (from, to) = info.data_offsets;
        raws.push(Raw { name, dtype, shape, range: start + from..start + to });
    }
    raws.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(raws)
}

fn host_type(dtype: Dtype) -> Option<HostType> {
    match dtype {
        Dtype::F32 => Some(HostType::F32),
        Dtype::F16 => Some(HostType::F16),
        Dtype::BF16 => Some(HostType::Bf16),
        Dtype::I8 => Some(HostType::I8),
        _ => None,
    }
}

fn describe(e: &SafeTensorError, size: usize) -> String {
    match e {
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("its {size} bytes are not the length that its header describes")
        }
        SafeTensorError::InvalidOffset(name) => format!("the bytes of tensor {name} overlap others or leave a hole"),
        SafeTensorError::TensorInvalidInfo => "a tensor's shape and type do not fit its bytes".into(),
        SafeTensorError::ValidationOverflow => "a tensor's shape is larger than any memory".into(),
        e => e.to_string(),
    }
}
