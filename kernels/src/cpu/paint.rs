//! The painting head: K layers of colour, blended by a softmax of masks, straight to pixels.
//!
//! A 720p frame has 0.9 million pixels and each needs 4 K upsampled numbers, K exponentials and a colour conversion; written
//! as separate operations that moves hundreds of megabytes. Here one pass does it, two lines at a time (4:2:0 chroma needs
//! two), and nothing larger than a few lines is kept:
//!
//! 1. once per frame: masks (times the sharpness) and colours are transposed to planes, a few kilobytes each;
//! 2. once per line: the two grid lines above and below are mixed into one low-resolution line per plane, with the differences of
//!    neighbours beside it;
//! 3. for eight pixels at once: horizontally, a pixel is `line[a] + t * difference[a]`. The taps a and t do not depend on the
//!    line and are kept; eight neighbouring pixels need few grid samples, so a permutation of one loaded vector is the gather.
//!
//! Source of the colour conversion: ITU-R BT.709, limited range; the chroma of a 2x2 square is that of its mean colour.

use super::memory::{Shared, first, with_scratch};
use super::pool::Pool;
use super::simd::{LANES, Level, Simd, kernel};
use crate::check::{Tap, tap};
use crate::{Canvas, Target};

/// Pairs of lines in a chunk.
const CHUNK: usize = 8;
/// Floats behind a low-resolution line: a vector may be loaded at its last sample.
const SLACK: usize = LANES;

/// Horizontal taps of eight neighbouring pixels.
#[derive(Debug, Clone, Copy)]
struct Taps {
    /// First sample that is loaded.
    base: u32,
    /// Left sample of each pixel, counted from `base`.
    at: [u32; LANES],
    /// Share of the right sample.
    t: [f32; LANES],
}

/// Taps and planes of a canvas, kept from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    canvas: Option<Canvas>,
    mask_taps: Vec<Taps>,
    colour_taps: Vec<Taps>,
    planes: Vec<f32>,
}

fn taps(canvas: &Canvas, from: usize) -> Vec<Taps> {
    let w = canvas.size.1;
    let one = |v: usize| {
        let taps: [Tap; LANES] = std::array::from_fn(|i| tap((v * LANES + i).min(w - 1), from, canvas.full.1));
        let base = taps[0].a;
        Taps { base: base as u32, at: taps.map(|x| (x.a - base) as u32), t: taps.map(|x| x.t) }
    };
    (0..w.div_ceil(LANES)).map(one).collect()
}

/// Low-resolution planes `[K or 3 K, h, w]` and the taps that stretch them.
#[derive(Clone, Copy)]
struct Planes<'a> {
    values: &'a [f32],
    count: usize,
    h: usize,
    w: usize,
    taps: &'a [Taps],
}

impl Planes<'_> {
    fn stride(&self) -> usize {
        self.w + SLACK
    }

    /// Numbers of a line of all planes: values, then differences.
    fn line_len(&self) -> usize {
        self.count * 2 * self.stride()
    }
}

/// What `line` works with.
pub(crate) struct Job<'a> {
    canvas: Canvas,
    masks: Planes<'a>,
    colours: Planes<'a>,
}

/// See [`crate::Backend::paint`]; `masks` and `colours` begin where the frame begins. Sizes were checked by the caller.
pub(crate) fn paint(
    level: Level,
    pool: &Pool,
    scratch: &mut Scratch,
    masks: &[f32],
    colours: &[f32],
    canvas: Canvas,
    target: Target<'_>,
) {
    let ((h, w), k) = (canvas.grid, canvas.layers);
    if scratch.canvas != Some(canvas) {
        scratch.mask_taps = taps(&canvas, 2 * w);
        scratch.colour_taps = taps(&canvas, w);
        scratch.canvas = Some(canvas);
    }
    let (mask_len, colour_len) = (4 * h * w * k, 3 * h * w * k);
    let (mask_planes, colour_planes) = first(&mut scratch.planes, mask_len + colour_len).split_at_mut(mask_len);
    {
        let (m, c) = (Shared::new(mask_planes), Shared::new(colour_planes));
        pool.run(2 * h + h, &|line| match line.checked_sub(2 * h) {
            None => transpose(masks, line, 2 * h, 2 * w, k, canvas.scale, m),
            Some(line) => transpose(colours, line, h, w, 3 * k, 1.0, c),
        });
    }
    let job = Job {
        canvas,
        masks: Planes { values: mask_planes, count: k, h: 2 * h, w: 2 * w, taps: &scratch.mask_taps },
        colours: Planes { values: colour_planes, count: 3 * k, h, w, taps: &scratch.colour_taps },
    };
    let out = Output::new(target);
    let pairs = canvas.size.0.div_ceil(2);
    pool.run(pairs.div_ceil(CHUNK), &|c| {
        for pair in c * CHUNK..pairs.min((c + 1) * CHUNK) {
            job.pair(level, pair, &out);
        }
    });
}

