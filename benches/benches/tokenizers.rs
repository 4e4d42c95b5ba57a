//! The tokenizers of the shipped model: one second of pictures and of sound, both ways. The backend is in the bench id.
//!
//! Throughputs are frames and samples per second: real time is 24 and 24,000.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use borealis_kernels::{Backend, Cpu, Reference};
use borealis_media::{Frame, PixelFormat};
use borealis_tokenizers::{AudioTokenizer, FrameSpec, Grid, VideoTokenizer};
use borealis_weights::Checkpoint;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// One second: a picture and six latent frames.
const FRAMES: usize = 25;
const SIZES: [(usize, usize); 3] = [(854, 480), (1280, 720), (1920, 1080)];

fn checkpoint() -> Checkpoint {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/borealis-mini");
    Checkpoint::open(&path).expect("the shipped model is valid")
}

/// A disc that crosses a gradient.
fn clip(width: usize, height: usize) -> Vec<Frame> {
    let frame = |i: usize| {
        let mut data = Vec::with_capacity(width * height * 3);
        let (cx, cy, r) = (width * (i + 4) / 33, height / 2, height / 6);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let inside = x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) < r * r;
            let ground = [60, (y * 160 / height) as u8, 200 - (y * 100 / height) as u8];
            data.extend(if inside { [220, 60, 30] } else { ground });
        }
        Frame { width: width as u32, height: height as u32, format: PixelFormat::Rgb8, data }
    };
    (0..FRAMES).map(frame).collect()
}

fn pictures<B: Backend>(c: &mut Criterion, backend: B, sizes: &[(usize, usize)]) {
    let name = backend.name();
    let checkpoint = checkpoint();
    let config = checkpoint.file("video_tokenizer/config.json").expect("the shipped model has pictures");
    let tensors = checkpoint.tensors("video_tokenizer").expect("the shipped model has pictures");
    let tokenizer = Arc::new(VideoTokenizer::load(config, tensors, backend).expect("the shipped model is valid"));
    let grid = Grid::for_ratio(tokenizer.config(), (16, 9)).expect("a common ratio");
    let frames = clip(1280, 720);
    let crop = grid.crop(1280, 720);
    let codes = tokenizer.encode(&frames, crop, grid).expect("encodes");

    let mut group = c.benchmark_group("tokenizers");
    group.sample_size(10).throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function(BenchmarkId::new("video_encode", format!("{name}/1280x720")), |b| {
        b.iter(|| black_box(tokenizer.encode(&frames, crop, grid).expect("encodes")));
    });
    for &(width, height) in sizes {
        group.bench_function(BenchmarkId::new("video_decode", format!("{name}/{width}x{height}")), |b| {
            b.iter(|| {
                let spec = FrameSpec { width, height, format: PixelFormat::I420 };
                let mut stream = tokenizer.decoder(grid, spec).expect("a common size");
                for latent in &codes {
                    stream.push(latent, |frame| drop(black_box(frame))).expect("decodes");
                }
            });
        });
    }
    group.finish();
}

fn video(c: &mut Criterion) {
    pictures(c, Cpu::new(1), &SIZES);
    pictures(c, Reference::new(), &SIZES[1..2]);
}

fn audio(c: &mut Criterion) {
    let checkpoint = checkpoint();
    let config = checkpoint.file("audio_tokenizer/config.json").expect("the shipped model has sound");
    let tensors = checkpoint.tensors("audio_tokenizer").expect("the shipped model has sound");
    let tokenizer = Arc::new(AudioTokenizer::load(config, tensors).expect("the shipped model is valid"));
    let rate = tokenizer.config().sample_rate as usize;
    // A falling tone over hiss.
    let sound: Vec<f32> = (0..rate)
        .map(|n| {
            let t = n as f32 / rate as f32;
            let hiss = ((n * 7919) % 1009) as f32 / 1009.0 - 0.5;
            0.4 * (-3.0 * t).exp() * (2000.0 * t - 300.0 * t * t).sin() + 0.05 * hiss
        })
        .collect();
    let codes = tokenizer.encode(&sound);
    let mut group = c.benchmark_group("tokenizers");
    group.sample_size(10).throughput(Throughput::Elements(rate as u64));
    group.bench_function("audio_encode/host", |b| b.iter(|| black_box(tokenizer.encode(&sound))));
    group
        .bench_function("audio_decode/host", |b| b.iter(|| black_box(tokenizer.decode(&codes, 0).expect("own codes"))));
    group.finish();
}

criterion_group!(benches, video, audio);
criterion_main!(benches);
