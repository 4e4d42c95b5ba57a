//! Operations of the kernels, by backend, shape, format and rows.
//!
//! `cargo bench -p borealis-benches --bench ops [filter]`. Ids say backend, threads and shape; the throughput is bytes of
//! weights (few rows: memory is the limit) or multiply-adds (many rows: arithmetic is). `borealis bench` prints the limits of the machine.

use borealis_kernels::{
    Activation, Backend, Canvas, Cpu, HostTensor, HostType, KvFormat, Patches, QuantFormat, Reference, RouterSpec,
    Scoring, Span, Target,
};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;

const FORMATS: [QuantFormat; 4] = QuantFormat::ALL;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
}

fn buffer<B: Backend>(b: &B, n: usize) -> B::Buffer {
    let mut buffer = b.alloc(n).unwrap();
    b.write(&mut buffer, 0, &numbers(n)).unwrap();
    buffer
}

fn weight<B: Backend>(b: &B, shape: &[usize], format: QuantFormat) -> B::Weight {
    let data: Vec<u8> = numbers(shape.iter().product()).iter().flat_map(|x| x.to_le_bytes()).collect();
    b.weight(&HostTensor { dtype: HostType::F32, shape, data: &data, scales: None }, format).unwrap()
}

/// A group with short runs: the machine is often shared.
fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut g = c.benchmark_group(name);
    g.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    g
}

/// Few rows are limited by bytes, many by multiply-adds.
fn limit(rows: usize, bytes: usize, multiply_adds: usize) -> Throughput {
    if rows <= 2 { Throughput::Bytes(bytes as u64) } else { Throughput::Elements(multiply_adds as u64) }
}

fn matmul<B: Backend>(c: &mut Criterion, name: &str, b: &B, formats: &[QuantFormat]) {
    let mut g = group(c, "matmul");
    for (out, inputs) in [(192, 192), (2048, 2048)] {
        for &format in formats {
            let w = weight(b, &[out, inputs], format);
            for rows in [1, 2, 8, 64] {
                let (x, mut y) = (buffer(b, rows * inputs), b.alloc(rows * out).unwrap());
                g.throughput(limit(rows, b.weight_bytes(&w), rows * out * inputs));
                let id = BenchmarkId::new(format!("{name}/{out}x{inputs}/{}", format.name()), rows);
                g.bench_function(id, |t| t.iter(|| b.matmul(&x, rows, &w, None, false, &mut y).unwrap()));
            }
        }
    }
}

fn experts<B: Backend>(c: &mut Criterion, name: &str, b: &B, formats: &[QuantFormat]) {
    let mut g = group(c, "route+experts");
    for (e, hidden, inner) in [(8, 192, 192), (32, 1024, 512)] {
        let spec = RouterSpec {
            experts: e,
            null_experts: 0,
            top_k: 2,
            scoring: Scoring::Softmax,
            normalise: true,
            scale: 1.0,
            selection_bias: Vec::new(),
            groups: 1,
            top_groups: 1,
        };
        let router = weight(b, &[e, hidden], QuantFormat::F32);
        for &format in formats {
            let gate_up = weight(b, &[e, 2 * inner, hidden], format);
            let down = weight(b, &[e, hidden, inner], format);
            let one = (b.weight_bytes(&gate_up) + b.weight_bytes(&down)) / e;
            for rows in [1, 2, 8, 64] {
                let (x, mut y) = (buffer(b, rows * hidden), b.alloc(rows * hidden).unwrap());
                let mut routing = b.routing(rows, spec.top_k).unwrap();
                b.route(&x, rows, &router, &spec, &mut routing).unwrap();
                let mut chosen: Vec<u32> =
                    b.read_routing(&routing, rows).unwrap().concat().into_iter().map(|(e, _)| e).collect();
                chosen.sort_unstable();
                chosen.dedup();
                g.throughput(limit(rows, one * chosen.len(), rows * 2 * 3 * hidden * inner));
                let id = BenchmarkId::new(format!("{name}/{e}x{hidden}x{inner}/{}", format.name()), rows);
                g.bench_function(id, |t| {
                    t.iter(|| {
                        b.route(&x, rows, &router, &spec, &mut routing).unwrap();
                        b.experts(&x, rows, &routing, &gate_up, &down, &mut y).unwrap();
                    });
                });
            }
        }
    }
}

/// Query heads, key heads and head_dim, slots that every row sees, rows: a block of the default model, and one layer of a 7B-class model with rows of one sequence.
const ATTENTION: [([usize; 3], usize, &[usize]); 4] = [
    ([6, 2, 32], 84, &[42]),
    ([16, 4, 128], 512, &[1, 8, 32]),
    ([16, 4, 128], 4096, &[1, 8, 32]),
    ([16, 4, 128], 32_768, &[1, 8, 32]),
];

