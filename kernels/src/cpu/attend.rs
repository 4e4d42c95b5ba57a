//! The innermost part of attention: some queries over one piece of the slots of one key head.
//!
//! Everything is done for tiles of queries, so that a key or a value that was brought from memory and widened to f32 is used by all of a tile. What a query
//! gets does not depend on its tile: a score is one chain of multiply-adds over the elements, a weighted value is one chain over the slots in order, and both
//! are the same with any instructions. Queries of a unit may see the piece to different ends: scores behind a query's own end are dropped, and its
//! weighted values are continued alone from where the first of its tile ends.
#![allow(clippy::needless_range_loop)] // indices of several register arrays at once, as in the formulas

use std::ops::Range;

use super::kv::Kept;
use super::simd::wide_kernel;
use super::tile::Sixteen;
use super::weight::PANEL;

/// Most queries of a unit: their scores of a piece stay in the cache of a core.
pub(crate) const QUERIES: usize = 64;
/// Slots of a piece.
pub(crate) const PIECE: usize = 256;
/// Most blocks of sixteen slots, or of sixteen elements, of a tile.
const BLOCKS: usize = 4;

/// Rows of values that are asked for before they are needed.
const AHEAD: usize = 16;

/// One query of a unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    /// Its D numbers.
    pub q: *const f32,
    /// Slots of the piece that it sees, from the piece's first on; at least one.
    pub seen: usize,
    /// D' weighted values, then the maximum of its scores and the sum of their exponentials.
    pub to: *mut f32,
}

/// Queries that share the slots of a piece of one key head.
pub(crate) struct Unit<'a, T> {
    /// D.
    pub dim: usize,
    /// `[slots / 16][D][16]`.
    pub keys: &'a [T],
    /// `[slots][D']`.
    pub values: &'a [T],
    /// Scales of keys and values by slot, when they are codes.
    pub scales: Option<[&'a [f32]; 2]>,
    /// The slots that the farthest seeing query sees.
    pub ranges: [Range<usize>; 2],
    /// Factor on all scores.
    pub scale: f32,
    /// At most [`QUERIES`]. Their pointers are valid for what they say, and no other thread uses what `to` points to.
    pub queries: &'a [Query],
}

impl<T> Unit<'_, T> {
    /// Slots that are seen.
    pub fn slots(&self) -> usize {
        self.ranges[0].len() + self.ranges[1].len()
    }

    /// Numbers of scratch.
    pub fn scratch(&self) -> usize {
        self.queries.len() * self.slots().next_multiple_of(PANEL)
    }

    /// Numbers of a value as it lies in the slab.
    fn wide(&self) -> usize {
        self.dim.next_multiple_of(PANEL)
    }

    /// Both ranges with the number of their first slot within the piece.
    fn numbered(&self) -> [(usize, Range<usize>); 2] {
        [(0, self.ranges[0].clone()), (self.ranges[0].len(), self.ranges[1].clone())]
    }
}

