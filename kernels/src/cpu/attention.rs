//! Attention over a slab whose slots are seen as two ranges.
//!
//! The slots that a row sees are counted from the first slot of its first range. They are cut into pieces of [`PIECE`]
//! by that count (never by the number of threads), each piece has its own maximum, sum and weighted values, and the pieces
//! are put together in order. So a result depends on neither where in the slab a sequence lies nor what else is computed.
//!
//! Neighbouring rows that see the same slots of a piece, though perhaps to different ends (the rows of a block, of a window, of a prompt; variants in their
//! prompt), are one task: keys and values are read once for them and for all query heads of a key head (`attend.rs`).

use std::ops::Range;

use super::attend::{PIECE, QUERIES, Query, Unit, attend_bf16, attend_f32, attend_int8};
use super::kv::{CpuKv, Data, Head, Kept, Shape, Slab};
use super::memory::{Shared, first, with_scratch};
use super::pool::Pool;
use super::rows::exponential;
use super::simd::Level;
use crate::Span;

/// Most numbers of partial results at a time; more rows are worked on in several parts.
const PARTIAL: usize = 4 << 20;

/// Scratch of [`attention`], kept from step to step.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    rows: Vec<Seen>,
    tasks: Vec<Task>,
    partial: Vec<f32>,
}

/// What a row sees: two ranges, the second one not empty; ranges that touch are one.
#[derive(Debug, Clone, Copy)]
struct Seen {
    first: (usize, usize),
    second: (usize, usize),
    /// Pieces of the rows before it.
    start: usize,
}

/// Neighbouring rows that see the same slots of a piece.
#[derive(Debug, Clone, Copy)]
struct Task {
    piece: usize,
    row: usize,
    rows: usize,
}

impl Seen {
    fn new(span: &Span, start: usize) -> Self {
        let range = |(a, b): (u32, u32)| (a as usize, b as usize);
        let (prefix, recent) = (range(span.prefix), range(span.recent));
        let (first, second) = match (prefix.0 < prefix.1, recent.0 < recent.1) {
            (true, true) if prefix.1 == recent.0 => ((0, 0), (prefix.0, recent.1)),
            (true, true) => (prefix, recent),
            (true, false) => ((0, 0), prefix),
            _ => ((0, 0), recent),
        };
        Self { first, second, start }
    }

    fn leading(&self) -> usize {
        self.first.1 - self.first.0
    }

    fn slots(&self) -> usize {
        self.leading() + self.second.1 - self.second.0
    }

    fn pieces(&self) -> usize {
        self.slots().div_ceil(PIECE)
    }

    /// Slots of a piece that are seen.
    fn within(&self, piece: usize) -> usize {
        self.slots().min((piece + 1) * PIECE).saturating_sub(piece * PIECE)
    }

    /// Where a piece lies: the part of the first range, and where its part of the second one begins (0 without one). Rows for which these are equal
    /// see the same slots, as far as they see.
    fn place(&self, piece: usize) -> (usize, usize, usize) {
        let (from, to, p) = (piece * PIECE, (piece + 1) * PIECE, self.leading());
        let second = if to > p { self.second.0 + from.saturating_sub(p) } else { 0 };
        if from < p { (self.first.0 + from, self.first.0 + to.min(p), second) } else { (0, 0, second) }
    }

    /// `slots` slots of a piece.
    fn ranges(&self, piece: usize, slots: usize) -> [Range<usize>; 2] {
        let (a, b, c) = self.place(piece);
        [a..b, c..c + slots - (b - a)]
    }
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
    let shape = kv.shape();
    let row_part = heads * (shape.wide() + 2);
    let mut done = 0;
    while done < spans.len() {
        let Scratch { rows, tasks, partial } = &mut *scratch;
        rows.clear();
        let mut pieces = 0;
        for span in &spans[done..] {
            let row = Seen::new(span, pieces);
            if !rows.is_empty() && (pieces + row.pieces()) * row_part > PARTIAL {
                break;
            }
            pieces += row.pieces();
            rows.push(row);
        }
        find_tasks(rows, (QUERIES * shape.heads / heads).max(1), tasks);
        let width = heads * shape.dim;
        let (some, end) = (done * width, (done + rows.len()) * width);
        let step = Step { level, pool, q: &q[some..end], heads, shape, scale, rows, tasks };
        let partial = first(partial, pieces * row_part);
        match kv.data() {
            Data::F32(slab) => step.pieces(slab, attend_f32, partial),
            Data::Bf16(slab) => step.pieces(slab, attend_bf16, partial),
            Data::Int8(slab) => step.pieces(slab, attend_int8, partial),
        }
        step.combine(partial, &mut out[some..end]);
        done += rows.len();
    }
}

/// Runs of at most `most` rows with the same place in a piece.
fn find_tasks(rows: &[Seen], most: usize, tasks: &mut Vec<Task>) {
    tasks.clear();
    let pieces = rows.iter().map(Seen::pieces).max().unwrap_or(0);
    for piece in 0..pieces {
        let mut place = None;
        for (row, seen) in rows.iter().enumerate() {
            let here = (piece < seen.pieces()).then(|| seen.place(piece));
            match tasks.last_mut() {
                Some(task) if here.is_some() && here == place && task.rows < most => task.rows += 1,
                _ if here.is_some() => tasks.push(Task { piece, row, rows: 1 }),
                _ => {}
            }
            place = here;
        }
    }
}

/// Some rows, and how they are worked on.
struct Step<'a> {
    level: Level,
    pool: &'a Pool,
    /// `[rows, heads, D]`.
    q: &'a [f32],
    heads: usize,
    shape: Shape,
    scale: f32,
    rows: &'a [Seen],
    tasks: &'a [Task],
}

