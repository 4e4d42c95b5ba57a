//! One picture in memory.

use crate::color;
use crate::error::{MediaError, Result};

/// How the bytes of a [`Frame`] are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    /// BT.709 limited range; planes Y, U, V without padding, chroma halved (rounded up) in both directions.
    I420,
    /// Interleaved red, green, blue; full range.
    Rgb8,
}

impl PixelFormat {
    /// Bytes of a picture of `width` x `height`; saturates instead of overflowing.
    pub fn bytes(self, width: u32, height: u32) -> usize {
        let area = |w: u32, h: u32| (w as usize).saturating_mul(h as usize);
        match self {
            PixelFormat::Rgb8 => area(width, height).saturating_mul(3),
            PixelFormat::I420 => {
                area(width, height).saturating_add(area(width.div_ceil(2), height.div_ceil(2)).saturating_mul(2))
            }
        }
    }
}

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// One picture. `data` has exactly [`PixelFormat::bytes`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Layout of `data`.
    pub format: PixelFormat,
    /// The samples.
    pub data: Vec<u8>,
}

impl Frame {
    /// Wraps `data`; fails when its length does not fit the size.
    pub fn new(width: u32, height: u32, format: PixelFormat, data: Vec<u8>) -> Result<Self> {
        let frame = Frame { width, height, format, data };
        frame.check(0)?;
        Ok(frame)
    }

    /// A frame of one colour.
    pub fn solid(width: u32, height: u32, format: PixelFormat, rgb: [u8; 3]) -> Self {
        let data = match format {
            PixelFormat::Rgb8 => rgb.repeat(width as usize * height as usize),
            PixelFormat::I420 => {
                let [y, u, v] = color::yuv_of(rgb);
                let luma = width as usize * height as usize;
                let chroma = (format.bytes(width, height) - luma) / 2;
                let mut data = vec![y; luma];
                data.resize(luma + chroma, u);
                data.resize(luma + 2 * chroma, v);
                data
            }
        };
        Frame { width, height, format, data }
    }

    /// Fails when the buffer does not fit the size; `index` is for the message.
    pub(crate) fn check(&self, index: u64) -> Result<()> {
        let want = self.format.bytes(self.width, self.height);
        if self.width == 0 || self.height == 0 || self.data.len() != want {
            let what = format!(
                "{} bytes given, a {}x{} {:?} picture has {want}",
                self.data.len(),
                self.width,
                self.height,
                self.format
            );
            return Err(MediaError::Frame { index, what });
        }
        Ok(())
    }

    /// The same picture as interleaved RGB.
    pub fn to_rgb8(&self) -> Frame {
        let data = match self.format {
            PixelFormat::Rgb8 => self.data.clone(),
            PixelFormat::I420 => color::i420_to_rgb8(self.width as usize, self.height as usize, &self.data),
        };
        Frame { width: self.width, height: self.height, format: PixelFormat::Rgb8, data }
    }

    /// The same picture as I420, BT.709 limited range.
    pub fn to_i420(&self) -> Frame {
        let data = match self.format {
            PixelFormat::I420 => self.data.clone(),
            PixelFormat::Rgb8 => color::rgb8_to_i420(self.width as usize, self.height as usize, &self.data),
        };
        Frame { width: self.width, height: self.height, format: PixelFormat::I420, data }
    }

    /// As [`Frame::to_rgb8`] without a copy when nothing is to do.
    pub fn into_rgb8(self) -> Frame {
        if self.format == PixelFormat::Rgb8 { self } else { self.to_rgb8() }
    }

    /// The planes: (samples, width, height, samples per pixel).
    pub(crate) fn planes(&self) -> Vec<(&[u8], usize, usize, usize)> {
        let (w, h) = (self.width as usize, self.height as usize);
        match self.format {
            PixelFormat::Rgb8 => vec![(&self.data[..], w, h, 3)],
            PixelFormat::I420 => {
                let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
                let (y, uv) = self.data.split_at(w * h);
                let (u, v) = uv.split_at(cw * ch);
                vec![(y, w, h, 1), (u, cw, ch, 1), (v, cw, ch, 1)]
            }
        }
    }