wide_kernel! {
    /// All queries of a unit; `scores` is [`Unit::scratch`].
    fn attend_f32(unit: &Unit<'_, f32>, scores: &mut [f32]) = attend
}
wide_kernel! {
    /// As [`attend_f32`], over bf16.
    fn attend_bf16(unit: &Unit<'_, u16>, scores: &mut [f32]) = attend
}
wide_kernel! {
    /// As [`attend_f32`], over codes.
    fn attend_int8(unit: &Unit<'_, i8>, scores: &mut [f32]) = attend
}

/// Queries of the next tile when `left` are left: the sums of a tile fill the registers.
#[inline(always)]
fn tile<S: Sixteen>(left: usize) -> usize {
    match left {
        7 | 8 if S::WIDE => 4,
        5 if S::WIDE => 3,
        _ if S::WIDE => left.min(6),
        4 => 2,
        _ => left.min(3),
    }
}

#[inline(always)]
fn attend<S: Sixteen, T: Kept>(s: S, unit: &Unit<'_, T>, scores: &mut [f32]) {
    let (queries, wide) = (unit.queries, unit.wide());
    assert!(queries.len() <= QUERIES && scores.len() >= unit.scratch(), "a unit and its scratch");
    let stride = unit.slots().next_multiple_of(PANEL);
    score(s, unit, scores, stride);
    for (query, scores) in queries.iter().zip(scores.chunks_exact_mut(stride)) {
        let own = &mut scores[..query.seen.next_multiple_of(PANEL)];
        own[query.seen..].fill(f32::NEG_INFINITY);
        let (max, sum) = exponentials(s, own);
        // SAFETY: behind the D' values lie two more numbers.
        unsafe {
            *query.to.add(wide) = max;
            *query.to.add(wide + 1) = sum;
        }
        if let Some([_, scales]) = unit.scales {
            for (first, range) in unit.numbered() {
                scores[first..].iter_mut().zip(&scales[range]).for_each(|(w, s)| *w *= s);
            }
        }
    }
    let mut common = [0; QUERIES];
    let mut j = 0;
    while j < queries.len() {
        let n = tile::<S>(queries.len() - j);
        let least = queries[j..j + n].iter().map(|q| q.seen).min().unwrap_or(0);
        common[j..j + n].fill(least);
        match n {
            1 => mix::<S, T, 1>(s, unit, j, scores, stride, 0..least),
            2 => mix::<S, T, 2>(s, unit, j, scores, stride, 0..least),
            3 => mix::<S, T, 3>(s, unit, j, scores, stride, 0..least),
            4 if S::WIDE => mix::<S, T, 4>(s, unit, j, scores, stride, 0..least),
            _ if S::WIDE => mix::<S, T, 6>(s, unit, j, scores, stride, 0..least),
            _ => unreachable!("a tile of {n} queries"),
        }
        j += n;
    }
    for j in 0..queries.len() {
        if common[j] < queries[j].seen {
            mix::<S, T, 1>(s, unit, j, scores, stride, common[j]..queries[j].seen);
        }
    }
}

/// Replaces x by `e^(x - max)`; returns (max, sum). Whole vectors; the sum is taken in sixteen lanes, counted from the start of `x`.
#[inline(always)]
fn exponentials<S: Sixteen>(s: S, x: &mut [f32]) -> (f32, f32) {
    let whole = x.as_chunks_mut::<PANEL>().0;
    let mut most = s.splat(f32::NEG_INFINITY);
    for v in whole.iter() {
        // SAFETY: 16 numbers.
        most = s.max(unsafe { s.floats(v.as_ptr()) }, most);
    }
    let max = s.lanes(most).into_iter().fold(f32::NEG_INFINITY, |m, x| if m > x { m } else { x });
    let mut sum = s.zeros();
    for v in whole {
        // SAFETY: 16 numbers.
        unsafe {
            let e = s.exp(s.sub(s.floats(v.as_ptr()), s.splat(max)));
            sum = s.add(sum, e);
            s.put(v.as_mut_ptr(), e);
        }
    }
    let mut lanes = s.lanes(sum);
    for half in [8, 4, 2, 1] {
        (0..half).for_each(|i| lanes[i] += lanes[i + half]);
    }
    (max, lanes[0])
}

/// Scores of all queries with all slots: `scores[query * stride + number of the slot]`.
#[inline(always)]
fn score<S: Sixteen, T: Kept>(s: S, unit: &Unit<'_, T>, scores: &mut [f32], stride: usize) {
    let most = if S::WIDE { BLOCKS } else { BLOCKS / 2 };
    for (first, range) in unit.numbered() {
        let mut slot = range.start;
        while slot < range.end {
            // Whole blocks of slots; lanes outside of the range are computed and dropped.
            let block = slot / PANEL;
            let blocks = if range.end > (block + most - 1) * PANEL { most } else { 1 };
            let lanes = slot..range.end.min((block + blocks) * PANEL);
            let number = first + slot - range.start;
            let mut j = 0;
            while j < unit.queries.len() {
                let n = tile::<S>(unit.queries.len() - j);
                let to = &mut scores[j * stride..];
                match n {
                    1 => score_tile::<S, T, 1>(s, unit, j, (block, blocks), &lanes, number, to, stride),
                    2 => score_tile::<S, T, 2>(s, unit, j, (block, blocks), &lanes, number, to, stride),
                    3 => score_tile::<S, T, 3>(s, unit, j, (block, blocks), &lanes, number, to, stride),
                    4 if S::WIDE => score_tile::<S, T, 4>(s, unit, j, (block, blocks), &lanes, number, to, stride),
                    _ if S::WIDE => score_tile::<S, T, 6>(s, unit, j, (block, blocks), &lanes, number, to, stride),
                    _ => unreachable!("a tile of {n} queries"),
                }
                j += n;
            }
            slot = lanes.end;
        }
    }
}

/// Queries `j..j + G` with the slots `lanes` of `blocks` blocks from `block` on, the first of which is number `number` of the piece.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn score_tile<S: Sixteen, T: Kept, const G: usize>(
    s: S,
    unit: &Unit<'_, T>,
    j: usize,
    (block, blocks): (usize, usize),
    lanes: &Range<usize>,
    number: usize,
    to: &mut [f32],
    stride: usize,
) {
    let mut sums = [[s.zeros(); BLOCKS]; G];
    if blocks == 1 {
        score_blocks::<S, T, G, 1>(s, unit, j, block, &mut sums);
    } else if S::WIDE {
        score_blocks::<S, T, G, BLOCKS>(s, unit, j, block, &mut sums);
    } else {
        score_blocks::<S, T, G, { BLOCKS / 2 }>(s, unit, j, block, &mut sums);
    }
    for b in 0..blocks {
        let from = (block + b) * PANEL;
        let some = from.max(lanes.start)..(from + PANEL).min(lanes.end);
        let at = number + some.start - lanes.start;
        for i in 0..G {
            let mut v = s.mul(sums[i][b], s.splat(unit.scale));
            if let Some([scales, _]) = unit.scales {
                // SAFETY: scales are there for whole blocks.
                v = s.mul(v, unsafe { s.floats(scales[from..from + PANEL].as_ptr()) });
            }
            let to = &mut to[i * stride + at..][..some.len()];
            if some.len() == PANEL {
                // SAFETY: 16 numbers.
                unsafe { s.put(to.as_mut_ptr(), v) };
            } else {
                to.copy_from_slice(&s.lanes(v)[some.start - from..some.end - from]);
            }
        }
    }
}

/// One chain over the elements for each query and each slot of B blocks.
#[inline(always)]
fn score_blocks<S: Sixteen, T: Kept, const G: usize, const B: usize>(
    s: S,
    unit: &Unit<'_, T>,
    j: usize,
    block: usize,
    sums: &mut [[S::V; BLOCKS]; G],
) {
    let size = unit.dim * PANEL;
    let keys = unit.keys[block * size..(block + B) * size].as_ptr();
    let q: [*const f32; G] = std::array::from_fn(|i| unit.queries[j + i].q);
    let mut acc = [[s.zeros(); B]; G];
    for d in 0..unit.dim {
        let mut k = [s.zeros(); B];
        for b in 0..B {
            // The keys of the next tile: they come from a far cache or from memory.
            s.ahead(keys.wrapping_add((B + b) * size + d * PANEL));
            // SAFETY: block b holds D vectors.
            k[b] = unsafe { T::load(s, keys.add(b * size + d * PANEL)) };
        }
        for i in 0..G {
            // SAFETY: a query has D numbers.
            let q = unsafe { *q[i].add(d) };
            for b in 0..B {
                acc[i][b] = s.add_product(q, k[b], acc[i][b]);
            }
        }
    }
    for i in 0..G {
        sums[i][..B].copy_from_slice(&acc[i]);
    }
}

/// Adds the values of the slots `numbers` to those of queries `j..j + G`, or begins with them.
#[inline(always)]
fn mix<S: Sixteen, T: Kept, const G: usize>(
    s: S,
    unit: &Unit<'_, T>,
    j: usize,
    scores: &[f32],
    stride: usize,
    numbers: Range<usize>,
) {
    let vectors = unit.wide() / PANEL;
    let weights = &scores[j * stride..(j + G) * stride];
    let mut at = 0;
    while at < vectors {
        match vectors - at {
            BLOCKS.. if S::WIDE => {
                chain::<S, T, G, BLOCKS>(s, unit, j, weights, &numbers, at);
                at += BLOCKS;
            }
            2.. => {
                chain::<S, T, G, 2>(s, unit, j, weights, &numbers, at);
                at += 2;
            }
            _ => {
                chain::<S, T, G, 1>(s, unit, j, weights, &numbers, at);
                at += 1;
            }
        }
    }
}

/// One chain over the slots for each query and each element of vectors `at..at + N`.
#[inline(always)]
fn chain<S: Sixteen, T: Kept, const G: usize, const N: usize>(
    s: S,
    unit: &Unit<'_, T>,
    j: usize,
    weights: &[f32],
    numbers: &Range<usize>,
    at: usize,
) {
    let (wide, stride) = (unit.wide(), weights.len() / G);
    let to: [*mut f32; G] = std::array::from_fn(|i| unit.queries[j + i].to.wrapping_add(at * PANEL));
    let mut acc = [[s.zeros(); N]; G];
    if numbers.start > 0 {
        for i in 0..G {
            for n in 0..N {
                // SAFETY: a query has room for D' numbers.
                acc[i][n] = unsafe { s.floats(to[i].add(n * PANEL)) };
            }
        }
    }
    for (first, range) in unit.numbered() {
        let (from, end) = (numbers.start.max(first), numbers.end.min(first + range.len()));
        if from >= end {
            continue;
        }
        let start = range.start + from - first;
        let rows = unit.values[start * wide..(start + end - from) * wide].as_ptr();
        let weights: [*const f32; G] = std::array::from_fn(|i| weights[i * stride + from..i * stride + end].as_ptr());
        for slot in 0..end - from {
            let mut v = [s.zeros(); N];
            for n in 0..N {
                s.ahead(rows.wrapping_add((slot + AHEAD) * wide + (at + n) * PANEL));
                // SAFETY: a row of the slice just taken; `at + N` vectors fit it.
                v[n] = unsafe { T::load(s, rows.add(slot * wide + (at + n) * PANEL)) };
            }
            for i in 0..G {
                // SAFETY: of the slice just taken.
                let w = unsafe { *weights[i].add(slot) };
                for n in 0..N {
                    acc[i][n] = s.add_product(w, v[n], acc[i][n]);
                }
            }
        }
    }
    for i in 0..G {
        for n in 0..N {
            // SAFETY: as above.
            unsafe { s.put(to[i].add(n * PANEL), acc[i][n]) };
        }
    }
}
