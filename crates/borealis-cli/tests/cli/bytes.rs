//! Same seed, same bytes.

use std::path::Path;

use serde_json::Value;

use crate::run::{folder, generate};

/// The ids that a generation saved, by modality.
fn ids(prompt: &str, place: &Path, name: &str, more: &[&str]) -> Value {
    let saved = place.join(format!("{name}.json"));
    let mut arguments = vec!["--seconds", "1", "--temperature", "1", "--save-ids", saved.to_str().unwrap()];
    arguments.extend(more);
    generate(prompt, &place.join(format!("{name}.mp4")), arguments);
    let saved = if saved.exists() { saved } else { place.join(format!("{name}-1.json")) };
    let mut told: Value = serde_json::from_slice(&std::fs::read(saved).unwrap()).unwrap();
    told["ids"].take()
}

#[test]
fn a_file_is_the_same_again() {
    let place = folder();
    for file in ["a.mp4", "a.png"] {
        let more: &[&str] =
            if file == "a.mp4" { &["--seconds", "1", "--temperature", "1"] } else { &["--temperature", "1"] };
        let [first, second] = ["1", "2"].map(|n| place.path().join(format!("{n}-{file}")));
        generate("a red ball", &first, more);
        generate("a red ball", &second, more);
        assert!(std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap(), "{file}");
    }
}

#[test]
fn ids_do_not_depend_on_threads_variants_or_backend() {
    let place = folder();
    let one = ids("a red ball", place.path(), "one", &["--threads", "1", "--dtype", "f32"]);
    assert!(one["video"].as_array().is_some_and(|ids| !ids.is_empty()), "{one}");
    let same: [(&str, &[&str]); 4] = [
        ("two threads", &["--threads", "2", "--dtype", "f32"]),
        ("four variants", &["--variants", "4", "--dtype", "f32"]),
        ("reference", &["--device", "reference", "--dtype", "f32"]),
        ("no sound file", &["--no-audio", "--dtype", "f32"]),
    ];
    for (name, more) in same {
        let other = ids("a red ball", place.path(), name, more);
        assert!(one["video"] == other["video"], "{name}: other video ids");
    }
    let other = ids("a red ball", place.path(), "seed", &["--seed", "8", "--dtype", "f32"]);
    assert!(one["video"] != other["video"], "another seed gave the same ids");
}

#[test]
fn guided_ids_do_not_depend_on_threads() {
    let place = folder();
    let one = ids("a red ball", place.path(), "one", &["--guidance", "2", "--threads", "1"]);
    let two = ids("a red ball", place.path(), "two", &["--guidance", "2", "--threads", "2"]);
    assert!(one == two);
}