    /// The part of the picture inside `rect`; the rectangle is first clipped to the picture. In I420 its left and
    /// top edges are rounded down to even numbers.
    pub fn crop(&self, rect: Rect) -> Frame {
        let step = if self.format == PixelFormat::I420 { 2 } else { 1 };
        let x = rect.x.min(self.width - 1) / step * step;
        let y = rect.y.min(self.height - 1) / step * step;
        let width = rect.width.clamp(1, self.width - x);
        let height = rect.height.clamp(1, self.height - y);
        let mut data = Vec::with_capacity(self.format.bytes(width, height));
        for (i, (plane, w, _, channels)) in self.planes().into_iter().enumerate() {
            let half = |v: u32| if i == 0 { v as usize } else { (v as usize).div_ceil(2) };
            let (px, py, pw, ph) = (half(x), half(y), half(width), half(height));
            for row in plane.chunks_exact(w * channels).skip(py).take(ph) {
                data.extend_from_slice(&row[px * channels..(px + pw) * channels]);
            }
        }
        Frame { width, height, format: self.format, data }
    }

    /// Turns the picture clockwise by `quarters` x 90 degrees (RGB only; other formats are converted).
    pub(crate) fn rotate(self, quarters: u32) -> Frame {
        let turns = quarters % 4;
        if turns == 0 {
            return self;
        }
        let src = self.into_rgb8();
        let (w, h) = (src.width as usize, src.height as usize);
        let (dw, dh) = if turns == 2 { (w, h) } else { (h, w) };
        let mut data = Vec::with_capacity(src.data.len());
        for y in 0..dh {
            for x in 0..dw {
                let (sx, sy) = match turns {
                    1 => (y, h - 1 - x),
                    2 => (w - 1 - x, h - 1 - y),
                    _ => (w - 1 - y, x),
                };
                let at = (sy * w + sx) * 3;
                data.extend_from_slice(&src.data[at..at + 3]);
            }
        }
        Frame { width: dw as u32, height: dh as u32, format: PixelFormat::Rgb8, data }
    }

    /// Mirrors left and right (RGB only; other formats are converted).
    pub(crate) fn mirror(self) -> Frame {
        let mut out = self.into_rgb8();
        let w = out.width as usize;
        for row in out.data.chunks_exact_mut(w * 3) {
            for x in 0..w / 2 {
                for c in 0..3 {
                    row.swap(x * 3 + c, (w - 1 - x) * 3 + c);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_length_is_refused() {
        let error = Frame::new(4, 4, PixelFormat::Rgb8, vec![0; 47]).unwrap_err();
        assert_eq!(error.to_string(), "frame 0: 47 bytes given, a 4x4 Rgb8 picture has 48");
    }

    #[test]
    fn crop_is_clipped_and_keeps_planes_together() {
        let frame = Frame::solid(7, 5, PixelFormat::I420, [200, 10, 10]);
        let part = frame.crop(Rect { x: 3, y: 2, width: 100, height: 2 });
        assert_eq!((part.width, part.height), (5, 2));
        assert_eq!(part, Frame::solid(5, 2, PixelFormat::I420, [200, 10, 10]));
    }

    #[test]
    fn four_quarter_turns_are_none() {
        let data: Vec<u8> = (0..2 * 3 * 3).collect();
        let frame = Frame::new(2, 3, PixelFormat::Rgb8, data).unwrap();
        let once = frame.clone().rotate(1);
        assert_eq!((once.width, once.height), (3, 2));
        // Clockwise: the left column, read upwards, becomes the top row.
        assert_eq!(once.data[..3], frame.data[2 * 2 * 3..2 * 2 * 3 + 3]);
        assert_eq!(once.clone().rotate(3), frame);
        assert_eq!(once.rotate(1).rotate(2), frame);
    }
}
