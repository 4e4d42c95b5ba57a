//! What other families' attention needs: layer norms of heads, a product of each head's own, parts of rows, GELU and clipping.

use std::ops::Range;

use borealis_kernels::{Activation, Backend, Columns, Cpu, Reference};

use crate::rows::cut;
use crate::support::{Backends, Case, FORMATS, Host, Random, buffer, coded, exact_rows, gpu, metal, read};

#[derive(Clone)]
struct LayerNorm {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    width: usize,
}

impl Case for LayerNorm {
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let (mut x, weight, bias) = (buffer(b, &self.x), buffer(b, &self.weight), buffer(b, &self.bias));
        b.layer_norm_in_place(&mut x, &weight, &bias, self.width, 1e-5, self.rows()).unwrap();
        read(b, &x, self.x.len())
    }
    fn rows(&self) -> usize {
        self.x.len() / self.weight.len()
    }
    fn only(&self, rows: Range<usize>) -> Option<Self> {
        Some(Self { x: cut(&self.x, self.weight.len(), rows), ..self.clone() })
    }
}

#[test]
fn layer_norm() {
    let (b, mut r) = (Backends::new(), Random::new(21));
    for _ in 0..20 {
        let (rows, heads, width) = (r.size(1, 40), r.size(1, 6), r.size(2, 70));
        // A mean far from zero, so that forgetting it shows.
        let x = r.numbers(rows * heads * width).into_iter().map(|x| 2.0 * x + 1.5).collect();
        let (weight, bias) = (r.numbers(heads * width), r.numbers(heads * width));
        b.check(&format!("layer norm {rows} x {heads} x {width}"), &LayerNorm { x, weight, bias, width });
    }
}

#[derive(Clone)]
struct Heads {
    w: Host,
    heads: usize,
    x_stride: usize,
    out_stride: usize,
    x: Vec<f32>,
    before: Vec<f32>,
}

impl Case for Heads {
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let (x, mut out) = (buffer(b, &self.x), buffer(b, &self.before));
        b.matmul_heads(&x, self.x_stride, self.rows(), &self.w.on(b), &mut out, self.out_stride).unwrap();
        read(b, &out, self.before.len())
    }
    fn rows(&self) -> usize {
        self.x.len() / (self.heads * self.x_stride)
    }
    fn only(&self, rows: Range<usize>) -> Option<Self> {
        let x = cut(&self.x, self.heads * self.x_stride, rows.clone());
        let before = cut(&self.before, self.heads * self.out_stride, rows);
        Some(Self { x, before, ..self.clone() })
    }
}

#[test]
fn matmul_heads() {
    let (b, mut r) = (Backends::new(), Random::new(22));
    for i in 0..24 {
        let (heads, outputs, inputs) = (r.size(1, 6), r.size(1, 60), r.size(1, 90));
        let rows = if i == 5 { 220 } else { r.size(1, 30) };
        let (x_stride, out_stride) = (inputs + r.size(0, 9), outputs + r.size(0, 9));
        let w = Host::random(&mut r, &[heads, outputs, inputs], FORMATS[i % 4]);
        let mut x = r.numbers(rows * heads * x_stride);
        if coded(w.format) {
            let exact = exact_rows(&mut r, rows * heads, inputs);
            x.chunks_mut(x_stride).zip(exact.chunks(inputs)).for_each(|(x, e)| x[..inputs].copy_from_slice(e));
        }
        let before = r.numbers(rows * heads * out_stride);
        let what = format!("{rows} rows, {heads} heads {inputs} ({x_stride}) -> {outputs} ({out_stride})");
        b.check(&what, &Heads { w, heads, x_stride, out_stride, x, before });
    }
}

#[test]
fn columns_are_copied_and_their_neighbours_kept() {
    fn run<B: Backend>(b: &B) -> Vec<f32> {
        let src: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let (src, mut dst) = (buffer(b, &src), buffer(b, &[-1.0; 15]));
        let (from, to) = (Columns { stride: 4, at: 1 }, Columns { stride: 5, at: 2 });
        b.copy_columns(&src, from, &mut dst, to, 2, 3).unwrap();
        assert!(b.copy_columns(&src, from, &mut dst, to, 4, 1).is_err());
        read(b, &dst, 15)
    }
    let want = [[-1.0, -1.0, 1.0, 2.0, -1.0], [-1.0, -1.0, 5.0, 6.0, -1.0], [-1.0, -1.0, 9.0, 10.0, -1.0]].concat();
    assert_eq!(run(&Reference::new()), want);
    assert_eq!(run(&Cpu::new(2)), want);
    gpu().iter().for_each(|gpu| assert_eq!(run(gpu), want));
    metal().iter().for_each(|metal| assert_eq!(run(metal), want));
}

struct Functions(Vec<f32>, f32);

impl Case for Functions {
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let n = self.0.len();
        let (mut gelu, mut clip) = (buffer(b, &self.0), buffer(b, &self.0));
        b.activate(Activation::Gelu, &mut gelu, n).unwrap();
        b.activate(Activation::Clip(self.1), &mut clip, n).unwrap();
        assert!(b.activate(Activation::Clip(f32::NAN), &mut clip, n).is_err());
        [read(b, &gelu, n), read(b, &clip, n)].concat()
    }
    fn rows(&self) -> usize {
        0
    }
    fn only(&self, _: Range<usize>) -> Option<Self> {
        None
    }
}

#[test]
fn gelu_and_clip() {
    let (b, mut r) = (Backends::new(), Random::new(23));
    for n in [1, 7, 300, 40_000] {
        b.check(&format!("{n} numbers"), &Functions(r.numbers(n).into_iter().map(|x| 3.0 * x).collect(), 0.7));
    }
    // Values of the exact function: 1 * Phi(1), -2 * Phi(-2).
    let cpu = Cpu::new(1);
    let mut x = buffer(&cpu, &[1.0, -2.0, 9.0]);
    cpu.activate(Activation::Gelu, &mut x, 3).unwrap();
    for (have, want) in read(&cpu, &x, 3).into_iter().zip([0.841_344_7, -0.045_500_26, 9.0]) {
        assert!((have - want).abs() < 1e-6, "{have} {want}");
    }
}
