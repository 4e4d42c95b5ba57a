//! The language models of open checkpoints compute what their references compute: ids and router choices equal, hidden states and logits within the
//! tolerance, on both backends; in bf16 and int8 within a bounded error. Walks every folder under `$BOREALIS_GOLDENS` (default: `tests/goldens`), whatever its sizes.

#[path = "golden_backbones/formats.rs"]
mod formats;
#[path = "common/goldens.rs"]
mod goldens;
#[path = "golden_backbones/janus.rs"]
mod janus;
#[path = "golden_backbones/ranks.rs"]
mod ranks;
#[path = "golden_backbones/sequence.rs"]
mod sequence;
#[path = "common/weights.rs"]
mod weights;

use borealis_kernels::{DeviceSpec, QuantFormat};
use borealis_weights::{Checkpoint, FAMILIES};
use goldens::{Golden, folders};
use sequence::{Sequence, best};

const DEVICES: [DeviceSpec; 2] = [DeviceSpec::Reference, DeviceSpec::Cpu];

/// Folders with a language model.
fn backbones() -> Vec<Golden> {
    let known = |g: &Golden| FAMILIES.iter().any(|f| f.model_types.contains(&g.model_type.as_str()));
    folders().into_iter().filter(known).collect()
}

/// Ids of which the reference gives logits and hidden states: (ids, logits, prefix of hidden states), by the names that the families' goldens use.
fn prefill(golden: &Golden) -> Option<(&'static str, &'static str, &'static str)> {
    let kinds = [
        ("input_ids_expanded", "logits_raw", "hidden"),
        ("und.input_ids_expanded", "und.logits", "und.hidden"),
        ("input_ids", "logits", "hidden"),
    ];
    kinds.into_iter().find(|k| golden.has(k.0) && golden.has(k.1))
}

/// All positions at once: hidden states, router choices, logits.
fn whole(golden: &mut Golden, s: &mut Sequence<'_>) {
    let Some((ids, logits, hidden)) = prefill(golden) else { return };
    let ids = golden.ids(ids).1;
    let (found, trace) = s.trace(&ids);
    golden.compare(logits, &found.concat());
    for (i, layer) in trace.hidden.iter().enumerate() {
        let name = format!("{hidden}.{i}");
        let last = i + 1 == trace.hidden.len();
        golden.compare(&name, &if last { s.normed(layer) } else { layer.clone() });
    }
    for (i, rows) in trace.routing.iter().enumerate() {
        router(golden, i, rows);
    }
    s.reset();
}

/// Chosen experts of one layer, in ascending order as the order within a row means nothing; and their weights.
fn router(golden: &mut Golden, layer: usize, rows: &[Vec<(u32, f32)>]) {
    let Some(name) =
        golden.names().into_iter().find(|n| n.starts_with(&format!("router_indices.model.layers.{layer}.")))
    else {
        assert!(rows.is_empty(), "layer {layer} has no experts in the reference");
        return;
    };
    let weights = name.replace("indices", "weights");
    let (shape, chosen) = golden.ids(&name);
    let (k, wanted) = (shape[1], golden.floats(&weights).1.to_vec());
    assert_eq!(rows.len(), shape[0], "rows of {name}");
    for (r, row) in rows.iter().enumerate() {
        let mut found = row.clone();
        let mut reference: Vec<(u32, f32)> =
            chosen[r * k..(r + 1) * k].iter().copied().zip(wanted[r * k..(r + 1) * k].iter().copied()).collect();
        found.sort_by_key(|e| e.0);
        reference.sort_by_key(|e| e.0);
        let experts = |v: &[(u32, f32)]| v.iter().map(|e| e.0).collect::<Vec<_>>();
        assert_eq!(experts(&found), experts(&reference), "{}: experts of row {r}, layer {layer}", golden.name);
        for (f, w) in found.iter().zip(&reference) {
            assert!((f.1 - w.1).abs() <= 1e-5 + 1e-4 * w.1, "{}: weight {} not {}", golden.name, f.1, w.1);
        }
    }
}

