//! The KV slab of one layer.
//!
//! Keys lie as `[kv_heads][slots / 16][D][16]`: one vector holds the same element of sixteen slots, so sixteen scores come out
//! of D multiply-adds without a sum over lanes. Values lie as `[kv_heads][slots][D']`, D' = D rounded up to 16. What a number is kept as is a type
//! ([`Kept`]): f32, bf16 (sixteen in the order that [`Stored::place`] says) or a code with a scale for each slot, head and side.

use half::bf16;

use super::memory::{Aligned, Plain};
use super::tile::Stored;
use super::weight::PANEL;
use crate::KvFormat;

/// Keys and values of one layer.
#[derive(Debug)]
pub struct CpuKv {
    shape: Shape,
    data: Data,
}

/// Sizes of a slab.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub slots: usize,
    pub heads: usize,
    pub dim: usize,
}

/// The numbers, by how they are kept.
#[derive(Debug)]
pub(crate) enum Data {
    F32(Slab<f32>),
    Bf16(Slab<u16>),
    Int8(Slab<i8>),
}

/// Keys and values, each with the scales of its slots `[kv_heads][slots rounded up]`, or none.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    keys: Aligned<T>,
    values: Aligned<T>,
    scales: Option<[Aligned<f32>; 2]>,
}

/// One key head of a slab.
pub(crate) struct Head<'a, T> {
    pub keys: &'a [T],
    pub values: &'a [T],
    /// Scales of the keys and of the values, by slot.
    pub scales: Option<[&'a [f32]; 2]>,
}

/// How a number of the slab is kept.
pub(crate) trait Kept: Stored + Plain + Send + Sync {
    /// Whether vectors have scales.
    const SCALED: bool = false;
    /// The scale of a vector.
    fn scale(_: &[f32]) -> f32 {
        1.0
    }
    /// A number of a vector with this scale.
    fn keep(x: f32, scale: f32) -> Self;
}

impl Kept for f32 {
    fn keep(x: f32, _: f32) -> f32 {
        x
    }
}

impl Kept for u16 {
    fn keep(x: f32, _: f32) -> u16 {
        bf16::from_f32(x).to_bits()
    }
}

/// What [`KvFormat::Int8`] says.
impl Kept for i8 {
    const SCALED: bool = true;

    fn scale(x: &[f32]) -> f32 {
        // NaN stays: once there, it is the largest.
        let most = x.iter().fold(0f32, |m, v| if m >= v.abs() || m.is_nan() { m } else { v.abs() });
        let scale = most / 127.0;
        if scale < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { scale }
    }
    fn keep(x: f32, scale: f32) -> i8 {
        // Adding and taking away 1.5 * 2^23 leaves the nearest whole number, ties to even.
        const MAGIC: f32 = 12_582_912.0;
        ((x / scale + MAGIC) - MAGIC) as i8
    }
}

impl Shape {
    /// Numbers of a value as it lies in the slab.
    pub(crate) fn wide(self) -> usize {
        self.dim.next_multiple_of(PANEL)
    }

    fn padded_slots(self) -> usize {
        self.slots.next_multiple_of(PANEL)
    }

    /// Where the first number of a slot's key lies, without its place among sixteen; the next ones follow sixteen apart.
    fn key(self, head: usize, slot: usize) -> usize {
        (head * self.padded_slots() + slot / PANEL * PANEL) * self.dim
    }

    fn value(self, head: usize, slot: usize) -> usize {
        (head * self.slots + slot) * self.wide()
    }
}

impl<T: Kept> Slab<T> {
    fn new(shape: Shape) -> Self {
        let vectors = shape.heads * shape.padded_slots();
        let scales = || Aligned::new(vectors);
        Self {
            keys: Aligned::new(vectors * shape.dim),
            values: Aligned::new(shape.heads * shape.slots * shape.wide()),
            scales: T::SCALED.then(|| [scales(), scales()]),
        }
    }

