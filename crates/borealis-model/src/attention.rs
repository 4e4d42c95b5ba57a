//! Attention over the KV slab: grouped heads, with what families put between projection and rotation.

use borealis_kernels::{Activation, Backend, RopeSpec, Span};

use crate::error::Result;
use crate::heads::{AttentionSpec, Heads, QkNorm};
use crate::latent::Latent;
use crate::load::Loader;
use crate::scratch::LayerScratch;

/// What all layers of a step share; layers with a window have spans of their own.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    /// Rows of the step.
    pub rows: usize,
    /// Slot that each row's keys and values go to.
    pub slots: &'a [u32],
    /// Slots that each row sees.
    pub spans: &'a [Span],
    /// Rotary positions; the angles lie in the scratch.
    pub rope: &'a RopeSpec,
    /// Added under the square root of every norm.
    pub eps: f32,
}

/// Added under the square root of the layer norm of heads, whatever the configuration says (`ChameleonLayerNorm`).
const LAYER_NORM_EPS: f32 = 1e-5;

/// A linear map of a layer.
pub(crate) struct Linear<B: Backend> {
    pub weight: B::Weight,
    pub bias: Option<B::Buffer>,
}

impl<B: Backend> Linear<B> {
    /// Reads `<name>.weight` and, when wanted, `<name>.bias`.
    pub fn load(loader: &Loader<'_, B>, name: &str, shape: [usize; 2], bias: bool) -> Result<Self> {
        let weight = loader.matrix(&format!("{name}.weight"), &shape)?;
        Ok(Self { weight, bias: loader.bias(bias, name, shape[0])? })
    }

    /// `out = x w^T + bias`, or `+=`.
    pub fn forward(&self, b: &B, x: &B::Buffer, rows: usize, accumulate: bool, out: &mut B::Buffer) -> Result<()> {
        b.matmul(x, rows, &self.weight, None, accumulate, out)?;
        match &self.bias {
            Some(bias) => Ok(b.add_bias(out, bias, rows)?),
            None => Ok(()),
        }
    }
}

/// The attention of one layer.
pub(crate) enum Attention<B: Backend> {
    Grouped(Box<Grouped<B>>),
    Latent(Box<Latent<B>>),
}

impl<B: Backend> Attention<B> {
    /// Reads the tensors under `prefix` for a residual stream of `width`.
    pub fn load(loader: &Loader<'_, B>, prefix: &str, width: usize, spec: &AttentionSpec) -> Result<Self> {
        Ok(match spec.latent {
            Some(latent) => Self::Latent(Box::new(Latent::load(loader, prefix, width, spec, latent)?)),
            None => Self::Grouped(Box::new(Grouped::load(loader, prefix, width, spec)?)),
        })
    }

    /// `hidden += o_proj(attention(s.x))`: stores the rows' keys and values first, so rows of a step see each other as far as their spans allow.
    pub fn forward(
        &self,
        b: &B,
        step: &Step<'_>,
        s: &mut LayerScratch<B>,
        kv: &mut B::Kv,
        hidden: &mut B::Buffer,
    ) -> Result<()> {
        match self {
            Self::Grouped(a) => a.forward(b, step, s, kv, hidden),
            Self::Latent(a) => a.forward(b, step, s, kv, hidden),
        }
    }

    /// Bytes of the weights.
    pub fn bytes(&self, b: &B) -> u64 {
        let weights: Vec<&B::Weight> = match self {
            Self::Grouped(a) => [&a.q, &a.k, &a.v, &a.o].iter().map(|l| &l.weight).collect(),
            Self::Latent(a) => a.weights(),
        };
        weights.iter().map(|w| b.weight_bytes(w) as u64).sum()
    }
}

/// Weight of a norm, and the bias of a layer norm.
type Norm<B> = (<B as Backend>::Buffer, Option<<B as Backend>::Buffer>);

