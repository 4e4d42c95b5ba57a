//! The routed experts: assignments are grouped by expert, then two parallel regions.
//!
//! 1. For every expert that was chosen, gate and up of all its rows and `silu(gate) * up`, by panels of the inner width.
//! 2. For every panel of outputs, the experts in ascending order: `down` of their rows, weighted and summed. A panel
//!    belongs to one chunk, so the order of the sum is fixed without any locking.
//!
//! An expert's weights are read once, however many rows chose it.

use std::ops::Range;

use super::codes::{self, Input};
use super::matmul::{SMALL, for_tiles};
use super::memory::{Shared, first};
use super::pool::Pool;
use super::route::CpuRouting;
use super::rows::swiglu;
use super::simd::Level;
use super::weight::{CpuWeight, PANEL};
use crate::GROUP;

/// Panels of a chunk: enough for tiles with few rows, few enough to share the work. Depends on the shape alone.
fn block(panels: usize) -> usize {
    panels.div_ceil(8).clamp(1, 4)
}

/// Scratch of [`experts`], kept from step to step.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// For every expert its assignments in `rows` and `weights`; one more at the end.
    starts: Vec<usize>,
    /// Experts that were chosen, ascending.
    active: Vec<usize>,
    rows: Vec<u32>,
    weights: Vec<f32>,
    gate_up: Vec<f32>,
    inner: Vec<f32>,
    sum: Vec<f32>,
    /// The rows, and the inner values, as codes when the weights are.
    x_codes: codes::Scratch,
    inner_codes: codes::Scratch,
}

impl Scratch {
    /// Sorts the assignments of `rows` rows by expert (within an expert by row); null experts are dropped.
    fn group(&mut self, routing: &CpuRouting, rows: usize, experts: usize) -> usize {
        let chosen = &routing.experts[..rows * routing.top_k];
        self.starts.clear();
        self.starts.resize(experts + 1, 0);
        for &e in chosen.iter().filter(|&&e| (e as usize) < experts) {
            self.starts[e as usize + 1] += 1;
        }
        self.active.clear();
        self.active.extend((0..experts).filter(|e| self.starts[e + 1] > 0));
        for e in 0..experts {
            self.starts[e + 1] += self.starts[e];
        }
        let total = self.starts[experts];
        first(&mut self.rows, total);
        first(&mut self.weights, total);
        // `starts[e]` walks to the end of e's part, which is the start of e + 1: shifted back below.
        for (i, &e) in chosen.iter().enumerate().filter(|&(_, &e)| (e as usize) < experts) {
            let at = self.starts[e as usize];
            self.rows[at] = (i / routing.top_k) as u32;
            self.weights[at] = routing.weights[i];
            self.starts[e as usize] += 1;
        }
        self.starts.copy_within(0..experts, 1);
        self.starts[0] = 0;
        total
    }

    fn of(starts: &[usize], e: usize) -> Range<usize> {
        starts[e]..starts[e + 1]
    }
}

/// `dst[r] += sum over chosen e of weight * down[e] @ swiglu(gate_up[e] @ x[r])`. Sizes were checked by the caller.
#[allow(clippy::too_many_arguments)]
pub(crate) fn experts(
    level: Level,
    pool: &Pool,
    scratch: &mut Scratch,
    x: &[f32],
    rows: usize,
    routing: &CpuRouting,
    gate_up: &CpuWeight,
    down: &CpuWeight,
    dst: &mut [f32],
) {
    let (outputs, inner) = down.dims();
    let (_, inputs) = gate_up.dims();
    let total = scratch.group(routing, rows, gate_up.expert_count());
    let Scratch { starts, active, rows: rows_of, weights, gate_up: both, inner: mid, sum, x_codes, inner_codes } =
        scratch;
    let mid = first(mid, total * inner);
    let work = total * inputs * inner * 2;
    let run = |chunks: usize, chunk: &(dyn Fn(usize) + Sync)| {
        if work < SMALL { (0..chunks).for_each(chunk) } else { pool.run(chunks, chunk) }
    };

    // Region 1. Gate and up of one inner panel are two panels of the stack when the inner width is a multiple of 16.
    let input = x_codes.input(level, pool, &gate_up.expert(0), x, rows, inputs);
    let coded = down.expert(0).coded();
    let writer = coded.then(|| inner_codes.writer(total, inner));
    let row_of = |a: usize| rows_of[a] as usize;
    let both = first(both, total * 2 * inner);
    let (both, shared) = (Shared::new(both), Shared::new(mid));
    let panels = inner.div_ceil(PANEL);
    let aligned = inner.is_multiple_of(PANEL);
    let keep = |a: usize, o: usize, values: &[f32]| {
        let n = values.len().min(2 * inner - o);
        // SAFETY: an assignment's outputs belong to one chunk.
        unsafe { both.part(a * 2 * inner + o, n) }.copy_from_slice(&values[..n]);
    };
    let finish = |range: Range<usize>, from: usize, n: usize| {
        for a in range {
            // SAFETY: written by this chunk (or by an earlier region) alone.
            let (gate, up, to) = unsafe {
                let at = a * 2 * inner + from;
                (both.part(at, n), both.part(at + inner, n), shared.part(a * inner + from, n))
            };
            swiglu(level, gate, up, to);
            if let Some(writer) = &writer {
                // SAFETY: as above; `from` is the start of a group.
                unsafe { writer.write(level, a, from, to) };
            }
        }
    };
    let count = if aligned { panels } else { (2 * inner).div_ceil(PANEL) };
    // Whole groups of codes.
    let size = if coded { GROUP / PANEL } else { block(count) };
    let blocks = count.div_ceil(size);
    run(active.len() * blocks, &|c| {
        let (e, p) = (active[c / blocks], c % blocks * size);
        let (w, range, p) = (gate_up.expert(e), Scratch::of(starts, e), p..count.min(p + size));
        for_tiles(level, &w, &input, range.clone(), p.clone(), row_of, keep);
        if aligned {
            for_tiles(level, &w, &input, range.clone(), panels + p.start..panels + p.end, row_of, keep);
            finish(range, p.start * PANEL, p.len() * PANEL);
        }
    });
    if !aligned {
        finish(0..total, 0, inner);
    }

    // Region 2.
    let input =
        if coded { Input::Codes(inner_codes.codes(total, inner)) } else { Input::Floats { x: mid, stride: inner } };
    let panels = outputs.div_ceil(PANEL);
    let (sum, dst) = (Shared::new(first(sum, rows * outputs)), Shared::new(&mut dst[..rows * outputs]));
    let size = block(panels);
    run(panels.div_ceil(size), &|c| {
        let p = c * size..panels.min((c + 1) * size);
        let (from, n) = (p.start * PANEL, (p.len() * PANEL).min(outputs - p.start * PANEL));
        // SAFETY: a chunk touches only its own outputs.
        let (sum, dst) =
            (|row| unsafe { sum.part(row * outputs + from, n) }, |row| unsafe { dst.part(row * outputs + from, n) });
        (0..rows).for_each(|row| sum(row).fill(0.0));
        for &e in active.iter() {
            for_tiles(
                level,
                &down.expert(e),
                &input,
                Scratch::of(starts, e),
                p.clone(),
                |a| a,
                |a, output, values| {
                    let to = &mut sum(rows_of[a] as usize)[output - from..];
                    to.iter_mut().zip(values).for_each(|(s, v)| *s += weights[a] * v);
                },
            );
        }
        for row in 0..rows {
            dst(row).iter_mut().zip(sum(row)).for_each(|(d, s)| *d += *s);
        }
    });
}
