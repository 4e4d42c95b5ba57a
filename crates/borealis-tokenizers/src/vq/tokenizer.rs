//! A picture tokenizer of an open checkpoint: pixels to codes and codes to pixels.

use borealis_weights::{Node, TensorSet};

use crate::vq::autoencoder::{Decoder, Encoder};
use crate::vq::codebook::Codebook;
use crate::vq::config::{VqConfig, VqFamily};
use crate::vq::conv::{Conv, Shape};
use crate::vq::map::FeatureMap;
use crate::vq::source::Source;
use crate::{Result, TokenizerError};

/// Most pixels of all frames together that one call takes.
const MAX_PIXELS: usize = 1 << 26;

/// Codes of the places of a picture (one latent frame) or of a clip, raster order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeGrid {
    /// Latent frames.
    pub frames: usize,
    /// Places, top to bottom.
    pub rows: usize,
    /// Places, left to right.
    pub columns: usize,
    /// `frames * rows * columns` codes.
    pub codes: Vec<u32>,
}

/// A vector-quantised tokenizer; weights only, in f32. Share it.
#[derive(Debug)]
pub struct VqTokenizer {
    config: VqConfig,
    encoder: Option<(Encoder, Conv)>,
    decoder: Option<(Conv, Decoder)>,
    codebook: Codebook,
}

impl VqTokenizer {
    /// From a configuration (see [`VqConfig::read`]) and the tensors of the same checkpoint; the tokenizer may be all of them or those under a prefix.
    ///
    /// Encoder and decoder are loaded where the tensors have them: Chameleon's checkpoints, say, have no decoder.
    ///
    /// # Errors
    /// When the configuration is wrong or not supported, or a tensor is missing, misshapen, not finite or unknown.
    pub fn load(config: &Node<'_>, family: Option<&str>, tensors: &TensorSet) -> Result<Self> {
        let config = VqConfig::read(config, family)?;
        let source = Source::beside(tensors, "quantize.embedding.weight")?;
        Self::from_source(config, &source)
    }

    pub(crate) fn from_source(config: VqConfig, s: &Source<'_>) -> Result<Self> {
        // Only Emu3's 1x1 layers look back in time.
        let (suffix, shape) = match config.family {
            VqFamily::Emu3 => (".conv", Shape::causal((3, 1, 1))),
            _ => ("", Shape::same(1)),
        };
        let conv = |name: &str, from: usize, to: usize| Conv::load(s, &format!("{name}{suffix}"), from, to, shape);
        let into = conv("quant_conv", config.latent, config.embed)?;
        let back = conv("post_quant_conv", config.embed, config.latent)?;
        let encoder = s.has("encoder.").then(|| Encoder::load(s, &config)).transpose()?;
        let decoder = s.has("decoder.").then(|| Decoder::load(s, &config)).transpose()?;
        let codebook = Codebook::load(s, &config)?;
        s.check_all_used()?;
        Ok(Self { encoder: encoder.map(|e| (e, into)), decoder: decoder.map(|d| (back, d)), codebook, config })
    }

    /// The checked configuration.
    pub fn config(&self) -> &VqConfig {
        &self.config
    }

    /// Whether it makes pictures.
    pub fn can_decode(&self) -> bool {
        self.decoder.is_some()
    }

    /// Whether it reads pictures.
    pub fn can_encode(&self) -> bool {
        self.encoder.is_some()
    }

    /// The encoder's latents of `pixels` (normalised as the family does it), before the last 1x1 layer. One frame is a picture, more are a clip.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] without an encoder; [`TokenizerError::Size`] when sides or frames are not multiples of the tokenizer's.
    pub fn latents(&self, pixels: &FeatureMap) -> Result<FeatureMap> {
        let (encoder, _) = self.encoder.as_ref().ok_or_else(|| {
            TokenizerError::absent("encoder for pictures", "use a checkpoint with the whole picture tokenizer")
        })?;
        self.check_pixels(pixels)?;
        encoder.apply(pixels)
    }

    /// What is quantised: the encoder's latents through the last 1x1 layer.
    ///
    /// # Errors
    /// As [`VqTokenizer::latents`].
    pub fn before_quantisation(&self, pixels: &FeatureMap) -> Result<FeatureMap> {
        let latents = self.latents(pixels)?;
        match &self.encoder {
            Some((_, into)) => into.apply(&latents),
            None => Ok(latents),
        }
    }

    /// Pixels to codes.
    ///
    /// # Errors
    /// As [`VqTokenizer::latents`].
    pub fn encode(&self, pixels: &FeatureMap) -> Result<CodeGrid> {
        let latents = self.before_quantisation(pixels)?;
        let codes = self.codebook.codes(&latents)?;
        Ok(CodeGrid { frames: latents.frames, rows: latents.height, columns: latents.width, codes })
    }

    /// Codes to the pixels of a picture: the first frame of the first latent frame.
    ///
    /// # Errors
    /// As [`VqTokenizer::decode_clip`].
    pub fn decode(&self, grid: &CodeGrid) -> Result<FeatureMap> {
        self.decode_frames(grid, 1)
    }

    /// Codes to the pixels of all frames of a clip.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] without a decoder; [`TokenizerError::Length`] when there are more or fewer codes than places,
    /// [`TokenizerError::Code`] for a code beyond the codebook.
    pub fn decode_clip(&self, grid: &CodeGrid) -> Result<FeatureMap> {
        self.decode_frames(grid, grid.frames * self.config.frames_per_latent)
    }

    fn decode_frames(&self, grid: &CodeGrid, keep: usize) -> Result<FeatureMap> {
        let (back, decoder) = self.decoder.as_ref().ok_or_else(|| {
            let remedy = "put the decoder's folder beside the checkpoint as image_tokenizer/ (see weights.md)";
            TokenizerError::absent("decoder for pictures", remedy)
        })?;
        let factor = self.config.spatial_factor();
        self.check_size(grid.frames, grid.rows.saturating_mul(factor), grid.columns.saturating_mul(factor))?;
        let places = grid.frames * grid.rows * grid.columns;
        if grid.codes.len() != places {
            return Err(TokenizerError::length("picture", grid.codes.len(), places));
        }
        let rows = self.codebook.rows(&grid.codes, grid.frames, (grid.rows, grid.columns))?;
        decoder.apply(back.apply(&rows)?, rows, keep)
    }

    fn check_pixels(&self, pixels: &FeatureMap) -> Result<()> {
        let (factor, frames) = (self.config.spatial_factor(), self.config.frames_per_latent);
        self.check_size(pixels.frames, pixels.height, pixels.width)?;
        if !pixels.height.is_multiple_of(factor) || !pixels.width.is_multiple_of(factor) {
            let remedy = format!("both sides must be multiples of {factor}");
            return Err(TokenizerError::size("picture", pixels.width, pixels.height, &remedy));
        }
        if pixels.frames != 1 && (frames == 1 || !pixels.frames.is_multiple_of(frames)) {
            let expected = if frames == 1 { 1 } else { pixels.frames.next_multiple_of(frames) };
            return Err(TokenizerError::length("frames of a clip", pixels.frames, expected));
        }
        Ok(())
    }

    fn check_size(&self, frames: usize, height: usize, width: usize) -> Result<()> {
        let pixels = frames.checked_mul(height).and_then(|p| p.checked_mul(width));
        if pixels.is_none_or(|p| p == 0 || p > MAX_PIXELS) {
            return Err(TokenizerError::size(
                "picture",
                width,
                height,
                "must have 1 to 67108864 pixels over all frames",
            ));
        }
        Ok(())
    }
}
