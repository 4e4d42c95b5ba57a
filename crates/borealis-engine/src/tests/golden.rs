//! The recipe's generator against ours: ids must be equal (`tests/goldens/golden.json` says what each tensor is).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use borealis_kernels::{DeviceSpec, QuantFormat};
use borealis_model::Logits;
use borealis_weights::{Checkpoint, Grid, Manifest};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::decode::{NamedIds, ToDecoder};
use crate::engine::{Engine, EngineConfig};
use crate::features::FeatureWriter;
use crate::geometry::Geometry;
use crate::inputs::Inputs;
use crate::prompt::{Source, SourceFrame};
use crate::request::{Conditioning, Media, OutputKind, Request, Sampling};
use crate::scheduler::{Scheduler, Step};
use crate::stream::{Outlet, Waker};
use crate::submit::{Length, Preparation};
use crate::validate;
use borealis_kernels::{Noise, philox4x32};

struct Golden {
    json: Value,
    bytes: Vec<u8>,
}

pub(super) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens")
}

impl Golden {
    fn open() -> Self {
        let json = std::fs::read(folder().join("golden.json")).unwrap();
        let bytes = std::fs::read(folder().join("golden.safetensors")).unwrap();
        Self { json: serde_json::from_slice(&json).unwrap(), bytes }
    }

    /// Numbers of a tensor of any type, as f64, and its shape.
    fn numbers(&self, name: &str) -> (Vec<f64>, Vec<usize>) {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let t = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let size = t.data().len() / t.shape().iter().product::<usize>().max(1);
        let float = format!("{:?}", t.dtype()).starts_with('F');
        let number = |b: &[u8]| match (size, float) {
            (1, _) => f64::from(b[0]),
            (2, _) => f64::from(i16::from_le_bytes([b[0], b[1]])),
            (4, true) => f64::from(f32::from_le_bytes(b.try_into().unwrap())),
            (4, false) => f64::from(i32::from_le_bytes(b.try_into().unwrap())),
            (_, true) => f64::from_le_bytes(b.try_into().unwrap()),
            (_, false) => i64::from_le_bytes(b.try_into().unwrap()) as f64,
        };
        (t.data().chunks_exact(size).map(number).collect(), t.shape().to_vec())
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.numbers(name).0.iter().map(|v| *v as u32).collect()
    }
}

#[test]
fn noise_is_the_recipes() {
    let golden = Golden::open();
    let words = golden.numbers("sampler.words").0;
    let counters = [[0, 0, 0, 0], [1, 2, 3, 4], [77, 35, 127, 18]];
    let ours: Vec<f64> =
        counters.iter().flat_map(|c| philox4x32(*c, [0x1234_5678, 0x9abc_def0])).map(f64::from).collect();
    assert_eq!(ours, words);
    let noise = Noise::new(42, 2);
    for (id, want) in golden.numbers("sampler.gumbel").0.iter().enumerate() {
        assert!((noise.gumbel(7, 3, id as u32) - want).abs() < 1e-12);
    }
}

#[test]
fn features_are_the_recipes() {
    let golden = Golden::open();
    let checkpoint = Checkpoint::open(&folder().join("tiny-default")).unwrap();
    let manifest = checkpoint.manifest();
    let grid = manifest.media.as_ref().unwrap().grids["3:4"];
    let writer = FeatureWriter::new(manifest, grid, (12, 9)).unwrap();
    let levels = golden.numbers("features.state").0;
    let (_, state) = manifest.modality("state").unwrap();
    let ids: Vec<u32> = levels.iter().zip(state.codes.iter().cycle()).map(|(l, c)| c.start + *l as u32).collect();
    let (mut video, mut audio) = (Vec::new(), Vec::new());
    for (i, t) in [0, 5].into_iter().enumerate() {
        (0..grid.len()).for_each(|place| writer.picture(place, t, Some(&ids[16 * i..16 * (i + 1)]), &mut video));
        writer.time(t, &mut audio);
    }
    for (ours, name) in [(video, "features.video"), (audio, "features.audio")] {
        let want = golden.numbers(name).0;
        assert_eq!(ours.len(), want.len());
        let off = ours.iter().zip(&want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-4, "{name}: off by {off}");
    }
}

/// A source's latent frames from levels `[latents, rows, slots, codes]` and `[latents, slots, codes]`.
fn source(manifest: &Manifest, control: &str, first: i32, video: &[f64], audio: Option<&[f64]>, grid: Grid) -> Source {
    let ids = |name: &str, levels: &[f64]| -> Vec<u32> {
        let (_, m) = manifest.modality(name).unwrap();
        levels.iter().zip(m.codes.iter().cycle()).map(|(l, c)| c.start + *l as u32).collect()
    };
    let pictures = video.chunks(grid.len() * 36).map(|l| ids("video", l));
    let mut sounds = audio.map(|a| a.chunks(12).map(|l| ids("audio", l)).collect::<Vec<_>>().into_iter());
    let frames = pictures.enumerate().map(|(i, video)| {
        let audio = sounds.as_mut().and_then(Iterator::next).unwrap_or_default();
        SourceFrame { t: first + i as i32, ids: vec![Vec::new(), video, audio] }
    });
    Source { control: manifest.control(control).unwrap(), frames: frames.collect() }
}

