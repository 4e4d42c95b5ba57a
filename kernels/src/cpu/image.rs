//! Gathering of patches and sub-pixel shuffling: pure copies, by output rows.

use super::memory::Shared;
use super::pool::Pool;
use crate::Patches;

/// See [`crate::Backend::patches`]. Sizes were checked by the caller.
pub(crate) fn patches(pool: &Pool, x: &[f32], p: Patches, out: &mut [f32]) {
    let (oh, ow) = p.out();
    let width = p.kernel * p.kernel * p.c;
    let out = Shared::new(&mut out[..p.n * oh * ow * width]);
    pool.run(p.n * oh, &|line| {
        let (image, oy) = (line / oh, line % oh);
        for ox in 0..ow {
            // SAFETY: an output row belongs to one chunk.
            let to = unsafe { out.part((line * ow + ox) * width, width) };
            let left = (ox * p.stride) as isize - p.pad as isize;
            // Columns ox..ox + kernel that lie inside of the image.
            let a = (-left).clamp(0, p.kernel as isize) as usize;
            let b = (p.w as isize - left).clamp(a as isize, p.kernel as isize) as usize;
            for (ky, to) in to.chunks_exact_mut(p.kernel * p.c).enumerate() {
                let y = oy * p.stride + ky;
                if y < p.pad || y >= p.pad + p.h || a == b {
                    to.fill(0.0);
                    continue;
                }
                let from = ((image * p.h + y - p.pad) * p.w + (left + a as isize) as usize) * p.c;
                to[..a * p.c].fill(0.0);
                to[a * p.c..b * p.c].copy_from_slice(&x[from..from + (b - a) * p.c]);
                to[b * p.c..].fill(0.0);
            }
        }
    });
}

/// See [`crate::Backend::pixel_shuffle2`]. Sizes were checked by the caller.
pub(crate) fn pixel_shuffle2(pool: &Pool, x: &[f32], lines: usize, w: usize, c: usize, out: &mut [f32]) {
    let out = Shared::new(&mut out[..lines * w * 4 * c]);
    pool.run(lines, &|line| {
        // SAFETY: two output lines belong to one chunk.
        let to = unsafe { out.part(line * 4 * w * c, 4 * w * c) };
        let (top, bottom) = to.split_at_mut(2 * w * c);
        let from = x[line * w * 4 * c..][..w * 4 * c].chunks_exact(4 * c);
        for ((from, top), bottom) in from.zip(top.chunks_exact_mut(2 * c)).zip(bottom.chunks_exact_mut(2 * c)) {
            for (k, v) in from.as_chunks::<4>().0.iter().enumerate() {
                (top[k], top[c + k], bottom[k], bottom[c + k]) = (v[0], v[1], v[2], v[3]);
            }
        }
    });
}
