//! The table of tensors in `weights.md`, section 6, is what the model asks for.

use crate::support::checkpoint;
use borealis_model::{ModelConfig, tensor_names};
use borealis_weights::testing::tiny_config;
use serde_json::json;
use std::collections::BTreeSet;

/// Patterns of the table: `{a,b}` spelt out, `.x.weight` after a comma put in the place of the name's last parts.
fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../weights.md")).unwrap();
    let section = text.split("\n## ").find(|s| s.starts_with("6. ")).unwrap();
    let mut names = BTreeSet::new();
    for line in section.lines().filter(|l| l.starts_with("| `")) {
        let cell = line.split('|').nth(1).unwrap();
        let mut first = "";
        for name in cell.split('`').skip(1).step_by(2) {
            let full = match name.strip_prefix('.') {
                Some(rest) => {
                    let parts: Vec<&str> = first.split('.').collect();
                    let keep = match parts.iter().position(|p| Some(*p) == rest.split('.').next()) {
                        Some(same) => same,
                        None => parts.len() - rest.split('.').count(),
                    };
                    format!("{}.{rest}", parts[..keep].join("."))
                }
                None => name.to_string(),
            };
            if first.is_empty() {
                first = name;
            }
            match full.split_once("{gate,up}") {
                Some((a, b)) => ["gate", "up"].map(|p| names.insert(format!("{a}{p}{b}"))).len(),
                None => usize::from(names.insert(full)),
            };
        }
    }
    names
}

#[test]
fn the_documented_tensors_are_the_ones_asked_for() {
    let mut config = tiny_config();
    for (key, value) in [
        ("router_selection_bias", json!(true)),
        ("n_shared_experts", json!(1)),
        ("first_k_dense_replace", json!(1)),
        ("intermediate_size", json!(64)),
        ("depth", json!({"num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 24})),
    ] {
        config[key] = value;
    }
    config["modalities"][3]["predict"] = json!("depth");
    config["modalities"][3]["copy_gate"] = json!(false);
    let (_folder, checkpoint) = checkpoint(&config, 1);
    let asked: BTreeSet<String> = tensor_names(&ModelConfig::new(checkpoint.manifest()).unwrap())
        .into_iter()
        .map(|(name, _)| {
            let parts: Vec<&str> = name.split('.').collect();
            let general = parts.iter().enumerate().map(|(i, p)| match i.checked_sub(1).map(|b| parts[b]) {
                Some("layers") => "{i}",
                Some("modalities") => "<m>",
                _ => p,
            });
            let name = general.collect::<Vec<_>>().join(".");
            // The depth transformer's layers are "as a dense layer".
            match name.split_once(".depth.layers.") {
                Some((modality, _)) => format!("{modality}.depth.layers.{{i}}.*"),
                None => name,
            }
        })
        .collect();
    assert_eq!(documented(), asked);
}
