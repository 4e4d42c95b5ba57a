//! Segments, controls and modalities of foreign vocabularies.

use super::families::{Family, QkNorm};
use super::{Source, unsupported};
use crate::Result;
use crate::json::Node;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Names of control tokens in `vocabulary_map`, by family.
const TOKENS: [(&str, &[(&str, &str)]); 2] = [
    (
        "emu3",
        &[
            ("<bos>", "<|extra_203|>"),
            ("<eos>", "<|extra_204|>"),
            ("<pad>", "<|endoftext|>"),
            ("<boi>", "<|image start|>"),
            ("<eoi>", "<|image end|>"),
            ("<img>", "<|image token|>"),
            ("<eol>", "<|extra_200|>"),
            ("<eof>", "<|extra_201|>"),
            ("<image>", "<image>"),
        ],
    ),
    (
        "chameleon",
        &[
            ("<bos>", "<s>"),
            ("<boi>", "<racm3:break>"),
            ("<eoi>", "<eoss>"),
            ("<sep>", "<reserved08706>"),
            ("<image>", "<image>"),
        ],
    ),
];
/// How the names of picture tokens begin.
const PICTURES: [(&str, &str); 2] = [("emu3", "<|visual token "), ("chameleon", "IMGIMG")];
/// Fields with ids of control tokens.
const FIELDS: [(&str, &str); 9] = [
    ("<bos>", "bos_token_id"),
    ("<eos>", "eos_token_id"),
    ("<pad>", "pad_token_id"),
    ("<boi>", "boi_token_id"),
    ("<eoi>", "eoi_token_id"),
    ("<img>", "img_token_id"),
    ("<eol>", "eol_token_id"),
    ("<eof>", "eof_token_id"),
    ("<image>", "image_token_id"),
];

/// Adds `family`, `segments`, `controls` and `modalities`.
pub(super) fn add(
    root: &Node<'_>,
    node: &Node<'_>,
    family: &Family,
    source: &Source<'_>,
    c: &mut Map<String, Value>,
) -> Result<()> {
    let vocab = node.get("vocab_size")?.u32(1, 1 << 24)?;
    let controls = controls(root, node, family, source.generation, vocab)?;
    let mut pictures = pictures(root, family, vocab)?;
    let mut modalities = vec![json!({"name": "text", "codes": [{"start": 0, "size": vocab}], "predict": "one"})];
    let mut size = vocab;
    let mut name = family.name;
    if family.qk_norm == QkNorm::HeadIfThere {
        // The makers' configuration lists no names: pictures follow the last control token.
        let last = controls.values().filter_map(Value::as_u64).max().unwrap_or(0) as u32 + 1;
        pictures = (controls.contains_key("<eoi>") && last < vocab).then(|| (last, vocab - last));
        if c["qk_norm"] != json!(false) {
            name = "emu3.5";
        }
    }
    let made_by = |n: Node<'_>| n.value().to_string().contains("ChameleonXLLMX");
    if family.name == "chameleon" && root.opt("architectures")?.is_some_and(made_by) {
        // The same model with a layout of pictures of its own.
        name = "lumina-mgpt";
    }
    if family.name == "janus" && (source.has)("model.generation_embeddings.weight") {
        let (codes, tables) = janus(root, node, family)?;
        modalities.push(
            json!({"name": "image", "codes": [{"start": vocab, "size": codes}], "predict": "one", "tables": tables}),
        );
        pictures = Some((vocab, codes));
        size = vocab.checked_add(codes).filter(|n| *n <= 1 << 24).ok_or_else(|| root.fail("has too many ids"))?;
        c.insert("input_vectors".into(), json!(true));
    }
    c.insert("family".into(), json!(name));
    c.insert("vocab_size".into(), json!(size));
    c.insert("segments".into(), segments(pictures, size));
    c.insert("controls".into(), Value::Object(controls));
    c.insert("modalities".into(), Value::Array(modalities));
    Ok(())
}

fn segments(pictures: Option<(u32, u32)>, vocab: u32) -> Value {
    let Some((start, size)) = pictures else { return json!([{"name": "text", "start": 0, "size": vocab}]) };
    let end = start + size;
    let parts = [("text", 0, start), ("image", start, size), ("more", end, vocab - end)];
    parts.iter().filter(|p| p.2 > 0).map(|(n, start, size)| json!({"name": n, "start": start, "size": size})).collect()
}

