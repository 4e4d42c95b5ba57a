//! Modalities predicted by `depth`: the codes of a slot are decided one after another by a small transformer.
//!
//! Its sequence is one slot of one queried row: input j is the slot's vector plus, from j = 1 on, the embedding of code j-1; output j gives the logits of code j.
//! All slots of all queries of a step go side by side, each in its own stretch of a small KV slab.

use borealis_kernels::{Backend, KvFormat, RopeSpec, Span};
use borealis_weights::Predict;

use crate::attention::Step;
use crate::batch::{Batch, Logits};
use crate::cache::KvCache;
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::heads::AttentionSpec;
use crate::layer::Layer;
use crate::load::Loader;
use crate::model::Model;
use crate::scratch::{LayerScratch, Scratch};

/// The depth transformer of one modality.
pub(crate) struct Depth<B: Backend> {
    pub layers: Vec<Layer<B>>,
    norm: B::Buffer,
    rope: RopeSpec,
}

impl<B: Backend> Depth<B> {
    /// Reads `<prefix>.layers.{i}.*` and `<prefix>.norm.weight`.
    pub fn load(loader: &Loader<'_, B>, prefix: &str, c: &ModelConfig) -> Result<Option<Self>> {
        let Some(d) = c.depth else { return Ok(None) };
        let width = c.embedding_size;
        let layer = |i| Layer::load_dense(loader, &format!("{prefix}.layers.{i}"), width, d.heads, d.intermediate_size);
        Ok(Some(Self {
            layers: (0..d.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: loader.vector(&format!("{prefix}.norm.weight"), width)?,
            rope: c.rope.spec(d.heads.dim),
        }))
    }
}

/// State between [`crate::Forward::step`] and the following calls of [`crate::Forward::depth_step`], for one modality.
pub(crate) struct DepthScratch<B: Backend> {
    /// Slot vectors of the queries, `[queries * slots, de]`.
    vectors: B::Buffer,
    hidden: B::Buffer,
    kv: Vec<B::Kv>,
    layer: LayerScratch<B>,
    /// Queries of the last step, by their number among all `depth` queries.
    queries: Vec<usize>,
    /// The code that comes next.
    code: usize,
}

impl<B: Backend> DepthScratch<B> {
    pub fn new(model: &Model<B>, m: usize, rows: usize) -> Result<Option<Self>> {
        let (b, c) = (model.backend(), model.config());
        let (Some(d), Some(depth)) = (c.depth, model.depth(m)) else { return Ok(None) };
        let rows = rows * c.modalities[m].slots;
        let codes = c.modalities[m].codes.len();
        Ok(Some(Self {
            vectors: b.alloc(rows * c.embedding_size)?,
            hidden: b.alloc(rows * c.embedding_size)?,
            kv: depth
                .layers
                .iter()
                .map(|_| Ok(b.kv(rows * codes, d.heads.kv, d.heads.dim, KvFormat::F32)?))
                .collect::<Result<_>>()?,
            layer: LayerScratch::new(
                b,
                rows,
                c.embedding_size,
                &AttentionSpec::plain(d.heads),
                d.intermediate_size,
                1,
                false,
            )?,
            queries: Vec::new(),
            code: 0,
        }))
    }

    /// Numbers that [`DepthScratch::new`] takes.
    pub fn numbers(c: &ModelConfig, m: usize, rows: usize) -> usize {
        let Some(d) = c.depth.filter(|_| c.modalities[m].predict == Predict::Depth) else { return 0 };
        let spec = &c.modalities[m];
        let kv = 2 * spec.codes.len() * d.num_hidden_layers * d.heads.kv_width();
        let layer = LayerScratch::<B>::numbers(c.embedding_size, &AttentionSpec::plain(d.heads), d.intermediate_size);
        rows * spec.slots * (2 * c.embedding_size + kv + layer)
    }
}

impl<B: Backend> Model<B> {
    /// Forgets the `depth` queries of the step before.
    pub(crate) fn reset_depth(&self, s: &mut Scratch<B>) {
        for state in s.depth.iter_mut().flatten() {
            state.queries.clear();
            state.code = 0;
        }
    }

    /// Takes the queries of `chunk`, whose normed rows lie in `s.layer.x`.
    pub(crate) fn begin_depth(&self, batch: &Batch, chunk: &[usize], s: &mut Scratch<B>) -> Result<()> {
        let m = batch.queries[chunk[0]].modality;
        let (Some(state), b) = (s.depth[m].as_mut(), &self.backend) else { return Ok(()) };
        if !state.queries.is_empty() {
            let name = &self.config.modalities[m].name;
            return Err(ModelError::Batch(format!(
                "queries of {name} are spread over pieces of {} rows: query fewer rows at once",
                s.max_rows
            )));
        }
        match &self.modalities[m].out_proj {
            Some(out_proj) => b.matmul(&s.layer.x, chunk.len(), out_proj, None, false, &mut state.vectors)?,
            None => {
                s.host.index.clear();
                s.host.index.extend(0..chunk.len() as u32);
                b.gather(&s.layer.x, &s.host.index, self.config.hidden_size, &mut state.vectors)?;
            }
        }
        let number = |q: &usize| batch.queries[..*q].iter().filter(|o| self.depth(o.modality).is_some()).count();
        state.queries.extend(chunk.iter().map(number));
        Ok(())
    }

