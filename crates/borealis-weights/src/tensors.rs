//! The tensors of one model by canonical name.

use crate::blocks::{self, Blocks};
use crate::header::Raw;
use crate::names::{NameMap, Piece, Place};
use crate::shards::Shards;
use crate::stack::Stack;
use crate::storage::Bytes;
use crate::{Quantization, Result, WeightsError, nearest};
use borealis_kernels::{HostTensor, HostType, QuantFormat};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ending of the scales of an int8 or int4 tensor.
const SCALES: &str = ".scales";

/// Tensors by name. All names, types, shapes and offsets were checked when it was opened; values are read from the mapped file when asked for.
#[derive(Debug)]
pub struct TensorSet {
    /// The file, or the index of the shards, for messages.
    file: String,
    shards: Arc<Vec<Bytes>>,
    entries: BTreeMap<String, Entry>,
    /// Parts that are expanded when they are read.
    blocks: Arc<Blocks>,
    /// For messages in the names of the file.
    names: NameMap,
    set: &'static str,
}

/// Bytes of a shard.
pub(crate) type Part = (usize, Range<usize>);

#[derive(Debug)]
struct Entry {
    dtype: HostType,
    shape: Vec<usize>,
    /// The data, one part after another; several for stacks that the file keeps apart.
    parts: Vec<Part>,
    /// The scales, and the elements per scale.
    scales: Option<(Part, usize)>,
    used: AtomicBool,
}

/// A tensor as it lies in the file; parts that lie apart are put together.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    /// Element type.
    pub dtype: HostType,
    /// Shape, outermost first.
    pub shape: &'a [usize],
    /// Little-endian bytes.
    pub data: Cow<'a, [u8]>,
    /// For int8 and int4: the f16 bytes of the scales, and the elements per scale.
    pub scales: Option<(&'a [u8], usize)>,
}

impl Tensor<'_> {
    /// For a backend.
    pub fn host(&self) -> HostTensor<'_> {
        HostTensor { dtype: self.dtype, shape: self.shape, data: &self.data, scales: self.scales }
    }
}

/// A piece of a stack: which one, and where it lies.
struct Stacked {
    piece: usize,
    raw: Raw,
    shard: usize,
}

impl TensorSet {
    /// Tensors under the names that they have in the file.
    pub(crate) fn native(shards: Shards, quantization: Option<Quantization>) -> Result<Self> {
        let mut set = Self::empty(&shards.file, "", NameMap::default());
        let mut bytes = Vec::new();
        for (shard, (data, raws)) in shards.parts.into_iter().enumerate() {
            bytes.push(data);
            for raw in raws {
                let four = quantization.is_some_and(|q| q.format == QuantFormat::Int4);
                let dtype = if four && raw.dtype == Ok(HostType::I4) { HostType::I4 } else { set.dtype(&raw)? };
                set.entries.insert(raw.name, Entry::new(dtype, raw.shape, vec![(shard, raw.range)]));
            }
        }
        set.shards = Arc::new(bytes);
        set.join_scales(quantization)?;
        Ok(set)
    }

    /// Tensors of a tokenizer under their published names; bookkeeping of the training is left out.
    pub(crate) fn as_published(shards: Shards) -> Result<Self> {
        let file = shards.file.clone();
        let mut sets = Self::renamed(shards, &NameMap::default())?;
        Ok(sets.remove("").unwrap_or_else(|| Self::empty(&file, "", NameMap::default())))
    }

