//! The inside of a media process.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use borealis_media::{
    ClipRange, ClipSpec, Filter, Frame, Kind, Limits, MediaError, Mp4Writer, Quality, Source, VideoSpec, encode_png,
    probe, read_clip_with, read_frames, read_image,
};
use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Head, Task, seal, wire};
use crate::config::MAX_UPLOAD_BODY;

/// Memory of the process.
const MEMORY: u64 = 512 << 20;
/// CPU seconds for a picture or a frame: decoding one takes well under a second.
const CPU_SECONDS: u64 = 10;
/// CPU seconds for a clip: up to 30 seconds of 720p are decoded, scaled and encoded anew, each in about half a second.
const CLIP_CPU_SECONDS: u64 = 60;
/// Longest side of a picture that comes out.
const SIDE: u32 = 2048;
/// Lines and rate of a clip that comes out.
const LINES: u32 = 720;
const FPS: u32 = 24;
const RATE: u32 = 48_000;
/// Longest clip that is read.
const SECONDS: f64 = 30.5;

/// `borealis media`: one task from standard input, one answer to standard output.
pub fn run() -> io::Result<()> {
    seal::seal();
    confine(CLIP_CPU_SECONDS)?;
    let mut message = Vec::new();
    io::stdin().lock().take(MAX_UPLOAD_BODY + (1 << 20)).read_to_end(&mut message)?;
    let (task, bytes): (Task, Bytes) = wire::split(message.into())?;
    if !matches!(task, Task::Clip | Task::Cut { .. }) {
        confine(CPU_SECONDS)?;
    }
    let (head, bytes) = perform(task, &bytes);
    let mut out = io::stdout().lock();
    out.write_all(&wire::head(&head, bytes.len() as u64).map_err(io::Error::other)?)?;
    out.write_all(&bytes)?;
    out.flush()
}

/// Takes away what the work does not need: memory, time, files that grow, core dumps.
fn confine(cpu: u64) -> io::Result<()> {
    for (resource, limit) in [
        (Resource::Data, MEMORY),
        (Resource::Cpu, cpu),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nofile, 64),
    ] {
        // Never more than what the system allows already.
        let limit = Some(getrlimit(resource).maximum.map_or(limit, |most| most.min(limit)));
        setrlimit(resource, Rlimit { current: limit, maximum: limit })?;
    }
    Ok(())
}

/// Does a task; whatever is wrong becomes a refusal of ours.
pub(super) fn perform(task: Task, bytes: &[u8]) -> (Head, Bytes) {
    let source = Source::Bytes { name: "input", data: bytes };
    let done = match task {
        Task::Check => Ok((Head { open: seal::open_doors(), ..Head::default() }, Bytes::new())),
        Task::Picture => picture(source),
        Task::Clip => clip(source, usize::MAX),
        Task::Cut { frames } => clip(source, frames as usize),
        Task::Frame { second } => frame(source, second),
    };
    match done {
        Ok(done) => done,
        Err(error) => (Head { refused: Some(sentence(task, &error)), ..Head::default() }, Bytes::new()),
    }
}

/// What a client reads when the process did not answer.
pub(super) fn refusal(task: Task) -> Head {
    let refused = match task {
        Task::Check => "the process cannot check itself: see the server's log",
        Task::Picture => "the picture cannot be read: give a PNG, JPEG or WebP file",
        Task::Clip | Task::Cut { .. } | Task::Frame { .. } => {
            "the clip cannot be read: give an MP4 file of at most 30 seconds"
        }
    };
    Head { refused: Some(refused.into()), ..Head::default() }
}

/// Our own words; what a decoder says of a stranger's bytes is never repeated.
fn sentence(task: Task, error: &MediaError) -> String {
    let thing = if task == Task::Picture { "picture" } else { "clip" };
    match error {
        MediaError::Limit { what: what @ ("pixels" | "seconds" | "frames" | "bytes"), value, limit, .. } => {
            format!("the {thing} has {value} {what}, at most {limit} are allowed: give a smaller one")
        }
        MediaError::TooSlow { .. } => format!("the {thing} takes too long to read: give a simpler one"),
        MediaError::Truncated { .. } => format!("the {thing} is cut short: send all of it"),
        MediaError::NoTrack { .. } => format!("the {thing} has no pictures: give one that has some"),
        _ => refusal(task).refused.unwrap_or_default(),
    }
}

