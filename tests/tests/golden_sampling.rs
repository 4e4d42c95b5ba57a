//! The sampler's filters and guidance are those of Hugging Face transformers. Walks every folder under `$BOREALIS_GOLDENS` (default: `tests/goldens`) that holds
//! processed logits; the name of a tensor says what was done (`top_k_50`, `chain_t0.7_k20_p0.9`).

#[path = "common/goldens.rs"]
mod goldens;

use borealis_engine::{Rule, Sampler, combine, log_softmax};
use goldens::{Golden, folders};

/// Stands for minus infinity in the files.
const REMOVED: f32 = -1e30;

/// What the part of a name behind `_` does to a rule, such as `k20`.
fn apply(rule: &mut Rule, kind: &str, value: &str) {
    let number: f32 = value.parse().unwrap_or_else(|_| panic!("{kind} of {value}"));
    match kind {
        "temperature" | "t" => rule.temperature = number,
        "top_k" | "k" => rule.top_k = number as usize,
        "top_p" | "p" => rule.top_p = number,
        "min_p" | "m" => rule.min_p = number,
        "repetition" | "r" => rule.repetition_penalty = number,
        other => panic!("no rule {other}"),
    }
}

fn rule(name: &str) -> Rule {
    let mut rule = Rule { temperature: 1.0, ..Rule::default() };
    match name.strip_prefix("chain_") {
        Some(parts) => parts.split('_').for_each(|part| apply(&mut rule, &part[..1], &part[1..])),
        None => {
            let (kind, value) = name.rsplit_once('_').expect("a value");
            apply(&mut rule, kind, value);
        }
    }
    rule
}

fn filtered(golden: &Golden, rule: &Rule) -> Vec<f32> {
    let (shape, logits) = golden.floats("logits");
    let (previous, seen) = golden.ids("previous_ids");
    let mut sampler = Sampler::default();
    let rows = logits.chunks(shape[1]).zip(seen.chunks(previous[1]));
    let mut all = Vec::with_capacity(logits.len());
    for (row, seen) in rows {
        let scores = sampler.scores(row, rule, seen).expect("finite logits");
        all.extend(scores.iter().map(|&x| if x.is_finite() { x as f32 } else { REMOVED }));
    }
    all
}

fn probabilities(scores: &[f32], width: usize) -> Vec<f32> {
    let mut all = scores.to_vec();
    for row in all.chunks_mut(width) {
        log_softmax(row);
        row.iter_mut().for_each(|x| *x = x.exp());
    }
    all
}

/// Guided logits; the rows are normalised before, if `normalised`.
fn guided(golden: &Golden, scale: f32, normalised: bool) -> Vec<f32> {
    let (shape, rows) = golden.floats("cfg.in");
    let mut rows: Vec<Vec<f32>> = rows.chunks(shape[1]).map(<[f32]>::to_vec).collect();
    if normalised {
        rows.iter_mut().for_each(|row| log_softmax(row));
    }
    let unconditional = rows.split_off(rows.len() / 2);
    for (row, other) in rows.iter_mut().zip(&unconditional) {
        combine(row, other, scale);
    }
    rows.concat()
}

#[test]
fn golden_sampling() {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for mut golden in folders() {
        if !(golden.has("logits") && golden.has("previous_ids")) {
            continue;
        }
        let width = golden.floats("logits").0[1];
        for name in golden.names() {
            if ["logits", "previous_ids", "cfg.in"].contains(&name.as_str()) {
                continue;
            }
            let found = if let Some(scale) = name.strip_prefix("cfg_") {
                let scale = scale.parse().expect("a scale");
                // Whether rows are normalised first changes no probability.
                let [plain, normalised] = [false, true].map(|n| probabilities(&guided(&golden, scale, n), width));
                assert!(plain.iter().zip(&normalised).all(|(a, b)| (a - b).abs() < 1e-5), "{}: {name}", golden.name);
                guided(&golden, scale, false)
            } else if let Some(chain) = name.strip_suffix(".probs") {
                probabilities(&filtered(&golden, &rule(chain)), width)
            } else {
                filtered(&golden, &rule(&name))
            };
            golden.compare(&name, &found);
            compared += 1;
        }
        wrong.extend(golden.report());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{compared} tensors");
}
