//! Pictures: in fours, at the size that was asked for.

use borealis_engine::{Event, OutputKind, Resolution, Stage};
use borealis_media::{Filter, Frame, cover_rect, write_image};

use super::generate::{Task, add_usage, failure};
use super::{Failure, Made, Product, internal};
use crate::types::{ImageFormat, JobKind, Spec};

/// Pictures that one request of the engine makes.
const TOGETHER: usize = 4;
/// Ratios that the engine draws; others are cut from the nearest.
const DRAWN: [(&str, f64); 7] = [
    ("16:9", 16.0 / 9.0),
    ("9:16", 9.0 / 16.0),
    ("1:1", 1.0),
    ("4:3", 4.0 / 3.0),
    ("3:4", 3.0 / 4.0),
    ("3:2", 3.0 / 2.0),
    ("2:3", 2.0 / 3.0),
];

/// Makes the pictures of a job.
pub(super) fn make(task: &Task<'_>) -> Result<Product, Failure> {
    let spec = task.spec();
    let size = size(spec).ok_or_else(|| {
        let given = spec.resolution.as_deref().unwrap_or_default();
        Failure::error("invalid_argument", format!("resolution: \"{given}\" is unknown: use 1k, 2k or WIDTHxHEIGHT"))
    })?;
    // A picture that is edited is drawn with its own ratio, and cut to the wanted one afterwards.
    let from_input = spec.image.is_some() || !spec.references.is_empty();
    let free = spec.aspect_ratio.as_deref().is_none_or(|ratio| ratio == "auto");
    let aspect_ratio = (!from_input || !free).then(|| nearest(size).to_string());
    let output = (OutputKind::Image, lines(size), aspect_ratio);
    let (n, seed) = (spec.n.max(1) as usize, spec.seed.unwrap_or(0));
    let conditioning = task.conditioning()?;
    let parts = n.div_ceil(TOGETHER);
    // All of them are handed in first: they share the steps of the engine.
    let streams = (0..parts)
        .map(|part| {
            let variants = TOGETHER.min(n - part * TOGETHER);
            task.submit(conditioning.clone(), output.clone(), variants, seed.wrapping_add(part as u64))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut product = Product::default();
    for (part, stream) in streams.into_iter().enumerate() {
        let mut pictures = vec![None; stream.variants()];
        for event in stream {
            match event.map_err(failure)? {
                Event::Progress { stage: Stage::Generate, done, total } => {
                    task.context.progress((part as f64 + done as f64 / total.max(1) as f64) / parts as f64);
                }
                Event::Frame { variant, frame, .. } => {
                    if let Some(place) = pictures.get_mut(variant) {
                        *place = Some(frame);
                    }
                }
                Event::Done(usage) => add_usage(&mut product.usage, &usage),
                _ => {}
            }
        }
        for picture in pictures.into_iter().flatten() {
            keep(task, &mut product, cut(&picture, size))?;
        }
    }
    if product.made.len() != n {
        return Err(internal(format!("{} of {n} pictures came out", product.made.len())));
    }
    Ok(product)
}

fn keep(task: &Task<'_>, product: &mut Product, picture: Frame) -> Result<(), Failure> {
    task.show(&picture)?;
    let (ending, mime) = match task.spec().format {
        ImageFormat::Jpeg => ("jpg", "image/jpeg"),
        ImageFormat::Png => ("png", "image/png"),
    };
    let path = task.context.scratch().join(format!("{}.{ending}", product.made.len()));
    write_image(&path, &picture).map_err(internal)?;
    product.made.push(Made { path, mime, width: picture.width, height: picture.height, seconds: 0.0, frames: 1 });
    Ok(())
}

/// Pixels of the output: about 1 or 4 million with the wanted ratio, in steps of 16; or exactly as asked.
fn size(spec: &Spec) -> Option<(u32, u32)> {
    let area = match spec.resolution.as_deref().unwrap_or("1k") {
        "1k" => f64::from(1 << 20),
        "2k" => f64::from(1 << 22),
        exact => {
            let (width, height) = exact.split_once(['x', 'X'])?;
            let side = |text: &str| text.trim().parse::<u32>().ok().filter(|side| (16..=2048).contains(side));
            return Some((side(width)?, side(height)?));
        }
    };
    let input = spec.image.as_ref().or(spec.references.first());
    let ratio = match spec.aspect_ratio.as_deref().filter(|ratio| *ratio != "auto") {
        Some(text) => ratio_of(text)?,
        None => match input.filter(|asset| asset.width > 0 && asset.height > 0) {
            Some(asset) => (f64::from(asset.width) / f64::from(asset.height)).clamp(0.25, 4.0),
            None => 1.0,
        },
    };
    let side = |length: f64| ((length / 16.0).round() as u32 * 16).clamp(64, 4096);
    Some((side((area * ratio).sqrt()), side((area / ratio).sqrt())))
}

/// `16:9`, `19.5:9`, ... as a number.
fn ratio_of(text: &str) -> Option<f64> {
    let (width, height) = text.split_once(':')?;
    let (width, height): (f64, f64) = (width.trim().parse().ok()?, height.trim().parse().ok()?);
    let ratio = width / height;
    (ratio.is_finite() && (0.25..=4.0).contains(&ratio)).then_some(ratio)
}

/// The drawn ratio that is nearest to a size, by proportion.
fn nearest((width, height): (u32, u32)) -> &'static str {
    let ratio = f64::from(width) / f64::from(height);
    let far = |(_, drawn): &&(&str, f64)| (drawn / ratio).ln().abs();
    DRAWN.iter().min_by(|a, b| far(a).total_cmp(&far(b))).map_or("1:1", |(name, _)| name)
}

/// Enough lines for the shorter side.
fn lines((width, height): (u32, u32)) -> Resolution {
    match width.min(height) {
        ..=480 => Resolution::P480,
        481..=720 => Resolution::P720,
        _ => Resolution::P1080,
    }
}

/// The middle of a picture, at exactly that size; never stretched.
fn cut(picture: &Frame, (width, height): (u32, u32)) -> Frame {
    let picture = picture.clone().into_rgb8();
    let rect = cover_rect((picture.width, picture.height), (width, height));
    picture.crop(rect).resize(width, height, Filter::Auto)
}

impl JobKind {
    /// The largest number of outputs.
    pub(crate) fn most(self) -> u32 {
        if self.is_still() { 10 } else { 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use borealis_media::PixelFormat;

    fn spec(ratio: Option<&str>, resolution: Option<&str>) -> Spec {
        let mut spec = Spec::new(JobKind::Image, "m", "p");
        spec.aspect_ratio = ratio.map(str::to_owned);
        spec.resolution = resolution.map(str::to_owned);
        spec
    }

    #[test]
    fn sizes_have_the_ratio_and_the_pixels() {
        let ratios = "1:1 3:4 4:3 9:16 16:9 2:3 3:2 9:19.5 19.5:9 9:20 20:9 1:2 2:1";
        for ratio in ratios.split(' ') {
            for (resolution, million) in [("1k", 1.0), ("2k", 4.0)] {
                let (w, h) = size(&spec(Some(ratio), Some(resolution))).unwrap();
                let wanted = ratio_of(ratio).unwrap();
                let (got, pixels) = (f64::from(w) / f64::from(h), f64::from(w * h) / f64::from(1 << 20));
                assert!((got / wanted - 1.0).abs() < 0.03, "{ratio} {w}x{h}");
                assert!((pixels / million - 1.0).abs() < 0.03 && w % 16 == 0 && h % 16 == 0, "{ratio} {w}x{h}");
            }
        }
        assert_eq!(size(&spec(None, None)), Some((1024, 1024)));
        assert_eq!(size(&spec(None, Some("1536x1024"))), Some((1536, 1024)));
        for wrong in ["3k", "0x0", "15x100", "100x2049", "x", "100"] {
            assert_eq!(size(&spec(None, Some(wrong))), None, "{wrong}");
        }
        assert_eq!(size(&spec(Some("0:1"), None)), None);
    }

    #[test]
    fn pictures_are_cut_and_not_stretched() {
        let mut wide = Frame::solid(160, 90, PixelFormat::Rgb8, [10, 200, 10]);
        // A red stripe at the left edge is cut away when the middle is taken.
        for row in wide.data.chunks_exact_mut(160 * 3) {
            row[..30].copy_from_slice(&[255, 0, 0].repeat(10));
        }
        let square = cut(&wide, (64, 64));
        assert_eq!((square.width, square.height), (64, 64));
        assert!(square.data.chunks_exact(3).all(|p| p[0] < 60 && p[1] > 150));
        assert_eq!(nearest((2048, 1024)), "16:9");
        assert_eq!(nearest((9, 20)), "9:16");
        assert_eq!(lines((1360, 768)), Resolution::P1080);
    }
}
