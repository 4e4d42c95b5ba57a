//! Checkpoints that lie: each is refused with a message that names the thing, and nothing panics.

use borealis_weights::testing::{CheckpointBuilder, text_config, tiny_config};
use borealis_weights::{Checkpoint, Manifest};
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

/// The valid configuration after `edit`.
fn manifest(edit: impl Fn(&mut Value)) -> String {
    let mut config = tiny_config();
    Manifest::new(&config, None).unwrap();
    edit(&mut config);
    let text = Manifest::new(&config, None).expect_err("must be refused").to_string();
    assert!(text.starts_with("config.json: "), "{text}");
    text
}

#[test]
fn vocabularies_that_contradict_themselves() {
    says(&manifest(|c| c["format"] = json!(2)), &["format is 2: must be 1"]);
    says(&manifest(|c| c["model_type"] = json!("llama")), &["model_type is \"llama\""]);
    says(&manifest(|c| c["vocab_size"] = json!(565)), &["vocab_size is 565", "cover 564 ids"]);
    says(&manifest(|c| c["vocab_size"] = json!(-1)), &["vocab_size is -1: must be an integer from 1"]);
    says(
        &manifest(|c| c["segments"][1]["start"] = json!(255)),
        &["segments[1].start is 255: must be 256, right after segment \"text\""],
    );
    says(&manifest(|c| c["segments"][1]["size"] = json!(43)), &["segments[2].start is 300: must be 299"]);
    says(&manifest(|c| c["segments"][1]["size"] = json!(0)), &["segments[1].size is 0"]);
    says(&manifest(|c| c["segments"][2]["name"] = json!("text")), &["segments[2].name", "unique"]);
    says(
        &manifest(|c| c["segments"][2]["sizes"] = json!(1)),
        &["segments[2].sizes is 1: unknown field, did you mean \"size\"?"],
    );
    says(&manifest(|c| c["segments"] = json!(3)), &["segments is 3: must be a list"]);
    says(
        &manifest(|c| c["controls"]["<media>"] = json!(7)),
        &["controls.<media> is 7: must lie in segment \"control\", 256 to 299"],
    );
    says(&manifest(|c| c["controls"]["<media>"] = json!(256)), &["256: is also the id of control"]);
    says(&manifest(|c| c["row_kinds"][1] = json!("text")), &["row_kinds[1]", "unique"]);
    says(&manifest(|c| c["hiden_size"] = json!(1)), &["hiden_size is 1: unknown field, did you mean \"hidden_size\"?"]);
    says(
        &manifest(|c| c["quantization"] = json!({"format": "int8", "group": 32})),
        &["quantization.group is 32: must be 64 or 128"],
    );
}

#[test]
fn modalities_that_contradict_the_vocabulary() {
    says(&manifest(|c| c["modalities"][0]["codes"][0]["size"] = json!(565)), &["modalities[0].codes[0].size is 565"]);
    says(
        &manifest(|c| c["modalities"][2]["codes"][8]["size"] = json!(9)),
        &["modalities[2].codes[8].size is 9", "inside one segment"],
    );
    says(&manifest(|c| c["modalities"][2]["codes"] = json!([])), &["at least one range"]);
    says(&manifest(|c| c["modalities"][2]["predict"] = json!("one")), &["predict is \"one\"", "4 of 9"]);
    says(
        &manifest(|c| c["modalities"][2]["predict"] = json!("two")),
        &["must be \"one\" or \"parallel\" or \"depth\""],
    );
    says(&manifest(|c| c["modalities"][0]["copy_gate"] = json!(true)), &["copy_gate is true"]);
    says(&manifest(|c| c["modalities"][2]["slots"] = json!(0)), &["slots is 0"]);
    says(&manifest(|c| c["modalities"][2]["plan"] = json!("spiral")), &["plan is \"spiral\""]);
    says(&manifest(|c| c["modalities"][0]["offset"] = json!(1)), &["modalities[0].offset is 1"]);
    says(&manifest(|c| c["modalities"][2]["condition"] = json!("text")), &["condition is \"text\""]);
    says(&manifest(|c| c["modalities"][2]["condition"] = json!("audio")), &["has no condition itself"]);
    says(&manifest(|c| c["modalities"][3]["name"] = json!("video")), &["unique"]);
}

