//! The tensors that a configuration asks for (`weights.md`, section 6; a test compares the two).

use borealis_weights::Predict;

use crate::config::ModelConfig;
use crate::heads::{AttentionSpec, Latent, QkNorm};

/// Canonical names and shapes of all tensors of `model.safetensors`, in the order of the table in `weights.md`.
pub fn tensor_names(c: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (h, de, v) = (c.hidden_size, c.embedding_size, c.table_rows());
    let mut names = Names(Vec::new());
    names.add("model.embed_tokens.weight", &[v, de]);
    if !c.tie_word_embeddings {
        names.add("lm_head.weight", &[v, de]);
    }
    names.add("model.norm.weight", &[h]);
    if c.row_kinds > 0 {
        names.add("model.row_kinds.weight", &[c.row_kinds, h]);
    }
    if let Some(scene) = c.scene {
        names.add("model.scene_rows.weight", &[scene.size as usize, h]);
    }
    if c.row_features > 0 && !c.input_vectors {
        names.add("model.in_features.weight", &[h, c.row_features]);
    }
    for m in &c.modalities {
        let prefix = format!("model.modalities.{}", m.name);
        if c.projections {
            names.add(format!("{prefix}.in_proj.weight"), &[h, m.slots * de]);
            names.add(format!("{prefix}.out_proj.weight"), &[m.slots * de, h]);
        }
        if let Some(t) = m.tables {
            let codes = m.codes[0].size as usize;
            names.add(format!("{prefix}.embed_tokens.weight"), &[codes, t.embedding_size]);
            for i in 0..t.layers {
                names.linear(&aligner(&prefix, i), [h, if i == 0 { t.embedding_size } else { h }]);
            }
            names.linear(&format!("{prefix}.head.proj_out"), [t.projection_size, h]);
            names.linear(&format!("{prefix}.head.vision_head"), [codes, t.projection_size]);
        }
        if m.copy_gate {
            names.add(format!("{prefix}.copy_gate.weight"), &[m.row_codes(), h]);
        }
        if let Some(d) = c.depth.filter(|_| m.predict == Predict::Depth) {
            for i in 0..d.num_hidden_layers {
                let layer = format!("{prefix}.depth.layers.{i}");
                names.layer(&layer, de, &AttentionSpec::plain(d.heads));
                names.swiglu(&format!("{layer}.mlp"), de, d.intermediate_size, false);
            }
            names.add(format!("{prefix}.depth.norm.weight"), &[de]);
        }
    }
    for i in 0..c.num_hidden_layers {
        let layer = format!("model.layers.{i}");
        names.layer(&layer, h, &c.attention());
        names.mlp(&format!("{layer}.mlp"), c, i);
    }
    names.0
}

/// Name of linear layer `i` behind a modality's own table.
pub(crate) fn aligner(prefix: &str, i: usize) -> String {
    match i {
        0 => format!("{prefix}.aligner.fc1"),
        i => format!("{prefix}.aligner.hidden_layers.{}", i - 1),
    }
}

struct Names(Vec<(String, Vec<usize>)>);

impl Names {
    fn add(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.0.push((name.into(), shape.to_vec()));
    }

    /// A matrix with a bias.
    fn linear(&mut self, name: &str, shape: [usize; 2]) {
        self.add(format!("{name}.weight"), &shape);
        self.add(format!("{name}.bias"), &shape[..1]);
    }

    /// A matrix, with a bias where wanted.
    fn projection(&mut self, name: String, shape: [usize; 2], bias: bool) {
        self.add(format!("{name}.weight"), &shape);
        if bias {
            self.add(format!("{name}.bias"), &shape[..1]);
        }
    }

    /// Norms and attention of one layer.
    fn layer(&mut self, layer: &str, width: usize, spec: &AttentionSpec) {
        self.add(format!("{layer}.input_layernorm.weight"), &[width]);
        let prefix = format!("{layer}.self_attn");
        match &spec.latent {
            Some(latent) => self.latent(&prefix, width, spec, latent),
            None => self.grouped(&prefix, width, spec),
        }
        self.add(format!("{layer}.post_attention_layernorm.weight"), &[width]);
    }

    fn grouped(&mut self, prefix: &str, width: usize, spec: &AttentionSpec) {
        let heads = spec.heads;
        for (name, n) in [("q", heads.query_width()), ("k", heads.kv_width()), ("v", heads.kv_width())] {
            self.projection(format!("{prefix}.{name}_proj"), [n, width], spec.bias);
        }
        self.projection(format!("{prefix}.o_proj"), [width, heads.query_width()], spec.bias);
        for (name, n) in [("q", heads.query), ("k", heads.kv)] {
            let norm = format!("{prefix}.{name}_norm");
            match heads.qk_norm {
                QkNorm::None => {}
                QkNorm::Head => self.add(format!("{norm}.weight"), &[heads.dim]),
                QkNorm::Projection => self.add(format!("{norm}.weight"), &[n * heads.dim]),
                QkNorm::LayerNorm => {
                    self.add(format!("{norm}.weight"), &[n, heads.dim]);
                    self.add(format!("{norm}.bias"), &[n, heads.dim]);
                }
            }
        }
    }

    fn latent(&mut self, prefix: &str, width: usize, spec: &AttentionSpec, l: &Latent) {
        let heads = spec.heads.query;
        let queries = heads * (l.nope + l.rope);
        match l.q_rank {
            Some(rank) => {
                self.projection(format!("{prefix}.q_a_proj"), [rank, width], spec.bias);
                self.add(format!("{prefix}.q_a_layernorm.weight"), &[rank]);
                self.add(format!("{prefix}.q_b_proj.weight"), &[queries, rank]);
            }
            None => self.add(format!("{prefix}.q_proj.weight"), &[queries, width]),
        }
        self.projection(format!("{prefix}.kv_a_proj_with_mqa"), [l.kv_rank + l.rope, width], spec.bias);
        self.add(format!("{prefix}.kv_a_layernorm.weight"), &[l.kv_rank]);
        self.add(format!("{prefix}.kv_b_proj.weight"), &[heads * (l.nope + l.value), l.kv_rank]);
        self.projection(format!("{prefix}.o_proj"), [width, heads * l.value], spec.bias);
    }

    fn swiglu(&mut self, prefix: &str, width: usize, inner: usize, bias: bool) {
        for name in ["gate_proj", "up_proj"] {
            self.projection(format!("{prefix}.{name}"), [inner, width], bias);
        }
        self.projection(format!("{prefix}.down_proj"), [width, inner], bias);
    }

    fn mlp(&mut self, prefix: &str, c: &ModelConfig, i: usize) {
        let h = c.hidden_size;
        let Some(e) = c.routed(i) else { return self.swiglu(prefix, h, c.intermediate_size, c.mlp_bias) };
        self.add(format!("{prefix}.gate.weight"), &[e.outputs(), h]);
        if e.selection_bias {
            self.add(format!("{prefix}.gate.e_score_correction_bias"), &[e.outputs()]);
        }
        self.add(format!("{prefix}.experts.gate_up_proj"), &[e.router.experts, 2 * e.inner, h]);
        self.add(format!("{prefix}.experts.down_proj"), &[e.router.experts, h, e.inner]);
        if e.shared > 0 {
            self.swiglu(&format!("{prefix}.shared_experts"), h, e.shared, false);
        }
    }
}
