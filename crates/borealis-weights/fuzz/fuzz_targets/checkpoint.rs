//! Any bytes as `model.safetensors`, or as an index beside a valid shard: refused or readable, never a panic.
#![no_main]

use borealis_weights::Checkpoint;
use borealis_weights::testing::{CheckpointBuilder, text_config};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let name = if first % 2 == 0 { "model.safetensors" } else { "model.safetensors.index.json" };
    let mut config = text_config();
    if first & 2 != 0 {
        config["quantization"] = serde_json::json!({"format": "int8", "group": 64});
    }
    let builder =
        CheckpointBuilder::new(config).shards(2).tensors("", &[("a".into(), vec![2, 2]), ("b".into(), vec![3])], 1);
    let Ok(mut files) = builder.build() else { return };
    files.retain(|(n, _)| n != "model.safetensors.index.json");
    files.push((name.into(), rest.to_vec()));
    let Ok(checkpoint) = Checkpoint::from_files(files) else { return };
    let Ok(set) = checkpoint.tensors("") else { return };
    for tensor in set.names() {
        let _ = set.to_f32(tensor);
    }
});
