//! Changing the size of pictures: separable, with precomputed weights, each pass a plain loop over rows.

use crate::frame::{Frame, PixelFormat, Rect};

/// How a picture is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Average of the covered source pixels; the right one for making pictures smaller. Enlarging repeats pixels.
    Area,
    /// Linear between neighbours; the right one for enlarging.
    Bilinear,
    /// `Area` along a side that shrinks, `Bilinear` along one that grows.
    Auto,
}

/// For each output sample the first source sample and the weights of the following ones (they sum to 1).
struct Taps {
    first: Vec<usize>,
    /// `width` weights per output sample, the unused ones zero.
    weights: Vec<f32>,
    width: usize,
}

impl Taps {
    fn new(from: usize, to: usize, filter: Filter) -> Taps {
        let linear = filter == Filter::Bilinear || (filter == Filter::Auto && to > from);
        let ratio = from as f64 / to as f64;
        let spans: Vec<(usize, Vec<f32>)> =
            (0..to).map(|i| if linear { linear_taps(i, ratio, from) } else { area_taps(i, ratio, from) }).collect();
        let width = spans.iter().map(|s| s.1.len()).max().unwrap_or(1).min(from);
        let mut taps = Taps { first: Vec::with_capacity(to), weights: Vec::with_capacity(to * width), width };
        for (first, weights) in spans {
            // Spans at the far edge are moved back so that `first + width` stays inside the source.
            let start = first.min(from - width);
            taps.first.push(start);
            let at = taps.weights.len();
            taps.weights.resize(at + width, 0.0);
            for (k, w) in weights.into_iter().enumerate() {
                taps.weights[at + (first - start) + k] += w;
            }
        }
        taps
    }

    fn of(&self, i: usize) -> (usize, &[f32]) {
        (self.first[i], &self.weights[i * self.width..][..self.width])
    }
}

fn linear_taps(i: usize, ratio: f64, from: usize) -> (usize, Vec<f32>) {
    let at = ((i as f64 + 0.5) * ratio - 0.5).clamp(0.0, (from - 1) as f64);
    let first = (at as usize).min(from.saturating_sub(2));
    let t = (at - first as f64) as f32;
    if from == 1 { (0, vec![1.0]) } else { (first, vec![1.0 - t, t]) }
}

fn area_taps(i: usize, ratio: f64, from: usize) -> (usize, Vec<f32>) {
    let (a, b) = (i as f64 * ratio, ((i + 1) as f64 * ratio).min(from as f64));
    let first = (a as usize).min(from - 1);
    let last = ((b - 1e-9).ceil() as usize).clamp(first + 1, from);
    let cover = |s: usize| ((b.min((s + 1) as f64) - a.max(s as f64)).max(0.0) / (b - a)) as f32;
    let mut weights: Vec<f32> = (first..last).map(cover).collect();
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= sum);
    (first, weights)
}

/// Resizes one plane of `channels` interleaved bytes per pixel and appends it to `out`.
fn resize_plane(
    src: &[u8],
    (w, h): (usize, usize),
    (dw, dh): (usize, usize),
    channels: usize,
    filter: Filter,
    out: &mut Vec<u8>,
) {
    if (w, h) == (dw, dh) {
        out.extend_from_slice(src);
        return;
    }
    let (across, down) = (Taps::new(w, dw, filter), Taps::new(h, dh, filter));
    let line = dw * channels;
    // Rows that were already narrowed or widened, as f32; row y lives in slot y % slots.
    let slots = down.width;
    let mut ring = vec![0f32; slots * line];
    let mut done = 0;
    let mut sum = vec![0f32; line];
    for y in 0..dh {
        let (first, weights) = down.of(y);
        for row in done.max(first)..first + weights.len() {
            let target = &mut ring[row % slots * line..][..line];
            across_row(&src[row * w * channels..][..w * channels], channels, &across, target);
        }
        done = done.max(first + weights.len());
        sum.fill(0.5);
        for (k, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            let row = &ring[(first + k) % slots * line..][..line];
            for (s, v) in sum.iter_mut().zip(row) {
                *s += weight * v;
            }
        }
        out.extend(sum.iter().map(|v| *v as u8));
    }
}

fn across_row(src: &[u8], channels: usize, taps: &Taps, out: &mut [f32]) {
    for (i, px) in out.chunks_exact_mut(channels).enumerate() {
        let (first, weights) = taps.of(i);
        px.fill(0.0);
        for (sample, weight) in src[first * channels..].chunks_exact(channels).zip(weights) {
            for (p, s) in px.iter_mut().zip(sample) {
                *p += weight * f32::from(*s);
            }
        }
    }
}

impl Frame {
    /// The picture at `width` x `height` (at least 1); the ratio is not kept, see [`fit`] for that.
    pub fn resize(&self, width: u32, height: u32, filter: Filter) -> Frame {
        let (width, height) = (width.max(1), height.max(1));
        let mut data = Vec::with_capacity(self.format.bytes(width, height));
        for (i, (plane, w, h, channels)) in self.planes().into_iter().enumerate() {
            let half = |v: u32| if i == 0 { v as usize } else { (v as usize).div_ceil(2) };
            resize_plane(plane, (w, h), (half(width), half(height)), channels, filter, &mut data);
        }
        Frame { width, height, format: self.format, data }
    }
}

