//! Clips and sound in, at exactly the frame rate and sample rate that is asked for.

mod audio;
mod clip;
mod demux;
mod paint;

use crate::error::{MediaError, Result};
use crate::ff;
use crate::frame::Frame;
use crate::pcm::Pcm;
use crate::source::{Limits, Source};
use crate::still::{self, Still};
use demux::{Demuxer, Track};

pub use audio::{read_audio, read_audio_channels};
pub use clip::{ClipRange, ClipSpec, read_clip, read_clip_with, read_frames};

/// A clip in memory.
#[derive(Debug, Clone)]
pub struct Clip {
    /// RGB pictures, all of one size, `fps` a second.
    pub frames: Vec<Frame>,
    /// Frames per second.
    pub fps: u32,
    /// Mono at the rate asked for, exactly as long as the frames; `None` when the clip is silent.
    pub audio: Option<Pcm>,
}

impl Clip {
    /// Seconds.
    pub fn seconds(&self) -> f64 {
        self.frames.len() as f64 / f64::from(self.fps.max(1))
    }
}

/// What kind of media a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One picture.
    Image,
    /// Pictures over time, perhaps with sound.
    Video,
    /// Sound alone.
    Audio,
}

/// What [`probe`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// Picture, clip or sound.
    pub kind: Kind,
    /// Container, by FFmpeg's name ("mov,mp4,...", "matroska,webm", "wav", "png", ...).
    pub format: String,
    /// Pixels across, upright; 0 for sound.
    pub width: u32,
    /// Pixels down, upright; 0 for sound.
    pub height: u32,
    /// Average frames per second; 0 for pictures and sound.
    pub fps: f64,
    /// Frames of the video track as the container declares them, or as its duration and rate suggest; 1 for pictures.
    pub frames: u64,
    /// Seconds of the video track, else of the sound, as declared; 0 for pictures and where nothing is declared.
    pub seconds: f64,
    /// Codec of the pictures.
    pub video_codec: Option<String>,
    /// The sound.
    pub audio: Option<AudioInfo>,
}

/// The audio track of an [`Info`].
#[derive(Debug, Clone, PartialEq)]
pub struct AudioInfo {
    /// Codec.
    pub codec: String,
    /// Samples per second.
    pub rate: u32,
    /// Channels.
    pub channels: u16,
    /// Seconds as declared; 0 when nothing is declared.
    pub seconds: f64,
}

/// Looks at the headers of a picture, clip or sound without decoding it.
pub fn probe(source: Source<'_>, limits: &Limits) -> Result<Info> {
    let name = source.name();
    let mut stream = source.open(limits)?;
    let head = stream.magic().map_err(|source| MediaError::Read { name: name.clone(), source })?;
    if let Some(kind) = Still::of_magic(&head) {
        let (width, height) = still::still_size(&name, kind, stream, limits)?;
        return Ok(Info {
            kind: Kind::Image,
            format: kind.name().to_owned(),
            width,
            height,
            fps: 0.0,
            frames: 1,
            seconds: 0.0,
            video_codec: Some(kind.name().to_owned()),
            audio: None,
        });
    }
    let demuxer = Demuxer::open(&name, stream, limits)?;
    let (video, audio) = (demuxer.video(), demuxer.audio());
    let whole = demuxer.seconds().unwrap_or(0.0);
    let audio = audio.map(|track| audio_info(&demuxer, &track, whole)).transpose()?;
    let format = demuxer.input.format().name().to_owned();
    let Some(track) = video else {
        let Some(audio) = audio else {
            return Err(MediaError::NoTrack { name, what: "video or audio" });
        };
        let (kind, seconds) = (Kind::Audio, audio.seconds);
        let audio = Some(audio);
        return Ok(Info { kind, format, width: 0, height: 0, fps: 0.0, frames: 0, seconds, video_codec: None, audio });
    };
    let size = paint::upright_size(&demuxer, &track)?;
    limits.check_pixels(&name, u64::from(size.0), u64::from(size.1))?;
    let (fps, declared) = demuxer
        .input
        .stream(track.index)
        .map_or((0.0, 0), |s| (demux::seconds_of(s.avg_frame_rate()), s.frames().max(0) as u64));
    let seconds = track.seconds.unwrap_or(whole);
    let frames = if declared > 0 { declared } else { (seconds * fps).round() as u64 };
    Ok(Info {
        kind: Kind::Video,
        format,
        width: size.0,
        height: size.1,
        fps,
        frames,
        seconds,
        video_codec: Some(track.codec),
        audio,
    })
}

fn audio_info(demuxer: &Demuxer, track: &Track, whole: f64) -> Result<AudioInfo> {
    let (rate, channels) = ff::audio_params(&demuxer.params(track)?);
    Ok(AudioInfo { codec: track.codec.clone(), rate, channels, seconds: track.seconds.unwrap_or(whole) })
}
