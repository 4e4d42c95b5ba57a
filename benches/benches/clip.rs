//! A whole clip of the shipped model, from the request to the finished MP4: what `borealis generate` does after the model is loaded.
//!
//! Ids: `clip/<backend>/<size>/<seconds> s/<variants>`. The throughput is frames per second: real time is 24 for each variant.

use std::hint::black_box;
use std::path::Path;

use borealis_engine::{Engine, EngineConfig, OutputKind, Request, Resolution, render_mp4};
use borealis_media::VideoSpec;
use borealis_weights::Checkpoint;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Size, seconds, variants.
const CLIPS: [(Resolution, f32, usize); 4] =
    [(Resolution::P480, 1.0, 1), (Resolution::P720, 1.0, 1), (Resolution::P720, 6.0, 1), (Resolution::P720, 1.0, 4)];

fn clip(engine: &Engine, request: &Request, folder: &Path) {
    let stream = engine.submit(request.clone()).expect("a plain request");
    let like = VideoSpec::new(16, 16, engine.info().fps);
    black_box(render_mp4(stream, &folder.join("clip.mp4"), &like, |_| ()).expect("a clip"));
}

fn clips(c: &mut Criterion) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/borealis-mini");
    let checkpoint = Checkpoint::open(&model).expect("the shipped model");
    let engine = Engine::new(checkpoint, EngineConfig::default()).expect("an engine");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut group = c.benchmark_group("clip");
    group.sample_size(10);
    for (resolution, seconds, variants) in CLIPS {
        let clip_of = OutputKind::Video { seconds, audio: true };
        let mut request = Request::new("a red ball bounces on grass", clip_of);
        (request.output.resolution, request.variants) = (resolution, variants);
        group.throughput(Throughput::Elements((seconds * 24.0) as u64 * variants as u64));
        let id = format!("{}/{}p/{seconds} s/{variants}", engine.info().backend, resolution.lines());
        group.bench_function(id, |b| b.iter(|| clip(&engine, &request, folder.path())));
    }
}

criterion_group!(benches, clips);
criterion_main!(benches);
