//! Containers and decoders for media that strangers give: short lists of formats and codecs, no protocol but the bytes
//! at hand, and an end to every loop.

use std::time::Instant;

use ffmpeg_next::codec::{self, decoder};
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::{Dictionary, Packet, Rational, format, frame, media, packet};

use crate::error::{MediaError, Result};
use crate::ff;
use crate::source::{Guarded, Limits};

/// Demuxers by FFmpeg's names. No playlists, no concatenation, nothing that opens other files.
const FORMATS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,wav,mp3,aac,flac,ogg,gif";
/// Decoders by FFmpeg's names.
const CODECS: &str = "h264,hevc,vp8,vp9,av1,libdav1d,mpeg4,mjpeg,prores,gif,png,\
                      aac,aac_fixed,mp3,mp3float,flac,vorbis,opus,alac,\
                      pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,\
                      pcm_u8,pcm_s8,pcm_alaw,pcm_mulaw,adpcm_ms,adpcm_ima_wav";
/// Packets of one call; real files within the limits have far fewer.
const MAX_PACKETS: u64 = 4_000_000;
/// Errors in a row after which a decoder is given up.
const MAX_ERRORS: u32 = 4096;

/// A stream that will be decoded.
pub(super) struct Track {
    pub(super) index: usize,
    pub(super) time_base: f64,
    /// Seconds at which the stream starts, when the container says so.
    pub(super) start: Option<f64>,
    /// Seconds that it lasts, when the container says so.
    pub(super) seconds: Option<f64>,
    pub(super) codec: String,
}

/// An opened container.
pub(super) struct Demuxer {
    pub(super) input: Input,
    pub(super) name: String,
    limits: Limits,
    deadline: Instant,
    packets: u64,
}

impl Demuxer {
    pub(super) fn open(name: &str, stream: Guarded, limits: &Limits) -> Result<Demuxer> {
        ff::init();
        let deadline = stream.deadline;
        let unsupported = |e: ffmpeg_next::Error| {
            if Instant::now() > deadline {
                return limits.too_slow(name);
            }
            MediaError::Unsupported {
                name: name.to_owned(),
                wanted: "clip or sound",
                what: e.to_string().to_lowercase(),
                remedy: "an MP4, MOV, WebM, MKV or GIF clip, or WAV, MP3, AAC, FLAC or OGG sound",
            }
        };
        let mut options = Dictionary::new();
        options.set("format_whitelist", FORMATS);
        options.set("codec_whitelist", CODECS);
        options.set("protocol_whitelist", "none");
        options.set("max_streams", &limits.max_streams.to_string());
        options.set("probesize", "8000000");
        options.set("analyzeduration", "5000000");
        options.set("max_probe_packets", "1000");
        let io = StreamIo::from_read_seek(stream).map_err(unsupported)?;
        let expired = move || Instant::now() > deadline;
        let input = format::input_from_stream_with_interrupt(io, None, Some(options), expired).map_err(unsupported)?;
        let demuxer = Demuxer { input, name: name.to_owned(), limits: limits.clone(), deadline, packets: 0 };
        let seconds = demuxer.seconds();
        limits.check_seconds(name, seconds.unwrap_or(0.0))?;
        Ok(demuxer)
    }

    /// Seconds that the container declares.
    pub(super) fn seconds(&self) -> Option<f64> {
        let micros = self.input.duration();
        (micros > 0).then_some(micros as f64 / 1e6)
    }

