//! Sizes: from an aspect ratio and a resolution, or from a picture that the user gives, to positions, cells and pixels.

use borealis_tokenizers::{Grid as Cells, VideoConfig, nearest_ratio};
use borealis_weights::{Grid, Manifest};

use crate::error::{EngineError, Result};
use crate::request::Resolution;

/// The ratio of the longest sides that an output has; wider pictures get fewer lines instead.
const WIDEST: (u32, u32) = (16, 9);

/// Everything that follows from the size of an output.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    /// Name of the aspect ratio whose grid is used.
    pub aspect: String,
    /// Positions.
    pub grid: Grid,
    /// Cells, and the part of them that is shown.
    pub cells: Cells,
    /// Pixels of the output, even.
    pub width: u32,
    /// Pixels of the output, even.
    pub height: u32,
}

impl Resolution {
    /// Lines of the shorter side.
    pub fn lines(self) -> u32 {
        match self {
            Self::P480 => 480,
            Self::P720 => 720,
            Self::P1080 => 1080,
        }
    }
}

impl Geometry {
    /// The output of an aspect ratio that the checkpoint knows, such as `16:9`.
    pub fn for_aspect(manifest: &Manifest, video: &VideoConfig, aspect: &str, resolution: Resolution) -> Result<Self> {
        let ratio = ratio(aspect).ok_or_else(|| unknown(manifest, aspect))?;
        let (width, height) = pixels(ratio, resolution);
        Self::new(manifest, aspect, Cells::for_ratio(video, (ratio.0 as usize, ratio.1 as usize))?, width, height)
    }

    /// The output that keeps the ratio of a `size` (width, height) picture: the nearest grid, filled from the top left.
    pub fn for_input(
        manifest: &Manifest,
        video: &VideoConfig,
        size: (u32, u32),
        resolution: Resolution,
    ) -> Result<Self> {
        let names = aspects(manifest);
        let ratios: Vec<_> = names.iter().filter_map(|n| ratio(n)).map(|(w, h)| (w as usize, h as usize)).collect();
        let Some(nearest) = nearest_ratio(size.0 as usize, size.1 as usize, &ratios) else {
            return Err(unknown(manifest, "any"));
        };
        let mut cells = Cells::for_ratio(video, ratios[nearest])?;
        let (canvas_h, canvas_w) = cells.pixels(video);
        // A picture with exactly one of the known ratios is cut like an output of that ratio.
        if size.0 as usize * ratios[nearest].1 != size.1 as usize * ratios[nearest].0 {
            let shown = borealis_media::fit_rect(size, (canvas_w as u32, canvas_h as u32));
            cells.picture = (shown.height as usize, shown.width as usize);
        }
        let (width, height) = pixels(size, resolution);
        Self::new(manifest, &names[nearest], cells, width, height)
    }

    fn new(manifest: &Manifest, aspect: &str, cells: Cells, width: u32, height: u32) -> Result<Self> {
        let grid = manifest.media.as_ref().and_then(|m| m.grids.get(aspect)).copied();
        let grid = grid.ok_or_else(|| unknown(manifest, aspect))?;
        Ok(Self { aspect: aspect.to_string(), grid, cells, width, height })
    }

    /// Whether a `width` x `height` frame has the output's ratio; even sizes and whole analysis pixels make ratios differ by a little.
    pub fn has_ratio(&self, width: u32, height: u32) -> bool {
        let (own, other) = (u64::from(width) * u64::from(self.height), u64::from(height) * u64::from(self.width));
        own.abs_diff(other) * 100 < own.max(other)
    }
}

/// Aspect ratios of a checkpoint.
pub fn aspects(manifest: &Manifest) -> Vec<String> {
    manifest.media.as_ref().map(|m| m.grids.keys().cloned().collect()).unwrap_or_default()
}

fn unknown(manifest: &Manifest, aspect: &str) -> EngineError {
    let known = aspects(manifest).join(", ");
    EngineError::invalid(
        "aspect_ratio",
        format!("\"{aspect}\" is not known to this model"),
        format!("use one of {known}"),
    )
}

/// `16:9` as (16, 9).
fn ratio(aspect: &str) -> Option<(u32, u32)> {
    let (w, h) = aspect.split_once(':')?;
    let part = |s: &str| s.parse::<u32>().ok().filter(|v| (1..=100).contains(v));
    Some((part(w)?, part(h)?))
}

/// Even width and height whose shorter side has the resolution's lines, and whose longer side is at most 16/9 of them.
fn pixels((w, h): (u32, u32), resolution: Resolution) -> (u32, u32) {
    let even = |numerator: u64, denominator: u64| (((numerator + denominator) / (2 * denominator)).max(1) * 2) as u32;
    let lines = u64::from(resolution.lines());
    let (long, short) = (u64::from(w.max(h)).max(1), u64::from(w.min(h)).max(1));
    let (most, least) = (u64::from(WIDEST.0), u64::from(WIDEST.1));
    let (a, b) = if long * least > short * most {
        let side = even(lines * most, least);
        (side, even(u64::from(side) * short, long))
    } else {
        (even(lines * long, short), lines as u32)
    };
    if w >= h { (a, b) } else { (b, a) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_sizes() {
        use Resolution::{P480, P720, P1080};
        for (ratio, resolution, size) in [
            ((16, 9), P480, (854, 480)),
            ((16, 9), P720, (1280, 720)),
            ((16, 9), P1080, (1920, 1080)),
            ((9, 16), P720, (720, 1280)),
            ((1, 1), P1080, (1080, 1080)),
            ((4, 3), P480, (640, 480)),
            ((3, 4), P720, (720, 960)),
            ((3, 2), P720, (1080, 720)),
            ((2, 3), P480, (480, 720)),
            ((1000, 800), P720, (900, 720)),
            ((3000, 1000), P720, (1280, 426)),
            ((1, 5000), P720, (2, 1280)),
        ] {
            assert_eq!(pixels(ratio, resolution), size, "{ratio:?}");
        }
    }
}
