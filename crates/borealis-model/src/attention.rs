//! Grouped-query attention over the KV slab.

use borealis_kernels::{Backend, RopeSpec, Span};

use crate::config::Heads;
use crate::error::Result;
use crate::load::Loader;
use crate::scratch::LayerScratch;

/// What all layers of a step share.
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

/// The attention of one layer.
pub(crate) struct Attention<B: Backend> {
    heads: Heads,
    q: B::Weight,
    k: B::Weight,
    v: B::Weight,
    o: B::Weight,
    qk_norm: Option<(B::Buffer, B::Buffer)>,
}

impl<B: Backend> Attention<B> {
    /// Reads `<prefix>.{q,k,v,o}_proj.weight` and the norms of a residual stream of `width`.
    pub fn load(loader: &Loader<'_, B>, prefix: &str, width: usize, heads: Heads) -> Result<Self> {
        let matrix = |name: &str, shape: [usize; 2]| loader.matrix(&format!("{prefix}.{name}_proj.weight"), &shape);
        let norm = |name: &str| loader.vector(&format!("{prefix}.{name}_norm.weight"), heads.dim);
        Ok(Self {
            heads,
            q: matrix("q", [heads.query_width(), width])?,
            k: matrix("k", [heads.kv_width(), width])?,
            v: matrix("v", [heads.kv_width(), width])?,
            o: matrix("o", [width, heads.query_width()])?,
            qk_norm: if heads.qk_norm { Some((norm("q")?, norm("k")?)) } else { None },
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
        let Heads { query, kv: kv_heads, dim, .. } = self.heads;
        b.matmul(&s.x, step.rows, &self.q, None, false, &mut s.q)?;
        b.matmul(&s.x, step.rows, &self.k, None, false, &mut s.k)?;
        b.matmul(&s.x, step.rows, &self.v, None, false, &mut s.v)?;
        if let Some((q_norm, k_norm)) = &self.qk_norm {
            b.rms_norm_in_place(&mut s.q, q_norm, step.eps, step.rows * query)?;
            b.rms_norm_in_place(&mut s.k, k_norm, step.eps, step.rows * kv_heads)?;
        }
        b.rope(step.rope, &s.angles, step.rows, query, &mut s.q)?;
        b.rope(step.rope, &s.angles, step.rows, kv_heads, &mut s.k)?;
        b.store_kv(kv, &s.k, &s.v, step.slots)?;
        let scale = 1.0 / (dim as f32).sqrt();
        b.attention(&s.q, query, kv, step.spans, scale, &mut s.attended)?;
        b.matmul(&s.attended, step.rows, &self.o, None, true, hidden)?;
        Ok(())
    }

    /// Bytes of the weights.
    pub fn bytes(&self, b: &B) -> u64 {
        [&self.q, &self.k, &self.v, &self.o].iter().map(|w| b.weight_bytes(w) as u64).sum()
    }
}
