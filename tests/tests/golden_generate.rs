//! Whole requests to open checkpoints give what their references generate: ids equal, pictures the same. Walks every folder under `$BOREALIS_GOLDENS`
//! (default: `tests/goldens`) that has generated ids. Checkpoints without a `tokenizer.json` get one of words `w0`, `w1`, ... here.

#[path = "golden_generate/emu35.rs"]
mod emu35;
#[path = "common/goldens.rs"]
mod goldens;
#[path = "golden_generate/janus_reads.rs"]
mod janus_reads;
// The plain loops of two tests need a part of it.
#[allow(dead_code)]
#[path = "golden_backbones/sequence.rs"]
mod sequence;
#[path = "common/weights.rs"]
mod weights;
#[path = "common/words.rs"]
mod words;

use std::path::Path;

use borealis_engine::{Engine, EngineConfig, Event, OutputKind, Request};
use borealis_kernels::DeviceSpec;
use borealis_weights::Checkpoint;
use goldens::{Golden, folders};
use words::{worded, words};

/// What came out of a request.
#[derive(Default)]
struct Outcome {
    ids: Vec<u32>,
    text: String,
    picture: Option<borealis_media::Frame>,
}

fn engine(path: &Path, device: &DeviceSpec) -> Engine {
    let checkpoint = Checkpoint::open(path).expect("a checkpoint");
    let config = EngineConfig { device: device.clone(), threads: Some(2), ..EngineConfig::default() };
    Engine::new(checkpoint, config).expect("an engine")
}

fn run(engine: &Engine, request: Request) -> Outcome {
    let mut out = Outcome::default();
    for event in engine.submit(request).expect("a valid request") {
        match event.expect("an event") {
            Event::Ids { ids, .. } => out.ids = ids.into_iter().next().expect("ids").1,
            Event::Text { text, .. } => out.text.push_str(&text),
            Event::Frame { frame, .. } => out.picture = Some(frame),
            _ => {}
        }
    }
    out
}

fn greedy(prompt: &str, kind: OutputKind) -> Request {
    let mut request = Request::new(prompt, kind);
    request.sampling.temperature = Some(0.0);
    request
}

/// RGB bytes of reference pixels from -1 to 1.
fn bytes(pixels: &[f32]) -> Vec<u8> {
    pixels.iter().map(|v| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8).collect()
}

/// Bytes agree; a number that lies on the border between two bytes may fall to either side.
fn same_picture(golden: &Golden, name: &str, found: &[u8], wanted: &[u8]) -> Option<String> {
    let off = found.len() != wanted.len() || found.iter().zip(wanted).any(|(a, b)| a.abs_diff(*b) > 1);
    off.then(|| format!("{}: {name}: another picture", golden.name))
}

fn emu3(golden: &mut Golden, device: &DeviceSpec) -> Vec<String> {
    let folder = golden.folder();
    let engine = engine(folder.path(), device);
    let text = engine.tokenizers().text().expect("a tokenizer").clone();
    let manifest = engine.manifest().clone();
    let image = manifest.segment("image").expect("picture ids").clone();
    let boi = manifest.control("<boi>").expect("a beginning of pictures");
    // Between the first id and the block.
    let prompt = |golden: &Golden, name: &str| {
        let (_, ids) = golden.ids(name);
        let end = ids.iter().position(|id| *id == boi).expect("a block");
        text.decode(&ids[1..end]).expect("words")
    };
    let (positive, negative) = (prompt(golden, "gen.input_ids"), prompt(golden, "gen.negative_ids"));
    let [_, _, height, width] = *golden.floats("gen.plain.pixels").0 else { panic!("four axes") };
    let mut wrong = Vec::new();
    for (name, guidance) in [("gen.plain", 1.0), ("gen.cfg3", 3.0)] {
        let mut request = greedy(&positive, OutputKind::Image);
        request.negative = Some(negative.clone());
        request.output.size = Some((width as u32, height as u32));
        request.sampling.guidance = Some(guidance);
        let out = run(&engine, request);
        let (_, ids) = golden.ids(&format!("{name}.ids"));
        let wanted: Vec<u32> = ids.into_iter().filter(|id| (image.start..image.end()).contains(id)).collect();
        if out.ids != wanted {
            wrong.push(format!("{}: {name}: {:?}, wanted {wanted:?}", golden.name, out.ids));
        }
        let pixels = goldens::interleaved(golden.floats(&format!("{name}.pixels")));
        let found = out.picture.expect("a picture").data;
        wrong.extend(same_picture(golden, name, &found, &bytes(&pixels)));
    }
    wrong
}

fn janus(golden: &mut Golden, device: &DeviceSpec) -> Vec<String> {
    let (_, prompt) = golden.ids("gen.input_ids");
    let [_, inner @ .., boi] = &prompt[..] else { panic!("a prompt") };
    let size = golden.floats("und.logits").0[2];
    let copy = worded(golden, size, &[("<begin_of_image>", *boi)]);
    let engine = engine(copy.path(), device);
    let out = run(&engine, greedy(&words(inner), OutputKind::Image));
    let start = engine.manifest().segment("image").expect("picture ids").start;
    let found: Vec<u32> = out.ids.iter().map(|id| id - start).collect();
    let mut wrong = Vec::new();
    if found != golden.ids("gen.image_ids").1 {
        wrong.push(format!("{}: gen.image_ids: {found:?}", golden.name));
    }
    let picture = out.picture.expect("a picture").data;
    if golden.has("gen.pixels_nhwc") {
        let wanted = bytes(golden.floats("gen.pixels_nhwc").1);
        wrong.extend(same_picture(golden, "gen.pixels_nhwc", &picture, &wanted));
    }
    wrong
}

