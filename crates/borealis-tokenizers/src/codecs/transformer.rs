//! The causal transformer inside Mimi: layer norms, rotary positions, a window, a learnt scale on what each half of a layer adds.

use std::collections::VecDeque;

use borealis_kernels::candle::{D, Device, Tensor};
use borealis_kernels::candle_nn;
use borealis_weights::Node;

use super::config::{count, flag, size, wrong};
use super::names::Names;
use crate::Result;

/// Positions that are computed at once: bounds the memory of the scores.
const PIECE: usize = 256;

#[derive(Debug, Clone, Copy)]
enum Activation {
    Gelu,
    GeluTanh,
    Silu,
    Relu,
}

/// Fields of `config.json`.
#[derive(Debug, Clone)]
pub(super) struct TransformerSpec {
    width: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    intermediate: usize,
    activation: Activation,
    epsilon: f64,
    bias: bool,
    theta: f32,
    window: Option<usize>,
}

impl TransformerSpec {
    /// Of a transformer of `width` units; absent fields are those of kyutai/mimi.
    pub fn read(root: &Node<'_>, width: usize) -> Result<Self> {
        let heads = size(root, "num_attention_heads", 8)?;
        let kv_heads = size(root, "num_key_value_heads", 8)?;
        let head_dim = size(root, "head_dim", width / heads)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(wrong(
                "num_key_value_heads",
                format!("is {kv_heads}: must divide num_attention_heads, {heads}"),
            ));
        }
        if !head_dim.is_multiple_of(2) || head_dim == 0 {
            return Err(wrong("head_dim", format!("is {head_dim}: must be even")));
        }
        let known = [
            ("gelu", Activation::Gelu),
            ("gelu_new", Activation::GeluTanh),
            ("gelu_pytorch_tanh", Activation::GeluTanh),
            ("silu", Activation::Silu),
            ("swish", Activation::Silu),
            ("relu", Activation::Relu),
        ];
        // A window of null is none; an absent one is the default.
        let window = match root.value().get("sliding_window") {
            Some(value) if value.is_null() => None,
            _ => Some(root.opt("sliding_window")?.map_or(Ok(250), |n| n.size(1, 1 << 24))?),
        };
        Ok(Self {
            width,
            layers: count(root, "num_hidden_layers", 8)?,
            heads,
            kv_heads,
            head_dim,
            intermediate: size(root, "intermediate_size", 2048)?,
            activation: root.opt("hidden_act")?.map_or(Ok(Activation::Gelu), |n| n.choice(&known))?,
            epsilon: root.opt("norm_eps")?.map_or(Ok(1e-5), |n| n.number(0.0, 1.0))?,
            bias: flag(root, "attention_bias", false)?,
            theta: theta(root)?,
            window,
        })
    }
}

/// `rope_parameters` of new files or `rope_theta` (and `rope_scaling`) of old ones.
fn theta(root: &Node<'_>) -> Result<f32> {
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(rope) = root.opt(key)? else { continue };
        for kind in ["rope_type", "type"] {
            if let Some(node) = rope.opt(kind)? {
                node.choice(&[("default", ())])?;
            }
        }
        if let Some(theta) = rope.opt("rope_theta")? {
            return Ok(theta.number(1.0, 1e12)? as f32);
        }
    }
    Ok(root.opt("rope_theta")?.map_or(Ok(10_000.0), |n| n.number(1.0, 1e12))? as f32)
}

/// Keys and values of the positions that a stream can still see, and how many positions there were.
#[derive(Debug, Default)]
pub(super) struct Past {
    layers: VecDeque<(Tensor, Tensor)>,
    positions: usize,
}

/// The layers.
#[derive(Debug)]
pub(super) struct Transformer {
    spec: TransformerSpec,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    input_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_scale: Tensor,
    mlp_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    mlp_scale: Tensor,
}