fn attention<B: Backend>(c: &mut Criterion, name: &str, b: &B, most: usize) {
    let mut g = group(c, "attention");
    for ([heads, kv_heads, dim], slots, counts) in ATTENTION.into_iter().filter(|a| a.1 <= most) {
        for format in KvFormat::ALL {
            let mut kv = b.kv(slots, kv_heads, dim, format).unwrap();
            let k = buffer(b, slots * kv_heads * dim);
            b.store_kv(&mut kv, &k, &k, &(0..slots as u32).collect::<Vec<_>>()).unwrap();
            for &rows in counts {
                let (q, mut out) = (buffer(b, rows * heads * dim), b.alloc(rows * heads * dim).unwrap());
                let spans = vec![Span { prefix: (0, 30), recent: (30, slots as u32) }; rows];
                g.throughput(limit(rows, 2 * slots * kv_heads * format.bytes(dim), 2 * rows * slots * heads * dim));
                let id = BenchmarkId::new(format!("{name}/{heads}-{kv_heads}x{dim}/{slots}/{}", format.name()), rows);
                g.bench_function(id, |t| t.iter(|| b.attention(&q, heads, &kv, &spans, 0.1, &mut out).unwrap()));
            }
        }
    }
}

/// One layer of a picture decoder: a 3x3 convolution as patches and a product, and the other two image operations.
fn pictures<B: Backend>(c: &mut Criterion, name: &str, b: &B) {
    let mut g = group(c, "pictures");
    let p = Patches { n: 1, h: 36, w: 64, c: 64, kernel: 3, stride: 1, pad: 1 };
    let places = p.h * p.w;
    let (x, w) = (buffer(b, places * p.c), weight(b, &[64, 9 * p.c], QuantFormat::F32));
    let (mut columns, mut y) = (b.alloc(places * 9 * p.c).unwrap(), b.alloc(places * 64).unwrap());
    g.throughput(Throughput::Elements((places * 9 * p.c * 64) as u64));
    g.bench_function(format!("{name}/conv3x3 64-64/36x64"), |t| {
        t.iter(|| {
            b.patches(&x, p, &mut columns).unwrap();
            b.matmul(&columns, places, &w, None, false, &mut y).unwrap();
        });
    });
    g.throughput(Throughput::Bytes((places * p.c * 8) as u64));
    g.bench_function(format!("{name}/pixel_shuffle2/36x64"), |t| {
        t.iter(|| b.pixel_shuffle2(&x, 1, p.h, p.w, p.c / 4, &mut y).unwrap());
    });
    g.bench_function(format!("{name}/silu/{}", places * 64), |t| {
        t.iter(|| b.activate(Activation::Silu, &mut y, places * 64).unwrap());
    });
}

/// Whole frames, to I420.
fn paint<B: Backend>(c: &mut Criterion, name: &str, b: &B, sizes: &[(usize, usize)]) {
    let mut g = group(c, "paint");
    let grid = (36, 64);
    for layers in [3, 4] {
        let cells = grid.0 * grid.1 * layers;
        let (masks, colours) = (buffer(b, 4 * cells), buffer(b, 3 * cells));
        for &(h, w) in sizes {
            let (mut y, mut u, mut v) = (vec![0u8; h * w], vec![0u8; h * w / 4], vec![0u8; h * w / 4]);
            let canvas = Canvas { grid, layers, scale: 4.0, full: (h, w), size: (h, w) };
            g.throughput(Throughput::Elements((h * w) as u64));
            g.bench_function(BenchmarkId::new(format!("{name}/{layers} layers"), format!("{w}x{h}")), |t| {
                t.iter(|| b.paint(&masks, 0, &colours, 0, canvas, Target::I420(&mut y, &mut u, &mut v)).unwrap());
            });
        }
    }
}

fn all(c: &mut Criterion) {
    for threads in [1, 2] {
        let b = Cpu::new(threads);
        let name = format!("cpu-{threads}");
        matmul(c, &name, &b, &FORMATS);
        experts(c, &name, &b, &FORMATS);
        attention(c, &name, &b, usize::MAX);
        pictures(c, &name, &b);
        paint(c, &name, &b, &[(720, 1280), (1080, 1920)]);
    }
    // The reference keeps every format as f32.
    let b = Reference::new();
    matmul(c, "reference", &b, &[QuantFormat::F32]);
    experts(c, "reference", &b, &[QuantFormat::F32]);
    attention(c, "reference", &b, 512);
    pictures(c, "reference", &b);
    paint(c, "reference", &b, &[(180, 320)]);
}

criterion_group!(benches, all);
criterion_main!(benches);
