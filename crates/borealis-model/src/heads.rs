//! What attention a configuration asks for.

use borealis_weights::Node;

use crate::config::WIDE;
use crate::error::Result;

/// Attention heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub kv: usize,
    /// Width of a head, D.
    pub dim: usize,
    /// How queries and keys are normed before the rotation.
    pub qk_norm: QkNorm,
}

/// Norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// RMS norm of each head, one weight of width D for all.
    Head,
    /// RMS norm of all heads of a row together.
    Projection,
    /// Layer norm of each head, with weight and bias of its own.
    LayerNorm,
}

impl QkNorm {
    /// Values of `qk_norm`.
    const NAMES: [(&str, Self); 4] =
        [("none", Self::None), ("head", Self::Head), ("projection", Self::Projection), ("layer_norm", Self::LayerNorm)];

    pub(crate) fn parse(node: &Node<'_>) -> Result<Self> {
        match node.opt("qk_norm")? {
            None => Ok(Self::None),
            Some(n) if n.value().is_boolean() => Ok(if n.boolean()? { Self::Head } else { Self::None }),
            Some(n) => Ok(n.choice(&Self::NAMES)?),
        }
    }
}

/// Multi-head latent attention (DeepSeek-V2, 2405.04434, section 2.1): keys and values of a position are kept as one vector of `kv_rank` numbers
/// and one rotated key of `rope` numbers for all heads; the matrices that would expand them are applied to queries and results instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latent {
    /// Width that queries are compressed to (`q_lora_rank`); `None` = not at all.
    pub q_rank: Option<usize>,
    /// Width that keys and values are compressed to (`kv_lora_rank`).
    pub kv_rank: usize,
    /// Part of a head without positions (`qk_nope_head_dim`).
    pub nope: usize,
    /// Rotated part of a head (`qk_rope_head_dim`).
    pub rope: usize,
    /// Width of a head's value (`v_head_dim`).
    pub value: usize,
}

/// What one attention layer is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AttentionSpec {
    pub heads: Heads,
    pub latent: Option<Latent>,
    pub bias: bool,
    pub clip: Option<f32>,
    /// Factor on the scores.
    pub scale: f32,
}

impl AttentionSpec {
    /// Plain attention.
    pub fn plain(heads: Heads) -> Self {
        Self { heads, latent: None, bias: false, clip: None, scale: 1.0 / (heads.dim as f32).sqrt() }
    }

    /// Heads of the KV cache and their width.
    pub fn cached(&self) -> (usize, usize) {
        match self.latent {
            Some(l) => (1, l.kv_rank + l.rope),
            None => (self.heads.kv, self.heads.dim),
        }
    }

    /// Width of the part of a head that is rotated.
    pub fn rotated(&self) -> usize {
        self.latent.map_or(self.heads.dim, |l| l.rope)
    }
}

impl Heads {
    pub(crate) fn parse(node: &Node<'_>, hidden: usize, qk_norm: QkNorm, latent: Option<Latent>) -> Result<Self> {
        let query = node.get("num_attention_heads")?.size(1, 4096)?;
        let kv = match node.opt("num_key_value_heads")? {
            Some(n) => {
                let kv = n.size(1, 4096)?;
                if !query.is_multiple_of(kv) {
                    return Err(n.fail(format!("must divide num_attention_heads, {query}")).into());
                }
                kv
            }
            None => query,
        };
        let dim = match node.opt("head_dim")? {
            None if latent.is_some() => latent.map_or(0, |l| l.nope + l.rope),
            Some(n) => {
                let dim = n.size(2, 4096)?;
                if !dim.is_multiple_of(2) {
                    return Err(n.fail("must be even").into());
                }
                dim
            }
            None if hidden.is_multiple_of(2 * query) => hidden / query,
            None => {
                return Err(node
                    .missing("head_dim", format!("width {hidden} is no even multiple of {query} heads"))
                    .into());
            }
        };
        Ok(Self { query, kv, dim, qk_norm })
    }

    /// Width of the queries of a row.
    pub fn query_width(&self) -> usize {
        self.query * self.dim
    }

    /// Width of the keys of a row.
    pub fn kv_width(&self) -> usize {
        self.kv * self.dim
    }
}

impl Latent {
    pub(crate) fn parse(node: &Node<'_>) -> Result<Option<Self>> {
        let Some(kv_rank) = node.opt("kv_lora_rank")? else { return Ok(None) };
        let size = |key: &str| -> Result<usize> { Ok(node.get(key)?.size(1, 1 << 16)?) };
        let rope = size("qk_rope_head_dim")?;
        if !rope.is_multiple_of(2) {
            return Err(node.get("qk_rope_head_dim")?.fail("must be even").into());
        }
        Ok(Some(Self {
            q_rank: node.opt("q_lora_rank")?.map(|n| n.size(1, WIDE)).transpose()?,
            kv_rank: kv_rank.size(1, 1 << 16)?,
            nope: size("qk_nope_head_dim")?,
            rope,
            value: size("v_head_dim")?,
        }))
    }
}
