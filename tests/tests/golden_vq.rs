//! The picture tokenizers and vision towers of open checkpoints compute what their references compute: codes equal, numbers within the tolerance.
//! Walks every folder under `$BOREALIS_GOLDENS` (default: `tests/goldens`), whatever its sizes.

#[path = "common/goldens.rs"]
mod goldens;
#[path = "common/weights.rs"]
mod weights;

use borealis_tokenizers::vq::{CodeGrid, FeatureMap, VisionTower, VqTokenizer};
use borealis_weights::{Checkpoint, Component, Node, parse_json};
use goldens::{Golden, folders};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// `[.., channels, height, width]` with everything before as frames.
fn map(golden: &Golden, name: &str) -> FeatureMap {
    let (shape, values) = golden.floats(name);
    let [frames @ .., channels, height, width] = shape else { panic!("{name}: {shape:?}") };
    FeatureMap::from_planes(frames.iter().product(), (*height, *width), *channels, values)
}

/// `[.., height, width]` with everything before as latent frames.
fn grid(golden: &Golden, name: &str) -> CodeGrid {
    let (shape, codes) = golden.ids(name);
    let [frames @ .., rows, columns] = shape else { panic!("{name}: {shape:?}") };
    CodeGrid { frames: frames.iter().product(), rows: *rows, columns: *columns, codes }
}

/// A tokenizer that is a folder of its own.
fn component(golden: &Golden) -> VqTokenizer {
    let folder = golden.folder();
    let component = Component::open(folder.path()).expect("a component");
    VqTokenizer::load(&Node::root("config.json", component.config()), None, component.tensors()).expect("a tokenizer")
}

fn json(checkpoint: &Checkpoint, file: &str) -> serde_json::Value {
    parse_json(file, checkpoint.file(file).expect("a configuration")).expect("JSON")
}

/// A tokenizer that is a part of a checkpoint.
fn inside(golden: &Golden) -> (Checkpoint, VqTokenizer) {
    let (_folder, checkpoint) = golden.checkpoint();
    let config = json(&checkpoint, "image_tokenizer/config.json");
    let tensors = checkpoint.tensors("image_tokenizer").expect("its tensors");
    let family = checkpoint.manifest().family.as_deref();
    let tokenizer = VqTokenizer::load(&Node::root("config.json", &config), family, tensors).expect("a tokenizer");
    (checkpoint, tokenizer)
}

/// Latents before the last 1x1 layer, and codes.
fn encoded(golden: &mut Golden, vq: &VqTokenizer, pixels: &str, latents: &str, codes: &str) {
    let pixels = map(golden, pixels);
    golden.compare(latents, &vq.latents(&pixels).expect("latents").to_planes());
    golden.compare_ids(codes, &vq.encode(&pixels).expect("codes").codes);
}

fn emu3_vq(golden: &mut Golden) {
    let vq = component(golden);
    encoded(golden, &vq, "image.pixels", "image.latents", "image.codes");
    encoded(golden, &vq, "video.pixels", "video.latents", "video.codes");
    let video = map(golden, "video.pixels");
    golden.compare("video.prequant", &vq.before_quantisation(&video).expect("latents").to_planes());
    golden.compare("image.decoded", &vq.decode(&grid(golden, "image.codes")).expect("a picture").to_planes());
    for name in ["video", "random"] {
        let clip = vq.decode_clip(&grid(golden, &format!("{name}.codes"))).expect("a clip");
        golden.compare(&format!("{name}.decoded"), &clip.to_planes());
    }
}

