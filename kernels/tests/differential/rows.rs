//! Embeddings, norms, products, element-wise functions, rotation.

use std::ops::Range;

use borealis_kernels::{
    Activation, Backend, Cpu, HostTensor, HostType, KernelError, KvFormat, QuantFormat, Reference, RopeSpec, Rotation,
};

use crate::support::{Backends, Case, FORMATS, Host, Random, buffer, coded, exact_rows, gpu, metal, read};

/// `[rows]` of `width` numbers, cut to some rows.
pub fn cut(data: &[f32], width: usize, rows: Range<usize>) -> Vec<f32> {
    data[rows.start * width..rows.end * width].to_vec()
}

struct Embed {
    table: Host,
    width: usize,
    codes: usize,
    ids: Vec<u32>,
}

impl Case for Embed {
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let table = self.table.on(b);
        let n = self.rows() * self.width;
        let mut out = buffer(b, &vec![7.0; n]);
        b.embed(&table, &self.ids, self.codes, &mut out).unwrap();
        // The first id of each group once more, as a row kind.
        let first: Vec<u32> = self.ids.iter().step_by(self.codes).copied().collect();
        b.add_embed(&table, &first, &mut out).unwrap();
        read(b, &out, n)
    }
    fn rows(&self) -> usize {
        self.ids.len() / self.codes
    }
    fn only(&self, rows: Range<usize>) -> Option<Self> {
        let ids = self.ids[rows.start * self.codes..rows.end * self.codes].to_vec();
        Some(Self { table: self.table.clone(), ids, ..*self })
    }
}

#[test]
fn embed() {
    let (b, mut r) = (Backends::new(), Random::new(1));
    for i in 0..24 {
        let (vocab, width) = (r.size(1, 70), r.size(1, 150));
        let (groups, codes) = (r.size(1, 40), r.size(1, 9));
        let table = Host::random(&mut r, &[vocab, width], FORMATS[i % 4]);
        let ids = r.ids(groups * codes, vocab);
        b.check(&format!("embed {i}"), &Embed { table, width, codes, ids });
    }
}

struct Norm {
    x: Vec<f32>,
    w: Vec<f32>,
    in_place: bool,
}

impl Case for Norm {
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let (mut x, w) = (buffer(b, &self.x), buffer(b, &self.w));
        let mut out = buffer(b, &vec![7.0; self.x.len()]);
        if self.in_place {
            b.rms_norm_in_place(&mut x, &w, 1e-6, self.rows()).unwrap();
            return read(b, &x, self.x.len());
        }
        b.rms_norm(&x, &w, 1e-6, self.rows(), &mut out).unwrap();
        read(b, &out, self.x.len())
    }
    fn rows(&self) -> usize {
        self.x.len() / self.w.len()
    }
    fn only(&self, rows: Range<usize>) -> Option<Self> {
        Some(Self { x: cut(&self.x, self.w.len(), rows), w: self.w.clone(), in_place: self.in_place })
    }
}

#[test]
fn rms_norm() {
    let (b, mut r) = (Backends::new(), Random::new(2));
    for i in 0..20 {
        let (rows, n) = (r.size(1, 150), r.size(1, 400));
        let (x, w) = (r.numbers(rows * n), r.numbers(n));
        b.check(&format!("rms_norm {rows} x {n}"), &Norm { x, w, in_place: i % 2 == 0 });
    }
}

struct Matmul {
    w: Host,
    inputs: usize,
    x: Vec<f32>,
    range: (usize, usize),
    /// What is there before, when the product is added to it.
    before: Option<Vec<f32>>,
    bias: Vec<f32>,
}

impl Case for Matmul {
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let (w, x, bias) = (self.w.on(b), buffer(b, &self.x), buffer(b, &self.bias));
        let n = self.rows() * self.bias.len();
        let mut out = buffer(b, self.before.as_ref().unwrap_or(&vec![f32::NAN; n]));
        b.matmul(&x, self.rows(), &w, Some(self.range), self.before.is_some(), &mut out).unwrap();
        b.add_bias(&mut out, &bias, self.rows()).unwrap();
        read(b, &out, n)
    }
    fn rows(&self) -> usize {
        self.x.len() / self.inputs
    }
    fn only(&self, rows: Range<usize>) -> Option<Self> {
        Some(Self {
            w: self.w.clone(),
            x: cut(&self.x, self.inputs, rows.clone()),
            before: self.before.as_ref().map(|d| cut(d, self.bias.len(), rows)),
            bias: self.bias.clone(),
            ..*self
        })
    }
}

