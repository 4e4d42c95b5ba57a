//! What the default model's world looks like (`recipes/borealis_recipe/render.py`): the names that prompts are scored by, empty backgrounds, outlines.

use super::picture::Picture;

/// Backgrounds by name.
pub const BACKGROUNDS: [&str; 6] = ["sky", "night", "sunset", "meadow", "desert", "studio"];
/// Shapes by name.
pub const SHAPES: [&str; 6] = ["ball", "box", "triangle", "star", "heart", "ring"];
/// Motions by name.
pub const MOTIONS: [&str; 10] = ["still", "bounce", "right", "left", "up", "down", "orbit", "spin", "pulse", "shake"];
/// Colours by name.
pub const COLORS: [(&str, [f32; 3]); 8] = [
    ("red", [0.90, 0.10, 0.12]),
    ("orange", [1.0, 0.52, 0.05]),
    ("yellow", [0.98, 0.88, 0.12]),
    ("green", [0.10, 0.68, 0.22]),
    ("blue", [0.10, 0.30, 0.92]),
    ("purple", [0.55, 0.15, 0.78]),
    ("pink", [1.0, 0.48, 0.74]),
    ("white", [0.97, 0.97, 0.97]),
];
/// How often a shape looks the same in a full turn; 0 = always.
pub const SYMMETRY: [usize; 6] = [0, 4, 3, 5, 1, 0];
/// Lines of the shorter side at which clips are judged; the unit of lengths.
pub const LINES: usize = 180;

/// An object to draw: places and radius in units, `turn` in radians.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thing {
    /// Index into [`SHAPES`].
    pub shape: usize,
    /// Index into [`COLORS`].
    pub color: usize,
    /// Centre.
    pub x: f32,
    /// Centre, downwards.
    pub y: f32,
    /// Size.
    pub radius: f32,
    /// Clockwise.
    pub turn: f32,
}

/// An empty background with perhaps an object, `lines` pixels to a unit.
pub fn draw(background: usize, thing: Option<&Thing>, width: usize, height: usize, lines: usize) -> Picture {
    let pixel = 1.0 / lines as f32;
    let (w, h) = (width as f32 * pixel, height as f32 * pixel);
    Picture::from_fn(width, height, |x, y| {
        let (x, y) = ((x as f32 + 0.5) * pixel, (y as f32 + 0.5) * pixel);
        let behind = backdrop(background, x - w / 2.0 + 8.0 / 9.0, y, h, pixel);
        let Some(t) = thing else { return behind };
        let (dx, dy) = (x - t.x, y - t.y);
        let (sin, cos) = t.turn.sin_cos();
        let d = distance(t.shape, cos * dx + sin * dy, cos * dy - sin * dx, t.radius);
        let shade = (1.0 - 0.22 * dy / t.radius).clamp(0.72, 1.25);
        mix(behind, COLORS[t.color].1.map(|c| (c * shade).clamp(0.0, 1.0)), cover(d, pixel))
    })
}

fn mix(a: [f32; 3], b: [f32; 3], alpha: f32) -> [f32; 3] {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * alpha)
}

/// Share of a pixel that lies inside an outline `d` away.
fn cover(d: f32, pixel: f32) -> f32 {
    (0.5 - d / pixel).clamp(0.0, 1.0)
}

