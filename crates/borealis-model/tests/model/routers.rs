//! Every convention of section 1 against plain loops.

use crate::naive::Naive;
use crate::support::*;
use borealis_model::ModelConfig;
use borealis_weights::testing::{text_config, tiny_config};
use serde_json::{Value, json};

/// Compares logits and expert choices of both backends with the loops.
fn compare(name: &str, config: &Value) {
    let (_folder, checkpoint) = checkpoint(config, 3);
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    let batch = if c.modalities.len() > 1 {
        media_sequence(&c, 4, 8).batch
    } else {
        let mut rows = Rows::new(&c);
        rows.text(9, 0, 4, &mut Dice::new(5));
        rows.batch
    };
    let mut naive = Naive::new(&c, &checkpoint);
    let expected = naive.logits(&batch);
    for device in &devices() {
        let mut model = runner(&checkpoint, device, 64);
        let mut logits = Default::default();
        let trace = model.trace(&batch, &mut logits).unwrap();
        for (q, expected) in expected.iter().enumerate() {
            assert_close(&format!("{name} on {device:?}, query {q}"), logits.query(q), expected, 1e-4, 1e-3);
        }
        for (i, layer) in trace.routing.iter().enumerate() {
            let chosen: Vec<Vec<u32>> = layer.iter().map(|row| row.iter().map(|(e, _)| *e).collect()).collect();
            assert_eq!(chosen, naive.routing[i], "{name} on {device:?}: experts of layer {i}");
        }
    }
}

/// `base` with some keys replaced.
fn with(base: Value, changes: Value) -> Value {
    let mut config = base;
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

#[test]
fn softmax_and_sigmoid_with_and_without_renormalisation() {
    for scoring in ["softmax", "sigmoid"] {
        for norm in [true, false] {
            let changes = json!({"scoring_func": scoring, "norm_topk_prob": norm, "routed_scaling_factor": 1.5});
            compare(&format!("{scoring}, renormalised {norm}"), &with(text_config(), changes));
        }
    }
}

#[test]
fn selection_bias_chooses_and_does_not_weigh() {
    compare(
        "bias",
        &with(text_config(), json!({"scoring_func": "sigmoid", "router_selection_bias": true, "num_experts": 8})),
    );
}

#[test]
fn null_experts_add_nothing() {
    compare("null", &with(text_config(), json!({"num_null_experts": 3, "num_experts_per_tok": 3})));
}

#[test]
fn shared_experts_and_dense_first_layers() {
    let changes =
        json!({"n_shared_experts": 2, "first_k_dense_replace": 1, "intermediate_size": 96, "num_hidden_layers": 3});
    compare("shared and dense", &with(text_config(), changes));
}

#[test]
fn a_model_without_experts() {
    compare("dense", &with(text_config(), json!({"num_experts": 0, "intermediate_size": 80, "qk_norm": false})));
}

#[test]
fn rotations_tied_heads_and_single_kv_head() {
    let rope = |axes: u32, rotation: &str| json!({"rope_theta": 50.0, "axes": axes, "rotation": rotation});
    compare(
        "1 axis interleaved",
        &with(text_config(), json!({"rope_parameters": rope(1, "interleaved"), "tie_word_embeddings": true})),
    );
    compare(
        "3 axes interleaved",
        &with(tiny_config(), json!({"rope_parameters": rope(3, "interleaved"), "num_key_value_heads": 1})),
    );
}

#[test]
fn state_video_and_audio_rows_with_conditions_features_and_gates() {
    compare("media", &tiny_config());
    compare("media, tied", &with(tiny_config(), json!({"tie_word_embeddings": true, "n_shared_experts": 1})));
}

#[test]
fn rows_that_see_the_scene_plan_directly() {
    let mut config = tiny_config();
    config["media"]["scene_condition"] = json!(true);
    compare("scene rows", &config);
}
