//! The transformer's configuration, typed and checked (`weights.md`, section 1).

use borealis_kernels::{KvFormat, RouterSpec, Scoring};
use borealis_weights::{Manifest, ModalitySpec, Node, Predict};

use crate::error::Result;
use crate::heads::{AttentionSpec, Heads, Latent, QkNorm};
use crate::rope::{Rope, RopeScaling};
use crate::window::SlidingWindow;

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
    /// Keys and values are compressed (MLA); `None` = each head has its own.
    pub latent: Option<Latent>,
    /// The attention's projections have biases.
    pub attention_bias: bool,
    /// Queries, keys and values are clipped to plus and minus this.
    pub clip_qkv: Option<f32>,
    /// The norms of a layer stand behind attention and SwiGLU instead of before them.
    pub swin_norm: bool,
    /// The dense SwiGLU has biases.
    pub mlp_bias: bool,
    /// Added under the square root of every norm.
    pub rms_norm_eps: f32,
    /// The head is the embedding table.
    pub tie_word_embeddings: bool,
    /// The routed layers; `None` when all layers are dense.
    pub experts: Option<Experts>,
    /// Leading layers with a dense SwiGLU.
    pub first_k_dense_replace: usize,
    /// Further layers with a dense SwiGLU.
    pub mlp_only_layers: Vec<usize>,
    /// Width of the dense SwiGLU.
    pub intermediate_size: usize,
    /// Rotary positions.
    pub rope: Rope,
    /// Layers that see the last positions only.
    pub window: Option<SlidingWindow>,
    /// Number of row kinds; 0 = the checkpoint has no such table.
    pub row_kinds: usize,
    /// Length F of a row's features; 0 = none.
    pub row_features: usize,
    /// A row's features are a vector of width H that is added as it is: what a tower made of a picture.
    pub input_vectors: bool,
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
pub(crate) const WIDE: u32 = 1 << 20;

impl ModelConfig {
    /// Reads the transformer's keys of `config.json`; everything else comes typed from the manifest.
    pub fn new(manifest: &Manifest) -> Result<Self> {
        let node = Node::root("config.json", &manifest.transformer);
        let size = |key: &str, max: u32| -> Result<usize> { Ok(node.get(key)?.size(1, max)?) };
        let hidden_size = size("hidden_size", WIDE)?;
        let embedding_size = node.opt("embedding_size")?.map(|n| n.size(1, WIDE)).transpose()?;
        let num_hidden_layers = size("num_hidden_layers", 4096)?;
        let latent = Latent::parse(&node)?;
        let heads = Heads::parse(&node, hidden_size, QkNorm::parse(&node)?, latent)?;
        if let Some(n) = node.opt("hidden_act")? {
            n.choice(&[("silu", ())])?;
        }
        let experts = Experts::parse(&node)?;
        let first_k_dense_replace = match &experts {
            Some(_) => count(&node, "first_k_dense_replace", num_hidden_layers as u32)?,
            None => num_hidden_layers,
        };
        let mlp_only_layers = layers(&node, "mlp_only_layers", num_hidden_layers)?;
        let intermediate_size = match first_k_dense_replace + mlp_only_layers.len() {
            0 => 0,
            _ => size("intermediate_size", WIDE)?,
        };
        let input_vectors = flag(&node, "input_vectors", false)?;
        let row_features = manifest.row_features.as_ref().map_or(0, |f| f.len());
        let config = Self {
            vocab_size: size("vocab_size", 1 << 28)?,
            hidden_size,
            embedding_size: embedding_size.unwrap_or(hidden_size),
            projections: embedding_size.is_some(),
            num_hidden_layers,
            heads,
            latent,
            attention_bias: flag(&node, "attention_bias", false)?,
            clip_qkv: node.opt("clip_qkv")?.map(|n| n.number(1e-6, 1e6)).transpose()?.map(|v| v as f32),
            swin_norm: flag(&node, "swin_norm", false)?,
            mlp_bias: flag(&node, "mlp_bias", false)?,
            rms_norm_eps: node.opt("rms_norm_eps")?.map(|n| n.number(0.0, 1.0)).transpose()?.unwrap_or(1e-6) as f32,
            tie_word_embeddings: flag(&node, "tie_word_embeddings", false)?,
            experts,
            first_k_dense_replace,
            mlp_only_layers,
            intermediate_size,
            rope: Rope::parse(&node.get("rope_parameters")?)?,
            window: SlidingWindow::parse(&node, num_hidden_layers)?,
            row_kinds: manifest.row_kinds.len(),
            row_features: if input_vectors { hidden_size } else { row_features },
            input_vectors,
            scene: SceneRows::read(manifest),
            modalities: manifest.modalities.clone(),
            depth: node
                .opt("depth")?
                .map(|n| DepthConfig::parse(&n, embedding_size.unwrap_or(hidden_size), heads.qk_norm))
                .transpose()?,
        };
        config.check_modalities(&node)?;
        config.check_parts(&node)?;
        let pairs = config.attention().rotated() / 2;
        if let RopeScaling::Long { factors, .. } = &config.rope.scaling
            && factors.len() != pairs
        {
            let list = node.get("rope_parameters")?.get("short_factor")?;
            return Err(list.fail(format!("must have {pairs} numbers, one for each pair of a head")).into());
        }
        if manifest.media.is_some() && config.window.is_some() {
            return Err(node.get("sliding_window")?.fail("is for checkpoints without media: give media.window").into());
        }
        Ok(config)
    }

