//! Configurations of the picture tokenizers of open checkpoints, read into one form.

use borealis_weights::{Node, WeightsError};

use crate::vq::names::{EMU3, JANUS, Names, TAMING};
use crate::vq::norm::divides;
use crate::{Result, TokenizerError};

/// Most channels of a layer, most codes, and other bounds that keep products far from overflow.
const MAX_CHANNELS: u32 = 1 << 14;
const MAX_CODES: u32 = 1 << 20;
const MAX_LEVELS: usize = 8;

/// Which reference a tokenizer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VqFamily {
    /// Emu3: pictures and clips (4 frames a latent frame), norms steered by the latents.
    Emu3,
    /// Emu3.5: the code is the largest dot product.
    Ibq,
    /// CompVis VQGAN; what Chameleon, Anole and Lumina-mGPT decode with.
    Taming,
    /// Chameleon's VQGAN inside its checkpoint; usually without a decoder.
    Chameleon,
    /// Janus: codebook rows are normalised when decoding.
    Janus,
}

/// Values of `model_type`: what they are, and whether their words are the makers' own.
const KINDS: [(&str, (VqFamily, bool)); 6] = [
    ("emu3_vqgan", (VqFamily::Emu3, false)),
    ("Emu3VisionVQ", (VqFamily::Emu3, true)),
    ("emu35_ibq", (VqFamily::Ibq, false)),
    ("taming_vqgan", (VqFamily::Taming, false)),
    ("chameleon_vqgan", (VqFamily::Chameleon, false)),
    ("janus_vqgan", (VqFamily::Janus, false)),
];

/// A picture tokenizer's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct VqConfig {
    /// Which reference it follows.
    pub family: VqFamily,
    /// Its tensors have the names of its makers, not those of transformers (Emu3).
    pub original: bool,
    /// Channels of pictures read and made.
    pub in_channels: usize,
    /// Channels of pictures made.
    pub out_channels: usize,
    /// Channels at full size; each level has a multiple.
    pub base: usize,
    /// Multiples of `base`, from the finest level.
    pub multipliers: Vec<usize>,
    /// Residual blocks of a level of the encoder; the decoder has one more.
    pub blocks: usize,
    /// Levels with attention.
    pub attention: Vec<bool>,
    /// The part between encoder and decoder has attention.
    pub middle_attention: bool,
    /// Attention heads.
    pub heads: usize,
    /// Channels of latents.
    pub latent: usize,
    /// Channels of a codebook row.
    pub embed: usize,
    /// Codes.
    pub codes: usize,
    /// Frames of a latent frame; 1 for picture tokenizers.
    pub frames_per_latent: usize,
    /// The decoder's norms are steered by the quantised latents.
    pub steered: bool,
    /// Pixels along each side of the pictures that it is used with, for families that know one size.
    pub side: Option<usize>,
}

impl VqConfig {
    /// Reads the configuration of a picture tokenizer: a `config.json` of its own, or the `vq_config` of a checkpoint of `family`, which counts where
    /// there is no `model_type`. Where a field is absent it has the reference's default.
    ///
    /// # Errors
    /// With the field, its value, and what it must be.
    pub fn read(node: &Node<'_>, family: Option<&str>) -> Result<Self> {
        let (kind, original) = Self::kind(node, family)?;
        let config = match kind {
            VqFamily::Emu3 => emu3(node, original)?,
            kind @ (VqFamily::Ibq | VqFamily::Taming) => taming(node, kind)?,
            VqFamily::Chameleon => chameleon(node)?,
            VqFamily::Janus => janus(node)?,
        };
        config.check(node)?;
        Ok(config)
    }

    fn kind(node: &Node<'_>, family: Option<&str>) -> Result<(VqFamily, bool)> {
        if let Some(kind) = node.opt("model_type")? {
            return Ok(kind.choice(&KINDS)?);
        }
        let kind = KINDS.iter().find(|(name, _)| family.is_some_and(|f| name.starts_with(f)));
        kind.map(|k| k.1)
            .ok_or_else(|| node.missing("model_type", "say which kind of picture tokenizer this is").into())
    }

    /// Pixels of a place of the latents, along each side.
    pub fn spatial_factor(&self) -> usize {
        1 << (self.multipliers.len() - 1)
    }

    pub(crate) fn coarsest(&self) -> usize {
        self.base * self.multipliers.last().copied().unwrap_or(1)
    }

