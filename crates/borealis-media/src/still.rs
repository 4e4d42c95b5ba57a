//! Pictures in and out: PNG, JPEG and WebP through the `image` crate (memory-safe decoders).

use std::io::{BufReader, Cursor};
use std::path::Path;

use image::codecs::{jpeg, png, webp};
use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError};

use crate::error::{MediaError, Result};
use crate::frame::{Frame, PixelFormat};
use crate::output::write_file;
use crate::source::{Guarded, Limits, Source};

/// The still formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Still {
    Png,
    Jpeg,
    WebP,
}

impl Still {
    /// By content, not by name.
    pub(crate) fn of_magic(head: &[u8; 12]) -> Option<Still> {
        match head {
            [0x89, b'P', b'N', b'G', ..] => Some(Still::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Still::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => Some(Still::WebP),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Still::Png => "png",
            Still::Jpeg => "jpeg",
            Still::WebP => "webp",
        }
    }
}

/// A decoder that knows its size and has decoded nothing yet.
struct Header {
    decoder: Box<dyn ImageDecoder>,
    orientation: Orientation,
}

fn header(name: &str, kind: Still, stream: Guarded, limits: &Limits) -> Result<Header> {
    let broken = |e: ImageError| image_error(name, limits, e);
    let reader = BufReader::new(stream);
    let mut decoder: Box<dyn ImageDecoder> = match kind {
        Still::Png => Box::new(png::PngDecoder::new(reader).map_err(broken)?),
        Still::Jpeg => Box::new(jpeg::JpegDecoder::new(reader).map_err(broken)?),
        Still::WebP => Box::new(webp::WebPDecoder::new(reader).map_err(broken)?),
    };
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(MediaError::Corrupt { name: name.to_owned(), what: "the picture has no pixels".to_owned() });
    }
    limits.check_pixels(name, u64::from(width), u64::from(height))?;
    let mut bounds = image::Limits::default();
    // 16-bit RGBA of the largest picture, and as much again for the decoder's own buffers.
    bounds.max_alloc = Some(limits.max_pixels.saturating_mul(16));
    decoder.set_limits(bounds).map_err(broken)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok(Header { decoder, orientation })
}

/// Width and height of a still after its orientation is honoured.
pub(crate) fn still_size(name: &str, kind: Still, stream: Guarded, limits: &Limits) -> Result<(u32, u32)> {
    let Header { decoder, orientation } = header(name, kind, stream, limits)?;
    let (width, height) = decoder.dimensions();
    let swapped = matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    Ok(if swapped { (height, width) } else { (width, height) })
}

/// Reads a PNG, JPEG or WebP as RGB: transparent parts are put over white, the EXIF orientation is honoured.
pub fn read_image(source: Source<'_>, limits: &Limits) -> Result<Frame> {
    let name = source.name();
    let mut stream = source.open(limits)?;
    let head = stream.magic().map_err(|source| MediaError::Read { name: name.clone(), source })?;
    let Some(kind) = Still::of_magic(&head) else {
        return Err(MediaError::Unsupported {
            name,
            wanted: "picture",
            what: "its first bytes belong to no PNG, JPEG or WebP".to_owned(),
            remedy: "a PNG, JPEG or WebP file",
        });
    };
    let Header { decoder, orientation } = header(&name, kind, stream, limits)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| image_error(&name, limits, e))?;
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width(), picture.height());
    let data =
        if picture.color().has_alpha() { over_white(&picture.into_rgba8()) } else { picture.into_rgb8().into_raw() };
    Frame::new(width, height, PixelFormat::Rgb8, data)
}

fn over_white(rgba: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rgba.len() / 4 * 3);
    for [r, g, b, a] in rgba.as_chunks::<4>().0 {
        let blend = |c: &u8| ((u32::from(*c) * u32::from(*a) + 255 * (255 - u32::from(*a)) + 127) / 255) as u8;
        out.extend([blend(r), blend(g), blend(b)]);
    }
    out
}

fn image_error(name: &str, limits: &Limits, error: ImageError) -> MediaError {
    let name = name.to_owned();
    match error {
        ImageError::IoError(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            MediaError::Read { name, source }
        }
        ImageError::Limits(_) => {
            MediaError::Limit { name, what: "bytes when decoded", value: u64::MAX, limit: limits.max_pixels * 16 }
        }
        other => MediaError::Corrupt { name, what: one_line(&other.to_string()) },
    }
}

/// Messages of other libraries can have several lines.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Writes a picture; the format follows the file's ending: `.png`, `.jpg`, `.jpeg` or `.webp` (lossless).
pub fn write_image(path: impl AsRef<Path>, frame: &Frame) -> Result<()> {
    let path = path.as_ref();
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let kind = match ending.as_str() {
        "png" => Still::Png,
        "jpg" | "jpeg" => Still::Jpeg,
        "webp" => Still::WebP,
        _ => {
            return Err(MediaError::Parameter {
                field: "ending of the file",
                value: format!("\"{ending}\""),
                remedy: "give a name that ends in .png, .jpg or .webp",
            });
        }
    };
    write_file(path, &encode(frame, kind)?)
}

/// Writes a PNG, whatever the file's ending.
pub fn write_png(path: impl AsRef<Path>, frame: &Frame) -> Result<()> {
    write_file(path.as_ref(), &encode(frame, Still::Png)?)
}

/// A picture as the bytes of a PNG file.
pub fn encode_png(frame: &Frame) -> Result<Vec<u8>> {
    encode(frame, Still::Png)
}

fn encode(frame: &Frame, kind: Still) -> Result<Vec<u8>> {
    frame.check(0)?;
    let converted;
    let rgb = match frame.format {
        PixelFormat::Rgb8 => frame,
        PixelFormat::I420 => {
            converted = frame.to_rgb8();
            &converted
        }
    };
    let mut out = Cursor::new(Vec::new());
    let (data, color) = (&rgb.data, ExtendedColorType::Rgb8);
    let (width, height) = (rgb.width, rgb.height);
    let done = match kind {
        Still::Png => png::PngEncoder::new(&mut out).write_image(data, width, height, color),
        Still::Jpeg => jpeg::JpegEncoder::new_with_quality(&mut out, 92).write_image(data, width, height, color),
        Still::WebP => webp::WebPEncoder::new_lossless(&mut out).write_image(data, width, height, color),
    };
    done.map_err(|e| MediaError::Frame { index: 0, what: format!("not possible as {}: {e}", kind.name()) })?;
    Ok(out.into_inner())
}
