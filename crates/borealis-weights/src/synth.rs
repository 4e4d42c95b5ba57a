//! Synthetic checkpoints: routed language models of any shape, with random weights that are a function of seed, name and index alone.
//!
//! The layout is Hugging Face's for `qwen3_moe`, which other engines read too, so that speeds can be compared on the very same files. Nothing is held in
//! memory but a piece of a tensor, and the same seed gives the same bytes on every machine:
//!
//! * key = the first 8 bytes (little-endian) of SHA-256 of `seed/name`;
//! * word j = SplitMix64's finaliser (Steele, Lea and Flood 2014) of `key + (j + 1) * 0x9E3779B97F4A7C15`, wrapping;
//! * number i = 16-bit lane i mod 4 of word i / 4, as a signed integer, times `deviation * sqrt(3) / 32768`, rounded to bf16.

use crate::convert::Converted;
use crate::writer::{self, Out};
use crate::{Result, WeightsError};
use half::bf16;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Numbers that are made at a time; a multiple of 4.
const PIECE: usize = 1 << 18;
/// Ids of bytes and of the three controls, and one merge (some readers refuse a tokenizer without merges).
const LEAST_VOCABULARY: usize = 260;

/// Shape of a synthetic model; names as in `weights.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynthShape {
    /// Width of a row.
    pub hidden_size: usize,
    /// Layers, all routed.
    pub num_hidden_layers: usize,
    /// Experts of a layer.
    pub num_experts: usize,
    /// Experts of a row.
    pub num_experts_per_tok: usize,
    /// Inner width of an expert.
    pub moe_intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Ids; at least 260.
    pub vocab_size: usize,
}

/// One tensor.
struct Planned {
    name: String,
    shape: Vec<usize>,
    /// Standard deviation; 0 = all ones.
    deviation: f64,
}

impl Planned {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl SynthShape {
    /// `1b` (0.9 billion parameters, larger than any cache) or `40m` (fits the last-level cache of a desktop).
    pub fn named(name: &str) -> Option<Self> {
        let small = Self {
            hidden_size: 512,
            num_hidden_layers: 6,
            num_experts: 16,
            num_experts_per_tok: 2,
            moe_intermediate_size: 256,
            num_attention_heads: 8,
            num_key_value_heads: 2,
            head_dim: 64,
            vocab_size: 4096,
        };
        match name {
            "40m" => Some(small),
            "1b" => Some(Self {
                hidden_size: 1024,
                num_hidden_layers: 16,
                num_experts: 32,
                num_experts_per_tok: 4,
                moe_intermediate_size: 512,
                num_attention_heads: 16,
                num_key_value_heads: 4,
                vocab_size: 65_536,
                ..small
            }),
            _ => None,
        }
    }

    /// Refuses shapes that are no model.
    fn check(&self) -> Result<()> {
        let bad = |field: &str, value: usize, remedy: &str| {
            let (file, value) = ("synthetic model".into(), format!("is {value}"));
            Err(WeightsError::Field { file, field: field.into(), value, remedy: remedy.into() })
        };
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_experts", self.num_experts),
            ("num_experts_per_tok", self.num_experts_per_tok),
            ("moe_intermediate_size", self.moe_intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab_size),
        ];
        for (field, value) in sizes {
            if value == 0 || value > 1 << 20 {
                return bad(field, value, "use 1 to 1048576");
            }
        }
        if self.num_experts_per_tok > self.num_experts {
            return bad("num_experts_per_tok", self.num_experts_per_tok, "at most num_experts");
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return bad("num_key_value_heads", self.num_key_value_heads, "must divide num_attention_heads");
        }
        if !self.head_dim.is_multiple_of(2) {
            return bad("head_dim", self.head_dim, "must be even");
        }
        if self.vocab_size < LEAST_VOCABULARY {
            return bad("vocab_size", self.vocab_size, "use at least 260");
        }
        Ok(())
    }