/// The same tokenizer under the names and fields of its makers: the same codes and pixels, bit for bit.
fn emu3_original(golden: &Golden) {
    let ours = component(golden);
    let published = golden.folder();
    let bytes = std::fs::read(published.path().join("model.safetensors")).expect("the tensors");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let names = [
        ("down_block.down", "down"),
        ("up_block.up", "up"),
        ("middle_block", "mid"),
        ("attn_norm.", "attn_1.norm."),
        ("q_proj", "q"),
        ("k_proj", "k"),
        ("v_proj", "v"),
        ("out_proj", "proj_out"),
    ];
    let renamed = tensors.tensors().into_iter().map(|(name, view)| {
        let mut name = names.iter().fold(name, |name, (from, to)| name.replace(from, to));
        // attn_norms.0.weight -> attn.0.norm.weight
        if let Some((level, rest)) = name.clone().split_once("attn_norms.") {
            let (i, rest) = rest.split_once('.').expect("a number");
            name = format!("{level}attn.{i}.norm.{rest}");
        }
        let mut shape = view.shape().to_vec();
        if shape.len() == 2 && !name.contains("embedding") {
            shape.extend([1, 1]);
        }
        (name, TensorView::new(view.dtype(), shape, view.data()).expect("a tensor"))
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = safetensors::serialize(renamed.collect::<Vec<_>>(), None).expect("a file");
    std::fs::write(folder.path().join("model.safetensors"), file).expect("written");
    let config = Component::open(published.path()).expect("a component").config().clone();
    let fields = [
        ("base_channels", "ch"),
        ("channel_multiplier", "ch_mult"),
        ("latent_channels", "z_channels"),
        ("double_latent", "double_z"),
    ];
    let mut theirs = serde_json::Map::from_iter([("model_type".to_string(), "Emu3VisionVQ".into())]);
    for (key, value) in config.as_object().expect("an object") {
        let key = fields.iter().find(|f| f.0 == key).map_or(key.as_str(), |f| f.1);
        if !["model_type", "hidden_size", "num_attention_heads"].contains(&key) {
            theirs.insert(key.into(), value.clone());
        }
    }
    std::fs::write(folder.path().join("config.json"), serde_json::Value::Object(theirs).to_string()).expect("written");
    let component = Component::open(folder.path()).expect("a component");
    let theirs = VqTokenizer::load(&Node::root("config.json", component.config()), None, component.tensors());
    let theirs = theirs.expect("a tokenizer");
    let pixels = map(golden, "video.pixels");
    let codes = ours.encode(&pixels).expect("codes");
    assert_eq!(theirs.encode(&pixels).expect("codes"), codes);
    assert_eq!(theirs.decode(&codes).expect("pixels"), ours.decode(&codes).expect("pixels"));
}

fn taming(golden: &mut Golden) {
    let vq = component(golden);
    let pixels = map(golden, "pixels");
    golden.compare("latents", &vq.before_quantisation(&pixels).expect("latents").to_planes());
    golden.compare_ids("codes", &vq.encode(&pixels).expect("codes").codes);
    let decoded = vq.decode(&grid(golden, "codes")).expect("a picture").to_planes();
    for name in ["decoded", "decoded_from_codes"] {
        if golden.has(name) {
            golden.compare(name, &decoded);
        }
    }
}

fn chameleon(golden: &mut Golden) {
    let (_, vq) = inside(golden);
    encoded(golden, &vq, "pixels", "vq.latents", "vq.codes");
    assert!(!vq.can_decode() && vq.decode(&CodeGrid { frames: 1, rows: 1, columns: 1, codes: vec![0] }).is_err());
}

fn janus(golden: &mut Golden) {
    let (checkpoint, vq) = inside(golden);
    encoded(golden, &vq, "und.pixels", "vq.latents", "vq.codes");
    let square = |golden: &Golden, name: &str| {
        let (_, codes) = golden.ids(name);
        let side = codes.len().isqrt();
        CodeGrid { frames: 1, rows: side, columns: side, codes }
    };
    if golden.has("vq.decoded") {
        golden.compare("vq.decoded", &vq.decode(&square(golden, "vq.codes")).expect("a picture").to_planes());
    }
    if golden.has("gen.pixels_nhwc") {
        golden.compare("gen.pixels_nhwc", &vq.decode(&square(golden, "gen.image_ids")).expect("a picture").data);
    }
    let config = json(&checkpoint, "vision_tower/config.json");
    let tensors = checkpoint.tensors("vision_tower").expect("the tower's tensors");
    let tower = VisionTower::load(&Node::root("config.json", &config), tensors).expect("a tower");
    let rows = tower.apply(&map(golden, "und.pixels")).expect("rows");
    golden.compare("und.image_features", &rows.data);
}

fn emu3(golden: &mut Golden) {
    let (checkpoint, vq) = inside(golden);
    let start = checkpoint.manifest().segment("image").expect("an image segment").start;
    let pixels = map(golden, "und.pixels");
    let codes = vq.encode(&pixels).expect("codes");
    // Every row is followed by an end-of-line id.
    let eol = checkpoint.manifest().control("<eol>").expect("an end of line");
    let ids: Vec<u32> =
        codes.codes.chunks(codes.columns).flat_map(|row| row.iter().map(|c| start + c).chain([eol])).collect();
    golden.compare_ids("und.image_bpe_tokens", &ids);
    if !golden.has("gen.plain.pixels") {
        return;
    }
    let [_, _, height, width] = *golden.floats("gen.plain.pixels").0 else { panic!("four axes") };
    let factor = vq.config().spatial_factor();
    for name in ["gen.plain", "gen.cfg3"] {
        let (_, ids) = golden.ids(&format!("{name}.ids"));
        let end = start + vq.config().codes as u32;
        let codes = ids.into_iter().filter(|id| (start..end).contains(id)).map(|id| id - start).collect();
        let grid = CodeGrid { frames: 1, rows: height / factor, columns: width / factor, codes };
        golden.compare(&format!("{name}.pixels"), &vq.decode(&grid).expect("a picture").to_planes());
    }
}

#[test]
fn golden_vq() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for mut golden in folders() {
        match golden.model_type.as_str() {
            "emu3_vqgan" => {
                let vq = component(&golden);
                emu3_vq(&mut golden);
                // Its makers know one head only.
                if vq.config().heads == 1 {
                    emu3_original(&golden);
                }
            }
            "emu35_ibq" | "taming_vqgan" => taming(&mut golden),
            "chameleon" => chameleon(&mut golden),
            "janus" => janus(&mut golden),
            "emu3" => emu3(&mut golden),
            _ => continue,
        }
        seen += 1;
        wrong.extend(golden.report());
    }
    assert!(seen > 0 || !goldens::own(), "no golden has a picture tokenizer");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The error of a tokenizer whose configuration is changed by `change`.
fn refused(golden: &Golden, change: impl Fn(&mut serde_json::Value)) -> String {
    let folder = golden.folder();
    let component = Component::open(folder.path()).expect("a component");
    let mut config = component.config().clone();
    change(&mut config);
    let loaded = VqTokenizer::load(&Node::root("config.json", &config), None, component.tensors());
    loaded.map(|_| ()).expect_err("a wrong configuration").to_string()
}

#[test]
fn wrong_configurations_are_refused_by_name() {
    let own = |kind: &str| folders().into_iter().find(|g| g.model_type == kind);
    let Some(golden) = own("taming_vqgan") else { return };
    let blocks = component(&golden).config().blocks;
    let folder = golden.folder();
    let published = Component::open(folder.path()).expect("a component").config().clone();
    let resolution = published["ddconfig"]["resolution"].clone();
    let cases: [(&str, serde_json::Value, &[&str]); 6] = [
        ("/ddconfig/ch", 31.into(), &["31 channels", "multiple of 32"]),
        ("/ddconfig/double_z", true.into(), &["ddconfig.double_z is true", "not supported"]),
        ("/ddconfig/num_res_blocks", (blocks + 1).into(), &["tensor", "block", "missing"]),
        ("/ddconfig/attn_resolutions", serde_json::json!([resolution]), &["down.0.attn.0", "missing"]),
        ("/n_embed", 7.into(), &["quantize.embedding.weight", "shape"]),
        ("/model_type", "taming".into(), &["model_type is \"taming\"", "taming_vqgan"]),
    ];
    for (field, value, parts) in cases {
        let error = refused(&golden, |c| *c.pointer_mut(field).expect("a field") = value.clone());
        assert!(parts.iter().all(|p| error.contains(p)) && error.lines().count() == 1, "{field}: {error}");
    }
}

#[test]
fn wrong_pictures_and_codes_are_refused() {
    let Some(golden) = folders().into_iter().find(|g| g.model_type == "taming_vqgan") else { return };
    let vq = component(&golden);
    let factor = vq.config().spatial_factor();
    let odd = FeatureMap::zeros(1, (factor, factor + 1), 3);
    assert!(vq.encode(&odd).expect_err("an odd side").to_string().contains("multiples of"));
    let clip = FeatureMap::zeros(2, (factor, factor), 3);
    assert!(vq.encode(&clip).expect_err("a clip").to_string().contains("frames of a clip"));
    let grey = FeatureMap::zeros(1, (factor, factor), 1);
    assert!(vq.encode(&grey).expect_err("one channel").to_string().contains("channels"));
    let grid = |rows, codes| CodeGrid { frames: 1, rows, columns: 1, codes };
    let most = vq.config().codes as u32;
    for wrong in [grid(1, vec![most]), grid(2, vec![0]), grid(0, Vec::new()), grid(usize::MAX / 2, vec![0])] {
        assert!(vq.decode(&wrong).is_err(), "{wrong:?}");
    }
}
