//! What a valid checkpoint gives.

use borealis_kernels::HostType;
use borealis_weights::testing::{CheckpointBuilder, synth, text_config, tiny_config};
use borealis_weights::{Checkpoint, InputMode, PlanKind, Predict, WeightsError};
use proptest::prelude::*;
use serde_json::json;
use std::path::Path;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

type Names = Vec<(String, Vec<usize>)>;

fn names() -> Names {
    let shapes: [(&str, &[usize]); 4] = [
        ("model.norm.weight", &[64]),
        ("lm_head.weight", &[300, 64]),
        ("model.layers.0.mlp.gate.weight", &[4, 64]),
        ("a.experts.down_proj", &[2, 3, 128]),
    ];
    shapes.iter().map(|(n, s)| (n.to_string(), s.to_vec())).collect()
}

#[test]
fn the_tiny_default_model_opens() -> Result {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/tiny-default");
    let checkpoint = Checkpoint::open(&folder)?;
    let m = checkpoint.manifest();
    assert_eq!(checkpoint.name(), "tiny-default");
    assert_eq!(m.segments.iter().map(|s| s.size).sum::<u32>(), m.vocab_size);
    let media = m.media.as_ref().ok_or("no media")?;
    assert_eq!((media.fps, media.latent_fps, media.window, media.time_scale), (24, 6, 1, 0.0));
    assert_eq!(media.position_offset, 0.0);
    assert_eq!(media.groups, [vec![1], vec![2, 3]]);
    let (video, spec) = m.modality("video").ok_or("no video")?;
    assert_eq!(
        (video, spec.slots, spec.codes.len(), spec.predict, spec.plan),
        (2, 4, 9, Predict::Parallel, PlanKind::Frame)
    );
    assert_eq!(spec.condition.as_deref(), Some("state"));
    let features = m.row_features.as_ref().ok_or("no features")?;
    assert_eq!(features.len(), 596);
    assert_eq!(features.near.as_ref().map(|n| (n.modality, n.slots, n.scale, n.shift)), Some((1, 2, 128.0, -0.5)));
    assert_eq!(m.scene.fields.len(), 20);
    assert_eq!(m.modes["edit_video"].input, InputMode::Source);
    assert_eq!(m.segment_of(m.control("<media>").ok_or("no control")?).map(|s| s.name.as_str()), Some("control"));
    assert_eq!(m.generation.sampling("text").temperature, 0.0);
    for set in ["", "video_tokenizer", "audio_tokenizer"] {
        let tensors = checkpoint.tensors(set)?;
        for name in tensors.names() {
            tensors.to_f32(name)?;
        }
        tensors.check_all_used()?;
    }
    Ok(())
}

#[test]
fn tensors_are_what_was_written_in_every_type() -> Result {
    for (dtype, tolerance) in [
        (HostType::F32, 0.0),
        (HostType::F16, 1e-3),
        (HostType::Bf16, 8e-3),
        (HostType::I8, 8e-3),
        (HostType::I4, 0.15),
    ] {
        for shards in [1, 3] {
            let folder = tempfile::tempdir()?;
            CheckpointBuilder::new(text_config())
                .dtype(dtype)
                .shards(shards)
                .tensors("", &names(), 5)
                .write(folder.path())?;
            let checkpoint = Checkpoint::open(folder.path())?;
            let set = checkpoint.tensors("")?;
            set.check(&names())?;
            assert_eq!(set.names().count(), 4, "scales are not tensors of their own");
            for (name, shape) in names() {
                let tensor = set.expect(&name, &shape)?;
                let coded = dtype.coded() && shape.len() > 1 && !name.contains("gate");
                assert_eq!(tensor.scales.is_some(), coded, "{name}");
                if let [count, out, inputs] = shape[..] {
                    let stack = set.stack(&name, [count, out, inputs])?;
                    let matrices: Vec<_> = (0..stack.len()).map(|i| stack.matrix(i)).collect();
                    assert_eq!(matrices.iter().map(|m| &*m.data).collect::<Vec<_>>().concat(), *tensor.data);
                    let scales = matrices.iter().filter_map(|m| m.scales.map(|s| s.0)).collect::<Vec<_>>().concat();
                    assert_eq!(scales, tensor.scales.map_or(&[][..], |s| s.0));
                    for matrix in &matrices {
                        matrix.host().check()?;
                    }
                    // The system's memory of the file may go; the file stays.
                    (0..stack.len()).for_each(|i| stack.release(i));
                    set.release(&name)?;
                    assert!(set.stack(&name, [count + 1, out, inputs]).is_err());
                }
                assert_eq!(tensor.dtype == dtype, coded || !dtype.coded(), "{name}");
                let written = synth(5, &name, &shape);
                let largest = written.iter().fold(0f32, |m, v| m.max(v.abs()));
                for (a, b) in set.to_f32(&name)?.iter().zip(&written) {
                    assert!((a - b).abs() <= tolerance * largest, "{name} {dtype:?}: {a} {b}");
                }
            }
            set.check_all_used()?;
        }
    }
    Ok(())
}

