//! `video_tokenizer/config.json`, checked, and the grids that pictures are cut into.

use borealis_media::{Rect, cover_rect};
use serde::Deserialize;

use crate::{Result, TokenizerError};

const FILE: &str = "video_tokenizer/config.json";

/// Lines of the shorter side of a picture at analysis scale.
pub const ANALYSIS_LINES: usize = 180;

/// The video tokenizer of a checkpoint; see `weights.md`, section 8.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VideoConfig {
    /// Kind of tokenizer; `causal_fsq`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Channels at 4x4, 2x2 and 1x1 places a cell.
    pub channels: [usize; 3],
    /// Codes of a cell.
    pub digits: usize,
    /// Values of a code.
    pub levels: usize,
    /// Colour layers of the painting head.
    pub layers: usize,
    /// Frames of a latent frame.
    pub stride: usize,
    /// Side of the patch that becomes one place, analysis pixels; a cell is 4 x 4 patches.
    pub patch: usize,
    /// Of the RMS norms.
    pub norm_eps: f32,
}

impl VideoConfig {
    /// Reads and checks the file's bytes.
    ///
    /// # Errors
    /// [`TokenizerError::Config`] with the field and what it should be.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(json).map_err(|e| TokenizerError::config(FILE, "json", e))?;
        config.check()?;
        Ok(config)
    }

    /// Side of a cell, analysis pixels.
    pub fn cell(&self) -> usize {
        4 * self.patch
    }

    /// Frames that `latents` latent frames show.
    pub fn frames(&self, latents: usize) -> usize {
        if latents == 0 { 0 } else { 1 + self.stride * (latents - 1) }
    }

    /// Latent frames that hold at least `frames` frames.
    pub fn latents(&self, frames: usize) -> usize {
        if frames == 0 { 0 } else { 1 + (frames - 1).div_ceil(self.stride) }
    }

    fn check(&self) -> Result<()> {
        let bad = |field: &str, what: String| Err(TokenizerError::config(FILE, field, what));
        if self.kind != "causal_fsq" {
            return bad("type", format!("is \"{}\": only \"causal_fsq\" is known", self.kind));
        }
        let [a, b, c] = self.channels;
        for (field, value, low, high) in [
            ("channels[0]", a, 1, 4096),
            ("channels[1]", b, 1, 4096),
            ("channels[2]", c, 1, 4096),
            ("digits", self.digits, 1, 256),
            ("levels", self.levels, 2, 1 << 16),
            ("layers", self.layers, 1, 16),
            ("stride", self.stride, 1, 64),
            ("patch", self.patch, 1, 64),
        ] {
            if !(low..=high).contains(&value) {
                return bad(field, format!("is {value}: must be {low} to {high}"));
            }
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return bad("norm_eps", format!("is {}: must be above 0 and below 1", self.norm_eps));
        }
        Ok(())
    }
}

/// The cells of a picture and the part of them that it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Cells, top to bottom.
    pub rows: usize,
    /// Cells, left to right.
    pub columns: usize,
    /// Analysis pixels (height, width) of the picture, from the top left; what lies beyond repeats its edge.
    pub picture: (usize, usize),
}

impl Grid {
    /// Most cells that a grid may have.
    pub const MAX_CELLS: usize = 4096;

    /// The fewest cells that cover a picture of the aspect ratio (width, height).
    ///
    /// # Errors
    /// [`TokenizerError::Size`] for a ratio of 0 or one that is too long.
    pub fn for_ratio(config: &VideoConfig, ratio: (usize, usize)) -> Result<Self> {
        let (w, h) = ratio;
        if w == 0 || h == 0 || w.max(h) > 1 << 16 {
            return Err(TokenizerError::size("aspect ratio", w, h, "both sides must be 1 to 65536"));
        }
        let long = (ANALYSIS_LINES * w.max(h)).div_ceil(w.min(h));
        let picture = if w >= h { (ANALYSIS_LINES, long) } else { (long, ANALYSIS_LINES) };
        let cells = |pixels: usize| pixels.div_ceil(config.cell());
        Self { rows: cells(picture.0), columns: cells(picture.1), picture }.checked()
    }

    /// A grid that is filled completely.
    ///
    /// # Errors
    /// [`TokenizerError::Size`] when it has no cells or too many.
    pub fn full(config: &VideoConfig, rows: usize, columns: usize) -> Result<Self> {
        Self { rows, columns, picture: (rows * config.cell(), columns * config.cell()) }.checked()
    }

    fn checked(self) -> Result<Self> {
        if self.rows == 0 || self.columns == 0 || self.rows * self.columns > Self::MAX_CELLS {
            return Err(TokenizerError::size("grid of cells", self.columns, self.rows, "must have 1 to 4096 cells"));
        }
        Ok(self)
    }

    /// The largest centred rectangle of a `width` x `height` frame with the ratio of the grid's picture: nothing is stretched, the least is lost.
    pub fn crop(&self, width: u32, height: u32) -> Rect {
        cover_rect((width, height), (self.picture.1 as u32, self.picture.0 as u32))
    }

    /// Cells.
    pub fn cells(&self) -> usize {
        self.rows * self.columns
    }

    /// Analysis pixels (height, width) of all cells.
    pub fn pixels(&self, config: &VideoConfig) -> (usize, usize) {
        (self.rows * config.cell(), self.columns * config.cell())
    }
}

/// Which of some aspect ratios (width, height) is nearest to a `width` x `height` picture, by the logarithm of the ratio; the first of equals.
pub fn nearest_ratio(width: usize, height: usize, ratios: &[(usize, usize)]) -> Option<usize> {
    let log = |w: usize, h: usize| (w.max(1) as f64 / h.max(1) as f64).ln();
    let off = |r: &(usize, usize)| (log(r.0, r.1) - log(width, height)).abs();
    (0..ratios.len()).min_by(|&a, &b| off(&ratios[a]).total_cmp(&off(&ratios[b])))
}
