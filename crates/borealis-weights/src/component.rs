//! A tokenizer that is a checkpoint of its own: a folder with `config.json` and tensors under their published names.

use crate::json::parse_json;
use crate::shards::Shards;
use crate::storage::Storage;
use crate::{Result, TensorSet, WeightsError};
use serde_json::Value;
use std::path::Path;

/// Largest `config.json`.
const MAX_CONFIG: u64 = 1 << 20;

/// An opened tokenizer folder. What its fields and names mean is for the tokenizer to say.
#[derive(Debug)]
pub struct Component {
    config: Value,
    tensors: TensorSet,
}

impl Component {
    /// Opens a folder with `config.json` and `model.safetensors` (or shards with an index).
    pub fn open(path: &Path) -> Result<Self> {
        let storage = Storage::folder(path)?;
        let missing = |file: &str, remedy: &str| WeightsError::MissingFile {
            location: storage.location(),
            file: file.into(),
            remedy: remedy.into(),
        };
        let file = "config.json";
        let bytes = storage.read(file, MAX_CONFIG)?.ok_or_else(|| missing(file, "give a tokenizer's folder"))?;
        let shards = Shards::open(&storage, "")?;
        let shards = shards.ok_or_else(|| missing("model.safetensors", "fetch it; pickled files are not read"))?;
        Ok(Self { config: parse_json(file, &bytes)?, tensors: TensorSet::as_published(shards)? })
    }

    /// Its `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Its tensors.
    pub fn tensors(&self) -> &TensorSet {
        &self.tensors
    }
}