    /// Refuses parts that are not computed together.
    fn check_parts(&self, node: &Node<'_>) -> Result<()> {
        let refuse = |key: &str, what: &str| -> Result<()> { Err(node.get(key)?.fail(what).into()) };
        if self.input_vectors && node.opt("row_features")?.is_some() {
            return refuse("input_vectors", "is for checkpoints without row_features");
        }
        if self.latent.is_some() && (self.clip_qkv.is_some() || self.heads.qk_norm != QkNorm::None) {
            return refuse("kv_lora_rank", "excludes clip_qkv and qk_norm");
        }
        if self.experts.is_some() && (self.mlp_bias || self.swin_norm) {
            let key = if self.mlp_bias { "mlp_bias" } else { "swin_norm" };
            return refuse(key, "is for models without experts");
        }
        Ok(())
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
            if m.tables.is_some() && (self.projections || m.codes[0].start < self.table_rows() as u32) {
                let what = "has ids and tables of its own: its ids must be the last ones, without embedding_size";
                return Err(node.get("modalities")?.fail(format!("modality {} {what}", m.name)).into());
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
        self.experts.as_ref().filter(|_| i >= self.first_k_dense_replace && !self.mlp_only_layers.contains(&i))
    }

    /// Layers with experts.
    pub fn routed_layers(&self) -> usize {
        (0..self.num_hidden_layers).filter(|i| self.routed(*i).is_some()).count()
    }

    /// Rows of the common embedding table and head: the ids before those of modalities with tables of their own.
    pub fn table_rows(&self) -> usize {
        let own: usize = self.modalities.iter().filter(|m| m.tables.is_some()).map(|m| m.codes[0].size as usize).sum();
        self.vocab_size.saturating_sub(own)
    }

    /// The attention of a layer.
    pub(crate) fn attention(&self) -> AttentionSpec {
        let plain =
            AttentionSpec { bias: self.attention_bias, clip: self.clip_qkv, ..AttentionSpec::plain(self.heads) };
        let Some(l) = self.latent else { return plain };
        let scale = ((l.nope + l.rope) as f64).powf(-0.5) * self.rope.score_factor();
        AttentionSpec { latent: Some(l), scale: scale as f32, ..plain }
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

    /// Bytes of keys and values that one slot of the KV cache holds, over all layers.
    pub fn kv_bytes(&self, format: KvFormat) -> u64 {
        (self.num_hidden_layers * self.kv_layer_bytes(format)) as u64
    }

    /// Bytes of the key and the value that a slot holds in one layer.
    pub(crate) fn kv_layer_bytes(&self, format: KvFormat) -> usize {
        let (heads, dim) = self.attention().cached();
        2 * heads * format.bytes(dim)
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
            groups: count(node, "n_group", 1 << 16)?.max(1),
            top_groups: count(node, "topk_group", 1 << 16)?.max(1),
        };
        check_groups(node, &router)?;
        let selection_bias = flag(node, "router_selection_bias", false)?;
        Ok(Some(Self { router, selection_bias, inner, shared: inner * count(node, "n_shared_experts", 1 << 10)? }))
    }

    /// Outputs of the router: experts and null experts.
    pub fn outputs(&self) -> usize {
        self.router.experts + self.router.null_experts
    }
}

/// Groups must be of one size, of at least two experts, and leave enough of them to choose from.
fn check_groups(node: &Node<'_>, r: &RouterSpec) -> Result<()> {
    if r.groups == 1 {
        return Ok(());
    }
    let size = r.experts / r.groups;
    if size < 2 || size * r.groups != r.experts || r.null_experts > 0 {
        return Err(node
            .get("n_group")?
            .fail(format!("must divide the {} experts into groups of 2 or more", r.experts))
            .into());
    }
    if r.top_groups > r.groups || r.top_groups * size < r.top_k {
        let what = format!("must be at most n_group, {}, and leave {} experts to choose", r.groups, r.top_k);
        return Err(node.get("topk_group")?.fail(what).into());
    }
    Ok(())
}

impl DepthConfig {
    fn parse(node: &Node<'_>, width: usize, qk_norm: QkNorm) -> Result<Self> {
        node.only(&[
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "intermediate_size",
        ])?;
        Ok(Self {
            num_hidden_layers: node.get("num_hidden_layers")?.size(1, 256)?,
            heads: Heads::parse(node, width, qk_norm, None)?,
            intermediate_size: node.get("intermediate_size")?.size(1, WIDE)?,
        })
    }
}

/// A list of layers of the model, without those twice.
pub(crate) fn layers(node: &Node<'_>, key: &str, all: usize) -> Result<Vec<usize>> {
    let Some(list) = node.opt(key)? else { return Ok(Vec::new()) };
    let mut layers = Vec::new();
    for n in list.list(4096)? {
        layers.push(n.size(0, all as u32 - 1)?);
    }
    layers.sort_unstable();
    layers.dedup();
    Ok(layers)
}

fn flag(node: &Node<'_>, key: &str, default: bool) -> Result<bool> {
    Ok(node.opt(key)?.map(|n| n.boolean()).transpose()?.unwrap_or(default))
}

fn count(node: &Node<'_>, key: &str, max: u32) -> Result<usize> {
    Ok(node.opt(key)?.map(|n| n.size(0, max)).transpose()?.unwrap_or(0))
}
