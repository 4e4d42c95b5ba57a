//! What is refused, and with which words.

use crate::support::*;
use borealis_kernels::{DeviceSpec, QuantFormat};
use borealis_model::{Batch, Logits, ModelConfig, load, tensor_names};
use borealis_weights::testing::{CheckpointBuilder, text_config, tiny_config};
use borealis_weights::{Checkpoint, Manifest};
use serde_json::{Value, json};

fn load_error(names: &[(String, Vec<usize>)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    CheckpointBuilder::new(text_config()).tensors("", names, 1).write(folder.path()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    load(&checkpoint, &DeviceSpec::Reference, QuantFormat::F32, 1).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn tensors_that_contradict_the_configuration_are_named() {
    let (_folder, checkpoint) = checkpoint(&text_config(), 1);
    let names = tensor_names(&ModelConfig::new(checkpoint.manifest()).unwrap());
    let at = names.iter().position(|(n, _)| n == "model.layers.1.self_attn.k_proj.weight").unwrap();

    let mut missing = names.clone();
    missing.remove(at);
    let err = load_error(&missing);
    assert!(err.contains("model.layers.1.self_attn.k_proj.weight is missing"), "{err}");

    let mut misspelt = names.clone();
    misspelt[at].0 = "model.layers.1.self_attn.key_proj.weight".into();
    let err = load_error(&misspelt);
    assert!(err.contains("k_proj.weight is missing (nearest name: model.layers.1.self_attn.key_proj.weight)"), "{err}");

    let mut extra = names.clone();
    extra.push(("model.layers.2.input_layernorm.weight".into(), vec![64]));
    let err = load_error(&extra);
    assert!(err.contains("unknown tensor model.layers.2.input_layernorm.weight"), "{err}");

    let mut shape = names.clone();
    shape[at].1 = vec![32, 32];
    let err = load_error(&shape);
    assert!(err.contains("k_proj.weight has shape [32, 32], the configuration asks for [32, 64]"), "{err}");
}

fn config_error(key: &str, value: Value) -> String {
    let mut config = text_config();
    config[key] = value;
    ModelConfig::new(&Manifest::new(&config, None).unwrap()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn numbers_that_contradict_each_other_are_refused() {
    let cases = [
        ("num_key_value_heads", json!(3), "must divide num_attention_heads, 4"),
        ("num_experts_per_tok", json!(5), "must be at most the number of experts, 4"),
        ("head_dim", json!(15), "must be even"),
        ("hidden_size", json!(0), "from 1 to"),
        ("scoring_func", json!("tanh"), "\"softmax\" or \"sigmoid\""),
        ("first_k_dense_replace", json!(9), "from 0 to 2"),
        ("rope_parameters", json!({"rope_theta": 10.0, "axes": 2}), "must be 1 or 3"),
        ("rope_parameters", json!({"rope_theta": 10.0, "rope_type": "axial"}), "\"longrope\""),
        (
            "rope_parameters",
            json!({"rope_theta": 10.0, "rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 64, "short_factor": [1.0]}),
            "numbers, one for each pair of a head",
        ),
        ("sliding_window", json!(0), "from 1 to"),
        ("hidden_act", json!("gelu"), "must be \"silu\""),
    ];
    for (key, value, wanted) in cases {
        let err = config_error(key, value);
        assert!(err.contains("config.json") && err.contains(key) && err.contains(wanted), "{key}: {err}");
    }
}

#[test]
fn batches_that_make_no_sense_are_refused_and_change_nothing() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 1);
    let mut model = runner(&checkpoint, &DeviceSpec::Cpu, 64);
    let config = model.config().clone();
    let good = media_sequence(&config, 0, 2).batch;
    type Change = fn(&mut Batch);
    let cases: [(&str, Change); 10] = [
        ("row 3: modality 9 of 4", |b| b.rows[3].modality = 9),
        ("row 2: codes of text from 1000000", |b| b.rows[2].codes = Some(1_000_000)),
        ("row 7: id 0 is not in the range", |b| b.codes[7..].fill(0)),
        ("row 1: text has no condition", |b| b.rows[1].condition = Some(0)),
        ("row 0: kind 99 of 12", |b| b.rows[0].kind = Some(99)),
        ("row 9: features from", |b| b.rows[9].features = Some(usize::MAX)),
        ("row 0: slot 256", |b| b.rows[0].slot = 256),
        ("row 0: it sees no slot", |b| b.rows[0].sees.recent = (5, 5)),
        ("query 0: allowed ids 40..3", |b| b.queries[0].allowed = Some((40, 3))),
        ("query 2: row 100 of 15", |b| b.queries[2].row = 100),
    ];
    for (wanted, change) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        let err = model.step(&bad, &mut Logits::default()).unwrap_err().to_string();
        assert!(err.starts_with("batch: ") && err.contains(wanted), "{err} instead of {wanted}");
    }
    assert!(model.step(&good, &mut Logits::default()).is_ok());
    assert!(step(model.as_mut(), &Batch::default()).values.is_empty());
}

#[test]
fn slots_are_reserved_and_released_once() {
    let (_folder, checkpoint) = checkpoint(&text_config(), 1);
    let mut model = runner(&checkpoint, &DeviceSpec::Reference, 8);
    let a = model.reserve(200).unwrap();
    let err = model.reserve(100).unwrap_err().to_string();
    assert!(err.contains("no 100 slots in a row (56 of 256 are free, 56 in a row)"), "{err}");
    assert!(model.allocate(10, 8).unwrap_err().to_string().contains("200 slots"));
    model.release(a).unwrap();
    assert!(model.release(a).is_err());
    model.allocate(10, 8).unwrap();
    assert_eq!(model.slots(), (10, 10));
}
