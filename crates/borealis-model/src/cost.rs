//! Sizes and costs: what a model weighs, and what a step touches. For `borealis inspect` and the roofline of `borealis bench`.

use borealis_kernels::{Backend, KvFormat, Span};
use borealis_weights::TensorSet;

use crate::batch::Batch;
use crate::config::ModelConfig;
use crate::model::Model;
use crate::names::tensor_names;

/// What one step reads and computes, by arithmetic on its shapes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepCost {
    /// Bytes of weights read, each once: of E experts, N rows with K choices each touch `E (1 - (1 - K/E)^N)` on average.
    pub weight_bytes: f64,
    /// Bytes of keys and values read (slots seen by several rows count once) and written.
    pub kv_bytes: f64,
    /// Multiply-adds.
    pub multiply_adds: f64,
}

/// Sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Numbers that a position uses: all but the experts that were not chosen, and the embedding table's other rows.
    pub active_parameters: u64,
    /// Bytes of the tensors by type as they lie in the file, largest first.
    pub stored: Vec<(String, u64)>,
    /// Bytes of weights on the device; 0 before the model is loaded.
    pub device_bytes: u64,
    /// Bytes of keys and values for each position.
    pub kv_bytes_per_position: u64,
    /// Operations that the backend runs as one kernel; empty before the model is loaded.
    pub fused: Vec<String>,
}

impl Summary {
    /// Sizes of a checkpoint that is not loaded.
    pub fn of(c: &ModelConfig, tensors: &TensorSet, kv: KvFormat) -> Self {
        let mut stored: Vec<(String, u64)> = Vec::new();
        for (name, dtype, _, bytes) in tensors.stored() {
            let dtype = if tensors.is_expanded(name) { "f8".into() } else { format!("{dtype:?}").to_lowercase() };
            match stored.iter_mut().find(|(d, _)| *d == dtype) {
                Some((_, sum)) => *sum += bytes,
                None => stored.push((dtype, bytes)),
            }
        }
        stored.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        Self { stored, ..Self::of_config(c, kv) }
    }

    fn of_config(c: &ModelConfig, kv: KvFormat) -> Self {
        let all = tensor_names(c).iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum();
        let idle = c.experts.as_ref().map_or(0, |e| {
            let unused = e.router.experts.saturating_sub(e.router.top_k);
            c.routed_layers() * unused * 3 * e.inner * c.hidden_size
        });
        let most_codes = c.modalities.iter().map(|m| m.row_codes()).max().unwrap_or(1);
        // A tied table is the head too, and then all of it is used.
        let rows = if c.tie_word_embeddings { 0 } else { c.table_rows().saturating_sub(most_codes) };
        let active = all - (idle + rows * c.embedding_size) as u64;
        Self {
            parameters: all,
            active_parameters: active,
            stored: Vec::new(),
            device_bytes: 0,
            kv_bytes_per_position: c.kv_bytes(kv),
            fused: Vec::new(),
        }
    }
}

/// Multiply-adds of one row in the projections of one layer's attention.
fn projections(c: &ModelConfig) -> usize {
    let (h, heads) = (c.hidden_size, c.heads.query);
    let Some(l) = c.latent else { return 2 * (c.heads.query_width() + c.heads.kv_width()) * h };
    let queries = heads * (l.nope + l.rope);
    let q = l.q_rank.map_or(h * queries, |rank| rank * (h + queries));
    q + h * (l.kv_rank + l.rope) + heads * l.kv_rank * (l.nope + l.value) + heads * l.value * h
}

/// Expected number of different experts among E that `rows` rows with K choices each touch.
fn touched(experts: usize, k: usize, rows: usize) -> f64 {
    let e = experts as f64;
    e * (1.0 - (1.0 - (k as f64 / e).min(1.0)).powf(rows as f64))
}

/// Pairs of a row and a slot that it sees, and slots that any row sees.
fn slots_seen(spans: impl Iterator<Item = Span>) -> (f64, f64) {
    let mut ranges: Vec<(u32, u32)> = spans.flat_map(|s| [s.prefix, s.recent]).filter(|r| r.0 < r.1).collect();
    let pairs = ranges.iter().map(|(start, end)| f64::from(end - start)).sum();
    ranges.sort_unstable();
    let (mut seen, mut reached) = (0.0, 0);
    for (start, end) in ranges {
        seen += f64::from(end.max(reached) - start.max(reached));
        reached = reached.max(end);
    }
    (pairs, seen)
}

impl<B: Backend> Model<B> {
    /// What a step of `batch` costs over a cache that keeps `kv`.
    pub fn costs(&self, batch: &Batch, kv: KvFormat) -> StepCost {
        let mut cost = StepCost::default();
        if batch.rows.is_empty() {
            return cost;
        }
        self.add_layers(batch, &mut cost);
        self.add_ends(batch, &mut cost);
        self.add_kv(batch, kv, &mut cost);
        cost
    }

    fn add_layers(&self, batch: &Batch, cost: &mut StepCost) {
        let (c, b) = (&self.config, &self.backend);
        let rows = batch.rows.len() as f64;
        let h = c.hidden_size as f64;
        let attention = projections(c) as f64;
        for (i, layer) in self.layers.iter().enumerate() {
            let (always, expert, _) = layer.mlp.bytes(b);
            cost.weight_bytes += (layer.attention.bytes(b) + always) as f64;
            let per_row = match c.routed(i) {
                Some(e) => {
                    // Null experts share the choices and have no weights.
                    let k = e.router.top_k as f64 * e.router.experts as f64 / e.outputs() as f64;
                    cost.weight_bytes += expert as f64 * touched(e.outputs(), e.router.top_k, batch.rows.len()) * k
                        / e.router.top_k as f64;
                    h * (e.outputs() as f64 + 3.0 * (e.shared as f64 + k * e.inner as f64))
                }
                None => 3.0 * h * c.intermediate_size as f64,
            };
            cost.multiply_adds += rows * (attention + per_row);
        }
    }