    pub(crate) fn names(&self) -> &'static Names {
        match self.family {
            VqFamily::Emu3 if !self.original => &EMU3,
            VqFamily::Janus => &JANUS,
            VqFamily::Emu3 | VqFamily::Ibq | VqFamily::Taming | VqFamily::Chameleon => &TAMING,
        }
    }

    /// How often the frames are halved.
    pub(crate) fn halvings(&self) -> usize {
        self.frames_per_latent.ilog2() as usize
    }

    /// Residual blocks of the temporal layers.
    pub(crate) fn time_blocks(&self) -> usize {
        if self.family == VqFamily::Emu3 { self.blocks } else { 0 }
    }

    fn check(&self, node: &Node<'_>) -> Result<()> {
        let bad = |what: String| Err(TokenizerError::config("config.json", node.path(), what));
        for (level, multiplier) in self.multipliers.iter().enumerate() {
            let channels = self.base * multiplier;
            if !divides(channels) || !divides(self.base) {
                return bad(format!("has {channels} channels at level {level}: channels must be a multiple of 32"));
            }
            if self.attention[level] && !channels.is_multiple_of(self.heads) {
                return bad(format!(
                    "has {channels} channels at level {level}: must be a multiple of the heads, {}",
                    self.heads
                ));
            }
        }
        if self.steered && self.embed != self.latent {
            return bad(format!(
                "has embed_dim {} and latent_channels {}: they must be equal",
                self.embed, self.latent
            ));
        }
        Ok(())
    }
}

/// A size with the reference's default.
fn size(node: &Node<'_>, key: &str, max: u32, default: usize) -> Result<usize> {
    Ok(node.opt(key)?.map(|n| n.size(1, max)).transpose()?.unwrap_or(default))
}

fn list(node: &Node<'_>, key: &str, max: u32, default: &[usize]) -> Result<Vec<usize>> {
    let Some(list) = node.opt(key)? else { return Ok(default.to_vec()) };
    let values =
        list.list(MAX_LEVELS)?.iter().map(|n| n.size(0, max)).collect::<std::result::Result<Vec<_>, WeightsError>>()?;
    Ok(values)
}

/// The multiples of a configuration.
fn multipliers(node: &Node<'_>, key: &str, default: &[usize]) -> Result<Vec<usize>> {
    let values = list(node, key, 64, default)?;
    if values.is_empty() || values.contains(&0) {
        return Err(node.get(key)?.fail("must be 1 to 8 numbers of at least 1").into());
    }
    Ok(values)
}

/// Refuses what no loaded tokenizer has.
fn refuse_double(node: &Node<'_>, key: &str) -> Result<()> {
    match node.opt(key)? {
        Some(double) if double.boolean()? => {
            Err(double.fail("tokenizers with means and variances are not supported").into())
        }
        _ => Ok(()),
    }
}

/// Emu3's, in the words of transformers or in those of its makers.
fn emu3(node: &Node<'_>, original: bool) -> Result<VqConfig> {
    let key = |ours: &'static str, theirs: &'static str| if original { theirs } else { ours };
    refuse_double(node, key("double_latent", "double_z"))?;
    let multipliers = multipliers(node, key("channel_multiplier", "ch_mult"), &[1, 2, 2, 4])?;
    let with = list(node, "attn_resolutions", 64, &[3])?;
    let base = size(node, key("base_channels", "ch"), MAX_CHANNELS, 256)?;
    let frames = size(node, "temporal_downsample_factor", 64, 4)?;
    if !frames.is_power_of_two() {
        return Err(node.get("temporal_downsample_factor")?.fail("must be a power of two").into());
    }
    let attended = |level: usize| level == multipliers.len() - 1 || with.contains(&level);
    let hidden = size(node, "hidden_size", MAX_CHANNELS, 1024)?;
    let odd = (0..multipliers.len()).find(|l| attended(*l) && base * multipliers[*l] != hidden);
    if let Some(level) = odd.filter(|_| !original) {
        let what = format!("must be {}: level {level} has as many channels and attention", base * multipliers[level]);
        return Err(match node.opt("hidden_size")? {
            Some(n) => n.fail(what).into(),
            None => node.missing("hidden_size", what).into(),
        });
    }
    Ok(VqConfig {
        family: VqFamily::Emu3,
        original,
        in_channels: size(node, "in_channels", 16, 3)?,
        out_channels: size(node, "out_channels", 16, 3)?,
        base,
        blocks: size(node, "num_res_blocks", 16, 2)?,
        attention: (0..multipliers.len()).map(|l| with.contains(&l)).collect(),
        middle_attention: true,
        heads: if original { 1 } else { size(node, "num_attention_heads", 256, 1)? },
        latent: size(node, key("latent_channels", "z_channels"), MAX_CHANNELS, 4)?,
        embed: size(node, "embed_dim", MAX_CHANNELS, 4)?,
        codes: size(node, "codebook_size", MAX_CODES, 32768)?,
        frames_per_latent: frames,
        steered: true,
        side: None,
        multipliers,
    })
}

