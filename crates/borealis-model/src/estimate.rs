//! What a model's weights take on the CPU backend in each format, by arithmetic on their shapes: nothing is loaded.

use borealis_kernels::{GROUP, QuantFormat};

use crate::config::ModelConfig;
use crate::names::tensor_names;
use crate::ranks::spread_bytes;

/// Outputs that lie side by side in the CPU backend's layout.
const PANEL: usize = 16;
/// Endings of matrices that are f32 in every format.
const EXACT: [&str; 5] =
    ["mlp.gate.weight", "row_kinds.weight", "scene_rows.weight", "in_features.weight", "copy_gate.weight"];

/// Bytes of all matrices on the device when they are kept in `format`.
pub fn weight_bytes(c: &ModelConfig, format: QuantFormat) -> u64 {
    tensor_names(c).iter().map(|(name, shape)| matrix_bytes(c, name, shape, format)).sum()
}

/// What a model takes on its device, apart from keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of all weights but the routed experts'.
    pub fixed: u64,
    /// Bytes of one routed expert; 0 when there are none.
    pub expert: u64,
    /// Layers with routed experts.
    pub layers: u64,
    /// Routed experts in each of them.
    pub experts: u64,
    /// Bytes beside the weights that a model takes whose experts are copied on demand.
    pub copying: u64,
}

impl Sizes {
    /// Of a model whose matrices are kept in `format`.
    pub fn of(c: &ModelConfig, format: QuantFormat) -> Self {
        let (layers, experts) = (c.routed_layers() as u64, c.experts.as_ref().map_or(0, |e| e.router.experts as u64));
        let stacks = tensor_names(c).into_iter().filter(|(name, _)| name.contains(".mlp.experts."));
        let routed: u64 = stacks.map(|(name, shape)| matrix_bytes(c, &name, &shape, format)).sum();
        Self {
            fixed: weight_bytes(c, format) - routed,
            expert: routed / (layers * experts).max(1),
            layers,
            experts,
            copying: spread_bytes(c.hidden_size),
        }
    }

    /// Bytes of all weights.
    pub fn all(&self) -> u64 {
        self.fixed + self.expert * self.layers * self.experts
    }
}

fn matrix_bytes(c: &ModelConfig, name: &str, shape: &[usize], format: QuantFormat) -> u64 {
    let is = |end: &str| name.ends_with(end);
    // Norms and biases are vectors; up is counted with gate, below; an own table is kept behind its linear layers.
    if shape.len() < 2 || name.contains("norm.") || is("up_proj.weight") || name.contains(".aligner.") {
        return 0;
    }
    let [.., out, inputs] = *shape else { return 0 };
    let count: usize = shape[..shape.len() - 2].iter().product();
    let of = |count: usize, out: usize, inputs: usize| {
        let rows = (count * out.next_multiple_of(PANEL)) as u64;
        match format {
            _ if EXACT.iter().any(|e| is(e)) => 4 * rows * inputs as u64,
            QuantFormat::F32 => 4 * rows * inputs as u64,
            QuantFormat::Bf16 => 2 * rows * inputs as u64,
            // Whole groups of codes, and a scale for each.
            QuantFormat::Int8 => rows * (inputs.div_ceil(GROUP) * (GROUP + 2)) as u64,
            QuantFormat::Int4 => rows * (inputs.div_ceil(GROUP) * (GROUP / 2 + 2)) as u64,
        }
    };
    match c.latent {
        Some(l) if is("kv_b_proj.weight") => {
            let heads = c.heads.query;
            of(heads, l.kv_rank, l.nope) + of(heads, l.value, l.kv_rank)
        }
        _ if is("gate_proj.weight") => of(count, 2 * out, inputs),
        _ if is("embed_tokens.weight") && name.contains(".modalities.") => of(count, out, c.hidden_size),
        _ => of(count, out, inputs),
    }
}
