//! Sound in.

use ffmpeg_next::frame;

use crate::error::{MediaError, Result};
use crate::ff;
use crate::pcm::{Pcm, RATES, check_rate};
use crate::read::demux::{Demuxer, Track, decode};
use crate::source::{Limits, Source};

/// Gaps in the time stamps from here on are filled with silence; smaller ones are rounding.
const GAP: f64 = 0.05;
/// Padding of a codec's last block that is cut when the container declares where the sound ends.
const PADDING: f64 = 0.25;

/// Samples of one channel, or of all of them mixed, as they are decoded.
pub(super) struct Collector {
    /// Which channel; `None`: the average of all.
    channel: Option<usize>,
    pub(super) rate: u32,
    pub(super) samples: Vec<f32>,
    /// Seconds of the first sample, on the container's clock.
    pub(super) start: Option<f64>,
    time_base: f64,
    max_samples: usize,
    max_seconds: f64,
}

impl Collector {
    pub(super) fn new(demuxer: &Demuxer, track: &Track, limits: &Limits) -> Result<Self> {
        let (rate, _) = ff::audio_params(&demuxer.params(track)?);
        if !RATES.contains(&rate) {
            return Err(demuxer.corrupt(&format!("its sound claims {rate} samples per second")));
        }
        Ok(Collector {
            channel: None,
            rate,
            samples: Vec::new(),
            start: None,
            time_base: track.time_base,
            max_samples: (limits.max_seconds * f64::from(rate)) as usize + rate as usize,
            max_seconds: limits.max_seconds,
        })
    }

    /// Takes a decoded block.
    pub(super) fn push(&mut self, name: &str, block: &frame::Audio) -> Result<()> {
        if block.rate() != self.rate && block.rate() != 0 {
            if !self.samples.is_empty() || !RATES.contains(&block.rate()) {
                let what = format!("its sound changes to {} samples per second", block.rate());
                return Err(MediaError::Corrupt { name: name.to_owned(), what });
            }
            // Some codecs (HE-AAC) tell the rate with their first block only.
            self.rate = block.rate();
        }
        if let Some(at) = block.timestamp().map(|t| t as f64 * self.time_base).filter(|t| t.is_finite()) {
            let start = *self.start.get_or_insert(at);
            let gap = at - start - self.samples.len() as f64 / f64::from(self.rate);
            if gap > GAP && gap < self.max_seconds {
                self.grow(name, (gap * f64::from(self.rate)) as usize)?;
                self.samples.resize(self.samples.len() + (gap * f64::from(self.rate)) as usize, 0.0);
            }
        }
        self.grow(name, block.samples())?;
        ff::append_samples(block, self.channel, &mut self.samples)
    }

    fn grow(&self, name: &str, more: usize) -> Result<()> {
        if self.samples.len().saturating_add(more) > self.max_samples {
            let (value, limit) = (self.max_seconds as u64 + 1, self.max_seconds as u64);
            return Err(MediaError::Limit { name: name.to_owned(), what: "seconds", value, limit });
        }
        Ok(())
    }

    /// Seconds collected.
    pub(super) fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }
}

/// Reads the sound of a file (of a clip too) as mono at `rate`.
pub fn read_audio(source: Source<'_>, rate: u32, limits: &Limits) -> Result<Pcm> {
    read(source, None, rate, limits)
}

/// Reads the sound of a file (of a clip too) at `rate`, `channels` vectors of samples of one length: one is the average of all of its channels, more are its first ones. A file with
/// fewer repeats its last.
pub fn read_audio_channels(source: Source<'_>, channels: usize, rate: u32, limits: &Limits) -> Result<Vec<Vec<f32>>> {
    let which = |c: usize| (channels > 1).then_some(c);
    // Decoding is cheap beside what is done with the samples.
    let planes = (0..channels).map(|c| Ok(read(source, which(c), rate, limits)?.samples));
    planes.collect()
}

fn read(source: Source<'_>, channel: Option<usize>, rate: u32, limits: &Limits) -> Result<Pcm> {
    check_rate("rate", rate)?;
    let name = source.name();
    let mut demuxer = Demuxer::open(&name, source.open(limits)?, limits)?;
    let track = demuxer.audio().ok_or_else(|| MediaError::NoTrack { name: name.clone(), what: "audio" })?;
    let mut collector = Collector { channel, ..Collector::new(&demuxer, &track, limits)? };
    let mut decoder = demuxer.decoder(&track)?;
    ff::keep_streams(&mut demuxer.input, &[track.index]);
    let mut take = |block: frame::Frame| collector.push(&name, &frame::Audio::from(block)).map(|()| true);
    while let Some(packet) = demuxer.next()? {
        if packet.stream() == track.index {
            decode(&mut decoder, Some(&packet), &mut take)?;
        }
    }
    decode(&mut decoder, None, &mut take)?;
    if collector.samples.is_empty() {
        return Err(demuxer.corrupt("no sound could be decoded"));
    }
    if let Some(declared) = track.seconds.filter(|_| !ff::duration_is_guess(&demuxer.input)) {
        let got = collector.seconds();
        if got < declared - (0.5 + 0.1 * declared) {
            return Err(MediaError::Truncated { name, got, expected: declared });
        }
        if got > declared && got - declared < PADDING {
            collector.samples.truncate((declared * f64::from(collector.rate)).round() as usize);
        }
    }
    Pcm::mono(collector.rate, collector.samples).resample(rate)
}
