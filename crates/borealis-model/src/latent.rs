//! Multi-head latent attention (DeepSeek-V2, 2405.04434): the cache holds one compressed vector and one rotated key for each position.
//!
//! A head's key is `[W_uk c | k_rope]`, its value `W_uv c`, with c the normed, compressed vector of the position. Since `q . W_uk c = (W_uk^T q) . c`, queries are
//! brought into the compressed space and results out of it: the slab has one key head of width kv_rank + rope that all query heads share.
//! Its values are the same vectors; of a result only the first kv_rank numbers are used.

use borealis_kernels::{Backend, Columns};

use crate::attention::{Linear, Step};
use crate::error::Result;
use crate::heads::{AttentionSpec, Latent as Sizes};
use crate::load::Loader;
use crate::scratch::LayerScratch;

/// Added under the square root of the norms of compressed vectors, whatever the configuration says (the default of `DeepseekV3RMSNorm`).
const EPS: f32 = 1e-6;

/// The attention of one layer.
pub(crate) struct Latent<B: Backend> {
    sizes: Sizes,
    heads: usize,
    scale: f32,
    /// Queries are compressed first: down, and the norm behind it.
    q_down: Option<(Linear<B>, B::Buffer)>,
    /// All heads' parts without positions, then all heads' rotated parts.
    q_up: B::Weight,
    kv_down: Linear<B>,
    kv_norm: B::Buffer,
    /// `W_uk^T` of each head: `[heads, kv_rank, nope]`.
    to_latent: B::Weight,
    /// `W_uv` of each head: `[heads, value, kv_rank]`.
    from_latent: B::Weight,
    o: Linear<B>,
}

/// Buffers of [`Latent`] beside those that all kinds of attention have.
pub(crate) struct LatentScratch<B: Backend> {
    /// `[rows, q_rank]`.
    q_rank: B::Buffer,
    /// `[rows, q_rank]`, normed.
    q_normed: B::Buffer,
    /// `[rows, heads, nope]`.
    q_nope: B::Buffer,
    /// `[rows, heads, rope]`.
    q_rope: B::Buffer,
    /// `[rows, kv_rank]`.
    c: B::Buffer,
    /// `[rows, kv_rank]`, normed.
    c_normed: B::Buffer,
    /// `[rows, rope]`.
    k_rope: B::Buffer,
    /// `[rows, heads, value]`.
    values: B::Buffer,
}

impl<B: Backend> LatentScratch<B> {
    pub fn new(b: &B, rows: usize, spec: &AttentionSpec) -> Result<Option<Self>> {
        let Some(l) = spec.latent else { return Ok(None) };
        let heads = spec.heads.query;
        let buffer = |n: usize| b.alloc(rows * n.max(1));
        Ok(Some(Self {
            q_rank: buffer(l.q_rank.unwrap_or(0))?,
            q_normed: buffer(l.q_rank.unwrap_or(0))?,
            q_nope: buffer(heads * l.nope)?,
            q_rope: buffer(heads * l.rope)?,
            c: buffer(l.kv_rank)?,
            c_normed: buffer(l.kv_rank)?,
            k_rope: buffer(l.rope)?,
            values: buffer(heads * l.value)?,
        }))
    }

    /// Numbers for each row.
    pub fn numbers(spec: &AttentionSpec) -> usize {
        spec.latent.map_or(0, |l| {
            let heads = spec.heads.query * (l.nope + l.rope + l.value);
            2 * l.q_rank.unwrap_or(0) + heads + 2 * l.kv_rank + l.rope
        })
    }
}

impl<B: Backend> Latent<B> {
    /// Reads the tensors under `prefix`.
    pub fn load(loader: &Loader<'_, B>, prefix: &str, width: usize, spec: &AttentionSpec, l: Sizes) -> Result<Self> {
        let heads = spec.heads.query;
        let name = |part: &str| format!("{prefix}.{part}");
        let linear = |part: &str, shape| Linear::load(loader, &name(part), shape, spec.bias);
        let (q_down, q_up, q_in) = match l.q_rank {
            Some(rank) => {
                let down = (linear("q_a_proj", [rank, width])?, loader.vector(&name("q_a_layernorm.weight"), rank)?);
                (Some(down), name("q_b_proj.weight"), rank)
            }
            None => (None, name("q_proj.weight"), width),
        };
        let q_up = loader.values(&q_up, &[heads * (l.nope + l.rope), q_in])?;
        let kv_up = loader.values(&name("kv_b_proj.weight"), &[heads * (l.nope + l.value), l.kv_rank])?;
        let (to_latent, from_latent) = split_up(&kv_up, heads, &l);
        Ok(Self {
            sizes: l,
            heads,
            scale: spec.scale,
            q_down,
            q_up: loader.made(&by_part(&q_up, heads, &l, q_in), &[heads * (l.nope + l.rope), q_in])?,
            kv_down: linear("kv_a_proj_with_mqa", [l.kv_rank + l.rope, width])?,
            kv_norm: loader.vector(&name("kv_a_layernorm.weight"), l.kv_rank)?,
            to_latent: loader.made(&to_latent, &[heads, l.kv_rank, l.nope])?,
            from_latent: loader.made(&from_latent, &[heads, l.value, l.kv_rank])?,
            o: linear("o_proj", [width, heads * l.value])?,
        })
    }

