//! Operations in which each row, group or number is for itself: how they are cut into chunks. Sizes were checked by the caller; a chunk writes only its
//! own part of the output.

use super::memory::Shared;
use super::weight::Matrix;
use super::{Cpu, heads, rows};
use crate::{Activation, RopeSpec, Rotation, check};

/// Sums of the table's rows: `codes` ids for each group of `out`.
pub(super) fn embed(cpu: &Cpu, table: &Matrix<'_>, ids: &[u32], codes: usize, out: &mut [f32]) {
    let width = table.inputs;
    let out = Shared::new(out);
    cpu.split(ids.len() / codes, codes * width, |from, to| {
        for g in from..to {
            // SAFETY: a group belongs to one chunk.
            let row = unsafe { out.part(g * width, width) };
            row.fill(0.0);
            let known = ids[g * codes..(g + 1) * codes].iter().filter(|&&id| id != u32::MAX);
            known.for_each(|&id| table.add_row(id as usize, row));
        }
    });
}

/// RMS norm of vectors as long as `weight`.
pub(super) fn rms_norm(cpu: &Cpu, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let n = weight.len();
    let count = x.len() / n.max(1);
    let out = Shared::new(out);
    cpu.split(count, n, |from, to| {
        for r in from..to {
            // SAFETY: a row belongs to one chunk.
            let out = unsafe { out.part(r * n, n) };
            rows::rms_norm(cpu.level, x[r * n..(r + 1) * n].as_ptr(), weight, eps, out.as_mut_ptr());
        }
    });
}

/// The same in place.
pub(super) fn rms_norm_in_place(cpu: &Cpu, x: &mut [f32], weight: &[f32], eps: f32) {
    let n = weight.len();
    let count = x.len() / n.max(1);
    let x = Shared::new(x);
    cpu.split(count, n, |from, to| {
        for r in from..to {
            // SAFETY: a row belongs to one chunk.
            let row = unsafe { x.part(r * n, n) }.as_mut_ptr();
            rows::rms_norm(cpu.level, row, weight, eps, row);
        }
    });
}

/// Layer norm in place of vectors of `width` numbers; a row has as many numbers as `weight`.
pub(super) fn layer_norm(cpu: &Cpu, x: &mut [f32], weight: &[f32], bias: &[f32], width: usize, eps: f32) {
    let n = weight.len();
    let count = x.len() / n.max(1);
    let x = Shared::new(x);
    cpu.split(count, 2 * n, |from, to| {
        // SAFETY: a row belongs to one chunk.
        let part = unsafe { x.part(from * n, (to - from) * n) };
        for row in part.chunks_exact_mut(n) {
            heads::layer_norm(row, weight, bias, width, eps);
        }
    });
}

/// Adds `bias` to each row of its length.
pub(super) fn add_bias(cpu: &Cpu, dst: &mut [f32], bias: &[f32]) {
    let n = bias.len();
    let count = dst.len() / n.max(1);
    let dst = Shared::new(dst);
    cpu.split(count, n, |from, to| {
        // SAFETY: a row belongs to one chunk.
        let part = unsafe { dst.part(from * n, (to - from) * n) };
        for row in part.chunks_exact_mut(n.max(1)) {
            row.iter_mut().zip(bias).for_each(|(d, b)| *d += b);
        }
    });
}

/// Adds number by number.
pub(super) fn add(cpu: &Cpu, dst: &mut [f32], src: &[f32]) {
    let len = dst.len();
    let dst = Shared::new(dst);
    cpu.split(len, 1, |from, to| {
        // SAFETY: a number belongs to one chunk.
        let part = unsafe { dst.part(from, to - from) };
        part.iter_mut().zip(&src[from..to]).for_each(|(d, s)| *d += s);
    });
}

/// Applies a function to every number; the limit of [`Activation::Clip`] was checked.
pub(super) fn activate(cpu: &Cpu, f: Activation, x: &mut [f32]) {
    let len = x.len();
    let x = Shared::new(x);
    cpu.split(len, 1, |from, to| {
        // SAFETY: a number belongs to one chunk.
        let part = unsafe { x.part(from, to - from) };
        match f {
            Activation::Silu => rows::apply(cpu.level, rows::Function::Silu, part),
            Activation::Tanh => rows::apply(cpu.level, rows::Function::Tanh, part),
            Activation::Gelu => part.iter_mut().for_each(|v| *v = check::gelu(*v)),
            Activation::Clip(limit) => part.iter_mut().for_each(|v| *v = v.clamp(-limit, limit)),
        }
    });
}

/// `silu(gate) * up` of rows `[gate | up]`.
pub(super) fn swiglu(cpu: &Cpu, both: &[f32], inner: usize, out: &mut [f32]) {
    let count = out.len() / inner.max(1);
    let out = Shared::new(out);
    cpu.split(count, inner, |from, to| {
        for r in from..to {
            let (gate, up) = both[r * 2 * inner..(r + 1) * 2 * inner].split_at(inner);
            // SAFETY: a row belongs to one chunk.
            rows::swiglu(cpu.level, gate, up, unsafe { out.part(r * inner, inner) });
        }
    });
}

/// Cosines and sines of positions.
pub(super) fn rope_angles(cpu: &Cpu, spec: &RopeSpec, positions: &[[f32; 3]], out: &mut [f32]) {
    let width = 2 * spec.inv_freq.len();
    let out = Shared::new(out);
    // A sine costs as much as some tens of simple operations.
    cpu.split(positions.len(), 16 * width, |from, to| {
        for (r, position) in (from..to).zip(&positions[from..to]) {
            // SAFETY: a row belongs to one chunk.
            check::angles(spec, position, unsafe { out.part(r * width, width) });
        }
    });
}

/// Rotates rows of `heads` heads by the angles of their rows.
pub(super) fn rope(cpu: &Cpu, spec: &RopeSpec, angles: &[f32], heads: usize, x: &mut [f32]) {
    let half = spec.inv_freq.len();
    let width = 2 * half;
    let count = angles.len() / width.max(1);
    let x = Shared::new(x);
    cpu.split(count, heads * width, |from, to| {
        for r in from..to {
            let (cos, sin) = angles[r * width..(r + 1) * width].split_at(half);
            for h in 0..heads {
                // SAFETY: a row belongs to one chunk.
                let head = unsafe { x.part((r * heads + h) * width, width) };
                match spec.rotation {
                    Rotation::Half => rows::rotate_halves(cpu.level, head, cos, sin),
                    Rotation::Interleaved => rows::rotate_interleaved(head, cos, sin),
                }
            }
        }
    });
}