impl Step<'_> {
    fn run(&self, chunks: usize, chunk: &(dyn Fn(usize) + Sync)) {
        let slots: usize = self.rows.iter().map(Seen::slots).sum();
        let work = slots * self.heads * self.shape.dim;
        if work < super::matmul::SMALL { (0..chunks).for_each(chunk) } else { self.pool.run(chunks, chunk) }
    }

    /// Query heads of a key head.
    fn group(&self) -> usize {
        self.heads / self.shape.heads
    }

    /// All pieces of all rows. `partial`: of each row, piece and head D' weighted values, the maximum and the sum.
    fn pieces<T: Kept>(&self, slab: &Slab<T>, attend: fn(Level, &Unit<'_, T>, &mut [f32]), partial: &mut [f32]) {
        let parts = self.group().div_ceil(QUERIES);
        let partial = Shared::new(partial);
        self.run(self.tasks.len() * self.shape.heads * parts, &|unit| {
            let (task, head, part) =
                (self.tasks[unit / parts / self.shape.heads], unit / parts % self.shape.heads, unit % parts);
            let Head { keys, values, scales } = slab.head(self.shape, head);
            let mut queries = [Query { q: std::ptr::null(), seen: 0, to: std::ptr::null_mut() }; QUERIES];
            let queries = self.queries(&task, head, part, partial, &mut queries);
            let farthest = queries.iter().map(|q| q.seen).max().unwrap_or(0);
            let ranges = self.rows[task.row].ranges(task.piece, farthest);
            let unit = Unit { dim: self.shape.dim, keys, values, scales, ranges, scale: self.scale, queries };
            with_scratch(unit.scratch(), |scores| attend(self.level, &unit, scores));
        });
    }

    /// The queries of part `part` of a task's key head.
    fn queries<'q>(
        &self,
        task: &Task,
        head: usize,
        part: usize,
        partial: Shared<'_, f32>,
        queries: &'q mut [Query; QUERIES],
    ) -> &'q [Query] {
        let (group, unit) = (self.group(), self.shape.wide() + 2);
        let heads = part * QUERIES..group.min((part + 1) * QUERIES);
        let mut n = 0;
        for row in task.row..task.row + task.rows {
            let seen = &self.rows[row];
            for h in heads.clone().map(|h| head * group + h) {
                let at = ((seen.start + task.piece) * self.heads + h) * unit;
                // SAFETY: a row, piece and head belongs to one unit.
                let to = unsafe { partial.part(at, unit) }.as_mut_ptr();
                let q = self.q[(row * self.heads + h) * self.shape.dim..][..self.shape.dim].as_ptr();
                queries[n] = Query { q, seen: seen.within(task.piece), to };
                n += 1;
            }
        }
        &queries[..n]
    }

    /// Puts the pieces of every row and head together.
    fn combine(&self, partial: &[f32], out: &mut [f32]) {
        let (wide, dim) = (self.shape.wide(), self.shape.dim);
        let out = Shared::new(out);
        self.run(self.rows.len(), &|row| {
            let seen = &self.rows[row];
            for h in 0..self.heads {
                let part = |piece: usize| &partial[((seen.start + piece) * self.heads + h) * (wide + 2)..][..wide + 2];
                // SAFETY: a row belongs to one chunk.
                let to = unsafe { out.part((row * self.heads + h) * dim, dim) };
                let maximum = |m: f32, x: f32| if m > x { m } else { x };
                let max = (0..seen.pieces()).map(|p| part(p)[wide]).fold(f32::NEG_INFINITY, maximum);
                let mut sum = 0.0;
                to.fill(0.0);
                for part in (0..seen.pieces()).map(part) {
                    let factor = exponential(self.level, part[wide] - max);
                    sum += factor * part[wide + 1];
                    to.iter_mut().zip(part).for_each(|(o, v)| *o += factor * v);
                }
                to.iter_mut().for_each(|o| *o /= sum);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(spans: &[Span], most: usize) -> Vec<(usize, usize, usize)> {
        let mut start = 0;
        let rows: Vec<Seen> = spans
            .iter()
            .map(|span| {
                let seen = Seen::new(span, start);
                start += seen.pieces();
                seen
            })
            .collect();
        let mut tasks = Vec::new();
        find_tasks(&rows, most, &mut tasks);
        tasks.iter().map(|t| (t.piece, t.row, t.rows)).collect()
    }

    #[test]
    fn rows_that_see_the_same_slots_are_one_task() {
        let p = PIECE as u32;
        let causal: Vec<Span> = (0..8).map(|i| Span { prefix: (3, 9), recent: (9, p + i) }).collect();
        // Rows 0 to 3 end within piece 0, the others reach piece 1.
        assert_eq!(tasks(&causal, 64), [(0, 0, 8), (1, 4, 4)]);
        assert_eq!(tasks(&causal, 3), [(0, 0, 3), (0, 3, 3), (0, 6, 2), (1, 4, 3), (1, 7, 1)]);
        // Variants: one prompt, and slots of their own; the prompt is longer than a piece.
        let variants: Vec<Span> =
            (0..2).map(|v| Span { prefix: (0, p + 10), recent: ((v + 2) * p, (v + 2) * p + 50) }).collect();
        assert_eq!(tasks(&variants, 64), [(0, 0, 2), (1, 0, 1), (1, 1, 1)]);
        // Something else between two rows.
        let between = [causal[0], Span { prefix: (0, 0), recent: (1, 2) }, causal[0]];
        assert_eq!(tasks(&between, 64), [(0, 0, 1), (0, 1, 1), (0, 2, 1)]);
    }
}