    /// Tensors of another maker, renamed and stacked: the sets that the name table makes of them.
    pub(crate) fn renamed(mut shards: Shards, names: &NameMap) -> Result<BTreeMap<&'static str, Self>> {
        let blocks = Arc::new(blocks::join(&mut shards, names.blocks)?);
        let mut sets: BTreeMap<&'static str, Self> = BTreeMap::new();
        let mut stacks: BTreeMap<(&'static str, String), Vec<Stacked>> = BTreeMap::new();
        let mut bytes = Vec::new();
        for (shard, (data, raws)) in shards.parts.into_iter().enumerate() {
            bytes.push(data);
            for raw in raws {
                let Some(Place { set, name, piece, expert }) = names.place(&raw.name) else { continue };
                let name = name.into_owned();
                let target = sets.entry(set).or_insert_with(|| Self::empty(&shards.file, set, names.clone()));
                let piece = match piece {
                    Piece::Gate => 2 * expert,
                    Piece::Up => 2 * expert + 1,
                    Piece::Down => expert,
                    Piece::Whole | Piece::Dropped => {
                        let (dtype, parts) = (target.dtype(&raw)?, vec![(shard, raw.range.clone())]);
                        if target.entries.insert(name.clone(), Entry::new(dtype, raw.shape, parts)).is_some() {
                            return Err(target.bad(&raw.name, format!("is there twice: as {name}, too")));
                        }
                        continue;
                    }
                };
                stacks.entry((set, name)).or_default().push(Stacked { piece, raw, shard });
            }
        }
        for ((set, name), pieces) in stacks {
            if let Some(target) = sets.get_mut(set) {
                let entry = target.stacked(&name, pieces)?;
                target.entries.insert(name, entry);
            }
        }
        let bytes = Arc::new(bytes);
        sets.values_mut().for_each(|s| (s.shards, s.blocks) = (bytes.clone(), blocks.clone()));
        Ok(sets)
    }

    fn empty(file: &str, set: &'static str, names: NameMap) -> Self {
        Self { file: file.into(), shards: Arc::default(), entries: BTreeMap::new(), blocks: Arc::default(), names, set }
    }

    fn bad(&self, tensor: &str, problem: String) -> WeightsError {
        WeightsError::Tensor { file: self.file.clone(), tensor: tensor.into(), problem }
    }

    fn dtype(&self, raw: &Raw) -> Result<HostType> {
        match &raw.dtype {
            Ok(HostType::I4) => Err(self.bad(
                &raw.name,
                "has type U8: use F32, F16, BF16 or I8, or say \"quantization\": {\"format\": \"int4\", \"group\": 64} in config.json".into(),
            )),
            Ok(dtype) => Ok(*dtype),
            Err(name) => Err(self.bad(&raw.name, format!("has type {name}: use F32, F16, BF16 or I8"))),
        }
    }

    /// Puts the experts' matrices of one layer together: `[E, rows, columns]`, gate and up of an expert one above the other.
    fn stacked(&self, name: &str, mut pieces: Vec<Stacked>) -> Result<Entry> {
        pieces.sort_by_key(|p| p.piece);
        let per_expert = if self.names.is_pair(self.set, name) { 2 } else { 1 };
        let wanted = self.names.experts * per_expert;
        let published = |piece: usize| self.names.published(self.set, name, piece);
        for piece in 0..wanted {
            if pieces.get(piece).map(|p| p.piece) != Some(piece) {
                let all = pieces.iter().map(|p| p.raw.name.as_str());
                let nearest = nearest(&published(piece), all).map(String::from);
                return Err(WeightsError::MissingTensor { file: self.file.clone(), name: published(piece), nearest });
            }
        }
        if let Some(extra) = pieces.get(wanted) {
            return Err(self.unknown(&extra.raw.name, pieces[..wanted].iter().map(|p| p.raw.name.as_str())));
        }
        let first = &pieces[0].raw;
        let (dtype, shape) = (self.dtype(first)?, first.shape.clone());
        if dtype.coded() || shape.len() != 2 {
            return Err(
                self.bad(&first.name, format!("is {dtype:?} {shape:?}: an expert's matrix has two axes of floats"))
            );
        }
        if let Some(other) = pieces.iter().map(|p| &p.raw).find(|r| r.shape != shape || r.dtype != first.dtype) {
            let what = format!(
                "is {:?} {:?}, the expert before it {dtype:?} {shape:?}: experts are of one size",
                other.dtype, other.shape
            );
            return Err(self.bad(&other.name, what));
        }
        let shape = vec![self.names.experts, per_expert * shape[0], shape[1]];
        Ok(Entry::new(dtype, shape, pieces.into_iter().map(|p| (p.shard, p.raw.range)).collect()))
    }

