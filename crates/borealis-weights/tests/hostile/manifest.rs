//! Configurations that lie.

use borealis_weights::Manifest;
use borealis_weights::testing::tiny_config;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::says;

/// The valid configuration after `edit`.
fn manifest(edit: impl Fn(&mut Value)) -> String {
    let mut config = tiny_config();
    Manifest::new(&config, None).unwrap();
    edit(&mut config);
    let text = Manifest::new(&config, None).expect_err("must be refused").to_string();
    assert!(text.starts_with("config.json: "), "{text}");
    text
}

#[test]
fn vocabularies_that_contradict_themselves() {
    says(&manifest(|c| c["format"] = json!(2)), &["format is 2: must be 1"]);
    says(&manifest(|c| c["model_type"] = json!("llama")), &["model_type is \"llama\""]);
    says(&manifest(|c| c["vocab_size"] = json!(565)), &["vocab_size is 565", "cover 564 ids"]);
    says(&manifest(|c| c["vocab_size"] = json!(-1)), &["vocab_size is -1: must be an integer from 1"]);
    says(
        &manifest(|c| c["segments"][1]["start"] = json!(255)),
        &["segments[1].start is 255: must be 256, right after segment \"text\""],
    );
    says(&manifest(|c| c["segments"][1]["size"] = json!(43)), &["segments[2].start is 300: must be 299"]);
    says(&manifest(|c| c["segments"][1]["size"] = json!(0)), &["segments[1].size is 0"]);
    says(&manifest(|c| c["segments"][2]["name"] = json!("text")), &["segments[2].name", "unique"]);
    says(
        &manifest(|c| c["segments"][2]["sizes"] = json!(1)),
        &["segments[2].sizes is 1: unknown field, did you mean \"size\"?"],
    );
    says(&manifest(|c| c["segments"] = json!(3)), &["segments is 3: must be a list"]);
    says(
        &manifest(|c| c["controls"]["<media>"] = json!(7)),
        &["controls.<media> is 7: must lie in segment \"control\", 256 to 299"],
    );
    says(&manifest(|c| c["controls"]["<media>"] = json!(256)), &["256: is also the id of control"]);
    says(&manifest(|c| c["row_kinds"][1] = json!("text")), &["row_kinds[1]", "unique"]);
    says(&manifest(|c| c["hiden_size"] = json!(1)), &["hiden_size is 1: unknown field, did you mean \"hidden_size\"?"]);
    says(
        &manifest(|c| c["quantization"] = json!({"format": "int8", "group": 32})),
        &["quantization.group is 32: must be 64 or 128"],
    );
}

#[test]
fn modalities_that_contradict_the_vocabulary() {
    says(&manifest(|c| c["modalities"][0]["codes"][0]["size"] = json!(565)), &["modalities[0].codes[0].size is 565"]);
    says(
        &manifest(|c| c["modalities"][2]["codes"][8]["size"] = json!(9)),
        &["modalities[2].codes[8].size is 9", "inside one segment"],
    );
    says(&manifest(|c| c["modalities"][2]["codes"] = json!([])), &["at least one range"]);
    says(&manifest(|c| c["modalities"][2]["predict"] = json!("one")), &["predict is \"one\"", "4 of 9"]);
    says(
        &manifest(|c| c["modalities"][2]["predict"] = json!("two")),
        &["must be \"one\" or \"parallel\" or \"depth\""],
    );
    says(&manifest(|c| c["modalities"][0]["copy_gate"] = json!(true)), &["copy_gate is true"]);
    says(&manifest(|c| c["modalities"][2]["slots"] = json!(0)), &["slots is 0"]);
    says(&manifest(|c| c["modalities"][2]["plan"] = json!("spiral")), &["plan is \"spiral\""]);
    says(&manifest(|c| c["modalities"][0]["offset"] = json!(1)), &["modalities[0].offset is 1"]);
    says(&manifest(|c| c["modalities"][2]["condition"] = json!("text")), &["condition is \"text\""]);
    says(&manifest(|c| c["modalities"][2]["condition"] = json!("audio")), &["has no condition itself"]);
    says(&manifest(|c| c["modalities"][3]["name"] = json!("video")), &["unique"]);
}