    /// See [`crate::attention::Attention::forward`].
    pub fn forward(
        &self,
        b: &B,
        step: &Step<'_>,
        s: &mut LayerScratch<B>,
        kv: &mut B::Kv,
        hidden: &mut B::Buffer,
    ) -> Result<()> {
        let (l, rows) = (&self.sizes, step.rows);
        let wide = l.kv_rank + l.rope;
        // Made with the scratch of every model that has this attention.
        let Some(m) = s.latent.as_mut() else { return Ok(()) };
        let x = match &self.q_down {
            Some((down, norm)) => {
                down.forward(b, &s.x, rows, false, &mut m.q_rank)?;
                b.rms_norm(&m.q_rank, norm, EPS, rows, &mut m.q_normed)?;
                &m.q_normed
            }
            None => &s.x,
        };
        let nope = self.heads * l.nope;
        b.matmul(x, rows, &self.q_up, Some((0, nope)), false, &mut m.q_nope)?;
        b.matmul(x, rows, &self.q_up, Some((nope, nope + self.heads * l.rope)), false, &mut m.q_rope)?;
        b.rope(step.rope, &s.angles, rows, self.heads, &mut m.q_rope)?;
        b.matmul_heads(&m.q_nope, l.nope, rows, &self.to_latent, &mut s.q, wide)?;
        let (from, to) = (Columns { stride: l.rope, at: 0 }, Columns { stride: wide, at: l.kv_rank });
        b.copy_columns(&m.q_rope, from, &mut s.q, to, l.rope, rows * self.heads)?;

        self.kv_down.forward(b, &s.x, rows, false, &mut s.v)?;
        b.copy_columns(
            &s.v,
            Columns { stride: wide, at: 0 },
            &mut m.c,
            Columns { stride: l.kv_rank, at: 0 },
            l.kv_rank,
            rows,
        )?;
        b.rms_norm(&m.c, &self.kv_norm, EPS, rows, &mut m.c_normed)?;
        b.copy_columns(&s.v, Columns { stride: wide, at: l.kv_rank }, &mut m.k_rope, from, l.rope, rows)?;
        b.rope(step.rope, &s.angles, rows, 1, &mut m.k_rope)?;
        let all = Columns { stride: l.kv_rank, at: 0 };
        b.copy_columns(&m.c_normed, all, &mut s.k, Columns { stride: wide, at: 0 }, l.kv_rank, rows)?;
        b.copy_columns(&m.k_rope, from, &mut s.k, to, l.rope, rows)?;

        b.store_kv(kv, &s.k, &s.k, step.slots)?;
        b.attention(&s.q, self.heads, kv, step.spans, self.scale, &mut s.attended)?;
        b.matmul_heads(&s.attended, wide, rows, &self.from_latent, &mut m.values, l.value)?;
        self.o.forward(b, &m.values, rows, true, hidden)
    }

    /// All matrices.
    pub fn weights(&self) -> Vec<&B::Weight> {
        let always = [&self.q_up, &self.kv_down.weight, &self.to_latent, &self.from_latent, &self.o.weight];
        self.q_down.iter().map(|d| &d.0.weight).chain(always).collect()
    }
}

/// Rows of `q_up` `[heads * (nope + rope), inputs]`, sorted: every head's part without positions, then every head's rotated part.
fn by_part(q_up: &[f32], heads: usize, l: &Sizes, inputs: usize) -> Vec<f32> {
    let head = (l.nope + l.rope) * inputs;
    let part = |from: usize, to: usize| {
        (0..heads).flat_map(move |h| &q_up[h * head + from * inputs..h * head + to * inputs]).copied()
    };
    part(0, l.nope).chain(part(l.nope, l.nope + l.rope)).collect()
}

/// `W_uk^T` `[heads, kv_rank, nope]` and `W_uv` `[heads, value, kv_rank]` of `kv_b_proj` `[heads, nope + value, kv_rank]`.
fn split_up(kv_up: &[f32], heads: usize, l: &Sizes) -> (Vec<f32>, Vec<f32>) {
    let (mut to_latent, mut from_latent) = (Vec::new(), Vec::new());
    for head in kv_up.chunks_exact((l.nope + l.value) * l.kv_rank).take(heads) {
        let (keys, values) = head.split_at(l.nope * l.kv_rank);
        for r in 0..l.kv_rank {
            to_latent.extend((0..l.nope).map(|n| keys[n * l.kv_rank + r]));
        }
        from_latent.extend_from_slice(values);
    }
    (to_latent, from_latent)
}
