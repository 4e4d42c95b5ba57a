//! The language model's own fields: sizes, attention, norms.

use super::families::{Family, QkNorm};
use super::{Source, experts, rope, unsupported};
use crate::Result;
use crate::json::Node;
use serde_json::{Map, Value, json};

/// Largest width: keeps sizes far from overflow.
const WIDE: u32 = 1 << 20;

/// The transformer's keys of our `config.json` (`weights.md`, section 1).
pub(super) fn read(node: &Node<'_>, family: &Family, source: &Source<'_>) -> Result<Map<String, Value>> {
    let mut c = Map::new();
    let mut put = |key: &str, value: Value| c.insert(key.to_string(), value);
    put("model_type", json!("borealis"));
    put("format", json!(1));
    for (key, most) in [("vocab_size", 1 << 24), ("hidden_size", WIDE), ("num_hidden_layers", 4096)] {
        put(key, json!(node.get(key)?.size(1, most)?));
    }
    put("intermediate_size", json!(node.get("intermediate_size")?.size(1, WIDE)?));
    let heads = node.get("num_attention_heads")?.size(1, 4096)?;
    put("num_attention_heads", json!(heads));
    let kv = family.key_value_heads.map_or(heads, |n| n as usize);
    put("num_key_value_heads", json!(node.opt("num_key_value_heads")?.map_or(Ok(kv), |n| n.size(1, 4096))?));
    let head_dim = node.opt("head_dim")?.map(|n| n.size(2, 4096)).transpose()?;
    if let Some(dim) = head_dim.or(family.head_dim.map(|d| d as usize)) {
        put("head_dim", json!(dim));
    }
    if let Some(n) = node.opt("hidden_act")?.filter(|n| n.choice(&[("silu", ()), ("swish", ())]).is_err()) {
        return Err(unsupported(&n, family, "only \"silu\" is"));
    }
    put("hidden_act", json!("silu"));
    put("rms_norm_eps", json!(node.opt("rms_norm_eps")?.map_or(Ok(family.rms_norm_eps), |n| n.number(0.0, 1.0))?));
    put("qk_norm", qk_norm(family, source));
    for key in ["attention_bias", "mlp_bias", "swin_norm"] {
        if let Some(n) = node.opt(key)? {
            put(key, json!(n.boolean()?));
        }
    }
    if let Some(n) = node.opt("clip_qkv")? {
        put("clip_qkv", json!(n.number(1e-6, 1e6)?));
    }
    windows(node, family)?;
    put("rope_parameters", rope::read(node, family)?);
    experts::read(node, family, &mut c)?;
    Ok(c)
}

fn qk_norm(family: &Family, source: &Source<'_>) -> Value {
    match family.qk_norm {
        QkNorm::None => json!(false),
        QkNorm::Head => json!("head"),
        QkNorm::Projection => json!("projection"),
        QkNorm::LayerNorm => json!("layer_norm"),
        QkNorm::HeadIfThere => match (source.has)("model.layers.0.self_attn.q_norm.weight") {
            true => json!("head"),
            false => json!(false),
        },
    }
}

/// Attention to a window of the past is not computed: refused where a configuration switches it on.
fn windows(node: &Node<'_>, family: &Family) -> Result<()> {
    let remedy = "attention over a sliding window is not computed";
    let switch = node.opt("use_sliding_window")?;
    let on = switch.as_ref().map_or(Ok(true), |n| n.boolean())?;
    if let Some(n) = node.opt("sliding_window")?.filter(|_| on) {
        let window = n.size(1, u32::MAX)?;
        let reach = node.opt("max_position_embeddings")?.map(|n| n.size(1, u32::MAX)).transpose()?;
        // Wider than every context: the same as none.
        if reach.is_none_or(|reach| window < reach) {
            return Err(unsupported(&n, family, remedy));
        }
    }
    if let Some(list) = node.opt("layer_types")? {
        for n in list.list(4096)? {
            if n.string()? != "full_attention" {
                return Err(unsupported(&n, family, remedy));
            }
        }
    }
    Ok(())
}