/// Colour of an empty background at (x, y) units on a canvas `height` units high.
fn backdrop(kind: usize, x: f32, y: f32, height: f32, pixel: f32) -> [f32; 3] {
    let v = y / height;
    let ramp = |a, b, end: f32| mix(a, b, (v / end).clamp(0.0, 1.0));
    let over = |c, d: f32, color, alpha: f32| mix(c, color, alpha * cover(d, pixel));
    let hill = |base: f32, swell: f32| base * height + swell - y;
    match BACKGROUNDS[kind] {
        "sky" => {
            let mut c = ramp([0.30, 0.58, 0.95], [0.78, 0.90, 1.0], 1.0);
            for (cx, cy, k) in [(0.45f32, 0.22f32, 0.10f32), (1.30, 0.33, 0.12)] {
                let cy = cy * height;
                let body = ((x - cx) / 1.9).hypot(y - cy) - k * 0.6;
                let puff = (x - cx - 0.12).hypot(y - cy + 0.04) - k * 0.75;
                c = over(c, body.min(puff), [1.0; 3], 0.9);
            }
            c
        }
        "night" => {
            let c = ramp([0.02, 0.03, 0.12], [0.10, 0.10, 0.30], 1.0);
            let c = over(c, (x - 1.15).hypot(y - 0.20 * height) - 0.085, [0.95, 0.93, 0.78], 1.0);
            let stars = [(0.2, 0.15), (0.6, 0.35), (0.95, 0.12), (1.65, 0.5), (0.3, 0.6), (1.2, 0.45)];
            let star = |c, (sx, sy): (f32, f32)| over(c, (x - sx).hypot(y - sy * height) - 0.010, [0.9, 0.9, 1.0], 1.0);
            stars.into_iter().fold(c, star)
        }
        "sunset" => {
            let c = ramp([0.36, 0.16, 0.48], [1.0, 0.58, 0.25], 0.72);
            let c = over(c, (x - 0.89).hypot(y - 0.70 * height) - 0.15, [1.0, 0.90, 0.55], 1.0);
            over(c, hill(0.72, 0.0), [0.22, 0.10, 0.20], 1.0)
        }
        "meadow" => {
            let c = ramp([0.42, 0.70, 0.98], [0.85, 0.94, 1.0], 0.7);
            let c = over(c, hill(0.66, 0.05 * (2.2 * x + 1.0).sin()), [0.24, 0.56, 0.20], 1.0);
            over(c, hill(0.80, 0.02 * (3.1 * x).sin()), [0.36, 0.68, 0.26], 1.0)
        }
        "desert" => {
            let c = ramp([0.62, 0.80, 0.92], [0.98, 0.94, 0.84], 0.7);
            let c = over(c, hill(0.68, 0.04 * (1.7 * x + 2.0).sin()), [0.86, 0.68, 0.42], 1.0);
            over(c, hill(0.82, 0.03 * (2.3 * x).sin()), [0.93, 0.78, 0.52], 1.0)
        }
        _ => over(ramp([0.50, 0.52, 0.56], [0.66, 0.68, 0.71], 1.0), hill(0.80, 0.0), [0.38, 0.39, 0.42], 1.0),
    }
}

/// Signed distance (negative inside) of a shape of radius `r` at the origin; y points down. Star and heart are the well-known exact
/// distance functions of 2-D signed distance fields.
pub fn distance(shape: usize, x: f32, y: f32, r: f32) -> f32 {
    match SHAPES[shape] {
        "ball" => x.hypot(y) - r,
        "box" => x.abs().max(y.abs()) - r * 0.86,
        "triangle" => (y - 0.62 * r).max(0.866 * x.abs() - 0.5 * y - 0.52 * r),
        "star" => star(x.abs(), -y, r * 1.18),
        "heart" => heart(x.abs() / (1.18 * r), 0.52 - y / (1.18 * r)) * 1.18 * r,
        _ => (x.hypot(y) - 0.74 * r).abs() - 0.26 * r,
    }
}

fn star(mut x: f32, mut y: f32, outer: f32) -> f32 {
    let (c, s) = (0.809_017, -0.587_785_25);
    let d = 2.0 * (c * x + s * y).max(0.0);
    (x, y) = (x - d * c, y - d * s);
    let d = 2.0 * (s * y - c * x).max(0.0);
    (x, y) = ((x + d * c).abs(), y - d * s - outer);
    let (bx, by) = (0.45 * 0.587_785_25, 0.45 * 0.809_017 - 1.0);
    let h = ((x * bx + y * by) / (bx * bx + by * by)).clamp(0.0, outer);
    (x - bx * h).hypot(y - by * h) * (y * bx - x * by).signum()
}

fn heart(x: f32, y: f32) -> f32 {
    if x + y > 1.0 {
        return (x - 0.25).hypot(y - 0.75) - 0.353_55;
    }
    let m = 0.5 * (x + y).max(0.0);
    x.hypot(y - 1.0).min((x - m).hypot(y - m)) * (x - y).signum()
}
