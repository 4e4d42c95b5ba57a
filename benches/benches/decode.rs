//! One decode step of the transformer at 1, 2, 8 and 64 rows, each row the newest position of a sequence of its own.
//!
//! Ids: `decode/<backend>/<dtype>/<model>/<rows>`. The throughput is bytes of weights, keys and values that the step must read
//! ([`borealis_model::StepCost`]): compare it with the machine's bandwidth (`borealis bench` prints it).

use std::hint::black_box;
use std::path::Path;

use borealis_kernels::{DeviceSpec, HostType, QuantFormat, Span};
use borealis_model::{Batch, Forward, Logits, ModelConfig, Query, Row, load, tensor_names};
use borealis_weights::testing::{CheckpointBuilder, text_config};
use borealis_weights::{Checkpoint, Manifest};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;

/// Slots that every row sees.
const CONTEXT: usize = 128;
const ROWS: [usize; 4] = [1, 2, 8, 64];

/// A routed model of 40 M parameters, 6 M of them active: larger than the caches.
fn synthetic(folder: &Path) -> Checkpoint {
    let mut config = text_config();
    for (key, value) in [
        ("hidden_size", json!(512)),
        ("num_hidden_layers", json!(4)),
        ("num_attention_heads", json!(8)),
        ("num_key_value_heads", json!(4)),
        ("head_dim", json!(64)),
        ("num_experts", json!(16)),
        ("moe_intermediate_size", json!(384)),
    ] {
        config[key] = value;
    }
    let manifest = Manifest::new(&config, None).expect("the configuration is valid");
    let names = tensor_names(&ModelConfig::new(&manifest).expect("the configuration is valid"));
    let builder = CheckpointBuilder::new(config).dtype(HostType::Bf16).tensors("", &names, 1);
    builder.write(folder).expect("the temporary folder is writable");
    Checkpoint::open(folder).expect("the builder's checkpoints are valid")
}

/// `rows` sequences with one new row each, in the modality that a clip consists of (or the only one).
fn batch(config: &ModelConfig, rows: usize) -> Batch {
    let modality = config.modality("video").unwrap_or(0);
    let spec = &config.modalities[modality];
    let mut batch = Batch::default();
    for r in 0..rows {
        let (start, end) = ((r * CONTEXT) as u32, ((r + 1) * CONTEXT) as u32);
        let codes = batch.codes.len();
        for i in 0..spec.row_codes() {
            let code = &spec.codes[i % spec.codes.len()];
            batch.codes.push(code.start + ((r * 7 + i * 5) as u32) % code.size);
        }
        let features = (config.row_features > 0 && modality > 0).then(|| {
            batch.features.resize((r + 1) * config.row_features, 0.5);
            r * config.row_features
        });
        let sees = Span { prefix: (0, 0), recent: (start, end) };
        let position = [r as f32; 3];
        batch.rows.push(Row {
            modality,
            kind: None,
            codes: Some(codes),
            condition: None,
            scene: None,
            features,
            position,
            slot: end - 1,
            sees,
        });
        batch.queries.push(Query { row: r, modality, allowed: None });
    }
    batch
}

fn steps(c: &mut Criterion, name: &str, checkpoint: &Checkpoint, device: &DeviceSpec, format: QuantFormat) {
    let load = || -> borealis_model::Result<Box<dyn Forward>> {
        let mut model = load(checkpoint, device, format, 0)?;
        model.allocate(ROWS[3] * CONTEXT, ROWS[3])?;
        Ok(model)
    };
    let mut model = load().expect("the checkpoint loads");
    let mut group = c.benchmark_group(format!("decode/{}/{}", model.backend(), format.name()));
    group.sample_size(20);
    let mut logits = Logits::default();
    for rows in ROWS {
        let batch = batch(model.config(), rows);
        let cost = model.costs(&batch);
        group.throughput(Throughput::Bytes((cost.weight_bytes + cost.kv_bytes) as u64));
        group.bench_function(BenchmarkId::new(name, rows), |b| {
            b.iter(|| model.step(black_box(&batch), &mut logits).expect("the batch is valid"));
        });
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let checkpoint = synthetic(folder.path());
    for format in QuantFormat::ALL {
        steps(c, "moe-40m", &checkpoint, &DeviceSpec::Cpu, format);
    }
    let mini = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/borealis-mini"));
    match Checkpoint::open(mini) {
        Ok(checkpoint) => {
            for format in QuantFormat::ALL {
                steps(c, "borealis-mini", &checkpoint, &DeviceSpec::Cpu, format);
            }
            steps(c, "borealis-mini", &checkpoint, &DeviceSpec::Reference, QuantFormat::F32);
        }
        Err(e) => eprintln!("skipped borealis-mini: {e}"),
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
