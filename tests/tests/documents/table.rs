//! The tensors in the table of `weights.md`, section 6, are the tensors that the model asks for, and those that our checkpoints have.

use borealis_model::{ModelConfig, tensor_names};
use borealis_weights::testing::{text_config, tiny_config};
use borealis_weights::{Checkpoint, Manifest};
use serde_json::{Value, json};
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Vec<usize>>;

/// One row of the table: names with placeholders, the shape's text, the condition's text.
struct Line {
    names: Vec<String>,
    shape: String,
    when: String,
}

/// The table below the heading of section 6.
fn lines() -> Vec<Line> {
    let text = super::document("weights.md");
    let section = text.split("\n## 6. ").nth(1).expect("weights.md has a section 6");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|l| l.starts_with("| `"));
    let lines: Vec<Line> = rows.map(line).collect();
    assert!(lines.len() > 20, "the table of section 6 has {} rows", lines.len());
    lines
}

fn line(row: &str) -> Line {
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let [names, shape, when] = cells[..] else { panic!("a row has three cells: {row}") };
    let mut full: Vec<String> = Vec::new();
    for name in names.split('`').skip(1).step_by(2) {
        // `.v_proj.weight` after a full name replaces its last parts.
        let name = match (name.strip_prefix('.'), full.last()) {
            (Some(end), Some(before)) => {
                let depth = if end.starts_with("depth") { "depth" } else { "" };
                let keep = match before.split_once(".depth.") {
                    Some((prefix, _)) if !depth.is_empty() => prefix.to_string(),
                    _ => before.rsplitn(end.split('.').count() + 1, '.').last().unwrap_or_default().to_string(),
                };
                format!("{keep}.{end}")
            }
            _ => name.to_string(),
        };
        full.push(name);
    }
    Line { names: full, shape: shape.replace('`', ""), when: when.replace('`', "") }
}

/// The numbers behind the letters of the table.
struct Scope<'a> {
    config: &'a Value,
    letters: BTreeMap<&'static str, usize>,
}

impl<'a> Scope<'a> {
    fn new(config: &'a Value, features: usize) -> Self {
        let get = |key: &str| config[key].as_u64().unwrap_or(0) as usize;
        let hidden = get("hidden_size");
        let letters = BTreeMap::from([
            ("H", hidden),
            ("D", get("head_dim")),
            ("de", config["embedding_size"].as_u64().map_or(hidden, |v| v as usize)),
            ("V", get("vocab_size")),
            ("E", get("num_experts")),
            ("N", get("num_null_experts")),
            ("I", get("moe_intermediate_size")),
            ("F", features),
            ("kinds", config["row_kinds"].as_array().map_or(0, Vec::len)),
            ("scene", segment(config, "scene")),
            ("heads", get("num_attention_heads")),
            ("kv", get("num_key_value_heads")),
            ("n_shared", get("n_shared_experts")),
            ("intermediate", get("intermediate_size")),
            ("T", get("vocab_size")),
            ("lq", get("q_lora_rank")),
            ("lkv", get("kv_lora_rank")),
            ("nope", get("qk_nope_head_dim")),
            ("rope", get("qk_rope_head_dim")),
            ("value", get("v_head_dim")),
        ]);
        Self { config, letters }
    }

    /// `[E, 2I, H]`, `[S*de, H] ...` -> numbers.
    fn shape(&self, text: &str) -> Vec<usize> {
        let inside = text.split(['[', ']']).nth(1).unwrap_or_else(|| panic!("no shape: {text}"));
        inside.split(',').map(|e| e.split('+').map(|t| self.product(t)).sum()).collect()
    }

