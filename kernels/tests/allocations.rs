//! The promise of the CPU backend: after the first step, operations allocate nothing.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use borealis_kernels::{
    Activation, Backend, Canvas, Cpu, HostTensor, HostType, KvFormat, Patches, QuantFormat, RopeSpec, Rotation,
    RouterSpec, Scoring, Span, Target,
};

thread_local!(static COUNT: Cell<usize> = const { Cell::new(0) });

/// The system's allocator, counting for each thread.
struct Counting;

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn weight(b: &Cpu, shape: &[usize], format: QuantFormat) -> <Cpu as Backend>::Weight {
    let n = shape.iter().product::<usize>();
    let data: Vec<u8> = (0..n).flat_map(|i| (((i * 31) % 17) as f32 / 50.0 - 0.1).to_le_bytes()).collect();
    b.weight(&HostTensor { dtype: HostType::F32, shape, data: &data, scales: None }, format).unwrap()
}

#[test]
fn a_step_allocates_nothing() {
    let b = Cpu::new(1);
    let (rows, hidden, heads, dim, inner) = (9, 48, 3, 16, 40);
    let spec = RouterSpec {
        experts: 4,
        null_experts: 1,
        top_k: 2,
        scoring: Scoring::Softmax,
        normalise: true,
        scale: 1.0,
        selection_bias: Vec::new(),
        groups: 1,
        top_groups: 1,
    };
    let rope = RopeSpec { rotation: Rotation::Half, inv_freq: vec![0.5; 8], axis: vec![0; 8], scale: 1.0 };
    let table = weight(&b, &[20, hidden], QuantFormat::Bf16);
    let q_proj = weight(&b, &[heads * dim, hidden], QuantFormat::Int8);
    let router = weight(&b, &[5, hidden], QuantFormat::F32);
    let gate_up = weight(&b, &[4, 2 * inner, hidden], QuantFormat::Int8);
    let down = weight(&b, &[4, hidden, inner], QuantFormat::Bf16);
    let new = |n: usize| b.alloc(n).unwrap();
    let (mut x, mut normed, mut q, norm) =
        (new(rows * hidden), new(rows * hidden), new(rows * heads * dim), new(hidden));
    let (mut angles, mut attended, mut pixels) = (new(rows * dim), new(rows * heads * dim), new(5000));
    let mut kv = b.kv(100, 1, dim, KvFormat::F32).unwrap();
    let mut routing = b.routing(rows, 2).unwrap();
    let ids: Vec<u32> = (0..18).collect();
    let (positions, slots): (Vec<[f32; 3]>, Vec<u32>) = ((0..9).map(|i| [i as f32; 3]).collect(), (3..12).collect());
    let spans = vec![Span { prefix: (0, 5), recent: (20, 90) }; rows];
    let (masks, colours) = (new(4 * 15 * 3), new(3 * 15 * 3));
    let canvas = Canvas { grid: (3, 5), layers: 3, scale: 1.0, full: (30, 50), size: (30, 50) };
    let mut frame = vec![0u8; 30 * 50 * 3 / 2];
    let patches = Patches { n: 1, h: 3, w: 4, c: 4, kernel: 3, stride: 1, pad: 1 };
    let mut step = || {
        let before = COUNT.get();
        b.embed(&table, &ids, 2, &mut x).unwrap();
        b.rms_norm(&x, &norm, 1e-6, rows, &mut normed).unwrap();
        b.matmul(&normed, rows, &q_proj, None, false, &mut q).unwrap();
        b.rope_angles(&rope, &positions, &mut angles).unwrap();
        b.rope(&rope, &angles, rows, heads, &mut q).unwrap();
        b.store_kv(&mut kv, &q, &q, &slots).unwrap();
        b.attention(&q, heads, &kv, &spans, 0.25, &mut attended).unwrap();
        b.route(&x, rows, &router, &spec, &mut routing).unwrap();
        b.experts(&normed, rows, &routing, &gate_up, &down, &mut x).unwrap();
        b.activate(Activation::Tanh, &mut x, rows * hidden).unwrap();
        b.patches(&x, patches, &mut pixels).unwrap();
        b.pixel_shuffle2(&x, 1, 3, 4, 1, &mut pixels).unwrap();
        let (y, c) = frame.split_at_mut(1500);
        let (u, v) = c.split_at_mut(375);
        b.paint(&masks, 0, &colours, 0, canvas, Target::I420(y, u, v)).unwrap();
        COUNT.get() - before
    };
    assert!(step() > 0, "the first step sizes the scratch");
    assert_eq!(step(), 0);
}
