//! The families that are known, as data.

use crate::json::Node;
use crate::names::{Piece, Rule};
use crate::{Result, nearest};

/// How queries and keys are normed; the values of `qk_norm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QkNorm {
    None,
    Head,
    Projection,
    LayerNorm,
    /// Per head when the checkpoint has the tensor (Emu3.5 is published under Emu3's `model_type`).
    HeadIfThere,
}

/// How experts are described and chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routing {
    /// Softmax over all, the chosen divided by their sum.
    Mixtral,
    /// Softmax over all; `norm_topk_prob`, false by default; experts as wide as `intermediate_size`.
    Olmoe,
    /// Softmax over all; `norm_topk_prob`, false by default; some layers dense.
    Qwen3,
    /// Sigmoid with a selection bias, groups, shared experts; the first layers dense.
    DeepSeek,
}

/// How a family names layers that see a window of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Windows {
    /// It has none.
    None,
    /// `sliding_window`: all layers.
    All,
    /// `sliding_window` when `use_sliding_window` is on: all layers.
    Switched,
    /// As `Switched`; the layers of `layer_types`, else those from `max_window_layers` on.
    Listed,
}

/// One family of open checkpoints.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Its name: `family` of the manifest.
    pub name: &'static str,
    /// Values of `model_type` in published configurations.
    pub model_types: &'static [&'static str],
    /// Key of the language model's configuration; `None` = the top level.
    pub(crate) inner: Option<&'static str>,
    pub(crate) qk_norm: QkNorm,
    pub(crate) routing: Option<Routing>,
    pub(crate) windows: Windows,
    /// Defaults of Hugging Face's configuration class.
    pub(crate) rms_norm_eps: f64,
    pub(crate) rope_theta: f64,
    pub(crate) key_value_heads: Option<u64>,
    pub(crate) head_dim: Option<u64>,
    pub(crate) tied: bool,
    /// The name table.
    pub rules: &'static [Rule],
}

const fn rule(published: &'static str, canonical: &'static str) -> Rule {
    Rule { published, set: "", canonical, piece: Piece::Whole }
}

const fn piece(published: &'static str, canonical: &'static str, piece: Piece) -> Rule {
    Rule { published, set: "", canonical, piece }
}

const fn set(published: &'static str, set: &'static str, canonical: &'static str) -> Rule {
    Rule { published, set, canonical, piece: Piece::Whole }
}

const GATE_UP: &str = "model.layers.{i}.mlp.experts.gate_up_proj";
const DOWN: &str = "model.layers.{i}.mlp.experts.down_proj";

const MIXTRAL: &[Rule] = &[
    piece("model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight", GATE_UP, Piece::Gate),
    piece("model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight", GATE_UP, Piece::Up),
    piece("model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight", DOWN, Piece::Down),
    rule("model.layers.{i}.block_sparse_moe.gate.weight", "model.layers.{i}.mlp.gate.weight"),
];
const EXPERTS: &[Rule] = &[
    piece("model.layers.{i}.mlp.experts.{e}.gate_proj.weight", GATE_UP, Piece::Gate),
    piece("model.layers.{i}.mlp.experts.{e}.up_proj.weight", GATE_UP, Piece::Up),
    piece("model.layers.{i}.mlp.experts.{e}.down_proj.weight", DOWN, Piece::Down),
];
const EMU3: &[Rule] = &[
    rule("text_model.model.*", "model.*"),
    rule("text_model.lm_head.weight", "lm_head.weight"),
    set("vqmodel.*", "image_tokenizer", "*"),
];
const CHAMELEON: &[Rule] = &[set("model.vqmodel.*", "image_tokenizer", "*")];
const JANUS: &[Rule] = &[
    rule("model.language_model.*", "model.*"),
    rule("model.generation_embeddings.weight", "model.modalities.image.embed_tokens.weight"),
    rule("model.generation_aligner.*", "model.modalities.image.aligner.*"),
    rule("model.generation_head.*", "model.modalities.image.head.*"),
    set("model.vqmodel.*", "image_tokenizer", "*"),
    set("model.vision_model.*", "vision_tower", "vision_model.*"),
    set("model.aligner.*", "vision_tower", "aligner.*"),
];

