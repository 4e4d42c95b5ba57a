//! A contact sheet: six frames of every clip above one square for each thing that was asked, green when it was right.

use std::path::Path;

use borealis_media::{Filter, Frame, PixelFormat, write_png};

use super::Score;
use crate::error::{CliError, Result};

/// Pixels of a frame's width.
const WIDTH: usize = 160;
/// Pixels of a square's side.
const SQUARE: usize = 8;
/// Pixels around squares.
const GAP: usize = 4;
const GREEN: [u8; 3] = [60, 200, 90];
const RED: [u8; 3] = [220, 60, 60];

/// Writes the sheet.
pub fn write_sheet(path: &Path, scores: &[Score]) -> Result<()> {
    let shown: Vec<&Score> = scores.iter().filter(|s| !s.frames.is_empty()).collect();
    let columns = shown.iter().map(|s| s.frames.len()).max().unwrap_or(1);
    let height = |f: &Frame| WIDTH * f.height as usize / f.width.max(1) as usize;
    let row = shown.iter().flat_map(|s| &s.frames).map(height).max().unwrap_or(1) + SQUARE + 2 * GAP;
    let size = (columns * WIDTH, row * shown.len().max(1));
    let mut sheet = vec![24u8; size.0 * size.1 * 3];
    let mut put = |left: usize, top: usize, width: usize, rgb: &mut dyn Iterator<Item = [u8; 3]>| {
        for (i, color) in rgb.enumerate() {
            let at = ((top + i / width) * size.0 + left + i % width) * 3;
            sheet[at..at + 3].copy_from_slice(&color);
        }
    };
    for (i, score) in shown.iter().enumerate() {
        for (j, frame) in score.frames.iter().enumerate() {
            let small = frame.to_rgb8().resize(WIDTH as u32, height(frame) as u32, Filter::Area);
            put(j * WIDTH, i * row, WIDTH, &mut small.data.as_chunks::<3>().0.iter().copied());
        }
        for (j, (_, right)) in score.right.iter().enumerate() {
            let color = if *right { GREEN } else { RED };
            let top = (i + 1) * row - SQUARE - GAP;
            put(GAP + j * (SQUARE + GAP), top, SQUARE, &mut std::iter::repeat_n(color, SQUARE * SQUARE));
        }
    }
    let frame = Frame::new(size.0 as u32, size.1 as u32, PixelFormat::Rgb8, sheet).map_err(CliError::failed)?;
    write_png(path, &frame).map_err(CliError::failed)
}
