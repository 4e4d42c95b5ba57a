//! Windows change no id: every golden that generates next tokens, text and pictures, with any window, in any company, on one thread and on two, however keys
//! and values are kept.
//! Walks the folders under `$BOREALIS_GOLDENS` (default: `tests/goldens`) that have a language model.

#[path = "common/goldens.rs"]
mod goldens;
#[path = "common/weights.rs"]
mod weights;
#[path = "common/words.rs"]
mod words;

use std::path::Path;

use borealis_engine::{Engine, EngineConfig, Event, OutputKind, Request, Usage, Window};
use borealis_kernels::KvFormat;
use borealis_weights::{Checkpoint, FAMILIES};
use goldens::{Golden, folders};
use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize};
use words::{worded, words};

const WINDOWS: [Window; 6] =
    [Window::Fixed(1), Window::Fixed(2), Window::Fixed(3), Window::Fixed(8), Window::Fixed(32), Window::Auto];
/// Ids of a text, at most.
const TOKENS: usize = 24;

fn engine(path: &Path, threads: usize, kv: KvFormat) -> Engine {
    let config = EngineConfig { threads: Some(threads), kv_dtype: Some(kv), ..EngineConfig::default() };
    Engine::new(Checkpoint::open(path).expect("a checkpoint"), config).expect("an engine")
}

/// Ids and usage of requests that run at the same time: one for each seed.
fn together(engine: &Engine, request: &Request, seeds: &[u64], window: Window) -> Vec<(Vec<u32>, Usage)> {
    let submit =
        |seed: &u64| engine.submit(Request { seed: *seed, window, ..request.clone() }).expect("a valid request");
    let streams: Vec<_> = seeds.iter().map(submit).collect();
    let read = |stream: borealis_engine::EventStream| {
        let (mut all, mut usage) = (Vec::new(), Usage::default());
        for event in stream {
            match event.expect("an event") {
                Event::Ids { ids, .. } => all.extend(ids.into_iter().flat_map(|(_, ids)| ids)),
                Event::Done(done) => usage = done,
                _ => {}
            }
        }
        (all, usage)
    };
    streams.into_iter().map(read).collect()
}

/// What a golden's family can be asked for: text of any, pictures where it draws them.
fn requests(golden: &Golden) -> (tempfile::TempDir, Vec<Request>) {
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden.path.join("config.json")).expect("config.json")).expect("JSON");
    let size = |key: &str| config.pointer(key).and_then(serde_json::Value::as_u64);
    let size = size("/text_config/vocab_size").or(size("/vocab_size")).expect("a vocabulary") as usize;
    let named = config.get("vocabulary_map").and_then(serde_json::Value::as_object);
    // Markers and ids of pictures; the words of the map are replaced by ours.
    let marker = |name: &str| ["<", "IMGIMG"].iter().any(|start| name.starts_with(start));
    let named: Vec<(&str, u32)> = named
        .into_iter()
        .flatten()
        .filter(|(name, _)| marker(name))
        .filter_map(|(name, id)| Some((name.as_str(), u32::try_from(id.as_u64()?).ok()?)))
        .collect();
    let janus = [("<begin_of_image>", 5)];
    let named = if golden.model_type == "janus" { &janus[..] } else { &named };
    let copy = worded(golden, size, named);
    let free: Vec<u32> =
        (0..size as u32).rev().filter(|id| named.iter().all(|(_, named)| named != id)).take(3).collect();
    let [a, b, c] = free[..] else { panic!("three ids without a name") };
    let mut text = Request::new(words(&[a, b, c, b, a, b]), OutputKind::Text { max_tokens: TOKENS });
    text.sampling.temperature = Some(0.8);
    text.sampling.repetition_penalty = Some(1.2);
    let mut requests = vec![text];
    if matches!(golden.model_type.as_str(), "emu3" | "janus") {
        // Guided: two branches.
        let mut picture = Request::new(words(&[a, c, b]), OutputKind::Image);
        picture.output.size = (golden.model_type == "emu3").then_some((24, 20));
        picture.sampling.temperature = Some(0.6);
        requests.push(picture);
    }
    (copy, requests)
}

