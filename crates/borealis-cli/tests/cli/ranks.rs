//! One model over several ranks: the same ids, whoever holds which expert. `scripts/ranks.sh` does the same with processes.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::run::{borealis, folder, generate, said, succeed, tiny};

/// The ids of a clip, or of a still, with these options.
fn ids(place: &Path, name: &str, more: &[&str]) -> String {
    let saved = place.join(format!("{name}.json"));
    let mut all = vec!["--save-ids", saved.to_str().unwrap()];
    all.extend(more);
    let ending = if more.contains(&"--seconds") { "mp4" } else { "png" };
    generate("a red ball", &place.join(format!("{name}.{ending}")), all);
    fs::read_to_string(saved).unwrap()
}

#[test]
fn ranks_give_the_ids_of_one() {
    let place = folder();
    let clip = |name: &str, ranks: &[&str]| ids(place.path(), name, &[&["--seconds", "1"], ranks].concat());
    let one = clip("one", &[]);
    assert_eq!(clip("two", &["--ranks", "2"]), one);
    assert_eq!(clip("four", &["--ranks", "4", "--threads", "1"]), one);
    let still = ids(place.path(), "still", &["--dtype", "int8"]);
    assert_eq!(ids(place.path(), "spread", &["--dtype", "int8", "--ranks", "3"]), still);
}

#[test]
fn the_measured_load_places_experts_and_changes_nothing() {
    let place = folder();
    let load = place.path().join("load.json");
    let mut bench = borealis();
    bench.args(["bench", "--seconds", "1", "--runs", "1", "--ranks", "2", "--json", "--save-expert-load"]).arg(&load);
    let told: Value = serde_json::from_slice(&succeed(bench.arg("--model").arg(tiny())).stdout).unwrap();
    let cost = &told["exchange"];
    // The prompt goes through the experts, too.
    let forwards = told["steps"].as_u64().map(|steps| steps + 1);
    assert_eq!((cost["ranks"].as_u64(), cost["steps"].as_u64()), (Some(2), forwards));
    for field in ["sent_bytes_per_step", "received_bytes_per_step", "own_seconds_per_step"] {
        assert!(cost[field].as_f64().unwrap() > 0.0, "{field}: {cost}");
    }
    let counted: Value = serde_json::from_slice(&fs::read(&load).unwrap()).unwrap();
    let layers = counted["load"].as_array().unwrap();
    assert!(layers.iter().all(|l| l.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>() > 0));
    let one = ids(place.path(), "one", &[]);
    let load = load.to_str().unwrap();
    assert_eq!(ids(place.path(), "placed", &["--ranks", "2", "--expert-load", load]), one);
}

#[test]
fn what_cannot_be_spread_is_refused() {
    let place = folder();
    let file = place.path().join("a.png");
    let refused = |more: &[&str]| {
        let mut command = borealis();
        command.args(["generate", "a", "--seed", "1", "-o"]).arg(&file).arg("--model").arg(tiny()).args(more);
        let output = command.output().unwrap();
        assert!(!file.exists());
        (output.status.code(), said(&output))
    };
    let (code, text) = refused(&["--ranks", "999"]);
    assert_eq!(code, Some(2));
    assert!(text.starts_with("error: ranks: 999 ranks for ") && text.contains("use at most"), "{text}");
    let load = place.path().join("load.json");
    fs::write(&load, "{\"load\": [[1, 2]]}").unwrap();
    let (code, text) = refused(&["--ranks", "2", "--expert-load", load.to_str().unwrap()]);
    assert!(code == Some(2) && text.contains("the expert load is of 1 layers"), "{text}");
    fs::write(&load, "{}").unwrap();
    let (code, text) = refused(&["--ranks", "2", "--expert-load", load.to_str().unwrap()]);
    assert!(code == Some(1) && text.contains("missing field `load`") && text.contains("--save-expert-load"), "{text}");
}