#[test]
fn embedded_files_are_a_folder() -> Result {
    let built = CheckpointBuilder::new(tiny_config())
        .tensors("", &names(), 1)
        .json("generation_config.json", &json!({"guidance": 2.5}))
        .build()?;
    let files: Vec<(&'static str, &'static [u8])> =
        built.into_iter().map(|(n, b)| (&*Box::leak(n.into_boxed_str()), &*Box::leak(b.into_boxed_slice()))).collect();
    let checkpoint = Checkpoint::embedded(Box::leak(files.into_boxed_slice()))?;
    checkpoint.tensors("")?.check(&names())?;
    assert_eq!(checkpoint.manifest().generation.guidance, 2.5);
    assert_eq!((checkpoint.name(), checkpoint.location().as_str()), ("default", "embedded model"));
    assert!(!checkpoint.has("video_tokenizer"));
    assert!(matches!(checkpoint.tensors("video_tokenizer"), Err(WeightsError::MissingFile { .. })));
    assert!(checkpoint.file("config.json").is_ok() && checkpoint.file("../x").is_err());
    Ok(())
}

#[test]
fn names_and_shapes_must_agree() -> Result {
    let folder = tempfile::tempdir()?;
    CheckpointBuilder::new(text_config()).tensors("", &names(), 5).write(folder.path())?;
    let checkpoint = Checkpoint::open(folder.path())?;
    let set = checkpoint.tensors("")?;
    let message = |edit: &dyn Fn(&mut Names)| {
        let mut wanted = names();
        edit(&mut wanted);
        set.check(&wanted).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let renamed = message(&|w| w[0].0 = "model.norms.weight".into());
    assert!(renamed.contains("model.norms.weight is missing (nearest name: model.norm.weight)"), "{renamed}");
    let extra = message(&|w| drop(w.remove(2)));
    assert!(extra.contains("unknown tensor model.layers.0.mlp.gate.weight"), "{extra}");
    let reshaped = message(&|w| w[1].1 = vec![64, 300]);
    assert!(
        reshaped.contains("lm_head.weight has shape [300, 64], the configuration asks for [64, 300]"),
        "{reshaped}"
    );
    set.get("model.norm.weight")?;
    let unused = set.check_all_used().unwrap_err().to_string();
    assert!(unused.contains("unknown tensor a.experts.down_proj"), "{unused}");
    Ok(())
}

#[test]
fn values_that_are_not_finite_are_refused() -> Result {
    let folder = tempfile::tempdir()?;
    CheckpointBuilder::new(text_config()).tensor("", "x", &[3], &[1.0, f32::NAN, 2.0]).write(folder.path())?;
    let checkpoint = Checkpoint::open(folder.path())?;
    let err = checkpoint.tensors("")?.to_f32("x").unwrap_err().to_string();
    assert_eq!(err, "model.safetensors: tensor x has the value NaN at index 1: all numbers must be finite");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_set_of_tensors_comes_back(shapes in proptest::collection::vec(proptest::collection::vec(1usize..5, 0..4), 1..12), shards in 1usize..5, seed: u64) {
        let wanted: Vec<_> = shapes.into_iter().enumerate().map(|(i, s)| (format!("layer.{i}"), s)).collect();
        let folder = tempfile::tempdir().unwrap();
        CheckpointBuilder::new(text_config()).shards(shards.min(wanted.len())).tensors("", &wanted, seed).write(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let set = checkpoint.tensors("").unwrap();
        set.check(&wanted).unwrap();
        for (name, shape) in &wanted {
            prop_assert_eq!(set.expect_f32(name, shape).unwrap(), synth(seed, name, shape));
        }
        prop_assert_eq!(set.bytes(), 4 * set.elements());
    }
}
