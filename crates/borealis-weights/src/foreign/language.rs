//! The language model's own fields: sizes, attention, norms.

use super::families::{Family, QkNorm, Windows};
use super::{Source, experts, rope, unsupported};
use crate::Result;
use crate::json::Node;
use serde_json::{Map, Value, json};

/// Largest width: keeps sizes far from overflow.
const WIDE: u32 = 1 << 20;
/// Values of `layer_types`, and whether such a layer has a window.
const LAYER_TYPES: [(&str, bool); 2] = [("full_attention", false), ("sliding_attention", true)];

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
    put("rope_parameters", rope::read(node, family)?);
    windows(node, family, &mut c)?;
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

/// Which layers see a window of the past.
fn windows(node: &Node<'_>, family: &Family, c: &mut Map<String, Value>) -> Result<()> {
    let kinds = match node.opt("layer_types")? {
        Some(list) => Some(list.list(4096)?.iter().map(|n| n.choice(&LAYER_TYPES)).collect::<Result<Vec<bool>>>()?),
        None => None,
    };
    let window = node.opt("sliding_window")?;
    let switch = node.opt("use_sliding_window")?;
    // Qwen's classes leave windows off unless they are switched on.
    let on = switch.as_ref().map_or(Ok(matches!(family.windows, Windows::None | Windows::All)), |n| n.boolean())?;
    let Some(window) = window.filter(|_| on) else {
        return match node.opt("layer_types")? {
            Some(list) if kinds.is_some_and(|k| k.contains(&true)) => {
                Err(unsupported(&list, family, "has layers with a window, whose length sliding_window must say"))
            }
            _ => Ok(()),
        };
    };
    let positions = window.u32(1, u32::MAX)?;
    let layers = c["num_hidden_layers"].as_u64().unwrap_or(0) as usize;
    let with: Vec<usize> = match (family.windows, kinds) {
        (Windows::None, _) => {
            // Wider than every context: the same as none.
            let reach = node.opt("max_position_embeddings")?.map(|n| n.u32(1, u32::MAX)).transpose()?;
            return match reach {
                Some(reach) if positions >= reach => Ok(()),
                _ => Err(unsupported(&window, family, "its reference has no windows: use null")),
            };
        }
        (Windows::Listed, Some(kinds)) if kinds.len() == layers => (0..layers).filter(|i| kinds[*i]).collect(),
        (Windows::Listed, Some(kinds)) => {
            let what = format!("must name the kind of each of the {layers} layers, not of {}", kinds.len());
            return Err(node.get("layer_types")?.fail(what));
        }
        (Windows::Listed, None) => {
            let full = node.opt("max_window_layers")?.map_or(Ok(28), |n| n.size(0, u32::MAX))?;
            (full.min(layers)..layers).collect()
        }
        (Windows::All | Windows::Switched, _) => (0..layers).collect(),
    };
    if !with.is_empty() {
        c.insert("sliding_window".into(), json!(positions));
        if with.len() < layers {
            c.insert("sliding_layers".into(), json!(with));
        }
    }
    Ok(())
}
