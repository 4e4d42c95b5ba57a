//! Experts, their routers, and DeepSeek's compressed attention.

use super::families::{Family, Routing};
use super::unsupported;
use crate::Result;
use crate::json::Node;
use serde_json::{Map, Value, json};

/// Largest number of experts.
const MOST: u32 = 1 << 16;

/// Adds the keys of routed layers; nothing for dense families.
pub(super) fn read(node: &Node<'_>, family: &Family, c: &mut Map<String, Value>) -> Result<()> {
    let Some(routing) = family.routing else { return Ok(()) };
    let experts = count(node)?;
    c.insert("num_experts".into(), json!(experts));
    c.insert("num_experts_per_tok".into(), json!(node.get("num_experts_per_tok")?.size(1, 1 << 10)?));
    let norm = |default| node.opt("norm_topk_prob")?.map_or(Ok(default), |n| n.boolean());
    let (inner, normalise) = match routing {
        Routing::Mixtral => ("intermediate_size", true),
        Routing::Olmoe => ("intermediate_size", norm(false)?),
        Routing::Qwen3 => ("moe_intermediate_size", norm(false)?),
        Routing::DeepSeek => ("moe_intermediate_size", norm(true)?),
    };
    c.insert("moe_intermediate_size".into(), json!(node.get(inner)?.size(1, 1 << 20)?));
    c.insert("norm_topk_prob".into(), json!(normalise));
    c.insert("scoring_func".into(), json!(if routing == Routing::DeepSeek { "sigmoid" } else { "softmax" }));
    match routing {
        Routing::Qwen3 => {
            c.insert("mlp_only_layers".into(), json!(dense_layers(node)?));
        }
        Routing::DeepSeek => deepseek(node, family, c)?,
        Routing::Mixtral | Routing::Olmoe => {}
    }
    Ok(())
}

/// The number of experts has three names.
fn count(node: &Node<'_>) -> Result<usize> {
    for key in ["n_routed_experts", "num_local_experts"] {
        if let Some(n) = node.opt(key)? {
            return n.size(1, MOST);
        }
    }
    node.get("num_experts")?.size(1, MOST)
}

/// Layers without experts: those that are listed, and all but every `decoder_sparse_step`-th.
fn dense_layers(node: &Node<'_>) -> Result<Vec<usize>> {
    let layers = node.get("num_hidden_layers")?.size(1, 4096)?;
    let step = node.opt("decoder_sparse_step")?.map_or(Ok(1), |n| n.size(1, 4096))?;
    let mut dense: Vec<usize> = (0..layers).filter(|i| (i + 1) % step != 0).collect();
    if let Some(list) = node.opt("mlp_only_layers")? {
        for n in list.list(4096)? {
            // A layer beyond the last one changes nothing.
            dense.push(n.size(0, 4096)?);
        }
    }
    dense.retain(|i| *i < layers);
    dense.sort_unstable();
    dense.dedup();
    Ok(dense)
}

fn deepseek(node: &Node<'_>, family: &Family, c: &mut Map<String, Value>) -> Result<()> {
    for (key, only) in [("topk_method", "noaux_tc"), ("scoring_func", "sigmoid")] {
        if let Some(n) = node.opt(key)?.filter(|n| n.value().as_str() != Some(only)) {
            return Err(unsupported(&n, family, &format!("only \"{only}\" is")));
        }
    }
    if let Some(n) = node.opt("moe_layer_freq")?.filter(|n| n.value().as_u64() != Some(1)) {
        return Err(unsupported(&n, family, "only 1 is"));
    }
    let size = |key: &str, default: usize, most: u32| node.opt(key)?.map_or(Ok(default), |n| n.size(0, most));
    let mut put = |key: &str, value: Value| c.insert(key.to_string(), value);
    put("router_selection_bias", json!(true));
    put("n_shared_experts", json!(size("n_shared_experts", 1, 1 << 10)?));
    put("first_k_dense_replace", json!(size("first_k_dense_replace", 3, 4096)?));
    put("n_group", json!(size("n_group", 8, MOST)?.max(1)));
    put("topk_group", json!(size("topk_group", 4, MOST)?.max(1)));
    let scale = node.opt("routed_scaling_factor")?.map_or(Ok(2.5), |n| n.number(1e-6, 1e6))?;
    put("routed_scaling_factor", json!(scale));
    // `null` means a plain q_proj, an absent field the default of the class.
    match node.value().get("q_lora_rank") {
        Some(Value::Null) => {}
        None => {
            put("q_lora_rank", json!(1536));
        }
        Some(_) => {
            put("q_lora_rank", json!(node.get("q_lora_rank")?.size(1, 1 << 20)?));
        }
    }
    let defaults = [("kv_lora_rank", 512), ("qk_nope_head_dim", 128), ("qk_rope_head_dim", 64), ("v_head_dim", 128)];
    for (key, default) in defaults {
        put(key, json!(node.opt(key)?.map_or(Ok(default), |n| n.size(1, 1 << 16))?));
    }
    // Of the rotated part only; ours follows from the keys above.
    c.remove("head_dim");
    Ok(())
}
