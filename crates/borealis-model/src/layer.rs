//! One transformer layer: `h += attention(norm(h))`, `h += mlp(norm(h))`.

use borealis_kernels::Backend;

use crate::attention::{Attention, Step};
use crate::config::{Heads, ModelConfig};
use crate::error::Result;
use crate::load::Loader;
use crate::moe::{Mlp, SwiGlu};
use crate::scratch::LayerScratch;

/// A layer with its weights.
pub(crate) struct Layer<B: Backend> {
    input_norm: B::Buffer,
    pub attention: Attention<B>,
    post_norm: B::Buffer,
    pub mlp: Mlp<B>,
}

impl<B: Backend> Layer<B> {
    /// Layer `i` of the transformer.
    pub fn load(loader: &Loader<'_, B>, i: usize, c: &ModelConfig) -> Result<Self> {
        let prefix = format!("model.layers.{i}");
        match c.routed(i) {
            Some(experts) => {
                let mlp = Mlp::load_routed(loader, &format!("{prefix}.mlp"), c.hidden_size, experts)?;
                Self::with(loader, &prefix, c.hidden_size, c.heads, mlp)
            }
            None => Self::load_dense(loader, &prefix, c.hidden_size, c.heads, c.intermediate_size),
        }
    }

    /// A layer without experts.
    pub fn load_dense(loader: &Loader<'_, B>, prefix: &str, width: usize, heads: Heads, inner: usize) -> Result<Self> {
        let mlp = Mlp::Dense(SwiGlu::load(loader, &format!("{prefix}.mlp"), width, inner)?);
        Self::with(loader, prefix, width, heads, mlp)
    }

    fn with(loader: &Loader<'_, B>, prefix: &str, width: usize, heads: Heads, mlp: Mlp<B>) -> Result<Self> {
        Ok(Self {
            input_norm: loader.vector(&format!("{prefix}.input_layernorm.weight"), width)?,
            attention: Attention::load(loader, &format!("{prefix}.self_attn"), width, heads)?,
            post_norm: loader.vector(&format!("{prefix}.post_attention_layernorm.weight"), width)?,
            mlp,
        })
    }

    /// Computes the layer in place. The step's angles lie in `s`; afterwards `s.routing` holds the routing of a routed layer.
    pub fn forward(
        &self,
        b: &B,
        step: &Step<'_>,
        s: &mut LayerScratch<B>,
        kv: &mut B::Kv,
        hidden: &mut B::Buffer,
    ) -> Result<()> {
        b.rms_norm(hidden, &self.input_norm, step.eps, step.rows, &mut s.x)?;
        self.attention.forward(b, step, s, kv, hidden)?;
        b.rms_norm(hidden, &self.post_norm, step.eps, step.rows, &mut s.x)?;
        self.mlp.forward(b, step.rows, s, hidden)
    }
}
