//! Pictures and clips <-> codes: a causal tokenizer with finite scalar quantisation (`weights.md`, section 8).

use std::sync::Arc;

use borealis_kernels::Backend;
use borealis_media::{Frame, Rect};
use borealis_weights::TensorSet;

use crate::Result;
use crate::video_config::{Grid, VideoConfig};
use crate::video_decoder::{Decoder, FrameSpec, VideoStream};
use crate::video_encoder::{Encoder, EncoderRun, at_analysis_scale};
use crate::video_layers::Loader;

/// The video tokenizer on a device: weights only, shared by all clips.
///
/// Latent frame 0 is one picture, every later one holds the next `stride` frames; a latent frame depends on itself and the one before,
/// so both directions work frame by frame.
pub struct VideoTokenizer<B: Backend> {
    backend: B,
    config: VideoConfig,
    encoder: Encoder<B>,
    decoder: Decoder<B>,
}

impl<B: Backend> std::fmt::Debug for VideoTokenizer<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VideoTokenizer")
            .field("backend", &self.backend.name())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> VideoTokenizer<B> {
    /// From `video_tokenizer/config.json` and the tensors beside it; weights are kept in f32.
    ///
    /// # Errors
    /// When the configuration is wrong or a tensor is missing, misshapen, not finite or unknown.
    pub fn load(config: &[u8], tensors: &TensorSet, backend: B) -> Result<Self> {
        let config = VideoConfig::parse(config)?;
        let loader = Loader { backend: &backend, tensors };
        let encoder = Encoder::load(&loader, &config)?;
        let decoder = Decoder::load(&loader, &config)?;
        tensors.check_all_used()?;
        Ok(Self { backend, config, encoder, decoder })
    }

    /// The checked configuration.
    pub fn config(&self) -> &VideoConfig {
        &self.config
    }

    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    pub(crate) fn decoder_weights(&self) -> &Decoder<B> {
        &self.decoder
    }

    /// A picture (one frame) or a clip -> codes `[rows, columns, digits]` of each latent frame.
    ///
    /// `crop` of every frame is brought to the grid's picture; choose it with the grid's ratio ([`Grid::crop`]) and nothing is stretched. A last latent frame
    /// that is not full repeats the last frame.
    ///
    /// # Errors
    /// [`TokenizerError::Size`](crate::TokenizerError::Size) when a frame does not contain `crop`, or an error of the device.
    pub fn encode(&self, frames: &[Frame], crop: Rect, grid: Grid) -> Result<Vec<Vec<u16>>> {
        let mut run = EncoderRun::new(&self.backend, &self.encoder, &self.config, grid)?;
        let mut latents = Vec::with_capacity(self.config.latents(frames.len()));
        let mut rest = frames;
        while !rest.is_empty() {
            let take = if latents.is_empty() { 1 } else { self.config.stride.min(rest.len()) };
            let (now, later) = rest.split_at(take);
            let pictures = now.iter().map(|f| at_analysis_scale(f, crop, &grid)).collect::<Result<Vec<_>>>()?;
            // Latent frame 0 is one picture shown all the time; a clip's last latent frame may be short.
            let shown: Vec<&[u8]> = (0..self.config.stride).map(|f| &pictures[f.min(take - 1)].data[..]).collect();
            latents.push(run.latent(&shown)?);
            rest = later;
        }
        Ok(latents)
    }

    /// A decoder for one clip.
    ///
    /// # Errors
    /// [`TokenizerError::Size`](crate::TokenizerError::Size) for an impossible output size, or an error of the device.
    pub fn decoder(self: &Arc<Self>, grid: Grid, spec: FrameSpec) -> Result<VideoStream<B>> {
        VideoStream::new(self.clone(), grid, spec)
    }
}
