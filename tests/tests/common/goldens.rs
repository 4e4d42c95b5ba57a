//! Folders of goldens: a tiny checkpoint and what its reference computes with it (`golden.json`, `golden.safetensors`).

// Every test that walks uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

/// Largest difference of a float: so much, and so much of the reference's value.
const ABSOLUTE: f64 = 1e-4;
const RELATIVE: f64 = 1e-3;

/// The reference's numbers in one folder.
pub struct Golden {
    /// Name of the folder.
    pub name: String,
    pub path: PathBuf,
    /// `model_type` of its `config.json`.
    pub model_type: String,
    floats: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    ids: BTreeMap<String, (Vec<usize>, Vec<i64>)>,
    /// Largest difference of everything compared, and what was wrong.
    lines: Vec<String>,
    wrong: Vec<String>,
}

/// Whether the folders are the repository's own, which hold something of every kind.
pub fn own() -> bool {
    std::env::var_os("BOREALIS_GOLDENS").is_none()
}

/// Every folder under `$BOREALIS_GOLDENS` (default: the repository's own) that holds golden tensors, by name.
pub fn folders() -> Vec<Golden> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens");
    let root = std::env::var_os("BOREALIS_GOLDENS").map_or(own, PathBuf::from);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&root).expect("the folder of goldens").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().filter(|p| p.join("golden.safetensors").exists()).map(|p| Golden::read(p)).collect()
}

impl Golden {
    fn read(path: &Path) -> Self {
        // Goldens of the sampler have no model.
        let json = std::fs::read(path.join("config.json")).unwrap_or_else(|_| b"{}".to_vec());
        let config: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        let bytes = std::fs::read(path.join("golden.safetensors")).expect("golden.safetensors");
        let (mut floats, mut ids) = (BTreeMap::new(), BTreeMap::new());
        for (name, view) in SafeTensors::deserialize(&bytes).expect("safetensors").tensors() {
            let shape = view.shape().to_vec();
            match view.dtype() {
                Dtype::F32 => {
                    let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                    floats.insert(name, (shape, values));
                }
                Dtype::I64 => {
                    let values = view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
                    ids.insert(name, (shape, values));
                }
                other => panic!("{name} has type {other:?}"),
            }
        }
        Self {
            name: path.file_name().expect("a name").to_string_lossy().into_owned(),
            path: path.to_path_buf(),
            model_type: config["model_type"].as_str().unwrap_or_default().to_string(),
            floats,
            ids,
            lines: Vec::new(),
            wrong: Vec::new(),
        }
    }

    /// Names of the reference's tensors.
    pub fn names(&self) -> Vec<String> {
        self.floats.keys().chain(self.ids.keys()).cloned().collect()
    }

    /// Whether the reference has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.floats.contains_key(name) || self.ids.contains_key(name)
    }

    /// Shape and numbers of a float tensor.
    pub fn floats(&self, name: &str) -> (&[usize], &[f32]) {
        let (shape, values) = self.floats.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.name));
        (shape, values)
    }

    /// Shape and ids of an integer tensor.
    pub fn ids(&self, name: &str) -> (&[usize], Vec<u32>) {
        let (shape, values) = self.ids.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.name));
        (shape, values.iter().map(|v| u32::try_from(*v).expect("an id")).collect())
    }

    /// Compares floats with the tensor `name`.
    pub fn compare(&mut self, name: &str, found: &[f32]) {
        self.compare_within(name, found, 0.0);
    }

    /// Compares floats with the tensor `name`, which the reference itself knows to `noise` only.
    pub fn compare_within(&mut self, name: &str, found: &[f32], noise: f64) {
        let (_, wanted) = self.floats(name);
        let mut largest = (0f64, 0f64);
        let mut outside =
            (wanted.len() != found.len()).then(|| format!("{} numbers, wanted {}", found.len(), wanted.len()));
        for (at, (f, w)) in found.iter().zip(wanted).enumerate() {
            let off = (f64::from(*f) - f64::from(*w)).abs();
            let share = off / (ABSOLUTE + RELATIVE * f64::from(w.abs()) + noise);
            largest = (largest.0.max(off), largest.1.max(share));
            if (share.is_nan() || share > 1.0) && outside.is_none() {
                outside = Some(format!("number {at} is {f}, wanted {w}"));
            }
        }
        self.lines.push(format!("{name} {:.1e} ({:.3} of what is allowed)", largest.0, largest.1));
        self.wrong.extend(outside.map(|o| format!("{name}: {o}")));
    }

    /// Compares ids with the tensor `name`.
    pub fn compare_ids(&mut self, name: &str, found: &[u32]) {
        let (_, wanted) = self.ids(name);
        let off = wanted
            .iter()
            .zip(found)
            .position(|(a, b)| a != b)
            .or((wanted.len() != found.len()).then_some(wanted.len()));
        self.lines.push(format!("{name} {} ids", wanted.len()));
        self.wrong.extend(off.map(|at| format!("{name}: id {at} of {} ({} found) differs", wanted.len(), found.len())));
    }

    /// Prints what was compared; the problems, if there are any.
    pub fn report(&self) -> Vec<String> {
        println!("{}: {}", self.name, self.lines.join("; "));
        self.wrong.iter().map(|w| format!("{}: {w}", self.name)).collect()
    }
}

/// Pixels `[1, 3, height, width]` as interleaved RGB.
pub fn interleaved((shape, planes): (&[usize], &[f32])) -> Vec<f32> {
    let places = shape[shape.len() - 2..].iter().product::<usize>();
    (0..places).flat_map(|at| (0..3).map(move |c| planes[c * places + at])).collect()
}
