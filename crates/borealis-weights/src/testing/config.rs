//! Small valid configurations.

use serde_json::{Value, json};

/// A model of text only: vocabulary of 300 ids, two routed layers, Hugging Face shapes (no `embedding_size`).
pub fn text_config() -> Value {
    json!({
        "model_type": "borealis", "format": 1,
        "vocab_size": 300, "hidden_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "qk_norm": true, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
        "rope_parameters": { "rope_theta": 10000.0, "axes": 1, "rotation": "half" },
        "segments": [ { "name": "text", "start": 0, "size": 256 }, { "name": "control", "start": 256, "size": 44 } ],
        "controls": { "<text>": 256, "<end>": 257 },
        "modalities": [ { "name": "text", "slots": 1, "codes": [ { "start": 0, "size": 300 } ], "predict": "one" } ]
    })
}

/// A small model of the default model's form: text, scene plan, state, video and audio; everything in the format that the default model uses.
/// H 64, de 16, 2 layers, V 564, F 36.
pub fn tiny_config() -> Value {
    serde_json::from_str(include_str!("tiny.json")).expect("tiny.json is valid: a test opens it")
}
