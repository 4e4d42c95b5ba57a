//! Attention, and how keys and values are kept.

use std::ops::Range;

use borealis_kernels::{Backend, Cpu, Instructions, KernelError, KvFormat, Reference, Span};

use crate::rows::cut;
use crate::support::{Backends, Case, Random, buffer, gpu, metal, read};

#[derive(Clone)]
struct Attention {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    slots: usize,
    format: KvFormat,
    k: Vec<f32>,
    v: Vec<f32>,
    q: Vec<f32>,
    spans: Vec<Span>,
    /// Slots are moved by so many before.
    moved: u32,
}

impl Case for Attention {
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let slots = self.slots as u32 + self.moved;
        let mut kv = b.kv(slots as usize, self.kv_heads, self.dim, self.format).unwrap();
        let (k, v, q) = (buffer(b, &self.k), buffer(b, &self.v), buffer(b, &self.q));
        let order: Vec<u32> = (0..self.slots as u32).collect();
        b.store_kv(&mut kv, &k, &v, &order).unwrap();
        b.copy_kv(&mut kv, 0, self.moved, self.slots as u32).unwrap();
        let shift = |(a, b): (u32, u32)| (a + self.moved, b + self.moved);
        let spans: Vec<Span> =
            self.spans.iter().map(|s| Span { prefix: shift(s.prefix), recent: shift(s.recent) }).collect();
        let mut out = buffer(b, &vec![7.0; self.q.len()]);
        let scale = 1.0 / (self.dim as f32).sqrt();
        b.attention(&q, self.heads, &kv, &spans, scale, &mut out).unwrap();
        read(b, &out, self.q.len())
    }
    fn rows(&self) -> usize {
        self.spans.len()
    }
    fn only(&self, rows: Range<usize>) -> Option<Self> {
        let q = cut(&self.q, self.heads * self.dim, rows.clone());
        // Elsewhere in the slab, too: a sequence's place does not matter.
        Some(Self { q, spans: self.spans[rows].to_vec(), moved: self.moved + 3, ..self.clone() })
    }
}

/// Spans of rows that have nothing to do with each other.
fn apart(r: &mut Random, slots: usize, rows: usize) -> Vec<Span> {
    (0..rows)
        .map(|_| {
            let mut cuts: Vec<u32> = (0..4).map(|_| r.size(0, slots) as u32).collect();
            cuts.sort_unstable();
            let mut span = Span { prefix: (cuts[0], cuts[1]), recent: (cuts[2], cuts[3]) };
            match r.size(0, 3) {
                0 => span.prefix.1 = span.prefix.0,
                1 => span.recent.0 = span.recent.1,
                _ => {}
            }
            if span.prefix.0 == span.prefix.1 && span.recent.0 == span.recent.1 {
                span.recent = (0, slots as u32);
            }
            span
        })
        .collect()
}

/// Spans of the rows of some sequences with one prompt: blocks, whose rows see the same, or windows, whose rows see one slot more each.
fn together(r: &mut Random, slots: usize, rows: usize) -> Vec<Span> {
    let prompt = r.size(0, slots / 2) as u32;
    let mut spans = Vec::new();
    while spans.len() < rows {
        let (some, step) = (r.size(1, rows - spans.len()), r.size(0, 1) as u32);
        let start = r.size(prompt as usize, slots - 1) as u32;
        let end = r.size(start as usize + 1, slots) as u32;
        let recent = |i: u32| (start, (end + step * i).min(slots as u32));
        spans.extend((0..some as u32).map(|i| Span { prefix: (0, prompt), recent: recent(i) }));
    }
    spans
}

fn attention_case(
    r: &mut Random,
    slots: usize,
    (kv_heads, group, dim): (usize, usize, usize),
    format: KvFormat,
    spans: Vec<Span>,
) -> Attention {
    let (heads, rows, width) = (kv_heads * group, spans.len(), kv_heads * dim);
    let (k, v, q) = (r.numbers(slots * width), r.numbers(slots * width), r.numbers(rows * heads * dim));
    let q = q.into_iter().map(|x| 2.0 * x).collect();
    Attention { heads, kv_heads, dim, slots, format, k, v, q, spans, moved: r.size(0, 20) as u32 }
}

#[test]
fn attention() {
    let (b, mut r) = (Backends::new(), Random::new(11));
    for i in 0..60 {
        let format = KvFormat::ALL[i % KvFormat::ALL.len()];
        // Some need several pieces; some have more query heads than a unit takes, as compressed attention has.
        let (slots, rows) =
            if i % 10 == 9 { (r.size(700, 1100), r.size(1, 9)) } else { (r.size(1, 150), r.size(1, 40)) };
        let sizes = match i % 20 {
            7 => (1, r.size(65, 80), r.size(60, 150)),
            _ => (r.size(1, 3), r.size(1, 7), r.size(1, 70)),
        };
        let spans = if i % 2 == 0 { apart(&mut r, slots, rows) } else { together(&mut r, slots, rows) };
        let case = attention_case(&mut r, slots, sizes, format, spans);
        let what = format!("attention {i} of {rows} rows, {sizes:?} over {slots} slots, {}", format.name());
        b.check(&what, &case);
    }
}