/// Greedy decoding with the cache, and the same positions without it.
fn decoded(golden: &mut Golden, s: &mut Sequence<'_>, prompt: &str, ids: &str, logits: &str) {
    if !golden.has(ids) {
        return;
    }
    let (prompt, wanted) = (golden.ids(prompt).1, golden.ids(ids).1);
    let banned = s.banned(golden);
    let mut found = prompt.clone();
    let mut steps = vec![s.push(&prompt).pop().expect("a row")];
    while found.len() < wanted.len() {
        let last = steps.last().expect("a step");
        let id = best(last, |id| !banned.contains(&id));
        found.push(id);
        if found.len() < wanted.len() {
            steps.push(s.push(&[id]).pop().expect("a row"));
        }
    }
    golden.compare_ids(ids, &found);
    if golden.has(logits) {
        golden.compare(logits, &steps.concat());
    }
    s.reset();
    let full = s.push(&wanted[..wanted.len() - 1]);
    s.same("cached and whole", &full[prompt.len() - 1..].concat(), &steps.concat());
    s.reset();
}

/// Ids that follow a prompt, given: the reference's raw logits of each step.
fn forced(golden: &mut Golden, s: &mut Sequence<'_>, prompt: &str, ids: &str, logits: &str) {
    if !golden.has(logits) || !golden.has(ids) {
        return;
    }
    let (prompt, ids) = (golden.ids(prompt).1, golden.ids(ids).1);
    let mut steps = vec![s.push(&prompt).pop().expect("a row")];
    steps.extend(ids[..ids.len() - 1].iter().map(|id| s.push(&[*id]).pop().expect("a row")));
    golden.compare(logits, &steps.concat());
    s.reset();
}

/// A batch whose shorter sequence is padded on the left: the padding is not computed at all.
fn padded(golden: &mut Golden, s: &mut Sequence<'_>) {
    if !golden.has("batch.input_ids") {
        return;
    }
    let (shape, ids) = golden.ids("batch.input_ids");
    let (columns, mask) = (shape[1], golden.ids("batch.attention_mask").1);
    let (_, positions) = golden.ids("batch.position_ids");
    let mut sequences = Vec::new();
    for row in 0..shape[0] {
        let kept: Vec<usize> = (row * columns..(row + 1) * columns).filter(|i| mask[*i] == 1).collect();
        assert!(kept.iter().enumerate().all(|(at, i)| positions[*i] as usize == at), "positions count the real ids");
        sequences.push(kept.iter().map(|i| ids[*i]).collect::<Vec<_>>());
    }
    let together = s.side_by_side(&sequences);
    golden.compare("batch.logits_last", &together.concat());
    for (sequence, found) in sequences.iter().zip(&together) {
        let alone = s.push(sequence).pop().expect("a row");
        s.same("in a batch and alone", found, &alone);
        s.reset();
    }
}

/// Longer than the context that the rotary positions were made for.
fn long(golden: &mut Golden, s: &mut Sequence<'_>) {
    if !golden.has("long.input_ids") {
        return;
    }
    let ids = golden.ids("long.input_ids").1;
    let rows = golden.floats("long.logits_last8").0[1];
    let found = s.push(&ids);
    golden.compare("long.logits_last8", &found[found.len() - rows..].concat());
    s.reset();
}

