//! Text, pictures, clips and sound to ids and back.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::run::{borealis, clip, ffmpeg, folder, generate, picture, probe, said, size, stream, succeed, tiny};

fn tokenize() -> Command {
    let mut command = borealis();
    command.arg("tokenize").arg("--model").arg(tiny());
    command
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn text_comes_back() {
    let place = folder();
    let text = "a red ball, two stars";
    for form in [None, Some("--plain")] {
        let file = place.path().join("ids");
        succeed(tokenize().args(["--text", text]).args(form).arg("-o").arg(&file));
        let output = succeed(tokenize().arg("--decode").arg(&file));
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), text);
    }
}

#[test]
fn a_picture_comes_back_in_its_ratio() {
    let place = folder();
    let [given, ids, again] = ["given.png", "ids.json", "again.png"].map(|n| place.path().join(n));
    picture(&given, "301x301");
    succeed(tokenize().arg(&given).arg("-o").arg(&ids));
    let told = read(&ids);
    assert_eq!((told["aspect_ratio"].as_str(), told["frames"].as_u64()), (Some("1:1"), Some(1)));
    succeed(tokenize().arg("--decode").arg(&ids).arg("-o").arg(&again));
    assert_eq!(size(&again), (720, 720));
}

#[test]
fn a_clip_comes_back_with_its_sound() {
    let place = folder();
    let [given, ids, again] = ["given.mp4", "ids.txt", "again.mp4"].map(|n| place.path().join(n));
    clip(&given, "320x180", "25", "1");
    succeed(tokenize().arg(&given).arg("--plain").arg("-o").arg(&ids));
    succeed(tokenize().arg("--decode").arg(&ids).arg("-o").arg(&again));
    let probed = probe(&again);
    assert_eq!(stream(&probed, "video")["nb_frames"], "24");
    for kind in ["video", "audio"] {
        assert_eq!(stream(&probed, kind)["duration"], "1.000000", "{kind}");
    }
}

#[test]
fn sound_comes_back() {
    let place = folder();
    let [given, ids, again] = ["given.wav", "ids.json", "again.wav"].map(|n| place.path().join(n));
    ffmpeg(&given, ["-f", "lavfi", "-i", "sine=frequency=300:sample_rate=44100:duration=1"]);
    succeed(tokenize().arg(&given).arg("-o").arg(&ids));
    succeed(tokenize().arg("--decode").arg(&ids).arg("-o").arg(&again));
    let probed = probe(&again);
    assert_eq!(stream(&probed, "audio")["duration"], "1.000000");
}

/// What a generation saved decodes to what it wrote: the very same file, as the same decoder and encoder made both.
#[test]
fn saved_ids_are_the_clip() {
    let place = folder();
    let [made, ids, again] = ["made.mp4", "ids.json", "again.mp4"].map(|n| place.path().join(n));
    let saved = ids.to_str().unwrap();
    generate("a red ball", &made, ["--seconds", "1", "--resolution", "720p", "--save-ids", saved]);
    succeed(tokenize().arg("--decode").arg(&ids).arg("-o").arg(&again));
    assert!(std::fs::read(&made).unwrap() == std::fs::read(&again).unwrap());
}

#[test]
fn wrong_files_are_refused() {
    let place = folder();
    let path = |name: &str| place.path().join(name);
    std::fs::write(path("no.json"), "{\"ids\": 1}").unwrap();
    std::fs::write(path("short.json"), "{\"aspect_ratio\": \"16:9\", \"ids\": {\"video\": [2671]}}").unwrap();
    std::fs::write(path("no-ratio.json"), "{\"ids\": {\"video\": [2671]}}").unwrap();
    std::fs::write(path("text.json"), "{\"ids\": {\"text\": [99999]}}").unwrap();
    std::fs::write(path("state.json"), "{\"ids\": {\"state\": [1]}}").unwrap();
    let mut table = String::new();
    for (name, output) in [
        ("no", "a.png"),
        ("short", "a.png"),
        ("no-ratio", "a.png"),
        ("text", "a.txt"),
        ("state", "a.png"),
        ("missing", "a.png"),
    ] {
        let ids = path(&format!("{name}.json"));
        let output = tokenize().arg("--decode").arg(ids).arg("-o").arg(path(output)).output().unwrap();
        let message = said(&output).replace(place.path().to_str().unwrap(), "DIR");
        table.push_str(&format!("{name}: {} {message}", output.status.code().unwrap()));
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 5, "{table}");
    insta::assert_snapshot!(table);
}
