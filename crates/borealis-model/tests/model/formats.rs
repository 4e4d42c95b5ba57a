//! Storage formats and backends against each other.

use crate::support::*;
use borealis_kernels::{DeviceSpec, HostType, KvFormat, QuantFormat};
use borealis_model::{ModelConfig, load, tensor_names};
use borealis_weights::Checkpoint;
use borealis_weights::testing::{CheckpointBuilder, tiny_config};

fn logits(checkpoint: &Checkpoint, device: &DeviceSpec, format: QuantFormat) -> Vec<f32> {
    let mut model = load(checkpoint, device, format, 2).unwrap();
    model.allocate(64, 64).unwrap();
    let config = model.config().clone();
    step(model.as_mut(), &media_sequence(&config, 0, 2).batch).values
}

#[test]
fn both_backends_agree_in_every_format() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 9);
    for (format, limit) in
        [(QuantFormat::F32, 1e-10), (QuantFormat::Bf16, 1e-6), (QuantFormat::Int8, 1e-3), (QuantFormat::Int4, 1e-3)]
    {
        let expected = logits(&checkpoint, &DeviceSpec::Reference, format);
        let error = nmse(&logits(&checkpoint, &DeviceSpec::Cpu, format), &expected);
        assert!(error < limit, "{format:?}: NMSE {error:.1e}");
    }
}

#[test]
fn formats_cost_little_precision() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 9);
    let exact = logits(&checkpoint, &DeviceSpec::Reference, QuantFormat::F32);
    for (format, limit) in [(QuantFormat::Bf16, 1e-3), (QuantFormat::Int8, 5e-3), (QuantFormat::Int4, 0.3)] {
        let error = nmse(&logits(&checkpoint, &DeviceSpec::Reference, format), &exact);
        assert!(error < limit, "{format:?}: NMSE {error:.1e}");
    }
}

/// Both backends round keys and values alike, for grouped heads and for compressed attention, and little is lost.
#[test]
fn kept_keys_and_values_cost_little_precision() {
    for config in [tiny_config(), crate::foreign::compressed()] {
        let (_folder, checkpoint) = checkpoint(&config, 9);
        let of = |device: &DeviceSpec, kv: KvFormat| {
            let mut model = load(&checkpoint, device, QuantFormat::F32, 2).unwrap();
            model.keep(kv).unwrap();
            model.allocate(64, 64).unwrap();
            let config = model.config().clone();
            let batch = if config.modalities.len() > 1 {
                media_sequence(&config, 0, 2).batch
            } else {
                let (mut dice, mut rows) = (Dice::new(3), Rows::new(&config));
                rows.text(20, 0, 0, &mut dice);
                rows.batch
            };
            step(model.as_mut(), &batch).values
        };
        let exact = of(&DeviceSpec::Reference, KvFormat::F32);
        for (kv, limit) in [(KvFormat::Bf16, 1e-4), (KvFormat::Int8, 1e-3)] {
            let wanted = of(&DeviceSpec::Reference, kv);
            let (lost, apart) = (nmse(&wanted, &exact), nmse(&of(&DeviceSpec::Cpu, kv), &wanted));
            println!("keys and values as {}: NMSE {lost:.1e}, between the backends {apart:.1e}", kv.name());
            assert!(lost > 0.0 && lost < limit, "{}: NMSE {lost:.1e}", kv.name());
            assert!(apart < lost / 10.0, "{}: the backends are {apart:.1e} apart", kv.name());
        }
    }
}

#[test]
fn checkpoints_in_other_types_are_read() {
    let (_folder, plain) = checkpoint(&tiny_config(), 9);
    let exact = logits(&plain, &DeviceSpec::Reference, QuantFormat::F32);
    let names = tensor_names(&ModelConfig::new(plain.manifest()).unwrap());
    for (dtype, limit) in [(HostType::F16, 1e-5f64), (HostType::Bf16, 1e-3), (HostType::I8, 5e-3), (HostType::I4, 0.3)]
    {
        let folder = tempfile::tempdir().unwrap();
        CheckpointBuilder::new(tiny_config()).dtype(dtype).tensors("", &names, 9).write(folder.path()).unwrap();
        let stored = Checkpoint::open(folder.path()).unwrap();
        for format in [QuantFormat::F32, QuantFormat::Bf16, QuantFormat::Int8] {
            let error = nmse(&logits(&stored, &DeviceSpec::Reference, format), &exact);
            assert!(
                error < limit.max(6e-3 * f64::from(u8::from(format != QuantFormat::F32))),
                "{dtype:?} as {format:?}: NMSE {error:.1e}"
            );
        }
    }
}

#[test]
fn sizes_add_up() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 9);
    let config = ModelConfig::new(checkpoint.manifest()).unwrap();
    let tensors = checkpoint.tensors("").unwrap();
    let summary = borealis_model::Summary::of(&config, tensors, KvFormat::F32);
    assert_eq!(summary.parameters, tensors.elements());
    assert_eq!(summary.stored, [("f32".to_string(), tensors.bytes())]);
    assert!(summary.active_parameters < summary.parameters);
    // 2 layers, keys and values, 2 heads of 16, 4 bytes.
    assert_eq!(summary.kv_bytes_per_position, 2 * 2 * 2 * 16 * 4);
    let mut model = load(&checkpoint, &DeviceSpec::Cpu, QuantFormat::F32, 1).unwrap();
    model.allocate(64, 64).unwrap();
    assert!(model.cache_bytes(64, 64) > 64 * summary.kv_bytes_per_position);
    assert_eq!(model.slots(), (64, 64));
    let batch = media_sequence(&config, 0, 2).batch;
    let (one, all) = (model.costs(&part(&batch, 0..1)), model.costs(&batch));
    assert!(one.weight_bytes < all.weight_bytes && all.weight_bytes < model.summary().device_bytes as f64);
    assert!(one.multiply_adds < all.multiply_adds && one.kv_bytes < all.kv_bytes);
    // The same in fewer bytes; int8 has a scale for each key and each value.
    let wide = (model.cache_bytes(64, 64), model.costs(&batch).kv_bytes);
    for (format, head) in [(KvFormat::Bf16, 2 * 16), (KvFormat::Int8, 16 + 4)] {
        model.keep(format).unwrap();
        assert_eq!((model.kv_format(), model.slots()), (format, (0, 0)));
        model.allocate(64, 64).unwrap();
        let position = 2 * 2 * 2 * head;
        assert_eq!(model.summary().kv_bytes_per_position, position);
        assert_eq!(wide.0 - model.cache_bytes(64, 64), 64 * (summary.kv_bytes_per_position - position));
        let share = model.costs(&batch).kv_bytes / wide.1;
        assert!((share - head as f64 / 64.0).abs() < 1e-9, "{share}");
    }
    let range = model.reserve(4).unwrap();
    assert!(model.keep(KvFormat::F32).is_err(), "slots are reserved");
    model.release(range).unwrap();
}
