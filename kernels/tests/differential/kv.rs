//! Keys and values in every format on a GPU, against the reference.

use borealis_kernels::{Backend, KvFormat, Reference, Span};

use crate::support::{Random, buffer, gpu, nmse, read};

/// Rows over a slab whose slots were stored in any order and moved.
struct Case {
    format: KvFormat,
    heads: (usize, usize),
    dim: usize,
    slots: usize,
    k: Vec<f32>,
    v: Vec<f32>,
    q: Vec<f32>,
    spans: Vec<Span>,
}

impl Case {
    fn random(r: &mut Random, format: KvFormat, slots: usize) -> Self {
        let (kv_heads, dim, rows) = (r.size(1, 3), r.size(1, 150), r.size(1, 9));
        let heads = kv_heads * r.size(1, 5);
        let width = kv_heads * dim;
        let spans = (0..rows).map(|_| {
            let end = r.size(1, slots) as u32;
            Span { prefix: (0, end / 3), recent: (end / 2, end) }
        });
        let spans = spans.collect();
        let (k, v, q) = (r.numbers(slots * width), r.numbers(slots * width), r.numbers(rows * heads * dim));
        Self { format, heads: (heads, kv_heads), dim, slots, k, v, q, spans }
    }

    fn run<B: Backend>(&self, b: &B, rows: std::ops::Range<usize>) -> Vec<f32> {
        let width = self.heads.0 * self.dim;
        let mut kv = b.kv(self.slots + 5, self.heads.1, self.dim, self.format).unwrap();
        let (k, v) = (buffer(b, &self.k), buffer(b, &self.v));
        let order: Vec<u32> = (0..self.slots as u32).collect();
        b.store_kv(&mut kv, &k, &v, &order).unwrap();
        b.copy_kv(&mut kv, 0, 5, self.slots as u32).unwrap();
        let moved = |(a, b): (u32, u32)| (a + 5, b + 5);
        let spans: Vec<Span> = self.spans[rows.clone()]
            .iter()
            .map(|s| Span { prefix: moved(s.prefix), recent: moved(s.recent) })
            .collect();
        let q = buffer(b, &self.q[rows.start * width..rows.end * width]);
        let mut out = b.alloc(spans.len() * width).unwrap();
        b.attention(&q, self.heads.0, &kv, &spans, 0.3, &mut out).unwrap();
        read(b, &out, spans.len() * width)
    }
}

#[test]
fn every_format_is_that_of_the_reference() {
    let (Some(gpu), reference, mut r) = (gpu(), Reference::new(), Random::new(41)) else { return };
    for format in KvFormat::ALL {
        for slots in [3, 40, 150, 700] {
            let case = Case::random(&mut r, format, slots);
            let rows = case.spans.len();
            let (have, want) = (case.run(&gpu, 0..rows), case.run(&reference, 0..rows));
            let error = nmse(&have, &want);
            assert!(error < 1e-9, "{} over {slots} slots of {}: NMSE {error:e}", format.name(), case.dim);
            let alone = case.run(&gpu, rows - 1..rows);
            assert_eq!(alone, have[have.len() - alone.len()..], "{}: a row alone", format.name());
        }
    }
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
