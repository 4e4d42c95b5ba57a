//! Experts that do not all fit the device: any room gives the bits of all, hot experts stay, and a copy that fails is told.

use crate::support::*;
use borealis_kernels::{DeviceSpec, QuantFormat};
use borealis_model::ranks::{Placement, Traffic, load_threads};
use borealis_model::{Batch, Forward, LoadOptions, Logits, ModelConfig, Sizes, load_with};
use borealis_weights::Checkpoint;
use borealis_weights::testing::{CheckpointBuilder, text_config, tiny_config};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

const CPU: DeviceSpec = DeviceSpec::Cpu;

fn many_experts() -> Value {
    let mut config = text_config();
    for (key, value) in [("num_experts", json!(12)), ("num_experts_per_tok", json!(3)), ("num_null_experts", json!(2))]
    {
        config[key] = value;
    }
    config
}

/// With room for so many experts of each layer.
fn with_places(checkpoint: &Checkpoint, device: &DeviceSpec, format: QuantFormat, places: usize) -> Box<dyn Forward> {
    let options = LoadOptions { experts: Some(places), ..LoadOptions::new(format) };
    let mut model = load_with(checkpoint, device, &options).unwrap();
    // Small buffers: a step of many rows is computed in pieces.
    model.allocate(256, 8).unwrap();
    model
}

fn text(c: &ModelConfig, n: u32, before: u32, seed: u64) -> Batch {
    let mut rows = Rows::new(c);
    rows.text(n, before, 4, &mut Dice::new(seed));
    rows.batch
}

#[test]
fn the_bits_do_not_depend_on_the_room() {
    for format in QuantFormat::ALL {
        let (_folder, checkpoint) = checkpoint(&many_experts(), 3);
        let mut all = with_places(&checkpoint, &CPU, format, 12);
        assert!(all.copies().is_none(), "all experts are on the device");
        let c = all.config().clone();
        for places in [1, 2, 5, 11] {
            let mut some = with_places(&checkpoint, &CPU, format, places);
            for (n, before, seed) in [(30, 0, 5), (1, 30, 6), (1, 31, 7)] {
                let batch = text(&c, n, before, seed);
                let (mut a, mut b) = (Logits::default(), Logits::default());
                let (x, y) = (all.trace(&batch, &mut a).unwrap(), some.trace(&batch, &mut b).unwrap());
                assert!(x == y && a == b, "{}: {places} places give other bits", format.name());
            }
            let copies = some.copies().unwrap();
            assert!(copies.misses > 0 && copies.bytes > 0, "{copies:?}");
            assert!(some.summary().device_bytes < all.summary().device_bytes);
        }
    }
}

#[test]
fn every_device_copies_experts() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 3);
    for device in devices() {
        let mut all = with_places(&checkpoint, &device, QuantFormat::F32, 1000);
        let batch = media_sequence(all.config(), 4, 5).batch;
        let whole = step(all.as_mut(), &batch);
        for places in [1, 3] {
            let mut some = with_places(&checkpoint, &device, QuantFormat::F32, places);
            let found = step(some.as_mut(), &batch);
            assert_same("experts from files", &device, &found.values, &whole.values);
            assert!(all.rows_are_independent() <= (found == whole), "other bits on {}", device);
        }
    }
}

/// A published layout keeps an expert's matrices apart.
#[test]
fn an_open_layout_is_copied_as_it_lies() {
    let checkpoint = crate::foreign::mixtral().open().unwrap();
    let mut all = with_places(&checkpoint, &CPU, QuantFormat::Bf16, 1000);
    let batch = text(&all.config().clone(), 9, 0, 5);
    let whole = step(all.as_mut(), &batch);
    assert!(step(with_places(&checkpoint, &CPU, QuantFormat::Bf16, 2).as_mut(), &batch) == whole);
}

/// Each rank has its own room.
#[test]
fn ranks_copy_their_own() {
    let (_folder, checkpoint) = checkpoint(&many_experts(), 3);
    let mut all = with_places(&checkpoint, &CPU, QuantFormat::F32, 12);
    let c = all.config().clone();
    let placement = Arc::new(Placement::round_robin(&c, 3).unwrap());
    // Two of the four experts that a rank holds of each layer.
    let options = LoadOptions { threads: 3, experts: Some(2), ..LoadOptions::new(QuantFormat::F32) };
    let mut many =
        load_threads(&checkpoint, &CPU.for_ranks(3), &options, &placement, Arc::new(Traffic::default())).unwrap();
    many.allocate(256, 8).unwrap();
    let batch = text(&c, 20, 0, 5);
    assert!(step(many.as_mut(), &batch) == step(all.as_mut(), &batch));
    assert!(many.copies().unwrap().misses > 0);
}