    /// Numbers in all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors().iter().map(|t| t.elements() as u64).sum()
    }

    fn tensors(&self) -> Vec<Planned> {
        let (h, inner, d) = (self.hidden_size, self.moe_intermediate_size, self.head_dim);
        let (q, kv) = (self.num_attention_heads * d, self.num_key_value_heads * d);
        // Variance 1 / columns keeps activations near 1; what is added to the residual shrinks with the number of layers.
        let per = |columns: usize| 1.0 / (columns as f64).sqrt();
        let residual = per(2 * self.num_hidden_layers);
        let mut all = Vec::new();
        let mut add = |name: String, shape: &[usize], deviation: f64| {
            all.push(Planned { name, shape: shape.to_vec(), deviation });
        };
        add("model.embed_tokens.weight".into(), &[self.vocab_size, h], 1.0);
        for layer in 0..self.num_hidden_layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            add(name("self_attn.q_proj"), &[q, h], per(h));
            add(name("self_attn.k_proj"), &[kv, h], per(h));
            add(name("self_attn.v_proj"), &[kv, h], per(h));
            add(name("self_attn.o_proj"), &[h, q], residual * per(q));
            add(name("mlp.gate"), &[self.num_experts, h], per(h));
            for e in 0..self.num_experts {
                add(name(&format!("mlp.experts.{e}.gate_proj")), &[inner, h], per(h));
                add(name(&format!("mlp.experts.{e}.up_proj")), &[inner, h], per(h));
                add(name(&format!("mlp.experts.{e}.down_proj")), &[h, inner], 2.0 * residual * per(inner));
            }
            add(name("input_layernorm"), &[h], 0.0);
            add(name("post_attention_layernorm"), &[h], 0.0);
            add(name("self_attn.q_norm"), &[d], 0.0);
            add(name("self_attn.k_norm"), &[d], 0.0);
        }
        add("model.norm.weight".into(), &[h], 0.0);
        add("lm_head.weight".into(), &[self.vocab_size, h], per(h));
        all
    }

    fn config(&self) -> Value {
        json!({
            "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "torch_dtype": "bfloat16",
            "attention_bias": false, "hidden_act": "silu", "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000.0, "rope_scaling": null, "sliding_window": null, "use_sliding_window": false,
            "tie_word_embeddings": false, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [],
            "bos_token_id": 256, "eos_token_id": 256, "pad_token_id": 256,
            "hidden_size": self.hidden_size, "num_hidden_layers": self.num_hidden_layers,
            "num_experts": self.num_experts, "num_experts_per_tok": self.num_experts_per_tok,
            "moe_intermediate_size": self.moe_intermediate_size, "intermediate_size": 4 * self.moe_intermediate_size,
            "num_attention_heads": self.num_attention_heads, "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim, "vocab_size": self.vocab_size,
        })
    }

    /// The files beside the tensors.
    fn small_files(&self) -> [(&'static str, Vec<u8>); 3] {
        let text = |value: Value| value.to_string().into_bytes();
        [
            ("config.json", text(self.config())),
            ("tokenizer.json", text(tokenizer(self.vocab_size))),
            (
                "tokenizer_config.json",
                text(json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"})),
            ),
        ]
    }
}

/// Bytes as characters, three controls, one merge, and names for the other ids.
fn tokenizer(vocab_size: usize) -> Value {
    // GPT-2's table: printable bytes are themselves, the others characters from 256 on.
    let printable = |b: &u32| (33..127).contains(b) || (161..173).contains(b) || (174..256).contains(b);
    let bytes = (0..256).filter(printable).chain(256..256 + (0..256).filter(|b| !printable(b)).count() as u32);
    let mut names: Vec<String> = bytes.filter_map(char::from_u32).map(String::from).collect();
    let controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    let added: Vec<Value> = controls
        .iter()
        .enumerate()
        .map(|(i, name)| {
            json!({"id": names.len() + i, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    names.extend(controls.map(String::from));
    names.push("!!".into());
    let filler = (names.len()..vocab_size).map(|i| format!("v{i}_"));
    let names: Vec<String> = names.iter().cloned().chain(filler).collect();
    let vocabulary: Map<String, Value> = names.into_iter().enumerate().map(|(i, name)| (name, json!(i))).collect();
    json!({
        "version": "1.0", "added_tokens": added,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                  "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": ["! !"]},
    })
}

/// Words of a tensor: a counter through SplitMix64's finaliser.
struct Words {
    key: u64,
}

impl Words {
    fn new(seed: u64, name: &str) -> Self {
        let hash = Sha256::digest(format!("{seed}/{name}"));
        Self { key: hash.iter().take(8).rev().fold(0, |key, b| key << 8 | u64::from(*b)) }
    }

    fn word(&self, index: u64) -> u64 {
        let mut z = self.key.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Writes the numbers of one tensor as bf16, piece by piece.
fn write(tensor: &Planned, seed: u64, out: Out<'_>) -> Result<()> {
    let (words, count) = (Words::new(seed, &tensor.name), tensor.elements());
    let factor = (tensor.deviation * 3f64.sqrt() / 32768.0) as f32;
    let mut bytes = Vec::with_capacity(2 * PIECE.min(count));
    for from in (0..count).step_by(PIECE) {
        bytes.clear();
        let n = PIECE.min(count - from);
        if tensor.deviation == 0.0 {
            bytes.extend((0..n).flat_map(|_| bf16::ONE.to_le_bytes()));
        } else {
            for word in (from as u64 / 4..).map(|i| words.word(i)).take(n.div_ceil(4)) {
                let lane = |i: u32| bf16::from_f32(f32::from((word >> (16 * i)) as u16 as i16) * factor).to_bits();
                let lanes = (0..4).fold(0u64, |all, i| all | u64::from(lane(i)) << (16 * i));
                bytes.extend(lanes.to_le_bytes());
            }
            bytes.truncate(2 * n);
        }
        out(&bytes)?;
    }
    Ok(())
}

/// What [`synthesise`] would write.
pub fn plan_synthesis(shape: &SynthShape) -> Result<Converted> {
    shape.check()?;
    let tensors = shape.tensors();
    let data: u64 = tensors.iter().map(|t| 2 * t.elements() as u64).sum();
    let mut files: Vec<_> = shape.small_files().map(|(name, bytes)| (name.to_string(), bytes.len() as u64)).into();
    files.push(("model.safetensors".into(), header(&tensors).len() as u64 + data));
    Ok(Converted { files, tensors: tensors.len() })
}

fn header(tensors: &[Planned]) -> Vec<u8> {
    writer::header(tensors.iter().map(|t| (&*t.name, "BF16", &*t.shape, 2 * t.elements() as u64)))
}

/// Writes a synthetic checkpoint into the folder `target`, which must not exist or be empty. `progress` is told the bytes after each tensor.
pub fn synthesise(shape: &SynthShape, seed: u64, target: &Path, progress: &mut dyn FnMut(u64)) -> Result<Converted> {
    let plan = plan_synthesis(shape)?;
    writer::folder(target, progress, |writer| {
        for (name, bytes) in shape.small_files() {
            writer.file(name, |out, _| out(&bytes))?;
        }
        let tensors = shape.tensors();
        writer.file("model.safetensors", |out, tell| {
            out(&header(&tensors))?;
            for tensor in &tensors {
                write(tensor, seed, out)?;
                tell(2 * tensor.elements() as u64);
            }
            Ok(())
        })?;
        Ok(plan)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From an independent program (NumPy): SHA-256 of the bytes of two tensors.
    #[test]
    fn bytes_are_those_of_another_program() {
        let hash = |name: &str, shape: &[usize], deviation: f64| {
            let tensor = Planned { name: name.into(), shape: shape.to_vec(), deviation };
            let mut hash = Sha256::new();
            write(&tensor, 20_261_121, &mut |bytes| {
                hash.update(bytes);
                Ok(())
            })
            .map(|()| hash.finalize().iter().map(|b| format!("{b:02x}")).collect::<String>())
        };
        assert_eq!(
            hash("model.layers.0.mlp.gate.weight", &[8, 256], 1.0 / 16.0).ok().as_deref(),
            Some("360e4aaa191039f0906b112a33c40192e009da3b4b1ca6c0652a378e2cf88f44")
        );
        // More than one piece, and a last word that is cut.
        assert_eq!(
            hash("a", &[3, 100_001], 1.0).ok().as_deref(),
            Some("c2575bb2e35e8032d0f31cafcf7f9860515f11bf18307d0a233d001415dc4887")
        );
    }

    #[test]
    fn shapes_have_their_sizes() {
        let of = |name: &str| SynthShape::named(name).map_or(0, |s| s.parameters());
        assert_eq!((of("40m"), of("1b"), of("7b")), (45_931_776, 982_027_264, 0));
    }
}
