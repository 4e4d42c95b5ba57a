//! Checkpoints of other makers: what is refused and how, and what `convert` writes.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::*;
use borealis_kernels::{DeviceSpec, QuantFormat};
use borealis_model::{Batch, Logits, Query, check, load, weight_bytes};
use borealis_weights::testing::CheckpointBuilder;
use borealis_weights::{Checkpoint, FAMILIES, Target, convert, plan_conversion};
use serde_json::{Value, json};

/// Its configuration.
fn config() -> Value {
    json!({
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "torch_dtype": "bfloat16", "use_cache": true,
        "vocab_size": 90, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "num_local_experts": 3, "num_experts_per_tok": 2, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
        "hidden_act": "silu", "sliding_window": null, "max_position_embeddings": 128, "tie_word_embeddings": false,
        "bos_token_id": 1, "eos_token_id": 2
    })
}

/// A text model with compressed attention.
pub fn compressed() -> Value {
    let latent = json!({"kv_lora_rank": 20, "q_lora_rank": 24, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10, "qk_norm": false});
    let mut deep = borealis_weights::testing::text_config();
    latent.as_object().unwrap().iter().for_each(|(k, v)| deep[k] = v.clone());
    deep
}

type Names = Vec<(String, Vec<usize>)>;

fn names() -> Names {
    let mut names: Names = vec![
        ("model.embed_tokens.weight".into(), vec![90, 64]),
        ("lm_head.weight".into(), vec![90, 64]),
        ("model.norm.weight".into(), vec![64]),
    ];
    for i in 0..2 {
        let layer = format!("model.layers.{i}");
        let parts: [(&str, &[usize]); 7] = [
            ("input_layernorm", &[64]),
            ("post_attention_layernorm", &[64]),
            ("self_attn.q_proj", &[64, 64]),
            ("self_attn.k_proj", &[32, 64]),
            ("self_attn.v_proj", &[32, 64]),
            ("self_attn.o_proj", &[64, 64]),
            ("block_sparse_moe.gate", &[3, 64]),
        ];
        names.extend(parts.iter().map(|(n, shape)| (format!("{layer}.{n}.weight"), shape.to_vec())));
        for e in 0..3 {
            for (w, shape) in [("w1", [128, 64]), ("w2", [64, 128]), ("w3", [128, 64])] {
                names.push((format!("{layer}.block_sparse_moe.experts.{e}.{w}.weight"), shape.to_vec()));
            }
        }
    }
    names
}

/// A small Mixtral as it is published.
pub fn mixtral() -> CheckpointBuilder {
    build(&config(), &names())
}

fn build(config: &Value, names: &[(String, Vec<usize>)]) -> CheckpointBuilder {
    CheckpointBuilder::new(config.clone()).tensors("", names, 5)
}

/// The refusal of a checkpoint; it comes fast.
fn refused(builder: &CheckpointBuilder) -> String {
    let folder = tempfile::tempdir().unwrap();
    builder.write(folder.path()).unwrap();
    refused_at(folder.path())
}

fn refused_at(folder: &Path) -> String {
    let start = Instant::now();
    let error = match Checkpoint::open(folder) {
        Ok(checkpoint) => check(&checkpoint).expect_err("must be refused").to_string(),
        Err(e) => e.to_string(),
    };
    assert!(start.elapsed() < Duration::from_secs(2), "refused, but slowly: {error}");
    assert!(!error.contains('\n'), "one line: {error}");
    error
}

#[track_caller]
fn says(error: &str, parts: &[&str]) {
    assert!(parts.iter().all(|p| error.contains(p)), "{error}\nshould say {parts:?}");
}

fn logits(checkpoint: &Checkpoint, format: QuantFormat) -> Vec<f32> {
    let mut model = load(checkpoint, &DeviceSpec::Cpu, format, 1).unwrap();
    model.allocate(64, 16).unwrap();
    let config = model.config().clone();
    let mut rows = Rows::new(&config);
    rows.text(9, 0, 0, &mut Dice::new(3));
    rows.batch.queries.iter_mut().for_each(|q: &mut Query| q.allowed = None);
    let batch: Batch = rows.batch;
    let mut out = Logits::default();
    model.step(&batch, &mut out).unwrap();
    out.values
}

