//! `--memory`: experts that do not fit change no id, and what cannot run is refused with the estimate.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::{borealis, folder, said, succeed};

/// The default model: large enough for most of it to be experts.
fn mini() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/borealis-mini").canonicalize().unwrap()
}

/// The ids of one still made with these options, and the events.
fn make(place: &Path, name: &str, options: &[&str]) -> (Vec<u8>, Vec<Value>, String) {
    let ids = place.join(format!("{name}.json"));
    let mut command = borealis();
    command.args(["generate", "a red ball", "--seed", "7", "--resolution", "480p", "--json", "--model"]).arg(mini());
    command.arg("-o").arg(place.join(format!("{name}.png"))).arg("--save-ids").arg(&ids).args(options);
    let output = succeed(&mut command);
    let events = output.stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let events = events.map(|line| serde_json::from_slice(line).unwrap()).collect();
    (std::fs::read(ids).unwrap(), events, said(&output))
}

/// The number before ` MiB` that stands `n`-th in a message.
fn mebibytes(text: &str, n: usize) -> u64 {
    let before: Vec<&str> = text.split(" MiB").collect();
    before[n].rsplit(' ').next().unwrap().trim_start_matches('(').parse().unwrap()
}

#[test]
fn experts_that_do_not_fit_change_no_id() {
    let place = folder();
    let mut command = borealis();
    command.args(["generate", "a", "-o", "x.png", "--memory", "1M", "--model"]).arg(mini());
    let refused = said(&command.output().unwrap());
    let (all, least) = (mebibytes(&refused, 0), mebibytes(&refused, 1));
    assert!(refused.starts_with("error: the model \"borealis-mini\" takes ") && least + 1 < all, "{refused}");
    assert!(refused.contains("1 MiB are there: ") && refused.trim_end().ends_with("or give it more with --memory"));

    let (whole, events, message) = make(place.path(), "whole", &[]);
    let done = events.last().unwrap();
    assert!(done["usage"]["experts"].is_null() && message.is_empty(), "{done} {message}");
    if cfg!(target_os = "linux") {
        assert!(done["peak_memory_bytes"].as_u64().unwrap() > 10 << 20);
    }
    // One expert of each layer for sure, and not all.
    let limit = format!("{}M", 1000 - least);
    for options in [
        vec!["--memory", "1000M", "--memory-limit", &limit],
        vec!["--ranks", "2", "--memory", "1000M", "--memory-limit", &limit],
    ] {
        let (some, events, message) = make(place.path(), "some", &options);
        assert!(some == whole, "{options:?} give other ids");
        let experts = &events.last().unwrap()["usage"]["experts"];
        assert!(experts["misses"].as_u64().unwrap() > 0 && experts["hit_rate"].as_f64().unwrap() < 1.0, "{experts}");
        assert!(message.contains("experts of each layer fit into memory"), "{message}");
    }
}

#[test]
fn a_request_that_does_not_fit_beside_the_weights_is_refused() {
    let place = folder();
    let mut command = borealis();
    command.args(["generate", "a", "--seconds", "15", "--variants", "4", "--memory", "40M", "--model"]).arg(mini());
    let output = command.arg("-o").arg(place.path().join("a.mp4")).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let what = text.lines().last().unwrap();
    assert!(
        what.starts_with("error: the request takes ") && what.contains("--dtype") && what.contains("--memory"),
        "{text}"
    );
}