    fn product(&self, term: &str) -> usize {
        let factor = |f: &str| {
            let digits = f.len() - f.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, letter) = f.split_at(digits);
            let number = number.parse().unwrap_or(1);
            if letter.is_empty() {
                number
            } else {
                number * self.letters.get(letter).unwrap_or_else(|| panic!("unknown letter {letter}"))
            }
        };
        term.split('*').map(|f| factor(f.trim())).product()
    }

    fn flag(&self, key: &str) -> bool {
        self.config[key].as_bool().unwrap_or(false)
    }

    /// Whether layer `i` has experts.
    fn routed(&self, i: usize) -> bool {
        let dense = self.config["mlp_only_layers"].as_array().is_some_and(|l| l.contains(&json!(i)));
        self.letters["E"] > 0 && !dense && i as u64 >= self.config["first_k_dense_replace"].as_u64().unwrap_or(0)
    }

    /// Conditions on the whole configuration, on a modality, or on layer `i`.
    fn holds(&self, when: &str, modality: &Value, i: usize) -> bool {
        match when {
            "always" => true,
            "unless tie_word_embeddings" => !self.flag("tie_word_embeddings"),
            "row_kinds not empty" => self.letters["kinds"] > 0,
            "media.scene_condition" => self.config["media"]["scene_condition"] == true,
            "row_features not empty" => self.letters["F"] > 0,
            "embedding_size given" => self.config["embedding_size"].is_u64(),
            "copy_gate" => modality["copy_gate"].as_bool().unwrap_or(false),
            "predict: depth" => modality["predict"] == "depth",
            "qk_norm" => self.flag("qk_norm") || self.config["qk_norm"] == "head",
            "qk_norm: projection" => self.config["qk_norm"] == "projection",
            "qk_norm: layer_norm" => self.config["qk_norm"] == "layer_norm",
            "without kv_lora_rank" => self.letters["lkv"] == 0,
            "kv_lora_rank" => self.letters["lkv"] > 0,
            "q_lora_rank" => self.letters["lq"] > 0,
            "kv_lora_rank without q_lora_rank" => self.letters["lkv"] > 0 && self.letters["lq"] == 0,
            "attention_bias" => self.flag("attention_bias"),
            "mlp_bias" => self.flag("mlp_bias") && !self.routed(i),
            "routed layers" => self.routed(i),
            "router_selection_bias" => self.flag("router_selection_bias") && self.routed(i),
            "n_shared_experts > 0" => self.letters["n_shared"] > 0 && self.routed(i),
            "dense layers" => !self.routed(i),
            other => panic!("weights.md has a condition that this test does not know: {other}"),
        }
    }
}

/// Ids of a segment of the vocabulary.
fn segment(config: &Value, name: &str) -> usize {
    let all = config["segments"].as_array();
    all.into_iter().flatten().find(|s| s["name"] == name).and_then(|s| s["size"].as_u64()).unwrap_or(0) as usize
}

/// `a.{gate,up}.b` -> `a.gate.b`, `a.up.b`; `{i}` stays.
fn alternatives(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else { return vec![name.to_string()] };
    let Some((inside, after)) = rest.split_once('}') else { panic!("unbalanced: {name}") };
    let after = alternatives(after);
    let choices: Vec<String> =
        if inside == "i" { vec!["{i}".into()] } else { inside.split(',').map(String::from).collect() };
    choices.iter().flat_map(|c| after.iter().map(move |a| format!("{before}{c}{a}"))).collect()
}

/// The tensors that the table gives a configuration.
fn documented(config: &Value) -> Tensors {
    let features = config["row_features"]["size"].as_u64().unwrap_or(0) as usize;
    let mut tensors = Tensors::new();
    let lines = lines();
    for line in &lines {
        for name in line.names.iter().flat_map(|n| alternatives(n)) {
            expand(&lines, line, &name, &Scope::new(config, features), &mut tensors);
        }
    }
    tensors
}

fn expand(lines: &[Line], line: &Line, name: &str, scope: &Scope<'_>, out: &mut Tensors) {
    let layers = scope.config["num_hidden_layers"].as_u64().unwrap_or(0) as usize;
    if !name.contains("<m>") {
        for i in 0..if name.contains("{i}") { layers } else { 1 } {
            if scope.holds(&line.when, &Value::Null, i) {
                out.insert(name.replace("{i}", &i.to_string()), scope.shape(&line.shape));
            }
        }
        return;
    }
    for modality in scope.config["modalities"].as_array().into_iter().flatten() {
        if !scope.holds(&line.when, modality, 0) {
            continue;
        }
        let name = name.replace("<m>", modality["name"].as_str().unwrap_or_default());
        if line.when == "predict: depth" {
            depth(lines, &name, scope, out);
            continue;
        }
        let mut inner = Scope { config: scope.config, letters: scope.letters.clone() };
        inner.letters.insert("S", modality["slots"].as_u64().unwrap_or(1) as usize);
        inner.letters.insert("C", modality["codes"].as_array().map_or(0, Vec::len));
        out.insert(name, inner.shape(&line.shape));
    }
}

