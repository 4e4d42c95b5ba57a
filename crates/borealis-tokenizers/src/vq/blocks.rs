//! Residual blocks, levels of equal size, and the part between encoder and decoder.

use crate::Result;
use crate::vq::attention::Attention;
use crate::vq::config::VqConfig;
use crate::vq::conv::{Conv, Shape};
use crate::vq::map::FeatureMap;
use crate::vq::norm::{BatchNorm, Norm};
use crate::vq::source::Source;

/// `shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))`.
#[derive(Debug)]
pub(crate) struct Residual {
    norm1: Norm,
    conv1: Conv,
    norm2: Norm,
    conv2: Conv,
    shortcut: Option<Conv>,
}

impl Residual {
    pub fn load(s: &Source<'_>, name: &str, (inputs, outputs): (usize, usize), latents: Option<usize>) -> Result<Self> {
        let part = |part: &str| format!("{name}.{part}");
        let shortcut = (inputs != outputs)
            .then(|| Conv::load(s, &part("nin_shortcut"), inputs, outputs, Shape::same(1)))
            .transpose()?;
        Ok(Self {
            norm1: Norm::load(s, &part("norm1"), inputs, latents)?,
            conv1: Conv::load(s, &part("conv1"), inputs, outputs, Shape::same(3))?,
            norm2: Norm::load(s, &part("norm2"), outputs, latents)?,
            conv2: Conv::load(s, &part("conv2"), outputs, outputs, Shape::same(3))?,
            shortcut,
        })
    }

    pub fn apply(&self, x: FeatureMap, latents: Option<&FeatureMap>) -> Result<FeatureMap> {
        let h = self.conv1.apply(&self.norm1.apply(&x, latents, true)?)?;
        let h = self.norm2.apply(&h, latents, true)?;
        let mut out = self.conv2.apply(&h)?;
        drop(h);
        match &self.shortcut {
            Some(conv) => out.add(&conv.apply(&x)?),
            None => out.add(&x),
        }
        Ok(out)
    }
}

/// Blocks of one size, each with its attention if the level has any, then the step to the next size.
#[derive(Debug)]
pub(crate) struct Level {
    blocks: Vec<(Residual, Option<Attention>)>,
    resample: Option<Conv>,
}

/// What a level of channels `inputs -> outputs` is made of.
pub(crate) struct LevelSpec<'a> {
    pub name: String,
    pub inputs: usize,
    pub outputs: usize,
    pub blocks: usize,
    pub attention: bool,
    /// Name and shape of the step to the next size.
    pub resample: Option<(&'a str, Shape)>,
    /// Channels that steer the norms.
    pub latents: Option<usize>,
}

impl Level {
    pub fn load(s: &Source<'_>, config: &VqConfig, spec: &LevelSpec<'_>) -> Result<Self> {
        let LevelSpec { name, inputs, outputs, latents, .. } = spec;
        let mut blocks = Vec::with_capacity(spec.blocks);
        for i in 0..spec.blocks {
            let from = if i == 0 { *inputs } else { *outputs };
            let block = Residual::load(s, &format!("{name}.block.{i}"), (from, *outputs), *latents)?;
            let attention = if spec.attention {
                let names = config.names();
                let (block, norm) = names.of_level(name, i);
                Some(Attention::load(s, names, (&block, &norm), (*outputs, config.heads), *latents)?)
            } else {
                None
            };
            blocks.push((block, attention));
        }
        let resample = spec
            .resample
            .map(|(part, shape)| Conv::load(s, &format!("{name}.{part}.conv"), *outputs, *outputs, shape))
            .transpose()?;
        Ok(Self { blocks, resample })
    }

    pub fn apply(&self, mut x: FeatureMap, latents: Option<&FeatureMap>) -> Result<FeatureMap> {
        for (block, attention) in &self.blocks {
            x = block.apply(x, latents)?;
            if let Some(attention) = attention {
                x = attention.apply(x, latents)?;
            }
        }
        match &self.resample {
            Some(conv) => conv.apply(&x),
            None => Ok(x),
        }
    }
}

/// Block, attention, block at the coarsest size.
#[derive(Debug)]
pub(crate) struct Middle {
    first: Residual,
    attention: Option<Attention>,
    second: Residual,
}

impl Middle {
    pub fn load(s: &Source<'_>, config: &VqConfig, side: &str, latents: Option<usize>) -> Result<Self> {
        let names = config.names();
        let name = format!("{side}.{}", names.middle);
        let channels = config.coarsest();
        let residual = |part: &str| Residual::load(s, &format!("{name}.{part}"), (channels, channels), latents);
        let (block, norm) = names.of_middle(&name);
        let attention = config
            .middle_attention
            .then(|| Attention::load(s, names, (&block, &norm), (channels, config.heads), latents))
            .transpose()?;
        Ok(Self { first: residual("block_1")?, attention, second: residual("block_2")? })
    }

    pub fn apply(&self, x: FeatureMap, latents: Option<&FeatureMap>) -> Result<FeatureMap> {
        let mut x = self.first.apply(x, latents)?;
        if let Some(attention) = &self.attention {
            x = attention.apply(x, latents)?;
        }
        self.second.apply(x, latents)
    }
}

/// The residual block of the temporal layers: causal 3x3x3 convolutions, batch norms.
#[derive(Debug)]
pub(crate) struct TimeResidual {
    norm1: BatchNorm,
    conv1: Conv,
    norm2: BatchNorm,
    conv2: Conv,
}

impl TimeResidual {
    pub fn load(s: &Source<'_>, name: &str, channels: usize) -> Result<Self> {
        let conv =
            |part: &str| Conv::load(s, &format!("{name}.{part}.conv"), channels, channels, Shape::causal((3, 3, 3)));
        Ok(Self {
            norm1: BatchNorm::load(s, &format!("{name}.norm1"), channels)?,
            conv1: conv("conv1")?,
            norm2: BatchNorm::load(s, &format!("{name}.norm2"), channels)?,
            conv2: conv("conv2")?,
        })
    }

    pub fn apply(&self, mut x: FeatureMap) -> Result<FeatureMap> {
        let h = self.conv1.apply(&self.norm1.apply_silu(&x))?;
        x.add(&self.conv2.apply(&self.norm2.apply_silu(&h))?);
        Ok(x)
    }
}