    /// Runs the depth transformer of modality `m` on its next code; `s.host.ids` holds the ids decided before (none for code 0).
    /// The logits of query i go to entry `entries[i]` of `out`.
    pub(crate) fn depth_logits(&self, m: usize, s: &mut Scratch<B>, out: &mut Logits, entries: &[usize]) -> Result<()> {
        let (Some(state), Some(depth), b, c) = (s.depth[m].as_mut(), self.depth(m), &self.backend, &self.config) else {
            return Ok(());
        };
        let (slots, codes, code) = (c.modalities[m].slots, c.modalities[m].codes.len(), state.code);
        let rows = entries.len() * slots;
        let host = &mut s.host;
        if code == 0 {
            host.index.clear();
            host.index.extend(0..rows as u32);
            b.gather(&state.vectors, &host.index, c.embedding_size, &mut state.hidden)?;
        } else {
            b.embed(&self.embed_tokens, &host.ids, 1, &mut state.hidden)?;
            b.add(&mut state.hidden, &state.vectors, rows * c.embedding_size)?;
        }
        host.slots.clear();
        host.slots.extend((0..rows).map(|r| (r * codes + code) as u32));
        host.spans.clear();
        host.spans.extend(host.slots.iter().map(|at| Span { prefix: (0, 0), recent: (at - code as u32, at + 1) }));
        host.positions.clear();
        host.positions.resize(rows, [code as f32; 3]);
        b.rope_angles(&depth.rope, &host.positions, &mut state.layer.angles)?;
        let step = Step { rows, slots: &host.slots, spans: &host.spans, rope: &depth.rope, eps: c.rms_norm_eps };
        for (layer, kv) in depth.layers.iter().zip(&mut state.kv) {
            layer.forward(b, &step, &mut state.layer, kv, &mut state.hidden)?;
        }
        b.rms_norm(&state.hidden, &depth.norm, c.rms_norm_eps, rows, &mut state.layer.x)?;
        let range = &c.modalities[m].codes[code];
        let (start, size) = (range.start as usize, range.size as usize);
        b.matmul(&state.layer.x, rows, self.head_weight(), Some((start, start + size)), false, &mut s.logits)?;
        host.logits.resize(rows * size, 0.0);
        b.read(&s.logits, 0, &mut host.logits)?;
        for (r, values) in host.logits.chunks_exact(size).enumerate() {
            let at = out.offsets[entries[r / slots]] + r % slots * size;
            out.values[at..at + size].copy_from_slice(values);
        }
        state.code += 1;
        Ok(())
    }

    /// See [`crate::Forward::depth_step`].
    pub fn depth_step(&self, ids: &[u32], cache: &mut KvCache<B>, out: &mut Logits) -> Result<bool> {
        let s = &mut cache.scratch;
        // All depth queries of the last step in the order of the batch, with their modalities.
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (m, state) in s.depth.iter().enumerate() {
            order.extend(state.iter().flat_map(|d| d.queries.iter().map(|q| (*q, m))));
        }
        order.sort_unstable();
        let slots = |m: usize| self.config.modalities[m].slots;
        let expected: usize = order.iter().map(|(_, m)| slots(*m)).sum();
        if ids.len() != expected {
            return Err(ModelError::Batch(format!(
                "{} ids for the depth queries of the last step, {expected} are needed",
                ids.len()
            )));
        }
        out.offsets.clear();
        out.offsets.push(0);
        let mut at = 0;
        for (_, m) in &order {
            let code = s.depth[*m].as_ref().map_or(0, |d| d.code);
            at += self.config.modalities[*m].codes.get(code).map_or(0, |r| slots(*m) * r.size as usize);
            out.offsets.push(at);
        }
        out.values.resize(at, 0.0);
        for m in 0..s.depth.len() {
            let Some(code) = s.depth[m].as_ref().filter(|d| !d.queries.is_empty()).map(|d| d.code) else { continue };
            if code < self.config.modalities[m].codes.len() {
                let entries = self.decided(m, code - 1, &order, ids, &mut s.host.ids)?;
                self.depth_logits(m, s, out, &entries)?;
            }
        }
        Ok(at > 0)
    }

    /// Collects the ids decided for code `code` of modality `m` into `out`; returns the numbers of its queries.
    fn decided(
        &self,
        m: usize,
        code: usize,
        order: &[(usize, usize)],
        ids: &[u32],
        out: &mut Vec<u32>,
    ) -> Result<Vec<usize>> {
        let spec = &self.config.modalities[m];
        let (mut entries, mut at) = (Vec::new(), 0);
        out.clear();
        for (i, (_, other)) in order.iter().enumerate() {
            let n = self.config.modalities[*other].slots;
            if *other == m {
                out.extend_from_slice(&ids[at..at + n]);
                entries.push(i);
            }
            at += n;
        }
        let allowed = spec.codes[code].start..spec.codes[code].start + spec.codes[code].size;
        match out.iter().find(|id| !allowed.contains(id)) {
            Some(id) => Err(ModelError::Batch(format!(
                "id {id} is not in the range {allowed:?} of code {code} of {}",
                spec.name
            ))),
            None => Ok(entries),
        }
    }
}
