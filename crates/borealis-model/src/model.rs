//! The transformer: immutable weights, `forward` over a batch and a cache.

use std::sync::Arc;

use borealis_kernels::{Backend, QuantFormat, RopeSpec};
use borealis_weights::{Checkpoint, Predict};

use crate::attention::Step;
use crate::batch::{Batch, Logits};
use crate::cache::KvCache;
use crate::config::ModelConfig;
use crate::depth::Depth;
use crate::error::Result;
use crate::hot::Copies;
use crate::layer::Layer;
use crate::load::Loader;
use crate::names::tensor_names;
use crate::options::LoadOptions;
use crate::ranks::Placement;
use crate::tables::OwnTables;
use crate::{head, pieces};

/// The projections of one modality.
pub(crate) struct ModalityWeights<B: Backend> {
    pub in_proj: Option<B::Weight>,
    pub out_proj: Option<B::Weight>,
    pub copy_gate: Option<B::Weight>,
    pub depth: Option<Depth<B>>,
    pub tables: Option<OwnTables<B>>,
}

/// A transformer on a device. Shared between threads and sequences: all state of a request is in the [`KvCache`] that is handed in.
pub struct Model<B: Backend> {
    pub(crate) backend: B,
    pub(crate) config: ModelConfig,
    format: QuantFormat,
    pub(crate) embed_tokens: B::Weight,
    pub(crate) lm_head: Option<B::Weight>,
    pub(crate) row_kinds: Option<B::Weight>,
    pub(crate) scene_rows: Option<B::Weight>,
    pub(crate) in_features: Option<B::Weight>,
    pub(crate) modalities: Vec<ModalityWeights<B>>,
    pub(crate) layers: Vec<Layer<B>>,
    pub(crate) norm: B::Buffer,
    rope: RopeSpec,
    pub(crate) copies: Arc<Copies>,
}

/// What a step did inside, for goldens and tests. Rows are in the order of the batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    /// The residual stream `[rows, H]` after the embedding and after each layer: `num_hidden_layers + 1` entries.
    pub hidden: Vec<Vec<f32>>,
    /// For each layer and row: chosen experts (null experts from E on) and weights, in descending order of selection score; empty for dense layers.
    pub routing: Vec<Vec<Vec<(u32, f32)>>>,
}

impl<B: Backend> Model<B> {
    /// Reads a checkpoint, keeping matrices in `format` (norms, routers, gates and small tables stay f32). Refuses tensors that the configuration contradicts.
    pub fn load(checkpoint: &Checkpoint, backend: B, format: QuantFormat) -> Result<Self> {
        Self::load_share(checkpoint, backend, &LoadOptions::new(format), None)
    }

    /// [`Model::load`] with the experts of one rank only, and of those with as many on the device as `options` say.
    pub(crate) fn load_share(
        checkpoint: &Checkpoint,
        backend: B,
        options: &LoadOptions,
        share: Option<(&Placement, usize)>,
    ) -> Result<Self> {
        let format = options.format;
        let config = ModelConfig::new(checkpoint.manifest())?;
        let tensors = checkpoint.tensors("")?;
        tensors.check(&tensor_names(&config))?;
        let (places, copies) = (options.places(), Arc::<Copies>::default());
        let loader = Loader { backend: &backend, tensors, format, share, places, copies: copies.clone() };
        let c = &config;
        let (h, de, v) = (c.hidden_size, c.embedding_size, c.table_rows());
        let optional =
            |wanted: bool, name: &str, shape: [usize; 2]| wanted.then(|| loader.exact(name, &shape)).transpose();
        let model = Self {
            embed_tokens: loader.matrix("model.embed_tokens.weight", &[v, de])?,
            lm_head: (!c.tie_word_embeddings).then(|| loader.matrix("lm_head.weight", &[v, de])).transpose()?,
            row_kinds: optional(c.row_kinds > 0, "model.row_kinds.weight", [c.row_kinds, h])?,
            scene_rows: c.scene.map(|s| loader.exact("model.scene_rows.weight", &[s.size as usize, h])).transpose()?,
            in_features: optional(
                c.row_features > 0 && !c.input_vectors,
                "model.in_features.weight",
                [h, c.row_features],
            )?,
            modalities: (0..c.modalities.len()).map(|m| Self::load_modality(&loader, c, m)).collect::<Result<_>>()?,
            layers: (0..c.num_hidden_layers).map(|i| Layer::load(&loader, i, c)).collect::<Result<_>>()?,
            norm: loader.vector("model.norm.weight", h)?,
            rope: c.rope.spec(c.attention().rotated()),
            format,
            copies,
            config,
            backend,
        };
        Ok(model)
    }

