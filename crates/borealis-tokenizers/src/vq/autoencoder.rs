//! Encoder and decoder: pictures to latents and back.

use crate::Result;
use crate::vq::blocks::{Level, LevelSpec, Middle, TimeResidual};
use crate::vq::config::VqConfig;
use crate::vq::conv::{Conv, Shape};
use crate::vq::map::FeatureMap;
use crate::vq::norm::Norm;
use crate::vq::source::Source;

/// Pixels to latents before quantisation.
#[derive(Debug)]
pub(crate) struct Encoder {
    input: Conv,
    levels: Vec<Level>,
    middle: Middle,
    norm: Norm,
    out: Conv,
    /// Convolutions that halve the frames, then residual blocks; empty for picture tokenizers.
    time: Vec<Conv>,
    time_blocks: Vec<TimeResidual>,
    /// Frames that a single picture is shown as.
    shown: usize,
}

impl Encoder {
    pub fn load(s: &Source<'_>, config: &VqConfig) -> Result<Self> {
        let names = config.names();
        let finest = config.multipliers.len() - 1;
        let mut levels = Vec::new();
        let mut inputs = config.base;
        for (level, multiplier) in config.multipliers.iter().enumerate() {
            let outputs = config.base * multiplier;
            let spec = LevelSpec {
                name: format!("encoder.{}.{level}", names.down),
                inputs,
                outputs,
                blocks: config.blocks,
                attention: config.attention[level],
                resample: (level != finest).then(|| ("downsample", Shape::down())),
                latents: None,
            };
            levels.push(Level::load(s, config, &spec)?);
            inputs = outputs;
        }
        let latent = config.latent;
        let halve = Shape { stride: (2, 1, 1), ..Shape::causal((4, 3, 3)) };
        let time = |i| Conv::load(s, &format!("encoder.time_conv.{i}.conv.conv"), latent, latent, halve);
        let block = |i| TimeResidual::load(s, &format!("encoder.time_res_stack.{i}"), latent);
        Ok(Self {
            input: Conv::load(s, "encoder.conv_in", config.in_channels, config.base, Shape::same(3))?,
            levels,
            middle: Middle::load(s, config, "encoder", None)?,
            norm: Norm::load(s, "encoder.norm_out", inputs, None)?,
            out: Conv::load(s, "encoder.conv_out", inputs, latent, Shape::same(3))?,
            time: (0..config.halvings()).map(time).collect::<Result<_>>()?,
            time_blocks: (0..config.time_blocks()).map(block).collect::<Result<_>>()?,
            shown: config.frames_per_latent,
        })
    }

    /// `pixels` -> latents. A single frame is a picture: it is computed once and stands for all frames of its latent frame.
    pub fn apply(&self, pixels: &FeatureMap) -> Result<FeatureMap> {
        let mut x = self.input.apply(pixels)?;
        for level in &self.levels {
            x = level.apply(x, None)?;
        }
        x = self.middle.apply(x, None)?;
        x = self.out.apply(&self.norm.apply(&x, None, true)?)?;
        if pixels.frames == 1 && self.shown > 1 {
            x = x.repeated(self.shown);
        }
        for conv in &self.time {
            x = conv.apply(&x)?;
            x.silu();
        }
        self.time_blocks.iter().try_fold(x, |x, block| block.apply(x))
    }
}

/// Latents after quantisation to pixels.
#[derive(Debug)]
pub(crate) struct Decoder {
    time_blocks: Vec<TimeResidual>,
    /// Convolutions after each frame is doubled.
    time: Vec<Conv>,
    input: Conv,
    middle: Middle,
    /// From the coarsest to the finest.
    levels: Vec<Level>,
    norm: Norm,
    out: Conv,
    /// The norms are steered by the quantised latents.
    steered: bool,
}

impl Decoder {
    pub fn load(s: &Source<'_>, config: &VqConfig) -> Result<Self> {
        let names = config.names();
        let latents = config.steered.then_some(config.embed);
        let count = config.multipliers.len();
        let mut levels = Vec::new();
        let mut inputs = config.coarsest();
        for level in (0..count).rev() {
            let outputs = config.base * config.multipliers[level];
            let number = if names.up_from_coarsest { count - 1 - level } else { level };
            let spec = LevelSpec {
                name: format!("decoder.{}.{number}", names.up),
                inputs,
                outputs,
                blocks: config.blocks + 1,
                attention: config.attention[level],
                resample: (level != 0).then(|| ("upsample", Shape::up())),
                latents,
            };
            levels.push(Level::load(s, config, &spec)?);
            inputs = outputs;
        }
        let latent = config.latent;
        let double = Shape { enlarge: (2, 1, 1), ..Shape::causal((3, 3, 3)) };
        let time = |i| Conv::load(s, &format!("decoder.time_conv.{i}.conv.conv"), latent, latent, double);
        let block = |i| TimeResidual::load(s, &format!("decoder.time_res_stack.{i}"), latent);
        Ok(Self {
            time_blocks: (0..config.time_blocks()).map(block).collect::<Result<_>>()?,
            time: (0..config.halvings()).map(time).collect::<Result<_>>()?,
            input: Conv::load(s, "decoder.conv_in", latent, config.coarsest(), Shape::same(3))?,
            middle: Middle::load(s, config, "decoder", latents)?,
            levels,
            norm: Norm::load(s, "decoder.norm_out", inputs, latents)?,
            out: Conv::load(s, "decoder.conv_out", inputs, config.out_channels, Shape::same(3))?,
            steered: config.steered,
        })
    }

    /// `hidden` (latents after the last 1x1 layer) and `quantised` (codebook rows) -> pixels; of the frames that they stand for, the first `keep`.
    pub fn apply(&self, hidden: FeatureMap, quantised: FeatureMap, keep: usize) -> Result<FeatureMap> {
        // Frames are independent after the temporal layers: what is not shown is not computed.
        let mut x = self.in_time(hidden)?.keep(keep);
        let latents = self.steered.then(|| self.in_time(quantised)).transpose()?.map(|l| l.keep(keep));
        let latents = latents.as_ref();
        x = self.middle.apply(self.input.apply(&x)?, latents)?;
        for level in &self.levels {
            x = level.apply(x, latents)?;
        }
        self.out.apply(&self.norm.apply(&x, latents, true)?)
    }

    fn in_time(&self, x: FeatureMap) -> Result<FeatureMap> {
        let mut x = self.time_blocks.iter().try_fold(x, |x, block| block.apply(x))?;
        for conv in &self.time {
            x = conv.apply(&x)?;
            x.silu();
        }
        Ok(x)
    }
}