fn limits() -> Limits {
    Limits {
        max_seconds: SECONDS,
        max_pixels: 40_000_000,
        max_bytes: MAX_UPLOAD_BODY,
        max_streams: 8,
        max_frames: 4_000,
        max_decoded_bytes: 256 << 20,
        max_wall: Duration::from_secs(50),
    }
}

type Done = Result<(Head, Bytes), MediaError>;

fn picture(source: Source<'_>) -> Done {
    still(read_image(source, &limits())?)
}

/// A picture as a PNG, made smaller when it is large.
fn still(picture: Frame) -> Done {
    let picture = picture.into_rgb8();
    let longest = picture.width.max(picture.height);
    let picture = if longest > SIDE {
        let scaled = |side: u32| (u64::from(side) * u64::from(SIDE) / u64::from(longest)).max(1) as u32;
        picture.resize(scaled(picture.width), scaled(picture.height), Filter::Area)
    } else {
        picture
    };
    let bytes = encode_png(&picture)?;
    Ok((Head { width: picture.width, height: picture.height, ..Head::default() }, bytes.into()))
}

/// The first `most` frames of a clip, and the sound under them.
fn clip(source: Source<'_>, most: usize) -> Done {
    let limits = limits();
    let info = probe(source, &limits)?;
    if info.kind != Kind::Video {
        return Err(MediaError::NoTrack { name: "input".into(), what: "video" });
    }
    let (width, height) = size(info.width, info.height);
    let audio_rate = info.audio.is_some().then_some(RATE);
    let spec = ClipSpec { fps: FPS, audio_rate, range: ClipRange::All, canvas: Some((width, height)) };
    let sink = Sink::default();
    let video = VideoSpec { audio_rate, quality: Quality::Fast, ..VideoSpec::new(width, height, FPS) };
    let mut writer = Mp4Writer::stream(Box::new(sink.clone()), video)?;
    let (mut failed, mut taken) = (None, 0);
    // The rest is read, too: its sound may lie before the pictures in the file.
    let (frames, sound) = read_frames(source, &spec, &limits, &mut |frame| {
        taken += 1;
        if taken > most {
            return true;
        }
        writer.push_owned(frame).map_err(|error| failed = Some(error)).is_ok()
    })?;
    failed.map_or(Ok(()), Err)?;
    if frames == 0 {
        return Err(MediaError::NoTrack { name: "input".into(), what: "video" });
    }
    if let Some(sound) = sound {
        let samples = sound.to_mono().samples;
        let end = most.saturating_mul((RATE / FPS) as usize).min(samples.len());
        writer.push_audio(&samples[..end])?;
    }
    let written = writer.finish()?;
    Ok((Head { width, height, seconds: written.seconds, ..Head::default() }, sink.take().into()))
}

/// At most 720 lines of the shorter side and 1280 pixels of the longer, both even and at least 16.
fn size(width: u32, height: u32) -> (u32, u32) {
    let (short, long) = (f64::from(width.min(height).max(1)), f64::from(width.max(height).max(1)));
    let scale = (f64::from(LINES) / short).min(1280.0 / long).min(1.0);
    let side = |side: u32| ((f64::from(side) * scale / 2.0).round() as u32 * 2).clamp(16, 1280);
    (side(width), side(height))
}

fn frame(source: Source<'_>, second: Option<f64>) -> Done {
    let limits = limits();
    let nothing = || MediaError::NoTrack { name: "input".into(), what: "video" };
    let spec = ClipSpec { fps: FPS, audio_rate: None, range: ClipRange::Last(1.0 / f64::from(FPS)), canvas: None };
    let Some(second) = second else {
        return still(read_clip_with(source, &spec, &limits)?.frames.pop().ok_or_else(nothing)?);
    };
    let wanted = (second.clamp(0.0, SECONDS) * f64::from(FPS)).floor() as usize;
    let (mut at, mut found) = (0, None);
    let spec = ClipSpec { range: ClipRange::All, ..spec };
    read_frames(source, &spec, &limits, &mut |frame| {
        found = Some(frame);
        at += 1;
        at <= wanted
    })?;
    still(found.ok_or_else(nothing)?)
}

