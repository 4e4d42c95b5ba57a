//! The transformer's configuration, typed and checked (`weights.md`, section 1).

use borealis_kernels::{RouterSpec, Scoring};
use borealis_weights::{Manifest, ModalitySpec, Node, Predict};

use crate::error::Result;
use crate::rope::Rope;

/// Everything that the transformer's arithmetic depends on. Field names are the keys of `config.json`.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Rows of the embedding table, V.
    pub vocab_size: usize,
    /// Width of the residual stream, H.
    pub hidden_size: usize,
    /// Width of one row of the embedding table, de.
    pub embedding_size: usize,
    /// Modalities have `in_proj` and `out_proj` (`embedding_size` was given).
    pub projections: bool,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads and their width.
    pub heads: Heads,
    /// Added under the square root of every norm.
    pub rms_norm_eps: f32,
    /// The head is the embedding table.
    pub tie_word_embeddings: bool,
    /// The routed layers; `None` when all layers are dense.
    pub experts: Option<Experts>,
    /// Leading layers with a dense SwiGLU.
    pub first_k_dense_replace: usize,
    /// Width of the dense SwiGLU.
    pub intermediate_size: usize,
    /// Rotary positions.
    pub rope: Rope,
    /// Number of row kinds; 0 = the checkpoint has no such table.
    pub row_kinds: usize,
    /// Length F of a row's features; 0 = none.
    pub row_features: usize,
    /// The scene plan that conditions the rows of a block; `None` = the checkpoint has no such table.
    pub scene: Option<SceneRows>,
    /// What a row can hold and predict.
    pub modalities: Vec<ModalitySpec>,
    /// The small transformer of `predict: depth`.
    pub depth: Option<DepthConfig>,
}

/// The scene segment and plan of a checkpoint with `media.scene_condition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SceneRows {
    /// First id of the scene segment.
    pub start: u32,
    /// Ids of the segment: rows of the table.
    pub size: u32,
    /// Ids of a plan.
    pub fields: usize,
}

impl SceneRows {
    /// The ids of the segment.
    pub fn range(&self) -> std::ops::Range<u32> {
        self.start..self.start + self.size
    }

    fn read(manifest: &Manifest) -> Option<Self> {
        let segment =
            manifest.segment("scene").filter(|_| manifest.media.as_ref().is_some_and(|m| m.scene_condition))?;
        Some(Self { start: segment.start, size: segment.size, fields: manifest.scene.fields.len() })
    }
}

/// Attention heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub kv: usize,
    /// Width of a head, D.
    pub dim: usize,
    /// Queries and keys are RMS-normed before the rotation.
    pub qk_norm: bool,
}

/// The experts of a routed layer.
#[derive(Debug, Clone)]
pub struct Experts {
    /// The router's rules (E, null experts, K, scores). The selection bias is a tensor of each layer; here it is empty.
    pub router: RouterSpec,
    /// Layers have `e_score_correction_bias`.
    pub selection_bias: bool,
    /// Inner width of an expert, I.
    pub inner: usize,
    /// Width of the shared expert; 0 = none.
    pub shared: usize,
}

/// `depth` of `config.json`: the transformer over the codes of a slot; of width de, all layers dense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepthConfig {
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads; `qk_norm` as in the main transformer.
    pub heads: Heads,
    /// Width of the SwiGLU.
    pub intermediate_size: usize,
}

/// Largest width that a configuration may ask for: keeps sizes far from overflow.
const WIDE: u32 = 1 << 20;

impl ModelConfig {
    /// Reads the transformer's keys of `config.json`; everything else comes typed from the manifest.
    pub fn new(manifest: &Manifest) -> Result<Self> {
        let node = Node::root("config.json", &manifest.transformer);
        let size = |key: &str, max: u32| -> Result<usize> { Ok(node.get(key)?.size(1, max)?) };
        let hidden_size = size("hidden_size", WIDE)?;
        let embedding_size = node.opt("embedding_size")?.map(|n| n.size(1, WIDE)).transpose()?;
        let num_hidden_layers = size("num_hidden_layers", 4096)?;
        let heads = Heads::parse(&node, hidden_size, flag(&node, "qk_norm", false)?)?;
        if let Some(n) = node.opt("hidden_act")? {
            n.choice(&[("silu", ())])?;
        }
        let experts = Experts::parse(&node)?;
        let first_k_dense_replace = match &experts {
            Some(_) => count(&node, "first_k_dense_replace", num_hidden_layers as u32)?,
            None => num_hidden_layers,
        };
        let intermediate_size = match first_k_dense_replace {
            0 => 0,
            _ => size("intermediate_size", WIDE)?,
        };
        let config = Self {
            vocab_size: size("vocab_size", 1 << 28)?,
            hidden_size,
            embedding_size: embedding_size.unwrap_or(hidden_size),
            projections: embedding_size.is_some(),
            num_hidden_layers,
            heads,
            rms_norm_eps: node.opt("rms_norm_eps")?.map(|n| n.number(0.0, 1.0)).transpose()?.unwrap_or(1e-6) as f32,
            tie_word_embeddings: flag(&node, "tie_word_embeddings", false)?,
            experts,
            first_k_dense_replace,
            intermediate_size,
            rope: Rope::parse(&node.get("rope_parameters")?)?,
            row_kinds: manifest.row_kinds.len(),
            row_features: manifest.row_features.as_ref().map_or(0, |f| f.len()),
            scene: SceneRows::read(manifest),
            modalities: manifest.modalities.clone(),
            depth: node
                .opt("depth")?
                .map(|n| DepthConfig::parse(&n, embedding_size.unwrap_or(hidden_size), heads.qk_norm))
                .transpose()?,
        };
        config.check_modalities(&node)?;
        Ok(config)
    }