/// "As a dense layer of width de": the rows of a dense layer, with the numbers of `depth`.
fn depth(lines: &[Line], name: &str, scope: &Scope<'_>, out: &mut Tensors) {
    let width = scope.letters["de"];
    let Some(prefix) = name.strip_suffix("layers.{i}.*") else {
        out.insert(name.to_string(), vec![width]);
        return;
    };
    let mut config = scope.config["depth"].clone();
    config["hidden_size"] = json!(width);
    config["qk_norm"] = scope.config["qk_norm"].clone();
    let inner = Scope::new(&config, 0);
    for line in lines {
        for full in line.names.iter().flat_map(|n| alternatives(n)) {
            if let Some(rest) = full.strip_prefix("model.").filter(|r| r.starts_with("layers.")) {
                expand(lines, line, &format!("{prefix}{rest}"), &inner, out);
            }
        }
    }
}

fn asked(config: &Value) -> Tensors {
    let manifest = Manifest::new(config, None).expect("the configuration is valid");
    tensor_names(&ModelConfig::new(&manifest).expect("the transformer's keys are valid")).into_iter().collect()
}

#[test]
fn weights_md_names_the_tensors_that_the_model_asks_for() {
    let mut configs = vec![text_config(), tiny_config()];
    let mut vary = |edit: &dyn Fn(&mut Value)| {
        for base in [text_config(), tiny_config()] {
            let mut config = base;
            edit(&mut config);
            configs.push(config);
        }
    };
    vary(&|c| c["tie_word_embeddings"] = json!(true));
    vary(&|c| c["qk_norm"] = json!(false));
    vary(&|c| (c["num_null_experts"], c["router_selection_bias"]) = (json!(2), json!(true)));
    vary(&|c| c["n_shared_experts"] = json!(2));
    vary(&|c| (c["mlp_only_layers"], c["intermediate_size"]) = (json!([1]), json!(96)));
    vary(&|c| c["attention_bias"] = json!(true));
    vary(&|c| (c["num_experts"], c["intermediate_size"], c["mlp_bias"]) = (json!(0), json!(96), json!(true)));
    for kind in ["head", "projection", "layer_norm"] {
        vary(&|c| c["qk_norm"] = json!(kind));
    }
    for q in [json!(24), Value::Null] {
        vary(&|c| {
            (c["kv_lora_rank"], c["q_lora_rank"], c["qk_norm"]) = (json!(20), q.clone(), json!(false));
            (c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]) = (json!(12), json!(8), json!(10));
        });
    }
    vary(&|c| (c["first_k_dense_replace"], c["intermediate_size"]) = (json!(1), json!(96)));
    vary(&|c| (c["num_experts"], c["intermediate_size"]) = (json!(0), json!(96)));
    let mut depth = tiny_config();
    depth["modalities"][3]["predict"] = json!("depth");
    depth["depth"] = json!({"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 24});
    configs.push(depth);
    let mut scene = tiny_config();
    scene["media"]["scene_condition"] = json!(true);
    configs.push(scene);
    for config in &configs {
        assert_eq!(documented(config), asked(config), "{config}");
    }
}

#[test]
fn our_checkpoints_have_exactly_the_documented_tensors() {
    let models = std::fs::read_dir(super::root().join("models")).into_iter().flatten().flatten();
    let folders = models.map(|e| e.path()).filter(|p| p.join("config.json").is_file());
    for folder in folders.chain([super::root().join("tests/goldens/tiny-default")]) {
        let checkpoint = Checkpoint::open(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let wanted: Vec<_> = documented(&checkpoint.manifest().transformer).into_iter().collect();
        checkpoint
            .tensors("")
            .and_then(|set| set.check(&wanted))
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    }
}
