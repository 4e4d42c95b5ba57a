//! The safetensors files of one model: a single one, or several with an index.

use crate::header::{self, Raw};
use crate::storage::{Bytes, Storage};
use crate::{Result, WeightsError, index};
use std::collections::{BTreeMap, BTreeSet};

/// Largest index, bytes.
const MAX_INDEX: u64 = 32 << 20;

/// Mapped files with their checked headers.
#[derive(Debug)]
pub(crate) struct Shards {
    /// The file, or the index of the shards, for messages.
    pub file: String,
    pub parts: Vec<(Bytes, Vec<Raw>)>,
}

impl Shards {
    /// Opens `model.safetensors` or the shards named by `model.safetensors.index.json` in `folder` ("" = the checkpoint's own); `None` if neither is there.
    pub fn open(storage: &Storage, folder: &str) -> Result<Option<Self>> {
        let at = |name: &str| if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
        let (single, index_file) = (at("model.safetensors"), at("model.safetensors.index.json"));
        let parts = match (storage.exists(&single), storage.read(&index_file, MAX_INDEX)?) {
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
        let file = if parts.len() == 1 { single } else { index_file };
        Ok(Some(Self { file, parts }))
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|(_, raws)| raws).map(|r| r.name.as_str())
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