/// The decoder is a folder beside the checkpoint: any taming VQGAN with as many codes.
fn chameleon(golden: &mut Golden, device: &DeviceSpec, decoder: Option<&Path>) -> Vec<String> {
    let (_, prompt) = golden.ids("gen.input_ids");
    let [_, inner @ .., _] = &prompt[..] else { panic!("a prompt") };
    let size = golden.floats("logits_raw").0[2];
    let copy = worded(golden, size, &[]);
    let mut request = greedy(&words(inner), OutputKind::Image);
    request.sampling.guidance = Some(1.0);
    let bare = engine(copy.path(), device).submit(request.clone()).map(|_| ()).expect_err("no decoder").to_string();
    assert!(bare.contains("image_decoder/"), "{bare}");
    let Some(decoder) = decoder else { return Vec::new() };
    with_decoder(copy.path(), decoder);
    let out = run(&engine(copy.path(), device), request);
    let (_, wanted) = golden.ids("gen.image_ids");
    let right = out.ids.starts_with(&wanted) && out.picture.is_some();
    if right { Vec::new() } else { vec![format!("{}: gen.image_ids: {:?}, wanted {wanted:?}", golden.name, out.ids)] }
}

/// Chameleon's model with pictures of any size: size tokens before the rows, an id after each, guidance on raw logits, an unconditional branch without a prompt.
fn lumina(golden: &mut Golden, device: &DeviceSpec, decoder: Option<&Path>) -> Vec<String> {
    let json = std::fs::read(golden.path.join("config.json")).expect("config.json");
    let config: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let names = config["vocabulary_map"].as_object().expect("names");
    let names: Vec<(&str, u32)> =
        names.iter().map(|(n, id)| (n.as_str(), id.as_u64().expect("an id") as u32)).collect();
    let copy = worded(golden, names.len(), &names);
    let Some(decoder) = decoder else { return Vec::new() };
    with_decoder(copy.path(), decoder);
    let (_, words) = golden.ids("gen.words");
    let word = |id: &u32| names.iter().find(|n| n.1 == *id).expect("a word").0;
    let mut request = greedy(&words.iter().map(word).collect::<Vec<_>>().join(" "), OutputKind::Image);
    let size = names.iter().find_map(|n| n.0.split_once('x')?.0.parse().ok().zip(n.0.split_once('x')?.1.parse().ok()));
    request.output.size = size;
    let out = run(&engine(copy.path(), device), request);
    let (_, wanted) = golden.ids("gen.image_ids");
    let picture = out.picture.expect("a picture");
    let right = out.ids == wanted && size == Some((picture.width, picture.height));
    if right { Vec::new() } else { vec![format!("{}: gen.image_ids: {:?}, wanted {wanted:?}", golden.name, out.ids)] }
}

fn with_decoder(folder: &Path, decoder: &Path) {
    let folder = folder.join("image_decoder");
    std::fs::create_dir(&folder).expect("a folder");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(decoder.join(file), folder.join(file)).expect("a copy");
    }
}

/// Greedy text goes on as the reference's, until an id that ends it.
fn text(golden: &mut Golden, device: &DeviceSpec) -> Vec<String> {
    let (_, prompt) = golden.ids("input_ids");
    let (_, all) = golden.ids("generated_ids");
    let wanted = &all[prompt.len()..];
    let copy = worded(golden, golden.floats("logits").0[2], &[]);
    let out = run(&engine(copy.path(), device), greedy(&words(&prompt), OutputKind::Text { max_tokens: wanted.len() }));
    // The reference was not allowed to end; here a text may, with an id that is not shown.
    let shown = out.ids.len() - usize::from(out.ids.len() < wanted.len());
    assert_eq!(out.text.split_whitespace().count(), shown, "{}", out.text);
    let right = wanted.starts_with(&out.ids[..shown]) && shown > 0;
    if right { Vec::new() } else { vec![format!("{}: generated_ids: {:?}, wanted {wanted:?}", golden.name, out.ids)] }
}

#[test]
fn golden_generate() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    let all = folders();
    let decoder = all.iter().find(|g| g.model_type == "taming_vqgan").map(Golden::folder);
    for device in [DeviceSpec::Cpu, DeviceSpec::Reference] {
        for mut golden in folders() {
            let draws = golden.has("gen.input_ids");
            let found = match golden.model_type.as_str() {
                "emu3" if draws => emu3(&mut golden, &device),
                "janus" if draws => janus(&mut golden, &device),
                "chameleon" if golden.has("gen.words") => {
                    lumina(&mut golden, &device, decoder.as_ref().map(tempfile::TempDir::path))
                }
                "chameleon" if draws => chameleon(&mut golden, &device, decoder.as_ref().map(tempfile::TempDir::path)),
                _ if golden.has("input_ids") && golden.has("generated_logits") => text(&mut golden, &device),
                _ => continue,
            };
            seen += 1;
            println!("{} on {device:?}: {}", golden.name, if found.is_empty() { "the same" } else { "differs" });
            wrong.extend(found);
        }
    }
    assert!(seen > 0 || !goldens::own(), "no golden has generated ids");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