#[test]
fn fields_that_would_change_numbers_are_refused_by_name() {
    let cases: [(&str, Value, &[&str]); 15] = [
        ("model_type", json!("mixtrall"), &["model_type", "mixtrall", "did you mean \"mixtral\""]),
        ("model_type", json!("mimi"), &["tokenizer alone"]),
        ("model_type", json!("multi_modality"), &["is Janus as its makers pickle it", "model_type janus"]),
        ("hidden_act", json!("gelu"), &["hidden_act is \"gelu\"", "not supported for family mixtral"]),
        ("sliding_window", json!(-1), &["sliding_window is -1"]),
        (
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            &["layer_types", "whose length sliding_window must say"],
        ),
        (
            "layer_types",
            json!(["full_attention", "chunked_attention"]),
            &["layer_types[1]", "chunked_attention", "full_attention"],
        ),
        (
            "rope_scaling",
            json!({"type": "proportional", "factor": 2.0}),
            &["rope_scaling.type", "proportional", "longrope"],
        ),
        ("partial_rotary_factor", json!(0.5), &["partial_rotary_factor is 0.5"]),
        ("quantization_config", json!({"quant_method": "awq"}), &["quantization_config", "quantised by awq", "bf16"]),
        ("quantization_config", json!({"quant_method": "fp8"}), &["quantization_config.weight_block_size is missing"]),
        ("logit_softcapping", json!(30.0), &["logit_softcapping is 30", "unknown field of a mixtral checkpoint"]),
        ("num_experts_per_tok", json!(9), &["num_experts_per_tok is 9"]),
        ("hidden_size", json!("wide"), &["hidden_size is \"wide\"", "integer"]),
        ("vocab_size", Value::Null, &["vocab_size is missing"]),
    ];
    for (key, value, parts) in cases {
        let mut bad = config();
        bad[key] = value;
        says(&refused(&build(&bad, &names())), parts);
    }
    // What is switched off changes nothing.
    let mut fine = config();
    fine["logit_softcapping"] = Value::Null;
    fine["sliding_window"] = json!(4096);
    fine["rope_scaling"] = json!({"type": "default"});
    check(&build(&fine, &names()).open().unwrap()).unwrap();
}

/// Dynamic frequencies are those of the base up to the context that it was made for; what is longer is refused instead of computed differently.
#[test]
fn dynamic_positions_end_with_the_context() {
    let mut dynamic = config();
    dynamic["rope_scaling"] = json!({"type": "dynamic", "factor": 2.0});
    let (plain, dynamic) = (build(&config(), &names()), build(&dynamic, &names()));
    let (plain, dynamic) = (plain.open().unwrap(), dynamic.open().unwrap());
    assert_eq!(logits(&plain, QuantFormat::F32), logits(&dynamic, QuantFormat::F32));
    let mut model = load(&dynamic, &DeviceSpec::Cpu, QuantFormat::F32, 1).unwrap();
    model.allocate(256, 256).unwrap();
    let config = model.config().clone();
    let step = |n: u32, model: &mut dyn borealis_model::Forward| {
        let mut rows = Rows::new(&config);
        rows.text(n, 0, 0, &mut Dice::new(3));
        rows.batch.queries.iter_mut().for_each(|q: &mut Query| q.allowed = None);
        rows.batch.rows.iter_mut().zip(0..).for_each(|(row, at)| row.position = [at as f32; 3]);
        model.step(&rows.batch, &mut Logits::default())
    };
    step(128, model.as_mut()).unwrap();
    let error = step(129, model.as_mut()).unwrap_err().to_string();
    says(&error, &["row 128", "position 128", "for 128 positions only"]);
}

