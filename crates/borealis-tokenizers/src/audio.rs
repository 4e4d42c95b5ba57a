//! Sound <-> codes: oscillators, noise bands and residual vector quantisation (`weights.md`, section 9).

use std::sync::Arc;

use borealis_weights::TensorSet;

use crate::audio_bank::Bank;
use crate::audio_config::AudioConfig;
use crate::audio_fit::Fit;
use crate::{Result, TokenizerError};

/// The audio codec: immutable, shared by all streams.
///
/// There is no network in it: a codec frame is some gains of a fixed bank of carriers, so decoding is exact, cheap and can start at any sample.
#[derive(Debug)]
pub struct AudioTokenizer {
    config: AudioConfig,
    bank: Bank,
    fit: Fit,
    /// `[codebooks, codebook_size, vector]`.
    codebooks: Vec<f32>,
}

impl AudioTokenizer {
    /// From `audio_tokenizer/config.json` and the tensors beside it.
    ///
    /// # Errors
    /// When the configuration is wrong or a tensor is missing, misshapen, not finite or unknown.
    pub fn load(config: &[u8], tensors: &TensorSet) -> Result<Self> {
        let config = AudioConfig::parse(config)?;
        let groups = config.analysis.pool_edges.len() - 1;
        let codebooks = tensors.expect_f32("codebooks", &[config.codebooks, config.codebook_size, config.vector()])?;
        let templates = tensors.expect_f32("templates", &[config.carriers(), groups])?;
        tensors.check_all_used()?;
        Ok(Self { bank: Bank::new(&config), fit: Fit::new(&config, templates), codebooks, config })
    }

    /// The checked configuration.
    pub fn config(&self) -> &AudioConfig {
        &self.config
    }

    /// Mono samples at the codec's rate -> codes `[frames, codebooks]` of whole codec frames; the last one is filled up with silence.
    pub fn encode(&self, samples: &[f32]) -> Vec<u16> {
        let frames = samples.len().div_ceil(self.config.frame_samples);
        let mut padded = samples.to_vec();
        padded.resize(frames * self.config.frame_samples, 0.0);
        let mut vectors = self.fit.amplitudes(&padded);
        vectors.chunks_exact_mut(self.config.vector()).flat_map(|v| self.quantise(v)).collect()
    }

    /// Sound that starts at time 0 -> codes of `latents` latent frames, `[frames_per_latent, codebooks]` each. The lead-in, and what the sound is too short for, is silence.
    pub fn encode_clip(&self, samples: &[f32], latents: usize) -> Vec<Vec<u16>> {
        let total = latents * self.config.latent_samples();
        let mut padded = vec![0.0; self.config.lead_in];
        padded.extend_from_slice(&samples[..samples.len().min(total.saturating_sub(self.config.lead_in))]);
        padded.resize(total, 0.0);
        self.encode(&padded).chunks(self.config.codes_per_latent()).map(<[u16]>::to_vec).collect()
    }

    /// Decodes whole codec frames at once; `start` is the clip's sample index of the first sample (carriers run with it).
    ///
    /// # Errors
    /// [`TokenizerError::Code`] when a code is not a row of its codebook.
    pub fn decode(self: &Arc<Self>, codes: &[u16], start: i64) -> Result<Vec<f32>> {
        let mut decoder = AudioDecoder::new(self.clone(), start, 0);
        let mut out = Vec::with_capacity(codes.len() / self.config.codebooks * self.config.frame_samples);
        decoder.push_into(codes, &mut out)?;
        decoder.finish_into(&mut out);
        Ok(out)
    }

    /// A decoder for one clip. Its first latent frame plays [`AudioConfig::lead_in`] fewer samples.
    pub fn decoder(self: &Arc<Self>) -> AudioDecoder {
        AudioDecoder::new(self.clone(), -(self.config.lead_in as i64), self.config.lead_in)
    }

    fn book_row(&self, book: usize, row: usize) -> &[f32] {
        let n = self.config.vector();
        &self.codebooks[(book * self.config.codebook_size + row) * n..][..n]
    }

    /// Nearest row of each codebook in turn; `rest` becomes what is left.
    fn quantise(&self, rest: &mut [f32]) -> Vec<u16> {
        (0..self.config.codebooks)
            .map(|book| {
                let (mut best, mut least) = (0, f32::INFINITY);
                for row in 0..self.config.codebook_size {
                    let d = distance(rest, self.book_row(book, row));
                    if d < least {
                        (best, least) = (row, d);
                    }
                }
                for (r, c) in rest.iter_mut().zip(self.book_row(book, best)) {
                    *r -= c;
                }
                best as u16
            })
            .collect()
    }