impl Transformer {
    /// `layers` under `names`.
    pub fn load(spec: &TransformerSpec, names: &Names<'_>) -> Result<Self> {
        let layers = (0..spec.layers).map(|i| Layer::load(spec, &names.at("layers").at(i))).collect::<Result<_>>()?;
        Ok(Self { spec: spec.clone(), layers })
    }

    /// `[1, width, n]` -> the same shape. `past` is what was run before and takes this in.
    pub fn run(&self, x: &Tensor, past: &mut Past) -> Result<Tensor> {
        let rows = x.squeeze(0)?.t()?.contiguous()?;
        let n = rows.dim(0)?;
        let mut done = Vec::with_capacity(n.div_ceil(PIECE));
        for start in (0..n).step_by(PIECE) {
            done.push(self.piece(&rows.narrow(0, start, PIECE.min(n - start))?, past)?);
        }
        Ok(Tensor::cat(&done, 0)?.t()?.contiguous()?.unsqueeze(0)?)
    }

    fn piece(&self, rows: &Tensor, past: &mut Past) -> Result<Tensor> {
        let n = rows.dim(0)?;
        let rope = self.rope(past.positions, n)?;
        let mut x = rows.clone();
        for layer in &self.layers {
            let before = if past.layers.len() == self.layers.len() { past.layers.pop_front() } else { None };
            let (y, seen) = layer.run(&self.spec, &x, &rope, before)?;
            past.layers.push_back(seen);
            x = y;
        }
        past.positions += n;
        Ok(x)
    }

    /// Cosines and sines `[n, head_dim / 2]` of the positions from `start`, in the reference's f32 steps.
    fn rope(&self, start: usize, n: usize) -> Result<(Tensor, Tensor)> {
        let half = self.spec.head_dim / 2;
        let frequency = |i: usize| 1.0 / self.spec.theta.powf((2 * i) as f32 / self.spec.head_dim as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let angle = |p: usize| frequencies.iter().map(move |f| (start + p) as f32 * f);
        let angles: Vec<f32> = (0..n).flat_map(angle).collect();
        let table =
            |f: fn(f32) -> f32| Tensor::from_vec(angles.iter().map(|a| f(*a)).collect(), (n, half), &Device::Cpu);
        Ok((table(f32::cos)?, table(f32::sin)?))
    }
}

impl Layer {
    fn load(spec: &TransformerSpec, names: &Names<'_>) -> Result<Self> {
        let attention = names.at("self_attn");
        let (queries, keys) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        let project = |name, from, to| Linear::load(&attention.at(name), from, to, spec.bias);
        let scale = |name: &str| names.at(name).tensor("scale", &[spec.width]);
        Ok(Self {
            input_norm: LayerNorm::load(&names.at("input_layernorm"), spec)?,
            query: project("q_proj", spec.width, queries)?,
            key: project("k_proj", spec.width, keys)?,
            value: project("v_proj", spec.width, keys)?,
            output: project("o_proj", queries, spec.width)?,
            attention_scale: scale("self_attn_layer_scale")?,
            mlp_norm: LayerNorm::load(&names.at("post_attention_layernorm"), spec)?,
            fc1: Linear::load(&names.at("mlp.fc1"), spec.width, spec.intermediate, false)?,
            fc2: Linear::load(&names.at("mlp.fc2"), spec.intermediate, spec.width, false)?,
            mlp_scale: scale("mlp_layer_scale")?,
        })
    }

