//! The tensors that a configuration asks for (`weights.md`, section 6; a test compares the two).

use borealis_weights::Predict;

use crate::config::{Heads, ModelConfig};

/// Canonical names and shapes of all tensors of `model.safetensors`, in the order of the table in `weights.md`.
pub fn tensor_names(c: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (h, de, v) = (c.hidden_size, c.embedding_size, c.vocab_size);
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
    if c.row_features > 0 {
        names.add("model.in_features.weight", &[h, c.row_features]);
    }
    for m in &c.modalities {
        let prefix = format!("model.modalities.{}", m.name);
        if c.projections {
            names.add(format!("{prefix}.in_proj.weight"), &[h, m.slots * de]);
            names.add(format!("{prefix}.out_proj.weight"), &[m.slots * de, h]);
        }
        if m.copy_gate {
            names.add(format!("{prefix}.copy_gate.weight"), &[m.row_codes(), h]);
        }
        if let Some(d) = c.depth.filter(|_| m.predict == Predict::Depth) {
            for i in 0..d.num_hidden_layers {
                let layer = format!("{prefix}.depth.layers.{i}");
                names.attention(&layer, de, d.heads);
                names.swiglu(&format!("{layer}.mlp"), de, d.intermediate_size);
            }
            names.add(format!("{prefix}.depth.norm.weight"), &[de]);
        }
    }
    for i in 0..c.num_hidden_layers {
        let layer = format!("model.layers.{i}");
        names.attention(&layer, h, c.heads);
        names.mlp(&format!("{layer}.mlp"), c, i);
    }
    names.0
}

struct Names(Vec<(String, Vec<usize>)>);

impl Names {
    fn add(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.0.push((name.into(), shape.to_vec()));
    }

    /// Norms and attention of one layer.
    fn attention(&mut self, layer: &str, width: usize, heads: Heads) {
        self.add(format!("{layer}.input_layernorm.weight"), &[width]);
        self.add(format!("{layer}.self_attn.q_proj.weight"), &[heads.query_width(), width]);
        self.add(format!("{layer}.self_attn.k_proj.weight"), &[heads.kv_width(), width]);
        self.add(format!("{layer}.self_attn.v_proj.weight"), &[heads.kv_width(), width]);
        self.add(format!("{layer}.self_attn.o_proj.weight"), &[width, heads.query_width()]);
        if heads.qk_norm {
            self.add(format!("{layer}.self_attn.q_norm.weight"), &[heads.dim]);
            self.add(format!("{layer}.self_attn.k_norm.weight"), &[heads.dim]);
        }
        self.add(format!("{layer}.post_attention_layernorm.weight"), &[width]);
    }

    fn swiglu(&mut self, prefix: &str, width: usize, inner: usize) {
        self.add(format!("{prefix}.gate_proj.weight"), &[inner, width]);
        self.add(format!("{prefix}.up_proj.weight"), &[inner, width]);
        self.add(format!("{prefix}.down_proj.weight"), &[width, inner]);
    }

    fn mlp(&mut self, prefix: &str, c: &ModelConfig, i: usize) {
        let h = c.hidden_size;
        let Some(e) = c.routed(i) else { return self.swiglu(prefix, h, c.intermediate_size) };
        self.add(format!("{prefix}.gate.weight"), &[e.outputs(), h]);
        if e.selection_bias {
            self.add(format!("{prefix}.gate.e_score_correction_bias"), &[e.outputs()]);
        }
        self.add(format!("{prefix}.experts.gate_up_proj"), &[e.router.experts, 2 * e.inner, h]);
        self.add(format!("{prefix}.experts.down_proj"), &[e.router.experts, h, e.inner]);
        if e.shared > 0 {
            self.swiglu(&format!("{prefix}.shared_experts"), h, e.shared);
        }
    }
}