    fn check_modalities(&self, node: &Node<'_>) -> Result<()> {
        for m in &self.modalities {
            if !self.projections && m.slots != 1 {
                return Err(node
                    .missing(
                        "embedding_size",
                        format!("modality {} has {} slots and needs projections", m.name, m.slots),
                    )
                    .into());
            }
            if m.predict == Predict::Depth && self.depth.is_none() {
                return Err(node
                    .missing("depth", format!("modality {} is predicted by a depth transformer", m.name))
                    .into());
            }
        }
        Ok(())
    }

    /// Whether layer `i` has experts.
    pub fn routed(&self, i: usize) -> Option<&Experts> {
        self.experts.as_ref().filter(|_| i >= self.first_k_dense_replace)
    }

    /// Index of the modality that gives the condition of modality `m`.
    pub fn condition(&self, m: usize) -> Option<usize> {
        let name = self.modalities[m].condition.as_deref()?;
        self.modalities.iter().position(|other| other.name == name)
    }

    /// Index of a modality.
    pub fn modality(&self, name: &str) -> Option<usize> {
        self.modalities.iter().position(|m| m.name == name)
    }

    /// Input ids of a row of modality `m`: `slots * codes`.
    pub fn row_codes(&self, m: usize) -> usize {
        self.modalities[m].row_codes()
    }

    /// Numbers of keys and values that one slot of the KV cache holds, over all layers.
    pub fn kv_numbers(&self) -> usize {
        2 * self.num_hidden_layers * self.heads.kv * self.heads.dim
    }
}

impl Heads {
    fn parse(node: &Node<'_>, hidden: usize, qk_norm: bool) -> Result<Self> {
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

impl Experts {
    fn parse(node: &Node<'_>) -> Result<Option<Self>> {
        let experts = count(node, "num_experts", 1 << 16)?;
        if experts == 0 {
            return Ok(None);
        }
        let null_experts = count(node, "num_null_experts", 1 << 16)?;
        let k = node.get("num_experts_per_tok")?;
        let top_k = k.size(1, 1 << 10)?;
        if top_k > experts + null_experts {
            return Err(k.fail(format!("must be at most the number of experts, {}", experts + null_experts)).into());
        }
        let scoring = node
            .opt("scoring_func")?
            .map(|n| n.choice(&[("softmax", Scoring::Softmax), ("sigmoid", Scoring::Sigmoid)]))
            .transpose()?;
        let inner = node.get("moe_intermediate_size")?.size(1, WIDE)?;
        let router = RouterSpec {
            experts,
            null_experts,
            top_k,
            scoring: scoring.unwrap_or(Scoring::Softmax),
            normalise: flag(node, "norm_topk_prob", true)?,
            scale: node.opt("routed_scaling_factor")?.map(|n| n.number(1e-6, 1e6)).transpose()?.unwrap_or(1.0) as f32,
            selection_bias: Vec::new(),
        };
        let selection_bias = flag(node, "router_selection_bias", false)?;
        Ok(Some(Self { router, selection_bias, inner, shared: inner * count(node, "n_shared_experts", 1 << 10)? }))
    }

    /// Outputs of the router: experts and null experts.
    pub fn outputs(&self) -> usize {
        self.router.experts + self.router.null_experts
    }
}

impl DepthConfig {
    fn parse(node: &Node<'_>, width: usize, qk_norm: bool) -> Result<Self> {
        node.only(&[
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "intermediate_size",
        ])?;
        Ok(Self {
            num_hidden_layers: node.get("num_hidden_layers")?.size(1, 256)?,
            heads: Heads::parse(node, width, qk_norm)?,
            intermediate_size: node.get("intermediate_size")?.size(1, WIDE)?,
        })
    }
}

fn flag(node: &Node<'_>, key: &str, default: bool) -> Result<bool> {
    Ok(node.opt(key)?.map(|n| n.boolean()).transpose()?.unwrap_or(default))
}

fn count(node: &Node<'_>, key: &str, max: u32) -> Result<usize> {
    Ok(node.opt(key)?.map(|n| n.size(0, max)).transpose()?.unwrap_or(0))
}
