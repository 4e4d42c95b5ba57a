//! One transformer layer: `h += attention(norm(h))`, `h += mlp(norm(h))`; or, with `swin_norm`, `h += norm(attention(h))`, `h += norm(mlp(h))`.

use borealis_kernels::{Backend, Columns};

use crate::attention::{Attention, Step};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::heads::{AttentionSpec, Heads};
use crate::load::Loader;
use crate::moe::{Mlp, SwiGlu};
use crate::scratch::LayerScratch;

/// A layer with its weights.
pub(crate) struct Layer<B: Backend> {
    width: usize,
    /// The norms stand behind what they belong to.
    norms_after: bool,
    input_norm: B::Buffer,
    pub attention: Attention<B>,
    post_norm: B::Buffer,
    pub mlp: Mlp<B>,
}

impl<B: Backend> Layer<B> {
    /// Layer `i` of the transformer.
    pub fn load(loader: &Loader<'_, B>, i: usize, c: &ModelConfig) -> Result<Self> {
        let prefix = format!("model.layers.{i}");
        let mlp = match c.routed(i) {
            Some(experts) => Mlp::load_routed(loader, i, c.hidden_size, experts)?,
            None => Mlp::Dense(SwiGlu::load(
                loader,
                &format!("{prefix}.mlp"),
                c.hidden_size,
                c.intermediate_size,
                c.mlp_bias,
            )?),
        };
        let layer = Self::with(loader, &prefix, c.hidden_size, &c.attention(), mlp)?;
        Ok(Self { norms_after: c.swin_norm, ..layer })
    }

    /// A plain layer without experts.
    pub fn load_dense(loader: &Loader<'_, B>, prefix: &str, width: usize, heads: Heads, inner: usize) -> Result<Self> {
        let mlp = Mlp::Dense(SwiGlu::load(loader, &format!("{prefix}.mlp"), width, inner, false)?);
        Self::with(loader, prefix, width, &AttentionSpec::plain(heads), mlp)
    }

    fn with(
        loader: &Loader<'_, B>,
        prefix: &str,
        width: usize,
        attention: &AttentionSpec,
        mlp: Mlp<B>,
    ) -> Result<Self> {
        Ok(Self {
            width,
            norms_after: false,
            input_norm: loader.vector(&format!("{prefix}.input_layernorm.weight"), width)?,
            attention: Attention::load(loader, &format!("{prefix}.self_attn"), width, attention)?,
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
        if self.norms_after {
            self.behind(b, step, s, hidden, &self.input_norm, |s, out| self.attention.forward(b, step, s, kv, out))?;
            return self.behind(b, step, s, hidden, &self.post_norm, |s, out| self.mlp.forward(b, step.rows, s, out));
        }
        b.rms_norm(hidden, &self.input_norm, step.eps, step.rows, &mut s.x)?;
        self.attention.forward(b, step, s, kv, hidden)?;
        b.rms_norm(hidden, &self.post_norm, step.eps, step.rows, &mut s.x)?;
        self.mlp.forward(b, step.rows, s, hidden)
    }

    /// `hidden += norm(part(hidden))`: `part` reads `s.x` and adds to a buffer of zeros.
    fn behind(
        &self,
        b: &B,
        step: &Step<'_>,
        s: &mut LayerScratch<B>,
        hidden: &mut B::Buffer,
        norm: &B::Buffer,
        part: impl FnOnce(&mut LayerScratch<B>, &mut B::Buffer) -> Result<()>,
    ) -> Result<()> {
        let len = step.rows * self.width;
        let all = Columns { stride: self.width, at: 0 };
        b.copy_columns(hidden, all, &mut s.x, all, self.width, step.rows)?;
        // Taken out while the part uses the rest of the scratch; made with it for every model of this kind.
        let Some((mut out, zeros)) = s.behind.take() else { return Ok(()) };
        b.write(&mut out, 0, &zeros[..len])?;
        let result = part(s, &mut out);
        if result.is_ok() {
            b.rms_norm(&out, norm, step.eps, step.rows, &mut s.x)?;
            b.add(hidden, &s.x, len)?;
        }
        s.behind = Some((out, zeros));
        result
    }
}
