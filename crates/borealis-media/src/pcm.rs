//! Sound in memory.

use std::path::Path;

use crate::error::{MediaError, Result};
use crate::ff::Resampler;
use crate::output::write_file;

/// Lowest and highest sample rate that is read or written.
pub(crate) const RATES: std::ops::RangeInclusive<u32> = 2_000..=384_000;

/// Samples in -1..1, channels interleaved.
#[derive(Debug, Clone, PartialEq)]
pub struct Pcm {
    /// Samples per second and channel.
    pub rate: u32,
    /// Channels.
    pub channels: u16,
    /// `frames * channels` samples.
    pub samples: Vec<f32>,
}

impl Pcm {
    /// Mono sound.
    pub fn mono(rate: u32, samples: Vec<f32>) -> Self {
        Pcm { rate, channels: 1, samples }
    }

    /// Seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.channels.max(1)) / f64::from(self.rate.max(1))
    }

    /// The average of all channels.
    pub fn to_mono(&self) -> Pcm {
        if self.channels <= 1 {
            return self.clone();
        }
        let channels = usize::from(self.channels);
        let average = |frame: &[f32]| frame.iter().sum::<f32>() / channels as f32;
        Pcm::mono(self.rate, self.samples.chunks_exact(channels).map(average).collect())
    }

    /// Mono at `rate`; the length is `round(frames * rate / self.rate)` exactly.
    pub fn resample(&self, rate: u32) -> Result<Pcm> {
        check_rate("rate", rate)?;
        check_rate("rate", self.rate)?;
        let mono = self.to_mono();
        if rate == self.rate {
            return Ok(mono);
        }
        let want = scaled_len(mono.samples.len() as u64, self.rate, rate) as usize;
        let mut resampler = Resampler::new(self.rate, rate)?;
        let mut samples = Vec::with_capacity(want + 64);
        for block in mono.samples.chunks(1 << 16) {
            resampler.push(block, &mut samples)?;
        }
        resampler.finish(&mut samples)?;
        samples.resize(want, 0.0);
        Ok(Pcm::mono(rate, samples))
    }
}

/// `round(len * to / from)`.
pub(crate) fn scaled_len(len: u64, from: u32, to: u32) -> u64 {
    ((u128::from(len) * u128::from(to) + u128::from(from) / 2) / u128::from(from.max(1))) as u64
}

pub(crate) fn check_rate(field: &'static str, rate: u32) -> Result<()> {
    if RATES.contains(&rate) {
        return Ok(());
    }
    Err(MediaError::Parameter { field, value: rate.to_string(), remedy: "give 2000 to 384000 samples per second" })
}

/// Writes a WAV file of 16-bit samples; the file appears under `path` only when it is complete.
pub fn write_wav(path: impl AsRef<Path>, pcm: &Pcm) -> Result<()> {
    check_rate("rate", pcm.rate)?;
    let channels = pcm.channels.max(1);
    let bytes = pcm.samples.len() as u64 * 2;
    let Ok(data_len) = u32::try_from(bytes).map(|n| n.min(u32::MAX - 36)) else {
        let value = format!("{bytes} bytes");
        return Err(MediaError::Parameter { field: "samples", value, remedy: "a WAV file holds at most 4 GiB" });
    };
    let mut out = Vec::with_capacity(44 + bytes as usize);
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&(36 + data_len).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt ");
    out.extend_from_slice(&16u32.to_le_bytes());
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(&channels.to_le_bytes());
    out.extend_from_slice(&pcm.rate.to_le_bytes());
    out.extend_from_slice(&(pcm.rate.saturating_mul(u32::from(channels) * 2)).to_le_bytes());
    out.extend_from_slice(&(channels * 2).to_le_bytes());
    out.extend_from_slice(&16u16.to_le_bytes());
    out.extend_from_slice(b"data");
    out.extend_from_slice(&data_len.to_le_bytes());
    for sample in &pcm.samples {
        out.extend_from_slice(&((sample.clamp(-1.0, 1.0) * 32767.0).round() as i16).to_le_bytes());
    }
    write_file(path.as_ref(), &out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, hz: f32, seconds: f32) -> Vec<f32> {
        let step = std::f32::consts::TAU * hz / rate as f32;
        (0..(rate as f32 * seconds) as usize).map(|i| 0.5 * (i as f32 * step).sin()).collect()
    }

    #[test]
    fn resampling_keeps_time_and_level() {
        for (from, to) in [(24_000, 48_000), (48_000, 24_000), (44_100, 24_000), (22_050, 48_000), (8_000, 44_100)] {
            let pcm = Pcm::mono(from, tone(from, 440.0, 1.0)).resample(to).unwrap();
            assert_eq!(pcm.samples.len(), to as usize);
            let want = tone(to, 440.0, 1.0);
            let inner = to as usize / 10..to as usize * 9 / 10;
            let worst =
                pcm.samples[inner.clone()].iter().zip(&want[inner]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 0.01, "{from} -> {to}: off by {worst}");
        }
    }

    #[test]
    fn mono_is_the_average() {
        let pcm = Pcm { rate: 8000, channels: 2, samples: vec![1.0, 0.0, -0.5, 0.5] };
        assert_eq!(pcm.to_mono().samples, vec![0.5, 0.0]);
        assert!(Pcm::mono(1, vec![]).resample(8000).is_err());
    }
}
