//! The index of a sharded model: which tensor lies in which file.

use crate::json::{Node, parse_json};
use crate::{Result, WeightsError};
use std::collections::{BTreeMap, BTreeSet};

/// Most shards of one model.
const MAX_SHARDS: usize = 1024;

/// `weight_map` of an index, by shard: (file name, names of its tensors). Shard names are plain file names beside the index.
pub(crate) fn read(file: &str, bytes: &[u8]) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let value = parse_json(file, bytes)?;
    let root = Node::root(file, &value);
    root.only(&["metadata", "weight_map"])?;
    let map = root.get("weight_map")?;
    let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tensor, node) in map.entries()? {
        let shard = node.string()?;
        let plain =
            !shard.contains(['/', '\\', '\0', ':']) && !shard.starts_with('.') && shard.ends_with(".safetensors");
        if !plain {
            return Err(WeightsError::Outside {
                file: format!("{file}: weight_map.{tensor}: \"{shard}\""),
                problem: "not a plain file name".into(),
            });
        }
        shards.entry(shard.to_string()).or_default().insert(tensor.to_string());
    }
    if shards.is_empty() || shards.len() > MAX_SHARDS {
        return Err(map.fail(format!("must name the tensors of 1 to {MAX_SHARDS} shards")));
    }
    Ok(shards)
}