fn inputs(golden: &Golden, mode: &str, manifest: &Manifest, grid: Grid) -> Inputs {
    let picture = golden.numbers("source.picture").0;
    let (film, sound) = (golden.numbers("source.film").0, golden.numbers("source.sound").0);
    let latent = picture.len();
    let one = |control: &str, video: &[f64]| source(manifest, control, 0, video, None, grid);
    match mode {
        "image_to_video" => {
            Inputs { sources: vec![one("<image_0>", &picture)], starts_with_source: true, ..Inputs::default() }
        }
        "edit_image" => Inputs { sources: vec![one("<image_0>", &picture)], ..Inputs::default() },
        "edit_video" => {
            Inputs { sources: vec![source(manifest, "<video>", 0, &film, Some(&sound), grid)], ..Inputs::default() }
        }
        "extend" => {
            let last = source(
                manifest,
                "<video>",
                10,
                &film[film.len() - 2 * latent..],
                Some(&sound[sound.len() - 24..]),
                grid,
            );
            let before = last.frames[1].ids.clone();
            Inputs { sources: vec![last], first: 12, before, ..Inputs::default() }
        }
        "reference" => {
            let reversed: Vec<f64> = picture.chunks(36).rev().flatten().copied().collect();
            Inputs { sources: vec![one("<image_0>", &picture), one("<image_1>", &reversed)], ..Inputs::default() }
        }
        _ => Inputs::default(),
    }
}

/// Something that is never read: the inputs are given as ids.
fn conditioning(mode: &str) -> Conditioning {
    let media = || Media::Bytes { name: "unused".into(), data: Arc::from([0u8].as_slice()) };
    match mode {
        "image_to_video" | "edit_image" => Conditioning::Image(media()),
        "edit_video" => Conditioning::Video(media()),
        "extend" => Conditioning::Extend(media()),
        "reference" => Conditioning::References(vec![media(), media()]),
        _ => Conditioning::Text,
    }
}

fn still(mode: &str) -> bool {
    matches!(mode, "edit_image" | "text_to_image")
}

fn generate(engine: &Engine, golden: &Golden, case: &Value, device: DeviceSpec) -> NamedIds {
    let text = |key: &str| case[key].as_str().unwrap().to_string();
    let mode = text("mode");
    let latents = case["latents"].as_u64().unwrap() as usize;
    let kind = if still(&mode) { OutputKind::Image } else { OutputKind::Video { seconds: 1.0, audio: true } };
    let mut request = Request::new(text("prompt"), kind);
    request.conditioning = conditioning(&mode);
    request.seed = case["seed"].as_u64().unwrap();
    if case.get("temperature").is_some() {
        request.sampling = Sampling { temperature: Some(0.0), ..Sampling::default() };
    }
    let core = engine.core();
    let checked = validate::check(&request, &core.manifest, "tiny").unwrap();
    assert_eq!(checked.mode_name, mode);
    let layout = core.layout.clone().unwrap();
    let (video, _) = core.tokenizers.video().unwrap();
    let geometry =
        Geometry::for_aspect(&core.manifest, video.config(), &text("aspect"), request.output.resolution).unwrap();
    let inputs = inputs(golden, &mode, &core.manifest, geometry.grid);
    let preparation = Preparation { core, request: &request, checked: &checked, layout: &layout, geometry: &geometry };
    let plan = preparation.plan(&inputs, &Length { latents, frames: 1, samples: 0 });
    let (outlet, _stream) = Outlet::new(1, Waker::new().0, Waker::new().0);
    let mut work = preparation.work(0, &outlet, plan, &inputs, Instant::now()).unwrap();
    if let Some(sampling) = case.get("sampling") {
        let rule = |name: &str, rule: &mut borealis_kernels::Rule| {
            let get = |key: &str| sampling[name].get(key).and_then(Value::as_f64);
            rule.temperature = get("temperature").unwrap_or(0.0) as f32;
            rule.top_k = get("top_k").unwrap_or(0.0) as usize;
            rule.top_p = get("top_p").unwrap_or(1.0) as f32;
        };
        rule("text", &mut work.text_rule);
        ["state", "video", "audio"].iter().zip(&mut work.rules).for_each(|(name, r)| rule(name, r));
    }
    let config = EngineConfig { device, dtype: Some(QuantFormat::F32), threads: Some(1), ..EngineConfig::default() };
    let checkpoint = Checkpoint::open(&folder().join("tiny-default")).unwrap();
    let mut model = borealis_model::load(&checkpoint, &config.device, QuantFormat::F32, 1).unwrap();
    let (mut scheduler, mut step, mut logits, mut out) =
        (Scheduler::new("tiny".into(), u64::MAX, None), Step::default(), Logits::default(), Vec::new());
    scheduler.submit(Arc::new(work));
    while !scheduler.is_idle() {
        scheduler.admit(model.as_mut(), &mut out);
        if scheduler.next(&mut step) {
            scheduler.run(&step, model.as_mut(), &mut logits, &mut out);
        }
        out.iter().filter(|m| matches!(m, ToDecoder::Latent { .. })).for_each(|_| outlet.end_decode());
        if let Some(ToDecoder::Finish(f)) =
            out.iter().position(|m| matches!(m, ToDecoder::Finish(_))).map(|i| out.swap_remove(i))
        {
            return f.ids.into_iter().next().unwrap();
        }
        out.clear();
    }
    panic!("the request failed");
}

fn compare(device: DeviceSpec) {
    let golden = Golden::open();
    let config = EngineConfig {
        device: device.clone(),
        dtype: Some(QuantFormat::F32),
        threads: Some(1),
        ..EngineConfig::default()
    };
    let checkpoint = Checkpoint::open(&folder().join("tiny-default")).unwrap();
    let engine = Engine::new(checkpoint, config).unwrap();
    for case in golden.json["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        for (stream, ids) in generate(&engine, &golden, case, device.clone()) {
            assert_eq!(ids, golden.ids(&format!("{name}.{stream}")), "{name}: {stream}");
        }
    }
}

#[test]
fn ids_are_the_recipes_on_the_reference() {
    compare(DeviceSpec::Reference);
}

#[test]
fn ids_are_the_recipes_on_the_cpu() {
    compare(DeviceSpec::Cpu);
}
