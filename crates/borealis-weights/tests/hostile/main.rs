//! Checkpoints that lie: each is refused with a message that names the thing, and nothing panics.

mod manifest;

use borealis_weights::Checkpoint;
use borealis_weights::testing::{CheckpointBuilder, text_config};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

fn weights() -> CheckpointBuilder {
    let names =
        [("a.weight".to_string(), vec![2, 64]), ("b.weight".to_string(), vec![64]), ("c.weight".to_string(), vec![3])];
    CheckpointBuilder::new(text_config()).tensors("", &names, 1)
}

fn refused(folder: &Path) -> String {
    let start = Instant::now();
    let error = Checkpoint::open(folder).expect_err("must be refused");
    assert!(start.elapsed() < Duration::from_secs(5), "refused, but slowly");
    let text = error.to_string();
    assert!(!text.contains('\n'), "one line: {text}");
    text
}

/// Opens the valid checkpoint after `edit` changed its files.
fn broken(edit: impl Fn(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    weights().write(folder.path()).unwrap();
    Checkpoint::open(folder.path()).unwrap();
    edit(folder.path());
    refused(folder.path())
}

/// A safetensors file with this header.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn header(text: &str, data: usize) -> String {
    broken(|f| fs::write(f.join("model.safetensors"), file(text, data)).unwrap())
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    assert!(parts.iter().all(|p| message.contains(p)), "{message}\nshould say {parts:?}");
}

#[test]
fn missing_files() {
    says(&refused(Path::new("/does/not/exist")), &["/does/not/exist: not a checkpoint folder"]);
    says(&refused(tempfile::tempdir().unwrap().path()), &["config.json is missing"]);
    says(&broken(|f| fs::remove_file(f.join("model.safetensors")).unwrap()), &["model.safetensors is missing"]);
}

