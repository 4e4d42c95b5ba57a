//! The video encoder: by name at run time, the first that opens.

use ffmpeg_next::codec::{self, encoder};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::{Dictionary, Packet, Rational, color};

use crate::color::rgb8_to_i420;
use crate::error::{MediaError, Result};
use crate::ff;
use crate::frame::{Frame, PixelFormat};
use crate::mp4::spec::{Quality, VideoSpec};

/// Encoders in the order of preference.
const PREFERRED: [&str; 6] = ["libx264", "h264_nvenc", "h264_videotoolbox", "h264_vaapi", "libopenh264", "mpeg4"];

/// The video encoders of [`VideoSpec::encoder`] that the installed FFmpeg has, in order of preference. Those for
/// hardware may still fail to open when the device is missing.
pub fn encoders() -> Vec<&'static str> {
    ff::init();
    PREFERRED.into_iter().filter(|name| encoder::find_by_name(name).is_some()).collect()
}

pub(super) struct VideoEncoder {
    context: encoder::video::Encoder,
    name: String,
    next: i64,
    /// Where the encoder takes its pictures from, when not from memory.
    surfaces: Option<ff::Surfaces>,
}

impl VideoEncoder {
    /// `live`: packets must leave without reordering or look-ahead.
    pub(super) fn open(spec: &VideoSpec, live: bool) -> Result<Self> {
        let names: Vec<&str> = match &spec.encoder {
            Some(name) => vec![name.as_str()],
            None => PREFERRED.to_vec(),
        };
        let mut tried = Vec::with_capacity(names.len());
        for name in names {
            match open_one(name, spec, live) {
                Ok((context, surfaces)) => {
                    return Ok(VideoEncoder { context, name: name.to_owned(), next: 0, surfaces });
                }
                Err(error) => tried.push(format!("{name}: {error}")),
            }
        }
        Err(MediaError::Encoder { tried: tried.join(", ") })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn context(&self) -> &encoder::video::Encoder {
        &self.context
    }

    pub(super) fn time_base(&self) -> Rational {
        self.context.time_base()
    }

    /// Encodes one frame; packets go to `sink`.
    pub(super) fn push(&mut self, frame: &Frame, sink: &mut dyn FnMut(Packet) -> Result<()>) -> Result<()> {
        let converted;
        let data = match frame.format {
            PixelFormat::I420 => &frame.data,
            PixelFormat::Rgb8 => {
                converted = rgb8_to_i420(frame.width as usize, frame.height as usize, &frame.data);
                &converted
            }
        };
        let fail = |e| MediaError::ffmpeg("encoding a frame", e);
        let mut picture = ff::video_frame(frame.width, frame.height, data, self.next, self.surfaces.is_some())?;
        if let Some(surfaces) = &mut self.surfaces {
            picture = surfaces.upload(&picture).map_err(fail)?;
        }
        self.next += 1;
        self.context.send_frame(&picture).map_err(fail)?;
        self.drain(sink)
    }

    /// Encodes what the encoder still holds.
    pub(super) fn finish(&mut self, sink: &mut dyn FnMut(Packet) -> Result<()>) -> Result<()> {
        self.context.send_eof().map_err(|e| MediaError::ffmpeg("ending the video", e))?;
        self.drain(sink)
    }

    fn drain(&mut self, sink: &mut dyn FnMut(Packet) -> Result<()>) -> Result<()> {
        loop {
            let mut packet = Packet::empty();
            match self.context.receive_packet(&mut packet) {
                Ok(()) => {
                    packet.set_duration(1);
                    sink(packet)?;
                }
                Err(e) if is_dry(e) => return Ok(()),
                Err(e) => return Err(MediaError::ffmpeg("encoding a frame", e)),
            }
        }
    }
}

/// The two answers that end a drain loop.
pub(crate) fn is_dry(error: ffmpeg_next::Error) -> bool {
    use ffmpeg_next::util::error::EAGAIN;
    matches!(error, ffmpeg_next::Error::Eof) || error == ffmpeg_next::Error::Other { errno: EAGAIN }
}

type Opened = (encoder::video::Encoder, Option<ff::Surfaces>);

fn open_one(name: &str, spec: &VideoSpec, live: bool) -> std::result::Result<Opened, ffmpeg_next::Error> {
    let codec = encoder::find_by_name(name).ok_or(ffmpeg_next::Error::EncoderNotFound)?;
    let mut context = codec::Context::new_with_codec(codec);
    ff::set_chroma_centre(&mut context);
    // The MP4 header carries the parameter sets; bitexact keeps version strings and times out of the stream.
    let mut flags = codec::Flags::GLOBAL_HEADER | codec::Flags::BITEXACT;
    if name == "mpeg4" {
        flags |= codec::Flags::QSCALE;
    }
    context.set_flags(flags);
    context.set_threading(codec::threading::Config::count(spec.threads));
    let mut video = context.encoder().video()?;
    video.set_width(spec.width);
    video.set_height(spec.height);
    video.set_format(Pixel::YUV420P);
    video.set_time_base(Rational(1, spec.fps as i32));
    video.set_frame_rate(Some(Rational(spec.fps as i32, 1)));
    video.set_aspect_ratio(Rational(1, 1));
    video.set_gop(2 * spec.fps);
    video.set_colorspace(color::Space::BT709);
    video.set_color_range(color::Range::MPEG);
    video.set_color_primaries(color::Primaries::BT709);
    video.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
    if live || matches!(name, "mpeg4" | "h264_nvenc" | "h264_videotoolbox" | "h264_vaapi") {
        video.set_max_b_frames(0);
    }
    if matches!(name, "h264_videotoolbox" | "libopenh264") {
        // No constant quality everywhere: bits per pixel instead.
        let bits = pick(spec.quality, 0.08, 0.14, 0.25);
        let rate = f64::from(spec.width) * f64::from(spec.height) * f64::from(spec.fps) * bits;
        video.set_bit_rate(rate as usize);
    }
    if name == "mpeg4" {
        video.set_global_quality(pick(spec.quality, 5, 3, 2) * ffmpeg_next::ffi::FF_QP2LAMBDA);
    }
    let surfaces = if name == "h264_vaapi" { Some(ff::Surfaces::open(spec.width, spec.height)?) } else { None };
    if let Some(surfaces) = &surfaces {
        surfaces.attach(&mut video);
    }
    Ok((video.open_as_with(codec, options(name, spec.quality, live))?, surfaces))
}

fn pick<T>(quality: Quality, fast: T, balanced: T, best: T) -> T {
    match quality {
        Quality::Fast => fast,
        Quality::Balanced => balanced,
        Quality::Best => best,
    }
}

fn options(name: &str, quality: Quality, live: bool) -> Dictionary<'static> {
    let mut options = Dictionary::new();
    match name {
        "libx264" => {
            options.set("preset", pick(quality, "superfast", "veryfast", "medium"));
            options.set("crf", pick(quality, "23", "20", "17"));
            if live {
                options.set("tune", "zerolatency");
            }
        }
        "h264_nvenc" => {
            options.set("preset", pick(quality, "p2", "p4", "p6"));
            options.set("rc", "vbr");
            options.set("cq", pick(quality, "25", "21", "18"));
            options.set("tune", if live { "ull" } else { "hq" });
        }
        "h264_videotoolbox" => {
            options.set("allow_sw", "1");
            options.set("realtime", if live { "1" } else { "0" });
        }
        "h264_vaapi" => options.set("qp", pick(quality, "26", "22", "19")),
        _ => {}
    }
    options
}