/// Heads in groups that share keys and values.
pub(crate) struct Grouped<B: Backend> {
    heads: Heads,
    scale: f32,
    clip: Option<f32>,
    q: Linear<B>,
    k: Linear<B>,
    v: Linear<B>,
    o: Linear<B>,
    /// Weights of the norms of queries and keys, and their biases for layer norms.
    qk_norm: Option<[Norm<B>; 2]>,
}

impl<B: Backend> Grouped<B> {
    fn load(loader: &Loader<'_, B>, prefix: &str, width: usize, spec: &AttentionSpec) -> Result<Self> {
        let heads = spec.heads;
        let linear = |name: &str, shape| Linear::load(loader, &format!("{prefix}.{name}_proj"), shape, spec.bias);
        let norm = |name: &str, n: usize| {
            let name = format!("{prefix}.{name}_norm");
            let value = |end: &str, shape: &[usize]| loader.buffer(&loader.values(&format!("{name}.{end}"), shape)?);
            Ok::<_, crate::ModelError>(match heads.qk_norm {
                QkNorm::None | QkNorm::Head => (value("weight", &[heads.dim])?, None),
                QkNorm::Projection => (value("weight", &[n * heads.dim])?, None),
                QkNorm::LayerNorm => (value("weight", &[n, heads.dim])?, Some(value("bias", &[n, heads.dim])?)),
            })
        };
        Ok(Self {
            heads,
            scale: spec.scale,
            clip: spec.clip,
            q: linear("q", [heads.query_width(), width])?,
            k: linear("k", [heads.kv_width(), width])?,
            v: linear("v", [heads.kv_width(), width])?,
            o: linear("o", [width, heads.query_width()])?,
            qk_norm: match heads.qk_norm {
                QkNorm::None => None,
                _ => Some([norm("q", heads.query)?, norm("k", heads.kv)?]),
            },
        })
    }

    fn forward(
        &self,
        b: &B,
        step: &Step<'_>,
        s: &mut LayerScratch<B>,
        kv: &mut B::Kv,
        hidden: &mut B::Buffer,
    ) -> Result<()> {
        let Heads { query, kv: kv_heads, .. } = self.heads;
        self.q.forward(b, &s.x, step.rows, false, &mut s.q)?;
        self.k.forward(b, &s.x, step.rows, false, &mut s.k)?;
        self.v.forward(b, &s.x, step.rows, false, &mut s.v)?;
        if let Some([q_norm, k_norm]) = &self.qk_norm {
            self.norm(b, step, q_norm, query, &mut s.q)?;
            self.norm(b, step, k_norm, kv_heads, &mut s.k)?;
        }
        if let Some(limit) = self.clip {
            b.activate(Activation::Clip(limit), &mut s.q, step.rows * self.heads.query_width())?;
            b.activate(Activation::Clip(limit), &mut s.k, step.rows * self.heads.kv_width())?;
            b.activate(Activation::Clip(limit), &mut s.v, step.rows * self.heads.kv_width())?;
        }
        b.rope(step.rope, &s.angles, step.rows, query, &mut s.q)?;
        b.rope(step.rope, &s.angles, step.rows, kv_heads, &mut s.k)?;
        b.store_kv(kv, &s.k, &s.v, step.slots)?;
        b.attention(&s.q, query, kv, step.spans, self.scale, &mut s.attended)?;
        self.o.forward(b, &s.attended, step.rows, true, hidden)
    }

    /// Norms `n` heads of each row.
    fn norm(&self, b: &B, step: &Step<'_>, (weight, bias): &Norm<B>, n: usize, x: &mut B::Buffer) -> Result<()> {
        match (self.heads.qk_norm, bias) {
            (QkNorm::LayerNorm, Some(bias)) => {
                b.layer_norm_in_place(x, weight, bias, self.heads.dim, LAYER_NORM_EPS, step.rows)?;
            }
            (QkNorm::Projection, _) => b.rms_norm_in_place(x, weight, step.eps, step.rows)?,
            _ => b.rms_norm_in_place(x, weight, step.eps, step.rows * n)?,
        }
        Ok(())
    }
}
