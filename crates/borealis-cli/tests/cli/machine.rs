//! What programs read: events, `inspect --json`, `bench --json`, pipes.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::run::{borealis, folder, generate, names, succeed, tiny};

fn json(arguments: &[&str]) -> Value {
    let output = succeed(borealis().args(arguments).arg("--json").arg("--model").arg(tiny()));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn events_tell_a_generation() {
    let place = folder();
    let output = generate("a red ball", &place.path().join("a.mp4"), ["--json", "--seconds", "1", "--variants", "2"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| lines.iter().filter(|l| l["event"] == name).collect::<Vec<_>>();
    let started = of("started");
    assert_eq!(started.len(), 1);
    for (field, value) in [("height", 480), ("fps", 24), ("frames", 24), ("variants", 2), ("seed", 7)] {
        assert_eq!(started[0][field], value, "{field}");
    }
    assert!(of("progress").iter().any(|l| l["stage"] == "generate" && l["done"] == l["total"]));
    let files: Vec<_> =
        of("file").iter().map(|l| l["path"].as_str().unwrap().rsplit('/').next().unwrap().to_string()).collect();
    assert_eq!(files, ["a-1.mp4", "a-2.mp4"]);
    assert_eq!(names(place.path()), files);
    let done = lines.last().unwrap();
    assert_eq!(done["event"], "done");
    assert!(done["usage"]["positions"].as_u64().unwrap() > 0 && done["usage"]["steps"].as_u64().unwrap() > 0, "{done}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_error_is_an_event_too() {
    let output = borealis().args(["generate", "a", "-o", "/nonexistent/a.mp4", "--json"]).output().unwrap();
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((line["event"].as_str(), line["exit_code"].as_u64()), (Some("error"), Some(1)));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn inspect_tells_what_a_model_is() {
    let told = json(&["inspect"]);
    assert_eq!(told["vocab_size"], 4279);
    assert!(told["active_parameters"].as_u64().unwrap() < told["parameters"].as_u64().unwrap());
    assert_eq!(told["segments"][0]["name"], "text");
    let output = succeed(borealis().arg("inspect").arg("--model").arg(tiny()));
    let text = String::from_utf8(output.stdout).unwrap().replace(tiny().to_str().unwrap(), "TINY");
    insta::assert_snapshot!(text);
}

#[test]
fn bench_tells_figures() {
    let told = json(&["bench", "--seconds", "1", "--runs", "1"]);
    for field in ["whole_seconds", "positions_per_second", "share_of_limit", "bytes_per_step", "operations_per_step"] {
        assert!(told[field].as_f64().unwrap() > 0.0, "{field}: {told}");
    }
    assert!(told["machine"]["dram_bytes_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_prompt_comes_from_standard_input() {
    let place = folder();
    let file = place.path().join("a.png");
    let mut command = borealis();
    command.args(["generate", "-", "--quiet", "-o"]).arg(&file).arg("--model").arg(tiny()).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a red ball\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(file.exists());
}

#[test]
fn the_model_may_come_from_the_environment() {
    let output = borealis().arg("inspect").env("BOREALIS_MODEL", "/nonexistent").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = borealis()
        .arg("inspect")
        .arg("--model")
        .arg(tiny())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stderr.is_empty());
}
