//! Latents to codes and codes to latents.

use borealis_kernels::candle::{Device, Tensor};
use rayon::prelude::*;

use crate::vq::config::{VqConfig, VqFamily};
use crate::vq::map::FeatureMap;
use crate::vq::source::Source;
use crate::{Result, TokenizerError};

/// Numbers of the scores that are held at once.
const SCORES: usize = 8 << 20;

/// The rows of the codes.
#[derive(Debug)]
pub(crate) struct Codebook {
    /// `[codes, embed]`.
    rows: Vec<f32>,
    embed: usize,
    /// The rows as decoding reads them; `None`: as they are.
    shown: Option<Vec<f32>>,
    /// Half the squared length of each row, for the nearest row; empty: the largest dot product is taken.
    halves: Vec<f32>,
    /// `[embed, codes]`.
    columns: Tensor,
}

impl Codebook {
    pub fn load(s: &Source<'_>, config: &VqConfig) -> Result<Self> {
        let (codes, embed) = (config.codes, config.embed);
        let rows = s.get("quantize.embedding.weight", &[codes, embed])?;
        let squares = |row: &[f32]| row.iter().map(|v| v * v).sum::<f32>();
        let halves = match config.family {
            VqFamily::Ibq => Vec::new(),
            _ => rows.chunks_exact(embed).map(|row| 0.5 * squares(row)).collect(),
        };
        let shown = (config.family == VqFamily::Janus).then(|| {
            let mut shown = rows.clone();
            for row in shown.chunks_exact_mut(embed) {
                let length = squares(row).sqrt().max(1e-12);
                row.iter_mut().for_each(|v| *v /= length);
            }
            shown
        });
        let columns = Tensor::from_slice(&rows, (codes, embed), &Device::Cpu).and_then(|r| r.t()?.contiguous())?;
        Ok(Self { rows, embed, shown, halves, columns })
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        self.rows.len() / self.embed
    }

    /// The code of each place: the nearest row, or the row with the largest dot product; the lowest of equals.
    pub fn codes(&self, latents: &FeatureMap) -> Result<Vec<u32>> {
        let mut codes = Vec::with_capacity(latents.places());
        for piece in latents.data.chunks((SCORES / self.len()).max(1) * self.embed) {
            let scores = self.scores(piece)?;
            codes.par_extend(scores.par_chunks_exact(self.len()).map(|scores| self.best(scores)));
        }
        Ok(codes)
    }

    fn scores(&self, latents: &[f32]) -> Result<Vec<f32>> {
        let latents = Tensor::from_slice(latents, (latents.len() / self.embed, self.embed), &Device::Cpu)?;
        Ok(latents.matmul(&self.columns)?.flatten_all()?.to_vec1()?)
    }

    /// |z - e|^2 = |z|^2 - 2 (z.e - |e|^2 / 2), and |z|^2 is the same for all rows.
    fn best(&self, scores: &[f32]) -> u32 {
        let mut best = (f32::NEG_INFINITY, 0);
        for (code, score) in scores.iter().enumerate() {
            let score = score - self.halves.get(code).copied().unwrap_or(0.0);
            if score > best.0 {
                best = (score, code as u32);
            }
        }
        best.1
    }

    /// The rows of `codes`, which lie as `[frames, height, width]`.
    ///
    /// # Errors
    /// [`TokenizerError::Code`] for a code beyond the codebook.
    pub fn rows(&self, codes: &[u32], frames: usize, size: (usize, usize)) -> Result<FeatureMap> {
        let rows = self.shown.as_ref().unwrap_or(&self.rows);
        let mut map = FeatureMap::zeros(frames, size, self.embed);
        for (place, code) in map.data.chunks_exact_mut(self.embed).zip(codes) {
            let at = *code as usize * self.embed;
            let row = rows.get(at..at + self.embed);
            place.copy_from_slice(row.ok_or_else(|| TokenizerError::code("picture", (*code).into(), self.len()))?);
        }
        Ok(map)
    }
}
