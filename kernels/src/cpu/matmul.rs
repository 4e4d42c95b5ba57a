//! Matrix products: how rows and panels are cut into chunks and tiles.

use std::ops::Range;

use super::codes::{Codes, Input};
use super::dots;
use super::memory::Shared;
use super::pool::Pool;
use super::simd::Level;
use super::tile::{self, ROWS, TILE, side_by_side, tile};
use super::weight::{Matrix, PANEL};

/// Rows of a chunk: few enough that they stay in the second-level cache while the panels pass.
const CHUNK_ROWS: usize = 96;
/// Panels of a chunk.
const CHUNK_PANELS: usize = 4;
/// Multiply-adds (some 6 microseconds of one core) below which a second thread does not pay: waking it costs about as much.
pub(crate) const SMALL: usize = 1 << 18;

/// Rows of the next tile when `left` are left and a tile has at most `most`: as even as possible (8 rows are 4 + 4), since narrow tiles are slow.
pub(crate) fn tile_rows(left: usize, most: usize) -> usize {
    left.div_ceil(left.div_ceil(most).max(1))
}

/// Calls `done(row, output, values)` for pieces of `input[at(row)] @ w^T`, rows `rows`, panels `panels`: `values` are the
/// products of that row with outputs `output..output + values.len()` (padding of the last panel included). `at` gives the number of an input row.
pub(crate) fn for_tiles(
    level: Level,
    w: &Matrix<'_>,
    input: &Input<'_>,
    rows: Range<usize>,
    panels: Range<usize>,
    at: impl Fn(usize) -> usize,
    done: impl FnMut(usize, usize, &[f32]),
) {
    match input {
        Input::Floats { x, stride } => floats(level, w, x, rows, panels, |row| at(row) * stride, done),
        Input::Codes(x) => codes(level, w, x, rows, panels, at, done),
    }
}

fn floats(
    level: Level,
    w: &Matrix<'_>,
    x: &[f32],
    rows: Range<usize>,
    panels: Range<usize>,
    at: impl Fn(usize) -> usize,
    mut done: impl FnMut(usize, usize, &[f32]),
) {
    let mut out = [0f32; TILE];
    let mut starts = [0usize; ROWS];
    let most = tile::rows(level);
    let mut panel = panels.start;
    while panel < panels.end {
        // All rows pass over these panels before the next ones are read.
        let step = side_by_side(level, tile_rows(rows.len(), most), panels.end - panel);
        let mut row = rows.start;
        while row < rows.end {
            let n = tile_rows(rows.end - row, most);
            (0..n).for_each(|r| starts[r] = at(row + r));
            let side = side_by_side(level, n, step);
            for first in (panel..panel + step).step_by(side) {
                tile(level, w, first, side, x, &starts[..n], &mut out);
                for (r, values) in out.chunks_exact(side * PANEL).take(n).enumerate() {
                    done(row + r, first * PANEL, values);
                }
            }
            row += n;
        }
        panel += step;
    }
}

fn codes(
    level: Level,
    w: &Matrix<'_>,
    x: &Codes<'_>,
    rows: Range<usize>,
    panels: Range<usize>,
    at: impl Fn(usize) -> usize,
    mut done: impl FnMut(usize, usize, &[f32]),
) {
    let mut out = [0f32; dots::TILE];
    let mut starts = [0usize; dots::ROWS];
    for panel in panels.clone().step_by(dots::PANELS) {
        let step = dots::PANELS.min(panels.end - panel);
        let mut row = rows.start;
        while row < rows.end {
            let n = tile_rows(rows.end - row, dots::rows(level));
            (0..n).for_each(|r| starts[r] = at(row + r));
            dots::tile(level, w, panel, step, x, &starts[..n], &mut out);
            for (r, values) in out.chunks_exact(step * PANEL).take(n).enumerate() {
                done(row + r, panel * PANEL, values);
            }
            row += n;
        }
    }
}

/// `out[r, o - from] (+)= input[r] . w[o]` for o in `from..to`.
#[allow(clippy::too_many_arguments)]
pub(crate) fn matmul(
    level: Level,
    pool: &Pool,
    w: &Matrix<'_>,
    input: &Input<'_>,
    rows: usize,
    (from, to): (usize, usize),
    accumulate: bool,
    out: &mut [f32],
) {
    let width = to - from;
    let panels = from / PANEL..to.div_ceil(PANEL);
    let (row_chunks, panel_chunks) = (rows.div_ceil(CHUNK_ROWS), panels.len().div_ceil(CHUNK_PANELS));
    let out = Shared::new(&mut out[..rows * width]);
    let chunk = |c: usize| {
        let (r, p) = (c / panel_chunks * CHUNK_ROWS, panels.start + c % panel_chunks * CHUNK_PANELS);
        let rows = r..rows.min(r + CHUNK_ROWS);
        let panels = p..panels.end.min(p + CHUNK_PANELS);
        for_tiles(
            level,
            w,
            input,
            rows,
            panels,
            |row| row,
            |row, output, values| {
                let (a, b) = (output.max(from), (output + values.len()).min(to));
                // SAFETY: a chunk writes only its own rows and outputs.
                let to = unsafe { out.part(row * width + a - from, b - a) };
                let values = &values[a - output..b - output];
                if accumulate {
                    to.iter_mut().zip(values).for_each(|(o, v)| *o += v);
                } else {
                    to.copy_from_slice(values);
                }
            },
        );
    };
    let chunks = row_chunks * panel_chunks;
    if rows * w.inputs * width < SMALL {
        (0..chunks).for_each(chunk);
    } else {
        pool.run(chunks, &chunk);
    }
}