#[test]
fn headers_that_lie() {
    let one = |start: usize, end: usize| format!(r#""a":{{"dtype":"F32","shape":[2],"data_offsets":[{start},{end}]}}"#);
    says(&broken(|f| fs::write(f.join("model.safetensors"), b"abc").unwrap()), &["3 bytes are too few"]);
    says(
        &broken(|f| fs::write(f.join("model.safetensors"), u64::MAX.to_le_bytes()).unwrap()),
        &["would be 18446744073709551615 bytes"],
    );
    says(
        &broken(|f| fs::write(f.join("model.safetensors"), 99u64.to_le_bytes()).unwrap()),
        &["would be 99 bytes but only 0 follow"],
    );
    says(&header("[]", 0), &["does not start with {"]);
    says(&header("{\"a\":", 0), &["bad header"]);
    says(&header(&format!("{{{}}}", one(0, 8)), 7), &["not the length that its header describes"]);
    says(&header(&format!("{{{}}}", one(0, 8)), 9), &["not the length that its header describes"]);
    says(&header(&format!("{{{}}}", one(0, 4)), 4), &["shape and type do not fit"]);
    says(&header(&format!("{{{}}}", one(8, 0)), 8), &["model.safetensors"]);
    says(&header(&format!("{{{}}}", one(usize::MAX - 7, usize::MAX)), 8), &["tensor a overlap others or leave a hole"]);
    says(&header(&format!("{{{},{}}}", one(0, 8), one(0, 8)), 8), &["\"a\" is there twice"]);
    let b = |start: usize, end: usize| one(start, end).replace("\"a\"", "\"b\"");
    says(&header(&format!("{{{},{}}}", one(0, 8), b(4, 12)), 12), &["overlap others or leave a hole"]);
    says(&header(&format!("{{{},{}}}", one(0, 8), b(12, 20)), 20), &["overlap others or leave a hole"]);
    says(
        &header(r#"{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#, 8),
        &["tensor a has type F64: use F32, F16, BF16 or I8"],
    );
    says(&header(r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#, 0), &["tensor a has shape [0]"]);
    says(
        &header(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}"#, 0),
        &["larger than any memory"],
    );
    says(
        &header(r#"{"a":{"dtype":"I8","shape":[1,64],"data_offsets":[0,64]}}"#, 64),
        &["tensor a is I8", "quantization"],
    );
}

#[test]
fn truncated_anywhere() {
    let bytes = weights().build().unwrap().into_iter().find(|(n, _)| n == "model.safetensors").unwrap().1;
    for cut in (0..bytes.len()).step_by(13).chain([bytes.len() - 1]) {
        broken(|f| fs::write(f.join("model.safetensors"), &bytes[..cut]).unwrap());
    }
}

#[test]
fn int8_needs_its_scales() {
    let mut config = text_config();
    config["quantization"] = json!({"format": "int8", "group": 64});
    let open = |header: &str, data: usize| {
        let folder = tempfile::tempdir().unwrap();
        CheckpointBuilder::new(config.clone())
            .file("model.safetensors", file(header, data))
            .write(folder.path())
            .unwrap();
        refused(folder.path())
    };
    says(
        &open(r#"{"a":{"dtype":"I8","shape":[1,64],"data_offsets":[0,64]}}"#, 64),
        &["a is I8 and needs a.scales as F16 [1, 1]: it is missing"],
    );
    says(&open(r#"{"a":{"dtype":"I8","shape":[1,65],"data_offsets":[0,65]}}"#, 65), &["multiple of the group, 64"]);
    says(&open(r#"{"a":{"dtype":"I8","shape":[64],"data_offsets":[0,64]}}"#, 64), &["multiple of the group, 64"]);
    let scales = r#"{"a":{"dtype":"I8","shape":[1,64],"data_offsets":[0,64]},"a.scales":{"dtype":"F16","shape":[2],"data_offsets":[64,68]}}"#;
    says(&open(scales, 68), &["a.scales as F16 [1, 1]: it is F16 [2]"]);
    let four = r#"{"a":{"dtype":"U8","shape":[1,32],"data_offsets":[0,32]}}"#;
    says(&open(four, 32), &["a has type U8", "\"format\": \"int4\""]);
    config["quantization"]["format"] = json!("int4");
    let open = |header: &str, data: usize| {
        let folder = tempfile::tempdir().unwrap();
        let builder = CheckpointBuilder::new(config.clone()).file("model.safetensors", file(header, data));
        builder.write(folder.path()).unwrap();
        refused(folder.path())
    };
    says(&open(four, 32), &["a is U8 and needs a.scales as F16 [1, 1]: it is missing"]);
    says(
        &open(r#"{"a":{"dtype":"U8","shape":[1,33],"data_offsets":[0,33]}}"#, 33),
        &["66 columns", "multiple of the group, 64"],
    );
    says(
        &open(r#"{"a":{"dtype":"I8","shape":[1,64],"data_offsets":[0,64]}}"#, 64),
        &["no \"quantization\" of this type"],
    );
}

#[test]
fn indices_that_lie() {
    let index = |edit: &dyn Fn(&mut Value, &Path)| {
        let folder = tempfile::tempdir().unwrap();
        weights().shards(2).write(folder.path()).unwrap();
        Checkpoint::open(folder.path()).unwrap();
        let path = folder.path().join("model.safetensors.index.json");
        let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut value, folder.path());
        fs::write(path, value.to_string()).unwrap();
        refused(folder.path())
    };
    let first = "model-00001-of-00002.safetensors";
    for name in [
        "../x.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..\\x.safetensors",
        ".safetensors",
        "config.json",
        "x\0.safetensors",
    ] {
        says(
            &index(&|v, _| v["weight_map"]["a.weight"] = json!(name)),
            &["weight_map.a.weight", "not a plain file name"],
        );
    }
    says(&index(&|v, _| v["weight_map"] = json!({})), &["1 to 1024 shards"]);
    says(&index(&|v, _| v["weight_map"]["c"] = json!(first)), &["tensor c is missing"]);
    says(&index(&|v, _| v["weight_map"]["c"] = json!("model-3.safetensors")), &["model-3.safetensors is missing"]);
    says(
        &index(&|v, _| drop(v["weight_map"].as_object_mut().unwrap().remove("a.weight"))),
        &[first, "tensor a.weight is not placed in this shard"],
    );
    says(&index(&|v, _| v["weight_map"]["b.weight"] = json!(first)), &["is missing"]);
    says(&index(&|_, f| fs::remove_file(f.join(first)).unwrap()), &[first, "is missing"]);
    says(&index(&|_, f| fs::write(f.join("model.safetensors"), b"").unwrap()), &["remove one of them"]);
}

#[cfg(unix)]
#[test]
fn links_and_devices() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x"), b"{}").unwrap();
    let link = |target: &Path| {
        broken(|f| {
            fs::remove_file(f.join("model.safetensors")).unwrap();
            symlink(target, f.join("model.safetensors")).unwrap();
        })
    };
    says(&link(&outside.path().join("x")), &["leads out of the folder"]);
    says(&link(Path::new("/dev/zero")), &["leads out of the folder"]);
    says(&link(Path::new("model.safetensors")), &["cannot read model.safetensors"]);
    says(
        &broken(|f| {
            fs::remove_file(f.join("config.json")).unwrap();
            fs::create_dir(f.join("config.json")).unwrap()
        }),
        &["not a plain file"],
    );
    // A link that stays inside is fine.
    let folder = tempfile::tempdir().unwrap();
    weights().write(folder.path()).unwrap();
    fs::rename(folder.path().join("model.safetensors"), folder.path().join("w")).unwrap();
    symlink("w", folder.path().join("model.safetensors")).unwrap();
    Checkpoint::open(folder.path()).unwrap();
}

#[test]
fn large_files_are_not_read() {
    says(
        &broken(|f| fs::File::create(f.join("config.json")).unwrap().set_len(1 << 40).unwrap()),
        &["config.json: 1099511627776 bytes, at most 16777216"],
    );
    // A mapped file of any size costs nothing before its header is believed.
    says(
        &broken(|f| fs::File::create(f.join("model.safetensors")).unwrap().set_len(1 << 40).unwrap()),
        &["does not start with {"],
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(flips in proptest::collection::vec((0usize..1200, any::<u8>()), 1..6)) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = weights().build().unwrap().into_iter().find(|(n, _)| n == "model.safetensors").unwrap().1;
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        weights().file("other", bytes.clone()).write(folder.path()).unwrap();
        fs::write(folder.path().join("model.safetensors"), &bytes).unwrap();
        if let Ok(checkpoint) = Checkpoint::open(folder.path()) {
            let set = checkpoint.tensors("").unwrap();
            for name in set.names() {
                let _ = set.to_f32(name);
            }
        }
    }
}
