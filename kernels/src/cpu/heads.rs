//! What attention over compressed keys and values needs: a product of each head's own, and layer norms of heads.

use super::codes::Input;
use super::matmul::{SMALL, for_tiles};
use super::memory::Shared;
use super::pool::Pool;
use super::simd::Level;
use super::weight::{CpuWeight, PANEL};

/// Rows of a chunk.
const CHUNK: usize = 96;

/// `out[r, h] = w[h] @ input[r * heads + h]`; sizes were checked by the caller. `out` is given with the numbers from one head to the next.
pub(crate) fn matmul_heads(
    level: Level,
    pool: &Pool,
    w: &CpuWeight,
    input: &Input<'_>,
    rows: usize,
    (out, out_stride): (&mut [f32], usize),
) {
    let (heads, (outputs, inputs)) = (w.expert_count(), w.dims());
    let out = Shared::new(out);
    let row_chunks = rows.div_ceil(CHUNK);
    let chunk = |c: usize| {
        let (head, first) = (c / row_chunks, c % row_chunks * CHUNK);
        let rows = first..rows.min(first + CHUNK);
        let at = |row: usize| row * heads + head;
        for_tiles(level, &w.expert(head), input, rows, 0..outputs.div_ceil(PANEL), at, |row, output, values| {
            let n = values.len().min(outputs - output);
            // SAFETY: a chunk writes only its own rows and head.
            unsafe { out.part((row * heads + head) * out_stride + output, n) }.copy_from_slice(&values[..n]);
        });
    };
    let chunks = heads * row_chunks;
    if rows * heads * inputs * outputs < SMALL {
        (0..chunks).for_each(chunk);
    } else {
        pool.run(chunks, &chunk);
    }
}

/// Layer norm of each vector of `width` numbers of a row, with its own part of weight and bias.
pub(crate) fn layer_norm(row: &mut [f32], weight: &[f32], bias: &[f32], width: usize, eps: f32) {
    let parts = row.chunks_exact_mut(width).zip(weight.chunks_exact(width).zip(bias.chunks_exact(width)));
    for (x, (w, b)) in parts {
        let mean = x.iter().sum::<f32>() / width as f32;
        let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / width as f32;
        let scale = 1.0 / (variance + eps).sqrt();
        for ((v, w), b) in x.iter_mut().zip(w).zip(b) {
            *v = (*v - mean) * scale * w + b;
        }
    }
}
