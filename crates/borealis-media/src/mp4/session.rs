//! What the encoder's thread does: one video and one audio encoder, one or two outputs.

use ffmpeg_next::{Packet, Rational};

use crate::error::{MediaError, Result};
use crate::frame::Frame;
use crate::mp4::Written;
use crate::mp4::audio::{self, AudioEncoder};
use crate::mp4::mux::Mux;
use crate::mp4::spec::VideoSpec;
use crate::mp4::video::VideoEncoder;

pub(super) struct Session {
    video: VideoEncoder,
    audio: Option<AudioEncoder>,
    outputs: Outputs,
    fps: u32,
    frames: u64,
}

/// The outputs; a live one that fails beside a file is dropped and its error kept.
struct Outputs {
    list: Vec<Mux>,
    live_error: Option<MediaError>,
}

impl Session {
    pub(super) fn open(spec: &VideoSpec, mut list: Vec<Mux>) -> Result<Session> {
        let live = list.iter().any(Mux::is_live);
        let video = VideoEncoder::open(spec, live)?;
        let audio = spec.audio_rate.map(AudioEncoder::open).transpose()?;
        for output in &mut list {
            output.begin(&video, audio.as_ref())?;
        }
        let outputs = Outputs { list, live_error: None };
        Ok(Session { video, audio, outputs, fps: spec.fps, frames: 0 })
    }

    pub(super) fn encoder(&self) -> &str {
        self.video.name()
    }

    pub(super) fn frame(&mut self, frame: Frame) -> Result<()> {
        let (outputs, base) = (&mut self.outputs, self.video.time_base());
        self.video.push(&frame, &mut |packet| outputs.write(packet, 0, base))?;
        self.frames += 1;
        let (until, outputs) = (self.covered(), &mut self.outputs);
        if let Some(audio) = &mut self.audio {
            if outputs.list.iter().any(Mux::is_live) {
                audio.check_behind(until)?;
            }
            let base = audio.time_base();
            audio.encode(until, &mut |packet| outputs.write(packet, 1, base))?;
        }
        Ok(())
    }

    pub(super) fn audio(&mut self, samples: &[f32]) -> Result<()> {
        let until = self.covered();
        let outputs = &mut self.outputs;
        if let Some(audio) = &mut self.audio {
            let base = audio.time_base();
            audio.push(samples, until, &mut |packet| outputs.write(packet, 1, base))?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Written> {
        if self.frames == 0 {
            return Err(MediaError::Frame { index: 0, what: "a clip needs at least one frame".to_owned() });
        }
        let (outputs, base) = (&mut self.outputs, self.video.time_base());
        self.video.finish(&mut |packet| outputs.write(packet, 0, base))?;
        let total = self.covered();
        let outputs = &mut self.outputs;
        if let Some(audio) = &mut self.audio {
            let base = audio.time_base();
            audio.finish(total, &mut |packet| outputs.write(packet, 1, base))?;
        }
        let encoder = self.video.name().to_owned();
        let (frames, seconds) = (self.frames, self.frames as f64 / f64::from(self.fps));
        let live_error = self.outputs.finish()?;
        Ok(Written { frames, seconds, encoder, busy_seconds: 0.0, live_error })
    }

    /// Samples of the audio track that the frames so far cover, rounded to the nearest.
    fn covered(&self) -> u64 {
        let fps = u64::from(self.fps);
        (self.frames * u64::from(audio::RATE) + fps / 2) / fps
    }
}

impl Outputs {
    fn write(&mut self, packet: Packet, stream: usize, base: Rational) -> Result<()> {
        let both = self.list.len() > 1;
        let mut i = 0;
        while i < self.list.len() {
            match self.list[i].write(packet.clone(), stream, base) {
                Err(error) if both && self.list[i].is_live() => {
                    self.live_error = Some(error);
                    self.list.remove(i);
                }
                Err(error) => return Err(error),
                Ok(()) => i += 1,
            }
        }
        Ok(())
    }

    /// Completes the outputs; returns the error of the live one, if a file was completed beside it.
    fn finish(self) -> Result<Option<MediaError>> {
        let both = self.list.len() > 1;
        let mut live_error = self.live_error;
        for output in self.list {
            let live = output.is_live();
            match output.finish() {
                Err(error) if both && live => live_error = Some(error),
                other => other?,
            }
        }
        Ok(live_error)
    }
}
