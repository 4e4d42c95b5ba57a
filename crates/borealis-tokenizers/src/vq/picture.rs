//! From a picture of any size to the pixels that a tokenizer or a vision tower reads, as `preprocessor_config.json` says it.

use borealis_media::Frame;
use borealis_weights::{Node, parse_json};

use crate::vq::config::VqFamily;
use crate::vq::map::FeatureMap;
use crate::vq::resample::{Resample, resize};
use crate::{Result, TokenizerError};

const FILE: &str = "preprocessor_config.json";
/// Longest side that anything is resized to.
const MAX_SIDE: u32 = 1 << 14;

/// How the size of the pixels follows from the picture's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// Sides are multiples of `factor`, the area lies between two bounds, the ratio is kept as well as these allow.
    Area { factor: usize, least: usize, most: usize },
    /// The area is `area`, the ratio is kept, sides are rounded to multiples of `factor` (Emu3.5).
    Exact { factor: usize, area: usize },
    /// The shorter side becomes `edge`, then the middle of `crop` x `crop` is cut out.
    Crop { edge: usize, crop: usize },
    /// The longer side becomes `side`, the shorter one at least `least`; what is missing to a square is filled with one colour.
    Square { side: usize, least: usize },
}

/// How pictures become pixels, and pixels pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureRule {
    fit: Option<Fit>,
    kernel: Resample,
    /// A byte times this, minus `mean`, divided by `std`.
    scale: f32,
    mean: [f32; 3],
    std: [f32; 3],
}

impl PictureRule {
    /// The rule of a family's own processor; `json`: the checkpoint's `preprocessor_config.json`, which overrides it field by field.
    ///
    /// Without the file, pixels of Emu3, Emu3.5, taming and Janus go from -1 to 1, as their published files say.
    ///
    /// # Errors
    /// With the field, its value, and what it must be.
    pub fn new(family: VqFamily, factor: usize, json: Option<&[u8]>) -> Result<Self> {
        let value = match json {
            Some(bytes) => parse_json(FILE, bytes)?,
            None => serde_json::Value::Object(serde_json::Map::new()),
        };
        let node = Node::root(FILE, &value);
        let half = [0.5; 3];
        let (kernel, scale, mean, std) = match family {
            VqFamily::Chameleon => (Resample::Lanczos, 0.0078, [1.0; 3], [1.0; 3]),
            _ => (Resample::Bicubic, 1.0 / 255.0, half, half),
        };
        let fit = match family {
            VqFamily::Ibq => Fit::Exact { factor, area: area(&node, "max_pixels", 1024 * 1024)? },
            VqFamily::Emu3 | VqFamily::Taming => Fit::Area {
                factor: size(&node, "spatial_factor", factor)?,
                least: area(&node, "min_pixels", 512 * 512)?,
                most: area(&node, "max_pixels", 1024 * 1024)?,
            },
            VqFamily::Chameleon => Fit::Crop {
                edge: within(&node, "size", "shortest_edge", 512)?,
                crop: within(&node, "crop_size", "height", 512)?,
            },
            VqFamily::Janus => {
                Fit::Square { side: within(&node, "size", "height", 384)?, least: size(&node, "min_size", 14)? }
            }
        };
        let on = |key: &str| -> Result<bool> { Ok(node.opt(key)?.map(|n| n.boolean()).transpose()?.unwrap_or(true)) };
        let (resized, rescaled, normed) = (on("do_resize")?, on("do_rescale")?, on("do_normalize")?);
        let factor = node.opt("rescale_factor")?.map(|n| n.number(1e-6, 1.0)).transpose()?;
        Ok(Self {
            fit: resized.then_some(fit),
            kernel: Resample::read(&node, kernel)?,
            scale: if rescaled { factor.map_or(scale, |f| f as f32) } else { 1.0 },
            mean: if normed { three(&node, "image_mean", mean)? } else { [0.0; 3] },
            std: if normed { three(&node, "image_std", std)? } else { [1.0; 3] },
        })
    }

    /// With another side of the square (a vision tower reads one size only).
    #[must_use]
    pub fn with_side(mut self, side: usize) -> Self {
        self.fit = self.fit.map(|fit| match fit {
            Fit::Square { least, .. } => Fit::Square { side, least },
            Fit::Crop { .. } => Fit::Crop { edge: side, crop: side },
            other => other,
        });
        self
    }

