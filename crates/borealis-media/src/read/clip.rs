//! Clips in: decoded, turned upright, resampled in time.

use std::collections::VecDeque;

use ffmpeg_next::frame;

use crate::error::{MediaError, Result};
use crate::ff;
use crate::frame::Frame;
use crate::pcm::{Pcm, check_rate, scaled_len};
use crate::read::Clip;
use crate::read::audio::Collector;
use crate::read::demux::{self, Demuxer, Track, decode};
use crate::read::paint::Painter;
use crate::source::{Limits, Source};

/// Which part of a clip is read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum ClipRange {
    /// All of it.
    #[default]
    All,
    /// The last seconds; the decoder starts at the key frame before them.
    Last(f64),
}

/// How a clip is read.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipSpec {
    /// Frames per second of the result, 1 to 240.
    pub fps: u32,
    /// Samples per second of the result; `None` leaves the sound out.
    pub audio_rate: Option<u32>,
    /// Which part.
    pub range: ClipRange,
    /// Put every frame on a canvas of (width, height), as [`crate::fit`] does, while decoding: memory is taken for
    /// frames of this size only. `None` keeps the clip's own size.
    pub canvas: Option<(u32, u32)>,
}

/// Frame k shows what is on the screen this much of a frame after its own start: late enough for time stamps rounded to
/// milliseconds, early enough to take the first of two frames at double rate.
const PHASE: f64 = 0.45;

/// Reads a whole clip with its sound.
pub fn read_clip(source: Source<'_>, fps: u32, audio_rate: u32, limits: &Limits) -> Result<Clip> {
    let spec = ClipSpec { fps, audio_rate: Some(audio_rate), range: ClipRange::All, canvas: None };
    read_clip_with(source, &spec, limits)
}

/// Reads a clip, or the end of one, perhaps onto a canvas.
pub fn read_clip_with(source: Source<'_>, spec: &ClipSpec, limits: &Limits) -> Result<Clip> {
    check(spec)?;
    match spec.range {
        ClipRange::All => Ok(Reader::open(source, spec, limits, None)?.run()?.0),
        ClipRange::Last(seconds) => {
            let wanted = ((seconds * f64::from(spec.fps)).round() as usize).max(1);
            let (clip, _, whole) = Reader::open(source, spec, limits, Some(wanted))?.run()?;
            if whole || clip.frames.len() >= wanted {
                return Ok(clip);
            }
            // The container's duration was wrong, or seeking failed: take the end of all of it.
            let mut reader = Reader::open(source, spec, limits, None)?;
            reader.keep = Some(wanted);
            Ok(reader.run()?.0)
        }
    }
}

/// Reads a whole clip without keeping it: `each` takes its frames in order and ends the reading by returning false. Returns how many frames there were, and the
/// sound (`None` when the clip is silent, or when `each` has ended the reading).
pub fn read_frames(
    source: Source<'_>,
    spec: &ClipSpec,
    limits: &Limits,
    each: &mut dyn FnMut(Frame) -> bool,
) -> Result<(usize, Option<Pcm>)> {
    check(spec)?;
    let mut reader = Reader::open(source, spec, limits, None)?;
    reader.sink = Some(Sink { each, count: 0, ended: false });
    reader.run().map(|(clip, count, _)| (count, clip.audio))
}

fn check(spec: &ClipSpec) -> Result<()> {
    let bad = |field, value, remedy| Err(MediaError::Parameter { field, value, remedy });
    if !(1..=240).contains(&spec.fps) {
        return bad("fps", spec.fps.to_string(), "give 1 to 240 frames per second");
    }
    if let Some((w, h)) = spec.canvas
        && (!(1..=16_384).contains(&w) || !(1..=16_384).contains(&h))
    {
        return bad("canvas", format!("{w}x{h}"), "give sides of 1 to 16384 pixels");
    }
    if let ClipRange::Last(seconds) = spec.range
        && !(seconds > 0.0 && seconds <= 86_400.0)
    {
        return bad("seconds", seconds.to_string(), "give more than 0 seconds");
    }
    spec.audio_rate.map_or(Ok(()), |rate| check_rate("audio_rate", rate))
}

/// Decodes one file.
struct Reader<'a> {
    demuxer: Demuxer,
    video: Track,
    audio: Option<(Track, Collector)>,
    picture: Painter,
    limits: &'a Limits,
    spec: &'a ClipSpec,
    /// Keep only so many of the last frames.
    keep: Option<usize>,
    /// Seconds of the container's clock from which frames are worth converting.
    from: f64,
    clock: Clock,
    frames: VecDeque<Frame>,
    /// Takes the frames instead of `frames`.
    sink: Option<Sink<'a>>,
}

/// A caller that takes frames one by one.
struct Sink<'a> {
    each: &'a mut dyn FnMut(Frame) -> bool,
    count: u64,
    ended: bool,
}

/// Turns the frames' own times into numbers of output frames.
#[derive(Default)]
struct Clock {
    /// Time of the first frame of the clip.
    zero: Option<f64>,
    /// The frame that is on the screen, its time, and its picture once converted.
    held: Option<(frame::Video, Option<Frame>)>,
    last: f64,
    step: f64,
    decoded: u64,
    /// The next output frame, and the first one that was put out.
    next: Option<u64>,
    first: Option<u64>,
}