#[test]
fn media_that_do_not_add_up() {
    says(
        &manifest(|c| c["media"]["latent_fps"] = json!(5)),
        &["media.latent_fps is 5: must be fps / frames_per_latent = 24 / 4"],
    );
    says(&manifest(|c| c["media"]["window"] = json!(0)), &["media.window is 0"]);
    says(
        &manifest(|c| c["media"]["block"][0] = json!("smell")),
        &["media.block[0] is \"smell\": must be a modality: text, state"],
    );
    says(&manifest(|c| c["media"]["block"][0] = json!("video")), &["media.block[1]", "already in the block"]);
    says(
        &manifest(|c| c["media"]["groups"] = json!([["state"], ["video"]])),
        &["every modality of media.block exactly once"],
    );
    says(&manifest(|c| c["media"]["grids"]["16x9"] = json!([1, 1])), &["a ratio such as"]);
    says(&manifest(|c| c["media"]["grids"]["16:9"] = json!([5])), &["must be [rows, columns]"]);
    says(&manifest(|c| c["media"]["grids"]["16:9"] = json!([5, 0])), &["media.grids.16:9[1] is 0"]);
    says(
        &manifest(|c| c["media"]["canvas_cells"]["16:9"] = json!([9, 17])),
        &["canvas_cells.16:9", "must make the grid [5, 8]"],
    );
    says(&manifest(|c| c["row_features"]["size"] = json!(35)), &["row_features.size is 35: the lists make 36 numbers"]);
    says(&manifest(|c| c["row_features"]["relative"] = json!(["x"])), &["row_features.relative[0] is \"x\""]);
    says(
        &manifest(|c| c["scene"]["fields"][1]["size"] = json!(33)),
        &["scene.fields[1].start", "segment \"scene\", 300 to 339"],
    );
    says(&manifest(|c| c["scene"]["fields"][1]["name"] = json!("background")), &["unique"]);
    says(
        &manifest(|c| c["modalities"][0]["codes"][0]["size"] = json!(330)),
        &["scene.fields[1].start is 308", "modality \"text\""],
    );
    says(
        &manifest(|c| (c["media"]["scene_condition"], c["scene"]) = (json!(true), json!({}))),
        &["media.scene_condition is true: needs a scene plan"],
    );
    says(&manifest(|c| c["modes"]["text_to_smell"] = json!({"control": "<t2v>"})), &["unknown field"]);
    says(
        &manifest(|c| c["modes"]["extend"]["control"] = json!("<more>")),
        &["modes.extend.control is \"<more>\": must be one of"],
    );
    says(
        &manifest(|c| drop(c["controls"].as_object_mut().unwrap().remove("<media>"))),
        &["controls.<media> is missing"],
    );
}

#[test]
fn generation_defaults_that_mean_nothing() {
    let bad = |g: Value| Manifest::new(&tiny_config(), Some(&g)).expect_err("must be refused").to_string();
    says(&bad(json!({"guidance": "2"})), &["generation_config.json: guidance is \"2\": must be a number"]);
    says(&bad(json!({"sampling": {"video": {"temperature": -1}}})), &["sampling.video.temperature is -1"]);
    says(&bad(json!({"sampling": {"video": {"top_p": 0}}})), &["sampling.video.top_p is 0"]);
    says(&bad(json!({"sampling": {"smell": {}}})), &["sampling.smell"]);
    says(&bad(json!({"presets": {"turbo": {}}})), &["presets.turbo"]);
    says(&bad(json!({"presets": {"speed": {"fps_divisor": 3}}})), &["fps_divisor is 3: must divide"]);
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

/// Replaces the value at the `at`-th place of a tree.
fn replace(value: &mut Value, at: &mut usize, with: &Value) {
    if *at == 0 {
        *value = with.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(list) => list.iter_mut().for_each(|v| replace(v, at, with)),
        Value::Object(object) => object.values_mut().for_each(|v| replace(v, at, with)),
        _ => {}
    }
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!("x")),
        Just(json!(true)),
        Just(json!(1e300)),
        Just(json!(-1)),
        Just(json!(u64::MAX)),
        any::<i64>().prop_map(|v| json!(v)),
        (0u32..600).prop_map(|v| json!(v)),
        Just(json!([[["text"]]])),
    ]
}

proptest! {
    #[test]
    fn no_configuration_panics(changes in proptest::collection::vec((0usize..420, odd_value()), 1..4)) {
        let mut config = tiny_config();
        for (at, with) in changes {
            replace(&mut config, &mut { at }, &with);
        }
        if let Err(e) = Manifest::new(&config, None) {
            prop_assert!(!e.to_string().contains('\n'));
        }
    }

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