    /// The pixels of a picture.
    ///
    /// # Errors
    /// [`TokenizerError::Size`] for a picture without pixels or more than 200 times as long as wide.
    pub fn pixels(&self, picture: &Frame) -> Result<FeatureMap> {
        let rgb = picture.to_rgb8();
        let from = (rgb.width as usize, rgb.height as usize);
        let (long, short) = (from.0.max(from.1), from.0.min(from.1));
        if short == 0 || long > 200 * short {
            return Err(TokenizerError::size("picture", from.0, from.1, "must be at most 200 times as long as wide"));
        }
        let (bytes, (width, height)) = match self.fit {
            None => (rgb.data.clone(), from),
            Some(Fit::Area { factor, least, most }) => {
                let to = in_area(from, factor, least, most);
                (resize(&rgb.data, from, to, self.kernel), to)
            }
            Some(Fit::Exact { factor, area }) => {
                let to = of_area(from, factor, area);
                (resize(&rgb.data, from, to, self.kernel), to)
            }
            Some(Fit::Crop { edge, crop }) => {
                let to = (from.0 * edge / short, from.1 * edge / short);
                let bytes = resize(&rgb.data, from, to, self.kernel);
                (cut(&bytes, to, crop), (crop, crop))
            }
            Some(Fit::Square { side, least }) => {
                let scaled =
                    |s: usize| ((s as f64 * (side as f64 / long as f64)).round_ties_even() as usize).max(least);
                let to = (scaled(from.0).min(side), scaled(from.1).min(side));
                let bytes = resize(&rgb.data, from, to, self.kernel);
                (fill(&bytes, to, side, self.mean.map(|m| (m * 255.0) as u8)), (side, side))
            }
        };
        let mut map = FeatureMap::zeros(1, (height, width), 3);
        for (place, rgb) in map.data.chunks_exact_mut(3).zip(bytes.chunks_exact(3)) {
            for c in 0..3 {
                place[c] = (f32::from(rgb[c]) * self.scale - self.mean[c]) / self.std[c];
            }
        }
        Ok(map)
    }

    /// Interleaved RGB bytes of decoded pixels: the way back, rounded to the nearest byte.
    pub fn bytes(&self, pixels: &[f32]) -> Vec<u8> {
        let byte = |(i, v): (usize, &f32)| {
            let c = i % 3;
            ((v * self.std[c] + self.mean[c]) / self.scale).round().clamp(0.0, 255.0) as u8
        };
        pixels.iter().enumerate().map(byte).collect()
    }
}

/// The `smart_resize` of Qwen2-VL and Emu3: sides rounded (ties to even) to multiples of `factor`, the area brought within its bounds.
fn in_area((width, height): (usize, usize), factor: usize, least: usize, most: usize) -> (usize, usize) {
    let (w, h, f) = (width as f64, height as f64, factor as f64);
    let near = |side: f64| ((side / f).round_ties_even() as usize) * factor;
    let (nw, nh) = (near(w), near(h));
    if nw * nh > most {
        let shrink = (w * h / most as f64).sqrt();
        let side = |s: f64| (((s / shrink / f).floor() as usize) * factor).max(factor);
        return (side(w), side(h));
    }
    if nw * nh < least {
        let grow = (least as f64 / (w * h)).sqrt();
        let side = |s: f64| ((s * grow / f).ceil() as usize) * factor;
        return (side(w), side(h));
    }
    (nw, nh)
}

/// The `smart_resize` of Emu3.5: the height follows from the area, the width from the height; both rounded (halves up) to multiples of `factor`.
fn of_area((width, height): (usize, usize), factor: usize, area: usize) -> (usize, usize) {
    let ratio = width as f64 / height as f64;
    let height = (area as f64 / ratio).sqrt() as usize;
    let width = (height as f64 * ratio) as usize;
    let near = |side: usize| ((side + factor / 2) / factor * factor).max(factor);
    (near(width), near(height))
}

/// The middle `side` x `side` of a picture of size `from`; black where it is smaller.
fn cut(bytes: &[u8], from: (usize, usize), side: usize) -> Vec<u8> {
    let (top, left) = (from.1.saturating_sub(side) / 2, from.0.saturating_sub(side) / 2);
    let mut out = vec![0; side * side * 3];
    let width = side.min(from.0) * 3;
    for y in 0..side.min(from.1) {
        let at = ((top + y) * from.0 + left) * 3;
        out[y * side * 3..][..width].copy_from_slice(&bytes[at..at + width]);
    }
    out
}

/// A picture in the middle of a square of one colour.
fn fill(bytes: &[u8], from: (usize, usize), side: usize, colour: [u8; 3]) -> Vec<u8> {
    let mut out = colour.repeat(side * side);
    let (top, left) = ((side - from.1) / 2, (side - from.0) / 2);
    for (y, line) in bytes.chunks_exact(from.0 * 3).enumerate() {
        out[((top + y) * side + left) * 3..][..line.len()].copy_from_slice(line);
    }
    out
}

fn size(node: &Node<'_>, key: &str, default: usize) -> Result<usize> {
    Ok(node.opt(key)?.map(|n| n.size(1, MAX_SIDE)).transpose()?.unwrap_or(default))
}

