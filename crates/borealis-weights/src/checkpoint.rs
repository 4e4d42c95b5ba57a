//! A checkpoint: its files, its manifest, its tensors.

use crate::foreign::{self, Source, Translation};
use crate::json::{Node, parse_json};
use crate::manifest::{Manifest, Quantization};
use crate::shards::Shards;
use crate::storage::{Bytes, Embedded, Storage};
use crate::{Result, TensorSet, WeightsError};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The files that are read whole, and the most bytes of each. Emu3's `config.json` holds its vocabulary.
const FILES: [(&str, u64); 10] = [
    (CONFIG, 16 << 20),
    (GENERATION, 1 << 20),
    ("tokenizer.json", 64 << 20),
    ("tokenizer_config.json", 32 << 20),
    ("preprocessor_config.json", 1 << 20),
    ("video_tokenizer/config.json", 1 << 20),
    ("audio_tokenizer/config.json", 1 << 20),
    ("image_tokenizer/config.json", 1 << 20),
    ("image_decoder/config.json", 1 << 20),
    ("vision_tower/config.json", 1 << 20),
];
const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
/// The configuration of a foreign checkpoint as its makers wrote it.
const SOURCE: &str = "source_config.json";
/// The folders with tensors; "" is the checkpoint's own.
const SETS: [&str; 6] = ["", "video_tokenizer", "audio_tokenizer", "image_tokenizer", "image_decoder", "vision_tower"];

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
            Storage::Folder(root, _) => root.file_name().map(|n| n.to_string_lossy().into_owned()),
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
        if let Some(bytes) = storage.read(SOURCE, FILES[0].1)? {
            files.insert(SOURCE, bytes);
        }
        let config = json(&files, CONFIG)?.ok_or_else(|| missing(&storage, CONFIG))?;
        let generation = json(&files, GENERATION)?;
        let mut sets = BTreeMap::new();
        let (config, generation) = match foreign::is_native(&config) || config.get("model_type").is_none() {
            true => (config, generation),
            false => Self::translate(&storage, &config, generation.as_ref(), &mut files, &mut sets)?,
        };
        let manifest = Manifest::new(&config, generation.as_ref())?;
        for folder in SETS {
            if sets.contains_key(folder) {
                continue;
            }
            let quantization = match folder {
                "" => manifest.quantization,
                _ => {
                    let file = FILES.iter().find(|(f, _)| f.strip_suffix("/config.json") == Some(folder));
                    file.map_or(Ok(None), |(file, _)| quantization(file, json(&files, file)?))?
                }
            };
            if let Some(shards) = Shards::open(&storage, folder)? {
                sets.insert(folder, TensorSet::native(shards, quantization)?);
            }
        }
        if !sets.contains_key("") {
            return Err(missing(&storage, "model.safetensors"));
        }
        Ok(Self { storage, name, manifest, files, sets })
    }

    /// Translates a foreign checkpoint: puts our configurations in the place of its own, and its tensors under our names into `sets`.
    fn translate(
        storage: &Storage,
        config: &Value,
        generation: Option<&Value>,
        files: &mut BTreeMap<&'static str, Bytes>,
        sets: &mut BTreeMap<&'static str, TensorSet>,
    ) -> Result<(Value, Option<Value>)> {
        // The configuration is judged before a large file is opened.
        let shards = Shards::open(storage, "");
        let names: BTreeSet<&str> = shards.iter().flatten().flat_map(|s| s.names()).collect();
        let source = Source { config, generation, has: &|name| names.contains(name) };
        let Translation { config: ours, generation, sets: configs, names } = foreign::translate(&source)?;
        let shards = shards?.ok_or_else(|| missing(storage, "model.safetensors"))?;
        sets.append(&mut TensorSet::renamed(shards, &names)?);
        let text = |value: &Value| Bytes::Owned(value.to_string().into_bytes());
        for (folder, value) in configs.iter().filter(|(folder, _)| sets.contains_key(folder)) {
            if let Some((file, _)) = FILES.iter().find(|(f, _)| f.strip_suffix("/config.json") == Some(folder)) {
                files.insert(file, text(value));
            }
        }
        if let Some(original) = files.insert(CONFIG, text(&ours)) {
            files.insert(SOURCE, original);
        }
        files.insert(GENERATION, text(&generation));
        Ok((ours, Some(generation)))
    }

    /// What `config.json` and `generation_config.json` say, checked.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bytes of a file: `config.json`, `generation_config.json`, `source_config.json`, `tokenizer.json`, `tokenizer_config.json`, `preprocessor_config.json`,
    /// and `config.json` of `video_tokenizer`, `audio_tokenizer`, `image_tokenizer`, `image_decoder` or `vision_tower`.
    pub fn file(&self, name: &str) -> Result<&[u8]> {
        self.files.get(name).map(|b| &**b).ok_or_else(|| missing(&self.storage, name))
    }

    /// The files that it has, by name.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (*name, &**bytes))
    }

    /// Its sets of tensors, by folder.
    pub fn sets(&self) -> impl Iterator<Item = (&'static str, &TensorSet)> {
        self.sets.iter().map(|(folder, set)| (*folder, set))
    }

    /// The tensors of the transformer (""), of `video_tokenizer`, `audio_tokenizer`, `image_tokenizer`, `image_decoder` or `vision_tower`.
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

fn json(files: &BTreeMap<&'static str, Bytes>, file: &str) -> Result<Option<Value>> {
    files.get(file).map(|bytes| parse_json(file, bytes)).transpose()
}

fn quantization(file: &str, config: Option<Value>) -> Result<Option<Quantization>> {
    config.map_or(Ok(None), |value| Quantization::read(&Node::root(file, &value)))
}

/// What makers who pickle their weights call them.
const PICKLED: [&str; 3] = ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"];

fn missing(storage: &Storage, file: &str) -> WeightsError {
    let pickled = PICKLED.iter().find(|name| storage.exists(name));
    let remedy = match file {
        "model.safetensors" if pickled.is_some() => {
            "its weights are pickled, which may run code and is not read: convert them to safetensors"
        }
        "config.json" => "give the folder that holds a checkpoint (see weights.md)",
        "tokenizer.json" => "this checkpoint has no text tokenizer",
        f if f.starts_with("video_tokenizer") => "this checkpoint cannot read or make pictures",
        f if f.starts_with("image_") => "put the picture tokenizer's files into that folder",
        f if f.starts_with("vision_tower") => "this checkpoint does not look at pictures",
        f if f.starts_with("audio_tokenizer") => "this checkpoint cannot read or make sound",
        _ => "the checkpoint is not complete, fetch it again",
    };
    WeightsError::MissingFile { location: storage.location(), file: file.into(), remedy: remedy.into() }
}