const BASE: Family = Family {
    name: "llama",
    model_types: &["llama"],
    inner: None,
    qk_norm: QkNorm::None,
    routing: None,
    windows: Windows::None,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
    key_value_heads: None,
    head_dim: None,
    tied: false,
    rules: &[],
};

/// All of them.
pub const FAMILIES: [Family; 10] = [
    BASE,
    Family {
        name: "qwen3",
        model_types: &["qwen3"],
        qk_norm: QkNorm::Head,
        windows: Windows::Listed,
        key_value_heads: Some(32),
        head_dim: Some(128),
        ..BASE
    },
    Family {
        name: "mixtral",
        model_types: &["mixtral"],
        routing: Some(Routing::Mixtral),
        windows: Windows::All,
        rms_norm_eps: 1e-5,
        rope_theta: 1e6,
        key_value_heads: Some(8),
        rules: MIXTRAL,
        ..BASE
    },
    Family {
        name: "olmoe",
        model_types: &["olmoe"],
        qk_norm: QkNorm::Projection,
        routing: Some(Routing::Olmoe),
        rms_norm_eps: 1e-5,
        rules: EXPERTS,
        ..BASE
    },
    Family {
        name: "qwen3_moe",
        model_types: &["qwen3_moe"],
        qk_norm: QkNorm::Head,
        routing: Some(Routing::Qwen3),
        windows: Windows::Switched,
        key_value_heads: Some(4),
        rules: EXPERTS,
        ..BASE
    },
    Family {
        name: "deepseek_v3",
        model_types: &["deepseek_v3"],
        routing: Some(Routing::DeepSeek),
        rules: EXPERTS,
        ..BASE
    },
    Family {
        name: "emu3",
        model_types: &["emu3"],
        inner: Some("text_config"),
        rms_norm_eps: 1e-5,
        rope_theta: 1e6,
        key_value_heads: Some(8),
        rules: EMU3,
        ..BASE
    },
    // As the makers publish Emu3 and Emu3.5: a flat configuration, no picture tokenizer inside.
    Family {
        name: "emu3",
        model_types: &["Emu3"],
        qk_norm: QkNorm::HeadIfThere,
        windows: Windows::Listed,
        rms_norm_eps: 1e-5,
        rope_theta: 1e6,
        key_value_heads: Some(8),
        rules: EMU3,
        ..BASE
    },
    Family {
        name: "chameleon",
        model_types: &["chameleon"],
        qk_norm: QkNorm::LayerNorm,
        rms_norm_eps: 1e-5,
        rules: CHAMELEON,
        ..BASE
    },
    Family { name: "janus", model_types: &["janus"], inner: Some("text_config"), tied: true, rules: JANUS, ..BASE },
];

/// Tokenizers that are checkpoints of their own: no transformer of ids is in them.
const COMPONENTS: [&str; 9] = [
    "emu3_vqgan",
    "Emu3VisionVQ",
    "emu35_ibq",
    "taming_vqgan",
    "chameleon_vqgan",
    "janus_vqgan",
    "encodec",
    "mimi",
    "dac",
];

/// Layouts of makers that are published in another one, too: what to use instead.
const ELSEWHERE: [(&str, &str); 1] = [(
    "multi_modality",
    "is Janus as its makers pickle it: use its conversion for Hugging Face's classes (model_type janus)",
)];

/// The family of a configuration.
pub(super) fn find(root: &Node<'_>) -> Result<&'static Family> {
    let node = root.get("model_type")?;
    let wanted = node.string()?;
    let known = || FAMILIES.iter().flat_map(|f| f.model_types.iter().copied());
    if let Some(family) = FAMILIES.iter().find(|f| f.model_types.contains(&wanted)) {
        return Ok(family);
    }
    if COMPONENTS.contains(&wanted) {
        return Err(node.fail("is a tokenizer alone, it cannot generate: give the model that uses it"));
    }
    if let Some((_, remedy)) = ELSEWHERE.iter().find(|(name, _)| *name == wanted) {
        return Err(node.fail(*remedy));
    }
    let names: Vec<&str> = std::iter::once("borealis").chain(known()).collect();
    let hint = nearest(wanted, names.iter().copied()).map_or(".".into(), |n| format!(", did you mean \"{n}\"?"));
    Err(node.fail(format!("is not a known family{hint} Known are: {}", names.join(", "))))
}
