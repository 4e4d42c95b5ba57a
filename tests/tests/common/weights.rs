//! Checkpoints of goldens, written before they are opened. Our own goldens store no weights: every number is drawn by [`number`] from seed,
//! tensor name and index, here and in `recipes/goldens.py`.

// Every test that walks uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;

use borealis_weights::Checkpoint;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::Value;

use crate::goldens::Golden;

/// Number `index` of the tensor `name`: `centre + scale * u`, u uniform in [-0.5, 0.5) with 24 bits: SplitMix64 (Steele, Lea and Flood 2014) of a
/// counter that starts at the seed xor FNV-1a of the name.
fn number(start: u64, index: u64, centre: f64, scale: f64) -> f32 {
    let mut z = start.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (centre + scale * ((z >> 40) as f64 / f64::from(1u32 << 24) - 0.5)) as f32
}

fn fnv(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3))
}

/// A tensor's shape, type and bytes.
type Drawn = (Vec<usize>, Dtype, Vec<u8>);

/// The number of type F8_E4M3 that is nearest to `x`, ties to even.
fn e4m3(x: f32) -> u8 {
    // Exponent bias 7, three bits of mantissa; 0x7f is no number.
    let value = |bits: u8| match (bits >> 3, f32::from(bits & 7)) {
        (0, m) => m / 8.0 * 2f32.powi(-6),
        (e, m) => (1.0 + m / 8.0) * 2f32.powi(i32::from(e) - 7),
    };
    let off = |bits: u8| (value(bits) - x.abs()).abs();
    let nearest = (0..0x7f).min_by(|a, b| off(*a).total_cmp(&off(*b)).then((a & 1).cmp(&(b & 1))));
    nearest.expect("some number") | if x.is_sign_negative() { 0x80 } else { 0 }
}

/// Numbers as the file stores them.
fn stored(dtype: Option<&str>, numbers: impl Iterator<Item = f32>) -> (Dtype, Vec<u8>) {
    match dtype.unwrap_or("f32") {
        "f32" => (Dtype::F32, numbers.flat_map(f32::to_le_bytes).collect()),
        "bf16" => (Dtype::BF16, numbers.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect()),
        "f16" => (Dtype::F16, numbers.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect()),
        "f8_e4m3" => (Dtype::F8_E4M3, numbers.map(e4m3).collect()),
        other => panic!("no type {other}"),
    }
}

fn draw(weights: &Value) -> BTreeMap<String, Drawn> {
    let seed = weights["seed"].as_u64().expect("a seed");
    let tensors = weights["tensors"].as_object().expect("tensors");
    let one = |(name, spec): (&String, &Value)| {
        let shape: Vec<usize> =
            spec["shape"].as_array().expect("a shape").iter().map(|n| n.as_u64().expect("a size") as usize).collect();
        let (centre, scale) = (spec["centre"].as_f64().expect("a centre"), spec["scale"].as_f64().expect("a scale"));
        let start = seed ^ fnv(name);
        let count = shape.iter().product::<usize>() as u64;
        let (dtype, bytes) = stored(spec["dtype"].as_str(), (0..count).map(|i| number(start, i, centre, scale)));
        (name.clone(), (shape, dtype, bytes))
    };
    tensors.iter().map(one).collect()
}

fn write(folder: &Path, file: &str, tensors: &BTreeMap<&String, &Drawn>) {
    let views = tensors.iter().map(|(n, (shape, dtype, bytes))| {
        (n.as_str(), TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as the shape says"))
    });
    std::fs::write(folder.join(file), serialize(views, None).expect("tensors")).expect("a file");
}

impl Golden {
    /// A copy of the golden's files with its weights: those that it stores, or drawn as its `golden.json` says.
    pub fn folder(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for entry in std::fs::read_dir(&self.path).expect("the golden") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name");
            if path.is_file() && !name.to_string_lossy().starts_with("golden.") {
                std::fs::copy(&path, folder.path().join(name)).expect("a copy");
            }
        }
        let golden = std::fs::read(self.path.join("golden.json")).expect("golden.json");
        let golden: Value = serde_json::from_slice(&golden).expect("JSON");
        let Some(weights) = golden.get("weights") else { return folder };
        let drawn = draw(weights);
        let shards = weights["shards"].as_u64().unwrap_or(1) as usize;
        if shards == 1 {
            write(folder.path(), "model.safetensors", &drawn.iter().collect());
            return folder;
        }
        let mut map = serde_json::Map::new();
        for shard in 0..shards {
            let file = format!("model-{:05}-of-{shards:05}.safetensors", shard + 1);
            let part: BTreeMap<_, _> =
                drawn.iter().enumerate().filter(|(i, _)| i % shards == shard).map(|(_, t)| t).collect();
            map.extend(part.keys().map(|n| ((*n).clone(), file.clone().into())));
            write(folder.path(), &file, &part);
        }
        let index = serde_json::json!({"metadata": {}, "weight_map": map});
        std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).expect("an index");
        folder
    }

    /// The opened checkpoint, and the folder that it lies in.
    pub fn checkpoint(&self) -> (tempfile::TempDir, Checkpoint) {
        let folder = self.folder();
        let checkpoint = Checkpoint::open(folder.path()).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        (folder, checkpoint)
    }
}
