//! What a frame shows: background, object, colour, outline.

use std::f32::consts::TAU;

use super::picture::{Mask, Picture, median, percentile};
use super::world::{self, BACKGROUNDS, COLORS, LINES, SYMMETRY};

/// Side of the square that outlines are compared in.
const TEMPLATE: usize = 48;
/// How much the corners of templates are rounded (standard deviation of a blur, in radii): a star with soft corners is nearer to the sharp disc than to the sharp
/// star, and still a star to every eye. On drawn shapes blurred by a fifth of their radius, with noise, sharp templates name 64 % rightly and these 97 %; rounder
/// ones begin to take balls for other things.
const ROUNDING: [f32; 3] = [0.0, 0.1, 0.2];
/// Bands of a picture whose median colours tell the background.
const BANDS: usize = 12;

/// Empty backgrounds of one size and the outlines of all shapes.
pub struct Looks {
    empty: Vec<Picture>,
    templates: Vec<Template>,
}

struct Template {
    shape: usize,
    upright: bool,
    outline: Outline,
}

/// A mask cut to its box and stretched to a square, and the box's ratio.
struct Outline {
    square: Mask,
    ratio: f32,
}

impl Looks {
    /// For pictures of this size.
    pub fn new(width: usize, height: usize) -> Self {
        let empty = (0..BACKGROUNDS.len()).map(|b| world::draw(b, None, width, height, LINES)).collect();
        Self { empty, templates: templates() }
    }

    /// The nearest background, by the median colours of horizontal bands over a few frames.
    pub fn background(&self, frames: &[Picture]) -> usize {
        let step = (frames.len() / 3).max(1);
        let seen: Vec<_> = frames.iter().step_by(step).map(bands).collect();
        let usual: Vec<f32> = (0..3 * BANDS).map(|i| median(seen.iter().map(|s| s[i]).collect())).collect();
        let far = |empty: &Picture| bands(empty).iter().zip(&usual).map(|(a, b)| (a - b).abs()).sum::<f32>();
        let distances: Vec<f32> = self.empty.iter().map(far).collect();
        (0..distances.len()).min_by(|a, b| distances[*a].total_cmp(&distances[*b])).unwrap_or_default()
    }

    /// Connected areas that differ from the empty background, largest first, at most four.
    pub fn blobs(&self, frame: &Picture, background: usize) -> Vec<Mask> {
        let differs = frame.difference(&self.empty[background]);
        let bits = differs.into_iter().map(|d| d > 0.18).collect();
        let opened = Mask { width: frame.width, height: frame.height, bits }.erode(2).dilate(2);
        opened.parts().into_iter().filter(|m| m.count() > 150).take(4).collect()
    }

    /// The object's outline where it is half as different from the background as its middle is.
    pub fn outline(&self, frame: &Picture, mask: &Mask, background: usize) -> Mask {
        let total = |(a, b): (&[f32; 3], &[f32; 3])| (0..3).map(|i| (a[i] - b[i]).abs()).sum::<f32>();
        let differs: Vec<f32> = frame.data.iter().zip(&self.empty[background].data).map(total).collect();
        let level = |m: &Mask| median(m.pixels().map(|(x, y)| differs[y * m.width + x]).collect());
        let middle = if mask.count() > 400 { level(&mask.erode(2)) } else { level(mask) };
        let mut out = mask.dilate(3);
        out.bits.iter_mut().zip(&differs).for_each(|(bit, d)| *bit &= *d > 0.5 * middle);
        if out.count() > 50 { out } else { mask.clone() }
    }

    /// The shape whose outline overlaps most; `turned` tries every angle.
    pub fn shape(&self, mask: &Mask, turned: bool) -> Option<usize> {
        let got = Outline::of(mask)?;
        let usable = self.templates.iter().filter(|t| t.upright || turned);
        let score =
            |t: &Template| 1.0 - got.square.unlike(&t.outline.square) - 0.3 * (got.ratio / t.outline.ratio).ln().abs();
        usable.max_by(|a, b| score(a).total_cmp(&score(b))).map(|t| t.shape)
    }
}

/// Median colour of each band: red, green, blue of the first, and so on.
fn bands(picture: &Picture) -> Vec<f32> {
    let rows = picture.height.div_ceil(BANDS).max(1);
    let band = |pixels: &[[f32; 3]]| {
        let channel = |i: usize| median(pixels.iter().map(|p| p[i]).collect());
        [channel(0), channel(1), channel(2)]
    };
    let mut out: Vec<f32> = picture.data.chunks(rows * picture.width).flat_map(band).collect();
    out.resize(3 * BANDS, 0.0);
    out
}

/// The colour nearest to the median of an object's inner pixels, at any of a few shades.
pub fn color(frame: &Picture, mask: &Mask) -> usize {
    let inner = if mask.count() > 400 { mask.erode(2) } else { mask.clone() };
    let seen: [f32; 3] = std::array::from_fn(|i| {
        let mut values: Vec<f32> = inner.pixels().map(|(x, y)| frame.data[y * frame.width + x][i]).collect();
        percentile(&mut values, 50.0)
    });
    let error = |color: usize, shade: f32| {
        let wanted = COLORS[color].1.map(|c| (c * shade).clamp(0.0, 1.0));
        (0..3).map(|i| (seen[i] - wanted[i]).powi(2)).sum::<f32>()
    };
    let all = (0..COLORS.len()).flat_map(|c| [0.78, 0.9, 1.0, 1.15].map(|shade| (c, error(c, shade))));
    all.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(c, _)| c).unwrap_or_default()
}

impl Outline {
    /// `None` for an empty mask.
    fn of(mask: &Mask) -> Option<Self> {
        let b = mask.bounds()?;
        let (w, h) = (b.right - b.left + 1, b.bottom - b.top + 1);
        // A cell of the square is inside when more than half of its samples are.
        let samples = |k: usize, size: usize| (0..4).map(move |i| ((4 * k + i) * 2 + 1) * size / (8 * TEMPLATE));
        let square = Mask::from_fn(TEMPLATE, TEMPLATE, |x, y| {
            let hits = samples(y, h)
                .flat_map(|sy| samples(x, w).map(move |sx| (sx, sy)))
                .filter(|(sx, sy)| mask.bits[(b.top + sy) * mask.width + b.left + sx]);
            hits.count() > 8
        });
        Some(Self { square, ratio: w as f32 / h as f32 })
    }
}

/// Outlines of all shapes, sharp and rounded, upright and turned.
fn templates() -> Vec<Template> {
    const SIDE: usize = 140;
    let mut out = Vec::new();
    for (shape, &symmetry) in SYMMETRY.iter().enumerate() {
        for turn in 0..if symmetry == 0 { 1 } else { 12 } {
            let (sin, cos) = (turn as f32 * TAU / 12.0 / symmetry.max(1) as f32).sin_cos();
            let at = |i: usize| -1.6 + 3.2 * i as f32 / (SIDE - 1) as f32;
            let inside = |x: usize, y: usize| {
                let (x, y) = (at(x), at(y));
                world::distance(shape, cos * x + sin * y, cos * y - sin * x, 1.0) < 0.0
            };
            let sharp = Mask::from_fn(SIDE, SIDE, inside);
            let outlines = ROUNDING.iter().filter_map(|by| Outline::of(&sharp.rounded(by * (SIDE - 1) as f32 / 3.2)));
            out.extend(outlines.map(|outline| Template { shape, upright: turn == 0, outline }));
        }
    }
    out
}
