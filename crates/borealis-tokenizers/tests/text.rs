//! Text to ids and back, with the default model's tokenizer and with small ones of other kinds.

use borealis_tokenizers::TextTokenizer;
use borealis_weights::Segment;
use proptest::prelude::*;
use serde_json::{Value, json};

const BPE: &[u8] = include_bytes!("../../../tests/goldens/tiny-default/tokenizer.json");

fn segment(start: u32, size: u32) -> Segment {
    Segment { name: "text".into(), start, size }
}

fn bpe() -> TextTokenizer {
    TextTokenizer::new(BPE, &segment(0, 768)).unwrap()
}

/// Whole words with SentencePiece's space marks, whose decoder looks at the place of a word.
fn words(edit: impl Fn(&mut Value)) -> Value {
    let mut json = json!({
        "version": "1.0", "added_tokens": [],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "▁a": 1, "▁ball": 2, "<media>": 3}, "unk_token": "[UNK]"}
    });
    edit(&mut json);
    json
}

fn open(json: &Value, size: u32) -> Result<TextTokenizer, String> {
    TextTokenizer::new(json.to_string().as_bytes(), &segment(100, size)).map_err(|e| e.to_string())
}

fn streamed(tokenizer: &TextTokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = tokenizer.stream();
    let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    pieces.push(stream.finish().unwrap());
    pieces
}

#[test]
fn ids_are_positions_in_the_segment() {
    let shifted = TextTokenizer::new(BPE, &segment(1000, 800)).unwrap();
    let ids = bpe().encode("a red ball").unwrap();
    assert!(!ids.is_empty() && ids.iter().all(|id| *id < 768));
    assert_eq!(shifted.encode("a red ball").unwrap(), ids.iter().map(|id| id + 1000).collect::<Vec<_>>());
    assert_eq!(shifted.decode(&shifted.encode("a red ball").unwrap()).unwrap(), " a red ball");
    assert!(bpe().encode("").unwrap().is_empty());
    for id in [999, 1800, u32::MAX] {
        assert!(shifted.decode(&[id]).is_err() && shifted.stream().push(id).is_err());
    }
}

#[test]
fn spaces_between_words_survive_streaming() {
    let tokenizer = open(&words(|_| ()), 4).unwrap();
    assert_eq!(tokenizer.encode("a ball a").unwrap(), [101, 102, 101]);
    assert_eq!(streamed(&tokenizer, &[101, 102, 101]), ["a", " ball", " a", ""]);
}

#[test]
fn nobody_writes_a_special_token() {
    let special = words(|j| {
        j["added_tokens"] = json!([{"id": 3, "content": "<media>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}]);
    });
    let tokenizer = open(&special, 4).unwrap();
    assert!(!tokenizer.encode("a <media> ball").unwrap().contains(&103));
}

#[test]
fn truncation_and_padding_of_the_file_are_not_applied() {
    let limited = words(|j| {
        j["truncation"] = json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0});
        j["padding"] = json!({"strategy": {"Fixed": 1_000_000_000u64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[UNK]"});
    });
    assert_eq!(open(&limited, 4).unwrap().encode("a ball").unwrap(), [101, 102]);
}

#[test]
fn files_that_lie_are_refused() {
    let says = |error: Result<TextTokenizer, String>, part: &str| {
        let error = error.expect_err("must be refused");
        assert!(error.starts_with("tokenizer.json: ") && error.contains(part) && !error.contains('\n'), "{error}");
    };
    says(open(&json!({}), 4), "use a file in the format of Hugging Face tokenizers");
    says(open(&words(|_| ()), 3), "has ids up to 3, segment \"text\" of config.json has 3");
    says(open(&words(|j| j["model"]["vocab"]["▁a"] = json!(4_000_000_000u64)), 4), "has ids up to 4000000000");
    says(open(&words(|j| j["model"]["vocab"] = json!({})), 4), "model.vocab");
}

proptest! {
    #[test]
    fn any_text_survives(text in "\\PC{0,40}") {
        let tokenizer = bpe();
        let decoded = tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap();
        prop_assert_eq!(decoded.strip_prefix(' ').unwrap_or(&decoded), text.strip_prefix(' ').unwrap_or(&text));
    }

    #[test]
    fn streaming_never_splits_a_character(text in "[a-z éß漢字🎈🏳️‍🌈]{0,30}") {
        let tokenizer = bpe();
        let ids = tokenizer.encode(&text).unwrap();
        let pieces = streamed(&tokenizer, &ids);
        prop_assert!(pieces.iter().all(|p| !p.contains('\u{FFFD}')), "{:?}", pieces);
        prop_assert_eq!(pieces.last().map(String::as_str), Some(""));
        prop_assert_eq!(pieces.concat(), tokenizer.decode(&ids).unwrap());
    }

    #[test]
    fn pieces_of_any_ids_are_the_whole(ids in proptest::collection::vec(0u32..768, 0..60)) {
        let tokenizer = bpe();
        prop_assert_eq!(streamed(&tokenizer, &ids).concat(), tokenizer.decode(&ids).unwrap());
    }

    #[test]
    fn no_file_panics(at in 0usize..400, byte: u8, text in "[a-z ▁]{0,9}") {
        let mut bytes = words(|_| ()).to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(tokenizer) = TextTokenizer::new(&bytes, &segment(0, 1 << 20)) {
            let _ = tokenizer.encode(&text).map(|ids| tokenizer.decode(&ids));
        }
    }
}
