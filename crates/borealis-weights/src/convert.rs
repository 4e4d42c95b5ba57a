//! Writing a checkpoint in our format, tensor by tensor: what is held in memory is one matrix, whatever the size of the model.

use crate::checkpoint::Checkpoint;
use crate::{Result, TensorSet, WeightsError, writer};
use borealis_kernels::{GROUP, HostType, QuantFormat, quantise};
use half::{bf16, f16};
use serde_json::{Map, json};
use std::path::Path;

/// Tensor bytes after which a new file is begun.
const SHARD: u64 = 5_000_000_000;
/// In what the transformer's matrices are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// As they are.
    AsIs,
    /// bfloat16.
    Bf16,
    /// Signed bytes in groups of 64 with f16 scales (`weights.md`, section 10); matrices whose columns are no multiple of 64 stay as they are.
    Int8,
    /// Four-bit codes, otherwise as int8.
    Int4,
}

impl Target {
    /// The types and groups that `config.json` then names.
    fn quantization(self) -> Option<QuantFormat> {
        match self {
            Self::AsIs | Self::Bf16 => None,
            Self::Int8 => Some(QuantFormat::Int8),
            Self::Int4 => Some(QuantFormat::Int4),
        }
    }
}

/// What was written, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// Files in the order they are written, and their bytes.
    pub files: Vec<(String, u64)>,
    /// Tensors in all of them.
    pub tensors: usize,
}

impl Converted {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.1).sum()
    }
}

/// One tensor of the result.
struct Plan<'a> {
    set: &'a TensorSet,
    /// Its name in the source.
    source: &'a str,
    from: HostType,
    to: HostType,
    columns: usize,
    /// Names, safetensors types, shapes and bytes: of the tensor, and of its scales.
    parts: Vec<(String, &'static str, Vec<usize>, u64)>,
}

/// Converts `checkpoint` into the folder `target`, which must not exist or be empty. Written beside it and moved there at the end: no half checkpoint stays.
/// `progress` is told the bytes after each tensor.
pub fn convert(
    checkpoint: &Checkpoint,
    target: &Path,
    format: Target,
    progress: &mut dyn FnMut(u64),
) -> Result<Converted> {
    writer::folder(target, progress, |writer| {
        let converted = plan(checkpoint, format)?;
        for (name, bytes) in small_files(checkpoint, format)? {
            writer.file(&name, |out, _| out(&bytes))?;
        }
        for (folder, set) in checkpoint.sets() {
            let shards = shards(set, if folder.is_empty() { format } else { Target::AsIs })?;
            if shards.len() > 1 {
                writer.file(&at(folder, INDEX), |out, _| out(&index(&shards)))?;
            }
            for (i, shard) in shards.iter().enumerate() {
                writer.file(&at(folder, &shard_name(i, shards.len())), |out, tell| {
                    out(&header(shard))?;
                    for tensor in shard {
                        tensor.write(out)?;
                        tell(tensor.parts.iter().map(|p| p.3).sum());
                    }
                    Ok(())
                })?;
            }
        }
        Ok(converted)
    })
}

/// What [`convert`] would write.
pub fn plan(checkpoint: &Checkpoint, format: Target) -> Result<Converted> {
    let mut converted = Converted { files: Vec::new(), tensors: 0 };
    for (name, bytes) in small_files(checkpoint, format)? {
        converted.files.push((name, bytes.len() as u64));
    }
    for (folder, set) in checkpoint.sets() {
        let shards = shards(set, if folder.is_empty() { format } else { Target::AsIs })?;
        converted.tensors += shards.iter().map(|s| s.iter().map(|p| p.parts.len()).sum::<usize>()).sum::<usize>();
        if shards.len() > 1 {
            converted.files.push((at(folder, INDEX), index(&shards).len() as u64));
        }
        for (i, shard) in shards.iter().enumerate() {
            let data: u64 = shard.iter().flat_map(|p| &p.parts).map(|p| p.3).sum();
            converted.files.push((at(folder, &shard_name(i, shards.len())), header(shard).len() as u64 + data));
        }
    }
    Ok(converted)
}

const INDEX: &str = "model.safetensors.index.json";

fn at(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") }
}

fn shard_name(i: usize, all: usize) -> String {
    match all {
        1 => "model.safetensors".into(),
        _ => format!("model-{:05}-of-{all:05}.safetensors", i + 1),
    }
}

/// The configurations and the tokenizer, with the new quantisation in `config.json`.
fn small_files(checkpoint: &Checkpoint, format: Target) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for (name, bytes) in checkpoint.files() {
        let mut bytes = bytes.to_vec();
        if name == "config.json"
            && let Some(format) = format.quantization()
        {
            let mut config = crate::parse_json(name, &bytes)?;
            config["quantization"] = json!({"format": format.name(), "group": GROUP});
            bytes = config.to_string().into_bytes();
        }
        files.push((name.to_string(), bytes));
    }
    Ok(files)
}

/// Whether a tensor is one of the matrices that are kept in the target's type: not norms, biases, routers and small tables, which the model keeps in f32.
fn is_matrix(name: &str, shape: &[usize]) -> bool {
    let exact =
        ["norm.weight", "bias", "mlp.gate.weight", "kv_b_proj.weight", "copy_gate.weight", "in_features.weight"];
    let tables = ["row_kinds.weight", "scene_rows.weight"];
    let float = |end: &&str| name.ends_with(*end);
    shape.len() >= 2 && !name.contains("norm") && !exact.iter().any(float) && !tables.iter().any(float)
}