#[test]
fn golden_window() {
    let known = |g: &Golden| FAMILIES.iter().any(|f| f.model_types.contains(&g.model_type.as_str()));
    let seeds = [11, 12, 13, 14, 15];
    let (mut drawn, mut varied, mut all) = (0, 0, 0);
    for golden in folders().into_iter().filter(known) {
        let (copy, requests) = requests(&golden);
        for request in requests {
            let one_by_one =
                |engine: &Engine, seed: u64| together(engine, &request, &[seed], Window::Fixed(1)).remove(0).0;
            let mut wanted: Vec<Vec<u32>> = Vec::new();
            let mut before = None;
            for (threads, kv) in [
                (2, KvFormat::Bf16),
                (1, KvFormat::Bf16),
                (2, KvFormat::Int8),
                (1, KvFormat::Int8),
                (1, KvFormat::F32),
                (2, KvFormat::F32),
            ] {
                let engine = engine(copy.path(), threads, kv);
                if before.replace(kv) != Some(kv) {
                    wanted = seeds.iter().map(|seed| one_by_one(&engine, *seed)).collect();
                    // Some models are sure of what follows, or that nothing does.
                    varied += usize::from(kv == KvFormat::F32 && wanted.iter().any(|ids| ids != &wanted[0]));
                }
                // Rounding happens before anything that a window changes: there, some windows are enough.
                let (windows, batches): (&[Window], &[usize]) =
                    if kv == KvFormat::F32 { (&WINDOWS, &[1, 2, 5]) } else { (&WINDOWS[2..4], &[1, 5]) };
                for (window, batch) in windows.iter().flat_map(|window| batches.iter().map(|batch| (*window, *batch))) {
                    let found = together(&engine, &request, &seeds[..batch], window);
                    for ((ids, usage), wanted) in found.iter().zip(&wanted) {
                        let case = format!("{}: {window:?}, {batch} requests, {threads} threads, {kv:?}", golden.name);
                        assert_eq!(ids, wanted, "{case}");
                        assert!(usage.steps <= wanted.len() && usage.accepted_length >= 1.0, "{case}: {usage:?}");
                        if let Window::Fixed(width) = window {
                            assert!(usage.window <= width, "{case}: {usage:?}");
                        }
                    }
                }
            }
            let ids: usize = wanted.iter().map(Vec::len).sum();
            drawn += ids;
            all += 1;
            println!("{}: {ids} ids the same", golden.name);
        }
    }
    assert!(drawn > 0, "no golden has a language model");
    assert!(varied * 2 > all, "the seed matters in {varied} of {all} requests");
}

/// Makes a checkpoint repeat what it reads: layers say little, the head looks for the id that was read.
fn repeating(path: &Path) {
    let file = path.join("model.safetensors");
    let bytes = std::fs::read(&file).expect("weights");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let numbers = |name: &str| -> Vec<f32> {
        let view = tensors.tensor(name).expect("a tensor");
        view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let changed: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let scaled = |values: Vec<f32>, scale: f32| values.iter().flat_map(|v| (v * scale).to_le_bytes()).collect();
            let bytes = if name.ends_with("lm_head.weight") {
                scaled(numbers(&name.replace("lm_head", "model.embed_tokens")), 0.16)
            } else if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") {
                scaled(numbers(&name), 0.1)
            } else {
                view.data().to_vec()
            };
            (name, view.shape().to_vec(), bytes)
        })
        .collect();
    let views = changed.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.expect("as many bytes as before"))
    });
    std::fs::write(file, serialize(views, None).expect("tensors")).expect("a file");
}

#[test]
fn pictures_that_repeat_take_fewer_steps() {
    let Some(golden) = folders().into_iter().find(|g| g.model_type == "emu3") else { return };
    let (copy, mut requests) = requests(&golden);
    repeating(copy.path());
    let mut request = requests.pop().expect("a picture");
    request.output.size = Some((48, 48));
    request.sampling.guidance = Some(1.5);
    let engine = engine(copy.path(), 1, KvFormat::F32);
    let mut last = usize::MAX;
    let mut wanted = Vec::new();
    for window in [1, 2, 3, 8, 32] {
        let (ids, usage) = together(&engine, &request, &[3], Window::Fixed(window)).remove(0);
        println!("window {window}: {} ids in {} steps, {:.2} a step", ids.len(), usage.steps, usage.accepted_length);
        if window == 1 {
            assert_eq!((usage.steps, usage.accepted_length, usage.window), (ids.len(), 1.0, 1));
            wanted = ids;
        } else {
            assert_eq!(ids, wanted, "window {window}");
            assert!(usage.steps < last, "window {window}: {} steps after {last}", usage.steps);
        }
        last = usage.steps;
    }
    assert!(last * 3 < wanted.len(), "{last} steps for {} ids", wanted.len());
}

/// The model inside decides whole latent frames: there is nothing to guess.
#[test]
fn a_plan_of_blocks_has_no_window() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/borealis-mini");
    let engine = engine(&model, 1, KvFormat::F32);
    let request = Request::new("a red ball", OutputKind::Image);
    let all = WINDOWS.map(|window| together(&engine, &request, &[5], window).remove(0));
    for (ids, usage) in &all {
        assert_eq!(ids, &all[0].0);
        assert_eq!((usage.window, usage.steps), (1, all[0].1.steps));
    }
}
