//! Synthetic checkpoints for tests (feature `testing`): any configuration, with tensors of seeded random numbers.
//!
//! ```
//! use borealis_weights::testing::{CheckpointBuilder, tiny_config};
//! let names = [("model.norm.weight".to_string(), vec![64])];
//! let checkpoint = CheckpointBuilder::new(tiny_config()).tensors("", &names, 7).open()?;
//! checkpoint.tensors("")?.check(&names)?;
//! # Ok::<(), borealis_weights::WeightsError>(())
//! ```

mod config;
mod synth;

use crate::{Checkpoint, WeightsError};
use borealis_kernels::{GROUP, HostType, quantise};
use half::{bf16, f16};
use safetensors::{Dtype, serialize, tensor::TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

pub use config::{text_config, tiny_config};
pub use synth::{synth, uniform};

/// One tensor in its file type.
#[derive(Debug, Clone)]
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

/// Builds the files of a checkpoint. Nothing is checked: it can also build bad ones.
#[derive(Debug, Clone)]
pub struct CheckpointBuilder {
    files: BTreeMap<String, Vec<u8>>,
    tensors: BTreeMap<String, BTreeMap<String, Stored>>,
    dtype: HostType,
    shards: usize,
}

impl CheckpointBuilder {
    /// A checkpoint with this `config.json`.
    pub fn new(config: Value) -> Self {
        let builder = Self { files: BTreeMap::new(), tensors: BTreeMap::new(), dtype: HostType::F32, shards: 1 };
        builder.json("config.json", &config)
    }

    /// Adds or replaces a JSON file.
    pub fn json(self, name: &str, value: &Value) -> Self {
        self.file(name, value.to_string().into_bytes())
    }

    /// Adds or replaces a file.
    pub fn file(mut self, name: &str, bytes: Vec<u8>) -> Self {
        self.files.insert(name.into(), bytes);
        self
    }

    /// Type of the tensors that are added from now on. With I8 or I4, matrices whose columns are a multiple of 64 become int8 or int4 in groups of 64
    /// (`quantization` is added to the configuration); norms, routers, biases and row kinds stay F32.
    pub fn dtype(mut self, dtype: HostType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Number of files for the transformer's tensors; more than 1 writes an index.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards.max(1);
        self
    }

    /// Adds tensors of seeded random numbers ([`synth`]) to `folder` ("" = the transformer).
    pub fn tensors(mut self, folder: &str, names: &[(String, Vec<usize>)], seed: u64) -> Self {
        for (name, shape) in names {
            self = self.tensor(folder, name, shape, &synth(seed, name, shape));
        }
        self
    }

    /// Adds one tensor.
    pub fn tensor(mut self, folder: &str, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let set = self.tensors.entry(folder.into()).or_default();
        if let [outer @ .., columns] = shape
            && self.dtype.coded()
            && is_quantised(name, shape)
        {
            let (format, mut codes, mut scales) = (self.dtype.format(), Vec::new(), Vec::new());
            values.chunks_exact(*columns).for_each(|row| quantise(row, format, &mut codes, &mut scales));
            let shape = |columns: usize| [outer, &[columns]].concat();
            let (dtype, width) =
                if self.dtype == HostType::I4 { (Dtype::U8, columns / 2) } else { (Dtype::I8, *columns) };
            set.insert(
                format!("{name}.scales"),
                Stored { dtype: Dtype::F16, shape: shape(columns / GROUP), data: scales },
            );
            set.insert(name.into(), Stored { dtype, shape: shape(width), data: codes });
            return self.mark_quantised(folder);
        }
        let (dtype, data) = match self.dtype {
            HostType::F16 => (Dtype::F16, values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()),
            HostType::Bf16 => (Dtype::BF16, values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()),
            HostType::F32 | HostType::I8 | HostType::I4 => {
                (Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
        };
        set.insert(name.into(), Stored { dtype, shape: shape.to_vec(), data });
        self
    }

    fn mark_quantised(mut self, folder: &str) -> Self {
        let name = if folder.is_empty() { "config.json".into() } else { format!("{folder}/config.json") };
        let mut config: Value =
            self.files.get(&name).and_then(|b| serde_json::from_slice(b).ok()).unwrap_or_else(|| json!({}));
        config["quantization"] = json!({"format": self.dtype.format().name(), "group": GROUP});
        self.files.insert(name, config.to_string().into_bytes());
        self
    }

    /// All files of the checkpoint: (path, bytes).
    pub fn build(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut files: BTreeMap<String, Vec<u8>> = self.files.clone();
        for (folder, set) in &self.tensors {
            let at = |name: &str| if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
            if self.shards == 1 || !folder.is_empty() {
                files.insert(at("model.safetensors"), file_of(set.iter())?);
                continue;
            }
            let mut map = BTreeMap::new();
            for shard in 0..self.shards {
                let name = format!("model-{:05}-of-{:05}.safetensors", shard + 1, self.shards);
                let part: Vec<_> =
                    set.iter().enumerate().filter(|(i, _)| i % self.shards == shard).map(|(_, t)| t).collect();
                map.extend(part.iter().map(|(tensor, _)| ((*tensor).clone(), name.clone())));
                files.insert(name, file_of(part.into_iter())?);
            }
            let index = json!({"metadata": {}, "weight_map": map});
            files.insert("model.safetensors.index.json".into(), index.to_string().into_bytes());
        }
        Ok(files.into_iter().collect())
    }

    /// Opens the checkpoint from memory.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    ///
    /// # Panics
    /// When a tensor's values do not fit its shape.
    pub fn open(&self) -> Result<Checkpoint, WeightsError> {
        Checkpoint::from_files(self.build().expect("values fit their shapes"))
    }

    /// Writes the files into a folder.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        for (name, bytes) in self.build()? {
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, bytes)?;
        }
        Ok(())
    }
}

fn file_of<'a>(set: impl Iterator<Item = (&'a String, &'a Stored)>) -> io::Result<Vec<u8>> {
    let views: Result<Vec<_>, _> =
        set.map(|(n, t)| TensorView::new(t.dtype, t.shape.clone(), &t.data).map(|v| (n, v))).collect();
    views.and_then(|v| serialize(v, None)).map_err(io::Error::other)
}

/// Whether quantised checkpoints hold this tensor as codes (`weights.md`, section 10).
fn is_quantised(name: &str, shape: &[usize]) -> bool {
    let kept = ["norm.weight", "layernorm.weight", "mlp.gate.weight", "bias", "row_kinds.weight"];
    shape.len() >= 2 && shape.last().is_some_and(|n| n.is_multiple_of(64)) && !kept.iter().any(|k| name.ends_with(k))
}