    /// `[n, width]` and the keys and values before -> `[n, width]` and the keys and values that the next position can see.
    fn run(
        &self,
        spec: &TransformerSpec,
        x: &Tensor,
        rope: &(Tensor, Tensor),
        before: Option<(Tensor, Tensor)>,
    ) -> Result<(Tensor, (Tensor, Tensor))> {
        let n = x.dim(0)?;
        let y = self.input_norm.run(x)?;
        // [heads, n, head_dim]
        let heads = |t: Tensor, count: usize| -> Result<Tensor> {
            Ok(t.reshape((n, count, spec.head_dim))?.transpose(0, 1)?.contiguous()?)
        };
        let query = rotate(&heads(self.query.run(&y)?, spec.heads)?, rope)?;
        let mut key = rotate(&heads(self.key.run(&y)?, spec.kv_heads)?, rope)?;
        let mut value = heads(self.value.run(&y)?, spec.kv_heads)?;
        if let Some((keys, values)) = before {
            key = Tensor::cat(&[&keys, &key], 1)?;
            value = Tensor::cat(&[&values, &value], 1)?;
        }
        let attended = attend(spec, &query, &key, &value)?;
        let x = (x + self.output.run(&attended)?.broadcast_mul(&self.attention_scale)?)?;
        let y = self.fc1.run(&self.mlp_norm.run(&x)?)?;
        let y = match spec.activation {
            Activation::Gelu => y.gelu_erf()?,
            Activation::GeluTanh => y.gelu()?,
            Activation::Silu => y.silu()?,
            Activation::Relu => y.relu()?,
        };
        let x = (&x + self.fc2.run(&y)?.broadcast_mul(&self.mlp_scale)?)?;
        let total = key.dim(1)?;
        // At least one: an empty tensor cannot be joined, and the mask hides it where the window is 1.
        let kept = spec.window.map_or(total, |w| total.min((w - 1).max(1)));
        let last = |t: &Tensor| t.narrow(1, total - kept, kept)?.contiguous();
        Ok((x, (last(&key)?, last(&value)?)))
    }
}

/// Attention of the last `n` positions; each sees itself and the `window - 1` before it. `[heads, n, d]` -> `[n, heads * d]`.
fn attend(spec: &TransformerSpec, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
    let (n, total) = (query.dim(1)?, key.dim(1)?);
    let shared = spec.heads / spec.kv_heads;
    // The queries that share a key lie one after another.
    let query = query.reshape((spec.kv_heads, shared * n, spec.head_dim))?;
    let scores = (query.matmul(&key.transpose(1, 2)?.contiguous()?)? / (spec.head_dim as f64).sqrt())?;
    let hidden = |q: usize, k: usize| {
        let q = total - n + q;
        k > q || spec.window.is_some_and(|w| k + w <= q)
    };
    let mask: Vec<f32> = (0..shared * n)
        .flat_map(|row| (0..total).map(move |k| if hidden(row % n, k) { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    let scores = scores.broadcast_add(&Tensor::from_vec(mask, (1, shared * n, total), &Device::Cpu)?)?;
    let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
    let out = weights.matmul(value)?.reshape((spec.heads, n, spec.head_dim))?;
    Ok(out.transpose(0, 1)?.contiguous()?.reshape((n, spec.heads * spec.head_dim))?)
}

/// Turns the pairs (i, i + d / 2) of `[heads, n, d]`.
fn rotate(x: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
    let half = x.dim(2)? / 2;
    let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let second = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
    Ok(Tensor::cat(&[first, second], 2)?)
}

#[derive(Debug)]
struct Linear {
    /// `[in, out]`.
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    fn load(names: &Names<'_>, from: usize, to: usize, bias: bool) -> Result<Self> {
        let weight = names.tensor("weight", &[to, from])?.t()?.contiguous()?;
        Ok(Self { weight, bias: bias.then(|| names.tensor("bias", &[to])).transpose()? })
    }

    fn run(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight)?;
        match &self.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }
}

#[derive(Debug)]
struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
}

impl LayerNorm {
    fn load(names: &Names<'_>, spec: &TransformerSpec) -> Result<Self> {
        let (weight, bias) = (names.tensor("weight", &[spec.width])?, names.tensor("bias", &[spec.width])?);
        Ok(Self { weight, bias, epsilon: spec.epsilon as f32 })
    }

    fn run(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::layer_norm(x, &self.weight, &self.bias, self.epsilon)?)
    }
}
