//! Media: one second of 720p through the encoder, and the conversions around it. The encoder is in the bench id.

use std::hint::black_box;
use std::time::Duration;

use borealis_media::{
    Filter, Frame, Limits, Mp4Writer, PixelFormat, Source, VideoSpec, i420_to_rgb8, planar_f32_to_i420, read_clip,
    rgb8_to_i420,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;
const FPS: u32 = 24;

/// A gradient that moves, with a disc on it: neither flat nor noise.
fn frame(index: u32) -> Frame {
    let mut data = Vec::with_capacity(PixelFormat::Rgb8.bytes(WIDTH, HEIGHT));
    let (cx, cy) = (200 + 30 * index as i32, 360 + 4 * index as i32);
    for y in 0..HEIGHT as i32 {
        for x in 0..WIDTH as i32 {
            let inside = (x - cx).pow(2) + (y - cy).pow(2) < 120 * 120;
            let ground = [(x / 6) as u8, (y / 3) as u8, ((x + y + 2 * index as i32) / 8) as u8];
            data.extend(if inside { [220, 60, 30] } else { ground });
        }
    }
    Frame { width: WIDTH, height: HEIGHT, format: PixelFormat::Rgb8, data }
}

fn encode(frames: &[Frame], encoder: &str) {
    let spec = VideoSpec { encoder: Some(encoder.to_owned()), ..VideoSpec::new(WIDTH, HEIGHT, FPS).with_audio(24_000) };
    let mut writer = Mp4Writer::stream(Box::new(std::io::sink()), spec).expect("the encoder opened before");
    for frame in frames {
        writer.push_frame(frame).expect("encodes");
    }
    writer.push_audio(&vec![0.1; 24_000]).expect("encodes");
    writer.finish().expect("completes");
}

fn encoders(c: &mut Criterion) {
    let frames: Vec<Frame> = (0..FPS).map(|i| frame(i).to_i420()).collect();
    let mut group = c.benchmark_group("media/encode_1s_720p");
    group.sample_size(10).measurement_time(Duration::from_secs(8)).throughput(Throughput::Elements(u64::from(FPS)));
    for encoder in borealis_media::encoders() {
        let spec = VideoSpec { encoder: Some(encoder.to_owned()), ..VideoSpec::new(WIDTH, HEIGHT, FPS) };
        if Mp4Writer::stream(Box::new(std::io::sink()), spec).is_err() {
            eprintln!("skipped: no device for {encoder}");
            continue;
        }
        group.bench_function(encoder, |b| b.iter(|| encode(&frames, encoder)));
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the clip");
    let path = folder.path().join("clip.mp4");
    let mut writer = Mp4Writer::create(&path, VideoSpec::new(WIDTH, HEIGHT, FPS)).expect("an encoder");
    (0..FPS).for_each(|i| writer.push_owned(frame(i)).expect("encodes"));
    writer.finish().expect("completes");
    let mut group = c.benchmark_group("media/decode_1s_720p");
    group.sample_size(10).throughput(Throughput::Elements(u64::from(FPS)));
    let read = || read_clip(Source::Path(&path), FPS, 24_000, &Limits::default()).expect("our own clip");
    group.bench_function("h264", |b| b.iter(read));
    group.finish();
}

fn pixels(c: &mut Criterion) {
    let (w, h) = (WIDTH as usize, HEIGHT as usize);
    let rgb = frame(3);
    let i420 = rgb.to_i420();
    let plane = |c: usize| rgb.data.iter().skip(c).step_by(3).map(|v| f32::from(*v) / 255.0).collect::<Vec<_>>();
    let (r, g, b) = (plane(0), plane(1), plane(2));
    let small = i420.resize(320, 180, Filter::Area);
    let mut group = c.benchmark_group("media/720p_frame");
    group.bench_function("rgb8_to_i420", |x| x.iter(|| rgb8_to_i420(w, h, black_box(&rgb.data))));
    group.bench_function("i420_to_rgb8", |x| x.iter(|| i420_to_rgb8(w, h, black_box(&i420.data))));
    group.bench_function("planar_f32_to_i420", |x| {
        let out = || vec![0u8; w * h * 3 / 2];
        x.iter_batched_ref(out, |out| planar_f32_to_i420(w, h, black_box([&r, &g, &b]), out), BatchSize::LargeInput)
    });
    group.bench_function("i420_180p_to_720p", |x| x.iter(|| black_box(&small).resize(WIDTH, HEIGHT, Filter::Bilinear)));
    group.bench_function("rgb8_720p_to_180p", |x| x.iter(|| black_box(&rgb).resize(320, 180, Filter::Area)));
    group.finish();
}

criterion_group!(benches, pixels, encoders, decode);
criterion_main!(benches);