    fn load_modality(loader: &Loader<'_, B>, c: &ModelConfig, m: usize) -> Result<ModalityWeights<B>> {
        let spec = &c.modalities[m];
        let (h, wide) = (c.hidden_size, spec.slots * c.embedding_size);
        let prefix = format!("model.modalities.{}", spec.name);
        let projection = |name: &str, shape: [usize; 2]| {
            c.projections.then(|| loader.matrix(&format!("{prefix}.{name}.weight"), &shape)).transpose()
        };
        Ok(ModalityWeights {
            in_proj: projection("in_proj", [h, wide])?,
            out_proj: projection("out_proj", [wide, h])?,
            copy_gate: spec
                .copy_gate
                .then(|| loader.exact(&format!("{prefix}.copy_gate.weight"), &[spec.row_codes(), h]))
                .transpose()?,
            depth: match spec.predict {
                Predict::Depth => Depth::load(loader, &format!("{prefix}.depth"), c)?,
                _ => None,
            },
            tables: spec.tables.map(|t| OwnTables::load(loader, &prefix, spec, t, h)).transpose()?,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// How matrices are kept.
    pub fn format(&self) -> QuantFormat {
        self.format
    }

    /// Whether some experts are in the checkpoint's files and copied to the device on demand.
    pub fn copies_experts(&self) -> bool {
        self.layers.iter().any(|layer| layer.mlp.copies())
    }

    pub(crate) fn head_weight(&self) -> &B::Weight {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    pub(crate) fn depth(&self, m: usize) -> Option<&Depth<B>> {
        self.modalities[m].depth.as_ref()
    }

    /// Computes all rows of `batch`, writes their keys and values to their slots of `cache`, and returns the logits of the queries.
    pub fn forward(&self, batch: &Batch, cache: &mut KvCache<B>) -> Result<Logits> {
        let mut out = Logits::default();
        self.run(batch, cache, &mut out, None)?;
        Ok(out)
    }

    /// [`Model::forward`] into logits that are used again from step to step.
    pub fn forward_into(&self, batch: &Batch, cache: &mut KvCache<B>, out: &mut Logits) -> Result<()> {
        self.run(batch, cache, out, None)
    }

    /// [`Model::forward`], and what every layer did. Slow.
    pub fn trace(&self, batch: &Batch, cache: &mut KvCache<B>, out: &mut Logits) -> Result<Trace> {
        let layers = self.config.num_hidden_layers;
        let mut trace = Trace { hidden: vec![Vec::new(); layers + 1], routing: vec![Vec::new(); layers] };
        self.run(batch, cache, out, Some(&mut trace))?;
        Ok(trace)
    }

    fn run(
        &self,
        batch: &Batch,
        cache: &mut KvCache<B>,
        out: &mut Logits,
        mut trace: Option<&mut Trace>,
    ) -> Result<()> {
        batch.check(&self.config, cache.slots())?;
        self.reset_depth(&mut cache.scratch);
        let cuts = pieces::cuts(&batch.rows, cache.scratch.max_rows)?;
        head::layout(&self.config, batch, &cuts, &mut cache.scratch.host, out);
        let mut start = 0;
        for end in cuts.into_iter().chain([batch.rows.len()]) {
            if start < end {
                self.embed(batch, start..end, &mut cache.scratch)?;
                self.layers(batch, start..end, cache, trace.as_deref_mut())?;
                self.head(batch, start..end, &mut cache.scratch, out)?;
            }
            start = end;
        }
        head::draw_late(batch, &mut cache.scratch.host, out);
        Ok(())
    }

    /// All layers over the rows of a piece, in place in the scratch.
    fn layers(
        &self,
        batch: &Batch,
        piece: std::ops::Range<usize>,
        cache: &mut KvCache<B>,
        mut trace: Option<&mut Trace>,
    ) -> Result<()> {
        let rows = &batch.rows[piece];
        let s = &mut cache.scratch;
        s.host.slots.clear();
        s.host.slots.extend(rows.iter().map(|r| r.slot));
        s.host.spans.clear();
        s.host.spans.extend(rows.iter().map(|r| r.sees));
        let window = self.config.window.as_ref();
        s.host.windows.clear();
        s.host.windows.extend(window.iter().flat_map(|w| rows.iter().map(|r| w.last(r.sees))));
        s.host.positions.clear();
        s.host.positions.extend(rows.iter().map(|r| r.position));
        self.backend.rope_angles(&self.rope, &s.host.positions, &mut s.layer.angles)?;
        let step = Step {
            rows: rows.len(),
            slots: &s.host.slots,
            spans: &s.host.spans,
            rope: &self.rope,
            eps: self.config.rms_norm_eps,
        };
        if let Some(t) = trace.as_deref_mut() {
            self.record(&s.hidden, rows.len(), &mut t.hidden[0])?;
        }
        for (i, (layer, kv)) in self.layers.iter().zip(&mut cache.layers).enumerate() {
            let narrow = window.is_some_and(|w| w.layers[i]);
            let step = Step { spans: if narrow { &s.host.windows } else { &s.host.spans }, ..step };
            layer.forward(&self.backend, &step, &mut s.layer, kv, &mut s.hidden)?;
            if let Some(t) = trace.as_deref_mut() {
                self.record(&s.hidden, rows.len(), &mut t.hidden[i + 1])?;
                if self.config.routed(i).is_some() {
                    t.routing[i].extend(self.backend.read_routing(&s.layer.routing, rows.len())?);
                }
            }
        }
        Ok(())
    }

    fn record(&self, hidden: &B::Buffer, rows: usize, out: &mut Vec<f32>) -> Result<()> {
        let at = out.len();
        out.resize(at + rows * self.config.hidden_size, 0.0);
        Ok(self.backend.read(hidden, 0, &mut out[at..])?)
    }
}