/// Control tokens that the configuration names, by our names.
fn controls(
    root: &Node<'_>,
    node: &Node<'_>,
    family: &Family,
    generation: Option<&Value>,
    vocab: u32,
) -> Result<Map<String, Value>> {
    let mut found = Map::new();
    let mut add = |name: &str, id: u32| {
        // Two names of one id: the first counts, a manifest's controls are distinct.
        if !found.values().any(|v: &Value| v.as_u64() == Some(id.into())) {
            found.entry(name).or_insert(json!(id));
        }
    };
    let tokens = TOKENS.iter().find(|(f, _)| *f == family.name).map_or(&[][..], |(_, t)| t);
    let mut named = Vec::new();
    if let Some(map) = root.opt("vocabulary_map")? {
        for (name, token) in tokens {
            if let Some(n) = map.opt(token)? {
                named.push((*name, n.u32(0, vocab - 1)?));
            }
        }
    }
    // Chameleon's published bos_token_id is that of its <pad>.
    named.iter().filter(|(name, _)| *name == "<bos>").for_each(|(name, id)| add(name, *id));
    // Chat models name further ends of a text in generation_config.json alone.
    let generation = generation.map(|value| Node::root("generation_config.json", value));
    for (name, key) in FIELDS {
        let mut all = Vec::new();
        for n in [Some(root), Some(node), generation.as_ref().filter(|_| name == "<eos>")].into_iter().flatten() {
            if let Some(n) = n.opt(key)? {
                all.extend(ids(&n, vocab)?);
            }
        }
        let mut seen = BTreeSet::new();
        all.retain(|id| seen.insert(*id));
        for (i, id) in all.into_iter().enumerate() {
            add(&numbered(name, i), id);
        }
    }
    named.iter().for_each(|(name, id)| add(name, *id));
    Ok(found)
}

/// The ids of a field that has one or several; -1 and ids beyond the vocabulary stand for none.
fn ids(node: &Node<'_>, vocab: u32) -> Result<Vec<u32>> {
    let nodes = if node.value().is_array() { node.list(64)? } else { vec![node.clone()] };
    let ids = nodes.iter().map(|n| n.int(-1, i64::from(u32::MAX))).collect::<Result<Vec<_>>>()?;
    Ok(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).filter(|id| *id < vocab).collect())
}

/// `<eos>`, `<eos_2>`, `<eos_3>`, ..
fn numbered(name: &str, index: usize) -> String {
    match index {
        0 => name.to_string(),
        i => format!("{}_{}>", name.trim_end_matches('>'), i + 1),
    }
}

/// First id and number of the picture tokens in `vocabulary_map`; they must be one range.
fn pictures(root: &Node<'_>, family: &Family, vocab: u32) -> Result<Option<(u32, u32)>> {
    let (Some((_, prefix)), Some(map)) =
        (PICTURES.iter().find(|(f, _)| *f == family.name), root.opt("vocabulary_map")?)
    else {
        return Ok(None);
    };
    let (mut least, mut most, mut count) = (u32::MAX, 0, 0);
    for (token, n) in map.entries()? {
        if token.starts_with(prefix) {
            let id = n.u32(0, vocab - 1)?;
            (least, most, count) = (least.min(id), most.max(id), count + 1);
        }
    }
    match count {
        0 => Ok(None),
        n if most - least + 1 == n => Ok(Some((least, n))),
        n => Err(unsupported(
            &map,
            family,
            &format!("its {n} picture tokens are not one range of ids, {least} to {most}"),
        )),
    }
}

/// Janus's picture ids: their number, and the sizes of their embedding and head.
fn janus(root: &Node<'_>, node: &Node<'_>, family: &Family) -> Result<(u32, Value)> {
    let vq = root.get("vq_config")?;
    let size = |key: &str, default: usize| vq.opt(key)?.map_or(Ok(default), |n| n.size(1, 1 << 20));
    let hidden = node.get("hidden_size")?.size(1, 1 << 20)?;
    if let Some(n) = vq.opt("hidden_act")?.filter(|n| n.value().as_str() != Some("gelu")) {
        return Err(unsupported(&n, family, "only \"gelu\" is"));
    }
    let projection = size("projection_dim", 2048)?;
    for (key, value) in
        [("projection_dim", projection), ("image_token_embed_dim", size("image_token_embed_dim", 2048)?)]
    {
        if value != hidden {
            return Err(root.get("vq_config")?.fail(format!("{key} must be the hidden_size of text_config, {hidden}")));
        }
    }
    let tables = json!({
        "embedding_size": size("embed_dim", 8)?,
        "layers": size("num_hidden_layers", 2)?,
        "projection_size": projection,
    });
    Ok((size("num_embeddings", 16_384)? as u32, tables))
}