/// Collects what a writer writes.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use borealis_media::PixelFormat;

    fn png(width: u32, height: u32) -> Vec<u8> {
        encode_png(&Frame::solid(width, height, PixelFormat::Rgb8, [200, 30, 30])).unwrap()
    }

    fn mp4(frames: usize) -> Vec<u8> {
        let sink = Sink::default();
        let spec = VideoSpec::new(64, 48, FPS).with_audio(RATE);
        let mut writer = Mp4Writer::stream(Box::new(sink.clone()), spec).unwrap();
        for n in 0..frames {
            let level = (n * 255 / frames) as u8;
            writer.push_owned(Frame::solid(64, 48, PixelFormat::Rgb8, [level, level, level])).unwrap();
        }
        writer.finish().unwrap();
        sink.take()
    }

    #[test]
    fn pictures_come_out_as_png_and_not_too_large() {
        let (head, bytes) = perform(Task::Picture, &png(3000, 30));
        assert_eq!((head.refused, head.width, head.height), (None, 2048, 20));
        let again = read_image(Source::Bytes { name: "x", data: &bytes }, &Limits::default()).unwrap();
        assert_eq!((again.width, again.height), (2048, 20));
        assert_eq!(perform(Task::Picture, &png(7, 5)).0.width, 7);
    }

    #[test]
    fn clips_come_out_as_clips_with_their_frames() {
        let (head, bytes) = perform(Task::Clip, &mp4(24));
        assert_eq!((head.refused, head.width, head.height), (None, 64, 48));
        assert!((head.seconds - 1.0).abs() < 1e-6, "{}", head.seconds);
        let (first, _) = perform(Task::Frame { second: Some(0.0) }, &bytes);
        assert_eq!((first.refused, first.width), (None, 64));
        let level = |task| {
            let (_, bytes) = perform(task, &bytes);
            read_image(Source::Bytes { name: "x", data: &bytes }, &Limits::default()).unwrap().data[0]
        };
        let (first, middle, last) = (
            level(Task::Frame { second: Some(0.0) }),
            level(Task::Frame { second: Some(0.5) }),
            level(Task::Frame { second: None }),
        );
        assert!(first < 20 && (100..150).contains(&middle) && last > 220, "{first} {middle} {last}");
    }

    #[test]
    fn a_cut_clip_ends_with_the_frame_that_was_named() {
        let whole = mp4(24);
        let (head, bytes) = perform(Task::Cut { frames: 13 }, &whole);
        assert_eq!(head.refused, None);
        assert!((head.seconds - 13.0 / 24.0).abs() < 1e-6, "{}", head.seconds);
        let (_, last) = perform(Task::Frame { second: None }, &bytes);
        let level = read_image(Source::Bytes { name: "x", data: &last }, &Limits::default()).unwrap().data[0];
        assert!((110..145).contains(&level), "{level}");
        assert!((perform(Task::Cut { frames: 99 }, &whole).0.seconds - 1.0).abs() < 1e-6);
    }

    #[test]
    fn strangers_hear_our_words_only() {
        let whole = mp4(12);
        for (task, bytes) in [
            (Task::Picture, b"not a picture".to_vec()),
            (Task::Picture, png(9, 9)[..40].to_vec()),
            (Task::Clip, png(9, 9)),
            (Task::Clip, b"#EXTM3U\nfile:///etc/passwd\n".to_vec()),
            (Task::Clip, whole[..whole.len() / 3].to_vec()),
            (Task::Frame { second: None }, Vec::new()),
        ] {
            let (head, out) = perform(task, &bytes);
            let text = head.refused.expect("refused");
            assert!(out.is_empty() && text.starts_with("the ") && !text.contains("input"), "{text}");
        }
    }

    #[test]
    fn sizes_are_even_and_within_720p() {
        for (from, to) in [
            ((1920, 1080), (1280, 720)),
            ((1080, 1920), (720, 1280)),
            ((640, 361), (640, 362)),
            ((4000, 20), (1280, 16)),
        ] {
            assert_eq!(size(from.0, from.1), to);
        }
    }
}