    /// Attaches `<name>.scales` to the int8 or int4 tensor `<name>` (weights.md, section 10).
    fn join_scales(&mut self, quantization: Option<Quantization>) -> Result<()> {
        let quantised: Vec<String> =
            self.entries.iter().filter(|(_, e)| e.dtype.coded()).map(|(n, _)| n.clone()).collect();
        for name in quantised {
            let bad = |problem: String| self.bad(&name, problem);
            let entry = &self.entries[&name];
            let format = entry.dtype.format().name();
            let label = if entry.dtype == HostType::I4 { "U8" } else { "I8" };
            let Some(Quantization { group, .. }) = quantization.filter(|q| q.format == entry.dtype.format()) else {
                let problem = format!(
                    "is {label} but config.json has no \"quantization\" of this type: add {{\"format\": \"{format}\", \"group\": 64}}"
                );
                return Err(bad(problem));
            };
            let Some((&last, outer)) = entry.shape.split_last() else {
                return Err(bad(format!("is {label} and has no axes: {format} tensors are matrices")));
            };
            if !last.is_multiple_of(group) || outer.is_empty() {
                return Err(bad(format!(
                    "is {label} with {last} columns: {format} tensors are matrices whose columns are a multiple of the group, {group}"
                )));
            }
            let mut expected = outer.to_vec();
            expected.push(last / group);
            let scales = format!("{name}{SCALES}");
            let found = self.entries.get(&scales).map(|e| (e.dtype, e.shape.clone()));
            if found != Some((HostType::F16, expected.clone())) {
                let found = found.map_or("it is missing".into(), |(t, s)| format!("it is {t:?} {s:?}"));
                return Err(bad(format!("is {label} and needs {scales} as F16 {expected:?}: {found}")));
            }
            let scales = self.entries.remove(&scales).and_then(|mut e| Some((e.parts.pop()?, group)));
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.scales = scales;
            }
        }
        Ok(())
    }

    /// All names, sorted. Scales of int8 and int4 tensors are part of their tensor and have no name of their own here.
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

    /// Name, type, shape and bytes in the file (scales included) of every tensor, sorted by name.
    pub fn stored(&self) -> impl Iterator<Item = (&str, HostType, &[usize], u64)> {
        self.entries.iter().map(|(name, e)| (name.as_str(), e.dtype, e.shape.as_slice(), e.bytes()))
    }

    /// Bytes of all tensors in the files, scales included.
    pub fn bytes(&self) -> u64 {
        self.entries.values().map(Entry::bytes).sum()
    }

    /// Numbers in all tensors, scales not counted.
    pub fn elements(&self) -> u64 {
        self.entries.values().map(|e| e.shape.iter().product::<usize>() as u64).sum()
    }

    /// The tensor `name` in the type and shape of the file.
    pub fn get(&self, name: &str) -> Result<Tensor<'_>> {
        let entry = self.entry(name)?;
        entry.used.store(true, Ordering::Relaxed);
        let data = match entry.parts.as_slice() {
            [part] => self.expanded(part),
            parts => Cow::Owned(parts.iter().map(|p| self.expanded(p)).collect::<Vec<_>>().concat()),
        };
        let scales = entry.scales.as_ref().map(|(part, group)| (self.part(part), *group));
        Ok(Tensor { dtype: entry.dtype, shape: &entry.shape, data, scales })
    }

    /// The data of the tensor `name` piece by piece: of a stack that the file keeps apart, one matrix after another. Nothing is copied but
    /// what is expanded.
    pub fn pieces(&self, name: &str) -> Result<impl Iterator<Item = Cow<'_, [u8]>>> {
        Ok(self.entry(name)?.parts.iter().map(|p| self.expanded(p)))
    }

    /// Whether the file has smaller numbers than [`TensorSet::get`] gives: 8-bit floats with scales of blocks.
    pub fn is_expanded(&self, name: &str) -> bool {
        self.entries
            .get(name)
            .is_some_and(|e| e.parts.iter().any(|(shard, r)| self.blocks.contains_key(&(*shard, r.start))))
    }

    /// The f16 bytes of the scales of an int8 or int4 tensor, and the elements per scale.
    pub fn scales(&self, name: &str) -> Result<Option<(&[u8], usize)>> {
        Ok(self.entry(name)?.scales.as_ref().map(|(part, group)| (self.part(part), *group)))
    }

    fn expanded(&self, part: &Part) -> Cow<'_, [u8]> {
        blocks::expanded(&self.blocks, &self.shards, part)
    }

    fn part(&self, (shard, range): &Part) -> &[u8] {
        &self.shards[*shard][range.clone()]
    }

    /// The tensor `name`, which must have `shape`.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>> {
        self.described(name, shape)?;
        self.get(name)
    }

    /// The matrices of the tensor `name`, which must have `shape`: a handle that may outlive the checkpoint.
    pub fn stack(&self, name: &str, shape: [usize; 3]) -> Result<Stack> {
        let entry = self.described(name, &shape)?;
        entry.used.store(true, Ordering::Relaxed);
        let (parts, scales) = (entry.parts.clone(), entry.scales.clone());
        Ok(Stack::new((entry.dtype, shape), parts, scales, self.shards.clone(), self.blocks.clone()))
    }

    /// Tells the system that the memory in which it keeps a tensor of a mapped file may go; who asks for it again reads the file again.
    pub fn release(&self, name: &str) -> Result<()> {
        let parts = &self.entry(name)?.parts;
        parts.iter().for_each(|(shard, range)| self.shards[*shard].release(range.clone()));
        Ok(())
    }

    fn described(&self, name: &str, shape: &[usize]) -> Result<&Entry> {
        let entry = self.entry(name)?;
        if entry.shape == shape { Ok(entry) } else { Err(self.misshaped(name, entry, shape)) }
    }

    /// All numbers of the tensor `name` as f32, int8 and int4 expanded; refuses NaN and infinities.
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>> {
        let bad = |problem| WeightsError::Tensor { file: self.file.clone(), tensor: name.into(), problem };
        let values = self.get(name)?.host().to_f32().map_err(|e| bad(e.to_string()))?;
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(values),
            Some(at) => Err(bad(format!("has the value {} at index {at}: all numbers must be finite", values[at]))),
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
                Some(e) => return Err(self.misshaped(name, e, shape)),
                None => return Err(self.missing(name, self.names().filter(|n| !known.contains(n)))),
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

    fn misshaped(&self, name: &str, entry: &Entry, expected: &[usize]) -> WeightsError {
        let (found, expected) = (entry.shape.clone(), expected.to_vec());
        WeightsError::Shape { file: self.file.clone(), name: self.in_file(name), found, expected }
    }

    /// The name that a tensor has in the file.
    fn in_file(&self, name: &str) -> String {
        self.names.published(self.set, name, 0)
    }

    fn missing<'a>(&self, name: &str, strangers: impl Iterator<Item = &'a str>) -> WeightsError {
        let (name, strangers): (_, Vec<String>) = (self.in_file(name), strangers.map(|n| self.in_file(n)).collect());
        let nearest = nearest(&name, strangers.iter().map(String::as_str)).map(String::from);
        WeightsError::MissingTensor { file: self.file.clone(), name, nearest }
    }

    fn unknown<'a>(&self, name: &str, known: impl Iterator<Item = &'a str>) -> WeightsError {
        let (name, known): (_, Vec<String>) = (self.in_file(name), known.map(|n| self.in_file(n)).collect());
        let nearest = nearest(&name, known.iter().map(String::as_str)).map(String::from);
        WeightsError::UnknownTensor { file: self.file.clone(), name, nearest }
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| self.missing(name, self.names()))
    }
}

impl Entry {
    fn new(dtype: HostType, shape: Vec<usize>, parts: Vec<Part>) -> Self {
        Self { dtype, shape, parts, scales: None, used: AtomicBool::new(false) }
    }

    fn bytes(&self) -> u64 {
        self.parts.iter().chain(self.scales.iter().map(|s| &s.0)).map(|(_, range)| range.len() as u64).sum()
    }
}