fn area(node: &Node<'_>, key: &str, default: usize) -> Result<usize> {
    Ok(node.opt(key)?.map(|n| n.size(1, MAX_SIDE * MAX_SIDE)).transpose()?.unwrap_or(default))
}

/// A size that is a number, or an object whose field `part` is one.
fn within(node: &Node<'_>, key: &str, part: &str, default: usize) -> Result<usize> {
    match node.opt(key)? {
        Some(n) if n.value().is_object() => size(&n, part, default),
        Some(n) => Ok(n.size(1, MAX_SIDE)?),
        None => Ok(default),
    }
}

/// A number for each colour, or one for all.
fn three(node: &Node<'_>, key: &str, default: [f32; 3]) -> Result<[f32; 3]> {
    let Some(n) = node.opt(key)? else { return Ok(default) };
    let low = if key == "image_std" { 1e-6 } else { -1e3 };
    if n.value().is_number() {
        return Ok([n.number(low, 1e3)? as f32; 3]);
    }
    let list = n.list(3)?;
    let [r, g, b] = &list[..] else { return Err(n.fail("must be 3 numbers").into()) };
    Ok([r.number(low, 1e3)? as f32, g.number(low, 1e3)? as f32, b.number(low, 1e3)? as f32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use borealis_media::PixelFormat;

    /// Sizes of the reference's `smart_resize`.
    #[test]
    fn areas() {
        for (from, factor, least, most, wanted) in [
            ((512, 512), 8, 262144, 1048576, (512, 512)),
            ((640, 480), 8, 262144, 1048576, (640, 480)),
            ((300, 200), 8, 262144, 1048576, (632, 424)),
            ((4000, 1000), 8, 262144, 1048576, (2048, 512)),
            ((100, 20), 8, 1024, 4096, (96, 16)),
            ((36, 44), 8, 1024, 4096, (32, 48)),
            ((1921, 1081), 16, 262144, 1048576, (1360, 768)),
            ((7, 900), 8, 262144, 1048576, (48, 5808)),
        ] {
            assert_eq!(in_area(from, factor, least, most), wanted, "{from:?}");
        }
    }

    #[test]
    fn exact_areas() {
        for (from, wanted) in [
            ((512, 512), (1024, 1024)),
            ((1920, 1080), (1360, 768)),
            ((100, 300), (592, 1776)),
            ((640, 480), (1184, 880)),
        ] {
            assert_eq!(of_area(from, 16, 1024 * 1024), wanted, "{from:?}");
        }
    }

    fn frame(width: u32, height: u32) -> Frame {
        let data = (0..width * height * 3).map(|i| (i * 7 % 256) as u8).collect();
        Frame { width, height, format: PixelFormat::Rgb8, data }
    }

    #[test]
    fn bytes_survive_both_ways() {
        let json = br#"{"min_pixels": 64, "max_pixels": 4096, "resample": 2}"#;
        let rule = PictureRule::new(VqFamily::Emu3, 8, Some(json)).unwrap();
        let picture = frame(16, 24);
        let pixels = rule.pixels(&picture).unwrap();
        assert_eq!((pixels.width, pixels.height, pixels.channels), (16, 24, 3));
        assert!(pixels.data.iter().all(|v| (-1.0..=1.0).contains(v)));
        assert_eq!(rule.bytes(&pixels.data), picture.data);
    }

    #[test]
    fn squares_are_filled_and_cut() {
        let rule = PictureRule::new(VqFamily::Janus, 16, None).unwrap().with_side(32);
        let pixels = rule.pixels(&frame(64, 16)).unwrap();
        assert_eq!((pixels.width, pixels.height), (32, 32));
        // The first lines are filled with the mean: nothing.
        assert!(pixels.data[..32 * 3 * 8].iter().all(|v| v.abs() < 0.01));
        let rule =
            PictureRule::new(VqFamily::Chameleon, 16, Some(br#"{"size": {"shortest_edge": 8}, "crop_size": 8}"#));
        let pixels = rule.unwrap().pixels(&frame(8, 16)).unwrap();
        let first = frame(8, 16).data[4 * 8 * 3];
        assert_eq!((pixels.width, pixels.height, pixels.data[0]), (8, 8, f32::from(first) * 0.0078 - 1.0));
    }

    #[test]
    fn wrong_fields_are_named() {
        for (json, part) in [
            (&br#"{"image_mean": [0.5, 0.5]}"#[..], "image_mean is a list of 2: must be 3 numbers"),
            (br#"{"resample": 0}"#, "resample is 0: must be 1 (Lanczos)"),
            (br#"{"image_std": 0}"#, "image_std is 0"),
            (br#"{"min_pixels": "x"}"#, "min_pixels is \"x\""),
        ] {
            let error = PictureRule::new(VqFamily::Emu3, 8, Some(json)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(PictureRule::new(VqFamily::Emu3, 8, None).unwrap().pixels(&frame(1, 300)).is_err());
    }
}