    /// Embeddings, projections and heads.
    fn add_ends(&self, batch: &Batch, cost: &mut StepCost) {
        let (c, b) = (&self.config, &self.backend);
        let bytes = |w: &Option<B::Weight>| w.as_ref().map_or(0.0, |w| b.weight_bytes(w) as f64);
        let table_row = b.weight_bytes(&self.embed_tokens) as f64 / c.table_rows() as f64;
        let head_row = b.weight_bytes(self.head_weight()) as f64 / c.table_rows() as f64;
        if batch.rows.iter().any(|r| r.features.is_some()) {
            cost.weight_bytes += bytes(&self.in_features);
            cost.multiply_adds += (batch.rows.len() * c.row_features * c.hidden_size) as f64;
        }
        for (m, (spec, weights)) in c.modalities.iter().zip(&self.modalities).enumerate() {
            let wide = (spec.slots * c.embedding_size * c.hidden_size) as f64;
            let inputs = batch.rows.iter().filter(|r| r.modality == m).count() as f64;
            let queries = batch.queries.iter().filter(|q| q.modality == m).count() as f64;
            cost.weight_bytes += inputs * spec.row_codes() as f64 * table_row;
            if inputs > 0.0 {
                cost.weight_bytes += bytes(&weights.in_proj);
            }
            if queries > 0.0 {
                let ids: f64 = spec.codes.iter().map(|r| f64::from(r.size)).sum();
                cost.weight_bytes += bytes(&weights.out_proj) + bytes(&weights.copy_gate) + ids * head_row;
                cost.multiply_adds += queries * spec.slots as f64 * ids * c.embedding_size as f64;
                self.add_depth(m, queries, cost);
            }
            if c.projections {
                cost.multiply_adds += (inputs + queries) * wide;
            }
        }
    }

    /// All codes of a `depth` modality: its weights are read once for each code.
    fn add_depth(&self, m: usize, queries: f64, cost: &mut StepCost) {
        let (Some(depth), Some(d), c) = (self.depth(m), self.config.depth, &self.config) else { return };
        let spec = &c.modalities[m];
        let layer = 2 * (d.heads.query_width() + d.heads.kv_width()) + 3 * d.intermediate_size;
        let bytes: u64 =
            depth.layers.iter().map(|l| l.attention.bytes(&self.backend) + l.mlp.bytes(&self.backend).0).sum();
        cost.weight_bytes += bytes as f64 * spec.codes.len() as f64;
        cost.multiply_adds += queries * (spec.row_codes() * d.num_hidden_layers * layer * c.embedding_size) as f64;
    }

    fn add_kv(&self, batch: &Batch, kv: KvFormat, cost: &mut StepCost) {
        let c = &self.config;
        let (_, dim) = c.attention().cached();
        let narrow = c.window.iter().flat_map(|w| &w.layers).filter(|with| **with).count();
        let windows = c.window.as_ref().map(|w| (narrow, slots_seen(batch.rows.iter().map(|r| w.last(r.sees)))));
        let all = slots_seen(batch.rows.iter().map(|r| r.sees));
        for (layers, (pairs, seen)) in [Some((c.num_hidden_layers - narrow, all)), windows].into_iter().flatten() {
            cost.multiply_adds += pairs * (2 * c.heads.query * dim * layers) as f64;
            cost.kv_bytes += (c.kv_layer_bytes(kv) * layers) as f64 * (seen + batch.rows.len() as f64);
        }
    }

    /// Sizes, with what is on the device; keys and values as `kv`.
    pub fn summary(&self, kv: KvFormat) -> Summary {
        let b = &self.backend;
        let some = |w: &Option<B::Weight>| w.as_ref().map_or(0, |w| b.weight_bytes(w) as u64);
        let layer = |l: &crate::layer::Layer<B>| {
            let (always, expert, held) = l.mlp.bytes(b);
            l.attention.bytes(b) + always + expert * held as u64
        };
        let mut bytes = b.weight_bytes(&self.embed_tokens) as u64
            + some(&self.lm_head)
            + some(&self.row_kinds)
            + some(&self.scene_rows)
            + some(&self.in_features);
        bytes += self.layers.iter().map(layer).sum::<u64>();
        for m in &self.modalities {
            bytes += some(&m.in_proj) + some(&m.out_proj) + some(&m.copy_gate);
            bytes += m.tables.as_ref().map_or(0, |t| t.bytes(b).0 + t.bytes(b).1);
            bytes += m.depth.iter().flat_map(|d| &d.layers).map(layer).sum::<u64>();
        }
        let fused = b.fused().iter().map(|s| s.to_string()).collect();
        Summary { device_bytes: bytes, fused, ..Summary::of_config(&self.config, kv) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_touch_few_experts_and_many_touch_all() {
        assert!((touched(8, 2, 1) - 2.0).abs() < 1e-9);
        assert!((touched(8, 2, 2) - 3.5).abs() < 1e-9);
        assert!((touched(8, 2, 200) - 8.0).abs() < 1e-9);
    }
}
