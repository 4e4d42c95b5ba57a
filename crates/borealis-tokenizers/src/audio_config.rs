//! `audio_tokenizer/config.json`, checked.

use serde::Deserialize;

use crate::{Result, TokenizerError};

const FILE: &str = "audio_tokenizer/config.json";

/// The audio codec of a checkpoint; see `weights.md`, section 9.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioConfig {
    /// Kind of codec; `oscillator_bank`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Samples per second.
    pub sample_rate: u32,
    /// Samples of a codec frame.
    pub frame_samples: usize,
    /// Codec frames of a latent frame.
    pub frames_per_latent: usize,
    /// Samples of latent frame 0 that lie before time 0 and are not played.
    pub lead_in: usize,
    /// Gain vectors of a codec frame.
    pub subframes: usize,
    /// Oscillators, a semitone apart.
    pub tones: usize,
    /// MIDI number of the lowest oscillator (69 = 440 Hz).
    pub first_midi: f64,
    /// Oscillator k starts with the phase `k * phase_step`, radians.
    pub phase_step: f64,
    /// Noise bands.
    pub bands: usize,
    /// Lower edge of the first and upper edge of the last noise band, Hz.
    pub band_hertz: [f64; 2],
    /// Samples after which the noise repeats.
    pub noise_period: usize,
    /// Gains below it are silent.
    pub floor: f32,
    /// Residual codebooks.
    pub codebooks: usize,
    /// Rows of a codebook.
    pub codebook_size: usize,
    /// How sounds are encoded.
    pub analysis: AnalysisConfig,
}

/// Parameters of the encoder.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnalysisConfig {
    /// Samples of the Hann window; a power of two.
    pub window: usize,
    /// Group i of the spectrum's bins is `pool_edges[i] .. pool_edges[i + 1]`.
    pub pool_edges: Vec<usize>,
    /// Multiplicative updates.
    pub iterations: usize,
    /// Greatest factor by which a transient is raised.
    pub max_sharpening: f32,
}

impl AudioConfig {
    /// Reads and checks the file's bytes.
    ///
    /// # Errors
    /// [`TokenizerError::Config`] with the field and what it should be.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(json).map_err(|e| TokenizerError::config(FILE, "json", e))?;
        config.check()?;
        Ok(config)
    }

    /// Gains of a sub-frame.
    pub fn carriers(&self) -> usize {
        self.tones + self.bands
    }

    /// Samples of a sub-frame.
    pub fn subframe_samples(&self) -> usize {
        self.frame_samples / self.subframes
    }

    /// Numbers of a codebook row.
    pub fn vector(&self) -> usize {
        self.subframes * self.carriers()
    }

    /// Codes of a latent frame.
    pub fn codes_per_latent(&self) -> usize {
        self.frames_per_latent * self.codebooks
    }

    /// Samples of a latent frame; latent frame 0 plays `lead_in` fewer.
    pub fn latent_samples(&self) -> usize {
        self.frames_per_latent * self.frame_samples
    }

    fn check(&self) -> Result<()> {
        let bad = |field: &str, what: String| Err(TokenizerError::config(FILE, field, what));
        if self.kind != "oscillator_bank" {
            return bad("type", format!("is \"{}\": only \"oscillator_bank\" is known", self.kind));
        }
        for (field, value, low, high) in [
            ("sample_rate", self.sample_rate as usize, 8_000, 192_000),
            ("frame_samples", self.frame_samples, 1, 1 << 16),
            ("frames_per_latent", self.frames_per_latent, 1, 256),
            ("subframes", self.subframes, 1, 256),
            ("tones", self.tones, 0, 1024),
            ("bands", self.bands, 0, 256),
            ("noise_period", self.noise_period, 2, 1 << 22),
            ("codebooks", self.codebooks, 1, 64),
            ("codebook_size", self.codebook_size, 1, 1 << 16),
            ("analysis.window", self.analysis.window, 16, 1 << 16),
            ("analysis.iterations", self.analysis.iterations, 1, 10_000),
        ] {
            if !(low..=high).contains(&value) {
                return bad(field, format!("is {value}: must be {low} to {high}"));
            }
        }
        if !self.frame_samples.is_multiple_of(2 * self.subframes) {
            return bad(
                "frame_samples",
                format!("is {}: sub-frames must have an even number of samples", self.frame_samples),
            );
        }
        if self.carriers() == 0 {
            return bad("tones", "is 0 and so is bands: there must be a carrier".into());
        }
        if self.lead_in >= self.latent_samples() {
            return bad(
                "lead_in",
                format!("is {}: must be below {} (one latent frame)", self.lead_in, self.latent_samples()),
            );
        }
        let nyquist = f64::from(self.sample_rate) / 2.0;
        let [low, high] = self.band_hertz;
        if !(low > 0.0 && low < high && high <= nyquist) {
            return bad("band_hertz", format!("is [{low}, {high}]: must rise and lie in (0, {nyquist}]"));
        }
        if !(self.first_midi.is_finite() && self.phase_step.is_finite() && self.floor >= 0.0) {
            return bad("floor", "must be at least 0, and first_midi and phase_step finite".into());
        }
        self.analysis.check(self.subframe_samples())
    }
}

impl AnalysisConfig {
    fn check(&self, subframe: usize) -> Result<()> {
        let bad = |field: &str, what: String| Err(TokenizerError::config(FILE, field, what));
        if !self.window.is_power_of_two() || self.window < subframe {
            return bad("analysis.window", format!("is {}: must be a power of two, at least {subframe}", self.window));
        }
        let rising = self.pool_edges.windows(2).all(|e| e[0] < e[1]);
        if self.pool_edges.len() < 2 || !rising || self.pool_edges.last() > Some(&(self.window / 2 + 1)) {
            return bad("analysis.pool_edges", format!("must rise and end at {} or below", self.window / 2 + 1));
        }
        if !(self.max_sharpening > 0.0 && self.max_sharpening.is_finite()) {
            return bad("analysis.max_sharpening", format!("is {}: must be above 0", self.max_sharpening));
        }
        Ok(())
    }
}
