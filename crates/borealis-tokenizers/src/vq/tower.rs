//! The vision tower of Janus (SigLIP, Zhai et al. 2023) and its aligner: pixels to rows that a language model reads in place of text.

use borealis_kernels::candle::{D, Device, Tensor};
use borealis_weights::{Node, TensorSet};

use crate::vq::attention::attend;
use crate::vq::conv::{Conv, Shape};
use crate::vq::map::FeatureMap;
use crate::vq::source::Source;
use crate::{Result, TokenizerError};

/// The function between two linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activation {
    Gelu,
    GeluTanh,
    Silu,
    Relu,
}

impl Activation {
    fn read(node: &Node<'_>) -> Result<Self> {
        let Some(name) = node.opt("hidden_act")? else { return Ok(Self::Gelu) };
        Ok(name.choice(&[
            ("gelu", Self::Gelu),
            ("gelu_pytorch_tanh", Self::GeluTanh),
            ("gelu_new", Self::GeluTanh),
            ("silu", Self::Silu),
            ("relu", Self::Relu),
        ])?)
    }

    fn apply(self, x: FeatureMap) -> Result<FeatureMap> {
        let values = Tensor::from_vec(x.data, x.frames * x.height * x.width * x.channels, &Device::Cpu);
        let through = |x: Tensor| match self {
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
            Self::Silu => x.silu(),
            Self::Relu => x.relu(),
        };
        let data = values.and_then(through).and_then(|v| v.to_vec1())?;
        Ok(FeatureMap { data, ..x })
    }
}

/// Layer norm over the channels of a place.
#[derive(Debug)]
struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    fn load(s: &Source<'_>, name: &str, channels: usize, eps: f64) -> Result<Self> {
        let row = |part: &str| -> Result<Tensor> {
            let values = s.get(&format!("{name}.{part}"), &[channels])?;
            Ok(Tensor::from_vec(values, channels, &Device::Cpu)?)
        };
        Ok(Self { weight: row("weight")?, bias: row("bias")?, eps })
    }

    fn apply(&self, x: &FeatureMap) -> Result<FeatureMap> {
        let data = self.normed(x)?;
        Ok(FeatureMap { data, ..FeatureMap::zeros(x.frames, x.size(), x.channels) })
    }

    fn normed(&self, x: &FeatureMap) -> Result<Vec<f32>> {
        let rows = Tensor::from_slice(&x.data, (x.places(), x.channels), &Device::Cpu)?;
        let centred = rows.broadcast_sub(&rows.mean_keepdim(D::Minus1)?)?;
        let spread = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        let normed = centred.broadcast_div(&spread)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)?;
        Ok(normed.flatten_all()?.to_vec1()?)
    }
}

/// One layer: attention over all patches, then two linear layers, each added to what came in.
#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    /// Query, key, value, output.
    attention: [Conv; 4],
    norm2: LayerNorm,
    mlp: [Conv; 2],
}

/// `vision_config` of a Janus checkpoint.
#[derive(Debug)]
struct TowerConfig {
    hidden: usize,
    layers: usize,
    heads: usize,
    channels: usize,
    side: usize,
    patch: usize,
    mlp: usize,
    out: usize,
    depth: usize,
    bias: bool,
    eps: f64,
    activation: Activation,
}

impl TowerConfig {
    fn read(node: &Node<'_>) -> Result<Self> {
        let size = |key: &str, max: u32, default: usize| -> Result<usize> {
            Ok(node.opt(key)?.map(|n| n.size(1, max)).transpose()?.unwrap_or(default))
        };
        let flag = |key: &str, default: bool| -> Result<bool> {
            Ok(node.opt(key)?.map(|n| n.boolean()).transpose()?.unwrap_or(default))
        };
        let number = |key: &str, low: f64, high: f64, default: f64| -> Result<f64> {
            Ok(node.opt(key)?.map(|n| n.number(low, high)).transpose()?.unwrap_or(default))
        };
        if flag("use_qk_norm", false)? {
            return Err(node.get("use_qk_norm")?.fail("a vision tower with normed queries is not supported").into());
        }
        let hidden = size("hidden_size", 1 << 14, 1024)?;
        let (heads, side, patch) = (
            size("num_attention_heads", 1 << 10, 16)?,
            size("image_size", 1 << 13, 384)?,
            size("patch_size", 1 << 10, 16)?,
        );
        if !hidden.is_multiple_of(heads) {
            return Err(node.get("num_attention_heads")?.fail(format!("must divide hidden_size, {hidden}")).into());
        }
        if patch > side {
            return Err(node.get("patch_size")?.fail(format!("must be at most image_size, {side}")).into());
        }
        Ok(Self {
            hidden,
            layers: size("num_hidden_layers", 1 << 10, 24)?,
            heads,
            channels: size("num_channels", 16, 3)?,
            side,
            patch,
            mlp: (hidden as f64 * number("mlp_ratio", 1e-3, 64.0, 4.0)?) as usize,
            out: size("projection_dim", 1 << 16, 2048)?,
            depth: size("depth", 64, 2)?,
            bias: flag("attention_bias", true)?,
            eps: number("layer_norm_eps", 1e-12, 1.0, 1e-6)?,
            activation: Activation::read(node)?,
        })
    }
}

