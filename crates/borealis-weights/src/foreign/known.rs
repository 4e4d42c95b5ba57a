//! Fields of foreign configurations: every one is read, known to change no number, or refused.

use super::families::Family;
use super::unsupported;
use crate::Result;
use crate::blocks::BlockSize;
use crate::json::Node;
use serde_json::Value;

/// Read by `language.rs`, `experts.rs`, `rope.rs` and `vocabulary.rs`.
const READ: &[&str] = &[
    "attention_bias",
    "bos_token_id",
    "boi_token_id",
    "clip_qkv",
    "decoder_sparse_step",
    "eof_token_id",
    "eoi_token_id",
    "eol_token_id",
    "eos_token_id",
    "first_k_dense_replace",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "image_token_id",
    "img_token_id",
    "intermediate_size",
    "kv_lora_rank",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_bias",
    "mlp_only_layers",
    "model_parallel_size",
    "model_type",
    "moe_intermediate_size",
    "moe_layer_freq",
    "n_group",
    "n_routed_experts",
    "n_shared_experts",
    "norm_topk_prob",
    "num_attention_heads",
    "num_experts",
    "num_experts_per_tok",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_local_experts",
    "num_nextn_predict_layers",
    "original_max_position_embeddings",
    "pad_token_id",
    "partial_rotary_factor",
    "q_lora_rank",
    "qk_head_dim",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "quantization_config",
    "rms_norm_eps",
    "rope_interleave",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "routed_scaling_factor",
    "scoring_func",
    "sliding_window",
    "swin_norm",
    "tie_word_embeddings",
    "topk_group",
    "topk_method",
    "use_sliding_window",
    "v_head_dim",
    "vocab_size",
    "vocabulary_map",
];

/// Training, bookkeeping, defaults of generation that stand elsewhere: no number depends on them. Keys that begin with `_` are of this kind, too.
const INERT: &[&str] = &[
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "aux_loss_alpha",
    "chunk_size_feed_forward",
    "do_sample",
    "dropout",
    "dtype",
    "ep_size",
    "finetuning_task",
    "id2label",
    "image_area",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "mask_image_logits",
    "model_max_length",
    "name_or_path",
    "num_mtp_layers",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pretraining_tp",
    "problem_type",
    "return_dict",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "seq_aux",
    "task_specific_params",
    "text_config",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unsloth_version",
    "use_cache",
    "vision_config",
    "vq_config",
    "z_loss_weight",
];

/// Refuses fields that nobody here knows, unless their value says that they are off.
pub(super) fn check(node: &Node<'_>, family: &Family) -> Result<()> {
    for (key, field) in node.entries()? {
        let known = key.starts_with('_') || READ.contains(&key) || INERT.contains(&key);
        let off = match field.value() {
            Value::Null => true,
            Value::Bool(on) => !on,
            Value::Array(list) => list.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if !known && !off {
            return Err(field.fail(format!(
                "is an unknown field of a {} checkpoint and may change its numbers: remove it if it does not",
                family.name
            )));
        }
    }
    Ok(())
}

/// The blocks of matrices that are 8-bit floats; `None` when no matrix is. Refuses weights that are quantised in another way.
pub(super) fn quantised(node: &Node<'_>, family: &Family) -> Result<Option<BlockSize>> {
    let Some(n) = node.opt("quantization_config")? else { return Ok(None) };
    let method = n.opt("quant_method")?.and_then(|m| m.value().as_str()).unwrap_or("another program");
    let number = n.opt("fmt")?.map_or(Ok("e4m3"), |f| f.string())?;
    if method != "fp8" || number != "e4m3" {
        let what = format!("weights quantised by {method} are not read, use the plain bf16 checkpoint");
        return Err(unsupported(&n, family, &what));
    }
    let Some(size) = n.opt("weight_block_size")? else {
        return Err(n.missing("weight_block_size", "such as [128, 128]"));
    };
    match size.list(2)?[..] {
        [ref rows, ref columns] => {
            Ok(Some(BlockSize { rows: rows.size(1, 1 << 16)?, columns: columns.size(1, 1 << 16)? }))
        }
        _ => Err(size.fail("must be two numbers: rows and columns of a block")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_there_twice() {
        let mut all: Vec<&str> = READ.iter().chain(INERT).copied().collect();
        let before = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), before);
    }
}
