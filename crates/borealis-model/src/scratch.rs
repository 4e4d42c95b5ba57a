//! Buffers of a step, made once for a maximum of rows.

use borealis_kernels::{Backend, Drawer, Draws, Span};

use crate::config::ModelConfig;
use crate::depth::DepthScratch;
use crate::error::Result;
use crate::heads::AttentionSpec;
use crate::latent::LatentScratch;
use crate::model::Model;
use crate::ranks::Spread;

/// Buffers that a layer uses.
pub(crate) struct LayerScratch<B: Backend> {
    /// Normed input, `[rows, width]`.
    pub x: B::Buffer,
    /// `[rows, heads, D]`.
    pub q: B::Buffer,
    /// `[rows, kv_heads, D]`.
    pub k: B::Buffer,
    /// `[rows, kv_heads, D]`.
    pub v: B::Buffer,
    /// `[rows, heads, D]`.
    pub attended: B::Buffer,
    /// Cosines and sines, `[rows, D]`.
    pub angles: B::Buffer,
    /// `[rows, 2 * inner]` of a dense SwiGLU.
    pub gate_up: B::Buffer,
    /// `[rows, inner]`.
    pub inner: B::Buffer,
    /// Chosen experts.
    pub routing: B::Routing,
    /// What compressed attention needs.
    pub latent: Option<LatentScratch<B>>,
    /// `[rows, width]` before a norm that stands behind its part, and as many zeros.
    pub behind: Option<(B::Buffer, Vec<f32>)>,
    /// Where other ranks' experts are; `None`: they are all here.
    pub spread: Option<Box<Spread<B>>>,
}

impl<B: Backend> LayerScratch<B> {
    pub fn new(
        b: &B,
        rows: usize,
        width: usize,
        spec: &AttentionSpec,
        inner: usize,
        top_k: usize,
        norms_after: bool,
    ) -> Result<Self> {
        let buffer = |n: usize| b.alloc(rows * n.max(1));
        let (kv_heads, dim) = spec.cached();
        let (query, kv) = (spec.heads.query * dim, kv_heads * dim);
        Ok(Self {
            x: buffer(width)?,
            q: buffer(query)?,
            k: buffer(kv)?,
            v: buffer(kv)?,
            attended: buffer(query)?,
            angles: buffer(spec.rotated())?,
            gate_up: buffer(2 * inner)?,
            inner: buffer(inner)?,
            routing: b.routing(rows, top_k.max(1))?,
            latent: LatentScratch::new(b, rows, spec)?,
            behind: if norms_after { Some((buffer(width)?, vec![0.0; rows * width])) } else { None },
            spread: None,
        })
    }

    /// Numbers for each row.
    pub fn numbers(width: usize, spec: &AttentionSpec, inner: usize) -> usize {
        let (kv_heads, dim) = spec.cached();
        let heads = 2 * (spec.heads.query + kv_heads) * dim + spec.rotated();
        width + heads + 3 * inner + LatentScratch::<B>::numbers(spec)
    }
}

/// Host lists of a step; cleared and filled again, never shrunk.
#[derive(Default)]
pub(crate) struct HostScratch {
    pub ids: Vec<u32>,
    pub index: Vec<u32>,
    pub slots: Vec<u32>,
    pub spans: Vec<Span>,
    /// The same for layers with a window.
    pub windows: Vec<Span>,
    pub positions: Vec<[f32; 3]>,
    pub features: Vec<f32>,
    /// Queries of a piece, sorted by what they predict; the query beside which each stands; the place of each in its chunk.
    pub queries: Vec<usize>,
    pub beside: Vec<usize>,
    pub places: Vec<usize>,
    /// Whether the host wants the logits of a query.
    pub kept: Vec<bool>,
    pub logits: Vec<f32>,
    /// Draws of a chunk, their numbers in the batch, and what was drawn.
    pub draws: Draws,
    pub numbers: Vec<usize>,
    pub drawn: Vec<Option<u32>>,
    pub drawer: Drawer,
}

