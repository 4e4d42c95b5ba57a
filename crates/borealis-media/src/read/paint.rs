//! Decoded frames to upright RGB pictures of one size.

use ffmpeg_next::frame;

use crate::error::{MediaError, Result};
use crate::ff::{self, ToRgb};
use crate::frame::{Frame, PixelFormat};
use crate::read::clip::ClipSpec;
use crate::read::demux::{self, Demuxer, Orientation, Track};
use crate::scale::{fit_rect, pad};
use crate::source::Limits;

/// Width and height of a track as it is shown: square pixels, turned upright.
pub(super) fn upright_size(demuxer: &Demuxer, track: &Track) -> Result<(u32, u32)> {
    let (width, height, shape) = ff::coded_size(&demuxer.params(track)?);
    let (width, height) = square(width, height, shape);
    let turned = demux::orientation(&demuxer.input, track).quarters % 2 == 1;
    Ok(if turned { (height, width) } else { (width, height) })
}

/// Stretches non-square pixels, unless the shape is absurd.
fn square(width: u32, height: u32, (num, den): (u32, u32)) -> (u32, u32) {
    let ratio = f64::from(num) / f64::from(den);
    if num == den || !(0.2..5.0).contains(&ratio) {
        return (width, height);
    }
    ((f64::from(width) * ratio).round().max(1.0) as u32, height)
}

/// Makes RGB pictures of one size from decoded frames.
pub(super) struct Painter {
    convert: ToRgb,
    orientation: Orientation,
    canvas: Option<(u32, u32)>,
    max_pixels: u64,
}

impl Painter {
    pub(super) fn new(demuxer: &Demuxer, track: &Track, spec: &ClipSpec, limits: &Limits) -> Result<Painter> {
        let (width, height, shape) = ff::coded_size(&demuxer.params(track)?);
        limits.check_pixels(&demuxer.name, u64::from(width), u64::from(height))?;
        let (width, height) = square(width, height, shape);
        limits.check_pixels(&demuxer.name, u64::from(width), u64::from(height))?;
        let orientation = demux::orientation(&demuxer.input, track);
        let turned = orientation.quarters % 2 == 1;
        let (width, height) = match spec.canvas {
            None => (width, height),
            Some((cw, ch)) => {
                // The size before the turn.
                let (cw, ch) = if turned { (ch, cw) } else { (cw, ch) };
                let rect = fit_rect((width, height), (cw, ch));
                (rect.width, rect.height)
            }
        };
        Ok(Painter {
            convert: ToRgb::new(width, height),
            orientation,
            canvas: spec.canvas,
            max_pixels: limits.max_pixels,
        })
    }

    pub(super) fn paint(&mut self, name: &str, frame: &frame::Video) -> Result<Frame> {
        // A stream can change its size on the way.
        let value = u64::from(frame.width()) * u64::from(frame.height());
        if value > self.max_pixels {
            return Err(MediaError::Limit { name: name.to_owned(), what: "pixels", value, limit: self.max_pixels });
        }
        let mut picture = self.convert.run(frame)?;
        if self.orientation.mirror {
            picture = picture.mirror();
        }
        picture = picture.rotate(self.orientation.quarters);
        let Some((width, height)) = self.canvas else { return Ok(picture) };
        debug_assert_eq!(picture.format, PixelFormat::Rgb8);
        let rect = fit_rect((picture.width, picture.height), (width, height));
        if (rect.width, rect.height) != (picture.width, picture.height) {
            // Rounding of the turned rectangle: the sizes differ by a pixel at most.
            picture = picture.resize(rect.width, rect.height, crate::Filter::Auto);
        }
        Ok(pad(&picture, rect, width, height))
    }
}
