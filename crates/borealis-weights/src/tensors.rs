//! The tensors of one model: one safetensors file, or several with an index.

use crate::header::{self, Raw};
use crate::storage::{Bytes, Storage};
use crate::{Quantization, Result, WeightsError, index, nearest};
use borealis_kernels::{HostTensor, HostType};
use half::{bf16, f16};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Largest index, bytes.
const MAX_INDEX: u64 = 32 << 20;
/// Ending of the scales of an int8 tensor.
const SCALES: &str = ".scales";

/// Tensors by name. All names, types, shapes and offsets were checked when it was opened; values are read from the mapped file when asked for.
#[derive(Debug)]
pub struct TensorSet {
    /// The file, or the folder of the shards, for messages.
    file: String,
    shards: Vec<Bytes>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    dtype: HostType,
    shape: Vec<usize>,
    shard: usize,
    range: Range<usize>,
    /// Shard and bytes of the scales, and the elements per scale.
    scales: Option<(usize, Range<usize>, usize)>,
    used: AtomicBool,
}

impl TensorSet {
    /// Opens `model.safetensors` or the shards named by `model.safetensors.index.json` in `folder` ("" = the checkpoint's own); `None` if neither is there.
    pub(crate) fn open(storage: &Storage, folder: &str, quantization: Option<Quantization>) -> Result<Option<Self>> {
        let at = |name: &str| if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
        let (single, index_file) = (at("model.safetensors"), at("model.safetensors.index.json"));
        let raws = match (storage.exists(&single), storage.read(&index_file, MAX_INDEX)?) {
            (true, Some(_)) => {
                return Err(WeightsError::Outside {
                    file: single,
                    problem: format!("there is also {index_file}, remove one of them"),
                });
            }
            (true, None) => vec![read_file(storage, &single)?],
            (false, Some(bytes)) => read_shards(storage, &index_file, &index::read(&index_file, &bytes)?, &at)?,
            (false, None) => return Ok(None),
        };
        let name = if raws.len() == 1 { single } else { index_file };
        Self::assemble(name, raws, quantization).map(Some)
    }

    fn assemble(file: String, parts: Vec<(Bytes, Vec<Raw>)>, quantization: Option<Quantization>) -> Result<Self> {
        let mut set = Self { file, shards: Vec::new(), entries: BTreeMap::new() };
        for (bytes, raws) in parts {
            let shard = set.shards.len();
            set.shards.push(bytes);
            for Raw { name, dtype, shape, range } in raws {
                let entry = Entry { dtype, shape, shard, range, scales: None, used: AtomicBool::new(false) };
                set.entries.insert(name, entry);
            }
        }
        set.join_scales(quantization)?;
        Ok(set)
    }

