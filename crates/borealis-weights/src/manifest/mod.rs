//! `config.json` and `generation_config.json`, typed and checked (`weights.md`, sections 2 to 5 and 7).

mod features;
mod generation;
mod media;
mod modality;
mod prompt;
mod vocabulary;

use crate::Result;
use crate::json::Node;
use borealis_kernels::QuantFormat;
use serde_json::Value;
use std::collections::BTreeMap;

pub use features::{Features, Near, ObjectFrame};
pub use generation::{Generation, PresetSpec, SamplingSpec};
pub use media::{Grid, Media};
pub use modality::{CodeRange, ModalitySpec, PlanKind, Predict, Tables};
pub use prompt::{Field, InputMode, Mode, Scene};
pub use vocabulary::Segment;

/// Name of the main configuration.
pub(crate) const CONFIG: &str = "config.json";
/// Name of the generation defaults.
pub(crate) const GENERATION: &str = "generation_config.json";

/// What a checkpoint says about its vocabulary, its positions and its plans. Every number in it has been checked: ranges lie inside the
/// vocabulary, names refer to things that exist, and sums agree.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The family of open checkpoints that it comes from (`weights.md`, "Open checkpoints"); `None` for our own.
    pub family: Option<String>,
    /// Ids of the vocabulary, V.
    pub vocab_size: u32,
    /// The vocabulary's parts, in order, without gaps.
    pub segments: Vec<Segment>,
    /// Control tokens: name to id.
    pub controls: BTreeMap<String, u32>,
    /// Names of the row kinds, in the order of their table; may be empty.
    pub row_kinds: Vec<String>,
    /// The numbers that media rows carry; `None` when they carry none.
    pub row_features: Option<Features>,
    /// What a row can hold and predict, in the order that [`Manifest::modality`] indexes.
    pub modalities: Vec<ModalitySpec>,
    /// Blocks, windows and grids; `None` for a model of text only.
    pub media: Option<Media>,
    /// Fields of the scene plan, in order; empty when the checkpoint has no scene plan.
    pub scene: Scene,
    /// What it can generate from what.
    pub modes: BTreeMap<String, Mode>,
    /// Defaults of sampling and presets.
    pub generation: Generation,
    /// Type and groups of quantised tensors.
    pub quantization: Option<Quantization>,
    /// All of `config.json`: the transformer's own keys are read by the model.
    pub transformer: Value,
}

/// Quantised tensors (`weights.md`, section 10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization {
    /// int8 or int4.
    pub format: QuantFormat,
    /// Columns that share a scale: 64 or 128.
    pub group: usize,
}

impl Quantization {
    /// Reads `quantization` of a configuration.
    pub(crate) fn read(root: &Node<'_>) -> Result<Option<Self>> {
        let Some(node) = root.opt("quantization")? else { return Ok(None) };
        node.only(&["format", "group"])?;
        let format = node.get("format")?.choice(&[("int8", QuantFormat::Int8), ("int4", QuantFormat::Int4)])?;
        let group = node.get("group")?;
        match group.size(1, 1024)? {
            size @ (64 | 128) => Ok(Some(Self { format, group: size })),
            _ => Err(group.fail("must be 64 or 128")),
        }
    }
}

/// Keys of `config.json` that belong to other readers: the transformer's (section 1) and notes.
const TRANSFORMER_KEYS: &[&str] = &[
    "architectures",
    "attention_bias",
    "clip_qkv",
    "depth",
    "embedding_size",
    "first_k_dense_replace",
    "format",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "input_vectors",
    "intermediate_size",
    "kv_lora_rank",
    "max_position_embeddings",
    "mlp_bias",
    "mlp_only_layers",
    "model_type",
    "moe_intermediate_size",
    "n_group",
    "n_shared_experts",
    "name",
    "norm_topk_prob",
    "num_attention_heads",
    "num_experts",
    "num_experts_per_tok",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_null_experts",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_norm",
    "qk_rope_head_dim",
    "rms_norm_eps",
    "rope_parameters",
    "routed_scaling_factor",
    "router_selection_bias",
    "scoring_func",
    "sliding_layers",
    "sliding_window",
    "swin_norm",
    "tie_word_embeddings",
    "topk_group",
    "v_head_dim",
];
/// Keys of `config.json` that are read here.
const OWN_KEYS: &[&str] = &[
    "family",
    "vocab_size",
    "segments",
    "controls",
    "row_kinds",
    "row_features",
    "modalities",
    "media",
    "scene",
    "modes",
    "quantization",
];

impl Manifest {
    /// Reads and checks `config.json` and `generation_config.json` (defaults without it).
    pub fn new(config: &Value, generation: Option<&Value>) -> Result<Self> {
        let root = Node::root(CONFIG, config);
        let model_type = root.get("model_type")?;
        if model_type.string()? != "borealis" {
            return Err(model_type.fail("must be \"borealis\": this is another kind of checkpoint"));
        }
        let format = root.get("format")?;
        if format.int(0, i64::MAX)? != 1 {
            return Err(format.fail("must be 1: another version of borealis wrote this checkpoint"));
        }
        root.only(&[TRANSFORMER_KEYS, OWN_KEYS].concat())?;

        let family = root.opt("family")?.map(|n| n.string().map(String::from)).transpose()?;
        let vocab_size = root.get("vocab_size")?.u32(1, 1 << 24)?;
        let segments = vocabulary::segments(&root, vocab_size)?;
        let controls = vocabulary::controls(&root, &segments)?;
        let row_kinds = vocabulary::row_kinds(&root)?;
        let modalities = modality::read(&root, vocab_size, &segments)?;
        let media = Media::read(&root, &modalities)?;
        modality::check_media(&root, &modalities, media.as_ref())?;
        let row_features = Features::read(&root, &modalities)?;
        let scene = Scene::read(&root, &segments, &modalities)?;
        if media.as_ref().is_some_and(|m| m.scene_condition) && scene.fields.is_empty() {
            return Err(root.get("media")?.get("scene_condition")?.fail("needs a scene plan: add scene.fields"));
        }
        let modes = prompt::modes(&root, &controls, &scene)?;
        let empty = Value::Object(serde_json::Map::new());
        let generation = Generation::read(
            &Node::root(GENERATION, generation.unwrap_or(&empty)),
            &modalities,
            &segments,
            media.as_ref(),
        )?;
        let quantization = Quantization::read(&root)?;
        let transformer = config.clone();
        Ok(Self {
            family,
            vocab_size,
            segments,
            controls,
            row_kinds,
            row_features,
            modalities,
            media,
            scene,
            modes,
            generation,
            quantization,
            transformer,
        })
    }

    /// The segment of this name.
    pub fn segment(&self, name: &str) -> Option<&Segment> {
        self.segments.iter().find(|s| s.name == name)
    }

    /// The segment that `id` lies in; `None` for ids beyond the vocabulary.
    pub fn segment_of(&self, id: u32) -> Option<&Segment> {
        let at = self.segments.partition_point(|s| s.start + s.size <= id);
        self.segments.get(at).filter(|s| s.start <= id)
    }

    /// Index and description of the modality of this name.
    pub fn modality(&self, name: &str) -> Option<(usize, &ModalitySpec)> {
        self.modalities.iter().enumerate().find(|(_, m)| m.name == name)
    }

    /// The id of a control token such as `<media>`.
    pub fn control(&self, name: &str) -> Option<u32> {
        self.controls.get(name).copied()
    }

    /// The number of a row kind.
    pub fn row_kind(&self, name: &str) -> Option<u32> {
        self.row_kinds.iter().position(|k| k == name).map(|i| i as u32)
    }
}