#[test]
fn tensors_are_named_as_they_are_published() {
    let at = |name: &str| names().iter().position(|(n, _)| n == name).unwrap();
    let without = |name: &str| {
        let mut names = names();
        names.remove(at(name));
        names
    };
    let expert = "model.layers.1.block_sparse_moe.experts.2.w3.weight";
    let last = "model.layers.0.block_sparse_moe.experts.2.w2.weight";
    says(&refused(&build(&config(), &without(expert))), &[expert, "is missing", "nearest name"]);
    says(&refused(&build(&config(), &without(last))), &[last, "is missing"]);
    let gate = "model.layers.0.block_sparse_moe.gate.weight";
    says(&refused(&build(&config(), &without(gate))), &[gate, "is missing"]);
    let mut misspelt = names();
    misspelt[at("model.norm.weight")].0 = "model.norms.weight".into();
    says(&refused(&build(&config(), &misspelt)), &["model.norm.weight is missing (nearest name: model.norms.weight)"]);
    let mut extra = names();
    extra.push(("model.layers.0.block_sparse_moe.experts.3.w1.weight".into(), vec![128, 64]));
    says(&refused(&build(&config(), &extra)), &["unknown tensor", "experts.3.w1"]);
    let mut shape = names();
    shape[at(expert)].1 = vec![64, 64];
    says(&refused(&build(&config(), &shape)), &[expert, "[64, 64]", "[128, 64]"]);
    let mut all = names();
    all.iter_mut().filter(|(n, _)| n.contains(".w1.") || n.contains(".w3.")).for_each(|(_, s)| s[0] = 96);
    says(&refused(&build(&config(), &all)), &["[3, 192, 64]", "[3, 256, 64]"]);
}

#[test]
fn shards_and_indices_that_lie() {
    let folder = tempfile::tempdir().unwrap();
    build(&config(), &names()).shards(3).write(folder.path()).unwrap();
    check(&Checkpoint::open(folder.path()).unwrap()).unwrap();
    let shard = folder.path().join("model-00002-of-00003.safetensors");
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &bytes[..bytes.len() - 40]).unwrap();
    says(&refused_at(folder.path()), &["model-00002-of-00003.safetensors", "cut off"]);
    std::fs::remove_file(&shard).unwrap();
    says(&refused_at(folder.path()), &["model-00002-of-00003.safetensors is missing"]);
    let pickled = tempfile::tempdir().unwrap();
    std::fs::write(pickled.path().join("config.json"), config().to_string()).unwrap();
    says(&refused_at(pickled.path()), &["model.safetensors", "not complete"]);
    std::fs::write(pickled.path().join("pytorch_model.bin"), b"PK").unwrap();
    says(&refused_at(pickled.path()), &["model.safetensors", "pickled", "convert them to safetensors"]);
    let index = folder.path().join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replace("model-00002-of-00003", "../model-00002-of-00003")).unwrap();
    says(&refused_at(folder.path()), &["not a plain file name"]);
}

#[test]
fn both_prefixes_of_emu3_are_the_same_model() {
    let text = json!({"vocab_size": 80, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4,
        "num_key_value_heads": 2, "rope_theta": 1e6, "rms_norm_eps": 1e-5});
    let mut plain: Names = vec![
        ("model.embed_tokens.weight".into(), vec![80, 64]),
        ("lm_head.weight".into(), vec![80, 64]),
        ("model.norm.weight".into(), vec![64]),
    ];
    let parts: [(&str, &[usize]); 9] = [
        ("input_layernorm", &[64]),
        ("post_attention_layernorm", &[64]),
        ("self_attn.q_proj", &[64, 64]),
        ("self_attn.k_proj", &[32, 64]),
        ("self_attn.v_proj", &[32, 64]),
        ("self_attn.o_proj", &[64, 64]),
        ("mlp.gate_proj", &[96, 64]),
        ("mlp.up_proj", &[96, 64]),
        ("mlp.down_proj", &[64, 96]),
    ];
    plain.extend(parts.iter().map(|(n, s)| (format!("model.layers.0.{n}.weight"), s.to_vec())));
    let values = |name: &str, shape: &[usize]| borealis_weights::testing::synth(3, name, shape);
    let mut makers = text.clone();
    (makers["model_type"], makers["eoi_token_id"]) = (json!("Emu3"), json!(40));
    let mut flat = CheckpointBuilder::new(makers.clone());
    let mut nested = CheckpointBuilder::new(json!({"model_type": "emu3", "text_config": text}));
    for (name, shape) in &plain {
        flat = flat.tensor("", name, shape, &values(name, shape));
        nested = nested.tensor("", &format!("text_model.{name}"), shape, &values(name, shape));
    }
    let (flat, nested) = (flat.open().unwrap(), nested.open().unwrap());
    assert_eq!(logits(&flat, QuantFormat::F32), logits(&nested, QuantFormat::F32));
    assert_eq!(flat.manifest().segment("image").map(|s| (s.start, s.size)), Some((41, 39)));
    assert_eq!(flat.manifest().family.as_deref(), Some("emu3"));
    // Emu3.5 has the same type, and norms of queries and keys.
    let mut newer = CheckpointBuilder::new(makers).tensors("", &plain, 3);
    for norm in ["q_norm", "k_norm"] {
        newer = newer.tensors("", &[(format!("model.layers.0.self_attn.{norm}.weight"), vec![16])], 3);
    }
    let newer = newer.open().unwrap();
    check(&newer).unwrap();
    assert_eq!(newer.manifest().family.as_deref(), Some("emu3.5"));
}

