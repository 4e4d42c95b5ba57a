//! The router: logits, scores, choice and weights of each row in one pass.

use super::codes::Input;
use super::matmul::for_tiles;
use super::memory::{Shared, with_scratch};
use super::pool::Pool;
use super::rows::{Function, apply, exponentials};
use super::simd::Level;
use super::weight::{Matrix, PANEL};
use crate::backend::Result;
use crate::{RouterSpec, Scoring, check};

/// Chosen experts of some rows: a routing of [`crate::Cpu`].
#[derive(Debug)]
pub struct CpuRouting {
    pub(crate) rows: usize,
    pub(crate) top_k: usize,
    capacity: usize,
    /// `[rows, top_k]`, in descending order of selection score.
    pub(crate) experts: Vec<u32>,
    /// Their weights.
    pub(crate) weights: Vec<f32>,
}

impl CpuRouting {
    pub(crate) fn new(rows: usize, top_k: usize) -> Self {
        let capacity = rows * top_k;
        Self { rows: 0, top_k, capacity, experts: vec![0; capacity], weights: vec![0.0; capacity] }
    }

    /// One expert for each row, with weight 1.
    pub(crate) fn assign(&mut self, experts: &[u32]) -> Result<()> {
        check::at_least("assign", "the routing", self.capacity, experts.len())?;
        (self.rows, self.top_k) = (experts.len(), 1);
        self.experts[..experts.len()].copy_from_slice(experts);
        self.weights[..experts.len()].fill(1.0);
        Ok(())
    }
}

/// Rows of a chunk.
const CHUNK: usize = 12;

pub(crate) fn route(
    level: Level,
    pool: &Pool,
    input: &Input<'_>,
    rows: usize,
    w: &Matrix<'_>,
    spec: &RouterSpec,
    out: &mut CpuRouting,
) -> Result<()> {
    check::router(spec, w.out)?;
    let k = spec.top_k;
    check::at_least("route", "the routing", out.capacity, rows * k)?;
    (out.rows, out.top_k) = (rows, k);
    let (experts, weights) = (Shared::new(&mut out.experts), Shared::new(&mut out.weights));
    let chunk = |c: usize| {
        let rows = c * CHUNK..rows.min((c + 1) * CHUNK);
        let first = rows.start;
        let padded = w.out.div_ceil(PANEL) * PANEL;
        with_scratch(rows.len() * padded + k + spec.groups, |scratch| {
            let (logits, rest) = scratch.split_at_mut(rows.len() * padded);
            let (best, groups) = rest.split_at_mut(k);
            for_tiles(
                level,
                w,
                input,
                rows.clone(),
                0..padded / PANEL,
                |r| r,
                |r, o, values| {
                    let at = (r - first) * padded + o;
                    logits[at..at + values.len()].copy_from_slice(values);
                },
            );
            for (r, logits) in rows.zip(logits.chunks_exact_mut(padded)) {
                score(level, &mut logits[..], w.out, spec.scoring);
                // SAFETY: a row belongs to one chunk.
                let (experts, weights) = unsafe { (experts.part(r * k, k), weights.part(r * k, k)) };
                choose(&logits[..w.out], spec, best, groups, experts, weights);
            }
        });
    };
    let chunks = rows.div_ceil(CHUNK);
    if rows * w.out * w.inputs < super::matmul::SMALL {
        (0..chunks).for_each(chunk);
    } else {
        pool.run(chunks, &chunk);
    }
    Ok(())
}

/// Logits of `n` outputs (and padding) to scores.
fn score(level: Level, logits: &mut [f32], n: usize, scoring: Scoring) {
    match scoring {
        Scoring::Sigmoid => apply(level, Function::Sigmoid, logits),
        Scoring::Softmax => {
            logits[n..].fill(f32::NEG_INFINITY);
            let (_, sum) = exponentials(level, logits);
            logits.iter_mut().for_each(|x| *x /= sum);
        }
    }
}

/// The `top_k` largest selection scores by insertion; a later equal never passes an earlier one.
fn choose(
    scores: &[f32],
    spec: &RouterSpec,
    best: &mut [f32],
    groups: &mut [f32],
    experts: &mut [u32],
    weights: &mut [f32],
) {
    let k = experts.len();
    let selection = |i: usize| scores[i] + spec.selection_bias.get(i).copied().unwrap_or(0.0);
    let open = check::open_groups(spec, selection, groups);
    for (seen, i) in (0..scores.len()).filter(|i| open(*i)).enumerate() {
        let selection = selection(i);
        let have = seen.min(k);
        let place = best[..have].partition_point(|b| b.total_cmp(&selection).is_ge());
        if place < k {
            let last = have.min(k - 1);
            best.copy_within(place..last, place + 1);
            experts.copy_within(place..last, place + 1);
            (best[place], experts[place]) = (selection, i as u32);
        }
    }
    let sum = experts.iter().map(|&e| scores[e as usize]).sum::<f32>() + 1e-20;
    let norm = if spec.normalise { sum } else { 1.0 };
    for (w, &e) in weights.iter_mut().zip(experts.iter()) {
        *w = scores[e as usize] / norm * spec.scale;
    }
}
