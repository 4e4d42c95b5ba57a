//! The AAC encoder: mono at any rate in, 48 kHz out, cut to exactly the duration of the video.

use std::collections::VecDeque;

use ffmpeg_next::codec::{self, encoder};
use ffmpeg_next::{Packet, Rational};

use crate::error::{MediaError, Result};
use crate::ff::{self, Resampler};
use crate::mp4::video::is_dry;

/// Sample rate of the AAC track.
pub(super) const RATE: u32 = 48_000;
const BIT_RATE: usize = 128_000;
/// How far sound may run ahead of the frames, seconds: it has to be held back because the end may cut it. In a live
/// stream also how far it may stay behind: its first fragment waits for both tracks.
const MAX_LEAD: u64 = 60;

pub(super) struct AudioEncoder {
    context: encoder::audio::Encoder,
    resampler: Option<Resampler>,
    /// Samples at [`RATE`] that are not encoded yet.
    waiting: VecDeque<f32>,
    scratch: Vec<f32>,
    sent: u64,
    block: usize,
}

impl AudioEncoder {
    pub(super) fn open(rate: u32) -> Result<Self> {
        let fail = |e| MediaError::ffmpeg("opening the AAC encoder", e);
        let codec = encoder::find_by_name("aac").ok_or(ffmpeg_next::Error::EncoderNotFound).map_err(fail)?;
        let mut context = codec::Context::new_with_codec(codec);
        context.set_flags(codec::Flags::GLOBAL_HEADER | codec::Flags::BITEXACT);
        ff::set_mono(&mut context, RATE);
        let mut audio = context.encoder().audio().map_err(fail)?;
        audio.set_time_base(Rational(1, RATE as i32));
        audio.set_bit_rate(BIT_RATE);
        let context = audio.open_as(codec).map_err(fail)?;
        let block = (context.frame_size() as usize).max(1);
        let resampler = (rate != RATE).then(|| Resampler::new(rate, RATE)).transpose()?;
        Ok(AudioEncoder { context, resampler, waiting: VecDeque::new(), scratch: Vec::new(), sent: 0, block })
    }

    pub(super) fn context(&self) -> &encoder::audio::Encoder {
        &self.context
    }

    pub(super) fn time_base(&self) -> Rational {
        self.context.time_base()
    }

    /// Takes samples; encodes whole blocks up to `until` (samples at [`RATE`] that the frames so far cover).
    pub(super) fn push(
        &mut self,
        samples: &[f32],
        until: u64,
        sink: &mut dyn FnMut(Packet) -> Result<()>,
    ) -> Result<()> {
        // Infinities and NaN would poison the encoder's state.
        let clean = samples.iter().map(|s| if s.is_finite() { s.clamp(-1.0, 1.0) } else { 0.0 });
        match &mut self.resampler {
            None => self.waiting.extend(clean),
            Some(resampler) => {
                let clean: Vec<f32> = clean.collect();
                self.scratch.clear();
                resampler.push(&clean, &mut self.scratch)?;
                self.waiting.extend(&self.scratch);
            }
        }
        bound("sound ahead of the frames", self.taken().saturating_sub(until))?;
        self.encode(until, sink)
    }

    /// Fails when the frames, which cover `until` samples, run too far ahead of the sound.
    pub(super) fn check_behind(&self, until: u64) -> Result<()> {
        bound("frames ahead of the sound", until.saturating_sub(self.taken()))
    }

    /// Samples at [`RATE`] that were pushed.
    fn taken(&self) -> u64 {
        self.sent + self.waiting.len() as u64
    }

    /// Encodes whole blocks up to `until`.
    pub(super) fn encode(&mut self, until: u64, sink: &mut dyn FnMut(Packet) -> Result<()>) -> Result<()> {
        while self.waiting.len() >= self.block && self.sent + self.block as u64 <= until {
            self.send(self.block, sink)?;
        }
        Ok(())
    }

    /// Encodes the rest, so that the track has exactly `total` samples: cut, or filled with silence.
    pub(super) fn finish(&mut self, total: u64, sink: &mut dyn FnMut(Packet) -> Result<()>) -> Result<()> {
        if let Some(resampler) = &mut self.resampler {
            self.scratch.clear();
            resampler.finish(&mut self.scratch)?;
            self.waiting.extend(&self.scratch);
        }
        self.waiting.resize(total.saturating_sub(self.sent) as usize, 0.0);
        while !self.waiting.is_empty() {
            self.send(self.waiting.len().min(self.block), sink)?;
        }
        self.context.send_eof().map_err(|e| MediaError::ffmpeg("ending the sound", e))?;
        self.drain(sink)
    }

    fn send(&mut self, count: usize, sink: &mut dyn FnMut(Packet) -> Result<()>) -> Result<()> {
        self.scratch.clear();
        self.scratch.extend(self.waiting.drain(..count));
        let frame = ff::audio_frame(&self.scratch, RATE, self.sent as i64)?;
        self.sent += count as u64;
        self.context.send_frame(&frame).map_err(|e| MediaError::ffmpeg("encoding sound", e))?;
        self.drain(sink)
    }

    fn drain(&mut self, sink: &mut dyn FnMut(Packet) -> Result<()>) -> Result<()> {
        loop {
            let mut packet = Packet::empty();
            match self.context.receive_packet(&mut packet) {
                Ok(()) => sink(packet)?,
                Err(e) if is_dry(e) => return Ok(()),
                Err(e) => return Err(MediaError::ffmpeg("encoding sound", e)),
            }
        }
    }
}

fn bound(field: &'static str, samples: u64) -> Result<()> {
    let seconds = samples / u64::from(RATE);
    if seconds <= MAX_LEAD {
        return Ok(());
    }
    let value = format!("{seconds} s");
    Err(MediaError::Parameter { field, value, remedy: "push frames and sound side by side" })
}