/// The tower and its aligner; weights only, in f32.
#[derive(Debug)]
pub struct VisionTower {
    config: TowerConfig,
    patches: Conv,
    /// `[patches, hidden]`.
    positions: Vec<f32>,
    layers: Vec<Layer>,
    norm: LayerNorm,
    aligner: Vec<Conv>,
}

impl VisionTower {
    /// From the `vision_config` of a Janus checkpoint and its tensors.
    ///
    /// # Errors
    /// When the configuration is wrong or not supported, or a tensor is missing, misshapen or not finite.
    pub fn load(config: &Node<'_>, tensors: &TensorSet) -> Result<Self> {
        let config = TowerConfig::read(config)?;
        let s = Source::beside(tensors, "vision_model.embeddings.position_embedding.weight")?;
        let (hidden, eps) = (config.hidden, config.eps);
        let layer = |i: usize| {
            let at = |part: &str| format!("vision_model.encoder.layers.{i}.{part}");
            let projection = |part: &str, bias: bool| Conv::linear(&s, &at(part), hidden, hidden, bias);
            Ok(Layer {
                norm1: LayerNorm::load(&s, &at("layer_norm1"), hidden, eps)?,
                attention: [
                    projection("self_attn.q_proj", config.bias)?,
                    projection("self_attn.k_proj", config.bias)?,
                    projection("self_attn.v_proj", config.bias)?,
                    projection("self_attn.projection_layer", true)?,
                ],
                norm2: LayerNorm::load(&s, &at("layer_norm2"), hidden, eps)?,
                mlp: [
                    Conv::linear(&s, &at("mlp.fc1"), hidden, config.mlp, true)?,
                    Conv::linear(&s, &at("mlp.fc2"), config.mlp, hidden, true)?,
                ],
            })
        };
        let patch = Shape::patches(config.patch);
        let side = config.side / config.patch;
        let mut aligner = vec![Conv::linear(&s, "aligner.fc1", hidden, config.out, true)?];
        for i in 1..config.depth {
            let name = format!("aligner.hidden_layers.{}", i - 1);
            aligner.push(Conv::linear(&s, &name, config.out, config.out, true)?);
        }
        Ok(Self {
            patches: Conv::load(&s, "vision_model.embeddings.patch_embedding", config.channels, hidden, patch)?,
            positions: s.get("vision_model.embeddings.position_embedding.weight", &[side * side, hidden])?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            norm: LayerNorm::load(&s, "vision_model.post_layernorm", hidden, eps)?,
            aligner,
            config,
        })
    }

    /// Pixels of each side of the pictures that it reads.
    pub fn side(&self) -> usize {
        self.config.side
    }

    /// Rows of a picture and numbers of a row.
    pub fn rows(&self) -> (usize, usize) {
        ((self.config.side / self.config.patch).pow(2), self.config.out)
    }

    /// The rows of a picture, patch by patch: a map of one number of channels, the language model's width.
    ///
    /// # Errors
    /// [`TokenizerError::Size`] for pixels of another size than [`VisionTower::side`].
    pub fn apply(&self, pixels: &FeatureMap) -> Result<FeatureMap> {
        let side = self.config.side;
        if (pixels.frames, pixels.height, pixels.width) != (1, side, side) {
            let remedy = format!("the vision tower reads {side}x{side} pixels");
            return Err(TokenizerError::size("picture", pixels.width, pixels.height, &remedy));
        }
        let mut x = self.patches.apply(pixels)?;
        x.data.iter_mut().zip(&self.positions).for_each(|(x, p)| *x += p);
        for layer in &self.layers {
            let normed = layer.norm1.apply(&x)?;
            let [query, key, value, out] = &layer.attention;
            let (q, k, v) = (query.apply(&normed)?, key.apply(&normed)?, value.apply(&normed)?);
            let maps = [&q.data[..], &k.data, &v.data];
            let seen = attend(maps, (x.places(), x.channels), self.config.heads)?;
            x.add(&out.apply(&FeatureMap { data: seen, ..normed })?);
            let [first, second] = &layer.mlp;
            let h = self.config.activation.apply(first.apply(&layer.norm2.apply(&x)?)?)?;
            x.add(&second.apply(&h)?);
        }
        x = self.norm.apply(&x)?;
        for (i, linear) in self.aligner.iter().enumerate() {
            x = linear.apply(&if i == 0 { x } else { self.config.activation.apply(x)? })?;
        }
        Ok(x)
    }
}