#[test]
fn matmul() {
    let (b, mut r) = (Backends::new(), Random::new(3));
    // Every small number of rows, then any, and one that is cut into several chunks of rows.
    let counts: Vec<usize> = (1..=14).chain((0..20).map(|_| r.size(15, 70))).chain([200]).collect();
    for (i, rows) in counts.into_iter().enumerate() {
        for format in FORMATS {
            let (out, inputs) = (r.size(1, 130), r.size(1, 200));
            let w = Host::random(&mut r, &[out, inputs], format);
            let from = if i % 3 == 0 { 0 } else { r.size(0, out - 1) };
            let range = (from, if i % 2 == 0 { out } else { r.size(from + 1, out) });
            let x = if coded(format) { exact_rows(&mut r, rows, inputs) } else { r.numbers(rows * inputs) };
            let before = (i % 4 > 1).then(|| r.numbers(rows * (range.1 - range.0)));
            let bias = r.numbers(range.1 - range.0);
            let what = format!("matmul {rows} x {inputs} x {out} {range:?} {}", format.name());
            b.check(&what, &Matmul { w, inputs, x, range, before, bias });
        }
    }
}

struct Elements {
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Case for Elements {
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let (n, mut x, y) = (self.x.len(), buffer(b, &self.x), buffer(b, &self.y));
        let mut all = Vec::new();
        b.activate(Activation::Silu, &mut x, n).unwrap();
        all.extend(read(b, &x, n));
        b.add(&mut x, &y, n).unwrap();
        all.extend(read(b, &x, n));
        b.activate(Activation::Tanh, &mut x, n).unwrap();
        all.extend(read(b, &x, n));
        let mut out = buffer(b, &vec![7.0; n / 2]);
        b.swiglu(&y, 1, n / 2, &mut out).unwrap();
        all.extend(read(b, &out, n / 2));
        all
    }
    fn rows(&self) -> usize {
        1
    }
    fn only(&self, _: Range<usize>) -> Option<Self> {
        None
    }
}

#[test]
fn elements() {
    let (b, mut r) = (Backends::new(), Random::new(4));
    for _ in 0..20 {
        // The long ones are cut into chunks.
        let longest = r.pick(&[300, 30_000]);
        let n = 2 * r.size(1, longest);
        let factor = r.pick(&[0.01, 1.0, 30.0]);
        let mut numbers = || r.numbers(n).into_iter().map(|x| x * factor).collect();
        b.check(&format!("elements {n} of size {factor}"), &Elements { x: numbers(), y: numbers() });
    }
}

#[derive(Clone)]
struct Rope {
    spec: RopeSpec,
    heads: usize,
    positions: Vec<[f32; 3]>,
    x: Vec<f32>,
}

impl Case for Rope {
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let (rows, mut x) = (self.rows(), buffer(b, &self.x));
        let mut angles = buffer(b, &vec![7.0; rows * 2 * self.spec.inv_freq.len()]);
        b.rope_angles(&self.spec, &self.positions, &mut angles).unwrap();
        b.rope(&self.spec, &angles, rows, self.heads, &mut x).unwrap();
        read(b, &x, self.x.len())
    }
    fn rows(&self) -> usize {
        self.positions.len()
    }
    fn only(&self, rows: Range<usize>) -> Option<Self> {
        let width = self.x.len() / self.rows();
        Some(Self { positions: self.positions[rows.clone()].to_vec(), x: cut(&self.x, width, rows), ..self.clone() })
    }
}

#[test]
fn rope() {
    let (b, mut r) = (Backends::new(), Random::new(5));
    for i in 0..20 {
        let (half, rows, heads) = (r.size(1, 40), r.size(1, 50), r.size(1, 6));
        let spec = RopeSpec {
            rotation: if i % 2 == 0 { Rotation::Half } else { Rotation::Interleaved },
            inv_freq: (0..half).map(|i| 100f32.powf(-(i as f32) / half as f32)).collect(),
            axis: (0..half).map(|i| (i % 3) as u8).collect(),
            scale: 1.0 + (i % 3) as f32 * 0.1,
        };
        let positions = (0..rows).map(|_| std::array::from_fn(|_| r.number() * 20.0)).collect();
        let x = r.numbers(rows * heads * 2 * half);
        b.check(&format!("rope {rows} x {heads} x {half}"), &Rope { spec, heads, positions, x });
    }
}