    /// Codes `[codebooks]` of one codec frame -> gains `[subframes, carriers]`.
    fn gains(&self, codes: &[u16], out: &mut [f32]) -> Result<()> {
        out.fill(0.0);
        for (book, &code) in codes.iter().enumerate() {
            if usize::from(code) >= self.config.codebook_size {
                return Err(TokenizerError::code("audio", code.into(), self.config.codebook_size));
            }
            for (g, c) in out.iter_mut().zip(self.book_row(book, code.into())) {
                *g += c;
            }
        }
        for g in out {
            *g = g.max(0.0).powi(2);
            if *g < self.config.floor {
                *g = 0.0;
            }
        }
        Ok(())
    }
}

/// Squared Euclidean distance, summed in eight lanes.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (a, b) = (a.chunks(8), b.chunks(8));
    for (a, b) in a.zip(b) {
        for ((l, x), y) in lanes.iter_mut().zip(a).zip(b) {
            *l += (x - y) * (x - y);
        }
    }
    lanes.iter().sum()
}

/// Turns codes into samples as they arrive.
///
/// Gains run linearly between the centres of sub-frames, so the last half sub-frame waits for the next codes or for [`AudioDecoder::finish`]; what comes out in
/// pieces is what would come out at once.
#[derive(Debug)]
pub struct AudioDecoder {
    tokenizer: Arc<AudioTokenizer>,
    /// Clip index of the next sample.
    at: i64,
    /// Samples that are still to be left out.
    skip: usize,
    /// Gains of the last sub-frame, and of one codec frame.
    last: Vec<f32>,
    gains: Vec<f32>,
    /// One segment.
    segment: Vec<f32>,
    started: bool,
}

impl AudioDecoder {
    fn new(tokenizer: Arc<AudioTokenizer>, start: i64, skip: usize) -> Self {
        let config = &tokenizer.config;
        Self {
            at: start,
            skip,
            last: vec![0.0; config.carriers()],
            gains: vec![0.0; config.vector()],
            segment: vec![0.0; config.subframe_samples()],
            started: false,
            tokenizer,
        }
    }

    /// Codes of some codec frames, `[frames, codebooks]` -> the samples that are certain now; none before time 0.
    ///
    /// # Errors
    /// [`TokenizerError::Code`] when a code is not a row of its codebook, [`TokenizerError::Length`] when a codec frame is incomplete.
    pub fn push(&mut self, codes: &[u16]) -> Result<Vec<f32>> {
        let frames = codes.len() / self.tokenizer.config.codebooks;
        let mut out = Vec::with_capacity(frames * self.tokenizer.config.frame_samples);
        self.push_into(codes, &mut out)?;
        Ok(out)
    }

    /// The samples that were held back; the decoder is at its end.
    pub fn finish(mut self) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.segment.len());
        self.finish_into(&mut out);
        out
    }

    fn push_into(&mut self, codes: &[u16], out: &mut Vec<f32>) -> Result<()> {
        let tokenizer = self.tokenizer.clone();
        let config = &tokenizer.config;
        if !codes.len().is_multiple_of(config.codebooks) {
            return Err(TokenizerError::length("audio codes", codes.len(), config.codes_per_latent()));
        }
        let n = config.subframe_samples();
        let mut gains = std::mem::take(&mut self.gains);
        for frame in codes.chunks_exact(config.codebooks) {
            tokenizer.gains(frame, &mut gains)?;
            for next in gains.chunks_exact(config.carriers()) {
                if self.started {
                    self.render(next, n, 0.5 / n as f32, 1.0 / n as f32, out);
                } else {
                    self.render(next, n / 2, 1.0, 0.0, out);
                    self.started = true;
                }
                self.last.copy_from_slice(next);
            }
        }
        self.gains = gains;
        Ok(())
    }

    fn finish_into(&mut self, out: &mut Vec<f32>) {
        if self.started {
            let last = self.last.clone();
            self.render(&last, self.segment.len() / 2, 1.0, 0.0, out);
            self.started = false;
        }
    }

    /// Renders `n` samples while gains run from `last` to `next`: at `t0 + j * dt` of the way at sample j.
    fn render(&mut self, next: &[f32], n: usize, t0: f32, dt: f32, out: &mut Vec<f32>) {
        let segment = &mut self.segment[..n];
        segment.fill(0.0);
        self.tokenizer.bank.add(&self.last, next, t0, dt, self.at, segment);
        let skip = self.skip.min(n);
        self.skip -= skip;
        out.extend_from_slice(&segment[skip..]);
        self.at += n as i64;
    }
}