#[test]
fn golden_backbones() {
    let mut problems = Vec::new();
    let all = backbones();
    assert!(!all.is_empty() || !goldens::own(), "no golden of a language model");
    for mut golden in all {
        let (_folder, checkpoint) = golden.checkpoint();
        for device in &DEVICES {
            let mut s = Sequence::new(&checkpoint, device, QuantFormat::F32);
            whole(&mut golden, &mut s);
            if let Some((ids, _, _)) = prefill(&golden) {
                let prefix = if ids.starts_with("und.") { "und." } else { "" };
                let (wanted, logits) = (format!("{prefix}generated_ids"), format!("{prefix}generated_logits"));
                decoded(&mut golden, &mut s, ids, &wanted, &logits);
            }
            for kind in ["plain", "cfg3"] {
                let (ids, logits) = (format!("gen.{kind}.ids"), format!("gen.{kind}.raw_logits"));
                forced(&mut golden, &mut s, "gen.input_ids", &ids, &logits);
            }
            forced(&mut golden, &mut s, "gen.input_ids", "gen.image_ids", "gen.raw_logits");
            padded(&mut golden, &mut s);
            long(&mut golden, &mut s);
            janus::check(&mut golden, &checkpoint, &mut s);
        }
        problems.extend(golden.report());
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn golden_backbones_in_other_formats() {
    let mut problems = Vec::new();
    let mut steps = formats::Steps::default();
    for golden in backbones() {
        let (_folder, checkpoint) = golden.checkpoint();
        problems.extend(formats::check(&golden, &checkpoint, &mut steps));
    }
    problems.extend(steps.problems());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The golden's checkpoint with another `config.json`.
fn changed(
    golden: &Golden,
    change: impl Fn(&mut serde_json::Value),
) -> (tempfile::TempDir, borealis_weights::Result<Checkpoint>) {
    let folder = golden.folder();
    let text = std::fs::read_to_string(golden.path.join("config.json")).expect("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    change(&mut config);
    let path = folder.path().join("config.json");
    std::fs::remove_file(&path).expect("a copy");
    std::fs::write(&path, config.to_string()).expect("a file");
    let checkpoint = Checkpoint::open(folder.path());
    (folder, checkpoint)
}

#[test]
fn scales_that_do_not_fit_are_refused() {
    let Some(golden) = backbones().into_iter().find(|g| g.name.ends_with("_fp8")) else { return };
    let refused =
        |change: &dyn Fn(&mut serde_json::Value)| changed(&golden, change).1.expect_err("a wrong type").to_string();
    let size = refused(&|c| c["quantization_config"]["weight_block_size"] = serde_json::json!([7, 24]));
    assert!(size.contains("weight_scale_inv") && size.contains("must be F32 ["), "{size}");
    let none = refused(&|c| c["quantization_config"] = serde_json::Value::Null);
    assert!(none.contains("has type F8_E4M3"), "{none}");
    let other = refused(&|c| c["quantization_config"]["fmt"] = "e5m2".into());
    assert!(other.contains("quantised by fp8"), "{other}");
}

/// The experts may be spread over ranks.
#[test]
fn golden_backbones_on_several_ranks() {
    let mut spread = Vec::new();
    for golden in backbones() {
        let (Some((ids, _, _)), (_folder, checkpoint)) = (prefill(&golden), golden.checkpoint()) else { continue };
        if ranks::check(&golden.name, &checkpoint, &golden.ids(ids).1) {
            spread.push(golden.name.clone());
        }
    }
    assert!(spread.len() >= 2, "families with experts: {spread:?}");
}

/// A wrong number of a configuration is wrong numbers of the model, never a pass.
#[test]
fn golden_backbones_notice_a_change() {
    for golden in backbones() {
        let Some((ids, logits, _)) = prefill(&golden) else { continue };
        let (_folder, checkpoint) = changed(&golden, |config| {
            let inner = if config["text_config"].is_object() { &mut config["text_config"] } else { config };
            inner["rms_norm_eps"] = serde_json::json!(0.05);
        });
        let checkpoint = checkpoint.expect("a checkpoint");
        let found = Sequence::new(&checkpoint, &DeviceSpec::Cpu, QuantFormat::F32).push(&golden.ids(ids).1).concat();
        let wanted = golden.floats(logits).1;
        let off = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off > 1e-2, "{}: another epsilon changes the logits by {off} only", golden.name);
    }
}