#[test]
fn media_that_do_not_add_up() {
    says(
        &manifest(|c| c["media"]["latent_fps"] = json!(5)),
        &["media.latent_fps is 5: must be fps / frames_per_latent = 24 / 4"],
    );
    says(&manifest(|c| c["media"]["window"] = json!(0)), &["media.window is 0"]);
    says(
        &manifest(|c| c["media"]["block"][0] = json!("smell")),
        &["media.block[0] is \"smell\": must be a modality: text, state"],
    );
    says(&manifest(|c| c["media"]["block"][0] = json!("video")), &["media.block[1]", "already in the block"]);
    says(
        &manifest(|c| c["media"]["groups"] = json!([["state"], ["video"]])),
        &["every modality of media.block exactly once"],
    );
    says(&manifest(|c| c["media"]["grids"]["16x9"] = json!([1, 1])), &["a ratio such as"]);
    says(&manifest(|c| c["media"]["grids"]["16:9"] = json!([5])), &["must be [rows, columns]"]);
    says(&manifest(|c| c["media"]["grids"]["16:9"] = json!([5, 0])), &["media.grids.16:9[1] is 0"]);
    says(
        &manifest(|c| c["media"]["canvas_cells"]["16:9"] = json!([9, 17])),
        &["canvas_cells.16:9", "must make the grid [5, 8]"],
    );
    says(&manifest(|c| c["row_features"]["size"] = json!(35)), &["row_features.size is 35: the lists make 36 numbers"]);
    says(&manifest(|c| c["row_features"]["relative"] = json!(["x"])), &["row_features.relative[0] is \"x\""]);
    says(
        &manifest(|c| c["scene"]["fields"][1]["size"] = json!(33)),
        &["scene.fields[1].start", "segment \"scene\", 300 to 339"],
    );
    says(&manifest(|c| c["scene"]["fields"][1]["name"] = json!("background")), &["unique"]);
    says(
        &manifest(|c| c["modalities"][0]["codes"][0]["size"] = json!(330)),
        &["scene.fields[1].start is 308", "modality \"text\""],
    );
    says(
        &manifest(|c| (c["media"]["scene_condition"], c["scene"]) = (json!(true), json!({}))),
        &["media.scene_condition is true: needs a scene plan"],
    );
    says(&manifest(|c| c["modes"]["text_to_smell"] = json!({"control": "<t2v>"})), &["unknown field"]);
    says(
        &manifest(|c| c["modes"]["extend"]["control"] = json!("<more>")),
        &["modes.extend.control is \"<more>\": must be one of"],
    );
    says(
        &manifest(|c| drop(c["controls"].as_object_mut().unwrap().remove("<media>"))),
        &["controls.<media> is missing"],
    );
}

#[test]
fn generation_defaults_that_mean_nothing() {
    let bad = |g: Value| Manifest::new(&tiny_config(), Some(&g)).expect_err("must be refused").to_string();
    says(&bad(json!({"guidance": "2"})), &["generation_config.json: guidance is \"2\": must be a number"]);
    says(&bad(json!({"sampling": {"video": {"temperature": -1}}})), &["sampling.video.temperature is -1"]);
    says(&bad(json!({"sampling": {"video": {"top_p": 0}}})), &["sampling.video.top_p is 0"]);
    says(&bad(json!({"sampling": {"smell": {}}})), &["sampling.smell"]);
    says(&bad(json!({"presets": {"turbo": {}}})), &["presets.turbo"]);
    says(&bad(json!({"presets": {"speed": {"fps_divisor": 3}}})), &["fps_divisor is 3: must divide"]);
}

/// Replaces the value at the `at`-th place of a tree.
fn replace(value: &mut Value, at: &mut usize, with: &Value) {
    if *at == 0 {
        *value = with.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(list) => list.iter_mut().for_each(|v| replace(v, at, with)),
        Value::Object(object) => object.values_mut().for_each(|v| replace(v, at, with)),
        _ => {}
    }
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!("x")),
        Just(json!(true)),
        Just(json!(1e300)),
        Just(json!(-1)),
        Just(json!(u64::MAX)),
        any::<i64>().prop_map(|v| json!(v)),
        (0u32..600).prop_map(|v| json!(v)),
        Just(json!([[["text"]]])),
    ]
}

proptest! {
    #[test]
    fn no_configuration_panics(changes in proptest::collection::vec((0usize..420, odd_value()), 1..4)) {
        let mut config = tiny_config();
        for (at, with) in changes {
            replace(&mut config, &mut { at }, &with);
        }
        if let Err(e) = Manifest::new(&config, None) {
            prop_assert!(!e.to_string().contains('\n'));
        }
    }
}
