//! The carriers of the audio codec: semitone oscillators and bands of periodic noise.

use std::f64::consts::{SQRT_2, TAU};
use std::sync::OnceLock;

use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

use crate::audio_config::AudioConfig;

/// Renders `gain * carrier` segments of up to one sub-frame.
///
/// A tone is computed as `sin(a + b) = sin a cos b + cos a sin b`: `a`, the phase at the start of the segment, in f64; `b` from a
/// table of one sub-frame, so the error stays at f32's rounding however long the clip is.
#[derive(Debug)]
pub(crate) struct Bank {
    tones: usize,
    bands: usize,
    /// Samples of a sub-frame: the longest segment.
    step: usize,
    /// Radians per sample of each tone.
    omega: Vec<f64>,
    phase_step: f64,
    /// `[tones, step]` cosines and sines of `omega * j`.
    cosines: Vec<f32>,
    sines: Vec<f32>,
    band_bins: Vec<(usize, usize)>,
    period: usize,
    /// `[bands, period]`, made when the first noise is heard.
    noise: OnceLock<Vec<f32>>,
}

impl Bank {
    pub(crate) fn new(config: &AudioConfig) -> Self {
        let step = config.subframe_samples();
        let rate = f64::from(config.sample_rate);
        let omega: Vec<f64> = (0..config.tones)
            .map(|k| TAU * 440.0 * 2f64.powf((config.first_midi + k as f64 - 69.0) / 12.0) / rate)
            .collect();
        let table = |f: fn(f64) -> f64| -> Vec<f32> {
            omega.iter().flat_map(|w| (0..step).map(move |j| f(w * j as f64) as f32)).collect()
        };
        Self {
            tones: config.tones,
            bands: config.bands,
            step,
            phase_step: config.phase_step,
            cosines: table(f64::cos),
            sines: table(f64::sin),
            omega,
            band_bins: band_bins(config),
            period: config.noise_period,
            noise: OnceLock::new(),
        }
    }

    /// Adds `carrier(n) * gain(n)` for the samples `start .. start + out.len()` (at most one sub-frame) of every carrier;
    /// gains run linearly: `from + (to - from) * (t0 + j * dt)` at sample j. Carriers silent at both ends are skipped.
    pub(crate) fn add(&self, from: &[f32], to: &[f32], t0: f32, dt: f32, start: i64, out: &mut [f32]) {
        debug_assert!(out.len() <= self.step);
        for k in 0..self.tones + self.bands {
            if from[k] == 0.0 && to[k] == 0.0 {
                continue;
            }
            let slope = to[k] - from[k];
            let (a, b) = (from[k] + slope * t0, slope * dt);
            if k < self.tones {
                self.add_tone(k, a, b, start, out)
            } else {
                self.add_noise(k - self.tones, a, b, start, out)
            }
        }
    }

    fn add_tone(&self, k: usize, a: f32, b: f32, start: i64, out: &mut [f32]) {
        let (sin, cos) = (self.omega[k] * start as f64 + k as f64 * self.phase_step).sin_cos();
        let (sin, cos) = ((sin * SQRT_2) as f32, (cos * SQRT_2) as f32);
        let at = k * self.step..k * self.step + out.len();
        let tables = self.cosines[at.clone()].iter().zip(&self.sines[at]);
        for (j, (y, (c, s))) in out.iter_mut().zip(tables).enumerate() {
            *y += (a + b * j as f32) * (sin * c + cos * s);
        }
    }

    fn add_noise(&self, band: usize, a: f32, b: f32, start: i64, out: &mut [f32]) {
        let noise = self.noise.get_or_init(|| self.make_noise());
        let table = &noise[band * self.period..(band + 1) * self.period];
        let mut at = start.rem_euclid(self.period as i64) as usize;
        let mut done = 0;
        while done < out.len() {
            let n = (self.period - at).min(out.len() - done);
            for (j, (y, x)) in out[done..done + n].iter_mut().zip(&table[at..at + n]).enumerate() {
                *y += (a + b * (done + j) as f32) * x;
            }
            done += n;
            at = 0;
        }
    }

    /// All bands, two at a time: a Hermitian spectrum plus i times another gives one signal in the real and one in the imaginary part.
    fn make_noise(&self) -> Vec<f32> {
        let n = self.period;
        let fft = FftPlanner::<f64>::new().plan_fft_inverse(n);
        let mut noise = vec![0.0; self.bands * n];
        let mut spectrum = vec![Complex::default(); n];
        let mut scratch = vec![Complex::default(); fft.get_inplace_scratch_len()];
        for (pair, rows) in noise.chunks_mut(2 * n).enumerate() {
            spectrum.fill(Complex::default());
            for (i, &(low, high)) in self.band_bins[2 * pair..].iter().take(rows.len() / n).enumerate() {
                let unit = if i == 0 { Complex::new(1.0, 0.0) } else { Complex::new(0.0, 1.0) };
                for bin in low..high {
                    let value = Complex::from_polar(1.0, TAU * (mix(bin as u64) >> 11) as f64 / (1u64 << 53) as f64);
                    spectrum[bin] += value * unit;
                    spectrum[n - bin] += value.conj() * unit;
                }
            }
            fft.process_with_scratch(&mut spectrum, &mut scratch);
            for (i, row) in rows.chunks_mut(n).enumerate() {
                let part = |z: &Complex<f64>| if i == 0 { z.re } else { z.im };
                let power = spectrum.iter().map(|z| part(z) * part(z)).sum::<f64>() / n as f64;
                let scale = if power > 0.0 { power.sqrt().recip() } else { 0.0 };
                for (y, z) in row.iter_mut().zip(&spectrum) {
                    *y = (part(z) * scale) as f32;
                }
            }
        }
        noise
    }
}

/// Bins of each band, `e_b <= hertz < e_{b+1}`; bin 0 and the Nyquist bin belong to none.
fn band_bins(config: &AudioConfig) -> Vec<(usize, usize)> {
    let [low, high] = config.band_hertz;
    let hertz_per_bin = f64::from(config.sample_rate) / config.noise_period as f64;
    let edge = |b: usize| -> usize {
        let hertz = match b {
            0 => low,
            b if b == config.bands => high,
            b => (low.ln() + (high.ln() - low.ln()) * b as f64 / config.bands as f64).exp(),
        };
        ((hertz / hertz_per_bin).ceil() as usize).clamp(1, config.noise_period.div_ceil(2))
    };
    (0..config.bands).map(|b| (edge(b), edge(b + 1))).collect()
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014) at state `j`.
fn mix(j: u64) -> u64 {
    let z = j.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_splitmix64() {
        // First output of SplitMix64 seeded with 0, as published.
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
    }
}
