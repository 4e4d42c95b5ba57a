//! Emu3.5: its prompts, blocks and guidance, spelt out here id by id and computed in a plain loop; the model's and the tokenizer's own numbers have goldens.

use std::path::Path;

use borealis_engine::{Conditioning, Media, OutputKind};
use borealis_kernels::{DeviceSpec, QuantFormat};
use borealis_media::{Frame, PixelFormat, write_png};
use borealis_weights::Checkpoint;
use borealis_weights::testing::CheckpointBuilder;
use serde_json::json;

use crate::goldens::folders;
use crate::sequence::{Sequence, best};
use crate::{engine, greedy, run};

const WORDS: [&str; 16] = [
    "unknown",
    "You",
    "are",
    "a",
    "helpful",
    "assistant",
    "assistant.",
    "for",
    "t2i",
    "x2i",
    "task.",
    "USER:",
    "ASSISTANT:",
    "red",
    "2*3",
    "3*2",
];
/// Control ids behind the words; pictures follow them.
const CONTROLS: [(&str, &str); 8] = [
    ("bos_token_id", "<|extra_203|>"),
    ("eos_token_id", "<|extra_204|>"),
    ("", "<|extra_100|>"),
    ("eol_token_id", "<|extra_200|>"),
    ("eof_token_id", "<|extra_201|>"),
    ("img_token_id", "<|image token|>"),
    ("boi_token_id", "<|image start|>"),
    ("eoi_token_id", "<|image end|>"),
];
const FIRST: u32 = (WORDS.len() + CONTROLS.len()) as u32;

fn id(token: &str) -> u32 {
    let word = WORDS.iter().position(|w| *w == token);
    let control = || CONTROLS.iter().position(|c| c.1 == token).expect("a token") + WORDS.len();
    word.unwrap_or_else(control) as u32
}

fn ids(text: &str) -> Vec<u32> {
    text.split_whitespace().map(id).collect()
}

/// A small Emu3.5 as its makers publish it: Qwen3's blocks under a flat configuration, the tokenizer in a folder of its own.
fn write(folder: &Path, tokenizer: &Path, codes: u32, factor: u32) {
    let vocab = FIRST + codes;
    let mut config = json!({"model_type": "Emu3", "vocab_size": vocab, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": false,
        "use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 2});
    for (at, (key, _)) in CONTROLS.iter().enumerate().filter(|(_, c)| !c.0.is_empty()) {
        config[*key] = (WORDS.len() + at).into();
    }
    let mut names: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".into(), vec![vocab as usize, 64]),
        ("lm_head.weight".into(), vec![vocab as usize, 64]),
        ("model.norm.weight".into(), vec![64]),
    ];
    let parts: [(&str, &[usize]); 11] = [
        ("input_layernorm", &[64]),
        ("post_attention_layernorm", &[64]),
        ("self_attn.q_proj", &[64, 64]),
        ("self_attn.k_proj", &[32, 64]),
        ("self_attn.v_proj", &[32, 64]),
        ("self_attn.o_proj", &[64, 64]),
        ("self_attn.q_norm", &[16]),
        ("self_attn.k_norm", &[16]),
        ("mlp.gate_proj", &[96, 64]),
        ("mlp.up_proj", &[96, 64]),
        ("mlp.down_proj", &[64, 96]),
    ];
    for i in 0..2 {
        names.extend(parts.iter().map(|(n, s)| (format!("model.layers.{i}.{n}.weight"), s.to_vec())));
    }
    let vocab: serde_json::Map<String, serde_json::Value> =
        WORDS.iter().chain(CONTROLS.iter().map(|c| &c.1)).map(|t| ((*t).to_string(), id(t).into())).collect();
    let added: Vec<_> = CONTROLS
        .iter()
        .map(|c| json!({"id": id(c.1), "content": c.1, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}))
        .collect();
    let words = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "unknown"}});
    let builder = CheckpointBuilder::new(config).tensors("", &names, 4).json("tokenizer.json", &words);
    builder
        .json("preprocessor_config.json", &json!({"max_pixels": 6 * factor * factor}))
        .write(folder)
        .expect("a checkpoint");
    let target = folder.join("image_tokenizer");
    std::fs::create_dir(&target).expect("a folder");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(tokenizer.join(file), target.join(file)).expect("a copy");
    }
}