    fn store(&mut self, shape: Shape, slot: usize, k: &[f32], v: &[f32]) {
        let heads = k.chunks_exact(shape.dim).zip(v.chunks_exact(shape.dim)).enumerate();
        for (head, (k, v)) in heads {
            let scales = [T::scale(k), T::scale(v)];
            let key = shape.key(head, slot) + T::place(slot % PANEL);
            self.keys[key..].iter_mut().step_by(PANEL).zip(k).for_each(|(d, x)| *d = T::keep(*x, scales[0]));
            let value = shape.value(head, slot);
            let (whole, rest) = self.values[value..value + shape.wide()].as_chunks_mut::<PANEL>();
            debug_assert!(rest.is_empty(), "values are padded");
            for (to, from) in whole.iter_mut().zip(v.chunks(PANEL)) {
                from.iter().enumerate().for_each(|(i, x)| to[T::place(i)] = T::keep(*x, scales[1]));
            }
            if let Some(kept) = &mut self.scales {
                kept.iter_mut().zip(scales).for_each(|(to, s)| to[head * shape.padded_slots() + slot] = s);
            }
        }
    }

    /// Copies slots `from..from + len` to `to..`; the two may overlap.
    fn copy(&mut self, shape: Shape, from: usize, to: usize, len: usize) {
        for head in 0..shape.heads {
            let (a, b) = (shape.value(head, from), shape.value(head, to));
            self.values.copy_within(a..a + len * shape.wide(), b);
            for scales in self.scales.iter_mut().flatten() {
                let at = head * shape.padded_slots();
                scales.copy_within(at + from..at + from + len, at + to);
            }
            for i in 0..len {
                // Backwards when the target lies behind, so that nothing is overwritten before it was read.
                let i = if to > from { len - 1 - i } else { i };
                let place = |slot: usize| shape.key(head, slot) + T::place(slot % PANEL);
                let (a, b) = (place(from + i), place(to + i));
                (0..shape.dim).for_each(|d| self.keys[b + d * PANEL] = self.keys[a + d * PANEL]);
            }
        }
    }

    pub(crate) fn head(&self, shape: Shape, head: usize) -> Head<'_, T> {
        let (keys, values) = (shape.padded_slots() * shape.dim, shape.slots * shape.wide());
        Head {
            keys: &self.keys[head * keys..(head + 1) * keys],
            values: &self.values[head * values..(head + 1) * values],
            scales: self.scales.as_ref().map(|[k, v]| {
                let part = head * shape.padded_slots()..(head + 1) * shape.padded_slots();
                [&k[part.clone()], &v[part]]
            }),
        }
    }
}

impl CpuKv {
    pub(crate) fn new(shape: Shape, format: KvFormat) -> Self {
        let data = match format {
            KvFormat::F32 => Data::F32(Slab::new(shape)),
            KvFormat::Bf16 => Data::Bf16(Slab::new(shape)),
            KvFormat::Int8 => Data::Int8(Slab::new(shape)),
        };
        Self { shape, data }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn data(&self) -> &Data {
        &self.data
    }

    /// Writes one slot: `k` and `v` are `[kv_heads, D]`.
    pub(crate) fn store(&mut self, slot: usize, k: &[f32], v: &[f32]) {
        match &mut self.data {
            Data::F32(slab) => slab.store(self.shape, slot, k, v),
            Data::Bf16(slab) => slab.store(self.shape, slot, k, v),
            Data::Int8(slab) => slab.store(self.shape, slot, k, v),
        }
    }

    /// Copies slots `from..from + len` to `to..`; the two may overlap.
    pub(crate) fn copy(&mut self, from: usize, to: usize, len: usize) {
        match &mut self.data {
            Data::F32(slab) => slab.copy(self.shape, from, to, len),
            Data::Bf16(slab) => slab.copy(self.shape, from, to, len),
            Data::Int8(slab) => slab.copy(self.shape, from, to, len),
        }
    }
}
