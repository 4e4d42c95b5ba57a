//! Golden checkpoints have no `tokenizer.json`: here they get one of words `w0`, `w1`, ...

use std::collections::BTreeMap;

use serde_json::json;

use crate::goldens::Golden;

/// A copy of a golden checkpoint with a tokenizer of words: `names`, and `w<id>` for the other ids. Templates of prompts are no words of it.
pub fn worded(golden: &Golden, size: usize, names: &[(&str, u32)]) -> tempfile::TempDir {
    let copy = golden.folder();
    let mut vocab: BTreeMap<String, u32> = (0..size as u32).map(|id| (format!("w{id}"), id)).collect();
    for (name, id) in names {
        vocab.remove(&format!("w{id}"));
        vocab.insert((*name).to_string(), *id);
    }
    // What has no word gets that of an id without a name, where there is one.
    let unnamed = (0..size).map(|id| format!("w{id}")).find(|word| vocab.contains_key(word));
    let unknown = unnamed.or_else(|| vocab.keys().next().cloned()).expect("a word");
    let gone = |text: &str| json!({"type": "Replace", "pattern": {"String": text}, "content": " "});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [gone("<|User|>:"), gone("<|Assistant|>:")]},
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": unknown},
    });
    std::fs::write(copy.path().join("tokenizer.json"), tokenizer.to_string()).expect("tokenizer.json");
    copy
}

/// The text that this tokenizer turns into `ids`.
pub fn words(ids: &[u32]) -> String {
    ids.iter().map(|id| format!("w{id}")).collect::<Vec<_>>().join(" ")
}
