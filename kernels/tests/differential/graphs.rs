//! Work that is replayed as a graph gives the bits of work that is started kernel by kernel.

use borealis_kernels::{Backend, Cuda, KvFormat, QuantFormat, RouterSpec, Scoring, Span};

use crate::support::{Host, Random, buffer, gpu, read};

/// A layer, again and again with other inputs, slots and spans; all results.
fn steps(gpu: &Cuda) -> Vec<f32> {
    let mut r = Random::new(51);
    let (rows, width, heads, dim, inner, experts) = (3, 48, 4, 12, 20, 6);
    let matrices = [[width, width], [width, width], [2 * inner, width], [width, inner]];
    let [q, o, ..] = matrices.map(|shape| Host::random(&mut r, &shape, QuantFormat::Bf16).on(gpu));
    let gate_up = Host::random(&mut r, &[experts, 2 * inner, width], QuantFormat::Int8).on(gpu);
    let down = Host::random(&mut r, &[experts, width, inner], QuantFormat::Int8).on(gpu);
    let router = Host::random(&mut r, &[experts, width], QuantFormat::F32).on(gpu);
    let spec = RouterSpec {
        experts,
        null_experts: 0,
        top_k: 2,
        scoring: Scoring::Softmax,
        normalise: true,
        scale: 1.0,
        selection_bias: vec![0.1, 0.0, 0.0, 0.2, 0.0, 0.0],
        groups: 1,
        top_groups: 1,
    };
    let norm = buffer(gpu, &r.numbers(width));
    let mut kv = gpu.kv(64, heads, dim, KvFormat::Bf16).unwrap();
    let mut routing = gpu.routing(rows, 2).unwrap();
    let new = |n: usize| gpu.alloc(n).unwrap();
    let (mut hidden, mut x, mut y) = (new(rows * width), new(rows * width), new(rows * width));
    let mut all = Vec::new();
    for step in 0..12u32 {
        gpu.write(&mut hidden, 0, &r.numbers(rows * width)).unwrap();
        for _ in 0..2 {
            gpu.rms_norm(&hidden, &norm, 1e-5, rows, &mut x).unwrap();
            gpu.matmul(&x, rows, &q, None, false, &mut y).unwrap();
            let slots: Vec<u32> = (0..rows as u32).map(|i| step * rows as u32 + i).collect();
            gpu.store_kv(&mut kv, &y, &y, &slots).unwrap();
            let spans: Vec<Span> = slots.iter().map(|s| Span { prefix: (0, s / 2), recent: (s / 2, s + 1) }).collect();
            gpu.attention(&y, heads, &kv, &spans, 0.3, &mut x).unwrap();
            gpu.matmul(&x, rows, &o, None, true, &mut hidden).unwrap();
            gpu.route(&hidden, rows, &router, &spec, &mut routing).unwrap();
            gpu.experts(&hidden, rows, &routing, &gate_up, &down, &mut y).unwrap();
            // In the middle of a step: what is started later must see it, what was started before must not.
            if step % 5 == 4 {
                gpu.write(&mut x, 3, &[step as f32]).unwrap();
            }
            gpu.add(&mut hidden, &x, rows * width).unwrap();
            // A buffer that goes while the work with it is still on the list.
            let gone = buffer(gpu, &vec![0.5; rows * width]);
            gpu.add(&mut hidden, &gone, rows * width).unwrap();
        }
        gpu.copy_kv(&mut kv, step, step + 20, 3).unwrap();
        all.extend(read(gpu, &hidden, rows * width));
        all.extend(read(gpu, &y, rows * width));
    }
    all
}

/// The same without temporary buffers in the middle: every step is one list.
fn plain(gpu: &Cuda) -> Vec<f32> {
    let mut r = Random::new(52);
    let w = Host::random(&mut r, &[32, 32], QuantFormat::Bf16).on(gpu);
    let (mut a, mut b) = (buffer(gpu, &r.numbers(64)), gpu.alloc(64).unwrap());
    let mut all = Vec::new();
    for step in 0..6u32 {
        for i in 0..6 {
            gpu.gather(&a, &[i % 2, (step + i) % 2], 32, &mut b).unwrap();
            gpu.matmul(&b, 2, &w, None, false, &mut a).unwrap();
        }
        all.extend(read(gpu, &a, 64));
    }
    all
}

#[test]
fn graphs_change_no_bit() {
    let (Some(eager), Some(graphs)) = (gpu(), gpu()) else { return };
    eager.graphs(false).unwrap();
    for work in [steps, plain] {
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(work(&eager)), bits(work(&graphs)));
    }
    let (none, some) = (eager.graph_counts(), graphs.graph_counts());
    assert_eq!((none.replays, none.graphs), (0, 0));
    // Twelve commands with the same arguments: the first time one by one, then as a graph; lists of the host change nothing.
    assert!(some.graphs >= 1 && some.replays >= 5, "{some:?}");
}
