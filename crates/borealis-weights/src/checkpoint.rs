//! A checkpoint: its files, its manifest, its tensors.

use crate::json::{Node, parse_json};
use crate::manifest::{Manifest, Quantization};
use crate::storage::{Bytes, Embedded, Storage};
use crate::{Result, TensorSet, WeightsError};
use std::collections::BTreeMap;
use std::path::Path;

/// The configuration files that are read, and the most bytes of each.
const FILES: [(&str, u64); 5] = [
    ("config.json", 4 << 20),
    ("generation_config.json", 1 << 20),
    ("tokenizer.json", 64 << 20),
    ("video_tokenizer/config.json", 1 << 20),
    ("audio_tokenizer/config.json", 1 << 20),
];
/// The folders with tensors; "" is the checkpoint's own.
const SETS: [&str; 3] = ["", "video_tokenizer", "audio_tokenizer"];

/// An opened checkpoint: every configuration and every tensor header in it has been checked.
#[derive(Debug)]
pub struct Checkpoint {
    storage: Storage,
    name: String,
    manifest: Manifest,
    files: BTreeMap<&'static str, Bytes>,
    sets: BTreeMap<&'static str, TensorSet>,
}

impl Checkpoint {
    /// Opens the checkpoint in a folder. Reads headers only: milliseconds, whatever its size.
    pub fn open(path: &Path) -> Result<Self> {
        let storage = Storage::folder(path)?;
        let name = match &storage {
            Storage::Folder(root) => root.file_name().map(|n| n.to_string_lossy().into_owned()),
            Storage::Embedded(_) | Storage::Memory(_) => None,
        };
        Self::build(storage, name.unwrap_or_else(|| "checkpoint".into()))
    }

    /// Opens the checkpoint whose files are part of the binary: (path with forward slashes, bytes).
    pub fn embedded(files: Embedded) -> Result<Self> {
        Self::build(Storage::Embedded(files), "default".into())
    }

    /// Opens a checkpoint that lies in memory: (path with forward slashes, bytes).
    pub fn from_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self> {
        let files = files.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
        Self::build(Storage::Memory(files), "memory".into())
    }

    fn build(storage: Storage, name: String) -> Result<Self> {
        let mut files = BTreeMap::new();
        for (file, limit) in FILES {
            if let Some(bytes) = storage.read(file, limit)? {
                files.insert(file, bytes);
            }
        }
        let json = |file: &'static str| files.get(file).map(|bytes: &Bytes| parse_json(file, bytes)).transpose();
        let config = json("config.json")?.ok_or_else(|| missing(&storage, "config.json"))?;
        let manifest = Manifest::new(&config, json("generation_config.json")?.as_ref())?;
        let mut sets = BTreeMap::new();
        for folder in SETS {
            let quantization = match folder {
                "" => manifest.quantization,
                "video_tokenizer" => quantization("video_tokenizer/config.json", json("video_tokenizer/config.json")?)?,
                _ => quantization("audio_tokenizer/config.json", json("audio_tokenizer/config.json")?)?,
            };
            if let Some(set) = TensorSet::open(&storage, folder, quantization)? {
                sets.insert(folder, set);
            }
        }
        if !sets.contains_key("") {
            return Err(missing(&storage, "model.safetensors"));
        }
        Ok(Self { storage, name, manifest, files, sets })
    }

    /// What `config.json` and `generation_config.json` say, checked.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bytes of a configuration file: `config.json`, `generation_config.json`, `tokenizer.json`, `video_tokenizer/config.json` or `audio_tokenizer/config.json`.
    pub fn file(&self, name: &str) -> Result<&[u8]> {
        self.files.get(name).map(|b| &**b).ok_or_else(|| missing(&self.storage, name))
    }

    /// The tensors of the transformer (""), of `video_tokenizer` or of `audio_tokenizer`.
    pub fn tensors(&self, folder: &str) -> Result<&TensorSet> {
        self.sets.get(folder).ok_or_else(|| missing(&self.storage, &format!("{folder}/model.safetensors")))
    }

    /// Whether the checkpoint has that folder of tensors.
    pub fn has(&self, folder: &str) -> bool {
        self.sets.contains_key(folder)
    }

    /// A short name: the folder's, `default` for the embedded model, `memory` for one in memory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is, for messages: a path, `embedded model` or `model in memory`.
    pub fn location(&self) -> String {
        self.storage.location()
    }
}

fn quantization(file: &str, config: Option<serde_json::Value>) -> Result<Option<Quantization>> {
    config.map_or(Ok(None), |value| Quantization::read(&Node::root(file, &value)))
}

fn missing(storage: &Storage, file: &str) -> WeightsError {
    let remedy = match file {
        "config.json" => "give the folder that holds a checkpoint (see weights.md)",
        "tokenizer.json" => "this checkpoint has no text tokenizer",
        f if f.starts_with("video_tokenizer") => "this checkpoint cannot read or make pictures",
        f if f.starts_with("audio_tokenizer") => "this checkpoint cannot read or make sound",
        _ => "the checkpoint is not complete, fetch it again",
    };
    WeightsError::MissingFile { location: storage.location(), file: file.into(), remedy: remedy.into() }
}