/// A slot that a row does not see changes nothing, even when it is seen beside it and is not a number.
#[test]
fn what_a_row_does_not_see_is_not_there() {
    fn tries<B: Backend>(b: &B, format: KvFormat) {
        let mut r = Random::new(16);
        let mut kv = b.kv(40, 1, 20, format).unwrap();
        let mut k = r.numbers(40 * 20);
        k[37 * 20 + 3] = f32::NAN;
        let (k, q) = (buffer(b, &k), buffer(b, &r.numbers(3 * 20)));
        b.store_kv(&mut kv, &k, &k, &(0..40).collect::<Vec<_>>()).unwrap();
        let mut out = b.alloc(60).unwrap();
        let spans = [36, 37, 38].map(|end| Span { prefix: (0, 4), recent: (10, end) });
        b.attention(&q, 1, &kv, &spans, 1.0, &mut out).unwrap();
        let found = read(b, &out, 60);
        assert!(found[..40].iter().all(|v| v.is_finite()), "{} {}", b.name(), format.name());
        assert!(found[40..].iter().any(|v| v.is_nan()), "{} {}", b.name(), format.name());
    }
    for format in KvFormat::ALL {
        tries(&Reference::new(), format);
        [Instructions::Scalar, Instructions::Avx2, Instructions::Avx512]
            .into_iter()
            .for_each(|most| tries(&Cpu::with_instructions(1, most), format));
        gpu().iter().for_each(|gpu| tries(gpu, format));
    }
}

#[test]
fn attention_refuses_what_it_cannot_do() {
    fn tries<B: Backend>(b: &B) {
        let kv = b.kv(8, 2, 4, KvFormat::F32).unwrap();
        let (q, mut out) = (b.alloc(16).unwrap(), b.alloc(16).unwrap());
        let mut attend = |heads, prefix, recent| b.attention(&q, heads, &kv, &[Span { prefix, recent }], 1.0, &mut out);
        assert!(attend(4, (0, 8), (8, 8)).is_ok());
        for bad in
            [attend(4, (0, 0), (3, 3)), attend(4, (0, 9), (0, 0)), attend(4, (3, 2), (0, 1)), attend(3, (0, 8), (0, 0))]
        {
            assert!(matches!(bad, Err(KernelError::Shape { .. })));
        }
        assert!(b.attention(&q, 6, &kv, &[Span { prefix: (0, 1), recent: (1, 1) }], 1.0, &mut out).is_err());
    }
    tries(&Reference::new());
    tries(&Cpu::new(1));
    gpu().iter().for_each(tries);
    metal().iter().for_each(tries);
}

/// What the specification keeps: values read back through an attention that sees one slot are what was stored, rounded as the format says.
#[test]
fn keys_and_values_are_kept_as_the_format_says() {
    let (b, mut r) = (Reference::new(), Random::new(15));
    for format in KvFormat::ALL {
        let kept = |x: &[f32]| {
            let (mut kv, x) = (b.kv(1, 1, x.len(), format).unwrap(), buffer(&b, x));
            b.store_kv(&mut kv, &x, &x, &[0]).unwrap();
            let mut out = buffer(&b, &[7.0; 70]);
            let seen = Span { prefix: (0, 1), recent: (1, 1) };
            b.attention(&x, 1, &kv, &[seen], 1.0, &mut out).unwrap();
            out
        };
        let x = r.numbers(70);
        let most = x.iter().fold(0f32, |m, v| m.max(v.abs()));
        let found = read(&b, &kept(&x), 70);
        for (have, x) in found.iter().zip(&x) {
            let error = match format {
                KvFormat::F32 => 0.0,
                KvFormat::Bf16 => x.abs() / 256.0,
                KvFormat::Int8 => most / 254.0 * 1.00001,
            };
            assert!((have - x).abs() <= error, "{x} is kept as {have} in {}", format.name());
        }
        // Whole numbers up to 127 are exact, halves go to the even neighbour, and nothing is nothing.
        let mut whole: Vec<f32> = (0..70).map(|i| (3 * i - 80) as f32).collect();
        assert_eq!(read(&b, &kept(&whole), 70), whole);
        whole[1] = 2.5;
        whole[2] = 127.0;
        let halves = if format == KvFormat::Int8 { 2.0 } else { 2.5 };
        assert_eq!(read(&b, &kept(&whole), 2)[1], halves);
        assert_eq!(read(&b, &kept(&[0.0; 70]), 70), [0.0; 70]);
        whole[5] = f32::NAN;
        assert!(read(&b, &kept(&whole), 70)[5].is_nan(), "{}", format.name());
        assert_eq!(format.name().parse(), Ok(format));
    }
    assert!("int3".parse::<KvFormat>().unwrap_err().contains("use f32, bf16 or int8"));
}

/// One number of a vector that is none makes the vector so, and no other.
#[test]
fn what_is_not_finite_stays_so() {
    let Some(gpu) = gpu() else { return };
    for format in KvFormat::ALL {
        let mut kv = gpu.kv(2, 1, 40, format).unwrap();
        let mut values = vec![0.5; 80];
        values[3] = f32::NAN;
        let x = buffer(&gpu, &values);
        gpu.store_kv(&mut kv, &x, &x, &[0, 1]).unwrap();
        let (q, mut out) = (buffer(&gpu, &[0.0; 80]), gpu.alloc(80).unwrap());
        let spans = [(0, 1), (1, 2)].map(|prefix| Span { prefix, recent: (2, 2) });
        gpu.attention(&q, 1, &kv, &spans, 1.0, &mut out).unwrap();
        let out = read(&gpu, &out, 80);
        assert!(out[3].is_nan() && out[40..] == [0.5; 40], "{}: {out:?}", format.name());
    }
}
