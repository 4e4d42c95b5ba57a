//! What a clip looks like.

use crate::error::{MediaError, Result};
use crate::pcm::check_rate;

/// Trade-off of the encoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Quality {
    /// Least time; for previews.
    Fast,
    /// About 54 frames of 720p per second and core with libx264.
    #[default]
    Balanced,
    /// Smaller and finer, a third of the speed.
    Best,
}

/// Size, rate and encoder of a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoSpec {
    /// Pixels across: even, 16 to 8192.
    pub width: u32,
    /// Pixels down: even, 16 to 8192.
    pub height: u32,
    /// Frames per second, 1 to 240.
    pub fps: u32,
    /// Samples per second of the sound that will be pushed; `None` makes a silent file without an audio track.
    pub audio_rate: Option<u32>,
    /// FFmpeg's name of the encoder (`libx264`, `h264_nvenc`, ...); `None` takes the first that opens.
    pub encoder: Option<String>,
    /// Trade-off of the encoder.
    pub quality: Quality,
    /// Threads of the encoder; the bytes depend on it. 1 is right beside a generation on the CPU.
    pub threads: usize,
}

impl VideoSpec {
    /// A silent clip with the best encoder at hand, on one thread.
    pub fn new(width: u32, height: u32, fps: u32) -> Self {
        VideoSpec { width, height, fps, audio_rate: None, encoder: None, quality: Quality::default(), threads: 1 }
    }

    /// The same with sound that is pushed at `rate`.
    pub fn with_audio(mut self, rate: u32) -> Self {
        self.audio_rate = Some(rate);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let bad = |field, value: u32, remedy| Err(MediaError::Parameter { field, value: value.to_string(), remedy });
        for (field, side) in [("width", self.width), ("height", self.height)] {
            if !(16..=8192).contains(&side) || side % 2 != 0 {
                return bad(field, side, "give an even number from 16 to 8192");
            }
        }
        if !(1..=240).contains(&self.fps) {
            return bad("fps", self.fps, "give 1 to 240 frames per second");
        }
        if !(1..=64).contains(&self.threads) {
            return bad("threads", self.threads as u32, "give 1 to 64");
        }
        self.audio_rate.map_or(Ok(()), |rate| check_rate("audio_rate", rate))
    }
}