    /// The stream with the most pixels that is not a cover picture.
    pub(super) fn video(&self) -> Option<Track> {
        let pixels = |s: &format::stream::Stream<'_>| {
            let (w, h, _) = ff::coded_size(&s.parameters());
            u64::from(w) * u64::from(h)
        };
        self.input
            .streams()
            .filter(|s| s.parameters().medium() == media::Type::Video)
            .filter(|s| !s.disposition().contains(Disposition::ATTACHED_PIC) && pixels(s) > 0)
            .max_by_key(|s| (pixels(s), std::cmp::Reverse(s.index())))
            .map(|s| track(&s))
    }

    /// The default audio stream, else the first.
    pub(super) fn audio(&self) -> Option<Track> {
        self.input
            .streams()
            .filter(|s| s.parameters().medium() == media::Type::Audio && ff::audio_params(&s.parameters()).0 > 0)
            .min_by_key(|s| (!s.disposition().contains(Disposition::DEFAULT), s.index()))
            .map(|s| track(&s))
    }

    /// Parameters of a stream.
    pub(super) fn params(&self, track: &Track) -> Result<codec::Parameters> {
        let stream = self.input.stream(track.index).ok_or_else(|| self.corrupt("a stream vanished"))?;
        Ok(stream.parameters())
    }

    /// Opens the decoder of a stream.
    pub(super) fn decoder(&self, track: &Track) -> Result<decoder::Opened> {
        let refused = |e: ffmpeg_next::Error| MediaError::Unsupported {
            name: self.name.clone(),
            wanted: "clip or sound",
            what: format!("its codec {} cannot be decoded: {}", track.codec, e.to_string().to_lowercase()),
            remedy: "H.264, HEVC, VP8, VP9 or AV1 pictures with AAC, MP3, FLAC, Opus, Vorbis or PCM sound",
        };
        let params = self.params(track)?;
        let codec = decoder::find(params.id()).ok_or(ffmpeg_next::Error::DecoderNotFound).map_err(refused)?;
        let mut context = codec::Context::from_parameters(params).map_err(refused)?;
        ff::allow_codecs(&mut context, CODECS, self.limits.max_pixels)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        context.set_threading(codec::threading::Config::count(threads));
        let mut decoder = context.decoder();
        if let Some(stream) = self.input.stream(track.index) {
            decoder.set_packet_time_base(stream.time_base());
        }
        decoder.open_as(codec).map_err(refused)
    }

    /// Reads on to the next packet; `None` at the end of what can be read.
    pub(super) fn next(&mut self) -> Result<Option<Packet>> {
        let mut errors = 0;
        loop {
            self.packets += 1;
            if Instant::now() > self.deadline {
                return Err(self.limits.too_slow(&self.name));
            }
            if self.packets > MAX_PACKETS {
                let (value, limit) = (self.packets, MAX_PACKETS);
                return Err(MediaError::Limit { name: self.name.clone(), what: "packets", value, limit });
            }
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) => return Ok(Some(packet)),
                // A demuxer can find its way again behind a damaged packet; all other errors are final.
                Err(ffmpeg_next::Error::InvalidData) if errors < MAX_ERRORS => errors += 1,
                Err(_) if Instant::now() > self.deadline => return Err(self.limits.too_slow(&self.name)),
                Err(_) => return Ok(None),
            }
        }
    }

    pub(super) fn corrupt(&self, what: &str) -> MediaError {
        MediaError::Corrupt { name: self.name.clone(), what: what.to_owned() }
    }
}

fn track(stream: &format::stream::Stream<'_>) -> Track {
    let time_base = seconds_of(stream.time_base());
    let known = |v: i64| (v != i64::MIN).then_some(v as f64 * time_base);
    let seconds = known(stream.duration()).filter(|s| *s > 0.0);
    let codec = stream.parameters().id().name().to_owned();
    Track { index: stream.index(), time_base, start: known(stream.start_time()), seconds, codec }
}

/// A rational as a number; zero when it has no value.
pub(super) fn seconds_of(r: Rational) -> f64 {
    if r.denominator() == 0 { 0.0 } else { f64::from(r.numerator()) / f64::from(r.denominator()) }
}

/// Sends one packet (or the end) and hands out every frame that comes; damaged packets are skipped.
pub(super) fn decode(
    decoder: &mut decoder::Opened,
    packet: Option<&Packet>,
    sink: &mut dyn FnMut(frame::Frame) -> Result<bool>,
) -> Result<bool> {
    let sent = match packet {
        Some(packet) => decoder.send_packet(packet),
        None => decoder.send_eof(),
    };
    if sent.is_err() && packet.is_some() {
        return Ok(true);
    }
    let mut errors = 0;
    loop {
        let mut frame = ff::empty_frame();
        match decoder.receive_frame(&mut frame) {
            Ok(()) => {
                if !sink(frame)? {
                    return Ok(false);
                }
            }
            Err(e) if crate::mp4::is_dry(e) => return Ok(true),
            Err(_) if errors < MAX_ERRORS => errors += 1,
            Err(_) => return Ok(true),
        }
    }
}

/// How a clip must be turned to be upright.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orientation {
    /// Mirror left and right, before the turn.
    pub(super) mirror: bool,
    /// Clockwise quarter turns.
    pub(super) quarters: u32,
}

/// The display matrix of a stream: 3x3 numbers in 16.16 fixed point, of which the upper left 2x2 turn and mirror:
/// x' = a x + c y, y' = b x + d y.
pub(super) fn orientation(input: &Input, track: &Track) -> Orientation {
    let Some(stream) = input.stream(track.index) else { return Orientation::default() };
    for side in stream.side_data() {
        let data = side.data();
        if side.kind() != packet::side_data::Type::DisplayMatrix || data.len() < 36 {
            continue;
        }
        let at =
            |i: usize| f64::from(i32::from_ne_bytes([data[4 * i], data[4 * i + 1], data[4 * i + 2], data[4 * i + 3]]));
        let (a, b, c, d) = (at(0), at(1), at(3), at(4));
        let mirror = a * d - b * c < 0.0;
        let (a, b) = if mirror { (-a, -b) } else { (a, b) };
        if a == 0.0 && b == 0.0 {
            break;
        }
        let quarters = (b.atan2(a) / std::f64::consts::FRAC_PI_2).round() as i64;
        return Orientation { mirror, quarters: quarters.rem_euclid(4) as u32 };
    }
    Orientation::default()
}
