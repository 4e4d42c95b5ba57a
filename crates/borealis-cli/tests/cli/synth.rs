//! Models with random weights, and the figures that are taken on them.

use serde_json::Value;

use crate::run::{borealis, folder, names, succeed};

/// A shape that is written and loaded in no time.
const SMALL: [&str; 18] = [
    "--hidden",
    "64",
    "--layers",
    "2",
    "--experts",
    "4",
    "--top-k",
    "2",
    "--inner",
    "64",
    "--heads",
    "4",
    "--kv-heads",
    "2",
    "--head-dim",
    "16",
    "--vocabulary",
    "300",
];

#[test]
fn a_synthetic_model_is_the_same_everywhere_and_can_be_used() {
    let place = folder();
    let write = |name: &str, more: &[&str]| {
        let mut command = borealis();
        command.args(["synth", "40m"]).arg(place.path().join(name)).args(SMALL).args(more);
        String::from_utf8(succeed(&mut command).stdout).unwrap()
    };
    let plan = write("plan", &["--dry-run"]);
    assert!(plan.contains("would write") && !place.path().join("plan").exists(), "{plan}");
    let told = write("a", &[]);
    assert_eq!(plan.replace("would write", "wrote").replace("/plan", "/a"), told);
    write("b", &[]);
    write("c", &["--seed", "1"]);
    let sums = |name: &str| std::fs::read_to_string(place.path().join(name).join("SHA256SUMS")).unwrap();
    assert_eq!(sums("a"), sums("b"));
    assert_ne!(sums("a"), sums("c"));
    let files = names(&place.path().join("a"));
    assert_eq!(files, ["SHA256SUMS", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);

    let int4 = place.path().join("int4");
    succeed(borealis().arg("convert").arg(place.path().join("a")).arg(&int4).args(["--quantize", "int4"]));
    let inspected = succeed(borealis().args(["inspect", "--json", "--model"]).arg(&int4));
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["vocab_size"], 300);

    let out = place.path().join("figures");
    let mut bench = borealis();
    bench.args(["bench", "model"]).arg(place.path().join("a")).arg(&int4);
    bench.args(["--json", "--budget", "0.01", "--rows", "1,3", "--prefill", "5", "--threads", "1", "--out"]).arg(&out);
    let told: Value = serde_json::from_slice(&succeed(&mut bench).stdout).unwrap();
    let figures = told["figures"].as_array().unwrap();
    assert_eq!(figures.len(), 2 * 3 * 3, "models x types x (prefill and two numbers of rows)");
    for figure in figures {
        let field = |name: &str| figure[name].as_f64().unwrap();
        assert!(field("positions_per_second") > 0.0 && field("bytes_per_step") > 0.0, "{figure}");
        assert!(field("best_seconds") <= field("median_seconds"), "{figure}");
    }
    let bytes = |dtype: &str| figures.iter().find(|f| f["dtype"] == dtype).unwrap()["bytes_per_step"].as_f64().unwrap();
    assert!(bytes("int4") < bytes("int8") && bytes("int8") < bytes("bf16"));
    assert_eq!(names(&out), ["model.json", "model.md", "model.svg"]);
    let table = std::fs::read_to_string(out.join("model.md")).unwrap();
    assert_eq!(table.lines().filter(|l| l.starts_with("| a |") || l.starts_with("| int4 |")).count(), figures.len());
    let drawing = std::fs::read_to_string(out.join("model.svg")).unwrap();
    assert_eq!(drawing.matches("<polyline").count(), 2 * 3 * 2, "models x types x (figures and limits)");
}

#[test]
fn shapes_that_are_no_model_are_refused() {
    let place = folder();
    for (option, value, words) in [
        ("--kv-heads", "3", "num_key_value_heads is 3: must divide num_attention_heads"),
        ("--top-k", "17", "num_experts_per_tok is 17: at most num_experts"),
        ("--vocabulary", "10", "vocab_size is 10: use at least 260"),
        ("--layers", "0", "num_hidden_layers is 0: use 1 to 1048576"),
    ] {
        let output =
            borealis().args(["synth", "40m"]).arg(place.path().join("x")).args([option, value]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(words), "{text}");
    }
    assert!(names(place.path()).is_empty());
}
