//! Rotary positions: `rope_parameters` of new configurations, `rope_theta` and `rope_scaling` of most published ones.

use super::families::{Family, Routing};
use super::unsupported;
use crate::Result;
use crate::json::Node;
use serde_json::{Map, Value, json};

/// Keys of `rope_parameters` that a scaled rope may have beside `rope_type`, in Hugging Face's words and in ours.
pub const ROPE_SCALING: [&str; 13] = [
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "attention_factor",
    "truncate",
    "short_factor",
    "long_factor",
    "max_position_embeddings",
];

/// Values of `rope_type`, and the keys of each.
const KINDS: [(&str, &[&str]); 6] = [
    ("default", &[]),
    ("linear", &["factor"]),
    ("dynamic", &["factor"]),
    ("llama3", &["factor", "low_freq_factor", "high_freq_factor", CONTEXT]),
    (
        "yarn",
        &["factor", CONTEXT, "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate"],
    ),
    ("longrope", &["factor", CONTEXT, "attention_factor", "short_factor"]),
];
const CONTEXT: &str = "original_max_position_embeddings";

/// Our `rope_parameters`.
pub(super) fn read(node: &Node<'_>, family: &Family) -> Result<Value> {
    let new = node.opt("rope_parameters")?;
    let old = node.opt("rope_scaling")?;
    let source = new.as_ref().or(old.as_ref());
    let theta = match source.map(|n| n.opt("rope_theta")).transpose()?.flatten() {
        Some(n) => Some(n),
        None => node.opt("rope_theta")?,
    };
    let mut out = Map::new();
    out.insert("rope_theta".into(), json!(theta.map_or(Ok(family.rope_theta), |n| n.number(1.0, 1e12))?));
    let interleaved =
        family.routing == Some(Routing::DeepSeek) && node.opt("rope_interleave")?.map_or(Ok(true), |n| n.boolean())?;
    if interleaved {
        out.insert("rotation".into(), json!("interleaved"));
    }
    for n in [Some(node), source].into_iter().flatten() {
        if let Some(n) = n.opt("partial_rotary_factor")?.filter(|n| n.value().as_f64() != Some(1.0)) {
            return Err(unsupported(&n, family, "heads are rotated as a whole"));
        }
    }
    let Some(source) = source else { return Ok(Value::Object(out)) };
    if let Some((_, n)) = source.entries()?.iter().find(|(_, n)| n.value().is_object()) {
        return Err(unsupported(n, family, "all layers have one kind of rotary positions"));
    }
    let kind = match source.opt("rope_type")? {
        Some(n) => Some(n),
        None => source.opt("type")?,
    };
    let Some(kind) = kind else { return Ok(Value::Object(out)) };
    let name = kind.string()?;
    let Some((name, keys)) = KINDS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = KINDS.iter().map(|k| k.0).collect();
        return Err(unsupported(&kind, family, &format!("use one of {}", known.join(", "))));
    };
    if *name == "default" {
        return Ok(Value::Object(out));
    }
    out.insert("rope_type".into(), json!(name));
    scaling(node, source, name, keys, family, &mut out)?;
    Ok(Value::Object(out))
}

/// The numbers of a scaled rope, with the defaults of Hugging Face's `modeling_rope_utils.py`.
fn scaling(
    node: &Node<'_>,
    source: &Node<'_>,
    name: &str,
    keys: &[&str],
    family: &Family,
    out: &mut Map<String, Value>,
) -> Result<()> {
    let ours = ["rope_theta", "rope_type", "type", "partial_rotary_factor"];
    for (key, n) in source.entries()? {
        if !ROPE_SCALING.contains(&key) && !ours.contains(&key) && !n.value().is_null() {
            return Err(unsupported(&n, family, "an unknown field of rotary positions"));
        }
        if keys.contains(&key) && !n.value().is_null() {
            out.insert(key.to_string(), n.value().clone());
        }
    }
    if name == "dynamic" {
        let Some(reach) = node.opt("max_position_embeddings")? else {
            return Err(node.missing("max_position_embeddings", "add the context before scaling"));
        };
        out.insert("max_position_embeddings".into(), json!(reach.number(1.0, 1e9)?));
    }
    if !keys.contains(&CONTEXT) {
        return Ok(());
    }
    // A field beside the parameters counts more, the full length is the last resort.
    let reach = node.opt("max_position_embeddings")?.map(|n| n.number(1.0, 1e9)).transpose()?;
    let context = match node.opt(CONTEXT)? {
        Some(n) => Some(n.number(1.0, 1e9)?),
        None => source.opt(CONTEXT)?.map(|n| n.number(1.0, 1e9)).transpose()?.or(reach),
    };
    let Some(context) = context else {
        return Err(source.missing(CONTEXT, "add the context length before scaling"));
    };
    out.insert(CONTEXT.into(), json!(context));
    if name != "llama3" && !out.contains_key("factor") {
        let Some(reach) = reach else { return Err(source.missing("factor", "add it")) };
        out.insert("factor".into(), json!(reach / context));
    }
    Ok(())
}