#[test]
fn converted_checkpoints_are_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let source = build(&config(), &names()).open().unwrap();
    let wanted = logits(&source, QuantFormat::F32);
    let formats = [
        (Target::AsIs, QuantFormat::F32),
        (Target::Bf16, QuantFormat::Bf16),
        (Target::Int8, QuantFormat::Int8),
        (Target::Int4, QuantFormat::Int4),
    ];
    for (target, format) in formats {
        let path = folder.path().join(format.name());
        let mut told = 0;
        let written = convert(&source, &path, target, &mut |bytes| told = bytes).unwrap();
        assert_eq!(written, plan_conversion(&source, target).unwrap());
        for (name, bytes) in &written.files {
            assert_eq!(std::fs::metadata(path.join(name)).unwrap().len(), *bytes, "{name}");
        }
        assert!(told > 0 && told < written.bytes());
        let copy = Checkpoint::open(&path).unwrap();
        check(&copy).unwrap();
        assert_eq!(copy.manifest().family.as_deref(), Some("mixtral"));
        assert_eq!(copy.manifest().segments, source.manifest().segments);
        // In the format that it was written in, the copy is what the source is in that format, to the bit.
        assert_eq!(logits(&copy, format), logits(&source, format), "{format:?}");
        let limit = if format == QuantFormat::Int4 { 0.3 } else { 1e-2 };
        assert!(nmse(&logits(&copy, QuantFormat::F32), &wanted) < limit, "{format:?}");
        let sums = std::fs::read_to_string(path.join("SHA256SUMS")).unwrap();
        assert_eq!(sums.lines().count(), written.files.len());
        assert!(sums.lines().all(|l| l.split_once("  ").is_some_and(|(h, n)| h.len() == 64 && path.join(n).is_file())));
        let again = convert(&source, &path, target, &mut |_| {}).unwrap_err().to_string();
        says(&again, &["is there already"]);
    }
    let int8 = Checkpoint::open(&folder.path().join("int8")).unwrap();
    says(&plan_conversion(&int8, Target::Bf16).unwrap_err().to_string(), &["is int8 already"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), formats.len(), "nothing half is left");
}

#[test]
fn weights_are_sized_without_loading_them() {
    let mut tiny = borealis_weights::testing::tiny_config();
    tiny["media"]["scene_condition"] = json!(true);
    let ours = [compressed(), tiny].map(|c| checkpoint(&c, 1).1);
    let foreign = build(&config(), &names()).open().unwrap();
    for checkpoint in ours.iter().chain([&foreign]) {
        for format in QuantFormat::ALL {
            let model = load(checkpoint, &DeviceSpec::Cpu, format, 1).unwrap();
            assert_eq!(weight_bytes(model.config(), format), model.summary().device_bytes, "{format:?}");
        }
    }
}

#[test]
fn the_hub_s_cache_is_made_of_links() {
    let cache = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (cache.path().join("blobs"), cache.path().join("snapshots/abc"));
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    for (i, (name, bytes)) in build(&config(), &names()).build().unwrap().into_iter().enumerate() {
        std::fs::write(blobs.join(i.to_string()), bytes).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(format!("../../blobs/{i}"), snapshot.join(name)).unwrap();
    }
    if cfg!(unix) {
        check(&Checkpoint::open(&snapshot).unwrap()).unwrap();
        let stray = cache.path().join("snapshots/abc/config.json");
        std::fs::remove_file(&stray).unwrap();
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(elsewhere.path(), &stray).unwrap();
        says(&refused_at(&snapshot), &["a link that leads out of the folder"]);
    }
}

#[test]
fn every_family_has_a_name_of_its_own_type() {
    let mut types: Vec<&str> = FAMILIES.iter().flat_map(|f| f.model_types.iter().copied()).collect();
    let all = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), all, "one model_type, one family");
}
