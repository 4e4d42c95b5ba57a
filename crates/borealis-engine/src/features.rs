//! Row features: where and when a row is, and how far from the objects of its block's state (`weights.md`, sections 3 and "The default model").

use std::f32::consts::TAU;

use borealis_weights::{CodeRange, Features, Grid, Manifest, Near, ObjectFrame};

/// Writes the features of rows of one output.
#[derive(Debug, Clone)]
pub struct FeatureWriter {
    features: Features,
    /// Ranges of the codes of a slot of the modality that distances are measured to.
    near_codes: Vec<CodeRange>,
    grid: Grid,
    /// Cells along a side of a position.
    side: f32,
    /// Cells of a unit; a unit is the short side of the picture.
    cells_per_unit: f32,
    /// Width and height of all cells in units.
    canvas: (f32, f32),
    latent_fps: f32,
}

impl FeatureWriter {
    /// For pictures of `cells` (rows, columns). `None` when the checkpoint's rows carry no features.
    pub fn new(manifest: &Manifest, grid: Grid, cells: (usize, usize)) -> Option<Self> {
        let features = manifest.row_features.clone()?;
        let side = manifest.modality("video").map_or(1, |(_, m)| m.slots.isqrt());
        let near_codes =
            features.near.as_ref().map(|n| manifest.modalities[n.modality].codes.clone()).unwrap_or_default();
        Some(Self {
            near_codes,
            grid,
            side: side as f32,
            cells_per_unit: features.cells_per_unit as f32,
            canvas: (cells.1 as f32 / features.cells_per_unit as f32, cells.0 as f32 / features.cells_per_unit as f32),
            latent_fps: manifest.media.as_ref().map_or(1.0, |m| m.latent_fps as f32),
            features,
        })
    }

    /// F: numbers of a row.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Never: rows without features have no writer.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// Appends the features of a row of pictures at `place` of latent frame `t`. `near`: ids of the block's state row; `None` for sources.
    pub fn picture(&self, place: usize, t: i32, near: Option<&[u32]>, out: &mut Vec<f32>) {
        let end = out.len() + self.len();
        let (row, column) = ((place / self.grid.width) as f32, (place % self.grid.width) as f32);
        let centre = |i: f32| (i + 0.5) * self.side / self.cells_per_unit;
        let (x, y) = (centre(column), centre(row));
        waves(x - self.canvas.0 / 2.0, &self.features.x, out);
        waves(y / self.canvas.1, &self.features.y, out);
        waves(t as f32 / self.latent_fps, &self.features.seconds, out);
        if let Some(ids) = near {
            self.near(x, y, ids, out);
        }
        out.resize(end, 0.0);
    }

    /// Appends the features of a row without a place: time only.
    pub fn time(&self, t: i32, out: &mut Vec<f32>) {
        let end = out.len() + self.len();
        out.resize(out.len() + 2 * (self.features.x.len() + self.features.y.len()), 0.0);
        waves(t as f32 / self.latent_fps, &self.features.seconds, out);
        out.resize(end, 0.0);
    }

    fn near(&self, x: f32, y: f32, ids: &[u32], out: &mut Vec<f32>) {
        let Some(near) = &self.features.near else { return };
        let slots = || ids.chunks_exact(self.near_codes.len()).map(|ids| Slot { ids, codes: &self.near_codes });
        let points = || slots().flat_map(|slot| near.points.iter().map(move |&point| (slot, point)));
        for (slot, point) in points() {
            let end = out.len() + 4 * near.frequencies.len() + near.decays.len();
            if let Some((dx, dy)) = slot.offset(near, point, x, y) {
                waves(dx, &near.frequencies, out);
                waves(dy, &near.frequencies, out);
                let square = dx * dx + dy * dy;
                out.extend(near.decays.iter().map(|d| (-d * square).exp()));
            }
            out.resize(end, 0.0);
        }
        let Some(frame) = &near.object else { return };
        for (slot, point) in points() {
            let end = out.len() + frame.size();
            let known = (slot.offset(near, point, x, y), slot.level(frame.radius), slot.level(frame.angle));
            if let (Some(offset), Some(radius), Some(angle)) = known {
                let radius = frame.radius_first + frame.radius_step * radius;
                self.object(frame, offset, radius, TAU * angle / frame.angle_steps, out);
            }
            out.resize(end, 0.0);
        }
    }

    /// Every cell's offset in radii and turned by `-turn`: waves of x, y and the distance, then harmonics of the direction.
    fn object(&self, frame: &ObjectFrame, (dx, dy): (f32, f32), radius: f32, turn: f32, out: &mut Vec<f32>) {
        let (sin, cos) = turn.sin_cos();
        let from_centre = |i: usize| (i as f32 - (frame.side as f32 - 1.0) / 2.0) / self.cells_per_unit;
        for cell in 0..frame.side * frame.side {
            let u = (dx + from_centre(cell % frame.side)) / radius;
            let v = (dy + from_centre(cell / frame.side)) / radius;
            let (u, v) = (cos * u + sin * v, cos * v - sin * u);
            let far = u.hypot(v).max(1e-6);
            let (c, s) = (u / far, v / far);
            let far = far.min(frame.limit);
            for wave in [c * far, s * far, far] {
                waves(wave, &frame.frequencies, out);
            }
            let (start, size) = (out.len(), far.min(1.0));
            out.resize(start + 2 * frame.harmonics, 0.0);
            let (mut ck, mut sk) = (c, s);
            for k in 0..frame.harmonics {
                out[start + k] = sk * size;
                out[start + frame.harmonics + k] = ck * size;
                (ck, sk) = (ck * c - sk * s, sk * c + ck * s);
            }
        }
    }
}

/// The ids of one object.
#[derive(Clone, Copy)]
struct Slot<'a> {
    ids: &'a [u32],
    codes: &'a [CodeRange],
}

impl Slot<'_> {
    /// Level of a code; its last level means that there is none.
    fn level(&self, code: usize) -> Option<f32> {
        let level = self.ids[code].saturating_sub(self.codes[code].start);
        (level + 1 < self.codes[code].size).then_some(level as f32)
    }

    /// How far (x, y) is from a point of the object.
    fn offset(&self, near: &Near, [cx, cy]: [usize; 2], x: f32, y: f32) -> Option<(f32, f32)> {
        let at = |code: usize| self.level(code).map(|level| level / near.scale + near.shift);
        Some((x - at(cx)?, y - at(cy)?))
    }
}

/// All sines, then all cosines, of `2 pi f v`; in f32 and in this order, as the model was trained.
fn waves(v: f32, frequencies: &[f32], out: &mut Vec<f32>) {
    let turn = TAU * v;
    out.extend(frequencies.iter().map(|f| (turn * f).sin()));
    out.extend(frequencies.iter().map(|f| (turn * f).cos()));
}
