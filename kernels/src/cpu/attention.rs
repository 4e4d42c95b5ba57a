//! Attention over a slab whose slots are seen as two ranges.
//!
//! Keys lie as `[kv_heads][slots / 8][D][8]`: one vector holds the same element of eight slots, so eight scores come out
//! of D multiply-adds without a sum over lanes. Values lie as `[kv_heads][slots][D']`, D' = D rounded up to 8. All query heads
//! of one key head are worked on together: keys and values are read once for them.
//!
//! The slots that a row sees are counted from the first slot of its first range. They are cut into pieces of [`PIECE`]
//! by that count (never by the number of threads), each piece has its own maximum, sum and weighted values, and the pieces
//! are put together in order. So a result depends on neither where in the slab a sequence lies nor what else is computed.
#![allow(clippy::needless_range_loop)] // indices of several register arrays at once, as in the formulas

use std::ops::Range;

use super::memory::{Aligned, Shared, first, with_scratch};
use super::pool::Pool;
use super::rows::{exponential, exponentials_any};
use super::simd::{LANES, Level, Simd, kernel};
use crate::Span;

/// Slots of a piece.
pub(crate) const PIECE: usize = 1024;
/// Units (row piece x key head) of a chunk.
const CHUNK: usize = 4;

/// Keys and values of one layer.
#[derive(Debug)]
pub struct CpuKv {
    pub(crate) slots: usize,
    pub(crate) heads: usize,
    pub(crate) dim: usize,
    k: Aligned<f32>,
    v: Aligned<f32>,
}

impl CpuKv {
    pub(crate) fn new(slots: usize, heads: usize, dim: usize) -> Self {
        let blocks = slots.div_ceil(LANES);
        let k = Aligned::new(heads * blocks * LANES * dim);
        let v = Aligned::new(heads * slots * padded(dim));
        Self { slots, heads, dim, k, v }
    }

    /// Where element 0 of a key lies; the next ones follow eight numbers apart.
    fn key(&self, head: usize, slot: usize) -> usize {
        (head * self.slots.div_ceil(LANES) + slot / LANES) * self.dim * LANES + slot % LANES
    }

    fn value(&self, head: usize, slot: usize) -> usize {
        (head * self.slots + slot) * padded(self.dim)
    }

    /// Writes one slot: `k` and `v` are `[kv_heads, D]`.
    pub(crate) fn store(&mut self, slot: usize, k: &[f32], v: &[f32]) {
        for head in 0..self.heads {
            let from = head * self.dim..(head + 1) * self.dim;
            let (ka, va) = (self.key(head, slot), self.value(head, slot));
            self.k[ka..].iter_mut().step_by(LANES).zip(&k[from.clone()]).for_each(|(d, s)| *d = *s);
            self.v[va..va + self.dim].copy_from_slice(&v[from]);
        }
    }

    /// Copies slots `from..from + len` to `to..`; the two may overlap.
    pub(crate) fn copy(&mut self, from: usize, to: usize, len: usize) {
        for head in 0..self.heads {
            let (a, b) = (self.value(head, from), self.value(head, to));
            self.v.copy_within(a..a + len * padded(self.dim), b);
            for i in 0..len {
                // Backwards when the target lies behind, so that nothing is overwritten before it was read.
                let i = if to > from { len - 1 - i } else { i };
                let (a, b) = (self.key(head, from + i), self.key(head, to + i));
                (0..self.dim).for_each(|d| self.k[b + d * LANES] = self.k[a + d * LANES]);
            }
        }
    }

    fn keys(&self, head: usize) -> &[f32] {
        let size = self.slots.div_ceil(LANES) * LANES * self.dim;
        &self.k[head * size..(head + 1) * size]
    }

    fn values(&self, head: usize) -> &[f32] {
        let size = self.slots * padded(self.dim);
        &self.v[head * size..(head + 1) * size]
    }
}

fn padded(dim: usize) -> usize {
    dim.next_multiple_of(LANES)
}

/// Scratch of [`attention`], kept from step to step.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// (row, piece) of every task.
    tasks: Vec<(u32, u32)>,
    /// First task of every row; one more at the end.
    starts: Vec<usize>,
    partial: Vec<f32>,
}

fn seen(s: &Span) -> usize {
    (s.prefix.1 - s.prefix.0 + s.recent.1 - s.recent.0) as usize
}

/// The slots numbered `piece * PIECE ..` of a span.
fn ranges(s: &Span, piece: usize) -> [Range<usize>; 2] {
    let (from, to) = (piece * PIECE, seen(s).min((piece + 1) * PIECE));
    let (p, r) = ((s.prefix.1 - s.prefix.0) as usize, s.recent.0 as usize);
    let start = s.prefix.0 as usize;
    [start + from.min(p)..start + to.min(p), r + from.saturating_sub(p)..r + to.saturating_sub(p)]
}