/// Rows of a picture's ids with an end between them.
fn block(size: &str, picture: &[u32], columns: usize) -> Vec<u32> {
    let mut out = vec![id("<|image start|>"), id(size), id("<|image token|>")];
    for (y, row) in picture.chunks(columns).enumerate() {
        out.extend((y > 0).then(|| id("<|extra_200|>")));
        out.extend(row);
    }
    out.push(id("<|image end|>"));
    out
}

/// The most likely ids of a picture, with guidance.
fn drawn(checkpoint: &Checkpoint, prompts: [Vec<u32>; 2], scale: f32, (rows, columns): (usize, usize)) -> Vec<u32> {
    let sequence = || Sequence::new(checkpoint, &DeviceSpec::Cpu, QuantFormat::F32);
    let (mut with, mut without) = (sequence(), sequence());
    let mut next = prompts;
    let mut out = Vec::new();
    while out.len() < rows * columns {
        let last = |s: &mut Sequence<'_>, ids: &[u32]| s.push(ids).pop().expect("a row");
        let (c, u) = (last(&mut with, &next[0]), last(&mut without, &next[1]));
        let guided: Vec<f32> = c.iter().zip(&u).map(|(c, u)| u + scale * (c - u)).collect();
        out.push(best(&guided, |id| id >= FIRST));
        let mut step = vec![out[out.len() - 1]];
        step.extend(out.len().is_multiple_of(columns).then(|| id("<|extra_200|>")));
        next = [step.clone(), step];
    }
    out
}

#[test]
fn emu35_draws_as_its_prompts_say() {
    let Some(tokenizer) = folders().into_iter().find(|g| g.model_type == "emu35_ibq") else { return };
    let json = std::fs::read(tokenizer.path.join("config.json")).expect("config.json");
    let config: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let codes = config["n_embed"].as_u64().expect("codes") as u32;
    let levels = config["ddconfig"]["ch_mult"].as_array().expect("levels").len() as u32;
    let factor = 1 << (levels - 1);
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), tokenizer.folder().path(), codes, factor);
    let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
    assert_eq!(checkpoint.manifest().family.as_deref(), Some("emu3.5"));
    let engine = engine(folder.path(), &DeviceSpec::Cpu);
    let answer = ["<|extra_100|>", "<|image start|>", "2*3", "<|image token|>"].map(id);
    let plain = |task: &str, picture: &[u32], words: &str| -> Vec<u32> {
        let before = ids(&format!("<|extra_203|> You are a helpful {task} USER:"));
        [&before, picture, &ids(words), &ids("ASSISTANT:"), &answer[..]].concat()
    };

    let mut request = greedy("red red", OutputKind::Image);
    request.output.size = Some((3 * factor, 2 * factor));
    let prompts = [plain("assistant for t2i task.", &[], "red red"), plain("assistant.", &[], "")];
    let out = run(&engine, request.clone());
    assert_eq!(out.ids, drawn(&checkpoint, prompts, 5.0, (2, 3)));

    // A picture whose area is that of 3 rows and 2 columns already.
    let (width, height) = (2 * factor, 3 * factor);
    let data = (0..width * height * 3).map(|i| (i * 37 % 251) as u8).collect();
    let given = Frame { width, height, format: PixelFormat::Rgb8, data };
    let file = folder.path().join("given.png");
    write_png(&file, &given).expect("a file");
    let seen = engine.tokenizers().pictures().expect("a tokenizer").encode(&given).expect("ids");
    assert_eq!((seen.rows, seen.columns), (3, 2));
    let picture = block("3*2", &seen.ids, seen.columns);
    request.conditioning = Conditioning::Image(Media::Path(file.clone()));
    let prompts = [plain("assistant for x2i task.", &picture, "red red"), plain("assistant.", &picture, "")];
    let out = run(&engine, request.clone());
    assert_eq!(out.ids, drawn(&checkpoint, prompts, 3.0, (2, 3)));

    // Two pictures, one behind the other.
    let both = [picture.clone(), picture].concat();
    request.conditioning = Conditioning::References(vec![Media::Path(file.clone()), Media::Path(file.clone())]);
    let prompts = [plain("assistant for x2i task.", &both, "red red"), plain("assistant.", &both, "")];
    assert_eq!(run(&engine, request.clone()).ids, drawn(&checkpoint, prompts, 3.0, (2, 3)));
    request.conditioning = Conditioning::References(vec![Media::Path(file); 4]);
    let error = engine.submit(request).map(|_| ()).expect_err("four pictures").to_string();
    assert!(error.contains("reads 3 pictures at most"), "{error}");
}