/// Levels whose pictures have one of the listed sides when the whole has `resolution`.
fn at_sides(resolution: usize, sides: &[usize], levels: usize) -> Vec<bool> {
    (0..levels).map(|level| sides.contains(&(resolution >> level))).collect()
}

fn taming(node: &Node<'_>, family: VqFamily) -> Result<VqConfig> {
    let dd = node.get("ddconfig")?;
    refuse_double(&dd, "double_z")?;
    let need = |node: &Node<'_>, key: &str, max: u32| -> Result<usize> { Ok(node.get(key)?.size(1, max)?) };
    let multipliers = multipliers(&dd, "ch_mult", &[1, 2, 4, 8])?;
    let sides = list(&dd, "attn_resolutions", 1 << 16, &[])?;
    let resolution = need(&dd, "resolution", 1 << 16)?;
    Ok(VqConfig {
        family,
        original: false,
        in_channels: size(&dd, "in_channels", 16, 3)?,
        out_channels: size(&dd, "out_ch", 16, 3)?,
        base: need(&dd, "ch", MAX_CHANNELS)?,
        blocks: need(&dd, "num_res_blocks", 16)?,
        attention: at_sides(resolution, &sides, multipliers.len()),
        middle_attention: true,
        heads: 1,
        latent: need(&dd, "z_channels", MAX_CHANNELS)?,
        embed: need(node, "embed_dim", MAX_CHANNELS)?,
        codes: need(node, "n_embed", MAX_CODES)?,
        frames_per_latent: 1,
        steered: false,
        side: None,
        multipliers,
    })
}

fn chameleon(node: &Node<'_>) -> Result<VqConfig> {
    refuse_double(node, "double_latent")?;
    let multipliers = multipliers(node, "channel_multiplier", &[1, 1, 2, 2, 4])?;
    let sides = list(node, "attn_resolutions", 1 << 16, &[])?;
    let resolution = size(node, "resolution", 1 << 16, 512)?;
    let vanilla = match node.opt("attn_type")? {
        Some(kind) => kind.choice(&[("vanilla", true), ("none", false), ("None", false)])?,
        None => true,
    };
    Ok(VqConfig {
        family: VqFamily::Chameleon,
        original: false,
        in_channels: size(node, "in_channels", 16, 3)?,
        out_channels: size(node, "in_channels", 16, 3)?,
        base: size(node, "base_channels", MAX_CHANNELS, 128)?,
        blocks: size(node, "num_res_blocks", 16, 2)?,
        attention: at_sides(resolution, &sides, multipliers.len()).iter().map(|a| *a && vanilla).collect(),
        middle_attention: vanilla,
        heads: 1,
        latent: size(node, "latent_channels", MAX_CHANNELS, 256)?,
        embed: size(node, "embed_dim", MAX_CHANNELS, 256)?,
        codes: size(node, "num_embeddings", MAX_CODES, 8192)?,
        frames_per_latent: 1,
        steered: false,
        side: Some(resolution),
        multipliers,
    })
}

fn janus(node: &Node<'_>) -> Result<VqConfig> {
    refuse_double(node, "double_latent")?;
    let multipliers = multipliers(node, "channel_multiplier", &[1, 1, 2, 2, 4])?;
    Ok(VqConfig {
        family: VqFamily::Janus,
        original: false,
        in_channels: size(node, "in_channels", 16, 3)?,
        out_channels: size(node, "out_channels", 16, 3)?,
        base: size(node, "base_channels", MAX_CHANNELS, 128)?,
        blocks: size(node, "num_res_blocks", 16, 2)?,
        // The coarsest level, whatever its size.
        attention: (1..=multipliers.len()).map(|level| level == multipliers.len()).collect(),
        middle_attention: true,
        heads: 1,
        latent: size(node, "latent_channels", MAX_CHANNELS, 256)?,
        embed: size(node, "embed_dim", MAX_CHANNELS, 8)?,
        codes: size(node, "num_embeddings", MAX_CODES, 16384)?,
        frames_per_latent: 1,
        steered: false,
        side: Some(size(node, "num_patches", 1 << 10, 24)? << (multipliers.len() - 1)),
        multipliers,
    })
}