/// Attention of all rows. Sizes and spans were checked by the caller.
#[allow(clippy::too_many_arguments)]
pub(crate) fn attention(
    level: Level,
    pool: &Pool,
    scratch: &mut Scratch,
    q: &[f32],
    heads: usize,
    kv: &CpuKv,
    spans: &[Span],
    scale: f32,
    out: &mut [f32],
) {
    let Scratch { tasks, starts, partial } = scratch;
    tasks.clear();
    starts.clear();
    for (row, s) in spans.iter().enumerate() {
        starts.push(tasks.len());
        tasks.extend((0..seen(s).div_ceil(PIECE)).map(|piece| (row as u32, piece as u32)));
    }
    starts.push(tasks.len());
    let (group, wide) = (heads / kv.heads, padded(kv.dim));
    // Of a task and key head: for each query head maximum and sum, then the weighted values.
    let unit = group * (2 + wide);
    let units = tasks.len() * kv.heads;
    let partial = first(partial, units * unit);
    let shared = Shared::new(partial);
    let work: usize = spans.iter().map(seen).sum::<usize>() * heads * kv.dim;
    let run = |chunks: usize, chunk: &(dyn Fn(usize) + Sync)| {
        if work < super::matmul::SMALL { (0..chunks).for_each(chunk) } else { pool.run(chunks, chunk) }
    };
    run(units.div_ceil(CHUNK), &|c| {
        for u in c * CHUNK..units.min((c + 1) * CHUNK) {
            let (head, (row, piece)) = (u / tasks.len(), tasks[u % tasks.len()]);
            let at = (row as usize * heads + head * group) * kv.dim;
            let ranges = ranges(&spans[row as usize], piece as usize);
            let slots = ranges[0].len() + ranges[1].len();
            // SAFETY: a unit belongs to one chunk.
            let to = unsafe { shared.part(u * unit, unit) };
            with_scratch(group * slots.next_multiple_of(LANES), |scores| {
                let part =
                    Part { q: &q[at..at + group * kv.dim], keys: kv.keys(head), values: kv.values(head), dim: kv.dim };
                attend(level, &part, &ranges, scale, scores, to);
            });
        }
    });
    let partial = &*partial;
    let out = Shared::new(&mut out[..spans.len() * heads * kv.dim]);
    run(spans.len(), &|row| {
        for h in 0..heads {
            let part = |t: usize| &partial[((h / group) * tasks.len() + t) * unit..][..unit];
            // SAFETY: a row belongs to one chunk.
            let to = unsafe { out.part((row * heads + h) * kv.dim, kv.dim) };
            combine(level, starts[row]..starts[row + 1], part, h % group, group, to);
        }
    });
}

/// Puts the pieces of one query head together.
fn combine<'a>(
    level: Level,
    tasks: Range<usize>,
    part: impl Fn(usize) -> &'a [f32],
    g: usize,
    group: usize,
    to: &mut [f32],
) {
    let wide = padded(to.len());
    let max = tasks.clone().map(|t| part(t)[2 * g]).fold(f32::NEG_INFINITY, |m, x| if m > x { m } else { x });
    let mut sum = 0.0;
    to.fill(0.0);
    for t in tasks {
        let p = part(t);
        let factor = exponential(level, p[2 * g] - max);
        sum += factor * p[2 * g + 1];
        let values = &p[2 * group + g * wide..][..to.len()];
        to.iter_mut().zip(values).for_each(|(o, v)| *o += factor * v);
    }
    to.iter_mut().for_each(|o| *o /= sum);
}

/// Query heads `[group, D]` and their key head.
pub(crate) struct Part<'a> {
    q: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    dim: usize,
}