    /// Attaches `<name>.scales` to the int8 tensor `<name>` (weights.md, section 10).
    fn join_scales(&mut self, quantization: Option<Quantization>) -> Result<()> {
        let quantised: Vec<String> =
            self.entries.iter().filter(|(_, e)| e.dtype == HostType::I8).map(|(n, _)| n.clone()).collect();
        for name in quantised {
            let bad = |problem: String| WeightsError::Tensor { file: self.file.clone(), tensor: name.clone(), problem };
            let Some(Quantization { group }) = quantization else {
                return Err(bad(
                    "is I8 but config.json has no \"quantization\": add {\"format\": \"int8\", \"group\": 64}".into(),
                ));
            };
            let Some((&last, outer)) = self.entries[&name].shape.split_last() else {
                return Err(bad("is I8 and has no axes: int8 tensors are matrices".into()));
            };
            if !last.is_multiple_of(group) || outer.is_empty() {
                return Err(bad(format!(
                    "is I8 with {last} columns: int8 tensors are matrices whose columns are a multiple of the group, {group}"
                )));
            }
            let mut expected = outer.to_vec();
            expected.push(last / group);
            let scales = format!("{name}{SCALES}");
            let found = self.entries.get(&scales).map(|e| (e.dtype, e.shape.clone()));
            if found != Some((HostType::F16, expected.clone())) {
                let found = found.map_or("it is missing".into(), |(t, s)| format!("it is {t:?} {s:?}"));
                return Err(bad(format!("is I8 and needs {scales} as F16 {expected:?}: {found}")));
            }
            let scales = self.entries.remove(&scales).map(|e| (e.shard, e.range, group));
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.scales = scales;
            }
        }
        Ok(())
    }

    /// All names, sorted. Scales of int8 tensors are part of their tensor and have no name of their own here.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Names and shapes, sorted by name.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.entries.iter().map(|(name, e)| (name.as_str(), e.shape.as_slice()))
    }

    /// Bytes of all tensors in the files, scales included.
    pub fn bytes(&self) -> u64 {
        self.entries.values().map(|e| (e.range.len() + e.scales.as_ref().map_or(0, |s| s.1.len())) as u64).sum()
    }

    /// Numbers in all tensors, scales not counted.
    pub fn elements(&self) -> u64 {
        self.entries.values().map(|e| e.shape.iter().product::<usize>() as u64).sum()
    }

    /// The tensor `name` in the type and shape of the file.
    pub fn get(&self, name: &str) -> Result<HostTensor<'_>> {
        let entry = self.entry(name)?;
        entry.used.store(true, Ordering::Relaxed);
        let scales = entry.scales.as_ref().map(|(shard, range, group)| (&self.shards[*shard][range.clone()], *group));
        Ok(HostTensor {
            dtype: entry.dtype,
            shape: &entry.shape,
            data: &self.shards[entry.shard][entry.range.clone()],
            scales,
        })
    }

    /// The tensor `name`, which must have `shape`.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<HostTensor<'_>> {
        let tensor = self.get(name)?;
        if tensor.shape != shape {
            let (found, expected) = (tensor.shape.to_vec(), shape.to_vec());
            return Err(WeightsError::Shape { file: self.file.clone(), name: name.into(), found, expected });
        }
        Ok(tensor)
    }

    /// All numbers of the tensor `name` as f32, int8 expanded; refuses NaN and infinities.
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>> {
        let values = expand(&self.get(name)?);
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(values),
            Some(at) => {
                let problem = format!("has the value {} at index {at}: all numbers must be finite", values[at]);
                Err(WeightsError::Tensor { file: self.file.clone(), tensor: name.into(), problem })
            }
        }
    }

    /// [`TensorSet::to_f32`] of a tensor that must have `shape`.
    pub fn expect_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.expect(name, shape)?;
        self.to_f32(name)
    }

    /// Refuses a set that is not exactly `expected`: every name there with its shape, and no other.
    pub fn check(&self, expected: &[(String, Vec<usize>)]) -> Result<()> {
        let known: BTreeSet<&str> = expected.iter().map(|(n, _)| n.as_str()).collect();
        // A misspelt name shows as one missing and one unknown tensor; each points to the other.
        for (name, shape) in expected {
            match self.entries.get(name) {
                Some(e) if e.shape == *shape => {}
                Some(e) => {
                    let (found, expected) = (e.shape.clone(), shape.clone());
                    return Err(WeightsError::Shape { file: self.file.clone(), name: name.clone(), found, expected });
                }
                None => {
                    let strangers = self.names().filter(|n| !known.contains(n));
                    let nearest = nearest(name, strangers).map(String::from);
                    return Err(WeightsError::MissingTensor { file: self.file.clone(), name: name.clone(), nearest });
                }
            }
        }
        match self.names().find(|n| !known.contains(n)) {
            Some(name) => Err(self.unknown(name, known.iter().copied())),
            None => Ok(()),
        }
    }

    /// Refuses a set from which some tensor was never asked for (by [`TensorSet::get`] and what builds on it): called at the end of loading.
    pub fn check_all_used(&self) -> Result<()> {
        let is_used = |e: &Entry| e.used.load(Ordering::Relaxed);
        match self.entries.iter().find(|(_, e)| !is_used(e)) {
            Some((name, _)) => {
                Err(self.unknown(name, self.entries.iter().filter(|(_, e)| is_used(e)).map(|(n, _)| n.as_str())))
            }
            None => Ok(()),
        }
    }

    fn unknown<'a>(&self, name: &str, known: impl Iterator<Item = &'a str>) -> WeightsError {
        let nearest = nearest(name, known).map(String::from);
        WeightsError::UnknownTensor { file: self.file.clone(), name: name.into(), nearest }
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            let nearest = nearest(name, self.names()).map(String::from);
            WeightsError::MissingTensor { file: self.file.clone(), name: name.into(), nearest }
        })
    }
}

fn read_file(storage: &Storage, file: &str) -> Result<(Bytes, Vec<Raw>)> {
    let bytes = storage.map(file)?.ok_or_else(|| WeightsError::MissingFile {
        location: storage.location(),
        file: file.into(),
        remedy: "the index names it; fetch all shards".into(),
    })?;
    let raws = header::read(file, &bytes)?;
    Ok((bytes, raws))
}

/// Reads all shards; each must hold exactly the tensors that the index places in it.
fn read_shards(
    storage: &Storage,
    index_file: &str,
    index: &BTreeMap<String, BTreeSet<String>>,
    at: &dyn Fn(&str) -> String,
) -> Result<Vec<(Bytes, Vec<Raw>)>> {
    let mut parts = Vec::with_capacity(index.len());
    for (shard, names) in index {
        let file = at(shard);
        let (bytes, raws) = read_file(storage, &file)?;
        let bad =
            |tensor: &str, problem: String| WeightsError::Tensor { file: file.clone(), tensor: tensor.into(), problem };
        let found: BTreeSet<&str> = raws.iter().map(|r| r.name.as_str()).collect();
        if let Some(name) = names.iter().find(|n| !found.contains(n.as_str())) {
            return Err(bad(name, format!("is missing, {index_file} says that it is there: fetch both again")));
        }
        if let Some(name) = found.iter().find(|n| !names.contains(**n)) {
            return Err(bad(
                name,
                format!("is not placed in this shard by {index_file}: every tensor must be in exactly one shard"),
            ));
        }
        parts.push((bytes, raws));
    }
    Ok(parts)
}

fn expand(t: &HostTensor<'_>) -> Vec<f32> {
    let halves =
        |bytes: &[u8], f: fn([u8; 2]) -> f32| bytes.as_chunks::<2>().0.iter().map(|b| f(*b)).collect::<Vec<f32>>();
    let from_f16 = |b| f16::from_le_bytes(b).to_f32();
    match t.dtype {
        HostType::F32 => t.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        HostType::F16 => halves(t.data, from_f16),
        HostType::Bf16 => halves(t.data, |b| bf16::from_le_bytes(b).to_f32()),
        HostType::I8 => {
            // Scales are always there: `join_scales` refuses an int8 tensor without them.
            let (scales, group) = t.scales.unwrap_or((&[], 1));
            let scales = halves(scales, from_f16);
            t.data.chunks(group).zip(scales).flat_map(|(q, s)| q.iter().map(move |q| f32::from(*q as i8) * s)).collect()
        }
    }
}