/// The same row again asks for the same experts: with room for them nothing is copied any more.
#[test]
fn what_was_chosen_lately_is_there() {
    let (_folder, checkpoint) = checkpoint(&many_experts(), 3);
    let mut model = with_places(&checkpoint, &CPU, QuantFormat::F32, 3);
    let batch = text(&model.config().clone(), 1, 0, 5);
    step(model.as_mut(), &batch);
    let first = model.copies().unwrap();
    assert!(first.hits == 0 && first.misses > 0);
    step(model.as_mut(), &batch);
    let again = model.copies().unwrap().since(&first);
    assert_eq!((again.hits, again.misses, again.bytes), (first.misses, 0, 0));
    assert_eq!(again.hit_rate(), Some(1.0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any weights, any room, any steps.
    #[test]
    fn any_room_gives_the_same_bits(seed in 0u64..1000, places in 1usize..13, sizes in prop::collection::vec(1u32..12, 1..5)) {
        let (_folder, checkpoint) = checkpoint(&many_experts(), seed);
        let mut all = with_places(&checkpoint, &CPU, QuantFormat::F32, 12);
        let mut some = with_places(&checkpoint, &CPU, QuantFormat::F32, places);
        let (c, mut before) = (all.config().clone(), 0);
        for n in sizes {
            let batch = text(&c, n, before, seed + u64::from(before));
            prop_assert!(step(all.as_mut(), &batch) == step(some.as_mut(), &batch));
            before += n;
        }
    }
}

#[test]
fn the_estimate_is_what_is_taken() {
    for config in [many_experts(), tiny_config()] {
        let (_folder, checkpoint) = checkpoint(&config, 3);
        let c = ModelConfig::new(checkpoint.manifest()).unwrap();
        for format in QuantFormat::ALL {
            let sizes = Sizes::of(&c, format);
            let taken = |places| with_places(&checkpoint, &CPU, format, places).summary().device_bytes;
            assert_eq!(taken(1000), sizes.all(), "{}", format.name());
            assert_eq!(taken(2), sizes.fixed + 2 * sizes.layers * sizes.expert, "{}", format.name());
        }
    }
}

/// An expert that is damaged is found when it is wanted; the step fails, and says which tensor.
#[test]
fn a_damaged_expert_fails_the_step() {
    let (_folder, good) = checkpoint(&many_experts(), 3);
    let c = ModelConfig::new(good.manifest()).unwrap();
    let names = borealis_model::tensor_names(&c);
    let name = "model.layers.0.mlp.experts.down_proj";
    let shape = names.iter().find(|(n, _)| n == name).unwrap().1.clone();
    let values = vec![f32::NAN; shape.iter().product()];
    let others: Vec<_> = names.into_iter().filter(|(n, _)| n != name).collect();
    let builder = CheckpointBuilder::new(many_experts()).tensors("", &others, 3).tensor("", name, &shape, &values);
    let folder = tempfile::tempdir().unwrap();
    builder.write(folder.path()).unwrap();
    let bad = Checkpoint::open(folder.path()).unwrap();
    let mut model = with_places(&bad, &CPU, QuantFormat::F32, 2);
    let batch = text(&c, 4, 0, 5);
    for _ in 0..2 {
        let error = model.step(&batch, &mut Logits::default()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("not finite"), "{error}");
    }
}

/// Set for the process that is measured: how many experts of each layer it keeps.
#[cfg(target_os = "linux")]
const MEASURED: &str = "BOREALIS_TEST_PLACES";

/// A checkpoint of 100 MB, nearly all of it experts.
#[cfg(target_os = "linux")]
fn large() -> Value {
    let mut config = text_config();
    for (key, value) in [
        ("hidden_size", json!(512)),
        ("moe_intermediate_size", json!(256)),
        ("num_experts", json!(16)),
        ("num_experts_per_tok", json!(2)),
        ("num_hidden_layers", json!(4)),
    ] {
        config[key] = value;
    }
    config
}

/// Not a test of its own: what [`memory_is_what_was_estimated`] starts as a process.
#[cfg(target_os = "linux")]
#[test]
fn measured_process() {
    let Some(places) = std::env::var_os(MEASURED) else { return };
    let folder = std::env::var_os("BOREALIS_TEST_FOLDER").unwrap();
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    };
    let checkpoint = Checkpoint::open(folder.as_ref()).unwrap();
    let before = peak();
    let places = places.to_str().unwrap().parse().unwrap();
    let mut model = with_places(&checkpoint, &CPU, QuantFormat::F32, places);
    // Every expert is asked for.
    let batch = text(&model.config().clone(), 200, 0, 5);
    step(model.as_mut(), &batch);
    println!("peak {}", peak() - before);
}

/// Most memory of a process that loads and steps, above what it had before: the estimate and 12 MiB (KV cache, buffers of a step, one expert on its way).
#[cfg(target_os = "linux")]
#[test]
fn memory_is_what_was_estimated() {
    let (folder, checkpoint) = checkpoint(&large(), 3);
    let sizes = Sizes::of(&ModelConfig::new(checkpoint.manifest()).unwrap(), QuantFormat::F32);
    for places in [1, 4, 16] {
        let out = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["hot::measured_process", "--exact", "--nocapture"])
            .env(MEASURED, places.to_string())
            .env("BOREALIS_TEST_FOLDER", folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let peak = said.split("peak ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let peak: u64 = peak.unwrap_or_else(|| panic!("{said}")).parse().unwrap();
        let copying = if places < 16 { sizes.copying } else { 0 };
        let estimate = sizes.fixed + copying + places * sizes.layers * sizes.expert;
        println!("{places} of 16 experts: estimated {} MiB, peak {} MiB", estimate >> 20, peak >> 20);
        assert!(peak < estimate + (12 << 20), "{places} places: {peak} bytes, estimated {estimate}");
        assert!(peak > places * sizes.layers * sizes.expert, "{places} places: {peak} bytes");
    }
}