kernel! {
    /// One piece: (maximum, sum) of each query head and then its weighted values `[group, D']`, to `to`.
    fn attend(part: &Part<'_>, ranges: &[Range<usize>; 2], scale: f32, scores: &mut [f32], to: &mut [f32]) = attend_any
}

#[inline(always)]
fn attend_any<S: Simd>(
    s: S,
    part: &Part<'_>,
    ranges: &[Range<usize>; 2],
    scale: f32,
    scores: &mut [f32],
    to: &mut [f32],
) {
    let group = part.q.len() / part.dim;
    let slots = ranges[0].len() + ranges[1].len();
    let stride = slots.next_multiple_of(LANES);
    let (stats, values) = to.split_at_mut(2 * group);
    for g in (0..group).step_by(3) {
        match group - g {
            1 => score::<S, 1>(s, part, g, ranges, scale, scores, stride),
            2 => score::<S, 2>(s, part, g, ranges, scale, scores, stride),
            _ => score::<S, 3>(s, part, g, ranges, scale, scores, stride),
        }
    }
    for (scores, stats) in scores.chunks_exact_mut(stride).zip(stats.as_chunks_mut::<2>().0) {
        scores[slots..].fill(f32::NEG_INFINITY);
        *stats = exponentials_any(s, scores).into();
    }
    for g in (0..group).step_by(3) {
        match group - g {
            1 => mix::<S, 1>(s, part, g, ranges, scores, stride, values),
            2 => mix::<S, 2>(s, part, g, ranges, scores, stride, values),
            _ => mix::<S, 3>(s, part, g, ranges, scores, stride, values),
        }
    }
}

/// Scores of query heads `g..g + G` with all slots.
#[inline(always)]
fn score<S: Simd, const G: usize>(
    s: S,
    part: &Part<'_>,
    g: usize,
    ranges: &[Range<usize>; 2],
    scale: f32,
    scores: &mut [f32],
    stride: usize,
) {
    let mut done = 0;
    for range in ranges {
        let mut slot = range.start;
        while slot < range.end {
            // Whole blocks of eight slots, four at a time; lanes outside of the range are computed and dropped.
            let block = slot / LANES;
            let blocks = if range.end > (block + 3) * LANES { 4 } else { 1 };
            let to = range.end.min((block + blocks) * LANES);
            let mut lanes = [[0f32; 4 * LANES]; G];
            if blocks == 4 {
                score_blocks::<S, G, 4>(s, part, g, block, scale, &mut lanes);
            } else {
                score_blocks::<S, G, 1>(s, part, g, block, scale, &mut lanes);
            }
            let from = slot - block * LANES;
            for (i, lanes) in lanes.iter().enumerate() {
                scores[(g + i) * stride + done..][..to - slot].copy_from_slice(&lanes[from..from + to - slot]);
            }
            done += to - slot;
            slot = to;
        }
    }
}

#[inline(always)]
fn score_blocks<S: Simd, const G: usize, const B: usize>(
    s: S,
    part: &Part<'_>,
    g: usize,
    block: usize,
    scale: f32,
    lanes: &mut [[f32; 4 * LANES]; G],
) {
    let size = part.dim * LANES;
    let keys = part.keys[block * size..(block + B) * size].as_ptr();
    let q = part.q[g * part.dim..(g + G) * part.dim].as_ptr();
    let mut acc = [[s.splat(0.0); B]; G];
    for d in 0..part.dim {
        for b in 0..B {
            // SAFETY: block b holds D vectors.
            let k = unsafe { s.load(keys.add(b * size + d * LANES)) };
            for i in 0..G {
                // SAFETY: G heads of D numbers.
                let q = s.splat(unsafe { *q.add(i * part.dim + d) });
                acc[i][b] = s.fma(q, k, acc[i][b]);
            }
        }
    }
    for i in 0..G {
        for b in 0..B {
            // SAFETY: B <= 4.
            unsafe { s.store(lanes[i].as_mut_ptr().add(b * LANES), s.mul(acc[i][b], s.splat(scale))) };
        }
    }
}

/// Weighted values of query heads `g..g + G`: one chain over the slots for every element.
#[inline(always)]
fn mix<S: Simd, const G: usize>(
    s: S,
    part: &Part<'_>,
    g: usize,
    ranges: &[Range<usize>; 2],
    scores: &[f32],
    stride: usize,
    values: &mut [f32],
) {
    let vectors = padded(part.dim) / LANES;
    let mut at = 0;
    while at < vectors {
        if vectors - at >= 4 {
            mix_vectors::<S, G, 4>(s, part, g, ranges, scores, stride, values, at);
            at += 4;
        } else {
            mix_vectors::<S, G, 1>(s, part, g, ranges, scores, stride, values, at);
            at += 1;
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn mix_vectors<S: Simd, const G: usize, const N: usize>(
    s: S,
    part: &Part<'_>,
    g: usize,
    ranges: &[Range<usize>; 2],
    scores: &[f32],
    stride: usize,
    values: &mut [f32],
    at: usize,
) {
    let wide = padded(part.dim);
    let weights = scores[g * stride..(g + G) * stride].as_ptr();
    let mut acc = [[s.splat(0.0); N]; G];
    let mut done = 0;
    for range in ranges {
        let rows = part.values[range.start * wide..range.end * wide].as_ptr();
        for i in 0..range.len() {
            for n in 0..N {
                // SAFETY: row i of the range; `at + N` vectors fit a row.
                let v = unsafe { s.load(rows.add(i * wide + (at + n) * LANES)) };
                for h in 0..G {
                    // SAFETY: `done + i` counts the slots of the piece: below the stride.
                    let w = s.splat(unsafe { *weights.add(h * stride + done + i) });
                    acc[h][n] = s.fma(w, v, acc[h][n]);
                }
            }
        }
        done += range.len();
    }
    for h in 0..G {
        let to = &mut values[(g + h) * wide + at * LANES..][..N * LANES];
        for n in 0..N {
            // SAFETY: N vectors.
            unsafe { s.store(to.as_mut_ptr().add(n * LANES), acc[h][n]) };
        }
    }
}
