//! Checkpoints of other makers: their configuration becomes one of ours, their tensors get canonical names (`weights.md`, "Open checkpoints").

mod experts;
mod families;
mod known;
mod language;
mod rope;
mod vocabulary;

use crate::json::Node;
use crate::names::NameMap;
use crate::{Result, WeightsError};
use serde_json::{Map, Value, json};

pub use families::{FAMILIES, Family};
pub use rope::ROPE_SCALING;

/// A foreign checkpoint in our terms.
#[derive(Debug)]
pub(crate) struct Translation {
    /// `config.json` as we would write it.
    pub config: Value,
    /// `generation_config.json` as we would write it.
    pub generation: Value,
    /// Configurations of the other sets: (folder, its `config.json`).
    pub sets: Vec<(&'static str, Value)>,
    pub names: NameMap,
}

/// What a translation can look at.
pub(crate) struct Source<'a> {
    pub config: &'a Value,
    pub generation: Option<&'a Value>,
    /// Whether there is a tensor of this published name.
    pub has: &'a dyn Fn(&str) -> bool,
}

/// Whether a configuration is one of ours.
pub(crate) fn is_native(config: &Value) -> bool {
    config.get("model_type").and_then(Value::as_str) == Some("borealis")
}

/// Translates a configuration; refuses what we would compute wrongly, by name.
pub(crate) fn translate(source: &Source<'_>) -> Result<Translation> {
    let root = Node::root("config.json", source.config);
    let family = families::find(&root)?;
    let inner = family.inner.map(|key| root.get(key)).transpose()?;
    let node = inner.as_ref().unwrap_or(&root);
    known::check(&root, family)?;
    if inner.is_some() {
        known::check(node, family)?;
    }
    let mut config = language::read(node, family, source)?;
    let tied = tied(&root, node, family, source)?;
    config.insert("tie_word_embeddings".into(), json!(tied));
    vocabulary::add(&root, node, family, source, &mut config)?;
    let mut sets = Vec::new();
    for (key, folder) in [("vq_config", "image_tokenizer"), ("vision_config", "vision_tower")] {
        if let Some(n) = root.opt(key)? {
            sets.push((folder, set_config(&root, family, key, n.value())));
        }
    }
    let layers = config["num_hidden_layers"].as_u64().map(|n| n as usize);
    let names = NameMap {
        rules: family.rules,
        experts: config.get("num_experts").and_then(Value::as_u64).unwrap_or(0) as usize,
        tied,
        layers: layers.filter(|_| node.opt("num_nextn_predict_layers").is_ok_and(|n| n.is_some())),
        blocks: known::quantised(&root, family)?,
    };
    Ok(Translation { config: Value::Object(config), generation: generation(source.generation)?, sets, names })
}

/// The configuration of another set: `vq_config` with the kind of tokenizer that the family has, and Janus's number of places, which follows from its tower.
fn set_config(root: &Node<'_>, family: &Family, key: &str, value: &Value) -> Value {
    let mut value = value.clone();
    let Some(fields) = value.as_object_mut().filter(|_| key == "vq_config") else { return value };
    fields.entry("model_type").or_insert_with(|| json!(format!("{}_vqgan", family.name)));
    let tower = root.value().get("vision_config");
    let size = |key: &str, default: u64| match tower.and_then(|t| t.get(key)) {
        None => Some(default),
        Some(n) => n.as_u64(),
    };
    if let (Some(pixels), Some(patch)) = (size("image_size", 384), size("patch_size", 16).filter(|n| *n > 0))
        && tower.is_some()
    {
        fields.insert("num_patches".into(), json!(pixels / patch));
    }
    value
}

/// Whether the head is the embedding table: the outer configuration counts.
fn tied(root: &Node<'_>, node: &Node<'_>, family: &Family, source: &Source<'_>) -> Result<bool> {
    for n in [root, node] {
        if let Some(n) = n.opt("tie_word_embeddings")? {
            return n.boolean();
        }
    }
    Ok(family.tied && !(source.has)("lm_head.weight"))
}

/// Sampling of text: Hugging Face's greedy unless `do_sample`.
fn generation(source: Option<&Value>) -> Result<Value> {
    let Some(value) = source else { return Ok(json!({})) };
    let root = Node::root("generation_config.json", value);
    let sample = root.opt("do_sample")?.map_or(Ok(false), |n| n.boolean())?;
    let mut text = Map::new();
    for (key, least, most) in [("repetition_penalty", 1e-3, 10.0), ("min_p", 0.0, 1.0)] {
        if let Some(node) = root.opt(key)? {
            text.insert(key.into(), json!(node.number(least, most)?));
        }
    }
    if !sample {
        text.insert("temperature".into(), json!(0.0));
        return Ok(json!({ "sampling": { "text": text } }));
    }
    let number = |key: &str, default: f64, most: f64| root.opt(key)?.map_or(Ok(default), |n| n.number(0.0, most));
    text.insert("temperature".into(), json!(number("temperature", 1.0, 100.0)?));
    text.insert("top_k".into(), json!(root.opt("top_k")?.map_or(Ok(50), |n| n.size(0, u32::MAX))?));
    text.insert("top_p".into(), json!(number("top_p", 1.0, 1.0)?.max(1e-6)));
    Ok(json!({ "sampling": { "text": text } }))
}

/// A field whose value asks for something that we do not compute.
fn unsupported(node: &Node<'_>, family: &Family, remedy: &str) -> WeightsError {
    node.fail(format!("is not supported for family {}: {remedy}", family.name))
}