/// The largest rectangle of the ratio `width : height` in the middle of a `canvas` (width, height).
pub fn fit_rect((width, height): (u32, u32), canvas: (u32, u32)) -> Rect {
    let (w, h) = (u64::from(width.max(1)), u64::from(height.max(1)));
    let (cw, ch) = (u64::from(canvas.0.max(1)), u64::from(canvas.1.max(1)));
    let (fw, fh) = if w * ch >= h * cw {
        (cw, ((h * cw + w / 2) / w).clamp(1, ch))
    } else {
        (((w * ch + h / 2) / h).clamp(1, cw), ch)
    };
    Rect { x: ((cw - fw) / 2) as u32, y: ((ch - fh) / 2) as u32, width: fw as u32, height: fh as u32 }
}

/// The largest rectangle of the ratio of `canvas` in the middle of a picture: what remains of it when it is to cover
/// the canvas without a margin.
pub fn cover_rect(picture: (u32, u32), canvas: (u32, u32)) -> Rect {
    fit_rect(canvas, picture)
}

/// Puts a picture on a `width` x `height` canvas, as large as it fits with its ratio kept, in the middle; its edge
/// pixels are repeated into the margins. Returns the canvas (RGB) and the rectangle that the picture covers.
pub fn fit(picture: &Frame, width: u32, height: u32) -> (Frame, Rect) {
    let rect = fit_rect((picture.width, picture.height), (width, height));
    let small = if picture.format == PixelFormat::Rgb8 {
        picture.resize(rect.width, rect.height, Filter::Auto)
    } else {
        picture.to_rgb8().resize(rect.width, rect.height, Filter::Auto)
    };
    (pad(&small, rect, width.max(1), height.max(1)), rect)
}

/// `picture` (RGB, of the size of `rect`) at `rect` of a larger canvas, edges repeated.
pub(crate) fn pad(picture: &Frame, rect: Rect, width: u32, height: u32) -> Frame {
    let mut data = Vec::with_capacity(PixelFormat::Rgb8.bytes(width, height));
    let (pw, ph) = (picture.width as usize, picture.height as usize);
    for y in 0..height {
        let sy = (y.saturating_sub(rect.y) as usize).min(ph - 1);
        let row = &picture.data[sy * pw * 3..][..pw * 3];
        let right = width as usize - rect.x as usize - pw;
        data.extend(row[..3].iter().cycle().take(rect.x as usize * 3));
        data.extend_from_slice(row);
        data.extend(row[pw * 3 - 3..].iter().cycle().take(right * 3));
    }
    Frame { width, height, format: PixelFormat::Rgb8, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_colour_stays() {
        for format in [PixelFormat::Rgb8, PixelFormat::I420] {
            let frame = Frame::solid(37, 23, format, [12, 130, 250]);
            for (w, h) in [(1, 1), (36, 100), (300, 7), (74, 46)] {
                for filter in [Filter::Area, Filter::Bilinear, Filter::Auto] {
                    assert_eq!(frame.resize(w, h, filter), Frame::solid(w, h, format, [12, 130, 250]), "{w}x{h}");
                }
            }
        }
    }

    #[test]
    fn area_averages_blocks() {
        let data = vec![0, 0, 0, 100, 100, 100, 200, 200, 200, 100, 100, 100];
        let frame = Frame::new(2, 2, PixelFormat::Rgb8, data).unwrap();
        assert_eq!(frame.resize(1, 1, Filter::Area).data, vec![100, 100, 100]);
        assert_eq!(frame.resize(2, 1, Filter::Area).data, vec![100, 100, 100, 100, 100, 100]);
    }

    #[test]
    fn bilinear_doubles_with_quarter_steps() {
        let frame = Frame::new(2, 1, PixelFormat::Rgb8, vec![0, 0, 0, 200, 200, 200]).unwrap();
        let wide = frame.resize(4, 1, Filter::Bilinear);
        assert_eq!(wide.data, vec![0, 0, 0, 50, 50, 50, 150, 150, 150, 200, 200, 200]);
    }

    #[test]
    fn fit_keeps_the_ratio_and_repeats_edges() {
        let mut tall = Frame::solid(90, 160, PixelFormat::Rgb8, [9, 9, 9]);
        for row in tall.data.chunks_exact_mut(90 * 3) {
            row[..3].copy_from_slice(&[255, 0, 0]);
        }
        let (canvas, rect) = fit(&tall, 320, 180);
        assert_eq!((rect.width, rect.height, rect.y), (101, 180, 0));
        assert_eq!((canvas.width, canvas.height), (320, 180));
        assert!(canvas.data[0] > 200 && canvas.data[1] < 30, "left margin repeats the left edge");
        assert_eq!(canvas.data[319 * 3..320 * 3], [9, 9, 9], "right margin repeats the right edge");
        assert_eq!(fit_rect((1920, 1080), (320, 180)), Rect { x: 0, y: 0, width: 320, height: 180 });
        assert_eq!(cover_rect((160, 90), (9, 16)), Rect { x: 54, y: 0, width: 51, height: 90 });
    }
}
