//! The edges between the crates are those of `ARCHITECTURE.md`: they only go down.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Who may depend on whom. Another edge needs another picture in `ARCHITECTURE.md`; another crate needs another kind of danger.
const EDGES: [(&str, &[&str]); 9] = [
    ("borealis-kernels", &[]),
    ("borealis-media", &[]),
    ("borealis-hub", &[]),
    ("borealis-weights", &["borealis-kernels"]),
    ("borealis-tokenizers", &["borealis-kernels", "borealis-media", "borealis-weights"]),
    ("borealis-model", &["borealis-kernels", "borealis-weights"]),
    (
        "borealis-engine",
        &["borealis-kernels", "borealis-media", "borealis-model", "borealis-tokenizers", "borealis-weights"],
    ),
    ("borealis-server", &["borealis-engine", "borealis-media", "borealis-weights"]),
    (
        "borealis-cli",
        &[
            "borealis-engine",
            "borealis-hub",
            "borealis-kernels",
            "borealis-media",
            "borealis-model",
            "borealis-server",
            "borealis-tokenizers",
            "borealis-weights",
        ],
    ),
];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Edges of the workspace that are part of a build (not of tests), from `cargo metadata`.
fn graph() -> Graph {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(super::root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_string();
    let list = |v: &serde_json::Value| v.as_array().cloned().unwrap_or_default();
    let mut graph = Graph::new();
    for package in list(&metadata["packages"]) {
        let built = list(&package["dependencies"]).into_iter().filter(|d| d["kind"].as_str() != Some("dev"));
        let ours = built.map(|d| text(&d["name"])).filter(|n| n.starts_with("borealis-")).collect();
        graph.insert(text(&package["name"]), ours);
    }
    graph
}

#[test]
fn the_edges_between_the_crates_are_the_documented_ones() {
    let mut found = graph();
    // They sit on top of everything and nobody builds on them.
    for package in ["borealis-tests", "borealis-benches"] {
        found.remove(package);
    }
    let documented: Graph =
        EDGES.iter().map(|(n, d)| (n.to_string(), d.iter().map(|d| d.to_string()).collect())).collect();
    assert_eq!(found, documented);
}

#[test]
fn every_edge_goes_down() {
    for (i, (name, edges)) in EDGES.iter().enumerate() {
        for edge in *edges {
            let below = EDGES[..i].iter().any(|(n, _)| n == edge);
            assert!(below, "{name} -> {edge} does not go down");
        }
    }
}

#[test]
fn the_architecture_names_every_crate() {
    let text = super::document("ARCHITECTURE.md");
    for (name, _) in EDGES {
        assert!(text.contains(name), "ARCHITECTURE.md does not name {name}");
    }
    assert!(text.lines().count() <= 120, "ARCHITECTURE.md has more than 120 lines");
}