/// The tensors of a set, cut into files.
fn shards(set: &TensorSet, format: Target) -> Result<Vec<Vec<Plan<'_>>>> {
    let mut shards: Vec<Vec<Plan<'_>>> = vec![Vec::new()];
    let mut size = 0;
    for (name, dtype, shape, _) in set.stored() {
        if dtype.coded() && format != Target::AsIs {
            return Err(WeightsError::Tensor {
                file: "model.safetensors".into(),
                tensor: name.into(),
                problem: format!(
                    "is {} already: convert from the checkpoint that it was made of",
                    dtype.format().name()
                ),
            });
        }
        let plan = Plan::new(set, name, dtype, shape, format)?;
        let bytes: u64 = plan.parts.iter().map(|p| p.3).sum();
        if size > 0 && size + bytes > SHARD {
            shards.push(Vec::new());
            size = 0;
        }
        size += bytes;
        if let Some(last) = shards.last_mut() {
            last.push(plan);
        }
    }
    Ok(shards)
}

impl<'a> Plan<'a> {
    fn new(set: &'a TensorSet, name: &'a str, from: HostType, shape: &'a [usize], format: Target) -> Result<Self> {
        let columns = shape.last().copied().unwrap_or(1);
        let to = match format {
            Target::Bf16 if is_matrix(name, shape) => HostType::Bf16,
            Target::Int8 if is_matrix(name, shape) && columns.is_multiple_of(GROUP) => HostType::I8,
            Target::Int4 if is_matrix(name, shape) && columns.is_multiple_of(GROUP) => HostType::I4,
            // As DeepSeek's own conversion does it: a bf16 number is as good as 8 bits and a scale.
            Target::AsIs if set.is_expanded(name) => HostType::Bf16,
            _ => from,
        };
        let elements = shape.iter().product::<usize>() as u64;
        let (label, bytes) = match to {
            HostType::F32 => ("F32", 4 * elements),
            HostType::F16 => ("F16", 2 * elements),
            HostType::Bf16 => ("BF16", 2 * elements),
            HostType::I8 => ("I8", elements),
            HostType::I4 => ("U8", elements / 2),
        };
        let mut stored = shape.to_vec();
        if to == HostType::I4
            && let Some(last) = stored.last_mut()
        {
            *last /= 2;
        }
        let mut parts = vec![(name.to_string(), label, stored, bytes)];
        let group = if to.coded() { Some(set.scales(name)?.map_or(GROUP, |s| s.1)) } else { None };
        if let Some(group) = group {
            let mut scales = shape.to_vec();
            if let Some(last) = scales.last_mut() {
                *last /= group;
            }
            parts.push((format!("{name}.scales"), "F16", scales, elements / group as u64 * 2));
        }
        Ok(Self { set, source: name, from, to, columns, parts })
    }

    /// Writes data and scales.
    fn write(&self, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let pieces = self.set.pieces(self.source)?;
        if self.from == self.to {
            for piece in pieces {
                out(&piece)?;
            }
            return match self.set.scales(self.source)? {
                Some((scales, _)) => out(scales),
                None => Ok(()),
            };
        }
        let mut scales = Vec::new();
        for piece in pieces {
            // A piece is whole rows; some of them at a time.
            let width = if self.from == HostType::F32 { 4 } else { 2 };
            for rows in piece.chunks(width * self.columns * (1usize << 20).div_ceil(self.columns)) {
                let values = floats(rows, self.from);
                match self.to {
                    HostType::I8 | HostType::I4 => {
                        let mut codes = Vec::with_capacity(values.len());
                        for row in values.chunks_exact(self.columns) {
                            quantise(row, self.to.format(), &mut codes, &mut scales);
                        }
                        out(&codes)?;
                    }
                    _ => {
                        let halves: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
                        out(&halves)?;
                    }
                }
            }
        }
        out(&scales)
    }
}

fn floats(bytes: &[u8], dtype: HostType) -> Vec<f32> {
    let halves = |f: fn([u8; 2]) -> f32| bytes.as_chunks::<2>().0.iter().map(|b| f(*b)).collect();
    match dtype {
        HostType::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        HostType::F16 => halves(|b| f16::from_le_bytes(b).to_f32()),
        // Codes are never converted: `shards` refuses them.
        HostType::Bf16 | HostType::I8 | HostType::I4 => halves(|b| bf16::from_le_bytes(b).to_f32()),
    }
}

fn header(shard: &[Plan<'_>]) -> Vec<u8> {
    writer::header(
        shard.iter().flat_map(|p| &p.parts).map(|(name, dtype, shape, bytes)| (&**name, *dtype, &**shape, *bytes)),
    )
}

fn index(shards: &[Vec<Plan<'_>>]) -> Vec<u8> {
    let mut map = Map::new();
    for (i, shard) in shards.iter().enumerate() {
        for part in shard.iter().flat_map(|p| &p.parts) {
            map.insert(part.0.clone(), json!(shard_name(i, shards.len())));
        }
    }
    json!({"metadata": {}, "weight_map": map}).to_string().into_bytes()
}
