//! Row features: where and when a row is, and how far from the objects of its block's state (`weights.md`, sections 3 and "The default model").

use std::f32::consts::TAU;

use borealis_weights::{Features, Grid, Manifest};

/// Writes the features of rows of one output.
#[derive(Debug, Clone)]
pub struct FeatureWriter {
    features: Features,
    /// Ranges of the codes of a slot of the modality that distances are measured to.
    near_codes: Vec<borealis_weights::CodeRange>,
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
        for slot in ids.chunks_exact(self.near_codes.len()) {
            for &[cx, cy] in &near.points {
                let level = |c: usize| slot[c].saturating_sub(self.near_codes[c].start);
                let end = out.len() + 4 * near.frequencies.len() + near.decays.len();
                // The last level means that there is no object.
                if level(cx) + 1 < self.near_codes[cx].size && level(cy) + 1 < self.near_codes[cy].size {
                    let at = |c: usize| level(c) as f32 / near.scale + near.shift;
                    let (dx, dy) = (x - at(cx), y - at(cy));
                    waves(dx, &near.frequencies, out);
                    waves(dy, &near.frequencies, out);
                    let square = dx * dx + dy * dy;
                    out.extend(near.decays.iter().map(|d| (-d * square).exp()));
                }
                out.resize(end, 0.0);
            }
        }
    }
}

/// All sines, then all cosines, of `2 pi f v`; in f32 and in this order, as the model was trained.
fn waves(v: f32, frequencies: &[f32], out: &mut Vec<f32>) {
    let turn = TAU * v;
    out.extend(frequencies.iter().map(|f| (turn * f).sin()));
    out.extend(frequencies.iter().map(|f| (turn * f).cos()));
}