/// Line `y` of `[h, w, count]` to `count` planes `[h, w]`, times `factor`.
fn transpose(from: &[f32], y: usize, h: usize, w: usize, count: usize, factor: f32, to: Shared<'_, f32>) {
    let from = &from[y * w * count..(y + 1) * w * count];
    for plane in 0..count {
        // SAFETY: a line belongs to one chunk.
        let to = unsafe { to.part((plane * h + y) * w, w) };
        to.iter_mut().zip(from.iter().skip(plane).step_by(count)).for_each(|(t, f)| *t = f * factor);
    }
}

/// The target's planes, shared by the chunks.
enum Output<'a> {
    Rgb(Shared<'a, f32>),
    I420([Shared<'a, u8>; 3]),
}

impl<'a> Output<'a> {
    fn new(target: Target<'a>) -> Self {
        match target {
            Target::Rgb(out) => Self::Rgb(Shared::new(out)),
            Target::I420(y, u, v) => Self::I420([Shared::new(y), Shared::new(u), Shared::new(v)]),
        }
    }
}

impl Job<'_> {
    /// Paints lines `2 pair` and `2 pair + 1`.
    fn pair(&self, level: Level, pair: usize, out: &Output<'_>) {
        let (h, w) = self.canvas.size;
        let wide = w.next_multiple_of(2 * LANES);
        let low = self.masks.line_len() + self.colours.line_len();
        // Two lines of red, green and blue; one low-resolution line; the logits of eight pixels.
        with_scratch(6 * wide + low + self.canvas.layers * LANES, |scratch| {
            let (rgb, scratch) = scratch.split_at_mut(6 * wide);
            let (low, logits) = scratch.split_at_mut(low);
            let (top, bottom) = rgb.split_at_mut(3 * wide);
            for (y, rgb) in [(2 * pair, &mut *top), (2 * pair + 1, &mut *bottom)] {
                if y < h {
                    line(level, self, y, wide, low, logits, rgb);
                }
            }
            match out {
                Output::Rgb(out) => {
                    for (y, rgb) in [(2 * pair, top), (2 * pair + 1, bottom)].into_iter().filter(|(y, _)| *y < h) {
                        for (c, from) in rgb.chunks_exact(wide).enumerate() {
                            // SAFETY: a pair of lines belongs to one chunk.
                            unsafe { out.part((c * h + y) * w, w) }.copy_from_slice(&from[..w]);
                        }
                    }
                }
                Output::I420([y, u, v]) => {
                    // SAFETY: a pair of lines belongs to one chunk.
                    let (y, u, v) = unsafe {
                        (y.part(2 * pair * w, 2 * w), u.part(pair * w / 2, w / 2), v.part(pair * w / 2, w / 2))
                    };
                    convert(level, top, bottom, wide, y, u, v);
                }
            }
        });
    }
}

kernel! {
    /// One line of pixels: red, green and blue in 0..1, `wide` numbers each, to `rgb`.
    fn line(job: &Job<'_>, y: usize, wide: usize, low: &mut [f32], logits: &mut [f32], rgb: &mut [f32]) = line_any
}

#[inline(always)]
fn line_any<S: Simd>(s: S, job: &Job<'_>, y: usize, wide: usize, low: &mut [f32], logits: &mut [f32], rgb: &mut [f32]) {
    let full = job.canvas.full;
    let (masks, colours) = low.split_at_mut(job.masks.line_len());
    squeeze(s, &job.masks, tap(y, job.masks.h, full.0), masks);
    squeeze(s, &job.colours, tap(y, job.colours.h, full.0), colours);
    match job.canvas.layers {
        2 => blend::<S, 2>(s, job, masks, colours, wide, logits, rgb),
        3 => blend::<S, 3>(s, job, masks, colours, wide, logits, rgb),
        4 => blend::<S, 4>(s, job, masks, colours, wide, logits, rgb),
        _ => blend::<S, 0>(s, job, masks, colours, wide, logits, rgb),
    }
}

/// Mixes two grid lines of every plane into one, with the differences of neighbours after it.
#[inline(always)]
fn squeeze<S: Simd>(s: S, planes: &Planes<'_>, tap: Tap, low: &mut [f32]) {
    let (w, stride) = (planes.w, planes.stride());
    for (p, low) in low.chunks_exact_mut(2 * stride).enumerate() {
        let line = |y: usize| &planes.values[(p * planes.h + y) * w..][..w];
        let (a, b) = (line(tap.a), line(tap.b));
        let (values, differences) = low.split_at_mut(stride);
        let whole = w / LANES * LANES;
        for x in (0..whole).step_by(LANES) {
            // SAFETY: x + 8 <= w.
            unsafe {
                let va = s.load(a.as_ptr().add(x));
                let d = s.sub(s.load(b.as_ptr().add(x)), va);
                s.store(values.as_mut_ptr().add(x), s.fma(s.splat(tap.t), d, va));
            }
        }
        for x in whole..w {
            values[x] = tap.t.mul_add(b[x] - a[x], a[x]);
        }
        // Behind the last sample the line goes on as it is: differences are zero there.
        let last = values[w - 1];
        values[w..].fill(last);
        for x in (0..w).step_by(LANES) {
            // SAFETY: x + 9 <= w + 8, the length of both.
            unsafe {
                let d = s.sub(s.load(values.as_ptr().add(x + 1)), s.load(values.as_ptr().add(x)));
                s.store(differences.as_mut_ptr().add(x), d);
            }
        }
        differences[w..].fill(0.0);
    }
}

/// One plane of a low-resolution line at eight pixels.
///
/// # Safety
/// `line` begins `2 stride` numbers: values and differences; the taps are this plane's.
#[inline(always)]
unsafe fn stretch<S: Simd>(s: S, line: *const f32, stride: usize, taps: &Taps) -> S::V {
    // SAFETY: base + 8 <= w + 8 = stride; indices beyond a vector take the slow path.
    unsafe {
        let at = line.add(taps.base as usize);
        if taps.at[LANES - 1] < LANES as u32 {
            let (v, d) = (s.look_up(at, &taps.at), s.look_up(at.add(stride), &taps.at));
            return s.fma(s.load(taps.t.as_ptr()), d, v);
        }
        // Shrinking: the eight pixels lie further apart than eight samples.
        let (mut v, mut d) = ([0f32; LANES], [0f32; LANES]);
        for (i, &a) in taps.at.iter().enumerate() {
            (v[i], d[i]) = (*at.add(a as usize), *at.add(stride + a as usize));
        }
        s.fma(s.load(taps.t.as_ptr()), s.load(d.as_ptr()), s.load(v.as_ptr()))
    }
}

/// Softmax over the layers and the blend of their colours, eight pixels at a time. K = 0: any number of layers.
#[inline(always)]
fn blend<S: Simd, const K: usize>(
    s: S,
    job: &Job<'_>,
    masks: &[f32],
    colours: &[f32],
    wide: usize,
    logits: &mut [f32],
    rgb: &mut [f32],
) {
    let k = if K > 0 { K } else { job.canvas.layers };
    let (ms, cs) = (job.masks.stride(), job.colours.stride());
    assert!(masks.len() >= 2 * k * ms && colours.len() >= 6 * k * cs && logits.len() >= k * LANES);
    assert!(job.masks.taps.len() * LANES <= wide && rgb.len() >= 3 * wide);
    let logits = logits.as_mut_ptr();
    let (zero, one, half) = (s.splat(0.0), s.splat(1.0), s.splat(0.5));
    for (x, (mt, ct)) in job.masks.taps.iter().zip(job.colours.taps).enumerate() {
        // SAFETY: the lengths were asserted above.
        unsafe {
            let mut max = s.splat(f32::NEG_INFINITY);
            for layer in 0..k {
                let v = stretch(s, masks.as_ptr().add(2 * layer * ms), ms, mt);
                s.store(logits.add(layer * LANES), v);
                max = s.max(v, max);
            }
            let (mut sum, mut acc) = (zero, [zero; 3]);
            for layer in 0..k {
                let weight = s.exp(s.sub(s.load(logits.add(layer * LANES)), max));
                sum = s.add(sum, weight);
                for (c, acc) in acc.iter_mut().enumerate() {
                    let v = stretch(s, colours.as_ptr().add(2 * (3 * layer + c) * cs), cs, ct);
                    *acc = s.fma(weight, v, *acc);
                }
            }
            let inverse = s.div(one, sum);
            for (c, acc) in acc.into_iter().enumerate() {
                let v = s.min(one, s.max(zero, s.fma(acc, inverse, half)));
                s.store(rgb.as_mut_ptr().add(c * wide + x * LANES), v);
            }
        }
    }
}

/// Weights of red, green and blue in luma.
const LUMA: [f32; 3] = [0.2126, 0.7152, 0.0722];

kernel! {
    /// Two lines of RGB to two lines of luma and one of each chroma.
    fn convert(top: &[f32], bottom: &[f32], wide: usize, y: &mut [u8], u: &mut [u8], v: &mut [u8]) = convert_any
}

#[inline(always)]
fn convert_any<S: Simd>(s: S, top: &[f32], bottom: &[f32], wide: usize, y: &mut [u8], u: &mut [u8], v: &mut [u8]) {
    let w = y.len() / 2;
    assert!(top.len() >= 3 * wide && bottom.len() >= 3 * wide && wide.is_multiple_of(2 * LANES) && w <= wide);
    let (y_top, y_bottom) = y.split_at_mut(w);
    for (from, y) in [(top, y_top), (bottom, y_bottom)] {
        for x in (0..w).step_by(LANES) {
            // SAFETY: x + 8 <= wide.
            let v = luma(s, unsafe { pixels(s, from, wide, x) });
            put_bytes(s, s.fma(v, s.splat(219.0), s.splat(16.5)), y, x);
        }
    }
    for x in (0..w).step_by(2 * LANES) {
        // SAFETY: x + 16 <= wide.
        let (left, right) = unsafe { (column(s, top, bottom, wide, x), column(s, top, bottom, wide, x + LANES)) };
        let mut mean = left;
        for c in 0..3 {
            mean[c] = s.mul(s.pairs(left[c], right[c]), s.splat(0.25));
        }
        let y = luma(s, mean);
        put_bytes(s, chroma(s, mean[2], y, 1.8556), u, x / 2);
        put_bytes(s, chroma(s, mean[0], y, 1.5748), v, x / 2);
    }
}

/// Red, green and blue of eight pixels.
///
/// # Safety
/// `line` holds `3 wide` numbers, and x + 8 <= wide.
#[inline(always)]
unsafe fn pixels<S: Simd>(s: S, line: &[f32], wide: usize, x: usize) -> [S::V; 3] {
    let p = line.as_ptr();
    // SAFETY: the caller's promise.
    unsafe { [s.load(p.add(x)), s.load(p.add(wide + x)), s.load(p.add(2 * wide + x))] }
}

/// Sums of the pixels of two lines.
///
/// # Safety
/// As for [`pixels`], of both lines.
#[inline(always)]
unsafe fn column<S: Simd>(s: S, top: &[f32], bottom: &[f32], wide: usize, x: usize) -> [S::V; 3] {
    // SAFETY: the caller's promise.
    let (a, b) = unsafe { (pixels(s, top, wide, x), pixels(s, bottom, wide, x)) };
    [s.add(a[0], b[0]), s.add(a[1], b[1]), s.add(a[2], b[2])]
}

#[inline(always)]
fn luma<S: Simd>(s: S, rgb: [S::V; 3]) -> S::V {
    let sum = s.mul(rgb[2], s.splat(LUMA[2]));
    s.fma(rgb[0], s.splat(LUMA[0]), s.fma(rgb[1], s.splat(LUMA[1]), sum))
}

/// A colour difference whose full range is `range`, as a byte to be cut.
#[inline(always)]
fn chroma<S: Simd>(s: S, colour: S::V, luma: S::V, range: f32) -> S::V {
    s.fma(s.sub(colour, luma), s.splat(224.0 / range), s.splat(128.5))
}

/// Eight bytes to `to[x..]`, fewer at the end.
#[inline(always)]
fn put_bytes<S: Simd>(s: S, v: S::V, to: &mut [u8], x: usize) {
    if x + LANES <= to.len() {
        // SAFETY: just checked.
        unsafe { s.store_u8(to.as_mut_ptr().add(x), v) };
        return;
    }
    let mut bytes = [0u8; LANES];
    // SAFETY: 8 bytes.
    unsafe { s.store_u8(bytes.as_mut_ptr(), v) };
    let n = to.len() - x;
    to[x..].copy_from_slice(&bytes[..n]);
}