impl<'a> Reader<'a> {
    fn open(source: Source<'_>, spec: &'a ClipSpec, limits: &'a Limits, last: Option<usize>) -> Result<Reader<'a>> {
        let name = source.name();
        let mut demuxer = Demuxer::open(&name, source.open(limits)?, limits)?;
        let video = demuxer.video().ok_or_else(|| MediaError::NoTrack { name: name.clone(), what: "video" })?;
        let audio = match demuxer.audio().filter(|_| spec.audio_rate.is_some()) {
            Some(track) => Some((Collector::new(&demuxer, &track, limits)?, track)),
            None => None,
        }
        .map(|(collector, track)| (track, collector));
        let picture = Painter::new(&demuxer, &video, spec, limits)?;
        let mut wanted = vec![video.index];
        wanted.extend(audio.iter().map(|(t, _)| t.index));
        ff::keep_streams(&mut demuxer.input, &wanted);
        let rate = demuxer.input.stream(video.index).map_or(0.0, |s| demux::seconds_of(s.avg_frame_rate()));
        let step = if rate > 0.1 && rate < 1000.0 { 1.0 / rate } else { 1.0 / f64::from(spec.fps) };
        let clock = Clock { step, ..Clock::default() };
        let (keep, from, frames) = (last, f64::NEG_INFINITY, VecDeque::new());
        let mut reader = Reader { demuxer, video, audio, picture, limits, spec, keep, from, clock, frames, sink: None };
        if let Some(wanted) = last {
            reader.seek(wanted);
        }
        Ok(reader)
    }

    /// Moves to the key frame before the last `wanted` frames, when the container knows its start and duration.
    fn seek(&mut self, wanted: usize) {
        let (Some(start), Some(seconds)) = (self.video.start, self.video.seconds.or(self.demuxer.seconds())) else {
            return;
        };
        // Half a second in reserve for durations that are a little off.
        let from = start + seconds - wanted as f64 / f64::from(self.spec.fps) - 0.5;
        if from <= start + 1.0 || !from.is_finite() {
            return;
        }
        let target = (from * 1e6) as i64;
        if self.demuxer.input.seek(target, ..target).is_ok() {
            self.clock.zero = Some(start);
            self.from = from;
        }
    }

    /// The clip, how many frames it has, and whether it begins with the first frame of the file.
    fn run(mut self) -> Result<(Clip, usize, bool)> {
        let mut pictures = self.demuxer.decoder(&self.video)?;
        let mut sounds = match &self.audio {
            Some((track, _)) => Some(self.demuxer.decoder(track)?),
            None => None,
        };
        while let Some(packet) = self.demuxer.next()? {
            if self.sink.as_ref().is_some_and(|s| s.ended) {
                return Ok((Clip { frames: Vec::new(), fps: self.spec.fps, audio: None }, self.count(), true));
            }
            if packet.stream() == self.video.index {
                decode(&mut pictures, Some(&packet), &mut |f| self.picture(frame::Video::from(f)).map(|()| true))?;
            } else if let (Some(decoder), Some((track, collector))) = (&mut sounds, &mut self.audio)
                && packet.stream() == track.index
            {
                let name = &self.demuxer.name;
                decode(decoder, Some(&packet), &mut |f| collector.push(name, &frame::Audio::from(f)).map(|()| true))?;
            }
        }
        decode(&mut pictures, None, &mut |f| self.picture(frame::Video::from(f)).map(|()| true))?;
        if let (Some(decoder), Some((_, collector))) = (&mut sounds, &mut self.audio) {
            let name = &self.demuxer.name;
            decode(decoder, None, &mut |f| collector.push(name, &frame::Audio::from(f)).map(|()| true))?;
        }
        self.end()
    }

    /// Takes one decoded frame: puts out the frames for which the one before it was on the screen.
    fn picture(&mut self, frame: frame::Video) -> Result<()> {
        let stamp = frame.timestamp().map(|t| t as f64 * self.video.time_base).filter(|t| t.is_finite());
        let next_by_rate = if self.clock.decoded == 0 { 0.0 } else { self.clock.last + self.clock.step };
        let zero = *self.clock.zero.get_or_insert(stamp.unwrap_or(0.0));
        let at = stamp.map_or(next_by_rate, |s| s - zero).max(self.clock.last);
        self.limits.check_seconds(&self.demuxer.name, at)?;
        self.clock.decoded += 1;
        if self.clock.decoded > self.limits.max_frames.saturating_mul(10) {
            return Err(self.over("frames", self.clock.decoded, self.limits.max_frames));
        }
        self.clock.next.get_or_insert((at * f64::from(self.spec.fps) - PHASE).ceil().max(0.0) as u64);
        self.put_until(at)?;
        self.clock.last = at;
        self.clock.held = Some((frame, None));
        Ok(())
    }

    /// Puts out the held frame for every output frame whose moment lies before `at` seconds.
    fn put_until(&mut self, at: f64) -> Result<()> {
        let fps = f64::from(self.spec.fps);
        while let Some(k) = self.clock.next {
            let moment = (k as f64 + PHASE) / fps;
            let Some((frame, converted)) = self.clock.held.as_mut().filter(|_| moment < at) else { break };
            self.clock.next = Some(k + 1);
            if moment + self.clock.zero.unwrap_or(0.0) < self.from {
                continue;
            }
            if converted.is_none() {
                *converted = Some(self.picture.paint(&self.demuxer.name, frame)?);
            }
            let Some(picture) = converted.clone() else { break };
            self.put(k, picture)?;
        }
        Ok(())
    }

    fn put(&mut self, k: u64, picture: Frame) -> Result<()> {
        if self.keep.is_some_and(|n| self.frames.len() >= n) {
            self.frames.pop_front();
            self.clock.first = Some(k + 1 - self.frames.len() as u64);
        }
        let count = self.count() as u64 + 1;
        if count > self.limits.max_frames {
            return Err(self.over("frames", count, self.limits.max_frames));
        }
        if let Some(sink) = &mut self.sink {
            self.clock.first.get_or_insert(k);
            sink.count += 1;
            sink.ended = sink.ended || !(sink.each)(picture);
            return Ok(());
        }
        let bytes = count.saturating_mul(picture.data.len() as u64);
        if bytes > self.limits.max_decoded_bytes {
            return Err(self.over("bytes when decoded", bytes, self.limits.max_decoded_bytes));
        }
        self.clock.first.get_or_insert(k);
        self.frames.push_back(picture);
        Ok(())
    }

    /// Frames put out so far.
    fn count(&self) -> usize {
        self.sink.as_ref().map_or(self.frames.len(), |s| s.count as usize)
    }

    fn over(&self, what: &'static str, value: u64, limit: u64) -> MediaError {
        MediaError::Limit { name: self.demuxer.name.clone(), what, value, limit }
    }

    /// Where the last frame ends: by the container if that is plausible, else one step after its start.
    fn last_end(&self) -> Result<f64> {
        let by_rate = self.clock.last + self.clock.step;
        let zero = self.clock.zero.unwrap_or(0.0);
        let declared = self.video.seconds.map(|s| self.video.start.unwrap_or(zero) + s - zero);
        let (got, expected) = match declared {
            Some(declared) => (by_rate, declared),
            None => {
                // Matroska tells the duration of the whole file only, which is that of the longest track.
                let sound = self.audio.as_ref().map_or(0.0, |(_, c)| c.start.unwrap_or(zero) - zero + c.seconds());
                (by_rate.max(sound), self.demuxer.seconds().unwrap_or(0.0))
            }
        };
        let missing = expected - got;
        if missing > 0.5 + 0.1 * expected && missing > 4.0 * self.clock.step && self.clock.decoded > 1 {
            return Err(MediaError::Truncated { name: self.demuxer.name.clone(), got, expected });
        }
        // A last frame that is shown long is part of the clip; rounding of the container is not.
        Ok(declared.filter(|d| *d > self.clock.last).unwrap_or(by_rate))
    }

    fn end(mut self) -> Result<(Clip, usize, bool)> {
        if self.clock.held.is_none() {
            return Err(self.demuxer.corrupt("no picture could be decoded"));
        }
        let fps = f64::from(self.spec.fps);
        let total = (self.last_end()? * fps).round().max(1.0);
        self.put_until((total - 1.0 + PHASE + 0.01) / fps)?;
        let count = self.count();
        if count == 0 {
            return Err(self.demuxer.corrupt("no picture could be decoded"));
        }
        let first = self.clock.first.unwrap_or(0);
        let frames: Vec<Frame> = std::mem::take(&mut self.frames).into();
        let begin = self.clock.zero.unwrap_or(0.0) + first as f64 / fps;
        let audio = match (self.audio, self.spec.audio_rate) {
            (Some((_, collector)), Some(rate)) => align(collector, begin, count as u64, self.spec.fps, rate)?,
            _ => None,
        };
        Ok((Clip { frames, fps: self.spec.fps, audio }, count, first == 0))
    }
}

/// Cuts or fills the sound to exactly the time of the frames, which begin at `begin` on the container's clock.
fn align(sound: Collector, begin: f64, frames: u64, fps: u32, rate: u32) -> Result<Option<Pcm>> {
    let Some(start) = sound.start.or((!sound.samples.is_empty()).then_some(begin)) else { return Ok(None) };
    let native = scaled_len(frames, fps, sound.rate) as usize;
    let mut samples = Vec::with_capacity(native);
    let shift = ((start - begin) * f64::from(sound.rate)).round();
    if shift >= 0.0 {
        samples.resize((shift as usize).min(native), 0.0);
        samples.extend(sound.samples.iter().take(native - samples.len()));
    } else {
        samples.extend(sound.samples.iter().skip((-shift) as usize).take(native));
    }
    samples.resize(native, 0.0);
    let mut pcm = Pcm::mono(sound.rate, samples).resample(rate)?;
    pcm.samples.resize(scaled_len(frames, fps, rate) as usize, 0.0);
    Ok(Some(pcm))
}