/// All buffers of a step.
pub(crate) struct Scratch<B: Backend> {
    pub max_rows: usize,
    /// The residual stream, `[rows, H]`.
    pub hidden: B::Buffer,
    /// Sums of code embeddings, `[rows + 1, slots * de]`; the extra row is zero.
    pub embedded: B::Buffer,
    /// The same after `in_proj`, `[rows + 1, H]`.
    pub projected: B::Buffer,
    /// Rows brought into the order of the batch, or queried rows, `[rows, H]`.
    pub gathered: B::Buffer,
    /// `[rows, F]`.
    pub features: B::Buffer,
    pub layer: LayerScratch<B>,
    /// Slot vectors before the head, `[queries, slots * de]`.
    pub vectors: B::Buffer,
    /// Copy gates, `[queries, slots * codes]`.
    pub gates: B::Buffer,
    pub logits: B::Buffer,
    /// Length of `logits`.
    pub logits_len: usize,
    /// As many numbers, for modalities whose codes lie apart in the vocabulary.
    pub part: Option<B::Buffer>,
    /// One for each modality that is predicted by `depth`.
    pub depth: Vec<Option<DepthScratch<B>>>,
    pub host: HostScratch,
}

/// Widths that the buffers depend on.
struct Widths {
    slots: usize,
    gates: usize,
    logits: usize,
    inner: usize,
    /// A modality's logits come from several products.
    parts: bool,
}

impl Widths {
    fn new(c: &ModelConfig) -> Self {
        let widest = |f: &dyn Fn(usize) -> usize| (0..c.modalities.len()).map(f).max().unwrap_or(1).max(1);
        let shared = c.experts.as_ref().map_or(0, |e| e.shared);
        Self {
            slots: widest(&|m| {
                let head = c.modalities[m].tables.map_or(0, |t| t.projection_size);
                head.max(c.modalities[m].slots * c.embedding_size)
            }),
            gates: widest(&|m| if c.modalities[m].copy_gate { c.row_codes(m) } else { 1 }),
            logits: widest(&|m| {
                c.modalities[m].slots * c.modalities[m].codes.iter().map(|r| r.size as usize).sum::<usize>()
            }),
            inner: c.intermediate_size.max(shared),
            parts: c.modalities.iter().any(|m| m.codes.windows(2).any(|two| two[0].end() != two[1].start)),
        }
    }

    /// Numbers in the buffer of logits: all rows of a step when they are few, else as many queries as fit into 16 MiB (two at least: both branches of a guided one).
    fn logits_len(&self, c: &ModelConfig, rows: usize) -> usize {
        let all = rows * self.logits;
        let depth = if c.depth.is_some() { all } else { 0 };
        all.min(1 << 22).max(2 * self.logits.max(c.vocab_size)).max(depth)
    }
}

impl<B: Backend> Scratch<B> {
    pub fn new(model: &Model<B>, rows: usize) -> Result<Self> {
        let (b, c) = (model.backend(), model.config());
        let w = Widths::new(c);
        let logits_len = w.logits_len(c, rows);
        let top_k = c.experts.as_ref().map_or(1, |e| e.router.top_k);
        let depth = (0..c.modalities.len()).map(|m| DepthScratch::new(model, m, rows)).collect::<Result<_>>()?;
        let mut layer = LayerScratch::new(b, rows, c.hidden_size, &c.attention(), w.inner, top_k, c.swin_norm)?;
        if model.copies_experts() {
            layer.spread = Some(Box::new(Spread::local(b, c)?));
        }
        Ok(Self {
            max_rows: rows,
            hidden: b.alloc(rows * c.hidden_size)?,
            embedded: b.alloc((rows + 1) * w.slots)?,
            projected: b.alloc((rows + 1) * c.hidden_size)?,
            gathered: b.alloc(rows * c.hidden_size)?,
            features: b.alloc((rows * c.row_features).max(1))?,
            layer,
            vectors: b.alloc(rows * w.slots)?,
            gates: b.alloc(rows * w.gates)?,
            logits: b.alloc(logits_len)?,
            logits_len,
            part: if w.parts { Some(b.alloc(logits_len)?) } else { None },
            depth,
            host: HostScratch::default(),
        })
    }

    /// Bytes of [`Scratch::new`] on the device.
    pub fn bytes(c: &ModelConfig, rows: usize) -> u64 {
        let w = Widths::new(c);
        let behind = if c.swin_norm { 2 * c.hidden_size } else { 0 };
        let layer = LayerScratch::<B>::numbers(c.hidden_size, &c.attention(), w.inner) + behind;
        let row = 3 * c.hidden_size + 2 * w.slots + c.row_features + layer + w.gates;
        let depth: usize = (0..c.modalities.len()).map(|m| DepthScratch::<B>::numbers(c, m, rows)).sum();
        4 * ((rows + 1) * row + w.logits_len(c, rows) * (1 + usize::from(w.parts)) + depth) as u64
    }
}