#[test]
fn gather() {
    let (b, mut r) = (Backends::new(), Random::new(6));
    for _ in 0..10 {
        let (n, width) = (r.size(1, 30), r.size(1, 40));
        let x = r.numbers(n * width);
        let rows: Vec<u32> = (0..r.size(1, 20)).map(|_| r.size(0, n - 1) as u32).collect();
        b.check("gather", &Gather { x, rows, width });
    }
}

struct Gather {
    x: Vec<f32>,
    rows: Vec<u32>,
    width: usize,
}

impl Case for Gather {
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let (x, n) = (buffer(b, &self.x), self.rows.len() * self.width);
        let mut out = buffer(b, &vec![7.0; n]);
        b.gather(&x, &self.rows, self.width, &mut out).unwrap();
        read(b, &out, n)
    }
    fn rows(&self) -> usize {
        self.rows.len()
    }
    fn only(&self, rows: Range<usize>) -> Option<Self> {
        Some(Self { x: self.x.clone(), rows: self.rows[rows].to_vec(), ..*self })
    }
}

/// No rows, no error.
#[test]
fn nothing_to_do() {
    fn tries<B: Backend>(b: &B) {
        let w = Host::exact(&[2, 3], &[0.0; 6]).on(b);
        let (x, norm, mut out) = (b.alloc(0).unwrap(), b.alloc(3).unwrap(), b.alloc(0).unwrap());
        let mut angles = b.alloc(0).unwrap();
        let spec = RopeSpec { rotation: Rotation::Half, inv_freq: vec![1.0; 2], axis: vec![0; 2], scale: 1.0 };
        b.embed(&w, &[], 2, &mut out).unwrap();
        b.add_embed(&w, &[], &mut out).unwrap();
        b.rms_norm(&x, &norm, 1e-6, 0, &mut out).unwrap();
        b.rms_norm_in_place(&mut out, &norm, 1e-6, 0).unwrap();
        b.matmul(&x, 0, &w, None, true, &mut out).unwrap();
        b.add(&mut out, &x, 0).unwrap();
        b.add_bias(&mut out, &norm, 0).unwrap();
        b.activate(Activation::Silu, &mut out, 0).unwrap();
        b.swiglu(&x, 0, 4, &mut out).unwrap();
        b.rope_angles(&spec, &[], &mut angles).unwrap();
        b.rope(&spec, &angles, 0, 2, &mut out).unwrap();
        b.gather(&x, &[], 4, &mut out).unwrap();
        let mut kv = b.kv(4, 1, 2, KvFormat::F32).unwrap();
        b.store_kv(&mut kv, &x, &x, &[]).unwrap();
        b.copy_kv(&mut kv, 1, 2, 0).unwrap();
        b.attention(&x, 2, &kv, &[], 1.0, &mut out).unwrap();
    }
    tries(&Reference::new());
    tries(&Cpu::new(2));
    gpu().iter().for_each(tries);
    metal().iter().for_each(tries);
}

/// Wrong sizes are errors that name the operation.
#[test]
fn wrong_sizes_are_refused() {
    fn tries<B: Backend>(b: &B) {
        let w = Host::exact(&[2, 3], &[0.0; 6]).on(b);
        let stack = Host::exact(&[1, 2, 3], &[0.0; 6]).on(b);
        let (x, mut out) = (b.alloc(5).unwrap(), b.alloc(3).unwrap());
        let bad = [
            b.matmul(&x, 2, &w, None, false, &mut out),
            b.matmul(&x, 1, &w, Some((1, 3)), false, &mut out),
            b.matmul(&x, 1, &stack, None, false, &mut out),
            b.embed(&w, &[2], 1, &mut out),
            b.embed(&w, &[0, 1, 0], 2, &mut out),
            b.read(&x, 4, &mut [0.0; 2]),
            b.gather(&x, &[2], 2, &mut out),
            b.activate(Activation::Tanh, &mut out, 4),
        ];
        for (i, result) in bad.into_iter().enumerate() {
            assert!(matches!(result, Err(KernelError::Shape { .. })), "{}: case {i}", b.name());
        }
        let short = HostTensor { dtype: HostType::Bf16, shape: &[2, 2], data: &[0; 7], scales: None };
        assert!(b.weight(&short, QuantFormat::F32).is_err());
        let scales = HostTensor { dtype: HostType::I8, shape: &[2, 65], data: &[0; 130], scales: Some((&[0; 6], 64)) };
        assert!(b.weight(&scales, QuantFormat::Int8).is_err());
    }
    tries(&Reference::new());
    tries(&Cpu::new(1));
    gpu().iter().for_each(tries);
    metal().iter().for_each(tries);
}
